//! Delays, and receives that wait.

use super::*;

#[test]
fn a_delayed_message_is_counted_as_delayed_until_its_time() {
    let endpoint = Endpoint::start();
    let queue = endpoint.standard(&[("DelaySeconds", "600")]);
    let send = |body: &str, seconds: u64| {
        endpoint
            .client
            .send_with(&queue, body, json!({ "DelaySeconds": seconds }));
    };
    endpoint.client.send(&queue, "as the queue says");
    send("later", 1);
    assert_eq!(endpoint.client.counts(&queue), (0, 0, 2));
    assert_eq!(bodies(&endpoint.client.receive(&queue, 1, 20)), ["later"]);
    send("now", 0);
    assert_eq!(bodies(&endpoint.take(&queue, 30)), ["now"]);
    assert_eq!(endpoint.client.counts(&queue), (0, 2, 1));
}

#[test]
fn a_receive_waits_as_long_as_it_says_or_else_as_the_queue_says() {
    let endpoint = Endpoint::start();
    let queue = endpoint.standard(&[("ReceiveMessageWaitTimeSeconds", "1")]);
    let wait = |more: Value| {
        let begin = Instant::now();
        assert!(endpoint.client.receive_with(&queue, more).is_empty());
        begin.elapsed()
    };
    assert!(wait(json!({})) >= Duration::from_secs(1));
    assert!(wait(json!({ "WaitTimeSeconds": 2 })) >= Duration::from_secs(2));
    let empty = endpoint
        .client
        .expect("ReceiveMessage", &json!({ "QueueUrl": queue, "WaitTimeSeconds": 0 }));
    assert_eq!(empty, json!({}));
}

#[test]
fn whatever_makes_a_message_visible_wakes_a_receive_that_waits() {
    let endpoint = Endpoint::start();
    let queue = endpoint.standard(&[]);
    let wake = |act: &dyn Fn()| {
        thread::scope(|scope| {
            let waiting = scope.spawn(|| endpoint.poll(&queue));
            endpoint.wait_polling();
            act();
            waiting.join().unwrap().remove(0)
        })
    };
    let message = wake(&|| drop(endpoint.client.send(&queue, "1")));
    let again = wake(&|| drop(endpoint.client.change_visibility(&queue, &message.handle, 0)));
    assert_eq!((again.id, again.body), (message.id, message.body));
}

#[test]
fn a_purge_deletes_what_is_in_flight_too_and_comes_once_a_minute() {
    let endpoint = Endpoint::start();
    let queue = endpoint.standard(&[]);
    for body in ["1", "2"] {
        endpoint.client.send(&queue, body);
    }
    let held = endpoint.client.receive(&queue, 1, 0).remove(0);
    let purge = json!({ "QueueUrl": queue });
    endpoint.client.expect("PurgeQueue", &purge);
    assert_eq!(endpoint.client.counts(&queue), (0, 0, 0));
    endpoint.client.delete(&queue, &held.handle).unwrap();
    let text = "Only one PurgeQueue operation on orders is allowed every 60 seconds.";
    endpoint.check_refused("PurgeQueue", &purge, "PurgeQueueInProgress", text);
    endpoint.client.delete_queue(&queue);
    let again = endpoint.standard(&[]);
    endpoint.client.expect("PurgeQueue", &json!({ "QueueUrl": again }));
}
