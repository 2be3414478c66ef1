//! `sandhog pause` and `resume`.

use std::io::Write;

use super::{CliError, PauseArgs, ResumeArgs, shown::time, write_answer};
use crate::client::{HaltRequest, HostClient};
use sandhog_queue::printable::{MAX_REASON_BYTES, printable};

pub(crate) fn pause(args: &PauseArgs, client: &HostClient, output: &mut dyn Write) -> Result<(), CliError> {
    let halt = client.pause(&HaltRequest {
        name: &args.name,
        is_handler: args.handler,
        reason: &args.reason,
        length: args.length,
        until: args.until.as_deref(),
    })?;
    write_answer(output, args.json, &halt, |halt| {
        let end = match halt.until_ms {
            Some(_) => format!("until {}", time(halt.until_ms)),
            None => "until it is resumed".to_owned(),
        };
        format!("{} is paused {end}.", shown(&args.name, args.handler))
    })
}

pub(crate) fn resume(args: &ResumeArgs, client: &HostClient, output: &mut dyn Write) -> Result<(), CliError> {
    let answer = client.resume(&args.name, args.handler)?;
    write_answer(output, args.json, &answer, |answer| {
        let what = shown(&args.name, args.handler);
        let still = answer.still.as_deref();
        let still = still.map(|still| printable(still, MAX_REASON_BYTES));
        match (&answer.ended, still) {
            (Some(halt), None) => format!("{what} goes on; it was paused at {}.", time(Some(halt.since_ms))),
            (Some(_), Some(still)) => format!("{what} is resumed, and stands still all the same: {still}."),
            (None, None) => format!("{what} was not paused by an operator."),
            (None, Some(still)) => format!("{what} was not paused by an operator, but {still}."),
        }
    })
}

fn shown(name: &str, is_handler: bool) -> String {
    let kind = if is_handler { "Handler" } else { "Queue" };
    format!("{kind} {}", printable(name, MAX_REASON_BYTES))
}
