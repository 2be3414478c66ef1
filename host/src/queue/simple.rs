//! The Simple queue: embedded, durable in one `SQLite` file or in memory only, no server to run.
//!
//! [`SimpleStore`] is a directory of queues (or a heap of them), [`SimpleQueue`] one queue of it. The store also keeps the
//! ledger of what was handled from queues of other kinds, and key-value stores, so that a write can be one transaction with a
//! deletion. The rules are in
//! `rules.rs`, once for both kinds of store; `docs/simple-queue.md` has the format and the commit protocol. This file only
//! carries questions to the store and waits for its answers.

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use self::{
    gate::SharedGate,
    keyvalue::SimpleKeyValue,
    ledger::SharedLedger,
    long::between_steps,
    memory::MemoryRows,
    open::Opened,
    operation::{
        CommitHandled, CountMessages, DeclareQueue, Declared, ExtendDeliveries, ListQueues, MeasureDisk, Operation,
        PurgeDeadSome, ReceiveMessages, RedriveSome, RelaneSome, SettleDeliveries, ShowDead,
    },
    row::QueueKey,
    rules::Core,
    settings::Settings,
    writer::Writer,
};
use super::{
    Counts, DeadLetter, Delivery, Effects, ExtendError, Queue, QueueError, Receipt, SendError, Settle, SettleError,
    Wanted,
};
use crate::{
    keyvalue::KeyValue,
    machine_clock::MachineClock,
    message::{MessageId, Outgoing, QueueName},
};

mod clock;
mod codec;
mod flights;
mod gate;
mod health;
mod keyvalue;
mod ledger;
mod long;
mod memory;
mod open;
mod operation;
mod place;
mod row;
mod rows;
mod rules;
mod schema;
pub mod settings;
mod sqlite;
mod witness;
mod writer;

pub use health::StoreHealth;
pub use ledger::{CommitError, HandledKey, LedgerSettings};
pub use open::{OpenError, StoreOptions};
pub use rows::DiskUse;

/// No receive waits for longer, whatever it is told.
const LONGEST_WAIT: Duration = Duration::from_hours(24);

/// All Simple queues of a host. Cheap to clone; the clones are the same store.
#[derive(Debug, Clone)]
pub struct SimpleStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    engine: Engine,
    ledger: SharedLedger,
    gate: SharedGate,
    destinations: RwLock<HashSet<QueueName>>,
}

/// Who applies the rules.
enum Engine {
    /// Whoever asks, at once: nothing in memory takes long enough to wait for.
    Ephemeral(Box<Mutex<Core<MemoryRows>>>),
    Durable(Writer),
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ephemeral(_) => "Ephemeral",
            Self::Durable(_) => "Durable",
        })
    }
}

impl SimpleStore {
    /// Opens the store in a directory, and makes it if it is not there. What was in flight when the last run ended is
    /// visible at once.
    ///
    /// Blocks on the disk: call it from `spawn_blocking`.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]; each says what an operator can do.
    pub fn open(options: &StoreOptions) -> Result<Self, OpenError> {
        let Opened { writer, gate } = open::open(options)?;
        let ledger = writer.ledger().clone();
        Ok(Self::with(Engine::Durable(writer), ledger, gate))
    }

    /// Gives the room back to the disk that messages took which are gone, in a store that nobody has open. Answers how many bytes
    /// the database had, and has.
    ///
    /// Blocks on the disk, for about as long as it takes to write what is left twice: call it from `spawn_blocking`.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]. In each case the store is as it was.
    pub fn compact(options: &StoreOptions) -> Result<(u64, u64), OpenError> {
        open::compact(options)
    }

    /// A store in memory. It is gone with its last clone.
    pub fn ephemeral() -> Self {
        Self::ephemeral_with(LedgerSettings::default())
    }

    /// As [`SimpleStore::ephemeral`], with other bounds for the ledger.
    pub fn ephemeral_with(ledger: LedgerSettings) -> Self {
        Self::ephemeral_on(ledger, MachineClock::default())
    }

    /// As [`SimpleStore::ephemeral_with`], with another clock than the machine's.
    pub fn ephemeral_on(ledger: LedgerSettings, clock: MachineClock) -> Self {
        let core = Core::new(MemoryRows::default(), false, ledger, clock);
        let (ledger, gate) = (core.ledger().clone(), core.shared_gate().clone());
        Self::with(Engine::Ephemeral(Box::new(Mutex::new(core))), ledger, gate)
    }

    fn with(engine: Engine, ledger: SharedLedger, gate: SharedGate) -> Self {
        Self {
            inner: Arc::new(Inner {
                engine,
                ledger,
                gate,
                destinations: RwLock::default(),
            }),
        }
    }

    /// Declares a queue, and its dead-letter queue, and returns it. Declaring it again replaces its settings for
    /// everybody.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have declared the queue; declare it again.
    pub async fn queue(&self, name: QueueName, settings: Settings) -> Result<Arc<SimpleQueue>, QueueError> {
        let visibility_timeout = settings.visibility_timeout;
        let declare = DeclareQueue {
            name: name.clone(),
            settings,
        };
        let Declared {
            key,
            notify,
            destinations,
        } = self.inner.ask(&name, declare).await?;
        self.inner
            .destinations
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(destinations);
        while self.inner.ask(&name, RelaneSome { queue: key }).await? {
            between_steps().await;
        }
        Ok(Arc::new(SimpleQueue {
            inner: Arc::clone(&self.inner),
            name,
            key,
            notify,
            visibility_timeout,
        }))
    }

    /// The names of all queues in the store: those declared, and those that an earlier run left.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn queue_names(&self) -> Result<Vec<QueueName>, QueueError> {
        self.inner.ask(&all_queues(), ListQueues).await
    }

    /// How much room the store takes on its disk; `None` for one in memory.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn disk_use(&self) -> Result<Option<DiskUse>, QueueError> {
        self.inner.ask(&all_queues(), MeasureDisk).await
    }

    /// Whether a message of a queue of another kind was handled, as far as the ledger remembers: `true` after
    /// [`SimpleStore::commit`] has answered, or [`SimpleStore::note_handled`] has returned, until the message is forgotten (see
    /// [`LedgerSettings`]). `false` may be wrong, as delivery at least once allows; `true` never is.
    ///
    /// Costs well below a microsecond, and never waits for the disk.
    pub fn was_handled(&self, key: &HandledKey) -> bool {
        self.inner.ledger.knows(key)
    }

    /// Notes that messages of queues of other kinds were handled, for which nothing has to be sent to Simple queues.
    ///
    /// [`SimpleStore::was_handled`] knows it at once. A durable store writes it to the disk, together with other such
    /// notes, within about half a second, sooner if there are thousands, and at the latest when it is closed. Nobody is told when
    /// that is done or can't be: notes may be lost in a crash, and of more than 65,536 that the disk did not take in
    /// time those beyond. Such a message is handled again if it is delivered again; use [`SimpleStore::commit`] where that is too
    /// much. After [`SimpleStore::close`] notes are in memory only.
    ///
    /// Costs well below a microsecond per message, and never waits for the disk.
    pub fn note_handled(&self, handled: impl IntoIterator<Item = HandledKey>) {
        if self.inner.ledger.note(handled)
            && let Engine::Durable(writer) = &self.inner.engine
        {
            writer.look();
        }
    }

    /// Notes that messages of queues of other kinds were handled, sends what was sent for them to Simple queues of this
    /// store, and writes what was written into its key-value stores, in one transaction: all of it happens, or nothing does.
    /// `Ok` means that it is as durable as the store gets.
    ///
    /// With effects, messages that had been handled before are not handled twice: if all of them had been, the answer is `Ok`
    /// and nothing is sent or written, because that happened then. Without effects, noting a message again is no error; it is
    /// remembered from now on. With a ledger that is off, this only sends and writes.
    ///
    /// # Errors
    ///
    /// See [`CommitError`]: in each case nothing was done. After `Incomplete`, [`SimpleStore::was_handled`] says which
    /// of the messages had been handled: these are to be deleted where they came from, the others to be tried again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have committed, as a whole; ask [`SimpleStore::was_handled`] later, or commit again.
    pub async fn commit(&self, handled: Vec<HandledKey>, effects: Effects) -> Result<(), CommitError> {
        let first = effects.sends.first();
        let queue = first.map_or_else(all_queues, |send| send.queue.clone());
        self.inner.ask(&queue, CommitHandled { handled, effects }).await?
    }

    /// Where the committed entries of a namespace of the key-value store are read. What is written comes with a commit or
    /// a settlement.
    pub fn keyvalue(&self, namespace: &str) -> Arc<dyn KeyValue> {
        Arc::new(SimpleKeyValue::new(Arc::clone(&self.inner), namespace))
    }

    /// Answers whoever asked before, writes what is noted, and closes the store; everybody who asks later is told so.
    /// Another store can be opened in the directory afterwards.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the store closing by itself.
    pub async fn close(self) {
        match &self.inner.engine {
            Engine::Durable(writer) => writer.close().await,
            Engine::Ephemeral(_) => {}
        }
    }
}

impl StoreHealth for SimpleStore {
    fn troubles(&self) -> Vec<String> {
        let failed = match &self.inner.engine {
            Engine::Durable(writer) => writer.failed(),
            Engine::Ephemeral(_) => None,
        };
        let failed = failed.map(|why| format!("the store has failed: {why}"));
        let held_back = self.inner.gate.held_back(Instant::now()).map(|held| {
            format!(
                "isolating: for {} s nothing else is handed out, so that a message that was in flight when the host ended is alone",
                held.as_secs()
            )
        });
        failed.into_iter().chain(held_back).collect()
    }
}

/// What errors name that concern no queue in particular.
fn all_queues() -> QueueName {
    QueueName::new("all").expect("a legal name")
}

impl Inner {
    async fn ask<O: Operation>(&self, queue: &QueueName, operation: O) -> Result<O::Answer, QueueError> {
        match &self.engine {
            Engine::Durable(writer) => writer.ask(queue, operation).await,
            Engine::Ephemeral(core) => {
                // A panic under this lock is a broken rule: whoever comes next must not go on as if nothing were.
                let mut core = core.lock().expect("no rule panics");
                let applied = operation.apply(&mut core, Instant::now());
                let answer = applied.and_then(|answer| core.write_handled().map(|()| answer));
                core.remember_handled();
                core.wake();
                answer.map_err(|fault| QueueError::Failed {
                    queue: queue.clone(),
                    cause: Arc::new(fault),
                })
            }
        }
    }
}

/// One Simple queue.
#[derive(Debug)]
pub struct SimpleQueue {
    inner: Arc<Inner>,
    name: QueueName,
    key: QueueKey,
    notify: Arc<Notify>,
    visibility_timeout: Duration,
}

impl SimpleQueue {
    async fn ask<O: Operation>(&self, operation: O) -> Result<O::Answer, QueueError> {
        self.inner.ask(&self.name, operation).await
    }

    /// Leaves the receive with the store until something comes.
    async fn receive_standing(
        &self,
        writer: &Writer,
        receive: ReceiveMessages,
        end: Instant,
    ) -> Result<Vec<Delivery>, QueueError> {
        loop {
            let received = writer.receive(&self.name, receive.clone(), end).await?;
            if !received.deliveries.is_empty() || end <= Instant::now() {
                return Ok(received.deliveries);
            }
            tokio::task::yield_now().await;
        }
    }

    /// Receives again whenever something may have come.
    async fn receive_again(&self, receive: ReceiveMessages, end: Instant) -> Result<Vec<Delivery>, QueueError> {
        let mut wake = std::pin::pin!(self.notify.notified());
        loop {
            // Registered before asking: what happens in between wakes this receive.
            wake.as_mut().enable();
            let received = self.ask(receive.clone()).await?;
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
        self.visibility_timeout
    }

    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, QueueError> {
        self.receive_wanted(&Wanted::new(max), wait).await
    }

    async fn receive_wanted(&self, wanted: &Wanted, wait: Duration) -> Result<Vec<Delivery>, QueueError> {
        let end = Instant::now() + wait.min(LONGEST_WAIT);
        let receive = ReceiveMessages {
            queue: self.key,
            wanted: wanted.clone(),
        };
        match &self.inner.engine {
            Engine::Durable(writer) => self.receive_standing(writer, receive, end).await,
            Engine::Ephemeral(_) => self.receive_again(receive, end).await,
        }
    }

    async fn extend(&self, receipts: Vec<Receipt>, by: Duration) -> Vec<Result<(), ExtendError>> {
        let count = receipts.len();
        match self
            .ask(ExtendDeliveries {
                queue: self.key,
                receipts,
                by,
            })
            .await
        {
            Ok(answers) => answers,
            Err(error) => vec![Err(error.into()); count],
        }
    }

    async fn settle(&self, settles: Vec<Settle>, effects: Effects) -> Vec<Result<(), SettleError>> {
        let count = settles.len();
        match self
            .ask(SettleDeliveries {
                queue: self.key,
                settles,
                effects,
            })
            .await
        {
            Ok(answers) => answers,
            Err(error) => vec![Err(error.into()); count],
        }
    }

    fn commits_sends_to(&self, destination: &QueueName) -> bool {
        self.inner
            .destinations
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(destination)
    }

    fn commits_writes(&self) -> bool {
        true
    }

    async fn send_many(&self, messages: Vec<Outgoing>) -> Vec<Result<MessageId, SendError>> {
        self.send_all(messages).await
    }

    async fn counts(&self) -> Result<Counts, QueueError> {
        self.ask(CountMessages { queue: self.key }).await
    }

    async fn purge(&self) -> Result<u64, QueueError> {
        self.purge_all().await
    }

    async fn dead_letters(&self, after: Option<MessageId>, limit: usize) -> Result<Vec<DeadLetter>, QueueError> {
        self.list_dead(after, limit).await
    }

    async fn dead_letter(&self, id: &MessageId) -> Result<Option<DeadLetter>, QueueError> {
        self.ask(ShowDead {
            queue: self.key,
            id: id.clone(),
        })
        .await
    }

    async fn redrive(&self, ids: Option<Vec<MessageId>>, limit: usize) -> Result<u64, QueueError> {
        let step = |which| RedriveSome { queue: self.key, which };
        match ids {
            Some(ids) => self.each_id(ids, step).await,
            None => self.each_step(limit, step).await,
        }
    }

    async fn purge_dead(&self) -> Result<u64, QueueError> {
        self.each_step(usize::MAX, |which| PurgeDeadSome { queue: self.key, which })
            .await
    }
}
