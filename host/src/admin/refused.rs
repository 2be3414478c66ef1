//! Errors as answers: which status each has. A queue's errors keep their causes, on one line.

use axum::{
    Json,
    extract::rejection::BytesRejection,
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::wire;
use crate::{
    message::InvalidMessage,
    printable::chain,
    queue::{QueueError, SendError, SettleError},
};

/// An answer that is not what was asked for.
#[derive(Debug)]
pub(super) struct Refused {
    status: StatusCode,
    why: String,
}

impl Refused {
    pub(super) fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self {
            status,
            why: why.into(),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.status, Json(wire::Refusal { error: self.why })).into_response()
    }
}

impl From<QueueError> for Refused {
    fn from(error: QueueError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, chain(&error))
    }
}

impl From<InvalidMessage> for Refused {
    fn from(error: InvalidMessage) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error.to_string())
    }
}

impl From<SendError> for Refused {
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

impl From<SettleError> for Refused {
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

impl From<BytesRejection> for Refused {
    fn from(rejection: BytesRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}
