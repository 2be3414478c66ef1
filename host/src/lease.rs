//! Keeps deliveries invisible to other consumers while a guest works on them, or waits to.
//!
//! A queue hands a message out for a limited time. A keeper renews that time at half-life for everything that it
//! holds, in batches, so a guest may outlast the visibility timeout without a second consumer receiving the message.
//!
//! Invariants: a lease is renewed until its settlement was answered or it was dropped; a lease dropped unsettled lets
//! the message return by itself; a lease whose deadline passed, or whose receipt the queue no longer knows, is lost, and a
//! lost lease settles nothing. This module knows nothing of guests: `attempt` decides what a lost lease means.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    alarm::wake_at,
    metrics::Metrics,
    queue::{ExtendError, Queue, QueueError, Receipt, Send, Settle, SettleError, Settlement},
};

/// The wait before a failed extension or settlement is repeated.
const REPEAT_AFTER: Duration = Duration::from_millis(200);

/// Holds the leases of one queue.
#[derive(Debug)]
pub struct LeaseKeeper {
    queue: Arc<dyn Queue>,
    metrics: Arc<Metrics>,
    // Never held across an await.
    held: Mutex<Held>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Held {
    next_key: u64,
    leases: HashMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    receipt: Receipt,
    renew_at: Instant,
    deadline: Instant,
    lost: CancellationToken,
}

/// The lease on one delivery.
#[derive(Debug)]
pub struct Lease {
    keeper: Arc<LeaseKeeper>,
    key: u64,
    receipt: Receipt,
    lost: CancellationToken,
}

impl LeaseKeeper {
    /// A keeper that holds nothing yet. [`LeaseKeeper::run`] must be running for leases to be renewed.
    pub fn new(queue: Arc<dyn Queue>, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            queue,
            metrics,
            held: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// Takes over a delivery that was received a moment ago and becomes visible again at `deadline`.
    pub fn hold(self: &Arc<Self>, receipt: Receipt, deadline: Instant) -> Lease {
        let lost = CancellationToken::new();
        let renew_at = half_life(Instant::now(), deadline);
        let mut held = self.held();
        let key = held.next_key;
        held.next_key += 1;
        let wake = held.leases.values().all(|entry| entry.renew_at > renew_at);
        held.leases.insert(
            key,
            Entry {
                receipt: receipt.clone(),
                renew_at,
                deadline,
                lost: lost.clone(),
            },
        );
        drop(held);
        if wake {
            self.changed.notify_one();
        }
        Lease {
            keeper: Arc::clone(self),
            key,
            receipt,
            lost,
        }
    }

    /// Renews leases until `stop`. Leases that are held then are no longer renewed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops renewal and nothing else.
    pub async fn run(&self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let next = self.held().leases.values().map(|entry| entry.renew_at).min();
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.changed.notified() => {}
                () = wake_at(next) => self.renew().await,
            }
        }
    }

    /// Extends everything that is past its half-life, in one call.
    async fn renew(&self) {
        let started = Instant::now();
        let (due, give_up_at) = {
            let held = self.held();
            let due: Vec<(u64, Receipt)> = held
                .leases
                .iter()
                .filter(|(_, entry)| entry.renew_at <= started)
                .map(|(key, entry)| (*key, entry.receipt.clone()))
                .collect();
            // While this call is waited for nothing else is looked at, so it may not outlast any deadline.
            (
                due,
                held.leases
                    .values()
                    .map(|entry| entry.deadline)
                    .min()
                    .unwrap_or(started),
            )
        };
        if due.is_empty() {
            return;
        }
        let by = self.queue.visibility_timeout();
        let (keys, receipts): (Vec<_>, Vec<_>) = due.into_iter().unzip();
        let answers = match timeout_at(give_up_at, self.queue.extend(receipts, by)).await {
            Ok(answers) => answers.into_iter().map(Some).collect(),
            Err(_) => vec![None; keys.len()],
        };
        let (mut extended, mut failed) = (0, 0);
        let now = Instant::now();
        let mut held = self.held();
        for (key, answer) in keys.into_iter().zip(answers) {
            let Some(entry) = held.leases.get_mut(&key) else {
                continue;
            };
            let expired = match answer {
                Some(Ok(())) => {
                    extended += 1;
                    entry.deadline = started + by;
                    entry.renew_at = half_life(started, entry.deadline);
                    continue;
                }
                Some(Err(ExtendError::Expired)) => true,
                Some(Err(ExtendError::Queue(QueueError::Failed { .. } | QueueError::Unavailable { .. }))) | None => {
                    entry.deadline <= now
                }
            };
            failed += 1;
            entry.renew_at = now + REPEAT_AFTER.min(entry.deadline.saturating_duration_since(now));
            if expired && let Some(entry) = held.leases.remove(&key) {
                entry.lost.cancel();
            }
        }
        drop(held);
        self.metrics.extensions(self.queue.name().as_str(), extended, failed);
    }

    /// Ends deliveries together, with `sends` in the same transaction. One answer per lease, in order; the leases come
    /// back for the case that a refused send left them unsettled.
    ///
    /// An unavailable queue is asked again until a lease is lost, so this lasts at most a visibility timeout after
    /// the last successful extension.
    ///
    /// # Errors
    ///
    /// Per lease, see [`SettleError`]; never `Unavailable`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have settled, and lets the messages return by themselves if not.
    pub async fn settle(
        &self,
        batch: Vec<(Lease, Settlement)>,
        sends: Vec<Send>,
    ) -> (Vec<Result<(), SettleError>>, Vec<Lease>) {
        let (leases, settlements): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        loop {
            if leases.iter().all(|lease| lease.lost.is_cancelled()) {
                return (leases.iter().map(|_| Err(SettleError::Expired)).collect(), leases);
            }
            let settles = leases
                .iter()
                .zip(&settlements)
                .map(|(lease, settlement)| Settle {
                    receipt: lease.receipt.clone(),
                    settlement: settlement.clone(),
                })
                .collect();
            let answers = self.queue.settle(settles, sends.clone()).await;
            let unavailable = |answer: &Result<(), SettleError>| matches!(answer, Err(SettleError::Queue(error)) if error.is_transient());
            // A transaction that did not happen did not happen for any of them.
            if !answers.iter().any(unavailable) {
                return (answers, leases);
            }
            tracing::warn!(queue = %self.queue.name(), deliveries = leases.len(), "the queue did not take a settlement; trying again");
            sleep(REPEAT_AFTER).await;
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Every change is complete before the lock is given up, so a panic elsewhere leaves nothing half done.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// A token that is cancelled when the lease is lost.
    pub fn lost(&self) -> CancellationToken {
        self.lost.clone()
    }

    /// Ends the delivery; see [`LeaseKeeper::settle`].
    ///
    /// # Errors
    ///
    /// See [`SettleError`].
    ///
    /// # Cancel safety
    ///
    /// As [`LeaseKeeper::settle`].
    pub async fn settle(self, settlement: Settlement) -> Result<(), SettleError> {
        let keeper = Arc::clone(&self.keeper);
        let (answers, _lease) = keeper.settle(vec![(self, settlement)], Vec::new()).await;
        // One lease, so one answer.
        answers.into_iter().next().unwrap_or(Err(SettleError::Expired))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.keeper.held().leases.remove(&self.key);
    }
}

fn half_life(now: Instant, deadline: Instant) -> Instant {
    now + deadline.saturating_duration_since(now) / 2
}
