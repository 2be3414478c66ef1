//! A copy of the histories and of the files that they name, while the host records and removes some.
//!
//! Invariant: a history in the copy names no file that the copy lacks, unless the host itself lacked it. Knows nothing of backups.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::Path,
};

use super::{
    history::VersionHistory,
    record::VersionDigests,
    store::{HISTORY, LAST_SERVED, UNRECORDED, VersionStore},
};

/// How often a history may change while it is copied.
const ATTEMPTS: usize = 20;

/// A history as it lies on the disk.
#[derive(PartialEq, Eq)]
struct HistoryFile {
    name: &'static str,
    bytes: Vec<u8>,
}

/// Copies the histories below `root`, and the files that they name, to the directory `to`, which is made. Blocks on the disk.
///
/// # Errors
///
/// The error of the disk, or a history that has changed again and again.
pub fn copy_versions(root: &Path, to: &Path) -> io::Result<()> {
    let private = |path: &Path| DirBuilder::new().recursive(true).mode(0o700).create(path);
    private(to)?;
    for handler in VersionStore::new(root.to_owned()).handlers()? {
        let (from, to) = (root.join(&handler), to.join(&handler));
        private(&to)?;
        let mut attempts = 0..ATTEMPTS;
        while !copy_handler(&from, &to)? {
            if attempts.next().is_none() {
                return Err(io::Error::other(format!(
                    "the history of {handler} does not stand still: try again"
                )));
            }
        }
    }
    Ok(())
}

/// Copies one history with its files. Returns whether all of them were there, or the history still is the one that was read.
fn copy_handler(from: &Path, to: &Path) -> io::Result<bool> {
    let Some(history) = read(from)? else { return Ok(true) };
    let mut is_whole = true;
    for name in history.file_names() {
        match link(&from.join(&name), &to.join(&name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => is_whole = false,
            linked => linked?,
        }
    }
    let is_last = is_whole || read(from)?.is_some_and(|now| now == history);
    if is_last {
        fs::write(to.join(history.name), &history.bytes)?;
    }
    Ok(is_last)
}

/// The files never change under their names, so a second name is a copy. A file system without links gets one.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error),
        Err(_) => fs::copy(from, to).map(drop),
        Ok(()) => Ok(()),
    }
}

fn read(handler: &Path) -> io::Result<Option<HistoryFile>> {
    for name in [HISTORY, UNRECORDED, LAST_SERVED] {
        match fs::read(handler.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            bytes => return Ok(Some(HistoryFile { name, bytes: bytes? })),
        }
    }
    Ok(None)
}

impl HistoryFile {
    /// Returns the names of the files; none if the history is damaged, which the host finds out when it reads it.
    fn file_names(&self) -> Vec<String> {
        let names = |digests: &VersionDigests| digests.names().map(str::to_owned).collect::<Vec<_>>();
        let digests: Vec<VersionDigests> = if self.name == LAST_SERVED {
            serde_json::from_slice(&self.bytes).into_iter().collect()
        } else {
            let history = serde_json::from_slice::<VersionHistory>(&self.bytes).unwrap_or_default();
            history
                .versions()
                .iter()
                .map(|version| version.digests.clone())
                .collect()
        };
        digests
            .iter()
            .filter(|digests| digests.are_digests())
            .flat_map(names)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::versions::StoredComponent;
    use sandhog_executor::digest;

    #[test]
    fn a_history_that_changes_while_it_is_copied_names_only_files_that_are_copied() {
        let (root, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = VersionStore::new(root.path().to_owned());
        let deploy = |history: &mut VersionHistory, wasm: &[u8]| {
            let component = StoredComponent {
                wasm,
                digest: &digest(wasm),
            };
            let digests = store.store("orders", component, Some("timeout = 5")).unwrap();
            let number = history.accept(digests, "orders.wasm", 5);
            let predecessor = history.serving().map(|version| version.number);
            assert!(history.begin(number, predecessor, 5));
            history.keep(2);
            store.record("orders", history).unwrap();
            store.remove_unneeded("orders", history).unwrap();
        };
        let mut history = VersionHistory::default();
        deploy(&mut history, &[0]);
        std::thread::scope(|scope| {
            let changing = scope.spawn(|| (1..200_u8).for_each(|number| deploy(&mut history, &[number])));
            let mut copies = 0;
            while !changing.is_finished() || copies == 0 {
                let copy = to.path().join(copies.to_string());
                copy_versions(root.path(), &copy).unwrap();
                let store_of_copy = VersionStore::new(copy);
                let found = store_of_copy.history("orders").unwrap();
                assert!(found.damage.is_none() && !found.history.versions().is_empty());
                for version in found.history.versions() {
                    store_of_copy.files("orders", version).unwrap();
                }
                copies += 1;
            }
        });
    }

    #[test]
    fn a_file_that_the_host_lacks_keeps_no_history_from_being_copied() {
        let (root, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let handler = root.path().join("orders");
        fs::create_dir(&handler).unwrap();
        let text = serde_json::json!({ "component": digest(b"gone"), "manifest": null }).to_string();
        fs::write(handler.join(LAST_SERVED), &text).unwrap();
        copy_versions(root.path(), to.path()).unwrap();
        assert_eq!(
            fs::read_to_string(to.path().join("orders").join(LAST_SERVED)).unwrap(),
            text
        );
        copy_versions(&root.path().join("nowhere"), to.path()).unwrap();
    }
}
