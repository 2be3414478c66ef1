//! Who of a lane goes first.
//!
//! The head of a lane is its one message that is ready, in flight or waits for its retry; the others are held. A
//! message that has been received stays the head until it is gone; one that has not gives way to a message that
//! goes before it.

use super::{
    super::{
        clock::millis,
        flights::Flight,
        row::{Fault, Meta, QueueKey, State, Suspicion},
        rows::Rows,
        settings::Order,
    },
    Core,
};

/// How many rows one step of a long operation reads.
const STEP: usize = 256;

/// A message whose delivery has ended, still in the state "in flight".
#[derive(Debug)]
pub(super) struct Landed {
    pub(super) meta: Meta,
    /// Whether it has been its lane's head all the time. It has not if the lanes were derived anew meanwhile.
    pub(super) leads: bool,
}

impl<R: Rows> Core<R> {
    /// The state in which a message that is visible joins its lane.
    pub(super) fn claim(&mut self, meta: &Meta) -> Result<State, Fault> {
        let Some(lane) = &meta.lane else {
            return Ok(State::Ready);
        };
        let Some(head) = self.rows.head(meta.queue, lane)? else {
            return Ok(State::Ready);
        };
        if head.state == State::Ready && head.receive_count == 0 && meta.goes_before(&head) {
            self.change(head, State::Held)?;
            return Ok(State::Ready);
        }
        Ok(State::Held)
    }

    /// Makes a message visible that was not in its lane.
    pub(super) fn enter(&mut self, mut meta: Meta) -> Result<(), Fault> {
        let state = self.claim(&meta)?;
        meta.visible_at_ms = 0;
        self.change(meta, state)
    }

    /// Hands the lane that `gone` led to the next of it.
    pub(super) fn promote(&mut self, gone: &Meta) -> Result<(), Fault> {
        let Some(lane) = gone.lane.as_ref().filter(|_| gone.state.leads_lane()) else {
            return Ok(());
        };
        match self.rows.next_held(gone.queue, lane)? {
            Some(next) => self.change(next, State::Ready),
            None => Ok(()),
        }
    }

    /// Ends a delivery whose message stays in its queue.
    pub(super) fn land(&mut self, flight: Flight) -> Result<Landed, Fault> {
        let mut meta = flight.meta;
        self.end_flight(meta.seq);
        if meta.suspicion != Suspicion::None {
            meta.suspicion = Suspicion::None;
            let suspects = &mut self.queue_mut(meta.queue).tally.suspects;
            *suspects = suspects.saturating_sub(1);
        }
        if let Some(limit) = self.queue(meta.queue).settings.time_to_live {
            let queue = self.queue_mut(meta.queue);
            queue.aged_ms = queue.aged_ms.min(meta.queued_at_ms.saturating_add(millis(limit)));
        }
        let mut leads = true;
        if self.queue(meta.queue).relaned && meta.lane.is_none() {
            let group = self.rows.group(meta.seq)?;
            meta.lane = self.lane_for(meta.queue, group.as_deref());
            leads = meta.lane.is_none();
        }
        Ok(Landed { meta, leads })
    }

    /// Forgets a delivery, and wakes whoever waited for its end.
    pub(super) fn end_flight(&mut self, seq: u64) {
        self.flights.land(seq);
        if self.gate.suspect == Some(seq) {
            self.gate.suspect = None;
            self.wake_everybody_later();
        } else if self.flights.is_empty()
            && let Some(queue) = self.gate.waiting()
        {
            self.wake_later(queue);
        }
    }

    /// Makes a message visible again that was in flight.
    pub(super) fn come_back(&mut self, landed: Landed) -> Result<(), Fault> {
        let Landed { mut meta, leads } = landed;
        if !leads {
            return self.enter(meta);
        }
        meta.visible_at_ms = 0;
        if meta.receive_count == 0
            && let Some(lane) = &meta.lane
            && let Some(next) = self.rows.next_held(meta.queue, lane)?
            && next.goes_before(&meta)
        {
            self.change(meta, State::Held)?;
            return self.change(next, State::Ready);
        }
        self.change(meta, State::Ready)
    }

    /// Hides a message that was in flight until `visible_at_ms`; its lane waits for it.
    pub(super) fn hide(&mut self, landed: Landed, visible_at_ms: u64) -> Result<(), Fault> {
        let Landed { mut meta, leads } = landed;
        meta.visible_at_ms = visible_at_ms;
        let free = leads
            || match &meta.lane {
                Some(lane) => self.rows.head(meta.queue, lane)?.is_none(),
                None => true,
            };
        self.change(meta, if free { State::Retry } else { State::Delayed })
    }

    /// Derives the lanes of a queue anew, after its order was changed.
    pub(super) fn relane(&mut self, queue: QueueKey, order: Order) -> Result<(), Fault> {
        self.rows.set_order(queue, order)?;
        let state = self.queue_mut(queue);
        state.order = order;
        state.relaned = true;
        self.flights.leave_lanes(queue);
        let mut seq = 0;
        loop {
            let batch = self.rows.following(queue, seq, STEP)?;
            let Some(last) = batch.last() else { return Ok(()) };
            seq = last.seq;
            for meta in batch {
                self.relane_one(meta)?;
            }
        }
    }

    fn relane_one(&mut self, mut meta: Meta) -> Result<(), Fault> {
        let group = self.rows.group(meta.seq)?;
        meta.lane = self.lane_for(meta.queue, group.as_deref());
        match meta.state {
            State::Ready | State::Held => self.enter(meta),
            // Several of a new lane may wait for a retry. None of them may block the others.
            State::Delayed | State::Retry => self.change(meta, State::Delayed),
            State::Damaged => self.change(meta, State::Damaged),
            // It joins its lane when it comes back.
            State::InFlight => {
                meta.lane = None;
                self.rows.place(&meta)
            }
        }
    }
}
