//! Expiry: visibility timeouts, delays and times to live that ran out.
//!
//! Every pass is bounded, and the next one goes on with the rest. Bounds in memory tell when nothing can have expired, so that
//! a pass costs nothing most of the time.

use std::time::Duration;

use super::{
    super::{
        clock::{StoreTime, millis},
        row::{MessageMeta, MessageState, QueueKey, StoreFault},
    },
    StoreRules,
};
use sandhog_queue::message::MAX_PRIORITY;

/// The number of messages of each kind that one pass changes.
const STEP: usize = 256;

impl StoreRules {
    /// Ends the timeouts, delays and times to live of a queue that ran out. Returns whether some are left for the next call.
    pub(crate) fn expire(&mut self, key: QueueKey, now: StoreTime) -> Result<bool, StoreFault> {
        let expired = self.end_visibility(key, now)?;
        let due = self.show_due(key, now)?;
        let aged = self.remove_all_aged(key, now)?;
        Ok(expired || due || aged)
    }

    pub(super) fn end_visibility(&mut self, key: QueueKey, now: StoreTime) -> Result<bool, StoreFault> {
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
            self.end_expired(delivery)?;
        }
        Ok(true)
    }

    /// Ends the visibility timeout of one message, if its time is over.
    pub(super) fn end_visibility_of(&mut self, seq: u64, now: StoreTime) -> Result<(), StoreFault> {
        match self.in_flight.get(seq).cloned() {
            Some(delivery) if delivery.deadline <= now.instant => self.end_expired(delivery),
            Some(_) | None => Ok(()),
        }
    }

    /// Ends the visibility timeouts of all messages of a queue that are in flight, and returns their number.
    pub(crate) fn expire_in_flight(&mut self, key: QueueKey, now: StoreTime) -> Result<u64, StoreFault> {
        let in_flight = self.in_flight.of(key);
        let count = u64::try_from(in_flight.len()).unwrap_or(u64::MAX);
        for seq in in_flight {
            self.in_flight.extend(seq, now.instant);
        }
        while self.end_visibility(key, now)? {}
        Ok(count)
    }

    /// Brings the ends of all visibility timeouts nearer by as much.
    pub(crate) fn hasten(&mut self, by: Duration) {
        for key in self.in_flight.queues() {
            for seq in self.in_flight.of(key) {
                if let Some(deadline) = self.in_flight.get(seq).map(|delivery| delivery.deadline) {
                    self.in_flight.extend(seq, deadline.checked_sub(by).unwrap_or(deadline));
                }
            }
        }
        self.wake_all_later();
    }

    /// Ends the visibility timeouts of all queues, including those without a receiver.
    pub(crate) fn end_visibility_everywhere(&mut self, now: StoreTime) -> Result<(), StoreFault> {
        for key in self.in_flight.queues() {
            self.end_visibility(key, now)?;
        }
        Ok(())
    }

    fn show_due(&mut self, key: QueueKey, now: StoreTime) -> Result<bool, StoreFault> {
        if self.queue(key).due_ms > now.ms {
            return Ok(false);
        }
        let due = self.rows.due(key, now.ms, STEP)?;
        for mut meta in due {
            if meta.state == MessageState::Retry {
                meta.visible_at_ms = 0;
                self.change(meta, MessageState::Ready)?;
            } else {
                self.enter(meta)?;
            }
        }
        let next = self.rows.next_due(key)?.unwrap_or(u64::MAX);
        self.queue_mut(key).due_ms = next;
        Ok(next <= now.ms)
    }

    /// Returns whether a message is past its time to live.
    pub(crate) fn is_aged(&self, meta: &MessageMeta, now: StoreTime) -> bool {
        self.queue(meta.queue)
            .settings
            .time_to_live
            .is_some_and(|limit| meta.queued_at_ms.saturating_add(millis(limit)) <= now.ms)
    }

    /// Removes a message that is past its time to live.
    pub(crate) fn remove_aged(&mut self, meta: &MessageMeta) -> Result<(), StoreFault> {
        self.queue_mut(meta.queue).expired += 1;
        self.remove(meta)
    }

    fn log_aged(&self, key: QueueKey, messages: usize) {
        if messages > 0 {
            tracing::info!(queue = %self.queue(key).name, messages, "messages past their time to live were removed");
        }
    }

    /// Removes the messages past their time to live, whatever they wait for, but none that is in flight.
    fn remove_all_aged(&mut self, key: QueueKey, now: StoreTime) -> Result<bool, StoreFault> {
        let Some(limit) = self.queue(key).settings.time_to_live else {
            return Ok(false);
        };
        if self.queue(key).aged_ms > now.ms {
            return Ok(false);
        }
        let mut removed = 0_usize;
        let mut next = u64::MAX;
        for (state, priority) in self.classes(key) {
            while let Some(meta) = self.rows.oldest(key, state, priority)? {
                if !self.is_aged(&meta, now) {
                    next = next.min(meta.queued_at_ms.saturating_add(millis(limit)));
                    break;
                }
                if removed == STEP {
                    self.log_aged(key, removed);
                    return Ok(true);
                }
                self.remove_aged(&meta)?;
                removed += 1;
            }
        }
        self.log_aged(key, removed);
        // A message that comes later expires later, and one that comes back from flight lowers the bound itself.
        self.queue_mut(key).aged_ms = next.min(now.ms.saturating_add(millis(limit)));
        Ok(false)
    }

    /// Returns when the oldest message that waits in a queue came to it.
    pub(crate) fn oldest_waiting(&mut self, key: QueueKey) -> Result<Option<u64>, StoreFault> {
        let mut oldest: Option<u64> = None;
        for (state, priority) in self.classes(key) {
            if let Some(meta) = self.rows.oldest(key, state, priority)? {
                oldest = Some(oldest.map_or(meta.queued_at_ms, |known| known.min(meta.queued_at_ms)));
            }
        }
        Ok(oldest)
    }

    /// Returns every state and priority in which messages of this queue wait. Held messages come before those that lead their
    /// group, so that removing the old messages of a group promotes none of them.
    fn classes(&mut self, key: QueueKey) -> Vec<(MessageState, u8)> {
        let mut tally = self.queue(key).tally.clone();
        let mut classes = Vec::new();
        for state in [
            MessageState::Held,
            MessageState::Delayed,
            MessageState::Retry,
            MessageState::Ready,
        ] {
            if *tally.of(state) > 0 {
                classes.extend((0..=MAX_PRIORITY).map(|priority| (state, priority)));
            }
        }
        classes
    }
}
