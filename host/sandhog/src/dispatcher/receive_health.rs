//! Records whether the receives of a handler succeed, and decides when the next one may begin.
//!
//! Pure: the time and the random number are passed in.

use std::{num::NonZeroU32, time::Duration};

use tokio::time::Instant;

use crate::backoff::Backoff;

/// The waits after receives that failed in a row. The longest also bounds how late the host sees that the queue is well again.
const RECEIVE_AGAIN_AFTER: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(15));
/// The wait after a fault of the host, whose messages are visible again at once: without a wait the host would spin on its own
/// fault.
const AFTER_FAULT: Duration = Duration::from_secs(1);

/// The receives of one handler.
#[derive(Debug, Default)]
pub(crate) struct ReceiveHealth {
    failures: Option<ReceiveFailures>,
    not_before: Option<Instant>,
}

/// Receives that failed in a row.
#[derive(Debug)]
struct ReceiveFailures {
    in_a_row: NonZeroU32,
    reason: String,
}

/// A receive that failed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ReceiveFailure {
    /// The number of receives that have failed since the last success.
    pub(crate) in_a_row: NonZeroU32,
    /// The receive before it did not fail, or failed for another reason.
    pub(crate) is_new: bool,
}

impl ReceiveHealth {
    /// Whether the last receive failed.
    pub(crate) fn is_failing(&self) -> bool {
        self.failures.is_some()
    }

    /// The time before which no receive may begin. It may have passed.
    pub(crate) fn not_before(&self) -> Option<Instant> {
        self.not_before
    }

    /// Records a success. Returns the number of failures that it ends, if there were some.
    pub(crate) fn succeeded(&mut self) -> Option<NonZeroU32> {
        self.failures.take().map(|failures| failures.in_a_row)
    }

    /// Records a failure. `random` is uniform in 0 ..= 1.
    pub(crate) fn failed(&mut self, reason: &str, random: f64, now: Instant) -> ReceiveFailure {
        let known = self.failures.take();
        let in_a_row = known
            .as_ref()
            .map_or(NonZeroU32::MIN, |failures| failures.in_a_row.saturating_add(1));
        let is_new = known.is_none_or(|failures| failures.reason != reason);
        self.not_before = Some(now + RECEIVE_AGAIN_AFTER.delay(in_a_row, random));
        self.failures = Some(ReceiveFailures {
            in_a_row,
            reason: reason.to_owned(),
        });
        ReceiveFailure { in_a_row, is_new }
    }

    /// Holds back receives for a moment after a fault of the host.
    pub(crate) fn host_fault(&mut self, now: Instant) {
        self.not_before = Some(now + AFTER_FAULT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(health: &mut ReceiveHealth, reason: &str, in_a_row: u32, is_new: bool) {
        let in_a_row = NonZeroU32::new(in_a_row).unwrap();
        let failure = health.failed(reason, 0.0, Instant::now());
        assert_eq!(failure, ReceiveFailure { in_a_row, is_new });
    }

    #[test]
    fn a_failure_is_new_once_until_it_changes_or_is_over() {
        let mut health = ReceiveHealth::default();
        check(&mut health, "no network", 1, true);
        check(&mut health, "no network", 2, false);
        check(&mut health, "no credentials", 3, true);
        assert!(health.is_failing());
        assert_eq!(health.succeeded(), NonZeroU32::new(3));
        assert!(!health.is_failing());
        assert_eq!(health.succeeded(), None);
        check(&mut health, "no credentials", 1, true);
    }

    #[test]
    fn the_wait_grows_with_the_failures_in_a_row_up_to_its_longest() {
        let mut health = ReceiveHealth::default();
        let now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..7 {
            health.failed("no network", 1.0, now);
            waits.push((health.not_before().unwrap() - now).as_millis());
        }
        assert_eq!(waits, [1000, 2000, 4000, 8000, 15_000, 15_000, 15_000]);
    }

    #[test]
    fn a_fault_of_the_host_holds_receives_back_and_is_no_failed_receive() {
        let mut health = ReceiveHealth::default();
        let now = Instant::now();
        health.host_fault(now);
        assert_eq!(health.not_before(), Some(now + AFTER_FAULT));
        assert!(!health.is_failing());
    }
}
