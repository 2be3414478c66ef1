//! One call of a guest, from deliveries to settlements: races the guest, the leases and the order to stop.
//!
//! Invariant: each delivery is settled at most once, and never after its lease was lost. What the guest sent is
//! committed together with the deletion of what it handled, or not at all.

use std::{collections::BTreeMap, num::NonZeroU32, sync::Arc, time::Duration};

use futures_util::future::select_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    backoff::Backoff,
    config::Manifest,
    executor::{Call, CallMessage, Component, Executor, Failure, LogLine, LogSink, LogStream, Policy, Report, Verdict},
    lease::{Lease, LeaseKeeper},
    message::{MessageId, QueueName},
    metrics::Metrics,
    printable::{MAX_REASON_BYTES, printable},
    queue::{Delivery, FailureKind, Queue, QueueError, Send, SettleError, Settlement},
    queue_set::QueueSet,
    settlement::{Outcome, SettlementPolicy, settlement},
};

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
}

/// How an attempt came out, per message.
pub type Outcomes = Vec<(MessageId, Outcome)>;

/// What every step of one attempt has to know.
struct Attempt {
    context: Arc<AttemptContext>,
    version: Arc<Version>,
    ids: Vec<(MessageId, NonZeroU32)>,
}

/// Runs one attempt to the end of its settlement.
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
) -> Result<Outcomes, QueueError> {
    let started = Instant::now();
    let (deliveries, leases): (Vec<_>, Vec<_>) = batch.into_iter().map(|each| (each.delivery, each.lease)).unzip();
    let ids = deliveries
        .iter()
        .map(|delivery| (delivery.message.id.clone(), delivery.receive_count))
        .collect();
    let attempt = Attempt { context, version, ids };
    let (mut outcomes, sends) = attempt.outcomes(deliveries, &leases).await;
    let duration = started.elapsed();
    attempt.settle(&mut outcomes, leases, sends).await?;
    // Only now: a refused send or a lost lease changes what an attempt came to.
    attempt.log(&outcomes, duration);
    Ok(attempt.ids.into_iter().map(|(id, _)| id).zip(outcomes).collect())
}

impl Attempt {
    /// Calls the guest, unless the order to stop or the loss of a lease comes first.
    async fn outcomes(&self, deliveries: Vec<Delivery>, leases: &[Lease]) -> (Vec<Outcome>, Vec<Send>) {
        let context = &self.context;
        let messages = deliveries
            .into_iter()
            .map(|delivery| CallMessage {
                message: delivery.message,
                queue: context.queue.name().clone(),
                receive_count: delivery.receive_count.get(),
            })
            .collect();
        let call = Call {
            messages,
            policy: Arc::clone(&self.version.policy),
            log: self.log_sink(),
        };
        let lost = select_all(leases.iter().map(|lease| Box::pin(lease.lost().cancelled_owned())));
        tokio::select! {
            biased;
            () = context.stop_working.cancelled() => (vec![Outcome::Interrupted; leases.len()], Vec::new()),
            _ = lost => {
                // The others of the batch are not to blame: they are released.
                let outcome = |lease: &Lease| if lease.lost().is_cancelled() { Outcome::LeaseLost } else { Outcome::Interrupted };
                (leases.iter().map(outcome).collect(), Vec::new())
            }
            report = context.executor.run(&self.version.component, call) => self.reported(report),
        }
    }

    fn reported(&self, report: Report) -> (Vec<Outcome>, Vec<Send>) {
        if report.usage.log_lines_dropped > 0 {
            self.context
                .metrics
                .log_lines_dropped(&self.context.handler, report.usage.log_lines_dropped);
        }
        let outcomes = report.verdicts.into_iter().map(|verdict| match verdict {
            Verdict::Success => Outcome::Success,
            Verdict::Failed(failure) => Outcome::Failed(failure),
            Verdict::NotRun(reason) => Outcome::HostFault(reason),
        });
        (outcomes.collect(), report.sends)
    }

    /// Sends what the guest sent, and settles. A refused send turns the outcomes that it belongs to into failures.
    async fn settle(&self, outcomes: &mut [Outcome], leases: Vec<Lease>, sends: Vec<Send>) -> Result<(), QueueError> {
        let (together, before): (Vec<_>, Vec<_>) = sends
            .into_iter()
            .partition(|send| self.context.queue.commits_sends_to(&send.queue));
        if let Err(reason) = self.send_before(before).await {
            fail_successes(outcomes, &reason);
        }
        let mut settlements = self.settlements(outcomes);
        let mut together = if outcomes.contains(&Outcome::Success) {
            together
        } else {
            Vec::new()
        };
        // What is not settled here is someone else's: its lease is dropped at the end.
        let mut leases: Vec<Option<Lease>> = leases.into_iter().map(Some).collect();
        for _ in 0..2 {
            let mut indices = Vec::new();
            let mut batch = Vec::new();
            for (index, settlement) in settlements.iter().enumerate() {
                if let Some(settlement) = settlement
                    && let Some(lease) = leases.get_mut(index).and_then(Option::take)
                {
                    indices.push(index);
                    batch.push((lease, settlement.clone()));
                }
            }
            if batch.is_empty() {
                return Ok(());
            }
            let sent: Vec<QueueName> = together.iter().map(|send| send.queue.clone()).collect();
            let (answers, returned) = self.context.keeper.settle(batch, std::mem::take(&mut together)).await;
            let refused = answers.iter().find_map(|answer| match answer {
                Err(error @ (SettleError::SendRefused { .. } | SettleError::Incomplete)) => Some(error.to_string()),
                Ok(()) | Err(SettleError::Expired | SettleError::Queue(_)) => None,
            });
            let Some(reason) = refused else {
                return self.record(outcomes, &settlements, indices.into_iter().zip(answers), &sent);
            };
            // Nothing was done: the same deliveries are settled as failures, without the sends.
            tracing::warn!(
                handler = self.context.handler,
                reason,
                "a send was refused; the messages will be tried again"
            );
            fail_successes(outcomes, &reason);
            settlements = self.settlements(outcomes);
            for (index, lease) in indices.into_iter().zip(returned) {
                if let Some(slot) = leases.get_mut(index) {
                    *slot = Some(lease);
                }
            }
        }
        Ok(())
    }

    /// Counts what was settled, and finds out whether a lease was lost or the queue has failed.
    fn record(
        &self,
        outcomes: &mut [Outcome],
        settlements: &[Option<Settlement>],
        answers: impl Iterator<Item = (usize, Result<(), SettleError>)>,
        sent: &[QueueName],
    ) -> Result<(), QueueError> {
        let queue = self.context.queue.name();
        let mut deleted = false;
        for (index, answer) in answers {
            let (Some(outcome), Some(Some(settlement))) = (outcomes.get_mut(index), settlements.get(index)) else {
                continue;
            };
            match answer {
                Ok(()) => {
                    deleted |= *settlement == Settlement::Delete;
                    self.context
                        .metrics
                        .settled(queue.as_str(), settlement_word(settlement));
                }
                Err(SettleError::Queue(error)) => return Err(error),
                Err(SettleError::Expired | SettleError::SendRefused { .. } | SettleError::Incomplete) => {
                    *outcome = Outcome::LeaseLost;
                }
            }
        }
        if deleted {
            let mut counts: BTreeMap<&QueueName, u64> = BTreeMap::new();
            for queue in sent {
                *counts.entry(queue).or_default() += 1;
            }
            for (queue, count) in counts {
                self.context.metrics.sends(queue.as_str(), count);
            }
        }
        Ok(())
    }

    /// Sends that the source queue cannot commit by itself go out before the deletion, so they happen at least once.
    async fn send_before(&self, sends: Vec<Send>) -> Result<(), String> {
        let mut by_queue: BTreeMap<QueueName, Vec<_>> = BTreeMap::new();
        for send in sends {
            by_queue.entry(send.queue).or_default().push(send.message);
        }
        for (name, messages) in by_queue {
            let queue = self
                .context
                .queues
                .get(&name)
                .ok_or_else(|| format!("queue {name} does not exist"))?;
            let count = u64::try_from(messages.len()).unwrap_or(u64::MAX);
            for answer in queue.send_many(messages).await {
                answer.map_err(|error| format!("a send to queue {name} was refused: {error}"))?;
            }
            self.context.metrics.sends(name.as_str(), count);
        }
        Ok(())
    }

    fn settlements(&self, outcomes: &[Outcome]) -> Vec<Option<Settlement>> {
        let retry = &self.version.manifest.retry;
        let policy = SettlementPolicy {
            backoff: Backoff::new(retry.min, retry.max),
            has_dead_letter_queue: true,
        };
        let component = self.version.component.info.digest.as_str();
        let who = (self.context.handler.as_str(), component);
        let each = |(outcome, (_, receive_count)): (&Outcome, &(MessageId, NonZeroU32))| {
            settlement(outcome, *receive_count, policy, rand::random::<f64>(), who)
        };
        outcomes.iter().zip(&self.ids).map(each).collect()
    }

    fn log_sink(&self) -> LogSink {
        let handler = self.context.handler.clone();
        // A batch's output cannot be told apart by message, so it carries the first one's id.
        let message = self.ids.first().map(|(id, _)| id.clone());
        Arc::new(move |LogLine { stream, text }| {
            let message_id = message.as_ref().map_or("", MessageId::as_str);
            let stream = match stream {
                LogStream::Stdout => "stdout",
                LogStream::Stderr => "stderr",
            };
            tracing::info!(target: "guest", handler, message_id, stream, "{text}");
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
                Outcome::Failed(Failure {
                    kind,
                    reason,
                    backtrace,
                    ..
                }) => {
                    let backtrace = backtrace.as_deref();
                    tracing::warn!(handler, %queue, message_id = %id, receive_count, component, kind = %kind, reason, backtrace, "not handled");
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

fn settlement_word(settlement: &Settlement) -> &'static str {
    match settlement {
        Settlement::Delete => "delete",
        Settlement::Retry { .. } => "retry",
        Settlement::DeadLetter { .. } => "dead-letter",
        Settlement::Release => "release",
    }
}
