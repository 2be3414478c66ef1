//! The dashboard: pages for people below `/ui`, rendered here, which work without a script and update themselves with one.
//!
//! | page | what it shows |
//! | --- | --- |
//! | `/ui` | every handler and queue |
//! | `/ui/login`, `/ui/logout` | the form for the secret, and its end |
//! | `/ui/assets/..` | the style and the script |
//! | `/ui/live` | the page of the parameter `page`, again whenever it changes, as server-sent events |
//! | `/ui/queues/{name}` | a queue, its messages, and what can be done with them |
//! | `/ui/queues/{name}/messages/{id}`, `/ui/queues/{name}/dead/{id}` | a message or a dead letter; with `/raw` behind it the body |
//! | `/ui/queues/{name}/dead` | the dead letters of a queue |
//! | `/ui/messages/{id}` | the way of a message |
//! | `/ui/handlers/{name}` | a handler, its versions and its attempts |
//! | `/ui/handlers/{name}/checked/{digest}` | what the check says of a component that was dropped on that page |
//! | `/ui/handlers/{name}/profile` | where the processor time of a handler goes |
//!
//! Invariant: the dashboard has no logic of its own, but for components that are dropped on it (`deploys.rs`). It is a client of the
//! listener's routes like the command line, without a socket (`inside.rs`): what it shows is what they answer, and what it does leaves
//! their audit lines. Every answer carries the headers of
//! `dress.rs`, and every text that somebody else has written goes through `shown.rs`.

use std::sync::Arc;

use axum::{
    Router,
    http::StatusCode,
    middleware,
    routing::{get, post},
};

use self::{inside::InsideRoutes, live::LivePages, page_time::in_time};
use super::{AdminState, long_work::LongWork, refused::RefusedRequest};

mod assets;
mod body_view;
mod chart;
mod dead;
mod dead_actions;
mod deploys;
mod done;
mod door;
mod dress;
mod file_form;
mod flame;
mod form;
mod halts;
mod handler;
mod inside;
mod layout;
mod live;
mod message;
mod notices;
mod overview;
mod page_time;
mod profile;
mod queue;
mod queue_actions;
mod replay;
mod sessions;
mod shown;
mod versions;
mod way;

pub(crate) use self::{
    deploys::{FILE_LIMIT, takes_file},
    door::{DoorAnswer, UiDoor},
    dress::{GuardedRequest, dressed, to_login},
};

/// The path of the dashboard.
const ROOT: &str = "/ui";

/// What the pages are made from.
#[derive(Debug, Clone)]
pub(crate) struct UiState {
    admin: AdminState,
    inside: InsideRoutes,
    door: Arc<UiDoor>,
    live: LivePages,
    /// Where long bodies are made pages.
    work: LongWork,
}

/// Returns whether a path is one of the dashboard.
pub(crate) fn is_page(path: &str) -> bool {
    path.strip_prefix(ROOT)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What the body of a request may be, if its path is one of the dashboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PageBody {
    /// A form of an action, of at most so many bytes.
    Form(usize),
    /// A secret, of at most so many bytes, from somebody who is not known yet.
    Secret(usize),
    /// None.
    Nothing,
}

/// Returns what the body of a request may be, if its path is one of the dashboard.
pub(crate) fn body_of(path: &str) -> Option<PageBody> {
    let body = if path == door::LOGIN {
        PageBody::Secret(4096)
    } else if path.starts_with(door::ASSETS) {
        PageBody::Nothing
    } else {
        // A form escapes each byte of a body as three.
        PageBody::Form(form::MAX_BYTES)
    };
    is_page(path).then_some(body)
}

/// Returns the pages. `inside` are the listener's routes with their audit.
pub(crate) fn routes(admin: AdminState, inside: Router, door: Arc<UiDoor>, work: LongWork) -> Router {
    let state = UiState {
        admin,
        inside: InsideRoutes::new(inside, work.clone()),
        door,
        live: LivePages::default(),
        work,
    };
    pages(&state)
        .merge(actions().with_state(state.clone()))
        .route(
            "/ui/{*rest}",
            get(async || RefusedRequest::new(StatusCode::NOT_FOUND, "there is no such page")),
        )
        .method_not_allowed_fallback(async || {
            RefusedRequest::new(StatusCode::METHOD_NOT_ALLOWED, "no such method here")
        })
        .layer(middleware::from_fn_with_state(state, dress::dress))
}

/// Returns what is looked at.
fn pages(state: &UiState) -> Router {
    let messages = Router::new()
        .route("/ui/queues/{name}/messages/{id}", get(message::page))
        .route("/ui/queues/{name}/messages/{id}/raw", get(message::raw_message))
        .route("/ui/queues/{name}/dead/{id}", get(message::letter))
        .route("/ui/queues/{name}/dead/{id}/raw", get(message::raw_letter))
        .layer(middleware::from_fn_with_state(page_time::MESSAGE_PAGE, in_time));
    Router::new()
        .route(ROOT, get(overview::page))
        .route("/ui/", get(overview::page))
        .route("/ui/assets/{file}", get(assets::file))
        .route("/ui/live", get(live::stream_page))
        .route("/ui/queues/{name}", get(queue::page))
        .route("/ui/queues/{name}/dead", get(dead::page))
        .route("/ui/messages", get(way::find))
        .route("/ui/messages/{id}", get(way::page))
        .route("/ui/handlers/{name}", get(handler::page))
        .layer(middleware::from_fn_with_state(page_time::PAGE, in_time))
        .merge(messages)
        .with_state(state.clone())
}

/// Returns what changes something, the questions before it, and what is looked at once and never by a page that updates itself.
fn actions() -> Router<UiState> {
    Router::new()
        .route(door::LOGIN, get(door::show).post(door::log_in))
        .route(door::LOGOUT, post(door::log_out))
        .route("/ui/queues/{name}/send", post(queue_actions::send))
        .route("/ui/queues/{name}/pause", post(halts::pause_queue))
        .route("/ui/queues/{name}/resume", post(halts::resume_queue))
        .route(
            "/ui/queues/{name}/purge",
            get(queue_actions::ask_purge).post(queue_actions::purge),
        )
        .route("/ui/queues/{name}/messages/{id}/again", post(message::again))
        .route("/ui/queues/{name}/dead/redrive", post(dead_actions::redrive))
        .route("/ui/queues/{name}/dead/delete", post(dead_actions::delete))
        .route("/ui/queues/{name}/dead/{id}/redrive", post(message::redrive))
        .route("/ui/queues/{name}/dead/{id}/again", post(message::again))
        .route(
            "/ui/queues/{name}/dead/{id}/edit",
            get(dead_actions::show_edit).post(dead_actions::edit),
        )
        .route("/ui/handlers/{name}/pause", post(halts::pause_handler))
        .route("/ui/handlers/{name}/resume", post(halts::resume_handler))
        .route("/ui/handlers/{name}/rollback", post(versions::roll_back))
        .route("/ui/handlers/{name}/promote", post(versions::promote))
        .route("/ui/handlers/{name}/checked/{digest}", get(deploys::show))
        .layer(middleware::from_fn_with_state(page_time::PAGE, in_time))
        // A compilation may wait for another one, and the others take as long as their reader has asked for, or have a bound of their own.
        .route("/ui/handlers/{name}/check", post(deploys::check))
        .route(
            "/ui/handlers/{name}/checked/{digest}/replay",
            post(replay::replay_checked),
        )
        .route("/ui/handlers/{name}/deploy", post(deploys::deploy))
        .route("/ui/queues/{name}/dead/replay", post(replay::replay))
        .route("/ui/handlers/{name}/profile", get(profile::page))
}
