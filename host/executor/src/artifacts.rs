//! Compiled artifacts on disk: found by the file that they were made of, and mapped only if this host made them.
//!
//! An artifact is machine code, so another user who can write one controls the host. Therefore the directory, the key and every
//! file belong to this user alone, every file carries an HMAC under the key over its content and its name, and the bytes that
//! were verified are the bytes that are used: the file is not read a second time. A file that does not pass is deleted and made
//! anew. The files are a cache: without them, or without room for them, everything works and only takes longer. Several processes of
//! one user may share a directory.
//!
//! A file has a line that names its format, the length of the facts (4 bytes, little-endian), the facts (JSON), the artifact
//! as the engine serialises it, and 32 bytes of HMAC-SHA256 over its name, a zero byte, and all before it.
//!
//! Beside them each handler has a file with the compiled functions of its last version, for the next one: a line that names its
//! format, the functions, and the same HMAC. Its name has a digest of the path of the handler, so no handler gets functions of
//! another one: a file that takes its compiler over reaches later versions of its own handler only.

use std::{
    fs::{DirBuilder, File},
    hash::{Hash as _, Hasher},
    io::{self, Read as _, Write as _},
    os::{fd::OwnedFd, unix::fs::DirBuilderExt as _},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RawMode, RenameFlags, Stat, Timespec, Timestamps, UTIME_NOW},
    io::Errno,
    process::{Pid, test_kill_process},
};
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;

use super::compiler::{CodeTier, Compiled};
use sandhog_queue::printable::hex;

const MAGIC: &[u8] = b"sandhog artifact 1\n";
const FUNCTIONS_MAGIC: &[u8] = b"sandhog functions 1\n";
const KEY_FILE: &str = "key";
const KEY_BYTES: usize = 32;
const TAG_BYTES: usize = 32;
/// The suffix of a file that is not finished.
const UNFINISHED: &str = ".tmp";
/// Which components the host makes of core modules: another number when the same module becomes another component.
const COMPONENTS_OF_MODULES: u8 = 1;
/// The largest file that is read, in bytes (1.25 GiB): more than the compiler may answer for the largest wasm.
const MAX_FILE_BYTES: u64 = 1280 * 1024 * 1024;
/// The bytes that all files may take together (2 GiB); the file that has not been used for the longest time goes first.
pub(crate) const MAX_TOTAL_BYTES: u64 = 2 * 1024 * 1024 * 1024;
/// The bytes that a file must leave free on the disk (64 MiB): the queues need them more.
const MIN_FREE_BYTES: u64 = 64 * 1024 * 1024;

/// The directory with the artifacts of one engine. Every call blocks on the disk.
#[derive(Debug)]
pub(crate) struct Artifacts {
    path: PathBuf,
    /// A digest of everything that code depends on besides its source: the engine, its settings, the processor, and the version
    /// of the host.
    made_by: String,
    max_total_bytes: u64,
    /// Opened when it is first needed: by then this process owns the data directory.
    directory: OnceLock<Option<ArtifactDirectory>>,
}

#[derive(Debug)]
struct ArtifactDirectory {
    fd: OwnedFd,
    key: [u8; KEY_BYTES],
}

/// Whether a file survives a crash of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Durability {
    Synced,
    None,
}

/// A file can't be used.
enum Unusable {
    Absent,
    /// The file is not as this host has written it; the text says why.
    Refused(String),
}

impl Artifacts {
    /// Describes the directory, which is opened and made only when it is first needed.
    pub(crate) fn new(path: PathBuf, engine: &Engine, max_total_bytes: u64) -> Self {
        Self {
            path,
            made_by: made_by(engine),
            max_total_bytes,
            directory: OnceLock::new(),
        }
    }

    /// Returns the artifact that was made of the file with this digest, if it was kept and passes every check.
    pub(crate) fn find(&self, digest: &str, tier: CodeTier) -> Option<Compiled> {
        let directory = self.directory()?;
        let name = self.name(digest, tier);
        let compiled = self.content(directory, &name, artifact)?;
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_NOW,
        };
        let times = Timestamps {
            last_access: now,
            last_modification: now,
        };
        let used = rustix::fs::utimensat(&directory.fd, &*name, &times, AtFlags::SYMLINK_NOFOLLOW);
        if let Err(error) = used {
            tracing::debug!(name, %error, "a compiled artifact is thought to be older than it is");
        }
        Some(compiled)
    }

    /// Returns the compiled functions of the last version of the handler in this file; empty if there are none.
    pub(crate) fn functions(&self, file: &Path, tier: CodeTier) -> Bytes {
        let name = self.functions_name(file, tier);
        let found = self
            .directory()
            .and_then(|directory| self.content(directory, &name, functions));
        found.unwrap_or_default()
    }

    /// Returns what `parse` makes of a file, if there is one and it passes every check. One that does not is removed.
    fn content<T>(
        &self,
        directory: &ArtifactDirectory,
        name: &str,
        parse: fn(&Bytes) -> Result<T, Unusable>,
    ) -> Option<T> {
        let found = directory
            .read(name, MAX_FILE_BYTES)
            .and_then(|bytes| parse(&verified(bytes, name, &directory.key)?));
        match found {
            Ok(content) => Some(content),
            Err(Unusable::Absent) => None,
            Err(Unusable::Refused(why)) => {
                tracing::warn!(file = %self.path.join(name).display(), why, "a compiled artifact is refused, and made anew");
                directory.remove(name);
                None
            }
        }
    }

    /// Keeps the compiled functions of a version for the next one. If they can't be kept, that takes longer to compile.
    pub(crate) fn keep_functions(&self, file: &Path, tier: CodeTier, functions: &[u8]) {
        let Some(directory) = self.directory() else { return };
        let name = self.functions_name(file, tier);
        // A crash that tears the file costs nothing but a compilation.
        let written = directory.write(&name, &[FUNCTIONS_MAGIC, functions], Durability::None);
        let written = written.and_then(|()| directory.make_room(self.max_total_bytes, &name));
        if let Err(error) = written {
            tracing::debug!(name, %error, "compiled functions could not be kept");
        }
    }

    /// Keeps an artifact. If it can't be kept, the next start takes longer.
    pub(crate) fn keep(&self, digest: &str, tier: CodeTier, compiled: &Compiled) {
        let Some(directory) = self.directory() else { return };
        let name = self.name(digest, tier);
        if let Err(error) = directory.write_artifact(&name, compiled) {
            let file = self.path.join(&name);
            tracing::warn!(file = %file.display(), %error, "a compiled artifact could not be kept: the component serves, and is compiled again at the next start");
            return;
        }
        if tier == CodeTier::Optimised {
            directory.remove(&self.name(digest, CodeTier::Fast));
        }
        if let Err(error) = directory.make_room(self.max_total_bytes, &name) {
            tracing::warn!(directory = %self.path.display(), %error, "old compiled artifacts could not be removed");
        }
    }

    /// Removes an artifact that the engine does not take.
    pub(crate) fn discard(&self, digest: &str, tier: CodeTier) {
        if let Some(directory) = self.directory() {
            directory.remove(&self.name(digest, tier));
        }
    }

    fn name(&self, digest: &str, tier: CodeTier) -> String {
        format!("{digest}-{}-{tier}", self.made_by)
    }

    fn functions_name(&self, file: &Path, tier: CodeTier) -> String {
        let handler = hex(&Sha256::digest(file.as_os_str().as_encoded_bytes()));
        format!("functions-{handler}-{}-{tier}", self.made_by)
    }

    fn directory(&self) -> Option<&ArtifactDirectory> {
        let open = || match ArtifactDirectory::open(&self.path) {
            Ok(directory) => Some(directory),
            Err(error) => {
                tracing::warn!(directory = %self.path.display(), %error, "compiled artifacts are not kept: every start compiles every component");
                None
            }
        };
        self.directory.get_or_init(open).as_ref()
    }
}

/// Returns a digest of everything that decides whether an engine can run an artifact.
fn made_by(engine: &Engine) -> String {
    /// Digests all bytes that are hashed. The 64 bits of the trait are not used.
    struct Everything(Sha256);
    impl Hasher for Everything {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }

        fn finish(&self) -> u64 {
            0
        }
    }
    let mut everything = Everything(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut everything);
    everything.write(env!("CARGO_PKG_VERSION").as_bytes());
    everything.write(&[COMPONENTS_OF_MODULES]);
    hex(&everything.0.finalize())
}

/// Returns the content of a file, if it was written under this name with this key.
fn verified(bytes: Vec<u8>, name: &str, key: &[u8]) -> Result<Bytes, Unusable> {
    let refused = |why: &str| Unusable::Refused(why.to_owned());
    let (content, tag) = bytes
        .len()
        .checked_sub(TAG_BYTES)
        .and_then(|end| bytes.split_at_checked(end))
        .ok_or_else(|| refused("it is cut short"))?;
    let mut mac = mac(name, key).ok_or_else(|| refused("there is no key"))?;
    mac.update(content);
    mac.verify_slice(tag)
        .map_err(|_| refused("it is damaged, or not of this host"))?;
    let end = content.len();
    Ok(Bytes::from(bytes).slice(..end))
}

/// Returns the artifact in the content of a file.
fn artifact(content: &Bytes) -> Result<Compiled, Unusable> {
    let head = content
        .strip_prefix(MAGIC)
        .and_then(|rest| rest.split_first_chunk::<4>())
        .and_then(|(length, rest)| {
            let facts = rest.get(..usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
            Some((serde_json::from_slice(facts).ok()?, facts.len()))
        });
    let (facts, facts_bytes) = head.ok_or_else(of_another_version)?;
    Ok(Compiled {
        facts,
        artifact: content.slice(MAGIC.len() + 4 + facts_bytes..),
        functions: Bytes::new(),
        functions_taken: 0,
    })
}

/// Returns the compiled functions in the content of a file.
fn functions(content: &Bytes) -> Result<Bytes, Unusable> {
    let functions = content.strip_prefix(FUNCTIONS_MAGIC).ok_or_else(of_another_version)?;
    Ok(content.slice_ref(functions))
}

fn of_another_version() -> Unusable {
    Unusable::Refused("it is of another version".to_owned())
}

fn mac(name: &str, key: &[u8]) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    mac.update(name.as_bytes());
    mac.update(&[0]);
    Some(mac)
}

impl ArtifactDirectory {
    fn open(path: &Path) -> io::Result<Self> {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
        if let Some(why) = belongs_to_others(&rustix::fs::fstat(&fd)?, 0o022) {
            return Err(io::Error::other(format!("the directory {why}")));
        }
        let mut directory = Self {
            fd,
            key: [0; KEY_BYTES],
        };
        for (name, _) in directory.list()? {
            if is_abandoned(&name) {
                directory.remove(&name);
            }
        }
        directory.key = directory.find_or_make_key()?;
        Ok(directory)
    }

    fn find_or_make_key(&self) -> io::Result<[u8; KEY_BYTES]> {
        let bound = u64::try_from(KEY_BYTES).unwrap_or(u64::MAX);
        match self.read(KEY_FILE, bound).map(<[u8; KEY_BYTES]>::try_from) {
            Ok(Ok(key)) => return Ok(key),
            Err(Unusable::Absent) => {}
            Ok(Err(_)) => self.refuse_key("it is cut short"),
            Err(Unusable::Refused(why)) => self.refuse_key(&why),
        }
        let key: [u8; KEY_BYTES] = rand::random();
        let unfinished = unfinished();
        let mut file = self.create(&unfinished)?;
        let mut place = || -> io::Result<()> {
            file.write_all(&key)?;
            file.sync_all()?;
            match rustix::fs::renameat_with(&self.fd, &*unfinished, &self.fd, KEY_FILE, RenameFlags::NOREPLACE) {
                // Some file systems, such as NFS, can't tell whether there is a file already.
                Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                    rustix::fs::renameat(&self.fd, &*unfinished, &self.fd, KEY_FILE)?;
                }
                placed => placed?,
            }
            rustix::fs::fsync(&self.fd)?;
            Ok(())
        };
        match place() {
            Ok(()) => Ok(key),
            Err(error) => {
                self.remove(&unfinished);
                // Another process was quicker.
                let theirs = self.read(KEY_FILE, bound).ok();
                theirs.and_then(|key| key.try_into().ok()).ok_or(error)
            }
        }
    }

    fn refuse_key(&self, why: &str) {
        tracing::warn!(
            why,
            "the key of the compiled artifacts is refused: all of them are made anew"
        );
        self.remove(KEY_FILE);
    }

    /// Reads a whole file that belongs to this user alone.
    fn read(&self, name: &str, max_bytes: u64) -> Result<Vec<u8>, Unusable> {
        let refused = |error: &dyn std::fmt::Display| Unusable::Refused(error.to_string());
        // A pipe under this name must not block the thread.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.fd, name, flags, Mode::empty());
        let file = file.map_err(|error| match error {
            Errno::NOENT => Unusable::Absent,
            Errno::LOOP => Unusable::Refused("it is a symbolic link".to_owned()),
            error => refused(&error),
        })?;
        let stat = rustix::fs::fstat(&file).map_err(|error| refused(&error))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(refused(&"it is not a file"));
        }
        if let Some(why) = belongs_to_others(&stat, 0o077) {
            return Err(refused(&format!("it {why}")));
        }
        if stat.st_nlink != 1 {
            return Err(refused(&"it has a second name"));
        }
        let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
        if size > max_bytes {
            return Err(refused(&"it is too large"));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        let read = File::from(file).take(max_bytes).read_to_end(&mut bytes);
        read.map_err(|error| refused(&error))?;
        Ok(bytes)
    }

    fn write_artifact(&self, name: &str, compiled: &Compiled) -> io::Result<()> {
        let facts = serde_json::to_vec(&compiled.facts)?;
        let length = u32::try_from(facts.len()).map_err(io::Error::other)?;
        let parts = [MAGIC, &length.to_le_bytes(), &facts, &compiled.artifact];
        self.write(name, &parts, Durability::Synced)
    }

    fn write(&self, name: &str, parts: &[&[u8]], durability: Durability) -> io::Result<()> {
        let bytes = parts.iter().map(|part| part.len()).sum::<usize>() + TAG_BYTES;
        self.check_free(u64::try_from(bytes).unwrap_or(u64::MAX))?;
        let mut mac = mac(name, &self.key).ok_or_else(|| io::Error::other("there is no key"))?;
        let unfinished = unfinished();
        let mut file = self.create(&unfinished)?;
        let write = || -> io::Result<()> {
            for part in parts {
                mac.update(part);
                file.write_all(part)?;
            }
            file.write_all(&mac.finalize().into_bytes())?;
            // Without this a crash could leave the name of the artifact on a file with other bytes.
            if durability == Durability::Synced {
                file.sync_all()?;
            }
            rustix::fs::renameat(&self.fd, &*unfinished, &self.fd, name)?;
            Ok(())
        };
        write().inspect_err(|_| self.remove(&unfinished))
    }

    fn check_free(&self, bytes: u64) -> io::Result<()> {
        let disk = rustix::fs::fstatvfs(&self.fd)?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free < bytes.saturating_add(MIN_FREE_BYTES) {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!("the disk has only {free} bytes left"),
            ));
        }
        Ok(())
    }

    fn create(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(File::from(file))
    }

    /// Removes the files that have not been used for the longest time until the rest is within `max_bytes`; never `newest`.
    fn make_room(&self, max_bytes: u64, newest: &str) -> io::Result<()> {
        let mut files = self.list()?;
        files.retain(|(name, _)| name != KEY_FILE);
        let size = |stat: &Stat| u64::try_from(stat.st_size).unwrap_or(0);
        let mut total: u64 = files.iter().map(|(_, stat)| size(stat)).sum();
        files.sort_by_key(|(_, stat)| (stat.st_mtime, stat.st_mtime_nsec));
        for (name, stat) in files.iter().filter(|(name, _)| name != newest) {
            if total <= max_bytes {
                break;
            }
            total -= size(stat);
            self.remove(name);
        }
        Ok(())
    }

    /// Lists every regular file with its metadata.
    fn list(&self) -> io::Result<Vec<(String, Stat)>> {
        let mut files = Vec::new();
        for entry in Dir::read_from(&self.fd)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                    files.push((name.to_owned(), stat));
                }
                // The entry is gone, or is no file of the host.
                Ok(_) | Err(_) => {}
            }
        }
        Ok(files)
    }

    /// Removes a file. A file that can't be removed is refused again when it is found again.
    fn remove(&self, name: &str) {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => tracing::warn!(name, %error, "a compiled artifact could not be removed"),
        }
    }
}

/// Returns a new name for a file that this process has not finished.
fn unfinished() -> String {
    format!("{:016x}-{}{UNFINISHED}", rand::random::<u64>(), std::process::id())
}

/// Returns whether the file was not finished by a process that is gone.
fn is_abandoned(name: &str) -> bool {
    let Some(stem) = name.strip_suffix(UNFINISHED) else {
        return false;
    };
    let writer = stem.split_once('-').and_then(|(_, writer)| writer.parse::<u32>().ok());
    // A file of this process's number is of an earlier process: this one has just opened the directory.
    let other = writer.filter(|writer| *writer != std::process::id());
    let other = other.and_then(|writer| Pid::from_raw(i32::try_from(writer).ok()?));
    !other.is_some_and(|other| test_kill_process(other) != Err(Errno::SRCH))
}

/// Returns the reason if another user could have written the file, or has one of the `rights`.
fn belongs_to_others(stat: &Stat, rights: RawMode) -> Option<&'static str> {
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        Some("belongs to another user")
    } else if stat.st_mode & rights != 0 {
        Some("can be read or written by other users")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::compiler::{Facts, Toolchain, settings};

    fn artifacts(directory: &tempfile::TempDir, max_total_bytes: u64) -> Artifacts {
        let engine = Engine::new(&settings(CodeTier::Optimised, true)).unwrap();
        Artifacts::new(directory.path().join("artifacts"), &engine, max_total_bytes)
    }

    fn compiled() -> Compiled {
        Compiled {
            facts: Facts {
                core_module: true,
                toolchain: Toolchain::default(),
            },
            artifact: vec![1; 1000].into(),
            functions: Bytes::new(),
            functions_taken: 0,
        }
    }

    #[test]
    fn what_was_not_used_for_longest_makes_room_for_what_is_new() {
        let directory = tempfile::tempdir().unwrap();
        let artifacts = artifacts(&directory, 3000);
        artifacts.keep("a", CodeTier::Fast, &compiled());
        artifacts.keep("b", CodeTier::Fast, &compiled());
        // Long ago: the clock of a file system may not tell two calls apart.
        for (digest, seconds) in [("a", 1), ("b", 2)] {
            let file = File::open(artifacts.path.join(artifacts.name(digest, CodeTier::Fast))).unwrap();
            let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            file.set_modified(time).unwrap();
        }
        assert!(artifacts.find("a", CodeTier::Fast).is_some());
        artifacts.keep("c", CodeTier::Fast, &compiled());
        let there = ["a", "b", "c"].map(|digest| artifacts.find(digest, CodeTier::Fast).is_some());
        assert_eq!(there, [true, false, true]);
    }

    #[test]
    fn what_was_optimised_takes_the_place_of_what_was_fast() {
        let directory = tempfile::tempdir().unwrap();
        let artifacts = artifacts(&directory, MAX_TOTAL_BYTES);
        artifacts.keep("a", CodeTier::Fast, &compiled());
        artifacts.keep("a", CodeTier::Optimised, &compiled());
        let found = artifacts.find("a", CodeTier::Optimised).unwrap();
        assert_eq!((found.facts.core_module, found.artifact), (true, compiled().artifact));
        assert!(artifacts.find("a", CodeTier::Fast).is_none());
    }

    #[test]
    fn what_was_not_finished_is_removed_and_what_is_not_ours_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        artifacts(&directory, MAX_TOTAL_BYTES).keep("a", CodeTier::Fast, &compiled());
        let path = directory.path().join("artifacts");
        fs::write(path.join("0123.tmp"), "half").unwrap();
        // The number of a process that there can't be, and one of a process that is writing.
        fs::write(path.join("0123-4194305.tmp"), "half").unwrap();
        let writing = path.join("0123-1.tmp");
        fs::write(&writing, "half").unwrap();
        fs::write(path.join("code.cwasm"), "planted").unwrap();
        assert!(
            artifacts(&directory, MAX_TOTAL_BYTES)
                .find("a", CodeTier::Fast)
                .is_some()
        );
        assert!(!path.join("0123.tmp").exists());
        assert!(!path.join("0123-4194305.tmp").exists());
        assert!(writing.exists());
        assert!(path.join("code.cwasm").exists());
    }

    /// The second process found a key where it wanted to make one, and kept nothing.
    #[test]
    fn processes_that_begin_at_one_time_have_one_key() {
        let directory = tempfile::tempdir().unwrap();
        let first = ArtifactDirectory::open(directory.path()).unwrap();
        fs::remove_file(directory.path().join(KEY_FILE)).unwrap();
        let keys: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| first.find_or_make_key().unwrap()))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(keys.windows(2).all(|pair| pair[0] == pair[1]), "{keys:?}");
    }

    #[test]
    fn a_disk_without_room_is_left_to_the_queues() {
        let directory = tempfile::tempdir().unwrap();
        let artifacts = artifacts(&directory, MAX_TOTAL_BYTES);
        let opened = artifacts.directory().unwrap();
        assert_eq!(
            opened.check_free(u64::MAX).unwrap_err().kind(),
            io::ErrorKind::StorageFull
        );
        assert!(opened.check_free(0).is_ok());
    }
}
