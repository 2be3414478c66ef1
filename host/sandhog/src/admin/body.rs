//! Reads the bodies of requests within bounds of size, time and memory.
//!
//! Invariant: a body that reaches a route is complete and has no coding, and it holds permits for its bytes until the request
//! was answered. The one exception is a form with a file, which `ui/file_form.rs` reads with bounds of its own.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderMap, HeaderName, StatusCode, header},
};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Body as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{
    long_work::LongWork,
    refused::RefusedRequest,
    sqs::speaks_sqs,
    ui::{self, PageBody},
    wire,
};
use sandhog_queue::{message::MAX_BODY_BYTES, printable::printable};

/// The bytes of one permit.
const UNIT: usize = 1024;
/// The longest body that is parsed on the listener's threads, in bytes: it takes less than a millisecond.
const SHORT: usize = 64 * 1024;
/// The most long bodies that are parsed at a time.
const PARSERS: usize = 2;
/// The longest body of a request of SQS, in bytes: a batch of 1 MiB, each byte of which takes up to six.
const MAX_SQS_BYTES: usize = 8 * 1024 * 1024;
/// The bytes for all secrets of people who log in at a time.
const SECRETS_BYTES: usize = 256 * 1024;
/// The longest part of a wrong header that an answer repeats, in bytes.
const SHOWN_BYTES: usize = 100;

/// The memory and the time of all bodies.
#[derive(Debug)]
pub(crate) struct RequestBodies {
    bytes: Arc<Semaphore>,
    /// A share of its own for those whose signature is verified with the body, so that nobody who can't sign takes the room of the
    /// others.
    sqs_bytes: Arc<Semaphore>,
    /// A share of their own for those who log in, likewise.
    secret_bytes: Arc<Semaphore>,
    parsers: LongWork,
    limit: Duration,
}

impl RequestBodies {
    /// Allows `bytes` for all bodies together, and `limit` for the arrival of each.
    pub(crate) fn new(bytes: usize, limit: Duration) -> Self {
        Self {
            bytes: Arc::new(Semaphore::new(bytes.div_ceil(UNIT))),
            sqs_bytes: Arc::new(Semaphore::new(bytes.div_ceil(UNIT))),
            secret_bytes: Arc::new(Semaphore::new(SECRETS_BYTES / UNIT)),
            parsers: LongWork::new(PARSERS, SHORT),
            limit,
        }
    }

    /// Reads the body of a request. The permit in the answer holds the body's share of the memory until it is dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the request.
    pub(crate) async fn whole(&self, request: Request) -> Result<(Request, OwnedSemaphorePermit), RefusedRequest> {
        check_headers(request.headers())?;
        let (limit, room) = if speaks_sqs(&request) {
            (MAX_SQS_BYTES, &self.sqs_bytes)
        } else if let Some(body) = ui::body_of(request.uri().path()) {
            match body {
                PageBody::Form(limit) => (limit, &self.bytes),
                PageBody::Secret(limit) => (limit, &self.secret_bytes),
                PageBody::Nothing => (0, &self.secret_bytes),
            }
        } else if is_batch(request.uri().path()) {
            (wire::MAX_BATCH_BYTES, &self.bytes)
        } else {
            (MAX_BODY_BYTES, &self.bytes)
        };
        let (parts, body) = request.into_parts();
        let told = body.size_hint().upper();
        let most = told.map_or(limit, |told| usize::try_from(told).unwrap_or(usize::MAX));
        if most > limit {
            return Err(too_large(limit));
        }
        let mut paid = self.pay(room, most).await?;
        // From here on the request waits for its client alone.
        let bytes = timeout(self.limit, read(body, limit))
            .await
            .map_err(|_elapsed| self.late())??;
        drop(paid.split(paid.num_permits().saturating_sub(bytes.len().div_ceil(UNIT))));
        Ok((Request::from_parts(parts, Body::from(bytes)), paid))
    }

    async fn pay(&self, room: &Arc<Semaphore>, bytes: usize) -> Result<OwnedSemaphorePermit, RefusedRequest> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let paid = timeout(self.limit, Arc::clone(room).acquire_many_owned(units)).await;
        // The semaphore is never closed.
        paid.ok().and_then(Result::ok).ok_or_else(|| {
            let why = "the bodies of other requests take all the memory that there is for them: try again";
            RefusedRequest::new(StatusCode::SERVICE_UNAVAILABLE, why)
        })
    }

    fn late(&self) -> RefusedRequest {
        let why = format!("the body was not there within {:?}", self.limit);
        RefusedRequest::new(StatusCode::REQUEST_TIMEOUT, why)
    }

    /// Parses a body, and a long one on another thread.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the answer; a long body is parsed to its end.
    pub(crate) async fn parse<T: Send + 'static>(
        &self,
        body: Bytes,
        parse: impl FnOnce(&[u8]) -> Result<T, RefusedRequest> + Send + 'static,
    ) -> Result<T, RefusedRequest> {
        let bytes = body.len();
        self.parsers.run(bytes, move || parse(&body)).await?
    }
}

/// Returns whether this is a route whose body may be longer than a message: it has a list.
fn is_batch(path: &str) -> bool {
    let mut segments = path
        .strip_prefix("/queues/")
        .into_iter()
        .flat_map(|rest| rest.split('/'));
    let list = segments.nth(1);
    segments.next().is_none() && list.is_some_and(|list| matches!(list, "batch" | "settle" | "extend"))
}

async fn read(body: Body, limit: usize) -> Result<Bytes, RefusedRequest> {
    let collected = Limited::new(body, limit).collect().await;
    collected.map(http_body_util::Collected::to_bytes).map_err(|error| {
        if error.is::<LengthLimitError>() {
            too_large(limit)
        } else {
            RefusedRequest::new(StatusCode::BAD_REQUEST, "the body did not come to its end")
        }
    })
}

fn too_large(limit: usize) -> RefusedRequest {
    RefusedRequest::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("the body is larger than {limit} bytes, the most that is taken here"),
    )
}

/// Refuses headers that would make the message another one than the bytes of the body.
fn check_headers(headers: &HeaderMap) -> Result<(), RefusedRequest> {
    check_codings(headers)?;
    let multipart = |media: &String| {
        media
            .get(..10)
            .is_some_and(|start| start.eq_ignore_ascii_case("multipart/"))
    };
    match values(headers, &header::CONTENT_TYPE).find(multipart) {
        Some(media) => {
            let why = format!(
                "content-type {}: the parts of a form are not taken apart; send the content itself, as with curl --data-binary",
                shown(&media)
            );
            Err(RefusedRequest::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, why))
        }
        None => Ok(()),
    }
}

/// Refuses headers with which the bytes of the body would be a form of others, or a part.
pub(crate) fn check_codings(headers: &HeaderMap) -> Result<(), RefusedRequest> {
    for coding in values(headers, &header::CONTENT_ENCODING) {
        if !coding.eq_ignore_ascii_case("identity") {
            let why = format!(
                "content-encoding {}: send the body as it is, without a coding",
                shown(&coding)
            );
            return Err(RefusedRequest::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
        }
    }
    for coding in values(headers, &header::TRANSFER_ENCODING) {
        if !coding.eq_ignore_ascii_case("chunked") {
            let why = format!("transfer-encoding {}: only chunked is known here", shown(&coding));
            return Err(RefusedRequest::new(StatusCode::NOT_IMPLEMENTED, why));
        }
    }
    if headers.contains_key(header::CONTENT_RANGE) {
        let why = "content-range: a part of a body is not taken; send all of it";
        return Err(RefusedRequest::new(StatusCode::BAD_REQUEST, why));
    }
    Ok(())
}

/// Returns the parts of a header that is a list, in all its lines.
fn values<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = String> + use<'h> {
    let lines = headers.get_all(name).iter();
    lines.flat_map(|line| {
        let line = String::from_utf8_lossy(line.as_bytes());
        let parts = line.split(',').map(|part| part.trim().to_owned());
        parts.filter(|part| !part.is_empty()).collect::<Vec<_>>()
    })
}

fn shown(text: &str) -> String {
    printable(text, SHOWN_BYTES)
}

/// Parses a body of JSON.
pub(crate) fn json<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, RefusedRequest> {
    serde_json::from_slice(body)
        .map_err(|error| RefusedRequest::new(StatusCode::BAD_REQUEST, format!("the body: {error}")))
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;

    use super::*;

    fn check(name: &'static str, value: &'static str, expected: Option<u16>) {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        let status = check_headers(&headers)
            .err()
            .map(|refused| refused.into_response().status().as_u16());
        assert_eq!(status, expected, "{name}: {value}");
    }

    fn request(body: Body) -> Request {
        Request::builder()
            .method("POST")
            .uri("/queues/orders")
            .body(body)
            .unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_finds_no_memory_in_time_is_told_to_try_again() {
        let bodies = RequestBodies::new(4096, Duration::from_secs(30));
        let (_request, first) = bodies.whole(request(Body::from(vec![0; 3000]))).await.unwrap();
        let refused = bodies.whole(request(Body::from(vec![0; 2000]))).await.unwrap_err();
        assert_eq!(refused.into_response().status(), StatusCode::SERVICE_UNAVAILABLE);
        // A request without a body waits for no memory.
        drop(bodies.whole(request(Body::empty())).await.unwrap());
        drop(first);
        drop(bodies.whole(request(Body::from(vec![0; 4096]))).await.unwrap());
    }

    #[test]
    fn only_a_list_is_longer_than_a_message() {
        for (path, expected) in [
            ("/queues/orders/batch", true),
            ("/queues/batch", false),
            ("/queues/batch/batch", true),
            ("/queues/orders/batch/x", false),
            ("/batch", false),
            ("/queues/orders/settle", true),
            ("/queues/orders/extend", true),
            ("/queues/orders/receive", false),
        ] {
            assert_eq!(is_batch(path), expected, "{path}");
        }
    }

    #[test]
    fn a_header_that_would_change_the_body_is_refused() {
        for (value, expected) in [
            ("gzip", Some(415)),
            ("identity, br", Some(415)),
            ("zstd", Some(415)),
            ("identity", None),
            ("Identity , ", None),
            ("", None),
        ] {
            check("content-encoding", value, expected);
        }
        check("transfer-encoding", "gzip, chunked", Some(501));
        check("transfer-encoding", "Chunked", None);
        check("content-range", "bytes 0-1/10", Some(400));
        for (value, expected) in [
            ("multipart/form-data; boundary=x", Some(415)),
            ("Multipart/Mixed", Some(415)),
            ("application/x-www-form-urlencoded", None),
            ("text/plain; charset=iso-8859-1", None),
        ] {
            check("content-type", value, expected);
        }
    }
}
