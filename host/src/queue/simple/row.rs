//! One stored message, as the rules see it: where it is, and what it holds. Plain data.
//!
//! The two halves are apart because most rules need only the first: a body is read when it is handed out.

use std::{error::Error, fmt, sync::Arc};

use super::super::{Cause, FailureRecord};
use crate::message::Message;

/// The number that a store gave to a queue; it never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct QueueKey(pub(super) u32);

/// The name of a message group. Messages of one queue that share a group are handled one after another. The empty name stands for
/// the whole queue; any other is a group id, which is never empty.
pub(super) type GroupName = Arc<str>;

/// What a message waits for. The numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum State {
    /// A receiver: it may be handed out now.
    Ready,
    /// Its turn in its group.
    Held,
    /// Its settlement.
    InFlight,
    /// The end of the delay that it was sent with. Does not block its group.
    Delayed,
    /// The end of its retry delay. Blocks its group.
    Retry,
    /// A person: its stored form is damaged. Never handed out.
    Damaged,
}

impl State {
    /// The states of messages that nobody works on.
    pub(super) const IDLE: [Self; 5] = [Self::Held, Self::Delayed, Self::Damaged, Self::Retry, Self::Ready];

    /// The stored form.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Ready => 0,
            Self::Held => 1,
            Self::InFlight => 2,
            Self::Delayed => 3,
            Self::Retry => 4,
            Self::Damaged => 5,
        }
    }

    /// The state with a stored form.
    pub(super) fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Ready),
            1 => Some(Self::Held),
            2 => Some(Self::InFlight),
            3 => Some(Self::Delayed),
            4 => Some(Self::Retry),
            5 => Some(Self::Damaged),
            _ => None,
        }
    }

    /// Whether a message in this state keeps the others of its group waiting.
    pub(super) fn leads_group(self) -> bool {
        match self {
            Self::Ready | Self::InFlight | Self::Retry => true,
            Self::Held | Self::Delayed | Self::Damaged => false,
        }
    }
}

/// How a message was in flight when the host ended without saying goodbye, since it was last seen to do no harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct PoisonSuspicion {
    /// How many of its receives ended so while others were in flight too: nobody knows which of them was the cause, if
    /// any, so these are not held against it.
    pub(super) beside_others: u32,
    /// Whether it was alone the last time: it may well have been the cause.
    pub(super) alone: bool,
}

impl PoisonSuspicion {
    /// It was not in flight then.
    pub(super) const NONE: Self = Self {
        beside_others: 0,
        alone: false,
    };

    /// Whether it is to run alone.
    pub(super) fn is_raised(self) -> bool {
        self != Self::NONE
    }

    /// Whether its receives are not counted out yet, because others were in flight the last time.
    pub(super) fn excuses(self) -> bool {
        self.is_raised() && !self.alone
    }

    /// What it is after another crash.
    pub(super) fn after_crash(self, alone: bool) -> Self {
        Self {
            beside_others: self.beside_others.saturating_add(u32::from(!alone)).min(MOST_BESIDE),
            alone,
        }
    }

    /// The stored form: twice the receives beside others, and one if it was alone the last time.
    pub(super) fn number(self) -> u32 {
        self.beside_others.min(MOST_BESIDE) * 2 + u32::from(self.alone)
    }

    /// The suspicion with a stored form.
    pub(super) fn from_number(number: u32) -> Self {
        Self {
            beside_others: (number / 2).min(MOST_BESIDE),
            alone: number % 2 == 1,
        }
    }
}

/// So many crashes are remembered of a message.
const MOST_BESIDE: u32 = 1_000_000;

/// What the row of a message in flight says of how it was handed out, where others have the time at which they become visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HandedOut {
    /// As any other, or alone so long ago that it has shown that it does no harm.
    Plainly,
    /// Alone, with nothing beside it but what had shown so.
    Alone,
    /// To be alone, but what was in flight before did not end.
    BesideOthers,
}

impl HandedOut {
    /// The stored form.
    pub(super) fn number(self) -> u64 {
        match self {
            Self::Plainly => 0,
            Self::Alone => 1,
            Self::BesideOthers => 2,
        }
    }
}

/// Where a message is and what it waits for.
#[derive(Debug, Clone)]
pub(super) struct Meta {
    /// Its place in the order sent; unique in the store. A message that moves to another queue gets a new one.
    pub(super) seq: u64,
    /// The queue that it is in.
    pub(super) queue: QueueKey,
    /// What it waits for.
    pub(super) state: State,
    /// 0 to 9; higher goes first.
    pub(super) priority: u8,
    /// The group that it is in, if any.
    pub(super) group: Option<GroupName>,
    /// When a delayed or retried message becomes visible; a [`HandedOut`] for one in flight, and 0 for the others.
    pub(super) visible_at_ms: u64,
    /// How often it was received since it came to this queue.
    pub(super) receive_count: u32,
    /// When it came to this queue. The time to live counts from here.
    pub(super) queued_at_ms: u64,
    /// Whether it may have killed the host.
    pub(super) suspicion: PoisonSuspicion,
    /// The queue that it was first received from, if it is a dead letter.
    pub(super) origin: Option<QueueKey>,
}

impl Meta {
    /// Whether a crash in which it was in flight, one of `in_flight`, is blamed on this message alone.
    pub(super) fn is_blamed(&self, in_flight: u64) -> bool {
        // What was in flight beside it may have been the cause once. Twice is no chance any more.
        let again = self.suspicion.beside_others > 1;
        in_flight == 1
            || self.visible_at_ms == HandedOut::Alone.number()
            || (self.visible_at_ms == HandedOut::BesideOthers.number() && again)
    }

    /// Whether this message goes before `other`, both waiting in one group.
    pub(super) fn goes_before(&self, other: &Self) -> bool {
        (other.priority, self.seq) < (self.priority, other.seq)
    }
}

/// What a message holds.
#[derive(Debug, Clone)]
pub(super) struct Content {
    /// What was sent.
    pub(super) message: Message,
    /// The last failure in this queue.
    pub(super) failure: Option<FailureRecord>,
    /// How it became a dead letter, if it is one.
    pub(super) death: Option<Death>,
}

/// How a message became a dead letter.
#[derive(Debug, Clone)]
pub(super) struct Death {
    /// When.
    pub(super) dead_at_ms: u64,
    /// How often it had been received by then.
    pub(super) receive_count: u32,
    /// Why.
    pub(super) failure: FailureRecord,
}

/// A message read from the store.
#[derive(Debug)]
pub(super) struct Fetched {
    /// Where it is.
    pub(super) meta: Meta,
    /// What it holds, or what is wrong with its stored form.
    pub(super) content: Result<Content, String>,
}

/// Why the rows could not be read or changed. The whole transaction is void.
#[derive(Debug)]
pub(super) struct Fault {
    /// What is to be done about it.
    pub(super) kind: FaultKind,
    /// What happened, for the log.
    pub(super) cause: Cause,
}

/// What a fault means for the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FaultKind {
    /// Nothing is damaged and nothing was done: the same may work later.
    Passing,
    /// What is on the disk is unknown: the store must be opened anew.
    Final,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the store's rows could not be read or changed")
    }
}

impl Error for Fault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.cause)
    }
}
