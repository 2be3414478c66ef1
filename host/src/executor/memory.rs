//! Counts what a guest's instances take from the host's memory, and refuses what is past the limit.

use wasmtime::ResourceLimiter;

use super::policy::Limits;

/// The account of one store.
#[derive(Debug)]
pub(super) struct MemoryAccount {
    limit: u64,
    table_elements: usize,
    tables_used: usize,
    requested: u64,
    instances: usize,
    used: u64,
    /// The most that was used at one time, in bytes.
    pub(super) peak: u64,
    /// Whether a request was refused. Without it a guest that ran out of memory looks like any other trap.
    pub(super) refused: bool,
}

impl MemoryAccount {
    pub(super) fn new(limits: &Limits) -> Self {
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
}

impl MemoryAccount {
    /// Another message begins with what is in use.
    pub(super) fn renew(&mut self) {
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
        // Granted here and refused by the memory's own maximum: nothing was taken.
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
