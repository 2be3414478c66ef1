//! A copy of the store's files while the store works.
//!
//! Invariant: a copy is whole or an error. It has every transaction that was acknowledged before the copy was asked for, and a commit
//! high-water mark of its own, so that a store opens it without any more ado.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{
    SimpleStore, StoreEngine,
    high_water_mark::CommitHighWaterMark,
    open::{DATABASE, HIGH_WATER_MARK},
    sqlite::SqliteRows,
    writer::{CopyFailure, CopyTicket, Writer},
};
use sandhog_queue::Cause;

/// After so many bytes the copy is synced, before there is more for the system to write than it can between two commits.
const SYNC_BYTES: u64 = 16 * 1024 * 1024;
/// The time after which a copy that gets no further, because another tool holds a lock, is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// A copy that had to begin again more often than this is given up: it may never get to its end.
const MAX_RESTARTS: u32 = 8;
/// The shortest time between two steps.
const MIN_REST: Duration = Duration::from_millis(1);

/// A copy of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreCopy {
    /// The number of messages in it, dead letters included.
    pub messages: u64,
    /// The number of the last transaction in it.
    pub commits: u64,
    /// The longest time in which a step kept the store from other work.
    pub longest_step: Duration,
}

/// Why a copy was not made. The store is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The store is in memory.
    #[error("the queues are in memory only, so there is nothing to copy")]
    Ephemeral,
    /// Another copy is being made.
    #[error("another copy of the store is being made: wait until it has ended")]
    Busy,
    /// The store was closed.
    #[error("the store was closed before the copy was whole")]
    Closed,
    /// The store did not stand still for long enough.
    #[error(
        "the copy of the queues had to begin again {restarts} times, because another program writes to queues.db, or because large \
         transactions were undone: end that program or try again when less goes wrong, or stop the host and copy its data directory"
    )]
    Restarted {
        /// How often the copy began again.
        restarts: u32,
    },
    /// A read of the store or a write of the copy failed.
    #[error("the queues can't be copied to {}: see that the disk has room for them twice", path.display())]
    Failed {
        /// The file of the copy.
        path: PathBuf,
        /// The error of the disk or of `SQLite`.
        #[source]
        source: Cause,
    },
}

impl SimpleStore {
    /// Copies the files of the store into a directory that is there and has none of them. The store works meanwhile; no step keeps it
    /// for longer than some milliseconds. What was acknowledged before the call is in the copy, and what is acknowledged during the call may
    /// be. A message that is in flight when the copy becomes whole is released in it.
    ///
    /// The files are on the disk, and the caller makes their names durable.
    ///
    /// # Errors
    ///
    /// See [`CopyError`]. The directory may have parts of a copy.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the copy. The directory has parts of it.
    pub async fn copy_to(&self, directory: &Path) -> Result<StoreCopy, CopyError> {
        let StoreEngine::Durable(writer) = &self.inner.engine else {
            return Err(CopyError::Ephemeral);
        };
        let path = directory.join(DATABASE);
        let failed = |error: io::Error| CopyError::Failed {
            path: path.clone(),
            source: Arc::new(error),
        };
        let database = path.clone();
        let made = tokio::task::spawn_blocking(move || make(&database)).await;
        made.map_err(io::Error::other).flatten().map_err(failed)?;
        let copy = copy_pages(writer, &path).await?;
        let directory = directory.to_owned();
        let finished = tokio::task::spawn_blocking(move || finish(&directory, copy.commits)).await;
        finished.map_err(io::Error::other).flatten().map_err(failed)?;
        Ok(copy)
    }
}

async fn copy_pages(writer: &Writer, path: &Path) -> Result<StoreCopy, CopyError> {
    let failed = |failure| match failure {
        CopyFailure::Busy => CopyError::Busy,
        CopyFailure::Ended => CopyError::Closed,
        CopyFailure::Store(source) => CopyError::Failed {
            path: path.to_owned(),
            source,
        },
    };
    let ticket = CopyTicket::begin(writer, path.to_owned()).await.map_err(failed)?;
    let mut longest_step = Duration::ZERO;
    let mut unsynced = 0;
    let mut advanced_at = Instant::now();
    loop {
        let standing = ticket.step().await.map_err(failed)?;
        let progress = standing.progress;
        longest_step = longest_step.max(progress.took);
        if progress.is_whole {
            return Ok(StoreCopy {
                messages: standing.messages,
                commits: standing.commits,
                longest_step,
            });
        }
        bound_restarts(progress.restarts)?;
        if progress.bytes > 0 {
            advanced_at = Instant::now();
        } else if advanced_at.elapsed() > PATIENCE {
            return Err(failed(CopyFailure::Store(Arc::new(io::Error::other(
                "another tool holds a lock on the database",
            )))));
        }
        unsynced += progress.bytes;
        if unsynced >= SYNC_BYTES {
            unsynced = 0;
            sync(path.to_owned())
                .await
                .map_err(|error| failed(CopyFailure::Store(Arc::new(error))))?;
        }
        // The others get as much time as the copy.
        sleep(progress.took.max(MIN_REST)).await;
    }
}

fn bound_restarts(restarts: u32) -> Result<(), CopyError> {
    if restarts > MAX_RESTARTS {
        return Err(CopyError::Restarted { restarts });
    }
    Ok(())
}

async fn sync(path: PathBuf) -> io::Result<()> {
    let sync = move || File::open(path)?.sync_data();
    tokio::task::spawn_blocking(sync).await.map_err(io::Error::other)?
}

/// Makes the files of a store of a copy that is whole.
fn finish(directory: &Path, commits: u64) -> io::Result<()> {
    let database = directory.join(DATABASE);
    SqliteRows::release_copied(&database).map_err(|fault| io::Error::other(fault.cause))?;
    File::open(&database)?.sync_all()?;
    let mark = directory.join(HIGH_WATER_MARK);
    let (mut file, _) = CommitHighWaterMark::open(&mark)?;
    file.note(commits);
    File::open(&mark)?.sync_all()?;
    // Whoever copies the files over those of an older store replaces its log, which does not belong to this database.
    make(&directory.join(format!("{DATABASE}-wal")))?.sync_all()
}

/// Makes an empty file.
fn make(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests;
