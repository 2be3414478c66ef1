//! The double of the key-value store: maps in memory, one for each name.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::keyvalue::{KeyValueError, not_granted};

/// The longest key, in bytes.
const KEY_BYTES_MAX: usize = 1024;
/// The longest value: 1 MiB.
const VALUE_BYTES_MAX: usize = 1_048_576;
/// The name of the store that [`store`] fills.
const DEFAULT: &str = "default";

type Entries = BTreeMap<String, Vec<u8>>;
type Answer<T> = Result<T, KeyValueError>;

thread_local! {
    /// `None` until a test has granted it.
    static STORES: RefCell<Option<BTreeMap<String, Entries>>> = const { RefCell::new(None) };
}

/// Grants the handlers of this thread a key-value store, whose store `default` has this content. Without it, none is granted.
///
/// # Examples
///
/// ```
/// use sandhog_guest::{keyvalue, testing};
///
/// testing::store([("handled", "41")]);
/// keyvalue::open("default")?.increment("handled", 1)?;
/// assert_eq!(testing::stored()["handled"], b"42");
/// # Ok::<(), keyvalue::KeyValueError>(())
/// ```
pub fn store<K: Into<String>, V: Into<Vec<u8>>>(content: impl IntoIterator<Item = (K, V)>) {
    let entries = content
        .into_iter()
        .map(|(key, value)| (key.into(), value.into()))
        .collect();
    STORES.set(Some(BTreeMap::from([(DEFAULT.to_owned(), entries)])));
}

/// Returns what the store `default` of this thread has.
///
/// The host drops what a failed attempt wrote; this does not, so that a test can look at it.
pub fn stored() -> BTreeMap<String, Vec<u8>> {
    stored_in(DEFAULT)
}

/// Returns what the store of this name and thread has.
pub fn stored_in(name: &str) -> BTreeMap<String, Vec<u8>> {
    STORES.with_borrow(|stores| {
        stores
            .as_ref()
            .and_then(|stores| stores.get(name))
            .cloned()
            .unwrap_or_default()
    })
}

#[derive(Debug)]
pub(crate) struct Bucket(String);

impl Bucket {
    pub(crate) fn open(name: &str) -> Answer<Self> {
        let bucket = Self(if name.is_empty() { DEFAULT } else { name }.to_owned());
        bucket.with(|_| Ok(bucket.0.clone())).map(Self)
    }

    fn with<T>(&self, act: impl FnOnce(&mut Entries) -> Answer<T>) -> Answer<T> {
        STORES.with_borrow_mut(|stores| match stores {
            Some(stores) => act(stores.entry(self.0.clone()).or_default()),
            None => Err(not_granted()),
        })
    }

    pub(crate) fn get(&self, key: &str) -> Answer<Option<Vec<u8>>> {
        checked_key(key)?;
        self.with(|entries| Ok(entries.get(key).cloned()))
    }

    pub(crate) fn set(&self, key: &str, value: &[u8]) -> Answer<()> {
        self.set_many(&[(key.to_owned(), value.to_vec())])
    }

    pub(crate) fn delete(&self, key: &str) -> Answer<()> {
        self.delete_many(&[key.to_owned()])
    }

    pub(crate) fn exists(&self, key: &str) -> Answer<bool> {
        self.get(key).map(|value| value.is_some())
    }

    /// Returns a page, which is small, so that tests see the next one as well.
    pub(crate) fn list_keys(&self, cursor: Option<&str>) -> Answer<(Vec<String>, Option<String>)> {
        const PAGE: usize = 3;
        self.with(|entries| {
            let after = cursor.unwrap_or_default();
            let mut keys = entries.keys().filter(|key| key.as_str() > after).cloned();
            let page: Vec<_> = keys.by_ref().take(PAGE).collect();
            let cursor = keys.next().and(page.last().cloned());
            Ok((page, cursor))
        })
    }

    pub(crate) fn increment(&self, key: &str, delta: i64) -> Answer<i64> {
        let number = match self.get(key)? {
            None => 0,
            Some(value) => std::str::from_utf8(&value)
                .ok()
                .and_then(|text| text.parse::<i64>().ok())
                .ok_or_else(|| KeyValueError::Store(format!("the value of {key:?} is not a number")))?,
        };
        let sum = number
            .checked_add(delta)
            .ok_or_else(|| KeyValueError::Store(format!("the value of {key:?} would have more than 64 bits")))?;
        self.set(key, sum.to_string().as_bytes())?;
        Ok(sum)
    }

    pub(crate) fn compare_and_set(&self, key: &str, expected: Option<&[u8]>, value: &[u8]) -> Answer<bool> {
        if self.get(key)?.as_deref() != expected {
            return Ok(false);
        }
        self.set(key, value).map(|()| true)
    }

    pub(crate) fn get_many(&self, keys: &[String]) -> Answer<Vec<Option<Vec<u8>>>> {
        keys.iter().map(|key| self.get(key)).collect()
    }

    pub(crate) fn set_many(&self, values: &[(String, Vec<u8>)]) -> Answer<()> {
        for (key, value) in values {
            checked_key(key)?;
            if value.len() > VALUE_BYTES_MAX {
                let bytes = value.len();
                return Err(KeyValueError::Store(format!(
                    "a value of {bytes} bytes is more than {VALUE_BYTES_MAX}"
                )));
            }
        }
        self.with(|entries| {
            entries.extend(values.iter().cloned());
            Ok(())
        })
    }

    pub(crate) fn delete_many(&self, keys: &[String]) -> Answer<()> {
        keys.iter().try_for_each(|key| checked_key(key))?;
        self.with(|entries| {
            entries.retain(|key, _| !keys.contains(key));
            Ok(())
        })
    }
}

fn checked_key(key: &str) -> Answer<()> {
    match key.len() {
        1..=KEY_BYTES_MAX => Ok(()),
        bytes => Err(KeyValueError::Store(format!(
            "a key of {bytes} bytes: use 1 to {KEY_BYTES_MAX}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyvalue::open;

    #[test]
    fn without_a_grant_there_is_no_store() {
        assert_eq!(open("default").unwrap_err(), not_granted());
    }

    #[test]
    fn what_a_host_refuses_is_refused_in_tests() {
        store([("a", "1")]);
        let store = open("").unwrap();
        assert!(store.set("", "x").is_err());
        assert!(store.get(&"k".repeat(KEY_BYTES_MAX + 1)).is_err());
        assert!(store.set("a", vec![0; VALUE_BYTES_MAX + 1]).is_err());
        assert!(store.set_many([("b", "2"), ("", "3")]).is_err());
        assert_eq!(stored(), BTreeMap::from([("a".to_owned(), b"1".to_vec())]));
    }

    #[test]
    fn each_name_is_a_store_of_its_own() {
        store([("a", "1")]);
        open("other").unwrap().set("a", "2").unwrap();
        assert_eq!(
            (stored()["a"].as_slice(), stored_in("other")["a"].as_slice()),
            (b"1".as_slice(), b"2".as_slice())
        );
    }
}
