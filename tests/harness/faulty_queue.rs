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
        Counts, DeadLetter, Delivery, ExtendError, Queue, QueueError, Receipt, Send, SendError, Settle, SettleError,
    },
};

/// What a queue answers to extensions.
#[derive(Debug)]
pub enum Extensions {
    /// Every lease is lost.
    Lost,
    /// These, one after another, and then what is true.
    Scripted(VecDeque<Result<(), ExtendError>>),
}

#[derive(Debug)]
pub struct FaultyQueue {
    inner: Arc<dyn Queue>,
    receive_errors: Mutex<VecDeque<QueueError>>,
    extensions: Mutex<Extensions>,
    settled: Mutex<usize>,
    batches: Mutex<Vec<Vec<usize>>>,
}

impl FaultyQueue {
    pub fn new(
        inner: Arc<dyn Queue>,
        receive_errors: impl IntoIterator<Item = QueueError>,
        extensions: Extensions,
    ) -> Arc<Self> {
        Arc::new(Self {
            inner,
            receive_errors: Mutex::new(receive_errors.into_iter().collect()),
            extensions: Mutex::new(extensions),
            settled: Mutex::new(0),
            batches: Mutex::default(),
        })
    }

    /// How many settlements it was asked for.
    pub fn settled(&self) -> usize {
        *self.settled.lock().unwrap()
    }

    /// The lengths of the bodies of every batch that it was asked to send.
    pub fn batches(&self) -> Vec<Vec<usize>> {
        self.batches.lock().unwrap().clone()
    }

    fn scripted_extension(&self) -> Option<Result<(), ExtendError>> {
        match &mut *self.extensions.lock().unwrap() {
            Extensions::Lost => Some(Err(ExtendError::Expired)),
            Extensions::Scripted(answers) => answers.pop_front(),
        }
    }
}

#[async_trait]
impl Queue for FaultyQueue {
    fn name(&self) -> &QueueName {
        self.inner.name()
    }

    fn visibility_timeout(&self) -> Duration {
        self.inner.visibility_timeout()
    }

    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, QueueError> {
        let scripted = self.receive_errors.lock().unwrap().pop_front();
        match scripted {
            Some(error) => Err(error),
            None => self.inner.receive(max, wait).await,
        }
    }

    async fn extend(&self, receipts: Vec<Receipt>, by: Duration) -> Vec<Result<(), ExtendError>> {
        match self.scripted_extension() {
            Some(answer) => receipts.iter().map(|_| answer.clone()).collect(),
            None => self.inner.extend(receipts, by).await,
        }
    }

    async fn settle(&self, settles: Vec<Settle>, sends: Vec<Send>) -> Vec<Result<(), SettleError>> {
        *self.settled.lock().unwrap() += settles.len();
        self.inner.settle(settles, sends).await
    }

    fn commits_sends_to(&self, destination: &QueueName) -> bool {
        self.inner.commits_sends_to(destination)
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
