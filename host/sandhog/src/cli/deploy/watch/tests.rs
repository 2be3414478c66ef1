//! Each end of a deploy, and that none comes from what happened before it.

use std::collections::BTreeMap;

use super::*;
use crate::admin::wire::{ProbationForm, VersionEventForm};

fn version(number: u64, component: &str, state: &str) -> VersionForm {
    VersionForm {
        number,
        component: component.to_owned(),
        manifest: None,
        file: "plugins/orders.wasm".to_owned(),
        accepted_at_ms: 1000,
        state: state.to_owned(),
        reason: None,
        rollback_of: None,
        served_ms: 0,
        last_served_at_ms: None,
        calls: 0,
        breaks: 0,
        outcomes: BTreeMap::new(),
        p50_ms: None,
        p99_ms: None,
        cpu_ms_total: 0.0,
        cpu_ms_mean: None,
        memory_peak_bytes: 0,
    }
}

/// A host that shows these versions, newest first; the one on probation or serving serves.
fn view(versions: &[VersionForm]) -> HostView {
    let serving = versions
        .iter()
        .find(|version| matches!(version.state.as_str(), "serving" | "probation"));
    HostView {
        handler: Some(handler(0)),
        versions: VersionList {
            serving: serving.map(|version| version.number),
            state: serving.map(|version| version.state.clone()),
            versions: versions.to_vec(),
            barred: versions.iter().filter_map(barred).collect(),
            ..VersionList::none("orders")
        },
        is_in_place: true,
        is_looked_at: false,
    }
}

fn barred(version: &VersionForm) -> Option<BarredForm> {
    Some(BarredForm {
        component: version.component.clone(),
        number: version.number,
        state: version.state.clone(),
        reason: version.reason.clone()?,
    })
}

fn handler(refusals: u64) -> HandlerForm {
    HandlerForm {
        halt: None,
        draining: false,
        standstill: None,
        slots: 1,
        calls: 0,
        breaks: 0,
        last_minute: crate::admin::wire::MinuteForm::default(),
        name: "orders".to_owned(),
        queue: None,
        state: "serving".to_owned(),
        paused_because: None,
        flavour: None,
        digest: None,
        version: 1,
        version_state: None,
        probation: None,
        loaded_at_ms: None,
        fallback: false,
        in_flight: 0,
        last_error: None,
        refused_component: None,
        refusals,
        tried_again: false,
        queue_error: None,
        last_receive_ms_ago: None,
    }
}

fn on_probation(calls: u64, stage: &str) -> HostView {
    let mut view = view(&[version(2, "new", "probation"), version(1, "old", "retired")]);
    view.versions.predecessor = Some(1);
    view.versions.probation = Some(ProbationForm {
        stage: stage.to_owned(),
        calls,
        calls_wanted: 300,
        elapsed_ms: 5000,
        time_ms: 600_000,
        share: if stage == "doubt" { 0.5 } else { 1.0 },
        newer_calls: calls,
        newer_breaks: 0,
        predecessor_calls: 0,
        predecessor_breaks: 0,
        second_opinions: 0,
    });
    view
}

/// A deploy of the component `new` on a host that showed this before.
fn deploy(before: &HostView) -> DeployWatch {
    let files = DeployedFiles {
        name: "orders".to_owned(),
        component: "new".to_owned(),
        manifest: None,
    };
    DeployWatch::new(files, before)
}

fn old() -> HostView {
    view(&[version(1, "old", "serving")])
}

fn end(watch: &mut DeployWatch, view: &HostView) -> Option<DeployEnd> {
    watch.saw(view).1
}

fn refused(text: &str) -> DeployEnd {
    DeployEnd::Refused(text.to_owned())
}

#[test]
fn a_version_that_has_nothing_to_be_compared_with_ends_the_deploy_at_once() {
    let mut watch = deploy(&HostView {
        handler: None,
        ..view(&[])
    });
    assert_eq!(end(&mut watch, &view(&[])), None);
    let serves = end(&mut watch, &view(&[version(1, "new", "serving")]));
    let text = "version 1 serves orders; there is nothing to compare it with";
    assert_eq!(serves, Some(DeployEnd::Serves(text.to_owned())));
}

#[test]
fn files_that_serve_already_are_said_to() {
    let before = view(&[version(1, "new", "serving")]);
    let text = "version 1 has these files and serves orders already";
    assert_eq!(
        end(&mut deploy(&before), &before),
        Some(DeployEnd::Serves(text.to_owned()))
    );
}

#[test]
fn the_same_component_under_another_manifest_is_another_version() {
    let mut other = version(1, "new", "serving");
    other.manifest = Some("another".to_owned());
    let before = view(&[other]);
    assert_eq!(end(&mut deploy(&before), &before), None);
}

#[test]
fn each_stage_is_said_once_until_the_version_is_proven() {
    let mut watch = deploy(&old());
    assert_eq!(watch.saw(&old()), (vec![], None));
    let said = |watch: &mut DeployWatch, view: &HostView| {
        let (lines, end) = watch.saw(view);
        assert_eq!(end, None);
        lines
    };
    let first = "version 2 is on probation: 0 of 300 calls, 5s of 10m; 0 of its 0 calls broke, and 0 of 0 of version 1";
    assert_eq!(said(&mut watch, &on_probation(0, "probation")), [first]);
    assert!(said(&mut watch, &on_probation(120, "probation")).is_empty());
    assert!(watch.standing().contains("120 of 300 calls"), "{}", watch.standing());
    let doubt =
        "version 2 is in doubt: 0 of its 130 calls broke, and 0 of 0 of version 1; it gets 50 % of the messages";
    assert_eq!(said(&mut watch, &on_probation(130, "doubt")), [doubt]);
    assert_eq!(said(&mut watch, &on_probation(140, "probation")).len(), 1);
    let proven = view(&[version(2, "new", "serving"), version(1, "old", "retired")]);
    let text = "version 2 is proven, and serves orders";
    assert_eq!(end(&mut watch, &proven), Some(DeployEnd::Serves(text.to_owned())));
}

#[test]
fn a_version_that_somebody_promotes_is_not_called_proven() {
    let mut watch = deploy(&old());
    assert_eq!(end(&mut watch, &on_probation(1, "probation")), None);
    let mut promoted = view(&[version(2, "new", "serving")]);
    promoted.versions.events.push(VersionEventForm {
        at_ms: 1,
        number: Some(2),
        what: "promoted".to_owned(),
        why: None,
    });
    let text = "version 2 was promoted, and serves orders";
    assert_eq!(end(&mut watch, &promoted), Some(DeployEnd::Serves(text.to_owned())));
}

/// A version as the host shows it after it went back.
fn left(state: &str, reason: &str) -> VersionForm {
    VersionForm {
        reason: Some(reason.to_owned()),
        last_served_at_ms: Some(2000),
        ..version(2, "new", state)
    }
}

#[test]
fn a_version_that_the_host_goes_back_from_ends_the_deploy_with_the_reason() {
    let back = view(&[
        left("quarantined", "it broke 7 of 7 calls"),
        version(1, "old", "serving"),
    ]);
    let text = "the host went back from version 2: it broke 7 of 7 calls; version 1 serves orders";
    let went_back = Some(DeployEnd::WentBack(text.to_owned()));
    let mut watch = deploy(&old());
    assert_eq!(end(&mut watch, &on_probation(3, "probation")), None);
    assert_eq!(end(&mut watch, &back), went_back);
    // It was too quick to be seen on probation.
    assert_eq!(end(&mut deploy(&old()), &back), went_back);
    let by_hand = view(&[left("set-aside", "rolled back by hand"), version(1, "old", "serving")]);
    let text = "somebody went back from version 2: rolled back by hand; version 1 serves orders";
    assert_eq!(
        end(&mut deploy(&old()), &by_hand),
        Some(DeployEnd::WentBack(text.to_owned()))
    );
}

#[test]
fn a_component_that_was_quarantined_before_is_refused_with_the_remedy() {
    let mut barred = view(&[left("quarantined", "it broke"), version(1, "old", "serving")]);
    let mut watch = deploy(&barred);
    assert_eq!(end(&mut watch, &barred), None, "the host has not looked at it");
    barred.is_looked_at = true;
    let text = "the host went back from version 2: it broke; version 1 serves orders; `sandhog promote orders` serves it all the same";
    assert_eq!(end(&mut watch, &barred), Some(refused(text)));
    // Its version need not be kept any more.
    barred.versions.versions.remove(0);
    assert_eq!(end(&mut deploy(&barred), &barred), Some(refused(text)));
}

#[test]
fn a_component_that_was_set_aside_may_have_another_rollout() {
    let before = view(&[left("set-aside", "by hand"), version(1, "old", "serving")]);
    let mut watch = deploy(&before);
    assert_eq!(end(&mut watch, &on_probation(1, "probation")), None);
    let back = view(&[left("quarantined", "it broke"), version(1, "old", "serving")]);
    let text = "the host went back from version 2: it broke; version 1 serves orders";
    assert_eq!(end(&mut watch, &back), Some(DeployEnd::WentBack(text.to_owned())));
}

fn with_error(refusals: u64, tried_again: bool) -> HostView {
    HostView {
        handler: Some(HandlerForm {
            last_error: Some("no such export".to_owned()),
            refused_component: (!tried_again).then(|| "new".to_owned()),
            tried_again,
            ..handler(refusals)
        }),
        ..old()
    }
}

#[test]
fn a_refusal_ends_the_deploy_and_one_from_before_does_not() {
    let before = with_error(3, false);
    let mut watch = deploy(&before);
    assert_eq!(end(&mut watch, &before), None);
    assert_eq!(
        end(&mut watch, &with_error(4, false)),
        Some(DeployEnd::Unfit("the host refuses it: no such export".to_owned()))
    );
    // A host that was started again counts from 0.
    let mut watch = deploy(&before);
    assert_eq!(end(&mut watch, &with_error(0, false)), None);
    assert_eq!(
        end(&mut watch, &with_error(1, false)),
        Some(DeployEnd::Unfit("the host refuses it: no such export".to_owned()))
    );
}

#[test]
fn only_a_refusal_of_just_these_files_takes_them_back() {
    let refused_files = |component: Option<&str>| {
        let mut view = with_error(1, false);
        view.handler.as_mut().unwrap().refused_component = component.map(str::to_owned);
        view
    };
    // Somebody else's files were being compiled when these were put into their place.
    assert_eq!(end(&mut deploy(&old()), &refused_files(Some("other"))), None);
    // A version that waits for its queue serves once that is free.
    let text = "the host refuses it: no such export";
    assert_eq!(end(&mut deploy(&old()), &refused_files(None)), Some(refused(text)));
}

#[test]
fn a_refusal_that_passes_is_said_once_and_waited_for() {
    let mut watch = deploy(&old());
    let line = "the host can't take it now, and tries again: no such export";
    assert_eq!(watch.saw(&with_error(1, true)), (vec![line.to_owned()], None));
    assert_eq!(watch.saw(&with_error(2, true)), (vec![], None));
    assert_eq!(end(&mut watch, &on_probation(0, "probation")), None);
}

#[test]
fn a_version_that_another_one_replaces_is_said_to_be() {
    let mut watch = deploy(&old());
    assert_eq!(end(&mut watch, &on_probation(5, "probation")), None);
    let replaced = view(&[version(3, "other", "probation"), version(2, "new", "retired")]);
    let text = "another version took over before this one was proven: version 3 serves orders";
    assert_eq!(end(&mut watch, &replaced), Some(refused(text)));
    let overwritten = HostView {
        is_in_place: false,
        ..old()
    };
    let text = "somebody put other files into place before these served: version 1 serves orders";
    assert_eq!(end(&mut deploy(&old()), &overwritten), Some(refused(text)));
    // The version that serves goes on until the other files are accepted.
    let serving = HostView {
        is_in_place: false,
        ..on_probation(5, "probation")
    };
    assert_eq!(end(&mut deploy(&old()), &serving), None);
}

#[test]
fn a_pause_and_the_notes_of_the_host_are_said_when_they_change() {
    let mut before = old();
    before.versions.note = Some("an old note".to_owned());
    let mut watch = deploy(&before);
    let mut paused = on_probation(5, "probation");
    paused.versions.note = Some("an old note".to_owned());
    assert_eq!(watch.saw(&paused).0.len(), 1, "its stage");
    paused.versions.note = Some("it seems worse".to_owned());
    paused.handler.as_mut().unwrap().paused_because = Some("trap, 20 times in a row".to_owned());
    let lines = ["the handler is paused: trap, 20 times in a row", "it seems worse"];
    assert_eq!(watch.saw(&paused).0, lines);
    assert!(watch.saw(&paused).0.is_empty());
}
