//! `wasi:keyvalue`: a handler's store, as one attempt sees it. What the drafts of the interface have in common is here.

use std::{ops::RangeInclusive, sync::Arc};

use bytes::Bytes;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable, ResourceTableError};

use crate::{
    bindings::{keyvalue::wasi::keyvalue as draft1, keyvalue_draft2::wasi::keyvalue as draft2},
    policy::Limits,
};
use sandhog_queue::keyvalue::{
    InvalidEntry, KeyPage, KeyValue, KeyValueWrite, NotedValue, Overlay, OverlayLimits, SwapRefused,
};

use self::{
    handles::{Bucket, Cas},
    refusal::Refusal,
};

mod first_draft;
pub(crate) mod handles;
pub(crate) mod refusal;
mod second_draft;

/// The largest number of buckets that a guest may have open at a time.
const MAX_OPEN: usize = 64;
/// The largest number of values that a guest may have noted at a time.
const MAX_NOTED: usize = 1000;
/// The bucket that the empty name stands for.
const DEFAULT_BUCKET: &str = "default";

/// The reads and writes of an attempt in its store.
#[derive(Debug, Default)]
pub(crate) struct KeyValueState {
    /// `None` if the handler is granted no store.
    overlay: Option<Overlay>,
    /// The number of open buckets.
    open: usize,
    /// The number of noted values.
    noted: usize,
}

impl KeyValueState {
    pub(crate) fn new(store: Option<Arc<dyn KeyValue>>, limits: &Limits) -> Self {
        Self {
            overlay: store.map(|store| Overlay::new(store, limits.into())),
            ..Self::default()
        }
    }

    /// Takes every write of the attempt, one for each key.
    pub(crate) fn take(&mut self) -> Vec<KeyValueWrite> {
        self.overlay.as_mut().map(Overlay::take).unwrap_or_default()
    }

    /// Ends the attempt of an instance that may be used again, whose handles are in the table: what they have noted is good for
    /// this attempt alone.
    pub(crate) fn end(&mut self, table: &mut ResourceTable) {
        if self.noted > 0 {
            let handles = table.iter_mut().filter_map(|handle| handle.downcast_mut::<Cas>());
            handles.for_each(Cas::expire);
        }
        *self = Self::default();
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

/// Links the three interfaces of each draft.
pub(crate) fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    view: fn(&mut T) -> KeyValueView<'_>,
) -> wasmtime::Result<()> {
    draft1::store::add_to_linker::<_, HasKeyValue>(linker, view)?;
    draft1::atomics::add_to_linker::<_, HasKeyValue>(linker, view)?;
    draft1::batch::add_to_linker::<_, HasKeyValue>(linker, view)?;
    draft2::store::add_to_linker::<_, HasKeyValue>(linker, view)?;
    draft2::atomics::add_to_linker::<_, HasKeyValue>(linker, view)?;
    draft2::batch::add_to_linker::<_, HasKeyValue>(linker, view)
}

/// The answer to the question for the values of several keys.
type Pairs = Vec<Option<(String, Vec<u8>)>>;

impl<'a> KeyValueView<'a> {
    pub(crate) fn new(state: &'a mut KeyValueState, table: &'a mut ResourceTable) -> Self {
        Self { state, table }
    }

    fn overlay(&mut self) -> Result<&mut Overlay, Refusal> {
        let overlay = self.state.overlay.as_mut();
        // A kept instance keeps its handles, and its next call may come without a store.
        overlay.ok_or_else(|| Refusal::Trap(wasmtime::Error::msg("a handle is open, and no store is granted")))
    }

    /// Returns the overlay, and the name of an open bucket.
    fn bucket(&mut self, bucket: &Resource<Bucket>) -> Result<(&mut Overlay, Arc<str>), Refusal> {
        let name = Arc::clone(self.table.get(bucket)?.name());
        Ok((self.overlay()?, name))
    }

    fn open_bucket(&mut self, identifier: &str) -> Result<Resource<Bucket>, Refusal> {
        if self.state.overlay.is_none() {
            return Err(Refusal::AccessDenied);
        }
        let name = if identifier.is_empty() {
            DEFAULT_BUCKET
        } else {
            identifier
        };
        InvalidEntry::check_bucket(name)?;
        if self.state.open == MAX_OPEN {
            let reason = format!("{MAX_OPEN} buckets are open, which is as many as may be");
            return Err(Refusal::Other(reason));
        }
        let bucket = self.table.push(Bucket::new(name))?;
        self.state.open += 1;
        Ok(bucket)
    }

    fn close_bucket(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        self.state.open = self.state.open.saturating_sub(1);
        Ok(())
    }

    async fn value(&mut self, bucket: &Resource<Bucket>, key: String) -> Result<Option<Bytes>, Refusal> {
        let (overlay, bucket) = self.bucket(bucket)?;
        let values = overlay.get(&bucket, &[key.into()]).await?;
        Ok(values.into_iter().flatten().next())
    }

    async fn values(&mut self, bucket: &Resource<Bucket>, keys: Vec<String>) -> Result<Pairs, Refusal> {
        let (overlay, bucket) = self.bucket(bucket)?;
        let asked = names(keys);
        let values = overlay.get(&bucket, &asked).await?;
        let pair = |(key, value): (&Arc<str>, Option<Bytes>)| Some((key.to_string(), value?.into()));
        Ok(asked.iter().zip(values).map(pair).collect())
    }

    fn put(&mut self, bucket: &Resource<Bucket>, entries: Vec<(String, Vec<u8>)>) -> Result<(), Refusal> {
        let (overlay, bucket) = self.bucket(bucket)?;
        let entries = entries.into_iter().map(|(key, value)| (key.into(), value.into()));
        Ok(overlay.set(&bucket, entries.collect())?)
    }

    fn remove(&mut self, bucket: &Resource<Bucket>, keys: Vec<String>) -> Result<(), Refusal> {
        let (overlay, bucket) = self.bucket(bucket)?;
        Ok(overlay.delete(&bucket, names(keys))?)
    }

    async fn page(&mut self, bucket: &Resource<Bucket>, cursor: Option<u64>) -> Result<KeyPage, Refusal> {
        let (overlay, bucket) = self.bucket(bucket)?;
        Ok(overlay.list(&bucket, cursor).await?)
    }

    /// Adds to a number, whose sum has to be in the range of the draft's type.
    async fn add(
        &mut self,
        bucket: &Resource<Bucket>,
        key: String,
        delta: i128,
        range: RangeInclusive<i128>,
    ) -> Result<i128, Refusal> {
        let (overlay, bucket) = self.bucket(bucket)?;
        Ok(overlay.increment(&bucket, key.into(), delta, range).await?)
    }

    async fn note(&mut self, bucket: &Resource<Bucket>, key: String) -> Result<Resource<Cas>, Refusal> {
        if self.state.noted >= MAX_NOTED {
            let reason = format!("{MAX_NOTED} values are noted, which is as many as may be");
            return Err(Refusal::Other(reason));
        }
        let (overlay, bucket) = self.bucket(bucket)?;
        let noted = overlay.note(&bucket, key.into()).await?;
        self.keep(&noted)
    }

    /// Makes a handle of a noted value.
    fn keep(&mut self, noted: &NotedValue) -> Result<Resource<Cas>, Refusal> {
        let handle = self.table.push(Cas::new(noted.clone()));
        if handle.is_err() {
            self.overlay()?.forget(noted);
        }
        let handle = handle?;
        self.state.noted += 1;
        Ok(handle)
    }

    fn noted(&mut self, cas: &Resource<Cas>) -> Result<Option<Vec<u8>>, Refusal> {
        let noted = self.table.get(cas)?.noted().ok_or_else(expired)?;
        Ok(noted.value().map(|value| value.to_vec()))
    }

    /// Ends a handle. Returns what it has noted, unless that was for an earlier message.
    fn end_handle(&mut self, cas: Resource<Cas>) -> Result<Option<NotedValue>, ResourceTableError> {
        let noted = self.table.delete(cas)?.into_noted();
        if noted.is_some() {
            self.state.noted = self.state.noted.saturating_sub(1);
        }
        Ok(noted)
    }

    fn forget(&mut self, cas: Resource<Cas>) -> wasmtime::Result<()> {
        if let (Some(noted), Some(overlay)) = (self.end_handle(cas)?, &mut self.state.overlay) {
            overlay.forget(&noted);
        }
        Ok(())
    }

    /// Replaces a value. Returns a handle of the latest value if that is another one than the noted.
    async fn replace(&mut self, cas: Resource<Cas>, value: Vec<u8>) -> Result<Option<Resource<Cas>>, Refusal> {
        let noted = self.end_handle(cas)?.ok_or_else(expired)?;
        match self.overlay()?.swap(noted, value.into()).await {
            Ok(()) => Ok(None),
            Err(SwapRefused::Changed(latest)) => Ok(Some(self.keep(&latest)?)),
            Err(SwapRefused::Error(error)) => Err(error.into()),
        }
    }
}

fn expired() -> Refusal {
    Refusal::Other("the value was noted for an earlier message: note it again".to_owned())
}

fn names(keys: Vec<String>) -> Vec<Arc<str>> {
    keys.into_iter().map(Arc::from).collect()
}
