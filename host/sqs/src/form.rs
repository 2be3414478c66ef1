//! The form of a message on SQS, in both directions. Pure.
//!
//! - A **body** that SQS can't carry is written as `body_form.rs` says.
//! - **Attributes** go with the types `String`, `Number` and `Binary`. A type's label (`Number.price`) does not reach a
//!   handler; it is kept for the case that the message becomes a dead letter or leaves the dead-letter queue.
//! - The attribute `AWSTraceHeader` is the system attribute of that name, which does not count to the ten.
//! - A **dead letter** tells its origin in `sandhog-dead-letter` (see `provenance.rs`), which is taken off before a handler
//!   sees the message.

use bytes::Bytes;
use uuid::Uuid;

use super::{
    body_form::{self, BODY_ENCODING, TRACE_HEADER, is_carried},
    facts::Facts,
    failure::whole_seconds,
    provenance::{self, Provenance},
    wire::{Attribute, Received, Sendable},
};
use sandhog_queue::{
    message::{AttributeValue, Attributes, InvalidMessage, MAX_ATTRIBUTES, MAX_ID_BYTES, Message, MessageId, Outgoing},
    printable::printable,
};

/// The attribute that tells the origin of a dead letter.
pub(crate) const DEAD_LETTER: &str = "sandhog-dead-letter";
/// The longest delay of a message (limit of SQS).
const MAX_DELAY_S: u64 = 900;
/// The length to which an error cuts a wrong value.
const SHOWN_BYTES: usize = 100;

/// The content of a message in a form that goes both ways: the body as its sender gave it, the attributes with their types.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) body: Bytes,
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) trace: Option<String>,
    pub(crate) group_id: Option<String>,
}

/// A message as received, without the attributes that this host added.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) content: Content,
    pub(crate) provenance: Option<Provenance>,
}

impl Content {
    /// Returns the message that a handler sees.
    pub(crate) fn message(&self, id: MessageId, sent_at_ms: u64) -> Message {
        let pairs = self
            .attributes
            .iter()
            .map(|each| (each.name.clone(), each.value.clone()));
        // A sender may have used an attribute of that name.
        let taken = self.attributes.iter().any(|each| each.name == TRACE_HEADER);
        let trace = self
            .trace
            .iter()
            .filter(|_| !taken)
            .map(|trace| (TRACE_HEADER.to_owned(), AttributeValue::Text(trace.clone())));
        Message {
            id,
            body: self.body.clone(),
            attributes: Attributes::from_queue(pairs.chain(trace).collect()),
            sent_at_ms,
            group_id: self.group_id.clone(),
            priority: 0,
        }
    }

    /// Returns the message as SQS takes it.
    pub(crate) fn sendable(&self) -> Sendable {
        let (body, encoding) = body_form::encoded(&self.body);
        let mut attributes = self.attributes.clone();
        attributes.extend(encoding.map(|encoding| text_attribute(BODY_ENCODING, encoding.to_owned())));
        Sendable {
            body,
            attributes,
            trace: self.trace.clone(),
            delay_s: None,
            group_id: self.group_id.clone(),
            deduplication_id: None,
        }
    }
}

/// A `String` attribute.
pub(crate) fn text_attribute(name: &str, text: String) -> Attribute {
    Attribute {
        name: name.to_owned(),
        data_type: "String".to_owned(),
        value: AttributeValue::Text(text),
    }
}

/// Takes off the attributes that this host added. An attribute of another writer under such a name stays.
pub(crate) fn open(received: Received) -> Opened {
    let Received {
        id,
        body,
        mut attributes,
        trace,
        group_id,
        ..
    } = received;
    let provenance = provenance::take_off(&mut attributes);
    let encoding = attributes.iter().position(|each| each.name == BODY_ENCODING);
    let said = encoding.and_then(|index| attributes.get(index));
    let meant = said.and_then(|said| match &said.value {
        AttributeValue::Text(encoding) => body_form::decoded(&body, encoding),
        AttributeValue::Number(_) | AttributeValue::Binary(_) => None,
    });
    if let (Some(index), Some(_)) = (encoding, &meant) {
        attributes.remove(index);
    } else if encoding.is_some() {
        tracing::debug!(
            id,
            "a body is not written as its attribute {BODY_ENCODING} says, and is handed out as it is"
        );
    }
    Opened {
        content: Content {
            body: meant.unwrap_or_else(|| Bytes::from(body)),
            attributes,
            trace,
            group_id,
        },
        provenance,
    }
}

/// Checks a message against the limits of SQS and of its queue, and writes it as SQS takes it.
///
/// On a standard queue the deduplication id has no effect and is not sent; the group id is sent, and makes a fair queue of
/// it.
pub(crate) fn outgoing(outgoing: &Outgoing, facts: &Facts) -> Result<Sendable, InvalidMessage> {
    let mut attributes = Vec::new();
    let mut trace = None;
    for (name, value) in outgoing.attributes.pairs() {
        match value {
            AttributeValue::Text(header) if name == TRACE_HEADER => trace = Some(header.clone()),
            AttributeValue::Text(_) | AttributeValue::Number(_) | AttributeValue::Binary(_) => {
                attributes.push(attribute(name, value)?);
            }
        }
    }
    let content = Content {
        body: outgoing.body.clone(),
        attributes,
        trace,
        group_id: outgoing.group_id.clone(),
    };
    let mut sendable = content.sendable();
    sendable.delay_s = delay(outgoing, facts)?;
    sendable.deduplication_id = deduplication_id(outgoing, facts)?;
    check_ids(outgoing, facts)?;
    check_size(&sendable, facts)?;
    Ok(sendable)
}

fn attribute(name: &str, value: &AttributeValue) -> Result<Attribute, InvalidMessage> {
    let shown = printable(name, SHOWN_BYTES);
    let refuse = |why: &str| Err(InvalidMessage(format!("attribute {shown:?}: {why}")));
    let lower = name.to_ascii_lowercase();
    if name == BODY_ENCODING || name == DEAD_LETTER {
        return refuse("the name is taken: this host marks messages with it");
    }
    if lower.starts_with("aws.") || lower.starts_with("amazon.") {
        return refuse("SQS takes no names that start with AWS. or Amazon.");
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if !name.chars().all(legal) || name.starts_with('.') || name.ends_with('.') || name.contains("..") {
        return refuse("SQS takes letters, digits, '-', '_' and '.', and no '.' at an end or beside another one");
    }
    let data_type = match value {
        AttributeValue::Text(text) if text.is_empty() => return refuse("SQS takes no empty values"),
        AttributeValue::Binary(bytes) if bytes.is_empty() => return refuse("SQS takes no empty values"),
        AttributeValue::Text(text) if !text.chars().all(is_carried) => {
            return refuse("SQS takes no control characters in text: make it binary");
        }
        AttributeValue::Text(_) => "String",
        AttributeValue::Number(_) => "Number",
        AttributeValue::Binary(_) => "Binary",
    };
    Ok(Attribute {
        name: name.to_owned(),
        data_type: data_type.to_owned(),
        value: value.clone(),
    })
}

fn delay(outgoing: &Outgoing, facts: &Facts) -> Result<Option<u64>, InvalidMessage> {
    let Some(seconds) = outgoing.delay.map(whole_seconds) else {
        return Ok(None);
    };
    if facts.fifo {
        return match seconds {
            0 => Ok(None),
            _ => Err(InvalidMessage(format!(
                "a delay of {seconds} s: a FIFO queue of SQS delays all of its messages or none; set DelaySeconds of the queue"
            ))),
        };
    }
    if seconds > MAX_DELAY_S {
        return Err(InvalidMessage(format!(
            "a delay of {seconds} s: SQS delays by at most {MAX_DELAY_S} s"
        )));
    }
    Ok(Some(seconds))
}

/// Returns the deduplication id. A FIFO queue that needs one and gets none gets a random one, so that no message is a
/// duplicate.
fn deduplication_id(outgoing: &Outgoing, facts: &Facts) -> Result<Option<String>, InvalidMessage> {
    match &outgoing.deduplication_id {
        Some(id) => {
            check_id("deduplication id", id)?;
            Ok(Some(id.clone()).filter(|_| facts.fifo))
        }
        None if facts.fifo && !facts.content_based_deduplication => Ok(Some(Uuid::now_v7().to_string())),
        None => Ok(None),
    }
}

fn check_ids(outgoing: &Outgoing, facts: &Facts) -> Result<(), InvalidMessage> {
    match &outgoing.group_id {
        Some(id) => check_id("group id", id)?,
        None if facts.fifo => {
            let why = "no group id: a message of a FIFO queue of SQS needs one";
            return Err(InvalidMessage(why.to_owned()));
        }
        None => {}
    }
    match outgoing.priority {
        None | Some(0) => Ok(()),
        Some(priority) => Err(InvalidMessage(format!(
            "priority {priority}: an SQS queue has no priorities"
        ))),
    }
}

fn check_id(what: &str, id: &str) -> Result<(), InvalidMessage> {
    if is_id(id) {
        return Ok(());
    }
    let shown = printable(id, SHOWN_BYTES);
    Err(InvalidMessage(format!(
        "{what} {shown:?}: SQS takes 1 to {MAX_ID_BYTES} ASCII letters, digits and punctuation marks, and no spaces"
    )))
}

/// Whether SQS takes this as a group id or a deduplication id.
pub(crate) fn is_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= MAX_ID_BYTES && id.bytes().all(|byte| byte.is_ascii_graphic())
}

fn check_size(sendable: &Sendable, facts: &Facts) -> Result<(), InvalidMessage> {
    let count = sendable.attributes.len();
    if count > MAX_ATTRIBUTES {
        return Err(InvalidMessage(format!(
            "{count} attributes with {BODY_ENCODING}: SQS takes {MAX_ATTRIBUTES}, and a body that isn't text takes one of the ten"
        )));
    }
    let size = sendable.size();
    let limit = facts.max_message_bytes;
    if size > limit {
        return Err(InvalidMessage(format!(
            "a message of {size} bytes, body and attributes as they are sent: the queue takes at most {limit}"
        )));
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::provenance::tests::provenance;

    pub(crate) fn facts(fifo: bool) -> Facts {
        Facts {
            fifo,
            ..Facts::for_tests()
        }
    }

    /// Returns the message as a correct server hands it out.
    pub(crate) fn received(sent: &Sendable) -> Received {
        let mut attributes = sent.attributes.clone();
        attributes.sort_by(|a, b| a.name.cmp(&b.name));
        Received {
            id: "id".to_owned(),
            body: sent.body.clone(),
            attributes,
            trace: sent.trace.clone(),
            group_id: sent.group_id.clone(),
            ..Received::default()
        }
    }

    fn sorted(attributes: &Attributes) -> Vec<(String, AttributeValue)> {
        let mut pairs = attributes.pairs().to_vec();
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        pairs
    }

    fn body() -> impl Strategy<Value = Bytes> {
        prop_oneof![
            any::<Vec<u8>>().prop_map(Bytes::from),
            any::<String>().prop_map(Bytes::from),
            "[a-zA-Z ]{0,40}".prop_map(Bytes::from),
            Just(Bytes::from_static(b"(empty)")),
            Just(Bytes::from_static("\u{fffe}\u{ffff}".as_bytes())),
        ]
    }

    fn value() -> impl Strategy<Value = AttributeValue> {
        prop_oneof![
            any::<String>().prop_map(AttributeValue::Text),
            any::<i32>().prop_map(|number| AttributeValue::Number(number.to_string())),
            any::<Vec<u8>>().prop_map(AttributeValue::Binary),
        ]
    }

    fn attributes() -> impl Strategy<Value = Attributes> {
        let name = prop_oneof![4 => "[A-Za-z0-9_.-]{1,12}", 1 => ".{1,8}", 1 => Just(TRACE_HEADER.to_owned())];
        prop::collection::vec((name, value()), 0..=10).prop_map(|mut pairs| {
            pairs.sort_by(|a, b| a.0.cmp(&b.0));
            pairs.dedup_by(|a, b| a.0 == b.0);
            Attributes::new(pairs).unwrap_or_default()
        })
    }

    proptest! {
        #[test]
        fn what_passes_the_checks_arrives_as_it_was_sent(
            body in body(),
            attributes in attributes(),
            group_id in prop::option::of("[!-~]{1,128}"),
            fifo: bool,
        ) {
            let message = Outgoing { body, attributes, group_id, ..Outgoing::default() };
            if let Ok(sent) = outgoing(&message, &facts(fifo)) {
                prop_assert!(!sent.body.is_empty() && sent.body.chars().all(is_carried));
                prop_assert!(sent.attributes.len() <= MAX_ATTRIBUTES);
                let opened = open(received(&sent));
                prop_assert_eq!(opened.provenance, None);
                let got = opened.content.message(MessageId::from_queue("id"), 7);
                prop_assert_eq!(&got.body, &message.body);
                prop_assert_eq!(sorted(&got.attributes), sorted(&message.attributes));
                prop_assert_eq!(&got.group_id, &message.group_id);
                let again = opened.content.sendable();
                prop_assert_eq!(open(received(&again)).content, opened.content);
            }
        }

        #[test]
        fn any_body_can_be_sent(body in body()) {
            let message = Outgoing::new(body);
            prop_assert!(outgoing(&message, &facts(false)).is_ok());
        }
    }

    fn check(message: &Outgoing, fifo: bool, text: &str) {
        let refused = outgoing(message, &facts(fifo)).unwrap_err().to_string();
        assert!(refused.contains(text), "{refused:?} does not say {text:?}");
    }

    fn with(name: &str, value: AttributeValue) -> Outgoing {
        Outgoing {
            attributes: Attributes::new(vec![(name.to_owned(), value)]).unwrap(),
            ..Outgoing::new("x")
        }
    }

    #[test]
    fn what_sqs_refuses_is_refused_before_with_its_limit() {
        let text = |text: &str| AttributeValue::Text(text.to_owned());
        check(&with("a b", text("x")), false, "SQS takes letters");
        check(&with("a..b", text("x")), false, "SQS takes letters");
        check(&with(".a", text("x")), false, "SQS takes letters");
        check(&with("aws.x", text("x")), false, "AWS. or Amazon.");
        check(&with("Amazon.x", text("x")), false, "AWS. or Amazon.");
        check(&with("a", text("")), false, "no empty values");
        check(&with("a", AttributeValue::Binary(Vec::new())), false, "no empty values");
        check(&with("a", text("\u{1}")), false, "no control characters");
        check(&with(BODY_ENCODING, text("x")), false, "the name is taken");
        check(&with(DEAD_LETTER, text("x")), false, "the name is taken");
        check(&Outgoing::new(vec![b'x'; 1_048_577]), false, "at most 1048576");
        let base = Outgoing::new("x");
        let group_id = |id: &str| Some(id.to_owned());
        for (message, fifo, text) in [
            (
                Outgoing {
                    delay: Some(Duration::from_millis(900_001)),
                    ..base.clone()
                },
                false,
                "at most 900 s",
            ),
            (
                Outgoing {
                    delay: Some(Duration::from_secs(1)),
                    group_id: group_id("g"),
                    ..base.clone()
                },
                true,
                "all of its messages or none",
            ),
            (
                Outgoing {
                    priority: Some(1),
                    ..base.clone()
                },
                false,
                "no priorities",
            ),
            (base.clone(), true, "no group id"),
            (
                Outgoing {
                    group_id: group_id("a b"),
                    ..base.clone()
                },
                false,
                "no spaces",
            ),
            (
                Outgoing {
                    deduplication_id: group_id("ü"),
                    ..base.clone()
                },
                false,
                "no spaces",
            ),
        ] {
            check(&message, fifo, text);
        }
    }

    #[test]
    fn a_body_that_is_no_text_takes_one_of_the_ten_attributes() {
        let pairs = (0..10).map(|number| (format!("a{number}"), AttributeValue::Number(number.to_string())));
        let attributes = Attributes::new(pairs.collect()).unwrap();
        let message = |body: &'static [u8]| Outgoing {
            attributes: attributes.clone(),
            ..Outgoing::new(body)
        };
        assert!(outgoing(&message(b"text"), &facts(false)).is_ok());
        check(&message(b"\0"), false, "takes one of the ten");
        check(&message(b""), false, "takes one of the ten");
    }

    #[test]
    fn a_fifo_queue_gets_a_deduplication_id_unless_it_makes_its_own() {
        let message = Outgoing {
            group_id: Some("g".to_owned()),
            ..Outgoing::new("x")
        };
        let id = |facts: &Facts| outgoing(&message, facts).unwrap().deduplication_id;
        assert_ne!(id(&facts(true)), id(&facts(true)));
        let by_content = Facts {
            content_based_deduplication: true,
            ..facts(true)
        };
        assert_eq!(id(&by_content), None);
        assert_eq!(id(&facts(false)), None);
        let given = Outgoing {
            deduplication_id: Some("d".to_owned()),
            ..message.clone()
        };
        let sent = |fifo| outgoing(&given, &facts(fifo)).unwrap().deduplication_id;
        assert_eq!(sent(true).as_deref(), Some("d"));
        assert_eq!(sent(false), None);
    }

    #[test]
    fn a_type_keeps_its_label_on_the_way_to_another_queue() {
        let price = Attribute {
            name: "price".to_owned(),
            data_type: "Number.eur".to_owned(),
            value: AttributeValue::Number("1.50".to_owned()),
        };
        let content = Content {
            body: Bytes::from_static(b"x"),
            attributes: vec![price],
            trace: None,
            group_id: None,
        };
        assert_eq!(open(received(&content.sendable())).content, content);
    }

    #[test]
    fn a_body_that_is_not_what_its_attribute_says_is_left_as_it_is() {
        for encoding in ["base64", "gzip"] {
            let sent = Sendable {
                body: "not base64!".to_owned(),
                attributes: vec![text_attribute(BODY_ENCODING, encoding.to_owned())],
                ..Sendable::default()
            };
            let opened = open(received(&sent));
            assert_eq!(opened.content.body, "not base64!");
            assert_eq!(opened.content.attributes, sent.attributes);
        }
    }

    #[test]
    fn a_dead_letter_in_base64_is_opened_whole() {
        let content = Content {
            body: Bytes::from_static(b"\0\x01"),
            attributes: Vec::new(),
            trace: None,
            group_id: None,
        };
        let mut sent = content.sendable();
        assert!(provenance::put_on(&mut sent, provenance(), 1_048_576));
        let opened = open(received(&sent));
        assert_eq!((opened.content, opened.provenance), (content, Some(provenance())));
    }
}
