//! The rows on disk: the only importer of `rusqlite`. Statements and transactions; no queue rule.
//!
//! Numbers are read leniently and content strictly: a row that somebody damaged must still be found and set apart.

use std::{fmt, path::Path, sync::Arc};

use bytes::Bytes;
use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension, Params, Row, config::DbConfig, params, types::ValueRef,
};

use super::{
    super::FailureRecord,
    codec,
    row::{Content, Death, Fault, FaultKind, Fetched, Lane, Meta, QueueKey, State, Suspicion},
    rows::{Census, Rows, StoredQueue},
    schema,
    settings::Order,
};
use crate::message::{Message, MessageId, QueueName};

/// How long to wait for an operator's tool that holds a lock.
const BUSY: std::time::Duration = std::time::Duration::from_secs(5);
/// Above the number of statements below, so that each is prepared once.
const STATEMENTS: usize = 64;

macro_rules! meta_columns {
    () => {
        "seq, queue, state, priority, lane, visible_at, receive_count, queued_at, suspect, origin"
    };
}
macro_rules! all_columns {
    () => {
        concat!(
            meta_columns!(),
            ", id, sent_at, group_id, failure, dead_at, dead_receive_count, dead_failure, checksum, attributes, body"
        )
    };
}

/// An open database.
pub(super) struct SqliteRows {
    connection: Connection,
    /// How many transactions changed something, in the file.
    commits: u64,
    changed: bool,
}

impl fmt::Debug for SqliteRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteRows")
            .field("commits", &self.commits)
            .finish_non_exhaustive()
    }
}

/// What is wrong with a file that can't be opened.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It is of another version of the format.
    Version(i64),
    /// It is not one of ours.
    Foreign,
    /// It is damaged.
    Damaged(rusqlite::Error),
    /// It can't be read or written.
    Failed(rusqlite::Error),
}

impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(error),
            _ => Self::Failed(error),
        }
    }
}

impl SqliteRows {
    /// Opens the file, or makes it.
    pub(super) fn open(path: &Path, vfs: Option<&str>) -> Result<Self, Refusal> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = match vfs {
            Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs)?,
            None => Connection::open_with_flags(path, flags)?,
        };
        connection.busy_timeout(BUSY)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        // A store that failed must leave its log alone for the next run; an orderly end checkpoints by itself.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.pragma_update(None, "cell_size_check", true)?;
        connection.pragma_update(None, "cache_size", -8192)?;
        let fresh = examine(&connection)?;
        connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get::<_, String>(0))?;
        connection.pragma_update(None, "synchronous", "full")?;
        if fresh {
            let create = format!(
                "BEGIN IMMEDIATE; {} PRAGMA application_id = {}; PRAGMA user_version = {}; COMMIT",
                schema::CREATE,
                schema::APPLICATION_ID,
                schema::VERSION
            );
            connection.execute_batch(&create)?;
        }
        let commits = connection.query_row("SELECT commits FROM store", [], |row| row.get::<_, i64>(0))?;
        Ok(Self {
            connection,
            commits: unsigned(commits),
            changed: false,
        })
    }

    /// The number of the last transaction that changed something.
    pub(super) fn commits(&self) -> u64 {
        self.commits
    }

    /// Starts a transaction.
    pub(super) fn begin(&mut self) -> Result<(), Fault> {
        self.changed = false;
        self.connection
            .prepare_cached("BEGIN IMMEDIATE")
            .and_then(|mut begin| begin.execute([]))
            .map_err(fault)?;
        Ok(())
    }

    /// Ends a transaction. Once this has returned, it is on the disk; its number is returned if it changed anything.
    pub(super) fn commit(&mut self) -> Result<Option<u64>, Fault> {
        let changed = self.changed;
        if changed {
            self.write("UPDATE store SET commits = ?1", params![signed(self.commits + 1)])?;
        }
        self.connection
            .prepare_cached("COMMIT")
            .and_then(|mut commit| commit.execute([]))
            .map_err(fault)?;
        if changed {
            self.commits += 1;
        }
        Ok(changed.then_some(self.commits))
    }

    /// Takes a transaction back.
    pub(super) fn roll_back(&mut self) -> Result<(), Fault> {
        if self.connection.is_autocommit() {
            return Ok(());
        }
        self.connection.execute_batch("ROLLBACK").map_err(fault)
    }

    /// Copies the write-ahead log into the database and empties it, if no other tool is reading.
    pub(super) fn checkpoint(&mut self) {
        let checkpoint = self
            .connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        if let Err(error) = checkpoint {
            tracing::debug!(%error, "the write-ahead log stays for the next start");
        }
    }

    fn write(&mut self, sql: &str, params: impl Params) -> Result<(), Fault> {
        self.changed = true;
        let mut statement = self.connection.prepare_cached(sql).map_err(fault)?;
        statement.execute(params).map_err(fault)?;
        Ok(())
    }

    fn one<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, Fault> {
        let mut statement = self.connection.prepare_cached(sql).map_err(fault)?;
        statement.query_row(params, read).optional().map_err(fault)
    }

    fn many<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, Fault> {
        let mut statement = self.connection.prepare_cached(sql).map_err(fault)?;
        let rows = statement.query_map(params, read).map_err(fault)?;
        rows.collect::<rusqlite::Result<_>>().map_err(fault)
    }
}

/// Refuses a file that is not ours; returns whether it is empty.
fn examine(connection: &Connection) -> Result<bool, Refusal> {
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (application, version) = (pragma("application_id")?, pragma("user_version")?);
    let objects = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?;
    match (application, version, objects) {
        (0, 0, 0) => Ok(true),
        (schema::APPLICATION_ID, schema::VERSION, _) => Ok(false),
        (schema::APPLICATION_ID, other, _) => Err(Refusal::Version(other)),
        _ => Err(Refusal::Foreign),
    }
}

fn fault(error: rusqlite::Error) -> Fault {
    let kind = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy) => FaultKind::Passing,
        _ => FaultKind::Final,
    };
    Fault {
        kind,
        cause: Arc::new(error),
    }
}

/// A number as `SQLite` keeps it. Ours are sequence numbers and milliseconds, which never come near the limit.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn integer(row: &Row<'_>, column: usize) -> rusqlite::Result<i64> {
    Ok(match row.get_ref(column)? {
        ValueRef::Integer(number) => number,
        ValueRef::Null | ValueRef::Real(_) | ValueRef::Text(_) | ValueRef::Blob(_) => 0,
    })
}

fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    integer(row, column).map(unsigned)
}

fn small(row: &Row<'_>, column: usize) -> rusqlite::Result<u32> {
    Ok(u32::try_from(integer(row, column)?).unwrap_or(0))
}

fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<String>> {
    Ok(match row.get_ref(column)? {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => None,
    })
}

fn key(row: &Row<'_>, column: usize) -> rusqlite::Result<QueueKey> {
    small(row, column).map(QueueKey)
}

fn read_meta(row: &Row<'_>) -> rusqlite::Result<Meta> {
    let state = u8::try_from(integer(row, 2)?).ok().and_then(State::from_number);
    let lane = text(row, 4)?.map(Lane::from);
    Ok(Meta {
        seq: number(row, 0)?,
        queue: key(row, 1)?,
        state: state.unwrap_or(State::Damaged),
        priority: u8::try_from(integer(row, 3)?).unwrap_or(0),
        lane,
        visible_at_ms: number(row, 5)?,
        receive_count: small(row, 6)?,
        queued_at_ms: number(row, 7)?,
        suspicion: Suspicion::from_number(u8::try_from(integer(row, 8)?).unwrap_or(0)),
        origin: matches!(row.get_ref(9)?, ValueRef::Integer(_))
            .then(|| key(row, 9))
            .transpose()?,
    })
}

fn read_all(row: &Row<'_>) -> rusqlite::Result<Fetched> {
    let meta = read_meta(row)?;
    let content = read_content(row, &meta)?;
    Ok(Fetched { meta, content })
}

fn read_content(row: &Row<'_>, meta: &Meta) -> rusqlite::Result<Result<Content, String>> {
    let failure = text(row, 13)?
        .map(|failure| codec::decode_failure(&failure))
        .transpose();
    let death = match text(row, 16)? {
        Some(failure) => {
            let (dead_at_ms, receive_count) = (number(row, 14)?, small(row, 15)?);
            codec::decode_failure(&failure).map(|failure| {
                Some(Death {
                    dead_at_ms,
                    receive_count,
                    failure,
                })
            })
        }
        None => Ok(None),
    };
    let attributes_text = text(row, 18)?;
    let attributes = codec::decode_attributes(attributes_text.as_deref());
    let body = match row.get_ref(19)? {
        ValueRef::Blob(bytes) | ValueRef::Text(bytes) => Bytes::copy_from_slice(bytes),
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => Bytes::new(),
    };
    let id = MessageId::from_queue(&text(row, 10)?.unwrap_or_default());
    let (sent_at_ms, group_id, stored) = (number(row, 11)?, text(row, 12)?, integer(row, 17)?);
    let priority = meta.priority;
    let content = attributes.and_then(|attributes| {
        let message = Message {
            id,
            body,
            attributes,
            sent_at_ms,
            group_id,
            priority,
        };
        codec::verify(
            Content {
                message,
                failure: failure?,
                death: death?,
            },
            attributes_text.as_deref(),
            stored,
        )
    });
    Ok(content)
}

impl Rows for SqliteRows {
    fn insert(&mut self, meta: &Meta, content: &Content) -> Result<(), Fault> {
        let message = &content.message;
        let attributes = codec::encode_attributes(&message.attributes);
        let checksum = codec::checksum(message, attributes.as_deref());
        self.write(
            "INSERT INTO messages (seq, queue, state, priority, lane, visible_at, receive_count, queued_at, suspect,
             id, sent_at, group_id, checksum, attributes, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
            params![
                signed(meta.seq),
                meta.queue.0,
                meta.state.number(),
                meta.priority,
                meta.lane.as_deref(),
                signed(meta.visible_at_ms),
                meta.receive_count,
                signed(meta.queued_at_ms),
                meta.suspicion.number(),
                message.id.as_str(),
                signed(message.sent_at_ms),
                message.group_id,
                checksum,
                attributes,
                &*message.body,
            ],
        )
    }

    fn place(&mut self, meta: &Meta) -> Result<(), Fault> {
        self.write(
            "UPDATE messages SET state = ?2, lane = ?3, visible_at = ?4, receive_count = ?5, suspect = ?6
             WHERE seq = ?1",
            params![
                signed(meta.seq),
                meta.state.number(),
                meta.lane.as_deref(),
                signed(meta.visible_at_ms),
                meta.receive_count,
                meta.suspicion.number(),
            ],
        )
    }

    fn take(&mut self, meta: &Meta) -> Result<(), Fault> {
        self.write(
            "UPDATE messages SET state = ?2, receive_count = ?3 WHERE seq = ?1",
            params![signed(meta.seq), meta.state.number(), meta.receive_count],
        )
    }

    fn note(&mut self, seq: u64, failure: &FailureRecord) -> Result<(), Fault> {
        self.write(
            "UPDATE messages SET failure = ?2 WHERE seq = ?1",
            params![signed(seq), codec::encode_failure(failure)],
        )
    }

    fn relocate(&mut self, seq: u64, to: &Meta, death: Option<&Death>) -> Result<(), Fault> {
        self.write(
            "UPDATE messages SET seq = ?2, queue = ?3, state = ?4, lane = ?5, visible_at = ?6, receive_count = ?7,
             queued_at = ?8, suspect = ?9, origin = ?10, dead_at = ?11, dead_receive_count = ?12, dead_failure = ?13,
             failure = NULL WHERE seq = ?1",
            params![
                signed(seq),
                signed(to.seq),
                to.queue.0,
                to.state.number(),
                to.lane.as_deref(),
                signed(to.visible_at_ms),
                to.receive_count,
                signed(to.queued_at_ms),
                to.suspicion.number(),
                to.origin.map(|origin| origin.0),
                death.map(|death| signed(death.dead_at_ms)),
                death.map(|death| death.receive_count),
                death.map(|death| codec::encode_failure(&death.failure)),
            ],
        )
    }

    fn delete(&mut self, meta: &Meta) -> Result<(), Fault> {
        self.write("DELETE FROM messages WHERE seq = ?1", params![signed(meta.seq)])
    }

    fn cap_due(&mut self, queue: QueueKey, latest_ms: u64) -> Result<(), Fault> {
        let late = self.one(
            "SELECT 1 FROM messages WHERE queue = ?1 AND visible_at > ?2 AND state IN (3, 4) LIMIT 1",
            params![queue.0, signed(latest_ms)],
            |_| Ok(()),
        )?;
        if late.is_none() {
            return Ok(());
        }
        self.write(
            "UPDATE messages SET visible_at = ?2 WHERE queue = ?1 AND visible_at > ?2 AND state IN (3, 4)",
            params![queue.0, signed(latest_ms)],
        )
    }

    fn ready(&mut self, queue: QueueKey, count: usize) -> Result<Vec<Fetched>, Fault> {
        self.many(
            concat!(
                "SELECT ",
                all_columns!(),
                " FROM messages INDEXED BY messages_by_state WHERE queue = ?1 AND state = 0",
                " ORDER BY priority DESC, seq LIMIT ?2"
            ),
            params![queue.0, limit(count)],
            read_all,
        )
    }

    fn ready_suspect(&mut self, queue: QueueKey) -> Result<Option<Fetched>, Fault> {
        self.one(
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

    fn due(&mut self, queue: QueueKey, now_ms: u64, count: usize) -> Result<Vec<Meta>, Fault> {
        self.many(
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

    fn next_due(&mut self, queue: QueueKey) -> Result<Option<u64>, Fault> {
        self.one(
            "SELECT visible_at FROM messages INDEXED BY messages_due WHERE queue = ?1 AND state IN (3, 4)
             ORDER BY visible_at LIMIT 1",
            params![queue.0],
            |row| number(row, 0),
        )
    }

    fn head(&mut self, queue: QueueKey, lane: &Lane) -> Result<Option<Meta>, Fault> {
        self.one(
            concat!(
                "SELECT ",
                meta_columns!(),
                " FROM messages INDEXED BY lane_heads WHERE queue = ?1 AND lane = ?2 AND lane IS NOT NULL",
                " AND state IN (0, 2, 4)"
            ),
            params![queue.0, &**lane],
            read_meta,
        )
    }

    fn next_held(&mut self, queue: QueueKey, lane: &Lane) -> Result<Option<Meta>, Fault> {
        self.one(
            concat!(
                "SELECT ",
                meta_columns!(),
                " FROM messages INDEXED BY lane_held WHERE queue = ?1 AND lane = ?2 AND lane IS NOT NULL",
                " AND state = 1 ORDER BY priority DESC, seq LIMIT 1"
            ),
            params![queue.0, &**lane],
            read_meta,
        )
    }

    fn group(&mut self, seq: u64) -> Result<Option<String>, Fault> {
        let group = self.one(
            "SELECT group_id FROM messages WHERE seq = ?1",
            params![signed(seq)],
            |row| text(row, 0),
        )?;
        Ok(group.flatten())
    }

    fn following(&mut self, queue: QueueKey, seq: u64, count: usize) -> Result<Vec<Meta>, Fault> {
        self.many(
            concat!(
                "SELECT ",
                meta_columns!(),
                " FROM messages NOT INDEXED WHERE seq > ?2 AND queue = ?1 ORDER BY seq LIMIT ?3"
            ),
            params![queue.0, signed(seq), limit(count)],
            read_meta,
        )
    }

    fn oldest(&mut self, queue: QueueKey, state: State, priority: u8) -> Result<Option<Meta>, Fault> {
        self.one(
            concat!(
                "SELECT ",
                meta_columns!(),
                " FROM messages INDEXED BY messages_by_state WHERE queue = ?1 AND state = ?2 AND priority = ?3",
                " ORDER BY seq LIMIT 1"
            ),
            params![queue.0, state.number(), priority],
            read_meta,
        )
    }

    fn any(&mut self, queue: QueueKey, state: State, last: u64, count: usize) -> Result<Vec<Meta>, Fault> {
        self.many(
            concat!(
                "SELECT ",
                meta_columns!(),
                " FROM messages INDEXED BY messages_by_state WHERE queue = ?1 AND state = ?2 AND seq <= ?3 LIMIT ?4"
            ),
            params![queue.0, state.number(), signed(last), limit(count)],
            read_meta,
        )
    }

    fn dead(&mut self, origin: QueueKey, after: u64, count: usize) -> Result<Vec<Fetched>, Fault> {
        self.many(
            concat!(
                "SELECT ",
                all_columns!(),
                " FROM messages INDEXED BY dead_letters WHERE origin = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3"
            ),
            params![origin.0, signed(after), limit(count)],
            read_all,
        )
    }

    fn dead_with_id(&mut self, origin: QueueKey, id: &MessageId) -> Result<Option<Fetched>, Fault> {
        self.one(
            concat!(
                "SELECT ",
                all_columns!(),
                " FROM messages INDEXED BY dead_letter_ids WHERE origin = ?1 AND id = ?2 LIMIT 1"
            ),
            params![origin.0, id.as_str()],
            read_all,
        )
    }

    fn first_with(&mut self, queue: QueueKey, deduplication: &str, now_ms: u64) -> Result<Option<MessageId>, Fault> {
        let id = self.one(
            "SELECT id FROM deduplication WHERE queue = ?1 AND deduplication_id = ?2 AND until > ?3",
            params![queue.0, deduplication, signed(now_ms)],
            |row| text(row, 0),
        )?;
        Ok(id.flatten().map(|id| MessageId::from_queue(&id)))
    }

    fn remember(&mut self, queue: QueueKey, deduplication: &str, id: &MessageId, until_ms: u64) -> Result<(), Fault> {
        self.write(
            "INSERT OR REPLACE INTO deduplication (queue, deduplication_id, id, until) VALUES (?1, ?2, ?3, ?4)",
            params![queue.0, deduplication, id.as_str(), signed(until_ms)],
        )
    }

    fn forget(&mut self, now_ms: u64, count: usize) -> Result<(), Fault> {
        self.write(
            "DELETE FROM deduplication WHERE (queue, deduplication_id) IN
             (SELECT queue, deduplication_id FROM deduplication WHERE until <= ?1 ORDER BY until LIMIT ?2)",
            params![signed(now_ms), limit(count)],
        )
    }

    fn queues(&mut self) -> Result<Vec<StoredQueue>, Fault> {
        let stored = self.many("SELECT queue, name, one_lane FROM queues ORDER BY queue", [], |row| {
            Ok((key(row, 0)?, text(row, 1)?.unwrap_or_default(), integer(row, 2)?))
        })?;
        let read = |(key, name, one_lane): (QueueKey, String, i64)| {
            let name = QueueName::new(&name).map_err(|error| Fault {
                kind: FaultKind::Final,
                cause: Arc::new(error),
            })?;
            let order = if one_lane == 1 { Order::Queue } else { Order::Group };
            Ok(StoredQueue { key, name, order })
        };
        stored.into_iter().map(read).collect()
    }

    fn add_queue(&mut self, queue: &StoredQueue) -> Result<(), Fault> {
        self.write(
            "INSERT INTO queues (queue, name, one_lane) VALUES (?1, ?2, ?3)",
            params![queue.key.0, queue.name.as_str(), queue.order == Order::Queue],
        )
    }

    fn set_order(&mut self, queue: QueueKey, order: Order) -> Result<(), Fault> {
        self.write(
            "UPDATE queues SET one_lane = ?2 WHERE queue = ?1",
            params![queue.0, order == Order::Queue],
        )
    }

    fn census(&mut self) -> Result<Census, Fault> {
        let states = self.many(
            "SELECT queue, state, count(*) FROM messages INDEXED BY messages_by_state GROUP BY queue, state",
            [],
            |row| Ok((key(row, 0)?, integer(row, 1)?, number(row, 2)?)),
        )?;
        let state_of = |(key, state, count): (QueueKey, i64, u64)| {
            let state = u8::try_from(state).ok().and_then(State::from_number);
            (key, state.unwrap_or(State::Damaged), count)
        };
        Ok(Census {
            states: states.into_iter().map(state_of).collect(),
            dead: self.many(
                "SELECT queue, origin, count(*) FROM messages INDEXED BY dead_letters WHERE origin IS NOT NULL
                 GROUP BY origin, queue",
                [],
                |row| Ok((key(row, 0)?, key(row, 1)?, number(row, 2)?)),
            )?,
            suspects: self.many(
                "SELECT queue, count(*) FROM messages INDEXED BY suspects WHERE suspect > 0 GROUP BY queue",
                [],
                |row| Ok((key(row, 0)?, number(row, 1)?)),
            )?,
            last: self.one(
                "SELECT seq, queued_at FROM messages ORDER BY seq DESC LIMIT 1",
                [],
                |row| Ok((number(row, 0)?, number(row, 1)?)),
            )?,
        })
    }
}
