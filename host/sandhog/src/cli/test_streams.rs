//! The streams of a command in tests.

use std::io;

use super::{CommandStreams, Paint};

/// Returns what is written to standard output, which is a terminal with so many columns, or a pipe.
pub(crate) fn written(columns: Option<usize>, write: impl FnOnce(&mut CommandStreams<'_>) -> io::Result<()>) -> String {
    let (done, output) = said("", columns, false, write);
    done.unwrap();
    output
}

/// Runs a command on a terminal at which a person types `typed`. Returns how it came out, and what was shown.
pub(crate) fn asked<T>(typed: &str, command: impl FnOnce(&mut CommandStreams<'_>) -> T) -> (T, String) {
    said(typed, Some(80), true, command)
}

fn said<T>(
    typed: &str,
    columns: Option<usize>,
    asks: bool,
    command: impl FnOnce(&mut CommandStreams<'_>) -> T,
) -> (T, String) {
    let mut output = Vec::new();
    let done = command(&mut CommandStreams {
        input: &mut typed.as_bytes(),
        output: &mut output,
        progress: false,
        columns,
        paint: Paint::default(),
        asks,
    });
    (done, String::from_utf8(output).unwrap())
}
