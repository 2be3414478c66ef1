//! The routes of a queue's dead letters: list, show, redrive and purge.

use std::{sync::Arc, time::Duration};

use axum::{Extension, Json, extract::State, http::StatusCode};
use tokio::time::Instant;

use super::{
    AdminState, Answer, ReceivedBody,
    audit::DryRun,
    body::{RequestBodies, json},
    caller::{Caller, CallerRight},
    chosen_dead::{AnswerOfSweep, ChosenDeadLetters},
    parameters::{Path, QueryParameters},
    peek::{cursor, parsed},
    redaction::RedactedView,
    refused::RefusedRequest,
    wire::{self, AffectedMessages},
};
use sandhog_queue::{
    DeadLetter, Queue, QueueError,
    message::{MAX_BODY_BYTES, MessageId},
    peek::{DeadLetterAction, PeekRequest, PeekScope},
    printable::chain,
};

/// The most dead letters that one transaction puts back.
const REDRIVE_STEP: usize = 1000;
/// The time after which a request begins no further step of a redrive: it is then answered before its limit.
const REDRIVE_TIME: Duration = Duration::from_secs(40);
/// The same for a remote queue, of which one step may take as long as a whole request.
const REMOTE_REDRIVE_TIME: Duration = Duration::from_secs(5);

#[utoipa::path(
    delete,
    path = "/queues/{name}/dead",
    operation_id = "purge_dead",
    tag = "dead letters",
    params(
        ("name" = String, Path, description = "The name of the queue"),
    ),
    responses(
        (status = 200, body = AffectedMessages, description = "The dead letters are deleted"),
        (status = 404, body = wire::ErrorAnswer, description = "There is no such queue"),
        (status = 503, body = wire::ErrorAnswer, description = "The queue is unavailable"),
    ),
)]
pub(crate) async fn purge(State(state): State<AdminState>, Path(name): Path<String>) -> Answer<AffectedMessages> {
    Ok(Json(AffectedMessages {
        messages: state.find(&name)?.purge_dead().await?,
    }))
}

#[utoipa::path(
    get,
    path = "/queues/{name}/dead",
    tag = "dead letters",
    params(
        ("name" = String, Path, description = "The name of the queue"),
        ("limit" = Option<u16>, Query, description = "1 to 1000, 100 if absent"),
        ("after" = Option<String>, Query, description = "The id of the last dead letter of the page before, which is still there"),
        ("where" = Option<String>, Query, description = "A filter, such as `reason ~ \"timeout\" and age > 1h`"),
        ("cursor" = Option<String>, Query, description = "With `where`: the `next` of the page before"),
        ("body-limit" = Option<u32>, Query, description = "The bytes of each body that are shown; whole bodies if absent"),
    ),
    responses(
        (status = 200, body = wire::DeadLetterList, description = "Dead letters, oldest first"),
        (status = 400, body = wire::ErrorAnswer, description = "The request is wrong"),
        (status = 404, body = wire::ErrorAnswer, description = "There is no such queue, or no dead letter with the id in `after`"),
        (status = 503, body = wire::ErrorAnswer, description = "The queue is unavailable"),
    ),
)]
pub(crate) async fn list(
    State(state): State<AdminState>,
    Path(name): Path<String>,
    view: RedactedView,
    caller: Option<Extension<Caller>>,
    mut parameters: QueryParameters,
) -> Answer<wire::DeadLetterList> {
    let queue = state.find(&name)?;
    check_receive(caller, &*queue)?;
    let limit = parameters.number("limit", 1..=1000)?.unwrap_or(100);
    let after = parameters.take("after").map(|id| MessageId::from_queue(&id));
    let filter = parameters.take("where");
    let cursor = cursor(&mut parameters, "cursor")?;
    let body_limit = parameters.number("body-limit", 0..=MAX_BODY_BYTES)?;
    parameters.finish()?;
    if let Some(filter) = filter {
        let filter = parsed(&filter)?;
        view.check(&filter)?;
        if after.is_some() {
            return Err(RefusedRequest::bad(
                "a page with where goes on with cursor, and not with after",
            ));
        }
        let page = queue
            .peek(PeekRequest {
                scope: PeekScope::DeadLetters,
                filter,
                after: cursor,
                limit,
                body_limit: body_limit.filter(|limit| *limit == 0 || !view.needs_whole()),
            })
            .await?;
        let letters = page.messages.into_iter();
        let letters = letters.map(|letter| wire::MessageForm::peeked(queue.name(), letter));
        return Ok(Json(wire::DeadLetterList {
            dead_letters: view.shown(letters.collect(), body_limit).await?,
            more: page.next.is_some(),
            next: page.next.map(|next| next.to_string()),
            counted: Some(page.start.to_string()),
        }));
    }
    if let Some(after) = &after {
        check_place(&*queue, after).await?;
    }
    let letters = queue.dead_letters(after, limit).await?;
    let more = are_behind(&*queue, &letters, limit).await?;
    let letters = letters.into_iter().map(wire::MessageForm::dead);
    Ok(Json(wire::DeadLetterList {
        dead_letters: view.shown(letters.collect(), body_limit).await?,
        more,
        next: None,
        counted: None,
    }))
}

/// Refuses to look at dead letters that have to be received for that, which hides them from others and is counted, for somebody who may
/// change nothing.
fn check_receive(caller: Option<Extension<Caller>>, queue: &dyn Queue) -> Result<(), RefusedRequest> {
    let may_change = caller.is_some_and(|Extension(caller)| caller.right == CallerRight::All);
    if may_change || !queue.capabilities().calls_cost {
        return Ok(());
    }
    let why = "to look at dead letters of this queue is to receive them, which hides them for a while: this needs the secret of the listener";
    Err(RefusedRequest::new(StatusCode::FORBIDDEN, why))
}

/// Refuses a page behind a dead letter that is not there: nobody knows where that would be, and it is not the end.
async fn check_place(queue: &dyn Queue, after: &MessageId) -> Result<(), RefusedRequest> {
    if !queue.capabilities().pages_dead_letters || queue.dead_letter(after).await?.is_some() {
        return Ok(());
    }
    let why = format!(
        "after={after}: queue {} has no dead letter with this id (any more), so begin again without after",
        queue.name()
    );
    Err(RefusedRequest::new(StatusCode::NOT_FOUND, why))
}

/// Returns whether there are dead letters after a page, which its length does not tell.
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

#[utoipa::path(
    get,
    path = "/queues/{name}/dead/{id}",
    tag = "dead letters",
    params(
        ("name" = String, Path, description = "The name of the queue"),
        ("id" = String, Path, description = "The id of the message"),
    ),
    responses(
        (status = 200, body = wire::MessageForm, description = "The dead letter"),
        (status = 404, body = wire::ErrorAnswer, description = "There is no such queue"),
        (status = 503, body = wire::ErrorAnswer, description = "The queue is unavailable"),
    ),
)]
pub(crate) async fn show(
    State(state): State<AdminState>,
    Path((name, id)): Path<(String, String)>,
    view: RedactedView,
    caller: Option<Extension<Caller>>,
) -> Answer<wire::MessageForm> {
    let queue = state.find(&name)?;
    check_receive(caller, &*queue)?;
    let letter = queue.dead_letter(&MessageId::from_queue(&id)).await?;
    let unknown = || RefusedRequest::new(StatusCode::NOT_FOUND, format!("queue {name} has no dead letter {id:?}"));
    let letter = wire::MessageForm::dead(letter.ok_or_else(unknown)?);
    let shown = view.shown(vec![letter], None).await?;
    Ok(Json(shown.into_iter().next().ok_or_else(unknown)?))
}

#[utoipa::path(
    post,
    path = "/queues/{name}/dead/redrive",
    tag = "dead letters",
    params(
        ("name" = String, Path, description = "The name of the queue"),
    ),
    request_body(content = Option<wire::SweepRequest>),
    responses(
        (status = 200, body = wire::SweepAnswer, description = "The dead letters are put back"),
        (status = 400, body = wire::ErrorAnswer, description = "The request is wrong"),
        (status = 404, body = wire::ErrorAnswer, description = "There is no such queue"),
        (status = 503, body = wire::ErrorAnswer, description = "The queue is unavailable"),
    ),
)]
pub(crate) async fn redrive(
    State(state): State<AdminState>,
    Path(name): Path<String>,
    view: RedactedView,
    Extension(bodies): Extension<Arc<RequestBodies>>,
    body: ReceivedBody,
) -> AnswerOfSweep {
    let queue = state.find(&name)?;
    let body = body?;
    let request: wire::SweepRequest = if body.is_empty() {
        wire::SweepRequest::default()
    } else {
        bodies.parse(body, json).await?
    };
    let dry_run = request.dry_run.then_some(Extension(DryRun));
    match ChosenDeadLetters::of(request, &view)? {
        Some(chosen) => Ok((dry_run, Json(chosen.apply(&*queue, DeadLetterAction::Redrive).await?))),
        None => Ok((None, Json(redrive_all(&*queue).await?))),
    }
}

/// Puts back all dead letters of this moment. Dropping the future leaves no step half done: the queue ends each step that it has
/// begun.
async fn redrive_all(queue: &dyn Queue) -> Result<wire::SweepAnswer, QueueError> {
    let calls_cost = queue.capabilities().calls_cost;
    let time = if calls_cost { REMOTE_REDRIVE_TIME } else { REDRIVE_TIME };
    let end = Instant::now() + time;
    // A message that fails again at once can be dead again before the redrive ends, so the redrive is bounded by this count.
    let all = queue.counts().await?.dead;
    let mut messages = 0;
    while messages < all {
        let left = usize::try_from(all - messages).unwrap_or(usize::MAX);
        // Such a queue knows best how to put back many with few calls, and bounds the time by itself.
        let most = if calls_cost { usize::MAX } else { left.min(REDRIVE_STEP) };
        match queue.redrive(None, most).await {
            Ok(0) => break,
            Ok(redriven) => messages += redriven,
            // The answer tells how many were put back, and the next request finds the error if it lasts.
            Err(error) if messages > 0 && error.is_transient() => {
                tracing::warn!(queue = %queue.name(), messages, error = %chain(&error), "not all dead letters could be put back");
                return Ok(partly(messages, true));
            }
            Err(error) => return Err(error),
        }
        if messages < all && Instant::now() >= end {
            return Ok(partly(messages, true));
        }
    }
    Ok(partly(messages, false))
}

fn partly(messages: u64, more: bool) -> wire::SweepAnswer {
    wire::SweepAnswer {
        messages,
        more,
        ..wire::SweepAnswer::default()
    }
}
