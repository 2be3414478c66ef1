//! The route that takes a profile of a handler.

use std::time::Duration;

use axum::{Json, extract::State, http::StatusCode};

use super::{
    AdminState, Answer,
    parameters::{Path, QueryParameters},
    refused::RefusedRequest,
    wire::{self, ProfileForm},
};
use sandhog_queue::machine_clock::whole_ms;

/// The time of a profile without a parameter.
const USUAL: Duration = Duration::from_secs(5);
/// The longest time of a profile.
const LONGEST: Duration = Duration::from_secs(20);

#[utoipa::path(
    get,
    path = "/handlers/{name}/profile",
    operation_id = "profile",
    tag = "handlers",
    params(
        ("name" = String, Path, description = "The name of the handler"),
        ("for" = Option<String>, Query, description = "How long to take samples: up to 20s, default 5s"),
    ),
    responses(
        (status = 200, body = ProfileForm, description = "What the guests of the handler computed in that time, by function"),
        (status = 400, body = wire::ErrorAnswer, description = "The request is wrong"),
        (status = 404, body = wire::ErrorAnswer, description = "There is no such handler"),
        (status = 409, body = wire::ErrorAnswer, description = "Another profile is being taken"),
    ),
)]
pub(crate) async fn take(
    State(state): State<AdminState>,
    Path(name): Path<String>,
    mut parameters: QueryParameters,
) -> Answer<ProfileForm> {
    let time = parameters.duration("for", LONGEST)?.unwrap_or(USUAL);
    parameters.finish()?;
    if state.handlers.get(&name).is_none() {
        return Err(state.no_handler(&name));
    }
    let profile = tokio::select! {
        profile = state.executor.profile(&name, time) => profile,
        () = state.draining.cancelled() => {
            let why = "the host is about to stop";
            return Err(RefusedRequest::new(StatusCode::SERVICE_UNAVAILABLE, why));
        }
    };
    let profile = profile.map_err(|busy| RefusedRequest::new(StatusCode::CONFLICT, busy.to_string()))?;
    Ok(Json(ProfileForm::new(name, whole_ms(time), profile)))
}
