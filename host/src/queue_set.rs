//! All queues that the host knows, by name.
//!
//! A queue comes into being when something names it: the configuration, a handler, a grant, a dead-letter
//! setting. Invariant: a declared queue stays declared, with the settings it was declared with, until the
//! process ends, so that an `Arc` handed out never goes stale. Nothing here knows what a handler is.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use crate::{
    message::QueueName,
    queue::{
        Queue, QueueError,
        simple::{SimpleStore, settings::Settings},
    },
};

/// The queues of one host, over one store.
#[derive(Debug)]
pub struct QueueSet {
    store: SimpleStore,
    configured: BTreeMap<QueueName, Settings>,
    // Never held across an await, so a std lock.
    declared: RwLock<BTreeMap<QueueName, Arc<dyn Queue>>>,
}

impl QueueSet {
    /// A set without queues. `configured` are the settings of `[queues.NAME]`; every other queue has the defaults.
    pub fn new(store: SimpleStore, configured: BTreeMap<QueueName, Settings>) -> Self {
        Self {
            store,
            configured,
            declared: RwLock::default(),
        }
    }

    /// The queue of this name, which exists from now on, as does the dead-letter queue that its settings name.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have declared the queue. Both are harmless: declaring is idempotent.
    pub async fn declare(&self, name: &QueueName) -> Result<Arc<dyn Queue>, QueueError> {
        let queue = match self.get(name) {
            Some(queue) => queue,
            None => self.declare_alone(name).await?,
        };
        if self.is_dead_letter_queue(name) && !self.configured.contains_key(name) {
            return Ok(queue);
        }
        // A dead-letter queue with defaults leads to another one by its name alone, and so on for ever: the
        // chain goes on only where somebody configured it. The configuration has no cycles.
        let mut next = self.settings(name).dead_letter;
        while self.get(&next).is_none() {
            self.declare_alone(&next).await?;
            match self.configured.get(&next) {
                Some(settings) => next = settings.dead_letter.clone(),
                None => break,
            }
        }
        Ok(queue)
    }

    /// Declares every configured queue and every queue that the store holds from an earlier run, so that what waits
    /// in a queue without a handler can still be seen, received and counted. Called once, before anything serves.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    ///
    /// # Cancel safety
    ///
    /// As [`QueueSet::declare`].
    pub async fn declare_known(&self) -> Result<(), QueueError> {
        for name in self.configured.keys() {
            self.declare(name).await?;
        }
        for name in self.store.queue_names().await? {
            // Alone: its dead-letter queue, if it ever had one, is in the store as well.
            if self.get(&name).is_none() {
                self.declare_alone(&name).await?;
            }
        }
        Ok(())
    }

    /// The queue of this name, if it was declared.
    pub fn get(&self, name: &QueueName) -> Option<Arc<dyn Queue>> {
        self.declared
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .map(Arc::clone)
    }

    /// All declared queues, by name.
    pub fn list(&self) -> Vec<Arc<dyn Queue>> {
        self.declared
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .map(Arc::clone)
            .collect()
    }

    /// Whether the messages of another queue end in this one, so that what fails in it stays in it.
    fn is_dead_letter_queue(&self, name: &QueueName) -> bool {
        let declared = self.declared.read().unwrap_or_else(PoisonError::into_inner);
        declared
            .keys()
            .any(|other| other != name && self.settings(other).dead_letter == *name)
    }

    fn settings(&self, name: &QueueName) -> Settings {
        self.configured
            .get(name)
            .cloned()
            .unwrap_or_else(|| Settings::defaults(name))
    }

    async fn declare_alone(&self, name: &QueueName) -> Result<Arc<dyn Queue>, QueueError> {
        let queue: Arc<dyn Queue> = self.store.queue(name.clone(), self.settings(name)).await?;
        let mut declared = self.declared.write().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(declared.entry(name.clone()).or_insert(queue)))
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
        let queues = QueueSet::new(SimpleStore::ephemeral(), BTreeMap::new());
        queues.declare(&name("orders")).await.unwrap();
        assert_eq!(names(&queues), ["orders", "orders-dead"]);
    }

    #[tokio::test]
    async fn declaring_again_changes_nothing() {
        let queues = QueueSet::new(SimpleStore::ephemeral(), BTreeMap::new());
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
                Settings {
                    dead_letter: name(dead),
                    ..Settings::defaults(&name(queue))
                },
            )
        };
        let configured = BTreeMap::from([settings("a", "b"), settings("b", "c")]);
        let queues = QueueSet::new(SimpleStore::ephemeral(), configured);
        queues.declare(&name("a")).await.unwrap();
        assert_eq!(names(&queues), ["a", "b", "c"]);
    }

    #[tokio::test]
    async fn an_unknown_queue_is_not_made_by_asking_for_it() {
        let queues = QueueSet::new(SimpleStore::ephemeral(), BTreeMap::new());
        assert!(queues.get(&name("orders")).is_none());
        assert!(names(&queues).is_empty());
    }
}
