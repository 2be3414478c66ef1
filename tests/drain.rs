//! A drain: no handler begins anything, what is in flight ends, and applications notice nothing.

use std::process::{Child, Stdio};

use harness::{
    guests::{FORWARD, body_starts_with, handler, no_op},
    host::{Host, Place},
    sqs_client::SqsClient,
    sqs_host::Stage,
    sqs_obedient::NEVER,
    wait_for,
};
use serde_json::{Value, json};

/// Spins on a body that starts with `s` until its timeout, and handles the rest.
fn spinner(manifest: &str) -> (Place, Host) {
    let place = Place::new();
    let wasm = handler(&format!(
        "(if {} (then (loop $l (br $l)))) {FORWARD} (global.get $ok)",
        body_starts_with('s')
    ));
    place.install("in", &wasm, &format!("{manifest}\n[grant]\nsend = [\"out\"]\n"));
    let host = place.start();
    host.wait_ready();
    (place, host)
}

fn order(host: &Host, path: &str) -> Value {
    host.post(path, &Value::Null)
}

fn sandhog(place: &Place, host: &Host, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = place.command();
    let output = command.args(arguments).args(["--url", &host.url]).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Begins a command whose end is waited for later.
fn begin(place: &Place, host: &Host, arguments: &[&str]) -> Child {
    let mut command = place.command();
    command.args(arguments).args(["--url", &host.url]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn wait_in_flight(host: &Host, queue: &str) {
    wait_for("the attempt", || (host.count(queue, "in-flight") == 1).then_some(()));
}

#[test]
fn a_drain_waits_for_what_is_in_flight_and_lets_nothing_begin() {
    // The attempt fails at its timeout, and its message waits for a retry that does not come while the test runs.
    let (place, host) = spinner("timeout = \"3s\"\n[retry]\nmin = \"10m\"\nmax = \"10m\"\n");
    host.send("in", b"spin");
    wait_in_flight(&host, "in");
    let drain = begin(&place, &host, &["drain", "--json"]);
    wait_for("the order", || host.events("draining: nothing is received").pop());
    host.send("in", b"later");
    let state = host.get("/drain");
    assert_eq!(
        state["in-flight"],
        json!([{ "handler": "in", "messages": 1 }]),
        "{state}"
    );
    assert_eq!(state["drained"], false);
    let (status, text) = host.text("/ready");
    assert_eq!(status, 503);
    assert!(text.contains("draining: an operator has ordered it at "), "{text}");
    let ended = drain.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let said: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(
        (&said["drained"], &said["in-flight"]),
        (&json!(true), &json!([])),
        "{said}"
    );
    assert_eq!(host.count("in", "in-flight"), 0);
    assert_eq!(host.count("in", "ready"), 1, "{}", host.counts("in"));
    let (code, said, error) = sandhog(&place, &host, &["drain", "--end"]);
    assert_eq!(code, Some(0), "{error}");
    assert!(
        said.starts_with("handlers receive again; the host drained since 20"),
        "{said}"
    );
    wait_for("the message", || (host.count("out", "ready") == 1).then_some(()));
    host.wait_ready();
    let (_, said, _) = sandhog(&place, &host, &["drain", "--end"]);
    assert_eq!(said, "the host did not drain\n");
}

#[test]
fn a_drained_host_takes_nothing_from_amazon_sqs() {
    let mut stage = Stage::new("drained");
    let source = stage.queue("in", &NEVER, "");
    let place = stage.place();
    place.install("in", &no_op(), "");
    let host = place.start();
    host.wait_ready();
    wait_for("a receive that waits", || {
        (!stage.calls(&source, "ReceiveMessage").is_empty()).then_some(())
    });
    let (code, _, error) = sandhog(&place, &host, &["drain"]);
    assert_eq!(code, Some(0), "{error}");
    // No receive that was under way before takes it.
    source.put_all(&["later"]);
    let received = source.receive(&source.url, 1, 1);
    assert_eq!((received.len(), received[0].receive_count()), (1, 1));
}

#[test]
fn a_drain_whose_time_is_up_names_what_is_in_flight_and_goes_on() {
    let (place, host) = spinner("timeout = \"10m\"\n");
    host.send("in", b"spin");
    wait_in_flight(&host, "in");
    let (code, out, error) = sandhog(&place, &host, &["drain", "--timeout", "300ms"]);
    assert_eq!((code, out.as_str()), (Some(6), ""), "{error}");
    assert_eq!(
        error,
        "sandhog: the time is up: 1 in flight (in 1); the host goes on draining\n"
    );
    let (code, out, _) = sandhog(&place, &host, &["drain", "--timeout", "0s", "--json"]);
    assert_eq!(code, Some(6));
    let said: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(said["in-flight"][0]["messages"], 1, "{said}");
    host.send("in", b"later");
    assert_eq!(host.count("in", "ready"), 1);
    assert_eq!(host.get("/drain?wait=0s")["drained"], false);
}

#[test]
fn a_drain_that_somebody_ends_is_told_to_those_who_wait_for_it() {
    let (place, host) = spinner("timeout = \"10m\"\n");
    host.send("in", b"spin");
    wait_in_flight(&host, "in");
    let drain = begin(&place, &host, &["drain"]);
    wait_for("the order", || host.events("draining: nothing is received").pop());
    let ended = order(&host, "/drain/end");
    assert!(ended["since-ms"].is_u64(), "{ended}");
    let drain = drain.wait_with_output().unwrap();
    assert_eq!(drain.status.code(), Some(1), "{drain:?}");
    let error = String::from_utf8(drain.stderr).unwrap();
    assert!(error.contains("somebody has ended the drain"), "{error}");
}

#[test]
fn a_restart_ends_a_drain() {
    let place = Place::new();
    place.install("in", &no_op(), "");
    let host = place.start();
    host.wait_ready();
    order(&host, "/drain");
    host.send("in", b"x");
    host.kill();
    let host = place.start();
    host.wait_empty("in");
    host.wait_ready();
}

#[test]
fn applications_send_and_receive_while_the_host_drains() {
    let place = Place::new();
    place.install("in", &no_op(), "");
    let host = place.start();
    host.wait_ready();
    let client = SqsClient::new(&host.url);
    let queue = client.create_queue("outside", &[]);
    let answer = order(&host, "/drain");
    assert!(answer["since-ms"].is_u64() && answer["stopping"] == false, "{answer}");
    client.send(&queue, "x");
    assert_eq!(client.receive(&queue, 10, 20)[0].receive_count(), 1);
    host.send("in", b"y");
    let received = order(&host, "/queues/in/receive?wait=10s");
    assert_eq!(received["messages"][0]["receive-count"], 1, "{received}");
    // A queue that no handler takes does not stand still for a drain.
    assert_eq!(host.counts("outside")["standstill"], Value::Null);
}

#[test]
fn a_drain_is_the_reason_why_nothing_moves() {
    let place = Place::new();
    place.install("in", &no_op(), "");
    let host = place.start();
    host.wait_ready();
    order(&host, "/drain");
    host.send("in", b"x");
    let sentence = host.counts("in")["standstill"].as_str().unwrap().to_owned();
    assert!(
        sentence.starts_with("the host is draining by an operator's order since 20"),
        "{sentence}"
    );
    let handler = &host.get("/handlers")["handlers"][0];
    assert_eq!(
        (&handler["draining"], handler["standstill"].as_str()),
        (&json!(true), Some(sentence.as_str())),
        "{handler}"
    );
    let (_, table, _) = sandhog(&place, &host, &["handlers"]);
    let row = table.lines().nth(1).unwrap();
    assert!(row.contains(" draining "), "{table}");
    let (_, table, _) = sandhog(&place, &host, &["queues"]);
    assert!(table.contains("in: the host is draining"), "{table}");
}

#[test]
fn a_handler_that_comes_while_the_host_drains_receives_nothing() {
    let place = Place::new();
    place.configure("[queues.in]\n");
    let host = place.start();
    host.wait_ready();
    host.send("in", b"x");
    order(&host, "/drain");
    place.install("in", &no_op(), "");
    wait_for("the handler", || {
        (host.get("/handlers")["handlers"][0]["state"] == "serving").then_some(())
    });
    let state = host.get("/drain?wait=20s");
    assert_eq!(state["drained"], true, "{state}");
    assert_eq!(host.count("in", "ready"), 1);
    order(&host, "/drain/end");
    host.wait_empty("in");
}

#[test]
fn the_order_and_its_end_leave_an_audit_line_each() {
    let host = Place::new();
    let host = host.start();
    host.wait_ready();
    order(&host, "/drain");
    host.get("/drain?wait=1s");
    order(&host, "/drain/end");
    let lines = wait_for("the audit lines", || {
        let lines = host.events("audit");
        (lines.len() == 2).then_some(lines)
    });
    let actions: Vec<_> = lines.iter().map(|line| line["fields"]["action"].clone()).collect();
    assert_eq!(actions, ["drain", "end drain"]);
}

#[test]
fn a_host_that_ends_when_its_queues_are_empty_does_not_wait_for_the_end_of_a_drain() {
    let mut place = Place::new();
    place.configure("[queues.in]\n");
    let host = place.start();
    host.wait_ready();
    // It is handled once the retry is due, so the host waits for it, and nothing is in flight.
    order(&host, "/queues/in?delay=1h");
    host.terminate();
    place.install("in", &no_op(), "");
    place.arguments.push("--until-empty".to_owned());
    let host = place.start();
    host.wait_ready();
    order(&host, "/drain");
    let (status, log) = host.wait();
    assert_eq!(status.code(), Some(3), "{log:#?}");
    assert!(
        log.iter().any(|line| line.contains("by an operator or by a drain")),
        "{log:#?}"
    );
}

#[test]
fn a_pause_outlives_a_drain() {
    let place = Place::new();
    place.install("in", &no_op(), "");
    let host = place.start();
    host.wait_ready();
    order(&host, "/queues/in/pause?reason=stocktaking");
    order(&host, "/drain");
    assert_eq!(host.get("/drain?wait=20s")["drained"], true);
    host.send("in", b"x");
    order(&host, "/drain/end");
    let sentence = host.counts("in")["standstill"].as_str().unwrap().to_owned();
    assert!(sentence.starts_with("queue in is paused by an operator"), "{sentence}");
    assert_eq!(host.count("in", "ready"), 1);
    order(&host, "/queues/in/resume");
    host.wait_empty("in");
}
