//! The routes of a queue's messages: send, receive, settle and purge.

use std::{sync::Arc, time::Duration};

use axum::{Extension, Json, body::Bytes, extract::State, http::StatusCode};

use super::{
    AdminState, Answer, ReceivedBody,
    body::{RequestBodies, json},
    parameters::{Path, QueryParameters},
    refused::RefusedRequest,
    wire::{self, AffectedMessages},
};
use sandhog_queue::{
    Delivery, Effects, SendError, SettleRequest, Settlement,
    message::{AttributeValue, Attributes, CheckedMessage, InvalidMessage, MAX_DELAY, Outgoing},
    printable::chain,
};

/// The longest wait of a receive, the same as on SQS.
const MAX_WAIT: Duration = Duration::from_secs(20);

pub(crate) async fn send(
    State(state): State<AdminState>,
    Path(name): Path<String>,
    parameters: QueryParameters,
    body: ReceivedBody,
) -> Answer<wire::SentMessage> {
    let queue = state.find(&name)?;
    let message = outgoing(parameters, body?)?;
    Ok(Json(wire::SentMessage {
        id: queue.send(message).await?.to_string(),
    }))
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

pub(crate) async fn send_batch(
    State(state): State<AdminState>,
    Path(name): Path<String>,
    Extension(bodies): Extension<Arc<RequestBodies>>,
    body: ReceivedBody,
) -> Answer<wire::BatchResults> {
    let queue = state.find(&name)?;
    let entries = bodies.parse(body?, entries).await?;
    let mut valid = Vec::with_capacity(entries.len());
    let checked: Vec<_> = entries
        .into_iter()
        .map(|entry| entry.map(|message| valid.push(message)))
        .collect();
    let mut sent = queue.send_many(valid).await.into_iter();
    let mut results = Vec::with_capacity(checked.len());
    for check in checked {
        let answer = check
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

pub(crate) async fn receive(
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
        let extended: Result<Vec<_>, _> = queue.extend(receipts, visibility).await.into_iter().collect();
        if let Err(error) = extended {
            // The client gets no delivery, so all of them go back at once.
            let release = |delivery: Delivery| SettleRequest {
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

pub(crate) async fn settle(
    State(state): State<AdminState>,
    Path(name): Path<String>,
    Extension(bodies): Extension<Arc<RequestBodies>>,
    body: ReceivedBody,
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
        .settle(vec![SettleRequest { receipt, settlement }], Effects::default())
        .await?
    {
        answer?;
    }
    Ok(Json(AffectedMessages { messages: 1 }))
}

pub(crate) async fn purge(State(state): State<AdminState>, Path(name): Path<String>) -> Answer<AffectedMessages> {
    Ok(Json(AffectedMessages {
        messages: state.find(&name)?.purge().await?,
    }))
}
