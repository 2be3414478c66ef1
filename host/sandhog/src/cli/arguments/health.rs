//! The arguments of `sandhog health`.

use std::time::Duration;

use clap::Args;

use super::{HostArgs, duration};

/// `sandhog health`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandhog health                       \"ready\", or \"not ready:\" with the reasons
  sandhog health --live                whether the process can answer at all
  sandhog health --timeout 500ms

It asks /ready, or /live, which need no secret. The host tells its reasons to those that have its secret in SANDHOG_SECRET.

The exit code is 0 if the host is ready, 1 if it is not, and 69 if no host answers in time.")]
pub struct HealthArgs {
    /// Ask whether the process can answer, and not whether it is ready
    #[arg(long)]
    pub live: bool,
    /// How long to wait for the answer
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration)]
    pub timeout: Duration,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
    /// Where the host is.
    #[command(flatten)]
    pub host: HostArgs,
}
