//! The routes of a queue's messages: send, receive and purge. `settlements.rs` has those that end a delivery or extend it.

use std::{sync::Arc, time::Duration};

use axum::{Extension, Json, body::Bytes, extract::State, http::StatusCode};

use super::{
    AdminState, Answer, ReceivedBody,
    body::{RequestBodies, json},
    parameters::{Path, QueryParameters},
    refused::RefusedRequest,
    traced::RequestTrace,
    wire::{self, AffectedMessages},
};
use crate::{halts::receive_unhalted, metrics::SendDoor};
use sandhog_queue::{
    Delivery, Effects, Queue, SendError, SettleRequest, Settlement,
    message::{AttributeValue, Attributes, CheckedMessage, InvalidMessage, MAX_DELAY, Outgoing},
    printable::chain,
};
use sandhog_simple::{SimpleQueue, receive_terms::ReceiveTerms};

/// The longest wait of a receive, the same as on SQS.
const MAX_WAIT: Duration = Duration::from_secs(20);
/// The most messages of a receive. Their bodies are bounded too.
const MAX_RECEIVED: usize = 1000;

#[utoipa::path(
    post,
    path = "/queues/{name}",
    tag = "messages",
    params(
        ("name" = String, Path, description = "The name of the queue"),
        ("group" = Option<String>, Query, description = "The message group"),
        ("dedup" = Option<String>, Query, description = "The deduplication id"),
        ("delay" = Option<String>, Query, description = "A duration such as 5s, at most 12h"),
        ("priority" = Option<u8>, Query, description = "0 to 9"),
        ("attr.NAME" = Option<String>, Query, description = "The attribute NAME of the message, a text"),
    ),
    request_body(content_type = "application/octet-stream", description = "The body of the message: any bytes"),
    responses(
        (status = 200, body = wire::SentMessage, description = "The message is stored"),
        (status = 400, body = wire::ErrorAnswer, description = "The request is wrong"),
        (status = 404, body = wire::ErrorAnswer, description = "There is no such queue"),
        (status = 507, body = wire::ErrorAnswer, description = "The queue is full"),
        (status = 503, body = wire::ErrorAnswer, description = "The queue is unavailable"),
    ),
)]
pub(crate) async fn send(
    State(state): State<AdminState>,
    Path(name): Path<String>,
    parameters: QueryParameters,
    trace: Option<RequestTrace>,
    body: ReceivedBody,
) -> Answer<wire::SentMessage> {
    let queue = state.find(&name)?;
    let invalid = |_: &RefusedRequest| state.metrics.refused_as_invalid(&name, SendDoor::Http);
    let mut message = outgoing(parameters, body?).inspect_err(invalid)?;
    if let Some(trace) = trace {
        trace.give(&*queue, std::slice::from_mut(&mut message)).await;
    }
    let sent = queue.send(message).await;
    let answers = std::slice::from_ref(&sent);
    state.metrics.sent_through(SendDoor::Http, &name, answers);
    Ok(Json(wire::SentMessage { id: sent?.to_string() }))
}

fn outgoing(mut parameters: QueryParameters, body: Bytes) -> Result<CheckedMessage, RefusedRequest> {
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
    Ok(message.check()?)
}

#[utoipa::path(
    post,
    path = "/queues/{name}/batch",
    tag = "messages",
    params(
        ("name" = String, Path, description = "The name of the queue"),
    ),
    request_body(content = wire::SendBatch),
    responses(
        (status = 200, body = wire::BatchResults, description = "What became of each message"),
        (status = 400, body = wire::ErrorAnswer, description = "The request is wrong"),
        (status = 404, body = wire::ErrorAnswer, description = "There is no such queue"),
        (status = 503, body = wire::ErrorAnswer, description = "The queue is unavailable"),
    ),
)]
pub(crate) async fn send_batch(
    State(state): State<AdminState>,
    Path(name): Path<String>,
    Extension(bodies): Extension<Arc<RequestBodies>>,
    trace: Option<RequestTrace>,
    body: ReceivedBody,
) -> Answer<wire::BatchResults> {
    let queue = state.find(&name)?;
    let entries = bodies.parse(body?, entries).await?;
    let mut valid = Vec::with_capacity(entries.len());
    let checked: Vec<_> = entries
        .into_iter()
        .map(|entry| entry.map(|message| valid.push(message)))
        .collect();
    if let Some(trace) = trace {
        trace.give(&*queue, &mut valid).await;
    }
    let sent = queue.send_many(valid).await;
    state.metrics.sent_through(SendDoor::Http, &name, &sent);
    let mut sent = sent.into_iter();
    let mut results = Vec::with_capacity(checked.len());
    for check in checked {
        let invalid = |_: &InvalidMessage| state.metrics.refused_as_invalid(&name, SendDoor::Http);
        let answer = check
            .inspect_err(invalid)
            .map_err(SendError::from)
            .and_then(|()| sent.next().expect("one answer per message"));
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

fn entries(body: &[u8]) -> Result<Vec<Result<CheckedMessage, InvalidMessage>>, RefusedRequest> {
    let batch: wire::SendBatch = json(body)?;
    if batch.messages.is_empty() {
        let why = format!("0 messages: send 1 to {}", wire::MAX_BATCH);
        return Err(RefusedRequest::new(StatusCode::BAD_REQUEST, why));
    }
    Ok(batch
        .messages
        .into_iter()
        .map(wire::OutgoingForm::into_message)
        .collect())
}

#[utoipa::path(
    post,
    path = "/queues/{name}/receive",
    tag = "messages",
    params(
        ("name" = String, Path, description = "The name of the queue"),
        ("max" = Option<u16>, Query, description = "1 to 1000, 1 if absent"),
        ("wait" = Option<String>, Query, description = "0s to 20s, 0s if absent"),
        ("visibility" = Option<String>, Query, description = "1s to 12h, that of the queue if absent"),
    ),
    responses(
        (status = 200, body = wire::MessageList, description = "The messages, which are hidden from others now"),
        (status = 400, body = wire::ErrorAnswer, description = "The request is wrong"),
        (status = 404, body = wire::ErrorAnswer, description = "There is no such queue"),
        (status = 503, body = wire::ErrorAnswer, description = "The queue is unavailable"),
    ),
)]
pub(crate) async fn receive(
    State(state): State<AdminState>,
    Path(name): Path<String>,
    mut parameters: QueryParameters,
) -> Answer<wire::MessageList> {
    let queue = state.find(&name)?;
    let max = parameters.number("max", 1..=MAX_RECEIVED)?.unwrap_or(1);
    let wait = parameters.duration("wait", MAX_WAIT)?.unwrap_or_default();
    let visibility = parameters.duration("visibility", MAX_DELAY)?;
    parameters.finish()?;
    if visibility.is_some_and(|visibility| visibility < Duration::from_secs(1)) {
        return Err(RefusedRequest::new(
            StatusCode::BAD_REQUEST,
            "visibility: use 1s to 12h",
        ));
    }
    let (queues, source) = (&state.queues, &queue);
    let received = receive_unhalted(&state.halts, queue.name(), wait, async |wait| {
        match queues.simple(source.name()) {
            Some(simple) => receive_simple(&simple.queue, max, wait, visibility).await,
            None => receive_remote(&**source, max, wait, visibility).await,
        }
    });
    let deliveries = tokio::select! {
        deliveries = received => deliveries?,
        () = state.draining.cancelled() => Vec::new(),
    };
    let form = |delivery| wire::MessageForm::received(queue.name(), delivery);
    Ok(Json(wire::MessageList {
        messages: deliveries.into_iter().map(form).collect(),
    }))
}

async fn receive_simple(
    queue: &SimpleQueue,
    max: usize,
    wait: Duration,
    visibility: Option<Duration>,
) -> Result<Vec<Delivery>, RefusedRequest> {
    let terms = ReceiveTerms {
        visibility_timeout: visibility,
        ..ReceiveTerms::OUTSIDE
    };
    let received = queue.receive_on(max, wait, terms).await?;
    Ok(received.into_iter().map(|received| received.delivery).collect())
}

/// Receives from a queue whose receives hide messages for one time only, and extends it then.
async fn receive_remote(
    queue: &dyn Queue,
    max: usize,
    wait: Duration,
    visibility: Option<Duration>,
) -> Result<Vec<Delivery>, RefusedRequest> {
    let deliveries = queue.receive(max, wait).await?;
    let Some(visibility) = visibility else {
        return Ok(deliveries);
    };
    let receipts = deliveries.iter().map(|delivery| delivery.receipt.clone()).collect();
    let extended: Result<Vec<_>, _> = queue.extend(receipts, visibility).await.into_iter().collect();
    let Err(error) = extended else {
        return Ok(deliveries);
    };
    // The client gets no delivery, so all of them go back at once.
    let release = |delivery: Delivery| SettleRequest {
        receipt: delivery.receipt,
        settlement: Settlement::Release,
    };
    let releases = deliveries.into_iter().map(release).collect();
    drop(queue.settle(releases, Effects::default()).await);
    Err(RefusedRequest::new(StatusCode::SERVICE_UNAVAILABLE, chain(&error)))
}

#[utoipa::path(
    delete,
    path = "/queues/{name}/messages",
    tag = "messages",
    params(
        ("name" = String, Path, description = "The name of the queue"),
    ),
    responses(
        (status = 200, body = AffectedMessages, description = "The messages that were not in flight are deleted"),
        (status = 404, body = wire::ErrorAnswer, description = "There is no such queue"),
        (status = 503, body = wire::ErrorAnswer, description = "The queue is unavailable"),
    ),
)]
pub(crate) async fn purge(State(state): State<AdminState>, Path(name): Path<String>) -> Answer<AffectedMessages> {
    Ok(Json(AffectedMessages {
        messages: state.find(&name)?.purge().await?,
    }))
}
