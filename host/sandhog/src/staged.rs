//! Files that get into the plugin directory whole and together: they are written under hidden names, and renamed.
//!
//! Invariant: a file that is not put into place is removed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::plugin_dir::FileLook;

/// What the name of a hidden file has behind that of its handler, before 16 random digits.
const MARK: &str = ".staged-";
/// The age from which on a hidden file is one that a killed process has left: between its writing and its renaming are seconds.
const STALE: Duration = Duration::from_hours(1);

/// Files that are on disk under hidden names, which the host passes over.
#[derive(Debug)]
pub(crate) struct StagedFiles {
    directory: PathBuf,
    /// In the order in which they are put into place.
    files: Vec<StagedFile>,
}

#[derive(Debug)]
struct StagedFile {
    hidden: PathBuf,
    place: PathBuf,
}

/// The files of one handler.
#[derive(Debug)]
pub(crate) struct HandlerBytes {
    /// The name of the handler.
    pub(crate) name: String,
    /// The bytes of the component.
    pub(crate) wasm: Vec<u8>,
    /// The bytes of the manifest; `None` leaves the one that is there.
    pub(crate) manifest: Option<Vec<u8>>,
}

/// A file could not be written or put into place.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {file}")]
pub struct StagingError {
    file: PathBuf,
    #[source]
    source: io::Error,
}

/// The files that were in place before, each under a hidden name beside its own. They are removed at the end.
#[derive(Debug)]
pub(crate) struct EarlierFiles {
    directory: PathBuf,
    /// In the order in which the new ones got into place.
    files: Vec<EarlierFile>,
}

#[derive(Debug)]
struct EarlierFile {
    place: PathBuf,
    /// `None` if there was none.
    kept: Option<PathBuf>,
}

impl EarlierFiles {
    /// Puts the earlier files back, and removes those that had none before. Returns whether there were earlier ones.
    ///
    /// # Errors
    ///
    /// A file can't be replaced. What is in the directory is then a part of both.
    pub(crate) fn put_back(&mut self) -> Result<bool, StagingError> {
        let mut had_some = false;
        for EarlierFile { place, kept } in self.files.drain(..) {
            let put = match &kept {
                Some(kept) => fs::rename(kept, &place),
                None => fs::remove_file(&place),
            };
            had_some |= kept.is_some();
            put.map_err(|source| StagingError { file: place, source })?;
        }
        sync(&self.directory)?;
        Ok(had_some)
    }
}

impl Drop for EarlierFiles {
    fn drop(&mut self) {
        for kept in self.files.iter().filter_map(|file| file.kept.as_ref()) {
            // The host passes over what can't be removed.
            drop(fs::remove_file(kept));
        }
    }
}

impl StagedFiles {
    /// Keeps the files that are in the places of these, to put them back.
    ///
    /// # Errors
    ///
    /// A file that is there can't be linked or copied. Nothing has changed.
    pub(crate) fn keep_earlier(&self) -> Result<EarlierFiles, StagingError> {
        let mut earlier = EarlierFiles {
            directory: self.directory.clone(),
            files: Vec::new(),
        };
        for file in &self.files {
            let mut name = file.hidden.clone().into_os_string();
            name.push(".before");
            let kept = PathBuf::from(name);
            drop(fs::remove_file(&kept));
            // A link is the same file, which the host knows. Not every file system has links.
            let linked = fs::hard_link(&file.place, &kept).or_else(|error| {
                if error.kind() == io::ErrorKind::NotFound {
                    return Err(error);
                }
                fs::copy(&file.place, &kept).map(drop)
            });
            let kept = match linked {
                Ok(()) => Some(kept),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(source) => return Err(StagingError { file: kept, source }),
            };
            earlier.files.push(EarlierFile {
                place: file.place.clone(),
                kept,
            });
        }
        Ok(earlier)
    }

    /// Writes the files under hidden names, down to the disk. Removes those that a killed process has left an hour ago.
    pub(crate) fn write(directory: &Path, bytes: &HandlerBytes) -> Result<Self, StagingError> {
        remove_stale(directory, &bytes.name);
        let mut staged = Self {
            directory: directory.to_owned(),
            files: Vec::new(),
        };
        // Not the number of the process: two in containers of their own, with one directory, can have the same.
        let drawn = rand::random::<u64>();
        // The manifest comes first. If the machine stops between the two, the component that was there runs with the new grants,
        // and not a new component with the old ones.
        let manifest = bytes.manifest.as_deref().map(|manifest| ("toml", manifest));
        for (extension, bytes_of_file) in manifest.into_iter().chain([("wasm", bytes.wasm.as_slice())]) {
            let name = &bytes.name;
            let hidden = directory.join(format!(".{name}{MARK}{drawn:016x}.{extension}"));
            // It is removed even if it can't be written to its end.
            staged.files.push(StagedFile {
                hidden: hidden.clone(),
                place: directory.join(format!("{name}.{extension}")),
            });
            write_new(&hidden, bytes_of_file).map_err(|source| StagingError { file: hidden, source })?;
        }
        Ok(staged)
    }

    /// Renames the files, one right after the other. The host takes files that are renamed within 100 ms together.
    pub(crate) fn put_into_place(self) -> Result<(), StagingError> {
        self.rename()?.sync()
    }

    /// As [`StagedFiles::put_into_place`], without waiting until the names are on the disk.
    ///
    /// # Errors
    ///
    /// A file can't be renamed.
    pub(crate) fn rename(mut self) -> Result<RenamedFiles, StagingError> {
        while let Some(file) = self.files.first() {
            fs::rename(&file.hidden, &file.place).map_err(|source| StagingError {
                file: file.place.clone(),
                source,
            })?;
            self.files.remove(0);
        }
        Ok(RenamedFiles {
            directory: self.directory.clone(),
        })
    }
}

/// Files that have their names, which may not be on the disk yet.
#[derive(Debug)]
#[must_use]
pub(crate) struct RenamedFiles {
    directory: PathBuf,
}

impl RenamedFiles {
    /// Waits until the names are on the disk.
    ///
    /// # Errors
    ///
    /// The names may be gone after a loss of power. Until then the files are in place.
    pub(crate) fn sync(self) -> Result<(), StagingError> {
        sync(&self.directory)
    }
}

/// Removes the hidden files of a handler that a killed process has left.
#[expect(clippy::disallowed_methods, reason = "the age of a file is a time of the wall clock")]
fn remove_stale(directory: &Path, handler: &str) {
    // The directory may be one that can't be listed: then they stay, and the host passes over them.
    let Ok(entries) = fs::read_dir(directory) else { return };
    let now = SystemTime::now();
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        let is_ours = name.to_str().is_some_and(|name| is_staged(name, handler));
        if !is_ours || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        if let Some(FileLook::File(stamp)) = FileLook::at(&entry.path())
            && stamp.unchanged_for(now) >= STALE
        {
            drop(fs::remove_file(entry.path()));
        }
    }
}

/// Returns whether the name is that of a file of this handler before it gets into place. Not one of an earlier file, which stays for as
/// long as a deploy waits.
fn is_staged(name: &str, handler: &str) -> bool {
    let rest = name.strip_prefix('.').and_then(|rest| rest.strip_prefix(handler));
    let drawn = rest
        .and_then(|rest| rest.strip_prefix(MARK))
        .and_then(|rest| rest.strip_suffix(".wasm").or_else(|| rest.strip_suffix(".toml")));
    drawn
        .is_some_and(|drawn| drawn.len() == 16 && drawn.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')))
}

fn sync(directory: &Path) -> Result<(), StagingError> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|source| StagingError {
        file: directory.to_owned(),
        source,
    })
}

impl Drop for StagedFiles {
    fn drop(&mut self) {
        for file in &self.files {
            // There is nothing more to do for a file that can't be removed: the host passes it over.
            drop(fs::remove_file(&file.hidden));
        }
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn bytes(manifest: Option<&str>) -> HandlerBytes {
        HandlerBytes {
            name: "orders".to_owned(),
            wasm: b"new".to_vec(),
            manifest: manifest.map(|text| text.as_bytes().to_vec()),
        }
    }

    #[test]
    fn files_get_into_place_under_their_names_and_nothing_else_stays() {
        let plugins = tempfile::tempdir().unwrap();
        fs::write(plugins.path().join("orders.wasm"), "old").unwrap();
        fs::write(plugins.path().join("orders.toml"), "old").unwrap();
        let staged = StagedFiles::write(plugins.path(), &bytes(Some("new"))).unwrap();
        assert_eq!(fs::read(plugins.path().join("orders.wasm")).unwrap(), b"old");
        let hidden = names(plugins.path()).into_iter().filter(|name| name.starts_with('.'));
        assert_eq!(hidden.count(), 2);
        staged.put_into_place().unwrap();
        assert_eq!(names(plugins.path()), ["orders.toml", "orders.wasm"]);
        for file in ["orders.wasm", "orders.toml"] {
            assert_eq!(fs::read(plugins.path().join(file)).unwrap(), b"new", "{file}");
        }
        StagedFiles::write(plugins.path(), &bytes(None))
            .unwrap()
            .put_into_place()
            .unwrap();
        assert_eq!(names(plugins.path()), ["orders.toml", "orders.wasm"]);
    }

    #[test]
    fn files_that_are_refused_make_room_for_the_earlier_ones() {
        let plugins = tempfile::tempdir().unwrap();
        let deploy = || {
            let staged = StagedFiles::write(plugins.path(), &bytes(Some("new"))).unwrap();
            let earlier = staged.keep_earlier().unwrap();
            staged.put_into_place().unwrap();
            assert_eq!(fs::read(plugins.path().join("orders.wasm")).unwrap(), b"new");
            earlier
        };
        assert!(!deploy().put_back().unwrap());
        assert!(names(plugins.path()).is_empty());
        fs::write(plugins.path().join("orders.wasm"), "old").unwrap();
        assert!(deploy().put_back().unwrap());
        assert_eq!(names(plugins.path()), ["orders.wasm"]);
        assert_eq!(fs::read(plugins.path().join("orders.wasm")).unwrap(), b"old");
        // A deploy that is not refused leaves nothing of the earlier ones.
        drop(deploy());
        assert_eq!(names(plugins.path()), ["orders.toml", "orders.wasm"]);
        assert_eq!(fs::read(plugins.path().join("orders.wasm")).unwrap(), b"new");
    }

    /// Two containers with one plugin directory may have one number of a process.
    #[test]
    fn two_deploys_of_one_process_number_leave_the_files_of_each_other_alone() {
        let plugins = tempfile::tempdir().unwrap();
        let one = StagedFiles::write(plugins.path(), &bytes(None)).unwrap();
        let other = StagedFiles::write(plugins.path(), &bytes(None)).unwrap();
        assert_eq!(names(plugins.path()).len(), 2);
        drop(other);
        one.put_into_place().unwrap();
        assert_eq!(names(plugins.path()), ["orders.wasm"]);
    }

    #[test]
    fn only_what_a_killed_deploy_of_the_handler_has_left_is_removed() {
        let drawn = "0123456789abcdef";
        for extension in ["wasm", "toml"] {
            assert!(is_staged(&format!(".orders{MARK}{drawn}.{extension}"), "orders"));
        }
        for name in [
            format!("orders{MARK}{drawn}.wasm"),
            format!(".order{MARK}{drawn}.wasm"),
            format!(".orders.eu{MARK}{drawn}.wasm"),
            format!(".orders{MARK}{drawn}.wasm.before"),
            format!(".orders{MARK}{drawn}0.wasm"),
            format!(".orders{MARK}{}.wasm", drawn.to_uppercase()),
            ".orders.wasm".to_owned(),
            ".orders.1.wasm".to_owned(),
        ] {
            assert!(!is_staged(&name, "orders"), "{name}");
        }
        // One that another process writes now stays.
        let plugins = tempfile::tempdir().unwrap();
        let fresh = plugins.path().join(format!(".orders{MARK}{drawn}.wasm"));
        fs::write(&fresh, "x").unwrap();
        drop(StagedFiles::write(plugins.path(), &bytes(None)).unwrap());
        assert!(fresh.exists());
    }

    #[test]
    fn files_are_in_place_before_their_names_are_on_the_disk() {
        let aside = tempfile::tempdir().unwrap();
        let plugins = aside.path().join("plugins");
        fs::create_dir(&plugins).unwrap();
        let renamed = StagedFiles::write(&plugins, &bytes(None)).unwrap().rename().unwrap();
        assert_eq!(names(&plugins), ["orders.wasm"]);
        fs::rename(&plugins, aside.path().join("elsewhere")).unwrap();
        renamed.sync().unwrap_err();
        assert_eq!(names(&aside.path().join("elsewhere")), ["orders.wasm"]);
    }

    #[test]
    fn a_deploy_that_is_given_up_leaves_nothing_behind() {
        let plugins = tempfile::tempdir().unwrap();
        drop(StagedFiles::write(plugins.path(), &bytes(Some("new"))).unwrap());
        assert!(names(plugins.path()).is_empty());
        // A directory is in the way of the component, so that only the manifest gets into place.
        fs::create_dir(plugins.path().join("orders.wasm")).unwrap();
        let staged = StagedFiles::write(plugins.path(), &bytes(Some("new"))).unwrap();
        let error = staged.put_into_place().unwrap_err();
        assert!(error.to_string().ends_with("orders.wasm"), "{error}");
        assert_eq!(names(plugins.path()), ["orders.toml", "orders.wasm"]);
    }
}
