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
    let redriven = each(choice, &ask, None, streams.progress)?;
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

pub(crate) fn delete(
    choice: &DeadChoice,
    yes: bool,
    is_json: bool,
    client: &HostClient,
    streams: &mut CommandStreams<'_>,
) -> Result<(), CliError> {
    if choice.ids.is_empty() && choice.filter.is_none() {
        return Err(CliError::Arguments(
            "say which dead letters: give their ids, or --where FILTER; `dead purge` deletes all",
        ));
    }
    let ask = |request: &SweepRequest| client.delete_dead(choice.queue.as_str(), request);
    if choice.dry_run {
        return dry_run(choice, &ask, is_json, "delete", streams);
    }
    delete_with(choice, yes, is_json, &ask, streams)
}

/// Deletes the dead letters; without `yes` a person says so first, and then those that were counted for the question are meant and no
/// others.
fn delete_with(
    choice: &DeadChoice,
    yes: bool,
    is_json: bool,
    ask: Ask<'_>,
    streams: &mut CommandStreams<'_>,
) -> Result<(), CliError> {
    let queue = &choice.queue;
    let mut counted = None;
    if !yes {
        let known = each(&asked(choice, true), ask, None, streams.progress)?;
        if known.messages > 0 {
            confirm(queue, known.messages, streams)?;
        }
        counted = known.counted;
    }
    let was_counted = counted.is_some();
    let deleted = each(choice, ask, counted, streams.progress)?;
    write_answer(streams.output, is_json, &deleted, |deleted| {
        let others = if was_counted {
            "\nThose that came after the count are untouched."
        } else {
            ""
        };
        format!("deleted {} of {queue}{others}", count(deleted.messages))
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
    let known = each(&choice, ask, None, streams.progress)?;
    write_answer(streams.output, is_json, &known, |known| {
        let colon = if known.messages == 0 { "" } else { ":" };
        let ids = known.ids.iter().flatten();
        let ids = ids.map(|id| printable(id, 64));
        let counted = format!("would {what} {}{colon}", count(known.messages));
        std::iter::once(counted).chain(ids).collect::<Vec<_>>().join("\n")
    })?;
    complain(&choice, known.messages)
}

/// Asks again and again until it is done to all that were chosen, and with `counted` to those of a count.
fn each(choice: &DeadChoice, ask: Ask<'_>, counted: Option<String>, is_seen: bool) -> Result<SweepAnswer, CliError> {
    let progress = progress_bar(is_seen, "dead letters");
    let done = each_request(choice, ask, counted, &progress);
    progress.finish_and_clear();
    done
}

fn each_request(
    choice: &DeadChoice,
    ask: Ask<'_>,
    counted: Option<String>,
    progress: &ProgressBar,
) -> Result<SweepAnswer, CliError> {
    let mut all = SweepAnswer::default();
    let mut add = |some: SweepAnswer| {
        all.messages += some.messages;
        all.more |= some.more && some.next.is_none();
        all.counted = all.counted.take().or(some.counted);
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
        let mut request = SweepRequest {
            after: counted,
            ..request
        };
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

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::cli::test_streams;

    fn choice(ids: &[&str], filter: Option<&str>) -> DeadChoice {
        DeadChoice {
            queue: QueueName::new("orders").unwrap(),
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            filter: filter.map(str::to_owned),
            dry_run: false,
        }
    }

    /// Deletes with a person who types `typed`, and returns what was asked of the host and shown.
    fn deleted(choice: &DeadChoice, typed: &str, yes: bool) -> (Vec<SweepRequest>, String) {
        let requests = RefCell::new(Vec::new());
        let ask = |request: &SweepRequest| {
            requests.borrow_mut().push(request.clone());
            let is_first = request.after.is_none();
            Ok(SweepAnswer {
                messages: 1,
                // A count, as well as a deletion, takes two requests.
                next: (request.filter.is_some() && (is_first || request.after.as_deref() == Some("start")))
                    .then(|| "second".to_owned()),
                counted: (request.dry_run && request.filter.is_some())
                    .then(|| if is_first { "start" } else { "second" }.to_owned()),
                ..SweepAnswer::default()
            })
        };
        // Whoever says no gets an error.
        let (_, output) = test_streams::asked(typed, |streams| delete_with(choice, yes, false, &ask, streams));
        (requests.into_inner(), output)
    }

    fn shape(requests: &[SweepRequest]) -> Vec<(bool, Option<&str>)> {
        requests
            .iter()
            .map(|request| (request.dry_run, request.after.as_deref()))
            .collect()
    }

    #[test]
    fn the_dead_letters_that_were_counted_are_deleted_and_those_that_came_later_are_not() {
        let all = choice(&[], Some("kind = trap"));
        let (requests, shown) = deleted(&all, "y\n", false);
        let expected = [
            (true, None),
            (true, Some("second")),
            (false, Some("start")),
            (false, Some("second")),
        ];
        assert_eq!(shape(&requests), expected);
        assert!(
            shown.contains("his deletes 2 dead letters of orders for good")
                && shown.contains("after the count are untouched"),
            "{shown}"
        );
        let (requests, shown) = deleted(&all, "n\n", false);
        assert_eq!(shape(&requests), expected[..2], "{shown}");
        let (requests, shown) = deleted(&all, "", true);
        assert_eq!(shape(&requests), [(false, None), (false, Some("second"))]);
        assert!(!shown.contains("untouched"), "nothing was counted before: {shown}");
    }

    #[test]
    fn ids_say_by_themselves_which_dead_letters_are_meant() {
        let (requests, shown) = deleted(&choice(&["a"], None), "y\n", false);
        assert_eq!(shape(&requests), [(true, None), (false, None)]);
        assert!(!shown.contains("untouched"), "{shown}");
    }
}
