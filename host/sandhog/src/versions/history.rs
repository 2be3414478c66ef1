//! The history of one handler: its versions, which of them serves, and which components may not.
//!
//! Invariants: numbers rise and are never used again; at most one version serves, and it is among the versions, as its
//! predecessor is; a component that is quarantined or set aside serves only after its promotion; every list has a bound. Pure:
//! the time is passed in, and it may go backwards. Knows nothing of files, and decides nothing about versions by itself.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    record::{BarredComponent, VersionDigests, VersionEvent, VersionEventKind, VersionRecord, VersionState, is_digest},
    tally::VersionTally,
};
use sandhog_queue::printable::{MAX_REASON_BYTES, printable};

/// The most versions that can be kept, and that are read: each takes some KiB in memory and on disk.
pub(crate) const MAX_VERSIONS: usize = 100;
/// The fewest versions that can be kept: the one that serves and its predecessor.
pub(crate) const MIN_VERSIONS: usize = 2;
/// The most events that are kept: some weeks of deploys, and a page for people.
pub(crate) const MAX_EVENTS: usize = 100;
/// The most components that are remembered as quarantined or set aside.
pub(crate) const MAX_BARRED: usize = 100;
/// The longest path of a file that is kept, in bytes: no system has longer ones.
const MAX_PATH_BYTES: usize = 4096;
/// The largest number of a version: the largest that every reader of JSON can tell from its neighbours.
const MAX_NUMBER: u64 = 1 << 53;

/// The history of one handler.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "HistoryText")]
pub struct VersionHistory {
    next_number: u64,
    serving: Option<u64>,
    predecessor: Option<u64>,
    /// The oldest comes first.
    versions: Vec<VersionRecord>,
    barred: Vec<BarredComponent>,
    events: Vec<VersionEvent>,
    /// The served time of the version that serves is counted up to here. `None` as long as nothing serves in this process.
    #[serde(skip)]
    counted_until_ms: Option<u64>,
}

/// The form of a history on disk.
#[derive(Debug, Deserialize)]
struct HistoryText {
    next_number: u64,
    serving: Option<u64>,
    predecessor: Option<u64>,
    versions: Vec<VersionRecord>,
    #[serde(default)]
    barred: Vec<BarredComponent>,
    /// An event that this program does not know is left out.
    #[serde(default)]
    events: Vec<serde_json::Value>,
}

/// A text is not the history of a handler.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a history is damaged: {0}")]
pub struct DamagedHistory(&'static str);

/// The reason why a handler can't be rolled back to a version.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RollbackRefusal {
    /// The history has no such version.
    #[error("there is no version {wanted}: the versions are {known}")]
    Unknown {
        /// The number that was asked for.
        wanted: u64,
        /// The numbers that there are, for people.
        known: String,
    },
    /// The version serves.
    #[error("version {0} serves already: name another version")]
    Serves(u64),
    /// The version has the component of the version that serves, and the newest manifest counts for both.
    #[error(
        "version {0} has the same component as the version that serves: to go back to its manifest, put that into the plugin directory"
    )]
    SameComponent(u64),
    /// The component is quarantined or set aside.
    #[error("version {number} is {state}: promote it if it is to serve all the same ({reason})", state = state.as_str())]
    Barred {
        /// The number of the version.
        number: u64,
        /// Quarantined or set aside.
        state: VersionState,
        /// Why it is, for people.
        reason: String,
    },
    /// There is no version to go back to by default.
    #[error("no other version has served that could serve again: put the file of a good one into the plugin directory")]
    NoOther,
}

impl VersionHistory {
    /// Returns the history of a handler of which no more is known than what served last, and since when at the latest.
    pub fn of_last_served(digests: VersionDigests, at_ms: u64) -> Self {
        let mut history = Self::default();
        let number = history.accept(digests, "", at_ms);
        history.begin(number, None, at_ms);
        history.counted_until_ms = None;
        history
    }

    /// Returns the number that the next version gets.
    pub fn next_number(&self) -> u64 {
        self.next_number
    }

    /// Returns the version that new deliveries run on, on probation or not. Right after the history was read, it is the one that
    /// served when it was written.
    pub fn serving(&self) -> Option<&VersionRecord> {
        self.version(self.serving?)
    }

    /// Returns the version that the host can go back to.
    pub fn predecessor(&self) -> Option<&VersionRecord> {
        self.version(self.predecessor?)
    }

    /// Returns all versions that are kept, the oldest first; at most one more than `MAX_VERSIONS`.
    pub fn versions(&self) -> &[VersionRecord] {
        &self.versions
    }

    /// Returns one version, if it is kept.
    pub fn version(&self, number: u64) -> Option<&VersionRecord> {
        self.versions.iter().find(|version| version.number == number)
    }

    /// Returns the last events, the oldest first; at most `MAX_EVENTS`.
    pub fn events(&self) -> &[VersionEvent] {
        &self.events
    }

    /// Returns why a component may not serve, if it may not. Its versions need not be kept any more.
    pub fn barred(&self, component: &str) -> Option<&BarredComponent> {
        self.barred.iter().find(|barred| barred.component == component)
    }

    /// Returns the components that may not serve, the oldest first; at most `MAX_BARRED`.
    pub fn all_barred(&self) -> &[BarredComponent] {
        &self.barred
    }

    /// Accepts files of the plugin directory, and returns the number of their version. The same files are the same version. A
    /// component that was set aside may come back once another one was accepted.
    ///
    /// The version waits to serve, in place of another one that waits; but one that serves goes on, and one whose component is
    /// quarantined or set aside stays so.
    pub fn accept(&mut self, digests: VersionDigests, file: &str, now_ms: u64) -> u64 {
        let ended =
            |barred: &BarredComponent| barred.state == VersionState::SetAside && barred.component != digests.component;
        let ended: Vec<String> = self
            .barred
            .iter()
            .filter(|barred| ended(barred))
            .map(|barred| barred.component.clone())
            .collect();
        for component in ended {
            self.unbar(&component);
        }
        self.add(digests, file, None, now_ms)
    }

    /// Accepts the component of an older version under another manifest, and returns the number of that version; `None` if the
    /// older one is not kept. Everything else is as with [`VersionHistory::accept`], except that what is set aside stays so.
    pub fn accept_again(&mut self, older: u64, manifest: Option<String>, now_ms: u64) -> Option<u64> {
        let older = self.version(older)?;
        let digests = VersionDigests {
            component: older.digests.component.clone(),
            manifest,
        };
        let origin = older.rollback_of.unwrap_or(older.number);
        let file = older.file.clone();
        Some(self.add(digests, &file, Some(origin), now_ms))
    }

    fn add(&mut self, digests: VersionDigests, file: &str, rollback_of: Option<u64>, now_ms: u64) -> u64 {
        let file = printable(file, MAX_PATH_BYTES);
        let same = self.versions.iter_mut().find(|version| version.digests == digests);
        let (number, waits) = if let Some(version) = same {
            version.file = file;
            let waits = version.state == VersionState::Retired;
            if waits {
                version.state = VersionState::Accepted;
            }
            (version.number, waits)
        } else {
            let number = self.next_number;
            self.next_number = number.saturating_add(1);
            let barred = self.barred(&digests.component);
            let state = barred.map_or(VersionState::Accepted, |barred| barred.state);
            let reason = barred.map(|barred| barred.reason.clone());
            self.versions.push(VersionRecord {
                number,
                digests,
                file,
                accepted_at_ms: now_ms,
                state,
                reason,
                served_ms: 0,
                last_served_at_ms: None,
                is_proven: false,
                rollback_of,
                tally: VersionTally::default(),
                progress: None,
            });
            (number, state == VersionState::Accepted)
        };
        for other in self.versions.iter_mut().filter(|other| other.number != number) {
            if other.state == VersionState::Accepted {
                other.state = VersionState::Retired;
            }
        }
        if waits {
            self.note(Some(number), VersionEventKind::Accepted, None, now_ms);
        }
        self.keep(MAX_VERSIONS);
        number
    }

    /// Makes a version serve, and returns whether it does: not if it is not kept, or its component is barred.
    ///
    /// The version is on probation if it has a predecessor: a version that is kept, with another component that is not barred. A
    /// version that serves already goes on as it was, as after a restart; without a predecessor, its probation is over.
    pub fn begin(&mut self, number: u64, predecessor: Option<u64>, now_ms: u64) -> bool {
        let Some(version) = self.version(number) else {
            return false;
        };
        let component = version.digests.component.clone();
        let old_state = version.state;
        if self.barred(&component).is_some() {
            return false;
        }
        let predecessor = predecessor.filter(|predecessor| {
            self.version(*predecessor).is_some_and(|version| {
                version.digests.component != component && self.barred(&version.digests.component).is_none()
            })
        });
        let is_same = self.serving == Some(number);
        let progress = self.version(number).and_then(|version| version.progress.clone());
        let progress = progress.filter(|_| is_same && predecessor == self.predecessor);
        let state = match predecessor {
            Some(_) if !is_same || old_state == VersionState::Probation => VersionState::Probation,
            Some(_) | None => VersionState::Serving,
        };
        self.serve(number, state, predecessor, now_ms);
        self.set_progress(number, progress);
        true
    }

    /// The version on probation has proven itself. Its predecessor is kept. Returns whether this version is on probation.
    pub fn proven(&mut self, number: u64, now_ms: u64) -> bool {
        let version = self.version_mut(number);
        let Some(version) = version.filter(|version| version.state == VersionState::Probation) else {
            return false;
        };
        version.state = VersionState::Serving;
        version.is_proven = true;
        self.note(Some(number), VersionEventKind::Proven, None, now_ms);
        true
    }

    /// The host goes back from the version that serves to `to`: the component is quarantined. Returns whether it could: not if
    /// `number` does not serve, or `to` is not kept, or has the same component or a barred one.
    pub fn went_back(&mut self, number: u64, to: u64, why: &str, now_ms: u64) -> bool {
        let left = self.left(number, VersionState::Quarantined, why);
        left.is_some_and(|left| self.leave(left, to, VersionEventKind::Quarantined, now_ms))
    }

    /// Somebody rolls back from the version that serves to `to`: the component is set aside. Returns whether it could, as
    /// [`VersionHistory::went_back`] does.
    pub fn rolled_back(&mut self, number: u64, to: u64, why: &str, now_ms: u64) -> bool {
        let left = self.left(number, VersionState::SetAside, why);
        left.is_some_and(|left| self.leave(left, to, VersionEventKind::RolledBack, now_ms))
    }

    fn left(&self, number: u64, state: VersionState, why: &str) -> Option<BarredComponent> {
        let version = self.serving().filter(|version| version.number == number)?;
        Some(BarredComponent {
            component: version.digests.component.clone(),
            number,
            state,
            reason: printable(why, MAX_REASON_BYTES),
        })
    }

    fn leave(&mut self, left: BarredComponent, to: u64, what: VersionEventKind, now_ms: u64) -> bool {
        let can_serve = self
            .version(to)
            .is_some_and(|to| to.digests.component != left.component && self.barred(&to.digests.component).is_none());
        if !can_serve {
            return false;
        }
        self.served_until(now_ms);
        self.note(Some(left.number), what, Some(&left.reason), now_ms);
        for version in &mut self.versions {
            if version.digests.component == left.component {
                version.state = left.state;
                version.is_proven = false;
                version.reason = Some(left.reason.clone());
                version.progress = None;
            }
        }
        self.barred.push(left);
        while self.barred.len() > MAX_BARRED {
            let oldest = self.barred.first().map(|barred| barred.component.clone());
            self.unbar(&oldest.unwrap_or_default());
        }
        self.serve(to, VersionState::Serving, None, now_ms);
        true
    }

    /// Makes a version serve without probation, also if its component was barred, and returns whether it does: not if it is not
    /// kept.
    pub fn promote(&mut self, number: u64, now_ms: u64) -> bool {
        let Some(version) = self.version(number) else {
            return false;
        };
        let component = version.digests.component.clone();
        self.unbar(&component);
        self.note(Some(number), VersionEventKind::Promoted, None, now_ms);
        self.serve(number, VersionState::Serving, None, now_ms);
        true
    }

    /// No version serves that a restart could go on with: the one that serves could not be stored, and the one before it may have
    /// grants that were taken away.
    pub fn nothing_serves(&mut self, now_ms: u64) {
        self.served_until(now_ms);
        if let Some(number) = self.serving {
            self.retire(number);
        }
        self.serving = None;
        self.predecessor = None;
        self.counted_until_ms = None;
    }

    /// Adds the time since the last call to the served time of the version that serves. To be called before the history is written.
    pub fn served_until(&mut self, now_ms: u64) {
        let (Some(number), Some(since)) = (self.serving, self.counted_until_ms) else {
            return;
        };
        self.counted_until_ms = Some(now_ms);
        if let Some(version) = self.version_mut(number) {
            // The clock may have gone backwards.
            let served_ms = version.served_ms.saturating_add(now_ms.saturating_sub(since));
            version.served_ms = served_ms;
            version.last_served_at_ms = Some(now_ms);
        }
    }

    /// Takes what was counted of a version so far. What is counted of a version that is not kept any more is lost.
    pub fn count(&mut self, number: u64, tally: &VersionTally) {
        if let Some(version) = self.version_mut(number) {
            version.tally = tally.clone();
        }
    }

    /// Lets a component serve again that was quarantined or set aside.
    pub fn clear(&mut self, component: &str) {
        self.unbar(component);
    }

    /// Returns the history without versions whose files are not kept. If one of them serves, nothing does: the one before it may
    /// have grants that were taken away.
    #[must_use]
    pub fn without(&self, unstored: &BTreeSet<u64>, now_ms: u64) -> Self {
        let mut kept = self.clone();
        if kept.serving.is_some_and(|serving| unstored.contains(&serving)) {
            kept.nothing_serves(now_ms);
        }
        kept.predecessor = kept.predecessor.filter(|predecessor| !unstored.contains(predecessor));
        kept.versions.retain(|version| !unstored.contains(&version.number));
        kept
    }

    /// Keeps how far the probation of a version is.
    pub fn set_progress(&mut self, number: u64, progress: Option<serde_json::Value>) {
        if let Some(version) = self.version_mut(number) {
            version.progress = progress;
        }
    }

    /// Adds an event, and drops the oldest beyond `MAX_EVENTS`.
    pub fn note(&mut self, number: Option<u64>, what: VersionEventKind, why: Option<&str>, now_ms: u64) {
        self.events.push(VersionEvent {
            at_ms: now_ms,
            number,
            what,
            why: why.map(|why| printable(why, MAX_REASON_BYTES)),
        });
        let excess = self.events.len().saturating_sub(MAX_EVENTS);
        self.events.drain(..excess);
    }

    /// Returns the version to roll back to: `wanted`, or the predecessor, or else the version that served most recently of those
    /// that have proven themselves, with another component that is not barred.
    ///
    /// # Errors
    ///
    /// See [`RollbackRefusal`]. Its text says what to do.
    pub fn rollback_target(&self, wanted: Option<u64>) -> Result<u64, RollbackRefusal> {
        if let Some(wanted) = wanted {
            return self.wanted_target(wanted);
        }
        let serving = self.serving().map(|version| &version.digests.component);
        let can_serve = |version: &&VersionRecord| {
            let component = &version.digests.component;
            Some(component) != serving && self.barred(component).is_none()
        };
        let latest = |version: &&VersionRecord| (version.last_served_at_ms, version.number);
        let proven = self
            .versions
            .iter()
            .filter(|version| version.is_proven)
            .filter(can_serve);
        let target = self
            .predecessor()
            .filter(can_serve)
            .or_else(|| proven.max_by_key(latest));
        target.map(|version| version.number).ok_or(RollbackRefusal::NoOther)
    }

    fn wanted_target(&self, wanted: u64) -> Result<u64, RollbackRefusal> {
        let Some(version) = self.version(wanted) else {
            let known: Vec<String> = self.versions.iter().map(|version| version.number.to_string()).collect();
            let known = if known.is_empty() {
                "none yet".to_owned()
            } else {
                known.join(", ")
            };
            return Err(RollbackRefusal::Unknown { wanted, known });
        };
        if self.serving == Some(wanted) {
            return Err(RollbackRefusal::Serves(wanted));
        }
        if let Some(barred) = self.barred(&version.digests.component) {
            return Err(RollbackRefusal::Barred {
                number: wanted,
                state: barred.state,
                reason: barred.reason.clone(),
            });
        }
        let serving = self.serving().map(|version| &version.digests.component);
        if serving == Some(&version.digests.component) {
            return Err(RollbackRefusal::SameComponent(wanted));
        }
        Ok(wanted)
    }

    /// Drops the oldest versions beyond `versions` (`MIN_VERSIONS` to `MAX_VERSIONS`), but never the one that serves, nor its
    /// predecessor. One that waits to serve stays, and does not count. What is barred stays barred.
    pub fn keep(&mut self, versions: usize) {
        let versions = versions.clamp(MIN_VERSIONS, MAX_VERSIONS);
        let waits = |version: &VersionRecord| version.state == VersionState::Accepted;
        let needed = [self.serving, self.predecessor];
        while self.versions.iter().filter(|version| !waits(version)).count() > versions {
            let is_spare = |version: &VersionRecord| !waits(version) && !needed.contains(&Some(version.number));
            let Some(oldest) = self.versions.iter().position(is_spare) else {
                return;
            };
            self.versions.remove(oldest);
        }
    }

    /// Gives new deliveries to a version that is kept and not barred.
    fn serve(&mut self, number: u64, state: VersionState, predecessor: Option<u64>, now_ms: u64) {
        self.served_until(now_ms);
        let before = self.serving.replace(number);
        if let Some(before) = before.filter(|before| *before != number) {
            self.retire(before);
        }
        self.predecessor = predecessor;
        self.counted_until_ms = Some(now_ms);
        if let Some(version) = self.version_mut(number) {
            version.state = state;
            version.is_proven |= state == VersionState::Serving;
            version.reason = None;
            version.progress = None;
            version.last_served_at_ms = Some(now_ms);
        }
        if before != Some(number) {
            self.note(Some(number), VersionEventKind::Began, None, now_ms);
        }
    }

    fn retire(&mut self, number: u64) {
        if let Some(version) = self.version_mut(number).filter(|version| version.state.serves()) {
            version.state = VersionState::Retired;
            version.progress = None;
        }
    }

    fn unbar(&mut self, component: &str) {
        self.barred.retain(|barred| barred.component != component);
        for version in &mut self.versions {
            if version.digests.component == component && version.state.is_barred() {
                version.state = VersionState::Retired;
                version.reason = None;
            }
        }
    }

    fn version_mut(&mut self, number: u64) -> Option<&mut VersionRecord> {
        self.versions.iter_mut().find(|version| version.number == number)
    }

    /// Checks what all the rest relies on.
    fn check(&self) -> Result<(), DamagedHistory> {
        let numbers: Vec<u64> = self.versions.iter().map(|version| version.number).collect();
        let rise = numbers.is_sorted_by(|one, next| one < next);
        let are_given = numbers.iter().all(|number| (1..self.next_number).contains(number));
        if !rise || !are_given || !(1..=MAX_NUMBER).contains(&self.next_number) {
            return Err(DamagedHistory("the numbers of its versions do not rise"));
        }
        let are_digests = self.versions.iter().all(|version| version.digests.are_digests());
        if !are_digests || !self.barred.iter().all(|barred| is_digest(&barred.component)) {
            return Err(DamagedHistory("a digest is none"));
        }
        let waits = |version: &&VersionRecord| version.state == VersionState::Accepted;
        let waiting = self.versions.iter().filter(waits).count();
        if waiting > 1 || self.versions.len() > MAX_VERSIONS + 1 || self.barred.len() > MAX_BARRED {
            return Err(DamagedHistory("it has too many versions"));
        }
        let serving: Vec<u64> = self
            .versions
            .iter()
            .filter(|version| version.state.serves())
            .map(|version| version.number)
            .collect();
        let has_predecessor = self.predecessor.is_none() || self.predecessor().is_some();
        if serving != Vec::from_iter(self.serving) || !has_predecessor {
            return Err(DamagedHistory("it is not clear what serves"));
        }
        let predecessor = self.predecessor().map(|version| &version.digests.component);
        let component = self.serving().map(|version| &version.digests.component);
        if predecessor.is_some() && (component.is_none() || component == predecessor) {
            return Err(DamagedHistory("the predecessor is none"));
        }
        let is_listed = |version: &VersionRecord| {
            let state = self.barred(&version.digests.component).map(|barred| barred.state);
            state == Some(version.state).filter(|state| state.is_barred())
        };
        if !self.versions.iter().all(is_listed) || self.barred.iter().any(|barred| !barred.state.is_barred()) {
            return Err(DamagedHistory("it is not clear what may serve"));
        }
        Ok(())
    }
}

impl Default for VersionHistory {
    fn default() -> Self {
        Self {
            next_number: 1,
            serving: None,
            predecessor: None,
            versions: Vec::new(),
            barred: Vec::new(),
            events: Vec::new(),
            counted_until_ms: None,
        }
    }
}

impl TryFrom<HistoryText> for VersionHistory {
    type Error = DamagedHistory;

    fn try_from(text: HistoryText) -> Result<Self, DamagedHistory> {
        let known = text
            .events
            .into_iter()
            .filter_map(|event| serde_json::from_value(event).ok());
        let mut events: Vec<VersionEvent> = known.collect();
        let excess = events.len().saturating_sub(MAX_EVENTS);
        events.drain(..excess);
        let history = Self {
            next_number: text.next_number,
            serving: text.serving,
            predecessor: text.predecessor,
            versions: text.versions,
            barred: text.barred,
            events,
            counted_until_ms: None,
        };
        history.check()?;
        Ok(history)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*};
    use serde_json::json;

    use super::*;

    fn digests(component: u8, manifest: Option<u8>) -> VersionDigests {
        VersionDigests {
            component: format!("{component:064x}"),
            manifest: manifest.map(|manifest| format!("{:064x}", u32::from(manifest) + 4096)),
        }
    }

    fn accept(history: &mut VersionHistory, component: u8, now_ms: u64) -> u64 {
        history.accept(digests(component, None), "orders.wasm", now_ms)
    }

    /// Deploys components one after another, each with the one before it as its predecessor.
    fn deployed(components: impl IntoIterator<Item = u8>) -> VersionHistory {
        let mut history = VersionHistory::default();
        for component in components {
            let predecessor = history.serving;
            let now_ms = 1000 * u64::from(component);
            let number = accept(&mut history, component, now_ms);
            assert!(history.begin(number, predecessor, now_ms));
        }
        history
    }

    fn states(history: &VersionHistory) -> String {
        let state = |version: &VersionRecord| format!("{} {}", version.number, version.state.as_str());
        history.versions().iter().map(state).collect::<Vec<_>>().join(", ")
    }

    fn events(history: &VersionHistory) -> String {
        let event = |event: &VersionEvent| {
            let number = event.number.map(|number| format!("{number} ")).unwrap_or_default();
            format!("{number}{}", event.what.as_str())
        };
        history.events().iter().map(event).collect::<Vec<_>>().join(", ")
    }

    fn text(history: &VersionHistory) -> serde_json::Value {
        serde_json::to_value(history).unwrap()
    }

    fn read_back(history: &VersionHistory) -> VersionHistory {
        serde_json::from_value(text(history)).unwrap()
    }

    #[test]
    fn a_version_proves_itself_against_the_one_before_it() {
        let mut history = deployed([1]);
        assert_eq!(states(&history), "1 serving");
        let number = accept(&mut history, 2, 2000);
        assert_eq!(states(&history), "1 serving, 2 accepted");
        assert!(!history.proven(number, 2000));
        assert!(history.begin(number, Some(1), 3000));
        assert_eq!(states(&history), "1 retired, 2 probation");
        assert_eq!(history.predecessor().unwrap().number, 1);
        assert!(history.proven(number, 4000));
        assert!(!history.proven(number, 4000));
        assert_eq!(states(&history), "1 retired, 2 serving");
        assert_eq!(history.predecessor().unwrap().number, 1);
        assert_eq!(events(&history), "1 accepted, 1 began, 2 accepted, 2 began, 2 proven");
    }

    #[test]
    fn the_same_files_are_the_same_version() {
        let mut history = deployed([1]);
        assert_eq!(accept(&mut history, 1, 2), 1);
        assert_eq!(states(&history), "1 serving");
        let other = history.accept(digests(1, Some(1)), "orders.wasm", 2);
        assert_eq!(other, 2);
        assert!(history.begin(other, Some(1), 3));
        // The same component is nothing to compare with.
        assert_eq!(
            (states(&history).as_str(), history.predecessor()),
            ("1 retired, 2 serving", None)
        );
        assert_eq!(history.accept(digests(1, None), "elsewhere.wasm", 4), 1);
        assert_eq!(states(&history), "1 accepted, 2 serving");
        assert_eq!(history.version(1).unwrap().file, "elsewhere.wasm");
        // Only the newest waits.
        assert_eq!(accept(&mut history, 9, 5), 3);
        assert_eq!(states(&history), "1 retired, 2 serving, 3 accepted");
    }

    #[test]
    fn a_component_that_the_host_went_back_from_serves_only_after_its_promotion() {
        let mut history = deployed([1, 2]);
        assert!(history.went_back(2, 1, "it broke 7 of 7 calls\u{1b}", 5000));
        assert_eq!(states(&history), "1 serving, 2 quarantined");
        let barred = history.barred(&digests(2, None).component).unwrap();
        assert_eq!((barred.number, barred.state), (2, VersionState::Quarantined));
        assert_eq!(barred.reason, "it broke 7 of 7 calls\\u{1b}");
        let again = history.accept(digests(2, Some(1)), "orders.wasm", 6000);
        assert_eq!(states(&history), "1 serving, 2 quarantined, 3 quarantined");
        assert!(!history.begin(again, Some(1), 6000) && !history.begin(2, None, 6000));
        assert!(!history.went_back(1, again, "never to a barred one", 6000));
        let mut history = read_back(&history);
        assert!(!history.begin(again, Some(1), 6000));
        assert!(!history.promote(77, 7000));
        assert!(history.promote(again, 7000));
        assert_eq!(states(&history), "1 retired, 2 retired, 3 serving");
        assert_eq!(
            (history.predecessor(), history.barred(&digests(2, None).component)),
            (None, None)
        );
        assert_eq!(history.version(2).unwrap().reason, None);
    }

    #[test]
    fn what_was_set_aside_by_hand_may_come_back_after_another_file() {
        let mut history = deployed([1, 2, 3]);
        assert!(!history.rolled_back(2, 1, "2 does not serve", 9));
        let again = history.accept_again(2, digests(3, Some(7)).manifest, 9).unwrap();
        assert_eq!(history.version(again).unwrap().rollback_of, Some(2));
        assert_eq!(
            history.version(again).unwrap().digests.component,
            digests(2, None).component
        );
        assert!(history.rolled_back(3, again, "by hand", 9));
        assert_eq!(states(&history), "1 retired, 2 retired, 3 set-aside, 4 serving");
        // The file that was set aside still lies in the plugin directory; a new manifest beside it does not bring it back.
        let newer = history.accept_again(again, digests(3, Some(8)).manifest, 10).unwrap();
        assert_eq!(history.version(newer).unwrap().rollback_of, Some(2));
        assert!(history.barred(&digests(3, None).component).is_some());
        assert_eq!(accept(&mut history, 3, 10), 3);
        assert!(!history.begin(3, Some(again), 10));
        accept(&mut history, 9, 11);
        assert!(history.barred(&digests(3, None).component).is_none());
        assert_eq!(accept(&mut history, 3, 12), 3);
        assert!(history.begin(3, Some(again), 12));
        assert_eq!(
            events(&history)
                .split(", ")
                .filter(|event| *event == "3 rolled-back")
                .count(),
            1
        );
    }

    #[test]
    fn another_file_does_not_bring_back_what_is_quarantined() {
        let mut history = deployed([1, 2]);
        assert!(history.went_back(2, 1, "worse", 9));
        accept(&mut history, 3, 10);
        assert!(history.barred(&digests(2, None).component).is_some());
    }

    #[test]
    fn a_restart_goes_on_with_the_same_probation() {
        let mut history = deployed([1, 2]);
        history.set_progress(2, Some(json!({ "calls": 5 })));
        let mut history = read_back(&history);
        let before = history.events().len();
        assert!(history.begin(2, Some(1), 9000));
        assert_eq!(states(&history), "1 retired, 2 probation");
        assert_eq!(history.serving().unwrap().progress, Some(json!({ "calls": 5 })));
        assert_eq!(history.events().len(), before);
        history.proven(2, 9000);
        assert!(history.begin(2, Some(1), 9000));
        assert_eq!(states(&history), "1 retired, 2 serving");
        // A predecessor that does not pass any more ends a probation.
        let mut history = deployed([1, 2]);
        history.set_progress(2, Some(json!({ "calls": 5 })));
        assert!(history.begin(2, None, 9000));
        assert_eq!(states(&history), "1 retired, 2 serving");
        assert_eq!(history.serving().unwrap().progress, None);
    }

    #[test]
    fn served_time_adds_up_without_the_times_in_which_the_host_was_down() {
        let mut history = deployed([1]);
        history.served_until(4000);
        assert_eq!(history.serving().unwrap().served_ms, 3000);
        let mut history = read_back(&history);
        history.served_until(90_000);
        assert!(history.begin(1, None, 100_000));
        assert_eq!(history.serving().unwrap().served_ms, 3000);
        let number = accept(&mut history, 2, 101_000);
        assert!(history.begin(number, Some(1), 102_000));
        let old = history.version(1).unwrap();
        assert_eq!((old.served_ms, old.last_served_at_ms), (5000, Some(102_000)));
    }

    #[test]
    fn a_clock_that_goes_backwards_adds_nothing() {
        let mut history = deployed([1]);
        history.served_until(0);
        history.served_until(500);
        assert_eq!(history.serving().unwrap().served_ms, 500);
        history.served_until(u64::MAX);
        history.served_until(0);
        history.served_until(u64::MAX);
        assert_eq!(history.serving().unwrap().served_ms, u64::MAX);
    }

    /// The version before could be one that had broken every call.
    #[test]
    fn without_a_number_a_rollback_goes_to_no_version_that_was_never_proven_or_was_rolled_back_from() {
        let mut history = deployed([1, 2]);
        assert!(history.rolled_back(2, 1, "by hand", 9000));
        // Another file ends what was set aside.
        let third = accept(&mut history, 3, 9100);
        history.begin(third, Some(1), 9100);
        history.proven(third, 9200);
        history.promote(third, 9300);
        assert_eq!(history.rollback_target(None), Ok(1));
        assert!(history.rolled_back(third, 1, "by hand", 9400));
        assert!(history.rollback_target(None).is_err());
        assert_eq!(history.rollback_target(Some(2)), Ok(2));
    }

    #[test]
    fn a_rollback_goes_to_what_served_before_and_says_what_to_do_where_it_can_not() {
        let history = VersionHistory::default();
        let refused = |history: &VersionHistory, wanted| history.rollback_target(wanted).unwrap_err().to_string();
        assert!(refused(&history, None).contains("put the file of a good one"));
        assert!(refused(&history, Some(1)).contains("the versions are none yet"));
        let mut history = deployed([1, 2, 3]);
        accept(&mut history, 4, 9000);
        assert_eq!(history.rollback_target(None), Ok(2));
        assert_eq!(history.rollback_target(Some(1)), Ok(1));
        assert_eq!(history.rollback_target(Some(4)), Ok(4));
        assert!(refused(&history, Some(7)).contains("the versions are 1, 2, 3, 4"));
        assert!(refused(&history, Some(3)).contains("serves already"));
        let same = history.accept(digests(3, Some(1)), "orders.wasm", 9000);
        assert!(refused(&history, Some(same)).contains("the same component"));
        assert!(history.rolled_back(3, 2, "by hand", 9000));
        // A second rollback goes further back, and not forth again.
        assert_eq!(history.rollback_target(None), Ok(1));
        let barred = refused(&history, Some(3));
        assert!(
            barred.contains("set-aside: promote it") && barred.contains("by hand"),
            "{barred}"
        );
        assert!(history.rolled_back(2, 1, "by hand", 9000));
        assert!(history.rollback_target(None).is_err());
        // What the host itself would go back to comes before what served after it.
        let mut history = deployed([1, 2]);
        accept(&mut history, 3, 9000);
        assert!(history.begin(3, Some(1), 9000));
        assert_eq!(history.rollback_target(None), Ok(1));
        // An old file that was put back goes back to what it replaced.
        let mut history = deployed([1, 2, 3]);
        assert!(history.begin(1, Some(3), 9000));
        assert_eq!(history.rollback_target(None), Ok(3));
        history.promote(2, 9500);
        assert_eq!(history.rollback_target(None), Ok(1));
    }

    #[test]
    fn a_version_that_can_not_be_stored_leaves_nothing_that_serves() {
        let mut history = deployed([1, 2]);
        history.nothing_serves(9000);
        assert_eq!(states(&history), "1 retired, 2 retired");
        assert!(history.serving().is_none() && history.predecessor().is_none());
        assert_eq!(history.version(2).unwrap().served_ms, 7000);
        assert!(read_back(&history).begin(2, Some(1), 9000));
    }

    #[test]
    fn each_version_has_its_own_count() {
        let mut history = deployed([1, 2]);
        let mut tally = VersionTally::default();
        tally.add_messages("success", 3);
        history.count(1, &tally);
        tally.add_messages("success", 3);
        history.count(1, &tally);
        history.count(77, &tally);
        let history = read_back(&history);
        assert_eq!(history.version(1).unwrap().tally.outcomes()["success"].messages, 6);
        assert_eq!(history.version(2).unwrap().tally, VersionTally::default());
    }

    #[test]
    fn a_history_without_what_is_not_stored_falls_back_on_nothing_older() {
        let history = deployed([1, 2, 3]);
        let without = |number| history.without(&BTreeSet::from([number]), 9000);
        assert_eq!(states(&without(1)), "2 retired, 3 probation");
        assert_eq!(without(1).predecessor().unwrap().number, 2);
        assert_eq!(
            (states(&without(2)).as_str(), without(2).predecessor()),
            ("1 retired, 3 probation", None)
        );
        let nothing = read_back(&without(3));
        assert_eq!(
            (states(&nothing).as_str(), nothing.next_number()),
            ("1 retired, 2 retired", 4)
        );
        assert!(nothing.serving().is_none());
    }

    #[test]
    fn a_component_that_was_cleared_may_serve_again() {
        let mut history = deployed([1, 2]);
        assert!(history.went_back(2, 1, "worse", 9000));
        history.clear(&digests(2, None).component);
        assert_eq!(states(&history), "1 serving, 2 retired");
        assert!(history.begin(2, Some(1), 9000));
    }

    #[test]
    fn the_oldest_versions_go_and_what_is_quarantined_stays_known() {
        let mut history = VersionHistory::default();
        for component in 0..250_u8 {
            let predecessor = history.serving;
            let number = accept(&mut history, component, 1);
            assert!(history.begin(number, predecessor, 1));
            if component % 2 == 1 {
                assert!(history.went_back(number, number - 1, "worse", 1));
            }
        }
        // Nothing waits to serve any more, and nobody has dropped the version in its place yet.
        assert_eq!(
            (history.versions().len(), history.events().len()),
            (MAX_VERSIONS + 1, MAX_EVENTS)
        );
        let mut history = read_back(&history);
        assert_eq!(history.barred.len(), MAX_BARRED);
        history.keep(0);
        assert_eq!(states(&history), "249 serving, 250 quarantined");
        assert!(history.barred(&digests(53, None).component).is_some());
        assert!(history.barred(&digests(49, None).component).is_none());
        let again = accept(&mut history, 53, 1);
        assert_eq!(history.version(again).unwrap().state, VersionState::Quarantined);
        assert!(serde_json::to_vec(&history).unwrap().len() < 100_000);
    }

    #[test]
    fn an_old_version_that_waits_to_serve_again_is_not_dropped() {
        let mut history = deployed([1, 2, 3, 4]);
        assert_eq!(accept(&mut history, 1, 9000), 1);
        history.keep(2);
        assert_eq!(states(&history), "1 accepted, 3 retired, 4 probation");
    }

    #[test]
    fn a_damaged_history_is_refused() {
        let mut history = deployed([1, 2, 3]);
        assert!(history.went_back(3, 2, "worse", 9));
        let good = text(&history);
        let read = |text: serde_json::Value| serde_json::from_value::<VersionHistory>(text);
        let with = |pointer: &str, value: serde_json::Value| {
            let mut text = good.clone();
            *text.pointer_mut(pointer).unwrap() = value;
            text
        };
        assert!(read(good.clone()).is_ok());
        for (pointer, value) in [
            ("/next_number", json!(3)),
            ("/next_number", json!(u64::MAX)),
            ("/next_number", json!(-1)),
            ("/serving", json!(7)),
            ("/serving", json!(1)),
            ("/serving", json!(null)),
            ("/predecessor", json!(7)),
            ("/predecessor", json!(2)),
            ("/versions/0/number", json!(0)),
            ("/versions/0/number", json!(2)),
            ("/versions/0/component", json!("../../etc/passwd")),
            ("/versions/0/component", json!("A".repeat(64))),
            ("/versions/0/manifest", json!("")),
            ("/versions/0/state", json!("serving")),
            ("/versions/0/state", json!("quarantined")),
            ("/versions/0/state", json!("another")),
            ("/versions/2/state", json!("retired")),
            ("/versions/0/tally", json!({ "times": [[1, 0]] })),
            ("/versions/0/served_ms", json!(-5)),
            ("/barred/0/component", json!("/")),
            ("/barred/0/state", json!("serving")),
            ("/barred", json!([])),
            ("/versions", json!([])),
        ] {
            assert!(read(with(pointer, value.clone())).is_err(), "{pointer} {value}");
        }
    }

    #[test]
    fn what_a_later_program_adds_is_left_out() {
        let mut later = text(&deployed([1]));
        later["later"] = json!(1);
        later["versions"][0]["later"] = json!({ "x": [1] });
        later["versions"][0]["tally"]["later"] = json!(1);
        let event = later["events"][0].clone();
        let mut unknown = event.clone();
        unknown["what"] = json!("celebrated");
        later["events"] = json!(
            std::iter::once(unknown)
                .chain(std::iter::repeat_n(event, 500))
                .collect::<Vec<_>>()
        );
        let history: VersionHistory = serde_json::from_value(later).unwrap();
        assert_eq!(
            (states(&history).as_str(), history.events().len()),
            ("1 serving", MAX_EVENTS)
        );
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Accept(u8, Option<u8>),
        AcceptAgain(u64, Option<u8>),
        Begin(u64, Option<u64>),
        Proven(u64),
        WentBack(u64),
        RolledBack(Option<u64>),
        Promote(u64),
        NothingServes,
        Clear(u8),
        Without(u64),
        ServedUntil,
        Restart,
    }

    fn step() -> impl Strategy<Value = Step> {
        let number = || 1..20_u64;
        prop_oneof![
            4 => (0..6_u8, option::of(0..3_u8)).prop_map(|(component, manifest)| Step::Accept(component, manifest)),
            1 => (number(), option::of(0..3_u8)).prop_map(|(older, manifest)| Step::AcceptAgain(older, manifest)),
            6 => (number(), option::of(number())).prop_map(|(number, before)| Step::Begin(number, before)),
            1 => number().prop_map(Step::Proven),
            2 => number().prop_map(Step::WentBack),
            2 => option::of(number()).prop_map(Step::RolledBack),
            1 => number().prop_map(Step::Promote),
            1 => Just(Step::NothingServes),
            1 => (0..6_u8).prop_map(Step::Clear),
            1 => number().prop_map(Step::Without),
            1 => Just(Step::ServedUntil),
            1 => Just(Step::Restart),
        ]
    }

    fn take(history: &mut VersionHistory, step: &Step, now_ms: u64) {
        let serving = history.serving.unwrap_or(1);
        match *step {
            Step::Accept(component, manifest) => drop(history.accept(digests(component, manifest), "x.wasm", now_ms)),
            Step::AcceptAgain(older, manifest) => {
                history.accept_again(older, digests(0, manifest).manifest, now_ms);
            }
            Step::Begin(number, predecessor) => drop(history.begin(number, predecessor, now_ms)),
            Step::Proven(number) => drop(history.proven(number, now_ms)),
            Step::WentBack(to) => drop(history.went_back(serving, to, "worse", now_ms)),
            Step::RolledBack(wanted) => {
                if let Ok(to) = history.rollback_target(wanted) {
                    let has_serving = history.serving.is_some();
                    assert_eq!(history.rolled_back(serving, to, "by hand", now_ms), has_serving);
                }
            }
            Step::Promote(number) => drop(history.promote(number, now_ms)),
            Step::Clear(component) => history.clear(&digests(component, None).component),
            Step::Without(number) => *history = history.without(&BTreeSet::from([number]), now_ms),
            Step::NothingServes => history.nothing_serves(now_ms),
            Step::ServedUntil => history.served_until(now_ms),
            Step::Restart => *history = read_back(history),
        }
    }

    proptest! {
        #[test]
        fn any_sequence_of_steps_keeps_a_history_whole(
            steps in vec((step(), any::<u64>()), 0..60),
            keep in MIN_VERSIONS..6,
        ) {
            let mut history = VersionHistory::default();
            let mut seen: std::collections::BTreeMap<u64, VersionDigests> = std::collections::BTreeMap::new();
            for (step, now_ms) in steps {
                let next = history.next_number;
                take(&mut history, &step, now_ms);
                history.keep(keep);
                prop_assert!(history.next_number >= next);
                prop_assert_eq!(history.check(), Ok(()));
                let waits = history.versions.iter().any(|version| version.state == VersionState::Accepted);
                prop_assert!(history.versions.len() <= keep + usize::from(waits));
                prop_assert_eq!(history.serving().is_some(), history.serving.is_some());
                // A number never names two versions.
                for version in &history.versions {
                    let first = seen.entry(version.number).or_insert_with(|| version.digests.clone());
                    prop_assert_eq!(&*first, &version.digests);
                }
                if let Ok(to) = history.rollback_target(None) {
                    let to = history.version(to).unwrap();
                    prop_assert!(history.barred(&to.digests.component).is_none());
                    prop_assert_ne!(Some(to.number), history.serving);
                }
            }
            prop_assert_eq!(text(&read_back(&history)), text(&history));
        }

        #[test]
        fn no_history_panics_with_a_part_that_is_damaged(
            position in 0..4000_usize,
            byte in any::<u8>(),
            step in step(),
        ) {
            let mut history = deployed([1, 2, 3]);
            history.went_back(3, 2, "worse", 9);
            let mut bytes = serde_json::to_vec(&history).unwrap();
            let position = position % bytes.len();
            bytes[position] = byte;
            if let Ok(mut history) = serde_json::from_slice::<VersionHistory>(&bytes) {
                take(&mut history, &step, 50);
                prop_assert!(history.check().is_ok());
            }
        }
    }
}
