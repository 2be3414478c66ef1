//! Asks a queue's server for the facts about the queue, and warns of those that will surprise an operator.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    facts::Facts,
    failure::{Action, Class, Failure, whole_seconds},
    remote::{Address, Remote},
    wire::Patience,
};
use sandhog_queue::{QueueError, message::MAX_DELAY};

/// The visibility timeout of a queue that tells none, or no useful one (default of SQS).
const DEFAULT_VISIBILITY: Duration = Duration::from_secs(30);
/// The longest time of a question about a queue.
pub(crate) const QUESTION: Patience = Patience::new(Duration::from_secs(5), 2);
/// Below this visibility timeout an extension at half-life has too little time.
const SHORT_VISIBILITY: Duration = Duration::from_secs(2);

impl Remote {
    /// Returns the facts about the queue, and asks its server if they are unknown or old. One caller asks; the others wait
    /// for it, or go on with the old facts.
    ///
    /// # Cancel safety
    ///
    /// Safe: the next caller asks.
    pub(crate) async fn facts(&self) -> Result<Arc<Facts>, QueueError> {
        let started = Instant::now();
        if let Some((facts, until)) = self.facts.holding() {
            if started < until {
                return Ok(facts);
            }
            let Ok(_asking) = self.facts.asking.try_lock() else {
                return Ok(facts);
            };
            return match self.learn().await {
                Ok(facts) => Ok(facts),
                // The failure said that the queue is gone.
                Err(failure) if failure.class == Class::Missing => Err(self.unavailable(failure)),
                Err(failure) => {
                    tracing::debug!(queue = %self.name, failure = failure.said(), "the queue's attributes could not be read anew");
                    self.facts.postpone();
                    Ok(facts)
                }
            };
        }
        let _asking = self.facts.asking.lock().await;
        if let Some((facts, _)) = self.facts.holding() {
            return Ok(facts);
        }
        if let Some(error) = self.facts.failed_since(started) {
            return Err(error);
        }
        self.learn().await.map_err(|failure| {
            let error = self.unavailable(failure);
            self.facts.fail(&error);
            error
        })
    }

    /// Returns the queue's URL. Asks only if the URL is unknown, because the end of a delivery must not wait for news of
    /// the queue.
    ///
    /// # Cancel safety
    ///
    /// As [`Remote::facts`].
    pub(crate) async fn url(&self) -> Result<Arc<str>, QueueError> {
        if let Some(url) = self.address.fixed_url() {
            return Ok(url.into());
        }
        match self.facts.holding() {
            Some((facts, _)) => Ok(Arc::clone(&facts.url)),
            None => self.facts().await.map(|facts| Arc::clone(&facts.url)),
        }
    }

    async fn learn(&self) -> Result<Arc<Facts>, Failure> {
        let url: Arc<str> = self.locate().await?.into();
        let fifo = self.is_fifo_by_name();
        let facts = match self.attributes(&url).await {
            Ok(attributes) => Facts::read(url, fifo, &attributes),
            // Old facts are a better guess than none.
            Err(failure) if failure.class == Class::Denied => match self.facts.last().filter(|last| last.url == url) {
                Some(last) => Facts::clone(&last),
                None => Facts::unknown(url, fifo),
            },
            Err(failure) => return Err(failure),
        };
        let facts = Arc::new(facts);
        for warning in self.facts.keep(&facts, self.warnings(&facts)) {
            tracing::warn!(queue = %self.name, url = %facts.url, "{warning}");
        }
        Ok(facts)
    }

    async fn locate(&self) -> Result<String, Failure> {
        if let Some(url) = self.address.fixed_url() {
            return Ok(url.to_owned());
        }
        let (name, account) = self.address.name_and_account();
        let asked = self
            .call(Action::GetQueueUrl, async |wire| {
                wire.url(name, account, QUESTION).await
            })
            .await;
        match (asked, &self.address) {
            (Ok(url), _) => Ok(url),
            // The target of a redrive policy is in the region of its source.
            (Err(failure), Address::Target { beside, .. }) if !failure.outcome_is_unknown() => Ok(beside.clone()),
            (Err(failure), _) => Err(failure),
        }
    }

    /// Asks for all attributes of the queue at this URL.
    pub(crate) async fn attributes(&self, url: &str) -> Result<HashMap<String, String>, Failure> {
        self.call(Action::GetQueueAttributes, async |wire| {
            wire.attributes(url, QUESTION).await
        })
        .await
    }

    /// Returns the warnings about the queue for an operator. Settings of receives are of no interest if the host receives
    /// nothing from the queue, nor is the end of failed messages in a dead-letter queue.
    fn warnings(&self, facts: &Facts) -> Vec<String> {
        let mut warnings = Vec::new();
        if !facts.complete {
            let visibility = self.visibility_with(facts).as_secs();
            warnings.push(format!(
                "the queue's attributes cannot be read: allow sqs:GetQueueAttributes; until then its visibility timeout is \
                 taken to be {visibility} s, and nothing is known of its redrive policy"
            ));
            return warnings;
        }
        if !self.is_a_source() {
            return warnings;
        }
        let visibility = self.visibility_with(facts);
        let is_nothing = facts.visibility_timeout.is_some_and(|timeout| timeout.is_zero());
        if is_nothing && self.settings.visibility_timeout.is_none() {
            let seconds = visibility.as_secs();
            warnings.push(format!(
                "the queue's visibility timeout is 0 s, and messages are hidden for {seconds} s all the same: set it"
            ));
        } else if visibility < SHORT_VISIBILITY {
            let seconds = visibility.as_secs();
            warnings.push(format!(
                "messages are hidden for {seconds} s only, which leaves no time to repeat a call: set the visibility timeout to \
                 30 s or more"
            ));
        }
        if self.is_a_dead_letter_queue() {
            return warnings;
        }
        match (&facts.redrive, self.has_configured_dead_letter()) {
            (Some(redrive), _) if redrive.max_receive_count <= 1 => warnings.push(
                "maxReceiveCount of the queue's redrive policy is 1: a message is dead after one crash of a host".to_owned(),
            ),
            (None, false) => warnings.push(
                "the queue has no dead-letter queue: what cannot be handled is tried again and again; give it a redrive policy \
                 or the setting dead-letter"
                    .to_owned(),
            ),
            (Some(_) | None, _) => {}
        }
        if let (Some(redrive), true) = (&facts.redrive, self.has_configured_dead_letter()) {
            warnings.push(format!(
                "the queue has a redrive policy: its maxReceiveCount of {} counts, and max-receives of the configuration has no \
                 effect",
                redrive.max_receive_count
            ));
        }
        warnings
    }

    /// Returns the time for which a receive hides a message.
    pub(crate) fn visibility_timeout(&self) -> Duration {
        let learnt = self.facts.last().and_then(|facts| facts.visibility_timeout);
        self.visibility(learnt)
    }

    fn visibility_with(&self, facts: &Facts) -> Duration {
        self.visibility(facts.visibility_timeout)
    }

    fn visibility(&self, learnt: Option<Duration>) -> Duration {
        let wanted = self
            .settings
            .visibility_timeout
            .or(learnt)
            .filter(|timeout| !timeout.is_zero());
        let wanted = wanted.unwrap_or(DEFAULT_VISIBILITY).min(MAX_DELAY);
        Duration::from_secs(whole_seconds(wanted).max(1))
    }
}
