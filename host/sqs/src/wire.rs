//! The calls of the SQS API that a queue makes, in the types of this module. Only this file, `failure.rs` and
//! `connection.rs` name the SDK.

use std::{collections::HashMap, num::NonZeroU32, time::Duration};

use aws_sdk_sqs::{
    Client,
    config::{self, Config, StalledStreamProtectionConfig, retry::RetryConfig, timeout::TimeoutConfig},
    primitives::Blob,
    types::{
        BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, Message,
        MessageAttributeValue, MessageSystemAttributeName, MessageSystemAttributeNameForSends,
        MessageSystemAttributeValue, QueueAttributeName, SendMessageBatchRequestEntry,
    },
};

use super::failure::{Action, Class, EntryFailure, Failure};
use sandhog_queue::message::AttributeValue;

/// The most entries of one batch call, and messages of one receive (limit of SQS).
pub(crate) const BATCH: usize = 10;
/// The wait before the SDK's first repetition of a call; the next one waits twice as long.
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
/// The longest wait between two repetitions.
const LONGEST_BACKOFF: Duration = Duration::from_secs(2);
/// The system attributes of a message that are read. To ask for all would cost both sides the others.
const READ: [MessageSystemAttributeName; 5] = [
    MessageSystemAttributeName::ApproximateReceiveCount,
    MessageSystemAttributeName::SentTimestamp,
    MessageSystemAttributeName::MessageGroupId,
    MessageSystemAttributeName::AwsTraceHeader,
    MessageSystemAttributeName::DeadLetterQueueSourceArn,
];
/// The longest time to connect (the SDK's own default).
const CONNECT_TIMEOUT: Duration = Duration::from_millis(3_100);

/// The time limits of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// The time limit of each attempt.
    pub(crate) attempt: Duration,
    /// The number of attempts.
    pub(crate) attempts: u32,
}

impl Patience {
    pub(crate) const fn new(attempt: Duration, attempts: u32) -> Self {
        Self { attempt, attempts }
    }

    /// Returns the settings of one call. All of its time is bounded: without that the SDK waits for a silent server for
    /// ever. The limit also guards against a stalled answer, since the SDK's own guard takes a long poll for one.
    fn settings(self) -> config::Builder {
        let all = (self.attempt + LONGEST_BACKOFF).saturating_mul(self.attempts);
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT.min(self.attempt))
            .operation_attempt_timeout(self.attempt)
            .operation_timeout(all)
            .build();
        let retries = RetryConfig::standard()
            .with_max_attempts(self.attempts)
            .with_initial_backoff(FIRST_BACKOFF)
            .with_max_backoff(LONGEST_BACKOFF);
        Config::builder()
            .timeout_config(timeouts)
            .retry_config(retries)
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
    }
}

/// An attribute with the type that it has on SQS, which may carry a label: `Number.price`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attribute {
    pub(crate) name: String,
    pub(crate) data_type: String,
    pub(crate) value: AttributeValue,
}

/// A message as SQS hands it out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Received {
    pub(crate) id: String,
    pub(crate) handle: String,
    pub(crate) body: String,
    /// The system attributes, by name: SQS keeps no order.
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) trace: Option<String>,
    pub(crate) group_id: Option<String>,
    pub(crate) sent_at_ms: u64,
    pub(crate) receive_count: Option<NonZeroU32>,
    pub(crate) source_arn: Option<String>,
}

/// A message as SQS takes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sendable {
    pub(crate) body: String,
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) trace: Option<String>,
    pub(crate) delay_s: Option<u64>,
    pub(crate) group_id: Option<String>,
    pub(crate) deduplication_id: Option<String>,
}

impl Sendable {
    /// Returns the number of bytes as SQS counts them: the body, and names, types and values of the attributes.
    pub(crate) fn size(&self) -> usize {
        self.body.len() + self.attributes.iter().map(Attribute::size).sum::<usize>()
    }
}

impl Attribute {
    pub(crate) fn size(&self) -> usize {
        let value = match &self.value {
            AttributeValue::Text(text) | AttributeValue::Number(text) => text.len(),
            AttributeValue::Binary(bytes) => bytes.len(),
        };
        self.name.len() + self.data_type.len() + value
    }
}

/// The request of one receive.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) max: usize,
    pub(crate) wait_s: u64,
    pub(crate) visibility_s: u64,
    /// The id of a receive of a FIFO queue. A later call with the same id is answered with the same messages.
    pub(crate) attempt_id: Option<String>,
}

/// One entry of a change of visibility.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hide<'a> {
    pub(crate) handle: &'a str,
    pub(crate) seconds: u64,
}

/// The state of a task that moves messages.
#[derive(Debug, Clone)]
pub(crate) struct Move {
    pub(crate) running: bool,
    pub(crate) failed: Option<String>,
    pub(crate) moved: u64,
}

/// One answer per entry of a batch, in the order of the entries.
pub(crate) type Answers<T> = Vec<Result<T, EntryFailure>>;

/// The API of SQS.
///
/// Every call ends within the time that it is given. Dropping its future drops the connection; the server may or may not
/// have done the call.
#[derive(Debug, Clone)]
pub(crate) struct Wire {
    client: Client,
}

impl Wire {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    pub(crate) async fn receive(&self, url: &str, ask: Ask, patience: Patience) -> Result<Vec<Received>, Failure> {
        let call = self
            .client
            .receive_message()
            .queue_url(url)
            .max_number_of_messages(number(ask.max))
            .wait_time_seconds(number(ask.wait_s))
            .visibility_timeout(number(ask.visibility_s))
            .set_message_system_attribute_names(Some(READ.to_vec()))
            .message_attribute_names("All")
            .set_receive_request_attempt_id(ask.attempt_id)
            .customize()
            .config_override(patience.settings())
            .send();
        // Boxed, because the receiving tasks are made for each call, and the SDK's part of the future is large.
        let answer = Box::pin(call)
            .await
            .map_err(|error| Failure::of(Action::ReceiveMessage, &error))?;
        let messages = answer.messages.unwrap_or_default().into_iter();
        Ok(messages.filter_map(|message| received(url, message)).collect())
    }

    pub(crate) async fn delete(&self, url: &str, handles: &[&str], patience: Patience) -> Result<Answers<()>, Failure> {
        const ACTION: Action = Action::DeleteMessageBatch;
        let entries = handles.iter().enumerate().map(|(index, handle)| {
            DeleteMessageBatchRequestEntry::builder()
                .id(index.to_string())
                .receipt_handle(*handle)
                .build()
        });
        let call = self
            .client
            .delete_message_batch()
            .queue_url(url)
            .set_entries(Some(built(ACTION, entries)?))
            .customize()
            .config_override(patience.settings())
            .send();
        // Boxed, as above.
        let answer = Box::pin(call).await.map_err(|error| Failure::of(ACTION, &error))?;
        let done = answer.successful.into_iter().map(|entry| (entry.id, ()));
        Ok(by_entry(ACTION, handles.len(), done, answer.failed))
    }

    pub(crate) async fn hide(
        &self,
        url: &str,
        entries: &[Hide<'_>],
        patience: Patience,
    ) -> Result<Answers<()>, Failure> {
        const ACTION: Action = Action::ChangeMessageVisibilityBatch;
        let each = entries.iter().enumerate().map(|(index, entry)| {
            ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(index.to_string())
                .receipt_handle(entry.handle)
                .visibility_timeout(number(entry.seconds))
                .build()
        });
        let answer = self
            .client
            .change_message_visibility_batch()
            .queue_url(url)
            .set_entries(Some(built(ACTION, each)?))
            .customize()
            .config_override(patience.settings())
            .send()
            .await
            .map_err(|error| Failure::of(ACTION, &error))?;
        let done = answer.successful.into_iter().map(|entry| (entry.id, ()));
        Ok(by_entry(ACTION, entries.len(), done, answer.failed))
    }

    /// Returns the ids that the messages got.
    pub(crate) async fn send(
        &self,
        url: &str,
        messages: &[&Sendable],
        patience: Patience,
    ) -> Result<Answers<String>, Failure> {
        const ACTION: Action = Action::SendMessageBatch;
        let entries = messages
            .iter()
            .enumerate()
            .map(|(index, message)| entry(index, message));
        let answer = self
            .client
            .send_message_batch()
            .queue_url(url)
            .set_entries(Some(built(ACTION, entries)?))
            .customize()
            .config_override(patience.settings())
            .send()
            .await
            .map_err(|error| Failure::of(ACTION, &error))?;
        let done = answer.successful.into_iter().map(|entry| (entry.id, entry.message_id));
        Ok(by_entry(ACTION, messages.len(), done, answer.failed))
    }

    pub(crate) async fn url(&self, name: &str, account: Option<&str>, patience: Patience) -> Result<String, Failure> {
        const ACTION: Action = Action::GetQueueUrl;
        let answer = self
            .client
            .get_queue_url()
            .queue_name(name)
            .set_queue_owner_aws_account_id(account.map(str::to_owned))
            .customize()
            .config_override(patience.settings())
            .send()
            .await
            .map_err(|error| Failure::of(ACTION, &error))?;
        answer
            .queue_url
            .ok_or_else(|| Failure::local(ACTION, Class::Server, "the answer has no url"))
    }

    pub(crate) async fn attributes(&self, url: &str, patience: Patience) -> Result<HashMap<String, String>, Failure> {
        let answer = self
            .client
            .get_queue_attributes()
            .queue_url(url)
            .attribute_names(QueueAttributeName::All)
            .customize()
            .config_override(patience.settings())
            .send()
            .await
            .map_err(|error| Failure::of(Action::GetQueueAttributes, &error))?;
        let attributes = answer.attributes.unwrap_or_default().into_iter();
        Ok(attributes
            .map(|(name, value)| (name.as_str().to_owned(), value))
            .collect())
    }

    pub(crate) async fn purge(&self, url: &str, patience: Patience) -> Result<(), Failure> {
        self.client
            .purge_queue()
            .queue_url(url)
            .customize()
            .config_override(patience.settings())
            .send()
            .await
            .map(drop)
            .map_err(|error| Failure::of(Action::PurgeQueue, &error))
    }

    pub(crate) async fn start_move(&self, from_arn: &str, to_arn: &str, patience: Patience) -> Result<(), Failure> {
        self.client
            .start_message_move_task()
            .source_arn(from_arn)
            .destination_arn(to_arn)
            .customize()
            .config_override(patience.settings())
            .send()
            .await
            .map(drop)
            .map_err(|error| Failure::of(Action::StartMessageMoveTask, &error))
    }

    /// Returns the latest task that moves messages out of a queue.
    pub(crate) async fn latest_move(&self, from_arn: &str, patience: Patience) -> Result<Option<Move>, Failure> {
        let answer = self
            .client
            .list_message_move_tasks()
            .source_arn(from_arn)
            .max_results(1)
            .customize()
            .config_override(patience.settings())
            .send()
            .await
            .map_err(|error| Failure::of(Action::ListMessageMoveTasks, &error))?;
        Ok(answer.results.unwrap_or_default().into_iter().next().map(|task| Move {
            running: matches!(task.status.as_deref(), Some("RUNNING" | "CANCELLING")),
            failed: task.failure_reason,
            moved: u64::try_from(task.approximate_number_of_messages_moved).unwrap_or(0),
        }))
    }

    /// Returns the URLs of the queues whose redrive policies name a queue. SQS allows a thousand in a page, and only one
    /// page is read.
    pub(crate) async fn sources(&self, url: &str, patience: Patience) -> Result<Vec<String>, Failure> {
        let answer = self
            .client
            .list_dead_letter_source_queues()
            .queue_url(url)
            .customize()
            .config_override(patience.settings())
            .send()
            .await
            .map_err(|error| Failure::of(Action::ListDeadLetterSourceQueues, &error))?;
        Ok(answer.queue_urls)
    }
}

/// Returns a number as the SDK takes it, which is signed.
fn number<N: TryInto<i32>>(number: N) -> i32 {
    number.try_into().unwrap_or(i32::MAX)
}

fn built<T, E: std::fmt::Display>(
    action: Action,
    entries: impl Iterator<Item = Result<T, E>>,
) -> Result<Vec<T>, Failure> {
    entries
        .map(|entry| entry.map_err(|error| Failure::local(action, Class::BadRequest, error.to_string())))
        .collect()
}

/// Brings the answers of a batch into the order of its entries, whose ids are their indices. An entry without an answer
/// failed.
fn by_entry<T>(
    action: Action,
    count: usize,
    done: impl Iterator<Item = (String, T)>,
    failed: Vec<BatchResultErrorEntry>,
) -> Answers<T> {
    let silence = || EntryFailure::new(action, "NoAnswer", "the answer leaves this entry out", false);
    let mut answers: Answers<T> = std::iter::repeat_with(|| Err(silence())).take(count).collect();
    let failed = failed.into_iter().map(|entry| {
        let failure = EntryFailure::new(
            action,
            &entry.code,
            entry.message.as_deref().unwrap_or_default(),
            entry.sender_fault,
        );
        (entry.id, Err(failure))
    });
    for (id, answer) in done.map(|(id, answer)| (id, Ok(answer))).chain(failed) {
        if let Some(slot) = id.parse().ok().and_then(|index: usize| answers.get_mut(index)) {
            *slot = answer;
        }
    }
    answers
}

fn entry(index: usize, message: &Sendable) -> Result<SendMessageBatchRequestEntry, aws_sdk_sqs::error::BuildError> {
    let mut entry = SendMessageBatchRequestEntry::builder()
        .id(index.to_string())
        .message_body(&message.body)
        .set_delay_seconds(message.delay_s.map(number))
        .set_message_group_id(message.group_id.clone())
        .set_message_deduplication_id(message.deduplication_id.clone());
    for attribute in &message.attributes {
        let value = MessageAttributeValue::builder().data_type(&attribute.data_type);
        let value = match &attribute.value {
            AttributeValue::Text(text) | AttributeValue::Number(text) => value.string_value(text),
            AttributeValue::Binary(bytes) => value.binary_value(Blob::new(bytes.clone())),
        };
        entry = entry.message_attributes(&attribute.name, value.build()?);
    }
    if let Some(trace) = &message.trace {
        let value = MessageSystemAttributeValue::builder()
            .data_type("String")
            .string_value(trace)
            .build()?;
        entry = entry.message_system_attributes(MessageSystemAttributeNameForSends::AwsTraceHeader, value);
    }
    entry.build()
}

/// Makes a message of these words as the SDK would: `id`, `handle` and `body`, `system:NAME`, and attributes as
/// `TYPE:NAME`. The SDK's own reader can't be called without a server.
pub(crate) fn of_words(words: &[(&str, &[u8])]) -> Option<Received> {
    let mut message = Message::builder();
    for (name, value) in words {
        let text = String::from_utf8_lossy(value).into_owned();
        message = match name.split_once(':') {
            None if *name == "id" => message.message_id(text),
            None if *name == "handle" => message.receipt_handle(text),
            None => message.body(text),
            Some(("system", name)) => message.attributes(name.into(), text),
            Some((kind, name)) => {
                let attribute = MessageAttributeValue::builder().data_type(kind);
                let attribute = if kind.starts_with("Binary") {
                    attribute.binary_value(Blob::new(*value))
                } else {
                    attribute.string_value(text)
                };
                message.message_attributes(name, attribute.build().ok()?)
            }
        };
    }
    received("", message.build())
}

/// Converts a message of the SDK. Returns `None` if it lacks what every message has.
fn received(url: &str, message: Message) -> Option<Received> {
    let (Some(id), Some(handle), Some(body)) = (message.message_id, message.receipt_handle, message.body) else {
        tracing::error!(
            url,
            "a message without an id, a receipt handle or a body was received, and left alone"
        );
        return None;
    };
    let mut system = message.attributes.unwrap_or_default();
    let attributes = message.message_attributes.unwrap_or_default().into_iter();
    let mut attributes: Vec<Attribute> = attributes.filter_map(|(name, value)| attribute(name, value)).collect();
    attributes.sort_by(|a, b| a.name.cmp(&b.name));
    let mut take = |name| system.remove(&name);
    Some(Received {
        id,
        handle,
        body,
        attributes,
        trace: take(MessageSystemAttributeName::AwsTraceHeader),
        group_id: take(MessageSystemAttributeName::MessageGroupId),
        sent_at_ms: take(MessageSystemAttributeName::SentTimestamp)
            .and_then(|ms| ms.parse().ok())
            .unwrap_or(0),
        receive_count: take(MessageSystemAttributeName::ApproximateReceiveCount).and_then(|count| count.parse().ok()),
        source_arn: take(MessageSystemAttributeName::DeadLetterQueueSourceArn),
    })
}

/// Converts a value. Returns `None` for a value of no kind, which SQS does not hand out.
fn attribute(name: String, value: MessageAttributeValue) -> Option<Attribute> {
    let kind = value.data_type.split('.').next().unwrap_or_default();
    let value_of = match (kind, value.string_value, value.binary_value) {
        ("Binary", _, Some(bytes)) | (_, None, Some(bytes)) => AttributeValue::Binary(bytes.into_inner()),
        ("Number", Some(text), _) => AttributeValue::Number(text),
        (_, Some(text), _) => AttributeValue::Text(text),
        (_, None, None) => return None,
    };
    Some(Attribute {
        name,
        data_type: value.data_type,
        value: value_of,
    })
}
