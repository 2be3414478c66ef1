//! The arguments of `sandhog dead`.

use clap::{Args, Subcommand};

use super::{HostArgs, attribute, filter, queue_name};
use sandhog_queue::message::QueueName;

/// `sandhog dead`.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Filters, with --where:
  reason ~ \"timeout\" and age > 1h          reason, kind, handler, body, id, group, queue, state and attr.NAME with = != ~
  kind = trap and attr.tenant != acme       ~ is contains, byte for byte; age, with < or >, counts from when a message died")]
pub enum DeadCommand {
    /// List the dead letters of a queue, oldest first
    List {
        /// The queue in which the messages failed
        #[arg(value_parser = queue_name)]
        queue: QueueName,
        /// How many at most, 1 to 1000
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        /// Go on where the list before ended, as its last line says: after an id or, with --where, at a place
        #[arg(long, value_name = "ID | PLACE")]
        after: Option<String>,
        /// Only those that pass a filter
        #[arg(long = "where", value_name = "FILTER", value_parser = filter)]
        filter: Option<String>,
        /// Write JSON
        #[arg(long)]
        json: bool,
        /// Where the host is.
        #[command(flatten)]
        host: HostArgs,
    },
    /// Show one dead letter: why it failed, its attributes, its body
    Show {
        /// The queue in which the message failed
        #[arg(value_parser = queue_name)]
        queue: QueueName,
        /// The message's id
        id: String,
        /// Write JSON
        #[arg(long)]
        json: bool,
        /// Where the host is.
        #[command(flatten)]
        host: HostArgs,
    },
    /// Put dead letters back into their queue with a receive count of zero: those named, those that pass a filter, or all
    Redrive {
        /// Which.
        #[command(flatten)]
        choice: DeadChoice,
        /// Write JSON
        #[arg(long)]
        json: bool,
        /// Where the host is.
        #[command(flatten)]
        host: HostArgs,
    },
    /// Delete dead letters for good: those named, or those that pass a filter and were there when they were counted
    Delete {
        /// Which.
        #[command(flatten)]
        choice: DeadChoice,
        /// Do not ask; without a terminal nothing is deleted otherwise
        #[arg(long)]
        yes: bool,
        /// Write JSON
        #[arg(long)]
        json: bool,
        /// Where the host is.
        #[command(flatten)]
        host: HostArgs,
    },
    /// Send a dead letter again with another body or other attributes, and delete it
    Edit(EditArgs),
    /// Delete all dead letters of a queue for good
    Purge {
        /// The queue in which the messages failed
        #[arg(value_parser = queue_name)]
        queue: QueueName,
        /// Do not ask; without a terminal nothing is deleted otherwise
        #[arg(long)]
        yes: bool,
        /// Write JSON
        #[arg(long)]
        json: bool,
        /// Where the host is.
        #[command(flatten)]
        host: HostArgs,
    },
}

/// The dead letters that a command is about.
#[derive(Debug, Args)]
pub struct DeadChoice {
    /// The queue in which the messages failed
    #[arg(value_parser = queue_name)]
    pub queue: QueueName,
    /// The ids of the messages
    pub ids: Vec<String>,
    /// Those that pass a filter, such as 'reason ~ "timeout" and age > 1h'
    #[arg(long = "where", value_name = "FILTER", value_parser = filter, conflicts_with = "ids")]
    pub filter: Option<String>,
    /// Say how many they are and which, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `sandhog dead edit`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandhog dead edit orders ID                              the body, in $VISUAL or $EDITOR
  sandhog dead edit orders ID --body fixed.json
  sandhog dead edit orders ID --attr tenant=b --unset-attr trace

The new message has an id of its own, which is printed, and names the dead letter as what it was made from. Both happen in one \
transaction: the message is sent and the dead letter is deleted, or neither.")]
pub struct EditArgs {
    /// The queue in which the message failed
    #[arg(value_parser = queue_name)]
    pub queue: QueueName,
    /// The message's id
    pub id: String,
    /// The new body, from a file or, for -, from standard input [default: the old one]
    #[arg(long, value_name = "FILE | -")]
    pub body: Option<String>,
    /// An attribute that is added, or gets another value; may be given up to 10 times
    #[arg(long = "attr", value_name = "NAME=VALUE", value_parser = attribute)]
    pub attributes: Vec<(String, String)>,
    /// The name of an attribute that is taken away; may be given up to 10 times
    #[arg(long = "unset-attr", value_name = "NAME")]
    pub unset_attributes: Vec<String>,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
    /// Where the host is.
    #[command(flatten)]
    pub host: HostArgs,
}

impl DeadCommand {
    /// Returns where the host is.
    pub(crate) fn host(&self) -> &HostArgs {
        match self {
            Self::List { host, .. }
            | Self::Show { host, .. }
            | Self::Redrive { host, .. }
            | Self::Delete { host, .. }
            | Self::Purge { host, .. } => host,
            Self::Edit(args) => &args.host,
        }
    }
}
