//! Leases that a connection holds: never extended, lost with the connection, and released by their queue. On a double, whose
//! connection is lost when a test says so.

use std::{sync::Arc, time::Duration};

use harness::faulty_queue::{Extensions, FaultyQueue};
use sandhog_queue::{
    Delivery, DeliveryLease, Effects, ExtendError, Queue, QueueError, SettleError, SettleRequest, Settlement,
    lease::{Lease, LeaseKeeper},
    message::{Outgoing, QueueName},
};
use sandhog_simple::{SimpleStore, settings::Settings};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

const HOUR: Duration = Duration::from_hours(1);

/// A queue with one message, whose deliveries its connection holds.
async fn connected(at_most: Option<Duration>) -> Arc<FaultyQueue> {
    let name = QueueName::new("in").unwrap();
    let settings = Settings {
        visibility_timeout: 12 * HOUR,
        ..Settings::defaults(&name)
    };
    let inner = SimpleStore::ephemeral().queue(name, settings).await.unwrap();
    inner.send(Outgoing::new("x").check().unwrap()).await.unwrap();
    FaultyQueue::new(inner, [], Extensions::Scripted([].into())).held_by_connection(at_most)
}

async fn receive(queue: &Arc<FaultyQueue>) -> Delivery {
    queue.receive(1, Duration::ZERO).await.unwrap().pop().unwrap()
}

/// Takes the message, and extends what the keeper holds until the tasks are dropped.
async fn hold(queue: &Arc<FaultyQueue>) -> (Lease, JoinSet<()>) {
    let keeper = LeaseKeeper::new(Arc::<FaultyQueue>::clone(queue), Arc::default());
    let delivery = receive(queue).await;
    let lease = keeper.hold(delivery.receipt, &delivery.lease);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { keeper.run(CancellationToken::new()).await });
    (lease, tasks)
}

#[tokio::test]
async fn a_delivery_is_held_until_its_connection_is_lost_and_comes_back_then() {
    let queue = connected(None).await;
    let first = receive(&queue).await;
    assert!(!first.lease.is_lost());
    assert_eq!(first.lease.deadline(), None);
    assert!(queue.receive(1, Duration::ZERO).await.unwrap().is_empty());
    queue.lose_connection().await;
    assert!(first.lease.is_lost());
    let second = receive(&queue).await;
    assert_eq!(second.message.id, first.message.id);
    assert!(!second.lease.is_lost(), "the next connection holds it");
}

#[tokio::test]
async fn a_delivery_of_a_lost_connection_is_neither_settled_nor_extended() {
    let queue = connected(None).await;
    let delivery = receive(&queue).await;
    let answers = queue.extend(vec![delivery.receipt.clone()], HOUR).await;
    assert!(
        matches!(answers[..], [Err(ExtendError::Queue(QueueError::Unsupported { .. }))]),
        "{answers:?}"
    );
    queue.lose_connection().await;
    let settle = SettleRequest {
        receipt: delivery.receipt,
        settlement: Settlement::Delete,
    };
    let answers = queue.settle(vec![settle], Effects::default()).await.unwrap();
    assert!(matches!(answers[..], [Err(SettleError::Expired)]), "{answers:?}");
    assert_eq!(queue.counts().await.unwrap().ready, 1);
}

#[tokio::test(start_paused = true)]
async fn a_keeper_extends_no_lease_that_a_connection_holds() {
    let queue = connected(None).await;
    let (lease, _tasks) = hold(&queue).await;
    sleep(11 * HOUR).await;
    assert!(!lease.lost().is_cancelled() && !lease.is_lost());
    assert_eq!(queue.asked("extend").len(), 0);
    lease.settle(Settlement::Delete).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_lost_at_once_with_its_connection_and_settles_nothing() {
    let queue = connected(None).await;
    let (lease, _tasks) = hold(&queue).await;
    let start = Instant::now();
    queue.lose_connection().await;
    assert!(lease.lost().is_cancelled() && lease.is_lost());
    assert_eq!(start.elapsed(), Duration::ZERO);
    let answer = lease.settle(Settlement::Delete).await;
    assert!(matches!(answer, Err(SettleError::Expired)), "{answer:?}");
    assert_eq!(queue.settled(), 0);
    assert_eq!(queue.counts().await.unwrap().ready, 1, "its queue released it");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_a_connection_holds_ends_with_the_time_that_its_server_gives() {
    let queue = connected(Some(HOUR / 2)).await;
    let start = Instant::now();
    let (lease, _tasks) = hold(&queue).await;
    lease.lost().cancelled().await;
    assert_eq!(start.elapsed().as_secs(), 1800);
    assert_eq!(queue.asked("extend").len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_lease_whose_connection_was_lost_on_the_way_is_lost_from_the_beginning() {
    let queue = connected(None).await;
    let delivery = receive(&queue).await;
    queue.lose_connection().await;
    let keeper = LeaseKeeper::new(Arc::<FaultyQueue>::clone(&queue), Arc::default());
    let lease = keeper.hold(delivery.receipt, &delivery.lease);
    assert!(lease.lost().is_cancelled());
    assert!(matches!(delivery.lease, DeliveryLease::WhileConnected { .. }));
}
