//! The primitive operations that the rules are made of: one table of messages and its orders, and one of values.
//!
//! There is one implementation on `SQLite` and one in memory. Neither knows a queue rule; every operation costs
//! O(log n) per row it returns or changes, whatever the number of rows.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    clock::ClockSighting,
    processed::{ProcessedSegment, StoredSegment},
    row::{DeathRecord, GroupName, MessageContent, MessageMeta, MessageState, QueueKey, StoreFault, StoredMessage},
    settings::Order,
};
use sandhog_queue::FailureRecord;
use sandhog_queue::message::{MessageId, QueueName};

/// A queue as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct StoredQueue {
    pub(crate) key: QueueKey,
    pub(crate) name: QueueName,
    pub(crate) order: Order,
}

/// The room that a store takes on its disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskUse {
    /// The database file.
    pub database_bytes: u64,
    /// The empty part of the database file, which is used again.
    pub free_bytes: u64,
    /// The write-ahead log, whether in use or not.
    pub log_bytes: u64,
    /// The part of the log that could not be copied into the database at the last attempt, because a tool reads it.
    pub pinned_log_bytes: u64,
}

/// A dead letter whose content was not read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeadLetterRef {
    pub(crate) seq: u64,
    /// The length of its body in bytes.
    pub(crate) bytes: usize,
}

/// Whether a read takes the suspects among the messages too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SuspectFilter {
    Included,
    LeftOut,
}

/// The numbers of messages, for a store that is opened.
#[derive(Debug, Default)]
pub(crate) struct MessageCensus {
    /// Messages per queue and state.
    pub(crate) states: Vec<(QueueKey, MessageState, u64)>,
    /// Dead letters per queue that they are in and queue that they came from.
    pub(crate) dead: Vec<(QueueKey, QueueKey, u64)>,
    /// Suspects per queue.
    pub(crate) suspects: Vec<(QueueKey, u64)>,
    /// The highest `seq`, and when that message came to its queue.
    pub(crate) last: Option<(u64, u64)>,
}

/// A key-value store as it is stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoredNamespace {
    pub(crate) key: NamespaceKey,
    /// Its size, as the rules count it.
    pub(crate) bytes: u64,
}

/// The number of a namespace of the key-value store, which never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NamespaceKey(pub(crate) i64);

/// The entries of the key-value stores, inside a transaction.
pub(crate) trait ValueRows {
    fn namespace(&mut self, name: &str) -> Result<Option<StoredNamespace>, StoreFault>;
    /// Adds a namespace that holds nothing.
    fn add_namespace(&mut self, name: &str) -> Result<NamespaceKey, StoreFault>;
    fn set_namespace_bytes(&mut self, namespace: NamespaceKey, bytes: u64) -> Result<(), StoreFault>;
    /// Returns the value, or that its stored form is damaged.
    fn value(
        &mut self,
        namespace: NamespaceKey,
        place: EntryPlace<'_>,
    ) -> Result<Option<Result<Bytes, DamagedValue>>, StoreFault>;
    /// The length of the value in bytes. Does not read it.
    fn value_bytes(&mut self, namespace: NamespaceKey, place: EntryPlace<'_>) -> Result<Option<u64>, StoreFault>;
    /// Writes a value, and replaces a former one.
    fn put_value(&mut self, namespace: NamespaceKey, place: EntryPlace<'_>, value: &Bytes) -> Result<(), StoreFault>;
    fn remove_value(&mut self, namespace: NamespaceKey, place: EntryPlace<'_>) -> Result<(), StoreFault>;
    /// Keys of a bucket after `after`, in the order of their bytes.
    fn keys(
        &mut self,
        namespace: NamespaceKey,
        bucket: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Arc<str>>, StoreFault>;
}

/// The place of an entry in its namespace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EntryPlace<'a> {
    pub(crate) bucket: &'a str,
    pub(crate) key: &'a str,
}

/// The stored value is not the one that was written.
#[derive(Debug)]
pub(crate) struct DamagedValue;

/// The rows, inside a transaction.
pub(crate) trait Rows: ValueRows + std::fmt::Debug {
    // Changes.
    fn insert(&mut self, meta: MessageMeta, content: MessageContent) -> Result<(), StoreFault>;
    /// Writes state, group, `visible_at_ms`, receive count and suspicion.
    fn place(&mut self, meta: &MessageMeta) -> Result<(), StoreFault>;
    /// Writes the state "in flight" and the receive count.
    fn take(&mut self, meta: &MessageMeta) -> Result<(), StoreFault>;
    /// Remembers the last failure.
    fn note(&mut self, seq: u64, failure: &FailureRecord) -> Result<(), StoreFault>;
    /// Gives the row `seq` the place `to` (another `seq` and queue) and, for a dead letter, the story of its death;
    /// forgets its last failure.
    fn relocate(&mut self, seq: u64, to: &MessageMeta, death: Option<&DeathRecord>) -> Result<(), StoreFault>;
    fn delete(&mut self, meta: &MessageMeta) -> Result<(), StoreFault>;
    /// Remembers no deduplication id for longer than until `latest_ms`.
    fn cap_remembered(&mut self, latest_ms: u64) -> Result<(), StoreFault>;
    /// Makes no message in the queue due later than `latest_ms`.
    fn cap_due(&mut self, queue: QueueKey, latest_ms: u64) -> Result<(), StoreFault>;
    /// Cuts the delays of messages that were sent later than `now_ms` to what was asked for, counted from `now_ms`.
    fn cap_delays(&mut self, queue: QueueKey, now_ms: u64) -> Result<(), StoreFault>;

    // Reads for a receive.
    /// Ready messages: highest priority first, then lowest `seq`.
    fn ready(
        &mut self,
        queue: QueueKey,
        suspects: SuspectFilter,
        limit: usize,
    ) -> Result<Vec<StoredMessage>, StoreFault>;
    /// Returns whether a message is ready that is no suspect. Reads no body.
    fn has_unsuspected_ready(&mut self, queue: QueueKey) -> Result<bool, StoreFault>;
    /// The first ready message, in the same order, that is a suspect.
    fn ready_suspect(&mut self, queue: QueueKey) -> Result<Option<StoredMessage>, StoreFault>;
    /// Delayed messages and retries that are due, earliest first.
    fn due(&mut self, queue: QueueKey, now_ms: u64, limit: usize) -> Result<Vec<MessageMeta>, StoreFault>;
    /// Returns when the next of them is due.
    fn next_due(&mut self, queue: QueueKey) -> Result<Option<u64>, StoreFault>;

    // Reads for groups.
    /// The one message of the group that is ready, in flight or waits for its retry.
    fn head(&mut self, queue: QueueKey, group: &GroupName) -> Result<Option<MessageMeta>, StoreFault>;
    /// The held message of the group whose turn is next.
    fn next_held(&mut self, queue: QueueKey, group: &GroupName) -> Result<Option<MessageMeta>, StoreFault>;
    /// The group id of a message.
    fn group_id(&mut self, seq: u64) -> Result<Option<String>, StoreFault>;
    /// Messages of the queue with a higher `seq`, in order.
    fn following(&mut self, queue: QueueKey, seq: u64, limit: usize) -> Result<Vec<MessageMeta>, StoreFault>;

    // Reads by age and state.
    fn oldest(&mut self, queue: QueueKey, state: MessageState, priority: u8)
    -> Result<Option<MessageMeta>, StoreFault>;
    /// Any messages of that state whose `seq` is at most `last`.
    fn any(
        &mut self,
        queue: QueueKey,
        state: MessageState,
        last: u64,
        limit: usize,
    ) -> Result<Vec<MessageMeta>, StoreFault>;

    // Reads of one message.
    fn meta(&mut self, seq: u64) -> Result<Option<MessageMeta>, StoreFault>;
    fn fetch(&mut self, seq: u64) -> Result<Option<StoredMessage>, StoreFault>;

    // Dead letters by the queue that they came from, lowest `seq` first. Neither reads a body.
    fn dead(&mut self, origin: QueueKey, after: u64, limit: usize) -> Result<Vec<DeadLetterRef>, StoreFault>;
    fn dead_with_id(&mut self, origin: QueueKey, id: &MessageId) -> Result<Option<DeadLetterRef>, StoreFault>;

    // Deduplication ids.
    fn first_with(
        &mut self,
        queue: QueueKey,
        deduplication: &str,
        now_ms: u64,
    ) -> Result<Option<MessageId>, StoreFault>;
    fn remember(
        &mut self,
        queue: QueueKey,
        deduplication: &str,
        id: &MessageId,
        until_ms: u64,
    ) -> Result<(), StoreFault>;
    /// Forgets at most `limit` deduplication ids whose time is over.
    fn forget(&mut self, now_ms: u64, limit: usize) -> Result<(), StoreFault>;

    // The processed messages.
    /// Adds a segment; one with its number is replaced.
    fn add_segment(&mut self, segment: &ProcessedSegment) -> Result<(), StoreFault>;
    /// Removes a segment, if it is there.
    fn remove_segment(&mut self, number: u64) -> Result<(), StoreFault>;
    /// Shows every segment as it is stored, lowest number first.
    fn segments(&mut self, show: &mut dyn FnMut(StoredSegment)) -> Result<(), StoreFault>;

    // The clock.
    /// Returns the last sighting of the store's time.
    fn sighting(&mut self) -> Result<Option<ClockSighting>, StoreFault>;
    fn note_sighting(&mut self, sighting: &ClockSighting) -> Result<(), StoreFault>;
    /// Returns whether the transaction has changed anything so far.
    fn is_changed(&self) -> bool;

    // Queues.
    fn queues(&mut self) -> Result<Vec<StoredQueue>, StoreFault>;
    fn add_queue(&mut self, queue: &StoredQueue) -> Result<(), StoreFault>;
    fn set_order(&mut self, queue: QueueKey, order: Order) -> Result<(), StoreFault>;
    /// Returns the room that the rows take on the disk, if they are on one.
    fn disk_use(&mut self) -> Result<Option<DiskUse>, StoreFault>;
    fn census(&mut self) -> Result<MessageCensus, StoreFault>;
}
