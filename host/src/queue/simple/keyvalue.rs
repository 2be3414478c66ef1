//! One namespace of the key-value store, as it is read. Only carries questions to the store and waits for its answers.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    Inner, all_queues,
    operation::{ReadKeys, ReadValues},
};
use crate::keyvalue::{KeyValue, ReadError};

/// The committed entries of one namespace.
#[derive(Debug)]
pub(super) struct SimpleKeyValue {
    inner: Arc<Inner>,
    namespace: Arc<str>,
}

impl SimpleKeyValue {
    pub(super) fn new(inner: Arc<Inner>, namespace: &str) -> Self {
        Self {
            inner,
            namespace: namespace.into(),
        }
    }
}

#[async_trait]
impl KeyValue for SimpleKeyValue {
    async fn get(&self, bucket: &str, keys: Vec<Arc<str>>, max_bytes: usize) -> Result<Vec<Option<Bytes>>, ReadError> {
        let read = ReadValues {
            namespace: Arc::clone(&self.namespace),
            bucket: bucket.to_owned(),
            keys,
            max_bytes,
        };
        self.inner.ask(&all_queues(), read).await?
    }

    async fn list(&self, bucket: &str, after: Option<Arc<str>>, limit: usize) -> Result<Vec<Arc<str>>, ReadError> {
        let read = ReadKeys {
            namespace: Arc::clone(&self.namespace),
            bucket: bucket.to_owned(),
            after,
            limit,
        };
        Ok(self.inner.ask(&all_queues(), read).await?)
    }
}
