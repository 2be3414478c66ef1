//! The store in memory. Each caller applies the rules itself, under a lock: nothing in memory takes long enough to wait for.
//!
//! Invariant: after a panic under the lock, which is a broken rule, no caller goes on with what that rule left behind.

use std::sync::Mutex;

use tokio::time::Instant;

use super::{clock::StoreTime, memory::MemoryRows, operation::StoreOperation, row::StoreFault, rules::StoreRules};

/// A store in memory.
#[derive(Debug)]
pub(crate) struct EphemeralStore {
    // The lock of the standard library, because it tells of a panic under it.
    rules: Mutex<StoreRules<MemoryRows>>,
}

impl EphemeralStore {
    pub(crate) fn new(rules: StoreRules<MemoryRows>) -> Self {
        Self {
            rules: Mutex::new(rules),
        }
    }

    /// Applies an operation at once.
    ///
    /// # Panics
    ///
    /// If an earlier operation panicked.
    pub(crate) fn ask<F, A>(&self, operation: StoreOperation<F>) -> Result<A, StoreFault>
    where
        F: FnOnce(&mut StoreRules, StoreTime) -> Result<A, StoreFault>,
    {
        let mut rules = self
            .rules
            .lock()
            .expect("no rule panicked before: else the messages in memory can't be trusted");
        let rules = rules.with_any_rows();
        let now = rules.tick(Instant::now());
        let applied = (operation.apply)(rules, now);
        let answer = applied.and_then(|answer| rules.write_handled().map(|()| answer));
        rules.remember_handled();
        rules.wake();
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::processed::ProcessedMessageSettings;
    use sandhog_queue::machine_clock::MachineClock;

    #[test]
    fn after_a_broken_rule_nobody_goes_on() {
        let rules = StoreRules::new(
            MemoryRows::default(),
            false,
            ProcessedMessageSettings::default(),
            MachineClock::default(),
        );
        let store = EphemeralStore::new(rules);
        let names = || store.ask(StoreOperation::new(|rules, _now| Ok(rules.names())));
        assert!(names().unwrap().is_empty());
        let broken = || {
            store.ask(StoreOperation::new(|_rules, _now| -> Result<(), StoreFault> {
                panic!("a broken rule")
            }))
        };
        assert!(catch_unwind(AssertUnwindSafe(broken)).is_err());
        assert!(catch_unwind(AssertUnwindSafe(names)).is_err());
    }
}
