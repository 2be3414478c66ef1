//! The loop of one handler: receives as many messages as it has free slots, starts attempts, and settles them. The loop never
//! waits for a guest.
//!
//! The dispatcher owns its state: everything that happens to it is a `DispatcherEvent`, and one `select!` waits for all of them.
//!
//! Invariants: no more than `concurrency` guests run at a time; no more deliveries are held than so many full calls take, and at
//! most as many whose guests are done and whose settlements are under way; an attempt runs to its end on the version it
//! started with; the loop ends only when every attempt has.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::coop::consume_budget,
    time::{Instant, timeout},
};

use self::{
    handler_report::HandlerReport,
    receive_health::ReceiveHealth,
    served::DispatchedVersions,
    settlements::{SettledBatch, Settlements},
};
use crate::{
    attempt::{AttemptContext, AttemptInput, HandlerVersion, SettledAttempt, SettledMessage},
    group_backlog::{CallLimits, GroupBacklog, LeasedDelivery, NextCall},
    halts::{HaltCause, HaltWatch},
    handler_status::HandlerStatuses,
    pause::{HandlerPause, PauseChange},
    poller::{FinishedReceive, Poller, ReceiveDecision},
    rollout::SecondOpinions,
    runners::{AttemptCompletion, Runners},
    served_versions::ServedVersions,
    settlement::AttemptOutcome,
    slots::Slots,
    versions::VersionBoard,
};
use sandhog_queue::{Delivery, QueueError, alarm, printable::chain};

mod handler_report;
mod receive_health;
mod served;
mod settlements;

/// How long interrupted guests are waited for once the queue has failed, which ends the process.
const INTERRUPTED: Duration = Duration::from_secs(5);

/// Runs one handler on one queue.
#[derive(Debug)]
pub struct Dispatcher {
    context: Arc<AttemptContext>,
    report: HandlerReport,
    changed_versions: watch::Receiver<Arc<ServedVersions>>,
    versions: DispatchedVersions,
    poller: Poller,
    receive_health: ReceiveHealth,
    /// The messages whose attempts have not started.
    backlog: GroupBacklog,
    runners: Runners,
    /// The key of the next attempt.
    next_key: u64,
    settlements: Settlements,
    pause: HandlerPause,
    /// The next probe, as it is shown.
    shown_probe: Option<Instant>,
    halts: HaltWatch,
    /// Why nothing is received, if an operator has ordered that.
    halt: Option<HaltCause>,
    /// Each attempt takes one, and one for each message that waits behind one of its batch.
    slots: Slots,
    /// Each attempt takes one until it is settled.
    unsettled: Slots,
}

/// What a dispatcher reacts to.
#[derive(Debug)]
enum DispatcherEvent {
    /// Nothing new may be received or started any more.
    StopOrdered,
    /// Attempts were settled.
    Settled(SettledBatch),
    /// Guests are done with their attempts.
    GuestsFinished(Vec<AttemptCompletion>),
    /// New deliveries run on other versions.
    VersionChanged,
    /// An operator has halted something, or resumed it.
    HaltsChanged,
    /// A receive has ended.
    ReceiveEnded(FinishedReceive),
    /// Slots may be free, or a wait is over.
    LookAgain,
}

/// How many guests may run, and how many messages each of them takes.
#[derive(Debug, Clone, Copy)]
struct CallCapacity {
    calls: usize,
    batch_size: usize,
}

impl Dispatcher {
    /// Creates a dispatcher that has received nothing yet. New versions come through `versions`, and how they compare goes to
    /// `board`; the context's `stop_receiving` starts the drain.
    pub fn new(
        context: AttemptContext,
        statuses: Arc<HandlerStatuses>,
        versions: watch::Receiver<Arc<ServedVersions>>,
        board: Arc<VersionBoard>,
    ) -> Self {
        let context = Arc::new(context);
        let served = Arc::clone(&versions.borrow());
        Self {
            report: HandlerReport::new(Arc::clone(&context), statuses),
            versions: DispatchedVersions::new(Arc::clone(&context), board, served),
            changed_versions: versions,
            poller: Poller::new(Arc::clone(&context.queue)),
            receive_health: ReceiveHealth::default(),
            backlog: GroupBacklog::default(),
            runners: Runners::new(context.executor.guests()),
            next_key: 0,
            settlements: Settlements::new(Arc::clone(&context)),
            pause: HandlerPause::default(),
            shown_probe: None,
            halts: HaltWatch::new(Arc::clone(&context.halts), &context.handler, context.queue.name()),
            halt: None,
            slots: Slots::default(),
            unsettled: Slots::default(),
            context,
        }
    }

    /// Makes the dispatcher take these slots, which a predecessor of the same handler may not have given back yet.
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
        self.settlements.shutdown().await;
        self.runners.interrupt();
        if timeout(INTERRUPTED, self.runners.join()).await.is_err() {
            tracing::error!(handler = self.context.handler, "a guest does not let go of its thread");
        }
        ended
    }

    async fn work(&mut self) -> Result<(), QueueError> {
        self.look_for_halt();
        self.report_slots();
        while !self.is_draining() {
            if self.halts.has_changed() {
                // Other events go first, and none of them may begin anything after an answered halt.
                self.look_for_halt();
            }
            self.start_attempts();
            let look_again = [self.start_receives(), self.versions.at()].into_iter().flatten().min();
            let event = self.next_event(look_again).await;
            self.react(event)?;
            // A queue in memory never keeps the loop waiting, and the leases are renewed on the same task.
            consume_budget().await;
        }
        self.begin_drain();
        while !(self.runners.is_idle() && self.settlements.is_empty()) {
            consume_budget().await;
            let event = self.next_event(None).await;
            self.react(event)?;
        }
        Ok(())
    }

    /// Whether nothing may be received or started any more.
    fn is_draining(&self) -> bool {
        self.context.stop_receiving.is_cancelled()
    }

    /// Waits for the next event, at the latest until `look_again`. A dispatcher that drains waits for its attempts alone.
    async fn next_event(&mut self, look_again: Option<Instant>) -> DispatcherEvent {
        let is_working = !self.is_draining();
        let stop = &self.context.stop_receiving;
        tokio::select! {
            biased;
            () = stop.cancelled(), if is_working => DispatcherEvent::StopOrdered,
            Some(batch) = self.settlements.next() => DispatcherEvent::Settled(batch),
            completions = self.runners.done() => DispatcherEvent::GuestsFinished(completions),
            changed = self.changed_versions.changed(), if is_working => {
                if changed.is_ok() {
                    return DispatcherEvent::VersionChanged;
                }
                // The sender outlives the dispatcher unless the handler is being removed, and then the order to stop follows.
                stop.cancelled().await;
                DispatcherEvent::StopOrdered
            }
            received = self.poller.received(), if is_working => DispatcherEvent::ReceiveEnded(received),
            () = self.halts.changed(), if is_working => DispatcherEvent::HaltsChanged,
            () = self.slots.given_back(), if is_working => DispatcherEvent::LookAgain,
            () = alarm::wake_at(look_again), if is_working => DispatcherEvent::LookAgain,
        }
    }

    fn react(&mut self, event: DispatcherEvent) -> Result<(), QueueError> {
        match event {
            DispatcherEvent::StopOrdered => {}
            DispatcherEvent::LookAgain => self.versions.tick(Instant::now()),
            DispatcherEvent::Settled(batch) => {
                let pause_changed = self.settled(batch)?;
                self.adapt(pause_changed);
            }
            DispatcherEvent::GuestsFinished(completions) => {
                let pause_changed = self.guests_finished(completions)?;
                self.adapt(pause_changed);
            }
            DispatcherEvent::VersionChanged => {
                let served = Arc::clone(&self.changed_versions.borrow_and_update());
                self.versions.change(served);
                self.start_afresh();
            }
            DispatcherEvent::HaltsChanged => self.look_for_halt(),
            DispatcherEvent::ReceiveEnded(receive) => {
                if let (Some(traces), Some(began)) = (&self.context.traces, receive.began) {
                    traces.received(&*self.context.queue, began, &receive.answer);
                }
                self.received(receive.answer)?;
            }
        }
        Ok(())
    }

    /// Stands still while an operator has ordered that: gives back every message whose attempt has not started, uncounted.
    fn look_for_halt(&mut self) {
        let halt = self.halts.cause();
        if halt == self.halt {
            return;
        }
        let before = std::mem::replace(&mut self.halt, halt);
        if halt.is_some() {
            self.poller.clear();
            self.release_undisputed();
            for messages in self.backlog.take_followers() {
                self.settlements.release(messages);
            }
        }
        // Last, because a drain counts on it: from now on the handler holds only what its leases say.
        self.report.halted(halt, before);
    }

    /// Ends a pause: other versions have a fresh start.
    fn start_afresh(&mut self) {
        let change = self.pause.reset();
        self.report.pause_changed(&change);
        self.report_slots();
        self.poller.clear();
    }

    /// Gives back every message whose attempt has not started.
    fn begin_drain(&mut self) {
        self.poller.clear();
        self.release_waiting();
        for messages in self.backlog.take_followers() {
            self.settlements.release(messages);
        }
    }

    /// Shows how many attempts are in flight, and makes the receives fit a handler that was paused or goes on.
    fn adapt(&mut self, pause_changed: bool) {
        self.report.in_flight(self.unsettled.taken());
        if self.pause.until() != self.shown_probe {
            self.shown_probe = self.pause.until();
            self.report.next_probe(self.shown_probe);
        }
        if !pause_changed {
            return;
        }
        self.report_slots();
        // The receives under way were made for what the handler could take before.
        self.poller.clear();
        if self.pause.until().is_some() {
            self.release_undisputed();
        }
    }

    fn report_slots(&self) {
        self.report.slots(self.capacity(self.versions.newest()).calls);
    }

    /// Returns how many guests may run, and how many messages each takes. A probe is alone.
    fn capacity(&self, version: &HandlerVersion) -> CallCapacity {
        match self.pause.until() {
            Some(_) => CallCapacity {
                calls: 1,
                batch_size: 1,
            },
            None => CallCapacity {
                calls: version.concurrency(&*self.context.executor),
                batch_size: version.batch_size(),
            },
        }
    }

    /// Starts attempts at the messages that wait, as far as slots are free.
    fn start_attempts(&mut self) {
        if !self.backlog.has_waiting() {
            return;
        }
        let is_paused = self.pause.until().is_some();
        let calls = self.capacity(self.versions.newest()).calls;
        let mut attempts = Vec::new();
        while self.occupied_slots(calls) < calls
            && let Some(next) = self.backlog.next()
        {
            // The version is chosen now and kept: a reload does not touch an attempt under way.
            let lane = self.versions.lane(next);
            let (version, opinions) = self.versions.of_lane(lane, is_paused);
            let version = Arc::clone(version);
            let most = CallLimits {
                messages: self.capacity(&version).batch_size,
                bytes: version.batch_bytes(),
            };
            let versions = &self.versions;
            let is_of_lane = |next: &LeasedDelivery| versions.has_one_lane() || versions.lane(next) == lane;
            let Some(call) = self.backlog.next_call(self.next_key, most, is_of_lane) else {
                break;
            };
            attempts.push(self.attempt_input(version, opinions, call));
        }
        if !attempts.is_empty() {
            self.runners.start(attempts);
            self.report.in_flight(self.unsettled.taken());
        }
    }

    fn attempt_input(
        &mut self,
        version: Arc<HandlerVersion>,
        opinions: SecondOpinions,
        call: NextCall,
    ) -> AttemptInput {
        let key = self.next_key;
        self.next_key += 1;
        AttemptInput {
            key,
            context: Arc::clone(&self.context),
            version,
            batch: call.batch,
            opinions,
            slots: self.slots.take(1 + call.followers),
            unsettled: self.unsettled.take(1),
        }
    }

    /// Starts receives for the free slots, unless a pause or a failed receive forbids it. Returns the time at which to decide
    /// again although nothing has happened.
    fn start_receives(&mut self) -> Option<Instant> {
        loop {
            let now = Instant::now();
            let CallCapacity { calls, batch_size } = self.capacity(self.versions.newest());
            let free = calls.saturating_sub(self.occupied_slots(calls) + self.poller.reserved());
            let waits = [self.receive_health.not_before(), self.pause.until()];
            let hold_back = waits.into_iter().flatten().filter(|until| *until > now).max();
            if free == 0 || hold_back.is_some() || self.halt.is_some() || self.backlog.has_waiting() {
                // A wait after a failed receive is not on purpose: the time of the last good one stands.
                if !self.receive_health.is_failing() && self.poller.is_idle() {
                    self.report.not_listening();
                }
                return hold_back;
            }
            let all = calls.saturating_mul(batch_size);
            match self.poller.next(free.saturating_mul(batch_size), all, now) {
                ReceiveDecision::Enough => return None,
                ReceiveDecision::At(at) => return Some(at),
                ReceiveDecision::Ask(max) => {
                    if !self.receive_health.is_failing() && self.poller.is_idle() {
                        self.report.listening();
                    }
                    self.poller.ask(max, batch_size);
                }
            }
        }
    }

    /// Returns the number of occupied slots of a handler that may run so many calls: the attempts whose guests run, or the
    /// attempts that are not settled beyond as many as that, so that a slow queue is not flooded. A probe is alone.
    fn occupied_slots(&self, calls: usize) -> usize {
        let may_settle = if self.pause.until().is_some() { 0 } else { calls };
        self.slots
            .taken()
            .max(self.unsettled.taken().saturating_sub(may_settle))
    }

    fn received(&mut self, answer: Result<Vec<Delivery>, QueueError>) -> Result<(), QueueError> {
        let deliveries = match answer {
            Ok(deliveries) => deliveries,
            Err(error) if error.is_transient() => {
                self.receive_failed(&chain(&error));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if let Some(failures) = self.receive_health.succeeded() {
            tracing::info!(handler = self.context.handler, failures, "receiving again");
        }
        self.report.received(deliveries.len());
        let keeper = &self.context.keeper;
        let leased = deliveries.into_iter().map(|delivery| LeasedDelivery {
            lease: keeper.hold(delivery.receipt.clone(), &delivery.lease),
            delivery,
            first_call: None,
            is_repeat: false,
        });
        self.backlog
            .received(leased, self.context.queue.capabilities().returns_groups);
        if self.halts.has_changed() {
            // An answered halt lets nothing begin.
            self.look_for_halt();
        }
        self.start_attempts();
        Ok(())
    }

    /// Logs a failure once, until it changes or is over.
    fn receive_failed(&mut self, reason: &str) {
        let failure = self
            .receive_health
            .failed(reason, rand::random::<f64>(), Instant::now());
        let handler = &self.context.handler;
        let times = failure.in_a_row;
        if failure.is_new {
            tracing::warn!(handler, error = reason, "a receive failed; trying again until it works");
        } else {
            tracing::debug!(handler, error = reason, times, "a receive failed again");
        }
        self.report.receive_failed(reason);
    }

    /// Gives back the messages that wait for a slot, but for those about which the predecessor is asked: that is a part of an attempt,
    /// and the message may have had its last receive.
    fn release_undisputed(&mut self) {
        let messages = self.backlog.take_undisputed();
        if !messages.is_empty() {
            self.settlements.release(messages);
        }
    }

    /// Gives back the messages that wait for a slot.
    fn release_waiting(&mut self) {
        let messages = self.backlog.take_waiting();
        if !messages.is_empty() {
            self.settlements.release(messages);
        }
    }

    /// Settles the attempts whose guests are done. Returns whether that paused or resumed the handler.
    fn guests_finished(&mut self, completions: Vec<AttemptCompletion>) -> Result<bool, QueueError> {
        let mut plain = Vec::with_capacity(completions.len());
        let mut others = Vec::new();
        for AttemptCompletion { key, finished } in completions {
            let followers = self.backlog.finished(key);
            let Some(mut finished) = finished else {
                // Its leases went with it, so its messages come back by themselves, with those behind them.
                tracing::error!(handler = self.context.handler, "an attempt panicked inside of the host");
                continue;
            };
            finished.take_followers(followers);
            if finished.is_plain() {
                plain.push(finished);
            } else {
                others.push(finished);
            }
        }
        // Such a queue batches by itself, and an answer that is late there must not keep the others waiting.
        if self.context.queue.capabilities().batches_settlements {
            others.append(&mut plain);
        }
        let mut pause_changed = false;
        let calls = std::iter::once(plain).chain(others.into_iter().map(|other| vec![other]));
        for finished in calls.filter(|finished| !finished.is_empty()) {
            if let Some(batch) = self.settlements.begin(finished) {
                pause_changed |= self.record(batch)?;
            }
        }
        Ok(pause_changed)
    }

    /// Records settled attempts, and all others that are settled by now, so that one receive fills the slots of them all.
    /// Returns whether that paused or resumed the handler.
    fn settled(&mut self, batch: SettledBatch) -> Result<bool, QueueError> {
        let mut pause_changed = self.record(batch)?;
        while let Some(batch) = self.settlements.try_next() {
            pause_changed |= self.record(batch)?;
        }
        Ok(pause_changed)
    }

    fn record(&mut self, batch: SettledBatch) -> Result<bool, QueueError> {
        let SettledBatch { attempts, slots } = batch;
        let mut pause_changed = false;
        for attempt in attempts? {
            pause_changed |= self.record_attempt(attempt);
        }
        drop(slots);
        Ok(pause_changed)
    }

    fn record_attempt(&mut self, attempt: SettledAttempt) -> bool {
        let went_back = self.versions.record(&attempt);
        let is_of_predecessor = self.versions.is_of_predecessor(&attempt);
        let SettledAttempt {
            messages,
            next,
            back_in,
            ..
        } = attempt;
        if let Some(back_in) = back_in {
            self.poller.be_careful(back_in, Instant::now());
        }
        self.backlog.settled(next);
        if self.is_draining() {
            self.release_waiting();
        } else if self.halt.is_some() {
            self.release_undisputed();
        }
        let mut pause_changed = false;
        for SettledMessage {
            id,
            outcome,
            first_call,
        } in messages
        {
            if is_of_predecessor && first_call.is_none() {
                // What the predecessor does with its share neither pauses the handler nor hides that the newest version is broken.
                continue;
            }
            let change = match outcome {
                // What the predecessor handles is no sign that the newest version works again.
                AttemptOutcome::Success if first_call.is_some() && self.pause.until().is_some() => {
                    self.pause.probe_failed(Instant::now())
                }
                AttemptOutcome::Success => self.pause.succeeded(),
                AttemptOutcome::Failed(failure) => self.pause.failed(&id, &failure, Instant::now()),
                AttemptOutcome::HostFault(_) => {
                    self.receive_health.host_fault(Instant::now());
                    PauseChange::None
                }
                AttemptOutcome::AlreadyHandled
                | AttemptOutcome::Conflict(_)
                | AttemptOutcome::Disputed(_)
                | AttemptOutcome::Interrupted
                | AttemptOutcome::LeaseLost => PauseChange::None,
            };
            pause_changed |= change != PauseChange::None;
            self.report.pause_changed(&change);
        }
        if went_back {
            pause_changed |= self.pause.until().is_some();
            self.start_afresh();
        }
        pause_changed
    }
}
