//! The routes that change chosen dead letters: by their ids, or by a filter.

use std::{sync::Arc, time::Duration};

use axum::{Extension, Json, extract::State, http::StatusCode};
use tokio::time::Instant;

use super::{
    AdminState, Answer, ReceivedBody,
    audit::DryRun,
    body::{RequestBodies, json},
    parameters::Path,
    peek::{parsed, parsed_cursor},
    redaction::RedactedView,
    refused::RefusedRequest,
    wire::{self, AffectedMessages, SweepAnswer, SweepRequest},
};
use sandhog_queue::{
    Queue, QueueError, SentAgain,
    message::{MessageId, QueueName},
    message_filter::MessageFilter,
    peek::{DeadLetterAction, DeadLetterSweep, PeekCursor, PeekRequest, PeekScope},
    printable::chain,
};

/// The time after which a request begins no further step: its client sees how far it is.
const SWEEP_TIME: Duration = Duration::from_secs(2);
/// The most dead letters of one step.
const STEP: usize = 256;
/// The most ids in the answer to a dry run.
const SHOWN_IDS: usize = 1000;

/// The answer to a sweep; one that was a dry run says so to the audit.
pub(crate) type AnswerOfSweep = Result<(Option<Extension<DryRun>>, Json<SweepAnswer>), RefusedRequest>;

#[utoipa::path(
    post,
    path = "/queues/{name}/dead/delete",
    operation_id = "delete_dead",
    tag = "dead letters",
    params(
        ("name" = String, Path, description = "The name of the queue"),
    ),
    request_body(content = SweepRequest),
    responses(
        (status = 200, body = SweepAnswer, description = "The dead letters with the given ids, or those that pass the filter, are deleted"),
        (status = 400, body = wire::ErrorAnswer, description = "The request is wrong"),
        (status = 404, body = wire::ErrorAnswer, description = "There is no such queue"),
        (status = 501, body = wire::ErrorAnswer, description = "This kind of queue has no such operation"),
        (status = 503, body = wire::ErrorAnswer, description = "The queue is unavailable"),
    ),
)]
pub(crate) async fn delete(
    State(state): State<AdminState>,
    Path(name): Path<String>,
    view: RedactedView,
    Extension(bodies): Extension<Arc<RequestBodies>>,
    body: ReceivedBody,
) -> AnswerOfSweep {
    let queue = state.find(&name)?;
    let request: SweepRequest = bodies.parse(body?, json).await?;
    let dry_run = request.dry_run.then_some(Extension(DryRun));
    match ChosenDeadLetters::of(request, &view)? {
        Some(chosen) => Ok((dry_run, Json(chosen.apply(&*queue, DeadLetterAction::Delete).await?))),
        None => Err(RefusedRequest::bad(
            "use ids or where; DELETE /queues/{name}/dead deletes all",
        )),
    }
}

#[utoipa::path(
    delete,
    path = "/queues/{name}/dead/{id}",
    operation_id = "delete_dead_letter",
    tag = "dead letters",
    params(
        ("name" = String, Path, description = "The name of the queue"),
        ("id" = String, Path, description = "The id of the message"),
    ),
    responses(
        (status = 200, body = AffectedMessages, description = "The dead letter is deleted"),
        (status = 404, body = wire::ErrorAnswer, description = "There is no such queue or dead letter"),
        (status = 501, body = wire::ErrorAnswer, description = "This kind of queue has no such operation"),
        (status = 503, body = wire::ErrorAnswer, description = "The queue is unavailable"),
    ),
)]
pub(crate) async fn delete_one(
    State(state): State<AdminState>,
    Path((name, id)): Path<(String, String)>,
) -> Answer<AffectedMessages> {
    let queue = state.find(&name)?;
    let messages = queue.delete_dead(vec![MessageId::from_queue(&id)]).await?;
    if messages == 0 {
        return Err(unknown(queue.name(), &id));
    }
    Ok(Json(AffectedMessages { messages }))
}

#[utoipa::path(
    post,
    path = "/queues/{name}/dead/{id}/edit",
    operation_id = "edit_dead_letter",
    tag = "dead letters",
    params(
        ("name" = String, Path, description = "The name of the queue"),
        ("id" = String, Path, description = "The id of the message"),
    ),
    request_body(content = wire::EditRequest),
    responses(
        (status = 200, body = wire::SentMessage, description = "A new message was sent in the place of the dead letter, which is deleted"),
        (status = 400, body = wire::ErrorAnswer, description = "The request is wrong"),
        (status = 404, body = wire::ErrorAnswer, description = "There is no such queue or dead letter, or somebody holds it"),
        (status = 501, body = wire::ErrorAnswer, description = "This kind of queue has no such operation"),
        (status = 503, body = wire::ErrorAnswer, description = "The queue is unavailable"),
        (status = 507, body = wire::ErrorAnswer, description = "The queue is full"),
    ),
)]
pub(crate) async fn edit(
    State(state): State<AdminState>,
    Path((name, id)): Path<(String, String)>,
    Extension(bodies): Extension<Arc<RequestBodies>>,
    body: ReceivedBody,
) -> Answer<wire::SentMessage> {
    let queue = state.find(&name)?;
    let request: wire::EditRequest = bodies.parse(body?, json).await?;
    let parent = MessageId::from_queue(&id);
    // What a dead letter says never changes, so that it may be read before the transaction that replaces it.
    let letter = queue.dead_letter(&parent).await?;
    let letter = letter.ok_or_else(|| unknown(queue.name(), &id))?;
    let again = SentAgain {
        message: request.apply(letter.message)?,
        parent,
        replaces: true,
    };
    let sent = queue.send_again(again).await?;
    let sent = sent.ok_or_else(|| unknown(queue.name(), &id))?;
    Ok(Json(wire::SentMessage { id: sent.to_string() }))
}

/// The dead letters that a request is about.
pub(crate) struct ChosenDeadLetters {
    choice: DeadLetterNames,
    dry_run: bool,
}

enum DeadLetterNames {
    Ids(Vec<MessageId>),
    Filter {
        filter: MessageFilter,
        after: Option<PeekCursor>,
    },
}

impl ChosenDeadLetters {
    /// Reads a request; `None` if it names none.
    pub(crate) fn of(request: SweepRequest, view: &RedactedView) -> Result<Option<Self>, RefusedRequest> {
        let SweepRequest {
            ids,
            filter,
            dry_run,
            after,
        } = request;
        let choice = match (ids, filter) {
            (Some(_), Some(_)) => return Err(RefusedRequest::bad("use either ids or where")),
            (None, None) if dry_run || after.is_some() => {
                return Err(RefusedRequest::bad("dry-run and after need ids or where"));
            }
            (None, None) => return Ok(None),
            (Some(ids), None) => DeadLetterNames::Ids(ids.iter().map(|id| MessageId::from_queue(id)).collect()),
            (None, Some(text)) => DeadLetterNames::Filter {
                filter: visible(&text, view)?,
                after: after.map(|after| parsed_cursor(&after, "after")).transpose()?,
            },
        };
        Ok(Some(Self { choice, dry_run }))
    }

    /// Does something with them, or with as many of them as there is time for.
    pub(crate) async fn apply(
        self,
        queue: &dyn Queue,
        action: DeadLetterAction,
    ) -> Result<SweepAnswer, RefusedRequest> {
        match self.choice {
            DeadLetterNames::Ids(ids) if self.dry_run => Ok(known(queue, ids).await?),
            DeadLetterNames::Ids(ids) => {
                let limit = ids.len();
                let messages = match action {
                    DeadLetterAction::Redrive => queue.redrive(Some(ids), limit).await?,
                    DeadLetterAction::Delete => queue.delete_dead(ids).await?,
                };
                Ok(SweepAnswer {
                    messages,
                    ..SweepAnswer::default()
                })
            }
            DeadLetterNames::Filter { filter, after } if self.dry_run => Ok(found(queue, filter, after).await?),
            DeadLetterNames::Filter { filter, after } => Ok(sweep(queue, action, filter, after).await?),
        }
    }
}

/// Returns the filter of a text, which asks for nothing that is hidden from the one who wrote it.
fn visible(text: &str, view: &RedactedView) -> Result<MessageFilter, RefusedRequest> {
    let filter = parsed(text)?;
    view.check(&filter)?;
    Ok(filter)
}

/// Returns which of the ids are those of dead letters.
async fn known(queue: &dyn Queue, ids: Vec<MessageId>) -> Result<SweepAnswer, QueueError> {
    let mut known = Vec::new();
    for id in ids {
        if queue.dead_letter(&id).await?.is_some() {
            known.push(id.to_string());
        }
    }
    Ok(SweepAnswer {
        messages: u64::try_from(known.len()).unwrap_or(u64::MAX),
        ids: Some(known),
        ..SweepAnswer::default()
    })
}

/// Returns the ids of some of the dead letters that pass a filter.
async fn found(queue: &dyn Queue, filter: MessageFilter, after: Option<PeekCursor>) -> Result<SweepAnswer, QueueError> {
    let request = PeekRequest {
        scope: PeekScope::DeadLetters,
        filter,
        after,
        limit: SHOWN_IDS,
        body_limit: Some(0),
    };
    let page = queue.peek(request).await?;
    let ids = page.messages.iter().map(|letter| letter.message.id.to_string());
    Ok(SweepAnswer {
        messages: u64::try_from(page.messages.len()).unwrap_or(u64::MAX),
        ids: Some(ids.collect()),
        more: page.next.is_some(),
        next: page.next.map(|next| next.to_string()),
        counted: Some(page.start.to_string()),
    })
}

/// Does steps until the time is over. Dropping the future leaves no step half done.
async fn sweep(
    queue: &dyn Queue,
    action: DeadLetterAction,
    filter: MessageFilter,
    mut after: Option<PeekCursor>,
) -> Result<SweepAnswer, QueueError> {
    let end = Instant::now() + SWEEP_TIME;
    let mut messages = 0;
    loop {
        let step = DeadLetterSweep {
            action,
            filter: filter.clone(),
            after,
            limit: STEP,
        };
        after = match queue.sweep_dead(step).await {
            Ok(swept) => {
                messages += swept.messages;
                swept.next
            }
            // The answer tells how many there were, and the next request finds the error if it lasts.
            Err(error) if messages > 0 && error.is_transient() && after.is_some() => {
                tracing::warn!(queue = %queue.name(), messages, error = %chain(&error), "not all dead letters could be reached");
                return Ok(part(messages, after));
            }
            Err(error) => return Err(error),
        };
        if after.is_none() || Instant::now() >= end {
            return Ok(part(messages, after));
        }
    }
}

/// Returns the answer to a sweep that goes on behind `after`, if there is one.
fn part(messages: u64, after: Option<PeekCursor>) -> SweepAnswer {
    SweepAnswer {
        messages,
        more: after.is_some(),
        next: after.map(|next| next.to_string()),
        ..SweepAnswer::default()
    }
}

fn unknown(queue: &QueueName, id: &str) -> RefusedRequest {
    let why = format!("queue {queue} has no dead letter {id:?} that nobody holds");
    RefusedRequest::new(StatusCode::NOT_FOUND, why)
}
