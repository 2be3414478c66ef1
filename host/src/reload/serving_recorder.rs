//! Keeps on disk what serves, behind the back of the reload: one handler at a time, the newest order for each.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
};

use tokio::task::{JoinError, JoinSet};

use crate::last_served::{LastServedStore, VersionDigests};

/// What is to be done for one handler.
#[derive(Debug)]
enum RecordOrder {
    /// It serves these files.
    Serves(VersionDigests),
    /// It serves what could not be kept.
    ServesUnkept,
    /// Its file was removed.
    Forget,
}

/// The orders that are not carried out yet.
#[derive(Debug)]
pub(super) struct ServingRecorder {
    kept: Option<Arc<LastServedStore>>,
    orders: BTreeMap<String, RecordOrder>,
    /// At most one.
    under_way: JoinSet<io::Result<()>>,
    forgetting: Option<String>,
}

impl ServingRecorder {
    pub(super) fn new(kept: Option<Arc<LastServedStore>>) -> Self {
        Self {
            kept,
            orders: BTreeMap::new(),
            under_way: JoinSet::new(),
            forgetting: None,
        }
    }

    pub(super) fn serves(&mut self, name: &str, pair: VersionDigests) {
        self.order(name, RecordOrder::Serves(pair));
    }

    /// A restart then has nothing to fall back on, rather than a version whose grants may have been taken away since.
    pub(super) fn serves_unkept(&mut self, name: &str) {
        self.order(name, RecordOrder::ServesUnkept);
    }

    pub(super) fn forget(&mut self, name: &str) {
        self.order(name, RecordOrder::Forget);
    }

    fn order(&mut self, name: &str, order: RecordOrder) {
        if self.kept.is_some() {
            self.orders.insert(name.to_owned(), order);
        }
        self.start();
    }

    /// Whether files of this name would be removed if they were put now.
    pub(super) fn is_forgetting(&self, name: &str) -> bool {
        self.forgetting.as_deref() == Some(name) || matches!(self.orders.get(name), Some(RecordOrder::Forget))
    }

    /// Forgets all handlers but these. Blocks nobody: what can't be listed now is listed at the next start.
    pub(super) fn forget_others(&mut self, there: BTreeSet<String>) {
        let Some(kept) = self.kept.clone() else { return };
        self.under_way.spawn_blocking(move || {
            let gone = kept.handlers()?.into_iter().filter(|name| !there.contains(name));
            // One that can't be removed keeps no other one.
            let mut ended = Ok(());
            for name in gone {
                ended = ended.and(kept.forget(&name));
            }
            ended
        });
    }

    fn start(&mut self) {
        if !self.under_way.is_empty() {
            return;
        }
        let Some((kept, (name, order))) = self.kept.clone().zip(self.orders.pop_first()) else {
            return;
        };
        self.forgetting = matches!(order, RecordOrder::Forget).then(|| name.clone());
        self.under_way.spawn_blocking(move || match order {
            RecordOrder::Serves(pair) => kept.serves(&name, &pair).or_else(|error| {
                kept.supersede(&name, Some(&pair))?;
                Err(error)
            }),
            RecordOrder::ServesUnkept => kept.supersede(&name, None),
            RecordOrder::Forget => kept.forget(&name),
        });
    }

    /// Waits until one order was carried out; `None` if there is none.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub(super) async fn next(&mut self) -> Option<()> {
        let done = self.under_way.join_next().await?;
        self.done(done);
        Some(())
    }

    fn done(&mut self, done: Result<io::Result<()>, JoinError>) {
        match done {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "what serves could not be kept: after a restart it serves only if its file is good then");
            }
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
        self.forgetting = None;
        self.start();
    }
}
