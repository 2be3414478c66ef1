//! The page of a handler: what it does, its versions with their figures, how the newest one proves itself, and its attempts.

use axum::{
    Extension,
    extract::{RawQuery, State},
    response::Response,
};
use maud::{Markup, html};

use super::{
    UiState, chart, deploys,
    form::FormPairs,
    halts::halt_form,
    inside::{page_path, path, with_query},
    layout::{Frame, page as framed, token},
    overview::{handler_state, minute_label},
    sessions::UiCaller,
    shown::{digest, foreign, foreign_lines, number, percent, short, when},
    versions::{VersionPart, history},
    way::{attempt, message_link},
};
use crate::{
    admin::{
        parameters::Path,
        refused::RefusedRequest,
        wire::{AttemptList, HandlerForm, HandlerList, VersionList},
    },
    journal::JournalEntry,
};

/// The attempts that the chart has.
const CHART_ATTEMPTS: &str = "300";
/// The attempts that are listed.
const LISTED: usize = 50;

/// Shows the page.
pub(super) async fn page(
    State(state): State<UiState>,
    Extension(caller): Extension<UiCaller>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, RefusedRequest> {
    let asked = FormPairs::of_query(query.as_deref())?;
    let versions: VersionList = state
        .inside
        .get(&caller, &path(&["handlers", &name, "versions"]))
        .await?;
    let list: HandlerList = state.inside.get(&caller, "/handlers").await?;
    let handler = list.handlers.into_iter().find(|handler| handler.name == name);
    let pairs = [
        ("limit", CHART_ATTEMPTS),
        ("failed", if asked.text("failed").is_some() { "true" } else { "" }),
    ];
    let target = with_query(&path(&["handlers", &name, "attempts"]), &pairs);
    let attempts: AttemptList = state.inside.get(&caller, &target).await?;
    let place = page_of(&name);
    let frame = Frame::of(&caller, &name)
        .live()
        .with_notice(state.notice(query.as_deref()));
    let manifest = manifest(&state, &caller, &versions).await;
    let deploy = deploys::form(&state, &caller, handler.as_ref()).await;
    let main = html! {
        p.crumbs { a href="/ui" { "Overview" } " / Handler" }
        div.head {
            h1 { (short(&name, 120)) }
            @if let Some(handler) = &handler { span #state data-part { (handler_state(handler)) } a href={ (place) "/profile" } { "Where the time goes" } }
        }
        @match &handler {
            Some(handler) => {
                (standstill(handler))
                (totals(&state, handler))
                @if caller.may_change() { (actions(&caller, handler, &versions, &place)) }
            }
            None => p.empty { "Its files are not in the plugin directory any more. This is what is kept of it." }
        }
        (history(&VersionPart { list: &versions, caller: &caller, place: &place }))
        (manifest)
        (deploy)
        (attempt_part(&attempts.attempts, &asked, &place))
    };
    Ok(framed(&frame, main))
}

/// Returns the path of the page of a handler.
pub(super) fn page_of(name: &str) -> String {
    page_path(&["handlers", name])
}

fn standstill(handler: &HandlerForm) -> Markup {
    html! {
        div #standstill data-part {
            @if let Some(why) = &handler.standstill { p.standstill { (foreign(why)) } }
            @if let Some(why) = &handler.paused_because { p.bad { "Paused by the host: " (foreign(why)) } }
            @if let Some(why) = &handler.last_error {
                div.panel.alert { h2 { "The newest files are refused" } pre { (foreign_lines(why, 4096)) } @if handler.tried_again { p.dim { "The host tries them again." } } }
            }
            @if let Some(why) = &handler.queue_error { p.bad { "The last receive failed: " (foreign(why)) } }
        }
    }
}

fn totals(state: &UiState, handler: &HandlerForm) -> Markup {
    let minute = &handler.last_minute;
    let seconds = state.admin.metrics.handler_seconds(&handler.name);
    html! {
        dl.totals #totals data-part {
            div { dt { "version" } dd { @if handler.version > 0 { (handler.version) } @else { "–" } } }
            div { dt { "in flight" } dd { (handler.in_flight) span.dim { " / " (handler.slots) } } }
            div { dt { "handled, last minute" } dd { (number(minute.handled)) } }
            div.bad[minute.failed > 0] { dt { "failed, last minute" } dd { (number(minute.failed)) } }
            div { dt { "calls that broke" } dd { (percent(handler.breaks, handler.calls)) } }
            div.small { dt { "last minute" } dd { (chart::minute(&seconds, &minute_label(minute.handled, minute.failed))) } }
        }
        dl.facts {
            @if let Some(queue) = &handler.queue { dt { "Queue" } dd { a href={ "/ui" (path(&["queues", queue])) } { (short(queue, 100)) } } }
            @if let Some(flavour) = &handler.flavour { dt { "Flavour" } dd { (foreign(flavour)) } }
            @if let Some(component) = &handler.digest { dt { "Component" } dd { (digest(component)) } }
            @if let Some(at) = handler.loaded_at_ms { dt { "Loaded" } dd { (when(at)) } }
        }
    }
}

fn actions(caller: &UiCaller, handler: &HandlerForm, versions: &VersionList, place: &str) -> Markup {
    html! {
        div.actions #actions data-part {
            (halt_form(caller, handler.halt.as_ref(), place))
            @if let Some(before) = versions.predecessor {
                form method="post" action={ (place) "/rollback" } {
                    (token(caller))
                    input type="hidden" name="version" value=(before);
                    button type="submit" { "Roll back to version " (before) }
                }
            }
            @if let Some(newest) = versions.promotable {
                form method="post" action={ (place) "/promote" } {
                    (token(caller))
                    input type="hidden" name="version" value=(newest);
                    button type="submit" { "Promote version " (newest) }
                }
            }
        }
    }
}

/// Returns the manifest of the version that serves, which has its limits and grants.
async fn manifest(state: &UiState, caller: &UiCaller, versions: &VersionList) -> Markup {
    let serving = versions
        .versions
        .iter()
        .find(|version| Some(version.number) == versions.serving);
    let Some(serving) = serving else { return html! {} };
    let text = match &serving.manifest {
        Some(_) => {
            let number = serving.number.to_string();
            let target = path(&["handlers", &versions.handler, "versions", &number, "manifest"]);
            state.inside.text(caller, &target).await
        }
        None => Ok("# There is no manifest: every limit has its default, and nothing is granted.".to_owned()),
    };
    html! {
        details.fold #manifest {
            summary { "Limits and grants of version " (serving.number) }
            @match text {
                Ok(text) => pre tabindex="0" { (foreign_lines(&text, 256 * 1024)) }
                Err(refused) => p.dim { (foreign(&refused.to_string())) }
            }
        }
    }
}

fn attempt_part(attempts: &[JournalEntry], asked: &FormPairs, place: &str) -> Markup {
    let failed_only = asked.text("failed").is_some();
    html! {
        section #attempts data-part {
            div.head {
                h2 { "Attempts" span.dim { (attempts.len()) ", newest first" } }
                @if failed_only { a href=(place) { "All" } } @else { a href={ (place) "?failed=1" } { "Failed only" } }
            }
            @if attempts.is_empty() {
                p.empty { "No attempt is kept." }
            } @else {
                (chart::durations(attempts))
                table.rows { tbody { @for entry in attempts.iter().rev().take(LISTED) {
                    tr data-row .fault[!entry.is_handled()] {
                        td { (message_link(&entry.queue, &entry.message)) }
                        td { (attempt(entry, false)) }
                    }
                } } }
            }
        }
    }
}
