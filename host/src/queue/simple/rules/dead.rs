//! Dead letters: how a message becomes one, and how a person looks at them and puts them back.
//!
//! A dead letter is an ordinary message of its dead-letter queue that remembers where it came from. A queue in which
//! others' dead letters lie has no dead-letter queue of its own unless its settings name one: what is exhausted
//! there steps aside for twelve hours, again and again, and is never deleted nor moved on.

use super::{
    super::{
        super::{DeadLetter, FailureRecord},
        clock::{Now, millis},
        row::{Death, Fault, Fetched, Meta, QueueKey, State, Suspicion},
        rows::Rows,
    },
    Core,
};
use crate::message::{MAX_DELAY, MessageId};

/// A page of dead letters ends once it has so many bytes of bodies.
const PAGE_BYTES: usize = 16 * 1024 * 1024;
/// How many of them are read at a time.
const PAGE_STEP: usize = 32;

impl<R: Rows> Core<R> {
    /// Moves a message to its dead-letter queue.
    pub(super) fn bury(&mut self, meta: &Meta, failure: FailureRecord, now: Now) -> Result<(), Fault> {
        let Some(grave) = self.grave_of(meta)? else {
            return self.set_aside(meta, &failure, now);
        };
        let group = self.rows.group(meta.seq)?;
        let mut to = Meta {
            seq: self.next_seq(),
            queue: grave,
            state: State::Ready,
            priority: meta.priority,
            lane: self.lane_for(grave, group.as_deref()),
            visible_at_ms: 0,
            receive_count: 0,
            queued_at_ms: now.ms,
            suspicion: Suspicion::None,
            origin: Some(meta.origin.unwrap_or(meta.queue)),
        };
        to.state = self.claim(&to)?;
        let death = Death {
            dead_at_ms: now.ms,
            receive_count: meta.receive_count,
            failure,
        };
        self.relocate(meta, &to, Some(&death))
    }

    fn grave_of(&mut self, meta: &Meta) -> Result<Option<QueueKey>, Fault> {
        let queue = self.queue(meta.queue);
        if queue.terminal {
            return Ok(None);
        }
        let name = queue.settings.dead_letter.clone();
        let grave = self.declare_dead_letter(&name)?;
        Ok((Some(grave) != meta.origin).then_some(grave))
    }

    /// Hides an exhausted message of a queue that has no dead-letter queue. It gets one more receive afterwards.
    fn set_aside(&mut self, meta: &Meta, failure: &FailureRecord, now: Now) -> Result<(), Fault> {
        self.rows.note(meta.seq, failure)?;
        let mut aside = meta.clone();
        aside.visible_at_ms = now.ms + millis(MAX_DELAY);
        aside.receive_count = self.queue(meta.queue).settings.max_receives.get().saturating_sub(1);
        if aside.suspicion != Suspicion::None {
            aside.suspicion = Suspicion::None;
            super::subtract(&mut self.queue_mut(meta.queue).tally.suspects);
        }
        self.change(aside, State::Delayed)?;
        self.promote(meta)
    }

    /// Dead letters of a queue, oldest first.
    pub(in super::super) fn dead_letters(
        &mut self,
        origin: QueueKey,
        after: Option<&MessageId>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, Fault> {
        let mut seq = 0;
        if let Some(id) = after {
            let Some(known) = self.rows.dead_with_id(origin, id)? else {
                return Ok(Vec::new());
            };
            seq = known.meta.seq;
        }
        let mut letters: Vec<DeadLetter> = Vec::new();
        let mut bytes = 0;
        // A page ends early rather than fill the memory; the next one goes on behind it.
        while letters.len() < limit && bytes < PAGE_BYTES {
            let fetched = self.rows.dead(origin, seq, (limit - letters.len()).min(PAGE_STEP))?;
            let Some(last) = fetched.last() else { break };
            seq = last.meta.seq;
            for fetched in fetched {
                let letter = self.letter(origin, fetched)?;
                bytes += letter.as_ref().map_or(0, |letter| letter.message.body.len());
                letters.extend(letter);
            }
        }
        Ok(letters)
    }

    /// The dead letter of a queue with that id.
    pub(in super::super) fn dead_letter(
        &mut self,
        origin: QueueKey,
        id: &MessageId,
    ) -> Result<Option<DeadLetter>, Fault> {
        match self.rows.dead_with_id(origin, id)? {
            Some(fetched) => self.letter(origin, fetched),
            None => Ok(None),
        }
    }

    fn letter(&mut self, origin: QueueKey, fetched: Fetched) -> Result<Option<DeadLetter>, Fault> {
        let Fetched { meta, content } = fetched;
        let content = match content {
            Ok(content) => content,
            Err(damage) => {
                if matches!(meta.state, State::Damaged | State::InFlight) {
                    return Ok(None);
                }
                self.put_away(meta, &damage)?;
                return Ok(None);
            }
        };
        let queue = self.queue(origin).name.clone();
        Ok(content.death.map(
            |Death {
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

    /// Puts dead letters back: those with the given ids, or the `limit` oldest whose `seq` is above `after`.
    /// Returns how many, and the highest `seq` that it looked at if there may be more.
    pub(in super::super) fn redrive(
        &mut self,
        origin: QueueKey,
        which: &Which,
        now: Now,
    ) -> Result<(u64, Option<u64>), Fault> {
        let (fetched, next) = self.chosen(origin, which)?;
        let mut count = 0;
        for Fetched { meta, content } in fetched {
            let Ok(content) = content else { continue };
            // The one before it may have handed its lane on to this one.
            let Some(meta) = self.now_of(&meta)? else { continue };
            if matches!(meta.state, State::InFlight | State::Damaged) {
                continue;
            }
            let mut to = Meta {
                seq: self.next_seq(),
                queue: origin,
                lane: self.lane_for(origin, content.message.group_id.as_deref()),
                visible_at_ms: 0,
                receive_count: 0,
                queued_at_ms: now.ms,
                suspicion: Suspicion::None,
                origin: None,
                ..meta.clone()
            };
            to.state = self.claim(&to)?;
            self.relocate(&meta, &to, None)?;
            count += 1;
        }
        Ok((count, next))
    }

    /// Deletes the dead letters chosen that are not in flight; the answer is that of [`Core::redrive`].
    pub(in super::super) fn purge_dead(
        &mut self,
        origin: QueueKey,
        which: &Which,
    ) -> Result<(u64, Option<u64>), Fault> {
        let (fetched, next) = self.chosen(origin, which)?;
        let mut count = 0;
        for Fetched { meta, .. } in fetched {
            if let Some(meta) = self.now_of(&meta)?.filter(|meta| meta.state != State::InFlight) {
                self.remove(&meta)?;
                count += 1;
            }
        }
        Ok((count, next))
    }

    /// What has become of a message since it was read.
    fn now_of(&mut self, meta: &Meta) -> Result<Option<Meta>, Fault> {
        let found = self.rows.following(meta.queue, meta.seq.saturating_sub(1), 1)?;
        Ok(found.into_iter().find(|found| found.seq == meta.seq))
    }

    fn chosen(&mut self, origin: QueueKey, which: &Which) -> Result<(Vec<Fetched>, Option<u64>), Fault> {
        match which {
            Which::Ids(ids) => {
                let mut fetched = Vec::new();
                for id in ids {
                    fetched.extend(self.rows.dead_with_id(origin, id)?);
                }
                fetched.sort_by_key(|fetched| fetched.meta.seq);
                fetched.dedup_by_key(|fetched| fetched.meta.seq);
                Ok((fetched, None))
            }
            Which::Oldest { after, last, limit } => {
                let mut fetched = self.rows.dead(origin, *after, *limit)?;
                let full = fetched.len() == *limit;
                fetched.retain(|fetched| fetched.meta.seq <= *last);
                let next = fetched.last().map(|fetched| fetched.meta.seq).filter(|_| full);
                Ok((fetched, next))
            }
        }
    }

    /// The highest `seq` so far: a long operation stops there, and so ends.
    pub(in super::super) fn last_seq(&self) -> u64 {
        self.last_seq
    }
}

/// Which dead letters.
#[derive(Debug, Clone)]
pub(in super::super) enum Which {
    /// Those with these ids.
    Ids(Vec<MessageId>),
    /// The oldest.
    Oldest {
        /// Above this `seq`,
        after: u64,
        /// up to this one,
        last: u64,
        /// at most so many.
        limit: usize,
    },
}
