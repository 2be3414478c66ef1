//! The second step of an attempt: the effects of the guest happen, and the messages are settled.

use std::{sync::Arc, time::Duration};

use super::{
    FinishedMessage, GuestFinished, HandlerAttempt, SettledAttempt, SettledMessage,
    effects::{CommittedEffects, RefusedEffects},
    planned::{EffectsUndone, PlannedSettlement, SettledSubject, SettlementTally},
};
use crate::{
    backoff::Backoff,
    group_backlog::{FirstCall, Followers, GroupHead, LeasedDelivery},
    journal::JournalSend,
    rollout::SecondOpinions,
    settlement::{AttemptOutcome, SettlementPolicy, follower_settlement, settlement},
};
use sandhog_queue::{Effects, QueueCapabilities, QueueError, Settlement, lease::Lease, printable::chain};

/// Settles one attempt, or several attempts that are all [plain](GuestFinished::is_plain), in one call of a queue that is not
/// remote. Returns one settled attempt per attempt, in order.
///
/// # Errors
///
/// [`QueueError::Failed`] if the source queue has failed for good: nothing can be settled any more.
///
/// # Cancel safety
///
/// Not to be dropped: a settlement under way may or may not happen then.
pub async fn settle(mut finished: Vec<GuestFinished>) -> Result<Vec<SettledAttempt>, QueueError> {
    if finished.len() > 1 {
        return settle_plain(finished).await;
    }
    let Some(one) = finished.pop() else {
        return Ok(Vec::new());
    };
    Ok(vec![one.settle().await?])
}

/// Settles attempts of one handler whose messages were all handled, in one call of the queue.
async fn settle_plain(mut finished: Vec<GuestFinished>) -> Result<Vec<SettledAttempt>, QueueError> {
    let Some(GuestFinished { attempt, .. }) = finished.first() else {
        return Ok(Vec::new());
    };
    let context = Arc::clone(&attempt.context);
    let mut plan = Vec::with_capacity(finished.len());
    for one in &mut finished {
        let leases = std::mem::take(&mut one.leases);
        one.attempt.plan_all(&mut one.messages, leases, &mut plan);
    }
    let answered = context.settle_without_effects(plan).await;
    let refused_letters = context.record_all(answered, &mut SettlementTally::default())?;
    assert!(
        refused_letters.is_empty(),
        "a dead-letter queue refuses dead letters alone"
    );
    let mut settled = Vec::with_capacity(finished.len());
    for one in finished {
        settled.push(one.end(AttemptEnd::default()).await);
    }
    Ok(settled)
}

impl GuestFinished {
    /// Whether the settlement only deletes messages: all of them were handled, and there are no effects.
    pub fn is_plain(&self) -> bool {
        self.is_fully_handled() && self.effects.is_empty()
    }

    /// Whether the slots of the attempt may be free while it is settled: every message was handled, no message waits behind
    /// one, and the next message of the handler finds and does nothing out of turn. A failed attempt keeps its slots until the
    /// dispatcher knows, which may have to pause.
    pub fn frees_slots(&self) -> bool {
        self.is_fully_handled() && self.attempt.is_settled_in_turn(&self.effects)
    }

    fn is_fully_handled(&self) -> bool {
        let mut messages = self.messages.iter();
        messages.all(|message| message.followers.is_empty() && message.outcome.is_handled())
    }

    /// Takes over the followers of its messages: those of each message, in order, or none at all.
    pub fn take_followers(&mut self, followers: Vec<Followers>) {
        for (message, followers) in self.messages.iter_mut().zip(followers) {
            message.followers = followers;
        }
    }

    /// Settles the attempt by itself.
    async fn settle(mut self) -> Result<SettledAttempt, QueueError> {
        let leases = std::mem::take(&mut self.leases);
        let effects = std::mem::take(&mut self.effects);
        let end = self.attempt.settle(&mut self.messages, leases, effects).await?;
        Ok(self.end(end).await)
    }

    /// Ends the attempt once its messages are settled: logs them, and finds the next message of each group.
    async fn end(self, end: AttemptEnd) -> SettledAttempt {
        let Self {
            attempt,
            messages,
            duration,
            usage,
            ..
        } = self;
        // The settlement may have changed outcomes: a send was refused, or a lease was lost.
        attempt.log(&messages, duration);
        attempt.end_trace(&messages, duration, usage);
        attempt.enter(&messages, duration, usage, end.sends);
        let mut settled = Vec::with_capacity(messages.len());
        let mut next = Vec::new();
        let mut is_counted = false;
        for message in messages {
            if message.outcome.is_handled() {
                next.extend(message.followers.into_head());
            } else if let Some(again) = message.again {
                let mut first = *again;
                // A call counts once, whatever the number of its messages.
                if let Some(call) = first
                    .first_call
                    .as_mut()
                    .filter(|call| call.version == attempt.version.number)
                {
                    call.counts = !std::mem::replace(&mut is_counted, true);
                }
                let followers = message.followers;
                next.push(GroupHead { first, followers });
            } else {
                // The lease of the message was lost, so nothing was settled in front of its followers.
                attempt.context.release(message.followers.last_first().collect()).await;
            }
            settled.push(SettledMessage {
                id: message.id,
                outcome: message.outcome,
                first_call: message.first_call,
            });
        }
        SettledAttempt {
            version: attempt.version,
            began: attempt.began,
            messages: settled,
            usage,
            next,
            back_in: end.back_in,
        }
    }
}

/// What is known once an attempt is settled.
#[derive(Debug, Default)]
pub(crate) struct AttemptEnd {
    /// The longest wait before a message that was not handled comes back.
    back_in: Option<Duration>,
    /// What was sent.
    sends: Vec<JournalSend>,
}

impl HandlerAttempt {
    /// Commits the effects and settles the messages.
    ///
    /// If the effects are refused, the successes become failures and everything is settled without the effects. A message that
    /// the dead-letter queue refuses is settled once more, as a retry with the longest backoff.
    async fn settle(
        &self,
        messages: &mut [FinishedMessage],
        leases: Vec<Lease>,
        effects: Effects,
    ) -> Result<AttemptEnd, QueueError> {
        let context = &self.context;
        let mut tally = SettlementTally::default();
        let CommittedEffects {
            with_deletion: effects,
            mut sends,
            traced,
        } = self.commit_before_deletion(messages, effects).await;
        let settling = self.trace_settlement();
        let mut plan = Vec::with_capacity(messages.len());
        self.plan_all(messages, leases, &mut plan);
        let refused_letters = match context.settle_with_effects(plan, &effects).await {
            Ok(answered) => {
                let refused_letters = context.record_all(answered, &mut tally)?;
                if tally.deleted {
                    context.count_sends(&effects.sends);
                    let mut sent = JournalSend::of(&effects);
                    self.end_sends(traced, &sent, None);
                    sends.append(&mut sent);
                }
                refused_letters
            }
            Err(undone) => {
                self.end_sends(traced, &[], Some(&chain(&undone.error)));
                let plan = self.plan_without_effects(undone);
                let answered = context.settle_without_effects(plan).await;
                context.record_all(answered, &mut tally)?
            }
        };
        if !refused_letters.is_empty() {
            let mut plan = Vec::with_capacity(refused_letters.len());
            let without_dead_letters = QueueCapabilities {
                has_dead_letter_queue: false,
                ..context.queue.capabilities()
            };
            for (message, lease) in refused_letters {
                self.plan(message, lease, without_dead_letters, &mut plan);
            }
            let answered = context.settle_without_effects(plan).await;
            let refused_again = context.record_all(answered, &mut tally)?;
            assert!(
                refused_again.is_empty(),
                "a dead-letter queue refuses dead letters alone"
            );
        }
        self.end_settlement(settling, messages);
        Ok(AttemptEnd {
            back_in: tally.back_in,
            sends,
        })
    }

    fn plan_all<'a>(
        &self,
        messages: &'a mut [FinishedMessage],
        leases: Vec<Lease>,
        plan: &mut Vec<PlannedSettlement<'a>>,
    ) {
        let capabilities = self.context.queue.capabilities();
        for (message, lease) in messages.iter_mut().zip(leases) {
            self.plan(message, lease, capabilities, plan);
        }
    }

    /// Returns the call to which the next attempt at the same delivery gives a second opinion, if it does.
    fn first_call(&self, message: &FinishedMessage) -> Option<Box<FirstCall>> {
        if !matches!(message.outcome, AttemptOutcome::Disputed(_)) {
            return message.first_call.clone();
        }
        Some(Box::new(FirstCall {
            version: self.version.number,
            began: self.began,
            broke: message.outcome.is_break(),
            // Only of probes is more than breaks asked.
            is_probe: self.opinions == SecondOpinions::AllButReject,
            counts: false,
        }))
    }

    /// Adds the settlement of a message. The followers of a message that was not handled go before it, last first.
    fn plan<'a>(
        &self,
        message: &'a mut FinishedMessage,
        lease: Lease,
        capabilities: QueueCapabilities,
        plan: &mut Vec<PlannedSettlement<'a>>,
    ) {
        if matches!(
            message.outcome,
            AttemptOutcome::Conflict(_) | AttemptOutcome::Disputed(_)
        ) {
            let first_call = self.first_call(message);
            let delivery = message.delivery.take();
            message.again = delivery.map(|delivery| {
                Box::new(LeasedDelivery {
                    delivery: *delivery,
                    lease,
                    first_call,
                    is_repeat: true,
                })
            });
            return;
        }
        // Another consumer may hold the message: the lease is dropped, and nothing is settled.
        let Some(settlement) = self.settlement(message, capabilities) else {
            return;
        };
        if settlement != Settlement::Delete {
            for follower in std::mem::take(&mut message.followers).last_first() {
                plan.push(PlannedSettlement {
                    subject: SettledSubject::Follower,
                    settlement: follower_settlement(&settlement),
                    lease: follower.lease,
                });
            }
        }
        plan.push(PlannedSettlement {
            subject: SettledSubject::Message(message),
            settlement,
            lease,
        });
    }

    /// Returns the plan without the effects, after the queue has refused them and done nothing: the successes are failures.
    fn plan_without_effects<'a>(&self, undone: EffectsUndone<'a>) -> Vec<PlannedSettlement<'a>> {
        let capabilities = self.context.queue.capabilities();
        let refused = RefusedEffects::from(&undone.error);
        self.log_refused_effects(&refused);
        let mut plan = Vec::with_capacity(undone.plan.len());
        for planned in undone.plan {
            match planned.subject {
                SettledSubject::Message(message) if message.outcome == AttemptOutcome::Success => {
                    message.outcome = refused.outcome();
                    self.plan(message, planned.lease, capabilities, &mut plan);
                }
                SettledSubject::Message(_) | SettledSubject::Follower => plan.push(planned),
            }
        }
        plan
    }

    /// Returns how a message is settled in a queue that can do this.
    fn settlement(&self, message: &FinishedMessage, capabilities: QueueCapabilities) -> Option<Settlement> {
        let retry = &self.version.manifest.retry;
        let policy = SettlementPolicy {
            backoff: Backoff::new(retry.min, retry.max),
            has_dead_letter_queue: capabilities.has_dead_letter_queue,
            max_receives: capabilities.max_receives,
            counts_releases: capabilities.counts_releases,
            handler: &self.context.handler,
            component: &self.version.component.info.digest,
        };
        settlement(&message.outcome, message.receive_count, &policy, rand::random::<f64>())
    }
}
