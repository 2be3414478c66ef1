//! How a body that SQS can't carry is written, so that every consumer that is a host reads it as it was sent.
//!
//! A body of XML 1.0 characters that is not empty goes as it is. Any other goes in base64, and the attribute
//! [`BODY_ENCODING`] says `base64`; an empty one goes as `(empty)`, and the attribute says `empty`.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;

/// The attribute that tells how the body is written.
pub const BODY_ENCODING: &str = "sandhog-encoding";
/// The system attribute of SQS that may be sent. The messages of the host have it among their attributes.
pub use sandhog_queue::message::TRACE_HEADER;

const BASE64_NAME: &str = "base64";
const EMPTY_NAME: &str = "empty";
/// The body of a message without one; SQS refuses an empty body.
const EMPTY_BODY: &str = "(empty)";

/// Returns a body as SQS takes it, and the value of [`BODY_ENCODING`] if it has one.
pub fn encoded(body: &[u8]) -> (String, Option<&'static str>) {
    match std::str::from_utf8(body) {
        Ok("") => (EMPTY_BODY.to_owned(), Some(EMPTY_NAME)),
        Ok(text) if text.chars().all(is_carried) => (text.to_owned(), None),
        Ok(_) | Err(_) => (BASE64.encode(body), Some(BASE64_NAME)),
    }
}

/// Returns the body that was written so; `None` if it was not.
pub fn decoded(body: &str, encoding: &str) -> Option<Bytes> {
    match encoding {
        BASE64_NAME => BASE64.decode(body).ok().map(Bytes::from),
        EMPTY_NAME if body == EMPTY_BODY => Some(Bytes::new()),
        _ => None,
    }
}

/// Returns whether SQS carries a character: those of XML 1.0.
pub(crate) fn is_carried(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}
