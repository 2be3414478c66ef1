//! A real queue whose receives and extensions fail as a test says, and that notes what it was asked to settle and send.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use sandhog::{
    message::{MessageId, Outgoing, QueueName},
    queue::{
        Counts, DeadLetter, Delivery, Effects, ExtendError, QueueCapabilities, Queue, QueueError, Receipt, SendError, Settle,
        SettleError, Wanted,
    },
};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

/// What a queue answers to extensions.
#[derive(Debug)]
pub enum Extensions {
    /// Every lease is lost.
    Lost,
    /// These, one after another, and then what is true.
    Scripted(VecDeque<Result<(), ExtendError>>),
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

    fn scripted_extension(&self) -> Option<Result<(), ExtendError>> {
        match &mut *self.extensions.lock().unwrap() {
            Extensions::Lost => Some(Err(ExtendError::Expired)),
            Extensions::Scripted(answers) => answers.pop_front(),
            Extensions::Slow(_) => None,
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
        self.note("receive", max, from);
        answer
    }

    async fn receive_wanted(&self, wanted: &Wanted, wait: Duration) -> Result<Vec<Delivery>, QueueError> {
        wait_until(&self.receives_open).await;
        self.receive(wanted.close(), wait).await
    }

    async fn extend(&self, receipts: Vec<Receipt>, by: Duration) -> Vec<Result<(), ExtendError>> {
        let (from, count) = (Instant::now(), receipts.len());
        let slow = match &*self.extensions.lock().unwrap() {
            Extensions::Slow(slow) => *slow,
            Extensions::Lost | Extensions::Scripted(_) => Duration::ZERO,
        };
        let answers = match self.scripted_extension() {
            Some(answer) => receipts.iter().map(|_| answer.clone()).collect(),
            None => self.inner.extend(receipts, by).await,
        };
        sleep(slow).await;
        self.note("extend", count, from);
        answers
    }

    async fn settle(&self, settles: Vec<Settle>, effects: Effects) -> Vec<Result<(), SettleError>> {
        let (from, count) = (Instant::now(), settles.len());
        wait_until(&self.settlements_open).await;
        let scripted = self.settle_errors.lock().unwrap().pop_front().unwrap_or_default();
        let answers = if scripted.is_empty() {
            self.inner.settle(settles, effects).await
        } else {
            let mut answers = Vec::new();
            for (settle, error) in settles.into_iter().zip(scripted) {
                answers.push(match error {
                    Some(error) => Err(error),
                    None => self.inner.settle(vec![settle], Effects::default()).await.pop().unwrap(),
                });
            }
            answers
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

    async fn send_many(&self, messages: Vec<Outgoing>) -> Vec<Result<MessageId, SendError>> {
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
