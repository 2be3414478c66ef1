//! `sandhog deploy`: puts a component into the plugin directory of the running host, and waits for what becomes of it.
//!
//! Invariant: a deploy that is stopped before its files are in place leaves nothing behind. One that is stopped later only ends the
//! waiting: the rollout is the host's. Files that the host refuses for good are not left in its directory.

use std::{io::Write, path::Path, sync::Arc, time::Duration};

use indicatif::ProgressBar;
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep_until},
};

use self::{
    host::{DeployHost, PlacedFiles, joined},
    report::DeployReport,
    watch::{DeployEnd, DeployWatch},
};
use super::{CliError, CommandStreams, DeployArgs, arguments::handler_name, spinner::spinner};
use crate::{
    client::HostClient,
    exit_code::ExitCode,
    plugin_dir::{self, FileLook, FileReadError, MAX_MANIFEST_BYTES},
    signals::{HostSignals, SignalOrder},
    staged::{EarlierFiles, HandlerBytes, StagedFiles},
};
use sandhog_executor::MAX_WASM_BYTES;
use sandhog_queue::printable::{MAX_REASON_BYTES, chain, printable};

mod host;
mod report;
mod watch;

/// The time between two looks at the host.
const LOOK_EVERY: Duration = Duration::from_millis(250);

pub(crate) fn deploy(
    args: &DeployArgs,
    client: HostClient,
    streams: &mut CommandStreams<'_>,
) -> Result<ExitCode, CliError> {
    let bytes = read_files(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CliError::Process)?;
    let ended = runtime.block_on(run(args, bytes, Arc::new(client), streams));
    // A request that is under way need not be waited for.
    runtime.shutdown_background();
    ended
}

/// Reads the files that are deployed.
fn read_files(args: &DeployArgs) -> Result<HandlerBytes, CliError> {
    let name = if let Some(name) = &args.name {
        name.clone()
    } else {
        let stem = args.file.file_stem().and_then(|stem| stem.to_str());
        let unfit = "the file's name can't be that of a handler: name one with --name";
        handler_name(stem.unwrap_or_default()).map_err(|_| CliError::Arguments(unfit))?
    };
    let wasm = read(&args.file, MAX_WASM_BYTES)?;
    let beside = args.file.with_extension("toml");
    let manifest = match &args.manifest {
        Some(given) => Some(read(given, MAX_MANIFEST_BYTES)?),
        None if FileLook::at(&beside).is_none() => None,
        None => Some(read(&beside, MAX_MANIFEST_BYTES)?),
    };
    if manifest.is_some() && name == plugin_dir::HOST_CONFIGURATION {
        return Err(CliError::Arguments(
            "a manifest sandhog.toml could replace the host's own configuration: choose another name with --name",
        ));
    }
    Ok(HandlerBytes { name, wasm, manifest })
}

/// Reads a file as the host does, without waiting for a writer.
fn read(file: &Path, max_bytes: usize) -> Result<Vec<u8>, CliError> {
    let unread = |why: &str| CliError::Refused(format!("{} can't be read: {why}", file.display()));
    match plugin_dir::read(file, max_bytes) {
        Ok(content) => Ok(content.bytes),
        Err(FileReadError::Gone) => Err(unread("there is no such file")),
        Err(FileReadError::BeingWritten) => Err(unread("somebody is writing it")),
        Err(FileReadError::Trouble(trouble)) => Err(unread(&trouble.reason)),
    }
}

async fn run(
    args: &DeployArgs,
    bytes: HandlerBytes,
    client: Arc<HostClient>,
    streams: &mut CommandStreams<'_>,
) -> Result<ExitCode, CliError> {
    let mut signals = HostSignals::new().map_err(CliError::Process)?;
    let host = DeployHost::find(client, bytes.name.clone()).await?;
    host.refuse_taken_queue(&bytes)?;
    let before = host.look(None).await?;
    let until = Instant::now() + args.timeout;
    let (bytes, directory) = (Arc::new(bytes), host.plugins().path().to_owned());
    let to_write = Arc::clone(&bytes);
    let mut write = spawn_blocking(move || StagedFiles::write(&directory, &to_write));
    let (written, stopped) = tokio::select! {
        // The files have to be there to be removed.
        code = stop(&mut signals) => ((&mut write).await, Some(code)),
        written = &mut write => (written, None),
    };
    let staged = joined(written)?;
    if let Some(code) = stopped {
        return Ok(code);
    }
    let earlier = staged.keep_earlier()?;
    staged.put_into_place()?;
    let placed = host.placed(&bytes)?;
    let mut waiting = DeployWaiting {
        watch: DeployWatch::new(placed.files.clone(), &before),
        report: DeployReport::new(&placed.files, args.json),
        host,
        placed,
        earlier,
        spinner: spinner("{spinner} {wide_msg}", streams.progress),
    };
    waiting.say(&[placed_sentence(&bytes, &waiting.host)], streams.output)?;
    let ended = tokio::select! {
        code = stop(&mut signals) => Err(code),
        ended = waiting.end(until, streams.output) => Ok(ended),
    };
    waiting.spinner.finish_and_clear();
    if ended.is_err() {
        waiting.say(&[goes_on(&waiting.watch)], streams.output)?;
    }
    waiting
        .report
        .write(ended.as_ref().ok().map(Result::as_ref), streams.output)?;
    match ended {
        Ok(ended) => ended.map(|()| ExitCode::Ok),
        Err(code) => Ok(code),
    }
}

fn placed_sentence(bytes: &HandlerBytes, host: &DeployHost) -> String {
    let name = printable(&bytes.name, MAX_REASON_BYTES);
    let manifest = if bytes.manifest.is_some() {
        format!(" and {name}.toml")
    } else {
        String::new()
    };
    let directory = host.plugins().path().display().to_string();
    format!(
        "put {name}.wasm{manifest} into {}",
        printable(&directory, MAX_REASON_BYTES)
    )
}

fn goes_on(watch: &DeployWatch) -> String {
    format!("{}; the rollout goes on without this command", watch.standing())
}

/// A deploy whose files are in place.
struct DeployWaiting {
    host: DeployHost,
    placed: PlacedFiles,
    earlier: EarlierFiles,
    watch: DeployWatch,
    report: DeployReport,
    spinner: ProgressBar,
}

impl DeployWaiting {
    /// Looks at the host until the version is proven or not, or the time is up.
    async fn end(&mut self, until: Instant, output: &mut dyn Write) -> Result<(), CliError> {
        let mut is_silent = false;
        loop {
            match self.host.look(Some(&self.placed)).await {
                Ok(view) => {
                    is_silent = false;
                    let (lines, end) = self.watch.saw(&view);
                    self.report.saw(view.versions);
                    self.say(&lines, output)?;
                    match end {
                        None => {}
                        Some(DeployEnd::Serves(text)) => return self.say(&[text], output),
                        Some(DeployEnd::Refused(text)) => return Err(CliError::Refused(text)),
                        Some(DeployEnd::Unfit(text)) => return Err(CliError::Refused(self.take_back(&text))),
                        Some(DeployEnd::WentBack(text)) => return Err(CliError::RolledBack(text)),
                    }
                }
                // A host that is started again goes on with the rollout.
                Err(error) if error.exit_code() == ExitCode::Unavailable => {
                    if !is_silent {
                        self.say(&[format!("{error}; waiting for it")], output)?;
                    }
                    is_silent = true;
                }
                Err(error) => return Err(error.into()),
            }
            if Instant::now() >= until {
                return Err(CliError::Undecided(goes_on(&self.watch)));
            }
            self.spinner.set_message(self.watch.standing().to_owned());
            sleep_until(until.min(Instant::now() + LOOK_EVERY)).await;
        }
    }

    /// Puts the earlier files back in place of those that the host refused, so that the directory shows what serves, also to the next
    /// start of the host. Returns the sentence with what was done. No message is lost in either case: the version that serves goes on,
    /// and without one the messages wait.
    fn take_back(&mut self, refused: &str) -> String {
        let name = printable(self.host.name(), MAX_REASON_BYTES);
        match self.earlier.put_back() {
            Ok(true) => format!("{refused}\nthe earlier files of {name} are back in the plugin directory"),
            Ok(false) => {
                format!("{refused}\nits files were taken out of the plugin directory, which had none of {name} before")
            }
            Err(error) => format!(
                "{refused}\nsome of its files are still in the plugin directory, because the earlier ones can't be put back: {}; \
                 the rest of these is kept there under hidden names that end with .before",
                chain(&error)
            ),
        }
    }

    fn say(&mut self, lines: &[String], output: &mut dyn Write) -> Result<(), CliError> {
        self.spinner.suspend(|| self.report.say(lines, output))?;
        Ok(())
    }
}

/// Waits for an order to stop.
async fn stop(signals: &mut HostSignals) -> ExitCode {
    match signals.next().await {
        SignalOrder::Stop(code) => code,
        // The terminal is gone.
        SignalOrder::Look | SignalOrder::Nothing | SignalOrder::Failed => ExitCode::Terminated,
    }
}
