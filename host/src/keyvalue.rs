//! The key-value store of a handler: what may be in it, what an attempt writes into it, and the seam to where it is kept.
//!
//! A store belongs to one namespace, which is the handler's name, and has buckets, which have keys. What an attempt writes
//! is part of the attempt: [`Overlay`] keeps it apart until it is known whether the attempt succeeded, and lets the attempt
//! read it meanwhile; then it is committed together with the deletion of the message, or dropped. Nothing here names a
//! backend or the engine.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{printable::printable, queue::QueueError};

mod overlay;

pub use overlay::{KeyPage, Overlay, OverlayError, OverlayLimits};

/// The longest name of a bucket, in bytes. The shortest is 1.
pub const MAX_BUCKET_BYTES: usize = 256;
/// The longest key, in bytes. The shortest is 1.
pub const MAX_KEY_BYTES: usize = 1024;
/// The longest value, in bytes. The shortest is empty.
pub const MAX_VALUE_BYTES: usize = 1024 * 1024;
/// How many keys one question is about, and one page has, at most.
pub const MAX_KEYS: usize = 1000;
/// What an entry counts towards the size of a store, besides the name of its bucket, its key and its value.
pub const ENTRY_BYTES: u64 = 64;

/// How much of a name is shown in an error, in bytes.
const SHOWN_BYTES: usize = 80;

/// A name or a value that breaks a limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidEntry {
    /// The name of the bucket.
    #[error("the name of a bucket has {0} bytes, and may have 1 to 256")]
    Bucket(usize),
    /// The key.
    #[error("a key has {0} bytes, and may have 1 to 1024")]
    Key(usize),
    /// The value.
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

/// What becomes of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It has this value, whatever it had before.
    Set(Bytes),
    /// It is not there, whether it was before or not.
    Delete,
    /// So much is added to the number that it has when this is committed; a key that is not there counts as 0. Numbers
    /// are decimal, 0 to 2^64 - 1.
    Add(u64),
}

/// One change of a key-value store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValueWrite {
    /// The bucket: 1 to 256 bytes.
    pub bucket: Arc<str>,
    /// The key: 1 to 1024 bytes.
    pub key: Arc<str>,
    /// What becomes of it.
    pub change: Change,
}

impl KeyValueWrite {
    /// Refuses what breaks a limit.
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

    /// How many bytes its names and its value have.
    pub fn size(&self) -> usize {
        let value = match &self.change {
            Change::Set(value) => value.len(),
            Change::Delete | Change::Add(_) => 0,
        };
        self.bucket.len() + self.key.len() + value
    }
}

/// What is written into one store in one transaction, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Writes {
    /// Whose store it is: any text.
    pub namespace: Arc<str>,
    /// How many bytes that store may hold afterwards, as [`entry_bytes`] counts them. A transaction after which it holds no
    /// more than before is never refused for it.
    pub total_bytes: u64,
    /// The changes. Of several of one key the later ones see what the earlier ones did.
    pub changes: Vec<KeyValueWrite>,
}

impl Writes {
    /// Whether nothing is written.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// How many bytes the changes have.
    pub fn size(&self) -> usize {
        self.changes.iter().map(KeyValueWrite::size).sum()
    }
}

/// What an entry with so long a value counts towards the size of its store.
pub fn entry_bytes(bucket: &str, key: &str, value_bytes: u64) -> u64 {
    let names = u64::try_from(bucket.len() + key.len()).unwrap_or(u64::MAX);
    names.saturating_add(value_bytes).saturating_add(ENTRY_BYTES)
}

/// The number that a value stands for, if it stands for one: digits and nothing else, at most 2^64 - 1.
pub fn number(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// The value that stands for a number.
pub fn value_of(number: u64) -> Bytes {
    number.to_string().into()
}

/// A bucket and a key, as errors show them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    bucket: String,
    key: String,
}

impl Place {
    /// The names are made safe to print, and cut.
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

/// Why nothing was read.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The values have more bytes together than were asked for.
    #[error("the values have more than {0} bytes together (limits.host-call-bytes): ask for fewer keys")]
    TooLarge(usize),
    /// What is stored there was changed by a fault of the disk. Writing the key anew mends it.
    #[error("the stored value of {0} is damaged")]
    Damaged(Place),
    /// The store did not answer.
    #[error("the key-value store is not available now")]
    Store(#[from] QueueError),
}

/// Why nothing was written.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// A name or a value breaks a limit. Final.
    #[error(transparent)]
    Invalid(#[from] InvalidEntry),
    /// The store would hold more than it may. Deleting something may help.
    #[error(
        "the key-value store of {namespace} would hold {bytes} bytes, more than its limit of {limit} \
         (limits.keyvalue-total-bytes)"
    )]
    Full {
        /// Whose store.
        namespace: String,
        /// What it would hold.
        bytes: u64,
        /// What it may hold.
        limit: u64,
    },
    /// The value has become something that can't be added to: not a decimal number, or one that would pass 2^64 - 1, or
    /// damaged.
    #[error("nothing can be added to {0}: it holds no decimal number, or too large a one")]
    NotANumber(Place),
}

/// Where the committed entries of one namespace are read.
#[async_trait]
pub trait KeyValue: fmt::Debug + Send + Sync {
    /// The values of keys of a bucket, one answer per key, in order; `None` for a key that is not there.
    ///
    /// # Errors
    ///
    /// See [`ReadError`]: `TooLarge` if the values have more than `max_bytes` together.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    async fn get(&self, bucket: &str, keys: Vec<Arc<str>>, max_bytes: usize) -> Result<Vec<Option<Bytes>>, ReadError>;

    /// The first `limit` keys of a bucket that come after `after`, in the order of their bytes.
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
    fn a_number_is_digits_and_nothing_else() {
        for (value, expected) in [
            ("0", Some(0)),
            ("007", Some(7)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("", None),
            ("+1", None),
            ("-1", None),
            (" 1", None),
            ("1.0", None),
        ] {
            assert_eq!(number(value.as_bytes()), expected, "{value:?}");
        }
        assert_eq!(number(&[0xff]), None);
    }
}
