//! The deletion of a queue for an operator, who may delete what the host has declared once nothing needs it any more.
//!
//! Invariant: a queue that the configuration or the newest version of a handler names stays. Which other versions are at work is
//! for the caller to find out.

use super::{QueueChangeRefused, QueueSet};
use sandhog_queue::{Queue as _, message::QueueName};

/// Which messages a queue may have that is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeletedMessages {
    /// None: a queue with messages stays.
    None,
    /// Any.
    All,
}

/// Returns how a handler needs a queue, for people: it takes the first of its queues, and may send to the others.
pub(crate) fn handler_need<'q>(
    handler: &str,
    queues: impl IntoIterator<Item = &'q QueueName>,
    name: &QueueName,
) -> Option<String> {
    match queues.into_iter().position(|queue| queue == name)? {
        0 => Some(format!("handler {handler} takes it")),
        _ => Some(format!("handler {handler} may send to it (grant.send)")),
    }
}

impl QueueSet {
    /// Returns what keeps a queue from being deleted, for people: the configuration or a handler names it, or
    /// other queues need it.
    pub fn need_of(&self, name: &QueueName) -> Option<String> {
        if self.is_configured(name) {
            return Some(format!("sandhog.toml declares it: [queues.{name}]"));
        }
        let of_handler = |(handler, queues): (&String, &Vec<QueueName>)| handler_need(handler, queues, name);
        if let Some(need) = self.named_by.lock().iter().find_map(of_handler) {
            return Some(need);
        }
        let declared = self.declared.read();
        let mut others = declared
            .keys()
            .filter(|other| *other != name && !self.remote.contains_key(*other));
        let source = others.find(|other| self.settings_in(&declared, other).dead_letter == *name);
        source.map(|source| format!("it is the dead-letter queue of {source}"))
    }

    /// Returns whether `sandhog.toml` has a table for the queue.
    pub fn is_configured(&self, name: &QueueName) -> bool {
        self.configured.read().contains_key(name)
    }

    /// Returns the name of a queue's dead-letter queue, if that exists and the host made it for this queue without being told its name.
    pub fn made_dead_letter_queue(&self, name: &QueueName) -> Option<QueueName> {
        let target = self.settings(name).dead_letter;
        let is_usual = target == name.default_dead_letter();
        (is_usual && self.simple(&target).is_some()).then_some(target)
    }

    /// The newest version of a handler names these queues, so that they stay: it takes the first one, and may send to the others. It is
    /// said before the queues are declared, so that a deletion either sees it or is over by then.
    pub fn named_by(&self, handler: &str, queues: &[QueueName]) {
        self.named_by.lock().insert(handler.to_owned(), queues.to_vec());
    }

    /// A handler is gone, and needs no queue.
    pub fn forget_names_of(&self, handler: &str) {
        self.named_by.lock().remove(handler);
    }

    /// Deletes a queue that nothing needs, although the host may have declared it. Returns the number of its messages. They keep their
    /// room; see [`sandhog_simple::SimpleQueue::retire`]. Who still has the queue can send nothing to it, and receives nothing.
    ///
    /// # Errors
    ///
    /// See [`QueueChangeRefused`]; then the queue is as it was.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may have deleted the queue, and leave its name in use until the next start.
    pub async fn delete_unneeded(
        &self,
        name: &QueueName,
        messages: DeletedMessages,
    ) -> Result<u64, QueueChangeRefused> {
        let _turn = self.turn().await;
        let Some(simple) = self.declared_queue(name)?.simple else {
            return Err(QueueChangeRefused::Declared { queue: name.clone() });
        };
        // Whatever begins to need the queue from here on waits for the turn, and declares it anew.
        if let Some(need) = self.need_of(name) {
            return Err(QueueChangeRefused::Needed {
                queue: name.clone(),
                need,
            });
        }
        let deleted = match messages {
            DeletedMessages::All => {
                let counts = simple.counts().await?;
                simple.retire().await?;
                counts.ready + counts.in_flight + counts.delayed + counts.damaged
            }
            DeletedMessages::None => {
                let messages = simple.retire_empty().await?;
                if messages > 0 {
                    let queue = name.clone();
                    return Err(QueueChangeRefused::HasMessages { queue, messages });
                }
                0
            }
        };
        self.declared.write().remove(name);
        Ok(deleted)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use super::*;
    use sandhog_simple::SimpleStore;

    fn name(name: &str) -> QueueName {
        QueueName::new(name).unwrap()
    }

    #[tokio::test]
    async fn a_queue_that_a_handler_is_about_to_take_is_not_deleted() {
        let queues = QueueSet::new(SimpleStore::ephemeral(), BTreeMap::new(), Arc::default());
        queues.declare(&name("orders")).await.unwrap();
        queues.named_by("shop", &[name("orders")]);
        let refused = queues.delete_unneeded(&name("orders"), DeletedMessages::All).await;
        let why = refused.unwrap_err().to_string();
        assert_eq!(why, "queue orders can't be deleted: handler shop takes it");
        queues.named_by("shop", &[name("other"), name("orders")]);
        let need = queues.need_of(&name("orders")).unwrap();
        assert_eq!(need, "handler shop may send to it (grant.send)");
        queues.forget_names_of("shop");
        queues
            .delete_unneeded(&name("orders"), DeletedMessages::All)
            .await
            .unwrap();
        assert!(queues.get(&name("orders")).is_none());
    }
}
