//! Queues that clients make by the SQS protocol outlive the host as they were, and those that clients delete do not, however the
//! host ends.

#![expect(clippy::indexing_slicing, reason = "the steps of a test must succeed")]

use std::{thread, time::Duration};

use harness::{
    host::{Host, Place},
    let_pass,
    sqs_client::SqsClient,
    wait_for,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};

fn url(host: &Host, queue: &str) -> String {
    format!("{}/000000000000/{queue}", host.url)
}

fn client(host: &Host) -> SqsClient {
    SqsClient::new(&host.url)
}

/// All that a client sees of a queue but the numbers of messages.
fn seen(host: &Host, queue: &str) -> Value {
    let client = client(host);
    let mut attributes = client.attributes(&url(host, queue));
    let object = attributes.as_object_mut().unwrap();
    object.retain(|name, _| !name.starts_with("Approximate"));
    let tags = client.expect("ListQueueTags", &json!({ "QueueUrl": url(host, queue) }));
    json!({ "attributes": attributes, "tags": tags["Tags"] })
}

fn names(host: &Host) -> Vec<String> {
    let listed = client(host).expect("ListQueues", &json!({}));
    let urls = listed["QueueUrls"].as_array().cloned().unwrap_or_default();
    urls.iter()
        .map(|url| url.as_str().unwrap().rsplit('/').next().unwrap().to_owned())
        .collect()
}

fn make_all(host: &Host) {
    let client = client(host);
    let dead = client.create_queue("dead", &[("MessageRetentionPeriod", "1209600")]);
    let policy = json!({ "deadLetterTargetArn": client.arn(&dead), "maxReceiveCount": 3 }).to_string();
    let attributes = json!({
        "VisibilityTimeout": "77", "DelaySeconds": "1", "MaximumMessageSize": "2048", "ReceiveMessageWaitTimeSeconds": "2",
        "RedrivePolicy": policy, "MessageRetentionPeriod": "3600",
    });
    let tags = json!({ "team": "blue", "käse": "brie" });
    client.expect(
        "CreateQueue",
        &json!({ "QueueName": "orders", "Attributes": attributes, "tags": tags }),
    );
    let fifo = [
        ("FifoQueue", "true"),
        ("ContentBasedDeduplication", "true"),
        ("DeduplicationScope", "messageGroup"),
        ("FifoThroughputLimit", "perMessageGroupId"),
    ];
    client.create_queue("groups.fifo", &fifo);
    client.create_queue("plain", &[]);
    client.expect(
        "SetQueueAttributes",
        &json!({ "QueueUrl": url(host, "plain"), "Attributes": { "VisibilityTimeout": "5" } }),
    );
    client.expect(
        "TagQueue",
        &json!({ "QueueUrl": url(host, "plain"), "Tags": { "later": "yes" } }),
    );
    client.expect(
        "AddPermission",
        &json!({ "QueueUrl": url(host, "plain"), "Label": "l", "AWSAccountIds": ["111122223333"], "Actions": ["SendMessage"] }),
    );
}

#[test]
fn queues_of_clients_are_there_after_a_stop_and_a_kill_as_they_were() {
    const QUEUES: [&str; 4] = ["dead", "orders", "groups.fifo", "plain"];
    let place = Place::new();
    let host = place.start();
    make_all(&host);
    let sent = client(&host).send(&url(&host, "plain"), "kept");
    let first = QUEUES.map(|queue| seen(&host, queue));
    let all = names(&host);
    host.kill();
    let host = place.start();
    assert_eq!(QUEUES.map(|queue| seen(&host, queue)), first);
    assert_eq!(names(&host), all);
    assert_eq!(host.terminate().0.code(), Some(0));
    let host = place.start();
    assert_eq!(QUEUES.map(|queue| seen(&host, queue)), first);
    assert_eq!(names(&host), all);
    let received = client(&host).receive(&url(&host, "plain"), 1, 0);
    assert_eq!(received[0].id, sent);
}

#[test]
fn a_deleted_queue_is_gone_after_a_kill_and_its_name_is_free() {
    let place = Place::new();
    let host = place.start();
    let queue = client(&host).create_queue("orders", &[("VisibilityTimeout", "77")]);
    client(&host).send(&queue, "old");
    client(&host).delete_queue(&queue);
    host.kill();
    let host = place.start();
    assert_eq!(names(&host), [""; 0]);
    let gone = client(&host)
        .try_send(&url(&host, "orders"), "x", json!({}))
        .unwrap_err();
    assert!(gone.is("QueueDoesNotExist"), "{gone:?}");
    let queue = client(&host).create_queue("orders", &[("VisibilityTimeout", "5")]);
    assert_eq!(client(&host).counts(&queue), (0, 0, 0));
    host.kill();
    let host = place.start();
    assert_eq!(seen(&host, "orders")["attributes"]["VisibilityTimeout"], "5");
    assert_eq!(client(&host).counts(&url(&host, "orders")), (0, 0, 0));
}

/// How many messages the file holds, in queues with or without a name.
fn stored(place: &Place) -> i64 {
    let connection = rusqlite::Connection::open(place.data().join("queues.db")).unwrap();
    connection
        .query_row("SELECT count(*) FROM messages", [], |row| row.get(0))
        .unwrap()
}

#[test]
fn a_deletion_that_a_kill_interrupts_leaves_nothing_that_comes_back() {
    const ROUNDS: usize = 8;
    const MESSAGES: usize = 10_000;
    let mut random = StdRng::seed_from_u64(0xde1e);
    let mut cut = 0;
    let is_there = |host: &Host| names(host).contains(&"orders".to_owned());
    for round in 0..ROUNDS {
        let place = Place::new();
        place.fill("orders", MESSAGES, b"old", 1000);
        let host = place.start();
        let moment = Duration::from_millis(random.random_range(0..60));
        let answered = thread::scope(|scope| {
            let deleting = scope.spawn(|| {
                client(&host)
                    .call("DeleteQueue", &json!({ "QueueUrl": url(&host, "orders") }))
                    .is_ok()
            });
            if round % 2 == 0 {
                // Its messages go after its name.
                wait_for("the deletion to begin", || (!is_there(&host)).then_some(()));
            }
            let_pass(moment);
            host.signal("KILL");
            deleting.join().unwrap()
        });
        drop(host);
        let host = place.start();
        let is_there = is_there(&host);
        assert!(!(answered && is_there), "what was answered has happened");
        if is_there {
            assert_eq!(
                client(&host).counts(&url(&host, "orders")).0,
                u64::try_from(MESSAGES).unwrap(),
                "all of it or nothing"
            );
            continue;
        }
        cut += 1;
        let queue = client(&host).create_queue("orders", &[]);
        client(&host).send(&queue, "new");
        wait_for("the room of the old messages", || (stored(&place) == 1).then_some(()));
        assert_eq!(client(&host).counts(&queue), (1, 0, 0));
        let received = client(&host).receive(&queue, 10, 0);
        assert_eq!(
            received.iter().map(|message| &*message.body).collect::<Vec<_>>(),
            ["new"]
        );
        assert_eq!(host.count("orders", "dead"), 0);
    }
    assert!(cut >= ROUNDS / 2, "{cut} deletions had begun when the host was killed");
}
