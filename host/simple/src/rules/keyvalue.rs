//! The key-value stores: reading committed entries, and making all writes of a transaction or none.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use bytes::Bytes;

use super::{
    super::{
        row::StoreFault,
        rows::{DamagedValue, EntryPlace, NamespaceKey},
    },
    StoreRules,
};
use sandhog_queue::keyvalue::{
    Change, KeyValueWrite, Place, ReadError, Unchanged, WriteError, Writes, entry_bytes, sum, value_of,
};

/// The result of writes that can all be made.
pub(crate) struct WritePlan {
    namespace: Arc<str>,
    /// `None` if nothing was ever written into the namespace.
    key: Option<NamespaceKey>,
    /// The new value of each place; `None` for a deletion.
    entries: Entries,
    bytes: u64,
}

type Entries = BTreeMap<(Arc<str>, Arc<str>), Option<Bytes>>;

impl StoreRules {
    /// Returns the values of keys, one answer per key, of at most `max_bytes` together.
    pub(crate) fn read_values(
        &mut self,
        namespace: &str,
        bucket: &str,
        keys: &[Arc<str>],
        max_bytes: usize,
    ) -> Result<Result<Vec<Option<Bytes>>, ReadError>, StoreFault> {
        let Some(namespace) = self.rows.namespace(namespace)? else {
            return Ok(Ok(vec![None; keys.len()]));
        };
        let mut values = Vec::with_capacity(keys.len());
        let mut bytes = 0_usize;
        for key in keys {
            let value = match self.rows.value(namespace.key, EntryPlace { bucket, key })?.transpose() {
                Ok(value) => value,
                Err(DamagedValue) => return Ok(Err(ReadError::Damaged(Place::new(bucket, key)))),
            };
            bytes = bytes.saturating_add(value.as_ref().map_or(0, Bytes::len));
            if bytes > max_bytes {
                return Ok(Err(ReadError::TooLarge(max_bytes)));
            }
            values.push(value);
        }
        Ok(Ok(values))
    }

    /// Returns the first keys of a bucket after `after`.
    pub(crate) fn read_keys(
        &mut self,
        namespace: &str,
        bucket: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Arc<str>>, StoreFault> {
        match self.rows.namespace(namespace)? {
            Some(namespace) => self.rows.keys(namespace.key, bucket, after, limit),
            None => Ok(Vec::new()),
        }
    }

    /// Plans writes, or returns why one of them is refused. Changes nothing.
    pub(crate) fn plan_writes(&mut self, writes: Writes) -> Result<Result<WritePlan, WriteError>, StoreFault> {
        let Writes {
            namespace,
            total_bytes,
            changes,
        } = writes;
        let stored = if changes.is_empty() {
            None
        } else {
            self.rows.namespace(&namespace)?
        };
        let key = stored.map(|stored| stored.key);
        let held = stored.map_or(0, |stored| stored.bytes);
        let mut entries = Entries::new();
        for write in changes {
            if let Err(invalid) = write.check() {
                return Ok(Err(invalid.into()));
            }
            if let Err(refused) = self.plan_one(key, &mut entries, write)? {
                return Ok(Err(refused));
            }
        }
        let mut freed = 0_u64;
        let mut taken = 0_u64;
        for ((bucket, name), value) in &entries {
            if let Some(key) = key
                && let Some(before) = self.rows.value_bytes(key, EntryPlace { bucket, key: name })?
            {
                freed = freed.saturating_add(entry_bytes(bucket, name, before));
            }
            if let Some(value) = value {
                let bytes = u64::try_from(value.len()).unwrap_or(u64::MAX);
                taken = taken.saturating_add(entry_bytes(bucket, name, bytes));
            }
        }
        // Saturates, because an operator may have deleted rows with another tool.
        let bytes = held.saturating_sub(freed).saturating_add(taken);
        if bytes > total_bytes && bytes > held {
            return Ok(Err(WriteError::Full {
                namespace: namespace.as_ref().to_owned(),
                bytes,
                limit: total_bytes,
            }));
        }
        Ok(Ok(WritePlan {
            namespace,
            key,
            entries,
            bytes,
        }))
    }

    fn plan_one(
        &mut self,
        namespace: Option<NamespaceKey>,
        entries: &mut Entries,
        write: KeyValueWrite,
    ) -> Result<Result<(), WriteError>, StoreFault> {
        let KeyValueWrite {
            bucket,
            key,
            change,
            condition,
        } = write;
        let place = entries.entry((bucket, key));
        let (bucket, key) = place.key();
        let at = EntryPlace { bucket, key };
        let held = match (&place, namespace) {
            (Entry::Occupied(planned), _) => Ok(planned.get().clone()),
            // What the key has makes a difference to these alone.
            (Entry::Vacant(_), Some(namespace)) if condition.is_some() || matches!(change, Change::Add(_)) => {
                self.rows.value(namespace, at)?.transpose()
            }
            (Entry::Vacant(_), _) => Ok(None),
        };
        if let Some(Unchanged(expected)) = condition
            && !matches!(&held, Ok(held) if *held == expected)
        {
            return Ok(Err(WriteError::Changed(Place::new(bucket, key))));
        }
        let value = match change {
            Change::Set(value) => Some(value),
            Change::Delete => None,
            Change::Add(delta) => {
                let sum = held.ok().and_then(|held| sum(held.as_deref(), delta));
                let Some(sum) = sum else {
                    return Ok(Err(WriteError::NotANumber(Place::new(bucket, key))));
                };
                Some(value_of(sum))
            }
        };
        place.insert_entry(value);
        Ok(Ok(()))
    }

    /// Makes the writes that were planned in this transaction.
    pub(crate) fn write_planned(&mut self, plan: &WritePlan) -> Result<(), StoreFault> {
        if plan.entries.is_empty() {
            return Ok(());
        }
        let namespace = match plan.key {
            Some(key) => key,
            None => self.rows.add_namespace(&plan.namespace)?,
        };
        for ((bucket, key), value) in &plan.entries {
            let place = EntryPlace { bucket, key };
            match value {
                Some(value) => self.rows.put_value(namespace, place, value)?,
                None => self.rows.remove_value(namespace, place)?,
            }
        }
        self.rows.set_namespace_bytes(namespace, plan.bytes)
    }
}
