//! The page of a queue: its counts, its messages without receiving them, and what can be done with them.

use axum::{
    Extension,
    extract::{RawQuery, State},
    http::StatusCode,
    response::Response,
};
use maud::{Markup, html};

use super::{
    UiState, chart,
    form::FormPairs,
    halts::halt_form,
    inside::{path, with_query},
    layout::{Frame, page as framed, token},
    overview::minute_label,
    queue_actions::page_of,
    sessions::UiCaller,
    shown::{count, foreign, length, number, short, size, when},
};
use crate::admin::{
    parameters::Path,
    refused::RefusedRequest,
    wire::{PeekedForm, PeekedList, QueueForm},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use sandhog_queue::{message_filter::MessageStanding, printable::printable};

/// The messages of a page.
const MESSAGES: &str = "50";
/// The bytes of a body in a row.
pub(super) const PREVIEW: &str = "160";

/// Shows the page.
pub(super) async fn page(
    State(state): State<UiState>,
    Extension(caller): Extension<UiCaller>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, RefusedRequest> {
    let asked = FormPairs::of_query(query.as_deref())?;
    let queue: QueueForm = state.inside.get(&caller, &path(&["queues", &name])).await?;
    let messages = messages(&state, &caller, &name, &asked).await?;
    let place = page_of(&name);
    let frame = Frame::of(&caller, &name)
        .live()
        .with_notice(state.notice(query.as_deref()));
    let main = html! {
        (head(&queue, &place, "messages"))
        (totals(&state, &queue, &place))
        @if caller.may_change() { (actions(&caller, &queue, &place)) }
        (search(&asked, &place))
        (list(&messages, &asked, &place))
        @if caller.may_change() { (send(&caller, &place)) }
    };
    Ok(framed(&frame, main))
}

/// Returns the messages that were asked for, or why this kind of queue shows none.
async fn messages(
    state: &UiState,
    caller: &UiCaller,
    name: &str,
    asked: &FormPairs,
) -> Result<Result<PeekedList, String>, RefusedRequest> {
    let pairs = [
        ("limit", MESSAGES),
        ("body-limit", PREVIEW),
        ("contains", asked.or_empty("contains")),
        ("state", asked.or_empty("state")),
        ("where", asked.or_empty("where")),
        ("after", asked.or_empty("after")),
    ];
    let target = with_query(&path(&["queues", name, "messages"]), &pairs);
    match state.inside.get(caller, &target).await {
        Ok(list) => Ok(Ok(list)),
        Err(refused) if refused.status() == StatusCode::NOT_IMPLEMENTED => Ok(Err(refused.to_string())),
        Err(refused) => Err(refused),
    }
}

/// Returns the top of the pages of a queue.
pub(super) fn head(queue: &QueueForm, place: &str, page: &str) -> Markup {
    html! {
        p.crumbs { a href="/ui" { "Overview" } " / Queue" }
        div.head {
            h1 { (short(&queue.name, 120)) }
            @if queue.halt.is_some() { span.pill.warn { "paused" } }
            a href=(place) aria-current=[(page == "messages").then_some("page")] { "Messages" }
            a href={ (place) "/dead" } aria-current=[(page == "dead").then_some("page")] { "Dead letters" }
        }
        div #standstill data-part {
            @if let Some(why) = &queue.standstill { p.standstill { (foreign(why)) } }
            @if let Some(error) = &queue.error { p.bad { (foreign(error)) } }
        }
    }
}

fn totals(state: &UiState, queue: &QueueForm, place: &str) -> Markup {
    let minute = &queue.last_minute;
    let seconds = state.admin.metrics.queue_seconds(&queue.name);
    html! {
        dl.totals #totals data-part {
            div { dt { "ready" } dd { (number(queue.ready)) } }
            div { dt { "in flight" } dd { (number(queue.in_flight)) } }
            div { dt { "delayed" } dd { (number(queue.delayed)) } }
            div.bad[queue.dead > 0] { dt { "dead letters" } dd { @if queue.dead > 0 { a href={ (place) "/dead" } { (number(queue.dead)) } } @else { "0" } } }
            @if queue.damaged > 0 { div.bad { dt { "damaged" } dd { (number(queue.damaged)) } } }
            div { dt { "oldest" } dd { @if let Some(ms) = queue.oldest_age_ms { (length(ms)) } @else { "–" } } }
            div { dt { "arrived, last minute" } dd { (number(minute.arrived.unwrap_or_default())) } }
            div.small { dt { "handled and failed" } dd { (chart::minute(&seconds, &minute_label(minute.handled, minute.failed))) } }
        }
    }
}

fn actions(caller: &UiCaller, queue: &QueueForm, place: &str) -> Markup {
    html! {
        div.actions #actions {
            (halt_form(caller, queue.halt.as_ref(), place))
            a.button.danger href={ (place) "/purge" } { "Purge …" }
        }
    }
}

fn search(asked: &FormPairs, place: &str) -> Markup {
    let state = asked.or_empty("state");
    html! {
        form.filter method="get" action=(place) data-search role="search" aria-label="Messages" {
            label { "Text in the body" input type="search" name="contains" value=(asked.or_empty("contains")) maxlength="500" autocomplete="off"; }
            label { "State" select name="state" {
                option value="" { "any" }
                @for standing in MessageStanding::ALL.map(MessageStanding::as_str) {
                    option value=(standing) selected[standing == state] { (standing) }
                }
            } }
            button type="submit" { "Search" }
            label { "Filter" input type="search" name="where" value=(asked.or_empty("where")) maxlength="4000" autocomplete="off" placeholder="attr.kind = \"refund\" and age > 1h"; }
            span.bad data-why role="status" {}
        }
    }
}

fn list(messages: &Result<PeekedList, String>, asked: &FormPairs, place: &str) -> Markup {
    let is_filtered = ["contains", "state", "where"]
        .iter()
        .any(|name| asked.text(name).is_some());
    html! {
        section #messages data-part aria-live="off" {
            @match messages {
                Err(why) => p.empty {
                    "Messages of this kind of queue can't be looked at without receiving them, which would hide them from their handler: "
                    (foreign(why)) ". The counts above are those that the server tells."
                }
                Ok(list) if list.messages.is_empty() => p.empty {
                    @if list.more { "None so far: the search has not come to the end." }
                    @else if is_filtered { "No message passes." }
                    @else { "The queue is empty." }
                }
                Ok(list) => (table(list, place))
            }
            @if let Ok(list) = messages { (pages(list.next.as_deref(), asked, place)) }
        }
    }
}

fn table(list: &PeekedList, place: &str) -> Markup {
    html! {
        table.rows {
            thead { tr { th { "message" } th { "state" } th.w2 { "sent" } th.num.w2 { "receives" } th.w3 { "group" } th { "body" } th.num.w2 { "size" } } }
            tbody { @for message in &list.messages {
                tr data-row {
                    td { a.mono href={ (place) (path(&["messages", &message.id])) } { (short(&message.id, 40)) } }
                    td { (standing(message)) }
                    td.w2 { (when(message.sent_at_ms)) }
                    td.num.w2 { (count(u64::from(message.receive_count))) }
                    td.w3 { @if let Some(group) = &message.group_id { (short(group, 60)) } }
                    td { span.preview { (preview(message.body.as_deref(), message.body_base64.as_deref())) } }
                    td.num.w2 { (size(message.body_bytes)) }
                }
            } }
        }
    }
}

/// Returns the state of a message, with what it waits for.
pub(super) fn standing(message: &PeekedForm) -> Markup {
    let class = match message.state.as_str() {
        "ready" => "ok",
        "damaged" => "bad",
        "retry" => "warn",
        _ => "",
    };
    html! {
        span.pill.{(class)} { (printable(&message.state, 40)) }
        @if let Some(at) = message.visible_at_ms { " " span.dim.w2 { (when(at)) } }
    }
}

/// Returns the beginning of a body for a row.
pub(super) fn preview(text: Option<&str>, base64: Option<&str>) -> Markup {
    match (text, base64) {
        (Some(text), _) => short(text, 160),
        (None, Some(base64)) => {
            let bytes = BASE64.decode(base64).unwrap_or_default();
            let shown: Vec<String> = bytes.iter().take(24).map(|byte| format!("{byte:02x}")).collect();
            html! { (shown.join(" ")) }
        }
        (None, None) => html! {},
    }
}

/// Returns the link to the next page.
pub(super) fn pages(next: Option<&str>, asked: &FormPairs, place: &str) -> Markup {
    let same = ["contains", "state", "where"].map(|name| (name, asked.or_empty(name)));
    let at = |after| with_query(place, &[same.as_slice(), &[("after", after)]].concat());
    html! {
        div.pages {
            @if asked.text("after").is_some() { a href=(at("")) { "First page" } }
            @if let Some(next) = next { a href=(at(next)) rel="next" { "Next page" } }
        }
    }
}

fn send(caller: &UiCaller, place: &str) -> Markup {
    html! {
        details.fold #send {
            summary { "Send a message" }
            form method="post" action={ (place) "/send" } {
                (token(caller))
                label { "Body" textarea name="body" spellcheck="false" {} }
                div.grid {
                    label { "Message group" input type="text" name="group" maxlength="200"; }
                    label { "Delay" input type="text" name="delay" maxlength="40" placeholder="5s"; }
                    label { "Priority, 0 to 9" input type="number" name="priority" min="0" max="9"; }
                    label { "Deduplication id" input type="text" name="dedup" maxlength="200"; }
                }
                label { "Attributes, a line each: NAME=VALUE" textarea.small name="attributes" spellcheck="false" rows="2" {} }
                div.actions { button.primary type="submit" { "Send 1 message" } }
            }
        }
    }
}
