//! The slots of one handler: how many messages it may have under way, and who has taken them.
//!
//! Invariant: what was taken is given back however its taker ends. A slot is for a guest: it is free again when the guest has
//! handled its message, though the settlement may still be on its way to the disk.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// The slots that are taken. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Slots(Arc<AtomicUsize>);

/// Some slots, until they are dropped.
#[derive(Debug)]
pub struct TakenSlots {
    slots: Slots,
    count: usize,
}

impl Slots {
    /// Takes so many more. There is no limit here: the dispatcher asks for no more messages than it has free slots.
    pub fn take(&self, count: usize) -> TakenSlots {
        self.0.fetch_add(count, Ordering::AcqRel);
        TakenSlots {
            slots: self.clone(),
            count,
        }
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

impl Drop for TakenSlots {
    fn drop(&mut self) {
        self.slots.0.fetch_sub(self.count, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
