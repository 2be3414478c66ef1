//! Looks at one entry of the plugin directory, of whatever kind, and reads the entry if it is a regular file.
//!
//! Invariant: no call waits for another process. A FIFO, a socket or a device is not opened on purpose and not waited for,
//! even if it replaces a file between two looks. Knows nothing of handlers.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read as _},
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::Path,
    time::{Duration, SystemTime},
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

/// Tells one state of a file from another without reading the file. A stamp follows symbolic links, so a link that is swapped
/// changes the stamp of every file behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStamp {
    device: u64,
    inode: u64,
    /// The size in bytes.
    pub size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileStamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Returns how long the file has not changed, by the clocks of its file system and of `now`; zero if the clocks do not agree.
    pub fn unchanged_for(&self, now: SystemTime) -> Duration {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let changed = Duration::from_secs(self.changed.0.try_into().unwrap_or(u64::MAX));
        now.saturating_sub(changed.saturating_add(Duration::from_secs(1)))
    }
}

/// The result of a look at an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileLook {
    /// A regular file, perhaps behind links.
    File(FileStamp),
    /// An entry that can't be used.
    Trouble(FileTrouble),
}

/// The reason why an entry can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct FileTrouble {
    /// Names what is wrong, without the path.
    pub reason: String,
    /// The same entry may be usable another time: the machine refused, or a right is missing.
    pub is_transient: bool,
}

impl FileTrouble {
    fn lasting(reason: &str) -> Self {
        Self {
            reason: reason.to_owned(),
            is_transient: false,
        }
    }

    /// Sorts an error of the system: the fault of the entry itself, or of the machine and the rights.
    fn of(error: &io::Error) -> Self {
        let lasting = match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOENT) => "it is a link that leads nowhere",
            Some(Errno::LOOP) => "it is a link that leads back to itself, or through too many links",
            Some(Errno::NOTDIR) => "it is a link whose path leads through something that is no directory",
            Some(Errno::NAMETOOLONG) => "it is a link to a name that is too long",
            _ => {
                return Self {
                    reason: format!("it can't be read: {error}"),
                    is_transient: true,
                };
            }
        };
        Self::lasting(lasting)
    }
}

impl FileLook {
    /// Looks at the entry at `path`; `None` if the path has no entry.
    pub fn at(path: &Path) -> Option<Self> {
        let error = match fs::metadata(path) {
            Ok(metadata) => return Some(Self::of(&metadata)),
            Err(error) => error,
        };
        let gone = error.kind() == io::ErrorKind::NotFound
            && fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        (!gone).then(|| Self::Trouble(FileTrouble::of(&error)))
    }

    fn of(metadata: &Metadata) -> Self {
        let kind = metadata.file_type();
        let what = if kind.is_file() {
            return Self::File(FileStamp::of(metadata));
        } else if kind.is_dir() {
            "a directory"
        } else if kind.is_fifo() {
            "a FIFO"
        } else if kind.is_socket() {
            "a socket"
        } else {
            "a device"
        };
        Self::Trouble(FileTrouble::lasting(&format!("it is {what} and not a regular file")))
    }
}

/// The answer to whether another process may still be writing to an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileWriter {
    /// No process has the file open for writing.
    Absent,
    /// A process has the file open for writing.
    Present,
    /// The system does not tell: the file is another user's, or its file system is shared or has no leases.
    Untold,
}

/// The content of one entry.
#[derive(Debug)]
pub struct FileContent {
    /// All bytes of the file.
    pub bytes: Vec<u8>,
    /// The writers of the file, when the reading began.
    pub writer: FileWriter,
}

/// The reason why an entry was not read.
#[derive(Debug, PartialEq, Eq)]
pub enum FileReadError {
    /// The entry does not exist any more.
    Gone,
    /// Another process is writing the file.
    BeingWritten,
    /// The entry can't be used.
    Trouble(FileTrouble),
}

impl From<FileTrouble> for FileReadError {
    fn from(trouble: FileTrouble) -> Self {
        Self::Trouble(trouble)
    }
}

/// Reads a regular file of at most `max_bytes`, unless another process is writing it. Blocks on the disk and on nothing else.
///
/// # Errors
///
/// See [`FileReadError`].
pub fn read(path: &Path, max_bytes: usize) -> Result<FileContent, FileReadError> {
    let file = open(path)?;
    let writer = writer_of(&file);
    if writer == FileWriter::Present {
        return Err(FileReadError::BeingWritten);
    }
    let limit = u64::try_from(max_bytes).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    // One byte more than the limit shows that the file has grown meanwhile, without reading all of it.
    let read = file.take(limit.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|error| FileTrouble::of(&error))?;
    if bytes.len() > max_bytes {
        let reason = format!("it has more than the {max_bytes} bytes that are accepted");
        return Err(FileTrouble::lasting(&reason).into());
    }
    Ok(FileContent { bytes, writer })
}

fn open(path: &Path) -> Result<File, FileReadError> {
    // The look comes before the opening, because opening a device can have effects.
    match FileLook::at(path) {
        None => return Err(FileReadError::Gone),
        Some(FileLook::Trouble(trouble)) => return Err(trouble.into()),
        Some(FileLook::File(_)) => {}
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Err(FileReadError::Gone),
        // The writer holds a lease on the file.
        Err(Errno::AGAIN) => return Err(FileReadError::BeingWritten),
        Err(error) => return Err(FileTrouble::of(&error.into()).into()),
    };
    let metadata = file.metadata().map_err(|error| FileTrouble::of(&error))?;
    match FileLook::of(&metadata) {
        FileLook::File(_) => Ok(file),
        FileLook::Trouble(trouble) => Err(trouble.into()),
    }
}

/// Asks for a read lease, which the system grants only while no process has the file open for writing, and gives it back.
#[cfg(target_os = "linux")]
fn writer_of(file: &File) -> FileWriter {
    use std::os::fd::AsRawFd as _;
    /// From `fcntl.h`; the crate `libc` does not name it.
    const F_SETSIG: libc::c_int = 10;
    let lease = |command, argument: libc::c_int| {
        #[expect(unsafe_code, reason = "no safe function asks for a lease")]
        // SAFETY: both commands take a number and touch no memory; the descriptor is open as long as `file` lives.
        let answer = unsafe { libc::fcntl(file.as_raw_fd(), command, argument) };
        if answer == -1 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    };
    if is_shared(file) {
        return FileWriter::Untold;
    }
    // A writer that opens the file now breaks the lease by a signal. The usual signal would end the process; this one is
    // ignored.
    if lease(F_SETSIG, libc::SIGURG).is_err() {
        return FileWriter::Untold;
    }
    match lease(libc::F_SETLEASE, libc::F_RDLCK) {
        Ok(()) => {
            // If this fails, closing the file gives the lease back.
            drop(lease(libc::F_SETLEASE, libc::F_UNLCK));
            FileWriter::Absent
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => FileWriter::Present,
        Err(_) => FileWriter::Untold,
    }
}

/// Returns whether the writer may be on another machine. Then a lease tells nothing: the system may grant it all the same, or
/// always refuse it.
#[cfg(target_os = "linux")]
fn is_shared(file: &File) -> bool {
    /// From `linux/magic.h`: NFS, SMB, CIFS, SMB 2, FUSE, 9P, Ceph, AFS, Lustre.
    const SHARED: [i128; 9] = [
        0x6969,
        0x517B,
        0xFF53_4D42,
        0xFE53_4D42,
        0x6573_5546,
        0x0102_1997,
        0x00C3_6400,
        0x5346_414F,
        0x0BD0_0BD0,
    ];
    // The type and the sign of the number differ between machines.
    rustix::fs::fstatfs(file).map_or(true, |system| {
        SHARED.contains(&(i128::from(system.f_type) & 0xFFFF_FFFF))
    })
}

#[cfg(not(target_os = "linux"))]
fn writer_of(_: &File) -> FileWriter {
    FileWriter::Untold
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::symlink, net::UnixListener};

    use super::*;

    fn trouble(path: &Path) -> FileTrouble {
        match FileLook::at(path) {
            Some(FileLook::Trouble(trouble)) => trouble,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_no_regular_file_is_refused_by_its_kind_and_never_opened() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("directory")).unwrap();
        // On macOS rustix has no call for it.
        let made = std::process::Command::new("mkfifo").arg(at("fifo")).status().unwrap();
        assert!(made.success());
        let socket = UnixListener::bind(at("socket")).unwrap();
        symlink("/dev/null", at("device")).unwrap();
        symlink("/nowhere", at("dangling")).unwrap();
        symlink("loop", at("loop")).unwrap();
        symlink("/etc/passwd/x", at("through-a-file")).unwrap();
        symlink("x".repeat(300), at("long")).unwrap();
        for (name, word) in [
            ("directory", "a directory"),
            ("fifo", "a FIFO"),
            ("socket", "a socket"),
            ("device", "a device"),
            ("dangling", "nowhere"),
            ("loop", "itself"),
            ("through-a-file", "no directory"),
            ("long", "too long"),
        ] {
            let trouble = trouble(&at(name));
            assert!(
                trouble.reason.contains(word) && !trouble.is_transient,
                "{name}: {trouble:?}"
            );
            assert_eq!(
                read(&at(name), 10).unwrap_err(),
                FileReadError::Trouble(trouble),
                "{name}"
            );
        }
        drop(socket);
        assert_eq!(FileLook::at(&at("absent")), None);
        assert_eq!(read(&at("absent"), 10).unwrap_err(), FileReadError::Gone);
    }

    #[test]
    fn what_the_machine_refuses_may_pass() {
        for error in [
            Errno::MFILE,
            Errno::NFILE,
            Errno::NOMEM,
            Errno::IO,
            Errno::PERM,
            Errno::STALE,
        ] {
            assert!(FileTrouble::of(&error.into()).is_transient, "{error}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_that_somebody_has_open_for_writing_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.wasm");
        let writer = File::create(&path).unwrap();
        assert_eq!(read(&path, 10).unwrap_err(), FileReadError::BeingWritten);
        drop(writer);
        assert_eq!(read(&path, 10).unwrap().writer, FileWriter::Absent);
    }
}
