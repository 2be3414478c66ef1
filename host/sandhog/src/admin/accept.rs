//! Accepts connections and serves HTTP/1.1 on them, within bounds that hold for every client.
//!
//! Invariant: every connection is a task of one set, which ends with [`serve`]. The listener speaks neither HTTP/2 nor TLS.

use std::{io, sync::Arc, time::Duration};

use axum::{body::Body, extract::Request, response::Response};
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinError, JoinSet},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    AdminState,
    audit::ClientAddress,
    connections::{ClientConnection, ConnectionAdmission, ConnectionPhase, ConnectionPlace, ConnectionTable},
    routes,
    stream::ClientStream,
};
use crate::metrics::Metrics;
use sandhog_executor::descriptors;
use sandhog_queue::printable::chain;

/// The largest head of a request, which is also the size of the read buffer, in bytes.
const MAX_BUFFER_BYTES: usize = 32 * 1024;
/// The most connections that a host has, whatever the system allows.
const MAX_CONNECTIONS: usize = 16_384;
/// The pause after the system had no descriptor or memory for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The bounds of the listener. The defaults are those of a host.
#[derive(Debug, Clone)]
pub struct ListenerLimits {
    /// The most connections at a time: a quarter of the descriptors that the process may have, from 16 to 16,384. Each takes about 25 KiB of
    /// memory while its client waits for a message.
    pub connections: usize,
    /// The number of connections for probes alone, while all others have requests under way.
    pub reserve: usize,
    /// The longest time that a connection may be without the whole head of a request.
    pub head: Duration,
    /// The longest time of a request's body, from its head on.
    pub body: Duration,
    /// The longest time of a request with its body. The longest receive waits 20 s.
    pub request: Duration,
    /// The longest time that a slow client may take for the rest of an answer.
    pub answer: Duration,
    /// The longest time that a slow client may hold up the end of the listener.
    pub patience: Duration,
    /// The longest time that a request under way may hold up the end of the listener.
    pub stop: Duration,
    /// The most bytes of the bodies of all requests under way. At least the size of the largest body.
    pub body_bytes: usize,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        let quarter = usize::try_from(descriptors::limit() / 4).unwrap_or(usize::MAX);
        Self {
            connections: quarter.clamp(16, MAX_CONNECTIONS),
            reserve: 8,
            head: Duration::from_secs(30),
            body: Duration::from_secs(30),
            request: Duration::from_mins(1),
            answer: Duration::from_mins(1),
            patience: Duration::from_secs(1),
            stop: Duration::from_secs(5),
            body_bytes: 64 * 1024 * 1024,
        }
    }
}

/// Serves until `stop` is cancelled and the requests under way have ended, or five seconds later.
///
/// # Errors
///
/// None at present: the listener tries again after a connection that it can't accept.
///
/// # Cancel safety
///
/// Dropping the future ends every request under way.
pub async fn serve(listener: TcpListener, state: AdminState, stop: CancellationToken) -> io::Result<()> {
    serve_within(listener, state, ListenerLimits::default(), stop).await
}

/// As [`serve`], with other limits.
///
/// # Errors
///
/// See [`serve`].
///
/// # Cancel safety
///
/// See [`serve`].
pub async fn serve_within(
    listener: TcpListener,
    state: AdminState,
    limits: ListenerLimits,
    stop: CancellationToken,
) -> io::Result<()> {
    let tasks = TaskTracker::new();
    let acceptor = Acceptor {
        connections: Arc::new(ConnectionTable::new(limits.connections, limits.reserve)),
        metrics: Arc::clone(&state.metrics),
        service: TowerToHyperService::new(routes(state, &limits, tasks.clone())),
        limits,
        stop,
    };
    acceptor.run(listener).await;
    tasks.close();
    tasks.wait().await;
    Ok(())
}

type Service = TowerToHyperService<axum::Router>;

/// The service for one connection.
struct AddressedService {
    service: Service,
    address: ClientAddress,
}

struct Acceptor {
    connections: Arc<ConnectionTable>,
    metrics: Arc<Metrics>,
    service: Service,
    limits: ListenerLimits,
    stop: CancellationToken,
}

impl Acceptor {
    async fn run(self, listener: TcpListener) {
        let mut tasks = JoinSet::new();
        let mut short = false;
        loop {
            // A connection that was ended for another one may need a moment to go.
            let room = tasks.len() <= self.limits.connections;
            tokio::select! {
                () = self.stop.cancelled() => break,
                Some(ended) = tasks.join_next() => note_end(ended),
                accepted = listener.accept(), if room => match accepted {
                    Ok((stream, address)) => {
                        short = false;
                        self.begin(stream, ClientAddress(address), &mut tasks);
                    }
                    Err(error) => self.not_accepted(&error, &mut short).await,
                },
            }
        }
        // Closing the listener refuses the clients in the system's backlog, which would wait in vain.
        drop(listener);
        while let Some(ended) = tasks.join_next().await {
            note_end(ended);
        }
    }

    fn begin(&self, stream: TcpStream, address: ClientAddress, tasks: &mut JoinSet<()>) {
        let place = match self.connections.admit() {
            ConnectionAdmission::Room(place) => place,
            ConnectionAdmission::Replaced(place) => {
                self.metrics.listener().connection_replaced();
                place
            }
            ConnectionAdmission::Full => return self.metrics.listener().connection_replaced(),
        };
        let counted = self.metrics.listener().connection();
        let service = self.service.clone();
        let limits = self.limits.clone();
        let stop = self.stop.clone();
        tasks.spawn(async move {
            let service = AddressedService { service, address };
            converse(stream, &place, service, &limits, stop).await;
            drop(counted);
        });
    }

    /// Handles a failed accept. If the system has no descriptors or no memory, the listener ends one of its connections.
    async fn not_accepted(&self, error: &io::Error, short: &mut bool) {
        let client_is_gone = matches!(
            error.kind(),
            io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
        );
        if client_is_gone {
            return;
        }
        if !std::mem::replace(short, true) {
            tracing::warn!(error = %chain(error), "the listener can't accept a connection; it tries again");
        }
        if self.connections.end_one() {
            self.metrics.listener().connection_replaced();
        }
        sleep(ACCEPT_PAUSE).await;
    }
}

fn note_end(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection of the listener has died");
    }
}

/// Answers the requests of one connection until the client goes, the connection has to go, or the listener ends.
async fn converse(
    stream: TcpStream,
    place: &ConnectionPlace,
    service: AddressedService,
    limits: &ListenerLimits,
    stop: CancellationToken,
) {
    // With the delay of Nagle's algorithm the small last part of an answer would wait. An answer is right either way.
    drop(stream.set_nodelay(true));
    let connection = &place.connection;
    let stream = ClientStream::new(stream, Arc::clone(connection), limits.answer);
    let answering = service_fn(|request| answer(request, &service, connection));
    let mut http = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head)
            .max_buf_size(MAX_BUFFER_BYTES)
            .keep_alive(!connection.for_probes)
            .serve_connection(TokioIo::new(stream), answering)
    );
    tokio::select! {
        ended = http.as_mut() => {
            if let Err(error) = ended {
                tracing::debug!(error = %chain(&error), "a connection of the listener has failed");
            }
            return;
        }
        () = connection.ended() => return,
        () = stop.cancelled() => {}
    }
    if connection.phase() == ConnectionPhase::Silent {
        return;
    }
    http.as_mut().graceful_shutdown();
    let gone = timeout(limits.patience, http.as_mut()).await.is_ok();
    if !gone && connection.phase() == ConnectionPhase::UnderWay {
        drop(timeout(limits.stop.saturating_sub(limits.patience), http).await);
    }
}

async fn answer(
    request: hyper::Request<Incoming>,
    addressed: &AddressedService,
    connection: &Arc<ClientConnection>,
) -> Result<Response, std::convert::Infallible> {
    let mut request: Request = request.map(Body::new);
    connection.turn(ConnectionPhase::Sending);
    request.extensions_mut().insert(Arc::clone(connection));
    request.extensions_mut().insert(addressed.address);
    let answer = addressed.service.call(request).await;
    connection.turn(ConnectionPhase::Answering);
    answer
}
