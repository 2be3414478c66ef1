//! Signals -> tokens: stop receiving first, then stop working. A second signal skips the grace period.

use std::{io, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::exit_code::ExitCode;

/// The two orders to stop, in their order.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// Nothing new is received; what is in flight goes on.
    pub receiving: CancellationToken,
    /// What is still in flight is interrupted and released.
    pub working: CancellationToken,
}

/// Listens for SIGTERM and SIGINT.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on these signals no longer end the process by themselves.
    ///
    /// # Errors
    ///
    /// The system does not allow it.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The exit code that stands for the next signal, were it the second one.
    async fn next(&mut self) -> ExitCode {
        tokio::select! {
            _ = self.terminate.recv() => ExitCode::Terminated,
            _ = self.interrupt.recv() => ExitCode::Interrupted,
        }
    }

    /// Turns signals into the two tokens: the first signal (or `stop.receiving`, cancelled by someone else) starts the
    /// drain, the end of `grace_period` or a second signal ends what is in flight. Returns the code of a second signal;
    /// without one it never returns.
    pub async fn escalate(mut self, stop: Stop, grace_period: Duration) -> ExitCode {
        tokio::select! {
            _ = self.next() => {
                let seconds = grace_period.as_secs_f64();
                tracing::info!(grace_seconds = seconds, "stopping: what is in flight may end; a second signal interrupts it");
            }
            () = stop.receiving.cancelled() => {}
        }
        stop.receiving.cancel();
        tokio::select! {
            code = self.next() => {
                tracing::warn!("stopping at once: what is in flight is interrupted and released");
                stop.working.cancel();
                code
            }
            () = sleep(grace_period) => {
                tracing::warn!("the grace period is over: what is in flight is interrupted and released");
                stop.working.cancel();
                self.next().await
            }
        }
    }
}
