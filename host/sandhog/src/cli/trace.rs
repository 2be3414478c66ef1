//! `sandhog trace`: the way of a message, from the first message above it down, and where those messages lie now. Guests chose many
//! texts in it, so these are escaped.
//!
//! Invariant: nothing is received, the number of messages that are looked for and the time for it are bounded, and a look that fails
//! costs no more than its own answer.

use std::{collections::BTreeMap, io, time::Duration};

use serde::Serialize;
use tokio::time::Instant;

use super::{
    CliError, CommandStreams, TraceArgs,
    attempt_lines::{AttemptLines, MAX_CELL_BYTES},
    write_json,
};
use crate::{
    admin::wire::{PeekedForm, PeekedList},
    client::{ClientError, HostClient},
    journal::{MessageWay, WaySender},
};
use sandhog_queue::printable::printable;

/// How many messages above the one that is traced are looked for.
const MAX_ABOVE: usize = 16;
/// How many messages are looked for in queues.
const MAX_LOOKS: usize = 64;
/// The time for all these looks. A large queue is not searched to its end.
const LOOK_TIME: Duration = Duration::from_secs(20);

/// All that is known of a message.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct MessageTrace {
    #[serde(flatten)]
    way: MessageWay,
    /// The messages above it, the first one first. The last one is that of `sent-by`.
    above: Vec<MessageAbove>,
    /// Where each message lies, by its id, as far as that was looked for.
    places: BTreeMap<String, MessagePlace>,
}

/// A message from which another one came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct MessageAbove {
    message: String,
    /// The queue that it came from, if that is known.
    queue: Option<String>,
    /// The handler whose attempt at it sent the next one; `None` if somebody sent a copy of it.
    handler: Option<String>,
    version: Option<u64>,
}

/// Where a message lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct MessagePlace {
    /// The queue; `None` if it is no longer in any.
    queue: Option<String>,
    /// `handled`, `dead-letter`, `gone`, `unknown` if that was not found out, or the state that `peek` shows.
    state: String,
}

pub(crate) fn trace(args: &TraceArgs, client: &HostClient, streams: &mut CommandStreams<'_>) -> Result<(), CliError> {
    let mut finder = MessageFinder {
        client,
        looks: MAX_LOOKS,
        until: Instant::now() + LOOK_TIME,
        queue: None,
        places: BTreeMap::new(),
    };
    let (way, peeked) = finder.way(&args.message)?;
    let above = finder.above(&way, peeked)?;
    let queue = finder.queue.take();
    finder.find_all(&way, queue.as_deref())?;
    let trace = MessageTrace {
        way,
        above,
        places: finder.places,
    };
    if args.json {
        return Ok(write_json(streams.output, &trace)?);
    }
    Ok(write_trace(&trace, streams)?)
}

/// Asks a host for messages.
struct MessageFinder<'c> {
    client: &'c HostClient,
    looks: usize,
    until: Instant,
    /// The queue to which the traced message was sent, if its sender is known.
    queue: Option<String>,
    places: BTreeMap<String, MessagePlace>,
}

impl MessageFinder<'_> {
    /// Returns what the journal knows of a message. If that is nothing, the message may lie in a queue, which knows it, too.
    fn way(&mut self, id: &str) -> Result<(MessageWay, Option<PeekedForm>), CliError> {
        let unknown = match self.client.way(id) {
            Ok(way) => return Ok((way, None)),
            Err(unknown @ ClientError::Refused { status: 404, .. }) => unknown,
            Err(error) => return Err(error.into()),
        };
        let queues = self.client.queues()?.queues;
        for queue in queues.iter().filter(|queue| queue.error.is_none()) {
            let peeked = self.look(&queue.name, id)?;
            let is_here = self.places.get(id).is_some_and(|place| place.queue.is_some());
            if is_here {
                let way = MessageWay {
                    message: id.to_owned(),
                    sent_by: None,
                    attempts: Vec::new(),
                    sent: Vec::new(),
                    more: false,
                };
                return Ok((way, peeked));
            }
        }
        Err(unknown.into())
    }

    /// Returns the messages above one, the first one first. `peeked` is the message itself, if it was found in a queue.
    fn above(&mut self, way: &MessageWay, peeked: Option<PeekedForm>) -> Result<Vec<MessageAbove>, CliError> {
        let mut above = Vec::new();
        let mut next = way.sent_by.clone().map(MessageAbove::from);
        if next.is_none() {
            let peeked = match (peeked, way.attempts.last()) {
                (None, Some(attempt)) => self.look(&attempt.queue, &way.message)?,
                (peeked, _) => peeked,
            };
            next = peeked.as_ref().and_then(MessageAbove::of);
        }
        while let Some(step) = next.take() {
            let (id, queue) = (step.message.clone(), step.queue.clone());
            let is_known = id == way.message || above.iter().any(|other: &MessageAbove| other.message == id);
            if is_known || above.len() >= MAX_ABOVE {
                break;
            }
            above.push(step);
            next = match self.client.way(&id) {
                Ok(sender) => {
                    let mut sends = sender.attempts.iter().flat_map(|attempt| &attempt.sends);
                    let send = sends.find(|send| send.message == way.message);
                    self.queue = self.queue.take().or_else(|| Some(send?.queue.clone()));
                    sender.sent_by.map(MessageAbove::from)
                }
                Err(ClientError::Refused { status: 404, .. }) => None,
                Err(error) => return Err(error.into()),
            };
            if let (None, Some(queue)) = (&next, queue) {
                next = self.look(&queue, &id)?.as_ref().and_then(MessageAbove::of);
            }
        }
        above.reverse();
        Ok(above)
    }

    /// Finds out where a message and those below it lie. `queue` is the one that it was sent to, if that is known.
    fn find_all(&mut self, way: &MessageWay, queue: Option<&str>) -> Result<(), CliError> {
        let last = way.attempts.last();
        let queue = last.map(|attempt| attempt.queue.as_str()).or(queue);
        let is_deleted = last.is_some_and(|attempt| attempt.settlement.as_deref() == Some("delete"));
        if is_deleted {
            self.places
                .insert(way.message.clone(), MessagePlace::nowhere("handled"));
        } else if let Some(queue) = queue.filter(|_| !self.places.contains_key(&way.message)) {
            self.look(queue, &way.message)?;
        }
        let sends = way.attempts.iter().flat_map(|attempt| &attempt.sends);
        for (send, next) in sends.zip(&way.sent) {
            self.find_all(next, Some(&send.queue))?;
        }
        Ok(())
    }

    /// Looks for a message in a queue and among its dead letters, and notes where it is.
    fn look(&mut self, queue: &str, id: &str) -> Result<Option<PeekedForm>, CliError> {
        if self.looks == 0 {
            return Ok(None);
        }
        self.looks -= 1;
        let place = match self.find(queue, id)? {
            Finding::Here(peeked) => {
                self.note(queue, &peeked);
                return Ok(Some(*peeked));
            }
            Finding::Hidden => return Ok(None),
            Finding::Dead => MessagePlace {
                queue: Some(queue.to_owned()),
                state: "dead-letter".to_owned(),
            },
            Finding::Gone => MessagePlace::nowhere("gone"),
            Finding::Unknown => MessagePlace::nowhere("unknown"),
        };
        self.places.insert(id.to_owned(), place);
        Ok(None)
    }

    /// Searches a queue page by page, and its dead letters after the first page: these are found by their ids at once.
    fn find(&self, queue: &str, id: &str) -> Result<Finding, CliError> {
        let mut after = None;
        loop {
            let is_first = after.is_none();
            let page = match self.page(queue, id, after) {
                Ok(page) => page,
                Err(error) => return Finding::of(error),
            };
            if let Some(peeked) = page.messages.into_iter().next() {
                return Ok(Finding::Here(Box::new(peeked)));
            }
            if is_first {
                match self.client.dead_letter(queue, id) {
                    Ok(_) => return Ok(Finding::Dead),
                    Err(ClientError::Refused { status: 404, .. }) => {}
                    Err(error) => return Finding::of(error),
                }
            }
            after = page.next.filter(|_| page.more);
            if after.is_none() {
                return Ok(Finding::Gone);
            }
            if Instant::now() >= self.until {
                return Ok(Finding::Unknown);
            }
        }
    }

    fn page(&self, queue: &str, id: &str, after: Option<String>) -> Result<PeekedList, ClientError> {
        let named = [
            ("id", Some(id.to_owned())),
            ("limit", Some("1".to_owned())),
            ("after", after),
        ];
        let named = named
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        self.client.peek(queue, &named.collect::<Vec<_>>())
    }

    fn note(&mut self, queue: &str, peeked: &PeekedForm) {
        let of = peeked.dead_letter_of.as_deref();
        let place = MessagePlace {
            queue: Some(of.unwrap_or(queue).to_owned()),
            state: of.map_or(peeked.state.as_str(), |_| "dead-letter").to_owned(),
        };
        self.places.insert(peeked.id.clone(), place);
    }
}

/// What became of the search for a message in a queue.
enum Finding {
    Here(Box<PeekedForm>),
    /// It is a dead letter of the queue.
    Dead,
    Gone,
    /// The queue does not show its messages. Its dead letters are not asked for: that would receive them.
    Hidden,
    /// The search took too long, or the queue does not answer.
    Unknown,
}

impl Finding {
    /// Returns what an answer of the host means for a search that could not be made.
    fn of(error: ClientError) -> Result<Self, CliError> {
        let ClientError::Refused { status, .. } = &error else {
            return Err(error.into());
        };
        match status {
            404 => Ok(Self::Gone),
            501 => Ok(Self::Hidden),
            503 => Ok(Self::Unknown),
            _ => Err(error.into()),
        }
    }
}

impl MessagePlace {
    fn nowhere(state: &str) -> Self {
        Self {
            queue: None,
            state: state.to_owned(),
        }
    }

    /// Says where the message is, for people.
    fn sentence(&self) -> String {
        match &self.queue {
            Some(queue) if self.state == "dead-letter" => {
                format!("now a dead letter of {}", printable(queue, MAX_CELL_BYTES))
            }
            Some(queue) => format!(
                "now in queue {}: {}",
                printable(queue, MAX_CELL_BYTES),
                printable(&self.state, MAX_CELL_BYTES)
            ),
            None if self.state == "handled" => "handled, and no longer in any queue".to_owned(),
            None if self.state == "unknown" => {
                "where it lies was not found out: its queue is large, or does not answer".to_owned()
            }
            None => "no longer in its queue".to_owned(),
        }
    }
}

impl From<WaySender> for MessageAbove {
    fn from(sender: WaySender) -> Self {
        Self {
            message: sender.message,
            queue: Some(sender.queue),
            handler: Some(sender.handler),
            version: Some(sender.version),
        }
    }
}

impl MessageAbove {
    /// Returns what a message that lies in a queue says of the one that it came from.
    fn of(peeked: &PeekedForm) -> Option<Self> {
        let sender = peeked.sent_by.as_ref();
        Some(Self {
            message: peeked.parent.clone()?,
            queue: sender.map(|sender| sender.queue.clone()),
            handler: sender.map(|sender| sender.handler.clone()),
            version: sender.map(|sender| sender.version),
        })
    }

    fn sentence(&self) -> String {
        let word = |text: &str| printable(text, MAX_CELL_BYTES);
        let queue = self.queue.as_deref();
        let queue = queue.map_or_else(String::new, |queue| format!(" of queue {}", word(queue)));
        let message = word(&self.message);
        match (&self.handler, self.version) {
            (Some(handler), Some(version)) => {
                format!("{} v{version} for message {message}{queue}", word(handler))
            }
            _ => format!("somebody, as a copy of message {message}{queue}"),
        }
    }
}

fn write_trace(trace: &MessageTrace, streams: &mut CommandStreams<'_>) -> io::Result<()> {
    let (paint, output) = (streams.paint, &mut *streams.output);
    let id = printable(&trace.way.message, MAX_CELL_BYTES);
    let ids = trace.above.iter().skip(1).map(|above| above.message.as_str());
    for (above, next) in trace.above.iter().zip(ids.chain([trace.way.message.as_str()])) {
        writeln!(
            output,
            "{}: sent by {}",
            printable(next, MAX_CELL_BYTES),
            above.sentence()
        )?;
    }
    if trace.above.is_empty() {
        writeln!(output, "{id}: no attempt that is kept sent it")?;
    }
    if trace.way.attempts.is_empty() {
        write_place(trace, &trace.way, "  ", &mut AttemptLines { output, paint })?;
        return Ok(());
    }
    write_way(trace, &trace.way, 1, &mut AttemptLines { output, paint })
}

/// Writes the attempts of a message and what they sent, indented by its depth.
fn write_way(trace: &MessageTrace, way: &MessageWay, depth: usize, lines: &mut AttemptLines<'_>) -> io::Result<()> {
    let indent = "  ".repeat(depth);
    if way.attempts.is_empty() {
        writeln!(lines.output, "{indent}no attempt at it is kept")?;
    }
    let mut sent = way.sent.iter();
    for entry in &way.attempts {
        lines.attempt(entry, &indent)?;
        for send in &entry.sends {
            lines.send(send, &indent)?;
            if let Some(next) = sent.next() {
                write_way(trace, next, depth + 2, lines)?;
            }
        }
    }
    write_place(trace, way, &indent, lines)?;
    if way.more {
        writeln!(lines.output, "{indent}... and more, which is not shown here")?;
    }
    Ok(())
}

fn write_place(trace: &MessageTrace, way: &MessageWay, indent: &str, lines: &mut AttemptLines<'_>) -> io::Result<()> {
    match trace.places.get(&way.message) {
        Some(place) => writeln!(lines.output, "{indent}{}", place.sentence()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
