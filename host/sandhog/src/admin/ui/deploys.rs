//! A component that is dropped on the page of a handler: what the check says of it, and the order to put it into place.
//!
//! Invariant: this is the one thing that a page does and no route does, so that a program that carries the secret can't. It leaves audit
//! lines of its own. It never makes a handler, and never makes or changes a manifest.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension,
    extract::{Request, State},
    http::{Method, StatusCode},
    response::{IntoResponse as _, Redirect, Response},
};
use maud::{Markup, html};
use tokio_util::task::TaskTracker;

use super::{
    UiState,
    file_form::{self, COMPONENT},
    form::ActionForm,
    handler::page_of,
    inside::path,
    layout::{Frame, page as framed, token},
    sessions::UiCaller,
    shown::{digest, foreign, foreign_lines, short, size},
};
use crate::{
    admin::{
        audit::PageAudit,
        connections::{ClientConnection, ConnectionPhase},
        parameters::Path,
        refused::RefusedRequest,
        wire::{HandlerForm, VersionList},
    },
    deploy_desk::{CheckKey, CheckedComponent, DeployDesk, DeployedComponent, DeskRefused, StoredComponent},
    trial::shown_lines,
};
use sandhog_executor::MAX_WASM_BYTES;
use sandhog_queue::printable::{chain, printable};

/// The longest time of a request with a file: a compilation may wait for another one.
pub(crate) const FILE_LIMIT: Duration = Duration::from_mins(15);

/// The longest part of a refusal that is shown, in bytes.
const SHOWN_WHY: usize = 16 * 1024;

/// Returns whether a request brings a file.
pub(crate) fn takes_file(request: &Request) -> bool {
    let rest = request.uri().path().strip_prefix("/ui/handlers/");
    let action = rest.and_then(|rest| rest.split_once('/')).map(|(_, action)| action);
    *request.method() == Method::POST && action == Some("check")
}

pub(super) fn desk(state: &UiState) -> Result<&Arc<DeployDesk>, RefusedRequest> {
    state.admin.deploys.as_ref().ok_or_else(|| {
        let why = "this host takes no components here: that is the key dashboard-deploy of sandhog.toml, with a data directory";
        RefusedRequest::new(StatusCode::NOT_FOUND, why)
    })
}

pub(super) fn key(caller: &UiCaller, handler: &str, digest: &str) -> CheckKey {
    CheckKey {
        owner: sandhog_executor::digest(caller.token.as_bytes()),
        handler: handler.to_owned(),
        digest: digest.to_owned(),
    }
}

/// Returns the form for a component of a handler that there is; nothing if the caller may not deploy here.
pub(super) async fn form(state: &UiState, caller: &UiCaller, handler: Option<&HandlerForm>) -> Markup {
    let desk = state.admin.deploys.as_ref().filter(|_| caller.may_change());
    let Some((desk, name)) = desk.zip(handler.map(|handler| handler.name.as_str())) else {
        return html! {};
    };
    let obstacle = desk.obstacle(name).await;
    let most = u64::try_from(MAX_WASM_BYTES).unwrap_or(u64::MAX);
    html! {
        section #deploy {
            h2 { "Deploy" }
            @if let Some(obstacle) = obstacle {
                p.empty { (foreign(&obstacle.to_string())) }
            } @else {
                form.panel method="post" action={ (page_of(name)) "/check" } enctype="multipart/form-data" data-drop=(most) {
                    (token(caller))
                    label {
                        "A component, to take the place of " (short(name, 100)) ".wasm (at most " (size(most)) ")"
                        input type="file" name=(COMPONENT) accept=".wasm,application/wasm" required;
                    }
                    p.dim { "It is checked first, with the manifest that is there. You see what the check says before anything is replaced." }
                    div.actions { button type="submit" { "Check" } }
                }
            }
        }
    }
}

/// Takes a component, and checks it.
pub(super) async fn check(
    State(state): State<UiState>,
    Path(name): Path<String>,
    Extension(caller): Extension<UiCaller>,
    Extension(tasks): Extension<TaskTracker>,
    request: Request,
) -> Result<Response, RefusedRequest> {
    let desk = Arc::clone(desk(&state)?);
    caller.caller.check(&Method::POST)?;
    let place = path(&["handlers", &name]);
    let audit = PageAudit::begin(&caller.caller.who, caller.address.as_ref(), "check handler", &place);
    let stored = match take_in(&state, &desk, &name, (&caller, request)).await {
        Ok(stored) => stored,
        Err(refused) => {
            audit.end("refused", Some(refused.to_string()));
            return Err(refused);
        }
    };
    let (handler, owner) = (name.clone(), key(&caller, "", "").owner);
    // It ends with its line, also if nobody waits for it any more.
    let checked = tasks.spawn(async move {
        let checked = desk.check(stored, &handler, &owner).await;
        match &checked {
            Ok(checked) => audit.end_with(&what(&place, checked), verdict_word(checked), checked.refusal.clone()),
            Err(refused) => audit.end("refused", Some(chain(refused))),
        }
        checked
    });
    let checked = checked.await.map_err(|error| died(&error))??;
    Ok(Redirect::to(&format!("{}/checked/{}", page_of(&name), checked.digest)).into_response())
}

/// Takes the file of a form, if nothing keeps it from its place.
async fn take_in(
    state: &UiState,
    desk: &DeployDesk,
    handler: &str,
    (caller, request): (&UiCaller, Request),
) -> Result<StoredComponent, RefusedRequest> {
    if let Some(obstacle) = desk.obstacle(handler).await {
        return Err(obstacle.into());
    }
    let connection: Option<Arc<ClientConnection>> = request.extensions().get().map(Arc::clone);
    let cookie = super::door::cookie(request.headers());
    let stored = file_form::take_in(request, caller, desk).await?;
    if let Some(connection) = connection {
        connection.turn(ConnectionPhase::UnderWay);
    }
    // The file took its time.
    if caller.has_session && !cookie.is_some_and(|cookie| state.door.sessions.is_open(&cookie)) {
        let why = "the session has ended meanwhile, and nothing was done: log in again";
        return Err(RefusedRequest::new(StatusCode::UNAUTHORIZED, why));
    }
    Ok(stored)
}

fn verdict_word(checked: &CheckedComponent) -> &'static str {
    if checked.refusal.is_none() {
        "done: the host would run it"
    } else {
        "done: the host would refuse it"
    }
}

fn what(place: &str, checked: &CheckedComponent) -> String {
    format!("{place} component {}, {} bytes", checked.digest, checked.size)
}

fn died(error: &tokio::task::JoinError) -> RefusedRequest {
    tracing::error!(%error, "a task of a page has died");
    RefusedRequest::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the host could not do it; its log says why",
    )
}

/// Shows what the check has said.
pub(super) async fn show(
    State(state): State<UiState>,
    Path((name, digest)): Path<(String, String)>,
    Extension(caller): Extension<UiCaller>,
) -> Result<Response, RefusedRequest> {
    caller.caller.check(&Method::POST)?;
    let checked = desk(&state)?.checked(&key(&caller, &name, &digest))?;
    let versions: VersionList = state
        .inside
        .get(&caller, &path(&["handlers", &name, "versions"]))
        .await?;
    let place = page_of(&name);
    let main = html! {
        p.crumbs { a href="/ui" { "Overview" } " / " a href=(place) { (short(&name, 80)) } " / Check" }
        (verdict(&name, &checked))
        (warnings(&checked, &versions))
        (beside(&checked, &versions))
        @if checked.refusal.is_none() && !checked.is_in_place() {
            (deploy_form(&caller, &place, &checked.digest))
            form.actions #replay method="post" action={ (place) "/checked/" (checked.digest) "/replay" } {
                (token(&caller))
                button type="submit" { "Replay the oldest 20 dead letters" }
                span.dim { "This calls the component with them and changes nothing: no message is sent or put back, no key is kept, no server is asked." }
            }
        } @else {
            p { a.button href=(place) { "Back to the handler" } }
        }
        h2 { "What the check says" }
        dl.facts { @for (name, value) in &checked.facts {
            dt { (name) }
            dd { @for line in shown_lines(value) { div { (short(&line, 1000)) } } }
        } }
    };
    Ok(framed(&Frame::of(&caller, "Check"), main))
}

/// Returns the form that deploys a component.
pub(super) fn deploy_form(caller: &UiCaller, place: &str, digest: &str) -> Markup {
    html! {
        form.actions method="post" action={ (place) "/deploy" } {
            (token(caller))
            input type="hidden" name="digest" value=(digest);
            button.primary type="submit" { "Deploy" }
            a.button href=(place) { "Leave it" }
        }
    }
}

fn verdict(name: &str, checked: &CheckedComponent) -> Markup {
    html! {
        @match &checked.refusal {
            None => {
                h1 { "The host would run it" }
                p { span.pill.ok { "ok" } " The component passes with the manifest of " (short(name, 100)) ", which stays as it is." }
            }
            Some(why) => {
                h1 { "The host would refuse it" }
                div.panel.alert { h2 { "refused" } pre { (foreign_lines(why, SHOWN_WHY)) } }
                p.dim { "A page changes no manifest. What a component may reach is said where the manifest is written. " (short(name, 100)) " goes on as it is." }
            }
        }
    }
}

/// What somebody has to know before the component is deployed.
fn warnings(checked: &CheckedComponent, versions: &VersionList) -> Markup {
    let barred = versions.barred.iter().find(|barred| barred.component == checked.digest);
    html! {
        @if checked.is_in_place() {
            p.standstill { "The file in the plugin directory is this component already, so there is nothing to deploy." }
        }
        @if let Some(barred) = barred {
            p.standstill {
                "This component does not serve by itself: it is version " (barred.number) ", " (printable(&barred.state, 40)) ": " (foreign(&barred.reason))
                " Promote it on the page of the handler once it is in place."
            }
        }
    }
}

/// The component beside the one that serves.
fn beside(checked: &CheckedComponent, versions: &VersionList) -> Markup {
    let serving = versions
        .versions
        .iter()
        .find(|one| Some(one.number) == versions.serving);
    let most = |bytes: usize| size(u64::try_from(bytes).unwrap_or(u64::MAX));
    let in_place = &checked.place.component;
    html! {
        table.rows {
            thead { tr { th {} th { "component" } th.num { "size" } } }
            tbody {
                tr { td { "this file" } td { (digest(&checked.digest)) } td.num { (most(checked.size)) } }
                tr { td { "in the plugin directory" } td { (digest(in_place)) } td.num { (most(checked.place.size)) } }
                @match serving {
                    Some(serving) => tr {
                        td { "serves now: version " (serving.number) }
                        td { (digest(&serving.component)) @if serving.component == checked.digest { " the same as this file" } }
                        td.num { @if *in_place == serving.component { (most(checked.place.size)) } @else { "–" } }
                    },
                    None => tr { td { "serves now" } td { "no version" } td.num { "–" } },
                }
            }
        }
    }
}

/// Puts a component that was checked into place.
pub(super) async fn deploy(
    State(state): State<UiState>,
    Path(name): Path<String>,
    Extension(tasks): Extension<TaskTracker>,
    form: ActionForm,
) -> Result<Response, RefusedRequest> {
    let desk = Arc::clone(desk(&state)?);
    let caller = form.caller;
    let wanted = form.pairs.or_empty("digest").to_owned();
    let key = key(&caller, &name, &wanted);
    let place = path(&["handlers", &name]);
    let begun = format!("{place} component {wanted}");
    let audit = PageAudit::begin(&caller.caller.who, caller.address.as_ref(), "deploy handler", &begun);
    // As the check. A component is in place or not, and the line says which.
    let deployed = tasks.spawn(async move {
        let deployed = desk.deploy(&key).await;
        match &deployed {
            Ok(deployed) => audit.end_with(&what(&place, &deployed.checked), "done", deployed.warning.clone()),
            Err(refused) => audit.end("refused", Some(chain(refused))),
        }
        deployed
    });
    let deployed: Result<_, DeskRefused> = deployed.await.map_err(|error| died(&error))?;
    let DeployedComponent { checked, warning } = deployed?;
    let short: String = checked.digest.chars().take(10).collect();
    let warning = warning.map(|warning| format!(" But {warning}.")).unwrap_or_default();
    let text = format!(
        "{short} is in the plugin directory now. The host takes it within seconds, and it proves itself below.{warning}"
    );
    Ok(state.done(&page_of(&name), text))
}
