//! The second step of an attempt: what came of it happens, and its messages are settled.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::{Attempt, AttemptContext, Ended, Handled, Line, derived::derived_deduplication_id, settlement_word};
use crate::{
    backoff::Backoff,
    executor::Failure,
    keyvalue::Writes,
    lease::Lease,
    message::{MessageId, QueueName},
    printable::{MAX_REASON_BYTES, chain, printable_lines},
    queue::{Effects, FailureKind, QueueError, Send, SettleError, Settlement},
    settlement::{Outcome, SettlementPolicy, settlement},
};

/// Settles one attempt, or several that are all [plain](Handled::is_plain) and of a queue that is not remote, in one call of
/// it. One answer per attempt, in order.
///
/// # Errors
///
/// [`QueueError::Failed`] if the source queue has failed for good: nothing can be settled any more.
///
/// # Cancel safety
///
/// Not to be dropped: a settlement under way may or may not happen then.
pub async fn settle(mut handled: Vec<Handled>) -> Result<Vec<Ended>, QueueError> {
    if handled.len() > 1 {
        return settle_plain(handled).await;
    }
    let Some(one) = handled.pop() else {
        return Ok(Vec::new());
    };
    Ok(vec![one.settle().await?])
}

/// Deletes everything that the attempts have handled.
async fn settle_plain(mut handled: Vec<Handled>) -> Result<Vec<Ended>, QueueError> {
    let Some(Handled { attempt, .. }) = handled.first() else {
        return Ok(Vec::new());
    };
    let keeper = Arc::clone(&attempt.context.keeper);
    let leases = handled.iter_mut().flat_map(|each| each.leases.drain(..));
    let batch = leases.map(|lease| (lease, Settlement::Delete)).collect();
    let (answers, _leases) = keeper.settle(batch, Effects::default()).await;
    let mut answers = answers.into_iter();
    let mut ended = Vec::with_capacity(handled.len());
    for mut each in handled {
        let mut settled = Settled::default();
        for outcome in &mut each.outcomes {
            let answer = answers.next().unwrap_or(Err(SettleError::Expired));
            each.attempt
                .record(outcome, &Settlement::Delete, answer, &mut settled)?;
        }
        ended.push(each.end(settled.back_in).await);
    }
    Ok(ended)
}

impl Handled {
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
        self.lines.iter().all(VecDeque::is_empty) && self.outcomes.iter().all(Outcome::is_handled)
    }

    /// Settles it by itself.
    async fn settle(mut self) -> Result<Ended, QueueError> {
        let (leases, effects) = (std::mem::take(&mut self.leases), std::mem::take(&mut self.effects));
        let settling = self
            .attempt
            .settle(&mut self.outcomes, leases, &mut self.lines, effects);
        let back_in = settling.await?;
        Ok(self.end(back_in).await)
    }

    /// What is left once everything is settled: the log, and those in line.
    async fn end(self, back_in: Option<Duration>) -> Ended {
        let Self {
            attempt,
            outcomes,
            duration,
            lines,
            ..
        } = self;
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
        Ended {
            outcomes: attempt.ids.into_iter().map(|(id, _)| id).zip(outcomes).collect(),
            next,
            back_in,
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

    /// Makes happen what the guest sent and wrote, and settles. Answers after how long what was not handled comes back at the
    /// latest. What is refused turns the outcomes that it belongs to into failures.
    async fn settle(
        &self,
        outcomes: &mut [Outcome],
        leases: Vec<Lease>,
        lines: &mut [Line],
        effects: Effects,
    ) -> Result<Option<Duration>, QueueError> {
        let mut settled = Settled::default();
        let mut together = self.do_what_comes_before(outcomes, effects).await;
        let capabilities = self.context.queue.capabilities();
        let mut unsettled: Vec<Option<(Lease, bool)>> = leases
            .into_iter()
            .map(|lease| Some((lease, capabilities.has_dead_letter_queue)))
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
                        *slot = Some((lease, capabilities.has_dead_letter_queue));
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
        lines: &mut [Line],
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
        if effects.is_empty() && !context.queue.capabilities().redelivers_deleted {
            return effects;
        }
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
        let (retry, capabilities) = (&self.version.manifest.retry, self.context.queue.capabilities());
        let policy = SettlementPolicy {
            backoff: Backoff::new(retry.min, retry.max),
            has_dead_letter_queue: may_die,
            max_receives: capabilities.max_receives,
            counts_releases: capabilities.counts_releases,
        };
        let component = self.version.component.info.digest.as_str();
        let who = (self.context.handler.as_str(), component);
        settlement(outcome, *receive_count, policy, rand::random::<f64>(), who)
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
                    if *kind == FailureKind::Reject && !self.context.queue.capabilities().has_dead_letter_queue {
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
                    self.context.metrics.leases().lost(queue.as_str());
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
        let reason = printable_lines(reason, MAX_REASON_BYTES);
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
