//! A host in memory lets the tests of an application do what no host with messages of worth does, if it was started for that.

use std::time::Duration;

use harness::{
    host::{Host, Place},
    let_pass,
    sqs_client::{Received, SqsClient},
};
use serde_json::Value;

fn spied() -> (Place, Host) {
    let mut place = Place::new();
    place.configure("[queues.orders]\nvisibility-timeout = \"5m\"\n");
    place.arguments = ["--ephemeral", "--spy"].map(str::to_owned).into();
    let host = place.start();
    (place, host)
}

fn ask(host: &Host, what: &str) -> (u16, Value) {
    let request = ureq::post(format!("{}/spy/{what}", host.url));
    let mut answer = request
        .config()
        .http_status_as_error(false)
        .build()
        .send_empty()
        .unwrap();
    let text = answer.body_mut().read_to_string().unwrap();
    (
        answer.status().as_u16(),
        serde_json::from_str(&text).unwrap_or(Value::Null),
    )
}

#[test]
fn a_test_waits_for_a_message_and_has_it_delivered_again() {
    let (_place, host) = spied();
    let (status, counts) = ask(&host, "wait?queue=orders&wait=10ms");
    assert_eq!((status, &counts["ready"]), (408, &0.into()));
    let waiting = std::thread::spawn({
        let url = host.url.clone();
        move || {
            ureq::post(format!("{url}/spy/wait?queue=orders&messages=2"))
                .send_empty()
                .unwrap()
                .status()
        }
    });
    host.send("orders", b"1");
    host.send("orders", b"2");
    assert_eq!(waiting.join().unwrap().as_u16(), 200);
    let client = SqsClient::new(&host.url);
    let queue = format!("{}/000000000000/orders", host.url);
    assert_eq!(client.receive(&queue, 10, 0).len(), 2);
    assert_eq!(
        ask(&host, "redeliver?queue=orders"),
        (200, serde_json::json!({ "messages": 2 }))
    );
    let again = client.receive(&queue, 10, 0);
    assert_eq!(again.iter().map(Received::receive_count).collect::<Vec<_>>(), [2, 2]);
}

#[test]
fn the_clock_of_the_queues_goes_forward_when_a_test_says_so() {
    let (_place, host) = spied();
    let client = SqsClient::new(&host.url);
    let queue = client.create_queue(
        "q",
        &[("VisibilityTimeout", "3600"), ("MessageRetentionPeriod", "7200")],
    );
    client
        .try_send(&queue, "delayed", serde_json::json!({ "DelaySeconds": 900 }))
        .unwrap();
    client.send(&queue, "hidden");
    assert_eq!(client.receive(&queue, 10, 0).len(), 1);
    assert_eq!(client.receive(&queue, 10, 0).len(), 0);
    // A receive that waits sees the clock move.
    let waiting = std::thread::spawn({
        let (client, queue) = (client.clone(), queue.clone());
        move || client.receive(&queue, 10, 20)
    });
    let_pass(Duration::from_millis(50));
    assert_eq!(ask(&host, "clock?forward=20m").0, 204);
    assert_eq!(waiting.join().unwrap().first().unwrap().body, "delayed");
    assert_eq!(ask(&host, "clock?forward=1h").0, 204);
    assert_eq!(
        client.receive(&queue, 10, 0).len(),
        2,
        "both visibility timeouts ran out"
    );
    assert_eq!(ask(&host, "clock?forward=3h").0, 204);
    assert_eq!(client.counts(&queue), (0, 0, 0), "both are past the retention period");
}

#[test]
fn a_reset_leaves_what_the_host_declares_and_nothing_in_it() {
    let (_place, host) = spied();
    let client = SqsClient::new(&host.url);
    let queue = client.create_queue("q", &[]);
    client.send(&queue, "x");
    host.send("orders", b"1");
    host.send("orders", b"2");
    host.post("/queues/orders/receive", &Value::Null);
    assert_eq!(ask(&host, "reset").0, 204);
    assert!(
        client
            .try_send(&queue, "x", Value::Object(serde_json::Map::new()))
            .is_err()
    );
    let counts = host.counts("orders");
    assert_eq!((&counts["ready"], &counts["in-flight"]), (&0.into(), &0.into()));
}

#[test]
fn a_host_that_was_not_started_for_it_has_no_spy() {
    let place = Place::new();
    place.configure("[queues.orders]\n");
    let host = place.start();
    assert_eq!(ask(&host, "reset").0, 404);
    let mut command = place.command();
    let output = command.args(["run", "plugins", "--spy"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("--ephemeral"), "{text}");
}

#[test]
fn a_request_that_leaves_out_what_it_needs_is_refused() {
    let (_place, host) = spied();
    for what in ["wait", "redeliver", "clock"] {
        assert_eq!(ask(&host, what).0, 400, "{what}");
    }
}
