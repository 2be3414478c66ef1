//! Config -> [`App`] -> run -> drain. The only module that knows every other one.

use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use bytesize::ByteSize;
use tokio::{
    net::TcpListener,
    sync::Notify,
    task::{JoinError, JoinSet},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    admin::{self, AdminState},
    alarm::wake_at,
    config::{Config, environment},
    descriptors,
    executor::{Budget, Compiler, EngineError, EngineOptions, Executor, LocalExecutor},
    exit_code::ExitCode,
    handler_set::{HandlerSet, HostContext},
    handler_status::HandlerStatuses,
    last_served::LastServedStore,
    metrics::Metrics,
    plugin_dir::PluginDir,
    printable::chain,
    queue::{
        QueueError,
        simple::{OpenError, SimpleStore, StoreOptions},
    },
    queue_set::QueueSet,
    reload::Reload,
    shutdown::StopTokens,
    signals::HostSignals,
};

mod waiting;

use waiting::{EmptyQueues, empty, watch_paused};

/// How long releasing what was interrupted may take, once nobody wants to wait any more.
const RELEASE_LIMIT: Duration = Duration::from_secs(5);

/// Why a host could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The queues' storage could not be opened.
    #[error("the data directory could not be opened")]
    Store(#[from] OpenError),
    /// A queue could not be declared.
    #[error("the queues could not be set up")]
    Queue(#[from] QueueError),
    /// The listener's address could not be bound.
    #[error("can't listen on {address}: is another host running there? Choose another address with --listen")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The executor could not be made.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Threads or signal handlers could not be set up.
    #[error("the process could not be set up")]
    Process(#[from] io::Error),
}

impl StartError {
    /// The exit code of a process that could not start.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Store(OpenError::InUse { .. }) => ExitCode::DataInUse,
            Self::Store(_) | Self::Queue(_) => ExitCode::Store,
            Self::Listen { .. } => ExitCode::Unavailable,
            Self::Engine(_) | Self::Process(_) => ExitCode::Internal,
        }
    }
}

/// Starts a host with guests in this process, and runs it until a signal or, with `until_empty`, until its queues are
/// empty. Blocks. Control plane and guests have threads of their own: a guest on every core delays no extension.
///
/// Only for `sandhog` itself, which is started again for each compilation; other programs have [`run_with`].
///
/// # Errors
///
/// See [`StartError`]. What happens after the start is in the exit code and in the log.
pub fn run(config: Config, until_empty: bool) -> Result<ExitCode, StartError> {
    let defaults = EngineOptions::default();
    let options = EngineOptions {
        max_live_instances: config.max_live_instances,
        memory_budget: budget(config.memory_budget),
        compiler: Compiler::of_this_program(environment("PATH").as_deref())?,
        artifacts: config.data.as_ref().map(|data| data.join("artifacts")),
        ..defaults
    };
    run_with(config, until_empty, Arc::new(LocalExecutor::new(options)?))
}

/// The budget for instances in bytes; the log says where it comes from.
fn budget(configured: Option<u64>) -> u64 {
    let Budget { bytes, because } = Budget::of_machine();
    let shown = |bytes| ByteSize::b(bytes).display().iec().to_string();
    if let Some(configured) = configured {
        let (budget, usual) = (shown(configured), shown(bytes));
        tracing::info!(budget, usual, because, "memory for instances is as configured");
        return configured;
    }
    tracing::info!(budget = shown(bytes), because, "memory for instances");
    bytes
}

/// As [`run`], with another executor.
///
/// # Errors
///
/// See [`StartError`].
pub fn run_with(config: Config, until_empty: bool, executor: Arc<dyn Executor>) -> Result<ExitCode, StartError> {
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("sandhog-control")
        .enable_all()
        .build()?;
    let ended = control.block_on(async {
        let signals = HostSignals::new()?;
        App::start(config, executor).await?.run(signals, until_empty).await
    });
    control.shutdown_timeout(RELEASE_LIMIT);
    ended
}

/// A host that is ready to run.
#[derive(Debug)]
pub struct App {
    config: Config,
    store: SimpleStore,
    listener: TcpListener,
    host: HostContext,
    stop: StopTokens,
}

impl App {
    /// Opens the store, declares the queues and binds the listener. Nothing is received yet.
    ///
    /// # Errors
    ///
    /// See [`StartError`].
    pub async fn start(config: Config, executor: Arc<dyn Executor>) -> Result<Self, StartError> {
        let address = config.listen;
        let bound = TcpListener::bind(address).await;
        let listener = bound.map_err(|source| StartError::Listen { address, source })?;
        let store = match config.data.clone() {
            Some(directory) => {
                let options = StoreOptions {
                    ledger: config.ledger,
                    ..StoreOptions::new(directory)
                };
                let open = move || SimpleStore::open(&options);
                tokio::task::spawn_blocking(open).await.map_err(io::Error::other)??
            }
            None => SimpleStore::ephemeral_with(config.ledger),
        };
        let metrics = Arc::new(Metrics::new());
        let queues = QueueSet::new(store.clone(), config.queues.clone(), Arc::clone(metrics.sqs()));
        let queues = Arc::new(queues);
        queues.declare_known().await?;
        let statuses = Arc::new(HandlerStatuses::default());
        statuses.watch_store(Box::new(store.clone()));
        let stop = StopTokens::default();
        let host = HostContext {
            queues,
            executor,
            statuses,
            metrics,
            stop_receiving: stop.receiving.clone(),
            stop_working: stop.working.clone(),
        };
        Ok(Self {
            config,
            store,
            listener,
            host,
            stop,
        })
    }

    /// Runs until a signal, until the queues are empty if `until_empty`, or until something of the host has failed.
    ///
    /// # Errors
    ///
    /// [`StartError::Process`]: the listener has no address.
    pub async fn run(self, signals: HostSignals, until_empty: bool) -> Result<ExitCode, StartError> {
        let Self {
            config,
            store,
            listener,
            host,
            stop,
        } = self;
        let address = listener.local_addr()?;
        let queues = Arc::clone(&host.queues);
        announce(address, &config);
        let state = AdminState {
            queues: Arc::clone(&host.queues),
            handlers: Arc::clone(&host.statuses),
            metrics: Arc::clone(&host.metrics),
            secret: config.secret,
            draining: stop.receiving.clone(),
        };
        let (executor, handlers) = (Arc::clone(&host.executor), HandlerSet::new(host.clone()));
        let look = Arc::new(Notify::new());
        let kept = config
            .data
            .as_ref()
            .map(|data| LastServedStore::new(data.join("versions")));
        let reload = Reload::new(PluginDir::new(config.plugins), executor, handlers, kept);
        let reload = reload.looking_at(Arc::clone(&look));
        let stop_listening = CancellationToken::new();
        // Tasks of their own, so that a panic in one is an exit code and not a half-dead process.
        let mut reloading = JoinSet::new();
        reloading.spawn(reload.run(stop.receiving.clone()));
        let mut listening = JoinSet::new();
        listening.spawn(admin::serve(listener, state, stop_listening.clone()));
        let mut escalating = pin!(signals.escalate(stop.clone(), look, config.grace_period));
        let (mut emptying, mut watching) = (pin!(empty(&host)), pin!(watch_paused(&host)));
        let (mut watch_empty, mut not_all) = (until_empty, None);
        let (mut forced, mut give_up_at) = (None, None);
        let code = loop {
            tokio::select! {
                Some(ended) = reloading.join_next() => {
                    // Told to stop before its queues were empty: it has not done what it was started for.
                    let cut_short = watch_empty.then_some(ExitCode::Terminated);
                    break ended_with(ended).or(forced).or(not_all).or(cut_short).unwrap_or(ExitCode::Ok);
                }
                Some(ended) = listening.join_next() => {
                    tracing::error!(?ended, "the listener has ended; stopping");
                    break ExitCode::Internal;
                }
                code = &mut escalating, if forced.is_none() => forced = Some(code),
                () = stop.working.cancelled(), if give_up_at.is_none() => give_up_at = Some(Instant::now() + RELEASE_LIMIT),
                emptied = &mut emptying, if watch_empty => {
                    watch_empty = false;
                    not_all = code_of(&emptied);
                    stop.receiving.cancel();
                }
                never = &mut watching => match never {},
                () = wake_at(give_up_at) => {
                    tracing::error!("what was interrupted could not be released in time; it returns by itself");
                    break forced.unwrap_or(ExitCode::Internal);
                }
            }
        };
        stop_listening.cancel();
        while let Some(ended) = listening.join_next().await {
            tracing::debug!(?ended, "the listener has ended");
        }
        close(&queues, store).await;
        tracing::info!(code = code.code(), "stopped");
        Ok(code)
    }
}

fn announce(address: SocketAddr, config: &Config) {
    let memory = || "memory".to_owned();
    let data = config
        .data
        .as_ref()
        .map_or_else(memory, |data| data.display().to_string());
    descriptors::warn_if_few();
    tracing::info!(%address, plugins = %config.plugins.display(), data, "listening");
}

async fn close(queues: &QueueSet, store: SimpleStore) {
    if timeout(RELEASE_LIMIT, queues.close()).await.is_err() {
        tracing::error!("a queue did not close in time; what it took returns by itself");
    }
    if timeout(RELEASE_LIMIT, store.close()).await.is_err() {
        tracing::error!("the store did not close in time; it recovers when it is opened again");
    }
}

/// The exit code of a host that ends because its queues are empty, if not all of them are.
fn code_of(emptied: &EmptyQueues) -> Option<ExitCode> {
    let EmptyQueues { refused, unserved } = emptied;
    for queue in unserved {
        tracing::warn!(%queue, "messages wait in a queue that no handler serves");
    }
    let waiting = (!unserved.is_empty()).then_some(ExitCode::Unserved);
    refused.then_some(ExitCode::Refused).or(waiting)
}

/// The exit code that the end of all handlers stands for, unless they ended because they were told to.
fn ended_with(ended: Result<Result<(), QueueError>, JoinError>) -> Option<ExitCode> {
    match ended {
        Ok(Ok(())) => None,
        Ok(Err(error)) => {
            tracing::error!(error = %chain(&error), "the store has failed; stopping");
            Some(ExitCode::Store)
        }
        Err(error) => {
            tracing::error!(%error, "a task of the host has died; stopping");
            Some(ExitCode::Internal)
        }
    }
}
