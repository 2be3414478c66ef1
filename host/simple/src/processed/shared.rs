//! The processed messages under a lock that is never held for long, with the store's clock.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::{super::clock::StoreClock, ProcessedMessageKey, ProcessedMessages};

/// The processed messages of a store. The clones share them.
#[derive(Debug, Clone)]
pub(crate) struct SharedProcessedMessages {
    processed: Arc<Mutex<ProcessedMessages>>,
    clock: StoreClock,
}

impl SharedProcessedMessages {
    pub(crate) fn new(processed: ProcessedMessages, clock: StoreClock) -> Self {
        Self {
            processed: Arc::new(Mutex::new(processed)),
            clock,
        }
    }

    /// Locks the processed messages for a moment: nothing that waits may happen under the lock.
    pub(crate) fn lock(&self) -> MutexGuard<'_, ProcessedMessages> {
        self.processed.lock()
    }

    /// Returns whether the message was handled, as far as is remembered.
    pub(crate) fn knows(&self, key: &ProcessedMessageKey) -> bool {
        let now = self.clock.at(Instant::now());
        self.lock().knows(key, now.ms)
    }

    /// See [`ProcessedMessages::note`].
    pub(crate) fn note(&self, keys: impl IntoIterator<Item = ProcessedMessageKey>) -> bool {
        let now = self.clock.at(Instant::now());
        self.lock().note(keys, now.ms)
    }
}
