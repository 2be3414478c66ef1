//! Long operations, which are done step by step so that no other caller has to wait for all of one.
//!
//! Invariant: a step changes a bounded number of messages and of bytes, and other callers get their turn between two steps, in
//! the store in memory too, which each caller works on itself. No operation here is one transaction as a whole.

use super::{
    SimpleQueue, StoreEngine,
    clock::StoreTime,
    history::SentMessage,
    operation::StoreOperation,
    row::{QueueKey, StoreFault},
    rules::{DeadLetterChoice, StoreRules},
};
use sandhog_queue::message::{CheckedMessage, MessageId};
use sandhog_queue::{DeadLetter, QueueError, SendError};

/// The number of messages that one step changes.
pub(crate) const STEP: usize = 256;
/// A page of dead letters ends once it has this many bytes of bodies.
const PAGE_BYTES: usize = 16 * 1024 * 1024;

/// Lets other callers run between two steps: in memory nothing else would make a long operation wait.
pub(crate) async fn between_steps() {
    tokio::task::yield_now().await;
}

/// One step over some dead letters of a queue. Returns the number that it changed, and the place to go on from if there may be more.
type Step = fn(&mut StoreRules, QueueKey, &DeadLetterChoice, StoreTime) -> Result<(u64, Option<u64>), StoreFault>;

impl SimpleQueue {
    /// Applies a step to the oldest dead letters until `limit` are done or none is left.
    pub(crate) async fn each_step(&self, limit: usize, step: Step) -> Result<u64, QueueError> {
        let last = self.last_seq().await?;
        let mut after = 0;
        let mut done = 0_u64;
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        while done < limit {
            let left = usize::try_from(limit - done).unwrap_or(usize::MAX);
            let (count, next) = self
                .take_step(step, DeadLetterChoice::oldest(after, last, left))
                .await?;
            done += count;
            let Some(next) = next else { break };
            after = next;
            between_steps().await;
        }
        Ok(done)
    }

    /// Applies a step to the dead letters with these ids.
    pub(crate) async fn each_id(&self, ids: Vec<MessageId>, step: Step) -> Result<u64, QueueError> {
        let last = self.last_seq().await?;
        let mut done = 0;
        for ids in ids.chunks(STEP) {
            let mut which = DeadLetterChoice::ids(ids, last);
            loop {
                let (count, next) = self.take_step(step, which.clone()).await?;
                done += count;
                between_steps().await;
                let Some(next) = next else { break };
                which.after = next;
            }
        }
        Ok(done)
    }

    async fn take_step(&self, step: Step, which: DeadLetterChoice) -> Result<(u64, Option<u64>), QueueError> {
        let key = self.key;
        self.ask(StoreOperation::new(move |rules, now| step(rules, key, &which, now)))
            .await
    }

    /// Returns the highest place given out so far.
    pub(crate) async fn last_seq(&self) -> Result<u64, QueueError> {
        self.ask(StoreOperation::new(|rules, _now| Ok(rules.last_seq()))).await
    }

    /// Deletes all messages that were there when the purge began and are not in flight.
    pub(crate) async fn purge_all(&self) -> Result<u64, QueueError> {
        let key = self.key;
        let last = self.last_seq().await?;
        let mut done = 0;
        loop {
            // What time has ended is not in flight any more, and is purged too.
            let purge = StoreOperation::new(move |rules, now| {
                let more = rules.expire(key, now)?;
                Ok((rules.purge(key, last, STEP)?, more))
            });
            let (count, more) = self.ask(purge).await?;
            done += count;
            if count == 0 && !more {
                return Ok(done);
            }
            between_steps().await;
        }
    }

    /// Returns a page of dead letters.
    pub(crate) async fn list_dead(
        &self,
        after: Option<MessageId>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, QueueError> {
        let key = self.key;
        let mut place = 0;
        if let Some(id) = after {
            let find = StoreOperation::new(move |rules, _now| rules.place_of_dead(key, &id));
            match self.ask(find).await? {
                Some(after) => place = after,
                None => return Ok(Vec::new()),
            }
        }
        let mut letters = Vec::new();
        let mut bytes = 0;
        // A page ends early rather than fill the memory, and the next page goes on behind it.
        while letters.len() < limit && bytes < PAGE_BYTES {
            let left = limit - letters.len();
            let list = StoreOperation::new(move |rules, _now| rules.dead_letters(key, place, left));
            let (mut some, next) = self.ask(list).await?;
            bytes += some.iter().map(|letter| letter.message.body.len()).sum::<usize>();
            letters.append(&mut some);
            let Some(next) = next else { break };
            place = next;
            between_steps().await;
        }
        Ok(letters)
    }

    /// Sends messages. A store in memory gets them in several steps.
    pub(crate) async fn send_all(&self, messages: Vec<CheckedMessage>) -> Vec<Result<SentMessage, SendError>> {
        let count = messages.len();
        if matches!(self.inner.engine, StoreEngine::Durable(_)) || count <= STEP {
            return self.send_some(messages).await;
        }
        let mut answers = Vec::with_capacity(count);
        let mut messages = messages.into_iter();
        while answers.len() < count {
            let some: Vec<_> = messages.by_ref().take(STEP).collect();
            answers.extend(self.send_some(some).await);
            between_steps().await;
        }
        answers
    }

    async fn send_some(&self, messages: Vec<CheckedMessage>) -> Vec<Result<SentMessage, SendError>> {
        let key = self.key;
        let count = messages.len();
        let weight = messages.iter().map(|message| message.size()).sum();
        let send = StoreOperation::new(move |rules, now| {
            let messages = messages.into_iter();
            messages.map(|message| rules.send(key, message, now)).collect()
        });
        self.ask(send.sending().weighing(weight))
            .await
            .unwrap_or_else(|error| vec![Err(error.into()); count])
    }
}
