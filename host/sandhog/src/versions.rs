//! The versions of handlers: their numbers and history, what is counted of each, where their files are kept, and what is told
//! about them to the rest of the host.

use std::sync::Arc;

use parking_lot::Mutex;

mod board;
mod copied;
mod history;
mod record;
mod store;
mod tally;

pub(crate) use self::store::stored_file;
pub use self::{
    board::{BoardEntry, OrderRefused, OrderReply, OrderedVersion, ProbationReport, VersionBoard, VersionOrder},
    copied::copy_versions,
    history::{RollbackRefusal, VersionHistory},
    record::{BarredComponent, VersionDigests, VersionEvent, VersionEventKind, VersionRecord, VersionState},
    store::{StoredComponent, VersionFiles, VersionStore, is_transient},
    tally::{RecordedCall, VersionTally},
};

/// What is counted of a version, shared by the dispatchers that run it and the reload that records it.
pub type SharedTally = Arc<Mutex<VersionTally>>;
