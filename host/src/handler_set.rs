//! The handlers that run: one dispatcher each, with the version that it gives to new deliveries.
//!
//! Invariant: a queue has at most one handler. Knows nothing of files.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    attempt::{AttemptContext, Version},
    dispatcher::Dispatcher,
    executor::{Component, Executor},
    handler_status::{HandlerBoard, LoadedVersion},
    lease::LeaseKeeper,
    message::QueueName,
    metrics::Metrics,
    queue::{Queue, QueueError},
    queue_set::QueueSet,
    slots::Slots,
};

/// How long the other handlers may take to release what they have in flight, once a queue has failed for good. Less than the host
/// waits for after an order to stop working.
const ABANDONED: Duration = Duration::from_secs(4);

/// What all handlers of a host share.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// All queues.
    pub queues: Arc<QueueSet>,
    /// Runs the guests.
    pub executor: Arc<dyn Executor>,
    /// Where the state of handlers is shown.
    pub board: Arc<HandlerBoard>,
    /// Where counts go.
    pub metrics: Arc<Metrics>,
    /// Cancelled when nothing new may be received.
    pub stop_receiving: CancellationToken,
    /// Cancelled when attempts under way must end.
    pub stop_working: CancellationToken,
}

/// The handlers that run.
#[derive(Debug)]
pub struct HandlerSet {
    surroundings: Surroundings,
    running: BTreeMap<String, Running>,
    /// The slots of each handler, which a dispatcher that ends shares with its successor.
    slots: BTreeMap<String, Slots>,
    tasks: JoinSet<(String, Result<(), QueueError>)>,
}

#[derive(Debug)]
struct Running {
    queue: QueueName,
    versions: watch::Sender<Arc<Version>>,
    stop_receiving: CancellationToken,
}

/// Why a version does not serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// It clashes with what runs. Final until something changes; the text says what.
    #[error("{0}")]
    Refused(String),
    /// A queue that it needs could not be declared.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl HandlerSet {
    /// No handler yet.
    pub fn new(surroundings: Surroundings) -> Self {
        Self {
            surroundings,
            running: BTreeMap::new(),
            slots: BTreeMap::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Where the state of handlers is shown.
    pub fn board(&self) -> &HandlerBoard {
        &self.surroundings.board
    }

    /// The component that a handler gives to new deliveries.
    pub fn component(&self, name: &str) -> Option<Component> {
        self.running
            .get(name)
            .map(|running| running.versions.borrow().component.clone())
    }

    /// Serves a version from now on: in place of the one before it, or as a new handler. Answers whether the handler left
    /// another queue for that, which is free now.
    ///
    /// # Errors
    ///
    /// See [`StartError`]. The version before it goes on serving.
    pub async fn serve(&mut self, name: &str, version: Version) -> Result<bool, StartError> {
        let queue = version.manifest.queue.clone();
        let taken = self
            .running
            .iter()
            .find(|(other, running)| *other != name && running.queue == queue);
        if let Some((other, _)) = taken {
            let reason = format!("queue {queue} has the handler {other} already; a queue has one handler");
            return Err(StartError::Refused(reason));
        }
        let served = self.surroundings.queues.declare(&queue).await?;
        for destination in version.manifest.grants.send.iter().flatten() {
            self.surroundings.queues.declare(destination).await?;
        }
        let leaves = self.running.get(name).is_some_and(|running| running.queue != queue);
        if leaves {
            self.remove(name);
        }
        let sends = version.manifest.grants.send.iter().flatten();
        let used = sends.chain([&queue]).map(ToString::to_string).collect();
        self.surroundings.metrics.handler_uses(name, used);
        let version = Arc::new(version);
        if let Some(running) = self.running.get(name) {
            running.versions.send_replace(Arc::clone(&version));
        } else {
            self.start(name, &served, Arc::clone(&version));
        }
        // Only now: whoever reads it may count on the version.
        self.announce(name, &version);
        Ok(leaves)
    }

    /// A newer version did not pass.
    pub fn refused(&self, name: &str, reason: &str) {
        let serving = if self.running.contains_key(name) {
            "the version before it goes on serving"
        } else {
            "it does not serve"
        };
        // What is to be copied has to be as it is, which a quoted text is not.
        if let Some((_, lines)) = reason.split_once('\n') {
            tracing::error!(handler = name, reason, %lines, "a handler was refused; {serving}");
        } else {
            tracing::error!(handler = name, reason, "a handler was refused; {serving}");
        }
        self.surroundings.board.refused(name, reason);
        self.surroundings.metrics.reloads(name, false);
    }

    /// Stops a handler after what is in flight.
    pub fn remove(&mut self, name: &str) {
        let Some(running) = self.running.remove(name) else {
            self.surroundings.board.removed(name);
            return;
        };
        tracing::info!(handler = name, queue = %running.queue, "a handler was removed; what is in flight ends");
        self.surroundings.board.stopping(name);
        running.stop_receiving.cancel();
    }

    /// Waits until a handler that was removed has ended; for ever if none is running.
    ///
    /// # Errors
    ///
    /// [`QueueError::Failed`]: its queue has failed for good.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn ended(&mut self) -> Result<(), QueueError> {
        match self.tasks.join_next().await {
            Some(joined) => self.joined(joined),
            None => std::future::pending().await,
        }
    }

    /// Stops every handler and waits for what is in flight. How long that takes is for `stop_working` to bound. A queue that
    /// has failed keeps no other handler from ending what it has begun.
    ///
    /// # Errors
    ///
    /// [`QueueError::Failed`]: a queue has failed for good.
    pub async fn drain(mut self) -> Result<(), QueueError> {
        for running in self.running.values() {
            running.stop_receiving.cancel();
        }
        let mut ended = Ok(());
        while let Some(joined) = self.tasks.join_next().await {
            ended = ended.and(self.joined(joined));
        }
        ended
    }

    /// Interrupts every handler, since a queue has failed for good, which ends the process: what the others have in flight is
    /// released, for [`ABANDONED`] at most.
    pub async fn abandon(self) {
        self.surroundings.stop_working.cancel();
        // The failure that led here is the one to report.
        if timeout(ABANDONED, self.drain()).await.is_err() {
            tracing::error!("what was in flight could not be released in time; it returns by itself");
        }
    }

    fn joined(&mut self, joined: Result<(String, Result<(), QueueError>), JoinError>) -> Result<(), QueueError> {
        match joined {
            Ok((name, ended)) => {
                if !self.running.contains_key(&name) {
                    self.surroundings.board.removed(&name);
                    self.surroundings.metrics.handler_removed(&name);
                }
                self.slots.retain(|_, slots| slots.are_in_use());
                ended
            }
            // A half-dead worker is worse than a restarted one: the panic goes up to the process.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    fn announce(&self, name: &str, version: &Version) {
        let info = &version.component.info;
        let (asked, concurrency) = (
            version.manifest.concurrency.get(),
            version.concurrency(&*self.surroundings.executor),
        );
        if concurrency < asked {
            tracing::warn!(
                handler = name,
                asked,
                concurrency,
                "the host has no room for so many instances at a time: lower the handler's memory, or raise memory-budget or max-live-instances"
            );
        }
        tracing::info!(
            handler = name,
            queue = %version.manifest.queue,
            flavour = %info.flavour,
            component = info.digest,
            compile_ms = u64::try_from(info.compile_time.as_millis()).unwrap_or(u64::MAX),
            concurrency,
            "serving"
        );
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        let loaded = LoadedVersion {
            queue: version.manifest.queue.clone(),
            flavour: info.flavour.to_string(),
            digest: info.digest.clone(),
            loaded_at_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        };
        self.surroundings.board.serving(name, loaded);
        self.surroundings.metrics.reloads(name, true);
    }

    fn start(&mut self, name: &str, queue: &Arc<dyn Queue>, version: Arc<Version>) {
        // One of the same name before it may have ended paused.
        self.surroundings.metrics.handler_paused(name, false);
        let (versions, receiver) = watch::channel(version);
        // A child, so that the order to stop reaches it whatever the reload is doing.
        let stop_receiving = self.surroundings.stop_receiving.child_token();
        let running = Running {
            queue: queue.name().clone(),
            versions,
            stop_receiving: stop_receiving.clone(),
        };
        let surroundings = &self.surroundings;
        let keeper = LeaseKeeper::new(Arc::clone(queue), Arc::clone(&surroundings.metrics));
        let context = AttemptContext {
            handler: name.to_owned(),
            queue: Arc::clone(queue),
            keeper: Arc::clone(&keeper),
            executor: Arc::clone(&surroundings.executor),
            queues: Arc::clone(&surroundings.queues),
            metrics: Arc::clone(&surroundings.metrics),
            stop_receiving,
            stop_working: surroundings.stop_working.clone(),
        };
        let slots = self.slots.entry(name.to_owned()).or_default();
        let slots = if slots.are_in_use() {
            slots.share()
        } else {
            slots.clone()
        };
        let dispatcher = Dispatcher::new(context, Arc::clone(&surroundings.board), receiver).with_slots(slots);
        let handler = name.to_owned();
        let probed = Arc::clone(&keeper);
        let probe = Box::new(move || probed.in_flight());
        let watch = surroundings.metrics.watch_leases(queue.name().as_str(), probe);
        self.tasks.spawn(async move {
            // Renewal goes on until the last attempt is settled, and ends with the dispatcher.
            let stop_renewing = CancellationToken::new();
            let (ended, ()) = tokio::join!(
                async {
                    let ended = dispatcher.run().await;
                    stop_renewing.cancel();
                    ended
                },
                keeper.run(stop_renewing.clone()),
            );
            drop(watch);
            (handler, ended)
        });
        self.running.insert(name.to_owned(), running);
    }
}
