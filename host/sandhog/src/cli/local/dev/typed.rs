//! What is typed: each line of standard input is a message, or an order that begins with a colon.

use std::{
    io::{self, BufRead as _, Read as _},
    thread,
};

use tokio::sync::mpsc;

use sandhog_queue::message::MAX_BODY_BYTES;

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
        // A longer line is refused as a message that is too large.
        let limit = u64::try_from(MAX_BODY_BYTES).unwrap_or(u64::MAX).saturating_add(2);
        loop {
            let mut line = Vec::new();
            if !matches!((&mut input).take(limit).read_until(b'\n', &mut line), Ok(1..)) {
                return;
            }
            let line = line.strip_suffix(b"\n").unwrap_or(&line);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if !line.is_empty() && sender.blocking_send(TypedLine::of(line)).is_err() {
                return;
            }
        }
    };
    // Without a thread nothing can be typed, and all else works.
    drop(thread::Builder::new().name("sandhog-typed".to_owned()).spawn(read));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_message_unless_it_is_an_order() {
        assert_eq!(TypedLine::of(b"hello"), TypedLine::Message(b"hello".to_vec()));
        assert_eq!(TypedLine::of(b":test"), TypedLine::Test);
        assert_eq!(TypedLine::of(b"::test"), TypedLine::Message(b":test".to_vec()));
        assert_eq!(TypedLine::of(b":x"), TypedLine::Unknown(":x".to_owned()));
    }
}
