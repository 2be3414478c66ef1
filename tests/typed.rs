//! What a program that embeds the library may rely on: values go in, values come out, and none is lost or acknowledged
//! by the wrong one. On paused time, so a lease of minutes takes none.

#![expect(clippy::similar_names, reason = "what a receiver receives is received")]

use std::{
    collections::BTreeMap,
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use harness::faulty_queue::{Extensions, FaultyQueue};
use sandhog_queue::{
    Counts, FailureKind, Queue, QueueError, SendError, SettleError,
    message::{AttributeValue, Attributes, MAX_BODY_BYTES, Outgoing, QueueName},
    typed::{AcknowledgementError, ReceiveError, Receiver, Sender, Stream, TypedSendError},
};
use sandhog_simple::{SimpleStore, settings::Settings};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

const SECOND: Duration = Duration::from_secs(1);
/// What a test waits for a value that is there or never comes.
const MOMENT: Duration = Duration::from_millis(10);

async fn queue_with(change: impl FnOnce(&mut Settings)) -> Arc<dyn Queue> {
    let name = QueueName::new("values").unwrap();
    let mut settings = Settings::defaults(&name);
    change(&mut settings);
    SimpleStore::ephemeral().queue(name, settings).await.unwrap()
}

async fn queue() -> Arc<dyn Queue> {
    queue_with(|_| {}).await
}

/// A queue with one value in it, and its receiver.
async fn one_value() -> (Arc<dyn Queue>, Receiver<u32>) {
    let queue = queue().await;
    Sender::new(Arc::clone(&queue)).send(&7).await.unwrap();
    let receiver = Receiver::new(Arc::clone(&queue));
    (queue, receiver)
}

async fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    poll_fn(|context| Pin::new(&mut *stream).poll_next(context)).await
}

/// Asserts that a value is there for others at once, and that nothing says that it was received before.
async fn assert_released(receiver: &Receiver<u32>) {
    let again = receiver.receive_timeout(MOMENT).await.unwrap();
    assert_eq!((*again, again.receive_count().get()), (7, 1));
}

/// A queue with one value in it whose leases are all lost after half a second, and its receiver.
async fn losing_queue() -> (Arc<FaultyQueue>, Receiver<u32>) {
    let queue = queue_with(|settings| settings.visibility_timeout = SECOND).await;
    let queue = FaultyQueue::new(queue, [], Extensions::Lost);
    Sender::new(Arc::<FaultyQueue>::clone(&queue)).send(&7).await.unwrap();
    let receiver = Receiver::new(Arc::<FaultyQueue>::clone(&queue));
    (queue, receiver)
}

#[tokio::test(start_paused = true)]
async fn a_value_comes_out_as_it_went_in() {
    type Value = (String, Option<i64>, BTreeMap<String, Vec<u8>>);
    let queue = queue().await;
    let value: Value = (
        "\u{1f9f1} \"brick\"".to_owned(),
        Some(i64::MIN),
        BTreeMap::from([("a".to_owned(), vec![0, 255])]),
    );
    let id = Sender::new(Arc::clone(&queue)).send(&value).await.unwrap();
    let received = Receiver::<Value>::new(queue).receive().await.unwrap();
    assert_eq!(*received, value);
    assert_eq!(received.message().id, id);
}

#[tokio::test(start_paused = true)]
async fn the_body_is_plain_json() {
    let queue = queue().await;
    let sender = Sender::new(Arc::clone(&queue));
    sender.send(&("seven".to_owned(), 7)).await.unwrap();
    let receiver = Receiver::<(String, u32)>::new(Arc::clone(&queue));
    let received = receiver.receive().await.unwrap();
    assert_eq!(received.message().body, r#"["seven",7]"#);
    queue
        .send(Outgoing::new(" [ \"eight\", 8 ]\n").check().unwrap())
        .await
        .unwrap();
    assert_eq!(*receiver.receive().await.unwrap(), ("eight".to_owned(), 8));
}

#[tokio::test(start_paused = true)]
async fn options_travel_with_the_value() {
    let queue = queue().await;
    let sender = Sender::new(Arc::clone(&queue));
    let attributes = Attributes::new(vec![("tenant".to_owned(), AttributeValue::Text("a".to_owned()))]).unwrap();
    let options = Outgoing {
        body: "replaced by the value".into(),
        attributes: attributes.clone(),
        delay: Some(10 * SECOND),
        group_id: Some("g".to_owned()),
        deduplication_id: Some("d".to_owned()),
        priority: Some(9),
    };
    let first = sender.send_with(&7, options.clone()).await.unwrap();
    assert_eq!(sender.send_with(&8, options).await.unwrap(), first);
    let started = Instant::now();
    let received = Receiver::<u32>::new(queue).receive().await.unwrap();
    assert!(started.elapsed() >= 10 * SECOND);
    assert_eq!(*received, 7);
    let message = received.message();
    assert_eq!(message.attributes, attributes);
    assert_eq!((message.group_id.as_deref(), message.priority), (Some("g"), 9));
}

#[tokio::test(start_paused = true)]
async fn values_come_out_in_the_order_sent() {
    let queue = queue().await;
    let ids = Sender::new(Arc::clone(&queue)).send_many(0..1200_u32).await.unwrap();
    let receiver = Receiver::<u32>::new(queue);
    for (number, id) in ids.into_iter().enumerate() {
        let received = receiver.receive().await.unwrap();
        assert_eq!(usize::try_from(*received).unwrap(), number);
        assert_eq!(received.message().id, id);
        received.acknowledge().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn no_batch_has_more_than_500_messages() {
    let queue = FaultyQueue::new(queue().await, [], Extensions::Lost);
    let sender = Sender::new(Arc::<FaultyQueue>::clone(&queue));
    assert_eq!(sender.send_many(0..1200_u32).await.unwrap().len(), 1200);
    let lengths: Vec<_> = queue.batches().iter().map(Vec::len).collect();
    assert_eq!(lengths, [500, 500, 200]);
}

#[tokio::test(start_paused = true)]
async fn no_batch_goes_on_after_its_first_mebibyte() {
    let queue = FaultyQueue::new(queue().await, [], Extensions::Lost);
    let sender = Sender::new(Arc::<FaultyQueue>::clone(&queue));
    let values = (0..5).map(|_| "x".repeat(MAX_BODY_BYTES * 3 / 4));
    assert_eq!(sender.send_many(values).await.unwrap().len(), 5);
    let lengths: Vec<_> = queue.batches().iter().map(Vec::len).collect();
    assert_eq!(lengths, [2, 2, 1]);
}

#[tokio::test(start_paused = true)]
async fn send_many_reports_the_value_that_was_refused_and_the_others_arrive() {
    type Value = BTreeMap<Vec<u32>, String>;
    let queue = queue().await;
    let unwritable = Value::from([(vec![1], String::new())]);
    let values = [Value::new(), unwritable, Value::new()];
    let error = Sender::new(Arc::clone(&queue)).send_many(values).await.unwrap_err();
    let failed: Vec<_> = error.failed().collect();
    assert!(matches!(failed[..], [(1, TypedSendError::Encode(_))]), "{failed:?}");
    let sent: Vec<_> = error.sent().map(|(index, id)| (index, id.clone())).collect();
    let receiver = Receiver::<Value>::new(queue);
    for place in [0, 2] {
        let received = receiver.receive().await.unwrap();
        assert!(sent.contains(&(place, received.message().id.clone())));
        received.acknowledge().await.unwrap();
    }
    assert_eq!(sent.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn send_many_reports_the_value_that_is_too_long_and_the_others_arrive() {
    let queue = queue().await;
    let values = ["a".to_owned(), "x".repeat(MAX_BODY_BYTES), "c".to_owned()];
    let error = Sender::new(Arc::clone(&queue)).send_many(values).await.unwrap_err();
    let failed: Vec<_> = error.failed().collect();
    assert!(
        matches!(failed[..], [(1, TypedSendError::Refused(SendError::Invalid(_)))]),
        "{failed:?}"
    );
    let receiver = Receiver::<String>::new(queue);
    let (first, second) = (receiver.receive().await.unwrap(), receiver.receive().await.unwrap());
    assert_eq!((first.as_str(), second.as_str()), ("a", "c"));
}

#[tokio::test(start_paused = true)]
async fn send_many_leaves_what_a_full_queue_has_no_room_for() {
    let queue = queue_with(|settings| settings.max_messages = 2).await;
    let mut values = 0..10_000_u32;
    let error = Sender::new(Arc::clone(&queue))
        .send_many(&mut values)
        .await
        .unwrap_err();
    assert_eq!(error.sent().map(|(index, _)| index).collect::<Vec<_>>(), [0, 1]);
    assert!(
        error
            .failed()
            .all(|(_, error)| matches!(error, TypedSendError::Refused(SendError::Full { limit: 2, .. })))
    );
    // Every value has an answer or is still here.
    assert_eq!(error.results.len() + values.len(), 10_000);
    assert!(values.len() > 9_000);
}

#[tokio::test(start_paused = true)]
async fn a_block_that_succeeds_acknowledges() {
    let (queue, receiver) = one_value().await;
    let received = receiver.receive().await.unwrap();
    let made = receiver
        .acknowledgement(received, async |value| Ok::<_, String>(value + 1))
        .await;
    assert_eq!(made.unwrap(), 8);
    assert_eq!(queue.counts().await.unwrap(), Counts::default());
}

#[tokio::test(start_paused = true)]
async fn a_failed_block_releases() {
    // The predecessor acknowledged when the block raised, and the message was lost.
    let (_queue, receiver) = one_value().await;
    let received = receiver.receive().await.unwrap();
    let ended = receiver
        .acknowledgement(received, async |value| Err::<(), _>(format!("no {value}")))
        .await;
    assert!(matches!(ended, Err(AcknowledgementError::Block(error)) if error == "no 7"));
    assert_released(&receiver).await;
}

#[tokio::test(start_paused = true)]
async fn a_panicking_block_releases() {
    let (_queue, receiver) = one_value().await;
    let receiver = Arc::new(receiver);
    let mut tasks = JoinSet::new();
    let working = Arc::clone(&receiver);
    tasks.spawn(async move {
        let received = working.receive().await.unwrap();
        let ended = working.acknowledgement(received, async |value| -> Result<(), String> {
            tokio::task::yield_now().await;
            panic!("on {value}")
        });
        ended.await.unwrap();
    });
    let panicked = tasks.join_next().await.unwrap().unwrap_err().into_panic();
    assert_eq!(panicked.downcast_ref::<String>().unwrap(), "on 7");
    assert_released(&receiver).await;
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_block_releases() {
    let (_queue, receiver) = one_value().await;
    let received = receiver.receive().await.unwrap();
    let block = receiver.acknowledgement(received, async |_| -> Result<(), String> {
        std::future::pending().await
    });
    tokio::time::timeout(3600 * SECOND, block).await.unwrap_err();
    assert_released(&receiver).await;
}

#[tokio::test(start_paused = true)]
async fn a_dropped_value_is_given_back() {
    let (_queue, receiver) = one_value().await;
    drop(receiver.receive().await.unwrap());
    assert_released(&receiver).await;
}

#[tokio::test(start_paused = true)]
async fn a_value_dropped_after_its_receiver_is_given_back() {
    let (queue, receiver) = one_value().await;
    let received = receiver.receive().await.unwrap();
    drop(receiver);
    drop(received);
    assert_released(&Receiver::new(queue)).await;
}

#[tokio::test(start_paused = true)]
async fn a_closed_receiver_has_given_everything_back() {
    let (queue, receiver) = one_value().await;
    drop(receiver.receive().await.unwrap());
    receiver.close().await;
    let counts = queue.counts().await.unwrap();
    assert_eq!((counts.ready, counts.in_flight), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_value_outlives_its_receiver_under_lease() {
    let (queue, receiver) = one_value().await;
    let received = receiver.receive().await.unwrap();
    drop(receiver);
    let other = Receiver::<u32>::new(queue);
    let ended = other.receive_timeout(3600 * SECOND).await;
    assert!(matches!(ended, Err(ReceiveError::Timeout)));
    received.acknowledge().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_value_held_longer_than_the_visibility_timeout_is_received_once() {
    let (queue, receiver) = one_value().await;
    let received = receiver.receive().await.unwrap();
    let other = Receiver::<u32>::new(Arc::clone(&queue));
    let ended = other.receive_timeout(3600 * SECOND).await;
    assert!(matches!(ended, Err(ReceiveError::Timeout)));
    assert!(!received.lost().is_cancelled());
    receiver.acknowledge(received).await.unwrap();
    assert_eq!(queue.counts().await.unwrap(), Counts::default());
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_is_never_acknowledged() {
    let (queue, receiver) = losing_queue().await;
    let received = receiver.receive().await.unwrap();
    received.lost().cancelled().await;
    assert!(matches!(received.acknowledge().await, Err(SettleError::Expired)));
    assert_eq!(queue.settled(), 0);
    assert_eq!(receiver.receive().await.unwrap().receive_count().get(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_is_never_given_back() {
    let (queue, receiver) = losing_queue().await;
    let received = receiver.receive().await.unwrap();
    received.lost().cancelled().await;
    drop(received);
    receiver.close().await;
    assert_eq!(queue.settled(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_ends_the_block_without_a_settlement() {
    let (queue, receiver) = losing_queue().await;
    let received = receiver.receive().await.unwrap();
    let mut finished = false;
    let ended = receiver.acknowledgement(received, async |_| {
        sleep(3600 * SECOND).await;
        finished = true;
        Ok::<_, String>(())
    });
    assert!(matches!(ended.await, Err(AcknowledgementError::LeaseLost)));
    assert!(!finished);
    assert_eq!(queue.settled(), 0);
}

#[tokio::test(start_paused = true)]
async fn receive_timeout_ends_with_a_timeout() {
    let receiver = Receiver::<u32>::new(queue().await);
    for wait in [Duration::ZERO, 5 * SECOND, 3600 * SECOND] {
        let started = Instant::now();
        let ended = receiver.receive_timeout(wait).await;
        assert!(matches!(ended, Err(ReceiveError::Timeout)), "{ended:?}");
        assert!(started.elapsed() >= wait && started.elapsed() <= wait + MOMENT);
    }
}

#[tokio::test(start_paused = true)]
async fn receive_timeout_of_nothing_takes_what_is_there() {
    let (_queue, receiver) = one_value().await;
    assert_eq!(*receiver.receive_timeout(Duration::ZERO).await.unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn receive_timeout_may_be_endless() {
    let (_queue, receiver) = one_value().await;
    assert_eq!(*receiver.receive_timeout(Duration::MAX).await.unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn receive_waits_for_a_value_that_is_sent_later() {
    let queue = queue().await;
    let receiver = Receiver::<u32>::new(Arc::clone(&queue));
    let later = async {
        sleep(3600 * SECOND).await;
        Sender::new(queue).send(&7).await.unwrap();
    };
    let (received, ()) = tokio::join!(receiver.receive(), later);
    assert_eq!(*received.unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn dropping_a_parked_receive_loses_nothing() {
    let queue = queue().await;
    let sender = Sender::new(Arc::clone(&queue));
    let receiver = Receiver::<u32>::new(queue);
    for number in 0..100 {
        let mut parked = Box::pin(receiver.receive());
        assert!(
            poll_fn(|context| std::task::Poll::Ready(parked.as_mut().poll(context)))
                .await
                .is_pending()
        );
        sender.send(&number).await.unwrap();
        drop(parked);
        let received = receiver.receive_timeout(MOMENT).await.unwrap();
        assert_eq!((*received, received.receive_count().get()), (number, 1));
        received.acknowledge().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_yields_the_values_as_they_arrive() {
    let queue = queue().await;
    let receiver = Receiver::<u32>::new(Arc::clone(&queue));
    let mut stream = receiver.stream();
    for number in 0..3 {
        let sender = Sender::new(Arc::clone(&queue));
        let (received, sent) = tokio::join!(next(&mut stream), sender.send(&number));
        sent.unwrap();
        let received = received.unwrap().unwrap();
        assert_eq!(*received, number);
        received.acknowledge().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_receives_nothing_before_it_is_asked() {
    let (queue, receiver) = one_value().await;
    let stream = receiver.stream();
    assert_eq!(queue.counts().await.unwrap().ready, 1);
    drop(stream);
}

#[tokio::test(start_paused = true)]
async fn a_stream_outlasts_a_queue_that_is_unavailable_for_a_while() {
    let (queue, _) = one_value().await;
    let (name, cause) = (queue.name().clone(), Arc::new(std::io::Error::other("gone")));
    let unavailable = QueueError::Unavailable { queue: name, cause };
    let receiver = Receiver::<u32>::new(FaultyQueue::new(queue, [unavailable], Extensions::Lost));
    let mut stream = receiver.stream();
    let first = next(&mut stream).await.unwrap();
    assert!(
        matches!(first, Err(ReceiveError::Queue(QueueError::Unavailable { .. }))),
        "{first:?}"
    );
    let started = Instant::now();
    assert_eq!(*next(&mut stream).await.unwrap().unwrap(), 7);
    assert!(started.elapsed() >= SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_after_its_queue_has_failed() {
    let (queue, _) = one_value().await;
    let (name, cause) = (queue.name().clone(), Arc::new(std::io::Error::other("broken")));
    let failed = QueueError::Failed { queue: name, cause };
    let receiver = Receiver::<u32>::new(FaultyQueue::new(queue, [failed], Extensions::Lost));
    let mut stream = pin!(receiver.stream());
    let first = next(&mut stream).await.unwrap();
    assert!(
        matches!(first, Err(ReceiveError::Queue(QueueError::Failed { .. }))),
        "{first:?}"
    );
    assert!(next(&mut stream).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_malformed_body_is_dead_lettered_and_the_next_one_received() {
    let queue = queue().await;
    let malformed = queue
        .send(Outgoing::new("[1,\n \"two\"]").check().unwrap())
        .await
        .unwrap();
    for body in ["", "{", "\u{1b}[2J", "-1"] {
        queue.send(Outgoing::new(body).check().unwrap()).await.unwrap();
    }
    Sender::new(Arc::clone(&queue)).send(&vec![7]).await.unwrap();
    let receiver = Receiver::<Vec<u32>>::new(Arc::clone(&queue));
    assert_eq!(*receiver.receive().await.unwrap(), [7]);
    let dead = queue.dead_letters(None, 10).await.unwrap();
    assert_eq!(dead.len(), 5);
    assert_eq!(dead[0].message.id, malformed);
    assert_eq!(dead[0].message.body, "[1,\n \"two\"]");
    for letter in &dead {
        assert_eq!(letter.failure.kind, FailureKind::Reject);
        assert!(letter.failure.reason.contains(" at line "), "{}", letter.failure.reason);
    }
    assert!(
        dead[0].failure.reason.contains("at line 2 column 6"),
        "{}",
        dead[0].failure.reason
    );
}

#[tokio::test(start_paused = true)]
async fn receive_timeout_of_malformed_bodies_alone_ends_with_a_timeout() {
    let queue = queue().await;
    queue.send(Outgoing::new("?").check().unwrap()).await.unwrap();
    let receiver = Receiver::<u32>::new(Arc::clone(&queue));
    let ended = receiver.receive_timeout(5 * SECOND).await;
    assert!(matches!(ended, Err(ReceiveError::Timeout)), "{ended:?}");
    assert_eq!(queue.counts().await.unwrap().dead, 1);
}

#[tokio::test(start_paused = true)]
async fn release_makes_a_value_visible_at_once() {
    let (_queue, receiver) = one_value().await;
    receiver.receive().await.unwrap().release().await.unwrap();
    assert_released(&receiver).await;
}

#[tokio::test(start_paused = true)]
async fn retry_after_makes_a_value_visible_after_the_delay() {
    let (_queue, receiver) = one_value().await;
    let received = receiver.receive().await.unwrap();
    received.retry_after(60 * SECOND, "no database").await.unwrap();
    let ended = receiver.receive_timeout(59 * SECOND).await;
    assert!(matches!(ended, Err(ReceiveError::Timeout)), "{ended:?}");
    assert_eq!(receiver.receive().await.unwrap().receive_count().get(), 2);
}

#[tokio::test(start_paused = true)]
async fn reject_makes_a_dead_letter_with_the_reason() {
    let (queue, receiver) = one_value().await;
    let received = receiver.receive().await.unwrap();
    received.reject("no such order\n").await.unwrap();
    let dead = queue.dead_letters(None, 10).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].failure.kind, FailureKind::Reject);
    assert_eq!(dead[0].failure.reason, "no such order\n");
}
