//! Reading one namespace of the key-value store. This file only carries commands to the store and waits for its answers.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{StoreInner, all_queues, operation::StoreOperation};
use sandhog_queue::keyvalue::{KeyValue, MAX_VALUE_BYTES, ReadError};

/// The committed entries of one namespace.
#[derive(Debug)]
pub(crate) struct SimpleKeyValue {
    inner: Arc<StoreInner>,
    namespace: Arc<str>,
}

impl SimpleKeyValue {
    pub(crate) fn new(inner: Arc<StoreInner>, namespace: &str) -> Self {
        Self {
            inner,
            namespace: namespace.into(),
        }
    }
}

#[async_trait]
impl KeyValue for SimpleKeyValue {
    async fn get(&self, bucket: &str, keys: Vec<Arc<str>>, max_bytes: usize) -> Result<Vec<Option<Bytes>>, ReadError> {
        let namespace = Arc::clone(&self.namespace);
        let bucket = bucket.to_owned();
        // The values are not known yet, only the most that they can be.
        let weight = keys.len().saturating_mul(MAX_VALUE_BYTES).min(max_bytes);
        let read = StoreOperation::new(move |rules, _now| rules.read_values(&namespace, &bucket, &keys, max_bytes));
        self.inner.ask(&all_queues(), read.weighing(weight)).await?
    }

    async fn list(&self, bucket: &str, after: Option<Arc<str>>, limit: usize) -> Result<Vec<Arc<str>>, ReadError> {
        let namespace = Arc::clone(&self.namespace);
        let bucket = bucket.to_owned();
        let read =
            StoreOperation::new(move |rules, _now| rules.read_keys(&namespace, &bucket, after.as_deref(), limit));
        Ok(self.inner.ask(&all_queues(), read).await?)
    }
}
