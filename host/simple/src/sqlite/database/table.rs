//! The two ways to the tables, so that no statement misses a message.
//!
//! A message that came in the transaction under way may still be among the `Arrivals`, outside of the table of
//! messages. [`SqliteRows::table`] writes the arrivals before it gives access to that table. The four operations that deal with
//! arrivals themselves are in this file: inserting, taking and deleting a message, and reading those that are ready.
//! [`SqliteRows::other_tables`] leaves the arrivals alone and refuses, in tests, a statement that names the table of messages.

use rusqlite::{Connection, OptionalExtension, Params, Row, Statement, params};

use super::{
    super::{
        super::{
            codec,
            row::{MessageContent, MessageMeta, QueueKey, StoreFault, StoredMessage},
            rows::SuspectFilter,
        },
        failing::fault,
        read::{limit, read_all, signed},
    },
    SqliteRows,
};

const INSERT: &str =
    "INSERT INTO messages (seq, queue, state, priority, lane, visible_at, receive_count, queued_at, suspect,
     id, sent_at, group_id, checksum, attributes, body)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)";

/// Builds the statement for a receive, with a further condition.
macro_rules! ready {
    ($condition:literal) => {
        concat!(
            "SELECT ",
            all_columns!(),
            " FROM messages INDEXED BY messages_by_state WHERE queue = ?1 AND state = 0",
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
        let mut table = self.unwritten_table();
        if !arrivals.is_empty() {
            table.insert(&arrivals)?;
        }
        Ok(table)
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
            Some(message) => self.unwritten_table().insert(&[message]),
        }
    }

    /// Writes the state and the receive count of a message that is handed out.
    pub(crate) fn take_message(&mut self, meta: &MessageMeta) -> Result<(), StoreFault> {
        if let Some(arrival) = self.arrivals.get_mut(meta.seq) {
            arrival.state = meta.state;
            arrival.receive_count = meta.receive_count;
            return Ok(());
        }
        self.unwritten_table().write(
            "UPDATE messages SET state = ?2, receive_count = ?3 WHERE seq = ?1",
            params![signed(meta.seq), meta.state.number(), meta.receive_count],
        )
    }

    /// Deletes a message.
    pub(crate) fn delete_message(&mut self, seq: u64) -> Result<(), StoreFault> {
        if self.arrivals.remove(seq) {
            return Ok(());
        }
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
    fn insert(&mut self, messages: &[(MessageMeta, MessageContent)]) -> Result<(), StoreFault> {
        *self.changed = true;
        let mut statement = self.connection.prepare_cached(INSERT).map_err(fault)?;
        for (meta, content) in messages {
            insert_one(&mut statement, meta, content).map_err(fault)?;
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

fn insert_one(statement: &mut Statement<'_>, meta: &MessageMeta, content: &MessageContent) -> rusqlite::Result<usize> {
    let message = &content.message;
    let attributes = codec::encode_attributes(&message.attributes);
    let checksum = codec::checksum(message, attributes.as_deref());
    statement.execute(params![
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
        &*message.body,
    ])
}
