//! `sandhog replay`: dead letters, or messages that wait, through a component here and now, and what would become of them. The sandbox and
//! the limits are those of a handler, and nothing that a guest does has an effect. Others chose every text of a message, so it is escaped.

use std::collections::BTreeMap;

use indicatif::ProgressBar;
use serde_json::json;

use super::{
    super::{CommandStreams, ReplayArgs, send::progress_bar, write_json_line},
    LocalError, SHOWN_BYTES, kept_artifacts, spinner,
};
use crate::{
    admin::wire::{MAX_BATCH, MessageForm, PeekedForm, ReplayedForm, SweepRequest},
    client::HostClient,
    config::{self, Environment},
    exit_code::ExitCode,
    trial::{ComponentTrial, TrialCode},
};
use sandhog_executor::{CallMessage, CodeTiers};
use sandhog_queue::{FailureRecord, message::Message, printable::printable};

mod source;

use self::source::ReplaySource;

/// The most messages in one answer of the host.
const PAGE: usize = 100;

/// A message that is replayed.
struct ReplayedMessage {
    message: Message,
    /// How it failed before, if it did.
    failure: Option<FailureRecord>,
    /// What it is if it has not failed as far as is known.
    otherwise: String,
}

/// What the messages come to, together.
#[derive(Debug, Default)]
struct ReplayTally {
    /// The ids of those that are handled now.
    handled: Vec<String>,
    /// The numbers of all, by what they were and what they are.
    changes: BTreeMap<(String, String), u64>,
    replayed: usize,
    /// Those that are damaged, and were not replayed.
    damaged: usize,
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
        urgent: true,
    };
    let source = ReplaySource::of(args, &client)?;
    let spinner = spinner(format!("compiling {source}"), streams.progress);
    let trial = ComponentTrial::load_for_replay(source.component(), code, args.http);
    spinner.finish_and_clear();
    let trial = trial?;
    let progress = progress_bar(streams.progress, args.what());
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
    summarise(args, &source, &tally, redriven, streams)?;
    let is_whole = tally.handled.len() == tally.replayed && tally.damaged == 0;
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
    /// Replays every message that was chosen, page by page.
    fn all(mut self, streams: &mut CommandStreams<'_>) -> Result<ReplayTally, LocalError> {
        for id in &self.args.ids {
            let named = self.named(id)?;
            self.one(&named, streams)?;
        }
        if !self.args.ids.is_empty() {
            return Ok(self.tally);
        }
        let mut after: Option<String> = None;
        loop {
            let left = self.args.limit.saturating_sub(self.tally.replayed);
            if left == 0 {
                self.tally.more = true;
                return Ok(self.tally);
            }
            let (page, next) = self.page(left.min(PAGE), after.as_deref())?;
            for message in &page {
                self.one(message, streams)?;
            }
            after = next;
            if after.is_none() {
                return Ok(self.tally);
            }
        }
    }

    fn named(&self, id: &str) -> Result<ReplayedMessage, LocalError> {
        let queue = self.args.queue.as_str();
        if !self.args.messages {
            return self.client.dead_letter(queue, id)?.try_into();
        }
        self.client.peek_one(queue, id)?.try_into()
    }

    /// Returns a page of messages, and where the next one goes on, if there may be one.
    fn page(
        &mut self,
        limit: usize,
        after: Option<&str>,
    ) -> Result<(Vec<ReplayedMessage>, Option<String>), LocalError> {
        let queue = self.args.queue.as_str();
        let (page, more, next): (Result<Vec<_>, _>, _, _) = if self.args.messages {
            let mut parameters = vec![("limit", limit.to_string()), ("whole", "true".to_owned())];
            parameters.extend(self.args.filter.clone().map(|filter| ("where", filter)));
            parameters.extend(after.map(|after| ("after", after.to_owned())));
            let parameters: Vec<_> = parameters
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect();
            let page = self.client.peek(queue, &parameters)?;
            let (damaged, whole): (Vec<_>, Vec<_>) =
                page.messages.into_iter().partition(|message| message.damage.is_some());
            self.tally.damaged += damaged.len();
            (whole.into_iter().map(TryInto::try_into).collect(), page.more, page.next)
        } else {
            // Every body contains the empty text.
            let filter = self.args.filter.as_deref().unwrap_or("body ~ \"\"");
            let page = self.client.filtered_dead_letters(queue, filter, limit, after)?;
            let letters = page.dead_letters.into_iter();
            (letters.map(TryInto::try_into).collect(), page.more, page.next)
        };
        Ok((page?, next.filter(|_| more)))
    }

    fn one(&mut self, replayed: &ReplayedMessage, streams: &mut CommandStreams<'_>) -> Result<(), LocalError> {
        let invocation = self.trial.call(CallMessage {
            message: replayed.message.clone(),
            queue: self.args.queue.clone(),
            // As after a redrive.
            receive_count: 1,
        });
        let failure = replayed.failure.as_ref();
        let form = ReplayedForm::new(&replayed.message.id, failure, &invocation.report);
        let now = form.is.outcome.as_str();
        let before = failure.map_or(replayed.otherwise.as_str(), |failure| failure.kind.as_str());
        self.tally.replayed += 1;
        if form.is_handled() {
            self.tally.handled.push(replayed.message.id.to_string());
        }
        let change = (before.to_owned(), now.to_owned());
        *self.tally.changes.entry(change).or_default() += 1;
        self.progress
            .set_position(u64::try_from(self.tally.replayed).unwrap_or(u64::MAX));
        self.progress.suspend(|| write_one(self.args, replayed, &form, streams))
    }
}

impl ReplayArgs {
    /// Returns what is replayed, in the words of people.
    fn what(&self) -> &'static str {
        if self.messages { "messages" } else { "dead letters" }
    }
}

impl TryFrom<MessageForm> for ReplayedMessage {
    type Error = LocalError;

    fn try_from(letter: MessageForm) -> Result<Self, LocalError> {
        Ok(Self {
            message: letter.to_message()?,
            failure: letter.failure,
            otherwise: "unknown".to_owned(),
        })
    }
}

impl TryFrom<PeekedForm> for ReplayedMessage {
    type Error = LocalError;

    fn try_from(peeked: PeekedForm) -> Result<Self, LocalError> {
        if let Some(damage) = &peeked.damage {
            let id = printable(&peeked.id, SHOWN_BYTES);
            return Err(LocalError::Incomplete(format!("message {id} is damaged: {damage}")));
        }
        Ok(Self {
            message: peeked.to_message()?,
            failure: peeked.failure,
            otherwise: peeked.state,
        })
    }
}

/// Writes what became of a message beside what had become of it.
fn write_one(
    args: &ReplayArgs,
    replayed: &ReplayedMessage,
    form: &ReplayedForm,
    streams: &mut CommandStreams<'_>,
) -> Result<(), LocalError> {
    if args.json {
        return Ok(write_json_line(streams.output, form)?);
    }
    let was = replayed.failure.as_ref().map_or_else(
        || replayed.otherwise.clone(),
        |failure| format!("{}: {}", failure.kind, printable(&failure.reason, SHOWN_BYTES)),
    );
    let reason = form.is.reason.as_deref();
    let now = reason.map_or_else(String::new, |reason| format!(": {}", printable(reason, SHOWN_BYTES)));
    writeln!(streams.output, "{}", printable(&form.id, SHOWN_BYTES))?;
    writeln!(streams.output, "  was {was}")?;
    writeln!(streams.output, "  now {}{now}", form.is.outcome)?;
    for send in &form.sends {
        writeln!(
            streams.output,
            "  would send {} bytes to {}",
            send.body_bytes, send.queue
        )?;
    }
    if form.more_sends > 0 {
        writeln!(streams.output, "  would send {} messages more", form.more_sends)?;
    }
    if form.writes > 0 {
        writeln!(streams.output, "  would change {} keys", form.writes)?;
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
    source: &ReplaySource,
    tally: &ReplayTally,
    redriven: Option<u64>,
    streams: &mut CommandStreams<'_>,
) -> Result<(), LocalError> {
    let queue = &args.queue;
    if args.json {
        let line = json!({
            "replayed": tally.replayed,
            "handled": tally.handled.len(),
            "damaged": tally.damaged,
            "redriven": redriven,
            "more": tally.more,
        });
        write_json_line(streams.output, &line)?;
    } else {
        for ((was, now), number) in &tally.changes {
            writeln!(streams.output, "{number} of {}: {was}, now {now}", tally.replayed)?;
        }
        writeln!(
            streams.output,
            "{} of {} {} of {queue} are handled by {source}",
            tally.handled.len(),
            tally.replayed,
            args.what()
        )?;
        if tally.damaged > 0 {
            writeln!(streams.output, "{} are damaged, and were not replayed.", tally.damaged)?;
        }
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
