//! Keeps the running handlers the same as the plugin directory: adds, replaces, removes.
//!
//! Invariants: a file is read only once it was quiet, and used only if it has not changed while it was read; a file that
//! does not pass leaves the version before it serving; a delivery under way ends on the version it started with;
//! at most one load per handler is under way.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    task::{JoinError, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    alarm::wake_at,
    attempt::{Version, policy},
    config::Manifest,
    executor::{Component, Executor, MAX_WASM_BYTES, digest},
    handler_set::{HandlerSet, StartError},
    plugin_dir::{Files, PluginDir, Stamps},
    queue::QueueError,
    watcher::Watcher,
};

/// How long a file must not have changed before it is read.
const QUIET: Duration = Duration::from_millis(150);

/// What was seen of one name in the directory.
#[derive(Debug)]
struct Seen {
    /// As of the last scan; `None` if the file is not there.
    stamps: Option<Stamps>,
    /// Since when it has looked like that.
    since: Instant,
    /// What the handler that runs, or was refused, was made of.
    applied: Option<Stamps>,
    loading: bool,
}

/// The task that reloads.
#[derive(Debug)]
pub struct Reload {
    directory: PluginDir,
    executor: Arc<dyn Executor>,
    handlers: HandlerSet,
    seen: BTreeMap<String, Seen>,
    loads: JoinSet<Loaded>,
    first_load_finished: bool,
}

#[derive(Debug)]
struct Loaded {
    name: String,
    stamps: Stamps,
    /// `None`: the files changed while they were read.
    version: Result<Option<Version>, String>,
}

impl Reload {
    /// Nothing is read before [`Reload::run`].
    pub fn new(directory: PluginDir, executor: Arc<dyn Executor>, handlers: HandlerSet) -> Self {
        Self {
            directory,
            executor,
            handlers,
            seen: BTreeMap::new(),
            loads: JoinSet::new(),
            first_load_finished: false,
        }
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
        let watcher = Watcher::new(self.directory.path());
        self.scan(Instant::now()).await;
        while !stop.is_cancelled() {
            self.start_loads();
            if !self.first_load_finished && self.loads.is_empty() && self.settled() {
                self.first_load_finished = true;
                self.handlers.board().first_load_finished();
            }
            let quiet_at = self.quiet_at();
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                Some(loaded) = self.loads.join_next() => self.loaded(loaded).await?,
                ended = self.handlers.ended() => ended?,
                () = watcher.changed() => self.scan(Instant::now()).await,
                () = wake_at(quiet_at) => self.scan(Instant::now()).await,
            }
        }
        self.loads.shutdown().await;
        self.handlers.drain().await
    }

    /// When the next file that has changed may have been quiet for long enough.
    fn quiet_at(&self) -> Option<Instant> {
        self.seen
            .values()
            .filter(|seen| seen.pending())
            .map(|seen| seen.since + QUIET)
            .min()
    }

    fn settled(&self) -> bool {
        self.seen.values().all(|seen| !seen.pending() && !seen.loading)
    }

    async fn scan(&mut self, now: Instant) {
        let directory = self.directory.clone();
        // The answer is lost only if the runtime stops, which ends this task too.
        let Ok(scan) = tokio::task::spawn_blocking(move || directory.scan()).await else {
            return;
        };
        let found = match scan {
            Ok(found) => found,
            Err(error) => {
                // What runs goes on: an unmounted directory is not an order to stop everything.
                tracing::error!(directory = %self.directory.path().display(), %error, "the plugin directory can't be read");
                return;
            }
        };
        for (name, stamps) in &found {
            self.seen
                .entry(name.clone())
                .and_modify(|seen| seen.look(Some(*stamps), now))
                // What was there before the host came is quiet already; if not, its content tells.
                .or_insert_with(|| Seen {
                    stamps: Some(*stamps),
                    since: if self.first_load_finished { now } else { now - QUIET },
                    applied: None,
                    loading: false,
                });
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
        }
    }

    fn start_loads(&mut self) {
        let now = Instant::now();
        for (name, seen) in &mut self.seen {
            let Some(stamps) = seen.stamps else { continue };
            if seen.loading || seen.applied == Some(stamps) || seen.since + QUIET > now {
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
        let Some(seen) = self.seen.get_mut(&name) else {
            return Ok(());
        };
        seen.loading = false;
        let version = match version {
            Ok(Some(version)) => version,
            Ok(None) => {
                seen.since = Instant::now();
                return Ok(());
            }
            Err(reason) => {
                seen.applied = Some(stamps);
                self.handlers.refused(&name, &reason);
                return Ok(());
            }
        };
        match self.handlers.serve(&name, version).await {
            Ok(()) => seen.applied = Some(stamps),
            Err(StartError::Refused(reason)) => {
                seen.applied = Some(stamps);
                self.handlers.refused(&name, &reason);
            }
            Err(StartError::Queue(error)) => return Err(error),
        }
        Ok(())
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
) -> Result<Option<Version>, String> {
    let (blocking, stem) = (directory.clone(), name.to_owned());
    let read = tokio::task::spawn_blocking(move || blocking.read(&stem, stamps, MAX_WASM_BYTES));
    let files = read.await.map_err(|_| "the host is stopping".to_owned())?;
    let file = directory.wasm(name);
    let Some(Files { wasm, manifest }) = files.map_err(|error| format!("{} can't be read: {error}", file.display()))?
    else {
        return Ok(None);
    };
    let manifest = match manifest {
        Some(text) => Manifest::parse(&text, name),
        None => Manifest::defaults(name),
    };
    let manifest = manifest.map_err(|errors| errors.to_string())?;
    let policy = Arc::new(policy(name, &manifest));
    let same = running.filter(|running| running.info.digest == digest(&wasm));
    let loaded = match same {
        Some(component) => executor
            .try_start(file, &component, Arc::clone(&policy))
            .await
            .map(|()| component),
        None => executor.load(file, Bytes::from(wasm), Arc::clone(&policy)).await,
    };
    let component = loaded.map_err(|error| error.to_string())?;
    Ok(Some(Version {
        component,
        manifest,
        policy,
    }))
}
