//! The key-value store as one attempt sees it: the committed entries, under the writes of the attempt.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    ops::{Bound, RangeInclusive},
    sync::Arc,
};

use bytes::Bytes;

use super::{Change, InvalidEntry, KeyValue, KeyValueWrite, MAX_KEYS, Place, ReadError, Unchanged, sum, value_of};

pub use self::compare::{NotedValue, SwapRefused};

mod compare;

/// The most lists of keys that an attempt can continue. Older ones are forgotten.
const MAX_CURSORS: usize = 256;

const READ_BYTES: &str = "many bytes as it may (limits.keyvalue-read-bytes)";

/// Why the store refused something to an attempt.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OverlayError {
    /// A name or a value breaks a limit.
    #[error(transparent)]
    Invalid(#[from] InvalidEntry),
    /// The attempt has changed as much as it may.
    #[error("the attempt has written as {0}")]
    Limit(&'static str),
    /// The attempt has read as much as it may.
    #[error("the attempt has read as {0}")]
    ReadLimit(&'static str),
    /// One call asks for more keys than it may.
    #[error("one call may be about 1000 keys, and not about {0}")]
    Keys(usize),
    /// The values that the attempt has noted to compare them, and its changes, have as many bytes as they may.
    #[error("the attempt has written and compared as many bytes as it may (limits.keyvalue-bytes)")]
    Held,
    /// The value is no number to which this can be added.
    #[error("nothing can be added to {0}: it holds no decimal number, or the sum is out of range")]
    NotANumber(Place),
    /// The cursor is none of this attempt.
    #[error("{0} is no cursor that this attempt was given for this bucket, or it was given too long ago")]
    Cursor(u64),
    /// See [`ReadError`].
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// The limits of one attempt on its key-value store. The error texts name their keys in the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverlayLimits {
    /// The most changes.
    pub writes: u64,
    /// The most bytes of names and values that are changed.
    pub write_bytes: u64,
    /// The most keys and pages that are read.
    pub reads: u64,
    /// The most bytes that are read.
    pub read_bytes: u64,
    /// The most bytes of one answer.
    pub answer_bytes: u64,
}

/// Some of the keys of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPage {
    /// The keys, in the order of their bytes.
    pub keys: Vec<Arc<str>>,
    /// The cursor of the next page; `None` if there are no more keys.
    pub cursor: Option<u64>,
}

type Changes = BTreeMap<Arc<str>, PendingChange>;

/// The sum of all changes of one key.
#[derive(Debug, Clone)]
struct PendingChange {
    change: Change,
    /// What the key had in the store when the attempt compared its value. A change that only adds has none.
    condition: Option<Unchanged>,
}

/// The writes of one attempt over the committed entries of its store.
#[derive(Debug)]
pub struct Overlay {
    store: Arc<dyn KeyValue>,
    /// The changes by bucket and key. Each key has at most one, the sum of all of them.
    changes: BTreeMap<Arc<str>, Changes>,
    writes_left: u64,
    /// What is left for changes and for noted values.
    bytes_left: u64,
    reads_left: u64,
    read_bytes_left: usize,
    answer_bytes: usize,
    /// The bucket and the last key of each page that has a next one.
    cursors: BTreeMap<u64, (Arc<str>, Arc<str>)>,
    next_cursor: u64,
}

impl Overlay {
    /// An overlay without changes.
    pub fn new(store: Arc<dyn KeyValue>, limits: OverlayLimits) -> Self {
        Self {
            store,
            changes: BTreeMap::new(),
            writes_left: limits.writes,
            bytes_left: limits.write_bytes,
            reads_left: limits.reads,
            read_bytes_left: usize::try_from(limits.read_bytes).unwrap_or(usize::MAX),
            answer_bytes: usize::try_from(limits.answer_bytes).unwrap_or(usize::MAX),
            cursors: BTreeMap::new(),
            next_cursor: 1,
        }
    }

    /// Takes the writes, one change per key.
    pub fn take(&mut self) -> Vec<KeyValueWrite> {
        let mut writes = Vec::new();
        for (bucket, changes) in std::mem::take(&mut self.changes) {
            for (key, PendingChange { change, condition }) in changes {
                let bucket = Arc::clone(&bucket);
                writes.push(KeyValueWrite {
                    bucket,
                    key,
                    change,
                    condition,
                });
            }
        }
        writes
    }

    /// Returns the values of at most 1000 keys, one answer per key.
    ///
    /// # Errors
    ///
    /// See [`OverlayError`].
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn get(&mut self, bucket: &Arc<str>, keys: &[Arc<str>]) -> Result<Vec<Option<Bytes>>, OverlayError> {
        if keys.len() > MAX_KEYS {
            return Err(OverlayError::Keys(keys.len()));
        }
        for key in keys {
            InvalidEntry::check_key(key)?;
        }
        self.spend_reads(keys.len())?;
        let most = self.answer_bytes.min(self.read_bytes_left);
        let changed = self.changes.get(bucket);
        let change = |key: &Arc<str>| Some(&changed?.get(key)?.change);
        let needs_store = |key: &&Arc<str>| matches!(change(key), None | Some(Change::Add(_)));
        let asked: Vec<Arc<str>> = keys.iter().filter(needs_store).map(Arc::clone).collect();
        let mut committed = if asked.is_empty() {
            Vec::new()
        } else {
            self.committed(bucket, asked, most).await?
        }
        .into_iter();
        let mut values = Vec::with_capacity(keys.len());
        let mut bytes = 0_usize;
        for key in keys {
            let value = match change(key) {
                None => committed.next().flatten(),
                Some(Change::Add(delta)) => {
                    let held = committed.next().flatten();
                    Some(value_of(added(bucket, key, held.as_deref(), *delta)?))
                }
                Some(Change::Set(value)) => Some(value.clone()),
                Some(Change::Delete) => None,
            };
            bytes = bytes.saturating_add(value.as_ref().map_or(0, Bytes::len));
            if bytes > most {
                return Err(self.too_large());
            }
            values.push(value);
        }
        self.read_bytes_left -= bytes;
        Ok(values)
    }

    /// Returns the committed values of keys, of at most `most` bytes together.
    async fn committed(
        &self,
        bucket: &Arc<str>,
        keys: Vec<Arc<str>>,
        most: usize,
    ) -> Result<Vec<Option<Bytes>>, OverlayError> {
        let answer = self.store.get(bucket, keys, most).await;
        answer.map_err(|error| match error {
            ReadError::TooLarge(_) => self.too_large(),
            other @ (ReadError::Damaged(_) | ReadError::Store(_)) => other.into(),
        })
    }

    /// Gives keys these values: all of them, or none if one is refused.
    ///
    /// # Errors
    ///
    /// See [`OverlayError`].
    pub fn set(&mut self, bucket: &Arc<str>, entries: Vec<(Arc<str>, Bytes)>) -> Result<(), OverlayError> {
        for (key, value) in &entries {
            InvalidEntry::check_key(key)?;
            InvalidEntry::check_value(value)?;
        }
        self.spend(entries.iter().map(|(key, value)| key.len() + value.len()))?;
        for (key, value) in entries {
            self.put(bucket, key, Change::Set(value));
        }
        Ok(())
    }

    /// Deletes keys, whether they are there or not: all of them, or none if one is refused.
    ///
    /// # Errors
    ///
    /// See [`OverlayError`].
    pub fn delete(&mut self, bucket: &Arc<str>, keys: Vec<Arc<str>>) -> Result<(), OverlayError> {
        for key in &keys {
            InvalidEntry::check_key(key)?;
        }
        self.spend(keys.iter().map(|key| key.len()))?;
        for key in keys {
            self.put(bucket, key, Change::Delete);
        }
        Ok(())
    }

    /// Replaces the change of a key. A condition stays.
    fn put(&mut self, bucket: &Arc<str>, key: Arc<str>, change: Change) {
        let changes = self.changes.entry(Arc::clone(bucket)).or_default();
        match changes.entry(key) {
            Entry::Vacant(place) => {
                place.insert(PendingChange {
                    change,
                    condition: None,
                });
            }
            Entry::Occupied(mut place) => place.get_mut().change = change,
        }
    }

    /// Adds `delta` to a number and returns the sum as this attempt sees it: others may add to the number before the
    /// commit, and no addition is lost. A key that does not exist counts as 0.
    ///
    /// # Errors
    ///
    /// See [`OverlayError`]: `NotANumber` also if the sum is not in `range`.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing was added then.
    pub async fn increment(
        &mut self,
        bucket: &Arc<str>,
        key: Arc<str>,
        delta: i128,
        range: RangeInclusive<i128>,
    ) -> Result<i128, OverlayError> {
        let held = self.get(bucket, std::slice::from_ref(&key)).await?.pop().flatten();
        let sum = added(bucket, &key, held.as_deref(), delta)?;
        if !range.contains(&sum) {
            return Err(OverlayError::NotANumber(Place::new(bucket, &key)));
        }
        self.spend([key.len()].into_iter())?;
        let changed = self.changes.get(bucket).and_then(|changes| changes.get(&key));
        let change = match changed.map(|pending| &pending.change) {
            None => Change::Add(delta),
            // Far from the bounds of the type, after as many changes as an attempt may make.
            Some(Change::Add(before)) => Change::Add(before.saturating_add(delta)),
            Some(Change::Set(_) | Change::Delete) => Change::Set(value_of(sum)),
        };
        self.put(bucket, key, change);
        Ok(sum)
    }

    /// Returns the next 1000 keys of a bucket, or fewer at its end: the first ones, or those after the page with this
    /// cursor.
    ///
    /// # Errors
    ///
    /// See [`OverlayError`].
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn list(&mut self, bucket: &Arc<str>, cursor: Option<u64>) -> Result<KeyPage, OverlayError> {
        let mut after = match cursor {
            None => None,
            Some(cursor) => match self.cursors.get(&cursor) {
                Some((of, last)) if of == bucket => Some(Arc::clone(last)),
                Some(_) | None => return Err(OverlayError::Cursor(cursor)),
            },
        };
        let mut keys = Vec::new();
        loop {
            self.spend_reads(1)?;
            let committed = self.store.list(bucket, after.clone(), MAX_KEYS).await?;
            let bytes = committed.iter().map(|key| key.len()).sum();
            let left = self.read_bytes_left.checked_sub(bytes);
            self.read_bytes_left = left.ok_or(OverlayError::ReadLimit(READ_BYTES))?;
            // Committed keys after the last one of a full page come before the keys that this attempt wrote there.
            let until = committed.last().filter(|_| committed.len() >= MAX_KEYS).map(Arc::clone);
            for key in self.merged(bucket, committed, after.as_ref(), until.as_ref()) {
                if keys.len() == MAX_KEYS {
                    let cursor = keys.last().map(|last| self.remember(bucket, last));
                    return Ok(KeyPage { keys, cursor });
                }
                keys.push(key);
            }
            if until.is_none() {
                return Ok(KeyPage { keys, cursor: None });
            }
            after = until;
        }
    }

    /// Returns the keys of a stretch, which begins after the first bound and ends with the second.
    fn merged(
        &self,
        bucket: &Arc<str>,
        committed: Vec<Arc<str>>,
        after: Option<&Arc<str>>,
        until: Option<&Arc<str>>,
    ) -> BTreeSet<Arc<str>> {
        let mut keys: BTreeSet<Arc<str>> = committed.into_iter().collect();
        let stretch = (
            after.map_or(Bound::Unbounded, Bound::Excluded),
            until.map_or(Bound::Unbounded, Bound::Included),
        );
        let changed = self.changes.get(bucket);
        let mut written = 0;
        for (key, pending) in changed
            .into_iter()
            .flat_map(|changes| changes.range::<Arc<str>, _>(stretch))
        {
            match pending.change {
                Change::Set(_) | Change::Add(_) => {
                    keys.insert(Arc::clone(key));
                    written += 1;
                }
                Change::Delete => {
                    keys.remove(key);
                }
            }
            if written > MAX_KEYS {
                // These alone fill the page: no later key is on it.
                break;
            }
        }
        keys
    }

    fn remember(&mut self, bucket: &Arc<str>, last: &Arc<str>) -> u64 {
        let cursor = self.next_cursor;
        self.next_cursor += 1;
        self.cursors.insert(cursor, (Arc::clone(bucket), Arc::clone(last)));
        if self.cursors.len() > MAX_CURSORS {
            self.cursors.pop_first();
        }
        cursor
    }

    /// Counts `count` reads, or none of them if there are too many.
    fn spend_reads(&mut self, count: usize) -> Result<(), OverlayError> {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        let left = self.reads_left.checked_sub(count);
        self.reads_left = left.ok_or(OverlayError::ReadLimit("often as it may (limits.keyvalue-reads)"))?;
        Ok(())
    }

    /// Returns the error for the limit that an answer has passed.
    fn too_large(&self) -> OverlayError {
        if self.read_bytes_left < self.answer_bytes {
            OverlayError::ReadLimit(READ_BYTES)
        } else {
            ReadError::TooLarge(self.answer_bytes).into()
        }
    }

    /// Counts changes of these sizes, or none of them if there are too many.
    fn spend(&mut self, sizes: impl ExactSizeIterator<Item = usize>) -> Result<(), OverlayError> {
        let count = u64::try_from(sizes.len()).unwrap_or(u64::MAX);
        let bytes = u64::try_from(sizes.sum::<usize>()).unwrap_or(u64::MAX);
        let writes_left = self.writes_left.checked_sub(count);
        let bytes_left = self.bytes_left.checked_sub(bytes);
        let writes_left = writes_left.ok_or(OverlayError::Limit("often as it may (limits.keyvalue-writes)"))?;
        let bytes_left = bytes_left.ok_or(OverlayError::Limit("many bytes as it may (limits.keyvalue-bytes)"))?;
        self.writes_left = writes_left;
        self.bytes_left = bytes_left;
        Ok(())
    }
}

/// Returns the sum of what a key has and `delta`.
fn added(bucket: &str, key: &str, held: Option<&[u8]>, delta: i128) -> Result<i128, OverlayError> {
    sum(held, delta).ok_or_else(|| OverlayError::NotANumber(Place::new(bucket, key)))
}
