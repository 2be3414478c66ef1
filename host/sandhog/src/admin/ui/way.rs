//! The way of a message across queues: its attempts, the attempt that sent it, and what they sent. And attempts as every page shows them.

use axum::{
    Extension,
    extract::{RawQuery, State},
    http::StatusCode,
    response::{IntoResponse as _, Redirect, Response},
};
use maud::{Markup, html};

use super::{
    UiState,
    form::FormPairs,
    inside::{page_path, path},
    layout::{Frame, page as framed},
    sessions::UiCaller,
    shown::{foreign_lines, millis, of, short, size, when},
};
use crate::{
    admin::{parameters::Path, refused::RefusedRequest},
    journal::{JournalEntry, MessageWay},
};

/// The most messages of a way that a page shows.
const MOST_MESSAGES: usize = 64;
/// The deepest way that a page shows.
const MAX_DEPTH: usize = 8;

/// Leads to the message whose id was typed.
pub(super) async fn find(RawQuery(query): RawQuery) -> Result<Response, RefusedRequest> {
    let asked = FormPairs::of_query(query.as_deref())?;
    match asked.text("id").map(str::trim) {
        Some(id) if !id.is_empty() => Ok(Redirect::to(&page_path(&["messages", id])).into_response()),
        Some(_) | None => Ok(Redirect::to(super::ROOT).into_response()),
    }
}

/// Shows the way of a message.
pub(super) async fn page(
    State(state): State<UiState>,
    Extension(caller): Extension<UiCaller>,
    Path(id): Path<String>,
) -> Result<Response, RefusedRequest> {
    show(&state, &caller, &id).await
}

/// Shows the way of a message.
pub(super) async fn show(state: &UiState, caller: &UiCaller, id: &str) -> Result<Response, RefusedRequest> {
    let main = html! {
        p.crumbs { a href="/ui" { "Overview" } " / Message" }
        h1.mono { (short(id, 120)) }
        (way_part(state, caller, id).await)
    };
    Ok(framed(&Frame::of(caller, id).live(), main))
}

/// Returns the part of a page with the way of a message.
pub(super) async fn way_part(state: &UiState, caller: &UiCaller, id: &str) -> Markup {
    let way: Result<MessageWay, RefusedRequest> = state.inside.get(caller, &path(&["messages", id])).await;
    let mut left = MOST_MESSAGES;
    html! {
        section #way data-part {
            h2 { "Its way" }
            @match &way {
                Ok(way) => {
                    @if let Some(sender) = &way.sent_by {
                        p {
                            "Sent by " (handler_link(&sender.handler)) " version " (sender.version) " for message "
                            (message_link(&sender.queue, &sender.message)) " of " (queue_link(&sender.queue))
                        }
                    }
                    (steps(way, 0, &mut left))
                    @if way.more { p.dim { "The way goes on: " code { "sandhog trace" } " follows it further." } }
                }
                Err(refused) if refused.status() == StatusCode::NOT_FOUND => p.empty {
                    "No attempt at it is kept: none has been made, or the journal has forgotten it."
                }
                Err(refused) => p.bad { (refused.to_string()) }
            }
        }
    }
}

fn steps(way: &MessageWay, depth: usize, left: &mut usize) -> Markup {
    let mut sent = Vec::new();
    for message in way.sent.iter().filter(|_| depth < MAX_DEPTH) {
        let Some(less) = left.checked_sub(1) else { break };
        *left = less;
        let queue = destination(way, &message.message);
        sent.push(html! {
            li {
                "sent " (message_link(queue, &message.message)) @if !queue.is_empty() { " to " (queue_link(queue)) }
                (steps(message, depth + 1, left))
            }
        });
    }
    html! {
        @if way.attempts.is_empty() && depth > 0 { p.dim { "no attempt is kept" } }
        @if !way.attempts.is_empty() || !sent.is_empty() {
            ol.way {
                @for entry in &way.attempts { li class=(if entry.is_handled() { "ok" } else { "bad" }) { (attempt(entry, true)) } }
                @for sent in sent { (sent) }
            }
        }
    }
}

fn destination<'w>(way: &'w MessageWay, message: &str) -> &'w str {
    let mut sends = way.attempts.iter().flat_map(|attempt| &attempt.sends);
    sends
        .find(|send| send.message == message)
        .map_or("", |send| &send.queue)
}

/// Returns a link to a handler.
pub(super) fn handler_link(handler: &str) -> Markup {
    html! { a href={ "/ui" (path(&["handlers", handler])) } { (short(handler, 80)) } }
}

/// Returns a link to a queue.
pub(super) fn queue_link(queue: &str) -> Markup {
    html! { a href={ "/ui" (path(&["queues", queue])) } { (short(queue, 80)) } }
}

/// Returns a link to a message, which may be in a queue.
pub(super) fn message_link(queue: &str, message: &str) -> Markup {
    let target = if queue.is_empty() {
        path(&["messages", message])
    } else {
        path(&["queues", queue, "messages", message])
    };
    html! { a.mono href={ "/ui" (target) } { (short(message, 40)) } }
}

/// Returns an attempt in two lines, with its log, stack and sends to unfold.
pub(super) fn attempt(entry: &JournalEntry, with_handler: bool) -> Markup {
    let class = if entry.is_handled() { "ok" } else { "bad" };
    html! {
        div {
            span.pill.{(class)} { (entry.outcome) }
            @if entry.disputed { " " span.pill.warn { "second opinion" } }
            " " (when(entry.began_at_ms)) span.dim {
                @if with_handler { " by " (handler_link(&entry.handler)) " from " (queue_link(&entry.queue)) }
                ", version " (entry.version) ", receive " (entry.receive_count)
                @if entry.batch > 1 { ", in a batch of " (entry.batch) }
                ", " (millis(entry.duration_ms))
                @if let Some(cpu) = entry.cpu_ms { ", processor " (millis(cpu)) }
                @if let Some(bytes) = entry.memory_peak_bytes { ", memory " (size(bytes)) }
                @if let Some(settlement) = &entry.settlement { ", then " (settlement) }
                @if let Some(ms) = entry.retry_in_ms { " in " (super::shown::length(ms)) }
            }
        }
        @if let Some(reason) = &entry.reason { div.bad { (foreign_lines(reason, 1024)) } }
        (unfolded(entry))
    }
}

fn unfolded(entry: &JournalEntry) -> Markup {
    let key = format!("a{}", entry.attempt);
    html! {
        @if let Some(stack) = &entry.stack {
            details id={ (key) "s" } { summary { "Stack" } div.log tabindex="0" { (foreign_lines(stack, 16 * 1024)) } }
        }
        @if !entry.log.is_empty() {
            details id={ (key) "l" } {
                summary { "Log, " (of(u64::try_from(entry.log.len()).unwrap_or(u64::MAX), "line", "lines")) }
                @if entry.earlier_lines > 0 { p.dim { (entry.earlier_lines) " earlier lines are not kept." } }
                div.log tabindex="0" { @for line in &entry.log { div { span.dim { (short(&line.stream, 12)) " " } (foreign_lines(&line.text, 4096)) } } }
            }
        }
        @if !entry.sends.is_empty() {
            details id={ (key) "m" } {
                summary { "Sent " (of(u64::try_from(entry.sends.len() + entry.more_sends).unwrap_or(u64::MAX), "message", "messages")) }
                ul { @for send in &entry.sends { li {
                    (message_link(&send.queue, &send.message)) " to " (queue_link(&send.queue))
                    span.dim { ", " (size(u64::try_from(send.bytes).unwrap_or(u64::MAX))) }
                } } }
            }
        }
    }
}
