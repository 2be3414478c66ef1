//! Dead letters run through another build before they are put back: nothing that it does has an effect, and those that it handles go back.

#![expect(clippy::indexing_slicing, reason = "JSON that is not as expected fails the test")]

use std::time::Duration;

use harness::{
    PATIENCE,
    guests::{handler, obedient},
    host::{Host, Place},
    wait_for,
};
use serde_json::{Value, json};

/// A host whose handler `in` rejects everything, with three dead letters, and the file of a build that handles all but one.
fn killed_by_a_bug() -> (Place, Host, String) {
    let place = Place::new();
    let reject = handler("(call $fail (i32.const 2) (i32.const 272) (i32.const 7) (i32.const 0))");
    // One after another, so that they die in their order.
    place.install("in", &reject, "concurrency = 1\n[grant]\nsend = [\"out\"]\n");
    let host = place.start();
    host.wait_ready();
    for body in [b"x-1".as_slice(), b"t-2", b"x-3"] {
        host.send("in", body);
    }
    wait_for("three dead letters", || (host.count("in", "dead") == 3).then_some(()));
    let build = place.path().join("mended.wasm");
    std::fs::write(&build, obedient("out")).unwrap();
    std::fs::write(build.with_extension("toml"), "[grant]\nsend = [\"out\"]\n").unwrap();
    (place, host, build.display().to_string())
}

fn replayed(place: &Place, host: &Host, arguments: &[&str]) -> (Option<i32>, String, String) {
    let all = [&["replay", "in"], arguments, &["--url", &host.url]].concat();
    let output = place.command().args(all).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_replay_shows_outcomes_side_by_side_and_has_no_effect() {
    let (place, host, build) = killed_by_a_bug();
    let (code, lines, errors) = replayed(&place, &host, &["--with", &build, "--json"]);
    assert_eq!(code, Some(1), "one of them is not handled: {errors}");
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (summary, letters) = lines.split_last().unwrap();
    let was: Vec<&Value> = letters.iter().map(|letter| &letter["was"]["kind"]).collect();
    let is: Vec<&Value> = letters.iter().map(|letter| &letter["is"]["outcome"]).collect();
    assert_eq!(was, ["reject", "reject", "reject"]);
    assert_eq!(is, ["success", "trap", "success"]);
    assert_eq!(letters[0]["sends"][0]["queue"], "out");
    assert_eq!((&summary["replayed"], &summary["handled"]), (&3.into(), &2.into()));
    assert!(summary["redriven"].is_null(), "{summary}");
    assert_eq!(host.count("in", "dead"), 3);
    assert_eq!(host.count("out", "ready"), 0, "nothing was sent");
}

#[test]
fn what_a_build_handles_now_is_put_back_in_the_same_step() {
    let (place, host, build) = killed_by_a_bug();
    place.install("in", &obedient("out"), "[grant]\nsend = [\"out\"]\n");
    wait_for("the mended version", || {
        (host.get("/handlers/in/versions")["serving"] == 2).then_some(())
    });
    let (code, text, errors) = replayed(&place, &host, &["--with", &build, "--redrive"]);
    assert_eq!(code, Some(1), "{errors}");
    assert!(text.contains("2 of 3 dead letters of in are handled by "), "{text}");
    assert!(text.contains("put 2 of them back into in"), "{text}");
    wait_for("the outputs", || (host.count("out", "ready") == 2).then_some(()));
    assert_eq!(host.count("in", "dead"), 1);
    let mut bodies = host.take_all("out");
    bodies.sort();
    assert_eq!(bodies, ["x-1", "x-3"]);
    let (code, text, errors) = replayed(&place, &host, &["--with", &build, "--where", "kind = trap"]);
    assert_eq!(code, Some(0), "none is left that a trap killed: {errors}");
    assert!(text.contains("0 of 0 dead letters"), "{text}");
}

#[test]
fn a_version_that_the_host_has_kept_is_replayed_without_its_files() {
    let (place, host, build) = killed_by_a_bug();
    place.install("in", &obedient("out"), "[grant]\nsend = [\"out\"]\n");
    wait_for("the mended version", || {
        (host.get("/handlers/in/versions")["serving"] == 2).then_some(())
    });
    std::fs::remove_file(&build).unwrap();
    let (code, text, errors) = replayed(&place, &host, &["--version", "2"]);
    assert_eq!(code, Some(1), "{errors}");
    assert!(
        text.contains("2 of 3 dead letters of in are handled by version 2 of in"),
        "{text}"
    );
    let (_, text, _) = replayed(&place, &host, &["--version", "1", "--handler", "in"]);
    assert!(
        text.contains("0 of 3 dead letters of in are handled by version 1 of in"),
        "{text}"
    );
    let (code, _, errors) = replayed(&place, &host, &["--version", "7"]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("no version 7 of handler in: it keeps 2, 1"), "{errors}");
    assert_eq!(host.count("in", "dead"), 3);
}

#[test]
fn messages_that_wait_are_replayed_and_go_on_waiting() {
    let (place, host, build) = killed_by_a_bug();
    host.post("/queues/in/pause", &Value::Null);
    let id = host.send("in", b"x-4");
    host.send("in", b"t-5");
    let arguments = ["--messages", "--with", &build];
    let (code, text, errors) = replayed(&place, &host, &arguments);
    assert_eq!(code, Some(1), "{errors}");
    assert!(text.contains("1 of 2 messages of in are handled by "), "{text}");
    assert!(text.contains(&format!("{id}\n  was ready\n  now success\n")), "{text}");
    let (code, text, errors) = replayed(&place, &host, &[&arguments[..], &["--where", "body ~ \"x\""]].concat());
    assert_eq!(code, Some(0), "{errors}");
    assert!(text.contains("1 of 1 messages"), "{text}");
    let (code, text, _) = replayed(&place, &host, &[&[&*id], &arguments[..]].concat());
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(host.count("in", "ready"), 2);
    assert_eq!(host.count("out", "ready"), 0, "nothing was sent");
}

/// A host with the three dead letters, whose version 2 handles all but one.
fn mended_by_a_version() -> (Place, Host) {
    let (place, host, _) = killed_by_a_bug();
    place.install("in", &obedient("out"), "[grant]\nsend = [\"out\"]\n");
    wait_for("the mended version", || {
        (host.get("/handlers/in/versions")["serving"] == 2).then_some(())
    });
    (place, host)
}

#[test]
fn the_host_itself_replays_with_a_version_that_it_has_kept_and_without_effect() {
    let (_place, host) = mended_by_a_version();
    let answer = host.post("/queues/in/dead/replay", &json!({ "version": 2 }));
    let outcomes: Vec<&Value> = answer["messages"]
        .as_array()
        .unwrap_or_else(|| panic!("{answer}"))
        .iter()
        .map(|message| &message["is"]["outcome"])
        .collect();
    assert_eq!(outcomes, ["success", "trap", "success"], "{answer}");
    assert_eq!(answer["messages"][0]["was"]["kind"], "reject");
    assert_eq!(answer["messages"][0]["sends"][0]["queue"], "out");
    assert_eq!((&answer["handled"], &answer["more"]), (&2.into(), &false.into()));
    // Those that pass, and no more than were asked for.
    let some = json!({ "version": 2, "where": "body ~ \"x\"", "limit": 1 });
    let answer = host.post("/queues/in/dead/replay", &some);
    assert_eq!(
        (&answer["handled"], &answer["more"]),
        (&1.into(), &true.into()),
        "{answer}"
    );
    let before = json!({ "version": 1, "ids": [host.dead("in")[1]["id"]] });
    let answer = host.post("/queues/in/dead/replay", &before);
    assert_eq!(answer["messages"][0]["is"]["outcome"], "reject", "{answer}");
    // One that is gone keeps the others from nothing.
    let gone = json!({ "version": 2, "ids": ["0192f0c1", host.dead("in")[0]["id"]] });
    let answer = host.post("/queues/in/dead/replay", &gone);
    assert_eq!(answer["messages"][0]["is"]["outcome"], "not-run", "{answer}");
    assert_eq!(answer["messages"][1]["is"]["outcome"], "success", "{answer}");
    assert_eq!(host.count("in", "dead"), 3);
    assert_eq!(host.count("out", "ready"), 0, "nothing was sent");
}

#[test]
fn a_replay_that_the_host_cannot_do_is_refused_with_the_reason() {
    let (_place, host) = mended_by_a_version();
    for (request, why) in [
        (json!({ "version": 7 }), "no version 7"),
        (json!({ "version": 2, "handler": "nobody" }), "nobody"),
        (json!({ "version": 2, "limit": 101 }), "1 to 100"),
        (json!({ "version": 2, "ids": [] }), "1 to 100"),
        (json!({ "version": 2, "ids": ["a"], "where": "age > 1h" }), "either"),
        (json!({ "version": 2, "where": "age >" }), "the filter ends"),
        (json!({}), "version"),
    ] {
        let answer = host.post("/queues/in/dead/replay", &request);
        assert!(
            answer["error"].as_str().is_some_and(|error| error.contains(why)),
            "{request}: {answer}"
        );
    }
    let answer = host.post("/queues/out/dead/replay", &json!({ "version": 1 }));
    assert!(
        answer["error"].as_str().unwrap().contains("no handler takes queue out"),
        "{answer}"
    );
}

#[test]
fn one_replay_has_its_turn_and_a_client_that_goes_away_gives_it_back() {
    let (place, host) = mended_by_a_version();
    place.install(
        "in",
        &handler("(loop $l (br $l)) (global.get $ok)"),
        "timeout = \"2m\"\n",
    );
    wait_for("the version that never answers", || {
        (host.get("/handlers/in/versions")["versions"][0]["number"] == 3).then_some(())
    });
    let request = |version: u64, time| {
        let sent = ureq::post(format!("{}/queues/in/dead/replay", host.url))
            .content_type("application/json")
            .config()
            .http_status_as_error(false)
            .timeout_global(Some(time))
            .build()
            .send(json!({ "version": version }).to_string());
        sent.map(|answer| answer.status().as_u16()).ok()
    };
    std::thread::scope(|scope| {
        // Who asks meanwhile has a turn, too.
        let impatient = scope.spawn(|| {
            wait_for("a turn", || {
                Some(request(3, Duration::from_secs(4))).filter(|code| *code != Some(409))
            })
        });
        wait_for("the turn to be taken", || {
            (request(2, PATIENCE) == Some(409)).then_some(())
        });
        assert_eq!(impatient.join().unwrap(), None, "it went away");
    });
    wait_for("the turn to be free", || {
        (request(2, PATIENCE) == Some(200)).then_some(())
    });
    assert_eq!(host.count("in", "dead"), 3);
}
