//! Decides what a new version of a handler gets to do while its predecessor stands by, and when it is proven or worse. Only calls
//! of both versions from the same time convict a version: what is known from before may cast a doubt, and no more.
//!
//! Pure: it neither calls nor settles anything. The time is passed in.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::rule::{CallCounts, Comparison, compare, float};

/// The calls after which a new version may be proven, unless the manifest says otherwise. 300 calls without a break say with a
/// confidence of 95 % that fewer than 1 in 100 calls break (the rule of three: 3 / 300).
pub const DEFAULT_CALLS: u64 = 300;
/// The time after which a new version may be proven, unless the manifest says otherwise. It is longer than most timers, caches,
/// tokens and backoffs of a worker, and short enough to wait for after a deploy.
pub const DEFAULT_TIME: Duration = Duration::from_mins(10);
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
/// How many of the calls in which it broke once on average settle a doubt: if the rate was real, about ten breaks are to be seen.
const BREAKS_TO_SETTLE: u64 = 10;
/// The fewest calls of each version that settle a doubt.
const FEWEST_TO_SETTLE: u64 = 200;
/// The most calls of each version that settle a doubt.
const MOST_TO_SETTLE: u64 = 20_000;
/// The breaks of a predecessor that settle a doubt early, if it breaks as often as the newest version.
const BREAKS_ALIKE: u64 = 3;
/// The finished calls after which other message groups get the newest version, so that one group can't hide a break for long, and
/// both versions get calls in a queue with one group.
const CALLS_PER_TURN: u64 = 10;
/// The golden ratio less one: its multiples are spread most evenly over 0 to 1, so the turns of a group are spread evenly too.
const TURN: f64 = 0.618_033_988_749_894_9;
/// The calls of a predecessor whose times are kept.
const TIMES: usize = 64;
/// The fewest times of a predecessor that give a median to compare with.
const FEWEST_TIMES: usize = 20;
/// The probes of a paused handler in a row that a predecessor handles and the newest version does not, until the latter is worse.
/// Three would do at a dead stop; five also hold where 4 in 5 calls of both fail. The first five take half a minute.
const PROBES_TO_CONVICT: u32 = 5;

/// What a manifest says about a rollout.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RolloutTerms {
    /// The calls of the newest version after which it may be proven.
    pub calls: u64,
    /// The time after which the newest version may be proven.
    pub time: Duration,
    /// The share of the calls that the newest version gets on probation; above 0, at most 1.
    pub canary: f64,
    /// How many times the median time of its predecessor a successful call may take; `None` compares no times.
    pub slower: Option<f64>,
    /// Whether a version that is worse loses its messages to its predecessor at once. If not, that is said once; the version
    /// stays in doubt until somebody decides.
    pub automatic: bool,
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
    /// All finished calls of both versions; they decide whose turn it is.
    finished: u64,
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

    /// Chooses the version for a call. `place` is from 0 to below 1, and the same for all messages of a group.
    pub fn lane(&self, place: f64) -> Lane {
        let turn = float(self.finished.checked_div(CALLS_PER_TURN).unwrap_or(0)) * TURN;
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
        self.finished = self.finished.saturating_add(1);
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
            (Answered::NotEither, true) => self.finished = self.finished.saturating_add(1),
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
            && self.progress.calls >= self.terms.calls;
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
        self.finished = self.finished.saturating_add(1);
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
        let mut sorted = Vec::from_iter(self.times.iter().copied());
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
        if !is_settled || compare(newer, predecessor) > Comparison::Alike {
            return None;
        }
        if predecessor.breaks > 0 {
            self.progress.expected = predecessor.scaled(predecessor.calls.min(EXPECTED_CALLS));
        }
        self.progress.recent = CallCounts::default();
        self.progress.stage = if self.progress.is_proven {
            ProbationStage::Watching
        } else {
            ProbationStage::Probation
        };
        self.compare_afresh(now);
        Some(ProbationChange::Cleared)
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
        if !expected.breaks_at_most_as_often_as(recent) {
            self.progress.expected = recent;
        }
        self.progress.recent = recent.scaled(RECENT_CALLS / 2);
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
