//! The facts in which kinds of queues differ.
//!
//! Each of them has a reader in the host, or a claim of the contract suite.

use std::{num::NonZeroU32, time::Duration};

use crate::message::MAX_DELAY;

/// The facts about a queue on which its consumers depend. Each field is one fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and every combination is possible"
)]
pub struct QueueCapabilities {
    /// The most messages that one receive returns, however many are asked for. An extension carries no more either.
    pub receive_limit: usize,
    /// Each call is a request that takes time and may cost money, so that a consumer waits a moment to ask for several
    /// messages at once.
    pub calls_cost: bool,
    /// A call may overtake another one about the same delivery, so that an extension and a settlement must not be under
    /// way together.
    pub calls_overtake: bool,
    /// The queue collects the settlements of several calls into one request, so that a consumer settles each attempt
    /// by itself.
    pub batches_settlements: bool,
    /// The queue counts visibility timeouts while this machine sleeps, and may give a message to another consumer as soon
    /// as a deadline has passed.
    pub has_own_clock: bool,
    /// A receive that ended in [`Settlement::Release`](super::Settlement::Release) counts towards the receive count all the same.
    pub counts_releases: bool,
    /// An extension can make a message visible earlier than it was to be before.
    pub extension_shortens: bool,
    /// The longest time from a receive for which extensions hide a message.
    pub longest_lease: Duration,
    /// The longest delay of [`Settlement::Retry`](super::Settlement::Retry); zero if the queue can't delay a retry.
    pub longest_retry_delay: Duration,
    /// One receive may return several messages of a group, one after another and in order. The caller handles them in
    /// that order, and gives the later ones back, last first, before it settles one other than by deleting it.
    pub returns_groups: bool,
    /// A message that was deleted may be received again all the same.
    pub redelivers_deleted: bool,
    /// A settlement can make a dead letter.
    pub has_dead_letter_queue: bool,
    /// [`Queue::dead_letters`](super::Queue::dead_letters) can go on after a dead letter. If not, the first page is all that it returns.
    pub pages_dead_letters: bool,
    /// The queue makes a dead letter of a message that was received too often, and keeps the failure of its last
    /// retry with it.
    pub keeps_failure: bool,
    /// The attribute `AWSTraceHeader` does not count to the attributes that a message may have.
    pub carries_trace_header: bool,
    /// The name of the messaging system in traces.
    pub messaging_system: &'static str,
    /// A failed message that was received this often is to be settled as a dead letter. `None` if the queue makes the
    /// dead letter by itself.
    pub max_receives: Option<NonZeroU32>,
}

impl QueueCapabilities {
    /// The capabilities of a queue in this process.
    pub const LOCAL: Self = Self {
        receive_limit: 1000,
        calls_cost: false,
        calls_overtake: false,
        batches_settlements: false,
        has_own_clock: false,
        counts_releases: false,
        extension_shortens: true,
        longest_lease: MAX_DELAY,
        longest_retry_delay: MAX_DELAY,
        returns_groups: false,
        redelivers_deleted: false,
        has_dead_letter_queue: true,
        pages_dead_letters: true,
        keeps_failure: true,
        carries_trace_header: false,
        messaging_system: "sandhog",
        max_receives: None,
    };
}
