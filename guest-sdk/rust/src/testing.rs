//! Unit tests of a handler without a host: messages to pass in, and what was sent.
//!
//! # Examples
//!
//! ```
//! use sandhog_guest::{Failure, Message, Outgoing, send, testing};
//!
//! fn handle(message: Message) -> Result<(), Failure> {
//!     send("shouts", Outgoing::new(message.text()?.to_uppercase()))?;
//!     Ok(())
//! }
//!
//! assert_eq!(handle(testing::message("hey").build()), Ok(()));
//! let sent = testing::sent();
//! assert_eq!((sent[0].queue.as_str(), sent[0].message.body.as_slice()), ("shouts", b"HEY".as_slice()));
//! ```

#[cfg(feature = "config")]
pub(crate) mod config;
#[cfg(feature = "http")]
pub(crate) mod http;
#[cfg(feature = "keyvalue")]
pub(crate) mod keyvalue;

use std::cell::RefCell;
use std::time::{Duration, SystemTime};

#[cfg(feature = "config")]
pub use self::config::config;
#[cfg(feature = "http")]
pub use self::http::{Answer, answer, requests, response};
#[cfg(feature = "keyvalue")]
pub use self::keyvalue::{store, stored, stored_in};
use crate::{AttributeValue, Level, Message, Outgoing, SendError};

/// The largest body: 1 MiB.
const BODY_BYTES_MAX: usize = 1_048_576;
/// The most attributes of a message.
const ATTRIBUTES_MAX: usize = 10;
/// The longest name of an attribute, in characters.
const NAME_CHARS_MAX: usize = 256;
/// The longest delay: 12 hours.
const DELAY_MAX: Duration = Duration::from_secs(43_200);
/// The highest priority.
const PRIORITY_MAX: u8 = 9;

thread_local! {
    static SENT: RefCell<Vec<Sent>> = const { RefCell::new(Vec::new()) };
    static LOGGED: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
    static REFUSAL: RefCell<Option<SendError>> = const { RefCell::new(None) };
}

/// A message that a handler sent in a native build.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sent {
    /// The queue that it was sent to.
    pub queue: String,
    /// The message.
    pub message: Outgoing,
}

/// Returns what was sent on this thread since the last call, in order.
///
/// The test harness runs each test on a thread of its own, so tests do not see each other's messages.
/// The host drops what a failed attempt sent; this does not, so that a test can look at it.
pub fn sent() -> Vec<Sent> {
    SENT.take()
}

/// Returns what was logged on this thread since the last call, in order.
pub fn logged() -> Vec<(Level, String)> {
    LOGGED.take()
}

pub(crate) fn keep_line(level: Level, text: String) {
    LOGGED.with_borrow_mut(|lines| lines.push((level, text)));
}

/// Makes every later send on this thread fail with this error, until [`accept_sends`].
pub fn refuse_sends(error: SendError) {
    REFUSAL.set(Some(error));
}

/// Makes sends on this thread succeed again.
pub fn accept_sends() {
    REFUSAL.set(None);
}

/// Starts a message with this body: the first receive of an ungrouped message of queue `test`, sent at
/// the start of 2026.
///
/// # Examples
///
/// ```
/// # use sandhog_guest::testing;
/// let message = testing::message(r#"{"id": 7}"#).attribute("tenant", "acme").receive_count(3).build();
/// assert_eq!(message.receive_count, 3);
/// ```
pub fn message(body: impl Into<Vec<u8>>) -> MessageBuilder {
    let sent_at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
    MessageBuilder(Message {
        id: "test-message".to_owned(),
        body: body.into(),
        attributes: Vec::new(),
        queue: "test".to_owned(),
        receive_count: 1,
        sent_at,
        group_id: None,
    })
}

/// A message under construction; see [`message`].
#[derive(Clone, Debug)]
#[must_use]
pub struct MessageBuilder(Message);

impl MessageBuilder {
    /// Sets the id. `test-message` if not called.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.0.id = id.into();
        self
    }

    /// Attaches a value: text, an integer, bytes, or an [`AttributeValue`].
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<AttributeValue>) -> Self {
        self.0.attributes.push((name.into(), value.into()));
        self
    }

    /// Sets the queue's name. `test` if not called.
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.0.queue = queue.into();
        self
    }

    /// Sets how many times the message has been received: 1 if not called.
    pub fn receive_count(mut self, receive_count: u32) -> Self {
        self.0.receive_count = receive_count;
        self
    }

    /// Sets when the message was sent.
    pub fn sent_at(mut self, sent_at: SystemTime) -> Self {
        self.0.sent_at = sent_at;
        self
    }

    /// Puts the message into a group.
    pub fn group(mut self, group_id: impl Into<String>) -> Self {
        self.0.group_id = Some(group_id.into());
        self
    }

    /// Returns the message.
    pub fn build(self) -> Message {
        self.0
    }
}

/// Records messages as sent, if a host would have accepted them. All of them or none.
///
/// # Errors
///
/// As a host would answer, or as [`refuse_sends`] asked for.
pub(crate) fn record(queue: &str, messages: Vec<Outgoing>) -> Result<(), SendError> {
    if let Some(error) = REFUSAL.with_borrow(Clone::clone) {
        return Err(error);
    }
    for message in &messages {
        check(message).map_err(SendError::Invalid)?;
    }
    SENT.with_borrow_mut(|sent| {
        sent.extend(messages.into_iter().map(|message| Sent {
            queue: queue.to_owned(),
            message,
        }));
    });
    Ok(())
}

/// Checks the contract's rules for a message to be sent, and says which one is broken.
fn check(message: &Outgoing) -> Result<(), String> {
    if message.body.len() > BODY_BYTES_MAX {
        return Err(format!(
            "a body of {} bytes is more than {BODY_BYTES_MAX}",
            message.body.len()
        ));
    }
    if message.attributes.len() > ATTRIBUTES_MAX {
        return Err(format!(
            "{} attributes are more than {ATTRIBUTES_MAX}",
            message.attributes.len()
        ));
    }
    let mut names: Vec<&str> = message.attributes.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    if let Some(twice) = names
        .windows(2)
        .find_map(|pair| (pair.first() == pair.last()).then_some(pair.first()?))
    {
        return Err(format!("there are two attributes {twice:?}"));
    }
    if let Some(name) = names
        .iter()
        .find(|name| name.is_empty() || name.chars().count() > NAME_CHARS_MAX)
    {
        return Err(format!(
            "attribute name {name:?} does not have 1 to {NAME_CHARS_MAX} characters"
        ));
    }
    if let Some(delay) = message.delay.filter(|delay| *delay > DELAY_MAX) {
        return Err(format!("a delay of {delay:?} is more than 12 hours"));
    }
    if let Some(priority) = message.priority.filter(|priority| *priority > PRIORITY_MAX) {
        return Err(format!("priority {priority} is not 0 to {PRIORITY_MAX}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{send, send_many};

    fn refused(message: Outgoing) -> String {
        send("queue", message).unwrap_err().to_string()
    }

    #[test]
    fn sends_are_returned_once() {
        send("a", Outgoing::new("1")).unwrap();
        send_many("b", [Outgoing::new("2"), Outgoing::new("3")]).unwrap();
        let seen: Vec<_> = sent().into_iter().map(|sent| (sent.queue, sent.message.body)).collect();
        assert_eq!(
            seen,
            [
                ("a".to_owned(), b"1".to_vec()),
                ("b".to_owned(), b"2".to_vec()),
                ("b".to_owned(), b"3".to_vec())
            ]
        );
        assert_eq!(sent(), []);
    }

    #[test]
    fn one_message_that_is_not_valid_keeps_back_all() {
        send_many("a", [Outgoing::new("1"), Outgoing::new("2").priority(10)]).unwrap_err();
        assert_eq!(sent(), []);
    }

    #[test]
    fn a_message_that_a_host_refuses_is_refused_in_tests() {
        assert!(refused(Outgoing::new(vec![0; BODY_BYTES_MAX + 1])).contains("1048577 bytes"));
        assert!(refused(Outgoing::new("").attribute("a", 1_u8).attribute("a", 2_u8)).contains("two attributes \"a\""));
        assert!(refused(Outgoing::new("").attribute("", 1_u8)).contains("1 to 256 characters"));
        assert!(refused(Outgoing::new("").delay(DELAY_MAX + Duration::from_secs(1))).contains("12 hours"));
        assert!(refused(Outgoing::new("").priority(10)).contains("priority 10"));
        let eleven = (0..=10_u32).fold(Outgoing::new(""), |message, n| message.attribute(n.to_string(), n));
        assert!(refused(eleven).contains("11 attributes"));
    }

    #[test]
    fn a_refusal_lasts_until_it_is_lifted() {
        let error = SendError::NotGranted("queue a".to_owned());
        refuse_sends(error.clone());
        assert_eq!(send("a", Outgoing::new("1")), Err(error));
        accept_sends();
        assert_eq!(send("a", Outgoing::new("1")), Ok(()));
    }
}
