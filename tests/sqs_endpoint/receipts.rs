//! Visibility timeouts and receipt handles.

use super::*;

#[test]
fn a_message_can_be_deleted_again_and_again() {
    let endpoint = Endpoint::start();
    let (standard, fifo) = (endpoint.standard(&[]), endpoint.fifo(&[]));
    endpoint.client.send(&standard, "1");
    endpoint.client.send_to_group(&fifo, "a", "1");
    for queue in [standard, fifo] {
        let handle = endpoint.take(&queue, 30).remove(0).handle;
        assert!(endpoint.client.delete(&queue, &handle).is_ok());
        assert!(endpoint.client.delete(&queue, &handle).is_ok());
        let change = json!({ "QueueUrl": queue, "ReceiptHandle": handle, "VisibilityTimeout": 5 });
        let text = "Message does not exist or is not available for visibility timeout change.";
        endpoint.check_refused("ChangeMessageVisibility", &change, "InvalidParameterValue", text);
    }
}

#[test]
fn a_handle_of_a_standard_queue_counts_after_its_visibility_timeout() {
    let endpoint = Endpoint::start();
    let queue = endpoint.standard(&[]);
    endpoint.client.send(&queue, "1");
    let late = endpoint.take(&queue, 1).remove(0).handle;
    until(|| endpoint.client.counts(&queue) == (1, 0, 0));
    endpoint.client.change_visibility(&queue, &late, 600).unwrap();
    assert_eq!(endpoint.client.counts(&queue), (0, 1, 0));
    endpoint.client.change_visibility(&queue, &late, 0).unwrap();
    endpoint.client.delete(&queue, &late).unwrap();
    assert_eq!(endpoint.client.counts(&queue), (0, 0, 0));
}

#[test]
fn a_stale_handle_of_a_standard_queue_still_ends_the_visibility_timeout() {
    let endpoint = Endpoint::start();
    let queue = endpoint.standard(&[]);
    endpoint.client.send(&queue, "1");
    let stale = endpoint.take(&queue, 0).remove(0).handle;
    let current = endpoint.take(&queue, 600).remove(0).handle;
    assert_ne!(stale, current);
    endpoint.client.change_visibility(&queue, &stale, 0).unwrap();
    let third = endpoint.take(&queue, 600).remove(0);
    assert_eq!(third.receive_count(), 3);
    // A stale handle deletes nothing, and says that it did.
    endpoint.client.delete(&queue, &stale).unwrap();
    assert_eq!(endpoint.client.counts(&queue), (0, 1, 0));
}

#[test]
fn an_expired_handle_of_a_fifo_queue_deletes_nothing() {
    let endpoint = Endpoint::start();
    let queue = endpoint.fifo(&[]);
    endpoint.client.send_to_group(&queue, "a", "1");
    let late = endpoint.take(&queue, 1).remove(0).handle;
    until(|| endpoint.client.counts(&queue) == (1, 0, 0));
    let delete = json!({ "QueueUrl": queue, "ReceiptHandle": late });
    let text = "Reason: The receipt handle has expired.";
    endpoint.check_refused("DeleteMessage", &delete, "InvalidParameterValue", text);
    assert_eq!(endpoint.client.counts(&queue), (1, 0, 0));
}

#[test]
fn a_client_has_a_message_for_twelve_hours_in_all() {
    let endpoint = Endpoint::start();
    let queue = endpoint.standard(&[]);
    endpoint.client.send(&queue, "1");
    let handle = endpoint.take(&queue, 30).remove(0).handle;
    let change = |seconds: i64| json!({ "QueueUrl": queue, "ReceiptHandle": handle, "VisibilityTimeout": seconds });
    for seconds in [43_201, -1] {
        let text = "Must be >= 0 and <= 43200, if provided.";
        endpoint.check_refused(
            "ChangeMessageVisibility",
            &change(seconds),
            "InvalidParameterValue",
            text,
        );
    }
    until(|| {
        endpoint
            .client
            .call("ChangeMessageVisibility", &change(43_200))
            .is_err()
    });
    let text = "Total VisibilityTimeout for the message is beyond the limit [43200 seconds].";
    endpoint.check_refused(
        "ChangeMessageVisibility",
        &change(43_200),
        "InvalidParameterValue",
        text,
    );
    endpoint.client.change_visibility(&queue, &handle, 0).unwrap();
    assert_eq!(endpoint.take(&queue, 30).len(), 1);
}

#[test]
fn a_handle_that_no_queue_gave_is_refused_alone() {
    let endpoint = Endpoint::start();
    let queue = endpoint.standard(&[]);
    endpoint.client.send(&queue, "1");
    let good = endpoint.take(&queue, 30).remove(0).handle;
    let delete = json!({ "QueueUrl": queue, "ReceiptHandle": "garbage" });
    let text = "The input receipt handle \"garbage\" is not a valid receipt handle.";
    endpoint.check_refused("DeleteMessage", &delete, "ReceiptHandleIsInvalid", text);
    let entry = |id: &str, handle: &str| json!({ "Id": id, "ReceiptHandle": handle, "VisibilityTimeout": 60 });
    let batch = json!({ "QueueUrl": queue, "Entries": [entry("a", &good), entry("b", "garbage")] });
    for action in ["ChangeMessageVisibilityBatch", "DeleteMessageBatch"] {
        let answer = endpoint.client.expect(action, &batch);
        assert_eq!(answer["Successful"], json!([{ "Id": "a" }]), "{action}");
        let failed = &answer["Failed"][0];
        assert_eq!(failed["Id"], "b");
        assert_eq!(failed["SenderFault"], true);
        assert_eq!(failed["Code"], "ReceiptHandleIsInvalid");
    }
}

#[test]
fn receives_are_counted_and_the_first_one_is_remembered() {
    let endpoint = Endpoint::start();
    let queue = endpoint.standard(&[("VisibilityTimeout", "0")]);
    endpoint.client.send(&queue, "1");
    let receives: Vec<_> = (0..3)
        .map(|_| endpoint.client.receive(&queue, 1, 0).remove(0))
        .collect();
    let counts: Vec<_> = receives.iter().map(Received::receive_count).collect();
    assert_eq!(counts, [1, 2, 3]);
    for name in ["ApproximateFirstReceiveTimestamp", "SentTimestamp", "SenderId"] {
        assert!(receives[0].system[name].is_string(), "{name}");
        assert_eq!(receives[0].system[name], receives[2].system[name], "{name}");
    }
    let plain = endpoint.client.expect("ReceiveMessage", &json!({ "QueueUrl": queue }));
    let message = &plain["Messages"][0];
    assert!(message.get("Attributes").is_none() && message.get("MessageAttributes").is_none());
}
