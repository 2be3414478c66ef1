//! The routes of the files of a kept version: the component and its manifest, as they were accepted.

use std::{io, path::PathBuf};

use axum::{
    body::Body,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use tokio::{fs::File, io::AsyncReadExt as _};

use super::{
    AdminState,
    parameters::{Path, QueryParameters},
    refused::RefusedRequest,
    wire,
};
use crate::versions::VersionRecord;

/// The bytes that are read of a file at a time.
const PIECE: usize = 64 * 1024;

#[utoipa::path(
    get,
    path = "/handlers/{name}/versions/{number}/component",
    operation_id = "version_component",
    tag = "handlers",
    params(
        ("name" = String, Path, description = "The name of the handler"),
        ("number" = u64, Path, description = "The number of the version"),
    ),
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/wasm", description = "The component, whose SHA-256 digest is in the list of versions"),
        (status = 400, body = wire::ErrorAnswer, description = "The request is wrong"),
        (status = 404, body = wire::ErrorAnswer, description = "There is no such handler or version, or its files are not kept"),
        (status = 501, body = wire::ErrorAnswer, description = "The host keeps nothing (--ephemeral)"),
        (status = 503, body = wire::ErrorAnswer, description = "The file can't be read"),
    ),
)]
pub(crate) async fn component(
    State(state): State<AdminState>,
    Path((name, number)): Path<(String, String)>,
    parameters: QueryParameters,
) -> Result<Response, RefusedRequest> {
    parameters.finish()?;
    let record = state.version(&name, &number)?;
    state.file(&name, &record.digests.component, "application/wasm").await
}

#[utoipa::path(
    get,
    path = "/handlers/{name}/versions/{number}/manifest",
    operation_id = "version_manifest",
    tag = "handlers",
    params(
        ("name" = String, Path, description = "The name of the handler"),
        ("number" = u64, Path, description = "The number of the version"),
    ),
    responses(
        (status = 200, body = String, content_type = "application/toml", description = "The text of the manifest; what it takes from the environment is not filled in"),
        (status = 400, body = wire::ErrorAnswer, description = "The request is wrong"),
        (status = 404, body = wire::ErrorAnswer, description = "There is no such handler or version, it had no manifest, or its files are not kept"),
        (status = 501, body = wire::ErrorAnswer, description = "The host keeps nothing (--ephemeral)"),
        (status = 503, body = wire::ErrorAnswer, description = "The file can't be read"),
    ),
)]
pub(crate) async fn manifest(
    State(state): State<AdminState>,
    Path((name, number)): Path<(String, String)>,
    parameters: QueryParameters,
) -> Result<Response, RefusedRequest> {
    parameters.finish()?;
    let record = state.version(&name, &number)?;
    let Some(digest) = &record.digests.manifest else {
        let why = format!("version {number} of handler {name} had no manifest");
        return Err(RefusedRequest::new(StatusCode::NOT_FOUND, why));
    };
    state.file(&name, digest, "application/toml").await
}

impl AdminState {
    /// Returns a version of a handler by its number, as it is written.
    pub(crate) fn version(&self, name: &str, number: &str) -> Result<VersionRecord, RefusedRequest> {
        let wanted: Option<u64> = number.parse().ok();
        let wanted =
            wanted.ok_or_else(|| RefusedRequest::bad(format!("{number}: use the number of a version, such as 3")))?;
        let entry = self.versions.entry(name).ok_or_else(|| self.no_handler(name))?;
        let known: Vec<String> = entry
            .history
            .versions()
            .iter()
            .map(|one| one.number.to_string())
            .collect();
        let record = entry.history.version(wanted).cloned();
        record.ok_or_else(|| {
            let known = known.join(", ");
            let why = format!("handler {name} has no version {number} (any more): these are kept: {known}");
            RefusedRequest::new(StatusCode::NOT_FOUND, why)
        })
    }

    /// Returns where a file of a version is kept.
    pub(crate) fn version_file(&self, name: &str, digest: &str) -> Result<PathBuf, RefusedRequest> {
        self.versions.file(name, digest).ok_or_else(|| {
            let why = "this host keeps no versions: it was started with --ephemeral";
            RefusedRequest::new(StatusCode::NOT_IMPLEMENTED, why.to_owned())
        })
    }

    /// Answers with a file of a version, piece by piece: a component may be large, and a client slow.
    async fn file(&self, name: &str, digest: &str, kind: &'static str) -> Result<Response, RefusedRequest> {
        let path = self.version_file(name, digest)?;
        let refused = |error: io::Error| {
            if error.kind() == io::ErrorKind::NotFound {
                let why = format!("this file of handler {name} is not kept (any more)");
                RefusedRequest::new(StatusCode::NOT_FOUND, why)
            } else {
                let why = format!("{} can't be read: {error}", path.display());
                RefusedRequest::new(StatusCode::SERVICE_UNAVAILABLE, why)
            }
        };
        let file = File::open(&path).await.map_err(refused)?;
        let length = file.metadata().await.map_err(refused)?.len();
        let pieces = stream::try_unfold(file, async |mut file| {
            let mut piece = BytesMut::with_capacity(PIECE);
            let read = file.read_buf(&mut piece).await?;
            Ok::<Option<(Bytes, File)>, io::Error>((read > 0).then(|| (piece.freeze(), file)))
        });
        let headers = [
            (header::CONTENT_TYPE, kind.to_owned()),
            (header::CONTENT_LENGTH, length.to_string()),
        ];
        Ok((headers, Body::from_stream(pieces)).into_response())
    }
}
