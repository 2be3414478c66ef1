//! The plan of how deliveries are settled, and the answers of the queue to it.

use std::time::Duration;

use super::{AttemptContext, FinishedMessage, SettledAs, settlement_word};
use crate::settlement::AttemptOutcome;
use sandhog_queue::{Effects, EffectsRefused, QueueError, SettleError, Settlement, lease::Lease, printable::chain};

/// The delivery that a settlement is of.
#[derive(Debug)]
pub(crate) enum SettledSubject<'a> {
    /// A message that the guest was called for.
    Message(&'a mut FinishedMessage),
    /// A message that only waited behind another one.
    Follower,
}

/// A delivery that is to be settled.
#[derive(Debug)]
pub(crate) struct PlannedSettlement<'a> {
    pub(crate) subject: SettledSubject<'a>,
    pub(crate) settlement: Settlement,
    pub(crate) lease: Lease,
}

/// A delivery with the answer of its queue.
pub(crate) type AnsweredSettlement<'a> = (PlannedSettlement<'a>, Result<(), SettleError>);

/// The queue refused the effects, and settled nothing of the plan.
#[derive(Debug)]
pub(crate) struct EffectsUndone<'a> {
    pub(crate) error: EffectsRefused,
    pub(crate) plan: Vec<PlannedSettlement<'a>>,
}

fn split(plan: Vec<PlannedSettlement<'_>>) -> (Vec<SettledSubject<'_>>, Vec<(Lease, Settlement)>) {
    let mut subjects = Vec::with_capacity(plan.len());
    let mut batch = Vec::with_capacity(plan.len());
    for planned in plan {
        subjects.push(planned.subject);
        batch.push((planned.lease, planned.settlement));
    }
    (subjects, batch)
}

fn join(subjects: Vec<SettledSubject<'_>>, batch: Vec<(Lease, Settlement)>) -> Vec<PlannedSettlement<'_>> {
    let planned = subjects.into_iter().zip(batch);
    planned
        .map(|(subject, (lease, settlement))| PlannedSettlement {
            subject,
            settlement,
            lease,
        })
        .collect()
}

/// The settlements of an attempt that the queue has carried out.
#[derive(Debug, Default)]
pub(crate) struct SettlementTally {
    /// A message was deleted.
    pub(crate) deleted: bool,
    /// The longest wait before a message comes back.
    pub(crate) back_in: Option<Duration>,
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

impl AttemptContext {
    /// Carries out a plan together with the effects.
    ///
    /// # Cancel safety
    ///
    /// As [`LeaseKeeper::settle_with`](sandhog_queue::lease::LeaseKeeper::settle_with).
    pub(crate) async fn settle_with_effects<'a>(
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

    /// Carries out a plan alone.
    ///
    /// # Cancel safety
    ///
    /// As [`LeaseKeeper::settle`](sandhog_queue::lease::LeaseKeeper::settle).
    pub(crate) async fn settle_without_effects<'a>(
        &self,
        plan: Vec<PlannedSettlement<'a>>,
    ) -> Vec<AnsweredSettlement<'a>> {
        let (subjects, batch) = split(plan);
        let (answers, batch) = self.keeper.settle(batch).await;
        join(subjects, batch).into_iter().zip(answers).collect()
    }

    /// Whether a queue that keeps its dead letters itself makes one of a message that is to be retried: after its last receive.
    fn becomes_dead(&self, message: &FinishedMessage, settlement: &Settlement) -> bool {
        if !matches!(settlement, Settlement::Retry { .. }) {
            return false;
        }
        let capabilities = self.queue.capabilities();
        let last = self.queue.last_receive();
        !capabilities.calls_cost
            && capabilities.has_dead_letter_queue
            && last.is_some_and(|last| message.receive_count >= last)
    }

    /// Records the answers of the queue. Returns the messages that the dead-letter queue refused: they are not settled.
    ///
    /// # Errors
    ///
    /// [`QueueError::Failed`]: the queue has failed for good.
    pub(crate) fn record_all<'a>(
        &self,
        answered: Vec<AnsweredSettlement<'a>>,
        tally: &mut SettlementTally,
    ) -> Result<Vec<(&'a mut FinishedMessage, Lease)>, QueueError> {
        let mut refused_letters = Vec::new();
        for (planned, answer) in answered {
            let SettledSubject::Message(message) = planned.subject else {
                self.record_release(answer);
                continue;
            };
            match answer {
                Ok(()) => {
                    tally.add(&planned.settlement);
                    let becomes_dead = self.becomes_dead(message, &planned.settlement);
                    message.settled = Some(SettledAs::new(&planned.settlement, becomes_dead));
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
}
