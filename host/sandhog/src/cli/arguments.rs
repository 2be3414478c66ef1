//! The arguments of every command, with their help.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

pub use clap::ColorChoice;
use clap::{
    Args, CommandFactory as _, Parser, Subcommand, ValueEnum,
    error::{ContextKind, ContextValue},
};

use crate::{config, exit_code, filter_text::parse_filter, telemetry::LogFormat};
use sandhog_executor::{CodeTier, CompileOrder};
use sandhog_queue::message::QueueName;

mod attempts;
mod dead;
mod generated;
mod health;
mod peek;
mod replay;
mod steering;

pub use self::{
    attempts::{AttemptsCommand, TailArgs, TraceArgs},
    dead::{DeadChoice, DeadCommand, EditArgs},
    generated::{CompletionsArgs, GeneratedCommand, ManArgs},
    health::HealthArgs,
    peek::PeekArgs,
    replay::ReplayArgs,
    steering::{
        DeleteArgs, DrainArgs, HandlersArgs, PauseArgs, ProfileArgs, PurgeArgs, ReloadArgs, ResumeArgs, SteeringCommand,
    },
};

/// The longest name of a handler, in bytes: with what `deploy` adds to it, it is still the name of a file.
const MAX_NAME_BYTES: usize = 200;
pub(crate) const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (engine: wasmtime 48)");

/// A queue worker host: drop a WebAssembly file into a directory and it becomes a worker for a queue.
#[derive(Debug, Parser)]
#[command(name = "sandhog", version = VERSION, after_help = exit_code::HELP, max_term_width = 100)]
pub struct Cli {
    /// When output has colours.
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "WHEN",
        default_value_t,
        display_order = 900,
        hide_possible_values = true,
        hide_default_value = true,
        help = "Colours: auto (on a terminal, without NO_COLOR), always or never [default: auto]"
    )]
    pub color: ColorChoice,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Parses the arguments of this process.
    ///
    /// # Errors
    ///
    /// The text to print, such as help, the version or a mistake. It never suggests a hidden command.
    pub fn of_this_process() -> Result<Self, clap::Error> {
        Self::try_parse().map_err(|mut error| {
            let hidden = Self::command()
                .get_subcommands()
                .filter(|command| command.is_hide_set())
                .cloned()
                .collect::<Vec<_>>();
            let is_hidden = |name: &String| hidden.iter().any(|command| command.get_name() == name.as_str());
            if let Some(ContextValue::Strings(mut names)) = error.remove(ContextKind::SuggestedSubcommand) {
                names.retain(|name| !is_hidden(name));
                if !names.is_empty() {
                    error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(names));
                }
            }
            error
        })
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the host: every component in a directory handles the messages of its queue
    Run(RunArgs),
    /// Build a project at every save, serve it in memory, and show what becomes of each message
    Dev(DevArgs),
    /// Send a message, or every line of standard input, to a queue of the running host
    Send(SendArgs),
    /// Run one message through a component here and now, without a queue and without a host
    Invoke(InvokeArgs),
    /// Say whether the host would run a component, and what it is, needs and may do
    Check(CheckArgs),
    /// Make a handler project that builds with one command
    New(NewArgs),
    /// Show the queues of the running host: depth, in flight, delayed, oldest age, dead letters
    Queues(QueuesArgs),
    /// What an operator looks at.
    #[command(flatten)]
    Attempts(AttemptsCommand),
    /// Look at the messages of a queue without receiving them
    Peek(PeekArgs),
    /// What an operator orders.
    #[command(flatten)]
    Steering(SteeringCommand),
    /// Show the versions of a handler: what each one did, and how the newest one proves itself
    Versions(VersionsArgs),
    /// Put a component into the plugin directory of the running host, and wait until it is proven or not
    Deploy(DeployArgs),
    /// Go back to an earlier version of a handler
    Rollback(RollbackArgs),
    /// End the probation of a version, or serve one that the host or somebody went back from
    Promote(PromoteArgs),
    /// List, show, put back, edit or delete the messages that could not be handled
    #[command(subcommand)]
    Dead(DeadCommand),
    /// Run dead letters through a component without effects, and put back those that it handles
    Replay(ReplayArgs),
    /// Say by the exit code whether the running host is ready, for probes
    Health(HealthArgs),
    /// Copy the data directory of the running host, while it works
    Backup(BackupArgs),
    /// Give the room back to the disk that messages took which are gone; the host must be stopped
    Compact(CompactArgs),
    /// What is made of the arguments.
    #[command(flatten)]
    Generated(GeneratedCommand),
    /// Compile the component on standard input; only a host calls this
    #[command(hide = true)]
    Compile(CompileArgs),
}

/// `sandhog new`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandhog new python resize                     ./resize, with a handler, its test, its manifest and the SDK
  sandhog new python resize --with http,config  the handler calls an API, whose address and token are in the manifest
  sandhog new command-go tally                  the same for a plain program, which needs no SDK

The README.md in the project says which tools it needs, and how it is built, tested and run.")]
pub struct NewArgs {
    /// In which language, or as a program without an SDK (command-...)
    #[arg(value_enum)]
    pub language: Language,
    /// The name of the project, its queue and its component: lower-case letters, digits and -
    pub name: String,
    /// What the handler reaches beside queues, with commas between: the project grants it and has an example
    #[arg(long, value_enum, value_name = "FEATURES", value_delimiter = ',')]
    pub with: Vec<Feature>,
    /// Where the project's directory is made
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub directory: PathBuf,
}

/// What a handler with an SDK can reach beside queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Feature {
    /// Servers, over HTTP.
    Http,
    /// A key-value store.
    Keyvalue,
    /// Settings and secrets of the manifest.
    Config,
}

/// The language and kind of a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Language {
    /// A handler with the Rust SDK.
    Rust,
    /// A handler with the JavaScript SDK.
    Javascript,
    /// A handler with the JavaScript SDK and its types.
    Typescript,
    /// A handler with the Python SDK.
    Python,
    /// A handler with the Go SDK.
    Go,
    /// A handler with the header for C.
    C,
    /// A handler in C++ with the header for C.
    Cpp,
    /// A handler in Zig with the header for C.
    Zig,
    /// A program in Rust.
    CommandRust,
    /// A program in Go.
    CommandGo,
    /// A program in C.
    CommandC,
    /// A program in Zig.
    CommandZig,
}

/// `sandhog run`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandhog run                          ./sandhog.toml, or else ./plugins
  sandhog run plugins/                 plugins/NAME.wasm handles queue NAME; data in ./.sandhog
  sandhog run --ephemeral plugins/     nothing is kept when the host ends
  sandhog run --until-empty jobs.toml  ends with exit code 0 once all queues are empty

SIGTERM and SIGINT let attempts under way end within the grace period; a second one cuts it short. SIGHUP looks at the \
plugin directory now.

Environment:
  SANDHOG_SECRET   the secret that requests carry
  SANDHOG_LOG      filters the log: info, debug, warn,sandhog=debug")]
pub struct RunArgs {
    /// A directory of components, or a sandhog.toml
    #[arg(value_name = "DIR | sandhog.toml")]
    pub path: Option<PathBuf>,
    /// Where queues and compiled components are kept [default: .sandhog]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Where to listen for HTTP; an address that is not loopback needs a secret [default: 127.0.0.1:9324]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = listen)]
    pub listen: Option<SocketAddr>,
    /// Keep everything in memory: messages are lost when the host ends
    #[arg(long, conflicts_with = "data")]
    pub ephemeral: bool,
    /// Let tests empty the host, wait for messages, move its clock and redeliver messages, over HTTP
    #[arg(long, requires = "ephemeral")]
    pub spy: bool,
    /// End with exit code 0 once every queue is empty and nothing is in flight
    #[arg(long)]
    pub until_empty: bool,
    /// How log lines are written to standard error
    #[arg(long, value_enum, default_value_t)]
    pub log_format: LogFormat,
    /// How long attempts under way may go on once the host stops [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub grace_period: Option<Duration>,
}

impl RunArgs {
    /// Returns the options that win over the configuration.
    pub fn overrides(&self) -> config::ConfigOverrides {
        config::ConfigOverrides {
            data: self.data.clone(),
            ephemeral: self.ephemeral,
            spy: self.spy,
            listen: self.listen,
            grace_period: self.grace_period,
            manifest_base: None,
        }
    }
}

/// `sandhog dev`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandhog dev                          the project in the current directory
  sandhog dev checkout --test          ./checkout; its own tests run after each build, too
  sandhog dev --build 'just wasm' --output out/handler.wasm

The project is one that `sandhog new` makes, or any with a Cargo.toml, a package.json with a script \"build\", a go.mod, a \
Makefile, a build.zig or a file of Python. Each file in its folder input/ is a message, which is sent after each build; so is \
each line that is typed. The manifest applies; queues and key-value store are in memory and begin empty after each build. \
Its table [dev] can name the commands and the component: build = \"CMD\", test = \"CMD\", output = \"FILE\".")]
pub struct DevArgs {
    /// The directory of the project [default: the current directory]
    pub directory: Option<PathBuf>,
    /// The manifest [default: the one in the directory]
    #[arg(long, value_name = "FILE")]
    pub manifest: Option<PathBuf>,
    /// The shell's command that builds the component [default: what fits the project's files]
    #[arg(long, value_name = "CMD")]
    pub build: Option<String>,
    /// The component that the build leaves, relative to the directory [default: NAME.wasm]
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Run the project's own tests after each build
    #[arg(long)]
    pub test: bool,
    /// The shell's command that runs the tests [default: what fits the project's files]
    #[arg(long, value_name = "CMD")]
    pub test_command: Option<String>,
    /// Where to listen for HTTP [default: 127.0.0.1:9324, or any free port if that one is taken]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = listen)]
    pub listen: Option<SocketAddr>,
}

/// `sandhog backup`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandhog backup /backups/monday       a copy of the queues, the key-value stores and the versions of the handlers
  sandhog run --data /backups/monday   a host on the copy

The host works meanwhile. Every message that was acknowledged before the command is in the copy. The directory is whole or not \
there. sandhog.toml, the plugin directory and compiled code are not in it.")]
pub struct BackupArgs {
    /// Where the copy is put: a directory that is not there, or is empty
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
    /// Where the host is.
    #[command(flatten)]
    pub host: HostArgs,
}

/// `sandhog compact`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandhog compact                      the data directory of ./sandhog.toml, or else ./.sandhog
  sandhog compact --data /var/lib/jobs

Writes the queues' database anew, which needs free room of about twice what is left in it. If it fails nothing is changed.")]
pub struct CompactArgs {
    /// A sandhog.toml, or what else `run` is given
    #[arg(value_name = "DIR | sandhog.toml")]
    pub path: Option<PathBuf>,
    /// Where the queues are kept [default: .sandhog]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
}

/// `sandhog compile`: the fields of a [`CompileOrder`].
#[derive(Debug, Clone, Copy, Args)]
pub struct CompileArgs {
    /// The work that goes into the code: fast or optimised
    #[arg(long)]
    pub tier: CodeTier,
    /// The address space of the child, in bytes
    #[arg(long)]
    pub memory_bytes: u64,
    /// The processor time of all threads of the child, in seconds
    #[arg(long)]
    pub processor_seconds: u64,
    /// The code is for a host whose machine makes no images of memories
    #[arg(long)]
    pub without_images: bool,
    /// A person waits for the code
    #[arg(long)]
    pub urgent: bool,
    /// The bytes of the functions of an earlier version before the file; the answer has those of this one
    #[arg(long)]
    pub functions_bytes: Option<u64>,
}

impl From<CompileArgs> for CompileOrder {
    fn from(args: CompileArgs) -> Self {
        Self {
            tier: args.tier,
            memory_bytes: args.memory_bytes,
            processor_seconds: args.processor_seconds,
            without_images: args.without_images,
            urgent: args.urgent,
            functions_bytes: args.functions_bytes,
        }
    }
}

/// `sandhog send`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandhog send orders '{\"id\": 7}'                     prints the message's id
  sandhog send orders - < order.json
  sandhog send orders hello --delay 5s --attr tenant=a
  sandhog send orders --lines < orders.ndjson          a line is a message; prints their number
  sandhog send orders --again ID                       a copy of a message that `sandhog peek` or `dead list` shows

A message is on disk once its id is printed. A --dedup id is accepted once in five minutes.")]
pub struct SendArgs {
    /// The queue
    #[arg(value_parser = queue_name)]
    pub queue: QueueName,
    /// The body; - reads it from standard input
    #[arg(
        value_name = "BODY | -",
        required_unless_present_any = ["lines", "again"],
        allow_hyphen_values = true
    )]
    pub body: Option<String>,
    /// Send a copy of the message with this id, which is in the queue or a dead letter of it and stays there
    #[arg(long, value_name = "ID", conflicts_with_all = ["body", "attributes", "group", "dedup", "delay", "priority", "lines"])]
    pub again: Option<String>,
    /// An attribute of the message; may be given up to 10 times
    #[arg(long = "attr", value_name = "NAME=VALUE", value_parser = attribute)]
    pub attributes: Vec<(String, String)>,
    /// The message group: its messages are handled one after another
    #[arg(long, value_name = "ID")]
    pub group: Option<String>,
    /// The deduplication id
    #[arg(long, value_name = "ID", conflicts_with = "lines")]
    pub dedup: Option<String>,
    /// Hide the message for so long, up to 12h
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub delay: Option<Duration>,
    /// 0 to 9; higher is received first
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=9))]
    pub priority: Option<u8>,
    /// Send every line of standard input as a message, without its line end
    #[arg(long)]
    pub lines: bool,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
    /// Where the host is.
    #[command(flatten)]
    pub host: HostArgs,
}

/// `sandhog invoke`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandhog invoke plugins/resize.wasm '{\"image\": \"a.png\"}'
  sandhog invoke plugins/resize.wasm - < message.json

The manifest beside the file (plugins/resize.toml) applies. What the component sends is shown and goes nowhere. Compiled code is \
kept in the user's cache directory ($XDG_CACHE_HOME/sandhog), so that the same file is compiled once. \
The exit code is 0 if the message would be deleted, 1 if not, and 70 if the machine did not let it run.")]
pub struct InvokeArgs {
    /// The component
    pub file: PathBuf,
    /// Its manifest [default: NAME.toml beside it]
    #[arg(long, value_name = "FILE")]
    pub manifest: Option<PathBuf>,
    /// The body; - reads it from standard input [default: empty]
    #[arg(value_name = "BODY | -", allow_hyphen_values = true)]
    pub body: Option<String>,
    /// An attribute of the message; may be given up to 10 times
    #[arg(long = "attr", value_name = "NAME=VALUE", value_parser = attribute)]
    pub attributes: Vec<(String, String)>,
    /// The message group
    #[arg(long, value_name = "ID")]
    pub group: Option<String>,
    /// Pretend that the message has been received so often
    #[arg(long, value_name = "N", default_value = "1")]
    pub receive_count: std::num::NonZeroU32,
    /// Run the code that a host makes in the end, which takes longer to compile and runs faster
    #[arg(long)]
    pub optimised: bool,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
}

/// `sandhog check`.
#[derive(Debug, Args)]
#[command(after_help = "\
Its first line is the verdict: \"ok: the host would run FILE\", or \"refused:\" with why, and what to do. Below it stand the flavour, \
the imports with the grants that they need, and the limits.

The exit code is 1 if the host would refuse the component, 64 if it would refuse the manifest beside it, and 70 if the machine \
did not let it find out.")]
pub struct CheckArgs {
    /// The component
    pub file: PathBuf,
    /// Its manifest [default: NAME.toml beside it]
    #[arg(long, value_name = "FILE")]
    pub manifest: Option<PathBuf>,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
}

/// `sandhog queues`.
#[derive(Debug, Args)]
#[command(after_help = "\
IN/MIN are the messages that came in the last minute, DONE/MIN those that handlers have handled, and FAILED/MIN the attempts that \
failed.")]
pub struct QueuesArgs {
    /// Write JSON
    #[arg(long)]
    pub json: bool,
    /// Where the host is.
    #[command(flatten)]
    pub host: HostArgs,
}

/// `sandhog versions`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandhog versions                     one line for each handler
  sandhog versions orders              every version that is kept, newest first, and how the newest one proves itself
  sandhog versions orders --json

BROKE counts calls that ended in a trap, a timeout, a limit or a wrong answer. P50, P99 and CPU are times of one call, and \
MEMORY is the most that a call took.")]
pub struct VersionsArgs {
    /// The handler: the name of its file without .wasm [default: one line for each handler]
    pub name: Option<String>,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
    /// Where the host is.
    #[command(flatten)]
    pub host: HostArgs,
}

/// `sandhog rollback`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandhog rollback orders              to the version before
  sandhog rollback orders 4            to version 4

The older component runs under the newest manifest, so that grants that were taken away stay away. The file in the plugin \
directory stays, and does not serve until another file is put there or `sandhog promote` is run.")]
pub struct RollbackArgs {
    /// The handler: the name of its file without .wasm
    pub name: String,
    /// The number of the version [default: the one that served before]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub version: Option<u64>,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
    /// Where the host is.
    #[command(flatten)]
    pub host: HostArgs,
}

/// `sandhog promote`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandhog promote orders

A version on probation is proven at once. If the host or somebody went back from the file in the plugin directory, it serves \
again, without probation.")]
pub struct PromoteArgs {
    /// The handler: the name of its file without .wasm
    pub name: String,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
    /// Where the host is.
    #[command(flatten)]
    pub host: HostArgs,
}

/// `sandhog deploy`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandhog deploy target/orders.wasm                       as the handler orders; with target/orders.toml, if it is there
  sandhog deploy build/a.wasm --name orders --manifest orders.toml
  sandhog deploy orders.wasm --timeout 2h                 waits for longer

The host runs on this machine. The files get into its plugin directory whole and together. Then the command waits: the version \
is on probation, and the host goes back by itself if it breaks more messages than the one before. Files that the host refuses do not \
stay: the earlier ones come back.

The exit code is 0 if the version is proven, or there is nothing to compare it with; 1 if the host refuses it, or went back \
from this component before; 4 if the host goes back from it; 5 if the time is up before that is decided.")]
pub struct DeployArgs {
    /// The component
    pub file: PathBuf,
    /// The handler [default: the name of the file without .wasm]
    #[arg(long, value_name = "NAME", value_parser = handler_name)]
    pub name: Option<String>,
    /// Its manifest [default: NAME.toml beside the component; without one, the deployed one stays]
    #[arg(long, value_name = "FILE")]
    pub manifest: Option<PathBuf>,
    /// How long to wait for the end of the probation
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = duration)]
    pub timeout: Duration,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
    /// Where the host is.
    #[command(flatten)]
    pub host: HostArgs,
}

/// The address of the running host. A secret is taken from `SANDHOG_SECRET`.
#[derive(Debug, Args)]
pub struct HostArgs {
    /// The address of the running host [default: 127.0.0.1:9324]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = listen)]
    pub listen: Option<SocketAddr>,
    /// The same as a URL; --listen wins
    #[arg(long, value_name = "URL", env = "SANDHOG_URL")]
    pub url: Option<String>,
}

fn listen(text: &str) -> Result<SocketAddr, String> {
    config::parse_listen(text).ok_or_else(|| "use an address and a port, such as 127.0.0.1:9324".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "use a duration such as 5s or 1h30m".to_owned())
}

/// Accepts the text of a filter.
fn filter(text: &str) -> Result<String, String> {
    parse_filter(text)
        .map(|_| text.to_owned())
        .map_err(|mistake| mistake.to_string())
}

fn queue_name(text: &str) -> Result<QueueName, String> {
    QueueName::new(text).map_err(|error| error.to_string())
}

/// Accepts what can be the name of a handler: one of a file that the host looks at.
pub(crate) fn handler_name(text: &str) -> Result<String, String> {
    let is_name =
        !text.is_empty() && !text.starts_with('.') && !text.contains(['/', '\0']) && text.len() <= MAX_NAME_BYTES;
    is_name.then(|| text.to_owned()).ok_or_else(|| {
        format!("use the name of a file without .wasm: 1 to {MAX_NAME_BYTES} bytes, no /, and no . at its start")
    })
}

fn attribute(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("use NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests;
