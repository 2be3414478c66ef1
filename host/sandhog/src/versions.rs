//! The versions of handlers: their numbers and history, what is counted of each, where their files are kept, and what is told
//! about them to the rest of the host.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    attempt::HandlerVersion,
    rollout::{Probation, ProbationProgress, RolloutTerms},
};

mod board;
mod history;
mod record;
mod store;
mod tally;

pub use self::{
    board::{BoardEntry, OrderRefused, OrderReply, OrderedVersion, ProbationReport, VersionBoard, VersionOrder},
    history::{RollbackRefusal, VersionHistory},
    record::{BarredComponent, VersionDigests, VersionEvent, VersionEventKind, VersionRecord, VersionState},
    store::{StoredComponent, VersionFiles, VersionStore, is_transient},
    tally::{RecordedCall, VersionTally},
};

/// What is counted of a version, shared by the dispatchers that run it and the reload that records it.
pub type SharedTally = Arc<Mutex<VersionTally>>;

/// The versions that a handler gives to new deliveries.
#[derive(Debug)]
pub struct ServedVersions {
    /// The version whose manifest counts.
    pub newest: Arc<HandlerVersion>,
    /// How the newest version takes over from the one before; `None` if there is none to go back to.
    pub rollout: Option<Rollout>,
}

/// How a version takes over from its predecessor.
#[derive(Debug)]
pub struct Rollout {
    /// The version to which the host can go back, under the manifest of the newest one.
    pub predecessor: Arc<HandlerVersion>,
    /// What the newest version has to show.
    pub terms: RolloutTerms,
    /// How far the comparison has come when the versions begin to serve.
    pub progress: ProbationProgress,
}

impl ServedVersions {
    /// Returns a version that has no predecessor to go back to.
    pub fn alone(version: HandlerVersion) -> Self {
        Self {
            newest: Arc::new(version),
            rollout: None,
        }
    }

    /// Begins, or goes on with, the comparison of both versions.
    pub(crate) fn probation(&self, now: Instant) -> Option<Probation> {
        let rollout = self.rollout.as_ref()?;
        Some(Probation::new(rollout.terms, rollout.progress.clone(), now))
    }
}
