//! Turns errors into answers, each with its status. The errors of a queue keep their causes, on one line.

use std::fmt;

use axum::{
    Json,
    extract::rejection::BytesRejection,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::wire;
use crate::{
    message::InvalidMessage,
    printable::chain,
    queue::{QueueError, SendError, SettleError},
};

/// The longest reason in an answer, in bytes: it may repeat the client's words.
const MAX_WHY_BYTES: usize = 4096;

/// The answer to a request that was refused or failed.
#[derive(Debug)]
pub(super) struct RefusedRequest {
    status: StatusCode,
    why: String,
}

impl RefusedRequest {
    pub(super) fn new(status: StatusCode, why: impl Into<String>) -> Self {
        let mut why = why.into();
        if why.len() > MAX_WHY_BYTES {
            why.truncate(why.floor_char_boundary(MAX_WHY_BYTES));
            why.push('…');
        }
        Self { status, why }
    }
}

impl fmt::Display for RefusedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl IntoResponse for RefusedRequest {
    fn into_response(self) -> Response {
        let mut answer = (self.status, Json(wire::ErrorAnswer { error: self.why })).into_response();
        if self.status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            let headers = answer.headers_mut();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        answer
    }
}

impl From<QueueError> for RefusedRequest {
    fn from(error: QueueError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, chain(&error))
    }
}

impl From<InvalidMessage> for RefusedRequest {
    fn from(error: InvalidMessage) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error.to_string())
    }
}

impl From<SendError> for RefusedRequest {
    fn from(error: SendError) -> Self {
        let status = match &error {
            SendError::Invalid(_) => StatusCode::BAD_REQUEST,
            SendError::Full { .. } => StatusCode::INSUFFICIENT_STORAGE,
            SendError::NoSuchQueue(_) => StatusCode::NOT_FOUND,
            SendError::Queue(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, chain(&error))
    }
}

impl From<SettleError> for RefusedRequest {
    fn from(error: SettleError) -> Self {
        let status = match &error {
            SettleError::Expired => StatusCode::CONFLICT,
            SettleError::SendRefused { .. }
            | SettleError::WriteRefused(_)
            | SettleError::DeadLetterRefused { .. }
            | SettleError::Incomplete
            | SettleError::Queue(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, chain(&error))
    }
}

impl From<BytesRejection> for RefusedRequest {
    fn from(rejection: BytesRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}
