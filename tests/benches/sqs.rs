//! Messages per second from an SQS queue through the whole host, as ratios to a bare loop over the AWS SDK in the same run.
//!
//! The bare loop is what anybody would write against the SDK: tasks that each receive ten messages and delete them, and do
//! nothing with them. The host runs a no-op handler in a fresh instance for each message, renews leases, and keeps the
//! ledger on disk. It gets as many slots as the loop can have messages at a time. The runs of a row are interleaved; each
//! prints its median, lowest and highest.
//!
//! The first table is of a server that answers as late as SQS does, so that what counts is how many requests are under way,
//! and how full they are. The second is of one that answers at once, so that what counts is the processor time of this
//! process; the server takes its share of the machine there.
//!
//! `cargo bench -p sandhog-tests --bench sqs`, with `--profile dev` to build less, and `-- quick` for fewer messages. For a
//! profiler: `-- only WHO SLOTS MESSAGES`, where WHO is `bare`, `attributes` or `host`.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::as_conversions,
    reason = "a benchmark speaks to a person"
)]

use std::{
    collections::BTreeMap,
    fs,
    num::NonZeroUsize,
    path::PathBuf,
    process::{Command, ExitCode},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use aws_config::BehaviorVersion;
use aws_sdk_sqs::{
    Client,
    types::{DeleteMessageBatchRequestEntry, MessageSystemAttributeName, SendMessageBatchRequestEntry},
};
use bytes::Bytes;
use harness::{
    fault_proxy::{Fault, FaultProxy, Rule},
    guests::no_op,
    sqs_client::SqsClient,
    sqs_server::{Kind, SqsServer},
};
use sandhog::{
    attempt::{AttemptContext, Version, policy},
    config::{Manifest, QueueSettings},
    dispatcher::Dispatcher,
    executor::{Component, EngineOptions, Executor, LocalExecutor},
    handler_status::HandlerBoard,
    lease::LeaseKeeper,
    message::QueueName,
    metrics::Metrics,
    queue::{
        simple::{SimpleStore, StoreOptions},
        sqs::settings::{Location, SqsSettings},
    },
    queue_set::QueueSet,
};
use tokio::{runtime::Runtime, sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// How many messages the handler runs at a time.
const SLOTS: [usize; 4] = [10, 20, 64, 256];
/// The most messages of one call (limit of SQS).
const BATCH: usize = 10;
const BODY_BYTES: usize = 256;
/// How many calls fill a queue at a time.
const FILLERS: usize = 8;
/// A number of messages is a multiple of this.
const FILL: usize = FILLERS * BATCH;
/// What a part of the process's time in `/proc` is (Linux).
const TICK: Duration = Duration::from_millis(10);
/// The bounds: rate of the host by that of the loop, and requests for each message.
const LEAST_RATIO: f64 = 0.9;
const MOST_REQUESTS: f64 = 0.25;
/// How long the late server takes for an answer. SQS takes that long within a region.
const LATE: Duration = Duration::from_millis(10);
/// Marks a process that runs, whose environment tells the SDK where the server is.
const INNER: &str = "inner";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|each| each != "--bench").collect();
    if let [inner, server, rest @ ..] = arguments.as_slice()
        && inner == INNER
    {
        run(server, rest);
        return ExitCode::SUCCESS;
    }
    let server = SqsServer::start(Kind::Rustack);
    if arguments.first().is_none_or(|first| first != "only") {
        let proxy = FaultProxy::start(server.url());
        for action in ["ReceiveMessage", "DeleteMessageBatch"] {
            proxy.rule(Rule::new(Fault::Delay(LATE)).action(action));
        }
        println!("a server that takes {} ms for an answer", LATE.as_millis());
        let ended = run_inside(&server, &SqsClient::new(&proxy.url()), &["late".to_owned()]);
        if ended != ExitCode::SUCCESS {
            return ended;
        }
        println!("\na server that answers at once");
    }
    run_inside(&server, &server, &arguments)
}

/// Runs this program where the SDK finds an endpoint.
fn run_inside(server: &SqsServer, endpoint: &SqsClient, arguments: &[String]) -> ExitCode {
    let status = Command::new(std::env::current_exe().unwrap())
        .args([INNER, &server.id().to_string()])
        .args(arguments)
        .envs(endpoint.environment())
        .status()
        .unwrap();
    if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Who takes the messages off the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Bare,
    /// The loop, asking for all attributes as the host does.
    Attributes,
    Host,
}

impl Who {
    fn parse(name: &str) -> Self {
        match name {
            "bare" => Self::Bare,
            "attributes" => Self::Attributes,
            _ => Self::Host,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare loop over the SDK",
            Self::Attributes => "the loop, with all attributes",
            Self::Host => "host: receive, handle, delete",
        }
    }
}

/// What one run took.
#[derive(Clone, Copy, Debug)]
struct Run {
    rate: f64,
    /// Processor time of this process, and of the server, for each message.
    own_us: f64,
    server_us: f64,
    requests: f64,
}

fn run(server: &str, arguments: &[String]) {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let bench = Bench::new(server);
    match arguments.as_slice() {
        ["only", who, slots, messages] => {
            let (who, slots) = (Who::parse(who), slots.parse().unwrap());
            let run = bench.run(who, slots, messages.parse::<usize>().unwrap().next_multiple_of(FILL));
            print_row(who, slots, &[run], None);
        }
        ["late"] => compare(&bench, |slots| slots * 100, 3),
        ["quick"] => compare(&bench, |_| 4_000, 3),
        _ => compare(&bench, |_| 20_000, 5),
    }
}

fn compare(bench: &Bench, messages: impl Fn(usize) -> usize, rounds: usize) {
    println!(
        "messages of {BODY_BYTES} bytes, {} cores, median of {rounds} rounds [lowest, highest]",
        std::thread::available_parallelism().unwrap()
    );
    println!("at least {LEAST_RATIO} of the loop's rate, at most {MOST_REQUESTS} requests for each message");
    println!(
        "{:>5} {:<30} {:>22} {:>6} {:>10} {:>6} {:>10} {:>9}",
        "slots", "", "messages/s", "ratio", "CPU us", "ratio", "server us", "requests"
    );
    // Whatever happens once has happened.
    for who in [Who::Bare, Who::Host] {
        bench.run(who, 64, 10 * FILL);
    }
    for slots in SLOTS {
        let messages = messages(slots).next_multiple_of(FILL);
        let rows = [Who::Bare, Who::Attributes, Who::Host];
        let mut runs = rows.map(|_| Vec::new());
        for _ in 0..rounds {
            for (who, runs) in rows.iter().zip(&mut runs) {
                runs.push(bench.run(*who, slots, messages));
            }
        }
        let bare = runs.first().map(|runs| median(runs));
        for (who, runs) in rows.into_iter().zip(&runs) {
            print_row(who, slots, runs, bare);
        }
    }
}

fn sorted(runs: &[Run], of: impl Fn(&Run) -> f64) -> Vec<f64> {
    let mut values: Vec<f64> = runs.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values
}

fn median(runs: &[Run]) -> Run {
    let middle = |of: fn(&Run) -> f64| *sorted(runs, of).get(runs.len() / 2).unwrap();
    Run {
        rate: middle(|run| run.rate),
        own_us: middle(|run| run.own_us),
        server_us: middle(|run| run.server_us),
        requests: middle(|run| run.requests),
    }
}

fn print_row(who: Who, slots: usize, runs: &[Run], bare: Option<Run>) {
    let rates = sorted(runs, |run| run.rate);
    let middle = median(runs);
    let bare = bare.unwrap_or(middle);
    println!(
        "{slots:>5} {:<30} {:>6.0} [{:>5.0}, {:>5.0}] {:>6.2} {:>10.1} {:>6.2} {:>10.1} {:>9.3}",
        who.name(),
        middle.rate,
        rates.first().unwrap(),
        rates.last().unwrap(),
        middle.rate / bare.rate,
        middle.own_us,
        middle.own_us / bare.own_us,
        middle.server_us,
        middle.requests
    );
}

/// What all runs share.
struct Bench {
    runtime: Runtime,
    client: Client,
    /// The process of the server.
    server: String,
    executor: Arc<LocalExecutor>,
    component: Component,
}

impl Bench {
    fn new(server: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let config = runtime.block_on(aws_config::defaults(BehaviorVersion::v2026_01_12()).load());
        let executor = Arc::new(LocalExecutor::new(EngineOptions::default()).unwrap());
        let policy = Arc::new(policy("bench", &Manifest::defaults("bench").unwrap()));
        let component = executor.load(PathBuf::from("bench.wasm"), Bytes::from(no_op()), policy);
        let component = runtime.block_on(component).unwrap();
        Self {
            client: Client::new(&config),
            runtime,
            server: server.to_owned(),
            executor,
            component,
        }
    }

    /// Fills a queue and empties it.
    fn run(&self, who: Who, slots: usize, messages: usize) -> Run {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("bench-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.runtime.block_on(async {
            let url = self.fill(&name, messages).await;
            let before = (Instant::now(), cpu("self"), cpu(&self.server));
            let requests = match who {
                Who::Bare => self.drain(&url, slots, messages, false).await,
                Who::Attributes => self.drain(&url, slots, messages, true).await,
                Who::Host => self.serve(&name, slots, messages).await,
            };
            let per_message = |time: Duration| time.as_secs_f64() * 1e6 / messages as f64;
            let run = Run {
                rate: messages as f64 / before.0.elapsed().as_secs_f64(),
                own_us: per_message(cpu("self").saturating_sub(before.1)),
                server_us: per_message(cpu(&self.server).saturating_sub(before.2)),
                requests: requests as f64 / messages as f64,
            };
            self.client.delete_queue().queue_url(url).send().await.unwrap();
            run
        })
    }

    /// Makes a queue with messages, and returns its URL.
    async fn fill(&self, name: &str, messages: usize) -> String {
        let made = self.client.create_queue().queue_name(name).send().await.unwrap();
        let url = made.queue_url.unwrap();
        let mut fillers = JoinSet::new();
        for _ in 0..FILLERS {
            let (client, url) = (self.client.clone(), url.clone());
            let entries: Vec<_> = (0..BATCH)
                .map(|index| {
                    SendMessageBatchRequestEntry::builder()
                        .id(index.to_string())
                        .message_body("x".repeat(BODY_BYTES))
                        .build()
                        .unwrap()
                })
                .collect();
            fillers.spawn(async move {
                for _ in 0..messages / FILL {
                    let call = client.send_message_batch().queue_url(&url);
                    let sent = call.set_entries(Some(entries.clone())).send().await.unwrap();
                    assert!(sent.failed.is_empty(), "{:?}", sent.failed);
                }
            });
        }
        fillers.join_all().await;
        url
    }

    /// The bare loop. Returns how many requests it made.
    async fn drain(&self, url: &str, slots: usize, messages: usize, attributes: bool) -> usize {
        let done = Arc::new(AtomicUsize::new(0));
        let requests = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        for _ in 0..slots / BATCH {
            let (client, url) = (self.client.clone(), url.to_owned());
            let (done, requests) = (Arc::clone(&done), Arc::clone(&requests));
            tasks.spawn(async move {
                while done.load(Ordering::Relaxed) < messages {
                    let mut call = client.receive_message().queue_url(&url).max_number_of_messages(10);
                    if attributes {
                        call = call
                            .message_system_attribute_names(MessageSystemAttributeName::All)
                            .message_attribute_names("All");
                    }
                    let received = call.send().await.unwrap().messages.unwrap_or_default();
                    requests.fetch_add(1, Ordering::Relaxed);
                    if received.is_empty() {
                        continue;
                    }
                    let count = received.len();
                    let entries = received.into_iter().enumerate().map(|(index, message)| {
                        DeleteMessageBatchRequestEntry::builder()
                            .id(index.to_string())
                            .set_receipt_handle(message.receipt_handle)
                            .build()
                            .unwrap()
                    });
                    let call = client.delete_message_batch().queue_url(&url);
                    let deleted = call.set_entries(Some(entries.collect())).send().await.unwrap();
                    assert!(deleted.failed.is_empty(), "{:?}", deleted.failed);
                    requests.fetch_add(1, Ordering::Relaxed);
                    done.fetch_add(count, Ordering::Relaxed);
                }
            });
        }
        tasks.join_all().await;
        requests.load(Ordering::Relaxed)
    }

    /// The host, without its listener. Returns how many requests it made.
    async fn serve(&self, name: &str, slots: usize, messages: usize) -> usize {
        let directory = tempfile::tempdir().unwrap();
        let store = SimpleStore::open(&StoreOptions::new(directory.path())).unwrap();
        let metrics = Arc::new(Metrics::new());
        let settings = SqsSettings {
            location: Location::Name(name.to_owned()),
            visibility_timeout: None,
            max_receives: SqsSettings::DEFAULT_MAX_RECEIVES,
            dead_letter: None,
        };
        let name = QueueName::new(name).unwrap();
        let configured = BTreeMap::from([(name.clone(), QueueSettings::Sqs(settings))]);
        let queues = Arc::new(QueueSet::new(store.clone(), configured, Arc::clone(&metrics)));
        let queue = queues.declare(&name).await.unwrap();
        let mut manifest = Manifest::defaults("bench").unwrap();
        manifest.concurrency = NonZeroUsize::new(slots).unwrap();
        let policy = Arc::new(policy("bench", &manifest));
        let (versions, receiver) = watch::channel(Arc::new(Version {
            component: self.component.clone(),
            manifest,
            policy,
        }));
        let keeper = LeaseKeeper::new(Arc::clone(&queue), Arc::clone(&metrics));
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let (leases, stopped) = (Arc::clone(&keeper), stop.clone());
        tasks.spawn(async move { leases.run(stopped).await });
        let context = AttemptContext {
            handler: "bench".to_owned(),
            queue,
            keeper,
            executor: Arc::clone(&self.executor) as Arc<dyn Executor>,
            queues,
            metrics: Arc::clone(&metrics),
            stop_receiving: stop.clone(),
            stop_working: CancellationToken::new(),
        };
        let dispatcher = Dispatcher::new(context, Arc::new(HandlerBoard::default()), receiver);
        tasks.spawn(async move { dispatcher.run().await.unwrap() });
        while total(&metrics, "sandhog_settled_deliveries_total{") < messages {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let requests = total(&metrics, "sandhog_sqs_requests_total{");
        stop.cancel();
        tasks.join_all().await;
        drop(versions);
        store.close().await;
        requests
    }
}

/// The sum of a counter on the metrics page.
fn total(metrics: &Metrics, start: &str) -> usize {
    let page = metrics.page();
    let counters = page.lines().filter(|line| line.starts_with(start));
    counters
        .filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok())
        .sum()
}

/// The processor time of a process; zero where the system does not say it.
fn cpu(process: &str) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The second field is a name in brackets, which may contain anything.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = fields
        .iter()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u32>().ok());
    TICK * ticks.sum::<u32>()
}
