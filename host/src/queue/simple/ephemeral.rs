//! The store in memory. Each caller applies the rules itself, under a lock: nothing in memory takes long enough to wait for.
//!
//! Invariant: after a panic under the lock, which is a broken rule, no caller goes on with what that rule left behind.

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{clock::Now, memory::MemoryRows, operation::Operation, row::Fault, rules::Core};

/// A store in memory.
#[derive(Debug)]
pub(crate) struct EphemeralStore {
    state: Mutex<EphemeralState>,
}

#[derive(Debug)]
struct EphemeralState {
    core: Core<MemoryRows>,
    /// Set for as long as an operation is applied, so that it stays set after a panic.
    is_applying: bool,
}

impl EphemeralStore {
    pub(crate) fn new(core: Core<MemoryRows>) -> Self {
        Self {
            state: Mutex::new(EphemeralState {
                core,
                is_applying: false,
            }),
        }
    }

    /// Applies an operation at once.
    ///
    /// # Panics
    ///
    /// If an earlier operation panicked.
    pub(crate) fn ask<F, A>(&self, operation: Operation<F>) -> Result<A, Fault>
    where
        F: FnOnce(&mut Core, Now) -> Result<A, Fault>,
    {
        let mut state = self.state.lock();
        assert!(
            !state.is_applying,
            "a rule panicked before, so the messages in memory can't be trusted"
        );
        state.is_applying = true;
        let core = state.core.rules();
        let now = core.tick(Instant::now());
        let applied = (operation.apply)(core, now);
        let answer = applied.and_then(|answer| core.write_handled().map(|()| answer));
        core.remember_handled();
        core.wake();
        state.is_applying = false;
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::{super::processed::ProcessedMessageSettings, *};
    use crate::machine_clock::MachineClock;

    #[test]
    fn after_a_broken_rule_nobody_goes_on() {
        let core = Core::new(
            MemoryRows::default(),
            false,
            ProcessedMessageSettings::default(),
            MachineClock::default(),
        );
        let store = EphemeralStore::new(core);
        let names = || store.ask(Operation::new(|core, _now| Ok(core.names())));
        assert!(names().unwrap().is_empty());
        let broken = || {
            store.ask(Operation::new(|_core, _now| -> Result<(), Fault> {
                panic!("a broken rule")
            }))
        };
        assert!(catch_unwind(AssertUnwindSafe(broken)).is_err());
        assert!(catch_unwind(AssertUnwindSafe(names)).is_err());
    }
}
