//! The route that reads the configuration again.

use axum::{Json, extract::State, http::StatusCode};

use super::{
    AdminState, Answer,
    parameters::QueryParameters,
    refused::RefusedRequest,
    wire::{self, ReloadAnswer},
};
use crate::config_reload::{ReloadRefused, ReloadReport};
use sandhog_queue::printable::chain;

#[utoipa::path(
    post,
    path = "/reload",
    operation_id = "reload",
    tag = "host",
    responses(
        (status = 200, body = ReloadAnswer, description = "The configuration was read again; what can change while the host runs is in force"),
        (status = 400, body = wire::ErrorAnswer, description = "The request is wrong"),
        (status = 409, body = wire::ErrorAnswer, description = "The configuration has mistakes, and all of them are named; nothing has changed"),
        (status = 501, body = wire::ErrorAnswer, description = "The host was started without a configuration that could be read again"),
        (status = 503, body = wire::ErrorAnswer, description = "A queue is unavailable, or the host is stopping"),
    ),
)]
pub(crate) async fn reload(State(state): State<AdminState>, parameters: QueryParameters) -> Answer<ReloadAnswer> {
    parameters.finish()?;
    let reload = state.reload.ok_or(ReloadRefused::NoSource)?;
    let ReloadReport { changed, needs_restart } = reload.reload().await?;
    Ok(Json(ReloadAnswer { changed, needs_restart }))
}

impl From<ReloadRefused> for RefusedRequest {
    fn from(refused: ReloadRefused) -> Self {
        match refused {
            ReloadRefused::Queue(error) => error.into(),
            ReloadRefused::Stopping => Self::new(StatusCode::SERVICE_UNAVAILABLE, chain(&refused)),
            ReloadRefused::Mistakes(_) => Self::new(StatusCode::CONFLICT, chain(&refused)),
            ReloadRefused::NoSource => Self::new(StatusCode::NOT_IMPLEMENTED, chain(&refused)),
        }
    }
}
