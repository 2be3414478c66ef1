//! Counts the messages of a queue, and deletes them all.

use std::collections::HashMap;

use super::{
    facts_lookup::QUESTION,
    failure::{Action, Failure},
    remote::Remote,
};
use sandhog_queue::{Counts, QueueError};

impl Remote {
    /// See [`sandhog_queue::Queue::counts`].
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub(crate) async fn counts(&self) -> Result<Counts, QueueError> {
        // Receipts of deliveries that nothing settled, such as those of the listener, may have been dropped since.
        self.held.forget_dropped();
        let facts = self.facts().await?;
        let asked = self.attributes(&facts.url).await;
        let attributes = asked.map_err(|failure| self.unavailable(failure))?;
        let dead = match self.dead_letter_target(&facts) {
            Some(target) => target.waiting().await.unwrap_or_else(|error| {
                tracing::debug!(queue = %self.name, dead_letter_queue = %target.name, %error, "the dead letters could not be counted");
                0
            }),
            None => 0,
        };
        Ok(Counts {
            ready: count(&attributes, "ApproximateNumberOfMessages"),
            in_flight: count(&attributes, "ApproximateNumberOfMessagesNotVisible"),
            delayed: count(&attributes, "ApproximateNumberOfMessagesDelayed"),
            oldest_age_ms: None,
            dead,
            damaged: 0,
            expired: 0,
        })
    }

    /// Returns the number of messages that wait, visible or delayed.
    pub(crate) async fn waiting(&self) -> Result<u64, QueueError> {
        let url = self.url().await?;
        let attributes = self
            .attributes(&url)
            .await
            .map_err(|failure| self.unavailable(failure))?;
        let ready = count(&attributes, "ApproximateNumberOfMessages");
        Ok(ready.saturating_add(count(&attributes, "ApproximateNumberOfMessagesDelayed")))
    }

    /// See [`sandhog_queue::Queue::purge`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have purged.
    pub(crate) async fn purge(&self) -> Result<u64, QueueError> {
        let url = self.url().await?;
        // Credentials that may purge need not be allowed to count.
        let count = self.waiting().await.unwrap_or(0);
        let purged: Result<(), Failure> = self
            .call(Action::PurgeQueue, async |wire| wire.purge(&url, QUESTION).await)
            .await;
        purged.map_err(|failure| self.unavailable(failure))?;
        Ok(count)
    }
}

fn count(attributes: &HashMap<String, String>, name: &str) -> u64 {
    attributes.get(name).and_then(|count| count.parse().ok()).unwrap_or(0)
}
