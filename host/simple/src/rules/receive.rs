//! Handing messages out.

use std::{num::NonZeroU32, time::Duration};

use tokio::time::Instant;

use super::{
    super::{
        clock::StoreTime,
        row::{HandedOut, MessageContent, MessageMeta, MessageState, QueueKey, StoreFault, StoredMessage},
        rows::SuspectFilter,
    },
    StoreRules,
    groups::EndedDelivery,
};
use sandhog_queue::message::MAX_DELAY;
use sandhog_queue::{Delivery, DeliveryLease, FailureKind, FailureRecord};

/// The number of messages that one receive may put aside (remove, dead-letter or mark as damaged) on its way to one that it can hand
/// out.
const ASIDE: usize = 256;

/// The answer to a receive.
#[derive(Debug, Default)]
pub(crate) struct ReceiveAnswer {
    /// In the order in which they were handed out.
    pub(crate) deliveries: Vec<Delivery>,
    /// If there are no deliveries: when to ask again at the latest, even if the receiver is not woken.
    pub(crate) again: Option<Instant>,
}

/// A receive hands out no further message once it has this many bytes of bodies, so that it stays in bounds whatever was asked for.
const RECEIVE_BYTES: usize = 16 * 1024 * 1024;
/// A receive that waits for a delay asks again at least this often: its timer stands still while the machine sleeps.
const NOTICE_SLEEP: Duration = Duration::from_secs(10);
/// The number of rows that are read at a time.
const RECEIVE_STEP: usize = 64;

impl StoreRules {
    /// Hands out at most `max` messages.
    pub(crate) fn receive(&mut self, key: QueueKey, max: usize, now: StoreTime) -> Result<ReceiveAnswer, StoreFault> {
        let received = self.receive_in_turn(key, max, now);
        self.shared_isolation.publish(&self.isolation);
        received
    }

    fn receive_in_turn(&mut self, key: QueueKey, max: usize, now: StoreTime) -> Result<ReceiveAnswer, StoreFault> {
        if self.regroup_some(key)? {
            return Ok(ReceiveAnswer {
                deliveries: Vec::new(),
                again: Some(now.instant),
            });
        }
        let more = self.expire(key, now)?;
        self.end_isolation()?;
        if let Some(again) = self.closed_until(key, now) {
            self.note_miss(key)?;
            return Ok(ReceiveAnswer {
                deliveries: Vec::new(),
                again: Some(again),
            });
        }
        if self.queue(key).tally.suspects > 0
            && self.isolation.open_until(now.instant).is_none()
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
        Ok(ReceiveAnswer { deliveries, again })
    }

    fn receive_ordinary(
        &mut self,
        key: QueueKey,
        max: usize,
        now: StoreTime,
    ) -> Result<(Vec<Delivery>, bool), StoreFault> {
        let mut deliveries = Vec::new();
        let mut aside = 0;
        let mut bytes = 0;
        while deliveries.len() < max && bytes < RECEIVE_BYTES {
            if aside >= ASIDE {
                return Ok((deliveries, true));
            }
            // Once a message was put aside, the rows read after it are stale: from then on one at a time, or bodies are read in vain.
            let step = if aside == 0 { RECEIVE_STEP } else { 1 };
            let limit = (max - deliveries.len()).min(step);
            // Suspects are handed out one by one, and this is not their turn.
            let suspects = match self.queue(key).tally.suspects {
                0 => SuspectFilter::Included,
                _ => SuspectFilter::LeftOut,
            };
            let batch = self.rows.ready(key, suspects, limit)?;
            if batch.is_empty() {
                break;
            }
            for fetched in batch {
                let Some((meta, content)) = self.check_deliverable(fetched, now)? else {
                    // Its group may have passed to a message that goes before the rest of the batch.
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

    /// Hands out one suspect, if the queue has one and it may run. Returns `None` if no suspect of the queue is ready.
    fn receive_suspect(&mut self, key: QueueKey, now: StoreTime) -> Result<Option<ReceiveAnswer>, StoreFault> {
        for _ in 0..ASIDE {
            let Some(fetched) = self.rows.ready_suspect(key)? else {
                return Ok(None);
            };
            let Some((meta, content)) = self.check_deliverable(fetched, now)? else {
                continue;
            };
            self.end_visibility_everywhere(now)?;
            let quiet = self.in_flight.is_quiet();
            if !quiet && let Some(again) = self.isolation.wait_for_quiet(key, now.instant) {
                self.note_miss(key)?;
                return Ok(Some(ReceiveAnswer {
                    deliveries: Vec::new(),
                    again: Some(again),
                }));
            }
            let delivery = self.hand_out_alone(meta, content, quiet, now)?;
            return Ok(Some(ReceiveAnswer {
                deliveries: vec![delivery],
                again: None,
            }));
        }
        Ok(Some(ReceiveAnswer {
            deliveries: Vec::new(),
            again: Some(now.instant),
        }))
    }

    /// Notes that a receive is held back, if it would have got a message.
    fn note_miss(&mut self, key: QueueKey) -> Result<(), StoreFault> {
        if self.isolation.is_missed() || self.queue(key).tally.ready == 0 {
            return Ok(());
        }
        // The tallies do not tell, because they count suspects in flight with those that are ready.
        if self.rows.has_unsuspected_ready(key)? {
            self.isolation.miss();
        }
        Ok(())
    }

    fn closed_until(&mut self, key: QueueKey, now: StoreTime) -> Option<Instant> {
        let Some(isolated) = self.isolation.isolated() else {
            return self.isolation.closed_for(key, now.instant);
        };
        let deadline = self.in_flight.get(isolated.seq).map(|delivery| delivery.deadline);
        Some(deadline.map_or(isolated.until, |deadline| deadline.min(isolated.until)))
    }

    /// Returns when a receive that found nothing may find a message although it is not woken.
    fn next_change(&self, key: QueueKey, now: StoreTime) -> Instant {
        let queue = self.queue(key);
        // A message taken from now on is hidden for at least this long, and a receive that ends earlier asks again.
        let mut next = now.instant + queue.settings.visibility_timeout.min(MAX_DELAY);
        if queue.tally.suspects > 0
            && let Some(open_until) = self.isolation.open_until(now.instant)
        {
            next = next.min(open_until);
        }
        if queue.due_ms != u64::MAX {
            next = next.min(now.instant_of(queue.due_ms)).min(now.instant + NOTICE_SLEEP);
        }
        if let Some((deadline, _)) = self.in_flight.first_deadline(key) {
            next = next.min(deadline);
        }
        next
    }

    /// Returns a message that may be handed out, and puts any other aside.
    fn check_deliverable(
        &mut self,
        fetched: StoredMessage,
        now: StoreTime,
    ) -> Result<Option<(MessageMeta, MessageContent)>, StoreFault> {
        let StoredMessage { meta, content } = fetched;
        let content = match content {
            Ok(content) => content,
            Err(damage) => {
                self.mark_damaged(meta, &damage)?;
                return Ok(None);
            }
        };
        if self.is_aged(&meta, now) {
            tracing::info!(queue = %self.queue(meta.queue).name, id = %content.message.id, "a message past its time to live was removed");
            self.remove_aged(&meta)?;
            return Ok(None);
        }
        let max_receives = self.queue(meta.queue).settings.max_receives.get();
        if meta.receive_count >= max_receives && !meta.suspicion.excuses() {
            let failure = last_failure(&meta, &content);
            tracing::warn!(
                queue = %self.queue(meta.queue).name, id = %content.message.id, receive_count = meta.receive_count,
                kind = %failure.kind, reason = failure.reason, "a message was received too often"
            );
            self.move_to_dead_letters(EndedDelivery { meta, leads: true }, failure, now)?;
            return Ok(None);
        }
        Ok(Some((meta, content)))
    }

    /// Sets a message with a damaged stored form apart, so that it is neither lost nor in the way.
    pub(crate) fn mark_damaged(&mut self, mut meta: MessageMeta, damage: &str) -> Result<(), StoreFault> {
        tracing::error!(queue = %self.queue(meta.queue).name, seq = meta.seq, damage, "a stored message is damaged: it is kept and not delivered");
        self.clear_suspicion(&mut meta);
        self.change(meta.clone(), MessageState::Damaged)?;
        self.promote(&meta)
    }

    /// Hands out a suspect, beside which no other message is handed out for a while.
    fn hand_out_alone(
        &mut self,
        mut meta: MessageMeta,
        content: MessageContent,
        quiet: bool,
        now: StoreTime,
    ) -> Result<Delivery, StoreFault> {
        let bound = self
            .isolation
            .bound(self.queue(meta.queue).settings.visibility_timeout, meta.suspicion);
        self.isolation.begin(meta.queue, meta.seq, bound, now.instant);
        let how = if quiet {
            HandedOut::Alone
        } else {
            HandedOut::BesideOthers
        };
        meta.visible_at_ms = how.number();
        self.rows.place(&meta)?;
        self.hand_out(meta, content, now)
    }

    fn hand_out(
        &mut self,
        mut meta: MessageMeta,
        content: MessageContent,
        now: StoreTime,
    ) -> Result<Delivery, StoreFault> {
        self.queue_mut(meta.queue)
            .tally
            .move_between(meta.state, MessageState::InFlight);
        meta.state = MessageState::InFlight;
        meta.receive_count = meta.receive_count.saturating_add(1);
        self.rows.take(&meta)?;
        let receive_count = NonZeroU32::new(meta.receive_count).unwrap_or(NonZeroU32::MAX);
        let deadline = now.instant + self.queue(meta.queue).settings.visibility_timeout.min(MAX_DELAY);
        let receipt = self.in_flight.insert(meta, deadline);
        Ok(Delivery {
            message: content.message,
            receipt,
            receive_count,
            lease: DeliveryLease::Until(deadline),
        })
    }
}

/// Returns the best known reason why a message was never settled for good.
fn last_failure(meta: &MessageMeta, content: &MessageContent) -> FailureRecord {
    let stopped = meta.suspicion.alone;
    match &content.failure {
        Some(failure) if !stopped => failure.clone(),
        _ => FailureRecord {
            kind: FailureKind::HostStopped,
            reason: if stopped {
                format!(
                    "the host stopped {} times while this message was in flight",
                    meta.receive_count
                )
            } else {
                format!("it was received {} times, and never settled", meta.receive_count)
            },
            handler: String::new(),
            component: String::new(),
        },
    }
}
