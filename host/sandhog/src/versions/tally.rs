//! Counts how the calls of one version came out, how long they took, and what they used.
//!
//! Invariants: a tally is bounded, however much it counts (about 6 KiB of memory, and at most some 15 KiB of text); no count
//! overflows; a tally that was read is as valid as one that was counted. Knows no clock.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use sandhog_queue::FailureKind;

/// The longest time that a tally tells from longer ones (12 hours), in microseconds: no attempt may take longer.
const MAX_TIME_US: u64 = 12 * 60 * 60 * 1_000_000;
/// The significant digits of a time: a shown time is at most about 6 % above the true one, and a tally takes 4 KiB for it.
const TIME_DIGITS: u8 = 1;
/// The most outcomes that are counted by their own word. The host has about a dozen; a guest can't add one.
const MAX_OUTCOMES: usize = 32;
/// The longest word of an outcome, in bytes.
const MAX_WORD_BYTES: usize = 32;
/// The word for the outcomes beyond the bounds.
const OTHER: &str = "other";
/// The largest count that is read: far above what a host can count, and far below what could overflow.
const MAX_READ_COUNT: u64 = 1 << 60;
/// The outcomes in which the guest broke.
const BREAKS: [FailureKind; 4] = [
    FailureKind::Trap,
    FailureKind::Timeout,
    FailureKind::Memory,
    FailureKind::WrongAnswer,
];

/// A call of a guest that has ended.
#[derive(Debug, Clone, Copy)]
pub struct RecordedCall<'a> {
    /// The word of the outcome, as `AttemptOutcome::as_str` says it.
    pub outcome: &'a str,
    /// The number of messages of the call that had this outcome.
    pub messages: u64,
    /// The time that the call took. More than 12 hours count as 12 hours.
    pub wall: Duration,
    /// The time of the processor that the call took.
    pub cpu: Duration,
    /// The most memory that the call had, in bytes.
    pub memory_peak: u64,
}

/// The number of calls and messages with one outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeCount {
    /// The calls.
    pub calls: u64,
    /// The messages of these calls: one each, but for batches.
    pub messages: u64,
}

/// The sums over the calls of one version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "TallyText", into = "TallyText")]
pub struct VersionTally {
    outcomes: BTreeMap<String, OutcomeCount>,
    /// The times of the calls, in microseconds.
    times: Histogram<u64>,
    cpu: Duration,
    memory_peak: u64,
}

/// The form of a tally on disk.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct TallyText {
    outcomes: BTreeMap<String, OutcomeCount>,
    /// Pairs of a time in microseconds and the number of calls that took it.
    times: Vec<[u64; 2]>,
    cpu_us: u64,
    memory_peak: u64,
}

/// The text of a tally does not come from a tally.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a tally is damaged: {0}")]
pub struct DamagedTally(&'static str);

impl VersionTally {
    /// Counts a call.
    pub fn record(&mut self, call: RecordedCall<'_>) {
        let count = OutcomeCount {
            calls: 1,
            messages: call.messages,
        };
        self.count(call.outcome, count);
        // The histogram has room for somewhat longer times, which could not be read back.
        self.times.saturating_record(micros(call.wall).min(MAX_TIME_US));
        self.cpu = self.cpu.saturating_add(call.cpu);
        self.memory_peak = self.memory_peak.max(call.memory_peak);
    }

    /// Counts messages of a call that is counted with another outcome: those of one batch can differ.
    pub fn add_messages(&mut self, outcome: &str, messages: u64) {
        self.count(outcome, OutcomeCount { calls: 0, messages });
    }

    /// Adds what another tally has counted.
    pub fn merge(&mut self, other: &Self) {
        for (word, count) in &other.outcomes {
            self.count(word, *count);
        }
        for step in other.times.iter_recorded() {
            self.times
                .saturating_record_n(step.value_iterated_to(), step.count_at_value());
        }
        self.cpu = self.cpu.saturating_add(other.cpu);
        self.memory_peak = self.memory_peak.max(other.memory_peak);
    }

    fn count(&mut self, word: &str, more: OutcomeCount) {
        if let Some(count) = self.outcomes.get_mut(word) {
            count.add(more);
            return;
        }
        let fits = self.outcomes.len() < MAX_OUTCOMES && word.len() <= MAX_WORD_BYTES;
        let word = if fits { word } else { OTHER };
        self.outcomes.entry(word.to_owned()).or_default().add(more);
    }

    /// Returns the number of calls and messages by the word of the outcome; at most 33 words.
    pub fn outcomes(&self) -> &BTreeMap<String, OutcomeCount> {
        &self.outcomes
    }

    /// Returns the number of calls.
    pub fn calls(&self) -> u64 {
        let calls = self.outcomes.values().map(|count| count.calls);
        calls.fold(0, u64::saturating_add)
    }

    /// Returns the number of calls in which the guest broke: trap, timeout, memory, wrong answer. Answers such as a retry or a
    /// reject are not among them.
    pub fn breaks(&self) -> u64 {
        let broken = BREAKS.iter().filter_map(|kind| self.outcomes.get(kind.as_str()));
        broken.map(|count| count.calls).fold(0, u64::saturating_add)
    }

    /// Returns the time that half of the calls did not exceed; `None` without calls.
    pub fn p50(&self) -> Option<Duration> {
        self.time_at(0.5)
    }

    /// Returns the time that 99 of 100 calls did not exceed; `None` without calls.
    pub fn p99(&self) -> Option<Duration> {
        self.time_at(0.99)
    }

    fn time_at(&self, share: f64) -> Option<Duration> {
        let has_times = !self.times.is_empty();
        has_times.then(|| Duration::from_micros(self.times.value_at_quantile(share)))
    }

    /// Returns the time of the processor that all calls took.
    pub fn cpu(&self) -> Duration {
        self.cpu
    }

    /// Returns the most memory that a call had, in bytes; 0 without calls.
    pub fn memory_peak(&self) -> u64 {
        self.memory_peak
    }
}

impl Default for VersionTally {
    fn default() -> Self {
        let times = Histogram::new_with_bounds(1, MAX_TIME_US, TIME_DIGITS);
        Self {
            outcomes: BTreeMap::new(),
            times: times.expect("the bounds are constants in range"),
            cpu: Duration::ZERO,
            memory_peak: 0,
        }
    }
}

impl OutcomeCount {
    fn add(&mut self, more: Self) {
        self.calls = self.calls.saturating_add(more.calls);
        self.messages = self.messages.saturating_add(more.messages);
    }
}

impl From<VersionTally> for TallyText {
    fn from(tally: VersionTally) -> Self {
        let times = &tally.times;
        let recorded = times.iter_recorded();
        // The lower end of a bucket is within the bounds, and is read back into the same bucket.
        let pairs = recorded.map(|step| [times.lowest_equivalent(step.value_iterated_to()), step.count_at_value()]);
        Self {
            times: pairs.collect(),
            cpu_us: micros(tally.cpu),
            memory_peak: tally.memory_peak,
            outcomes: tally.outcomes,
        }
    }
}

impl TryFrom<TallyText> for VersionTally {
    type Error = DamagedTally;

    fn try_from(text: TallyText) -> Result<Self, DamagedTally> {
        if text.outcomes.len() > MAX_OUTCOMES + 1 || text.outcomes.keys().any(|word| word.len() > MAX_WORD_BYTES) {
            return Err(DamagedTally("it has too many outcomes, or too long ones"));
        }
        let mut counts = text.outcomes.values();
        if counts.any(|count| count.calls.max(count.messages) > MAX_READ_COUNT) {
            return Err(DamagedTally("an outcome has a count that is too large"));
        }
        let mut tally = Self::default();
        let mut calls = 0_u64;
        for [time, count] in text.times {
            calls = calls.saturating_add(count);
            if time > MAX_TIME_US || count == 0 || calls > MAX_READ_COUNT {
                return Err(DamagedTally("its times are out of range"));
            }
            let recorded = tally.times.record_n(time, count);
            recorded.map_err(|_| DamagedTally("its times are out of range"))?;
        }
        Ok(Self {
            outcomes: text.outcomes,
            cpu: Duration::from_micros(text.cpu_us),
            memory_peak: text.memory_peak,
            ..tally
        })
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn call(outcome: &str, wall: Duration) -> RecordedCall<'_> {
        RecordedCall {
            outcome,
            messages: 1,
            wall,
            cpu: Duration::from_millis(2),
            memory_peak: 1000,
        }
    }

    fn read_back(tally: &VersionTally) -> VersionTally {
        serde_json::from_str(&serde_json::to_string(tally).unwrap()).unwrap()
    }

    #[test]
    fn a_tally_says_how_calls_came_out_and_what_they_took() {
        let mut tally = VersionTally::default();
        assert_eq!((tally.calls(), tally.p50(), tally.p99()), (0, None, None));
        for wall in 1..=98 {
            tally.record(call("success", Duration::from_millis(wall)));
        }
        tally.record(RecordedCall {
            messages: 10,
            memory_peak: 5000,
            ..call("trap", Duration::from_secs(9))
        });
        tally.record(call("retry", Duration::from_secs(8)));
        tally.add_messages("reject", 3);
        assert_eq!((tally.calls(), tally.breaks()), (100, 1));
        assert_eq!(tally.outcomes()["trap"], OutcomeCount { calls: 1, messages: 10 });
        assert_eq!(tally.outcomes()["reject"], OutcomeCount { calls: 0, messages: 3 });
        assert_eq!((tally.cpu(), tally.memory_peak()), (Duration::from_millis(200), 5000));
        let near = |time: Option<Duration>, ms: u64| {
            let micros = u64::try_from(time.unwrap().as_micros()).unwrap();
            assert!((ms * 1000..=ms * 1070).contains(&micros), "{micros} us is not {ms} ms");
        };
        near(tally.p50(), 50);
        near(tally.p99(), 8000);
    }

    #[test]
    fn each_way_of_breaking_is_a_break_and_no_answer_is() {
        let mut tally = VersionTally::default();
        for word in ["trap", "timeout", "memory", "wrong-answer"] {
            tally.record(call(word, Duration::ZERO));
        }
        for word in [
            "success",
            "retry",
            "reject",
            "conflict",
            "host-fault",
            "interrupted",
            "lease-lost",
        ] {
            tally.record(call(word, Duration::ZERO));
        }
        assert_eq!((tally.calls(), tally.breaks()), (11, 4));
    }

    #[test]
    fn a_tally_stays_small_whatever_it_counts() {
        let mut tally = VersionTally::default();
        let mut wall = Duration::from_micros(1);
        for number in 0..1000_u32 {
            tally.record(call(&format!("{number:0>60}"), wall));
            tally.record(call(&number.to_string(), wall));
            wall = wall.saturating_mul(103) / 100 + Duration::from_micros(1);
        }
        tally.record(call("success", Duration::MAX));
        assert_eq!((tally.calls(), tally.outcomes().len()), (2001, MAX_OUTCOMES));
        assert!(serde_json::to_string(&tally).unwrap().len() < 15_000);
        assert_eq!(read_back(&tally).calls(), 2001);
    }

    #[test]
    fn no_count_overflows() {
        let mut tally = VersionTally::default();
        let largest = RecordedCall {
            messages: u64::MAX,
            cpu: Duration::MAX,
            ..call("trap", Duration::MAX)
        };
        tally.record(largest);
        tally.record(largest);
        let same = tally.clone();
        tally.merge(&same);
        assert_eq!(tally.outcomes()["trap"].messages, u64::MAX);
        assert!(tally.p99().unwrap() >= Duration::from_hours(12));
    }

    #[test]
    fn a_damaged_tally_is_refused() {
        let read = |text: &str| serde_json::from_str::<VersionTally>(text);
        assert_eq!(read("{}").unwrap(), VersionTally::default());
        assert!(read(r#"{"times":[[43200000000,3]],"a-later-field":1}"#).is_ok());
        let many: Vec<String> = (0..34)
            .map(|n| format!(r#""{n}":{{"calls":1,"messages":1}}"#))
            .collect();
        for text in [
            r#"{"times":[[43200000001,3]]}"#,
            r#"{"times":[[18446744073709551615,3]]}"#,
            r#"{"times":[[5,0]]}"#,
            r#"{"times":[[5,-1]]}"#,
            r#"{"times":[[5]]}"#,
            r#"{"times":[[5,18446744073709551615],[6,18446744073709551615]]}"#,
            r#"{"outcomes":{"trap":{"calls":18446744073709551615,"messages":1}}}"#,
            r#"{"outcomes":{"trap":5}}"#,
            r#"{"outcomes":{"a word that is too long for an outcome":{"calls":1,"messages":1}}}"#,
            r#"{"cpu_us":1.5}"#,
            &format!(r#"{{"outcomes":{{{}}}}}"#, many.join(",")),
            "[1]",
            "",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    proptest! {
        /// Two tallies that are added say the same as one that has counted everything, also after a restart.
        #[test]
        fn tallies_add_up(calls in vec((0..5_usize, 0..10_u64, any::<u32>(), any::<u32>(), any::<bool>()), 0..60)) {
            let words = ["success", "retry", "trap", "timeout", "lease-lost"];
            let [mut one, mut other, mut both] = [(); 3].map(|()| VersionTally::default());
            for (word, messages, wall, memory, in_one) in calls {
                let call = RecordedCall {
                    outcome: words[word],
                    messages,
                    wall: Duration::from_micros(wall.into()),
                    cpu: Duration::from_micros(wall.into()),
                    memory_peak: memory.into(),
                };
                both.record(call);
                if in_one { one.record(call) } else { other.record(call) }
            }
            let mut sum = read_back(&one);
            sum.merge(&read_back(&other));
            prop_assert_eq!(&sum, &both);
            prop_assert_eq!((sum.p50(), sum.p99()), (both.p50(), both.p99()));
            prop_assert_eq!(read_back(&both), both);
        }

        #[test]
        fn no_text_of_a_tally_panics(pairs in vec(any::<[u64; 2]>(), 0..5), calls in any::<u64>(), cpu in any::<u64>()) {
            let text = serde_json::json!({
                "times": pairs,
                "outcomes": { "trap": { "calls": calls, "messages": calls } },
                "cpu_us": cpu,
            });
            if let Ok(tally) = serde_json::from_value::<VersionTally>(text) {
                let mut twice = tally.clone();
                twice.merge(&tally);
                prop_assert!(twice.calls() >= twice.breaks() && twice.p99() >= twice.p50());
            }
        }
    }
}
