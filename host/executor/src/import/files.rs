//! `wasi:filesystem`: the granted directories in WASI 0.2, and none in 0.3.
//!
//! The engine's own functions do the work. This module bounds what they can make the host keep: the length of paths, open files
//! and streams, the buffers of streams, the entries of a directory, and the threads that wait for the disk, of which each
//! handler has its own. The functions of 0.3 park a thread for each directory that is read, and hold paths of any length while
//! they wait. The host can't bound that from outside of the engine, so it offers no directory there.

use std::{
    collections::HashSet,
    future::{Future, poll_fn},
    io,
    pin::pin,
    sync::Arc,
};

use tokio::runtime::Handle;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::{
    filesystem::{Descriptor, WasiFilesystem, WasiFilesystemCtx, WasiFilesystemCtxView},
    p2::{
        FsResult,
        bindings::filesystem::{preopens, types},
    },
    p3::bindings::filesystem as p3,
};

use self::account::{OpenFile, OpenFiles};
use super::super::{GuestPolicy, LogStream, blocking_threads::BlockingThreads, output::OutputAccount};

mod account;
mod descriptor;
mod entries;
mod streams;

/// The longest path, in bytes, as on Linux. A longer path is refused before a thread is asked for.
const MAX_PATH_BYTES: usize = 4096;
/// The bytes that a file's stream reads or writes at a time, which wait in the host's memory.
const BUFFER_BYTES: u64 = 64 * 1024;
/// The most bytes that one call writes to a file; the guest is told the number.
const MAX_WRITE_BYTES: usize = 1024 * 1024;
/// The most threads that wait for the files of one handler.
const THREADS: usize = 8;
/// The most attempts of one handler that have ended while their work is in the queue for those threads.
const LEFT_BEHIND: usize = 16;

/// Returns the most files, directories and streams that an attempt may have open at a time: those that it opens, and its granted
/// directories, which it may ask for once more.
pub(crate) fn most_open(policy: &GuestPolicy) -> u64 {
    match u64::try_from(policy.grants.dirs.len()).unwrap_or(u64::MAX) {
        0 => 0,
        // The host has a handle of each directory, and the guest another.
        dirs => policy.limits.open_files.saturating_add(dirs.saturating_mul(2)),
    }
}

/// Returns the most bytes that an attempt can make the host hold for files: a buffer for each.
pub(crate) fn worst_case(policy: &GuestPolicy) -> u64 {
    most_open(policy).saturating_mul(BUFFER_BYTES)
}

/// Starts the threads for the files of one handler. `None` if the handler is granted no directory.
///
/// # Errors
///
/// The machine lets no thread start.
pub(crate) fn threads(policy: &GuestPolicy) -> io::Result<Option<Arc<BlockingThreads>>> {
    if policy.grants.dirs.is_empty() {
        return Ok(None);
    }
    BlockingThreads::new("sandhog-file", THREADS).map(|threads| Some(Arc::new(threads)))
}

/// The state of `wasi:filesystem` in a store.
pub(crate) struct FilesState {
    /// Counts the files that the limit allows, and a handle of each granted directory.
    open: OpenFiles,
    limit: u64,
    threads: Option<Arc<BlockingThreads>>,
    output: Arc<OutputAccount>,
    /// The number of operations that have begun and not ended.
    under_way: usize,
    /// The handles of granted directories, which a guest may keep for as long as it lives.
    granted: HashSet<u32>,
    /// The view of the functions of 0.3: a context without directories, and a table without handles of 0.2.
    nothing: (WasiFilesystemCtx, ResourceTable),
}

impl FilesState {
    pub(crate) fn new(
        policy: &GuestPolicy,
        threads: Option<&Arc<BlockingThreads>>,
        output: &Arc<OutputAccount>,
    ) -> Self {
        let dirs = u64::try_from(policy.grants.dirs.len()).unwrap_or(u64::MAX);
        Self {
            open: OpenFiles::new(policy.limits.open_files.saturating_add(dirs)),
            limit: policy.limits.open_files,
            threads: threads.cloned(),
            output: Arc::clone(output),
            under_way: 0,
            granted: HashSet::new(),
            nothing: (WasiFilesystemCtx::default(), ResourceTable::new()),
        }
    }

    /// Returns whether the guest has nothing open but granted directories.
    pub(crate) fn are_closed(&self) -> bool {
        self.open.held() <= self.granted.len()
    }
}

impl Drop for FilesState {
    fn drop(&mut self) {
        // The threads still have the work of operations under way.
        if let Some(threads) = &self.threads
            && (self.under_way > 0 || !self.are_closed())
        {
            threads.leave_behind();
        }
    }
}

/// Refuses another attempt of a handler whose files don't answer: each attempt would leave more work in the queue of its
/// threads.
///
/// # Errors
///
/// [`LEFT_BEHIND`] attempts have ended while their work waited for a thread.
pub(crate) fn check_threads(threads: Option<&Arc<BlockingThreads>>) -> Result<(), String> {
    match threads.map(|threads| threads.left_behind()) {
        Some(left @ LEFT_BEHIND..) => Err(format!(
            "the files of its granted directories don't answer: {left} attempts have ended while they waited for them"
        )),
        Some(_) | None => Ok(()),
    }
}

/// The files of an instance and its handles, for as long as one call of an import.
pub(crate) struct Files<'a> {
    files: WasiFilesystemCtxView<'a>,
    state: &'a mut FilesState,
}

/// The files of a guest that asks for them in 0.3: none.
struct NoFiles<'a>(&'a mut FilesState);

struct HasFiles;

impl HasData for HasFiles {
    type Data<'a> = Files<'a>;
}

struct HasNoFiles;

impl HasData for HasNoFiles {
    type Data<'a> = NoFiles<'a>;
}

/// The data of a store whose guest has files.
pub(crate) trait FilesView: Send {
    /// Returns the view of the files of WASI 0.2.
    fn files(&mut self) -> Files<'_>;

    /// Returns the state alone, which is all that the functions of WASI 0.3 see.
    fn files_state(&mut self) -> &mut FilesState;
}

/// Links `wasi:filesystem`. Takes the place of the engine's own functions, which must be linked before.
pub(crate) fn add_to_linker<T: FilesView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let added = add_bounded(linker);
    linker.allow_shadowing(false);
    added
}

fn add_bounded<T: FilesView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    types::add_to_linker::<_, HasFiles>(linker, T::files)?;
    preopens::add_to_linker::<_, HasFiles>(linker, T::files)?;
    p3::types::add_to_linker::<_, WasiFilesystem>(linker, |state| {
        let (ctx, table) = &mut state.files_state().nothing;
        WasiFilesystemCtxView { ctx, table }
    })?;
    p3::preopens::add_to_linker::<_, HasNoFiles>(linker, |state| NoFiles(state.files_state()))
}

impl<'a> Files<'a> {
    pub(crate) fn new(files: WasiFilesystemCtxView<'a>, state: &'a mut FilesState) -> Self {
        Self { files, state }
    }

    /// Returns the runtime that takes the blocking work of this handler.
    fn threads(&self) -> Option<Handle> {
        self.state.threads.as_ref().map(|threads| threads.handle().clone())
    }

    /// Counts one more open file, directory or stream.
    fn open(&self) -> FsResult<OpenFile> {
        self.state.open.take().ok_or_else(|| {
            let limit = self.state.limit;
            self.state.output.log(
                LogStream::Host,
                &format!("it has as many files, directories and streams open as it may, {limit} (limits.open-files)"),
            );
            types::ErrorCode::Quota.into()
        })
    }
}

/// Refuses a path that no system takes.
fn check_path(path: &str) -> FsResult<()> {
    if path.len() > MAX_PATH_BYTES {
        return Err(types::ErrorCode::NameTooLong.into());
    }
    Ok(())
}

/// Waits for work of the engine, whose blocking parts run on `threads`: the engine gives them to the runtime that polls it.
///
/// # Cancel safety
///
/// Safe; an operation under way ends in the background.
async fn with_threads<F: Future>(threads: Option<Handle>, work: F) -> F::Output {
    let mut work = pin!(work);
    poll_fn(|cx| {
        let _threads = threads.as_ref().map(Handle::enter);
        work.as_mut().poll(cx)
    })
    .await
}

impl preopens::Host for Files<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        let granted = preopens::Host::get_directories(&mut self.files)?;
        for (directory, _) in &granted {
            let open = self.state.open.take();
            open.ok_or_else(|| wasmtime::Error::msg("it has more directories open than it may (limits.open-files)"))?
                .until_given_back();
            self.state.granted.insert(directory.rep());
        }
        Ok(granted)
    }
}

impl p3::preopens::Host for NoFiles<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        if self.0.threads.is_some() {
            self.0.output.log(
                LogStream::Host,
                "its granted directories are there in wasi:filesystem 0.2 only, and it asked for them in 0.3: build it for WASI 0.2",
            );
        }
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_refused_when_it_is_longer_than_the_system_takes() {
        assert!(check_path(&"a".repeat(MAX_PATH_BYTES)).is_ok());
        assert!(check_path(&"a".repeat(MAX_PATH_BYTES + 1)).is_err());
    }
}
