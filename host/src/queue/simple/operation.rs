//! What a handle asks of the store: one type per question, so that both kinds of store answer the same ones.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{sync::Notify, time::Instant};

use super::{
    super::{Counts, DeadLetter, Effects, ExtendError, Receipt, ReceiveDemand, SendError, SettleError, SettleRequest},
    ledger::{CommitError, HandledKey},
    row::{Fault, QueueKey},
    rows::{DiskUse, Rows},
    rules::{Core, Received, Which},
    settings::Settings,
};
use crate::{
    keyvalue::{MAX_VALUE_BYTES, ReadError},
    message::{CheckedMessage, MessageId, QueueName},
};

/// What is known of an operation without looking into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Whoever sends is likely to send again as soon as he is answered.
    Send,
    /// Whoever receives, too.
    Receive,
    Other,
}

/// A question, and how the rules answer it.
pub(super) trait Operation: Send + 'static {
    type Answer: Send + 'static;

    const KIND: Kind = Kind::Other;

    fn apply<R: Rows>(self, core: &mut Core<R>, now: Instant) -> Result<Self::Answer, Fault>;

    /// Roughly how many bytes it writes.
    fn weight(&self) -> usize {
        0
    }

    /// What has to be taken back if nobody is there for the answer.
    fn to_take_back(_answer: &Self::Answer) -> Vec<Receipt> {
        Vec::new()
    }
}

/// Declares a queue.
pub(super) struct DeclareQueue {
    pub(super) name: QueueName,
    pub(super) settings: Settings,
}

/// A declared queue, and the names that one can send to now.
pub(super) struct Declared {
    pub(super) key: QueueKey,
    pub(super) notify: Arc<Notify>,
    pub(super) destinations: Vec<QueueName>,
}

impl Operation for DeclareQueue {
    type Answer = Declared;

    fn apply<R: Rows>(self, core: &mut Core<R>, _now: Instant) -> Result<Declared, Fault> {
        let (key, notify) = core.declare(&self.name, self.settings)?;
        Ok(Declared {
            key,
            notify,
            destinations: core.declared().cloned().collect(),
        })
    }
}

/// Lists the queues.
pub(super) struct ListQueues;

impl Operation for ListQueues {
    type Answer = Vec<QueueName>;

    fn apply<R: Rows>(self, core: &mut Core<R>, _now: Instant) -> Result<Vec<QueueName>, Fault> {
        Ok(core.names())
    }
}

/// Sends messages.
pub(super) struct SendMessages {
    pub(super) queue: QueueKey,
    pub(super) messages: Vec<CheckedMessage>,
}

impl Operation for SendMessages {
    type Answer = Vec<Result<MessageId, SendError>>;

    const KIND: Kind = Kind::Send;

    fn apply<R: Rows>(self, core: &mut Core<R>, now: Instant) -> Result<Self::Answer, Fault> {
        let now = core.tick(now);
        self.messages
            .into_iter()
            .map(|message| core.send(self.queue, message, now))
            .collect()
    }

    fn weight(&self) -> usize {
        self.messages.iter().map(|message| message.size()).sum()
    }
}

/// Receives messages, without waiting.
#[derive(Clone)]
pub(super) struct ReceiveMessages {
    pub(super) queue: QueueKey,
    pub(super) wanted: ReceiveDemand,
}

impl Operation for ReceiveMessages {
    type Answer = Received;

    const KIND: Kind = Kind::Receive;

    fn apply<R: Rows>(self, core: &mut Core<R>, now: Instant) -> Result<Received, Fault> {
        let now = core.tick(now);
        let max = self.wanted.close();
        let received = core.receive(self.queue, max, now)?;
        if received.deliveries.is_empty() {
            self.wanted.open_again();
        }
        Ok(received)
    }

    fn weight(&self) -> usize {
        // What it will hand out is not known yet; a middling body stands for each.
        const EXPECTED_BYTES: usize = 16 * 1024;
        self.wanted.now().saturating_mul(EXPECTED_BYTES)
    }

    fn to_take_back(answer: &Received) -> Vec<Receipt> {
        answer
            .deliveries
            .iter()
            .map(|delivery| delivery.receipt.clone())
            .collect()
    }
}

/// Extends deliveries.
pub(super) struct ExtendDeliveries {
    pub(super) queue: QueueKey,
    pub(super) receipts: Vec<Receipt>,
    pub(super) by: Duration,
}

impl Operation for ExtendDeliveries {
    type Answer = Vec<Result<Instant, ExtendError>>;

    fn apply<R: Rows>(self, core: &mut Core<R>, now: Instant) -> Result<Self::Answer, Fault> {
        let now = core.tick(now);
        Ok(core.extend(self.queue, &self.receipts, self.by, now))
    }
}

/// Settles deliveries.
pub(super) struct SettleDeliveries {
    pub(super) queue: QueueKey,
    pub(super) settles: Vec<SettleRequest>,
    pub(super) effects: Effects,
}

impl Operation for SettleDeliveries {
    type Answer = Vec<Result<(), SettleError>>;

    fn apply<R: Rows>(self, core: &mut Core<R>, now: Instant) -> Result<Self::Answer, Fault> {
        let now = core.tick(now);
        core.settle(self.queue, self.settles, self.effects, now)
    }

    fn weight(&self) -> usize {
        self.effects.size()
    }
}

/// Notes messages of other kinds of queue as handled, sends and writes.
pub(super) struct CommitHandled {
    pub(super) handled: Vec<HandledKey>,
    pub(super) effects: Effects,
}

impl Operation for CommitHandled {
    type Answer = Result<(), CommitError>;

    fn apply<R: Rows>(self, core: &mut Core<R>, now: Instant) -> Result<Self::Answer, Fault> {
        let now = core.tick(now);
        core.commit_handled(self.handled, self.effects, now)
    }

    fn weight(&self) -> usize {
        self.effects.size() + self.handled.len() * HandledKey::LEN
    }
}

/// Reads values.
pub(super) struct ReadValues {
    pub(super) namespace: Arc<str>,
    pub(super) bucket: String,
    pub(super) keys: Vec<Arc<str>>,
    pub(super) max_bytes: usize,
}

impl Operation for ReadValues {
    type Answer = Result<Vec<Option<Bytes>>, ReadError>;

    fn apply<R: Rows>(self, core: &mut Core<R>, _now: Instant) -> Result<Self::Answer, Fault> {
        core.read_values(&self.namespace, &self.bucket, &self.keys, self.max_bytes)
    }

    fn weight(&self) -> usize {
        // What it will read is not known yet, but what it can be at most.
        self.keys.len().saturating_mul(MAX_VALUE_BYTES).min(self.max_bytes)
    }
}

/// Reads keys.
pub(super) struct ReadKeys {
    pub(super) namespace: Arc<str>,
    pub(super) bucket: String,
    pub(super) after: Option<Arc<str>>,
    pub(super) limit: usize,
}

impl Operation for ReadKeys {
    type Answer = Vec<Arc<str>>;

    fn apply<R: Rows>(self, core: &mut Core<R>, _now: Instant) -> Result<Vec<Arc<str>>, Fault> {
        core.read_keys(&self.namespace, &self.bucket, self.after.as_deref(), self.limit)
    }
}

/// Counts messages.
pub(super) struct CountMessages {
    pub(super) queue: QueueKey,
}

impl Operation for CountMessages {
    type Answer = Counts;

    fn apply<R: Rows>(self, core: &mut Core<R>, now: Instant) -> Result<Counts, Fault> {
        let now = core.tick(now);
        core.counts(self.queue, now)
    }
}

/// Asks how much room the store takes on its disk.
pub(super) struct MeasureDisk;

impl Operation for MeasureDisk {
    type Answer = Option<DiskUse>;

    fn apply<R: Rows>(self, core: &mut Core<R>, _now: Instant) -> Result<Option<DiskUse>, Fault> {
        core.rows.disk_use()
    }
}

/// Asks for the highest place given out so far.
pub(super) struct LastSeq;

impl Operation for LastSeq {
    type Answer = u64;

    fn apply<R: Rows>(self, core: &mut Core<R>, _now: Instant) -> Result<u64, Fault> {
        Ok(core.last_seq())
    }
}

/// Deletes some of a queue's messages up to `last`.
pub(super) struct PurgeSome {
    pub(super) queue: QueueKey,
    pub(super) last: u64,
    pub(super) limit: usize,
}

impl Operation for PurgeSome {
    type Answer = u64;

    fn apply<R: Rows>(self, core: &mut Core<R>, _now: Instant) -> Result<u64, Fault> {
        core.purge(self.queue, self.last, self.limit)
    }
}

/// Derives some lanes of a queue anew that was declared with another order. Answers whether there is more to do.
pub(super) struct RelaneSome {
    pub(super) queue: QueueKey,
}

impl Operation for RelaneSome {
    type Answer = bool;

    fn apply<R: Rows>(self, core: &mut Core<R>, _now: Instant) -> Result<bool, Fault> {
        core.relane_some(self.queue)
    }
}

/// Asks for the place of a dead letter.
pub(super) struct PlaceOfDead {
    pub(super) queue: QueueKey,
    pub(super) id: MessageId,
}

impl Operation for PlaceOfDead {
    type Answer = Option<u64>;

    fn apply<R: Rows>(self, core: &mut Core<R>, _now: Instant) -> Result<Option<u64>, Fault> {
        core.place_of_dead(self.queue, &self.id)
    }
}

/// Reads some dead letters behind a place. Answers where to go on as well, if there may be more.
pub(super) struct ListDead {
    pub(super) queue: QueueKey,
    pub(super) after: u64,
    pub(super) limit: usize,
}

impl Operation for ListDead {
    type Answer = (Vec<DeadLetter>, Option<u64>);

    fn apply<R: Rows>(self, core: &mut Core<R>, _now: Instant) -> Result<Self::Answer, Fault> {
        core.dead_letters(self.queue, self.after, self.limit)
    }
}

/// Reads one dead letter.
pub(super) struct ShowDead {
    pub(super) queue: QueueKey,
    pub(super) id: MessageId,
}

impl Operation for ShowDead {
    type Answer = Option<DeadLetter>;

    fn apply<R: Rows>(self, core: &mut Core<R>, _now: Instant) -> Result<Option<DeadLetter>, Fault> {
        core.dead_letter(self.queue, &self.id)
    }
}

/// Puts some dead letters back. Answers how many, and where to go on if there may be more.
pub(super) struct RedriveSome {
    pub(super) queue: QueueKey,
    pub(super) which: Which,
}

impl Operation for RedriveSome {
    type Answer = (u64, Option<u64>);

    fn apply<R: Rows>(self, core: &mut Core<R>, now: Instant) -> Result<Self::Answer, Fault> {
        let now = core.tick(now);
        core.redrive(self.queue, &self.which, now)
    }
}

/// Deletes some dead letters. Answers as [`RedriveSome`] does.
pub(super) struct PurgeDeadSome {
    pub(super) queue: QueueKey,
    pub(super) which: Which,
}

impl Operation for PurgeDeadSome {
    type Answer = (u64, Option<u64>);

    fn apply<R: Rows>(self, core: &mut Core<R>, _now: Instant) -> Result<Self::Answer, Fault> {
        core.purge_dead(self.queue, &self.which)
    }
}
