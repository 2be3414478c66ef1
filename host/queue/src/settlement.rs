//! Settlements: the ways in which a delivery ends, and the failures that come with them.

use std::{fmt, time::Duration};

use super::Receipt;

/// The kind of a failure that ended an attempt. The text form is stored, shown and used as a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The guest said `retry` or `retry-after`.
    Retry,
    /// The guest said `reject`.
    Reject,
    /// The guest broke: a trap, a panic or an exit.
    Trap,
    /// The handler's timeout passed.
    Timeout,
    /// The handler's memory limit was hit.
    Memory,
    /// The guest answered in a shape that its contract does not allow, or sent what it may not.
    WrongAnswer,
    /// The host stopped while the message was in flight, for a reason that nothing recorded.
    HostStopped,
}

impl FailureKind {
    /// Returns the stored and shown form.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Reject => "reject",
            Self::Trap => "trap",
            Self::Timeout => "timeout",
            Self::Memory => "memory",
            Self::WrongAnswer => "wrong-answer",
            Self::HostStopped => "host-stopped",
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The failure of an attempt, as a queue keeps it with the message.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FailureRecord {
    /// The kind of failure.
    pub kind: FailureKind,
    /// The reason, for people; at most 1 KiB, control characters escaped.
    pub reason: String,
    /// The name of the handler.
    pub handler: String,
    /// The SHA-256 digest of the component that ran, in hexadecimal.
    pub component: String,
}

/// How a delivery ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// The message was handled, and is deleted for good.
    Delete,
    /// The message becomes visible again after `delay`, at most the longest retry delay of the queue. The queue remembers the
    /// failure, in case the message is not received again.
    Retry {
        /// Counted from now.
        delay: Duration,
        /// The reason.
        failure: FailureRecord,
    },
    /// The message goes to the dead-letter queue now.
    DeadLetter {
        /// The reason.
        failure: FailureRecord,
    },
    /// The message becomes visible again at once. A queue that can take the receive back does not count it.
    Release,
}

impl Settlement {
    /// Shortens the delay of a retry to `longest`.
    #[must_use]
    pub fn with_delay_up_to(self, longest: Duration) -> Self {
        match self {
            Self::Retry { delay, failure } => Self::Retry {
                delay: delay.min(longest),
                failure,
            },
            Self::Delete | Self::DeadLetter { .. } | Self::Release => self,
        }
    }
}

/// A request to settle one delivery.
#[derive(Debug, Clone)]
pub struct SettleRequest {
    /// The receipt of the delivery.
    pub receipt: Receipt,
    /// How the delivery ends.
    pub settlement: Settlement,
}
