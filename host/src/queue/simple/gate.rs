//! Lets a suspect run alone.
//!
//! A suspect was in flight when the host died. It is handed out only when nothing else is in flight in the whole
//! store, and nothing else is handed out while it is: if the host dies again, it was this one, and no innocent
//! neighbour is blamed with it. Nobody waits for a suspect for longer than [`PATIENCE`], nor for a receiver
//! that has gone away.

use std::time::Duration;

use tokio::time::Instant;

use super::row::QueueKey;

/// For how long other receives are held back until nothing is in flight.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// A receiver that waits for quiet asks again at least this often.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(1);
/// A receiver that has not asked for so long has gone away.
const GONE: Duration = Duration::from_secs(3);

/// Who may receive now.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Gate {
    /// The suspect that is in flight.
    pub(super) suspect: Option<u64>,
    quiet: Option<Quiet>,
    /// Whether a waiter has waited in vain. What kept it waiting keeps the next one waiting as well, so each of those waits
    /// only a little: many suspects beside one long attempt must not hold everybody back one after another.
    in_vain: bool,
}

#[derive(Debug, Clone, Copy)]
struct Quiet {
    queue: QueueKey,
    since: Instant,
    asked: Instant,
}

impl Gate {
    /// If somebody else waits for quiet: until when at most.
    pub(super) fn closed_for(&mut self, queue: QueueKey, now: Instant) -> Option<Instant> {
        let quiet = self.quiet?;
        let end = (quiet.since + self.patience()).min(quiet.asked + GONE);
        if end <= now {
            // After its patience the waiter needs no quiet any more: it keeps its claim, and blocks nobody.
            if quiet.asked + GONE <= now {
                self.quiet = None;
            }
            return None;
        }
        (quiet.queue != queue).then_some(end)
    }

    /// Notes that a receive of `queue` waits for quiet. Returns when to ask again, or `None` if it has waited
    /// long enough.
    pub(super) fn wait(&mut self, queue: QueueKey, now: Instant) -> Option<Instant> {
        if let Some(quiet) = self
            .quiet
            .filter(|quiet| quiet.queue != queue && quiet.asked + GONE > now)
        {
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

    /// Notes that a suspect was handed out.
    pub(super) fn launch(&mut self, seq: u64) {
        *self = Self {
            suspect: Some(seq),
            quiet: None,
            ..*self
        };
    }
}
