//! The connection: how the file is opened, and how a transaction begins and ends.
//!
//! The fields of [`SqliteRows`] are private here, so no other file reaches the connection: a statement runs
//! through one of the two doors of `database/table.rs`.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig, params};

use super::{
    super::{row::StoreFault, rows::DiskUse, schema},
    arrivals::Arrivals,
    failing::fault,
    log::{self, LogBytes},
    read::{signed, unsigned},
};

mod flights;
mod format;
mod online_copy;
mod table;

use self::{flights::FlightZones, online_copy::OnlineCopy};
pub(crate) use online_copy::CopyProgress;

/// How long a statement waits for an operator's tool that holds a lock.
const BUSY: std::time::Duration = std::time::Duration::from_secs(5);
/// More than the store has statements, so that each is prepared once.
const STATEMENTS: usize = 64;
/// A log that grew larger is cut to this size once it has been copied into the database.
const LOG_BYTES: i64 = 64 * 1024 * 1024;

/// A database with this many empty bytes is written anew when it is opened, if no more than the second number are in use.
const WORTH_SHRINKING: u64 = 32 * 1024 * 1024;
const QUICKLY_WRITTEN: u64 = 16 * 1024 * 1024;

/// An open database.
pub(crate) struct SqliteRows {
    /// Before the connection, so that it is dropped first: it points to what the connection owns.
    copy: Option<OnlineCopy>,
    connection: Connection,
    /// The number of transactions in the file that changed something.
    commits: u64,
    /// The transaction under way has written something.
    changed: bool,
    /// The number of the transaction under way is in the row of the newest message, so that the table `store` need not have it.
    is_counted: bool,
    /// The highest `seq` that was ever in the table.
    newest: u64,
    arrivals: Arrivals,
    pub(crate) flights: FlightZones,
    path: PathBuf,
    page_bytes: u64,
    pinned: LogBytes,
    uncopied: LogBytes,
}

impl fmt::Debug for SqliteRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteRows")
            .field("commits", &self.commits)
            .finish_non_exhaustive()
    }
}

/// Why a file can't be opened.
#[derive(Debug)]
pub(crate) enum OpenRefusal {
    /// The file has another version of the format.
    Version(i64),
    /// The file is not a store of sandhog.
    Foreign,
    /// The file is damaged.
    Damaged(rusqlite::Error),
    /// The file can't be read or written.
    Failed(rusqlite::Error),
}

impl From<rusqlite::Error> for OpenRefusal {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(error),
            _ => Self::Failed(error),
        }
    }
}

impl SqliteRows {
    /// Opens the file, or makes it.
    pub(crate) fn open(path: &Path, vfs: Option<&str>) -> Result<Self, OpenRefusal> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = match vfs {
            Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs)?,
            None => Connection::open_with_flags(path, flags)?,
        };
        connection.busy_timeout(BUSY)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        // A store that failed must leave its log alone for the next run; an orderly end checkpoints by itself.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        // Every plan is forced anyway, and without this option some statements are compiled anew whenever other values are bound.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        // An index that a statement makes for itself reads the whole table first.
        connection.pragma_update(None, "automatic_index", false)?;
        connection.pragma_update(None, "cell_size_check", true)?;
        connection.pragma_update(None, "cache_size", -8192)?;
        let found = format::examine(&connection)?;
        found.prepare(&connection)?;
        if !format::set_journal(&connection, "wal")? {
            return Err(OpenRefusal::Failed(format::no_log()));
        }
        connection.pragma_update(None, "synchronous", "full")?;
        // On macOS a plain fsync leaves data in the drive's cache; elsewhere these do nothing.
        connection.pragma_update(None, "fullfsync", true)?;
        connection.pragma_update(None, "checkpoint_fullfsync", true)?;
        connection.pragma_update(None, "journal_size_limit", LOG_BYTES)?;
        found.make_current(&connection)?;
        let commits = format::commits(&connection)?;
        let newest = connection.query_row("SELECT max(seq) FROM messages", [], |row| row.get::<_, Option<i64>>(0))?;
        let mut rows = Self {
            copy: None,
            connection,
            commits,
            changed: false,
            is_counted: false,
            newest: unsigned(newest.unwrap_or(0)),
            arrivals: Arrivals::default(),
            flights: FlightZones::default(),
            path: path.to_owned(),
            page_bytes: 0,
            pinned: LogBytes::default(),
            uncopied: LogBytes::default(),
        };
        rows.watch_log()?;
        Ok(rows)
    }

    /// Returns the number of the last transaction that changed something.
    pub(crate) fn commits(&self) -> u64 {
        self.commits
    }

    /// Returns whether the transaction under way has written anything, or will once its arrivals are written.
    pub(crate) fn has_changed(&self) -> bool {
        self.changed || !self.arrivals.is_empty()
    }

    /// Returns the number that the transaction under way has if it changes anything.
    pub(crate) fn next_commits(&self) -> u64 {
        self.commits.saturating_add(1)
    }

    /// Notes that the row of a message is written with the number of the transaction.
    pub(crate) fn note_newest(&mut self, seq: u64) {
        if seq > self.newest {
            self.newest = seq;
            self.is_counted = true;
        }
    }

    /// Notes that the row of a message is deleted, and with it perhaps the number of the transaction.
    pub(crate) fn note_deleted(&mut self, seq: u64) {
        if seq == self.newest {
            self.is_counted = false;
        }
    }

    /// Starts a transaction.
    pub(crate) fn begin(&mut self) -> Result<(), StoreFault> {
        self.changed = false;
        self.is_counted = false;
        self.arrivals.take();
        self.connection
            .prepare_cached("BEGIN IMMEDIATE")
            .and_then(|mut begin| begin.execute([]))
            .map_err(fault)?;
        Ok(())
    }

    /// Commits a transaction, which is on the disk once this has returned. Returns the number of the transaction if it changed anything.
    pub(crate) fn commit(&mut self) -> Result<Option<u64>, StoreFault> {
        self.table()?;
        let changed = self.changed;
        if changed && !self.is_counted {
            let commits = signed(self.next_commits());
            self.other_tables()
                .write("UPDATE store SET commits = ?1", params![commits])?;
        }
        self.connection
            .prepare_cached("COMMIT")
            .and_then(|mut commit| commit.execute([]))
            .map_err(fault)?;
        if changed {
            self.commits += 1;
        }
        Ok(changed.then_some(self.commits))
    }

    /// Rolls a transaction back.
    pub(crate) fn roll_back(&mut self) -> Result<(), StoreFault> {
        self.flights.forget();
        if self.connection.is_autocommit() {
            return Ok(());
        }
        self.connection.execute_batch("ROLLBACK").map_err(fault)
    }

    /// Measures the files.
    pub(crate) fn measure(&self) -> Result<DiskUse, StoreFault> {
        let free = self
            .connection
            .pragma_query_value(None, "freelist_count", |row| row.get::<_, i64>(0))
            .map_err(fault)?;
        let bytes_of = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
        Ok(DiskUse {
            database_bytes: bytes_of(&self.path),
            free_bytes: unsigned(free).saturating_mul(self.page_bytes),
            log_bytes: bytes_of(&log::beside(&self.path, "-wal")),
            pinned_log_bytes: self.pinned.get(),
            uncopied_log_bytes: self.uncopied.get(),
        })
    }

    /// Writes the database anew if that gives much room back to the disk or changes the size of its pages, and if so little is in use
    /// that the host starts without delay. A failure is only logged.
    pub(crate) fn shrink(&mut self) {
        let Ok(disk) = self.measure() else { return };
        let left = disk.database_bytes.saturating_sub(disk.free_bytes);
        let is_worth = disk.free_bytes >= WORTH_SHRINKING || self.has_other_pages();
        if !is_worth || left > QUICKLY_WRITTEN {
            return;
        }
        // A database this small needs no file beside it, for which there may be no room.
        let shrunk = self.keep_in_memory(true).and_then(|()| self.compact());
        let shrunk = shrunk.and(self.keep_in_memory(false));
        match shrunk {
            Ok(()) => tracing::info!(
                free_bytes = disk.free_bytes,
                "the database was written anew, without the room of former messages"
            ),
            Err(StoreFault { cause, .. }) => {
                tracing::warn!(%cause, "the database could not be written anew: it is as it was");
            }
        }
    }

    fn keep_in_memory(&self, is: bool) -> Result<(), StoreFault> {
        let place = if is { 2 } else { 0 };
        self.connection.pragma_update(None, "temp_store", place).map_err(fault)
    }

    /// Returns whether the pages have another size than those of a new file.
    fn has_other_pages(&self) -> bool {
        self.page_bytes != unsigned(schema::PAGE_BYTES)
    }

    /// Writes the database anew without its empty pages, and with pages of the size that new files have. No other process has it open,
    /// and no transaction is under way.
    pub(crate) fn compact(&mut self) -> Result<(), StoreFault> {
        // With a write-ahead log the pages keep their size. Without it SQLite keeps the former pages in a journal until it is done.
        let is_plain = self.has_other_pages() && format::set_journal(&self.connection, "delete").map_err(fault)?;
        let written = self.write_anew(is_plain);
        if is_plain && !format::set_journal(&self.connection, "wal").map_err(fault)? {
            return Err(fault(format::no_log()));
        }
        written?;
        self.watch_log().map_err(fault)?;
        // The file gets shorter when the log is copied into it.
        self.connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .map_err(fault)
    }

    fn write_anew(&self, with_other_pages: bool) -> Result<(), StoreFault> {
        if with_other_pages {
            self.connection
                .pragma_update(None, "page_size", schema::PAGE_BYTES)
                .map_err(fault)?;
        }
        self.connection.execute_batch("VACUUM").map_err(fault)
    }

    /// Begins a copy of the database in a new file, in place of one that nobody waits for. Returns whether there is none that somebody
    /// waits for.
    pub(crate) fn begin_copy(&mut self, path: &Path, wanted: &Arc<()>) -> Result<bool, StoreFault> {
        self.drop_unwanted_copy();
        if self.copy.is_some() {
            return Ok(false);
        }
        #[expect(
            unsafe_code,
            reason = "a copy and the connection that it is made of live in one value"
        )]
        // SAFETY: the field with the copy is dropped before the field with the connection, which is never replaced, and each use of
        // either takes this value.
        let begun = unsafe { OnlineCopy::begin(&self.connection, path, wanted) };
        self.copy = Some(begun.map_err(fault)?);
        Ok(true)
    }

    /// Ends a copy that nobody waits for any more.
    pub(crate) fn drop_unwanted_copy(&mut self) {
        self.copy.take_if(|copy| !copy.is_wanted());
    }

    /// Returns whether the next step of the copy may be the last one.
    pub(crate) fn is_copy_nearly_whole(&self) -> bool {
        self.copy.as_ref().is_some_and(OnlineCopy::is_nearly_whole)
    }

    /// Does a step of the copy, between two transactions, and ends the copy if it is whole or has failed. Returns `None` if there is no
    /// copy.
    pub(crate) fn step_copy(&mut self) -> Result<Option<CopyProgress>, StoreFault> {
        let Some(copy) = &mut self.copy else { return Ok(None) };
        let done = copy.step(self.page_bytes).map_err(fault);
        if !matches!(done, Ok(CopyProgress { is_whole: false, .. })) {
            self.copy = None;
        }
        done.map(Some)
    }

    /// Learns the size of the pages, and has the log copied into the database when it is long.
    fn watch_log(&mut self) -> rusqlite::Result<()> {
        let page_bytes = self
            .connection
            .pragma_query_value(None, "page_size", |row| row.get::<_, i64>(0))?;
        self.page_bytes = unsigned(page_bytes);
        let hook = log::copy_and_warn(
            &self.path,
            self.page_bytes,
            [self.pinned.clone(), self.uncopied.clone()],
        );
        self.connection.wal_hook(Some(hook))
    }

    /// Copies the write-ahead log into the database and empties it, if no other tool is reading.
    pub(crate) fn checkpoint(&mut self) {
        // So that an operator may delete the newest message by hand while no host runs.
        let count = format::note_commits(&self.connection, self.commits);
        if let Err(error) = count {
            tracing::debug!(%error, "the number of the last transaction stays in the row of the newest message");
        }
        let checkpoint = self
            .connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        if let Err(error) = checkpoint {
            tracing::debug!(%error, "the write-ahead log stays for the next start");
        }
    }
}
