//! The tasks of one queue: they end with it.

use std::future::Future;

use tokio::runtime::Handle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Starts tasks that are dropped when the queue is. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// Runs a task on this runtime, until it or the queue ends.
    pub(super) fn spawn_on(&self, runtime: &Handle, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        let task = async move {
            // What a task loses by being dropped is said where it is started.
            let _: Option<()> = stop.run_until_cancelled_owned(task).await;
        };
        drop(self.tracker.spawn_on(task, runtime));
    }

    /// Waits until no task is left.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub(super) async fn done(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Drops all tasks.
    pub(super) fn end(&self) {
        self.stop.cancel();
    }
}
