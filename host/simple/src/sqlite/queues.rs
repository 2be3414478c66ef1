//! The rows of the table `queues`, and what is kept about a queue beside its messages.

use std::sync::Arc;

use rusqlite::{Row, params};

use super::{
    super::{
        row::{FaultKind, QueueKey, StoreFault},
        rows::{QueueMaker, QueueRecord, StoredQueue},
        settings::Order,
    },
    SqliteRows,
    read::{integer, key, optional_number, signed, text},
};
use sandhog_queue::message::QueueName;

/// The columns of a [`QueueRecord`].
macro_rules! record_columns {
    () => {
        "made_by, settings, tags, created_at, modified_at, purged_at, deleted_at"
    };
}

impl SqliteRows {
    pub(crate) fn read_queues(&mut self) -> Result<Vec<StoredQueue>, StoreFault> {
        let stored = self.other_tables().many(
            concat!(
                "SELECT ",
                record_columns!(),
                ", queue, name, one_lane FROM queues WHERE deleted_at IS NULL ORDER BY queue"
            ),
            [],
            |row| {
                let name = text(row, 8)?.unwrap_or_default();
                Ok((key(row, 7)?, name, integer(row, 9)?, read_record(row)?))
            },
        )?;
        let read = |(key, name, one_lane, record): (QueueKey, String, i64, QueueRecord)| {
            let name = QueueName::new(&name).map_err(|error| StoreFault {
                kind: FaultKind::Final,
                cause: Arc::new(error),
            })?;
            let order = Order::from_number(one_lane);
            Ok(StoredQueue {
                key,
                name,
                order,
                record,
            })
        };
        stored.into_iter().map(read).collect()
    }

    /// Returns the numbers of the queues that were deleted.
    pub(crate) fn read_retired(&mut self) -> Result<Vec<QueueKey>, StoreFault> {
        self.other_tables()
            .many("SELECT queue FROM queues WHERE deleted_at IS NOT NULL", [], |row| {
                key(row, 0)
            })
    }

    /// Takes the name from a queue. No queue may be called what it is called then.
    pub(crate) fn write_retired(&mut self, queue: QueueKey, wall_ms: u64) -> Result<(), StoreFault> {
        self.other_tables().write(
            "UPDATE queues SET name = '.' || queue, deleted_at = ?2, settings = NULL, tags = NULL WHERE queue = ?1",
            params![queue.0, signed(wall_ms)],
        )
    }

    pub(crate) fn write_queue(&mut self, queue: &StoredQueue) -> Result<(), StoreFault> {
        self.other_tables().write(
            "INSERT INTO queues (queue, name, one_lane) VALUES (?1, ?2, ?3)",
            params![queue.key.0, queue.name.as_str(), queue.order.number()],
        )?;
        self.write_record(queue.key, &queue.record)
    }

    pub(crate) fn write_order(&mut self, queue: QueueKey, order: Order) -> Result<(), StoreFault> {
        self.other_tables().write(
            "UPDATE queues SET one_lane = ?2 WHERE queue = ?1",
            params![queue.0, order.number()],
        )
    }

    pub(crate) fn read_record(&mut self, queue: QueueKey) -> Result<Option<QueueRecord>, StoreFault> {
        self.other_tables().one(
            concat!("SELECT ", record_columns!(), " FROM queues WHERE queue = ?1"),
            params![queue.0],
            read_record,
        )
    }

    pub(crate) fn write_record(&mut self, queue: QueueKey, record: &QueueRecord) -> Result<(), StoreFault> {
        self.other_tables().write(
            "UPDATE queues SET made_by = ?2, settings = ?3, tags = ?4, created_at = ?5, modified_at = ?6, purged_at = ?7,
             deleted_at = ?8 WHERE queue = ?1",
            params![
                queue.0,
                record.made_by == QueueMaker::Client,
                record.settings,
                record.tags,
                record.created_at_ms.map(signed),
                record.modified_at_ms.map(signed),
                record.purged_at_ms.map(signed),
                record.deleted_at_ms.map(signed),
            ],
        )
    }
}

fn read_record(row: &Row<'_>) -> rusqlite::Result<QueueRecord> {
    Ok(QueueRecord {
        made_by: if integer(row, 0)? == 1 {
            QueueMaker::Client
        } else {
            QueueMaker::Host
        },
        settings: text(row, 1)?,
        tags: text(row, 2)?,
        created_at_ms: optional_number(row, 3)?,
        modified_at_ms: optional_number(row, 4)?,
        purged_at_ms: optional_number(row, 5)?,
        deleted_at_ms: optional_number(row, 6)?,
    })
}
