//! What takes long: it is done step by step, so that nobody has to wait for all of it.
//!
//! Invariant: a step changes a bounded number of messages and of bytes, and between two of them whoever waits gets his turn, for
//! the store in memory too, which is worked on by whoever asks. No operation here is one transaction as a whole.

use super::{
    super::{DeadLetter, QueueError, SendError},
    Engine, SimpleQueue,
    operation::{LastSeq, ListDead, Operation, PlaceOfDead, PurgeSome, SendMessages},
    rules::Which,
};
use crate::message::{CheckedMessage, MessageId};

/// How many messages one step changes.
const STEP: usize = 256;
/// A page of dead letters ends once it has so many bytes of bodies.
const PAGE_BYTES: usize = 16 * 1024 * 1024;

/// Lets others run between two steps: in memory nothing else would make a long operation wait.
pub(super) async fn between_steps() {
    tokio::task::yield_now().await;
}

impl SimpleQueue {
    /// Applies a step to the oldest dead letters until `limit` are done or none is left.
    pub(super) async fn each_step<O, F>(&self, limit: usize, step: F) -> Result<u64, QueueError>
    where
        O: Operation<Answer = (u64, Option<u64>)>,
        F: Fn(Which) -> O + Send + Sync,
    {
        let last = self.ask(LastSeq).await?;
        let (mut after, mut done) = (0, 0_u64);
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        while done < limit {
            let left = usize::try_from(limit - done).unwrap_or(usize::MAX);
            let (count, next) = self.ask(step(Which::oldest(after, last, left))).await?;
            done += count;
            let Some(next) = next else { break };
            after = next;
            between_steps().await;
        }
        Ok(done)
    }

    pub(super) async fn each_id<O, F>(&self, ids: Vec<MessageId>, step: F) -> Result<u64, QueueError>
    where
        O: Operation<Answer = (u64, Option<u64>)>,
        F: Fn(Which) -> O + Send + Sync,
    {
        let last = self.ask(LastSeq).await?;
        let mut done = 0;
        for ids in ids.chunks(STEP) {
            let mut which = Which::ids(ids, last);
            loop {
                let (count, next) = self.ask(step(which.clone())).await?;
                done += count;
                between_steps().await;
                let Some(next) = next else { break };
                which.after = next;
            }
        }
        Ok(done)
    }

    /// Deletes all that was there when this began and is not in flight.
    pub(super) async fn purge_all(&self) -> Result<u64, QueueError> {
        let last = self.ask(LastSeq).await?;
        let mut done = 0;
        loop {
            let purge = PurgeSome {
                queue: self.key,
                last,
                limit: STEP,
            };
            let count = self.ask(purge).await?;
            done += count;
            if count == 0 {
                return Ok(done);
            }
            between_steps().await;
        }
    }

    /// A page of dead letters.
    pub(super) async fn list_dead(
        &self,
        after: Option<MessageId>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, QueueError> {
        let mut place = 0;
        if let Some(id) = after {
            match self.ask(PlaceOfDead { queue: self.key, id }).await? {
                Some(after) => place = after,
                None => return Ok(Vec::new()),
            }
        }
        let (mut letters, mut bytes) = (Vec::new(), 0);
        // A page ends early rather than fill the memory; the next one goes on behind it.
        while letters.len() < limit && bytes < PAGE_BYTES {
            let list = ListDead {
                queue: self.key,
                after: place,
                limit: limit - letters.len(),
            };
            let (mut some, next) = self.ask(list).await?;
            bytes += some.iter().map(|letter| letter.message.body.len()).sum::<usize>();
            letters.append(&mut some);
            let Some(next) = next else { break };
            place = next;
            between_steps().await;
        }
        Ok(letters)
    }

    /// Sends messages. Those to a store in memory are not sent at once.
    pub(super) async fn send_all(&self, messages: Vec<CheckedMessage>) -> Vec<Result<MessageId, SendError>> {
        let (queue, count) = (self.key, messages.len());
        let send = |messages| self.ask(SendMessages { queue, messages });
        if matches!(self.inner.engine, Engine::Durable(_)) || count <= STEP {
            return send(messages)
                .await
                .unwrap_or_else(|error| vec![Err(error.into()); count]);
        }
        let mut answers = Vec::with_capacity(count);
        let mut messages = messages.into_iter();
        while answers.len() < count {
            let some: Vec<_> = messages.by_ref().take(STEP).collect();
            let asked = some.len();
            let answer = send(some).await;
            answers.extend(answer.unwrap_or_else(|error| vec![Err(error.into()); asked]));
            between_steps().await;
        }
        answers
    }
}
