//! A reader of the journal: entries that are kept, and then those that are added.
//!
//! Invariant: each entry comes once, in the order of the numbers. What a slow reader misses is counted for it.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::{Journal, JournalEntry, JournalFilter};

/// The most entries that are kept with which a reader begins: the last ones.
const MAX_KEPT: usize = 1000;

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct JournalStart {
    /// Behind the entry with this number, as far as those after it are kept.
    pub(crate) after: Option<u64>,
    /// With at most so many entries that are kept.
    pub(crate) last: Option<usize>,
    /// Entries that are added later are read, too.
    pub(crate) follow: bool,
}

/// What a reader reads.
#[derive(Debug, Clone)]
pub(crate) enum JournalEvent {
    /// An entry.
    Attempt(Arc<JournalEntry>),
    /// So many entries, of whatever kind, came too fast.
    Missed(u64),
}

/// A reader of the journal.
pub(crate) struct JournalReader {
    filter: JournalFilter,
    kept: VecDeque<Arc<JournalEntry>>,
    /// The number of the last entry that was read.
    seen: Option<u64>,
    follow: bool,
    live: Receiver<Arc<JournalEntry>>,
}

impl JournalReader {
    pub(crate) fn new(journal: &Journal, filter: JournalFilter, start: JournalStart) -> Self {
        // Entries that are added meanwhile are in both, and read once.
        let live = journal.live();
        // A number from the future comes from another clock, and says nothing here.
        let after = start.after.filter(|after| journal.has_reached(*after));
        let limit = start.last.unwrap_or(if start.after.is_some() { MAX_KEPT } else { 0 });
        let kept = journal.recent(&filter, limit.min(MAX_KEPT), after, None);
        Self {
            filter,
            kept: kept.into(),
            seen: after,
            follow: start.follow,
            live,
        }
    }

    /// Waits for the next event. `None` at the end: of what is kept, unless the reader follows, or of the journal.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub(crate) async fn next(&mut self) -> Option<JournalEvent> {
        if let Some(entry) = self.kept.pop_front() {
            self.seen = Some(entry.attempt);
            return Some(JournalEvent::Attempt(entry));
        }
        if !self.follow {
            return None;
        }
        loop {
            match self.live.recv().await {
                Ok(entry) if self.seen.is_none_or(|seen| entry.attempt > seen) && self.filter.admits(&entry) => {
                    self.seen = Some(entry.attempt);
                    return Some(JournalEvent::Attempt(entry));
                }
                Ok(_) => {}
                Err(RecvError::Lagged(missed)) => return Some(JournalEvent::Missed(missed)),
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{LIVE_ENTRIES, tests::entry},
        *,
    };

    const FOLLOW: JournalStart = JournalStart {
        after: None,
        last: None,
        follow: true,
    };

    async fn next(reader: &mut JournalReader) -> String {
        match reader.next().await.unwrap() {
            JournalEvent::Attempt(entry) => entry.message.clone(),
            JournalEvent::Missed(missed) => format!("{missed} missed"),
        }
    }

    #[tokio::test]
    async fn a_reader_reads_each_entry_once_also_between_what_is_kept_and_what_comes() {
        let journal = Journal::default();
        journal.add(["a", "b", "c"].map(|id| entry("h", id)));
        let start = JournalStart {
            last: Some(2),
            after: None,
            follow: true,
        };
        let mut reader = JournalReader::new(&journal, JournalFilter::default(), start);
        journal.add(["d"].map(|id| entry("h", id)));
        for expected in ["b", "c", "d"] {
            assert_eq!(next(&mut reader).await, expected);
        }
        let all = journal.recent(&JournalFilter::default(), 10, None, None);
        let start = JournalStart {
            after: Some(all[1].attempt),
            last: None,
            follow: false,
        };
        let mut reader = JournalReader::new(&journal, JournalFilter::default(), start);
        assert_eq!(next(&mut reader).await, "c");
        assert_eq!(next(&mut reader).await, "d");
        assert!(reader.next().await.is_none(), "it does not follow");
    }

    #[tokio::test]
    async fn a_reader_that_is_slow_is_told_what_it_missed() {
        let journal = Journal::default();
        let mut reader = JournalReader::new(&journal, JournalFilter::default(), FOLLOW);
        journal.add((0..LIVE_ENTRIES + 7).map(|number| entry("h", &number.to_string())));
        assert_eq!(next(&mut reader).await, "7 missed");
        assert_eq!(next(&mut reader).await, "7");
    }
}
