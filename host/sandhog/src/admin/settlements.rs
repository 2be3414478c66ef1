//! The routes that end deliveries and extend them, one or up to a thousand in a request.
//!
//! A request with one receipt is answered by its status. One with a list is answered entry by entry, and the entries are one
//! transaction of a Simple queue.

use std::{sync::Arc, time::Duration};

use axum::{Extension, Json, extract::State, http::StatusCode};

use super::{
    AdminState, Answer, ReceivedBody,
    body::{RequestBodies, json},
    parameters::Path,
    refused::RefusedRequest,
    wire::{self, SettleAction, SettleEntry},
};
use sandhog_queue::{
    Effects, ExtendError, FailureKind, FailureRecord, Queue, Receipt, SettleError, SettleRequest, Settlement,
    message::MAX_DELAY,
    printable::{chain, printable, printable_lines},
};

/// The longest reason that is kept of a failure, in bytes.
const MAX_REASON_BYTES: usize = 4096;
/// The longest part of a wrong value that an answer repeats, in bytes.
const SHOWN_BYTES: usize = 100;

#[utoipa::path(
    post,
    path = "/queues/{name}/settle",
    tag = "messages",
    params(
        ("name" = String, Path, description = "The name of the queue"),
    ),
    request_body(content = wire::SettleForm),
    responses(
        (status = 200, body = wire::SettleAnswer, description = "The delivery has ended, or what became of each"),
        (status = 400, body = wire::ErrorAnswer, description = "The request is wrong"),
        (status = 404, body = wire::ErrorAnswer, description = "There is no such queue"),
        (status = 409, body = wire::ErrorAnswer, description = "The receipt is no longer valid"),
        (status = 503, body = wire::ErrorAnswer, description = "The queue is unavailable"),
    ),
)]
pub(crate) async fn settle(
    State(state): State<AdminState>,
    Path(name): Path<String>,
    Extension(bodies): Extension<Arc<RequestBodies>>,
    body: ReceivedBody,
) -> Answer<wire::SettleAnswer> {
    let queue = state.find(&name)?;
    let request: wire::SettleForm = bodies.parse(body?, json).await?;
    match request {
        wire::SettleForm::One(entry) => {
            let settle = settle_request(&entry)?;
            for answer in queue.settle(vec![settle], Effects::default()).await? {
                answer?;
            }
            Ok(Json(wire::SettleAnswer::One { messages: 1 }))
        }
        wire::SettleForm::Many { settlements } => settle_many(&*queue, &settlements).await,
    }
}

async fn settle_many(queue: &dyn Queue, entries: &[SettleEntry]) -> Answer<wire::SettleAnswer> {
    check_number(entries.len(), "settlements")?;
    let requests: Vec<_> = entries.iter().map(settle_request).collect();
    let valid = requests
        .iter()
        .filter_map(|request| request.as_ref().ok().cloned())
        .collect();
    let mut answers = queue.settle(valid, Effects::default()).await?.into_iter();
    let result = |request: &Result<SettleRequest, RefusedRequest>| match request {
        Err(refused) => wire::EntryResult::refused(refused.to_string(), false),
        Ok(_) => match answers.next() {
            Some(Err(error)) => {
                let again = matches!(error, SettleError::Queue(_) | SettleError::DeadLetterRefused { .. });
                wire::EntryResult::refused(chain(&error), again)
            }
            Some(Ok(())) | None => wire::EntryResult::done(),
        },
    };
    let results = requests.iter().map(result).collect();
    Ok(Json(wire::SettleAnswer::Many { results }))
}

fn check_number(number: usize, what: &str) -> Result<(), RefusedRequest> {
    if (1..=wire::MAX_BATCH).contains(&number) {
        return Ok(());
    }
    let why = format!("{number} {what}: send 1 to {}", wire::MAX_BATCH);
    Err(RefusedRequest::new(StatusCode::BAD_REQUEST, why))
}

fn receipt(text: &str) -> Result<Receipt, RefusedRequest> {
    wire::parse_receipt(text).ok_or_else(|| {
        let why = format!("{:?} is not a receipt", printable(text, SHOWN_BYTES));
        RefusedRequest::new(StatusCode::BAD_REQUEST, why)
    })
}

fn settle_request(entry: &SettleEntry) -> Result<SettleRequest, RefusedRequest> {
    let only_for = |what: &str, action: &str| {
        let why = format!("{what} is for the action {action:?} only");
        Err(RefusedRequest::new(StatusCode::BAD_REQUEST, why))
    };
    if entry.delay.is_some() && entry.action != SettleAction::Retry {
        return only_for("delay", "retry");
    }
    if entry.reason.is_some() && matches!(entry.action, SettleAction::Delete | SettleAction::Release) {
        return only_for("reason", "retry\" and \"reject");
    }
    let failure = |kind| FailureRecord {
        kind,
        reason: printable_lines(entry.reason.as_deref().unwrap_or_default(), MAX_REASON_BYTES),
        handler: String::new(),
        component: String::new(),
    };
    let settlement = match entry.action {
        SettleAction::Delete => Settlement::Delete,
        SettleAction::Release => Settlement::Release,
        SettleAction::Retry => Settlement::Retry {
            delay: entry.delay.as_deref().map(delay).transpose()?.unwrap_or_default(),
            failure: failure(FailureKind::Retry),
        },
        SettleAction::Reject => Settlement::DeadLetter {
            failure: failure(FailureKind::Reject),
        },
    };
    Ok(SettleRequest {
        receipt: receipt(&entry.receipt)?,
        settlement,
    })
}

fn delay(text: &str) -> Result<Duration, RefusedRequest> {
    let delay = humantime::parse_duration(text).ok().filter(|delay| *delay <= MAX_DELAY);
    delay.ok_or_else(|| {
        let why = format!(
            "delay {:?}: use a duration of at most 12h, such as \"5s\"",
            printable(text, SHOWN_BYTES)
        );
        RefusedRequest::new(StatusCode::BAD_REQUEST, why)
    })
}

#[utoipa::path(
    post,
    path = "/queues/{name}/extend",
    tag = "messages",
    params(
        ("name" = String, Path, description = "The name of the queue"),
    ),
    request_body(content = wire::ExtendRequest),
    responses(
        (status = 200, body = wire::ExtendAnswer, description = "What became of each receipt"),
        (status = 400, body = wire::ErrorAnswer, description = "The request is wrong"),
        (status = 404, body = wire::ErrorAnswer, description = "There is no such queue"),
        (status = 503, body = wire::ErrorAnswer, description = "The queue is unavailable"),
    ),
)]
pub(crate) async fn extend(
    State(state): State<AdminState>,
    Path(name): Path<String>,
    Extension(bodies): Extension<Arc<RequestBodies>>,
    body: ReceivedBody,
) -> Answer<wire::ExtendAnswer> {
    let queue = state.find(&name)?;
    let request: wire::ExtendRequest = bodies.parse(body?, json).await?;
    check_number(request.receipts.len(), "receipts")?;
    let visibility = humantime::parse_duration(&request.visibility)
        .ok()
        .filter(|visibility| (Duration::from_secs(1)..=MAX_DELAY).contains(visibility));
    let visibility =
        visibility.ok_or_else(|| RefusedRequest::new(StatusCode::BAD_REQUEST, "visibility: use 1s to 12h"))?;
    let receipts: Vec<_> = request.receipts.iter().map(|text| receipt(text)).collect();
    let valid = receipts
        .iter()
        .filter_map(|receipt| receipt.as_ref().ok().cloned())
        .collect();
    let mut answers = queue.extend(valid, visibility).await.into_iter();
    let result = |receipt: &Result<Receipt, RefusedRequest>| match receipt {
        Err(refused) => wire::EntryResult::refused(refused.to_string(), false),
        Ok(_) => match answers.next() {
            Some(Err(error)) => {
                let again = matches!(error, ExtendError::Queue(_));
                wire::EntryResult::refused(chain(&error), again)
            }
            Some(Ok(_)) | None => wire::EntryResult::done(),
        },
    };
    Ok(Json(wire::ExtendAnswer {
        results: receipts.iter().map(result).collect(),
    }))
}
