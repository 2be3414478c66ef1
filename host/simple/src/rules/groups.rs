//! Which message of a group goes first.
//!
//! The head of a group is its one message that is ready, in flight or waits for its retry; the others are held. A
//! message that has been received stays the head until it is gone; one that has not gives way to a message that
//! goes before it. A receive that takes whole groups hands out messages behind the head too: these are in flight behind it,
//! and the first of those that stand behind a head that is gone leads the group next, wherever it is. But no message that was never
//! received takes the lead over one in flight because of its priority.

use super::{
    super::{
        clock::millis,
        in_flight::InFlightDelivery,
        row::{HandedOut, MessageMeta, MessageState, PoisonSuspicion, QueueKey, StoreFault},
        settings::Order,
    },
    StoreRules,
};
use sandhog_queue::message::MAX_DELAY;

/// The number of rows that one step of a long operation reads.
const STEP: usize = 256;

/// A message whose delivery has ended, and whose row is still in the state "in flight".
#[derive(Debug)]
pub(crate) struct EndedDelivery {
    pub(crate) meta: MessageMeta,
    /// The message has been its group's head all the time. It has not if the groups were derived anew meanwhile.
    pub(crate) leads: bool,
}

impl StoreRules {
    /// Returns the state in which a visible message joins its group.
    pub(crate) fn claim(&mut self, meta: &MessageMeta) -> Result<MessageState, StoreFault> {
        let Some(group) = &meta.group else {
            return Ok(MessageState::Ready);
        };
        let Some(head) = self.rows.head(meta.queue, group)? else {
            return Ok(MessageState::Ready);
        };
        if head.state == MessageState::Ready
            && head.receive_count == 0
            && meta.goes_before(&head)
            && !self.would_overtake(meta)
        {
            self.change(head, MessageState::Held)?;
            return Ok(MessageState::Ready);
        }
        Ok(MessageState::Held)
    }

    /// Makes a message visible that was not in its group.
    pub(crate) fn enter(&mut self, mut meta: MessageMeta) -> Result<(), StoreFault> {
        let state = self.claim(&meta)?;
        meta.visible_at_ms = 0;
        self.change(meta, state)
    }

    /// Makes the next message of a group its head, if the message that is `gone` led the group.
    pub(crate) fn promote(&mut self, gone: &MessageMeta) -> Result<(), StoreFault> {
        let Some(group) = gone.group.as_ref().filter(|_| gone.state.leads_group()) else {
            return Ok(());
        };
        let Some(first) = self.rows.behind(gone.queue, group, 1)?.pop() else {
            return Ok(());
        };
        let next = if self.would_overtake(&first)
            && let Some(seq) = self.in_flight.first_behind(gone.queue, group)
        {
            self.rows.meta(seq)?
        } else {
            Some(first)
        };
        next.map_or(Ok(()), |next| self.lead(next))
    }

    /// Returns whether a message that was never received would be handed out beside one of its group in flight, if it led the group,
    /// only because of its priority.
    pub(crate) fn would_overtake(&self, meta: &MessageMeta) -> bool {
        let Some(group) = meta.group.as_ref().filter(|_| meta.receive_count == 0) else {
            return false;
        };
        let lowest = self.in_flight.lowest_priority_behind(meta.queue, group);
        lowest.is_some_and(|lowest| lowest < meta.priority)
    }

    /// Makes a message that stood behind the head of its group the head.
    fn lead(&mut self, mut next: MessageMeta) -> Result<(), StoreFault> {
        if next.state == MessageState::InFlightBehind {
            self.in_flight.lead(next.seq);
            return self.change(next, MessageState::InFlight);
        }
        let now_ms = self.tick(self.latest).ms;
        if next.visible_at_ms > now_ms {
            // The clocks of earlier runs may have disagreed, as with any other retry.
            next.visible_at_ms = next.visible_at_ms.min(now_ms + millis(MAX_DELAY));
            return self.change(next, MessageState::Retry);
        }
        next.visible_at_ms = 0;
        self.change(next, MessageState::Ready)
    }

    /// Notes that a message does no harm. It gets back the receives that crashes of the host took.
    pub(crate) fn clear_suspicion(&mut self, meta: &mut MessageMeta) {
        if !meta.suspicion.is_raised() {
            return;
        }
        meta.receive_count = meta.receive_count.saturating_sub(meta.suspicion.beside_others);
        meta.suspicion = PoisonSuspicion::NONE;
        super::subtract(&mut self.queue_mut(meta.queue).tally.suspects);
    }

    /// Ends a delivery whose message stays in its queue, and stays as suspect as it was.
    pub(crate) fn end_delivery(&mut self, delivery: InFlightDelivery) -> Result<EndedDelivery, StoreFault> {
        self.end_isolation()?;
        // What was outside of the host has shown nothing.
        let cleared = self
            .in_flight
            .get(delivery.meta.seq)
            .is_some_and(|delivery| delivery.is_cleared && !delivery.meta.is_outside());
        let mut meta = delivery.meta;
        self.remove_in_flight(meta.seq);
        if cleared {
            self.clear_suspicion(&mut meta);
        }
        if let Some(limit) = self.queue(meta.queue).settings.time_to_live {
            let queue = self.queue_mut(meta.queue);
            queue.aged_ms = queue.aged_ms.min(meta.queued_at_ms.saturating_add(millis(limit)));
        }
        let mut leads = meta.state.leads_group();
        if self.queue(meta.queue).regrouped && meta.group.is_none() {
            let group_id = self.rows.group_id(meta.seq)?;
            meta.group = self.group_for(meta.queue, group_id.as_deref());
            leads = meta.group.is_none();
        }
        Ok(EndedDelivery { meta, leads })
    }

    /// Ends a delivery whose visibility timeout ran out.
    pub(crate) fn end_expired(&mut self, delivery: InFlightDelivery) -> Result<(), StoreFault> {
        // The message was handed out to see whether it does harm, and did none.
        let excused = delivery.meta.suspicion.excuses();
        self.in_flight.note_lapse(&delivery);
        let mut ended = self.end_delivery(delivery)?;
        ended.meta.receive_count = ended.meta.receive_count.saturating_sub(u32::from(excused));
        self.clear_suspicion(&mut ended.meta);
        self.return_to_queue(ended)
    }

    /// Ends an isolation whose bound is over, or whose visibility timeout ran out. A suspect that has lasted for its bound is none any
    /// more.
    pub(crate) fn end_isolation(&mut self) -> Result<(), StoreFault> {
        let now = self.latest;
        let Some(isolated) = self.isolation.isolated() else {
            return Ok(());
        };
        let delivery = self
            .in_flight
            .get(isolated.seq)
            .filter(|delivery| delivery.deadline > now);
        let Some(mut delivery) = delivery.cloned() else {
            self.isolation.end(isolated.seq, now);
            // The deadline may have been moved, so a receive may wait for a later one.
            self.wake_all_later();
            return Ok(());
        };
        if isolated.until > now {
            return Ok(());
        }
        tracing::info!(
            queue = %self.queue(delivery.meta.queue).name, seq = isolated.seq,
            "a message that may have ended the host has run alone for long enough: it goes on beside the others"
        );
        // The row stays suspect until it is settled. If the message ends the host yet, it is alone for longer the next time.
        delivery.meta.visible_at_ms = HandedOut::Plainly.number();
        self.rows.place(&delivery.meta)?;
        self.in_flight.clear(delivery);
        self.isolation.outlast(isolated.seq, now);
        self.wake_all_later();
        Ok(())
    }

    /// Forgets a delivery, and wakes the receives that waited for its end.
    pub(crate) fn remove_in_flight(&mut self, seq: u64) {
        self.in_flight.remove(seq);
        if self.isolation.end(seq, self.latest) {
            self.wake_all_later();
        } else if self.in_flight.is_quiet()
            && let Some(queue) = self.isolation.waiting()
        {
            self.wake_later(queue);
        }
        self.shared_isolation.publish(&self.isolation);
    }

    /// Makes a message visible again that was in flight.
    pub(crate) fn return_to_queue(&mut self, ended: EndedDelivery) -> Result<(), StoreFault> {
        let EndedDelivery { mut meta, leads } = ended;
        if !leads {
            return self.enter(meta);
        }
        meta.visible_at_ms = 0;
        if meta.receive_count == 0
            && let Some(group) = &meta.group
            && let Some(next) = self.rows.behind(meta.queue, group, 1)?.pop()
            && next.goes_before(&meta)
            && !self.would_overtake(&next)
        {
            self.change(meta, MessageState::Held)?;
            return self.lead(next);
        }
        self.change(meta, MessageState::Ready)
    }

    /// Hides a message that was in flight until `visible_at_ms`; its group waits for it.
    pub(crate) fn hide(&mut self, ended: EndedDelivery, visible_at_ms: u64) -> Result<(), StoreFault> {
        let EndedDelivery { mut meta, leads } = ended;
        meta.visible_at_ms = visible_at_ms;
        if meta.state == MessageState::InFlightBehind {
            // Those behind it must not overtake it: its turn comes first, and then it waits for what is left of the time.
            return self.change(meta, MessageState::Held);
        }
        let free = leads
            || match &meta.group {
                Some(group) => self.rows.head(meta.queue, group)?.is_none(),
                None => true,
            };
        self.change(
            meta,
            if free {
                MessageState::Retry
            } else {
                MessageState::Delayed
            },
        )
    }

    /// Derives the groups of a queue anew, after its order was changed.
    pub(crate) fn regroup(&mut self, queue: QueueKey, order: Order) -> Result<(), StoreFault> {
        self.rows.set_order(queue, order)?;
        let last = self.last_seq;
        let state = self.queue_mut(queue);
        state.order = order;
        state.regrouped = true;
        state.regrouping = Some((0, last));
        for mut behind in self.in_flight.leave_groups(queue) {
            behind.group = None;
            self.change(behind, MessageState::InFlight)?;
        }
        // On disk, where a crash may come in between, this is one transaction. In memory it is done step by step, so that no caller waits for all
        // of it.
        while self.saved.is_some() && self.regroup_some(queue)? {}
        Ok(())
    }

    /// Derives the groups of some messages anew, if that is under way. Returns whether it is still under way.
    pub(crate) fn regroup_some(&mut self, queue: QueueKey) -> Result<bool, StoreFault> {
        let Some((seq, last)) = self.queue(queue).regrouping else {
            return Ok(false);
        };
        let batch = self.rows.following(queue, seq, STEP)?;
        let next = batch.last().filter(|latest| latest.seq < last);
        let regrouping = next.map(|latest| (latest.seq, last));
        for meta in batch.into_iter().filter(|meta| meta.seq <= last) {
            self.regroup_one(meta.seq)?;
        }
        self.queue_mut(queue).regrouping = regrouping;
        if regrouping.is_none() {
            self.wake_later(queue);
        }
        Ok(regrouping.is_some())
    }

    fn regroup_one(&mut self, seq: u64) -> Result<(), StoreFault> {
        // Read as it is by now, because the message before it may have taken its place.
        let Some(mut meta) = self.rows.meta(seq)? else {
            return Ok(());
        };
        let group_id = self.rows.group_id(meta.seq)?;
        let group = self.group_for(meta.queue, group_id.as_deref());
        if meta.group == group && !meta.state.is_in_flight() {
            // It joined its group when it came back.
            return Ok(());
        }
        meta.group = group;
        match meta.state {
            MessageState::Ready | MessageState::Held if meta.visible_at_ms <= self.tick(self.latest).ms => {
                self.enter(meta)
            }
            // Several of a new group may wait for a retry. None of them may block the others.
            MessageState::Ready | MessageState::Held | MessageState::Delayed | MessageState::Retry => {
                self.change(meta, MessageState::Delayed)
            }
            MessageState::Damaged => self.change(meta, MessageState::Damaged),
            // It joins its group when it comes back.
            MessageState::InFlight | MessageState::InFlightBehind => {
                meta.group = None;
                self.change(meta, MessageState::InFlight)
            }
        }
    }
}
