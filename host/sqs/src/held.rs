//! The table of the deliveries that this host holds of a queue, by their receipts.
//!
//! Invariant: a delivery is in the table until it was settled, or until the last clone of its receipt is dropped. A receipt
//! that came from elsewhere with the same text is not the receipt of the delivery.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::{failure::whole_seconds, form::Content};
use sandhog_queue::{
    Receipt,
    message::{MAX_DELAY, MessageId},
};

/// The deliveries that are held.
#[derive(Debug, Default)]
pub(crate) struct HeldDeliveries {
    // Never held across an await.
    deliveries: Mutex<HashMap<Box<str>, Entry>>,
}

#[derive(Debug)]
struct Entry {
    receipt: Weak<str>,
    delivery: Arc<HeldDelivery>,
}

impl Entry {
    fn is_held(&self) -> bool {
        self.receipt.strong_count() > 0
    }

    fn is_of(&self, text: &Arc<str>) -> bool {
        std::ptr::addr_eq(self.receipt.as_ptr(), Arc::as_ptr(text))
    }
}

/// The content of a delivery, from which a dead letter can be made as the message was received.
#[derive(Debug)]
pub(crate) struct HeldDelivery {
    pub(crate) id: MessageId,
    pub(crate) content: Content,
    pub(crate) sent_at_ms: u64,
    pub(crate) receive_count: u32,
    /// The time at which the message was asked for.
    pub(crate) asked_at: Instant,
    /// The message is in the dead-letter queue already, and only remains to be deleted.
    pub(crate) dead_letter: DeadLetterState,
}

/// Whether a message was sent to the dead-letter queue.
#[derive(Debug, Default)]
pub(crate) struct DeadLetterState(AtomicBool);

impl DeadLetterState {
    pub(crate) fn is_sent(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    pub(crate) fn sent(&self) {
        self.0.store(true, Ordering::Release);
    }
}

impl HeldDeliveries {
    /// Holds a delivery under its receipt. Returns `None` if a delivery with the same handle is held already.
    pub(crate) fn hold(&self, handle: &str, delivery: HeldDelivery) -> Option<Receipt> {
        let mut deliveries = self.deliveries();
        if deliveries.get(handle).is_some_and(Entry::is_held) {
            return None;
        }
        let text: Arc<str> = handle.into();
        let entry = Entry {
            receipt: Arc::downgrade(&text),
            delivery: Arc::new(delivery),
        };
        deliveries.insert(handle.into(), entry);
        drop(deliveries);
        Some(Receipt::text(text))
    }

    /// Returns the delivery of a receipt, if it is held.
    pub(crate) fn get(&self, receipt: &Receipt) -> Option<Arc<HeldDelivery>> {
        let text = receipt.as_shared_text()?;
        let deliveries = self.deliveries();
        let entry = deliveries.get(&**text).filter(|entry| entry.is_of(text))?;
        Some(Arc::clone(&entry.delivery))
    }

    /// Ends the delivery of a receipt, though clones of the receipt may remain.
    pub(crate) fn end(&self, receipt: &Receipt) {
        let Some(text) = receipt.as_shared_text() else { return };
        let mut deliveries = self.deliveries();
        // A server may hand the same handle out again after a release: that delivery has a receipt of its own.
        if deliveries.get(&**text).is_some_and(|entry| entry.is_of(text)) {
            deliveries.remove(&**text);
        }
    }

    /// Frees what is kept of deliveries whose last receipt was dropped.
    pub(crate) fn forget_dropped(&self) {
        self.deliveries().retain(|_, entry| entry.is_held());
    }

    /// Returns whether no more than `most` deliveries are held.
    pub(crate) fn are_at_most(&self, most: usize) -> bool {
        self.deliveries()
            .values()
            .filter(|entry| entry.is_held())
            .nth(most)
            .is_none()
    }

    /// Returns the number of deliveries that are held.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.deliveries().values().filter(|entry| entry.is_held()).count()
    }

    /// Returns for how many more seconds a delivery may be hidden at all. SQS counts twelve hours from its receive; a second
    /// less is left to the clocks. A delivery that is not held is taken to be new.
    pub(crate) fn seconds_left(&self, receipt: &Receipt) -> u64 {
        let elapsed = self
            .get(receipt)
            .map_or(Duration::ZERO, |delivery| delivery.asked_at.elapsed());
        MAX_DELAY
            .as_secs()
            .saturating_sub(1)
            .saturating_sub(whole_seconds(elapsed))
    }

    fn deliveries(&self) -> MutexGuard<'_, HashMap<Box<str>, Entry>> {
        self.deliveries.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery() -> HeldDelivery {
        HeldDelivery {
            id: MessageId::from_queue("id"),
            content: Content::default(),
            sent_at_ms: 0,
            receive_count: 1,
            asked_at: Instant::now(),
            dead_letter: DeadLetterState::default(),
        }
    }

    #[test]
    fn a_delivery_is_held_until_it_ends_or_is_dropped() {
        let held = HeldDeliveries::default();
        let a = held.hold("a", delivery()).unwrap();
        let b = held.hold("b", delivery()).unwrap();
        assert!(held.hold("a", delivery()).is_none());
        assert_eq!(held.count(), 2);
        held.end(&a);
        let again = held.hold("a", delivery()).unwrap();
        drop(a);
        assert_eq!(held.count(), 2);
        drop((again, b));
        assert_eq!(held.count(), 0);
        assert!(held.hold("a", delivery()).is_some());
    }

    #[test]
    fn a_receipt_with_the_same_text_from_elsewhere_is_not_that_of_the_delivery() {
        let held = HeldDeliveries::default();
        let receipt = held.hold("a", delivery()).unwrap();
        let foreign = Receipt::text("a");
        assert_eq!(receipt, foreign);
        assert!(held.get(&receipt).is_some() && held.get(&foreign).is_none());
        held.end(&foreign);
        assert_eq!(held.count(), 1);
    }

    #[test]
    fn the_content_of_a_dropped_delivery_is_freed() {
        let held = HeldDeliveries::default();
        let receipt = held.hold("a", delivery()).unwrap();
        let content = Arc::downgrade(&held.get(&receipt).unwrap());
        held.forget_dropped();
        assert!(content.upgrade().is_some());
        drop(receipt);
        held.forget_dropped();
        assert!(content.upgrade().is_none());
    }
}
