//! The task that exports spans, from the start of the host to its end.

use std::time::Duration;

use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use sandhog_queue::printable::chain;
use sandhog_traces::{ExporterFailed, TraceExporter};

/// The longest wait for the task at the end. It needs less by itself.
const END_LIMIT: Duration = Duration::from_secs(7);

/// Holds the task that exports spans, if spans are exported. What becomes of it ends nothing else: spans are no reason to stop.
#[derive(Debug, Default)]
pub(crate) struct TraceKeeper {
    exporting: JoinSet<Result<(), ExporterFailed>>,
    stop: CancellationToken,
}

impl TraceKeeper {
    /// Starts the task.
    pub(crate) fn new(exporter: Option<TraceExporter>) -> Self {
        let mut keeper = Self::default();
        if let Some(exporter) = exporter {
            let stop = keeper.stop.clone();
            keeper.exporting.spawn(async move {
                let ended = exporter.run(stop).await;
                if let Err(error) = &ended {
                    tracing::error!(error = %chain(error), "no spans are exported; messages are handled all the same");
                }
                ended
            });
        }
        keeper
    }

    /// Lets the task export what waits, and joins it.
    pub(crate) async fn finish(mut self) {
        self.stop.cancel();
        let ended = async {
            while let Some(ended) = self.exporting.join_next().await {
                if let Err(error) = ended {
                    tracing::error!(%error, "the task that exports spans has died");
                }
            }
        };
        if timeout(END_LIMIT, ended).await.is_err() {
            tracing::error!("the task that exports spans did not end in time; spans are lost");
        }
    }
}
