//! Keeps deliveries invisible to other consumers while a guest works on them, or waits to.
//!
//! A queue hands a message out for a limited time. A keeper renews that time at half-life for everything that it
//! holds, in batches, so a guest may outlast the visibility timeout without a second consumer receiving the message.
//!
//! Invariants: a lease is renewed until its settlement was answered, until it was dropped, or until the queue's longest lease after the
//! receive; a lease dropped unsettled lets the message return by itself; a lease whose deadline passed, or whose receipt the
//! queue no longer knows, is lost, and a lost lease settles nothing. On a queue whose calls may overtake each other, no
//! extension and settlement of one delivery are under way at the same time, so a late extension never undoes a retry delay.
//! The time that the machine sleeps counts on a queue with a clock of its own; any other decides by itself.
//! This module knows nothing of guests: `attempt` decides what a lost lease means.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    alarm::wake_at,
    machine_clock::MachineClock,
    queue::{Effects, ExtendError, Queue, QueueError, Receipt, Settle, SettleError, Settlement},
};

mod metrics;

pub use metrics::LeaseMetrics;

/// The wait before a failed extension or settlement is repeated.
const REPEAT_AFTER: Duration = Duration::from_millis(200);
/// The longest such wait of a settlement; it doubles each time.
const LONGEST_REPEAT: Duration = Duration::from_secs(2);
/// How often a keeper looks whether the machine has slept, and what is less than a sleep.
const LOOK_FOR_SLEEP: Duration = Duration::from_secs(1);
const NO_SLEEP: Duration = Duration::from_millis(100);
/// How many extensions may be under way at a time, so that one that hangs does not make the others late.
const MAX_RENEWALS: usize = 16;

/// Holds the leases of one queue.
#[derive(Debug)]
pub struct LeaseKeeper {
    queue: Arc<dyn Queue>,
    metrics: Arc<LeaseMetrics>,
    clock: MachineClock,
    // Never held across an await.
    held: Mutex<Held>,
    changed: Notify,
    /// An extension has ended.
    extended: Notify,
}

#[derive(Debug, Default)]
struct Held {
    next_key: u64,
    leases: HashMap<u64, Entry>,
    /// When the keeper looks again by itself.
    wakes_at: Option<Instant>,
    /// How long the machine had slept when all deadlines were right.
    asleep: Duration,
}

#[derive(Debug)]
struct Entry {
    receipt: Receipt,
    received_at: Instant,
    renew_at: Instant,
    deadline: Instant,
    /// How long the machine had slept when the deadline was right.
    asleep: Duration,
    lost: CancellationToken,
    extending: bool,
    settling: bool,
}

/// Leases that are extended together: their keys and receipts, how far, and when waiting for the answer is of no use.
#[derive(Debug)]
struct Renewal {
    keys: Vec<u64>,
    receipts: Vec<Receipt>,
    by: Duration,
    give_up_at: Instant,
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
    pub fn new(queue: Arc<dyn Queue>, metrics: Arc<LeaseMetrics>) -> Arc<Self> {
        Self::with_clock(queue, metrics, MachineClock::default())
    }

    /// As [`LeaseKeeper::new`], with a clock that says how long the machine has slept.
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

    /// Takes over a delivery that was received a moment ago and becomes visible again at `deadline`. If that has passed, the
    /// lease is lost from the beginning.
    pub fn hold(self: &Arc<Self>, receipt: Receipt, deadline: Instant) -> Lease {
        let lost = CancellationToken::new();
        let now = Instant::now();
        if deadline <= now {
            lost.cancel();
        }
        let asleep = self.asleep();
        let renew_at = half_life(now, deadline);
        let mut held = self.held();
        let key = held.next_key;
        held.next_key += 1;
        let wake = held.wakes_at.is_none_or(|wakes_at| renew_at < wakes_at);
        held.leases.insert(
            key,
            Entry {
                receipt: receipt.clone(),
                received_at: now,
                renew_at,
                deadline,
                asleep,
                lost: lost.clone(),
                extending: false,
                settling: false,
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

    /// How many deliveries are held, and for how long the oldest of them has been.
    pub fn in_flight(&self) -> (usize, Option<Duration>) {
        let held = self.held();
        let oldest = held.leases.values().map(|entry| entry.received_at).min();
        (held.leases.len(), oldest.map(|at| at.elapsed()))
    }

    /// Renews leases until `stop`. Leases that are held then are no longer renewed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops renewal and nothing else.
    pub async fn run(&self, stop: CancellationToken) {
        let mut renewals = FuturesUnordered::new();
        while !stop.is_cancelled() {
            if renewals.len() < MAX_RENEWALS
                && let Some(renewal) = self.next_renewal()
            {
                renewals.push(self.renew(renewal));
                continue;
            }
            let next = self.plan(renewals.len() < MAX_RENEWALS);
            tokio::select! {
                () = stop.cancelled() => return,
                Some(()) = renewals.next() => {}
                () = self.changed.notified() => {}
                () = wake_at(next) => {}
            }
        }
    }

    /// When to look again, unless something changes before.
    fn plan(&self, may_renew: bool) -> Option<Instant> {
        let capabilities = self.queue.capabilities();
        let mut held = self.held();
        let times = held.leases.values();
        let next = times
            .filter(|entry| entry.is_free(capabilities.calls_overtake))
            .map(|entry| entry.renew_at)
            .min();
        // With every renewal taken the end of one is what to wait for.
        let next = next.filter(|_| may_renew);
        // A timer stands still while the machine sleeps.
        let look = (capabilities.has_own_clock && !held.leases.is_empty()).then(|| Instant::now() + LOOK_FOR_SLEEP);
        held.wakes_at = next.into_iter().chain(look).min();
        held.wakes_at
    }

    /// How long the machine has slept, as far as that counts.
    fn asleep(&self) -> Duration {
        if self.queue.capabilities().has_own_clock {
            self.clock.read().asleep
        } else {
            Duration::ZERO
        }
    }

    /// Leases past their half-life that go into one call, if there are any. Those past their deadline are lost.
    fn next_renewal(&self) -> Option<Renewal> {
        let now = Instant::now();
        let (by, capabilities) = (self.queue.visibility_timeout(), self.queue.capabilities());
        let asleep = self.asleep();
        let mut held = self.held();
        if let Some(slept) = held.wake_up(asleep) {
            tracing::warn!(queue = %self.queue.name(), ?slept, leases = held.leases.len(), "the machine has slept, and the queue has not: what is over by now is lost");
        }
        held.leases.retain(|_, entry| {
            let expired = entry.deadline <= now && entry.is_free(capabilities.calls_overtake);
            if expired {
                entry.lost.cancel();
            }
            !expired
        });
        let mut due: BTreeMap<Duration, Vec<(u64, &mut Entry)>> = BTreeMap::new();
        for (key, entry) in &mut held.leases {
            if entry.renew_at > now || !entry.is_free(capabilities.calls_overtake) {
                continue;
            }
            let by = by.min((entry.received_at + capabilities.longest_lease).saturating_duration_since(now));
            if now + by <= entry.deadline {
                // Its longest lease ends with what it has, or it has more than it would get since the timeout was made shorter.
                let is_capped = by < self.queue.visibility_timeout();
                entry.renew_at = if is_capped {
                    entry.deadline
                } else {
                    entry.deadline - by / 2
                };
            } else {
                due.entry(by).or_default().push((*key, entry));
            }
        }
        let (by, mut batch) = due.pop_last()?;
        // Those that would be lost first.
        batch.sort_unstable_by_key(|(_, entry)| entry.deadline);
        batch.truncate(capabilities.receive_limit);
        let give_up_at = batch.first().map_or(now, |(_, entry)| entry.deadline);
        let mut renewal = Renewal {
            keys: Vec::with_capacity(batch.len()),
            receipts: Vec::with_capacity(batch.len()),
            by,
            give_up_at,
        };
        for (key, entry) in batch {
            let late = now.saturating_duration_since(entry.renew_at);
            self.metrics.extension_started(self.queue.name().as_str(), late);
            entry.extending = true;
            renewal.keys.push(key);
            renewal.receipts.push(entry.receipt.clone());
        }
        Some(renewal)
    }

    async fn renew(&self, renewal: Renewal) {
        let (started, asleep) = (Instant::now(), self.asleep());
        let Renewal {
            keys,
            receipts,
            by,
            give_up_at,
        } = renewal;
        // It may not outlast a deadline: the lease is lost then, and somebody has to say so.
        let answers = match timeout_at(give_up_at, self.queue.extend(receipts, by)).await {
            Ok(answers) => answers.into_iter().map(Some).collect(),
            Err(_) => vec![None; keys.len()],
        };
        let (mut extended, mut failed) = (0, 0);
        let (now, awake) = (Instant::now(), self.asleep());
        let mut held = self.held();
        for (key, answer) in keys.into_iter().zip(answers) {
            let Some(entry) = held.leases.get_mut(&key) else {
                continue;
            };
            entry.extending = false;
            let expired = match answer {
                Some(Ok(())) => {
                    extended += 1;
                    (entry.deadline, entry.asleep) = (started + by, asleep);
                    entry.renew_at = half_life(started, entry.deadline);
                    // It may have slept over the answer.
                    entry.wake_up(awake);
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
        self.extended.notify_waiters();
        self.metrics.extended(self.queue.name().as_str(), extended, failed);
    }

    /// Ends deliveries together, with `effects` in the same transaction. One answer per lease, in order; the leases come
    /// back for the case that a refused effect left them unsettled.
    ///
    /// An unavailable queue is asked again, for the deliveries that it did not settle, until their leases are lost: at most
    /// until a visibility timeout after the last successful extension.
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
        effects: Effects,
    ) -> (Vec<Result<(), SettleError>>, Vec<Lease>) {
        let (leases, settlements): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let mut answers: Vec<Option<Result<(), SettleError>>> = vec![None; leases.len()];
        let mut repeat_after = REPEAT_AFTER;
        let longest_delay = self.queue.capabilities().longest_retry_delay;
        loop {
            for (lease, answer) in leases.iter().zip(&mut answers) {
                if answer.is_none() && self.is_lost(lease) {
                    *answer = Some(Err(SettleError::Expired));
                }
            }
            let open = || {
                leases
                    .iter()
                    .zip(&settlements)
                    .zip(&answers)
                    .filter(|(_, answer)| answer.is_none())
            };
            let settles: Vec<Settle> = open()
                .map(|((lease, settlement), _)| Settle {
                    receipt: lease.receipt.clone(),
                    settlement: settlement.clone().with_delay_up_to(longest_delay),
                })
                .collect();
            if settles.is_empty() {
                return (answers.into_iter().flatten().collect(), leases);
            }
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
            let said = self.queue.settle(settles, effects.clone()).await;
            self.end_settling(&keys);
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

    /// Whether nothing may be settled any more.
    fn is_lost(&self, lease: &Lease) -> bool {
        if lease.lost.is_cancelled() {
            return true;
        }
        let asleep = self.asleep();
        let mut held = self.held();
        let expired = held.leases.get_mut(&lease.key).is_none_or(|entry| {
            entry.wake_up(asleep);
            entry.deadline <= Instant::now()
        });
        drop(held);
        if expired {
            lease.lost.cancel();
        }
        expired
    }

    /// Keeps new extensions of these leases from being started, and waits for those under way: on a queue whose calls overtake each other.
    async fn begin_settling(&self, keys: &[u64]) {
        if !self.queue.capabilities().calls_overtake {
            return;
        }
        self.mark_settling(keys, true);
        let mut ended = std::pin::pin!(self.extended.notified());
        loop {
            // Registered before looking: what ends in between wakes this.
            ended.as_mut().enable();
            let extending = {
                let held = self.held();
                let mut entries = keys.iter().filter_map(|key| held.leases.get(key));
                entries.any(|entry| entry.extending)
            };
            if !extending {
                return;
            }
            ended.as_mut().await;
            ended.set(self.extended.notified());
        }
    }

    fn end_settling(&self, keys: &[u64]) {
        if self.queue.capabilities().calls_overtake {
            self.mark_settling(keys, false);
            self.changed.notify_one();
        }
    }

    fn mark_settling(&self, keys: &[u64], settling: bool) {
        let mut held = self.held();
        for key in keys {
            if let Some(entry) = held.leases.get_mut(key) {
                entry.settling = settling;
            }
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Every change is complete before the lock is given up, so a panic elsewhere leaves nothing half done.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// A token that is cancelled when the lease is lost.
    pub fn lost(&self) -> &CancellationToken {
        &self.lost
    }

    /// Whether a guest must not be started with the delivery any more.
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
    pub async fn settle(self, settlement: Settlement) -> Result<(), SettleError> {
        let keeper = Arc::clone(&self.keeper);
        let (answers, _lease) = keeper.settle(vec![(self, settlement)], Effects::default()).await;
        // One lease, so one answer.
        answers.into_iter().next().unwrap_or(Err(SettleError::Expired))
    }
}

impl Held {
    /// Lets every lease know how long the machine has slept; answers how long since the last time, if it has.
    fn wake_up(&mut self, asleep: Duration) -> Option<Duration> {
        let slept = asleep.saturating_sub(self.asleep);
        if slept < NO_SLEEP {
            return None;
        }
        self.asleep = asleep;
        let mut has_slept = false;
        for entry in self.leases.values_mut() {
            has_slept |= entry.wake_up(asleep);
        }
        has_slept.then_some(slept)
    }
}

impl Entry {
    /// Takes what the machine has slept off the time that is left. Answers whether it has.
    fn wake_up(&mut self, asleep: Duration) -> bool {
        let slept = asleep.saturating_sub(self.asleep);
        if slept < NO_SLEEP {
            return false;
        }
        self.asleep = asleep;
        // What is left of an hour is no time after a day, and nobody knows how far back an instant reaches.
        let now = Instant::now();
        let earlier = |at: Instant| now + at.saturating_duration_since(now).saturating_sub(slept);
        (self.deadline, self.renew_at) = (earlier(self.deadline), earlier(self.renew_at));
        true
    }

    /// Whether an extension may be started, and the deadline counts.
    fn is_free(&self, calls_overtake: bool) -> bool {
        !(self.extending || calls_overtake && self.settling)
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
