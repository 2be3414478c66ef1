//! Deduplication ids for the sends of an attempt that its source queue cannot commit, so that a repeat is recognised.

use sha2::{Digest as _, Sha256};

use super::FinishedMessage;
use sandhog_queue::{
    EffectSend,
    message::{AttributeValue, QueueName},
    printable::hex,
};

/// Returns the deduplication id of the send number `index` of an attempt at these messages: hexadecimal, 64 bytes. A repeat of
/// the send has the same id, so that it is recognised; another message that a later attempt sends in its place has another id.
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
    for (name, value) in send.message.attributes.pairs() {
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
