//! The bodies of requests and of answers.

use std::fmt;
use std::io::{self, Read};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::HttpError;
use super::wire::{Incoming, Interests};

/// What can be the body of a request: bytes, text, nothing (`()`), or a value as [`Json`].
///
/// A body that is written piece by piece has no type: see [`Client::upload`](super::Client::upload).
pub trait RequestBody {
    /// Returns the bytes.
    ///
    /// # Errors
    ///
    /// [`HttpError::Invalid`] if the value has no such form.
    fn into_bytes(self) -> Result<Vec<u8>, HttpError>;

    /// Returns what `content-type` says if the request does not have the header.
    fn content_type(&self) -> Option<&'static str> {
        None
    }
}

/// A value whose JSON is the body of a request, with `content-type: application/json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T: Serialize> RequestBody for Json<T> {
    fn into_bytes(self) -> Result<Vec<u8>, HttpError> {
        serde_json::to_vec(&self.0).map_err(|error| HttpError::Invalid(format!("the value has no JSON form: {error}")))
    }

    fn content_type(&self) -> Option<&'static str> {
        Some("application/json")
    }
}

impl RequestBody for () {
    fn into_bytes(self) -> Result<Vec<u8>, HttpError> {
        Ok(Vec::new())
    }
}

impl RequestBody for Vec<u8> {
    fn into_bytes(self) -> Result<Vec<u8>, HttpError> {
        Ok(self)
    }
}

impl RequestBody for &[u8] {
    fn into_bytes(self) -> Result<Vec<u8>, HttpError> {
        Ok(self.to_vec())
    }
}

impl<const N: usize> RequestBody for &[u8; N] {
    fn into_bytes(self) -> Result<Vec<u8>, HttpError> {
        Ok(self.to_vec())
    }
}

impl RequestBody for String {
    fn into_bytes(self) -> Result<Vec<u8>, HttpError> {
        Ok(self.into())
    }
}

impl RequestBody for &str {
    fn into_bytes(self) -> Result<Vec<u8>, HttpError> {
        Ok(self.into())
    }
}

/// The body of an answer: it is read as it comes ([`Read`]), or as a whole.
///
/// While it is neither read to its end nor dropped, its request counts as under way (`limits.http-concurrent`).
pub struct Body {
    /// What was received and not read yet, from `read` on.
    buffer: Vec<u8>,
    read: usize,
    /// `None` once the end was received.
    incoming: Option<Incoming>,
}

impl Body {
    pub(super) fn new(incoming: Incoming) -> Self {
        Self {
            buffer: Vec::new(),
            read: 0,
            incoming: Some(incoming),
        }
    }

    /// Returns the rest of the body.
    ///
    /// # Errors
    ///
    /// [`HttpError::Timeout`], [`HttpError::Connection`], or [`HttpError::Limit`] beyond `limits.http-response-bytes`.
    pub fn bytes(mut self) -> Result<Vec<u8>, HttpError> {
        while !self.receive()? {
            self.wait();
        }
        self.buffer.drain(..self.read);
        Ok(self.buffer)
    }

    /// Returns the rest of the body as UTF-8 text.
    ///
    /// # Errors
    ///
    /// As [`bytes`](Self::bytes), and [`HttpError::Malformed`] if it is none.
    pub fn text(self) -> Result<String, HttpError> {
        String::from_utf8(self.bytes()?)
            .map_err(|error| HttpError::Malformed(format!("the answer is not text: {}", error.utf8_error())))
    }

    /// Reads the rest of the body as JSON.
    ///
    /// # Errors
    ///
    /// As [`bytes`](Self::bytes), and [`HttpError::Malformed`] if it is not the JSON expected.
    pub fn json<T: DeserializeOwned>(self) -> Result<T, HttpError> {
        serde_json::from_slice(&self.bytes()?)
            .map_err(|error| HttpError::Malformed(format!("the answer is not the JSON expected: {error}")))
    }

    /// Takes what has come, without waiting. Returns whether that was all.
    pub(super) fn receive(&mut self) -> Result<bool, HttpError> {
        while let Some(incoming) = &mut self.incoming {
            match incoming.receive()? {
                None => return Ok(false),
                Some(bytes) if bytes.is_empty() => self.incoming = None,
                Some(bytes) if self.buffer.is_empty() => self.buffer = bytes,
                Some(bytes) => self.buffer.extend_from_slice(&bytes),
            }
        }
        Ok(true)
    }

    pub(super) fn interests<'a>(&'a self, interests: &mut Interests<'a>) {
        if let Some(incoming) = &self.incoming {
            incoming.interests(interests);
        }
    }

    fn wait(&self) {
        let mut interests = Interests::default();
        self.interests(&mut interests);
        interests.wait();
    }

    /// Makes sure that there is something to read. Returns whether there is.
    fn fill(&mut self) -> Result<bool, HttpError> {
        while self.read == self.buffer.len() {
            let Some(incoming) = &mut self.incoming else {
                return Ok(false);
            };
            match incoming.receive()? {
                None => self.wait(),
                Some(bytes) if bytes.is_empty() => self.incoming = None,
                Some(bytes) => {
                    self.buffer = bytes;
                    self.read = 0;
                }
            }
        }
        Ok(true)
    }
}

impl Read for Body {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() || !self.fill()? {
            return Ok(0);
        }
        let mut rest = self.buffer.get(self.read..).unwrap_or_default();
        let n = rest.read(into)?;
        self.read += n;
        Ok(n)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").finish_non_exhaustive()
    }
}
