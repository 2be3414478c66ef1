//! The routes of the journal: recent attempts, the way of a message, and live events.
//!
//! Invariant: a reader of events that is slow is told how many attempts it missed; it keeps no attempt waiting. The number of readers is bounded.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::sse::{Event, KeepAlive, Sse},
};
use futures_util::{Stream, stream};

use super::{
    AdminState, Answer,
    parameters::{Path, QueryParameters},
    refused::RefusedRequest,
    wire::{self, AttemptList},
};
use crate::journal::{JournalEntry, JournalEvent, JournalFilter, JournalReader, JournalStart, MessageWay};

/// The most attempts in one answer.
const MAX_ATTEMPTS: usize = 1000;
const DEFAULT_ATTEMPTS: usize = 100;
/// The most readers of events at a time.
const MAX_READERS: usize = 64;
/// How often a reader to which nothing happens hears that the host is there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The header by which a reader that comes back says which event it saw last.
const LAST_EVENT_ID: &str = "last-event-id";

#[utoipa::path(
    get,
    path = "/handlers/{name}/attempts",
    operation_id = "attempts",
    tag = "handlers",
    params(
        ("name" = String, Path, description = "The name of the handler"),
        ("limit" = Option<u64>, Query, description = "How many, 1 to 1000; 100 if absent"),
        ("before" = Option<u64>, Query, description = "Only attempts before the one with this number"),
        ("message" = Option<String>, Query, description = "Only those of the message with this id"),
        ("outcome" = Option<String>, Query, description = "Only those with this outcome"),
        ("version" = Option<u64>, Query, description = "Only those on this version"),
        ("failed" = Option<bool>, Query, description = "Only those of messages that were not handled, if true"),
    ),
    responses(
        (status = 200, body = AttemptList, description = "The newest attempts that are kept, oldest first"),
        (status = 400, body = wire::ErrorAnswer, description = "The request is wrong"),
        (status = 404, body = wire::ErrorAnswer, description = "There is no such handler, and no attempt of one is kept"),
    ),
)]
pub(crate) async fn attempts(
    State(state): State<AdminState>,
    Path(name): Path<String>,
    mut parameters: QueryParameters,
) -> Answer<AttemptList> {
    let limit = parameters
        .number("limit", 1..=MAX_ATTEMPTS)?
        .unwrap_or(DEFAULT_ATTEMPTS);
    let before = parameters.number("before", 0..=u64::MAX)?;
    let filter = JournalFilter {
        handler: Some(name.clone()),
        message: parameters.take("message"),
        outcome: parameters.take("outcome"),
        version: parameters.number("version", 1..=u64::MAX)?,
        failed: parameters.flag("failed")?,
        queue: None,
    };
    parameters.finish()?;
    let entries = state.journal.recent(&filter, limit, None, before);
    if entries.is_empty() && state.handlers.get(&name).is_none() {
        return Err(state.no_handler(&name));
    }
    Ok(Json(AttemptList {
        attempts: entries.iter().map(|entry| JournalEntry::clone(entry)).collect(),
    }))
}

#[utoipa::path(
    get,
    path = "/messages/{id}",
    operation_id = "message_way",
    tag = "queues",
    params(
        ("id" = String, Path, description = "The id of a message of any queue"),
    ),
    responses(
        (status = 200, body = MessageWay, description = "The attempts at the message, the one that sent it, and what they sent"),
        (status = 404, body = wire::ErrorAnswer, description = "No attempt that is kept had or sent such a message"),
    ),
)]
pub(crate) async fn way(State(state): State<AdminState>, Path(id): Path<String>) -> Answer<MessageWay> {
    // All that is kept is looked through, which the threads of the listener have no time for.
    let journal = Arc::clone(&state.journal);
    let way = tokio::task::spawn_blocking(move || journal.way(&id)).await;
    let way = way.map_err(|error| {
        tracing::error!(%error, "following a message panicked");
        RefusedRequest::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the way of the message could not be found",
        )
    })?;
    if way.is_unknown() {
        let why = "no attempt that is kept had or sent a message with this id; it may wait in a queue, or its attempts are too long ago";
        return Err(RefusedRequest::new(StatusCode::NOT_FOUND, why));
    }
    Ok(Json(way))
}

#[utoipa::path(
    get,
    path = "/events",
    operation_id = "events",
    tag = "handlers",
    params(
        ("handler" = Option<String>, Query, description = "Only attempts of this handler"),
        ("queue" = Option<String>, Query, description = "Only attempts at messages of this queue"),
        ("message" = Option<String>, Query, description = "Only attempts at the message with this id"),
        ("outcome" = Option<String>, Query, description = "Only attempts with this outcome"),
        ("failed" = Option<bool>, Query, description = "Only attempts at messages that were not handled, if true"),
        ("last" = Option<u64>, Query, description = "Begin with so many attempts that have ended, 0 to 1000; none if absent"),
        ("kept" = Option<bool>, Query, description = "Only attempts that have ended, if true: the stream ends behind them"),
        ("last-event-id" = Option<u64>, Header, description = "Begin behind the attempt with this number, as far as those after it are kept"),
    ),
    responses(
        (status = 200, content_type = "text/event-stream", body = JournalEntry, description = "Server-sent events: `attempt` for each attempt that ends, and `missed` with a number for a reader that was too slow. The stream ends when the host stops"),
        (status = 400, body = wire::ErrorAnswer, description = "The request is wrong"),
        (status = 503, body = wire::ErrorAnswer, description = "As many read events as may"),
    ),
)]
pub(crate) async fn events(
    State(state): State<AdminState>,
    headers: HeaderMap,
    mut parameters: QueryParameters,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, RefusedRequest> {
    let filter = JournalFilter {
        handler: parameters.take("handler"),
        queue: parameters.take("queue"),
        message: parameters.take("message"),
        outcome: parameters.take("outcome"),
        failed: parameters.flag("failed")?,
        version: None,
    };
    let last = parameters.number("last", 0..=MAX_ATTEMPTS)?;
    let follow = !parameters.flag("kept")?;
    parameters.finish()?;
    let after = headers
        .get(LAST_EVENT_ID)
        .map(|value| value.to_str().unwrap_or_default().parse());
    let after: Option<u64> = after
        .transpose()
        .map_err(|_| RefusedRequest::bad("last-event-id: use the number of an attempt"))?;
    if state.journal.readers() >= MAX_READERS {
        let why = format!("{MAX_READERS} clients read events already; end one of them");
        return Err(RefusedRequest::new(StatusCode::SERVICE_UNAVAILABLE, why));
    }
    let start = JournalStart { after, last, follow };
    let reader = JournalReader::new(&state.journal, filter, start);
    let stop = state.draining.clone();
    let events = stream::unfold((reader, stop), async |(mut reader, stop)| {
        let next = stop.run_until_cancelled(reader.next()).await??;
        Some((Ok(event(&next)), (reader, stop)))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// Returns the form of an event on the wire. A text of JSON has no line ends.
fn event(event: &JournalEvent) -> Event {
    match event {
        JournalEvent::Attempt(entry) => {
            let data = serde_json::to_string(&**entry).expect("texts and numbers have a JSON form");
            Event::default()
                .event("attempt")
                .id(entry.attempt.to_string())
                .data(data)
        }
        JournalEvent::Missed(attempts) => Event::default().event("missed").data(attempts.to_string()),
    }
}
