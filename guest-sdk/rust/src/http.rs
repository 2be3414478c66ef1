//! Requests over HTTP, to the origins that the manifest grants.
//!
//! A request is one of the crate [`http`](https://docs.rs/http), whose types are here as well. The host makes the connection,
//! with TLS if the address says so, and keeps it for the next message.
//!
//! ```
//! use std::time::Duration;
//! use sandhog_guest::{Failure, Message, http};
//! use serde_json::json;
//!
//! fn handle(message: Message) -> Result<(), Failure> {
//!     let request = http::Request::post("https://api.example.com/invoices")
//!         .header(http::header::AUTHORIZATION, "Bearer 1234")
//!         .body(http::Json(json!({ "order": message.text()? })))?;
//!     // Without a grant for the origin, without an answer in time: a retry, since both may pass.
//!     let answer = http::Client::new().timeout(Duration::from_secs(5)).send(request)?;
//!     match answer.status().as_u16() {
//!         200..=299 => Ok(()),
//!         429 | 503 => Err(http::retry(&answer, "the API is busy")),
//!         status => Err(Failure::reject(format!("the API answers {status}"))),
//!     }
//! }
//! # use sandhog_guest::testing;
//! # testing::answer(|request| {
//! #     assert_eq!((request.uri().path(), request.body().as_slice()), ("/invoices", br#"{"order":"A7"}"#.as_slice()));
//! #     testing::response(503, "").header("retry-after", "7")
//! # });
//! # let failure = handle(testing::message("A7").build()).unwrap_err();
//! # assert_eq!(failure, Failure::retry_after(Duration::from_secs(7), "the API is busy"));
//! ```
//!
//! ```toml
//! [grant]
//! http = ["https://api.example.com"]
//! ```
//!
//! This module is there with the feature `http` of the crate. A handler that does not call it imports no HTTP, and needs no grant.
//!
//! What reaches a server has happened, whatever becomes of the message: a message that is tried again asks again. Send an
//! idempotency key where the server knows one; [`Message::id`](crate::Message::id) stays the same.

mod body;
mod error;
mod pending;
mod redirect;
mod retry;
#[cfg(target_family = "wasm")]
mod wire;

use std::io::{self, Write};
use std::time::Duration;

use ::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, USER_AGENT};
use ::http::request::Parts;

pub use self::body::{Body, Json, RequestBody};
pub use self::error::HttpError;
use self::error::shown;
#[cfg(not(target_family = "wasm"))]
pub(crate) use self::error::{not_granted, without_user};
pub use self::pending::Pending;
pub use self::retry::{retry, retry_after};
#[cfg(not(target_family = "wasm"))]
use crate::testing::http as wire;
pub use ::http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode, Uri, header};

/// How many redirects are followed unless the client says otherwise.
const REDIRECTS: u32 = 10;
/// How many requests are under way at a time unless the client says otherwise: as many as the host lets by default.
const CONCURRENT: usize = 8;
/// How much of a body is written at once, in bytes: as much as the host takes.
const PIECE: usize = 16 * 1024;
const AGENT: &str = concat!("sandhog-guest/", env!("CARGO_PKG_VERSION"));

/// Sends a request, and returns the answer once its head is here, whatever its status; redirects are followed.
///
/// The same as [`Client::send`] of a client without a timeout.
///
/// # Errors
///
/// See [`HttpError`]; `?` turns it into the [`Failure`](crate::Failure) that fits.
pub fn send<B: RequestBody>(request: Request<B>) -> Result<Response<Body>, HttpError> {
    Client::new().send(request)
}

/// Sends requests at the same time, and returns the answers in the order of the requests. See [`Client::send_all`].
pub fn send_all<B: RequestBody>(
    requests: impl IntoIterator<Item = Request<B>>,
) -> Vec<Result<Response<Body>, HttpError>> {
    Client::new().send_all(requests)
}

/// How requests are made.
#[derive(Clone, Debug)]
#[must_use]
pub struct Client {
    timeout: Option<Duration>,
    redirects: u32,
    concurrent: usize,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            timeout: None,
            redirects: REDIRECTS,
            concurrent: CONCURRENT,
        }
    }
}

impl Client {
    /// Makes a client that waits until the attempt's own deadline, and follows up to 10 redirects.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives each request this time, from its start to the end of the answer's body, redirects included.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Follows up to this many redirects; the next one is returned as the answer. Each origin on the way needs its grant.
    pub fn redirects(mut self, redirects: u32) -> Self {
        self.redirects = redirects;
        self
    }

    /// Lets [`send_all`](Self::send_all) have this many requests under way: 8 unless called. `limits.http-concurrent` in the
    /// manifest has to allow it.
    pub fn concurrent(mut self, concurrent: usize) -> Self {
        self.concurrent = concurrent;
        self
    }

    /// Sends a request, and returns the answer once its head is here, whatever its status.
    ///
    /// # Errors
    ///
    /// See [`HttpError`]; `?` turns it into the [`Failure`](crate::Failure) that fits.
    pub fn send<B: RequestBody>(&self, request: Request<B>) -> Result<Response<Body>, HttpError> {
        self.start(request)?.wait()
    }

    /// Starts a request, to be waited for later: several can be under way.
    ///
    /// The rest of a large body is sent while it is waited for. To wait for many at once, use [`send_all`](Self::send_all).
    ///
    /// # Errors
    ///
    /// [`HttpError::Invalid`] if there can be no such request.
    pub fn start<B: RequestBody>(&self, request: Request<B>) -> Result<Pending, HttpError> {
        let (mut head, body) = request.into_parts();
        if let (Some(content_type), false) = (body.content_type(), head.headers.contains_key(CONTENT_TYPE)) {
            head.headers
                .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        let body = body.into_bytes()?;
        let expects_body = [Method::POST, Method::PUT, Method::PATCH].contains(&head.method);
        if (expects_body || !body.is_empty()) && !head.headers.contains_key(CONTENT_LENGTH) {
            head.headers.insert(CONTENT_LENGTH, body.len().into());
        }
        Pending::start(checked(head)?, body, self)
    }

    /// Sends requests, several at a time, and returns the answers with their bodies, in the order of the requests.
    ///
    /// # Errors
    ///
    /// In the list: one request that fails does not keep the others back.
    pub fn send_all<B: RequestBody>(
        &self,
        requests: impl IntoIterator<Item = Request<B>>,
    ) -> Vec<Result<Response<Body>, HttpError>> {
        let started = requests.into_iter().map(|request| self.start(request));
        pending::wait_all(started, self.concurrent.max(1))
    }

    /// Starts a request whose body is written piece by piece.
    ///
    /// Its length is unknown to the server unless the request has the header `content-length`.
    ///
    /// # Errors
    ///
    /// [`HttpError::Invalid`] if there can be no such request.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use sandhog_guest::{Failure, OrFailure, http};
    /// # fn export(rows: impl Iterator<Item = String>) -> Result<(), Failure> {
    /// use std::io::Write;
    ///
    /// let request = http::Request::put("https://files.example.com/rows.txt").body(())?;
    /// let mut upload = http::Client::new().upload(request)?;
    /// for row in rows {
    ///     writeln!(upload, "{row}").or_retry()?;
    /// }
    /// let answer = upload.finish()?.wait()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn upload(&self, request: Request<()>) -> Result<Upload, HttpError> {
        let (head, ()) = request.into_parts();
        Ok(Upload {
            pending: Pending::open(checked(head)?, self)?,
            buffer: Vec::new(),
        })
    }
}

/// Checks what the host needs to know of an address, and adds what servers expect.
fn checked(mut head: Parts) -> Result<Parts, HttpError> {
    if head.uri.scheme().is_none() || head.uri.authority().is_none() {
        let address = shown(&head.uri.to_string());
        return Err(HttpError::Invalid(format!(
            "the address {address} has no scheme and host: write https://..."
        )));
    }
    head.headers
        .entry(USER_AGENT)
        .or_insert(HeaderValue::from_static(AGENT));
    Ok(head)
}

/// A request whose body is being written. Dropping it breaks the request off.
#[derive(Debug)]
#[must_use]
pub struct Upload {
    pending: Pending,
    /// What is too little to be worth a call of the host.
    buffer: Vec<u8>,
}

impl Upload {
    /// Ends the body. The answer is to be waited for.
    ///
    /// # Errors
    ///
    /// [`HttpError::Invalid`] if `content-length` promised another length; and as [`write`](Write::write).
    pub fn finish(mut self) -> Result<Pending, HttpError> {
        self.send_buffer()?;
        self.pending.finished()
    }

    fn send_buffer(&mut self) -> Result<(), HttpError> {
        let buffer = std::mem::take(&mut self.buffer);
        self.pending.write_all(&buffer)
    }
}

impl Write for Upload {
    /// Fails if the server takes no more of the body.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + bytes.len() > PIECE {
            self.send_buffer()?;
        }
        if bytes.len() < PIECE {
            self.buffer.extend_from_slice(bytes);
        } else {
            self.pending.write_all(bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(self.send_buffer()?)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use serde_json::json;

    use super::*;
    use crate::testing;

    fn get(address: &str) -> Request<()> {
        Request::get(address).body(()).unwrap()
    }

    #[test]
    fn what_servers_expect_is_added_to_a_request() {
        testing::answer(|_| testing::response(204, ""));
        let json = Request::post("https://a.example/").body(Json(json!([1]))).unwrap();
        send(json).unwrap();
        let own = Request::put("https://a.example/")
            .header("content-type", "text/csv")
            .header("user-agent", "me");
        send(own.body("a,b").unwrap()).unwrap();
        send(get("https://a.example/")).unwrap();
        send(Request::post("https://a.example/").body(()).unwrap()).unwrap();
        let seen: Vec<_> = testing::requests()
            .into_iter()
            .map(|request| {
                let text = |name| {
                    request
                        .headers()
                        .get(name)
                        .map(|value| value.to_str().unwrap().to_owned())
                };
                (
                    text(CONTENT_TYPE),
                    text(CONTENT_LENGTH),
                    text(USER_AGENT).unwrap() == AGENT,
                )
            })
            .collect();
        let owned = |text: &str| Some(text.to_owned());
        assert_eq!(
            seen,
            [
                (owned("application/json"), owned("3"), true),
                (owned("text/csv"), owned("3"), false),
                (None, None, true),
                (None, owned("0"), true),
            ]
        );
    }

    #[test]
    fn an_answer_is_one_whatever_its_status() {
        testing::answer(|_| testing::response(500, "broken").header("x-id", "7"));
        let answer = send(get("https://a.example/")).unwrap();
        assert_eq!(
            (answer.status().as_u16(), answer.headers()["x-id"].to_str().unwrap()),
            (500, "7")
        );
        assert_eq!(answer.into_body().text().unwrap(), "broken");
    }

    #[test]
    fn a_body_is_read_in_pieces_or_as_a_whole() {
        testing::answer(|_| testing::response(200, "[1, 2]"));
        let mut body = send(get("https://a.example/")).unwrap().into_body();
        let mut piece = [0; 4];
        assert_eq!((body.read(&mut piece).unwrap(), &piece), (4, b"[1, "));
        assert_eq!(body.bytes().unwrap(), b"2]");
        let numbers: Vec<u8> = send(get("https://a.example/")).unwrap().into_body().json().unwrap();
        assert_eq!(numbers, [1, 2]);
        let no_text = send(get("https://a.example/"))
            .unwrap()
            .into_body()
            .json::<String>()
            .unwrap_err();
        assert!(matches!(no_text, HttpError::Malformed(_)), "{no_text}");
    }

    #[test]
    fn redirects_are_followed_as_far_as_the_client_says() {
        testing::answer(|request| match request.uri().path() {
            "/0" => testing::response(307, "").header("location", "/1"),
            "/1" => testing::response(302, "").header("location", "/2"),
            _ => testing::response(200, request.body().clone()),
        });
        let post = || Request::post("https://a.example/0").body("order").unwrap();
        let answer = send(post()).unwrap();
        assert_eq!(answer.into_body().text().unwrap(), "");
        let made: Vec<_> = testing::requests()
            .into_iter()
            .map(|request| {
                (
                    request.method().clone(),
                    request.uri().path().to_owned(),
                    request.into_body(),
                )
            })
            .collect();
        let order = b"order".to_vec();
        assert_eq!(
            made,
            [
                (Method::POST, "/0".to_owned(), order.clone()),
                (Method::POST, "/1".to_owned(), order),
                (Method::GET, "/2".to_owned(), Vec::new())
            ]
        );
        let answer = Client::new().redirects(1).send(post()).unwrap();
        assert_eq!((answer.status().as_u16(), testing::requests().len()), (302, 2));
    }

    #[test]
    fn several_answers_are_in_the_order_of_the_requests() {
        testing::answer(|request| match request.uri().path() {
            "/3" => HttpError::Timeout("too late".to_owned()).into(),
            path => testing::response(200, path),
        });
        let requests = (0..20).map(|n| get(&format!("https://a.example/{n}")));
        for (n, answer) in send_all(requests).into_iter().enumerate() {
            match answer {
                Ok(answer) => assert_eq!(answer.into_body().text().unwrap(), format!("/{n}")),
                Err(error) => assert_eq!((n, error), (3, HttpError::Timeout("too late".to_owned()))),
            }
        }
        assert_eq!(testing::requests().len(), 20);
    }

    #[test]
    fn a_body_is_written_piece_by_piece() {
        testing::answer(|request| testing::response(200, request.body().clone()));
        let mut upload = Client::new()
            .upload(Request::put("https://a.example/").body(()).unwrap())
            .unwrap();
        for piece in ["a", "b", "c"] {
            write!(upload, "{piece};").unwrap();
        }
        let answer = upload.finish().unwrap().wait().unwrap();
        assert_eq!(answer.into_body().text().unwrap(), "a;b;c;");
    }

    #[test]
    fn without_a_grant_a_request_says_what_to_add() {
        let error = send(get("https://a.example:8443/x")).unwrap_err();
        assert_eq!(
            error,
            HttpError::NotGranted(
                "https://a.example:8443 is not granted: to grant it, add \"https://a.example:8443\" to http in [grant] of the \
                 manifest"
                    .to_owned()
            )
        );
    }

    #[test]
    fn an_address_without_a_host_can_not_be_asked() {
        assert!(matches!(send(get("/orders/7")), Err(HttpError::Invalid(_))));
    }

    #[test]
    fn an_error_shows_neither_the_query_of_an_address_nor_its_user() {
        let secret = "https://me:s3cret@a.example/b?token=s3cret";
        for error in [
            send(get("/orders/7?token=s3cret")).unwrap_err(),
            send(get("me:s3cret@a.example")).unwrap_err(),
            send(get(secret)).unwrap_err(),
            {
                testing::answer(|_| {
                    testing::response(302, "").header("location", "https://me:s3cret@a b/?token=s3cret")
                });
                send(get(secret)).unwrap_err()
            },
        ] {
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
        assert_eq!(
            send(get(secret)).unwrap_err().to_string(),
            "https://a.example/b leads to \"https://a b/\", which is no address"
        );
    }
}
