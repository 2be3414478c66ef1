//! Small files that are replaced as a whole.
//!
//! Invariant: under its name a file is either as it was before or as it is now, whenever the process is killed. Knows nothing of
//! what is in them.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

/// The end of the name of a file that is not finished.
const UNFINISHED: &str = ".tmp";

/// Reads a file of at most `max_bytes`; `None` if it is not there.
pub(crate) fn read(path: &Path, max_bytes: usize) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let limit = u64::try_from(max_bytes).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() > max_bytes {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too large"));
    }
    Ok(Some(bytes))
}

/// When what was written is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriteEnd {
    /// Before the call returns. A file that replaces another needs it: a loss of power could leave an empty file under the name.
    Synced,
    /// Some time later.
    Later,
}

/// Writes a file, which has its name only when it is complete.
pub(crate) fn write(directory: &Path, name: &str, bytes: &[u8], end: WriteEnd) -> io::Result<()> {
    write_with(directory, name, end, |file| file.write_all(bytes))
}

/// As [`write`], for bytes that are made one after another.
pub(crate) fn write_with(
    directory: &Path,
    name: &str,
    end: WriteEnd,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let unfinished = directory.join(format!("{name}{UNFINISHED}"));
    let finish = || {
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)?;
        write(&mut file)?;
        if end == WriteEnd::Synced {
            file.sync_all()?;
        }
        fs::rename(&unfinished, directory.join(name))
    };
    finish().inspect_err(|_: &io::Error| drop(fs::remove_file(&unfinished)))
}

/// Brings the names of a directory's files to the disk, as they are when it is called.
pub(crate) fn sync_names(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
