//! Threads for one purpose that may block, so that waiting for files or for name servers never takes the threads of other work.
//!
//! Invariant: each pool has a thread from its making to its end. So work never fails for want of a thread: it waits in the queue
//! if the machine denies another one.

use std::{
    io,
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::runtime::{Builder, Handle, Runtime};

use crate::threads;

/// A pool of threads: the first is there from the beginning, and others are started when they are needed. Threads never end
/// early: if the last one ended, and the machine denied a new one, the next work would panic. The drop of the pool does not
/// wait for a thread that blocks.
#[derive(Debug)]
pub(crate) struct BlockingThreads {
    /// Only the blocking pool of this runtime is used; no thread drives the runtime itself.
    runtime: Option<Runtime>,
    handle: Handle,
    left_behind: Arc<AtomicUsize>,
}

impl BlockingThreads {
    /// Makes a pool of at most `most` threads of this name, and starts one.
    ///
    /// # Errors
    ///
    /// The system refuses what a runtime needs, or the first thread.
    pub(crate) fn new(name: &str, most: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .thread_name(name)
            .max_blocking_threads(most)
            .thread_keep_alive(Duration::MAX)
            .build()?;
        let this = Self {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
            left_behind: Arc::default(),
        };
        // An attempt without this check would panic, and print the panic.
        threads::check_for(1).map_err(io::Error::other)?;
        if !this.begin(|| ()) {
            return Err(io::Error::other("the machine did not let their first thread start"));
        }
        Ok(this)
    }

    /// Gives work to the threads, without waiting for it. Never panics. Returns whether there is a thread for the work.
    fn begin(&self, work: impl FnOnce() + Send + 'static) -> bool {
        let begin = AssertUnwindSafe(|| drop(self.handle.spawn_blocking(work)));
        panic::catch_unwind(begin).is_ok()
    }

    /// Returns the runtime that blocking work is given to.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Counts an attempt that has ended while its work may still be in the queue, until a thread has come to that work. Never
    /// panics: the attempt may be unwinding.
    pub(crate) fn leave_behind(&self) {
        let left = LeftBehind::new(&self.left_behind);
        self.begin(move || drop(left));
    }

    /// Returns the number of ended attempts whose work no thread has come to.
    pub(crate) fn left_behind(&self) -> usize {
        self.left_behind.load(Ordering::Relaxed)
    }
}

impl Drop for BlockingThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Counts one ended attempt until it is dropped.
struct LeftBehind(Arc<AtomicUsize>);

impl LeftBehind {
    fn new(left: &Arc<AtomicUsize>) -> Self {
        left.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(left))
    }
}

impl Drop for LeftBehind {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn an_ended_attempt_counts_until_a_thread_comes_to_its_work() {
        let threads = BlockingThreads::new("test", 1).unwrap();
        let (go_on, wait) = mpsc::channel::<()>();
        drop(threads.handle().spawn_blocking(move || wait.recv().is_ok()));
        threads.leave_behind();
        threads.leave_behind();
        assert_eq!(threads.left_behind(), 2);
        go_on.send(()).unwrap();
        // The only thread comes to this after everything in the queue.
        threads.handle().spawn_blocking(|| ()).await.unwrap();
        assert_eq!(threads.left_behind(), 0);
    }

    /// Makes the system deny every thread that the calling thread would start.
    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn deny_threads() {
        use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

        let rules = [libc::SYS_clone, libc::SYS_clone3].map(|call| (call, Vec::new()));
        let again = SeccompAction::Errno(libc::EAGAIN.unsigned_abs());
        let arch = std::env::consts::ARCH.try_into().unwrap();
        let filter = SeccompFilter::new(rules.into(), SeccompAction::Allow, again, arch).unwrap();
        let program = BpfProgram::try_from(filter).unwrap();
        seccompiler::apply_filter(&program).unwrap();
    }

    // The machine had as many threads as it may: the next call of a file panicked, and then the cleanup after it.
    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
    #[test]
    fn a_thread_that_is_denied_fails_no_work_and_no_ended_attempt() {
        let denied = std::thread::spawn(|| {
            let threads = BlockingThreads::new("test", 8).unwrap();
            let control = Builder::new_current_thread().build().unwrap();
            deny_threads();
            let refused = BlockingThreads::new("test", 8).unwrap_err().to_string();
            assert!(refused.contains("pids limit"), "{refused}");
            let done: Vec<_> = (0..8).map(|_| threads.handle().spawn_blocking(|| ())).collect();
            for done in done {
                control.block_on(done).unwrap();
            }
            let (go_on, wait) = mpsc::channel::<()>();
            drop(threads.handle().spawn_blocking(move || wait.recv().is_ok()));
            threads.leave_behind();
            assert_eq!(threads.left_behind(), 1);
            go_on.send(()).unwrap();
            control.block_on(threads.handle().spawn_blocking(|| ())).unwrap();
            assert_eq!(threads.left_behind(), 0);
        });
        denied.join().unwrap();
    }
}
