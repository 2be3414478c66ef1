//! The arguments of the commands that show attempts.

use clap::{Args, Subcommand};

use super::HostArgs;
use sandhog_queue::message::QueueName;

/// The outcomes of an attempt at a message, as the journal names them.
const OUTCOMES: [&str; 13] = [
    "success",
    "already-handled",
    "retry",
    "reject",
    "trap",
    "timeout",
    "memory",
    "wrong-answer",
    "host-stopped",
    "conflict",
    "host-fault",
    "interrupted",
    "lease-lost",
];

/// The commands that show attempts.
#[derive(Debug, Subcommand)]
pub enum AttemptsCommand {
    /// Show attempts as they end: outcome, version, time, what was sent and printed
    Tail(TailArgs),
    /// Show the way of a message across queues: what it came from, its attempts, what they sent, and where it lies now
    Trace(TraceArgs),
}

/// `sandhog tail`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandhog tail                         the last attempts of all handlers, and then each one as it ends
  sandhog tail orders --failed         those of one handler whose messages were not handled
  sandhog tail --last 500 --no-follow  what is kept, and no more
  sandhog tail --json                  a line of JSON for each attempt

The host keeps the last 1000 attempts of each handler in memory, up to 1 MiB ([journal] in sandhog.toml). The command ends with \
exit code 69 when the host stops, and with 1 if no handler has the name.")]
pub struct TailArgs {
    /// The handler: the name of its file without .wasm [default: all handlers]
    pub handler: Option<String>,
    /// Only attempts at messages of this queue
    #[arg(long, value_parser = QueueName::new)]
    pub queue: Option<QueueName>,
    /// Only attempts at the message with this id
    #[arg(long, value_name = "ID")]
    pub message: Option<String>,
    /// Only attempts with this outcome
    #[arg(long, value_parser = OUTCOMES)]
    pub outcome: Option<String>,
    /// Only attempts at messages that were not handled
    #[arg(long)]
    pub failed: bool,
    /// With how many attempts that have ended it begins
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(0..=1000))]
    pub last: u16,
    /// Show attempts that have ended, and end
    #[arg(long)]
    pub no_follow: bool,
    /// Write a line of JSON for each attempt
    #[arg(long)]
    pub json: bool,
    /// Where the host is.
    #[command(flatten)]
    pub host: HostArgs,
}

/// `sandhog trace`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  sandhog trace 0198f3a2-6d3e-7c51-b1f3-5d1c8a7e9f20

It knows the attempts that the host keeps (see `sandhog tail --help`), and what the messages that lie in queues say themselves.")]
pub struct TraceArgs {
    /// The id of the message
    #[arg(value_name = "ID")]
    pub message: String,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
    /// Where the host is.
    #[command(flatten)]
    pub host: HostArgs,
}
