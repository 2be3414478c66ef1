//! The JSON of extending deliveries, and what became of one entry of a list.

use serde::{Deserialize, Serialize};

use super::bounded;

/// The request of `POST /queues/{name}/extend`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with receipts and visibility")]
pub struct ExtendRequest {
    /// The receipts, at most 1000.
    #[serde(deserialize_with = "bounded::receipts")]
    pub receipts: Vec<String>,
    /// How long the messages stay invisible from now on: 1 s to 12 h.
    pub visibility: String,
}

/// The answer of `POST /queues/{name}/extend`: one result for each receipt, in order.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ExtendAnswer {
    /// The results.
    pub results: Vec<EntryResult>,
}

/// What became of one entry: `{}` if it was done, else `{"error": ..}`, or `{"error": .., "again": true}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EntryResult {
    /// The reason why it was not done, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The same may work another time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
}

impl EntryResult {
    pub(crate) fn done() -> Self {
        Self::default()
    }

    pub(crate) fn refused(error: String, again: bool) -> Self {
        Self {
            error: Some(error),
            again,
        }
    }
}
