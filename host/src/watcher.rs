//! Directory events -> "something may have changed", and who is still writing. Never reads a file, never compiles.
//!
//! Network mounts and symbolic links that are swapped do not always send events, so whoever listens looks by
//! itself every [`POLL_INTERVAL`] as well; events only make it sooner. An event of a file that is neither a component nor
//! a manifest wakes nobody.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, ModifyKind},
};
use tokio::sync::Notify;

use crate::plugin_dir::FileLook;

/// How often to look without having been told to.
pub const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// Of how many files it is remembered whether they were closed. Past that nothing is known of any.
const MAX_REMEMBERED: usize = 4096;

/// Watches one directory for as long as it lives.
pub struct Watcher {
    changed: Arc<Notify>,
    closings: FileClosings,
    // Held for its drop, which ends the watch.
    _events: Option<RecommendedWatcher>,
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watcher").finish_non_exhaustive()
    }
}

/// Which files were written to, and whether their writers have closed them, as far as events tell: as what each was closed, or
/// `None` while it is written.
#[derive(Debug, Clone, Default)]
pub struct FileClosings(Arc<Mutex<BTreeMap<String, Option<FileLook>>>>);

impl FileClosings {
    /// Whether the file of this name, which looks like `look`, was closed, or renamed into place, after it was last written
    /// to; `None` if no event has told. What is behind a link changes without an event: then what was told is of another
    /// state of it.
    pub fn is_closed(&self, file_name: &str, look: Option<&FileLook>) -> Option<bool> {
        let closings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match closings.get(file_name)? {
            None => Some(false),
            closed => (closed.as_ref() == look).then_some(true),
        }
    }

    fn note(&self, event: &Event) {
        let closed = match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) | EventKind::Modify(ModifyKind::Name(_)) => {
                Some(true)
            }
            EventKind::Modify(ModifyKind::Data(_)) => Some(false),
            EventKind::Create(_) | EventKind::Remove(_) => None,
            EventKind::Access(_) | EventKind::Modify(_) | EventKind::Any | EventKind::Other => return,
        };
        let paths = event.paths.iter().filter(|path| is_ours(path));
        let notes: Vec<_> = paths
            .filter_map(|path| {
                let look = closed.unwrap_or(false).then(|| FileLook::at(path)).flatten();
                Some((file_name(path)?, look))
            })
            .collect();
        let mut closings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, look) in notes {
            if look.is_some() || closed == Some(false) {
                closings.insert(name.to_owned(), look);
            } else {
                // It is gone, or has just come.
                closings.remove(name);
            }
        }
        if closings.len() > MAX_REMEMBERED {
            closings.clear();
        }
    }

    fn forget_all(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

fn file_name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

fn is_ours(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "wasm" || extension == "toml")
}

/// Whether a handler may look otherwise after this event. Links that are swapped as a whole, as those of a mounted
/// ConfigMap, have names with two dots; what else leads to other files is seen by the poll.
fn matters(event: &Event, directory: &Path) -> bool {
    let swaps = |path: &Path| file_name(path).is_some_and(|name| name.starts_with("..")) || path == directory;
    !event.kind.is_access() && (event.paths.is_empty() || event.paths.iter().any(|path| is_ours(path) || swaps(path)))
}

impl Watcher {
    /// Starts to watch `directory`. Where that is not possible (no more watches, a file system without events),
    /// polling alone has to do, and the log says so.
    pub fn new(directory: &Path) -> Self {
        let (changed, closings) = (Arc::new(Notify::new()), FileClosings::default());
        let (signal, notes, place) = (Arc::clone(&changed), closings.clone(), directory.to_owned());
        let events = notify::recommended_watcher(move |event: notify::Result<Event>| match event {
            Ok(event) if !event.need_rescan() => {
                notes.note(&event);
                if matters(&event, &place) {
                    signal.notify_one();
                }
            }
            // Events were lost; the answer is to look as well.
            Ok(_) | Err(_) => {
                notes.forget_all();
                signal.notify_one();
            }
        })
        .and_then(|mut watcher| watcher.watch(directory, RecursiveMode::NonRecursive).map(|()| watcher));
        let events = events
            .inspect_err(|error| {
                let seconds = POLL_INTERVAL.as_secs();
                tracing::warn!(directory = %directory.display(), %error, "no file events: looking every {seconds} s");
            })
            .ok();
        Self {
            changed,
            closings,
            _events: events,
        }
    }

    /// What the events tell of files that are being written.
    pub fn closings(&self) -> FileClosings {
        self.closings.clone()
    }

    /// Waits until an event says that something may have changed.
    ///
    /// # Cancel safety
    ///
    /// Safe: an event that comes while nobody waits is kept.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, DataChange, RenameMode};

    use super::*;

    fn event(kind: EventKind, file: &str) -> Event {
        Event::new(kind).add_path(Path::new("/plugins").join(file))
    }

    const DATA: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));

    const CLOSED: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));

    /// Each event of any file was a look at the whole directory once.
    #[test]
    fn an_event_of_a_foreign_file_wakes_nobody() {
        let matters = |file| matters(&event(DATA, file), Path::new("/plugins"));
        let files = ["a.wasm", "a.toml", "..data", "a.json", "asset", "a.wasm.part"];
        assert_eq!(files.map(matters), [true, true, true, false, false, false]);
    }

    #[test]
    fn a_file_is_being_written_until_it_is_closed_or_renamed_into_place() {
        let (closings, directory) = (FileClosings::default(), tempfile::tempdir().unwrap());
        let path = directory.path().join("a.wasm");
        std::fs::write(&path, "all of it").unwrap();
        let is_closed = || closings.is_closed("a.wasm", FileLook::at(&path).as_ref());
        assert_eq!(is_closed(), None);
        for (kind, expected) in [
            (EventKind::Create(CreateKind::File), None),
            (DATA, Some(false)),
            (CLOSED, Some(true)),
            (DATA, Some(false)),
            (EventKind::Modify(ModifyKind::Name(RenameMode::To)), Some(true)),
        ] {
            closings.note(&Event::new(kind).add_path(path.clone()));
            assert_eq!(is_closed(), expected, "{kind:?}");
        }
    }

    /// The note of the state before let half of a file through, as no event told that it was written again.
    #[test]
    fn what_is_written_behind_a_link_is_not_closed_because_it_was_once() {
        let (closings, directory) = (FileClosings::default(), tempfile::tempdir().unwrap());
        let (target, link) = (directory.path().join("target"), directory.path().join("a.wasm"));
        std::fs::write(&target, "all of it").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        closings.note(&Event::new(CLOSED).add_path(link.clone()));
        assert_eq!(closings.is_closed("a.wasm", FileLook::at(&link).as_ref()), Some(true));
        std::fs::write(&target, "half").unwrap();
        assert_eq!(closings.is_closed("a.wasm", FileLook::at(&link).as_ref()), None);
    }
}
