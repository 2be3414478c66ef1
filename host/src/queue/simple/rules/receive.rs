//! Handing messages out.

use std::num::NonZeroU32;

use tokio::time::Instant;

use super::{
    super::{
        super::{Delivery, FailureKind, FailureRecord},
        clock::Now,
        row::{Content, Fault, Fetched, Meta, QueueKey, State, Suspicion},
        rows::Rows,
    },
    Core,
};
use crate::message::MAX_DELAY;

/// How many messages one receive may discard or bury on its way to one that it can hand out.
const ASIDE: usize = 256;

/// The answer to one receive.
#[derive(Debug, Default)]
pub(in super::super) struct Received {
    /// In order.
    pub(in super::super) deliveries: Vec<Delivery>,
    /// If there are none: when to ask again at the latest, even if nobody wakes the receiver.
    pub(in super::super) again: Option<Instant>,
}

/// A receive hands out no more once it has so many bytes of bodies, so that it stays in bounds whatever was asked for.
const RECEIVE_BYTES: usize = 16 * 1024 * 1024;
/// How many rows are read at a time.
const RECEIVE_STEP: usize = 64;

impl<R: Rows> Core<R> {
    /// Hands out at most `max` messages.
    pub(in super::super) fn receive(&mut self, key: QueueKey, max: usize, now: Now) -> Result<Received, Fault> {
        let more = self.tend(key, now)?;
        self.forget_lost_suspect(now);
        if let Some(again) = self.closed_until(key, now) {
            return Ok(Received {
                deliveries: Vec::new(),
                again: Some(again),
            });
        }
        if self.queue(key).tally.suspects > 0
            && let Some(received) = self.receive_suspect(key, now)?
        {
            return Ok(received);
        }
        let (deliveries, left) = self.receive_ordinary(key, max, now)?;
        let again = deliveries.is_empty().then(|| {
            if more || left {
                now.instant
            } else {
                self.next_change(key, now)
            }
        });
        Ok(Received { deliveries, again })
    }

    fn receive_ordinary(&mut self, key: QueueKey, max: usize, now: Now) -> Result<(Vec<Delivery>, bool), Fault> {
        let mut deliveries = Vec::new();
        let mut aside = 0;
        let mut bytes = 0;
        while deliveries.len() < max && bytes < RECEIVE_BYTES {
            if aside >= ASIDE {
                return Ok((deliveries, true));
            }
            // Once one was put aside, what was read after it is stale: then one at a time, or bodies are read in vain.
            let step = if aside == 0 { RECEIVE_STEP } else { 1 };
            let batch = self.rows.ready(key, (max - deliveries.len()).min(step))?;
            if batch.is_empty() {
                break;
            }
            for fetched in batch {
                let Some((meta, content)) = self.judge(fetched, now)? else {
                    // Its lane may have given way to a message that goes before the rest of the batch.
                    aside += 1;
                    break;
                };
                let delivery = self.hand_out(meta, content, now)?;
                bytes += delivery.message.body.len();
                deliveries.push(delivery);
            }
        }
        Ok((deliveries, false))
    }

    /// Hands out one suspect if there is one and it may run. `None`: the queue has no suspect that is ready.
    fn receive_suspect(&mut self, key: QueueKey, now: Now) -> Result<Option<Received>, Fault> {
        for _ in 0..ASIDE {
            let Some(fetched) = self.rows.ready_suspect(key)? else {
                return Ok(None);
            };
            let Some((meta, content)) = self.judge(fetched, now)? else {
                continue;
            };
            self.end_visibility_everywhere(now)?;
            if !self.flights.is_empty()
                && let Some(again) = self.gate.wait(key, now.instant)
            {
                return Ok(Some(Received {
                    deliveries: Vec::new(),
                    again: Some(again),
                }));
            }
            self.gate.launch(meta.seq);
            let delivery = self.hand_out(meta, content, now)?;
            return Ok(Some(Received {
                deliveries: vec![delivery],
                again: None,
            }));
        }
        Ok(Some(Received {
            deliveries: Vec::new(),
            again: Some(now.instant),
        }))
    }

    /// A suspect whose visibility timeout ran out blocks nobody, even if nobody tends its queue.
    fn forget_lost_suspect(&mut self, now: Now) {
        let flight = self.gate.suspect.and_then(|seq| self.flights.get(seq));
        if flight.is_none_or(|flight| flight.deadline <= now.instant) {
            self.gate.suspect = None;
        }
    }

    fn closed_until(&mut self, key: QueueKey, now: Now) -> Option<Instant> {
        let suspect = self
            .gate
            .suspect
            .and_then(|seq| self.flights.get(seq))
            .map(|flight| flight.deadline);
        suspect.or_else(|| self.gate.closed_for(key, now.instant))
    }

    /// When a receive that found nothing may find something though nobody wakes it.
    fn next_change(&self, key: QueueKey, now: Now) -> Instant {
        let queue = self.queue(key);
        // Whatever is taken from now on is hidden for at least so long; and a receive that ends earlier asks again.
        let mut next = now.instant + queue.settings.visibility_timeout.min(MAX_DELAY);
        if queue.due_ms != u64::MAX {
            next = next.min(now.instant_of(queue.due_ms));
        }
        if let Some((deadline, _)) = self.flights.first_deadline(key) {
            next = next.min(deadline);
        }
        next
    }

    /// Lets a message pass that may be handed out, and puts any other aside.
    fn judge(&mut self, fetched: Fetched, now: Now) -> Result<Option<(Meta, Content)>, Fault> {
        let Fetched { meta, content } = fetched;
        let content = match content {
            Ok(content) => content,
            Err(damage) => {
                self.put_away(meta, &damage)?;
                return Ok(None);
            }
        };
        if self.is_aged(&meta, now) {
            tracing::debug!(queue = %self.queue(meta.queue).name, id = %content.message.id, "discarded a message past its time to live");
            self.remove(&meta)?;
            return Ok(None);
        }
        let max_receives = self.queue(meta.queue).settings.max_receives.get();
        if meta.receive_count >= max_receives && meta.suspicion != Suspicion::Shared {
            let failure = last_failure(&meta, &content);
            tracing::warn!(
                queue = %self.queue(meta.queue).name, id = %content.message.id, receive_count = meta.receive_count,
                kind = %failure.kind, reason = failure.reason, "a message was received too often"
            );
            self.bury(&meta, failure, now)?;
            return Ok(None);
        }
        Ok(Some((meta, content)))
    }

    /// Sets a message apart whose stored form is damaged, so that it is neither lost nor in the way.
    pub(super) fn put_away(&mut self, mut meta: Meta, damage: &str) -> Result<(), Fault> {
        tracing::error!(queue = %self.queue(meta.queue).name, seq = meta.seq, damage, "a stored message is damaged: it is kept and not delivered");
        if meta.suspicion != Suspicion::None {
            meta.suspicion = Suspicion::None;
            super::subtract(&mut self.queue_mut(meta.queue).tally.suspects);
        }
        self.change(meta.clone(), State::Damaged)?;
        self.promote(&meta)
    }

    fn hand_out(&mut self, mut meta: Meta, content: Content, now: Now) -> Result<Delivery, Fault> {
        self.queue_mut(meta.queue)
            .tally
            .move_between(meta.state, State::InFlight);
        meta.state = State::InFlight;
        meta.receive_count = meta.receive_count.saturating_add(1);
        self.rows.take(&meta)?;
        let receive_count = NonZeroU32::new(meta.receive_count).unwrap_or(NonZeroU32::MAX);
        let deadline = now.instant + self.queue(meta.queue).settings.visibility_timeout.min(MAX_DELAY);
        let receipt = self.flights.launch(meta, deadline);
        Ok(Delivery {
            message: content.message,
            receipt,
            receive_count,
            deadline,
        })
    }
}

/// What is known of why a message was never settled for good.
fn last_failure(meta: &Meta, content: &Content) -> FailureRecord {
    let stopped = meta.suspicion == Suspicion::Alone;
    match &content.failure {
        Some(failure) if !stopped => failure.clone(),
        _ => FailureRecord {
            kind: FailureKind::HostStopped,
            reason: format!(
                "the host stopped {} times while this message was in flight",
                meta.receive_count
            ),
            handler: String::new(),
            component: String::new(),
        },
    }
}
