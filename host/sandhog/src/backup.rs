//! A copy of the data directory of a host that runs: its queues, and the versions of its handlers.
//!
//! The copy is made in a directory beside the files, and read out as an archive. Invariants: one is made at a time, each in a directory
//! of its own, so that what an abandoned one still does meets no other; nobody but the host chooses where on its machine; and one that
//! nobody reads any more is removed. Knows nothing of HTTP.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::task::TaskTracker;

use crate::{halts, versions::copy_versions};
use sandhog_queue::{QueueError, machine_clock::wall_ms, printable::chain};
use sandhog_simple::{CopyError, SimpleStore};

mod archive;

use archive::write_archive;

/// The directory below the data directory in which copies are made, each in a directory with its number.
const STAGING: &str = "backup.tmp";
/// The directory of the versions.
const VERSIONS: &str = "versions";
/// The last file of an archive that is whole.
pub const FACTS: &str = "backup.json";
/// The last file of an archive that could not be made: the reason, as a text.
pub const FAILED: &str = "FAILED";
/// The form of archives.
pub(crate) const FORMAT: u32 = 1;
/// The room that a copy leaves on the disk (64 MiB): the queues need it more.
const MIN_FREE_BYTES: u64 = 64 * 1024 * 1024;
/// The pieces of an archive that wait for the reader, each of at most 64 KiB.
const WAITING: usize = 8;

/// What a backup says about itself, in its file `backup.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct BackupFacts {
    /// The form of the archive.
    pub format: u32,
    /// The version of sandhog that made it.
    pub made_by: String,
    /// When it was whole, in milliseconds since 1970-01-01T00:00:00Z.
    pub made_at_ms: u64,
    /// The messages in it, dead letters included.
    pub messages: u64,
    /// The bytes of its files.
    pub bytes: u64,
    /// The longest time in which a step of the copy kept the queues from other work, in microseconds.
    pub longest_step_us: u64,
}

/// Why a backup is not begun.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupRefused {
    /// The host runs with `--ephemeral`.
    #[error("this host keeps its queues in memory (--ephemeral): there is nothing to back up")]
    Ephemeral,
    /// Another backup is being made.
    #[error("another backup of this host is being made: wait until it has ended")]
    Busy,
    /// The copy would fill the disk.
    #[error(
        "the disk of the data directory has {free} bytes left, and a backup needs {needed} for its copy: make room, or stop the host \
         and copy its data directory"
    )]
    NoRoom {
        /// The bytes that are left.
        free: u64,
        /// The bytes that are needed.
        needed: u64,
    },
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] QueueError),
    /// The directory for the copy can't be made.
    #[error("can't make {} for the copy", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// The error of the disk.
        #[source]
        source: io::Error,
    },
}

/// Makes the backups of a host. The default is that of a host without a data directory.
#[derive(Debug, Default)]
pub struct BackupDesk {
    source: Option<BackupSource>,
}

#[derive(Debug)]
struct BackupSource {
    store: SimpleStore,
    data: PathBuf,
    one: Arc<Semaphore>,
    /// The number of the last copy.
    last: AtomicU64,
}

impl BackupDesk {
    /// Makes backups of a store and of what lies beside it in its directory, if it has one.
    pub fn new(store: SimpleStore, data: Option<PathBuf>) -> Self {
        let source = data.map(|data| BackupSource {
            store,
            data,
            one: Arc::new(Semaphore::new(1)),
            last: AtomicU64::new(0),
        });
        Self { source }
    }

    /// Removes what backups left in a data directory that were cut short by the end of the host. Blocks on the disk.
    pub fn remove_left(data: &Path) {
        remove(&data.join(STAGING));
    }

    /// Begins a backup as one of `tasks`, and returns the bytes of its archive. It ends when nobody reads them.
    ///
    /// # Errors
    ///
    /// See [`BackupRefused`]. What fails later is in the archive.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn begin(&self, tasks: &TaskTracker) -> Result<mpsc::Receiver<Bytes>, BackupRefused> {
        let source = self.source.as_ref().ok_or(BackupRefused::Ephemeral)?;
        let permit = Arc::clone(&source.one).try_acquire_owned();
        let permit = permit.map_err(|_taken| BackupRefused::Busy)?;
        let disk = source.store.disk_use().await?.ok_or(BackupRefused::Ephemeral)?;
        let needed = disk
            .database_bytes
            .saturating_add(disk.log_bytes)
            .saturating_add(MIN_FREE_BYTES);
        let data = source.data.clone();
        let number = source.last.fetch_add(1, Ordering::Relaxed) + 1;
        let staging = tokio::task::spawn_blocking(move || StagedCopy::make(data, number, needed, permit)).await;
        let staging = staging.map_err(|error| BackupRefused::Io {
            path: source.data.clone(),
            source: io::Error::other(error),
        })??;
        let (pieces, archive) = mpsc::channel(WAITING);
        let store = source.store.clone();
        tasks.spawn(make(Arc::new(staging), store, pieces));
        Ok(archive)
    }
}

/// Makes a copy and gives it to its reader. The copy is removed at the end, whatever happens.
async fn make(staging: Arc<StagedCopy>, store: SimpleStore, pieces: mpsc::Sender<Bytes>) {
    let copied = tokio::select! {
        copied = copy(&staging, &store) => copied,
        () = pieces.closed() => Err("nobody waits for it".to_owned()),
    };
    match &copied {
        Ok(facts) => tracing::info!(
            messages = facts.messages,
            bytes = facts.bytes,
            longest_step_us = facts.longest_step_us,
            "a backup is copied"
        ),
        Err(why) => tracing::warn!(why, "a backup could not be made; the queues are as they were"),
    }
    // What the host still does in the directory owns it, too, and the last one removes it. What the store's threads still write there is
    // removed by the next backup or start.
    let written = tokio::task::spawn_blocking(move || write_archive(&staging.path, copied, pieces)).await;
    match written.map_err(io::Error::other).flatten() {
        Ok(()) => tracing::info!("a backup was read to its end"),
        Err(error) => tracing::warn!(%error, "a backup was not read to its end"),
    }
}

async fn copy(staging: &Arc<StagedCopy>, store: &SimpleStore) -> Result<BackupFacts, String> {
    let copied = store
        .copy_to(&staging.path)
        .await
        .map_err(|error: CopyError| chain(&error))?;
    let staging = Arc::clone(staging);
    let rest = move || -> io::Result<u64> {
        let StagedCopy { data, path, .. } = &*staging;
        copy_versions(&data.join(VERSIONS), &path.join(VERSIONS))?;
        halts::copy(data, path)?;
        archive::bytes_below(path)
    };
    let bytes = tokio::task::spawn_blocking(rest)
        .await
        .map_err(io::Error::other)
        .flatten();
    Ok(BackupFacts {
        format: FORMAT,
        made_by: concat!("sandhog ", env!("CARGO_PKG_VERSION")).to_owned(),
        made_at_ms: wall_ms(),
        messages: copied.messages,
        bytes: bytes.map_err(|error| format!("the versions and pauses can't be copied: {error}"))?,
        longest_step_us: u64::try_from(copied.longest_step.as_micros()).unwrap_or(u64::MAX),
    })
}

/// The directory in which a copy is made. Dropping it removes it, and lets the next backup begin.
#[derive(Debug)]
struct StagedCopy {
    data: PathBuf,
    path: PathBuf,
    _one: OwnedSemaphorePermit,
}

impl StagedCopy {
    fn make(data: PathBuf, number: u64, needed: u64, one: OwnedSemaphorePermit) -> Result<Self, BackupRefused> {
        let all = data.join(STAGING);
        // No other is being made, so what is there was left.
        remove(&all);
        let path = all.join(number.to_string());
        let failed = |source: io::Error| BackupRefused::Io {
            path: path.clone(),
            source,
        };
        let disk = rustix::fs::statvfs(&data).map_err(|error| failed(error.into()))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free < needed {
            return Err(BackupRefused::NoRoom { free, needed });
        }
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(failed)?;
        Ok(Self { data, path, _one: one })
    }
}

impl Drop for StagedCopy {
    fn drop(&mut self) {
        remove(&self.path);
        remove(&self.data.join(STAGING));
    }
}

fn remove(path: &Path) {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "the copy of a backup can't be removed; the next start tries again");
        }
        Ok(()) | Err(_) => {}
    }
}

#[cfg(test)]
mod tests;
