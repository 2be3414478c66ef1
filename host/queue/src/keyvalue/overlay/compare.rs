//! Compare-and-set: an attempt notes the value of a key, and replaces it if it still sees the same value.
//!
//! A value that was read from the store becomes the condition of the change, which the commit checks again. A value that the
//! attempt itself had written depends on nothing but the conditions that the key already has.

use std::sync::Arc;

use bytes::Bytes;

use super::{Change, InvalidEntry, Overlay, OverlayError, PendingChange, Unchanged, added, value_of};

/// The value that an attempt has seen a key have. It counts towards the bytes of the attempt's changes until it is given back
/// to the overlay that made it, by [`Overlay::swap`] or [`Overlay::forget`].
#[derive(Debug, Clone)]
pub struct NotedValue {
    bucket: Arc<str>,
    key: Arc<str>,
    value: Option<Bytes>,
}

/// Why a value was not replaced.
#[derive(Debug)]
pub enum SwapRefused {
    /// The attempt sees another value now, which is noted.
    Changed(NotedValue),
    /// See [`OverlayError`].
    Error(OverlayError),
}

impl From<OverlayError> for SwapRefused {
    fn from(error: OverlayError) -> Self {
        Self::Error(error)
    }
}

impl NotedValue {
    /// The noted value; `None` if the key had none.
    pub fn value(&self) -> Option<&Bytes> {
        self.value.as_ref()
    }

    fn size(&self) -> u64 {
        let value = self.value.as_ref().map_or(0, Bytes::len);
        u64::try_from(self.key.len() + value).unwrap_or(u64::MAX)
    }
}

impl Overlay {
    /// Notes the value that this attempt sees a key have.
    ///
    /// # Errors
    ///
    /// See [`OverlayError`].
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is noted then.
    pub async fn note(&mut self, bucket: &Arc<str>, key: Arc<str>) -> Result<NotedValue, OverlayError> {
        let value = self.get(bucket, std::slice::from_ref(&key)).await?.pop().flatten();
        self.hold(NotedValue {
            bucket: Arc::clone(bucket),
            key,
            value,
        })
    }

    /// Forgets a noted value.
    pub fn forget(&mut self, noted: &NotedValue) {
        self.bytes_left = self.bytes_left.saturating_add(noted.size());
    }

    /// Gives a key a value if this attempt still sees the noted one. The noted value is forgotten, whatever comes of it.
    ///
    /// # Errors
    ///
    /// See [`SwapRefused`].
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing was replaced then.
    pub async fn swap(&mut self, noted: NotedValue, value: Bytes) -> Result<(), SwapRefused> {
        self.forget(&noted);
        InvalidEntry::check_value(&value).map_err(OverlayError::from)?;
        let NotedValue {
            bucket,
            key,
            value: expected,
        } = noted;
        let (seen, found) = self.compare(&bucket, &key).await?;
        if seen != expected {
            let latest = NotedValue {
                bucket,
                key,
                value: seen,
            };
            return Err(SwapRefused::Changed(self.hold(latest)?));
        }
        let condition = found.as_ref().map_or(0, Unchanged::size);
        self.spend([key.len() + value.len() + condition].into_iter())?;
        let change = Change::Set(value);
        let changes = self.changes.entry(bucket).or_default();
        let condition = changes.remove(&key).and_then(|pending| pending.condition).or(found);
        changes.insert(key, PendingChange { change, condition });
        Ok(())
    }

    /// Returns the value that this attempt sees a key have, and what the store has, if the one comes of the other.
    async fn compare(
        &mut self,
        bucket: &Arc<str>,
        key: &Arc<str>,
    ) -> Result<(Option<Bytes>, Option<Unchanged>), OverlayError> {
        let pending = self.changes.get(bucket).and_then(|changes| changes.get(key));
        let added_before = match pending.map(|pending| &pending.change) {
            None => None,
            Some(Change::Add(delta)) => Some(*delta),
            Some(Change::Set(value)) => return Ok((Some(value.clone()), None)),
            Some(Change::Delete) => return Ok((None, None)),
        };
        self.spend_reads(1)?;
        let most = self.answer_bytes.min(self.read_bytes_left);
        let held = self
            .committed(bucket, vec![Arc::clone(key)], most)
            .await?
            .pop()
            .flatten();
        self.read_bytes_left -= held.as_ref().map_or(0, Bytes::len);
        let seen = match added_before {
            None => held.clone(),
            Some(delta) => Some(value_of(added(bucket, key, held.as_deref(), delta)?)),
        };
        Ok((seen, Some(Unchanged(held))))
    }

    /// Counts the bytes of a noted value, or refuses it.
    fn hold(&mut self, noted: NotedValue) -> Result<NotedValue, OverlayError> {
        let left = self.bytes_left.checked_sub(noted.size());
        self.bytes_left = left.ok_or(OverlayError::Held)?;
        Ok(noted)
    }
}
