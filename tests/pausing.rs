//! An operator can pause a queue or a handler: nothing is received, nothing is lost or counted, and a kill forgets nothing.

#![expect(clippy::indexing_slicing, reason = "a wrong answer fails the test")]

use std::time::{Duration, Instant};

use harness::{
    guests::no_op,
    host::{Host, Place},
    sqs_client::SqsClient,
    sqs_host::Stage,
    wait_for,
};
use serde_json::{Value, json};

fn order(host: &Host, path: &str) -> Value {
    host.post(path, &Value::Null)
}

fn pause(host: &Host, path: &str) {
    let halt = order(host, path);
    assert!(halt["since-ms"].is_u64(), "{halt}");
}

fn wait_halted(host: &Host) {
    host.event("paused by an operator: nothing is received");
}

fn with_handler(wasm: &[u8], manifest: &str) -> (Place, Host) {
    let place = Place::new();
    place.install("in", wasm, manifest);
    let host = place.start();
    host.wait_ready();
    (place, host)
}

#[test]
fn a_paused_queue_takes_messages_and_hands_out_none_until_it_is_resumed() {
    let (_place, host) = with_handler(&no_op(), "");
    pause(&host, "/queues/in/pause?reason=the+bank+is+closed");
    wait_halted(&host);
    host.send("in", b"x");
    let began = Instant::now();
    let received = order(&host, "/queues/in/receive?wait=300ms");
    assert_eq!(received["messages"], json!([]));
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
    assert_eq!(host.count("in", "ready"), 1);
    assert_eq!(host.counts("in")["halt"]["reason"], "the bank is closed");
    assert_eq!(host.text("/ready").0, 200, "an order is no fault");
    let resumed = order(&host, "/queues/in/resume");
    assert_eq!(resumed["ended"]["reason"], "the bank is closed");
    host.wait_empty("in");
    assert_eq!(host.counts("in")["halt"], Value::Null);
    assert_eq!(order(&host, "/queues/in/resume")["ended"], Value::Null);
}

#[test]
fn a_paused_handler_leaves_its_queue_to_others() {
    let (_place, host) = with_handler(&no_op(), "");
    pause(&host, "/handlers/in/pause");
    wait_halted(&host);
    host.send("in", b"x");
    let received = order(&host, "/queues/in/receive?wait=10s");
    assert_eq!(received["messages"][0]["receive-count"], 1, "{received}");
    let settle = json!({ "receipt": received["messages"][0]["receipt"], "action": "delete" });
    host.post("/queues/in/settle", &settle);
    assert_eq!(host.get("/handlers")["handlers"][0]["halt"]["reason"], "");
    host.send("in", b"y");
    order(&host, "/handlers/in/resume");
    host.wait_empty("in");
}

#[test]
fn a_pause_outlives_a_kill() {
    let (place, host) = with_handler(&no_op(), "");
    pause(&host, "/queues/in/pause?reason=stocktaking");
    host.kill();
    let host = place.start();
    host.wait_ready();
    host.send("in", b"x");
    wait_halted(&host);
    assert_eq!(host.counts("in")["halt"]["reason"], "stocktaking");
    assert_eq!(host.count("in", "ready"), 1);
    order(&host, "/queues/in/resume");
    host.wait_empty("in");
    host.kill();
    let host = place.start();
    host.wait_ready();
    assert_eq!(host.counts("in")["halt"], Value::Null);
}

#[test]
fn a_pause_ends_by_itself() {
    let (_place, host) = with_handler(&no_op(), "");
    host.send("in", b"x");
    pause(&host, "/queues/in/pause?for=1s");
    host.send("in", b"y");
    host.wait_empty("in");
    host.event("the pause by an operator has come to its end");
}

#[test]
fn a_waiting_consumer_gets_nothing_once_the_queue_is_paused_and_goes_on_when_it_is_resumed() {
    let place = Place::new();
    place.configure("[queues.in]\n");
    let host = place.start();
    host.wait_ready();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| order(&host, "/queues/in/receive?wait=20s"));
        pause(&host, "/queues/in/pause");
        host.send("in", b"x");
        let other = order(&host, "/queues/in/receive?wait=100ms");
        assert_eq!(other["messages"], json!([]));
        assert_eq!(host.count("in", "ready"), 1);
        assert!(!waiting.is_finished());
        order(&host, "/queues/in/resume");
        let received = waiting.join().unwrap();
        assert_eq!(received["messages"][0]["receive-count"], 1, "{received}");
    });
}

#[test]
fn a_client_of_sqs_gets_nothing_from_a_paused_queue() {
    let place = Place::new();
    let host = place.start();
    host.wait_ready();
    let client = SqsClient::new(&host.url);
    let queue = client.create_queue("in", &[]);
    client.send(&queue, "x");
    pause(&host, "/queues/in/pause");
    assert!(client.receive(&queue, 10, 1).is_empty());
    order(&host, "/queues/in/resume");
    let received = client.receive(&queue, 10, 20);
    assert_eq!(received[0].receive_count(), 1);
}

#[test]
fn a_queue_that_a_client_deletes_takes_its_pause_with_it() {
    let place = Place::new();
    let host = place.start();
    host.wait_ready();
    let client = SqsClient::new(&host.url);
    let queue = client.create_queue("in", &[]);
    pause(&host, "/queues/in/pause");
    client.delete_queue(&queue);
    let queue = client.create_queue("in", &[]);
    client.send(&queue, "x");
    assert_eq!(client.receive(&queue, 10, 20).len(), 1);
    let ended = order(&host, "/queues/in/resume");
    assert_eq!((&ended["ended"], &ended["still"]), (&Value::Null, &Value::Null));
}

#[test]
fn a_handler_that_is_paused_amid_its_work_ends_what_is_under_way_and_loses_and_counts_nothing() {
    let (_place, host) = with_handler(&no_op(), "concurrency = 4\n");
    let messages: Vec<_> = (0..500)
        .map(|number| json!({ "body": "x", "group": format!("g{}", number % 3) }))
        .collect();
    host.post("/queues/in/batch", &json!({ "messages": messages }));
    pause(&host, "/handlers/in/pause");
    wait_halted(&host);
    wait_for("what is under way to end", || {
        (host.count("in", "in-flight") == 0).then_some(())
    });
    let left = host.count("in", "ready");
    let received = order(&host, "/queues/in/receive?max=1000&wait=0s");
    for message in received["messages"].as_array().unwrap() {
        assert_eq!(message["receive-count"], 1, "{message}");
        let release = json!({ "receipt": message["receipt"], "action": "release" });
        host.post("/queues/in/settle", &release);
    }
    assert_eq!(host.count("in", "ready"), left);
    order(&host, "/handlers/in/resume");
    host.wait_empty("in");
    assert_eq!(host.count("in", "dead"), 0);
}

#[test]
fn a_queue_of_sqs_can_be_paused() {
    let mut stage = Stage::new("pausing");
    let remote = stage.queue("in", &[], "");
    let place = stage.place();
    place.install("in", &no_op(), "");
    let host = place.start();
    host.wait_ready();
    pause(&host, "/queues/in/pause");
    wait_halted(&host);
    remote.put("x");
    let received = order(&host, "/queues/in/receive?wait=1s");
    assert_eq!(received["messages"], json!([]));
    assert_eq!(remote.numbers().0, 1);
    order(&host, "/queues/in/resume");
    remote.wait_gone();
}

#[test]
fn a_damaged_record_of_pauses_is_named_and_pauses_nothing() {
    let (place, host) = with_handler(&no_op(), "");
    pause(&host, "/queues/in/pause");
    host.kill();
    std::fs::write(place.data().join("halts.json"), "{").unwrap();
    let host = place.start();
    host.wait_ready();
    let event = host.event("nothing is paused by an operator");
    let damage = event["fields"]["damage"].as_str().unwrap();
    assert!(damage.contains("halts.json can't be understood"), "{damage}");
    host.send("in", b"x");
    host.wait_empty("in");
}

#[test]
fn a_host_that_ends_when_empty_does_not_wait_for_a_pause_without_an_end() {
    let (mut place, host) = with_handler(&no_op(), "");
    pause(&host, "/queues/in/pause");
    host.send("in", b"x");
    host.kill();
    place.arguments.push("--until-empty".to_owned());
    let output = place.run().output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{log}");
    assert!(log.contains("or that is paused by an operator"), "{log}");
}

#[test]
fn a_pause_that_can_not_be_meant_is_refused_by_name() {
    let (_place, host) = with_handler(&no_op(), "");
    let error = |path: &str| order(&host, path)["error"].as_str().unwrap_or_default().to_owned();
    let long = "x".repeat(1001);
    for (path, expected) in [
        ("/queues/nothing/pause".to_owned(), "no queue \"nothing\""),
        ("/handlers/nothing/pause".to_owned(), "no handler \"nothing\""),
        (
            format!("/queues/in/pause?reason={long}"),
            "reason: use at most 1000 bytes",
        ),
        (
            "/queues/in/pause?until=2001-01-01T00:00:00Z".to_owned(),
            "use a time that is not over",
        ),
        (
            "/queues/in/pause?until=2099-01-01T00:00:00".to_owned(),
            "with a Z at its end",
        ),
        ("/queues/in/pause?until=2400-01-01T00:00:00Z".to_owned(), "until=2400"),
        (
            "/queues/in/pause?for=1h&until=2400-01-01T00:00:00Z".to_owned(),
            "for and until: use one of them",
        ),
        ("/queues/in/pause?for=soon".to_owned(), "for=soon: use a duration"),
    ] {
        let why = error(&path);
        assert!(why.contains(expected), "{path}: {why}");
    }
    assert_eq!(host.counts("in")["halt"], Value::Null);
}
