//! Deliveries: messages that a queue has handed out for a time.

use std::num::NonZeroU32;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Receipt;
use crate::message::Message;

/// One receive of a message.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// The right to extend or settle this delivery.
    pub receipt: Receipt,
    /// The number of receives of the message, this one included.
    pub receive_count: NonZeroU32,
    /// The time for which the queue keeps the message from other consumers.
    pub lease: DeliveryLease,
}

/// The time for which a queue keeps a message that it has handed out from other consumers.
///
/// A consumer settles no delivery whose lease is lost. The queue itself releases a message whose lease is lost, where its
/// server needs to be told: a server may give nothing more to a connection that holds an unsettled message.
#[derive(Debug, Clone)]
pub enum DeliveryLease {
    /// The message becomes visible to other consumers at this time, unless the delivery is extended.
    Until(Instant),
    /// The message is held by a connection. It is never extended.
    WhileConnected {
        /// Cancelled by the queue as soon as the connection no longer holds the message.
        lost: CancellationToken,
        /// The time at which the server takes the message back all the same.
        at_most: Option<Instant>,
    },
}

impl DeliveryLease {
    /// Returns the time at which the lease ends by itself; `None` if it only ends with its connection.
    pub fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Until(deadline) => Some(*deadline),
            Self::WhileConnected { at_most, .. } => *at_most,
        }
    }

    /// Whether another consumer may have the message by now.
    pub fn is_lost(&self) -> bool {
        let disconnected = match self {
            Self::Until(_) => false,
            Self::WhileConnected { lost, .. } => lost.is_cancelled(),
        };
        disconnected || self.deadline().is_some_and(|deadline| deadline <= Instant::now())
    }
}
