//! `wasi:keyvalue`: a handler's store, as one attempt sees it.

use std::sync::Arc;

use wasmtime::component::{HasData, Linker, Resource, ResourceTable};

use crate::bindings::keyvalue::wasi::keyvalue::{
    atomics, batch,
    store::{self, Error, KeyResponse},
};
use crate::policy::Limits;
use sandhog_queue::keyvalue::{InvalidEntry, KeyValue, KeyValueWrite, Overlay, OverlayError, OverlayLimits};

use self::bucket::Bucket;

pub(crate) mod bucket;

/// The largest number of buckets that a guest may have open at a time.
const MAX_OPEN: usize = 64;
/// The bucket that the empty name stands for.
const DEFAULT_BUCKET: &str = "default";

/// The reads and writes of an attempt in its store.
#[derive(Debug, Default)]
pub(crate) struct KeyValueState {
    /// `None` if the handler is granted no store.
    overlay: Option<Overlay>,
    /// The number of open buckets.
    open: usize,
}

impl KeyValueState {
    pub(crate) fn new(store: Option<Arc<dyn KeyValue>>, limits: &Limits) -> Self {
        Self {
            overlay: store.map(|store| Overlay::new(store, limits.into())),
            open: 0,
        }
    }

    /// Takes every write of the attempt, one for each key.
    pub(crate) fn take(&mut self) -> Vec<KeyValueWrite> {
        self.overlay.as_mut().map(Overlay::take).unwrap_or_default()
    }
}

impl From<&Limits> for OverlayLimits {
    fn from(limits: &Limits) -> Self {
        Self {
            writes: limits.keyvalue_writes,
            write_bytes: limits.keyvalue_bytes,
            reads: limits.keyvalue_reads,
            read_bytes: limits.keyvalue_read_bytes,
            answer_bytes: limits.host_call_bytes,
        }
    }
}

/// The store of an attempt and the handles of its instance, for as long as one call of an import.
pub(crate) struct KeyValueView<'a> {
    state: &'a mut KeyValueState,
    table: &'a mut ResourceTable,
}

struct HasKeyValue;

impl HasData for HasKeyValue {
    type Data<'a> = KeyValueView<'a>;
}

/// Links the three interfaces.
pub(crate) fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    view: fn(&mut T) -> KeyValueView<'_>,
) -> wasmtime::Result<()> {
    store::add_to_linker::<_, HasKeyValue>(linker, view)?;
    atomics::add_to_linker::<_, HasKeyValue>(linker, view)?;
    batch::add_to_linker::<_, HasKeyValue>(linker, view)
}

type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl<'a> KeyValueView<'a> {
    pub(crate) fn new(state: &'a mut KeyValueState, table: &'a mut ResourceTable) -> Self {
        Self { state, table }
    }

    /// Returns the overlay, and the name of an open bucket.
    fn bucket(&mut self, bucket: &Resource<Bucket>) -> wasmtime::Result<(&mut Overlay, Arc<str>)> {
        let name = Arc::clone(self.table.get(bucket)?.name());
        let overlay = self.state.overlay.as_mut();
        // A kept instance keeps its buckets, and its next call may come without a store.
        let overlay = overlay.ok_or_else(|| wasmtime::Error::msg("a bucket is open, and no store is granted"))?;
        Ok((overlay, name))
    }
}

fn shown<T>(answer: Result<T, OverlayError>) -> Result<T, Error> {
    // The causes are for the operator, and name directories.
    answer.map_err(|error| Error::Other(error.to_string()))
}

fn names(keys: Vec<String>) -> Vec<Arc<str>> {
    keys.into_iter().map(Arc::from).collect()
}

impl store::Host for KeyValueView<'_> {
    async fn open(&mut self, identifier: String) -> Answer<Resource<Bucket>> {
        if self.state.overlay.is_none() {
            return Ok(Err(Error::AccessDenied));
        }
        let name = if identifier.is_empty() {
            DEFAULT_BUCKET
        } else {
            identifier.as_str()
        };
        if let Err(invalid) = InvalidEntry::check_bucket(name) {
            return Ok(Err(Error::Other(invalid.to_string())));
        }
        if self.state.open == MAX_OPEN {
            let reason = format!("{MAX_OPEN} buckets are open, which is as many as may be");
            return Ok(Err(Error::Other(reason)));
        }
        match self.table.push(Bucket::new(name)) {
            Ok(bucket) => {
                self.state.open += 1;
                Ok(Ok(bucket))
            }
            Err(_) => Ok(Err(Error::Other(
                "the attempt has as many handles as it may (limits.handles)".to_owned(),
            ))),
        }
    }
}

impl store::HostBucket for KeyValueView<'_> {
    async fn get(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<Option<Vec<u8>>> {
        let (overlay, bucket) = self.bucket(&bucket)?;
        let values = overlay.get(&bucket, &[key.into()]).await;
        Ok(shown(
            values.map(|values| values.into_iter().flatten().next().map(Vec::from)),
        ))
    }

    async fn set(&mut self, bucket: Resource<Bucket>, key: String, value: Vec<u8>) -> Answer<()> {
        let (overlay, bucket) = self.bucket(&bucket)?;
        Ok(shown(overlay.set(&bucket, vec![(key.into(), value.into())])))
    }

    async fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<()> {
        let (overlay, bucket) = self.bucket(&bucket)?;
        Ok(shown(overlay.delete(&bucket, vec![key.into()])))
    }

    async fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<bool> {
        let (overlay, bucket) = self.bucket(&bucket)?;
        let values = overlay.get(&bucket, &[key.into()]).await;
        Ok(shown(
            values.map(|values| values.into_iter().flatten().next().is_some()),
        ))
    }

    async fn list_keys(&mut self, bucket: Resource<Bucket>, cursor: Option<u64>) -> Answer<KeyResponse> {
        let (overlay, bucket) = self.bucket(&bucket)?;
        let page = overlay.list(&bucket, cursor).await;
        Ok(shown(page.map(|page| KeyResponse {
            keys: page.keys.iter().map(ToString::to_string).collect(),
            cursor: page.cursor,
        })))
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        self.state.open = self.state.open.saturating_sub(1);
        Ok(())
    }
}

impl atomics::Host for KeyValueView<'_> {
    async fn increment(&mut self, bucket: Resource<Bucket>, key: String, delta: u64) -> Answer<u64> {
        let (overlay, bucket) = self.bucket(&bucket)?;
        Ok(shown(overlay.increment(&bucket, key.into(), delta).await))
    }
}

impl batch::Host for KeyValueView<'_> {
    async fn get_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> Answer<Vec<Option<(String, Vec<u8>)>>> {
        let (overlay, bucket) = self.bucket(&bucket)?;
        let asked = names(keys);
        let values = overlay.get(&bucket, &asked).await;
        Ok(shown(values.map(|values| {
            let pair = |(key, value): (&Arc<str>, Option<bytes::Bytes>)| Some((key.to_string(), value?.into()));
            asked.iter().zip(values).map(pair).collect()
        })))
    }

    async fn set_many(&mut self, bucket: Resource<Bucket>, key_values: Vec<(String, Vec<u8>)>) -> Answer<()> {
        let (overlay, bucket) = self.bucket(&bucket)?;
        let entries = key_values.into_iter().map(|(key, value)| (key.into(), value.into()));
        Ok(shown(overlay.set(&bucket, entries.collect())))
    }

    async fn delete_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> Answer<()> {
        let (overlay, bucket) = self.bucket(&bucket)?;
        Ok(shown(overlay.delete(&bucket, names(keys))))
    }
}
