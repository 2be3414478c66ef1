//! One stored message, as the rules see it: its place and its content. Plain data.
//!
//! The two halves are apart because most rules need only the place: a body is read when it is handed out.

use std::{error::Error, fmt, sync::Arc};

use sandhog_queue::message::Message;
use sandhog_queue::{Cause, FailureRecord};

/// The number of a queue in its store, which never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct QueueKey(pub(crate) u32);

/// The name of a message group. Messages of one queue that share a group are handled one after another. The empty name stands for
/// the whole queue; any other is a group id, which is never empty.
pub(crate) type GroupName = Arc<str>;

/// The thing that a message waits for. The numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum MessageState {
    /// A receiver: the message may be handed out now.
    Ready,
    /// Its turn in its group.
    Held,
    /// Its settlement.
    InFlight,
    /// The end of the delay that it was sent with. The message does not block its group.
    Delayed,
    /// The end of its retry delay. The message blocks its group.
    Retry,
    /// A person: its stored form is damaged. The message is never handed out.
    Damaged,
    /// Its settlement. It was handed out together with an earlier message of its group, and that message, or one between the two, still
    /// leads the group.
    InFlightBehind,
}

impl MessageState {
    /// The states of messages that are not in flight.
    pub(crate) const IDLE: [Self; 5] = [Self::Held, Self::Delayed, Self::Damaged, Self::Retry, Self::Ready];

    /// The stored form.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Ready => 0,
            Self::Held => 1,
            Self::InFlight => 2,
            Self::Delayed => 3,
            Self::Retry => 4,
            Self::Damaged => 5,
            Self::InFlightBehind => 6,
        }
    }

    /// Returns the state with a stored form.
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Ready),
            1 => Some(Self::Held),
            2 => Some(Self::InFlight),
            3 => Some(Self::Delayed),
            4 => Some(Self::Retry),
            5 => Some(Self::Damaged),
            6 => Some(Self::InFlightBehind),
            _ => None,
        }
    }

    /// Returns whether a message in this state keeps the others of its group waiting.
    pub(crate) fn leads_group(self) -> bool {
        match self {
            Self::Ready | Self::InFlight | Self::Retry => true,
            Self::Held | Self::Delayed | Self::Damaged | Self::InFlightBehind => false,
        }
    }

    /// Returns whether a message in this state has a place in its group behind the head.
    pub(crate) fn stands_behind_head(self) -> bool {
        matches!(self, Self::Held | Self::InFlightBehind)
    }

    /// Returns whether a message in this state is with a receiver.
    pub(crate) fn is_in_flight(self) -> bool {
        matches!(self, Self::InFlight | Self::InFlightBehind)
    }
}

/// The crashes of the host with this message in flight, since the message last showed that it does no harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct PoisonSuspicion {
    /// The number of its receives that ended so while others were in flight too. The cause is unknown, so these receives are not
    /// held against the message.
    pub(crate) beside_others: u32,
    /// The message was alone the last time, so it may well have been the cause.
    pub(crate) alone: bool,
}

impl PoisonSuspicion {
    /// The message was in flight in no crash.
    pub(crate) const NONE: Self = Self {
        beside_others: 0,
        alone: false,
    };

    /// Returns whether the message is to run alone.
    pub(crate) fn is_raised(self) -> bool {
        self != Self::NONE
    }

    /// Returns whether its receives are not checked against the limit yet, because others were in flight the last time.
    pub(crate) fn excuses(self) -> bool {
        self.is_raised() && !self.alone
    }

    /// Returns the suspicion after another crash.
    pub(crate) fn after_crash(self, alone: bool) -> Self {
        Self {
            beside_others: self
                .beside_others
                .saturating_add(u32::from(!alone))
                .min(MAX_BESIDE_OTHERS),
            alone,
        }
    }

    /// Returns the stored form: twice the receives beside others, and one more if the message was alone the last time.
    pub(crate) fn number(self) -> u32 {
        self.beside_others.min(MAX_BESIDE_OTHERS) * 2 + u32::from(self.alone)
    }

    /// Returns the suspicion with a stored form.
    pub(crate) fn from_number(number: u32) -> Self {
        Self {
            beside_others: (number / 2).min(MAX_BESIDE_OTHERS),
            alone: number % 2 == 1,
        }
    }
}

/// The number of crashes that are remembered of a message.
const MAX_BESIDE_OTHERS: u32 = 1_000_000;

/// How a message in flight was handed out. Its row has this in the column where others have the time at which they become visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HandedOut {
    /// As any other message, or alone so long ago that the message has shown to do no harm.
    Plainly,
    /// Alone, with no message beside it but those that had shown so.
    Alone,
    /// To be alone, but a message that was in flight before did not end.
    BesideOthers,
    /// To a receiver outside of the host, whose code can't take the host down.
    Outside,
}

impl HandedOut {
    /// The stored form.
    pub(crate) fn number(self) -> u64 {
        match self {
            Self::Plainly => 0,
            Self::Alone => 1,
            Self::BesideOthers => 2,
            Self::Outside => 3,
        }
    }
}

/// The place and the state of a message.
#[derive(Debug, Clone)]
pub(crate) struct MessageMeta {
    /// Its place in the order sent; unique in the store. A message that moves to another queue gets a new one.
    pub(crate) seq: u64,
    /// The queue that it is in.
    pub(crate) queue: QueueKey,
    /// The thing that it waits for.
    pub(crate) state: MessageState,
    /// 0 to 9; higher goes first.
    pub(crate) priority: u8,
    /// The group that it is in, if any.
    pub(crate) group: Option<GroupName>,
    /// When a delayed or retried message becomes visible; a [`HandedOut`] for one in flight. For a held one: the time before which it
    /// is not to be visible when its turn comes, or 0. Else 0.
    pub(crate) visible_at_ms: u64,
    /// The number of receives since it came to this queue.
    pub(crate) receive_count: u32,
    /// When it came to this queue. The time to live counts from here.
    pub(crate) queued_at_ms: u64,
    /// The suspicion that it may have killed the host.
    pub(crate) suspicion: PoisonSuspicion,
    /// The queue that it was first received from, if it is a dead letter.
    pub(crate) origin: Option<QueueKey>,
    /// What it has been through in all its queues.
    pub(crate) past: MessagePast,
}

/// What a message has been through since it was sent, whatever queues it was in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MessagePast {
    /// When it came to its first queue, in the store's time.
    pub(crate) first_queued_at_ms: u64,
    /// When it was first received, by the wall clock of then.
    pub(crate) first_received_at_ms: Option<u64>,
    /// The number of receives in the queues before this one.
    pub(crate) earlier_receives: u32,
    /// Its first `seq`, which its sender was told.
    pub(crate) sequence: u64,
}

impl MessagePast {
    /// The past of a message that comes to its first queue now.
    pub(crate) fn begin(seq: u64, now_ms: u64) -> Self {
        Self {
            first_queued_at_ms: now_ms,
            first_received_at_ms: None,
            earlier_receives: 0,
            sequence: seq,
        }
    }
}

impl MessageMeta {
    /// Returns the number of receives in all queues.
    pub(crate) fn total_receives(&self) -> u32 {
        self.past.earlier_receives.saturating_add(self.receive_count)
    }

    /// Returns what the message has been through when it leaves its queue.
    pub(crate) fn past_of_move(&self) -> MessagePast {
        MessagePast {
            earlier_receives: self.total_receives(),
            ..self.past
        }
    }

    /// Returns whether a crash with `in_flight` messages in flight, this one among them, is blamed on this message alone.
    pub(crate) fn is_blamed(&self, in_flight: u64) -> bool {
        // A message beside it may have been the cause once. Twice is no coincidence.
        let again = self.suspicion.beside_others > 1;
        in_flight == 1
            || self.visible_at_ms == HandedOut::Alone.number()
            || (self.visible_at_ms == HandedOut::BesideOthers.number() && again)
    }

    /// Returns whether this message, which is in flight, is with a receiver outside of the host.
    pub(crate) fn is_outside(&self) -> bool {
        self.visible_at_ms == HandedOut::Outside.number()
    }

    /// Returns whether this message goes before `other` when both wait in one group.
    pub(crate) fn goes_before(&self, other: &Self) -> bool {
        (other.priority, self.seq) < (self.priority, other.seq)
    }
}

/// The content of a message.
#[derive(Debug, Clone)]
pub(crate) struct MessageContent {
    /// The message as it was sent.
    pub(crate) message: Message,
    /// What else was said when it was sent.
    pub(crate) sent: SentDetails,
    /// The last failure in this queue.
    pub(crate) failure: Option<FailureRecord>,
    /// The way it became a dead letter, if it is one.
    pub(crate) death: Option<DeathRecord>,
}

/// What was said when a message was sent and is no part of what a handler sees. Never changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SentDetails {
    /// The deduplication id.
    pub(crate) deduplication_id: Option<Arc<str>>,
    /// The system attributes: a JSON object of names and texts.
    pub(crate) system: Option<Arc<str>>,
    /// The id of the message with whose end it was sent, or of the one that it was made from.
    pub(crate) parent: Option<Arc<str>>,
    /// The attempt that sent it: a JSON object.
    pub(crate) sender: Option<Arc<str>>,
}

/// How a message became a dead letter.
#[derive(Debug, Clone)]
pub(crate) struct DeathRecord {
    /// When.
    pub(crate) dead_at_ms: u64,
    /// The number of receives by then.
    pub(crate) receive_count: u32,
    /// Why.
    pub(crate) failure: FailureRecord,
}

/// A message read from the store.
#[derive(Debug)]
pub(crate) struct StoredMessage {
    /// Its place and state.
    pub(crate) meta: MessageMeta,
    /// Its content, or a text for people about the damage of its stored form.
    pub(crate) content: Result<MessageContent, String>,
}

/// Why the rows could not be read or changed. The whole transaction is void.
#[derive(Debug)]
pub(crate) struct StoreFault {
    /// What the store does about it.
    pub(crate) kind: FaultKind,
    /// The error, for the log.
    pub(crate) cause: Cause,
}

/// The meaning of a fault for the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// Nothing is damaged and nothing was done: the same may work later.
    Passing,
    /// The state of the disk is unknown: the store must be opened anew.
    Final,
}

impl fmt::Display for StoreFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the store's rows could not be read or changed")
    }
}

impl Error for StoreFault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.cause)
    }
}
