//! The listener: probes, metrics, and the queues for curl, scripts and the command line.
//!
//! | route | answer |
//! | --- | --- |
//! | `GET /live` | 200 while the process can answer at all |
//! | `GET /ready` | 200, or 503 with the reasons |
//! | `GET /metrics` | the page for Prometheus; as `OpenMetrics` if the header `accept` says so |
//! | `GET /handlers` | every handler with its state |
//! | `GET /queues` | every queue with its counts |
//! | `GET /queues/{name}` | one of them |
//! | `POST /queues/{name}` | sends the body as a message; parameters `group`, `delay`, `priority`, `dedup`, `attr.NAME` |
//! | `POST /queues/{name}/batch` | sends up to 1000 messages given as JSON; one result each |
//! | `POST /queues/{name}/receive` | up to `max` messages (1 to 10), waiting `wait` (0s to 20s), hidden for `visibility` |
//! | `POST /queues/{name}/settle` | deletes or releases a message that was received here |
//! | `DELETE /queues/{name}/messages` | deletes every message that is not in flight |
//! | `GET /queues/{name}/dead` | dead letters, oldest first; parameters `limit` (1 to 1000), `after` (an id); `more` if there are others behind |
//! | `GET /queues/{name}/dead/{id}` | one of them |
//! | `POST /queues/{name}/dead/redrive` | puts dead letters back: those with the given ids, or all; `more` if time was too short |
//! | `DELETE /queues/{name}/dead` | deletes the dead letters |
//!
//! An error is `{"error": ".."}` with 400 (wrong request), 401 (no secret), 403 (a browser's request from
//! elsewhere), 404 (no such queue or message), 409 (the receipt is no longer valid), 413 (too large), 501 (this
//! kind of queue has no such operation), 503 (the queue is unavailable) or 507 (the queue is full). The listener knows no handler's code and never waits for a guest.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, Uri, header},
    middleware,
    response::{IntoResponse as _, Response},
    routing::{delete, get, post},
};
use futures_util::future::join_all;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::{body::RequestBodies, guard::RequestGuard, parameters::Path, refused::RefusedRequest};
use crate::{
    config::ListenerSecret,
    handler_status::HandlerStatuses,
    metrics::{Metrics, PageFormat},
    queue_set::QueueSet,
};
use sandhog_queue::{Counts, Queue, message::QueueName, printable::chain};

mod accept;
mod body;
mod connections;
mod dead_letters;
mod guard;
mod messages;
mod metrics;
mod parameters;
mod refused;
mod stream;
pub mod wire;

pub use self::{
    accept::{ListenerLimits, serve, serve_within},
    metrics::ListenerMetrics,
};

/// The longest time that a queue without an answer may hold up the counts of the others.
const COUNTS_LIMIT: Duration = Duration::from_secs(3);

/// The parts of the host that the listener reads and changes.
#[derive(Debug, Clone)]
pub struct AdminState {
    /// All queues.
    pub queues: Arc<QueueSet>,
    /// All handlers.
    pub handlers: Arc<HandlerStatuses>,
    /// The metrics on `/metrics`.
    pub metrics: Arc<Metrics>,
    /// The secret that requests carry, if they need one.
    pub secret: Option<ListenerSecret>,
    /// The token is cancelled when the host begins to stop. Then readiness turns red, and waiting receives end.
    pub draining: CancellationToken,
}

/// Returns the routes behind their guard.
fn routes(state: AdminState, limits: &ListenerLimits) -> Router {
    let bodies = Arc::new(RequestBodies::new(limits.body_bytes, limits.body));
    let guard = RequestGuard {
        state: state.clone(),
        bodies: Arc::clone(&bodies),
        limit: limits.request,
    };
    Router::new()
        .route("/live", get(async || "live\n"))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics_page))
        .route("/handlers", get(handlers))
        .route("/queues", get(queues))
        .route("/queues/{name}", get(queue).post(messages::send))
        .route("/queues/{name}/batch", post(messages::send_batch))
        .route("/queues/{name}/receive", post(messages::receive))
        .route("/queues/{name}/settle", post(messages::settle))
        .route("/queues/{name}/messages", delete(messages::purge))
        .route(
            "/queues/{name}/dead",
            get(dead_letters::list).delete(dead_letters::purge),
        )
        .route("/queues/{name}/dead/{id}", get(dead_letters::show))
        .route("/queues/{name}/dead/redrive", post(dead_letters::redrive))
        .fallback(async || RefusedRequest::new(StatusCode::NOT_FOUND, "no such route"))
        .method_not_allowed_fallback(async || {
            RefusedRequest::new(StatusCode::METHOD_NOT_ALLOWED, "no such method here")
        })
        // The guard reads the body, with a bound of its own.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(guard, guard::guard))
        .layer(Extension(bodies))
        .with_state(state)
}

type Answer<T> = Result<Json<T>, RefusedRequest>;
type ReceivedBody = Result<Bytes, BytesRejection>;

async fn ready(
    State(state): State<AdminState>,
    uri: Uri,
    headers: HeaderMap,
) -> (StatusCode, Json<wire::ReadinessAnswer>) {
    match state.handlers.readiness(state.draining.is_cancelled()) {
        Ok(()) => (
            StatusCode::OK,
            Json(wire::ReadinessAnswer {
                ready: true,
                reasons: vec![],
            }),
        ),
        Err(reasons) => {
            // A reason can hold words of a guest, which only a client with the secret may see.
            let reasons = if guard::admit(&state, &uri, &headers).is_ok() {
                reasons
            } else {
                vec![]
            };
            (
                StatusCode::SERVICE_UNAVAILABLE,
                Json(wire::ReadinessAnswer { ready: false, reasons }),
            )
        }
    }
}

async fn metrics_page(State(state): State<AdminState>, headers: HeaderMap) -> Response {
    let mut queues = state.queues.lasting_names(&state.metrics.handlers().used_queues());
    for (queue, counts) in all_counts(&state).await {
        let name = queue.name().as_str();
        match counts {
            Ok(counts) if counts == Counts::default() && !queues.contains(name) => {}
            Ok(counts) => {
                state.metrics.queues().counts(name, &counts);
                queues.insert(name.to_owned());
            }
            // The gauges of a failed queue stay as they were, so that its metrics still say that it failed.
            Err(_) => drop(queues.insert(name.to_owned())),
        }
    }
    if let Ok(Ok(Some(disk))) = timeout(COUNTS_LIMIT, state.queues.disk_use()).await {
        state.metrics.queues().disk_use(&disk);
    }
    let handlers = state.handlers.list().into_iter().map(|handler| handler.name);
    state.metrics.keep_only(handlers.collect(), queues);
    let accept = headers.get_all(header::ACCEPT).iter();
    let format = PageFormat::accepted(accept.filter_map(|line| line.to_str().ok()));
    (
        [(header::CONTENT_TYPE, format.content_type())],
        state.metrics.page_in(format),
    )
        .into_response()
}

async fn handlers(State(state): State<AdminState>) -> Json<wire::HandlerList> {
    Json(wire::HandlerList {
        handlers: state.handlers.list().into_iter().map(Into::into).collect(),
    })
}

/// Asks all queues for their counts at the same time. A queue that does not answer holds the others up for a short time only.
async fn all_counts(state: &AdminState) -> Vec<(Arc<dyn Queue>, Result<Counts, String>)> {
    let ask = async |queue: Arc<dyn Queue>| {
        let counts = match timeout(COUNTS_LIMIT, queue.counts()).await {
            Ok(counts) => counts.map_err(|error| chain(&error)),
            Err(_) => Err(format!("queue {} did not answer within {COUNTS_LIMIT:?}", queue.name())),
        };
        (queue, counts)
    };
    join_all(state.queues.list().into_iter().map(ask)).await
}

async fn queues(State(state): State<AdminState>) -> Json<wire::QueueList> {
    let entry = |(queue, counts): (Arc<dyn Queue>, Result<Counts, String>)| match counts {
        Ok(counts) => wire::QueueForm::new(queue.name(), counts),
        Err(error) => wire::QueueForm {
            error: Some(error),
            ..wire::QueueForm::new(queue.name(), Counts::default())
        },
    };
    Json(wire::QueueList {
        queues: all_counts(&state).await.into_iter().map(entry).collect(),
    })
}

async fn queue(State(state): State<AdminState>, Path(name): Path<String>) -> Answer<wire::QueueForm> {
    let queue = state.find(&name)?;
    Ok(Json(wire::QueueForm::new(queue.name(), queue.counts().await?)))
}

impl AdminState {
    /// Returns the queue of this name, or the answer that lists the known queues.
    fn find(&self, name: &str) -> Result<Arc<dyn Queue>, RefusedRequest> {
        let found = QueueName::new(name).ok().and_then(|name| self.queues.get(&name));
        found.ok_or_else(|| {
            let known: Vec<String> = self
                .queues
                .list()
                .iter()
                .map(|queue| queue.name().to_string())
                .collect();
            let known = if known.is_empty() {
                "there are none".to_owned()
            } else {
                known.join(", ")
            };
            RefusedRequest::new(
                StatusCode::NOT_FOUND,
                format!("no queue {name:?}; known queues: {known}"),
            )
        })
    }
}
