//! Other settings for the queues of a host that runs.
//!
//! Invariant: a queue keeps its messages, and is at no moment gone. The store applies the settings at once, for everybody who has the
//! queue.

use super::QueueSet;
use crate::config::QueueSettings;
use sandhog_queue::{QueueError, message::QueueName};
use sandhog_simple::settings::Settings;

impl QueueSet {
    /// Gives a Simple queue the settings of a new configuration; `None` takes its table out of it, and leaves it with the defaults. A
    /// queue that did not exist exists from now on.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave the settings with some of those who use the queue; do it again.
    pub async fn reconfigure(&self, name: &QueueName, settings: Option<Settings>) -> Result<(), QueueError> {
        let is_named = settings.is_some();
        let before = self.configure(name, settings.map(QueueSettings::Simple));
        let applied = self.apply(name, is_named).await;
        if applied.is_err() {
            // A later try, or the old file, finds what was there.
            self.configure(name, before);
        }
        applied
    }

    /// Changes what the configuration says of a queue. Returns what it said before.
    fn configure(&self, name: &QueueName, settings: Option<QueueSettings>) -> Option<QueueSettings> {
        let mut configured = self.configured.write();
        match settings {
            Some(settings) => configured.insert(name.clone(), settings),
            None => configured.remove(name),
        }
    }

    /// Gives a queue the settings that the configuration says now.
    async fn apply(&self, name: &QueueName, is_named: bool) -> Result<(), QueueError> {
        {
            // A queue that is deleted meanwhile does not come back.
            let _turn = self.turn().await;
            let known = self.declared.read().get(name).map(|declared| declared.is_kept);
            match known {
                None if !is_named => return Ok(()),
                None => {}
                Some(is_kept) => {
                    let anew = self.declaration(name, is_kept || is_named).await?;
                    self.declared.write().insert(name.clone(), anew);
                }
            }
        }
        // With its dead-letter queue.
        self.declare(name).await?;
        Ok(())
    }
}
