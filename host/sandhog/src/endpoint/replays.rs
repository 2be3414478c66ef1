//! The receives that a client may ask for again: a FIFO queue answers the same attempt id with the same messages.
//!
//! An attempt counts for five minutes, and as long as none of its messages was deleted or given another visibility timeout and
//! none became visible. Attempts and their bytes are bounded; beyond the bounds the oldest are forgotten.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::queue_set::SimpleQueueEntry;
use sandhog_queue::{Queue as _, Receipt, message::QueueName};
use sandhog_simple::HistoricDelivery;

/// How long an attempt id counts, as on AWS.
const LIFE: Duration = Duration::from_mins(5);
const MAX_ATTEMPTS: usize = 10_000;
/// The most bytes of bodies and attributes.
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// The name of a receive that a client may ask for again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ReceiveAttempt {
    queue: QueueName,
    id: String,
}

impl ReceiveAttempt {
    pub(super) fn new(queue: &SimpleQueueEntry, id: &str) -> Self {
        Self {
            queue: queue.queue.name().clone(),
            id: id.to_owned(),
        }
    }
}

#[derive(Debug)]
struct KeptReceive {
    deliveries: Vec<HistoricDelivery>,
    at: Instant,
    bytes: usize,
}

#[derive(Debug, Default)]
struct KeptReceives {
    by_attempt: HashMap<ReceiveAttempt, KeptReceive>,
    by_receipt: HashMap<(QueueName, Receipt), ReceiveAttempt>,
    oldest: VecDeque<(ReceiveAttempt, Instant)>,
    bytes: usize,
}

/// The receives of the last five minutes that had an attempt id.
#[derive(Debug, Default)]
pub(super) struct ReceiveReplays {
    kept: Mutex<KeptReceives>,
}

impl ReceiveReplays {
    /// Returns the messages of an attempt that was answered before, and hides them anew. Returns `None` if the attempt is a new
    /// one, or does not count any more.
    pub(super) async fn again(
        &self,
        attempt: &ReceiveAttempt,
        queue: &SimpleQueueEntry,
        visibility_timeout: Option<Duration>,
    ) -> Option<Vec<HistoricDelivery>> {
        let deliveries = self.kept.lock().answered(attempt)?;
        let receipts: Vec<Receipt> = deliveries
            .iter()
            .map(|received| received.delivery.receipt.clone())
            .collect();
        let usual = Duration::from_secs(queue.wire.settings.visibility_timeout_s);
        let hidden = queue.queue.extend(receipts, visibility_timeout.unwrap_or(usual)).await;
        let all_hidden = hidden.iter().all(Result::is_ok);
        if !all_hidden {
            self.kept.lock().remove(attempt);
        }
        all_hidden.then_some(deliveries)
    }

    /// Keeps the answer to an attempt, unless it is empty.
    pub(super) fn keep(&self, attempt: ReceiveAttempt, deliveries: &[HistoricDelivery]) {
        if !deliveries.is_empty() {
            self.kept.lock().add(attempt, deliveries.to_vec());
        }
    }

    /// Forgets the attempts whose messages are deleted or get another visibility timeout.
    pub(super) fn forget(&self, queue: &SimpleQueueEntry, receipts: &[Receipt]) {
        let mut kept = self.kept.lock();
        if kept.by_attempt.is_empty() {
            return;
        }
        for receipt in receipts {
            let key = (queue.queue.name().clone(), receipt.clone());
            if let Some(attempt) = kept.by_receipt.get(&key).cloned() {
                kept.remove(&attempt);
            }
        }
    }
}

impl KeptReceives {
    fn answered(&mut self, attempt: &ReceiveAttempt) -> Option<Vec<HistoricDelivery>> {
        let kept = self.by_attempt.get(attempt)?;
        if kept.at.elapsed() > LIFE {
            self.remove(attempt);
            return None;
        }
        Some(kept.deliveries.clone())
    }

    fn add(&mut self, attempt: ReceiveAttempt, deliveries: Vec<HistoricDelivery>) {
        self.remove(&attempt);
        let bytes = deliveries.iter().map(|received| received.delivery.message.size()).sum();
        let at = Instant::now();
        for received in &deliveries {
            let key = (attempt.queue.clone(), received.delivery.receipt.clone());
            self.by_receipt.insert(key, attempt.clone());
        }
        self.bytes += bytes;
        self.oldest.push_back((attempt.clone(), at));
        self.by_attempt.insert(attempt, KeptReceive { deliveries, at, bytes });
        self.shrink();
    }

    /// Forgets what is too old or too much.
    fn shrink(&mut self) {
        while let Some((attempt, at)) = self.oldest.front().cloned() {
            let is_current = self.by_attempt.get(&attempt).is_some_and(|kept| kept.at == at);
            let is_over = self.oldest.len() > MAX_ATTEMPTS || self.bytes > MAX_BYTES || at.elapsed() > LIFE;
            if is_current && !is_over {
                return;
            }
            self.oldest.pop_front();
            if is_current {
                self.remove(&attempt);
            }
        }
    }

    fn remove(&mut self, attempt: &ReceiveAttempt) {
        if let Some(kept) = self.by_attempt.remove(attempt) {
            self.bytes -= kept.bytes;
            for received in kept.deliveries {
                self.by_receipt
                    .remove(&(attempt.queue.clone(), received.delivery.receipt));
            }
        }
    }
}
