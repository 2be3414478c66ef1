//! Stores the history of each handler and the files of its versions, so that a restart never makes things worse.
//!
//! A handler has a directory of its own name, with files that are named by their digests and `history.json`. Invariants: a
//! file that a version needs is on disk before a history names it, and is used only if it has its digest; a history is replaced
//! as a whole. So a kill at any moment leaves the history that was recorded before. Knows nothing of what a component is.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    history::VersionHistory,
    record::{VersionDigests, VersionRecord},
};
use crate::{
    plugin_dir::{FileReadError, FileTrouble, read},
    whole_file::{self, WriteEnd},
};
use sandhog_executor::{MAX_WASM_BYTES, digest};

/// The name of a handler's history.
pub(super) const HISTORY: &str = "history.json";
/// The name of a history that a later one could not replace.
pub(super) const UNRECORDED: &str = "history.unrecorded.json";
/// The name of a history that could not be understood. A later one replaces it.
const DAMAGED_HISTORY: &str = "history.damaged.json";
/// The name of what an earlier program recorded: the digests of the version that served last, and nothing else.
pub(super) const LAST_SERVED: &str = "last.json";
/// The largest manifest, and the largest record of an earlier program, in bytes.
const MAX_SMALL_BYTES: usize = 1024 * 1024;
/// The largest history, in bytes (8 MiB): 101 versions, each with the largest tally and the longest path, take less.
const MAX_HISTORY_BYTES: usize = 8 * 1024 * 1024;
/// The free space that a new file leaves on the disk, in bytes (64 MiB): the queues need it more.
const MIN_FREE_BYTES: u64 = 64 * 1024 * 1024;
/// The most versions of a handler that are stored and that no history names yet: those of two loads, the newer of which replaces
/// the older, each with the predecessor under the same manifest.
const MAX_WAITING: usize = 4;

/// A component, as it is stored.
#[derive(Debug, Clone, Copy)]
pub struct StoredComponent<'a> {
    /// The bytes of the file.
    pub wasm: &'a [u8],
    /// The digest of the bytes.
    pub digest: &'a str,
}

/// The files of a version.
#[derive(Debug)]
pub struct VersionFiles {
    /// The bytes of the component.
    pub wasm: Bytes,
    /// The digest of the bytes.
    pub digest: String,
    /// The text of the manifest.
    pub manifest: Option<String>,
}

/// A history, as it was read.
#[derive(Debug, Default)]
pub struct StoredHistory {
    /// The history; an empty one if there was none, or if it was damaged.
    pub history: VersionHistory,
    /// What was damaged, and where it lies now, for the log.
    pub damage: Option<String>,
}

/// Returns where the file with this digest lies, of a version of a handler, in a directory of all versions.
pub(crate) fn stored_file(root: &Path, handler: &str, digest: &str) -> PathBuf {
    root.join(handler).join(digest)
}

/// The directory of all versions. Every call blocks on the disk.
#[derive(Debug)]
pub struct VersionStore {
    root: PathBuf,
    /// What is known of the files of each handler. The lock is held while files are stored or removed, and never during a sync.
    handlers: Mutex<BTreeMap<String, HandlerFacts>>,
}

#[derive(Debug, Default)]
struct HandlerFacts {
    /// The versions that are stored and that no history names yet, the oldest first, so that their files are not removed.
    waiting: Vec<VersionDigests>,
    /// The names of the files that were on disk when this process recorded the last history.
    synced: BTreeSet<String>,
}

impl VersionStore {
    /// Opens and makes nothing yet.
    pub fn new(root: PathBuf) -> Self {
        Self {
            root,
            handlers: Mutex::default(),
        }
    }

    /// Returns the history of a handler; an empty one if there is none. What an earlier program recorded becomes version 1, which
    /// serves.
    ///
    /// A damaged history does not keep the handler from serving: it is moved aside, an empty one takes its place, and
    /// `StoredHistory::damage` says so.
    ///
    /// # Errors
    ///
    /// The history can't be read at the moment: see [`is_transient`].
    pub fn history(&self, handler: &str) -> io::Result<StoredHistory> {
        let path = self.root.join(handler).join(HISTORY);
        let damage = match read(&path, MAX_HISTORY_BYTES) {
            Ok(content) => match serde_json::from_slice(&content.bytes) {
                Ok(history) => return Ok(StoredHistory { history, damage: None }),
                Err(error) => error.to_string(),
            },
            Err(FileReadError::Gone) => match self.unrecorded(handler) {
                Some(history) => return Ok(StoredHistory { history, damage: None }),
                None => return self.last_served(handler),
            },
            Err(unread) => lasting(unread)?,
        };
        // The damaged history came after what an earlier program recorded.
        drop(fs::remove_file(path.with_file_name(LAST_SERVED)));
        let aside = path.with_file_name(DAMAGED_HISTORY);
        let now_at = match fs::rename(&path, &aside) {
            Ok(()) => format!("it is {} now", aside.display()),
            Err(error) => format!("it can't be moved aside: {error}"),
        };
        Ok(StoredHistory {
            history: VersionHistory::default(),
            damage: Some(format!("{} can't be used: {damage}; {now_at}", path.display())),
        })
    }

    /// Reads a history that could not be replaced by a later one: nothing in it serves.
    fn unrecorded(&self, handler: &str) -> Option<VersionHistory> {
        let content = read(&self.root.join(handler).join(UNRECORDED), MAX_HISTORY_BYTES).ok()?;
        let mut history: VersionHistory = serde_json::from_slice(&content.bytes).ok()?;
        // No time is counted of a version that serves in no process.
        history.nothing_serves(0);
        Some(history)
    }

    /// Reads what an earlier program recorded.
    fn last_served(&self, handler: &str) -> io::Result<StoredHistory> {
        let path = self.root.join(handler).join(LAST_SERVED);
        let mut stored = StoredHistory::default();
        let damage = match read(&path, MAX_SMALL_BYTES) {
            Err(FileReadError::Gone) => return Ok(stored),
            Err(unread) => lasting(unread)?,
            Ok(content) => match serde_json::from_slice::<VersionDigests>(&content.bytes) {
                Ok(digests) if digests.are_digests() => {
                    stored.history = VersionHistory::of_last_served(digests, modified_ms(&path));
                    return Ok(stored);
                }
                Ok(_) => "a digest is none".to_owned(),
                Err(error) => error.to_string(),
            },
        };
        stored.damage = Some(format!("{} can't be used: {damage}", path.display()));
        Ok(stored)
    }

    /// Stores the files of a version. They are on disk only with a [`VersionStore::record`] of a history that names them: a busy
    /// disk must not hold up a deploy. Until then no record removes them, unless four newer versions were stored meanwhile.
    ///
    /// # Errors
    ///
    /// The error of the disk. The recorded versions stay.
    pub fn store(
        &self,
        handler: &str,
        component: StoredComponent<'_>,
        manifest: Option<&str>,
    ) -> io::Result<VersionDigests> {
        let mut handlers = self.handlers.lock();
        let directory = self.root.join(handler);
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        let digests = VersionDigests {
            component: component.digest.to_owned(),
            manifest: manifest.map(|text| digest(text.as_bytes())),
        };
        let facts = handlers.entry(handler.to_owned()).or_default();
        facts.write_new(&directory, &digests.component, component.wasm)?;
        if let (Some(name), Some(text)) = (&digests.manifest, manifest) {
            facts.write_new(&directory, name, text.as_bytes())?;
        }
        facts.waiting.retain(|waits| *waits != digests);
        facts.waiting.push(digests.clone());
        let excess = facts.waiting.len().saturating_sub(MAX_WAITING);
        facts.waiting.drain(..excess);
        Ok(digests)
    }

    /// Records the history of a handler. The files of the version that serves are on disk before that; another version whose
    /// files are gone stays in the history without them.
    ///
    /// # Errors
    ///
    /// The error of the disk; [`io::ErrorKind::NotFound`] if the version that serves has no files. The history that was recorded
    /// before stays, or a loss of power may bring it back.
    pub fn record(&self, handler: &str, history: &VersionHistory) -> io::Result<()> {
        let directory = self.root.join(handler);
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        let synced = self.sync_files(handler, history)?;
        let text = serde_json::to_vec(history)?;
        if text.len() > MAX_HISTORY_BYTES {
            return Err(io::Error::other("the history is too large to be read again"));
        }
        // A history that can't be read is written anew.
        let is_recorded = read(&directory.join(HISTORY), MAX_HISTORY_BYTES).is_ok_and(|content| content.bytes == text);
        if !is_recorded {
            // It takes the room of the one before, so no space has to be left for the queues: a disk that is almost full must not
            // keep the host from recording what it went back from.
            write(&directory, HISTORY, &text)?;
            File::open(&directory)?.sync_all()?;
        }
        let mut handlers = self.handlers.lock();
        let facts = handlers.entry(handler.to_owned()).or_default();
        facts.waiting.retain(|waits| !names(history, waits));
        facts.synced = synced;
        Ok(())
    }

    /// Syncs the files that the history names and that this process has not synced yet, and always those of the version that
    /// serves. Returns the names of the files that are on disk.
    fn sync_files(&self, handler: &str, history: &VersionHistory) -> io::Result<BTreeSet<String>> {
        let directory = self.root.join(handler);
        let handlers = self.handlers.lock();
        let known = handlers.get(handler).map(|facts| facts.synced.clone());
        drop(handlers);
        let known = known.unwrap_or_default();
        let serving = history.serving().map(|version| version.number);
        let mut synced = BTreeSet::new();
        for version in history.versions() {
            let serves = serving == Some(version.number);
            for name in version.digests.names() {
                if synced.contains(name) || (known.contains(name) && !serves) {
                    synced.insert(name.to_owned());
                    continue;
                }
                match File::open(directory.join(name)) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound && !serves => continue,
                    file => file?.sync_all()?,
                }
                synced.insert(name.to_owned());
            }
        }
        File::open(&directory)?.sync_all()?;
        Ok(synced)
    }

    /// Removes the files of a handler that its recorded history does not need.
    ///
    /// # Errors
    ///
    /// The error of the disk. What could not be removed is removed the next time.
    pub fn remove_unneeded(&self, handler: &str, recorded: &VersionHistory) -> io::Result<()> {
        let handlers = self.handlers.lock();
        let waiting = handlers.get(handler).map(|facts| facts.waiting.iter());
        let versions = recorded.versions().iter().map(|version| &version.digests);
        let named = versions.chain(waiting.into_iter().flatten());
        let mut needed: BTreeSet<&str> = named.flat_map(VersionDigests::names).collect();
        needed.extend([HISTORY, DAMAGED_HISTORY]);
        for entry in fs::read_dir(self.root.join(handler))? {
            let entry = entry?;
            if !entry.file_name().to_str().is_some_and(|name| needed.contains(name)) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Returns the files of a version.
    ///
    /// # Errors
    ///
    /// A file can't be read (see [`is_transient`]), is gone, or is damaged.
    pub fn files(&self, handler: &str, version: &VersionRecord) -> io::Result<VersionFiles> {
        let digests = version.digests.clone();
        let file = |digest: &str| stored_file(&self.root, handler, digest);
        let wasm = verified(&file(&digests.component), &digests.component, MAX_WASM_BYTES)?;
        let manifest = match &digests.manifest {
            Some(name) => Some(verified(&file(name), name, MAX_SMALL_BYTES)?),
            None => None,
        };
        let manifest = manifest.map(String::from_utf8).transpose().map_err(io::Error::other)?;
        Ok(VersionFiles {
            wasm: wasm.into(),
            digest: digests.component,
            manifest,
        })
    }

    /// Makes a restart find no version that serves, where a history can't be recorded: the one that is recorded may have grants that
    /// were taken away. What is barred stays barred. It needs no room on the disk.
    ///
    /// # Errors
    ///
    /// The error of the disk. The history may still be there.
    pub fn unrecord(&self, handler: &str) -> io::Result<()> {
        let directory = self.root.join(handler);
        let mut has_changed = false;
        // What an earlier program recorded goes first: alone it would count again.
        let steps = [
            fs::remove_file(directory.join(LAST_SERVED)),
            fs::rename(directory.join(HISTORY), directory.join(UNRECORDED)),
        ];
        for step in steps {
            match step {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
                Ok(()) => has_changed = true,
            }
        }
        if has_changed {
            File::open(&directory)?.sync_all()?;
        }
        Ok(())
    }

    /// Removes all files of a handler.
    ///
    /// # Errors
    ///
    /// The error of the disk.
    pub fn forget(&self, handler: &str) -> io::Result<()> {
        let mut handlers = self.handlers.lock();
        handlers.remove(handler);
        match fs::remove_dir_all(self.root.join(handler)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Returns the names of the handlers that have files.
    ///
    /// # Errors
    ///
    /// The error of the disk.
    pub fn handlers(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let names = entries.map(|entry| Ok(entry?.file_name().into_string().ok()));
        names.filter_map(Result::transpose).collect()
    }
}

impl HandlerFacts {
    /// Writes a file that is named by its digest, unless it exists: then it holds the same bytes, or is damaged.
    fn write_new(&mut self, directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
        if verified(&directory.join(name), name, bytes.len()).is_ok() {
            return Ok(());
        }
        let disk = rustix::fs::statvfs(directory)?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let needed = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if free < needed.saturating_add(MIN_FREE_BYTES) {
            let message = format!("the disk has only {free} bytes left");
            return Err(io::Error::new(io::ErrorKind::StorageFull, message));
        }
        self.synced.remove(name);
        write(directory, name, bytes)
    }
}

/// Returns whether an error of [`VersionStore::history`] or [`VersionStore::files`] may pass. A file that is gone or damaged stays
/// so.
pub fn is_transient(error: &io::Error) -> bool {
    let trouble = error.get_ref().and_then(|inner| inner.downcast_ref::<FileTrouble>());
    error.kind() == io::ErrorKind::ResourceBusy || trouble.is_some_and(|trouble| trouble.is_transient)
}

fn unusable(unread: FileReadError) -> io::Error {
    match unread {
        FileReadError::Gone => io::Error::new(io::ErrorKind::NotFound, "it is not there"),
        FileReadError::BeingWritten => io::Error::new(io::ErrorKind::ResourceBusy, "somebody is writing it"),
        FileReadError::Trouble(trouble) => io::Error::other(trouble),
    }
}

/// Returns the reason why a file will never be readable.
///
/// # Errors
///
/// It may be readable later.
fn lasting(unread: FileReadError) -> io::Result<String> {
    let error = unusable(unread);
    if is_transient(&error) {
        Err(error)
    } else {
        Ok(error.to_string())
    }
}

fn verified(path: &Path, expected: &str, max_bytes: usize) -> io::Result<Vec<u8>> {
    let content = read(path, max_bytes).map_err(unusable)?;
    if digest(&content.bytes) == expected {
        Ok(content.bytes)
    } else {
        Err(io::Error::other(format!("{} is damaged", path.display())))
    }
}

fn names(history: &VersionHistory, digests: &VersionDigests) -> bool {
    history.versions().iter().any(|version| version.digests == *digests)
}

/// Returns when a file was changed last, in milliseconds since 1970-01-01T00:00:00Z; 0 if that is not known.
fn modified_ms(path: &Path) -> u64 {
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
    let since = modified
        .ok()
        .and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
    since
        .and_then(|since| u64::try_from(since.as_millis()).ok())
        .unwrap_or_default()
}

/// Writes a file, which has its name only when it is complete. A history replaces an older one.
fn write(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let end = if name == HISTORY {
        WriteEnd::Synced
    } else {
        WriteEnd::Later
    };
    whole_file::write(directory, name, bytes, end)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use tempfile::TempDir;

    use super::*;
    use crate::versions::record::VersionState;

    /// A store of one handler, and the history that it records.
    struct Place {
        directory: TempDir,
        store: VersionStore,
        history: VersionHistory,
    }

    impl Place {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            Self {
                store: VersionStore::new(directory.path().to_owned()),
                history: VersionHistory::default(),
                directory,
            }
        }

        /// As after a kill: what was not recorded is gone.
        fn restarted(self) -> Self {
            let store = VersionStore::new(self.directory.path().to_owned());
            let stored = store.history("orders").unwrap();
            assert_eq!(stored.damage, None);
            Self {
                store,
                history: stored.history,
                ..self
            }
        }

        fn put(&self, wasm: &[u8], manifest: Option<&str>) -> VersionDigests {
            let component = StoredComponent {
                wasm,
                digest: &digest(wasm),
            };
            self.store.store("orders", component, manifest).unwrap()
        }

        fn serve(&mut self, digests: VersionDigests) -> u64 {
            let number = self.history.accept(digests, "orders.wasm", 5);
            let predecessor = self.history.serving().map(|version| version.number);
            assert!(self.history.begin(number, predecessor, 5));
            number
        }

        fn record(&self) -> io::Result<()> {
            self.store.record("orders", &self.history)?;
            self.store.remove_unneeded("orders", &self.history)
        }

        fn deploy(&mut self, wasm: &[u8], manifest: Option<&str>) -> u64 {
            let digests = self.put(wasm, manifest);
            let number = self.serve(digests);
            self.record().unwrap();
            number
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join("orders").join(name)
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(self.path("")).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<String> = names.collect();
            names.sort();
            names
        }

        /// What a restart would serve.
        fn serving(&self) -> Option<(Vec<u8>, Option<String>)> {
            let again = VersionStore::new(self.directory.path().to_owned());
            let stored = again.history("orders").unwrap();
            let files = again.files("orders", stored.history.serving()?).unwrap();
            Some((files.wasm.to_vec(), files.manifest))
        }
    }

    #[test]
    fn the_version_that_served_last_is_stored_with_as_many_older_ones_as_are_kept() {
        let mut place = Place::new();
        assert_eq!(place.store.handlers().unwrap(), Vec::<String>::new());
        assert_eq!(place.serving(), None);
        for number in 0..100_u8 {
            let digests = place.put(&[number], Some("queue = \"x\""));
            place.serve(digests);
            place.history.keep(10);
            place.record().unwrap();
            assert_eq!(place.serving(), Some((vec![number], Some("queue = \"x\"".to_owned()))));
        }
        // Ten components, one manifest that all have, and the history.
        assert_eq!(place.names().len(), 12);
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(place.path("")), 0o700);
        assert_eq!(
            place.names().iter().map(|name| mode(place.path(name))).max(),
            Some(0o600)
        );
        let oldest = place.history.versions().first().unwrap();
        assert_eq!(place.store.files("orders", oldest).unwrap().wasm.to_vec(), [90]);
        assert_eq!(place.store.handlers().unwrap(), ["orders"]);
        place.store.forget("orders").unwrap();
        assert_eq!(place.store.handlers().unwrap(), Vec::<String>::new());
        assert_eq!(place.restarted().history.next_number(), 1);
    }

    #[test]
    fn a_restart_knows_the_versions_and_how_they_did() {
        let mut place = Place::new();
        place.deploy(b"first", None);
        place.deploy(b"second", Some("timeout = 5"));
        assert!(place.history.went_back(2, 1, "it broke 7 of 7 calls", 9));
        place.record().unwrap();
        let place = place.restarted();
        let states: Vec<_> = place.history.versions().iter().map(|version| version.state).collect();
        assert_eq!(states, [VersionState::Serving, VersionState::Quarantined]);
        assert_eq!(
            place.history.barred(&digest(b"second")).unwrap().reason,
            "it broke 7 of 7 calls"
        );
        assert_eq!(place.serving(), Some((b"first".to_vec(), None)));
    }

    /// As after a kill between the files and the history.
    #[test]
    fn a_version_that_never_served_leaves_the_older_one_recorded() {
        let mut place = Place::new();
        place.deploy(b"first", None);
        let second = place.put(b"second", None);
        place.serve(second);
        fs::write(place.path("third.tmp"), "ha").unwrap();
        fs::write(place.path("history.json.tmp"), "ha").unwrap();
        let mut place = place.restarted();
        assert_eq!(place.serving(), Some((b"first".to_vec(), None)));
        assert_eq!(place.history.next_number(), 2);
        place.deploy(b"third", None);
        let mut expected = vec!["history.json".to_owned(), digest(b"first"), digest(b"third")];
        expected.sort();
        assert_eq!(place.names(), expected);
    }

    #[test]
    fn a_version_that_waits_to_serve_is_not_removed_with_the_old_ones() {
        let mut place = Place::new();
        let first = place.put(b"first", None);
        let second = place.put(b"second", Some("same"));
        place.serve(first);
        place.record().unwrap();
        place.serve(second);
        place.record().unwrap();
        assert_eq!(place.serving(), Some((b"second".to_vec(), Some("same".to_owned()))));
        // What waits in vain is removed in the end.
        for number in 0..10_u8 {
            place.put(&[number], None);
        }
        place.record().unwrap();
        assert_eq!(place.names().len(), 4 + MAX_WAITING);
    }

    /// A restart gave back the grants that the version which could not be stored had lost.
    #[test]
    fn a_version_before_one_that_could_not_be_stored_does_not_count() {
        let mut place = Place::new();
        place.store.unrecord("orders").unwrap();
        place.deploy(b"first", None);
        let unstored = VersionDigests {
            component: digest(b"second"),
            manifest: None,
        };
        place.serve(unstored.clone());
        let error = place.record().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(place.serving(), Some((b"first".to_vec(), None)));
        let mut on_disk = place.history.clone();
        on_disk.nothing_serves(6);
        place.store.record("orders", &on_disk).unwrap();
        assert_eq!(place.serving(), None);
        place.put(b"second", None);
        place.record().unwrap();
        assert_eq!(place.serving(), Some((b"second".to_vec(), None)));
        place.store.unrecord("orders").unwrap();
        assert_eq!(place.serving(), None);
    }

    /// A full disk let a quarantined component serve again after a restart.
    #[test]
    fn what_is_barred_stays_barred_where_a_history_can_not_be_recorded() {
        let mut place = Place::new();
        place.deploy(b"good", None);
        place.deploy(b"bad", None);
        assert!(place.history.went_back(2, 1, "it broke", 5));
        place.record().unwrap();
        place.store.unrecord("orders").unwrap();
        assert_eq!(place.serving(), None);
        let stored = place.store.history("orders").unwrap().history;
        assert!(stored.barred(&digest(b"bad")).is_some());
        assert_eq!(stored.next_number(), 3);
        place.record().unwrap();
        assert_eq!(place.serving(), Some((b"good".to_vec(), None)));
    }

    #[test]
    fn an_older_version_whose_file_is_gone_keeps_nothing_from_being_recorded() {
        let mut place = Place::new();
        place.deploy(b"first", None);
        place.deploy(b"second", None);
        fs::remove_file(place.path(&digest(b"first"))).unwrap();
        let mut place = place.restarted();
        place.deploy(b"third", None);
        let first = place.history.version(1).unwrap();
        let error = place.store.files("orders", first).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(place.serving(), Some((b"third".to_vec(), None)));
        fs::remove_file(place.path(&digest(b"third"))).unwrap();
        assert!(place.record().is_err());
    }

    #[test]
    fn what_an_earlier_program_recorded_is_version_1() {
        let place = Place::new();
        let digests = place.put(b"old", Some("queue = \"x\""));
        fs::write(place.path(LAST_SERVED), serde_json::to_vec(&digests).unwrap()).unwrap();
        let mut place = place.restarted();
        place.history.served_until(u64::MAX);
        let old = place.history.serving().unwrap();
        assert_eq!((old.number, old.state, old.served_ms), (1, VersionState::Serving, 0));
        assert!(old.last_served_at_ms.is_some_and(|at| at > 1_600_000_000_000));
        assert_eq!(
            place.serving(),
            Some((b"old".to_vec(), Some("queue = \"x\"".to_owned())))
        );
        assert!(place.names().contains(&LAST_SERVED.to_owned()));
        assert_eq!(place.deploy(b"new", None), 2);
        assert_eq!(place.history.predecessor().unwrap().number, 1);
        assert!(!place.names().contains(&LAST_SERVED.to_owned()));
        assert_eq!(place.names().len(), 4);
        let place = place.restarted();
        assert!(place.store.files("orders", place.history.version(1).unwrap()).is_ok());
    }

    /// As after a kill between the history and the removal of what the earlier program recorded.
    #[test]
    fn what_an_earlier_program_recorded_does_not_count_beside_a_history() {
        let mut place = Place::new();
        place.deploy(b"new", None);
        let record = serde_json::json!({ "component": digest(b"old"), "manifest": null });
        let text = serde_json::to_vec(&record).unwrap();
        fs::write(place.path(LAST_SERVED), &text).unwrap();
        assert_eq!(place.serving(), Some((b"new".to_vec(), None)));
        place.store.unrecord("orders").unwrap();
        assert_eq!(place.serving(), None);
        place.record().unwrap();
        fs::write(place.path(LAST_SERVED), &text).unwrap();
        fs::write(place.path(HISTORY), "{").unwrap();
        assert!(place.store.history("orders").unwrap().damage.is_some());
        assert_eq!(place.serving(), None);
    }

    #[test]
    fn a_damaged_history_is_moved_aside_and_a_new_one_begins() {
        let mut place = Place::new();
        place.deploy(b"first", None);
        let whole = fs::read_to_string(place.path(HISTORY)).unwrap();
        let evil = whole.replace(&digest(b"first"), &format!("{:/>64}", "../../x"));
        for text in ["", "{", "[]", "{\"next_number\":1}", &whole[..whole.len() - 1], &evil] {
            fs::write(place.path(HISTORY), text).unwrap();
            let stored = place.store.history("orders").unwrap();
            let damage = stored.damage.unwrap();
            assert!(
                damage.contains("it is ") && damage.contains(DAMAGED_HISTORY),
                "{damage}"
            );
            assert_eq!(stored.history.versions().len(), 0);
            assert_eq!(fs::read_to_string(place.path(DAMAGED_HISTORY)).unwrap(), text);
        }
        place.history = VersionHistory::default();
        place.deploy(b"second", None);
        assert_eq!(place.serving(), Some((b"second".to_vec(), None)));
        assert!(place.names().contains(&DAMAGED_HISTORY.to_owned()));
        fs::remove_file(place.path(HISTORY)).unwrap();
        fs::write(place.path(LAST_SERVED), r#"{"component":"../../x","manifest":null}"#).unwrap();
        let stored = place.store.history("orders").unwrap();
        assert!(stored.damage.is_some() && stored.history.versions().is_empty());
    }

    /// A stored version that the machine could not read at the start was never tried again.
    #[test]
    fn a_file_that_can_not_be_read_may_be_readable_later_and_one_that_is_gone_or_damaged_may_not() {
        let mut place = Place::new();
        place.deploy(b"good", None);
        let file = place.path(&digest(b"good"));
        let version = place.history.serving().unwrap();
        fs::write(&file, "evil").unwrap();
        assert!(!is_transient(&place.store.files("orders", version).unwrap_err()));
        fs::remove_file(&file).unwrap();
        assert!(!is_transient(&place.store.files("orders", version).unwrap_err()));
        let trouble = |is_transient| {
            let reason = "too many open files".to_owned();
            FileReadError::Trouble(FileTrouble { reason, is_transient })
        };
        assert!(is_transient(&unusable(trouble(true))) && !is_transient(&unusable(trouble(false))));
        assert!(is_transient(&unusable(FileReadError::BeingWritten)));
        assert!(lasting(trouble(true)).is_err() && lasting(trouble(false)).is_ok());
    }

    #[test]
    fn a_damaged_file_is_not_used_and_is_written_anew() {
        let mut place = Place::new();
        place.deploy(b"good", None);
        fs::write(place.path(&digest(b"good")), "evil").unwrap();
        let version = place.history.serving().unwrap();
        assert!(place.store.files("orders", version).is_err());
        place.put(b"good", None);
        assert_eq!(place.serving(), Some((b"good".to_vec(), None)));
    }
}
