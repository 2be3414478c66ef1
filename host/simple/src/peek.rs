//! A handle's end of looking at messages, and of what is done with those that were looked at.
//!
//! Invariant: nothing here receives a message. A durable store is searched beside its writer, one in memory step by step.

use super::{
    SimpleQueue, StoreEngine,
    long::{STEP, between_steps},
    operation::StoreOperation,
    rules::DeadLetterChoice,
    search::PeekSearch,
};
use sandhog_queue::{
    Cause, QueueError, SendError, SentAgain,
    message::MessageId,
    peek::{DeadLetterAction, DeadLetterSweep, PeekPage, PeekRequest, PeekScope, SweptDeadLetters},
};

impl SimpleQueue {
    /// Returns a page of messages.
    pub(crate) async fn peek_page(&self, request: PeekRequest) -> Result<PeekPage, QueueError> {
        let search = self.search(request).await?;
        let start = search.start();
        let (found, next) = search.finish();
        Ok(PeekPage {
            messages: found.into_iter().map(|(_, message)| message).collect(),
            start,
            next,
        })
    }

    async fn search(&self, request: PeekRequest) -> Result<PeekSearch, QueueError> {
        let key = self.key;
        let glance = StoreOperation::new(move |rules, now| rules.glance(key, now));
        let mut search = PeekSearch::new(key, request, self.ask(glance).await?);
        match (&self.inner.engine, &self.inner.peeks) {
            (StoreEngine::Durable(_), Some(peeks)) => {
                let unavailable = |cause: Cause| QueueError::Unavailable {
                    queue: self.name.clone(),
                    cause,
                };
                search = peeks.search(search).await.map_err(unavailable)?;
            }
            (StoreEngine::Durable(_), None) | (StoreEngine::Ephemeral(_), _) => {
                while !search.is_done() {
                    let step = StoreOperation::new(move |rules, _now| {
                        rules.look_at_some(&mut search)?;
                        Ok(search)
                    });
                    search = self.ask(step).await?;
                    between_steps().await;
                }
            }
        }
        Ok(search)
    }

    /// Does one step of something with chosen dead letters.
    pub(crate) async fn sweep_step(&self, sweep: DeadLetterSweep) -> Result<SweptDeadLetters, QueueError> {
        let DeadLetterSweep {
            action,
            filter,
            after,
            limit,
        } = sweep;
        let search = self
            .search(PeekRequest {
                scope: PeekScope::DeadLetters,
                filter,
                after,
                limit,
                body_limit: Some(0),
            })
            .await?;
        let (found, next) = search.finish();
        // A dead letter that died again meanwhile has another place, and is none of these.
        let places: Vec<u64> = found.into_iter().map(|(seq, _)| seq).collect();
        let key = self.key;
        let mut messages = 0;
        for places in places.chunks(STEP) {
            let mut which = DeadLetterChoice::places(places);
            loop {
                let step = which.clone();
                let act = StoreOperation::new(move |rules, now| match action {
                    DeadLetterAction::Redrive => rules.redrive(key, &step, now),
                    DeadLetterAction::Delete => rules.purge_dead(key, &step, now),
                });
                let (count, next) = self.ask(act).await?;
                messages += count;
                between_steps().await;
                let Some(next) = next else { break };
                which.after = next;
            }
        }
        Ok(SweptDeadLetters { messages, next })
    }

    /// Sends a message that was made from another one.
    pub(crate) async fn send_copy(&self, again: SentAgain) -> Result<Option<MessageId>, SendError> {
        let key = self.key;
        let weight = again.message.size();
        let send = StoreOperation::new(move |rules, now| rules.send_again(key, again, now));
        self.ask(send.sending().weighing(weight)).await?
    }
}
