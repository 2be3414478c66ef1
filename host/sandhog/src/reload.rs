//! Keeps the running handlers the same as the plugin directory: adds, replaces, removes.
//!
//! Invariants: a file that is refused or can't be read leaves the version before it serving, and does not touch another
//! handler; a transient error is never final; a delivery under way ends on the version that it started with; a handler has
//! at most one load under way.

#![expect(
    clippy::disallowed_methods,
    reason = "the stamps of files are times of the wall clock"
)]

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{Notify, mpsc},
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    handler_set::{HandlerSet, RefusedVersion},
    plugin_dir::{DirectoryScan, HandlerStamps, PluginDir},
    versions::{OrderRefused, OrderedVersion, VersionBoard, VersionStore},
    watcher::Watcher,
};
use sandhog_executor::Executor;
use sandhog_queue::{QueueError, alarm::wake_at, machine_clock::wall_ms, message::QueueName, printable::chain};

mod directory_scans;
mod handler_files;
mod load;
mod load_results;
mod orders;
mod rollouts;
mod serving_recorder;

use directory_scans::{DirectoryScans, FinishedScan};
use handler_files::{DueStep, HandlerFiles, QUIET};
use load::{LoadOrder, LoadReport, VersionLoader};
use orders::PendingOrder;
use rollouts::Rollouts;
pub use rollouts::VersionSettings;
use serving_recorder::ServingRecorder;

/// The most handlers that are read and loaded at a time. It bounds the memory that their files take.
const MAX_LOADS: usize = 4;
/// The most manifests that are read at a time for the queues that they name.
const MAX_NAMINGS: usize = 16;
/// The longest time that a file counts as unchanged before the host started.
const MAX_AGE: Duration = Duration::from_hours(1);
/// The longest time that the end of the host waits for the record of the serving versions.
const RECORD_LIMIT: Duration = Duration::from_secs(2);

/// The task that reloads.
#[derive(Debug)]
pub struct Reload {
    loader: Arc<VersionLoader>,
    watcher: Watcher,
    handlers: HandlerSet,
    board: Arc<VersionBoard>,
    files: BTreeMap<String, HandlerFiles>,
    /// The versions of each handler.
    rollouts: Rollouts,
    orders: Option<mpsc::Receiver<OrderedVersion>>,
    /// The order about each handler that is being carried out.
    pending_orders: BTreeMap<String, PendingOrder>,
    recorder: ServingRecorder,
    scans: DirectoryScans,
    namings: JoinSet<NamedQueues>,
    loads: JoinSet<LoadReport>,
    first_scan_finished: bool,
    first_load_finished: bool,
    /// Orders a look at the directory now.
    look: Arc<Notify>,
}

#[derive(Debug)]
struct NamedQueues {
    name: String,
    stamps: HandlerStamps,
    queues: Vec<QueueName>,
}

impl Reload {
    /// Reads nothing before [`Reload::run`]. Keeps up to `keep` versions of each handler in `versions`, if there is a data
    /// directory.
    pub fn new(
        directory: PluginDir,
        executor: Arc<dyn Executor>,
        handlers: HandlerSet,
        versions: Option<VersionStore>,
        settings: VersionSettings,
    ) -> Self {
        let watcher = Watcher::new(directory.path());
        let versions = versions.map(Arc::new);
        let scans = DirectoryScans::new(directory.clone());
        let loader = VersionLoader {
            directory,
            executor,
            versions: versions.clone(),
            closings: watcher.closings(),
        };
        Self {
            loader: Arc::new(loader),
            watcher,
            orders: handlers.board().take_orders(),
            board: Arc::clone(handlers.board()),
            pending_orders: BTreeMap::new(),
            handlers,
            files: BTreeMap::new(),
            rollouts: Rollouts::new(settings),
            recorder: ServingRecorder::new(versions),
            scans,
            namings: JoinSet::new(),
            loads: JoinSet::new(),
            first_scan_finished: false,
            first_load_finished: false,
            look: Arc::default(),
        }
    }

    /// Makes the reload look at the directory whenever `look` is notified, and try again at once what waits for another try.
    #[must_use]
    pub fn looking_at(self, look: Arc<Notify>) -> Self {
        Self { look, ..self }
    }

    /// Loads the handlers of the directory, follows every change until `stop`, and then waits for all handlers to end.
    ///
    /// # Errors
    ///
    /// [`QueueError::Failed`] from a handler whose queue has failed for good.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the attempts under way, so the host never does.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), QueueError> {
        let followed = Box::pin(self.follow(stop)).await;
        self.namings.abort_all();
        self.loads.abort_all();
        self.scans.abort();
        self.record_counts(Instant::now());
        let recorded = async { while self.recorder.next().await.is_some() {} };
        if timeout(RECORD_LIMIT, recorded).await.is_err() {
            tracing::warn!("the serving versions could not be recorded in time");
        }
        match followed {
            Ok(()) => self.handlers.drain().await,
            Err(error) => {
                self.handlers.abandon().await;
                Err(error)
            }
        }
    }

    /// Follows every change until `stop`, or until a queue has failed for good.
    async fn follow(&mut self, stop: CancellationToken) -> Result<(), QueueError> {
        self.scans.start();
        while !stop.is_cancelled() {
            self.arrange();
            self.start_due(Instant::now());
            if !self.first_load_finished && self.first_scan_finished && self.had_first_loads() {
                self.first_load_finished = true;
                self.handlers.statuses().first_load_finished();
            }
            let not_before = self.scans.not_before();
            let look_at = self.look_at();
            let scans_are_idle = self.scans.are_idle();
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                Some(named) = self.namings.join_next() => self.named(joined(named)).await?,
                Some(loaded) = self.loads.join_next() => Box::pin(self.loaded(joined(loaded))).await?,
                ended = self.handlers.ended() => ended?,
                Some(()) = self.recorder.next() => self.answer_recorded(),
                () = self.board.reported() => self.reported().await?,
                Some(ordered) = next_order(&mut self.orders) => self.ordered(ordered).await?,
                () = wake_at(self.rollouts.record_at()) => {
                    self.reported().await?;
                    self.record_counts(Instant::now());
                }
                Some(finished) = self.scans.next() => self.scanned(finished, Instant::now()),
                // A scan may miss a change that comes during it: the event of that change waits for the next scan.
                () = self.look.notified(), if scans_are_idle => self.look_now(Instant::now()),
                () = look(&self.watcher, not_before, look_at), if scans_are_idle => self.scans.start(),
            }
        }
        Ok(())
    }

    /// Returns when the directory is read again if no event comes: a changed file may have been quiet for long enough, or events
    /// may have been lost.
    fn look_at(&self) -> Instant {
        let quiet = self
            .files
            .values()
            .filter_map(HandlerFiles::at)
            .filter(|at| *at > self.scans.started_at());
        let poll_at = self.scans.poll_at();
        quiet.min().map_or(poll_at, |quiet_at| quiet_at.min(poll_at))
    }

    /// Returns whether every handler had its first load, which may have been refused for now.
    fn had_first_loads(&self) -> bool {
        !self.files.values().any(HandlerFiles::is_coming)
    }

    fn look_now(&mut self, now: Instant) {
        for files in self.files.values_mut() {
            files.hurry(now);
        }
        self.scans.start();
    }

    fn scanned(&mut self, finished: FinishedScan, now: Instant) {
        let scan = match self.scans.take(finished, now) {
            Ok(scan) => scan,
            Err(reason) => {
                self.handlers.statuses().directory(Some(&reason));
                return;
            }
        };
        self.handlers.statuses().directory(None);
        self.first_scan(&scan);
        let is_first = !std::mem::replace(&mut self.first_scan_finished, true);
        for (name, files) in &mut self.files {
            if !scan.handlers.contains_key(name) {
                files.look(None, now);
            }
        }
        for (name, stamps) in scan.handlers {
            if let Some(files) = self.files.get_mut(&name) {
                files.look(Some(stamps), now);
            } else {
                let since = if is_first { quiet_since(&stamps, now) } else { now };
                self.files.insert(name, HandlerFiles::new(stamps, since));
            }
        }
    }

    fn first_scan(&mut self, scan: &DirectoryScan) {
        if self.first_scan_finished {
            return;
        }
        if !scan.handlers.values().any(|stamps| stamps.wasm.is_some()) {
            let directory = self.loader.directory.path().display();
            tracing::warn!(%directory, "no component (NAME.wasm) lies in the plugin directory: nothing serves until one does");
            // The directory may be a volume that is not mounted yet, so the last-served versions stay.
            return;
        }
        self.recorder.forget_others(scan.handlers.keys().cloned().collect());
    }

    fn start_due(&mut self, now: Instant) {
        // A file is gone only if a scan after the quiet time has not found it.
        let is_current = self.scans.are_current();
        let scanned_at = self.scans.started_at();
        let is_gone = |files: &HandlerFiles| is_current && files.at().is_some_and(|at| at <= scanned_at);
        let due: Vec<(String, DueStep)> = self
            .files
            .iter()
            .filter_map(|(name, files)| Some((files, name.clone(), files.due(now)?)))
            .filter(|(files, _, due)| matches!(due, DueStep::Name | DueStep::Load) || is_gone(files))
            .map(|(_, name, due)| (name, due))
            .collect();
        for (name, due) in due {
            match due {
                DueStep::Name if self.namings.len() < MAX_NAMINGS => self.start_naming(name),
                DueStep::Load if self.loads.len() < MAX_LOADS && !self.recorder.is_forgetting(&name) => {
                    self.start_load(name, now);
                }
                // There is no room yet.
                DueStep::Name | DueStep::Load => {}
                DueStep::Remove => self.remove(&name),
                DueStep::Forget => {
                    self.files.remove(&name);
                    self.handlers.forget_names_of(&name);
                }
            }
        }
    }

    fn remove(&mut self, name: &str) {
        if let Some(files) = self.files.get_mut(name) {
            files.removed();
        }
        self.rollouts.remove(name);
        let gone = "the component was removed".to_owned();
        self.refuse_order(name, OrderRefused::Refused(gone));
        self.board.remove(name);
        self.handlers.remove(name);
        self.recorder.forget(name);
    }

    fn start_naming(&mut self, name: String) {
        let Some(files) = self.files.get_mut(&name) else { return };
        let Some(stamps) = files.stamps.clone() else { return };
        files.begin();
        let loader = Arc::clone(&self.loader);
        self.namings.spawn(async move {
            let queues = loader.queues(name.clone(), stamps.clone()).await;
            NamedQueues { name, stamps, queues }
        });
    }

    /// Declares the queues of a handler, so that senders find them even if its component is refused.
    async fn named(&mut self, named: NamedQueues) -> Result<(), QueueError> {
        let NamedQueues { name, stamps, queues } = named;
        let declared = self.handlers.declare(&name, &queues).await;
        let now = Instant::now();
        let Some(files) = self.files.get_mut(&name) else {
            return Ok(());
        };
        match declared {
            Err(error) if error.is_transient() => {
                files.try_again(now);
                self.refused(&name, &no_queue(&error), true, None);
            }
            Err(error) => return Err(error),
            Ok(()) => {
                let alone = stamps.wasm.is_none();
                if let Some(queue) = queues.first().filter(|_| !alone) {
                    self.handlers.statuses().named(&name, queue);
                }
                files.named(stamps, queues.into_iter().next());
                if alone {
                    tracing::warn!(
                        handler = name,
                        "a manifest has no component: {name}.wasm is not beside {name}.toml, and nothing serves"
                    );
                }
            }
        }
        Ok(())
    }

    fn start_load(&mut self, name: String, now: Instant) {
        let Some(files) = self.files.get_mut(&name) else { return };
        let Some(stamps) = files.stamps.clone() else { return };
        files.begin();
        if files.is_first_try() {
            self.handlers.statuses().loading(&name);
        }
        let order = LoadOrder {
            stamps,
            quiet_for: files.quiet_for(now),
            loaded: self.loaded_components(&name),
            history: self.rollouts.history(&name),
            fall_back: !self.handlers.has(&name),
            older: None,
            promoted: self.rollouts.promoted(&name),
            name,
        };
        self.loads.spawn(Arc::clone(&self.loader).load(order));
    }

    /// Gives each queue to its handler, and reports what that has changed.
    fn arrange(&mut self) {
        let coming = self.files.iter().filter(|(_, files)| files.is_coming());
        let coming = coming
            .map(|(name, files)| (name.clone(), files.queue.clone()))
            .collect();
        let mut arranged = self.handlers.arrange(&coming);
        for name in std::mem::take(&mut arranged.began) {
            self.began(&name);
        }
        for (name, files) in &mut self.files {
            let clash = arranged.clashes.remove(name);
            if let Some(reason) = clash.clone().filter(|_| files.reported_clash != clash) {
                let refused = RefusedVersion {
                    // It serves once the queue is free.
                    component: None,
                    reason,
                    is_transient: false,
                    known: false,
                };
                self.handlers.refused(name, &refused);
            }
            files.reported_clash = clash;
        }
    }

    fn began(&mut self, name: &str) {
        let Some(began) = self.rollouts.began(name, wall_ms()) else {
            return;
        };
        self.record_versions(name);
        self.handlers
            .metrics()
            .handlers()
            .serving(name, began.fallback_because.is_some());
        if let Some(why) = &began.fallback_because {
            tracing::warn!(
                handler = name,
                why,
                "the version that served last serves, because the files in the plugin directory are refused"
            );
            self.handlers.statuses().fallback(name, why);
            return;
        }
        if let Some(why) = &began.instead_because {
            tracing::warn!(
                handler = name,
                why,
                "an older version serves in place of the file in the plugin directory"
            );
            self.handlers.statuses().set_aside(name, why);
        }
        self.change(name, |files| files.reported = None);
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut HandlerFiles)) {
        if let Some(files) = self.files.get_mut(name) {
            change(files);
        }
    }
}

/// Waits for an order; for ever if there can't be one.
///
/// # Cancel safety
///
/// Safe.
async fn next_order(orders: &mut Option<mpsc::Receiver<OrderedVersion>>) -> Option<OrderedVersion> {
    match orders {
        Some(orders) => orders.recv().await,
        None => None,
    }
}

/// Waits until the directory is to be read: at the first event after `not_before`, or at `at`.
///
/// # Cancel safety
///
/// Safe: an event that comes meanwhile is kept.
async fn look(watcher: &Watcher, not_before: Instant, at: Instant) {
    sleep_until(not_before).await;
    tokio::select! {
        () = watcher.changed() => {}
        () = wake_at(Some(at)) => {}
    }
}

/// Returns since when files that are older than the host have not changed. The clock of their file system tells, which may be
/// that of another machine; the host's own clock times every later change.
fn quiet_since(stamps: &HandlerStamps, now: Instant) -> Instant {
    let age = stamps.unchanged_for(SystemTime::now()).clamp(QUIET, MAX_AGE);
    now.checked_sub(age).unwrap_or(now)
}

/// Passes a panic on to the process: a half-dead worker is worse than a restarted one.
fn joined<T>(joined: Result<T, JoinError>) -> T {
    joined.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

fn no_queue(error: &QueueError) -> String {
    format!("its queues can't be made now: {}", chain(error))
}
