//! Where the messages in flight are. No index has them, so that handing a message out in the commit that stores it writes its row alone.
//!
//! A *zone* is a run of places in the table of messages. The table `flights` has every zone that a message in flight is in, and
//! perhaps some more: one row for many messages, written with the first of them. It is read when a store is opened, to find the messages that were
//! in flight.

use std::collections::BTreeSet;

use rusqlite::params;

use super::{
    super::{
        super::{
            row::{MessageMeta, MessageState, QueueKey, StoreFault},
            schema::ZONE,
        },
        read::{integer, key, limit, number, read_meta, signed},
    },
    SqliteRows,
};

/// The number of zones from which on it is worth looking for those that are empty.
const FEW: usize = 64;

const _: () = assert!(
    ZONE == 64,
    "the statements below and those of the schema have this number as text"
);

/// The messages in flight.
macro_rules! from_zones {
    () => {
        " FROM flights CROSS JOIN messages ON seq BETWEEN zone * 64 AND zone * 64 + 63 WHERE state = 2"
    };
}

/// The rows of the table `flights`.
#[derive(Debug, Default)]
pub(crate) struct FlightZones {
    /// `None` if they have to be read anew.
    zones: Option<BTreeSet<u64>>,
    /// At this number of zones the empty ones are looked for.
    full: usize,
}

impl FlightZones {
    /// Forgets what was read, because the transaction was rolled back.
    pub(crate) fn forget(&mut self) {
        self.zones = None;
    }
}

impl SqliteRows {
    /// Notes that a message is in flight, if it is. Its row has been written, in the same transaction.
    pub(crate) fn note_flight(&mut self, meta: &MessageMeta) -> Result<(), StoreFault> {
        if meta.state != MessageState::InFlight {
            return Ok(());
        }
        let zone = meta.seq / ZONE;
        if self.flights.zones.as_ref().is_some_and(|zones| zones.contains(&zone)) {
            return Ok(());
        }
        self.add_zone(zone)
    }

    fn add_zone(&mut self, zone: u64) -> Result<(), StoreFault> {
        let mut zones = match self.flights.zones.take() {
            Some(zones) => zones,
            None => self.read_zones()?,
        };
        if zones.insert(zone) {
            self.other_tables().write(
                "INSERT OR IGNORE INTO flights (zone) VALUES (?1)",
                params![signed(zone)],
            )?;
        }
        if zones.len() >= self.flights.full.max(FEW) {
            self.remove_empty(&mut zones)?;
            self.flights.full = zones.len() * 2;
        }
        self.flights.zones = Some(zones);
        Ok(())
    }

    fn read_zones(&mut self) -> Result<BTreeSet<u64>, StoreFault> {
        let zones = self
            .other_tables()
            .many("SELECT zone FROM flights", [], |row| number(row, 0))?;
        Ok(zones.into_iter().collect())
    }

    /// Removes the zones without messages in flight.
    fn remove_empty(&mut self, zones: &mut BTreeSet<u64>) -> Result<(), StoreFault> {
        let mut table = self.table()?;
        for zone in zones.clone() {
            // An operator's hand may have written any number.
            let first = zone.saturating_mul(ZONE);
            let flight = table.one(
                "SELECT 1 FROM messages WHERE seq BETWEEN ?1 AND ?2 AND state = 2 LIMIT 1",
                params![signed(first), signed(first.saturating_add(ZONE - 1))],
                |_| Ok(()),
            )?;
            if flight.is_none() {
                table.write("DELETE FROM flights WHERE zone = ?1", params![signed(zone)])?;
                zones.remove(&zone);
            }
        }
        Ok(())
    }

    /// Returns the numbers of messages in flight per queue.
    pub(crate) fn count_in_flight(&mut self) -> Result<Vec<(QueueKey, i64, u64)>, StoreFault> {
        self.table()?.many(
            concat!("SELECT queue, state, count(*)", from_zones!(), " GROUP BY queue"),
            [],
            |row| Ok((key(row, 0)?, integer(row, 1)?, number(row, 2)?)),
        )
    }

    /// Returns how many messages of a queue are in flight with receivers outside of the host.
    pub(crate) fn count_outside(&mut self, queue: QueueKey) -> Result<u64, StoreFault> {
        let table = self.table()?;
        let heads = table.one(
            concat!("SELECT count(*)", from_zones!(), " AND queue = ?1 AND visible_at = 3"),
            params![queue.0],
            |row| number(row, 0),
        )?;
        let behind = table.one(
            "SELECT count(*) FROM messages INDEXED BY messages_by_state
             WHERE queue = ?1 AND state = 6 AND state <> 2 AND visible_at = 3",
            params![queue.0],
            |row| number(row, 0),
        )?;
        Ok(heads.unwrap_or(0) + behind.unwrap_or(0))
    }

    /// Returns some messages of a queue that are in flight.
    pub(crate) fn in_flight(
        &mut self,
        queue: QueueKey,
        last: u64,
        count: usize,
    ) -> Result<Vec<MessageMeta>, StoreFault> {
        self.table()?.many(
            concat!(
                "SELECT ",
                meta_columns!(),
                from_zones!(),
                " AND queue = ?1 AND seq <= ?2 LIMIT ?3"
            ),
            params![queue.0, signed(last), limit(count)],
            read_meta,
        )
    }
}
