//! The engine that all guests share: its configuration, the pool's size, the thread that ticks epochs,
//! and the runtime that guests run on.

use std::{
    fmt, fs,
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
use tokio::{runtime::Runtime, sync::Semaphore, task::JoinError};
use tokio_util::task::AbortOnDropHandle;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, component::Linker};

use super::{
    Call, Component, Executor, LoadError, Policy, Report,
    component::LocalComponent,
    import,
    instance::{self, DryRunError},
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

/// What the executor is made of.
#[derive(Debug, Clone, Copy)]
pub struct EngineOptions {
    /// How many instances may be alive at one time; 1 to 4,096. Calls past it wait.
    pub max_live_instances: usize,
    /// How many threads run guests; 1 or more.
    pub threads: usize,
}

impl Default for EngineOptions {
    /// 512 instances, a thread for each core.
    fn default() -> Self {
        Self {
            max_live_instances: 512,
            threads: thread::available_parallelism().map_or(2, usize::from),
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
    // Dropped after nothing can be spawned any more; see `Drop`.
    runtime: Option<Runtime>,
    ticker: Option<Ticker>,
}

/// What a call needs while it runs on the guests' threads.
pub(super) struct Shared {
    pub(super) engine: Engine,
    pub(super) linker: Linker<instance::GuestState>,
    slots: Semaphore,
    all_slots: u32,
    compiling: Semaphore,
    live: Arc<AtomicUsize>,
}

impl LocalExecutor {
    /// Makes the engine and starts its threads.
    ///
    /// # Errors
    ///
    /// See [`EngineError`].
    pub fn new(options: EngineOptions) -> Result<Self, EngineError> {
        let engine = engine(options.max_live_instances).map_err(|error| EngineError::Engine(format!("{error:#}")))?;
        let linker = import::linker(&engine).map_err(|error| EngineError::Engine(format!("{error:#}")))?;
        let live = Arc::new(AtomicUsize::new(0));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(options.threads)
            .thread_name("sandhog-guest")
            .on_thread_start(Engine::tls_eager_initialize)
            .enable_time()
            .enable_io()
            .build()
            .map_err(EngineError::Threads)?;
        let ticker = Ticker::start(&engine, Arc::clone(&live)).map_err(EngineError::Threads)?;
        let shared = Shared {
            engine,
            linker,
            slots: Semaphore::new(options.max_live_instances),
            all_slots: u32::try_from(options.max_live_instances).unwrap_or(u32::MAX),
            // One at a time: compiling uses every core by itself.
            compiling: Semaphore::new(1),
            live,
        };
        Ok(Self {
            shared: Arc::new(shared),
            runtime: Some(runtime),
            ticker: Some(ticker),
        })
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("the runtime is only taken on drop")
    }
}

impl Shared {
    /// Makes an instance and drops it, as soon as one is free.
    async fn dry_run(&self, file: &Path, component: &LocalComponent, policy: &Policy) -> Result<(), LoadError> {
        let file = || file.to_owned();
        let slots = self.slots.acquire_many(component.slots.min(self.all_slots)).await;
        let _slots = slots.map_err(|_| LoadError::Host {
            file: file(),
            reason: "the host is stopping".to_owned(),
        })?;
        instance::dry_run(self, component, policy)
            .await
            .map_err(|error| match error {
                DryRunError::Guest(reason) => LoadError::Start { file: file(), reason },
                DryRunError::Host(reason) => LoadError::Host { file: file(), reason },
            })
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
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        drop(self.ticker.take());
    }
}

#[async_trait]
impl Executor for LocalExecutor {
    async fn load(&self, file: PathBuf, wasm: Bytes, policy: Arc<Policy>) -> Result<Component, LoadError> {
        let shared = Arc::clone(&self.shared);
        let host = |file: &PathBuf, reason: String| LoadError::Host {
            file: file.clone(),
            reason,
        };
        let lost = host(&file, "the thread that compiled it ended".to_owned());
        let task = self.runtime().spawn(async move {
            let _permit = shared
                .compiling
                .acquire()
                .await
                .map_err(|_| host(&file, "the host is stopping".to_owned()))?;
            let compiling = Arc::clone(&shared);
            let compiled_file = file.clone();
            let compiled =
                tokio::task::spawn_blocking(move || LocalComponent::compile(&compiling, &compiled_file, wasm));
            let (component, info) = compiled
                .await
                .map_err(|_| host(&file, "the compiler panicked".to_owned()))??;
            shared.dry_run(&file, &component, &policy).await?;
            Ok(Component {
                info: Arc::new(info),
                loaded: Arc::new(component),
            })
        });
        AbortOnDropHandle::new(task).await.unwrap_or(Err(lost))
    }

    async fn try_start(&self, file: PathBuf, component: &Component, policy: Arc<Policy>) -> Result<(), LoadError> {
        let foreign = LoadError::Host {
            file: file.clone(),
            reason: "it was loaded by another executor".to_owned(),
        };
        let Ok(local) = Arc::clone(&component.loaded).downcast::<LocalComponent>() else {
            return Err(foreign);
        };
        let shared = Arc::clone(&self.shared);
        let lost = LoadError::Host {
            file: file.clone(),
            reason: "the task that started it ended".to_owned(),
        };
        let task = self
            .runtime()
            .spawn(async move { shared.dry_run(&file, &local, &policy).await });
        AbortOnDropHandle::new(task).await.unwrap_or(Err(lost))
    }

    async fn run(&self, component: &Component, call: Call) -> Report {
        let count = call.messages.len();
        let Ok(local) = Arc::clone(&component.loaded).downcast::<LocalComponent>() else {
            return Report::not_run(count, "the component was loaded by another executor");
        };
        let shared = Arc::clone(&self.shared);
        let task = self.runtime().spawn(async move {
            let Ok(_slots) = shared.slots.acquire_many(local.slots.min(shared.all_slots)).await else {
                return Report::not_run(count, "the host is stopping");
            };
            let _live = Live::count(&shared.live);
            instance::run(&shared, &local, call).await
        });
        let lost = |error: JoinError| {
            if error.is_panic() {
                // It may be this very message that does it: it counts, so that it is not tried for ever.
                Report::panicked(count)
            } else {
                Report::not_run(count, "the host is stopping")
            }
        };
        AbortOnDropHandle::new(task).await.unwrap_or_else(lost)
    }

    fn live_instances(&self) -> usize {
        self.shared.live.load(Ordering::Relaxed)
    }
}

/// Counts one live instance for as long as it is held.
struct Live(Arc<AtomicUsize>);

impl Live {
    fn count(live: &Arc<AtomicUsize>) -> Self {
        live.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(live))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An operating-system thread, so that it ticks whatever guests do to the runtime. Joined on drop.
struct Ticker {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Ticker {
    fn start(engine: &Engine, live: Arc<AtomicUsize>) -> std::io::Result<Self> {
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

fn engine(max_live_instances: usize) -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    config.epoch_interruption(true);
    config.wasm_component_model(true);
    config.wasm_memory64(false);
    config.parallel_compilation(true);
    // Registering unwind tables gets slow with many modules, and only native debuggers read them.
    config.native_unwind_info(false);
    // Debug information of a guest is input that nobody trusts, and parsing it costs.
    config.wasm_backtrace_details(wasmtime::WasmBacktraceDetails::Disable);
    if address_space_allows(max_live_instances) {
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(max_live_instances)));
    } else {
        tracing::warn!("address space is limited (ulimit -v): instances are allocated one by one, which is slower");
        config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
    }
    Engine::new(&config)
}

/// A slot of the pool is 4 GiB of address space and guards; a limit on address space (`RLIMIT_AS`) forbids that.
fn address_space_allows(max_live_instances: usize) -> bool {
    let wanted = (slots(max_live_instances) * 2).saturating_mul(5 << 30);
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let limit = limits.lines().find_map(|line| {
        line.strip_prefix("Max address space")?
            .split_whitespace()
            .next()?
            .parse()
            .ok()
    });
    limit.is_none_or(|limit: usize| limit > wanted)
}

/// Slots of an instance that is being dropped may be taken for a moment longer than it counts as live.
fn slots(max_live_instances: usize) -> usize {
    max_live_instances + 64
}

/// The shape of the pool: a component that a toolchain made of a module has up to four core instances and two tables;
/// interpreters have many more of each, and share what others leave.
fn pool(max_live_instances: usize) -> PoolingAllocationConfig {
    let slots = u32::try_from(slots(max_live_instances)).unwrap_or(u32::MAX);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots);
    pool.total_core_instances(slots.saturating_mul(8));
    pool.total_memories(slots.saturating_mul(2));
    pool.total_tables(slots.saturating_mul(4));
    pool.total_stacks(slots);
    pool.max_memory_size(MAX_MEMORY_BYTES);
    pool.table_elements(100_000);
    pool.max_core_instance_size(8 * 1024 * 1024);
    pool.max_component_instance_size(8 * 1024 * 1024);
    pool.max_core_instances_per_component(128);
    pool.max_memories_per_module(16);
    pool.max_tables_per_module(16);
    pool.max_memories_per_component(32);
    pool.max_tables_per_component(64);
    pool.table_keep_resident(64 * 1024);
    // A swapped-out dirty page would escape the scan on this version of the engine and reach the next guest, so the
    // scan is used only where nothing can be swapped.
    let scan = PoolingAllocationConfig::is_pagemap_scan_available() && !can_swap();
    pool.pagemap_scan(if scan { Enabled::Yes } else { Enabled::No });
    pool.linear_memory_keep_resident(if scan { KEEP_RESIDENT_WITH_SCAN } else { KEEP_RESIDENT });
    tracing::debug!(pagemap_scan = scan, slots, "instance pool");
    pool
}

/// Whether the system has any swap space; `true` when it can't be told.
fn can_swap() -> bool {
    fs::read_to_string("/proc/swaps").map_or(true, |swaps| swaps.lines().skip(1).any(|line| !line.trim().is_empty()))
}
