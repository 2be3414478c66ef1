//! What was received more often than it may be becomes a dead letter before it runs again.
//!
//! Only of queues whose server does not see to that by itself: those with a configured dead-letter queue and no redrive
//! policy.

use std::{collections::HashSet, sync::Arc};

use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use super::{
    batch::settle_error,
    ending::Ending,
    failure::{Action, Class, Failure},
    held::HeldDelivery,
    remote::Remote,
    tasks::Tasks,
};
use crate::{
    message::{MessageId, QueueName},
    printable::chain,
    queue::{FailureKind, FailureRecord, QueueError, Receipt, SendError, SettleError},
};

/// How many messages that could not become dead letters are remembered, so that each is warned of once.
const WARNED: usize = 1000;
/// How many dead letters of one receive are made at the same time.
const BURIALS: usize = 8;

/// Makes dead letters of them.
#[derive(Debug)]
pub(super) struct Exhausted {
    remote: Arc<Remote>,
    tasks: Tasks,
    // Never held across an await.
    warned: Mutex<HashSet<MessageId>>,
}

impl Exhausted {
    pub(super) fn new(remote: Arc<Remote>, tasks: Tasks) -> Self {
        Self {
            remote,
            tasks,
            warned: Mutex::default(),
        }
    }

    /// Makes dead letters of messages that are hidden until `deadline`. Those that the dead-letter queue does not take stay
    /// hidden until then. Takes no longer than that.
    ///
    /// # Cancel safety
    ///
    /// Safe: a dead letter that was begun is made, and deleted from where it was.
    pub(super) async fn bury_all(&self, messages: Vec<Receipt>, deadline: Instant) -> Result<(), QueueError> {
        let burials: Vec<_> = messages.iter().map(|receipt| self.bury(receipt)).collect();
        let burials = stream::iter(burials).buffered(BURIALS).collect::<Vec<_>>();
        let Ok(buried) = timeout_at(deadline, burials).await else {
            let failure = Failure::local(Action::SendMessageBatch, Class::Timeout, "dead letters were not taken");
            return Err(self.remote.unavailable(failure));
        };
        let failed = buried.into_iter().find_map(Result::err);
        failed.map_or(Ok(()), |error| Err(queue_error(error, &self.remote.name)))
    }

    async fn bury(&self, receipt: &Receipt) -> Result<(), SettleError> {
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
        let step = bury(Arc::clone(&self.remote), receipt.clone(), failure.clone());
        let Some(buried) = self.tasks.whole(step).await else {
            let failure = Failure::local(Action::SendMessageBatch, Class::Connection, "the host is stopping");
            return Err(self.remote.unavailable(failure).into());
        };
        let deleted = match buried {
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

    /// A message stays where it was.
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

    /// Whether a message was not warned of yet.
    fn warn_of(&self, id: &MessageId) -> bool {
        let mut warned = self.warned.lock();
        if warned.len() >= WARNED {
            warned.clear();
        }
        warned.insert(id.clone())
    }
}

/// Makes a dead letter, and deletes it from where it was; answers how that went.
async fn bury(
    remote: Arc<Remote>,
    receipt: Receipt,
    failure: FailureRecord,
) -> Result<Result<(), SettleError>, SettleError> {
    let (Some(held), Some(handle)) = (remote.held.get(&receipt), receipt.as_text()) else {
        return Ok(Err(SettleError::Expired));
    };
    remote.bury(&held, &failure).await?;
    let entry = Ending { handle, hide_s: None };
    let deleted = remote.end_all(&[entry], remote.ending()).await;
    Ok(deleted.into_iter().try_for_each(|each| each.map_err(settle_error)))
}

/// What a receive answers if a settlement was in vain: the innermost error that names a queue and a cause.
fn queue_error(error: SettleError, queue: &QueueName) -> QueueError {
    let (queue, cause): (_, Arc<dyn std::error::Error + Send + Sync>) = match error {
        SettleError::Queue(error) => return error,
        SettleError::DeadLetterRefused { queue, error } => match *error {
            SendError::Queue(error) => return error,
            error @ (SendError::Invalid(_) | SendError::Full { .. } | SendError::NoSuchQueue(_)) => {
                (queue, Arc::new(error))
            }
        },
        error @ (SettleError::Expired
        | SettleError::SendRefused { .. }
        | SettleError::WriteRefused(_)
        | SettleError::Incomplete) => (queue.clone(), Arc::new(error)),
    };
    QueueError::Unavailable { queue, cause }
}
