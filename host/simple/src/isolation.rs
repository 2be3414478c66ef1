//! Poison isolation: lets a suspect run alone for a while.
//!
//! A suspect is a message that was in flight when the host died: it may be poison. The store hands it out only when nothing else is in flight
//! in the whole store but messages that have shown to do no harm, and hands out nothing else for as long as the suspect's
//! [`PoisonIsolation::bound`]. If the host dies again, the suspect was the cause, and no innocent neighbour is blamed with it.
//!
//! Invariants: no receive waits for a suspect for longer than [`MAX_WAIT_FOR_QUIET`] and the suspect's bound, however long the suspect is held and however
//! often it is extended, nor for a receiver that has gone away. If the first of two suspects kept a receive from a message, the store is
//! open for as long before it hands out the second.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::row::{PoisonSuspicion, QueueKey};

/// How long other receives are held back until nothing is in flight.
const MAX_WAIT_FOR_QUIET: Duration = Duration::from_secs(30);
/// A receiver that waits for quiet asks again at least this often.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// A receiver that has not asked for this long has gone away.
const GONE_AFTER: Duration = Duration::from_secs(3);
/// The shortest and the longest time for which a suspect holds the others back the first time.
const MIN_BOUND: Duration = Duration::from_secs(5);
const MAX_FIRST_BOUND: Duration = Duration::from_secs(30);
/// The longest such time, however often the host died with the suspect in flight.
const MAX_BOUND: Duration = Duration::from_hours(1);
/// A shorter hold is over before an operator could look into it.
const MIN_REPORTED_HOLD: Duration = Duration::from_secs(3);

/// Which receives may be served now.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PoisonIsolation {
    /// The suspect that is alone in flight.
    isolated: Option<IsolatedMessage>,
    /// The receiver that waits until nothing is in flight, so that it can have a suspect.
    quiet: Option<QuietClaim>,
    /// A receiver has waited for quiet in vain. The long attempt that kept it waiting keeps the next one waiting as well, so each later
    /// wait is short: many suspects beside one long attempt must not hold the others back one after another.
    waited_in_vain: bool,
    /// A suspect has lasted longer than its bound. The next suspects are likely to last as long.
    outlasted: bool,
    /// A receive was held back that would have got a message.
    missed: bool,
    /// The store hands out no suspect before this moment.
    open_until: Option<Instant>,
}

/// A suspect in flight that holds the others back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IsolatedMessage {
    pub(crate) seq: u64,
    /// The end of its bound.
    pub(crate) until: Instant,
    /// The moment since when receives have been held back, the wait for quiet included.
    since: Instant,
}

#[derive(Debug, Clone, Copy)]
struct QuietClaim {
    queue: QueueKey,
    since: Instant,
    asked_at: Instant,
}

impl QuietClaim {
    /// Returns whether the receiver is still there.
    fn is_alive(&self, now: Instant) -> bool {
        self.asked_at + GONE_AFTER > now
    }
}

impl PoisonIsolation {
    /// Returns until when a receive of `queue` is held back, at most, because another receiver waits for quiet.
    pub(crate) fn closed_for(&mut self, queue: QueueKey, now: Instant) -> Option<Instant> {
        let quiet = self.quiet?;
        let end = (quiet.since + self.max_wait()).min(quiet.asked_at + GONE_AFTER);
        if end <= now {
            // A receiver that has waited long enough needs no quiet any more: it keeps its claim, and blocks no other.
            if !quiet.is_alive(now) {
                self.quiet = None;
            }
            return None;
        }
        (quiet.queue != queue).then_some(end)
    }

    /// Notes that a receive of `queue` waits for quiet. Returns when to ask again, or `None` if the receive has waited
    /// long enough.
    pub(crate) fn wait_for_quiet(&mut self, queue: QueueKey, now: Instant) -> Option<Instant> {
        if let Some(quiet) = self.quiet.filter(|quiet| quiet.queue != queue && quiet.is_alive(now)) {
            // One receiver waits at a time. A claim that is alive is not taken over, or two would take turns for ever.
            return Some((quiet.asked_at + GONE_AFTER).min(now + ASK_AGAIN));
        }
        let since = self
            .quiet
            .filter(|quiet| quiet.queue == queue)
            .map_or(now, |quiet| quiet.since);
        self.quiet = Some(QuietClaim {
            queue,
            since,
            asked_at: now,
        });
        let end = since + self.max_wait();
        self.waited_in_vain |= end <= now;
        (end > now).then(|| end.min(now + ASK_AGAIN))
    }

    fn max_wait(&self) -> Duration {
        if self.waited_in_vain {
            ASK_AGAIN
        } else {
            MAX_WAIT_FOR_QUIET
        }
    }

    /// Returns the queue whose receiver waits for quiet.
    pub(crate) fn waiting(&self) -> Option<QueueKey> {
        self.quiet.map(|quiet| quiet.queue)
    }

    /// Notes that a receive was held back that would have got a message.
    pub(crate) fn miss(&mut self) {
        self.missed = true;
    }

    /// Returns whether such a receive is noted already.
    pub(crate) fn is_missed(&self) -> bool {
        self.missed
    }

    /// Returns the suspect that holds the others back.
    pub(crate) fn isolated(&self) -> Option<IsolatedMessage> {
        self.isolated
    }

    /// Returns how long a suspect of a queue with this visibility timeout may hold the others back. A message that takes the host down
    /// later than that is in flight beside others again, so its bound is twice as long the next time.
    pub(crate) fn bound(&self, visibility: Duration, suspicion: PoisonSuspicion) -> Duration {
        let first = if self.outlasted {
            MIN_BOUND
        } else {
            visibility.clamp(MIN_BOUND, MAX_FIRST_BOUND)
        };
        let doublings = suspicion.beside_others.saturating_sub(1).min(16);
        first.saturating_mul(1 << doublings).min(MAX_BOUND)
    }

    /// Notes that a suspect of `queue` was handed out, to be alone for `bound`.
    pub(crate) fn begin(&mut self, queue: QueueKey, seq: u64, bound: Duration, now: Instant) {
        let waited = self.quiet.filter(|quiet| quiet.queue == queue);
        self.isolated = Some(IsolatedMessage {
            seq,
            until: now + bound,
            since: waited.map_or(now, |quiet| quiet.since),
        });
        self.quiet = None;
    }

    /// Notes that the message `seq` is not in flight any more. Returns whether it was the isolated one.
    pub(crate) fn end(&mut self, seq: u64, now: Instant) -> bool {
        let isolated = self.isolated.take_if(|isolated| isolated.seq == seq);
        if let Some(isolated) = isolated {
            // The store may notice late that the bound is over.
            let ended = now.min(isolated.until);
            let owed = ended.saturating_duration_since(isolated.since);
            self.open_until = std::mem::take(&mut self.missed).then(|| ended + owed);
        }
        isolated.is_some()
    }

    /// Notes that the suspect has been alone for its whole bound.
    pub(crate) fn outlast(&mut self, seq: u64, now: Instant) {
        self.outlasted |= self.end(seq, now);
    }

    /// Returns until when the store hands out no suspect, if that is later than `now`.
    pub(crate) fn open_until(&self, now: Instant) -> Option<Instant> {
        self.open_until.filter(|until| *until > now)
    }

    /// Returns the receives' hold: when it began, and when it ends at the latest.
    fn hold(&self) -> Option<ReceiveHold> {
        let isolated = self.isolated.map(|isolated| ReceiveHold {
            since: isolated.since,
            until: isolated.until,
        });
        let quiet = self.quiet.map(|quiet| ReceiveHold {
            since: quiet.since,
            until: quiet.asked_at + GONE_AFTER,
        });
        isolated.or(quiet)
    }
}

/// A time in which receives are held back.
#[derive(Debug, Clone, Copy)]
struct ReceiveHold {
    since: Instant,
    until: Instant,
}

/// The hold, for readers outside of the store. Cheap to clone; the clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct SharedIsolation(Arc<Mutex<Option<ReceiveHold>>>);

impl SharedIsolation {
    pub(crate) fn publish(&self, isolation: &PoisonIsolation) {
        *self.0.lock() = isolation.hold();
    }

    /// Returns how long receives have been held back so that a suspect is alone, if that is worth reporting.
    pub(crate) fn held_back(&self, now: Instant) -> Option<Duration> {
        let current = (*self.0.lock())?;
        let held = now.saturating_duration_since(current.since);
        (now < current.until && held >= MIN_REPORTED_HOLD).then_some(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const QUEUE: QueueKey = QueueKey(1);

    fn beside_others(beside_others: u32) -> PoisonSuspicion {
        PoisonSuspicion {
            beside_others,
            alone: false,
        }
    }

    #[test]
    fn a_suspect_holds_the_others_back_for_a_bound_that_doubles_with_each_crash() {
        let mut isolation = PoisonIsolation::default();
        let bound = |isolation: &PoisonIsolation, crashes| {
            isolation.bound(12 * 60 * 60 * SECOND, beside_others(crashes)).as_secs()
        };
        assert_eq!(
            [0, 1, 2, 3, 4].map(|crashes| bound(&isolation, crashes)),
            [30, 30, 60, 120, 240]
        );
        assert_eq!(bound(&isolation, u32::MAX), 3600);
        assert_eq!(isolation.bound(SECOND, beside_others(1)), MIN_BOUND);
        let now = Instant::now();
        isolation.begin(QUEUE, 1, MAX_FIRST_BOUND, now);
        isolation.outlast(1, now + MAX_FIRST_BOUND);
        assert_eq!(
            [1, 2].map(|crashes| bound(&isolation, crashes)),
            [5, 10],
            "the next are short"
        );
    }

    #[test]
    fn between_two_suspects_the_store_is_open_for_as_long_as_it_was_held_back() {
        let mut isolation = PoisonIsolation::default();
        let now = Instant::now();
        assert!(isolation.wait_for_quiet(QUEUE, now).is_some());
        isolation.begin(QUEUE, 1, MAX_FIRST_BOUND, now + 2 * SECOND);
        isolation.miss();
        assert!(!isolation.end(2, now), "another message");
        assert!(isolation.end(1, now + 6 * SECOND));
        assert_eq!(isolation.open_until(now + 6 * SECOND), Some(now + 12 * SECOND));
        assert_eq!(isolation.open_until(now + 12 * SECOND), None);
        isolation.begin(QUEUE, 3, MAX_FIRST_BOUND, now);
        isolation.end(3, now + SECOND);
        assert_eq!(isolation.open_until(now + SECOND), None, "no receive missed a message");
    }

    #[test]
    fn what_holds_back_is_told_after_a_moment_and_not_for_ever() {
        let mut isolation = PoisonIsolation::default();
        let shared = SharedIsolation::default();
        let now = Instant::now();
        isolation.begin(QUEUE, 1, MAX_FIRST_BOUND, now);
        shared.publish(&isolation);
        assert_eq!(shared.held_back(now + SECOND), None);
        assert_eq!(shared.held_back(now + 4 * SECOND), Some(4 * SECOND));
        assert_eq!(
            shared.held_back(now + MAX_FIRST_BOUND),
            None,
            "though nobody has published anything since"
        );
    }
}
