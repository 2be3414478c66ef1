//! The JSON of what happened in the last minute.

use serde::{Deserialize, Serialize};

use crate::metrics::MinuteCounts;

/// What happened in the last 60 seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct MinuteForm {
    /// Messages that the queue accepted; null of a handler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrived: Option<u64>,
    /// Messages that were handled.
    pub handled: u64,
    /// Attempts at messages that failed.
    pub failed: u64,
}

impl MinuteForm {
    pub(crate) fn of_handler(counts: MinuteCounts) -> Self {
        let MinuteCounts { handled, failed, .. } = counts;
        Self {
            arrived: None,
            handled,
            failed,
        }
    }

    pub(crate) fn of_queue(counts: MinuteCounts) -> Self {
        Self {
            arrived: Some(counts.arrived),
            ..Self::of_handler(counts)
        }
    }
}
