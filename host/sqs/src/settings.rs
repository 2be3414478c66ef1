//! The settings of one SQS queue: those of `[queues.NAME]` with a `url`.

use std::{num::NonZeroU32, time::Duration};

use sandhog_queue::message::QueueName;

/// The value of the key `url` of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// The URL of an SQS queue.
    Url(String),
    /// `sqs:NAME`: the SQS queue of this name, in the account and region of the credentials.
    Name(String),
}

impl Location {
    /// Reads the value of `url`.
    pub fn parse(text: &str) -> Option<Self> {
        let name = |text: &str| {
            let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
            let stem = text.strip_suffix(".fifo").unwrap_or(text);
            !stem.is_empty() && text.len() <= 80 && stem.chars().all(legal)
        };
        if let Some(text) = text.strip_prefix("sqs:") {
            return name(text).then(|| Self::Name(text.to_owned()));
        }
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
        let (host, path) = rest.split_once('/')?;
        let visible = rest.bytes().all(|byte| byte.is_ascii_graphic());
        (visible && !host.is_empty() && !host.contains('@') && path.rsplit('/').next().is_some_and(name))
            .then(|| Self::Url(text.to_owned()))
    }

    /// Returns the name of the queue on its server: the last part of a URL.
    pub fn queue(&self) -> &str {
        match self {
            Self::Url(url) => url.rsplit('/').next().unwrap_or(url),
            Self::Name(name) => name,
        }
    }

    /// Whether the queue is a FIFO queue: the names of those, and of no others, end in `.fifo`.
    pub fn is_fifo(&self) -> bool {
        self.queue().strip_suffix(".fifo").is_some()
    }
}

/// The settings of one SQS queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqsSettings {
    /// The location of the queue.
    pub location: Location,
    /// The time for which a receive hides a message. 1 s to 12 h; `None` is the queue's own visibility timeout.
    pub visibility_timeout: Option<Duration>,
    /// The number of receives after which a failed message becomes a dead letter. Has no effect on a queue with a redrive
    /// policy, which counts by itself, or without a dead-letter queue. 1 to 1,000; default 5.
    pub max_receives: NonZeroU32,
    /// The dead-letter queue: another SQS queue of the configuration. `None` is the target of the queue's redrive policy,
    /// if it has one.
    pub dead_letter: Option<QueueName>,
}

impl SqsSettings {
    /// The default of `max-receives`.
    pub const DEFAULT_MAX_RECEIVES: NonZeroU32 = NonZeroU32::new(5).expect("5 is not 0");
}
