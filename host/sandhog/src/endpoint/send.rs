//! `SendMessage` and `SendMessageBatch`.

use std::collections::BTreeMap;

use super::{ClientView, SqsEndpoint, failed};
use crate::{metrics::SendDoor, queue_set::SimpleQueueEntry};
use sandhog_queue::{
    Queue as _, SendError,
    message::{AttributeValue, Attributes, CheckedMessage, InvalidMessage, MAX_ATTRIBUTES_BYTES, Outgoing},
};
use sandhog_sqs::body_form::{self, BODY_ENCODING, TRACE_HEADER};
use sandhog_sqs_wire::{
    CheckedSend, OutgoingMessage, SendRefusal, SendRules, SqsError, SqsErrorCode, SqsResponse,
    input::{MessageAttributeValue, SendMessageBatchInput, SendMessageInput},
    output::{BatchFailure, SendMessageBatchOutput, SendMessageBatchSuccess, SendMessageOutput},
};

/// The sequence numbers begin here: among those of AWS, so that they look like them.
const FIRST_SEQUENCE: u128 = 18_849_496_460_467_696_128;

impl SqsEndpoint {
    pub(super) async fn send_message(
        &self,
        input: SendMessageInput,
        view: &ClientView,
    ) -> Result<SqsResponse, SqsError> {
        let queue = self.queue(&input.queue_url)?;
        let message = OutgoingMessage::of_input(&input);
        let name = queue.queue.name().as_str();
        let invalid = |_: &SqsError| self.metrics.refused_as_invalid(name, SendDoor::Sqs);
        let checked = message.check(send_rules(&queue)).map_err(SendRefusal::into_error);
        let checked = checked.inspect_err(invalid)?;
        let draft = draft(&message, &checked, view).inspect_err(invalid)?;
        let mut answers = queue.queue.send_numbered(vec![draft]).await;
        self.metrics.sent_through(SendDoor::Sqs, name, &answers);
        let sent = answers
            .pop()
            .expect("one answer per message")
            .map_err(|error| refused(&error))?;
        Ok(SqsResponse::SendMessage(SendMessageOutput {
            md5_of_message_body: checked.md5_of_body,
            md5_of_message_attributes: checked.md5_of_attributes,
            md5_of_message_system_attributes: checked.md5_of_system_attributes,
            message_id: sent.id.to_string(),
            sequence_number: queue.is_fifo().then(|| sequence_number(sent.sequence)),
        }))
    }

    pub(super) async fn send_batch(
        &self,
        input: SendMessageBatchInput,
        view: &ClientView,
    ) -> Result<SqsResponse, SqsError> {
        let queue = self.queue(&input.queue_url)?;
        let rules = send_rules(&queue);
        let mut failures = Vec::new();
        let mut accepted = Vec::new();
        let mut drafts = Vec::new();
        for entry in &input.entries {
            let message = OutgoingMessage::of_entry(entry);
            let checked = match message.check(rules) {
                Ok(checked) => checked,
                Err(SendRefusal::Call(error)) => return Err(error),
                Err(SendRefusal::Message(error)) => {
                    failures.push(BatchFailure::new(&entry.id, &error));
                    continue;
                }
            };
            match draft(&message, &checked, view) {
                Ok(draft) => {
                    drafts.push(draft);
                    accepted.push((entry.id.clone(), checked));
                }
                Err(error) => failures.push(BatchFailure::new(&entry.id, &error)),
            }
        }
        let answers = queue.queue.send_numbered(drafts).await;
        let name = queue.queue.name().as_str();
        for _ in &failures {
            self.metrics.refused_as_invalid(name, SendDoor::Sqs);
        }
        self.metrics.sent_through(SendDoor::Sqs, name, &answers);
        let mut successes = Vec::new();
        for ((id, checked), answer) in accepted.into_iter().zip(answers) {
            match answer {
                Ok(sent) => successes.push(SendMessageBatchSuccess {
                    id,
                    message_id: sent.id.to_string(),
                    md5_of_message_body: checked.md5_of_body,
                    md5_of_message_attributes: checked.md5_of_attributes,
                    md5_of_message_system_attributes: checked.md5_of_system_attributes,
                    sequence_number: queue.is_fifo().then(|| sequence_number(sent.sequence)),
                }),
                Err(error) => failures.push(BatchFailure::new(id, &refused(&error))),
            }
        }
        Ok(SqsResponse::SendMessageBatch(SendMessageBatchOutput {
            successful: successes,
            failed: failures,
        }))
    }
}

fn send_rules(queue: &SimpleQueueEntry) -> SendRules {
    SendRules {
        is_fifo: queue.is_fifo(),
        content_based_deduplication: queue.wire.settings.content_based_deduplication,
        maximum_message_size: queue.wire.settings.max_message_bytes,
    }
}

/// Returns the text of a sequence number: 20 digits of which the first is no zero, as on AWS, so that clients that compare texts and
/// those that compare numbers see the same order.
pub(super) fn sequence_number(sequence: u64) -> String {
    (FIRST_SEQUENCE + u128::from(sequence)).to_string()
}

/// Returns the message as the store takes it. One without a trace header gets that of its request, if there is room for it.
fn draft(message: &OutgoingMessage<'_>, checked: &CheckedSend, view: &ClientView) -> Result<CheckedMessage, SqsError> {
    // Where there is none the queue makes one of the body, which is checked by now.
    let deduplication_id = message.deduplication_id.map(str::to_owned);
    let encoding = message
        .attributes
        .get(BODY_ENCODING)
        .and_then(|value| value.string_value.as_deref());
    let decoded = encoding.and_then(|encoding| body_form::decoded(message.body, encoding));
    let skipped = if decoded.is_some() { BODY_ENCODING } else { "" };
    let mut attributes = attributes(message.attributes, skipped);
    if let Some(header) = &checked.trace_header {
        attributes.add_text(TRACE_HEADER, header.clone());
    }
    if attributes.size() > MAX_ATTRIBUTES_BYTES {
        return Err(SqsError::invalid_parameter(format!(
            "The attributes of a message take at most {MAX_ATTRIBUTES_BYTES} bytes."
        )));
    }
    if let Some(header) = &view.trace {
        attributes.add_text_that_fits(TRACE_HEADER, header.clone());
    }
    let draft = Outgoing {
        body: decoded.unwrap_or_else(|| message.body.to_owned().into()),
        attributes,
        delay: checked.delay,
        group_id: message.group_id.map(str::to_owned),
        deduplication_id,
        priority: None,
    };
    draft.check().map_err(|error| invalid(&error))
}

fn attributes(wire: &BTreeMap<String, MessageAttributeValue>, skipped: &str) -> Attributes {
    let mut pairs = Vec::with_capacity(wire.len() + 1);
    for (name, value) in wire.iter().filter(|(name, _)| *name != skipped) {
        let kind = value.data_type.split('.').next().unwrap_or_default();
        let text = || value.string_value.clone().unwrap_or_default();
        pairs.push((
            name.clone(),
            match kind {
                "Number" => AttributeValue::Number(text()),
                "Binary" => AttributeValue::Binary(value.binary_value.clone().unwrap_or_default().0),
                _ => AttributeValue::Text(text()),
            },
        ));
    }
    // The protocol's own checks are as strict as those of a message but for the bytes, and do not count the trace header to the ten.
    let mut attributes = Attributes::from_queue(pairs);
    for (name, value) in wire {
        if let Some((_, label)) = value.data_type.split_once('.') {
            attributes.set_label(name, label);
        }
    }
    attributes
}

fn invalid(error: &InvalidMessage) -> SqsError {
    SqsError::invalid_parameter(error.to_string())
}

fn refused(error: &SendError) -> SqsError {
    match error {
        SendError::Invalid(error) => invalid(error),
        // A full queue may have room later, so that clients should try again.
        SendError::Full { .. } => SqsError::new(SqsErrorCode::OverLimit, error.to_string()),
        SendError::NoSuchQueue(_) => SqsError::queue_does_not_exist(),
        SendError::Queue(error) => failed(error),
    }
}
