//! The arguments of the commands with which an operator steers a running host.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{HostArgs, duration, queue_name};
use sandhog_queue::message::QueueName;

/// The commands with which an operator looks at handlers, and changes what the host does.
#[derive(Debug, Subcommand)]
pub enum SteeringCommand {
    /// Show the handlers of the running host: queue, state, version, attempts under way, and why one stands still
    Handlers(HandlersArgs),
    /// Take samples of what a handler computes, and show in which functions its processor time goes
    Profile(ProfileArgs),
    /// Let nobody receive from a queue, or let a handler receive nothing, until that is resumed or its end comes
    Pause(PauseArgs),
    /// End a pause that was ordered with `pause`
    Resume(ResumeArgs),
    /// Let no handler receive, and wait until nothing is in flight
    Drain(DrainArgs),
    /// Delete the messages of a queue that are not in flight
    Purge(PurgeArgs),
    /// Delete a queue that no handler takes and no configuration names
    Delete(DeleteArgs),
    /// Read sandhog.toml again, and look at the plugin directory
    Reload(ReloadArgs),
}

impl SteeringCommand {
    /// Returns where the host is.
    pub fn host(&self) -> &HostArgs {
        match self {
            Self::Handlers(args) => &args.host,
            Self::Profile(args) => &args.host,
            Self::Pause(args) => &args.host,
            Self::Resume(args) => &args.host,
            Self::Drain(args) => &args.host,
            Self::Purge(args) => &args.host,
            Self::Delete(args) => &args.host,
            Self::Reload(args) => &args.host,
        }
    }
}

/// `sandhog handlers`.
#[derive(Debug, Args)]
#[command(after_help = "\
CALLS and BROKE count the calls of the version that serves, and those that ended in a trap, a timeout, a limit or a wrong answer. \
DONE/MIN are the messages that were handled in the last minute, and FAILED/MIN the attempts that failed.

Below the table stands why a handler stands still, or why another version serves than the files in the plugin directory.")]
pub struct HandlersArgs {
    /// Write JSON
    #[arg(long)]
    pub json: bool,
    /// Where the host is.
    #[command(flatten)]
    pub host: HostArgs,
}

/// `sandhog profile`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandhog profile orders               for five seconds
  sandhog profile orders --for 20s --folded >orders.folded

SELF is the share of the samples in a function itself, TOTAL with what it calls. A sample is taken every 5 ms of each call that \
computes then, at the next entry of a function or head of a loop; waits are not sampled. Handlers in JavaScript, Python and other \
languages with an interpreter show the functions of that. Handlers in compiled languages have names unless they were stripped.

One profile is taken at a time, of all versions of a handler together.")]
pub struct ProfileArgs {
    /// The name of the handler
    pub handler: String,
    /// How long to take samples, at most 20s
    #[arg(long = "for", value_name = "DURATION", value_parser = duration, default_value = "5s")]
    pub time: Duration,
    /// Write a line for each stack, as tools for flame graphs read them
    #[arg(long, conflicts_with = "json")]
    pub folded: bool,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
    /// Where the host is.
    #[command(flatten)]
    pub host: HostArgs,
}

/// `sandhog pause`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandhog pause orders --reason 'the bank is closed' --for 2h
  sandhog pause orders --until 2026-12-01T08:00:00Z
  sandhog pause resize --handler       others still receive from its queue

Sends are accepted, what is under way ends, and nothing more is received. A pause is on disk once it is answered, and a restart \
keeps it. It is no fault: the host stays ready.")]
pub struct PauseArgs {
    /// The queue, or with --handler the handler
    pub name: String,
    /// Pause the handler of this name and not the queue
    #[arg(long)]
    pub handler: bool,
    /// Why, for people
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    /// After what time it goes on by itself
    #[arg(long = "for", value_name = "DURATION", value_parser = duration, conflicts_with = "until")]
    pub length: Option<Duration>,
    /// The same as a time, such as 2026-12-01T08:00:00Z
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
    /// Where the host is.
    #[command(flatten)]
    pub host: HostArgs,
}

/// `sandhog resume`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandhog resume orders
  sandhog resume resize --handler

A handler that the host itself has paused, because its messages failed in a row, goes on by itself once a message succeeds. If the \
handler is paused and its queue, too, each has to be resumed: the command says so.")]
pub struct ResumeArgs {
    /// The queue, or with --handler the handler
    pub name: String,
    /// Resume the handler of this name and not the queue
    #[arg(long)]
    pub handler: bool,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
    /// Where the host is.
    #[command(flatten)]
    pub host: HostArgs,
}

/// `sandhog drain`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandhog drain                        waits until nothing is in flight
  sandhog drain --timeout 25s          for so long at most
  sandhog drain --timeout 0s           orders it, and waits for nothing
  sandhog drain --end                  handlers receive again

No handler receives any more, and what is under way ends. Sends are accepted, and clients of SQS receive as before. /ready is red \
until the drain is ended. A restart ends it as well. The host goes on draining if this command is stopped.

The exit code is 0 once nothing is in flight, and 6 if the time is up before.")]
pub struct DrainArgs {
    /// How long to wait [default: until nothing is in flight]
    #[arg(long, value_name = "DURATION", value_parser = duration, conflicts_with = "end")]
    pub timeout: Option<Duration>,
    /// End a drain that was ordered
    #[arg(long)]
    pub end: bool,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
    /// Where the host is.
    #[command(flatten)]
    pub host: HostArgs,
}

/// `sandhog purge`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandhog purge orders                 asks first
  sandhog purge orders --yes           for scripts

Messages in flight stay, and so do dead letters: `sandhog dead purge` deletes those.")]
pub struct PurgeArgs {
    /// The queue
    #[arg(value_parser = queue_name)]
    pub queue: QueueName,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
    /// Where the host is.
    #[command(flatten)]
    pub host: HostArgs,
}

/// `sandhog delete`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandhog delete totls                 asks first; refuses a queue with messages
  sandhog delete totls --with-messages --yes

The queue has to be a Simple one that nothing declares: no handler takes it or may send to it, sandhog.toml does not name it, and \
it is not the dead-letter queue of another. Its own dead-letter queue goes with it if that was made for it and is empty.")]
pub struct DeleteArgs {
    /// The queue
    #[arg(value_parser = queue_name)]
    pub queue: QueueName,
    /// Delete its messages and dead letters, too
    #[arg(long)]
    pub with_messages: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
    /// Where the host is.
    #[command(flatten)]
    pub host: HostArgs,
}

/// `sandhog reload`.
#[derive(Debug, Args)]
#[command(after_help = "\
The settings of Simple queues, and new ones, take effect at once. What needs a restart is named. A file with mistakes changes \
nothing, and all of them are named. The signal SIGHUP does the same. What comes of new files is known once they are compiled: \
`sandhog handlers` shows it.")]
pub struct ReloadArgs {
    /// Write JSON
    #[arg(long)]
    pub json: bool,
    /// Where the host is.
    #[command(flatten)]
    pub host: HostArgs,
}
