//! `wasi:keyvalue@0.2.0-draft2`, which has compare-and-set, too.

use wasmtime::component::Resource;

use super::{
    KeyValueView, Pairs, draft2,
    handles::{Bucket, Cas},
    refusal::Refusal,
};
use draft2::{
    atomics::{self, CasError},
    batch,
    store::{self, Error, KeyResponse},
};
use sandhog_queue::printable::printable;

/// The length to which an error cuts a cursor, in bytes.
const SHOWN_BYTES: usize = 80;
/// The sums that the interface can answer.
const SUMS: std::ops::RangeInclusive<i128> = -9_223_372_036_854_775_808..=9_223_372_036_854_775_807;

impl store::Host for KeyValueView<'_> {
    async fn open(&mut self, identifier: String) -> Result<Resource<Bucket>, Refusal> {
        self.open_bucket(&identifier)
    }

    fn convert_error(&mut self, refusal: Refusal) -> wasmtime::Result<Error> {
        match refusal {
            Refusal::AccessDenied => Ok(Error::AccessDenied),
            Refusal::Other(reason) => Ok(Error::Other(reason)),
            Refusal::Trap(error) => Err(error),
        }
    }
}

impl store::HostBucket for KeyValueView<'_> {
    async fn get(&mut self, bucket: Resource<Bucket>, key: String) -> Result<Option<Vec<u8>>, Refusal> {
        Ok(self.value(&bucket, key).await?.map(Vec::from))
    }

    async fn set(&mut self, bucket: Resource<Bucket>, key: String, value: Vec<u8>) -> Result<(), Refusal> {
        self.put(&bucket, vec![(key, value)])
    }

    async fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> Result<(), Refusal> {
        self.remove(&bucket, vec![key])
    }

    async fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> Result<bool, Refusal> {
        Ok(self.value(&bucket, key).await?.is_some())
    }

    async fn list_keys(&mut self, bucket: Resource<Bucket>, cursor: Option<String>) -> Result<KeyResponse, Refusal> {
        let number = |cursor: String| {
            let number = cursor.parse();
            number.map_err(|_| Refusal::Other(format!("{} is no cursor", printable(&cursor, SHOWN_BYTES))))
        };
        let page = self.page(&bucket, cursor.map(number).transpose()?).await?;
        Ok(KeyResponse {
            keys: page.keys.iter().map(ToString::to_string).collect(),
            cursor: page.cursor.map(|cursor| cursor.to_string()),
        })
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.close_bucket(bucket)
    }
}

impl atomics::Host for KeyValueView<'_> {
    async fn increment(&mut self, bucket: Resource<Bucket>, key: String, delta: i64) -> Result<i64, Refusal> {
        let sum = self.add(&bucket, key, delta.into(), SUMS).await?;
        Ok(i64::try_from(sum).expect("the sum is in the range"))
    }

    async fn swap(&mut self, cas: Resource<Cas>, value: Vec<u8>) -> wasmtime::Result<Result<(), CasError>> {
        match self.replace(cas, value).await {
            Ok(None) => Ok(Ok(())),
            Ok(Some(latest)) => Ok(Err(CasError::CasFailed(latest))),
            Err(refusal) => Ok(Err(CasError::StoreError(store::Host::convert_error(self, refusal)?))),
        }
    }
}

impl atomics::HostCas for KeyValueView<'_> {
    async fn new(&mut self, bucket: Resource<Bucket>, key: String) -> Result<Resource<Cas>, Refusal> {
        self.note(&bucket, key).await
    }

    async fn current(&mut self, cas: Resource<Cas>) -> Result<Option<Vec<u8>>, Refusal> {
        self.noted(&cas)
    }

    async fn drop(&mut self, cas: Resource<Cas>) -> wasmtime::Result<()> {
        self.forget(cas)
    }
}

impl batch::Host for KeyValueView<'_> {
    async fn get_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> Result<Pairs, Refusal> {
        self.values(&bucket, keys).await
    }

    async fn set_many(&mut self, bucket: Resource<Bucket>, entries: Vec<(String, Vec<u8>)>) -> Result<(), Refusal> {
        self.put(&bucket, entries)
    }

    async fn delete_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> Result<(), Refusal> {
        self.remove(&bucket, keys)
    }
}
