//! Keeps the component and the manifest that each handler served last, so that a restart never makes things worse.
//!
//! Every handler has a directory of its own name with files named by their digests, and a record of which of them served
//! last. Invariant: a record names only files that are on disk, and a file is used only if it has its digest, so a kill at any
//! moment leaves what was kept before. Knows nothing of what a component is.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    executor::{MAX_WASM_BYTES, digest},
    plugin_dir::{FileReadError, FileTrouble, read},
};

/// The file that says what served last.
const RECORD: &str = "last.json";
/// The end of the name of a file that is not finished.
const UNFINISHED: &str = ".tmp";
/// The largest file that is no component, in bytes.
const MAX_SMALL_BYTES: usize = 1024 * 1024;
/// What a file must leave free on the disk, in bytes (64 MiB): the queues need it more.
const MIN_FREE_BYTES: u64 = 64 * 1024 * 1024;

/// A component and its manifest, by their digests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionDigests {
    component: String,
    /// `None`: there was no manifest.
    manifest: Option<String>,
}

/// What served last.
#[derive(Debug)]
pub struct LastServedFiles {
    /// Where the component is.
    pub file: PathBuf,
    /// Its bytes.
    pub wasm: Bytes,
    /// Their digest.
    pub digest: String,
    /// The manifest's text.
    pub manifest: Option<String>,
}

/// The directory of all that is kept. Every call blocks on the disk.
#[derive(Debug)]
pub struct LastServedStore {
    root: PathBuf,
    /// What was put for each handler and does not serve yet, so that it is not taken for what nobody needs. Held while
    /// something is put or removed, and never while the disk is waited for.
    put: Mutex<BTreeMap<String, VersionDigests>>,
}

impl LastServedStore {
    /// Nothing is opened or made yet.
    pub fn new(root: PathBuf) -> Self {
        let put = Mutex::default();
        Self { root, put }
    }

    /// Puts the files of a handler there. They are on disk, and take the place of what served last, only with [`LastServedStore::serves`]:
    /// a disk that is busy must not hold a deploy up.
    ///
    /// # Errors
    ///
    /// The disk's. What was kept before still is.
    pub fn put(
        &self,
        handler: &str,
        (wasm, digest_of_wasm): (&[u8], &str),
        manifest: Option<&str>,
    ) -> io::Result<VersionDigests> {
        let mut put = self.lock();
        let directory = self.root.join(handler);
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        let pair = VersionDigests {
            component: digest_of_wasm.to_owned(),
            manifest: manifest.map(|text| digest(text.as_bytes())),
        };
        write_new(&directory, &pair.component, wasm)?;
        if let (Some(name), Some(text)) = (&pair.manifest, manifest) {
            write_new(&directory, name, text.as_bytes())?;
        }
        put.insert(handler.to_owned(), pair.clone());
        Ok(pair)
    }

    /// Records that a handler serves these files, and removes its older ones.
    ///
    /// # Errors
    ///
    /// The disk's, or the files are not there any more. What was kept before still is.
    pub fn serves(&self, handler: &str, pair: &VersionDigests) -> io::Result<()> {
        let directory = self.root.join(handler);
        for name in pair.names() {
            File::open(directory.join(name))?.sync_all()?;
        }
        File::open(&directory)?.sync_all()?;
        // One that can't be read is written anew.
        if self.record(handler).ok().flatten().as_ref() != Some(pair) {
            write(&directory, RECORD, &serde_json::to_vec(pair)?)?;
            File::open(&directory)?.sync_all()?;
        }
        let mut put = self.lock();
        put.retain(|other, waits| other != handler || waits != pair);
        let waits = put.get(handler).cloned();
        let needed = |name: &str| {
            name == RECORD
                || [Some(pair), waits.as_ref()]
                    .into_iter()
                    .flatten()
                    .any(|pair| pair.names().any(|needed| needed == name))
        };
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if !entry.file_name().to_str().is_some_and(needed) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// What a handler served last, if it is there and is what was kept.
    ///
    /// # Errors
    ///
    /// It can't be read, or is damaged.
    pub fn last(&self, handler: &str) -> io::Result<Option<LastServedFiles>> {
        let Some(pair) = self.record(handler)? else {
            return Ok(None);
        };
        let directory = self.root.join(handler);
        let file = directory.join(&pair.component);
        let wasm = verified(&file, &pair.component, MAX_WASM_BYTES)?;
        let manifest = match &pair.manifest {
            Some(name) => Some(verified(&directory.join(name), name, MAX_SMALL_BYTES)?),
            None => None,
        };
        let manifest = manifest.map(String::from_utf8).transpose().map_err(io::Error::other)?;
        Ok(Some(LastServedFiles {
            file,
            wasm: wasm.into(),
            digest: pair.component,
            manifest,
        }))
    }

    /// Makes nothing count as what served last, unless `pair` does: what serves could not be kept, and the version before it
    /// may have grants that were taken away.
    ///
    /// # Errors
    ///
    /// The disk's. What was kept before may still be.
    pub fn supersede(&self, handler: &str, pair: Option<&VersionDigests>) -> io::Result<()> {
        if pair.is_some() && self.record(handler).ok().flatten().as_ref() == pair {
            return Ok(());
        }
        let directory = self.root.join(handler);
        match fs::remove_file(directory.join(RECORD)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => File::open(&directory)?.sync_all(),
        }
    }

    /// Removes all that is kept of a handler.
    ///
    /// # Errors
    ///
    /// The disk's.
    pub fn forget(&self, handler: &str) -> io::Result<()> {
        let mut put = self.lock();
        put.remove(handler);
        match fs::remove_dir_all(self.root.join(handler)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Of which handlers something is kept.
    ///
    /// # Errors
    ///
    /// The disk's.
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
                let pair: VersionDigests = serde_json::from_slice(&content.bytes)?;
                // Names become paths.
                let is_digest = |name: &str| name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
                if pair.names().all(is_digest) {
                    Ok(Some(pair))
                } else {
                    Err(io::Error::other("its record is damaged"))
                }
            }
            Err(FileReadError::Gone) => Ok(None),
            Err(unread) => Err(unusable(unread)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, VersionDigests>> {
        // Every change is one assignment, so a panic elsewhere leaves nothing half done.
        self.put.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Whether what [`LastServedStore::last`] could not read may be readable another time. What is gone or damaged is not.
pub fn may_pass(error: &io::Error) -> bool {
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

/// A file of the same name holds the same bytes, unless it is damaged.
fn write_new(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    if verified(&directory.join(name), name, bytes.len()).is_ok() {
        return Ok(());
    }
    write(directory, name, bytes)
}

/// Under its name only once it is there as a whole.
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
            // It replaces one: otherwise a power loss could leave the name with nothing behind it.
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

    fn put(kept: &LastServedStore, wasm: &[u8], manifest: Option<&str>) -> VersionDigests {
        kept.put("orders", (wasm, &digest(wasm)), manifest).unwrap()
    }

    fn files(directory: &Path) -> usize {
        fs::read_dir(directory.join("orders")).unwrap().count()
    }

    fn last(kept: &LastServedStore) -> (Vec<u8>, Option<String>) {
        let files = kept.last("orders").unwrap().unwrap();
        (files.wasm.to_vec(), files.manifest)
    }

    #[test]
    fn what_served_last_is_kept_and_nothing_older() {
        let directory = tempfile::tempdir().unwrap();
        let kept = LastServedStore::new(directory.path().to_owned());
        assert!(kept.last("orders").unwrap().is_none());
        for number in 0..5_u8 {
            let pair = put(&kept, &[number], Some("queue = \"x\""));
            kept.serves("orders", &pair).unwrap();
            assert_eq!(last(&kept), (vec![number], Some("queue = \"x\"".to_owned())));
        }
        assert_eq!(files(directory.path()), 3);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&directory.path().join("orders")), 0o700);
        assert_eq!(mode(&directory.path().join("orders").join(RECORD)), 0o600);
        kept.forget("orders").unwrap();
        assert_eq!(kept.handlers().unwrap(), Vec::<String>::new());
    }

    /// As after a kill between the files and the record.
    #[test]
    fn what_was_put_and_never_served_leaves_the_older_one_kept() {
        let directory = tempfile::tempdir().unwrap();
        let kept = LastServedStore::new(directory.path().to_owned());
        let first = put(&kept, b"first", None);
        kept.serves("orders", &first).unwrap();
        put(&kept, b"second", None);
        fs::write(directory.path().join("orders/third.tmp"), "ha").unwrap();
        let again = LastServedStore::new(directory.path().to_owned());
        assert_eq!(last(&again), (b"first".to_vec(), None));
        let third = put(&again, b"third", None);
        again.serves("orders", &third).unwrap();
        assert_eq!(files(directory.path()), 2);
    }

    #[test]
    fn what_waits_to_serve_is_not_removed_with_what_is_old() {
        let directory = tempfile::tempdir().unwrap();
        let kept = LastServedStore::new(directory.path().to_owned());
        let (first, second) = (put(&kept, b"first", None), put(&kept, b"second", None));
        kept.serves("orders", &first).unwrap();
        kept.serves("orders", &second).unwrap();
        assert_eq!(last(&kept).0, b"second");
    }

    /// A restart gave back the grants that the version which could not be kept had lost.
    #[test]
    fn what_is_older_than_a_version_that_could_not_be_kept_does_not_count() {
        let directory = tempfile::tempdir().unwrap();
        let kept = LastServedStore::new(directory.path().to_owned());
        kept.supersede("orders", None).unwrap();
        let (first, second) = (put(&kept, b"first", None), put(&kept, b"second", None));
        kept.serves("orders", &first).unwrap();
        kept.supersede("orders", Some(&first)).unwrap();
        assert_eq!(last(&kept).0, b"first");
        kept.supersede("orders", Some(&second)).unwrap();
        assert!(kept.last("orders").unwrap().is_none());
        kept.serves("orders", &second).unwrap();
        assert_eq!(last(&kept).0, b"second");
    }

    /// A kept version that the machine could not read at the start was never tried again.
    #[test]
    fn what_can_not_be_read_now_may_be_readable_later_and_what_is_gone_or_damaged_may_not() {
        let directory = tempfile::tempdir().unwrap();
        let kept = LastServedStore::new(directory.path().to_owned());
        let pair = put(&kept, b"good", None);
        kept.serves("orders", &pair).unwrap();
        let file = directory.path().join("orders").join(digest(b"good"));
        fs::write(&file, "evil").unwrap();
        assert!(!may_pass(&kept.last("orders").unwrap_err()));
        fs::remove_file(&file).unwrap();
        assert!(!may_pass(&kept.last("orders").unwrap_err()));
        let trouble = |is_transient| {
            let reason = "too many open files".to_owned();
            unusable(FileReadError::Trouble(FileTrouble { reason, is_transient }))
        };
        assert!(may_pass(&trouble(true)) && !may_pass(&trouble(false)));
        assert!(may_pass(&unusable(FileReadError::BeingWritten)));
    }

    #[test]
    fn what_is_damaged_is_not_used_and_is_written_anew() {
        let directory = tempfile::tempdir().unwrap();
        let kept = LastServedStore::new(directory.path().to_owned());
        let pair = put(&kept, b"good", None);
        kept.serves("orders", &pair).unwrap();
        fs::write(directory.path().join("orders").join(digest(b"good")), "evil").unwrap();
        assert!(kept.last("orders").is_err());
        put(&kept, b"good", None);
        assert_eq!(last(&kept).0, b"good");
    }
}
