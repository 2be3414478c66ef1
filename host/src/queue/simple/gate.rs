//! Lets a suspect run alone, for a while.
//!
//! A suspect was in flight when the host died. It is handed out only when nothing else is in flight in the whole
//! store but what has shown that it does no harm, and nothing else is handed out for as long as its [`Gate::bound`]: if the host
//! dies again, it was this one, and no innocent neighbour is blamed with it. Invariants: nobody waits for a suspect for longer than
//! [`PATIENCE`] and its bound, whoever holds it and however often it is extended, nor for a receiver that has gone away; and
//! if the first of two suspects kept somebody from a message, the store is open for as long before the second is handed out.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::row::{QueueKey, Suspicion};

/// For how long other receives are held back until nothing is in flight.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// A receiver that waits for quiet asks again at least this often.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(1);
/// A receiver that has not asked for so long has gone away.
const GONE: Duration = Duration::from_secs(3);
/// For how long a suspect holds the others back, at least and at most, the first time.
const SHORTEST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(30);
/// The same, however often the host died with it in flight.
const LONGEST_EVER: Duration = Duration::from_hours(1);
/// What holds receives back for less than this is over before anybody could look into it.
const WORTH_TELLING: Duration = Duration::from_secs(3);

/// Who may receive now.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Gate {
    /// The suspect that is alone in flight.
    alone: Option<Alone>,
    quiet: Option<Quiet>,
    /// Whether a waiter has waited in vain. What kept it waiting keeps the next one waiting as well, so each of those waits
    /// only a little: many suspects beside one long attempt must not hold everybody back one after another.
    in_vain: bool,
    /// Whether a suspect has lasted longer than it may hold the others back. The next are likely to, as well.
    outlasted: bool,
    /// Whether somebody was held back who would have got a message.
    missed: bool,
    /// Until then no suspect is handed out.
    open_until: Option<Instant>,
}

/// A suspect in flight, since when it holds the others back, and until when at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Alone {
    pub(super) seq: u64,
    pub(super) until: Instant,
    since: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Quiet {
    queue: QueueKey,
    since: Instant,
    asked: Instant,
}

impl Quiet {
    fn is_claimed(&self, now: Instant) -> bool {
        self.asked + GONE > now
    }
}

impl Gate {
    /// If somebody else waits for quiet: until when at most.
    pub(super) fn closed_for(&mut self, queue: QueueKey, now: Instant) -> Option<Instant> {
        let quiet = self.quiet?;
        let end = (quiet.since + self.patience()).min(quiet.asked + GONE);
        if end <= now {
            // After its patience the waiter needs no quiet any more: it keeps its claim, and blocks nobody.
            if !quiet.is_claimed(now) {
                self.quiet = None;
            }
            return None;
        }
        (quiet.queue != queue).then_some(end)
    }

    /// Notes that a receive of `queue` waits for quiet. Returns when to ask again, or `None` if it has waited
    /// long enough.
    pub(super) fn wait(&mut self, queue: QueueKey, now: Instant) -> Option<Instant> {
        if let Some(quiet) = self.quiet.filter(|quiet| quiet.queue != queue && quiet.is_claimed(now)) {
            // One waits at a time; a claim that is alive is not taken over, or two would take turns for ever.
            return Some((quiet.asked + GONE).min(now + ASK_AGAIN));
        }
        let since = self
            .quiet
            .filter(|quiet| quiet.queue == queue)
            .map_or(now, |quiet| quiet.since);
        self.quiet = Some(Quiet {
            queue,
            since,
            asked: now,
        });
        let end = since + self.patience();
        self.in_vain |= end <= now;
        (end > now).then(|| end.min(now + ASK_AGAIN))
    }

    fn patience(&self) -> Duration {
        if self.in_vain { ASK_AGAIN } else { PATIENCE }
    }

    /// The queue that waits for quiet.
    pub(super) fn waiting(&self) -> Option<QueueKey> {
        self.quiet.map(|quiet| quiet.queue)
    }

    /// Notes that a receive was held back that would have got a message.
    pub(super) fn miss(&mut self) {
        self.missed = true;
    }

    /// Whether that is noted already.
    pub(super) fn is_missed(&self) -> bool {
        self.missed
    }

    /// The suspect that holds the others back.
    pub(super) fn alone(&self) -> Option<Alone> {
        self.alone
    }

    /// For how long a suspect of a queue with this visibility timeout may hold the others back. Whatever takes the host down later
    /// than that is in flight with others again, so it gets twice as long the next time.
    pub(super) fn bound(&self, visibility: Duration, suspicion: Suspicion) -> Duration {
        let first = if self.outlasted {
            SHORTEST
        } else {
            visibility.clamp(SHORTEST, LONGEST)
        };
        let doublings = suspicion.beside_others.saturating_sub(1).min(16);
        first.saturating_mul(1 << doublings).min(LONGEST_EVER)
    }

    /// Notes that a suspect of `queue` was handed out, to be alone for `bound`.
    pub(super) fn begin(&mut self, queue: QueueKey, seq: u64, bound: Duration, now: Instant) {
        let waited = self.quiet.filter(|quiet| quiet.queue == queue);
        self.alone = Some(Alone {
            seq,
            until: now + bound,
            since: waited.map_or(now, |quiet| quiet.since),
        });
        self.quiet = None;
    }

    /// Notes that `seq` is in flight no more; whether it was alone.
    pub(super) fn end(&mut self, seq: u64, now: Instant) -> bool {
        let alone = self.alone.take_if(|alone| alone.seq == seq);
        if let Some(alone) = alone {
            // It may be noticed late that nobody was held back any more.
            let ended = now.min(alone.until);
            let owed = ended.saturating_duration_since(alone.since);
            self.open_until = std::mem::take(&mut self.missed).then(|| ended + owed);
        }
        alone.is_some()
    }

    /// Notes that the suspect has been alone for as long as it may be.
    pub(super) fn outlast(&mut self, seq: u64, now: Instant) {
        self.outlasted |= self.end(seq, now);
    }

    /// Until when no suspect is handed out, if it is not yet time.
    pub(super) fn open_until(&self, now: Instant) -> Option<Instant> {
        self.open_until.filter(|until| *until > now)
    }

    /// Since when receives are held back, and until when they are though nobody asks.
    fn holding(&self) -> Option<(Instant, Instant)> {
        let alone = self.alone.map(|alone| (alone.since, alone.until));
        alone.or_else(|| self.quiet.map(|quiet| (quiet.since, quiet.asked + GONE)))
    }
}

/// What others may know of the gate. Cheap to clone; the clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct SharedGate(Arc<Mutex<Option<(Instant, Instant)>>>);

impl SharedGate {
    pub(super) fn publish(&self, gate: &Gate) {
        *self.0.lock() = gate.holding();
    }

    /// For how long receives have been held back so that a suspect is alone, if that is worth telling.
    pub(super) fn held_back(&self, now: Instant) -> Option<Duration> {
        let (since, until) = (*self.0.lock())?;
        let held = now.saturating_duration_since(since);
        (now < until && held >= WORTH_TELLING).then_some(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const QUEUE: QueueKey = QueueKey(1);

    fn beside_others(beside_others: u32) -> Suspicion {
        Suspicion {
            beside_others,
            alone: false,
        }
    }

    #[test]
    fn a_suspect_holds_the_others_back_for_a_bound_that_doubles_with_each_crash() {
        let mut gate = Gate::default();
        let bound = |gate: &Gate, crashes| gate.bound(12 * 60 * 60 * SECOND, beside_others(crashes)).as_secs();
        assert_eq!(
            [0, 1, 2, 3, 4].map(|crashes| bound(&gate, crashes)),
            [30, 30, 60, 120, 240]
        );
        assert_eq!(bound(&gate, u32::MAX), 3600);
        assert_eq!(gate.bound(SECOND, beside_others(1)), SHORTEST);
        let now = Instant::now();
        gate.begin(QUEUE, 1, LONGEST, now);
        gate.outlast(1, now + LONGEST);
        assert_eq!(
            [1, 2].map(|crashes| bound(&gate, crashes)),
            [5, 10],
            "the next are short"
        );
    }

    #[test]
    fn between_two_suspects_the_store_is_open_for_as_long_as_it_was_held_back() {
        let mut gate = Gate::default();
        let now = Instant::now();
        assert!(gate.wait(QUEUE, now).is_some());
        gate.begin(QUEUE, 1, LONGEST, now + 2 * SECOND);
        gate.miss();
        assert!(!gate.end(2, now), "another message");
        assert!(gate.end(1, now + 6 * SECOND));
        assert_eq!(gate.open_until(now + 6 * SECOND), Some(now + 12 * SECOND));
        assert_eq!(gate.open_until(now + 12 * SECOND), None);
        gate.begin(QUEUE, 3, LONGEST, now);
        gate.end(3, now + SECOND);
        assert_eq!(gate.open_until(now + SECOND), None, "nobody missed anything");
    }

    #[test]
    fn what_holds_back_is_told_after_a_moment_and_not_for_ever() {
        let (mut gate, shared, now) = (Gate::default(), SharedGate::default(), Instant::now());
        gate.begin(QUEUE, 1, LONGEST, now);
        shared.publish(&gate);
        assert_eq!(shared.held_back(now + SECOND), None);
        assert_eq!(shared.held_back(now + 4 * SECOND), Some(4 * SECOND));
        assert_eq!(
            shared.held_back(now + LONGEST),
            None,
            "though nobody has published anything since"
        );
    }
}
