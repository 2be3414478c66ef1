//! Keeps the running handlers the same as the plugin directory: adds, replaces, removes.
//!
//! Invariants: a file is read only once it was quiet, and used only if it has not changed while it was read; a file that
//! does not pass leaves the version before it serving; a delivery under way ends on the version it started with;
//! at most one load per handler is under way.

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::Notify,
    task::{JoinError, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    alarm::wake_at,
    attempt::{Version, policy},
    config::{Manifest, environment},
    executor::{Component, Executor, MAX_WASM_BYTES},
    handler_set::{HandlerSet, StartError},
    plugin_dir::{Files, PluginDir, Stamps},
    queue::QueueError,
    watcher::Watcher,
};

/// How long a file must not have changed before it is read.
const QUIET: Duration = Duration::from_millis(100);

/// How long to wait after the host could not do its part of a load, before it is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// How many handlers are read and loaded at one time; bounds what their files take in memory.
const MAX_LOADS: usize = 4;

/// What was seen of one name in the directory.
#[derive(Debug)]
struct Seen {
    /// As of the last scan; `None` if the file is not there.
    stamps: Option<Stamps>,
    /// Since when it has looked like that; in the future if it is to be left alone until then.
    since: Instant,
    /// What the handler that runs, or was refused, was made of.
    applied: Option<Stamps>,
    loading: bool,
    /// Refused because of what another handler does, which may change without a change of these files.
    clashes: bool,
}

/// The task that reloads.
#[derive(Debug)]
pub struct Reload {
    directory: PluginDir,
    executor: Arc<dyn Executor>,
    handlers: HandlerSet,
    seen: BTreeMap<String, Seen>,
    /// At most one. A task of its own, so that a directory that hangs holds up nothing else.
    scans: JoinSet<io::Result<BTreeMap<String, Stamps>>>,
    loads: JoinSet<Loaded>,
    first_scan_finished: bool,
    first_load_finished: bool,
    /// An order to look at the directory now.
    look: Arc<Notify>,
}

#[derive(Debug)]
struct Loaded {
    name: String,
    stamps: Stamps,
    version: Result<Version, Refusal>,
}

/// Why a load came to nothing.
#[derive(Debug)]
enum Refusal {
    /// The files changed while they were read: look again once they are quiet.
    Changed,
    /// The host could not do its part; the text says what.
    Again(String),
    /// The files are not acceptable; the text says why.
    Final(String),
}

impl Reload {
    /// Nothing is read before [`Reload::run`].
    pub fn new(directory: PluginDir, executor: Arc<dyn Executor>, handlers: HandlerSet) -> Self {
        Self {
            directory,
            executor,
            handlers,
            seen: BTreeMap::new(),
            scans: JoinSet::new(),
            loads: JoinSet::new(),
            first_scan_finished: false,
            first_load_finished: false,
            look: Arc::default(),
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
        self.loads.abort_all();
        self.scans.abort_all();
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
        let watcher = Watcher::new(self.directory.path());
        self.start_scan();
        while !stop.is_cancelled() {
            self.start_loads();
            if !self.first_load_finished && self.first_scan_finished && self.settled() {
                self.first_load_finished = true;
                self.handlers.board().first_load_finished();
            }
            let quiet_at = self.quiet_at();
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                Some(loaded) = self.loads.join_next() => self.loaded(loaded).await?,
                ended = self.handlers.ended() => ended?,
                Some(scanned) = self.scans.join_next() => self.scanned(scanned, Instant::now()),
                // What changes during a scan may not be in it: its event waits for the next one.
                () = watcher.changed(), if self.scans.is_empty() => self.start_scan(),
                () = self.look.notified(), if self.scans.is_empty() => self.look_now(Instant::now()),
                () = wake_at(quiet_at), if self.scans.is_empty() => self.start_scan(),
            }
        }
        Ok(())
    }

    /// When the next file that has changed may have been quiet for long enough. What is due already waits for the poll
    /// interval: its scan has failed, or its load has no room yet.
    fn quiet_at(&self) -> Option<Instant> {
        let now = Instant::now();
        let times = self
            .seen
            .values()
            .filter(|seen| seen.pending())
            .map(|seen| seen.since + QUIET);
        times.filter(|at| *at > now).min()
    }

    fn settled(&self) -> bool {
        let now = Instant::now();
        // What is to be tried again later has had its first load.
        self.seen
            .values()
            .all(|seen| !seen.loading && (!seen.pending() || seen.since > now))
    }

    fn start_scan(&mut self) {
        if self.scans.is_empty() {
            let directory = self.directory.clone();
            self.scans.spawn_blocking(move || directory.scan());
        }
    }

    fn look_now(&mut self, now: Instant) {
        for seen in self.seen.values_mut() {
            seen.since = seen.since.min(now);
        }
        self.start_scan();
    }

    fn scanned(&mut self, scanned: Result<io::Result<BTreeMap<String, Stamps>>, JoinError>, now: Instant) {
        let found = match scanned.map_err(io::Error::other).flatten() {
            Ok(found) => found,
            Err(error) => {
                // What runs goes on: a directory that can't be read is not an order to stop everything.
                tracing::error!(directory = %self.directory.path().display(), %error, "the plugin directory can't be read");
                return;
            }
        };
        // What was there before the host came is quiet already; if not, its content tells.
        let since = if self.first_scan_finished { now } else { now - QUIET };
        self.first_scan_finished = true;
        for (name, stamps) in &found {
            let fresh = || Seen {
                stamps: Some(*stamps),
                since,
                applied: None,
                loading: false,
                clashes: false,
            };
            self.seen
                .entry(name.clone())
                .and_modify(|seen| seen.look(Some(*stamps), now))
                .or_insert_with(fresh);
        }
        for (name, seen) in &mut self.seen {
            if !found.contains_key(name) {
                seen.look(None, now);
            }
        }
        let gone = |seen: &Seen| seen.stamps.is_none() && seen.since + QUIET <= now && !seen.loading;
        let removed: Vec<_> = self
            .seen
            .iter()
            .filter(|(_, seen)| gone(seen))
            .map(|(name, _)| name.clone())
            .collect();
        for name in removed {
            self.seen.remove(&name);
            self.handlers.remove(&name);
            self.retry_clashes();
        }
    }

    /// A queue may have become free.
    fn retry_clashes(&mut self) {
        for seen in self.seen.values_mut().filter(|seen| seen.clashes) {
            (seen.clashes, seen.applied) = (false, None);
        }
    }

    fn start_loads(&mut self) {
        let now = Instant::now();
        for (name, seen) in &mut self.seen {
            let Some(stamps) = seen.stamps else { continue };
            let due = !seen.loading && seen.applied != Some(stamps) && seen.since + QUIET <= now;
            if !due || self.loads.len() >= MAX_LOADS {
                continue;
            }
            seen.loading = true;
            self.handlers.board().loading(name);
            let running = self.handlers.component(name);
            let (directory, executor, name) = (self.directory.clone(), Arc::clone(&self.executor), name.clone());
            self.loads.spawn(async move {
                let version = load(&directory, &*executor, &name, stamps, running).await;
                Loaded { name, stamps, version }
            });
        }
    }

    async fn loaded(&mut self, loaded: Result<Loaded, JoinError>) -> Result<(), QueueError> {
        let Loaded { name, stamps, version } = match loaded {
            Ok(loaded) => loaded,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        let (mut refused, mut clashes) = (None, false);
        match version {
            Ok(version) => match self.handlers.serve(&name, version).await {
                Ok(true) => self.retry_clashes(),
                Ok(false) => {}
                Err(StartError::Refused(reason)) => (refused, clashes) = (Some(reason), true),
                Err(StartError::Queue(error)) => return Err(error),
            },
            Err(Refusal::Final(reason)) => refused = Some(reason),
            Err(Refusal::Again(reason)) => {
                self.handlers.refused(&name, &reason);
                self.look_again(&name, Instant::now() + AGAIN_AFTER);
                return Ok(());
            }
            Err(Refusal::Changed) => {
                self.look_again(&name, Instant::now());
                return Ok(());
            }
        }
        if let Some(reason) = refused {
            self.handlers.refused(&name, &reason);
        }
        if let Some(seen) = self.seen.get_mut(&name) {
            (seen.loading, seen.applied, seen.clashes) = (false, Some(stamps), clashes);
        }
        Ok(())
    }

    fn look_again(&mut self, name: &str, since: Instant) {
        if let Some(seen) = self.seen.get_mut(name) {
            (seen.loading, seen.since) = (false, since);
        }
    }
}

impl Seen {
    fn look(&mut self, stamps: Option<Stamps>, now: Instant) {
        if self.stamps != stamps {
            self.stamps = stamps;
            self.since = now;
        }
    }

    /// Whether there is something to do once it has been quiet.
    fn pending(&self) -> bool {
        !self.loading && (self.stamps.is_none() || self.stamps != self.applied)
    }
}

/// Reads, checks and compiles one handler. A component whose bytes have not changed is not compiled again.
async fn load(
    directory: &PluginDir,
    executor: &dyn Executor,
    name: &str,
    stamps: Stamps,
    running: Option<Component>,
) -> Result<Version, Refusal> {
    let (blocking, stem) = (directory.clone(), name.to_owned());
    let read = tokio::task::spawn_blocking(move || blocking.read(&stem, stamps, MAX_WASM_BYTES));
    let read = read.await.map_err(io::Error::other).flatten();
    let file = directory.wasm(name);
    let files = read.map_err(|error| {
        let reason = format!("{} can't be read: {error}", file.display());
        if error.kind() == io::ErrorKind::FileTooLarge {
            Refusal::Final(reason)
        } else {
            Refusal::Again(reason)
        }
    })?;
    let Files { wasm, digest, manifest } = files.ok_or(Refusal::Changed)?;
    // It reads the files that values come from.
    let (blocking, stem) = (directory.clone(), name.to_owned());
    let parsed = tokio::task::spawn_blocking(move || {
        Manifest::parse_in(&manifest.unwrap_or_default(), &stem, blocking.path(), &environment)
    });
    let manifest = match parsed.await {
        Ok(manifest) => manifest.map_err(|errors| Refusal::Final(errors.to_string()))?,
        Err(error) => return Err(Refusal::Again(format!("{name}.toml can't be read: {error}"))),
    };
    let policy = Arc::new(policy(name, &manifest));
    let same = running.filter(|running| running.info.digest == digest);
    let loaded = match same {
        Some(component) => executor.relink(file, &component, Arc::clone(&policy)).await,
        None => executor.load(file, Bytes::from(wasm), Arc::clone(&policy)).await,
    };
    let component = loaded.map_err(|error| {
        let reason = error.to_string();
        if error.is_transient() {
            Refusal::Again(reason)
        } else {
            Refusal::Final(reason)
        }
    })?;
    Ok(Version {
        component,
        manifest,
        policy,
    })
}
