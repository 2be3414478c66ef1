//! Turns signals into tokens: first stop receiving, then stop working. A second signal skips the grace period.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Notify, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    exit_code::ExitCode,
    signals::{HostSignals, SignalOrder},
};

/// The tokens of the two orders to stop, in the order in which they come.
#[derive(Debug, Clone, Default)]
pub struct StopTokens {
    /// Receive nothing new. Deliveries in flight go on.
    pub receiving: CancellationToken,
    /// Interrupt and release the deliveries that are still in flight.
    pub working: CancellationToken,
}

impl HostSignals {
    /// Waits for the next order to stop, and returns the exit code of a second such order. Passes orders to look, and to read the configuration again, on to `look`.
    async fn stop(&mut self, look: &Notify) -> ExitCode {
        loop {
            match self.next().await {
                SignalOrder::Stop(code) => return code,
                SignalOrder::Look => {
                    tracing::info!("SIGHUP: looking at the plugin directory, and reading the configuration again");
                    look.notify_one();
                }
                SignalOrder::Nothing | SignalOrder::Failed => {}
            }
        }
    }

    /// Turns signals into the two tokens. The first signal, or a cancelled `stop.receiving`, starts the drain. The end of
    /// `grace_period` or a second signal ends the attempts under way. A SIGHUP notifies `look`. The future returns the exit code of a
    /// second signal, and without one it never ends.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ignores later signals.
    pub async fn escalate(mut self, stop: StopTokens, look: Arc<Notify>, grace_period: Duration) -> ExitCode {
        tokio::select! {
            _ = self.stop(&look) => {
                let seconds = grace_period.as_secs_f64();
                tracing::info!(grace_seconds = seconds, "stopping: what is in flight may end; a second signal interrupts it");
            }
            () = stop.receiving.cancelled() => {}
        }
        stop.receiving.cancel();
        tokio::select! {
            code = self.stop(&look) => {
                tracing::warn!("stopping at once: what is in flight is interrupted and released");
                stop.working.cancel();
                code
            }
            () = sleep(grace_period) => {
                tracing::warn!("the grace period is over: what is in flight is interrupted and released");
                stop.working.cancel();
                self.stop(&look).await
            }
        }
    }
}
