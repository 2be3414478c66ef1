//! Messages of queues of other kinds: noting that they were handled, together with what was sent and written for them.

use std::collections::HashSet;

use super::{
    super::{
        clock::StoreTime,
        processed::{CommitError, ProcessedMessageKey, ProcessedSegment},
        row::StoreFault,
    },
    StoreRules,
};
use sandhog_queue::Effects;

/// The number of forgotten rows that each write of rows deletes at least, if there are as many.
const FORGET_STEP: usize = 64;

/// The changes that the transaction under way makes to the processed messages.
#[derive(Debug, Default)]
pub(crate) struct ProcessedChanges {
    /// The messages that the transaction commits as handled.
    handled: HashSet<ProcessedMessageKey>,
    /// The same, once they are written.
    committed: Option<ProcessedSegment>,
    /// The notes that were in memory only, once they are written.
    notes: Vec<ProcessedSegment>,
    /// The number of dead rows that were deleted.
    removed: usize,
}

impl StoreRules {
    /// Notes messages as handled, sends and writes, or does nothing at all. For messages that were all handled before
    /// nothing happens again.
    pub(crate) fn commit_handled(
        &mut self,
        handled: Vec<ProcessedMessageKey>,
        effects: Effects,
        now: StoreTime,
    ) -> Result<Result<(), CommitError>, StoreFault> {
        if !effects.is_empty() {
            let known = self.count_handled(&handled, now);
            if known > 0 && known == handled.len() {
                return Ok(Ok(()));
            }
            if known > 0 {
                // The effects belong to all of the messages together, so some of them would happen twice.
                return Ok(Err(CommitError::Incomplete));
            }
        }
        if let Err(refused) = self.make_happen(effects, now)? {
            return Ok(Err(refused.into()));
        }
        self.entries.handled.extend(handled);
        Ok(Ok(()))
    }

    fn count_handled(&self, keys: &[ProcessedMessageKey], now: StoreTime) -> usize {
        let processed = self.processed.lock();
        let is_known = |key: &&ProcessedMessageKey| self.entries.handled.contains(key) || processed.knows(key, now.ms);
        keys.iter().filter(is_known).count()
    }

    /// Writes the messages that the transaction commits as handled. Call it before the end of the transaction.
    pub(crate) fn write_handled(&mut self) -> Result<(), StoreFault> {
        if self.entries.handled.is_empty() {
            return Ok(());
        }
        let now = self.tick(self.latest);
        let number = {
            let mut processed = self.processed.lock();
            if processed.is_off() {
                self.entries.handled.clear();
                return Ok(());
            }
            processed.next_segment()
        };
        let segment = ProcessedSegment {
            number,
            noted_ms: now.ms,
            keys: self.entries.handled.drain().collect(),
        };
        self.rows.add_segment(&segment)?;
        self.entries.committed = Some(segment);
        self.remove_dead_segments(FORGET_STEP)
    }

    /// Writes the notes that are in memory only.
    pub(crate) fn write_notes(&mut self) -> Result<(), StoreFault> {
        let notes = self.processed.lock().take_unwritten();
        // The notes are kept before anything can fail, so that none is lost with the transaction.
        self.entries.notes = notes;
        for segment in &self.entries.notes {
            self.rows.add_segment(segment)?;
        }
        let count = self.entries.notes.len();
        self.remove_dead_segments(FORGET_STEP + 2 * count)
    }

    fn remove_dead_segments(&mut self, limit: usize) -> Result<(), StoreFault> {
        let dead = self.processed.lock().dead(limit);
        for number in &dead {
            self.rows.remove_segment(*number)?;
        }
        self.entries.removed = dead.len();
        Ok(())
    }

    /// Remembers the messages that the transaction wrote. Call it after the commit.
    pub(crate) fn remember_handled(&mut self) {
        let ProcessedChanges {
            committed,
            notes,
            removed,
            ..
        } = std::mem::take(&mut self.entries);
        if committed.is_none() && notes.is_empty() && removed == 0 {
            return;
        }
        let mut processed = self.processed.lock();
        processed.removed(removed);
        processed.written(&notes);
        if let Some(segment) = committed {
            processed.add(&segment);
        }
    }

    /// Forgets what the transaction did, because it was rolled back. Its notes are written another time.
    pub(crate) fn undo_handled(&mut self) {
        let ProcessedChanges { notes, .. } = std::mem::take(&mut self.entries);
        if !notes.is_empty() {
            self.processed.lock().put_back(notes);
        }
    }

    /// Learns which messages an earlier run handled. A damaged segment is dropped: redeliveries of its messages are handled again.
    pub(crate) fn learn_handled(&mut self, now: StoreTime) -> Result<(), StoreFault> {
        let shared = self.processed.clone();
        let mut processed = shared.lock();
        let mut damaged = Vec::new();
        self.rows.segments(&mut |stored| match ProcessedSegment::decode(&stored) {
            Ok(segment) => processed.learn(&segment, now.ms),
            Err(damage) => {
                tracing::warn!(
                    segment = stored.number,
                    damage,
                    "a part of the processed-message store is damaged and dropped: redeliveries of its messages are handled again"
                );
                damaged.push(stored.number);
            }
        })?;
        let dead = processed.dead(usize::MAX);
        for number in damaged.iter().chain(&dead) {
            self.rows.remove_segment(*number)?;
        }
        processed.removed(dead.len());
        Ok(())
    }
}
