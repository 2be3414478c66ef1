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
    pub(crate) record: QueueRecord,
}

/// Who made a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum QueueMaker {
    /// The configuration, or a queue of it that needs this one. The settings are there.
    #[default]
    Host,
    /// A client. The settings are in the record.
    Client,
}

/// What the store keeps about a queue beside its messages. The store does not read it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueueRecord {
    /// Who made the queue.
    pub made_by: QueueMaker,
    /// The settings, a JSON object, if they are not in the configuration.
    pub settings: Option<String>,
    /// The tags, a JSON object of texts.
    pub tags: Option<String>,
    /// When the queue was made, in milliseconds since 1970; `None` for a queue from before the store knew.
    pub created_at_ms: Option<u64>,
    /// When its settings were last changed, in milliseconds since 1970.
    pub modified_at_ms: Option<u64>,
    /// When it was last purged, in milliseconds since 1970.
    pub purged_at_ms: Option<u64>,
    /// When it was deleted, in milliseconds since 1970. Its number stays, because dead letters in other queues name it.
    pub deleted_at_ms: Option<u64>,
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
    /// The part of the log that is not in the database file yet: what the next start has to read.
    pub uncopied_log_bytes: u64,
}

/// A dead letter whose content was not read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeadLetterRef {
    pub(crate) seq: u64,
    /// The length of its body in bytes.
    pub(crate) bytes: usize,
}

/// A deduplication id within its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct DeduplicationKey<'a> {
    /// The group id if the id counts within its message group only; empty if it counts in the whole queue.
    pub(crate) scope: &'a str,
    pub(crate) id: &'a str,
}

/// The message that a deduplication id came with first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FirstSent {
    pub(crate) id: MessageId,
    /// Its first `seq`; `None` if an earlier version of the store did not note it.
    pub(crate) sequence: Option<u64>,
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
    /// Writes the state "in flight", or "in flight behind the head", the receive count and `visible_at_ms`.
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
    /// The messages of the group behind its head, held or in flight behind it, in their order.
    fn behind(&mut self, queue: QueueKey, group: &GroupName, limit: usize) -> Result<Vec<MessageMeta>, StoreFault>;
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

    /// Returns how many messages of the queue are in flight with receivers outside of the host.
    fn in_flight_outside(&mut self, queue: QueueKey) -> Result<u64, StoreFault>;

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
        deduplication: DeduplicationKey<'_>,
        now_ms: u64,
    ) -> Result<Option<FirstSent>, StoreFault>;
    fn remember(
        &mut self,
        queue: QueueKey,
        deduplication: DeduplicationKey<'_>,
        first: &FirstSent,
        until_ms: u64,
    ) -> Result<(), StoreFault>;
    /// Forgets at most `limit` deduplication ids whose time is over.
    fn forget(&mut self, now_ms: u64, limit: usize) -> Result<(), StoreFault>;

    /// Forgets at most `limit` deduplication ids of messages of a queue whose first `seq` is at most `last`. Returns whether some are left.
    fn forget_sent(&mut self, queue: QueueKey, last: u64, limit: usize) -> Result<bool, StoreFault>;

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
    /// Takes the name from a queue, for good.
    fn retire_queue(&mut self, queue: QueueKey, wall_ms: u64) -> Result<(), StoreFault>;
    /// The queues without a name.
    fn retired_queues(&mut self) -> Result<Vec<QueueKey>, StoreFault>;
    fn queue_record(&mut self, queue: QueueKey) -> Result<Option<QueueRecord>, StoreFault>;
    /// Replaces the record of a queue.
    fn set_queue_record(&mut self, queue: QueueKey, record: &QueueRecord) -> Result<(), StoreFault>;
    /// Returns the room that the rows take on the disk, if they are on one.
    fn disk_use(&mut self) -> Result<Option<DiskUse>, StoreFault>;
    fn census(&mut self) -> Result<MessageCensus, StoreFault>;
}
