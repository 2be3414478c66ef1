//! Messages per second, and processor time for each, from an SQS queue through the whole host, as ratios to a bare loop over
//! the AWS SDK in the same run, and beside consumers that people write in other languages.
//!
//! The **bare loop** is what anybody would write against the SDK: tasks that each receive ten messages and delete them, and do
//! nothing with them. The **host** runs a no-op handler in a fresh instance for each message, or in one that is used again,
//! extends leases, and keeps the ledger on disk. It gets as many slots as the loop can have messages at a time. The **Node
//! consumer** is `sqs-consumer`, the **Python consumer** a loop over boto3 in threads, both with a handler that does
//! nothing; their sources are in `consumers/`. They are installed on first use, and left out where Node or Python is missing.
//!
//! The runs of a table are interleaved. Everybody is warm when the messages count: the consumers are processes that empty one
//! queue after another, and the first queues, on which connections are made and code is compiled, do not count. A queue is
//! full before its run begins; the time ends with the last deletion. The processor time is that of the process with the
//! consumer, its threads and children, from `/proc`; Linux counts it in hundredths of a second.
//!
//! The first server answers as late as SQS does, so that what counts is how many requests are under way, and how full they
//! are; there all have as many pollers as the loop. The second one answers at once, so that what counts is the processor
//! time; the server takes its share of the machine there. There the consumers have the mode and the number of pollers that
//! are best for them, which are looked for first.
//!
//! `cargo bench --workspace --bench sqs`, with `-- quick` for fewer rows and messages. For a profiler: `-- only WHO SLOTS MESSAGES`, where
//! WHO is `bare`, `attributes`, `host`, `reuse`, `node` or `python`, and with `late` before it on the late server; it says when the
//! queue is full.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a benchmark speaks to a person"
)]

use std::{
    cell::RefCell,
    collections::BTreeMap,
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
    consumers::{Consumer, Kind as Language, Way},
    fault_proxy::{Fault, FaultProxy, Rule},
    guests::no_op,
    pipeline::{self, Pipeline, SETTLED, control_runtime},
    process::ticked_time,
    ratios::{Bound, Figures, machine, print_header, print_row},
    sqs_client::SqsClient,
    sqs_server::{Kind, SqsServer},
};
use sandhog::{attempt::policy, config::QueueSettings};
use sandhog_executor::{Component, EngineOptions, Executor, LocalExecutor};
use sandhog_queue::message::QueueName;
use sandhog_simple::{SimpleStore, StoreOptions};
use sandhog_sqs::settings::{Location, SqsSettings};
use tokio::{runtime::Runtime, task::JoinSet};

/// As the host's program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How many messages the handler runs at a time.
const SLOTS: [usize; 4] = [10, 20, 64, 256];
const QUICK_SLOTS: [usize; 2] = [20, 64];
/// The most messages of one call (limit of SQS).
const BATCH: usize = 10;
const BODY_BYTES: usize = 256;
/// How many calls fill a queue at a time.
const FILLERS: usize = 8;
/// A number of messages is a multiple of this.
const FILL: usize = FILLERS * BATCH;
/// How long the late server takes for an answer. SQS takes that long within a region.
const LATE: Duration = Duration::from_millis(10);
/// How many pollers are tried for the best number.
const POLLERS: [usize; 4] = [1, 4, 16, 32];
/// Names the late server among the arguments.
const LATE_SERVER: &str = "late";
/// Marks a process that runs, whose environment tells the SDK where the server is.
const INNER: &str = "inner";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|each| each != "--bench").collect();
    if let [inner, server, endpoint, rest @ ..] = arguments.as_slice()
        && inner == INNER
    {
        run(server, endpoint, rest);
        return ExitCode::SUCCESS;
    }
    let server = SqsServer::start(Kind::Rustack);
    let only = arguments.iter().any(|each| each == "only");
    if !only || arguments[0] == LATE_SERVER {
        let proxy = FaultProxy::start(server.url());
        for action in ["ReceiveMessage", "DeleteMessageBatch", "DeleteMessage"] {
            proxy.rule(Rule::new(Fault::Delay(LATE)).action(action));
        }
        let late = SqsClient::new(&proxy.url());
        if only {
            return run_inside(&server, &late, &arguments[1..]);
        }
        println!("{}", machine());
        println!("\nA server that takes {} ms for an answer", LATE.as_millis());
        let late_arguments: Vec<String> = [LATE_SERVER.to_owned()].into_iter().chain(arguments.clone()).collect();
        let ended = run_inside(&server, &late, &late_arguments);
        if ended != ExitCode::SUCCESS {
            return ended;
        }
        println!("\nA server that answers at once");
    }
    run_inside(&server, &server, &arguments)
}

/// Runs this program where the SDK finds an endpoint.
fn run_inside(server: &SqsServer, endpoint: &SqsClient, arguments: &[String]) -> ExitCode {
    let status = Command::new(std::env::current_exe().unwrap())
        .args([INNER, &server.id().to_string(), endpoint.url()])
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
    /// The loop, asking for all attributes.
    Attributes,
    Host {
        reuse: bool,
    },
    Consumer(Language, Way),
}

impl Who {
    fn parse(name: &str, slots: usize) -> Self {
        let way = Way::with(slots / BATCH);
        match name {
            "bare" => Self::Bare,
            "attributes" => Self::Attributes,
            "host" => Self::Host { reuse: false },
            "reuse" => Self::Host { reuse: true },
            "node" => Self::Consumer(Language::Node, way),
            "python" => Self::Consumer(Language::Python, way),
            other => panic!("{other} is none of bare, attributes, host, reuse, node and python"),
        }
    }

    fn name(self) -> String {
        match self {
            Self::Bare => "bare loop over the SDK".to_owned(),
            Self::Attributes => "bare loop, with all attributes".to_owned(),
            Self::Host { reuse: false } => "host, fresh: receive, handle, delete".to_owned(),
            Self::Host { reuse: true } => "host, reuse".to_owned(),
            Self::Consumer(language, way) => format!("{language:?} consumer, {way}"),
        }
    }

    fn bound(self) -> Option<Bound> {
        matches!(self, Self::Host { .. }).then_some(Bound::AtLeast(0.9))
    }
}

/// What one run took.
#[derive(Clone, Copy, Debug)]
struct Run {
    rate: f64,
    /// Processor time for each message: of the consumer, and of the server.
    own_us: f64,
    server_us: f64,
    /// Requests for each message, where they are known.
    requests: f64,
}

/// How far a run had come at some time.
#[derive(Clone, Copy, Debug)]
struct Ended {
    at: Instant,
    cpu: Duration,
    requests: usize,
}

impl Ended {
    fn now(process: &str, requests: usize) -> Self {
        Self {
            at: Instant::now(),
            cpu: with_children(process),
            requests,
        }
    }
}

fn with_children(process: &str) -> Duration {
    ticked_time(process).into_iter().sum()
}

fn run(server: &str, endpoint: &str, arguments: &[String]) {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let bench = Bench::new(server, endpoint);
    match arguments.as_slice() {
        ["only", who, slots, messages] => {
            let slots = slots.parse().unwrap();
            let who = Who::parse(who, slots);
            if let Who::Consumer(language, _) = who {
                bench.start(language);
            }
            let run = bench.run(
                who,
                slots,
                messages.parse::<usize>().unwrap().next_multiple_of(FILL),
                true,
            );
            println!(
                "{}: {:.0} messages/s, {:.1} us of processor time each, {:.1} us of the server's, {:.3} requests",
                who.name(),
                run.rate,
                run.own_us,
                run.server_us,
                run.requests
            );
        }
        [LATE_SERVER, "quick"] => late(&bench, &QUICK_SLOTS),
        [LATE_SERVER, ..] => late(&bench, &SLOTS),
        ["quick"] => at_once(&bench, &QUICK_SLOTS, 4_000, 3),
        _ => at_once(&bench, &SLOTS, 8_000, 5),
    }
}

/// The runs of each, in the order of `everybody`.
fn rounds(bench: &Bench, everybody: &[Who], (slots, messages, rounds): (usize, usize, usize)) -> Vec<Vec<Run>> {
    let mut runs: Vec<Vec<Run>> = everybody.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for (who, runs) in everybody.iter().zip(&mut runs) {
            runs.push(bench.run(*who, slots, messages.next_multiple_of(FILL), false));
        }
    }
    runs
}

fn figures(runs: &[Vec<Run>], of: impl Fn(&Run) -> f64) -> Vec<Figures> {
    runs.iter()
        .map(|runs| Figures::new(runs.iter().map(&of).collect()))
        .collect()
}

const OURS: [Who; 4] = [
    Who::Bare,
    Who::Attributes,
    Who::Host { reuse: false },
    Who::Host { reuse: true },
];

/// Rates, and how full the requests are. The runs are too short for processor time.
fn late(bench: &Bench, all_slots: &[usize]) {
    const ROUNDS: usize = 3;
    let languages = bench.start_all();
    for (index, slots) in all_slots.iter().copied().enumerate() {
        let consumers = languages
            .iter()
            .map(|language| Who::Consumer(*language, Way::with(slots / BATCH)));
        let everybody: Vec<Who> = OURS.into_iter().chain(consumers).collect();
        if index == 0 {
            rounds(bench, &everybody, (64, 10 * FILL, 1));
        }
        let runs = rounds(bench, &everybody, (slots, slots * 40, ROUNDS));
        print_rates(&everybody, slots, &runs);
        print_requests(&everybody, slots, &runs);
    }
}

fn at_once(bench: &Bench, all_slots: &[usize], messages: usize, repeated: usize) {
    let languages = bench.start_all();
    let consumers: Vec<Who> = languages.iter().map(|language| bench.best(*language, 2_000)).collect();
    let everybody: Vec<Who> = OURS.into_iter().chain(consumers).collect();
    rounds(bench, &everybody, (64, 10 * FILL, 1));
    for slots in all_slots.iter().copied() {
        let runs = rounds(bench, &everybody, (slots, messages, repeated));
        print_rates(&everybody, slots, &runs);
        print_cpu(&everybody, slots, &runs);
        print_requests(&everybody, slots, &runs);
    }
}

fn print_rates(everybody: &[Who], slots: usize, runs: &[Vec<Run>]) {
    print_header(&format!("{slots} messages at a time"), "messages/s", runs[0].len());
    let rates = figures(runs, |run| run.rate);
    for (who, own) in everybody.iter().zip(&rates) {
        print_row(&who.name(), own, &rates[0], who.bound());
    }
}

fn print_cpu(everybody: &[Who], slots: usize, runs: &[Vec<Run>]) {
    let unit = "CPU us for each message";
    print_header(
        &format!("{slots} messages at a time, the consumer's processor time"),
        unit,
        runs[0].len(),
    );
    let times = figures(runs, |run| run.own_us);
    for (who, own) in everybody.iter().zip(&times) {
        print_row(&who.name(), own, &times[0], None);
    }
    let is_node = |who: &Who| matches!(who, Who::Consumer(Language::Node, _));
    if let Some(node) = everybody.iter().position(is_node) {
        for (who, own) in everybody.iter().zip(&times).filter(|(who, _)| who.bound().is_some()) {
            let name = format!("{}, to the Node consumer", who.name());
            print_row(&name, own, &times[node], Some(Bound::AtMost(1.0)));
        }
    }
}

fn print_requests(everybody: &[Who], slots: usize, runs: &[Vec<Run>]) {
    let unit = "requests for each message";
    print_header(&format!("{slots} messages at a time, requests"), unit, runs[0].len());
    let requests = figures(runs, |run| run.requests);
    for (who, own) in everybody.iter().zip(&requests).filter(|(who, _)| OURS.contains(who)) {
        print_row(&who.name(), own, &requests[0], who.bound().map(|_| Bound::AtMost(1.25)));
    }
}

/// What all runs share.
struct Bench {
    runtime: Runtime,
    client: Client,
    /// The process of the server.
    server: String,
    endpoint: String,
    executor: Arc<LocalExecutor>,
    fresh: Component,
    reused: Component,
    consumers: RefCell<Vec<(Language, Consumer)>>,
}

impl Bench {
    fn new(server: &str, endpoint: &str) -> Self {
        let runtime = control_runtime();
        let config = runtime.block_on(aws_config::defaults(BehaviorVersion::v2026_01_12()).load());
        let options = EngineOptions {
            // By its half of a small machine's memory the host would refuse to run 256 at a time.
            memory_budget: 1 << 40,
            ..EngineOptions::default()
        };
        let executor = Arc::new(LocalExecutor::new(options).unwrap());
        let [fresh, reused] = [false, true].map(|reuse| {
            let policy = Arc::new(policy("bench", &pipeline::manifest(reuse)));
            let component = executor.load(PathBuf::from("bench.wasm"), Bytes::from(no_op()), policy);
            runtime.block_on(component).unwrap()
        });
        Self {
            client: Client::new(&config),
            runtime,
            server: server.to_owned(),
            endpoint: endpoint.to_owned(),
            executor,
            fresh,
            reused,
            consumers: RefCell::default(),
        }
    }

    /// Starts the consumers that this machine can run.
    fn start_all(&self) -> Vec<Language> {
        let languages = [Language::Node, Language::Python].into_iter();
        languages.filter(|language| self.start(*language)).collect()
    }

    fn start(&self, language: Language) -> bool {
        match Consumer::start(language, SqsClient::new(&self.endpoint).environment()) {
            Ok(consumer) => self.consumers.borrow_mut().push((language, consumer)),
            Err(why) => {
                println!("notice: the {language:?} consumer is left out. {why}");
                return false;
            }
        }
        true
    }

    /// The way to take messages in which a consumer is fastest.
    fn best(&self, language: Language, messages: usize) -> Who {
        let modes: &[bool] = if language == Language::Node {
            &[true, false]
        } else {
            &[true]
        };
        let ways = POLLERS.map(|pollers| modes.iter().map(move |batch| Way { batch: *batch, pollers }));
        let ways: Vec<Way> = ways.into_iter().flatten().collect();
        let everybody: Vec<Who> = ways.iter().map(|way| Who::Consumer(language, *way)).collect();
        // Whatever happens once has happened.
        rounds(self, &everybody[..2], (BATCH, messages, 1));
        let runs = rounds(self, &everybody, (BATCH, messages, 3));
        let medians: Vec<f64> = figures(&runs, |run| run.rate).iter().map(Figures::median).collect();
        let tried = ways.iter().zip(&medians);
        let all: Vec<String> = tried.clone().map(|(way, rate)| format!("{way}: {rate:.0}")).collect();
        let (best, _) = tried.max_by(|(_, a), (_, b)| a.total_cmp(b)).unwrap();
        println!(
            "the {language:?} consumer takes messages in its fastest way of these (messages/s): {}",
            all.join(", ")
        );
        Who::Consumer(language, *best)
    }

    /// Fills a queue and empties it.
    fn run(&self, who: Who, slots: usize, messages: usize, announced: bool) -> Run {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("bench-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.runtime.block_on(async {
            let url = self.fill(&name, messages).await;
            if announced {
                println!("full");
            }
            let server = with_children(&self.server);
            let begun = Ended::now("self", 0);
            let (begun, ended) = match who {
                Who::Bare => (begun, self.drain(&url, slots, messages, false).await),
                Who::Attributes => (begun, self.drain(&url, slots, messages, true).await),
                Who::Host { reuse } => self.serve(&name, slots, messages, reuse).await,
                Who::Consumer(language, way) => self.consume(language, way, messages, &url),
            };
            let per_message = |time: Duration| time.as_secs_f64() * 1e6 / messages as f64;
            let run = Run {
                rate: messages as f64 / (ended.at - begun.at).as_secs_f64(),
                own_us: per_message(ended.cpu.saturating_sub(begun.cpu)),
                server_us: per_message(with_children(&self.server).saturating_sub(server)),
                requests: ended.requests as f64 / messages as f64,
            };
            self.client.delete_queue().queue_url(url).send().await.unwrap();
            run
        })
    }

    /// A consumer in another process.
    fn consume(&self, language: Language, way: Way, messages: usize, url: &str) -> (Ended, Ended) {
        let mut consumers = self.consumers.borrow_mut();
        let (_, consumer) = consumers.iter_mut().find(|(of, _)| *of == language).unwrap();
        let process = consumer.id().to_string();
        // SDKs take the server from the URL of the queue, which knows nothing of a proxy.
        let path: Vec<&str> = url.splitn(4, '/').collect();
        let url = format!("{}/{}", self.endpoint, path[3]);
        let begun = Ended::now(&process, 0);
        (begun, consumer.empty(way, messages, &url, || Ended::now(&process, 0)))
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

    /// The bare loop.
    async fn drain(&self, url: &str, slots: usize, messages: usize, attributes: bool) -> Ended {
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
        Ended::now("self", requests.load(Ordering::Relaxed))
    }

    /// The host, without its listener. It ends with the last deletion.
    async fn serve(&self, name: &str, slots: usize, messages: usize, reuse: bool) -> (Ended, Ended) {
        let directory = tempfile::tempdir().unwrap();
        let store = SimpleStore::open(&StoreOptions::new(directory.path())).unwrap();
        let settings = SqsSettings {
            location: Location::Name(name.to_owned()),
            visibility_timeout: None,
            max_receives: SqsSettings::DEFAULT_MAX_RECEIVES,
            dead_letter: None,
        };
        let queue = QueueName::new(name).unwrap();
        let configured = BTreeMap::from([(queue.clone(), QueueSettings::Sqs(settings))]);
        let executor = Arc::clone(&self.executor) as Arc<dyn Executor>;
        let mut pipeline = Pipeline::with_queues(self.runtime.handle(), store, executor, configured);
        // What is learned of the queue is not measured.
        pipeline.queue(name).await;
        let mut manifest = pipeline::manifest(reuse);
        manifest.queue = queue;
        manifest.concurrency = NonZeroUsize::new(slots).unwrap();
        let component = if reuse { &self.reused } else { &self.fresh };
        let begun = Ended::now("self", 0);
        pipeline.handle(component, manifest).await;
        let total = |metric| usize::try_from(pipeline.sum_of(metric, "")).unwrap();
        loop {
            let done = total(SETTLED);
            if done >= messages {
                break;
            }
            // To write the page costs processor time, which would count as the host's: half of the time that seems to be left
            // passes before the next look.
            let left = begun
                .at
                .elapsed()
                .mul_f64((messages - done) as f64 / done.max(1) as f64 / 2.0);
            tokio::time::sleep(left.clamp(Duration::from_millis(1), Duration::from_millis(50))).await;
        }
        let ended = Ended::now("self", total("sandhog_sqs_requests_total{"));
        pipeline.stop().await;
        (begun, ended)
    }
}
