//! Threads for one purpose that may block: those who wait for files or for name servers never take the threads of others.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::runtime::{Builder, Handle, Runtime};

/// A pool of threads that are started when they are needed and end when they have been idle for a while. Its last owner does
/// not wait for a thread that blocks.
#[derive(Debug)]
pub(super) struct BlockingThreads {
    /// Nothing but its blocking pool is used: nobody drives it.
    runtime: Option<Runtime>,
    handle: Handle,
    left_behind: Arc<AtomicUsize>,
}

impl BlockingThreads {
    /// At most `most` threads of this name.
    ///
    /// # Errors
    ///
    /// The system refuses what a runtime needs.
    pub(super) fn new(name: &str, most: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .thread_name(name)
            .max_blocking_threads(most)
            .build()?;
        Ok(Self {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
            left_behind: Arc::default(),
        })
    }

    /// Where blocking work is given to them.
    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Somebody has gone whose work may still stand in line. He counts until a thread has come to it.
    pub(super) fn leave_behind(&self) {
        let left = Arc::clone(&self.left_behind);
        left.fetch_add(1, Ordering::Relaxed);
        drop(self.handle.spawn_blocking(move || left.fetch_sub(1, Ordering::Relaxed)));
    }

    /// How many have gone whose work no thread has come to.
    pub(super) fn left_behind(&self) -> usize {
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn who_has_gone_counts_until_a_thread_comes_to_his_work() {
        let threads = BlockingThreads::new("test", 1).unwrap();
        let (go_on, wait) = mpsc::channel::<()>();
        drop(threads.handle().spawn_blocking(move || wait.recv().is_ok()));
        threads.leave_behind();
        threads.leave_behind();
        assert_eq!(threads.left_behind(), 2);
        go_on.send(()).unwrap();
        // The only thread comes to this after all that stood in line.
        threads.handle().spawn_blocking(|| ()).await.unwrap();
        assert_eq!(threads.left_behind(), 0);
    }
}
