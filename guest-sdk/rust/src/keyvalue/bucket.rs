//! A bucket of the host: `wasi:keyvalue`.

use super::{KeyValueError, not_granted};
use crate::bindings::keyvalue::wasi::keyvalue::atomics::{self, Cas, CasError};
use crate::bindings::keyvalue::wasi::keyvalue::{batch, store};

#[derive(Debug)]
pub(super) struct Bucket(store::Bucket);

type Answer<T> = Result<T, KeyValueError>;

impl Bucket {
    pub(super) fn open(name: &str) -> Answer<Self> {
        Ok(Self(store::open(name)?))
    }

    pub(super) fn get(&self, key: &str) -> Answer<Option<Vec<u8>>> {
        Ok(self.0.get(key)?)
    }

    pub(super) fn set(&self, key: &str, value: &[u8]) -> Answer<()> {
        Ok(self.0.set(key, value)?)
    }

    pub(super) fn delete(&self, key: &str) -> Answer<()> {
        Ok(self.0.delete(key)?)
    }

    pub(super) fn exists(&self, key: &str) -> Answer<bool> {
        Ok(self.0.exists(key)?)
    }

    /// Returns a page of keys, and what to ask with for the next one.
    pub(super) fn list_keys(&self, cursor: Option<&str>) -> Answer<(Vec<String>, Option<String>)> {
        let page = self.0.list_keys(cursor)?;
        Ok((page.keys, page.cursor))
    }

    pub(super) fn increment(&self, key: &str, delta: i64) -> Answer<i64> {
        Ok(atomics::increment(&self.0, key, delta)?)
    }

    pub(super) fn compare_and_set(&self, key: &str, expected: Option<&[u8]>, value: &[u8]) -> Answer<bool> {
        let seen = Cas::new(&self.0, key)?;
        if seen.current()?.as_deref() != expected {
            return Ok(false);
        }
        match atomics::swap(seen, value) {
            Ok(()) => Ok(true),
            Err(CasError::CasFailed(_)) => Ok(false),
            Err(CasError::StoreError(error)) => Err(error.into()),
        }
    }

    pub(super) fn get_many(&self, keys: &[String]) -> Answer<Vec<Option<Vec<u8>>>> {
        let found = batch::get_many(&self.0, keys)?;
        Ok(found.into_iter().map(|entry| entry.map(|(_, value)| value)).collect())
    }

    pub(super) fn set_many(&self, values: &[(String, Vec<u8>)]) -> Answer<()> {
        Ok(batch::set_many(&self.0, values)?)
    }

    pub(super) fn delete_many(&self, keys: &[String]) -> Answer<()> {
        Ok(batch::delete_many(&self.0, keys)?)
    }
}

impl From<store::Error> for KeyValueError {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::AccessDenied => not_granted(),
            store::Error::NoSuchStore => Self::Store("there is no such store".to_owned()),
            store::Error::Other(text) => Self::Store(text),
        }
    }
}
