//! Turns errors into answers, each with its status. The errors of a queue keep their causes, on one line.

use std::fmt;

use axum::{
    Json,
    extract::rejection::BytesRejection,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::wire;
use sandhog_queue::{EffectsRefused, QueueError, SendError, SettleError, message::InvalidMessage, printable::chain};

/// The longest reason in an answer, in bytes: it may repeat the client's words.
const MAX_WHY_BYTES: usize = 4096;

/// The answer to a request that was refused or failed.
#[derive(Debug)]
pub(crate) struct RefusedRequest {
    status: StatusCode,
    why: String,
}

impl RefusedRequest {
    pub(crate) fn new(status: StatusCode, why: impl Into<String>) -> Self {
        let mut why = why.into();
        if why.len() > MAX_WHY_BYTES {
            why.truncate(why.floor_char_boundary(MAX_WHY_BYTES));
            why.push('…');
        }
        Self { status, why }
    }

    /// The request is wrong.
    pub(crate) fn bad(why: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, why)
    }

    /// There is no such thing of this kind; `known` has the names of those that there are.
    pub(crate) fn unknown(kind: &str, name: &str, known: &[String]) -> Self {
        let known = if known.is_empty() {
            "there are none".to_owned()
        } else {
            known.join(", ")
        };
        let why = format!("no {kind} {name:?}; known {kind}s: {known}");
        Self::new(StatusCode::NOT_FOUND, why)
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
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
        Self::new(status_of(&error), chain(&error))
    }
}

fn status_of(error: &QueueError) -> StatusCode {
    match error {
        QueueError::Unavailable { .. } | QueueError::Failed { .. } => StatusCode::SERVICE_UNAVAILABLE,
        QueueError::Unsupported { .. } => StatusCode::NOT_IMPLEMENTED,
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
            SendError::Queue(error) => status_of(error),
        };
        Self::new(status, chain(&error))
    }
}

impl From<SettleError> for RefusedRequest {
    fn from(error: SettleError) -> Self {
        let status = match &error {
            SettleError::Expired => StatusCode::CONFLICT,
            SettleError::DeadLetterRefused { .. } => StatusCode::SERVICE_UNAVAILABLE,
            SettleError::Queue(error) => status_of(error),
        };
        Self::new(status, chain(&error))
    }
}

impl From<EffectsRefused> for RefusedRequest {
    fn from(error: EffectsRefused) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, chain(&error))
    }
}

impl From<BytesRejection> for RefusedRequest {
    fn from(rejection: BytesRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandhog_queue::message::QueueName;

    #[test]
    fn an_operation_that_a_kind_of_queue_lacks_is_not_implemented() {
        let refused = RefusedRequest::from(QueueError::Unsupported {
            queue: QueueName::new("orders").unwrap(),
            operation: "list dead letters",
        });
        assert_eq!(
            refused.to_string(),
            "queue orders cannot list dead letters: its kind of queue has no such operation"
        );
        assert_eq!(refused.into_response().status(), StatusCode::NOT_IMPLEMENTED);
    }
}
