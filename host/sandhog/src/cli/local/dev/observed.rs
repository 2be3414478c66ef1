//! An executor that tells of every call: what went in, what came out, and what the guest printed.
//!
//! It stands where the host has the executor, so that what is shown is what the host itself acts on. It changes nothing.

use std::{fmt, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::mpsc};

use crate::rehearsal::RehearsedCall;
use sandhog_executor::{CallReport, Component, Executor, GuestCall, GuestPolicy, LoadError, LogLine};
use sandhog_queue::message::{MessageId, QueueName};

/// One call of a guest.
#[derive(Debug)]
pub(super) struct ObservedCall {
    /// The messages, in the order of the verdicts.
    pub(super) messages: Vec<ObservedMessage>,
    pub(super) invocation: RehearsedCall,
}

/// One message of a call.
#[derive(Debug)]
pub(super) struct ObservedMessage {
    pub(super) id: MessageId,
    pub(super) queue: QueueName,
    pub(super) receive_count: u32,
}

/// Passes every call on, and its report to a channel as well. A guest waits while the channel is full.
pub(super) struct ObservedExecutor {
    inner: Arc<dyn Executor>,
    calls: mpsc::Sender<ObservedCall>,
}

impl ObservedExecutor {
    pub(super) fn new(inner: Arc<dyn Executor>, calls: mpsc::Sender<ObservedCall>) -> Self {
        Self { inner, calls }
    }
}

impl fmt::Debug for ObservedExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObservedExecutor")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Executor for ObservedExecutor {
    async fn load(&self, file: PathBuf, wasm: Bytes, policy: Arc<GuestPolicy>) -> Result<Component, LoadError> {
        self.inner.load(file, wasm, policy).await
    }

    async fn relink(
        &self,
        file: PathBuf,
        component: &Component,
        policy: Arc<GuestPolicy>,
    ) -> Result<Component, LoadError> {
        self.inner.relink(file, component, policy).await
    }

    async fn run(&self, component: &Component, call: GuestCall) -> CallReport {
        let of_message = |message: &sandhog_executor::CallMessage| ObservedMessage {
            id: message.message.id.clone(),
            queue: message.queue.clone(),
            receive_count: message.receive_count,
        };
        let messages = call.messages.iter().map(of_message).collect();
        // The limit on what a guest prints bounds the lines.
        let lines: Arc<Mutex<Vec<LogLine>>> = Arc::default();
        let (sink, log) = (Arc::clone(&lines), Arc::clone(&call.log));
        let both = move |line: LogLine| {
            sink.lock().push(line.clone());
            log(line);
        };
        let log = Arc::new(both);
        let report = self.inner.run(component, GuestCall { log, ..call }).await;
        let log = std::mem::take(&mut *lines.lock());
        let invocation = RehearsedCall {
            report: report.clone(),
            log,
        };
        // Nobody listens once the session has ended.
        drop(self.calls.send(ObservedCall { messages, invocation }).await);
        report
    }

    fn guests(&self) -> Option<Handle> {
        self.inner.guests()
    }

    fn most_at_once(&self, component: &Component, policy: &GuestPolicy) -> usize {
        self.inner.most_at_once(component, policy)
    }

    fn live_instances(&self) -> usize {
        self.inner.live_instances()
    }

    fn idle_instances(&self) -> usize {
        self.inner.idle_instances()
    }
}
