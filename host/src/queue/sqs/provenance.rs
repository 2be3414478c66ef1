//! Where a dead letter comes from: one attribute, written by this host and read by it again. Pure.
//!
//! `sandhog-dead-letter` is a `String` that holds a JSON object: [`Provenance`]. A message that has ten attributes already
//! gives the last one to the object, and gets it back when the object is taken off.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

use super::{
    form::{DEAD_LETTER, ENCODING, is_carried, text_attribute},
    wire::{Attribute, Sendable},
};
use crate::{
    message::{AttributeValue, MAX_ATTRIBUTES},
    printable::printable,
    queue::FailureKind,
};

/// What a dead letter says of itself.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Provenance {
    /// Its id in the queue where it failed.
    pub(super) id: String,
    /// That queue, by its name in this host.
    pub(super) queue: String,
    /// That queue, by its name on SQS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) source: Option<String>,
    pub(super) sent_at_ms: u64,
    pub(super) receive_count: u32,
    pub(super) dead_at_ms: u64,
    pub(super) kind: FailureKind,
    pub(super) reason: String,
    pub(super) handler: String,
    pub(super) component: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) group: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) attribute: Option<Displaced>,
}

/// The attribute that had to make room.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Displaced {
    name: String,
    #[serde(rename = "type")]
    data_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    binary_base64: Option<String>,
}

impl Displaced {
    fn new(attribute: &Attribute) -> Self {
        let (text, binary_base64) = match &attribute.value {
            AttributeValue::Text(text) | AttributeValue::Number(text) => (Some(text.clone()), None),
            AttributeValue::Binary(bytes) => (None, Some(BASE64.encode(bytes))),
        };
        Self {
            name: attribute.name.clone(),
            data_type: attribute.data_type.clone(),
            text,
            binary_base64,
        }
    }

    fn back(self) -> Option<Attribute> {
        let value = match (self.text, self.binary_base64) {
            (Some(text), _) if self.data_type.starts_with("Number") => AttributeValue::Number(text),
            (Some(text), _) => AttributeValue::Text(text),
            (None, Some(bytes)) => AttributeValue::Binary(BASE64.decode(bytes).ok()?),
            (None, None) => return None,
        };
        Some(Attribute {
            name: self.name,
            data_type: self.data_type,
            value,
        })
    }
}

/// Takes the attribute off a received message, and puts back the one that made room for it. What does not read as ours
/// stays where it is.
pub(super) fn take_off(attributes: &mut Vec<Attribute>) -> Option<Provenance> {
    let index = attributes.iter().position(|each| each.name == DEAD_LETTER)?;
    let AttributeValue::Text(text) = &attributes.get(index)?.value else {
        return None;
    };
    let mut provenance: Provenance = serde_json::from_str(text).ok()?;
    let displaced = match provenance.attribute.take() {
        Some(displaced) => Some(displaced.back()?),
        None => None,
    };
    attributes.remove(index);
    attributes.extend(displaced);
    attributes.sort_by(|a, b| a.name.cmp(&b.name));
    Some(provenance)
}

/// Puts the attribute on a message, with the reason shortened to what the message has room for. `false` if there is no room
/// even without a reason: the message then goes without, because it is worth more than what is known of it.
#[must_use]
pub(super) fn put_on(message: &mut Sendable, mut provenance: Provenance, max_bytes: usize) -> bool {
    let displaced = if message.attributes.len() < MAX_ATTRIBUTES {
        None
    } else {
        message.attributes.iter().rposition(|each| each.name != ENCODING)
    };
    let displaced = displaced.map(|index| (index, message.attributes.remove(index)));
    provenance.attribute = displaced.as_ref().map(|(_, attribute)| Displaced::new(attribute));
    loop {
        message.attributes.push(text_attribute(DEAD_LETTER, written(&provenance)));
        let excess = message.size().saturating_sub(max_bytes);
        if excess == 0 {
            return true;
        }
        message.attributes.pop();
        if provenance.reason.is_empty() {
            break;
        }
        // Escapes take more room than what they stand for, so this may need another round; it never needs more than a
        // few, because each takes off at least half of what is too much, or all.
        let keep = provenance.reason.len().saturating_sub(excess + '…'.len_utf8());
        provenance.reason = if keep == 0 {
            String::new()
        } else {
            printable(&provenance.reason, keep)
        };
    }
    if let Some((index, attribute)) = displaced {
        message.attributes.insert(index, attribute);
    }
    false
}

fn written(provenance: &Provenance) -> String {
    let text = serde_json::to_string(provenance).expect("text and numbers can be written");
    if text.chars().all(is_carried) {
        return text;
    }
    // JSON escapes control characters by itself. What is left stands within strings, and can be escaped there.
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_carried(c) {
            out.push(c);
        } else {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        }
    }
    out
}
