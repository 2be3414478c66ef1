//! Counts the memory of the host that a guest takes, and refuses what is past the limit.

use wasmtime::ResourceLimiter;

use super::policy::Limits;

/// The account of one store.
#[derive(Debug)]
pub(crate) struct MemoryAccount {
    limit: u64,
    table_elements: usize,
    tables_used: usize,
    requested: u64,
    instances: usize,
    used: u64,
    /// The most that was used at one time, in bytes.
    pub(crate) peak: u64,
    /// A request was refused. Without this fact a guest that ran out of memory looks like any other trap.
    pub(crate) refused: bool,
}

impl MemoryAccount {
    /// Makes the account of a store that holds nothing yet.
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            limit: limits.memory,
            table_elements: usize::try_from(limits.table_elements).unwrap_or(usize::MAX),
            tables_used: 0,
            requested: 0,
            instances: usize::try_from(limits.instances).unwrap_or(usize::MAX),
            used: 0,
            peak: 0,
            refused: false,
        }
    }

    /// Begins another call of the same instance, whose peak is at least what is in use now.
    pub(crate) fn begin_call(&mut self) {
        self.peak = self.used;
    }
}

impl ResourceLimiter for MemoryAccount {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let more = u64::try_from(desired.saturating_sub(current)).unwrap_or(u64::MAX);
        let used = self.used.saturating_add(more);
        if used > self.limit {
            self.refused = true;
            return Ok(false);
        }
        self.used = used;
        self.requested = more;
        self.peak = self.peak.max(used);
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        // The account granted the request and the memory's own maximum refused it, so nothing was taken.
        self.used = self.used.saturating_sub(std::mem::take(&mut self.requested));
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let used = self.tables_used.saturating_add(desired.saturating_sub(current));
        if used > self.table_elements {
            self.refused = true;
            return Ok(false);
        }
        self.tables_used = used;
        Ok(true)
    }

    fn instances(&self) -> usize {
        self.instances
    }

    fn tables(&self) -> usize {
        self.instances
    }

    fn memories(&self) -> usize {
        self.instances
    }
}
