//! What people do by hand: go back, take a quarantined version all the same, deploy and wait for the end.

use std::{
    fs,
    process::{Child, Output, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use harness::{
    host::Host,
    versions::{Trial, VersionsTold, keeping, plain},
    wait_for,
};
use serde_json::json;

use super::{QUICK, by_tag, order, sandhog, tried};

/// A host whose version 2 is proven.
fn proven(trial: &mut Trial) -> Host {
    let host = trial.start(&plain("good"));
    let number = trial.deploy(&host, &plain("new"));
    assert_eq!(number, 2);
    trial.send_until(&host, 500, |told| (told.state(2) == "serving").then_some(()));
    trial.handled(&host);
    host
}

fn handles_with(trial: &mut Trial, host: &Host, tag: &str) {
    trial.send(host, 10);
    assert_eq!(by_tag(&trial.handled(host), tag), 10);
}

#[test]
fn rollback_and_promote_by_the_command_line_change_what_serves_at_once() {
    let mut trial = Trial::new(QUICK);
    let host = proven(&mut trial);
    let (code, said) = sandhog(&trial.place, &host, &["rollback", "in"]);
    assert_eq!(code, Some(0), "{said}");
    handles_with(&mut trial, &host, "good");
    assert_eq!(VersionsTold::of(&host, "in").state(2), "set-aside");
    // The file that lies there waits, however often it is written.
    trial.place.install("in", &plain("new"), &trial.manifest);
    let (code, said) = sandhog(&trial.place, &host, &["versions", "in"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("set-aside"), "{said}");
    handles_with(&mut trial, &host, "good");
    let (code, said) = sandhog(&trial.place, &host, &["promote", "in"]);
    assert_eq!(code, Some(0), "{said}");
    handles_with(&mut trial, &host, "new");
    let told = VersionsTold::of(&host, "in");
    assert_eq!((told.serving(), told.state(2)), (Some(2), "serving"), "{told:#?}");
}

#[test]
fn a_promotion_waits_for_files_that_change_while_they_are_read() {
    let mut trial = Trial::new(QUICK);
    let host = proven(&mut trial);
    for _ in 0..10 {
        let (code, answer) = order(&host, "rollback");
        assert_eq!(code, 200, "{answer}");
        // The same files anew, which the host has not yet seen.
        trial.place.install("in", &plain("new"), &trial.manifest);
        let (code, answer) = order(&host, "promote");
        assert_eq!(code, 200, "{answer}");
    }
    handles_with(&mut trial, &host, "new");
}

#[test]
fn rollback_and_promote_over_http_answer_with_what_serves_then() {
    let mut trial = Trial::new(QUICK);
    let host = proven(&mut trial);
    let (code, answer) = order(&host, "rollback?version=1");
    assert_eq!((code, VersionsTold::new(answer).serving()), (200, Some(1)));
    handles_with(&mut trial, &host, "good");
    let (code, answer) = order(&host, "promote");
    assert_eq!((code, VersionsTold::new(answer).serving()), (200, Some(2)));
    handles_with(&mut trial, &host, "new");
    for (what, expected) in [
        ("rollback?version=7", 409),
        ("rollback?version=2", 409),
        ("promote", 409),
    ] {
        let (code, answer) = order(&host, what);
        assert_eq!(code, expected, "{what}: {answer}");
        assert!(answer["error"].is_string(), "{answer}");
    }
    assert_eq!(host.text("/handlers/unknown/versions").0, 404);
}

#[test]
fn quarantined_bytes_that_come_again_do_not_serve_before_somebody_promotes_them() {
    let mut trial = Trial::new(QUICK);
    let host = trial.start(&plain("good"));
    let bad = tried(&mut trial, &host, "traps on everything", &plain("bad; trap"));
    let better = trial.deploy(&host, &plain("better"));
    trial.send_until(&host, 500, |told| (told.state(better) == "serving").then_some(()));
    // Another manifest makes no other component of it.
    let manifest = trial.manifest.replace("concurrency = 4", "concurrency = 5");
    trial.place.install("in", &plain("bad; trap"), &manifest);
    wait_for("a word about it", || {
        let why = host.get("/handlers")["handlers"][0]["last-error"].to_string();
        let note = VersionsTold::of(&host, "in").note().unwrap_or_default().to_owned();
        (why.contains("quarantined") && note.contains("quarantined")).then_some(())
    });
    trial.handled(&host);
    handles_with(&mut trial, &host, "better");
    assert_eq!(order(&host, "promote").0, 200);
    let told = VersionsTold::of(&host, "in");
    let promoted = told.number_of(&plain("bad; trap")).unwrap();
    assert_eq!(
        (told.serving(), told.state(promoted)),
        (Some(promoted), "serving"),
        "{told:#?}"
    );
    assert!(promoted >= bad.number);
    // Somebody wants it so: it has the last word about its messages.
    trial.send(&host, 1);
    wait_for("the failures", || (host.dead("in").len() == 1).then_some(()));
}

#[test]
fn no_rollback_brings_back_a_grant_that_was_taken_away() {
    let mut trial = Trial::new(QUICK);
    let without = trial.manifest.clone();
    trial.manifest = format!("{without}keyvalue = true\n");
    let host = trial.start(&keeping("good"));
    trial.manifest = without;
    let number = trial.deploy(&host, &plain("new"));
    let told = VersionsTold::of(&host, "in");
    assert_eq!((told.predecessor(), told.state(number)), (None, "serving"), "{told:#?}");
    assert!(told.note().is_some_and(|note| note.contains("keyvalue")), "{told:#?}");
    let (code, answer) = order(&host, "rollback?version=1");
    let why = answer["error"].as_str().unwrap_or_default();
    assert_eq!(code, 409, "{answer}");
    assert!(why.contains("keyvalue"), "{why}");
    trial.handled(&host);
    handles_with(&mut trial, &host, "new");
}

/// `sandhog deploy`, in a directory of its own.
fn deploy(trial: &Trial, host: &Host, wasm: &[u8], arguments: &[&str]) -> Child {
    let file = trial.place.path().join("built.wasm");
    fs::write(&file, wasm).unwrap();
    let mut command = trial.place.command();
    command
        .arg("deploy")
        .arg(file)
        .args(["--name", "in", "--url", &host.url]);
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn text_of(output: &Output) -> String {
    String::from_utf8([output.stdout.clone(), output.stderr.clone()].concat()).unwrap()
}

/// Deploys while messages come, and returns what it says and its exit code.
fn deployed_under_load(trial: &mut Trial, host: &Host, wasm: &[u8]) -> (Option<i32>, String) {
    let child = deploy(trial, host, wasm, &[]);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let output = child.wait_with_output().unwrap();
            is_over.store(true, Ordering::Relaxed);
            output
        });
        trial.send_until(host, 20_000, |_| is_over.load(Ordering::Relaxed).then_some(()));
        let output = waiting.join().unwrap();
        (output.status.code(), text_of(&output))
    })
}

#[test]
fn deploy_tells_by_its_exit_code_what_became_of_the_version() {
    let mut trial = Trial::new(QUICK);
    let host = trial.start(&plain("good"));
    let (code, said) = deployed_under_load(&mut trial, &host, &plain("new"));
    assert_eq!(code, Some(0), "proven: {said}");
    assert_eq!(VersionsTold::of(&host, "in").state(2), "serving");
    let output = deploy(&trial, &host, &plain("new"), &[]).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "it serves already: {}", text_of(&output));
    let (code, said) = deployed_under_load(&mut trial, &host, &plain("bad; trap"));
    assert_eq!(code, Some(4), "rolled back: {said}");
    assert!(said.contains("version 2"), "it says which one serves: {said}");
    let output = deploy(&trial, &host, &plain("bad; trap"), &[])
        .wait_with_output()
        .unwrap();
    let said = text_of(&output);
    assert_eq!(output.status.code(), Some(1), "quarantined before: {said}");
    assert!(said.contains("promote"), "{said}");
    let output = deploy(&trial, &host, &keeping("new"), &[]).wait_with_output().unwrap();
    let said = text_of(&output);
    assert_eq!(output.status.code(), Some(1), "refused: {said}");
    assert!(said.contains("keyvalue = true"), "{said}");
    // Without messages nothing is decided.
    let child = deploy(&trial, &host, &plain("newer"), &["--timeout", "2s"]);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(5), "undecided: {}", text_of(&output));
    let handled = trial.handled(&host);
    assert_eq!(by_tag(&handled, "bad"), 0);
    let hidden = fs::read_dir(trial.place.path().join("plugins")).unwrap();
    let hidden = hidden.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(hidden.filter(|name| name.starts_with('.')).collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn deploy_of_the_first_version_has_nothing_to_wait_for() {
    let trial = Trial::new(QUICK);
    let host = trial.place.start();
    let manifest = trial.place.path().join("built.toml");
    fs::write(&manifest, &trial.manifest).unwrap();
    let manifest = manifest.to_str().unwrap();
    let child = deploy(&trial, &host, &plain("good"), &["--manifest", manifest]);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text_of(&output));
    host.post("/queues/in/batch", &json!({ "messages": [{ "body": "none.1" }] }));
    host.wait_empty("in");
    assert_eq!(host.take_all("done"), ["good none.1 1"]);
}
