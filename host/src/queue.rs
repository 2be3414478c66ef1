//! The one trait behind which every kind of queue stands, and the words that it speaks.
//!
//! A queue hands a message out for a limited time (`receive`), renews that time (`extend`), and ends the
//! delivery in one of four ways (`settle`). It knows nothing of components, handlers or attempts, and
//! nothing here names a backend. The contract suite in `tests/queue_contract.rs` is what an
//! implementation has to pass.

use std::{
    any::Any,
    fmt,
    hash::{Hash, Hasher},
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::Instant;

use crate::{
    keyvalue::{WriteError, Writes},
    message::{InvalidMessage, MAX_DELAY, Message, MessageId, Outgoing, QueueName},
};

pub mod simple;
pub mod sqs;
mod wanted;

pub use wanted::Wanted;

/// The right to extend or settle one delivery. A later receive of the same message makes it stale.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Receipt(ReceiptForm);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum ReceiptForm {
    Numbered { row: u64, delivery: u64 },
    Text { text: Arc<str>, kept: Kept },
}

/// What a queue keeps with a receipt for itself. Two receipts are equal if their texts are.
#[derive(Clone)]
struct Kept(Option<Arc<dyn Any + std::marker::Send + Sync>>);

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Kept(..)" } else { "Kept" })
    }
}

impl PartialEq for Kept {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Kept {}

impl Hash for Kept {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl Receipt {
    /// A receipt of a queue that numbers its messages (`row`) and its deliveries (`delivery`).
    pub fn numbered(row: u64, delivery: u64) -> Self {
        Self(ReceiptForm::Numbered { row, delivery })
    }

    /// A receipt that a server gave out as text.
    pub fn text(text: &str) -> Self {
        Self(ReceiptForm::Text {
            text: text.into(),
            kept: Kept(None),
        })
    }

    /// As [`Receipt::text`], with something that the queue wants back when the delivery is extended or settled.
    pub fn text_with(text: &str, kept: Arc<dyn Any + std::marker::Send + Sync>) -> Self {
        Self(ReceiptForm::Text {
            text: text.into(),
            kept: Kept(Some(kept)),
        })
    }

    /// The numbers that the receipt was made of, `(row, delivery)`, if it was made of numbers.
    pub fn as_numbered(&self) -> Option<(u64, u64)> {
        match self.0 {
            ReceiptForm::Numbered { row, delivery } => Some((row, delivery)),
            ReceiptForm::Text { .. } => None,
        }
    }

    /// The text that the receipt was made of, if it was made of text.
    pub fn as_text(&self) -> Option<&str> {
        match &self.0 {
            ReceiptForm::Numbered { .. } => None,
            ReceiptForm::Text { text, .. } => Some(text),
        }
    }

    /// What the queue put into the receipt, if that is a `T`. A receipt that left the process and came back has lost it.
    pub fn kept<T: Any>(&self) -> Option<&T> {
        match &self.0 {
            ReceiptForm::Numbered { .. } => None,
            ReceiptForm::Text { kept, .. } => kept.0.as_deref()?.downcast_ref(),
        }
    }
}

/// The facts about a queue on which its consumers depend. Each field is one fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and every combination is possible"
)]
pub struct QueueCapabilities {
    /// The most messages that one receive returns, however many are asked for. An extension carries no more either.
    pub receive_limit: usize,
    /// Each call is a request that takes time and may cost money, so that a consumer waits a moment to ask for several
    /// messages at once.
    pub calls_cost: bool,
    /// A call may overtake another one about the same delivery, so that an extension and a settlement must not be under
    /// way together.
    pub calls_overtake: bool,
    /// The queue collects the settlements of several calls into one request, so that a consumer settles each attempt
    /// by itself.
    pub batches_settlements: bool,
    /// The queue counts visibility timeouts while this machine sleeps, and may give a message to another consumer as soon
    /// as a deadline has passed.
    pub has_own_clock: bool,
    /// A receive that ended in [`Settlement::Release`] counts towards the receive count all the same.
    pub counts_releases: bool,
    /// An extension can make a message visible earlier than it was to be before.
    pub extension_shortens: bool,
    /// The longest time from a receive for which extensions hide a message.
    pub longest_lease: Duration,
    /// The longest delay of [`Settlement::Retry`]; zero if the queue can't delay a retry.
    pub longest_retry_delay: Duration,
    /// One receive may return several messages of a group, one after another and in order. The caller handles them in
    /// that order, and gives the later ones back, last first, before it settles one other than by deleting it.
    pub returns_groups: bool,
    /// A message that was deleted may be received again all the same.
    pub redelivers_deleted: bool,
    /// A settlement can make a dead letter.
    pub has_dead_letter_queue: bool,
    /// [`Queue::dead_letters`] can go on after a dead letter. If not, the first page is all that it returns.
    pub pages_dead_letters: bool,
    /// The queue makes a dead letter of a message that was received too often, and keeps the failure of its last
    /// retry with it.
    pub keeps_failure: bool,
    /// A failed message that was received this often is to be settled as a dead letter. `None` if the queue makes the
    /// dead letter by itself.
    pub max_receives: Option<NonZeroU32>,
}

impl QueueCapabilities {
    /// The capabilities of a queue in this process.
    pub const LOCAL: Self = Self {
        receive_limit: 1000,
        calls_cost: false,
        calls_overtake: false,
        batches_settlements: false,
        has_own_clock: false,
        counts_releases: false,
        extension_shortens: true,
        longest_lease: MAX_DELAY,
        longest_retry_delay: MAX_DELAY,
        returns_groups: false,
        redelivers_deleted: false,
        has_dead_letter_queue: true,
        pages_dead_letters: true,
        keeps_failure: true,
        max_receives: None,
    };
}

/// One receive of a message.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// What was sent.
    pub message: Message,
    /// The right to extend or settle this delivery.
    pub receipt: Receipt,
    /// How often the message has been received, this time included.
    pub receive_count: NonZeroU32,
    /// When the message becomes visible to other consumers, unless it is extended.
    pub deadline: Instant,
}

/// What kind of failure ended an attempt. The text form is stored, shown and used as a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The guest said `retry` or `retry-after`.
    Retry,
    /// The guest said `reject`.
    Reject,
    /// The guest broke: a trap, a panic, an exit.
    Trap,
    /// The handler's timeout passed.
    Timeout,
    /// The handler's memory limit was hit.
    Memory,
    /// The guest answered in a shape that its contract does not allow, or sent what it may not.
    WrongAnswer,
    /// The host stopped while the message was in flight and nobody could say why.
    HostStopped,
}

impl FailureKind {
    /// The stored and shown form.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Reject => "reject",
            Self::Trap => "trap",
            Self::Timeout => "timeout",
            Self::Memory => "memory",
            Self::WrongAnswer => "wrong-answer",
            Self::HostStopped => "host-stopped",
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why an attempt failed, as it is kept with the message.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FailureRecord {
    /// The kind of failure.
    pub kind: FailureKind,
    /// For people; at most 1 KiB, control characters escaped.
    pub reason: String,
    /// The name of the handler.
    pub handler: String,
    /// The SHA-256 digest of the component that ran, in hexadecimal.
    pub component: String,
}

/// How a delivery ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// The message was handled: it is gone for good.
    Delete,
    /// Visible again after `delay` (at most [`QueueCapabilities::longest_retry_delay`]). The failure is remembered, in case it was the last.
    Retry {
        /// Counted from now.
        delay: Duration,
        /// Why.
        failure: FailureRecord,
    },
    /// To the dead-letter queue, now.
    DeadLetter {
        /// Why.
        failure: FailureRecord,
    },
    /// Visible again at once. A queue that can, takes the receive back: it is not counted.
    Release,
}

impl Settlement {
    /// Shortens the delay of a retry to `longest`.
    #[must_use]
    pub fn with_delay_up_to(self, longest: Duration) -> Self {
        match self {
            Self::Retry { delay, failure } => Self::Retry {
                delay: delay.min(longest),
                failure,
            },
            Self::Delete | Self::DeadLetter { .. } | Self::Release => self,
        }
    }
}

/// One settlement of a batch.
#[derive(Debug, Clone)]
pub struct Settle {
    /// Which delivery.
    pub receipt: Receipt,
    /// How it ends.
    pub settlement: Settlement,
}

/// A message on its way to a named queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Send {
    /// The destination.
    pub queue: QueueName,
    /// What to send; it has passed [`Outgoing::check`].
    pub message: Outgoing,
}

/// What happens together with the deletion of what was handled, or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effects {
    /// What is sent, in order.
    pub sends: Vec<Send>,
    /// What is written into a key-value store.
    pub writes: Writes,
}

impl Effects {
    /// Whether nothing is to happen.
    pub fn is_empty(&self) -> bool {
        self.sends.is_empty() && self.writes.is_empty()
    }

    /// How many bytes are sent and written.
    pub fn size(&self) -> usize {
        let sent: usize = self.sends.iter().map(|send| send.message.size()).sum();
        sent + self.writes.size()
    }
}

impl From<Vec<Send>> for Effects {
    fn from(sends: Vec<Send>) -> Self {
        Self {
            sends,
            writes: Writes::default(),
        }
    }
}

/// How full a queue is.
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
    /// Dead letters of this queue in its dead-letter queue.
    pub dead: u64,
    /// Messages whose stored form is damaged; kept, never delivered.
    pub damaged: u64,
    /// Messages that the time to live has removed since the host was started.
    #[serde(default)]
    pub expired: u64,
}

/// A message that could not be handled, with where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The message; `id`, attributes, body and `sent_at_ms` are those of the original.
    pub message: Message,
    /// The queue that it was first received from.
    pub queue: QueueName,
    /// How often it had been received.
    pub receive_count: u32,
    /// Milliseconds since 1970-01-01T00:00:00Z at which it became a dead letter.
    pub dead_at_ms: u64,
    /// Its last failure.
    pub failure: FailureRecord,
}

/// The cause below a queue's error, for the log.
pub type Cause = Arc<dyn std::error::Error + std::marker::Send + Sync>;

/// Why a queue could not do what was asked. Used by every operation that has no refusals of its own.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The queue did not answer, or answered that it can't just now. Safe to repeat.
    #[error("queue {queue} is unavailable")]
    Unavailable {
        /// Which queue.
        queue: QueueName,
        /// What happened.
        #[source]
        cause: Cause,
    },
    /// The queue's storage failed and refuses everything until the process starts anew. Final.
    #[error("queue {queue} has failed and refuses everything until the host is restarted")]
    Failed {
        /// Which queue.
        queue: QueueName,
        /// What happened first.
        #[source]
        cause: Cause,
    },
}

/// Why a receipt was not extended.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
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
#[non_exhaustive]
pub enum SettleError {
    /// The visibility timeout ran out, or the message was settled or received anew. Final: it is someone else's.
    #[error("the receipt is no longer valid")]
    Expired,
    /// One of the sends was refused, so nothing was done. Settle in another way.
    #[error("a send to queue {queue} was refused")]
    SendRefused {
        /// The destination that refused.
        queue: QueueName,
        /// Why.
        #[source]
        error: Box<SendError>,
    },
    /// One of the writes was refused, so nothing was done. Settle in another way.
    #[error("a write to the key-value store was refused")]
    WriteRefused(#[source] WriteError),
    /// The dead-letter queue did not take the message, so it was not settled. Settle in another way.
    #[error("the dead-letter queue {queue} did not take the message")]
    DeadLetterRefused {
        /// The dead-letter queue.
        queue: QueueName,
        /// Why.
        #[source]
        error: Box<SendError>,
    },
    /// There were effects, and another deletion of the batch had expired, so nothing was done. Settle in another way.
    #[error("another delivery of the batch had expired")]
    Incomplete,
    /// See [`QueueError`].
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Why a message was not sent.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The message breaks a limit. Final.
    #[error(transparent)]
    Invalid(#[from] InvalidMessage),
    /// The queue holds as many messages as it may. Later may work.
    #[error("queue {queue} is full: it holds its limit of {limit} messages (max-messages)")]
    Full {
        /// Which queue.
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
    /// Whether neither the message nor a setting of the queue is the reason, so that the same message may be taken later, by
    /// this process or the next.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Queue(_) => true,
            Self::Invalid(_) | Self::NoSuchQueue(_) | Self::Full { .. } => false,
        }
    }
}

impl QueueError {
    /// Whether doing the same again later can succeed.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable { .. } => true,
            Self::Failed { .. } => false,
        }
    }
}

/// A queue. Every implementation obeys the same contract suite.
///
/// All times given to a queue are durations counted from the call; no caller's clock is trusted.
#[async_trait]
pub trait Queue: std::marker::Send + Sync + fmt::Debug {
    /// The queue's name.
    fn name(&self) -> &QueueName;

    /// For how long a receive hides a message, and how far an extension should reach. 1 s to 12 h.
    fn visibility_timeout(&self) -> Duration;

    /// The queue's capabilities. They may change while the host runs, when the queue's owner reconfigures it.
    fn capabilities(&self) -> QueueCapabilities {
        QueueCapabilities::LOCAL
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

    /// As [`Queue::receive`], of as many messages as `wanted` says at the moment at which they are chosen: a caller may want
    /// more while it waits.
    ///
    /// # Errors
    ///
    /// See [`Queue::receive`].
    ///
    /// # Cancel safety
    ///
    /// See [`Queue::receive`].
    async fn receive_wanted(&self, wanted: &Wanted, wait: Duration) -> Result<Vec<Delivery>, QueueError> {
        self.receive(wanted.close(), wait).await
    }

    /// Hides deliveries from other consumers for another `by`, counted from now, not from the old deadline.
    /// One answer per receipt, in order. Any number of receipts; 1 s to 12 h.
    ///
    /// # Errors
    ///
    /// Per receipt, see [`ExtendError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have extended; both leave a delivery held at least until its old deadline.
    async fn extend(&self, receipts: Vec<Receipt>, by: Duration) -> Vec<Result<(), ExtendError>>;

    /// Ends deliveries, and makes `effects` happen (sends only to queues for which [`Queue::commits_sends_to`] holds,
    /// writes only if [`Queue::commits_writes`] does) in the same transaction: all of the valid settlements and all of the
    /// effects happen, or nothing does. The effects happen only together with deletions: with effects, either every receipt
    /// with [`Settlement::Delete`] is valid and there is one, or they do not happen. One answer per settlement, in order.
    ///
    /// # Errors
    ///
    /// Per settlement, see [`SettleError`]. An expired one does not disturb the others.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have settled. A caller that needs to know must not drop it.
    async fn settle(&self, settles: Vec<Settle>, effects: Effects) -> Vec<Result<(), SettleError>>;

    /// Whether a settlement of this queue can send to `destination` in its own transaction.
    fn commits_sends_to(&self, destination: &QueueName) -> bool;

    /// Whether a settlement of this queue can write to the host's key-value store in its own transaction.
    fn commits_writes(&self) -> bool {
        false
    }

    /// Whether the queue would refuse one of these messages for what it is. What it does not refuse here it may still refuse
    /// when it is sent.
    ///
    /// # Errors
    ///
    /// See [`SendError`].
    async fn check_sends(&self, messages: &[Outgoing]) -> Result<(), SendError> {
        messages.iter().try_for_each(|message| Ok(message.check()?))
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
    async fn send_many(&self, messages: Vec<Outgoing>) -> Vec<Result<MessageId, SendError>>;

    /// Sends one message; see [`Queue::send_many`].
    ///
    /// # Errors
    ///
    /// See [`SendError`].
    async fn send(&self, message: Outgoing) -> Result<MessageId, SendError> {
        let mut answers = self.send_many(vec![message]).await;
        answers.pop().expect("one answer per message")
    }

    /// How full the queue is now.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    async fn counts(&self) -> Result<Counts, QueueError>;

    /// Deletes every message of the queue that is not in flight; returns how many.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    async fn purge(&self) -> Result<u64, QueueError>;

    /// Dead letters of this queue, oldest first, at most `limit`, after the one with id `after` if given. A page of large
    /// ones may end before `limit`; only an empty one says that there are no more.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    async fn dead_letters(&self, after: Option<MessageId>, limit: usize) -> Result<Vec<DeadLetter>, QueueError>;

    /// One dead letter of this queue, if it is there.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    async fn dead_letter(&self, id: &MessageId) -> Result<Option<DeadLetter>, QueueError>;

    /// Puts dead letters back into this queue, with a receive count of zero and everything else as it was: those with
    /// the given ids, or at most `limit` of all, oldest first. Returns how many: a queue whose messages take long may stop before
    /// all are back.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have put back; no dead letter is left in both places for that.
    async fn redrive(&self, ids: Option<Vec<MessageId>>, limit: usize) -> Result<u64, QueueError>;

    /// Deletes every dead letter of this queue that is not in flight; returns how many.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    async fn purge_dead(&self) -> Result<u64, QueueError>;

    /// Ends what is under way for nobody any more, and waits until what it took was given back: the last thing to do with a
    /// queue before the process ends. Takes a second or two at most.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the rest to happen by itself, if the process lasts.
    async fn close(&self) {}
}
