//! Deduplication ids for the sends of an attempt that its source queue cannot commit, so that a repeat is recognised.

use sha2::{Digest as _, Sha256};

use super::FinishedMessage;
use crate::traces::is_context;
use sandhog_queue::{
    EffectSend,
    message::{AttributeValue, QueueName},
    printable::hex,
};

/// Returns the deduplication id of the send number `index` of an attempt at these messages: hexadecimal, 64 bytes. A repeat of
/// the send has the same id, so that it is recognised; another message that a later attempt sends in its place has another id. A trace
/// context is no part of the message: a guest that makes its own makes another one each time.
pub(crate) fn derived_deduplication_id(
    source: &QueueName,
    messages: &[FinishedMessage],
    index: usize,
    send: &EffectSend,
) -> String {
    let mut digest = Sha256::new();
    let mut add = |part: &[u8]| {
        digest.update(part.len().to_be_bytes());
        digest.update(part);
    };
    add(source.as_str().as_bytes());
    add(&messages.len().to_be_bytes());
    for message in messages {
        add(message.id.as_str().as_bytes());
    }
    add(&index.to_be_bytes());
    add(send.queue.as_str().as_bytes());
    add(send.message.group_id.as_deref().unwrap_or_default().as_bytes());
    add(&send.message.body);
    let pairs = send.message.attributes.pairs();
    for (name, value) in pairs.iter().filter(|(name, _)| !is_context(name)) {
        let (kind, value): (&[u8], &[u8]) = match value {
            AttributeValue::Text(text) => (b"text", text.as_bytes()),
            AttributeValue::Number(number) => (b"number", number.as_bytes()),
            AttributeValue::Binary(bytes) => (b"binary", bytes),
        };
        add(name.as_bytes());
        add(kind);
        add(value);
    }
    hex(&digest.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandhog_queue::message::{Attributes, Outgoing};

    fn id(attributes: &[(&str, &str)]) -> String {
        let mut all = Attributes::default();
        for (name, value) in attributes {
            all.add_text(name, (*value).to_owned());
        }
        let message = Outgoing {
            attributes: all,
            ..Outgoing::new("body")
        };
        let queue = QueueName::new("out").unwrap();
        let send = EffectSend {
            queue: queue.clone(),
            message: message.check().unwrap(),
        };
        derived_deduplication_id(&queue, &[], 0, &send)
    }

    #[test]
    fn a_repeat_has_the_same_id_whatever_trace_it_belongs_to() {
        let plain = id(&[("a", "1")]);
        for name in ["traceparent", "tracestate", "AWSTraceHeader"] {
            assert_eq!(id(&[("a", "1"), (name, "x")]), plain, "{name}");
        }
        assert_ne!(id(&[("a", "2")]), plain);
        assert_ne!(id(&[("a", "1"), ("baggage", "x")]), plain);
    }
}
