//! Decides what a new version of a handler gets to do while its predecessor stands by, and when it is proven or worse. Only calls
//! of both versions from the same time convict a version: what is known from before may cast a doubt, and no more.
//!
//! Pure: it neither calls nor settles anything. The time is passed in.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::rule::{CallCounts, Comparison, compare, leans_to_worse};

/// The calls after which a new version may be proven, unless the manifest says otherwise. 300 calls without a break say with a
/// confidence of 95 % that fewer than 1 in 100 calls break (the rule of three: 3 / 300).
pub(super) const DEFAULT_CALLS: u64 = 300;
/// The time after which a new version may be proven, unless the manifest says otherwise. It is longer than most timers, caches,
/// tokens and backoffs of a worker, and short enough to wait for after a deploy.
pub(super) const DEFAULT_TIME: Duration = Duration::from_mins(10);
/// The share of the newest version by default, if it may not be slower: only calls of the same time can be compared for that.
pub const SHARE_IF_SLOWER_MATTERS: f64 = 0.5;

/// How many calls the rate that is expected of a version is worth. Two orders of magnitude more than the calls of a probation, so
/// that three breaks in some thousand calls raise a doubt where none was expected.
const EXPECTED_CALLS: u64 = 10_000;
/// The calls after which the recent ones count half, so that a version that turns bad later is noticed. Three breaks fit in even
/// if only 1 in 1,000 calls breaks.
const RECENT_CALLS: u64 = 5_000;
/// The largest share of the newest version while it is in doubt.
const SHARE_IN_DOUBT: f64 = 0.5;
/// How many of the calls in which it broke once on average settle a doubt: if the rate was real, about twenty breaks are to be seen.
/// They tell 5 % from 1 % with few misses.
const BREAKS_TO_SETTLE: u64 = 20;
/// The fewest calls of each version that settle a doubt.
const FEWEST_TO_SETTLE: u64 = 200;
/// The most calls of each version that settle a doubt.
const MOST_TO_SETTLE: u64 = 20_000;
/// The breaks of a predecessor that settle a doubt early, if it breaks as often as the newest version.
const BREAKS_ALIKE: u64 = 5;
/// The golden ratio less one. Each finished call moves the places of all groups on by it, so that each group runs on both versions
/// in turn. Its multiples are spread most evenly over 0 to 1. So no group hides a break, a queue with one group gets both versions,
/// and a burst of breaks hits both alike: with turns of ten calls, short bursts in one group convicted a version in 1 of 4 rollouts.
const TURN: f64 = 0.618_033_988_749_894_9;
/// The calls of a predecessor whose times are kept.
const TIMES: usize = 64;
/// The fewest times of a predecessor that give a median to compare with.
const FEWEST_TIMES: usize = 20;
/// The probes of a paused handler in a row that a predecessor handles and the newest version does not, until the latter is worse.
/// Three would do at a dead stop; five also hold where 4 in 5 calls of both fail. The first five take half a minute.
const PROBES_TO_CONVICT: u32 = 5;

/// What a manifest says about a rollout: its table `[rollout]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RolloutTerms {
    /// The calls of the newest version after which it may be proven. Key `attempts`: 1 to 1,000,000, default 300.
    pub attempts: u64,
    /// The time after which the newest version may be proven. Key `time`: 0 to 24 h, default 10 min.
    pub time: Duration,
    /// The share of the calls that the newest version gets on probation. Key `canary`: above 0, at most 1. The default is 1, and 0.5
    /// if `slower` is given.
    pub canary: f64,
    /// How many times the median time of its predecessor a successful call may take; `None`, the default, compares no times. Key
    /// `slower`: more than 1 and up to 1000.
    pub slower: Option<f64>,
    /// Whether a version that is worse loses its messages to its predecessor at once. If not, that is said once; the version
    /// stays in doubt until somebody decides. Key `automatic`, default true.
    pub automatic: bool,
}

/// The numbers are within ranges, so that none of them is unlike itself.
impl Eq for RolloutTerms {}

impl Default for RolloutTerms {
    fn default() -> Self {
        Self {
            attempts: DEFAULT_CALLS,
            time: DEFAULT_TIME,
            canary: 1.0,
            slower: None,
            automatic: true,
        }
    }
}

/// The version that a call goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// The newest version.
    Newest,
    /// The version before it.
    Predecessor,
}

/// The failures of the newest version that its predecessor is asked about. An attempt keeps what was said when it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecondOpinions {
    /// None.
    None,
    /// Calls that broke.
    Breaks,
    /// All failures but `reject`.
    AllButReject,
}

/// How far a version has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbationStage {
    /// It has not proven itself yet.
    #[default]
    Probation,
    /// It seems to be worse: both versions get calls until that is settled.
    Doubt,
    /// It has proven itself and gets all calls, while its predecessor stands by.
    Watching,
}

/// What a finished call changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbationChange {
    /// The newest version seems to be worse, and is compared with its predecessor on calls of the same time.
    Doubtful,
    /// The doubt was not confirmed.
    Cleared,
    /// The newest version has proven itself.
    Proven,
    /// The newest version is worse. The text gives the numbers, for people.
    Worse(String),
}

/// A call that is over.
#[derive(Debug, Clone, Copy)]
pub struct FinishedCall {
    /// When it began.
    pub began: Instant,
    /// Whether the guest broke: a trap, a timeout, too much memory, or a wrong answer.
    pub broke: bool,
    /// Whether it succeeded.
    pub succeeded: bool,
    /// How long it took.
    pub time: Duration,
}

/// A call of the newest version that its predecessor was asked about.
#[derive(Debug, Clone, Copy)]
pub struct SecondOpinion {
    /// When the call of the newest version began.
    pub began: Instant,
    /// Whether the newest version broke. If not, it answered `retry`.
    pub first_broke: bool,
    /// What the predecessor made of it.
    pub answered: Answered,
    /// Whether the handler was paused: the call was a probe.
    pub is_paused: bool,
}

/// What a predecessor made of a message that the newest version did not handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// It handled the message.
    Success,
    /// It rejected the message.
    Reject,
    /// It did not handle the message either: the message or the world is to blame.
    NotEither,
}

/// The counts of two versions from the same time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct SideBySide {
    newer: CallCounts,
    predecessor: CallCounts,
}

/// What is kept of a probation over a restart. Numbers that make no sense only make it decide badly.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProbationProgress {
    /// The stage.
    pub stage: ProbationStage,
    /// The calls of the newest version that count.
    pub calls: u64,
    /// How long it has served.
    pub elapsed: Duration,
    /// Whether it has proven itself, be it in doubt again.
    pub is_proven: bool,
    /// Whether it was found to be worse.
    pub is_worse: bool,
    /// How often the predecessor was asked about a call.
    pub second_opinions: u64,
    /// Its calls outside of doubts, of which older ones count less.
    recent: CallCounts,
    /// What is expected of these calls. It may raise a doubt, and convicts nobody.
    expected: CallCounts,
    /// The breaks while both versions got calls.
    beside: SideBySide,
    /// The calls that took too long while both versions got calls.
    slow: SideBySide,
    /// The calls of each version in `beside` that settle the doubt.
    settles_at: u64,
    /// The probes in a row that only the predecessor handled.
    probes: u32,
}

/// A new version whose predecessor stands by.
#[derive(Debug)]
pub struct Probation {
    terms: RolloutTerms,
    /// Its `elapsed` is that of `resumed_at`.
    progress: ProbationProgress,
    resumed_at: Instant,
    /// Calls that began earlier are not compared side by side: only one version got calls then.
    beside_since: Instant,
    /// All finished calls of both versions; they decide whose turn it is. It may wrap.
    finished: u32,
    /// The times of the last successful calls of the predecessor's own, oldest first; at most [`TIMES`].
    times: VecDeque<Duration>,
    /// The median of `times`, if there are enough.
    median: Option<Duration>,
}

impl ProbationStage {
    /// The word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Probation => "probation",
            Self::Doubt => "doubt",
            Self::Watching => "watching",
        }
    }
}

impl ProbationProgress {
    /// The beginning. `record` counts the calls of the predecessor before; without any, it is expected to break on nothing.
    #[must_use]
    pub fn new(record: CallCounts) -> Self {
        Self {
            expected: record.scaled(EXPECTED_CALLS),
            ..Self::default()
        }
    }

    /// The share of the calls that the newest version gets under these terms.
    pub fn share(&self, terms: &RolloutTerms) -> f64 {
        match self.stage {
            ProbationStage::Probation => terms.canary,
            ProbationStage::Doubt => terms.canary.min(SHARE_IN_DOUBT),
            ProbationStage::Watching => 1.0,
        }
    }

    /// The calls that are compared now, for people: of the newest version, and of its predecessor. As long as only one version gets
    /// calls, the predecessor has none.
    pub fn compared(&self) -> (CallCounts, CallCounts) {
        let is_beside = self.stage == ProbationStage::Doubt || self.beside != SideBySide::default();
        let newer = if is_beside { self.beside.newer } else { self.recent };
        (newer, self.beside.predecessor)
    }
}

impl Probation {
    /// Begins a probation, or goes on with one after a restart.
    #[must_use]
    pub fn new(terms: RolloutTerms, progress: ProbationProgress, now: Instant) -> Self {
        Self {
            terms,
            progress,
            resumed_at: now,
            beside_since: now,
            finished: 0,
            times: VecDeque::with_capacity(TIMES),
            median: None,
        }
    }

    /// What a restart needs to go on.
    #[must_use]
    pub fn progress(&self, now: Instant) -> ProbationProgress {
        ProbationProgress {
            elapsed: self.elapsed(now),
            ..self.progress.clone()
        }
    }

    /// The stage.
    pub fn stage(&self) -> ProbationStage {
        self.progress.stage
    }

    /// Whether calls go to either version by their place; otherwise all of them go to the newest one.
    pub fn is_shared(&self) -> bool {
        self.is_over() || self.share() < 1.0
    }

    /// Chooses the version for a call. `place` is from 0 to below 1, and the same for all messages of a group.
    ///
    /// A canary keeps its groups. Without one, the groups take turns while the newest version is in doubt.
    pub fn lane(&self, place: f64) -> Lane {
        let turn = if self.terms.canary < 1.0 {
            0.0
        } else {
            f64::from(self.finished) * TURN
        };
        if self.is_over() || (place + turn).fract() >= self.share() {
            Lane::Predecessor
        } else {
            Lane::Newest
        }
    }

    /// The failures of a call that begins now which the predecessor is asked about.
    pub fn opinions(&self, is_paused: bool) -> SecondOpinions {
        if self.is_over() {
            return SecondOpinions::Breaks;
        }
        if is_paused {
            return SecondOpinions::AllButReject;
        }
        match self.progress.stage {
            ProbationStage::Probation | ProbationStage::Doubt => SecondOpinions::Breaks,
            ProbationStage::Watching => SecondOpinions::None,
        }
    }

    /// Counts a call of the newest version that its predecessor was not asked about.
    pub fn newest_call(&mut self, call: FinishedCall, now: Instant) -> Option<ProbationChange> {
        if call.succeeded {
            self.progress.probes = 0;
            if let Some(is_slow) = self.is_slow(call) {
                self.progress.slow.newer.add(is_slow);
            }
        }
        self.count_newest(call.broke, call.began);
        self.judge(now)
    }

    /// Counts a call that the predecessor got as its share. A second opinion is none: it is only asked about hard messages.
    pub fn predecessor_call(&mut self, call: FinishedCall, now: Instant) -> Option<ProbationChange> {
        self.finished = self.finished.wrapping_add(1);
        if call.succeeded {
            if let Some(is_slow) = self.is_slow(call) {
                self.progress.slow.predecessor.add(is_slow);
            }
            self.keep_time(call.time);
        }
        if self.is_beside(call.began) {
            self.progress.beside.predecessor.add(call.broke);
        }
        self.judge(now)
    }

    /// Counts a call of the newest version that its predecessor was asked about. What neither of them handled counts for neither.
    pub fn second_opinion(&mut self, opinion: SecondOpinion, now: Instant) -> Option<ProbationChange> {
        self.progress.second_opinions = self.progress.second_opinions.saturating_add(1);
        match (opinion.answered, opinion.first_broke) {
            (Answered::NotEither, true) => self.finished = self.finished.wrapping_add(1),
            (Answered::NotEither, false) | (Answered::Success | Answered::Reject, _) => {
                self.count_newest(opinion.first_broke, opinion.began);
            }
        }
        if opinion.is_paused {
            match opinion.answered {
                Answered::Success => self.progress.probes = self.progress.probes.saturating_add(1),
                Answered::NotEither => self.progress.probes = 0,
                Answered::Reject => {}
            }
        }
        self.judge(now)
    }

    /// When time alone may prove the newest version: [`Self::tick`] is due then.
    pub fn at(&self) -> Option<Instant> {
        let is_near = self.progress.stage == ProbationStage::Probation
            && !self.progress.is_worse
            && self.progress.calls >= self.terms.attempts
            && (self.terms.slower.is_none() || self.median.is_some());
        if !is_near {
            return None;
        }
        self.resumed_at
            .checked_add(self.terms.time.saturating_sub(self.progress.elapsed))
    }

    /// Proves the newest version, if it is time.
    pub fn tick(&mut self, now: Instant) -> Option<ProbationChange> {
        self.at().filter(|at| now >= *at)?;
        self.progress.is_proven = true;
        self.progress.recent = CallCounts::default();
        self.progress.stage = ProbationStage::Watching;
        self.compare_afresh(now);
        Some(ProbationChange::Proven)
    }

    fn elapsed(&self, now: Instant) -> Duration {
        let since = now.saturating_duration_since(self.resumed_at);
        self.progress.elapsed.saturating_add(since)
    }

    /// Whether the predecessor has everything back.
    fn is_over(&self) -> bool {
        self.progress.is_worse && self.terms.automatic
    }

    /// The share of the newest version.
    fn share(&self) -> f64 {
        self.progress.share(&self.terms)
    }

    /// Whether a call that began then had one of the other version beside it.
    fn is_beside(&self, began: Instant) -> bool {
        self.share() < 1.0 && began >= self.beside_since
    }

    fn count_newest(&mut self, broke: bool, began: Instant) {
        self.finished = self.finished.wrapping_add(1);
        self.progress.calls = self.progress.calls.saturating_add(1);
        if self.is_beside(began) {
            self.progress.beside.newer.add(broke);
        }
        match self.progress.stage {
            ProbationStage::Probation | ProbationStage::Watching => self.progress.recent.add(broke),
            ProbationStage::Doubt => {}
        }
    }

    /// Whether a successful call took too long. `None`: that can't be said, or is not asked.
    fn is_slow(&self, call: FinishedCall) -> Option<bool> {
        let factor = self.terms.slower.filter(|_| self.is_beside(call.began))?;
        Some(call.time.as_secs_f64() > self.median?.as_secs_f64() * factor)
    }

    fn keep_time(&mut self, time: Duration) {
        if self.terms.slower.is_none() {
            return;
        }
        if self.times.len() >= TIMES {
            self.times.pop_front();
        }
        self.times.push_back(time);
        let mut sorted: Vec<Duration> = self.times.iter().copied().collect();
        sorted.sort_unstable();
        self.median = sorted
            .get(sorted.len() / 2)
            .copied()
            .filter(|_| sorted.len() >= FEWEST_TIMES);
    }

    /// Draws the conclusion from what was counted.
    fn judge(&mut self, now: Instant) -> Option<ProbationChange> {
        if self.progress.is_worse {
            return None;
        }
        if let Some(why) = self.why_worse() {
            self.progress.is_worse = true;
            self.progress.stage = ProbationStage::Doubt;
            return Some(ProbationChange::Worse(why));
        }
        match self.progress.stage {
            ProbationStage::Doubt => self.clear(now),
            ProbationStage::Probation | ProbationStage::Watching => {
                if let Some(suspect) = self.suspect() {
                    return Some(self.doubt(suspect, now));
                }
                self.forget_slowly();
                self.tick(now)
            }
        }
    }

    fn why_worse(&self) -> Option<String> {
        let SideBySide { newer, predecessor } = self.progress.beside;
        if compare(newer, predecessor) == Comparison::Worse {
            let of_newer = broke(newer);
            let of_predecessor = broke(predecessor);
            return Some(format!(
                "it broke {of_newer}; its predecessor broke {of_predecessor} in the same time"
            ));
        }
        if self.progress.probes >= PROBES_TO_CONVICT {
            let probes = self.progress.probes;
            return Some(format!(
                "it handled none of the last {probes} probes of the paused handler; its predecessor handled all of them"
            ));
        }
        let factor = self.terms.slower?;
        let SideBySide { newer, predecessor } = self.progress.slow;
        if compare(newer, predecessor) != Comparison::Worse {
            return None;
        }
        let (of_newer, of_predecessor) = (of_calls(newer), of_calls(predecessor));
        Some(format!(
            "{of_newer} took longer than {factor} times the median time of its predecessor; \
             of its predecessor, {of_predecessor} took as long in the same time"
        ))
    }

    /// The counts that raise a doubt.
    fn suspect(&self) -> Option<CallCounts> {
        let SideBySide { newer, predecessor } = self.progress.beside;
        let ProbationProgress { recent, expected, .. } = self.progress;
        [(newer, predecessor), (recent, expected)]
            .into_iter()
            .find(|(newer, other)| compare(*newer, *other) >= Comparison::Doubtful)
            .map(|(newer, _)| newer)
    }

    fn doubt(&mut self, suspect: CallCounts, now: Instant) -> ProbationChange {
        if self.share() >= 1.0 {
            self.compare_afresh(now);
        }
        let calls_per_break = suspect.calls.checked_div(suspect.breaks).unwrap_or(suspect.calls);
        let calls = calls_per_break
            .saturating_mul(BREAKS_TO_SETTLE)
            .clamp(FEWEST_TO_SETTLE, MOST_TO_SETTLE);
        self.progress.settles_at = self.progress.beside.newer.calls.saturating_add(calls);
        self.progress.stage = ProbationStage::Doubt;
        ProbationChange::Doubtful
    }

    /// Ends a doubt that calls of both versions have settled in favour of the newest.
    fn clear(&mut self, now: Instant) -> Option<ProbationChange> {
        let SideBySide { newer, predecessor } = self.progress.beside;
        let is_settled = newer.calls.min(predecessor.calls) >= self.progress.settles_at
            || predecessor.breaks >= BREAKS_ALIKE && newer.breaks_at_most_as_often_as(predecessor);
        if !is_settled || leans_to_worse(newer, predecessor) {
            return None;
        }
        self.expect_after(predecessor);
        self.progress.recent = CallCounts::default();
        self.progress.stage = if self.progress.is_proven {
            ProbationStage::Watching
        } else {
            ProbationStage::Probation
        };
        self.compare_afresh(now);
        Some(ProbationChange::Cleared)
    }

    /// Learns from a doubt that was not confirmed. If the predecessor broke more often than expected, the world has changed, or
    /// what was expected was a guess. If not, it counts half: whatever is wrong with it does not cast a doubt again and again.
    fn expect_after(&mut self, predecessor: CallCounts) {
        let expected = self.progress.expected;
        self.progress.expected = if compare(predecessor, expected) > Comparison::Alike {
            predecessor.scaled(predecessor.calls.min(EXPECTED_CALLS))
        } else {
            expected.scaled(expected.calls / 2).and(predecessor)
        };
    }

    fn compare_afresh(&mut self, now: Instant) {
        self.progress.beside = SideBySide::default();
        self.progress.slow = SideBySide::default();
        self.beside_since = now;
    }

    /// Halves the recent counts when they are many. A version that did better than expected is expected to go on so.
    fn forget_slowly(&mut self) {
        let ProbationProgress { recent, expected, .. } = self.progress;
        if recent.calls < RECENT_CALLS {
            return;
        }
        // On probation, breaks that are the fault of a message or of the world are left out.
        if self.progress.is_proven && !expected.breaks_at_most_as_often_as(recent) {
            self.progress.expected = recent;
        }
        self.progress.recent = recent.halved();
    }
}

fn broke(counts: CallCounts) -> String {
    match counts {
        CallCounts { calls, breaks: 0 } => format!("none of {calls} calls"),
        CallCounts { calls, breaks } => format!("{breaks} of {calls} calls"),
    }
}

fn of_calls(counts: CallCounts) -> String {
    let CallCounts { calls, breaks } = counts;
    format!("{breaks} of {calls} calls")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    struct Trial {
        probation: Probation,
        now: Instant,
    }

    impl Trial {
        fn new(change: impl FnOnce(&mut RolloutTerms)) -> Self {
            let mut terms = RolloutTerms {
                attempts: 50,
                time: 100 * SECOND,
                canary: 1.0,
                slower: None,
                automatic: true,
            };
            change(&mut terms);
            let now = Instant::now();
            let progress = ProbationProgress::new(CallCounts::default());
            Self {
                probation: Probation::new(terms, progress, now),
                now,
            }
        }

        fn call(&self, broke: bool) -> FinishedCall {
            FinishedCall {
                began: self.now,
                broke,
                succeeded: !broke,
                time: Duration::from_millis(10),
            }
        }

        fn newest(&mut self, broke: bool) -> Option<ProbationChange> {
            self.probation.newest_call(self.call(broke), self.now)
        }

        fn predecessor(&mut self, broke: bool) -> Option<ProbationChange> {
            self.probation.predecessor_call(self.call(broke), self.now)
        }

        /// The newest version broke, and its predecessor was asked.
        fn asked(&mut self, answered: Answered) -> Option<ProbationChange> {
            let opinion = SecondOpinion {
                began: self.now,
                first_broke: true,
                answered,
                is_paused: false,
            };
            self.probation.second_opinion(opinion, self.now)
        }

        fn probe(&mut self, answered: Answered) -> Option<ProbationChange> {
            let opinion = SecondOpinion {
                began: self.now,
                first_broke: false,
                answered,
                is_paused: true,
            };
            self.probation.second_opinion(opinion, self.now)
        }

        fn fall_into_doubt(&mut self) {
            assert_eq!(self.asked(Answered::Success), None);
            assert_eq!(self.asked(Answered::Success), None);
            assert_eq!(self.asked(Answered::Success), Some(ProbationChange::Doubtful));
        }

        /// Calls of both versions in turn, until there is a change.
        fn in_turn(
            &mut self,
            most: usize,
            newer: Option<Answered>,
            predecessor_broke: bool,
        ) -> Option<ProbationChange> {
            (0..most).find_map(|_| {
                let of_newest = match newer {
                    Some(answered) => self.asked(answered),
                    None => self.newest(false),
                };
                of_newest.or_else(|| self.predecessor(predecessor_broke))
            })
        }
    }

    #[test]
    fn a_version_is_proven_after_enough_calls_and_enough_time() {
        let mut trial = Trial::new(|_| {});
        trial.now += 200 * SECOND;
        for _ in 1..50 {
            assert_eq!(trial.newest(false), None);
        }
        assert_eq!(trial.probation.at(), None);
        assert_eq!(trial.newest(false), Some(ProbationChange::Proven));
        assert_eq!(trial.probation.progress.recent, CallCounts::default());
        assert_eq!(trial.probation.stage(), ProbationStage::Watching);
        assert_eq!(trial.probation.at(), None);
        assert_eq!(trial.newest(false), None);
    }

    #[test]
    fn time_alone_proves_a_version_that_had_enough_calls() {
        let mut trial = Trial::new(|_| {});
        for _ in 0..50 {
            assert_eq!(trial.newest(false), None);
        }
        let at = trial.probation.at().unwrap();
        assert_eq!(at, trial.now + 100 * SECOND);
        assert_eq!(trial.probation.tick(at - SECOND), None);
        assert_eq!(trial.probation.tick(at), Some(ProbationChange::Proven));
        assert_eq!(trial.probation.tick(at), None);
    }

    #[test]
    fn a_restart_goes_on_where_the_probation_was() {
        let mut trial = Trial::new(|_| {});
        for _ in 0..50 {
            trial.newest(false);
        }
        let progress = trial.probation.progress(trial.now + 60 * SECOND);
        let text = serde_json::to_string(&progress).unwrap();
        let read: ProbationProgress = serde_json::from_str(&text).unwrap();
        assert_eq!(read, progress);
        let restarted = trial.now + 1_000 * SECOND;
        let probation = Probation::new(trial.probation.terms, read, restarted);
        assert_eq!(probation.at(), Some(restarted + 40 * SECOND));
    }

    #[test]
    fn a_version_that_breaks_what_its_predecessor_handles_is_worse() {
        let mut trial = Trial::new(|_| {});
        trial.fall_into_doubt();
        let Some(ProbationChange::Worse(why)) = trial.in_turn(10, Some(Answered::Success), false) else {
            panic!("not found");
        };
        assert_eq!(
            why,
            "it broke 8 of 8 calls; its predecessor broke none of 8 calls in the same time"
        );
        assert_eq!(trial.probation.lane(0.0), Lane::Predecessor);
        assert_eq!(trial.asked(Answered::Success), None);
        assert_eq!(trial.probation.at(), None);
    }

    #[test]
    fn what_neither_version_handles_counts_for_neither() {
        let mut trial = Trial::new(|_| {});
        for _ in 0..1_000 {
            assert_eq!(trial.asked(Answered::NotEither), None);
        }
        assert_eq!(trial.probation.progress(trial.now).calls, 0);
    }

    #[test]
    fn what_is_known_from_before_convicts_nobody() {
        let mut trial = Trial::new(|_| {});
        trial.probation.progress = ProbationProgress::new(CallCounts {
            calls: 1_000_000,
            breaks: 0,
        });
        trial.fall_into_doubt();
        for _ in 0..1_000 {
            assert_eq!(trial.asked(Answered::Success), None);
        }
        // The world has changed for both.
        assert_eq!(trial.predecessor(true), None);
        assert_eq!(trial.predecessor(true), None);
    }

    #[test]
    fn calls_that_began_before_the_doubt_convict_nobody() {
        let mut trial = Trial::new(|_| {});
        let before = trial.call(true);
        trial.now += SECOND;
        trial.fall_into_doubt();
        for _ in 0..20 {
            assert_eq!(trial.predecessor(false), None);
        }
        for _ in 0..1_000 {
            assert_eq!(trial.probation.newest_call(before, trial.now), None);
        }
    }

    #[test]
    fn a_doubt_is_cleared_by_calls_of_both_and_nothing_is_proven_before() {
        let mut trial = Trial::new(|_| {});
        trial.now += 200 * SECOND;
        trial.fall_into_doubt();
        for _ in 0..1_000 {
            assert_eq!(trial.newest(false), None, "only one version had calls");
        }
        assert_eq!(trial.in_turn(198, None, false), None);
        assert_eq!(trial.in_turn(2, None, false), Some(ProbationChange::Cleared));
        assert_eq!(trial.newest(false), Some(ProbationChange::Proven));
    }

    #[test]
    fn a_doubt_lasts_while_the_breaks_lean_to_one_side() {
        let mut trial = Trial::new(|_| {});
        trial.fall_into_doubt();
        assert_eq!(trial.in_turn(195, None, false), None);
        assert_eq!(trial.in_turn(5, Some(Answered::Success), false), None);
        assert_eq!(trial.in_turn(10, None, false), None);
        assert_eq!(trial.in_turn(3, None, true), Some(ProbationChange::Cleared));
    }

    #[test]
    fn a_doubt_changes_what_is_expected_only_if_the_predecessor_breaks_more_than_that() {
        let expected = CallCounts {
            calls: 10_000,
            breaks: 100,
        };
        for (broke, changes) in [(false, false), (true, true)] {
            let mut trial = Trial::new(|_| {});
            trial.probation.progress = ProbationProgress::new(expected);
            trial.fall_into_doubt();
            let change = trial.in_turn(200, broke.then_some(Answered::Success), broke);
            assert_eq!(change, Some(ProbationChange::Cleared));
            let now_expected = trial.probation.progress.expected;
            assert_eq!(!now_expected.breaks_at_most_as_often_as(expected), changes);
            assert_eq!(
                now_expected.calls == 5_000 + 200,
                !changes,
                "what was expected counts half"
            );
        }
    }

    #[test]
    fn a_proven_version_that_does_better_than_expected_is_held_to_that() {
        let mut trial = Trial::new(|_| {});
        let expected = CallCounts {
            calls: 10_000,
            breaks: 1_000,
        };
        trial.probation.progress = ProbationProgress::new(expected);
        for _ in 0..10_000 {
            assert_eq!(trial.newest(false), None);
        }
        assert_eq!(
            trial.probation.progress.expected, expected,
            "breaks of both were not counted"
        );
        trial.now += 100 * SECOND;
        assert_eq!(trial.newest(false), Some(ProbationChange::Proven));
        for _ in 0..5_000 {
            assert_eq!(trial.newest(false), None);
        }
        assert_eq!(trial.probation.progress.expected.breaks, 0);
    }

    #[test]
    fn a_doubt_never_raises_the_share_of_the_newest_version() {
        let mut trial = Trial::new(|terms| terms.canary = 0.1);
        trial.fall_into_doubt();
        let is_newest = |place: &u32| trial.probation.lane(f64::from(*place) / 1_000.0) == Lane::Newest;
        let share = (0..1_000).filter(is_newest).count();
        assert!((99..=101).contains(&share), "{share}");
    }

    #[test]
    fn a_predecessor_that_breaks_as_often_clears_the_doubt_early() {
        let mut trial = Trial::new(|_| {});
        trial.fall_into_doubt();
        assert_eq!(
            trial.in_turn(6, Some(Answered::Success), true),
            Some(ProbationChange::Cleared)
        );
        assert_eq!(trial.probation.lane(0.99), Lane::Newest);
    }

    #[test]
    fn a_proven_version_that_turns_bad_is_found_out() {
        let mut trial = Trial::new(|terms| terms.time = Duration::ZERO);
        let proven = (0..20_000).filter_map(|_| trial.newest(false)).collect::<Vec<_>>();
        assert_eq!(proven, [ProbationChange::Proven]);
        assert_eq!(trial.probation.opinions(false), SecondOpinions::None);
        let doubtful = (0..4).find_map(|_| trial.newest(true));
        assert_eq!(doubtful, Some(ProbationChange::Doubtful));
        assert_eq!(trial.probation.opinions(false), SecondOpinions::Breaks);
        let verdict = trial.in_turn(10, Some(Answered::Success), false);
        assert!(matches!(verdict, Some(ProbationChange::Worse(_))), "{verdict:?}");
    }

    #[test]
    fn a_proven_version_stays_proven_when_a_doubt_is_cleared() {
        let mut trial = Trial::new(|terms| terms.time = Duration::ZERO);
        for _ in 0..60 {
            trial.newest(false);
        }
        assert_eq!((0..4).find_map(|_| trial.newest(true)), Some(ProbationChange::Doubtful));
        let cleared = trial.in_turn(20, Some(Answered::Success), true);
        assert_eq!(cleared, Some(ProbationChange::Cleared));
        assert_eq!(trial.probation.stage(), ProbationStage::Watching);
    }

    #[test]
    fn probes_that_only_the_predecessor_handles_show_that_the_version_is_worse() {
        let mut trial = Trial::new(|_| {});
        assert_eq!(trial.probation.opinions(true), SecondOpinions::AllButReject);
        for _ in 0..4 {
            assert_eq!(trial.probe(Answered::Success), None);
        }
        assert_eq!(trial.probe(Answered::NotEither), None);
        for _ in 0..4 {
            assert_eq!(trial.probe(Answered::Success), None);
        }
        assert_eq!(trial.newest(false), None);
        for _ in 0..4 {
            assert_eq!(trial.probe(Answered::Success), None);
        }
        assert_eq!(trial.probe(Answered::Reject), None);
        assert!(matches!(
            trial.probe(Answered::Success),
            Some(ProbationChange::Worse(_))
        ));
    }

    #[test]
    fn without_automatic_rollback_the_verdict_is_given_once_and_messages_stay_safe() {
        let mut trial = Trial::new(|terms| terms.automatic = false);
        trial.fall_into_doubt();
        let verdict = trial.in_turn(10, Some(Answered::Success), false);
        assert!(matches!(verdict, Some(ProbationChange::Worse(_))));
        assert_eq!(trial.in_turn(1_000, Some(Answered::Success), false), None);
        assert_eq!(trial.probation.opinions(false), SecondOpinions::Breaks);
        let places = [0.1, 0.3, 0.6, 0.8].map(|place| trial.probation.lane(place));
        assert!(
            places.contains(&Lane::Newest) && places.contains(&Lane::Predecessor),
            "{places:?}"
        );
        assert_eq!(trial.probation.tick(trial.now + 1_000 * SECOND), None);
    }

    /// How many of 1,000 messages of a group at this place the newest version gets.
    fn share_of_group(trial: &mut Trial, place: f64) -> usize {
        (0..1_000).filter(|_| share_of_one(trial, place)).count()
    }

    #[test]
    fn a_canary_gets_its_share_of_the_groups_and_each_of_them_as_a_whole() {
        for (canary, expected) in [(0.5, 50), (0.1, 10)] {
            let mut trial = Trial::new(|terms| (terms.canary, terms.attempts) = (canary, 1_000_000));
            let shares = (0..100).map(|group| share_of_group(&mut trial, f64::from(group) / 100.0));
            let shares: Vec<usize> = shares.collect();
            assert!(
                shares.iter().all(|share| [0, 1_000].contains(share)),
                "{canary}: {shares:?}"
            );
            assert_eq!(shares.iter().sum::<usize>(), expected * 1_000);
        }
    }

    #[test]
    fn in_doubt_a_group_runs_on_both_versions_in_turn() {
        let mut trial = Trial::new(|_| {});
        assert_eq!(share_of_group(&mut trial, 0.42), 1_000);
        trial.fall_into_doubt();
        let first = (0..100).filter(|_| share_of_one(&mut trial, 0.42)).count();
        assert!((45..=55).contains(&first), "{first}");
    }

    /// Whether the newest version gets one message of a group at this place.
    fn share_of_one(trial: &mut Trial, place: f64) -> bool {
        let lane = trial.probation.lane(place);
        let change = match lane {
            Lane::Newest => trial.newest(false),
            Lane::Predecessor => trial.predecessor(false),
        };
        assert!(matches!(change, None | Some(ProbationChange::Proven)));
        lane == Lane::Newest
    }

    #[test]
    fn a_doubt_gives_both_versions_calls() {
        let mut trial = Trial::new(|_| {});
        assert_eq!(trial.probation.lane(0.999), Lane::Newest);
        trial.fall_into_doubt();
        assert_eq!(trial.probation.lane(0.2), Lane::Newest);
        assert_eq!(trial.probation.lane(0.7), Lane::Predecessor);
    }

    fn slow(trial: &mut Trial, lane: Lane, millis: u64) -> Option<ProbationChange> {
        let call = FinishedCall {
            time: Duration::from_millis(millis),
            ..trial.call(false)
        };
        match lane {
            Lane::Newest => trial.probation.newest_call(call, trial.now),
            Lane::Predecessor => trial.probation.predecessor_call(call, trial.now),
        }
    }

    /// A version that was 100 times as slow was proven after few calls, since its predecessor had none to compare with.
    #[test]
    fn nothing_is_proven_before_times_can_be_compared_if_the_manifest_asks_for_that() {
        let mut trial = Trial::new(|terms| {
            (terms.slower, terms.canary) = (Some(2.0), 0.5);
            (terms.attempts, terms.time) = (5, Duration::ZERO);
        });
        for _ in 0..50 {
            assert_eq!(slow(&mut trial, Lane::Newest, 10), None);
        }
        let proven = (0..FEWEST_TIMES).find_map(|_| slow(&mut trial, Lane::Predecessor, 10));
        assert_eq!(proven, Some(ProbationChange::Proven));
    }

    #[test]
    fn a_slow_version_is_worse_if_the_manifest_says_so() {
        for slower in [None, Some(2.0)] {
            let mut trial = Trial::new(|terms| {
                terms.slower = slower;
                terms.canary = 0.5;
            });
            let mut in_turn = |turns: usize| {
                (0..turns).find_map(|_| {
                    slow(&mut trial, Lane::Newest, 30).or_else(|| slow(&mut trial, Lane::Predecessor, 10))
                })
            };
            assert_eq!(in_turn(FEWEST_TIMES), None, "a few times give no median");
            let verdict = in_turn(10);
            let expected = slower.map(|_| {
                ProbationChange::Worse(
                    "8 of 8 calls took longer than 2 times the median time of its predecessor; \
                     of its predecessor, 0 of 8 calls took as long in the same time"
                        .to_owned(),
                )
            });
            assert_eq!(verdict, expected);
        }
    }

    #[test]
    fn numbers_that_make_no_sense_are_read_without_a_panic() {
        let most = u64::MAX;
        let counts = format!(r#"{{"calls":{most},"breaks":{most}}}"#);
        let both = format!(r#"{{"newer":{counts},"predecessor":{counts}}}"#);
        for stage in ["probation", "doubt", "watching"] {
            let text = format!(
                r#"{{"stage":"{stage}","calls":{most},"elapsed":{{"secs":{most},"nanos":0}},"recent":{counts},
                "expected":{counts},"beside":{both},"slow":{both},"settles_at":{most},"probes":4294967295,"later":1}}"#
            );
            let progress: ProbationProgress = serde_json::from_str(&text).unwrap();
            let mut trial = Trial::new(|_| {});
            trial.probation = Probation::new(trial.probation.terms, progress, trial.now);
            for _ in 0..50 {
                trial.newest(true);
                trial.predecessor(true);
                trial.probe(Answered::NotEither);
                trial.asked(Answered::Success);
            }
            assert!(trial.probation.progress(trial.now + SECOND).elapsed >= SECOND);
        }
    }
}
