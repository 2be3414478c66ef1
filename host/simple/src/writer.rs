//! The handles' end of the writer, the one thread that reads and writes the durable store.
//!
//! Commands wait in a bounded channel. The thread (`writer/thread.rs`) takes those that are there, applies them in one
//! transaction, commits once, and only then answers. Invariant: no caller hears of a change that is not on the disk.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
    thread::JoinHandle,
};

use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use self::{
    command::{PendingCommand, PendingOperation, UndeliveredReceipts},
    copy::CopyOrder,
    thread::WriterThread,
};
use super::{clock::StoreTime, operation::StoreOperation, row::StoreFault, rules::StoreRules};
use sandhog_queue::message::QueueName;
use sandhog_queue::{Cause, QueueError};

mod command;
mod commit_window;
mod copy;
mod parked;
mod thread;
mod wait;

pub(crate) use self::{
    copy::{CopyFailure, CopyTicket},
    thread::WriterState,
};

/// The number of commands that may wait for the thread.
const MAX_WAITING: usize = 1024;
/// The number of commands that one transaction takes.
const MAX_BATCH: usize = 512;
/// A transaction takes no further command once its commands move so many bytes.
const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;

/// Why the durable store refuses everything.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreFailed {
    /// A read, a write or a sync failed.
    #[error(
        "the queue store in {} failed: check its disk for errors and free space, then restart the host; \
         everything acknowledged is kept",
        directory.display()
    )]
    Disk {
        /// The data directory.
        directory: PathBuf,
        /// The error of the disk or of `SQLite`.
        #[source]
        source: Cause,
    },
    /// The host closed the store.
    #[error("the queue store in {} is closed", directory.display())]
    Closed {
        /// The data directory.
        directory: PathBuf,
    },
}

/// The handles' end.
#[derive(Debug)]
pub(crate) struct Writer {
    commands: mpsc::Sender<Command>,
    directory: PathBuf,
    failed: Arc<OnceLock<String>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// A message to the thread.
pub(crate) enum Command {
    Apply(Box<dyn PendingCommand>),
    /// A step of a copy of the database, between two transactions.
    Copy(CopyOrder),
    /// There are undelivered receipts to release, or notes to write.
    Wake,
    Close,
}

impl Writer {
    /// Starts the thread.
    pub(crate) fn start(state: WriterState) -> std::io::Result<Self> {
        let (commands, waiting) = mpsc::channel(MAX_WAITING);
        let undelivered = Arc::new(UndeliveredReceipts::new(commands.downgrade()));
        let directory = state.directory.clone();
        let failed = Arc::new(OnceLock::new());
        let mut writer = WriterThread::new(state, undelivered, Arc::clone(&failed));
        let thread = std::thread::Builder::new()
            .name("sandhog-store".into())
            .spawn(move || writer.run(waiting))?;
        Ok(Self {
            commands,
            directory,
            failed,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Asks the thread, and waits for the answer.
    pub(crate) async fn ask<F, A>(&self, queue: &QueueName, operation: StoreOperation<F>) -> Result<A, QueueError>
    where
        F: FnOnce(&mut StoreRules, StoreTime) -> Result<A, StoreFault> + Send + 'static,
        A: Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let pending = PendingOperation {
            kind: operation.kind,
            weight: operation.weight,
            apply: Some(operation.apply),
            answer: None,
            queue: queue.clone(),
            asked_at: Instant::now(),
            reply,
        };
        self.send(queue, Box::new(pending)).await?;
        let guard = answer.await.map_err(|_closed| self.closed(queue))??;
        guard.accept().ok_or_else(|| self.closed(queue))
    }

    async fn send(&self, queue: &QueueName, pending: Box<dyn PendingCommand>) -> Result<(), QueueError> {
        let sent = self.commands.send(Command::Apply(pending)).await;
        sent.map_err(|_closed| self.closed(queue))
    }

    /// Returns why the thread refuses everything, if it does.
    pub(crate) fn failed(&self) -> Option<&str> {
        self.failed.get().map(String::as_str)
    }

    /// Tells the thread that there are notes to write.
    pub(crate) fn wake(&self) {
        // A full channel means that the thread is busy: it looks for notes before it waits again.
        if let Err(error) = self.commands.try_send(Command::Wake) {
            tracing::trace!(%error, "the store's thread will look by itself, or has ended");
        }
    }

    /// Ends the thread once every command before this one is answered.
    pub(crate) async fn close(&self) {
        drop(self.commands.send(Command::Close).await);
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("the queue store's thread panicked");
            }
        }
    }

    fn closed(&self, queue: &QueueName) -> QueueError {
        let cause = StoreFailed::Closed {
            directory: self.directory.clone(),
        };
        QueueError::Failed {
            queue: queue.clone(),
            cause: Arc::new(cause),
        }
    }
}
