//! The JSON that the listener and its client exchange. Both use these types, so that they can't drift apart.
//!
//! Keys are in kebab case. A body is `body` if it is UTF-8, or else `body-base64`. The file is longer than others because it is one
//! vocabulary, and nearly all of it plain data.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::handler_status::{HandlerState, HandlerStatus};
use sandhog_queue::{
    Counts, DeadLetter, Delivery, FailureRecord, Receipt,
    machine_clock::whole_ms,
    message::{AttributeValue, Attributes, CheckedMessage, InvalidMessage, Message, Outgoing, QueueName},
    peek::PeekedMessage,
};

mod attempts;
mod bounded;
mod deletion;
mod drain;
mod extend;
mod halts;
mod minute;
mod peek;
mod profile;
mod readiness;
mod reload;
mod replay;
mod versions;

pub use attempts::AttemptList;
pub use deletion::{AffectedMessages, DeletedQueue};
pub use drain::{DrainForm, EndedDrain, HeldMessages};
pub use extend::{EntryResult, ExtendAnswer, ExtendRequest};
pub use halts::{HaltForm, ResumeAnswer};
pub use minute::MinuteForm;
pub use peek::{EditRequest, PeekedForm, PeekedList, SweepAnswer, SweepRequest};
pub use profile::{FunctionCost, ProfileForm, StackForm};
pub use readiness::ReadinessAnswer;
pub use reload::ReloadAnswer;
pub use replay::{OutcomeForm, PastForm, ReplayAnswer, ReplayRequest, ReplayedForm, ReplayedSendForm};
pub use versions::{BarredForm, ProbationForm, VersionEventForm, VersionForm, VersionList};

/// The most messages of one `POST /queues/{name}/batch`, and the most ids of one redrive.
pub const MAX_BATCH: usize = 1000;
/// The largest request of one `POST /queues/{name}/batch`, in bytes.
pub const MAX_BATCH_BYTES: usize = 16 * 1024 * 1024;

/// The answer to a request that was refused or failed.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ErrorAnswer {
    /// The reason, for people.
    pub error: String,
}

/// The answer of `GET /handlers`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HandlerList {
    /// The absolute path of the plugin directory on the host's machine.
    #[serde(default)]
    pub plugins: String,
    /// The handlers, by name.
    pub handlers: Vec<HandlerForm>,
}

/// The form of one handler.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct HandlerForm {
    /// The name of the handler: that of its file without the extension.
    pub name: String,
    /// The queue that the handler serves.
    pub queue: Option<String>,
    /// `loading`, `serving`, `paused`, `refused` or `stopping`.
    pub state: String,
    /// The reason why the host has paused the handler.
    pub paused_because: Option<String>,
    /// Why nothing moves, for people; null if it does, or there is nothing to move.
    #[serde(default)]
    pub standstill: Option<String>,
    /// The number of attempts that may be under way; 0 until a version serves.
    #[serde(default)]
    pub slots: u32,
    /// The calls of the version that serves, since it was accepted.
    #[serde(default)]
    pub calls: u64,
    /// Those of them that broke: a trap, a timeout, a limit, a wrong answer.
    #[serde(default)]
    pub breaks: u64,
    /// What became of its messages in the last minute.
    #[serde(default)]
    pub last_minute: MinuteForm,
    /// An operator has paused the handler.
    #[serde(default)]
    pub halt: Option<HaltForm>,
    /// The host drains: no handler receives.
    #[serde(default)]
    pub draining: bool,
    /// The flavour of the version that serves.
    pub flavour: Option<String>,
    /// The SHA-256 digest of the version that serves.
    pub digest: Option<String>,
    /// The number of the version that serves; 0 if none has served yet.
    pub version: u64,
    /// The state of that version: `probation` or `serving`.
    #[serde(default)]
    pub version_state: Option<String>,
    /// How that version proves itself: `probation`, `doubt` or `watching`; null if there is nothing to compare it with.
    #[serde(default)]
    pub probation: Option<String>,
    /// When the version that serves was loaded.
    pub loaded_at_ms: Option<u64>,
    /// That version is the one that served last, because the files in the plugin directory are refused.
    #[serde(default)]
    pub fallback: bool,
    /// Attempts under way.
    pub in_flight: u32,
    /// The reason why the newest version was refused.
    pub last_error: Option<String>,
    /// The digest of that version's component, if its files are refused for good.
    #[serde(default)]
    pub refused_component: Option<String>,
    /// How often a version was refused since the host started.
    #[serde(default)]
    pub refusals: u64,
    /// The newest version may be accepted another time, and the host tries it again.
    #[serde(default)]
    pub tried_again: bool,
    /// The reason why the last receive failed.
    pub queue_error: Option<String>,
    /// Milliseconds since a receive completed.
    pub last_receive_ms_ago: Option<u64>,
}

impl From<HandlerStatus> for HandlerForm {
    fn from(status: HandlerStatus) -> Self {
        let since = |at: Instant| whole_ms(at.elapsed());
        let tried_again = status.has_another_try();
        Self {
            name: status.name,
            queue: status.queue.map(|queue| queue.to_string()),
            state: status.state.as_str().to_owned(),
            paused_because: match status.state {
                HandlerState::Paused { reason } => Some(reason),
                HandlerState::Loading | HandlerState::Serving | HandlerState::Refused | HandlerState::Stopping => None,
            },
            standstill: None,
            slots: status.slots,
            calls: 0,
            breaks: 0,
            last_minute: MinuteForm::default(),
            halt: None,
            draining: false,
            flavour: status.flavour,
            digest: status.digest,
            version: status.version,
            version_state: status.version_state,
            probation: status.stage,
            loaded_at_ms: status.loaded_at_ms,
            fallback: status.is_fallback,
            in_flight: status.in_flight,
            last_error: status.last_error,
            refused_component: status.refused_component,
            refusals: status.refusals,
            tried_again,
            queue_error: status.queue_error,
            last_receive_ms_ago: status.last_receive_at.map(since),
        }
    }
}

/// The answer of `GET /queues`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct QueueList {
    /// The queues, by name.
    pub queues: Vec<QueueForm>,
}

/// The counts of one queue.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct QueueForm {
    /// The name of the queue.
    pub name: String,
    /// Messages that wait.
    pub ready: u64,
    /// Messages received and not settled.
    pub in_flight: u64,
    /// Messages hidden by a delay.
    pub delayed: u64,
    /// Age of the oldest message not in flight.
    pub oldest_age_ms: Option<u64>,
    /// Dead letters of the queue.
    pub dead: u64,
    /// Messages that cannot be read.
    pub damaged: u64,
    /// Why nothing moves, for people; null if it does, or there is nothing to move.
    #[serde(default)]
    pub standstill: Option<String>,
    /// What came in the last minute, and what handlers made of its messages.
    #[serde(default)]
    pub last_minute: MinuteForm,
    /// An operator has paused the queue.
    #[serde(default)]
    pub halt: Option<HaltForm>,
    /// The reason why the counts are not known, if they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl QueueForm {
    /// Returns the form of a queue with these counts.
    pub fn new(name: &QueueName, counts: Counts) -> Self {
        let Counts {
            ready,
            in_flight,
            delayed,
            oldest_age_ms,
            dead,
            damaged,
            expired: _,
        } = counts;
        Self {
            name: name.to_string(),
            ready,
            in_flight,
            delayed,
            oldest_age_ms,
            dead,
            damaged,
            standstill: None,
            last_minute: MinuteForm::default(),
            halt: None,
            error: None,
        }
    }
}

/// The value of an attribute: `{"text": ..}`, `{"number": ..}` or `{"binary-base64": ..}`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AttributeForm {
    /// Unicode text.
    Text(String),
    /// A decimal number in text form.
    Number(String),
    /// Any bytes.
    BinaryBase64(String),
}

impl From<&AttributeValue> for AttributeForm {
    fn from(value: &AttributeValue) -> Self {
        match value {
            AttributeValue::Text(text) => Self::Text(text.clone()),
            AttributeValue::Number(number) => Self::Number(number.clone()),
            AttributeValue::Binary(bytes) => Self::BinaryBase64(BASE64.encode(bytes)),
        }
    }
}

impl AttributeForm {
    /// Returns the value of the attribute of that name.
    fn into_value(self, name: &str) -> Result<AttributeValue, InvalidMessage> {
        Ok(match self {
            Self::Text(text) => AttributeValue::Text(text),
            Self::Number(number) => AttributeValue::Number(number),
            Self::BinaryBase64(base64) => {
                let bytes = BASE64.decode(base64);
                AttributeValue::Binary(bytes.map_err(|_| not_base64(&format!("attribute {name:?}")))?)
            }
        })
    }
}

fn not_base64(what: &str) -> InvalidMessage {
    InvalidMessage(format!("{what} is not base64"))
}

/// Returns the body of a message that has one of the two forms.
fn body_of(text: Option<String>, base64: Option<String>) -> Result<Bytes, InvalidMessage> {
    match (text, base64) {
        (Some(text), None) => Ok(Bytes::from(text)),
        (None, Some(base64)) => Ok(BASE64.decode(base64).map_err(|_| not_base64("body-base64"))?.into()),
        (None, None) | (Some(_), Some(_)) => Err(InvalidMessage("a message has either body or body-base64".to_owned())),
    }
}

/// A message to be sent, as one entry of a batch.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct OutgoingForm {
    /// The body, if it is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The body, if it is not text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
    /// The attributes, by name.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "bounded::attributes"
    )]
    pub attributes: BTreeMap<String, AttributeForm>,
    /// The message group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// A duration such as `5s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<String>,
    /// 0 to 9.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// The deduplication id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dedup: Option<String>,
}

impl OutgoingForm {
    /// Returns the message that the form describes.
    ///
    /// # Errors
    ///
    /// [`InvalidMessage`] names the field and what is accepted.
    pub fn into_message(self) -> Result<CheckedMessage, InvalidMessage> {
        let body = body_of(self.body, self.body_base64)?;
        let mut pairs = Vec::with_capacity(self.attributes.len());
        for (name, value) in self.attributes {
            let value = value.into_value(&name)?;
            pairs.push((name, value));
        }
        let invalid = |delay: &str| InvalidMessage(format!("delay {delay:?}: use a duration such as \"5s\""));
        let delay = self
            .delay
            .map(|delay| humantime::parse_duration(&delay).map_err(|_| invalid(&delay)));
        Outgoing {
            body,
            attributes: Attributes::new(pairs)?,
            delay: delay.transpose()?,
            group_id: self.group,
            deduplication_id: self.dedup,
            priority: self.priority,
        }
        .check()
    }

    /// Puts the body into the field that fits it.
    #[must_use]
    pub fn with_body(mut self, body: Vec<u8>) -> Self {
        (self.body, self.body_base64) = text_or_base64(body);
        self
    }
}

fn text_or_base64(bytes: Vec<u8>) -> (Option<String>, Option<String>) {
    match String::from_utf8(bytes) {
        Ok(text) => (Some(text), None),
        Err(error) => (None, Some(BASE64.encode(error.as_bytes()))),
    }
}

/// The request of `POST /queues/{name}/batch`: 1 to 1000 messages.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SendBatch {
    /// The messages, in the order in which they are sent.
    #[serde(deserialize_with = "bounded::messages")]
    pub messages: Vec<OutgoingForm>,
}

/// The answer of `POST /queues/{name}/batch`: one result per message, in order.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct BatchResults {
    /// The result of each message.
    pub results: Vec<BatchResult>,
}

/// `{"id": ..}`, or `{"error": ..}`, or `{"error": .., "again": true}`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum BatchResult {
    /// The message was sent.
    Sent {
        /// The id that the queue gave the message.
        id: String,
    },
    /// The message was not sent.
    Refused {
        /// The reason, for people.
        error: String,
        /// The same message may be accepted another time, because it is not the reason of the refusal.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        again: bool,
    },
}

/// The answer of `POST /queues/{name}`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SentMessage {
    /// The id that the queue gave the message.
    pub id: String,
}

/// The answer of `POST /queues/{name}/receive`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MessageList {
    /// In the queue's order.
    pub messages: Vec<MessageForm>,
}

/// The answer of `GET /queues/{name}/dead`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct DeadLetterList {
    /// Oldest first.
    pub dead_letters: Vec<MessageForm>,
    /// There are more dead letters after the last one. A page ends at its limit, and earlier if the letters are large.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// For a page with a filter: what the parameter `cursor` is to be for the page behind this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// For a page with a filter: what `after` is to be in a redrive or a deletion by that filter, which is about no dead letter that came
    /// after this page. Of several pages, that of the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted: Option<String>,
}

/// A message that was received, or a dead letter.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct MessageForm {
    /// The id that the queue gave the message.
    pub id: String,
    /// The queue that the message was received from; for a dead letter, the queue where it failed.
    pub queue: String,
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub sent_at_ms: u64,
    /// The receive count.
    pub receive_count: u32,
    /// The message group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_id: Option<String>,
    /// 0 to 9.
    pub priority: u8,
    /// The attributes, by name.
    pub attributes: BTreeMap<String, AttributeForm>,
    /// The body, if it is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The body, if it is not text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
    /// The right to settle the delivery. A dead letter has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt: Option<String>,
    /// The failure that made the message a dead letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<FailureForm>)]
    pub failure: Option<FailureRecord>,
    /// When the message became a dead letter: milliseconds since 1970-01-01T00:00:00Z.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_at_ms: Option<u64>,
    /// Only the beginning of the body is shown.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
    /// The configuration hides a part of the body or of the attributes from this client.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub redacted: bool,
}

/// How the last delivery of a message failed.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "the macro reads the fields")]
struct FailureForm {
    /// `retry`, `reject`, `trap` and so on.
    kind: String,
    /// The reason, for people.
    reason: String,
    /// The handler that failed; empty if none was called.
    handler: String,
    /// The SHA-256 digest of its component; empty if none was called.
    component: String,
}

impl MessageForm {
    /// Returns the form of a message that was received.
    pub fn received(queue: &QueueName, delivery: Delivery) -> Self {
        let receipt = receipt_text(&delivery.receipt);
        Self {
            receipt: Some(receipt),
            ..Self::new(queue, delivery.message, delivery.receive_count.get())
        }
    }

    /// Returns the form of a dead letter.
    pub fn dead(letter: DeadLetter) -> Self {
        Self {
            failure: Some(letter.failure),
            dead_at_ms: Some(letter.dead_at_ms),
            ..Self::new(&letter.queue, letter.message, letter.receive_count)
        }
    }

    /// Returns the form of a dead letter of a queue that was looked at.
    pub fn peeked(queue: &QueueName, letter: PeekedMessage) -> Self {
        let death = letter.death;
        let receives = death.as_ref().map_or(letter.receive_count, |death| death.receive_count);
        Self {
            cut: letter.message.body.len() < letter.body_bytes,
            failure: letter.failure,
            dead_at_ms: death.map(|death| death.dead_at_ms),
            ..Self::new(queue, letter.message, receives)
        }
    }

    /// Returns the bytes of the body; empty if the server sent wrong base64.
    pub fn body_bytes(&self) -> Vec<u8> {
        body_bytes(self.body.as_deref(), self.body_base64.as_deref())
    }

    fn new(queue: &QueueName, message: Message, receive_count: u32) -> Self {
        let (body, body_base64) = text_or_base64(message.body.to_vec());
        let attributes = attribute_forms(&message.attributes);
        Self {
            id: message.id.to_string(),
            queue: queue.to_string(),
            sent_at_ms: message.sent_at_ms,
            receive_count,
            group_id: message.group_id,
            priority: message.priority,
            attributes,
            body,
            body_base64,
            receipt: None,
            failure: None,
            dead_at_ms: None,
            cut: false,
            redacted: false,
        }
    }
}

/// Returns the bytes of a body of either form; empty if the base64 is none.
fn body_bytes(text: Option<&str>, base64: Option<&str>) -> Vec<u8> {
    match (text, base64) {
        (Some(text), _) => text.as_bytes().to_vec(),
        (None, Some(base64)) => BASE64.decode(base64).unwrap_or_default(),
        (None, None) => Vec::new(),
    }
}

/// Returns the attributes by name.
pub fn attribute_forms(attributes: &Attributes) -> BTreeMap<String, AttributeForm> {
    attributes
        .pairs()
        .iter()
        .map(|(name, value)| (name.clone(), value.into()))
        .collect()
}

/// The prefix of a receipt that is the text of another server.
const TEXT_RECEIPT: &str = "text:";

/// Returns the text of a receipt.
pub fn receipt_text(receipt: &Receipt) -> String {
    match (receipt.as_numbered(), receipt.as_text()) {
        (Some((row, delivery)), _) => format!("{row}.{delivery}"),
        (None, text) => format!("{TEXT_RECEIPT}{}", text.unwrap_or_default()),
    }
}

/// Parses the text of a receipt; `None` if the text can't be one.
pub fn parse_receipt(text: &str) -> Option<Receipt> {
    if let Some(text) = text.strip_prefix(TEXT_RECEIPT) {
        return Some(Receipt::text(text));
    }
    let (row, delivery) = text.split_once('.')?;
    Some(Receipt::numbered(row.parse().ok()?, delivery.parse().ok()?))
}

/// The request of `POST /queues/{name}/settle`: one delivery, or a list of up to 1000.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum SettleForm {
    /// One delivery.
    One(SettleEntry),
    /// Several deliveries: `{"settlements": [..]}`.
    Many {
        /// The deliveries.
        settlements: Vec<SettleEntry>,
    },
}

impl<'de> Deserialize<'de> for SettleForm {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// The keys of both forms, so that a wrong one is named.
        #[derive(Deserialize)]
        #[serde(
            deny_unknown_fields,
            expecting = "an object with receipt and action, or with settlements"
        )]
        struct Keys {
            #[serde(default, deserialize_with = "bounded::settlements")]
            settlements: Option<Vec<SettleEntry>>,
            receipt: Option<String>,
            action: Option<SettleAction>,
            delay: Option<String>,
            reason: Option<String>,
        }
        let keys = Keys::deserialize(deserializer)?;
        match (keys.settlements, keys.receipt, keys.action) {
            (Some(settlements), None, None) if keys.delay.is_none() && keys.reason.is_none() => {
                Ok(Self::Many { settlements })
            }
            (None, Some(receipt), Some(action)) => Ok(Self::One(SettleEntry {
                receipt,
                action,
                delay: keys.delay,
                reason: keys.reason,
            })),
            _ => Err(serde::de::Error::custom("give receipt and action, or settlements")),
        }
    }
}

/// How one delivery ends.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with receipt and action")]
pub struct SettleEntry {
    /// The receipt, as it was received.
    pub receipt: String,
    /// The end of the delivery.
    pub action: SettleAction,
    /// For `retry`: how long the message stays invisible, such as `5s`; at most 12 h. Not at all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<String>,
    /// For `retry` and `reject`: why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The end of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SettleAction {
    /// The message was handled: delete it.
    Delete,
    /// Make the message visible again at once, and do not count the receive.
    Release,
    /// The message was not handled: make it visible again after a delay, or a dead letter if this was its last receive.
    Retry,
    /// The message can't be handled: make a dead letter of it.
    Reject,
}

/// The answer of `POST /queues/{name}/settle`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum SettleAnswer {
    /// To a request with one receipt.
    One {
        /// 1.
        messages: u64,
    },
    /// To a request with a list: one result for each entry, in order.
    Many {
        /// The results.
        results: Vec<EntryResult>,
    },
}
