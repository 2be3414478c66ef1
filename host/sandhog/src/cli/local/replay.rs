//! `sandhog replay`: dead letters through a component here and now, and what would become of them. The sandbox and the limits are those of a
//! handler, and nothing that a guest does has an effect. Others chose every text of a letter, so it is escaped.

use std::collections::BTreeMap;

use indicatif::ProgressBar;
use serde_json::json;

use super::{
    super::{CommandStreams, ReplayArgs, send::progress_bar},
    LocalError, SHOWN_BYTES, kept_artifacts, spinner,
};
use crate::{
    admin::wire::{MAX_BATCH, MessageForm, SweepRequest},
    client::HostClient,
    config::{self, Environment},
    exit_code::ExitCode,
    trial::{ComponentTrial, TrialCode, TrialInvocation},
};
use sandhog_executor::{CallMessage, CodeTiers, Verdict};
use sandhog_queue::printable::printable;

/// The most dead letters in one answer of the host.
const PAGE: usize = 100;

/// What the letters come to, together.
#[derive(Debug, Default)]
struct ReplayTally {
    /// The ids of those that are handled now.
    handled: Vec<String>,
    /// The numbers of all, by what they were and what they are.
    changes: BTreeMap<(String, String), u64>,
    replayed: usize,
    /// The host has more than were to be replayed.
    more: bool,
}

/// `sandhog replay`.
///
/// # Errors
///
/// See [`LocalError`].
pub fn replay(
    args: &ReplayArgs,
    environment: Environment<'_>,
    streams: &mut CommandStreams<'_>,
) -> Result<ExitCode, LocalError> {
    let client = HostClient::new(&args.host.address(), config::secret_from(environment)?)?;
    let code = TrialCode {
        tiers: CodeTiers::Fast,
        artifacts: kept_artifacts(environment),
    };
    let spinner = spinner(format!("compiling {}", args.file.display()), streams.progress);
    let trial = ComponentTrial::load_for_replay(&args.file, args.manifest.as_deref(), code, args.http);
    spinner.finish_and_clear();
    let trial = trial?;
    let progress = progress_bar(streams.progress, "dead letters");
    let replayed = Replay {
        args,
        client: &client,
        trial: &trial,
        progress: &progress,
        tally: ReplayTally::default(),
    }
    .all(streams);
    progress.finish_and_clear();
    let tally = replayed?;
    let redriven = if args.redrive {
        Some(redrive(args, &client, &tally.handled)?)
    } else {
        None
    };
    summarise(args, &tally, redriven, streams)?;
    let is_whole = tally.handled.len() == tally.replayed;
    Ok(if is_whole { ExitCode::Ok } else { ExitCode::Refused })
}

/// A replay under way.
struct Replay<'r> {
    args: &'r ReplayArgs,
    client: &'r HostClient,
    trial: &'r ComponentTrial,
    progress: &'r ProgressBar,
    tally: ReplayTally,
}

impl Replay<'_> {
    /// Replays every letter that was chosen, page by page.
    fn all(mut self, streams: &mut CommandStreams<'_>) -> Result<ReplayTally, LocalError> {
        let queue = self.args.queue.as_str();
        for id in &self.args.ids {
            let letter = self.client.dead_letter(queue, id)?;
            self.one(&letter, streams)?;
        }
        if !self.args.ids.is_empty() {
            return Ok(self.tally);
        }
        // Every body contains the empty text.
        let filter = self.args.filter.as_deref().unwrap_or("body ~ \"\"");
        let mut cursor: Option<String> = None;
        loop {
            let left = self.args.limit.saturating_sub(self.tally.replayed);
            if left == 0 {
                self.tally.more = true;
                return Ok(self.tally);
            }
            let page = self
                .client
                .filtered_dead_letters(queue, filter, left.min(PAGE), cursor.as_deref())?;
            for letter in &page.dead_letters {
                self.one(letter, streams)?;
            }
            cursor = page.next;
            if !page.more || cursor.is_none() {
                return Ok(self.tally);
            }
        }
    }

    fn one(&mut self, letter: &MessageForm, streams: &mut CommandStreams<'_>) -> Result<(), LocalError> {
        let message = letter.to_message()?;
        let invocation = self.trial.call(CallMessage {
            message,
            queue: self.args.queue.clone(),
            // As after a redrive.
            receive_count: 1,
        });
        let now = outcome(&invocation);
        let before = letter
            .failure
            .as_ref()
            .map_or("unknown", |failure| failure.kind.as_str());
        self.tally.replayed += 1;
        if now == "success" {
            self.tally.handled.push(letter.id.clone());
        }
        let change = (before.to_owned(), now.to_owned());
        *self.tally.changes.entry(change).or_default() += 1;
        self.progress
            .set_position(u64::try_from(self.tally.replayed).unwrap_or(u64::MAX));
        self.progress
            .suspend(|| write_one(self.args, letter, &invocation, streams))
    }
}

/// Returns the word for what became of a letter.
fn outcome(invocation: &TrialInvocation) -> &'static str {
    match invocation.report.verdicts.first() {
        Some(Verdict::Success) => "success",
        Some(Verdict::Failed(failure)) => failure.kind.as_str(),
        Some(Verdict::NotRun(_)) | None => "not-run",
    }
}

/// Writes what became of a letter beside what had become of it.
fn write_one(
    args: &ReplayArgs,
    letter: &MessageForm,
    invocation: &TrialInvocation,
    streams: &mut CommandStreams<'_>,
) -> Result<(), LocalError> {
    let report = &invocation.report;
    let reason = match report.verdicts.first() {
        Some(Verdict::Failed(failure)) => Some(failure.reason.as_str()),
        Some(Verdict::NotRun(reason)) => Some(reason.as_str()),
        Some(Verdict::Success) | None => None,
    };
    let failure = letter.failure.as_ref();
    if args.json {
        let sends: Vec<_> = report
            .sends
            .iter()
            .map(|send| json!({ "queue": send.queue.as_str(), "body-bytes": send.message.body.len() }))
            .collect();
        let line = json!({
            "id": letter.id,
            "was": { "kind": failure.map(|failure| failure.kind), "reason": failure.map(|failure| &failure.reason) },
            "is": { "outcome": outcome(invocation), "reason": reason },
            "sends": sends,
            "writes": report.writes.len(),
            "duration-ms": report.usage.wall.as_secs_f64() * 1000.0,
            "cpu-ms": report.usage.cpu.as_secs_f64() * 1000.0,
            "memory-peak-bytes": report.usage.memory_peak,
        });
        return Ok(writeln!(streams.output, "{line}")?);
    }
    let was = failure.map_or_else(
        || "unknown".to_owned(),
        |failure| format!("{}: {}", failure.kind, printable(&failure.reason, SHOWN_BYTES)),
    );
    let now = reason.map_or_else(String::new, |reason| format!(": {}", printable(reason, SHOWN_BYTES)));
    writeln!(streams.output, "{}", printable(&letter.id, SHOWN_BYTES))?;
    writeln!(streams.output, "  was {was}")?;
    writeln!(streams.output, "  now {}{now}", outcome(invocation))?;
    for send in &report.sends {
        writeln!(
            streams.output,
            "  would send {} bytes to {}",
            send.message.body.len(),
            send.queue
        )?;
    }
    if !report.writes.is_empty() {
        writeln!(streams.output, "  would change {} keys", report.writes.len())?;
    }
    Ok(())
}

/// Puts the letters back that are handled now. Returns their number.
fn redrive(args: &ReplayArgs, client: &HostClient, ids: &[String]) -> Result<u64, LocalError> {
    let mut redriven = 0;
    for ids in ids.chunks(MAX_BATCH) {
        let request = SweepRequest {
            ids: Some(ids.to_vec()),
            ..SweepRequest::default()
        };
        redriven += client.redrive(args.queue.as_str(), &request)?.messages;
    }
    Ok(redriven)
}

fn summarise(
    args: &ReplayArgs,
    tally: &ReplayTally,
    redriven: Option<u64>,
    streams: &mut CommandStreams<'_>,
) -> Result<(), LocalError> {
    let queue = &args.queue;
    if args.json {
        let line = json!({
            "replayed": tally.replayed,
            "handled": tally.handled.len(),
            "redriven": redriven,
            "more": tally.more,
        });
        writeln!(streams.output, "{line}")?;
    } else {
        for ((was, now), number) in &tally.changes {
            writeln!(streams.output, "{number} of {}: {was}, now {now}", tally.replayed)?;
        }
        writeln!(
            streams.output,
            "{} of {} dead letters of {queue} are handled by {}",
            tally.handled.len(),
            tally.replayed,
            args.file.display()
        )?;
        if tally.more {
            writeln!(streams.output, "There are more than --limit, which were not replayed.")?;
        }
        if let Some(redriven) = redriven {
            writeln!(streams.output, "put {redriven} of them back into {queue}")?;
        }
    }
    let handled = u64::try_from(tally.handled.len()).unwrap_or(u64::MAX);
    match redriven {
        Some(redriven) if redriven < handled => Err(LocalError::Incomplete(format!(
            "{} of them were no dead letters of {queue} any more",
            handled - redriven
        ))),
        _ => Ok(()),
    }
}
