//! How deliveries end: the batcher takes deletions and changes of visibility, and a dead letter is sent before it is deleted.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use tokio::sync::oneshot;

use super::{
    batch::{Batcher, Request, Settled, settle_error},
    ending::Ending,
    failure::{Action, Class, Failure, whole_seconds},
    remote::Remote,
    tasks::Tasks,
};
use crate::queue::{FailureRecord, Receipt, SettleError, SettleRequest, Settlement};

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
    batcher: Arc<Batcher>,
}

impl Settler {
    pub(super) fn new(remote: Arc<Remote>, tasks: Tasks) -> Self {
        Self {
            remote,
            tasks,
            batcher: Arc::default(),
        }
    }

    /// See [`crate::queue::Queue::settle`].
    pub(super) async fn settle(&self, settles: Vec<SettleRequest>) -> Vec<Settled> {
        let mut request = Request::default();
        let steps: Vec<Step> = settles
            .into_iter()
            .map(|settle| self.step(settle, &mut request))
            .collect();
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
            Step::Bury(receipt, failure) => return Box::pin(self.bury(receipt, failure)).await,
            Step::NotOurs => return Err(SettleError::Expired),
        };
        answered.await.unwrap_or_else(|_| self.is_stopping())
    }

    /// Sends a dead letter, and deletes its message.
    ///
    /// # Cancel safety
    ///
    /// Safe: once it was begun, both are done.
    async fn bury(&self, receipt: Receipt, failure: FailureRecord) -> Settled {
        let (remote, tasks, batcher) = (Arc::clone(&self.remote), self.tasks.clone(), Arc::clone(&self.batcher));
        let step = async move {
            let Some(held) = remote.held.get(&receipt) else {
                return Err(remote.unburied("its receipt is from another life of the host"));
            };
            remote.bury(&held, &failure).await?;
            let mut request = Request::default();
            let answered = request.add(receipt.clone(), None);
            batcher.submit(&remote, &tasks, request).await;
            match answered.await {
                Ok(answer) => answer,
                // The batcher has ended with the queue.
                Err(_) => delete(&remote, &receipt).await,
            }
        };
        self.tasks.whole(step).await.unwrap_or_else(|| self.is_stopping())
    }

    fn step(&self, SettleRequest { receipt, settlement }: SettleRequest, request: &mut Request) -> Step {
        if receipt.as_text().is_none() {
            return Step::NotOurs;
        }
        match settlement {
            Settlement::Delete => Step::Asked(request.add(receipt, None)),
            Settlement::Retry { delay, .. } => {
                let hide_s = whole_seconds(delay).min(self.remote.held.seconds_left(&receipt));
                Step::Asked(request.add(receipt, Some(hide_s)))
            }
            Settlement::Release => Step::Asked(request.add(receipt, Some(0))),
            Settlement::DeadLetter { failure } => Step::Bury(receipt, failure),
        }
    }

    fn is_stopping(&self) -> Settled {
        let failure = Failure::local(Action::DeleteMessageBatch, Class::Connection, "the host is stopping");
        Err(self.remote.unavailable(failure).into())
    }
}

/// Deletes one message by itself.
async fn delete(remote: &Remote, receipt: &Receipt) -> Settled {
    let entry = Ending {
        handle: receipt.as_text().unwrap_or_default(),
        hide_s: None,
    };
    let deleted = remote.end_all(&[entry], remote.ending()).await;
    deleted.into_iter().try_for_each(|each| each.map_err(settle_error))
}
