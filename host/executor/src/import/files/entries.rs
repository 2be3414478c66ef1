//! The entries of a directory, read a few at a time: the engine would copy all of them into the host, for each stream.

use std::{collections::VecDeque, fs::File, sync::Arc};

use rustix::{
    fs::{AtFlags, Dir, DirEntry, FileType, Mode, OFlags, openat, statat},
    io::Errno,
};
use tokio::runtime::Handle;
use wasmtime_wasi::p2::{
    FsError, FsResult,
    bindings::filesystem::types::{DescriptorType, DirectoryEntry, ErrorCode},
};

use super::account::OpenFile;

/// The number of entries that are read at a time. With the longest names, they and the buffer of the system fit into one buffer
/// of a stream.
const BATCH: usize = 64;

/// A directory that is being read.
pub(crate) struct DirectoryEntries {
    /// `None` at the end.
    directory: Option<Dir>,
    read: VecDeque<Result<DirectoryEntry, ErrorCode>>,
    _open: OpenFile,
}

impl DirectoryEntries {
    /// Opens a directory once more, since each reader has its own position in it.
    pub(crate) async fn of(directory: Arc<File>, threads: &Handle, open: OpenFile) -> FsResult<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opening = threads.spawn_blocking(move || openat(&*directory, ".", flags, Mode::empty()).and_then(Dir::new));
        let directory = opening.await.map_err(FsError::trap)?.map_err(failed)?;
        Ok(Self {
            directory: Some(directory),
            read: VecDeque::new(),
            _open: open,
        })
    }

    /// Returns the next entry; `None` at the end.
    pub(crate) async fn next(&mut self, threads: &Handle) -> FsResult<Option<DirectoryEntry>> {
        if self.read.is_empty()
            && let Some(directory) = self.directory.take()
        {
            let reading = threads.spawn_blocking(move || some_of(directory));
            (self.directory, self.read) = reading.await.map_err(FsError::trap)?;
        }
        Ok(self.read.pop_front().transpose()?)
    }
}

fn failed(error: Errno) -> ErrorCode {
    ErrorCode::from(&std::io::Error::from(error))
}

/// Reads the next entries. Returns the directory if there may be more.
fn some_of(mut directory: Dir) -> (Option<Dir>, VecDeque<Result<DirectoryEntry, ErrorCode>>) {
    let mut read = VecDeque::new();
    while read.len() < BATCH {
        match directory.read() {
            None => return (None, read),
            Some(Err(error)) => {
                read.push_back(Err(failed(error)));
                return (None, read);
            }
            Some(Ok(entry)) if [c".", c".."].contains(&entry.file_name()) => {}
            Some(Ok(entry)) => read.push_back(shown(&directory, &entry)),
        }
    }
    (Some(directory), read)
}

fn shown(directory: &Dir, entry: &DirEntry) -> Result<DirectoryEntry, ErrorCode> {
    let name = entry.file_name();
    let mut kind = entry.file_type();
    // Some file systems do not tell the type.
    if kind == FileType::Unknown {
        let fd = directory.fd().map_err(failed)?;
        let stat = statat(fd, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        kind = FileType::from_raw_mode(stat.st_mode);
    }
    let type_ = match kind {
        FileType::RegularFile => DescriptorType::RegularFile,
        FileType::Directory => DescriptorType::Directory,
        FileType::Symlink => DescriptorType::SymbolicLink,
        FileType::Fifo => DescriptorType::Fifo,
        FileType::Socket => DescriptorType::Socket,
        FileType::CharacterDevice => DescriptorType::CharacterDevice,
        FileType::BlockDevice => DescriptorType::BlockDevice,
        FileType::Unknown => DescriptorType::Unknown,
    };
    let name = name.to_str().map_err(|_| ErrorCode::IllegalByteSequence)?.to_owned();
    Ok(DirectoryEntry { type_, name })
}
