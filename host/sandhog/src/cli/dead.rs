//! `sandhog dead`: lists, shows, redrives and purges dead letters. Others chose every text in them, so it is escaped.

use std::io::{self, Write};

use super::{
    CliError, DeadCommand,
    shown::time,
    table::{TextColumn, TextTable},
    write_json,
};
use crate::{
    admin::wire::{AttributeForm, DeadLetterList, MessageForm},
    client::HostClient,
};
use sandhog_queue::{
    message::QueueName,
    printable::{printable, printable_lines},
};

pub(crate) fn dead(command: &DeadCommand, client: &HostClient, output: &mut dyn Write) -> Result<(), CliError> {
    match command {
        DeadCommand::List {
            queue,
            limit,
            after,
            json,
            ..
        } => {
            let answer = client.dead_letters(queue.as_str(), *limit, after.as_deref())?;
            if *json {
                Ok(write_json(output, &answer)?)
            } else {
                Ok(list(queue, &answer, output)?)
            }
        }
        DeadCommand::Show { queue, id, json, .. } => {
            let letter = client.dead_letter(queue.as_str(), id)?;
            if *json {
                Ok(write_json(output, &letter)?)
            } else {
                Ok(show(&letter, output)?)
            }
        }
        DeadCommand::Redrive { queue, ids, .. } => {
            let asked = u64::try_from(ids.len()).unwrap_or(u64::MAX);
            let answer = client.redrive(queue.as_str(), (asked > 0).then(|| ids.clone()))?;
            let redriven = answer.messages;
            writeln!(output, "put {} back into {queue}", count(redriven))?;
            if answer.more {
                writeln!(output, "There are more: run the command again.")?;
            }
            if redriven < asked {
                return Err(CliError::Refused(missing(asked - redriven, asked, queue)));
            }
            Ok(())
        }
        DeadCommand::Purge { queue, yes: false, .. } => {
            let queues = client.queues()?.queues;
            let dead = queues
                .iter()
                .find(|candidate| candidate.name == queue.as_str())
                .map_or(0, |found| found.dead);
            Err(CliError::NotConfirmed {
                queue: queue.clone(),
                dead,
            })
        }
        DeadCommand::Purge { queue, yes: true, .. } => {
            let purged = client.purge_dead(queue.as_str())?.messages;
            Ok(writeln!(output, "deleted {} of {queue}", count(purged))?)
        }
    }
}

/// Returns the error for ids that are not those of dead letters. One id has a sentence of its own.
fn missing(missing: u64, asked: u64, queue: &QueueName) -> String {
    match (missing, asked) {
        (_, 1) => format!("this id is not that of a dead letter of {queue}"),
        (1, _) => format!("1 of the {asked} ids is not that of a dead letter of {queue}"),
        (all, asked) if all == asked => format!("none of the {asked} ids is that of a dead letter of {queue}"),
        _ => format!("{missing} of the {asked} ids are not those of dead letters of {queue}"),
    }
}

pub(crate) fn count(letters: u64) -> String {
    if letters == 1 {
        "1 dead letter".to_owned()
    } else {
        format!("{letters} dead letters")
    }
}

fn list(queue: &QueueName, page: &DeadLetterList, output: &mut dyn Write) -> io::Result<()> {
    let letters = &page.dead_letters;
    let Some(last) = letters.last() else {
        return writeln!(output, "{queue} has no dead letters.");
    };
    let mut table = TextTable::new(vec![
        TextColumn::Text("ID"),
        TextColumn::Text("DEAD SINCE"),
        TextColumn::Number("RECEIVES"),
        TextColumn::Text("FAILURE"),
        TextColumn::Text("REASON"),
        TextColumn::Text("BODY"),
    ]);
    for letter in letters {
        let failure = letter.failure.as_ref();
        table.row(vec![
            printable(&letter.id, 64),
            time(letter.dead_at_ms),
            letter.receive_count.to_string(),
            failure.map_or("-", |failure| failure.kind.as_str()).to_owned(),
            failure.map_or_else(|| "-".to_owned(), |failure| first_line(&failure.reason)),
            body(letter, 48),
        ]);
    }
    table.write(output)?;
    if page.more {
        writeln!(output, "There may be more: --after {}", printable(&last.id, 64))?;
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
    format!("{}{more}", printable(first, 48))
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
