//! The client's view of attempts as they end: a stream of server-sent events.

use std::io::{self, BufRead, BufReader, Read};

use super::{ClientError, HostClient, escape, query};
use crate::admin::wire::AttemptList;
use crate::journal::{JournalEntry, JournalFilter, MessageWay};

/// The longest line of a stream, in bytes: more than an attempt with all that is kept of it.
const MAX_LINE_BYTES: u64 = 4 * 1024 * 1024;

/// One event of a stream.
#[derive(Debug, Clone, PartialEq)]
pub enum HostEvent {
    /// An attempt has ended.
    Attempt(Box<JournalEntry>),
    /// So many attempts came faster than they were read.
    Missed(u64),
}

/// The events of a host. The iterator ends when the host ends the stream.
#[expect(missing_debug_implementations, reason = "a connection has no form to show")]
pub struct EventStream {
    lines: Box<dyn BufRead>,
}

impl HostClient {
    /// Follows the attempts of a host that a filter admits: first at most `last` that have ended, and then, with `follow`, those that
    /// end from now on.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn events(&self, filter: &JournalFilter, last: u16, follow: bool) -> Result<EventStream, ClientError> {
        let texts = [
            ("handler", &filter.handler),
            ("queue", &filter.queue),
            ("message", &filter.message),
            ("outcome", &filter.outcome),
        ];
        let texts = texts.into_iter().filter_map(|(name, text)| Some((name, text.clone()?)));
        let flags = [("failed", filter.failed), ("kept", !follow)];
        let flags = flags.into_iter().filter(|(_, is_set)| *is_set);
        let parameters: Vec<(String, String)> = [("last", last.to_string())]
            .into_iter()
            .chain(texts)
            .chain(flags.map(|(name, _)| (name, "true".to_owned())))
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        let path = format!("/events{}", query(&parameters));
        Ok(EventStream {
            lines: Box::new(BufReader::new(self.stream("GET", &path)?)),
        })
    }

    /// Checks that the host has a handler of this name, or keeps an attempt of one.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]. The status 404 says that it has none, with the names of those that it has.
    pub fn check_handler(&self, handler: &str) -> Result<(), ClientError> {
        let path = format!("/handlers/{}/attempts?limit=1", escape(handler));
        let _kept: AttemptList = self.call("GET", &path, None::<&()>)?;
        Ok(())
    }

    /// Returns the way of a message.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn way(&self, message: &str) -> Result<MessageWay, ClientError> {
        self.call("GET", &format!("/messages/{}", escape(message)), None::<&()>)
    }
}

impl Iterator for EventStream {
    type Item = io::Result<HostEvent>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut kind = String::new();
        let mut data = String::new();
        loop {
            let mut line = String::new();
            match self.lines.by_ref().take(MAX_LINE_BYTES).read_line(&mut line) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => return Some(Err(error)),
            }
            let line = line.trim_end_matches(['\r', '\n']);
            if let Some(text) = line.strip_prefix("event:") {
                text.trim_start().clone_into(&mut kind);
            } else if let Some(text) = line.strip_prefix("data:") {
                data.push_str(text.trim_start());
            } else if line.is_empty() && !data.is_empty() {
                return Some(event(&kind, &data));
            }
        }
    }
}

fn event(kind: &str, data: &str) -> io::Result<HostEvent> {
    let wrong = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    Ok(match kind {
        "missed" => HostEvent::Missed(serde_json::from_str(data).map_err(wrong)?),
        _ => HostEvent::Attempt(serde_json::from_str(data).map_err(wrong)?),
    })
}
