//! Opening the durable store: locking its directory, and refusing files that can't be trusted.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::{
    high_water_mark::{CommitHighWaterMark, RecordedMark},
    isolation::SharedIsolation,
    peek_reader::PeekReader,
    place,
    processed::{ProcessedMessageSettings, SharedProcessedMessages},
    row::StoreFault,
    rules::StoreRules,
    schema,
    sqlite::{OpenRefusal, SqliteRows},
    writer::{Writer, WriterState},
};
use sandhog_queue::machine_clock::MachineClock;

/// The database.
pub(crate) const DATABASE: &str = "queues.db";
/// The commit high-water mark.
pub(crate) const HIGH_WATER_MARK: &str = "queues.commits";
/// The file whose lock marks the directory as in use.
const LOCK: &str = "queues.lock";

/// The place of a durable store, and how much the store remembers.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// The data directory. The store makes it, for its owner only, if it is not there.
    pub directory: PathBuf,
    /// The name of a registered `SQLite` VFS to do all database I/O through; `None` for the system's own.
    pub vfs: Option<String>,
    /// How much the processed-message store remembers.
    pub processed_messages: ProcessedMessageSettings,
    /// The clocks; by default those of the machine.
    pub clock: MachineClock,
}

impl StoreOptions {
    /// A store in this directory, with defaults for everything else.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            vfs: None,
            processed_messages: ProcessedMessageSettings::default(),
            clock: MachineClock::default(),
        }
    }
}

/// Why a durable store was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The directory or a file in it can't be made, read or written.
    #[error("can't use {path} for the queue store")]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process, or another store of this one, has it open.
    #[error(
        "the queue store in {directory} is in use by another process: stop that one, or choose another data directory"
    )]
    InUse {
        /// The data directory.
        directory: PathBuf,
    },
    /// The file was made by another version of sandhog.
    #[error(
        "{path} has format version {found}, and this version of sandhog reads version {supported}: use the version \
         that made it, or drain the queues there first"
    )]
    Version {
        /// The database.
        path: PathBuf,
        /// The version of the file.
        found: i64,
        /// The version that this program reads.
        supported: i64,
    },
    /// The file is an `SQLite` database of another program.
    #[error("{path} is not a queue store of sandhog: move it away, or choose another data directory")]
    Foreign {
        /// The database.
        path: PathBuf,
    },
    /// The database is damaged.
    #[error("{path} is damaged: restore it from a backup, or salvage it with `sqlite3 {path} .recover`")]
    Damaged {
        /// The database.
        path: PathBuf,
        /// The damage that `SQLite` found.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Acknowledged transactions are missing.
    #[error(
        "acknowledged work is missing from {path}: it holds {found} transactions, and {mark} knows of {acknowledged}. \
         An older copy was put in its place, or it or its -wal file was damaged or deleted. Put back the files that \
         belong together, or delete {mark} to go on without what is missing"
    )]
    Missing {
        /// The database.
        path: PathBuf,
        /// The commit high-water mark.
        mark: PathBuf,
        /// The number of the last transaction in the database.
        found: u64,
        /// The number of the last one that was acknowledged.
        acknowledged: u64,
    },
    /// The database can't be read or written.
    #[error("can't open the queue store {path}")]
    Failed {
        /// The database.
        path: PathBuf,
        /// The error of `SQLite`.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A store that is open.
pub(crate) struct OpenedStore {
    pub(crate) writer: Writer,
    pub(crate) peeks: PeekReader,
    pub(crate) processed: SharedProcessedMessages,
    pub(crate) isolation: SharedIsolation,
}

/// Opens the store in a directory and starts its thread.
pub(crate) fn open(options: &StoreOptions) -> Result<OpenedStore, OpenError> {
    let directory = &options.directory;
    let StoreFiles {
        mut rows,
        mut mark,
        lock,
        path,
    } = open_files(options)?;
    rows.shrink();
    let mut rules = StoreRules::new(rows, true, options.processed_messages, options.clock.clone());
    restore(&mut rules, &mut mark).map_err(|fault| from_fault(&path, fault))?;
    let processed = rules.processed().clone();
    let isolation = rules.shared_isolation().clone();
    let state = WriterState {
        rules,
        mark,
        directory: directory.clone(),
        lock,
    };
    let started = Writer::start(state).map_err(|source| OpenError::Io {
        path: directory.clone(),
        source,
    });
    Ok(OpenedStore {
        writer: started?,
        peeks: PeekReader::new(path, options.vfs.clone()),
        processed,
        isolation,
    })
}

/// Gives the room of messages that are gone back to the disk. Returns the size of the database in bytes, before and after.
pub(crate) fn compact(options: &StoreOptions) -> Result<(u64, u64), OpenError> {
    let path = options.directory.join(DATABASE);
    // No store is made just to be compacted.
    if let Err(source) = std::fs::metadata(&path) {
        return Err(OpenError::Io { path, source });
    }
    let StoreFiles {
        mut rows, path, lock, ..
    } = open_files(options)?;
    let measure = |rows: &SqliteRows| rows.measure().map_err(|fault| from_fault(&path, fault));
    let before = measure(&rows)?.database_bytes;
    rows.compact().map_err(|fault| from_fault(&path, fault))?;
    let after = measure(&rows)?.database_bytes;
    drop(lock);
    Ok((before, after))
}

/// The open files of a store that no thread works on yet.
struct StoreFiles {
    rows: SqliteRows,
    mark: CommitHighWaterMark,
    lock: File,
    path: PathBuf,
}

/// Opens the files of a store, if they are its own and whole, and no other process has them open.
fn open_files(options: &StoreOptions) -> Result<StoreFiles, OpenError> {
    let directory = &options.directory;
    make_directory(directory).map_err(|source| OpenError::Io {
        path: directory.clone(),
        source,
    })?;
    let of_database = ["", "-wal", "-shm", "-journal"].map(|suffix| format!("{DATABASE}{suffix}"));
    place::examine(
        directory,
        &[of_database.as_slice(), &[HIGH_WATER_MARK.into(), LOCK.into()]].concat(),
    )?;
    let lock = lock(directory)?;
    let path = directory.join(DATABASE);
    let mark_path = directory.join(HIGH_WATER_MARK);
    let existed = path.try_exists().map_err(|source| OpenError::Io {
        path: path.clone(),
        source,
    })?;
    let in_mark = |source| OpenError::Io {
        path: mark_path.clone(),
        source,
    };
    let (mark, recorded) = CommitHighWaterMark::open(&mark_path).map_err(in_mark)?;
    let acknowledged = match recorded {
        RecordedMark::Commits(commits) => commits,
        RecordedMark::Nothing => {
            if existed {
                tracing::warn!(mark = %mark_path.display(), "there is no commit high-water mark: missing work would go unnoticed this once");
            }
            0
        }
    };
    let missing = |found| OpenError::Missing {
        path: path.clone(),
        mark: mark_path.clone(),
        found,
        acknowledged,
    };
    // SQLite would delete the log beside an empty file, and with it work that may still be saved.
    let bytes_of = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let log = directory.join(format!("{DATABASE}-wal"));
    if bytes_of(&path) == 0 && (acknowledged > 0 || bytes_of(&log) > 0) {
        return Err(missing(0));
    }
    make_private(&path).map_err(|source| OpenError::Io {
        path: path.clone(),
        source,
    })?;
    let rows = SqliteRows::open(&path, options.vfs.as_deref()).map_err(|refusal| refused(&path, refusal))?;
    if rows.commits() < acknowledged {
        return Err(missing(rows.commits()));
    }
    Ok(StoreFiles { rows, mark, lock, path })
}

/// Restores the state in one transaction, like those of the writer's thread.
fn restore(rules: &mut StoreRules<SqliteRows>, mark: &mut CommitHighWaterMark) -> Result<(), StoreFault> {
    rules.rows.begin()?;
    rules.with_any_rows().restore()?;
    rules.rows.commit()?;
    mark.note(rules.rows.commits());
    Ok(())
}

fn make_directory(directory: &Path) -> io::Result<()> {
    let missing = directory
        .ancestors()
        .take_while(|path| !path.as_os_str().is_empty() && !path.is_dir());
    let missing = missing.count();
    if missing == 0 {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    // The entry of each directory must be as durable as the files in it.
    for made in directory.ancestors().take(missing) {
        sync_entry(made)?;
    }
    Ok(())
}

/// Makes the existence of a file or directory durable.
fn sync_entry(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// Makes the database file, readable for its owner only, if it is not there. `SQLite` gives its other files the same mode.
fn make_private(path: &Path) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    Ok(())
}

fn lock(directory: &Path) -> Result<File, OpenError> {
    let path = directory.join(LOCK);
    let opened = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path);
    let file = opened.map_err(|source| OpenError::Io {
        path: path.clone(),
        source,
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse {
            directory: directory.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(OpenError::Io { path, source }),
    }
}

fn refused(path: &Path, refusal: OpenRefusal) -> OpenError {
    let path = path.to_owned();
    match refusal {
        OpenRefusal::Version(found) => OpenError::Version {
            path,
            found,
            supported: schema::VERSION,
        },
        OpenRefusal::Foreign => OpenError::Foreign { path },
        OpenRefusal::Damaged(source) => OpenError::Damaged {
            path,
            source: source.into(),
        },
        OpenRefusal::Failed(source) => OpenError::Failed {
            path,
            source: source.into(),
        },
    }
}

fn from_fault(path: &Path, fault: StoreFault) -> OpenError {
    OpenError::Failed {
        path: path.to_owned(),
        source: fault.into(),
    }
}
