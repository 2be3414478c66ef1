//! `wasi:keyvalue`: the handler's store, as one attempt sees it.

use std::sync::Arc;

use wasmtime::component::{HasData, Linker, Resource, ResourceTable};

use crate::{
    executor::{
        bindings::keyvalue::wasi::keyvalue::{
            atomics, batch,
            store::{self, Error, KeyResponse},
        },
        instance::GuestState,
        policy::Limits,
    },
    keyvalue::{InvalidEntry, KeyValue, KeyValueWrite, Overlay, OverlayError},
};

/// How many buckets a guest may have open at a time.
const MAX_OPEN: usize = 64;
/// The bucket that is meant by the empty name.
const DEFAULT_BUCKET: &str = "default";

/// An open bucket: its name.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated bindings export it again")]
pub struct Bucket(Arc<str>);

/// What one attempt has of its store.
#[derive(Debug, Default)]
pub(in crate::executor) struct Stores {
    /// `None` if no store is granted.
    overlay: Option<Overlay>,
    open: usize,
}

impl Stores {
    pub(in crate::executor) fn new(store: Option<Arc<dyn KeyValue>>, limits: &Limits) -> Self {
        Self {
            overlay: store.map(|store| Overlay::new(store, limits)),
            open: 0,
        }
    }

    /// Everything that was written.
    pub(in crate::executor) fn take(&mut self) -> Vec<KeyValueWrite> {
        self.overlay.as_mut().map(Overlay::take).unwrap_or_default()
    }
}

/// The stores of an instance, and its handles.
pub(in crate::executor) struct View<'a> {
    stores: &'a mut Stores,
    table: &'a mut ResourceTable,
}

struct HasView;

impl HasData for HasView {
    type Data<'a> = View<'a>;
}

/// Offers the three interfaces.
pub(in crate::executor) fn add_to_linker(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    let view: fn(&mut GuestState) -> View<'_> = |state| View {
        stores: &mut state.stores,
        table: &mut state.table,
    };
    store::add_to_linker::<_, HasView>(linker, view)?;
    atomics::add_to_linker::<_, HasView>(linker, view)?;
    batch::add_to_linker::<_, HasView>(linker, view)
}

type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl View<'_> {
    /// The overlay and the name of a bucket, which can't be open without one.
    fn bucket(&mut self, bucket: &Resource<Bucket>) -> wasmtime::Result<(&mut Overlay, Arc<str>)> {
        let Bucket(name) = self.table.get(bucket)?;
        let overlay = self.stores.overlay.as_mut();
        let overlay = overlay.ok_or_else(|| wasmtime::Error::msg("a bucket is open, and no store is granted"))?;
        Ok((overlay, Arc::clone(name)))
    }
}

fn said<T>(answer: Result<T, OverlayError>) -> Result<T, Error> {
    // Without its causes, which are for the operator and name directories.
    answer.map_err(|error| Error::Other(error.to_string()))
}

fn names(keys: Vec<String>) -> Vec<Arc<str>> {
    keys.into_iter().map(Arc::from).collect()
}

impl store::Host for View<'_> {
    async fn open(&mut self, identifier: String) -> Answer<Resource<Bucket>> {
        if self.stores.overlay.is_none() {
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
        if self.stores.open == MAX_OPEN {
            let reason = format!("{MAX_OPEN} buckets are open, which is as many as may be");
            return Ok(Err(Error::Other(reason)));
        }
        match self.table.push(Bucket(name.into())) {
            Ok(bucket) => {
                self.stores.open += 1;
                Ok(Ok(bucket))
            }
            Err(_) => Ok(Err(Error::Other(
                "the attempt has as many handles as it may (limits.handles)".to_owned(),
            ))),
        }
    }
}

impl store::HostBucket for View<'_> {
    async fn get(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<Option<Vec<u8>>> {
        let (overlay, bucket) = self.bucket(&bucket)?;
        let values = overlay.get(&bucket, &[key.into()]).await;
        Ok(said(
            values.map(|values| values.into_iter().flatten().next().map(Vec::from)),
        ))
    }

    async fn set(&mut self, bucket: Resource<Bucket>, key: String, value: Vec<u8>) -> Answer<()> {
        let (overlay, bucket) = self.bucket(&bucket)?;
        Ok(said(overlay.set(&bucket, vec![(key.into(), value.into())])))
    }

    async fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<()> {
        let (overlay, bucket) = self.bucket(&bucket)?;
        Ok(said(overlay.delete(&bucket, vec![key.into()])))
    }

    async fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<bool> {
        let (overlay, bucket) = self.bucket(&bucket)?;
        let values = overlay.get(&bucket, &[key.into()]).await;
        Ok(said(values.map(|values| values.into_iter().flatten().next().is_some())))
    }

    async fn list_keys(&mut self, bucket: Resource<Bucket>, cursor: Option<u64>) -> Answer<KeyResponse> {
        let (overlay, bucket) = self.bucket(&bucket)?;
        let page = overlay.list(&bucket, cursor).await;
        Ok(said(page.map(|page| KeyResponse {
            keys: page.keys.iter().map(ToString::to_string).collect(),
            cursor: page.cursor,
        })))
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        self.stores.open = self.stores.open.saturating_sub(1);
        Ok(())
    }
}

impl atomics::Host for View<'_> {
    async fn increment(&mut self, bucket: Resource<Bucket>, key: String, delta: u64) -> Answer<u64> {
        let (overlay, bucket) = self.bucket(&bucket)?;
        Ok(said(overlay.increment(&bucket, key.into(), delta).await))
    }
}

impl batch::Host for View<'_> {
    async fn get_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> Answer<Vec<Option<(String, Vec<u8>)>>> {
        let (overlay, bucket) = self.bucket(&bucket)?;
        let asked = names(keys);
        let values = overlay.get(&bucket, &asked).await;
        Ok(said(values.map(|values| {
            let pair = |(key, value): (&Arc<str>, Option<bytes::Bytes>)| Some((key.to_string(), value?.into()));
            asked.iter().zip(values).map(pair).collect()
        })))
    }

    async fn set_many(&mut self, bucket: Resource<Bucket>, key_values: Vec<(String, Vec<u8>)>) -> Answer<()> {
        let (overlay, bucket) = self.bucket(&bucket)?;
        let entries = key_values.into_iter().map(|(key, value)| (key.into(), value.into()));
        Ok(said(overlay.set(&bucket, entries.collect())))
    }

    async fn delete_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> Answer<()> {
        let (overlay, bucket) = self.bucket(&bucket)?;
        Ok(said(overlay.delete(&bucket, names(keys))))
    }
}
