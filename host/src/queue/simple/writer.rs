//! The one thread that reads and writes the durable store, and commits for everybody who waits.
//!
//! Commands wait in a bounded channel; the thread takes what is there, applies it in one transaction, commits once, and
//! only then answers. Invariant: nobody hears of a change that is not on the disk. Notes of handled messages, for which nobody
//! waits, it writes in transactions of their own. After a failure that leaves the
//! disk's state unknown the thread answers everything with that failure and touches the disk no more.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant as Moment},
};

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use self::{
    gather::Gathering,
    standing::{Applied, Standing},
    wait::Next,
};
use super::{
    super::{Cause, QueueError, Receipt},
    clock::Now,
    ledger::{LATE, MANY, SharedLedger},
    operation::{Kind, Operation},
    row::{Fault, FaultKind, QueueKey},
    rules::Core,
    sqlite::SqliteRows,
    witness::Witness,
};
use crate::message::QueueName;

mod gather;
mod standing;
mod wait;

/// How many commands may wait for the thread, and how many one transaction takes.
const WAITING: usize = 1024;
const BATCH: usize = 512;
/// A transaction takes no further command once it writes so many bytes.
const BATCH_BYTES: usize = 8 * 1024 * 1024;
/// How long the time is not noted on its own once it could not be.
const REFUSED: Duration = Duration::from_mins(1);

/// Why the durable store refuses everything.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreFailed {
    /// A read, a write or a sync failed.
    #[error(
        "the queue store in {} failed: check its disk for errors and free space, then restart the host; \
         everything acknowledged is kept",
        directory.display()
    )]
    Disk {
        /// The data directory.
        directory: PathBuf,
        /// What failed.
        #[source]
        source: Cause,
    },
    /// Somebody closed it.
    #[error("the queue store in {} is closed", directory.display())]
    Closed {
        /// The data directory.
        directory: PathBuf,
    },
}

/// What the thread works on.
#[derive(Debug)]
pub(super) struct Estate {
    pub(super) core: Core<SqliteRows>,
    pub(super) witness: Witness,
    pub(super) directory: PathBuf,
    /// Held, and so locked, for as long as the thread lives.
    pub(super) lock: File,
}

/// The handles' end.
#[derive(Debug)]
pub(super) struct Writer {
    commands: mpsc::Sender<Command>,
    ledger: SharedLedger,
    directory: PathBuf,
    failed: Arc<OnceLock<String>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

enum Command {
    Apply(Box<dyn Job>),
    /// Something lies among the returned deliveries, or among the notes.
    Look,
    Close,
}

/// Deliveries that their receiver never saw. Bounded by what is in flight.
#[derive(Debug)]
pub(super) struct Returned {
    receipts: Mutex<Vec<Receipt>>,
    commands: mpsc::WeakSender<Command>,
}

impl Returned {
    fn put(&self, receipts: &mut Vec<Receipt>) {
        self.receipts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .append(receipts);
        // A full channel means that the thread is busy: it looks here before every transaction.
        if let Some(commands) = self.commands.upgrade()
            && let Err(error) = commands.try_send(Command::Look)
        {
            tracing::trace!(%error, "the store's thread will look by itself");
        }
    }

    fn take(&self) -> Vec<Receipt> {
        std::mem::take(&mut *self.receipts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// An answer on its way. What it hands out returns to the queue if nobody takes it.
struct Parcel<A> {
    answer: Option<A>,
    receipts: Vec<Receipt>,
    returned: Arc<Returned>,
}

impl<A> Parcel<A> {
    fn open(mut self) -> Option<A> {
        self.receipts.clear();
        self.answer.take()
    }
}

impl<A> Drop for Parcel<A> {
    fn drop(&mut self) {
        if !self.receipts.is_empty() {
            self.returned.put(&mut self.receipts);
        }
    }
}

/// A command and its way back.
trait Job: Send {
    /// Whether the caller still waits.
    fn is_awaited(&self) -> bool;
    fn weight(&self) -> usize;
    fn apply(&mut self, core: &mut Core) -> Result<(), Fault>;
    fn kind(&self) -> Kind;
    /// How many bytes of bodies it hands out, once it is applied.
    fn handed_out(&self) -> usize {
        0
    }
    /// The queue for whose next change it would rather wait, once it is applied, than be answered now. It is applied again then.
    fn stands(&mut self) -> Option<QueueKey> {
        None
    }
    /// Forgets that it was applied: the transaction did not happen.
    fn undo(&mut self) {}
    /// Answers what was applied.
    fn answer(self: Box<Self>, returned: &Arc<Returned>);
    fn fail(self: Box<Self>, failure: &Failure);
}

/// What to tell everybody of a transaction that did not happen.
#[derive(Debug, Clone)]
struct Failure {
    kind: FaultKind,
    cause: Cause,
}

impl Failure {
    fn of(&self, queue: &QueueName) -> QueueError {
        let (queue, cause) = (queue.clone(), Arc::clone(&self.cause));
        match self.kind {
            FaultKind::Passing => QueueError::Unavailable { queue, cause },
            FaultKind::Final => QueueError::Failed { queue, cause },
        }
    }
}

/// Any operation but a receive.
struct Task<F, A> {
    kind: Kind,
    weight: usize,
    apply: Option<F>,
    answer: Option<A>,
    queue: QueueName,
    now: Instant,
    reply: Reply<A>,
}

impl<F, A> Job for Task<F, A>
where
    F: FnOnce(&mut Core, Now) -> Result<A, Fault> + Send,
    A: Send,
{
    fn is_awaited(&self) -> bool {
        !self.reply.is_closed()
    }

    fn weight(&self) -> usize {
        self.weight
    }

    fn apply(&mut self, core: &mut Core) -> Result<(), Fault> {
        if let Some(apply) = self.apply.take() {
            let now = core.tick(self.now);
            self.answer = Some(apply(core, now)?);
        }
        Ok(())
    }

    fn kind(&self) -> Kind {
        self.kind
    }

    fn answer(self: Box<Self>, returned: &Arc<Returned>) {
        answer(self.reply, self.answer, Vec::new(), returned);
    }

    fn fail(self: Box<Self>, failure: &Failure) {
        drop(self.reply.send(Err(failure.of(&self.queue))));
    }
}

type Reply<A> = oneshot::Sender<Result<Parcel<A>, QueueError>>;

/// Sends an answer. The receipts return to the queue if nobody takes it.
fn answer<A>(reply: Reply<A>, answer: Option<A>, receipts: Vec<Receipt>, returned: &Arc<Returned>) {
    let returned = Arc::clone(returned);
    drop(reply.send(Ok(Parcel {
        answer,
        receipts,
        returned,
    })));
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(estate: Estate) -> std::io::Result<Self> {
        let (commands, waiting) = mpsc::channel(WAITING);
        let returned = Arc::new(Returned {
            receipts: Mutex::default(),
            commands: commands.downgrade(),
        });
        let (directory, ledger) = (estate.directory.clone(), estate.core.ledger().clone());
        let failed = Arc::new(OnceLock::new());
        let mut clerk = Clerk {
            failed: Arc::clone(&failed),
            ledger: ledger.clone(),
            estate,
            returned,
            gathering: Gathering::default(),
            standing: Standing::default(),
            closing: false,
            failure: None,
            write_notes_at: None,
            notes_refused: false,
            write_time_after: None,
        };
        let thread = std::thread::Builder::new()
            .name("queue-store".into())
            .spawn(move || clerk.work(waiting))?;
        Ok(Self {
            commands,
            ledger,
            directory,
            failed,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Asks the thread, and waits for the answer.
    pub(super) async fn ask<F, A>(&self, queue: &QueueName, operation: Operation<F>) -> Result<A, QueueError>
    where
        F: FnOnce(&mut Core, Now) -> Result<A, Fault> + Send + 'static,
        A: Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let now = Instant::now();
        let task = Task {
            kind: operation.kind,
            weight: operation.weight,
            apply: Some(operation.apply),
            answer: None,
            queue: queue.clone(),
            now,
            reply,
        };
        self.command(queue, Box::new(task)).await?;
        let parcel = answer.await.map_err(|_closed| self.closed(queue))??;
        parcel.open().ok_or_else(|| self.closed(queue))
    }

    async fn command(&self, queue: &QueueName, job: Box<dyn Job>) -> Result<(), QueueError> {
        let sent = self.commands.send(Command::Apply(job)).await;
        sent.map_err(|_closed| self.closed(queue))
    }

    /// The ledger, for questions that need not wait for the thread.
    pub(super) fn ledger(&self) -> &SharedLedger {
        &self.ledger
    }

    /// Why it refuses everything, if it does.
    pub(super) fn failed(&self) -> Option<&str> {
        self.failed.get().map(String::as_str)
    }

    /// Tells the thread that there are notes to write.
    pub(super) fn look(&self) {
        // A full channel means that the thread is busy: it looks for notes before it waits again.
        if let Err(error) = self.commands.try_send(Command::Look) {
            tracing::trace!(%error, "the store's thread will look by itself, or is no more");
        }
    }

    /// Ends the thread once everything before this is done.
    pub(super) async fn close(&self) {
        drop(self.commands.send(Command::Close).await);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("the queue store's thread panicked");
            }
        }
    }

    fn closed(&self, queue: &QueueName) -> QueueError {
        let cause = StoreFailed::Closed {
            directory: self.directory.clone(),
        };
        QueueError::Failed {
            queue: queue.clone(),
            cause: Arc::new(cause),
        }
    }
}

/// The thread.
struct Clerk {
    estate: Estate,
    ledger: SharedLedger,
    returned: Arc<Returned>,
    gathering: Gathering,
    standing: Standing,
    /// Whether nobody can settle any more what is handed out.
    closing: bool,
    /// Why nothing is done any more.
    failure: Option<Failure>,
    /// The same for those who only look.
    failed: Arc<OnceLock<String>>,
    /// When the notes that are in memory only are written at the latest.
    write_notes_at: Option<Moment>,
    /// Whether the notes could not be written the last time.
    notes_refused: bool,
    /// Before when the time is not noted on its own, because it could not be the last time.
    write_time_after: Option<Moment>,
}

impl Clerk {
    fn work(&mut self, mut waiting: mpsc::Receiver<Command>) {
        let mut open = true;
        while open {
            let notes_due = self.notes_due();
            if notes_due.is_some_and(|due| due <= Moment::now()) {
                self.write_notes();
                continue;
            }
            let first = self.gathering.first(&mut waiting).map(Next::Command);
            match first.unwrap_or_else(|| wait::next(&mut waiting, notes_due)) {
                Next::Command(command) => {
                    let gathered = self.gathering.gather(command, &mut waiting);
                    open = !gathered.last;
                    self.closing = gathered.last;
                    self.serve(gathered.jobs, &waiting);
                    while self.standing.is_woken() {
                        self.serve(Vec::new(), &waiting);
                    }
                }
                Next::Moment => {}
                Next::End => open = false,
            }
        }
        // Whoever asked before the store was closed is answered too, but for messages, which could not be settled any more.
        while let Some(command) = waiting.blocking_recv() {
            if let Command::Apply(job) = command
                && job.kind() != Kind::Receive
            {
                self.serve(vec![job], &waiting);
            }
        }
        self.serve(Vec::new(), &waiting);
        self.write_notes();
        self.write_time();
        if self.failure.is_none() {
            self.estate.core.rows.checkpoint();
        }
        if let Err(error) = self.estate.lock.unlock() {
            tracing::debug!(%error, "the lock ends with the process");
        }
    }

    /// One transaction of what was asked, while others may be `waiting` already.
    fn serve(&mut self, mut batch: Vec<Box<dyn Job>>, waiting: &mpsc::Receiver<Command>) {
        if let Some(failure) = &self.failure {
            for job in batch {
                job.fail(failure);
            }
            return;
        }
        batch.retain(|job| job.is_awaited());
        let (returned, mut standing) = (self.returned.take(), std::mem::take(&mut self.standing));
        standing.forget_given_up();
        if self.closing {
            // Whoever waits for a message learns that none will come: what it got now it could not settle.
            standing = Standing::default();
        }
        if batch.is_empty() && returned.is_empty() && !standing.is_woken() {
            self.standing = standing;
            return;
        }
        // They all came at one time, so a receive finds what the others send; and those that stand came first.
        batch.sort_by_key(|job| job.kind() == Kind::Receive);
        let mut asking = batch.split_off(batch.partition_point(|job| job.kind() != Kind::Receive));
        let mut applied = Applied::default();
        let started = Moment::now();
        let done = self.transact(|core| {
            if !returned.is_empty() {
                core.take_back(&returned)?;
            }
            for job in &mut batch {
                job.apply(core)?;
            }
            standing.apply(core, &mut applied)?;
            for job in &mut asking {
                job.apply(core)?;
            }
            core.write_handled()?;
            core.keep_time()
        });
        batch.append(&mut asking);
        self.standing = standing;
        match done {
            Ok(()) => {
                batch.extend(applied.into_jobs());
                let likely_to_ask = self.answer(batch);
                self.standing.wake(self.estate.core.rules());
                self.gathering
                    .committed(started.elapsed(), waiting.len() + likely_to_ask);
                self.write_stale_time();
            }
            Err(fault) => {
                self.returned
                    .receipts
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .extend(returned);
                let failure = self.take_back(fault);
                for job in batch {
                    job.fail(&failure);
                }
                self.standing.undo(applied, &failure);
            }
        }
    }

    /// Answers what was committed, save for what goes on standing. Answers how many are likely to ask again at once.
    fn answer(&mut self, batch: Vec<Box<dyn Job>>) -> usize {
        let mut likely_to_ask = 0;
        for mut job in batch {
            if let Some(queue) = job.stands().filter(|_| !self.closing) {
                self.standing.add(queue, job);
                continue;
            }
            likely_to_ask += usize::from(job.kind() != Kind::Other);
            job.answer(&self.returned);
        }
        likely_to_ask
    }

    /// When the notes have to be written that are in memory only, if there are any. Their writer's patience is in real time,
    /// whatever the clock of the store does.
    fn notes_due(&mut self) -> Option<Moment> {
        let unwritten = self.ledger.lock().unwritten();
        if unwritten == 0 || self.failure.is_some() {
            self.write_notes_at = None;
            return None;
        }
        let due = *self.write_notes_at.get_or_insert_with(|| Moment::now() + LATE);
        // Where there was no room a moment ago there is none yet.
        let at_once = unwritten >= MANY && !self.notes_refused;
        Some(if at_once { due.min(Moment::now()) } else { due })
    }

    /// One transaction of notes. Apart from what was asked, so that nobody is refused because there is no room for notes.
    fn write_notes(&mut self) {
        self.write_notes_at = None;
        if self.failure.is_some() || self.ledger.lock().unwritten() == 0 {
            return;
        }
        let Err(fault) = self.transact(<Core>::write_notes) else {
            self.notes_refused = false;
            return;
        };
        let failure = self.take_back(fault);
        if failure.kind == FaultKind::Passing && !self.notes_refused {
            let cause = &failure.cause;
            tracing::warn!(%cause, "handled messages can't be noted on the disk for now: after a crash they may be handled again");
        }
        self.notes_refused = true;
    }

    /// The same now and then while nothing else is written. Apart from what was asked, so that nobody is refused because there is no
    /// room for it.
    fn write_stale_time(&mut self) {
        if self.write_time_after.is_none_or(|after| after <= Moment::now()) && self.estate.core.rules().is_time_stale()
        {
            self.write_time();
        }
    }

    /// One transaction for the time, so that the next run knows when this one was seen last.
    fn write_time(&mut self) {
        if self.failure.is_some() || !self.estate.core.rules().waits_for_time() {
            return;
        }
        if let Err(fault) = self.transact(<Core>::write_time) {
            let cause = self.take_back(fault).cause;
            tracing::debug!(%cause, "the store's time could not be noted");
            self.write_time_after = Some(Moment::now() + REFUSED);
        }
    }

    fn transact(&mut self, work: impl FnOnce(&mut Core) -> Result<(), Fault>) -> Result<(), Fault> {
        let core = &mut self.estate.core;
        core.rules().begin();
        core.rows.begin()?;
        work(core)?;
        if let Some(commits) = core.rows.commit()? {
            self.estate.witness.note(commits);
        }
        core.rules().remember_handled();
        Ok(())
    }

    /// Undoes a transaction that failed, and decides whether the store can go on.
    fn take_back(&mut self, fault: Fault) -> Failure {
        let rolled_back = self.estate.core.rows.roll_back();
        self.estate.core.rules().undo();
        let kind = if rolled_back.is_ok() {
            fault.kind
        } else {
            FaultKind::Final
        };
        if kind == FaultKind::Passing {
            return Failure {
                kind,
                cause: fault.cause,
            };
        }
        let failure = Failure {
            kind,
            cause: failed(&self.estate.directory, fault.cause),
        };
        tracing::error!(
            directory = %self.estate.directory.display(), cause = %failure.cause,
            "the queue store failed: it refuses everything until the host is restarted"
        );
        self.failed.get_or_init(|| failure.cause.to_string());
        self.failure = Some(failure.clone());
        failure
    }
}

fn failed(directory: &Path, source: Cause) -> Cause {
    Arc::new(StoreFailed::Disk {
        directory: directory.to_owned(),
        source,
    })
}
