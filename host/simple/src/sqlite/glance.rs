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
/// The number of zones in which messages in flight are looked up at a time.
const ZONES: usize = 8;

/// The states that the index of states has.
const INDEXED: [MessageState; 6] = [
    MessageState::Ready,
    MessageState::Held,
    MessageState::Delayed,
    MessageState::Retry,
    MessageState::Damaged,
    MessageState::InFlightBehind,
];

/// The next dead letters of a queue with an id.
const DEAD_LETTERS_WITH_ID: &str = "SELECT seq FROM messages INDEXED BY dead_letter_ids WHERE origin = ?1 AND id = ?2
     AND seq > ?3 AND seq <= ?4 ORDER BY seq LIMIT ?5";
/// The next dead letters of a queue.
const DEAD_LETTERS: &str =
    "SELECT seq FROM messages INDEXED BY dead_letters WHERE origin = ?1 AND seq > ?2 AND seq <= ?3
     ORDER BY seq LIMIT ?4";
/// The next messages of a queue in a state and of a priority.
const IN_STATE: &str =
    "SELECT seq FROM messages INDEXED BY messages_by_state WHERE queue = ?1 AND state = ?2 AND state <> 2
     AND priority = ?3 AND seq > ?4 AND seq <= ?5 ORDER BY seq LIMIT ?6";
/// The next zones with messages in flight.
const NEXT_ZONES: &str = "SELECT zone FROM flights WHERE zone >= ?1 AND zone <= ?2 ORDER BY zone LIMIT ?3";
/// The messages of a queue in flight between two places.
const IN_FLIGHT: &str =
    "SELECT seq FROM messages NOT INDEXED WHERE seq > ?1 AND seq <= ?2 AND state = 2 AND queue = ?3 ORDER BY seq";

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
        // An index that a statement makes for itself reads the whole table first.
        connection.pragma_update(None, "automatic_index", false)?;
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
            let NextPlaces { places, until } = next_places(&transaction, search).map_err(fault)?;
            if places.is_empty() {
                search.skip_to(until);
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

/// The next places in order. None of them lies behind `until`, and up to there no others are wanted.
struct NextPlaces {
    places: Vec<u64>,
    until: u64,
}

fn next_places(connection: &Connection, search: &PeekSearch) -> rusqlite::Result<NextPlaces> {
    match search.request.scope {
        PeekScope::Messages => places_in_queue(connection, search),
        PeekScope::DeadLetters => {
            let (after, until) = search.rest();
            let places = places_of_dead_letters(connection, search, after, until)?;
            Ok(NextPlaces { places, until })
        }
    }
}

fn places_of_dead_letters(
    connection: &Connection,
    search: &PeekSearch,
    after: u64,
    last: u64,
) -> rusqlite::Result<Vec<u64>> {
    if let Some(id) = search.request.filter.only_id() {
        let mut statement = connection.prepare_cached(DEAD_LETTERS_WITH_ID)?;
        let bounds = params![search.queue.0, id, signed(after), signed(last), limit(PLACES)];
        let places = statement.query_map(bounds, |row| number(row, 0))?;
        return places.collect();
    }
    let mut statement = connection.prepare_cached(DEAD_LETTERS)?;
    let bounds = params![search.queue.0, signed(after), signed(last), limit(PLACES)];
    let places = statement.query_map(bounds, |row| number(row, 0))?;
    places.collect()
}

/// Returns the next places of messages in a queue: the lowest of each state and priority, and the lowest of these.
fn places_in_queue(connection: &Connection, search: &PeekSearch) -> rusqlite::Result<NextPlaces> {
    let (after, mut until) = search.rest();
    let mut places = Vec::new();
    if search.wants(MessageState::InFlight) {
        until = add_places_in_flight(connection, search, (after, until), &mut places)?;
    }
    let mut statement = connection.prepare_cached(IN_STATE)?;
    for state in INDEXED.into_iter().filter(|state| search.wants(*state)) {
        for priority in 0..=MAX_PRIORITY {
            let class = params![
                search.queue.0,
                state.number(),
                priority,
                signed(after),
                signed(until),
                limit(PLACES)
            ];
            let before = places.len();
            for place in statement.query_map(class, |row| number(row, 0))? {
                places.push(place?);
            }
            if places.len() - before == PLACES {
                // What lies behind the last of these belongs to a later call.
                until = places.last().copied().unwrap_or(until);
            }
        }
    }
    places.retain(|place| *place <= until);
    places.sort_unstable();
    if let Some(last) = places.get(PLACES - 1) {
        until = *last;
    }
    places.truncate(PLACES);
    Ok(NextPlaces { places, until })
}

/// Adds the next places of messages in flight, which no index has: their zones are known, and a call looks at some of these.
/// Returns the place up to which it has looked.
fn add_places_in_flight(
    connection: &Connection,
    search: &PeekSearch,
    (after, last): (u64, u64),
    places: &mut Vec<u64>,
) -> rusqlite::Result<u64> {
    let mut zones = connection.prepare_cached(NEXT_ZONES)?;
    let bounds = params![signed(after / ZONE), signed(last / ZONE), limit(ZONES)];
    let zones: Vec<u64> = zones
        .query_map(bounds, |row| number(row, 0))?
        .collect::<rusqlite::Result<_>>()?;
    let mut in_zone = connection.prepare_cached(IN_FLIGHT)?;
    for zone in &zones {
        // The zones of a damaged table may be any numbers.
        let first = zone.saturating_mul(ZONE);
        let end = first.saturating_add(ZONE - 1);
        let bounds = params![
            signed(after.max(first.saturating_sub(1))),
            signed(last.min(end)),
            search.queue.0
        ];
        for place in in_zone.query_map(bounds, |row| number(row, 0))? {
            places.push(place?);
        }
    }
    let looked_at_all = zones.len() < ZONES;
    let end = zones
        .last()
        .map(|zone| zone.saturating_mul(ZONE).saturating_add(ZONE - 1));
    Ok(end.filter(|_| !looked_at_all).map_or(last, |end| last.min(end)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SimpleStore, StoreOptions};

    /// Returns what SQLite does for a statement.
    fn plan(connection: &GlanceConnection, statement: &str) -> Vec<String> {
        let mut steps = connection
            .connection
            .prepare(&format!("EXPLAIN QUERY PLAN {statement}"))
            .unwrap();
        // What is bound has no influence on the plan.
        let unbound = vec![rusqlite::types::Null; steps.parameter_count()];
        let steps = steps.query_map(rusqlite::params_from_iter(unbound), |row| row.get(3));
        steps.unwrap().map(Result::unwrap).collect()
    }

    #[tokio::test]
    async fn no_step_of_a_search_reads_a_table_from_its_beginning() {
        let place = tempfile::tempdir().unwrap();
        let store = SimpleStore::open(&StoreOptions::new(place.path())).unwrap();
        let connection = GlanceConnection::open(&place.path().join("queues.db"), None).unwrap();
        for statement in [DEAD_LETTERS_WITH_ID, DEAD_LETTERS, IN_STATE, NEXT_ZONES, IN_FLIGHT] {
            let steps = plan(&connection, statement);
            let finds = |step: &String| step.starts_with("SEARCH ") && step.contains("seq") | step.contains("rowid");
            assert!(!steps.is_empty() && steps.iter().all(finds), "{statement}: {steps:?}");
        }
        store.close().await;
    }
}
