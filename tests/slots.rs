//! Slots: no more guests run than `concurrency` says; a handler goes on while a settlement is under way, as long as nothing is
//! done out of turn; and a receive fills whatever became free before its messages were chosen.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use harness::{
    PATIENCE,
    bench::poll_once,
    faulty_queue::{Extensions, FaultyQueue},
    guests::{forward, no_op},
    pipeline::{Pipeline, control_runtime},
    prompt::Prompt,
};
use sandhog::{
    attempt::policy,
    config::Manifest,
    poller::{Poller, ReceiveDecision},
};
use sandhog_executor::{EngineOptions, Executor, LocalExecutor};
use sandhog_queue::{
    Queue,
    message::{Outgoing, QueueName},
};
use sandhog_simple::{SimpleStore, settings::Settings};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep, timeout},
};

/// Runs a handler with one slot on a queue of three messages that settles nothing until it is let go, and checks how many of them
/// are in flight then.
fn check_in_flight_while_settlements_wait(wasm: Vec<u8>, commits_sends: bool, expected: u64) {
    let runtime = control_runtime();
    let executor = Arc::new(LocalExecutor::new(EngineOptions::default()).unwrap());
    runtime.block_on(async {
        let mut manifest = Manifest::parse("concurrency = 1\n", "in").unwrap();
        manifest.grants.send = Some([QueueName::new("out").unwrap()].into());
        let policy = Arc::new(policy("in", &manifest));
        let load = executor.load(PathBuf::from("in.wasm"), Bytes::from(wasm), policy);
        let component = load.await.unwrap();
        let mut pipeline = Pipeline::new(runtime.handle(), SimpleStore::ephemeral(), executor.clone());
        pipeline.queue("out").await;
        let queue = pipeline.queue("in").await;
        for answer in queue.send_many(vec![Outgoing::new("x").check().unwrap(); 3]).await {
            answer.unwrap();
        }
        let mut held = FaultyQueue::new(Arc::clone(&queue), [], Extensions::Scripted([].into()));
        if !commits_sends {
            held = held.without_sends();
        }
        held.hold_settlements();
        let source: Arc<dyn Queue> = Arc::<FaultyQueue>::clone(&held);
        pipeline.handle_on(source, &component, manifest);
        let in_flight = async || queue.counts().await.unwrap().in_flight;
        let reached = async {
            while in_flight().await < expected {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, reached).await.unwrap();
        // And for whatever else may have been started.
        let end = Instant::now() + Duration::from_millis(500);
        while Instant::now() < end {
            assert_eq!(in_flight().await, expected);
            sleep(Duration::from_millis(5)).await;
        }
        held.let_go();
        timeout(PATIENCE, pipeline.deleted(3)).await.unwrap();
        pipeline.stop().await;
    });
}

#[test]
fn the_next_message_starts_while_a_settlement_is_under_way_and_no_further_one_does() {
    check_in_flight_while_settlements_wait(no_op(), true, 2);
    check_in_flight_while_settlements_wait(forward(), true, 2);
}

#[test]
fn a_message_whose_sends_come_before_its_deletion_is_settled_before_the_next_one_starts() {
    check_in_flight_while_settlements_wait(forward(), false, 1);
}

#[tokio::test]
async fn a_receive_under_way_fills_the_slots_that_became_free() {
    let name = QueueName::new("in").unwrap();
    let queue = SimpleStore::ephemeral()
        .queue(name.clone(), Settings::defaults(&name))
        .await
        .unwrap();
    queue.send_many(vec![Outgoing::new("x").check().unwrap(); 20]).await;
    let held = FaultyQueue::new(queue, [], Extensions::Scripted([].into()));
    held.hold_receives();
    let mut poller = Poller::new(Arc::<FaultyQueue>::clone(&held));
    assert_eq!(poller.next(1, 16, Instant::now()), ReceiveDecision::Ask(1));
    poller.ask(1, 1);
    assert!(poll_once(std::pin::pin!(poller.received())).await.is_pending());
    assert_eq!(poller.next(15, 16, Instant::now()), ReceiveDecision::Enough);
    assert_eq!(poller.reserved(), 16);
    held.let_go();
    let received = poller.received().await;
    assert_eq!((received.asked, received.answer.unwrap().len()), (16, 16));
    assert_eq!(poller.reserved(), 0);
}

/// So many messages of which four fit one batch, though a batch may have a hundred.
const LARGE: usize = 32;
const A_BATCH: usize = 4;

/// A batch handler with so many slots, on a queue of [`LARGE`] messages that each take a turn; its first calls are inside.
async fn large_batches(concurrency: usize) -> (Arc<Prompt>, Pipeline, Arc<dyn Queue>) {
    let executor = Arc::new(Prompt::batches());
    let mut pipeline = Pipeline::new(&Handle::current(), SimpleStore::ephemeral(), executor.clone());
    let queue = pipeline.queue("bench").await;
    let body = format!("turn{}", "x".repeat(500_000));
    for answer in queue.send_many(vec![Outgoing::new(body).check().unwrap(); LARGE]).await {
        answer.unwrap();
    }
    let manifest = with_concurrency(concurrency);
    pipeline.handle(&executor.component().await, manifest).await;
    inside(&executor, concurrency).await;
    (executor, pipeline, queue)
}

fn with_concurrency(concurrency: usize) -> Manifest {
    let settings = format!("concurrency = {concurrency}\nbatch-size = 100\nmemory = \"16MiB\"\n");
    Manifest::parse(&settings, "bench").unwrap()
}

/// Waits until so many calls are under way, and for whatever else may have been started.
async fn inside(executor: &Prompt, calls: usize) {
    let reached = async {
        while executor.inside.load(Ordering::SeqCst) != calls {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, reached).await.unwrap();
    sleep(Duration::from_millis(20)).await;
}

/// One receive brings all messages, and each call takes four: all eight calls were started at once, whatever `concurrency` said.
#[tokio::test]
async fn concurrency_holds_though_large_bodies_cut_a_receive_into_many_batches() {
    for concurrency in [1, 3] {
        let (executor, pipeline, queue) = large_batches(concurrency).await;
        assert_eq!(queue.counts().await.unwrap().in_flight, 32, "one receive brought all");
        executor.turns.add_permits(LARGE);
        timeout(PATIENCE, pipeline.deleted(LARGE)).await.unwrap();
        assert_eq!(executor.most_inside.load(Ordering::SeqCst), concurrency);
        pipeline.stop().await;
    }
}

#[tokio::test]
async fn messages_that_wait_obey_a_version_that_allows_fewer_at_a_time() {
    let (executor, pipeline, _queue) = large_batches(4).await;
    pipeline.replace(&executor.component().await, &with_concurrency(1));
    executor.most_inside.store(0, Ordering::SeqCst);
    executor.turns.add_permits(4 * A_BATCH);
    timeout(PATIENCE, pipeline.deleted(4 * A_BATCH)).await.unwrap();
    inside(&executor, 1).await;
    executor.turns.add_permits(LARGE);
    timeout(PATIENCE, pipeline.deleted(LARGE)).await.unwrap();
    assert_eq!(executor.most_inside.load(Ordering::SeqCst), 1);
    pipeline.stop().await;
}

#[tokio::test]
async fn messages_that_wait_for_a_slot_are_given_back_uncounted_when_the_handler_stops() {
    let (executor, pipeline, queue) = large_batches(1).await;
    let stopping = pipeline.stop_handlers();
    executor.turns.add_permits(A_BATCH);
    timeout(PATIENCE, stopping).await.unwrap();
    assert_eq!(queue.counts().await.unwrap().ready, 28);
    let again = queue.receive(LARGE, Duration::ZERO).await.unwrap();
    let counts: Vec<_> = again.iter().map(|delivery| delivery.receive_count.get()).collect();
    assert_eq!(counts, [1; 28]);
}
