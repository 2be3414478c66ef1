//! What a search of a large backlog costs, and what it costs the handlers that work in the same store meanwhile.
//!
//! Two million messages of 256 bytes wait in a durable queue. A peek looks for a text that the last one has, page by page, while handlers
//! of another queue handle 10,000 messages a second, or half of what the machine handles if that is less. The baseline of the search is
//! one statement of bare SQLite that reads every body and keeps its transaction open meanwhile; that of the handlers is the same load
//! without a search, in turns with it.
//!
//! `cargo bench --workspace --bench peek`; with `-- MESSAGES RATE ROUNDS` for others.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::as_conversions,
    reason = "a benchmark speaks to a person"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use harness::{
    clocked::Clocked,
    guests::no_op,
    pipeline::{Pipeline, control_runtime, fill},
    ratios::{Figures, machine, print_header, print_row},
};
use rusqlite::{Connection, OpenFlags};
use sandhog::{attempt::policy, config::Manifest};
use sandhog_executor::{EngineOptions, Executor, LocalExecutor};
use sandhog_queue::{
    Queue,
    message::{CheckedMessage, Outgoing},
    message_filter::{FilterClause, FilterField, MessageFilter, TextRelation},
    peek::{PeekRequest, PeekScope},
};
use sandhog_simple::{SimpleStore, StoreOptions};
use tokio::task::JoinSet;

/// As the host's program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BODY_BYTES: usize = 256;
const NEEDLE: &str = "the needle";
/// The longest time for which the load is watched without a search.
const LONGEST: Duration = Duration::from_secs(30);
/// How many messages are sent to see how many are handled in a second.
const BURST: usize = 20_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|each| each != "--bench").collect();
    let (messages, rate, rounds) = match arguments.as_slice() {
        [messages, rate, rounds] => (
            messages.parse().unwrap(),
            rate.parse().unwrap(),
            rounds.parse().unwrap(),
        ),
        _ => (2_000_000, 10_000.0, 3),
    };
    let profile = if cfg!(debug_assertions) {
        "without optimisation, the profile of the tests"
    } else {
        "optimised"
    };
    println!("{}\n{profile}", machine());
    let runtime = control_runtime();
    runtime.block_on(async {
        let mut bench = Bench::new(&runtime, messages).await;
        bench.run(messages, rate, rounds).await;
        bench.pipeline.stop().await;
    });
}

/// A backlog, and a handler of another queue.
struct Bench {
    directory: tempfile::TempDir,
    executor: Arc<Clocked>,
    pipeline: Pipeline,
    backlog: Arc<dyn Queue>,
    work: Arc<dyn Queue>,
    /// How many messages were sent to the handler.
    sent: usize,
}

/// What was seen of a time.
struct Watched {
    seconds: f64,
    /// How many messages were handled in a second.
    rate: f64,
    /// From the send to the start of the handler, in microseconds, shortest first.
    waits: Vec<f64>,
    /// The most memory of this process, in MiB.
    resident: f64,
    /// The length of the write-ahead log at the end, and at most, in MiB.
    log: (f64, f64),
}

impl Bench {
    async fn new(runtime: &tokio::runtime::Runtime, messages: usize) -> Self {
        let local = LocalExecutor::new(EngineOptions::default()).unwrap();
        let executor = Arc::new(Clocked::new(local));
        let directory = tempfile::tempdir().unwrap();
        let store = SimpleStore::open(&StoreOptions::new(directory.path())).unwrap();
        let shared = Arc::clone(&executor) as Arc<dyn Executor>;
        let mut pipeline = Pipeline::new(runtime.handle(), store, shared);
        let mut manifest = Manifest::defaults("work").unwrap();
        manifest.concurrency = 128.try_into().unwrap();
        let policy = Arc::new(policy("work", &manifest));
        let load = executor.load(PathBuf::from("bench.wasm"), Bytes::from(no_op()), policy);
        pipeline.handle(&load.await.unwrap(), manifest).await;
        let [backlog, work] = [pipeline.queue("backlog").await, pipeline.queue("work").await];
        let began = Instant::now();
        fill(&*backlog, messages, |_| Bytes::from_static(&[b'x'; BODY_BYTES])).await;
        backlog.send(Outgoing::new(NEEDLE).check().unwrap()).await.unwrap();
        println!("{messages} messages sent in {:.0} s", began.elapsed().as_secs_f64());
        Self {
            directory,
            executor,
            pipeline,
            backlog,
            work,
            sent: 0,
        }
    }

    async fn run(&mut self, messages: usize, wished: f64, rounds: usize) {
        let reached = self.burst().await;
        let rate = wished.min(reached / 2.0);
        println!("{reached:.0} messages a second are handled at most; beside the search, {rate:.0}");
        let (mut bare, mut idle, mut without, mut with) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            let path = self.directory.path().join("queues.db");
            bare.push(tokio::task::spawn_blocking(move || bare_scan(&path)).await.unwrap());
            let alone = self.search().await;
            idle.push(alone);
            without.push(
                self.beside(rate, tokio::time::sleep(Duration::from_secs_f64(alone).min(LONGEST)))
                    .await,
            );
            let backlog = Arc::clone(&self.backlog);
            let looking = async move {
                search(&*backlog).await;
            };
            with.push(self.beside(rate, looking).await);
        }
        print_header(&format!("a text is sought in {messages} messages"), "s", rounds);
        let [bare, idle] = [bare, idle].map(Figures::new);
        print_row("bare SQLite, one statement, nobody works", &bare, &bare, None);
        print_row("peek, nobody works", &idle, &bare, None);
        print_row("peek, handlers work", &of(&with, |seen| seen.seconds), &bare, None);
        print_header("handlers beside the search, and without it", "", rounds);
        let show = |name: &str, figure: fn(&Watched) -> f64| show(name, &without, &with, figure);
        show("messages handled a second", |seen| seen.rate);
        show("from send to start, p50, us", |seen| quantile(&seen.waits, 0.5));
        show("from send to start, p99, us", |seen| quantile(&seen.waits, 0.99));
        show("memory of the process at most, MiB", |seen| seen.resident);
        show("write-ahead log at the end, MiB", |seen| seen.log.0);
        show("write-ahead log at most, MiB", |seen| seen.log.1);
    }

    /// How many messages the handler handles in a second.
    async fn burst(&mut self) -> f64 {
        let began = Instant::now();
        for _ in 0..BURST / 500 {
            send(&*self.work, &self.executor, 500).await;
        }
        self.sent += BURST;
        let end = self.pipeline.deleted(self.sent).await;
        BURST as f64 / (end - began).as_secs_f64()
    }

    async fn search(&self) -> f64 {
        search(&*self.backlog).await
    }

    /// Has messages sent and handled until something is over.
    async fn beside(&mut self, rate: f64, until: impl Future<Output = ()>) -> Watched {
        self.executor.take_waits();
        let stopped = Arc::new(AtomicBool::new(false));
        let (mut sending, mut watching) = (JoinSet::new(), JoinSet::new());
        let (queue, executor, ended) = (Arc::clone(&self.work), Arc::clone(&self.executor), Arc::clone(&stopped));
        sending.spawn(async move { send_at(&*queue, &executor, rate, &ended).await });
        let (log, ended) = (self.directory.path().join("queues.db-wal"), Arc::clone(&stopped));
        watching.spawn(async move { watch(&log, &ended).await });
        let began = Instant::now();
        until.await;
        let seconds = began.elapsed().as_secs_f64();
        stopped.store(true, Ordering::Relaxed);
        let sent = sending.join_next().await.unwrap().unwrap();
        self.sent += sent;
        let end = self.pipeline.deleted(self.sent).await;
        let (resident, log) = watching.join_next().await.unwrap().unwrap();
        let mut waits = self.executor.take_waits();
        waits.sort_by(f64::total_cmp);
        Watched {
            seconds,
            rate: sent as f64 / (end - began).as_secs_f64(),
            waits,
            resident,
            log,
        }
    }
}

/// Looks for the needle page by page, and returns how long that took, in seconds.
async fn search(backlog: &dyn Queue) -> f64 {
    let needle = FilterClause::Text {
        field: FilterField::Body,
        relation: TextRelation::Contains,
        value: NEEDLE.to_owned(),
    };
    let filter = MessageFilter::new(vec![needle]).unwrap();
    let (began, mut found, mut after) = (Instant::now(), 0, None);
    loop {
        let page = backlog
            .peek(PeekRequest {
                scope: PeekScope::Messages,
                filter: filter.clone(),
                after,
                limit: 100,
                body_limit: None,
            })
            .await
            .unwrap();
        found += page.messages.len();
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, 1, "the needle");
    began.elapsed().as_secs_f64()
}

/// The same with a statement that reads everything in one transaction.
fn bare_scan(database: &Path) -> f64 {
    let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let began = Instant::now();
    let found = connection.query_row(
        "SELECT count(*) FROM messages JOIN queues USING (queue)
         WHERE name = 'backlog' AND instr(body, CAST(?1 AS BLOB)) > 0",
        [NEEDLE],
        |row| row.get::<_, i64>(0),
    );
    assert_eq!(found.unwrap(), 1, "the needle");
    began.elapsed().as_secs_f64()
}

async fn send(queue: &dyn Queue, executor: &Clocked, messages: usize) {
    let message = |_| -> CheckedMessage { Outgoing::new(executor.stamp(BODY_BYTES)).check().unwrap() };
    for answer in queue.send_many((0..messages).map(message).collect()).await {
        answer.unwrap();
    }
}

/// Sends what is due every few milliseconds, and returns how many that were.
async fn send_at(queue: &dyn Queue, executor: &Clocked, rate: f64, stopped: &AtomicBool) -> usize {
    let (began, mut sent) = (Instant::now(), 0);
    while !stopped.load(Ordering::Relaxed) {
        let due = (began.elapsed().as_secs_f64() * rate) as usize;
        let now = due.saturating_sub(sent).min(1000);
        send(queue, executor, now).await;
        sent += now;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    sent
}

/// Watches the memory of this process and the length of the log, in MiB.
async fn watch(log: &Path, stopped: &AtomicBool) -> (f64, (f64, f64)) {
    let (mut resident, mut at_end, mut longest) = (0.0_f64, 0.0, 0.0_f64);
    while !stopped.load(Ordering::Relaxed) {
        let pages = fs::read_to_string("/proc/self/statm").unwrap();
        let pages: f64 = pages.split_whitespace().nth(1).unwrap().parse().unwrap();
        resident = resident.max(pages * 4096.0 / 1024.0 / 1024.0);
        at_end = fs::metadata(log).map_or(0.0, |file| file.len() as f64 / 1024.0 / 1024.0);
        longest = longest.max(at_end);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (resident, (at_end, longest))
}

/// Prints a figure without and with a search.
fn show(name: &str, without: &[Watched], with: &[Watched], figure: fn(&Watched) -> f64) {
    let base = of(without, figure);
    print_row(&format!("{name}, no search"), &base, &base, None);
    print_row(&format!("{name}, search"), &of(with, figure), &base, None);
}

fn of(seen: &[Watched], figure: fn(&Watched) -> f64) -> Figures {
    Figures::new(seen.iter().map(figure).collect())
}

fn quantile(sorted: &[f64], quantile: f64) -> f64 {
    let at = (sorted.len().saturating_sub(1)) as f64 * quantile;
    *sorted.get(at.round() as usize).unwrap()
}
