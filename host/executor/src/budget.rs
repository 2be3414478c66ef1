//! The memory that all instances may take together where the configuration does not say.

use super::machine;

/// The least budget that is not configured: one instance with the default limits, and room beside it. But never more than
/// three quarters of the memory.
const LEAST_BUDGET: u64 = 256 * 1024 * 1024;

/// The budget for instances where none is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryBudget {
    /// Bytes that all live instances may come to by their limits.
    pub bytes: u64,
    /// The reason for the number, for people.
    pub because: String,
}

impl MemoryBudget {
    /// Returns half of the memory that the machine lets this process have.
    pub fn of_machine() -> Self {
        let memory = machine::memory();
        let half = memory.bytes / 2;
        let most = memory.bytes / 4 * 3;
        if half >= LEAST_BUDGET.min(most) {
            let because = format!("half of {memory}");
            return Self { bytes: half, because };
        }
        let bytes = LEAST_BUDGET.min(most);
        let because = format!("the least that is of use, within {memory}");
        Self { bytes, because }
    }
}
