//! What lies in the plugin directory: which handlers, and which bytes of theirs. Reads names and file attributes;
//! never parses, never compiles.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::executor::digest;

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

    /// As [`Stamp::of`]; `None` if no regular file is there.
    fn if_there(path: &Path) -> io::Result<Option<Self>> {
        match Self::of(path) {
            Ok(stamp) => Ok(Some(stamp)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => Ok(None),
            Err(error) => Err(error),
        }
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

/// The largest manifest, in bytes.
const MAX_MANIFEST_BYTES: usize = 256 * 1024;

/// A directory of handlers: `NAME.wasm`, and `NAME.toml` beside it if need be.
#[derive(Debug, Clone)]
pub struct PluginDir(PathBuf);

/// Everything about one handler that is read at once.
#[derive(Debug)]
pub struct Files {
    /// The component's bytes.
    pub wasm: Vec<u8>,
    /// Their digest.
    pub digest: String,
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
            // A file that can't be looked at is not one that is gone: the whole scan says nothing then.
            let Some(wasm) = Stamp::if_there(&path)? else { continue };
            let manifest = Stamp::if_there(&self.manifest(name))?;
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
        // One byte more than the limit, so that a file that has grown meanwhile is noticed and not read whole.
        let wasm = read_up_to(&self.wasm(name), max_bytes)?;
        let manifest = match stamps.manifest {
            Some(_) => Some(read_up_to(&self.manifest(name), MAX_MANIFEST_BYTES)?),
            None => None,
        };
        let manifest = manifest.map(String::from_utf8).transpose().map_err(io::Error::other)?;
        let digest = digest(&wasm);
        let now = Stamps {
            wasm: Stamp::of(&self.wasm(name))?,
            manifest: Stamp::if_there(&self.manifest(name))?,
        };
        Ok((now == stamps).then_some(Files { wasm, digest, manifest }))
    }
}

fn read_up_to(path: &Path, max_bytes: usize) -> io::Result<Vec<u8>> {
    let limit = u64::try_from(max_bytes).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    fs::File::open(path)?
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if bytes.len() > max_bytes {
        let message = format!(
            "{} has more than the {max_bytes} bytes that are accepted",
            path.display()
        );
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}
