//! The rows in memory, for `--ephemeral`: the same orders as the tables of the durable store, as sorted maps.
//!
//! No operation here can fail, and none is ever undone: the rules check everything before they change anything.

use std::{
    cell::Cell,
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use super::{
    clock::ClockSighting,
    processed::{ProcessedSegment, StoredSegment},
    row::{DeathRecord, GroupName, MessageContent, MessageMeta, MessageState, QueueKey, StoreFault, StoredMessage},
    rows::{
        DeadLetterRef, DeduplicationKey, DiskUse, FirstSent, MessageCensus, QueueRecord, Rows, StoredQueue,
        SuspectFilter,
    },
    settings::Order,
};
use sandhog_queue::FailureRecord;
use sandhog_queue::message::{MAX_PRIORITY, MessageId};

mod values;

use self::values::Values;

/// The place of a message among those of its queue and state: highest priority first, then lowest `seq`.
type Place = (QueueKey, MessageState, Reverse<u8>, u64);

/// A queue, and the scope and text of a deduplication id in it.
type DeduplicationPlace = (QueueKey, String, String);

/// All rows.
#[derive(Debug, Default)]
pub(crate) struct MemoryRows {
    rows: HashMap<u64, (MessageMeta, MessageContent)>,
    /// The number of rows that were looked at or changed, for tests of the cost of operations.
    visited: Cell<u64>,
    places: BTreeSet<Place>,
    by_seq: BTreeSet<(QueueKey, u64)>,
    due: BTreeSet<(QueueKey, u64, u64)>,
    heads: HashMap<(QueueKey, GroupName), u64>,
    held: BTreeSet<(QueueKey, GroupName, Reverse<u8>, u64)>,
    dead: BTreeSet<(QueueKey, u64)>,
    dead_ids: HashMap<(QueueKey, MessageId), u64>,
    remembered: HashMap<DeduplicationPlace, (FirstSent, u64)>,
    forgettable: BTreeSet<(u64, DeduplicationPlace)>,
    queues: BTreeMap<QueueKey, StoredQueue>,
    values: Values,
}

impl MemoryRows {
    /// Returns the number of rows that were looked at or changed so far.
    #[cfg(test)]
    pub(crate) fn visited(&self) -> u64 {
        self.visited.get()
    }

    fn visit(&self) {
        self.visited.set(self.visited.get().wrapping_add(1));
    }

    fn link(&mut self, meta: &MessageMeta) {
        self.visit();
        self.places.insert(place(meta));
        self.by_seq.insert((meta.queue, meta.seq));
        if is_due_later(meta.state) {
            self.due.insert((meta.queue, meta.visible_at_ms, meta.seq));
        }
        if let Some(group) = &meta.group {
            if meta.state.leads_group() {
                let former = self.heads.insert((meta.queue, group.clone()), meta.seq);
                assert!(former.is_none_or(|seq| seq == meta.seq), "a group has one head");
            } else if meta.state.stands_behind_head() {
                self.held
                    .insert((meta.queue, group.clone(), Reverse(meta.priority), meta.seq));
            }
        }
    }

    fn unlink(&mut self, meta: &MessageMeta) {
        self.places.remove(&place(meta));
        self.by_seq.remove(&(meta.queue, meta.seq));
        if is_due_later(meta.state) {
            self.due.remove(&(meta.queue, meta.visible_at_ms, meta.seq));
        }
        if let Some(group) = &meta.group {
            if meta.state.leads_group() {
                self.heads.remove(&(meta.queue, group.clone()));
            } else if meta.state.stands_behind_head() {
                self.held
                    .remove(&(meta.queue, group.clone(), Reverse(meta.priority), meta.seq));
            }
        }
    }

    fn link_dead(&mut self, meta: &MessageMeta, content: &MessageContent) {
        if let Some(origin) = meta.origin {
            self.dead.insert((origin, meta.seq));
            self.dead_ids.insert((origin, content.message.id.clone()), meta.seq);
        }
    }

    fn unlink_dead(&mut self, meta: &MessageMeta, content: &MessageContent) {
        if let Some(origin) = meta.origin {
            self.dead.remove(&(origin, meta.seq));
            self.dead_ids.remove(&(origin, content.message.id.clone()));
        }
    }

    fn known(&self, seq: u64) -> Option<MessageMeta> {
        self.visit();
        self.rows.get(&seq).map(|(meta, _)| meta.clone())
    }

    fn letter(&self, seq: u64) -> Option<DeadLetterRef> {
        self.visit();
        let bytes = self.rows.get(&seq).map(|(_, content)| content.message.body.len());
        bytes.map(|bytes| DeadLetterRef { seq, bytes })
    }

    fn fetched(&self, seq: u64) -> Option<StoredMessage> {
        self.visit();
        self.rows.get(&seq).map(|(meta, content)| StoredMessage {
            meta: meta.clone(),
            content: Ok(content.clone()),
        })
    }
}

fn place(meta: &MessageMeta) -> Place {
    (meta.queue, meta.state, Reverse(meta.priority), meta.seq)
}

fn place_of(queue: QueueKey, deduplication: DeduplicationKey<'_>) -> DeduplicationPlace {
    let DeduplicationKey { scope, id } = deduplication;
    (queue, scope.to_owned(), id.to_owned())
}

fn is_due_later(state: MessageState) -> bool {
    matches!(state, MessageState::Delayed | MessageState::Retry)
}

impl Rows for MemoryRows {
    fn insert(&mut self, meta: MessageMeta, content: MessageContent) -> Result<(), StoreFault> {
        self.link(&meta);
        self.link_dead(&meta, &content);
        self.rows.insert(meta.seq, (meta, content));
        Ok(())
    }

    fn place(&mut self, meta: &MessageMeta) -> Result<(), StoreFault> {
        if let Some((old, content)) = self.rows.remove(&meta.seq) {
            self.unlink(&old);
            self.link(meta);
            self.rows.insert(meta.seq, (meta.clone(), content));
        }
        Ok(())
    }

    fn take(&mut self, meta: &MessageMeta) -> Result<(), StoreFault> {
        let Some((row, _)) = self.rows.get_mut(&meta.seq) else {
            return Ok(());
        };
        // A ready message is the head of its group, if it has one, and stays the head; a held one keeps its place behind it.
        self.places.remove(&place(row));
        row.state = meta.state;
        row.receive_count = meta.receive_count;
        row.visible_at_ms = meta.visible_at_ms;
        row.past = meta.past;
        self.places.insert(place(row));
        Ok(())
    }

    fn note(&mut self, seq: u64, failure: &FailureRecord) -> Result<(), StoreFault> {
        if let Some((_, content)) = self.rows.get_mut(&seq) {
            content.failure = Some(failure.clone());
        }
        Ok(())
    }

    fn relocate(&mut self, seq: u64, to: &MessageMeta, death: Option<&DeathRecord>) -> Result<(), StoreFault> {
        if let Some((old, mut content)) = self.rows.remove(&seq) {
            self.unlink(&old);
            self.unlink_dead(&old, &content);
            content.failure = None;
            content.death = death.cloned();
            self.insert(to.clone(), content)?;
        }
        Ok(())
    }

    fn delete(&mut self, meta: &MessageMeta) -> Result<(), StoreFault> {
        if let Some((old, content)) = self.rows.remove(&meta.seq) {
            self.unlink(&old);
            self.unlink_dead(&old, &content);
        }
        Ok(())
    }

    fn cap_remembered(&mut self, _latest_ms: u64) -> Result<(), StoreFault> {
        // Only a restart under another clock makes a time too late, and nothing here survives a restart.
        Ok(())
    }

    fn cap_due(&mut self, queue: QueueKey, latest_ms: u64) -> Result<(), StoreFault> {
        let late: Vec<u64> = self
            .due
            .range((queue, latest_ms.saturating_add(1), 0)..=(queue, u64::MAX, u64::MAX))
            .map(|(.., seq)| *seq)
            .collect();
        for seq in late {
            if let Some(mut meta) = self.known(seq) {
                meta.visible_at_ms = latest_ms;
                self.place(&meta)?;
            }
        }
        Ok(())
    }

    fn cap_delays(&mut self, _queue: QueueKey, _now_ms: u64) -> Result<(), StoreFault> {
        // As above.
        Ok(())
    }

    // Only a restart makes suspects, and no message here survives a restart.
    fn ready(
        &mut self,
        queue: QueueKey,
        _suspects: SuspectFilter,
        limit: usize,
    ) -> Result<Vec<StoredMessage>, StoreFault> {
        let ready =
            (queue, MessageState::Ready, Reverse(u8::MAX), 0)..=(queue, MessageState::Ready, Reverse(0), u64::MAX);
        Ok(self
            .places
            .range(ready)
            .take(limit)
            .filter_map(|(.., seq)| self.fetched(*seq))
            .collect())
    }

    fn has_unsuspected_ready(&mut self, queue: QueueKey) -> Result<bool, StoreFault> {
        Ok(!self.ready(queue, SuspectFilter::LeftOut, 1)?.is_empty())
    }

    fn ready_suspect(&mut self, _queue: QueueKey) -> Result<Option<StoredMessage>, StoreFault> {
        // As above.
        Ok(None)
    }

    fn due(&mut self, queue: QueueKey, now_ms: u64, limit: usize) -> Result<Vec<MessageMeta>, StoreFault> {
        let due = self.due.range((queue, 0, 0)..=(queue, now_ms, u64::MAX));
        Ok(due.take(limit).filter_map(|(.., seq)| self.known(*seq)).collect())
    }

    fn next_due(&mut self, queue: QueueKey) -> Result<Option<u64>, StoreFault> {
        Ok(self
            .due
            .range((queue, 0, 0)..=(queue, u64::MAX, u64::MAX))
            .next()
            .map(|(_, due_ms, _)| *due_ms))
    }

    fn head(&mut self, queue: QueueKey, group: &GroupName) -> Result<Option<MessageMeta>, StoreFault> {
        Ok(self.heads.get(&(queue, group.clone())).and_then(|seq| self.known(*seq)))
    }

    fn behind(&mut self, queue: QueueKey, group: &GroupName, limit: usize) -> Result<Vec<MessageMeta>, StoreFault> {
        let first = (queue, group.clone(), Reverse(u8::MAX), 0);
        let last = (queue, group.clone(), Reverse(0), u64::MAX);
        let behind = self.held.range(first..=last).take(limit);
        Ok(behind.filter_map(|(.., seq)| self.known(*seq)).collect())
    }

    fn group_id(&mut self, seq: u64) -> Result<Option<String>, StoreFault> {
        Ok(self
            .rows
            .get(&seq)
            .and_then(|(_, content)| content.message.group_id.clone()))
    }

    fn following(&mut self, queue: QueueKey, seq: u64, limit: usize) -> Result<Vec<MessageMeta>, StoreFault> {
        let later = self.by_seq.range((queue, seq.saturating_add(1))..=(queue, u64::MAX));
        Ok(later.take(limit).filter_map(|(_, seq)| self.known(*seq)).collect())
    }

    fn oldest(
        &mut self,
        queue: QueueKey,
        state: MessageState,
        priority: u8,
    ) -> Result<Option<MessageMeta>, StoreFault> {
        let class = (queue, state, Reverse(priority), 0)..=(queue, state, Reverse(priority), u64::MAX);
        Ok(self.places.range(class).next().and_then(|(.., seq)| self.known(*seq)))
    }

    fn any(
        &mut self,
        queue: QueueKey,
        state: MessageState,
        last: u64,
        limit: usize,
    ) -> Result<Vec<MessageMeta>, StoreFault> {
        // Priority by priority, so that what is above `last` is not looked at.
        let of = |priority| {
            let first = (queue, state, Reverse(priority), 0);
            self.places.range(first..=(queue, state, Reverse(priority), last))
        };
        let seqs = (0..=MAX_PRIORITY).rev().flat_map(of).take(limit);
        Ok(seqs.filter_map(|(.., seq)| self.known(*seq)).collect())
    }

    fn in_flight_outside(&mut self, _queue: QueueKey) -> Result<u64, StoreFault> {
        // Only a restart asks, and no message here survives one.
        Ok(0)
    }

    fn meta(&mut self, seq: u64) -> Result<Option<MessageMeta>, StoreFault> {
        Ok(self.known(seq))
    }

    fn fetch(&mut self, seq: u64) -> Result<Option<StoredMessage>, StoreFault> {
        Ok(self.fetched(seq))
    }

    fn dead(&mut self, origin: QueueKey, after: u64, limit: usize) -> Result<Vec<DeadLetterRef>, StoreFault> {
        let later = self.dead.range((origin, after.saturating_add(1))..=(origin, u64::MAX));
        Ok(later.take(limit).filter_map(|(_, seq)| self.letter(*seq)).collect())
    }

    fn dead_with_id(&mut self, origin: QueueKey, id: &MessageId) -> Result<Option<DeadLetterRef>, StoreFault> {
        let seq = self.dead_ids.get(&(origin, id.clone()));
        Ok(seq.and_then(|seq| self.letter(*seq)))
    }

    fn first_with(
        &mut self,
        queue: QueueKey,
        deduplication: DeduplicationKey<'_>,
        now_ms: u64,
    ) -> Result<Option<FirstSent>, StoreFault> {
        let known = self.remembered.get(&place_of(queue, deduplication));
        Ok(known
            .filter(|(_, until_ms)| *until_ms > now_ms)
            .map(|(first, _)| first.clone()))
    }

    fn remember(
        &mut self,
        queue: QueueKey,
        deduplication: DeduplicationKey<'_>,
        first: &FirstSent,
        until_ms: u64,
    ) -> Result<(), StoreFault> {
        let place = place_of(queue, deduplication);
        if let Some((_, former)) = self.remembered.insert(place.clone(), (first.clone(), until_ms)) {
            self.forgettable.remove(&(former, place.clone()));
        }
        self.forgettable.insert((until_ms, place));
        Ok(())
    }

    fn forget(&mut self, now_ms: u64, limit: usize) -> Result<(), StoreFault> {
        for _ in 0..limit {
            let Some((until_ms, place)) = self.forgettable.pop_first() else {
                break;
            };
            if until_ms > now_ms {
                self.forgettable.insert((until_ms, place));
                break;
            }
            self.remembered.remove(&place);
        }
        Ok(())
    }

    fn forget_sent(&mut self, queue: QueueKey, last: u64, limit: usize) -> Result<bool, StoreFault> {
        let of_queue = |(place, (first, _)): &(&DeduplicationPlace, &(FirstSent, u64))| {
            place.0 == queue && first.sequence.is_none_or(|sequence| sequence <= last)
        };
        let sent = self.remembered.iter().filter(of_queue);
        let found: Vec<_> = sent
            .take(limit + 1)
            .map(|(place, (_, until_ms))| (*until_ms, place.clone()))
            .collect();
        for forgotten in found.iter().take(limit) {
            self.forgettable.remove(forgotten);
            self.remembered.remove(&forgotten.1);
        }
        Ok(found.len() > limit)
    }

    fn add_segment(&mut self, _segment: &ProcessedSegment) -> Result<(), StoreFault> {
        // Processed messages are in memory anyhow: rows of them are for a later run.
        Ok(())
    }

    fn remove_segment(&mut self, _number: u64) -> Result<(), StoreFault> {
        Ok(())
    }

    fn segments(&mut self, _show: &mut dyn FnMut(StoredSegment)) -> Result<(), StoreFault> {
        Ok(())
    }

    fn sighting(&mut self) -> Result<Option<ClockSighting>, StoreFault> {
        Ok(None)
    }

    fn note_sighting(&mut self, _sighting: &ClockSighting) -> Result<(), StoreFault> {
        Ok(())
    }

    fn is_changed(&self) -> bool {
        // No later run learns of a change in memory.
        false
    }

    fn queues(&mut self) -> Result<Vec<StoredQueue>, StoreFault> {
        Ok(self.queues.values().cloned().collect())
    }

    fn add_queue(&mut self, queue: &StoredQueue) -> Result<(), StoreFault> {
        self.queues.insert(queue.key, queue.clone());
        Ok(())
    }

    fn set_order(&mut self, queue: QueueKey, order: Order) -> Result<(), StoreFault> {
        if let Some(queue) = self.queues.get_mut(&queue) {
            queue.order = order;
        }
        Ok(())
    }

    fn retire_queue(&mut self, queue: QueueKey, _wall_ms: u64) -> Result<(), StoreFault> {
        self.queues.remove(&queue);
        Ok(())
    }

    fn retired_queues(&mut self) -> Result<Vec<QueueKey>, StoreFault> {
        // Only a restart asks.
        Ok(Vec::new())
    }

    fn queue_record(&mut self, queue: QueueKey) -> Result<Option<QueueRecord>, StoreFault> {
        Ok(self.queues.get(&queue).map(|queue| queue.record.clone()))
    }

    fn set_queue_record(&mut self, queue: QueueKey, record: &QueueRecord) -> Result<(), StoreFault> {
        if let Some(queue) = self.queues.get_mut(&queue) {
            queue.record = record.clone();
        }
        Ok(())
    }

    fn disk_use(&mut self) -> Result<Option<DiskUse>, StoreFault> {
        Ok(None)
    }

    fn census(&mut self) -> Result<MessageCensus, StoreFault> {
        Ok(MessageCensus::default())
    }
}
