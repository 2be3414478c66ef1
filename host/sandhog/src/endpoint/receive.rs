//! `ReceiveMessage`.

use std::{collections::BTreeMap, time::Duration};

use super::{
    ACCOUNT, ClientView, SqsEndpoint, failed, replays::ReceiveAttempt, send::sequence_number, settle::handle_of,
};
use crate::{halts::receive_unhalted, queue_set::SimpleQueueEntry};
use sandhog_queue::{
    Queue as _,
    message::{AttributeValue, Attributes},
};
use sandhog_simple::{HistoricDelivery, receive_terms::ReceiveTerms};
use sandhog_sqs::body_form::{self, BODY_ENCODING, TRACE_HEADER};
use sandhog_sqs_wire::{
    BinaryValue, MessageSystemName, ReceiveWishes, SqsError, SqsResponse,
    input::{MessageAttributeValue, ReceiveMessageInput},
    md5_of_attributes, md5_of_body,
    output::{ReceiveMessageOutput, ReceivedMessage},
};

impl SqsEndpoint {
    pub(super) async fn receive_message(
        &self,
        input: ReceiveMessageInput,
        view: &ClientView,
    ) -> Result<SqsResponse, SqsError> {
        let queue = self.queue(&input.queue_url)?;
        let wishes = ReceiveWishes::of(&input)?;
        wishes.check_kind(queue.is_fifo())?;
        let deliveries = match &wishes.attempt_id {
            None => self.receive(&queue, &wishes).await?,
            Some(id) => {
                let attempt = ReceiveAttempt::new(&queue, id);
                let again = self.replays.again(&attempt, &queue, wishes.visibility_timeout).await;
                if let Some(deliveries) = again {
                    deliveries
                } else {
                    let deliveries = self.receive(&queue, &wishes).await?;
                    self.replays.keep(attempt, &deliveries);
                    deliveries
                }
            }
        };
        let shown = deliveries
            .into_iter()
            .map(|delivery| shown(&queue, delivery, &wishes, view))
            .collect();
        Ok(SqsResponse::ReceiveMessage(ReceiveMessageOutput { messages: shown }))
    }

    async fn receive(
        &self,
        queue: &SimpleQueueEntry,
        wishes: &ReceiveWishes,
    ) -> Result<Vec<HistoricDelivery>, SqsError> {
        let terms = ReceiveTerms {
            visibility_timeout: wishes.visibility_timeout,
            whole_groups: queue.is_fifo(),
            outside: true,
        };
        let usual = Duration::from_secs(queue.wire.settings.receive_wait_s);
        let wait = wishes.wait.unwrap_or(usual);
        let source = &queue.queue;
        let received = receive_unhalted(&self.halts, source.name(), wait, |wait| {
            source.receive_on(wishes.max_messages, wait, terms)
        });
        tokio::select! {
            received = received => received.map_err(|error| failed(&error)),
            () = self.draining.cancelled() => Ok(Vec::new()),
        }
    }
}

/// Returns a message as the client asked for it.
fn shown(
    queue: &SimpleQueueEntry,
    received: HistoricDelivery,
    wishes: &ReceiveWishes,
    view: &ClientView,
) -> ReceivedMessage {
    let system = system_attributes(queue, &received, view);
    let message = received.delivery.message;
    let (body, encoding) = body_form::encoded(&message.body);
    let mut attributes = wire_attributes(&message.attributes);
    if let Some(encoding) = encoding {
        attributes.insert(BODY_ENCODING.to_owned(), text(encoding));
    }
    attributes.retain(|name, _| wishes.attributes.picks(name));
    let picked = system
        .into_iter()
        .filter(|(name, _)| wishes.system_attributes.picks(*name))
        .map(|(name, value)| (name.name().to_owned(), value));
    ReceivedMessage {
        message_id: message.id.to_string(),
        receipt_handle: handle_of(&received.delivery.receipt),
        md5_of_body: md5_of_body(&body),
        body,
        attributes: picked.collect(),
        md5_of_message_attributes: md5_of_attributes(attributes.iter().map(|(name, value)| (name.as_str(), value))),
        message_attributes: attributes,
    }
}

fn system_attributes(
    queue: &SimpleQueueEntry,
    received: &HistoricDelivery,
    view: &ClientView,
) -> Vec<(MessageSystemName, String)> {
    let message = &received.delivery.message;
    let history = &received.history;
    let mut system = vec![
        (MessageSystemName::SenderId, ACCOUNT.to_owned()),
        (MessageSystemName::SentTimestamp, message.sent_at_ms.to_string()),
        (MessageSystemName::ApproximateReceiveCount, history.receives.to_string()),
        (
            MessageSystemName::ApproximateFirstReceiveTimestamp,
            history.first_received_at_ms.to_string(),
        ),
    ];
    if queue.is_fifo() {
        system.push((MessageSystemName::SequenceNumber, sequence_number(history.sequence)));
        // A dead letter has its own id for one, so that no two of them are the same.
        let own = history.dead_letter_of.as_ref().map(|_| message.id.to_string());
        if let Some(id) = own.or_else(|| history.deduplication_id.clone()) {
            system.push((MessageSystemName::MessageDeduplicationId, id));
        }
    }
    if let Some(group) = &message.group_id {
        system.push((MessageSystemName::MessageGroupId, group.clone()));
    }
    if let Some(AttributeValue::Text(trace)) = message.attributes.get(TRACE_HEADER) {
        system.push((MessageSystemName::AWSTraceHeader, trace.clone()));
    }
    if let Some(source) = &history.dead_letter_of {
        system.push((MessageSystemName::DeadLetterQueueSourceArn, view.arn(source.as_str())));
    }
    system
}

fn wire_attributes(attributes: &Attributes) -> BTreeMap<String, MessageAttributeValue> {
    let wire = |(name, value): &(String, AttributeValue)| {
        let kind = match value {
            AttributeValue::Text(_) => "String",
            AttributeValue::Number(_) => "Number",
            AttributeValue::Binary(_) => "Binary",
        };
        let data_type = match attributes.label(name) {
            Some(label) => format!("{kind}.{label}"),
            None => kind.to_owned(),
        };
        let value = match value {
            AttributeValue::Text(text) | AttributeValue::Number(text) => MessageAttributeValue {
                data_type,
                string_value: Some(text.clone()),
                ..MessageAttributeValue::default()
            },
            AttributeValue::Binary(bytes) => MessageAttributeValue {
                data_type,
                binary_value: Some(BinaryValue(bytes.clone())),
                ..MessageAttributeValue::default()
            },
        };
        (name.clone(), value)
    };
    let pairs = attributes.pairs().iter();
    pairs.filter(|(name, _)| name != TRACE_HEADER).map(wire).collect()
}

fn text(value: &str) -> MessageAttributeValue {
    MessageAttributeValue {
        data_type: "String".to_owned(),
        string_value: Some(value.to_owned()),
        ..MessageAttributeValue::default()
    }
}
