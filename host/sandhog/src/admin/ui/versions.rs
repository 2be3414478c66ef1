//! The versions of a handler as a table with their figures, how the newest one proves itself, and what has happened. And the orders.

use axum::{body::Bytes, extract::State, response::Response};
use maud::{Markup, html};

use super::{
    UiState, chart,
    form::ActionForm,
    handler::page_of,
    inside::{path, with_query},
    layout::token,
    sessions::UiCaller,
    shown::{digest, foreign, length, millis, number, percent, size, when},
};
use crate::admin::{
    parameters::Path,
    refused::RefusedRequest,
    wire::{ProbationForm, VersionForm, VersionList},
};
use sandhog_queue::printable::printable;

/// The events that are shown.
const MOST_EVENTS: usize = 30;

/// The versions, and who looks at them.
pub(super) struct VersionPart<'v> {
    pub(super) list: &'v VersionList,
    pub(super) caller: &'v UiCaller,
    /// The path of the page.
    pub(super) place: &'v str,
}

/// Returns the versions of a handler.
pub(super) fn history(part: &VersionPart<'_>) -> Markup {
    let list = part.list;
    html! {
        section #versions data-part {
            h2 { "Versions" span.dim { (list.versions.len()) } }
            @if let Some(note) = &list.note { p.standstill { (foreign(note)) } }
            @if let Some(probation) = &list.probation { (progress(probation, list)) }
            @if list.versions.is_empty() { p.empty { "No version was accepted so far." } } @else { (table(part)) }
            @if !list.barred.is_empty() {
                h3 { "Do not serve by themselves" }
                ul { @for barred in &list.barred { li {
                    "version " (barred.number) ", " (digest(&barred.component)) ": " span.pill.bad { (printable(&barred.state, 40)) } " " (foreign(&barred.reason))
                } } }
            }
            @if !list.events.is_empty() {
                details #events {
                    summary { "What has happened" }
                    ul { @for event in list.events.iter().take(MOST_EVENTS) { li {
                        (when(event.at_ms)) ": " (printable(&event.what, 40))
                        @if let Some(number) = event.number { ", version " (number) }
                        @if let Some(why) = &event.why { ": " (foreign(why)) }
                    } } }
                }
            }
        }
    }
}

fn progress(probation: &ProbationForm, list: &VersionList) -> Markup {
    let (stage, meaning) = match probation.stage.as_str() {
        "probation" => ("warn", "The newest version proves itself."),
        "doubt" => (
            "bad",
            "The newest version seems to be worse: both get calls until that is settled.",
        ),
        _ => ("ok", "The newest version is proven, and its predecessor stands by."),
    };
    let share = format!("{:.0} %", probation.share * 100.0);
    html! {
        div.panel {
            span.pill.{(stage)} { (printable(&probation.stage, 40)) } " " (meaning)
            dl.facts {
                dt { "Calls" } dd { (chart::share(probation.calls.min(probation.calls_wanted), probation.calls_wanted)) (number(probation.calls)) " of " (number(probation.calls_wanted)) }
                dt { "Time" } dd { (length(probation.elapsed_ms)) " of " (length(probation.time_ms)) }
                dt { "Share of the messages" } dd { (share) span.dim { " (the key canary of [rollout] in the manifest)" } }
                dt { "Broke" } dd { (percent(probation.newer_breaks, probation.newer_calls)) " of " (number(probation.newer_calls)) " calls" }
                dt { "Its predecessor" @if let Some(number) = list.predecessor { ", version " (number) } }
                dd { (percent(probation.predecessor_breaks, probation.predecessor_calls)) " of " (number(probation.predecessor_calls)) " calls" }
                @if probation.second_opinions > 0 { dt { "Second opinions" } dd { (number(probation.second_opinions)) } }
            }
        }
    }
}

fn table(part: &VersionPart<'_>) -> Markup {
    html! {
        table.rows {
            thead { tr {
                th.num { "version" } th { "state" } th { "success" } th.num.w2 { "calls" } th.num.w2 { "broke" } th.num.w2 { "p50" } th.num.w2 { "p99" }
                th.num.w3 { "processor" } th.num.w3 { "memory" } th.w2 { "accepted" } th.w3 { "component" } @if part.caller.may_change() { th.w2 {} }
            } }
            tbody { @for version in &part.list.versions { (row(version, part)) } }
        }
    }
}

fn row(version: &VersionForm, part: &VersionPart<'_>) -> Markup {
    let all: u64 = version.outcomes.values().sum();
    let good = version.outcomes.get("success").copied().unwrap_or_default();
    let class = match version.state.as_str() {
        "serving" => "ok",
        "quarantined" | "set-aside" => "bad",
        "probation" => "warn",
        _ => "",
    };
    let outcomes: Vec<String> = version
        .outcomes
        .iter()
        .map(|(word, many)| format!("{word} {many}"))
        .collect();
    let serves = part.list.serving == Some(version.number);
    html! {
        tr {
            td.num { strong { (version.number) } @if let Some(older) = version.rollback_of { span.dim title="The component of an older version, under a newer manifest" { " = " (older) } } }
            td { span.pill.{(class)} { (printable(&version.state, 40)) } }
            td title=(printable(&outcomes.join(", "), 300)) { (chart::share(good, all)) (percent(good, all)) }
            td.num.w2 { (number(version.calls)) }
            td.num.w2.bad[version.breaks > 0] { (number(version.breaks)) }
            td.num.w2 { @if let Some(ms) = version.p50_ms { (millis(ms)) } @else { "–" } }
            td.num.w2 { @if let Some(ms) = version.p99_ms { (millis(ms)) } @else { "–" } }
            td.num.w3 { @if let Some(ms) = version.cpu_ms_mean { (millis(ms)) } @else { "–" } }
            td.num.w3 { @if version.memory_peak_bytes > 0 { (size(version.memory_peak_bytes)) } @else { "–" } }
            td.w2 { (when(version.accepted_at_ms)) }
            td.w3 { (digest(&version.component)) }
            @if part.caller.may_change() { td.w2 { @if !serves { (roll_back_form(version.number, part)) } } }
        }
        @if let Some(reason) = &version.reason { tr.why { td colspan="12" { (foreign(reason)) } } }
    }
}

fn roll_back_form(number: u64, part: &VersionPart<'_>) -> Markup {
    html! {
        form method="post" action={ (part.place) "/rollback" } {
            (token(part.caller))
            input type="hidden" name="version" value=(number);
            button.quiet type="submit" aria-label={ "Serve version " (number) } { "Serve this" }
        }
    }
}

/// Goes back to an older version.
pub(super) async fn roll_back(
    State(state): State<UiState>,
    Path(name): Path<String>,
    form: ActionForm,
) -> Result<Response, RefusedRequest> {
    let parameters = [("version", form.pairs.or_empty("version"))];
    let target = with_query(&path(&["handlers", &name, "rollback"]), &parameters);
    let list: VersionList = state.inside.post(&form.caller, &target, Bytes::new()).await?;
    let text = match list.serving {
        Some(number) => format!("Version {number} serves. Promote the newest version to undo that."),
        None => "No version serves.".to_owned(),
    };
    Ok(state.done(&page_of(&name), text))
}

/// Serves the newest version without probation.
pub(super) async fn promote(
    State(state): State<UiState>,
    Path(name): Path<String>,
    form: ActionForm,
) -> Result<Response, RefusedRequest> {
    let version = form.pairs.text("version");
    let version =
        version.ok_or_else(|| RefusedRequest::bad("nothing was done: the form names no version to promote"))?;
    let target = with_query(&path(&["handlers", &name, "promote"]), &[("version", version)]);
    let list: VersionList = state.inside.post(&form.caller, &target, Bytes::new()).await?;
    let text = match list.serving {
        Some(number) => format!("Version {number} serves, and is not on probation. A rollback undoes that."),
        None => "No version serves.".to_owned(),
    };
    Ok(state.done(&page_of(&name), text))
}
