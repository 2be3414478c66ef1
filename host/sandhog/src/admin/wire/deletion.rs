//! The JSON of deletions: of a queue, and of many messages.

use serde::{Deserialize, Serialize};

/// The answer of a deletion.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct DeletedQueue {
    /// The queues that are gone: the one that was named, and its dead-letter queue if that went with it.
    pub queues: Vec<String>,
    /// The messages and dead letters that went with them.
    pub messages: u64,
}

/// The answer to a request that changes many messages.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AffectedMessages {
    /// The number of messages that were deleted or put back.
    pub messages: u64,
}
