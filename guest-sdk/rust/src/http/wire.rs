//! Requests as the host makes them: `wasi:http` of WASI 0.2.
//!
//! Nothing here waits but [`Interests::wait`], so that several requests go on at the same time.

use std::cell::RefCell;
use std::mem;
use std::rc::Rc;
use std::time::Duration;

use ::http::request::Parts;
use ::http::uri::{Authority, PathAndQuery};
use ::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};

use super::error::{HttpError, not_granted, without_user};
use crate::bindings::http::wasi::clocks::monotonic_clock;
use crate::bindings::http::wasi::http::outgoing_handler;
use crate::bindings::http::wasi::http::types::{
    self, ErrorCode, Fields, FutureIncomingResponse, HeaderError, IncomingBody, IncomingResponse, OutgoingBody,
    OutgoingRequest, Scheme,
};
use crate::bindings::http::wasi::io::poll::{Pollable, poll};
use crate::bindings::http::wasi::io::streams::{InputStream, OutputStream, StreamError};

/// How much of an answer's body is taken at once, in bytes.
const PIECE: u64 = 65_536;

thread_local! {
    /// The origins that have proved to be granted: where one of them is denied, the attempt has asked too often.
    static GRANTED: RefCell<Vec<Rc<str>>> = const { RefCell::new(Vec::new()) };
}

/// When an answer is too late.
pub(super) struct Deadline(Option<(Pollable, Duration)>);

impl Deadline {
    pub(super) fn after(timeout: Option<Duration>) -> Self {
        Self(timeout.map(|timeout| {
            let nanoseconds = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
            (monotonic_clock::subscribe_duration(nanoseconds), timeout)
        }))
    }

    fn check(&self, origin: &str) -> Result<(), HttpError> {
        match &self.0 {
            Some((passed, timeout)) if passed.ready() => Err(HttpError::Timeout(format!(
                "{origin} has not answered within {timeout:?}"
            ))),
            _ => Ok(()),
        }
    }
}

/// What is waited for.
#[derive(Default)]
pub(super) struct Interests<'a> {
    events: Vec<Pollable>,
    deadlines: Vec<&'a Pollable>,
}

impl<'a> Interests<'a> {
    fn add(&mut self, event: Pollable, deadline: &'a Deadline) {
        self.events.push(event);
        self.deadlines.extend(deadline.0.as_ref().map(|(passed, _)| passed));
    }

    /// Waits until one of them happens.
    pub(super) fn wait(self) {
        if !self.events.is_empty() {
            let all: Vec<&Pollable> = self.events.iter().chain(self.deadlines).collect();
            poll(&all);
        }
    }
}

/// A request on its way, until the head of its answer is here.
pub(super) struct Exchange {
    origin: Rc<str>,
    deadline: Rc<Deadline>,
    upload: Upload,
    answer: FutureIncomingResponse,
    /// An answer that came before the whole body was sent.
    early: Option<IncomingResponse>,
}

/// The body of a request, on its way.
enum Upload {
    Sending(Outgoing),
    /// The server takes no more of it. It is kept until the answer was read: without it the host ends the connection.
    Refused(#[expect(dead_code, reason = "kept alive")] Outgoing),
    Sent,
}

/// The fields are dropped in this order, which WASI asks for.
struct Outgoing {
    stream: OutputStream,
    body: OutgoingBody,
    bytes: Rc<Vec<u8>>,
    sent: usize,
    /// More of the body is to be written.
    is_open: bool,
}

impl Exchange {
    /// Starts a request with this body.
    pub(super) fn start(head: &Parts, body: &Rc<Vec<u8>>, deadline: &Rc<Deadline>) -> Result<Self, HttpError> {
        let mut exchange = Self::new(head, Rc::clone(body), deadline, false)?;
        exchange.send()?;
        Ok(exchange)
    }

    /// Starts a request whose body is to be written.
    pub(super) fn open(head: &Parts, deadline: &Rc<Deadline>) -> Result<Self, HttpError> {
        Self::new(head, Rc::default(), deadline, true)
    }

    fn new(head: &Parts, bytes: Rc<Vec<u8>>, deadline: &Rc<Deadline>, is_open: bool) -> Result<Self, HttpError> {
        let origin: Rc<str> = match (head.uri.scheme_str(), head.uri.authority()) {
            (Some(scheme), Some(authority)) => format!("{scheme}://{}", without_user(authority.as_str())).into(),
            _ => "an address without a host".into(),
        };
        let request = lowered(head, &origin)?;
        let body = request.body().map_err(|()| broken())?;
        let stream = body.write().map_err(|()| broken())?;
        let answer = outgoing_handler::handle(request, None).map_err(|code| told(code, &origin))?;
        Ok(Self {
            origin,
            deadline: Rc::clone(deadline),
            upload: Upload::Sending(Outgoing {
                stream,
                body,
                bytes,
                sent: 0,
                is_open,
            }),
            answer,
            early: None,
        })
    }

    /// Sends as much of the body as goes at once, and ends it once it is whole.
    fn send(&mut self) -> Result<(), HttpError> {
        let Upload::Sending(outgoing) = &mut self.upload else {
            return Ok(());
        };
        while let Some(rest) = outgoing.bytes.get(outgoing.sent..).filter(|rest| !rest.is_empty()) {
            match outgoing.stream.write_some(rest) {
                Ok(0) => return Ok(()),
                Ok(written) => outgoing.sent += written,
                Err(_) => {
                    self.refuse();
                    return Ok(());
                }
            }
        }
        if outgoing.is_open { Ok(()) } else { self.finish() }
    }

    fn refuse(&mut self) {
        self.upload = match mem::replace(&mut self.upload, Upload::Sent) {
            Upload::Sending(outgoing) => Upload::Refused(outgoing),
            other @ (Upload::Refused(_) | Upload::Sent) => other,
        };
    }

    /// Writes to the body as much as goes at once; 0 if it has to wait.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<usize, HttpError> {
        let Upload::Sending(outgoing) = &mut self.upload else {
            return Err(HttpError::Connection(format!(
                "{} takes no more of the request's body",
                self.origin
            )));
        };
        match outgoing.stream.write_some(bytes) {
            Ok(0) => self.deadline.check(&self.origin).map(|()| 0),
            Ok(written) => Ok(written),
            Err(error) => {
                let error = failed(error, &self.origin).unwrap_or_else(|| {
                    HttpError::Connection(format!("{} takes no more of the request's body", self.origin))
                });
                self.refuse();
                Err(error)
            }
        }
    }

    /// Ends the body.
    pub(super) fn finish(&mut self) -> Result<(), HttpError> {
        match mem::replace(&mut self.upload, Upload::Sent) {
            Upload::Sending(Outgoing { stream, body, .. }) => {
                drop(stream);
                OutgoingBody::finish(body, None).map_err(|code| told(code, &self.origin))
            }
            other @ (Upload::Refused(_) | Upload::Sent) => {
                self.upload = other;
                Ok(())
            }
        }
    }

    /// Goes on as far as there is no need to wait. Returns the answer once its head is here and the body was sent.
    pub(super) fn advance(&mut self) -> Result<Option<Response<Incoming>>, HttpError> {
        self.send()?;
        if self.early.is_none() {
            self.early = match self.answer.get() {
                None => None,
                Some(Ok(Ok(answer))) => {
                    note_granted(&self.origin);
                    Some(answer)
                }
                Some(Ok(Err(code))) => return Err(told(code, &self.origin)),
                Some(Err(())) => return Err(broken()),
            };
        }
        // A server that has refused the request may not read the rest of it.
        let is_refused = self.early.as_ref().is_some_and(|answer| answer.status() >= 400);
        if is_refused {
            self.refuse();
        }
        match self.early.take() {
            Some(answer) if !matches!(self.upload, Upload::Sending(_)) => self.lifted(&answer).map(Some),
            early => {
                self.early = early;
                self.deadline.check(&self.origin)?;
                Ok(None)
            }
        }
    }

    pub(super) fn interests<'a>(&'a self, interests: &mut Interests<'a>) {
        if let Upload::Sending(outgoing) = &self.upload {
            interests.add(outgoing.stream.subscribe(), &self.deadline);
        }
        if self.early.is_none() {
            interests.add(self.answer.subscribe(), &self.deadline);
        }
    }

    fn lifted(&mut self, answer: &IncomingResponse) -> Result<Response<Incoming>, HttpError> {
        let malformed = || HttpError::Malformed(format!("{} answers with a head that is no HTTP", self.origin));
        let mut headers = HeaderMap::new();
        for (name, value) in answer.headers().entries() {
            let name: HeaderName = name.parse().map_err(|_| malformed())?;
            headers.append(name, HeaderValue::from_maybe_shared(value).map_err(|_| malformed())?);
        }
        let status = StatusCode::from_u16(answer.status()).map_err(|_| malformed())?;
        let body = answer.consume().map_err(|()| broken())?;
        let mut response = Response::new(Incoming {
            stream: body.stream().map_err(|()| broken())?,
            _body: body,
            _upload: mem::replace(&mut self.upload, Upload::Sent),
            origin: Rc::clone(&self.origin),
            deadline: Rc::clone(&self.deadline),
        });
        (*response.status_mut(), *response.headers_mut()) = (status, headers);
        Ok(response)
    }
}

impl OutputStream {
    /// Writes as much as goes at once.
    fn write_some(&self, bytes: &[u8]) -> Result<usize, StreamError> {
        let room = usize::try_from(self.check_write()?).unwrap_or(usize::MAX);
        let piece = bytes.get(..room).unwrap_or(bytes);
        if !piece.is_empty() {
            self.write(piece)?;
            self.flush()?;
        }
        Ok(piece.len())
    }
}

/// The body of an answer, on its way. The fields are dropped in this order, which WASI asks for.
pub(super) struct Incoming {
    stream: InputStream,
    _body: IncomingBody,
    _upload: Upload,
    origin: Rc<str>,
    deadline: Rc<Deadline>,
}

impl Incoming {
    /// Takes the next piece: `None` if it is not here yet, an empty one at the end.
    pub(super) fn receive(&mut self) -> Result<Option<Vec<u8>>, HttpError> {
        match self.stream.read(PIECE) {
            Ok(bytes) if bytes.is_empty() => self.deadline.check(&self.origin).map(|()| None),
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) => match failed(error, &self.origin) {
                Some(error) => Err(error),
                None => Ok(Some(Vec::new())),
            },
        }
    }

    pub(super) fn interests<'a>(&'a self, interests: &mut Interests<'a>) {
        interests.add(self.stream.subscribe(), &self.deadline);
    }
}

/// Returns a request as the host takes it.
fn lowered(head: &Parts, origin: &str) -> Result<OutgoingRequest, HttpError> {
    let invalid = |what: &str| HttpError::Invalid(format!("{origin} can't be asked with this {what}"));
    let headers: Vec<_> = head
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .collect();
    let headers = Fields::from_list(&headers).map_err(|error| match error {
        HeaderError::Forbidden => invalid("header: the host sets connection, host and the like by itself"),
        HeaderError::InvalidSyntax | HeaderError::Immutable => invalid("header"),
    })?;
    let request = OutgoingRequest::new(headers);
    let set = request.set_method(&method(&head.method));
    set.map_err(|()| invalid("method"))?;
    let scheme = match head.uri.scheme_str() {
        Some("http") => Scheme::Http,
        Some("https") => Scheme::Https,
        other => Scheme::Other(other.unwrap_or_default().to_owned()),
    };
    let set = request.set_scheme(Some(&scheme));
    set.map_err(|()| invalid("scheme"))?;
    let set = request.set_authority(head.uri.authority().map(Authority::as_str));
    set.map_err(|()| invalid("host"))?;
    let path = head.uri.path_and_query().map(PathAndQuery::as_str);
    let set = request.set_path_with_query(path);
    set.map_err(|()| invalid("path"))?;
    Ok(request)
}

fn method(method: &Method) -> types::Method {
    match method.as_str() {
        "GET" => types::Method::Get,
        "HEAD" => types::Method::Head,
        "POST" => types::Method::Post,
        "PUT" => types::Method::Put,
        "DELETE" => types::Method::Delete,
        "CONNECT" => types::Method::Connect,
        "OPTIONS" => types::Method::Options,
        "TRACE" => types::Method::Trace,
        "PATCH" => types::Method::Patch,
        other => types::Method::Other(other.to_owned()),
    }
}

/// The error of a stream; `None` if it has ended.
fn failed(error: StreamError, origin: &str) -> Option<HttpError> {
    match error {
        StreamError::Closed => None,
        StreamError::LastOperationFailed(error) => Some(match types::http_error_code(&error) {
            Some(code) => told(code, origin),
            None => HttpError::Connection(format!("{origin} broke off: {}", error.to_debug_string())),
        }),
    }
}

/// The error of a host that does not do what WASI says.
fn broken() -> HttpError {
    HttpError::Connection("the host could not make the request".to_owned())
}

fn note_granted(origin: &Rc<str>) {
    GRANTED.with_borrow_mut(|granted| {
        if !granted.contains(origin) {
            granted.push(Rc::clone(origin));
        }
    });
}

/// Returns the error that the host tells by this code.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "WASI has more codes than there are things to do about them"
)]
fn told(code: ErrorCode, origin: &str) -> HttpError {
    let is_granted = GRANTED.with_borrow(|granted| granted.iter().any(|known| **known == *origin));
    let bound = |limit: &str| format!("the attempt may not do more HTTP: limits.{limit} of the manifest");
    let connection = |what: &str| HttpError::Connection(format!("{origin} {what}"));
    match code {
        ErrorCode::HttpRequestDenied if is_granted => HttpError::TooMany(bound("http-requests")),
        ErrorCode::HttpRequestDenied => not_granted(origin),
        ErrorCode::DestinationIpProhibited => HttpError::NotGranted(format!(
            "{origin} leads to an address that is not public: the log has what to add to http-addresses in [grant] of the manifest"
        )),
        ErrorCode::HttpRequestBodySize(_) => HttpError::Limit(bound("http-request-bytes")),
        ErrorCode::HttpResponseBodySize(_) => HttpError::Limit(bound("http-response-bytes")),
        ErrorCode::ConnectionLimitReached => HttpError::TooMany(bound("http-concurrent")),
        ErrorCode::DnsTimeout
        | ErrorCode::ConnectionTimeout
        | ErrorCode::ConnectionReadTimeout
        | ErrorCode::ConnectionWriteTimeout
        | ErrorCode::HttpResponseTimeout => HttpError::Timeout(format!("{origin} has not answered in time")),
        ErrorCode::DnsError(_) | ErrorCode::DestinationNotFound => connection("was not found"),
        ErrorCode::ConnectionRefused => connection("refused the connection"),
        ErrorCode::TlsProtocolError | ErrorCode::TlsCertificateError | ErrorCode::TlsAlertReceived(_) => {
            connection("can't be trusted: TLS failed")
        }
        ErrorCode::HttpRequestMethodInvalid | ErrorCode::HttpRequestUriInvalid | ErrorCode::HttpRequestUriTooLong => {
            HttpError::Invalid(format!(
                "{origin} can't be asked so: the method or the address is not valid"
            ))
        }
        ErrorCode::InternalError(Some(text)) => connection(&format!("gave no answer: {text}")),
        _ => connection("broke off"),
    }
}
