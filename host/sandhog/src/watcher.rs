//! Turns events of a directory into wake-ups, and remembers which files are still being written. Never reads a file.
//!
//! Network mounts and symbolic links that are swapped do not always send events. So the reload also looks every
//! [`POLL_INTERVAL`]; events only make it look sooner. An event of a file that is neither a component nor a manifest wakes no
//! task.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, ModifyKind},
};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::plugin_dir::FileLook;

/// The time between two looks without an event.
pub const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// The most files of which the watcher remembers whether they were closed. Past that it forgets all of them.
const MAX_REMEMBERED: usize = 4096;

/// Watches one directory for as long as it lives.
pub struct Watcher {
    changed: Arc<Notify>,
    closings: FileClosings,
    // Dropping it ends the watch.
    _events: Option<RecommendedWatcher>,
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watcher").finish_non_exhaustive()
    }
}

/// The files that were written to, as far as events tell, each with the look at it when its writer closed it, or `None` while
/// the file is being written.
#[derive(Debug, Clone, Default)]
pub struct FileClosings(Arc<Mutex<BTreeMap<String, Option<FileLook>>>>);

impl FileClosings {
    /// Returns whether the file with this name and this look was closed, or renamed into place, after the last write to it; `None`
    /// if no event has told. A file behind a link changes without an event: then the note is about another state of the file.
    pub fn is_closed(&self, file_name: &str, look: Option<&FileLook>) -> Option<bool> {
        let closings = self.0.lock();
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
        let mut closings = self.0.lock();
        for (name, look) in notes {
            if look.is_some() || closed == Some(false) {
                closings.insert(name.to_owned(), look);
            } else {
                // The file is gone, or has just come.
                closings.remove(name);
            }
        }
        if closings.len() > MAX_REMEMBERED {
            closings.clear();
        }
    }

    fn forget_all(&self) {
        self.0.lock().clear();
    }
}

fn file_name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

fn is_ours(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "wasm" || extension == "toml")
}

/// Returns whether this event may have changed a handler. Links that are swapped as a whole, as those of a mounted ConfigMap,
/// have names with two dots. The poll sees other links.
fn matters(event: &Event, directory: &Path) -> bool {
    let swaps = |path: &Path| file_name(path).is_some_and(|name| name.starts_with("..")) || path == directory;
    !event.kind.is_access() && (event.paths.is_empty() || event.paths.iter().any(|path| is_ours(path) || swaps(path)))
}

impl Watcher {
    /// Starts to watch `directory`. Where that is not possible (no more watches, a file system without events), the log says that
    /// the host polls alone.
    pub fn new(directory: &Path) -> Self {
        let changed = Arc::new(Notify::new());
        let closings = FileClosings::default();
        let signal = Arc::clone(&changed);
        let notes = closings.clone();
        let watched = directory.to_owned();
        let events = notify::recommended_watcher(move |event: notify::Result<Event>| match event {
            Ok(event) if !event.need_rescan() => {
                notes.note(&event);
                if matters(&event, &watched) {
                    signal.notify_one();
                }
            }
            // Events were lost, so the reload looks.
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

    /// Returns what the events tell of files that are being written.
    pub fn closings(&self) -> FileClosings {
        self.closings.clone()
    }

    /// Waits for an event that may have changed a handler.
    ///
    /// # Cancel safety
    ///
    /// Safe: an event that comes while no task waits is kept.
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

    /// An event of any file caused a look at the whole directory.
    #[test]
    fn an_event_of_a_foreign_file_wakes_nobody() {
        let matters = |file| matters(&event(DATA, file), Path::new("/plugins"));
        let files = ["a.wasm", "a.toml", "..data", "a.json", "asset", "a.wasm.part"];
        assert_eq!(files.map(matters), [true, true, true, false, false, false]);
    }

    #[test]
    fn a_file_is_being_written_until_it_is_closed_or_renamed_into_place() {
        let closings = FileClosings::default();
        let directory = tempfile::tempdir().unwrap();
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

    /// The note about an earlier state of the file let half of it through, because no event told of the second write.
    #[test]
    fn what_is_written_behind_a_link_is_not_closed_because_it_was_once() {
        let closings = FileClosings::default();
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("target");
        let link = directory.path().join("a.wasm");
        std::fs::write(&target, "all of it").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        closings.note(&Event::new(CLOSED).add_path(link.clone()));
        assert_eq!(closings.is_closed("a.wasm", FileLook::at(&link).as_ref()), Some(true));
        std::fs::write(&target, "half").unwrap();
        assert_eq!(closings.is_closed("a.wasm", FileLook::at(&link).as_ref()), None);
    }
}
