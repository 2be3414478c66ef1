//! The command line: the arguments, and the commands that ask a running host.
//!
//! Invariant: no command prints or ends the process by itself. It writes to the given streams and returns an exit code.

use std::{
    io::{self, Read, Write},
    path::PathBuf,
};

use crate::{
    client::{ClientError, HostClient},
    config::{self, ConfigErrors, DEFAULT_LISTEN, Environment},
    exit_code::ExitCode,
};
use sandhog_queue::{message::MAX_BODY_BYTES, printable::printable_json};

mod arguments;
mod attempt_lines;
mod backup;
mod body_line;
mod confirmation;
mod dead;
mod deletions;
mod deploy;
mod drain;
mod editor;
mod generated;
mod handlers;
mod health;
pub mod local;
mod new;
mod paint;
mod pauses;
mod peek;
mod profile;
mod queues;
mod reloading;
mod send;
mod shown;
mod spinner;
mod table;
mod tail;
#[cfg(test)]
mod test_streams;
mod trace;
mod versions;

pub use self::arguments::{
    AttemptsCommand, BackupArgs, CheckArgs, Cli, ColorChoice, Command, CompactArgs, CompletionsArgs, DeadChoice,
    DeadCommand, DeleteArgs, DeployArgs, DevArgs, DrainArgs, EditArgs, Feature, GeneratedCommand, HandlersArgs,
    HealthArgs, HostArgs, InvokeArgs, Language, ManArgs, NewArgs, PauseArgs, PeekArgs, ProfileArgs, PromoteArgs,
    PurgeArgs, QueuesArgs, ReloadArgs, ReplayArgs, ResumeArgs, RollbackArgs, RunArgs, SendArgs, SteeringCommand,
    TailArgs, TraceArgs, VersionsArgs,
};
pub use self::paint::Paint;
pub use self::{backup::BackupError, editor::EditorError, new::NewError};
pub use crate::staged::StagingError;

/// The streams of a command.
#[expect(missing_debug_implementations, reason = "streams have no form to show")]
pub struct CommandStreams<'s> {
    /// Standard input.
    pub input: &'s mut dyn Read,
    /// Standard output.
    pub output: &'s mut dyn Write,
    /// A person sees standard error, so a command may draw its progress there.
    pub progress: bool,
    /// The width of the terminal on which a person sees standard output, in characters; `None` if it is none.
    pub columns: Option<usize>,
    /// Whether standard output gets colours.
    pub paint: Paint,
    /// A person sees standard output and types on standard input, so a command may ask.
    pub asks: bool,
}

/// The reason why a command was not carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CliError {
    /// The environment is wrong.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// See [`ClientError`].
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The host refused a part of the request, or the answer can't be that of a host.
    #[error("{0}")]
    Refused(String),
    /// The host can't carry out a part of the request now; the request is not the reason.
    #[error("{0}; try again later")]
    Transient(String),
    /// The arguments do not go together.
    #[error("{0}")]
    Arguments(&'static str),
    /// A destructive command that nobody has confirmed.
    #[error("{0}")]
    Unconfirmed(String),
    /// A person was asked, and did not want it.
    #[error("nothing was done")]
    Declined,
    /// See [`EditorError`].
    #[error(transparent)]
    Editor(#[from] EditorError),
    /// A file could not be read.
    #[error("cannot read {path}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// See [`NewError`].
    #[error(transparent)]
    New(#[from] NewError),
    /// The host went back from the version that was deployed.
    #[error("{0}")]
    RolledBack(String),
    /// The time was up before the version that was deployed was proven or not.
    #[error("the time is up: {0}")]
    Undecided(String),
    /// The time was up, and something is in flight.
    #[error("the time is up: {0}")]
    Undrained(String),
    /// A file could not be put into the plugin directory.
    #[error(transparent)]
    Staging(#[from] StagingError),
    /// See [`BackupError`].
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// Threads or signal handlers could not be set up.
    #[error("the process could not be set up")]
    Process(#[source] io::Error),
    /// Standard input could not be read.
    #[error("cannot read standard input")]
    Input(#[source] io::Error),
    /// Standard output could not be written.
    #[error("cannot write to standard output")]
    Output(#[from] io::Error),
}

impl CliError {
    /// Returns the exit code of the command.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_) => ExitCode::Config,
            Self::Client(error) => error.exit_code(),
            // The reader of the output has closed it.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::Ok,
            Self::Backup(error) => error.exit_code(),
            Self::Transient(_) => ExitCode::Unavailable,
            Self::RolledBack(_) => ExitCode::RolledBack,
            Self::Undecided(_) => ExitCode::Undecided,
            Self::Undrained(_) => ExitCode::Undrained,
            Self::Process(_) => ExitCode::Internal,
            Self::New(NewError::Name(_) | NewError::Taken { .. } | NewError::Program { .. })
            | Self::Unconfirmed(_)
            | Self::Arguments(_) => ExitCode::Usage,
            Self::Declined
            | Self::Editor(_)
            | Self::File { .. }
            | Self::Refused(_)
            | Self::Staging(_)
            | Self::New(_)
            | Self::Input(_)
            | Self::Output(_) => ExitCode::Refused,
        }
    }
}

/// `sandhog send`.
///
/// # Errors
///
/// See [`CliError`].
pub fn send(args: &SendArgs, environment: Environment<'_>, streams: &mut CommandStreams<'_>) -> Result<(), CliError> {
    send::send(args, &args.host.client(environment)?, streams)
}

/// `sandhog new`.
///
/// # Errors
///
/// See [`CliError`].
pub fn new_project(args: &NewArgs, streams: &mut CommandStreams<'_>) -> Result<(), CliError> {
    Ok(new::new(args, streams.output)?)
}

/// `sandhog queues`.
///
/// # Errors
///
/// See [`CliError`].
pub fn queues(
    args: &QueuesArgs,
    environment: Environment<'_>,
    streams: &mut CommandStreams<'_>,
) -> Result<(), CliError> {
    queues::queues(args, &args.host.client(environment)?, streams)
}

/// `sandhog peek`.
///
/// # Errors
///
/// See [`CliError`].
pub fn peek(args: &PeekArgs, environment: Environment<'_>, streams: &mut CommandStreams<'_>) -> Result<(), CliError> {
    peek::peek(args, &args.host.client(environment)?, streams)
}

/// The commands with which an operator steers a host.
///
/// # Errors
///
/// See [`CliError`].
pub fn steer(
    command: &SteeringCommand,
    environment: Environment<'_>,
    streams: &mut CommandStreams<'_>,
) -> Result<(), CliError> {
    let client = command.host().client(environment)?;
    match command {
        SteeringCommand::Handlers(args) => handlers::handlers(args, &client, streams),
        SteeringCommand::Profile(args) => profile::profile(args, &client, streams),
        SteeringCommand::Pause(args) => pauses::pause(args, &client, streams.output),
        SteeringCommand::Resume(args) => pauses::resume(args, &client, streams.output),
        SteeringCommand::Drain(args) => drain::drain(args, &client, streams),
        SteeringCommand::Purge(args) => deletions::purge(args, &client, streams),
        SteeringCommand::Delete(args) => deletions::delete(args, &client, streams),
        SteeringCommand::Reload(args) => reloading::reload(args, &client, streams.output),
    }
}

/// `sandhog backup`.
///
/// # Errors
///
/// See [`CliError`].
pub fn backup(
    args: &BackupArgs,
    environment: Environment<'_>,
    streams: &mut CommandStreams<'_>,
) -> Result<(), CliError> {
    backup::backup(args, &args.host.client(environment)?, streams)
}

/// `sandhog health`. The exit code says whether the host is ready.
///
/// # Errors
///
/// See [`CliError`].
pub fn health(
    args: &HealthArgs,
    environment: Environment<'_>,
    streams: &mut CommandStreams<'_>,
) -> Result<ExitCode, CliError> {
    let secret = config::secret_from(environment)?;
    let client = HostClient::for_probes(&args.host.address(), secret, args.timeout)?;
    health::health(args, &client, streams.output)
}

/// `sandhog versions`.
///
/// # Errors
///
/// See [`CliError`].
pub fn versions(
    args: &VersionsArgs,
    environment: Environment<'_>,
    streams: &mut CommandStreams<'_>,
) -> Result<(), CliError> {
    versions::versions(args, &args.host.client(environment)?, streams)
}

/// `sandhog rollback`.
///
/// # Errors
///
/// See [`CliError`].
pub fn roll_back(
    args: &RollbackArgs,
    environment: Environment<'_>,
    streams: &mut CommandStreams<'_>,
) -> Result<(), CliError> {
    versions::roll_back(args, &args.host.client(environment)?, streams.output)
}

/// `sandhog promote`.
///
/// # Errors
///
/// See [`CliError`].
pub fn promote(
    args: &PromoteArgs,
    environment: Environment<'_>,
    streams: &mut CommandStreams<'_>,
) -> Result<(), CliError> {
    versions::promote(args, &args.host.client(environment)?, streams.output)
}

/// `sandhog tail` and `sandhog trace`.
///
/// # Errors
///
/// See [`CliError`].
pub fn attempts(
    command: &AttemptsCommand,
    environment: Environment<'_>,
    streams: &mut CommandStreams<'_>,
) -> Result<(), CliError> {
    match command {
        AttemptsCommand::Tail(args) => tail::tail(args, &args.host.client(environment)?, streams),
        AttemptsCommand::Trace(args) => trace::trace(args, &args.host.client(environment)?, streams),
    }
}

/// `sandhog completions` and `sandhog man`.
///
/// # Errors
///
/// See [`CliError`].
pub fn generate(command: &GeneratedCommand, streams: &mut CommandStreams<'_>) -> Result<(), CliError> {
    match command {
        GeneratedCommand::Completions(args) => generated::completions(args, streams),
        GeneratedCommand::Man(args) => generated::man(args),
    }
}

/// `sandhog deploy`. The exit code is that of a deploy that was told to stop waiting, or 0.
///
/// # Errors
///
/// See [`CliError`].
pub fn deploy(
    args: &DeployArgs,
    environment: Environment<'_>,
    streams: &mut CommandStreams<'_>,
) -> Result<ExitCode, CliError> {
    deploy::deploy(args, args.host.client(environment)?, streams)
}

/// `sandhog dead`.
///
/// # Errors
///
/// See [`CliError`].
pub fn dead(
    command: &DeadCommand,
    environment: Environment<'_>,
    streams: &mut CommandStreams<'_>,
) -> Result<(), CliError> {
    dead::dead(command, &command.host().client(environment)?, environment, streams)
}

/// Returns the body that an argument stands for: the argument itself, or standard input for `-`.
///
/// # Errors
///
/// Standard input can't be read. A body that is too large is cut just above [`MAX_BODY_BYTES`], so that it is refused as such.
pub fn read_body(argument: &str, input: &mut dyn Read) -> io::Result<Vec<u8>> {
    if argument != "-" {
        return Ok(argument.as_bytes().to_vec());
    }
    let mut body = Vec::new();
    let limit = u64::try_from(MAX_BODY_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    input.take(limit).read_to_end(&mut body)?;
    Ok(body)
}

impl HostArgs {
    fn client(&self, environment: Environment<'_>) -> Result<HostClient, CliError> {
        Ok(HostClient::new(&self.address(), config::secret_from(environment)?)?)
    }

    /// Returns the address of the host.
    fn address(&self) -> String {
        // A variable that is set to nothing is one that is not set.
        match (self.listen, self.url.as_ref().filter(|url| !url.is_empty())) {
            (Some(listen), _) => format!("http://{listen}"),
            (None, Some(url)) => url.clone(),
            (None, None) => format!("http://{DEFAULT_LISTEN}"),
        }
    }
}

/// Writes an answer of the host: as JSON, or else as `text` says it to people.
fn write_answer<T: serde::Serialize>(
    output: &mut dyn Write,
    is_json: bool,
    answer: &T,
    text: impl FnOnce(&T) -> String,
) -> Result<(), CliError> {
    if is_json {
        return Ok(write_json(output, answer)?);
    }
    Ok(writeln!(output, "{}", text(answer))?)
}

fn write_json(output: &mut dyn Write, value: &impl serde::Serialize) -> io::Result<()> {
    writeln!(output, "{}", printable_json(&serde_json::to_string_pretty(value)?))
}

/// Writes JSON as one line.
fn write_json_line(output: &mut dyn Write, value: &impl serde::Serialize) -> io::Result<()> {
    writeln!(output, "{}", printable_json(&serde_json::to_string(value)?))
}
