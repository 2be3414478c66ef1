//! `sandhog queues`: shows the counts of the queues.

use std::io;

use super::{
    CliError, CommandStreams, QueuesArgs,
    shown::age,
    table::{TextColumn, TextTable},
    write_json,
};
use crate::{admin::wire::QueueList, client::HostClient};
use sandhog_queue::printable::{MAX_REASON_BYTES, printable, printable_lines};

pub(crate) fn queues(args: &QueuesArgs, client: &HostClient, streams: &mut CommandStreams<'_>) -> Result<(), CliError> {
    let answer = client.queues()?;
    let unknown = answer.queues.iter().filter(|queue| queue.error.is_some()).count();
    if args.json {
        write_json(streams.output, &answer)?;
    } else {
        write_table(answer, streams)?;
    }
    match unknown {
        0 => Ok(()),
        1 => Err(CliError::Transient("one queue could not be asked".to_owned())),
        _ => Err(CliError::Transient(format!("{unknown} queues could not be asked"))),
    }
}

fn write_table(answer: QueueList, streams: &mut CommandStreams<'_>) -> io::Result<()> {
    if answer.queues.is_empty() {
        return writeln!(
            streams.output,
            "The host has no queues: no handler is loaded and none is configured."
        );
    }
    let mut columns = vec![
        TextColumn::Cuttable("QUEUE"),
        TextColumn::Number("READY"),
        TextColumn::Number("IN FLIGHT"),
        TextColumn::Number("DELAYED"),
        TextColumn::Number("OLDEST"),
        TextColumn::Number("DEAD"),
        TextColumn::Extra("IN/MIN"),
        TextColumn::Extra("DONE/MIN"),
        TextColumn::Extra("FAILED/MIN"),
    ];
    // Damaged messages are rare and alarming, so only a host that has some shows the column.
    let any_damaged = answer.queues.iter().any(|queue| queue.damaged > 0);
    if any_damaged {
        columns.push(TextColumn::Number("DAMAGED"));
    }
    let mut table = TextTable::new(columns);
    let mut errors = Vec::new();
    let mut sentences = Vec::new();
    for mut queue in answer.queues {
        queue.name = printable(&queue.name, MAX_REASON_BYTES);
        if let Some(standstill) = queue.standstill.take().filter(|_| queue.error.is_none()) {
            let standstill = printable_lines(&standstill, MAX_REASON_BYTES).replace('\n', "\n  ");
            sentences.push(format!(
                "{}: {standstill}",
                streams.paint.state_of("paused", &queue.name)
            ));
        }
        if let Some(error) = queue.error {
            errors.push(error);
            let mut row = vec![queue.name];
            row.resize(if any_damaged { 10 } else { 9 }, "?".to_owned());
            table.row(row);
            continue;
        }
        let oldest = queue.oldest_age_ms.map_or_else(|| "-".to_owned(), age);
        let numbers = [queue.ready, queue.in_flight, queue.delayed].map(|number| number.to_string());
        let mut row = vec![queue.name];
        row.extend(numbers);
        row.extend([oldest, queue.dead.to_string()]);
        let minute = queue.last_minute;
        row.extend(
            [minute.arrived.unwrap_or_default(), minute.handled, minute.failed].map(|number| number.to_string()),
        );
        if any_damaged {
            row.push(queue.damaged.to_string());
        }
        table.row(row);
    }
    table.write(streams)?;
    for sentence in sentences {
        writeln!(streams.output, "{sentence}")?;
    }
    for error in errors {
        writeln!(streams.output, "{}", printable(&error, MAX_REASON_BYTES))?;
    }
    Ok(())
}
