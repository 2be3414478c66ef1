//! The write-ahead log: copying it into the database, and warning when that can't be done.
//!
//! A commit is in the log, and stays there until it was copied. Pages that a reader's transaction uses can't be overwritten, so a
//! reader that does not end pins the log: the log grows, though every copy "succeeds". Invariant: nothing here fails a transaction,
//! because the log has everything.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use rusqlite::{ErrorCode, hooks::Wal, wal::CheckpointMode};

/// A log of this many pages is copied into the database after a commit, as `SQLite` does by itself.
const LOG_PAGES: i32 = 2000;
/// A pinned log is worth a warning once it has this many pages, and again whenever it has doubled since.
const PINNED_PAGES: i32 = 4 * LOG_PAGES;
/// The readers' locks in the index of the log: five bytes, of which each reader holds one.
const READ_LOCKS: std::ops::RangeInclusive<u64> = 123..=127;

/// A number of bytes of the log. Cheap to clone; the clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogBytes(Arc<AtomicU64>);

impl LogBytes {
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A change of the log's state that is worth a line in the host's log.
#[derive(Debug, PartialEq, Eq)]
enum LogNews {
    Pinned,
    Free,
}

/// The state of the write-ahead log that the host's log tells.
#[derive(Debug, Default)]
struct LoggedState {
    failed: bool,
    pinned_at: Option<i32>,
}

impl LoggedState {
    /// Returns the news after `copied` of `pages` pages of the log have been copied.
    fn copied(&mut self, pages: i32, copied: i32) -> Option<LogNews> {
        self.failed = false;
        if copied >= pages {
            return self.pinned_at.take().map(|_| LogNews::Free);
        }
        let worth = self.pinned_at.map_or(PINNED_PAGES, |before| before.saturating_mul(2));
        if pages < worth {
            return None;
        }
        self.pinned_at = Some(pages);
        Some(LogNews::Pinned)
    }
}

/// How much of the log has been copied.
#[derive(Debug, Default)]
struct CopiedPlace {
    pages: i32,
    copied: i32,
}

impl CopiedPlace {
    /// Returns the number of pages that are not copied after a commit that left this number in the log. `SQLite` writes a log that was
    /// copied as a whole anew from its beginning.
    fn committed(&mut self, pages: i32) -> i32 {
        if pages < self.pages {
            self.copied = 0;
        }
        self.pages = pages;
        pages.saturating_sub(self.copied)
    }
}

/// Returns the hook for each commit, which copies a long log into the database as `SQLite` would, but not in silence.
pub(crate) fn copy_and_warn(
    database: &Path,
    page_bytes: u64,
    [pinned, uncopied]: [LogBytes; 2],
) -> impl FnMut(&mut Wal, i32) -> rusqlite::Result<()> + Send + 'static {
    let index = beside(database, "-shm");
    let mut logged = LoggedState::default();
    let bytes = move |pages: i32| u64::try_from(pages).unwrap_or(0).saturating_mul(page_bytes);
    let mut place = CopiedPlace::default();
    move |wal, pages| {
        uncopied.0.store(bytes(place.committed(pages)), Ordering::Relaxed);
        if pages < LOG_PAGES {
            return Ok(());
        }
        match wal.checkpoint_v2(CheckpointMode::PASSIVE) {
            Ok((pages, copied)) => {
                place.copied = copied;
                uncopied.0.store(bytes(place.committed(pages)), Ordering::Relaxed);
                pinned.0.store(bytes(pages.saturating_sub(copied)), Ordering::Relaxed);
                match logged.copied(pages, copied) {
                    Some(LogNews::Pinned) => tracing::warn!(
                        log_bytes = bytes(pages),
                        pinned_bytes = bytes(pages.saturating_sub(copied)),
                        reader = readers(&index),
                        "the write-ahead log can't be emptied, because somebody reads the database in a transaction that does not \
                         end: nothing is lost, but the log grows until that reader ends"
                    ),
                    Some(LogNews::Free) => {
                        tracing::info!(log_bytes = bytes(pages), "the write-ahead log could be emptied again");
                    }
                    None => {}
                }
            }
            // Another tool copies the log just now.
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {}
            Err(error) if !logged.failed => {
                logged.failed = true;
                tracing::warn!(
                    pages, %error,
                    "the write-ahead log can't be copied into the database: nothing is lost, but the log grows until it can"
                );
            }
            Err(_) => {}
        }
        Ok(())
    }
}

/// Returns the path of a file that `SQLite` keeps beside the database.
pub(crate) fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Returns the processes that read the database now, for people, as far as the system tells.
fn readers(index: &Path) -> String {
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let inode = fs::metadata(index).map(|metadata| metadata.ino());
    let processes = inode.map_or_else(|_| Vec::new(), |inode| readers_in(&locks, inode));
    let named = processes.into_iter().map(|process| {
        let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
        let name = name.trim_end();
        if name.is_empty() {
            format!("process {process}")
        } else {
            format!("{name} (process {process})")
        }
    });
    let named: Vec<String> = named.collect();
    if named.is_empty() {
        "not known".to_owned()
    } else {
        named.join(", ")
    }
}

/// Returns the other processes that hold one of the readers' locks on the file, from a text like that of `/proc/locks`.
fn readers_in(locks: &str, inode: u64) -> Vec<u32> {
    let mut readers: Vec<u32> = locks.lines().filter_map(|line| reader_in(line, inode)).collect();
    readers.sort_unstable();
    readers.dedup();
    readers.retain(|process| *process != std::process::id());
    readers
}

/// Reads a line like `1: POSIX  ADVISORY  READ 4711 08:01:131090 124 124`. The line of a process that waits has an arrow more.
fn reader_in(line: &str, inode: u64) -> Option<u32> {
    let mut words = line.split_whitespace().skip(1);
    let access = words.nth(2)?;
    let process = words.next()?.parse().ok().filter(|process| *process > 0)?;
    let file = words.next()?.rsplit(':').next()?;
    let start = words.next()?.parse().ok()?;
    let end = words.next()?.parse().ok()?;
    let reads = access == "READ" && READ_LOCKS.contains(&start) && READ_LOCKS.contains(&end);
    (reads && file.parse() == Ok(inode)).then_some(process)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_log_is_worth_a_word_whenever_it_has_doubled_and_one_when_it_is_free() {
        let mut logged = LoggedState::default();
        assert_eq!(logged.copied(1000, 0), None, "a reader that is about to end");
        assert_eq!(logged.copied(10_000, 10), Some(LogNews::Pinned));
        assert_eq!(logged.copied(19_999, 10), None);
        assert_eq!(logged.copied(20_000, 10), Some(LogNews::Pinned));
        assert_eq!(logged.copied(20_001, 20_001), Some(LogNews::Free));
        assert_eq!(logged.copied(1000, 1000), None);
    }

    #[test]
    fn what_is_not_copied_is_counted_from_the_last_copy_and_anew_when_the_log_begins_anew() {
        let mut place = CopiedPlace::default();
        assert_eq!(place.committed(2010), 2010);
        place.copied = 2000;
        assert_eq!([2010, 2050].map(|pages| place.committed(pages)), [10, 50]);
        place.copied = 2050;
        assert_eq!([2050, 7].map(|pages| place.committed(pages)), [0, 7]);
    }

    #[test]
    fn readers_are_found_by_the_lock_they_hold_on_the_index_of_the_log() {
        let own = std::process::id();
        let locks = format!(
            "1: POSIX  ADVISORY  READ 4711 08:01:131090 124 124\n\
             2: POSIX  ADVISORY  READ 4711 08:01:131090 128 128\n\
             3: POSIX  ADVISORY  WRITE 12 08:01:131090 120 120\n\
             4: POSIX  ADVISORY  READ 13 08:01:7 124 124\n\
             5: -> POSIX  ADVISORY  READ 14 08:01:131090 124 124\n\
             6: FLOCK  ADVISORY  WRITE 15 08:01:131090 0 EOF\n\
             7: POSIX  ADVISORY  READ {own} 00:2f:131090 123 123\n\
             8: POSIX  ADVISORY  READ 4712 00:2f:131090 127 127\n"
        );
        assert_eq!(readers_in(&locks, 131_090), [4711, 4712]);
        assert_eq!(readers_in("", 131_090), [0; 0]);
    }
}
