//! `sandhog tail`: attempts as they end.

use super::{CliError, CommandStreams, TailArgs, attempt_lines::AttemptLines, write_json_line};
use crate::{
    client::{HostClient, HostEvent},
    journal::JournalFilter,
};

pub(crate) fn tail(args: &TailArgs, client: &HostClient, streams: &mut CommandStreams<'_>) -> Result<(), CliError> {
    let (paint, output) = (streams.paint, &mut *streams.output);
    let filter = JournalFilter {
        handler: args.handler.clone(),
        queue: args.queue.as_ref().map(|queue| queue.as_str().to_owned()),
        message: args.message.clone(),
        outcome: args.outcome.clone(),
        failed: args.failed,
        version: None,
    };
    if let Some(handler) = &args.handler {
        // A name that nobody has would be waited for in silence.
        client.check_handler(handler)?;
    }
    let mut is_empty = true;
    for event in client.events(&filter, args.last, !args.no_follow)? {
        let event = event.map_err(|error| CliError::Transient(format!("the host has ended the events: {error}")))?;
        is_empty = false;
        match event {
            HostEvent::Attempt(entry) if args.json => {
                write_json_line(output, &entry)?;
            }
            HostEvent::Attempt(entry) => AttemptLines { output, paint }.entry(&entry)?,
            HostEvent::Missed(attempts) if args.json => writeln!(output, "{{\"missed\":{attempts}}}")?,
            HostEvent::Missed(attempts) => writeln!(output, "... {attempts} attempts came too fast to be shown")?,
        }
        output.flush()?;
    }
    if args.no_follow {
        if is_empty && !args.json {
            writeln!(
                output,
                "No such attempt is kept. A host that was started again begins with none, unless [journal] in sandhog.toml says durable = true."
            )?;
        }
        return Ok(());
    }
    Err(CliError::Transient("the host has ended the events".to_owned()))
}
