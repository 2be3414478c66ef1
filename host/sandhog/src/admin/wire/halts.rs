//! The JSON of pausing and resuming.

use serde::{Deserialize, Serialize};

use crate::halts::Halt;

/// An operator's order that a queue or a handler stands still.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct HaltForm {
    /// Why, for people; may be empty.
    pub reason: String,
    /// When it was ordered: milliseconds since 1970-01-01T00:00:00Z.
    pub since_ms: u64,
    /// When it ends by itself, likewise; null if it does not.
    pub until_ms: Option<u64>,
}

impl From<Halt> for HaltForm {
    fn from(halt: Halt) -> Self {
        let Halt {
            reason,
            since_ms,
            until_ms,
        } = halt;
        Self {
            reason,
            since_ms,
            until_ms,
        }
    }
}

/// The answer of a resume.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ResumeAnswer {
    /// The pause that has ended; null if there was none.
    pub ended: Option<HaltForm>,
    /// What still stands still, for people, and the command that ends it: the queue of a handler, or a handler of a queue. Null if
    /// nothing does.
    #[serde(default)]
    pub still: Option<String>,
}
