//! A listener in this process, with limits of the test's own, and clients that say exactly what they are told to.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use harness::{PATIENCE, wait_for};
use sandhog::{
    admin::{AdminState, ListenerLimits, serve_within},
    endpoint::NamedKeys,
    metrics::Metrics,
    queue_set::QueueSet,
    versions::VersionBoard,
};
use sandhog_executor::{EngineOptions, LocalExecutor};
use sandhog_queue::{
    Counts, Queue,
    message::{Outgoing, QueueName},
};
use sandhog_simple::SimpleStore;
use tokio::{runtime::Runtime, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// Limits that never matter.
pub(super) fn patient() -> ListenerLimits {
    ListenerLimits {
        connections: 100,
        reserve: 2,
        head: PATIENCE,
        body: PATIENCE,
        request: PATIENCE,
        answer: PATIENCE,
        patience: PATIENCE,
        stop: PATIENCE,
        ..ListenerLimits::default()
    }
}

/// A listener that serves the queue `orders`.
pub(super) struct Served {
    pub(super) address: SocketAddr,
    pub(super) metrics: Arc<Metrics>,
    pub(super) orders: Arc<dyn Queue>,
    runtime: Runtime,
    draining: CancellationToken,
    stop: CancellationToken,
    serving: Option<JoinHandle<std::io::Result<()>>>,
}

impl Served {
    pub(super) fn new(limits: ListenerLimits) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let (draining, stop) = (CancellationToken::new(), CancellationToken::new());
        let queues = QueueSet::new(
            SimpleStore::ephemeral(),
            std::collections::BTreeMap::new(),
            Arc::default(),
        );
        let name = QueueName::new("orders").unwrap();
        let orders = runtime.block_on(queues.declare(&name)).unwrap();
        let metrics: Arc<Metrics> = Arc::default();
        let state = AdminState {
            executor: Arc::new(LocalExecutor::new(EngineOptions::default()).unwrap()),
            traces: None,
            queues: Arc::new(queues),
            handlers: Arc::default(),
            versions: Arc::new(VersionBoard::new(std::path::Path::new("plugins"))),
            halts: Arc::default(),
            reload: None,
            metrics: Arc::clone(&metrics),
            journal: Arc::default(),
            backups: Arc::default(),
            secret: None,
            dashboard: Arc::default(),
            deploys: None,
            keys: NamedKeys::default(),
            spy: None,
            draining: draining.clone(),
        };
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let serving = runtime.spawn(serve_within(listener, state, limits, stop.clone()));
        Self {
            address,
            metrics,
            orders,
            runtime,
            draining,
            stop,
            serving: Some(serving),
        }
    }

    /// A connection on which `bytes` were said.
    pub(super) fn say(&self, bytes: &str) -> Client {
        let mut client = Client(TcpStream::connect(self.address).unwrap());
        client.0.set_read_timeout(Some(PATIENCE)).unwrap();
        client.say(bytes.as_bytes());
        client
    }

    /// The status of a request on a connection of its own.
    pub(super) fn ask(&self, line: &str) -> u16 {
        self.say(&format!(
            "{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        ))
        .status()
    }

    /// A receive that waits for a message of `orders`, and is known to wait.
    pub(super) fn park(&self, parked: usize) -> Client {
        let client = self.say("POST /queues/orders/receive?wait=20s HTTP/1.1\r\nhost: localhost\r\n\r\n");
        self.wait_metric(&format!("sandhog_listener_requests {parked}"));
        client
    }

    pub(super) fn wait_metric(&self, sample: &str) {
        wait_for(sample, || {
            let page = self.metrics.page();
            page.lines().any(|line| line == sample).then_some(())
        });
    }

    pub(super) fn send(&self, body: Vec<u8>) {
        self.runtime
            .block_on(self.orders.send(Outgoing::new(body).check().unwrap()))
            .unwrap();
    }

    /// The numbers of messages in `orders`.
    pub(super) fn counts(&self) -> Counts {
        self.runtime.block_on(self.orders.counts()).unwrap()
    }

    /// As a host does when it stops: receives end, and then the listener.
    pub(super) fn stop(&mut self) {
        self.draining.cancel();
        self.stop.cancel();
    }

    pub(super) fn wait_end(&mut self) {
        let serving = self.serving.take().unwrap();
        let ended = self
            .runtime
            .block_on(async { tokio::time::timeout(PATIENCE / 2, serving).await });
        ended.expect("the listener ends before its limits").unwrap().unwrap();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop();
    }
}

pub(super) struct Client(TcpStream);

impl Client {
    pub(super) fn say(&mut self, bytes: &[u8]) {
        // The listener may hang up before it has heard all.
        drop(self.0.write_all(bytes));
    }

    /// Reads so many bytes.
    pub(super) fn hear(&mut self, bytes: usize) -> String {
        let mut heard = vec![0; bytes];
        self.0.read_exact(&mut heard).unwrap();
        String::from_utf8(heard).unwrap()
    }

    /// Everything until the listener hangs up.
    pub(super) fn rest(&mut self) -> String {
        let mut heard = Vec::new();
        match self.0.read_to_end(&mut heard) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
        }
        String::from_utf8_lossy(&heard).into_owned()
    }

    /// The status of the answer behind which the listener hangs up.
    pub(super) fn status(&mut self) -> u16 {
        let answer = self.rest();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        status.unwrap_or_else(|| panic!("an answer and not {answer:?}"))
    }

    /// Whether the listener still holds the line, a moment later.
    pub(super) fn is_open(&mut self) -> bool {
        self.0.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let open = match self.0.read(&mut [0]) {
            Ok(read) => read > 0,
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        };
        self.0.set_read_timeout(Some(PATIENCE)).unwrap();
        open
    }

    /// Whether something can be read.
    pub(super) fn is_answered(&mut self) -> bool {
        self.0.set_nonblocking(true).unwrap();
        let answered = self.0.peek(&mut [0]).is_ok_and(|read| read > 0);
        self.0.set_nonblocking(false).unwrap();
        answered
    }

    /// Says that nothing more comes.
    pub(super) fn hang_up_writing(&mut self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }

    pub(super) fn hang_up(self) {
        drop(self.0.shutdown(Shutdown::Both));
    }
}
