//! How many messages a receive is wanted for: a number that may grow until the queue has chosen the messages.
//!
//! A receive of a durable queue waits for the transaction before its own. Slots that become free meanwhile would otherwise
//! wait for the receive after it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// The number. Clones are the same number.
#[derive(Debug, Clone)]
pub struct Wanted(Arc<AtomicUsize>);

/// The highest bit: nothing can be added for now. The others are the number.
const CLOSED: usize = 1 << (usize::BITS - 1);

impl Wanted {
    /// For so many messages, 1 or more.
    pub fn new(messages: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(messages.clamp(1, CLOSED - 1))))
    }

    /// Wants so many more, up to `limit` together. Answers how many were added: none once the messages are chosen.
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

    /// So many for now.
    pub fn now(&self) -> usize {
        self.0.load(Ordering::Acquire) & !CLOSED
    }

    /// The messages are chosen now: so many at most, and nothing is added from here on.
    pub fn close(&self) -> usize {
        self.0.fetch_or(CLOSED, Ordering::AcqRel) & !CLOSED
    }

    /// There was none to choose: the receive goes on, for as many.
    pub fn open_again(&self) {
        self.0.fetch_and(!CLOSED, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_can_be_wanted_until_the_messages_are_chosen() {
        let wanted = Wanted::new(2);
        assert_eq!(wanted.add(3, 10), 3);
        assert_eq!(wanted.add(100, 10), 5);
        assert_eq!(wanted.close(), 10);
        assert_eq!(wanted.add(1, 100), 0);
        wanted.open_again();
        assert_eq!(wanted.add(1, 100), 1);
        assert_eq!(wanted.close(), 11);
    }

    #[test]
    fn a_receive_that_is_asked_for_again_is_for_as_many_though_its_answer_was_lost() {
        let wanted = Wanted::new(3);
        assert_eq!([wanted.close(), wanted.close(), wanted.now()], [3, 3, 3]);
    }
}
