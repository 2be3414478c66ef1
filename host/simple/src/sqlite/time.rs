//! The row of the table `clock`, which has the store's time.

use rusqlite::{Row, params};

use super::{
    super::{clock::ClockSighting, row::StoreFault},
    SqliteRows,
    read::{number, signed, text},
};

impl SqliteRows {
    pub(crate) fn read_sighting(&mut self) -> Result<Option<ClockSighting>, StoreFault> {
        self.other_tables()
            .one("SELECT boot, since_boot, at, wall FROM clock", [], read)
    }

    pub(crate) fn write_sighting(&mut self, sighting: &ClockSighting) -> Result<(), StoreFault> {
        self.other_tables().write(
            "INSERT OR REPLACE INTO clock (only, boot, since_boot, at, wall) VALUES (1, ?1, ?2, ?3, ?4)",
            params![
                sighting.boot.map(|boot| format!("{boot:032x}")),
                signed(sighting.since_boot_ms),
                signed(sighting.at_ms),
                signed(sighting.wall_ms),
            ],
        )
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<ClockSighting> {
    Ok(ClockSighting {
        boot: text(row, 0)?.and_then(|boot| u128::from_str_radix(&boot, 16).ok()),
        since_boot_ms: number(row, 1)?,
        at_ms: number(row, 2)?,
        wall_ms: number(row, 3)?,
    })
}
