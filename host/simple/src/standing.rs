//! What a queue waits for, for an operator who asks why nothing moves.

use std::time::Duration;

use super::{SimpleQueue, operation::StoreOperation};
use sandhog_queue::{QueueError, message::MessageId};

/// What the messages of a queue wait for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WaitingMessages {
    /// The time until the first message that is delayed, or waits for its retry, is due.
    pub next_due_in: Option<Duration>,
    /// A message group that waits for one message, if no message can be received because all that are ready stand behind others.
    pub blocked: Option<GroupLeader>,
}

/// The message that its group waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupLeader {
    /// The group id; `None` if the whole queue is one group.
    pub group: Option<String>,
    /// The message.
    pub message: MessageId,
    /// The time until its retry; `None` while it is in flight.
    pub retry_in: Option<Duration>,
}

impl SimpleQueue {
    /// Returns what the messages of the queue wait for. Changes nothing, and costs a few reads.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn waiting(&self) -> Result<WaitingMessages, QueueError> {
        let key = self.key;
        self.ask(StoreOperation::new(move |rules, now| rules.waiting(key, now)))
            .await
    }
}
