//! `sandhog purge` and `delete`: what is gone for good, so a person is asked before.

use super::{CliError, CommandStreams, DeleteArgs, PurgeArgs, confirmation::confirm, write_answer};
use crate::{admin::wire::QueueForm, client::HostClient};
use sandhog_queue::{
    message::QueueName,
    printable::{MAX_REASON_BYTES, printable},
};

pub(crate) fn purge(args: &PurgeArgs, client: &HostClient, streams: &mut CommandStreams<'_>) -> Result<(), CliError> {
    let queue = &args.queue;
    if !args.yes {
        let counts = counts_of(queue, client)?;
        // Those that come until then go as well.
        let now = counts.ready + counts.delayed;
        let what = format!("this deletes all messages of {queue} that are not in flight for good ({now} now)");
        confirm(&what, streams)?;
    }
    let deleted = client.purge(queue.as_str())?;
    write_answer(streams.output, args.json, &deleted, |deleted| {
        format!("deleted {} of {queue}", messages(deleted.messages))
    })
}

pub(crate) fn delete(args: &DeleteArgs, client: &HostClient, streams: &mut CommandStreams<'_>) -> Result<(), CliError> {
    let queue = &args.queue;
    if !args.yes {
        // Nobody is asked about what can't be done.
        let here = client.delete_queue(queue.as_str(), args.with_messages, true)?.messages;
        let with = if args.with_messages {
            format!(" with {}", messages(here))
        } else {
            String::new()
        };
        confirm(&format!("this deletes queue {queue}{with} for good"), streams)?;
    }
    let deleted = client.delete_queue(queue.as_str(), args.with_messages, false)?;
    write_answer(streams.output, args.json, &deleted, |deleted| {
        let names = deleted.queues.iter().map(|name| printable(name, MAX_REASON_BYTES));
        let with = match deleted.messages {
            0 => String::new(),
            number => format!(", with {}", messages(number)),
        };
        format!("deleted {}{with}", names.collect::<Vec<_>>().join(" and "))
    })
}

fn counts_of(queue: &QueueName, client: &HostClient) -> Result<QueueForm, CliError> {
    Ok(client.queue(queue.as_str())?)
}

fn messages(number: u64) -> String {
    match number {
        1 => "1 message".to_owned(),
        _ => format!("{number} messages"),
    }
}
