//! `sandhog versions`, `rollback` and `promote`. Guests and the files of others chose many texts in them, so these are escaped.

use std::io::{self, Write};

use bytesize::ByteSize;

use super::{
    CliError, CommandStreams, PromoteArgs, RollbackArgs, VersionsArgs,
    shown::{age, millis, percent, time},
    table::{TextColumn, TextTable},
    write_answer, write_json,
};
use crate::{
    admin::wire::{HandlerList, ProbationForm, VersionForm, VersionList},
    client::HostClient,
};
use sandhog_queue::printable::{MAX_REASON_BYTES, printable, printable_lines};

/// The longest word, name or path in a cell, in bytes.
const MAX_CELL_BYTES: usize = 256;

pub(crate) fn versions(
    args: &VersionsArgs,
    client: &HostClient,
    streams: &mut CommandStreams<'_>,
) -> Result<(), CliError> {
    let Some(name) = &args.name else {
        let list = client.handlers()?;
        let written = if args.json {
            write_json(streams.output, &list)
        } else {
            write_handlers(&list, streams)
        };
        return Ok(written?);
    };
    let list = client.versions(name)?;
    let written = if args.json {
        write_json(streams.output, &list)
    } else {
        write_versions(&list, streams)
    };
    Ok(written?)
}

pub(crate) fn roll_back(args: &RollbackArgs, client: &HostClient, output: &mut dyn Write) -> Result<(), CliError> {
    let list = client.roll_back(&args.name, args.version)?;
    write_answer(output, args.json, &list, serving_sentence)
}

pub(crate) fn promote(args: &PromoteArgs, client: &HostClient, output: &mut dyn Write) -> Result<(), CliError> {
    let list = client.promote(&args.name)?;
    write_answer(output, args.json, &list, serving_sentence)
}

fn write_handlers(list: &HandlerList, streams: &mut CommandStreams<'_>) -> io::Result<()> {
    if list.handlers.is_empty() {
        return writeln!(streams.output, "The host has no handlers.");
    }
    let mut table = TextTable::new(vec![
        TextColumn::Cuttable("HANDLER"),
        TextColumn::Cuttable("QUEUE"),
        TextColumn::State("HANDLER STATE"),
        TextColumn::Number("VERSION"),
        TextColumn::State("STATE"),
        TextColumn::Text("PROBATION"),
        TextColumn::Text("COMPONENT"),
    ]);
    let cell = |text: &Option<String>| printable(text.as_deref().unwrap_or("-"), MAX_CELL_BYTES);
    for handler in &list.handlers {
        let is_served = handler.version > 0;
        table.row(vec![
            printable(&handler.name, MAX_CELL_BYTES),
            cell(&handler.queue),
            printable(&handler.state, MAX_CELL_BYTES),
            if is_served {
                handler.version.to_string()
            } else {
                "-".to_owned()
            },
            cell(&handler.version_state),
            cell(&handler.probation),
            handler.digest.as_deref().map_or_else(|| "-".to_owned(), short),
        ]);
    }
    table.write(streams)
}

/// Returns the beginning of a digest, which tells components apart.
fn short(digest: &str) -> String {
    let beginning: String = digest.chars().take(12).collect();
    printable(&beginning, MAX_CELL_BYTES)
}

fn write_versions(list: &VersionList, streams: &mut CommandStreams<'_>) -> io::Result<()> {
    if list.versions.is_empty() {
        let name = printable(&list.handler, MAX_CELL_BYTES);
        writeln!(
            streams.output,
            "No version of {name} has been accepted yet: `sandhog handlers` says why."
        )?;
    } else {
        version_table(list).write(streams)?;
    }
    for version in list.versions.iter().filter(|version| version.reason.is_some()) {
        let reason = version.reason.as_deref().unwrap_or_default();
        writeln!(
            streams.output,
            "version {} ({}): {}",
            version.number,
            printable(&version.state, MAX_CELL_BYTES),
            printable(reason, MAX_REASON_BYTES)
        )?;
    }
    let sentences = list
        .probation
        .as_ref()
        .map(|probation| probation_sentence(list, probation));
    for sentence in sentences.into_iter().chain(note(list)) {
        writeln!(streams.output, "{sentence}")?;
    }
    Ok(())
}

fn version_table(list: &VersionList) -> TextTable {
    let mut table = TextTable::new(vec![
        TextColumn::Number("VERSION"),
        TextColumn::State("STATE"),
        TextColumn::Text("ACCEPTED"),
        TextColumn::Extra("SERVED"),
        TextColumn::Number("CALLS"),
        TextColumn::Number("BROKE"),
        TextColumn::Extra("P50"),
        TextColumn::Extra("P99"),
        TextColumn::Extra("CPU"),
        TextColumn::Extra("MEMORY"),
        TextColumn::Cuttable("FILE"),
    ]);
    for version in &list.versions {
        table.row(vec![
            version.number.to_string(),
            state(list, version),
            time(Some(version.accepted_at_ms)),
            age(version.served_ms),
            version.calls.to_string(),
            version.breaks.to_string(),
            millis(version.p50_ms),
            millis(version.p99_ms),
            millis(version.cpu_ms_mean),
            ByteSize::b(version.memory_peak_bytes).display().iec().to_string(),
            printable(&version.file, MAX_CELL_BYTES),
        ]);
    }
    table
}

/// Returns the state of a version, and what its place in the rollout is.
fn state(list: &VersionList, version: &VersionForm) -> String {
    let state = printable(&version.state, MAX_CELL_BYTES);
    let is_predecessor = list.predecessor == Some(version.number) && list.probation.is_some();
    let place = if is_predecessor { ", stands by" } else { "" };
    match version.rollback_of {
        Some(older) => format!("{state}{place} (as {older})"),
        None => format!("{state}{place}"),
    }
}

/// Says what serves a handler now.
fn serving_sentence(list: &VersionList) -> String {
    let name = printable(&list.handler, MAX_CELL_BYTES);
    let Some(serving) = list.serving else {
        return format!("no version serves {name}");
    };
    let form = list.versions.iter().find(|version| version.number == serving);
    let older = form.and_then(|version| version.rollback_of);
    let older = older.map(|older| format!(" (the component of version {older}, under the newest manifest)"));
    let probation = match list.state.as_deref() {
        Some("probation") => ", on probation",
        _ => "",
    };
    format!(
        "version {serving}{} serves {name}{probation}",
        older.unwrap_or_default()
    )
}

/// Says how the version that serves proves itself.
pub(crate) fn probation_sentence(list: &VersionList, probation: &ProbationForm) -> String {
    let newer = list
        .serving
        .map_or_else(|| "the newest version".to_owned(), |number| format!("version {number}"));
    let older = list
        .predecessor
        .map_or_else(|| "its predecessor".to_owned(), |number| format!("version {number}"));
    let counts = format!(
        "{} of its {} calls broke, and {} of {} of {older}",
        probation.newer_breaks, probation.newer_calls, probation.predecessor_breaks, probation.predecessor_calls
    );
    let share = if probation.share < 1.0 {
        format!("; it gets {} of the messages", percent(probation.share))
    } else {
        String::new()
    };
    match probation.stage.as_str() {
        "probation" => format!("{newer} is on probation: {}; {counts}{share}", progress(probation)),
        "doubt" => format!("{newer} is in doubt: {counts}{share}"),
        "watching" => format!("{newer} is proven, and watched: {counts}; {older} is still kept"),
        other => format!("{newer} is in the stage {}: {counts}", printable(other, MAX_CELL_BYTES)),
    }
}

/// Returns how far a probation is, such as `120 of 300 calls, 2m of 10m`.
pub(crate) fn progress(probation: &ProbationForm) -> String {
    format!(
        "{} of {} calls, {} of {}",
        probation.calls,
        probation.calls_wanted,
        age(probation.elapsed_ms),
        age(probation.time_ms)
    )
}

/// Returns what the host says to operators about the versions.
pub(crate) fn note(list: &VersionList) -> Option<String> {
    list.note.as_deref().map(|note| printable_lines(note, MAX_REASON_BYTES))
}

#[cfg(test)]
mod tests;
