//! Parked receives: those that found nothing and wait with the thread for a message, which is handed out in the transaction that
//! brings it. One commit, rather than two, before its handler starts.
//!
//! The store's clock is not this thread's, so the thread does not wait for a moment: it tells the caller when a message may become
//! visible by itself, and the caller takes the receive away then.

use std::{mem, sync::Arc};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{
    super::{
        operation::{CommandKind, ReceiveMessages},
        row::{FaultKind, QueueKey, StoreFault},
        rules::{ReceiveAnswer, StoreRules},
    },
    MAX_BATCH_BYTES, Writer,
    command::{
        EmptyReceive, PendingCommand, ReplyGuard, ReplySender, TransactionFailure, UndeliveredReceipts, send_reply,
    },
};
use sandhog_queue::QueueError;
use sandhog_queue::message::QueueName;

/// The parked receives, oldest first. Bounded by the receives whose callers wait: those that were given up go with the next
/// transaction.
#[derive(Default)]
pub(crate) struct ParkedReceives {
    receives: Vec<(QueueKey, Box<dyn PendingCommand>)>,
    /// Queues that have changed since the receives parked on them were applied.
    woken: Vec<QueueKey>,
}

impl ParkedReceives {
    pub(crate) fn add(&mut self, queue: QueueKey, receive: Box<dyn PendingCommand>) {
        self.receives.push((queue, receive));
    }

    pub(crate) fn forget_given_up(&mut self) {
        self.receives.retain(|(_, receive)| receive.is_awaited());
    }

    /// Returns whether some are to be applied though no command came.
    pub(crate) fn is_woken(&self) -> bool {
        !self.woken.is_empty()
    }

    /// Takes those away that are parked now.
    pub(crate) fn take_all(&mut self) -> Vec<(QueueKey, Box<dyn PendingCommand>)> {
        mem::take(&mut self.receives)
    }

    /// Adds what was taken away behind those that are parked now.
    pub(crate) fn append(&mut self, mut receives: Vec<(QueueKey, Box<dyn PendingCommand>)>) {
        self.receives.append(&mut receives);
    }

    /// Applies those whose queues have changed, oldest first. Once one has found nothing the others of its queue are not applied, so that a
    /// message does not cost a look for each that waits. Receives beyond the bytes of one transaction are left for the next.
    pub(crate) fn apply(&mut self, rules: &mut StoreRules, retried: &mut RetriedReceives) -> Result<(), StoreFault> {
        retried.woken_before = mem::take(&mut self.woken);
        let mut woken = retried.woken_before.clone();
        woken.extend(rules.take_woken());
        let mut room = MAX_BATCH_BYTES;
        let mut done = Ok(());
        let mut empty: Vec<EmptyReceive> = Vec::new();
        for (queue, mut receive) in mem::take(&mut self.receives) {
            let finds_nothing = empty.iter().any(|empty| receive.stays_parked(empty));
            let is_woken = woken.contains(&queue) && !finds_nothing;
            if is_woken && room > 0 && done.is_ok() {
                done = receive.apply(rules);
                empty.extend(receive.found_nothing());
                room = room.saturating_sub(receive.handed_out_bytes());
                retried.receives.push((queue, receive));
                continue;
            }
            if is_woken {
                self.woken.push(queue);
            }
            self.receives.push((queue, receive));
        }
        done
    }

    /// Undoes [`ParkedReceives::apply`]: the transaction did not happen. The messages that it would have brought have not come, so the
    /// receives that it woke stay parked. Those that an earlier transaction woke fail, since nothing wakes them again.
    pub(crate) fn undo(&mut self, mut retried: RetriedReceives, failure: &TransactionFailure) {
        // Those that the transaction left for the next.
        let mut woken = mem::take(&mut self.woken);
        if retried.receives.is_empty() {
            retried.woken_before.append(&mut woken);
        }
        for (_, receive) in &mut retried.receives {
            receive.undo();
        }
        retried.receives.append(&mut self.receives);
        for (queue, receive) in retried.receives {
            if failure.kind == FaultKind::Final || retried.woken_before.contains(&queue) {
                receive.fail(failure);
            } else {
                self.receives.push((queue, receive));
            }
        }
    }

    /// Notes which queues have changed since [`ParkedReceives::apply`].
    pub(crate) fn wake(&mut self, rules: &mut StoreRules) {
        let woken = rules.take_woken().into_iter();
        let is_waited_for = |key: &QueueKey| self.receives.iter().any(|(queue, _)| queue == key);
        self.woken.extend(woken.filter(is_waited_for));
    }
}

/// The parked receives that were applied in the transaction under way.
#[derive(Default)]
pub(crate) struct RetriedReceives {
    receives: Vec<(QueueKey, Box<dyn PendingCommand>)>,
    /// The queues that an earlier transaction had changed.
    woken_before: Vec<QueueKey>,
}

impl RetriedReceives {
    pub(crate) fn into_commands(self) -> impl Iterator<Item = Box<dyn PendingCommand>> {
        self.receives.into_iter().map(|(_, receive)| receive)
    }
}

/// A receive that parks if there is nothing to hand out.
struct PendingReceive {
    receive: ReceiveMessages,
    queue: QueueName,
    asked_at: Instant,
    /// The moment for which the receive was applied last.
    applied_at: Instant,
    answer: Option<ReceiveAnswer>,
    reply: ReplySender<ReceiveAnswer>,
    /// Tells the caller once, when the receive parks, at which moment a message may become visible by itself. `None` if the receive may
    /// not park, or has told.
    tell_parked: Option<oneshot::Sender<Instant>>,
    /// The moment that the caller was told.
    told: Option<Instant>,
}

impl PendingCommand for PendingReceive {
    fn is_awaited(&self) -> bool {
        !self.reply.is_closed()
    }

    fn weight(&self) -> usize {
        self.receive.weight()
    }

    fn kind(&self) -> CommandKind {
        CommandKind::Receive
    }

    fn apply(&mut self, rules: &mut StoreRules) -> Result<(), StoreFault> {
        // A receive that was parked was asked for long ago: the rules go on from the moment of the last command.
        let now = rules.tick(self.asked_at);
        self.applied_at = now.instant;
        self.answer = Some(self.receive.apply(rules, now)?);
        Ok(())
    }

    fn handed_out_bytes(&self) -> usize {
        let deliveries = self.answer.iter().flat_map(|answer| &answer.deliveries);
        deliveries.map(|received| received.delivery.message.size()).sum()
    }

    fn parks_on(&mut self) -> Option<QueueKey> {
        let answer = self.answer.as_ref()?;
        // Without a moment, or with one that has come, a message may be there already.
        let again = answer.again.filter(|again| *again > self.applied_at)?;
        match self.told {
            None => {
                self.tell_parked.take()?.send(again).ok()?;
                self.told = Some(again);
            }
            // The caller waits until a later moment, so it has to be answered.
            Some(told) if again < told => return None,
            Some(_) => {}
        }
        Some(self.receive.queue)
    }

    fn found_nothing(&self) -> Option<EmptyReceive> {
        let answer = self.answer.as_ref()?;
        let again = answer.again.filter(|again| *again > self.applied_at)?;
        Some(EmptyReceive {
            queue: self.receive.queue,
            outside: self.receive.terms.outside,
            again,
        })
    }

    fn stays_parked(&self, empty: &EmptyReceive) -> bool {
        let is_alike = self.receive.queue == empty.queue && self.receive.terms.outside == empty.outside;
        // The caller has to be answered if it waits until a later moment.
        is_alike && self.told.is_some_and(|told| told <= empty.again)
    }

    fn undo(&mut self) {
        self.answer = None;
        self.receive.demand.open_again();
    }

    fn answer(self: Box<Self>, undelivered: &Arc<UndeliveredReceipts>) {
        let deliveries = self.answer.iter().flat_map(|answer| &answer.deliveries);
        let receipts = deliveries.map(|received| received.delivery.receipt.clone()).collect();
        send_reply(self.reply, self.answer, receipts, undelivered);
    }

    fn fail(self: Box<Self>, failure: &TransactionFailure) {
        drop(self.reply.send(Err(failure.error_for(&self.queue))));
    }
}

impl Writer {
    /// Receives the messages that are there, or those that come until `end`. After an answer without deliveries before `end`, ask again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives back the messages that were handed out to it.
    pub(crate) async fn receive(
        &self,
        queue: &QueueName,
        receive: ReceiveMessages,
        end: Instant,
    ) -> Result<ReceiveAnswer, QueueError> {
        let (reply, mut answer) = oneshot::channel();
        let (tell_parked, parked) = oneshot::channel();
        let now = Instant::now();
        let pending = PendingReceive {
            receive,
            queue: queue.clone(),
            asked_at: now,
            applied_at: now,
            answer: None,
            reply,
            tell_parked: (now < end).then_some(tell_parked),
            told: None,
        };
        self.send(queue, Box::new(pending)).await?;
        let accept = |answered: Result<Result<ReplyGuard<ReceiveAnswer>, QueueError>, _>| {
            let guard = answered.map_err(|_closed| self.closed(queue))??;
            guard.accept().ok_or_else(|| self.closed(queue))
        };
        // The sender is dropped if the receive does not park.
        let Ok(again) = parked.await else {
            return accept(answer.await);
        };
        match timeout_at(again.min(end), &mut answer).await {
            Ok(answered) => accept(answered),
            Err(_late) => {
                answer.close();
                // The answer may have come at the last moment.
                match answer.try_recv() {
                    Ok(answered) => accept(Ok(answered)),
                    Err(_none) => Ok(ReceiveAnswer::default()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        ProcessedMessageSettings, memory::MemoryRows, receive_terms::ReceiveTerms, rules::StoreRules as AnyRules,
        settings::Settings,
    };
    use sandhog_queue::{ReceiveDemand, machine_clock::MachineClock, message::Outgoing};

    const WAITING: usize = 100;
    const MESSAGES: usize = 2;

    /// Parks receives of one message whose callers wait for `told`, sends messages, and returns how many receives were applied.
    fn applied(told: Duration) -> usize {
        let processed = ProcessedMessageSettings::default();
        let mut rules = AnyRules::new(MemoryRows::default(), false, processed, MachineClock::default());
        let rules = rules.with_any_rows();
        let name = QueueName::new("orders").unwrap();
        let key = rules.declare(&name, Settings::defaults(&name)).unwrap().key;
        let now = Instant::now();
        let mut parked = ParkedReceives::default();
        let mut answers = Vec::new();
        for _ in 0..WAITING {
            let (reply, answer) = oneshot::channel();
            answers.push(answer);
            let receive = PendingReceive {
                receive: ReceiveMessages {
                    queue: key,
                    demand: ReceiveDemand::new(1),
                    terms: ReceiveTerms::OUTSIDE,
                },
                queue: name.clone(),
                asked_at: now,
                applied_at: now,
                answer: None,
                reply,
                tell_parked: None,
                told: Some(now + told),
            };
            parked.add(key, Box::new(receive));
        }
        for _ in 0..MESSAGES {
            let at = rules.tick(now);
            rules
                .send(key, Outgoing::new("a").check().unwrap(), at)
                .unwrap()
                .unwrap();
        }
        let mut retried = RetriedReceives::default();
        parked.apply(rules, &mut retried).unwrap();
        assert_eq!(parked.receives.len() + retried.receives.len(), WAITING);
        retried.receives.len()
    }

    #[test]
    fn a_receive_that_finds_nothing_speaks_for_those_that_came_later() {
        assert_eq!(applied(Duration::from_secs(1)), MESSAGES + 1);
    }

    #[test]
    fn a_receive_whose_caller_waits_for_too_long_is_applied_although_others_found_nothing() {
        assert_eq!(applied(Duration::from_hours(24)), WAITING);
    }
}
