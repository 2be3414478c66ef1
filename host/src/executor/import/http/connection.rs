//! Connections to origins: made only to addresses that were checked, and kept for the next attempt of the same handler.
//!
//! Invariant: whoever holds a connection owns its task. Dropping it closes the socket.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError, Weak},
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
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};
use tokio_rustls::{TlsConnector, rustls};
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, spawn};
use wasmtime_wasi_http::Error;

use super::{MAX_HEAD_BYTES, body::Upload, origin::Origin};

/// Connections of one handler that wait for the next request, at most; the oldest makes room.
const MAX_IDLE: usize = 32;
/// How long one of them waits.
const MAX_IDLE_TIME: Duration = Duration::from_secs(30);
/// How long one of several addresses is tried.
const ADDRESS_TIME: Duration = Duration::from_secs(5);
/// Fields of a response's head, at most.
const MAX_FIELDS: usize = 100;

/// An open connection that carries one request at a time.
pub(super) struct Connection {
    pub(super) origin: Origin,
    sender: SendRequest<Upload>,
    _task: AbortOnDropJoinHandle<()>,
}

impl Connection {
    /// Connects to the first of these addresses that answers, until `by`.
    pub(super) async fn open(
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
            // Whoever waits for the response gets the error.
            drop(connection.await);
        });
        Ok(Self {
            origin,
            sender,
            _task: task,
        })
    }

    /// Whether it can take a request; waits while it is about to be.
    pub(super) async fn ready(&mut self, by: Instant) -> bool {
        timeout_at(by, self.sender.ready())
            .await
            .is_ok_and(|ready| ready.is_ok())
    }

    /// Sends a request and waits for the head of the response.
    ///
    /// # Errors
    ///
    /// With the request, if none of it was sent.
    pub(super) async fn send(
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
                // A socket that insists on its delay still serves.
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

/// The connections of one handler that wait for the next request.
pub(super) struct Pool {
    waiting: Mutex<Waiting>,
    /// Of all handlers: who finds none closes his connection.
    room: Arc<Semaphore>,
}

#[derive(Default)]
struct Waiting {
    /// The oldest first.
    idle: VecDeque<Idle>,
    last: u64,
}

struct Idle {
    number: u64,
    connection: Connection,
    _room: OwnedSemaphorePermit,
    _expiry: AbortOnDropJoinHandle<()>,
}

impl Pool {
    /// An empty one, which keeps connections as long as there is room among those of all handlers.
    pub(super) fn new(room: &Arc<Semaphore>) -> Self {
        Self {
            waiting: Mutex::default(),
            room: Arc::clone(room),
        }
    }

    /// The connection to this origin that was used last. It may have been closed by the other side.
    pub(super) fn take(&self, origin: &Origin) -> Option<Connection> {
        let idle = &mut self.waiting().idle;
        idle.retain(|idle| !idle.connection.sender.is_closed());
        let at = idle.iter().rposition(|idle| idle.connection.origin == *origin)?;
        idle.remove(at).map(|idle| idle.connection)
    }

    /// Keeps a connection whose response was read to its end.
    pub(super) fn keep(self: &Arc<Self>, connection: Connection) {
        if connection.sender.is_closed() {
            return;
        }
        let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else {
            return;
        };
        let mut waiting = self.waiting();
        waiting.last += 1;
        let number = waiting.last;
        let idle = Idle {
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

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn expire(pool: Weak<Pool>, number: u64) {
    tokio::time::sleep(MAX_IDLE_TIME).await;
    if let Some(pool) = pool.upgrade() {
        pool.waiting().idle.retain(|idle| idle.number != number);
    }
}
