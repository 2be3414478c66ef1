//! The executor that runs guests in this process, on threads of their own.

use std::{
    fmt,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
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
use wasmtime::Engine;

use super::{
    CallReport, Component, EngineError, EngineOptions, Executor, GuestCall, GuestPolicy, GuestProfile, LoadError,
    MemoryAllocation, NameResolver, ProfilerBusy, SystemResolver,
    admission::{Admission, InstanceCost},
    artifacts::Artifacts,
    component::{Code, ComponentLinker},
    engine::{engine, suitable_engine},
    epoch::EpochThread,
    idle_instances::IdleInstances,
    import::http::Network,
    instance_runner::{AdmittedComponent, InstanceRunner, KeptInstance, STOPPING},
    profiler::Profiler,
    tiers::{Compilations, Source},
};
use crate::descriptors::GuestDescriptors;

/// The most threads that read, verify, map and keep compiled code.
const COMPILING_THREADS: usize = 8;

/// Runs guests in this process, on threads of their own.
pub struct LocalExecutor {
    engine: Engine,
    runner: Arc<InstanceRunner>,
    compilations: Arc<Compilations>,
    live: Arc<AtomicUsize>,
    profiler: Arc<Profiler>,
    // Both runtimes are dropped when nothing can be spawned any more; see `Drop`.
    runtime: Option<Runtime>,
    /// Guests that compute for long must not hold up the tasks that start compilers and read their answers. The one thread
    /// of this runtime lives as long as its children: a child is killed with the thread that started it.
    compiling: Option<Runtime>,
    epoch_thread: Option<EpochThread>,
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
    pub fn with_resolver(options: EngineOptions, resolver: Arc<dyn NameResolver>) -> Result<Self, EngineError> {
        let engine = suitable_engine(options.max_live_instances);
        Self::with_engine(options, resolver, engine)
    }

    /// The same, with memory from elsewhere than suits the machine.
    ///
    /// # Errors
    ///
    /// See [`EngineError`]; also if the kernel can't do what `allocation` asks for.
    pub fn with_allocation(options: EngineOptions, allocation: MemoryAllocation) -> Result<Self, EngineError> {
        let engine = engine(options.max_live_instances, allocation);
        Self::with_engine(options, Arc::new(SystemResolver), engine)
    }

    fn with_engine(
        options: EngineOptions,
        resolver: Arc<dyn NameResolver>,
        engine: wasmtime::Result<Engine>,
    ) -> Result<Self, EngineError> {
        let engine = engine.map_err(|error| EngineError::Engine(format!("{error:#}")))?;
        let live = Arc::new(AtomicUsize::new(0));
        let runtime = guest_runtime(options.threads).map_err(EngineError::Threads)?;
        let compiling = compiling_runtime().map_err(EngineError::Threads)?;
        let artifacts = options
            .artifacts
            .map(|path| Artifacts::new(path, &engine, options.artifacts_bytes));
        let compilations = Compilations::new(&engine, options.compiler, options.tiers, artifacts, options.urgent);
        let idle: Arc<IdleInstances<KeptInstance>> = Arc::default();
        let profiler = Profiler::new();
        let drop_expired = drop_expired(&idle, runtime.handle());
        let ticking = Arc::clone(&profiler);
        let epoch_thread = EpochThread::start(&engine, Arc::clone(&live), move || ticking.tick(), drop_expired)
            .map_err(EngineError::Threads)?;
        let descriptors = GuestDescriptors::of_this_process();
        let network = Network::new(resolver, descriptors.idle).map_err(EngineError::Threads)?;
        let slots = u32::try_from(options.max_live_instances).unwrap_or(u32::MAX);
        let all = InstanceCost::new(options.memory_budget, descriptors.attempts, slots);
        let runner = InstanceRunner::new(
            ComponentLinker::new(&engine, network, Arc::clone(&profiler)),
            Admission::new(all, Arc::clone(&live)),
            idle,
        );
        Ok(Self {
            engine,
            runner: Arc::new(runner),
            compilations,
            live,
            profiler,
            runtime: Some(runtime),
            compiling: Some(compiling),
            epoch_thread: Some(epoch_thread),
        })
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("the runtime is only taken on drop")
    }

    fn compiling(&self) -> &Runtime {
        self.compiling.as_ref().expect("the runtime is only taken on drop")
    }

    /// Links on the guests' threads, since the instance that is tried may run code of the guest.
    async fn link(&self, file: PathBuf, code: Arc<Code>, policy: Arc<GuestPolicy>) -> Result<Component, LoadError> {
        let runner = Arc::clone(&self.runner);
        let task_ended = task_ended(&file);
        let task = self
            .runtime()
            .spawn(async move { runner.link(file, code, &policy).await });
        let admitted = AbortOnDropHandle::new(task).await.unwrap_or(Err(task_ended))?;
        Ok(Component::new(
            Arc::clone(&admitted.code().info),
            admitted.waiting(),
            Arc::new(admitted),
        ))
    }
}

fn guest_runtime(threads: usize) -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("sandhog-guest")
        .on_thread_start(Engine::tls_eager_initialize)
        .enable_time()
        .enable_io()
        .build()
}

fn compiling_runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(COMPILING_THREADS)
        .thread_name("sandhog-compile")
        .enable_all()
        .build()
}

/// Returns what the epoch thread does at each tick. Expired instances may hold files and much memory, so the epoch thread does
/// not drop them itself.
fn drop_expired(idle: &Arc<IdleInstances<KeptInstance>>, runtime: &Handle) -> impl Fn() + Send + 'static {
    let idle = Arc::clone(idle);
    let runtime = runtime.clone();
    move || {
        if let Some(expired) = idle.take_expired() {
            runtime.spawn_blocking(move || drop(expired));
        }
    }
}

fn task_ended(file: &Path) -> LoadError {
    LoadError::Host {
        file: file.to_owned(),
        reason: "the task that loaded it ended".to_owned(),
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
        drop(self.epoch_thread.take());
    }
}

#[async_trait]
impl Executor for LocalExecutor {
    async fn load(&self, file: PathBuf, wasm: Bytes, policy: Arc<GuestPolicy>) -> Result<Component, LoadError> {
        let task_ended = task_ended(&file);
        let limits = policy.limits;
        let engine = self.engine.clone();
        let compilations = Arc::clone(&self.compilations);
        let task = self.compiling().spawn(async move {
            let source = Source::new(file, wasm, limits).await?;
            let compiled = compilations.first(&source).await?;
            let code = Arc::new(Code::new(&engine, &source, &compiled)?);
            Ok((source, compiled, code))
        });
        let loaded = AbortOnDropHandle::new(task).await;
        let (source, compiled, code) = loaded.unwrap_or(Err(task_ended))?;
        let component = self.link(source.file.clone(), Arc::clone(&code), policy).await?;
        // Only a component that serves is worth better code.
        if self.compilations.improves(&compiled) {
            let served = Arc::downgrade(&code);
            let replace = move |better| {
                if let Some(code) = served.upgrade() {
                    code.replace(better);
                }
            };
            let improve = Arc::clone(&self.compilations).improve(source, compiled, replace);
            code.improve_with(self.compiling().spawn(improve));
        }
        Ok(component)
    }

    async fn relink(
        &self,
        file: PathBuf,
        component: &Component,
        policy: Arc<GuestPolicy>,
    ) -> Result<Component, LoadError> {
        let Some(admitted) = component.loaded.downcast_ref::<AdmittedComponent>() else {
            return Err(LoadError::Host {
                file,
                reason: "it was loaded by another executor".to_owned(),
            });
        };
        self.link(file, Arc::clone(admitted.code()), policy).await
    }

    async fn run(&self, component: &Component, call: GuestCall) -> CallReport {
        let count = call.messages.len();
        let Ok(admitted) = Arc::clone(&component.loaded).downcast::<AdmittedComponent>() else {
            return CallReport::not_run(count, "the component was loaded by another executor");
        };
        let guests = self.runtime().handle();
        if Handle::try_current().is_ok_and(|current| current.id() == guests.id()) {
            // Boxed where it is made: the future is large, and would be moved several times.
            let run = AssertUnwindSafe(Box::pin(self.runner.run(&admitted, call))).catch_unwind();
            return match run.await {
                Ok(report) => report.unwrap_or_else(|| CallReport::not_run(count, STOPPING)),
                // The message itself may cause the panic. A panic counts as a failure, so that the message is not tried for
                // ever.
                Err(_panic) => CallReport::panicked(count),
            };
        }
        let runner = Arc::clone(&self.runner);
        let task = guests.spawn(async move {
            let report = runner.run(&admitted, call).await;
            report.unwrap_or_else(|| CallReport::not_run(count, STOPPING))
        });
        let task_ended = |error: JoinError| {
            if error.is_panic() {
                CallReport::panicked(count)
            } else {
                CallReport::not_run(count, STOPPING)
            }
        };
        AbortOnDropHandle::new(task).await.unwrap_or_else(task_ended)
    }

    fn guests(&self) -> Option<Handle> {
        Some(self.runtime().handle().clone())
    }

    fn most_at_once(&self, component: &Component, policy: &GuestPolicy) -> usize {
        self.runner.most_at_once(component.loaded.downcast_ref(), policy)
    }

    async fn profile(&self, handler: &str, time: Duration) -> Result<GuestProfile, ProfilerBusy> {
        self.profiler.profile(handler, time).await
    }

    fn live_instances(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    fn idle_instances(&self) -> usize {
        self.runner.idle_count()
    }
}
