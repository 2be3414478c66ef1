//! `sandhog tail` and `sandhog trace`: attempts as they end, and the way of a message. Guests chose many texts in them, so these are
//! escaped.

use std::io::{self, Write};

use bytesize::ByteSize;

use super::{
    CliError, TailArgs, TraceArgs,
    shown::{age, millis},
    write_json,
};
use crate::{
    client::{HostClient, HostEvent},
    date::to_the_millisecond,
    journal::{JournalEntry, JournalFilter, JournalSend, MessageWay},
};
use sandhog_queue::printable::{MAX_REASON_BYTES, printable, printable_lines};

/// The longest word, name or id in a line, in bytes.
const MAX_CELL_BYTES: usize = 256;
/// The longest text of a guest, in bytes.
const MAX_TEXT_BYTES: usize = 16 * 1024;

pub(crate) fn tail(args: &TailArgs, client: &HostClient, output: &mut dyn Write) -> Result<(), CliError> {
    let filter = JournalFilter {
        handler: args.handler.clone(),
        queue: args.queue.as_ref().map(|queue| queue.as_str().to_owned()),
        message: args.message.clone(),
        outcome: args.outcome.clone(),
        failed: args.failed,
        version: None,
    };
    for event in client.events(&filter, args.last, !args.no_follow)? {
        let event = event.map_err(|error| CliError::Transient(format!("the host has ended the events: {error}")))?;
        match event {
            HostEvent::Attempt(entry) if args.json => {
                serde_json::to_writer(&mut *output, &entry).map_err(io::Error::from)?;
                writeln!(output)?;
            }
            HostEvent::Attempt(entry) => write_entry(&entry, output)?,
            HostEvent::Missed(attempts) if args.json => writeln!(output, "{{\"missed\":{attempts}}}")?,
            HostEvent::Missed(attempts) => writeln!(output, "... {attempts} attempts came too fast to be shown")?,
        }
        output.flush()?;
    }
    if args.no_follow {
        return Ok(());
    }
    Err(CliError::Transient("the host has ended the events".to_owned()))
}

pub(crate) fn trace(args: &TraceArgs, client: &HostClient, output: &mut dyn Write) -> Result<(), CliError> {
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
    Ok(write_way(&way, 1, output)?)
}

/// Writes the attempts of a message and what they sent, indented by its depth.
fn write_way(way: &MessageWay, depth: usize, output: &mut dyn Write) -> io::Result<()> {
    let indent = "  ".repeat(depth);
    if way.attempts.is_empty() {
        writeln!(output, "{indent}no attempt at it is kept")?;
    }
    let mut sent = way.sent.iter();
    for entry in &way.attempts {
        write_attempt(entry, &indent, output)?;
        for send in &entry.sends {
            write_send(send, &indent, output)?;
            if let Some(next) = sent.next() {
                write_way(next, depth + 2, output)?;
            }
        }
    }
    if way.more {
        writeln!(output, "{indent}... and more, which is not shown here")?;
    }
    Ok(())
}

/// Writes an attempt: a line, and below it why it failed, what it printed, and what it sent.
fn write_entry(entry: &JournalEntry, output: &mut dyn Write) -> io::Result<()> {
    write_attempt(entry, "", output)?;
    for send in &entry.sends {
        write_send(send, "", output)?;
    }
    if entry.more_sends > 0 {
        writeln!(output, "  sent {} more", entry.more_sends)?;
    }
    Ok(())
}

fn write_send(send: &JournalSend, indent: &str, output: &mut dyn Write) -> io::Result<()> {
    let queue = printable(&send.queue, MAX_CELL_BYTES);
    let id = printable(&send.message, MAX_CELL_BYTES);
    writeln!(output, "{indent}  sent to {queue}: {id}, {} bytes", send.bytes)
}

/// Writes an attempt without what it sent.
fn write_attempt(entry: &JournalEntry, indent: &str, output: &mut dyn Write) -> io::Result<()> {
    writeln!(output, "{indent}{}", line(entry))?;
    if let Some(reason) = &entry.reason {
        write_text(indent, "reason", &printable_lines(reason, MAX_REASON_BYTES), output)?;
    }
    if let Some(stack) = &entry.stack {
        write_text(indent, "stack", &printable_lines(stack, MAX_TEXT_BYTES), output)?;
    }
    if entry.earlier_lines > 0 {
        writeln!(output, "{indent}  printed {} lines before these", entry.earlier_lines)?;
    }
    for line in &entry.log {
        let stream = printable(&line.stream, MAX_CELL_BYTES);
        write_text(indent, &stream, &printable_lines(&line.text, MAX_TEXT_BYTES), output)?;
    }
    Ok(())
}

/// Writes a text of one or several lines, each behind its name.
fn write_text(indent: &str, name: &str, text: &str, output: &mut dyn Write) -> io::Result<()> {
    text.lines()
        .try_for_each(|line| writeln!(output, "{indent}  {name} | {line}"))
}

/// Returns the line of an attempt.
fn line(entry: &JournalEntry) -> String {
    let word = |text: &str| printable(text, MAX_CELL_BYTES);
    let mut parts = vec![format!(
        "{} {} v{} {} {}",
        to_the_millisecond(entry.began_at_ms),
        word(&entry.handler),
        entry.version,
        word(&entry.message),
        word(&entry.outcome)
    )];
    if entry.receive_count > 1 {
        parts.push(format!("receive {}", entry.receive_count));
    }
    if entry.batch > 1 {
        parts.push(format!("in a batch of {}", entry.batch));
    }
    let processor = entry
        .cpu_ms
        .map(|cpu_ms| format!(" (processor {})", millis(Some(cpu_ms))))
        .unwrap_or_default();
    parts.push(format!("{}{processor}", millis(Some(entry.duration_ms))));
    if let Some(bytes) = entry.memory_peak_bytes {
        parts.push(ByteSize::b(bytes).display().iec().to_string());
    }
    let after = match (entry.disputed, entry.settlement.as_deref(), entry.retry_in_ms) {
        (true, ..) => ": the version before is asked".to_owned(),
        (_, Some("retry"), Some(ms)) => format!(": again in {}", age(ms)),
        (_, Some("dead-letter"), _) => ": a dead letter".to_owned(),
        (_, Some("release"), _) => ": released".to_owned(),
        (_, None, _) if !entry.is_handled() => ": not settled".to_owned(),
        _ => String::new(),
    };
    parts.join(", ") + &after
}

#[cfg(test)]
mod tests;
