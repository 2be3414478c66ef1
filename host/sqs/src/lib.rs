//! Amazon SQS as a queue, through its API. Only the server keeps messages.
//!
//! [`SqsConnection`] is the connection to SQS, [`SqsQueue`] is one queue of it. `form.rs` has the form of a message on
//! SQS, `facts.rs` the facts about a queue, and `facts_lookup.rs` asks for them; the limit of the time of a call is beside the call. Only `wire.rs`,
//! `failure.rs` and `connection.rs` name the SDK.
//!
//! Every failure is [`QueueError::Unavailable`]: operators repair credentials, permissions, queues and networks while the
//! host runs, and the host goes on by itself then. The cause tells the operator what to do.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::time::{Instant, timeout};

use self::{
    receive::LongPolls,
    remote::{Address, Remote},
    settings::SqsSettings,
    settle::Settler,
    tasks::Tasks,
};
use sandhog_queue::message::{CheckedMessage, Message, MessageId, QueueName};
use sandhog_queue::{
    Counts, DeadLetter, Delivery, Effects, EffectsRefused, ExtendError, Queue, QueueCapabilities, QueueError, Receipt,
    SendError, SettleAnswers, SettleRequest,
};

mod asked;
mod batch;
pub mod body_form;
mod connection;
mod counts;
mod dead;
mod ending;
mod exhausted;
mod facts;
mod facts_lookup;
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

/// The longest time that the end of a queue waits for its tasks, and for steps that may not be cut.
const CLOSE_TIME: Duration = Duration::from_secs(2);
const STEP_TIME: Duration = Duration::from_secs(4);

/// One SQS queue.
///
/// A settlement waits up to 20 ms for others to share its request, unless every delivery that is held is being settled. A
/// release is counted as a receive, since SQS does not take it back. An operation that had begun when the queue is dropped
/// may or may not be done; only a send and the deletion that belongs to it are never torn apart while the process lasts.
#[derive(Debug)]
pub struct SqsQueue {
    remote: Arc<Remote>,
    long_polls: LongPolls,
    settler: Settler,
    tasks: Tasks,
}

/// Returns the message that a handler sees if a server hands out these words, of which `wire.rs` has the names. For
/// tests that try any words: a queue reads from its server.
#[doc(hidden)]
pub fn read_words(words: &[(&str, &[u8])]) -> Option<Message> {
    let received = wire::of_words(words)?;
    let id = MessageId::from_queue(&received.id);
    let sent_at_ms = received.sent_at_ms;
    let content = form::open(received).content;
    // The message may have to go on to another queue.
    drop(content.sendable());
    Some(content.message(id, sent_at_ms))
}

impl SqsQueue {
    /// Makes the queue of these settings. Whether it exists shows when it is used. `dead_letter` is the queue that the
    /// settings name as the dead-letter queue; without it dead letters go to the target of the queue's redrive policy, if
    /// it has one.
    pub fn connect(
        connection: &SqsConnection,
        name: QueueName,
        settings: SqsSettings,
        dead_letter: Option<&Self>,
    ) -> Self {
        let address = Address::Configured(settings.location.clone());
        let dead_letter = dead_letter.map(|queue| {
            queue.remote.becomes_a_dead_letter_queue();
            Arc::clone(&queue.remote)
        });
        Self::new(Remote::new(connection.clone(), name, address, settings, dead_letter))
    }

    fn new(remote: Arc<Remote>) -> Self {
        let tasks = Tasks::default();
        Self {
            long_polls: LongPolls::new(Arc::clone(&remote), tasks.clone()),
            settler: Settler::new(Arc::clone(&remote), tasks.clone()),
            remote,
            tasks,
        }
    }

    /// Returns the settings of the queue.
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

    /// Returns the configured visibility timeout, else the queue's own as last learnt, else 30 s.
    fn visibility_timeout(&self) -> Duration {
        self.remote.visibility_timeout()
    }

    fn capabilities(&self) -> QueueCapabilities {
        self.remote.capabilities()
    }

    /// # Cancel safety
    ///
    /// Safe. The request goes on for a second, and the next receive takes it over. Messages that it brings while no receive
    /// waits are released. If no receive follows the connection is dropped; if the queue is dropped it is dropped at once:
    /// a message in transit then stays hidden for one visibility timeout. Every receive is counted.
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, QueueError> {
        self.long_polls.receive(max, wait).await
    }

    fn is_receiving(&self) -> bool {
        self.long_polls.is_receiving()
    }

    async fn extend(&self, receipts: Vec<Receipt>, by: Duration) -> Vec<Result<Instant, ExtendError>> {
        self.remote.extend(receipts, by).await
    }

    /// Refuses effects: SQS has no transactions.
    async fn settle(&self, settles: Vec<SettleRequest>, effects: Effects) -> Result<SettleAnswers, EffectsRefused> {
        if !effects.is_empty() {
            return Err(EffectsRefused::Incomplete);
        }
        Ok(self.settler.settle(settles).await)
    }

    fn commits_sends_to(&self, _destination: &QueueName) -> bool {
        false
    }

    async fn check_sends(&self, messages: &[CheckedMessage]) -> Result<(), SendError> {
        self.remote.check_sends(messages).await
    }

    async fn send_many(&self, messages: Vec<CheckedMessage>) -> Vec<Result<MessageId, SendError>> {
        self.remote.send_many(messages).await
    }

    /// Counts as SQS does, which is approximate. The age of the oldest message is not known.
    async fn counts(&self) -> Result<Counts, QueueError> {
        self.remote.counts().await
    }

    /// SQS purges once in 60 s. Returns the number of messages that SQS counted before.
    async fn purge(&self) -> Result<u64, QueueError> {
        self.remote.purge().await
    }

    async fn dead_letters(&self, after: Option<MessageId>, limit: usize) -> Result<Vec<DeadLetter>, QueueError> {
        match after {
            // SQS can't go on after a dead letter: the first page is all that there is.
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
        // An abandoned call is given up after a second, and its messages are released within another one.
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
