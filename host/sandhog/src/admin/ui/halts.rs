//! The pauses of queues and of handlers: their form, and what it does.

use axum::{body::Bytes, extract::State, response::Response};
use maud::{Markup, html};

use super::{
    UiState,
    form::ActionForm,
    inside::{page_path, path, with_query},
    layout::token,
    sessions::UiCaller,
    shown::{foreign, when},
};
use crate::admin::{
    parameters::Path,
    refused::RefusedRequest,
    wire::{HaltForm, ResumeAnswer},
};

/// What is paused.
#[derive(Debug, Clone, Copy)]
enum HaltedKind {
    Queue,
    Handler,
}

impl HaltedKind {
    /// The first segment of its routes and of its page.
    fn segment(self) -> &'static str {
        match self {
            Self::Queue => "queues",
            Self::Handler => "handlers",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Handler => "handler",
        }
    }

    /// Says what a pause does.
    fn paused(self) -> &'static str {
        match self {
            Self::Queue => {
                "The queue is paused: nobody receives from it, and what is in flight ends. Sends are accepted."
            }
            Self::Handler => "The handler is paused: it receives nothing more, and what is in flight ends.",
        }
    }
}

/// Returns the form that pauses a queue or a handler, or the one that ends that.
pub(super) fn halt_form(caller: &UiCaller, halt: Option<&HaltForm>, place: &str) -> Markup {
    html! {
        @if let Some(halt) = halt {
            form method="post" action={ (place) "/resume" } {
                (token(caller))
                button.primary type="submit" { "Resume" }
                span.dim {
                    "Paused by an operator since " (when(halt.since_ms))
                    @if let Some(until) = halt.until_ms { ", until " (when(until)) }
                    @if !halt.reason.is_empty() { ": " (foreign(&halt.reason)) }
                }
            }
        } @else {
            form method="post" action={ (place) "/pause" } {
                (token(caller))
                label { "Reason" input type="text" name="reason" maxlength="500" placeholder="for the others"; }
                label { "For" input type="text" name="for" size="6" maxlength="40" placeholder="2h"; }
                button type="submit" { "Pause" }
            }
        }
    }
}

/// Pauses a queue.
pub(super) async fn pause_queue(
    State(state): State<UiState>,
    Path(name): Path<String>,
    form: ActionForm,
) -> Result<Response, RefusedRequest> {
    pause(&state, HaltedKind::Queue, &name, &form).await
}

/// Pauses a handler.
pub(super) async fn pause_handler(
    State(state): State<UiState>,
    Path(name): Path<String>,
    form: ActionForm,
) -> Result<Response, RefusedRequest> {
    pause(&state, HaltedKind::Handler, &name, &form).await
}

/// Ends the pause of a queue.
pub(super) async fn resume_queue(
    State(state): State<UiState>,
    Path(name): Path<String>,
    form: ActionForm,
) -> Result<Response, RefusedRequest> {
    resume(&state, HaltedKind::Queue, &name, &form).await
}

/// Ends the pause of a handler.
pub(super) async fn resume_handler(
    State(state): State<UiState>,
    Path(name): Path<String>,
    form: ActionForm,
) -> Result<Response, RefusedRequest> {
    resume(&state, HaltedKind::Handler, &name, &form).await
}

async fn pause(state: &UiState, kind: HaltedKind, name: &str, form: &ActionForm) -> Result<Response, RefusedRequest> {
    let parameters = ["reason", "for"].map(|name| (name, form.pairs.or_empty(name)));
    let target = with_query(&path(&[kind.segment(), name, "pause"]), &parameters);
    let _halt: HaltForm = state.inside.post(&form.caller, &target, Bytes::new()).await?;
    Ok(state.done(&page_path(&[kind.segment(), name]), kind.paused().to_owned()))
}

async fn resume(state: &UiState, kind: HaltedKind, name: &str, form: &ActionForm) -> Result<Response, RefusedRequest> {
    let target = path(&[kind.segment(), name, "resume"]);
    let answer: ResumeAnswer = state.inside.post(&form.caller, &target, Bytes::new()).await?;
    Ok(state.done(&page_path(&[kind.segment(), name]), resumed(kind.word(), &answer)))
}

/// Says what a resume has done.
fn resumed(kind: &str, answer: &ResumeAnswer) -> String {
    match (&answer.ended, &answer.still) {
        (_, Some(still)) => format!("The {kind} is not paused any more, but it stands still: {still}."),
        (Some(_), None) => format!("The {kind} is not paused any more."),
        (None, None) => format!("The {kind} was not paused."),
    }
}
