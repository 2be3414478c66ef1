//! What is in flight: which message, under which receipt, until when. In memory only.
//!
//! The store belongs to one process, so a visibility deadline need not outlive it: after a restart everything that
//! was in flight is visible at once. That makes an extension free of disk I/O.

use std::collections::{BTreeSet, HashMap};

use tokio::time::Instant;

use super::{
    super::Receipt,
    row::{Meta, QueueKey},
};

/// One delivery that is not settled.
#[derive(Debug, Clone)]
pub(super) struct Flight {
    pub(super) meta: Meta,
    pub(super) delivery: u64,
    pub(super) deadline: Instant,
    /// Whether it was a suspect and has lasted for so long that it is none any more.
    pub(super) cleared: bool,
}

/// All of them. Bounded by what is in flight.
#[derive(Debug)]
pub(super) struct Flights {
    by_seq: HashMap<u64, Flight>,
    by_deadline: HashMap<QueueKey, BTreeSet<(Instant, u64)>>,
    last_delivery: u64,
    cleared: usize,
    /// What each entry was before the transaction under way, newest last.
    journal: Option<Vec<(u64, Option<Flight>)>>,
}

impl Flights {
    /// None yet. With a journal, [`Flights::undo`] can take a transaction back.
    pub(super) fn new(journaled: bool) -> Self {
        Self {
            by_seq: HashMap::new(),
            by_deadline: HashMap::new(),
            // Random, so that a receipt of an earlier run never fits a delivery of this one.
            last_delivery: u64::from(rand::random::<u32>()) << 31,
            cleared: 0,
            journal: journaled.then(Vec::new),
        }
    }

    pub(super) fn begin(&mut self) {
        if let Some(journal) = &mut self.journal {
            journal.clear();
        }
    }

    pub(super) fn undo(&mut self) {
        let Some(journal) = &mut self.journal else { return };
        for (seq, before) in std::mem::take(journal).into_iter().rev() {
            self.set(seq, before);
        }
    }

    /// Whether nothing is in flight that may take the host down, as far as is known.
    pub(super) fn are_quiet(&self) -> bool {
        self.by_seq.len() == self.cleared
    }

    pub(super) fn get(&self, seq: u64) -> Option<&Flight> {
        self.by_seq.get(&seq)
    }

    /// The delivery that the receipt stands for, if it is still valid.
    pub(super) fn valid(&self, receipt: &Receipt, now: Instant) -> Option<&Flight> {
        let (seq, delivery) = receipt.as_numbered()?;
        self.by_seq
            .get(&seq)
            .filter(|flight| flight.delivery == delivery && flight.deadline > now)
    }

    /// Notes a new delivery and makes its receipt.
    pub(super) fn launch(&mut self, meta: Meta, deadline: Instant) -> Receipt {
        self.last_delivery += 1;
        let (seq, delivery) = (meta.seq, self.last_delivery);
        self.write(
            seq,
            Some(Flight {
                meta,
                delivery,
                deadline,
                cleared: false,
            }),
        );
        Receipt::numbered(seq, delivery)
    }

    pub(super) fn extend(&mut self, seq: u64, deadline: Instant) {
        if let Some(flight) = self.by_seq.get(&seq) {
            let flight = Flight {
                deadline,
                ..flight.clone()
            };
            self.write(seq, Some(flight));
        }
    }

    /// Notes that a suspect is none any more.
    pub(super) fn clear(&mut self, flight: Flight) {
        let cleared = Flight {
            cleared: true,
            ..flight
        };
        self.write(cleared.meta.seq, Some(cleared));
    }

    pub(super) fn land(&mut self, seq: u64) {
        self.write(seq, None);
    }

    /// The queues of which something is in flight.
    pub(super) fn queues(&self) -> Vec<QueueKey> {
        self.by_deadline
            .iter()
            .filter(|(_, deadlines)| !deadlines.is_empty())
            .map(|(key, _)| *key)
            .collect()
    }

    /// Notes that the lanes of `queue` are derived anew: what is in flight is in none until it comes back.
    pub(super) fn leave_lanes(&mut self, queue: QueueKey) {
        let laned = |flight: &&Flight| flight.meta.queue == queue && flight.meta.lane.is_some();
        let seqs: Vec<u64> = self
            .by_seq
            .values()
            .filter(laned)
            .map(|flight| flight.meta.seq)
            .collect();
        for seq in seqs {
            if let Some(mut flight) = self.by_seq.get(&seq).cloned() {
                flight.meta.lane = None;
                self.write(seq, Some(flight));
            }
        }
    }

    /// The message of `queue` whose deadline is the earliest.
    pub(super) fn first_deadline(&self, queue: QueueKey) -> Option<(Instant, u64)> {
        self.by_deadline
            .get(&queue)
            .and_then(|deadlines| deadlines.first().copied())
    }

    fn write(&mut self, seq: u64, flight: Option<Flight>) {
        let before = self.set(seq, flight);
        if let Some(journal) = &mut self.journal {
            journal.push((seq, before));
        }
    }

    fn set(&mut self, seq: u64, flight: Option<Flight>) -> Option<Flight> {
        let before = self.by_seq.remove(&seq);
        self.cleared -= usize::from(before.as_ref().is_some_and(|flight| flight.cleared));
        self.cleared += usize::from(flight.as_ref().is_some_and(|flight| flight.cleared));
        if let Some(old) = &before
            && let Some(deadlines) = self.by_deadline.get_mut(&old.meta.queue)
        {
            deadlines.remove(&(old.deadline, seq));
        }
        if let Some(flight) = flight {
            self.by_deadline
                .entry(flight.meta.queue)
                .or_default()
                .insert((flight.deadline, seq));
            self.by_seq.insert(seq, flight);
        }
        before
    }
}
