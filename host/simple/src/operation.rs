//! A command of a handle to the store: a closure over the rules, which do not know what kind of rows they work on.

use super::{
    clock::StoreTime,
    receive_terms::ReceiveTerms,
    row::{QueueKey, StoreFault},
    rules::{ReceiveAnswer, StoreRules},
};
use sandhog_queue::ReceiveDemand;

/// The likely next step of the caller of an operation, known before the operation is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommandKind {
    /// The caller sends, and is likely to send again as soon as the answer is there.
    Send,
    /// The caller receives, and is likely to receive again as soon as the answer is there.
    Receive,
    Other,
}

/// A question to the rules, which get the moment at which it was asked.
pub(crate) struct StoreOperation<F> {
    pub(crate) kind: CommandKind,
    /// Roughly how many bytes of bodies it writes or reads.
    pub(crate) weight: usize,
    pub(crate) apply: F,
}

impl<F> StoreOperation<F> {
    /// An operation that moves few bytes.
    pub(crate) fn new<A>(apply: F) -> Self
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
    pub(crate) fn weighing(self, weight: usize) -> Self {
        Self { weight, ..self }
    }

    /// Returns the operation as one that sends messages.
    pub(crate) fn sending(self) -> Self {
        Self {
            kind: CommandKind::Send,
            ..self
        }
    }
}

/// A receive, which does not wait. It is applied again and again until it finds something or is given up.
#[derive(Debug, Clone)]
pub(crate) struct ReceiveMessages {
    pub(crate) queue: QueueKey,
    pub(crate) demand: ReceiveDemand,
    pub(crate) terms: ReceiveTerms,
}

impl ReceiveMessages {
    /// Roughly how many bytes of bodies it will hand out.
    pub(crate) fn weight(&self) -> usize {
        // The bodies are not known yet; a middling one stands for each.
        const EXPECTED_BYTES: usize = 16 * 1024;
        self.demand.now().saturating_mul(EXPECTED_BYTES)
    }

    pub(crate) fn apply(&self, rules: &mut StoreRules, now: StoreTime) -> Result<ReceiveAnswer, StoreFault> {
        let max = self.demand.close();
        let received = rules.receive(self.queue, max, self.terms, now)?;
        if received.deliveries.is_empty() {
            self.demand.open_again();
        }
        Ok(received)
    }
}
