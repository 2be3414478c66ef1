//! The thread that searches a durable store, on a connection of its own, so that no search makes the writer wait.
//!
//! Invariant: each transaction ends within a short time, so that no search keeps the write-ahead log from being emptied. The thread and
//! its connection come with the first search, and end with the store.

use std::{path::PathBuf, sync::Arc, thread::JoinHandle, time::Duration};

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::{
    row::StoreFault,
    search::PeekSearch,
    sqlite::{GlanceConnection, OpenRefusal},
};
use sandhog_queue::Cause;

/// The number of searches that may wait for the thread.
const MAX_WAITING: usize = 16;
/// A page ends after this time, however little was found.
const PAGE_TIME: Duration = Duration::from_secs(1);

/// Why a search came to nothing. Nothing is damaged by it.
#[derive(Debug, thiserror::Error)]
enum SearchFailed {
    #[error("the database could not be opened for reading: {0:?}")]
    Open(OpenRefusal),
    #[error("the thread that reads could not be started")]
    Thread(#[source] std::io::Error),
    #[error("the store is closed")]
    Closed,
}

/// The handles' end.
#[derive(Debug)]
pub(crate) struct PeekReader {
    path: PathBuf,
    vfs: Option<String>,
    thread: Mutex<ReaderThread>,
}

#[derive(Debug)]
enum ReaderThread {
    /// Nobody has searched so far.
    Absent,
    Running {
        jobs: mpsc::Sender<SearchJob>,
        handle: JoinHandle<()>,
    },
    Closed,
}

/// A search and its way back.
#[derive(Debug)]
struct SearchJob {
    search: PeekSearch,
    reply: oneshot::Sender<Result<PeekSearch, Cause>>,
}

impl PeekReader {
    pub(crate) fn new(path: PathBuf, vfs: Option<String>) -> Self {
        Self {
            path,
            vfs,
            thread: Mutex::new(ReaderThread::Absent),
        }
    }

    /// Searches until the page is full, everything was looked at, or the time of a page is over.
    pub(crate) async fn search(&self, search: PeekSearch) -> Result<PeekSearch, Cause> {
        let jobs = self.jobs()?;
        let (reply, answer) = oneshot::channel();
        let closed = || -> Cause { Arc::new(SearchFailed::Closed) };
        jobs.send(SearchJob { search, reply }).await.map_err(|_| closed())?;
        drop(jobs);
        answer.await.map_err(|_| closed())?
    }

    /// Returns the way to the thread, which is started for the first search.
    fn jobs(&self) -> Result<mpsc::Sender<SearchJob>, Cause> {
        let mut thread = self.thread.lock();
        match &*thread {
            ReaderThread::Running { jobs, .. } => Ok(jobs.clone()),
            ReaderThread::Closed => Err(Arc::new(SearchFailed::Closed)),
            ReaderThread::Absent => {
                let (jobs, waiting) = mpsc::channel(MAX_WAITING);
                let mut reader = SearchThread {
                    path: self.path.clone(),
                    vfs: self.vfs.clone(),
                    connection: None,
                    rests_until: None,
                };
                let handle = std::thread::Builder::new()
                    .name("sandhog-peek".into())
                    .spawn(move || reader.run(waiting))
                    .map_err(|error| -> Cause { Arc::new(SearchFailed::Thread(error)) })?;
                *thread = ReaderThread::Running {
                    jobs: jobs.clone(),
                    handle,
                };
                Ok(jobs)
            }
        }
    }

    /// Ends the thread once the searches before are answered.
    pub(crate) async fn close(&self) {
        let thread = std::mem::replace(&mut *self.thread.lock(), ReaderThread::Closed);
        if let ReaderThread::Running { jobs, handle } = thread {
            drop(jobs);
            let joined = tokio::task::spawn_blocking(move || handle.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("the thread that searches the queue store panicked");
            }
        }
    }
}

/// The thread's end.
struct SearchThread {
    path: PathBuf,
    vfs: Option<String>,
    connection: Option<GlanceConnection>,
    /// No transaction begins before.
    rests_until: Option<std::time::Instant>,
}

impl SearchThread {
    fn run(&mut self, mut waiting: mpsc::Receiver<SearchJob>) {
        while let Some(SearchJob { mut search, reply }) = waiting.blocking_recv() {
            let done = self.search(&mut search, &reply);
            // A caller that went away needs no answer.
            drop(reply.send(done.map(|()| search)));
        }
    }

    fn search(
        &mut self,
        search: &mut PeekSearch,
        reply: &oneshot::Sender<Result<PeekSearch, Cause>>,
    ) -> Result<(), Cause> {
        #[expect(
            clippy::disallowed_methods,
            reason = "a thread without a runtime, in the time of the machine"
        )]
        let now = std::time::Instant::now;
        let end = now() + PAGE_TIME;
        let connection = match &mut self.connection {
            Some(connection) => connection,
            absent => {
                let opened = GlanceConnection::open(&self.path, self.vfs.as_deref());
                absent.insert(opened.map_err(|refusal| -> Cause { Arc::new(SearchFailed::Open(refusal)) })?)
            }
        };
        while !search.is_done() && !reply.is_closed() && now() < end {
            while let Some(rest) = self.rests_until.and_then(|until| until.checked_duration_since(now())) {
                if rest.is_zero() {
                    break;
                }
                std::thread::park_timeout(rest);
            }
            let began = now();
            if let Err(StoreFault { cause, .. }) = connection.look_at_some(search) {
                // The next search begins with a new connection.
                self.connection = None;
                return Err(cause);
            }
            // The writer can empty its log while nobody reads: half of the time, however many search.
            self.rests_until = Some(now() + began.elapsed());
        }
        Ok(())
    }
}
