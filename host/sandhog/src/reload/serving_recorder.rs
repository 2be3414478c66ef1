//! Records on disk the histories of the handlers' versions, in the background of the reload: one handler at a time, the newest
//! order for each.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
};

use tokio::task::{JoinError, JoinSet};

use crate::versions::{VersionHistory, VersionStore};
use sandhog_queue::machine_clock::wall_ms;

/// An order about one handler.
#[derive(Debug)]
enum RecordOrder {
    /// The versions of the handler.
    History(Box<VersionHistory>),
    /// The file of the handler was removed.
    Forget,
}

/// The orders that are not carried out yet.
#[derive(Debug)]
pub(crate) struct ServingRecorder {
    versions: Option<Arc<VersionStore>>,
    orders: BTreeMap<String, RecordOrder>,
    /// At most one task.
    under_way: JoinSet<io::Result<()>>,
    forgetting: Option<String>,
    /// The handler whose history is being recorded.
    recording: Option<String>,
    /// The handlers whose last history could not be recorded.
    unrecorded: BTreeSet<String>,
}

impl ServingRecorder {
    pub(crate) fn new(versions: Option<Arc<VersionStore>>) -> Self {
        Self {
            versions,
            orders: BTreeMap::new(),
            under_way: JoinSet::new(),
            forgetting: None,
            recording: None,
            unrecorded: BTreeSet::new(),
        }
    }

    /// Records the versions of a handler. A restart has nothing to fall back on if the one that serves could not be stored: the one
    /// before may have grants that were taken away since.
    pub(crate) fn record(&mut self, name: &str, history: VersionHistory) {
        self.order(name, RecordOrder::History(Box::new(history)));
    }

    pub(crate) fn forget(&mut self, name: &str) {
        self.order(name, RecordOrder::Forget);
    }

    fn order(&mut self, name: &str, order: RecordOrder) {
        if self.versions.is_some() {
            self.orders.insert(name.to_owned(), order);
        }
        self.start();
    }

    /// Returns whether all that was ordered about a handler is carried out.
    pub(crate) fn is_settled(&self, name: &str) -> bool {
        self.recording.as_deref() != Some(name) && !self.orders.contains_key(name)
    }

    /// Returns the handlers whose last history could not be recorded.
    pub(crate) fn unrecorded(&self) -> &BTreeSet<String> {
        &self.unrecorded
    }

    /// Returns whether the last history of a handler could not be recorded.
    pub(crate) fn is_unrecorded(&self, name: &str) -> bool {
        self.unrecorded.contains(name)
    }

    /// Returns whether files of this name would be removed if they were stored now.
    pub(crate) fn is_forgetting(&self, name: &str) -> bool {
        self.forgetting.as_deref() == Some(name) || matches!(self.orders.get(name), Some(RecordOrder::Forget))
    }

    /// Forgets all handlers but these, in the background. A directory that can't be listed now is listed at the next start.
    pub(crate) fn forget_others(&mut self, there: BTreeSet<String>) {
        let Some(store) = self.versions.clone() else { return };
        self.under_way.spawn_blocking(move || {
            let gone = store.handlers()?.into_iter().filter(|name| !there.contains(name));
            // A handler that can't be removed does not keep the others from it.
            let mut ended = Ok(());
            for name in gone {
                ended = ended.and(store.forget(&name));
            }
            ended
        });
    }

    fn start(&mut self) {
        if !self.under_way.is_empty() {
            return;
        }
        let Some(store) = self.versions.clone() else { return };
        let Some((name, order)) = self.orders.pop_first() else {
            return;
        };
        self.forgetting = matches!(order, RecordOrder::Forget).then(|| name.clone());
        self.recording = Some(name.clone());
        self.under_way.spawn_blocking(move || match order {
            RecordOrder::History(history) => record(&store, &name, &history),
            RecordOrder::Forget => store.forget(&name),
        });
    }

    /// Waits until one order was carried out; `None` if there is no order.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub(crate) async fn next(&mut self) -> Option<()> {
        let done = self.under_way.join_next().await?;
        self.done(done);
        Some(())
    }

    fn done(&mut self, done: Result<io::Result<()>, JoinError>) {
        let recorded = self.recording.take();
        match done {
            Ok(Ok(())) => {
                if let Some(name) = recorded {
                    self.unrecorded.remove(&name);
                }
            }
            Ok(Err(error)) => {
                self.unrecorded.extend(recorded);
                tracing::warn!(%error, "the versions of a handler could not be recorded, and are tried again: after a restart before that it serves only if its file is good then");
            }
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
        self.forgetting = None;
        self.start();
    }
}

/// Records a history, and removes what it does not need. A history that can't be recorded leaves nothing to fall back on: the version
/// that it replaces may have grants that were taken away.
fn record(store: &VersionStore, name: &str, history: &VersionHistory) -> io::Result<()> {
    if let Err(error) = store.record(name, history) {
        let mut nothing = history.clone();
        nothing.nothing_serves(wall_ms());
        store.record(name, &nothing).or_else(|_| store.unrecord(name))?;
        return Err(error);
    }
    store.remove_unneeded(name, history)
}
