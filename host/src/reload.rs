//! Keeps the running handlers the same as the plugin directory: adds, replaces, removes.
//!
//! Invariants: a file that does not pass, or can't be read, leaves the version before it serving, and every other handler
//! alone; an error that passes is never final; a delivery under way ends on the version it started with; at most one load
//! per handler is under way.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    sync::Notify,
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    alarm::wake_at,
    executor::Executor,
    handler_set::{HandlerSet, RefusedVersion},
    last_served::{LastServedStore, VersionDigests},
    message::QueueName,
    plugin_dir::{DirectoryScan, HandlerStamps, PluginDir},
    printable::chain,
    queue::QueueError,
    watcher::{POLL_INTERVAL, Watcher},
};

mod handler_files;
mod load;
mod serving_recorder;

use handler_files::{DueStep, HandlerFiles, QUIET};
use load::{AcceptedVersion, LoadOrder, LoadRefusal, LoadReport, VersionLoader};
use serving_recorder::ServingRecorder;

/// How many handlers are read and loaded at one time; bounds what their files take in memory.
const MAX_LOADS: usize = 4;
/// How many manifests are read at one time for the queues that they name.
const MAX_NAMINGS: usize = 16;
/// The least time between two scans, whatever changes.
const MIN_BETWEEN_SCANS: Duration = Duration::from_millis(100);
/// The most that counts of the time for which a file has not changed before the host came.
const MAX_AGE: Duration = Duration::from_hours(1);
/// How long it may take at the end to keep what has begun to serve.
const KEEP_LIMIT: Duration = Duration::from_secs(2);

/// The task that reloads.
#[derive(Debug)]
pub struct Reload {
    loader: Arc<VersionLoader>,
    watcher: Watcher,
    handlers: HandlerSet,
    seen: BTreeMap<String, HandlerFiles>,
    /// What the newest accepted version of each handler was made of.
    origins: BTreeMap<String, VersionOrigin>,
    keeper: ServingRecorder,
    /// At most one. A task of its own, so that a directory that hangs holds up nothing else.
    scans: JoinSet<(io::Result<DirectoryScan>, Duration)>,
    scanned_at: Instant,
    next_scan_at: Instant,
    namings: JoinSet<NamedQueues>,
    loads: JoinSet<LoadReport>,
    first_scan_finished: bool,
    first_load_finished: bool,
    /// An order to look at the directory now.
    look: Arc<Notify>,
    /// Why the directory could not be read the last time.
    unreadable: Option<String>,
    passed_over: BTreeSet<String>,
}

#[derive(Debug)]
struct VersionOrigin {
    pair: Option<VersionDigests>,
    /// Why what was kept is used.
    kept_because: Option<String>,
}

#[derive(Debug)]
struct NamedQueues {
    name: String,
    stamps: HandlerStamps,
    queues: Vec<QueueName>,
}

impl Reload {
    /// Nothing is read before [`Reload::run`]. What serves is kept in `kept`, if there is such a place.
    pub fn new(
        directory: PluginDir,
        executor: Arc<dyn Executor>,
        handlers: HandlerSet,
        kept: Option<LastServedStore>,
    ) -> Self {
        let watcher = Watcher::new(directory.path());
        let kept = kept.map(Arc::new);
        let loader = VersionLoader {
            directory,
            executor,
            kept: kept.clone(),
            closings: watcher.closings(),
        };
        Self {
            loader: Arc::new(loader),
            watcher,
            handlers,
            seen: BTreeMap::new(),
            origins: BTreeMap::new(),
            keeper: ServingRecorder::new(kept),
            scans: JoinSet::new(),
            scanned_at: Instant::now(),
            next_scan_at: Instant::now(),
            namings: JoinSet::new(),
            loads: JoinSet::new(),
            first_scan_finished: false,
            first_load_finished: false,
            look: Arc::default(),
            unreadable: None,
            passed_over: BTreeSet::new(),
        }
    }

    /// The same, which looks at the directory whenever `look` is notified, and tries again what waits for another try.
    #[must_use]
    pub fn looking_at(self, look: Arc<Notify>) -> Self {
        Self { look, ..self }
    }

    /// Loads what is there, then follows every change until `stop`, and then waits for all handlers to end.
    ///
    /// # Errors
    ///
    /// [`QueueError::Failed`] from a handler whose queue has failed for good.
    ///
    /// # Cancel safety
    ///
    /// Not to be dropped before it ends: attempts under way would be.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), QueueError> {
        let followed = self.follow(stop).await;
        self.namings.abort_all();
        self.loads.abort_all();
        self.scans.abort_all();
        let kept = async { while self.keeper.next().await.is_some() {} };
        if timeout(KEEP_LIMIT, kept).await.is_err() {
            tracing::warn!("what serves could not be kept in time");
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
        self.start_scan();
        while !stop.is_cancelled() {
            self.arrange();
            self.start_due(Instant::now());
            if !self.first_load_finished && self.first_scan_finished && self.settled() {
                self.first_load_finished = true;
                self.handlers.board().first_load_finished();
            }
            let (after, at) = (self.next_scan_at, self.look_at());
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                Some(named) = self.namings.join_next() => self.named(joined(named)).await?,
                Some(loaded) = self.loads.join_next() => self.loaded(joined(loaded)).await?,
                ended = self.handlers.ended() => ended?,
                Some(()) = self.keeper.next() => {}
                Some(scanned) = self.scans.join_next() => self.scanned(joined(scanned), Instant::now()),
                // What changes during a scan may not be in it: its event waits for the next one.
                () = self.look.notified(), if self.scans.is_empty() => self.look_now(Instant::now()),
                () = look(&self.watcher, after, at), if self.scans.is_empty() => self.start_scan(),
            }
        }
        Ok(())
    }

    /// When the directory is to be read again if no event comes: a file that has changed may have been quiet for long enough,
    /// or events may have been lost.
    fn look_at(&self) -> Instant {
        let quiet = self
            .seen
            .values()
            .filter_map(HandlerFiles::at)
            .filter(|at| *at > self.scanned_at);
        quiet
            .chain([self.scanned_at + POLL_INTERVAL])
            .min()
            .unwrap_or(self.scanned_at)
    }

    /// Whether every handler had its first load. What is to be tried again later has had it.
    fn settled(&self) -> bool {
        !self.seen.values().any(HandlerFiles::is_coming)
    }

    fn start_scan(&mut self) {
        if self.scans.is_empty() {
            self.scanned_at = Instant::now();
            let loader = Arc::clone(&self.loader);
            self.scans.spawn_blocking(move || {
                let began = Instant::now();
                (loader.directory.scan(), began.elapsed())
            });
        }
    }

    fn look_now(&mut self, now: Instant) {
        for seen in self.seen.values_mut() {
            seen.hurry(now);
        }
        self.start_scan();
    }

    fn scanned(&mut self, (scanned, took): (io::Result<DirectoryScan>, Duration), now: Instant) {
        // At most a fifth of a core, however large the directory is and whatever happens in it.
        self.next_scan_at = now + took.saturating_mul(4).clamp(MIN_BETWEEN_SCANS, POLL_INTERVAL);
        let scan = match scanned {
            Ok(scan) => scan,
            Err(error) => {
                self.unreadable(&error);
                return;
            }
        };
        if self.unreadable.take().is_some() {
            tracing::info!(directory = %self.loader.directory.path().display(), "the plugin directory can be read again");
            self.handlers.board().directory(None);
        }
        self.first_scan(&scan);
        for what in scan.passed_over.difference(&self.passed_over) {
            tracing::warn!(what, "an entry of the plugin directory is passed over");
        }
        self.passed_over = scan.passed_over;
        let first = !std::mem::replace(&mut self.first_scan_finished, true);
        for (name, seen) in &mut self.seen {
            if !scan.handlers.contains_key(name) {
                seen.look(None, now);
            }
        }
        for (name, stamps) in scan.handlers {
            if let Some(seen) = self.seen.get_mut(&name) {
                seen.look(Some(stamps), now);
            } else {
                let since = if first { quiet_since(&stamps, now) } else { now };
                self.seen.insert(name, HandlerFiles::new(stamps, since));
            }
        }
    }

    fn unreadable(&mut self, error: &io::Error) {
        let (directory, reason) = (self.loader.directory.path().display(), error.to_string());
        if self.unreadable.as_ref() == Some(&reason) {
            tracing::debug!(%directory, error = reason, "the plugin directory still can't be read");
            return;
        }
        // What runs goes on: a directory that can't be read is not an order to stop everything.
        tracing::error!(%directory, error = reason, "the plugin directory can't be read; trying again until it can");
        self.handlers.board().directory(Some(&reason));
        self.unreadable = Some(reason);
    }

    fn first_scan(&mut self, scan: &DirectoryScan) {
        if self.first_scan_finished {
            return;
        }
        if !scan.handlers.values().any(|stamps| stamps.wasm.is_some()) {
            let directory = self.loader.directory.path().display();
            tracing::warn!(%directory, "no component (NAME.wasm) lies in the plugin directory: nothing serves until one does");
            // It may be a volume that is not mounted yet: that is no reason to forget what served.
            return;
        }
        self.keeper.forget_others(scan.handlers.keys().cloned().collect());
    }

    fn start_due(&mut self, now: Instant) {
        // Only what a scan after the quiet has not found is gone.
        let current = self.scans.is_empty() && self.unreadable.is_none();
        let is_gone = |seen: &HandlerFiles| current && seen.at().is_some_and(|at| at <= self.scanned_at);
        let due: Vec<(String, DueStep)> = self
            .seen
            .iter()
            .filter_map(|(name, seen)| Some((seen, name.clone(), seen.due(now)?)))
            .filter(|(seen, _, due)| matches!(due, DueStep::Name | DueStep::Load) || is_gone(seen))
            .map(|(_, name, due)| (name, due))
            .collect();
        for (name, due) in due {
            match due {
                DueStep::Name if self.namings.len() < MAX_NAMINGS => self.start_naming(name),
                DueStep::Load if self.loads.len() < MAX_LOADS && !self.keeper.is_forgetting(&name) => {
                    self.start_load(name, now);
                }
                // There is no room yet.
                DueStep::Name | DueStep::Load => {}
                DueStep::Remove => self.remove(&name),
                DueStep::Forget => drop(self.seen.remove(&name)),
            }
        }
    }

    fn remove(&mut self, name: &str) {
        if let Some(seen) = self.seen.get_mut(name) {
            seen.removed();
        }
        self.origins.remove(name);
        self.handlers.remove(name);
        self.keeper.forget(name);
    }

    fn start_naming(&mut self, name: String) {
        let Some(seen) = self.seen.get_mut(&name) else { return };
        let Some(stamps) = seen.stamps.clone() else { return };
        seen.begin();
        let loader = Arc::clone(&self.loader);
        self.namings.spawn(async move {
            let queues = loader.queues(name.clone(), stamps.clone()).await;
            NamedQueues { name, stamps, queues }
        });
    }

    /// From now on senders find the queues, whatever becomes of the component.
    async fn named(&mut self, named: NamedQueues) -> Result<(), QueueError> {
        let NamedQueues { name, stamps, queues } = named;
        let declared = self.handlers.declare(&queues).await;
        let now = Instant::now();
        let Some(seen) = self.seen.get_mut(&name) else {
            return Ok(());
        };
        match declared {
            Err(error) if error.is_transient() => {
                seen.again(now);
                self.refused(&name, &no_queue(&error), true);
            }
            Err(error) => return Err(error),
            Ok(()) => {
                let alone = stamps.wasm.is_none();
                if let Some(queue) = queues.first().filter(|_| !alone) {
                    self.handlers.board().named(&name, queue);
                }
                seen.named(stamps, queues.into_iter().next());
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
        let Some(seen) = self.seen.get_mut(&name) else { return };
        let Some(stamps) = seen.stamps.clone() else { return };
        seen.begin();
        if seen.is_first_try() {
            self.handlers.board().loading(&name);
        }
        let order = LoadOrder {
            stamps,
            quiet_for: seen.quiet_for(now),
            running: self.handlers.component(&name),
            fall_back: !self.handlers.has(&name),
            name,
        };
        self.loads.spawn(Arc::clone(&self.loader).load(order));
    }

    async fn loaded(&mut self, loaded: LoadReport) -> Result<(), QueueError> {
        let LoadReport {
            name,
            stamps,
            version,
            fallback,
        } = loaded;
        let refusal = match version {
            Ok(accepted) => match self.accept(&name, accepted, None).await? {
                None => {
                    self.change(&name, |seen| seen.settle(stamps));
                    return Ok(());
                }
                Some(refusal) => refusal,
            },
            Err(refusal) => refusal,
        };
        let (now, later) = (Instant::now(), self.fall_back(&name, fallback, &refusal).await?);
        match refusal {
            LoadRefusal::FilesChanged => self.change(&name, |seen| seen.changed(now)),
            LoadRefusal::BeingWritten(why) => {
                self.change(&name, |seen| seen.held(now));
                self.held(&name, &why);
            }
            LoadRefusal::Transient(why) => {
                self.change(&name, |seen| seen.again(now));
                self.refused(&name, &why, true);
            }
            LoadRefusal::Final(why) => {
                if let Some(later) = later {
                    // The files are not better the next time, but what served last may be there.
                    self.change(&name, |seen| seen.again(now));
                    let why = format!("{why}; the version that served last can't serve now: {later}");
                    self.refused(&name, &why, true);
                } else {
                    self.change(&name, |seen| seen.settle(stamps));
                    self.refused(&name, &why, false);
                }
            }
        }
        Ok(())
    }

    /// Takes what served last in place of files that did not pass; answers why that can't be done now.
    async fn fall_back(
        &mut self,
        name: &str,
        fallback: Result<Option<AcceptedVersion>, LoadRefusal>,
        refusal: &LoadRefusal,
    ) -> Result<Option<String>, QueueError> {
        let why = match refusal {
            // They are read again at once.
            LoadRefusal::FilesChanged => return Ok(None),
            LoadRefusal::BeingWritten(why) | LoadRefusal::Transient(why) | LoadRefusal::Final(why) => why,
        };
        let refusal = match fallback {
            Ok(None) => None,
            Ok(Some(accepted)) => self.accept(name, accepted, Some(why)).await?,
            Err(refusal) => Some(refusal),
        };
        Ok(refusal.and_then(LoadRefusal::passing))
    }

    /// Takes a version as the newest; answers why that can't be done now.
    async fn accept(
        &mut self,
        name: &str,
        accepted: AcceptedVersion,
        kept_because: Option<&str>,
    ) -> Result<Option<LoadRefusal>, QueueError> {
        let AcceptedVersion { version, pair } = accepted;
        match self.handlers.accept(name, version).await {
            Ok(()) => {
                let kept_because = kept_because.map(str::to_owned);
                self.origins
                    .insert(name.to_owned(), VersionOrigin { pair, kept_because });
                // A clash of this version is to be said even if the one before it had the same.
                self.change(name, |seen| seen.clash = None);
                Ok(None)
            }
            Err(error) if error.is_transient() => Ok(Some(LoadRefusal::Transient(no_queue(&error)))),
            Err(error) => Err(error),
        }
    }

    /// Gives the queues to those that they belong to, and says what has changed by that.
    fn arrange(&mut self) {
        let coming = self.seen.iter().filter(|(_, seen)| seen.is_coming());
        let coming = coming.map(|(name, seen)| (name.clone(), seen.queue.clone())).collect();
        let mut arranged = self.handlers.arrange(&coming);
        for name in std::mem::take(&mut arranged.began) {
            self.began(&name);
        }
        for (name, seen) in &mut self.seen {
            let clash = arranged.clashes.remove(name);
            if let Some(reason) = clash.clone().filter(|_| seen.clash != clash) {
                let (is_transient, known) = (false, false);
                self.handlers.refused(
                    name,
                    &RefusedVersion {
                        reason,
                        is_transient,
                        known,
                    },
                );
            }
            seen.clash = clash;
        }
    }

    fn began(&mut self, name: &str) {
        let Some(origin) = self.origins.get(name) else { return };
        match &origin.pair {
            Some(pair) => self.keeper.serves(name, pair.clone()),
            None => self.keeper.serves_unkept(name),
        }
        self.handlers
            .metrics()
            .handler_kept(name, origin.kept_because.is_some());
        match &origin.kept_because {
            Some(why) => {
                tracing::warn!(
                    handler = name,
                    why,
                    "the version that served last serves, because what lies in the plugin directory does not pass"
                );
                self.handlers.board().kept(name, why);
            }
            None => self.change(name, |seen| seen.said = None),
        }
    }

    /// Says once that somebody is writing.
    fn held(&mut self, name: &str, why: &str) {
        let Some(seen) = self.seen.get_mut(name) else { return };
        if seen.said.replace(why.to_owned()).as_deref() != Some(why) {
            tracing::info!(handler = name, why, "a handler waits for its file");
        }
        self.handlers.board().waiting(name, why);
    }

    fn refused(&mut self, name: &str, reason: &str, is_transient: bool) {
        let Some(seen) = self.seen.get_mut(name) else { return };
        let known = seen.said.replace(reason.to_owned()).as_deref() == Some(reason);
        let refused = RefusedVersion {
            reason: reason.to_owned(),
            is_transient,
            known,
        };
        self.handlers.refused(name, &refused);
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut HandlerFiles)) {
        if let Some(seen) = self.seen.get_mut(name) {
            change(seen);
        }
    }
}

/// Waits until the directory is to be read: not before `after`, then at an event or at `at`.
///
/// # Cancel safety
///
/// Safe: an event that comes meanwhile is kept.
async fn look(watcher: &Watcher, after: Instant, at: Instant) {
    sleep_until(after).await;
    tokio::select! {
        () = watcher.changed() => {}
        () = wake_at(Some(at)) => {}
    }
}

/// Since when files that were there before the host have not changed. This alone is told by the clock of their file system,
/// which may be another machine's: what comes later is timed by the host's own.
fn quiet_since(stamps: &HandlerStamps, now: Instant) -> Instant {
    let age = stamps.unchanged_for(SystemTime::now()).clamp(QUIET, MAX_AGE);
    now.checked_sub(age).unwrap_or(now)
}

/// A half-dead worker is worse than a restarted one: a panic goes up to the process.
fn joined<T>(joined: Result<T, JoinError>) -> T {
    joined.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

fn no_queue(error: &QueueError) -> String {
    format!("its queues can't be made now: {}", chain(error))
}
