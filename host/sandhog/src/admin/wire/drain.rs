//! The JSON of draining.

use serde::{Deserialize, Serialize};

/// How far a drain has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct DrainForm {
    /// Since when an operator's order is in force that no handler receives: milliseconds since 1970-01-01T00:00:00Z. Null without one.
    pub since_ms: Option<u64>,
    /// The host is about to stop, for which it drains as well.
    pub stopping: bool,
    /// No handler receives, and nothing is in flight with any of them.
    pub drained: bool,
    /// The handlers that hold messages, by name.
    pub in_flight: Vec<HeldMessages>,
}

/// What a handler has received and not settled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HeldMessages {
    /// The name of the handler.
    pub handler: String,
    /// The number of messages.
    pub messages: u64,
}

/// The answer to the end of a drain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct EndedDrain {
    /// Since when the order was in force, likewise; null if there was none.
    pub since_ms: Option<u64>,
}
