//! `sandhog send`: one message, or every line of standard input.

use std::io::{self, BufReader, Read, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{CliError, CommandStreams, SendArgs, body_line::BodyLine, read_body, write_answer, write_json_line};
use crate::{
    admin::wire::{AttributeForm, BatchResult, MAX_BATCH, OutgoingForm, SendBatch, SentMessage},
    client::HostClient,
};
use sandhog_queue::{
    message::MAX_BODY_BYTES,
    printable::{MAX_REASON_BYTES, printable},
};

/// The most bytes of the bodies of one request. With base64 and the JSON around them the request stays below the host's limit.
const BATCH_BODY_BYTES: usize = 4 * 1024 * 1024;
const READ_BUFFER_BYTES: usize = 256 * 1024;

pub(crate) fn send(args: &SendArgs, client: &HostClient, streams: &mut CommandStreams<'_>) -> Result<(), CliError> {
    if let Some(id) = &args.again {
        let sent = client.send_again(args.queue.as_str(), id)?;
        return write_sent(args, &sent, streams);
    }
    let template = template(args)?;
    let body = match &args.body {
        Some(body) if args.lines && body != "-" => {
            return Err(CliError::Arguments(
                "--lines reads standard input: leave BODY out, or use -",
            ));
        }
        Some(body) if !args.lines => body,
        _ => return send_lines(args, &template, client, streams),
    };
    let body = read_body(body, streams.input).map_err(CliError::Input)?;
    let batch = SendBatch {
        messages: vec![template.with_body(body)],
    };
    match client.send(args.queue.as_str(), &batch)?.results.pop() {
        Some(BatchResult::Sent { id }) => write_sent(args, &SentMessage { id }, streams),
        Some(BatchResult::Refused { error, again }) => Err(refusal(&error, again)),
        None => Err(CliError::Refused("the host gave no result".to_owned())),
    }
}

fn write_sent(args: &SendArgs, sent: &SentMessage, streams: &mut CommandStreams<'_>) -> Result<(), CliError> {
    write_answer(streams.output, args.json, sent, |sent| {
        printable(&sent.id, MAX_REASON_BYTES)
    })
}

/// Returns the error for a message that the host refused. The server may not be a host, so its words are escaped.
fn refusal(why: &str, again: bool) -> CliError {
    let why = printable(why, MAX_REASON_BYTES);
    if again {
        CliError::Transient(why)
    } else {
        CliError::Refused(why)
    }
}

/// Returns the properties that all messages of the command have in common.
fn template(args: &SendArgs) -> Result<OutgoingForm, CliError> {
    let mut template = OutgoingForm {
        group: args.group.clone(),
        delay: args.delay.map(|delay| humantime::format_duration(delay).to_string()),
        priority: args.priority,
        dedup: args.dedup.clone(),
        ..OutgoingForm::default()
    };
    for (name, value) in &args.attributes {
        if template
            .attributes
            .insert(name.clone(), AttributeForm::Text(value.clone()))
            .is_some()
        {
            return Err(CliError::Refused(format!("attribute {name:?} is given twice")));
        }
    }
    Ok(template)
}

/// The lines that are being sent, and the number of those that have arrived.
struct Lines<'l> {
    args: &'l SendArgs,
    client: &'l HostClient,
    progress: ProgressBar,
    waiting: Vec<OutgoingForm>,
    waiting_bytes: usize,
    sent: u64,
}

fn send_lines(
    args: &SendArgs,
    template: &OutgoingForm,
    client: &HostClient,
    streams: &mut CommandStreams<'_>,
) -> Result<(), CliError> {
    let progress = progress_bar(streams.progress, "messages");
    let mut lines = Lines {
        args,
        client,
        progress,
        waiting: vec![],
        waiting_bytes: 0,
        sent: 0,
    };
    let result = lines.send_all(template, streams.input, streams.output);
    lines.progress.finish_and_clear();
    result?;
    if args.json {
        return Ok(());
    }
    let s = if lines.sent == 1 { "" } else { "s" };
    Ok(writeln!(
        streams.output,
        "sent {} message{s} to {}",
        lines.sent, args.queue
    )?)
}

/// Returns a count that goes up, for people who wait.
pub(crate) fn progress_bar(visible: bool, what: &str) -> ProgressBar {
    bar(
        visible,
        &format!("{{spinner}} {{human_pos}} {what}, {{per_sec}}, {{elapsed}}"),
    )
}

/// Returns the same of bytes.
pub(crate) fn byte_bar(visible: bool) -> ProgressBar {
    bar(visible, "{spinner} {binary_bytes}, {binary_bytes_per_sec}, {elapsed}")
}

fn bar(visible: bool, template: &str) -> ProgressBar {
    let target = if visible {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let style = ProgressStyle::with_template(template);
    let progress = ProgressBar::with_draw_target(None, target);
    progress.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    progress
}

/// Writes a line of JSON for each result.
fn write_lines(results: &[BatchResult], output: &mut dyn Write) -> io::Result<()> {
    for result in results {
        write_json_line(output, result)?;
    }
    output.flush()
}

impl Lines<'_> {
    fn send_all(
        &mut self,
        template: &OutgoingForm,
        input: &mut dyn Read,
        output: &mut dyn Write,
    ) -> Result<(), CliError> {
        let mut reader = BufReader::with_capacity(READ_BUFFER_BYTES, input);
        while let Some(line) = self.read_line(&mut reader)? {
            self.waiting_bytes += line.len();
            self.waiting.push(template.clone().with_body(line));
            // The lines of a slow producer do not wait for later ones: they are sent before reading blocks.
            let would_block = !reader.buffer().contains(&b'\n');
            if would_block || self.waiting.len() == MAX_BATCH || self.waiting_bytes >= BATCH_BODY_BYTES {
                self.flush(output)?;
            }
        }
        self.flush(output)
    }

    /// Reads the next line without its end; `None` at the end of the input.
    fn read_line(&self, reader: &mut BufReader<&mut dyn Read>) -> Result<Option<Vec<u8>>, CliError> {
        let line = BodyLine::read(reader).map_err(CliError::Input)?;
        if line.as_ref().is_some_and(BodyLine::is_too_long) {
            let number = self.next_line();
            let why = format!(
                "line {number} is longer than a message may be ({MAX_BODY_BYTES} bytes); {}",
                self.so_far()
            );
            return Err(CliError::Refused(why));
        }
        Ok(line.map(|line| line.body))
    }

    fn flush(&mut self, output: &mut dyn Write) -> Result<(), CliError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let first = self.sent + 1;
        let batch = SendBatch {
            messages: std::mem::take(&mut self.waiting),
        };
        self.waiting_bytes = 0;
        let answer = self.client.send(self.args.queue.as_str(), &batch);
        let results = answer.inspect_err(|_| self.progress.finish_and_clear())?.results;
        if self.args.json {
            self.progress.suspend(|| write_lines(&results, output))?;
        }
        let mut refused = None;
        for (number, result) in (first..).zip(results) {
            match result {
                BatchResult::Sent { .. } => self.sent += 1,
                // A final refusal tells more than a transient one.
                BatchResult::Refused { error, again } => match &refused {
                    Some((_, _, is_transient)) if !is_transient || again => {}
                    _ => refused = Some((number, error, again)),
                },
            }
        }
        self.progress.set_position(self.sent);
        match refused {
            None => Ok(()),
            Some((number, why, again)) => {
                let why = format!("line {number} was not sent: {why}; {}", self.so_far());
                Err(refusal(&why, again))
            }
        }
    }

    fn next_line(&self) -> u64 {
        self.sent
            .saturating_add(u64::try_from(self.waiting.len()).unwrap_or(u64::MAX))
            .saturating_add(1)
    }

    fn so_far(&self) -> String {
        format!("{} lines were sent", self.sent)
    }
}
