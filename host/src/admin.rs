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
//! elsewhere), 404 (no such queue or message), 409 (the receipt is no longer valid), 413 (too large), 503 (the
//! queue is unavailable) or 507 (the queue is full). It knows no handler's code and never waits for a guest.

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
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use self::{
    body::{RequestBodies, json},
    guard::RequestGuard,
    parameters::{Path, QueryParameters},
    refused::RefusedRequest,
    wire::AffectedMessages,
};
use crate::{
    config::ListenerSecret,
    handler_status::HandlerBoard,
    message::{AttributeValue, Attributes, InvalidMessage, MAX_DELAY, MessageId, Outgoing, QueueName},
    metrics::{Format, Metrics},
    printable::chain,
    queue::{Counts, DeadLetter, Delivery, Effects, Queue, QueueError, SendError, Settle, Settlement},
    queue_set::QueueSet,
};

mod accept;
mod body;
mod connections;
mod guard;
mod metrics;
mod parameters;
mod refused;
mod stream;
pub mod wire;

pub use self::{
    accept::{ListenerLimits, serve, serve_within},
    metrics::ListenerMetrics,
};

/// How long a queue that does not answer may hold up the counts of the others.
const COUNTS_LIMIT: Duration = Duration::from_secs(3);
/// The longest wait of a receive, as on SQS.
const MAX_WAIT: Duration = Duration::from_secs(20);
/// How many dead letters are put back in one transaction.
const REDRIVE_STEP: usize = 1000;
/// How long one request goes on to put dead letters back: with one step more it is answered before it takes too long.
const REDRIVE_TIME: Duration = Duration::from_secs(40);
/// The same for a remote queue, each of whose steps may take as long as all of that.
const REMOTE_REDRIVE_TIME: Duration = Duration::from_secs(5);

/// What the listener reads and acts on.
#[derive(Debug, Clone)]
pub struct AdminState {
    /// All queues.
    pub queues: Arc<QueueSet>,
    /// All handlers.
    pub handlers: Arc<HandlerBoard>,
    /// What `/metrics` shows.
    pub metrics: Arc<Metrics>,
    /// What a request has to bear, if anything.
    pub secret: Option<ListenerSecret>,
    /// Cancelled when the host begins to stop: readiness turns red and waiting receives end.
    pub draining: CancellationToken,
}

/// The routes, behind what guards them.
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
        .route("/queues/{name}", get(queue).post(send))
        .route("/queues/{name}/batch", post(send_batch))
        .route("/queues/{name}/receive", post(receive))
        .route("/queues/{name}/settle", post(settle))
        .route("/queues/{name}/messages", delete(purge))
        .route("/queues/{name}/dead", get(dead_letters).delete(purge_dead))
        .route("/queues/{name}/dead/{id}", get(dead_letter))
        .route("/queues/{name}/dead/redrive", post(redrive))
        .fallback(async || RefusedRequest::new(StatusCode::NOT_FOUND, "no such route"))
        .method_not_allowed_fallback(async || {
            RefusedRequest::new(StatusCode::METHOD_NOT_ALLOWED, "no such method here")
        })
        // The guard has read the body, with a bound of its own.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(guard, guard::guard))
        .layer(Extension(bodies))
        .with_state(state)
}

type Answer<T> = Result<Json<T>, RefusedRequest>;
type Body = Result<Bytes, BytesRejection>;

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
            // A reason can hold words of a guest, which are not for everybody.
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
            // A failed queue must not take the metrics with it that say so: its gauges stay as they were.
            Err(_) => drop(queues.insert(name.to_owned())),
        }
    }
    if let Ok(Ok(Some(disk))) = timeout(COUNTS_LIMIT, state.queues.disk_use()).await {
        state.metrics.queues().disk_use(&disk);
    }
    let handlers = state.handlers.list().into_iter().map(|handler| handler.name);
    state.metrics.keep_only(handlers.collect(), queues);
    let accept = headers.get_all(header::ACCEPT).iter();
    let format = Format::accepted(accept.filter_map(|line| line.to_str().ok()));
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

/// How full each queue is. All are asked at the same time, and one that does not answer holds nobody up for long.
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

async fn send(
    State(state): State<AdminState>,
    Path(name): Path<String>,
    parameters: QueryParameters,
    body: Body,
) -> Answer<wire::SentMessage> {
    let queue = state.find(&name)?;
    let message = outgoing(parameters, body?)?;
    Ok(Json(wire::SentMessage {
        id: queue.send(message).await?.to_string(),
    }))
}

fn outgoing(mut parameters: QueryParameters, body: Bytes) -> Result<Outgoing, RefusedRequest> {
    let attributes = parameters.take_prefixed("attr.");
    let attributes = attributes
        .into_iter()
        .map(|(name, value)| (name, AttributeValue::Text(value)))
        .collect();
    let message = Outgoing {
        body,
        attributes: Attributes::new(attributes)?,
        delay: parameters.duration("delay", MAX_DELAY)?,
        group_id: parameters.take("group"),
        deduplication_id: parameters.take("dedup"),
        priority: parameters.number("priority", 0..=9)?,
    };
    parameters.finish()?;
    message.check()?;
    Ok(message)
}

async fn send_batch(
    State(state): State<AdminState>,
    Path(name): Path<String>,
    Extension(bodies): Extension<Arc<RequestBodies>>,
    body: Body,
) -> Answer<wire::BatchResults> {
    let queue = state.find(&name)?;
    let entries = bodies.parse(body?, entries).await?;
    let valid = entries
        .iter()
        .filter_map(|entry| entry.as_ref().ok().cloned())
        .collect();
    let mut sent = queue.send_many(valid).await.into_iter();
    let mut results = Vec::with_capacity(entries.len());
    for entry in entries {
        let answer = entry
            .map_err(SendError::from)
            .and_then(|_| sent.next().expect("one answer per message"));
        results.push(match answer {
            Ok(id) => wire::BatchResult::Sent { id: id.to_string() },
            Err(error) => wire::BatchResult::Refused {
                again: error.is_transient(),
                error: chain(&error),
            },
        });
    }
    Ok(Json(wire::BatchResults { results }))
}

fn entries(body: &[u8]) -> Result<Vec<Result<Outgoing, InvalidMessage>>, RefusedRequest> {
    let batch: wire::SendBatch = json(body)?;
    if batch.messages.is_empty() {
        let why = format!("0 messages: send 1 to {}", wire::MAX_BATCH);
        return Err(RefusedRequest::new(StatusCode::BAD_REQUEST, why));
    }
    Ok(batch
        .messages
        .into_iter()
        .map(wire::OutgoingForm::into_outgoing)
        .collect())
}

async fn receive(
    State(state): State<AdminState>,
    Path(name): Path<String>,
    mut parameters: QueryParameters,
) -> Answer<wire::MessageList> {
    let queue = state.find(&name)?;
    let max = parameters.number("max", 1..=10)?.unwrap_or(1);
    let wait = parameters.duration("wait", MAX_WAIT)?.unwrap_or_default();
    let visibility = parameters.duration("visibility", MAX_DELAY)?;
    parameters.finish()?;
    if visibility.is_some_and(|visibility| visibility < Duration::from_secs(1)) {
        return Err(RefusedRequest::new(
            StatusCode::BAD_REQUEST,
            "visibility: use 1s to 12h",
        ));
    }
    let deliveries = tokio::select! {
        deliveries = queue.receive(max, wait) => deliveries?,
        () = state.draining.cancelled() => Vec::new(),
    };
    if let Some(visibility) = visibility {
        let receipts = deliveries.iter().map(|delivery| delivery.receipt.clone()).collect();
        let extended: Result<Vec<()>, _> = queue.extend(receipts, visibility).await.into_iter().collect();
        if let Err(error) = extended {
            // Nobody gets them, so they go back at once.
            let release = |delivery: Delivery| Settle {
                receipt: delivery.receipt,
                settlement: Settlement::Release,
            };
            drop(
                queue
                    .settle(deliveries.into_iter().map(release).collect(), Effects::default())
                    .await,
            );
            return Err(RefusedRequest::new(StatusCode::SERVICE_UNAVAILABLE, chain(&error)));
        }
    }
    let form = |delivery| wire::MessageForm::received(queue.name(), delivery);
    Ok(Json(wire::MessageList {
        messages: deliveries.into_iter().map(form).collect(),
    }))
}

async fn settle(
    State(state): State<AdminState>,
    Path(name): Path<String>,
    Extension(bodies): Extension<Arc<RequestBodies>>,
    body: Body,
) -> Answer<AffectedMessages> {
    let queue = state.find(&name)?;
    let request: wire::SettleRequest = bodies.parse(body?, json).await?;
    let not_one = || {
        RefusedRequest::new(
            StatusCode::BAD_REQUEST,
            format!("{:?} is not a receipt", request.receipt),
        )
    };
    let receipt = wire::parse_receipt(&request.receipt).ok_or_else(not_one)?;
    let settlement = match request.action {
        wire::SettleAction::Delete => Settlement::Delete,
        wire::SettleAction::Release => Settlement::Release,
    };
    for answer in queue
        .settle(vec![Settle { receipt, settlement }], Effects::default())
        .await
    {
        answer?;
    }
    Ok(Json(AffectedMessages { messages: 1 }))
}

async fn purge(State(state): State<AdminState>, Path(name): Path<String>) -> Answer<AffectedMessages> {
    Ok(Json(AffectedMessages {
        messages: state.find(&name)?.purge().await?,
    }))
}

async fn purge_dead(State(state): State<AdminState>, Path(name): Path<String>) -> Answer<AffectedMessages> {
    Ok(Json(AffectedMessages {
        messages: state.find(&name)?.purge_dead().await?,
    }))
}

async fn dead_letters(
    State(state): State<AdminState>,
    Path(name): Path<String>,
    mut parameters: QueryParameters,
) -> Answer<wire::DeadLetterList> {
    let queue = state.find(&name)?;
    let limit = parameters.number("limit", 1..=1000)?.unwrap_or(100);
    let after = parameters.take("after").map(|id| MessageId::from_queue(&id));
    parameters.finish()?;
    let letters = queue.dead_letters(after, limit).await?;
    let more = are_behind(&*queue, &letters, limit).await?;
    Ok(Json(wire::DeadLetterList {
        dead_letters: letters.into_iter().map(wire::MessageForm::dead).collect(),
        more,
    }))
}

/// Whether there are dead letters behind a page: its length does not tell.
async fn are_behind(queue: &dyn Queue, page: &[DeadLetter], limit: usize) -> Result<bool, QueueError> {
    match page.last() {
        Some(_) if !queue.capabilities().pages_dead_letters => Ok(page.len() >= limit),
        Some(last) => {
            let next = queue.dead_letters(Some(last.message.id.clone()), 1).await?;
            Ok(!next.is_empty())
        }
        None => Ok(false),
    }
}

async fn dead_letter(
    State(state): State<AdminState>,
    Path((name, id)): Path<(String, String)>,
) -> Answer<wire::MessageForm> {
    let letter = state.find(&name)?.dead_letter(&MessageId::from_queue(&id)).await?;
    let unknown = || RefusedRequest::new(StatusCode::NOT_FOUND, format!("queue {name} has no dead letter {id:?}"));
    Ok(Json(wire::MessageForm::dead(letter.ok_or_else(unknown)?)))
}

async fn redrive(
    State(state): State<AdminState>,
    Path(name): Path<String>,
    Extension(bodies): Extension<Arc<RequestBodies>>,
    body: Body,
) -> Answer<wire::RedriveAnswer> {
    let queue = state.find(&name)?;
    let body = body?;
    let request: wire::RedriveRequest = if body.is_empty() {
        wire::RedriveRequest::default()
    } else {
        bodies.parse(body, json).await?
    };
    if let Some(ids) = request.ids {
        let ids: Vec<MessageId> = ids.iter().map(|id| MessageId::from_queue(id)).collect();
        let limit = ids.len();
        let messages = queue.redrive(Some(ids), limit).await?;
        return Ok(Json(wire::RedriveAnswer { messages, more: false }));
    }
    Ok(Json(redrive_all(&*queue).await?))
}

/// Puts back all dead letters that there are now. Whoever stops waiting for it tears nothing apart: the queue ends each step that
/// it has begun.
async fn redrive_all(queue: &dyn Queue) -> Result<wire::RedriveAnswer, QueueError> {
    let calls_cost = queue.capabilities().calls_cost;
    let time = if calls_cost { REMOTE_REDRIVE_TIME } else { REDRIVE_TIME };
    let end = Instant::now() + time;
    // A message that fails again at once is dead again before this ends: so no more than there are now.
    let all = queue.counts().await?.dead;
    let mut messages = 0;
    while messages < all {
        let left = usize::try_from(all - messages).unwrap_or(usize::MAX);
        // Such a queue knows best how to put back many with few calls, and bounds the time by itself.
        let most = if calls_cost { usize::MAX } else { left.min(REDRIVE_STEP) };
        match queue.redrive(None, most).await {
            Ok(0) => break,
            Ok(redriven) => messages += redriven,
            // What was put back is to be told, and the next request finds the error if it lasts.
            Err(error) if messages > 0 && error.is_transient() => {
                tracing::warn!(queue = %queue.name(), messages, error = %chain(&error), "not all dead letters could be put back");
                return Ok(wire::RedriveAnswer { messages, more: true });
            }
            Err(error) => return Err(error),
        }
        if messages < all && Instant::now() >= end {
            return Ok(wire::RedriveAnswer { messages, more: true });
        }
    }
    Ok(wire::RedriveAnswer { messages, more: false })
}

impl AdminState {
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
