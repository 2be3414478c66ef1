//! Messages of other kinds of queue: noting that they were handled, and what was sent and written for them, as one.

use std::collections::HashSet;

use super::{
    super::{
        super::Effects,
        clock::Now,
        ledger::{CommitError, HandledKey, Segment},
        row::Fault,
    },
    Core,
};

/// How many rows of which nothing is remembered are deleted at least, if there are so many, whenever some are written.
const FORGET_STEP: usize = 64;

/// What the transaction under way does to the ledger.
#[derive(Debug, Default)]
pub(super) struct Entries {
    /// What was committed in it.
    handled: HashSet<HandledKey>,
    /// The same, once it is written.
    committed: Option<Segment>,
    /// What was noted in memory before, once it is written.
    notes: Vec<Segment>,
    /// How many dead rows were deleted.
    removed: usize,
}

impl Core {
    /// Notes messages as handled, sends and writes, or does nothing at all. Of messages that were handled before
    /// nothing happens again.
    pub(in super::super) fn commit_handled(
        &mut self,
        handled: Vec<HandledKey>,
        effects: Effects,
        now: Now,
    ) -> Result<Result<(), CommitError>, Fault> {
        if !effects.is_empty() {
            let known = self.count_handled(&handled, now);
            if known > 0 && known == handled.len() {
                return Ok(Ok(()));
            }
            if known > 0 {
                // The effects belong to all of the messages together: some of them would happen twice.
                return Ok(Err(CommitError::Incomplete));
            }
        }
        if let Err(refused) = self.make_happen(effects, now)? {
            return Ok(Err(refused));
        }
        self.entries.handled.extend(handled);
        Ok(Ok(()))
    }

    fn count_handled(&self, keys: &[HandledKey], now: Now) -> usize {
        let ledger = self.ledger.lock();
        let is_known = |key: &&HandledKey| self.entries.handled.contains(key) || ledger.knows(key, now.ms);
        keys.iter().filter(is_known).count()
    }

    /// Writes what was committed in the transaction. Call it before its end.
    pub(in super::super) fn write_handled(&mut self) -> Result<(), Fault> {
        if self.entries.handled.is_empty() {
            return Ok(());
        }
        let now = self.tick(self.latest);
        let number = {
            let mut ledger = self.ledger.lock();
            if ledger.is_off() {
                self.entries.handled.clear();
                return Ok(());
            }
            ledger.next_segment()
        };
        let segment = Segment {
            number,
            noted_ms: now.ms,
            keys: self.entries.handled.drain().collect(),
        };
        self.rows.add_segment(&segment)?;
        self.entries.committed = Some(segment);
        self.remove_dead_segments(FORGET_STEP)
    }

    /// Writes what was noted in memory only.
    pub(in super::super) fn write_notes(&mut self) -> Result<(), Fault> {
        let notes = self.ledger.lock().take_unwritten();
        // Kept before anything can fail, so that nothing is lost with the transaction.
        self.entries.notes = notes;
        for segment in &self.entries.notes {
            self.rows.add_segment(segment)?;
        }
        let count = self.entries.notes.len();
        self.remove_dead_segments(FORGET_STEP + 2 * count)
    }

    fn remove_dead_segments(&mut self, limit: usize) -> Result<(), Fault> {
        let dead = self.ledger.lock().dead(limit);
        for number in &dead {
            self.rows.remove_segment(*number)?;
        }
        self.entries.removed = dead.len();
        Ok(())
    }

    /// Remembers what the transaction wrote. Call it after the commit.
    pub(in super::super) fn remember_handled(&mut self) {
        let Entries {
            committed,
            notes,
            removed,
            ..
        } = std::mem::take(&mut self.entries);
        if committed.is_none() && notes.is_empty() && removed == 0 {
            return;
        }
        let mut ledger = self.ledger.lock();
        ledger.removed(removed);
        ledger.written(&notes);
        if let Some(segment) = committed {
            ledger.add(&segment);
        }
    }

    /// Forgets what the transaction did: it was rolled back. Notes are written another time.
    pub(super) fn undo_handled(&mut self) {
        let Entries { notes, .. } = std::mem::take(&mut self.entries);
        if !notes.is_empty() {
            self.ledger.lock().put_back(notes);
        }
    }

    /// Learns what an earlier run handled. What is damaged is dropped: a redelivery of it is handled again.
    pub(super) fn learn_handled(&mut self, now: Now) -> Result<(), Fault> {
        let shared = self.ledger.clone();
        let mut ledger = shared.lock();
        let mut damaged = Vec::new();
        self.rows.segments(&mut |stored| match Segment::decode(&stored) {
            Ok(segment) => ledger.learn(&segment, now.ms),
            Err(damage) => {
                tracing::warn!(
                    segment = stored.number,
                    damage,
                    "a part of the ledger of handled messages is damaged and dropped: a redelivery of them is handled again"
                );
                damaged.push(stored.number);
            }
        })?;
        let dead = ledger.dead(usize::MAX);
        for number in damaged.iter().chain(&dead) {
            self.rows.remove_segment(*number)?;
        }
        ledger.removed(dead.len());
        Ok(())
    }
}
