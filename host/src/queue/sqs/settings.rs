//! How one SQS queue is found and treated: the settings of `[queues.NAME]` with a `url`.

use std::{num::NonZeroU32, time::Duration};

use crate::message::QueueName;

/// What the key `url` of a queue holds.
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

    /// The name of the queue on its server: the last part of a URL.
    pub fn queue(&self) -> &str {
        match self {
            Self::Url(url) => url.rsplit('/').next().unwrap_or(url),
            Self::Name(name) => name,
        }
    }

    /// Whether it is a FIFO queue: the name of every such queue ends in `.fifo`, and of no other.
    pub fn is_fifo(&self) -> bool {
        self.queue().strip_suffix(".fifo").is_some()
    }
}

/// The settings of one SQS queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqsSettings {
    /// Where it is.
    pub location: Location,
    /// For how long a receive hides a message. 1 s to 12 h; `None` is the queue's own visibility timeout.
    pub visibility_timeout: Option<Duration>,
    /// After so many receives a failed message becomes a dead letter. Has no effect on a queue with a redrive policy, which
    /// counts by itself, or without a dead-letter queue. 1 to 1,000; default 5.
    pub max_receives: NonZeroU32,
    /// Where dead letters go: another SQS queue of the configuration. `None` is the target of the queue's redrive policy,
    /// if it has one.
    pub dead_letter: Option<QueueName>,
}

impl SqsSettings {
    /// What `max-receives` is unless it is configured.
    pub const DEFAULT_MAX_RECEIVES: NonZeroU32 = NonZeroU32::new(5).expect("5 is not 0");
}
