//! What dispatchers report about versions, what the listener may see of them, and what it orders.
//!
//! Invariants: only the reload changes a version; of several reports about one version the newest counts, so that nothing here
//! grows with the number of attempts; an order that cannot be taken is refused at once.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};

use super::{SharedTally, VersionHistory, stored_file};
use crate::rollout::{ProbationChange, ProbationProgress, RolloutTerms};

/// The most orders that wait. An operator gives one at a time.
const MAX_ORDERS: usize = 16;

/// What a dispatcher reports about the newest version of its handler.
#[derive(Debug, Clone)]
pub struct ProbationReport {
    /// The number of the version.
    pub number: u64,
    /// How the comparison stands.
    pub progress: ProbationProgress,
    /// What has changed with it.
    pub change: Option<ProbationChange>,
}

/// What the listener may see of the versions of one handler.
#[derive(Debug, Clone, Default)]
pub struct BoardEntry {
    /// All versions that are kept.
    pub history: VersionHistory,
    /// How the newest one compares with its predecessor, if there is one.
    pub progress: Option<ProbationProgress>,
    /// What the newest one has to show, if there is one to compare it with.
    pub terms: Option<RolloutTerms>,
    /// What an operator should know, for people.
    pub note: Option<String>,
    /// The number of the version whose component is in the plugin directory, if it may not serve until it is promoted.
    pub barred_file: Option<u64>,
}

/// What an operator may order about the versions of a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionOrder {
    /// Serve an older version: the given one, or the one before.
    Rollback {
        /// The number of the version.
        to: Option<u64>,
    },
    /// Serve the newest version, on no probation, whatever was found against it.
    Promote {
        /// The number that the version is to have; any if absent.
        version: Option<u64>,
    },
}

/// The reason why an order was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OrderRefused {
    /// No version of such a handler was accepted.
    #[error("no version of such a handler was accepted")]
    NoHandler,
    /// The text says why, and what to do.
    #[error("{0}")]
    Refused(String),
    /// The host stops, or has too many orders to carry out.
    #[error("the host stops, or carries out other orders: try again")]
    Busy,
}

/// Answers an order.
pub type OrderReply = oneshot::Sender<Result<(), OrderRefused>>;

/// An order with the place for its answer.
#[derive(Debug)]
pub struct OrderedVersion {
    /// The name of the handler.
    pub handler: String,
    /// What is ordered.
    pub order: VersionOrder,
    /// The place for the answer.
    pub reply: OrderReply,
}

#[derive(Debug)]
struct ShownVersions {
    entry: BoardEntry,
    /// What is counted of each version just now, by its number.
    tallies: BTreeMap<u64, SharedTally>,
}

/// What is known about the versions of all handlers.
#[derive(Debug)]
pub struct VersionBoard {
    plugins: PathBuf,
    /// The directory of all versions; `None` if none are stored.
    stored: Option<PathBuf>,
    entries: Mutex<BTreeMap<String, ShownVersions>>,
    /// The newest report about each handler that the reload has not seen.
    reports: Mutex<BTreeMap<String, ProbationReport>>,
    reported: Notify,
    orders: mpsc::Sender<OrderedVersion>,
    /// Taken by the reload.
    ordered: Mutex<Option<mpsc::Receiver<OrderedVersion>>>,
}

impl VersionBoard {
    /// Nothing is known yet. `plugins` is the plugin directory.
    pub fn new(plugins: &Path) -> Self {
        let (orders, ordered) = mpsc::channel(MAX_ORDERS);
        Self {
            plugins: std::path::absolute(plugins).unwrap_or_else(|_| plugins.to_owned()),
            stored: None,
            entries: Mutex::default(),
            reports: Mutex::default(),
            reported: Notify::new(),
            orders,
            ordered: Mutex::new(Some(ordered)),
        }
    }

    /// The versions are stored in this directory; `None` if they are not.
    #[must_use]
    pub fn stored_in(self, stored: Option<PathBuf>) -> Self {
        Self { stored, ..self }
    }

    /// Returns where a file of a version of a handler lies, by its digest; `None` if versions are not stored.
    pub fn file(&self, handler: &str, digest: &str) -> Option<PathBuf> {
        Some(stored_file(self.stored.as_ref()?, handler, digest))
    }

    /// Returns whether the files of versions are stored.
    pub fn keeps_files(&self) -> bool {
        self.stored.is_some()
    }

    /// Returns the absolute path of the plugin directory.
    pub fn plugins(&self) -> &Path {
        &self.plugins
    }

    /// Takes a report in place of the one before, unless that one tells of the end of the same probation.
    pub fn report(&self, handler: &str, report: ProbationReport) {
        let mut reports = self.reports.lock();
        let earlier = reports.get(handler).filter(|earlier| earlier.number == report.number);
        let earlier = earlier.and_then(|earlier| earlier.change.clone());
        let is_news = report.change.is_some();
        let change = match (earlier, report.change) {
            (Some(worse @ ProbationChange::Worse(_)), _) => Some(worse),
            (earlier, None) => earlier,
            (_, change) => change,
        };
        reports.insert(handler.to_owned(), ProbationReport { change, ..report });
        drop(reports);
        // How the comparison stands is read when somebody asks for it.
        if is_news {
            self.reported.notify_one();
        }
    }

    /// Waits for reports of changes. For one task.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub(crate) async fn reported(&self) {
        self.reported.notified().await;
    }

    /// Takes the reports since the last call.
    pub(crate) fn take_reports(&self) -> BTreeMap<String, ProbationReport> {
        std::mem::take(&mut *self.reports.lock())
    }

    /// Takes the end at which orders arrive. It is there once.
    pub(crate) fn take_orders(&self) -> Option<mpsc::Receiver<OrderedVersion>> {
        self.ordered.lock().take()
    }

    /// Returns what is known about the versions of a handler.
    pub fn entry(&self, handler: &str) -> Option<BoardEntry> {
        let entries = self.entries.lock();
        let shown = entries.get(handler)?;
        let mut entry = shown.entry.clone();
        let serving = entry.history.serving().map(|serving| serving.number);
        if let Some(report) = self
            .reports
            .lock()
            .get(handler)
            .filter(|report| Some(report.number) == serving)
        {
            entry.progress = Some(report.progress.clone());
        }
        for (number, tally) in &shown.tallies {
            entry.history.count(*number, &tally.lock());
        }
        Some(entry)
    }

    /// Shows what is known about a handler.
    pub(crate) fn show(&self, handler: &str, entry: BoardEntry, tallies: BTreeMap<u64, SharedTally>) {
        let shown = ShownVersions { entry, tallies };
        self.entries.lock().insert(handler.to_owned(), shown);
    }

    /// Shows how the newest version of a handler compares.
    pub(crate) fn show_progress(&self, handler: &str, progress: ProbationProgress) {
        if let Some(shown) = self.entries.lock().get_mut(handler) {
            shown.entry.progress = Some(progress);
        }
    }

    /// The handler is gone.
    pub(crate) fn remove(&self, handler: &str) {
        self.entries.lock().remove(handler);
        self.reports.lock().remove(handler);
    }

    /// Orders something, and waits until it is done.
    ///
    /// # Errors
    ///
    /// See [`OrderRefused`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave an order that is carried out.
    pub async fn order(&self, handler: &str, order: VersionOrder) -> Result<(), OrderRefused> {
        let (reply, answer) = oneshot::channel();
        let ordered = OrderedVersion {
            handler: handler.to_owned(),
            order,
            reply,
        };
        self.orders.try_send(ordered).map_err(|_| OrderRefused::Busy)?;
        // The reload ends without an answer when the host stops.
        answer.await.unwrap_or(Err(OrderRefused::Busy))
    }
}
