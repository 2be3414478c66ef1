//! The lines of attempts, for people. Guests chose many texts in them, so these are escaped.

use std::io::{self, Write};

use bytesize::ByteSize;

use super::{
    paint::Paint,
    shown::{age, millis},
};
use crate::{
    date::to_the_millisecond,
    journal::{JournalEntry, JournalSend},
};
use sandhog_queue::printable::{MAX_REASON_BYTES, printable, printable_lines};

/// The longest word, name or id in a line, in bytes.
pub(crate) const MAX_CELL_BYTES: usize = 256;
/// The longest text of a guest, in bytes.
const MAX_TEXT_BYTES: usize = 16 * 1024;

/// Writes attempts.
pub(crate) struct AttemptLines<'o> {
    pub(crate) output: &'o mut dyn Write,
    pub(crate) paint: Paint,
}

impl AttemptLines<'_> {
    /// Writes an attempt: a line, and below it why it failed, what it printed, and what it sent.
    pub(crate) fn entry(&mut self, entry: &JournalEntry) -> io::Result<()> {
        self.attempt(entry, "")?;
        for send in &entry.sends {
            self.send(send, "")?;
        }
        if entry.more_sends > 0 {
            writeln!(self.output, "  sent {} more", entry.more_sends)?;
        }
        Ok(())
    }

    /// Writes one thing that an attempt sent.
    pub(crate) fn send(&mut self, send: &JournalSend, indent: &str) -> io::Result<()> {
        let queue = printable(&send.queue, MAX_CELL_BYTES);
        let id = printable(&send.message, MAX_CELL_BYTES);
        // With a deduplication id the queue may have kept an earlier message in its place, and does not say so.
        let once = send.deduplication_id.as_ref().map_or_else(String::new, |id| {
            let id = printable(id, MAX_CELL_BYTES);
            format!(", unless one with deduplication id {id} was sent before")
        });
        writeln!(
            self.output,
            "{indent}  sent to {queue}: {id}, {} bytes{once}",
            send.bytes
        )
    }

    /// Writes an attempt without what it sent.
    pub(crate) fn attempt(&mut self, entry: &JournalEntry, indent: &str) -> io::Result<()> {
        writeln!(self.output, "{indent}{}", line(entry, self.paint))?;
        if let Some(reason) = &entry.reason {
            self.text(indent, "reason", &printable_lines(reason, MAX_REASON_BYTES))?;
        }
        if let Some(stack) = &entry.stack {
            self.text(indent, "stack", &printable_lines(stack, MAX_TEXT_BYTES))?;
        }
        if entry.earlier_lines > 0 {
            writeln!(
                self.output,
                "{indent}  printed {} lines before these",
                entry.earlier_lines
            )?;
        }
        for line in &entry.log {
            let stream = printable(&line.stream, MAX_CELL_BYTES);
            self.text(indent, &stream, &printable_lines(&line.text, MAX_TEXT_BYTES))?;
        }
        Ok(())
    }

    /// Writes a text of one or several lines, each behind its name.
    fn text(&mut self, indent: &str, name: &str, text: &str) -> io::Result<()> {
        text.lines().try_for_each(|line| {
            let line = format!("{name} | {line}");
            writeln!(self.output, "{indent}  {}", self.paint.dim(&line))
        })
    }
}

/// Returns the line of an attempt.
fn line(entry: &JournalEntry, paint: Paint) -> String {
    let word = |text: &str| printable(text, MAX_CELL_BYTES);
    let mut parts = vec![format!(
        "{} {} v{} {} {}",
        to_the_millisecond(entry.began_at_ms),
        word(&entry.handler),
        entry.version,
        word(&entry.message),
        paint.state(&word(&entry.outcome))
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
