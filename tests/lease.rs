//! Leases: renewed while a guest works, and when one is lost the guest is interrupted and nothing is settled.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use harness::{
    guests::{FORWARD, handler},
    host::Place,
};
use sandhog::{
    attempt::{AttemptContext, Version, policy},
    config::Manifest,
    dispatcher::Dispatcher,
    executor::{EngineOptions, Executor, LocalExecutor},
    handler_status::HandlerBoard,
    lease::LeaseKeeper,
    message::{MessageId, Outgoing, QueueName},
    metrics::Metrics,
    queue::{
        Counts, DeadLetter, Delivery, ExtendError, Queue, QueueError, Receipt, Send, SendError, Settle, SettleError,
        simple::{SimpleStore, settings::Settings},
    },
    queue_set::QueueSet,
};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

/// A real queue whose answers to extensions and settlements are chosen by the test.
#[derive(Debug)]
struct Unruly {
    queue: Arc<dyn Queue>,
    extensions: Mutex<Vec<Result<(), ExtendError>>>,
    extended: AtomicUsize,
    settled: AtomicUsize,
}

fn unavailable(name: &QueueName) -> QueueError {
    QueueError::Unavailable {
        queue: name.clone(),
        cause: Arc::new(std::io::Error::other("chosen by the test")),
    }
}

#[async_trait]
impl Queue for Unruly {
    fn name(&self) -> &QueueName {
        self.queue.name()
    }

    fn visibility_timeout(&self) -> Duration {
        self.queue.visibility_timeout()
    }

    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, QueueError> {
        self.queue.receive(max, wait).await
    }

    async fn extend(&self, receipts: Vec<Receipt>, by: Duration) -> Vec<Result<(), ExtendError>> {
        self.extended.fetch_add(1, Ordering::Relaxed);
        let answer = self.extensions.lock().unwrap().pop();
        match answer {
            Some(answer) => receipts.iter().map(|_| answer.clone()).collect(),
            None => self.queue.extend(receipts, by).await,
        }
    }

    async fn settle(&self, settles: Vec<Settle>, sends: Vec<Send>) -> Vec<Result<(), SettleError>> {
        self.settled.fetch_add(settles.len(), Ordering::Relaxed);
        self.queue.settle(settles, sends).await
    }

    fn commits_sends_to(&self, destination: &QueueName) -> bool {
        self.queue.commits_sends_to(destination)
    }

    async fn send_many(&self, messages: Vec<Outgoing>) -> Vec<Result<MessageId, SendError>> {
        self.queue.send_many(messages).await
    }

    async fn counts(&self) -> Result<Counts, QueueError> {
        self.queue.counts().await
    }

    async fn purge(&self) -> Result<u64, QueueError> {
        self.queue.purge().await
    }

    async fn dead_letters(&self, after: Option<MessageId>, limit: usize) -> Result<Vec<DeadLetter>, QueueError> {
        self.queue.dead_letters(after, limit).await
    }

    async fn dead_letter(&self, id: &MessageId) -> Result<Option<DeadLetter>, QueueError> {
        self.queue.dead_letter(id).await
    }

    async fn redrive(&self, ids: Option<Vec<MessageId>>, limit: usize) -> Result<u64, QueueError> {
        self.queue.redrive(ids, limit).await
    }

    async fn purge_dead(&self) -> Result<u64, QueueError> {
        self.queue.purge_dead().await
    }
}

/// Runs a handler that takes about `seconds` on a queue with a visibility of one second, for one message; returns the queue,
/// the metrics, and when the executor had no live instance any more.
async fn run_one(wasm: Vec<u8>, extensions: Vec<Result<(), ExtendError>>) -> (Arc<Unruly>, String) {
    let name = QueueName::new("in").unwrap();
    let store = SimpleStore::ephemeral();
    let settings = Settings {
        visibility_timeout: Duration::from_secs(1),
        ..Settings::defaults(&name)
    };
    let queue: Arc<dyn Queue> = store.queue(name.clone(), settings).await.unwrap();
    queue.send(Outgoing::new("x")).await.unwrap();
    let unruly = Arc::new(Unruly {
        queue,
        extensions: Mutex::new(extensions),
        extended: AtomicUsize::new(0),
        settled: AtomicUsize::new(0),
    });
    let manifest = Manifest::parse("concurrency = 1\ntimeout = \"30s\"\n", "in").unwrap();
    let policy = Arc::new(policy("in", &manifest));
    let executor = Arc::new(
        LocalExecutor::new(EngineOptions {
            max_live_instances: 4,
            threads: 2,
        })
        .unwrap(),
    );
    let component = executor
        .load(PathBuf::from("in.wasm"), Bytes::from(wasm), Arc::clone(&policy))
        .await
        .unwrap();
    let metrics = Arc::new(Metrics::new());
    let source: Arc<dyn Queue> = Arc::<Unruly>::clone(&unruly);
    let guests: Arc<dyn Executor> = Arc::<LocalExecutor>::clone(&executor);
    let keeper = LeaseKeeper::new(Arc::clone(&source), Arc::clone(&metrics));
    let (versions, receiver) = watch::channel(Arc::new(Version {
        component,
        manifest,
        policy,
    }));
    let context = AttemptContext {
        handler: "in".to_owned(),
        queue: source,
        keeper: Arc::clone(&keeper),
        executor: guests,
        queues: Arc::new(QueueSet::new(store.clone(), BTreeMap::new())),
        metrics: Arc::clone(&metrics),
        stop_working: CancellationToken::new(),
    };
    let (stop, stop_renewing) = (CancellationToken::new(), CancellationToken::new());
    let dispatcher = Dispatcher::new(context, Arc::new(HandlerBoard::default()), receiver, stop.clone());
    let first_attempt = one_attempt(&executor, &stop);
    let run = async {
        let ended = dispatcher.run().await;
        stop_renewing.cancel();
        ended
    };
    let start = Instant::now();
    let (ended, (), ()) = tokio::join!(run, keeper.run(stop_renewing.clone()), first_attempt);
    ended.unwrap();
    assert!(
        start.elapsed() < Duration::from_secs(25),
        "the guest was not interrupted"
    );
    drop(versions);
    (unruly, metrics.page())
}

/// Waits for the first attempt to begin and to end, and keeps a second one from beginning.
async fn one_attempt(executor: &LocalExecutor, stop: &CancellationToken) {
    while executor.live_instances() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stop.cancel();
    while executor.live_instances() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn spin() -> Vec<u8> {
    handler("(loop $l (br $l)) unreachable")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_receipt_interrupts_the_guest_and_settles_nothing() {
    let (queue, metrics) = run_one(spin(), vec![Err(ExtendError::Expired)]).await;
    assert_eq!(queue.settled.load(Ordering::Relaxed), 0);
    assert!(
        metrics.contains(r#"sandhog_lost_leases_total{queue="in"} 1"#),
        "{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_takes_no_extension_until_the_deadline_interrupts_the_guest_and_settles_nothing() {
    let name = QueueName::new("in").unwrap();
    let refusals = (0..100).map(|_| Err(ExtendError::Queue(unavailable(&name)))).collect();
    let (queue, metrics) = run_one(spin(), refusals).await;
    assert_eq!(queue.settled.load(Ordering::Relaxed), 0);
    assert!(
        metrics.contains(r#"sandhog_lost_leases_total{queue="in"} 1"#),
        "{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_extension_that_fails_now_and_then_is_repeated_and_costs_nothing() {
    let busy = "(local $n i64) (loop $l (local.set $n (i64.add (local.get $n) (i64.const 1)))
        (br_if $l (i64.lt_u (local.get $n) (i64.const 2000000000)))) (global.get $ok)";
    let name = QueueName::new("in").unwrap();
    let (queue, metrics) = run_one(handler(busy), vec![Err(ExtendError::Queue(unavailable(&name)))]).await;
    assert_eq!(queue.settled.load(Ordering::Relaxed), 1);
    assert_eq!(queue.counts().await.unwrap(), Counts::default());
    assert!(!metrics.contains("sandhog_lost_leases_total"), "{metrics}");
}

#[test]
fn spinning_guests_on_every_core_make_no_lease_late() {
    let place = Place::new();
    place.configure(
        "[queues.spin]\nvisibility-timeout = \"1s\"\nmax-receives = 1\n[queues.good]\nvisibility-timeout = \"1s\"\n",
    );
    place.install("spin", &spin(), "concurrency = 16\ntimeout = \"4s\"\n");
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
