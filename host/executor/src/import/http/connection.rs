//! Connections to origins: made only to addresses that were checked, and kept for the next attempt of the same handler.
//!
//! Invariant: a connection owns its task. Dropping the connection closes the socket.

use std::{
    collections::VecDeque,
    error::Error as _,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Weak},
    time::Duration,
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{
        TrySendError,
        http1::{Builder, SendRequest},
    },
};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};
use tokio_rustls::{TlsConnector, rustls};
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, spawn};
use wasmtime_wasi_http::Error;

use super::{origin::Origin, upload::Upload};

/// The largest head of a response.
pub(crate) const MAX_HEAD_BYTES: usize = 64 * 1024;

/// The most connections of one handler that wait for the next request; the oldest makes room.
const MAX_IDLE: usize = 32;
/// The time after which a waiting connection is closed.
const MAX_IDLE_TIME: Duration = Duration::from_secs(30);
/// The time for which one of several addresses is tried.
const ADDRESS_TIME: Duration = Duration::from_secs(5);
/// The most fields in the head of a response.
const MAX_FIELDS: usize = 100;

/// An open connection that carries one request at a time.
pub(crate) struct Connection {
    pub(crate) origin: Origin,
    sender: SendRequest<Upload>,
    _task: AbortOnDropJoinHandle<()>,
}

impl Connection {
    /// Connects to the first of these addresses that answers, until `by`.
    ///
    /// # Errors
    ///
    /// None of them answers, or the origin's certificate is refused.
    pub(crate) async fn open(
        origin: Origin,
        addresses: &[IpAddr],
        tls: Option<&TlsConnector>,
        by: Instant,
    ) -> Result<Self, Error> {
        let socket = dial(addresses, origin.port, by).await?;
        let Some(tls) = tls else {
            return Self::start(origin, socket, by).await;
        };
        let name = rustls::pki_types::ServerName::try_from(origin.host.clone());
        let name = name.map_err(|_| Error::HttpRequestUriInvalid)?;
        match timeout_at(by, tls.connect(name, socket)).await {
            Ok(Ok(stream)) => Self::start(origin, stream, by).await,
            Ok(Err(error)) => Err(tls_error(&error)),
            Err(_) => Err(Error::ConnectionTimeout),
        }
    }

    async fn start(
        origin: Origin,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        by: Instant,
    ) -> Result<Self, Error> {
        let mut builder = Builder::new();
        builder.max_buf_size(MAX_HEAD_BYTES).max_headers(MAX_FIELDS);
        let handshake = timeout_at(by, builder.handshake(TokioIo::new(stream))).await;
        let (sender, connection) = handshake
            .map_err(|_| Error::ConnectionTimeout)?
            .map_err(|_| Error::ConnectionTerminated)?;
        let task = spawn(async move {
            // The request that waits for the response gets the error.
            drop(connection.await);
        });
        Ok(Self {
            origin,
            sender,
            _task: task,
        })
    }

    /// Waits until the connection can take a request. Returns `false` if it was closed, or at `by`.
    pub(crate) async fn ready(&mut self, by: Instant) -> bool {
        timeout_at(by, self.sender.ready())
            .await
            .is_ok_and(|ready| ready.is_ok())
    }

    /// Sends a request and waits for the head of the response.
    ///
    /// # Errors
    ///
    /// The exchange failed; with the request, if nothing of it was sent.
    pub(crate) async fn send(
        &mut self,
        request: Request<Upload>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Upload>>> {
        self.sender.try_send_request(request).await
    }
}

async fn dial(addresses: &[IpAddr], port: u16, by: Instant) -> Result<TcpStream, Error> {
    let mut failure = Error::DestinationNotFound;
    for address in addresses {
        let until = by.min(Instant::now() + ADDRESS_TIME);
        match timeout_at(until, TcpStream::connect(SocketAddr::new(*address, port))).await {
            Ok(Ok(socket)) => {
                // A connection with the delay works, too.
                drop(socket.set_nodelay(true));
                return Ok(socket);
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => failure = Error::ConnectionRefused,
            Ok(Err(_)) => failure = Error::DestinationUnavailable,
            Err(_) => failure = Error::ConnectionTimeout,
        }
        if Instant::now() >= by {
            break;
        }
    }
    Err(failure)
}

/// Returns what `wasi:http` tells a guest about a failed handshake.
fn tls_error(error: &io::Error) -> Error {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::InvalidCertificate(_)) => Error::TlsCertificateError,
        Some(rustls::Error::AlertReceived(alert)) => Error::TlsAlertReceived {
            alert_id: Some(u8::from(*alert)),
            alert_message: None,
        },
        _ => Error::TlsProtocolError,
    }
}

/// Returns what `wasi:http` tells a guest about a failed exchange. Nothing of it goes to the host's own log, which a guest could
/// flood.
pub(crate) fn exchange_error(error: &hyper::Error) -> Error {
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

/// The connections of one handler that wait for the next request.
pub(crate) struct ConnectionPool {
    waiting: Mutex<WaitingConnections>,
    /// The room for waiting connections of all handlers. A connection that finds none is closed.
    room: Arc<Semaphore>,
}

#[derive(Default)]
struct WaitingConnections {
    /// The oldest connection is first.
    idle: VecDeque<IdleConnection>,
    /// The number of the newest connection.
    last: u64,
}

struct IdleConnection {
    number: u64,
    connection: Connection,
    _room: OwnedSemaphorePermit,
    _expiry: AbortOnDropJoinHandle<()>,
}

impl ConnectionPool {
    /// Makes an empty pool, which keeps connections as long as there is room among those of all handlers.
    pub(crate) fn new(room: &Arc<Semaphore>) -> Self {
        Self {
            waiting: Mutex::default(),
            room: Arc::clone(room),
        }
    }

    /// Takes the connection to this origin that was used last. The server may have closed it.
    pub(crate) fn take(&self, origin: &Origin) -> Option<Connection> {
        let idle = &mut self.waiting.lock().idle;
        idle.retain(|idle| !idle.connection.sender.is_closed());
        let at = idle.iter().rposition(|idle| idle.connection.origin == *origin)?;
        idle.remove(at).map(|idle| idle.connection)
    }

    /// Keeps a connection whose response was read to its end.
    pub(crate) fn keep(self: &Arc<Self>, connection: Connection) {
        if connection.sender.is_closed() {
            return;
        }
        let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else {
            return;
        };
        let mut waiting = self.waiting.lock();
        waiting.last += 1;
        let number = waiting.last;
        let idle = IdleConnection {
            number,
            connection,
            _room: room,
            _expiry: spawn(expire(Arc::downgrade(self), number)),
        };
        waiting.idle.push_back(idle);
        if waiting.idle.len() > MAX_IDLE {
            waiting.idle.pop_front();
        }
    }
}

async fn expire(pool: Weak<ConnectionPool>, number: u64) {
    tokio::time::sleep(MAX_IDLE_TIME).await;
    if let Some(pool) = pool.upgrade() {
        pool.waiting.lock().idle.retain(|idle| idle.number != number);
    }
}
