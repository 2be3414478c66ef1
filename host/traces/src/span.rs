//! A span that has ended, and the moment at which one began.

use std::{borrow::Cow, time::Duration};

use tokio::time::Instant;

use super::context::SpanContext;
use sandhog_queue::machine_clock::wall;

/// The most links of one span.
pub const MAX_LINKS: usize = 128;

/// The kind of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// A request to another process.
    Client,
    /// The making of a message whose context the message carries.
    Producer,
    /// The handling of messages.
    Consumer,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum AttributeValue {
    /// A text.
    Text(Cow<'static, str>),
    /// A whole number.
    Int(i64),
    /// A number.
    Double(f64),
}

impl From<String> for AttributeValue {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<&'static str> for AttributeValue {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<u64> for AttributeValue {
    fn from(number: u64) -> Self {
        Self::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<usize> for AttributeValue {
    fn from(number: usize) -> Self {
        Self::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<f64> for AttributeValue {
    fn from(number: f64) -> Self {
        Self::Double(number)
    }
}

/// A span of another trace, or elsewhere in the same one, that a span has to do with.
#[derive(Debug, Clone, PartialEq)]
pub struct SpanLink {
    /// The place of the other span.
    pub context: SpanContext,
    /// What the link is about.
    pub attributes: Vec<(&'static str, AttributeValue)>,
}

impl SpanLink {
    /// Makes a link. It has no room for what vendors have noted in the context, which a sender chooses.
    pub fn new(mut context: SpanContext, attributes: Vec<(&'static str, AttributeValue)>) -> Self {
        context.state = None;
        Self { context, attributes }
    }
}

/// A span that has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct SpanRecord {
    /// Its place.
    pub context: SpanContext,
    /// The span that it is a part of.
    pub parent: Option<SpanContext>,
    /// Its kind.
    pub kind: SpanKind,
    /// Its name.
    pub name: String,
    /// When it began.
    pub start: SpanStart,
    /// How long it took.
    pub duration: Duration,
    /// What it is about.
    pub attributes: Vec<(&'static str, AttributeValue)>,
    /// Other spans that it has to do with. Those beyond [`MAX_LINKS`] are dropped.
    pub links: Vec<SpanLink>,
    /// Why it failed, if it did: a text for people.
    pub error: Option<String>,
}

/// The moment at which a span began, by the wall clock and by one that nobody sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanStart {
    wall: Duration,
    at: Instant,
}

impl SpanStart {
    /// Reads the clocks.
    pub fn now() -> Self {
        Self {
            wall: wall(),
            at: Instant::now(),
        }
    }

    /// Returns the time since then.
    pub fn elapsed(&self) -> Duration {
        self.at.elapsed()
    }

    /// Returns the nanoseconds since 1970-01-01T00:00:00Z so long after the start.
    pub(crate) fn wall_ns(&self, after: Duration) -> u64 {
        u64::try_from((self.wall + after).as_nanos()).unwrap_or(u64::MAX)
    }
}
