//! Amazon SQS as a queue, through its API: nothing here keeps a message but its server.
//!
//! [`SqsConnection`] knows how to reach SQS, [`SqsQueue`] is one queue of it. How a message is written on SQS is in
//! `sqs/form.rs`; what is learnt of a queue in `sqs/facts.rs`; how long a call may take with what makes it. Only
//! `sqs/wire.rs`, `sqs/failure.rs` and `sqs/connection.rs` name the SDK.
//!
//! Every failure is [`QueueError::Unavailable`]: credentials, permissions, queues and networks are repaired while the
//! host runs, and it goes on by itself then. The cause says what to do.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::time::timeout;

use self::{receive::Poller, remote::Remote, settings::SqsSettings, settle::Settler, tasks::Tasks};
use super::{
    Counts, DeadLetter, Delivery, Effects, ExtendError, QueueCapabilities, Queue, QueueError, Receipt, SendError, Settle,
    SettleError,
};
use crate::message::{Message, MessageId, Outgoing, QueueName};

mod asked;
mod batch;
mod connection;
mod counts;
mod dead;
mod ending;
mod exhausted;
mod facts;
mod failure;
mod form;
mod held;
mod letters;
mod metrics;
mod provenance;
mod receive;
mod redrive;
mod remote;
mod send;
pub mod settings;
mod settle;
mod tasks;
mod wire;

pub use connection::SqsConnection;
pub use metrics::SqsMetrics;

/// How long the end of a queue waits for its tasks at most, and how long for steps that may not be cut.
const CLOSE_TIME: Duration = Duration::from_secs(2);
const STEP_TIME: Duration = Duration::from_secs(4);

/// One SQS queue.
///
/// A settlement waits up to 20 ms for others to share its request, unless every delivery that is held is being settled. A
/// release is counted as a receive, since SQS does not take it back. What an operation had begun when the queue is
/// dropped may or may not be done; only a send and the deletion that belongs to it are never torn apart while the process lasts.
#[derive(Debug)]
pub struct SqsQueue {
    remote: Arc<Remote>,
    poller: Poller,
    settler: Settler,
    tasks: Tasks,
}

/// What a handler sees of a message that a server hands out in these words, of which `sqs/wire.rs` has the names. For tests that
/// try any words: a queue reads from its server.
#[doc(hidden)]
pub fn read_words(words: &[(&str, &[u8])]) -> Option<Message> {
    let received = wire::of_words(words)?;
    let (id, sent_at_ms) = (MessageId::from_queue(&received.id), received.sent_at_ms);
    let content = form::open(received).content;
    // It may have to go on to another queue.
    drop(content.sendable());
    Some(content.message(id, sent_at_ms))
}

impl SqsQueue {
    fn new(remote: Arc<Remote>) -> Self {
        let tasks = Tasks::default();
        Self {
            poller: Poller::new(Arc::clone(&remote), tasks.clone()),
            settler: Settler::new(Arc::clone(&remote), tasks.clone()),
            remote,
            tasks,
        }
    }

    fn remote(&self) -> &Arc<Remote> {
        &self.remote
    }

    /// The settings that it was made with.
    pub fn settings(&self) -> &SqsSettings {
        &self.remote.settings
    }
}

impl Drop for SqsQueue {
    fn drop(&mut self) {
        self.tasks.end();
    }
}

#[async_trait]
impl Queue for SqsQueue {
    fn name(&self) -> &QueueName {
        &self.remote.name
    }

    /// The configured one, else the queue's own as last learnt, else 30 s.
    fn visibility_timeout(&self) -> Duration {
        self.remote.visibility_timeout()
    }

    fn capabilities(&self) -> QueueCapabilities {
        self.remote.capabilities()
    }

    /// # Cancel safety
    ///
    /// Safe. The request goes on for a second, for the next receive to take over; what it brings while nobody waits is
    /// released. If nobody comes the connection is dropped, and if the queue is dropped it is dropped at once: a message
    /// in transit then stays hidden for one visibility timeout. Every receive is counted.
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, QueueError> {
        self.poller.receive(max, wait).await
    }

    async fn extend(&self, receipts: Vec<Receipt>, by: Duration) -> Vec<Result<(), ExtendError>> {
        self.remote.extend(receipts, by).await
    }

    /// Takes no effects: SQS has no transactions.
    async fn settle(&self, settles: Vec<Settle>, effects: Effects) -> Vec<Result<(), SettleError>> {
        debug_assert!(effects.is_empty(), "it says that it commits neither sends nor writes");
        if !effects.is_empty() {
            return vec![Err(SettleError::Incomplete); settles.len()];
        }
        self.settler.settle(settles).await
    }

    fn commits_sends_to(&self, _destination: &QueueName) -> bool {
        false
    }

    async fn check_sends(&self, messages: &[Outgoing]) -> Result<(), SendError> {
        self.remote.check_sends(messages).await
    }

    async fn send_many(&self, messages: Vec<Outgoing>) -> Vec<Result<MessageId, SendError>> {
        self.remote.send_many(messages).await
    }

    /// As SQS counts, which is approximate. The age of the oldest message is not known.
    async fn counts(&self) -> Result<Counts, QueueError> {
        self.remote.counts().await
    }

    /// Once in 60 s. The answer is what SQS counted before.
    async fn purge(&self) -> Result<u64, QueueError> {
        self.remote.purge().await
    }

    async fn dead_letters(&self, after: Option<MessageId>, limit: usize) -> Result<Vec<DeadLetter>, QueueError> {
        match after {
            // SQS has no place to go on from: the first page is all that there is.
            Some(_) => Ok(Vec::new()),
            None => self.remote.dead_letters(limit).await,
        }
    }

    async fn dead_letter(&self, id: &MessageId) -> Result<Option<DeadLetter>, QueueError> {
        self.remote.dead_letter(id).await
    }

    async fn redrive(&self, ids: Option<Vec<MessageId>>, limit: usize) -> Result<u64, QueueError> {
        self.remote.redrive(&self.tasks, ids, limit).await
    }

    async fn purge_dead(&self) -> Result<u64, QueueError> {
        self.remote.purge_dead(&self.tasks).await
    }

    async fn close(&self) {
        self.settler.close();
        self.tasks.close();
        // An abandoned call is given up after a second, and what it brought is released within another one.
        let tasks = timeout(CLOSE_TIME, self.tasks.done());
        let steps = timeout(STEP_TIME, self.tasks.steps_done());
        let (tasks, steps) = tokio::join!(tasks, steps);
        if tasks.is_err() {
            tracing::debug!(queue = %self.remote.name, "the queue was left before everything was given back");
        }
        if steps.is_err() {
            tracing::warn!(
                queue = %self.remote.name,
                "the queue was left while a message was moved between it and its dead-letter queue; it may be in both"
            );
        }
    }
}
