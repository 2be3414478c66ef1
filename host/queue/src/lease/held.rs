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

/// An extension that lengthens a lease by less than one part in so many of what it grants is the last: at its half-life an
/// extension lengthens a lease by half, unless the queue's longest lease cuts it.
const LEAST_GAIN: u32 = 8;
/// A grant that is shorter than the request by more than this is cut; queues count whole seconds.
const CUT: Duration = Duration::from_millis(500);

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
            if now + by > deadline {
                due.entry(by).or_default().push((*key, lease));
            } else if by < visibility_timeout {
                // The longest lease ends with what it has.
                lease.extend_at = Some(deadline);
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
    pub(crate) fn new(receipt: Receipt, lease: &DeliveryLease, asleep: Duration) -> Self {
        let now = Instant::now();
        let (extend_at, lost) = match lease {
            DeliveryLease::Until(deadline) => (Some(half_life(now, *deadline)), CancellationToken::new()),
            // A child, because the keeper may lose the lease before its queue does.
            DeliveryLease::WhileConnected { lost, .. } => (None, lost.child_token()),
        };
        if lease.is_lost() {
            lost.cancel();
        }
        Self {
            receipt,
            received_at: now,
            extend_at,
            deadline: lease.deadline(),
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

    /// The lease was extended to `deadline` by a call that asked for `by` and was `started` when the machine had slept for
    /// `asleep`.
    pub(crate) fn extended(&mut self, started: Instant, by: Duration, deadline: Instant, asleep: Duration) {
        self.extending = false;
        self.asleep = asleep;
        let least_gain = deadline.saturating_duration_since(started) / LEAST_GAIN;
        let is_longer = self.deadline.is_none_or(|before| deadline > before + least_gain);
        let is_cut = deadline + CUT < started + by;
        self.deadline = Some(deadline);
        // A queue that grants less than was asked for, and no more than before, has come to its longest lease: the lease
        // ends with what it has.
        self.extend_at = Some(if is_cut && !is_longer {
            deadline
        } else {
            half_life(started, deadline)
        });
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

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_an_extension_lengthens_no_more_ends_with_what_it_has() {
        let start = Instant::now();
        let hour = Duration::from_hours(1);
        let until = DeliveryLease::Until(start + hour);
        let mut lease = HeldLease::new(Receipt::text("a"), &until, Duration::ZERO);
        lease.extended(start + hour / 2, hour, start + hour * 3 / 2, Duration::ZERO);
        assert_eq!(lease.extend_at, Some(start + hour));
        // The queue grants no more than it has granted before, or a second more or less.
        let longest = start + hour * 3 / 2 + Duration::from_secs(1);
        lease.extended(start + hour, hour, longest, Duration::ZERO);
        assert_eq!([lease.extend_at, lease.deadline], [Some(longest); 2]);
    }

    /// Once the first extension of a short lease was taken for its last, because it had gained little.
    #[tokio::test(start_paused = true)]
    async fn a_lease_that_gets_all_that_was_asked_for_is_extended_again_however_little_it_gains() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let until = DeliveryLease::Until(start + second * 9 / 5);
        let mut lease = HeldLease::new(Receipt::text("a"), &until, Duration::ZERO);
        let started = start + second * 9 / 10;
        lease.extended(started, second, started + second, Duration::ZERO);
        assert_eq!(lease.extend_at, Some(started + second / 2));
    }
}
