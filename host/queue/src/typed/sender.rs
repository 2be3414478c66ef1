//! The sending half: values into messages, many of them in batches.
//!
//! Invariant: every value taken from the caller is answered for, in order. A value that can't be sent does not keep
//! the others from being sent, and no value is dropped without an answer.

use std::{fmt, marker::PhantomData, sync::Arc};

use serde::Serialize;

use crate::{
    Queue, SendError,
    message::{CheckedMessage, MessageId, Outgoing},
};

/// The most messages that [`Sender::send_many`] hands to the queue at once.
const BATCH_MESSAGES: usize = 500;
/// A batch whose bodies have this many bytes takes no further message.
const BATCH_BYTES: usize = 1024 * 1024;

/// Sends values of one type to one queue.
///
/// Any number of tasks may share one by reference.
pub struct Sender<T> {
    queue: Arc<dyn Queue>,
    sends: PhantomData<fn(T)>,
}

/// Why a value was not sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TypedSendError {
    /// The value has no form in JSON (its `Serialize` refused, or a map has keys that are no text). Final.
    #[error("the value cannot be written as JSON")]
    Encode(#[source] serde_json::Error),
    /// The queue refused the message; see [`SendError`].
    #[error(transparent)]
    Refused(#[from] SendError),
}

/// Some of the values given to [`Sender::send_many`] were not sent; the others were.
#[derive(Debug, thiserror::Error)]
#[error("{} of {} values were not sent", self.failed().count(), self.results.len())]
#[non_exhaustive]
pub struct SendManyError {
    /// One answer per value taken from the iterator, in order.
    pub results: Vec<Result<MessageId, TypedSendError>>,
}

impl TypedSendError {
    /// Whether sending the same value again later can succeed.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Encode(_) | Self::Refused(SendError::Invalid(_) | SendError::NoSuchQueue(_)) => false,
            Self::Refused(SendError::Full { .. }) => true,
            Self::Refused(SendError::Queue(error)) => error.is_transient(),
        }
    }

    /// Whether the queue is at fault and not the value, so that the next value would fare no better.
    fn is_of_the_queue(&self) -> bool {
        match self {
            Self::Encode(_) | Self::Refused(SendError::Invalid(_)) => false,
            Self::Refused(SendError::NoSuchQueue(_) | SendError::Full { .. } | SendError::Queue(_)) => true,
        }
    }
}

impl SendManyError {
    /// Returns the values that were sent: the place of each among the values, counted from 0, and its id.
    pub fn sent(&self) -> impl Iterator<Item = (usize, &MessageId)> {
        let answers = self.results.iter().enumerate();
        answers.filter_map(|(index, result)| result.as_ref().ok().map(|id| (index, id)))
    }

    /// Returns the values that were not sent: the place of each among the values, counted from 0, and the reason.
    pub fn failed(&self) -> impl Iterator<Item = (usize, &TypedSendError)> {
        let answers = self.results.iter().enumerate();
        answers.filter_map(|(index, result)| result.as_ref().err().map(|error| (index, error)))
    }
}

impl<T: Serialize> Sender<T> {
    /// Makes a sender to a queue. Cheap; it starts nothing.
    pub fn new(queue: Arc<dyn Queue>) -> Self {
        Self {
            queue,
            sends: PhantomData,
        }
    }

    /// Sends a value. The answer comes once the message is as durable as the queue gets.
    ///
    /// # Errors
    ///
    /// - [`TypedSendError::Encode`]: the value is at fault.
    /// - [`TypedSendError::Refused`]: the queue said no; [`TypedSendError::is_transient`] tells whether to try again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have sent. To send again without sending twice, give both the same
    /// deduplication id with [`Sender::send_with`].
    pub async fn send(&self, value: &T) -> Result<MessageId, TypedSendError> {
        self.send_with(value, Outgoing::default()).await
    }

    /// Sends a value with a delay, group, deduplication id, priority or attributes: everything but the body is taken
    /// from `options`.
    ///
    /// # Errors
    ///
    /// As [`Sender::send`]; options beyond a limit are refused as [`SendError::Invalid`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have sent.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::{sync::Arc, time::Duration};
    /// # use sandhog_queue::{Queue, message::{Outgoing, QueueName}, typed::Sender};
    /// # use sandhog_simple::{SimpleStore, settings::Settings};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let name = QueueName::new("letters")?;
    /// # let settings = Settings::defaults(&name);
    /// # let queue: Arc<dyn Queue> = SimpleStore::ephemeral().queue(name, settings).await?;
    /// let sender = Sender::<String>::new(Arc::clone(&queue));
    /// let tomorrow = Outgoing {
    ///     delay: Some(Duration::from_hours(12)),
    ///     deduplication_id: Some("letter-1".to_owned()),
    ///     ..Outgoing::default()
    /// };
    /// let first = sender.send_with(&"dear".to_owned(), tomorrow.clone()).await?;
    /// let again = sender.send_with(&"dear".to_owned(), tomorrow).await?;
    /// assert_eq!(first, again);
    /// assert_eq!(queue.counts().await?.delayed, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn send_with(&self, value: &T, options: Outgoing) -> Result<MessageId, TypedSendError> {
        Ok(self.queue.send(message(value, options)?).await?)
    }

    /// Sends values in the order of the iterator, in batches: one ends with its 500th message, or with the one that
    /// brings it to 1 MiB. Returns their ids, in order.
    ///
    /// Only one batch at a time is taken from the iterator, so it may be longer than memory would hold.
    ///
    /// # Errors
    ///
    /// [`SendManyError`] has one answer per value taken: the id of each that was sent, and why each other was not. A
    /// value at fault itself does not keep the values after it from being sent. A queue at fault (full, unavailable,
    /// failed) does: the call ends after that batch, and the values after it stay in the iterator. Pass `&mut iterator`
    /// to have them.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may have sent any number of the values, in order from the first; what was taken from the
    /// iterator is gone.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::{num::NonZeroU32, sync::Arc};
    /// # use sandhog_queue::{Queue, message::{MAX_BODY_BYTES, QueueName}, typed::Sender};
    /// # use sandhog_simple::{SimpleStore, settings::Settings};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let name = QueueName::new("letters")?;
    /// # let settings = Settings::defaults(&name);
    /// # let queue: Arc<dyn Queue> = SimpleStore::ephemeral().queue(name, settings).await?;
    /// let sender = Sender::<String>::new(queue);
    /// let too_long = "x".repeat(MAX_BODY_BYTES);
    /// let error = sender.send_many(["one".to_owned(), too_long, "three".to_owned()]).await.unwrap_err();
    /// assert_eq!(error.failed().map(|(index, _)| index).collect::<Vec<_>>(), [1]);
    /// assert_eq!(error.sent().map(|(index, _)| index).collect::<Vec<_>>(), [0, 2]);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn send_many(&self, values: impl IntoIterator<Item = T>) -> Result<Vec<MessageId>, SendManyError> {
        let mut values = values.into_iter();
        let mut results = Vec::new();
        loop {
            let batch = next_batch(&mut values);
            let last = batch.is_empty();
            let answers = self.send_batch(batch).await;
            let queue_at_fault = answers
                .iter()
                .any(|answer| answer.as_ref().is_err_and(TypedSendError::is_of_the_queue));
            results.extend(answers);
            if last || queue_at_fault {
                break;
            }
        }
        if results.iter().any(Result::is_err) {
            return Err(SendManyError { results });
        }
        Ok(results.into_iter().flatten().collect())
    }

    async fn send_batch(&self, batch: Vec<Encoded>) -> Vec<Result<MessageId, TypedSendError>> {
        let mut places = Vec::with_capacity(batch.len());
        let mut messages = Vec::with_capacity(batch.len());
        for encoded in batch {
            places.push(encoded.map(|message| messages.push(message)));
        }
        if messages.is_empty() {
            return places.into_iter().filter_map(Result::err).map(Err).collect();
        }
        let mut answers = self.queue.send_many(messages).await.into_iter();
        let mut answer = || answers.next().expect("one answer per message");
        places
            .into_iter()
            .map(|place| place.and_then(|()| Ok(answer()?)))
            .collect()
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("queue", self.queue.name()).finish()
    }
}

/// A message, or the reason why the value is none.
type Encoded = Result<CheckedMessage, TypedSendError>;

/// Takes the next values, as many as one batch takes; none if there are no more.
fn next_batch<T: Serialize>(values: &mut impl Iterator<Item = T>) -> Vec<Encoded> {
    let mut batch = Vec::new();
    let mut bytes = 0;
    while batch.len() < BATCH_MESSAGES
        && bytes < BATCH_BYTES
        && let Some(value) = values.next()
    {
        let encoded = message(&value, Outgoing::default());
        bytes += encoded.as_ref().map_or(0, |message| message.body.len());
        batch.push(encoded);
    }
    batch
}

fn message<T: Serialize>(value: &T, options: Outgoing) -> Encoded {
    let body = serde_json::to_vec(value).map_err(TypedSendError::Encode)?;
    let message = Outgoing {
        body: body.into(),
        ..options
    };
    // Here and not only in the queue: a body beyond the limit must not take the place of others in a batch.
    Ok(message.check().map_err(SendError::from)?)
}
