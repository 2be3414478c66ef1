//! The listener's routes, asked from inside the process: the same routes with the same answers and audit lines, without a socket.

use std::fmt;

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    http::{Method, StatusCode, header},
    response::Response,
};
use http_body_util::{BodyExt as _, Limited};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;

use super::sessions::UiCaller;
use crate::admin::{long_work::LongWork, refused::RefusedRequest, wire::ErrorAnswer};

/// What stands in a path or a query as it is.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The longest answer that is a text, in bytes: more than a manifest has.
const MAX_TEXT_BYTES: usize = 512 * 1024;

/// The routes.
#[derive(Clone)]
pub(super) struct InsideRoutes {
    routes: TowerToHyperService<Router>,
    /// Where long answers are parsed.
    work: LongWork,
}

impl fmt::Debug for InsideRoutes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InsideRoutes")
    }
}

/// Returns the path of these segments.
pub(super) fn path(segments: &[&str]) -> String {
    segments
        .iter()
        .map(|segment| match *segment {
            // A path with such a segment would be another one.
            "." => "/%2E".to_owned(),
            ".." => "/%2E%2E".to_owned(),
            segment => format!("/{}", utf8_percent_encode(segment, ESCAPED)),
        })
        .collect()
}

/// Returns the path of the page that shows what the route of these segments does.
pub(super) fn page_path(segments: &[&str]) -> String {
    format!("{}{}", super::ROOT, path(segments))
}

/// Returns a path with the parameters that have a value.
pub(super) fn with_query(path: &str, pairs: &[(&str, &str)]) -> String {
    let escaped = |text| utf8_percent_encode(text, ESCAPED);
    let given = pairs.iter().filter(|(_, value)| !value.is_empty());
    let query: Vec<String> = given
        .map(|(name, value)| format!("{}={}", escaped(name), escaped(value)))
        .collect();
    if query.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{}", query.join("&"))
    }
}

impl InsideRoutes {
    pub(super) fn new(routes: Router, work: LongWork) -> Self {
        Self {
            routes: TowerToHyperService::new(routes),
            work,
        }
    }

    /// Asks a route for something.
    ///
    /// # Errors
    ///
    /// What the route refuses, with its status and its words.
    pub(super) async fn get<T: DeserializeOwned + Send + 'static>(
        &self,
        caller: &UiCaller,
        target: &str,
    ) -> Result<T, RefusedRequest> {
        self.ask(caller, Method::GET, target, Body::empty()).await
    }

    /// As [`Self::get`], for a route that changes something and takes parameters, or a body of any bytes.
    pub(super) async fn post<T: DeserializeOwned + Send + 'static>(
        &self,
        caller: &UiCaller,
        target: &str,
        body: Bytes,
    ) -> Result<T, RefusedRequest> {
        self.ask(caller, Method::POST, target, Body::from(body)).await
    }

    /// As [`Self::get`], for a route that deletes something.
    pub(super) async fn delete<T: DeserializeOwned + Send + 'static>(
        &self,
        caller: &UiCaller,
        target: &str,
    ) -> Result<T, RefusedRequest> {
        self.ask(caller, Method::DELETE, target, Body::empty()).await
    }

    /// Asks a route whose answer is a text.
    ///
    /// # Errors
    ///
    /// See [`Self::get`].
    pub(super) async fn text(&self, caller: &UiCaller, target: &str) -> Result<String, RefusedRequest> {
        let answer = self.call(caller, Method::GET, target, Body::empty()).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_TEXT_BYTES).collect().await;
        let body = body
            .map_err(|_| odd("an answer was too long, or had no end"))?
            .to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        if status.is_success() {
            return Ok(text);
        }
        Err(refused(status, &body))
    }

    async fn ask<T: DeserializeOwned + Send + 'static>(
        &self,
        caller: &UiCaller,
        method: Method,
        target: &str,
        body: Body,
    ) -> Result<T, RefusedRequest> {
        caller.caller.check(&method)?;
        let answer = self.call(caller, method, target, body).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await;
        let body = body.map_err(|_| odd("an answer had no end"))?.to_bytes();
        let bytes = body.len();
        // Readiness is an answer with 503.
        if status.is_success() || target == "/ready" {
            let parse = move || serde_json::from_slice(&body).map_err(|error| error.to_string());
            let parsed = self.work.run(bytes, parse).await?;
            return parsed.map_err(|why| odd(&format!("an answer was not understood: {why}")));
        }
        Err(refused(status, &body))
    }

    /// Calls a route as the caller.
    pub(super) async fn call(
        &self,
        caller: &UiCaller,
        method: Method,
        target: &str,
        body: Body,
    ) -> Result<Response, RefusedRequest> {
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header(header::CONTENT_TYPE, "application/json");
        let mut request = request
            .body(body)
            .map_err(|_| RefusedRequest::bad("the parts of the request are too long for an address"))?;
        request.extensions_mut().insert(caller.caller.clone());
        if let Some(address) = caller.address {
            request.extensions_mut().insert(address);
        }
        // Its error is one that can't be.
        Ok(self.routes.call(request).await.unwrap_or_else(|never| match never {}))
    }
}

fn refused(status: StatusCode, body: &[u8]) -> RefusedRequest {
    let error: Option<ErrorAnswer> = serde_json::from_slice(body).ok();
    let why = error.map_or_else(|| String::from_utf8_lossy(body).into_owned(), |answer| answer.error);
    RefusedRequest::new(status, why)
}

fn odd(why: &str) -> RefusedRequest {
    RefusedRequest::new(StatusCode::INTERNAL_SERVER_ERROR, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_becomes_another_path() {
        for (segments, expected) in [
            (&["queues", "a b/../c?x=1#y"][..], "/queues/a%20b%2F..%2Fc%3Fx%3D1%23y"),
            (&["queues", "..", "dead"], "/queues/%2E%2E/dead"),
            (&["messages", "a-b_c.d~"], "/messages/a-b_c.d~"),
        ] {
            assert_eq!(path(segments), expected);
        }
        assert_eq!(with_query("/a", &[("b", ""), ("c", "d&e=f")]), "/a?c=d%26e%3Df");
        assert_eq!(with_query("/a", &[("b", "")]), "/a");
    }
}
