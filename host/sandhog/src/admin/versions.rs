//! The routes of a handler's versions: list, roll back and promote. An order is answered with what serves after it.

use std::time::Duration;

use axum::{Json, extract::State, http::StatusCode};
use tokio::time::{Instant, sleep};

use super::{
    AdminState, Answer,
    parameters::{Path, QueryParameters},
    refused::RefusedRequest,
    wire::{self, VersionList},
};
use crate::versions::{BoardEntry, OrderRefused, VersionOrder};

/// How long an order waits for its turn.
const BUSY_TIME: Duration = Duration::from_secs(10);
/// The time between two tries.
const BUSY_STEP: Duration = Duration::from_millis(50);

#[utoipa::path(
    get,
    path = "/handlers/{name}/versions",
    operation_id = "versions",
    tag = "handlers",
    params(
        ("name" = String, Path, description = "The name of the handler"),
    ),
    responses(
        (status = 200, body = VersionList, description = "The versions of the handler, newest first"),
        (status = 404, body = wire::ErrorAnswer, description = "There is no such handler"),
    ),
)]
pub(crate) async fn list(State(state): State<AdminState>, Path(name): Path<String>) -> Answer<VersionList> {
    Ok(Json(state.versions_of(&name)?))
}

#[utoipa::path(
    post,
    path = "/handlers/{name}/rollback",
    operation_id = "roll_back",
    tag = "handlers",
    params(
        ("name" = String, Path, description = "The name of the handler"),
        ("version" = Option<u64>, Query, description = "The number of the version to go back to; the one before if absent"),
    ),
    responses(
        (status = 200, body = VersionList, description = "The older version serves; its versions as they are now"),
        (status = 400, body = wire::ErrorAnswer, description = "The request is wrong"),
        (status = 404, body = wire::ErrorAnswer, description = "There is no such handler"),
        (status = 409, body = wire::ErrorAnswer, description = "The host can't go back to that version; the reason says why"),
        (status = 503, body = wire::ErrorAnswer, description = "The host stops, or carries out another order"),
    ),
)]
pub(crate) async fn roll_back(
    State(state): State<AdminState>,
    Path(name): Path<String>,
    mut parameters: QueryParameters,
) -> Answer<VersionList> {
    let to = parameters.number("version", 1..=u64::MAX)?;
    parameters.finish()?;
    state.order(&name, VersionOrder::Rollback { to }).await
}

#[utoipa::path(
    post,
    path = "/handlers/{name}/promote",
    operation_id = "promote",
    tag = "handlers",
    params(
        ("name" = String, Path, description = "The name of the handler"),
        ("version" = Option<u64>, Query, description = "The number of the version that is to be promoted: refused if another one is the newest. Any if absent"),
    ),
    responses(
        (status = 200, body = VersionList, description = "The version serves, and is not on probation; its versions as they are now"),
        (status = 400, body = wire::ErrorAnswer, description = "The request is wrong"),
        (status = 404, body = wire::ErrorAnswer, description = "There is no such handler"),
        (status = 409, body = wire::ErrorAnswer, description = "There is nothing to promote, or another version is the newest; the reason says why"),
        (status = 503, body = wire::ErrorAnswer, description = "The host stops, or carries out another order"),
    ),
)]
pub(crate) async fn promote(
    State(state): State<AdminState>,
    Path(name): Path<String>,
    mut parameters: QueryParameters,
) -> Answer<VersionList> {
    let version = parameters.number("version", 1..=u64::MAX)?;
    parameters.finish()?;
    state.order(&name, VersionOrder::Promote { version }).await
}

impl AdminState {
    async fn order(&self, name: &str, order: VersionOrder) -> Answer<VersionList> {
        let until = Instant::now() + BUSY_TIME;
        let mut ordered = self.versions.order(name, order).await;
        // The files of the handler are being read, or another order is under way, which takes a moment.
        while matches!(ordered, Err(OrderRefused::Busy)) && Instant::now() < until && !self.draining.is_cancelled() {
            sleep(BUSY_STEP).await;
            ordered = self.versions.order(name, order).await;
        }
        match ordered {
            Ok(()) => Ok(Json(self.versions_of(name)?)),
            Err(OrderRefused::NoHandler) => Err(self.no_handler(name)),
            Err(refused @ OrderRefused::Refused(_)) => {
                Err(RefusedRequest::new(StatusCode::CONFLICT, refused.to_string()))
            }
            Err(refused @ OrderRefused::Busy) => Err(RefusedRequest::new(
                StatusCode::SERVICE_UNAVAILABLE,
                refused.to_string(),
            )),
        }
    }

    /// Returns the versions of a handler. One whose files were never accepted has none.
    fn versions_of(&self, name: &str) -> Result<VersionList, RefusedRequest> {
        let known = || self.handlers.get(name).map(|_| BoardEntry::default());
        let entry = self.versions.entry(name).or_else(known);
        let entry = entry.ok_or_else(|| self.no_handler(name))?;
        Ok(VersionList::new(name, entry))
    }

    /// Returns the answer that lists the known handlers.
    pub(crate) fn no_handler(&self, name: &str) -> RefusedRequest {
        let known: Vec<String> = self.handlers.list().into_iter().map(|status| status.name).collect();
        RefusedRequest::unknown("handler", name, &known)
    }
}
