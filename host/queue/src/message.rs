//! The messages of a queue, their attributes and names. Plain data; no I/O, no clock.
//!
//! Trust ends here: a value of one of these types keeps the limits that its constructor states, so the rest of the host
//! never checks them again. Only [`Outgoing`] is a draft with open fields, and [`Outgoing::check`] makes a
//! [`CheckedMessage`] of it, which a queue takes.

use std::{collections::BTreeMap, fmt, ops::Deref, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::printable::printable;

/// The largest body, in bytes (1 MiB, as on SQS).
pub const MAX_BODY_BYTES: usize = 1024 * 1024;
/// The attribute that carries the context of a trace in the form of X-Ray. It does not count to [`MAX_ATTRIBUTES`], as on SQS, so
/// that a handler can pass on what it was given.
pub const TRACE_HEADER: &str = "AWSTraceHeader";
/// The most attributes on one message (as on SQS).
pub const MAX_ATTRIBUTES: usize = 10;
/// The longest attribute name, in bytes (as on SQS).
pub const MAX_ATTRIBUTE_NAME_BYTES: usize = 256;
/// The largest sum of attribute names and values, in bytes.
pub const MAX_ATTRIBUTES_BYTES: usize = 256 * 1024;
/// The longest delay, visibility timeout or retry delay: 12 hours (the SQS limit).
pub const MAX_DELAY: Duration = Duration::from_hours(12);
/// The highest priority; 0 is the lowest and the default.
pub const MAX_PRIORITY: u8 = 9;
/// The longest group id and deduplication id, in bytes (as on SQS FIFO).
pub const MAX_ID_BYTES: usize = 128;
/// The longest queue name, in bytes (as on SQS).
pub const MAX_QUEUE_NAME_BYTES: usize = 80;
/// The length to which an error cuts a wrong value.
const SHOWN_BYTES: usize = 100;

/// A value that a message may not have; the text names the part and the accepted range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidMessage(pub String);

/// The name of a queue: 1 to 80 of `A-Z a-z 0-9 - _ .`, not starting with a dot.
///
/// Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueName(Arc<str>);

impl QueueName {
    /// Checks a name.
    ///
    /// # Errors
    ///
    /// [`InvalidMessage`] says which rule the name breaks.
    pub fn new(name: &str) -> Result<Self, InvalidMessage> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > MAX_QUEUE_NAME_BYTES || name.starts_with('.') || !name.chars().all(legal) {
            return Err(InvalidMessage(format!(
                "{:?} is not a queue name: use 1 to {MAX_QUEUE_NAME_BYTES} letters, digits, '-', '_' and '.', not starting with '.'",
                printable(name, SHOWN_BYTES)
            )));
        }
        Ok(Self(name.into()))
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name of the dead-letter queue that this queue has unless it is configured otherwise: `NAME-dead`, and for a name
    /// that ends in `.fifo`, as those of FIFO queues do, `NAME-dead.fifo`.
    #[must_use]
    pub fn default_dead_letter(&self) -> Self {
        const FIFO: &str = ".fifo";
        match self.0.strip_suffix(FIFO) {
            Some(stem) => Self(format!("{stem}-dead{FIFO}").into()),
            None => Self(format!("{}-dead", self.0).into()),
        }
    }
}

impl fmt::Debug for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id that a queue gave a message when it was sent; the same across retries and dead-lettering.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(Arc<str>);

impl MessageId {
    /// Makes a new id: a UUID of version 7, so that ids sort roughly by the time they were made.
    pub fn random() -> Self {
        Self(uuid::Uuid::now_v7().to_string().into())
    }

    /// Makes an id that a queue made earlier.
    pub fn from_queue(id: &str) -> Self {
        Self(id.into())
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A value of a message attribute; the kinds are those of SQS.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttributeValue {
    /// Unicode text.
    Text(String),
    /// A decimal number in text form, so that no digit is lost.
    Number(String),
    /// Any bytes.
    Binary(Vec<u8>),
}

impl AttributeValue {
    fn len(&self) -> usize {
        match self {
            Self::Text(text) | Self::Number(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }
}

/// The attributes of a message: at most [`MAX_ATTRIBUTES`] pairs in the sender's order, names unique.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Attributes {
    pairs: Vec<(String, AttributeValue)>,
    /// See [`Attributes::label`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
}

impl Attributes {
    /// Checks a list of attributes.
    ///
    /// # Errors
    ///
    /// [`InvalidMessage`] names the attribute and the limit it breaks.
    pub fn new(pairs: Vec<(String, AttributeValue)>) -> Result<Self, InvalidMessage> {
        let counted = pairs.iter().filter(|(name, _)| name != TRACE_HEADER).count();
        if counted > MAX_ATTRIBUTES {
            return Err(InvalidMessage(format!(
                "{counted} attributes: a message has at most {MAX_ATTRIBUTES}"
            )));
        }
        for (index, (name, value)) in pairs.iter().enumerate() {
            if name.is_empty() || name.len() > MAX_ATTRIBUTE_NAME_BYTES || name.chars().any(char::is_control) {
                return Err(InvalidMessage(format!(
                    "attribute name {:?}: use 1 to {MAX_ATTRIBUTE_NAME_BYTES} bytes without control characters",
                    printable(name, SHOWN_BYTES)
                )));
            }
            if pairs.iter().take(index).any(|(earlier, _)| earlier == name) {
                return Err(InvalidMessage(format!(
                    "attribute {:?} is given twice",
                    printable(name, SHOWN_BYTES)
                )));
            }
            if let AttributeValue::Number(number) = value
                && (number.parse::<f64>().is_err()
                    || !number
                        .bytes()
                        .all(|b| matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')))
            {
                return Err(InvalidMessage(format!(
                    "attribute {:?}: {:?} is not a decimal number",
                    printable(name, SHOWN_BYTES),
                    printable(number, SHOWN_BYTES)
                )));
            }
        }
        let attributes = Self::from_queue(pairs);
        let total = attributes.size();
        if total > MAX_ATTRIBUTES_BYTES {
            return Err(InvalidMessage(format!(
                "attributes of {total} bytes: a message has at most {MAX_ATTRIBUTES_BYTES}"
            )));
        }
        Ok(attributes)
    }

    /// Makes attributes that were checked when they were sent, as read back from a queue's own storage.
    pub fn from_queue(pairs: Vec<(String, AttributeValue)>) -> Self {
        Self {
            pairs,
            labels: BTreeMap::new(),
        }
    }

    /// Gives an attribute the label that the sender put behind its kind, such as `uuid` of `String.uuid`. Only consumers that speak the
    /// protocol of SQS see it. Does nothing if there is no such attribute.
    pub fn set_label(&mut self, name: &str, label: &str) {
        if self.get(name).is_some() && !label.is_empty() {
            self.labels.insert(name.to_owned(), label.to_owned());
        }
    }

    /// Adds a text, unless there is an attribute of that name. For what the host adds by itself: the caller keeps the limits.
    pub fn add_text(&mut self, name: &str, text: String) {
        if self.get(name).is_none() {
            self.pairs.push((name.to_owned(), AttributeValue::Text(text)));
        }
    }

    /// Adds a text likewise, unless the attributes would have more than [`MAX_ATTRIBUTES_BYTES`] with it. Returns whether there is room.
    pub fn add_text_that_fits(&mut self, name: &str, text: String) -> bool {
        let fits = self.size() + name.len() + text.len() <= MAX_ATTRIBUTES_BYTES;
        if fits {
            self.add_text(name, text);
        }
        fits
    }

    /// Returns the label of an attribute, if it has one.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }

    /// Returns the value of an attribute.
    pub fn get(&self, name: &str) -> Option<&AttributeValue> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// Returns all pairs, in the sender's order.
    pub fn pairs(&self) -> &[(String, AttributeValue)] {
        &self.pairs
    }

    /// Returns the bytes of all names, values and labels.
    pub fn size(&self) -> usize {
        let pairs: usize = self.pairs.iter().map(|(name, value)| name.len() + value.len()).sum();
        pairs + self.labels.values().map(String::len).sum::<usize>()
    }

    /// Whether there are no attributes.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }
}

/// A message as a queue keeps it. Cheap to clone as far as the body goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The id that the queue gave it.
    pub id: MessageId,
    /// The body: 0 to [`MAX_BODY_BYTES`] bytes.
    pub body: Bytes,
    /// The attributes.
    pub attributes: Attributes,
    /// The milliseconds since 1970-01-01T00:00:00Z at which it was first sent.
    pub sent_at_ms: u64,
    /// The message group, if any.
    pub group_id: Option<String>,
    /// The priority: 0 to [`MAX_PRIORITY`]; a higher one is received first.
    pub priority: u8,
}

impl Message {
    /// Returns the bytes of the body and the attributes.
    pub fn size(&self) -> usize {
        self.body.len() + self.attributes.size()
    }
}

/// A draft of a message to be sent. The limits hold once it was checked: see [`Outgoing::check`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// The body: 0 to [`MAX_BODY_BYTES`] bytes.
    pub body: Bytes,
    /// The attributes.
    pub attributes: Attributes,
    /// The time for which the message is hidden after it was sent; at most [`MAX_DELAY`]. If absent: what the queue says for all messages,
    /// which is no time by default.
    pub delay: Option<Duration>,
    /// The message group, of 1 to [`MAX_ID_BYTES`] bytes. Messages of one group are handled one after another, in the order
    /// sent.
    pub group_id: Option<String>,
    /// The deduplication id, of 1 to [`MAX_ID_BYTES`] bytes. A second message with the same id within five minutes is
    /// accepted and dropped. A queue may look at the messages of the same group only.
    pub deduplication_id: Option<String>,
    /// The priority: 0 to [`MAX_PRIORITY`]; 0 if absent.
    pub priority: Option<u8>,
}

impl Outgoing {
    /// Makes a message with a body and nothing else.
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self {
            body: body.into(),
            ..Self::default()
        }
    }

    /// Returns the bytes that the message takes: body, attributes, ids, and some for the message itself.
    pub fn size(&self) -> usize {
        const OVERHEAD: usize = 256;
        let ids = [&self.group_id, &self.deduplication_id]
            .into_iter()
            .flatten()
            .map(String::len)
            .sum::<usize>();
        self.body.len() + self.attributes.size() + ids + OVERHEAD
    }

    /// Checks every limit that the fields' types do not keep by themselves, and makes the message that can be sent.
    ///
    /// # Errors
    ///
    /// [`InvalidMessage`] names the field, its value and the accepted range.
    ///
    /// # Examples
    ///
    /// ```
    /// # use sandhog_queue::message::{MAX_BODY_BYTES, Outgoing};
    /// assert!(Outgoing::new("a letter").check().is_ok());
    /// assert!(Outgoing::new(vec![0; MAX_BODY_BYTES + 1]).check().is_err());
    /// ```
    pub fn check(self) -> Result<CheckedMessage, InvalidMessage> {
        if self.body.len() > MAX_BODY_BYTES {
            return Err(InvalidMessage(format!(
                "a body of {} bytes: at most {MAX_BODY_BYTES}",
                self.body.len()
            )));
        }
        if let Some(delay) = self.delay.filter(|delay| *delay > MAX_DELAY) {
            return Err(InvalidMessage(format!(
                "a delay of {} s: at most {} s",
                delay.as_secs(),
                MAX_DELAY.as_secs()
            )));
        }
        for (what, id) in [
            ("group id", &self.group_id),
            ("deduplication id", &self.deduplication_id),
        ] {
            if let Some(id) = id
                && (id.is_empty() || id.len() > MAX_ID_BYTES || id.chars().any(char::is_control))
            {
                return Err(InvalidMessage(format!(
                    "{what} {:?}: use 1 to {MAX_ID_BYTES} bytes without control characters",
                    printable(id, SHOWN_BYTES)
                )));
            }
        }
        if let Some(priority) = self.priority.filter(|priority| *priority > MAX_PRIORITY) {
            return Err(InvalidMessage(format!("priority {priority}: use 0 to {MAX_PRIORITY}")));
        }
        Ok(CheckedMessage(self))
    }
}

/// A message to be sent that keeps every limit. Only [`Outgoing::check`] makes one, and nothing changes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedMessage(Outgoing);

impl CheckedMessage {
    /// Takes the message apart, into a draft.
    pub fn into_outgoing(self) -> Outgoing {
        self.0
    }
}

impl Deref for CheckedMessage {
    type Target = Outgoing;

    fn deref(&self) -> &Outgoing {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_header_does_not_count_to_the_ten_attributes() {
        let ten = || (0..MAX_ATTRIBUTES).map(|number| (format!("a{number}"), AttributeValue::Text("x".to_owned())));
        let one_more = |name: &str| {
            ten()
                .chain([(name.to_owned(), AttributeValue::Text("x".to_owned()))])
                .collect()
        };
        assert!(Attributes::new(one_more(TRACE_HEADER)).is_ok());
        let refused = Attributes::new(one_more("traceparent")).unwrap_err();
        assert_eq!(refused.to_string(), "11 attributes: a message has at most 10");
    }
}
