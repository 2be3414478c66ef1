//! Messages per second through a durable Simple queue, a chain of three handlers, and how long a message waits for its
//! handler, as ratios to what the disk and SQLite take by themselves.
//!
//! Every message is put, marked as received and deleted, and each of these is on the disk before it is acknowledged. The bare
//! SQLite loop does the same on one thread without a guest: one transaction puts as many messages as there are senders, marks
//! those of the transaction before and deletes those of the one before that, so it has one sync for a whole round of everybody.
//! It is the best that SQLite can do with these senders, rather than what anybody would write. The raw log appends the same
//! bytes to a file and syncs as often.
//!
//! `cargo bench --workspace --bench durable`; with `-- only SENDERS MESSAGES HOPS` for a profiler, with `-- latency` the waits alone.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::as_conversions,
    reason = "a benchmark speaks to a person"
)]

use std::{
    fs::File,
    io::Write as _,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use harness::{
    clocked::Clocked,
    guests::{forward, no_op, obedient},
    pipeline::{Pipeline, control_runtime},
    ratios::{Bound, Figures, Row, compare, machine, print_row},
};
use rusqlite::{Connection, params};
use sandhog::{attempt::policy, config::Manifest};
use sandhog_executor::{Component, EngineOptions, Executor, LocalExecutor};
use sandhog_queue::{
    Queue,
    message::{Outgoing, QueueName},
};
use sandhog_simple::{SimpleStore, StoreOptions};
use tokio::task::JoinSet;

/// As the host's program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BODY_BYTES: usize = 256;
const ROUNDS: usize = 5;
/// How many senders there are, and how many messages they send together.
const LOADS: [(usize, usize); 3] = [(1, 600), (16, 6_400), (256, 25_600)];
/// How many messages a handler handles at a time, at least; twice as many as there are senders, so that one round of theirs can
/// be handled while the next one is received.
const SLOTS: usize = 64;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|each| each != "--bench").collect();
    let host = Host::new();
    if let [only, senders, messages, hops] = arguments.as_slice()
        && only == "only"
    {
        let [senders, messages, hops] = [senders, messages, hops].map(|number| number.parse().unwrap());
        let (own, bare) = (host.run(senders, messages, hops), sqlite(senders, messages, hops));
        println!("host {own:.0} messages/s, bare {bare:.0}, ratio {:.2}", own / bare);
        return;
    }
    println!("{}", machine());
    if arguments == ["latency"] {
        latencies(&host);
        return;
    }
    for (senders, messages) in LOADS {
        compare(
            &format!("a durable queue, {senders} senders at a time: send, handle, delete"),
            "messages/s",
            ROUNDS,
            vec![
                Row::new("bare SQLite loop", || sqlite(senders, messages, 1)),
                Row::new("raw log, append and sync", || raw_log(senders, messages)),
                Row::new("host", || host.run(senders, messages, 1)).bound(Bound::AtLeast(0.7)),
            ],
        );
    }
    let (senders, messages) = (16, 3_200);
    compare(
        "a chain of three handlers, 16 senders at a time",
        "messages/s",
        ROUNDS,
        vec![
            Row::new("bare SQLite loop", || sqlite(senders, messages, 3)),
            Row::new("host", || host.run(senders, messages, 3)),
        ],
    );
    latencies(&host);
}

/// A message through `hops` queues in the bare loop.
fn sqlite(senders: usize, messages: usize, hops: usize) -> f64 {
    let directory = tempfile::tempdir().unwrap();
    let connection = Connection::open(directory.path().join("bare.db")).unwrap();
    connection
        .execute_batch(
            "PRAGMA journal_mode = wal; PRAGMA synchronous = full; PRAGMA cache_size = -8192;
             CREATE TABLE messages (seq INTEGER PRIMARY KEY, queue INTEGER NOT NULL, state INTEGER NOT NULL,
                visible_at INTEGER NOT NULL, receive_count INTEGER NOT NULL, sent_at INTEGER NOT NULL, id TEXT NOT NULL,
                body BLOB NOT NULL) STRICT;
             CREATE INDEX messages_by_state ON messages (queue, state, seq);",
        )
        .unwrap();
    let (body, id) = (vec![b'x'; BODY_BYTES], "01920000-0000-7000-8000-000000000000");
    let put = |seq: i64| {
        let mut put = connection
            .prepare_cached("INSERT INTO messages VALUES (?1, 1, 0, 0, 0, 1700000000000, ?2, ?3)")
            .unwrap();
        put.execute(params![seq, id, body]).unwrap();
    };
    let take = |count: i64| {
        let mut ready = connection
            .prepare_cached("SELECT seq, id, body FROM messages WHERE queue = 1 AND state = 0 ORDER BY seq LIMIT ?1")
            .unwrap();
        let ready = ready.query_map([count], |row| {
            Ok((
                row.get::<_, i64>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, Vec<u8>>(2)?,
            ))
        });
        let taken: Vec<_> = ready.unwrap().map(|row| row.unwrap().0).collect();
        let mut mark = connection
            .prepare_cached("UPDATE messages SET state = 2, receive_count = receive_count + 1 WHERE seq = ?1")
            .unwrap();
        for seq in &taken {
            mark.execute([seq]).unwrap();
        }
        taken
    };
    let start = Instant::now();
    let (mut next, mut in_flight, mut done) = (1, Vec::new(), 0);
    let [total, round] = [messages * hops, senders * hops].map(|count| i64::try_from(count).unwrap());
    while done < total {
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        for seq in &in_flight {
            let mut delete = connection
                .prepare_cached("DELETE FROM messages WHERE seq = ?1")
                .unwrap();
            delete.execute([seq]).unwrap();
            done += 1;
        }
        in_flight = take(round);
        for _ in 0..round {
            if next <= total {
                put(next);
                next += 1;
            }
        }
        connection.execute_batch("COMMIT").unwrap();
    }
    messages as f64 / start.elapsed().as_secs_f64()
}

/// What a message leaves in a log: its body when it is put, a line when it is received, and one when it is deleted.
fn raw_log(senders: usize, messages: usize) -> f64 {
    let directory = tempfile::tempdir().unwrap();
    let mut file = File::create(directory.path().join("log")).unwrap();
    let round = vec![b'x'; senders * (BODY_BYTES + 64 + 16 + 16)];
    let start = Instant::now();
    for _ in 0..messages / senders {
        file.write_all(&round).unwrap();
        file.sync_data().unwrap();
    }
    messages as f64 / start.elapsed().as_secs_f64()
}

/// Everything that a host has but files and a listener.
struct Host {
    executor: Arc<Clocked>,
    handlers: [Component; 3],
}

impl Host {
    fn new() -> Self {
        let local = LocalExecutor::new(EngineOptions {
            max_live_instances: 512,
            memory_budget: 1 << 40,
            ..EngineOptions::default()
        });
        let executor = Arc::new(Clocked::new(local.unwrap()));
        let runtime = control_runtime();
        let load = |wasm: Vec<u8>, to: &str| {
            let policy = Arc::new(policy("bench", &manifest("bench", Some(to))));
            let load = executor.load(PathBuf::from("bench.wasm"), Bytes::from(wasm), policy);
            runtime.block_on(load).unwrap()
        };
        // The second sends to the queue `third`, the first to `out`, which is the second's.
        let handlers = [
            load(forward(), "out"),
            load(obedient("third"), "third"),
            load(no_op(), "none"),
        ];
        Self { executor, handlers }
    }

    fn executor(&self) -> Arc<dyn Executor> {
        Arc::clone(&self.executor) as Arc<dyn Executor>
    }

    /// Messages per second through so many handlers, from the first send to the last deletion.
    fn run(&self, senders: usize, messages: usize, hops: usize) -> f64 {
        let directory = tempfile::tempdir().unwrap();
        let runtime = control_runtime();
        let store = SimpleStore::open(&StoreOptions::new(directory.path())).unwrap();
        runtime.block_on(async {
            let mut pipeline = Pipeline::new(runtime.handle(), store, self.executor());
            let names = ["first", "out", "third"].into_iter().skip(3 - hops);
            for (name, handler) in names.clone().zip(self.handlers.iter().skip(3 - hops)) {
                let mut manifest = manifest(name, Some(if name == "first" { "out" } else { "third" }));
                manifest.concurrency = SLOTS.max(2 * senders).try_into().unwrap();
                pipeline.handle(handler, manifest).await;
            }
            let queue = pipeline.queue(names.clone().next().unwrap()).await;
            let start = Instant::now();
            let mut sending = JoinSet::new();
            for _ in 0..senders {
                let queue = Arc::clone(&queue);
                sending.spawn(async move {
                    for _ in 0..messages / senders {
                        send(&*queue, vec![b'x'; BODY_BYTES]).await;
                    }
                });
            }
            sending.join_all().await;
            let end = pipeline.deleted(messages * hops).await;
            pipeline.stop().await;
            messages as f64 / (end - start).as_secs_f64()
        })
    }

    /// How long messages wait from before the send to the start of the handler: one at a time with a pause behind each
    /// (`rate` is `None`), or so many a second.
    fn waits(&self, store: SimpleStore, messages: usize, rate: Option<f64>) -> Vec<f64> {
        let runtime = control_runtime();
        runtime.block_on(async {
            let mut pipeline = Pipeline::new(runtime.handle(), store, self.executor());
            let [.., handler] = &self.handlers;
            pipeline.handle(handler, manifest("third", None)).await;
            let queue = pipeline.queue("third").await;
            self.executor.take_waits();
            match rate {
                None => {
                    for number in 1..=messages {
                        send(&*queue, self.executor.stamp(BODY_BYTES)).await;
                        pipeline.deleted(number).await;
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                }
                Some(rate) => {
                    let (start, mut sending) = (Instant::now(), JoinSet::new());
                    for number in 0..messages {
                        let due = start + Duration::from_secs_f64(number as f64 / rate);
                        tokio::time::sleep_until(due.into()).await;
                        let (queue, stamp) = (Arc::clone(&queue), self.executor.stamp(BODY_BYTES));
                        sending.spawn(async move { send(&*queue, stamp).await });
                    }
                    sending.join_all().await;
                    pipeline.deleted(messages).await;
                }
            }
            pipeline.stop().await;
        });
        self.executor.take_waits()
    }
}

async fn send(queue: &dyn Queue, body: Vec<u8>) {
    for answer in queue
        .send_many(vec![Outgoing::new(Bytes::from(body)).check().unwrap()])
        .await
    {
        answer.unwrap();
    }
}

fn manifest(queue: &str, sends_to: Option<&str>) -> Manifest {
    let mut manifest = Manifest::defaults(queue).unwrap();
    manifest.grants.send = sends_to.map(|to| [QueueName::new(to).unwrap()].into());
    manifest
}

/// From send to start. The floor of a durable queue is two transactions of bare SQLite: the message is put, and it is marked.
fn latencies(host: &Host) {
    println!("\nfrom the send to the start of the handler, us: p50, p99, p99.9 as ratios to the floor's");
    println!("{:<64} {:>30} {:>22}", "", "us", "ratio");
    let floor = two_transactions(2_000);
    show("bare SQLite, idle: put and mark, a transaction each", &floor, &floor);
    let directory = tempfile::tempdir().unwrap();
    let durable = |name: &str| SimpleStore::open(&StoreOptions::new(directory.path().join(name))).unwrap();
    show("host, durable, idle", &host.waits(durable("idle"), 1_000, None), &floor);
    let most = host.run(16, 6_400, 1);
    let half = host.waits(durable("half"), 5_000, Some(most / 2.0));
    show("host, durable, at half of the rate of 16 senders", &half, &floor);
    let hop = channel_hops(20_000);
    show("a message through a channel to another thread", &hop, &hop);
    show(
        "host, in memory, idle",
        &host.waits(SimpleStore::ephemeral(), 1_000, None),
        &hop,
    );
    let half = host.waits(SimpleStore::ephemeral(), 20_000, Some(8_000.0));
    show("host, in memory, 8,000 a second", &half, &hop);
}

fn show(name: &str, waits: &[f64], floor: &[f64]) {
    for quantile in [0.5, 0.99, 0.999] {
        let [own, base] = [waits, floor].map(|waits| {
            let mut sorted = waits.to_vec();
            sorted.sort_by(f64::total_cmp);
            let at = ((sorted.len() - 1) as f64 * quantile).round();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
            *sorted.get(at as usize).unwrap()
        });
        let name = format!("{name}, p{}", quantile * 100.0);
        print_row(&name, &Figures::new(vec![own]), &Figures::new(vec![base]), None);
    }
}

fn two_transactions(messages: i64) -> Vec<f64> {
    let directory = tempfile::tempdir().unwrap();
    let connection = Connection::open(directory.path().join("bare.db")).unwrap();
    connection
        .execute_batch(
            "PRAGMA journal_mode = wal; PRAGMA synchronous = full;
             CREATE TABLE messages (seq INTEGER PRIMARY KEY, state INTEGER NOT NULL, body BLOB NOT NULL) STRICT;",
        )
        .unwrap();
    let body = vec![b'x'; BODY_BYTES];
    let put_and_mark = |seq: i64| {
        let start = Instant::now();
        connection
            .execute("INSERT INTO messages VALUES (?1, 0, ?2)", params![seq, body])
            .unwrap();
        connection
            .execute("UPDATE messages SET state = 2 WHERE seq = ?1", [seq])
            .unwrap();
        start.elapsed().as_secs_f64() * 1e6
    };
    (0..messages).map(put_and_mark).collect()
}

fn channel_hops(messages: usize) -> Vec<f64> {
    let runtime = control_runtime();
    runtime.block_on(async {
        let (sender, mut receiver) = tokio::sync::mpsc::channel::<Instant>(1);
        let mut reading = JoinSet::new();
        reading.spawn(async move {
            let mut waits = Vec::new();
            while let Some(sent) = receiver.recv().await {
                waits.push(sent.elapsed().as_secs_f64() * 1e6);
            }
            waits
        });
        for _ in 0..messages {
            sender.send(Instant::now()).await.unwrap();
        }
        drop(sender);
        reading.join_next().await.unwrap().unwrap()
    })
}
