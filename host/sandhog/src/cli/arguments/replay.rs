//! The arguments of `sandhog replay`.

use std::path::PathBuf;

use clap::Args;

use super::{HostArgs, filter, queue_name};
use sandhog_queue::message::QueueName;

/// `sandhog replay`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandhog replay orders --with build/orders.wasm                          what would become of all dead letters
  sandhog replay orders --with orders.wasm --where 'kind = trap' --redrive  and those that are handled now go back
  sandhog replay orders --version 3                                       the same with a version that the host has kept
  sandhog replay orders --messages --with build/orders.wasm               what would become of the messages that wait

The messages run here, one after another, in the sandbox and with the limits of the manifest beside the component, as messages that are \
received for the first time. Nothing has an effect: sends and writes are shown, the key-value store is empty, directories can't be \
written, and servers are reached only with --http. The exit code is 0 if all of them are handled, and 1 if some are not.")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct ReplayArgs {
    /// The queue in which the messages failed, or are
    #[arg(value_parser = queue_name)]
    pub queue: QueueName,
    /// The ids of the dead letters, or of the messages [default: all]
    pub ids: Vec<String>,
    /// Those that pass a filter, such as 'reason ~ "timeout" and age > 1h'
    #[arg(long = "where", value_name = "FILTER", value_parser = filter, conflicts_with = "ids")]
    pub filter: Option<String>,
    /// Replay messages that are in the queue, without receiving them, in place of its dead letters
    #[arg(long, conflicts_with = "redrive")]
    pub messages: bool,
    /// The component
    #[arg(long = "with", value_name = "FILE", required_unless_present = "version")]
    pub file: Option<PathBuf>,
    /// Its manifest [default: NAME.toml beside it]
    #[arg(long, value_name = "FILE", conflicts_with = "version")]
    pub manifest: Option<PathBuf>,
    /// A version that the host has kept, by its number, in place of a file: with its manifest, and this environment
    #[arg(long, value_name = "N", conflicts_with = "file")]
    pub version: Option<u64>,
    /// The handler of the version [default: the one that takes the queue]
    #[arg(long, value_name = "NAME", requires = "version")]
    pub handler: Option<String>,
    /// Let the component reach the servers that its manifest grants: their effects are real
    #[arg(long)]
    pub http: bool,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub limit: usize,
    /// Put those back into their queue that are handled now
    #[arg(long)]
    pub redrive: bool,
    /// Write a line of JSON for each, and one for all
    #[arg(long)]
    pub json: bool,
    /// Where the host is.
    #[command(flatten)]
    pub host: HostArgs,
}
