//! A copy of the database that is made while the store works, some pages at a time.
//!
//! `SQLite` carries what this connection changes meanwhile into the pages that are copied already, so the copy has the last
//! commit before its last step. It begins again by itself when a transaction was rolled back whose pages were in the log already, or
//! when another program wrote to the database; the copy counts how often. Invariant: a step runs between transactions, and its errors
//! are those of the copy: they change nothing about the store.

#![expect(
    clippy::disallowed_methods,
    reason = "a step is measured on the writer's thread, which has no runtime"
)]

use std::{
    path::Path,
    ptr::NonNull,
    sync::{Arc, Weak},
    time::{Duration, Instant as StdInstant},
};

use rusqlite::{Connection, OpenFlags, ffi};

use super::{
    super::{super::row::StoreFault, failing::fault},
    SqliteRows,
};

/// The number of pages of the first step, and the bounds of later ones.
const FIRST_PAGES: i32 = 64;
const MIN_PAGES: i32 = 8;
const MAX_PAGES: i32 = 1024;
/// A step that took longer than this makes the next one smaller; one that took less than a quarter, larger.
const LONG_STEP: Duration = Duration::from_millis(5);
const MAIN: &std::ffi::CStr = c"main";

/// The copy that is being made.
pub(crate) struct OnlineCopy {
    handle: NonNull<ffi::sqlite3_backup>,
    /// Dropped after the handle was finished, as `SQLite` demands.
    _destination: Connection,
    pages: i32,
    /// The pages that are copied.
    done: i32,
    restarts: u32,
    /// Whoever asked for the copy waits for it as long as this is alive.
    wanted: Weak<()>,
}

// SAFETY: `SQLite` binds a backup to no thread. The handle and the destination are used by one at a time, because each use takes `&mut`,
// and `begin` asks its caller to keep the source on the same thread.
#[expect(
    unsafe_code,
    reason = "the writer's thread gets the store with the copy from the thread that opened it"
)]
unsafe impl Send for OnlineCopy {}

impl std::fmt::Debug for OnlineCopy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OnlineCopy")
            .field("pages", &self.pages)
            .finish_non_exhaustive()
    }
}

/// What a step has done.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CopyProgress {
    /// The copy is whole: it has everything that was committed before this step.
    pub(crate) is_whole: bool,
    /// The bytes that the step has written, about.
    pub(crate) bytes: u64,
    /// How long the step has held up the store.
    pub(crate) took: Duration,
    /// How often the copy began again so far.
    pub(crate) restarts: u32,
}

impl OnlineCopy {
    /// Begins a copy in an empty file.
    ///
    /// # Safety
    ///
    /// The source stays open until the copy is dropped, and one thread at a time uses the two.
    #[expect(
        unsafe_code,
        reason = "the safe form borrows the connection, which has work to do between two steps"
    )]
    pub(crate) unsafe fn begin(source: &Connection, path: &Path, wanted: &Arc<()>) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let destination = Connection::open_with_flags(path, flags)?;
        // A copy that is not whole is deleted, so nothing protects it. Its owner syncs it, on another thread.
        destination.pragma_update(None, "journal_mode", "off")?;
        destination.pragma_update(None, "synchronous", "off")?;
        destination.pragma_update(None, "cache_size", -512)?;
        // SAFETY: both connections are open. The destination lives in the same value as the handle and is dropped after it; the caller
        // keeps the source open for as long as the value lives.
        let handle =
            unsafe { ffi::sqlite3_backup_init(destination.handle(), MAIN.as_ptr(), source.handle(), MAIN.as_ptr()) };
        let Some(handle) = NonNull::new(handle) else {
            return Err(failure(ffi::SQLITE_ERROR));
        };
        Ok(Self {
            handle,
            _destination: destination,
            pages: FIRST_PAGES,
            done: 0,
            restarts: 0,
            wanted: Arc::downgrade(wanted),
        })
    }

    /// Returns whether anybody still waits for the copy.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.strong_count() > 0
    }

    /// Returns whether the next step may be the last one.
    pub(crate) fn is_nearly_whole(&self) -> bool {
        #[expect(unsafe_code, reason = "the safe form of a backup is not used here")]
        // SAFETY: the handle was not finished, and both connections are open.
        let left = unsafe { ffi::sqlite3_backup_remaining(self.handle.as_ptr()) };
        left <= self.pages
    }

    /// Copies some pages, and learns how many fit into a step.
    pub(crate) fn step(&mut self, page_bytes: u64) -> rusqlite::Result<CopyProgress> {
        let started = StdInstant::now();
        #[expect(unsafe_code, reason = "the safe form of a backup is not used here")]
        // SAFETY: the handle was not finished, and both connections are open.
        let (code, all, left) = unsafe {
            let handle = self.handle.as_ptr();
            let code = ffi::sqlite3_backup_step(handle, self.pages);
            (
                code,
                ffi::sqlite3_backup_pagecount(handle),
                ffi::sqlite3_backup_remaining(handle),
            )
        };
        let took = started.elapsed();
        if code == ffi::SQLITE_OK {
            // A step that is not the last one adds as many pages as it was asked for, unless the copy began at the first page again.
            let done = all.saturating_sub(left);
            if done < self.done.saturating_add(self.pages) {
                self.restarts = self.restarts.saturating_add(1);
            }
            self.done = done;
        }
        let pages = match code {
            ffi::SQLITE_OK | ffi::SQLITE_DONE => self.pages,
            // Another tool holds a lock: the next step does what this one could not.
            ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED => 0,
            code => return Err(failure(code)),
        };
        if took > LONG_STEP {
            self.pages = (self.pages / 2).max(MIN_PAGES);
        } else if took < LONG_STEP / 4 {
            self.pages = self.pages.saturating_mul(2).min(MAX_PAGES);
        }
        Ok(CopyProgress {
            is_whole: code == ffi::SQLITE_DONE,
            bytes: u64::try_from(pages).unwrap_or(0).saturating_mul(page_bytes),
            took,
            restarts: self.restarts,
        })
    }
}

impl Drop for OnlineCopy {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "the safe form of a backup is not used here")]
        // SAFETY: the handle is finished once, here, and both connections are still open.
        let code = unsafe { ffi::sqlite3_backup_finish(self.handle.as_ptr()) };
        if code != ffi::SQLITE_OK {
            tracing::debug!(code, "the copy of the database has ended before it was whole");
        }
    }
}

fn failure(code: std::ffi::c_int) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)
}

impl SqliteRows {
    /// Takes the deliveries in a copy back that were in flight when it became whole, as if they had been released: their messages did
    /// nothing to a host, and come again. The copy is not open anywhere.
    pub(crate) fn release_copied(path: &Path) -> Result<(), StoreFault> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(fault)?;
        // In the form of a copy the file needs no log beside it. The store that opens it makes one.
        connection
            .query_row("PRAGMA journal_mode = delete", [], |_| Ok(()))
            .and_then(|()| connection.pragma_update(None, "synchronous", "off"))
            .and_then(|()| connection.execute_batch(RELEASE))
            .and_then(|()| connection.close().map_err(|(_, error)| error))
            .map_err(fault)
    }
}

/// 3 is the mark of a receiver outside of the host, on whose messages no suspicion falls.
const RELEASE: &str = "
BEGIN;
UPDATE messages SET visible_at = 3, receive_count = max(receive_count - 1, 0) WHERE seq IN
 (SELECT seq FROM flights CROSS JOIN messages ON seq BETWEEN zone * 64 AND zone * 64 + 63 WHERE state = 2);
UPDATE messages SET visible_at = 3, receive_count = max(receive_count - 1, 0)
 WHERE lane IS NOT NULL AND state IN (1, 6) AND state = 6;
COMMIT;
";
