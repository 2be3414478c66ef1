//! The engine that all guests share: its configuration, the pool's size, the thread that ticks epochs,
//! and the runtime that guests run on.

use std::{
    fmt,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::{
    runtime::{Handle, Runtime},
    task::JoinError,
};
use tokio_util::task::AbortOnDropHandle;
use wasmtime::{Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::{
    Call, Component, Executor, LoadError, Policy, Report, Resolver, SystemResolver,
    admission::{Admission, Entered, MAX_CONTEXT_BYTES, Room},
    artifacts::{Artifacts, MAX_TOTAL_BYTES},
    budget::Budget,
    compiler::{self, Compiler, Tier},
    component::{Code, LocalComponent},
    descriptors::Descriptors,
    import::{Linkers, http::Network},
    instance::{self, DryRunError},
    machine,
    reuse::IdleInstances,
    tiers::{Compilations, Source, Tiers},
};

/// How often a running guest is asked whether its time is up, and lets others run.
pub(super) const TICK: Duration = Duration::from_millis(5);
/// The longest tick while no guest is alive, so that an idle host sleeps.
const IDLE_TICK: Duration = Duration::from_millis(50);
/// For how many ticks more a guest that was told to stop is asked to.
const LAST_TICKS: u32 = 200;
/// The ceiling of one linear memory in the pool; the limit of a handler is below it.
const MAX_MEMORY_BYTES: usize = 512 * 1024 * 1024;
/// How much of a memory stays mapped between uses when only its dirty pages have to be reset.
const KEEP_RESIDENT_WITH_SCAN: usize = 2 * 1024 * 1024;
/// The same when all of it has to be.
const KEEP_RESIDENT: usize = 128 * 1024;
/// Slots of an instance that is being dropped may be taken for a moment longer than it counts as live.
const SPARE_SLOTS: usize = 64;

/// Why a call was not made.
const STOPPING: &str = "the host is stopping";

/// How many threads at most read, verify, map and keep compiled code.
const COMPILING_THREADS: usize = 8;

/// What the executor is made of.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// How many instances may be alive at one time; 1 to 4,096. Calls past it wait.
    pub max_live_instances: usize,
    /// How many threads run guests; 1 or more.
    pub threads: usize,
    /// How many bytes all live instances may come to by their limits; 1 MiB or more. Calls past it wait, and a component
    /// that could never run within it is refused.
    pub memory_budget: u64,
    /// Who compiles.
    pub compiler: Compiler,
    /// Which code is made.
    pub tiers: Tiers,
    /// Where compiled code is kept, in a directory of its own that is made if it is not there. `None` keeps nothing.
    pub artifacts: Option<PathBuf>,
}

impl Default for EngineOptions {
    /// 512 instances, a thread for each core, [`Budget::of_machine`]. Compiles in this process, since the program that embeds this library can't be asked to be a compiler; keeps nothing.
    fn default() -> Self {
        Self {
            max_live_instances: 512,
            threads: thread::available_parallelism().map_or(2, usize::from),
            memory_budget: Budget::of_machine().bytes,
            compiler: Compiler::InProcess,
            tiers: Tiers::default(),
            artifacts: None,
        }
    }
}

/// How instances get their memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocation {
    /// From a pool of slots that are used again and again.
    Pooled {
        /// Whether the kernel is asked which pages have to be reset (Linux 6.7 or newer).
        pagemap_scan: bool,
        /// Slots beside those of live instances.
        spare: usize,
    },
    /// From the system, each time anew.
    OnDemand,
}

impl Allocation {
    /// What suits this machine.
    fn suitable(max_live_instances: usize) -> Self {
        // A slot of the pool is 4 GiB of address space and guards; a limit on address space (`RLIMIT_AS`) forbids that.
        let wanted = u64::try_from((max_live_instances + SPARE_SLOTS) * 2)
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

/// Why the executor could not be made.
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

/// Runs guests in this process, on threads of their own.
pub struct LocalExecutor {
    pub(super) shared: Arc<Shared>,
    compilations: Arc<Compilations>,
    // Both are dropped after nothing can be spawned any more; see `Drop`.
    runtime: Option<Runtime>,
    /// Guests that spin must not hold up those who start compilers and read what they answer. Its thread lives as long as
    /// its children: they are killed with the thread that started them.
    compiling: Option<Runtime>,
    ticker: Option<Ticker>,
}

/// What a call needs while it runs on the guests' threads.
pub(super) struct Shared {
    pub(super) engine: Engine,
    pub(super) linkers: Linkers,
    pub(super) network: Arc<Network>,
    admission: Admission,
    pub(super) idle: Arc<IdleInstances>,
    live: Arc<AtomicUsize>,
}

impl LocalExecutor {
    /// Makes the engine and starts its threads.
    ///
    /// # Errors
    ///
    /// See [`EngineError`].
    pub fn new(options: EngineOptions) -> Result<Self, EngineError> {
        Self::with_resolver(options, Arc::new(SystemResolver))
    }

    /// The same, with another way to find the addresses of the hosts that guests send requests to.
    ///
    /// # Errors
    ///
    /// See [`EngineError`].
    pub fn with_resolver(options: EngineOptions, resolver: Arc<dyn Resolver>) -> Result<Self, EngineError> {
        let allocation = Allocation::suitable(options.max_live_instances);
        let engine = engine(options.max_live_instances, allocation).or_else(|error| {
            let error = format!("{error:#}");
            tracing::warn!(
                error,
                "the machine has no room for a pool of instances: they are allocated one by one, which is slower"
            );
            engine(options.max_live_instances, Allocation::OnDemand)
        });
        Self::made(options, resolver, engine)
    }

    /// The same, with memory from elsewhere than what suits the machine.
    ///
    /// # Errors
    ///
    /// See [`EngineError`]; also if the kernel can't do what `allocation` asks for.
    pub fn with_allocation(options: EngineOptions, allocation: Allocation) -> Result<Self, EngineError> {
        let engine = engine(options.max_live_instances, allocation);
        Self::made(options, Arc::new(SystemResolver), engine)
    }

    fn made(
        options: EngineOptions,
        resolver: Arc<dyn Resolver>,
        engine: wasmtime::Result<Engine>,
    ) -> Result<Self, EngineError> {
        let engine = engine.map_err(|error| EngineError::Engine(format!("{error:#}")))?;
        let live = Arc::new(AtomicUsize::new(0));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(options.threads)
            .thread_name("sandhog-guest")
            .on_thread_start(Engine::tls_eager_initialize)
            .enable_time()
            .enable_io()
            .build()
            .map_err(EngineError::Threads)?;
        let compiling = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(COMPILING_THREADS)
            .thread_name("sandhog-compile")
            .enable_all()
            .build()
            .map_err(EngineError::Threads)?;
        let artifacts = options
            .artifacts
            .map(|path| Artifacts::new(path, &engine, MAX_TOTAL_BYTES));
        let compilations = Compilations::new(&engine, options.compiler, options.tiers, artifacts);
        let idle = Arc::new(IdleInstances::default());
        let (live_too, idle_too) = (Arc::clone(&live), Arc::clone(&idle));
        let ticker =
            Ticker::start(&engine, live_too, idle_too, runtime.handle().clone()).map_err(EngineError::Threads)?;
        let descriptors = Descriptors::of_this_process();
        let network = Network::new(resolver, descriptors.idle).map_err(EngineError::Threads)?;
        let room = Room {
            slots: options.max_live_instances,
            memory: options.memory_budget,
            descriptors: descriptors.attempts,
        };
        let shared = Shared {
            linkers: Linkers::new(&engine),
            network: Arc::new(network),
            engine,
            admission: Admission::new(room, Arc::clone(&live)),
            idle,
            live,
        };
        Ok(Self {
            shared: Arc::new(shared),
            compilations,
            runtime: Some(runtime),
            compiling: Some(compiling),
            ticker: Some(ticker),
        })
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("the runtime is only taken on drop")
    }

    fn compiling(&self) -> &Runtime {
        self.compiling.as_ref().expect("the runtime is only taken on drop")
    }

    /// Links on the guests' threads, since the instance that is tried may run code of the guest.
    async fn link(&self, file: PathBuf, code: Arc<Code>, policy: Arc<Policy>) -> Result<Component, LoadError> {
        let shared = Arc::clone(&self.shared);
        let lost = lost(&file);
        let task = self
            .runtime()
            .spawn(async move { shared.link(file, code, &policy).await });
        AbortOnDropHandle::new(task).await.unwrap_or(Err(lost))
    }
}

fn lost(file: &Path) -> LoadError {
    LoadError::Host {
        file: file.to_owned(),
        reason: "the task that loaded it ended".to_owned(),
    }
}

impl Shared {
    /// Runs one call in an instance that was kept, or in a new one. `None` if the host is stopping.
    async fn run(&self, component: &LocalComponent, call: Call) -> Option<Report> {
        let (policy, reuse) = (Arc::clone(&call.policy), call.policy.reuse);
        let claim = component.claim(reuse.map(|_| component.id));
        let (kept, admitted) = match self.admission.enter(claim, &policy, &self.idle).await? {
            Entered::New(admitted) => (None, admitted),
            Entered::Kept(running, admitted) => (Some(running), admitted),
        };
        let (report, running) = instance::run(self, component, call, kept).await;
        if let (Some(running), Some(reuse)) = (running, reuse) {
            self.idle
                .keep(component.id, running, admitted.into_permits(), reuse.idle);
        }
        Some(report)
    }

    /// Links code for a policy, and makes an instance and drops it, as soon as one is free.
    async fn link(&self, file: PathBuf, code: Arc<Code>, policy: &Arc<Policy>) -> Result<Component, LoadError> {
        if let Err(reason) = self.admission.check(policy) {
            return Err(LoadError::Start { file, reason });
        }
        let component = LocalComponent::link(self, &file, code, policy)?;
        let tried = {
            // What is tried is live too: its start function may spin.
            let admitted = self.admission.enter(component.claim(None), policy, &self.idle);
            let Some(_admitted) = admitted.await else {
                return Err(LoadError::Host {
                    file,
                    reason: "the host is stopping".to_owned(),
                });
            };
            instance::dry_run(self, &component, policy).await
        };
        match tried {
            Ok(()) => Ok(Component::new(Arc::clone(&component.code.info), Arc::new(component))),
            Err(DryRunError::Guest(reason)) => Err(LoadError::Start { file, reason }),
            Err(DryRunError::Host(reason)) => Err(LoadError::Host { file, reason }),
        }
    }
}

impl fmt::Debug for LocalExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalExecutor")
            .field("live", &self.live_instances())
            .finish_non_exhaustive()
    }
}

impl Drop for LocalExecutor {
    fn drop(&mut self) {
        // A runtime that is dropped in an async context would panic; its tasks are aborted either way.
        for runtime in [self.compiling.take(), self.runtime.take()].into_iter().flatten() {
            runtime.shutdown_background();
        }
        drop(self.ticker.take());
    }
}

#[async_trait]
impl Executor for LocalExecutor {
    async fn load(&self, file: PathBuf, wasm: Bytes, policy: Arc<Policy>) -> Result<Component, LoadError> {
        let (lost, limits) = (lost(&file), policy.limits);
        let (engine, compilations) = (self.shared.engine.clone(), Arc::clone(&self.compilations));
        let task = self.compiling().spawn(async move {
            let source = Source::new(file, wasm, limits).await?;
            let made = compilations.first(&source).await?;
            let code = Arc::new(Code::new(&engine, &source, &made)?);
            Ok((source, made, code))
        });
        let (source, made, code) = AbortOnDropHandle::new(task).await.unwrap_or(Err(lost))?;
        let component = self.link(source.file.clone(), Arc::clone(&code), policy).await?;
        // Only what serves is worth it.
        if self.compilations.improves(&made) {
            let improve = Arc::clone(&self.compilations).improve(source, made, Arc::downgrade(&code));
            code.improve_with(self.compiling().spawn(improve));
        }
        Ok(component)
    }

    async fn relink(&self, file: PathBuf, component: &Component, policy: Arc<Policy>) -> Result<Component, LoadError> {
        let Ok(local) = Arc::clone(&component.loaded).downcast::<LocalComponent>() else {
            return Err(LoadError::Host {
                file,
                reason: "it was loaded by another executor".to_owned(),
            });
        };
        self.link(file, Arc::clone(&local.code), policy).await
    }

    async fn run(&self, component: &Component, call: Call) -> Report {
        let count = call.messages.len();
        let Ok(local) = Arc::clone(&component.loaded).downcast::<LocalComponent>() else {
            return Report::not_run(count, "the component was loaded by another executor");
        };
        let guests = self.runtime().handle();
        if Handle::try_current().is_ok_and(|current| current.id() == guests.id()) {
            // Boxed where it is made: it is large, and would be moved several times.
            let run = AssertUnwindSafe(Box::pin(self.shared.run(&local, call))).catch_unwind();
            return match run.await {
                Ok(report) => report.unwrap_or_else(|| Report::not_run(count, STOPPING)),
                // It may be this very message that does it: it counts, so that it is not tried for ever.
                Err(_panic) => Report::panicked(count),
            };
        }
        let shared = Arc::clone(&self.shared);
        let task = guests.spawn(async move {
            let report = shared.run(&local, call).await;
            report.unwrap_or_else(|| Report::not_run(count, STOPPING))
        });
        let lost = |error: JoinError| {
            if error.is_panic() {
                Report::panicked(count)
            } else {
                Report::not_run(count, STOPPING)
            }
        };
        AbortOnDropHandle::new(task).await.unwrap_or_else(lost)
    }

    fn guests(&self) -> Option<Handle> {
        Some(self.runtime().handle().clone())
    }

    fn most_at_once(&self, component: &Component, policy: &Policy) -> usize {
        let slots = component
            .loaded
            .downcast_ref::<LocalComponent>()
            .map_or(1, |local| local.slots);
        self.shared.admission.most_at_once(policy, slots)
    }

    fn live_instances(&self) -> usize {
        self.shared.live.load(Ordering::Relaxed)
    }

    fn idle_instances(&self) -> usize {
        self.shared.idle.count()
    }
}

/// An operating-system thread, so that it ticks whatever guests do to the runtime. Joined on drop.
struct Ticker {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Ticker {
    fn start(
        engine: &Engine,
        live: Arc<AtomicUsize>,
        idle: Arc<IdleInstances>,
        runtime: Handle,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = mpsc::channel::<()>();
        let engine = engine.weak();
        let thread = thread::Builder::new().name("sandhog-epoch".to_owned()).spawn(move || {
            loop {
                let tick = if live.load(Ordering::Relaxed) == 0 {
                    IDLE_TICK
                } else {
                    TICK
                };
                match stopped.recv_timeout(tick) {
                    Err(mpsc::RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => break,
                }
                let Some(engine) = engine.upgrade() else { return };
                engine.increment_epoch();
                // They may hold files and much memory: not on the thread that ticks.
                if let Some(expired) = idle.expired() {
                    runtime.spawn_blocking(move || drop(expired));
                }
            }
            // What still runs was told to stop, and notices at its next ticks.
            for _ in 0..LAST_TICKS {
                let Some(engine) = engine.upgrade().filter(|_| live.load(Ordering::Relaxed) > 0) else {
                    return;
                };
                engine.increment_epoch();
                drop(engine);
                thread::park_timeout(TICK);
            }
        })?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the epoch thread panicked");
        }
    }
}

fn engine(max_live_instances: usize, allocation: Allocation) -> wasmtime::Result<Engine> {
    let mut config = compiler::settings(Tier::Optimised, machine::makes_images());
    match allocation {
        Allocation::Pooled { pagemap_scan, spare } => {
            let pool = pool(max_live_instances + spare, pagemap_scan);
            config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        }
        Allocation::OnDemand => {
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
    pool.total_memories(slots.saturating_mul(2));
    pool.total_tables(slots.saturating_mul(4));
    pool.total_stacks(slots);
    pool.max_memory_size(MAX_MEMORY_BYTES);
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
