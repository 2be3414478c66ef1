//! The connection: how the file is opened, and how a transaction begins and ends.
//!
//! The fields of [`SqliteRows`] are private here, so no other file reaches the connection: a statement runs
//! through one of the two doors of `database/table.rs`.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig, params};

use super::{
    super::{row::StoreFault, rows::DiskUse, schema},
    arrivals::Arrivals,
    failing::fault,
    log::{self, PinnedBytes},
    read::{signed, unsigned},
};

mod table;

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
    connection: Connection,
    /// The number of transactions in the file that changed something.
    commits: u64,
    /// The transaction under way has written something.
    changed: bool,
    arrivals: Arrivals,
    path: PathBuf,
    page_bytes: u64,
    pinned: PinnedBytes,
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
        let mut connection = match vfs {
            Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs)?,
            None => Connection::open_with_flags(path, flags)?,
        };
        connection.busy_timeout(BUSY)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        // A store that failed must leave its log alone for the next run; an orderly end checkpoints by itself.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        // Every plan is forced anyway, and without this option some statements are compiled anew whenever other values are bound.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        connection.pragma_update(None, "cell_size_check", true)?;
        connection.pragma_update(None, "cache_size", -8192)?;
        let fresh = examine(&connection)?;
        let mode = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get::<_, String>(0))?;
        if mode != "wal" {
            let why = format!("the file system does not support SQLite's write-ahead log (journal_mode is {mode})");
            let error = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
            return Err(OpenRefusal::Failed(rusqlite::Error::SqliteFailure(error, Some(why))));
        }
        connection.pragma_update(None, "synchronous", "full")?;
        // On macOS a plain fsync leaves data in the drive's cache; elsewhere these do nothing.
        connection.pragma_update(None, "fullfsync", true)?;
        connection.pragma_update(None, "checkpoint_fullfsync", true)?;
        connection.pragma_update(None, "journal_size_limit", LOG_BYTES)?;
        let page_bytes = connection.pragma_query_value(None, "page_size", |row| row.get::<_, i64>(0))?;
        let page_bytes = unsigned(page_bytes);
        let pinned = PinnedBytes::default();
        connection.wal_hook(Some(log::copy_and_warn(path, page_bytes, pinned.clone())))?;
        if fresh {
            let create = format!(
                "BEGIN IMMEDIATE; {} {} {} {} PRAGMA application_id = {}; PRAGMA user_version = {}; COMMIT",
                schema::CREATE,
                schema::PROCESSED,
                schema::KEYVALUE,
                schema::CLOCK,
                schema::APPLICATION_ID,
                schema::VERSION
            );
            connection.execute_batch(&create)?;
        } else {
            // A file of this version may lack these tables, which came later.
            connection.execute_batch(schema::PROCESSED)?;
            connection.execute_batch(schema::KEYVALUE)?;
            connection.execute_batch(schema::CLOCK)?;
        }
        let commits = connection.query_row("SELECT commits FROM store", [], |row| row.get::<_, i64>(0))?;
        Ok(Self {
            connection,
            commits: unsigned(commits),
            changed: false,
            arrivals: Arrivals::default(),
            path: path.to_owned(),
            page_bytes,
            pinned,
        })
    }

    /// Returns the number of the last transaction that changed something.
    pub(crate) fn commits(&self) -> u64 {
        self.commits
    }

    /// Returns whether the transaction under way has written anything, or will once its arrivals are written.
    pub(crate) fn has_changed(&self) -> bool {
        self.changed || !self.arrivals.is_empty()
    }

    /// Starts a transaction.
    pub(crate) fn begin(&mut self) -> Result<(), StoreFault> {
        self.changed = false;
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
        if changed {
            let commits = signed(self.commits + 1);
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
        })
    }

    /// Gives the room of a former backlog back to the disk, if that is much and so little is in use that the host starts without
    /// delay. A failure is only logged.
    pub(crate) fn shrink(&self) {
        let Ok(disk) = self.measure() else { return };
        let left = disk.database_bytes.saturating_sub(disk.free_bytes);
        if disk.free_bytes < WORTH_SHRINKING || left > QUICKLY_WRITTEN {
            return;
        }
        // A database this small needs no file beside it, for which there may be no room.
        let in_memory = |is: bool| {
            self.connection
                .pragma_update(None, "temp_store", if is { 2 } else { 0 })
        };
        let shrunk = in_memory(true).map_err(fault).and_then(|()| self.compact());
        let shrunk = shrunk.and(in_memory(false).map_err(fault));
        match shrunk {
            Ok(()) => tracing::info!(
                free_bytes = disk.free_bytes,
                "the room of a former backlog was given back to the disk"
            ),
            Err(StoreFault { cause, .. }) => {
                tracing::warn!(%cause, "the room of a former backlog could not be given back to the disk");
            }
        }
    }

    /// Writes the database anew without its empty pages. No other process has it open, and no transaction is under way.
    pub(crate) fn compact(&self) -> Result<(), StoreFault> {
        self.connection.execute_batch("VACUUM").map_err(fault)?;
        // The file gets shorter when the log is copied into it.
        self.connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .map_err(fault)
    }

    /// Copies the write-ahead log into the database and empties it, if no other tool is reading.
    pub(crate) fn checkpoint(&mut self) {
        let checkpoint = self
            .connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        if let Err(error) = checkpoint {
            tracing::debug!(%error, "the write-ahead log stays for the next start");
        }
    }
}

/// Refuses a file that is not a store of sandhog. Returns whether the file is empty.
fn examine(connection: &Connection) -> Result<bool, OpenRefusal> {
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let application = pragma("application_id")?;
    let version = pragma("user_version")?;
    let objects = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?;
    match (application, version, objects) {
        (0, 0, 0) => Ok(true),
        (schema::APPLICATION_ID, schema::VERSION, _) => Ok(false),
        (schema::APPLICATION_ID, other, _) => Err(OpenRefusal::Version(other)),
        _ => Err(OpenRefusal::Foreign),
    }
}
