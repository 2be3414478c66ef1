//! The versions that a dispatcher gives to new attempts: the newest one and, while it has to prove itself, its predecessor.
//!
//! Invariants: the messages of a message group go to one version while the share of the newest one stays the same; a delivery
//! whose first call was disputed goes to the predecessor; once the newest version has turned out worse, the predecessor gets
//! everything.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use tokio::time::Instant;

use crate::{
    attempt::{AttemptContext, HandlerVersion, SettledAttempt, SettledMessage},
    group_backlog::LeasedDelivery,
    rollout::{
        Answered, FinishedCall, Lane, Probation, ProbationChange, ProbationStage, SecondOpinion, SecondOpinions,
    },
    served_versions::ServedVersions,
    settlement::AttemptOutcome,
    versions::{ProbationReport, RecordedCall, VersionBoard},
};
use sandhog_executor::CallUsage;
use sandhog_queue::FailureKind;

/// The versions of one handler, as its dispatcher uses them.
#[derive(Debug)]
pub(crate) struct DispatchedVersions {
    context: Arc<AttemptContext>,
    board: Arc<VersionBoard>,
    served: Arc<ServedVersions>,
    /// How the newest version compares with its predecessor; `None` if there is no predecessor.
    probation: Option<Probation>,
}

impl DispatchedVersions {
    pub(crate) fn new(context: Arc<AttemptContext>, board: Arc<VersionBoard>, served: Arc<ServedVersions>) -> Self {
        let probation = served.probation(Instant::now());
        Self {
            context,
            board,
            served,
            probation,
        }
    }

    /// Takes other versions. Attempts under way end on those that they started with.
    pub(crate) fn change(&mut self, served: Arc<ServedVersions>) {
        self.probation = served.probation(Instant::now());
        self.served = served;
    }

    /// The version whose manifest counts.
    pub(crate) fn newest(&self) -> &Arc<HandlerVersion> {
        &self.served.newest
    }

    /// Returns the lane of a delivery.
    pub(crate) fn lane(&self, leased: &LeasedDelivery) -> Lane {
        let Some(probation) = &self.probation else {
            return Lane::Newest;
        };
        let newest = self.served.newest.number;
        if leased.first_call.as_ref().is_some_and(|first| first.version == newest) {
            return Lane::Predecessor;
        }
        if !probation.is_shared() {
            return Lane::Newest;
        }
        probation.lane(self.place(leased))
    }

    /// Returns whether all deliveries go to one version, so that nobody needs to look at them.
    pub(crate) fn has_one_lane(&self) -> bool {
        self.probation.is_none()
    }

    /// Returns the version of a lane, with the failures about which its predecessor is asked.
    pub(crate) fn of_lane(&self, lane: Lane, is_paused: bool) -> (&Arc<HandlerVersion>, SecondOpinions) {
        let predecessor = self.served.rollout.as_ref().map(|rollout| &rollout.predecessor);
        match (lane, &self.probation, predecessor) {
            (Lane::Predecessor, _, Some(predecessor)) => (predecessor, SecondOpinions::None),
            (Lane::Newest, Some(probation), _) => (&self.served.newest, probation.opinions(is_paused)),
            (Lane::Newest | Lane::Predecessor, _, _) => (&self.served.newest, SecondOpinions::None),
        }
    }

    /// Returns the place of a message between 0 and 1, which it shares with its message group. Each newest version has places of
    /// its own, so that it is not always the same groups that meet a new version first.
    fn place(&self, leased: &LeasedDelivery) -> f64 {
        let message = &leased.delivery.message;
        let mut hasher = DefaultHasher::new();
        self.served.newest.component.info.digest.hash(&mut hasher);
        match &message.group_id {
            Some(group) => group.hash(&mut hasher),
            None => message.id.as_str().hash(&mut hasher),
        }
        // The upper 32 bits are as good as all of them.
        let place = u32::try_from(hasher.finish() >> 32).unwrap_or(u32::MAX);
        f64::from(place) / (f64::from(u32::MAX) + 1.0)
    }

    /// Returns when time alone may prove the newest version.
    pub(crate) fn at(&self) -> Option<Instant> {
        self.probation.as_ref().and_then(Probation::at)
    }

    /// Notes that time has passed.
    pub(crate) fn tick(&mut self, now: Instant) {
        let change = self.probation.as_mut().and_then(|probation| probation.tick(now));
        if change.is_some() {
            self.report(change, now);
        }
    }

    /// Returns whether an attempt was the predecessor's own, beside a newest version that has to prove itself.
    pub(crate) fn is_of_predecessor(&self, attempt: &SettledAttempt) -> bool {
        self.probation.is_some() && attempt.version.number != self.served.newest.number
    }

    /// Counts a settled attempt for its version, and compares. Returns whether the predecessor has everything from now on.
    pub(crate) fn record(&mut self, attempt: &SettledAttempt) -> bool {
        // A call that never reached a guest, or whose lease was lost, says nothing about a version.
        let has_answer = |message: &SettledMessage| match message.outcome {
            AttemptOutcome::Success | AttemptOutcome::Failed(_) | AttemptOutcome::Disputed(_) => true,
            AttemptOutcome::AlreadyHandled
            | AttemptOutcome::Conflict(_)
            | AttemptOutcome::HostFault(_)
            | AttemptOutcome::Interrupted
            | AttemptOutcome::LeaseLost => false,
        };
        let Some(usage) = attempt
            .usage
            .as_ref()
            .filter(|_| attempt.messages.iter().any(has_answer))
        else {
            return false;
        };
        count(attempt, usage);
        let Some(probation) = &mut self.probation else {
            return false;
        };
        let now = Instant::now();
        let newest = self.served.newest.number;
        let is_of_predecessor = self
            .served
            .rollout
            .as_ref()
            .is_some_and(|rollout| rollout.predecessor.number == attempt.version.number);
        let mut changes = Vec::new();
        if attempt.version.number == newest {
            let is_disputed = |message: &SettledMessage| matches!(message.outcome, AttemptOutcome::Disputed(_));
            // A disputed call counts with the second opinion.
            if !attempt.messages.iter().any(is_disputed) {
                changes.extend(probation.newest_call(finished_call(attempt, usage), now));
            }
        } else if is_of_predecessor {
            let is_own = |message: &SettledMessage| message.first_call.is_none();
            if attempt.messages.iter().any(is_own) {
                changes.extend(probation.predecessor_call(finished_call(attempt, usage), now));
            }
            let disputed = attempt.messages.iter().filter_map(|message| {
                let first = message.first_call.as_ref()?;
                let counts = first.counts && first.version == newest;
                counts.then_some((first, answered(&message.outcome)?))
            });
            for (first, answered) in disputed {
                let opinion = SecondOpinion {
                    began: first.began,
                    first_broke: first.broke,
                    answered,
                    is_paused: first.is_probe,
                };
                let metrics = self.context.metrics.handlers();
                metrics.second_opinion(&self.context.handler, answered != Answered::NotEither);
                changes.extend(probation.second_opinion(opinion, now));
            }
        } else {
            return false;
        }
        let is_watching = probation.stage() == ProbationStage::Watching;
        let went_back = changes.iter().any(|change| matches!(change, ProbationChange::Worse(_)));
        // A version that was proven reports changes alone.
        if !is_watching || !changes.is_empty() {
            self.report(changes.pop(), now);
        }
        went_back
    }

    fn report(&self, change: Option<ProbationChange>, now: Instant) {
        let Some(probation) = &self.probation else { return };
        if self.context.stop_receiving.is_cancelled() {
            // Another dispatcher of the same name may report by now.
            return;
        }
        let report = ProbationReport {
            number: self.served.newest.number,
            progress: probation.progress(now),
            change,
        };
        self.board.report(&self.context.handler, report);
    }
}

/// Counts an attempt for the version on which it ran.
fn count(attempt: &SettledAttempt, usage: &CallUsage) {
    let mut breaks = attempt.messages.iter().filter(|message| message.outcome.is_break());
    let Some(of_call) = breaks.next().or(attempt.messages.first()) else {
        return;
    };
    let word = of_call.outcome.as_str();
    let mut tally = attempt.version.tally.lock();
    tally.record(RecordedCall {
        outcome: word,
        messages: 1,
        wall: usage.wall,
        cpu: usage.cpu,
        memory_peak: usage.memory_peak,
    });
    for message in &attempt.messages {
        if message.id != of_call.id {
            tally.add_messages(message.outcome.as_str(), 1);
        }
    }
}

fn finished_call(attempt: &SettledAttempt, usage: &CallUsage) -> FinishedCall {
    FinishedCall {
        began: attempt.began,
        broke: attempt.messages.iter().any(|message| message.outcome.is_break()),
        succeeded: attempt.messages.iter().all(|message| message.outcome.is_handled()),
        time: usage.wall,
    }
}

/// Returns what an outcome of the predecessor says about the message; `None` if it says nothing.
fn answered(outcome: &AttemptOutcome) -> Option<Answered> {
    match outcome {
        AttemptOutcome::Success => Some(Answered::Success),
        AttemptOutcome::Failed(failure) | AttemptOutcome::Disputed(failure) => Some(match failure.kind {
            FailureKind::Reject => Answered::Reject,
            FailureKind::Retry
            | FailureKind::Trap
            | FailureKind::Timeout
            | FailureKind::Memory
            | FailureKind::WrongAnswer
            | FailureKind::HostStopped => Answered::NotEither,
        }),
        AttemptOutcome::AlreadyHandled
        | AttemptOutcome::Conflict(_)
        | AttemptOutcome::HostFault(_)
        | AttemptOutcome::Interrupted
        | AttemptOutcome::LeaseLost => None,
    }
}
