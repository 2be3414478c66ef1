//! `sandhog dead`: lists, shows, redrives and purges dead letters. Others chose every text in them, so it is escaped.

use std::io::{self, Write};

use super::{
    CliError, CommandStreams, DeadCommand, confirmation,
    shown::{age, since, time},
    table::{TextColumn, TextTable},
    write_answer, write_json,
};
use crate::{
    admin::wire::{AttributeForm, DeadLetterList, MessageForm},
    client::HostClient,
    config::Environment,
};
use sandhog_queue::{
    message::QueueName,
    printable::{MAX_REASON_BYTES, printable, printable_lines},
};

mod chosen;
mod edit;

/// A terminal that is narrower than this has no room for the bodies.
const WITH_BODIES: usize = 110;

pub(crate) fn dead(
    command: &DeadCommand,
    client: &HostClient,
    environment: Environment<'_>,
    streams: &mut CommandStreams<'_>,
) -> Result<(), CliError> {
    match command {
        DeadCommand::List {
            queue,
            limit,
            after,
            filter,
            json,
            ..
        } => {
            let answer = match filter {
                Some(filter) => filtered(queue, filter, *limit, client, after.clone())?,
                None => client.dead_letters(queue.as_str(), *limit, after.as_deref())?,
            };
            if *json {
                return Ok(write_json(streams.output, &answer)?);
            }
            let filtered = filter.is_some();
            Ok(list(queue, &answer, filtered, streams)?)
        }
        DeadCommand::Show { queue, id, json, .. } => {
            let letter = client.dead_letter(queue.as_str(), id)?;
            if *json {
                Ok(write_json(streams.output, &letter)?)
            } else {
                Ok(show(&letter, streams.output)?)
            }
        }
        DeadCommand::Redrive { choice, json, .. } => chosen::redrive(choice, *json, client, streams),
        DeadCommand::Delete { choice, yes, json, .. } => chosen::delete(choice, *yes, *json, client, streams),
        DeadCommand::Edit(args) => edit::edit(args, client, environment, streams),
        DeadCommand::Purge { queue, yes, json, .. } => {
            if !yes {
                // Those that come until then go as well.
                let now = dead_of(queue, client)?;
                let what = format!("this deletes all dead letters of {queue} for good ({now} now)");
                confirmation::confirm(&what, streams)?;
            }
            let purged = client.purge_dead(queue.as_str())?;
            write_answer(streams.output, *json, &purged, |purged| {
                format!("deleted {} of {queue}", count(purged.messages))
            })
        }
    }
}

/// Lists dead letters that pass a filter, page by page, because a page can end early.
fn filtered(
    queue: &QueueName,
    filter: &str,
    limit: u16,
    client: &HostClient,
    after: Option<String>,
) -> Result<DeadLetterList, CliError> {
    let limit = usize::from(limit);
    let mut found = DeadLetterList {
        dead_letters: Vec::new(),
        more: true,
        next: after,
        counted: None,
    };
    while found.more && found.dead_letters.len() < limit {
        let left = limit - found.dead_letters.len();
        let page = client.filtered_dead_letters(queue.as_str(), filter, left, found.next.as_deref())?;
        found.dead_letters.extend(page.dead_letters);
        (found.more, found.next) = (page.more, page.next);
    }
    Ok(found)
}

fn dead_of(queue: &QueueName, client: &HostClient) -> Result<u64, CliError> {
    let queues = client.queues()?.queues;
    let found = queues.iter().find(|candidate| candidate.name == queue.as_str());
    Ok(found.map_or(0, |found| found.dead))
}

/// Asks a person whether to delete dead letters; where there is nobody to ask, `--yes` is needed.
fn confirm(queue: &QueueName, dead: u64, streams: &mut CommandStreams<'_>) -> Result<(), CliError> {
    confirmation::confirm(&format!("this deletes {} of {queue} for good", count(dead)), streams)
}

pub(crate) fn count(letters: u64) -> String {
    if letters == 1 {
        "1 dead letter".to_owned()
    } else {
        format!("{letters} dead letters")
    }
}

fn list(queue: &QueueName, page: &DeadLetterList, filtered: bool, streams: &mut CommandStreams<'_>) -> io::Result<()> {
    let letters = &page.dead_letters;
    let columns = streams.columns;
    let Some(last) = letters.last() else {
        let such = if filtered { "such " } else { "" };
        return writeln!(streams.output, "{queue} has no {such}dead letters.");
    };
    // A narrow terminal shows what fits, and a pipe gets all of it.
    let with_bodies = columns.is_none_or(|columns| columns >= WITH_BODIES);
    let mut headings = vec![
        TextColumn::Text("ID"),
        TextColumn::Text(if columns.is_some() { "DEAD FOR" } else { "DEAD SINCE" }),
        TextColumn::Extra("RECEIVES"),
        TextColumn::State("FAILURE"),
        TextColumn::Cuttable("REASON"),
    ];
    headings.extend(with_bodies.then_some(TextColumn::Cuttable("BODY")));
    let mut table = TextTable::new(headings);
    for letter in letters {
        let failure = letter.failure.as_ref();
        let dead = match (columns, letter.dead_at_ms) {
            (Some(_), Some(at)) => age(since(at)),
            (None, at) | (Some(_), at @ None) => time(at),
        };
        let mut row = vec![
            printable(&letter.id, 64),
            dead,
            letter.receive_count.to_string(),
            failure.map_or("-", |failure| failure.kind.as_str()).to_owned(),
            failure.map_or_else(|| "-".to_owned(), |failure| first_line(&failure.reason)),
        ];
        row.extend(with_bodies.then(|| body(letter, 48)));
        table.row(row);
    }
    table.write(streams)?;
    if page.more {
        // With a filter the host says where the list goes on, and without one the last letter does.
        let place = page.next.as_ref().unwrap_or(&last.id);
        writeln!(streams.output, "There may be more: --after {}", printable(place, 64))?;
    }
    Ok(())
}

fn show(letter: &MessageForm, output: &mut dyn Write) -> io::Result<()> {
    let mut line = |name: &str, value: &str| writeln!(output, "{name:<12}{value}");
    line("id", &printable(&letter.id, 64))?;
    line("queue", &printable(&letter.queue, 80))?;
    line("sent", &time(Some(letter.sent_at_ms)))?;
    line("dead since", &time(letter.dead_at_ms))?;
    line("receives", &letter.receive_count.to_string())?;
    if let Some(group) = &letter.group_id {
        line("group", &printable(group, 256))?;
    }
    if let Some(failure) = &letter.failure {
        line("failure", failure.kind.as_str())?;
        for (number, text) in printable_lines(&failure.reason, 4096).lines().enumerate() {
            line(if number == 0 { "reason" } else { "" }, text)?;
        }
        line("handler", &printable(&failure.handler, 256))?;
        line("component", &printable(&failure.component, 80))?;
    }
    for (name, value) in &letter.attributes {
        let value = match value {
            AttributeForm::Text(text) | AttributeForm::Number(text) => printable(text, 4096),
            AttributeForm::BinaryBase64(base64) => format!("base64 {}", printable(base64, 4096)),
        };
        line("attribute", &format!("{} = {value}", printable(name, 256)))?;
    }
    line("body", &body(letter, usize::MAX))
}

/// Returns the first line of a reason; `dead show` has the others.
fn first_line(reason: &str) -> String {
    let (first, more) = reason.split_once('\n').map_or((reason, ""), |(first, _)| (first, " …"));
    format!("{}{more}", printable(first, MAX_REASON_BYTES))
}

/// Returns the body if it is text, or else its size.
fn body(letter: &MessageForm, max_bytes: usize) -> String {
    match &letter.body {
        Some(text) => printable(text, max_bytes),
        None => format!(
            "({} bytes that are not text; --json shows them)",
            letter.body_bytes().len()
        ),
    }
}
