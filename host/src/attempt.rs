//! One call of a guest, from deliveries to settlements: races the guest, the leases and the order to stop.
//!
//! Invariant: each delivery is settled at most once, and never after its lease was lost. What the guest sent and wrote is
//! committed together with the deletion of what it handled, or not at all.

use std::{
    collections::{BTreeMap, VecDeque},
    num::NonZeroU32,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt as _, future::select_all};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    backoff::Backoff,
    config::{LogLevel, Manifest},
    executor::{Call, CallMessage, Component, Executor, Failure, LogLine, LogSink, Policy, Report, Verdict},
    keyvalue::Writes,
    lease::{Lease, LeaseKeeper},
    message::{MessageId, QueueName},
    metrics::Metrics,
    printable::{MAX_REASON_BYTES, chain, printable},
    queue::{Delivery, Effects, FailureKind, Queue, QueueError, Send, SettleError, Settlement},
    queue_set::QueueSet,
    settlement::{Outcome, SettlementPolicy, settlement},
    slots::TakenSlots,
};

mod derived;

use self::derived::derived_deduplication_id;

/// A component with its manifest: what a delivery runs on from its start to its end, whatever is reloaded meanwhile.
#[derive(Debug)]
pub struct Version {
    /// What is called.
    pub component: Component,
    /// What it was told to be.
    pub manifest: Manifest,
    /// What it may use, taken from the manifest.
    pub policy: Arc<Policy>,
}

impl Version {
    /// How many messages one call takes.
    pub fn batch_size(&self) -> usize {
        if self.component.info.flavour.takes_batches() {
            self.manifest.batch_size.get()
        } else {
            1
        }
    }

    /// How many attempts may be under way: what the manifest says, or as many as the executor can run if that is less.
    pub fn concurrency(&self, executor: &dyn Executor) -> usize {
        self.manifest
            .concurrency
            .get()
            .min(executor.most_at_once(&self.component, &self.policy))
    }

    /// How many bytes of bodies one batch has at most, if it has more than one message: an eighth of the guest's memory, so
    /// that large messages do not fail together what each would pass alone.
    pub fn batch_bytes(&self) -> usize {
        usize::try_from(self.policy.limits.memory / 8).unwrap_or(usize::MAX)
    }
}

/// What a manifest lets a handler's guests use and touch.
pub fn policy(handler: &str, manifest: &Manifest) -> Policy {
    Policy {
        handler: handler.to_owned(),
        timeout: manifest.timeout,
        limits: manifest.limits,
        grants: manifest.grants.clone(),
        reuse: manifest.reuse,
    }
}

/// What every attempt of one handler shares.
#[derive(Debug)]
pub struct AttemptContext {
    /// The handler's name.
    pub handler: String,
    /// Where its messages come from.
    pub queue: Arc<dyn Queue>,
    /// Holds the leases of that queue.
    pub keeper: Arc<LeaseKeeper>,
    /// Runs the guest.
    pub executor: Arc<dyn Executor>,
    /// All queues, for sends that the source cannot commit by itself.
    pub queues: Arc<QueueSet>,
    /// Where counts go.
    pub metrics: Arc<Metrics>,
    /// Cancelled when nothing new may be started.
    pub stop_receiving: CancellationToken,
    /// Cancelled when attempts under way must end.
    pub stop_working: CancellationToken,
}

/// A delivery under a lease.
#[derive(Debug)]
pub struct Leased {
    /// What was received.
    pub delivery: Delivery,
    /// The right to settle it.
    pub lease: Lease,
    /// Later messages of its group, received together with it and in order; they wait for it under leases of their own.
    pub followers: VecDeque<Self>,
}

/// How an attempt came out, per message.
pub type Outcomes = Vec<(MessageId, Outcome)>;

/// How an attempt ended.
#[derive(Debug, Default)]
pub struct Ended {
    /// How it came out.
    pub outcomes: Outcomes,
    /// The next of each group whose first message was handled, with its own followers.
    pub next: Vec<Leased>,
    /// The longest wait before a message that was not handled comes back.
    pub back_in: Option<Duration>,
    /// What it has taken, unless that was given back before. To be kept until what is in `next` has its own.
    pub slots: Option<TakenSlots>,
}

/// What every step of one attempt has to know.
struct Attempt {
    context: Arc<AttemptContext>,
    version: Arc<Version>,
    ids: Vec<(MessageId, NonZeroU32)>,
}

/// The messages that wait for one of the attempt, per message.
type Lines = Vec<VecDeque<Leased>>;

/// Runs one attempt to the end of its settlement. `slots` are given back with it, or as soon as everything was handled and
/// only the settlement is left to wait for.
///
/// # Errors
///
/// [`QueueError::Failed`] if the source queue has failed for good: nothing can be settled any more.
///
/// # Cancel safety
///
/// Not to be dropped: a settlement under way may or may not happen then. Cancel `stop_working` instead.
pub async fn attempt(
    context: Arc<AttemptContext>,
    version: Arc<Version>,
    batch: Vec<Leased>,
    slots: TakenSlots,
) -> Result<Ended, QueueError> {
    let started = Instant::now();
    let count = batch.len();
    let (mut deliveries, mut leases, mut lines) = (
        Vec::with_capacity(count),
        Vec::with_capacity(count),
        Vec::with_capacity(count),
    );
    for each in batch {
        deliveries.push(each.delivery);
        leases.push(each.lease);
        lines.push(each.followers);
    }
    let ids = deliveries
        .iter()
        .map(|delivery| (delivery.message.id.clone(), delivery.receive_count))
        .collect();
    let attempt = Attempt { context, version, ids };
    let done = CancellationToken::new();
    let working = async {
        let came_out = attempt.outcomes(deliveries, &leases).await;
        done.cancel();
        came_out
    };
    let ((mut outcomes, effects), ()) = tokio::join!(working, attempt.give_back_at_stop(&done, &mut lines));
    let duration = started.elapsed();
    // What failed keeps its slots until the dispatcher knows, which may have to pause.
    let is_done = lines.iter().all(VecDeque::is_empty) && outcomes.iter().all(Outcome::is_handled);
    let may_free = is_done && attempt.is_settled_in_turn(&effects);
    let mut slots = Some(slots);
    let back_in = {
        let mut settling = pin!(attempt.settle(&mut outcomes, leases, &mut lines, effects));
        if let Some(settled) = settling.as_mut().now_or_never() {
            settled?
        } else {
            if may_free && let Some(slots) = slots.take() {
                slots.free_early();
            }
            settling.await?
        }
    };
    // Only now: a refused send or a lost lease changes what an attempt came to.
    attempt.log(&outcomes, duration);
    let mut next = Vec::new();
    for (outcome, mut line) in outcomes.iter().zip(lines) {
        if !outcome.is_handled() {
            attempt.context.release_line(line).await;
        } else if let Some(mut first) = line.pop_front() {
            first.followers = line;
            next.push(first);
        }
    }
    Ok(Ended {
        outcomes: attempt.ids.into_iter().map(|(id, _)| id).zip(outcomes).collect(),
        next,
        back_in,
        slots,
    })
}

impl AttemptContext {
    /// Makes messages of one group, given in order, visible again, last first, so that none is received before an
    /// earlier one.
    pub async fn release_line(&self, line: VecDeque<Leased>) {
        if line.is_empty() {
            return;
        }
        let queue = self.queue.name();
        tracing::debug!(handler = self.handler, %queue, messages = line.len(), "later messages of a group are released");
        let batch = line.into_iter().rev().map(|each| (each.lease, Settlement::Release));
        let (answers, _leases) = self.keeper.settle(batch.collect(), Effects::default()).await;
        for answer in answers {
            self.released(answer);
        }
    }

    /// Hears how the release of one message came out.
    fn released(&self, answer: Result<(), SettleError>) {
        let queue = self.queue.name();
        match answer {
            Ok(()) => self
                .metrics
                .settled(queue.as_str(), settlement_word(&Settlement::Release)),
            Err(SettleError::Expired) => {}
            Err(error) => {
                tracing::warn!(%queue, error = %chain(&error), "a message was not released; it returns by itself");
            }
        }
    }
}

impl Attempt {
    /// Whether the next message of the handler, if it starts now, finds and does nothing out of turn: nothing has to happen
    /// before the deletion, the guest has written nothing that another one could miss, and what it sent goes with the deletion.
    fn is_settled_in_turn(&self, effects: &Effects) -> bool {
        effects.writes.is_empty() && effects.sends.iter().all(|send| self.goes_with_deletion(send))
    }

    /// Whether a send is part of the transaction that deletes what it was sent for.
    fn goes_with_deletion(&self, send: &Send) -> bool {
        let AttemptContext { queue, queues, .. } = &*self.context;
        queue.commits_sends_to(&send.queue) && queues.commits_sends_to(&send.queue)
    }

    /// Releases the followers as soon as the handler stops, since none of them will be started.
    async fn give_back_at_stop(&self, done: &CancellationToken, lines: &mut Lines) {
        if lines.iter().all(VecDeque::is_empty) {
            return;
        }
        tokio::select! {
            biased;
            () = done.cancelled() => return,
            () = self.context.stop_receiving.cancelled() => {}
        }
        for line in lines {
            self.context.release_line(std::mem::take(line)).await;
        }
    }

    /// Calls the guest for what was not handled before, unless the order to stop or the loss of a lease comes first.
    async fn outcomes(&self, deliveries: Vec<Delivery>, leases: &[Lease]) -> (Vec<Outcome>, Effects) {
        let context = &self.context;
        let (mut messages, mut outcomes) = (Vec::with_capacity(deliveries.len()), Vec::new());
        for delivery in deliveries {
            if context.queues.was_handled(&*context.queue, &delivery.message.id) {
                outcomes.push(Some(Outcome::AlreadyHandled));
                continue;
            }
            outcomes.push(None);
            messages.push(CallMessage {
                message: delivery.message,
                queue: context.queue.name().clone(),
                receive_count: delivery.receive_count.get(),
            });
        }
        if messages.is_empty() {
            return (outcomes.into_iter().flatten().collect(), Effects::default());
        }
        let policy = Arc::clone(&self.version.policy);
        let keyvalue = policy
            .grants
            .keyvalue
            .then(|| context.queues.keyvalue(&context.handler));
        let call = Call {
            messages,
            policy,
            log: self.log_sink(),
            keyvalue,
        };
        let lost = select_all(leases.iter().map(|lease| Box::pin(lease.lost().cancelled_owned())));
        tokio::select! {
            biased;
            () = context.stop_working.cancelled() => (vec![Outcome::Interrupted; leases.len()], Effects::default()),
            _ = lost => {
                // The others of the batch are not to blame: they are released.
                let outcome = |lease: &Lease| if lease.lost().is_cancelled() { Outcome::LeaseLost } else { Outcome::Interrupted };
                (leases.iter().map(outcome).collect(), Effects::default())
            }
            report = context.executor.run(&self.version.component, call) => self.reported(report, outcomes),
        }
    }

    /// Fills the outcomes that are not known yet with what the executor said.
    fn reported(&self, report: Report, known: Vec<Option<Outcome>>) -> (Vec<Outcome>, Effects) {
        if report.usage.log_lines_dropped > 0 {
            self.context
                .metrics
                .log_lines_dropped(&self.context.handler, report.usage.log_lines_dropped);
        }
        let mut said = report.verdicts.into_iter().map(|verdict| match verdict {
            Verdict::Success => Outcome::Success,
            Verdict::Failed(failure) => Outcome::Failed(failure),
            Verdict::NotRun(reason) => Outcome::HostFault(reason),
        });
        let missing = || Outcome::HostFault("the executor gave no verdict".to_owned());
        let outcomes = known
            .into_iter()
            .map(|known| known.or_else(|| said.next()).unwrap_or_else(missing));
        let writes = Writes {
            namespace: self.context.handler.as_str().into(),
            total_bytes: self.version.policy.limits.keyvalue_total_bytes,
            changes: report.writes,
        };
        let effects = Effects {
            sends: report.sends,
            writes,
        };
        (outcomes.collect(), effects)
    }

    /// Makes happen what the guest sent and wrote, and settles. Answers after how long what was not handled comes back at the
    /// latest. What is refused turns the outcomes that it belongs to into failures.
    async fn settle(
        &self,
        outcomes: &mut [Outcome],
        leases: Vec<Lease>,
        lines: &mut Lines,
        effects: Effects,
    ) -> Result<Option<Duration>, QueueError> {
        let mut settled = Settled::default();
        let mut together = self.do_what_comes_before(outcomes, effects).await;
        let nature = self.context.queue.nature();
        let mut unsettled: Vec<Option<(Lease, bool)>> = leases
            .into_iter()
            .map(|lease| Some((lease, nature.has_dead_letter_queue)))
            .collect();
        // Each message is refused at most twice: for its sends, and for its dead-letter queue.
        for _ in 0..3 {
            if !outcomes.contains(&Outcome::Success) {
                together = Effects::default();
            }
            let NextBatch { batch, what } = self.next_batch(outcomes, &mut unsettled, lines);
            if batch.is_empty() {
                break;
            }
            let (answers, leases) = self.context.keeper.settle(batch, together.clone()).await;
            let undone = answers.iter().find_map(|answer| match answer {
                Err(
                    error @ (SettleError::SendRefused { .. } | SettleError::WriteRefused(_) | SettleError::Incomplete),
                ) => Some(chain(error)),
                Ok(()) | Err(SettleError::Expired | SettleError::DeadLetterRefused { .. } | SettleError::Queue(_)) => {
                    None
                }
            });
            if let Some(reason) = undone {
                // Nothing was done: the same deliveries are settled as failures, without the effects.
                self.refused(outcomes, &reason);
                for ((index, _), lease) in what.into_iter().zip(leases) {
                    if let Some(slot) = index.and_then(|index| unsettled.get_mut(index)) {
                        *slot = Some((lease, nature.has_dead_letter_queue));
                    }
                }
                continue;
            }
            for (((index, settlement), answer), lease) in what.into_iter().zip(answers).zip(leases) {
                let Some(index) = index else {
                    self.context.released(answer);
                    continue;
                };
                if let Err(error @ SettleError::DeadLetterRefused { .. }) = &answer {
                    let id = self.ids.get(index).map_or("", |(id, _)| id.as_str());
                    tracing::error!(handler = self.context.handler, message_id = id, error = %chain(error), "a message could not become a dead letter; it stays in its queue");
                    self.context
                        .metrics
                        .dead_letter_not_taken(self.context.queue.name().as_str());
                    if let Some(slot) = unsettled.get_mut(index) {
                        *slot = Some((lease, false));
                    }
                } else if let Some(outcome) = outcomes.get_mut(index) {
                    self.record(outcome, &settlement, answer, &mut settled)?;
                }
            }
            if settled.deleted {
                self.count_sends(&together.sends);
            }
            together = Effects::default();
        }
        Ok(settled.back_in)
    }

    /// What is to be settled next. Before a message that was not handled go those that waited behind it, last first.
    fn next_batch(
        &self,
        outcomes: &[Outcome],
        unsettled: &mut [Option<(Lease, bool)>],
        lines: &mut Lines,
    ) -> NextBatch {
        let (mut batch, mut what) = (Vec::new(), Vec::new());
        for (index, (slot, outcome)) in unsettled.iter_mut().zip(outcomes).enumerate() {
            let Some((lease, may_die)) = slot.take() else { continue };
            // What is not settled here is someone else's: its lease is dropped.
            let Some(settlement) = self.settlement(index, outcome, may_die) else {
                continue;
            };
            let line = lines.get_mut(index).filter(|_| settlement != Settlement::Delete);
            for follower in line.map(std::mem::take).into_iter().flatten().rev() {
                what.push((None, Settlement::Release));
                batch.push((follower.lease, line_settlement(&settlement)));
            }
            what.push((Some(index), settlement.clone()));
            batch.push((lease, settlement));
        }
        NextBatch { batch, what }
    }

    /// Counts what was settled, and finds out whether a lease was lost or the queue has failed.
    fn record(
        &self,
        outcome: &mut Outcome,
        settlement: &Settlement,
        answer: Result<(), SettleError>,
        settled: &mut Settled,
    ) -> Result<(), QueueError> {
        match answer {
            Ok(()) => {
                settled.deleted |= *settlement == Settlement::Delete;
                let back_in = match settlement {
                    Settlement::Retry { delay, .. } => Some(*delay),
                    Settlement::Release => Some(Duration::ZERO),
                    Settlement::Delete | Settlement::DeadLetter { .. } => None,
                };
                settled.back_in = settled.back_in.max(back_in);
                let queue = self.context.queue.name();
                self.context
                    .metrics
                    .settled(queue.as_str(), settlement_word(settlement));
            }
            Err(SettleError::Queue(error)) => return Err(error),
            Err(
                SettleError::Expired
                | SettleError::SendRefused { .. }
                | SettleError::WriteRefused(_)
                | SettleError::DeadLetterRefused { .. }
                | SettleError::Incomplete,
            ) => *outcome = Outcome::LeaseLost,
        }
        Ok(())
    }

    /// Does what the source queue cannot commit together with a deletion, so that it happens at least once: sends to
    /// remote queues, then in one transaction of the store the note that the messages were handled, the sends to the
    /// store's own queues and the writes to its key-value store. Returns what goes with the deletion.
    async fn do_what_comes_before(&self, outcomes: &mut [Outcome], effects: Effects) -> Effects {
        let context = &self.context;
        let Effects { sends, writes } = effects;
        let (together, before): (Vec<_>, Vec<_>) = sends.into_iter().partition(|send| self.goes_with_deletion(send));
        if !outcomes.contains(&Outcome::Success) {
            return Effects::default();
        }
        let (stored, remote): (Vec<_>, Vec<_>) = before
            .into_iter()
            .partition(|send| context.queues.commits_sends_to(&send.queue));
        if let Err(reason) = self.send_remote(remote).await {
            self.refused(outcomes, &reason);
            return Effects::default();
        }
        let (written, to_write) = if context.queue.commits_writes() {
            (Writes::default(), writes)
        } else {
            (writes, Writes::default())
        };
        let handled: Vec<MessageId> = outcomes
            .iter()
            .zip(&self.ids)
            .filter(|(outcome, _)| **outcome == Outcome::Success)
            .map(|(_, (id, _))| id.clone())
            .collect();
        let done = Effects {
            sends: stored.clone(),
            writes: written,
        };
        let committed = context.queues.note_handled(&*context.queue, &handled, done).await;
        if let Err(error) = committed {
            self.refused(outcomes, &chain(&error));
            return Effects::default();
        }
        self.count_sends(&stored);
        Effects {
            sends: together,
            writes: to_write,
        }
    }

    async fn send_remote(&self, sends: Vec<Send>) -> Result<(), String> {
        let mut by_queue: BTreeMap<QueueName, Vec<_>> = BTreeMap::new();
        for (index, mut send) in sends.into_iter().enumerate() {
            if send.message.deduplication_id.is_none() {
                let id = derived_deduplication_id((self.context.queue.name(), &self.ids), index, &send);
                send.message.deduplication_id = Some(id);
            }
            by_queue.entry(send.queue).or_default().push(send.message);
        }
        // Before the first of them goes out, since a repeat of the attempt would send it again.
        for (name, messages) in &by_queue {
            let Some(queue) = self.context.queues.get(name) else {
                continue;
            };
            let refused = |error| format!("a send to queue {name} was refused: {}", chain(&error));
            queue.check_sends(messages).await.map_err(refused)?;
        }
        for (name, messages) in by_queue {
            let queue = self
                .context
                .queues
                .get(&name)
                .ok_or_else(|| format!("queue {name} does not exist"))?;
            let count = u64::try_from(messages.len()).unwrap_or(u64::MAX);
            for answer in queue.send_many(messages).await {
                answer.map_err(|error| format!("a send to queue {name} was refused: {}", chain(&error)))?;
            }
            self.context.metrics.sends(name.as_str(), count);
        }
        Ok(())
    }

    fn count_sends(&self, sends: &[Send]) {
        let mut counts: BTreeMap<&QueueName, u64> = BTreeMap::new();
        for send in sends {
            *counts.entry(&send.queue).or_default() += 1;
        }
        for (queue, count) in counts {
            self.context.metrics.sends(queue.as_str(), count);
        }
    }

    fn refused(&self, outcomes: &mut [Outcome], reason: &str) {
        tracing::warn!(
            handler = self.context.handler,
            reason,
            "what the handler sent or wrote was refused; the messages will be tried again"
        );
        fail_successes(outcomes, reason);
    }

    /// How the message at `index` is settled; `may_die` if there is a dead-letter queue that takes it.
    fn settlement(&self, index: usize, outcome: &Outcome, may_die: bool) -> Option<Settlement> {
        let (_, receive_count) = self.ids.get(index)?;
        let (retry, nature) = (&self.version.manifest.retry, self.context.queue.nature());
        let policy = SettlementPolicy {
            backoff: Backoff::new(retry.min, retry.max),
            has_dead_letter_queue: may_die,
            max_receives: nature.max_receives,
            counts_releases: nature.remote,
        };
        let component = self.version.component.info.digest.as_str();
        let who = (self.context.handler.as_str(), component);
        settlement(outcome, *receive_count, policy, rand::random::<f64>(), who)
    }

    fn log_sink(&self) -> LogSink {
        let handler = self.context.handler.clone();
        // A batch's output cannot be told apart by message, so it carries the first one's id.
        let message = self.ids.first().map(|(id, _)| id.clone());
        Arc::new(move |LogLine { stream, text }| {
            let message_id = message.as_ref().map_or("", MessageId::as_str);
            let (level, stream) = (stream.level(), stream.as_str());
            match level {
                LogLevel::Trace => tracing::trace!(target: "guest", handler, message_id, stream, "{text}"),
                LogLevel::Debug => tracing::debug!(target: "guest", handler, message_id, stream, "{text}"),
                LogLevel::Info => tracing::info!(target: "guest", handler, message_id, stream, "{text}"),
                LogLevel::Warn => tracing::warn!(target: "guest", handler, message_id, stream, "{text}"),
                LogLevel::Error | LogLevel::Critical => {
                    tracing::error!(target: "guest", handler, message_id, stream, "{text}");
                }
            }
        })
    }

    fn log(&self, outcomes: &[Outcome], duration: Duration) {
        let (handler, queue) = (&self.context.handler, self.context.queue.name());
        let component = self.version.component.info.digest.get(..12).unwrap_or_default();
        for (outcome, (id, receive_count)) in outcomes.iter().zip(&self.ids) {
            self.context
                .metrics
                .attempt_finished(handler, outcome.as_str(), duration);
            match outcome {
                Outcome::Success => {
                    tracing::debug!(handler, %queue, message_id = %id, receive_count, ?duration, "handled");
                }
                Outcome::AlreadyHandled => {
                    tracing::info!(handler, %queue, message_id = %id, receive_count, "handled before, and its deletion was lost; deleted again");
                }
                Outcome::Failed(Failure {
                    kind,
                    reason,
                    backtrace,
                    ..
                }) => {
                    let backtrace = backtrace.as_deref();
                    tracing::warn!(handler, %queue, message_id = %id, receive_count, component, kind = %kind, reason, backtrace, "not handled");
                    if *kind == FailureKind::Reject && !self.context.queue.nature().has_dead_letter_queue {
                        tracing::warn!(handler, %queue, message_id = %id, "rejected, and the queue has no dead-letter queue: it stays, and is tried again as rarely as possible");
                        self.context.metrics.dead_letter_not_taken(queue.as_str());
                    }
                }
                Outcome::HostFault(reason) => {
                    tracing::error!(handler, %queue, message_id = %id, reason, "the host could not run the handler; the message is released");
                }
                Outcome::Interrupted => {
                    tracing::info!(handler, %queue, message_id = %id, "interrupted; the message is released");
                }
                Outcome::LeaseLost => {
                    tracing::warn!(handler, %queue, message_id = %id, "the lease was lost: nothing was settled");
                    self.context.metrics.lease_lost(queue.as_str());
                }
            }
        }
    }
}

/// What one call of the queue settles.
struct NextBatch {
    batch: Vec<(Lease, Settlement)>,
    /// What each is for: the message at this index, or `None` for one that only waited.
    what: Vec<(Option<usize>, Settlement)>,
}

/// What the queue did.
#[derive(Default)]
struct Settled {
    deleted: bool,
    back_in: Option<Duration>,
}

fn fail_successes(outcomes: &mut [Outcome], reason: &str) {
    for outcome in outcomes.iter_mut().filter(|outcome| **outcome == Outcome::Success) {
        let reason = printable(reason, MAX_REASON_BYTES);
        *outcome = Outcome::Failed(Failure {
            kind: FailureKind::Retry,
            reason,
            retry_after: None,
            backtrace: None,
        });
    }
}

/// What becomes of the messages that waited behind one that is settled so. They return with it: released at once they would
/// have to wait for it all the same, and not every server makes them.
fn line_settlement(settlement: &Settlement) -> Settlement {
    match settlement {
        Settlement::Retry { .. } => settlement.clone(),
        Settlement::Delete | Settlement::DeadLetter { .. } | Settlement::Release => Settlement::Release,
    }
}

fn settlement_word(settlement: &Settlement) -> &'static str {
    match settlement {
        Settlement::Delete => "delete",
        Settlement::Retry { .. } => "retry",
        Settlement::DeadLetter { .. } => "dead-letter",
        Settlement::Release => "release",
    }
}
