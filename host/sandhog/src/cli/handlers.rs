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
use sandhog_queue::printable::{MAX_REASON_BYTES, printable};

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
        ]);
    }
    table.write(streams)?;
    for handler in &list.handlers {
        let fallback = handler.last_error.as_deref().filter(|_| handler.fallback);
        let fallback =
            fallback.map(|why| format!("the version that served last serves, because its file was refused: {why}"));
        let sentences = [handler.standstill.clone(), fallback];
        for sentence in sentences.into_iter().flatten() {
            let sentence = printable(&sentence, MAX_REASON_BYTES);
            writeln!(streams.output, "{}: {sentence}", cell(&handler.name))?;
        }
    }
    Ok(())
}

/// Returns the state in one word. A pause is one, whoever has ordered it: the sentence tells who.
fn state(handler: &HandlerForm) -> &str {
    if handler.halt.is_some() {
        "paused"
    } else {
        &handler.state
    }
}

fn cell(text: &str) -> String {
    printable(text, MAX_CELL_BYTES)
}
