//! The origin of a dead letter: one attribute, which this host writes and reads again. Pure.
//!
//! `sandhog-dead-letter` is a `String` that holds a JSON object: [`Provenance`]. In a message that has ten attributes
//! already the object takes the place of the last one and holds it; the attribute is put back when the object is taken off.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

use super::{
    body_form::{BODY_ENCODING, is_carried},
    form::{DEAD_LETTER, text_attribute},
    wire::{Attribute, Sendable},
};
use sandhog_queue::{
    FailureKind,
    message::{AttributeValue, MAX_ATTRIBUTES},
    printable::printable_lines,
};

/// The origin of a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Provenance {
    /// The id of the message in the queue where it failed.
    pub(crate) id: String,
    /// The name of that queue in this host.
    pub(crate) queue: String,
    /// The name of that queue on SQS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
    pub(crate) sent_at_ms: u64,
    pub(crate) receive_count: u32,
    pub(crate) dead_at_ms: u64,
    pub(crate) kind: FailureKind,
    pub(crate) reason: String,
    pub(crate) handler: String,
    pub(crate) component: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) attribute: Option<Displaced>,
}

/// The attribute whose place the object has taken.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Displaced {
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

/// Takes the attribute off a received message, and puts back the one whose place it had taken. An attribute that another
/// program wrote stays.
pub(crate) fn take_off(attributes: &mut Vec<Attribute>) -> Option<Provenance> {
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

/// Puts the attribute on a message, with the reason shortened to the room that the message has. Returns `false` if there is
/// no room even without a reason: the message goes without the attribute then, because its content is worth more.
#[must_use]
pub(crate) fn put_on(message: &mut Sendable, mut provenance: Provenance, max_bytes: usize) -> bool {
    let displaced = if message.attributes.len() < MAX_ATTRIBUTES {
        None
    } else {
        message.attributes.iter().rposition(|each| each.name != BODY_ENCODING)
    };
    let displaced = displaced.map(|index| (index, message.attributes.remove(index)));
    provenance.attribute = displaced.as_ref().map(|(_, attribute)| Displaced::new(attribute));
    loop {
        message
            .attributes
            .push(text_attribute(DEAD_LETTER, written(&provenance)));
        let excess = message.size().saturating_sub(max_bytes);
        if excess == 0 {
            return true;
        }
        message.attributes.pop();
        if provenance.reason.is_empty() {
            break;
        }
        // Escapes take more room than the characters that they stand for, so this may need another round. It never needs
        // more than a few, because each round takes off at least half of the excess, or all.
        let keep = provenance.reason.len().saturating_sub(excess + '…'.len_utf8());
        provenance.reason = if keep == 0 {
            String::new()
        } else {
            printable_lines(&provenance.reason, keep)
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
    // JSON escapes control characters by itself. The others stand within strings, and can be escaped there.
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_carried(c) {
            out.push(c);
        } else {
            write!(out, "\\u{:04x}", u32::from(c)).expect("writing to a string cannot fail");
        }
    }
    out
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn provenance() -> Provenance {
        Provenance {
            id: "5fea7756".to_owned(),
            queue: "orders".to_owned(),
            source: Some("prod-orders".to_owned()),
            sent_at_ms: 1,
            receive_count: 3,
            dead_at_ms: 2,
            kind: FailureKind::Trap,
            reason: "unreachable".to_owned(),
            handler: "bill".to_owned(),
            component: "c0ffee".to_owned(),
            group: None,
            attribute: None,
        }
    }

    fn message(attributes: usize) -> Sendable {
        let attribute = |number: usize| Attribute {
            name: format!("a{number}"),
            data_type: "Binary.gif".to_owned(),
            value: AttributeValue::Binary(vec![0, 255]),
        };
        Sendable {
            body: "x".repeat(100),
            attributes: (0..attributes).map(attribute).collect(),
            ..Sendable::default()
        }
    }

    #[test]
    fn the_tenth_attribute_makes_room_and_comes_back() {
        for count in [0, 9, 10] {
            let before = message(count);
            let mut sent = before.clone();
            assert!(put_on(&mut sent, provenance(), 1_048_576));
            assert_eq!(sent.attributes.len(), (count + 1).min(MAX_ATTRIBUTES));
            let got = take_off(&mut sent.attributes);
            assert_eq!(got, Some(provenance()));
            assert_eq!(sent, before, "{count}");
        }
    }

    #[test]
    fn what_says_how_the_body_is_written_does_not_make_room() {
        let mut sent = message(9);
        sent.attributes.push(text_attribute(BODY_ENCODING, "base64".to_owned()));
        assert!(put_on(&mut sent, provenance(), 1_048_576));
        assert!(sent.attributes.iter().any(|each| each.name == BODY_ENCODING));
        assert_eq!(sent.attributes.len(), MAX_ATTRIBUTES);
    }

    #[test]
    fn what_somebody_else_wrote_stays() {
        for text in ["", "{}", "hello", r#"{"id": 1}"#] {
            let mut attributes = vec![text_attribute(DEAD_LETTER, text.to_owned())];
            assert_eq!(take_off(&mut attributes), None);
            assert_eq!(attributes.len(), 1, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_message_is_never_too_large_for_what_is_known_of_it(
            reason: String,
            room in 0_usize..1_000,
            count in 0_usize..=10,
        ) {
            let before = message(count);
            let max = before.size() + room;
            let mut sent = before.clone();
            let known = Provenance { reason: reason.clone(), ..provenance() };
            let put = put_on(&mut sent, known, max);
            prop_assert!(sent.size() <= max);
            if put {
                for attribute in &sent.attributes {
                    if let AttributeValue::Text(text) = &attribute.value {
                        prop_assert!(text.chars().all(is_carried));
                    }
                }
                let got = take_off(&mut sent.attributes).expect("it was put on");
                if room > 900 && reason.len() < 20 {
                    prop_assert_eq!(got.reason, reason);
                }
            } else {
                prop_assert!(room < 500, "there was room enough");
            }
            prop_assert_eq!(sent, before);
        }
    }
}
