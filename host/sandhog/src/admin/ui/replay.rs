//! Dead letters through a version of their handler, and what would become of them beside what had become of them.

use axum::{body::Bytes, extract::State, response::Response};
use maud::{Markup, html};

use super::{
    UiState,
    deploys::{deploy_form, desk, key},
    form::ActionForm,
    handler::page_of as handler_page,
    inside::path,
    layout::{Frame, page as framed, token},
    queue_actions::page_of,
    sessions::UiCaller,
    shown::{foreign_lines, millis, of, short, size},
    way::{handler_link, queue_link},
};
use crate::admin::{
    audit::PageAudit,
    parameters::Path,
    refused::RefusedRequest,
    replay::{ReplayTurn, Replayed, ReplayedComponent},
    wire::{HandlerList, ReplayAnswer, ReplayRequest, ReplayedForm, VersionList},
};
use sandhog_queue::printable::printable;

/// The dead letters of a replay that nobody has selected.
const OLDEST: usize = 20;
/// The bytes of a reason in a row.
const REASON_BYTES: usize = 400;
/// The most sends of a message that are named.
const MOST_SENDS: usize = 10;

/// The versions through which the dead letters of a queue can be run.
pub(super) struct ReplayOffer {
    handler: String,
    list: VersionList,
}

impl ReplayOffer {
    /// Returns the offer to somebody who may take it; `None` if no handler takes the queue.
    pub(super) async fn of(state: &UiState, caller: &UiCaller, queue: &str) -> Result<Option<Self>, RefusedRequest> {
        // A host that keeps no files has no version to run.
        let keeps_files = state.admin.versions.keeps_files();
        if !caller.may_change() || !keeps_files || state.is_remote(queue) {
            return Ok(None);
        }
        let all: HandlerList = state.inside.get(caller, "/handlers").await?;
        let taker = all
            .handlers
            .into_iter()
            .find(|handler| handler.queue.as_deref() == Some(queue));
        let Some(handler) = taker.map(|handler| handler.name) else {
            return Ok(None);
        };
        let list: VersionList = state
            .inside
            .get(caller, &path(&["handlers", &handler, "versions"]))
            .await?;
        Ok((!list.versions.is_empty()).then_some(Self { handler, list }))
    }

    /// Returns the part of the form of dead letters that asks for a replay.
    pub(super) fn part(&self, place: &str, is_filtered: bool) -> Markup {
        let action = format!("{place}/dead/replay");
        html! {
            div.actions #replay {
                input type="hidden" name="handler" value=(self.handler);
                label { "Version of " (short(&self.handler, 60)) " " select name="version" {
                    @for version in &self.list.versions {
                        option value=(version.number) { (version.number) ", " (printable(&version.state, 40)) }
                    }
                } }
                button type="submit" name="scope" value="selected" formaction=(action) { "Replay selected" }
                button type="submit" name="scope" value="all" formaction=(action) {
                    "Replay the oldest " (OLDEST) @if is_filtered { " that pass" }
                }
                span.dim { "A replay calls the version with them and changes nothing: no message is sent or put back, no key is kept, no server is asked." }
            }
        }
    }
}

/// Replays dead letters, and shows what would become of them.
pub(super) async fn replay(
    State(state): State<UiState>,
    Path(name): Path<String>,
    form: ActionForm,
) -> Result<Response, RefusedRequest> {
    let ActionForm { caller, pairs } = form;
    let version = pairs.or_empty("version").parse();
    let version = version.map_err(|_| RefusedRequest::bad("nothing was done: choose a version"))?;
    let (ids, filter) = match pairs.text("scope") {
        Some("selected") => (Some(pairs.all("id")), None),
        Some("all") => (None, pairs.text("where").map(str::to_owned)),
        Some(_) | None => return Err(RefusedRequest::bad("nothing was done: scope is selected or all")),
    };
    if ids.as_ref().is_some_and(Vec::is_empty) {
        return Err(RefusedRequest::bad("nothing was done: no dead letter is selected"));
    }
    let request = ReplayRequest {
        version,
        handler: pairs.text("handler").map(str::to_owned),
        ids,
        filter,
        limit: Some(OLDEST),
    };
    let body = serde_json::to_vec(&request).map_err(|error| RefusedRequest::bad(error.to_string()))?;
    let target = path(&["queues", &name, "dead", "replay"]);
    let answer: ReplayAnswer = state.inside.post(&caller, &target, Bytes::from(body)).await?;
    let versions = path(&["handlers", &answer.handler, "versions"]);
    let list: VersionList = state.inside.get(&caller, &versions).await?;
    let place = page_of(&name);
    let main = html! {
        p.crumbs { a href="/ui" { "Overview" } " / " a href=(place) { (short(&name, 80)) } " / " a href={ (place) "/dead" } { "Dead letters" } }
        h1 { "Replay with version " (answer.version) " of " (short(&answer.handler, 80)) }
        (summary(&answer, list.serving))
        @if answer.messages.is_empty() {
            p.empty { "There was no dead letter to replay." }
        } @else {
            form method="post" action={ (place) "/dead/redrive" } {
                (token(&caller))
                input type="hidden" name="scope" value="selected";
                div.actions {
                    button.primary type="submit" { "Redrive selected" }
                    a.button href={ (place) "/dead" } { "Leave them" }
                }
                (table(&answer.messages, &place, true))
            }
        }
    };
    Ok(framed(&Frame::of(&caller, &format!("{name}, replay")), main))
}

/// Replays dead letters with a component that was dropped on the page of its handler.
pub(super) async fn replay_checked(
    State(state): State<UiState>,
    Path((name, digest)): Path<(String, String)>,
    turn: ReplayTurn,
    form: ActionForm,
) -> Result<Response, RefusedRequest> {
    let caller = form.caller;
    let files = desk(&state)?.files(&key(&caller, &name, &digest)).await?;
    let queue = page_of(files.manifest.queue.as_str());
    let component = ReplayedComponent {
        handler: name.clone(),
        wasm: files.wasm,
        manifest: files.manifest,
    };
    let what = format!("{} component {digest}", path(&["handlers", &name]));
    let audit = PageAudit::begin(&caller.caller.who, caller.address.as_ref(), "replay handler", &what);
    let replayed = state.admin.replay_component(turn, component).await;
    match &replayed {
        Ok(_) => audit.end("done", None),
        Err(refused) => audit.end("refused", Some(refused.to_string())),
    }
    let Replayed { messages, more } = replayed?;
    let place = handler_page(&name);
    let main = html! {
        p.crumbs { a href="/ui" { "Overview" } " / " a href=(place) { (short(&name, 80)) } " / " a href={ (place) "/checked/" (digest) } { "Check" } }
        h1 { "Replay with the component of this check" }
        (outcome(&messages, more))
        p { "This component does not serve. What is put back before it is deployed goes to the version that does." }
        (deploy_form(&caller, &place, &digest))
        @if messages.is_empty() {
            p.empty { "There was no dead letter to replay." }
        } @else {
            (table(&messages, &queue, false))
        }
    };
    Ok(framed(&Frame::of(&caller, &format!("{name}, replay")), main))
}

fn outcome(messages: &[ReplayedForm], more: bool) -> Markup {
    let all = u64::try_from(messages.len()).unwrap_or(u64::MAX);
    let handled = messages.iter().filter(|message| message.is_handled()).count();
    html! {
        p.standstill {
            (handled) " of " (of(all, "dead letter", "dead letters")) " would be handled. Nothing has changed."
            @if more { " There are others, which were not replayed." }
        }
    }
}

fn summary(answer: &ReplayAnswer, serving: Option<u64>) -> Markup {
    html! {
        (outcome(&answer.messages, answer.more))
        @if serving != Some(answer.version) {
            p {
                @match serving {
                    Some(number) => { "Version " (number) " serves, and gets what is put back: serve version " (answer.version) " first, on the page of " (handler_link(&answer.handler)) "." }
                    None => { "No version of " (handler_link(&answer.handler)) " serves, so what is put back waits." }
                }
            }
        }
    }
}

fn table(messages: &[ReplayedForm], place: &str, with_boxes: bool) -> Markup {
    html! {
        table.rows {
            thead { tr {
                @if with_boxes { th { input type="checkbox" data-all aria-label="All on this page"; } }
                th { "message" } th { "was" } th { "would be" } th.w2 { "would send" } th.num.w3 { "time" } th.num.w3 { "processor" } th.num.w3 { "memory" }
            } }
            tbody { @for message in messages { (row(message, place, with_boxes)) } }
        }
    }
}

fn row(message: &ReplayedForm, place: &str, with_boxes: bool) -> Markup {
    let is = &message.is;
    let class = if message.is_handled() { "ok" } else { "bad" };
    let more = message.sends.len().saturating_sub(MOST_SENDS) + message.more_sends;
    html! {
        tr data-row {
            @if with_boxes { td { input type="checkbox" name="id" value=(message.id) checked[message.is_handled()] aria-label={ "Select " (message.id) }; } }
            td { a.mono href={ (place) (path(&["dead", &message.id])) } { (short(&message.id, 40)) } }
            td {
                @if let Some(kind) = &message.was.kind { span.pill.bad { (printable(kind, 40)) } " " }
                (foreign_lines(message.was.reason.as_deref().unwrap_or_default(), REASON_BYTES))
            }
            td {
                span.pill.{(class)} { (printable(&is.outcome, 40)) } " "
                (foreign_lines(is.reason.as_deref().unwrap_or_default(), REASON_BYTES))
            }
            td.w2 {
                @for send in message.sends.iter().take(MOST_SENDS) { div { (size(u64::try_from(send.body_bytes).unwrap_or(u64::MAX))) " to " (queue_link(&send.queue)) } }
                @if more > 0 { div.dim { "and " (more) " more" } }
                @if message.writes > 0 { div { (of(u64::try_from(message.writes).unwrap_or(u64::MAX), "key", "keys")) } }
            }
            td.num.w3 { (millis(message.duration_ms)) }
            td.num.w3 { (millis(message.cpu_ms)) }
            td.num.w3 { (size(message.memory_peak_bytes)) }
        }
    }
}
