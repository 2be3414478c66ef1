//! A host that is killed goes on with the same versions: with the quarantine, with what somebody ordered, with the probation.

use harness::{
    host::Host,
    versions::{Trial, VersionsTold, plain},
    wait_for,
};

use super::{QUICK, by_tag, handler_is, order, tried};

/// Kills the host, and starts another one on the same directories.
fn killed_and_started(trial: &Trial, host: Host) -> Host {
    host.kill();
    let host = trial.place.start();
    host.wait_ready();
    handler_is(&host, "serving");
    host
}

/// The record of the versions is written beside the work.
fn wait_written(trial: &Trial, fact: impl Fn(&str) -> bool) {
    let path = trial.place.data().join("versions/in/history.json");
    wait_for("the record", || {
        let text = std::fs::read_to_string(&path).ok()?;
        fact(&text).then_some(())
    });
}

#[test]
fn a_quarantine_outlives_a_kill_while_the_bad_file_still_lies_there() {
    let mut trial = Trial::new(QUICK);
    let host = trial.start(&plain("good"));
    let ended = tried(&mut trial, &host, "traps on everything", &plain("bad; trap"));
    wait_written(&trial, |text| text.contains("quarantined"));
    let host = killed_and_started(&trial, host);
    let told = VersionsTold::of(&host, "in");
    assert_eq!(
        (told.serving(), told.state(ended.number)),
        (Some(1), "quarantined"),
        "{told:#?}"
    );
    assert!(told.calls(1) > 0, "what was counted is still there: {told:#?}");
    trial.send(&host, 20);
    assert_eq!(by_tag(&trial.handled(&host), "good"), 20);
}

/// The version that was on probation served from then on, with nothing to go back to.
#[test]
fn a_restart_beside_a_file_that_is_refused_ends_no_probation() {
    let mut trial = Trial::new("concurrency = 4\n[rollout]\nattempts = 100\ntime = \"0s\"\n");
    let mut host = trial.start(&plain("good"));
    let number = trial.deploy(&host, &plain("new"));
    wait_written(&trial, |text| text.contains("\"probation\""));
    for (file, text) in [("in.wasm", "garbage"), ("in.toml", "concurency = 4\n")] {
        let path = trial.place.plugin(file);
        let good = std::fs::read(&path).unwrap();
        host.kill();
        std::fs::write(&path, text).unwrap();
        let broken = trial.place.start();
        broken.wait_ready();
        let told = VersionsTold::of(&broken, "in");
        assert_eq!(
            (told.state(number), told.predecessor()),
            ("probation", Some(1)),
            "{file}: {told:#?}"
        );
        std::fs::write(&path, good).unwrap();
        wait_for("the good file to serve", || {
            (broken.get("/handlers")["handlers"][0]["fallback"] == false).then_some(())
        });
        let told = VersionsTold::of(&broken, "in");
        assert_eq!(
            (told.state(number), told.predecessor()),
            ("probation", Some(1)),
            "{file}: {told:#?}"
        );
        host = broken;
    }
}

#[test]
fn a_probation_goes_on_after_a_kill_where_it_was() {
    let mut trial = Trial::new("concurrency = 4\n[rollout]\nattempts = 100\ntime = \"0s\"\n");
    let host = trial.start(&plain("good"));
    trial.handled(&host);
    let number = trial.deploy(&host, &plain("new"));
    trial.send(&host, 60);
    trial.handled(&host);
    // What is counted is written every 10 s.
    wait_written(&trial, |text| text.contains("\"calls\":60"));
    let host = killed_and_started(&trial, host);
    let told = VersionsTold::of(&host, "in");
    assert_eq!(
        (told.state(number), told.predecessor()),
        ("probation", Some(1)),
        "{told:#?}"
    );
    // Fewer calls than a probation that began anew would need.
    trial.send(&host, 60);
    wait_for("the end of the probation", || {
        (VersionsTold::of(&host, "in").state(number) == "serving").then_some(())
    });
    assert_eq!(by_tag(&trial.handled(&host), "new"), 60);
}

/// A host that comes to nothing on a version and is killed at every moment still knows the one before.
#[test]
fn a_bad_version_is_rolled_back_although_the_host_is_killed_on_the_way() {
    let mut trial = Trial::new(QUICK);
    trial.place.configure("[queues.in]\nmax-receives = 100\n");
    let mut host = trial.start(&plain("good"));
    trial.handled(&host);
    let number = trial.deploy(&host, &plain("bad; trap every 3"));
    for _ in 0..5 {
        trial.send(&host, 3);
        host = killed_and_started(&trial, host);
    }
    trial.send_until(&host, 1000, |told| (told.state(number) == "quarantined").then_some(()));
    let handled = trial.handled(&host);
    assert!(
        handled
            .iter()
            .filter(|message| message.number % 3 == 0)
            .all(|message| message.tag == "good")
    );
}

#[test]
fn what_somebody_ordered_holds_over_a_kill_until_another_file_comes() {
    let mut trial = Trial::new(QUICK);
    let host = trial.start(&plain("good"));
    let number = trial.deploy(&host, &plain("new"));
    trial.send_until(&host, 500, |told| (told.state(number) == "serving").then_some(()));
    assert_eq!(order(&host, "rollback").0, 200);
    wait_written(&trial, |text| text.contains("set-aside"));
    let host = killed_and_started(&trial, host);
    let told = VersionsTold::of(&host, "in");
    assert_eq!(
        (told.serving(), told.state(number)),
        (Some(1), "set-aside"),
        "{told:#?}"
    );
    assert!(told.note().is_some(), "the file that lies there waits: {told:#?}");
    trial.handled(&host);
    trial.send(&host, 20);
    assert_eq!(by_tag(&trial.handled(&host), "good"), 20);
    let newer = trial.deploy(&host, &plain("newer"));
    let told = VersionsTold::of(&host, "in");
    assert_eq!(
        (told.serving(), told.predecessor()),
        (Some(newer), Some(1)),
        "{told:#?}"
    );
}

/// Whoever got the answer goes home.
#[test]
fn an_order_that_was_answered_outlives_a_kill_at_once() {
    let mut trial = Trial::new(QUICK);
    let mut host = trial.start(&plain("good"));
    let number = trial.deploy(&host, &plain("new"));
    trial.send_until(&host, 500, |told| (told.state(number) == "serving").then_some(()));
    for (what, serving) in [("rollback", 1), ("promote", number)].repeat(3) {
        assert_eq!(order(&host, what).0, 200);
        host = killed_and_started(&trial, host);
        let told = VersionsTold::of(&host, "in");
        assert_eq!(told.serving(), Some(serving), "{what}: {told:#?}");
    }
}
