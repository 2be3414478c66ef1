//! Redrive policies, dead letters, and the tasks that move them.

use super::*;

#[test]
fn a_dead_letter_keeps_what_it_was_and_tells_where_it_came_from() {
    let endpoint = Endpoint::start();
    let (queue, dead) = endpoint.with_dead_letters("", 1);
    let attributes = json!({ "MessageAttributes": { "kind": { "DataType": "String", "StringValue": "new" } } });
    let id = endpoint.client.send_with(&queue, "1", attributes);
    let first = endpoint.take(&queue, 0).remove(0);
    // It moves when it is received once too often, and not before.
    assert_eq!(endpoint.client.counts(&dead), (0, 0, 0));
    assert!(endpoint.take(&queue, 0).is_empty());
    let letter = endpoint.take(&dead, 30).remove(0);
    assert_eq!((letter.id, letter.body), (id, first.body));
    assert_eq!(letter.attributes, first.attributes);
    assert_eq!(letter.system["DeadLetterQueueSourceArn"], endpoint.client.arn(&queue));
    assert_eq!(letter.system["ApproximateReceiveCount"], "2");
    for name in ["SentTimestamp", "ApproximateFirstReceiveTimestamp"] {
        assert_eq!(letter.system[name], first.system[name], "{name}");
    }
}

#[test]
fn a_dead_letter_of_a_fifo_queue_leaves_its_group_to_the_next() {
    let endpoint = Endpoint::start();
    let (queue, dead) = endpoint.with_dead_letters(".fifo", 1);
    for body in ["1", "2"] {
        endpoint.client.send_to_group(&queue, "a", body);
    }
    assert_eq!(
        bodies(&endpoint.client.receive_with(&queue, json!({ "VisibilityTimeout": 0 }))),
        ["1"]
    );
    assert_eq!(bodies(&endpoint.client.receive(&queue, 1, 0)), ["2"]);
    let letter = endpoint.take(&dead, 30).remove(0);
    assert_eq!((letter.body.as_str(), letter.group()), ("1", Some("a")));
    assert_eq!(letter.system["MessageDeduplicationId"], letter.id);
}

#[test]
fn a_dead_letter_queue_knows_its_sources() {
    let endpoint = Endpoint::start();
    let (queue, dead) = endpoint.with_dead_letters("", 3);
    let sources = |of: &str| {
        endpoint
            .client
            .expect("ListDeadLetterSourceQueues", &json!({ "QueueUrl": of }))
    };
    assert_eq!(sources(&dead)["queueUrls"], json!([queue]));
    assert_eq!(sources(&queue)["queueUrls"], json!([]));
    let policy: Value =
        serde_json::from_str(endpoint.client.attributes(&queue)["RedrivePolicy"].as_str().unwrap()).unwrap();
    assert_eq!(
        policy,
        json!({ "deadLetterTargetArn": endpoint.client.arn(&dead), "maxReceiveCount": 3 })
    );
    let clear = json!({ "QueueUrl": queue, "Attributes": { "RedrivePolicy": "" } });
    endpoint.client.expect("SetQueueAttributes", &clear);
    assert_eq!(sources(&dead)["queueUrls"], json!([]));
    assert!(endpoint.client.attributes(&queue).get("RedrivePolicy").is_none());
}

#[test]
fn a_redrive_policy_that_can_not_be_kept_is_refused() {
    let endpoint = Endpoint::start();
    let fifo = endpoint.fifo(&[]);
    let closed = endpoint.client.create_queue(
        "closed",
        &[("RedriveAllowPolicy", r#"{"redrivePermission":"denyAll"}"#)],
    );
    let policy =
        |target: &str, count: u32| json!({ "deadLetterTargetArn": target, "maxReceiveCount": count }).to_string();
    let missing = "arn:aws:sqs:us-east-1:000000000000:missing";
    for policy in [
        policy(missing, 1),
        policy(&endpoint.client.arn(&fifo), 1),
        policy(&endpoint.client.arn(&closed), 1),
        policy(&endpoint.client.arn(&closed), 0),
        policy("dummy", 1),
        "{}".to_owned(),
    ] {
        let create = json!({ "QueueName": "refused", "Attributes": { "RedrivePolicy": policy } });
        endpoint.check_refused("CreateQueue", &create, "InvalidParameterValue", "RedrivePolicy");
    }
    let url = json!({ "QueueName": "refused" });
    endpoint.check_refused(
        "GetQueueUrl",
        &url,
        "QueueDoesNotExist",
        "The specified queue does not exist.",
    );
}

#[test]
fn a_move_task_puts_dead_letters_back_where_they_came_from() {
    let endpoint = Endpoint::start();
    let (queue, dead) = endpoint.with_dead_letters("", 1);
    endpoint.client.send(&queue, "1");
    assert_eq!(endpoint.take(&queue, 0).len(), 1);
    assert!(endpoint.take(&queue, 0).is_empty());
    let source = json!({ "SourceArn": endpoint.client.arn(&dead) });
    endpoint.client.expect("StartMessageMoveTask", &source);
    let listed = || endpoint.client.expect("ListMessageMoveTasks", &source)["Results"][0].clone();
    until(|| listed()["Status"] == "COMPLETED");
    assert_eq!(listed()["ApproximateNumberOfMessagesMoved"], 1);
    assert!(listed().get("TaskHandle").is_none());
    assert_eq!(bodies(&endpoint.take(&queue, 30)), ["1"]);
}

#[test]
fn a_move_task_that_runs_can_be_cancelled_and_is_the_only_one_of_its_source() {
    let endpoint = Endpoint::start();
    let (_, dead) = endpoint.with_dead_letters("", 1);
    let other = endpoint.client.create_queue("other", &[]);
    for number in 0..10 {
        endpoint.client.send(&dead, &number.to_string());
    }
    let start = json!({
        "SourceArn": endpoint.client.arn(&dead),
        "DestinationArn": endpoint.client.arn(&other),
        "MaxNumberOfMessagesPerSecond": 1,
    });
    let handle = endpoint.client.expect("StartMessageMoveTask", &start)["TaskHandle"].clone();
    let text = "There is already a task running.";
    endpoint.check_refused("StartMessageMoveTask", &start, "InvalidParameterValue", text);
    until(|| endpoint.client.counts(&other).0 > 0);
    endpoint
        .client
        .expect("CancelMessageMoveTask", &json!({ "TaskHandle": handle }));
    let listed = || {
        endpoint
            .client
            .expect("ListMessageMoveTasks", &json!({ "SourceArn": start["SourceArn"] }))
    };
    until(|| listed()["Results"][0]["Status"] == "CANCELLED");
    assert!(endpoint.client.counts(&dead).0 > 0);
    let text = "Task does not exist.";
    endpoint.check_refused(
        "CancelMessageMoveTask",
        &json!({ "TaskHandle": handle }),
        "ResourceNotFoundException",
        text,
    );
}

#[test]
fn a_move_task_needs_another_queue_of_the_same_type() {
    let endpoint = Endpoint::start();
    let (_, dead) = endpoint.with_dead_letters("", 1);
    let ordered = endpoint.client.create_queue("ordered.fifo", &[("FifoQueue", "true")]);
    for destination in [&dead, &ordered] {
        let start = json!({
            "SourceArn": endpoint.client.arn(&dead),
            "DestinationArn": endpoint.client.arn(destination),
        });
        endpoint.check_refused(
            "StartMessageMoveTask",
            &start,
            "InvalidParameterValue",
            "DestinationArn",
        );
    }
}

#[test]
fn a_move_task_needs_a_dead_letter_queue_that_is_there() {
    let endpoint = Endpoint::start();
    let (queue, _) = endpoint.with_dead_letters("", 1);
    let arn = endpoint.client.arn(&queue);
    let start = |arn: &str| json!({ "SourceArn": arn });
    let text = "Source queue must be configured as a Dead Letter Queue.";
    endpoint.check_refused("StartMessageMoveTask", &start(&arn), "InvalidParameterValue", text);
    let text = "The resource that you specified for the SourceArn parameter doesn't exist.";
    let missing = format!("{arn}-missing");
    for action in ["StartMessageMoveTask", "ListMessageMoveTasks"] {
        endpoint.check_refused(action, &start(&missing), "ResourceNotFoundException", text);
    }
    // The handle of a task of a queue that is not there.
    let handle = "eyJ0YXNrSWQiOiIxIiwic291cmNlQXJuIjoiYXJuOmF3czpzcXM6dXMtZWFzdC0xOjAwMDAwMDAwMDAwMDptaXNzaW5nIn0=";
    endpoint.check_refused(
        "CancelMessageMoveTask",
        &json!({ "TaskHandle": handle }),
        "ResourceNotFoundException",
        text,
    );
    let garbage = json!({ "TaskHandle": "garbage" });
    endpoint.check_refused("CancelMessageMoveTask", &garbage, "InvalidParameterValue", "TaskHandle");
}
