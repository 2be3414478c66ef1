//! A command on its way to the thread and its answer on its way back.
//!
//! Invariant: a delivery that reaches no receiver returns to its queue. The answer carries the receipts of what it hands out in
//! a [`ReplyGuard`]; one that is dropped unopened leaves them among the [`UndeliveredReceipts`], and the thread releases those with its next
//! transaction.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    super::{
        clock::StoreTime,
        operation::CommandKind,
        row::{FaultKind, QueueKey, StoreFault},
        rules::StoreRules,
    },
    Command,
};
use sandhog_queue::message::QueueName;
use sandhog_queue::{Cause, QueueError, Receipt};

/// A command and its way back.
pub(crate) trait PendingCommand: Send {
    /// Returns whether the caller still waits.
    fn is_awaited(&self) -> bool;
    /// Returns roughly how many bytes of bodies the command moves.
    fn weight(&self) -> usize;
    fn apply(&mut self, rules: &mut StoreRules) -> Result<(), StoreFault>;
    fn kind(&self) -> CommandKind;
    /// Returns how many bytes of bodies an applied command hands out.
    fn handed_out_bytes(&self) -> usize {
        0
    }
    /// Returns the queue for whose next change an applied command waits instead of being answered now. The thread then applies it
    /// again.
    fn parks_on(&mut self) -> Option<QueueKey> {
        None
    }
    /// Returns what a receive has shown that was applied and found nothing.
    fn found_nothing(&self) -> Option<EmptyReceive> {
        None
    }
    /// Returns whether a parked receive would find nothing either if it were applied now, and would stay parked.
    fn stays_parked(&self, _empty: &EmptyReceive) -> bool {
        false
    }
    /// Forgets that the command was applied: the transaction did not happen.
    fn undo(&mut self) {}
    /// Answers a command that was applied.
    fn answer(self: Box<Self>, undelivered: &Arc<UndeliveredReceipts>);
    fn fail(self: Box<Self>, failure: &TransactionFailure);
}

/// That no receive of a queue on the same terms finds anything.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EmptyReceive {
    pub(crate) queue: QueueKey,
    /// See [`super::super::receive_terms::ReceiveTerms`].
    pub(crate) outside: bool,
    /// When a message may become visible by itself.
    pub(crate) again: Instant,
}

/// Why a transaction did not happen. Every command in it is told the same.
#[derive(Debug, Clone)]
pub(crate) struct TransactionFailure {
    pub(crate) kind: FaultKind,
    pub(crate) cause: Cause,
}

impl TransactionFailure {
    /// Returns the error for a command that concerns `queue`.
    pub(crate) fn error_for(&self, queue: &QueueName) -> QueueError {
        let queue = queue.clone();
        let cause = Arc::clone(&self.cause);
        match self.kind {
            FaultKind::Passing => QueueError::Unavailable { queue, cause },
            FaultKind::Final => QueueError::Failed { queue, cause },
        }
    }
}

/// Any command but a receive that may park.
pub(crate) struct PendingOperation<F, A> {
    pub(crate) kind: CommandKind,
    pub(crate) weight: usize,
    /// `None` once it was applied.
    pub(crate) apply: Option<F>,
    pub(crate) answer: Option<A>,
    pub(crate) queue: QueueName,
    pub(crate) asked_at: Instant,
    pub(crate) reply: ReplySender<A>,
}

impl<F, A> PendingCommand for PendingOperation<F, A>
where
    F: FnOnce(&mut StoreRules, StoreTime) -> Result<A, StoreFault> + Send,
    A: Send,
{
    fn is_awaited(&self) -> bool {
        !self.reply.is_closed()
    }

    fn weight(&self) -> usize {
        self.weight
    }

    fn apply(&mut self, rules: &mut StoreRules) -> Result<(), StoreFault> {
        if let Some(apply) = self.apply.take() {
            let now = rules.tick(self.asked_at);
            self.answer = Some(apply(rules, now)?);
        }
        Ok(())
    }

    fn kind(&self) -> CommandKind {
        self.kind
    }

    fn answer(self: Box<Self>, undelivered: &Arc<UndeliveredReceipts>) {
        send_reply(self.reply, self.answer, Vec::new(), undelivered);
    }

    fn fail(self: Box<Self>, failure: &TransactionFailure) {
        drop(self.reply.send(Err(failure.error_for(&self.queue))));
    }
}

pub(crate) type ReplySender<A> = oneshot::Sender<Result<ReplyGuard<A>, QueueError>>;

/// Sends an answer. The receipts return to the queue if the answer reaches no receiver.
pub(crate) fn send_reply<A>(
    reply: ReplySender<A>,
    answer: Option<A>,
    receipts: Vec<Receipt>,
    undelivered: &Arc<UndeliveredReceipts>,
) {
    let undelivered = Arc::clone(undelivered);
    drop(reply.send(Ok(ReplyGuard {
        answer,
        receipts,
        undelivered,
    })));
}

/// An answer that was not accepted yet. Dropping it gives back the deliveries in it.
pub(crate) struct ReplyGuard<A> {
    answer: Option<A>,
    receipts: Vec<Receipt>,
    undelivered: Arc<UndeliveredReceipts>,
}

impl<A> ReplyGuard<A> {
    /// Returns the answer. From here on its receiver settles the deliveries in it.
    pub(crate) fn accept(mut self) -> Option<A> {
        self.receipts.clear();
        self.answer.take()
    }
}

impl<A> Drop for ReplyGuard<A> {
    fn drop(&mut self) {
        if !self.receipts.is_empty() {
            self.undelivered.add(&mut self.receipts);
        }
    }
}

/// Receipts of deliveries that their receiver never saw. Bounded by the number of messages in flight.
#[derive(Debug)]
pub(crate) struct UndeliveredReceipts {
    receipts: Mutex<Vec<Receipt>>,
    commands: mpsc::WeakSender<Command>,
}

impl UndeliveredReceipts {
    /// No receipts yet; `commands` leads to the thread that releases them.
    pub(crate) fn new(commands: mpsc::WeakSender<Command>) -> Self {
        Self {
            receipts: Mutex::default(),
            commands,
        }
    }

    fn add(&self, receipts: &mut Vec<Receipt>) {
        self.receipts.lock().append(receipts);
        // A full channel means that the thread is busy: it looks here before every transaction.
        if let Some(commands) = self.commands.upgrade()
            && let Err(error) = commands.try_send(Command::Wake)
        {
            tracing::trace!(%error, "the store's thread will look by itself");
        }
    }

    /// Takes all receipts, to release them.
    pub(crate) fn take(&self) -> Vec<Receipt> {
        std::mem::take(&mut *self.receipts.lock())
    }

    /// Puts receipts back whose release was rolled back.
    pub(crate) fn put_back(&self, receipts: Vec<Receipt>) {
        self.receipts.lock().extend(receipts);
    }
}
