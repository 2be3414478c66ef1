//! A disk that fails on demand and remembers everything that was done to it: an `SQLite` VFS above the system's own.
//!
//! Every change of a file is numbered and logged. [`FaultyStore::fail`] makes one of them fail; [`crash`] builds the
//! directory that a power loss after the nth would have left. That a file was made or deleted survives only once the directory
//! was synced; whether `SQLite` does that is watched where it does it. The shared-memory file of the write-ahead log is not
//! logged: it is no part of what survives. Nothing here knows what the files mean.

#![expect(unsafe_code, reason = "SQLite takes a VFS as a table of C functions")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a harness that can't go on says so by a panic"
)]

use std::{
    cell::Cell,
    collections::BTreeMap,
    ffi::{CStr, CString, OsStr, c_char, c_int, c_void},
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    ptr,
    sync::{
        Arc, Mutex, Once,
        atomic::{AtomicUsize, Ordering},
    },
};

use libsqlite3_sys as sqlite;

const SECTOR: usize = 512;

/// One change of one file.
#[derive(Debug, Clone)]
pub enum Change {
    /// It was made.
    Create,
    /// Bytes were written at an offset.
    Write(usize, Vec<u8>),
    /// It was cut to a length.
    Truncate(usize),
    /// What was written before is on the disk.
    Sync,
    /// It was deleted.
    Delete,
    /// Which files there are is on the disk.
    SyncDirectory,
}

/// One entry of the log.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The file's name in its directory.
    pub file: String,
    /// What was done.
    pub change: Change,
    /// What the file given to [`FaultyStore::watch`] held just before.
    pub watched: Option<Vec<u8>>,
}

/// How a change fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The disk reports an error, once.
    Io,
    /// The disk is full, until [`FaultyStore::heal`]. Only writes fail.
    Full,
}

#[derive(Debug, Default)]
struct State {
    log: Vec<Entry>,
    watched: Option<PathBuf>,
    /// How many changes that may fail were asked for.
    attempts: usize,
    fault: Option<(usize, Fault)>,
    hit: bool,
}

/// A registered VFS with its log. It stays registered for as long as the process lives.
#[derive(Debug, Clone)]
pub struct FaultyStore {
    name: String,
    state: Arc<Mutex<State>>,
}

impl Default for FaultyStore {
    fn default() -> Self {
        Self::new()
    }
}

impl FaultyStore {
    /// Registers a VFS of its own.
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("faulty-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let state = Arc::new(Mutex::new(State::default()));
        register(&name, Arc::clone(&state));
        Self { name, state }
    }

    /// The name to open a database with.
    pub fn vfs(&self) -> String {
        self.name.clone()
    }

    /// Notes in every entry what this file holds, though it is not written through the VFS.
    pub fn watch(&self, path: PathBuf) {
        self.state.lock().unwrap().watched = Some(path);
    }

    /// Makes the nth write, truncation or sync from now on fail; 0 is the next.
    pub fn fail(&self, nth: usize, fault: Fault) {
        let mut state = self.state.lock().unwrap();
        state.fault = Some((state.attempts + nth, fault));
        state.hit = false;
    }

    /// Lets everything succeed again. Returns whether anything failed.
    pub fn heal(&self) -> bool {
        let mut state = self.state.lock().unwrap();
        state.fault = None;
        state.hit
    }

    /// How many changes have been made.
    pub fn changes(&self) -> usize {
        self.state.lock().unwrap().log.len()
    }

    /// Everything that was done.
    pub fn log(&self) -> Vec<Entry> {
        self.state.lock().unwrap().log.clone()
    }
}

/// What a power loss does to what was written and not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// All of it is gone.
    All,
    /// All of it is there, save for the second half of the last write.
    TornTail,
    /// Some sectors of it are there.
    Sectors,
}

/// Writes the files that a power loss after the first `n` changes would have left into an empty directory.
pub fn crash(log: &[Entry], n: usize, loss: Loss, directory: &Path) {
    let mut disk = Disk::default();
    for (index, entry) in log.iter().take(n).enumerate() {
        disk.change(index, entry);
    }
    for (name, links) in disk.names {
        let (last, synced) = (links.now, links.durable);
        let link = match loss {
            Loss::All => synced,
            Loss::TornTail => last,
            Loss::Sectors => survivor((n, &name), last, synced),
        };
        let Some(mut image) = link.and_then(|number| disk.images.get_mut(number).map(std::mem::take)) else {
            continue;
        };
        match loss {
            Loss::All => image.pending.clear(),
            Loss::TornTail => image.settle(|index, change| if index + 1 == n { tear(change) } else { apply(change) }),
            Loss::Sectors => image.settle(|index, change| scatter(change, (n, index))),
        }
        fs::write(directory.join(name), image.content).unwrap();
    }
}

/// Which of two states of a directory entry survives.
fn survivor(seed: (usize, &str), last: Option<usize>, synced: Option<usize>) -> Option<usize> {
    let mut hasher = DefaultHasher::new();
    seed.hash(&mut hasher);
    if hasher.finish().is_multiple_of(2) {
        last
    } else {
        synced
    }
}

/// Files, and the directory that names them.
#[derive(Debug, Default)]
struct Disk {
    names: BTreeMap<String, Links>,
    images: Vec<FileImage>,
}

/// Which image a name stands for.
#[derive(Debug, Default)]
struct Links {
    now: Option<usize>,
    /// After a power loss.
    durable: Option<usize>,
}

impl Disk {
    fn change(&mut self, index: usize, entry: &Entry) {
        match &entry.change {
            Change::SyncDirectory => self.names.values_mut().for_each(|links| links.durable = links.now),
            Change::Delete => self.names.entry(entry.file.clone()).or_default().now = None,
            Change::Create => {
                self.images.push(FileImage::default());
                self.names.entry(entry.file.clone()).or_default().now = Some(self.images.len() - 1);
            }
            Change::Sync => self.image(&entry.file).settle(|_, change| apply(change)),
            Change::Write(..) | Change::Truncate(_) => {
                let change = (index, entry.change.clone());
                self.image(&entry.file).pending.push(change);
            }
        }
    }

    fn image(&mut self, file: &str) -> &mut FileImage {
        let links = self.names.get(file);
        let number = links.and_then(|links| links.now).expect("a file is made first");
        &mut self.images[number]
    }
}

#[derive(Debug, Default)]
struct FileImage {
    content: Vec<u8>,
    pending: Vec<(usize, Change)>,
}

impl FileImage {
    /// Applies what `keep` leaves of each pending change.
    fn settle(&mut self, keep: impl Fn(usize, Change) -> Vec<Change>) {
        for (index, change) in std::mem::take(&mut self.pending) {
            for change in keep(index, change) {
                match change {
                    Change::Write(offset, bytes) => {
                        let end = offset + bytes.len();
                        if self.content.len() < end {
                            self.content.resize(end, 0);
                        }
                        self.content[offset..end].copy_from_slice(&bytes);
                    }
                    Change::Truncate(length) => self.content.resize(length, 0),
                    Change::Create | Change::Sync | Change::Delete | Change::SyncDirectory => {}
                }
            }
        }
    }
}

fn apply(change: Change) -> Vec<Change> {
    vec![change]
}

fn tear(change: Change) -> Vec<Change> {
    match change {
        Change::Write(offset, mut bytes) => {
            bytes.truncate(bytes.len() / 2);
            vec![Change::Write(offset, bytes)]
        }
        other @ (Change::Create | Change::Truncate(_) | Change::Sync | Change::Delete | Change::SyncDirectory) => {
            vec![other]
        }
    }
}

fn scatter(change: Change, seed: (usize, usize)) -> Vec<Change> {
    let survives = |part: usize| {
        let mut hasher = DefaultHasher::new();
        (seed, part).hash(&mut hasher);
        hasher.finish().is_multiple_of(2)
    };
    match change {
        Change::Write(offset, bytes) => {
            let sector = |(part, bytes): (usize, &[u8])| Change::Write(offset + part * SECTOR, bytes.to_vec());
            bytes
                .chunks(SECTOR)
                .enumerate()
                .filter(|(part, _)| survives(*part))
                .map(sector)
                .collect()
        }
        other @ (Change::Create | Change::Truncate(_) | Change::Sync | Change::Delete | Change::SyncDirectory) => {
            if survives(0) {
                vec![other]
            } else {
                Vec::new()
            }
        }
    }
}

/// What the C side knows of a VFS.
struct Shim {
    real: *mut sqlite::sqlite3_vfs,
    state: Arc<Mutex<State>>,
}

/// An open file: `SQLite` allocates it, with room for the real one behind it.
#[repr(C)]
struct ShimFile {
    base: sqlite::sqlite3_file,
    /// Which file, and where to log; null until it is open.
    about: *mut About,
}

struct About {
    file: String,
    state: Arc<Mutex<State>>,
    /// Whether its next sync is passed on, so that what the real VFS does with the directory is seen.
    is_new: Cell<bool>,
}

/// How `SQLite` opens a directory, to sync it.
type OpenDirectory = unsafe extern "C" fn(*const c_char, *mut c_int) -> c_int;

thread_local! {
    /// Whether a directory was opened in the call under way.
    static DIRECTORY_SYNCED: Cell<bool> = const { Cell::new(false) };
}

/// What the real VFS opens directories with.
static OPEN_DIRECTORY: Mutex<Option<OpenDirectory>> = Mutex::new(None);

unsafe extern "C" fn open_directory(path: *const c_char, descriptor: *mut c_int) -> c_int {
    DIRECTORY_SYNCED.set(true);
    let real = OPEN_DIRECTORY.lock().unwrap().expect("it is set before this is");
    // SAFETY: passed on as it came.
    unsafe { real(path, descriptor) }
}

/// Learns of every sync of a directory, which `SQLite` does without a VFS.
unsafe fn watch_directories(real: *mut sqlite::sqlite3_vfs) {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| {
        let name = c"openDirectory".as_ptr();
        // SAFETY: the VFS is the system's own, whose table of calls has a function of this type under this name.
        unsafe {
            let known = (*real).xGetSystemCall.unwrap()(real, name);
            *OPEN_DIRECTORY.lock().unwrap() =
                std::mem::transmute::<sqlite::sqlite3_syscall_ptr, Option<OpenDirectory>>(known);
            let ours = std::mem::transmute::<OpenDirectory, sqlite::sqlite3_syscall_ptr>(open_directory);
            assert_eq!((*real).xSetSystemCall.unwrap()(real, name, ours), sqlite::SQLITE_OK);
        }
    });
}

/// Logs that the directory was synced, if it was since this was asked.
fn directory_synced(state: &Mutex<State>) {
    if DIRECTORY_SYNCED.take() {
        change(state, "", Change::SyncDirectory);
    }
}

fn register(name: &str, state: Arc<Mutex<State>>) {
    // SAFETY: the default VFS is registered for good; the copy and all that it points to are leaked, so they are too.
    unsafe {
        assert_eq!(sqlite::sqlite3_initialize(), sqlite::SQLITE_OK);
        let real = sqlite::sqlite3_vfs_find(ptr::null());
        watch_directories(real);
        let shim = Box::leak(Box::new(Shim { real, state }));
        let mut vfs = *real;
        vfs.iVersion = 2;
        vfs.szOsFile = (*real).szOsFile + c_int::try_from(size_of::<ShimFile>()).unwrap();
        vfs.pNext = ptr::null_mut();
        vfs.zName = CString::new(name).unwrap().into_raw();
        vfs.pAppData = ptr::from_mut(shim).cast();
        vfs.xOpen = Some(open);
        vfs.xDelete = Some(delete);
        vfs.xAccess = Some(access);
        vfs.xFullPathname = Some(full_pathname);
        assert_eq!(
            sqlite::sqlite3_vfs_register(Box::leak(Box::new(vfs)), 0),
            sqlite::SQLITE_OK
        );
    }
}

/// Whether a file that is opened was there before. One that is empty and was never logged has just been made, by the host itself.
fn is_known(state: &Mutex<State>, path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_logged = || state.lock().unwrap().log.iter().any(|entry| entry.file == name);
    fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0 || is_logged())
}

/// Counts and logs a change, unless it is the one to fail: then returns the code to fail with.
fn change(state: &Mutex<State>, file: &str, change: Change) -> Option<c_int> {
    let mut state = state.lock().unwrap();
    let index = state.attempts;
    if matches!(change, Change::Write(..) | Change::Truncate(_) | Change::Sync) {
        state.attempts += 1;
    }
    let code = match (state.fault, &change) {
        (Some((nth, Fault::Full)), Change::Write(..)) if index >= nth => Some(sqlite::SQLITE_FULL),
        (Some((nth, Fault::Io)), Change::Write(..)) if index == nth => Some(sqlite::SQLITE_IOERR_WRITE),
        (Some((nth, Fault::Io)), Change::Sync) if index == nth => Some(sqlite::SQLITE_IOERR_FSYNC),
        (Some((nth, Fault::Io)), Change::Truncate(_)) if index == nth => Some(sqlite::SQLITE_IOERR_TRUNCATE),
        _ => None,
    };
    state.hit |= code.is_some();
    if code.is_none() {
        let watched = state.watched.as_ref().and_then(|path| fs::read(path).ok());
        state.log.push(Entry {
            file: file.to_owned(),
            change,
            watched,
        });
    }
    code
}

fn name_of(path: *const c_char) -> String {
    if path.is_null() {
        return String::new();
    }
    // SAFETY: SQLite passes a terminated string that lives for the call.
    let path = Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes()));
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

unsafe fn shim(vfs: *mut sqlite::sqlite3_vfs) -> &'static Shim {
    // SAFETY: `register` put a leaked `Shim` there.
    unsafe { &*(*vfs).pAppData.cast::<Shim>() }
}

unsafe extern "C" fn open(
    vfs: *mut sqlite::sqlite3_vfs,
    path: sqlite::sqlite3_filename,
    file: *mut sqlite::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: SQLite allocated `szOsFile` bytes for `file`: ours first, then the real one's.
    unsafe {
        let shim = shim(vfs);
        let ours = file.cast::<ShimFile>();
        (*ours).base.pMethods = ptr::null();
        (*ours).about = ptr::null_mut();
        let existed = !path.is_null()
            && is_known(
                &shim.state,
                Path::new(OsStr::from_bytes(CStr::from_ptr(path).to_bytes())),
            );
        let code = (*shim.real).xOpen.unwrap()(shim.real, path, real(file), flags, out_flags);
        if code != sqlite::SQLITE_OK {
            return code;
        }
        let about = About {
            file: name_of(path),
            state: Arc::clone(&shim.state),
            is_new: Cell::new(true),
        };
        if !existed {
            change(&about.state, &about.file, Change::Create);
        }
        (*ours).about = Box::into_raw(Box::new(about));
        (*ours).base.pMethods = &raw const METHODS;
        code
    }
}

unsafe extern "C" fn delete(vfs: *mut sqlite::sqlite3_vfs, path: *const c_char, sync: c_int) -> c_int {
    // SAFETY: passed on as it came.
    unsafe {
        let shim = shim(vfs);
        change(&shim.state, &name_of(path), Change::Delete);
        DIRECTORY_SYNCED.set(false);
        let code = (*shim.real).xDelete.unwrap()(shim.real, path, sync);
        directory_synced(&shim.state);
        code
    }
}

unsafe extern "C" fn access(
    vfs: *mut sqlite::sqlite3_vfs,
    path: *const c_char,
    flags: c_int,
    result: *mut c_int,
) -> c_int {
    // SAFETY: passed on as it came.
    unsafe {
        let real = shim(vfs).real;
        (*real).xAccess.unwrap()(real, path, flags, result)
    }
}

unsafe extern "C" fn full_pathname(
    vfs: *mut sqlite::sqlite3_vfs,
    path: *const c_char,
    length: c_int,
    result: *mut c_char,
) -> c_int {
    // SAFETY: passed on as it came.
    unsafe {
        let real = shim(vfs).real;
        (*real).xFullPathname.unwrap()(real, path, length, result)
    }
}

/// The real file behind ours.
unsafe fn real(file: *mut sqlite::sqlite3_file) -> *mut sqlite::sqlite3_file {
    // SAFETY: it lies behind ours in the same allocation.
    unsafe { file.cast::<ShimFile>().add(1).cast() }
}

unsafe fn about<'a>(file: *mut sqlite::sqlite3_file) -> &'a About {
    // SAFETY: `open` set it before it gave the file its methods.
    unsafe { &*(*file.cast::<ShimFile>()).about }
}

/// Calls a method of the real file.
macro_rules! pass_on {
    ($file:expr, $method:ident $(, $argument:expr)*) => {{
        // SAFETY: the real file was opened by its VFS, which gave it its methods; the arguments come from SQLite.
        unsafe {
            let real = real($file);
            (*(*real).pMethods).$method.unwrap()(real $(, $argument)*)
        }
    }};
}

type File = *mut sqlite::sqlite3_file;

unsafe extern "C" fn close(file: File) -> c_int {
    let code = pass_on!(file, xClose);
    // SAFETY: made by `open`, and SQLite closes a file once.
    unsafe {
        let ours = file.cast::<ShimFile>();
        drop(Box::from_raw((*ours).about));
        (*ours).about = ptr::null_mut();
    }
    code
}

unsafe extern "C" fn read(file: File, buffer: *mut c_void, amount: c_int, offset: sqlite::sqlite3_int64) -> c_int {
    pass_on!(file, xRead, buffer, amount, offset)
}

unsafe extern "C" fn write(file: File, buffer: *const c_void, amount: c_int, offset: sqlite::sqlite3_int64) -> c_int {
    // SAFETY: SQLite passes `amount` readable bytes.
    let bytes = unsafe { std::slice::from_raw_parts(buffer.cast::<u8>(), usize::try_from(amount).unwrap()) };
    // SAFETY: the file is open.
    let about = unsafe { about(file) };
    let written = Change::Write(usize::try_from(offset).unwrap(), bytes.to_vec());
    match change(&about.state, &about.file, written) {
        Some(code) => code,
        None => pass_on!(file, xWrite, buffer, amount, offset),
    }
}

unsafe extern "C" fn truncate(file: File, size: sqlite::sqlite3_int64) -> c_int {
    // SAFETY: the file is open.
    let about = unsafe { about(file) };
    match change(
        &about.state,
        &about.file,
        Change::Truncate(usize::try_from(size).unwrap()),
    ) {
        Some(code) => code,
        None => pass_on!(file, xTruncate, size),
    }
}

unsafe extern "C" fn sync(file: File, flags: c_int) -> c_int {
    // SAFETY: the file is open.
    let about = unsafe { about(file) };
    if let Some(code) = change(&about.state, &about.file, Change::Sync) {
        return code;
    }
    // The log is the disk: the real one need not be waited for, but for what it does with the directory the first time.
    if !about.is_new.replace(false) {
        return sqlite::SQLITE_OK;
    }
    DIRECTORY_SYNCED.set(false);
    let code = pass_on!(file, xSync, flags);
    directory_synced(&about.state);
    code
}

unsafe extern "C" fn file_size(file: File, size: *mut sqlite::sqlite3_int64) -> c_int {
    pass_on!(file, xFileSize, size)
}
unsafe extern "C" fn lock(file: File, level: c_int) -> c_int {
    pass_on!(file, xLock, level)
}
unsafe extern "C" fn unlock(file: File, level: c_int) -> c_int {
    pass_on!(file, xUnlock, level)
}
unsafe extern "C" fn check_reserved_lock(file: File, result: *mut c_int) -> c_int {
    pass_on!(file, xCheckReservedLock, result)
}
unsafe extern "C" fn file_control(file: File, operation: c_int, argument: *mut c_void) -> c_int {
    pass_on!(file, xFileControl, operation, argument)
}
unsafe extern "C" fn sector_size(file: File) -> c_int {
    pass_on!(file, xSectorSize)
}
unsafe extern "C" fn device_characteristics(_file: File) -> c_int {
    // No promise at all: not even that a power loss spares the neighbours of what was written.
    0
}
unsafe extern "C" fn shm_map(file: File, page: c_int, size: c_int, extend: c_int, memory: *mut *mut c_void) -> c_int {
    pass_on!(file, xShmMap, page, size, extend, memory)
}
unsafe extern "C" fn shm_lock(file: File, offset: c_int, n: c_int, flags: c_int) -> c_int {
    pass_on!(file, xShmLock, offset, n, flags)
}
unsafe extern "C" fn shm_barrier(file: File) {
    pass_on!(file, xShmBarrier);
}
unsafe extern "C" fn shm_unmap(file: File, delete: c_int) -> c_int {
    pass_on!(file, xShmUnmap, delete)
}

/// Version 2: with shared memory, without memory-mapped reads.
static METHODS: sqlite::sqlite3_io_methods = sqlite::sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};
