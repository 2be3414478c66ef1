//! The versions of every handler, as the reload knows them: their histories, what is counted of each, and how the newest one
//! compares with its predecessor.
//!
//! Invariant: a history changes here and nowhere else, and what the disk has is an earlier state of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::load::{AcceptedVersion, LoadedPredecessor, LoadedVersion};
use crate::{
    attempt::HandlerVersion,
    rollout::{CallCounts, ProbationProgress, RolloutTerms},
    served_versions::{Rollout, ServedVersions},
    versions::{BoardEntry, SharedTally, VersionHistory},
};
use sandhog_queue::machine_clock::wall_ms;

/// The time after which counts that have changed are recorded. A host that is killed loses at most so much of them.
const RECORD_EVERY: Duration = Duration::from_secs(10);

/// The bounds of what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionSettings {
    /// The most versions of a handler that are kept.
    pub keep: usize,
    /// Whether new versions have to prove themselves. Not in `sandhog dev`, where the newest one is always wanted.
    pub probation: bool,
}

/// The versions of one handler.
#[derive(Debug, Default)]
pub(crate) struct HandlerVersions {
    pub(crate) history: VersionHistory,
    /// What is counted of each version that has run in this process, by its number.
    tallies: BTreeMap<u64, SharedTally>,
    /// The versions whose files could not be stored.
    unstored: BTreeSet<u64>,
    /// How the newest version compares with its predecessor.
    progress: Option<ProbationProgress>,
    /// What the newest version has to show, if it has a predecessor.
    terms: Option<RolloutTerms>,
    /// What an operator should know.
    pub(crate) note: Option<String>,
    /// The digest of the component in the plugin directory.
    pub(crate) file_digest: Option<String>,
    /// What was accepted last, and whether it has begun to serve.
    accepted: Option<AcceptedNumber>,
    /// The digest of the component in the plugin directory that somebody promotes, while it is being loaded.
    pub(crate) promoted: Option<String>,
}

/// A version that was accepted.
#[derive(Debug, Clone, Default)]
struct AcceptedNumber {
    number: u64,
    predecessor: Option<u64>,
    fallback_because: Option<String>,
    instead_because: Option<String>,
    /// How the comparison with the predecessor begins.
    progress: Option<ProbationProgress>,
    has_begun: bool,
}

/// A version that has begun to serve.
#[derive(Debug)]
pub(crate) struct BegunVersion {
    /// The reason why it is the one that served last.
    pub(crate) fallback_because: Option<String>,
    /// The reason why it is an older one.
    pub(crate) instead_because: Option<String>,
}

/// The versions of every handler.
#[derive(Debug)]
pub(crate) struct Rollouts {
    settings: VersionSettings,
    handlers: BTreeMap<String, HandlerVersions>,
    /// When counts are recorded next, if any may have changed.
    record_at: Option<Instant>,
}

impl Rollouts {
    pub(crate) fn new(settings: VersionSettings) -> Self {
        Self {
            settings,
            handlers: BTreeMap::new(),
            record_at: None,
        }
    }

    /// Returns the history of a handler, if it is known.
    pub(crate) fn history(&self, name: &str) -> Option<VersionHistory> {
        self.handlers.get(name).map(|versions| versions.history.clone())
    }

    /// Returns the digest of the component that somebody promotes.
    pub(crate) fn promoted(&self, name: &str) -> Option<String> {
        self.handlers.get(name)?.promoted.clone()
    }

    /// Returns whether the host went back from a version, or from its predecessor, while it was being loaded.
    pub(crate) fn is_outdated(&self, name: &str, accepted: &AcceptedVersion) -> bool {
        let Some(versions) = self.handlers.get(name) else {
            return false;
        };
        let component = &accepted.digests.component;
        let is_promoted = versions.promoted.as_ref() == Some(component);
        let is_barred = |component: &str| versions.history.barred(component).is_some();
        let predecessor = match &accepted.predecessor {
            LoadedPredecessor::Loaded(_, loaded) => Some(&loaded.component.info.digest),
            LoadedPredecessor::Absent | LoadedPredecessor::Unable(..) => None,
        };
        is_barred(component) && !is_promoted || predecessor.is_some_and(|predecessor| is_barred(predecessor))
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut HandlerVersions> {
        self.handlers.get_mut(name)
    }

    /// Takes a history that was read from the disk, and the digest of the component in the plugin directory.
    pub(crate) fn know(&mut self, name: &str, history: VersionHistory, digest: Option<String>) {
        let versions = self.handlers.entry(name.to_owned()).or_insert_with(|| HandlerVersions {
            history,
            ..HandlerVersions::default()
        });
        versions.file_digest = digest.or(versions.file_digest.take());
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.handlers.remove(name);
    }

    /// Numbers a version that was accepted, and returns it with its predecessor.
    pub(crate) fn accept(
        &mut self,
        name: &str,
        accepted: AcceptedVersion,
        fallback_because: Option<&str>,
    ) -> ServedVersions {
        let probation = self.settings.probation;
        let versions = self.handlers.entry(name.to_owned()).or_default();
        versions.accept(accepted, fallback_because, probation)
    }

    /// Notes that the version that was accepted last serves from now on. `None` if it did before.
    pub(crate) fn began(&mut self, name: &str, now_ms: u64) -> Option<BegunVersion> {
        let keep = self.settings.keep;
        let versions = self.handlers.get_mut(name)?;
        let began = versions.began(keep, now_ms)?;
        self.record_soon();
        Some(began)
    }

    /// Returns when the counts are to be recorded.
    pub(crate) fn record_at(&self) -> Option<Instant> {
        self.record_at
    }

    fn record_soon(&mut self) {
        self.record_at.get_or_insert_with(|| Instant::now() + RECORD_EVERY);
    }

    /// Returns the histories whose counts have changed since the last call, and those of these handlers.
    pub(crate) fn counted(&mut self, now: Instant, others: &BTreeSet<String>) -> Vec<(String, VersionHistory)> {
        self.record_at = (!self.handlers.is_empty()).then(|| now + RECORD_EVERY);
        let now_ms = wall_ms();
        let changed = self.handlers.iter_mut().filter_map(|(name, versions)| {
            let history = versions.counted(now_ms, others.contains(name))?;
            Some((name.clone(), history))
        });
        changed.collect()
    }
}

impl HandlerVersions {
    fn accept(&mut self, accepted: AcceptedVersion, fallback_because: Option<&str>, probation: bool) -> ServedVersions {
        let AcceptedVersion {
            loaded,
            digests,
            is_stored,
            predecessor,
            instead_of,
            older,
            file,
        } = accepted;
        let now_ms = wall_ms();
        let is_promoted = self.promoted.as_ref() == Some(&digests.component);
        let again = older.and_then(|older| self.history.accept_again(older, digests.manifest.clone(), now_ms));
        let number = again.unwrap_or_else(|| self.history.accept(digests, &file.to_string_lossy(), now_ms));
        if is_stored {
            self.unstored.remove(&number);
        } else {
            self.unstored.insert(number);
        }
        self.note = None;
        let predecessor = match predecessor {
            LoadedPredecessor::Loaded(predecessor, loaded) if probation && !is_promoted => Some((predecessor, loaded)),
            LoadedPredecessor::Unable(predecessor, why) => {
                self.note = Some(format!(
                    "there is no way back to version {predecessor}, which can't run under the newest manifest: {why}"
                ));
                None
            }
            LoadedPredecessor::Absent | LoadedPredecessor::Loaded(..) => None,
        };
        let instead_because = instead_of.map(|of| {
            let because = format!(
                "version {} is {} ({}), so version {number} serves until another file is dropped or somebody promotes it",
                of.number,
                of.state.as_str(),
                of.reason
            );
            self.note = Some(because.clone());
            because
        });
        let terms = loaded.manifest.rollout;
        let newest = self.version(number, loaded);
        let rollout = predecessor.map(|(predecessor, loaded)| Rollout {
            predecessor: Arc::new(self.version(predecessor, *loaded)),
            terms,
            progress: self.progress_of(number, predecessor),
        });
        self.terms = rollout.as_ref().map(|rollout| rollout.terms);
        self.accepted = Some(AcceptedNumber {
            number,
            predecessor: rollout.as_ref().map(|rollout| rollout.predecessor.number),
            fallback_because: fallback_because.map(str::to_owned),
            instead_because,
            progress: rollout.as_ref().map(|rollout| rollout.progress.clone()),
            has_begun: false,
        });
        ServedVersions {
            newest: Arc::new(newest),
            rollout,
        }
    }

    /// Returns a version that can serve, with the place where it is counted.
    pub(crate) fn version(&mut self, number: u64, loaded: LoadedVersion) -> HandlerVersion {
        let LoadedVersion {
            component,
            manifest,
            policy,
        } = loaded;
        let tally = self.tallies.entry(number).or_insert_with(|| {
            let known = self.history.version(number).map(|version| version.tally.clone());
            Arc::new(Mutex::new(known.unwrap_or_default()))
        });
        HandlerVersion {
            number,
            component,
            manifest,
            policy,
            tally: Arc::clone(tally),
        }
    }

    /// Makes a component that is loaded a version under the newest manifest, which serves without a predecessor. Returns its
    /// number, too; `None` if the older version is not kept.
    pub(crate) fn serve_older(&mut self, older: u64, loaded: LoadedVersion) -> Option<(u64, ServedVersions)> {
        let manifest = self.history.serving()?.digests.manifest.clone();
        let number = self.history.accept_again(older, manifest, wall_ms())?;
        if self.unstored.contains(&older) {
            self.unstored.insert(number);
        }
        self.note = None;
        self.accepted = Some(AcceptedNumber {
            number,
            ..AcceptedNumber::default()
        });
        let version = self.version(number, loaded);
        Some((number, ServedVersions::alone(version)))
    }

    /// Returns the number of the version that was accepted last; 0 if none was.
    pub(crate) fn accepted_number(&self) -> u64 {
        self.accepted.as_ref().map_or(0, |accepted| accepted.number)
    }

    /// Notes that somebody has promoted a version that serves.
    pub(crate) fn promoted(&mut self, number: u64, now_ms: u64) {
        self.progress = None;
        self.history.promote(number, now_ms);
        if let Some(accepted) = &mut self.accepted {
            accepted.has_begun = true;
        }
    }

    /// Returns the calls of a version so far.
    fn record_of(&self, number: u64) -> CallCounts {
        let counts = |tally: &SharedTally| {
            let tally = tally.lock();
            CallCounts {
                calls: tally.calls(),
                breaks: tally.breaks(),
            }
        };
        match (self.tallies.get(&number), self.history.version(number)) {
            (Some(tally), _) => counts(tally),
            (None, Some(version)) => CallCounts {
                calls: version.tally.calls(),
                breaks: version.tally.breaks(),
            },
            (None, None) => CallCounts::default(),
        }
    }

    /// Returns how far the comparison of these versions had come when it was recorded, or its beginning.
    fn progress_of(&self, number: u64, predecessor: u64) -> ProbationProgress {
        self.recorded_progress(number, predecessor)
            .unwrap_or_else(|| ProbationProgress::new(self.record_of(predecessor)))
    }

    fn recorded_progress(&self, number: u64, predecessor: u64) -> Option<ProbationProgress> {
        let serving = self.history.serving().filter(|serving| serving.number == number)?;
        self.history
            .predecessor()
            .filter(|version| version.number == predecessor)?;
        serde_json::from_value(serving.progress.clone()?).ok()
    }

    /// Returns whether a newer version was accepted that does not serve: another handler has its queue.
    pub(crate) fn has_waiting(&self) -> bool {
        self.accepted.as_ref().is_some_and(|accepted| !accepted.has_begun)
    }

    fn began(&mut self, keep: usize, now_ms: u64) -> Option<BegunVersion> {
        let accepted = self.accepted.as_mut().filter(|accepted| !accepted.has_begun)?;
        accepted.has_begun = true;
        let accepted = accepted.clone();
        self.progress = accepted.progress;
        self.history.begin(accepted.number, accepted.predecessor, now_ms);
        self.history.keep(keep);
        let history = &self.history;
        self.tallies.retain(|number, _| history.version(*number).is_some());
        self.unstored.retain(|number| history.version(*number).is_some());
        Some(BegunVersion {
            fallback_because: accepted.fallback_because,
            instead_because: accepted.instead_because,
        })
    }

    /// Takes how the newest version compares.
    pub(crate) fn set_progress(&mut self, number: u64, progress: ProbationProgress) {
        self.history.set_progress(number, serde_json::to_value(&progress).ok());
        self.progress = Some(progress);
    }

    /// Returns the history as the disk is to have it.
    pub(crate) fn recorded(&mut self, now_ms: u64) -> VersionHistory {
        self.history.served_until(now_ms);
        for (number, tally) in &self.tallies {
            self.history.count(*number, &tally.lock());
        }
        self.history.without(&self.unstored, now_ms)
    }

    /// Returns the history as the disk is to have it, if its counts have changed.
    fn counted(&mut self, now_ms: u64, in_any_case: bool) -> Option<VersionHistory> {
        let known = |number: u64, tally: &SharedTally| {
            let version = self.history.version(number)?;
            Some(version.tally.calls() == tally.lock().calls())
        };
        let has_changed = self
            .tallies
            .iter()
            .any(|(number, tally)| known(*number, tally) == Some(false));
        (has_changed || in_any_case).then(|| self.recorded(now_ms))
    }

    /// Returns what the listener may see.
    pub(crate) fn shown(&self) -> (BoardEntry, BTreeMap<u64, SharedTally>) {
        let entry = BoardEntry {
            history: self.history.clone(),
            progress: self.progress.clone(),
            terms: self.terms,
            note: self.note.clone(),
            barred_file: self.barred_file().map(|(number, _)| number),
        };
        (entry, self.tallies.clone())
    }

    /// Returns the number and the digest of the component in the plugin directory, if it may not serve until it is promoted.
    pub(crate) fn barred_file(&self) -> Option<(u64, &str)> {
        let barred = self.history.barred(self.file_digest.as_deref()?)?;
        Some((barred.number, &barred.component))
    }
}
