//! What happens to a message, seen from outside: the real binary, real components, a real disk.

use harness::{
    guests::{FORWARD, batch_handler, body_starts_with, forward, handler, no_op, obedient},
    host::Place,
    wait_for,
};
use serde_json::json;

const GRANT: &str = "[grant]\nsend = [\"out\"]\n[retry]\nmin = \"1ms\"\nmax = \"10ms\"\n";

/// Rejects bodies that start with `j`, traps on `t`, spins on `s`, retries on `r` at the first receive; forwards the rest.
fn picky() -> Vec<u8> {
    let (reject, trap, spin) = (body_starts_with('j'), body_starts_with('t'), body_starts_with('s'));
    let retry = format!(
        "(i32.and {} (i32.eq (local.get $receive-count) (i32.const 1)))",
        body_starts_with('r')
    );
    handler(&format!(
        "(if {reject} (then (return (call $fail (i32.const 2) (i32.const 272) (i32.const 7) (i32.const 0)))))
        (if {trap} (then unreachable))
        (if {spin} (then (loop $l (br $l))))
        (if {retry} (then (return (call $fail (i32.const 1) (i32.const 272) (i32.const 7) (i32.const 0)))))
        {FORWARD} (global.get $ok)"
    ))
}

#[test]
fn a_file_in_the_directory_is_a_worker_for_its_queue() {
    let place = Place::new();
    place.install("in", &forward(), GRANT);
    let host = place.start();
    host.wait_ready();
    for body in ["a", "b", "c"] {
        host.send("in", body.as_bytes());
    }
    host.wait_empty("in");
    let mut out = host.take_all("out");
    out.sort_unstable();
    assert_eq!(out, ["a", "b", "c"]);
}

#[test]
fn each_failure_has_its_fate() {
    let place = Place::new();
    place.configure("[queues.in]\nmax-receives = 3\n");
    place.install("in", &picky(), &format!("timeout = \"1s\"\n{GRANT}"));
    let host = place.start();
    host.wait_ready();
    for body in ["good", "junk", "trap", "spin", "retried"] {
        host.send("in", body.as_bytes());
    }
    host.wait_empty("in");
    let mut out = host.take_all("out");
    out.sort_unstable();
    assert_eq!(out, ["good", "retried"]);
    let mut dead: Vec<_> = host
        .dead("in")
        .iter()
        .map(|letter| {
            assert_eq!(letter["failure"]["handler"], "in");
            assert_eq!(letter["failure"]["component"].as_str().unwrap().len(), 64);
            let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
            (
                text(&letter["body"]),
                text(&letter["failure"]["kind"]),
                letter["receive-count"].as_u64().unwrap(),
            )
        })
        .collect();
    dead.sort();
    let expected = [("junk", "reject", 1), ("spin", "timeout", 3), ("trap", "trap", 3)];
    assert_eq!(
        dead,
        expected.map(|(body, kind, count)| (body.to_owned(), kind.to_owned(), count))
    );
}

#[test]
fn redriven_dead_letters_are_handled_anew() {
    let place = Place::new();
    place.configure("[queues.in]\nmax-receives = 1\n");
    place.install("in", &handler("unreachable"), GRANT);
    let host = place.start();
    host.wait_ready();
    let id = host.send("in", b"body");
    wait_for("a dead letter", || (host.dead("in").len() == 1).then_some(()));
    place.install("in", &forward(), GRANT);
    wait_for("the new version", || host.events("serving").get(1).cloned());
    assert_eq!(
        host.post("/queues/in/dead/redrive", &json!({ "ids": [id] }))["messages"],
        1
    );
    host.wait_empty("in");
    assert_eq!(host.take_all("out"), ["body"]);
    assert!(host.dead("in").is_empty());
}

#[test]
fn a_handler_that_outlasts_the_visibility_timeout_handles_its_message_once() {
    let place = Place::new();
    place.configure("[queues.in]\nvisibility-timeout = \"3s\"\n");
    // Each waits, by a clock, for more than three times the visibility timeout, and forwards then.
    place.install("in", &obedient("out"), GRANT);
    let host = place.start();
    host.wait_ready();
    let bodies = ["w10000-a", "w10000-b"];
    for body in bodies {
        host.send("in", body.as_bytes());
    }
    host.wait_empty("in");
    let mut out = host.take_all("out");
    out.sort_unstable();
    assert_eq!(out, bodies);
    let metrics = host.text("/metrics").1;
    let value = |series: &str| {
        let value = metrics
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {series} in {metrics}"))
    };
    let taken: f64 = value(r#"sandhog_attempt_duration_seconds_sum{handler="in"}"#)
        .parse()
        .unwrap();
    assert!(taken >= 20.0, "{taken}");
    assert_eq!(value(r#"sandhog_attempts_total{handler="in",outcome="success"}"#), "2");
    assert_eq!(value(r#"sandhog_received_messages_total{queue="in"}"#), "2");
    // An absent series passed as an extension before.
    let extended: u64 = value(r#"sandhog_lease_extensions_total{queue="in",result="ok"}"#)
        .parse()
        .unwrap();
    assert!(extended >= 6, "three each at least: {extended}");
    assert!(!metrics.contains("sandhog_lost_leases_total"), "{metrics}");
}

#[test]
fn messages_of_a_group_keep_their_order_across_retries() {
    let place = Place::new();
    place.install("in", &picky(), GRANT);
    let host = place.start();
    host.wait_ready();
    let mut expected = Vec::new();
    for number in 0..60 {
        // Every third is retried once.
        let body = format!("{}{number:02}", if number % 3 == 0 { "r" } else { "x" });
        host.try_send("in", body.as_bytes(), "group=g").unwrap();
        expected.push(body);
    }
    host.wait_empty("in");
    assert_eq!(host.take_all("out"), expected);
}

#[test]
fn a_queue_in_queue_order_is_handled_one_after_another() {
    let place = Place::new();
    place.configure("[queues.in]\norder = \"queue\"\n");
    place.install("in", &picky(), GRANT);
    let host = place.start();
    host.wait_ready();
    let expected: Vec<_> = (0..60)
        .map(|number| format!("{}{number:02}", if number % 3 == 0 { "r" } else { "x" }))
        .collect();
    for body in &expected {
        host.send("in", body.as_bytes());
    }
    host.wait_empty("in");
    assert_eq!(host.take_all("out"), expected);
}

#[test]
fn a_batch_handler_gets_several_messages_at_once() {
    let place = Place::new();
    place.install(
        "in",
        &batch_handler(
            "(i32.store (i32.const 16) (i32.const 1024)) (i32.store (i32.const 20) (local.get $count)) (i32.const 16)",
        ),
        "batch-size = 50\n",
    );
    let host = place.start();
    host.wait_ready();
    let messages: Vec<_> = (0..200).map(|number| json!({ "body": number.to_string() })).collect();
    host.post("/queues/in/batch", &json!({ "messages": messages }));
    host.wait_empty("in");
    let metrics = host.text("/metrics").1;
    let count = |name: &str| -> u64 {
        let line = metrics
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_else(|| panic!("{name}: {metrics}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert_eq!(
        count(r#"sandhog_settled_deliveries_total{queue="in",settlement="delete"}"#),
        200
    );
}

#[test]
fn a_send_to_a_full_queue_leaves_the_message_to_be_tried_again() {
    let place = Place::new();
    place.configure("[queues.out]\nmax-messages = 1\n");
    place.install("in", &forward(), GRANT);
    let host = place.start();
    host.wait_ready();
    host.send("in", b"first");
    wait_for("the first output", || (host.count("out", "ready") == 1).then_some(()));
    host.send("in", b"second");
    wait_for("the refusal", || {
        host.events("what the handler sent or wrote was refused").pop()
    });
    assert_eq!(host.take_one("out").unwrap(), "first");
    host.wait_empty("in");
    assert_eq!(host.take_all("out"), ["second"]);
}

#[test]
fn a_broken_handler_is_paused_before_it_drains_the_queue() {
    let place = Place::new();
    place.configure("[queues.in]\nmax-receives = 2\n");
    place.install("in", &handler("unreachable"), GRANT);
    let host = place.start();
    host.wait_ready();
    let messages: Vec<_> = (0..500).map(|number| json!({ "body": number.to_string() })).collect();
    host.post("/queues/in/batch", &json!({ "messages": messages }));
    wait_for("the pause", || host.events("the handler is paused").pop());
    assert_eq!(host.text("/ready").0, 503);
    assert!(host.dead("in").len() < 100, "{} dead letters", host.dead("in").len());
    place.install("in", &no_op(), GRANT);
    host.wait_empty("in");
    assert!(host.dead("in").len() < 100, "{} dead letters", host.dead("in").len());
    host.wait_ready();
}

#[test]
fn what_a_guest_prints_is_in_the_log_with_its_message() {
    let place = Place::new();
    // fd_write of WASI preview 1, through the adapter.
    let wasm = harness::guests::embed(
        r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 16)
        (data (i32.const 1024) "hello\n")
        (global $next (mut i32) (i32.const 65536))
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
            (local.set $at (global.get $next)) (global.set $next (i32.add (local.get $at) (i32.and (i32.add (local.get 3) (i32.const 15)) (i32.const -8)))) (local.get $at))
        (func (export "sandhog:worker/handler@0.1.0#handle") (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i64 i32 i32 i32) (result i32)
            (i32.store (i32.const 2048) (i32.const 1024)) (i32.store (i32.const 2052) (i32.const 6))
            (drop (call $write (i32.const 1) (i32.const 2048) (i32.const 1) (i32.const 2064)))
            (i32.const 16)))"#,
        "worker",
    );
    place.install("in", &wasm, "");
    let host = place.start();
    host.wait_ready();
    let id = host.send("in", b"");
    host.wait_empty("in");
    let line = wait_for("the guest's line", || host.events("hello").pop());
    assert_eq!(
        (&line["fields"]["message"], &line["fields"]["handler"]),
        (&json!("hello"), &json!("in"))
    );
    assert_eq!(line["fields"]["message_id"], json!(id));
}

#[test]
fn until_empty_ends_the_host_once_everything_is_handled() {
    let mut place = Place::new();
    place.install("in", &forward(), GRANT);
    let host = place.start();
    host.wait_ready();
    host.terminate();
    place.install(
        "in",
        &handler("(loop $l (br $l)) unreachable"),
        "timeout = \"50ms\"\n[grant]\nsend = [\"out\"]\n[retry]\nmin = \"1ms\"\nmax = \"5ms\"\n",
    );
    let host = place.start();
    host.send("in", b"spins");
    host.terminate();
    place.install("in", &forward(), GRANT);
    place.arguments.push("--until-empty".to_owned());
    let (status, log) = place.start().wait();
    assert_eq!(status.code(), Some(0), "{log:#?}");
    place.arguments.clear();
    assert_eq!(place.start().take_all("out"), ["spins"]);
}
