//! What a queue behind a network asks of its consumer: leases and receives whose calls take time, cost money, fail one by one
//! and overtake each other. On paused time, on a queue that says of itself that it is remote.

use std::{sync::Arc, time::Duration};

use harness::faulty_queue::{Extensions, FaultyQueue};
use sandhog::poller::{Poller, ReceiveDecision};
use sandhog_queue::{
    FailureKind, FailureRecord, Queue, QueueCapabilities, QueueError, SettleError, Settlement,
    lease::{Lease, LeaseKeeper},
    message::{Outgoing, QueueName},
};
use sandhog_simple::{SimpleStore, settings::Settings};
use tokio::{
    task::JoinSet,
    time::{Instant, advance, sleep},
};
use tokio_util::sync::CancellationToken;

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
const REMOTE: QueueCapabilities = QueueCapabilities {
    receive_limit: 10,
    calls_cost: true,
    calls_overtake: true,
    batches_settlements: true,
    has_own_clock: true,
    counts_releases: true,
    ..QueueCapabilities::LOCAL
};

async fn queue(
    messages: usize,
    visibility_timeout: Duration,
    extensions: Extensions,
    capabilities: QueueCapabilities,
) -> Arc<FaultyQueue> {
    let name = QueueName::new("in").unwrap();
    let settings = Settings {
        visibility_timeout,
        ..Settings::defaults(&name)
    };
    let inner = SimpleStore::ephemeral().queue(name, settings).await.unwrap();
    for answer in inner
        .send_many((0..messages).map(|_| Outgoing::new("x").check().unwrap()).collect())
        .await
    {
        answer.unwrap();
    }
    FaultyQueue::with_capabilities(inner, [], extensions, capabilities)
}

fn keeper(queue: &Arc<FaultyQueue>) -> Arc<LeaseKeeper> {
    LeaseKeeper::new(Arc::<FaultyQueue>::clone(queue), Arc::default())
}

/// Extends leases until it is dropped.
fn extending(keeper: &Arc<LeaseKeeper>) -> JoinSet<()> {
    let (keeper, mut tasks) = (Arc::clone(keeper), JoinSet::new());
    tasks.spawn(async move { keeper.run(CancellationToken::new()).await });
    tasks
}

async fn hold(queue: &Arc<FaultyQueue>, keeper: &Arc<LeaseKeeper>) -> Vec<Lease> {
    let deliveries = queue.receive(10, Duration::ZERO).await.unwrap();
    let hold = |delivery: sandhog_queue::Delivery| keeper.hold(delivery.receipt, &delivery.lease);
    deliveries.into_iter().map(hold).collect()
}

async fn hold_one(queue: &Arc<FaultyQueue>, keeper: &Arc<LeaseKeeper>) -> Lease {
    hold(queue, keeper).await.pop().unwrap()
}

fn retry() -> Settlement {
    let failure = FailureRecord {
        kind: FailureKind::Retry,
        reason: "not yet".to_owned(),
        handler: "in".to_owned(),
        component: "abc".to_owned(),
    };
    Settlement::Retry { delay: SECOND, failure }
}

fn unavailable() -> SettleError {
    SettleError::Queue(QueueError::Unavailable {
        queue: QueueName::new("in").unwrap(),
        cause: Arc::new(std::io::Error::other("chosen by the test")),
    })
}

#[tokio::test(start_paused = true)]
async fn a_retry_delay_is_not_overwritten_by_a_late_extension() {
    let queue = queue(1, SECOND, Extensions::Slow(300 * MILLISECOND), REMOTE).await;
    let keeper = keeper(&queue);
    let task = extending(&keeper);
    let lease = hold_one(&queue, &keeper).await;
    sleep(600 * MILLISECOND).await;
    lease.settle(retry()).await.unwrap();
    let (extension, settlement) = (queue.asked("extend")[0], queue.asked("settle")[0]);
    assert!(extension.from < settlement.from, "the extension was under way");
    assert!(settlement.from >= extension.to, "and the settlement waited for its end");
    sleep(3 * SECOND).await;
    assert_eq!(queue.asked("extend").len(), 1, "none was made after it");
    drop(task);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_does_not_wait_for_an_extension() {
    let queue = queue(1, SECOND, Extensions::Slow(300 * MILLISECOND), REMOTE).await;
    let keeper = keeper(&queue);
    let task = extending(&keeper);
    let lease = hold_one(&queue, &keeper).await;
    sleep(600 * MILLISECOND).await;
    let asked = Instant::now();
    lease.settle(Settlement::Delete).await.unwrap();
    assert_eq!(queue.asked("settle")[0].from, asked);
    drop(task);
}

#[tokio::test(start_paused = true)]
async fn only_what_was_not_settled_is_settled_again() {
    let queue = queue(3, SECOND, Extensions::Slow(Duration::ZERO), REMOTE).await;
    let keeper = keeper(&queue);
    let task = extending(&keeper);
    let leases = hold(&queue, &keeper).await;
    queue.fail_next_settle(vec![None, Some(unavailable()), None]);
    let batch = leases.into_iter().map(|lease| (lease, Settlement::Delete)).collect();
    let (answers, _leases) = keeper.settle(batch).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    let sizes: Vec<usize> = queue.asked("settle").iter().map(|asked| asked.deliveries).collect();
    assert_eq!(sizes, [3, 1]);
    drop(task);
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_extended_between_two_tries_to_settle() {
    let queue = queue(1, SECOND, Extensions::Slow(Duration::ZERO), REMOTE).await;
    let keeper = keeper(&queue);
    let task = extending(&keeper);
    let lease = hold_one(&queue, &keeper).await;
    for _ in 0..6 {
        queue.fail_next_settle(vec![Some(unavailable())]);
    }
    let start = Instant::now();
    lease.settle(retry()).await.unwrap();
    assert!(start.elapsed() > 5 * SECOND, "five times the visibility timeout");
    assert_eq!(queue.asked("settle").len(), 7);
    drop(task);
}

#[tokio::test(start_paused = true)]
async fn a_lease_past_its_deadline_settles_nothing() {
    let queue = queue(1, SECOND, Extensions::Slow(Duration::ZERO), REMOTE).await;
    // No keeper runs.
    let keeper = keeper(&queue);
    let lease = hold_one(&queue, &keeper).await;
    let lost = lease.lost().clone();
    advance(SECOND).await;
    let answer = lease.settle(Settlement::Delete).await;
    assert!(matches!(answer, Err(SettleError::Expired)), "{answer:?}");
    assert_eq!(queue.settled(), 0);
    assert!(lost.is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn a_lease_ends_twelve_hours_after_the_receive() {
    let hour = Duration::from_hours(1);
    let queue = queue(1, 5 * hour, Extensions::Slow(Duration::ZERO), REMOTE).await;
    let keeper = keeper(&queue);
    let task = extending(&keeper);
    let start = Instant::now();
    let lease = hold_one(&queue, &keeper).await;
    lease.lost().cancelled().await;
    assert_eq!(start.elapsed().as_secs(), REMOTE.longest_lease.as_secs());
    drop(task);
}

#[tokio::test(start_paused = true)]
async fn a_lease_ends_with_the_longest_one_of_its_queue() {
    let capabilities = QueueCapabilities {
        longest_lease: 100 * SECOND,
        ..REMOTE
    };
    let queue = queue(1, 30 * SECOND, Extensions::Slow(Duration::ZERO), capabilities).await;
    let keeper = keeper(&queue);
    let task = extending(&keeper);
    let start = Instant::now();
    let lease = hold_one(&queue, &keeper).await;
    lease.lost().cancelled().await;
    assert_eq!(start.elapsed().as_secs(), 100);
    drop(task);
}

#[tokio::test(start_paused = true)]
async fn a_retry_delay_is_no_longer_than_the_longest_one_of_its_queue() {
    for (longest, waits) in [(2 * SECOND, 2 * SECOND), (Duration::ZERO, Duration::ZERO)] {
        let capabilities = QueueCapabilities {
            longest_retry_delay: longest,
            ..REMOTE
        };
        let queue = queue(1, 30 * SECOND, Extensions::Slow(Duration::ZERO), capabilities).await;
        let lease = hold_one(&queue, &keeper(&queue)).await;
        let Settlement::Retry { failure, .. } = retry() else {
            unreachable!("it is a retry");
        };
        let settled = Instant::now();
        lease
            .settle(Settlement::Retry {
                delay: 60 * SECOND,
                failure,
            })
            .await
            .unwrap();
        assert_eq!(queue.receive(1, 30 * SECOND).await.unwrap().len(), 1);
        assert_eq!(settled.elapsed().as_secs(), waits.as_secs());
    }
}

#[tokio::test(start_paused = true)]
async fn more_leases_than_one_extension_can_carry_are_all_extended() {
    let queue = queue(500, SECOND, Extensions::Slow(50 * MILLISECOND), REMOTE).await;
    let keeper = keeper(&queue);
    let task = extending(&keeper);
    let mut leases = Vec::new();
    while leases.len() < 500 {
        leases.extend(hold(&queue, &keeper).await);
    }
    sleep(10 * SECOND).await;
    assert!(leases.iter().all(|lease| !lease.lost().is_cancelled()));
    assert!(queue.asked("extend").iter().all(|asked| asked.deliveries <= 10));
    drop(task);
}

/// Starts every receive that the poller wants for `free` of `all` slots; answers what each asks for.
fn start(poller: &mut Poller, mut free: usize, all: usize) -> Vec<usize> {
    let mut asks = Vec::new();
    while free > 0
        && let ReceiveDecision::Ask(max) = poller.next(free, all, Instant::now())
    {
        asks.push(max);
        poller.ask(max, 1);
        free -= max;
    }
    asks
}

#[tokio::test(start_paused = true)]
async fn one_receive_is_parked_on_an_idle_queue() {
    let queue = queue(0, SECOND, Extensions::Lost, REMOTE).await;
    let mut poller = Poller::new(queue);
    assert_eq!(start(&mut poller, 64, 64), [10]);
    assert_eq!(poller.received().await.answer.unwrap().len(), 0);
    assert_eq!(start(&mut poller, 64, 64), [10]);
}

#[tokio::test(start_paused = true)]
async fn a_busy_queue_is_received_from_by_as_many_calls_as_the_free_slots_allow() {
    let queue = queue(1000, SECOND, Extensions::Lost, REMOTE).await;
    let mut poller = Poller::new(queue);
    assert_eq!(start(&mut poller, 64, 64), [10]);
    assert_eq!(poller.received().await.answer.unwrap().len(), 10);
    assert_eq!(
        start(&mut poller, 54, 64),
        [10, 10, 10, 10, 10],
        "the last four slots are not worth a request"
    );
    assert_eq!(poller.reserved(), 50);
}

#[tokio::test(start_paused = true)]
async fn never_more_messages_are_asked_for_than_slots_are_free() {
    let queue = queue(1000, SECOND, Extensions::Lost, REMOTE).await;
    let mut poller = Poller::new(queue);
    assert_eq!(start(&mut poller, 3, 4), [3]);
}

#[tokio::test(start_paused = true)]
async fn a_busy_handler_collects_its_free_slots_for_a_moment() {
    let queue = queue(1000, SECOND, Extensions::Lost, REMOTE).await;
    let mut poller = Poller::new(queue);
    assert_eq!(start(&mut poller, 20, 20), [10]);
    poller.received().await.answer.unwrap();
    let now = Instant::now();
    let ReceiveDecision::At(at) = poller.next(1, 20, now) else {
        panic!("one slot of twenty is not worth a request yet");
    };
    assert!(at - now <= 20 * MILLISECOND);
    assert_eq!(poller.next(1, 20, at), ReceiveDecision::Ask(1), "but not for long");
}

#[tokio::test(start_paused = true)]
async fn one_group_cannot_fill_all_slots() {
    let capabilities = QueueCapabilities {
        returns_groups: true,
        ..REMOTE
    };
    let queue = queue(0, SECOND, Extensions::Lost, capabilities).await;
    let mut poller = Poller::new(queue);
    assert_eq!(start(&mut poller, 16, 16), [4]);
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_messages_of_groups_are_received_one_at_a_time_until_it_is_back() {
    let capabilities = QueueCapabilities {
        returns_groups: true,
        ..REMOTE
    };
    let queue = queue(0, SECOND, Extensions::Lost, capabilities).await;
    let mut poller = Poller::new(queue);
    poller.be_careful(5 * SECOND, Instant::now());
    assert_eq!(poller.next(16, 16, Instant::now()), ReceiveDecision::Ask(1));
    advance(10 * SECOND).await;
    assert_eq!(
        poller.next(16, 16, Instant::now()),
        ReceiveDecision::Ask(1),
        "it may be about to come"
    );
    advance(20 * SECOND).await;
    assert_eq!(poller.next(16, 16, Instant::now()), ReceiveDecision::Ask(4));
}

#[tokio::test(start_paused = true)]
async fn each_receive_reserves_a_call_of_its_own() {
    let queue = queue(1000, SECOND, Extensions::Lost, REMOTE).await;
    let mut poller = Poller::new(queue);
    poller.ask(10, 100);
    poller.ask(10, 100);
    assert_eq!(poller.reserved(), 2, "though both would fit one batch of a hundred");
}
