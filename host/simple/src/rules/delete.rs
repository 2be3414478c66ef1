//! The end of a queue: its name is free at once, and its messages go step by step.
//!
//! The number of a queue is never used again, because dead letters in other queues name it. So the queue stays, without a name.

use super::{
    super::{
        clock::StoreTime,
        row::{MessageState, QueueKey, StoreFault},
    },
    QueueStanding, QueueState, StoreRules,
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

    /// Takes the name from a queue that has no message. Returns the number of those that it has.
    pub(crate) fn retire_empty(&mut self, key: QueueKey, now: StoreTime) -> Result<u64, StoreFault> {
        let counts = self.counts(key, now)?;
        let messages = counts.ready + counts.in_flight + counts.delayed + counts.damaged + counts.dead;
        if messages == 0 {
            self.retire(key, now)?;
        }
        Ok(messages)
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

    /// Returns the queues without a name that have messages left, readable or not.
    pub(crate) fn unfinished(&self) -> Vec<QueueKey> {
        let is_left = |queue: &QueueState| queue.is_retired() && queue.tally.all() > 0;
        let left = self.queues.iter().filter(|(_, queue)| is_left(queue));
        left.map(|(key, _)| *key).collect()
    }
}

#[cfg(test)]
mod tests {
    use sandhog_queue::{
        machine_clock::MachineClock,
        message::{Outgoing, QueueName},
    };
    use tokio::time::Instant;

    use super::{
        super::super::{memory::MemoryRows, processed::ProcessedMessageSettings, settings::Settings},
        *,
    };

    // The start spent a transaction on every queue that was ever deleted.
    #[test]
    fn a_deletion_is_unfinished_as_long_as_messages_are_left_readable_or_not() {
        let settings = ProcessedMessageSettings::default();
        let mut rules = StoreRules::new(MemoryRows::default(), false, settings, MachineClock::default());
        let rules = rules.with_any_rows();
        let now = rules.tick(Instant::now());
        let [empty, readable, damaged] = ["empty", "readable", "damaged"].map(|name| {
            let name = QueueName::new(name).unwrap();
            rules.declare(&name, Settings::defaults(&name)).unwrap().key
        });
        for key in [readable, damaged] {
            let message = Outgoing::new("x").check().unwrap();
            rules.send(key, message, now).unwrap().unwrap();
        }
        let meta = rules
            .rows
            .any(damaged, MessageState::Ready, u64::MAX, 1)
            .unwrap()
            .remove(0);
        rules.mark_damaged(meta, "as the test says").unwrap();
        assert_eq!(rules.unfinished(), [], "none is deleted yet");
        for key in [empty, readable, damaged] {
            rules.retire(key, now).unwrap();
        }
        assert_eq!(rules.unfinished(), [readable, damaged]);
        for key in [readable, damaged] {
            assert_eq!(rules.clear(key, u64::MAX, 9).unwrap(), 1);
        }
        assert_eq!(rules.unfinished(), []);
    }
}
