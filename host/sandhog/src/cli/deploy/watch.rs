//! Judges what becomes of a version that was deployed, by what the host shows of it.
//!
//! Invariant: a deploy ends once, and only for what has happened since. Asks nobody and knows no clock.

use crate::{
    admin::wire::{BarredForm, HandlerForm, VersionForm, VersionList},
    cli::versions::{note, probation_sentence},
};
use sandhog_queue::printable::{MAX_REASON_BYTES, printable, printable_lines};

/// The longest reason of the host that is shown, in bytes: a refusal can have several lines.
const MAX_WHY_BYTES: usize = 16 * 1024;

/// What was put into the plugin directory.
#[derive(Debug, Clone)]
pub(crate) struct DeployedFiles {
    /// The name of the handler.
    pub(crate) name: String,
    /// The digest of the component.
    pub(crate) component: String,
    /// The digest of the manifest that lies beside it; `None` if there is none.
    pub(crate) manifest: Option<String>,
}

/// What the host and the plugin directory show at one time.
#[derive(Debug, Clone)]
pub(crate) struct HostView {
    /// The handler; `None` if the host has none of this name.
    pub(crate) handler: Option<HandlerForm>,
    /// Its versions.
    pub(crate) versions: VersionList,
    /// The files that were put into the plugin directory are still there.
    pub(crate) is_in_place: bool,
    /// The host had enough time to look at the files.
    pub(crate) is_looked_at: bool,
}

/// How a deploy ends. The text is a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DeployEnd {
    /// The version serves, and nothing is left to be proven.
    Serves(String),
    /// The version does not serve, and the host has not gone back from it.
    Refused(String),
    /// The host refused just these files for good, and they are still in its directory.
    Unfit(String),
    /// The host, or somebody, went back from the version.
    WentBack(String),
}

/// Why the host refused the version.
struct DeployRefusal {
    why: String,
    /// The same files are refused whatever else changes.
    is_for_good: bool,
}

/// A deploy whose end is not known yet.
#[derive(Debug)]
pub(crate) struct DeployWatch {
    files: DeployedFiles,
    /// The number of the version that served these files before.
    served_before: Option<u64>,
    /// The host or somebody had gone back from the component before.
    was_held: bool,
    /// The refusals of the handler before.
    refusals: u64,
    /// The version has served since.
    has_served: bool,
    was_on_probation: bool,
    /// The stage that was said last, with the number of its version.
    stage: Option<(u64, String)>,
    /// What else was said: a passing refusal, a pause, and the note of the host.
    said: [Option<String>; 3],
    /// Where the rollout is, as a sentence.
    standing: String,
}

impl DeployWatch {
    /// `before` is what the host showed before the files were put into place.
    pub(crate) fn new(files: DeployedFiles, before: &HostView) -> Self {
        let served = ours(&files, &before.versions).map(|version| version.number);
        Self {
            served_before: served.filter(|number| before.versions.serving == Some(*number)),
            was_held: held(&files, &before.versions).is_some(),
            refusals: before.handler.as_ref().map_or(0, |handler| handler.refusals),
            has_served: false,
            was_on_probation: false,
            stage: None,
            said: [None, None, note(&before.versions)],
            standing: format!(
                "the host has not taken {}.wasm",
                printable(&files.name, MAX_REASON_BYTES)
            ),
            files,
        }
    }

    /// Returns where the rollout is, as a sentence.
    pub(crate) fn standing(&self) -> &str {
        &self.standing
    }

    /// Takes a look at the host. Returns the lines that are worth a person's while, and the end of the deploy if this is it.
    pub(crate) fn saw(&mut self, view: &HostView) -> (Vec<String>, Option<DeployEnd>) {
        let list = &view.versions;
        let mut lines = Vec::new();
        let serving = ours(&self.files, list).filter(|version| list.serving == Some(version.number));
        let end = match serving {
            Some(version) => self.serving(version.number, list, &mut lines),
            None => self.not_serving(view),
        };
        if end.is_none() {
            self.besides(view, &mut lines);
        }
        (lines, end)
    }

    fn serving(&mut self, number: u64, list: &VersionList, lines: &mut Vec<String>) -> Option<DeployEnd> {
        self.has_served = true;
        if list.state.as_deref() == Some("serving") {
            return Some(DeployEnd::Serves(self.proven(number, list)));
        }
        self.was_on_probation = true;
        // The host tells how a comparison stands once a call has ended.
        let (stage, standing) = match &list.probation {
            Some(probation) => (probation.stage.clone(), probation_sentence(list, probation)),
            None => ("probation".to_owned(), format!("version {number} is on probation")),
        };
        self.standing = standing;
        let stage = Some((number, stage));
        if self.stage != stage {
            self.stage = stage;
            lines.push(self.standing.clone());
        }
        None
    }

    fn proven(&self, number: u64, list: &VersionList) -> String {
        let name = printable(&self.files.name, MAX_REASON_BYTES);
        let is_promoted = || {
            let newest = list.events.iter().find(|event| event.number == Some(number));
            newest.is_some_and(|event| event.what == "promoted")
        };
        if self.was_on_probation {
            let how = if is_promoted() { "was promoted" } else { "is proven" };
            return format!("version {number} {how}, and serves {name}");
        }
        if self.served_before == Some(number) {
            return format!("version {number} has these files and serves {name} already");
        }
        if list
            .events
            .iter()
            .any(|event| event.number == Some(number) && event.what == "proven")
        {
            return format!("version {number} is proven, and serves {name}");
        }
        let why = note(list).map(|note| format!(": {note}")).unwrap_or_default();
        format!("version {number} serves {name}; there is nothing to compare it with{why}")
    }

    fn not_serving(&mut self, view: &HostView) -> Option<DeployEnd> {
        let list = &view.versions;
        let name = printable(&self.files.name, MAX_REASON_BYTES);
        let serves = list.serving.map_or_else(
            || "no version serves".to_owned(),
            |number| format!("version {number} serves"),
        );
        if let Some(held) = held(&self.files, list) {
            let text = held_sentence(held);
            return if self.has_served || !self.was_held {
                Some(DeployEnd::WentBack(format!("{text}; {serves} {name}")))
            } else if view.is_looked_at {
                let remedy = format!("`sandhog promote {name}` serves it all the same");
                Some(DeployEnd::Refused(format!("{text}; {serves} {name}; {remedy}")))
            } else {
                None
            };
        }
        if self.has_served {
            let text = format!("another version took over before this one was proven: {serves} {name}");
            return Some(DeployEnd::Refused(text));
        }
        if let Some(refusal) = self.refusal(view.handler.as_ref()) {
            let text = format!("the host refuses it: {}", refusal.why);
            // A version that waits, as for a queue, may serve later.
            return Some(if refusal.is_for_good && view.is_in_place {
                DeployEnd::Unfit(text)
            } else {
                DeployEnd::Refused(text)
            });
        }
        let text = || format!("somebody put other files into place before these served: {serves} {name}");
        (!view.is_in_place).then(|| DeployEnd::Refused(text()))
    }

    /// Returns why the host refused the version, and does not try it again. Somebody else's files may have been refused meanwhile.
    fn refusal(&mut self, handler: Option<&HandlerForm>) -> Option<DeployRefusal> {
        let handler = handler?;
        // A host that was started again counts anew.
        self.refusals = self.refusals.min(handler.refusals);
        let is_refused = handler.refusals > self.refusals && !handler.tried_again;
        let why = handler.last_error.as_deref().filter(|_| is_refused)?;
        let refused = handler.refused_component.as_deref();
        if refused.is_some_and(|component| component != self.files.component) {
            return None;
        }
        Some(DeployRefusal {
            why: printable_lines(why, MAX_WHY_BYTES),
            is_for_good: refused.is_some(),
        })
    }

    /// Says what else has changed.
    fn besides(&mut self, view: &HostView, lines: &mut Vec<String>) {
        let handler = view.handler.as_ref();
        let shown = |text: &String| printable_lines(text, MAX_WHY_BYTES);
        let passing = handler
            .filter(|handler| handler.tried_again && !self.has_served)
            .and_then(|handler| handler.last_error.as_ref())
            .map(|why| format!("the host can't take it now, and tries again: {}", shown(why)));
        let pause = handler
            .and_then(|handler| handler.paused_because.as_ref())
            .map(|why| format!("the handler is paused: {}", shown(why)));
        for (said, now) in self.said.iter_mut().zip([passing, pause, note(&view.versions)]) {
            if *said != now {
                lines.extend(now.clone());
                *said = now;
            }
        }
    }
}

/// Returns the version that has these files.
fn ours<'l>(files: &DeployedFiles, list: &'l VersionList) -> Option<&'l VersionForm> {
    let has_files = |version: &&VersionForm| version.component == files.component && version.manifest == files.manifest;
    let serving = list
        .versions
        .iter()
        .filter(has_files)
        .find(|version| list.serving == Some(version.number));
    serving.or_else(|| list.versions.iter().find(has_files))
}

/// Returns what is said of the component, if the host or somebody went back from it.
fn held<'l>(files: &DeployedFiles, list: &'l VersionList) -> Option<&'l BarredForm> {
    list.barred.iter().find(|barred| barred.component == files.component)
}

fn held_sentence(barred: &BarredForm) -> String {
    let who = if barred.state == "set-aside" {
        "somebody"
    } else {
        "the host"
    };
    let why = printable(&barred.reason, MAX_REASON_BYTES);
    format!("{who} went back from version {}: {why}", barred.number)
}

#[cfg(test)]
mod tests;
