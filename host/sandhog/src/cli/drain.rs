//! `sandhog drain`: orders that no handler receives, and waits until nothing is in flight.
//!
//! Invariant: the drain is the host's. Whatever becomes of this command, the host goes on draining until somebody ends that.

use std::time::Duration;

use indicatif::ProgressBar;
use tokio::time::Instant;

use super::{CliError, CommandStreams, DrainArgs, shown::time, spinner::spinner, write_answer, write_json};
use crate::{
    admin::wire::DrainForm,
    client::{ClientError, HostClient},
    standing::in_flight,
};
use sandhog_queue::printable::{MAX_REASON_BYTES, printable};

/// The longest wait of one request: a person sees news so often.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub(crate) fn drain(args: &DrainArgs, client: &HostClient, streams: &mut CommandStreams<'_>) -> Result<(), CliError> {
    if args.end {
        let ended = client.end_drain()?;
        return write_answer(streams.output, args.json, &ended, |ended| match ended.since_ms {
            Some(_) => format!(
                "handlers receive again; the host drained since {}",
                time(ended.since_ms)
            ),
            None => "the host did not drain".to_owned(),
        });
    }
    let began = Instant::now();
    let spinner = spinner("{spinner} {wide_msg} {elapsed}", streams.progress);
    let waited = wait(client, args.timeout.map(|timeout| began + timeout), &spinner);
    spinner.finish_and_clear();
    let form = waited?;
    if args.json {
        write_json(streams.output, &form)?;
    }
    if !form.drained {
        let in_flight = shown(&form);
        return Err(CliError::Undrained(format!("{in_flight}; the host goes on draining")));
    }
    if !args.json {
        let seconds = began.elapsed().as_secs_f64();
        writeln!(
            streams.output,
            "drained after {seconds:.1} s: nothing is in flight, and no handler receives until `sandhog drain --end` or a restart"
        )?;
    }
    Ok(())
}

/// Orders the drain, and waits until nothing is in flight or the time is up.
fn wait(client: &HostClient, until: Option<Instant>, spinner: &ProgressBar) -> Result<DrainForm, CliError> {
    let mut form = client.drain()?;
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        if form.drained || left.is_some_and(|left| left.is_zero()) {
            return Ok(form);
        }
        if form.since_ms.is_none() && !form.stopping {
            return Err(CliError::Refused(
                "somebody has ended the drain: handlers receive again".to_owned(),
            ));
        }
        spinner.set_message(format!("draining: {}", shown(&form)));
        let look = left.map_or(LOOK_EVERY, |left| left.min(LOOK_EVERY));
        form = client.drained(look).map_err(gone)?;
    }
}

/// Says that the host was there before.
fn gone(error: ClientError) -> CliError {
    match error {
        ClientError::NoHost { .. } | ClientError::NoAnswer { .. } => CliError::Transient(
            "the host has ended before it was known to be drained: its log says how; a host that is started again receives".to_owned(),
        ),
        error @ (ClientError::Address(_) | ClientError::Refused { .. } | ClientError::Foreign { .. }) => error.into(),
    }
}

fn shown(form: &DrainForm) -> String {
    let names: Vec<(String, u64)> = form
        .in_flight
        .iter()
        .map(|held| (printable(&held.handler, MAX_REASON_BYTES), held.messages))
        .collect();
    in_flight(names.iter().map(|(name, messages)| (name.as_str(), *messages)))
}
