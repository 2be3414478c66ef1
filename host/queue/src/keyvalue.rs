//! The key-value store of a handler: the limits of its entries, the changes of an attempt, and the trait through which it
//! is read.
//!
//! A store belongs to one namespace, which is the handler's name, and has buckets, which have keys. The writes of an
//! attempt are part of the attempt: [`Overlay`] keeps them apart until the attempt has succeeded, and lets the attempt read
//! them meanwhile. Then they are committed together with the deletion of the message, or dropped. Nothing here names a
//! backend or the engine.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{QueueError, printable::printable};

mod overlay;

pub use overlay::{KeyPage, NotedValue, Overlay, OverlayError, OverlayLimits, SwapRefused};

/// The longest name of a bucket, in bytes. The shortest is 1.
pub const MAX_BUCKET_BYTES: usize = 256;
/// The longest key, in bytes. The shortest is 1.
pub const MAX_KEY_BYTES: usize = 1024;
/// The longest value, in bytes. The shortest is empty.
pub const MAX_VALUE_BYTES: usize = 1024 * 1024;
/// The most keys of one question and of one page.
pub const MAX_KEYS: usize = 1000;
/// The bytes that an entry counts towards the size of a store, besides the name of its bucket, its key and its value.
pub const ENTRY_BYTES: u64 = 64;

/// The length to which an error cuts a name, in bytes.
const SHOWN_BYTES: usize = 80;

/// A name or a value that breaks a limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEntry {
    /// The length of the name of the bucket.
    #[error("the name of a bucket has {0} bytes, and may have 1 to 256")]
    Bucket(usize),
    /// The length of the key.
    #[error("a key has {0} bytes, and may have 1 to 1024")]
    Key(usize),
    /// The length of the value.
    #[error("a value has {0} bytes, and may have 1 MiB at most")]
    Value(usize),
}

impl InvalidEntry {
    /// Refuses the name of a bucket that is too short or too long.
    ///
    /// # Errors
    ///
    /// [`InvalidEntry::Bucket`].
    pub fn check_bucket(bucket: &str) -> Result<(), Self> {
        match bucket.len() {
            1..=MAX_BUCKET_BYTES => Ok(()),
            other => Err(Self::Bucket(other)),
        }
    }

    /// Refuses a key that is too short or too long.
    ///
    /// # Errors
    ///
    /// [`InvalidEntry::Key`].
    pub fn check_key(key: &str) -> Result<(), Self> {
        match key.len() {
            1..=MAX_KEY_BYTES => Ok(()),
            other => Err(Self::Key(other)),
        }
    }

    /// Refuses a value that is too long.
    ///
    /// # Errors
    ///
    /// [`InvalidEntry::Value`].
    pub fn check_value(value: &[u8]) -> Result<(), Self> {
        match value.len() {
            0..=MAX_VALUE_BYTES => Ok(()),
            other => Err(Self::Value(other)),
        }
    }
}

/// The change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The key gets this value, whatever it had before.
    Set(Bytes),
    /// The key is deleted, whether it exists or not.
    Delete,
    /// This number is added to the number that the key has at the commit; a key that does not exist counts as 0. Numbers
    /// are decimal, -2^63 to 2^64 - 1.
    Add(i128),
}

/// A condition of a change: the key still has this value when the change is made, or still has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unchanged(pub Option<Bytes>);

impl Unchanged {
    /// Returns the number of bytes of the value.
    pub fn size(&self) -> usize {
        self.0.as_ref().map_or(0, Bytes::len)
    }
}

/// One change of a key-value store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValueWrite {
    /// The bucket: 1 to 256 bytes.
    pub bucket: Arc<str>,
    /// The key: 1 to 1024 bytes.
    pub key: Arc<str>,
    /// The change.
    pub change: Change,
    /// The condition without which nothing of the transaction happens; `None` if there is none.
    pub condition: Option<Unchanged>,
}

impl KeyValueWrite {
    /// Refuses a change that breaks a limit.
    ///
    /// # Errors
    ///
    /// See [`InvalidEntry`].
    pub fn check(&self) -> Result<(), InvalidEntry> {
        InvalidEntry::check_bucket(&self.bucket)?;
        InvalidEntry::check_key(&self.key)?;
        match &self.change {
            Change::Set(value) => InvalidEntry::check_value(value),
            Change::Delete | Change::Add(_) => Ok(()),
        }
    }

    /// Returns the number of bytes of the names, the value and the condition.
    pub fn size(&self) -> usize {
        let value = match &self.change {
            Change::Set(value) => value.len(),
            Change::Delete | Change::Add(_) => 0,
        };
        let condition = self.condition.as_ref().map_or(0, Unchanged::size);
        self.bucket.len() + self.key.len() + value + condition
    }
}

/// The changes of one store in one transaction, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Writes {
    /// The namespace of the store: any text.
    pub namespace: Arc<str>,
    /// The number of bytes that the store may hold afterwards, as [`entry_bytes`] counts them. A transaction after which it
    /// holds no more than before is never refused for it.
    pub total_bytes: u64,
    /// The changes. Of several changes of one key the later ones see the earlier ones.
    pub changes: Vec<KeyValueWrite>,
}

impl Writes {
    /// Whether there is no change.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Returns the number of bytes of the changes.
    pub fn size(&self) -> usize {
        self.changes.iter().map(KeyValueWrite::size).sum()
    }
}

/// Returns the bytes that an entry with a value of this length counts towards the size of its store.
pub fn entry_bytes(bucket: &str, key: &str, value_bytes: u64) -> u64 {
    let names = u64::try_from(bucket.len() + key.len()).unwrap_or(u64::MAX);
    names.saturating_add(value_bytes).saturating_add(ENTRY_BYTES)
}

/// Returns the number that a value stands for, if it does: digits, with a `-` in front of a negative number, and nothing
/// else, -2^63 to 2^64 - 1.
pub fn number(value: &[u8]) -> Option<i128> {
    let text = std::str::from_utf8(value).ok()?;
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| is_number && is_in_range(*number))
}

/// Returns the value that stands for a number.
pub fn value_of(number: i128) -> Bytes {
    number.to_string().into()
}

/// Returns the sum of `delta` and the number of a key, if there is one: the key has a number or no value, and the sum is -2^63
/// to 2^64 - 1.
pub fn sum(held: Option<&[u8]>, delta: i128) -> Option<i128> {
    let held = held.map_or(Some(0), number)?;
    held.checked_add(delta).filter(|sum| is_in_range(*sum))
}

fn is_in_range(number: i128) -> bool {
    (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&number)
}

/// A bucket and a key, as errors show them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    bucket: String,
    key: String,
}

impl Place {
    /// Makes the names safe to print, and cuts them.
    pub fn new(bucket: &str, key: &str) -> Self {
        Self {
            bucket: printable(bucket, SHOWN_BYTES),
            key: printable(key, SHOWN_BYTES),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key \"{}\" of bucket \"{}\"", self.key, self.bucket)
    }
}

/// Why a read failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The values have more bytes together than the caller asked for.
    #[error("the values have more than {0} bytes together (limits.host-call-bytes): ask for fewer keys")]
    TooLarge(usize),
    /// A fault of the disk has changed the stored value. A write of the key mends it.
    #[error("the stored value of {0} is damaged")]
    Damaged(Place),
    /// The store did not answer.
    #[error("the key-value store is not available now")]
    Store(#[from] QueueError),
}

/// Why a write was refused.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    /// A name or a value breaks a limit. Final.
    #[error(transparent)]
    Invalid(#[from] InvalidEntry),
    /// The store would hold more than it may. A deletion may help.
    #[error(
        "the key-value store of {namespace} would hold {bytes} bytes, more than its limit of {limit} \
         (limits.keyvalue-total-bytes)"
    )]
    Full {
        /// The namespace of the store.
        namespace: String,
        /// The bytes that it would hold.
        bytes: u64,
        /// The bytes that it may hold.
        limit: u64,
    },
    /// The value is one to which the number can't be added: no decimal number, one with which the sum is out of range, or a damaged
    /// one.
    #[error("nothing can be added to {0}: it holds no decimal number, or the sum is out of range")]
    NotANumber(Place),
    /// The key has another value than the condition of its change says: another transaction has changed it.
    #[error("{0} was changed by another attempt after this one had compared it")]
    Changed(Place),
}

/// Reads the committed entries of one namespace.
#[async_trait]
pub trait KeyValue: fmt::Debug + Send + Sync {
    /// Returns the values of keys of a bucket, one answer per key, in order; `None` for a key that does not exist.
    ///
    /// # Errors
    ///
    /// See [`ReadError`]: `TooLarge` if the values have more than `max_bytes` together.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    async fn get(&self, bucket: &str, keys: Vec<Arc<str>>, max_bytes: usize) -> Result<Vec<Option<Bytes>>, ReadError>;

    /// Returns the first `limit` keys of a bucket that come after `after`, in the order of their bytes.
    ///
    /// # Errors
    ///
    /// [`ReadError::Store`].
    ///
    /// # Cancel safety
    ///
    /// Safe.
    async fn list(&self, bucket: &str, after: Option<Arc<str>>, limit: usize) -> Result<Vec<Arc<str>>, ReadError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_digits_perhaps_behind_a_minus() {
        for (value, expected) in [
            ("0", Some(0)),
            ("007", Some(7)),
            ("18446744073709551615", Some(i128::from(u64::MAX))),
            ("18446744073709551616", None),
            ("-1", Some(-1)),
            ("-9223372036854775808", Some(i128::from(i64::MIN))),
            ("-9223372036854775809", None),
            ("", None),
            ("-", None),
            ("--1", None),
            ("-+1", None),
            ("+1", None),
            ("-1 ", None),
            (" 1", None),
            ("1.0", None),
        ] {
            assert_eq!(number(value.as_bytes()), expected, "{value:?}");
        }
        assert_eq!(number(&[0xff]), None);
    }
}
