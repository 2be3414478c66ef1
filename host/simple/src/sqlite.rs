//! The rows on disk. This file and the files below it are the only importers of `rusqlite`, and hold no queue rule.
//!
//! Each operation is one statement, answered by one index. The plan is forced, so that a wrong guess of the planner
//! can't turn a receive into a scan.

use rusqlite::params;

use self::read::{bytes, integer, key, limit, number, optional_number, read_all, read_letter, read_meta, signed, text};
use super::{
    clock::ClockSighting,
    codec,
    processed::{ProcessedSegment, StoredSegment},
    row::{DeathRecord, GroupName, MessageContent, MessageMeta, MessageState, QueueKey, StoreFault, StoredMessage},
    rows::{
        DeadLetterRef, DeduplicationKey, DiskUse, FirstSent, MessageCensus, QueueRecord, Rows, StoredQueue,
        SuspectFilter,
    },
    settings::Order,
};
use sandhog_queue::FailureRecord;
use sandhog_queue::message::MessageId;

// Before the modules, which use them.
macro_rules! meta_columns {
    () => {
        "seq, queue, state, priority, lane, visible_at, receive_count, queued_at, suspect, origin, first_queued_at,
         first_received_at, earlier_receives, sequence"
    };
}
/// The length of a body in bytes, without reading the body.
macro_rules! body_bytes {
    () => {
        "CASE WHEN body_key IS NULL THEN length(body)
         ELSE (SELECT length(bodies.body) FROM bodies WHERE bodies.body_key = messages.body_key) END"
    };
}
macro_rules! all_columns {
    () => {
        concat!(
            meta_columns!(),
            ", id, sent_at, group_id, failure, dead_at, dead_receive_count, dead_failure, checksum, attributes,
             deduplication_id, system, parent, sender,
             CASE WHEN body_key IS NULL THEN body
             ELSE (SELECT bodies.body FROM bodies WHERE bodies.body_key = messages.body_key) END"
        )
    };
}

mod arrivals;
mod database;
mod failing;
mod glance;
mod log;
mod queues;
mod read;
#[cfg(test)]
mod tests;
mod time;
mod values;

pub(crate) use database::{CopyProgress, OpenRefusal, SqliteRows};
pub(crate) use glance::GlanceConnection;

impl Rows for SqliteRows {
    fn insert(&mut self, meta: MessageMeta, content: MessageContent) -> Result<(), StoreFault> {
        self.add_message(meta, content)
    }

    fn place(&mut self, meta: &MessageMeta) -> Result<(), StoreFault> {
        self.table()?.write(
            "UPDATE messages SET state = ?2, lane = ?3, visible_at = ?4, receive_count = ?5, suspect = ?6
             WHERE seq = ?1",
            params![
                signed(meta.seq),
                meta.state.number(),
                meta.group.as_deref(),
                signed(meta.visible_at_ms),
                meta.receive_count,
                meta.suspicion.number(),
            ],
        )?;
        self.note_flight(meta)
    }

    fn take(&mut self, meta: &MessageMeta) -> Result<(), StoreFault> {
        self.take_message(meta)
    }

    fn note(&mut self, seq: u64, failure: &FailureRecord) -> Result<(), StoreFault> {
        self.table()?.write(
            "UPDATE messages SET failure = ?2 WHERE seq = ?1",
            params![signed(seq), codec::encode_failure(failure)],
        )
    }

    fn relocate(&mut self, seq: u64, to: &MessageMeta, death: Option<&DeathRecord>) -> Result<(), StoreFault> {
        self.relocate_message(seq, to, death)
    }

    fn delete(&mut self, meta: &MessageMeta) -> Result<(), StoreFault> {
        self.delete_message(meta.seq)
    }

    fn cap_remembered(&mut self, latest_ms: u64) -> Result<(), StoreFault> {
        let late = self.other_tables().one(
            "SELECT 1 FROM deduplication WHERE until > ?1 LIMIT 1",
            params![signed(latest_ms)],
            |_| Ok(()),
        )?;
        if late.is_none() {
            return Ok(());
        }
        self.other_tables().write(
            "UPDATE deduplication SET until = ?1 WHERE until > ?1",
            params![signed(latest_ms)],
        )
    }

    fn cap_due(&mut self, queue: QueueKey, latest_ms: u64) -> Result<(), StoreFault> {
        let mut table = self.table()?;
        let late = table.one(
            "SELECT 1 FROM messages WHERE queue = ?1 AND visible_at > ?2 AND state IN (3, 4) LIMIT 1",
            params![queue.0, signed(latest_ms)],
            |_| Ok(()),
        )?;
        if late.is_none() {
            return Ok(());
        }
        table.write(
            "UPDATE messages SET visible_at = ?2 WHERE queue = ?1 AND visible_at > ?2 AND state IN (3, 4)",
            params![queue.0, signed(latest_ms)],
        )
    }

    fn cap_delays(&mut self, queue: QueueKey, now_ms: u64) -> Result<(), StoreFault> {
        self.table()?.write(
            "UPDATE messages SET visible_at = ?2 + visible_at - queued_at
             WHERE queue = ?1 AND state = 3 AND queued_at > ?2 AND visible_at > queued_at",
            params![queue.0, signed(now_ms)],
        )
    }

    fn ready(
        &mut self,
        queue: QueueKey,
        suspects: SuspectFilter,
        count: usize,
    ) -> Result<Vec<StoredMessage>, StoreFault> {
        self.ready_messages(queue, suspects, count)
    }

    fn has_unsuspected_ready(&mut self, queue: QueueKey) -> Result<bool, StoreFault> {
        let exists = self.table()?.one(
            "SELECT EXISTS (SELECT 1 FROM messages INDEXED BY messages_by_state
             WHERE queue = ?1 AND state = 0 AND state <> 2 AND suspect = 0)",
            params![queue.0],
            |row| integer(row, 0),
        )?;
        Ok(exists == Some(1))
    }

    fn ready_suspect(&mut self, queue: QueueKey) -> Result<Option<StoredMessage>, StoreFault> {
        self.table()?.one(
            concat!(
                "SELECT ",
                all_columns!(),
                " FROM messages INDEXED BY suspects WHERE queue = ?1 AND state = 0 AND suspect > 0",
                " ORDER BY priority DESC, seq LIMIT 1"
            ),
            params![queue.0],
            read_all,
        )
    }

    fn due(&mut self, queue: QueueKey, now_ms: u64, count: usize) -> Result<Vec<MessageMeta>, StoreFault> {
        self.table()?.many(
            concat!(
                "SELECT ",
                meta_columns!(),
                " FROM messages INDEXED BY messages_due WHERE queue = ?1 AND visible_at <= ?2 AND state IN (3, 4)",
                " ORDER BY visible_at, seq LIMIT ?3"
            ),
            params![queue.0, signed(now_ms), limit(count)],
            read_meta,
        )
    }

    fn next_due(&mut self, queue: QueueKey) -> Result<Option<u64>, StoreFault> {
        self.table()?.one(
            "SELECT visible_at FROM messages INDEXED BY messages_due WHERE queue = ?1 AND state IN (3, 4)
             ORDER BY visible_at LIMIT 1",
            params![queue.0],
            |row| number(row, 0),
        )
    }

    fn head(&mut self, queue: QueueKey, group: &GroupName) -> Result<Option<MessageMeta>, StoreFault> {
        self.table()?.one(
            concat!(
                "SELECT ",
                meta_columns!(),
                " FROM messages INDEXED BY lane_heads WHERE queue = ?1 AND lane = ?2 AND lane IS NOT NULL",
                " AND state IN (0, 2, 4)"
            ),
            params![queue.0, &**group],
            read_meta,
        )
    }

    fn behind(&mut self, queue: QueueKey, group: &GroupName, count: usize) -> Result<Vec<MessageMeta>, StoreFault> {
        self.table()?.many(
            concat!(
                "SELECT ",
                meta_columns!(),
                " FROM messages INDEXED BY lane_held WHERE queue = ?1 AND lane = ?2 AND lane IS NOT NULL",
                " AND state IN (1, 6) ORDER BY priority DESC, seq LIMIT ?3"
            ),
            params![queue.0, &**group, limit(count)],
            read_meta,
        )
    }

    fn group_id(&mut self, seq: u64) -> Result<Option<String>, StoreFault> {
        let group_id = self.table()?.one(
            "SELECT group_id FROM messages WHERE seq = ?1",
            params![signed(seq)],
            |row| text(row, 0),
        )?;
        Ok(group_id.flatten())
    }

    fn following(&mut self, queue: QueueKey, seq: u64, count: usize) -> Result<Vec<MessageMeta>, StoreFault> {
        self.table()?.many(
            concat!(
                "SELECT ",
                meta_columns!(),
                " FROM messages NOT INDEXED WHERE seq > ?2 AND queue = ?1 ORDER BY seq LIMIT ?3"
            ),
            params![queue.0, signed(seq), limit(count)],
            read_meta,
        )
    }

    fn oldest(
        &mut self,
        queue: QueueKey,
        state: MessageState,
        priority: u8,
    ) -> Result<Option<MessageMeta>, StoreFault> {
        self.table()?.one(
            concat!(
                "SELECT ",
                meta_columns!(),
                " FROM messages INDEXED BY messages_by_state WHERE queue = ?1 AND state = ?2 AND state <> 2",
                " AND priority = ?3 ORDER BY seq LIMIT 1"
            ),
            params![queue.0, state.number(), priority],
            read_meta,
        )
    }

    fn any(
        &mut self,
        queue: QueueKey,
        state: MessageState,
        last: u64,
        count: usize,
    ) -> Result<Vec<MessageMeta>, StoreFault> {
        if state == MessageState::InFlight {
            return self.in_flight(queue, last, count);
        }
        self.table()?.many(
            concat!(
                "SELECT ",
                meta_columns!(),
                " FROM messages INDEXED BY messages_by_state WHERE queue = ?1 AND state = ?2 AND state <> 2",
                " AND seq <= ?3 LIMIT ?4"
            ),
            params![queue.0, state.number(), signed(last), limit(count)],
            read_meta,
        )
    }

    fn in_flight_outside(&mut self, queue: QueueKey) -> Result<u64, StoreFault> {
        self.count_outside(queue)
    }

    fn meta(&mut self, seq: u64) -> Result<Option<MessageMeta>, StoreFault> {
        self.table()?.one(
            concat!("SELECT ", meta_columns!(), " FROM messages WHERE seq = ?1"),
            params![signed(seq)],
            read_meta,
        )
    }

    fn fetch(&mut self, seq: u64) -> Result<Option<StoredMessage>, StoreFault> {
        self.table()?.one(
            concat!("SELECT ", all_columns!(), " FROM messages WHERE seq = ?1"),
            params![signed(seq)],
            read_all,
        )
    }

    fn dead(&mut self, origin: QueueKey, after: u64, count: usize) -> Result<Vec<DeadLetterRef>, StoreFault> {
        self.table()?.many(
            concat!(
                "SELECT seq, ",
                body_bytes!(),
                " FROM messages INDEXED BY dead_letters WHERE origin = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3"
            ),
            params![origin.0, signed(after), limit(count)],
            read_letter,
        )
    }

    fn dead_with_id(&mut self, origin: QueueKey, id: &MessageId) -> Result<Option<DeadLetterRef>, StoreFault> {
        self.table()?.one(
            concat!(
                "SELECT seq, ",
                body_bytes!(),
                " FROM messages INDEXED BY dead_letter_ids WHERE origin = ?1 AND id = ?2 LIMIT 1"
            ),
            params![origin.0, id.as_str()],
            read_letter,
        )
    }

    fn first_with(
        &mut self,
        queue: QueueKey,
        deduplication: DeduplicationKey<'_>,
        now_ms: u64,
    ) -> Result<Option<FirstSent>, StoreFault> {
        self.other_tables().one(
            "SELECT id, sequence FROM deduplication
             WHERE queue = ?1 AND scope = ?2 AND deduplication_id = ?3 AND until > ?4",
            params![queue.0, deduplication.scope, deduplication.id, signed(now_ms)],
            |row| {
                Ok(FirstSent {
                    id: MessageId::from_queue(&text(row, 0)?.unwrap_or_default()),
                    sequence: optional_number(row, 1)?,
                })
            },
        )
    }

    fn remember(
        &mut self,
        queue: QueueKey,
        deduplication: DeduplicationKey<'_>,
        first: &FirstSent,
        until_ms: u64,
    ) -> Result<(), StoreFault> {
        self.other_tables().write(
            "INSERT OR REPLACE INTO deduplication (queue, scope, deduplication_id, id, until, sequence)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                queue.0,
                deduplication.scope,
                deduplication.id,
                first.id.as_str(),
                signed(until_ms),
                first.sequence.map(signed),
            ],
        )
    }

    fn forget(&mut self, now_ms: u64, count: usize) -> Result<(), StoreFault> {
        self.other_tables().write(
            "DELETE FROM deduplication WHERE (queue, scope, deduplication_id) IN
             (SELECT queue, scope, deduplication_id FROM deduplication WHERE until <= ?1 ORDER BY until LIMIT ?2)",
            params![signed(now_ms), limit(count)],
        )
    }

    fn forget_sent(&mut self, queue: QueueKey, last: u64, count: usize) -> Result<bool, StoreFault> {
        self.other_tables().write(
            "DELETE FROM deduplication WHERE (queue, scope, deduplication_id) IN
             (SELECT queue, scope, deduplication_id FROM deduplication
              WHERE queue = ?1 AND ifnull(sequence, 0) <= ?2 LIMIT ?3)",
            params![queue.0, signed(last), limit(count)],
        )?;
        let left = self.other_tables().one(
            "SELECT 1 FROM deduplication WHERE queue = ?1 AND ifnull(sequence, 0) <= ?2 LIMIT 1",
            params![queue.0, signed(last)],
            |_| Ok(()),
        )?;
        Ok(left.is_some())
    }

    fn add_segment(&mut self, segment: &ProcessedSegment) -> Result<(), StoreFault> {
        let stored = segment.encode();
        self.other_tables().write(
            "INSERT OR REPLACE INTO handled (segment, noted_at, checksum, keys) VALUES (?1, ?2, ?3, ?4)",
            params![
                signed(stored.number),
                signed(stored.noted_ms),
                stored.checksum,
                stored.keys
            ],
        )
    }

    fn remove_segment(&mut self, number: u64) -> Result<(), StoreFault> {
        self.other_tables()
            .write("DELETE FROM handled WHERE segment = ?1", params![signed(number)])
    }

    fn segments(&mut self, show: &mut dyn FnMut(StoredSegment)) -> Result<(), StoreFault> {
        self.other_tables().each(
            "SELECT segment, noted_at, checksum, keys FROM handled ORDER BY segment",
            |row| {
                show(StoredSegment {
                    number: number(row, 0)?,
                    noted_ms: number(row, 1)?,
                    checksum: integer(row, 2)?,
                    keys: bytes(row, 3)?,
                });
                Ok(())
            },
        )
    }

    fn sighting(&mut self) -> Result<Option<ClockSighting>, StoreFault> {
        self.read_sighting()
    }

    fn note_sighting(&mut self, sighting: &ClockSighting) -> Result<(), StoreFault> {
        self.write_sighting(sighting)
    }

    fn is_changed(&self) -> bool {
        self.has_changed()
    }

    fn queues(&mut self) -> Result<Vec<StoredQueue>, StoreFault> {
        self.read_queues()
    }

    fn add_queue(&mut self, queue: &StoredQueue) -> Result<(), StoreFault> {
        self.write_queue(queue)
    }

    fn set_order(&mut self, queue: QueueKey, order: Order) -> Result<(), StoreFault> {
        self.write_order(queue, order)
    }

    fn retire_queue(&mut self, queue: QueueKey, wall_ms: u64) -> Result<(), StoreFault> {
        self.write_retired(queue, wall_ms)
    }

    fn retired_queues(&mut self) -> Result<Vec<QueueKey>, StoreFault> {
        self.read_retired()
    }

    fn queue_record(&mut self, queue: QueueKey) -> Result<Option<QueueRecord>, StoreFault> {
        self.read_record(queue)
    }

    fn set_queue_record(&mut self, queue: QueueKey, record: &QueueRecord) -> Result<(), StoreFault> {
        self.write_record(queue, record)
    }

    fn disk_use(&mut self) -> Result<Option<DiskUse>, StoreFault> {
        self.measure().map(Some)
    }

    fn census(&mut self) -> Result<MessageCensus, StoreFault> {
        let in_flight = self.count_in_flight()?;
        let table = self.table()?;
        let mut states = table.many(
            "SELECT queue, state, count(*) FROM messages INDEXED BY messages_by_state WHERE state <> 2
             GROUP BY queue, state",
            [],
            |row| Ok((key(row, 0)?, integer(row, 1)?, number(row, 2)?)),
        )?;
        states.extend(in_flight);
        let state_of = |(key, state, count): (QueueKey, i64, u64)| {
            let state = u8::try_from(state).ok().and_then(MessageState::from_number);
            (key, state.unwrap_or(MessageState::Damaged), count)
        };
        Ok(MessageCensus {
            states: states.into_iter().map(state_of).collect(),
            dead: table.many(
                "SELECT queue, origin, count(*) FROM messages INDEXED BY dead_letters WHERE origin IS NOT NULL
                 GROUP BY origin, queue",
                [],
                |row| Ok((key(row, 0)?, key(row, 1)?, number(row, 2)?)),
            )?,
            suspects: table.many(
                "SELECT queue, count(*) FROM messages INDEXED BY suspects WHERE suspect > 0 GROUP BY queue",
                [],
                |row| Ok((key(row, 0)?, number(row, 1)?)),
            )?,
            last: table.one(
                "SELECT seq, queued_at FROM messages ORDER BY seq DESC LIMIT 1",
                [],
                |row| Ok((number(row, 0)?, number(row, 1)?)),
            )?,
        })
    }
}
