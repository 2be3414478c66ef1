//! `sandhog peek`: shows messages without receiving them. Others chose every text in them, so it is escaped.

use std::io::{self, Write};

use super::{
    CliError, CommandStreams, PeekArgs,
    shown::{age, since, time},
    table::{TextColumn, TextTable},
    write_json,
};
use crate::{
    admin::wire::{AttributeForm, PeekedForm, PeekedList},
    client::HostClient,
};
use sandhog_queue::printable::printable;

/// The most messages of one request.
const PAGE: usize = 1000;
/// The bytes of a body that a row of a table shows.
const ROW_BYTES: usize = 200;
/// The messages of a command have at most so many bytes of bodies together.
const MAX_BYTES: usize = 256 * 1024 * 1024;

pub(crate) fn peek(args: &PeekArgs, client: &HostClient, streams: &mut CommandStreams<'_>) -> Result<(), CliError> {
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let mut found = PeekedList {
        messages: Vec::new(),
        more: true,
        next: args.after.clone(),
    };
    let mut bytes = 0_usize;
    while found.more && found.messages.len() < limit && bytes < MAX_BYTES {
        let left = (limit - found.messages.len()).min(PAGE);
        let page = client.peek(args.queue.as_str(), &parameters(args, left, found.next.as_deref()))?;
        bytes += page.messages.iter().map(shown_bytes).sum::<usize>();
        found.messages.extend(page.messages);
        (found.more, found.next) = (page.more, page.next);
    }
    if args.json {
        return Ok(write_json(streams.output, &found)?);
    }
    if args.id.is_some() && args.whole && streams.columns.is_none() {
        return raw(args, &found, streams.output);
    }
    if streams.columns.is_none() && found.more {
        let next = found.next.as_deref().unwrap_or_default();
        tracing::warn!(
            "there may be more messages: --limit, or --after {}",
            printable(next, 64)
        );
    }
    match streams.columns {
        None => lines(&found, streams.output)?,
        Some(_) => table(args, &found, streams)?,
    }
    Ok(())
}

fn shown_bytes(message: &PeekedForm) -> usize {
    let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    length(&message.body) + length(&message.body_base64)
}

/// Returns the parameters of a request for a page.
fn parameters(args: &PeekArgs, limit: usize, after: Option<&str>) -> Vec<(String, String)> {
    let named = [
        ("state", args.state.map(|state| state.as_str().to_owned())),
        ("contains", args.contains.clone()),
        ("id", args.id.clone()),
        ("group", args.group.clone()),
        ("older-than", args.older_than.map(duration)),
        ("newer-than", args.newer_than.map(duration)),
        ("where", args.filter.clone()),
        ("after", after.map(str::to_owned)),
        ("limit", Some(limit.to_string())),
        ("whole", args.whole.then(|| "true".to_owned())),
        ("body-limit", args.body_limit.map(|limit| limit.to_string())),
    ];
    let named = named
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let attributes = args.attributes.iter();
    named
        .chain(attributes.map(|(name, value)| (format!("attr.{name}"), value.clone())))
        .collect()
}

fn duration(duration: std::time::Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// Writes the bytes of one message's body as they are, and nothing else: `sandhog peek orders --id ID --whole > body`.
fn raw(args: &PeekArgs, found: &PeekedList, output: &mut dyn Write) -> Result<(), CliError> {
    let queue = &args.queue;
    let Some(message) = found.messages.first() else {
        return Err(CliError::Refused(format!("{queue} has no such message")));
    };
    if let Some(damage) = &message.damage {
        let damage = printable(damage, 256);
        return Err(CliError::Refused(format!("the message is damaged: {damage}")));
    }
    Ok(output.write_all(&message.shown_bytes())?)
}

/// Writes a line for each message, for other programs.
fn lines(found: &PeekedList, output: &mut dyn Write) -> io::Result<()> {
    for message in &found.messages {
        let group = message.group_id.as_deref().unwrap_or_default();
        writeln!(
            output,
            "{}\t{}\t{}\t{}\t{}\t{}",
            printable(&message.id, 64),
            printable(&message.state, 16),
            time(Some(message.sent_at_ms)),
            message.receive_count,
            printable(group, 256),
            body(message, usize::MAX)
        )?;
    }
    Ok(())
}

fn table(args: &PeekArgs, found: &PeekedList, streams: &mut CommandStreams<'_>) -> io::Result<()> {
    if found.messages.is_empty() {
        writeln!(streams.output, "{} has no such messages.", args.queue)?;
    } else if args.whole {
        for message in &found.messages {
            show(message, streams.output)?;
        }
    } else {
        rows(found, streams)?;
    }
    if found.more {
        let next = found.next.as_deref().unwrap_or_default();
        writeln!(streams.output, "There may be more: --after {}", printable(next, 64))?;
    }
    Ok(())
}

fn rows(found: &PeekedList, streams: &mut CommandStreams<'_>) -> io::Result<()> {
    let has_groups = found.messages.iter().any(|message| message.group_id.is_some());
    let mut headings = vec![
        TextColumn::Text("ID"),
        TextColumn::State("STATE"),
        TextColumn::Number("AGE"),
        TextColumn::Extra("RECEIVES"),
    ];
    if has_groups {
        headings.push(TextColumn::Cuttable("GROUP"));
    }
    headings.push(TextColumn::Cuttable("BODY"));
    let mut table = TextTable::new(headings);
    for message in &found.messages {
        let mut row = vec![
            printable(&message.id, 64),
            printable(&message.state, 16),
            age(since(message.sent_at_ms)),
            message.receive_count.to_string(),
        ];
        if has_groups {
            row.push(printable(message.group_id.as_deref().unwrap_or("-"), 256));
        }
        row.push(body(message, ROW_BYTES));
        table.row(row);
    }
    table.write(streams)
}

/// Writes all there is to know of a message.
fn show(message: &PeekedForm, output: &mut dyn Write) -> io::Result<()> {
    let mut line = |name: &str, value: &str| writeln!(output, "{name:<12}{value}");
    line("id", &printable(&message.id, 64))?;
    line("state", &printable(&message.state, 16))?;
    line("sent", &time(Some(message.sent_at_ms)))?;
    line("receives", &message.receive_count.to_string())?;
    if let Some(visible) = message.visible_at_ms {
        line("visible", &time(Some(visible)))?;
    }
    if let Some(group) = &message.group_id {
        line("group", &printable(group, 256))?;
    }
    match (&message.sent_by, &message.parent) {
        (Some(attempt), parent) => {
            let handler = printable(&attempt.handler, 256);
            let parent = printable(parent.as_deref().unwrap_or("?"), 64);
            let queue = printable(&attempt.queue, 80);
            line(
                "sent by",
                &format!("{handler} v{}, for {parent} of {queue}", attempt.version),
            )?;
        }
        (None, Some(parent)) => line("made from", &printable(parent, 64))?,
        (None, None) => {}
    }
    if let Some(queue) = &message.dead_letter_of {
        line("failed in", &printable(queue, 80))?;
        line("dead since", &time(message.dead_at_ms))?;
    }
    if let Some(failure) = &message.failure {
        line("failure", failure.kind.as_str())?;
        line("reason", &printable(&failure.reason, 4096))?;
    }
    for (name, value) in &message.attributes {
        let value = match value {
            AttributeForm::Text(text) | AttributeForm::Number(text) => printable(text, 4096),
            AttributeForm::BinaryBase64(base64) => format!("base64 {}", printable(base64, 4096)),
        };
        line("attribute", &format!("{} = {value}", printable(name, 256)))?;
    }
    line("body", &body(message, usize::MAX))?;
    writeln!(output)
}

/// Returns the body if it is text, or else its size.
fn body(message: &PeekedForm, max_bytes: usize) -> String {
    match (&message.damage, &message.body) {
        (Some(damage), _) => format!("(damaged: {})", printable(damage, 256)),
        (None, Some(text)) if message.cut => format!("{}…", printable(text, max_bytes).trim_end_matches('…')),
        (None, Some(text)) => printable(text, max_bytes),
        (None, None) => format!("({} bytes that are not text; --json shows them)", message.body_bytes),
    }
}
