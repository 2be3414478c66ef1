//! The stored form of what a message holds, and its checksum.

use super::{
    row::{MessageContent, SentDetails},
    rows::EntryPlace,
};
use sandhog_queue::FailureRecord;
use sandhog_queue::message::{AttributeValue, Attributes, Message};

/// Returns the checksum over everything that the sender gave, which never changes from queue to queue.
pub(crate) fn checksum(message: &Message, sent: &SentDetails, attributes: Option<&str>) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    let group = message.group_id.as_deref();
    add_parts(&mut hasher, [Some(message.id.as_str()), group, attributes]);
    hasher.update(&message.sent_at_ms.to_le_bytes());
    hasher.update(&[message.priority]);
    hasher.update(&message.body);
    // A message without any of them has the checksum that the first version of the format gave it.
    if *sent != SentDetails::default() {
        let SentDetails {
            deduplication_id,
            system,
            parent,
            sender,
        } = sent;
        let parts = [deduplication_id, system, parent, sender];
        add_parts(&mut hasher, parts.map(|part| part.as_deref()));
    }
    hasher.finalize()
}

fn add_parts<const N: usize>(hasher: &mut crc32fast::Hasher, parts: [Option<&str>; N]) {
    for part in parts {
        // The length, plus one, tells an empty part from an absent one, and where a part ends.
        let length = part.map_or(0, |part| {
            u64::try_from(part.len()).unwrap_or(u64::MAX).saturating_add(1)
        });
        hasher.update(&length.to_le_bytes());
        hasher.update(part.unwrap_or_default().as_bytes());
    }
}

/// Returns the checksum over an entry of a key-value store.
pub(crate) fn value_checksum(place: EntryPlace<'_>, value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for name in [place.bucket, place.key] {
        // The length comes first, so that it is clear where one name ends and the other begins.
        hasher.update(&u64::try_from(name.len()).unwrap_or(u64::MAX).to_le_bytes());
        hasher.update(name.as_bytes());
    }
    hasher.update(value);
    hasher.finalize()
}

/// One attribute as it is stored: an array of its name, its value and, if there is one, its label.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
enum StoredAttribute {
    Plain(String, AttributeValue),
    Labelled(String, AttributeValue, String),
}

/// Returns attributes as JSON; `None` if there are none.
pub(crate) fn encode_attributes(attributes: &Attributes) -> Option<String> {
    let pairs = Some(attributes.pairs()).filter(|pairs| !pairs.is_empty())?;
    let stored: Vec<StoredAttribute> = pairs
        .iter()
        .map(|(name, value)| match attributes.label(name) {
            None => StoredAttribute::Plain(name.clone(), value.clone()),
            Some(label) => StoredAttribute::Labelled(name.clone(), value.clone(), label.to_owned()),
        })
        .collect();
    Some(serde_json::to_string(&stored).expect("texts always have a JSON form"))
}

/// Reads the attributes of a row.
pub(crate) fn decode_attributes(text: Option<&str>) -> Result<Attributes, String> {
    let Some(text) = text else {
        return Ok(Attributes::default());
    };
    let stored: Vec<StoredAttribute> =
        serde_json::from_str(text).map_err(|error| format!("its attributes can't be read: {error}"))?;
    let mut pairs = Vec::with_capacity(stored.len());
    let mut labels = Vec::new();
    for attribute in stored {
        match attribute {
            StoredAttribute::Plain(name, value) => pairs.push((name, value)),
            StoredAttribute::Labelled(name, value, label) => {
                labels.push((name.clone(), label));
                pairs.push((name, value));
            }
        }
    }
    let mut attributes = Attributes::from_queue(pairs);
    for (name, label) in labels {
        attributes.set_label(&name, &label);
    }
    Ok(attributes)
}

/// Returns a failure as JSON.
pub(crate) fn encode_failure(failure: &FailureRecord) -> String {
    serde_json::to_string(failure).expect("a record of texts always has a JSON form")
}

/// Reads the failure of a row.
pub(crate) fn decode_failure(text: &str) -> Result<FailureRecord, String> {
    serde_json::from_str(text).map_err(|error| format!("its last failure can't be read: {error}"))
}

/// Returns the content if its checksum is the stored one, and a text for people if not.
pub(crate) fn verify(content: MessageContent, attributes: Option<&str>, stored: i64) -> Result<MessageContent, String> {
    let computed = checksum(&content.message, &content.sent, attributes);
    if i64::from(computed) == stored {
        Ok(content)
    } else {
        Err(format!("its checksum is {computed}, not {stored} as stored"))
    }
}
