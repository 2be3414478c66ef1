//! `sandhog handlers`: shows the handlers, and below them why one stands still. Guests and the files of others chose many texts, so
//! these are escaped.

use std::io;

use super::{
    CliError, CommandStreams, HandlersArgs,
    table::{TextColumn, TextTable},
    write_json,
};
use crate::{
    admin::wire::{HandlerForm, HandlerList},
    client::HostClient,
};
use sandhog_queue::printable::{MAX_REASON_BYTES, printable, printable_lines};

/// The longest name or word in a cell, in bytes.
const MAX_CELL_BYTES: usize = 256;

pub(crate) fn handlers(
    args: &HandlersArgs,
    client: &HostClient,
    streams: &mut CommandStreams<'_>,
) -> Result<(), CliError> {
    let list = client.handlers()?;
    let written = if args.json {
        write_json(streams.output, &list)
    } else {
        write_table(&list, streams)
    };
    Ok(written?)
}

fn write_table(list: &HandlerList, streams: &mut CommandStreams<'_>) -> io::Result<()> {
    if list.handlers.is_empty() {
        return writeln!(streams.output, "The host has no handlers.");
    }
    let mut table = TextTable::new(vec![
        TextColumn::Cuttable("HANDLER"),
        TextColumn::Cuttable("QUEUE"),
        TextColumn::State("STATE"),
        TextColumn::Number("VERSION"),
        TextColumn::Number("IN FLIGHT"),
        TextColumn::Extra("CALLS"),
        TextColumn::Extra("BROKE"),
        TextColumn::Extra("DONE/MIN"),
        TextColumn::Extra("FAILED/MIN"),
    ]);
    for handler in &list.handlers {
        let version = match handler.version {
            0 => "-".to_owned(),
            number => number.to_string(),
        };
        let slots = match handler.slots {
            0 => handler.in_flight.to_string(),
            slots => format!("{}/{slots}", handler.in_flight),
        };
        table.row(vec![
            cell(&handler.name),
            cell(handler.queue.as_deref().unwrap_or("-")),
            cell(state(handler)),
            version,
            slots,
            handler.calls.to_string(),
            handler.breaks.to_string(),
            handler.last_minute.handled.to_string(),
            handler.last_minute.failed.to_string(),
        ]);
    }
    table.write(streams)?;
    for handler in &list.handlers {
        for sentence in [handler.standstill.clone(), instead(handler)].into_iter().flatten() {
            // The lines of a reason can be ones to copy.
            let sentence = printable_lines(&sentence, MAX_REASON_BYTES).replace('\n', "\n  ");
            let name = streams.paint.state_of(state(handler), &cell(&handler.name));
            writeln!(streams.output, "{name}: {sentence}")?;
        }
    }
    Ok(())
}

/// Says why another version serves than the one in the plugin directory.
fn instead(handler: &HandlerForm) -> Option<String> {
    let why = handler.last_error.as_deref().filter(|_| handler.version > 0)?;
    let version = handler.version;
    Some(if handler.fallback {
        format!(
            "version {version}, which served last, serves, because the files in the plugin directory were refused: {why}"
        )
    } else {
        format!("version {version} serves, and not the files in the plugin directory: {why}")
    })
}

/// Returns the state in one word. A pause is one, whoever has ordered it: the sentence tells who.
fn state(handler: &HandlerForm) -> &str {
    let receives = ["serving", "paused"].contains(&handler.state.as_str());
    if handler.draining && receives {
        "draining"
    } else if handler.halt.is_some() {
        "paused"
    } else {
        &handler.state
    }
}

fn cell(text: &str) -> String {
    printable(text, MAX_CELL_BYTES)
}
