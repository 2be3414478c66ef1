//! A halt as it is recorded.
//!
//! Plain data, and its form in the file.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use sandhog_queue::message::QueueName;

/// The longest reason, in bytes.
pub const MAX_REASON_BYTES: usize = 1000;

/// What an operator halts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum HaltTarget {
    /// Everybody who receives from a queue.
    Queue(QueueName),
    /// A handler alone: others may receive from its queue.
    Handler(String),
}

impl fmt::Display for HaltTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queue(queue) => write!(f, "queue {queue}"),
            Self::Handler(handler) => write!(f, "handler {handler}"),
        }
    }
}

/// An operator's order that a queue or a handler stands still.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Halt {
    /// Why, for people; may be empty.
    pub reason: String,
    /// When it was ordered: milliseconds since 1970-01-01T00:00:00Z.
    pub since_ms: u64,
    /// When it ends by itself, likewise.
    pub until_ms: Option<u64>,
}

impl Halt {
    /// Returns whether the halt counts at this time: milliseconds since 1970-01-01T00:00:00Z.
    pub fn is_in_force(&self, now_ms: u64) -> bool {
        self.until_ms.is_none_or(|until| now_ms < until)
    }
}

/// The content of the file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct HaltFile {
    halts: Vec<HaltLine>,
}

#[derive(Debug, Serialize, Deserialize)]
struct HaltLine {
    #[serde(flatten)]
    target: StoredTarget,
    #[serde(flatten)]
    halt: Halt,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum StoredTarget {
    Queue(String),
    Handler(String),
}

impl HaltFile {
    pub(super) fn of(table: &BTreeMap<HaltTarget, Halt>) -> Self {
        let line = |(target, halt): (&HaltTarget, &Halt)| HaltLine {
            target: match target {
                HaltTarget::Queue(queue) => StoredTarget::Queue(queue.to_string()),
                HaltTarget::Handler(handler) => StoredTarget::Handler(handler.clone()),
            },
            halt: halt.clone(),
        };
        Self {
            halts: table.iter().map(line).collect(),
        }
    }

    /// Returns the halts that count at this time. A name that no queue can have halts nothing.
    pub(super) fn into_table(self, now_ms: u64) -> BTreeMap<HaltTarget, Halt> {
        let halts = self.halts.into_iter().filter(|line| line.halt.is_in_force(now_ms));
        halts
            .filter_map(|line| {
                let target = match line.target {
                    StoredTarget::Queue(queue) => HaltTarget::Queue(QueueName::new(&queue).ok()?),
                    StoredTarget::Handler(handler) => HaltTarget::Handler(handler),
                };
                Some((target, line.halt))
            })
            .collect()
    }
}
