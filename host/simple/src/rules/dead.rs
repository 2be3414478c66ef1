//! Dead letters: how a message becomes one, and how an operator reads them and puts them back.
//!
//! A dead letter is an ordinary message of its dead-letter queue that remembers where it came from. A queue that holds
//! the dead letters of others has no dead-letter queue of its own unless its settings name one: a message that is exhausted
//! there steps aside for twelve hours, again and again, and is never deleted nor moved on.

use std::sync::Arc;

use super::{
    super::{
        clock::{StoreTime, millis},
        row::{DeathRecord, MessageMeta, MessageState, PoisonSuspicion, QueueKey, StoreFault, StoredMessage},
        rows::DeadLetterRef,
        settings::Order,
    },
    StoreRules,
    groups::EndedDelivery,
};
use sandhog_queue::message::{MAX_DELAY, MessageId};
use sandhog_queue::{DeadLetter, FailureRecord};

/// The number of dead letters that one step looks at, so that other commands need not wait for all of a long operation.
const STEP: usize = 256;
/// A step takes no further dead letter once it has this many bytes of bodies.
const STEP_BYTES: usize = 8 * 1024 * 1024;

impl StoreRules {
    /// Moves a message to its dead-letter queue.
    pub(crate) fn move_to_dead_letters(
        &mut self,
        ended: EndedDelivery,
        failure: FailureRecord,
        now: StoreTime,
    ) -> Result<(), StoreFault> {
        let Some(target) = self.dead_letter_target(&ended.meta)? else {
            return self.set_aside(ended, &failure, now);
        };
        let EndedDelivery { mut meta, leads } = ended;
        let group_id = self.rows.group_id(meta.seq)?;
        let mut to = MessageMeta {
            seq: self.next_seq(),
            queue: target,
            state: MessageState::Ready,
            priority: meta.priority,
            group: self.group_for(target, group_id.as_deref()),
            visible_at_ms: 0,
            receive_count: 0,
            queued_at_ms: self.age_in(target, &meta, now),
            suspicion: PoisonSuspicion::NONE,
            origin: Some(meta.origin.unwrap_or(meta.queue)),
            past: meta.past_of_move(),
        };
        to.state = self.claim(&to)?;
        let death = DeathRecord {
            dead_at_ms: now.wall_ms,
            receive_count: meta.receive_count,
            failure,
        };
        // A message that does not lead its group leaves the group to no other.
        meta.group = meta.group.filter(|_| leads);
        self.relocate(&meta, &to, Some(&death))
    }

    /// Returns when a dead letter's time to live begins in its new queue. In a queue without groups it goes on, as in a standard queue of
    /// SQS; else it begins anew.
    fn age_in(&mut self, target: QueueKey, meta: &MessageMeta, now: StoreTime) -> u64 {
        let queue = self.queue_mut(target);
        if queue.order != Order::Ungrouped {
            return now.ms;
        }
        if let Some(limit) = queue.settings.time_to_live {
            queue.aged_ms = queue.aged_ms.min(meta.queued_at_ms.saturating_add(millis(limit)));
        }
        meta.queued_at_ms
    }

    fn dead_letter_target(&mut self, meta: &MessageMeta) -> Result<Option<QueueKey>, StoreFault> {
        if self.is_terminal(meta.queue) {
            return Ok(None);
        }
        let name = self.queue(meta.queue).settings.dead_letter.clone();
        let target = self.declare_dead_letter(&name)?;
        Ok((Some(target) != meta.origin).then_some(target))
    }

    /// Hides an exhausted message of a queue without a dead-letter queue. The message gets one more receive afterwards.
    fn set_aside(&mut self, ended: EndedDelivery, failure: &FailureRecord, now: StoreTime) -> Result<(), StoreFault> {
        let EndedDelivery { meta, leads } = ended;
        self.rows.note(meta.seq, failure)?;
        let mut aside = meta.clone();
        aside.visible_at_ms = now.ms + millis(MAX_DELAY);
        self.clear_suspicion(&mut aside);
        aside.receive_count = self.queue(meta.queue).settings.max_receives.get().saturating_sub(1);
        self.change(aside, MessageState::Delayed)?;
        if leads {
            self.promote(&meta)?;
        }
        Ok(())
    }

    /// Returns dead letters of a queue behind the place `after`, oldest first: at most `limit`, and no more than one step looks at.
    /// Returns as well the place to go on from, if there may be more.
    pub(crate) fn dead_letters(
        &mut self,
        origin: QueueKey,
        after: u64,
        limit: usize,
    ) -> Result<(Vec<DeadLetter>, Option<u64>), StoreFault> {
        let which = DeadLetterChoice::oldest(after, u64::MAX, limit);
        let (chosen, next) = self.chosen(origin, &which)?;
        let mut letters = Vec::new();
        for seq in chosen {
            if let Some(fetched) = self.rows.fetch(seq)? {
                letters.extend(self.letter(origin, fetched)?);
            }
        }
        Ok((letters, next))
    }

    /// Returns the place of the dead letter of a queue with that id.
    pub(crate) fn place_of_dead(&mut self, origin: QueueKey, id: &MessageId) -> Result<Option<u64>, StoreFault> {
        Ok(self.rows.dead_with_id(origin, id)?.map(|letter| letter.seq))
    }

    /// Returns the dead letter of a queue with that id.
    pub(crate) fn dead_letter(&mut self, origin: QueueKey, id: &MessageId) -> Result<Option<DeadLetter>, StoreFault> {
        let Some(letter) = self.rows.dead_with_id(origin, id)? else {
            return Ok(None);
        };
        match self.rows.fetch(letter.seq)? {
            Some(fetched) => self.letter(origin, fetched),
            None => Ok(None),
        }
    }

    fn letter(&mut self, origin: QueueKey, fetched: StoredMessage) -> Result<Option<DeadLetter>, StoreFault> {
        let StoredMessage { meta, content } = fetched;
        let content = match content {
            Ok(content) => content,
            Err(damage) => {
                if meta.state == MessageState::Damaged || meta.state.is_in_flight() {
                    return Ok(None);
                }
                self.mark_damaged(meta, &damage)?;
                return Ok(None);
            }
        };
        let queue = self.queue(origin).name.clone();
        Ok(content.death.map(
            |DeathRecord {
                 dead_at_ms,
                 receive_count,
                 failure,
             }| DeadLetter {
                message: content.message,
                queue,
                receive_count,
                dead_at_ms,
                failure,
            },
        ))
    }

    /// Puts back the chosen dead letters that are neither in flight nor damaged. Returns their number, and the place to go on from if
    /// there may be more.
    pub(crate) fn redrive(
        &mut self,
        origin: QueueKey,
        which: &DeadLetterChoice,
        now: StoreTime,
    ) -> Result<(u64, Option<u64>), StoreFault> {
        if self.queue(origin).is_retired() {
            // Nobody could receive them there. They stay where they are.
            return Ok((0, None));
        }
        let (chosen, next) = self.chosen(origin, which)?;
        let mut count = 0;
        for seq in chosen {
            // Each is read as it is by now, because the one before it may have left its group to this one.
            let Some(StoredMessage { meta, content }) = self.rows.fetch(seq)? else {
                continue;
            };
            let Ok(content) = content else { continue };
            if meta.state == MessageState::Damaged {
                continue;
            }
            let Some(meta) = self.free(meta, now)? else { continue };
            let mut to = MessageMeta {
                seq: self.next_seq(),
                queue: origin,
                group: self.group_for(origin, content.message.group_id.as_deref()),
                visible_at_ms: 0,
                receive_count: 0,
                queued_at_ms: now.ms,
                suspicion: PoisonSuspicion::NONE,
                origin: None,
                past: meta.past_of_move(),
                ..meta.clone()
            };
            to.state = self.claim(&to)?;
            self.relocate(&meta, &to, None)?;
            count += 1;
        }
        Ok((count, next))
    }

    /// Deletes the chosen dead letters that are not in flight. Returns what [`StoreRules::redrive`] returns.
    pub(crate) fn purge_dead(
        &mut self,
        origin: QueueKey,
        which: &DeadLetterChoice,
        now: StoreTime,
    ) -> Result<(u64, Option<u64>), StoreFault> {
        let (chosen, next) = self.chosen(origin, which)?;
        let mut count = 0;
        for seq in chosen {
            let Some(meta) = self.rows.meta(seq)? else { continue };
            if let Some(meta) = self.free(meta, now)? {
                self.remove(&meta)?;
                count += 1;
            }
        }
        Ok((count, next))
    }

    /// Returns a dead letter that nobody holds. The time of its holder may be over, and nobody has asked the queue that it is in since.
    pub(super) fn free(&mut self, meta: MessageMeta, now: StoreTime) -> Result<Option<MessageMeta>, StoreFault> {
        if !meta.state.is_in_flight() {
            return Ok(Some(meta));
        }
        self.end_visibility_of(meta.seq, now)?;
        Ok(self.rows.meta(meta.seq)?.filter(|meta| !meta.state.is_in_flight()))
    }

    /// Returns the places of the dead letters that one step takes, and the place where the next step goes on.
    fn chosen(&mut self, origin: QueueKey, which: &DeadLetterChoice) -> Result<(Vec<u64>, Option<u64>), StoreFault> {
        let limit = which.limit.min(STEP);
        let mut letters = match &which.named {
            NamedDeadLetters::All => self.rows.dead(origin, which.after, limit)?,
            NamedDeadLetters::Ids(ids) => self.dead_with_ids(origin, ids)?,
            NamedDeadLetters::Places(places) => self.dead_at(origin, places)?,
        };
        letters.retain(|letter| letter.seq > which.after && letter.seq <= which.last);
        let mut chosen = Vec::new();
        let mut bytes = 0_usize;
        for letter in &letters {
            // A letter that exceeds the bytes is taken if room was left, so that every step makes progress.
            if chosen.len() == limit || bytes >= STEP_BYTES {
                break;
            }
            bytes = bytes.saturating_add(letter.bytes);
            chosen.push(letter.seq);
        }
        let more =
            chosen.len() < letters.len() || (matches!(which.named, NamedDeadLetters::All) && chosen.len() == limit);
        let next = chosen.last().copied().filter(|_| more);
        Ok((chosen, next))
    }

    fn dead_with_ids(&mut self, origin: QueueKey, ids: &[MessageId]) -> Result<Vec<DeadLetterRef>, StoreFault> {
        let mut letters = Vec::new();
        for id in ids {
            letters.extend(self.rows.dead_with_id(origin, id)?);
        }
        letters.sort_by_key(|letter| letter.seq);
        letters.dedup_by_key(|letter| letter.seq);
        Ok(letters)
    }

    fn dead_at(&mut self, origin: QueueKey, places: &[u64]) -> Result<Vec<DeadLetterRef>, StoreFault> {
        let mut letters = Vec::new();
        for seq in places {
            // Exactly the next one, if it is still there.
            let next = self.rows.dead(origin, seq.saturating_sub(1), 1)?;
            letters.extend(next.into_iter().filter(|letter| letter.seq == *seq));
        }
        Ok(letters)
    }

    /// Returns the highest `seq` so far. A long operation stops there, and so ends.
    pub(crate) fn last_seq(&self) -> u64 {
        self.last_seq
    }
}

/// Which dead letters are named.
#[derive(Debug, Clone)]
enum NamedDeadLetters {
    All,
    Ids(Arc<[MessageId]>),
    /// By their `seq`, lowest first.
    Places(Arc<[u64]>),
}

/// The dead letters that a step is about.
#[derive(Debug, Clone)]
pub(crate) struct DeadLetterChoice {
    named: NamedDeadLetters,
    /// Only those above this `seq`.
    pub(crate) after: u64,
    /// Only those up to this `seq`.
    last: u64,
    /// At most this many.
    pub(crate) limit: usize,
}

impl DeadLetterChoice {
    pub(crate) fn oldest(after: u64, last: u64, limit: usize) -> Self {
        Self {
            named: NamedDeadLetters::All,
            after,
            last,
            limit,
        }
    }

    /// Those with these ids. One step looks for all of them.
    pub(crate) fn ids(ids: &[MessageId], last: u64) -> Self {
        Self {
            named: NamedDeadLetters::Ids(ids.into()),
            after: 0,
            last,
            limit: ids.len(),
        }
    }

    /// Those with these `seq`, lowest first. One step looks for all of them.
    pub(crate) fn places(places: &[u64]) -> Self {
        Self {
            named: NamedDeadLetters::Places(places.into()),
            after: 0,
            last: u64::MAX,
            limit: places.len(),
        }
    }
}
