//! The second step of an attempt: what came of it happens, and its messages are settled.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    AttemptContext, FinishedMessage, GuestFinished, HandlerAttempt, SettledAttempt, derived::derived_deduplication_id,
    settlement_word,
};
use crate::{
    backoff::Backoff,
    executor::Failure,
    group_backlog::Followers,
    keyvalue::Writes,
    lease::Lease,
    message::{MessageId, QueueName},
    printable::{MAX_REASON_BYTES, chain, printable_lines},
    queue::{Effects, EffectsRefused, FailureKind, QueueError, Send, SettleError, Settlement},
    settlement::{AttemptOutcome, SettlementPolicy, follower_settlement, settlement},
};

/// Settles one attempt, or several that are all [plain](GuestFinished::is_plain) and of a queue that is not remote, in one call of
/// it. One answer per attempt, in order.
///
/// # Errors
///
/// [`QueueError::Failed`] if the source queue has failed for good: nothing can be settled any more.
///
/// # Cancel safety
///
/// Not to be dropped: a settlement under way may or may not happen then.
pub async fn settle(mut handled: Vec<GuestFinished>) -> Result<Vec<SettledAttempt>, QueueError> {
    if handled.len() > 1 {
        return settle_plain(handled).await;
    }
    let Some(one) = handled.pop() else {
        return Ok(Vec::new());
    };
    Ok(vec![one.settle().await?])
}

/// Settles attempts of one handler whose messages were all handled, in one call of the queue.
async fn settle_plain(mut handled: Vec<GuestFinished>) -> Result<Vec<SettledAttempt>, QueueError> {
    let Some(GuestFinished { attempt, .. }) = handled.first() else {
        return Ok(Vec::new());
    };
    let context = Arc::clone(&attempt.context);
    let mut plan = Vec::with_capacity(handled.len());
    for one in &mut handled {
        let leases = std::mem::take(&mut one.leases);
        one.attempt.plan_all(&mut one.messages, leases, &mut plan);
    }
    let answered = context.settle_without_effects(plan).await;
    let refused_letters = context.record_all(answered, &mut SettlementTally::default())?;
    assert!(
        refused_letters.is_empty(),
        "a dead-letter queue refuses dead letters alone"
    );
    let mut ended = Vec::with_capacity(handled.len());
    for one in handled {
        ended.push(one.end(None).await);
    }
    Ok(ended)
}

impl GuestFinished {
    /// Whether nothing has to be done but to delete what was handled.
    pub fn is_plain(&self) -> bool {
        self.is_done() && self.effects.is_empty()
    }

    /// Whether its slots may be free while it is settled: everything was handled, nothing waits in line, and the next message of
    /// the handler finds and does nothing out of turn. What failed keeps its slots until the dispatcher knows, which may have
    /// to pause.
    pub fn frees_slots(&self) -> bool {
        self.is_done() && self.attempt.is_settled_in_turn(&self.effects)
    }

    fn is_done(&self) -> bool {
        let mut messages = self.messages.iter();
        messages.all(|message| message.followers.is_empty() && message.outcome.is_handled())
    }

    /// Takes over the followers of its messages: those of each message, in order, or none at all.
    pub fn take_followers(&mut self, followers: Vec<Followers>) {
        for (message, followers) in self.messages.iter_mut().zip(followers) {
            message.followers = followers;
        }
    }

    /// Settles it by itself.
    async fn settle(mut self) -> Result<SettledAttempt, QueueError> {
        let leases = std::mem::take(&mut self.leases);
        let effects = std::mem::take(&mut self.effects);
        let back_in = self.attempt.settle(&mut self.messages, leases, effects).await?;
        Ok(self.end(back_in).await)
    }

    /// What is left once everything is settled: the log, and those in line.
    async fn end(self, back_in: Option<Duration>) -> SettledAttempt {
        let Self {
            attempt,
            messages,
            duration,
            ..
        } = self;
        // Only now: a refused send or a lost lease changes what an attempt came to.
        attempt.log(&messages, duration);
        let mut outcomes = Vec::with_capacity(messages.len());
        let mut next = Vec::new();
        for message in messages {
            if message.outcome.is_handled() {
                next.extend(message.followers.into_head());
            } else {
                // Of a message that was not settled: its lease was lost.
                attempt.context.release(message.followers.last_first().collect()).await;
            }
            outcomes.push((message.id, message.outcome));
        }
        SettledAttempt {
            outcomes,
            next,
            back_in,
        }
    }
}

impl HandlerAttempt {
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

    /// Makes happen what the guest sent and wrote, and settles. Answers after how long what was not handled comes back at the
    /// latest. A refusal of the effects turns the successes into failures; a message that its dead-letter queue refuses stays
    /// in its queue.
    async fn settle(
        &self,
        messages: &mut [FinishedMessage],
        leases: Vec<Lease>,
        effects: Effects,
    ) -> Result<Option<Duration>, QueueError> {
        let context = &self.context;
        let mut tally = SettlementTally::default();
        let effects = self.do_what_comes_before(messages, effects).await;
        let mut plan = Vec::with_capacity(messages.len());
        self.plan_all(messages, leases, &mut plan);
        let refused_letters = match context.settle_with_effects(plan, &effects).await {
            Ok(answered) => {
                let refused_letters = context.record_all(answered, &mut tally)?;
                if tally.deleted {
                    context.count_sends(&effects.sends);
                }
                refused_letters
            }
            Err(undone) => {
                let plan = self.plan_without_effects(undone);
                let answered = context.settle_without_effects(plan).await;
                context.record_all(answered, &mut tally)?
            }
        };
        if !refused_letters.is_empty() {
            let mut plan = Vec::with_capacity(refused_letters.len());
            for (message, lease) in refused_letters {
                self.plan(message, lease, false, &mut plan);
            }
            let answered = context.settle_without_effects(plan).await;
            let refused_again = context.record_all(answered, &mut tally)?;
            assert!(
                refused_again.is_empty(),
                "a dead-letter queue refuses dead letters alone"
            );
        }
        Ok(tally.back_in)
    }

    fn plan_all<'a>(
        &self,
        messages: &'a mut [FinishedMessage],
        leases: Vec<Lease>,
        plan: &mut Vec<PlannedSettlement<'a>>,
    ) {
        let takes_dead_letters = self.context.queue.nature().has_dead_letter_queue;
        for (message, lease) in messages.iter_mut().zip(leases) {
            self.plan(message, lease, takes_dead_letters, plan);
        }
    }

    /// Adds the settlement of a message. The followers of a message that was not handled go before it, last first.
    fn plan<'a>(
        &self,
        message: &'a mut FinishedMessage,
        lease: Lease,
        takes_dead_letters: bool,
        plan: &mut Vec<PlannedSettlement<'a>>,
    ) {
        // A message that is not settled here is someone else's: its lease is dropped.
        let Some(settlement) = self.settlement(message, takes_dead_letters) else {
            return;
        };
        if settlement != Settlement::Delete {
            for follower in std::mem::take(&mut message.followers).last_first() {
                plan.push(PlannedSettlement {
                    subject: Subject::Follower,
                    settlement: follower_settlement(&settlement),
                    lease: follower.lease,
                });
            }
        }
        plan.push(PlannedSettlement {
            subject: Subject::Message(message),
            settlement,
            lease,
        });
    }

    /// The plan after the queue has refused the effects and done nothing: the successes are failures, and settled as such.
    fn plan_without_effects<'a>(&self, undone: EffectsUndone<'a>) -> Vec<PlannedSettlement<'a>> {
        let takes_dead_letters = self.context.queue.nature().has_dead_letter_queue;
        let reason = chain(&undone.error);
        self.warn_of_refused_effects(&reason);
        let mut plan = Vec::with_capacity(undone.plan.len());
        for planned in undone.plan {
            match planned.subject {
                Subject::Message(message) if message.outcome == AttemptOutcome::Success => {
                    message.outcome = effects_refused(&reason);
                    self.plan(message, planned.lease, takes_dead_letters, &mut plan);
                }
                Subject::Message(_) | Subject::Follower => plan.push(planned),
            }
        }
        plan
    }

    /// Does what the source queue cannot commit together with a deletion, so that it happens at least once: sends to
    /// remote queues, then in one transaction of the store the note that the messages were handled, the sends to the
    /// store's own queues and the writes to its key-value store. Returns what goes with the deletion.
    async fn do_what_comes_before(&self, messages: &mut [FinishedMessage], effects: Effects) -> Effects {
        let context = &self.context;
        if effects.is_empty() && !context.queue.nature().redelivers_deleted {
            return effects;
        }
        let Effects { sends, writes } = effects;
        let (together, before): (Vec<_>, Vec<_>) = sends.into_iter().partition(|send| self.goes_with_deletion(send));
        if !messages
            .iter()
            .any(|message| message.outcome == AttemptOutcome::Success)
        {
            return Effects::default();
        }
        let (stored, remote): (Vec<_>, Vec<_>) = before
            .into_iter()
            .partition(|send| context.queues.commits_sends_to(&send.queue));
        if let Err(reason) = self.send_remote(messages, remote).await {
            self.fail_successes(messages, &reason);
            return Effects::default();
        }
        let (written, to_write) = if context.queue.commits_writes() {
            (Writes::default(), writes)
        } else {
            (writes, Writes::default())
        };
        let handled: Vec<MessageId> = messages
            .iter()
            .filter(|message| message.outcome == AttemptOutcome::Success)
            .map(|message| message.id.clone())
            .collect();
        let done = Effects {
            sends: stored.clone(),
            writes: written,
        };
        let committed = context.queues.note_handled(&*context.queue, &handled, done).await;
        if let Err(error) = committed {
            self.fail_successes(messages, &chain(&error));
            return Effects::default();
        }
        context.count_sends(&stored);
        Effects {
            sends: together,
            writes: to_write,
        }
    }

    async fn send_remote(&self, messages: &[FinishedMessage], sends: Vec<Send>) -> Result<(), String> {
        let mut by_queue: BTreeMap<QueueName, Vec<_>> = BTreeMap::new();
        for (index, mut send) in sends.into_iter().enumerate() {
            if send.message.deduplication_id.is_none() {
                let id = derived_deduplication_id(self.context.queue.name(), messages, index, &send);
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

    /// Turns the successes into failures, since the effects of the guest were refused.
    fn fail_successes(&self, messages: &mut [FinishedMessage], reason: &str) {
        self.warn_of_refused_effects(reason);
        for message in messages {
            if message.outcome == AttemptOutcome::Success {
                message.outcome = effects_refused(reason);
            }
        }
    }

    fn warn_of_refused_effects(&self, reason: &str) {
        tracing::warn!(
            handler = self.context.handler,
            reason,
            "what the handler sent or wrote was refused; the messages will be tried again"
        );
    }

    /// How a message is settled; `takes_dead_letters` if there is a dead-letter queue that takes it.
    fn settlement(&self, message: &FinishedMessage, takes_dead_letters: bool) -> Option<Settlement> {
        let retry = &self.version.manifest.retry;
        let nature = self.context.queue.nature();
        let policy = SettlementPolicy {
            backoff: Backoff::new(retry.min, retry.max),
            has_dead_letter_queue: takes_dead_letters,
            max_receives: nature.max_receives,
            counts_releases: nature.remote,
            handler: &self.context.handler,
            component: &self.version.component.info.digest,
        };
        settlement(&message.outcome, message.receive_count, &policy, rand::random::<f64>())
    }

    fn log(&self, messages: &[FinishedMessage], duration: Duration) {
        let (handler, queue) = (&self.context.handler, self.context.queue.name());
        let component = self.version.component.info.digest.get(..12).unwrap_or_default();
        for message in messages {
            let FinishedMessage {
                id,
                receive_count,
                outcome,
                ..
            } = message;
            self.context
                .metrics
                .attempt_finished(handler, outcome.as_str(), duration);
            match outcome {
                AttemptOutcome::Success => {
                    tracing::debug!(handler, %queue, message_id = %id, receive_count, ?duration, "handled");
                }
                AttemptOutcome::AlreadyHandled => {
                    tracing::info!(handler, %queue, message_id = %id, receive_count, "handled before, and its deletion was lost; deleted again");
                }
                AttemptOutcome::Failed(Failure {
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
                AttemptOutcome::HostFault(reason) => {
                    tracing::error!(handler, %queue, message_id = %id, reason, "the host could not run the handler; the message is released");
                }
                AttemptOutcome::Interrupted => {
                    tracing::info!(handler, %queue, message_id = %id, "interrupted; the message is released");
                }
                AttemptOutcome::LeaseLost => {
                    tracing::warn!(handler, %queue, message_id = %id, "the lease was lost: nothing was settled");
                    self.context.metrics.lease_lost(queue.as_str());
                }
            }
        }
    }
}

impl AttemptContext {
    async fn settle_with_effects<'a>(
        &self,
        plan: Vec<PlannedSettlement<'a>>,
        effects: &Effects,
    ) -> Result<Vec<AnsweredSettlement<'a>>, EffectsUndone<'a>> {
        let (subjects, batch) = split(plan);
        let (answers, batch) = self.keeper.settle_with(batch, effects).await;
        let plan = join(subjects, batch);
        match answers {
            Ok(answers) => Ok(plan.into_iter().zip(answers).collect()),
            Err(error) => Err(EffectsUndone { error, plan }),
        }
    }

    async fn settle_without_effects<'a>(&self, plan: Vec<PlannedSettlement<'a>>) -> Vec<AnsweredSettlement<'a>> {
        let (subjects, batch) = split(plan);
        let (answers, batch) = self.keeper.settle(batch).await;
        join(subjects, batch).into_iter().zip(answers).collect()
    }

    /// Records the answers of the queue, and returns the messages that the dead-letter queue refused, which are not settled.
    fn record_all<'a>(
        &self,
        answered: Vec<AnsweredSettlement<'a>>,
        tally: &mut SettlementTally,
    ) -> Result<Vec<(&'a mut FinishedMessage, Lease)>, QueueError> {
        let mut refused_letters = Vec::new();
        for (planned, answer) in answered {
            let Subject::Message(message) = planned.subject else {
                self.released(answer);
                continue;
            };
            match answer {
                Ok(()) => {
                    tally.add(&planned.settlement);
                    self.metrics
                        .settled(self.queue.name().as_str(), settlement_word(&planned.settlement));
                }
                Err(SettleError::Expired) => message.outcome = AttemptOutcome::LeaseLost,
                Err(SettleError::Queue(error)) => return Err(error),
                Err(error @ SettleError::DeadLetterRefused { .. }) => {
                    tracing::error!(handler = self.handler, message_id = %message.id, error = %chain(&error), "a message could not become a dead letter; it stays in its queue");
                    self.metrics.dead_letter_not_taken(self.queue.name().as_str());
                    refused_letters.push((message, planned.lease));
                }
            }
        }
        Ok(refused_letters)
    }

    fn count_sends(&self, sends: &[Send]) {
        let mut counts: BTreeMap<&QueueName, u64> = BTreeMap::new();
        for send in sends {
            *counts.entry(&send.queue).or_default() += 1;
        }
        for (queue, count) in counts {
            self.metrics.sends(queue.as_str(), count);
        }
    }
}

/// What a delivery that is settled is to the attempt.
#[derive(Debug)]
enum Subject<'a> {
    /// A message that the guest was called for.
    Message(&'a mut FinishedMessage),
    /// A message that only waited behind another one.
    Follower,
}

/// A delivery that is to be settled.
#[derive(Debug)]
struct PlannedSettlement<'a> {
    subject: Subject<'a>,
    settlement: Settlement,
    lease: Lease,
}

/// A delivery with the answer of its queue.
type AnsweredSettlement<'a> = (PlannedSettlement<'a>, Result<(), SettleError>);

/// The queue refused the effects, and settled nothing of the plan.
#[derive(Debug)]
struct EffectsUndone<'a> {
    error: EffectsRefused,
    plan: Vec<PlannedSettlement<'a>>,
}

fn split(plan: Vec<PlannedSettlement<'_>>) -> (Vec<Subject<'_>>, Vec<(Lease, Settlement)>) {
    let mut subjects = Vec::with_capacity(plan.len());
    let mut batch = Vec::with_capacity(plan.len());
    for planned in plan {
        subjects.push(planned.subject);
        batch.push((planned.lease, planned.settlement));
    }
    (subjects, batch)
}

fn join<'a>(subjects: Vec<Subject<'a>>, batch: Vec<(Lease, Settlement)>) -> Vec<PlannedSettlement<'a>> {
    let planned = subjects.into_iter().zip(batch);
    planned
        .map(|(subject, (lease, settlement))| PlannedSettlement {
            subject,
            settlement,
            lease,
        })
        .collect()
}

/// What the settlements of an attempt came to.
#[derive(Debug, Default)]
struct SettlementTally {
    /// A message was deleted.
    deleted: bool,
    /// The longest wait before a message comes back.
    back_in: Option<Duration>,
}

impl SettlementTally {
    fn add(&mut self, settlement: &Settlement) {
        self.deleted |= *settlement == Settlement::Delete;
        let back_in = match settlement {
            Settlement::Retry { delay, .. } => Some(*delay),
            Settlement::Release => Some(Duration::ZERO),
            Settlement::Delete | Settlement::DeadLetter { .. } => None,
        };
        self.back_in = self.back_in.max(back_in);
    }
}

fn effects_refused(reason: &str) -> AttemptOutcome {
    AttemptOutcome::Failed(Failure {
        kind: FailureKind::Retry,
        reason: printable_lines(reason, MAX_REASON_BYTES),
        retry_after: None,
        backtrace: None,
    })
}
