//! The arguments of `sandhog peek`.

use std::time::Duration;

use clap::Args;

use super::{HostArgs, attribute, duration, filter, queue_name};
use sandhog_queue::{
    message::{MAX_BODY_BYTES, QueueName},
    message_filter::MessageStanding,
};

/// `sandhog peek`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandhog peek orders                                  the first hundred messages
  sandhog peek orders --contains acme --state ready    those with this text in the body
  sandhog peek orders --attr tenant=a --older-than 1h --json
  sandhog peek orders --id ID --whole                  one message, with all of its body
  sandhog peek orders-dead --where 'reason ~ \"timeout\" and age > 1h'

No message is received by that, and no receive counted. A terminal gets a table that fits it. Elsewhere each message is a line:
id, state, when it was sent, receives, group and body, with tabs between; --id ID --whole gives the bytes of the body alone.")]
pub struct PeekArgs {
    /// The queue; a dead-letter queue is one, too
    #[arg(value_parser = queue_name)]
    pub queue: QueueName,
    /// Only messages in this state: ready, held, in-flight, delayed, retry or damaged
    #[arg(long, value_name = "STATE", value_parser = standing)]
    pub state: Option<MessageStanding>,
    /// Only messages with this text in the body; upper and lower case differ
    #[arg(long, value_name = "TEXT")]
    pub contains: Option<String>,
    /// Only messages with this value of an attribute; may be given several times
    #[arg(long = "attr", value_name = "NAME=VALUE", value_parser = attribute)]
    pub attributes: Vec<(String, String)>,
    /// Only the message with this id
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Only messages of this message group
    #[arg(long, value_name = "ID")]
    pub group: Option<String>,
    /// Only messages that were sent before so long; dead letters count from when they died
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub older_than: Option<Duration>,
    /// Only messages that were sent within so long; dead letters count from when they died
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub newer_than: Option<Duration>,
    /// Only messages that pass a filter, such as 'body ~ "acme" and age > 1h'
    #[arg(long = "where", value_name = "FILTER", value_parser = filter)]
    pub filter: Option<String>,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
    /// Go on where an earlier command ended, as it said
    #[arg(long, value_name = "CURSOR")]
    pub after: Option<String>,
    /// How many bytes of each body are shown
    #[arg(long, value_name = "BYTES", conflicts_with = "whole", value_parser = body_limit)]
    pub body_limit: Option<usize>,
    /// Show whole bodies
    #[arg(long)]
    pub whole: bool,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
    /// Where the host is.
    #[command(flatten)]
    pub host: HostArgs,
}

fn standing(text: &str) -> Result<MessageStanding, String> {
    MessageStanding::from_text(text).ok_or_else(|| {
        let known = MessageStanding::ALL.map(MessageStanding::as_str);
        format!("use one of {}", known.join(", "))
    })
}

fn body_limit(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|bytes| *bytes <= MAX_BODY_BYTES);
    number.ok_or_else(|| format!("use a number of bytes up to {MAX_BODY_BYTES}"))
}
