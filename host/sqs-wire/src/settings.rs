//! The attributes of a queue that a client sets, as typed values. `settings/redrive.rs` has the policies of dead letters.
//!
//! A patch has only what the client named. It knows nothing of the queue but whether it is FIFO.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    address::WireQueueName,
    error::{SqsError, SqsErrorCode},
    input::CreateQueueInput,
    limits::check_tags,
    names::QueueAttributeName,
};

mod redrive;

pub use redrive::{RedriveAllowPolicy, RedrivePermission, RedrivePolicy};

/// What a client wants of a setting that a queue may have or not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SettingChange<T> {
    /// The client did not name the setting.
    #[default]
    Keep,
    /// The client wants the setting gone: it named it with an empty value.
    Clear,
    /// The client wants this value.
    Set(T),
}

/// Within what one deduplication id stands for one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeduplicationScope {
    /// Within the queue.
    Queue,
    /// Within the message group.
    MessageGroup,
}

/// What the limit of throughput of a FIFO queue counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FifoThroughputLimit {
    /// For the queue.
    PerQueue,
    /// For each message group.
    PerMessageGroupId,
}

impl DeduplicationScope {
    /// Returns the value on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::MessageGroup => "messageGroup",
        }
    }
}

impl FifoThroughputLimit {
    /// Returns the value on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::PerQueue => "perQueue",
            Self::PerMessageGroupId => "perMessageGroupId",
        }
    }
}

/// The settings that a client named in `CreateQueue` or `SetQueueAttributes`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueSettingsPatch {
    /// How long a message is invisible after it was sent: 0 to 900 seconds.
    pub delay: Option<Duration>,
    /// The most bytes of a message with its attributes: 1,024 to 1,048,576.
    pub maximum_message_size: Option<u32>,
    /// How long a message is kept: 60 seconds to 14 days.
    pub retention: Option<Duration>,
    /// How long a receive waits that says nothing else: 0 to 20 seconds.
    pub receive_wait: Option<Duration>,
    /// How long a receive hides a message that says nothing else: 0 to 43,200 seconds.
    pub visibility_timeout: Option<Duration>,
    /// The access policy, as JSON that is an object.
    pub policy: SettingChange<String>,
    /// Where dead letters go.
    pub redrive: SettingChange<RedrivePolicy>,
    /// Whose dead letters the queue takes.
    pub redrive_allow: SettingChange<RedriveAllowPolicy>,
    /// Whether the body stands for the deduplication id where a message has none.
    pub content_based_deduplication: Option<bool>,
    /// Within what one deduplication id stands for one message.
    pub deduplication_scope: Option<DeduplicationScope>,
    /// What the limit of throughput counts for.
    pub fifo_throughput_limit: Option<FifoThroughputLimit>,
    /// The key of KMS, as text.
    pub kms_master_key: SettingChange<String>,
    /// How long a data key of KMS is used: 60 to 86,400 seconds.
    pub kms_data_key_reuse: Option<Duration>,
    /// Whether SQS encrypts with keys of its own.
    pub sqs_managed_sse: Option<bool>,
}

/// A queue that a client wants to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedQueue {
    /// The name, which says whether the queue is FIFO.
    pub name: WireQueueName,
    /// The settings that the client named.
    pub settings: QueueSettingsPatch,
    /// The tags.
    pub tags: BTreeMap<String, String>,
}

impl WantedQueue {
    /// Returns what a `CreateQueue` asks for.
    ///
    /// # Errors
    ///
    /// `InvalidParameterValue` for a name that is none, `InvalidAttributeName` for an attribute that such a queue has not,
    /// `InvalidAttributeValue` or `InvalidParameterValue` for a value.
    pub fn of(input: &CreateQueueInput) -> Result<Self, SqsError> {
        let text = input.queue_name.as_deref().unwrap_or_default();
        let fifo = input.attributes.get(QueueAttributeName::FifoQueue.name());
        let wants_fifo = fifo.map(|value| boolean("FifoQueue", value)).transpose()?;
        let name = WireQueueName::parse(text).filter(|name| name.is_fifo() == (wants_fifo == Some(true)));
        let Some(name) = name else {
            return Err(SqsError::invalid_parameter(if wants_fifo == Some(true) {
                "The name of a FIFO queue can only include alphanumeric characters, hyphens, or underscores, must end \
                 with .fifo suffix and be 1 to 80 in length."
            } else {
                "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length"
            }));
        };
        let settings = QueueSettingsPatch::of(&input.attributes, name.is_fifo())?;
        check_throughput_rule(settings.deduplication_scope, settings.fifo_throughput_limit)?;
        check_tags(&input.tags)?;
        Ok(Self {
            name,
            settings,
            tags: input.tags.clone(),
        })
    }
}

/// Refuses a limit for each message group with deduplication in the whole queue. A queue that has neither has `Queue` and
/// `PerQueue`. Use it for what a queue would have after a patch.
///
/// # Errors
///
/// `InvalidAttributeValue`.
pub fn check_throughput_rule(
    scope: Option<DeduplicationScope>,
    limit: Option<FifoThroughputLimit>,
) -> Result<(), SqsError> {
    let is_allowed =
        limit != Some(FifoThroughputLimit::PerMessageGroupId) || scope == Some(DeduplicationScope::MessageGroup);
    if is_allowed {
        return Ok(());
    }
    Err(SqsError::new(
        SqsErrorCode::InvalidAttributeValue,
        "Invalid value for the parameter FifoThroughputLimit. Reason: The perMessageGroupId value is allowed only when \
         the value for DeduplicationScope is messageGroup.",
    ))
}

impl QueueSettingsPatch {
    /// Returns the settings that `attributes` name, for a queue that is FIFO or not.
    ///
    /// # Errors
    ///
    /// `InvalidAttributeName` for an attribute that such a queue has not or that nobody can set,
    /// `InvalidAttributeValue` for a value that is not allowed, and `InvalidParameterValue` for one in a redrive policy.
    pub fn of(attributes: &BTreeMap<String, String>, is_fifo: bool) -> Result<Self, SqsError> {
        let mut patch = Self::default();
        for (name, value) in attributes {
            let known = QueueAttributeName::from_name(name).filter(|known| !known.is_computed());
            let known = known.ok_or_else(|| SqsError::unknown_attribute(name))?;
            refuse_attribute_of_fifo(known, is_fifo)?;
            if known == QueueAttributeName::FifoQueue && !boolean(name, value)? {
                return Err(SqsError::queue_type_is_fixed());
            }
            patch.set(known, value)?;
        }
        if patch.sqs_managed_sse == Some(true) && matches!(patch.kms_master_key, SettingChange::Set(_)) {
            return Err(SqsError::new(
                SqsErrorCode::InvalidAttributeName,
                "You can use one type of server-side encryption (SSE) at one time. You can either enable KMS SSE or SQS \
                 SSE.",
            ));
        }
        Ok(patch)
    }

    fn set(&mut self, name: QueueAttributeName, value: &str) -> Result<(), SqsError> {
        match name {
            QueueAttributeName::DelaySeconds => self.delay = Some(seconds(name, value, 0, 900)?),
            QueueAttributeName::MaximumMessageSize => {
                self.maximum_message_size = Some(number(name, value, 1024, 1_048_576)?);
            }
            QueueAttributeName::MessageRetentionPeriod => {
                self.retention = Some(seconds(name, value, 60, 1_209_600)?);
            }
            QueueAttributeName::ReceiveMessageWaitTimeSeconds => {
                self.receive_wait = Some(seconds(name, value, 0, 20)?);
            }
            QueueAttributeName::VisibilityTimeout => self.visibility_timeout = Some(seconds(name, value, 0, 43_200)?),
            QueueAttributeName::Policy => self.policy = policy(value)?,
            QueueAttributeName::RedrivePolicy => self.redrive = change(value, RedrivePolicy::parse)?,
            QueueAttributeName::RedriveAllowPolicy => self.redrive_allow = change(value, RedriveAllowPolicy::parse)?,
            QueueAttributeName::ContentBasedDeduplication => {
                self.content_based_deduplication = Some(boolean(name.name(), value)?);
            }
            QueueAttributeName::DeduplicationScope => {
                self.deduplication_scope = Some(match value {
                    "queue" => DeduplicationScope::Queue,
                    "messageGroup" => DeduplicationScope::MessageGroup,
                    _ => return Err(SqsError::invalid_attribute_value(name.name())),
                });
            }
            QueueAttributeName::FifoThroughputLimit => {
                self.fifo_throughput_limit = Some(match value {
                    "perQueue" => FifoThroughputLimit::PerQueue,
                    "perMessageGroupId" => FifoThroughputLimit::PerMessageGroupId,
                    _ => return Err(SqsError::invalid_attribute_value(name.name())),
                });
            }
            QueueAttributeName::KmsMasterKeyId => self.kms_master_key = change(value, |key| Ok(key.to_owned()))?,
            QueueAttributeName::KmsDataKeyReusePeriodSeconds => {
                self.kms_data_key_reuse = Some(seconds(name, value, 60, 86_400)?);
            }
            QueueAttributeName::SqsManagedSseEnabled => self.sqs_managed_sse = Some(boolean(name.name(), value)?),
            // The name of the queue says it, and the others are refused before.
            QueueAttributeName::FifoQueue
            | QueueAttributeName::ApproximateNumberOfMessages
            | QueueAttributeName::ApproximateNumberOfMessagesNotVisible
            | QueueAttributeName::ApproximateNumberOfMessagesDelayed
            | QueueAttributeName::CreatedTimestamp
            | QueueAttributeName::LastModifiedTimestamp
            | QueueAttributeName::QueueArn => (),
        }
        Ok(())
    }
}

fn refuse_attribute_of_fifo(name: QueueAttributeName, is_fifo: bool) -> Result<(), SqsError> {
    let is_unknown = [
        QueueAttributeName::FifoQueue,
        QueueAttributeName::ContentBasedDeduplication,
    ]
    .contains(&name);
    let is_of_fifo = [
        QueueAttributeName::DeduplicationScope,
        QueueAttributeName::FifoThroughputLimit,
    ]
    .contains(&name);
    if is_unknown && !is_fifo {
        return Err(SqsError::unknown_attribute(name.name()));
    }
    if is_of_fifo && !is_fifo {
        return Err(SqsError::new(
            SqsErrorCode::InvalidAttributeName,
            format!(
                "You can specify the {} only when FifoQueue is set to true.",
                name.name()
            ),
        ));
    }
    Ok(())
}

fn number(name: QueueAttributeName, value: &str, least: u32, most: u32) -> Result<u32, SqsError> {
    let number: Option<u32> = value.trim().parse().ok();
    number
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| SqsError::invalid_attribute_value(name.name()))
}

fn seconds(name: QueueAttributeName, value: &str, least: u32, most: u32) -> Result<Duration, SqsError> {
    number(name, value, least, most).map(|seconds| Duration::from_secs(seconds.into()))
}

fn boolean(name: &str, value: &str) -> Result<bool, SqsError> {
    if value.eq_ignore_ascii_case("true") {
        Ok(true)
    } else if value.eq_ignore_ascii_case("false") {
        Ok(false)
    } else {
        Err(SqsError::invalid_attribute_value(name))
    }
}

fn change<T>(value: &str, read: impl FnOnce(&str) -> Result<T, SqsError>) -> Result<SettingChange<T>, SqsError> {
    if value.is_empty() {
        return Ok(SettingChange::Clear);
    }
    read(value).map(SettingChange::Set)
}

fn policy(value: &str) -> Result<SettingChange<String>, SqsError> {
    change(value, |text| {
        let parsed: Result<serde_json::Map<String, serde_json::Value>, _> = serde_json::from_str(text);
        parsed
            .map(|_| text.to_owned())
            .map_err(|_| SqsError::invalid_attribute_value("Policy"))
    })
}

#[cfg(test)]
mod tests;
