//! What a consumer outside of the host may know of a message beside the message itself.

use sandhog_queue::{
    Delivery,
    message::{MessageId, QueueName},
};

/// A delivery with the history of its message.
#[derive(Debug, Clone)]
pub struct HistoricDelivery {
    /// The delivery.
    pub delivery: Delivery,
    /// The history of its message.
    pub history: MessageHistory,
}

/// What a message has been through, whatever queues it was in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageHistory {
    /// How often the message was received in all its queues, this time included.
    pub receives: u32,
    /// When it was first received: milliseconds since 1970-01-01T00:00:00Z.
    pub first_received_at_ms: u64,
    /// Its place in the order in which the messages of the store were sent.
    pub sequence: u64,
    /// The deduplication id that it was sent with.
    pub deduplication_id: Option<String>,
    /// The queue that it was a message of before it became a dead letter.
    pub dead_letter_of: Option<QueueName>,
}

/// A message that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentMessage {
    /// The id that the queue gave it. That of the first one, if a message with its deduplication id was sent before.
    pub id: MessageId,
    /// Its place in the order in which the messages of the store were sent; 0 if it is the repetition of a message that an earlier
    /// version of the host took.
    pub sequence: u64,
}
