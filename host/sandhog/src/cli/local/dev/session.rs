//! The loop of a session: save, build, serve, send, show.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs::{self, File},
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use tokio::{sync::mpsc, time::Instant};

use super::{
    super::LocalError,
    command_run::{self, CommandEnd},
    ignored::INPUT,
    inputs::{self, MAX_INPUTS},
    observed::ObservedCall,
    place::DevPlace,
    project::DevProject,
    recipe::BuildOutput,
    screen::Screen,
    sources::{ProjectSources, SourceChange},
    typed::{self, ORDERS, TypedLine},
};
use crate::{
    app::HostControls,
    handler_status::{HandlerState, HandlerStatus},
};
use sandhog_executor::{MAX_WASM_BYTES, Verdict};
use sandhog_queue::{
    Effects,
    keyvalue::{Change, KeyValueWrite, Writes},
    message::{MAX_BODY_BYTES, MessageId, Outgoing, QueueName},
};

/// The most keys that are remembered for the next start.
const MAX_KEYS: usize = 100_000;
/// The most typed messages that wait for a version that serves.
const MAX_TYPED: usize = 1000;

/// What a session works with.
#[derive(Debug)]
pub(super) struct SessionParts<'o> {
    pub(super) project: DevProject,
    pub(super) place: DevPlace,
    pub(super) host: HostControls,
    pub(super) observed: mpsc::Receiver<ObservedCall>,
    pub(super) screen: Screen<'o>,
    /// Run the tests after each start.
    pub(super) tests: bool,
}

/// One session.
pub(super) struct DevSession<'o> {
    parts: SessionParts<'o>,
    sources: ProjectSources,
    typed: mpsc::Receiver<TypedLine>,
    job: Option<Job>,
    /// The component that was built last.
    wasm: Option<Vec<u8>>,
    /// A version is on its way to serve.
    coming: Option<ComingVersion>,
    /// A version serves.
    serves: bool,
    waiting: VecDeque<WaitingMessage>,
    /// The message whose first verdict is awaited, so that messages are shown one after another.
    awaited: Option<MessageId>,
    /// The names of the messages that were sent since the start.
    names: BTreeMap<MessageId, String>,
    /// Messages of the start before, which are shown no more.
    forgotten: BTreeSet<MessageId>,
    /// Keys that were written since the start.
    written: BTreeSet<(Arc<str>, Arc<str>)>,
    /// When the file was saved that began this.
    saved_at: Instant,
    /// The first verdict since the start is still to come.
    is_first: bool,
    tests_due: bool,
}

type Run = Pin<Box<dyn Future<Output = io::Result<CommandEnd>>>>;

/// A command of the project that runs.
struct Job {
    kind: JobKind,
    run: Run,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum JobKind {
    Setup,
    Build,
    Test,
}

#[derive(Debug, Clone)]
struct ComingVersion {
    since: Instant,
    /// The digest of its component: a version that was saved before may still be on its way.
    digest: String,
    /// The counts of the handler before it came.
    versions: u64,
    refusals: u64,
}

#[derive(Debug)]
struct WaitingMessage {
    name: String,
    body: MessageBody,
}

#[derive(Debug)]
enum MessageBody {
    File(PathBuf),
    Bytes(Vec<u8>),
}

/// What happens next in a session.
enum SessionEvent {
    Saved(SourceChange),
    Ended(io::Result<CommandEnd>),
    Judged,
    Called(Option<Box<ObservedCall>>),
    Typed(Option<TypedLine>),
}

impl<'o> DevSession<'o> {
    pub(super) fn new(parts: SessionParts<'o>) -> Self {
        Self {
            sources: ProjectSources::new(&parts.project.directory),
            typed: typed::lines(),
            job: None,
            wasm: None,
            coming: None,
            serves: false,
            waiting: VecDeque::new(),
            awaited: None,
            names: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            written: BTreeSet::new(),
            saved_at: Instant::now(),
            is_first: false,
            tests_due: false,
            parts,
        }
    }

    /// Runs until `:quit`, the end of what is typed on a terminal, or until the output is closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the command of the project that runs, with all its processes.
    pub(super) async fn run(&mut self) -> Result<(), LocalError> {
        let (project, address) = (&self.parts.project, self.parts.host.address);
        let (name, kind) = (&project.name, project.recipe.kind);
        let kind = kind.map(|kind| format!("a {kind} project, ")).unwrap_or_default();
        let url = format!("http://{address}");
        let hello = format!(
            "{name}: {kind}served in memory at {url}\nEach line typed here is a message; {ORDERS}. Ctrl-C ends."
        );
        self.parts.screen.line(&hello)?;
        self.start_building(Instant::now())?;
        let is_terminal = io::stdin().is_terminal();
        let mut is_typed = true;
        loop {
            self.send_next().await?;
            let event = tokio::select! {
                change = self.sources.changed() => SessionEvent::Saved(change),
                ended = ended(self.job.as_mut()) => SessionEvent::Ended(ended),
                () = self.parts.host.statuses.judged(), if self.coming.is_some() => SessionEvent::Judged,
                call = self.parts.observed.recv() => SessionEvent::Called(call.map(Box::new)),
                line = self.typed.recv(), if is_typed => SessionEvent::Typed(line),
            };
            match event {
                SessionEvent::Saved(change) => self.saved(&change)?,
                SessionEvent::Ended(ended) => self.ended(ended)?,
                SessionEvent::Judged => self.judged().await?,
                SessionEvent::Called(Some(call)) => self.called(*call)?,
                // The host has ended, which its own task reports.
                SessionEvent::Called(None) | SessionEvent::Typed(Some(TypedLine::Quit)) => return Ok(()),
                SessionEvent::Typed(Some(line)) => self.typed(line)?,
                // Its terminal is gone, or somebody typed Ctrl-D.
                SessionEvent::Typed(None) if is_terminal => return Ok(()),
                SessionEvent::Typed(None) => is_typed = false,
            }
        }
    }

    fn saved(&mut self, change: &SourceChange) -> Result<(), LocalError> {
        let SourceChange { saved_at, files } = change;
        let first = files.first().map(|file| file.display().to_string()).unwrap_or_default();
        let more = if files.len() > 1 {
            format!(" and {} more", files.len() - 1)
        } else {
            String::new()
        };
        self.parts.screen.line(&format!("\n{first}{more} changed"))?;
        let manifest = self.parts.project.manifest.as_deref();
        let below = |path: &Path| {
            path.strip_prefix(&self.parts.project.directory)
                .ok()
                .map(Path::to_owned)
        };
        let manifest = manifest.and_then(below);
        let is_input = |file: &PathBuf| file.starts_with(INPUT);
        let is_no_source = |file: &PathBuf| is_input(file) || manifest.as_ref() == Some(file);
        // A build under way has seen the sources before this save, and what it makes is not wanted.
        let builds = self.job.as_ref().is_some_and(|job| job.kind != JobKind::Test);
        if builds || !files.iter().all(is_no_source) || self.wasm.is_none() {
            let setup = self.parts.project.recipe.setup.as_ref();
            if let Some(setup) = setup.filter(|setup| files.contains(Path::new(setup.of))) {
                return self.start_job(JobKind::Setup, setup.command.clone(), *saved_at);
            }
            return self.start_building(*saved_at);
        }
        self.saved_at = *saved_at;
        self.serve()
    }

    fn start_building(&mut self, saved_at: Instant) -> Result<(), LocalError> {
        let recipe = &self.parts.project.recipe;
        let is_half_done = self.parts.place.setup_mark().exists();
        let missing = recipe
            .setup
            .as_ref()
            .filter(|setup| is_half_done || !setup.makes.exists());
        match missing {
            Some(setup) => self.start_job(JobKind::Setup, setup.command.clone(), saved_at),
            None => self.start_job(JobKind::Build, recipe.build.clone(), saved_at),
        }
    }

    /// Starts a command. One that runs is ended first.
    fn start_job(&mut self, kind: JobKind, command: String, saved_at: Instant) -> Result<(), LocalError> {
        self.job = None;
        self.saved_at = saved_at;
        let has_answer = kind == JobKind::Build && self.parts.project.recipe.output == BuildOutput::Cargo;
        let answer = has_answer
            .then(|| File::create(self.parts.place.answer()))
            .transpose()?;
        let directory = self.parts.project.directory.clone();
        if kind == JobKind::Setup {
            File::create(self.parts.place.setup_mark())?;
            self.parts
                .screen
                .line(&format!("fetching what it depends on: {command}"))?;
        }
        self.parts.screen.under_way(kind.doing());
        let run = async move { command_run::run(command, &directory, answer).await };
        self.job = Some(Job {
            kind,
            run: Box::pin(run),
        });
        Ok(())
    }

    fn ended(&mut self, ended: io::Result<CommandEnd>) -> Result<(), LocalError> {
        let Some(job) = self.job.take() else { return Ok(()) };
        self.parts.screen.idle();
        let CommandEnd { status, output, took } = ended?;
        let took = shown(took);
        let failed = !status.success();
        match job.kind {
            JobKind::Test => {
                let how = if failed { "failed" } else { "passed" };
                self.parts.screen.line(&format!("\ntests {how} after {took}"))?;
                self.parts.screen.command_output(&output, failed)?;
            }
            JobKind::Setup | JobKind::Build if failed => {
                let what = job.kind.noun();
                self.parts
                    .screen
                    .line(&format!("{what} failed after {took} ({status})"))?;
                self.parts.screen.command_output(&output, true)?;
                let rest = if self.serves {
                    "the version before it goes on serving"
                } else {
                    "nothing serves yet"
                };
                self.parts.screen.line(rest)?;
            }
            JobKind::Setup => {
                fs::remove_file(self.parts.place.setup_mark())?;
                self.start_job(JobKind::Build, self.parts.project.recipe.build.clone(), self.saved_at)?;
            }
            JobKind::Build => {
                self.parts.screen.command_output(&output, false)?;
                self.built(&took)?;
            }
        }
        Ok(())
    }

    fn built(&mut self, took: &str) -> Result<(), LocalError> {
        let file = match self.component() {
            Ok(file) => file,
            Err(why) => return Ok(self.parts.screen.line(&why)?),
        };
        match fs::read(&file) {
            Ok(wasm) => {
                let size = bytesize::ByteSize::b(u64::try_from(wasm.len()).unwrap_or(u64::MAX));
                let shown = file.strip_prefix(&self.parts.project.directory).unwrap_or(&file);
                self.parts
                    .screen
                    .line(&format!("built in {took}: {}, {size}", shown.display()))?;
                if wasm.len() > MAX_WASM_BYTES {
                    let limit = bytesize::ByteSize::b(u64::try_from(MAX_WASM_BYTES).unwrap_or(u64::MAX));
                    return Ok(self
                        .parts
                        .screen
                        .line(&format!("it is larger than {limit}, which no host takes"))?);
                }
                self.wasm = Some(wasm);
                self.serve()
            }
            Err(error) => {
                let output = "say where the component is with --output FILE, or with output = \"FILE\" in the table [dev] of the manifest";
                let why = format!("the build left no {} ({error}): {output}", file.display());
                Ok(self.parts.screen.line(&why)?)
            }
        }
    }

    /// Returns the file of the component that was built.
    fn component(&self) -> Result<PathBuf, String> {
        match &self.parts.project.recipe.output {
            BuildOutput::File(file) => Ok(file.clone()),
            BuildOutput::Cargo => {
                let answer = fs::read_to_string(self.parts.place.answer()).unwrap_or_default();
                cargo_component(&answer).ok_or_else(|| {
                    "Cargo made no .wasm: the package needs crate-type = [\"cdylib\"], or a program".to_owned()
                })
            }
        }
    }

    /// Puts what was built, and the manifest, where the host serves it.
    fn serve(&mut self) -> Result<(), LocalError> {
        let Some(wasm) = &self.wasm else { return Ok(()) };
        let status = self.status();
        self.coming = Some(ComingVersion {
            since: Instant::now(),
            digest: sandhog_executor::digest(wasm),
            versions: status.as_ref().map_or(0, |status| status.begun),
            refusals: status.as_ref().map_or(0, |status| status.refusals),
        });
        self.parts
            .place
            .put(wasm, self.parts.project.manifest_text().as_deref())?;
        self.parts.screen.under_way("compiling (fast)");
        Ok(())
    }

    fn status(&self) -> Option<HandlerStatus> {
        self.parts.host.statuses.get(&self.parts.project.name)
    }

    /// A version was accepted or refused: perhaps the one that is coming.
    async fn judged(&mut self) -> Result<(), LocalError> {
        let (Some(coming), Some(status)) = (self.coming.clone(), self.status()) else {
            return Ok(());
        };
        let took = shown(coming.since.elapsed());
        if status.begun > coming.versions && status.digest.as_ref() == Some(&coming.digest) {
            self.coming = None;
            self.serves = true;
            self.parts.screen.idle();
            let queue = status.queue.as_ref().map(ToString::to_string).unwrap_or_default();
            self.parts
                .screen
                .line(&format!("serves the queue {queue} after another {took}"))?;
            self.start_over().await?;
        } else if status.refusals > coming.refusals {
            // A refusal that may pass is not the end of it.
            self.coming = status.is_tried_again().then_some(ComingVersion {
                refusals: status.refusals,
                ..coming
            });
            self.parts.screen.idle();
            self.parts.screen.line("refused:")?;
            let why = status.last_error.unwrap_or_default();
            let why = self.parts.place.in_words_of(&self.parts.project, &why);
            self.parts.screen.command_output(&why, true)?;
            if status.state != HandlerState::Refused {
                self.parts.screen.line("the version before it goes on serving")?;
            }
        }
        Ok(())
    }

    /// Empties the queues and the key-value store, and sends the files of `input/`.
    async fn start_over(&mut self) -> Result<(), LocalError> {
        if let Err(error) = self.parts.host.spy.reset().await {
            self.parts
                .screen
                .line(&format!("the queues could not be emptied: {error}"))?;
        }
        let delete = |(bucket, key)| KeyValueWrite {
            bucket,
            key,
            change: Change::Delete,
            condition: None,
        };
        let writes = Writes {
            namespace: self.parts.project.name.as_str().into(),
            total_bytes: u64::MAX,
            changes: std::mem::take(&mut self.written).into_iter().map(delete).collect(),
        };
        let effects = Effects {
            writes,
            ..Effects::default()
        };
        if !effects.is_empty()
            && let Err(error) = self.parts.host.store.commit(Vec::new(), effects).await
        {
            self.parts
                .screen
                .line(&format!("the key-value store could not be emptied: {error}"))?;
        }
        self.forgotten = std::mem::take(&mut self.names).into_keys().collect();
        self.awaited = None;
        self.is_first = true;
        self.tests_due = self.parts.tests;
        self.waiting
            .retain(|waiting| matches!(waiting.body, MessageBody::Bytes(_)));
        self.queue_inputs()
    }

    fn queue_inputs(&mut self) -> Result<(), LocalError> {
        let (files, more) = inputs::inputs(&self.parts.project.directory)?;
        if more {
            self.parts.screen.line(&format!(
                "input/ has more than {MAX_INPUTS} files: the first of them are sent"
            ))?;
        }
        let directory = &self.parts.project.directory;
        let messages = files.into_iter().map(|file| WaitingMessage {
            name: file.strip_prefix(directory).unwrap_or(&file).display().to_string(),
            body: MessageBody::File(file),
        });
        let typed = std::mem::take(&mut self.waiting);
        self.waiting = messages.chain(typed).collect();
        Ok(())
    }

    /// Sends the next message, unless the verdict on the one before is still to come. Starts the tests once all were sent.
    async fn send_next(&mut self) -> Result<(), LocalError> {
        while self.serves && self.coming.is_none() && self.awaited.is_none() {
            let Some(WaitingMessage { name, body }) = self.waiting.pop_front() else {
                break;
            };
            let body = match body {
                MessageBody::Bytes(bytes) => Ok(bytes),
                MessageBody::File(file) => fs::read(file),
            };
            let sent = match body {
                Ok(body) => self.send(body).await,
                Err(error) => Err(error.to_string()),
            };
            match sent {
                Ok(id) => {
                    if self.job.is_none() {
                        self.parts.screen.under_way(&format!("handling {name}"));
                    }
                    self.awaited = Some(id.clone());
                    self.names.insert(id, name);
                }
                Err(why) => self.parts.screen.line(&format!("\n{name} was not sent: {why}"))?,
            }
        }
        if self.tests_due && self.job.is_none() && self.waiting.is_empty() && self.awaited.is_none() {
            self.tests_due = false;
            self.start_tests()?;
        }
        Ok(())
    }

    async fn send(&mut self, body: Vec<u8>) -> Result<MessageId, String> {
        let queue = self
            .status()
            .and_then(|status| status.queue)
            .ok_or("the handler has no queue")?;
        let queue = self.parts.host.queues.get(&queue).ok_or("the queue is not there")?;
        let outgoing = Outgoing {
            body: body.into(),
            ..Outgoing::default()
        };
        let message = outgoing.check().map_err(|error| error.to_string())?;
        queue.send(message).await.map_err(|error| error.to_string())
    }

    fn start_tests(&mut self) -> Result<(), LocalError> {
        match self.parts.project.recipe.test.clone() {
            Some(test) => self.start_job(JobKind::Test, test, self.saved_at),
            None => Ok(self.parts.screen.line(
                "no file says how the tests are run: give the command with --test-command \"CMD\", or with test = \"CMD\" in the table [dev] of the manifest",
            )?),
        }
    }

    fn called(&mut self, mut call: ObservedCall) -> Result<(), LocalError> {
        for write in &call.invocation.report.writes {
            if self.written.len() < MAX_KEYS {
                self.written.insert((Arc::clone(&write.bucket), Arc::clone(&write.key)));
            }
        }
        let is_old = call.messages.iter().all(|message| self.forgotten.contains(&message.id));
        if is_old {
            return Ok(());
        }
        let several = call.messages.len() > 1;
        let mut ends = Vec::new();
        for (message, verdict) in call.messages.iter().zip(&call.invocation.report.verdicts) {
            if self.awaited.as_ref() == Some(&message.id) {
                self.awaited = None;
                if self.job.is_none() {
                    self.parts.screen.idle();
                }
            }
            let name = self
                .names
                .get(&message.id)
                .cloned()
                .unwrap_or_else(|| format!("message {}", message.id));
            let attempt = match message.receive_count {
                1 => String::new(),
                count => format!(", attempt {count}"),
            };
            let verdict_of_several = if several {
                format!(": {}", word(verdict))
            } else {
                String::new()
            };
            self.parts
                .screen
                .line(&format!("\n{name}{attempt}{verdict_of_several}"))?;
            ends.extend(self.end_of(&message.queue, message.receive_count, verdict));
        }
        self.parts.screen.call(&mut call)?;
        ends.dedup();
        for end in ends {
            self.parts.screen.line(&format!("  {:<10} {end}", "then"))?;
        }
        if std::mem::take(&mut self.is_first) {
            let since = shown(self.saved_at.elapsed());
            self.parts
                .screen
                .line(&format!("({since} from the save to this verdict)"))?;
        }
        Ok(())
    }

    /// Returns what becomes of a message that was not handled.
    fn end_of(&self, queue: &QueueName, receive_count: u32, verdict: &Verdict) -> Option<String> {
        let Verdict::Failed(failure) = verdict else { return None };
        let (dead, max) = self.parts.host.queues.simple(queue)?.dead_letter_queue()?;
        let is_last = receive_count >= max.get();
        Some(if failure.kind == sandhog_queue::FailureKind::Reject {
            format!("it is a dead letter in {dead}")
        } else if is_last {
            format!("that was attempt {receive_count} of {max}: it becomes a dead letter in {dead}")
        } else {
            format!("it comes again: that was attempt {receive_count} of {max}")
        })
    }

    /// Messages wait, without a word, only for a version that is on its way.
    fn say_what_waits(&mut self) -> Result<(), LocalError> {
        if !self.serves && self.coming.is_none() && self.job.is_none() && !self.waiting.is_empty() {
            let count = self.waiting.len();
            let noun = if count == 1 { "message waits" } else { "messages wait" };
            self.parts
                .screen
                .line(&format!("nothing serves: {count} {noun} for a version that does"))?;
        }
        Ok(())
    }

    fn typed(&mut self, line: TypedLine) -> Result<(), LocalError> {
        match line {
            TypedLine::Message(body) if self.waiting.len() < MAX_TYPED => {
                let name = "typed message".to_owned();
                let body = MessageBody::Bytes(body);
                self.waiting.push_back(WaitingMessage { name, body });
                self.say_what_waits()?;
            }
            TypedLine::Message(_) => self
                .parts
                .screen
                .line("too many messages wait: this one was not sent")?,
            TypedLine::TooLong => self.parts.screen.line(&format!(
                "the line is longer than a message may be ({MAX_BODY_BYTES} bytes): it was not sent"
            ))?,
            TypedLine::Send => {
                self.queue_inputs()?;
                self.say_what_waits()?;
            }
            TypedLine::Build => self.start_building(Instant::now())?,
            TypedLine::Test if self.job.is_some() => self.tests_due = true,
            TypedLine::Test => self.start_tests()?,
            TypedLine::Help => self.parts.screen.line(ORDERS)?,
            TypedLine::Unknown(line) => self.parts.screen.line(&format!("{line} is no order: {ORDERS}"))?,
            TypedLine::Quit => {}
        }
        Ok(())
    }
}

impl JobKind {
    fn doing(self) -> &'static str {
        match self {
            Self::Setup => "fetching",
            Self::Build => "building",
            Self::Test => "testing",
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Self::Setup => "fetching what it depends on",
            Self::Build => "the build",
            Self::Test => "the tests",
        }
    }
}

/// Waits for the end of a job; for ever if there is none.
async fn ended(job: Option<&mut Job>) -> io::Result<CommandEnd> {
    match job {
        Some(job) => job.run.as_mut().await,
        None => std::future::pending().await,
    }
}

/// Returns the component in what Cargo wrote: the last `.wasm` that it names.
fn cargo_component(answer: &str) -> Option<PathBuf> {
    let artifacts = answer
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut files = artifacts
        .filter(|artifact| {
            artifact
                .get("reason")
                .is_some_and(|reason| reason == "compiler-artifact")
        })
        .flat_map(|artifact| {
            let names = artifact.get("filenames").and_then(|names| names.as_array().cloned());
            let names = names.unwrap_or_default();
            names.into_iter().filter_map(|name| name.as_str().map(PathBuf::from))
        });
    files.rfind(|file| file.extension().is_some_and(|extension| extension == "wasm"))
}

fn word(verdict: &Verdict) -> &str {
    match verdict {
        Verdict::Success => "success",
        Verdict::Failed(failure) => failure.kind.as_str(),
        Verdict::NotRun(_) => "not run",
    }
}

/// Returns a time for people.
fn shown(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_component_is_the_last_that_cargo_names() {
        let answer = "{\"reason\":\"compiler-artifact\",\"filenames\":[\"/t/libserde.rlib\"]}\n\
                      {\"reason\":\"compiler-artifact\",\"filenames\":[\"/t/a.wasm\",\"/t/liba.rlib\"]}\n\
                      {\"reason\":\"build-finished\",\"success\":true}\n";
        assert_eq!(cargo_component(answer), Some(PathBuf::from("/t/a.wasm")));
        assert_eq!(cargo_component("not JSON\n"), None);
    }
}
