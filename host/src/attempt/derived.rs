//! What names the sends of an attempt that its source cannot commit, so that a repeat of it is recognised.

use std::num::NonZeroU32;

use sha2::{Digest as _, Sha256};

use crate::{
    message::{AttributeValue, MessageId, QueueName},
    printable::hex,
    queue::EffectSend,
};

/// A deduplication id for the send number `index` of an attempt at these messages: hexadecimal, 64 bytes. The same if the same
/// is sent again, so that a repeat is recognised; another one if another attempt sends something else in its place, which
/// must not be taken for a repeat.
pub(super) fn derived_deduplication_id(
    (source, ids): (&QueueName, &[(MessageId, NonZeroU32)]),
    index: usize,
    send: &EffectSend,
) -> String {
    let mut digest = Sha256::new();
    let mut add = |part: &[u8]| {
        digest.update(part.len().to_be_bytes());
        digest.update(part);
    };
    add(source.as_str().as_bytes());
    add(&ids.len().to_be_bytes());
    for (id, _) in ids {
        add(id.as_str().as_bytes());
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
