//! Directory events -> "something may have changed". Never reads a file, never compiles.
//!
//! Network mounts and symbolic links that are swapped do not always send events, so whoever listens looks by
//! itself every [`POLL_INTERVAL`] as well; events only make it sooner.

use std::{path::Path, sync::Arc, time::Duration};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

/// How often to look without having been told to.
pub const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Watches one directory for as long as it lives.
pub struct Watcher {
    changed: Arc<Notify>,
    // Held for its drop, which ends the watch.
    _watcher: Option<RecommendedWatcher>,
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watcher").finish_non_exhaustive()
    }
}

impl Watcher {
    /// Starts to watch `directory`. Where that is not possible (no more watches, a file system without events),
    /// polling alone has to do, and the log says so.
    pub fn new(directory: &Path) -> Self {
        let changed = Arc::new(Notify::new());
        let signal = Arc::clone(&changed);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // An event that was lost shows up as an error; the answer is to look as well.
            if event.map_or(true, |event| !event.kind.is_access()) {
                signal.notify_one();
            }
        })
        .and_then(|mut watcher| watcher.watch(directory, RecursiveMode::NonRecursive).map(|()| watcher));
        let watcher = watcher
            .inspect_err(|error| {
                let seconds = POLL_INTERVAL.as_secs();
                tracing::warn!(directory = %directory.display(), %error, "no file events: looking every {seconds} s");
            })
            .ok();
        Self {
            changed,
            _watcher: watcher,
        }
    }

    /// Waits until something may have changed: an event, or the poll interval.
    ///
    /// # Cancel safety
    ///
    /// Safe: an event that comes while nobody waits is kept.
    pub async fn changed(&self) {
        // Either way the answer is the same: look.
        drop(tokio::time::timeout(POLL_INTERVAL, self.changed.notified()).await);
    }
}
