//! The facts that a queue's server tells about it: its URL, and the attributes that decide how it is used.
//!
//! The host learns them when the queue is first used, and again every few minutes of use, so that an operator who changes,
//! deletes or recreates a queue need not restart the host. `facts_lookup.rs` asks for them; nothing here makes a call.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::RwLock;
use tokio::{sync::Mutex, time::Instant};

use sandhog_queue::QueueError;

/// The age at which facts are learnt again.
const REFRESH_AFTER: Duration = Duration::from_mins(5);
/// The wait before facts that could not be learnt again are asked for once more. The old ones serve meanwhile.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(30);
/// The largest message (limit of SQS, and its default).
pub(crate) const MAX_MESSAGE_BYTES: usize = 1024 * 1024;

/// The target of messages that the queue's own server has handed out too often.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Redrive {
    #[serde(rename = "deadLetterTargetArn")]
    pub(crate) target_arn: String,
    #[serde(deserialize_with = "number_or_text")]
    pub(crate) max_receive_count: u64,
}

/// The facts about a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) url: Arc<str>,
    pub(crate) arn: Option<String>,
    pub(crate) visibility_timeout: Option<Duration>,
    pub(crate) redrive: Option<Redrive>,
    pub(crate) fifo: bool,
    pub(crate) content_based_deduplication: bool,
    pub(crate) max_message_bytes: usize,
    /// Whether the attributes could be read.
    pub(crate) complete: bool,
}

impl Facts {
    /// Returns facts that hold for any queue.
    pub(crate) fn unknown(url: Arc<str>, fifo: bool) -> Self {
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

    pub(crate) fn read(url: Arc<str>, fifo: bool, attributes: &HashMap<String, String>) -> Self {
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
pub(crate) struct FactsCache {
    // Never held across an await.
    known: RwLock<Known>,
    /// Held by the task that asks.
    pub(crate) asking: Mutex<()>,
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
    pub(crate) fn last(&self) -> Option<Arc<Facts>> {
        self.known.read().facts.clone()
    }

    /// The facts no longer hold: the next operation that needs them asks.
    pub(crate) fn forget(&self) {
        self.known.write().until = None;
    }

    pub(crate) fn holding(&self) -> Option<(Arc<Facts>, Instant)> {
        let known = self.known.read();
        Some((known.facts.clone()?, known.until?))
    }

    pub(crate) fn failed_since(&self, since: Instant) -> Option<QueueError> {
        let known = self.known.read();
        known
            .failed
            .as_ref()
            .filter(|(at, _)| *at >= since)
            .map(|(_, error)| error.clone())
    }

    pub(crate) fn postpone(&self) {
        self.known.write().until = Some(Instant::now() + ASK_AGAIN_AFTER);
    }

    pub(crate) fn fail(&self, error: &QueueError) {
        let mut known = self.known.write();
        known.failed = Some((Instant::now(), error.clone()));
    }

    /// Keeps facts. Returns those of their warnings that are new.
    pub(crate) fn keep(&self, facts: &Arc<Facts>, warnings: Vec<String>) -> Vec<String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    impl Facts {
        pub(crate) fn for_tests() -> Self {
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
