//! What clients outside of the host may do with a queue beyond the contract: receive on other terms, use receipts late, and
//! delete or move many messages.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{
    HistoricDelivery, MovedMessages, SentMessage, SimpleQueue, SimpleStore, all_queues,
    long::{STEP, between_steps},
    operation::StoreOperation,
    receive_terms::ReceiveTerms,
    rules::MoveStep,
};
use sandhog_queue::{
    Effects, ExtendError, Queue as _, QueueError, Receipt, ReceiveDemand, SendError, SettleError, SettleRequest,
    Settlement, message::CheckedMessage,
};

impl SimpleQueue {
    /// Receives as [`sandhog_queue::Queue::receive`] does, on other terms than a handler.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    ///
    /// # Cancel safety
    ///
    /// Safe: what was received for a future that was dropped is released, and its receive is not counted.
    pub async fn receive_on(
        &self,
        max: usize,
        wait: Duration,
        terms: ReceiveTerms,
    ) -> Result<Vec<HistoricDelivery>, QueueError> {
        self.receive_by(&ReceiveDemand::new(max), wait, terms).await
    }

    /// Extends as [`sandhog_queue::Queue::extend`] does. A receipt whose visibility timeout ran out still counts until its message is
    /// received again, unless the message is in a group. 0 makes the messages visible at once; their receives stay counted.
    ///
    /// # Errors
    ///
    /// See [`ExtendError`], for each receipt.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have extended.
    pub async fn extend_late(&self, receipts: Vec<Receipt>, by: Duration) -> Vec<Result<Instant, ExtendError>> {
        let count = receipts.len();
        let key = self.key;
        let extend = StoreOperation::new(move |rules, now| {
            rules.revive(key, &receipts, now)?;
            Ok(rules.extend(key, &receipts, by, now))
        });
        match self.ask(extend).await {
            Ok(answers) => answers,
            Err(error) => vec![Err(error.into()); count],
        }
    }

    /// Extends as SQS does. A receiver may have a message for twelve hours in all: an extension beyond them counts as one with an expired
    /// receipt. With `any_receipt`, a receipt whose visibility timeout ran out still counts, unless the message is in a group: it
    /// stands for the last receive of its message, if that was one outside of the host.
    ///
    /// # Errors
    ///
    /// See [`ExtendError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have extended.
    pub async fn extend_outside(
        &self,
        receipt: Receipt,
        by: Duration,
        any_receipt: bool,
    ) -> Result<Instant, ExtendError> {
        let key = self.key;
        let extend = StoreOperation::new(move |rules, now| {
            let receipt = if any_receipt {
                rules.revive(key, std::slice::from_ref(&receipt), now)?;
                rules.successor(key, receipt)
            } else {
                receipt
            };
            if rules.would_hold_too_long(&receipt, by, now) {
                return Ok(Err(ExtendError::Expired));
            }
            let mut answers = rules.extend(key, &[receipt], by, now);
            Ok(answers.pop().unwrap_or(Err(ExtendError::Expired)))
        });
        self.ask(extend).await.unwrap_or_else(|error| Err(error.into()))
    }

    /// Deletes messages. A receipt whose visibility timeout ran out still counts until its message is received again, unless the message
    /// is in a group.
    ///
    /// # Errors
    ///
    /// See [`SettleError`], for each receipt.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have deleted.
    pub async fn delete_late(&self, receipts: Vec<Receipt>) -> Vec<Result<(), SettleError>> {
        let count = receipts.len();
        let key = self.key;
        let delete = StoreOperation::new(move |rules, now| {
            rules.revive(key, &receipts, now)?;
            let delete = |receipt| SettleRequest {
                receipt,
                settlement: Settlement::Delete,
            };
            let settles = receipts.into_iter().map(delete).collect();
            rules.settle(key, settles, Effects::default(), now)
        });
        match self.ask(delete).await {
            Ok(Ok(answers)) => answers,
            // Only effects are refused, and there are none.
            Ok(Err(_)) => vec![Err(SettleError::Expired); count],
            Err(error) => vec![Err(error.into()); count],
        }
    }

    /// Sends as [`sandhog_queue::Queue::send_many`] does, and tells the places of the messages.
    ///
    /// # Errors
    ///
    /// See [`SendError`], for each message.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have sent.
    pub async fn send_numbered(&self, messages: Vec<CheckedMessage>) -> Vec<Result<SentMessage, SendError>> {
        self.send_all(messages).await
    }

    /// Deletes the messages that are there now, in flight or not, and returns their number. Their deduplication ids are free again. Not
    /// one transaction: a crash may leave some.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves some of them.
    pub async fn clear(&self) -> Result<u64, QueueError> {
        let last = self.last_seq().await?;
        let key = self.key;
        let mut deleted = 0;
        loop {
            let clear = StoreOperation::new(move |rules, _now| rules.clear(key, last, STEP));
            let step = self.ask(clear).await?;
            if step == 0 {
                break;
            }
            deleted += step;
            between_steps().await;
        }
        while self
            .ask(StoreOperation::new(move |rules, _now| {
                rules.forget_sent(key, last, STEP)
            }))
            .await?
        {
            between_steps().await;
        }
        Ok(deleted)
    }

    /// Takes the name from the queue, which is deleted by that: its name is free at once, and a queue that is declared under it later is
    /// another one. Handles of this one refuse sends and receive nothing. Its messages keep their room until
    /// [`SimpleQueue::clear`] or [`super::SimpleStore::finish_deletions`] deletes them.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have deleted the queue.
    pub async fn retire(&self) -> Result<(), QueueError> {
        let key = self.key;
        self.ask(StoreOperation::new(move |rules, now| rules.retire(key, now)))
            .await
    }

    /// Deletes the queue as [`SimpleQueue::retire`] does, if it has no message and no dead letter in another queue. Returns the number of
    /// those that keep it from that: 0 if the queue is deleted.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have deleted the queue.
    pub async fn retire_empty(&self) -> Result<u64, QueueError> {
        let key = self.key;
        self.ask(StoreOperation::new(move |rules, now| rules.retire_empty(key, now)))
            .await
    }

    /// Deletes the queue as [`SimpleQueue::retire`] does, with its messages.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have deleted the queue. If it has, [`super::SimpleStore::finish_deletions`] deletes the messages
    /// that are left.
    pub async fn delete(&self) -> Result<(), QueueError> {
        self.retire().await?;
        self.clear().await.map(drop)
    }

    /// Moves at most `limit` messages that are not in flight to the queue `to`, or each to the queue that it was a message of before it
    /// became a dead letter. A move takes several steps: `last` is what the step before this one answered, and `None` for the first.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have moved the messages of this step, as a whole.
    pub async fn move_messages(
        &self,
        to: Option<&Self>,
        last: Option<u64>,
        limit: usize,
    ) -> Result<MovedMessages, QueueError> {
        let last = match last {
            Some(last) => last,
            None => self.last_seq().await?,
        };
        let (key, to) = (self.key, to.map(|to| to.key));
        let limit = limit.min(STEP);
        let step = MoveStep { to, last, limit };
        self.ask(StoreOperation::new(move |rules, now| {
            rules.move_messages(key, step, now)
        }))
        .await
    }

    /// Waits until so many messages wait in the queue, visible or behind another one of their group.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn wait_until_ready(&self, messages: u64) -> Result<(), QueueError> {
        /// What becomes visible by itself wakes nobody who does not receive.
        const LOOK_AGAIN: Duration = Duration::from_millis(50);
        let mut wake = std::pin::pin!(self.notify.notified());
        loop {
            // Registered before counting, so that a change in between wakes this wait.
            wake.as_mut().enable();
            if self.counts().await?.ready >= messages {
                return Ok(());
            }
            if timeout(LOOK_AGAIN, wake.as_mut()).await.is_ok() {
                wake.set(self.notify.notified());
            }
        }
    }

    /// Ends the visibility timeouts of all messages in flight, and returns their number. Their receives stay counted.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have ended them.
    pub async fn expire_in_flight(&self) -> Result<u64, QueueError> {
        let key = self.key;
        let expire = StoreOperation::new(move |rules, now| rules.expire_in_flight(key, now));
        self.ask(expire).await
    }

    /// Returns for how long the receiver of a message has had it, or `None` if the receipt is no longer valid.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn held_for(&self, receipt: Receipt) -> Result<Option<Duration>, QueueError> {
        let key = self.key;
        let look = StoreOperation::new(move |rules, now| Ok(rules.held_for(key, &receipt, now)));
        self.ask(look).await
    }

    /// Returns whether the message of a receipt is in the queue, whoever has it.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn has_message_of(&self, receipt: Receipt) -> Result<bool, QueueError> {
        let key = self.key;
        let look = StoreOperation::new(move |rules, _now| rules.has_message_of(key, &receipt));
        self.ask(look).await
    }
}

impl SimpleStore {
    /// Brings the ends of all visibility timeouts nearer, as if `by` had passed. What else counts time follows the clock of the store,
    /// see [`SimpleStore::ephemeral_on`].
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have done it.
    pub async fn hasten(&self, by: Duration) -> Result<(), QueueError> {
        let hasten = StoreOperation::new(move |rules, _now| {
            rules.hasten(by);
            Ok(())
        });
        self.inner.ask(&all_queues(), hasten).await
    }
}
