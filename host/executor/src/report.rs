//! The answer to a call: a verdict for each message, the effects of the guest, and the cost.

use std::{sync::Arc, time::Duration};

use sandhog_queue::{
    EffectSend, FailureKind,
    keyvalue::KeyValueWrite,
    printable::{MAX_REASON_BYTES, printable_lines},
};

/// The reason that a guest did not handle a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestFailure {
    /// The kind of the failure.
    pub kind: FailureKind,
    /// For people; at most 1 KiB, control characters escaped but for the ends of lines.
    pub reason: String,
    /// The delay that the guest asked for.
    pub retry_after: Option<Duration>,
    /// The stack of a guest that broke, innermost frame first: what the guest says, or else the engine's. The messages of a call share it.
    pub stack: Option<Arc<str>>,
}

/// The result of a call for one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The guest handled the message.
    Success,
    /// The guest did not handle the message, and the guest or its limits are the reason.
    Failed(GuestFailure),
    /// The guest did not run, or not to its end, through no fault of its own. The text says why.
    NotRun(String),
}

/// The cost of a call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CallUsage {
    /// The time from the start of the instance to the answer.
    pub wall: Duration,
    /// Processor time, host calls included.
    pub cpu: Duration,
    /// The most bytes that the guest's linear memories had together.
    pub memory_peak: u64,
    /// The number of lines of output past the limit, which were dropped.
    pub log_lines_dropped: u64,
    /// The number of HTTP requests that the guest made, refused ones included.
    pub http_requests: u64,
}

/// The answer to a call.
#[derive(Debug, Clone)]
pub struct CallReport {
    /// One verdict for each message, in order.
    pub verdicts: Vec<Verdict>,
    /// The messages that the guest sent, in order. Empty unless a verdict is [`Verdict::Success`].
    pub sends: Vec<EffectSend>,
    /// The writes to the handler's key-value store, one for each key. Empty unless a verdict is [`Verdict::Success`].
    pub writes: Vec<KeyValueWrite>,
    /// The cost of the call.
    pub usage: CallUsage,
}

impl Verdict {
    /// Makes a failure whose reason is cut and escaped.
    pub(crate) fn failed(kind: FailureKind, reason: impl AsRef<str>, stack: Option<Arc<str>>) -> Self {
        Self::Failed(GuestFailure {
            kind,
            reason: printable_lines(reason.as_ref().trim_end(), MAX_REASON_BYTES),
            retry_after: None,
            stack,
        })
    }
}

impl CallReport {
    /// Makes the report of a call during which the host's own code panicked.
    pub fn panicked(messages: usize) -> Self {
        let reason = "the host's own code failed while the handler ran";
        Self::without_effects(messages, &Verdict::failed(FailureKind::Trap, reason, None))
    }

    /// Makes the report of a call that never reached a guest.
    pub fn not_run(messages: usize, reason: &str) -> Self {
        Self::without_effects(messages, &Verdict::NotRun(reason.to_owned()))
    }

    fn without_effects(messages: usize, verdict: &Verdict) -> Self {
        Self {
            verdicts: vec![verdict.clone(); messages],
            sends: Vec::new(),
            writes: Vec::new(),
            usage: CallUsage::default(),
        }
    }
}
