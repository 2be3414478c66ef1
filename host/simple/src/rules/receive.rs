//! Handing messages out.

use std::{num::NonZeroU32, time::Duration};

use tokio::time::Instant;

use super::{
    super::{
        clock::StoreTime,
        history::{HistoricDelivery, MessageHistory},
        receive_terms::ReceiveTerms,
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
    pub(crate) deliveries: Vec<HistoricDelivery>,
    /// If there are no deliveries: when to ask again at the latest, even if the receiver is not woken.
    pub(crate) again: Option<Instant>,
}

/// The messages that a receive has taken so far.
struct TakenMessages {
    deliveries: Vec<HistoricDelivery>,
    max: usize,
    /// The bytes of their bodies and attributes.
    bytes: usize,
}

impl TakenMessages {
    fn up_to(max: usize) -> Self {
        Self {
            deliveries: Vec::new(),
            max,
            bytes: 0,
        }
    }

    fn add(&mut self, received: HistoricDelivery) {
        self.bytes += received.delivery.message.size();
        self.deliveries.push(received);
    }

    /// Returns how many more the receive may take.
    fn room(&self) -> usize {
        if self.bytes >= RECEIVE_BYTES {
            return 0;
        }
        self.max.saturating_sub(self.deliveries.len())
    }
}

/// A receive hands out no further message once it has this many bytes of bodies and attributes, so that it stays in bounds whatever was asked for.
const RECEIVE_BYTES: usize = 16 * 1024 * 1024;
/// A receive that waits for a delay asks again at least this often: its timer stands still while the machine sleeps.
const NOTICE_SLEEP: Duration = Duration::from_secs(10);
/// A receive that found nothing does not ask again sooner unless something changes.
const LEAST_WAIT: Duration = Duration::from_secs(1);
/// The number of rows that are read at a time.
const RECEIVE_STEP: usize = 64;

impl StoreRules {
    /// Hands out at most `max` messages.
    pub(crate) fn receive(
        &mut self,
        key: QueueKey,
        max: usize,
        terms: ReceiveTerms,
        now: StoreTime,
    ) -> Result<ReceiveAnswer, StoreFault> {
        let received = self.receive_in_turn(key, max, terms, now);
        self.shared_isolation.publish(&self.isolation);
        received
    }

    fn receive_in_turn(
        &mut self,
        key: QueueKey,
        max: usize,
        terms: ReceiveTerms,
        now: StoreTime,
    ) -> Result<ReceiveAnswer, StoreFault> {
        if self.queue(key).is_retired() {
            return Ok(ReceiveAnswer {
                deliveries: Vec::new(),
                again: Some(now.instant + MAX_DELAY),
            });
        }
        if self.regroup_some(key)? {
            return Ok(ReceiveAnswer {
                deliveries: Vec::new(),
                again: Some(now.instant),
            });
        }
        let more = self.expire(key, now)?;
        self.end_isolation()?;
        if !terms.outside
            && let Some(again) = self.closed_until(key, now)
        {
            self.note_miss(key)?;
            return Ok(ReceiveAnswer {
                deliveries: Vec::new(),
                again: Some(again),
            });
        }
        if !terms.outside
            && self.queue(key).tally.suspects > 0
            && self.isolation.open_until(now.instant).is_none()
            && let Some(received) = self.receive_suspect(key, terms, now)?
        {
            return Ok(received);
        }
        let (deliveries, left) = self.receive_ordinary(key, max, terms, now)?;
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
        terms: ReceiveTerms,
        now: StoreTime,
    ) -> Result<(Vec<HistoricDelivery>, bool), StoreFault> {
        let mut taken = TakenMessages::up_to(max);
        let mut aside = 0;
        while taken.room() > 0 {
            if aside >= ASIDE {
                return Ok((taken.deliveries, true));
            }
            // Once a message was put aside, the rows read after it are stale: from then on one at a time, or bodies are read in vain.
            let step = if aside == 0 { RECEIVE_STEP } else { 1 };
            let limit = taken.room().min(step);
            // Suspects are handed out one by one, and this is not their turn.
            let suspects = match self.queue(key).tally.suspects {
                0 => SuspectFilter::Included,
                _ if terms.outside => SuspectFilter::Included,
                _ => SuspectFilter::LeftOut,
            };
            let batch = self.rows.ready(key, suspects, limit)?;
            if batch.is_empty() {
                break;
            }
            for fetched in batch {
                let Some((meta, content)) = self.check_deliverable(fetched, terms, now)? else {
                    // Its group may have passed to a message that goes before the rest of the batch.
                    aside += 1;
                    break;
                };
                let head = terms.whole_groups.then(|| meta.clone());
                taken.add(self.hand_out(meta, content, terms, now)?);
                if let Some(head) = head {
                    aside += self.receive_behind(&head, &mut taken, terms, now)?;
                }
                if taken.room() == 0 {
                    break;
                }
            }
        }
        Ok((taken.deliveries, false))
    }

    /// Hands out the messages behind the head of a group, which was handed out just now, up to one that can't go with it. Returns the
    /// number of messages that were put aside.
    fn receive_behind(
        &mut self,
        head: &MessageMeta,
        taken: &mut TakenMessages,
        terms: ReceiveTerms,
        now: StoreTime,
    ) -> Result<usize, StoreFault> {
        let Some(group) = &head.group else { return Ok(0) };
        let (mut handed_out, mut aside) = (0, 0);
        while aside < ASIDE && taken.room() > 0 {
            let aside_before = aside;
            // Those that were handed out stand first.
            let behind = self.rows.behind(head.queue, group, handed_out + taken.room())?;
            for meta in behind.into_iter().skip(handed_out) {
                let waits = meta.visible_at_ms > now.ms || (meta.suspicion.is_raised() && !terms.outside);
                if meta.state != MessageState::Held || waits || taken.room() == 0 || self.would_overtake(&meta) {
                    return Ok(aside);
                }
                let Some(fetched) = self.rows.fetch(meta.seq)? else {
                    return Ok(aside);
                };
                let Some((mut meta, content)) = self.check_deliverable(fetched, terms, now)? else {
                    aside += 1;
                    continue;
                };
                // The time for which it was held.
                meta.visible_at_ms = 0;
                taken.add(self.hand_out(meta, content, terms, now)?);
                handed_out += 1;
            }
            if aside == aside_before {
                break;
            }
        }
        Ok(aside)
    }

    /// Hands out one suspect, if the queue has one and it may run. Returns `None` if no suspect of the queue is ready.
    fn receive_suspect(
        &mut self,
        key: QueueKey,
        terms: ReceiveTerms,
        now: StoreTime,
    ) -> Result<Option<ReceiveAnswer>, StoreFault> {
        for _ in 0..ASIDE {
            let Some(fetched) = self.rows.ready_suspect(key)? else {
                return Ok(None);
            };
            let Some((meta, content)) = self.check_deliverable(fetched, terms, now)? else {
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
            let meta = self.isolate(meta, quiet, now);
            let delivery = self.hand_out(meta, content, terms, now)?;
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
        // A message that another receive takes from now on has become ready before. That has woken this receive, which has asked again and knows
        // the deadline.
        // A queue whose receives hide nothing is no reason to ask without a pause.
        let mut next = now.instant + queue.settings.visibility_timeout.clamp(LEAST_WAIT, MAX_DELAY);
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
        terms: ReceiveTerms,
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
        // A queue without a dead-letter queue sets such a message aside, for the sake of its handler. Who looks from outside sees it.
        let is_left = || terms.outside && self.is_terminal(meta.queue);
        if meta.receive_count >= max_receives && !meta.suspicion.excuses() && !is_left() {
            let failure = last_failure(&meta, &content);
            tracing::warn!(
                queue = %self.queue(meta.queue).name, id = %content.message.id, receive_count = meta.receive_count,
                kind = %failure.kind, reason = failure.reason, "a message was received too often"
            );
            let leads = meta.group.is_none() || meta.state.leads_group();
            self.move_to_dead_letters(EndedDelivery { meta, leads }, failure, now)?;
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

    /// Sees to it that no other message is handed out beside a suspect for a while, which is handed out next.
    fn isolate(&mut self, mut meta: MessageMeta, quiet: bool, now: StoreTime) -> MessageMeta {
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
        meta
    }

    fn hand_out(
        &mut self,
        mut meta: MessageMeta,
        content: MessageContent,
        terms: ReceiveTerms,
        now: StoreTime,
    ) -> Result<HistoricDelivery, StoreFault> {
        let state = if meta.state == MessageState::Held {
            MessageState::InFlightBehind
        } else {
            MessageState::InFlight
        };
        self.queue_mut(meta.queue).tally.move_between(meta.state, state);
        meta.state = state;
        meta.receive_count = meta.receive_count.saturating_add(1);
        if terms.outside {
            meta.visible_at_ms = HandedOut::Outside.number();
        }
        meta.past.first_received_at_ms.get_or_insert(now.wall_ms);
        self.rows.take(&meta)?;
        let receive_count = NonZeroU32::new(meta.receive_count).unwrap_or(NonZeroU32::MAX);
        let usual = self.queue(meta.queue).settings.visibility_timeout;
        let deadline = now.instant + terms.visibility_timeout.unwrap_or(usual).min(MAX_DELAY);
        let history = MessageHistory {
            receives: meta.total_receives(),
            first_received_at_ms: meta.past.first_received_at_ms.unwrap_or(now.wall_ms),
            sequence: meta.past.sequence,
            deduplication_id: content.sent.deduplication_id.as_deref().map(str::to_owned),
            dead_letter_of: meta
                .origin
                .and_then(|origin| self.queues.get(&origin))
                .map(|queue| queue.name.clone()),
        };
        let receipt = self.in_flight.insert(meta, now.instant, deadline);
        let delivery = Delivery {
            message: content.message,
            receipt,
            receive_count,
            lease: DeliveryLease::Until(deadline),
        };
        Ok(HistoricDelivery { delivery, history })
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
