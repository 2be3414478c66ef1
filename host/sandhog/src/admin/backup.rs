//! The route of a backup: the archive goes to the client while it is read.

use std::{convert::Infallible, sync::Arc};

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

use super::{
    AdminState,
    connections::{ClientConnection, ConnectionPhase},
    refused::RefusedRequest,
    wire,
};
use crate::backup::BackupRefused;
use sandhog_queue::printable::chain;

/// The pieces of an archive, and the connection that they go to.
type OpenArchive = (mpsc::Receiver<Bytes>, Arc<ClientConnection>);

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
    Extension(connection): Extension<Arc<ClientConnection>>,
) -> Result<Response, RefusedRequest> {
    let archive = state.backups.begin(&tasks).await?;
    let pieces = stream::unfold((archive, connection), async |(mut archive, connection): OpenArchive| {
        // The client waits for the host, which copies, so its connection makes no room for another.
        connection.turn(ConnectionPhase::UnderWay);
        let piece = archive.recv().await;
        if piece.is_none() {
            connection.turn(ConnectionPhase::Answering);
        }
        Some((Ok::<_, Infallible>(piece?), (archive, connection)))
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
