//! A canary gets its share of the message groups, each as a whole, and the order in a group holds while two versions run.

use std::collections::{BTreeMap, BTreeSet};

use harness::{
    host::Host,
    versions::{HandledMessage, Trial, VersionsTold, batch, plain},
};

use super::{by_tag, check_receives};

/// A fifth of the groups, and a probation that does not end meanwhile.
const FIFTH: &str =
    "concurrency = 8\n[rollout]\nattempts = 100000\ncanary = 0.2\n[retry]\nmin = \"1ms\"\nmax = \"10ms\"\n";
/// So many groups that a fifth of them is hardly none and hardly half: 10 of 50 are expected, give or take 3.
const GROUPS: u64 = 50;

/// The tags of the versions that have handled messages of each group.
fn tags(handled: &[HandledMessage]) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut tags: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for message in handled {
        tags.entry(&message.group).or_default().insert(&message.tag);
    }
    tags
}

/// Lets a canary work beside its predecessor on 50 groups; what they have handled.
fn beside(trial: &mut Trial, first: &[u8], canary: &[u8]) -> (Host, Vec<HandledMessage>) {
    trial.groups = GROUPS;
    let host = trial.start(first);
    trial.handled(&host);
    trial.deploy(&host, canary);
    trial.send(&host, 500);
    let handled = trial.handled(&host);
    check_receives(&handled, 1);
    (host, handled)
}

fn check_whole_groups(handled: &[HandledMessage]) {
    let tags = tags(handled);
    let mixed: Vec<_> = tags.iter().filter(|(_, tags)| tags.len() > 1).collect();
    assert!(mixed.is_empty(), "groups on two versions: {mixed:?}");
    let canary = tags.values().filter(|tags| tags.contains("new")).count();
    assert!(
        (2..=22).contains(&canary),
        "{canary} of {GROUPS} groups are on the canary"
    );
}

#[test]
fn a_canary_gets_whole_groups() {
    let mut trial = Trial::new(FIFTH);
    let (host, handled) = beside(&mut trial, &plain("good"), &plain("new"));
    check_whole_groups(&handled);
    // The same ones after a restart.
    let before = tags(&handled);
    host.kill();
    let host = trial.place.start();
    host.wait_ready();
    trial.serves(&host, &plain("new"));
    trial.send(&host, 100);
    let after = trial.handled(&host);
    for (group, tags) in tags(&after) {
        assert_eq!(before.get(group), Some(&tags), "{group}");
    }
}

#[test]
fn a_canary_of_batches_gets_whole_groups() {
    let mut trial = Trial::new(&format!("batch-size = 5\n{FIFTH}"));
    let (_host, handled) = beside(&mut trial, &batch("good"), &batch("new"));
    check_whole_groups(&handled);
}

#[test]
fn a_canary_whose_instances_are_reused_gets_whole_groups() {
    let mut trial = Trial::new(&format!("instance = \"reuse\"\n{FIFTH}"));
    let (_host, handled) = beside(&mut trial, &plain("good"), &plain("new"));
    check_whole_groups(&handled);
}

#[test]
fn a_canary_gets_its_share_of_messages_without_a_group() {
    let mut trial = Trial::new(FIFTH);
    trial.groups = 0;
    let host = trial.start(&plain("good"));
    trial.handled(&host);
    trial.deploy(&host, &plain("new"));
    trial.send(&host, 500);
    let handled = trial.handled(&host);
    // 100 of 500 are expected, give or take 9.
    let canary = by_tag(&handled, "new");
    assert!((50..=150).contains(&canary), "{canary} of 500");
}

#[test]
fn a_canary_that_breaks_costs_the_other_groups_nothing() {
    let mut trial = Trial::new(FIFTH);
    let (host, handled) = beside(&mut trial, &plain("good"), &plain("new; trap"));
    assert_eq!(by_tag(&handled, "good"), handled.len());
    let told = VersionsTold::of(&host, "in");
    assert_eq!(told.state(2), "quarantined", "{told:#?}");
    assert!(told.calls(2) <= 20, "{told:#?}");
}

/// A group is with one version at a time, whatever changes: a message that the new version broke on and its successors too.
#[test]
fn the_order_in_a_queue_of_one_group_holds_through_a_rollout_that_fails_and_one_that_does_not() {
    let mut trial = Trial::new("concurrency = 4\n[rollout]\nattempts = 50\ntime = \"0s\"\n");
    trial.place.configure("[queues.in]\norder = \"queue\"\n");
    trial.groups = 1;
    let host = trial.start(&plain("good"));
    trial.send(&host, 20);
    trial.deploy(&host, &plain("bad; trap every 2"));
    trial.send_until(&host, 1000, |told| (told.serving() == Some(1)).then_some(()));
    let good = trial.deploy(&host, &plain("better"));
    trial.send_until(&host, 1000, |told| (told.state(good) == "serving").then_some(()));
    let handled = trial.handled(&host);
    check_receives(&handled, 1);
    assert!(by_tag(&handled, "bad") > 0 && by_tag(&handled, "better") >= 50);
}
