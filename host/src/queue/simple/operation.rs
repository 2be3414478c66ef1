//! A command of a handle to the store: a closure over the rules, which do not know what kind of rows they work on.

use super::{
    super::Wanted,
    clock::StoreTime,
    row::{QueueKey, StoreFault},
    rules::{ReceiveAnswer, StoreRules},
};

/// The likely next step of the caller of an operation, known before the operation is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CommandKind {
    /// The caller sends, and is likely to send again as soon as the answer is there.
    Send,
    /// The caller receives, and is likely to receive again as soon as the answer is there.
    Receive,
    Other,
}

/// A question to the rules, which get the moment at which it was asked.
pub(super) struct StoreOperation<F> {
    pub(super) kind: CommandKind,
    /// Roughly how many bytes of bodies it writes or reads.
    pub(super) weight: usize,
    pub(super) apply: F,
}

impl<F> StoreOperation<F> {
    /// An operation that moves few bytes.
    pub(super) fn new<A>(apply: F) -> Self
    where
        F: FnOnce(&mut StoreRules, StoreTime) -> Result<A, StoreFault>,
    {
        Self {
            kind: CommandKind::Other,
            weight: 0,
            apply,
        }
    }

    /// Returns the operation with the number of bytes of bodies that it moves.
    pub(super) fn weighing(self, weight: usize) -> Self {
        Self { weight, ..self }
    }

    /// Returns the operation as one that sends messages.
    pub(super) fn sending(self) -> Self {
        Self {
            kind: CommandKind::Send,
            ..self
        }
    }
}

/// A receive, which does not wait. It is applied again and again until it finds something or is given up.
#[derive(Debug, Clone)]
pub(super) struct ReceiveMessages {
    pub(super) queue: QueueKey,
    pub(super) wanted: Wanted,
}

impl ReceiveMessages {
    /// Roughly how many bytes of bodies it will hand out.
    pub(super) fn weight(&self) -> usize {
        // The bodies are not known yet; a middling one stands for each.
        const EXPECTED_BYTES: usize = 16 * 1024;
        self.wanted.now().saturating_mul(EXPECTED_BYTES)
    }

    pub(super) fn apply(&self, rules: &mut StoreRules, now: StoreTime) -> Result<ReceiveAnswer, StoreFault> {
        let max = self.wanted.close();
        let received = rules.receive(self.queue, max, now)?;
        if received.deliveries.is_empty() {
            self.wanted.open_again();
        }
        Ok(received)
    }
}
