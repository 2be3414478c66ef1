//! What is done with chosen dead letters: put back or deleted, request by request, or only counted.

use indicatif::ProgressBar;

use super::{
    super::{CliError, CommandStreams, DeadChoice, send::progress_bar, write_answer},
    confirm, count,
};
use crate::{
    admin::wire::{MAX_BATCH, SweepAnswer, SweepRequest},
    client::{ClientError, HostClient},
};
use sandhog_queue::{message::QueueName, printable::printable};

/// One request: which dead letters, and what becomes of them.
type Ask<'a> = &'a dyn Fn(&SweepRequest) -> Result<SweepAnswer, ClientError>;

pub(crate) fn redrive(
    choice: &DeadChoice,
    is_json: bool,
    client: &HostClient,
    streams: &mut CommandStreams<'_>,
) -> Result<(), CliError> {
    let queue = &choice.queue;
    let ask = |request: &SweepRequest| client.redrive(queue.as_str(), request);
    if choice.dry_run {
        return dry_run(choice, &ask, is_json, "put back", streams);
    }
    let redriven = each(choice, &ask, streams.progress)?;
    write_answer(streams.output, is_json, &redriven, |redriven| {
        let more = if redriven.more {
            "\nThere are more: run the command again."
        } else {
            ""
        };
        format!("put {} back into {queue}{more}", count(redriven.messages))
    })?;
    complain(choice, redriven.messages)
}

/// Asks whether dead letters are to be deleted, unless `yes` says so or none are there.
pub(crate) fn confirm_deletion(
    choice: &DeadChoice,
    yes: bool,
    client: &HostClient,
    streams: &mut CommandStreams<'_>,
) -> Result<(), CliError> {
    if choice.ids.is_empty() && choice.filter.is_none() {
        return Err(CliError::Arguments(
            "say which dead letters: give their ids, or --where FILTER; `dead purge` deletes all",
        ));
    }
    if yes || choice.dry_run {
        return Ok(());
    }
    let ask = |request: &SweepRequest| client.delete_dead(choice.queue.as_str(), request);
    let known = each(&asked(choice, true), &ask, streams.progress)?;
    if known.messages > 0 {
        confirm(&choice.queue, known.messages, streams)?;
    }
    Ok(())
}

pub(crate) fn delete(
    choice: &DeadChoice,
    is_json: bool,
    client: &HostClient,
    streams: &mut CommandStreams<'_>,
) -> Result<(), CliError> {
    let queue = &choice.queue;
    let ask = |request: &SweepRequest| client.delete_dead(queue.as_str(), request);
    if choice.dry_run {
        return dry_run(choice, &ask, is_json, "delete", streams);
    }
    let deleted = each(choice, &ask, streams.progress)?;
    write_answer(streams.output, is_json, &deleted, |deleted| {
        format!("deleted {} of {queue}", count(deleted.messages))
    })?;
    complain(choice, deleted.messages)
}

fn asked(choice: &DeadChoice, dry_run: bool) -> DeadChoice {
    DeadChoice {
        queue: choice.queue.clone(),
        ids: choice.ids.clone(),
        filter: choice.filter.clone(),
        dry_run,
    }
}

/// Says what would be done, and to which.
fn dry_run(
    choice: &DeadChoice,
    ask: Ask<'_>,
    is_json: bool,
    what: &str,
    streams: &mut CommandStreams<'_>,
) -> Result<(), CliError> {
    // Without ids and a filter all are meant, and a filter that all pass says which these are.
    let mut choice = asked(choice, true);
    if choice.ids.is_empty() && choice.filter.is_none() {
        choice.filter = Some("body ~ \"\"".to_owned());
    }
    let known = each(&choice, ask, streams.progress)?;
    write_answer(streams.output, is_json, &known, |known| {
        let colon = if known.messages == 0 { "" } else { ":" };
        let ids = known.ids.iter().flatten();
        let ids = ids.map(|id| printable(id, 64));
        let counted = format!("would {what} {}{colon}", count(known.messages));
        std::iter::once(counted).chain(ids).collect::<Vec<_>>().join("\n")
    })?;
    complain(&choice, known.messages)
}

/// Asks again and again until it is done to all that were chosen.
fn each(choice: &DeadChoice, ask: Ask<'_>, is_seen: bool) -> Result<SweepAnswer, CliError> {
    let progress = progress_bar(is_seen, "dead letters");
    let done = each_request(choice, ask, &progress);
    progress.finish_and_clear();
    done
}

fn each_request(choice: &DeadChoice, ask: Ask<'_>, progress: &ProgressBar) -> Result<SweepAnswer, CliError> {
    let mut all = SweepAnswer::default();
    let mut add = |some: SweepAnswer| {
        all.messages += some.messages;
        all.more |= some.more && some.next.is_none();
        if let Some(ids) = some.ids {
            all.ids.get_or_insert_default().extend(ids);
        }
        progress.set_position(all.messages);
    };
    let request = SweepRequest {
        filter: choice.filter.clone(),
        dry_run: choice.dry_run,
        ..SweepRequest::default()
    };
    for ids in choice.ids.chunks(MAX_BATCH) {
        add(ask(&SweepRequest {
            ids: Some(ids.to_vec()),
            ..request.clone()
        })?);
    }
    if choice.ids.is_empty() {
        let mut request = request;
        loop {
            let some = ask(&request)?;
            request.after.clone_from(&some.next);
            add(some);
            if request.after.is_none() {
                break;
            }
        }
    }
    Ok(all)
}

/// Returns the error for ids that are not those of dead letters.
fn complain(choice: &DeadChoice, done: u64) -> Result<(), CliError> {
    let asked = u64::try_from(choice.ids.len()).unwrap_or(u64::MAX);
    if done < asked {
        return Err(CliError::Refused(missing(asked - done, asked, &choice.queue)));
    }
    Ok(())
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
