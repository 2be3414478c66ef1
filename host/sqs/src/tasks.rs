//! The tasks of one queue, which end with it, and its steps, which end by themselves because they may not be cut.

use std::future::Future;

use tokio::{runtime::Handle, sync::oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Starts tasks that are dropped with the queue. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    steps: TaskTracker,
    closing: CancellationToken,
}

impl Tasks {
    /// Runs a task on this runtime, until it or the queue ends.
    pub(crate) fn spawn_on(&self, runtime: &Handle, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        let task = async move {
            // The callers say what their tasks lose when they are dropped.
            let _: Option<()> = stop.run_until_cancelled_owned(task).await;
        };
        drop(self.tracker.spawn_on(task, runtime));
    }

    /// Runs a step of which a part would be worse than nothing or all, such as a send with the deletion that belongs to it.
    /// Returns `None` if the queue closes and nothing was done, or if the runtime ends. The step has to be bounded by
    /// itself.
    ///
    /// # Cancel safety
    ///
    /// Safe: a step that has begun goes on to its end.
    pub(crate) async fn whole<T: Send + 'static>(&self, step: impl Future<Output = T> + Send + 'static) -> Option<T> {
        // Before the look, so that the end of the queue waits for this step.
        let counted = self.steps.token();
        if self.closing.is_cancelled() {
            return None;
        }
        let (answer, answered) = oneshot::channel();
        let step = async move {
            // The caller may have stopped waiting.
            drop(answer.send(step.await));
            drop(counted);
        };
        drop(self.steps.spawn(step));
        answered.await.ok()
    }

    /// Lets no further step begin.
    pub(crate) fn close(&self) {
        self.closing.cancel();
    }

    /// Whether no further step begins.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.is_cancelled()
    }

    /// Waits until no step is under way.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub(crate) async fn steps_done(&self) {
        self.steps.close();
        self.steps.wait().await;
    }

    /// Waits until no task is left.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub(crate) async fn done(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Drops all tasks.
    pub(crate) fn end(&self) {
        self.stop.cancel();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
        time::Duration,
    };

    use futures_util::FutureExt as _;
    use tokio::time::sleep;

    use super::*;

    /// Begins a step of one second. Returns whether it has ended.
    fn begin(tasks: &Tasks) -> Arc<AtomicBool> {
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        let step = async move {
            sleep(Duration::from_secs(1)).await;
            ended.store(true, Ordering::SeqCst);
        };
        let mut waiting = pin!(tasks.whole(step));
        assert_eq!(waiting.as_mut().now_or_never(), None);
        seen
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_that_nobody_waits_for_any_more_comes_to_its_end() {
        let tasks = Tasks::default();
        let ended = begin(&tasks);
        // The queue is dropped.
        tasks.end();
        tasks.close();
        tasks.steps_done().await;
        assert!(ended.load(Ordering::SeqCst));
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_closes_begins_no_step() {
        let tasks = Tasks::default();
        tasks.close();
        assert_eq!(tasks.whole(async { 1 }).await, None);
        tasks.steps_done().await;
    }
}
