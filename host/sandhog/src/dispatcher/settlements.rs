//! The settlements of one handler that are under way.
//!
//! Invariant: every settlement ends before the dispatcher does, and one that panics takes nothing down with it: its leases are
//! dropped, so its messages come back by themselves.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, resume_unwind},
    sync::Arc,
};

use futures_util::FutureExt as _;
use tokio::task::{JoinError, JoinSet};

use crate::{
    attempt::{AttemptContext, GuestFinished, SettledAttempt, settle},
    group_backlog::LeasedDelivery,
    slots::TakenSlots,
};
use sandhog_queue::QueueError;

/// The settlements of one handler that the queue has not answered yet.
#[derive(Debug)]
pub(crate) struct Settlements {
    context: Arc<AttemptContext>,
    tasks: JoinSet<SettledBatch>,
}

/// Attempts that were settled together.
#[derive(Debug)]
pub(crate) struct SettledBatch {
    /// The attempts, or the failure of the queue.
    pub(crate) attempts: Result<Vec<SettledAttempt>, QueueError>,
    /// The slots that they still have.
    pub(crate) slots: Vec<TakenSlots>,
}

impl SettledBatch {
    /// No attempt came of it.
    fn empty() -> Self {
        Self {
            attempts: Ok(Vec::new()),
            slots: Vec::new(),
        }
    }
}

impl Settlements {
    pub(crate) fn new(context: Arc<AttemptContext>) -> Self {
        Self {
            context,
            tasks: JoinSet::new(),
        }
    }

    /// Whether no settlement is under way.
    pub(crate) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Settles attempts together. Returns them if the queue answers at once; otherwise [`Settlements::next`] does.
    pub(crate) fn begin(&mut self, mut finished: Vec<GuestFinished>) -> Option<SettledBatch> {
        let frees_slots = finished.iter().all(GuestFinished::frees_slots);
        let slots: Vec<_> = finished.iter_mut().filter_map(|one| one.slots.take()).collect();
        let mut settling = Box::pin(AssertUnwindSafe(settle(finished)).catch_unwind());
        if let Some(settled) = settling.as_mut().now_or_never() {
            return match settled {
                Ok(attempts) => Some(SettledBatch { attempts, slots }),
                Err(panic) => {
                    self.log_panic(panic_message(&*panic));
                    None
                }
            };
        }
        let slots = if frees_slots { Vec::new() } else { slots };
        self.tasks.spawn(async move {
            let attempts = settling.await.unwrap_or_else(|panic| resume_unwind(panic));
            SettledBatch { attempts, slots }
        });
        None
    }

    /// Gives back messages whose attempts never started, in the order given.
    pub(crate) fn release(&mut self, messages: Vec<LeasedDelivery>) {
        let context = Arc::clone(&self.context);
        self.tasks.spawn(async move {
            context.release(messages).await;
            SettledBatch::empty()
        });
    }

    /// Waits for attempts to be settled; `None` if no settlement is under way.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub(crate) async fn next(&mut self) -> Option<SettledBatch> {
        let joined = self.tasks.join_next().await?;
        Some(self.joined(joined))
    }

    /// Returns attempts that are settled by now.
    pub(crate) fn try_next(&mut self) -> Option<SettledBatch> {
        let joined = self.tasks.try_join_next()?;
        Some(self.joined(joined))
    }

    /// Drops the settlements under way.
    pub(crate) async fn shutdown(&mut self) {
        self.tasks.shutdown().await;
    }

    fn joined(&self, joined: Result<SettledBatch, JoinError>) -> SettledBatch {
        joined.unwrap_or_else(|error| {
            self.log_panic(&error.to_string());
            SettledBatch::empty()
        })
    }

    fn log_panic(&self, error: &str) {
        let handler = &self.context.handler;
        tracing::error!(handler, error, "a settlement failed inside of the host");
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("the panic has no message")
}
