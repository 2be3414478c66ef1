//! The trait of every kind of queue, and the types of its operations.
//!
//! A queue hands a message out for a limited time (`receive`), extends that time (`extend`), and ends the
//! delivery in one of four ways (`settle`). It knows nothing of components, handlers or attempts, and
//! nothing here names a backend. An implementation passes the contract suite in `tests/queue_contract.rs`.

use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::time::Instant;

use crate::{
    keyvalue::{WriteError, Writes},
    message::{CheckedMessage, InvalidMessage, Message, MessageId, QueueName},
    peek::{DeadLetterSweep, PeekPage, PeekRequest, SweptDeadLetters},
};

pub mod alarm;
mod capabilities;
mod delivery;
mod demand;
pub mod keyvalue;
pub mod lease;
pub mod machine_clock;
pub mod message;
pub mod message_filter;
pub mod metric_series;
pub mod peek;
pub mod printable;
mod receipt;
mod send_origin;
mod settlement;
pub mod typed;

pub use self::{
    capabilities::QueueCapabilities,
    delivery::{Delivery, DeliveryLease},
    demand::ReceiveDemand,
    receipt::Receipt,
    send_origin::{SendIds, SendOrigin, SendingAttempt},
    settlement::{FailureKind, FailureRecord, SettleRequest, Settlement},
};

/// A message that an effect sends to a named queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectSend {
    /// The destination.
    pub queue: QueueName,
    /// The message.
    pub message: CheckedMessage,
}

/// The sends and writes that happen together with the deletion of the messages that caused them, or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effects {
    /// The messages that are sent, in order.
    pub sends: Vec<EffectSend>,
    /// The changes of a key-value store.
    pub writes: Writes,
    /// The attempt that they come from. A store keeps it with what is sent.
    pub origin: Option<SendOrigin>,
}

impl Effects {
    /// Whether there is neither a send nor a write.
    pub fn is_empty(&self) -> bool {
        self.sends.is_empty() && self.writes.is_empty()
    }

    /// Returns the number of bytes that are sent and written.
    pub fn size(&self) -> usize {
        let sent: usize = self.sends.iter().map(|send| send.message.size()).sum();
        sent + self.writes.size()
    }
}

impl From<Vec<EffectSend>> for Effects {
    fn from(sends: Vec<EffectSend>) -> Self {
        Self {
            sends,
            ..Self::default()
        }
    }
}

/// The numbers of messages in a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Counts {
    /// Messages that wait, visible or behind another one of their group.
    pub ready: u64,
    /// Messages that were received and not settled.
    pub in_flight: u64,
    /// Messages hidden by a delay or a retry delay.
    pub delayed: u64,
    /// Age in milliseconds of the oldest message that is not in flight; `None` if there is none.
    pub oldest_age_ms: Option<u64>,
    /// Dead letters of this queue, which are in its dead-letter queue.
    pub dead: u64,
    /// Messages whose stored form is damaged. They are kept and never delivered.
    pub damaged: u64,
    /// Messages that the time to live has removed since the host was started.
    #[serde(default)]
    pub expired: u64,
}

/// A message that could not be handled, and its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The message; `id`, attributes, body and `sent_at_ms` are those of the original.
    pub message: Message,
    /// The queue that it was first received from.
    pub queue: QueueName,
    /// The number of times that it was received.
    pub receive_count: u32,
    /// Milliseconds since 1970-01-01T00:00:00Z at which it became a dead letter.
    pub dead_at_ms: u64,
    /// Its last failure.
    pub failure: FailureRecord,
}

/// A message that is made from another one.
#[derive(Debug, Clone)]
pub struct SentAgain {
    /// The new message.
    pub message: CheckedMessage,
    /// The id of the other one.
    pub parent: MessageId,
    /// The other one is a dead letter of the queue, and is deleted.
    pub replaces: bool,
}

/// The cause below a queue's error, for the log.
pub type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// Why an operation of a queue failed. Operations with refusals of their own have errors of their own.
#[derive(Debug, Clone, thiserror::Error)]
pub enum QueueError {
    /// The queue did not answer, or answered that it can't do it now. Safe to repeat.
    #[error("queue {queue} is unavailable")]
    Unavailable {
        /// The queue.
        queue: QueueName,
        /// The failure.
        #[source]
        cause: Cause,
    },
    /// The queue's storage failed and refuses everything until the process starts anew. Final.
    #[error("queue {queue} has failed and refuses everything until the host is restarted")]
    Failed {
        /// The queue.
        queue: QueueName,
        /// The first failure.
        #[source]
        cause: Cause,
    },
    /// This kind of queue has no such operation. Final.
    #[error("queue {queue} cannot {operation}: its kind of queue has no such operation")]
    Unsupported {
        /// The queue.
        queue: QueueName,
        /// The operation, as a verb with its object: `list dead letters`.
        operation: &'static str,
    },
}

/// Why a receipt was not extended.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ExtendError {
    /// The visibility timeout ran out, or the message was settled or received anew. Final: settle nothing.
    #[error("the receipt is no longer valid")]
    Expired,
    /// See [`QueueError`].
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Why a delivery was not settled.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SettleError {
    /// The visibility timeout ran out, or the message was settled or received anew. Final: it is someone else's.
    #[error("the receipt is no longer valid")]
    Expired,
    /// The dead-letter queue did not take the message, so it was not settled. Settle in another way.
    #[error("the dead-letter queue {queue} did not take the message")]
    DeadLetterRefused {
        /// The dead-letter queue.
        queue: QueueName,
        /// The reason.
        #[source]
        error: Box<SendError>,
    },
    /// See [`QueueError`].
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Why the effects of a settlement were refused. Nothing was done: every delivery is held as before. The caller settles the
/// deliveries again without the effects.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EffectsRefused {
    /// A destination refused one of the sends.
    #[error("a send to queue {queue} was refused")]
    SendRefused {
        /// The destination that refused.
        queue: QueueName,
        /// Why.
        #[source]
        error: Box<SendError>,
    },
    /// The key-value store refused one of the writes.
    #[error("a write to the key-value store was refused")]
    WriteRefused(#[source] WriteError),
    /// One of the deletions had expired, and the effects belong to all of the deletions together.
    #[error("a delivery of the batch had expired")]
    Incomplete,
}

impl EffectsRefused {
    /// Whether another attempt has changed what this one had compared: another time may work, at once.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::WriteRefused(WriteError::Changed(_)))
    }
}

/// The answers of [`Queue::settle`]: one per settlement, in order.
pub type SettleAnswers = Vec<Result<(), SettleError>>;

/// Why a message was not sent.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SendError {
    /// The message breaks a limit of the queue. Final.
    #[error(transparent)]
    Invalid(#[from] InvalidMessage),
    /// The queue holds as many messages as it may. Later may work.
    #[error("queue {queue} is full: it holds its limit of {limit} messages (max-messages)")]
    Full {
        /// The queue.
        queue: QueueName,
        /// How many it may hold.
        limit: u64,
    },
    /// The destination does not exist for this sender.
    #[error("queue {0} does not exist")]
    NoSuchQueue(QueueName),
    /// See [`QueueError`].
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl SendError {
    /// Whether the same message can be sent later, by this process or the next: neither the message nor a setting of the
    /// queue is at fault.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Queue(QueueError::Unavailable { .. } | QueueError::Failed { .. }) => true,
            Self::Queue(QueueError::Unsupported { .. })
            | Self::Invalid(_)
            | Self::NoSuchQueue(_)
            | Self::Full { .. } => false,
        }
    }
}

impl QueueError {
    /// Whether the same operation can succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable { .. } => true,
            Self::Failed { .. } | Self::Unsupported { .. } => false,
        }
    }
}

/// A queue. Every implementation obeys the same contract suite.
///
/// All times given to a queue are durations counted from the call; no caller's clock is trusted.
#[async_trait]
pub trait Queue: Send + Sync + fmt::Debug {
    /// The queue's name.
    fn name(&self) -> &QueueName;

    /// Returns the time for which a receive hides a message, and by which an extension should extend it. 1 s to 12 h.
    fn visibility_timeout(&self) -> Duration;

    /// Returns the queue's capabilities. They may change while the host runs, when the queue's owner reconfigures it.
    fn capabilities(&self) -> QueueCapabilities {
        QueueCapabilities::LOCAL
    }

    /// Returns the receive count at which a message that fails becomes a dead letter, if that is known here.
    fn last_receive(&self) -> Option<NonZeroU32> {
        self.capabilities().max_receives
    }

    /// Waits up to `wait` for at least one message, and returns at most `max` (1 or more) of those visible,
    /// in order. An empty answer means that the wait ended. Never one of a group that is in flight or waits for a retry,
    /// nor two messages of one group unless [`QueueCapabilities::returns_groups`].
    ///
    /// # Errors
    ///
    /// See [`QueueError`]: `Unavailable` is worth repeating after a pause, `Failed` is not.
    ///
    /// # Cancel safety
    ///
    /// Safe: a message that was taken and could not be handed to the caller any more becomes visible again at
    /// once, and the receive is not counted where the queue can take it back.
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, QueueError>;

    /// As [`Queue::receive`], of as many messages as `demand` says when the queue chooses them: the caller may raise the
    /// demand while it waits.
    ///
    /// # Errors
    ///
    /// See [`Queue::receive`].
    ///
    /// # Cancel safety
    ///
    /// See [`Queue::receive`].
    async fn receive_on_demand(&self, demand: &ReceiveDemand, wait: Duration) -> Result<Vec<Delivery>, QueueError> {
        self.receive(demand.close(), wait).await
    }

    /// Returns whether a receive is under way, also one that was dropped and whose messages have yet to be released.
    /// A queue that takes no message once a receive is dropped has nothing to say here.
    fn is_receiving(&self) -> bool {
        false
    }

    /// Hides deliveries from other consumers for another `by` (1 s to 12 h), counted from now, not from the old deadline.
    /// One answer per receipt, in order: the new deadline. A queue may grant another period than `by`, and only the answer
    /// counts. Any number of receipts. The host extends no [`DeliveryLease::WhileConnected`].
    ///
    /// # Errors
    ///
    /// Per receipt, see [`ExtendError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have extended; both leave a delivery held at least until its old deadline.
    async fn extend(&self, receipts: Vec<Receipt>, by: Duration) -> Vec<Result<Instant, ExtendError>>;

    /// Ends deliveries, and makes `effects` happen (sends only to queues for which [`Queue::commits_sends_to`] holds,
    /// writes only if [`Queue::commits_writes`] does) in the same transaction: all of the valid settlements and all of the
    /// effects happen, or nothing does. The effects happen only together with deletions: with effects, either every receipt
    /// with [`Settlement::Delete`] is valid and there is one, or they do not happen. One answer per settlement, in order.
    ///
    /// # Errors
    ///
    /// [`EffectsRefused`] if the queue refused the effects: nothing was done, neither the effects nor a settlement. Never
    /// without effects. Per settlement, see [`SettleError`]. An expired one does not disturb the others.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have settled. A caller that needs to know must not drop it.
    async fn settle(&self, settles: Vec<SettleRequest>, effects: Effects) -> Result<SettleAnswers, EffectsRefused>;

    /// Whether a settlement of this queue can send to `destination` in the same transaction.
    fn commits_sends_to(&self, destination: &QueueName) -> bool;

    /// Whether a settlement of this queue can write to the host's key-value store in the same transaction.
    fn commits_writes(&self) -> bool {
        false
    }

    /// Asks whether the queue would refuse one of these messages for a limit of its own. It may still refuse them when they
    /// are sent.
    ///
    /// # Errors
    ///
    /// See [`SendError`].
    async fn check_sends(&self, _messages: &[CheckedMessage]) -> Result<(), SendError> {
        Ok(())
    }

    /// Sends messages, in order. One answer per message, in order: its id, once it is as durable as the queue gets.
    /// A duplicate (same deduplication id within five minutes) is answered with the id of the first.
    ///
    /// # Errors
    ///
    /// Per message, see [`SendError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have sent.
    async fn send_many(&self, messages: Vec<CheckedMessage>) -> Vec<Result<MessageId, SendError>>;

    /// Sends one message; see [`Queue::send_many`].
    ///
    /// # Errors
    ///
    /// See [`SendError`].
    async fn send(&self, message: CheckedMessage) -> Result<MessageId, SendError> {
        let mut answers = self.send_many(vec![message]).await;
        answers.pop().expect("one answer per message")
    }

    /// Counts the messages of the queue.
    ///
    /// # Errors
    ///
    /// See [`QueueError`]; `Unsupported` if the server of the queue does not count messages.
    async fn counts(&self) -> Result<Counts, QueueError>;

    /// Deletes every message of the queue that is not in flight. Returns their number.
    ///
    /// # Errors
    ///
    /// See [`QueueError`]; `Unsupported` if this kind of queue has no such operation.
    async fn purge(&self) -> Result<u64, QueueError>;

    /// Returns dead letters of this queue, oldest first, at most `limit`, after the one with id `after` if given. A page of
    /// large dead letters may end before `limit`; only an empty page says that there are no more.
    ///
    /// # Errors
    ///
    /// See [`QueueError`]; `Unsupported` if this kind of queue has no such operation.
    async fn dead_letters(&self, after: Option<MessageId>, limit: usize) -> Result<Vec<DeadLetter>, QueueError>;

    /// Returns one dead letter of this queue, if it exists.
    ///
    /// # Errors
    ///
    /// See [`QueueError`]; `Unsupported` if this kind of queue has no such operation.
    async fn dead_letter(&self, id: &MessageId) -> Result<Option<DeadLetter>, QueueError>;

    /// Puts dead letters back into this queue, with a receive count of zero and everything else as it was: those with
    /// the given ids, or at most `limit` of all, oldest first. Returns their number: a queue whose messages take long may stop
    /// before all are back.
    ///
    /// # Errors
    ///
    /// See [`QueueError`]; `Unsupported` if this kind of queue has no such operation.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have put back; no dead letter is left in both places for that.
    async fn redrive(&self, ids: Option<Vec<MessageId>>, limit: usize) -> Result<u64, QueueError>;

    /// Deletes every dead letter of this queue that is not in flight. Returns their number.
    ///
    /// # Errors
    ///
    /// See [`QueueError`]; `Unsupported` if this kind of queue has no such operation.
    async fn purge_dead(&self) -> Result<u64, QueueError>;

    /// Looks at messages, in the order in which they came to the queue, without receiving them: nothing changes. Finds a message that was
    /// acknowledged before the call. A message that stays in the queue from the first page to the last is on one of them.
    ///
    /// # Errors
    ///
    /// See [`QueueError`]; `Unsupported` if this kind of queue has no such operation.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    async fn peek(&self, _request: PeekRequest) -> Result<PeekPage, QueueError> {
        Err(self.unsupported("look at messages without receiving them"))
    }

    /// Does one step of something with the dead letters of this queue that pass a filter and are not in flight.
    ///
    /// # Errors
    ///
    /// See [`QueueError`]; `Unsupported` if this kind of queue has no such operation.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have done the step; no dead letter is left half done.
    async fn sweep_dead(&self, _sweep: DeadLetterSweep) -> Result<SweptDeadLetters, QueueError> {
        Err(self.unsupported("choose dead letters by a filter"))
    }

    /// Deletes the dead letters with these ids that are not in flight. Returns their number.
    ///
    /// # Errors
    ///
    /// See [`QueueError`]; `Unsupported` if this kind of queue has no such operation.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have deleted some.
    async fn delete_dead(&self, _ids: Vec<MessageId>) -> Result<u64, QueueError> {
        Err(self.unsupported("delete single dead letters"))
    }

    /// Sends a message that was made from another one, and remembers from which. If it `replaces` a dead letter of this queue, that is
    /// deleted in the same transaction; `None` says that there is none with this id, or that it is in flight, and nothing was done.
    ///
    /// No deduplication id counts: the message is meant to come a second time.
    ///
    /// # Errors
    ///
    /// See [`SendError`]; `Unsupported` if this kind of queue has no such operation.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have sent, and deleted with it.
    async fn send_again(&self, _again: SentAgain) -> Result<Option<MessageId>, SendError> {
        Err(self.unsupported("send a message again").into())
    }

    /// Returns the error for an operation that this kind of queue lacks.
    fn unsupported(&self, operation: &'static str) -> QueueError {
        QueueError::Unsupported {
            queue: self.name().clone(),
            operation,
        }
    }

    /// Ends the operations that no caller waits for any more, and waits until the messages that they took were given back.
    /// The host calls it last, before the process ends. Takes a second or two at most.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the rest to happen by itself, if the process lasts.
    async fn close(&self) {}
}
