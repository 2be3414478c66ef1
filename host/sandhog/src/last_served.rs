//! Stores the component and the manifest that each handler served last, so that a restart never makes things worse.
//!
//! A handler has a directory of its own name, with files that are named by their digests and a record of those that served
//! last. Invariant: a record names only files that are on disk, and a file is used only if it has its digest. So a kill at any
//! moment leaves the version that was recorded before. Knows nothing of what a component is.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};

use crate::plugin_dir::{FileReadError, FileTrouble, read};
use sandhog_executor::{MAX_WASM_BYTES, digest};

/// The name of a handler's record.
const RECORD: &str = "last.json";
/// The end of the name of a file that is not finished.
const UNFINISHED: &str = ".tmp";
/// The largest record and the largest manifest, in bytes.
const MAX_SMALL_BYTES: usize = 1024 * 1024;
/// The free space that a new file leaves on the disk, in bytes (64 MiB): the queues need it more.
const MIN_FREE_BYTES: u64 = 64 * 1024 * 1024;

/// The digests of a component and of its manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionDigests {
    component: String,
    /// `None` if the handler had no manifest.
    manifest: Option<String>,
}

/// A component, as it is stored.
#[derive(Debug, Clone, Copy)]
pub struct StoredComponent<'a> {
    /// The bytes of the file.
    pub wasm: &'a [u8],
    /// The digest of the bytes.
    pub digest: &'a str,
}

/// The files that a handler served last.
#[derive(Debug)]
pub struct LastServedFiles {
    /// The path of the component.
    pub file: PathBuf,
    /// The bytes of the component.
    pub wasm: Bytes,
    /// The digest of the bytes.
    pub digest: String,
    /// The text of the manifest.
    pub manifest: Option<String>,
}

/// The directory of all last-served versions. Every call blocks on the disk.
#[derive(Debug)]
pub struct LastServedStore {
    root: PathBuf,
    /// The versions that are stored and do not serve yet, so that their files are not removed as unused. The lock is held while
    /// files are stored or removed, and never during a sync.
    stored: Mutex<BTreeMap<String, VersionDigests>>,
}

impl LastServedStore {
    /// Opens and makes nothing yet.
    pub fn new(root: PathBuf) -> Self {
        Self {
            root,
            stored: Mutex::default(),
        }
    }

    /// Stores the files of a version. They are on disk, and replace the version that served last, only with
    /// [`LastServedStore::record_serving`]: a busy disk must not hold up a deploy.
    ///
    /// # Errors
    ///
    /// The error of the disk. The recorded version stays.
    pub fn store(
        &self,
        handler: &str,
        component: StoredComponent<'_>,
        manifest: Option<&str>,
    ) -> io::Result<VersionDigests> {
        let mut stored = self.lock();
        let directory = self.root.join(handler);
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        let digests = VersionDigests {
            component: component.digest.to_owned(),
            manifest: manifest.map(|text| digest(text.as_bytes())),
        };
        write_new(&directory, &digests.component, component.wasm)?;
        if let (Some(name), Some(text)) = (&digests.manifest, manifest) {
            write_new(&directory, name, text.as_bytes())?;
        }
        stored.insert(handler.to_owned(), digests.clone());
        Ok(digests)
    }

    /// Records that a handler serves these files, and removes its older ones.
    ///
    /// # Errors
    ///
    /// The error of the disk; the files may be gone. The recorded version stays.
    pub fn record_serving(&self, handler: &str, digests: &VersionDigests) -> io::Result<()> {
        let directory = self.root.join(handler);
        for name in digests.names() {
            File::open(directory.join(name))?.sync_all()?;
        }
        File::open(&directory)?.sync_all()?;
        // A record that can't be read is written anew.
        if self.record(handler).ok().flatten().as_ref() != Some(digests) {
            write(&directory, RECORD, &serde_json::to_vec(digests)?)?;
            File::open(&directory)?.sync_all()?;
        }
        let mut stored = self.lock();
        stored.retain(|other, waits| other != handler || waits != digests);
        let waits = stored.get(handler).cloned();
        let needed = |name: &str| {
            name == RECORD
                || [Some(digests), waits.as_ref()]
                    .into_iter()
                    .flatten()
                    .any(|digests| digests.names().any(|needed| needed == name))
        };
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if !entry.file_name().to_str().is_some_and(needed) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Returns the files that a handler served last, if there is a record of them.
    ///
    /// # Errors
    ///
    /// A file can't be read, or is damaged.
    pub fn last_served(&self, handler: &str) -> io::Result<Option<LastServedFiles>> {
        let Some(digests) = self.record(handler)? else {
            return Ok(None);
        };
        let directory = self.root.join(handler);
        let file = directory.join(&digests.component);
        let wasm = verified(&file, &digests.component, MAX_WASM_BYTES)?;
        let manifest = match &digests.manifest {
            Some(name) => Some(verified(&directory.join(name), name, MAX_SMALL_BYTES)?),
            None => None,
        };
        let manifest = manifest.map(String::from_utf8).transpose().map_err(io::Error::other)?;
        Ok(Some(LastServedFiles {
            file,
            wasm: wasm.into(),
            digest: digests.component,
            manifest,
        }))
    }

    /// Removes the record, unless it names `digests`: the serving version could not be stored, and the version before it may have
    /// grants that were taken away.
    ///
    /// # Errors
    ///
    /// The error of the disk. The record may still be there.
    pub fn supersede(&self, handler: &str, digests: Option<&VersionDigests>) -> io::Result<()> {
        if digests.is_some() && self.record(handler).ok().flatten().as_ref() == digests {
            return Ok(());
        }
        let directory = self.root.join(handler);
        match fs::remove_file(directory.join(RECORD)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => File::open(&directory)?.sync_all(),
        }
    }

    /// Removes all files of a handler.
    ///
    /// # Errors
    ///
    /// The error of the disk.
    pub fn forget(&self, handler: &str) -> io::Result<()> {
        let mut stored = self.lock();
        stored.remove(handler);
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

    fn record(&self, handler: &str) -> io::Result<Option<VersionDigests>> {
        match read(&self.root.join(handler).join(RECORD), MAX_SMALL_BYTES) {
            Ok(content) => {
                let digests: VersionDigests = serde_json::from_slice(&content.bytes)?;
                // Names become paths.
                let is_digest = |name: &str| name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
                if digests.names().all(is_digest) {
                    Ok(Some(digests))
                } else {
                    Err(io::Error::other("its record is damaged"))
                }
            }
            Err(FileReadError::Gone) => Ok(None),
            Err(unread) => Err(unusable(unread)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, VersionDigests>> {
        self.stored.lock()
    }
}

impl VersionDigests {
    fn names(&self) -> impl Iterator<Item = &str> {
        [Some(&self.component), self.manifest.as_ref()]
            .into_iter()
            .flatten()
            .map(String::as_str)
    }
}

/// Returns whether an error of [`LastServedStore::last_served`] may pass. A file that is gone or damaged stays so.
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

fn verified(path: &Path, expected: &str, max_bytes: usize) -> io::Result<Vec<u8>> {
    let content = read(path, max_bytes).map_err(unusable)?;
    if digest(&content.bytes) == expected {
        Ok(content.bytes)
    } else {
        Err(io::Error::other(format!("{} is damaged", path.display())))
    }
}

/// Writes a file that is named by its digest, unless it exists: then it holds the same bytes, or is damaged.
fn write_new(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    if verified(&directory.join(name), name, bytes.len()).is_ok() {
        return Ok(());
    }
    write(directory, name, bytes)
}

/// Writes a file, which has its name only when it is complete.
fn write(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let disk = rustix::fs::statvfs(directory)?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free
        < u64::try_from(bytes.len())
            .unwrap_or(u64::MAX)
            .saturating_add(MIN_FREE_BYTES)
    {
        let message = format!("the disk has only {free} bytes left");
        return Err(io::Error::new(io::ErrorKind::StorageFull, message));
    }
    let unfinished = directory.join(format!("{name}{UNFINISHED}"));
    let finish = || {
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)?;
        file.write_all(bytes)?;
        if name == RECORD {
            // A record replaces an older one: without the sync a power loss could leave an empty file under the name.
            file.sync_all()?;
        }
        fs::rename(&unfinished, directory.join(name))
    };
    finish().inspect_err(|_: &io::Error| drop(fs::remove_file(&unfinished)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn put(store: &LastServedStore, wasm: &[u8], manifest: Option<&str>) -> VersionDigests {
        let component = StoredComponent {
            wasm,
            digest: &digest(wasm),
        };
        store.store("orders", component, manifest).unwrap()
    }

    fn files(directory: &Path) -> usize {
        fs::read_dir(directory.join("orders")).unwrap().count()
    }

    fn last(store: &LastServedStore) -> (Vec<u8>, Option<String>) {
        let files = store.last_served("orders").unwrap().unwrap();
        (files.wasm.to_vec(), files.manifest)
    }

    #[test]
    fn the_version_that_served_last_is_stored_and_no_older_one() {
        let directory = tempfile::tempdir().unwrap();
        let store = LastServedStore::new(directory.path().to_owned());
        assert!(store.last_served("orders").unwrap().is_none());
        for number in 0..5_u8 {
            let digests = put(&store, &[number], Some("queue = \"x\""));
            store.record_serving("orders", &digests).unwrap();
            assert_eq!(last(&store), (vec![number], Some("queue = \"x\"".to_owned())));
        }
        assert_eq!(files(directory.path()), 3);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&directory.path().join("orders")), 0o700);
        assert_eq!(mode(&directory.path().join("orders").join(RECORD)), 0o600);
        store.forget("orders").unwrap();
        assert_eq!(store.handlers().unwrap(), Vec::<String>::new());
    }

    /// As after a kill between the files and the record.
    #[test]
    fn a_version_that_never_served_leaves_the_older_one_recorded() {
        let directory = tempfile::tempdir().unwrap();
        let store = LastServedStore::new(directory.path().to_owned());
        let first = put(&store, b"first", None);
        store.record_serving("orders", &first).unwrap();
        put(&store, b"second", None);
        fs::write(directory.path().join("orders/third.tmp"), "ha").unwrap();
        let again = LastServedStore::new(directory.path().to_owned());
        assert_eq!(last(&again), (b"first".to_vec(), None));
        let third = put(&again, b"third", None);
        again.record_serving("orders", &third).unwrap();
        assert_eq!(files(directory.path()), 2);
    }

    #[test]
    fn a_version_that_waits_to_serve_is_not_removed_with_the_old_ones() {
        let directory = tempfile::tempdir().unwrap();
        let store = LastServedStore::new(directory.path().to_owned());
        let first = put(&store, b"first", None);
        let second = put(&store, b"second", None);
        store.record_serving("orders", &first).unwrap();
        store.record_serving("orders", &second).unwrap();
        assert_eq!(last(&store).0, b"second");
    }

    /// A restart gave back the grants that the version which could not be stored had lost.
    #[test]
    fn a_version_before_one_that_could_not_be_stored_does_not_count() {
        let directory = tempfile::tempdir().unwrap();
        let store = LastServedStore::new(directory.path().to_owned());
        store.supersede("orders", None).unwrap();
        let first = put(&store, b"first", None);
        let second = put(&store, b"second", None);
        store.record_serving("orders", &first).unwrap();
        store.supersede("orders", Some(&first)).unwrap();
        assert_eq!(last(&store).0, b"first");
        store.supersede("orders", Some(&second)).unwrap();
        assert!(store.last_served("orders").unwrap().is_none());
        store.record_serving("orders", &second).unwrap();
        assert_eq!(last(&store).0, b"second");
    }

    /// A stored version that the machine could not read at the start was never tried again.
    #[test]
    fn a_file_that_can_not_be_read_may_be_readable_later_and_one_that_is_gone_or_damaged_may_not() {
        let directory = tempfile::tempdir().unwrap();
        let store = LastServedStore::new(directory.path().to_owned());
        let digests = put(&store, b"good", None);
        store.record_serving("orders", &digests).unwrap();
        let file = directory.path().join("orders").join(digest(b"good"));
        fs::write(&file, "evil").unwrap();
        assert!(!is_transient(&store.last_served("orders").unwrap_err()));
        fs::remove_file(&file).unwrap();
        assert!(!is_transient(&store.last_served("orders").unwrap_err()));
        let trouble = |is_transient| {
            let reason = "too many open files".to_owned();
            unusable(FileReadError::Trouble(FileTrouble { reason, is_transient }))
        };
        assert!(is_transient(&trouble(true)) && !is_transient(&trouble(false)));
        assert!(is_transient(&unusable(FileReadError::BeingWritten)));
    }

    #[test]
    fn a_damaged_file_is_not_used_and_is_written_anew() {
        let directory = tempfile::tempdir().unwrap();
        let store = LastServedStore::new(directory.path().to_owned());
        let digests = put(&store, b"good", None);
        store.record_serving("orders", &digests).unwrap();
        fs::write(directory.path().join("orders").join(digest(b"good")), "evil").unwrap();
        assert!(store.last_served("orders").is_err());
        put(&store, b"good", None);
        assert_eq!(last(&store).0, b"good");
    }
}
