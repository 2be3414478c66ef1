//! The forms of a handler's versions: the history, how the newest one proves itself, and what has happened.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    rollout::{ProbationProgress, RolloutTerms},
    versions::{BarredComponent, BoardEntry, VersionEvent, VersionRecord},
};
use sandhog_queue::machine_clock::whole_ms;

/// The answer of `GET /handlers/{name}/versions`, and to an order about versions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct VersionList {
    /// The name of the handler.
    pub handler: String,
    /// The number of the version that serves, on probation or not; null if none does.
    pub serving: Option<u64>,
    /// The number of the version that stands by, to which the host can go back.
    pub predecessor: Option<u64>,
    /// The state of the version that serves: `probation` or `serving`.
    pub state: Option<String>,
    /// How that version proves itself; null if there is nothing to compare it with.
    pub probation: Option<ProbationForm>,
    /// What an operator has to know besides, for people: why there is no predecessor, or what a file in the plugin directory waits for.
    pub note: Option<String>,
    /// The versions that are kept, newest first.
    pub versions: Vec<VersionForm>,
    /// The number of the version that a promotion would serve: the one on probation, or the one whose file in the plugin directory does not
    /// serve. Null if there is nothing to promote.
    #[serde(default)]
    pub promotable: Option<u64>,
    /// The components that do not serve until they are promoted. Their versions need not be kept any more.
    pub barred: Vec<BarredForm>,
    /// What has happened, newest first; at most the last 100 events.
    pub events: Vec<VersionEventForm>,
}

/// One version of a handler: a component with the manifest that it was accepted with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct VersionForm {
    /// The number of the version. The first one of a handler has number 1.
    pub number: u64,
    /// The SHA-256 digest of the component.
    pub component: String,
    /// The SHA-256 digest of the manifest; null if there was no manifest.
    pub manifest: Option<String>,
    /// The path of the file that the component came from.
    pub file: String,
    /// When the version was accepted: milliseconds since 1970-01-01T00:00:00Z.
    pub accepted_at_ms: u64,
    /// `accepted` (it waits to serve), `probation`, `serving`, `retired`, `quarantined` or `set-aside`.
    pub state: String,
    /// Why the host, or somebody, went back from the version.
    pub reason: Option<String>,
    /// The number of an older version whose component this is, under a newer manifest.
    pub rollback_of: Option<u64>,
    /// How long the version has served, in milliseconds.
    pub served_ms: u64,
    /// When the version served last: milliseconds since 1970-01-01T00:00:00Z; null if it never did.
    pub last_served_at_ms: Option<u64>,
    /// The calls of the component. A batch is one call.
    pub calls: u64,
    /// The calls that broke: a trap, a timeout, a limit, a wrong answer.
    pub breaks: u64,
    /// The messages by outcome, such as `success`, `retry` or `trap`.
    pub outcomes: BTreeMap<String, u64>,
    /// The time that half of the calls took at most, in milliseconds; null without a call.
    pub p50_ms: Option<f64>,
    /// The time that 99 of 100 calls took at most, in milliseconds; null without a call.
    pub p99_ms: Option<f64>,
    /// The processor time of all calls, in milliseconds.
    pub cpu_ms_total: f64,
    /// The processor time of a call on average, in milliseconds; null without a call.
    pub cpu_ms_mean: Option<f64>,
    /// The most memory that a call took, in bytes.
    pub memory_peak_bytes: u64,
}

/// A component that the host, or somebody, went back from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct BarredForm {
    /// The SHA-256 digest of the component.
    pub component: String,
    /// The number of the version that it was.
    pub number: u64,
    /// `quarantined` or `set-aside`.
    pub state: String,
    /// Why, for people.
    pub reason: String,
}

/// How a new version proves itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ProbationForm {
    /// `probation`, `doubt`, or `watching`: proven, and its predecessor is still kept.
    pub stage: String,
    /// The calls of the probation so far.
    pub calls: u64,
    /// The calls after which the version is proven.
    pub calls_wanted: u64,
    /// The time of the probation so far, in milliseconds.
    pub elapsed_ms: u64,
    /// The time before which the version is not proven, in milliseconds.
    pub time_ms: u64,
    /// The share of the deliveries that the version gets: more than 0, up to 1.
    pub share: f64,
    /// The calls of the version that count in the comparison.
    pub newer_calls: u64,
    /// Those of them that broke, although the predecessor could handle the message.
    pub newer_breaks: u64,
    /// The calls of the predecessor that count in the comparison.
    pub predecessor_calls: u64,
    /// Those of them that broke.
    pub predecessor_breaks: u64,
    /// How often the predecessor was asked about a message that the version had broken on.
    pub second_opinions: u64,
}

/// One thing that has happened to a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct VersionEventForm {
    /// When it happened: milliseconds since 1970-01-01T00:00:00Z.
    pub at_ms: u64,
    /// The number of the version; null if the files never became one.
    pub number: Option<u64>,
    /// What happened, as one word: `accepted`, `refused`, `began`, `doubtful`, `cleared`, `proven`, `quarantined`, `rolled-back` or
    /// `promoted`.
    pub what: String,
    /// Why, for people.
    pub why: Option<String>,
}

impl VersionList {
    /// Returns the form of a handler that has no versions.
    pub fn none(handler: &str) -> Self {
        Self::new(handler, BoardEntry::default())
    }

    /// Returns the form of a handler's versions.
    pub fn new(handler: &str, entry: BoardEntry) -> Self {
        let BoardEntry {
            history,
            progress,
            terms,
            note,
            barred_file,
        } = entry;
        let serving = history.serving();
        let on_probation = progress.as_ref().and(serving).map(|version| version.number);
        Self {
            handler: handler.to_owned(),
            serving: serving.map(|version| version.number),
            predecessor: history.predecessor().map(|version| version.number),
            state: serving.map(|version| version.state.as_str().to_owned()),
            probation: progress
                .zip(terms)
                .map(|(progress, terms)| ProbationForm::new(&progress, &terms)),
            note,
            promotable: barred_file.or(on_probation),
            versions: history.versions().iter().rev().map(Into::into).collect(),
            barred: history.all_barred().iter().map(Into::into).collect(),
            events: history.events().iter().rev().map(Into::into).collect(),
        }
    }
}

impl From<&VersionRecord> for VersionForm {
    fn from(version: &VersionRecord) -> Self {
        let tally = &version.tally;
        let calls = tally.calls();
        let cpu_ms_total = millis(tally.cpu());
        let outcomes = tally.outcomes().iter();
        Self {
            number: version.number,
            component: version.digests.component.clone(),
            manifest: version.digests.manifest.clone(),
            file: version.file.clone(),
            accepted_at_ms: version.accepted_at_ms,
            state: version.state.as_str().to_owned(),
            reason: version.reason.clone(),
            rollback_of: version.rollback_of,
            served_ms: version.served_ms,
            last_served_at_ms: version.last_served_at_ms,
            calls,
            breaks: tally.breaks(),
            outcomes: outcomes.map(|(word, count)| (word.clone(), count.messages)).collect(),
            p50_ms: tally.p50().map(millis),
            p99_ms: tally.p99().map(millis),
            cpu_ms_total,
            cpu_ms_mean: mean(cpu_ms_total, calls),
            memory_peak_bytes: tally.memory_peak(),
        }
    }
}

impl From<&VersionEvent> for VersionEventForm {
    fn from(event: &VersionEvent) -> Self {
        Self {
            at_ms: event.at_ms,
            number: event.number,
            what: event.what.as_str().to_owned(),
            why: event.why.clone(),
        }
    }
}

impl From<&BarredComponent> for BarredForm {
    fn from(barred: &BarredComponent) -> Self {
        Self {
            component: barred.component.clone(),
            number: barred.number,
            state: barred.state.as_str().to_owned(),
            reason: barred.reason.clone(),
        }
    }
}

impl ProbationForm {
    fn new(progress: &ProbationProgress, terms: &RolloutTerms) -> Self {
        let (newer, predecessor) = progress.compared();
        Self {
            stage: progress.stage.as_str().to_owned(),
            calls: progress.calls,
            calls_wanted: terms.attempts,
            elapsed_ms: whole_ms(progress.elapsed),
            time_ms: whole_ms(terms.time),
            share: progress.share(terms),
            newer_calls: newer.calls,
            newer_breaks: newer.breaks,
            predecessor_calls: predecessor.calls,
            predecessor_breaks: predecessor.breaks,
            second_opinions: progress.second_opinions,
        }
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Returns the share of one call in a sum. More calls than fit into 32 bits count as so many: the mean is then too large, and no call
/// of a host that has done so many is shown by it alone.
fn mean(sum: f64, calls: u64) -> Option<f64> {
    let calls = u32::try_from(calls).unwrap_or(u32::MAX);
    (calls > 0).then(|| sum / f64::from(calls))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        rollout::CallCounts,
        versions::{RecordedCall, VersionDigests, VersionHistory, VersionTally},
    };

    fn digests(component: char) -> VersionDigests {
        VersionDigests {
            component: component.to_string().repeat(64),
            manifest: None,
        }
    }

    /// A history of three versions: the second was rolled back from by the host, the third is on probation.
    fn history() -> VersionHistory {
        let mut history = VersionHistory::default();
        for (component, at) in [('a', 1000), ('b', 2000)] {
            let number = history.accept(digests(component), "orders.wasm", at);
            history.begin(number, number.checked_sub(1).filter(|before| *before > 0), at);
        }
        history.went_back(2, 1, "it broke 7 of 7 calls", 3000);
        let number = history.accept(digests('c'), "orders.wasm", 4000);
        history.begin(number, Some(1), 4000);
        let mut tally = VersionTally::default();
        for outcome in ["success", "success", "success", "trap"] {
            tally.record(RecordedCall {
                outcome,
                messages: 10,
                wall: Duration::from_millis(5),
                cpu: Duration::from_millis(2),
                memory_peak: 4096,
            });
        }
        history.count(3, &tally);
        history
    }

    #[test]
    fn the_versions_of_a_handler_are_listed_newest_first_with_what_they_did() {
        let mut progress = ProbationProgress::new(CallCounts::default());
        (progress.calls, progress.second_opinions) = (4, 1);
        let terms = RolloutTerms {
            attempts: 300,
            time: Duration::from_mins(10),
            canary: 0.5,
            slower: None,
            automatic: true,
        };
        let entry = BoardEntry {
            history: history(),
            progress: Some(progress),
            terms: Some(terms),
            ..BoardEntry::default()
        };
        let list = VersionList::new("orders", entry);
        assert_eq!(list.promotable, Some(3));
        let states: Vec<_> = list
            .versions
            .iter()
            .map(|version| (version.number, version.state.as_str()))
            .collect();
        assert_eq!(states, [(3, "probation"), (2, "quarantined"), (1, "retired")]);
        assert_eq!(
            (list.serving, list.predecessor, list.state.as_deref()),
            (Some(3), Some(1), Some("probation"))
        );
        let probation = list.probation.as_ref().unwrap();
        assert_eq!(
            (probation.calls, probation.calls_wanted, probation.second_opinions),
            (4, 300, 1)
        );
        assert_eq!(
            (probation.stage.as_str(), probation.share, probation.time_ms),
            ("probation", 0.5, 600_000)
        );
        assert_eq!(
            (list.barred[0].number, list.barred[0].state.as_str()),
            (2, "quarantined")
        );
        let newest = &list.versions[0];
        assert_eq!((newest.calls, newest.breaks, newest.memory_peak_bytes), (4, 1, 4096));
        assert_eq!((newest.outcomes["success"], newest.outcomes["trap"]), (30, 10));
        assert_eq!((newest.cpu_ms_total, newest.cpu_ms_mean), (8.0, Some(2.0)));
        assert!(newest.p99_ms.is_some_and(|ms| (4.9..6.0).contains(&ms)), "{newest:?}");
        assert_eq!(list.versions[2].cpu_ms_mean, None);
        assert_eq!(list.versions[1].reason.as_deref(), Some("it broke 7 of 7 calls"));
        assert_eq!(list.events[0].at_ms, 4000, "{:?}", list.events);
    }

    #[test]
    fn a_list_of_versions_is_read_back_as_it_was_written_with_keys_in_kebab_case() {
        let entry = BoardEntry {
            history: history(),
            ..BoardEntry::default()
        };
        let list = VersionList::new("orders", entry);
        let json = serde_json::to_value(&list).unwrap();
        assert_eq!(json["versions"][0]["cpu-ms-mean"], 2.0);
        assert_eq!(json["versions"][0]["rollback-of"], serde_json::Value::Null);
        assert_eq!(serde_json::from_value::<VersionList>(json).unwrap(), list);
    }
}
