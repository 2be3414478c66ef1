//! The compiled functions of the last version of a handler. The next version takes those that it has not changed: of a handler in
//! JavaScript or Python nearly all are those of the language.
//!
//! The engine finds a function by a digest of all that its code depends on. What is handed from one compilation to the next are
//! the functions that the last one has used, so it does not grow from version to version.

use std::{
    borrow::Cow,
    collections::HashMap,
    mem,
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use parking_lot::Mutex;
use wasmtime::CacheStore;

/// The most bytes of functions that a compilation takes or hands on (128 MiB). Those of Python are 35 MB.
pub(crate) const MAX_FUNCTIONS_BYTES: usize = 128 * 1024 * 1024;
/// The bytes of a length.
const LENGTH_BYTES: usize = 4;

/// The functions that a compilation finds, and those that it has used or made.
pub(super) struct FunctionStore {
    bytes: Bytes,
    found: HashMap<Vec<u8>, Range<usize>>,
    used: Mutex<UsedFunctions>,
    taken: AtomicU64,
}

#[derive(Default)]
struct UsedFunctions {
    functions: HashMap<Vec<u8>, Vec<u8>>,
    packed_bytes: usize,
}

impl FunctionStore {
    /// Reads what [`Self::pack`] has written. What can't be read is left out: it is compiled again.
    pub(super) fn new(bytes: Bytes) -> Self {
        let mut found = HashMap::new();
        let mut place = 0;
        while let Some((key, value)) = next(&bytes, place) {
            place = value.end;
            found.insert(bytes.slice(key).to_vec(), value);
        }
        Self {
            bytes,
            found,
            used: Mutex::default(),
            taken: AtomicU64::new(0),
        }
    }

    /// Returns how many functions of the earlier version were taken.
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Returns the functions that were used: for each the length of its key and of its code (4 bytes each, little-endian), its key and
    /// its code. None if they are too many bytes.
    pub(super) fn pack(&self, max_bytes: usize) -> Bytes {
        let used = mem::take(&mut *self.used.lock());
        if used.packed_bytes > max_bytes {
            return Bytes::new();
        }
        let mut packed = Vec::with_capacity(used.packed_bytes);
        for (key, value) in &used.functions {
            // Lengths below the bound fit.
            for part in [key, value] {
                packed.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
            }
            packed.extend_from_slice(key);
            packed.extend_from_slice(value);
        }
        packed.into()
    }

    fn note(&self, key: &[u8], value: &[u8]) {
        let mut used = self.used.lock();
        let before = used.functions.insert(key.to_vec(), value.to_vec());
        if before.is_none() {
            used.packed_bytes += 2 * LENGTH_BYTES + key.len() + value.len();
        }
    }
}

impl std::fmt::Debug for FunctionStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FunctionStore")
            .field("found", &self.found.len())
            .finish_non_exhaustive()
    }
}

impl CacheStore for FunctionStore {
    fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        if let Some(value) = self.used.lock().functions.get(key) {
            return Some(Cow::Owned(value.clone()));
        }
        let value = self.bytes.get(self.found.get(key)?.clone())?;
        self.note(key, value);
        self.taken.fetch_add(1, Ordering::Relaxed);
        Some(Cow::Borrowed(value))
    }

    fn insert(&self, key: &[u8], value: Vec<u8>) -> bool {
        self.note(key, &value);
        true
    }
}

/// Returns where the key and the code of the function at this place are.
fn next(bytes: &[u8], place: usize) -> Option<(Range<usize>, Range<usize>)> {
    let length = |at: usize| {
        let length = bytes.get(at..)?.first_chunk::<LENGTH_BYTES>()?;
        usize::try_from(u32::from_le_bytes(*length)).ok()
    };
    let (key, value) = (length(place)?, length(place.checked_add(LENGTH_BYTES)?)?);
    let key_start = place.checked_add(2 * LENGTH_BYTES)?;
    let value_start = key_start.checked_add(key)?;
    let end = value_start.checked_add(value)?;
    (end <= bytes.len()).then_some((key_start..value_start, value_start..end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_compilation_has_used_is_handed_on_and_nothing_else() {
        let first = FunctionStore::new(Bytes::new());
        assert_eq!(first.get(b"a"), None);
        first.insert(b"a", b"one".to_vec());
        first.insert(b"b", b"two".to_vec());
        let second = FunctionStore::new(first.pack(100));
        for _ in 0..2 {
            assert_eq!(second.get(b"a").as_deref(), Some(b"one".as_slice()));
        }
        assert_eq!(second.taken(), 1);
        second.insert(b"c", b"three".to_vec());
        let third = FunctionStore::new(second.pack(100));
        assert_eq!(third.get(b"a").as_deref(), Some(b"one".as_slice()));
        assert_eq!(third.get(b"b"), None);
        assert_eq!(third.get(b"c").as_deref(), Some(b"three".as_slice()));
    }

    #[test]
    fn functions_that_are_cut_short_are_left_out() {
        let store = FunctionStore::new(Bytes::new());
        store.insert(b"a", b"one".to_vec());
        let whole = store.pack(100);
        for end in 0..whole.len() {
            assert_eq!(FunctionStore::new(whole.slice(..end)).get(b"a"), None, "{end}");
        }
        let endless = [0xff; 100].as_slice();
        assert!(FunctionStore::new(endless.into()).found.is_empty());
    }

    #[test]
    fn functions_that_are_too_many_bytes_are_not_handed_on() {
        let store = FunctionStore::new(Bytes::new());
        store.insert(b"a", vec![0; 100]);
        assert!(store.pack(100).is_empty());
    }
}
