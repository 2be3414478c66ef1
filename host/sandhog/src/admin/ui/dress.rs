//! What every answer of the dashboard carries: the headers that keep a page from being more than it is, and a page for a refusal.
//!
//! Invariant: no answer below `/ui` goes without these headers. Nothing in a page runs but the one script, and no other page can frame a
//! page, script it, or send it a form.

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Redirect, Response},
};
use http_body_util::{BodyExt as _, Limited};
use maud::html;

use super::{
    UiState,
    layout::{Frame, page},
    sessions::UiCaller,
    shown::foreign,
};
use crate::admin::{refused::RefusedRequest, wire::ErrorAnswer};

/// The policy of pages: what comes from this host, and nothing in the page itself.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
/// The largest refusal, in bytes.
const MAX_REFUSAL_BYTES: usize = 32 * 1024;

/// Marks an answer that has a policy of its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct OwnPolicy(pub(super) &'static str);

/// Puts the headers on the answers, and makes pages of refusals.
pub(super) async fn dress(State(state): State<UiState>, request: Request, next: Next) -> Response {
    let caller: Option<UiCaller> = request.extensions().get().cloned();
    let answer = next.run(request).await;
    let is_json = answer
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    let mut answer = if is_json && !answer.status().is_success() {
        refusal(caller.as_ref(), answer).await
    } else {
        answer
    };
    // The caller may have been logged out by this very answer.
    drop(state);
    put(&mut answer);
    answer
}

/// Makes a page of what the guard refuses. Somebody who followed a link from elsewhere is shown where it leads.
pub(crate) fn dressed(refused: &RefusedRequest, request: &GuardedRequest) -> Response {
    let mut answer = match &request.link {
        Some(target) if refused.status() == StatusCode::FORBIDDEN => page(
            &Frame::plain("A link from elsewhere"),
            html! {
                div.panel.narrow {
                    h1 { "A link from elsewhere" }
                    p { "A page of another site has led here. If that was meant, go on:" }
                    p { a.button.primary href=(target) { "Open " (foreign(target)) } }
                }
            },
        ),
        Some(_) | None => refusal_page(None, &refused.to_string()),
    };
    *answer.status_mut() = refused.status();
    put(&mut answer);
    answer
}

/// Leads to the form for the secret.
pub(crate) fn to_login(target: &str) -> Response {
    let mut answer = Redirect::to(target).into_response();
    put(&mut answer);
    answer
}

/// What the guard knows of a request for a page.
#[derive(Debug)]
pub(crate) struct GuardedRequest {
    /// The address of a page that a link of another page leads to.
    link: Option<String>,
}

impl GuardedRequest {
    pub(crate) fn of(request: &Request) -> Self {
        let is = |name: &'static str, value: &str| {
            let header = request.headers().get(HeaderName::from_static(name));
            header.is_some_and(|header| header.as_bytes() == value.as_bytes())
        };
        let is_link = request.method() == Method::GET
            && is("sec-fetch-mode", "navigate")
            && is("sec-fetch-dest", "document")
            && !request.headers().contains_key(header::ORIGIN)
            && super::is_page(request.uri().path());
        Self {
            link: is_link.then(|| {
                request
                    .uri()
                    .path_and_query()
                    .map_or(super::ROOT, |target| target.as_str())
                    .to_owned()
            }),
        }
    }
}

async fn refusal(caller: Option<&UiCaller>, answer: Response) -> Response {
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_REFUSAL_BYTES).collect().await;
    let error: Option<ErrorAnswer> = body.ok().and_then(|body| serde_json::from_slice(&body.to_bytes()).ok());
    let why = error.map_or_else(|| status.to_string(), |answer| answer.error);
    let mut answer = refusal_page(caller, &why);
    *answer.status_mut() = status;
    answer
}

fn refusal_page(caller: Option<&UiCaller>, why: &str) -> Response {
    let frame = match caller {
        Some(caller) => Frame::of(caller, "Not done"),
        None => Frame::plain("Not done"),
    };
    page(
        &frame,
        html! {
            div.panel.narrow {
                h1 { "Not done" }
                p.bad role="alert" { (foreign(why)) }
                p { a href=(super::ROOT) { "To the overview" } }
            }
        },
    )
}

fn put(answer: &mut Response) {
    let policy = answer.extensions().get::<OwnPolicy>().map_or(PAGE_POLICY, |own| own.0);
    let headers = answer.headers_mut();
    let mut set = |name: HeaderName, value: &'static str| drop(headers.insert(name, HeaderValue::from_static(value)));
    set(header::CONTENT_SECURITY_POLICY, policy);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::X_FRAME_OPTIONS, "DENY");
    // Without a referrer a browser would hide the origin of a form, too, which the guard looks at.
    set(header::REFERRER_POLICY, "same-origin");
    set(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    set(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    set(
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=()",
    );
    not_kept(headers);
}

/// Keeps answers out of caches, but for those that say otherwise.
fn not_kept(headers: &mut HeaderMap) {
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
}

/// Answers with bytes of others, which a browser is to keep and not to show.
pub(super) fn download(name: &str, bytes: Vec<u8>) -> Response {
    let name: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "-_.".contains(c) {
                c
            } else {
                '_'
            }
        })
        .take(100)
        .collect();
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
    ];
    let mut answer = (headers, Body::from(bytes)).into_response();
    answer
        .extensions_mut()
        .insert(OwnPolicy("default-src 'none'; sandbox; frame-ancestors 'none'"));
    answer
}
