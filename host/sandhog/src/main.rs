//! The `sandhog` command: arguments, log, dispatch, exit code. It decides nothing.

use std::{
    error::Error,
    io::{self, IsTerminal as _, Write as _},
    panic::{self, AssertUnwindSafe},
    process,
};

use sandhog::{
    cli::{
        self, Cli, CliError, ColorChoice, Command, CommandStreams, Paint,
        local::{self, LocalError},
    },
    config::environment,
    exit_code::ExitCode,
    pages,
    telemetry::{self, LogFormat, LogGuard, StatusLine, TelemetryError},
};
use sandhog_executor::{
    compile_and_answer, descriptors,
    threads::{self, ThreadsError},
};
use sandhog_queue::printable::printable_lines;

/// Messages are allocated on one thread and freed on another, which this allocator does without a lock: a fifth more of them
/// are handled.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> process::ExitCode {
    let (command, color) = match Cli::of_this_process() {
        Ok(cli) => (cli.command, cli.color),
        Err(answer) => {
            // Help and version are such answers too. Whoever closed the pipe has seen enough.
            let code = if answer.use_stderr() {
                ExitCode::Usage
            } else {
                ExitCode::Ok
            };
            drop(answer.print());
            return code.into();
        }
    };
    let is_child = matches!(command, Command::Compile(_));
    // That the compiler panics is an answer, which its parent understands.
    let done = if is_child {
        start(command, color)
    } else {
        guarded(command, color)
    };
    let code = done.unwrap_or_else(Failure::report);
    code.into()
}

/// A panic is an exit code of ours, too: libraries know no other way to say that the machine denied them a thread or a pipe.
fn guarded(command: Command, color: ColorChoice) -> Result<ExitCode, Failure> {
    panic::catch_unwind(AssertUnwindSafe(|| start(command, color))).unwrap_or_else(|_| Err(Panicked.into()))
}

fn start(command: Command, color: ColorChoice) -> Result<ExitCode, Failure> {
    match &command {
        // The one has no thread yet, and would have to confine each; the other needs none, and has to answer soon.
        Command::Compile(_) | Command::Health(_) => {}
        Command::Run(_)
        | Command::Dev(_)
        | Command::Invoke(_)
        | Command::Replay(_)
        | Command::Check(_)
        | Command::Compact(_) => {
            threads::check()?;
        }
        // One that asks the host, and one that writes files.
        Command::Deploy(_) => threads::check_for(2)?,
        Command::Send(_)
        | Command::New(_)
        | Command::Generated(_)
        | Command::Queues(_)
        | Command::Attempts(_)
        | Command::Peek(_)
        | Command::Steering(_)
        | Command::Versions(_)
        | Command::Rollback(_)
        | Command::Promote(_)
        | Command::Backup(_)
        | Command::Dead(_) => threads::check_for(1)?,
    }
    // The guard goes after the last event: what is buffered is written then.
    let log = start_log(&command, color)?;
    pages::keep_small();
    descriptors::raise();
    let line = log.as_ref().filter(|_| io::stderr().is_terminal()).map(LogGuard::line);
    dispatch(command, color, line.unwrap_or_default())
}

/// The panic itself has been written already.
#[derive(Debug, thiserror::Error)]
#[error("a panic ended it: the machine has denied what it needs, or this is a bug; the lines before say where")]
struct Panicked;

fn start_log(command: &Command, color: ColorChoice) -> Result<Option<LogGuard>, TelemetryError> {
    let (format, usual) = match command {
        // The one confines itself before it has a second thread, and the other is run every few seconds.
        Command::Compile(_) | Command::Health(_) => return Ok(None),
        Command::Run(args) => (args.log_format, None),
        // A session shows by itself what becomes of messages and versions.
        Command::Dev(_) => (LogFormat::Text, Some("off")),
        // Their answer is their output.
        Command::Send(_)
        | Command::Invoke(_)
        | Command::Replay(_)
        | Command::Check(_)
        | Command::Compact(_)
        | Command::New(_)
        | Command::Generated(_)
        | Command::Queues(_)
        | Command::Attempts(_)
        | Command::Peek(_)
        | Command::Steering(_)
        | Command::Versions(_)
        | Command::Deploy(_)
        | Command::Rollback(_)
        | Command::Promote(_)
        | Command::Backup(_)
        | Command::Dead(_) => (LogFormat::Text, Some("warn")),
    };
    let filter = environment(telemetry::FILTER_VARIABLE).or(usual.map(str::to_owned));
    telemetry::init(format, filter.as_deref(), paints(color, io::stderr().is_terminal())).map(Some)
}

fn dispatch(command: Command, color: ColorChoice, line: StatusLine) -> Result<ExitCode, Failure> {
    // Standard input is not locked: `sandhog dev` reads it on a thread of its own.
    let (mut input, mut output) = (io::stdin(), io::stdout().lock());
    let progress = io::stderr().is_terminal();
    let columns = columns();
    let mut streams = CommandStreams {
        input: &mut input,
        output: &mut output,
        progress,
        columns,
        paint: Paint::new(paints(color, columns.is_some())),
        asks: columns.is_some() && io::stdin().is_terminal(),
    };
    let done = match command {
        Command::Run(args) => local::run(&args, &environment, line)?,
        Command::Dev(args) => local::dev(&args, &environment, &mut streams)?,
        Command::Invoke(args) => local::invoke(&args, &environment, &mut streams)?,
        Command::Replay(args) => local::replay(&args, &environment, &mut streams)?,
        Command::Generated(command) => cli::generate(&command, &mut streams).map(|()| ExitCode::Ok)?,
        Command::Check(args) => local::check(&args, &mut streams)?,
        Command::Compact(args) => local::compact(&args, &environment, &mut streams)?,
        Command::Compile(args) => compile_and_answer(&args.into(), streams.input, streams.output)
            .map_or(ExitCode::Internal, |()| ExitCode::Ok),
        Command::Send(args) => cli::send(&args, &environment, &mut streams).map(|()| ExitCode::Ok)?,
        Command::New(args) => cli::new_project(&args, &mut streams).map(|()| ExitCode::Ok)?,
        Command::Queues(args) => cli::queues(&args, &environment, &mut streams).map(|()| ExitCode::Ok)?,
        Command::Attempts(command) => cli::attempts(&command, &environment, &mut streams).map(|()| ExitCode::Ok)?,
        Command::Peek(args) => cli::peek(&args, &environment, &mut streams).map(|()| ExitCode::Ok)?,
        Command::Steering(command) => cli::steer(&command, &environment, &mut streams).map(|()| ExitCode::Ok)?,
        Command::Versions(args) => cli::versions(&args, &environment, &mut streams).map(|()| ExitCode::Ok)?,
        Command::Deploy(args) => cli::deploy(&args, &environment, &mut streams)?,
        Command::Rollback(args) => cli::roll_back(&args, &environment, &mut streams).map(|()| ExitCode::Ok)?,
        Command::Promote(args) => cli::promote(&args, &environment, &mut streams).map(|()| ExitCode::Ok)?,
        Command::Health(args) => cli::health(&args, &environment, &mut streams)?,
        Command::Backup(args) => cli::backup(&args, &environment, &mut streams).map(|()| ExitCode::Ok)?,
        Command::Dead(command) => cli::dead(&command, &environment, &mut streams).map(|()| ExitCode::Ok)?,
    };
    output.flush().map_err(CliError::from)?;
    Ok(done)
}

/// Returns whether a stream gets colours.
fn paints(color: ColorChoice, is_terminal: bool) -> bool {
    let is_plain = || {
        let is_set = |name| environment(name).is_some_and(|value| !value.is_empty());
        is_set("NO_COLOR") || environment("TERM").as_deref() == Some("dumb")
    };
    match color {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => is_terminal && !is_plain(),
    }
}

/// Returns the width of the terminal that standard output is, if it is one.
fn columns() -> Option<usize> {
    let output = io::stdout();
    if !output.is_terminal() {
        return None;
    }
    // A terminal that does not tell its width is as wide as they were.
    let told = rustix::termios::tcgetwinsize(&output).map_or(0, |size| usize::from(size.ws_col));
    Some(if told == 0 { 80 } else { told })
}

/// An error, and the exit code that stands for it.
struct Failure {
    error: Box<dyn Error>,
    code: ExitCode,
}

impl Failure {
    /// Says what happened, on standard error, with its causes.
    fn report(self) -> ExitCode {
        if self.code != ExitCode::Ok {
            let causes = std::iter::successors(self.error.source(), |&error| error.source());
            let text = causes.fold(format!("sandhog: {}", self.error), |text, cause| {
                format!("{text}\n  caused by: {cause}")
            });
            // Names of files, and what a server says, are others' choice. Without standard error there is nobody to tell.
            drop(writeln!(io::stderr(), "{}", printable_lines(&text, usize::MAX)));
        }
        self.code
    }
}

impl From<LocalError> for Failure {
    fn from(error: LocalError) -> Self {
        Self {
            code: error.exit_code(),
            error: Box::new(error),
        }
    }
}

impl From<CliError> for Failure {
    fn from(error: CliError) -> Self {
        Self {
            code: error.exit_code(),
            error: Box::new(error),
        }
    }
}

impl From<TelemetryError> for Failure {
    fn from(error: TelemetryError) -> Self {
        Self {
            code: ExitCode::Config,
            error: Box::new(error),
        }
    }
}

impl From<ThreadsError> for Failure {
    fn from(error: ThreadsError) -> Self {
        Self {
            code: ExitCode::Internal,
            error: Box::new(error),
        }
    }
}

impl From<Panicked> for Failure {
    fn from(error: Panicked) -> Self {
        Self {
            code: ExitCode::Internal,
            error: Box::new(error),
        }
    }
}
