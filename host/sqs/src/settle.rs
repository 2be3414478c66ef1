//! Ends deliveries: the batcher takes deletions and changes of visibility, and a dead letter is sent before its message is
//! deleted.

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
use sandhog_queue::{FailureRecord, Receipt, SettleError, SettleRequest, Settlement};

/// The most dead letters of one call that are sent at the same time.
const DEAD_LETTERS_AT_A_TIME: usize = 8;

/// The next step of one settlement.
enum Step {
    /// The batcher answers.
    Asked(oneshot::Receiver<Settled>),
    DeadLetter(Receipt, FailureRecord),
    NotOurs,
}

/// Settles the deliveries of one queue.
#[derive(Debug)]
pub(crate) struct Settler {
    pub(crate) remote: Arc<Remote>,
    pub(crate) tasks: Tasks,
    batcher: Arc<Batcher>,
}

impl Settler {
    pub(crate) fn new(remote: Arc<Remote>, tasks: Tasks) -> Self {
        Self {
            remote,
            tasks,
            batcher: Arc::default(),
        }
    }

    /// See [`sandhog_queue::Queue::settle`].
    pub(crate) async fn settle(&self, settles: Vec<SettleRequest>) -> Vec<Settled> {
        let mut request = Request::default();
        let steps: Vec<Step> = settles
            .into_iter()
            .map(|settle| self.step(settle, &mut request))
            .collect();
        self.batcher.submit(&self.remote, &self.tasks, request).await;
        if !steps.iter().any(|step| matches!(step, Step::DeadLetter(..))) {
            let mut answers = Vec::with_capacity(steps.len());
            for step in steps {
                // All of them are under way already. This loop only collects the answers.
                answers.push(self.finish(step).await);
            }
            return answers;
        }
        let steps: Vec<_> = steps.into_iter().map(|step| self.finish(step)).collect();
        stream::iter(steps).buffered(DEAD_LETTERS_AT_A_TIME).collect().await
    }

    /// Ends the batcher after its requests. The next settlement starts another one.
    pub(crate) fn close(&self) {
        self.batcher.close();
    }

    async fn finish(&self, step: Step) -> Settled {
        let answered = match step {
            Step::Asked(answered) => answered,
            // Boxed, because the future is many calls deep and every settlement would have its size.
            Step::DeadLetter(receipt, failure) => return Box::pin(self.dead_letter(receipt, failure)).await,
            Step::NotOurs => return Err(SettleError::Expired),
        };
        answered.await.unwrap_or_else(|_| self.is_stopping())
    }

    /// Sends a dead letter, and deletes its message.
    ///
    /// # Cancel safety
    ///
    /// Safe: once the step has begun, it sends and deletes.
    async fn dead_letter(&self, receipt: Receipt, failure: FailureRecord) -> Settled {
        let remote = Arc::clone(&self.remote);
        let tasks = self.tasks.clone();
        let batcher = Arc::clone(&self.batcher);
        let step = async move {
            let Some(held) = remote.held.get(&receipt) else {
                return Err(remote.cannot_dead_letter("its receipt is from another life of the host"));
            };
            remote.send_dead_letter(&held, &failure).await?;
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
            Settlement::DeadLetter { failure } => Step::DeadLetter(receipt, failure),
        }
    }

    fn is_stopping(&self) -> Settled {
        let failure = Failure::local(Action::DeleteMessageBatch, Class::Connection, "the host is stopping");
        Err(self.remote.unavailable(failure).into())
    }
}

/// Deletes one message by itself.
pub(crate) async fn delete(remote: &Remote, receipt: &Receipt) -> Settled {
    let entry = Ending {
        handle: receipt.as_text().unwrap_or_default(),
        hide_s: None,
    };
    let deleted = remote.end_all(&[entry], remote.ending()).await;
    deleted.into_iter().try_for_each(|each| each.map_err(settle_error))
}
