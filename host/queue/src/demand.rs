//! The number of messages that a receive may return, which may grow until the queue has chosen them.
//!
//! A receive of a durable queue waits for the transaction before its own. Slots that become free meanwhile would otherwise
//! wait for the receive after it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// The demand of one receive. Clones share the number.
#[derive(Debug, Clone)]
pub struct ReceiveDemand(Arc<AtomicUsize>);

/// The highest bit is set while nothing can be added. The other bits are the number.
const CLOSED: usize = 1 << (usize::BITS - 1);

impl ReceiveDemand {
    /// Makes a demand of this many messages, 1 or more.
    pub fn new(messages: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(messages.clamp(1, CLOSED - 1))))
    }

    /// Adds `more` messages, up to `limit` together. Returns the number that was added: 0 once the messages are chosen.
    pub fn add(&self, more: usize, limit: usize) -> usize {
        let limit = limit.min(CLOSED - 1);
        let mut before = self.0.load(Ordering::Acquire);
        loop {
            let added = more.min(limit.saturating_sub(before));
            if before & CLOSED != 0 || added == 0 {
                return 0;
            }
            let changed = self
                .0
                .compare_exchange_weak(before, before + added, Ordering::AcqRel, Ordering::Acquire);
            match changed {
                Ok(_) => return added,
                Err(now) => before = now,
            }
        }
    }

    /// Returns the number of messages so far.
    pub fn now(&self) -> usize {
        self.0.load(Ordering::Acquire) & !CLOSED
    }

    /// Returns the final number of messages, which the queue chooses now. Nothing can be added from here on.
    pub fn close(&self) -> usize {
        self.0.fetch_or(CLOSED, Ordering::AcqRel) & !CLOSED
    }

    /// Lets the demand grow again: the queue had no message to choose, and the receive goes on.
    pub fn open_again(&self) {
        self.0.fetch_and(!CLOSED, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demand_can_grow_until_the_messages_are_chosen() {
        let demand = ReceiveDemand::new(2);
        assert_eq!(demand.add(3, 10), 3);
        assert_eq!(demand.add(100, 10), 5);
        assert_eq!(demand.close(), 10);
        assert_eq!(demand.add(1, 100), 0);
        demand.open_again();
        assert_eq!(demand.add(1, 100), 1);
        assert_eq!(demand.close(), 11);
    }

    #[test]
    fn a_receive_that_is_asked_for_again_is_for_as_many_though_its_answer_was_lost() {
        let demand = ReceiveDemand::new(3);
        assert_eq!([demand.close(), demand.close(), demand.now()], [3, 3, 3]);
    }
}
