//! The sources of a project: which files they are, and when one of them has changed.
//!
//! Events only make it look; whether a file has changed is what its bytes say. So a build that writes the same files again does not
//! start another build. Where no events come, it looks every [`POLL_INTERVAL`].

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use super::ignored::Ignored;
use crate::watcher::POLL_INTERVAL;
use sandhog_executor::digest;

/// The time without an event after which a save counts as finished: editors write in several steps.
const QUIET: Duration = Duration::from_millis(20);
/// The longest wait for that.
const MAX_QUIET: Duration = Duration::from_millis(500);
/// The most files that are looked at.
const MAX_FILES: usize = 10_000;
/// The most levels of directories.
const MAX_DEPTH: usize = 16;
/// The largest file whose bytes are compared; of larger ones the time of the change counts.
const MAX_COMPARED: u64 = 1024 * 1024;

/// What is known of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FileMark {
    size: u64,
    modified: Option<SystemTime>,
    /// Nothing for a large file.
    digest: Option<String>,
}

impl FileMark {
    fn has_same_content(&self, other: &Self) -> bool {
        match (&self.digest, &other.digest) {
            (Some(digest), Some(other)) => digest == other,
            _ => self == other,
        }
    }
}

/// A change of the sources.
#[derive(Debug)]
pub(super) struct SourceChange {
    /// When the first event came.
    pub(super) saved_at: Instant,
    /// The files, relative to the project.
    pub(super) files: BTreeSet<PathBuf>,
}

/// The files of a project that are not made by its build.
pub(super) struct ProjectSources {
    directory: PathBuf,
    ignored: Ignored,
    files: BTreeMap<PathBuf, FileMark>,
    watched: BTreeSet<PathBuf>,
    watcher: Option<RecommendedWatcher>,
    event: Arc<Notify>,
    /// When the first event came that was not looked into yet.
    event_at: Option<Instant>,
}

impl std::fmt::Debug for ProjectSources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProjectSources")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

impl ProjectSources {
    /// Begins to watch.
    pub(super) fn new(directory: &Path) -> Self {
        let event = Arc::new(Notify::new());
        let signal = Arc::clone(&event);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if !event.is_ok_and(|event| event.kind.is_access() && !event.need_rescan()) {
                signal.notify_one();
            }
        });
        let mut sources = Self {
            ignored: Ignored::of(directory),
            directory: directory.to_owned(),
            files: BTreeMap::new(),
            watched: BTreeSet::new(),
            watcher: watcher.ok(),
            event,
            event_at: None,
        };
        sources.files = sources.scan();
        sources
    }

    /// Waits for a change of a source.
    ///
    /// # Cancel safety
    ///
    /// Safe: a change that was not returned is found again.
    pub(super) async fn changed(&mut self) -> SourceChange {
        loop {
            if self.event_at.is_none() && timeout(POLL_INTERVAL, self.event.notified()).await.is_ok() {
                self.event_at = Some(Instant::now());
            }
            let saved_at = self.event_at.unwrap_or_else(Instant::now);
            while self.event_at.is_some() && saved_at.elapsed() < MAX_QUIET {
                if timeout(QUIET, self.event.notified()).await.is_err() {
                    break;
                }
            }
            self.event_at = None;
            let files = self.scan();
            let changed = |(path, mark): (&PathBuf, &FileMark)| {
                let same = self.files.get(path).is_some_and(|before| before.has_same_content(mark));
                (!same).then(|| path.clone())
            };
            let gone = self.files.keys().filter(|path| !files.contains_key(*path)).cloned();
            let files_changed: BTreeSet<_> = files.iter().filter_map(changed).chain(gone).collect();
            self.files = files;
            if !files_changed.is_empty() {
                return SourceChange {
                    saved_at,
                    files: files_changed,
                };
            }
        }
    }

    fn scan(&mut self) -> BTreeMap<PathBuf, FileMark> {
        let mut files = BTreeMap::new();
        let mut directories = BTreeSet::new();
        let mut open = vec![(PathBuf::new(), 0)];
        while let Some((below, depth)) = open.pop() {
            let path = self.directory.join(&below);
            // Before it is read, so that a change that comes meanwhile is an event.
            self.watch(&path);
            let Ok(entries) = fs::read_dir(&path) else { continue };
            directories.insert(path);
            for entry in entries.flatten() {
                let below = below.join(entry.file_name());
                let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if files.len() >= MAX_FILES || self.ignored.matches(&below, is_directory) {
                    continue;
                }
                if is_directory {
                    if depth < MAX_DEPTH {
                        open.push((below, depth + 1));
                    }
                } else if let Some(mark) = self.mark(&below) {
                    files.insert(below, mark);
                }
            }
        }
        self.watched.retain(|path| directories.contains(path));
        files
    }

    fn mark(&self, below: &Path) -> Option<FileMark> {
        let path = self.directory.join(below);
        let metadata = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
        let (size, modified) = (metadata.len(), metadata.modified().ok());
        if let Some(before) = self.files.get(below)
            && before.size == size
            && before.modified == modified
            && modified.is_some()
        {
            return Some(before.clone());
        }
        let digest = (size <= MAX_COMPARED)
            .then(|| fs::read(&path).ok())
            .flatten()
            .map(|bytes| digest(&bytes));
        Some(FileMark { size, modified, digest })
    }

    fn watch(&mut self, path: &Path) {
        if self.watched.contains(path) {
            return;
        }
        let watched = self
            .watcher
            .as_mut()
            .is_some_and(|watcher| watcher.watch(path, RecursiveMode::NonRecursive).is_ok());
        // Without it the poll sees the change.
        if watched {
            self.watched.insert(path.to_owned());
        }
    }
}
