//! Handlers on queues as a host runs them, without files and listener: dispatchers and leases on a control runtime of two
//! threads, guests where the executor puts them.

use std::{
    collections::BTreeMap,
    fmt,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use sandhog::{
    attempt::{AttemptContext, HandlerVersion, policy},
    config::{Manifest, QueueSettings},
    dispatcher::Dispatcher,
    handler_status::HandlerStatuses,
    metrics::Metrics,
    pages,
    queue_set::QueueSet,
    served_versions::ServedVersions,
    traces::HostTraces,
    versions::VersionBoard,
};
use sandhog_executor::{Component, Executor, policy::Reuse};
use sandhog_queue::{
    Queue,
    lease::LeaseKeeper,
    message::{Outgoing, QueueName},
};
use sandhog_simple::SimpleStore;
use tokio::{
    runtime::{Handle, Runtime},
    sync::watch,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// How many deliveries were settled, by `settlement`.
pub const SETTLED: &str = "sandhog_settled_deliveries_total{";

/// The sum of the samples of a metric that have this in their labels, on a page of metrics.
pub fn sum_of(page: &str, metric: &str, label: &str) -> u64 {
    let samples = page
        .lines()
        .filter(|line| line.starts_with(metric) && line.contains(label));
    samples
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

/// A runtime like the one that a host keeps for everything but guests, in a process that takes its memory as a host does.
pub fn control_runtime() -> Runtime {
    pages::keep_small();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("sandhog-control")
        .enable_all()
        .build()
        .unwrap()
}

/// What a handler of queue `bench` is told to be.
pub fn manifest(reuse: bool) -> Manifest {
    let mut manifest = Manifest::defaults("bench").unwrap();
    manifest.reuse = reuse.then_some(Reuse {
        max: 1_000_000,
        idle: Duration::from_mins(1),
    });
    manifest
}

/// Sends so many messages, a multiple of a thousand, a thousand at a time; each is told its number.
pub async fn fill(queue: &dyn Queue, messages: usize, body: fn(usize) -> Bytes) {
    const CHUNK: usize = 1000;
    for chunk in 0..messages / CHUNK {
        let bodies = (0..CHUNK).map(|index| body(chunk * CHUNK + index));
        let messages = bodies.map(|body| Outgoing::new(body).check().unwrap());
        queue.send_many(messages.collect()).await;
    }
}

/// Handlers that run, and the store that they run on.
pub struct Pipeline {
    runtime: Handle,
    store: SimpleStore,
    queues: Arc<QueueSet>,
    executor: Arc<dyn Executor>,
    pub metrics: Arc<Metrics>,
    stop: CancellationToken,
    stop_working: CancellationToken,
    /// The traces of handlers that are started from now on.
    pub traces: Option<Arc<HostTraces>>,
    tasks: JoinSet<()>,
    versions: Vec<watch::Sender<Arc<ServedVersions>>>,
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline").finish_non_exhaustive()
    }
}

impl Pipeline {
    /// Without a handler yet. Every queue is a Simple one.
    pub fn new(runtime: &Handle, store: SimpleStore, executor: Arc<dyn Executor>) -> Self {
        Self::with_queues(runtime, store, executor, BTreeMap::new())
    }

    /// As [`Pipeline::new`], with queues that are configured.
    pub fn with_queues(
        runtime: &Handle,
        store: SimpleStore,
        executor: Arc<dyn Executor>,
        configured: BTreeMap<QueueName, QueueSettings>,
    ) -> Self {
        let metrics = Arc::new(Metrics::new());
        let queues = QueueSet::new(store.clone(), configured, Arc::clone(metrics.sqs()));
        Self {
            runtime: runtime.clone(),
            store,
            queues: Arc::new(queues),
            executor,
            metrics,
            stop: CancellationToken::new(),
            stop_working: CancellationToken::new(),
            traces: None,
            tasks: JoinSet::new(),
            versions: Vec::new(),
        }
    }

    pub async fn queue(&self, name: &str) -> Arc<dyn Queue> {
        self.queues.declare(&QueueName::new(name).unwrap()).await.unwrap()
    }

    /// Starts a handler on the queue that its manifest names.
    pub async fn handle(&mut self, component: &Component, manifest: Manifest) {
        let queue = self.queue(manifest.queue.as_str()).await;
        self.handle_on(queue, component, manifest);
    }

    /// Starts a handler on this queue.
    pub fn handle_on(&mut self, queue: Arc<dyn Queue>, component: &Component, manifest: Manifest) {
        let handler = manifest.queue.to_string();
        let policy = Arc::new(policy(&handler, &manifest));
        let (versions, receiver) = watch::channel(Arc::new(ServedVersions::alone(HandlerVersion {
            number: 1,
            component: component.clone(),
            manifest,
            policy,
            tally: Arc::default(),
        })));
        self.versions.push(versions);
        let keeper = LeaseKeeper::new(Arc::clone(&queue), Arc::clone(self.metrics.leases()));
        let leases = Arc::clone(&keeper);
        let context = AttemptContext {
            handler,
            queue,
            keeper,
            executor: Arc::clone(&self.executor),
            queues: Arc::clone(&self.queues),
            metrics: Arc::clone(&self.metrics),
            journal: Arc::default(),
            traces: self.traces.clone(),
            halts: Arc::default(),
            stop_receiving: self.stop.clone(),
            stop_working: self.stop_working.clone(),
        };
        let board = Arc::new(VersionBoard::new(Path::new("plugins")));
        let dispatcher = Dispatcher::new(context, Arc::new(HandlerStatuses::default()), receiver, board);
        let run = async move {
            // The keeper extends leases until the last attempt is settled.
            let stop_extending = CancellationToken::new();
            let handling = async {
                dispatcher.run().await.unwrap();
                stop_extending.cancel();
            };
            tokio::join!(handling, leases.run(stop_extending.clone()));
        };
        self.tasks.spawn_on(run, &self.runtime);
    }

    /// Gives all handlers a new version, as a reload does.
    pub fn replace(&self, component: &Component, manifest: &Manifest) {
        for versions in &self.versions {
            versions.send_replace(Arc::new(ServedVersions::alone(HandlerVersion {
                number: 2,
                component: component.clone(),
                policy: Arc::new(policy(manifest.queue.as_str(), manifest)),
                manifest: manifest.clone(),
                tally: Arc::default(),
            })));
        }
    }

    /// Waits until so many deliveries were deleted, and answers since when they are.
    pub async fn deleted(&self, messages: usize) -> Instant {
        loop {
            let page = self.metrics.page();
            let settled = |word| sum_of(&page, SETTLED, &format!("settlement=\"{word}\""));
            let others = settled("retry") + settled("dead-letter");
            assert_eq!(others, 0, "a message of a benchmark was not handled");
            if settled("delete") >= u64::try_from(messages).unwrap() {
                return Instant::now();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// The sum of the samples of a metric that have this in their labels.
    pub fn sum_of(&self, metric: &str, label: &str) -> u64 {
        sum_of(&self.metrics.page(), metric, label)
    }

    /// Stops all handlers, waits for them, and closes the store.
    pub async fn stop(self) {
        let store = self.store.clone();
        self.stop_handlers().await;
        store.close().await;
    }

    /// Interrupts all handlers, as a host does when its grace period is over; the future waits for them.
    pub fn interrupt(self) -> impl Future<Output = ()> {
        self.stop_working.cancel();
        self.stop_handlers()
    }

    /// Stops all handlers at once; the future waits for them.
    pub fn stop_handlers(mut self) -> impl Future<Output = ()> {
        self.stop.cancel();
        async move {
            while let Some(ended) = self.tasks.join_next().await {
                ended.unwrap();
            }
        }
    }
}
