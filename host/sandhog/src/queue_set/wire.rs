//! What clients of the SQS endpoint see of the queues, and change.
//!
//! Clients create, change and delete queues of their own. What the host declares they can't change: the configuration and the
//! handlers say what such a queue is.

use std::{num::NonZeroU32, sync::Arc};

use tokio::sync::SemaphorePermit;

use super::{
    DeclaredQueue, QueueSet,
    wire_queue::{WireQueue, is_fifo},
};
use sandhog_queue::{Queue as _, QueueError, message::QueueName};
use sandhog_simple::SimpleQueue;
use sandhog_sqs_wire::RedriveAllowPolicy;

/// The most queues that clients may create.
const MAX_WIRE_QUEUES: usize = 10_000;

/// A Simple queue as a client sees it.
#[derive(Debug, Clone)]
pub struct SimpleQueueEntry {
    /// The queue.
    pub queue: Arc<SimpleQueue>,
    /// Its settings and tags, in the words of SQS.
    pub wire: Arc<WireQueue>,
    /// A client created it, and a handler takes it.
    has_handler_defaults: bool,
}

impl SimpleQueueEntry {
    /// Returns whether the queue is FIFO: its name says so.
    pub fn is_fifo(&self) -> bool {
        is_fifo(self.queue.name())
    }

    /// Returns the queue to which dead letters go, and the number of receives before. A queue that a client created without a redrive
    /// policy has one as soon as a handler takes it.
    pub fn dead_letter_queue(&self) -> Option<(QueueName, NonZeroU32)> {
        let name = self.queue.name();
        if self.has_handler_defaults {
            let settings = self.wire.settings.simple_for_handler(name);
            return Some((settings.dead_letter, settings.max_receives));
        }
        let settings = &self.wire.settings;
        let target = QueueName::new(settings.dead_letter.as_deref()?).ok()?;
        Some((target, settings.max_receives?))
    }

    /// Returns whether the queue takes the dead letters of the queue `source`.
    pub fn allows_dead_letters_of(&self, source: &QueueName) -> bool {
        let Some(policy) = &self.wire.settings.redrive_allow else {
            return true;
        };
        RedriveAllowPolicy::parse(policy).is_ok_and(|policy| policy.allows(source.as_str()))
    }
}

/// Why a client can't change a queue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueChangeRefused {
    /// There is a queue of this name.
    #[error("there is a queue of this name")]
    Exists,
    /// There is no queue of this name.
    #[error("there is no queue of this name")]
    Missing,
    /// The host declares the queue.
    #[error("queue {queue} is declared by the host, in sandhog.toml or for a handler: change it there")]
    Declared {
        /// The queue.
        queue: QueueName,
    },
    /// Something needs the queue.
    #[error("queue {queue} can't be deleted: {need}")]
    Needed {
        /// The queue.
        queue: QueueName,
        /// What needs it, for people.
        need: String,
    },
    /// There are as many queues as clients may create.
    #[error("clients have created {limit} queues, the most that this host keeps: delete some")]
    TooMany {
        /// The number.
        limit: usize,
    },
    /// The queue has messages, and is to be deleted only if it has none.
    #[error(
        "queue {queue} has messages ({messages}, with those in flight and its dead letters): delete them first, or ask for that (with-messages, --with-messages)"
    )]
    HasMessages {
        /// The queue.
        queue: QueueName,
        /// Their number.
        messages: u64,
    },
    /// See [`QueueError`].
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl QueueSet {
    /// Returns the Simple queue of this name.
    pub fn simple(&self, name: &QueueName) -> Option<SimpleQueueEntry> {
        let declared = self.declared.read();
        let found = declared.get(name)?;
        Some(SimpleQueueEntry {
            queue: Arc::clone(found.simple.as_ref()?),
            wire: Arc::clone(&found.wire),
            has_handler_defaults: found.is_wire && found.is_kept,
        })
    }

    /// Returns the names of all Simple queues, in their order.
    pub fn simple_names(&self) -> Vec<QueueName> {
        let declared = self.declared.read();
        let simple = declared.iter().filter(|(_, declared)| declared.simple.is_some());
        simple.map(|(name, _)| name.clone()).collect()
    }

    /// Creates a queue for a client.
    ///
    /// # Errors
    ///
    /// See [`QueueChangeRefused`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have created the queue; create it again.
    pub async fn create(&self, name: &QueueName, wire: WireQueue) -> Result<(), QueueChangeRefused> {
        let _turn = self.turn().await;
        if self.remote.contains_key(name) {
            return Err(QueueChangeRefused::Declared { queue: name.clone() });
        }
        if self.get(name).is_some() {
            return Err(QueueChangeRefused::Exists);
        }
        let number = self
            .declared
            .read()
            .values()
            .filter(|declared| declared.is_wire)
            .count();
        if number >= MAX_WIRE_QUEUES {
            return Err(QueueChangeRefused::TooMany { limit: MAX_WIRE_QUEUES });
        }
        self.write(name, wire, false).await
    }

    /// Returns a queue that is declared.
    pub(crate) fn declared_queue(&self, name: &QueueName) -> Result<DeclaredQueue, QueueChangeRefused> {
        let declared = self.declared.read();
        declared.get(name).cloned().ok_or(QueueChangeRefused::Missing)
    }

    /// Gives a queue that a client created other settings or tags.
    ///
    /// # Errors
    ///
    /// See [`QueueChangeRefused`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have changed the queue, as a whole.
    pub async fn update(&self, name: &QueueName, wire: WireQueue) -> Result<(), QueueChangeRefused> {
        let _turn = self.turn().await;
        let declared = self.declared_queue(name)?;
        if !declared.is_wire {
            return Err(QueueChangeRefused::Declared { queue: name.clone() });
        }
        self.write(name, wire, declared.is_kept).await
    }

    /// Deletes a queue that the host does not need. Its messages keep their room; see [`SimpleQueue::retire`].
    ///
    /// # Errors
    ///
    /// See [`QueueChangeRefused`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may have deleted the queue, and leave its name in use until the next start.
    pub async fn delete(&self, name: &QueueName) -> Result<(), QueueChangeRefused> {
        let _turn = self.turn().await;
        let declared = self.declared_queue(name)?;
        let Some(simple) = declared.simple.filter(|_| !declared.is_kept) else {
            return Err(QueueChangeRefused::Declared { queue: name.clone() });
        };
        simple.retire().await?;
        self.declared.write().remove(name);
        Ok(())
    }

    /// Deletes the messages that deletions of queues have left.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves some of them.
    pub async fn finish_deletions(&self) -> Result<(), QueueError> {
        self.store.finish_deletions().await
    }

    async fn write(&self, name: &QueueName, wire: WireQueue, is_kept: bool) -> Result<(), QueueChangeRefused> {
        let settings = if is_kept {
            wire.settings.simple_for_handler(name)
        } else {
            wire.settings.simple(name)
        };
        let simple = self.store.queue_with(name.clone(), settings, wire.record()).await?;
        let declared = DeclaredQueue {
            queue: Arc::<SimpleQueue>::clone(&simple),
            simple: Some(simple),
            wire: Arc::new(wire),
            is_wire: true,
            is_kept,
        };
        self.declared.write().insert(name.clone(), declared);
        Ok(())
    }

    pub(super) async fn turn(&self) -> SemaphorePermit<'_> {
        self.changes.acquire().await.expect("the semaphore is never closed")
    }
}
