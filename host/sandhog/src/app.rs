//! The life of a host: from a configuration to an [`App`], which runs and drains. Only this module knows all others.

use std::{
    convert::Infallible, fmt, future::pending, io, net::SocketAddr, path::PathBuf, pin::pin, sync::Arc, time::Duration,
};

use bytesize::ByteSize;
use futures_util::FutureExt as _;
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::Notify,
    task::{JoinError, JoinSet},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    admin::{self, AdminState},
    backup::BackupDesk,
    config::{Config, environment},
    config_reload::{ConfigReader, ConfigReload, ReloadDesk},
    deploy_desk::DeployDesk,
    endpoint::NamedKeys,
    exit_code::ExitCode,
    halts::{Halts, OpenedHalts},
    handler_set::{HandlerSet, HostContext},
    handler_status::HandlerStatuses,
    journal::{Journal, JournalKeeper},
    metrics::Metrics,
    plugin_dir::PluginDir,
    queue_set::QueueSet,
    reload::{Reload, VersionSettings},
    shutdown::StopTokens,
    signals::HostSignals,
    spy::{SpyClock, TestSpy},
    supervision::Supervision,
    traces::{HostTraces, TraceKeeper},
    versions::{VersionBoard, VersionStore},
};
use sandhog_executor::{Compiler, EngineError, EngineOptions, Executor, LocalExecutor, MemoryBudget, descriptors};
use sandhog_queue::{QueueError, alarm::wake_at, printable::chain};
use sandhog_simple::{OpenError, SimpleStore, StoreOptions};
use sandhog_traces::TraceExporter;

mod waiting;

use waiting::{EmptyQueues, empty, watch_paused};

/// The longest time for the release of interrupted deliveries, once the grace period is over.
const RELEASE_LIMIT: Duration = Duration::from_secs(5);
/// The most connections that wait to be accepted; the system may allow fewer. All clients of a host that was restarted come at once,
/// and one that finds no room tries again after a second.
const BACKLOG: u32 = 4096;

/// The reason why a host could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The queues' storage could not be opened.
    #[error("the data directory could not be opened")]
    Store(#[from] OpenError),
    /// A queue could not be declared.
    #[error("the queues could not be set up")]
    Queue(#[from] QueueError),
    /// What operators have paused is not known.
    #[error("it can't be read which queues and handlers are paused in {data}: mend halts.json there, or remove it")]
    Halts {
        /// The data directory.
        data: PathBuf,
        /// The error of the disk.
        #[source]
        source: io::Error,
    },
    /// What an earlier run has kept of its attempts can't be read.
    #[error(
        "the journal in {data} can't be read: move journal.jsonl away, or take durable out of [journal] in sandhog.toml"
    )]
    Journal {
        /// The data directory.
        data: PathBuf,
        /// The error of the disk.
        #[source]
        source: io::Error,
    },
    /// The listener's address could not be bound.
    #[error("can't listen on {address}: is another host running there? Choose another address with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The error of the system.
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
    /// Returns the exit code of a process that could not start.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Store(OpenError::InUse { .. }) => ExitCode::DataInUse,
            Self::Store(_) | Self::Queue(_) | Self::Halts { .. } | Self::Journal { .. } => ExitCode::Store,
            Self::Listen { .. } => ExitCode::Unavailable,
            Self::Engine(_) | Self::Process(_) => ExitCode::Internal,
        }
    }
}

/// Starts a host with guests in this process, and runs it until a signal or, with `until_empty`, until its queues are empty.
/// Blocks. The control plane and the guests have threads of their own, so that a guest on every core delays no extension.
///
/// `reader` reads the configuration again when an operator asks for it, and `supervision` tells whoever started the host how it is.
///
/// Only `sandhog` itself calls it, because each compilation starts the program again. Other programs call [`run_with`].
///
/// # Errors
///
/// See [`StartError`]. The exit code and the log tell what happened after the start.
pub fn run(
    config: Config,
    reader: ConfigReader,
    until_empty: bool,
    supervision: Supervision,
) -> Result<ExitCode, StartError> {
    let defaults = EngineOptions::default();
    let options = EngineOptions {
        max_live_instances: config.max_live_instances,
        memory_budget: budget(config.memory_budget),
        compiler: Compiler::of_this_program(environment("PATH").as_deref())?,
        artifacts: config.data.as_ref().map(|data| data.join("artifacts")),
        ..defaults
    };
    let executor = Arc::new(LocalExecutor::new(options)?);
    run_reading(config, Some(reader), until_empty, executor, supervision)
}

/// Returns the budget for instances in bytes, and logs where it comes from.
fn budget(configured: Option<u64>) -> u64 {
    let MemoryBudget { bytes, because } = MemoryBudget::of_machine();
    let shown = |bytes| ByteSize::b(bytes).display().iec().to_string();
    if let Some(configured) = configured {
        let budget = shown(configured);
        let usual = shown(bytes);
        tracing::info!(budget, usual, because, "memory for instances is as configured");
        return configured;
    }
    tracing::info!(budget = shown(bytes), because, "memory for instances");
    bytes
}

/// As [`run`], with another executor, and without a configuration that could be read again.
///
/// # Errors
///
/// See [`StartError`].
pub fn run_with(config: Config, until_empty: bool, executor: Arc<dyn Executor>) -> Result<ExitCode, StartError> {
    run_reading(config, None, until_empty, executor, Supervision::default())
}

fn run_reading(
    config: Config,
    reader: Option<ConfigReader>,
    until_empty: bool,
    executor: Arc<dyn Executor>,
    supervision: Supervision,
) -> Result<ExitCode, StartError> {
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("sandhog-control")
        .enable_all()
        .build()?;
    let ended = control.block_on(async {
        let signals = HostSignals::new()?;
        let opened = supervision.while_opening(App::start(config, executor)).await;
        let app = opened?.with_reader(reader);
        app.supervised_by(supervision).run(signals, until_empty).await
    });
    control.shutdown_timeout(RELEASE_LIMIT);
    ended
}

/// What a program that runs a host in itself may ask of it.
#[derive(Debug, Clone)]
pub struct HostControls {
    /// The queues of the host.
    pub queues: Arc<QueueSet>,
    /// The statuses of its handlers.
    pub statuses: Arc<HandlerStatuses>,
    /// Its store.
    pub store: SimpleStore,
    /// Empties the queues. The store has to be in memory.
    pub spy: TestSpy,
    /// Stops the host.
    pub stop: StopTokens,
    /// The address of the listener.
    pub address: SocketAddr,
}

/// A host that is ready to run.
#[derive(Debug)]
pub struct App {
    config: Config,
    reader: Option<ConfigReader>,
    supervision: Supervision,
    store: SimpleStore,
    clock: SpyClock,
    listener: TcpListener,
    host: HostContext,
    journal_keeper: JournalKeeper,
    trace_keeper: TraceKeeper,
    stop: StopTokens,
}

impl App {
    /// Lets the host read its configuration again when an operator asks for it.
    #[must_use]
    pub fn with_reader(mut self, reader: Option<ConfigReader>) -> Self {
        self.reader = reader;
        self
    }

    /// Lets the host tell whoever started it how it is.
    #[must_use]
    pub fn supervised_by(mut self, supervision: Supervision) -> Self {
        self.supervision = supervision;
        self
    }

    /// Opens the store, declares the queues and binds the listener. The host receives nothing yet.
    ///
    /// # Errors
    ///
    /// See [`StartError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave the data directory in use until its opening has ended.
    pub async fn start(config: Config, executor: Arc<dyn Executor>) -> Result<Self, StartError> {
        let address = config.listen;
        let listener = listen(address).map_err(|source| StartError::Listen { address, source })?;
        let clock = SpyClock::default();
        let store = match config.data.clone() {
            Some(directory) => {
                let options = StoreOptions {
                    processed_messages: config.ledger,
                    ..StoreOptions::new(directory)
                };
                let open = move || {
                    let store = SimpleStore::open(&options)?;
                    BackupDesk::remove_left(&options.directory);
                    DeployDesk::remove_left(&options.directory);
                    Ok::<_, OpenError>(store)
                };
                tokio::task::spawn_blocking(open).await.map_err(io::Error::other)??
            }
            None => SimpleStore::ephemeral_on(config.ledger, clock.machine()),
        };
        let halts = open_halts(config.data.clone()).await?;
        let journal_keeper = open_journal(&config).await?;
        let metrics = Arc::new(Metrics::new());
        let queues = QueueSet::new(store.clone(), config.queues.clone(), Arc::clone(metrics.sqs()));
        let queues = Arc::new(queues);
        queues.declare_known().await?;
        let statuses = Arc::new(HandlerStatuses::default());
        statuses.watch_store(Box::new(store.clone()));
        let stop = StopTokens::default();
        let (traces, exporter) = traces(&config, &metrics);
        let host = HostContext {
            queues,
            executor,
            statuses,
            metrics,
            journal: Arc::clone(journal_keeper.journal()),
            traces,
            versions: Arc::new(VersionBoard::new(&config.plugins).stored_in(stored_versions(&config))),
            halts: Arc::new(halts),
            stop_receiving: stop.receiving.clone(),
            stop_working: stop.working.clone(),
        };
        Ok(Self {
            config,
            reader: None,
            supervision: Supervision::default(),
            store,
            clock,
            listener,
            host,
            journal_keeper,
            trace_keeper: TraceKeeper::new(exporter),
            stop,
        })
    }

    /// Returns the controls of the host.
    ///
    /// # Errors
    ///
    /// The listener has no address.
    pub fn controls(&self) -> io::Result<HostControls> {
        Ok(HostControls {
            queues: Arc::clone(&self.host.queues),
            statuses: Arc::clone(&self.host.statuses),
            store: self.store.clone(),
            spy: self.spy(),
            stop: self.stop.clone(),
            address: self.listener.local_addr()?,
        })
    }

    fn spy(&self) -> TestSpy {
        TestSpy::new(Arc::clone(&self.host.queues), self.store.clone(), self.clock.clone())
    }

    /// Runs until a signal, until the queues are empty with `until_empty`, or until a part of the host has failed.
    ///
    /// # Errors
    ///
    /// [`StartError::Process`]: the listener has no address.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the attempts under way; their messages return by themselves.
    pub async fn run(self, signals: HostSignals, until_empty: bool) -> Result<ExitCode, StartError> {
        let spy = self.config.spy.then(|| self.spy());
        let Self {
            config,
            reader,
            supervision,
            store,
            clock: _,
            listener,
            host,
            journal_keeper,
            trace_keeper,
            stop,
        } = self;
        announce(listener.local_addr()?, &config);
        let queues = Arc::clone(&host.queues);
        let look = Arc::new(Notify::new());
        let reload = reload(&config, &host, Arc::clone(&look));
        let keys = NamedKeys::new(config.keys.clone());
        let (rereading, reload_desk) =
            ConfigReload::new(reader, config.clone(), Arc::clone(&queues), keys.clone(), look);
        let orders = Arc::new(Notify::new());
        let state = AdminState {
            backups: Arc::new(BackupDesk::new(store.clone(), config.data.clone())),
            ..admin_state(&host, &config, keys, reload_desk, spy)
        };
        let desks = (rereading.told_to(&supervision), state.deploys.clone());
        let stop_listening = CancellationToken::new();
        // The reload and the listener are tasks, so that a panic in one is an exit code and not a half-dead process.
        let mut reloading = JoinSet::new();
        reloading.spawn(reload.run(stop.receiving.clone()));
        let mut listening = JoinSet::new();
        listening.spawn(admin::serve(listener, state, stop_listening.clone()));
        let mut escalating = pin!(signals.escalate(stop.clone(), Arc::clone(&orders), config.grace_period));
        let mut emptying = pin!(empty(&host));
        let mut beside = Box::pin(beside(&host, &journal_keeper, desks, &orders));
        let mut supervising = pin!(supervision.follow(&host, config.grace_period));
        let mut watch_empty = until_empty;
        let (mut not_all, mut forced, mut give_up_at) = (None, None, None);
        let code = loop {
            tokio::select! {
                Some(ended) = reloading.join_next() => {
                    // A host that is told to stop before its queues are empty has not done its work.
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
                never = &mut beside => match never {},
                never = &mut supervising => match never {},
                () = wake_at(give_up_at) => {
                    tracing::error!("interrupted deliveries could not be released in time; their messages return by themselves");
                    break forced.unwrap_or(ExitCode::Internal);
                }
            }
        };
        // Whoever waits for a reload is answered by that.
        drop(beside);
        let closed = close(&journal_keeper, &queues, store, trace_keeper);
        let ended = end(listening, &stop_listening).then(|()| closed);
        supervision.while_closing(ended).await;
        tracing::info!(code = code.code(), "stopped");
        Ok(code)
    }
}

/// Ends the listener.
async fn end<T: fmt::Debug + 'static>(mut listening: JoinSet<T>, stop_listening: &CancellationToken) {
    stop_listening.cancel();
    while let Some(ended) = listening.join_next().await {
        tracing::debug!(?ended, "the listener has ended");
    }
}

/// Returns what the listener reads and changes.
fn admin_state(
    host: &HostContext,
    config: &Config,
    keys: NamedKeys,
    reload: ReloadDesk,
    spy: Option<TestSpy>,
) -> AdminState {
    AdminState {
        queues: Arc::clone(&host.queues),
        handlers: Arc::clone(&host.statuses),
        executor: Arc::clone(&host.executor),
        versions: Arc::clone(&host.versions),
        halts: Arc::clone(&host.halts),
        reload: Some(reload),
        metrics: Arc::clone(&host.metrics),
        journal: Arc::clone(&host.journal),
        traces: host.traces.clone(),
        backups: Arc::default(),
        deploys: deploys(config, host).map(Arc::new),
        secret: config.secret.clone(),
        dashboard: Arc::new(config.dashboard.clone()),
        keys,
        spy,
        draining: host.stop_receiving.clone(),
    }
}

/// Does what a host does beside its handlers, for as long as the future is polled.
async fn beside(
    host: &HostContext,
    journal_keeper: &JournalKeeper,
    (rereading, deploys): (ConfigReload, Option<Arc<DeployDesk>>),
    orders: &Notify,
) -> Infallible {
    let deploys = async {
        match deploys {
            Some(deploys) => deploys.follow().await,
            None => pending().await,
        }
    };
    tokio::select! {
        never = deploys => never,
        never = journal_keeper.follow() => never,
        never = watch_paused(host) => never,
        never = Arc::clone(&host.halts).watch_ends() => never,
        never = rereading.follow(orders) => never,
    }
}

/// Reads what operators have halted, beside the queues.
async fn open_halts(data: Option<PathBuf>) -> Result<Halts, StartError> {
    let Some(data) = data else {
        return Ok(Halts::default());
    };
    let directory = data.clone();
    let opened = tokio::task::spawn_blocking(move || Halts::open(&directory)).await;
    let opened = opened.map_err(io::Error::other)?;
    let OpenedHalts { halts, damage } = opened.map_err(|source| StartError::Halts { data, source })?;
    if let Some(damage) = damage {
        tracing::error!(damage, "nothing is paused by an operator: pause again what has to be");
    }
    for (target, halt) in halts.list() {
        tracing::warn!(%target, reason = halt.reason, "still paused by an operator");
    }
    Ok(halts)
}

/// Reads the attempts that an earlier run has kept, if they are to be kept.
async fn open_journal(config: &Config) -> Result<JournalKeeper, StartError> {
    let journal = Arc::new(Journal::new(config.journal.limits));
    let Some(data) = config.data.clone().filter(|_| config.journal.durable) else {
        return Ok(JournalKeeper::in_memory(journal));
    };
    let directory = data.clone();
    let opened = tokio::task::spawn_blocking(move || JournalKeeper::open(&directory, journal)).await;
    let opened = opened.map_err(io::Error::other)?;
    opened.map_err(|source| StartError::Journal { data, source })
}

/// Returns the traces that the host takes part in, and what exports its spans. The log says which variables can't be used.
fn traces(config: &Config, metrics: &Metrics) -> (Option<Arc<HostTraces>>, Option<TraceExporter>) {
    for mistake in &config.traces.mistakes {
        tracing::warn!("{mistake}");
    }
    let Some((traces, exporter)) = HostTraces::new(&config.traces, config.trace_parents, metrics.traces()) else {
        return (None, None);
    };
    if let Some(export) = &config.traces.export {
        tracing::info!(endpoint = export.shown_endpoint(), "spans are exported");
    }
    (Some(traces), exporter)
}

/// Listens at an address.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Connections of an earlier host that have just ended do not hold the port. On Windows this would mean something else.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Returns the directory in which the versions of handlers are stored.
fn stored_versions(config: &Config) -> Option<PathBuf> {
    config.data.as_ref().map(|data| data.join("versions"))
}

/// Returns the reload of the plugin directory, which looks at the directory whenever `look` is notified.
fn reload(config: &Config, host: &HostContext, look: Arc<Notify>) -> Reload {
    let versions = stored_versions(config).map(VersionStore::new);
    let settings = VersionSettings {
        keep: config.versions_keep,
        // A person who builds a handler wants the newest version, whatever it does.
        probation: config.manifest_base.is_none(),
    };
    let handlers = HandlerSet::new(host.clone());
    Reload::new(
        plugin_dir(config),
        Arc::clone(&host.executor),
        handlers,
        versions,
        settings,
    )
    .looking_at(look)
}

fn plugin_dir(config: &Config) -> PluginDir {
    let base = config.manifest_base.as_ref().unwrap_or(&config.plugins);
    PluginDir::new(config.plugins.clone()).with_base(base.clone())
}

/// Returns where components come in by a page, if the configuration says that they may.
fn deploys(config: &Config, host: &HostContext) -> Option<DeployDesk> {
    if !config.dashboard.deploy {
        return None;
    }
    let Some(data) = &config.data else {
        tracing::warn!(
            "dashboard-deploy does nothing without a data directory, which keeps what comes in until it is deployed"
        );
        return None;
    };
    Some(DeployDesk::new(plugin_dir(config), data, host.stop_receiving.clone()))
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

/// Closes what is left when nothing is handled any more.
async fn close(journal_keeper: &JournalKeeper, queues: &QueueSet, store: SimpleStore, traces: TraceKeeper) {
    // Every attempt has ended, so no span comes any more.
    tokio::join!(close_store(journal_keeper, queues, store), traces.finish());
}

async fn close_store(journal_keeper: &JournalKeeper, queues: &QueueSet, store: SimpleStore) {
    journal_keeper.finish().await;
    if timeout(RELEASE_LIMIT, queues.close()).await.is_err() {
        tracing::error!("a queue did not close in time; its messages in flight return by themselves");
    }
    if timeout(RELEASE_LIMIT, store.close()).await.is_err() {
        tracing::error!("the store did not close in time; it recovers when it is opened again");
    }
}

/// Returns the exit code of a host that ends because its queues are empty, if some of them are not.
fn code_of(emptied: &EmptyQueues) -> Option<ExitCode> {
    let EmptyQueues { refused, unserved } = emptied;
    for queue in unserved {
        tracing::warn!(%queue, "messages wait in a queue that no handler serves, or that is paused by an operator or by a drain");
    }
    let waiting = (!unserved.is_empty()).then_some(ExitCode::Unserved);
    refused.then_some(ExitCode::Refused).or(waiting)
}

/// Returns the exit code for the end of all handlers, unless they were told to end.
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
