//! The processed-message store: which messages of queues of other kinds were handled here, so that a redelivery is not handled again.
//!
//! A queue outside of the store can't delete a message in a transaction of the store. If the deletion is lost, the
//! message comes again, and this store knows it. It forgets what is older than a window, and the oldest beyond a number
//! of entries; forgetting means that a redelivery is handled again, as delivery at least once allows. On disk it is a
//! table of segments, each with what was noted in one go. This file is its part in memory, and says what has to
//! be written: it does no I/O, and the time is passed in.

use std::{
    collections::{BTreeMap, HashMap, VecDeque, hash_map::Entry},
    fmt,
    time::Duration,
};

use sha2::{Digest as _, Sha256};

use super::clock::millis;
use sandhog_queue::{
    EffectsRefused, QueueError,
    message::{MessageId, QueueName},
};

mod segment;
mod shared;

pub(crate) use segment::{ProcessedSegment, StoredSegment};
pub(crate) use shared::SharedProcessedMessages;

/// Notes wait at most this long before the writer writes them.
pub(crate) const MAX_NOTE_DELAY: Duration = Duration::from_millis(500);
/// This many notes are written without waiting any longer.
pub(crate) const NOTES_AT_ONCE: usize = 4096;
/// No more notes than this wait to be written. If the disk does not keep up, further notes are remembered in memory only.
const MOST_UNWRITTEN: usize = 16 * NOTES_AT_ONCE;
/// The number of old entries that one step forgets, so that no caller waits for all of them.
const EXPIRE_STEP: usize = 1024;

/// One message of one queue: 128 bits of a SHA-256 over the queue's name and the message's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProcessedMessageKey([u8; Self::LEN]);

impl ProcessedMessageKey {
    /// The length in bytes.
    pub(crate) const LEN: usize = 16;

    /// Makes the key of a message. Names and ids that differ give keys that differ, also where they look alike when joined.
    pub fn new(queue: &QueueName, message: &MessageId) -> Self {
        let mut hasher = Sha256::new();
        for part in [queue.as_str(), message.as_str()] {
            // The length comes first, so that it is clear where one part ends and the other begins.
            hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            hasher.update(part);
        }
        let mut key = [0; Self::LEN];
        for (byte, digested) in key.iter_mut().zip(hasher.finalize()) {
            *byte = digested;
        }
        Self(key)
    }
}

/// How much a processed-message store remembers. Both bounds hold at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessedMessageSettings {
    /// How long a handled message is remembered, and up to half a second longer. 0 s to 14 days (longer counts as
    /// 14 days); default 1 h. 0 turns the store off: nothing is recorded, and nothing counts as handled.
    pub window: Duration,
    /// The number of messages that are remembered; of more, the oldest are forgotten. 0 to 10 million (more counts as 10 million);
    /// default 262,144. 0 turns the store off. Each takes 50 to 100 bytes of memory and 16 of the disk.
    pub max_entries: usize,
}

impl ProcessedMessageSettings {
    /// The longest window: 14 days, which is as long as Amazon SQS keeps a message.
    pub const MAX_WINDOW: Duration = Duration::from_hours(14 * 24);
    /// The most entries: 10 million.
    pub const MAX_ENTRIES: usize = 10_000_000;
    /// The settings of a processed-message store that is off.
    pub const OFF: Self = Self {
        window: Duration::ZERO,
        max_entries: 0,
    };
}

impl Default for ProcessedMessageSettings {
    fn default() -> Self {
        Self {
            window: Duration::from_hours(1),
            max_entries: 262_144,
        }
    }
}

/// Why handled messages, and what was sent and written for them, were not committed. Nothing was done.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// One of the sends or writes was refused.
    #[error(transparent)]
    Refused(#[from] EffectsRefused),
    /// There were effects of several messages, and some of these messages, not all, had been handled before.
    #[error("another message of the batch had been handled before")]
    Incomplete,
    /// See [`QueueError`].
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl CommitError {
    /// See [`EffectsRefused::is_conflict`].
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused(refused) if refused.is_conflict())
    }
}

/// A note of one message.
#[derive(Debug, Clone, Copy)]
struct ProcessedNote {
    key: ProcessedMessageKey,
    segment: u64,
}

/// A segment of which some notes are remembered.
#[derive(Debug)]
struct KnownSegment {
    /// When the newest of its notes was made. The time stands for all of them.
    noted_ms: u64,
    /// The number of its notes that are remembered.
    notes: usize,
    /// The segment is a row on the disk.
    is_stored: bool,
}

/// The segment that takes new notes.
#[derive(Debug, Clone, Copy)]
struct OpenSegment {
    number: u64,
    since_ms: u64,
    notes: usize,
}

/// The processed messages in memory. Invariant: at most `max_entries` notes, of which the last of each key counts.
pub(crate) struct ProcessedMessages {
    window_ms: u64,
    max_entries: usize,
    /// The notes are to be written as rows.
    durable: bool,
    /// The latest time seen so far: no time counts as earlier.
    latest_ms: u64,
    /// All notes, oldest first. The place of a note is its position here, plus `forgotten`.
    notes: VecDeque<ProcessedNote>,
    /// The number of notes that have been forgotten.
    forgotten: u64,
    /// The place of the last note of each key.
    places: HashMap<ProcessedMessageKey, u64>,
    segments: BTreeMap<u64, KnownSegment>,
    open: Option<OpenSegment>,
    last_segment: u64,
    /// The segments that have to be written, oldest first; the last one may still be open.
    unwritten: VecDeque<(u64, Vec<ProcessedMessageKey>)>,
    unwritten_notes: usize,
    /// Rows of which nothing is remembered any more.
    dead: VecDeque<u64>,
}

impl fmt::Debug for ProcessedMessages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessedMessages")
            .field("notes", &self.notes.len())
            .field("unwritten", &self.unwritten_notes)
            .finish_non_exhaustive()
    }
}

impl ProcessedMessages {
    /// No messages yet; with `durable`, it keeps what has to be written until it is taken.
    pub(crate) fn new(settings: ProcessedMessageSettings, durable: bool) -> Self {
        Self {
            window_ms: millis(settings.window.min(ProcessedMessageSettings::MAX_WINDOW)),
            max_entries: settings.max_entries.min(ProcessedMessageSettings::MAX_ENTRIES),
            durable,
            latest_ms: 0,
            notes: VecDeque::new(),
            forgotten: 0,
            places: HashMap::new(),
            segments: BTreeMap::new(),
            open: None,
            last_segment: 0,
            unwritten: VecDeque::new(),
            unwritten_notes: 0,
            dead: VecDeque::new(),
        }
    }

    /// Returns whether nothing is recorded.
    pub(crate) fn is_off(&self) -> bool {
        self.window_ms == 0 || self.max_entries == 0
    }

    /// Returns whether the message was handled, as far as is remembered.
    pub(crate) fn knows(&self, key: &ProcessedMessageKey, now_ms: u64) -> bool {
        let noted = self.places.get(key).and_then(|place| {
            let index = usize::try_from(place.checked_sub(self.forgotten)?).ok()?;
            self.segments.get(&self.notes.get(index)?.segment)
        });
        noted.is_some_and(|about| !self.is_old(about.noted_ms, now_ms.max(self.latest_ms)))
    }

    /// Notes handled messages, in memory. Returns whether the writer has to be told: there was nothing to write until
    /// now, or there is now too much to wait any longer.
    pub(crate) fn note(&mut self, keys: impl IntoIterator<Item = ProcessedMessageKey>, now_ms: u64) -> bool {
        if self.is_off() {
            return false;
        }
        let before = self.unwritten_notes;
        for key in keys {
            let number = self.open_segment(now_ms);
            self.push(key, number, now_ms, false);
            self.buffer(key, number);
        }
        self.expire(EXPIRE_STEP);
        let after = self.unwritten_notes;
        (before == 0 && after > 0) || (before < NOTES_AT_ONCE && after >= NOTES_AT_ONCE)
    }

    /// Returns a number for a segment that is written in the same transaction as something else.
    pub(crate) fn next_segment(&mut self) -> u64 {
        self.last_segment += 1;
        self.last_segment
    }

    /// Notes the messages of a segment that is on the disk now.
    pub(crate) fn add(&mut self, segment: &ProcessedSegment) {
        if self.is_off() {
            return;
        }
        for key in &segment.keys {
            self.push(*key, segment.number, segment.noted_ms, true);
        }
        self.expire(EXPIRE_STEP);
    }

    /// Learns a segment that an earlier run wrote. Segments are learnt oldest first.
    pub(crate) fn learn(&mut self, segment: &ProcessedSegment, now_ms: u64) {
        self.last_segment = self.last_segment.max(segment.number);
        // After the clock was set back no note counts as newer than now, or it would be remembered for too long.
        let noted_ms = segment.noted_ms.min(now_ms);
        if self.is_off() || self.is_old(noted_ms, now_ms) {
            self.dead.push_back(segment.number);
            return;
        }
        for key in &segment.keys {
            self.push(*key, segment.number, noted_ms, true);
        }
    }

    /// Returns the number of notes that have to be written.
    pub(crate) fn unwritten(&self) -> usize {
        self.unwritten_notes
    }

    /// Takes the notes that have to be written. They come back with [`ProcessedMessages::written`] or [`ProcessedMessages::put_back`].
    pub(crate) fn take_unwritten(&mut self) -> Vec<ProcessedSegment> {
        self.open = None;
        self.unwritten_notes = 0;
        let taken = std::mem::take(&mut self.unwritten).into_iter();
        // A segment that has been forgotten meanwhile need not be written.
        taken
            .filter_map(|(number, keys)| {
                let noted_ms = self.segments.get(&number)?.noted_ms;
                Some(ProcessedSegment { number, noted_ms, keys })
            })
            .collect()
    }

    /// Notes that segments are on the disk.
    pub(crate) fn written(&mut self, segments: &[ProcessedSegment]) {
        for segment in segments {
            match self.segments.get_mut(&segment.number) {
                Some(about) => about.is_stored = true,
                None => self.dead.push_back(segment.number),
            }
        }
    }

    /// Takes back segments that could not be written.
    pub(crate) fn put_back(&mut self, segments: Vec<ProcessedSegment>) {
        for segment in segments.into_iter().rev() {
            if self.unwritten_notes + segment.keys.len() <= MOST_UNWRITTEN {
                self.unwritten_notes += segment.keys.len();
                self.unwritten.push_front((segment.number, segment.keys));
            }
        }
    }

    /// Returns some rows of which nothing is remembered any more, at most `limit`.
    pub(crate) fn dead(&self, limit: usize) -> Vec<u64> {
        self.dead.iter().take(limit).copied().collect()
    }

    /// Notes that the first `count` of the dead rows have been deleted.
    pub(crate) fn removed(&mut self, count: usize) {
        self.dead.drain(..count.min(self.dead.len()));
    }

    fn is_old(&self, noted_ms: u64, now_ms: u64) -> bool {
        noted_ms.saturating_add(self.window_ms) <= now_ms
    }

    /// Returns the segment for a note made now. No segment takes notes for long, so that one time may stand for all of them.
    fn open_segment(&mut self, now_ms: u64) -> u64 {
        let is_open = |open: &&mut OpenSegment| {
            open.notes < NOTES_AT_ONCE && now_ms < open.since_ms.saturating_add(millis(MAX_NOTE_DELAY))
        };
        if let Some(open) = self.open.as_mut().filter(is_open) {
            open.notes += 1;
            return open.number;
        }
        let number = self.next_segment();
        self.open = Some(OpenSegment {
            number,
            since_ms: now_ms,
            notes: 1,
        });
        number
    }

    fn push(&mut self, key: ProcessedMessageKey, number: u64, now_ms: u64, is_stored: bool) {
        if self.notes.is_empty() {
            // Room for the default at once (untouched memory costs nothing): growing would keep every caller waiting.
            let expected = self.max_entries.min(ProcessedMessageSettings::default().max_entries);
            self.places.reserve(expected);
            self.notes.reserve(expected);
        }
        self.latest_ms = self.latest_ms.max(now_ms);
        let about = self.segments.entry(number).or_insert(KnownSegment {
            noted_ms: now_ms,
            notes: 0,
            is_stored,
        });
        about.noted_ms = about.noted_ms.max(now_ms);
        about.notes += 1;
        // Only now, so that a segment of which this is the only note left is not taken for a dead one.
        while self.notes.len() >= self.max_entries {
            self.forget_oldest();
        }
        let place = self
            .forgotten
            .saturating_add(u64::try_from(self.notes.len()).unwrap_or(u64::MAX));
        self.places.insert(key, place);
        self.notes.push_back(ProcessedNote { key, segment: number });
    }

    /// Keeps a note until it is written.
    fn buffer(&mut self, key: ProcessedMessageKey, number: u64) {
        if !self.durable || self.unwritten_notes >= MOST_UNWRITTEN {
            return;
        }
        self.unwritten_notes += 1;
        match self.unwritten.back_mut().filter(|(last, _)| *last == number) {
            Some((_, keys)) => keys.push(key),
            None => self.unwritten.push_back((number, vec![key])),
        }
    }

    /// Forgets notes that are older than the window, at most `limit`. They do not count any more as it is.
    fn expire(&mut self, limit: usize) {
        for _ in 0..limit {
            let oldest = self.notes.front().and_then(|note| self.segments.get(&note.segment));
            if oldest.is_none_or(|about| !self.is_old(about.noted_ms, self.latest_ms)) {
                return;
            }
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some(ProcessedNote { key, segment }) = self.notes.pop_front() else {
            return;
        };
        // The message may have been noted again since.
        if let Entry::Occupied(place) = self.places.entry(key)
            && *place.get() == self.forgotten
        {
            place.remove();
        }
        self.forgotten += 1;
        if let Some(about) = self.segments.get_mut(&segment) {
            about.notes -= 1;
            if about.notes == 0 {
                if about.is_stored {
                    self.dead.push_back(segment);
                }
                self.segments.remove(&segment);
            }
        }
    }
}

#[cfg(test)]
mod tests;
