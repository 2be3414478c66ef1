//! The routes that order a drain, show how far it has come, and end it.

use std::time::Duration;

use axum::{Json, extract::State, http::StatusCode};
use tokio::time::{Instant, sleep};

use super::{
    AdminState, Answer,
    parameters::QueryParameters,
    refused::RefusedRequest,
    wire::{self, DrainForm, EndedDrain, HeldMessages},
};

/// The longest wait of a request.
const MAX_WAIT: Duration = Duration::from_secs(20);
/// The time between two looks of a request that waits.
const LOOK_EVERY: Duration = Duration::from_millis(50);

#[utoipa::path(
    post,
    path = "/drain",
    operation_id = "drain",
    tag = "host",
    responses(
        (status = 200, body = DrainForm, description = "No handler begins another attempt; what is in flight ends, and sends are accepted"),
        (status = 400, body = wire::ErrorAnswer, description = "The request is wrong"),
    ),
)]
pub(crate) async fn order(State(state): State<AdminState>, parameters: QueryParameters) -> Answer<DrainForm> {
    parameters.finish()?;
    state.halts.drain();
    Ok(Json(state.drain_form()))
}

#[utoipa::path(
    get,
    path = "/drain",
    operation_id = "drain_state",
    tag = "host",
    params(
        ("wait" = Option<String>, Query, description = "How long to wait until the host is drained: 0s to 20s, default 0s"),
    ),
    responses(
        (status = 200, body = DrainForm, description = "How far the drain has come; without one, what is in flight"),
        (status = 400, body = wire::ErrorAnswer, description = "The request is wrong"),
    ),
)]
pub(crate) async fn show(State(state): State<AdminState>, mut parameters: QueryParameters) -> Answer<DrainForm> {
    let wait = parameters.duration("wait", MAX_WAIT)?.unwrap_or_default();
    parameters.finish()?;
    let until = Instant::now() + wait;
    loop {
        let form = state.drain_form();
        let is_ending = form.since_ms.is_none() && !form.stopping;
        if form.drained || is_ending || Instant::now() >= until {
            return Ok(Json(form));
        }
        sleep(LOOK_EVERY).await;
    }
}

#[utoipa::path(
    post,
    path = "/drain/end",
    operation_id = "end_drain",
    tag = "host",
    responses(
        (status = 200, body = EndedDrain, description = "Handlers receive again, as far as nothing else keeps them from it"),
        (status = 400, body = wire::ErrorAnswer, description = "The request is wrong"),
        (status = 409, body = wire::ErrorAnswer, description = "The host is about to stop, so it goes on draining"),
    ),
)]
pub(crate) async fn end(State(state): State<AdminState>, parameters: QueryParameters) -> Answer<EndedDrain> {
    parameters.finish()?;
    if state.draining.is_cancelled() {
        let why = "the host is about to stop, and drains until then: start it again";
        return Err(RefusedRequest::new(StatusCode::CONFLICT, why));
    }
    let since_ms = state.halts.end_drain();
    Ok(Json(EndedDrain { since_ms }))
}

impl AdminState {
    fn drain_form(&self) -> DrainForm {
        let stopping = self.draining.is_cancelled();
        let since_ms = self.halts.draining_since();
        // Before the leases: a handler that has stopped to receive gets no more of them.
        let none_receives = stopping || (since_ms.is_some() && self.handlers.all_halted());
        let held = self.metrics.held_leases().by_handler();
        DrainForm {
            since_ms,
            stopping,
            // A request to a remote queue outlives its receive for a moment, and gives back what it brings.
            drained: none_receives && held.is_empty() && !self.queues.is_receiving(),
            in_flight: held
                .into_iter()
                .map(|(handler, messages)| HeldMessages { handler, messages })
                .collect(),
        }
    }
}
