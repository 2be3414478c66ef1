//! `wasi:keyvalue@0.2.0-draft`.

use wasmtime::component::Resource;

use super::{KeyValueView, Pairs, draft1, handles::Bucket, refusal::Refusal};
use draft1::{
    atomics, batch,
    store::{self, Error, KeyResponse},
};

/// The sums that the interface can answer.
const SUMS: std::ops::RangeInclusive<i128> = 0..=18_446_744_073_709_551_615;

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

    async fn list_keys(&mut self, bucket: Resource<Bucket>, cursor: Option<u64>) -> Result<KeyResponse, Refusal> {
        let page = self.page(&bucket, cursor).await?;
        Ok(KeyResponse {
            keys: page.keys.iter().map(ToString::to_string).collect(),
            cursor: page.cursor,
        })
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.close_bucket(bucket)
    }
}

impl atomics::Host for KeyValueView<'_> {
    async fn increment(&mut self, bucket: Resource<Bucket>, key: String, delta: u64) -> Result<u64, Refusal> {
        let sum = self.add(&bucket, key, delta.into(), SUMS).await?;
        Ok(u64::try_from(sum).expect("the sum is in the range"))
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
