//! The in-flight table: which messages are in flight, under which receipt, and until when. In memory only.
//!
//! The store belongs to one process, so a visibility deadline need not outlive that process: after a restart every message that
//! was in flight is visible at once. An extension therefore costs no disk I/O.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap, VecDeque},
};

use tokio::time::Instant;

use super::row::{GroupName, MessageMeta, MessageState, QueueKey};
use sandhog_queue::Receipt;

/// One delivery that is not settled.
#[derive(Debug, Clone)]
pub(crate) struct InFlightDelivery {
    pub(crate) meta: MessageMeta,
    /// The number in its receipt, which tells this delivery from others of the same message.
    pub(crate) number: u64,
    /// When it was handed out.
    pub(crate) received: Instant,
    pub(crate) deadline: Instant,
    /// Set once a suspect has lasted for so long that it is none any more.
    pub(crate) is_cleared: bool,
}

/// A delivery whose visibility timeout ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LapsedDelivery {
    pub(crate) seq: u64,
    number: u64,
    received: Instant,
}

/// The place of a message among those of its group: highest priority first, then lowest `seq`.
type PlaceInGroup = (Reverse<u8>, u64);

/// The number of lapsed deliveries that are remembered; beyond it the oldest are forgotten. As many as a standard queue of SQS has
/// in flight.
const MAX_LAPSED: usize = 120_000;

/// All deliveries that are not settled, by the message's `seq`.
#[derive(Debug)]
pub(crate) struct InFlightTable {
    by_seq: HashMap<u64, InFlightDelivery>,
    by_deadline: HashMap<QueueKey, BTreeSet<(Instant, u64)>>,
    /// Those in flight behind the head of their group, in the order of the group.
    behind: HashMap<(QueueKey, GroupName), BTreeSet<PlaceInGroup>>,
    last_number: u64,
    /// The last delivery of each message whose visibility timeout ran out, by the message's `seq`, and in the order of the ends. They
    /// are hints that outlive a transaction that is undone: whoever uses one looks at the message first.
    lapsed: HashMap<u64, LapsedDelivery>,
    lapses: VecDeque<LapsedDelivery>,
    /// The number of deliveries in the table that are cleared.
    cleared: usize,
    /// Each entry as it was before the transaction under way changed it, newest last. `None` if transactions are never undone.
    journal: Option<Vec<(u64, Option<InFlightDelivery>)>>,
}

impl InFlightTable {
    /// An empty table. With a journal, [`InFlightTable::undo`] works.
    pub(crate) fn new(journaled: bool) -> Self {
        Self {
            by_seq: HashMap::new(),
            by_deadline: HashMap::new(),
            behind: HashMap::new(),
            // Random, so that a receipt of an earlier run never fits a delivery of this one.
            last_number: u64::from(rand::random::<u32>()) << 31,
            lapsed: HashMap::new(),
            lapses: VecDeque::new(),
            cleared: 0,
            journal: journaled.then(Vec::new),
        }
    }

    /// Notes the start of a transaction.
    pub(crate) fn begin(&mut self) {
        if let Some(journal) = &mut self.journal {
            journal.clear();
        }
    }

    /// Undoes every change since [`InFlightTable::begin`].
    pub(crate) fn undo(&mut self) {
        let Some(journal) = &mut self.journal else { return };
        for (seq, before) in std::mem::take(journal).into_iter().rev() {
            self.replace(seq, before);
        }
    }

    /// Returns whether no delivery is in flight that may take the host down, as far as is known.
    pub(crate) fn is_quiet(&self) -> bool {
        self.by_seq.len() == self.cleared
    }

    pub(crate) fn get(&self, seq: u64) -> Option<&InFlightDelivery> {
        self.by_seq.get(&seq)
    }

    /// Returns the delivery of a receipt, if the receipt is still valid.
    pub(crate) fn valid(&self, receipt: &Receipt, now: Instant) -> Option<&InFlightDelivery> {
        let (seq, number) = receipt.as_numbered()?;
        self.by_seq
            .get(&seq)
            .filter(|delivery| delivery.number == number && delivery.deadline > now)
    }

    /// Inserts a delivery that is handed out at `received`, and makes its receipt.
    pub(crate) fn insert(&mut self, meta: MessageMeta, received: Instant, deadline: Instant) -> Receipt {
        self.last_number += 1;
        let seq = meta.seq;
        let number = self.last_number;
        self.hand_out(number, meta, received, deadline);
        Receipt::numbered(seq, number)
    }

    fn hand_out(&mut self, number: u64, meta: MessageMeta, received: Instant, deadline: Instant) {
        let seq = meta.seq;
        // Mostly there are none, and to look for one costs a hash.
        if !self.lapsed.is_empty() {
            self.lapsed.remove(&seq);
        }
        // What runs outside of the host can't take it down.
        let is_cleared = meta.is_outside();
        let delivery = InFlightDelivery {
            meta,
            number,
            received,
            deadline,
            is_cleared,
        };
        self.write(seq, Some(delivery));
    }

    /// Remembers a delivery whose visibility timeout ran out, unless its message is in a group: no receipt of such a message counts
    /// late.
    pub(crate) fn note_lapse(&mut self, delivery: &InFlightDelivery) {
        if delivery.meta.group.is_some() {
            return;
        }
        let lapse = LapsedDelivery {
            seq: delivery.meta.seq,
            number: delivery.number,
            received: delivery.received,
        };
        self.lapsed.insert(lapse.seq, lapse);
        self.lapses.push_back(lapse);
        if self.lapses.len() > MAX_LAPSED
            && let Some(oldest) = self.lapses.pop_front()
            && self.lapsed.get(&oldest.seq) == Some(&oldest)
        {
            self.lapsed.remove(&oldest.seq);
        }
    }

    /// Returns the delivery of a receipt whose visibility timeout has run out, and that is still in the table.
    pub(crate) fn overdue(&self, receipt: &Receipt, now: Instant) -> Option<&InFlightDelivery> {
        let (seq, number) = receipt.as_numbered()?;
        self.by_seq
            .get(&seq)
            .filter(|delivery| delivery.number == number && delivery.deadline <= now)
    }

    /// Returns the delivery of a receipt whose visibility timeout ran out, as far as it is remembered and the message was not received
    /// again.
    pub(crate) fn lapsed(&self, receipt: &Receipt) -> Option<LapsedDelivery> {
        let (seq, number) = receipt.as_numbered()?;
        self.lapsed.get(&seq).filter(|lapsed| lapsed.number == number).copied()
    }

    /// Takes a lapsed delivery back.
    pub(crate) fn revive(&mut self, lapsed: LapsedDelivery, meta: MessageMeta, deadline: Instant) {
        self.hand_out(lapsed.number, meta, lapsed.received, deadline);
    }

    pub(crate) fn extend(&mut self, seq: u64, deadline: Instant) {
        if let Some(delivery) = self.by_seq.get(&seq) {
            let extended = InFlightDelivery {
                deadline,
                ..delivery.clone()
            };
            self.write(seq, Some(extended));
        }
    }

    /// Notes that the message of a delivery is no suspect any more.
    pub(crate) fn clear(&mut self, delivery: InFlightDelivery) {
        let cleared = InFlightDelivery {
            is_cleared: true,
            ..delivery
        };
        self.write(cleared.meta.seq, Some(cleared));
    }

    /// Notes that a message in flight leads its group from now on.
    pub(crate) fn lead(&mut self, seq: u64) {
        if let Some(mut delivery) = self.by_seq.get(&seq).cloned() {
            delivery.meta.state = MessageState::InFlight;
            self.write(seq, Some(delivery));
        }
    }

    pub(crate) fn remove(&mut self, seq: u64) {
        self.write(seq, None);
    }

    /// Returns the queues that have messages in flight.
    pub(crate) fn queues(&self) -> Vec<QueueKey> {
        self.by_deadline
            .iter()
            .filter(|(_, deadlines)| !deadlines.is_empty())
            .map(|(key, _)| *key)
            .collect()
    }

    /// Returns the messages of `queue` that are in flight, those whose visibility ends first before the others.
    pub(crate) fn of(&self, queue: QueueKey) -> Vec<u64> {
        let deadlines = self.by_deadline.get(&queue).into_iter().flatten();
        deadlines.map(|(_, seq)| *seq).collect()
    }

    /// Takes the messages of `queue` out of their groups, which are derived anew: each joins a group when it comes back. Returns those
    /// that were behind the head of their group, as they were.
    pub(crate) fn leave_groups(&mut self, queue: QueueKey) -> Vec<MessageMeta> {
        let has_group = |delivery: &&InFlightDelivery| delivery.meta.queue == queue && delivery.meta.group.is_some();
        let seqs: Vec<u64> = self
            .by_seq
            .values()
            .filter(has_group)
            .map(|delivery| delivery.meta.seq)
            .collect();
        let mut behind = Vec::new();
        for seq in seqs {
            if let Some(mut delivery) = self.by_seq.get(&seq).cloned() {
                if delivery.meta.state == MessageState::InFlightBehind {
                    behind.push(delivery.meta.clone());
                }
                delivery.meta.group = None;
                delivery.meta.state = MessageState::InFlight;
                self.write(seq, Some(delivery));
            }
        }
        behind
    }

    /// Returns the first message of a group in flight behind its head.
    pub(crate) fn first_behind(&self, queue: QueueKey, group: &GroupName) -> Option<u64> {
        let behind = self.behind.get(&(queue, group.clone()))?;
        behind.first().map(|(_, seq)| *seq)
    }

    /// Returns the lowest priority of those.
    pub(crate) fn lowest_priority_behind(&self, queue: QueueKey, group: &GroupName) -> Option<u8> {
        // Most stores never have any.
        if self.behind.is_empty() {
            return None;
        }
        let behind = self.behind.get(&(queue, group.clone()))?;
        behind.last().map(|(Reverse(priority), _)| *priority)
    }

    /// Returns the earliest deadline of `queue`, and the message that it is of.
    pub(crate) fn first_deadline(&self, queue: QueueKey) -> Option<(Instant, u64)> {
        self.by_deadline
            .get(&queue)
            .and_then(|deadlines| deadlines.first().copied())
    }

    fn write(&mut self, seq: u64, delivery: Option<InFlightDelivery>) {
        let before = self.replace(seq, delivery);
        if let Some(journal) = &mut self.journal {
            journal.push((seq, before));
        }
    }

    /// Replaces the entry of a message, and returns the former one.
    fn replace(&mut self, seq: u64, delivery: Option<InFlightDelivery>) -> Option<InFlightDelivery> {
        let before = self.by_seq.remove(&seq);
        let is_cleared = |delivery: &InFlightDelivery| delivery.is_cleared;
        self.cleared -= usize::from(before.as_ref().is_some_and(is_cleared));
        self.cleared += usize::from(delivery.as_ref().is_some_and(is_cleared));
        if let Some(old) = &before {
            if let Some(deadlines) = self.by_deadline.get_mut(&old.meta.queue) {
                deadlines.remove(&(old.deadline, seq));
            }
            self.unlink_behind(&old.meta);
        }
        if let Some(delivery) = delivery {
            self.link_behind(&delivery.meta);
            self.by_deadline
                .entry(delivery.meta.queue)
                .or_default()
                .insert((delivery.deadline, seq));
            self.by_seq.insert(seq, delivery);
        }
        before
    }

    fn link_behind(&mut self, meta: &MessageMeta) {
        if let Some(group) = meta
            .group
            .as_ref()
            .filter(|_| meta.state == MessageState::InFlightBehind)
        {
            let behind = self.behind.entry((meta.queue, group.clone())).or_default();
            behind.insert((Reverse(meta.priority), meta.seq));
        }
    }

    fn unlink_behind(&mut self, meta: &MessageMeta) {
        if let Some(group) = meta
            .group
            .as_ref()
            .filter(|_| meta.state == MessageState::InFlightBehind)
        {
            let key = (meta.queue, group.clone());
            if let Some(behind) = self.behind.get_mut(&key) {
                behind.remove(&(Reverse(meta.priority), meta.seq));
                if behind.is_empty() {
                    self.behind.remove(&key);
                }
            }
        }
    }
}
