//! The slots of one handler: how many messages it may have under way, and who has taken them.
//!
//! Invariant: what was taken is given back however its taker ends. A slot is for a guest: it is free again when the guest has
//! handled its message, though the settlement may still be on its way to the disk.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::sync::Notify;

/// The slots that are taken. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Slots(Arc<Taken>);

#[derive(Debug, Default)]
struct Taken {
    count: AtomicUsize,
    /// Several dispatchers take them, and learn of what the others give back.
    shared: AtomicBool,
    given_back: Notify,
}

/// Some slots, until they are dropped.
#[derive(Debug)]
pub struct TakenSlots {
    slots: Slots,
    count: usize,
}

impl Slots {
    /// Takes so many more. There is no limit here: the dispatcher starts nothing without a free slot. A message with a line behind
    /// it takes slots for the whole line, so that no others are received for them.
    pub fn take(&self, count: usize) -> TakenSlots {
        self.0.count.fetch_add(count, Ordering::AcqRel);
        TakenSlots {
            slots: self.clone(),
            count,
        }
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        // Each side writes one of the two and then reads the other: a successor that shares the slots and then counts them, and a
        // taker that gives back and then looks whether they are shared. With less than one order of all four both might read what
        // was before, and the successor would wait for what has come.
        self.0.count.load(Ordering::SeqCst)
    }

    /// Whether there is another clone, or a slot is taken.
    pub fn are_in_use(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// The same slots for another dispatcher of the handler, whose predecessor still ends what it has begun.
    #[must_use]
    pub fn share(&self) -> Self {
        self.0.shared.store(true, Ordering::SeqCst);
        self.clone()
    }

    /// Waits until some slots that are shared were given back; for ever if they are not shared.
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
        let taken = &self.slots.0;
        taken.count.fetch_sub(self.count, Ordering::SeqCst);
        if taken.shared.load(Ordering::SeqCst) {
            taken.given_back.notify_one();
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
        let (first, second) = (slots.take(2), slots.take(1));
        assert_eq!(slots.taken(), 3);
        drop(first);
        assert_eq!(slots.taken(), 1);
        drop(second);
        assert_eq!(slots.taken(), 0);
    }
}
