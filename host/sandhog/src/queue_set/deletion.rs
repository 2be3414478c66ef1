//! The deletion of a queue for an operator, who may delete what the host has declared once nothing needs it any more.
//!
//! Invariant: a queue of the configuration stays. Whether a handler needs a queue is for the caller to find out.

use super::{QueueChangeRefused, QueueSet};
use sandhog_queue::message::QueueName;

/// Which messages a queue may have that is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeletedMessages {
    /// None: a queue with messages stays.
    None,
    /// Any.
    All,
}

impl QueueSet {
    /// Returns what keeps a queue from being deleted, for people: the configuration names it, or other queues need it. `beside` is one
    /// of those that does not count.
    pub fn need_of(&self, name: &QueueName, beside: Option<&QueueName>) -> Option<String> {
        if self.is_configured(name) {
            return Some(format!("sandhog.toml declares it: [queues.{name}]"));
        }
        let declared = self.declared.read();
        let mut others = declared
            .keys()
            .filter(|other| *other != name && Some(*other) != beside && !self.remote.contains_key(*other));
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

    /// Deletes a queue although the host has declared it. Its messages keep their room; see [`sandhog_simple::SimpleQueue::retire`].
    /// Who still has the queue can send nothing to it, and receives nothing.
    ///
    /// # Errors
    ///
    /// See [`QueueChangeRefused`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may have deleted the queue, and leave its name in use until the next start.
    pub async fn delete_unneeded(&self, name: &QueueName, messages: DeletedMessages) -> Result<(), QueueChangeRefused> {
        let _turn = self.turn().await;
        let declared = self.declared_queue(name)?;
        let Some(simple) = declared.simple.filter(|_| !self.is_configured(name)) else {
            return Err(QueueChangeRefused::Declared { queue: name.clone() });
        };
        match messages {
            DeletedMessages::All => simple.retire().await?,
            DeletedMessages::None => {
                let messages = simple.retire_empty().await?;
                if messages > 0 {
                    let queue = name.clone();
                    return Err(QueueChangeRefused::HasMessages { queue, messages });
                }
            }
        }
        self.declared.write().remove(name);
        Ok(())
    }
}
