//! Brings the journal to the disk while the host runs, behind the messages.
//!
//! Invariant: no attempt waits for the disk. An entry is on the disk [`WRITE_EVERY`] and one write after it was made, or falls out of
//! the journal's bounds before.

use std::{convert::Infallible, future::pending, io, path::Path, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::{sleep, timeout};

use super::{
    Journal,
    file::{FILE, JournalFile, OpenedJournal},
};

/// The time from an entry to the write that brings it to the disk with all others that were made meanwhile.
const WRITE_EVERY: Duration = Duration::from_millis(200);

/// The time between two tries while the disk refuses.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// The time that the last write may take.
const LAST_WRITE: Duration = Duration::from_secs(5);

/// Keeps a journal on the disk.
#[derive(Debug)]
pub(crate) struct JournalKeeper {
    journal: Arc<Journal>,
    /// `None` keeps it in memory alone. Locked by threads that may wait for the disk.
    file: Option<Arc<Mutex<JournalFile>>>,
}

impl JournalKeeper {
    /// Keeps a journal in memory alone.
    pub(crate) fn in_memory(journal: Arc<Journal>) -> Self {
        Self { journal, file: None }
    }

    /// Reads what an earlier run has kept in a data directory, and goes on from there. Blocks.
    ///
    /// # Errors
    ///
    /// See [`JournalFile::open`].
    pub(crate) fn open(directory: &Path, journal: Arc<Journal>) -> io::Result<Self> {
        let OpenedJournal { file, damaged, aside } = JournalFile::open(directory, &journal)?;
        if let Some(aside) = aside {
            tracing::error!(
                file = FILE,
                aside = %aside.display(),
                "the file of the journal can't be understood: it is out of the way now, and the journal begins anew"
            );
        }
        if damaged > 0 {
            tracing::warn!(
                entries = damaged,
                file = FILE,
                "entries of the journal can't be understood, and are left out"
            );
        }
        let file = Some(Arc::new(Mutex::new(file)));
        Ok(Self { journal, file })
    }

    /// Returns the journal.
    pub(crate) fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// Brings new entries to the disk, for as long as the future is polled.
    ///
    /// # Cancel safety
    ///
    /// Safe: a write under way ends by itself, and what is left is for [`JournalKeeper::finish`].
    pub(crate) async fn follow(&self) -> Infallible {
        if self.file.is_none() {
            return pending().await;
        }
        let mut failed = false;
        loop {
            if failed {
                sleep(TRY_AGAIN).await;
            } else {
                self.journal.added().await;
                sleep(WRITE_EVERY).await;
            }
            let written = self.write().await;
            // The log has the first failure of a row, and its end.
            match &written {
                Ok(()) if failed => tracing::info!("the journal is on the disk again"),
                Err(error) if !failed => {
                    tracing::error!(%error, file = FILE, "the journal can't be written: until it can, a crash loses the attempts of now");
                }
                Ok(()) | Err(_) => {}
            }
            failed = written.is_err();
        }
    }

    /// Brings what is left to the disk, when nothing is entered any more. A disk that hangs keeps the host no longer than a moment.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub(crate) async fn finish(&self) {
        let why = match timeout(LAST_WRITE, self.write()).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_late) => format!("the disk has not answered for {LAST_WRITE:?}"),
        };
        tracing::warn!(why, file = FILE, "the last entries of the journal may be lost");
    }

    async fn write(&self) -> io::Result<()> {
        let Some(file) = self.file.clone() else {
            return Ok(());
        };
        let journal = Arc::clone(&self.journal);
        let written = tokio::task::spawn_blocking(move || file.lock().follow(&journal)).await;
        written.map_err(io::Error::other)?
    }
}
