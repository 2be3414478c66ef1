//! The facts that a queue's server tells about it: its URL, and the attributes that decide how it is used.
//!
//! The host learns them when the queue is first used, and again every few minutes of use, so that an operator who changes,
//! deletes or recreates a queue need not restart the host.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::RwLock;
use tokio::{sync::Mutex, time::Instant};

use super::{
    failure::{Action, Class, Failure, whole_seconds},
    remote::{Address, Remote},
    wire::Patience,
};
use crate::{message::MAX_DELAY, queue::QueueError};

/// The age at which facts are learnt again.
const REFRESH_AFTER: Duration = Duration::from_mins(5);
/// The wait before facts that could not be learnt again are asked for once more. The old ones serve meanwhile.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(30);
/// The visibility timeout of a queue that tells none, or no useful one (default of SQS).
const DEFAULT_VISIBILITY: Duration = Duration::from_secs(30);
/// The largest message (limit of SQS, and its default).
pub(super) const MAX_MESSAGE_BYTES: usize = 1024 * 1024;
/// The longest time of a question about a queue.
pub(super) const QUESTION: Patience = Patience::new(Duration::from_secs(5), 2);
/// Below this visibility timeout an extension at half-life has too little time.
const SHORT_VISIBILITY: Duration = Duration::from_secs(2);

/// The target of messages that the queue's own server has handed out too often.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Redrive {
    #[serde(rename = "deadLetterTargetArn")]
    pub(super) target_arn: String,
    #[serde(deserialize_with = "number_or_text")]
    pub(super) max_receive_count: u64,
}

/// The facts about a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) url: Arc<str>,
    pub(super) arn: Option<String>,
    pub(super) visibility_timeout: Option<Duration>,
    pub(super) redrive: Option<Redrive>,
    pub(super) fifo: bool,
    pub(super) content_based_deduplication: bool,
    pub(super) max_message_bytes: usize,
    /// Whether the attributes could be read.
    pub(super) complete: bool,
}

impl Facts {
    /// Returns facts that hold for any queue.
    fn unknown(url: Arc<str>, fifo: bool) -> Self {
        Self {
            url,
            arn: None,
            visibility_timeout: None,
            redrive: None,
            fifo,
            content_based_deduplication: false,
            max_message_bytes: MAX_MESSAGE_BYTES,
            complete: false,
        }
    }

    fn read(url: Arc<str>, fifo: bool, attributes: &HashMap<String, String>) -> Self {
        let is = |name: &str| {
            attributes
                .get(name)
                .is_some_and(|value| value.eq_ignore_ascii_case("true"))
        };
        let redrive = attributes.get("RedrivePolicy").filter(|policy| !policy.is_empty());
        Self {
            arn: attributes.get("QueueArn").cloned(),
            visibility_timeout: attributes
                .get("VisibilityTimeout")
                .and_then(|seconds| seconds.parse().ok())
                .map(Duration::from_secs),
            redrive: redrive.and_then(|policy| serde_json::from_str(policy).ok()),
            fifo: fifo || is("FifoQueue"),
            content_based_deduplication: is("ContentBasedDeduplication"),
            max_message_bytes: attributes
                .get("MaximumMessageSize")
                .and_then(|bytes| bytes.parse().ok())
                .unwrap_or(MAX_MESSAGE_BYTES),
            complete: true,
            ..Self::unknown(url, fifo)
        }
    }
}

/// SQS takes and returns the count in quotes and without.
fn number_or_text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u64),
        Text(String),
    }
    match serde::Deserialize::deserialize(deserializer)? {
        Either::Number(number) => Ok(number),
        Either::Text(text) => text.parse().map_err(serde::de::Error::custom),
    }
}

/// The facts as the host last learnt them.
#[derive(Debug, Default)]
pub(super) struct FactsCache {
    // Never held across an await.
    known: RwLock<Known>,
    /// Held by the task that asks.
    asking: Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    facts: Option<Arc<Facts>>,
    /// The time at which the facts are to be learnt again; `None` if they no longer hold.
    until: Option<Instant>,
    /// The last failure to learn the facts, for the callers that waited for the task that asked.
    failed: Option<(Instant, QueueError)>,
    /// The warnings that were logged.
    warned: Vec<String>,
}

impl FactsCache {
    /// Returns the facts as last learnt, even if they no longer hold.
    pub(super) fn last(&self) -> Option<Arc<Facts>> {
        self.known.read().facts.clone()
    }

    /// The facts no longer hold: the next operation that needs them asks.
    pub(super) fn forget(&self) {
        self.known.write().until = None;
    }

    fn holding(&self) -> Option<(Arc<Facts>, Instant)> {
        let known = self.known.read();
        Some((known.facts.clone()?, known.until?))
    }

    fn failed_since(&self, since: Instant) -> Option<QueueError> {
        let known = self.known.read();
        known
            .failed
            .as_ref()
            .filter(|(at, _)| *at >= since)
            .map(|(_, error)| error.clone())
    }

    fn postpone(&self) {
        self.known.write().until = Some(Instant::now() + ASK_AGAIN_AFTER);
    }

    fn fail(&self, error: &QueueError) {
        let mut known = self.known.write();
        known.failed = Some((Instant::now(), error.clone()));
    }

    /// Keeps facts. Returns those of their warnings that are new.
    fn keep(&self, facts: &Arc<Facts>, warnings: Vec<String>) -> Vec<String> {
        let mut known = self.known.write();
        known.facts = Some(Arc::clone(facts));
        known.until = Some(Instant::now() + REFRESH_AFTER);
        let fresh = warnings
            .iter()
            .filter(|warning| !known.warned.contains(warning))
            .cloned()
            .collect();
        known.warned = warnings;
        fresh
    }
}

impl Remote {
    /// Returns the facts about the queue, and asks its server if they are unknown or old. One caller asks; the others wait
    /// for it, or go on with the old facts.
    ///
    /// # Cancel safety
    ///
    /// Safe: the next caller asks.
    pub(super) async fn facts(&self) -> Result<Arc<Facts>, QueueError> {
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
    pub(super) async fn url(&self) -> Result<Arc<str>, QueueError> {
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
    pub(super) async fn attributes(&self, url: &str) -> Result<HashMap<String, String>, Failure> {
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
    pub(super) fn visibility_timeout(&self) -> Duration {
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

#[cfg(test)]
mod tests {
    use super::*;

    impl Facts {
        pub(in super::super) fn for_tests() -> Self {
            Self::unknown("http://h/1/q".into(), false)
        }
    }

    fn read(attributes: &[(&str, &str)]) -> Facts {
        let attributes = attributes
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Facts::read("http://h/1/q".into(), false, &attributes.collect())
    }

    #[test]
    fn attributes_become_facts() {
        let facts = read(&[
            ("QueueArn", "arn:aws:sqs:eu-west-1:1:q"),
            ("VisibilityTimeout", "45"),
            ("MaximumMessageSize", "2048"),
            ("FifoQueue", "true"),
            ("ContentBasedDeduplication", "false"),
        ]);
        assert_eq!(facts.arn.as_deref(), Some("arn:aws:sqs:eu-west-1:1:q"));
        assert_eq!(facts.visibility_timeout, Some(Duration::from_secs(45)));
        assert_eq!(facts.max_message_bytes, 2048);
        assert!(facts.fifo && !facts.content_based_deduplication && facts.complete);
    }

    #[test]
    fn a_redrive_policy_is_read_with_its_count_in_quotes_or_without() {
        for count in ["3", "\"3\""] {
            let policy = format!(r#"{{"deadLetterTargetArn":"arn:aws:sqs:r:1:d","maxReceiveCount":{count}}}"#);
            let redrive = read(&[("RedrivePolicy", &policy)]).redrive.unwrap();
            assert_eq!(redrive.max_receive_count, 3);
            assert_eq!(redrive.target_arn, "arn:aws:sqs:r:1:d");
        }
        assert_eq!(read(&[("RedrivePolicy", "")]).redrive, None);
    }
}
