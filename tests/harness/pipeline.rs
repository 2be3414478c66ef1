//! Handlers on queues as a host runs them, without files and listener: dispatchers and leases on a control runtime of two
//! threads, guests where the executor puts them.

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use sandhog::{
    attempt::{AttemptContext, Version, policy},
    config::Manifest,
    dispatcher::Dispatcher,
    executor::{Component, Executor},
    handler_status::HandlerBoard,
    lease::LeaseKeeper,
    message::QueueName,
    metrics::Metrics,
    queue::{Queue, simple::SimpleStore},
    queue_set::QueueSet,
};
use tokio::{
    runtime::{Handle, Runtime},
    sync::watch,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// A runtime like the one that a host keeps for everything but guests.
pub fn control_runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("sandhog-control")
        .enable_all()
        .build()
        .unwrap()
}

/// Handlers that run, and the store that they run on.
pub struct Pipeline {
    runtime: Handle,
    store: SimpleStore,
    queues: Arc<QueueSet>,
    executor: Arc<dyn Executor>,
    pub metrics: Arc<Metrics>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    versions: Vec<watch::Sender<Arc<Version>>>,
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline").finish_non_exhaustive()
    }
}

impl Pipeline {
    /// Without a handler yet.
    pub fn new(runtime: &Handle, store: SimpleStore, executor: Arc<dyn Executor>) -> Self {
        let metrics = Arc::new(Metrics::new());
        let queues = QueueSet::new(store.clone(), BTreeMap::new(), Arc::clone(&metrics));
        Self {
            runtime: runtime.clone(),
            store,
            queues: Arc::new(queues),
            executor,
            metrics,
            stop: CancellationToken::new(),
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
        let (versions, receiver) = watch::channel(Arc::new(Version {
            component: component.clone(),
            manifest,
            policy,
        }));
        self.versions.push(versions);
        let keeper = LeaseKeeper::new(Arc::clone(&queue), Arc::clone(&self.metrics));
        let (leases, stopped) = (Arc::clone(&keeper), self.stop.clone());
        self.tasks
            .spawn_on(async move { leases.run(stopped).await }, &self.runtime);
        let context = AttemptContext {
            handler,
            queue,
            keeper,
            executor: Arc::clone(&self.executor),
            queues: Arc::clone(&self.queues),
            metrics: Arc::clone(&self.metrics),
            stop_receiving: self.stop.clone(),
            stop_working: CancellationToken::new(),
        };
        let dispatcher = Dispatcher::new(context, Arc::new(HandlerBoard::default()), receiver);
        self.tasks
            .spawn_on(async move { dispatcher.run().await.unwrap() }, &self.runtime);
    }

    /// Waits until so many deliveries were deleted, and answers since when they are.
    pub async fn deleted(&self, messages: usize) -> Instant {
        while self.settled("delete") < messages {
            for other in ["retry", "dead-letter"] {
                assert_eq!(self.settled(other), 0, "a message of a benchmark was not handled");
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Instant::now()
    }

    /// How many deliveries of all queues were settled so.
    pub fn settled(&self, settlement: &str) -> usize {
        let page = self.metrics.page();
        let word = format!("settlement=\"{settlement}\"");
        let counters = page
            .lines()
            .filter(|line| line.starts_with("sandhog_settled_deliveries_total{") && line.contains(&word));
        counters
            .filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok())
            .sum()
    }

    /// Stops all handlers, waits for them, and closes the store.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        drop(self.versions);
        self.store.close().await;
    }
}
