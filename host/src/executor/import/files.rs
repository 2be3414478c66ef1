//! `wasi:filesystem`: the granted directories in WASI 0.2, and none in 0.3.
//!
//! The engine's own functions do the work. What stands here bounds what they can make the host keep: paths before anything is
//! done with them, open files and streams, what a stream buffers, the entries of a directory, and the threads that wait for
//! the disk, of which each handler has its own. The functions of 0.3 park a thread for each directory that is read, and hold
//! paths of any length while they wait, which nobody outside of the engine can bound: there no directory is offered.

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
use super::super::{LogStream, Policy, instance::GuestState, output::OutputAccount, threads::BlockingThreads};

mod account;
mod descriptor;
mod entries;
mod streams;

/// The longest path, in bytes, as on Linux. A longer one is refused before a thread is asked for.
const MAX_PATH_BYTES: usize = 4096;
/// What a file's stream reads or writes at a time, which waits in the host's memory.
const BUFFER_BYTES: u64 = 64 * 1024;
/// What is written to a file by one call; the guest is told how much it was.
const MAX_WRITE_BYTES: usize = 1024 * 1024;
/// Threads that wait for the files of one handler, at most.
const THREADS: usize = 8;
/// Attempts of one handler that have ended while their work stands in line for those threads, at most.
const LEFT_BEHIND: usize = 16;

/// Files, directories and streams that an attempt may have open at a time: those that it opens, and its granted directories,
/// which it may ask for once more.
pub(in crate::executor) fn most_open(policy: &Policy) -> u64 {
    match u64::try_from(policy.grants.dirs.len()).unwrap_or(u64::MAX) {
        0 => 0,
        // The host's own handle of each, and what the guest has.
        dirs => policy.limits.open_files.saturating_add(dirs.saturating_mul(2)),
    }
}

/// What an attempt can make the host hold of files, in bytes: a buffer for each.
pub(in crate::executor) fn worst_case(policy: &Policy) -> u64 {
    most_open(policy).saturating_mul(BUFFER_BYTES)
}

/// The threads for the files of one handler; `None` if it is granted no directory.
pub(in crate::executor) fn threads(policy: &Policy) -> io::Result<Option<Arc<BlockingThreads>>> {
    if policy.grants.dirs.is_empty() {
        return Ok(None);
    }
    BlockingThreads::new("sandhog-file", THREADS).map(|threads| Some(Arc::new(threads)))
}

/// What a store carries for `wasi:filesystem`.
pub(in crate::executor) struct FilesState {
    /// Those that the limit allows, and a handle of each granted directory.
    open: OpenFiles,
    limit: u64,
    threads: Option<Arc<BlockingThreads>>,
    output: Arc<OutputAccount>,
    /// Operations that have begun and not ended.
    under_way: usize,
    /// The handles of granted directories, which a guest may keep for as long as it lives.
    granted: HashSet<u32>,
    /// What the functions of 0.3 see: a context without directories, and a table in which no handle of 0.2 is.
    nothing: (WasiFilesystemCtx, ResourceTable),
}

impl FilesState {
    pub(in crate::executor) fn new(
        policy: &Policy,
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

    /// Whether the guest has nothing open but granted directories.
    pub(in crate::executor) fn are_closed(&self) -> bool {
        self.open.held() <= self.granted.len()
    }
}

impl Drop for FilesState {
    fn drop(&mut self) {
        // What it gave to the threads, they have still.
        if let Some(threads) = &self.threads
            && (self.under_way > 0 || !self.are_closed())
        {
            threads.leave_behind();
        }
    }
}

/// Refuses one more attempt of a handler whose files don't answer: each would leave something in the line of its threads.
pub(in crate::executor) fn answer(threads: Option<&Arc<BlockingThreads>>) -> Result<(), String> {
    match threads.map(|threads| threads.left_behind()) {
        Some(left @ LEFT_BEHIND..) => Err(format!(
            "the files of its granted directories don't answer: {left} attempts have ended while they waited for them"
        )),
        Some(_) | None => Ok(()),
    }
}

/// The files of an instance, and its handles.
pub(in crate::executor) struct Files<'a> {
    files: WasiFilesystemCtxView<'a>,
    state: &'a mut FilesState,
}

/// As [`Files`], with nothing behind it.
struct NoFiles<'a>(&'a mut FilesState);

struct HasFiles;

impl HasData for HasFiles {
    type Data<'a> = Files<'a>;
}

struct HasNoFiles;

impl HasData for HasNoFiles {
    type Data<'a> = NoFiles<'a>;
}

pub(super) fn add_to_linker(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    // Those of the engine are there already.
    linker.allow_shadowing(true);
    let added = add_bounded(linker);
    linker.allow_shadowing(false);
    added
}

fn add_bounded(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    let files: fn(&mut GuestState) -> Files<'_> = GuestState::opened;
    types::add_to_linker::<_, HasFiles>(linker, files)?;
    preopens::add_to_linker::<_, HasFiles>(linker, files)?;
    p3::types::add_to_linker::<_, WasiFilesystem>(linker, |state| {
        let (ctx, table) = &mut state.files.nothing;
        WasiFilesystemCtxView { ctx, table }
    })?;
    p3::preopens::add_to_linker::<_, HasNoFiles>(linker, |state| NoFiles(&mut state.files))
}

impl<'a> Files<'a> {
    pub(in crate::executor) fn new(files: WasiFilesystemCtxView<'a>, state: &'a mut FilesState) -> Self {
        Self { files, state }
    }

    /// Where blocking work of this handler goes.
    fn threads(&self) -> Option<Handle> {
        self.state.threads.as_ref().map(|threads| threads.handle().clone())
    }

    /// Counts one more that is open.
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

/// Refuses what no system takes as a path.
fn check(path: &str) -> FsResult<()> {
    if path.len() > MAX_PATH_BYTES {
        return Err(types::ErrorCode::NameTooLong.into());
    }
    Ok(())
}

/// Waits for work of the engine, which gives what blocks to the threads of whoever polls it.
///
/// # Cancel safety
///
/// Safe; an operation under way ends in the background.
async fn on<F: Future>(threads: Option<Handle>, work: F) -> F::Output {
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
        assert!(check(&"a".repeat(MAX_PATH_BYTES)).is_ok());
        assert!(check(&"a".repeat(MAX_PATH_BYTES + 1)).is_err());
    }
}
