//! One delivery of a message, as a handler receives it.

use std::time::SystemTime;

use serde::de::DeserializeOwned;

use crate::{AttributeValue, Failure};

/// One delivery of a message to a handler.
///
/// Tests make one with [`testing::message`](crate::testing::message).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// The id that the queue gave the message when it was sent. It stays the same across retries, so
    /// it is the key to use for idempotency.
    pub id: String,
    /// The body: any bytes, empty included, up to 1 MiB. Nothing guarantees that it is text.
    pub body: Vec<u8>,
    /// What the sender attached, in the sender's order. Names are unique.
    pub attributes: Vec<(String, AttributeValue)>,
    /// The name of the queue that the message was received from.
    pub queue: String,
    /// How many times the message has been received, this time included: 1 the first time.
    pub receive_count: u32,
    /// When the message was sent, to the millisecond.
    ///
    /// A handler built for `wasm32-unknown-unknown` has no clock to compare it with: there,
    /// `SystemTime::now()` panics. Build for `wasm32-wasip2` if you need one.
    pub sent_at: SystemTime,
    /// The message group. Messages of one group are handled one after another, in the order sent.
    pub group_id: Option<String>,
}

impl Message {
    /// Reads the body as JSON.
    ///
    /// # Errors
    ///
    /// [`Failure::Reject`] that says what is wrong, and in which line and column: the same bytes will
    /// not become valid by trying again. Use `serde_json` on [`body`](Self::body) to decide otherwise.
    ///
    /// # Examples
    ///
    /// ```
    /// # use sandhog_guest::{Failure, testing};
    /// #[derive(serde::Deserialize)]
    /// struct Order {
    ///     items: Vec<String>,
    /// }
    ///
    /// let order: Order = testing::message(r#"{"items": ["spade"]}"#).build().json()?;
    /// assert_eq!(order.items, ["spade"]);
    /// # Ok::<(), Failure>(())
    /// ```
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Failure::Reject(format!("the body is not the JSON expected: {error}")))
    }

    /// Reads the body as UTF-8 text.
    ///
    /// # Errors
    ///
    /// [`Failure::Reject`] that says at which byte the text ends.
    pub fn text(&self) -> Result<&str, Failure> {
        std::str::from_utf8(&self.body).map_err(|error| Failure::Reject(format!("the body is not text: {error}")))
    }

    /// Returns the attribute of this name, which is case-sensitive.
    ///
    /// # Examples
    ///
    /// ```
    /// # use sandhog_guest::{AttributeValue, testing};
    /// let message = testing::message("").attribute("width", 640_u32).build();
    /// let width = message.attribute("width").and_then(AttributeValue::as_number::<u32>);
    /// assert_eq!(width, Some(640));
    /// ```
    pub fn attribute(&self, name: &str) -> Option<&AttributeValue> {
        self.attributes
            .iter()
            .find(|(its_name, _)| its_name == name)
            .map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use crate::testing;

    #[test]
    fn malformed_json_is_rejected_with_its_place() {
        let failure = testing::message("{\n  \"a\": }")
            .build()
            .json::<serde_json::Value>()
            .unwrap_err();
        assert_eq!(
            failure.to_string(),
            "reject: the body is not the JSON expected: expected value at line 2 column 8"
        );
    }

    #[test]
    fn bytes_that_are_not_text_are_rejected_with_their_place() {
        let failure = testing::message([b'a', 0xff]).build().text().unwrap_err();
        assert_eq!(
            failure.to_string(),
            "reject: the body is not text: invalid utf-8 sequence of 1 bytes from index 1"
        );
    }

    #[test]
    fn an_attribute_that_is_not_there_is_none() {
        let message = testing::message("").attribute("Width", 1_u8).build();
        assert_eq!(message.attribute("width"), None);
    }
}
