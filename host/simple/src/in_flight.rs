//! The in-flight table: which messages are in flight, under which receipt, and until when. In memory only.
//!
//! The store belongs to one process, so a visibility deadline need not outlive that process: after a restart every message that
//! was in flight is visible at once. An extension therefore costs no disk I/O.

use std::collections::{BTreeSet, HashMap};

use tokio::time::Instant;

use super::row::{MessageMeta, QueueKey};
use sandhog_queue::Receipt;

/// One delivery that is not settled.
#[derive(Debug, Clone)]
pub(crate) struct InFlightDelivery {
    pub(crate) meta: MessageMeta,
    /// The number in its receipt, which tells this delivery from others of the same message.
    pub(crate) number: u64,
    pub(crate) deadline: Instant,
    /// Set once a suspect has lasted for so long that it is none any more.
    pub(crate) is_cleared: bool,
}

/// All deliveries that are not settled, by the message's `seq`.
#[derive(Debug)]
pub(crate) struct InFlightTable {
    by_seq: HashMap<u64, InFlightDelivery>,
    by_deadline: HashMap<QueueKey, BTreeSet<(Instant, u64)>>,
    last_number: u64,
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
            // Random, so that a receipt of an earlier run never fits a delivery of this one.
            last_number: u64::from(rand::random::<u32>()) << 31,
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

    /// Inserts a new delivery and makes its receipt.
    pub(crate) fn insert(&mut self, meta: MessageMeta, deadline: Instant) -> Receipt {
        self.last_number += 1;
        let seq = meta.seq;
        let number = self.last_number;
        let delivery = InFlightDelivery {
            meta,
            number,
            deadline,
            is_cleared: false,
        };
        self.write(seq, Some(delivery));
        Receipt::numbered(seq, number)
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

    /// Takes the messages of `queue` out of their groups, which are derived anew: each joins a group when it comes back.
    pub(crate) fn leave_groups(&mut self, queue: QueueKey) {
        let has_group = |delivery: &&InFlightDelivery| delivery.meta.queue == queue && delivery.meta.group.is_some();
        let seqs: Vec<u64> = self
            .by_seq
            .values()
            .filter(has_group)
            .map(|delivery| delivery.meta.seq)
            .collect();
        for seq in seqs {
            if let Some(mut delivery) = self.by_seq.get(&seq).cloned() {
                delivery.meta.group = None;
                self.write(seq, Some(delivery));
            }
        }
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
        if let Some(old) = &before
            && let Some(deadlines) = self.by_deadline.get_mut(&old.meta.queue)
        {
            deadlines.remove(&(old.deadline, seq));
        }
        if let Some(delivery) = delivery {
            self.by_deadline
                .entry(delivery.meta.queue)
                .or_default()
                .insert((delivery.deadline, seq));
            self.by_seq.insert(seq, delivery);
        }
        before
    }
}
