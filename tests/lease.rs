//! Leases: extended while a guest works, and when one is lost the guest is interrupted and nothing is settled.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use harness::{
    faulty_queue::{Extensions, FaultyQueue},
    guests::{FORWARD, handler, obedient},
    host::Place,
    pipeline::Pipeline,
};
use sandhog::{attempt::policy, config::Manifest};
use sandhog_executor::{EngineOptions, Executor, LocalExecutor};
use sandhog_queue::{
    Counts, EffectSend, Effects, EffectsRefused, ExtendError, Queue, QueueCapabilities, QueueError, SettleError,
    Settlement,
    lease::{Lease, LeaseKeeper},
    machine_clock::{MachineClock, Reading},
    message::{Outgoing, QueueName},
};
use sandhog_simple::{SimpleStore, settings::Settings};
use tokio::{
    runtime::Handle,
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

fn unavailable(name: &QueueName) -> QueueError {
    QueueError::Unavailable {
        queue: name.clone(),
        cause: Arc::new(std::io::Error::other("chosen by the test")),
    }
}

/// Returns a queue with one message, and its store. A guest that obeys waits for six seconds.
async fn one_message(visibility_timeout: Duration, extensions: Vec<ExtendError>) -> (Arc<FaultyQueue>, SimpleStore) {
    let name = QueueName::new("in").unwrap();
    let store = SimpleStore::ephemeral();
    let settings = Settings {
        visibility_timeout,
        ..Settings::defaults(&name)
    };
    let queue: Arc<dyn Queue> = store.queue(name.clone(), settings).await.unwrap();
    queue.send(Outgoing::new("w6000d").check().unwrap()).await.unwrap();
    let faulty = FaultyQueue::new(queue, [], Extensions::Scripted(extensions.into()));
    (faulty, store)
}

/// Runs a handler on a queue with a visibility of one second, for one message. Returns the queue and the metrics page.
async fn run_one(wasm: Vec<u8>, extensions: Vec<ExtendError>) -> (Arc<FaultyQueue>, String) {
    let (faulty, store) = one_message(Duration::from_secs(1), extensions).await;
    let metrics = run_on(wasm, &faulty, store, async {}).await;
    (faulty, metrics)
}

/// Runs a handler for one message, and `interrupt` once the guest runs. Returns the metrics page.
async fn run_on(
    wasm: Vec<u8>,
    faulty: &Arc<FaultyQueue>,
    store: SimpleStore,
    interrupt: impl Future<Output = ()>,
) -> String {
    let settings = "concurrency = 1\ntimeout = \"30s\"\n[grant]\nsend = [\"out\"]\n";
    let manifest = Manifest::parse(settings, "in").unwrap();
    let policy = Arc::new(policy("in", &manifest));
    let executor = Arc::new(
        LocalExecutor::new(EngineOptions {
            max_live_instances: 4,
            threads: 2,
            compiler: harness::sandhog_compiler(),
            ..EngineOptions::default()
        })
        .unwrap(),
    );
    let component = executor
        .load(PathBuf::from("in.wasm"), Bytes::from(wasm), Arc::clone(&policy))
        .await
        .unwrap();
    let guests: Arc<dyn Executor> = Arc::<LocalExecutor>::clone(&executor);
    let mut pipeline = Pipeline::new(&Handle::current(), store, guests);
    let metrics = Arc::clone(&pipeline.metrics);
    let start = Instant::now();
    pipeline.handle_on(Arc::<FaultyQueue>::clone(faulty), &component, manifest);
    while executor.live_instances() == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    // The first attempt ends, and keeps a second one from beginning.
    tokio::join!(pipeline.stop(), interrupt);
    assert!(
        start.elapsed() < Duration::from_secs(25),
        "the guest was not interrupted"
    );
    metrics.page()
}

fn spin() -> Vec<u8> {
    handler("(loop $l (br $l)) unreachable")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_receipt_interrupts_the_guest_and_settles_nothing() {
    let (queue, metrics) = run_one(spin(), vec![ExtendError::Expired]).await;
    assert_eq!(queue.settled(), 0);
    assert!(
        metrics.contains(r#"sandhog_lost_leases_total{queue="in"} 1"#),
        "{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_connection_interrupts_the_guest_and_settles_nothing() {
    let (queue, store) = one_message(Duration::from_hours(12), Vec::new()).await;
    let queue = queue.held_by_connection(None);
    let metrics = run_on(spin(), &queue, store, queue.lose_connection()).await;
    assert_eq!((queue.settled(), queue.asked("extend").len()), (0, 0));
    assert!(
        metrics.contains(r#"sandhog_lost_leases_total{queue="in"} 1"#),
        "{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_takes_no_extension_until_the_deadline_interrupts_the_guest_and_settles_nothing() {
    let name = QueueName::new("in").unwrap();
    let refusals = (0..100).map(|_| ExtendError::Queue(unavailable(&name))).collect();
    let (queue, metrics) = run_one(spin(), refusals).await;
    assert_eq!(queue.settled(), 0);
    assert!(
        metrics.contains(r#"sandhog_lost_leases_total{queue="in"} 1"#),
        "{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_extension_that_fails_now_and_then_is_repeated_and_costs_nothing() {
    let name = QueueName::new("in").unwrap();
    let refusal = ExtendError::Queue(unavailable(&name));
    let (queue, store) = one_message(Duration::from_secs(4), vec![refusal]).await;
    let metrics = run_on(obedient("out"), &queue, store, async {}).await;
    // The guest outlasts the visibility timeout.
    assert!(queue.asked("extend").len() >= 2, "{:?}", queue.asked("extend"));
    assert_eq!(queue.settled(), 1);
    assert_eq!(queue.counts().await.unwrap(), Counts::default());
    assert!(!metrics.contains("sandhog_lost_leases_total"), "{metrics}");
}

#[test]
fn spinning_guests_on_every_core_make_no_lease_late() {
    let place = Place::new();
    place.configure(
        "[queues.spin]\nvisibility-timeout = \"3s\"\nmax-receives = 1\n[queues.good]\nvisibility-timeout = \"3s\"\n",
    );
    place.install("spin", &spin(), "concurrency = 16\ntimeout = \"8s\"\n");
    let busy = handler(&format!(
        "(local $n i64) (loop $l (local.set $n (i64.add (local.get $n) (i64.const 1)))
        (br_if $l (i64.lt_u (local.get $n) (i64.const 200000000)))) {FORWARD} (global.get $ok)"
    ));
    place.install("good", &busy, "[grant]\nsend = [\"out\"]\n");
    let host = place.start();
    host.wait_ready();
    for number in 0..16 {
        host.send("spin", b"x");
        host.send("good", number.to_string().as_bytes());
    }
    host.wait_empty("good");
    host.wait_empty("spin");
    assert_eq!(host.take_all("out").len(), 16);
    assert_eq!(host.dead("spin").len(), 16);
    let metrics = host.text("/metrics").1;
    assert!(!metrics.contains("sandhog_lost_leases_total"), "{metrics}");
    assert!(
        metrics.contains(r#"sandhog_attempts_total{handler="good",outcome="success"} 16"#),
        "{metrics}"
    );
}

/// A lease of 30 s on a queue that is remote or not, on a machine that sleeps as the test says.
struct Sleeper {
    queue: Arc<FaultyQueue>,
    keeper: Arc<LeaseKeeper>,
    /// How many seconds the machine has slept.
    slept: Arc<AtomicU64>,
    lease: Lease,
    _extending: JoinSet<()>,
}

impl Sleeper {
    async fn new(remote: bool) -> Self {
        let name = QueueName::new("in").unwrap();
        let store = SimpleStore::ephemeral();
        let queue: Arc<dyn Queue> = store.queue(name.clone(), Settings::defaults(&name)).await.unwrap();
        queue.send(Outgoing::new("x").check().unwrap()).await.unwrap();
        let capabilities = QueueCapabilities {
            calls_overtake: remote,
            has_own_clock: remote,
            ..QueueCapabilities::LOCAL
        };
        let queue = FaultyQueue::with_capabilities(queue, [], Extensions::Scripted([].into()), capabilities);
        let slept = Arc::new(AtomicU64::new(0));
        let seconds = Arc::clone(&slept);
        let clock = MachineClock::new(move || Reading {
            asleep: Duration::from_secs(seconds.load(Ordering::SeqCst)),
            ..Reading::now()
        });
        let keeper = LeaseKeeper::with_clock(Arc::<FaultyQueue>::clone(&queue), Arc::default(), clock);
        let delivery = queue.receive(1, Duration::ZERO).await.unwrap().pop().unwrap();
        let lease = keeper.hold(delivery.receipt, &delivery.lease);
        let mut extending = JoinSet::new();
        let extends = Arc::clone(&keeper);
        extending.spawn(async move { extends.run(CancellationToken::new()).await });
        Self {
            queue,
            keeper,
            slept,
            lease,
            _extending: extending,
        }
    }

    async fn sleep(&self, seconds: u64) {
        // The keeper has begun to wait for the half of the time.
        sleep(Duration::from_secs(1)).await;
        self.slept.fetch_add(seconds, Ordering::SeqCst);
    }
}

/// An `Instant` stands still while the machine sleeps, so a guest ran on with what somebody else had long received.
#[tokio::test(start_paused = true)]
async fn a_lease_on_a_remote_queue_is_lost_when_the_machine_slept_over_its_end() {
    let sleeper = Sleeper::new(true).await;
    sleeper.sleep(3600).await;
    let woken = Instant::now();
    sleeper.lease.lost().cancelled().await;
    assert!(woken.elapsed() <= Duration::from_secs(1), "{:?}", woken.elapsed());
    assert!(sleeper.queue.asked("extend").is_empty());
    let answer = sleeper.lease.settle(Settlement::Delete).await;
    assert!(matches!(answer, Err(SettleError::Expired)), "{answer:?}");
    assert_eq!(sleeper.queue.settled(), 0);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_settled_in_the_moment_after_a_sleep() {
    let sleeper = Sleeper::new(true).await;
    sleeper.sleep(3600).await;
    assert!(sleeper.lease.is_lost());
    let answer = sleeper.lease.settle(Settlement::Delete).await;
    assert!(matches!(answer, Err(SettleError::Expired)), "{answer:?}");
    assert_eq!(sleeper.queue.settled(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_lease_of_which_a_sleep_has_left_something_is_extended_at_once() {
    let sleeper = Sleeper::new(true).await;
    sleeper.sleep(20).await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(sleeper.queue.asked("extend").len(), 1);
    assert!(!sleeper.lease.lost().is_cancelled());
    sleep(Duration::from_mins(2)).await;
    sleeper.lease.settle(Settlement::Delete).await.unwrap();
    assert_eq!(sleeper.queue.settled(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_queue_in_this_process_sleeps_with_it() {
    let sleeper = Sleeper::new(false).await;
    sleeper.sleep(3600).await;
    sleep(Duration::from_secs(2)).await;
    assert!(!sleeper.lease.is_lost());
    sleeper.lease.settle(Settlement::Delete).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_comes_after_its_deadline_is_lost_before_a_guest_starts() {
    let sleeper = Sleeper::new(true).await;
    sleeper.queue.send(Outgoing::new("y").check().unwrap()).await.unwrap();
    let delivery = sleeper.queue.receive(1, Duration::ZERO).await.unwrap().pop().unwrap();
    sleep(Duration::from_secs(31)).await;
    let lease = sleeper.keeper.hold(delivery.receipt, &delivery.lease);
    assert!(lease.lost().is_cancelled());
}

/// Two received messages of a queue under one keeper, and the queue of the sends that their handler made.
async fn two_held() -> (Arc<LeaseKeeper>, Vec<Lease>, Arc<dyn Queue>, Effects) {
    let store = SimpleStore::ephemeral();
    let open = async |name: &str| {
        let name = QueueName::new(name).unwrap();
        let settings = Settings::defaults(&name);
        store.queue(name, settings).await.unwrap()
    };
    let source: Arc<dyn Queue> = open("in").await;
    let destination: Arc<dyn Queue> = open("out").await;
    for body in ["a", "b"] {
        source.send(Outgoing::new(body).check().unwrap()).await.unwrap();
    }
    let keeper = LeaseKeeper::new(Arc::clone(&source), Arc::default());
    let deliveries = source.receive(2, Duration::ZERO).await.unwrap();
    let leases = deliveries
        .iter()
        .map(|delivery| keeper.hold(delivery.receipt.clone(), &delivery.lease))
        .collect();
    let effects = Effects::from(vec![EffectSend {
        queue: destination.name().clone(),
        message: Outgoing::new("of both").check().unwrap(),
    }]);
    (keeper, leases, destination, effects)
}

/// Once a batch with a lost lease was settled without it, and with the effects: its message came back, and the effects
/// happened twice.
#[tokio::test]
async fn the_effects_of_a_batch_do_not_happen_without_one_of_its_messages() {
    let (keeper, leases, destination, effects) = two_held().await;
    leases[0].lost().cancel();
    let batch = leases.into_iter().map(|lease| (lease, Settlement::Delete)).collect();
    let (answers, _leases) = keeper.settle_with(batch, &effects).await;
    assert!(matches!(answers, Err(EffectsRefused::Incomplete)), "{answers:?}");
    assert_eq!(destination.counts().await.unwrap().ready, 0);
}

#[tokio::test]
async fn the_effects_of_a_lost_message_do_not_happen_with_the_retry_of_another() {
    let (keeper, leases, destination, effects) = two_held().await;
    leases[0].lost().cancel();
    let settlements = [Settlement::Delete, Settlement::Release];
    let batch = leases.into_iter().zip(settlements).collect();
    let (answers, _leases) = keeper.settle_with(batch, &effects).await;
    let answers = answers.unwrap();
    assert!(
        matches!(answers[..], [Err(SettleError::Expired), Ok(())]),
        "{answers:?}"
    );
    assert_eq!(destination.counts().await.unwrap().ready, 0);
}
