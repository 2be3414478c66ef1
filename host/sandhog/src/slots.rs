//! The slots of one handler, of which it has as many as messages may be under way.
//!
//! Invariant: a slot is given back however its taker ends. A slot is for a guest: it is free again when the guest has
//! handled its message, though the settlement may still be on its way to the disk.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::sync::Notify;

/// The count of the slots that are taken. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Slots(Arc<SlotCount>);

#[derive(Debug, Default)]
struct SlotCount {
    taken: AtomicUsize,
    /// Several dispatchers take slots, and each is notified of those that the others give back.
    shared: AtomicBool,
    given_back: Notify,
}

/// Slots that are taken until this is dropped.
#[derive(Debug)]
pub struct TakenSlots {
    slots: Slots,
    count: usize,
}

impl Slots {
    /// Takes so many more slots. There is no limit here: the dispatcher starts no attempt without a free slot. A message with
    /// followers takes slots for them too, so that no other messages are received for these slots.
    pub fn take(&self, count: usize) -> TakenSlots {
        self.0.taken.fetch_add(count, Ordering::AcqRel);
        TakenSlots {
            slots: self.clone(),
            count,
        }
    }

    /// Returns the number of taken slots.
    pub fn taken(&self) -> usize {
        // A successor shares the slots and then counts them; a taker gives back a slot and then looks whether they are shared.
        // Each side writes one value and reads the other. Without one order of all four, both might read the earlier value, and
        // the successor would wait for slots that are free.
        self.0.taken.load(Ordering::SeqCst)
    }

    /// Whether there is another clone, or a slot is taken.
    pub fn are_in_use(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Returns the same slots for another dispatcher of the handler, while its predecessor still ends its attempts.
    #[must_use]
    pub fn share(&self) -> Self {
        self.0.shared.store(true, Ordering::SeqCst);
        self.clone()
    }

    /// Waits until a shared slot is given back; for ever if the slots are not shared.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn given_back(&self) {
        if !self.0.shared.load(Ordering::Acquire) {
            return std::future::pending().await;
        }
        self.0.given_back.notified().await;
    }
}

impl Drop for TakenSlots {
    fn drop(&mut self) {
        let slots = &self.slots.0;
        slots.taken.fetch_sub(self.count, Ordering::SeqCst);
        if slots.shared.load(Ordering::SeqCst) {
            slots.given_back.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn slots_that_are_shared_tell_who_waits_for_them() {
        let slots = Slots::default();
        let taken = slots.take(1);
        let successor = slots.share();
        assert!(slots.are_in_use());
        drop(taken);
        successor.given_back().await;
        drop(successor);
        assert!(!slots.are_in_use());
    }

    #[test]
    fn slots_come_back_with_their_taker() {
        let slots = Slots::default();
        let first = slots.take(2);
        let second = slots.take(1);
        assert_eq!(slots.taken(), 3);
        drop(first);
        assert_eq!(slots.taken(), 1);
        drop(second);
        assert_eq!(slots.taken(), 0);
    }
}
