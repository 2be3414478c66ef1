//! A message that a client sends, held against the rules of its queue.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    digest::{md5_of_attributes, md5_of_body},
    error::{SqsError, SqsErrorCode},
    input::{MessageAttributeValue, SendMessageBatchEntry, SendMessageInput},
    xml::is_xml_character,
};

mod attribute;

/// The longest delay of a message, in seconds.
const MAX_DELAY: u64 = 900;
/// The most characters of a group id, a deduplication id and an attempt id.
const MAX_TOKEN_LENGTH: usize = 128;

/// What of a queue decides whether it takes a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendRules {
    /// Whether the queue is FIFO.
    pub is_fifo: bool,
    /// Whether a FIFO queue takes the body for the deduplication id of a message that has none.
    pub content_based_deduplication: bool,
    /// The most bytes of a message with its attributes.
    pub maximum_message_size: u32,
}

/// A message that a client sends, alone or in a batch.
#[derive(Clone, Copy, Debug)]
pub struct OutgoingMessage<'a> {
    /// The body.
    pub body: &'a str,
    /// The delay in seconds, as the client wrote it.
    pub delay_seconds: Option<i64>,
    /// The attributes.
    pub attributes: &'a BTreeMap<String, MessageAttributeValue>,
    /// The system attributes.
    pub system_attributes: &'a BTreeMap<String, MessageAttributeValue>,
    /// The deduplication id.
    pub deduplication_id: Option<&'a str>,
    /// The message group.
    pub group_id: Option<&'a str>,
    /// Whether the message came in a batch, of which AWS speaks in other words.
    in_batch: bool,
}

/// A message that its queue takes, with what the answer says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedSend {
    /// The delay that the client asked for. Without one the queue says.
    pub delay: Option<Duration>,
    /// The header for tracing, which is the only system attribute that a client can send.
    pub trace_header: Option<String>,
    /// The MD5 of the body.
    pub md5_of_body: String,
    /// The MD5 of the attributes.
    pub md5_of_attributes: Option<String>,
    /// The MD5 of the system attributes.
    pub md5_of_system_attributes: Option<String>,
}

/// Why a queue does not take a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendRefusal {
    /// The message is refused: the call, or its entry of a batch.
    Message(SqsError),
    /// The whole call is refused, with all its entries.
    Call(SqsError),
}

impl SendRefusal {
    /// Returns the error.
    pub fn into_error(self) -> SqsError {
        match self {
            Self::Message(error) | Self::Call(error) => error,
        }
    }
}

impl From<SqsError> for SendRefusal {
    fn from(error: SqsError) -> Self {
        Self::Message(error)
    }
}

impl<'a> OutgoingMessage<'a> {
    /// Returns the message of a `SendMessage`.
    pub fn of_input(input: &'a SendMessageInput) -> Self {
        Self {
            body: &input.message_body,
            delay_seconds: input.delay_seconds,
            attributes: &input.message_attributes,
            system_attributes: &input.message_system_attributes,
            deduplication_id: input.message_deduplication_id.as_deref(),
            group_id: input.message_group_id.as_deref(),
            in_batch: false,
        }
    }

    /// Returns the message of an entry of a `SendMessageBatch`.
    pub fn of_entry(entry: &'a SendMessageBatchEntry) -> Self {
        Self {
            body: &entry.message_body,
            delay_seconds: entry.delay_seconds,
            attributes: &entry.message_attributes,
            system_attributes: &entry.message_system_attributes,
            deduplication_id: entry.message_deduplication_id.as_deref(),
            group_id: entry.message_group_id.as_deref(),
            in_batch: true,
        }
    }

    /// Returns the bytes that count: the body, and names, types and values of the attributes.
    pub fn size(&self) -> usize {
        let attributes = self.attributes.iter().map(|(name, value)| {
            let text = value.string_value.as_deref().map_or(0, str::len);
            let binary = value.binary_value.as_ref().map_or(0, |bytes| bytes.0.len());
            name.len() + value.data_type.len() + text + binary
        });
        self.body.len() + attributes.sum::<usize>()
    }

    /// Holds the message against the rules of its queue. In a batch, check every entry before one is stored: the refusal of
    /// one may be that of the call.
    ///
    /// # Errors
    ///
    /// [`SendRefusal`] with the error that AWS answers.
    pub fn check(&self, rules: SendRules) -> Result<CheckedSend, SendRefusal> {
        self.check_ids(rules)?;
        if self.body.is_empty() {
            return Err(SqsError::missing_parameter("MessageBody").into());
        }
        let delay = self.delay(rules)?;
        self.check_size(rules)?;
        check_characters(self.body)?;
        attribute::check_attributes(self.attributes)?;
        let trace_header = attribute::trace_header(self.system_attributes)?;
        let pairs =
            |map: &'a BTreeMap<String, MessageAttributeValue>| map.iter().map(|(name, value)| (name.as_str(), value));
        Ok(CheckedSend {
            delay,
            trace_header,
            md5_of_body: md5_of_body(self.body),
            md5_of_attributes: md5_of_attributes(pairs(self.attributes)),
            md5_of_system_attributes: md5_of_attributes(pairs(self.system_attributes)),
        })
    }

    fn check_ids(&self, rules: SendRules) -> Result<(), SendRefusal> {
        if let Some(group) = self.group_id {
            check_token(group, "MessageGroupId")?;
        } else if rules.is_fifo {
            return Err(if self.in_batch {
                let text = "The request must contain the parameter MessageGroupId.";
                SendRefusal::Call(SqsError::invalid_parameter(text))
            } else {
                SqsError::missing_parameter("MessageGroupId").into()
            });
        }
        match self.deduplication_id {
            Some(id) => {
                check_token(id, "MessageDeduplicationId")?;
                if !rules.is_fifo {
                    let reason = "The request includes a parameter that is not valid for this queue type.";
                    return Err(SqsError::invalid_value(id, "MessageDeduplicationId", reason).into());
                }
            }
            None if rules.is_fifo && !rules.content_based_deduplication => {
                return Err(SendRefusal::Call(SqsError::invalid_parameter(
                    "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided \
                     explicitly",
                )));
            }
            None => (),
        }
        Ok(())
    }

    fn delay(&self, rules: SendRules) -> Result<Option<Duration>, SqsError> {
        let Some(seconds) = self.delay_seconds else {
            return Ok(None);
        };
        if rules.is_fifo {
            // A FIFO queue has one delay for all, and takes a zero for not having said anything.
            return match seconds {
                0 => Ok(None),
                _ => Err(SqsError::not_valid_for_queue_type(seconds, "DelaySeconds")),
            };
        }
        let delay = u64::try_from(seconds).ok().filter(|seconds| *seconds <= MAX_DELAY);
        delay
            .map(|seconds| Some(Duration::from_secs(seconds)))
            .ok_or_else(|| SqsError::invalid_value(seconds, "DelaySeconds", "DelaySeconds must be >= 0 and <= 900."))
    }

    fn check_size(&self, rules: SendRules) -> Result<(), SqsError> {
        let most = rules.maximum_message_size;
        if u32::try_from(self.size()).is_ok_and(|size| size <= most) {
            return Ok(());
        }
        let start = if self.in_batch {
            "cannot be validated"
        } else {
            "are invalid"
        };
        Err(SqsError::invalid_parameter(format!(
            "One or more parameters {start}. Reason: Message must be shorter than {most} bytes."
        )))
    }
}

/// Refuses text that a message can't hold.
fn check_characters(text: &str) -> Result<(), SqsError> {
    if text.chars().all(is_xml_character) {
        return Ok(());
    }
    Err(SqsError::new(
        SqsErrorCode::InvalidMessageContents,
        "Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | \
         #x10000 to #x10FFFF",
    ))
}

/// Refuses a group id, a deduplication id or an attempt id that is none: 1 to 128 letters, digits and punctuation marks.
pub(crate) fn check_token(token: &str, name: &str) -> Result<(), SqsError> {
    let is_token = (1..=MAX_TOKEN_LENGTH).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic());
    if is_token {
        return Ok(());
    }
    let reason = format!("{name} can only include alphanumeric and punctuation characters. 1 to 128 in length.");
    Err(SqsError::invalid_value(token, name, &reason))
}

#[cfg(test)]
mod tests;
