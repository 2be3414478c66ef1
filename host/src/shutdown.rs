//! Signals -> tokens: stop receiving first, then stop working. A second signal skips the grace period.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Notify, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    exit_code::ExitCode,
    signals::{HostSignals, SignalOrder},
};

/// The two orders to stop, in their order.
#[derive(Debug, Clone, Default)]
pub struct StopTokens {
    /// Nothing new is received; what is in flight goes on.
    pub receiving: CancellationToken,
    /// What is still in flight is interrupted and released.
    pub working: CancellationToken,
}

impl HostSignals {
    /// The code of the next order to stop, were it the second one. Passes orders to look on to `look`.
    async fn stop(&mut self, look: &Notify) -> ExitCode {
        loop {
            match self.next().await {
                SignalOrder::Stop(code) => return code,
                SignalOrder::Look => {
                    tracing::info!("SIGHUP: looking at the plugin directory");
                    look.notify_one();
                }
                SignalOrder::Nothing | SignalOrder::Failed => {}
            }
        }
    }

    /// Turns signals into the two tokens: the first signal (or `stop.receiving`, cancelled by someone else) starts the
    /// drain, the end of `grace_period` or a second signal ends what is in flight. Notifies `look` when the plugin directory
    /// is to be looked at. Returns the code of a second signal; without one it never returns.
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
