//! How much memory instances may come to together where nobody has said it.

use super::machine;

/// What the budget is at least, unless it is configured: one instance with the default limits, and room beside it. But never
/// more than three quarters of what there is.
const LEAST_BUDGET: u64 = 256 * 1024 * 1024;

/// The budget for instances where none is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// Bytes that all live instances may come to by their limits.
    pub bytes: u64,
    /// What it follows from, for people.
    pub because: String,
}

impl Budget {
    /// Half of the memory that the machine lets this process have.
    pub fn of_machine() -> Self {
        let memory = machine::memory();
        let (half, most) = (memory.bytes / 2, memory.bytes / 4 * 3);
        if half >= LEAST_BUDGET.min(most) {
            let because = format!("half of {memory}");
            return Self { bytes: half, because };
        }
        let bytes = LEAST_BUDGET.min(most);
        let because = format!("the least that is of use, within {memory}");
        Self { bytes, because }
    }
}
