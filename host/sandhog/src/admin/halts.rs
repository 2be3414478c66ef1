//! The routes that pause and resume a queue or a handler by an operator's order: a halt, in the words of this code. An order is
//! answered when it is on the disk.

use std::time::{Duration, UNIX_EPOCH};

use axum::{Json, extract::State, http::StatusCode};

use super::{
    AdminState, Answer,
    parameters::{Path, QueryParameters},
    refused::RefusedRequest,
    wire::{self, HaltForm, ResumeAnswer},
};
use crate::{
    halts::{Halt, HaltRefused, HaltTarget, MAX_REASON_BYTES},
    handler_status::HandlerState,
    standing::halted,
};
use sandhog_queue::{
    machine_clock::{wall_ms, whole_ms},
    message::QueueName,
    printable::chain,
};

/// The longest pause that has an end: ten years.
const MAX_LENGTH: Duration = Duration::from_hours(24 * 3653);

#[utoipa::path(
    post,
    path = "/queues/{name}/pause",
    operation_id = "pause_queue",
    tag = "queues",
    params(
        ("name" = String, Path, description = "The name of the queue"),
        ("reason" = Option<String>, Query, description = "Why, for people: at most 1000 bytes"),
        ("for" = Option<String>, Query, description = "A duration such as 2h, after which the queue goes on by itself"),
        ("until" = Option<String>, Query, description = "The same as a time, such as 2026-12-01T08:00:00Z"),
    ),
    responses(
        (status = 200, body = HaltForm, description = "Nobody receives from the queue, and that is on the disk; sends are accepted"),
        (status = 400, body = wire::ErrorAnswer, description = "The request is wrong"),
        (status = 404, body = wire::ErrorAnswer, description = "There is no such queue"),
        (status = 409, body = wire::ErrorAnswer, description = "There are as many pauses as there may be"),
        (status = 503, body = wire::ErrorAnswer, description = "The order is not known to be on the disk; the error says whether it is in force"),
    ),
)]
pub(crate) async fn pause_queue(
    State(state): State<AdminState>,
    Path(name): Path<String>,
    parameters: QueryParameters,
) -> Answer<HaltForm> {
    let queue = state.find(&name)?.name().clone();
    state.halt(HaltTarget::Queue(queue), parameters).await
}

#[utoipa::path(
    post,
    path = "/queues/{name}/resume",
    operation_id = "resume_queue",
    tag = "queues",
    params(
        ("name" = String, Path, description = "The name of the queue"),
    ),
    responses(
        (status = 200, body = ResumeAnswer, description = "The queue is not paused any more, and that is on the disk"),
        (status = 400, body = wire::ErrorAnswer, description = "The request is wrong"),
        (status = 404, body = wire::ErrorAnswer, description = "There is no such queue"),
        (status = 503, body = wire::ErrorAnswer, description = "The order is not known to be on the disk; the error says whether it is in force"),
    ),
)]
pub(crate) async fn resume_queue(
    State(state): State<AdminState>,
    Path(name): Path<String>,
    parameters: QueryParameters,
) -> Answer<ResumeAnswer> {
    parameters.finish()?;
    // A queue that is gone may have left a halt, too.
    let left = QueueName::new(&name)
        .ok()
        .filter(|queue| state.halts.of_queue(queue).is_some());
    let queue = match left {
        Some(queue) => queue,
        None => state.find(&name)?.name().clone(),
    };
    state.resume(HaltTarget::Queue(queue)).await
}

#[utoipa::path(
    post,
    path = "/handlers/{name}/pause",
    operation_id = "pause_handler",
    tag = "handlers",
    params(
        ("name" = String, Path, description = "The name of the handler"),
        ("reason" = Option<String>, Query, description = "Why, for people: at most 1000 bytes"),
        ("for" = Option<String>, Query, description = "A duration such as 2h, after which the handler goes on by itself"),
        ("until" = Option<String>, Query, description = "The same as a time, such as 2026-12-01T08:00:00Z"),
    ),
    responses(
        (status = 200, body = HaltForm, description = "The handler receives nothing, and that is on the disk; others may receive from its queue"),
        (status = 400, body = wire::ErrorAnswer, description = "The request is wrong"),
        (status = 404, body = wire::ErrorAnswer, description = "There is no such handler"),
        (status = 409, body = wire::ErrorAnswer, description = "There are as many pauses as there may be"),
        (status = 503, body = wire::ErrorAnswer, description = "The order is not known to be on the disk; the error says whether it is in force"),
    ),
)]
pub(crate) async fn pause_handler(
    State(state): State<AdminState>,
    Path(name): Path<String>,
    parameters: QueryParameters,
) -> Answer<HaltForm> {
    if state.handlers.get(&name).is_none() {
        return Err(state.no_handler(&name));
    }
    state.halt(HaltTarget::Handler(name), parameters).await
}

#[utoipa::path(
    post,
    path = "/handlers/{name}/resume",
    operation_id = "resume_handler",
    tag = "handlers",
    params(
        ("name" = String, Path, description = "The name of the handler"),
    ),
    responses(
        (status = 200, body = ResumeAnswer, description = "The handler is not paused by an operator any more, and that is on the disk"),
        (status = 400, body = wire::ErrorAnswer, description = "The request is wrong"),
        (status = 404, body = wire::ErrorAnswer, description = "There is no such handler"),
        (status = 503, body = wire::ErrorAnswer, description = "The order is not known to be on the disk; the error says whether it is in force"),
    ),
)]
pub(crate) async fn resume_handler(
    State(state): State<AdminState>,
    Path(name): Path<String>,
    parameters: QueryParameters,
) -> Answer<ResumeAnswer> {
    parameters.finish()?;
    // A handler whose files are gone may have left a halt.
    if state.handlers.get(&name).is_none() && state.halts.of_handler(&name).is_none() {
        return Err(state.no_handler(&name));
    }
    state.resume(HaltTarget::Handler(name)).await
}

impl AdminState {
    async fn halt(&self, target: HaltTarget, mut parameters: QueryParameters) -> Answer<HaltForm> {
        let now_ms = wall_ms();
        let reason = parameters.take("reason").unwrap_or_default();
        let length = parameters.duration("for", MAX_LENGTH)?;
        let until = parameters.take("until");
        parameters.finish()?;
        if reason.len() > MAX_REASON_BYTES {
            return Err(RefusedRequest::bad(format!(
                "reason: use at most {MAX_REASON_BYTES} bytes"
            )));
        }
        let until_ms = match (length, until) {
            (None, None) => None,
            (Some(length), None) => Some(now_ms.saturating_add(whole_ms(length))),
            (None, Some(text)) => Some(time(&text, now_ms)?),
            (Some(_), Some(_)) => return Err(RefusedRequest::bad("for and until: use one of them".to_owned())),
        };
        let halt = Halt {
            reason,
            since_ms: now_ms,
            until_ms,
        };
        self.halts.halt(target, halt.clone()).await?;
        Ok(Json(halt.into()))
    }

    async fn resume(&self, target: HaltTarget) -> Answer<ResumeAnswer> {
        let ended = self.halts.resume(target.clone()).await?.map(HaltForm::from);
        let still = self.still_halted(&target);
        Ok(Json(ResumeAnswer { ended, still }))
    }

    /// Says what else keeps a handler or a queue that was resumed from going on.
    fn still_halted(&self, target: &HaltTarget) -> Option<String> {
        let other = match target {
            HaltTarget::Handler(handler) => HaltTarget::Queue(self.handlers.get(handler)?.queue?),
            HaltTarget::Queue(queue) => {
                let handlers = self.handlers.list().into_iter();
                let of_queue = handlers.filter(|handler| handler.queue.as_ref() == Some(queue));
                let mut targets = of_queue.map(|handler| HaltTarget::Handler(handler.name));
                targets.find(|handler| self.halts.of(handler).is_some())?
            }
        };
        let Some(halt) = self.halts.of(&other) else {
            return self.paused_by_host(target);
        };
        let command = match &other {
            HaltTarget::Queue(queue) => format!("sandhog resume {queue}"),
            HaltTarget::Handler(handler) => format!("sandhog resume {handler} --handler"),
        };
        Some(format!("{}; `{command}` ends that", halted(&other, &halt)))
    }
}

impl AdminState {
    /// Says that the host itself has paused a handler, which an operator does not end.
    fn paused_by_host(&self, target: &HaltTarget) -> Option<String> {
        let HaltTarget::Handler(handler) = target else {
            return None;
        };
        match self.handlers.get(handler)?.state {
            HandlerState::Paused { reason } => Some(format!(
                "the host has paused handler {handler} after failures, and probes it until a message is handled: {reason}"
            )),
            HandlerState::Loading | HandlerState::Serving | HandlerState::Refused | HandlerState::Stopping => None,
        }
    }
}

/// Returns the milliseconds since 1970-01-01T00:00:00Z of a time in text form, which has to be in the future.
fn time(text: &str, now_ms: u64) -> Result<u64, RefusedRequest> {
    let at = humantime::parse_rfc3339(text).map_err(|_| {
        RefusedRequest::bad(format!(
            "until={text}: use a time in UTC, with a Z at its end, such as 2026-12-01T08:00:00Z"
        ))
    })?;
    let ms = at.duration_since(UNIX_EPOCH).ok().map(whole_ms);
    let latest = now_ms.saturating_add(whole_ms(MAX_LENGTH));
    ms.filter(|ms| (now_ms + 1..=latest).contains(ms)).ok_or_else(|| {
        RefusedRequest::bad(format!(
            "until={text}: use a time that is not over, and ten years away at most, such as 2026-12-01T08:00:00Z"
        ))
    })
}

impl From<HaltRefused> for RefusedRequest {
    fn from(refused: HaltRefused) -> Self {
        let status = match refused {
            HaltRefused::TooMany => StatusCode::CONFLICT,
            HaltRefused::Disk { .. } | HaltRefused::Unconfirmed { .. } => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, chain(&refused))
    }
}
