//! The Simple queue: embedded, durable in one `SQLite` file or in memory only, no server to run.
//!
//! [`SimpleStore`] is a directory of queues (or a heap of them), [`SimpleQueue`] one queue of it. The store also remembers
//! which messages of queues of other kinds were handled, and holds key-value stores, so that a write can be one transaction with a
//! deletion. The rules are in
//! `rules.rs`, once for both kinds of store; `docs/reference/simple-queue.md` has the format and the commit protocol. This file only
//! carries commands to the store and waits for its answers.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use self::{
    clock::StoreTime,
    ephemeral::EphemeralStore,
    isolation::SharedIsolation,
    keyvalue::SimpleKeyValue,
    long::between_steps,
    memory::MemoryRows,
    open::OpenedStore,
    operation::{ReceiveMessages, StoreOperation},
    peek_reader::PeekReader,
    processed::SharedProcessedMessages,
    receive_terms::ReceiveTerms,
    row::{QueueKey, StoreFault},
    rules::StoreRules,
    settings::Settings,
    writer::Writer,
};
use sandhog_queue::{
    Counts, DeadLetter, Delivery, Effects, EffectsRefused, ExtendError, Queue, QueueError, Receipt, ReceiveDemand,
    SendError, SentAgain, SettleAnswers, SettleRequest,
    peek::{DeadLetterSweep, PeekPage, PeekRequest, SweptDeadLetters},
};
use sandhog_queue::{
    keyvalue::{KeyValue, Writes},
    machine_clock::MachineClock,
    message::{CheckedMessage, MessageId, QueueName},
};

mod clock;
mod codec;
mod copying;
mod ephemeral;
mod health;
mod high_water_mark;
mod history;
mod in_flight;
mod isolation;
mod keyvalue;
mod long;
mod memory;
mod open;
mod operation;
mod outside;
mod peek;
mod peek_reader;
mod place;
mod processed;
pub mod receive_terms;
mod row;
mod rows;
mod rules;
mod schema;
mod search;
pub mod settings;
mod sqlite;
mod standing;
mod writer;

pub use copying::{CopyError, StoreCopy};
pub use health::StoreHealth;
pub use history::{HistoricDelivery, MessageHistory, SentMessage};
pub use open::{OpenError, StoreOptions};
pub use processed::{CommitError, ProcessedMessageKey, ProcessedMessageSettings};
pub use rows::{DiskUse, QueueMaker, QueueRecord};
pub use rules::MovedMessages;
pub use standing::{GroupLeader, WaitingMessages};

/// No receive waits longer than this, whatever its caller asks for.
const LONGEST_WAIT: Duration = Duration::from_hours(24);

/// All Simple queues of a host. Cheap to clone; the clones are the same store.
#[derive(Debug, Clone)]
pub struct SimpleStore {
    inner: Arc<StoreInner>,
}

#[derive(Debug)]
struct StoreInner {
    engine: StoreEngine,
    /// The searches of a durable store.
    peeks: Option<PeekReader>,
    processed: SharedProcessedMessages,
    isolation: SharedIsolation,
    destinations: RwLock<HashSet<QueueName>>,
    /// What the handles of each queue say of it.
    terms: Mutex<BTreeMap<QueueKey, Arc<Mutex<HandleTerms>>>>,
}

/// Where the rules are applied.
enum StoreEngine {
    Ephemeral(Box<EphemeralStore>),
    Durable(Writer),
}

impl fmt::Debug for StoreEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ephemeral(_) => "Ephemeral",
            Self::Durable(_) => "Durable",
        })
    }
}

impl SimpleStore {
    /// Opens the store in a directory, and makes it if it is not there. Messages that were in flight when the last run ended are
    /// visible at once.
    ///
    /// Blocks on the disk: call it from `spawn_blocking`.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]; each says what an operator can do.
    pub fn open(options: &StoreOptions) -> Result<Self, OpenError> {
        let OpenedStore {
            writer,
            peeks,
            processed,
            isolation,
        } = open::open(options)?;
        Ok(Self::with(
            StoreEngine::Durable(writer),
            Some(peeks),
            processed,
            isolation,
        ))
    }

    /// Gives the room of messages that are gone back to the disk, in a store that no process has open. Returns the size of the
    /// database in bytes, before and after.
    ///
    /// Blocks on the disk, for about as long as it takes to write the remaining messages twice: call it from `spawn_blocking`.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]. In each case the store is as it was.
    pub fn compact(options: &StoreOptions) -> Result<(u64, u64), OpenError> {
        open::compact(options)
    }

    /// Makes a store in memory, which is gone with its last clone.
    pub fn ephemeral() -> Self {
        Self::ephemeral_with(ProcessedMessageSettings::default())
    }

    /// As [`SimpleStore::ephemeral`], with other bounds for the processed messages.
    pub fn ephemeral_with(processed: ProcessedMessageSettings) -> Self {
        Self::ephemeral_on(processed, MachineClock::default())
    }

    /// As [`SimpleStore::ephemeral_with`], with another clock than the machine's.
    pub fn ephemeral_on(processed: ProcessedMessageSettings, clock: MachineClock) -> Self {
        let rules = StoreRules::new(MemoryRows::default(), false, processed, clock);
        let processed = rules.processed().clone();
        let isolation = rules.shared_isolation().clone();
        Self::with(
            StoreEngine::Ephemeral(Box::new(EphemeralStore::new(rules))),
            None,
            processed,
            isolation,
        )
    }

    fn with(
        engine: StoreEngine,
        peeks: Option<PeekReader>,
        processed: SharedProcessedMessages,
        isolation: SharedIsolation,
    ) -> Self {
        Self {
            inner: Arc::new(StoreInner {
                engine,
                peeks,
                processed,
                isolation,
                destinations: RwLock::default(),
                terms: Mutex::default(),
            }),
        }
    }

    /// Declares a queue, and its dead-letter queue, and returns it. Declaring it again replaces the settings for all
    /// its handles.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have declared the queue; declare it again.
    pub async fn queue(&self, name: QueueName, settings: Settings) -> Result<Arc<SimpleQueue>, QueueError> {
        self.declare(name, settings, None).await
    }

    /// As [`SimpleStore::queue`], and replaces what the store keeps about the queue beside its messages, in the same transaction.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have declared the queue, as a whole; declare it again.
    pub async fn queue_with(
        &self,
        name: QueueName,
        settings: Settings,
        record: QueueRecord,
    ) -> Result<Arc<SimpleQueue>, QueueError> {
        self.declare(name, settings, Some(record)).await
    }

    async fn declare(
        &self,
        name: QueueName,
        settings: Settings,
        record: Option<QueueRecord>,
    ) -> Result<Arc<SimpleQueue>, QueueError> {
        let visibility_timeout = settings.visibility_timeout;
        let max_receives = settings.max_receives;
        let own_name = name.clone();
        let declare = StoreOperation::new(move |rules, _now| {
            let declared = rules.declare(&own_name, settings)?;
            if let Some(record) = record {
                rules.set_queue_record(&own_name, &record)?;
            }
            Ok(declared)
        });
        let declared = self.inner.ask(&name, declare).await?;
        let key = declared.key;
        self.inner.destinations.write().extend(declared.destinations);
        let regroup_some = || StoreOperation::new(move |rules, _now| rules.regroup_some(key));
        while self.inner.ask(&name, regroup_some()).await? {
            between_steps().await;
        }
        Ok(Arc::new(SimpleQueue {
            inner: Arc::clone(&self.inner),
            name,
            key,
            notify: declared.notify,
            terms: self.inner.terms_of(
                key,
                HandleTerms {
                    visibility_timeout,
                    max_receives,
                },
            ),
        }))
    }

    /// Returns the names of all queues in the store: those declared, and those that an earlier run left.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn queue_names(&self) -> Result<Vec<QueueName>, QueueError> {
        let names = StoreOperation::new(|rules, _now| Ok(rules.names()));
        self.inner.ask(&all_queues(), names).await
    }

    /// Returns what the store keeps about a queue beside its messages; `None` if there is no queue of that name.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn queue_record(&self, name: &QueueName) -> Result<Option<QueueRecord>, QueueError> {
        let own_name = name.clone();
        let read = StoreOperation::new(move |rules, _now| rules.queue_record(&own_name));
        self.inner.ask(name, read).await
    }

    /// Replaces what the store keeps about a queue beside its messages. Returns whether there is a queue of that name.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have replaced it, as a whole.
    pub async fn set_queue_record(&self, name: &QueueName, record: QueueRecord) -> Result<bool, QueueError> {
        let own_name = name.clone();
        let write = StoreOperation::new(move |rules, _now| rules.set_queue_record(&own_name, &record));
        self.inner.ask(name, write).await
    }

    /// Deletes the messages that the deletion of a queue has left, because the host ended meanwhile.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves some of them.
    pub async fn finish_deletions(&self) -> Result<(), QueueError> {
        let unfinished = StoreOperation::new(|rules, _now| Ok(rules.unfinished()));
        for key in self.inner.ask(&all_queues(), unfinished).await? {
            let clear = || StoreOperation::new(move |rules, _now| rules.clear(key, u64::MAX, long::STEP));
            while self.inner.ask(&all_queues(), clear()).await? > 0 {
                between_steps().await;
            }
        }
        Ok(())
    }

    /// Returns how much room the store takes on its disk; `None` for a store in memory.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn disk_use(&self) -> Result<Option<DiskUse>, QueueError> {
        let measure = StoreOperation::new(|rules, _now| rules.rows.disk_use());
        self.inner.ask(&all_queues(), measure).await
    }

    /// Returns whether a message of a queue of another kind was handled, as far as the store remembers: `true` after
    /// [`SimpleStore::commit`] has answered, or [`SimpleStore::note_handled`] has returned, until the message is forgotten (see
    /// [`ProcessedMessageSettings`]). `false` may be wrong, as delivery at least once allows; `true` never is.
    ///
    /// Costs well below a microsecond, and never waits for the disk.
    pub fn was_handled(&self, key: &ProcessedMessageKey) -> bool {
        self.inner.processed.knows(key)
    }

    /// Notes that messages of queues of other kinds were handled whose handlers sent nothing to Simple queues.
    ///
    /// [`SimpleStore::was_handled`] knows the messages at once. A durable store writes the notes to the disk together
    /// within about half a second, sooner if there are thousands, and at the latest when it is closed. The caller does not learn
    /// when the notes are written, or that they can't be: a crash may lose notes, and a disk that does not keep up loses those beyond
    /// 65,536. Such a message is handled again if it is delivered again; use [`SimpleStore::commit`] where that is too
    /// much. After [`SimpleStore::close`] notes are in memory only.
    ///
    /// Costs well below a microsecond per message, and never waits for the disk.
    pub fn note_handled(&self, handled: impl IntoIterator<Item = ProcessedMessageKey>) {
        if self.inner.processed.note(handled)
            && let StoreEngine::Durable(writer) = &self.inner.engine
        {
            writer.wake();
        }
    }

    /// Notes that messages of queues of other kinds were handled, and makes the sends to Simple queues of this store and the writes
    /// to its key-value stores that belong to them, in one transaction: all of it happens, or nothing does.
    /// `Ok` means that it is as durable as the store gets.
    ///
    /// With effects, the effects of messages that were handled before do not happen twice: if all of the messages were, the answer is
    /// `Ok` and nothing is sent or written, because that happened then. Without effects, noting a message again is no error; it is
    /// remembered from now on. If the store remembers no processed messages, this only sends and writes.
    ///
    /// # Errors
    ///
    /// See [`CommitError`]: in each case nothing was done. After `Incomplete`, [`SimpleStore::was_handled`] tells which
    /// of the messages were handled before: delete these where they came from, and try the others again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have committed, as a whole; ask [`SimpleStore::was_handled`] later, or commit again.
    pub async fn commit(&self, handled: Vec<ProcessedMessageKey>, effects: Effects) -> Result<(), CommitError> {
        let first = effects.sends.first();
        let queue = first.map_or_else(all_queues, |send| send.queue.clone());
        let weight = effects.size() + handled.len() * ProcessedMessageKey::LEN;
        let commit = StoreOperation::new(move |rules, now| rules.commit_handled(handled, effects, now));
        self.inner.ask(&queue, commit.weighing(weight)).await?
    }

    /// Returns whether writes could be committed now. Nothing is done, and later they may be refused all the same.
    ///
    /// # Errors
    ///
    /// See [`CommitError`]: `Refused` or `Queue`.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn check_writes(&self, writes: Writes) -> Result<(), CommitError> {
        let weight = writes.size();
        let check = StoreOperation::new(move |rules, _now| rules.plan_writes(writes).map(|planned| planned.map(drop)));
        let planned = self.inner.ask(&all_queues(), check.weighing(weight)).await?;
        planned.map_err(|error| EffectsRefused::WriteRefused(error).into())
    }

    /// Returns a reader of the committed entries of a namespace of the key-value store. Writes come with a commit or
    /// a settlement.
    pub fn keyvalue(&self, namespace: &str) -> Arc<dyn KeyValue> {
        Arc::new(SimpleKeyValue::new(Arc::clone(&self.inner), namespace))
    }

    /// Answers the commands that came before, writes the notes, and closes the store. Later commands fail.
    /// The directory can be opened again afterwards.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the store closing by itself.
    pub async fn close(self) {
        if let Some(peeks) = &self.inner.peeks {
            peeks.close().await;
        }
        match &self.inner.engine {
            StoreEngine::Durable(writer) => writer.close().await,
            StoreEngine::Ephemeral(_) => {}
        }
    }
}

impl StoreHealth for SimpleStore {
    fn troubles(&self) -> Vec<String> {
        let failed = match &self.inner.engine {
            StoreEngine::Durable(writer) => writer.failed(),
            StoreEngine::Ephemeral(_) => None,
        };
        let failed = failed.map(|why| format!("the store has failed: {why}"));
        let held_back = self.inner.isolation.held_back(Instant::now()).map(|held| {
            format!(
                "isolating: for {} s nothing else is handed out, so that a message that was in flight when the host ended is alone",
                held.as_secs()
            )
        });
        failed.into_iter().chain(held_back).collect()
    }
}

/// Returns the name in errors that concern no queue in particular.
fn all_queues() -> QueueName {
    QueueName::new("all").expect("a legal name")
}

impl StoreInner {
    /// Gives all handles of a queue these terms, and returns what they share.
    fn terms_of(&self, key: QueueKey, terms: HandleTerms) -> Arc<Mutex<HandleTerms>> {
        let mut all = self.terms.lock();
        let shared = all.entry(key).or_insert_with(|| Arc::new(Mutex::new(terms)));
        *shared.lock() = terms;
        Arc::clone(shared)
    }

    async fn ask<F, A>(&self, queue: &QueueName, operation: StoreOperation<F>) -> Result<A, QueueError>
    where
        F: FnOnce(&mut StoreRules, StoreTime) -> Result<A, StoreFault> + Send + 'static,
        A: Send + 'static,
    {
        match &self.engine {
            StoreEngine::Durable(writer) => writer.ask(queue, operation).await,
            StoreEngine::Ephemeral(store) => store.ask(operation).map_err(|fault| QueueError::Failed {
                queue: queue.clone(),
                cause: Arc::new(fault),
            }),
        }
    }
}

/// One Simple queue.
#[derive(Debug)]
pub struct SimpleQueue {
    inner: Arc<StoreInner>,
    name: QueueName,
    key: QueueKey,
    notify: Arc<Notify>,
    /// Shared by all handles of the queue, which may be declared anew.
    terms: Arc<Mutex<HandleTerms>>,
}

/// The settings that a consumer of a queue asks its handle for.
#[derive(Debug, Clone, Copy)]
struct HandleTerms {
    visibility_timeout: Duration,
    max_receives: NonZeroU32,
}

impl SimpleQueue {
    async fn ask<F, A>(&self, operation: StoreOperation<F>) -> Result<A, QueueError>
    where
        F: FnOnce(&mut StoreRules, StoreTime) -> Result<A, StoreFault> + Send + 'static,
        A: Send + 'static,
    {
        self.inner.ask(&self.name, operation).await
    }

    async fn receive_by(
        &self,
        demand: &ReceiveDemand,
        wait: Duration,
        terms: ReceiveTerms,
    ) -> Result<Vec<HistoricDelivery>, QueueError> {
        let end = Instant::now() + wait.min(LONGEST_WAIT);
        let receive = ReceiveMessages {
            queue: self.key,
            demand: demand.clone(),
            terms,
        };
        match &self.inner.engine {
            StoreEngine::Durable(writer) => self.receive_parked(writer, receive, end).await,
            StoreEngine::Ephemeral(_) => self.receive_again(receive, end).await,
        }
    }

    /// Leaves the receive parked with the store until a message comes.
    async fn receive_parked(
        &self,
        writer: &Writer,
        receive: ReceiveMessages,
        end: Instant,
    ) -> Result<Vec<HistoricDelivery>, QueueError> {
        loop {
            let received = writer.receive(&self.name, receive.clone(), end).await?;
            if !received.deliveries.is_empty() || end <= Instant::now() {
                return Ok(received.deliveries);
            }
            tokio::task::yield_now().await;
        }
    }

    /// Receives again whenever a message may have come.
    async fn receive_again(&self, receive: ReceiveMessages, end: Instant) -> Result<Vec<HistoricDelivery>, QueueError> {
        let mut wake = std::pin::pin!(self.notify.notified());
        loop {
            // Registered before asking, so that a change in between wakes this receive.
            wake.as_mut().enable();
            let receive = receive.clone();
            let received = self
                .ask(StoreOperation::new(move |rules, now| receive.apply(rules, now)))
                .await?;
            let now = Instant::now();
            if !received.deliveries.is_empty() || end <= now {
                return Ok(received.deliveries);
            }
            let until = received.again.map_or(end, |again| again.min(end));
            if until <= now {
                tokio::task::yield_now().await;
            } else if timeout_at(until, wake.as_mut()).await.is_err() {
                continue;
            }
            wake.set(self.notify.notified());
        }
    }
}

#[async_trait]
impl Queue for SimpleQueue {
    fn name(&self) -> &QueueName {
        &self.name
    }

    fn visibility_timeout(&self) -> Duration {
        self.terms.lock().visibility_timeout
    }

    fn last_receive(&self) -> Option<NonZeroU32> {
        Some(self.terms.lock().max_receives)
    }

    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, QueueError> {
        self.receive_on_demand(&ReceiveDemand::new(max), wait).await
    }

    async fn receive_on_demand(&self, demand: &ReceiveDemand, wait: Duration) -> Result<Vec<Delivery>, QueueError> {
        let received = self.receive_by(demand, wait, ReceiveTerms::default()).await?;
        Ok(received.into_iter().map(|received| received.delivery).collect())
    }

    async fn extend(&self, receipts: Vec<Receipt>, by: Duration) -> Vec<Result<Instant, ExtendError>> {
        let count = receipts.len();
        let key = self.key;
        let extend = StoreOperation::new(move |rules, now| Ok(rules.extend(key, &receipts, by, now)));
        match self.ask(extend).await {
            Ok(answers) => answers,
            Err(error) => vec![Err(error.into()); count],
        }
    }

    async fn settle(&self, settles: Vec<SettleRequest>, effects: Effects) -> Result<SettleAnswers, EffectsRefused> {
        let count = settles.len();
        let key = self.key;
        let weight = effects.size();
        let settle = StoreOperation::new(move |rules, now| rules.settle(key, settles, effects, now));
        match self.ask(settle.weighing(weight)).await {
            Ok(answer) => answer,
            Err(error) => Ok(vec![Err(error.into()); count]),
        }
    }

    fn commits_sends_to(&self, destination: &QueueName) -> bool {
        self.inner.destinations.read().contains(destination)
    }

    fn commits_writes(&self) -> bool {
        true
    }

    async fn send_many(&self, messages: Vec<CheckedMessage>) -> Vec<Result<MessageId, SendError>> {
        let sent = self.send_all(messages).await;
        sent.into_iter().map(|sent| sent.map(|sent| sent.id)).collect()
    }

    async fn counts(&self) -> Result<Counts, QueueError> {
        let key = self.key;
        self.ask(StoreOperation::new(move |rules, now| rules.counts(key, now)))
            .await
    }

    async fn purge(&self) -> Result<u64, QueueError> {
        self.purge_all().await
    }

    async fn dead_letters(&self, after: Option<MessageId>, limit: usize) -> Result<Vec<DeadLetter>, QueueError> {
        self.list_dead(after, limit).await
    }

    async fn dead_letter(&self, id: &MessageId) -> Result<Option<DeadLetter>, QueueError> {
        let key = self.key;
        let id = id.clone();
        self.ask(StoreOperation::new(move |rules, _now| rules.dead_letter(key, &id)))
            .await
    }

    async fn redrive(&self, ids: Option<Vec<MessageId>>, limit: usize) -> Result<u64, QueueError> {
        match ids {
            Some(ids) => self.each_id(ids, <StoreRules>::redrive).await,
            None => self.each_step(limit, <StoreRules>::redrive).await,
        }
    }

    async fn peek(&self, request: PeekRequest) -> Result<PeekPage, QueueError> {
        self.peek_page(request).await
    }

    async fn sweep_dead(&self, sweep: DeadLetterSweep) -> Result<SweptDeadLetters, QueueError> {
        self.sweep_step(sweep).await
    }

    async fn delete_dead(&self, ids: Vec<MessageId>) -> Result<u64, QueueError> {
        self.each_id(ids, <StoreRules>::purge_dead).await
    }

    async fn send_again(&self, again: SentAgain) -> Result<Option<MessageId>, SendError> {
        self.send_copy(again).await
    }

    async fn purge_dead(&self) -> Result<u64, QueueError> {
        self.each_step(usize::MAX, <StoreRules>::purge_dead).await
    }
}

/// The example of the README, which is compiled and run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
