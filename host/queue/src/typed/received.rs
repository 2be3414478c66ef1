//! A value that was received and is not settled yet, and the ways to settle it.
//!
//! Invariant: each way takes the value by ownership, so no value is settled twice; a value that is dropped is given back.

use std::{fmt, num::NonZeroU32, ops::Deref, panic, time::Duration};

use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;

use super::upkeep::HeldLease;
use crate::{
    FailureKind, FailureRecord, SettleError, Settlement,
    message::{MAX_DELAY, Message},
    printable::{MAX_REASON_BYTES, chain, printable_lines},
};

/// The name of the handler in the record of a failure.
const HANDLER: &str = "typed-receiver";

/// A value that was received. Others do not receive it as long as this lives, however long that is.
///
/// Dropped without being settled, it is given back: visible to others again at once, the receive not counted where the
/// queue can take it back. The task behind the receiver does that, so it takes a moment, and needs the runtime to go on:
/// at the end of a program wait for [`Receiver::close`].
///
/// [`Receiver::close`]: super::Receiver::close
pub struct Received<T> {
    value: T,
    message: Message,
    receive_count: NonZeroU32,
    held: HeldLease,
}

/// Why [`Received::acknowledgement`] did not acknowledge.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AcknowledgementError<E> {
    /// The block failed with this error. The message was given back.
    #[error("the block failed, and its message was given back")]
    Block(#[source] E),
    /// The lease was lost while the block ran, so the block was dropped at its next await. Another consumer
    /// receives the message, so that the work of the block may be done again.
    #[error("the lease was lost while the block ran")]
    LeaseLost,
    /// The block succeeded, and the message was not acknowledged after it: it will be received again.
    /// [`SettleError::Expired`] if the lease was lost at the last moment.
    #[error("the block succeeded, and its message was not acknowledged")]
    Settle(#[source] SettleError),
}

impl<T> Received<T> {
    pub(crate) fn new(value: T, message: Message, receive_count: NonZeroU32, held: HeldLease) -> Self {
        Self {
            value,
            message,
            receive_count,
            held,
        }
    }

    /// Returns the message that carried the value: its id, attributes, group and time of sending.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// Returns the number of receives of the message, this one included.
    pub fn receive_count(&self) -> NonZeroU32 {
        self.receive_count
    }

    /// Returns a token that is cancelled when the message may have become visible to others: stop working on it. Every way to
    /// settle answers [`SettleError::Expired`] from then on, and does nothing.
    pub fn lost(&self) -> CancellationToken {
        self.held.lost().clone()
    }

    /// Deletes the message: it was handled.
    ///
    /// A queue that is unavailable is asked again for as long as the lease holds.
    ///
    /// # Errors
    ///
    /// - [`SettleError::Expired`]: the lease was lost; the message is received again, perhaps by another consumer.
    /// - [`SettleError::Queue`]: the queue has failed; the message is received again after it was restarted.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have deleted the message; if not, it returns by itself.
    pub async fn acknowledge(self) -> Result<(), SettleError> {
        self.held.settle(Settlement::Delete).await
    }

    /// Makes the message visible to others at once. The receive is not counted where the queue can take it back, so
    /// this says nothing against the message: for one that failed see [`Received::retry_after`].
    ///
    /// # Errors
    ///
    /// As [`Received::acknowledge`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have released the message; if not, it returns by itself.
    pub async fn release(self) -> Result<(), SettleError> {
        self.held.settle(Settlement::Release).await
    }

    /// Makes the message visible again after `delay`, at most [`MAX_DELAY`] (a longer one is cut). The receive counts:
    /// after the queue's last one the message is a dead letter, with the `reason` of the last failure, cut after 1 KiB.
    ///
    /// # Errors
    ///
    /// As [`Received::acknowledge`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have done it; if not, the message returns by itself.
    pub async fn retry_after(self, delay: Duration, reason: &str) -> Result<(), SettleError> {
        let settlement = Settlement::Retry {
            delay: delay.min(MAX_DELAY),
            failure: failure(FailureKind::Retry, reason),
        };
        self.held.settle(settlement).await
    }

    /// Makes a dead letter of the message now, with a reason for people, cut after 1 KiB.
    ///
    /// # Errors
    ///
    /// As [`Received::acknowledge`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have done it; if not, the message returns by itself.
    pub async fn reject(self, reason: &str) -> Result<(), SettleError> {
        self.held.settle(rejection(reason)).await
    }

    /// Runs `block` on the value. Acknowledges the message when the block succeeds, and returns what it made. Releases
    /// it when the block fails or panics (the panic goes on after that), and when this future is dropped.
    ///
    /// A release is at once and is not counted against the message where the queue can help it, so a message on which
    /// the block always fails comes back for ever. Where that can be, settle it yourself, with [`Received::retry_after`]
    /// or [`Received::reject`].
    ///
    /// # Errors
    ///
    /// See [`AcknowledgementError`]. In every case the message was not acknowledged.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the block, and gives the message back. Once the block has ended, dropping it may or
    /// may not have acknowledged.
    ///
    /// # Panics
    ///
    /// If the block does.
    pub async fn acknowledgement<R, E>(
        self,
        block: impl AsyncFnOnce(T) -> Result<R, E>,
    ) -> Result<R, AcknowledgementError<E>> {
        let Self {
            value, message, held, ..
        } = self;
        let running = panic::AssertUnwindSafe(async move { block(value).await }).catch_unwind();
        let ended = tokio::select! {
            biased;
            // A lost lease is not given back. This arm is first, so that a lease lost before does not start the block.
            () = held.lost().cancelled() => return Err(AcknowledgementError::LeaseLost),
            ended = running => ended,
        };
        match ended {
            Ok(Ok(made)) => match held.settle(Settlement::Delete).await {
                Ok(()) => Ok(made),
                Err(error) => Err(AcknowledgementError::Settle(error)),
            },
            Ok(Err(error)) => {
                give_back(held, &message).await;
                Err(AcknowledgementError::Block(error))
            }
            Err(panicked) => {
                give_back(held, &message).await;
                panic::resume_unwind(panicked)
            }
        }
    }
}

/// Releases a message whose block failed. The caller gets the error of the block, so an error of the queue is logged.
async fn give_back(held: HeldLease, message: &Message) {
    if let Err(error) = held.settle(Settlement::Release).await {
        tracing::warn!(
            id = %message.id,
            error = %chain(&error),
            "the message of a block that failed was not released; it returns by itself"
        );
    }
}

/// The settlement of a message that can never be handled.
pub(crate) fn rejection(reason: &str) -> Settlement {
    Settlement::DeadLetter {
        failure: failure(FailureKind::Reject, reason),
    }
}

fn failure(kind: FailureKind, reason: &str) -> FailureRecord {
    FailureRecord {
        kind,
        reason: printable_lines(reason, MAX_REASON_BYTES),
        handler: HANDLER.to_owned(),
        // No component ran.
        component: String::new(),
    }
}

impl<T> Deref for Received<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Received<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received")
            .field("value", &self.value)
            .field("id", &self.message.id)
            .field("receive_count", &self.receive_count)
            .finish_non_exhaustive()
    }
}
