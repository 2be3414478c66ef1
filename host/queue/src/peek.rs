//! Looking at messages without receiving them: the request, and a page of what was found. Plain data.
//!
//! Invariant: a page is bounded in messages, and its queue bounds the bytes and the time. A peek changes nothing.

use std::{fmt, str::FromStr};

use crate::{
    FailureRecord, SendingAttempt,
    message::{Message, MessageId, QueueName},
    message_filter::{MessageFilter, MessageStanding},
};

/// The most messages of a page.
pub const MAX_PEEKED: usize = 1000;

/// Which messages a peek looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeekScope {
    /// Those in the queue, whatever they wait for.
    Messages,
    /// The dead letters that came from the queue.
    DeadLetters,
}

/// A request to look at messages.
#[derive(Debug, Clone)]
pub struct PeekRequest {
    /// Where to look.
    pub scope: PeekScope,
    /// Which messages are shown.
    pub filter: MessageFilter,
    /// Where to go on; `None` for the first page.
    pub after: Option<PeekCursor>,
    /// The most messages, 1 to [`MAX_PEEKED`]. More count as that.
    pub limit: usize,
    /// The bytes to which a body is cut; `None` for whole bodies.
    pub body_limit: Option<usize>,
}

/// Where a peek goes on. Its text is for the queue that made it and for nobody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeekCursor {
    /// The place of the last message that was looked at.
    pub after: u64,
    /// The place of the last message that was there when the first page was asked for.
    pub last: u64,
    /// When that was, in milliseconds since 1970-01-01T00:00:00Z. Every page counts ages up to then, so all have one meaning.
    pub asked_at_ms: u64,
}

impl fmt::Display for PeekCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}-{:x}", self.after, self.last, self.asked_at_ms)
    }
}

/// The text is no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not the cursor of a page")]
pub struct InvalidCursor;

impl FromStr for PeekCursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let mut numbers = text.split('-');
        let (Some(after), Some(last), Some(asked_at), None) =
            (numbers.next(), numbers.next(), numbers.next(), numbers.next())
        else {
            return Err(InvalidCursor);
        };
        let number = |text| u64::from_str_radix(text, 16).map_err(|_| InvalidCursor);
        Ok(Self {
            after: number(after)?,
            last: number(last)?,
            asked_at_ms: number(asked_at)?,
        })
    }
}

/// A message that was looked at.
#[derive(Debug, Clone)]
pub struct PeekedMessage {
    /// The message. Its body may be cut, and a damaged message has nothing but an id.
    pub message: Message,
    /// The length of the whole body, in bytes.
    pub body_bytes: usize,
    /// What it waits for.
    pub standing: MessageStanding,
    /// The receives in its queue so far.
    pub receive_count: u32,
    /// For a message with a delay: when it becomes visible, in milliseconds since 1970-01-01T00:00:00Z.
    pub visible_at_ms: Option<u64>,
    /// The message that it was sent with the end of, or made from.
    pub parent: Option<MessageId>,
    /// The attempt that sent it, if a handler did.
    pub sent_by: Option<SendingAttempt>,
    /// Its last failure; for a dead letter, the one that made it one.
    pub failure: Option<FailureRecord>,
    /// How it became a dead letter, if it is one.
    pub death: Option<PeekedDeath>,
    /// For a damaged message: what is damaged, for people.
    pub damage: Option<String>,
}

/// How a message became a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeekedDeath {
    /// The queue that it came from; `None` if that was deleted.
    pub queue: Option<QueueName>,
    /// When, in milliseconds since 1970-01-01T00:00:00Z.
    pub dead_at_ms: u64,
    /// The number of receives by then.
    pub receive_count: u32,
}

/// A page of messages, in the order in which they came to the queue.
#[derive(Debug, Clone)]
pub struct PeekPage {
    /// The messages; perhaps none although others follow.
    pub messages: Vec<PeekedMessage>,
    /// Where this page began. A peek or a sweep that goes on from there sees no message that came after the first page was asked for.
    pub start: PeekCursor,
    /// Where the next page goes on; `None` if everything was looked at that was there when the first page was asked for.
    pub next: Option<PeekCursor>,
}

/// What becomes of chosen dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadLetterAction {
    /// They go back to the queue that they came from.
    Redrive,
    /// They are deleted for good.
    Delete,
}

/// A request to do something with the dead letters that pass a filter.
#[derive(Debug, Clone)]
pub struct DeadLetterSweep {
    /// What.
    pub action: DeadLetterAction,
    /// Which.
    pub filter: MessageFilter,
    /// Where to go on; `None` for the first step.
    pub after: Option<PeekCursor>,
    /// The most dead letters of this step, 1 to [`MAX_PEEKED`]. More count as that.
    pub limit: usize,
}

/// What a step of a sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SweptDeadLetters {
    /// The number of dead letters that it was done to.
    pub messages: u64,
    /// Where the next step goes on; `None` if that was all.
    pub next: Option<PeekCursor>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_cursor_stands_for_it() {
        let cursor = PeekCursor {
            after: 12,
            last: u64::MAX,
            asked_at_ms: 1_700_000_000_000,
        };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for text in ["", "-", "1", "1-", "1-2", "x-1-1", "1-2-", "1-2-3-4"] {
            assert_eq!(text.parse::<PeekCursor>(), Err(InvalidCursor), "{text}");
        }
    }
}
