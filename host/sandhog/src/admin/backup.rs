//! The route of a backup: the archive goes to the client while it is read.

use axum::{
    Extension,
    body::Body,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::{AdminState, refused::RefusedRequest, wire};
use crate::backup::BackupRefused;
use sandhog_queue::printable::chain;

#[utoipa::path(
    post,
    path = "/backup",
    tag = "host",
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/x-tar", description = "A tar file with the data directory; its last entry is backup.json if it is whole, or FAILED with the reason"),
        (status = 409, body = wire::ErrorAnswer, description = "Another backup is being made"),
        (status = 501, body = wire::ErrorAnswer, description = "The host keeps nothing (--ephemeral)"),
        (status = 503, body = wire::ErrorAnswer, description = "The queues or their disk do not answer"),
        (status = 507, body = wire::ErrorAnswer, description = "The disk has no room for a copy"),
    ),
)]
pub(crate) async fn make(
    State(state): State<AdminState>,
    Extension(tasks): Extension<TaskTracker>,
) -> Result<Response, RefusedRequest> {
    let archive = state.backups.begin(&tasks).await?;
    let pieces = stream::unfold(archive, async |mut archive: mpsc::Receiver<Bytes>| {
        let piece = archive.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(piece), archive))
    });
    Ok(([(header::CONTENT_TYPE, "application/x-tar")], Body::from_stream(pieces)).into_response())
}

impl From<BackupRefused> for RefusedRequest {
    fn from(refused: BackupRefused) -> Self {
        let status = match &refused {
            BackupRefused::Ephemeral => StatusCode::NOT_IMPLEMENTED,
            BackupRefused::Busy => StatusCode::CONFLICT,
            BackupRefused::NoRoom { .. } => StatusCode::INSUFFICIENT_STORAGE,
            BackupRefused::Store(_) | BackupRefused::Io { .. } => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, chain(&refused))
    }
}
