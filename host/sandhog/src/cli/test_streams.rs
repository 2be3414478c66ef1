//! The streams of a command in tests.

use std::io;

use super::{CommandStreams, Paint};

/// Returns what is written to standard output, which is a terminal with so many columns, or a pipe.
pub(crate) fn written(columns: Option<usize>, write: impl FnOnce(&mut CommandStreams<'_>) -> io::Result<()>) -> String {
    let mut output = Vec::new();
    let mut streams = CommandStreams {
        input: &mut io::empty(),
        output: &mut output,
        progress: false,
        columns,
        paint: Paint::default(),
        asks: false,
    };
    write(&mut streams).unwrap();
    String::from_utf8(output).unwrap()
}
