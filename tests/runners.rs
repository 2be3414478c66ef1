//! Runners: attempts of one handler run one after another on few tasks, and yet none of them waits for another one's guest.

use std::{sync::Arc, time::Duration};

use harness::{
    PATIENCE,
    pipeline::{Pipeline, manifest},
    prompt::Prompt,
};
use sandhog_queue::{Queue, message::Outgoing};
use sandhog_simple::SimpleStore;
use tokio::{runtime::Handle, time::timeout};

/// A handler with so many slots, on a queue in which these messages are.
async fn handler(slots: usize, bodies: &[&'static str]) -> (Arc<Prompt>, Pipeline, Arc<dyn Queue>) {
    let executor = Arc::new(Prompt::default());
    let mut pipeline = Pipeline::new(&Handle::current(), SimpleStore::ephemeral(), executor.clone());
    let queue = pipeline.queue("bench").await;
    let messages = bodies.iter().map(|body| Outgoing::new(*body).check().unwrap());
    for answer in queue.send_many(messages.collect()).await {
        answer.unwrap();
    }
    let mut manifest = manifest(false);
    manifest.concurrency = slots.try_into().unwrap();
    pipeline.handle(&executor.component().await, manifest).await;
    (executor, pipeline, queue)
}

/// Opens the gate, and stops the handler once all of so many messages are deleted.
async fn finish(executor: &Prompt, pipeline: Pipeline, messages: usize) {
    executor.open.send_replace(true);
    timeout(PATIENCE, pipeline.deleted(messages)).await.unwrap();
    pipeline.stop().await;
}

/// Waits until so many guests listen at the gate.
async fn at_the_gate(executor: &Prompt, guests: usize) {
    let waiting = async {
        while executor.open.receiver_count() < guests {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap();
}

#[tokio::test]
async fn attempts_behind_guests_that_take_their_time_are_run() {
    let bodies = ["wait", "wait", "wait", "x", "wait", "x", "x"];
    let (executor, pipeline, queue) = handler(8, &bodies).await;
    timeout(PATIENCE, pipeline.deleted(3)).await.unwrap();
    assert_eq!(queue.counts().await.unwrap().in_flight, 4);
    finish(&executor, pipeline, 7).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_guest_that_holds_its_thread_keeps_nobody_from_another_one() {
    let (executor, pipeline, queue) = handler(8, &["block"]).await;
    at_the_gate(&executor, 1).await;
    queue.send(Outgoing::new("x").check().unwrap()).await.unwrap();
    timeout(PATIENCE, pipeline.deleted(1)).await.unwrap();
    finish(&executor, pipeline, 2).await;
}

#[tokio::test]
async fn a_guest_that_lets_others_run_is_not_resumed_before_they_did() {
    let (executor, pipeline, _queue) = handler(8, &["yield", "x"]).await;
    timeout(PATIENCE, pipeline.deleted(2)).await.unwrap();
    assert_eq!(*executor.handled.lock().unwrap(), ["x", "yield"]);
    pipeline.stop().await;
}

#[tokio::test]
async fn what_is_done_is_settled_though_the_guest_after_it_takes_its_time() {
    // So many slots that several are handed back together.
    let mut bodies = vec!["x"; 30];
    bodies.extend(["wait"; 2]);
    let (executor, pipeline, _queue) = handler(32, &bodies).await;
    timeout(PATIENCE, pipeline.deleted(30)).await.unwrap();
    finish(&executor, pipeline, 32).await;
}

#[tokio::test]
async fn as_many_guests_take_their_time_at_once_as_there_are_slots() {
    let (executor, pipeline, queue) = handler(20, &["wait"; 30]).await;
    // All of them have started, and so are in flight.
    at_the_gate(&executor, 20).await;
    assert_eq!(queue.counts().await.unwrap().in_flight, 20);
    assert_eq!(queue.counts().await.unwrap().ready, 10);
    finish(&executor, pipeline, 30).await;
}

#[tokio::test]
async fn an_attempt_that_panics_takes_nobody_with_it_and_gives_its_slot_back() {
    let bodies = ["x", "panic", "x", "panic", "x", "x", "x"];
    let (_executor, pipeline, queue) = handler(2, &bodies).await;
    timeout(PATIENCE, pipeline.deleted(5)).await.unwrap();
    // Nobody holds them: they come back when their visibility timeout has passed.
    assert_eq!(queue.counts().await.unwrap().in_flight, 2);
    timeout(PATIENCE, pipeline.stop()).await.unwrap();
}
