//! A real queue whose receives and extensions fail as a test says, and that notes what it was asked to settle and send.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use sandhog_queue::{
    Counts, DeadLetter, Delivery, DeliveryLease, Effects, EffectsRefused, ExtendError, Queue, QueueCapabilities,
    QueueError, Receipt, ReceiveDemand, SendError, SettleAnswers, SettleError, SettleRequest, Settlement,
    message::{CheckedMessage, MessageId, QueueName},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

/// What a queue answers to extensions.
#[derive(Debug)]
pub enum Extensions {
    /// Every lease is lost.
    Lost,
    /// The inner queue answers, after these errors.
    Scripted(VecDeque<ExtendError>),
    /// What is true, so much later.
    Slow(Duration),
}

/// A call of a queue: what was asked for, for how many deliveries, and from when to when it lasted.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub what: &'static str,
    pub deliveries: usize,
    pub from: Instant,
    pub to: Instant,
}

#[derive(Debug)]
pub struct FaultyQueue {
    inner: Arc<dyn Queue>,
    receive_errors: Mutex<VecDeque<QueueError>>,
    extensions: Mutex<Extensions>,
    settle_errors: Mutex<VecDeque<Vec<Option<SettleError>>>>,
    capabilities: QueueCapabilities,
    asked: Mutex<Vec<Asked>>,
    batches: Mutex<Vec<Vec<usize>>>,
    /// Whether receives that may grow go on, and whether settlements do.
    receives_open: watch::Sender<bool>,
    settlements_open: watch::Sender<bool>,
    commits_sends: bool,
    /// The group that every message is said to be of.
    group: Option<String>,
    /// The connection that holds the deliveries, if one does.
    connection: Option<Connection>,
}

/// A connection that holds deliveries until it is lost.
#[derive(Debug)]
struct Connection {
    at_most: Option<Duration>,
    // Replaced when the connection is lost.
    state: Mutex<ConnectionState>,
}

#[derive(Debug, Default)]
struct ConnectionState {
    lost: CancellationToken,
    receipts: Vec<Receipt>,
}

impl FaultyQueue {
    pub fn new(
        inner: Arc<dyn Queue>,
        receive_errors: impl IntoIterator<Item = QueueError>,
        extensions: Extensions,
    ) -> Arc<Self> {
        Self::with_capabilities(inner, receive_errors, extensions, QueueCapabilities::LOCAL)
    }

    /// A queue that says of itself what it is not.
    pub fn with_capabilities(
        inner: Arc<dyn Queue>,
        receive_errors: impl IntoIterator<Item = QueueError>,
        extensions: Extensions,
        capabilities: QueueCapabilities,
    ) -> Arc<Self> {
        Arc::new(Self {
            inner,
            receive_errors: Mutex::new(receive_errors.into_iter().collect()),
            extensions: Mutex::new(extensions),
            settle_errors: Mutex::default(),
            capabilities,
            asked: Mutex::default(),
            batches: Mutex::default(),
            receives_open: watch::Sender::new(true),
            settlements_open: watch::Sender::new(true),
            commits_sends: true,
            group: None,
            connection: None,
        })
    }

    /// A queue that can't send in the transaction of a settlement.
    #[must_use]
    pub fn without_sends(self: Arc<Self>) -> Arc<Self> {
        let mut queue = Arc::into_inner(self).unwrap();
        queue.commits_sends = false;
        Arc::new(queue)
    }

    /// A queue whose messages are all said to be of one group, of which it hands out several at once.
    #[must_use]
    pub fn in_one_group(self: Arc<Self>) -> Arc<Self> {
        let mut queue = Arc::into_inner(self).unwrap();
        queue.capabilities.returns_groups = true;
        queue.group = Some("group".to_owned());
        Arc::new(queue)
    }

    /// A queue whose deliveries are held by its connection, for `at_most` this long. The visibility timeout of the inner
    /// queue must be longer.
    #[must_use]
    pub fn held_by_connection(self: Arc<Self>, at_most: Option<Duration>) -> Arc<Self> {
        let mut queue = Arc::into_inner(self).unwrap();
        queue.capabilities.extension_shortens = false;
        queue.connection = Some(Connection {
            at_most,
            state: Mutex::default(),
        });
        Arc::new(queue)
    }

    /// Loses the connection, so that the queue releases what it held, and makes another one.
    pub async fn lose_connection(&self) {
        let connection = self.connection.as_ref().unwrap();
        let ConnectionState { lost, receipts } = std::mem::take(&mut *connection.state.lock().unwrap());
        lost.cancel();
        let release = |receipt| SettleRequest {
            receipt,
            settlement: Settlement::Release,
        };
        let releases = receipts.into_iter().map(release).collect();
        drop(self.inner.settle(releases, Effects::default()).await);
    }

    /// Receives of a poller that begin from now on wait until they are let go.
    pub fn hold_receives(&self) {
        self.receives_open.send_replace(false);
    }

    /// Settlements that begin from now on wait until they are let go.
    pub fn hold_settlements(&self) {
        self.settlements_open.send_replace(false);
    }

    pub fn let_go(&self) {
        self.receives_open.send_replace(true);
        self.settlements_open.send_replace(true);
    }

    /// The next call to settle answers so; `None` is what is true.
    pub fn fail_next_settle(&self, answers: Vec<Option<SettleError>>) {
        self.settle_errors.lock().unwrap().push_back(answers);
    }

    /// How many settlements it was asked for.
    pub fn settled(&self) -> usize {
        self.asked("settle").iter().map(|asked| asked.deliveries).sum()
    }

    /// Every call of this kind: `receive` (with how many were asked for), `extend` or `settle`.
    pub fn asked(&self, what: &str) -> Vec<Asked> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|asked| asked.what == what).copied().collect()
    }

    fn note(&self, what: &'static str, deliveries: usize, from: Instant) {
        let to = Instant::now();
        self.asked.lock().unwrap().push(Asked {
            what,
            deliveries,
            from,
            to,
        });
    }

    /// The lengths of the bodies of every batch that it was asked to send.
    pub fn batches(&self) -> Vec<Vec<usize>> {
        self.batches.lock().unwrap().clone()
    }

    fn scripted_extension(&self) -> Option<ExtendError> {
        match &mut *self.extensions.lock().unwrap() {
            Extensions::Lost => Some(ExtendError::Expired),
            Extensions::Scripted(answers) => answers.pop_front(),
            Extensions::Slow(_) => None,
        }
    }
}

impl Connection {
    fn hold(&self, receipt: &Receipt) -> DeliveryLease {
        let mut state = self.state.lock().unwrap();
        state.receipts.push(receipt.clone());
        DeliveryLease::WhileConnected {
            lost: state.lost.clone(),
            at_most: self.at_most.map(|at_most| Instant::now() + at_most),
        }
    }
}

async fn wait_until(open: &watch::Sender<bool>) {
    open.subscribe().wait_for(|open| *open).await.unwrap();
}

#[async_trait]
impl Queue for FaultyQueue {
    fn name(&self) -> &QueueName {
        self.inner.name()
    }

    fn visibility_timeout(&self) -> Duration {
        self.inner.visibility_timeout()
    }

    fn capabilities(&self) -> QueueCapabilities {
        self.capabilities
    }

    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, QueueError> {
        let from = Instant::now();
        let scripted = self.receive_errors.lock().unwrap().pop_front();
        let mut answer = match scripted {
            Some(error) => Err(error),
            None => self.inner.receive(max.min(self.capabilities.receive_limit), wait).await,
        };
        for delivery in answer.iter_mut().flatten().filter(|_| self.group.is_some()) {
            delivery.message.group_id.clone_from(&self.group);
        }
        if let Some(connection) = &self.connection {
            for delivery in answer.iter_mut().flatten() {
                delivery.lease = connection.hold(&delivery.receipt);
            }
        }
        self.note("receive", max, from);
        answer
    }

    async fn receive_on_demand(&self, demand: &ReceiveDemand, wait: Duration) -> Result<Vec<Delivery>, QueueError> {
        wait_until(&self.receives_open).await;
        self.receive(demand.close(), wait).await
    }

    fn is_receiving(&self) -> bool {
        self.inner.is_receiving()
    }

    async fn extend(&self, receipts: Vec<Receipt>, by: Duration) -> Vec<Result<Instant, ExtendError>> {
        let (from, count) = (Instant::now(), receipts.len());
        let slow = match &*self.extensions.lock().unwrap() {
            Extensions::Slow(slow) => *slow,
            Extensions::Lost | Extensions::Scripted(_) => Duration::ZERO,
        };
        if self.connection.is_some() {
            let error = QueueError::Unsupported {
                queue: self.name().clone(),
                operation: "extend a delivery",
            };
            self.note("extend", count, from);
            return receipts.iter().map(|_| Err(error.clone().into())).collect();
        }
        let answers = match self.scripted_extension() {
            Some(error) => receipts.iter().map(|_| Err(error.clone())).collect(),
            None => self.inner.extend(receipts, by).await,
        };
        sleep(slow).await;
        self.note("extend", count, from);
        answers
    }

    async fn settle(&self, settles: Vec<SettleRequest>, effects: Effects) -> Result<SettleAnswers, EffectsRefused> {
        let (from, count) = (Instant::now(), settles.len());
        wait_until(&self.settlements_open).await;
        let scripted = self.settle_errors.lock().unwrap().pop_front().unwrap_or_default();
        let answers = if scripted.is_empty() {
            self.inner.settle(settles, effects).await
        } else {
            let mut answers = Vec::new();
            for (settle, error) in settles.into_iter().zip(scripted) {
                let answer = if let Some(error) = error {
                    Err(error)
                } else {
                    let alone = self.inner.settle(vec![settle], Effects::default()).await;
                    alone.unwrap().pop().unwrap()
                };
                answers.push(answer);
            }
            Ok(answers)
        };
        self.note("settle", count, from);
        answers
    }

    fn commits_sends_to(&self, destination: &QueueName) -> bool {
        self.commits_sends && self.inner.commits_sends_to(destination)
    }

    fn commits_writes(&self) -> bool {
        self.inner.commits_writes()
    }

    async fn send_many(&self, messages: Vec<CheckedMessage>) -> Vec<Result<MessageId, SendError>> {
        let lengths = messages.iter().map(|message| message.body.len()).collect();
        self.batches.lock().unwrap().push(lengths);
        self.inner.send_many(messages).await
    }

    async fn counts(&self) -> Result<Counts, QueueError> {
        self.inner.counts().await
    }

    async fn purge(&self) -> Result<u64, QueueError> {
        self.inner.purge().await
    }

    async fn dead_letters(&self, after: Option<MessageId>, limit: usize) -> Result<Vec<DeadLetter>, QueueError> {
        self.inner.dead_letters(after, limit).await
    }

    async fn dead_letter(&self, id: &MessageId) -> Result<Option<DeadLetter>, QueueError> {
        self.inner.dead_letter(id).await
    }

    async fn redrive(&self, ids: Option<Vec<MessageId>>, limit: usize) -> Result<u64, QueueError> {
        self.inner.redrive(ids, limit).await
    }

    async fn purge_dead(&self) -> Result<u64, QueueError> {
        self.inner.purge_dead().await
    }
}
