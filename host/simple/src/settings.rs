//! The settings of one Simple queue, `[queues.NAME]` in the configuration, with their defaults.

use std::{num::NonZeroU32, time::Duration};

use sandhog_queue::message::QueueName;

/// In what order a queue hands its messages out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// In the order sent per priority, and one after another within each message group.
    #[default]
    Group,
    /// The whole queue is one group: one message after another, across retries.
    Queue,
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
    /// Default: [`Order::Group`].
    pub order: Order,
    /// A message that has waited longer than this since it was sent is removed. Default: never.
    pub time_to_live: Option<Duration>,
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
            order: Order::Group,
            time_to_live: None,
            max_messages: 20_000_000,
        }
    }
}
