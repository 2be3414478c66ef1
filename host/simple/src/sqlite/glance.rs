//! A connection that only reads, beside that of the writer.
//!
//! Invariant: it holds a transaction for no longer than [`TRANSACTION`], and one message longer. It sees what is committed, and so every
//! message that was acknowledged: arrivals and parked receives are written before anybody is answered.

use std::{path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row, config::DbConfig, params};

use super::{
    super::{
        row::{MessageState, StoreFault, StoredMessage},
        schema::ZONE,
        search::PeekSearch,
    },
    database::OpenRefusal,
    failing::fault,
    read::{limit, number, read_all, signed, text},
};
use sandhog_queue::{
    message::{MAX_PRIORITY, MessageId},
    peek::PeekScope,
};

/// No transaction begins to read another message after this time, so that the log can be emptied.
const TRANSACTION: Duration = Duration::from_millis(40);
/// How long a statement waits for a lock, which readers need only while the log is recovered.
const BUSY: Duration = Duration::from_secs(1);
/// The number of places that are looked up at a time.
const PLACES: usize = 512;

/// The states that the index of states has.
const INDEXED: [MessageState; 6] = [
    MessageState::Ready,
    MessageState::Held,
    MessageState::Delayed,
    MessageState::Retry,
    MessageState::Damaged,
    MessageState::InFlightBehind,
];

/// A connection that can't write.
pub(crate) struct GlanceConnection {
    connection: Connection,
}

impl GlanceConnection {
    pub(crate) fn open(path: &Path, vfs: Option<&str>) -> Result<Self, OpenRefusal> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = match vfs {
            Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs)?,
            None => Connection::open_with_flags(path, flags)?,
        };
        connection.busy_timeout(BUSY)?;
        // The writer alone decides what becomes of the log.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        connection.pragma_update(None, "query_only", true)?;
        connection.pragma_update(None, "cache_size", -2048)?;
        Ok(Self { connection })
    }

    /// Goes on with a search for the time of one transaction.
    pub(crate) fn look_at_some(&mut self, search: &mut PeekSearch) -> Result<(), StoreFault> {
        #[expect(clippy::disallowed_methods, reason = "the bound is in the time of the machine")]
        let now = std::time::Instant::now;
        let end = now() + TRANSACTION;
        let transaction = self.connection.transaction().map_err(fault)?;
        // Each transaction gets on by a message at least, however long it takes to find the next ones.
        let mut has_looked = false;
        while !search.is_done() && now() < end {
            let places = next_places(&transaction, search).map_err(fault)?;
            if places.is_empty() {
                search.reach_end();
            }
            for seq in places {
                if search.is_done() || (has_looked && now() >= end) {
                    break;
                }
                has_looked = true;
                match read_one(&transaction, search, seq).map_err(fault)? {
                    Some((id, stored)) => search.look_at(id, stored),
                    None => search.pass(seq),
                }
            }
        }
        transaction.finish().map_err(fault)
    }
}

/// Returns the next places in order.
fn next_places(connection: &Connection, search: &PeekSearch) -> rusqlite::Result<Vec<u64>> {
    match search.request.scope {
        PeekScope::Messages => places_in_queue(connection, search),
        PeekScope::DeadLetters => {
            let (after, last) = search.rest();
            if let Some(id) = search.request.filter.only_id() {
                let mut statement = connection.prepare_cached(
                    "SELECT seq FROM messages INDEXED BY dead_letter_ids WHERE origin = ?1 AND id = ?2
                     AND seq > ?3 AND seq <= ?4 ORDER BY seq LIMIT ?5",
                )?;
                let bounds = params![search.queue.0, id, signed(after), signed(last), limit(PLACES)];
                let places = statement.query_map(bounds, |row| number(row, 0))?;
                return places.collect();
            }
            let mut statement = connection.prepare_cached(
                "SELECT seq FROM messages INDEXED BY dead_letters WHERE origin = ?1 AND seq > ?2 AND seq <= ?3
                 ORDER BY seq LIMIT ?4",
            )?;
            let bounds = params![search.queue.0, signed(after), signed(last), limit(PLACES)];
            let places = statement.query_map(bounds, |row| number(row, 0))?;
            places.collect()
        }
    }
}

/// Returns the next places of messages in a queue: the lowest of each state and priority, and the lowest of these.
fn places_in_queue(connection: &Connection, search: &PeekSearch) -> rusqlite::Result<Vec<u64>> {
    let (after, mut last) = search.rest();
    let mut places = Vec::new();
    let mut statement = connection.prepare_cached(
        "SELECT seq FROM messages INDEXED BY messages_by_state WHERE queue = ?1 AND state = ?2 AND state <> 2
         AND priority = ?3 AND seq > ?4 AND seq <= ?5 ORDER BY seq LIMIT ?6",
    )?;
    for state in INDEXED.into_iter().filter(|state| search.wants(*state)) {
        for priority in 0..=MAX_PRIORITY {
            let class = params![
                search.queue.0,
                state.number(),
                priority,
                signed(after),
                signed(last),
                limit(PLACES)
            ];
            let before = places.len();
            for place in statement.query_map(class, |row| number(row, 0))? {
                places.push(place?);
            }
            if places.len() - before == PLACES {
                // What lies behind the last of these belongs to a later call.
                last = places.last().copied().unwrap_or(last);
            }
        }
    }
    if search.wants(MessageState::InFlight) {
        let mut statement = connection.prepare_cached(
            "SELECT seq FROM flights CROSS JOIN messages ON seq BETWEEN zone * 64 AND zone * 64 + 63
             WHERE zone >= ?4 AND zone <= ?5 AND state = 2 AND queue = ?1 AND seq > ?2 AND seq <= ?3
             ORDER BY zone, seq LIMIT ?6",
        )?;
        let zones = params![
            search.queue.0,
            signed(after),
            signed(last),
            signed(after / ZONE),
            signed(last / ZONE),
            limit(PLACES)
        ];
        for place in statement.query_map(zones, |row| number(row, 0))? {
            places.push(place?);
        }
    }
    places.sort_unstable();
    places.truncate(PLACES);
    Ok(places)
}

/// Reads a message, unless it is plain from little of it that it is not looked for.
fn read_one(
    connection: &Connection,
    search: &PeekSearch,
    seq: u64,
) -> rusqlite::Result<Option<(MessageId, StoredMessage)>> {
    if let Some(id) = search.request.filter.only_id() {
        let mut statement = connection.prepare_cached("SELECT 1 FROM messages WHERE seq = ?1 AND id = ?2")?;
        if !statement.exists(params![signed(seq), id])? {
            return Ok(None);
        }
    }
    let mut statement =
        connection.prepare_cached(concat!("SELECT ", all_columns!(), " FROM messages WHERE seq = ?1"))?;
    let read = |row: &Row<'_>| {
        let id = text(row, 14)?.unwrap_or_default();
        Ok((MessageId::from_queue(&id), read_all(row)?))
    };
    let found = statement.query_row(params![signed(seq)], read).optional()?;
    Ok(found.filter(|(_, stored)| search.wants(stored.meta.state)))
}
