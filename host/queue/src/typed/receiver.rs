//! The receiving half: messages into values, one at a time, each under a lease.
//!
//! Invariant: a receiver takes a message only for a caller that waits for it, so nothing lies in memory while others
//! could have it. A body that is no `T` becomes a dead letter, and the receiver goes on to the next one.

use std::{any::type_name, fmt, marker::PhantomData, sync::Arc, time::Duration};

use futures_util::stream::{Stream, unfold};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout};

use super::{
    received::{AcknowledgementError, Received, rejection},
    upkeep::Upkeep,
};
use crate::{Delivery, Queue, QueueError, SettleError, printable::chain};

/// The longest that one question to the queue waits for a message (the limit of SQS).
const RECEIVE_WAIT: Duration = Duration::from_secs(20);
/// A question that was not answered so long after it should have been is given up.
const RECEIVE_MARGIN: Duration = Duration::from_secs(20);
/// The wait of a stream after a receive that failed.
const RECEIVE_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Receives values of one type from one queue.
///
/// Any number of tasks may share one by reference, and each value goes to one of them. Every receiver has a task of its
/// own that extends the leases of what it received. The task ends after the receiver and the last [`Received`] of it.
pub struct Receiver<T> {
    queue: Arc<dyn Queue>,
    upkeep: Arc<Upkeep>,
    receives: PhantomData<fn() -> T>,
}

/// Why no value was received.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The time given to [`Receiver::receive_timeout`] passed, and no message came. Nothing is wrong.
    #[error("no message arrived in time")]
    Timeout,
    /// See [`QueueError`]: `Unavailable` is worth another receive after a pause, `Failed` is not.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl ReceiveError {
    /// Whether receiving again later can succeed.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Timeout => true,
            Self::Queue(error) => error.is_transient(),
        }
    }
}

/// The next step of a stream.
enum Next {
    Receive,
    WaitAndReceive,
    End,
}

impl<T> Receiver<T> {
    /// Makes a receiver of a queue.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime: the task that extends leases starts here.
    pub fn new(queue: Arc<dyn Queue>) -> Self {
        Self {
            upkeep: Upkeep::start(&queue),
            queue,
            receives: PhantomData,
        }
    }

    /// Deletes the message of a value that was handled: [`Received::acknowledge`].
    ///
    /// # Errors
    ///
    /// See there.
    ///
    /// # Cancel safety
    ///
    /// See there.
    pub async fn acknowledge(&self, received: Received<T>) -> Result<(), SettleError> {
        received.acknowledge().await
    }

    /// Runs `block` on the value. Acknowledges its message when the block succeeds, and releases it when the block
    /// fails, panics or is dropped: [`Received::acknowledgement`].
    ///
    /// # Errors
    ///
    /// See there.
    ///
    /// # Cancel safety
    ///
    /// See there.
    ///
    /// # Panics
    ///
    /// If the block does.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use sandhog_queue::{Queue, message::QueueName, typed::{AcknowledgementError, Receiver, Sender}};
    /// # use sandhog_simple::{SimpleStore, settings::Settings};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let name = QueueName::new("numbers")?;
    /// # let settings = Settings::defaults(&name);
    /// # let queue: Arc<dyn Queue> = SimpleStore::ephemeral().queue(name, settings).await?;
    /// # Sender::<String>::new(Arc::clone(&queue)).send(&"seven".to_owned()).await?;
    /// let receiver = Receiver::<String>::new(Arc::clone(&queue));
    /// let received = receiver.receive().await?;
    /// let ended = receiver.acknowledgement(received, async |text| text.parse::<u32>()).await;
    ///
    /// assert!(matches!(ended, Err(AcknowledgementError::Block(_))));
    /// // Not handled, so not gone:
    /// assert_eq!(*receiver.receive().await?, "seven");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn acknowledgement<R, E>(
        &self,
        received: Received<T>,
        block: impl AsyncFnOnce(T) -> Result<R, E>,
    ) -> Result<R, AcknowledgementError<E>> {
        received.acknowledgement(block).await
    }

    /// Waits until every value that was received is settled or dropped, and the dropped ones are given back: the last
    /// thing to do before the runtime ends. Without it messages just dropped may stay invisible until their
    /// visibility timeout.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the same to happen by itself, as dropping the receiver does.
    pub async fn close(self) {
        let tasks = self.upkeep.tasks();
        drop(self);
        tasks.wait().await;
    }
}

impl<T: DeserializeOwned> Receiver<T> {
    /// Waits for a value, as long as it takes.
    ///
    /// A message whose body is no `T` is a dead letter from then on, with the place of the mistake as its reason, and
    /// the wait goes on.
    ///
    /// # Errors
    ///
    /// [`ReceiveError::Queue`]; never `Timeout`.
    ///
    /// # Cancel safety
    ///
    /// Safe: no message is lost. One that was taken and not returned any more is visible to others at once; one that was
    /// on its way to the dead letters arrives there, or returns by itself.
    pub async fn receive(&self) -> Result<Received<T>, ReceiveError> {
        self.receive_until(None).await
    }

    /// Waits for a value, up to `wait`. Zero asks once, for what is visible now.
    ///
    /// # Errors
    ///
    /// - [`ReceiveError::Timeout`]: none came. Also the answer, at most 20 s late, if the queue does not answer at all.
    /// - [`ReceiveError::Queue`]: the queue could not be asked.
    ///
    /// # Cancel safety
    ///
    /// As [`Receiver::receive`].
    pub async fn receive_timeout(&self, wait: Duration) -> Result<Received<T>, ReceiveError> {
        // A time beyond the range of `Instant` is as good as none.
        self.receive_until(Instant::now().checked_add(wait)).await
    }

    /// Returns the values as they arrive, without end. The stream receives a message only when it is polled for one.
    ///
    /// After a [`ReceiveError`] that is transient the stream goes on, a second later; after another one it ends.
    ///
    /// # Cancel safety
    ///
    /// Safe: a value that was asked for and not waited for comes with the next one asked for, or is given back when the
    /// stream is dropped.
    pub fn stream(&self) -> impl Stream<Item = Result<Received<T>, ReceiveError>> + Unpin {
        Box::pin(unfold(Next::Receive, async |next| {
            match next {
                Next::Receive => {}
                Next::WaitAndReceive => sleep(RECEIVE_AGAIN_AFTER).await,
                Next::End => return None,
            }
            let received = self.receive().await;
            let next = match &received {
                Ok(_) => Next::Receive,
                Err(error) if error.is_transient() => Next::WaitAndReceive,
                Err(_) => Next::End,
            };
            Some((received, next))
        }))
    }

    async fn receive_until(&self, end: Option<Instant>) -> Result<Received<T>, ReceiveError> {
        loop {
            let left = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
            if let Some(delivery) = self.receive_one(left.min(RECEIVE_WAIT)).await?
                && let Some(received) = self.decode(delivery).await?
            {
                return Ok(received);
            }
            if end.is_some_and(|end| end <= Instant::now()) {
                return Err(ReceiveError::Timeout);
            }
        }
    }

    async fn receive_one(&self, wait: Duration) -> Result<Option<Delivery>, QueueError> {
        let Ok(answer) = timeout(wait + RECEIVE_MARGIN, self.queue.receive(1, wait)).await else {
            tracing::error!(queue = %self.queue.name(), "a receive did not return; it is made anew");
            return Ok(None);
        };
        Ok(answer?.pop())
    }

    /// Returns the value of a delivery. A delivery without one is settled here.
    async fn decode(&self, delivery: Delivery) -> Result<Option<Received<T>>, QueueError> {
        let held = self.upkeep.hold(&delivery);
        let Delivery {
            message, receive_count, ..
        } = delivery;
        let error = match serde_json::from_slice(&message.body) {
            Ok(value) => return Ok(Some(Received::new(value, message, receive_count, held))),
            Err(error) => error,
        };
        // The error may quote the body, which is the sender's business and not the log's.
        tracing::warn!(
            queue = %self.queue.name(),
            id = %message.id,
            line = error.line(),
            column = error.column(),
            expected = type_name::<T>(),
            "a message is not what the receiver expects; it becomes a dead letter"
        );
        let reason = format!("the body is no {}: {error}", type_name::<T>());
        match held.settle(rejection(&reason)).await {
            // An expired message comes again, or went to another consumer, which finds the same.
            Ok(()) | Err(SettleError::Expired) => Ok(None),
            Err(SettleError::Queue(error)) => Err(error),
            Err(error @ SettleError::DeadLetterRefused { .. }) => {
                tracing::error!(queue = %self.queue.name(), error = %chain(&error), "it could not become a dead letter; it returns by itself");
                Ok(None)
            }
        }
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("queue", self.queue.name())
            .finish_non_exhaustive()
    }
}
