//! The handlers that run. Each has a dispatcher, with the version that the dispatcher gives to new deliveries.
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
    attempt::{AttemptContext, HandlerVersion},
    dispatcher::Dispatcher,
    halts::Halts,
    handler_status::{HandlerStatuses, LoadedVersion},
    journal::Journal,
    metrics::Metrics,
    queue_set::QueueSet,
    served_versions::ServedVersions,
    slots::Slots,
    traces::HostTraces,
    versions::VersionBoard,
};
use sandhog_executor::Executor;
use sandhog_queue::{
    Queue, QueueError,
    lease::LeaseKeeper,
    machine_clock::{wall_ms, whole_ms},
    message::QueueName,
};

mod claims;
mod held_leases;
mod metrics;

pub use self::{
    held_leases::{HeldLeases, LeaseProbe, LeaseWatch},
    metrics::HandlerMetrics,
};
use claims::{QueueClaim, QueueRuling};

/// The longest time for the other handlers to release their deliveries in flight, once a queue has failed for good. The host waits
/// longer than that after an order to stop working.
const ABANDON_LIMIT: Duration = Duration::from_secs(4);

/// The parts of the host that all handlers share.
#[derive(Debug, Clone)]
pub struct HostContext {
    /// All queues.
    pub queues: Arc<QueueSet>,
    /// Runs the guests.
    pub executor: Arc<dyn Executor>,
    /// The statuses of all handlers.
    pub statuses: Arc<HandlerStatuses>,
    /// The metrics of the host.
    pub metrics: Arc<Metrics>,
    /// The recent attempts of all handlers.
    pub journal: Arc<Journal>,
    /// The traces; `None` if the host has nothing to do with any.
    pub traces: Option<Arc<HostTraces>>,
    /// What is known about the versions of all handlers.
    pub versions: Arc<VersionBoard>,
    /// What operators have halted.
    pub halts: Arc<Halts>,
    /// The token is cancelled when handlers must stop receiving.
    pub stop_receiving: CancellationToken,
    /// The token is cancelled when attempts under way must end.
    pub stop_working: CancellationToken,
}

/// The handlers that run, and the newest version of each that was accepted.
#[derive(Debug)]
pub struct HandlerSet {
    host: HostContext,
    /// The newest accepted version. It differs from the running one only where another handler has its queue.
    newest: BTreeMap<String, Arc<ServedVersions>>,
    running: BTreeMap<String, RunningHandler>,
    /// The slots of each handler, which a dispatcher that ends shares with its successor.
    slots: BTreeMap<String, Slots>,
    tasks: JoinSet<(String, Result<(), QueueError>)>,
}

#[derive(Debug)]
struct RunningHandler {
    queue: QueueName,
    versions: watch::Sender<Arc<ServedVersions>>,
    stop_receiving: CancellationToken,
}

/// The changes that an arrangement of the queues has made.
#[derive(Debug, Default)]
pub struct ArrangedQueues {
    /// Handlers whose newest version has begun to serve.
    pub began: Vec<String>,
    /// Handlers whose newest version does not serve because another one has its queue, each with the reason.
    pub clashes: BTreeMap<String, String>,
}

/// The reason why the newest version of a handler does not serve.
#[derive(Debug)]
pub struct RefusedVersion {
    /// The digest of the component, if its files are refused for good.
    pub component: Option<String>,
    /// The text names the mistake, and a remedy.
    pub reason: String,
    /// The same files may be accepted another time.
    pub is_transient: bool,
    /// The reason was reported before.
    pub known: bool,
}

impl HandlerSet {
    /// No handler yet.
    pub fn new(host: HostContext) -> Self {
        Self {
            host,
            newest: BTreeMap::new(),
            running: BTreeMap::new(),
            slots: BTreeMap::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Returns the statuses of all handlers.
    pub fn statuses(&self) -> &HandlerStatuses {
        &self.host.statuses
    }

    /// Returns the metrics of the host.
    pub fn metrics(&self) -> &Metrics {
        &self.host.metrics
    }

    /// Returns the board of all versions.
    pub fn board(&self) -> &Arc<VersionBoard> {
        &self.host.versions
    }

    /// Returns the versions that a handler gives to new deliveries.
    pub fn served(&self, name: &str) -> Option<Arc<ServedVersions>> {
        self.running
            .get(name)
            .map(|running| Arc::clone(&running.versions.borrow()))
    }

    /// Returns whether a version of the handler was accepted.
    pub fn has(&self, name: &str) -> bool {
        self.newest.contains_key(name)
    }

    /// Makes the queues that a handler names exist from now on.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    ///
    /// # Cancel safety
    ///
    /// As [`QueueSet::declare`].
    pub async fn declare(&self, name: &str, queues: &[QueueName]) -> Result<(), QueueError> {
        self.host.queues.named_by(name, queues);
        for queue in queues {
            self.host.queues.declare(queue).await?;
        }
        Ok(())
    }

    /// Takes versions as the newest of a handler. The queues of the newest version exist from now on. The version serves once
    /// [`HandlerSet::arrange`] gives it its queue.
    ///
    /// # Errors
    ///
    /// See [`QueueError`]; then nothing has changed.
    ///
    /// # Cancel safety
    ///
    /// Safe: the version is taken at the end.
    pub async fn accept(&mut self, name: &str, versions: ServedVersions) -> Result<(), QueueError> {
        self.declare(name, &versions.newest.manifest.queues()).await?;
        self.newest.insert(name.to_owned(), Arc::new(versions));
        Ok(())
    }

    /// Gives each queue to its handler. `coming` has the handlers of which another version is being loaded, with the queue of that
    /// version if it is known.
    pub fn arrange(&mut self, coming: &BTreeMap<String, Option<QueueName>>) -> ArrangedQueues {
        let rulings = self.rulings(coming);
        let mut arranged = ArrangedQueues::default();
        // Handlers end before others begin, because a queue has one handler.
        for (name, ruling) in &rulings {
            match ruling {
                QueueRuling::Newest if self.leaves(name) => self.leave(name),
                QueueRuling::Nothing(winner) => {
                    self.leave(name);
                    arranged.clashes.insert(name.clone(), self.clash(name, winner));
                }
                QueueRuling::Older(winner) => drop(arranged.clashes.insert(name.clone(), self.clash(name, winner))),
                QueueRuling::Newest | QueueRuling::Wait => {}
            }
        }
        let newest = rulings.iter().filter(|(_, ruling)| **ruling == QueueRuling::Newest);
        arranged.began = newest
            .filter(|(name, _)| self.serve(name))
            .map(|(name, _)| name.clone())
            .collect();
        arranged
    }

    fn rulings(&self, coming: &BTreeMap<String, Option<QueueName>>) -> BTreeMap<String, QueueRuling> {
        let mut claims: BTreeMap<&str, QueueClaim<'_>> = BTreeMap::new();
        for (name, versions) in &self.newest {
            claims.entry(name).or_default().newest = Some(&versions.newest.manifest.queue);
        }
        for (name, running) in &self.running {
            claims.entry(name).or_default().serving = Some(&running.queue);
        }
        for (name, queue) in coming {
            let claim = claims.entry(name).or_default();
            (claim.is_coming, claim.coming) = (true, queue.as_ref());
        }
        claims::rule(&claims)
    }

    /// Returns whether the newest version of a running handler is for another queue.
    fn leaves(&self, name: &str) -> bool {
        let newest = self.newest.get(name);
        newest
            .zip(self.running.get(name))
            .is_some_and(|(newest, running)| newest.newest.manifest.queue != running.queue)
    }

    fn clash(&self, name: &str, winner: &str) -> String {
        let queue = self
            .newest
            .get(name)
            .map_or("?", |versions| versions.newest.manifest.queue.as_str());
        format!(
            "queue {queue} has the handler {winner} already; a queue has one handler, and of several files that name it the first by name has it"
        )
    }

    /// Serves the newest version of a handler. Returns whether that version did not serve before.
    fn serve(&mut self, name: &str) -> bool {
        let Some(versions) = self.newest.get(name).map(Arc::clone) else {
            return false;
        };
        let version = &versions.newest;
        match self.running.get(name) {
            Some(running) if Arc::ptr_eq(&running.versions.borrow(), &versions) => return false,
            Some(running) => drop(running.versions.send_replace(Arc::clone(&versions))),
            None => {
                // The handler has named it, so nobody has deleted it.
                let Some(queue) = self.host.queues.get(&version.manifest.queue) else {
                    tracing::error!(handler = name, queue = %version.manifest.queue, "the queue of a handler is not there, so the handler does not serve: save its file again");
                    return false;
                };
                self.start(name, &queue, Arc::clone(&versions));
            }
        }
        let used = version.manifest.queues().iter().map(ToString::to_string).collect();
        self.host.metrics.handlers().uses(name, used);
        // The announcement comes last, so that its readers can count on the version.
        self.announce(name, version);
        true
    }

    /// Reports a newer version that was refused. The log has each reason once.
    pub fn refused(&self, name: &str, refused: &RefusedVersion) {
        let RefusedVersion {
            component,
            reason,
            is_transient,
            known,
        } = refused;
        let serving = if self.running.contains_key(name) {
            "the version before it goes on serving"
        } else {
            "it does not serve"
        };
        if *is_transient {
            self.host.statuses.refused_for_now(name, reason);
        } else {
            self.host.statuses.refused(name, reason, component.as_deref());
        }
        if *known {
            tracing::debug!(handler = name, reason, "a handler is still not loaded; {serving}");
            return;
        }
        if *is_transient {
            tracing::error!(
                handler = name,
                reason,
                "a handler can't be loaded now, and is tried again; {serving}"
            );
        } else {
            tracing::error!(handler = name, reason, "a handler was refused; {serving}");
        }
        self.host.metrics.handlers().loaded(name, false);
    }

    /// Files that never made a handler are gone: they need no queue.
    pub fn forget_names_of(&self, name: &str) {
        self.host.queues.forget_names_of(name);
    }

    /// Stops a handler after its deliveries in flight, and forgets it.
    pub fn remove(&mut self, name: &str) {
        self.newest.remove(name);
        self.host.queues.forget_names_of(name);
        if let Some(running) = self.running.get(name) {
            tracing::info!(handler = name, queue = %running.queue, "a handler was removed; what is in flight ends");
            self.stop(name);
        } else {
            self.host.statuses.removed(name);
        }
    }

    /// Stops a handler on the queue that it leaves.
    fn leave(&mut self, name: &str) {
        if let Some(running) = self.running.get(name) {
            tracing::info!(handler = name, queue = %running.queue, "a handler leaves its queue; what is in flight ends");
            self.stop(name);
        }
    }

    /// Stops the dispatcher of a handler after its deliveries in flight.
    fn stop(&mut self, name: &str) {
        let Some(running) = self.running.remove(name) else {
            return;
        };
        self.host.statuses.stopping(name);
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

    /// Stops every handler and waits for the deliveries in flight; `stop_working` bounds the time. A queue that has failed does not
    /// keep the other handlers from ending their attempts.
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

    /// Interrupts every handler, because a queue has failed for good, which ends the process. The other handlers release their
    /// deliveries in flight, for 4 s at most.
    pub async fn abandon(self) {
        self.host.stop_working.cancel();
        // The caller reports the failure that led here.
        if timeout(ABANDON_LIMIT, self.drain()).await.is_err() {
            tracing::error!("what was in flight could not be released in time; it returns by itself");
        }
    }

    fn joined(&mut self, joined: Result<(String, Result<(), QueueError>), JoinError>) -> Result<(), QueueError> {
        match joined {
            Ok((name, ended)) => {
                if !self.running.contains_key(&name) {
                    // A file of the same name that came meanwhile, or has lost its queue, keeps its status.
                    self.host.statuses.stopped(&name);
                    self.host.metrics.handler_removed(&name);
                }
                self.slots.retain(|_, slots| slots.are_in_use());
                ended
            }
            // The panic goes on to the process: a half-dead worker is worse than a restarted one.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    fn announce(&self, name: &str, version: &HandlerVersion) {
        let info = &version.component.info;
        let asked = version.manifest.concurrency.get();
        let concurrency = version.concurrency(&*self.host.executor);
        if concurrency < asked {
            tracing::warn!(
                handler = name,
                asked,
                concurrency,
                "the host has no room for so many instances at a time: lower the handler's memory, or raise memory-budget or max-live-instances"
            );
        }
        for grant in info.unused_grants(&version.manifest.grants) {
            tracing::warn!(
                handler = name,
                warning = grant.unused(),
                "a grant of the manifest is of no use"
            );
        }
        tracing::info!(
            handler = name,
            queue = %version.manifest.queue,
            version = version.number,
            flavour = %info.flavour,
            component = info.digest,
            compile_ms = whole_ms(info.compile_time),
            concurrency,
            "serving"
        );
        let loaded = LoadedVersion {
            queue: version.manifest.queue.clone(),
            flavour: info.flavour.to_string(),
            digest: info.digest.clone(),
            version: version.number,
            loaded_at_ms: wall_ms(),
            sends_to: version.manifest.queues().into_iter().skip(1).collect(),
            waiting: version.component.waiting.clone(),
        };
        self.host.statuses.serving(name, loaded);
        self.host.metrics.handlers().loaded(name, true);
    }

    fn start(&mut self, name: &str, queue: &Arc<dyn Queue>, versions: Arc<ServedVersions>) {
        // An earlier handler of the same name may have ended paused.
        self.host.metrics.handler_paused(name, false);
        let (versions, receiver) = watch::channel(versions);
        // The order to stop reaches a child token whatever the reload is doing.
        let stop_receiving = self.host.stop_receiving.child_token();
        let running = RunningHandler {
            queue: queue.name().clone(),
            versions,
            stop_receiving: stop_receiving.clone(),
        };
        let host = &self.host;
        let keeper = LeaseKeeper::new(Arc::clone(queue), Arc::clone(host.metrics.leases()));
        let context = AttemptContext {
            handler: name.to_owned(),
            queue: Arc::clone(queue),
            keeper: Arc::clone(&keeper),
            executor: Arc::clone(&host.executor),
            queues: Arc::clone(&host.queues),
            metrics: Arc::clone(&host.metrics),
            journal: Arc::clone(&host.journal),
            traces: host.traces.clone(),
            halts: Arc::clone(&host.halts),
            stop_receiving,
            stop_working: host.stop_working.clone(),
        };
        let slots = self.slots.entry(name.to_owned()).or_default();
        let slots = if slots.are_in_use() {
            slots.share()
        } else {
            slots.clone()
        };
        let dispatcher = Dispatcher::new(
            context,
            Arc::clone(&host.statuses),
            receiver,
            Arc::clone(&host.versions),
        );
        let dispatcher = dispatcher.with_slots(slots);
        let handler = name.to_owned();
        let probed = Arc::clone(&keeper);
        let probe = Box::new(move || probed.in_flight());
        let watch = host.metrics.held_leases().watch(name, queue.name().as_str(), probe);
        self.tasks.spawn(async move {
            // The keeper extends leases until the last attempt is settled, and ends with the dispatcher.
            let stop_extending = CancellationToken::new();
            let (ended, ()) = tokio::join!(
                async {
                    let ended = dispatcher.run().await;
                    stop_extending.cancel();
                    ended
                },
                keeper.run(stop_extending.clone()),
            );
            drop(watch);
            (handler, ended)
        });
        self.running.insert(name.to_owned(), running);
    }
}
