//! What is typed: each line of standard input is a message, or an order that begins with a colon.

use std::{
    io::{self, BufRead},
    thread,
};

use tokio::sync::mpsc;

use crate::cli::body_line::BodyLine;

/// Lines that were read and not looked at yet.
const MAX_WAITING: usize = 16;

/// The orders, for people.
pub(super) const ORDERS: &str = ":send sends the files of input/ again, :build builds again, :test runs the tests, :quit ends; \
     a message that begins with a colon has two there";

/// A typed line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TypedLine {
    Message(Vec<u8>),
    /// Send the files again.
    Send,
    Build,
    Test,
    Help,
    Quit,
    Unknown(String),
    /// It is longer than a message may be. Nothing of it is sent.
    TooLong,
}

impl TypedLine {
    fn of(line: &[u8]) -> Self {
        match line {
            b":send" => Self::Send,
            b":build" => Self::Build,
            b":test" => Self::Test,
            b":help" => Self::Help,
            b":quit" => Self::Quit,
            [b':', b':', ..] => Self::Message(line.get(1..).unwrap_or_default().to_vec()),
            [b':', ..] => Self::Unknown(String::from_utf8_lossy(line).into_owned()),
            message => Self::Message(message.to_vec()),
        }
    }
}

/// Reads standard input on a thread of its own, which nobody joins: it waits for a key until the process ends. Empty lines are nothing.
pub(super) fn lines() -> mpsc::Receiver<TypedLine> {
    let (sender, lines) = mpsc::channel(MAX_WAITING);
    let read = move || {
        let mut input = io::stdin().lock();
        while let Ok(Some(line)) = read_line(&mut input) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    };
    // Without a thread nothing can be typed, and all else works.
    drop(thread::Builder::new().name("sandhog-typed".to_owned()).spawn(read));
    lines
}

/// Returns the next line that is not empty; `None` at the end of the input.
fn read_line(input: &mut impl BufRead) -> io::Result<Option<TypedLine>> {
    while let Some(line) = BodyLine::read(input)? {
        if line.is_too_long() {
            if !line.has_end {
                input.skip_until(b'\n')?;
            }
            return Ok(Some(TypedLine::TooLong));
        }
        if !line.body.is_empty() {
            return Ok(Some(TypedLine::of(&line.body)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use sandhog_queue::message::MAX_BODY_BYTES;

    use super::*;

    #[test]
    fn a_line_is_a_message_unless_it_is_an_order() {
        assert_eq!(TypedLine::of(b"hello"), TypedLine::Message(b"hello".to_vec()));
        assert_eq!(TypedLine::of(b":test"), TypedLine::Test);
        assert_eq!(TypedLine::of(b"::test"), TypedLine::Message(b":test".to_vec()));
        assert_eq!(TypedLine::of(b":x"), TypedLine::Unknown(":x".to_owned()));
    }

    #[test]
    fn a_line_that_is_too_long_is_no_message_and_neither_is_its_rest() {
        let long = "x".repeat(MAX_BODY_BYTES);
        let mut input = io::Cursor::new(format!("{long}\r\n{long}xyz\n\n{long}x\nshort"));
        let mut next = || read_line(&mut input).unwrap();
        assert_eq!(next(), Some(TypedLine::Message(long.clone().into_bytes())));
        assert_eq!(next(), Some(TypedLine::TooLong));
        assert_eq!(next(), Some(TypedLine::TooLong));
        assert_eq!(next(), Some(TypedLine::Message(b"short".to_vec())));
        assert_eq!(next(), None);
    }
}
