//! The routes that look at messages without receiving them, and the one that sends such a message again.

use std::time::Duration;

use axum::{Json, extract::State, http::StatusCode};
use tokio::time::Instant;

use super::{
    AdminState, Answer,
    parameters::{Path, QueryParameters},
    redaction::RedactedView,
    refused::RefusedRequest,
    wire,
};
use crate::filter_text::parse_filter;
use sandhog_queue::{
    Queue, SentAgain,
    message::{MAX_BODY_BYTES, Outgoing, QueueName},
    message_filter::{
        AgeRelation, FilterClause, FilterField, InvalidFilter, MessageFilter, MessageStanding, TextRelation,
    },
    peek::{InvalidCursor, PeekCursor, PeekRequest, PeekScope, PeekedMessage},
};

/// The bytes of a body that are shown unless the request says otherwise.
const BODY_LIMIT: usize = 4096;
/// The time after which a request for one message looks no further: it is then answered before its limit.
const ONE_TIME: Duration = Duration::from_secs(40);
/// The longest age in a filter.
const MAX_AGE: Duration = Duration::from_hours(24 * 365 * 100);

#[utoipa::path(
    get,
    path = "/queues/{name}/messages",
    operation_id = "peek",
    tag = "messages",
    params(
        ("name" = String, Path, description = "The name of the queue"),
        ("limit" = Option<u16>, Query, description = "1 to 1000, 100 if absent"),
        ("after" = Option<String>, Query, description = "The `next` of the page before"),
        ("state" = Option<String>, Query, description = "ready, held, in-flight, delayed, retry or damaged"),
        ("contains" = Option<String>, Query, description = "A text in the body, in upper and lower case as it is there"),
        ("id" = Option<String>, Query, description = "The id"),
        ("group" = Option<String>, Query, description = "The message group"),
        ("older-than" = Option<String>, Query, description = "A duration since the message was sent or, if it is a dead letter, since it became one"),
        ("newer-than" = Option<String>, Query, description = "The same"),
        ("attr.NAME" = Option<String>, Query, description = "The value of the attribute NAME"),
        ("where" = Option<String>, Query, description = "A filter, such as `reason ~ \"timeout\" and age > 1h`"),
        ("body-limit" = Option<u32>, Query, description = "The bytes of each body that are shown, 4096 if absent"),
        ("whole" = Option<bool>, Query, description = "Show whole bodies"),
    ),
    responses(
        (status = 200, body = wire::PeekedList, description = "Messages, which were not received by that"),
        (status = 400, body = wire::ErrorAnswer, description = "The request is wrong"),
        (status = 404, body = wire::ErrorAnswer, description = "There is no such queue"),
        (status = 501, body = wire::ErrorAnswer, description = "This kind of queue has no such operation"),
        (status = 503, body = wire::ErrorAnswer, description = "The queue is unavailable"),
    ),
)]
pub(crate) async fn list(
    State(state): State<AdminState>,
    Path(name): Path<String>,
    view: RedactedView,
    mut parameters: QueryParameters,
) -> Answer<wire::PeekedList> {
    let queue = state.find(&name)?;
    let mut request = PeekRequest {
        scope: PeekScope::Messages,
        limit: parameters.number("limit", 1..=1000)?.unwrap_or(100),
        after: cursor(&mut parameters, "after")?,
        filter: filter(&mut parameters)?,
        body_limit: body_limit(&mut parameters)?,
    };
    parameters.finish()?;
    view.check(&request.filter)?;
    let shown = request.body_limit;
    if view.needs_whole() {
        request.body_limit = None;
    }
    let page = wire::PeekedList::from(queue.peek(request).await?);
    let messages = view.shown(page.messages, shown).await?;
    Ok(Json(wire::PeekedList { messages, ..page }))
}

#[utoipa::path(
    get,
    path = "/queues/{name}/messages/{id}",
    operation_id = "peek_one",
    tag = "messages",
    params(
        ("name" = String, Path, description = "The name of the queue"),
        ("id" = String, Path, description = "The id of the message"),
    ),
    responses(
        (status = 200, body = wire::PeekedForm, description = "The message, which was not received by that"),
        (status = 404, body = wire::ErrorAnswer, description = "There is no such queue or message"),
        (status = 501, body = wire::ErrorAnswer, description = "This kind of queue has no such operation"),
        (status = 503, body = wire::ErrorAnswer, description = "The queue is unavailable"),
    ),
)]
pub(crate) async fn show(
    State(state): State<AdminState>,
    Path((name, id)): Path<(String, String)>,
    view: RedactedView,
) -> Answer<wire::PeekedForm> {
    let queue = state.find(&name)?;
    let found = find(&*queue, &id, PeekScope::Messages).await?;
    let unknown = || unknown(queue.name(), &id);
    let found = wire::PeekedForm::from(found.ok_or_else(unknown)?);
    let shown = view.shown(vec![found], None).await?;
    Ok(Json(shown.into_iter().next().ok_or_else(unknown)?))
}

#[utoipa::path(
    post,
    path = "/queues/{name}/messages/{id}/again",
    operation_id = "send_again",
    tag = "messages",
    params(
        ("name" = String, Path, description = "The name of the queue"),
        ("id" = String, Path, description = "The id of a message in the queue, or of a dead letter of it"),
    ),
    responses(
        (status = 200, body = wire::SentMessage, description = "A copy was sent to the queue; the message stays as it was"),
        (status = 404, body = wire::ErrorAnswer, description = "There is no such queue or message"),
        (status = 409, body = wire::ErrorAnswer, description = "The message is damaged"),
        (status = 501, body = wire::ErrorAnswer, description = "This kind of queue has no such operation"),
        (status = 503, body = wire::ErrorAnswer, description = "The queue is unavailable"),
        (status = 507, body = wire::ErrorAnswer, description = "The queue is full"),
    ),
)]
pub(crate) async fn send_again(
    State(state): State<AdminState>,
    Path((name, id)): Path<(String, String)>,
) -> Answer<wire::SentMessage> {
    let queue = state.find(&name)?;
    // Dead letters are found by their ids at once; the messages of a queue are looked at one after another.
    let found = match find(&*queue, &id, PeekScope::DeadLetters).await? {
        Some(letter) => Some(letter),
        None => find(&*queue, &id, PeekScope::Messages).await?,
    };
    let found = found.ok_or_else(|| unknown(queue.name(), &id))?;
    if let Some(damage) = found.damage {
        let why = format!("message {id:?} is damaged and can't be sent again: {damage}");
        return Err(RefusedRequest::new(StatusCode::CONFLICT, why));
    }
    let message = found.message;
    let copy = Outgoing {
        attributes: message.attributes,
        group_id: message.group_id,
        priority: Some(message.priority),
        ..Outgoing::new(message.body)
    };
    let again = SentAgain {
        message: copy.check()?,
        parent: message.id,
        replaces: false,
    };
    let sent = queue.send_again(again).await?;
    let id = sent.ok_or_else(|| unknown(queue.name(), &id))?;
    Ok(Json(wire::SentMessage { id: id.to_string() }))
}

/// Looks for one message, for as long as a request may take.
async fn find(queue: &dyn Queue, id: &str, scope: PeekScope) -> Result<Option<PeekedMessage>, RefusedRequest> {
    let end = Instant::now() + ONE_TIME;
    let mut after = None;
    loop {
        let page = queue
            .peek(PeekRequest {
                scope,
                filter: MessageFilter::of_id(id),
                after,
                limit: 1,
                body_limit: None,
            })
            .await?;
        if let Some(found) = page.messages.into_iter().next() {
            return Ok(Some(found));
        }
        after = page.next;
        if after.is_none() {
            return Ok(None);
        }
        if Instant::now() >= end {
            let why = format!("looking for message {id:?} in queue {} takes too long", queue.name());
            return Err(RefusedRequest::new(StatusCode::SERVICE_UNAVAILABLE, why));
        }
    }
}

fn unknown(queue: &QueueName, id: &str) -> RefusedRequest {
    RefusedRequest::new(StatusCode::NOT_FOUND, format!("queue {queue} has no message {id:?}"))
}

/// Takes the parameters that make up the filter.
fn filter(parameters: &mut QueryParameters) -> Result<MessageFilter, RefusedRequest> {
    let mut clauses = match parameters.take("where") {
        Some(text) => parsed(&text)?.into_clauses(),
        None => Vec::new(),
    };
    if let Some(state) = parameters.take("state") {
        let known = MessageStanding::ALL.map(MessageStanding::as_str).join(", ");
        let standing = MessageStanding::from_text(&state);
        let standing = standing.ok_or_else(|| RefusedRequest::bad(format!("state={state}: use one of {known}")))?;
        clauses.push(FilterClause::Standing { is: true, standing });
    }
    let mut text = |field, relation, value| clauses.push(FilterClause::Text { field, relation, value });
    if let Some(value) = parameters.take("contains") {
        text(FilterField::Body, TextRelation::Contains, value);
    }
    if let Some(value) = parameters.take("id") {
        text(FilterField::Id, TextRelation::Is, value);
    }
    if let Some(value) = parameters.take("group") {
        text(FilterField::Group, TextRelation::Is, value);
    }
    for (name, value) in parameters.take_prefixed("attr.") {
        text(FilterField::Attribute(name), TextRelation::Is, value);
    }
    for (key, relation) in [("older-than", AgeRelation::Older), ("newer-than", AgeRelation::Younger)] {
        if let Some(age) = parameters.duration(key, MAX_AGE)? {
            clauses.push(FilterClause::Age { relation, age });
        }
    }
    MessageFilter::new(clauses).map_err(|error: InvalidFilter| RefusedRequest::bad(error.to_string()))
}

/// Returns the filter that a text stands for.
pub(crate) fn parsed(text: &str) -> Result<MessageFilter, RefusedRequest> {
    parse_filter(text).map_err(|mistake| RefusedRequest::bad(mistake.to_string()))
}

/// Takes the place where a page goes on.
pub(crate) fn cursor(
    parameters: &mut QueryParameters,
    key: &'static str,
) -> Result<Option<PeekCursor>, RefusedRequest> {
    parameters.take(key).map(|text| parsed_cursor(&text, key)).transpose()
}

/// Returns the place that a text stands for.
pub(crate) fn parsed_cursor(text: &str, key: &str) -> Result<PeekCursor, RefusedRequest> {
    text.parse()
        .map_err(|_: InvalidCursor| RefusedRequest::bad(format!("{key}={text}: use the \"next\" of the answer before")))
}

fn body_limit(parameters: &mut QueryParameters) -> Result<Option<usize>, RefusedRequest> {
    let limit = parameters.number("body-limit", 0..=MAX_BODY_BYTES)?;
    let whole = parameters.flag("whole")?;
    if whole && limit.is_some() {
        return Err(RefusedRequest::bad("use either whole or body-limit".to_owned()));
    }
    Ok((!whole).then(|| limit.unwrap_or(BODY_LIMIT)))
}
