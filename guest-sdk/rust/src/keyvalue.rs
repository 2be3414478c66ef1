//! The key-value store of the handler: what it remembers from message to message.
//!
//! ```
//! use sandhog_guest::{Failure, Message, keyvalue};
//!
//! fn handle(message: Message) -> Result<(), Failure> {
//!     let store = keyvalue::open("default")?;
//!     if store.exists(&message.id)? {
//!         return Ok(());                            // it was handled before
//!     }
//!     store.set(&message.id, "done")?;
//!     store.increment("handled", 1)?;
//!     Ok(())
//! }
//! # use sandhog_guest::testing;
//! # testing::store([("handled", "41")]);
//! # handle(testing::message("").build()).unwrap();
//! # assert_eq!(testing::stored()["handled"], b"42");
//! ```
//!
//! ```toml
//! [grant]
//! keyvalue = true
//! ```
//!
//! What an attempt writes belongs to the attempt: it is one transaction with the deletion of the message, and is dropped if the
//! handler fails. The attempt reads its own writes at once, and nobody else does before the handler has succeeded.
//!
//! This module is there with the feature `keyvalue` of the crate. A handler that does not call it imports no store, and needs no
//! grant.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Failure;
#[cfg(not(target_family = "wasm"))]
use crate::testing::keyvalue::Bucket;
#[cfg(target_family = "wasm")]
use bucket::Bucket;

#[cfg(target_family = "wasm")]
mod bucket;

/// Opens the store of this name. Each handler has its own stores; a name needs no preparation. `default` is a good one.
///
/// # Errors
///
/// [`KeyValueError::Store`] if the name has more than 256 bytes, or more than 64 stores are open.
pub fn open(name: &str) -> Result<Store, KeyValueError> {
    Bucket::open(name).map(Store)
}

/// A store of keys and values. A key has 1 to 1024 bytes, a value at most 1 MiB of any bytes.
#[derive(Debug)]
pub struct Store(Bucket);

impl Store {
    /// Returns the value of a key; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`KeyValueError::Store`], as everything here.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, KeyValueError> {
        self.0.get(key)
    }

    /// Returns the value of a key as UTF-8 text.
    ///
    /// # Errors
    ///
    /// [`KeyValueError::Malformed`] if it is no text, as well.
    pub fn get_text(&self, key: &str) -> Result<Option<String>, KeyValueError> {
        let value = self.get(key)?.map(String::from_utf8).transpose();
        value.map_err(|error| {
            KeyValueError::Malformed(format!("the value of {key:?} is not text: {}", error.utf8_error()))
        })
    }

    /// Reads the value of a key as JSON.
    ///
    /// # Errors
    ///
    /// [`KeyValueError::Malformed`] if it is not the JSON expected, as well.
    pub fn get_json<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, KeyValueError> {
        let Some(value) = self.get(key)? else {
            return Ok(None);
        };
        let value = serde_json::from_slice(&value);
        value.map(Some).map_err(|error| {
            KeyValueError::Malformed(format!("the value of {key:?} is not the JSON expected: {error}"))
        })
    }

    /// Gives a key this value. The last that is committed wins.
    ///
    /// # Errors
    ///
    /// [`KeyValueError::Store`], also beyond `limits.keyvalue-writes` and `limits.keyvalue-bytes` of the manifest.
    pub fn set(&self, key: &str, value: impl AsRef<[u8]>) -> Result<(), KeyValueError> {
        self.0.set(key, value.as_ref())
    }

    /// Gives a key the JSON of a value.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set), and [`KeyValueError::Malformed`] if the value has no JSON form.
    pub fn set_json<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<(), KeyValueError> {
        let value = serde_json::to_vec(value)
            .map_err(|error| KeyValueError::Malformed(format!("the value for {key:?} has no JSON form: {error}")))?;
        self.set(key, value)
    }

    /// Removes a key, whether it is there or not.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub fn delete(&self, key: &str) -> Result<(), KeyValueError> {
        self.0.delete(key)
    }

    /// Returns whether a key has a value.
    ///
    /// # Errors
    ///
    /// [`KeyValueError::Store`].
    pub fn exists(&self, key: &str) -> Result<bool, KeyValueError> {
        self.0.exists(key)
    }

    /// Returns all keys, in the order of their bytes.
    pub fn keys(&self) -> Keys<'_> {
        self.keys_with_prefix("")
    }

    /// Returns the keys that begin with `prefix`, in the order of their bytes. It goes through all keys for that.
    pub fn keys_with_prefix(&self, prefix: &str) -> Keys<'_> {
        Keys {
            store: self,
            prefix: prefix.to_owned(),
            page: VecDeque::new(),
            cursor: None,
            is_last: false,
        }
    }

    /// Adds to the number of a key, and returns the sum. A key without a value counts as 0; `delta` can be negative.
    ///
    /// Attempts that do so at the same time lose nothing: what is added is added to the number that is there at the commit.
    ///
    /// # Errors
    ///
    /// [`KeyValueError::Store`] if the value is no decimal number, or the sum is none of 64 bits.
    pub fn increment(&self, key: &str, delta: i64) -> Result<i64, KeyValueError> {
        self.0.increment(key, delta)
    }

    /// Gives a key a value if it has the value that is expected: `None` expects that it has none. Returns whether it did.
    ///
    /// The answer is decided by what this attempt sees. If another attempt has changed the key by the commit, nothing of this
    /// attempt happens, and the message is tried again.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    ///
    /// # Examples
    ///
    /// ```
    /// # use sandhog_guest::{keyvalue, testing};
    /// # testing::store([("handled", "0")]);
    /// let store = keyvalue::open("default")?;
    /// assert!(store.compare_and_set("leader", None, "a")?);
    /// assert!(!store.compare_and_set("leader", None, "b")?);
    /// assert!(store.compare_and_set("leader", Some(b"a"), "b")?);
    /// # Ok::<(), keyvalue::KeyValueError>(())
    /// ```
    pub fn compare_and_set(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<bool, KeyValueError> {
        self.0.compare_and_set(key, expected, value.as_ref())
    }

    /// Returns the values of up to 1000 keys, in the order of the keys.
    ///
    /// # Errors
    ///
    /// [`KeyValueError::Store`].
    pub fn get_many<K: AsRef<str>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Vec<u8>>>, KeyValueError> {
        self.0.get_many(&texts(keys))
    }

    /// Gives up to 1000 keys their values: all of them or, on an error, none.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub fn set_many<K: Into<String>, V: Into<Vec<u8>>>(
        &self,
        values: impl IntoIterator<Item = (K, V)>,
    ) -> Result<(), KeyValueError> {
        let values: Vec<_> = values
            .into_iter()
            .map(|(key, value)| (key.into(), value.into()))
            .collect();
        self.0.set_many(&values)
    }

    /// Removes up to 1000 keys: all of them or, on an error, none.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub fn delete_many<K: AsRef<str>>(&self, keys: impl IntoIterator<Item = K>) -> Result<(), KeyValueError> {
        self.0.delete_many(&texts(keys))
    }
}

fn texts<K: AsRef<str>>(keys: impl IntoIterator<Item = K>) -> Vec<String> {
    keys.into_iter().map(|key| key.as_ref().to_owned()).collect()
}

/// The keys of a store; see [`Store::keys`]. After an error there are no more.
#[derive(Debug)]
pub struct Keys<'a> {
    store: &'a Store,
    prefix: String,
    page: VecDeque<String>,
    /// What to ask with for the next page.
    cursor: Option<String>,
    is_last: bool,
}

impl Iterator for Keys<'_> {
    type Item = Result<String, KeyValueError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(key) = self.page.pop_front() {
                return Some(Ok(key));
            }
            if self.is_last {
                return None;
            }
            let page = self.store.0.list_keys(self.cursor.as_deref());
            self.is_last = !matches!(page, Ok((_, Some(_))));
            match page {
                Ok((mut keys, cursor)) => {
                    keys.retain(|key| key.starts_with(&self.prefix));
                    (self.page, self.cursor) = (keys.into(), cursor);
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Why the store could not do what it was asked for. With `?` it becomes a retry.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyValueError {
    /// The manifest does not grant a store. Add it: `[grant] keyvalue = true`.
    NotGranted(String),
    /// What the host says: a limit, or a key, value or number that can't be.
    Store(String),
    /// A value is no text or not the JSON expected, or has no JSON form.
    Malformed(String),
}

impl fmt::Display for KeyValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGranted(text) | Self::Store(text) | Self::Malformed(text) => f.write_str(text),
        }
    }
}

impl Error for KeyValueError {}

impl From<KeyValueError> for Failure {
    fn from(error: KeyValueError) -> Self {
        Self::Retry(error.to_string())
    }
}

/// Returns the error of a manifest without the grant.
pub(crate) fn not_granted() -> KeyValueError {
    KeyValueError::NotGranted(
        "the key-value store is not granted: to grant it, add keyvalue = true to [grant] of the manifest".to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn store() -> Store {
        testing::store([("a", "1"), ("b/1", "x"), ("b/2", "\"y\""), ("c", "2")]);
        open("default").unwrap()
    }

    #[test]
    fn values_are_read_as_what_they_are() {
        let store = store();
        assert_eq!(store.get("a").unwrap().as_deref(), Some(b"1".as_slice()));
        assert_eq!(store.get_text("b/1").unwrap().as_deref(), Some("x"));
        assert_eq!(store.get_json::<u32>("a"), Ok(Some(1)));
        assert_eq!(store.get_json::<u32>("nothing"), Ok(None));
        assert!(store.exists("c").unwrap() && !store.exists("d").unwrap());
        let failure = Failure::from(store.get_json::<u32>("b/1").unwrap_err());
        assert_eq!(
            failure,
            Failure::retry("the value of \"b/1\" is not the JSON expected: expected value at line 1 column 1")
        );
    }

    #[test]
    fn keys_are_found_by_their_beginning() {
        let store = store();
        let keys = |keys: Keys<'_>| keys.collect::<Result<Vec<_>, _>>().unwrap();
        assert_eq!(keys(store.keys()), ["a", "b/1", "b/2", "c"]);
        assert_eq!(keys(store.keys_with_prefix("b/")), ["b/1", "b/2"]);
    }

    #[test]
    fn many_are_read_and_written_at_once() {
        let store = store();
        store.set_many([("d", "4"), ("e", "5")]).unwrap();
        store.delete_many(["a", "b/1", "nothing"]).unwrap();
        assert_eq!(
            store.get_many(["e", "a", "d"]).unwrap(),
            [Some(b"5".to_vec()), None, Some(b"4".to_vec())]
        );
    }

    #[test]
    fn a_counter_counts_both_ways() {
        let store = store();
        assert_eq!(store.increment("n", 3), Ok(3));
        assert_eq!(store.increment("n", -5), Ok(-2));
        assert!(matches!(store.increment("b/1", 1), Err(KeyValueError::Store(_))));
    }
}
