//! Changes that go on when the request that asked for them has ended, and the deletion of many messages, which may take longer
//! than a request.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{SqsEndpoint, failed, queues::refused_change};
use crate::{
    halts::{Halt, HaltTarget, Halts},
    queue_set::{DeletedMessages, QueueChangeRefused},
};
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
    pub(super) async fn change_whole<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, QueueChangeRefused>> + Send + 'static,
    ) -> Result<T, QueueChangeRefused> {
        self.work
            .spawn(change)
            .await
            .expect("a change of a queue does not panic")
    }

    /// Deletes a queue. Its messages go behind the answer.
    pub(super) async fn delete_whole(&self, queue: Arc<SimpleQueue>) -> Result<(), SqsError> {
        let (queues, name) = (Arc::clone(&self.queues), queue.name().clone());
        let remains = self.remains_of(queue);
        let deleted = self.change_whole(async move {
            queues.delete(&name).await?;
            remains.clear_away().await;
            Ok(())
        });
        deleted.await.map_err(|refused| refused_change(&refused))
    }

    /// Deletes a queue that nothing needs, for an operator, with its dead letters. Returns the number of messages and dead letters that
    /// are gone; the messages keep their room until they are deleted behind the answer.
    ///
    /// # Errors
    ///
    /// See [`QueueSet::delete_unneeded`](crate::queue_set::QueueSet::delete_unneeded). If the store fails after that, the queue is deleted, and its dead letters may be left in
    /// their queue.
    ///
    /// # Cancel safety
    ///
    /// The queue is deleted as a whole, or not, even if the future is dropped.
    pub async fn delete_unneeded(
        &self,
        queue: Arc<SimpleQueue>,
        messages: DeletedMessages,
    ) -> Result<u64, QueueChangeRefused> {
        let (queues, draining) = (Arc::clone(&self.queues), self.draining.clone());
        let remains = self.remains_of(Arc::clone(&queue));
        self.change_whole(async move {
            let here = queues.delete_unneeded(queue.name(), messages).await?;
            remains.clear_away().await;
            let dead = match messages {
                // A host that stops leaves the rest in the dead-letter queue.
                DeletedMessages::All => draining.run_until_cancelled(queue.purge_dead()).await.transpose()?,
                DeletedMessages::None => None,
            };
            Ok(here + dead.unwrap_or_default())
        })
        .await
    }

    fn remains_of(&self, queue: Arc<SimpleQueue>) -> QueueRemains {
        self.purges.forget(queue.name());
        QueueRemains {
            halt: self.halts.of_queue(queue.name()),
            queue,
            halts: Arc::clone(&self.halts),
            work: self.work.clone(),
            draining: self.draining.clone(),
        }
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

/// What a queue that is deleted leaves.
struct QueueRemains {
    queue: Arc<SimpleQueue>,
    /// The halt of the queue, as it was before the deletion.
    halt: Option<Halt>,
    halts: Arc<Halts>,
    work: TaskTracker,
    draining: CancellationToken,
}

impl QueueRemains {
    /// Takes the halt of the queue back, and has the messages deleted in a task of its own.
    async fn clear_away(self) {
        let Self {
            queue,
            halt,
            halts,
            work,
            draining,
        } = self;
        // A queue of the same name that comes later has nothing to do with the order about this one, and may have one of its own.
        if let Some(halt) = halt
            && let Err(error) = halts.take_back(HaltTarget::Queue(queue.name().clone()), halt).await
        {
            let error = chain(&error);
            tracing::warn!(queue = %queue.name(), error, "the pause of a deleted queue could not be taken back; resume takes the queue's name");
        }
        work.spawn(async move {
            if let Err(error) = clear(&queue, &draining).await {
                warn(queue.name(), &error);
            }
        });
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
