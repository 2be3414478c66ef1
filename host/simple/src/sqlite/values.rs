//! The entries of the key-value stores on disk.

use std::sync::Arc;

use bytes::Bytes;
use rusqlite::params;

use super::{
    super::{
        codec,
        row::StoreFault,
        rows::{DamagedValue, EntryPlace, NamespaceKey, StoredNamespace, ValueRows},
    },
    SqliteRows,
    read::{bytes, integer, limit, number, signed, text},
};

impl ValueRows for SqliteRows {
    fn namespace(&mut self, name: &str) -> Result<Option<StoredNamespace>, StoreFault> {
        self.other_tables().one(
            "SELECT namespace, bytes FROM namespaces WHERE name = ?1",
            params![name],
            |row| {
                Ok(StoredNamespace {
                    key: NamespaceKey(integer(row, 0)?),
                    bytes: number(row, 1)?,
                })
            },
        )
    }

    fn add_namespace(&mut self, name: &str) -> Result<NamespaceKey, StoreFault> {
        let mut tables = self.other_tables();
        tables.write("INSERT INTO namespaces (name, bytes) VALUES (?1, 0)", params![name])?;
        Ok(NamespaceKey(tables.last_row()))
    }

    fn set_namespace_bytes(&mut self, NamespaceKey(namespace): NamespaceKey, bytes: u64) -> Result<(), StoreFault> {
        self.other_tables().write(
            "UPDATE namespaces SET bytes = ?2 WHERE namespace = ?1",
            params![namespace, signed(bytes)],
        )
    }

    fn value(
        &mut self,
        NamespaceKey(namespace): NamespaceKey,
        place: EntryPlace<'_>,
    ) -> Result<Option<Result<Bytes, DamagedValue>>, StoreFault> {
        let stored = self.other_tables().one(
            "SELECT checksum, value FROM entries INDEXED BY entries_by_key
             WHERE namespace = ?1 AND bucket = ?2 AND key = ?3",
            params![namespace, place.bucket, place.key],
            |row| Ok((integer(row, 0)?, bytes(row, 1)?)),
        )?;
        let verify = |(checksum, value): (i64, Vec<u8>)| {
            let intact = i64::from(codec::value_checksum(place, &value)) == checksum;
            intact.then(|| Bytes::from(value)).ok_or(DamagedValue)
        };
        Ok(stored.map(verify))
    }

    fn value_bytes(
        &mut self,
        NamespaceKey(namespace): NamespaceKey,
        place: EntryPlace<'_>,
    ) -> Result<Option<u64>, StoreFault> {
        self.other_tables().one(
            "SELECT length(value) FROM entries INDEXED BY entries_by_key
             WHERE namespace = ?1 AND bucket = ?2 AND key = ?3",
            params![namespace, place.bucket, place.key],
            |row| number(row, 0),
        )
    }

    fn put_value(
        &mut self,
        NamespaceKey(namespace): NamespaceKey,
        place: EntryPlace<'_>,
        value: &Bytes,
    ) -> Result<(), StoreFault> {
        self.other_tables().write(
            "INSERT INTO entries (namespace, bucket, key, checksum, value) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (namespace, bucket, key) DO UPDATE SET checksum = excluded.checksum, value = excluded.value",
            params![
                namespace,
                place.bucket,
                place.key,
                codec::value_checksum(place, value),
                &**value
            ],
        )
    }

    fn remove_value(&mut self, NamespaceKey(namespace): NamespaceKey, place: EntryPlace<'_>) -> Result<(), StoreFault> {
        self.other_tables().write(
            "DELETE FROM entries INDEXED BY entries_by_key WHERE namespace = ?1 AND bucket = ?2 AND key = ?3",
            params![namespace, place.bucket, place.key],
        )
    }

    fn keys(
        &mut self,
        NamespaceKey(namespace): NamespaceKey,
        bucket: &str,
        after: Option<&str>,
        count: usize,
    ) -> Result<Vec<Arc<str>>, StoreFault> {
        let keys = self.other_tables().many(
            "SELECT key FROM entries INDEXED BY entries_by_key WHERE namespace = ?1 AND bucket = ?2 AND key > ?3
             ORDER BY key LIMIT ?4",
            // No key is empty.
            params![namespace, bucket, after.unwrap_or_default(), limit(count)],
            |row| text(row, 0),
        )?;
        Ok(keys.into_iter().flatten().map(Arc::from).collect())
    }
}
