//! Keeping the store's time, so that the next run can go on from it.
//!
//! Within one start of the machine any sighting will do, however old. After another one nothing later than the last is known, so
//! there is a new one with what is written, and now and then while something waits for time to pass.

use std::time::Duration;

use super::{
    super::{
        clock::{Now, Passage, millis},
        row::{Fault, QueueKey},
        rows::Rows,
    },
    Core, QueueState,
    send::DEDUPLICATION,
};
use crate::message::MAX_DELAY;

/// How old a sighting may be when something is written.
const FRESH: Duration = Duration::from_secs(1);
/// How old it may be when nothing is but something waits for time to pass.
const STALE: Duration = Duration::from_mins(1);

impl Core {
    /// Goes on from where an earlier run was seen last; `newest_ms` is when the newest message came.
    pub(super) fn go_on(&mut self, newest_ms: Option<u64>) -> Result<Now, Fault> {
        let seen = self.rows.sighting()?;
        let passage = self.clock.go_on(seen.as_ref(), newest_ms);
        passage.log();
        let now = self.tick(tokio::time::Instant::now());
        if seen.is_none() || matches!(passage, Passage::Strange { .. }) {
            self.shorten_each(|rows, key| rows.cap_delays(key, now.ms))?;
        }
        self.rows.cap_remembered(now.ms + millis(DEDUPLICATION))?;
        self.shorten_each(|rows, key| rows.cap_due(key, now.ms + millis(MAX_DELAY)))?;
        if seen.is_none() || passage != Passage::Counted {
            self.note_sighting(now)?;
        }
        Ok(now)
    }

    /// No delay outlasts its longest possible length, whatever clocks did meanwhile.
    fn shorten_each(&mut self, shorten: impl Fn(&mut dyn Rows, QueueKey) -> Result<(), Fault>) -> Result<(), Fault> {
        let keys: Vec<QueueKey> = self.queues.keys().copied().collect();
        for key in keys {
            shorten(&mut self.rows, key)?;
            let next = self.rows.next_due(key)?.unwrap_or(u64::MAX);
            self.queue_mut(key).due_ms = next;
        }
        Ok(())
    }

    /// Notes the time with what the transaction writes, if it writes anything. Call it before the end of each.
    pub(in super::super) fn keep_time(&mut self) -> Result<(), Fault> {
        let now = self.tick(self.latest);
        let age = now.ms.saturating_sub(self.seen_ms);
        if age >= millis(FRESH) && self.rows.is_changed() {
            self.note_sighting(now)?;
        }
        Ok(())
    }

    /// Whether the time should be noted although nothing else is written. It needs a transaction of its own: what writes nothing
    /// must not be refused because the disk is full.
    pub(in super::super) fn is_time_stale(&mut self) -> bool {
        let now = self.tick(self.latest);
        now.ms.saturating_sub(self.seen_ms) >= millis(STALE) && self.waits_for_time()
    }

    /// Whether the next run would count something wrongly that it could count well if the end of this one were noted.
    pub(in super::super) fn waits_for_time(&self) -> bool {
        self.queues.values().any(QueueState::waits_for_time)
    }

    /// Notes the time, in a transaction of its own.
    pub(in super::super) fn write_time(&mut self) -> Result<(), Fault> {
        let now = self.tick(self.latest);
        self.note_sighting(now)
    }

    fn note_sighting(&mut self, now: Now) -> Result<(), Fault> {
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
