//! What time does to a queue: visibility timeouts, delays and times to live that ran out.
//!
//! Every pass is bounded; what is left is done by the next one. In-memory bounds say when there is nothing to do, so
//! that tending a queue costs nothing most of the time.

use super::{
    super::{
        clock::{Now, millis},
        row::{Fault, Meta, QueueKey, State},
    },
    Core,
};
use crate::message::MAX_PRIORITY;

/// How many messages of each kind one pass changes.
const STEP: usize = 256;

impl Core {
    /// Does what is due in a queue. Returns whether some is left over for the next call.
    pub(super) fn tend(&mut self, key: QueueKey, now: Now) -> Result<bool, Fault> {
        let expired = self.end_visibility(key, now)?;
        let due = self.show_due(key, now)?;
        let aged = self.discard_aged(key, now)?;
        Ok(expired || due || aged)
    }

    fn end_visibility(&mut self, key: QueueKey, now: Now) -> Result<bool, Fault> {
        for _ in 0..STEP {
            let Some((deadline, seq)) = self.in_flight.first_deadline(key) else {
                return Ok(false);
            };
            if deadline > now.instant {
                return Ok(false);
            }
            let Some(delivery) = self.in_flight.get(seq).cloned() else {
                return Ok(false);
            };
            tracing::debug!(queue = %self.queue(key).name, seq, "a visibility timeout ran out");
            self.run_out(delivery)?;
        }
        Ok(true)
    }

    /// What nobody holds any more is not in flight, even in queues that nobody tends.
    pub(super) fn end_visibility_everywhere(&mut self, now: Now) -> Result<(), Fault> {
        for key in self.in_flight.queues() {
            self.end_visibility(key, now)?;
        }
        Ok(())
    }

    fn show_due(&mut self, key: QueueKey, now: Now) -> Result<bool, Fault> {
        if self.queue(key).due_ms > now.ms {
            return Ok(false);
        }
        let due = self.rows.due(key, now.ms, STEP)?;
        for mut meta in due {
            if meta.state == State::Retry {
                meta.visible_at_ms = 0;
                self.change(meta, State::Ready)?;
            } else {
                self.enter(meta)?;
            }
        }
        let next = self.rows.next_due(key)?.unwrap_or(u64::MAX);
        self.queue_mut(key).due_ms = next;
        Ok(next <= now.ms)
    }

    /// Whether a message has waited for longer than its queue lets it.
    pub(super) fn is_aged(&self, meta: &Meta, now: Now) -> bool {
        self.queue(meta.queue)
            .settings
            .time_to_live
            .is_some_and(|limit| meta.queued_at_ms.saturating_add(millis(limit)) <= now.ms)
    }

    /// Removes a message that is past its time to live.
    pub(super) fn expire(&mut self, meta: &Meta) -> Result<(), Fault> {
        self.queue_mut(meta.queue).expired += 1;
        self.remove(meta)
    }

    fn tell_discarded(&self, key: QueueKey, messages: usize) {
        if messages > 0 {
            tracing::info!(queue = %self.queue(key).name, messages, "messages past their time to live were removed");
        }
    }

    /// Discards messages past their time to live, whatever they wait for. Those in flight are left alone.
    fn discard_aged(&mut self, key: QueueKey, now: Now) -> Result<bool, Fault> {
        let Some(limit) = self.queue(key).settings.time_to_live else {
            return Ok(false);
        };
        if self.queue(key).aged_ms > now.ms {
            return Ok(false);
        }
        let (mut discarded, mut next) = (0_usize, u64::MAX);
        for (state, priority) in self.classes(key) {
            while let Some(meta) = self.rows.oldest(key, state, priority)? {
                if !self.is_aged(&meta, now) {
                    next = next.min(meta.queued_at_ms.saturating_add(millis(limit)));
                    break;
                }
                if discarded == STEP {
                    self.tell_discarded(key, discarded);
                    return Ok(true);
                }
                self.expire(&meta)?;
                discarded += 1;
            }
        }
        self.tell_discarded(key, discarded);
        // What comes later is later past its time; what comes back from flight lowers the bound itself.
        self.queue_mut(key).aged_ms = next.min(now.ms.saturating_add(millis(limit)));
        Ok(false)
    }

    /// When the oldest message came that waits in a queue.
    pub(super) fn oldest_waiting(&mut self, key: QueueKey) -> Result<Option<u64>, Fault> {
        let mut oldest: Option<u64> = None;
        for (state, priority) in self.classes(key) {
            if let Some(meta) = self.rows.oldest(key, state, priority)? {
                oldest = Some(oldest.map_or(meta.queued_at_ms, |known| known.min(meta.queued_at_ms)));
            }
        }
        Ok(oldest)
    }

    /// Every state and priority that a message of this queue may wait in. Held ones come before those that lead a
    /// lane, so that discarding the old of a lane promotes none of them.
    fn classes(&mut self, key: QueueKey) -> Vec<(State, u8)> {
        let mut tally = self.queue(key).tally.clone();
        let mut classes = Vec::new();
        for state in [State::Held, State::Delayed, State::Retry, State::Ready] {
            if *tally.of(state) > 0 {
                classes.extend((0..=MAX_PRIORITY).map(|priority| (state, priority)));
            }
        }
        classes
    }
}
