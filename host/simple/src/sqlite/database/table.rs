//! The two ways to the tables, so that no statement misses a message.
//!
//! A message that came in the transaction under way may still be among the `Arrivals`, outside of the table of
//! messages. [`SqliteRows::table`] writes the arrivals before it gives access to that table. The operations that deal with
//! arrivals themselves are in this file: inserting, taking, moving and deleting a message, and reading those that are ready.
//! [`SqliteRows::other_tables`] leaves the arrivals alone and refuses, in tests, a statement that names the table of messages.

use rusqlite::{Connection, OptionalExtension, Params, Row, Statement, ToSql, params};

use super::{
    super::{
        super::{
            codec,
            row::{
                DeathRecord, MessageContent, MessageMeta, MessagePast, QueueKey, SentDetails, StoreFault, StoredMessage,
            },
            rows::SuspectFilter,
            schema,
        },
        failing::fault,
        read::{limit, read_all, signed},
    },
    SqliteRows,
};

/// Builds the statement that inserts a message, with the columns and places of those values that few messages have.
macro_rules! insert {
    ($columns:literal, $places:literal) => {
        concat!(
            "INSERT INTO messages (seq, queue, state, priority, lane, visible_at, receive_count, queued_at, suspect, id,
             sent_at, group_id, checksum, attributes, body, commits, first_received_at",
            $columns,
            ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17",
            $places,
            ")"
        )
    };
}
/// Most messages have nothing else: each further column costs time.
const INSERT: &str = insert!("", "");
const INSERT_ALL: &str = insert!(
    ", body_key, first_queued_at, earlier_receives, sequence, deduplication_id, system, parent, sender",
    ", ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25"
);
const INSERT_BODY: &str = "INSERT INTO bodies (body_key, body) VALUES (?1, ?2)";

/// Builds the statement for a receive, with a further condition.
macro_rules! ready {
    ($condition:literal) => {
        concat!(
            "SELECT ",
            all_columns!(),
            " FROM messages INDEXED BY messages_by_state WHERE queue = ?1 AND state = 0 AND state <> 2",
            $condition,
            " ORDER BY priority DESC, seq LIMIT ?2"
        )
    };
}

/// Which tables a statement may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    All,
    /// All but that of messages, whose arrivals may not be written yet.
    Others,
}

/// Runs statements inside a transaction.
pub(crate) struct Table<'a> {
    connection: &'a Connection,
    changed: &'a mut bool,
    scope: Scope,
}

impl SqliteRows {
    /// Returns the table of messages, with every message in it.
    pub(crate) fn table(&mut self) -> Result<Table<'_>, StoreFault> {
        let arrivals = self.arrivals.take();
        if !arrivals.is_empty() {
            self.insert_messages(&arrivals)?;
        }
        Ok(self.unwritten_table())
    }

    /// Returns the tables that hold no messages.
    pub(crate) fn other_tables(&mut self) -> Table<'_> {
        Table {
            scope: Scope::Others,
            ..self.unwritten_table()
        }
    }

    /// Returns the table of messages without its arrivals.
    fn unwritten_table(&mut self) -> Table<'_> {
        Table {
            connection: &self.connection,
            changed: &mut self.changed,
            scope: Scope::All,
        }
    }

    /// Adds a message: to the arrivals if it may wait there, to the table if not.
    pub(crate) fn add_message(&mut self, meta: MessageMeta, content: MessageContent) -> Result<(), StoreFault> {
        if self.arrivals.is_full() {
            self.table()?;
        }
        match self.arrivals.keep(meta, content) {
            None => Ok(()),
            Some(message) => self.insert_messages(&[message]),
        }
    }

    /// Writes messages into the table.
    fn insert_messages(&mut self, messages: &[(MessageMeta, MessageContent)]) -> Result<(), StoreFault> {
        let commits = self.next_commits();
        self.unwritten_table().insert(messages, commits)?;
        for (meta, _) in messages {
            self.note_newest(meta.seq);
            self.note_flight(meta)?;
        }
        Ok(())
    }

    /// Writes how a message is handed out.
    pub(crate) fn take_message(&mut self, meta: &MessageMeta) -> Result<(), StoreFault> {
        if let Some(arrival) = self.arrivals.get_mut(meta.seq) {
            arrival.state = meta.state;
            arrival.receive_count = meta.receive_count;
            arrival.visible_at_ms = meta.visible_at_ms;
            arrival.past = meta.past;
            return Ok(());
        }
        self.unwritten_table().write(
            "UPDATE messages SET state = ?2, receive_count = ?3, visible_at = ?4, first_received_at = ?5 WHERE seq = ?1",
            params![
                signed(meta.seq),
                meta.state.number(),
                meta.receive_count,
                signed(meta.visible_at_ms),
                meta.past.first_received_at_ms.map(signed)
            ],
        )?;
        self.note_flight(meta)
    }

    /// Moves a message to another place.
    pub(crate) fn relocate_message(
        &mut self,
        seq: u64,
        to: &MessageMeta,
        death: Option<&DeathRecord>,
    ) -> Result<(), StoreFault> {
        let commits = self.next_commits();
        self.table()?.write(
            "UPDATE messages SET seq = ?2, queue = ?3, state = ?4, lane = ?5, visible_at = ?6, receive_count = ?7,
             queued_at = ?8, suspect = ?9, origin = ?10, dead_at = ?11, dead_receive_count = ?12, dead_failure = ?13,
             failure = NULL, commits = ?14, first_queued_at = ?15, earlier_receives = ?16, sequence = ?17
             WHERE seq = ?1",
            params![
                signed(seq),
                signed(to.seq),
                to.queue.0,
                to.state.number(),
                to.group.as_deref(),
                signed(to.visible_at_ms),
                to.receive_count,
                signed(to.queued_at_ms),
                to.suspicion.number(),
                to.origin.map(|origin| origin.0),
                death.map(|death| signed(death.dead_at_ms)),
                death.map(|death| death.receive_count),
                death.map(|death| codec::encode_failure(&death.failure)),
                signed(commits),
                signed(to.past.first_queued_at_ms),
                to.past.earlier_receives,
                signed(to.past.sequence),
            ],
        )?;
        self.note_newest(to.seq);
        self.note_flight(to)
    }

    /// Deletes a message.
    pub(crate) fn delete_message(&mut self, seq: u64) -> Result<(), StoreFault> {
        if self.arrivals.remove(seq) {
            return Ok(());
        }
        self.note_deleted(seq);
        self.unwritten_table()
            .write("DELETE FROM messages WHERE seq = ?1", params![signed(seq)])
    }

    /// Reads the first `count` messages of a queue that are ready.
    pub(crate) fn ready_messages(
        &mut self,
        queue: QueueKey,
        suspects: SuspectFilter,
        count: usize,
    ) -> Result<Vec<StoredMessage>, StoreFault> {
        let sql = match suspects {
            SuspectFilter::Included => ready!(""),
            SuspectFilter::LeftOut => ready!(" AND suspect = 0"),
        };
        let table = self.unwritten_table();
        let mut ready = table.many(sql, params![queue.0, limit(count)], read_all)?;
        // No arrival is suspect.
        self.arrivals.add_ready(queue, count, &mut ready);
        Ok(ready)
    }
}

impl Table<'_> {
    /// Changes rows.
    pub(crate) fn write(&mut self, sql: &str, params: impl Params) -> Result<(), StoreFault> {
        self.check(sql);
        *self.changed = true;
        let mut statement = self.connection.prepare_cached(sql).map_err(fault)?;
        statement.execute(params).map_err(fault)?;
        Ok(())
    }

    /// Inserts messages.
    fn insert(&mut self, messages: &[(MessageMeta, MessageContent)], commits: u64) -> Result<(), StoreFault> {
        *self.changed = true;
        let prepare = |sql| self.connection.prepare_cached(sql).map_err(fault);
        let mut plain = prepare(INSERT)?;
        for (meta, content) in messages {
            let body = &content.message.body;
            if body.len() > schema::INLINE_BODY_BYTES {
                prepare(INSERT_BODY)?
                    .execute(params![signed(meta.seq), &**body])
                    .map_err(fault)?;
            } else if is_plain(meta, content) {
                insert_one(&mut plain, meta, content, commits, false).map_err(fault)?;
                continue;
            }
            insert_one(&mut *prepare(INSERT_ALL)?, meta, content, commits, true).map_err(fault)?;
        }
        Ok(())
    }

    /// Returns the number of the row that was inserted last.
    pub(crate) fn last_row(&self) -> i64 {
        self.connection.last_insert_rowid()
    }

    /// Reads the first row, if there is one.
    pub(crate) fn one<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StoreFault> {
        self.check(sql);
        let mut statement = self.connection.prepare_cached(sql).map_err(fault)?;
        statement.query_row(params, read).optional().map_err(fault)
    }

    /// Reads all rows.
    pub(crate) fn many<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreFault> {
        self.check(sql);
        let mut statement = self.connection.prepare_cached(sql).map_err(fault)?;
        let rows = statement.query_map(params, read).map_err(fault)?;
        rows.collect::<rusqlite::Result<_>>().map_err(fault)
    }

    /// Shows one row after another, without keeping them.
    pub(crate) fn each(
        &self,
        sql: &str,
        mut show: impl FnMut(&Row<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), StoreFault> {
        self.check(sql);
        let mut statement = self.connection.prepare(sql).map_err(fault)?;
        let mut rows = statement.query([]).map_err(fault)?;
        while let Some(row) = rows.next().map_err(fault)? {
            show(row).map_err(fault)?;
        }
        Ok(())
    }

    fn check(&self, sql: &str) {
        debug_assert!(
            self.scope == Scope::All || !sql.contains("messages"),
            "only `SqliteRows::table` has written the arrivals: {sql}"
        );
    }
}

/// Returns whether a message has no value that few messages have.
fn is_plain(meta: &MessageMeta, content: &MessageContent) -> bool {
    let begun = MessagePast {
        first_received_at_ms: meta.past.first_received_at_ms,
        ..MessagePast::begin(meta.seq, meta.queued_at_ms)
    };
    meta.past == begun && content.sent == SentDetails::default()
}

/// Inserts a message, with all columns or with those that each has. A large body has been written.
fn insert_one(
    statement: &mut Statement<'_>,
    meta: &MessageMeta,
    content: &MessageContent,
    commits: u64,
    with_all: bool,
) -> rusqlite::Result<usize> {
    let MessageContent { message, sent, .. } = content;
    let attributes = codec::encode_attributes(&message.attributes);
    let checksum = codec::checksum(message, sent, attributes.as_deref());
    let is_apart = message.body.len() > schema::INLINE_BODY_BYTES;
    let body: &[u8] = if is_apart { &[] } else { &message.body };
    let each: &[&dyn ToSql] = params![
        signed(meta.seq),
        meta.queue.0,
        meta.state.number(),
        meta.priority,
        meta.group.as_deref(),
        signed(meta.visible_at_ms),
        meta.receive_count,
        signed(meta.queued_at_ms),
        meta.suspicion.number(),
        message.id.as_str(),
        signed(message.sent_at_ms),
        message.group_id,
        checksum,
        attributes,
        body,
        signed(commits),
        meta.past.first_received_at_ms.map(signed),
    ];
    if !with_all {
        return statement.execute(each);
    }
    let rare: &[&dyn ToSql] = params![
        is_apart.then(|| signed(meta.seq)),
        // NULL stands for the common value, and takes less room.
        other_than(meta.past.first_queued_at_ms, meta.queued_at_ms),
        meta.past.earlier_receives,
        other_than(meta.past.sequence, meta.seq),
        sent.deduplication_id.as_deref(),
        sent.system.as_deref(),
        sent.parent.as_deref(),
        sent.sender.as_deref(),
    ];
    statement.execute(&*[each, rare].concat())
}

fn other_than(number: u64, common: u64) -> Option<i64> {
    (number != common).then(|| signed(number))
}
