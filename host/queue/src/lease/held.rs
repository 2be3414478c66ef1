//! The table of the leases that a keeper holds, and the choice of those that are due for an extension.
//!
//! No I/O and no clock of its own beside `Instant`. Invariant: a lease is in the table until it is lost or dropped.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::REPEAT_AFTER;
use crate::{DeliveryLease, ExtendError, QueueCapabilities, QueueError, Receipt};

/// The time between two looks at the clock of the machine's sleep.
const LOOK_FOR_SLEEP: Duration = Duration::from_secs(1);
/// A difference of the two clocks below this is no sleep.
const NO_SLEEP: Duration = Duration::from_millis(100);

/// A queue may end its longest lease this much earlier than it says: it counts whole seconds, and keeps one for the clocks.
const ROUNDING: Duration = Duration::from_secs(2);

/// The leases of one keeper.
#[derive(Debug, Default)]
pub(crate) struct HeldLeases {
    next_key: u64,
    leases: HashMap<u64, HeldLease>,
    /// The time at which the keeper looks again by itself.
    wakes_at: Option<Instant>,
    /// The sleep of the machine so far when all deadlines were right.
    asleep: Duration,
}

/// One lease in the table.
#[derive(Debug)]
pub(crate) struct HeldLease {
    receipt: Receipt,
    /// The time from which the queue counts its longest lease.
    received_at: Instant,
    /// The time of the next extension. `None` for a lease that is never extended.
    extend_at: Option<Instant>,
    /// The time at which the lease ends by itself. `None` if it only ends with its connection.
    deadline: Option<Instant>,
    /// The sleep of the machine so far when the deadline was right.
    asleep: Duration,
    lost: CancellationToken,
    extending: bool,
    settling: bool,
}

/// Leases that one call extends.
#[derive(Debug)]
pub(crate) struct DueExtension {
    pub(crate) keys: Vec<u64>,
    pub(crate) receipts: Vec<Receipt>,
    /// The lateness of each of them.
    pub(crate) late: Vec<Duration>,
    pub(crate) by: Duration,
    /// The first deadline of them: a call must not outlast it.
    pub(crate) give_up_at: Instant,
}

impl HeldLeases {
    /// Adds a lease. Returns its key, and whether it is due before the keeper would look again.
    pub(crate) fn add(&mut self, lease: HeldLease) -> (u64, bool) {
        let key = self.next_key;
        self.next_key += 1;
        let wake = self
            .wakes_at
            .is_none_or(|wakes_at| lease.due_at().is_some_and(|due_at| due_at < wakes_at));
        self.leases.insert(key, lease);
        (key, wake)
    }

    pub(crate) fn remove(&mut self, key: u64) {
        self.leases.remove(&key);
    }

    /// Returns the number of leases, and the time since the oldest of them was received.
    pub(crate) fn in_flight(&self) -> (usize, Option<Duration>) {
        let oldest = self.leases.values().map(|lease| lease.received_at).min();
        (self.leases.len(), oldest.map(|at| at.elapsed()))
    }

    /// Whether a lease is not in the table, or past its deadline on a machine that has slept this long.
    pub(crate) fn is_expired(&mut self, key: u64, asleep: Duration) -> bool {
        self.leases.get_mut(&key).is_none_or(|lease| {
            lease.wake_up(asleep);
            lease.is_past(Instant::now())
        })
    }

    /// Whether one of these leases is being extended.
    pub(crate) fn is_extending(&self, keys: &[u64]) -> bool {
        let mut leases = keys.iter().filter_map(|key| self.leases.get(key));
        leases.any(|lease| lease.extending)
    }

    pub(crate) fn mark_settling(&mut self, keys: &[u64], settling: bool) {
        for key in keys {
            if let Some(lease) = self.leases.get_mut(key) {
                lease.settling = settling;
            }
        }
    }

    /// Decides when the keeper looks again, unless something changes before. `may_extend` says whether it may start
    /// another extension; if not, it waits for the end of one.
    pub(crate) fn plan(&mut self, capabilities: QueueCapabilities, may_extend: bool) -> Option<Instant> {
        let free = self
            .leases
            .values()
            .filter(|lease| lease.is_free(capabilities.calls_overtake));
        let next = free.filter_map(HeldLease::due_at).min().filter(|_| may_extend);
        // A timer stands still while the machine sleeps.
        let looks = capabilities.has_own_clock && !self.leases.is_empty();
        let look = looks.then(|| Instant::now() + LOOK_FOR_SLEEP);
        self.wakes_at = next.into_iter().chain(look).min();
        self.wakes_at
    }

    /// Takes the time that the machine has slept off what is left of every lease. Returns how long it has slept since the
    /// last time, and how many leases there are, if it has.
    pub(crate) fn wake_up(&mut self, asleep: Duration) -> Option<(Duration, usize)> {
        let slept = asleep.saturating_sub(self.asleep);
        if slept < NO_SLEEP {
            return None;
        }
        self.asleep = asleep;
        let mut has_slept = false;
        for lease in self.leases.values_mut() {
            has_slept |= lease.wake_up(asleep);
        }
        has_slept.then_some((slept, self.leases.len()))
    }

    /// Loses the leases whose deadline has passed. The answer to an extension decides about those that are being extended.
    pub(crate) fn lose_expired(&mut self, now: Instant, calls_overtake: bool) {
        self.leases.retain(|_, lease| {
            let expired = lease.is_past(now) && lease.is_free(calls_overtake);
            if expired {
                lease.lost.cancel();
            }
            !expired
        });
    }

    /// Chooses leases past their half-life that one call extends, and marks them.
    pub(crate) fn next_extension(
        &mut self,
        now: Instant,
        visibility_timeout: Duration,
        capabilities: QueueCapabilities,
    ) -> Option<DueExtension> {
        let mut due: BTreeMap<Duration, Vec<(u64, &mut HeldLease)>> = BTreeMap::new();
        for (key, lease) in &mut self.leases {
            let (Some(extend_at), Some(deadline)) = (lease.extend_at, lease.deadline) else {
                continue;
            };
            if extend_at > now || !lease.is_free(capabilities.calls_overtake) {
                continue;
            }
            let longest = (lease.received_at + capabilities.longest_lease).saturating_duration_since(now);
            let by = visibility_timeout.min(longest);
            let is_cut = by < visibility_timeout;
            if is_cut && now + by <= deadline + ROUNDING {
                // The longest lease ends with what it has.
                lease.extend_at = Some(deadline);
            } else if now + by > deadline {
                due.entry(by).or_default().push((*key, lease));
            } else {
                // It has more than it would get, since the timeout was made shorter.
                lease.extend_at = Some(deadline - by / 2);
            }
        }
        let (by, mut batch) = due.pop_last()?;
        // The leases that would be lost first.
        batch.sort_unstable_by_key(|(_, lease)| lease.deadline);
        batch.truncate(capabilities.receive_limit);
        let mut extension = DueExtension {
            keys: Vec::with_capacity(batch.len()),
            receipts: Vec::with_capacity(batch.len()),
            late: Vec::with_capacity(batch.len()),
            by,
            give_up_at: batch.first().and_then(|(_, lease)| lease.deadline).unwrap_or(now),
        };
        for (key, lease) in batch {
            lease.extending = true;
            extension.keys.push(key);
            extension.receipts.push(lease.receipt.clone());
            let extend_at = lease.extend_at.unwrap_or(now);
            extension.late.push(now.saturating_duration_since(extend_at));
        }
        Some(extension)
    }

    pub(crate) fn get_mut(&mut self, key: u64) -> Option<&mut HeldLease> {
        self.leases.get_mut(&key)
    }

    /// Ends a lease that is lost.
    pub(crate) fn lose(&mut self, key: u64) {
        if let Some(lease) = self.leases.remove(&key) {
            lease.lost.cancel();
        }
    }
}

impl HeldLease {
    /// The lease on a delivery that was received a moment ago, on a machine that has slept for `asleep`.
    pub(crate) fn new(receipt: Receipt, lease: &DeliveryLease, visibility_timeout: Duration, asleep: Duration) -> Self {
        let now = Instant::now();
        // A message that ends a long poll was hidden at some time between the request and now: the deadline tells.
        let deadline = lease.deadline();
        let hidden_at = deadline.and_then(|deadline| deadline.checked_sub(visibility_timeout));
        let (extend_at, lost) = match lease {
            DeliveryLease::Until(deadline) => (Some(half_life(now, *deadline)), CancellationToken::new()),
            // A child, because the keeper may lose the lease before its queue does.
            DeliveryLease::WhileConnected { lost, .. } => (None, lost.child_token()),
        };
        if deadline.is_some_and(|deadline| deadline <= now) {
            lost.cancel();
        }
        Self {
            receipt,
            received_at: hidden_at.map_or(now, |hidden_at| hidden_at.min(now)),
            extend_at,
            deadline,
            asleep,
            lost,
            extending: false,
            settling: false,
        }
    }

    /// A token that is cancelled when the lease is lost.
    pub(crate) fn lost(&self) -> &CancellationToken {
        &self.lost
    }

    /// Returns the time at which the keeper has something to do: the next extension, or the end of a lease without one.
    fn due_at(&self) -> Option<Instant> {
        self.extend_at.or(self.deadline)
    }

    fn is_past(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// The lease was extended to `deadline` by a call that was `started` when the machine had slept for `asleep`.
    pub(crate) fn extended(&mut self, started: Instant, deadline: Instant, asleep: Duration) {
        self.extending = false;
        self.asleep = asleep;
        self.deadline = Some(deadline);
        self.extend_at = Some(half_life(started, deadline));
    }

    /// The lease was not extended; `None` if the queue did not answer in time. Returns whether it is lost.
    pub(crate) fn not_extended(&mut self, now: Instant, error: Option<&ExtendError>) -> bool {
        self.extending = false;
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(now));
        self.extend_at = left.map(|left| now + REPEAT_AFTER.min(left));
        match error {
            Some(ExtendError::Expired) => true,
            Some(ExtendError::Queue(
                QueueError::Failed { .. } | QueueError::Unavailable { .. } | QueueError::Unsupported { .. },
            ))
            | None => self.is_past(now),
        }
    }

    /// Takes the time that the machine has slept off what is left. Returns whether it has slept.
    pub(crate) fn wake_up(&mut self, asleep: Duration) -> bool {
        let slept = asleep.saturating_sub(self.asleep);
        if slept < NO_SLEEP {
            return false;
        }
        self.asleep = asleep;
        // Counted from now, because an instant may not reach back as far as the machine has slept.
        let now = Instant::now();
        let earlier = |at: Instant| now + at.saturating_duration_since(now).saturating_sub(slept);
        self.deadline = self.deadline.map(earlier);
        self.extend_at = self.extend_at.map(earlier);
        true
    }

    /// Whether an extension may be started, and the deadline counts.
    fn is_free(&self, calls_overtake: bool) -> bool {
        let is_settling = calls_overtake && self.settling;
        !self.extending && !is_settling
    }
}

fn half_life(now: Instant, deadline: Instant) -> Instant {
    now + deadline.saturating_duration_since(now) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// One lease of a message that was hidden for `visibility_timeout` when the test began.
    fn one_lease(visibility_timeout: Duration) -> (HeldLeases, u64) {
        let until = DeliveryLease::Until(Instant::now() + visibility_timeout);
        let lease = HeldLease::new(Receipt::text("a"), &until, visibility_timeout, Duration::ZERO);
        let mut leases = HeldLeases::default();
        let (key, _) = leases.add(lease);
        (leases, key)
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_an_extension_lengthens_no_more_ends_with_what_it_has() {
        let hour = Duration::from_hours(1);
        let capabilities = QueueCapabilities {
            longest_lease: hour * 3 / 2,
            ..QueueCapabilities::LOCAL
        };
        let start = Instant::now();
        let (mut leases, key) = one_lease(hour);
        let half = start + hour / 2;
        assert_eq!(leases.next_extension(half, hour, capabilities).unwrap().by, hour);
        // The queue keeps a second of its longest lease.
        let granted = start + hour * 3 / 2 - SECOND;
        leases.get_mut(key).unwrap().extended(half, granted, Duration::ZERO);
        assert!(leases.next_extension(start + hour, hour, capabilities).is_none());
        let lease = leases.get_mut(key).unwrap();
        assert_eq!([lease.extend_at, lease.deadline], [Some(granted); 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_gets_all_that_was_asked_for_is_extended_again_however_little_it_gains() {
        let start = Instant::now();
        let (mut leases, key) = one_lease(SECOND);
        // The first deadline was later than the timeout says, so that the extension gains a tenth of a second.
        leases.get_mut(key).unwrap().deadline = Some(start + SECOND * 9 / 5);
        let started = start + SECOND * 9 / 10;
        let lease = leases.get_mut(key).unwrap();
        lease.extended(started, started + SECOND, Duration::ZERO);
        assert_eq!(lease.extend_at, Some(started + SECOND / 2));
        let again = leases.next_extension(started + SECOND / 2, SECOND, QueueCapabilities::LOCAL);
        assert_eq!(again.unwrap().by, SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_lease_counts_from_the_hiding_and_not_from_the_end_of_the_long_poll() {
        tokio::time::advance(Duration::from_mins(1)).await;
        let poll = 20 * SECOND;
        let until = DeliveryLease::Until(Instant::now() - poll + 30 * SECOND);
        let lease = HeldLease::new(Receipt::text("a"), &until, 30 * SECOND, Duration::ZERO);
        assert_eq!(lease.received_at, Instant::now() - poll);
    }
}
