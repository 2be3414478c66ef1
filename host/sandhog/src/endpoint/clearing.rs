//! Changes that go on when the request that asked for them has ended, and the deletion of many messages, which may take longer
//! than a request.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{SqsEndpoint, failed, queues::refused_change};
use crate::queue_set::{DeletedMessages, QueueChangeRefused};
use sandhog_queue::{Queue as _, QueueError, message::QueueName, printable::chain};
use sandhog_simple::SimpleQueue;
use sandhog_sqs_wire::SqsError;

/// How long a purge may hold up its answer. It goes on behind it, as on AWS, where a purge takes up to a minute.
const PURGE_ANSWER: Duration = Duration::from_secs(20);

impl SqsEndpoint {
    /// Deletes the messages that the deletion of a queue has left, because the host ended meanwhile.
    pub fn finish_deletions(&self) {
        let (queues, draining) = (Arc::clone(&self.queues), self.draining.clone());
        self.work.spawn(async move {
            let finished = draining.run_until_cancelled(queues.finish_deletions()).await;
            if let Some(Err(error)) = finished {
                tracing::warn!(
                    error = chain(&error),
                    "the messages of deleted queues keep their room until the next start"
                );
            }
        });
    }

    /// Makes a change of a queue as a whole, even if the request ends before.
    pub(super) async fn change_whole(
        &self,
        change: impl Future<Output = Result<(), QueueChangeRefused>> + Send + 'static,
    ) -> Result<(), QueueChangeRefused> {
        self.work
            .spawn(change)
            .await
            .expect("a change of a queue does not panic")
    }

    /// Deletes a queue. Its messages go behind the answer.
    pub(super) async fn delete_whole(&self, queue: Arc<SimpleQueue>) -> Result<(), SqsError> {
        let (queues, name) = (Arc::clone(&self.queues), queue.name().clone());
        let delete = async move { queues.delete(&name).await };
        self.delete_by(delete, queue)
            .await
            .map_err(|refused| refused_change(&refused))
    }

    /// Deletes a queue for an operator, who has asked whether anything needs it. Its messages go behind the answer, if it may have some.
    ///
    /// # Errors
    ///
    /// See [`QueueSet::delete_unneeded`](crate::queue_set::QueueSet::delete_unneeded).
    ///
    /// # Cancel safety
    ///
    /// The queue is deleted as a whole, or not, even if the future is dropped.
    pub async fn delete_unneeded(
        &self,
        queue: Arc<SimpleQueue>,
        messages: DeletedMessages,
    ) -> Result<(), QueueChangeRefused> {
        let (queues, name) = (Arc::clone(&self.queues), queue.name().clone());
        let delete = async move { queues.delete_unneeded(&name, messages).await };
        self.delete_by(delete, queue).await
    }

    async fn delete_by(
        &self,
        delete: impl Future<Output = Result<(), QueueChangeRefused>> + Send + 'static,
        queue: Arc<SimpleQueue>,
    ) -> Result<(), QueueChangeRefused> {
        let (work, draining) = (self.work.clone(), self.draining.clone());
        let name = queue.name().clone();
        self.purges.forget(&name);
        self.change_whole(async move {
            delete.await?;
            work.spawn(async move {
                if let Err(error) = clear(&queue, &draining).await {
                    warn(&name, &error);
                }
            });
            Ok(())
        })
        .await
    }

    /// Deletes the messages of a queue.
    pub(super) async fn purge(&self, queue: Arc<SimpleQueue>) -> Result<(), SqsError> {
        let draining = self.draining.clone();
        let clearing = self.work.spawn(async move { clear(&queue, &draining).await });
        match timeout(PURGE_ANSWER, clearing).await {
            Ok(cleared) => cleared.expect("a purge does not panic").map_err(|error| failed(&error)),
            Err(_late) => Ok(()),
        }
    }
}

/// Deletes messages until the host stops.
async fn clear(queue: &SimpleQueue, draining: &CancellationToken) -> Result<(), QueueError> {
    let cleared = draining.run_until_cancelled(queue.clear()).await;
    cleared.map_or(Ok(()), |cleared| cleared.map(drop))
}

fn warn(queue: &QueueName, error: &QueueError) {
    tracing::warn!(%queue, error = chain(error), "the messages of a deleted queue keep their room until the next start");
}
