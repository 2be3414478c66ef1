//! The store in memory. Each caller applies the rules itself, under a lock: nothing in memory takes long enough to wait for.
//!
//! Invariant: after a panic under the lock, which is a broken rule, no caller goes on with what that rule left behind.

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{clock::StoreTime, memory::MemoryRows, operation::StoreOperation, row::StoreFault, rules::StoreRules};

/// A store in memory.
#[derive(Debug)]
pub(crate) struct EphemeralStore {
    state: Mutex<EphemeralState>,
}

#[derive(Debug)]
struct EphemeralState {
    rules: StoreRules<MemoryRows>,
    /// Set for as long as an operation is applied, so that it stays set after a panic.
    is_applying: bool,
}

impl EphemeralStore {
    pub(crate) fn new(rules: StoreRules<MemoryRows>) -> Self {
        Self {
            state: Mutex::new(EphemeralState {
                rules,
                is_applying: false,
            }),
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
        let mut state = self.state.lock();
        assert!(
            !state.is_applying,
            "a rule panicked before, so the messages in memory can't be trusted"
        );
        state.is_applying = true;
        let rules = state.rules.with_any_rows();
        let now = rules.tick(Instant::now());
        let applied = (operation.apply)(rules, now);
        let answer = applied.and_then(|answer| rules.write_handled().map(|()| answer));
        rules.remember_handled();
        rules.wake();
        state.is_applying = false;
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
            store.ask(StoreOperation::new(|_core, _now| -> Result<(), StoreFault> {
                panic!("a broken rule")
            }))
        };
        assert!(catch_unwind(AssertUnwindSafe(broken)).is_err());
        assert!(catch_unwind(AssertUnwindSafe(names)).is_err());
    }
}
