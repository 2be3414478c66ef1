//! The settings of one Simple queue, `[queues.NAME]` in the configuration, with their defaults.

use std::{num::NonZeroU32, time::Duration};

use sandhog_queue::message::QueueName;

/// In what order a queue hands its messages out. The numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// In the order sent per priority, and one after another within each message group.
    #[default]
    Group,
    /// The whole queue is one group: one message after another, across retries.
    Queue,
    /// In the order sent per priority. Group ids are kept and shown, and no message waits for another one.
    Ungrouped,
}

impl Order {
    /// The stored form.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Group => 0,
            Self::Queue => 1,
            Self::Ungrouped => 2,
        }
    }

    /// Returns the order with a stored form.
    pub(crate) fn from_number(number: i64) -> Self {
        match number {
            1 => Self::Queue,
            2 => Self::Ungrouped,
            _ => Self::Group,
        }
    }
}

/// Among which messages a deduplication id is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeduplicationScope {
    /// Those of the queue.
    #[default]
    Queue,
    /// Those of the same message group, or those without one.
    Group,
}

/// The settings of one Simple queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How long a receive hides a message. 1 s to 12 h; default 30 s.
    pub visibility_timeout: Duration,
    /// The number of receives after which the next one makes a dead letter of the message instead. 1 to 1,000; default 5.
    pub max_receives: NonZeroU32,
    /// The queue to which dead letters go. Default: `NAME-dead`.
    pub dead_letter: QueueName,
    /// The dead-letter queue is made if it is not there. Else a message stays in this queue as long as it has none. Default: yes.
    pub makes_dead_letter_queue: bool,
    /// Default: [`Order::Group`].
    pub order: Order,
    /// A message that has waited longer than this since it was sent is removed. Default: never.
    pub time_to_live: Option<Duration>,
    /// How long a message that was sent without a delay of its own stays invisible. Up to 12 h; default 0.
    pub delay: Duration,
    /// The digest of the body stands for the deduplication id where a message has none. Default: no.
    pub content_based_deduplication: bool,
    /// Default: [`DeduplicationScope::Queue`].
    pub deduplication_scope: DeduplicationScope,
    /// The number of messages (dead letters not counted) that the queue holds before it refuses sends. Default 20 million.
    pub max_messages: u64,
}

impl Settings {
    /// The defaults for a queue of this name.
    pub fn defaults(name: &QueueName) -> Self {
        Self {
            visibility_timeout: Duration::from_secs(30),
            max_receives: const { NonZeroU32::new(5).expect("5 is not 0") },
            dead_letter: name.default_dead_letter(),
            makes_dead_letter_queue: true,
            order: Order::Group,
            time_to_live: None,
            delay: Duration::ZERO,
            content_based_deduplication: false,
            deduplication_scope: DeduplicationScope::Queue,
            max_messages: 20_000_000,
        }
    }
}
