//! What lies in the plugin directory: which handlers, and which bytes of theirs. Reads names and file attributes;
//! never parses, never compiles.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Tells one state of a file from another without reading it. Follows symbolic links, so a link that is swapped
/// changes the stamp of every file behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// The stamp of the file at `path` as it is now.
    ///
    /// # Errors
    ///
    /// The file is not there, is not a regular file, or cannot be looked at.
    pub fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

/// The files of one handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamps {
    /// Of `NAME.wasm`.
    pub wasm: Stamp,
    /// Of `NAME.toml`, if it is there.
    pub manifest: Option<Stamp>,
}

/// A directory of handlers: `NAME.wasm`, and `NAME.toml` beside it if need be.
#[derive(Debug, Clone)]
pub struct PluginDir(PathBuf);

/// Everything about one handler that is read at once.
#[derive(Debug)]
pub struct Files {
    /// The component's bytes.
    pub wasm: Vec<u8>,
    /// The manifest's text.
    pub manifest: Option<String>,
}

impl PluginDir {
    /// The directory at `path`, which need not exist yet.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where a handler's component is.
    pub fn wasm(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.wasm"))
    }

    /// Where its manifest is, if it has one.
    pub fn manifest(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.toml"))
    }

    /// The handlers that are there now. Hidden files (editors', and those of a copy under way) are passed over.
    ///
    /// # Errors
    ///
    /// The directory cannot be read.
    pub fn scan(&self) -> io::Result<BTreeMap<String, Stamps>> {
        let mut handlers = BTreeMap::new();
        for entry in fs::read_dir(&self.0)? {
            let path = entry?.path();
            let Some(name) = path.file_stem().and_then(|stem| stem.to_str()) else {
                continue;
            };
            if path.extension().is_none_or(|extension| extension != "wasm") || name.starts_with('.') {
                continue;
            }
            // A file that went away since it was listed will be missing from the next scan as well.
            let Ok(wasm) = Stamp::of(&path) else { continue };
            let manifest = Stamp::of(&self.manifest(name)).ok();
            handlers.insert(name.to_owned(), Stamps { wasm, manifest });
        }
        Ok(handlers)
    }

    /// Reads a handler's files, if they are still those of `stamps` afterwards; `None` if they have changed.
    ///
    /// # Errors
    ///
    /// A file cannot be read, the component is larger than `max_bytes`, or the manifest is not UTF-8.
    pub fn read(&self, name: &str, stamps: Stamps, max_bytes: usize) -> io::Result<Option<Files>> {
        if usize::try_from(stamps.wasm.size).is_ok_and(|size| size > max_bytes) {
            let message = format!(
                "{} bytes, more than the {max_bytes} that are accepted",
                stamps.wasm.size
            );
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        }
        let wasm = fs::read(self.wasm(name))?;
        let manifest = match stamps.manifest {
            Some(_) => Some(fs::read_to_string(self.manifest(name))?),
            None => None,
        };
        let now = Stamps {
            wasm: Stamp::of(&self.wasm(name))?,
            manifest: Stamp::of(&self.manifest(name)).ok(),
        };
        Ok((now == stamps).then_some(Files { wasm, manifest }))
    }
}
