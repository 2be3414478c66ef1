//! `sandhog trace`: the way of a message. Guests chose many texts in it, so these are escaped.

use std::io;

use super::{
    CliError, CommandStreams, TraceArgs,
    attempt_lines::{AttemptLines, MAX_CELL_BYTES},
    write_json,
};
use crate::{client::HostClient, journal::MessageWay};
use sandhog_queue::printable::printable;

pub(crate) fn trace(args: &TraceArgs, client: &HostClient, streams: &mut CommandStreams<'_>) -> Result<(), CliError> {
    let (paint, output) = (streams.paint, &mut *streams.output);
    let way = client.way(&args.message)?;
    if args.json {
        return Ok(write_json(output, &way)?);
    }
    let id = printable(&way.message, MAX_CELL_BYTES);
    match &way.sent_by {
        None => writeln!(output, "{id}: no attempt that is kept sent it")?,
        Some(sender) => writeln!(
            output,
            "{id}: sent by {} v{} for message {} of queue {}",
            printable(&sender.handler, MAX_CELL_BYTES),
            sender.version,
            printable(&sender.message, MAX_CELL_BYTES),
            printable(&sender.queue, MAX_CELL_BYTES),
        )?,
    }
    Ok(write_way(&way, 1, &mut AttemptLines { output, paint })?)
}

/// Writes the attempts of a message and what they sent, indented by its depth.
fn write_way(way: &MessageWay, depth: usize, lines: &mut AttemptLines<'_>) -> io::Result<()> {
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
                write_way(next, depth + 2, lines)?;
            }
        }
    }
    if way.more {
        writeln!(lines.output, "{indent}... and more, which is not shown here")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
