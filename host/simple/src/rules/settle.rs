//! Extending and ending deliveries, with the sends and writes that belong to them.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    super::{
        clock::{StoreTime, millis},
        in_flight::InFlightDelivery,
        row::{QueueKey, SentDetails, StoreFault},
    },
    StoreRules,
    groups::EndedDelivery,
    send::SentBy,
};
use sandhog_queue::message::{MAX_DELAY, QueueName};
use sandhog_queue::{
    EffectSend, Effects, EffectsRefused, ExtendError, FailureRecord, Receipt, SendError, SendOrigin, SettleAnswers,
    SettleError, SettleRequest, Settlement,
};

impl StoreRules {
    /// Moves the deadlines of the deliveries of a queue whose receipts are valid.
    pub(crate) fn extend(
        &mut self,
        key: QueueKey,
        receipts: &[Receipt],
        by: Duration,
        now: StoreTime,
    ) -> Vec<Result<Instant, ExtendError>> {
        let deadline = now.instant + by.min(MAX_DELAY);
        let extend_one = |receipt: &Receipt| {
            let delivery = self.valid(key, receipt, now).ok_or(ExtendError::Expired)?;
            let seq = delivery.meta.seq;
            let is_earlier = deadline < delivery.deadline;
            self.in_flight.extend(seq, deadline);
            if is_earlier && self.isolation.isolated().is_some_and(|isolated| isolated.seq == seq) {
                self.wake_all_later();
            } else if is_earlier {
                self.wake_later(key);
            }
            Ok(deadline)
        };
        receipts.iter().map(extend_one).collect()
    }

    fn valid(&self, key: QueueKey, receipt: &Receipt, now: StoreTime) -> Option<&InFlightDelivery> {
        self.in_flight
            .valid(receipt, now.instant)
            .filter(|delivery| delivery.meta.queue == key)
    }

    /// Ends deliveries, sends and writes, or does nothing at all.
    pub(crate) fn settle(
        &mut self,
        key: QueueKey,
        settles: Vec<SettleRequest>,
        effects: Effects,
        now: StoreTime,
    ) -> Result<Result<SettleAnswers, EffectsRefused>, StoreFault> {
        if !effects.is_empty() {
            let (valid, expired): (Vec<_>, Vec<_>) = settles
                .iter()
                .filter(|settle| settle.settlement == Settlement::Delete)
                .partition(|settle| self.valid(key, &settle.receipt, now).is_some());
            // The effects belong to all of the deletions together, so with one of them expired they would happen twice.
            if !valid.is_empty() && !expired.is_empty() {
                return Ok(Err(EffectsRefused::Incomplete));
            }
            if !valid.is_empty()
                && let Err(refused) = self.make_happen(effects, now)?
            {
                return Ok(Err(refused));
            }
        }
        let mut answers = Vec::with_capacity(settles.len());
        for SettleRequest { receipt, settlement } in settles {
            answers.push(match self.valid(key, &receipt, now).cloned() {
                Some(delivery) => {
                    self.settle_one(delivery, settlement, now)?;
                    Ok(())
                }
                None => Err(SettleError::Expired),
            });
        }
        Ok(Ok(answers))
    }

    fn settle_one(
        &mut self,
        delivery: InFlightDelivery,
        settlement: Settlement,
        now: StoreTime,
    ) -> Result<(), StoreFault> {
        match settlement {
            Settlement::Delete => {
                self.remove_in_flight(delivery.meta.seq);
                self.remove(&delivery.meta)
            }
            Settlement::Retry { delay, failure } => {
                let mut ended = self.end_delivery(delivery)?;
                self.clear_suspicion(&mut ended.meta);
                if ended.meta.receive_count >= self.queue(ended.meta.queue).settings.max_receives.get() {
                    return self.dead_letter_exhausted(ended, failure, now);
                }
                self.rows.note(ended.meta.seq, &failure)?;
                if delay.is_zero() {
                    return self.return_to_queue(ended);
                }
                self.hide(ended, now.ms + millis(delay.min(MAX_DELAY)))
            }
            Settlement::DeadLetter { failure } => {
                let ended = self.end_delivery(delivery)?;
                self.dead_letter_ended(ended, failure, now)
            }
            Settlement::Release => {
                let mut ended = self.end_delivery(delivery)?;
                ended.meta.receive_count = ended.meta.receive_count.saturating_sub(1);
                self.return_to_queue(ended)
            }
        }
    }

    /// Moves a message to the dead letters whose last receive has failed. It would be put aside at its next receive, and need not wait for that.
    fn dead_letter_exhausted(
        &mut self,
        ended: EndedDelivery,
        failure: FailureRecord,
        now: StoreTime,
    ) -> Result<(), StoreFault> {
        let meta = &ended.meta;
        tracing::warn!(
            queue = %self.queue(meta.queue).name, seq = meta.seq, receive_count = meta.receive_count,
            kind = %failure.kind, reason = failure.reason, "a message was received too often"
        );
        self.dead_letter_ended(ended, failure, now)
    }

    fn dead_letter_ended(
        &mut self,
        mut ended: EndedDelivery,
        failure: FailureRecord,
        now: StoreTime,
    ) -> Result<(), StoreFault> {
        self.clear_suspicion(&mut ended.meta);
        self.move_to_dead_letters(ended, failure, now)
    }

    /// Releases deliveries whose receiver went away before it got them.
    pub(crate) fn release_undelivered(&mut self, receipts: &[Receipt]) -> Result<(), StoreFault> {
        let now = self.tick(self.latest);
        for receipt in receipts {
            if let Some(delivery) = self.in_flight.valid(receipt, now.instant).cloned() {
                self.settle_one(delivery, Settlement::Release, now)?;
            }
        }
        Ok(())
    }

    /// Sends and writes, or does nothing at all.
    pub(crate) fn make_happen(
        &mut self,
        effects: Effects,
        now: StoreTime,
    ) -> Result<Result<(), EffectsRefused>, StoreFault> {
        let Effects { sends, writes, origin } = effects;
        let sends: Vec<EffectSend> = sends.into_iter().map(|send| self.identified_send(send)).collect();
        if let Some((queue, error)) = self.refusal(&sends, now)? {
            let error = Box::new(error);
            return Ok(Err(EffectsRefused::SendRefused { queue, error }));
        }
        let plan = match self.plan_writes(writes)? {
            Ok(plan) => plan,
            Err(error) => return Ok(Err(EffectsRefused::WriteRefused(error))),
        };
        self.send_all(sends, origin.as_ref(), now)?;
        self.write_planned(&plan)?;
        Ok(Ok(()))
    }

    fn identified_send(&self, send: EffectSend) -> EffectSend {
        match self.names.get(&send.queue) {
            Some(key) => EffectSend {
                message: self.identified(*key, send.message),
                queue: send.queue,
            },
            None => send,
        }
    }

    /// Sends the messages that [`StoreRules::refusal`] does not refuse.
    fn send_all(
        &mut self,
        sends: Vec<EffectSend>,
        origin: Option<&SendOrigin>,
        now: StoreTime,
    ) -> Result<(), StoreFault> {
        let sender: Option<Arc<str>> = origin.map(|origin| origin.to_json().into());
        for (index, send) in sends.into_iter().enumerate() {
            if let Some(&destination) = self.names.get(&send.queue) {
                let sent_by = origin.map(|origin| SentBy {
                    id: Some(origin.ids.id(index)),
                    details: SentDetails {
                        parent: Some(origin.message.as_str().into()),
                        sender: sender.clone(),
                        ..SentDetails::default()
                    },
                });
                self.send_checked(destination, send.message, sent_by.unwrap_or_default(), now)?;
            }
        }
        Ok(())
    }

    /// Returns the first send that would be refused, and why.
    fn refusal(&mut self, sends: &[EffectSend], now: StoreTime) -> Result<Option<(QueueName, SendError)>, StoreFault> {
        let mut new: HashMap<QueueKey, u64> = HashMap::new();
        let mut ids = HashSet::new();
        for send in sends {
            let refuse = |error| Ok(Some((send.queue.clone(), error)));
            let Some(key) = self
                .names
                .get(&send.queue)
                .copied()
                .filter(|key| self.queue(*key).is_declared())
            else {
                return refuse(SendError::NoSuchQueue(send.queue.clone()));
            };
            if let Some(id) = self.deduplication_key(key, &send.message)
                && (self.rows.first_with(key, id, now.ms)?.is_some() || !ids.insert((key, id)))
            {
                continue;
            }
            let new = new.entry(key).or_default();
            *new += 1;
            if let Some(limit) = self.overfull(key, *new, now)? {
                return refuse(SendError::Full {
                    queue: send.queue.clone(),
                    limit,
                });
            }
        }
        Ok(None)
    }
}
