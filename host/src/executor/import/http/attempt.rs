//! One attempt's requests: what they may still use, and the way of one from the guest to the head of its response.

use std::{
    error::Error as _,
    future::{Future, ready},
    io,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use http::{Request, Response, Uri, uri::PathAndQuery};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::{
    sync::{AcquireError, OwnedSemaphorePermit, Semaphore},
    task::unconstrained,
    time::{Instant, timeout, timeout_at},
};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use super::{
    MAX_HEAD_BYTES, Outbound, address,
    body::{Budget, Download, Hold, Upload, Uploaded},
    connection::Connection,
    origin::Origin,
};
use crate::executor::{
    LogStream,
    output::OutputAccount,
    policy::{HttpGrant, Limits},
};

/// How long a request waits for its turn, the lookup, the connection and the handshake together; a guest can ask for less.
const CONNECT_TIME: Duration = Duration::from_secs(30);
/// How much of it for its turn: a guest that holds responses and waits for one more hears of it.
const TURN_TIME: Duration = Duration::from_secs(10);
/// How long it waits for the head of the response, and between two pieces of its body, unless the guest says otherwise.
const READ_TIME: Duration = Duration::from_mins(10);

pub(super) type Turn = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

/// What all requests of one attempt share.
pub(super) struct Attempt {
    outbound: Arc<Outbound>,
    output: Arc<OutputAccount>,
    slots: Arc<Semaphore>,
    concurrent: u64,
    pub(super) upload: Budget,
    download: Budget,
    ended: AtomicBool,
}

impl Attempt {
    pub(super) fn new(outbound: &Arc<Outbound>, limits: &Limits, output: &Arc<OutputAccount>) -> Self {
        let slots = usize::try_from(limits.http_concurrent).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            outbound: Arc::clone(outbound),
            output: Arc::clone(output),
            slots: Arc::new(Semaphore::new(slots.min(Semaphore::MAX_PERMITS))),
            concurrent: limits.http_concurrent,
            upload: Budget::new(limits.http_request_bytes),
            download: Budget::new(limits.http_response_bytes),
            ended: AtomicBool::new(false),
        }
    }

    pub(super) fn grant(&self) -> &HttpGrant {
        &self.outbound.grant
    }

    /// Tells the operator, as far as the handler's log goes.
    pub(super) fn note(&self, text: &str) {
        self.output.log(LogStream::Host, text);
    }

    /// From now on no body ends well.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    pub(super) fn has_open_connections(&self) -> bool {
        let all = usize::try_from(self.concurrent).unwrap_or(Semaphore::MAX_PERMITS);
        self.slots.available_permits() < all.min(Semaphore::MAX_PERMITS)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Keeps a connection for the next request.
    pub(super) fn keep(&self, connection: Connection) {
        self.outbound.pool.keep(connection);
    }

    pub(super) fn upload_refused(&self) -> Error {
        let limit = self.upload.limit;
        self.note(&format!(
            "the bodies of its HTTP requests have more than {limit} bytes (limits.http-request-bytes)"
        ));
        Error::HttpRequestBodySize(Some(limit))
    }

    pub(super) fn download(&self, bytes: usize) -> Result<(), Error> {
        if self.download.take(bytes) {
            return Ok(());
        }
        let limit = self.download.limit;
        self.note(&format!(
            "the bodies of its HTTP responses have more than {limit} bytes (limits.http-response-bytes)"
        ));
        Err(Error::HttpResponseBodySize(Some(limit)))
    }

    /// A place in the line of requests. It is taken now, so that a guest which reads responses in the order of its
    /// requests always comes to one whose turn it is.
    pub(super) fn turn(&self) -> Turn {
        let mut turn = Box::pin(unconstrained(Arc::clone(&self.slots).acquire_owned()));
        match turn.as_mut().now_or_never() {
            Some(taken) => Box::pin(ready(taken)),
            None => turn,
        }
    }

    /// Sends a request to an origin that is granted, and waits for the head of the response.
    ///
    /// # Cancel safety
    ///
    /// Safe: the connection is closed.
    pub(super) async fn send(
        self: Arc<Self>,
        turn: Turn,
        (origin, request): (Origin, Request<WasiBody>),
        options: RequestOptions,
    ) -> Result<Response<WasiBody>, Error> {
        let connect_time = options
            .connect_timeout
            .map_or(CONNECT_TIME, |time| time.min(CONNECT_TIME));
        let connected_by = Instant::now() + connect_time;
        let slot = self.turn_came(turn, connect_time.min(TURN_TIME)).await?;
        let (mut parts, body) = request.into_parts();
        parts.uri = path_of(parts.uri);
        let (upload, uploaded) = Upload::new(body, &self);
        let request = Request::from_parts(parts, upload);
        let read_time = options.first_byte_timeout.unwrap_or(READ_TIME);
        let exchanged = self.exchange(origin, request, connected_by, read_time).await;
        let (connection, response) = exchanged.map_err(|error| self.explained(error, &uploaded))?;
        let hold = Hold {
            connection,
            uploaded,
            _slot: slot,
        };
        let between = options.between_bytes_timeout.unwrap_or(READ_TIME);
        Ok(response.map(|body| Download::new(body, self, hold, between).boxed_unsync()))
    }

    async fn turn_came(&self, turn: Turn, time: Duration) -> Result<OwnedSemaphorePermit, Error> {
        if let Ok(Ok(slot)) = timeout(time, turn).await {
            return Ok(slot);
        }
        let concurrent = self.concurrent;
        self.note(&format!(
            "a request waited {time:?} while {concurrent} others were under way, as many as may be \
            (limits.http-concurrent); a response is under way until its body was read to the end or dropped"
        ));
        Err(Error::ConnectionLimitReached)
    }

    /// On a connection that was kept, or on a new one.
    async fn exchange(
        &self,
        origin: Origin,
        mut request: Request<Upload>,
        connected_by: Instant,
        read_time: Duration,
    ) -> Result<(Connection, Response<Incoming>), Error> {
        loop {
            let kept = self.outbound.pool.take(&origin);
            let is_new = kept.is_none();
            let mut connection = match kept {
                Some(mut connection) => {
                    if !connection.ready(connected_by).await {
                        continue;
                    }
                    connection
                }
                None => self.connect(origin.clone(), connected_by).await?,
            };
            let sent = timeout(read_time, connection.send(request)).await;
            match sent.map_err(|_| Error::ConnectionReadTimeout)? {
                Ok(response) => return Ok((connection, response)),
                Err(mut error) => match error.take_message() {
                    // The other side had closed a connection that was kept: nothing was sent, so nothing is sent twice.
                    Some(unsent) if !is_new => request = unsent,
                    _ => return Err(failed(error.error())),
                },
            }
        }
    }

    async fn connect(&self, origin: Origin, by: Instant) -> Result<Connection, Error> {
        let addresses = self.addresses(&origin, by).await?;
        let tls = if origin.is_secure() {
            let tls = self.outbound.tls().await.map_err(|error| {
                self.note(&format!(
                    "{origin} can't be asked without the system's certificates: {error}"
                ));
                Error::ConfigurationError
            });
            Some(tls?)
        } else {
            None
        };
        let shown = origin.to_string();
        let connected = Connection::open(origin, &addresses, tls, by).await;
        connected.inspect_err(|error| self.note(&format!("no connection to {shown}: {error}")))
    }

    /// The addresses of an origin that may be connected to, looked up once.
    async fn addresses(&self, origin: &Origin, by: Instant) -> Result<Vec<IpAddr>, Error> {
        // Whoever grants an address by its number means it.
        if let Some(address) = origin.address() {
            return Ok(vec![address]);
        }
        let Ok(looked_up) = timeout_at(by, self.outbound.lookups.resolve(&origin.host)).await else {
            return Err(Error::DnsTimeout);
        };
        let found = looked_up.map_err(|error| {
            self.note(&format!("{origin} could not be looked up: {error}"));
            Error::DnsError {
                rcode: None,
                info_code: None,
            }
        })?;
        let granted = &self.outbound.grant.addresses;
        let (allowed, refused): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|found| address::allowed(*found, granted));
        if let (true, Some(first)) = (allowed.is_empty(), refused.first()) {
            let first = first.to_canonical();
            self.note(&format!(
                "{origin} leads to {first}, which is not a public address; to grant it nevertheless, add \"{first}\" to \
                http-addresses in [grant] of its manifest"
            ));
            return Err(Error::DestinationIpProhibited);
        }
        Ok(allowed.into_iter().map(|address| address.to_canonical()).collect())
    }

    fn explained(&self, error: Error, uploaded: &Uploaded) -> Error {
        if uploaded.refused.load(Ordering::Acquire) {
            return Error::HttpRequestBodySize(Some(self.upload.limit));
        }
        error
    }
}

/// The form of a URI that goes to an origin; the one with scheme and host is for proxies.
fn path_of(uri: Uri) -> Uri {
    let path = uri
        .into_parts()
        .path_and_query
        .unwrap_or_else(|| PathAndQuery::from_static("/"));
    Uri::from(path)
}

/// What a failed exchange is to a guest. Nothing of it goes to the host's own log, which a guest could flood.
pub(super) fn failed(error: &hyper::Error) -> Error {
    if error.is_parse_too_large() {
        return Error::HttpResponseHeaderSectionSize(u32::try_from(MAX_HEAD_BYTES).ok());
    }
    if error.is_incomplete_message() {
        return Error::HttpResponseIncomplete;
    }
    let by_system = matches!(error.source(), Some(cause) if cause.is::<io::Error>());
    if error.is_canceled() || error.is_closed() || by_system {
        return Error::ConnectionTerminated;
    }
    Error::HttpProtocolError
}
