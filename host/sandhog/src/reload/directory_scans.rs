//! The scans of the plugin directory: one at a time, at intervals that bound their cost, and the log about what they find.
//!
//! Invariant: a scan is a task of its own, so that a directory that hangs holds up nothing else. Knows nothing of versions.

use std::{collections::BTreeSet, io, time::Duration};

use tokio::{task::JoinSet, time::Instant};

use super::joined;
use crate::{
    plugin_dir::{DirectoryScan, PluginDir},
    watcher::POLL_INTERVAL,
};

/// The least time between two scans, whatever changes.
const MIN_BETWEEN_SCANS: Duration = Duration::from_millis(100);

/// The scan under way, if there is one, and what the last one found.
#[derive(Debug)]
pub(crate) struct DirectoryScans {
    directory: PluginDir,
    /// At most one.
    under_way: JoinSet<FinishedScan>,
    started_at: Instant,
    next_at: Instant,
    /// The reason why the last scan could not read the directory.
    unreadable: Option<String>,
    passed_over: BTreeSet<String>,
}

/// The answer of one scan.
#[derive(Debug)]
pub(crate) struct FinishedScan {
    found: io::Result<DirectoryScan>,
    took: Duration,
}

impl DirectoryScans {
    /// Reads nothing yet.
    pub(crate) fn new(directory: PluginDir) -> Self {
        Self {
            directory,
            under_way: JoinSet::new(),
            started_at: Instant::now(),
            next_at: Instant::now(),
            unreadable: None,
            passed_over: BTreeSet::new(),
        }
    }

    /// Starts a scan, unless one is under way.
    pub(crate) fn start(&mut self) {
        if self.under_way.is_empty() {
            self.started_at = Instant::now();
            let directory = self.directory.clone();
            self.under_way.spawn_blocking(move || {
                let started = Instant::now();
                let found = directory.scan();
                FinishedScan {
                    found,
                    took: started.elapsed(),
                }
            });
        }
    }

    /// Waits for the scan under way; `None` if there is none.
    ///
    /// # Cancel safety
    ///
    /// Safe: the answer of the scan is kept.
    pub(crate) async fn next(&mut self) -> Option<FinishedScan> {
        self.under_way.join_next().await.map(joined)
    }

    pub(crate) fn are_idle(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Returns when the last scan started. A file that has been gone since before then does not exist.
    pub(crate) fn started_at(&self) -> Instant {
        self.started_at
    }

    /// Returns the earliest time of the next scan.
    pub(crate) fn not_before(&self) -> Instant {
        self.next_at
    }

    /// Returns the latest time of the next scan, if no event comes: events may have been lost.
    pub(crate) fn poll_at(&self) -> Instant {
        self.started_at + POLL_INTERVAL
    }

    /// Returns whether the last scan has read the directory, and no other is under way.
    pub(crate) fn are_current(&self) -> bool {
        self.under_way.is_empty() && self.unreadable.is_none()
    }

    /// Takes the answer of a scan, and logs what has changed since the one before.
    ///
    /// # Errors
    ///
    /// The reason why the directory can't be read.
    pub(crate) fn take(&mut self, finished: FinishedScan, now: Instant) -> Result<DirectoryScan, String> {
        let FinishedScan { found, took } = finished;
        // At most a fifth of a core, however large the directory is and whatever happens in it.
        self.next_at = now + took.saturating_mul(4).clamp(MIN_BETWEEN_SCANS, POLL_INTERVAL);
        let scan = found.map_err(|error| self.note_unreadable(&error))?;
        if self.unreadable.take().is_some() {
            let directory = self.directory.path().display();
            tracing::info!(%directory, "the plugin directory can be read again");
        }
        for what in scan.passed_over.difference(&self.passed_over) {
            tracing::warn!(what, "an entry of the plugin directory is passed over");
        }
        self.passed_over.clone_from(&scan.passed_over);
        Ok(scan)
    }

    fn note_unreadable(&mut self, error: &io::Error) -> String {
        let directory = self.directory.path().display();
        let reason = error.to_string();
        if self.unreadable.as_ref() == Some(&reason) {
            tracing::debug!(%directory, error = reason, "the plugin directory still can't be read");
        } else {
            // The handlers go on: a directory that can't be read is not an order to stop them.
            tracing::error!(%directory, error = reason, "the plugin directory can't be read; trying again until it can");
            self.unreadable = Some(reason.clone());
        }
        reason
    }

    /// Ends the scan under way.
    pub(crate) fn abort(&mut self) {
        self.under_way.abort_all();
    }
}
