//! The drain that an operator orders: no handler receives, until the order is taken back or the process ends.
//!
//! Consumers outside are no handlers: they go on.

use super::Halts;
use sandhog_queue::machine_clock::wall_ms;

/// Why no handler of the host receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainCause {
    /// The host is about to stop.
    Stopping,
    /// An operator has ordered it.
    Ordered {
        /// When: milliseconds since 1970-01-01T00:00:00Z.
        since_ms: u64,
    },
}

impl Halts {
    /// Orders a drain, and returns since when the host drains. A second order changes nothing.
    pub fn drain(&self) -> u64 {
        let since_ms = *self.draining_since.lock().get_or_insert_with(wall_ms);
        self.changes.send_replace(());
        since_ms
    }

    /// Takes the order back, and returns since when it was in force; `None` if there was none.
    pub fn end_drain(&self) -> Option<u64> {
        let since_ms = self.draining_since.lock().take();
        self.changes.send_replace(());
        since_ms
    }

    /// Returns since when the host drains by an order: milliseconds since 1970-01-01T00:00:00Z.
    pub fn draining_since(&self) -> Option<u64> {
        *self.draining_since.lock()
    }

    /// Returns why the host drains, if it does. A host that `is_stopping` drains for that, whatever was ordered.
    pub fn drain_cause(&self, is_stopping: bool) -> Option<DrainCause> {
        if is_stopping {
            return Some(DrainCause::Stopping);
        }
        let since_ms = self.draining_since()?;
        Some(DrainCause::Ordered { since_ms })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::halts::{HaltCause, HaltWatch};
    use sandhog_queue::message::QueueName;

    #[tokio::test]
    async fn a_drain_halts_every_handler_and_no_queue() {
        let halts = Arc::new(Halts::default());
        let queue = QueueName::new("orders").unwrap();
        let mut watch = HaltWatch::new(Arc::clone(&halts), "orders", &queue);
        assert_eq!(watch.cause(), None);
        let since_ms = halts.drain();
        assert!(watch.has_changed());
        assert_eq!(watch.cause(), Some(HaltCause::Drain));
        assert_eq!(halts.of_queue(&queue), None);
        assert_eq!(halts.drain(), since_ms);
        assert_eq!(halts.drain_cause(false), Some(DrainCause::Ordered { since_ms }));
        assert_eq!(halts.drain_cause(true), Some(DrainCause::Stopping));
        assert_eq!(halts.end_drain(), Some(since_ms));
        assert_eq!(watch.cause(), None);
        assert_eq!(halts.end_drain(), None);
    }
}
