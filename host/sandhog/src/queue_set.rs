//! The queues of the host, by name.
//!
//! The configuration, a handler, a grant or the setting of a dead-letter queue names a queue, and the host declares it then.
//! Invariant: a queue that the host declared stays declared until the process ends, with the settings that it was declared with,
//! so that an `Arc` of it never goes stale. `queue_set/wire.rs` has what clients may change. Knows nothing of handlers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures_util::future::join_all;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Semaphore;

use crate::config::QueueSettings;
use sandhog_queue::{
    Effects, Queue, QueueError,
    keyvalue::{KeyValue, Writes},
    message::{MessageId, QueueName},
};
use sandhog_simple::{
    CommitError, DiskUse, ProcessedMessageKey, QueueMaker, SimpleQueue, SimpleStore, settings::Settings,
};
use sandhog_sqs::{SqsConnection, SqsMetrics, SqsQueue};

mod deletion;
mod metrics;
mod reconfigure;
mod wire;
mod wire_queue;

pub(crate) use self::deletion::handler_need;
pub use self::{
    deletion::DeletedMessages,
    metrics::QueueMetrics,
    wire::{QueueChangeRefused, SimpleQueueEntry},
    wire_queue::{WireQueue, WireQueueSettings, is_fifo},
};

/// The queues of one host: those of its store, and those with a `url`.
#[derive(Debug)]
pub struct QueueSet {
    store: SimpleStore,
    /// Never locked while [`QueueSet::declared`] is to be written.
    configured: RwLock<BTreeMap<QueueName, QueueSettings>>,
    remote: BTreeMap<QueueName, Arc<SqsQueue>>,
    // The lock is never held across an await.
    declared: RwLock<BTreeMap<QueueName, DeclaredQueue>>,
    /// One permit: clients change queues, and the host declares them, one after another.
    changes: Semaphore,
    /// By handler: the queues that its newest version names, the one that it takes first.
    named_by: Mutex<BTreeMap<String, Vec<QueueName>>>,
}

/// A queue that accepts messages.
#[derive(Debug, Clone)]
pub(crate) struct DeclaredQueue {
    queue: Arc<dyn Queue>,
    /// The same, if it is a Simple one.
    simple: Option<Arc<SimpleQueue>>,
    /// How clients see it.
    wire: Arc<WireQueue>,
    /// A client created it.
    is_wire: bool,
    /// The host needs it: the configuration, a handler, a grant or the dead letters of such a queue.
    is_kept: bool,
}

impl QueueSet {
    /// Returns a set without queues. `configured` has the settings of `[queues.NAME]`; every other queue is a Simple one with the
    /// defaults. The host asks nothing of a queue with a `url` before a task uses it.
    pub fn new(store: SimpleStore, configured: BTreeMap<QueueName, QueueSettings>, metrics: Arc<SqsMetrics>) -> Self {
        let mut set = Self {
            store,
            configured: RwLock::new(configured),
            remote: BTreeMap::new(),
            declared: RwLock::default(),
            changes: Semaphore::new(1),
            named_by: Mutex::default(),
        };
        let connection = SqsConnection::new(metrics);
        let names = set.configured_names();
        for name in &names {
            set.connect(name, &connection);
        }
        set
    }

    /// Connects the SQS queue of this name, after its dead-letter queue. The configuration has no cycles.
    fn connect(&mut self, name: &QueueName, connection: &SqsConnection) -> Option<Arc<SqsQueue>> {
        if let Some(queue) = self.remote.get(name) {
            return Some(Arc::clone(queue));
        }
        let Some(QueueSettings::Sqs(settings)) = self.configured.read().get(name).cloned() else {
            return None;
        };
        let dead_letter = settings.dead_letter.clone();
        let dead_letter = dead_letter.and_then(|name| self.connect(&name, connection));
        let queue = Arc::new(SqsQueue::connect(
            connection,
            name.clone(),
            settings,
            dead_letter.as_deref(),
        ));
        self.remote.insert(name.clone(), Arc::clone(&queue));
        Some(queue)
    }

    /// Declares the queue of this name, and the dead-letter queue that its settings name.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have declared the queue. Both are harmless: declaring is idempotent.
    pub async fn declare(&self, name: &QueueName) -> Result<Arc<dyn Queue>, QueueError> {
        let queue = self.declare_kept(name).await?;
        if self.remote.contains_key(name) || self.is_dead_letter_queue(name) && !self.is_configured(name) {
            return Ok(queue);
        }
        // A dead-letter queue with defaults has another dead-letter queue, and so on for ever. So the chain goes on only where the
        // configuration names the next queue. The configuration has no cycles.
        let mut next = self.settings(name).dead_letter;
        while !self.is_kept(&next) {
            if self.remote.contains_key(&next) {
                tracing::warn!(queue = %name, dead_letter = %next, "the dead letters of this queue stay in the data directory, though an SQS queue has the name of their queue: give it another dead-letter");
                break;
            }
            self.declare_kept(&next).await?;
            if !self.is_configured(&next) {
                break;
            }
            next = self.settings(&next).dead_letter;
        }
        Ok(queue)
    }

    /// Declares every configured queue and every queue that the store holds from an earlier run, so that the messages of a queue
    /// without a handler can be seen, received and counted. The host calls it once, before a handler serves.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    ///
    /// # Cancel safety
    ///
    /// As [`QueueSet::declare`].
    pub async fn declare_known(&self) -> Result<(), QueueError> {
        for name in &self.configured_names() {
            self.declare(name).await?;
        }
        for name in self.store.queue_names().await? {
            if self.remote.contains_key(&name) {
                tracing::warn!(queue = %name, "the queue has a url now; messages of an earlier run that the data directory holds under this name are not seen until the url is taken away");
            }
            // The dead-letter queue of this queue is in the store as well, if it ever existed.
            if self.get(&name).is_none() {
                self.declare_alone(&name).await?;
            }
        }
        Ok(())
    }

    /// Returns the room that the store takes on its disk; `None` for a store in memory.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn disk_use(&self) -> Result<Option<DiskUse>, QueueError> {
        self.store.disk_use().await
    }

    /// Returns the queue of this name, if it was declared.
    pub fn get(&self, name: &QueueName) -> Option<Arc<dyn Queue>> {
        self.declared
            .read()
            .get(name)
            .map(|declared| Arc::clone(&declared.queue))
    }

    /// Returns all declared queues, by name.
    pub fn list(&self) -> Vec<Arc<dyn Queue>> {
        let declared = self.declared.read();
        declared.values().map(|declared| Arc::clone(&declared.queue)).collect()
    }

    /// Returns the names of the queues whose series stay on the page even if they are empty: the configured ones, the `used` ones,
    /// and their dead-letter queues.
    pub fn lasting_names(&self, used: &BTreeSet<String>) -> BTreeSet<String> {
        let used = used.iter().filter_map(|name| QueueName::new(name).ok());
        let named = self.configured_names().into_iter().chain(used);
        named
            .flat_map(|name| [self.settings(&name).dead_letter.to_string(), name.to_string()])
            .collect()
    }

    /// Returns whether this is the dead-letter queue of another queue, so that a message that fails in it stays in it.
    pub fn is_dead_letter_queue(&self, name: &QueueName) -> bool {
        let declared = self.declared.read();
        declared
            .keys()
            .filter(|other| *other != name && !self.remote.contains_key(*other))
            .any(|other| self.settings_in(&declared, other).dead_letter == *name)
    }

    /// Closes all queues; see [`Queue::close`].
    ///
    /// # Cancel safety
    ///
    /// See there.
    pub async fn close(&self) {
        let queues = self.list();
        join_all(queues.iter().map(|queue| queue.close())).await;
    }

    /// Returns whether a receive is under way that may take messages, see [`Queue::is_receiving`].
    pub fn is_receiving(&self) -> bool {
        self.list().iter().any(|queue| queue.is_receiving())
    }

    /// Returns whether the store can send to this queue in its own transaction.
    pub fn commits_sends_to(&self, name: &QueueName) -> bool {
        !self.remote.contains_key(name) && self.get(name).is_some_and(|queue| queue.commits_sends_to(name))
    }

    /// Returns the reader of a handler's key-value store. The store exists from its first entry on, and stays when the handler
    /// goes.
    pub fn keyvalue(&self, handler: &str) -> Arc<dyn KeyValue> {
        self.store.keyvalue(handler)
    }

    /// See [`SimpleStore::check_writes`].
    ///
    /// # Errors
    ///
    /// See there.
    pub async fn check_writes(&self, writes: Writes) -> Result<(), CommitError> {
        self.store.check_writes(writes).await
    }

    /// Returns whether this host has handled a message of this queue before, as far as it knows. It is always false for a queue
    /// whose deleted messages never return.
    pub fn was_handled(&self, queue: &dyn Queue, id: &MessageId) -> bool {
        queue.capabilities().redelivers_deleted && self.store.was_handled(&ProcessedMessageKey::new(queue.name(), id))
    }

    /// Notes that messages of a queue were handled, and makes `effects` happen, whose sends go to queues for which
    /// [`QueueSet::commits_sends_to`] holds, in one transaction. Without effects the note is on disk a moment later, so a
    /// crash may lose it. A queue whose deleted messages never return needs no note.
    ///
    /// # Errors
    ///
    /// See [`CommitError`]; nothing was noted, sent or written.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have done all of it.
    pub async fn note_handled(
        &self,
        queue: &dyn Queue,
        ids: &[MessageId],
        effects: Effects,
    ) -> Result<(), CommitError> {
        if !queue.capabilities().redelivers_deleted && effects.is_empty() {
            return Ok(());
        }
        let keys: Vec<ProcessedMessageKey> = ids
            .iter()
            .map(|id| ProcessedMessageKey::new(queue.name(), id))
            .collect();
        if effects.is_empty() {
            self.store.note_handled(keys);
            return Ok(());
        }
        self.store.commit(keys, effects).await
    }

    fn configured_names(&self) -> Vec<QueueName> {
        self.configured.read().keys().cloned().collect()
    }

    fn settings(&self, name: &QueueName) -> Settings {
        self.settings_in(&self.declared.read(), name)
    }

    /// As [`QueueSet::settings`], for a caller that holds the lock: a second read of the same thread may wait for ever.
    fn settings_in(&self, declared: &BTreeMap<QueueName, DeclaredQueue>, name: &QueueName) -> Settings {
        let configured = self.configured.read().get(name).cloned();
        match configured {
            Some(QueueSettings::Simple(settings)) => settings,
            Some(QueueSettings::Sqs(_)) | None => match declared.get(name).filter(|declared| declared.is_wire) {
                Some(declared) => declared.wire.settings.simple_for_handler(name),
                None => Settings::defaults(name),
            },
        }
    }

    fn is_kept(&self, name: &QueueName) -> bool {
        self.declared.read().get(name).is_some_and(|declared| declared.is_kept)
    }

    /// Declares a queue that the host needs. One that is declared is looked at in turn as well, since it may be about to be deleted.
    async fn declare_kept(&self, name: &QueueName) -> Result<Arc<dyn Queue>, QueueError> {
        if let Some(queue) = self.remote.get(name) {
            let queue: Arc<dyn Queue> = Arc::<SqsQueue>::clone(queue);
            let declared = DeclaredQueue {
                queue: Arc::clone(&queue),
                simple: None,
                wire: Arc::default(),
                is_wire: false,
                is_kept: true,
            };
            self.declared.write().insert(name.clone(), declared);
            return Ok(queue);
        }
        self.declare_simple(name, true).await
    }

    /// Declares a queue that the store holds, and that nothing but its messages needs.
    async fn declare_alone(&self, name: &QueueName) -> Result<Arc<dyn Queue>, QueueError> {
        self.declare_simple(name, false).await
    }

    async fn declare_simple(&self, name: &QueueName, is_kept: bool) -> Result<Arc<dyn Queue>, QueueError> {
        // No client changes or deletes the queue meanwhile.
        let _turn = self.turn().await;
        if (self.is_kept(name) || !is_kept)
            && let Some(queue) = self.get(name)
        {
            return Ok(queue);
        }
        let declared = self.declaration(name, is_kept).await?;
        let mut all = self.declared.write();
        let entry = all.entry(name.clone()).or_insert_with(|| declared.clone());
        if is_kept && !entry.is_kept {
            *entry = declared;
        }
        Ok(Arc::clone(&entry.queue))
    }

    /// Declares a Simple queue in the store, with its settings of now. The caller has the turn.
    async fn declaration(&self, name: &QueueName, is_kept: bool) -> Result<DeclaredQueue, QueueError> {
        let record = self.store.queue_record(name).await?;
        let of_client = record.as_ref().filter(|record| record.made_by == QueueMaker::Client);
        let of_client = of_client.filter(|_| !self.is_configured(name));
        let of_client = of_client.map(|record| WireQueue::of_record(name, record));
        let is_wire = of_client.is_some();
        let settings = match &of_client {
            Some(wire) if is_kept => wire.settings.simple_for_handler(name),
            Some(wire) => wire.settings.simple(name),
            None if is_kept || self.is_configured(name) => self.settings(name),
            // What is left of an earlier run makes no further queues.
            None => Settings {
                makes_dead_letter_queue: false,
                ..self.settings(name)
            },
        };
        let simple = self.store.queue(name.clone(), settings.clone()).await?;
        let wire = if let Some(wire) = of_client {
            wire
        } else {
            let record = self.store.queue_record(name).await?;
            let mut wire = WireQueue::of_host(name, &settings, record.as_ref());
            let has_no_other =
                !settings.makes_dead_letter_queue && self.store.queue_record(&settings.dead_letter).await?.is_none();
            if has_no_other || self.is_dead_letter_queue(name) && !self.is_configured(name) {
                // What fails in it stays in it.
                wire.settings.forget_dead_letters();
            }
            wire
        };
        Ok(DeclaredQueue {
            queue: Arc::<SimpleQueue>::clone(&simple),
            simple: Some(simple),
            wire: Arc::new(wire),
            is_wire,
            is_kept,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> QueueName {
        QueueName::new(name).unwrap()
    }

    fn names(queues: &QueueSet) -> Vec<String> {
        queues.list().iter().map(|queue| queue.name().to_string()).collect()
    }

    #[tokio::test]
    async fn a_queue_comes_with_its_dead_letter_queue() {
        let queues = QueueSet::new(SimpleStore::ephemeral(), BTreeMap::new(), Arc::default());
        queues.declare(&name("orders")).await.unwrap();
        assert_eq!(names(&queues), ["orders", "orders-dead"]);
    }

    #[tokio::test]
    async fn declaring_again_changes_nothing() {
        let queues = QueueSet::new(SimpleStore::ephemeral(), BTreeMap::new(), Arc::default());
        let first = queues.declare(&name("orders")).await.unwrap();
        assert!(Arc::ptr_eq(&first, &queues.declare(&name("orders")).await.unwrap()));
        queues.declare(&name("orders-dead")).await.unwrap();
        queues.declare_known().await.unwrap();
        assert_eq!(names(&queues), ["orders", "orders-dead"]);
    }

    #[tokio::test]
    async fn configured_dead_letter_queues_form_a_chain() {
        let settings = |queue: &str, dead: &str| {
            (
                name(queue),
                QueueSettings::Simple(Settings {
                    dead_letter: name(dead),
                    ..Settings::defaults(&name(queue))
                }),
            )
        };
        let configured = BTreeMap::from([settings("a", "b"), settings("b", "c")]);
        let queues = QueueSet::new(SimpleStore::ephemeral(), configured, Arc::default());
        queues.declare(&name("a")).await.unwrap();
        assert_eq!(names(&queues), ["a", "b", "c"]);
    }

    #[tokio::test]
    async fn what_an_earlier_run_left_makes_no_further_queues() {
        let store = SimpleStore::ephemeral();
        let before = QueueSet::new(store.clone(), BTreeMap::new(), Arc::default());
        before.declare(&name("failed")).await.unwrap();
        let queues = QueueSet::new(store, BTreeMap::new(), Arc::default());
        queues.declare_known().await.unwrap();
        assert_eq!(names(&queues), ["failed", "failed-dead"]);
        let has_dead_letters = |queue: &str| queues.simple(&name(queue)).unwrap().dead_letter_queue().is_some();
        assert!(has_dead_letters("failed"));
        assert!(!has_dead_letters("failed-dead"));
    }

    #[tokio::test]
    async fn a_clients_queue_shows_the_dead_letter_queue_that_its_handler_brings() {
        let queues = QueueSet::new(SimpleStore::ephemeral(), BTreeMap::new(), Arc::default());
        queues.create(&name("orders"), WireQueue::default()).await.unwrap();
        let dead_letter = || queues.simple(&name("orders")).unwrap().dead_letter_queue();
        assert_eq!(dead_letter(), None);
        queues.declare(&name("orders")).await.unwrap();
        let (target, receives) = dead_letter().unwrap();
        assert_eq!((target.as_str(), receives.get()), ("orders-dead", 5));
    }

    #[tokio::test]
    async fn an_unknown_queue_is_not_made_by_asking_for_it() {
        let queues = QueueSet::new(SimpleStore::ephemeral(), BTreeMap::new(), Arc::default());
        assert!(queues.get(&name("orders")).is_none());
        assert!(names(&queues).is_empty());
    }
}
