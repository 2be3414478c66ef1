//! FIFO queues: groups, deduplication, and receives that are asked for again.

use super::*;

fn send_in_order(endpoint: &Endpoint, queue: &str, group: &str, messages: &[&str]) {
    for body in messages {
        endpoint.client.send_to_group(queue, group, body);
    }
}

#[test]
fn a_receive_takes_several_messages_of_a_group_and_blocks_the_group() {
    let endpoint = Endpoint::start();
    let queue = endpoint.fifo(&[]);
    send_in_order(&endpoint, &queue, "a", &["1", "2", "3", "4"]);
    let first = endpoint.client.receive(&queue, 3, 0);
    assert_eq!(bodies(&first), ["1", "2", "3"]);
    assert!(endpoint.take(&queue, 30).is_empty());
    endpoint.client.delete(&queue, &first[0].handle).unwrap();
    assert!(endpoint.take(&queue, 30).is_empty());
    for message in &first {
        endpoint.client.delete(&queue, &message.handle).unwrap();
    }
    assert_eq!(bodies(&endpoint.take(&queue, 30)), ["4"]);
}

#[test]
fn messages_of_a_group_return_in_their_order() {
    let endpoint = Endpoint::start();
    let queue = endpoint.fifo(&[]);
    send_in_order(&endpoint, &queue, "a", &["1", "2", "3"]);
    assert_eq!(endpoint.take(&queue, 1).len(), 3);
    let again = endpoint
        .client
        .receive_with(&queue, json!({ "MaxNumberOfMessages": 10, "WaitTimeSeconds": 20 }));
    assert_eq!(bodies(&again), ["1", "2", "3"]);
    let release = |message: &Received| endpoint.client.change_visibility(&queue, &message.handle, 0).unwrap();
    release(&again[0]);
    // Those behind it are still in flight.
    assert_eq!(bodies(&endpoint.take(&queue, 30)), ["1"]);
    release(&again[2]);
    assert!(endpoint.take(&queue, 30).is_empty());
}

#[test]
fn a_message_that_is_extended_blocks_those_behind_it() {
    let endpoint = Endpoint::start();
    let queue = endpoint.fifo(&[]);
    send_in_order(&endpoint, &queue, "a", &["1", "2", "3", "4"]);
    let held = endpoint.client.receive(&queue, 3, 0);
    // At once, so that the time of none of them ends in between.
    let entry = |(held, seconds): (&Received, u64)| json!({ "Id": held.body, "ReceiptHandle": held.handle, "VisibilityTimeout": seconds });
    let entries: Vec<_> = held.iter().zip([1, 600, 1]).map(entry).collect();
    let request = json!({ "QueueUrl": queue, "Entries": entries });
    let answer = endpoint.client.expect("ChangeMessageVisibilityBatch", &request);
    assert_eq!(answer["Successful"].as_array().map(Vec::len), Some(3), "{answer}");
    let again = endpoint
        .client
        .receive_with(&queue, json!({ "MaxNumberOfMessages": 10, "WaitTimeSeconds": 20 }));
    assert_eq!(bodies(&again), ["1"]);
}

#[test]
fn a_deletion_wakes_a_receive_that_waits_for_the_group() {
    let endpoint = Endpoint::start();
    let queue = endpoint.fifo(&[]);
    send_in_order(&endpoint, &queue, "a", &["1", "2"]);
    let first = endpoint.client.receive(&queue, 1, 0).remove(0);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| endpoint.poll(&queue));
        endpoint.wait_polling();
        endpoint.client.delete(&queue, &first.handle).unwrap();
        assert_eq!(bodies(&waiting.join().unwrap()), ["2"]);
    });
}

#[test]
fn a_duplicate_is_the_first_message_until_the_queue_is_purged() {
    let endpoint = Endpoint::start();
    let queue = endpoint.fifo(&[]);
    let send = |body: &str| {
        let more = json!({ "MessageGroupId": "a", "MessageDeduplicationId": "1" });
        endpoint.client.try_send(&queue, body, more).unwrap()
    };
    let (first, second) = (send("1"), send("2"));
    assert_eq!(first["MessageId"], second["MessageId"]);
    assert_eq!(first["SequenceNumber"], second["SequenceNumber"]);
    assert_eq!(first["SequenceNumber"].as_str().map(str::len), Some(20));
    let message = endpoint.take(&queue, 30).remove(0);
    assert_eq!(message.system["SequenceNumber"], first["SequenceNumber"]);
    endpoint.client.delete(&queue, &message.handle).unwrap();
    assert_eq!(send("3")["MessageId"], first["MessageId"]);
    endpoint.client.expect("PurgeQueue", &json!({ "QueueUrl": queue }));
    assert_ne!(send("4")["MessageId"], first["MessageId"]);
    assert_eq!(bodies(&endpoint.take(&queue, 30)), ["4"]);
}

#[test]
fn a_deduplication_id_counts_within_the_scope_of_the_queue() {
    let endpoint = Endpoint::start();
    let attributes = [
        ("DeduplicationScope", "messageGroup"),
        ("FifoThroughputLimit", "perMessageGroupId"),
    ];
    let queue = endpoint.fifo(&attributes);
    let send = |group: &str| {
        let more = json!({ "MessageGroupId": group, "MessageDeduplicationId": "1" });
        endpoint.client.send_with(&queue, "x", more)
    };
    let first = send("a");
    assert_ne!(send("b"), first);
    assert_eq!(send("a"), first);
}

#[test]
fn the_body_stands_for_the_deduplication_id_where_the_queue_says_so() {
    let endpoint = Endpoint::start();
    let queue = endpoint.fifo(&[("ContentBasedDeduplication", "true")]);
    let send = |body: &str| {
        endpoint
            .client
            .send_with(&queue, body, json!({ "MessageGroupId": "a" }))
    };
    assert_eq!(send("same"), send("same"));
    let message = endpoint.take(&queue, 30).remove(0);
    let digest = "0967115f2813a3541eaef77de9d9d5773f1c0c04314b0bbfe4ff3b3b1c55b5d5";
    assert_eq!(message.system["MessageDeduplicationId"], digest);
    let strict = endpoint.client.create_queue("strict.fifo", &[("FifoQueue", "true")]);
    let request = json!({ "QueueUrl": strict, "MessageBody": "x", "MessageGroupId": "a" });
    let text =
        "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly";
    endpoint.check_refused("SendMessage", &request, "InvalidParameterValue", text);
    let request = json!({ "QueueUrl": strict, "MessageBody": "x", "MessageDeduplicationId": "1" });
    let text = "The request must contain the parameter MessageGroupId.";
    endpoint.check_refused("SendMessage", &request, "MissingParameter", text);
}

#[test]
fn an_attempt_id_brings_the_same_messages_again() {
    let endpoint = Endpoint::start();
    let queue = endpoint.fifo(&[]);
    send_in_order(&endpoint, &queue, "a", &["1", "2", "3"]);
    let receive = |id: &str| {
        let more = json!({ "MaxNumberOfMessages": 2, "ReceiveRequestAttemptId": id });
        let handles = endpoint.client.receive_with(&queue, more).into_iter();
        handles.map(|message| message.handle).collect::<Vec<_>>()
    };
    let first = receive("x");
    assert_eq!(first.len(), 2);
    assert_eq!(receive("x"), first);
    assert!(receive("y").is_empty());
    endpoint.client.delete(&queue, &first[0]).unwrap();
    assert!(receive("x").is_empty());
}

#[test]
fn a_fifo_queue_delays_all_of_its_messages_or_none() {
    let endpoint = Endpoint::start();
    let queue = endpoint.fifo(&[("DelaySeconds", "1")]);
    endpoint.client.send_to_group(&queue, "a", "1");
    assert_eq!(endpoint.client.counts(&queue), (0, 0, 1));
    assert_eq!(bodies(&endpoint.client.receive(&queue, 1, 20)), ["1"]);
    let request = json!({
        "QueueUrl": queue, "MessageBody": "x", "MessageGroupId": "a", "MessageDeduplicationId": "2", "DelaySeconds": 1,
    });
    let text = "The request include parameter that is not valid for this queue type.";
    endpoint.check_refused("SendMessage", &request, "InvalidParameterValue", text);
}
