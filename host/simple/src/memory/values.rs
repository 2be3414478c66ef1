//! The entries of the key-value stores in memory.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::Arc,
};

use bytes::Bytes;

use super::{
    super::{
        row::StoreFault,
        rows::{DamagedValue, EntryPlace, NamespaceKey, StoredNamespace, ValueRows},
    },
    MemoryRows,
};

/// All entries.
#[derive(Debug, Default)]
pub(crate) struct Values {
    namespaces: HashMap<String, NamespaceKey>,
    buckets: BTreeMap<NamespaceKey, Namespace>,
}

#[derive(Debug, Default)]
struct Namespace {
    bytes: u64,
    /// None of them is empty.
    buckets: HashMap<String, BTreeMap<Arc<str>, Bytes>>,
}

impl Values {
    fn get(&self, namespace: NamespaceKey, place: EntryPlace<'_>) -> Option<&Bytes> {
        self.buckets.get(&namespace)?.buckets.get(place.bucket)?.get(place.key)
    }
}

impl ValueRows for MemoryRows {
    fn namespace(&mut self, name: &str) -> Result<Option<StoredNamespace>, StoreFault> {
        let key = self.values.namespaces.get(name).copied();
        let bytes = |key| self.values.buckets.get(&key).map_or(0, |namespace| namespace.bytes);
        Ok(key.map(|key| StoredNamespace { key, bytes: bytes(key) }))
    }

    fn add_namespace(&mut self, name: &str) -> Result<NamespaceKey, StoreFault> {
        let last = self.values.buckets.last_key_value();
        let key = NamespaceKey(last.map_or(1, |(NamespaceKey(last), _)| last + 1));
        self.values.namespaces.insert(name.to_owned(), key);
        self.values.buckets.insert(key, Namespace::default());
        Ok(key)
    }

    fn set_namespace_bytes(&mut self, namespace: NamespaceKey, bytes: u64) -> Result<(), StoreFault> {
        if let Some(namespace) = self.values.buckets.get_mut(&namespace) {
            namespace.bytes = bytes;
        }
        Ok(())
    }

    fn value(
        &mut self,
        namespace: NamespaceKey,
        place: EntryPlace<'_>,
    ) -> Result<Option<Result<Bytes, DamagedValue>>, StoreFault> {
        Ok(self.values.get(namespace, place).cloned().map(Ok))
    }

    fn value_bytes(&mut self, namespace: NamespaceKey, place: EntryPlace<'_>) -> Result<Option<u64>, StoreFault> {
        let value = self.values.get(namespace, place);
        Ok(value.map(|value| u64::try_from(value.len()).unwrap_or(u64::MAX)))
    }

    fn put_value(&mut self, namespace: NamespaceKey, place: EntryPlace<'_>, value: &Bytes) -> Result<(), StoreFault> {
        let namespace = self.values.buckets.entry(namespace).or_default();
        let bucket = namespace.buckets.entry(place.bucket.to_owned()).or_default();
        // A copy, so that a small part does not keep the whole of what it was cut from.
        bucket.insert(place.key.into(), Bytes::copy_from_slice(value));
        Ok(())
    }

    fn remove_value(&mut self, namespace: NamespaceKey, place: EntryPlace<'_>) -> Result<(), StoreFault> {
        if let Some(namespace) = self.values.buckets.get_mut(&namespace)
            && let Some(entries) = namespace.buckets.get_mut(place.bucket)
        {
            entries.remove(place.key);
            if entries.is_empty() {
                namespace.buckets.remove(place.bucket);
            }
        }
        Ok(())
    }

    fn keys(
        &mut self,
        namespace: NamespaceKey,
        bucket: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Arc<str>>, StoreFault> {
        let namespace = self.values.buckets.get(&namespace);
        let Some(entries) = namespace.and_then(|namespace| namespace.buckets.get(bucket)) else {
            return Ok(Vec::new());
        };
        let later = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        Ok(entries
            .range::<str, _>(later)
            .take(limit)
            .map(|(key, _)| Arc::clone(key))
            .collect())
    }
}
