//! Messages that a handler sends.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::{AttributeValue, Failure};

/// A message to be sent.
///
/// # Examples
///
/// ```
/// use sandhog_guest::{Outgoing, send, testing};
/// use std::time::Duration;
///
/// let reminder = Outgoing::new("pay, please").attribute("order", 1042_u32).delay(Duration::from_secs(3600));
/// send("reminders", reminder)?;
/// assert_eq!(testing::sent()[0].message.body, b"pay, please");
/// # Ok::<(), sandhog_guest::SendError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outgoing {
    /// The body: any bytes, up to 1 MiB.
    pub body: Vec<u8>,
    /// At most 10, with unique names of 1 to 256 characters.
    pub attributes: Vec<(String, AttributeValue)>,
    /// Hides the message for this long after it was sent: 0 to 12 hours.
    pub delay: Option<Duration>,
    /// Messages of one group are handled one after another, in the order sent.
    pub group_id: Option<String>,
    /// A second message with the same id within five minutes is accepted and dropped.
    pub deduplication_id: Option<String>,
    /// 0 to 9; a higher priority is received first. 0 if absent.
    pub priority: Option<u8>,
}

impl Outgoing {
    /// Makes a message with this body, up to 1 MiB of any bytes.
    pub fn new(body: impl Into<Vec<u8>>) -> Self {
        Self {
            body: body.into(),
            ..Self::default()
        }
    }

    /// Makes a message with a value's JSON as the body.
    ///
    /// # Errors
    ///
    /// [`SendError::Invalid`] if the value has no JSON form, such as a map whose keys are not text.
    ///
    /// # Examples
    ///
    /// ```
    /// # use sandhog_guest::Outgoing;
    /// let totals = std::collections::BTreeMap::from([("EUR", 1299), ("USD", 450)]);
    /// assert_eq!(Outgoing::json(&totals)?.body, br#"{"EUR":1299,"USD":450}"#);
    /// # Ok::<(), sandhog_guest::SendError>(())
    /// ```
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, SendError> {
        match serde_json::to_vec(value) {
            Ok(body) => Ok(Self::new(body)),
            Err(error) => Err(SendError::Invalid(format!("the value has no JSON form: {error}"))),
        }
    }

    /// Attaches a value: text, an integer, bytes, or an [`AttributeValue`]. At most 10, with unique
    /// names of 1 to 256 characters.
    #[must_use]
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<AttributeValue>) -> Self {
        self.attributes.push((name.into(), value.into()));
        self
    }

    /// Hides the message for this long after it was sent: 0 to 12 hours, a fraction of a second
    /// rounded up.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = Some(delay);
        self
    }

    /// Puts the message into a group. Messages of one group are handled one after another.
    #[must_use]
    pub fn group(mut self, group_id: impl Into<String>) -> Self {
        self.group_id = Some(group_id.into());
        self
    }

    /// Sets the id by which a repetition within five minutes is recognised and dropped.
    #[must_use]
    pub fn deduplication_id(mut self, id: impl Into<String>) -> Self {
        self.deduplication_id = Some(id.into());
        self
    }

    /// Sets the priority: 0 (the default) to 9, which is received first.
    #[must_use]
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = Some(priority);
        self
    }
}

/// Why a message was not accepted for sending.
///
/// With `?` it becomes a [`Failure`]: a missing grant is retried, since an operator can add it while
/// the messages wait; the other two are rejected, since the same message would fail again.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// The manifest does not grant this queue. Add it: `[grant] send = ["thumbnails"]`.
    NotGranted(String),
    /// The message itself is not acceptable; the text says what and why.
    Invalid(String),
    /// The attempt has sent as many messages, or as many bytes, as it may.
    Limit(String),
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGranted(reason) => write!(f, "sending is not granted: {reason}"),
            Self::Invalid(reason) => write!(f, "the message to be sent is not valid: {reason}"),
            Self::Limit(reason) => write!(f, "the attempt may not send more: {reason}"),
        }
    }
}

impl Error for SendError {}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        match error {
            SendError::NotGranted(_) => Self::Retry(error.to_string()),
            SendError::Invalid(_) | SendError::Limit(_) => Self::Reject(error.to_string()),
        }
    }
}

/// Sends one message.
///
/// It is held back until the handler returns success, and dropped when it fails. In a native build,
/// nothing is sent: [`testing::sent`](crate::testing::sent) returns what would have been.
///
/// # Errors
///
/// See [`SendError`]; `?` turns it into the [`Failure`] that fits.
pub fn send(queue: &str, message: Outgoing) -> Result<(), SendError> {
    #[cfg(target_family = "wasm")]
    return crate::exchange::send(queue, message);
    #[cfg(not(target_family = "wasm"))]
    crate::testing::record(queue, vec![message])
}

/// Sends messages in their order, all of them or, on an error, none.
///
/// # Errors
///
/// As [`send`].
pub fn send_many(queue: &str, messages: impl IntoIterator<Item = Outgoing>) -> Result<(), SendError> {
    let messages: Vec<_> = messages.into_iter().collect();
    #[cfg(target_family = "wasm")]
    return crate::exchange::send_many(queue, messages);
    #[cfg(not(target_family = "wasm"))]
    crate::testing::record(queue, messages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_grant_is_retried_because_an_operator_can_add_it() {
        let failure = Failure::from(SendError::NotGranted("queue invoices".to_owned()));
        assert_eq!(failure, Failure::retry("sending is not granted: queue invoices"));
    }

    #[test]
    fn a_message_that_can_never_be_sent_is_rejected() {
        let keys_are_not_text = std::collections::BTreeMap::from([((1, 2), 3)]);
        let failure = Failure::from(Outgoing::json(&keys_are_not_text).unwrap_err());
        assert!(
            matches!(&failure, Failure::Reject(reason) if reason.contains("no JSON form")),
            "{failure}"
        );
    }
}
