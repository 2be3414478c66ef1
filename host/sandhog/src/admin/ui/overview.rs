//! The first page: every handler and every queue, and one sentence wherever nothing moves.

use axum::{
    Extension,
    extract::{RawQuery, State},
    response::Response,
};
use maud::{Markup, html};

use super::{
    UiState, chart,
    inside::path,
    layout::{Frame, page as framed},
    queue_actions::page_of,
    sessions::UiCaller,
    shown::{count, foreign, length, number, of, percent, short},
    way::queue_link,
};
use crate::admin::{
    refused::RefusedRequest,
    wire::{HandlerForm, HandlerList, QueueForm, QueueList, ReadinessAnswer},
};

/// The most rows of a table: more handlers or queues are counted, and found by their names.
const MAX_ROWS: usize = 500;

/// Shows the page.
pub(super) async fn page(
    State(state): State<UiState>,
    Extension(caller): Extension<UiCaller>,
    RawQuery(query): RawQuery,
) -> Result<Response, RefusedRequest> {
    let ready: ReadinessAnswer = state.inside.get(&caller, "/ready").await?;
    let handlers: HandlerList = state.inside.get(&caller, "/handlers").await?;
    let queues: QueueList = state.inside.get(&caller, "/queues").await?;
    let frame = Frame::of(&caller, "Overview")
        .live()
        .with_notice(state.notice(query.as_deref()));
    let main = html! {
        h1.hidden { "Overview" }
        (readiness(&ready))
        (totals(&handlers.handlers, &queues.queues))
        (handler_table(&state, &handlers.handlers))
        (queue_table(&state, &queues.queues))
    };
    Ok(framed(&frame, main))
}

fn readiness(ready: &ReadinessAnswer) -> Markup {
    html! {
        @if !ready.ready {
            section.panel.alert #ready data-part {
                h2 { "The host is not ready" }
                ul { @for reason in ready.reasons.iter().take(20) { li { (foreign(reason)) } } }
            }
        } @else {
            section #ready data-part hidden {}
        }
    }
}

fn totals(handlers: &[HandlerForm], queues: &[QueueForm]) -> Markup {
    let sum = |of: fn(&QueueForm) -> u64| queues.iter().map(of).sum::<u64>();
    let handled: u64 = handlers.iter().map(|handler| handler.last_minute.handled).sum();
    let failed: u64 = handlers.iter().map(|handler| handler.last_minute.failed).sum();
    let dead = sum(|queue| queue.dead);
    html! {
        dl.totals #totals data-part {
            div { dt { "ready" } dd { (number(sum(|queue| queue.ready))) } }
            div { dt { "in flight" } dd { (number(sum(|queue| queue.in_flight))) } }
            div { dt { "delayed" } dd { (number(sum(|queue| queue.delayed))) } }
            div.bad[dead > 0] { dt { "dead letters" } dd { (number(dead)) } }
            div { dt { "handled, last minute" } dd { (number(handled)) } }
            div.bad[failed > 0] { dt { "failed, last minute" } dd { (number(failed)) } }
        }
    }
}

fn handler_table(state: &UiState, handlers: &[HandlerForm]) -> Markup {
    html! {
        section #handlers data-part {
            h2 { "Handlers" span.dim { (handlers.len()) } }
            @if handlers.is_empty() {
                p.empty { "No handler is here. Put a file NAME.wasm into the plugin directory, or use " code { "sandhog deploy" } "." }
            } @else {
                table.rows {
                    thead { tr {
                        th { "name" } th { "state" } th.num { "version" } th.w2 { "queue" }
                        th.w3 { "last minute" } th.num { "handled" } th.num { "failed" } th.num.w2 { "in flight" } th.num.w2 { "broken calls" }
                    } }
                    tbody { @for handler in handlers.iter().take(MAX_ROWS) { (handler_row(state, handler)) } }
                }
                (more(handlers.len()))
            }
        }
    }
}

fn handler_row(state: &UiState, handler: &HandlerForm) -> Markup {
    let seconds = state.admin.metrics.handler_seconds(&handler.name);
    let minute = &handler.last_minute;
    html! {
        tr data-row {
            td { a.name href={ "/ui" (path(&["handlers", &handler.name])) } { (short(&handler.name, 80)) } }
            td { (handler_state(handler)) }
            td.num { @if handler.version > 0 { (handler.version) } @else { span.zero { "–" } } }
            td.w2 { @if let Some(queue) = &handler.queue { (queue_link(queue)) } }
            td.w3 { (chart::minute(&seconds, &minute_label(minute.handled, minute.failed))) }
            td.num { (count(minute.handled)) }
            td.num.bad[minute.failed > 0] { (count(minute.failed)) }
            td.num.w2 { (count(u64::from(handler.in_flight))) span.dim { " / " (handler.slots) } }
            td.num.w2 { (percent(handler.breaks, handler.calls)) }
        }
        (sentence(handler.standstill.as_deref(), handler.last_error.as_deref(), 9))
    }
}

/// Returns the state of a handler as a word in a colour.
pub(super) fn handler_state(handler: &HandlerForm) -> Markup {
    let (word, class) = match handler.state.as_str() {
        _ if handler.halt.is_some() => ("paused", "warn"),
        _ if handler.draining => ("draining", "warn"),
        "serving" => (handler.version_state.as_deref().unwrap_or("serving"), "ok"),
        "paused" => ("paused by the host", "bad"),
        "refused" => ("refused", "bad"),
        other => (other, "warn"),
    };
    let class = if word == "probation" { "warn" } else { class };
    html! {
        span.pill.{(class)} { (word) }
        @if handler.fallback { " " span.pill.warn title="The files in the plugin directory are refused, so the version that served last serves" { "fallback" } }
    }
}

fn queue_table(state: &UiState, queues: &[QueueForm]) -> Markup {
    html! {
        section #queues data-part {
            h2 { "Queues" span.dim { (queues.len()) } }
            @if queues.is_empty() {
                p.empty { "No queue is here. A handler's queue exists from the moment that its file is seen." }
            } @else {
                table.rows {
                    thead { tr {
                        th { "name" } th.num { "ready" } th.num { "in flight" } th.num.w2 { "delayed" } th.num.w2 { "oldest" } th.num { "dead" }
                        th.w3 { "last minute" } th.num.w2 { "arrived" } th.num.w2 { "handled" } th.num.w2 { "failed" }
                    } }
                    tbody { @for queue in queues.iter().take(MAX_ROWS) { (queue_row(state, queue)) } }
                }
                (more(queues.len()))
            }
        }
    }
}

fn queue_row(state: &UiState, queue: &QueueForm) -> Markup {
    let seconds = state.admin.metrics.queue_seconds(&queue.name);
    let minute = &queue.last_minute;
    let page = page_of(&queue.name);
    html! {
        tr data-row {
            td {
                a.name href=(page) { (short(&queue.name, 80)) }
                @if queue.halt.is_some() { " " span.pill.warn { "paused" } }
            }
            @if queue.error.is_some() {
                td.num { "?" } td.num { "?" } td.num.w2 { "?" } td.num.w2 { "?" } td.num { "?" }
            } @else {
                td.num { (count(queue.ready)) }
                td.num { (count(queue.in_flight)) }
                td.num.w2 { (count(queue.delayed)) }
                td.num.w2 { @if let Some(ms) = queue.oldest_age_ms { (length(ms)) } @else { span.zero { "–" } } }
                td.num { @if queue.dead > 0 { a.bad href={ (page) "/dead" } { (number(queue.dead)) } } @else { span.zero { "0" } } }
            }
            td.w3 { (chart::minute(&seconds, &minute_label(minute.handled, minute.failed))) }
            td.num.w2 { (count(minute.arrived.unwrap_or_default())) }
            td.num.w2 { (count(minute.handled)) }
            td.num.w2.bad[minute.failed > 0] { (count(minute.failed)) }
        }
        (sentence(queue.standstill.as_deref(), queue.error.as_deref(), 10))
    }
}

/// Returns the row below a row that says why nothing moves, or what is wrong.
fn sentence(standstill: Option<&str>, error: Option<&str>, columns: u8) -> Markup {
    let error = error.filter(|error| standstill.is_none_or(|why| !why.contains(error)));
    html! {
        @if standstill.is_some() || error.is_some() {
            tr.why { td colspan=(columns) {
                @if let Some(why) = standstill { (foreign(why)) }
                @if standstill.is_some() && error.is_some() { br; }
                @if let Some(why) = error { span.bad { (foreign(why)) } }
            } }
        }
    }
}

/// Says in words what a chart of the last minute shows.
pub(super) fn minute_label(handled: u64, failed: u64) -> String {
    format!("last minute: {} handled, {} failed", number(handled), number(failed))
}

fn more(all: usize) -> Markup {
    let more = u64::try_from(all.saturating_sub(MAX_ROWS)).unwrap_or(u64::MAX);
    html! { @if more > 0 { p.dim { (of(more, "more is", "more are")) " not shown." } } }
}

impl UiState {
    /// Returns what the last action of a page has done, if the query of the page has its number.
    pub(super) fn notice(&self, query: Option<&str>) -> Option<String> {
        let mut pairs = query?.split('&');
        let number = pairs.find_map(|pair| pair.strip_prefix("done="))?;
        self.door.notices.find(number)
    }
}
