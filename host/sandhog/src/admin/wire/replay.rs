//! The JSON of a replay.

use serde::{Deserialize, Serialize};

use sandhog_executor::{CallReport, Verdict};
use sandhog_queue::{FailureRecord, message::MessageId};

/// The outcome of a message that is handled.
const HANDLED: &str = "success";
/// The most sends of a message that are named: a handler may send very many.
const MAX_SENDS: usize = 100;

/// The dead letters that are replayed, and the version that handles them.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ReplayRequest {
    /// The number of a version that the host has kept.
    pub version: u64,
    /// The handler of the version; the one that takes the queue if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    /// The ids of up to 100 dead letters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<String>>,
    /// Those that pass a filter, oldest first; all if both are absent.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// The most that are replayed, 1 to 100; 20 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// What would become of dead letters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ReplayAnswer {
    /// The handler of the version.
    pub handler: String,
    /// The number of the version.
    pub version: u64,
    /// The number of those that would be handled.
    pub handled: usize,
    /// There are others, for which the limit or the time was too short.
    pub more: bool,
    /// Those that were replayed, in order.
    pub messages: Vec<ReplayedForm>,
}

/// What became of a message, and what would become of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ReplayedForm {
    /// The id of the message.
    pub id: String,
    /// How it failed before, as far as is known.
    pub was: PastForm,
    /// What would become of it.
    pub is: OutcomeForm,
    /// What it would send: the first 100 messages.
    pub sends: Vec<ReplayedSendForm>,
    /// The number of those that it would send besides.
    pub more_sends: usize,
    /// The number of keys that it would change.
    pub writes: usize,
    /// The time of the call in milliseconds.
    pub duration_ms: f64,
    /// Its processor time in milliseconds.
    pub cpu_ms: f64,
    /// The most memory of the guest, in bytes.
    pub memory_peak_bytes: u64,
}

/// How a message failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PastForm {
    /// `retry`, `reject`, `trap` and so on.
    pub kind: Option<String>,
    /// The reason, for people.
    pub reason: Option<String>,
}

/// What becomes of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct OutcomeForm {
    /// `success`, the kind of a failure, or `not-run`.
    pub outcome: String,
    /// The reason, for people.
    pub reason: Option<String>,
}

/// A message that would be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ReplayedSendForm {
    /// The queue.
    pub queue: String,
    /// The size of the body in bytes.
    pub body_bytes: usize,
}

impl ReplayedForm {
    /// Returns the form of a message that had failed like this, if it had, and of the report about it.
    pub(crate) fn new(id: &MessageId, failure: Option<&FailureRecord>, report: &CallReport) -> Self {
        let sends = report.sends.iter().take(MAX_SENDS).map(|send| ReplayedSendForm {
            queue: send.queue.as_str().to_owned(),
            body_bytes: send.message.body.len(),
        });
        Self {
            id: id.to_string(),
            was: PastForm {
                kind: failure.map(|failure| failure.kind.as_str().to_owned()),
                reason: failure.map(|failure| failure.reason.clone()),
            },
            is: OutcomeForm::of(report.verdicts.first()),
            sends: sends.collect(),
            more_sends: report.sends.len().saturating_sub(MAX_SENDS),
            writes: report.writes.len(),
            duration_ms: report.usage.wall.as_secs_f64() * 1000.0,
            cpu_ms: report.usage.cpu.as_secs_f64() * 1000.0,
            memory_peak_bytes: report.usage.memory_peak,
        }
    }

    /// Returns whether the message would be handled.
    pub fn is_handled(&self) -> bool {
        self.is.outcome == HANDLED
    }
}

impl OutcomeForm {
    fn of(verdict: Option<&Verdict>) -> Self {
        let (outcome, reason) = match verdict {
            Some(Verdict::Success) => (HANDLED, None),
            Some(Verdict::Failed(failure)) => (failure.kind.as_str(), Some(failure.reason.clone())),
            Some(Verdict::NotRun(reason)) => ("not-run", Some(reason.clone())),
            None => ("not-run", None),
        };
        Self {
            outcome: outcome.to_owned(),
            reason,
        }
    }
}
