//! Slots: a handler goes on while a settlement is under way, as long as nothing is done out of turn, and a receive fills
//! whatever became free before its messages were chosen.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use harness::{
    PATIENCE,
    bench::poll_once,
    faulty_queue::{Extensions, FaultyQueue},
    guests::{forward, no_op},
    pipeline::{Pipeline, control_runtime},
};
use sandhog::{
    attempt::policy,
    config::Manifest,
    executor::{EngineOptions, Executor, LocalExecutor},
    message::{Outgoing, QueueName},
    poller::{Next, Poller},
    queue::{
        Queue,
        simple::{SimpleStore, settings::Settings},
    },
};
use tokio::time::Instant;

/// Runs a handler with one slot on a queue of three messages that settles nothing until it is let go; answers how many of them
/// were in flight at most before that.
fn most_in_flight_while_settlements_wait(wasm: Vec<u8>, commits_sends: bool) -> u64 {
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
        for answer in queue.send_many(vec![Outgoing::new("x"); 3]).await {
            answer.unwrap();
        }
        let mut held = FaultyQueue::new(Arc::clone(&queue), [], Extensions::Scripted([].into()));
        if !commits_sends {
            held = held.without_sends();
        }
        held.hold_settlements();
        let source: Arc<dyn Queue> = Arc::<FaultyQueue>::clone(&held);
        pipeline.handle_on(source, &component, manifest);
        let mut most = 0;
        let end = Instant::now() + Duration::from_secs(1);
        while Instant::now() < end {
            most = most.max(queue.counts().await.unwrap().in_flight);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        held.let_go();
        tokio::time::timeout(PATIENCE, pipeline.deleted(3)).await.unwrap();
        pipeline.stop().await;
        most
    })
}

#[test]
fn the_next_message_starts_while_a_settlement_is_under_way_and_no_further_one_does() {
    assert_eq!(most_in_flight_while_settlements_wait(no_op(), true), 2);
    assert_eq!(most_in_flight_while_settlements_wait(forward(), true), 2);
}

#[test]
fn a_message_whose_sends_come_before_its_deletion_is_settled_before_the_next_one_starts() {
    assert_eq!(most_in_flight_while_settlements_wait(forward(), false), 1);
}

#[tokio::test]
async fn a_receive_under_way_fills_the_slots_that_became_free() {
    let name = QueueName::new("in").unwrap();
    let queue = SimpleStore::ephemeral()
        .queue(name.clone(), Settings::defaults(&name))
        .await
        .unwrap();
    queue.send_many(vec![Outgoing::new("x"); 20]).await;
    let held = FaultyQueue::new(queue, [], Extensions::Scripted([].into()));
    held.hold_receives();
    let mut poller = Poller::new(Arc::<FaultyQueue>::clone(&held));
    assert_eq!(poller.next(1, 16, Instant::now()), Next::Ask(1));
    poller.ask(1, 1);
    assert!(poll_once(std::pin::pin!(poller.received())).await.is_pending());
    assert_eq!(poller.next(15, 16, Instant::now()), Next::Enough);
    assert_eq!(poller.reserved(), 16);
    held.let_go();
    let received = poller.received().await;
    assert_eq!((received.asked, received.answer.unwrap().len()), (16, 16));
    assert_eq!(poller.reserved(), 0);
}
