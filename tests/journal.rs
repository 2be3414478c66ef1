//! What attempts did can be seen afterwards and while it happens: what was sent and printed, why one failed, and the way of a
//! message across queues.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use harness::{
    guests::{handler, obedient},
    host::{Host, Place},
    sqs_host::Stage,
    wait_for,
};
use serde_json::Value;

/// Runs a command that asks the host, which succeeds, and returns what it writes.
fn asked(place: &Place, host: &Host, arguments: &[&str]) -> String {
    let output = place
        .command()
        .args(arguments)
        .args(["--url", &host.url])
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The attempts that are kept, as `tail` writes them.
fn kept(place: &Place, host: &Host, arguments: &[&str]) -> Vec<Value> {
    let all = [&["tail", "--last", "1000", "--no-follow", "--json"], arguments].concat();
    let lines = asked(place, host, &all);
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A host whose handler `in` forwards to `middle`, whose handler forwards to `end`, which nobody takes.
fn pipeline() -> (Place, Host) {
    let place = Place::new();
    place.install("in", &obedient("middle"), "[grant]\nsend = [\"middle\"]\n");
    place.install("middle", &obedient("end"), "[grant]\nsend = [\"end\"]\n");
    let host = place.start();
    host.wait_ready();
    (place, host)
}

#[test]
fn tail_shows_what_an_attempt_sent_and_what_it_took() {
    let (place, host) = pipeline();
    let id = host.send("in", b"x");
    wait_for("the message at the end", || {
        (host.count("end", "ready") == 1).then_some(())
    });
    let attempts = wait_for("both attempts", || {
        Some(kept(&place, &host, &[])).filter(|attempts| attempts.len() == 2)
    });
    let first = &attempts[0];
    assert_eq!(
        (&first["handler"], &first["message"]),
        (&"in".into(), &id.as_str().into())
    );
    assert_eq!(
        (&first["outcome"], &first["settlement"]),
        (&"success".into(), &"delete".into())
    );
    assert_eq!((&first["version"], &first["receive-count"]), (&1.into(), &1.into()));
    assert!(first["memory-peak-bytes"].as_u64().unwrap() >= 65536, "{first}");
    assert!(
        first["duration-ms"].as_f64().unwrap() > 0.0 && first["cpu-ms"].as_f64().unwrap() > 0.0,
        "{first}"
    );
    let sent = first["sends"].as_array().unwrap();
    assert_eq!(sent.len(), 1, "{first}");
    assert_eq!((&sent[0]["queue"], &sent[0]["bytes"]), (&"middle".into(), &1.into()));
    assert_eq!(
        attempts[1]["message"], sent[0]["message"],
        "the id is that of the message in the next queue"
    );
    assert_eq!(kept(&place, &host, &["middle"]), attempts[1..]);
    let none = asked(&place, &host, &["tail", "in", "--outcome", "timeout", "--no-follow"]);
    assert!(
        none.starts_with("No such attempt is kept. A host that was started again"),
        "{none}"
    );
    let text = asked(&place, &host, &["tail", "in", "--no-follow"]);
    assert!(text.contains(" in v1 ") && text.contains("sent to middle: "), "{text}");
}

#[test]
fn tail_says_why_a_message_was_not_handled() {
    let place = Place::new();
    // Answers retry with a text.
    let fail = handler("(call $fail (i32.const 0) (i32.const 272) (i32.const 7) (i32.const 0))");
    place.install("orders", &fail, "[retry]\nmin = \"1h\"\nmax = \"1h\"\n");
    let host = place.start();
    host.wait_ready();
    host.send("orders", b"x");
    let attempts = wait_for("the attempt", || {
        Some(kept(&place, &host, &["--failed"])).filter(|attempts| !attempts.is_empty())
    });
    assert_eq!(attempts.len(), 1);
    let attempt = &attempts[0];
    assert_eq!(
        (&attempt["outcome"], &attempt["settlement"]),
        (&"retry".into(), &"retry".into())
    );
    assert!(
        attempt["reason"].as_str().is_some_and(|reason| !reason.is_empty()),
        "{attempt}"
    );
    // A backoff is drawn between half of it and all of it.
    assert!(
        (1_800_000..=3_600_000).contains(&attempt["retry-in-ms"].as_u64().unwrap()),
        "{attempt}"
    );
    assert!(kept(&place, &host, &["--outcome", "success"]).is_empty());
}

#[test]
fn a_message_is_followed_across_queues_by_its_id() {
    let (place, host) = pipeline();
    let id = host.send("in", b"x");
    wait_for("the message at the end", || {
        (host.count("end", "ready") == 1).then_some(())
    });
    wait_for("both attempts", || (kept(&place, &host, &[]).len() == 2).then_some(()));
    let way: Value = serde_json::from_str(&asked(&place, &host, &["trace", &id, "--json"])).unwrap();
    let middle = &way["sent"][0];
    let last = &middle["sent"][0];
    assert_eq!(middle["attempts"][0]["queue"], "middle");
    assert_eq!(
        (&middle["sent-by"]["message"], &middle["sent-by"]["handler"]),
        (&id.as_str().into(), &"in".into())
    );
    assert_eq!(last["attempts"].as_array().unwrap().len(), 0, "{last}");
    let at_end = host.post("/queues/end/receive", &Value::Null);
    assert_eq!(at_end["messages"][0]["id"], last["message"], "{at_end}");
    let text = asked(&place, &host, &["trace", middle["message"].as_str().unwrap()]);
    assert!(
        text.contains(&format!("sent by in v1 for message {id} of queue in")),
        "{text}"
    );
    let unknown = place
        .command()
        .args(["trace", "nothing", "--url", &host.url])
        .output()
        .unwrap();
    assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");
}

#[test]
fn tail_follows_attempts_as_they_end_and_ends_with_the_host() {
    let (place, host) = pipeline();
    let mut command = place.command();
    command.args(["tail", "in", "--json", "--url", &host.url]);
    let mut tail = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let first = host.send("in", b"x");
    let line: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(line["message"], first.as_str());
    let second = host.send("in", b"y");
    let line: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(line["message"], second.as_str());
    let (status, log) = host.terminate();
    assert_eq!(status.code(), Some(0), "{log:#?}");
    assert!(lines.next().is_none());
    assert_eq!(tail.wait().unwrap().code(), Some(69));
}

#[test]
fn a_message_in_a_queue_of_sqs_is_followed_as_far_as_the_host_knows_it_and_received_by_nobody() {
    let mut stage = Stage::new("trace");
    let remote = stage.queue("out", &[], "");
    let place = stage.place();
    place.install("in", &obedient("out"), "[grant]\nsend = [\"out\"]\n");
    let host = place.start();
    host.wait_ready();
    let id = host.send("in", b"x");
    remote.wait_numbers((1, 0, 0));
    let way = wait_for("the attempt", || {
        let way = asked(&place, &host, &["trace", &id]);
        way.contains("to out").then_some(way)
    });
    assert!(way.contains("handled, and no longer in any queue"), "{way}");
    assert!(!way.contains("no longer in its queue"), "{way}");
    assert_eq!(remote.numbers(), (1, 0, 0));
    assert!(stage.calls(&remote, "ReceiveMessage").is_empty());
}

#[test]
fn attempts_of_before_a_kill_are_there_after_it_if_they_are_kept_on_the_disk() {
    let place = Place::new();
    place.install("in", &obedient("out"), "[grant]\nsend = [\"out\"]\n");
    place.configure("[journal]\ndurable = true\n");
    let host = place.start();
    host.wait_ready();
    let id = host.send("in", b"x");
    host.wait_empty("in");
    let before = wait_for("the attempt on the disk", || {
        let file = fs::read_to_string(place.data().join("journal.jsonl")).unwrap_or_default();
        let attempts = kept(&place, &host, &[]);
        file.contains(&id).then_some(attempts)
    });
    host.kill();
    let host = place.start();
    host.wait_ready();
    assert_eq!(kept(&place, &host, &[]), before);
    let way = asked(&place, &host, &["trace", &id]);
    assert!(way.contains("success"), "{way}");
    let (status, log) = host.terminate();
    assert_eq!(status.code(), Some(0), "{log:#?}");
    // What ended last is written when the host stops.
    let host = place.start();
    host.wait_ready();
    let last = host.send("in", b"y");
    host.wait_empty("in");
    host.terminate();
    let host = place.start();
    let attempts = kept(&place, &host, &[]);
    assert_eq!(attempts.last().unwrap()["message"], last.as_str());
}

#[test]
fn a_host_keeps_as_many_attempts_as_it_is_told_to() {
    let place = Place::new();
    place.install("in", &obedient("out"), "[grant]\nsend = [\"out\"]\n");
    place.configure("[journal]\nkeep = 3\n");
    let host = place.start();
    host.wait_ready();
    let ids: Vec<String> = (0..10)
        .map(|number| host.send("in", number.to_string().as_bytes()))
        .collect();
    wait_for("the outputs", || (host.count("out", "ready") == 10).then_some(()));
    let attempts = wait_for("the attempts", || {
        host.wait_idle();
        Some(kept(&place, &host, &[])).filter(|attempts| attempts.len() == 3)
    });
    let known = |attempt: &Value| ids.iter().any(|id| attempt["message"] == id.as_str());
    assert!(attempts.iter().all(known), "{attempts:?}");
    let answer = host.get("/handlers/in/attempts?limit=2");
    assert_eq!(answer["attempts"].as_array().unwrap(), &attempts[1..]);
}
