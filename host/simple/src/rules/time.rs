//! Keeping the store's time, so that the next run can go on from it.
//!
//! Within one start of the machine any sighting will do, however old. After another start nothing later than the last sighting is
//! known, so the store notes a new one with each write, and now and then while a message waits for time to pass.

use std::time::Duration;

use super::{
    super::{
        clock::{ClosedTime, StoreTime, millis},
        row::{QueueKey, StoreFault},
        rows::Rows,
    },
    QueueState, StoreRules,
    send::DEDUPLICATION,
};
use sandhog_queue::message::MAX_DELAY;

/// The age up to which a sighting is not noted anew with a write.
const FRESH: Duration = Duration::from_secs(1);
/// The age up to which it is not noted anew without a write, while a message waits for time to pass.
const STALE: Duration = Duration::from_mins(1);

impl StoreRules {
    /// Goes on from the last sighting of an earlier run; `newest_ms` is when the newest message came.
    pub(crate) fn go_on(&mut self, newest_ms: Option<u64>) -> Result<StoreTime, StoreFault> {
        let seen = self.rows.sighting()?;
        let passage = self.clock.go_on(seen.as_ref(), newest_ms);
        passage.log();
        let now = self.tick(tokio::time::Instant::now());
        if seen.is_none() || matches!(passage, ClosedTime::Strange { .. }) {
            self.shorten_each(|rows, key| rows.cap_delays(key, now.ms))?;
        }
        self.rows.cap_remembered(now.ms + millis(DEDUPLICATION))?;
        self.shorten_each(|rows, key| rows.cap_due(key, now.ms + millis(MAX_DELAY)))?;
        if seen.is_none() || passage != ClosedTime::Counted {
            self.note_sighting(now)?;
        }
        Ok(now)
    }

    /// Cuts the delays of each queue to their longest possible length, whatever clocks did meanwhile.
    fn shorten_each(
        &mut self,
        shorten: impl Fn(&mut dyn Rows, QueueKey) -> Result<(), StoreFault>,
    ) -> Result<(), StoreFault> {
        let keys: Vec<QueueKey> = self.queues.keys().copied().collect();
        for key in keys {
            shorten(&mut self.rows, key)?;
            let next = self.rows.next_due(key)?.unwrap_or(u64::MAX);
            self.queue_mut(key).due_ms = next;
        }
        Ok(())
    }

    /// Notes the time with a transaction that writes anything. Call it before the end of each transaction.
    pub(crate) fn keep_time(&mut self) -> Result<(), StoreFault> {
        let now = self.tick(self.latest);
        let age = now.ms.saturating_sub(self.seen_ms);
        if age >= millis(FRESH) && self.rows.is_changed() {
            self.note_sighting(now)?;
        }
        Ok(())
    }

    /// Returns whether the time should be noted although nothing else is written. That takes a transaction of its own, because a
    /// command that writes nothing must not be refused when the disk is full.
    pub(crate) fn is_time_stale(&mut self) -> bool {
        let now = self.tick(self.latest);
        now.ms.saturating_sub(self.seen_ms) >= millis(STALE) && self.waits_for_time()
    }

    /// Returns whether the next run needs the end of this one to count the time of a message.
    pub(crate) fn waits_for_time(&self) -> bool {
        self.queues.values().any(QueueState::waits_for_time)
    }

    /// Notes the time, in a transaction of its own.
    pub(crate) fn write_time(&mut self) -> Result<(), StoreFault> {
        let now = self.tick(self.latest);
        self.note_sighting(now)
    }

    fn note_sighting(&mut self, now: StoreTime) -> Result<(), StoreFault> {
        self.rows.note_sighting(&self.clock.sighting(now))?;
        self.seen_ms = now.ms;
        Ok(())
    }
}

impl QueueState {
    fn waits_for_time(&self) -> bool {
        let mortal = self.settings.time_to_live.is_some() && self.tally.sent() > 0;
        mortal || self.tally.delayed + self.tally.retry > 0
    }
}
