//! The plugin directory: the names of the handlers in it, and the bytes of their files. Never parses, never compiles.
//!
//! Invariant: an entry that can't be used affects its own name only. Knows nothing of what runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use sandhog_executor::digest;

mod entry;

pub use entry::{FileContent, FileLook, FileReadError, FileStamp, FileTrouble, FileWriter, read};

/// The looks at the files of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandlerStamps {
    /// The look at `NAME.wasm`; `None` if the name has only a manifest.
    pub wasm: Option<FileLook>,
    /// The look at `NAME.toml`, if the name has one.
    pub manifest: Option<FileLook>,
}

impl HandlerStamps {
    /// Returns how long no file of the name has changed, by the clocks of the file system and of `now`; zero if the clocks do not
    /// agree.
    pub fn unchanged_for(&self, now: SystemTime) -> Duration {
        let files = [self.wasm.as_ref(), self.manifest.as_ref()];
        let ages = files.into_iter().flatten().filter_map(|look| match look {
            FileLook::File(stamp) => Some(stamp.unchanged_for(now)),
            FileLook::Trouble(_) => None,
        });
        ages.min().unwrap_or_default()
    }
}

/// The largest manifest, in bytes.
pub const MAX_MANIFEST_BYTES: usize = 256 * 1024;
/// The most entries that a scan lists as passed over.
const MAX_PASSED_OVER: usize = 32;
/// The name of the host's own configuration, which often lies beside the components.
pub const HOST_CONFIGURATION: &str = "sandhog";

/// A directory of handlers. A handler is a file `NAME.wasm`, with a manifest `NAME.toml` beside it or none.
#[derive(Debug, Clone)]
pub struct PluginDir {
    path: PathBuf,
    /// The directory that paths in manifests are relative to.
    base: PathBuf,
}

/// The entries of the directory at one time.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct DirectoryScan {
    /// The handlers, by name.
    pub handlers: BTreeMap<String, HandlerStamps>,
    /// The entries that look like a handler and are none, for people; at most 32.
    pub passed_over: BTreeSet<String>,
}

/// The file of a component, as it was read.
#[derive(Debug)]
pub struct WasmFile {
    /// The bytes of the file.
    pub bytes: Vec<u8>,
    /// The digest of the bytes.
    pub digest: String,
    /// The writers of the file, when it was read.
    pub writer: FileWriter,
}

impl PluginDir {
    /// Returns the directory at `path`, which need not exist yet.
    pub fn new(path: PathBuf) -> Self {
        Self {
            base: path.clone(),
            path,
        }
    }

    /// The same, with manifests whose paths are relative to `base`.
    #[must_use]
    pub fn with_base(self, base: PathBuf) -> Self {
        Self { base, ..self }
    }

    /// Returns the path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the directory that paths in manifests are relative to.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// Returns the path of a handler's component.
    pub fn wasm(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.wasm"))
    }

    /// Returns the path of a handler's manifest, if the handler has one.
    pub fn manifest(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.toml"))
    }

    /// Lists the directory as it is now. Hidden files (editors', and those of a copy under way) are left out. A scan costs a look
    /// at each file of a handler, and a comparison for every other file.
    ///
    /// # Errors
    ///
    /// The directory itself can't be read. Then no entry of it is known.
    pub fn scan(&self) -> io::Result<DirectoryScan> {
        let mut scan = DirectoryScan::default();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let file_name = entry.file_name();
            if is_hidden(&file_name) {
                continue;
            }
            match extension(&file_name) {
                Some(Extension::Wasm) => self.found_wasm(&mut scan, &file_name),
                Some(Extension::Manifest) => self.found_manifest(&mut scan, &file_name),
                Some(Extension::WrongCase) => {
                    let why = "its extension is not in lower case";
                    scan.pass_over(&file_name, why);
                }
                None if entry.file_type().is_ok_and(|kind| kind.is_dir()) => {
                    scan.pass_over(&file_name, "folders are not looked into");
                }
                None => {}
            }
        }
        Ok(scan)
    }

    fn found_wasm(&self, scan: &mut DirectoryScan, file_name: &OsStr) {
        let path = self.path.join(file_name);
        let Some(stem) = path.file_stem() else { return };
        let Some(name) = stem.to_str() else {
            let trouble = FileTrouble {
                reason: "its name is not UTF-8".to_owned(),
                is_transient: false,
            };
            let stamps = HandlerStamps {
                wasm: Some(FileLook::Trouble(trouble)),
                manifest: None,
            };
            scan.handlers.insert(escaped(stem), stamps);
            return;
        };
        // The file is gone since the directory was listed.
        let Some(look) = FileLook::at(&path) else { return };
        let stamps = HandlerStamps {
            wasm: Some(look),
            manifest: FileLook::at(&self.manifest(name)),
        };
        scan.handlers.insert(name.to_owned(), stamps);
    }

    fn found_manifest(&self, scan: &mut DirectoryScan, file_name: &OsStr) {
        let path = self.path.join(file_name);
        let Some(name) = path.file_stem().and_then(OsStr::to_str) else {
            scan.pass_over(file_name, "its name is not UTF-8");
            return;
        };
        if name == HOST_CONFIGURATION || scan.handlers.contains_key(name) {
            return;
        }
        let manifest = FileLook::at(&path);
        if manifest.is_some() {
            let stamps = HandlerStamps { wasm: None, manifest };
            scan.handlers.insert(name.to_owned(), stamps);
        }
    }

    /// Reads a handler's manifest, with whether another process was writing it; `None` if the handler has no manifest.
    ///
    /// # Errors
    ///
    /// See [`FileReadError`].
    pub fn read_manifest(&self, name: &str) -> Result<Option<(String, FileWriter)>, FileReadError> {
        match read(&self.manifest(name), MAX_MANIFEST_BYTES) {
            Ok(FileContent { bytes, writer }) => match String::from_utf8(bytes) {
                Ok(text) => Ok(Some((text, writer))),
                Err(_) => Err(FileReadError::Trouble(FileTrouble {
                    reason: "it is not UTF-8".to_owned(),
                    is_transient: false,
                })),
            },
            Err(FileReadError::Gone) => Ok(None),
            Err(unread) => Err(unread),
        }
    }

    /// Reads a handler's component.
    ///
    /// # Errors
    ///
    /// See [`FileReadError`]. A file of more than `max_bytes` is refused.
    pub fn read_wasm(&self, name: &str, max_bytes: usize) -> Result<WasmFile, FileReadError> {
        let FileContent { bytes, writer } = read(&self.wasm(name), max_bytes)?;
        let digest = digest(&bytes);
        Ok(WasmFile { bytes, digest, writer })
    }

    /// Looks at the files of one name.
    pub fn look(&self, name: &str) -> HandlerStamps {
        HandlerStamps {
            wasm: FileLook::at(&self.wasm(name)),
            manifest: FileLook::at(&self.manifest(name)),
        }
    }
}

impl DirectoryScan {
    fn pass_over(&mut self, file_name: &OsStr, why: &str) {
        if self.passed_over.len() < MAX_PASSED_OVER {
            self.passed_over.insert(format!("{}: {why}", escaped(file_name)));
        }
    }
}

enum Extension {
    Wasm,
    Manifest,
    WrongCase,
}

/// Returns whether the name is hidden: of an editor, or of a copy under way.
pub(crate) fn is_hidden(file_name: &OsStr) -> bool {
    file_name.as_encoded_bytes().starts_with(b".")
}

fn extension(file_name: &OsStr) -> Option<Extension> {
    let extension = Path::new(file_name).extension()?;
    match extension.as_encoded_bytes() {
        b"wasm" => Some(Extension::Wasm),
        b"toml" => Some(Extension::Manifest),
        other if other.eq_ignore_ascii_case(b"wasm") || other.eq_ignore_ascii_case(b"toml") => {
            Some(Extension::WrongCase)
        }
        _ => None,
    }
}

/// Returns a name, which may hold any bytes, in a form for people.
fn escaped(name: &OsStr) -> String {
    match name.to_str() {
        Some(text) => text.escape_debug().to_string(),
        None => name.as_encoded_bytes().escape_ascii().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::{ffi::OsStrExt as _, fs::symlink};

    use super::*;

    /// An entry that could not be looked at voided the whole scan, so that no handler was loaded or removed.
    #[test]
    fn an_entry_that_cannot_be_used_costs_its_own_name_only() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in [
            "good.wasm",
            "good.toml",
            "alone.toml",
            "sandhog.toml",
            ".hidden.wasm",
            "other.json",
        ] {
            fs::write(at(name), "x").unwrap();
        }
        symlink("loop.wasm", at("loop.wasm")).unwrap();
        symlink("/etc/passwd/x", at("through.wasm")).unwrap();
        fs::create_dir(at("folder.wasm")).unwrap();
        fs::create_dir(at("subfolder")).unwrap();
        fs::write(at("UPPER.WASM"), "x").unwrap();
        fs::write(directory.path().join(OsStr::from_bytes(b"\xff.wasm")), "x").unwrap();
        let scan = PluginDir::new(directory.path().to_owned()).scan().unwrap();
        let is_file = |look: &Option<FileLook>| matches!(look, Some(FileLook::File(_)));
        let found: Vec<_> = scan
            .handlers
            .iter()
            .map(|(name, stamps)| (name.as_str(), is_file(&stamps.wasm), is_file(&stamps.manifest)))
            .collect();
        let expected = [
            ("\\xff", false, false),
            ("alone", false, true),
            ("folder", false, false),
            ("good", true, true),
            ("loop", false, false),
            ("through", false, false),
        ];
        assert_eq!(found, expected);
        let passed_over: Vec<_> = scan.passed_over.into_iter().collect();
        assert_eq!(
            passed_over,
            [
                "UPPER.WASM: its extension is not in lower case",
                "subfolder: folders are not looked into"
            ]
        );
    }

    #[test]
    fn a_manifest_that_is_not_utf8_is_refused_for_good() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("x.toml"), [0xff]).unwrap();
        let unread = PluginDir::new(directory.path().to_owned())
            .read_manifest("x")
            .unwrap_err();
        assert!(
            matches!(
                unread,
                FileReadError::Trouble(FileTrouble {
                    is_transient: false,
                    ..
                })
            ),
            "{unread:?}"
        );
    }

    /// A manifest that is being written counts, however old the component is.
    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "the stamps of files are times of the wall clock"
    )]
    fn a_handler_has_not_changed_for_as_long_as_the_newest_of_its_files() {
        let directory = tempfile::tempdir().unwrap();
        let plugins = PluginDir::new(directory.path().to_owned());
        fs::write(plugins.wasm("a"), "x").unwrap();
        let mut stamps = plugins.look("a");
        let now = SystemTime::now();
        let hour = Duration::from_hours(1);
        assert_eq!(stamps.unchanged_for(now), Duration::ZERO);
        assert!(stamps.unchanged_for(now + hour) > hour / 2);
        // A clock that is behind tells nothing.
        assert_eq!(stamps.unchanged_for(now - hour), Duration::ZERO);
        (stamps.wasm, stamps.manifest) = (None, stamps.wasm);
        assert!(stamps.unchanged_for(now + hour) > hour / 2);
        stamps.manifest = None;
        assert_eq!(stamps.unchanged_for(now + hour), Duration::ZERO);
    }
}
