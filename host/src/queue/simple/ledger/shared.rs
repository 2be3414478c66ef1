//! The ledger where everybody can reach it: under a lock that is never held for long, with the store's clock.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::{super::clock::Clock, HandledKey, Ledger};

/// The ledger of a store. The clones are the same ledger.
#[derive(Debug, Clone)]
pub(in super::super) struct SharedLedger {
    ledger: Arc<Mutex<Ledger>>,
    clock: Clock,
}

impl SharedLedger {
    pub(in super::super) fn new(ledger: Ledger, clock: Clock) -> Self {
        Self {
            ledger: Arc::new(Mutex::new(ledger)),
            clock,
        }
    }

    /// The ledger, for a moment: nothing that waits may happen while it is held.
    pub(in super::super) fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock()
    }

    /// Whether the message was handled, as far as is remembered.
    pub(in super::super) fn knows(&self, key: &HandledKey) -> bool {
        let now = self.clock.at(Instant::now());
        self.lock().knows(key, now.ms)
    }

    /// See [`Ledger::note`].
    pub(in super::super) fn note(&self, keys: impl IntoIterator<Item = HandledKey>) -> bool {
        let now = self.clock.at(Instant::now());
        self.lock().note(keys, now.ms)
    }
}
