//! Passes messages, failures and sends between the generated bindings and this crate's own types.
//!
//! The only module that names both. Nothing is copied: bodies and texts move.

use std::time::{Duration, SystemTime};

use crate::bindings::worker::sandhog::worker::{sender, types};
use crate::{AttributeValue, Failure, Message, Outgoing, SendError};
#[cfg(target_family = "wasm")]
use crate::{Level, bindings::platform::wasi::logging::logging, bindings::worker::sandhog::worker::crash};

/// The largest delay that the contract knows, in seconds. The host reports what is too long.
const DELAY_SECONDS_MAX: u32 = u32::MAX;

/// Runs a handler on a message as the host passed it.
///
/// # Errors
///
/// What the handler returned.
pub fn handle(handler: fn(Message) -> Result<(), Failure>, message: types::Message) -> Result<(), types::Failure> {
    report_panics();
    handler(message.into()).map_err(types::Failure::from)
}

/// Runs a batch handler on the messages that the host passed.
pub fn handle_batch(
    handler: fn(Vec<Message>) -> Vec<Result<(), Failure>>,
    messages: Vec<types::Message>,
) -> Vec<Result<(), types::Failure>> {
    report_panics();
    let messages = messages.into_iter().map(Message::from).collect();
    handler(messages)
        .into_iter()
        .map(|result| result.map_err(types::Failure::from))
        .collect()
}

/// Makes the text of a panic, and its place, the reason of the failure.
fn report_panics() {
    #[cfg(target_family = "wasm")]
    {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| std::panic::set_hook(Box::new(|panic| crash::report(&reason(panic), ""))));
    }
}

/// Returns what a panic says, and where.
#[cfg(target_family = "wasm")]
fn reason(panic: &std::panic::PanicHookInfo<'_>) -> String {
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    placed(text.unwrap_or("a panic without a text"), panic.location())
}

/// Puts the place behind the first line of the text: `index out of bounds: the len is 3 but the index is 7 at src/lib.rs:12:5`.
#[cfg(any(target_family = "wasm", test))]
fn placed(text: &str, place: Option<&std::panic::Location<'_>>) -> String {
    let mut placed = text.to_owned();
    if let Some(place) = place {
        let first_line = text.find('\n').unwrap_or(text.len());
        placed.insert_str(first_line, &format!(" at {place}"));
    }
    placed
}

/// Writes a line into the host's log.
#[cfg(target_family = "wasm")]
pub(crate) fn log(level: Level, text: &str) {
    let level = match level {
        Level::Trace => logging::Level::Trace,
        Level::Debug => logging::Level::Debug,
        Level::Info => logging::Level::Info,
        Level::Warn => logging::Level::Warn,
        Level::Error => logging::Level::Error,
        Level::Critical => logging::Level::Critical,
    };
    logging::log(level, "", text);
}

/// Sends one message through the host.
///
/// # Errors
///
/// As the host answers.
#[cfg(target_family = "wasm")]
pub(crate) fn send(queue: &str, message: Outgoing) -> Result<(), SendError> {
    sender::send(queue, &message.into()).map_err(SendError::from)
}

/// Sends several messages through the host.
///
/// # Errors
///
/// As the host answers.
#[cfg(target_family = "wasm")]
pub(crate) fn send_many(queue: &str, messages: Vec<Outgoing>) -> Result<(), SendError> {
    let messages: Vec<_> = messages.into_iter().map(sender::Outgoing::from).collect();
    sender::send_many(queue, &messages).map_err(SendError::from)
}

/// Returns whole seconds, a fraction rounded up, so that a short delay does not become none.
fn whole_seconds(delay: Duration) -> u32 {
    let seconds = delay.as_secs().saturating_add(u64::from(delay.subsec_nanos() > 0));
    u32::try_from(seconds).unwrap_or(DELAY_SECONDS_MAX)
}

impl From<types::Message> for Message {
    fn from(message: types::Message) -> Self {
        let since_epoch = Duration::from_millis(message.sent_at_ms);
        Self {
            id: message.id,
            body: message.body,
            attributes: message
                .attributes
                .into_iter()
                .map(|(name, value)| (name, value.into()))
                .collect(),
            queue: message.queue,
            receive_count: message.receive_count,
            sent_at: SystemTime::UNIX_EPOCH
                .checked_add(since_epoch)
                .unwrap_or(SystemTime::UNIX_EPOCH),
            group_id: message.group_id,
        }
    }
}

impl From<types::AttributeValue> for AttributeValue {
    fn from(value: types::AttributeValue) -> Self {
        match value {
            types::AttributeValue::Text(text) => Self::Text(text),
            types::AttributeValue::Number(decimal) => Self::Number(decimal),
            types::AttributeValue::Binary(bytes) => Self::Binary(bytes),
        }
    }
}

impl From<AttributeValue> for types::AttributeValue {
    fn from(value: AttributeValue) -> Self {
        match value {
            AttributeValue::Text(text) => Self::Text(text),
            AttributeValue::Number(decimal) => Self::Number(decimal),
            AttributeValue::Binary(bytes) => Self::Binary(bytes),
        }
    }
}

impl From<Failure> for types::Failure {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Retry(reason) => Self::Retry(reason),
            Failure::RetryAfter { reason, delay } => Self::RetryAfter((reason, whole_seconds(delay))),
            Failure::Reject(reason) => Self::Reject(reason),
        }
    }
}

impl From<Outgoing> for sender::Outgoing {
    fn from(message: Outgoing) -> Self {
        Self {
            body: message.body,
            attributes: message
                .attributes
                .into_iter()
                .map(|(name, value)| (name, value.into()))
                .collect(),
            delay_seconds: message.delay.map(whole_seconds),
            group_id: message.group_id,
            deduplication_id: message.deduplication_id,
            priority: message.priority,
        }
    }
}

impl From<sender::SendError> for SendError {
    fn from(error: sender::SendError) -> Self {
        match error {
            sender::SendError::NotGranted(reason) => Self::NotGranted(reason),
            sender::SendError::Invalid(reason) => Self::Invalid(reason),
            sender::SendError::Limit(reason) => Self::Limit(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(id: &str) -> types::Message {
        types::Message {
            id: id.to_owned(),
            body: b"body".to_vec(),
            attributes: vec![
                ("size".to_owned(), types::AttributeValue::Number("3".to_owned())),
                ("mode".to_owned(), types::AttributeValue::Text("fast".to_owned())),
                ("key".to_owned(), types::AttributeValue::Binary(vec![7])),
            ],
            queue: "orders".to_owned(),
            receive_count: 2,
            sent_at_ms: 1_500,
            group_id: Some("eu".to_owned()),
        }
    }

    #[test]
    fn a_handler_sees_every_field_that_the_host_passes() {
        let result = handle(
            |message| {
                assert_eq!(
                    (message.id.as_str(), message.body.as_slice()),
                    ("m1", b"body".as_slice())
                );
                assert_eq!(message.attribute("size"), Some(&AttributeValue::number("3")));
                assert_eq!(message.attribute("mode"), Some(&AttributeValue::from("fast")));
                assert_eq!(message.attribute("key"), Some(&AttributeValue::from(vec![7])));
                assert_eq!((message.queue.as_str(), message.receive_count), ("orders", 2));
                assert_eq!(message.sent_at, SystemTime::UNIX_EPOCH + Duration::from_millis(1_500));
                assert_eq!(message.group_id.as_deref(), Some("eu"));
                Ok(())
            },
            received("m1"),
        );
        assert!(result.is_ok());
    }

    #[test]
    fn a_batch_keeps_its_order() {
        let results = handle_batch(
            |messages| {
                messages
                    .into_iter()
                    .map(|message| Err(Failure::reject(message.id)))
                    .collect()
            },
            vec![received("m1"), received("m2")],
        );
        let reasons: Vec<_> = results
            .into_iter()
            .map(|result| match result {
                Err(types::Failure::Reject(reason)) => reason,
                other => panic!("not rejected: {other:?}"),
            })
            .collect();
        assert_eq!(reasons, ["m1", "m2"]);
    }

    #[test]
    fn the_place_of_a_panic_is_in_its_first_line() {
        let place = std::panic::Location::caller();
        assert_eq!(
            placed("no such order", Some(place)),
            format!("no such order at {place}")
        );
        let differ = placed("assertion failed\n  left: 1\n right: 2", Some(place));
        assert_eq!(differ, format!("assertion failed at {place}\n  left: 1\n right: 2"));
    }

    #[test]
    fn a_short_delay_does_not_become_none() {
        assert_eq!(whole_seconds(Duration::ZERO), 0);
        assert_eq!(whole_seconds(Duration::from_millis(1)), 1);
        assert_eq!(whole_seconds(Duration::from_secs(2)), 2);
        assert_eq!(whole_seconds(Duration::MAX), u32::MAX);
    }

    #[test]
    fn an_outgoing_message_keeps_every_field() {
        let message = Outgoing::new("body")
            .attribute("mode", "fast")
            .delay(Duration::from_millis(1_001))
            .group("eu")
            .deduplication_id("order-1")
            .priority(9);
        let message = sender::Outgoing::from(message);
        assert_eq!(message.body, b"body");
        assert!(
            matches!(message.attributes.as_slice(), [(name, types::AttributeValue::Text(text))] if name == "mode" && text == "fast")
        );
        assert_eq!((message.delay_seconds, message.priority), (Some(2), Some(9)));
        assert_eq!(
            (message.group_id.as_deref(), message.deduplication_id.as_deref()),
            (Some("eu"), Some("order-1"))
        );
    }
}
