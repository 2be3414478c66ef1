//! The slots of one handler: how many messages it may have under way, and who has taken them.
//!
//! Invariant: what was taken is given back however its taker ends. A slot is for a guest: it is free again when the guest has
//! handled its message, though the settlement may still be on its way to the disk.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Notify;

/// The slots that are taken. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Slots(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    taken: AtomicUsize,
    freed: Notify,
}

/// Some slots, until they are dropped.
#[derive(Debug)]
pub struct TakenSlots {
    slots: Slots,
    count: usize,
}

impl Slots {
    /// Takes so many more. There is no limit here: the dispatcher asks for no more messages than it has free slots.
    pub fn take(&self, count: usize) -> TakenSlots {
        self.0.taken.fetch_add(count, Ordering::AcqRel);
        TakenSlots {
            slots: self.clone(),
            count,
        }
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.0.taken.load(Ordering::Acquire)
    }

    /// Ends when slots were given back early since the last time that this ended.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn freed(&self) {
        self.0.freed.notified().await;
    }
}

impl TakenSlots {
    /// Gives them back before their taker ends, and tells whoever waits in [`Slots::freed`].
    pub fn free_early(self) {
        let slots = self.slots.clone();
        drop(self);
        slots.0.freed.notify_one();
    }
}

impl Drop for TakenSlots {
    fn drop(&mut self) {
        self.slots.0.taken.fetch_sub(self.count, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn slots_come_back_with_their_taker_and_early_ones_are_announced() {
        let slots = Slots::default();
        let (first, second) = (slots.take(2), slots.take(1));
        assert_eq!(slots.taken(), 3);
        drop(first);
        assert_eq!(slots.taken(), 1);
        second.free_early();
        slots.freed().await;
        assert_eq!(slots.taken(), 0);
    }
}
