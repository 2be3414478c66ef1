//! The style and the script of the pages. Their names have the digest of their content, so that a browser may keep them for ever.

use std::sync::LazyLock;

use axum::{
    extract::Path,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use rust_embed::Embed;
use sandhog_executor::digest;

use crate::admin::refused::RefusedRequest;

#[derive(Embed)]
#[folder = "dashboard"]
struct Assets;

/// A file and the name under which it is served.
struct Asset {
    name: String,
    etag: String,
    kind: &'static str,
    bytes: std::borrow::Cow<'static, [u8]>,
}

impl Asset {
    fn new(file: &str, kind: &'static str) -> Self {
        let bytes = Assets::get(file).expect("the file is embedded").data;
        let digest: String = digest(&bytes).chars().take(16).collect();
        let (stem, extension) = file.split_once('.').unwrap_or((file, ""));
        Self {
            name: format!("{stem}-{digest}.{extension}"),
            etag: format!("\"{digest}\""),
            kind,
            bytes,
        }
    }

    fn path(&self) -> String {
        format!("/ui/assets/{}", self.name)
    }
}

static STYLE: LazyLock<Asset> = LazyLock::new(|| Asset::new("ui.css", "text/css; charset=utf-8"));
static SCRIPT: LazyLock<Asset> = LazyLock::new(|| Asset::new("ui.js", "text/javascript; charset=utf-8"));
static ICON: LazyLock<Asset> = LazyLock::new(|| Asset::new("icon.svg", "image/svg+xml"));

/// Returns the path of the style.
pub(super) fn style() -> String {
    STYLE.path()
}

/// Returns the path of the script.
pub(super) fn script() -> String {
    SCRIPT.path()
}

/// Returns the path of the icon.
pub(super) fn icon() -> String {
    ICON.path()
}

/// Answers with one of the files.
pub(super) async fn file(Path(name): Path<String>, headers: HeaderMap) -> Result<Response, RefusedRequest> {
    let all = [&*STYLE, &*SCRIPT, &*ICON];
    let Some(asset) = all.into_iter().find(|asset| asset.name == name) else {
        return Err(RefusedRequest::new(
            StatusCode::NOT_FOUND,
            "no such file: the page is one of another version of the host, so load it again",
        ));
    };
    let cached = [
        (header::ETAG, asset.etag.clone()),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable".to_owned()),
    ];
    let known = headers.get_all(header::IF_NONE_MATCH).iter();
    let is_known = known
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|tag| tag.trim() == asset.etag);
    if is_known {
        return Ok((StatusCode::NOT_MODIFIED, cached).into_response());
    }
    let kind = [(header::CONTENT_TYPE, asset.kind)];
    Ok((cached, kind, asset.bytes.clone()).into_response())
}
