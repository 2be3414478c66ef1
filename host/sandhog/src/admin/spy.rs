//! The routes of the [spy](crate::spy), which exist only if the host has one.
//!
//! | route | what it does |
//! | --- | --- |
//! | `POST /spy/reset` | deletes the queues of clients, and the messages of all others |
//! | `POST /spy/wait?queue=Q` | answers when `messages` (1) may be received, or after `wait` (10s, at most 50s) with 408 |
//! | `POST /spy/redeliver?queue=Q` | makes the messages in flight visible again |
//! | `POST /spy/clock?forward=D` | moves the clock of the queues forward, by at most 30 days |

use std::time::Duration;

use axum::{
    Extension, Json, Router,
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::post,
};

use super::{Answer, parameters::QueryParameters, refused::RefusedRequest, wire};
use crate::{queue_set::QueueChangeRefused, spy::TestSpy};
use sandhog_queue::message::QueueName;

/// The longest wait: shorter than a request may take.
const MAX_WAIT: Duration = Duration::from_secs(50);
const USUAL_WAIT: Duration = Duration::from_secs(10);
/// The longest move of the clock.
const MAX_FORWARD: Duration = Duration::from_hours(30 * 24);

/// Returns the routes.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>(spy: TestSpy) -> Router<S> {
    Router::new()
        .route("/spy/reset", post(reset))
        .route("/spy/wait", post(wait))
        .route("/spy/redeliver", post(redeliver))
        .route("/spy/clock", post(clock))
        .layer(Extension(spy))
}

fn queue_name(parameters: &mut QueryParameters) -> Result<QueueName, RefusedRequest> {
    let name = parameters.take("queue").ok_or_else(|| missing("queue"))?;
    Ok(QueueName::new(&name)?)
}

fn missing(parameter: &str) -> RefusedRequest {
    RefusedRequest::new(
        StatusCode::BAD_REQUEST,
        format!("the parameter {parameter:?} is missing"),
    )
}

async fn reset(Extension(spy): Extension<TestSpy>, parameters: QueryParameters) -> Result<StatusCode, RefusedRequest> {
    parameters.finish()?;
    spy.reset().await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn wait(Extension(spy): Extension<TestSpy>, mut parameters: QueryParameters) -> Result<Response, RefusedRequest> {
    let name = queue_name(&mut parameters)?;
    let messages = parameters.number("messages", 1..=1_000_000_u64)?.unwrap_or(1);
    let wait = parameters.duration("wait", MAX_WAIT)?.unwrap_or(USUAL_WAIT);
    parameters.finish()?;
    let (counts, are_there) = spy.wait(&name, messages, wait).await?;
    let status = if are_there {
        StatusCode::OK
    } else {
        StatusCode::REQUEST_TIMEOUT
    };
    Ok((status, Json(wire::QueueForm::new(&name, counts))).into_response())
}

async fn redeliver(
    Extension(spy): Extension<TestSpy>,
    mut parameters: QueryParameters,
) -> Answer<wire::AffectedMessages> {
    let name = queue_name(&mut parameters)?;
    parameters.finish()?;
    let messages = spy.redeliver(&name).await?;
    Ok(Json(wire::AffectedMessages { messages }))
}

async fn clock(
    Extension(spy): Extension<TestSpy>,
    mut parameters: QueryParameters,
) -> Result<StatusCode, RefusedRequest> {
    let by = parameters
        .duration("forward", MAX_FORWARD)?
        .ok_or_else(|| missing("forward"))?;
    parameters.finish()?;
    spy.forward(by).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<QueueChangeRefused> for RefusedRequest {
    fn from(refused: QueueChangeRefused) -> Self {
        match refused {
            QueueChangeRefused::Queue(error) => error.into(),
            QueueChangeRefused::Missing => Self::new(StatusCode::NOT_FOUND, refused.to_string()),
            QueueChangeRefused::Exists
            | QueueChangeRefused::Declared { .. }
            | QueueChangeRefused::Needed { .. }
            | QueueChangeRefused::TooMany { .. }
            | QueueChangeRefused::HasMessages { .. } => Self::new(StatusCode::CONFLICT, refused.to_string()),
        }
    }
}
