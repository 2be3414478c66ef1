//! Makes dead letters of messages that were received too often, before they run again.
//!
//! That concerns queues whose server does not do it by itself: those with a configured dead-letter queue and no redrive
//! policy.

use std::{collections::HashSet, sync::Arc};

use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use super::{
    failure::{Action, Class, Failure},
    held::HeldDelivery,
    remote::Remote,
    settle,
    tasks::Tasks,
};
use sandhog_queue::{
    FailureKind, FailureRecord, QueueError, Receipt, SendError, SettleError,
    message::{MessageId, QueueName},
    printable::chain,
};

/// The number of messages without a way to the dead-letter queue that are remembered, so that the log warns of each once.
const WARNED: usize = 1000;
/// The most dead letters of one receive that are made at the same time.
const DEAD_LETTERS_AT_A_TIME: usize = 8;

/// Makes dead letters of exhausted messages.
#[derive(Debug)]
pub(crate) struct Exhausted {
    remote: Arc<Remote>,
    tasks: Tasks,
    // Never held across an await.
    warned: Mutex<HashSet<MessageId>>,
}

impl Exhausted {
    pub(crate) fn new(remote: Arc<Remote>, tasks: Tasks) -> Self {
        Self {
            remote,
            tasks,
            warned: Mutex::default(),
        }
    }

    /// Makes dead letters of messages that are hidden until `deadline`, and takes no longer. A message that the dead-letter
    /// queue does not take stays hidden until then.
    ///
    /// # Cancel safety
    ///
    /// Safe: a dead letter that was begun is made, and its message is deleted.
    pub(crate) async fn dead_letter_all(&self, messages: Vec<Receipt>, deadline: Instant) -> Result<(), QueueError> {
        let dead_letters: Vec<_> = messages.iter().map(|receipt| self.dead_letter(receipt)).collect();
        let dead_letters = stream::iter(dead_letters)
            .buffered(DEAD_LETTERS_AT_A_TIME)
            .collect::<Vec<_>>();
        let Ok(dead_lettered) = timeout_at(deadline, dead_letters).await else {
            let failure = Failure::local(Action::SendMessageBatch, Class::Timeout, "dead letters were not taken");
            return Err(self.remote.unavailable(failure));
        };
        let failed = dead_lettered.into_iter().find_map(Result::err);
        failed.map_or(Ok(()), |error| Err(queue_error(error, &self.remote.name)))
    }

    async fn dead_letter(&self, receipt: &Receipt) -> Result<(), SettleError> {
        let Some(held) = self.remote.held.get(receipt) else {
            return Ok(());
        };
        let failure = FailureRecord {
            kind: FailureKind::HostStopped,
            reason: format!(
                "the host stopped {} times while this message was in flight",
                held.receive_count.saturating_sub(1)
            ),
            handler: String::new(),
            component: String::new(),
        };
        let step = send_and_delete(Arc::clone(&self.remote), receipt.clone(), failure.clone());
        let Some(dead_lettered) = self.tasks.whole(step).await else {
            let failure = Failure::local(Action::SendMessageBatch, Class::Connection, "the host is stopping");
            return Err(self.remote.unavailable(failure).into());
        };
        let deleted = match dead_lettered {
            Ok(deleted) => deleted,
            Err(error) => return Err(self.not_taken(&held, error)),
        };
        tracing::warn!(
            queue = %self.remote.name, id = %held.id, receive_count = held.receive_count, reason = failure.reason,
            "a message was received too often"
        );
        if let Err(error) = &deleted {
            tracing::warn!(
                queue = %self.remote.name, id = %held.id, error = %chain(error),
                "a dead letter could not be deleted from the queue that it comes from: it will be there twice"
            );
        }
        deleted
    }

    /// Logs that a message could not become a dead letter.
    fn not_taken(&self, held: &HeldDelivery, error: SettleError) -> SettleError {
        if self.warn_of(&held.id) {
            let error = queue_error(error.clone(), &self.remote.name);
            tracing::warn!(
                queue = %self.remote.name, id = %held.id, error = %chain(&error),
                "a message was received too often and cannot become a dead letter: it stays hidden for now"
            );
        }
        error
    }

    /// Whether the log has not warned of the message yet.
    fn warn_of(&self, id: &MessageId) -> bool {
        let mut warned = self.warned.lock();
        if warned.len() >= WARNED {
            warned.clear();
        }
        warned.insert(id.clone())
    }
}

/// Makes a dead letter, and then deletes its message. Returns the answer to the deletion.
async fn send_and_delete(
    remote: Arc<Remote>,
    receipt: Receipt,
    failure: FailureRecord,
) -> Result<Result<(), SettleError>, SettleError> {
    let Some(held) = remote.held.get(&receipt) else {
        return Ok(Err(SettleError::Expired));
    };
    remote.send_dead_letter(&held, &failure).await?;
    Ok(settle::delete(&remote, &receipt).await)
}

/// Returns the error of a receive after a settlement failed: the innermost error that names a queue and a cause.
fn queue_error(error: SettleError, queue: &QueueName) -> QueueError {
    let (queue, cause): (_, Arc<dyn std::error::Error + Send + Sync>) = match error {
        SettleError::Queue(error) => return error,
        SettleError::DeadLetterRefused { queue, error } => match *error {
            SendError::Queue(error) => return error,
            error @ (SendError::Invalid(_) | SendError::Full { .. } | SendError::NoSuchQueue(_)) => {
                (queue, Arc::new(error))
            }
        },
        error @ SettleError::Expired => (queue.clone(), Arc::new(error)),
    };
    QueueError::Unavailable { queue, cause }
}
