//! The page of one message, or of one dead letter: what it is, its body, and its whole way.

use std::collections::BTreeMap;

use axum::{
    Extension,
    body::Bytes,
    extract::{RawQuery, State},
    http::StatusCode,
    response::Response,
};
use maud::{Markup, html};

use super::{
    UiState,
    body_view::{ShownBody, raw},
    done::messages_were,
    form::{ActionForm, FormPairs},
    inside::path,
    layout::{Frame, page as framed, token},
    queue::standing,
    queue_actions::page_of,
    sessions::UiCaller,
    shown::{digest, foreign, foreign_lines, number, short, when},
    way::{handler_link, way_part},
};
use crate::admin::{
    parameters::Path,
    refused::RefusedRequest,
    wire::{AttributeForm, MessageForm, PeekedForm, SentMessage, SweepAnswer},
};
use crate::journal::MessageWay;
use sandhog_queue::{FailureRecord, printable::printable};

/// The longest value of an attribute that is shown, in bytes.
const VALUE_BYTES: usize = 4096;

/// Shows a message of a queue.
pub(super) async fn page(
    State(state): State<UiState>,
    Extension(caller): Extension<UiCaller>,
    Path((name, id)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, RefusedRequest> {
    let asked = FormPairs::of_query(query.as_deref())?;
    let form: PeekedForm = match state
        .inside
        .get(&caller, &path(&["queues", &name, "messages", &id]))
        .await
    {
        Ok(form) => form,
        Err(refused) if refused.status() == StatusCode::NOT_FOUND => return gone(&state, &caller, &id, refused).await,
        Err(refused) => return Err(refused),
    };
    let place = format!("{}{}", page_of(&name), path(&["messages", &id]));
    let body = ShownBody {
        bytes: form.shown_bytes(),
        page: place.clone(),
        all: asked.text("all").is_some(),
        redacted: form.redacted,
    };
    let body = body.render(&state.work).await?;
    let main = html! {
        (crumbs(&name, "Message"))
        div.head { h1.mono { (short(&id, 120)) } (standing(&form)) }
        (peeked_facts(&form))
        @if caller.may_change() && form.damage.is_none() {
            div.actions { (button(&caller, &format!("{place}/again"), "Send a copy", "")) }
        }
        (attributes(&form.attributes))
        (body)
        (way_part(&state, &caller, &id).await)
    };
    let frame = Frame::of(&caller, &id).with_notice(state.notice(query.as_deref()));
    Ok(framed(&frame, main))
}

/// Shows the way of a message that is in no queue any more.
async fn gone(
    state: &UiState,
    caller: &UiCaller,
    id: &str,
    refused: RefusedRequest,
) -> Result<Response, RefusedRequest> {
    let way: Result<MessageWay, _> = state.inside.get(caller, &path(&["messages", id])).await;
    if way.is_err() {
        return Err(refused);
    }
    super::way::show(state, caller, id).await
}

/// Shows a dead letter.
pub(super) async fn letter(
    State(state): State<UiState>,
    Extension(caller): Extension<UiCaller>,
    Path((name, id)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, RefusedRequest> {
    let asked = FormPairs::of_query(query.as_deref())?;
    let form: MessageForm = state
        .inside
        .get(&caller, &path(&["queues", &name, "dead", &id]))
        .await?;
    let place = format!("{}{}", page_of(&name), path(&["dead", &id]));
    let body = ShownBody {
        bytes: form.body_bytes(),
        page: place.clone(),
        all: asked.text("all").is_some(),
        redacted: form.redacted,
    };
    let body = body.render(&state.work).await?;
    let main = html! {
        p.crumbs { a href="/ui" { "Overview" } " / " a href=(page_of(&name)) { (short(&name, 80)) } " / " a href={ (page_of(&name)) "/dead" } { "Dead letters" } }
        div.head { h1.mono { (short(&id, 120)) } span.pill.bad { "dead letter" } }
        (failure(form.failure.as_ref()))
        (letter_facts(&form))
        @if caller.may_change() {
            div.actions {
                (button(&caller, &format!("{place}/redrive"), "Redrive 1 message", "primary"))
                (button(&caller, &format!("{place}/again"), "Send a copy, keep this", ""))
                a.button href={ (place) "/edit" } { "Edit and send …" }
                (delete_button(&caller, &name, &id))
            }
        }
        (attributes(&form.attributes))
        (body)
        (way_part(&state, &caller, &id).await)
    };
    let frame = Frame::of(&caller, &id).with_notice(state.notice(query.as_deref()));
    Ok(framed(&frame, main))
}

fn crumbs(name: &str, what: &str) -> Markup {
    html! { p.crumbs { a href="/ui" { "Overview" } " / " a href=(page_of(name)) { (short(name, 80)) } " / " (what) } }
}

/// Returns a form with one button.
fn button(caller: &UiCaller, action: &str, text: &str, class: &str) -> Markup {
    html! { form method="post" action=(action) { (token(caller)) button.{(class)} type="submit" { (text) } } }
}

fn delete_button(caller: &UiCaller, name: &str, id: &str) -> Markup {
    html! {
        form method="post" action={ (page_of(name)) "/dead/delete" } {
            (token(caller))
            input type="hidden" name="id" value=(id);
            button.danger type="submit" name="scope" value="selected" { "Delete …" }
        }
    }
}

fn peeked_facts(form: &PeekedForm) -> Markup {
    html! {
        dl.facts {
            dt { "Sent" } dd { (when(form.sent_at_ms)) @if let Some(by) = &form.sent_by { " by " (handler_link(&by.handler)) span.dim { " version " (by.version) } } }
            dt { "Receives" } dd { (number(u64::from(form.receive_count))) }
            @if let Some(group) = &form.group_id { dt { "Message group" } dd { (foreign(group)) } }
            dt { "Priority" } dd { (form.priority) }
            @if let Some(parent) = &form.parent { dt { "Made from" } dd { a.mono href={ "/ui" (path(&["messages", parent])) } { (short(parent, 80)) } } }
            @if let Some(queue) = &form.dead_letter_of { dt { "Dead letter of" } dd { a href=(page_of(queue)) { (short(queue, 80)) } } }
            @if let Some(at) = form.dead_at_ms { dt { "Dead since" } dd { (when(at)) } }
            @if let Some(damage) = &form.damage { dt { "Damaged" } dd.bad { (foreign(damage)) } }
        }
        (failure(form.failure.as_ref()))
    }
}

fn letter_facts(form: &MessageForm) -> Markup {
    html! {
        dl.facts {
            dt { "Sent" } dd { (when(form.sent_at_ms)) }
            @if let Some(at) = form.dead_at_ms { dt { "Dead since" } dd { (when(at)) } }
            dt { "Receives" } dd { (number(u64::from(form.receive_count))) }
            @if let Some(group) = &form.group_id { dt { "Message group" } dd { (foreign(group)) } }
            dt { "Priority" } dd { (form.priority) }
        }
    }
}

fn failure(failure: Option<&FailureRecord>) -> Markup {
    html! {
        @if let Some(failure) = failure {
            div.panel {
                span.pill.bad { (failure.kind.as_str()) } " " (foreign_lines(&failure.reason, 2048))
                p.dim {
                    @if failure.handler.is_empty() { "No handler was called." } @else {
                        "Last failure, in handler " (handler_link(&failure.handler))
                        @if !failure.component.is_empty() { ", component " (digest(&failure.component)) }
                    }
                }
            }
        }
    }
}

/// Returns the attributes of a message.
fn attributes(attributes: &BTreeMap<String, AttributeForm>) -> Markup {
    html! {
        @if !attributes.is_empty() {
            h2 { "Attributes" span.dim { (attributes.len()) } }
            table.rows { tbody { @for (name, value) in attributes { tr {
                td.mono { (short(name, 300)) }
                td { (attribute_value(value)) }
                td.dim.w2 { (attribute_kind(value)) }
            } } } }
        }
    }
}

fn attribute_value(value: &AttributeForm) -> Markup {
    let text = match value {
        AttributeForm::Text(text) | AttributeForm::Number(text) | AttributeForm::BinaryBase64(text) => text,
    };
    if text.len() <= VALUE_BYTES / 8 {
        return foreign_lines(text, VALUE_BYTES);
    }
    html! { details { summary { (short(text, 200)) } pre { (foreign_lines(text, 256 * 1024)) } } }
}

fn attribute_kind(value: &AttributeForm) -> &'static str {
    match value {
        AttributeForm::Text(_) => "text",
        AttributeForm::Number(_) => "number",
        AttributeForm::BinaryBase64(_) => "bytes, in base64",
    }
}

/// Answers with the body of a message.
pub(super) async fn raw_message(
    State(state): State<UiState>,
    Extension(caller): Extension<UiCaller>,
    Path((name, id)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, RefusedRequest> {
    let form: PeekedForm = state
        .inside
        .get(&caller, &path(&["queues", &name, "messages", &id]))
        .await?;
    Ok(raw(&id, form.shown_bytes(), query.as_deref() == Some("as=image")))
}

/// Answers with the body of a dead letter.
pub(super) async fn raw_letter(
    State(state): State<UiState>,
    Extension(caller): Extension<UiCaller>,
    Path((name, id)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, RefusedRequest> {
    let form: MessageForm = state
        .inside
        .get(&caller, &path(&["queues", &name, "dead", &id]))
        .await?;
    Ok(raw(&id, form.body_bytes(), query.as_deref() == Some("as=image")))
}

/// Sends a copy of a message or a dead letter.
pub(super) async fn again(
    State(state): State<UiState>,
    Path((name, id)): Path<(String, String)>,
    form: ActionForm,
) -> Result<Response, RefusedRequest> {
    let target = path(&["queues", &name, "messages", &id, "again"]);
    let sent: SentMessage = state.inside.post(&form.caller, &target, Bytes::new()).await?;
    let text = format!("A copy was sent: {}", printable(&sent.id, 100));
    Ok(state.done(&page_of(&name), text))
}

/// Puts one dead letter back.
pub(super) async fn redrive(
    State(state): State<UiState>,
    Path((name, id)): Path<(String, String)>,
    form: ActionForm,
) -> Result<Response, RefusedRequest> {
    let request = serde_json::json!({ "ids": [id] }).to_string();
    let target = path(&["queues", &name, "dead", "redrive"]);
    let answer: SweepAnswer = state.inside.post(&form.caller, &target, Bytes::from(request)).await?;
    Ok(state.done(
        &format!("{}/dead", page_of(&name)),
        messages_were(answer.messages, "put back"),
    ))
}
