//! The commands that need no running host: `run`, which is one, `compact`, and `invoke` and `check`, which try one component.

use std::{fs::DirBuilder, io, os::unix::fs::DirBuilderExt as _, path::PathBuf, process};

use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::{CommandStreams, CompactArgs, RunArgs, write_json};
use crate::{
    app::{self, StartError},
    client::ClientError,
    config::{self, Config, ConfigErrors, ConfigOverrides, Environment, SupervisorSettings},
    config_reload::ConfigReader,
    exit_code::ExitCode,
    supervision::Supervision,
    telemetry::StatusLine,
    trial::TrialError,
};
use sandhog_queue::message::InvalidMessage;
use sandhog_simple::{SimpleStore, StoreOptions};

mod check;
mod dev;
mod invoke;
mod replay;

pub use self::{
    check::check,
    dev::{DevError, dev},
    invoke::invoke,
    replay::replay,
};

/// The longest part of a text that a command shows a person, in bytes.
const SHOWN_BYTES: usize = 200;

/// The reason why a command was not carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalError {
    /// The configuration has mistakes.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The host could not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The component is not accepted, or could not be tried.
    #[error(transparent)]
    Trial(#[from] TrialError),
    /// The project can't be developed.
    #[error(transparent)]
    Dev(#[from] DevError),
    /// See [`ClientError`].
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Dead letters that were to be replayed are not there, or a part of what was asked for was not done.
    #[error("{0}")]
    Incomplete(String),
    /// The message breaks a limit.
    #[error(transparent)]
    Message(#[from] InvalidMessage),
    /// Standard input could not be read, or standard output not be written.
    #[error("standard input or output failed")]
    Io(#[from] io::Error),
}

impl LocalError {
    /// Returns the exit code of the command.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            // The manifest names a file that can't be used now, or another process is writing the component.
            Self::Trial(TrialError::Manifest(errors)) if errors.is_transient() => ExitCode::Unavailable,
            Self::Trial(TrialError::BeingWritten { .. }) => ExitCode::Unavailable,
            Self::Config(_) | Self::Trial(TrialError::Manifest(_)) => ExitCode::Config,
            Self::Dev(DevError::InUse(_)) => ExitCode::DataInUse,
            Self::Start(error) => error.exit_code(),
            Self::Client(error) => error.exit_code(),
            Self::Trial(
                TrialError::Engine(_) | TrialError::Process(_) | TrialError::Denied { .. } | TrialError::Stopped,
            ) => ExitCode::Internal,
            // The machine is the reason: the component may be good.
            Self::Trial(TrialError::Refused(error)) if error.is_transient() => ExitCode::Internal,
            // The reader of the output has closed it.
            Self::Io(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::Ok,
            Self::Trial(TrialError::Read { .. } | TrialError::Refused(_))
            | Self::Dev(_)
            | Self::Incomplete(_)
            | Self::Message(_)
            | Self::Io(_) => ExitCode::Refused,
        }
    }
}

/// `sandhog run`. The end of the host shows its progress in `line`.
///
/// # Errors
///
/// See [`LocalError`].
pub fn run(args: &RunArgs, environment: Environment<'_>, line: StatusLine) -> Result<ExitCode, LocalError> {
    let config = Config::load(args.path.as_deref(), args.overrides(), environment)?;
    let settings = SupervisorSettings::read(environment, process::id())?;
    // A file that is gone later is a mistake, and not a configuration without a file.
    let path = Config::file_of(args.path.as_deref()).or_else(|| args.path.clone());
    let overrides = args.overrides();
    // The environment of a process stays as it is.
    let reader = ConfigReader::new(move || Config::load(path.as_deref(), overrides.clone(), &config::environment));
    Ok(app::run(
        config,
        reader,
        args.until_empty,
        Supervision::new(settings, line),
    )?)
}

/// `sandhog compact`.
///
/// # Errors
///
/// See [`LocalError`].
pub fn compact(
    args: &CompactArgs,
    environment: Environment<'_>,
    streams: &mut CommandStreams<'_>,
) -> Result<ExitCode, LocalError> {
    let overrides = ConfigOverrides {
        data: args.data.clone(),
        ..ConfigOverrides::default()
    };
    let config = Config::load(args.path.as_deref(), overrides, environment)?;
    let Some(directory) = config.data else {
        if args.json {
            write_json(streams.output, &Value::Null)?;
        } else {
            writeln!(streams.output, "the queues of this configuration are in memory only")?;
        }
        return Ok(ExitCode::Ok);
    };
    let (before, after) = SimpleStore::compact(&StoreOptions::new(directory)).map_err(StartError::from)?;
    if args.json {
        let sizes = json!({ "before-bytes": before, "after-bytes": after });
        write_json(streams.output, &sizes)?;
    } else {
        writeln!(streams.output, "{before} bytes before, {after} bytes now")?;
    }
    Ok(ExitCode::Ok)
}

/// Returns where the commands that try components keep compiled code: a directory of this user alone, which is made if it is not there.
/// Without one they keep nothing.
fn kept_artifacts(environment: Environment<'_>) -> Option<PathBuf> {
    let directory = config::cache_directory(environment)?;
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&directory);
    made.ok().map(|()| directory.join("artifacts"))
}

/// Shows a person what is under way, and for how long.
fn spinner(what: String, progress: bool) -> ProgressBar {
    let spinner = super::spinner::spinner("{spinner} {msg} {seconds}", progress);
    spinner.set_message(what);
    spinner
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::trial::ComponentTrial;

    // A component that the machine could not read once had the exit code of a refused one, as if another try could not succeed.
    #[test]
    fn a_file_is_not_refused_for_what_the_machine_does() {
        let place = tempfile::tempdir().unwrap();
        let code = |file: &Path| LocalError::from(ComponentTrial::inspect(file, None).unwrap_err()).exit_code();
        assert_eq!(code(&place.path().join("missing.wasm")), ExitCode::Refused);
        assert_eq!(code(place.path()), ExitCode::Refused);
        let file = place.path().join("a.wasm");
        let source = io::Error::from_raw_os_error(24);
        let error = TrialError::Denied {
            file: file.clone(),
            source,
        };
        assert_eq!(LocalError::from(error).exit_code(), ExitCode::Internal);
        let writer = std::fs::File::create(&file).unwrap();
        assert_eq!(code(&file), ExitCode::Unavailable);
        drop(writer);
    }
}
