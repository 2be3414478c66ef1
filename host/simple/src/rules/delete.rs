//! The end of a queue: its name is free at once, and its messages go step by step.
//!
//! The number of a queue is never used again, because dead letters in other queues name it. So the queue stays, without a name.

use super::{
    super::{
        clock::StoreTime,
        row::{MessageState, QueueKey, StoreFault},
    },
    QueueStanding, StoreRules,
};

impl StoreRules {
    /// Takes the name from a queue. From here on it takes no message and hands none out.
    pub(crate) fn retire(&mut self, key: QueueKey, now: StoreTime) -> Result<(), StoreFault> {
        if self.queue(key).is_retired() {
            return Ok(());
        }
        self.rows.retire_queue(key, now.wall_ms)?;
        let name = self.queue(key).name.clone();
        self.reshape(key, |queue| queue.standing = QueueStanding::Retired);
        self.names.remove(&name);
        self.wake_later(key);
        Ok(())
    }

    /// Deletes some messages of a queue, in flight or not. Returns their number, which is 0 if none is left.
    pub(crate) fn clear(&mut self, key: QueueKey, last: u64, limit: usize) -> Result<u64, StoreFault> {
        let count = self.purge(key, last, limit)?;
        if count > 0 {
            return Ok(count);
        }
        let mut count = 0;
        // Those behind a head go first, so that none of them becomes the head on its way.
        for state in [MessageState::InFlightBehind, MessageState::InFlight] {
            for meta in self.rows.any(key, state, last, limit)? {
                self.remove_in_flight(meta.seq);
                self.remove(&meta)?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// Forgets some deduplication ids of messages up to `last`. Returns whether some are left.
    pub(crate) fn forget_sent(&mut self, key: QueueKey, last: u64, limit: usize) -> Result<bool, StoreFault> {
        self.rows.forget_sent(key, last, limit)
    }

    /// Returns the queues without a name that may have messages left.
    pub(crate) fn retired(&self) -> Vec<QueueKey> {
        let retired = self.queues.iter().filter(|(_, queue)| queue.is_retired());
        retired.map(|(key, _)| *key).collect()
    }
}
