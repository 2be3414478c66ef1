//! Keeps deliveries invisible to other consumers while a guest works on them, or waits to.
//!
//! A queue hands a message out for a limited time. A keeper extends that time at half-life for every delivery
//! that it holds, in batches, so a guest may outlast the visibility timeout without a second consumer receiving the message.
//!
//! Invariants: a keeper extends a lease until its settlement was answered, until it was dropped, or until the queue's longest
//! lease after the receive; a lease dropped unsettled lets the message return by itself; a lease whose deadline passed, or whose
//! receipt the queue no longer knows, is lost, and a lost lease settles nothing. On a queue whose calls may overtake each
//! other, no extension and settlement of one delivery are under way at the same time, so a late extension never undoes a retry
//! delay. The time that the machine sleeps counts on a queue with a clock of its own; any other decides by itself.
//! This module knows nothing of guests: `attempt` decides what a lost lease means.
//!
//! A keeper extends no lease that a connection holds. Such a lease is lost as soon as its queue says so.
//!
//! `lease/held.rs` has the table of leases and chooses those that are due, `lease/extension.rs` extends them.

use std::{sync::Arc, time::Duration};

use parking_lot::{Mutex, MutexGuard};
use tokio::{sync::Notify, time::sleep};
use tokio_util::sync::CancellationToken;

use self::held::{HeldLease, HeldLeases};
use crate::{
    DeliveryLease, Effects, EffectsRefused, Queue, Receipt, SettleAnswers, SettleError, SettleRequest, Settlement,
    machine_clock::MachineClock,
};

mod extension;
mod held;
mod metrics;

pub use metrics::LeaseMetrics;

/// The wait before a failed extension or settlement is repeated.
const REPEAT_AFTER: Duration = Duration::from_millis(200);
/// The longest such wait of a settlement; it doubles each time.
const LONGEST_REPEAT: Duration = Duration::from_secs(2);

/// Holds the leases of one queue.
#[derive(Debug)]
pub struct LeaseKeeper {
    queue: Arc<dyn Queue>,
    metrics: Arc<LeaseMetrics>,
    clock: MachineClock,
    // Never held across an await.
    held: Mutex<HeldLeases>,
    changed: Notify,
    /// Notified when an extension has ended.
    extended: Notify,
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
    /// Makes a keeper without leases. [`LeaseKeeper::run`] must be running for leases to be extended.
    pub fn new(queue: Arc<dyn Queue>, metrics: Arc<LeaseMetrics>) -> Arc<Self> {
        Self::with_clock(queue, metrics, MachineClock::default())
    }

    /// Makes a keeper as [`LeaseKeeper::new`] does, with a clock that tells the sleep of the machine.
    pub fn with_clock(queue: Arc<dyn Queue>, metrics: Arc<LeaseMetrics>, clock: MachineClock) -> Arc<Self> {
        Arc::new(Self {
            queue,
            metrics,
            clock,
            held: Mutex::default(),
            changed: Notify::new(),
            extended: Notify::new(),
        })
    }

    /// Takes over a delivery that was received a moment ago. A `lease` that has ended is lost from the beginning.
    pub fn hold(self: &Arc<Self>, receipt: Receipt, lease: &DeliveryLease) -> Lease {
        let held_lease = HeldLease::new(receipt.clone(), lease, self.queue.visibility_timeout(), self.asleep());
        let lost = held_lease.lost().clone();
        let mut held = self.held();
        let (key, wake) = held.add(held_lease);
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

    /// Returns the number of deliveries that are held, and the time since the oldest of them was received.
    pub fn in_flight(&self) -> (usize, Option<Duration>) {
        self.held().in_flight()
    }

    /// Returns the time that the machine has slept, if the queue counts it.
    fn asleep(&self) -> Duration {
        if self.queue.capabilities().has_own_clock {
            self.clock.read().asleep
        } else {
            Duration::ZERO
        }
    }

    /// Ends deliveries together. One answer per lease, in order; the batch comes back for the case that the dead-letter queue
    /// left some of it unsettled.
    ///
    /// # Errors
    ///
    /// Per lease, as [`LeaseKeeper::settle_with`].
    ///
    /// # Panics
    ///
    /// If the queue refuses effects although there are none.
    ///
    /// # Cancel safety
    ///
    /// As [`LeaseKeeper::settle_with`].
    pub async fn settle(&self, batch: Vec<(Lease, Settlement)>) -> (SettleAnswers, Vec<(Lease, Settlement)>) {
        let (answers, batch) = self.settle_with(batch, &Effects::default()).await;
        (answers.expect("a queue refuses effects only if there are some"), batch)
    }

    /// Ends deliveries together, with `effects` in the same transaction. One answer per lease, in order; the batch comes
    /// back for the case that a refusal left it unsettled.
    ///
    /// An unavailable queue is asked again, for the deliveries that it did not settle, until their leases are lost: at most
    /// until a visibility timeout after the last successful extension.
    ///
    /// # Errors
    ///
    /// [`EffectsRefused`]: the queue did nothing. Per lease, see [`SettleError`]; never `Unavailable`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have settled, and lets the messages return by themselves if not.
    pub async fn settle_with(
        &self,
        batch: Vec<(Lease, Settlement)>,
        effects: &Effects,
    ) -> (Result<SettleAnswers, EffectsRefused>, Vec<(Lease, Settlement)>) {
        let mut answers: Vec<Option<Result<(), SettleError>>> = vec![None; batch.len()];
        let mut repeat_after = REPEAT_AFTER;
        let longest_delay = self.queue.capabilities().longest_retry_delay;
        loop {
            for ((lease, _), answer) in batch.iter().zip(&mut answers) {
                if answer.is_none() && self.is_lost(lease) {
                    *answer = Some(Err(SettleError::Expired));
                }
            }
            let open = || batch.iter().zip(&answers).filter(|(_, answer)| answer.is_none());
            let settles: Vec<SettleRequest> = open()
                .map(|((lease, settlement), _)| SettleRequest {
                    receipt: lease.receipt.clone(),
                    settlement: settlement.clone().with_delay_up_to(longest_delay),
                })
                .collect();
            if settles.is_empty() {
                return (Ok(answers.into_iter().flatten().collect()), batch);
            }
            let effects = match effects_of_open(&batch, &answers, effects) {
                Ok(effects) => effects,
                Err(refused) => return (Err(refused), batch),
            };
            // An extension that arrives after a deletion changes nothing, and a dead letter ends in one; what takes long to
            // become a dead letter needs its extensions.
            let keys: Vec<u64> = open()
                .filter(|((_, settlement), _)| matches!(settlement, Settlement::Retry { .. } | Settlement::Release))
                .map(|((lease, _), _)| lease.key)
                .collect();
            self.begin_settling(&keys).await;
            if open().any(|((lease, _), _)| self.is_lost(lease)) {
                // While that was waited for.
                self.end_settling(&keys);
                continue;
            }
            let answered = self.queue.settle(settles, effects).await;
            self.end_settling(&keys);
            let said = match answered {
                Ok(said) => said,
                Err(refused) => return (Err(refused), batch),
            };
            let unavailable = |answer: &Result<(), SettleError>| matches!(answer, Err(SettleError::Queue(error)) if error.is_transient());
            let mut again = 0;
            for (answer, said) in answers.iter_mut().filter(|answer| answer.is_none()).zip(said) {
                if unavailable(&said) {
                    again += 1;
                } else {
                    *answer = Some(said);
                }
            }
            if again > 0 {
                if repeat_after == REPEAT_AFTER {
                    tracing::warn!(queue = %self.queue.name(), deliveries = again, "the queue did not take a settlement; trying again until it does, or the lease ends");
                }
                sleep(repeat_after).await;
                repeat_after = (repeat_after * 2).min(LONGEST_REPEAT);
            }
        }
    }

    /// Whether the lease is lost, so that its delivery must not be settled.
    fn is_lost(&self, lease: &Lease) -> bool {
        if lease.lost.is_cancelled() {
            return true;
        }
        let asleep = self.asleep();
        let mut held = self.held();
        let expired = held.is_expired(lease.key, asleep);
        drop(held);
        if expired {
            lease.lost.cancel();
        }
        expired
    }

    /// Keeps new extensions of these leases from being started, and waits for those under way. Does nothing on a queue whose
    /// calls do not overtake each other.
    async fn begin_settling(&self, keys: &[u64]) {
        if !self.queue.capabilities().calls_overtake {
            return;
        }
        self.held().mark_settling(keys, true);
        let mut ended = std::pin::pin!(self.extended.notified());
        loop {
            // Registered before looking: what ends in between wakes this.
            ended.as_mut().enable();
            let extending = self.held().is_extending(keys);
            if !extending {
                return;
            }
            ended.as_mut().await;
            ended.set(self.extended.notified());
        }
    }

    fn end_settling(&self, keys: &[u64]) {
        if self.queue.capabilities().calls_overtake {
            self.held().mark_settling(keys, false);
            self.changed.notify_one();
        }
    }

    fn held(&self) -> MutexGuard<'_, HeldLeases> {
        self.held.lock()
    }
}

/// Returns the effects that go with the deliveries that are still to be settled. The effects belong to all of the deletions
/// together. A message whose lease is lost returns, and its attempt makes the effects happen again: so they are refused while
/// another message waits for its deletion, and left out if none does.
fn effects_of_open(
    batch: &[(Lease, Settlement)],
    answers: &[Option<Result<(), SettleError>>],
    effects: &Effects,
) -> Result<Effects, EffectsRefused> {
    if effects.is_empty() {
        return Ok(Effects::default());
    }
    let deletions = || {
        let all = batch.iter().zip(answers);
        all.filter(|((_, settlement), _)| *settlement == Settlement::Delete)
            .map(|(_, answer)| answer)
    };
    if deletions().all(Option::is_some) {
        return Ok(Effects::default());
    }
    if deletions().any(|answer| matches!(answer, Some(Err(SettleError::Expired)))) {
        return Err(EffectsRefused::Incomplete);
    }
    Ok(effects.clone())
}

impl Lease {
    /// Returns a token that is cancelled when the lease is lost.
    pub fn lost(&self) -> &CancellationToken {
        &self.lost
    }

    /// Whether no guest may be started with the delivery any more.
    pub fn is_lost(&self) -> bool {
        // Without a clock of its own the queue gives the message to no other consumer before the keeper's next look.
        self.lost.is_cancelled() || self.keeper.queue.capabilities().has_own_clock && self.keeper.is_lost(self)
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
    #[expect(clippy::missing_panics_doc, reason = "a keeper answers for each lease")]
    pub async fn settle(self, settlement: Settlement) -> Result<(), SettleError> {
        let keeper = Arc::clone(&self.keeper);
        let (answers, _lease) = keeper.settle(vec![(self, settlement)]).await;
        answers.into_iter().next().expect("one lease has one answer")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.keeper.held().remove(self.key);
    }
}
