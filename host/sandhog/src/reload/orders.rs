//! What becomes of versions while they serve: reports of dispatchers, and orders of operators.
//!
//! Invariants: the host goes back from a version at most once; a handler has at most one order under way; an order is answered
//! only when it is carried out and recorded on the disk, or can't be.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    Reload,
    load::{AcceptedVersion, LoadOrder, LoadRefusal, LoadedVersion},
};
use crate::{
    attempt::HandlerVersion,
    rollout::ProbationChange,
    served_versions::{Rollout, ServedVersions},
    versions::{OrderRefused, OrderReply, OrderedVersion, ProbationReport, VersionEventKind, VersionOrder},
};
use sandhog_executor::Component;
use sandhog_queue::{QueueError, machine_clock::wall_ms};

/// Why there is no order about a handler whose newest version does not serve.
const WAITS: &str = "the newest version waits for its queue, which another handler has: give it another queue first";

/// An order that is being carried out.
#[derive(Debug)]
pub(crate) struct PendingOrder {
    to: OrderReply,
    /// It was carried out, and the answer waits for the disk.
    is_done: bool,
}

impl PendingOrder {
    fn new(to: OrderReply) -> Self {
        Self { to, is_done: false }
    }

    fn reply(self, answer: Result<(), OrderRefused>) {
        // Somebody who does not wait any more needs no answer.
        drop(self.to.send(answer));
    }
}

/// Refuses to promote another version than the one that somebody has seen as the newest.
fn check_wanted(wanted: Option<u64>, newest: u64) -> Result<(), OrderRefused> {
    match wanted.filter(|wanted| *wanted != newest) {
        Some(wanted) => Err(OrderRefused::Refused(format!(
            "version {newest} is the newest by now, and not version {wanted}, so nothing was promoted"
        ))),
        None => Ok(()),
    }
}

impl Reload {
    /// Returns the components of a handler that are in memory.
    pub(crate) fn loaded_components(&self, name: &str) -> Vec<Component> {
        let Some(served) = self.handlers.served(name) else {
            return Vec::new();
        };
        let predecessor = served.rollout.as_ref().map(|rollout| &rollout.predecessor);
        let versions = std::iter::once(&served.newest).chain(predecessor);
        versions.map(|version| version.component.clone()).collect()
    }

    /// Records the versions of a handler on the disk, and shows them.
    pub(crate) fn record_versions(&mut self, name: &str) {
        let Some(versions) = self.rollouts.get_mut(name) else {
            return;
        };
        let recorded = versions.recorded(wall_ms());
        let (entry, tallies) = versions.shown();
        let state = entry.history.serving().map(|serving| serving.state.as_str());
        let probation = entry.progress.as_ref().map(|progress| progress.stage.as_str());
        if let Some(state) = state {
            self.handlers.statuses().version_state(name, state, probation);
        }
        let number = entry.history.serving().map_or(0, |serving| serving.number);
        let is_on_probation = state == Some("probation");
        self.handlers
            .metrics()
            .handlers()
            .version(name, number, is_on_probation);
        self.board.show(name, entry, tallies);
        self.recorder.record(name, recorded);
    }

    /// Records counts that have changed, and what could not be recorded before.
    pub(crate) fn record_counts(&mut self, now: Instant) {
        for (name, history) in self.rollouts.counted(now, self.recorder.unrecorded()) {
            self.recorder.record(&name, history);
        }
    }

    /// Takes what dispatchers have reported.
    pub(crate) async fn reported(&mut self) -> Result<(), QueueError> {
        for (name, report) in self.board.take_reports() {
            self.probation(&name, report).await?;
        }
        Ok(())
    }

    async fn probation(&mut self, name: &str, report: ProbationReport) -> Result<(), QueueError> {
        let ProbationReport {
            number,
            progress,
            change,
        } = report;
        let Some(served) = self
            .handlers
            .served(name)
            .filter(|served| served.newest.number == number)
        else {
            return Ok(());
        };
        let Some(rollout) = &served.rollout else {
            return Ok(());
        };
        let Some(versions) = self.rollouts.get_mut(name) else {
            return Ok(());
        };
        versions.set_progress(number, progress.clone());
        self.board.show_progress(name, progress.clone());
        if progress.is_proven && versions.history.proven(number, wall_ms()) {
            tracing::info!(handler = name, version = number, "the version has proven itself");
            self.record_versions(name);
        }
        let why = match &change {
            Some(ProbationChange::Worse(why)) => Some(why.as_str()),
            // The host ended before it could go back.
            _ if progress.is_worse => Some("it was found to be worse than its predecessor before"),
            _ => None,
        };
        if let Some(why) = why.filter(|_| rollout.terms.automatic) {
            return self.go_back(name, &served, rollout, why).await;
        }
        let Some(change) = change else {
            return Ok(());
        };
        self.note_change(name, number, &change);
        self.record_versions(name);
        Ok(())
    }

    /// Notes a change after which the version goes on serving.
    fn note_change(&mut self, name: &str, number: u64, change: &ProbationChange) {
        let Some(versions) = self.rollouts.get_mut(name) else {
            return;
        };
        let (history, now_ms) = (&mut versions.history, wall_ms());
        match change {
            // The progress tells, also if something else has happened since.
            ProbationChange::Proven => {}
            ProbationChange::Doubtful => {
                history.note(Some(number), VersionEventKind::Doubtful, None, now_ms);
                tracing::warn!(
                    handler = name,
                    version = number,
                    "the version may be worse than its predecessor, which gets a part of the messages again"
                );
            }
            ProbationChange::Cleared => {
                history.note(Some(number), VersionEventKind::Cleared, None, now_ms);
                tracing::info!(
                    handler = name,
                    version = number,
                    "the version is no worse than its predecessor"
                );
            }
            ProbationChange::Worse(why) => {
                history.note(Some(number), VersionEventKind::Doubtful, Some(why), now_ms);
                versions.note = Some(format!(
                    "version {number} is worse than its predecessor, and its manifest says automatic = false: roll back, promote it, or deploy another ({why})"
                ));
                tracing::error!(
                    handler = name,
                    version = number,
                    why,
                    "the version is worse than its predecessor, and its manifest says not to go back automatically"
                );
            }
        }
    }

    /// Goes back to the predecessor of a version that is worse.
    async fn go_back(
        &mut self,
        name: &str,
        served: &ServedVersions,
        rollout: &Rollout,
        why: &str,
    ) -> Result<(), QueueError> {
        let number = served.newest.number;
        let predecessor = rollout.predecessor.number;
        if self
            .rollouts
            .get_mut(name)
            .is_some_and(|versions| versions.has_waiting())
        {
            // The predecessor has all messages, until the newer version has its queue.
            return Ok(());
        }
        let Some(to) = self.serve_older(name, predecessor, &rollout.predecessor).await? else {
            return Ok(());
        };
        let versions = self.rollouts.get_mut(name);
        if !versions.is_some_and(|versions| versions.history.went_back(number, to, why, wall_ms())) {
            tracing::error!(
                handler = name,
                version = number,
                serving = to,
                "the version is not in the history, and can't be quarantined"
            );
        }
        tracing::error!(
            handler = name,
            version = number,
            serving = to,
            why,
            "rolled back: the version is quarantined until another file is dropped or it is promoted"
        );
        self.handlers.metrics().handlers().rolled_back(name, true);
        self.arrange();
        self.handlers
            .statuses()
            .set_aside(name, &format!("version {number} was rolled back: {why}"));
        Ok(())
    }

    /// Makes a component that is loaded serve as a version of its own, without a predecessor. Returns its number.
    async fn serve_older(
        &mut self,
        name: &str,
        older: u64,
        version: &HandlerVersion,
    ) -> Result<Option<u64>, QueueError> {
        let loaded = LoadedVersion {
            component: version.component.clone(),
            manifest: version.manifest.clone(),
            policy: Arc::clone(&version.policy),
        };
        let Some(versions) = self.rollouts.get_mut(name) else {
            return Ok(None);
        };
        let Some((to, alone)) = versions.serve_older(older, loaded) else {
            return Ok(None);
        };
        match self.handlers.accept(name, alone).await {
            Ok(()) => Ok(Some(to)),
            // Its queues exist, so that nothing is left to fail that may pass.
            Err(error) if error.is_transient() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Begins to carry out an order, or refuses it.
    pub(crate) async fn ordered(&mut self, ordered: OrderedVersion) -> Result<(), QueueError> {
        let OrderedVersion { handler, order, reply } = ordered;
        let begun = match order {
            _ if self.pending_orders.contains_key(&handler) => Err(OrderRefused::Busy),
            VersionOrder::Rollback { to } => self.begin_rollback(&handler, to),
            VersionOrder::Promote { version } => match self.begin_promotion(&handler, version) {
                Ok(None) => Ok(()),
                Ok(Some(promoted)) => {
                    let answer = self.promote(&handler, promoted).await?;
                    self.pending_orders.insert(handler.clone(), PendingOrder::new(reply));
                    self.answer(&handler, answer);
                    return Ok(());
                }
                Err(refused) => Err(refused),
            },
        };
        let pending = PendingOrder::new(reply);
        match begun {
            Ok(()) => drop(self.pending_orders.insert(handler, pending)),
            Err(refused) => pending.reply(Err(refused)),
        }
        Ok(())
    }

    /// Begins to load the version to roll back to.
    fn begin_rollback(&mut self, name: &str, wanted: Option<u64>) -> Result<(), OrderRefused> {
        let loaded = self.loaded_components(name);
        let versions = self.rollouts.get_mut(name).ok_or(OrderRefused::NoHandler)?;
        if versions.has_waiting() {
            return Err(OrderRefused::Refused(WAITS.to_owned()));
        }
        let target = versions.history.rollback_target(wanted);
        let target = target.map_err(|refusal| OrderRefused::Refused(refusal.to_string()))?;
        let history = versions.history.clone();
        let files = self.files.get_mut(name).ok_or(OrderRefused::NoHandler)?;
        let stamps = files.stamps.clone().filter(|_| !files.is_busy());
        let stamps = stamps.ok_or(OrderRefused::Busy)?;
        files.begin();
        let order = LoadOrder {
            name: name.to_owned(),
            stamps,
            quiet_for: files.quiet_for(Instant::now()),
            loaded,
            history: Some(history),
            fall_back: false,
            older: Some(target),
            promoted: None,
        };
        self.loads.spawn(Arc::clone(&self.loader).load(order));
        Ok(())
    }

    /// Serves the older version that an operator wants, and answers.
    pub(crate) async fn loaded_older(
        &mut self,
        name: &str,
        version: Result<AcceptedVersion, LoadRefusal>,
    ) -> Result<(), QueueError> {
        let answer = match version {
            Ok(accepted) => self.roll_back(name, accepted).await?,
            Err(LoadRefusal::Final(why)) => Err(OrderRefused::Refused(why)),
            Err(refusal) => Err(OrderRefused::Refused(format!("{}; try again", refusal.text()))),
        };
        self.answer(name, answer);
        Ok(())
    }

    async fn roll_back(
        &mut self,
        name: &str,
        accepted: AcceptedVersion,
    ) -> Result<Result<(), OrderRefused>, QueueError> {
        let Some(from) = self.handlers.served(name).map(|served| served.newest.number) else {
            return Ok(Err(OrderRefused::NoHandler));
        };
        if let Some(refusal) = self.accept(name, accepted, None).await? {
            return Ok(Err(OrderRefused::Refused(format!("{}; try again", refusal.text()))));
        }
        let Some(versions) = self.rollouts.get_mut(name) else {
            return Ok(Err(OrderRefused::NoHandler));
        };
        let to = versions.accepted_number();
        let why = "somebody rolled back from it";
        if !versions.history.rolled_back(from, to, why, wall_ms()) {
            return Ok(Err(OrderRefused::Refused(
                "another version serves by now; try again".to_owned(),
            )));
        }
        tracing::warn!(
            handler = name,
            version = from,
            serving = to,
            "rolled back by order: the version is set aside until another file is dropped or it is promoted"
        );
        self.handlers.metrics().handlers().rolled_back(name, false);
        self.arrange();
        let why = format!("version {from} is set aside: somebody rolled back from it");
        self.handlers.statuses().set_aside(name, &why);
        Ok(Ok(()))
    }

    /// Returns the version on probation that is promoted at once; or makes the files in the plugin directory due, whose version was
    /// quarantined or set aside.
    fn begin_promotion(&mut self, name: &str, wanted: Option<u64>) -> Result<Option<u64>, OrderRefused> {
        let versions = self.rollouts.get_mut(name).ok_or(OrderRefused::NoHandler)?;
        if versions.has_waiting() {
            return Err(OrderRefused::Refused(WAITS.to_owned()));
        }
        let Some((number, digest)) = versions.barred_file() else {
            let number = versions.history.serving().ok_or(OrderRefused::NoHandler)?.number;
            check_wanted(wanted, number)?;
            let served = self.handlers.served(name);
            return if served.is_some_and(|served| served.rollout.is_some()) {
                Ok(Some(number))
            } else {
                let why = format!("version {number} serves already, and nothing is held against it");
                Err(OrderRefused::Refused(why))
            };
        };
        check_wanted(wanted, number)?;
        let digest = digest.to_owned();
        let files = self.files.get_mut(name).ok_or(OrderRefused::NoHandler)?;
        if files.is_busy() || files.stamps.as_ref().is_none_or(|stamps| stamps.wasm.is_none()) {
            return Err(OrderRefused::Busy);
        }
        versions.promoted = Some(digest);
        files.load_again(Instant::now());
        Ok(None)
    }

    /// Ends the probation of the version that serves.
    async fn promote(&mut self, name: &str, number: u64) -> Result<Result<(), OrderRefused>, QueueError> {
        let Some(served) = self
            .handlers
            .served(name)
            .filter(|served| served.newest.number == number)
        else {
            return Ok(Err(OrderRefused::Busy));
        };
        let alone = ServedVersions {
            newest: Arc::clone(&served.newest),
            rollout: None,
        };
        match self.handlers.accept(name, alone).await {
            Ok(()) => {}
            Err(error) if error.is_transient() => return Ok(Err(OrderRefused::Busy)),
            Err(error) => return Err(error),
        }
        Ok(self.finish_promotion(name, number))
    }

    /// Answers the promotion of the files in the plugin directory, if somebody waits for it.
    pub(crate) fn loaded_promotion(&mut self, name: &str, refusal: Option<&LoadRefusal>) {
        let Some(versions) = self.rollouts.get_mut(name) else {
            return;
        };
        let Some(digest) = versions.promoted.take() else {
            return;
        };
        let number = versions.accepted_number();
        let loaded = versions.history.version(number);
        let answer = match refusal {
            Some(refusal) => Err(OrderRefused::Refused(refusal.text().to_owned())),
            None if loaded.is_none_or(|loaded| loaded.digests.component != digest) => Err(OrderRefused::Refused(
                "another file came into the plugin directory meanwhile".to_owned(),
            )),
            None => {
                versions.history.clear(&digest);
                self.finish_promotion(name, number)
            }
        };
        self.answer(name, answer);
    }

    /// Serves the version that was accepted last on no probation, if it has its queue.
    fn finish_promotion(&mut self, name: &str, number: u64) -> Result<(), OrderRefused> {
        self.arrange();
        let served = self.handlers.served(name);
        if served.is_none_or(|served| served.newest.number != number) {
            return Err(OrderRefused::Refused(WAITS.to_owned()));
        }
        if let Some(versions) = self.rollouts.get_mut(name) {
            versions.promoted(number, wall_ms());
        }
        tracing::warn!(
            handler = name,
            version = number,
            "promoted by order: the version is on no probation"
        );
        self.record_versions(name);
        Ok(())
    }

    /// Refuses the order about a handler that is being carried out, if there is one.
    pub(crate) fn refuse_order(&mut self, name: &str, refused: OrderRefused) {
        if let Some(pending) = self.pending_orders.remove(name) {
            pending.reply(Err(refused));
        }
    }

    /// Answers an order: at once if it was refused, and otherwise as soon as the disk has what it changed.
    fn answer(&mut self, name: &str, answer: Result<(), OrderRefused>) {
        if let Err(refused) = answer {
            self.refuse_order(name, refused);
            return;
        }
        if let Some(pending) = self.pending_orders.get_mut(name) {
            pending.is_done = true;
        }
        self.answer_recorded();
    }

    /// Answers the orders that are carried out and recorded.
    pub(crate) fn answer_recorded(&mut self) {
        let recorder = &self.recorder;
        let is_settled = |name: &String, pending: &mut PendingOrder| pending.is_done && recorder.is_settled(name);
        for (name, pending) in self.pending_orders.extract_if(.., is_settled) {
            let answer = if recorder.is_unrecorded(&name) {
                let why = "it is done, and could not be recorded on the disk: a restart may not know of it (the log says why)";
                Err(OrderRefused::Refused(why.to_owned()))
            } else {
                Ok(())
            };
            pending.reply(answer);
        }
    }
}
