//! The engine that all guests share: its configuration, its pool of instances, and the options of an executor.

use std::{path::PathBuf, thread};

use wasmtime::{Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::{
    artifacts::MAX_TOTAL_BYTES,
    budget::MemoryBudget,
    compiler::{self, CodeTier, Compiler},
    machine, policy,
    tiers::CodeTiers,
    worst_case::MAX_CONTEXT_BYTES,
};

/// The bytes of a memory that stay mapped between uses when only its dirty pages have to be reset.
const KEEP_RESIDENT_WITH_SCAN: usize = 2 * 1024 * 1024;
/// The bytes of a memory that stay mapped between uses when all of it has to be reset.
const KEEP_RESIDENT: usize = 128 * 1024;
/// Slots of the pool beside those of live instances. An instance that is being dropped may hold its slot for a moment longer
/// than it counts as live.
const SPARE_SLOTS: usize = 64;

/// The options of an executor.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// The most instances that may be alive at one time; 1 to 4,096. Further calls wait.
    pub max_live_instances: usize,
    /// The number of threads that run guests; 1 or more.
    pub threads: usize,
    /// The most bytes that all live instances may come to by their limits; 1 MiB or more. Further calls wait, and a component
    /// that could never run within the budget is refused.
    pub memory_budget: u64,
    /// The compiler.
    pub compiler: Compiler,
    /// The code that is made of a component.
    pub tiers: CodeTiers,
    /// The directory that keeps compiled code, which is made if it is not there. `None` keeps nothing.
    pub artifacts: Option<PathBuf>,
    /// The bytes that compiled code may take there together.
    pub artifacts_bytes: u64,
    /// A person waits for code, and no guest of worth runs meanwhile: compilers do not give way to other processes.
    pub urgent: bool,
}

impl Default for EngineOptions {
    /// 512 instances, a thread for each core, [`MemoryBudget::of_machine`]. Compiles in this process, since a program that embeds this
    /// library can't be started as a compiler. Keeps no compiled code.
    fn default() -> Self {
        Self {
            max_live_instances: 512,
            threads: thread::available_parallelism().map_or(2, usize::from),
            memory_budget: MemoryBudget::of_machine().bytes,
            compiler: Compiler::InProcess,
            tiers: CodeTiers::default(),
            artifacts: None,
            artifacts_bytes: MAX_TOTAL_BYTES,
            urgent: false,
        }
    }
}

/// The source of the memory of instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryAllocation {
    /// A pool of slots that are used again and again.
    Pooled {
        /// The kernel is asked which pages have to be reset (Linux 6.7 or newer).
        pagemap_scan: bool,
        /// Slots beside those of live instances.
        spare: usize,
    },
    /// The system, for each instance anew.
    OnDemand,
}

impl MemoryAllocation {
    /// Returns the allocation that suits this machine.
    fn suitable(max_live_instances: usize) -> Self {
        // A slot of the pool is 4 GiB of address space and guards; a limit on address space (`RLIMIT_AS`) forbids that.
        let wanted = u64::try_from((max_live_instances + SPARE_SLOTS) * 3)
            .unwrap_or(u64::MAX)
            .saturating_mul(5 << 30);
        if machine::address_space().is_some_and(|limit| limit <= wanted) {
            tracing::warn!("address space is limited (ulimit -v): instances are allocated one by one, which is slower");
            return Self::OnDemand;
        }
        // A swapped-out dirty page would escape the scan on this version of the engine and reach the next guest, so the
        // scan is used only where nothing can be swapped.
        let pagemap_scan = PoolingAllocationConfig::is_pagemap_scan_available() && !machine::can_swap();
        Self::Pooled {
            pagemap_scan,
            spare: SPARE_SLOTS,
        }
    }
}

/// The executor could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The engine refused its configuration.
    #[error("the WebAssembly engine could not be configured: {0}")]
    Engine(String),
    /// Threads could not be started.
    #[error("the threads for guests could not be started")]
    Threads(#[source] std::io::Error),
}

/// Makes the engine with memory that suits the machine: from a pool, or from the system if the machine has no room for a
/// pool.
pub(crate) fn suitable_engine(max_live_instances: usize) -> wasmtime::Result<Engine> {
    let allocation = MemoryAllocation::suitable(max_live_instances);
    engine(max_live_instances, allocation).or_else(|error| {
        let error = format!("{error:#}");
        tracing::warn!(
            error,
            "the machine has no room for a pool of instances: they are allocated one by one, which is slower"
        );
        engine(max_live_instances, MemoryAllocation::OnDemand)
    })
}

/// Makes the engine with memory from where `allocation` says.
pub(crate) fn engine(max_live_instances: usize, allocation: MemoryAllocation) -> wasmtime::Result<Engine> {
    let mut config = compiler::settings(CodeTier::Optimised, machine::makes_images());
    match allocation {
        MemoryAllocation::Pooled { pagemap_scan, spare } => {
            let pool = pool(max_live_instances + spare, pagemap_scan);
            config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        }
        MemoryAllocation::OnDemand => {
            config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
        }
    }
    Engine::new(&config)
}

/// The shape of the pool: a component that a toolchain made of a module has up to four core instances and two tables;
/// interpreters have many more of each, and share what others leave.
fn pool(slots: usize, scan: bool) -> PoolingAllocationConfig {
    let slots = u32::try_from(slots).unwrap_or(u32::MAX);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots);
    // A counter, and not memory: as many as a component may have, so that one of many takes none from another.
    pool.total_core_instances(slots.saturating_mul(128));
    // Two for each slot, and one more for a collected heap.
    pool.total_memories(slots.saturating_mul(3));
    pool.total_gc_heaps(slots);
    pool.total_tables(slots.saturating_mul(4));
    pool.total_stacks(slots);
    pool.max_memory_size(usize::try_from(policy::MAX_MEMORY_BYTES).unwrap_or(usize::MAX));
    pool.table_elements(100_000);
    // The second is for all instances of a component together.
    pool.max_core_instance_size(MAX_CONTEXT_BYTES);
    pool.max_component_instance_size(MAX_CONTEXT_BYTES);
    pool.max_core_instances_per_component(128);
    pool.max_memories_per_module(16);
    pool.max_tables_per_module(16);
    pool.max_memories_per_component(32);
    pool.max_tables_per_component(64);
    pool.table_keep_resident(64 * 1024);
    pool.pagemap_scan(if scan { Enabled::Yes } else { Enabled::No });
    pool.linear_memory_keep_resident(if scan { KEEP_RESIDENT_WITH_SCAN } else { KEEP_RESIDENT });
    tracing::debug!(pagemap_scan = scan, slots, "instance pool");
    pool
}
