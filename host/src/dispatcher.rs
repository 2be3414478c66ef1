//! The loop of one handler: receives as many messages as it has free slots, starts attempts, settles what they came to, and
//! hears how that ended. Never waits for a guest.
//!
//! Invariants: no more than `concurrency` guests run at a time; no more deliveries are held than so many full calls take, and at
//! most as many whose guests are done and whose settlements are under way; a delivery runs to its end on the version it
//! started with; the loop ends only when every attempt has.

use std::{
    any::Any,
    collections::{HashMap, VecDeque},
    num::NonZeroU32,
    panic::{AssertUnwindSafe, resume_unwind},
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet, coop::consume_budget},
    time::{Instant, timeout},
};

use self::waiting::Waiting;
use crate::{
    alarm,
    attempt::{AttemptContext, Ended, Handled, Leased, Line, Start, Version, settle},
    backoff::Backoff,
    handler_status::HandlerStatuses,
    pause::{Change, Pause},
    poller::{Next, Poller},
    printable::chain,
    queue::{Delivery, QueueError},
    runners::{Done, Runners},
    settlement::Outcome,
    slots::{Slots, TakenSlots},
};

mod waiting;

/// The waits after receives that failed in a row: from the first, to the longest, which also bounds how late the host sees
/// that the queue is well again.
const RECEIVE_AGAIN_AFTER: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(15));
/// How long interrupted guests are waited for once the queue has failed, which ends the process.
const INTERRUPTED: Duration = Duration::from_secs(5);
/// The wait after a fault of the host, whose messages are visible again at once.
const AFTER_FAULT: Duration = Duration::from_secs(1);

/// Runs one handler on one queue.
#[derive(Debug)]
pub struct Dispatcher {
    context: Arc<AttemptContext>,
    statuses: Arc<HandlerStatuses>,
    versions: watch::Receiver<Arc<Version>>,
    runners: Runners,
    next_key: u64,
    /// What was received and has no slot yet.
    waiting: Waiting,
    /// What waits behind the messages of an attempt that runs, for those for which something does.
    lines: HashMap<u64, Vec<Line>>,
    settling: JoinSet<Settled>,
    /// Each attempt takes one, and one for each message that waits in a line behind it.
    slots: Slots,
    /// Each attempt takes one until it is settled.
    unsettled: Slots,
    poller: Poller,
    pause: Pause,
    receive_at: Instant,
    failing: Option<Failing>,
}

/// What came of attempts, and the slots that they still have.
type Settled = (Result<Vec<Ended>, QueueError>, Vec<TakenSlots>);

/// Receives that fail.
#[derive(Debug)]
struct Failing {
    times: NonZeroU32,
    reason: String,
}

impl Dispatcher {
    /// A dispatcher that has received nothing yet. New versions come through `versions`; the context's `stop_receiving` starts
    /// the drain.
    pub fn new(
        context: AttemptContext,
        statuses: Arc<HandlerStatuses>,
        versions: watch::Receiver<Arc<Version>>,
    ) -> Self {
        let poller = Poller::new(Arc::clone(&context.queue));
        Self {
            runners: Runners::new(context.executor.guests()),
            next_key: 0,
            waiting: Waiting::default(),
            context: Arc::new(context),
            statuses,
            versions,
            lines: HashMap::new(),
            settling: JoinSet::new(),
            slots: Slots::default(),
            unsettled: Slots::default(),
            poller,
            pause: Pause::default(),
            receive_at: Instant::now(),
            failing: None,
        }
    }

    /// As one that takes these slots, which a predecessor of the same handler may not have given back yet.
    #[must_use]
    pub fn with_slots(mut self, slots: Slots) -> Self {
        self.slots = slots;
        self
    }

    /// Receives and handles messages until `stop_receiving`, then waits for what is in flight.
    ///
    /// # Errors
    ///
    /// [`QueueError::Failed`]: the queue has failed for good, and attempts under way could not be settled.
    ///
    /// # Cancel safety
    ///
    /// Not to be dropped before it ends: attempts under way would be.
    pub async fn run(mut self) -> Result<(), QueueError> {
        let ended = self.work().await;
        if ended.is_ok() {
            self.runners.join().await;
            return ended;
        }
        // Nothing can be settled any more.
        self.settling.shutdown().await;
        self.runners.interrupt();
        if timeout(INTERRUPTED, self.runners.join()).await.is_err() {
            tracing::error!(handler = self.context.handler, "a guest does not let go of its thread");
        }
        ended
    }

    async fn work(&mut self) -> Result<(), QueueError> {
        let stop = self.context.stop_receiving.clone();
        while !stop.is_cancelled() {
            self.start_waiting();
            let look_again = self.start_receives();
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                Some(settled) = self.settling.join_next() => {
                    let changed = self.settled(settled)?;
                    self.went_on(changed);
                }
                done = self.runners.done() => {
                    let changed = self.handled(done)?;
                    self.went_on(changed);
                }
                changed = self.versions.changed() => {
                    // The sender outlives the dispatcher unless it is being removed, and then `stop` follows.
                    if changed.is_err() {
                        stop.cancelled().await;
                    }
                    let change = self.pause.reset();
                    self.tell(&change);
                    self.poller.clear();
                }
                received = self.poller.received() => self.received(received.answer)?,
                () = self.slots.given_back() => {}
                () = alarm::wake_at(look_again) => {}
            }
            // A queue in memory never keeps the loop waiting, and the leases are renewed on the same task.
            consume_budget().await;
        }
        self.poller.clear();
        // What waits for a slot, or in line, will not be started.
        self.release_waiting();
        for line in std::mem::take(&mut self.lines).into_values().flatten() {
            self.release(line);
        }
        while !(self.runners.is_idle() && self.settling.is_empty()) {
            consume_budget().await;
            tokio::select! {
                biased;
                Some(settled) = self.settling.join_next() => self.settled(settled)?,
                done = self.runners.done() => self.handled(done)?,
            };
        }
        Ok(())
    }

    /// Hears whether what has ended paused or resumed the handler.
    fn went_on(&mut self, changed: bool) {
        self.count_in_flight();
        if changed {
            // They were made for what the handler could take before.
            self.poller.clear();
        }
        if changed && self.pause.until().is_some() {
            self.release_waiting();
        }
    }

    /// How many guests may run, and how many messages each takes. A probe is alone.
    fn room(&self, version: &Version) -> (usize, usize) {
        match self.pause.until() {
            Some(_) => (1, 1),
            None => (version.concurrency(&*self.context.executor), version.batch_size()),
        }
    }

    /// Starts what was received, as far as slots are free.
    fn start_waiting(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        // The version is chosen now and kept: a reload does not touch a delivery under way.
        let version = Arc::clone(&self.versions.borrow());
        let (concurrency, batch_size) = self.room(&version);
        let mut attempts = Vec::new();
        while self.taken(concurrency) < concurrency
            && let Some(batch) = self.waiting.next_batch(batch_size, version.batch_bytes())
        {
            attempts.push(self.prepare(&version, batch));
        }
        if !attempts.is_empty() {
            self.runners.start(attempts);
            self.count_in_flight();
        }
    }

    /// Starts receives for the free slots, unless a pause or a failed receive forbids it. Answers when to look again although
    /// nothing has happened.
    fn start_receives(&mut self) -> Option<Instant> {
        loop {
            let now = Instant::now();
            let version = Arc::clone(&self.versions.borrow());
            let (concurrency, batch_size) = self.room(&version);
            let free = concurrency.saturating_sub(self.taken(concurrency) + self.poller.reserved());
            let hold_back = [Some(self.receive_at), self.pause.until()];
            let hold_back = hold_back.into_iter().flatten().filter(|until| *until > now).max();
            if free == 0 || hold_back.is_some() || !self.waiting.is_empty() {
                // A wait after a failed receive is not on purpose: the time of the last good one stands.
                if self.failing.is_none() && self.poller.is_idle() {
                    self.statuses.not_listening(&self.context.handler);
                }
                return hold_back;
            }
            let all = concurrency.saturating_mul(batch_size);
            match self.poller.next(free.saturating_mul(batch_size), all, now) {
                Next::Enough => return None,
                Next::At(at) => return Some(at),
                Next::Ask(max) => {
                    if self.failing.is_none() && self.poller.is_idle() {
                        self.statuses.received(&self.context.handler);
                    }
                    self.poller.ask(max, batch_size);
                }
            }
        }
    }

    /// How many of so many slots are not free: those whose guests run, or those of what is not settled once there are twice as
    /// many of these, so that a slow queue is not flooded. A probe is alone.
    fn taken(&self, concurrency: usize) -> usize {
        let settling = if self.pause.until().is_some() { 0 } else { concurrency };
        self.slots.taken().max(self.unsettled.taken().saturating_sub(settling))
    }

    fn received(&mut self, received: Result<Vec<Delivery>, QueueError>) -> Result<(), QueueError> {
        let handler = &self.context.handler;
        let deliveries = match received {
            Ok(deliveries) => deliveries,
            Err(error) if error.is_transient() => {
                self.receive_failed(&chain(&error));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if let Some(failing) = self.failing.take() {
            tracing::info!(handler, failures = failing.times, "receiving again");
        }
        self.statuses.received(handler);
        let count = u64::try_from(deliveries.len()).unwrap_or(u64::MAX);
        self.context.metrics.received(self.context.queue.name().as_str(), count);
        let keeper = Arc::clone(&self.context.keeper);
        let leased = deliveries.into_iter().map(|delivery| Leased {
            lease: keeper.hold(delivery.receipt.clone(), delivery.deadline),
            delivery,
            followers: VecDeque::new(),
        });
        self.waiting
            .add(leased, self.context.queue.capabilities().returns_groups);
        self.start_waiting();
        Ok(())
    }

    fn prepare(&mut self, version: &Arc<Version>, leased: Vec<Leased>) -> Start {
        let followers: usize = leased.iter().map(|each| each.followers.len()).sum();
        let (mut batch, mut lines) = (Vec::with_capacity(leased.len()), Vec::new());
        for each in leased {
            batch.push((each.delivery, each.lease));
            // Most queues hand out no groups.
            if followers > 0 {
                lines.push(each.followers);
            }
        }
        let key = self.next_key;
        self.next_key += 1;
        if followers > 0 {
            self.lines.insert(key, lines);
        }
        Start {
            key,
            context: Arc::clone(&self.context),
            version: Arc::clone(version),
            batch,
            slots: self.slots.take(1 + followers),
            unsettled: self.unsettled.take(1),
        }
    }

    /// Gives back what waits for a slot.
    fn release_waiting(&mut self) {
        let line = self.waiting.take();
        if !line.is_empty() {
            self.release(line);
        }
    }

    /// Gives back messages that wait, in order.
    fn release(&mut self, line: Line) {
        let context = Arc::clone(&self.context);
        // Among what is settled, so that the dispatcher does not end before it.
        self.settling.spawn(async move {
            context.release_line(line).await;
            (Ok(Vec::new()), Vec::new())
        });
    }

    /// Reports a failure once, until it changes or is over, and waits longer each time.
    fn receive_failed(&mut self, reason: &str) {
        let handler = &self.context.handler;
        let known = self.failing.take();
        let times = known
            .as_ref()
            .map_or(NonZeroU32::MIN, |failing| failing.times.saturating_add(1));
        if known.is_some_and(|failing| failing.reason == reason) {
            tracing::debug!(handler, error = reason, times, "a receive failed again");
        } else {
            tracing::warn!(handler, error = reason, "a receive failed; trying again until it works");
        }
        self.statuses.receive_failed(handler, reason);
        self.context.metrics.receive_failed(self.context.queue.name().as_str());
        self.receive_at = Instant::now() + RECEIVE_AGAIN_AFTER.delay(times, rand::random::<f64>());
        self.failing = Some(Failing {
            times,
            reason: reason.to_owned(),
        });
    }

    /// Hears that guests are done, and settles what they did; answers whether that paused or resumed the handler.
    fn handled(&mut self, done: Vec<Done>) -> Result<bool, QueueError> {
        let (mut plain, mut others) = (Vec::with_capacity(done.len()), Vec::new());
        for Done { key, handled } in done {
            let lines = self.lines.remove(&key);
            let Some(mut handled) = handled else {
                // Its leases went with it, so its messages come back by themselves, with those behind them.
                tracing::error!(handler = self.context.handler, "an attempt panicked inside of the host");
                continue;
            };
            handled.lines = lines.unwrap_or_default();
            let kind = if handled.is_plain() { &mut plain } else { &mut others };
            kind.push(handled);
        }
        // Such a queue batches by itself, and an answer that is late there must not keep the others waiting.
        if self.context.queue.capabilities().batches_settlements {
            others.append(&mut plain);
        }
        let mut changed = self.settle(plain)?;
        for other in others {
            changed |= self.settle(vec![other])?;
        }
        Ok(changed)
    }

    /// Settles attempts; what the queue does not do at once is waited for elsewhere.
    fn settle(&mut self, mut handled: Vec<Handled>) -> Result<bool, QueueError> {
        let frees_slots = handled.iter().all(Handled::frees_slots);
        let slots: Vec<_> = handled.iter_mut().filter_map(|each| each.slots.take()).collect();
        let mut settling = Box::pin(AssertUnwindSafe(settle(handled)).catch_unwind());
        if let Some(ended) = settling.as_mut().now_or_never() {
            return match ended {
                Ok(ended) => self.ended((ended, slots)),
                Err(panic) => {
                    self.settling_failed(said(&*panic));
                    Ok(false)
                }
            };
        }
        let slots = if frees_slots { Vec::new() } else { slots };
        self.settling.spawn(async move {
            let ended = settling.await.unwrap_or_else(|panic| resume_unwind(panic));
            (ended, slots)
        });
        Ok(false)
    }

    /// A settlement panicked. Its leases went with it, so the messages come back by themselves.
    fn settling_failed(&self, error: &str) {
        let handler = &self.context.handler;
        tracing::error!(handler, error, "a settlement failed inside of the host");
    }

    /// Hears how attempts were settled, and all others that are by now, so that one receive fills the slots of them all.
    fn settled(&mut self, settled: Result<Settled, JoinError>) -> Result<bool, QueueError> {
        let (mut changed, mut next) = (false, Some(settled));
        while let Some(settled) = next {
            match settled {
                Ok(settled) => changed |= self.ended(settled)?,
                Err(error) => self.settling_failed(&error.to_string()),
            }
            next = self.settling.try_join_next();
        }
        Ok(changed)
    }

    /// Hears how attempts ended, and starts what waited for them; answers whether that paused or resumed the handler.
    fn ended(&mut self, (ended, slots): Settled) -> Result<bool, QueueError> {
        let mut changed = false;
        for ended in ended? {
            changed |= self.end(ended);
        }
        drop(slots);
        Ok(changed)
    }

    fn end(&mut self, ended: Ended) -> bool {
        let Ended {
            outcomes,
            next,
            back_in,
        } = ended;
        if let Some(back_in) = back_in {
            self.poller.be_careful(back_in, Instant::now());
        }
        // Those that waited in line take their turn: a version of now may allow fewer than the one that received them.
        self.waiting.add(next.into_iter(), false);
        if self.context.stop_receiving.is_cancelled() {
            self.release_waiting();
        }
        let mut changed = false;
        for (id, outcome) in outcomes {
            let change = match outcome {
                Outcome::Success => self.pause.succeeded(),
                Outcome::Failed(failure) => self.pause.failed(&id, &failure, Instant::now()),
                Outcome::HostFault(_) => {
                    // The message is visible again at once: without a pause the host would spin on its own fault.
                    self.receive_at = Instant::now() + AFTER_FAULT;
                    Change::None
                }
                Outcome::AlreadyHandled | Outcome::Interrupted | Outcome::LeaseLost => Change::None,
            };
            changed |= change != Change::None;
            self.tell(&change);
        }
        changed
    }

    fn tell(&self, change: &Change) {
        // A handler that drains may have a successor of the same name already, whose state this is not.
        if self.context.stop_receiving.is_cancelled() {
            return;
        }
        let handler = &self.context.handler;
        match change {
            Change::None => return,
            Change::Paused(reason) => {
                tracing::error!(
                    handler,
                    reason,
                    "the handler is paused, and probed with single messages"
                );
                self.statuses.paused(handler, reason);
            }
            Change::Resumed => {
                tracing::info!(handler, "the handler goes on after a pause");
                self.statuses.resumed(handler);
            }
        }
        self.context
            .metrics
            .handler_paused(handler, matches!(change, Change::Paused(_)));
    }

    fn count_in_flight(&self) {
        if self.context.stop_receiving.is_cancelled() {
            return;
        }
        let attempts = u32::try_from(self.unsettled.taken()).unwrap_or(u32::MAX);
        self.statuses.in_flight(&self.context.handler, attempts);
        self.context.metrics.in_flight(&self.context.handler, attempts);
    }
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic that said nothing")
}
