//! The requests of one attempt: the way of a request from the guest to the head of its response.

use std::{net::IpAddr, sync::Arc, sync::atomic::Ordering, time::Duration};

use http::{Request, Response, Uri, uri::PathAndQuery};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout, timeout_at};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use super::{
    account::{RequestAccount, RequestTurn},
    address,
    connection::{Connection, exchange_error},
    download::{Download, ResponseHold},
    origin::Origin,
    outbound::Outbound,
    upload::{Upload, UploadState},
};
use crate::output::OutputAccount;
use crate::policy::{HttpGrant, Limits};

/// The longest time that a request waits for its turn, the lookup, the connection and the handshake together; a guest can ask
/// for less.
const CONNECT_TIME: Duration = Duration::from_secs(30);
/// The part of that time for its turn: a guest that holds responses and waits for one more gets an error by then.
const TURN_TIME: Duration = Duration::from_secs(10);
/// The longest time that a request waits for the head of the response, and between two pieces of its body, unless the guest
/// says otherwise.
const READ_TIME: Duration = Duration::from_mins(10);

/// A request that was admitted, on its way out.
pub(crate) struct AdmittedRequest {
    pub(crate) turn: RequestTurn,
    pub(crate) origin: Origin,
    pub(crate) request: Request<WasiBody>,
}

/// Sends the requests of one attempt.
pub(crate) struct AttemptRequests {
    outbound: Arc<Outbound>,
    pub(crate) account: Arc<RequestAccount>,
}

impl AttemptRequests {
    pub(crate) fn new(outbound: &Arc<Outbound>, limits: &Limits, output: &Arc<OutputAccount>) -> Self {
        Self {
            outbound: Arc::clone(outbound),
            account: Arc::new(RequestAccount::new(limits, output)),
        }
    }

    pub(crate) fn grant(&self) -> &HttpGrant {
        self.outbound.grant()
    }

    /// Sends a request to an origin that is granted, and waits for the head of the response.
    ///
    /// # Errors
    ///
    /// The error that `wasi:http` gives to the guest.
    ///
    /// # Cancel safety
    ///
    /// Safe: the connection is closed.
    pub(crate) async fn send(
        self: Arc<Self>,
        admitted: AdmittedRequest,
        options: RequestOptions,
    ) -> Result<Response<WasiBody>, Error> {
        let AdmittedRequest { turn, origin, request } = admitted;
        let connect_time = options
            .connect_timeout
            .map_or(CONNECT_TIME, |time| time.min(CONNECT_TIME));
        let connected_by = Instant::now() + connect_time;
        let slot = self.account.wait_for_turn(turn, connect_time.min(TURN_TIME)).await?;
        let (mut parts, body) = request.into_parts();
        parts.uri = path_of(parts.uri);
        let (body, upload) = Upload::new(body, &self.account);
        let request = Request::from_parts(parts, body);
        let read_time = options.first_byte_timeout.unwrap_or(READ_TIME);
        let exchanged = self.exchange(origin, request, connected_by, read_time).await;
        let (connection, response) = exchanged.map_err(|error| self.explained(error, &upload))?;
        let hold = ResponseHold {
            connection,
            pool: Arc::clone(self.outbound.pool()),
            upload,
            _slot: slot,
        };
        let between_bytes = options.between_bytes_timeout.unwrap_or(READ_TIME);
        let account = Arc::clone(&self.account);
        Ok(response.map(|body| Download::new(body, account, hold, between_bytes).boxed_unsync()))
    }

    /// Sends a request on a connection that was kept, or on a new one.
    async fn exchange(
        &self,
        origin: Origin,
        mut request: Request<Upload>,
        connected_by: Instant,
        read_time: Duration,
    ) -> Result<(Connection, Response<Incoming>), Error> {
        loop {
            let kept = self.outbound.pool().take(&origin);
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
                    // The server had closed a kept connection: nothing was sent, so nothing is sent twice.
                    Some(unsent) if !is_new => request = unsent,
                    _ => return Err(exchange_error(error.error())),
                },
            }
        }
    }

    async fn connect(&self, origin: Origin, by: Instant) -> Result<Connection, Error> {
        let addresses = self.addresses(&origin, by).await?;
        let tls = if origin.is_secure() {
            let tls = self.outbound.tls().await.map_err(|error| {
                self.account.note(&format!(
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
        connected.inspect_err(|error| self.account.note(&format!("no connection to {shown}: {error}")))
    }

    /// Returns the addresses of an origin that may be connected to. A name is looked up once.
    async fn addresses(&self, origin: &Origin, by: Instant) -> Result<Vec<IpAddr>, Error> {
        // A grant that names an address by its number means that address.
        if let Some(address) = origin.address() {
            return Ok(vec![address]);
        }
        let Ok(looked_up) = timeout_at(by, self.outbound.resolve(&origin.host)).await else {
            return Err(Error::DnsTimeout);
        };
        let found = looked_up.map_err(|error| {
            self.account.note(&format!("{origin} could not be looked up: {error}"));
            Error::DnsError {
                rcode: None,
                info_code: None,
            }
        })?;
        let granted = &self.grant().addresses;
        let (allowed, refused): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|found| address::allowed(*found, granted));
        if let (true, Some(first)) = (allowed.is_empty(), refused.first()) {
            let first = first.to_canonical();
            self.account.note(&format!(
                "{origin} leads to {first}, which is not a public address; to grant it nevertheless, add \"{first}\" to \
                http-addresses in [grant] of its manifest"
            ));
            return Err(Error::DestinationIpProhibited);
        }
        Ok(allowed.into_iter().map(|address| address.to_canonical()).collect())
    }

    /// Returns the cause of a failed exchange: the body that was refused, if there is one.
    fn explained(&self, error: Error, upload: &UploadState) -> Error {
        if upload.refused.load(Ordering::Acquire) {
            return self.account.upload_too_large();
        }
        error
    }
}

/// Returns the form of a URI that goes to an origin. The form with scheme and host is for proxies.
fn path_of(uri: Uri) -> Uri {
    let path = uri
        .into_parts()
        .path_and_query
        .unwrap_or_else(|| PathAndQuery::from_static("/"));
    Uri::from(path)
}
