//! Records on disk which versions serve, in the background of the reload: one handler at a time, the newest order for each.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
};

use tokio::task::{JoinError, JoinSet};

use crate::last_served::{LastServedStore, VersionDigests};

/// An order about one handler.
#[derive(Debug)]
enum RecordOrder {
    /// The handler serves these files.
    Serves(VersionDigests),
    /// The handler serves a version that could not be stored.
    ServesUnstored,
    /// The file of the handler was removed.
    Forget,
}

/// The orders that are not carried out yet.
#[derive(Debug)]
pub(crate) struct ServingRecorder {
    last_served: Option<Arc<LastServedStore>>,
    orders: BTreeMap<String, RecordOrder>,
    /// At most one task.
    under_way: JoinSet<io::Result<()>>,
    forgetting: Option<String>,
}

impl ServingRecorder {
    pub(crate) fn new(last_served: Option<Arc<LastServedStore>>) -> Self {
        Self {
            last_served,
            orders: BTreeMap::new(),
            under_way: JoinSet::new(),
            forgetting: None,
        }
    }

    pub(crate) fn serves(&mut self, name: &str, digests: VersionDigests) {
        self.order(name, RecordOrder::Serves(digests));
    }

    /// Leaves a restart without a version to fall back on. The one before may have grants that were taken away since.
    pub(crate) fn serves_unstored(&mut self, name: &str) {
        self.order(name, RecordOrder::ServesUnstored);
    }

    pub(crate) fn forget(&mut self, name: &str) {
        self.order(name, RecordOrder::Forget);
    }

    fn order(&mut self, name: &str, order: RecordOrder) {
        if self.last_served.is_some() {
            self.orders.insert(name.to_owned(), order);
        }
        self.start();
    }

    /// Returns whether files of this name would be removed if they were stored now.
    pub(crate) fn is_forgetting(&self, name: &str) -> bool {
        self.forgetting.as_deref() == Some(name) || matches!(self.orders.get(name), Some(RecordOrder::Forget))
    }

    /// Forgets all handlers but these, in the background. A directory that can't be listed now is listed at the next start.
    pub(crate) fn forget_others(&mut self, there: BTreeSet<String>) {
        let Some(store) = self.last_served.clone() else { return };
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
        let Some(store) = self.last_served.clone() else { return };
        let Some((name, order)) = self.orders.pop_first() else {
            return;
        };
        self.forgetting = matches!(order, RecordOrder::Forget).then(|| name.clone());
        self.under_way.spawn_blocking(move || match order {
            RecordOrder::Serves(digests) => store.record_serving(&name, &digests).or_else(|error| {
                store.supersede(&name, Some(&digests))?;
                Err(error)
            }),
            RecordOrder::ServesUnstored => store.supersede(&name, None),
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
        match done {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "the serving version could not be stored: after a restart it serves only if its file is good then");
            }
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
        self.forgetting = None;
        self.start();
    }
}
