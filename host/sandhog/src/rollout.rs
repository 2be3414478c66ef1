//! How a new version takes over from its predecessor. Pure: nothing here calls a guest, settles a message or reads a clock.

use sandhog_queue::FailureKind;

mod probation;
mod rule;
#[cfg(test)]
mod simulation;

pub use self::{
    probation::{
        Answered, FinishedCall, Lane, Probation, ProbationChange, ProbationProgress, ProbationStage, RolloutTerms,
        SHARE_IF_SLOWER_MATTERS, SecondOpinion, SecondOpinions,
    },
    rule::CallCounts,
};

/// Whether the guest broke or ran into a limit. What a guest answers is no break.
pub fn is_break(kind: FailureKind) -> bool {
    match kind {
        FailureKind::Trap | FailureKind::Timeout | FailureKind::Memory | FailureKind::WrongAnswer => true,
        FailureKind::Retry | FailureKind::Reject | FailureKind::HostStopped => false,
    }
}

impl SecondOpinions {
    /// Whether the predecessor is asked about a failure. `is_last` says that the message would become a dead letter: a `retry` asks
    /// for another try, which is the predecessor's then.
    pub fn ask_about(self, kind: FailureKind, is_last: bool) -> bool {
        match self {
            Self::None => false,
            Self::Breaks => is_break(kind) || kind == FailureKind::Retry && is_last,
            Self::AllButReject => kind != FailureKind::Reject,
        }
    }
}
