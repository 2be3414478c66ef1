//! The JSON of the deletion of a queue.

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
