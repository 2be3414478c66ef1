//! How deliveries end: the batcher takes deletions and changes of visibility, and a dead letter is sent before it is deleted.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use tokio::sync::oneshot;

use super::{
    batch::{Batcher, Request, Settled},
    failure::{Action, Class, Failure, whole_seconds},
    held::{Kept, seconds_left},
    remote::Remote,
    tasks::Tasks,
};
use crate::queue::{FailureRecord, Receipt, Settle, SettleError, Settlement};

/// How many dead letters of one call are sent at the same time.
const BURIALS: usize = 8;

/// What becomes of one settlement.
enum Step {
    /// The batcher answers.
    Asked(oneshot::Receiver<Settled>),
    Bury(Receipt, FailureRecord),
    NotOurs,
}

/// What settles the deliveries of one queue.
#[derive(Debug)]
pub(super) struct Settler {
    pub(super) remote: Arc<Remote>,
    pub(super) tasks: Tasks,
    batcher: Batcher,
}

impl Settler {
    pub(super) fn new(remote: Arc<Remote>, tasks: Tasks) -> Self {
        Self {
            remote,
            tasks,
            batcher: Batcher::default(),
        }
    }

    /// See [`crate::queue::Queue::settle`].
    pub(super) async fn settle(&self, settles: Vec<Settle>) -> Vec<Settled> {
        let mut request = Request::default();
        let steps: Vec<Step> = settles.into_iter().map(|settle| step(settle, &mut request)).collect();
        self.batcher.submit(&self.remote, &self.tasks, request).await;
        if !steps.iter().any(|step| matches!(step, Step::Bury(..))) {
            let mut answers = Vec::with_capacity(steps.len());
            for step in steps {
                // All are under way already: this only hears of them.
                answers.push(self.finish(step).await);
            }
            return answers;
        }
        let steps: Vec<_> = steps.into_iter().map(|step| self.finish(step)).collect();
        stream::iter(steps).buffered(BURIALS).collect().await
    }

    /// Ends the batcher once it has done what it was asked for. The next settlement starts another one.
    pub(super) fn close(&self) {
        self.batcher.close();
    }

    async fn finish(&self, step: Step) -> Settled {
        let answered = match step {
            Step::Asked(answered) => answered,
            // It is many calls deep, and every settlement would carry its size around.
            Step::Bury(receipt, failure) => Box::pin(self.bury(receipt, failure)).await?,
            Step::NotOurs => return Err(SettleError::Expired),
        };
        answered.await.unwrap_or_else(|_| {
            let failure = Failure::local(Action::DeleteMessageBatch, Class::Connection, "the host is stopping");
            Err(self.remote.unavailable(failure).into())
        })
    }

    /// Sends a dead letter, and asks for the deletion of its message.
    async fn bury(&self, receipt: Receipt, failure: FailureRecord) -> Result<oneshot::Receiver<Settled>, SettleError> {
        let Some(kept) = Kept::of(&receipt) else {
            return Err(self.remote.unburied("its receipt is from another life of the host"));
        };
        self.remote.bury(kept, &failure).await?;
        let mut request = Request::default();
        let answered = request.add(receipt, None);
        self.batcher.submit(&self.remote, &self.tasks, request).await;
        Ok(answered)
    }
}

fn step(Settle { receipt, settlement }: Settle, request: &mut Request) -> Step {
    if receipt.as_text().is_none() {
        return Step::NotOurs;
    }
    match settlement {
        Settlement::Delete => Step::Asked(request.add(receipt, None)),
        Settlement::Retry { delay, .. } => {
            let hide_s = whole_seconds(delay).min(seconds_left(&receipt));
            Step::Asked(request.add(receipt, Some(hide_s)))
        }
        Settlement::Release => Step::Asked(request.add(receipt, Some(0))),
        Settlement::DeadLetter { failure } => Step::Bury(receipt, failure),
    }
}
