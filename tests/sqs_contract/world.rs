//! Where claims about SQS queues are held: one process per server, with a proxy in front of the server, and all claims at
//! once, since most of their time is waiting.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    pin::Pin,
    process::Command,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use async_trait::async_trait;
use harness::{
    fault_proxy::{Entry, Fault, FaultProxy, Rule},
    sqs_behaviour::Behaviour,
    sqs_client::SqsClient,
    sqs_server::{Kind, SqsServer},
};
use sandhog_queue::{Delivery, Queue};
use sandhog_simple::settings::Settings;
use sandhog_sqs::{
    SqsConnection, SqsQueue,
    settings::{Location, SqsSettings},
};
use serde_json::{Value, json};
use tokio::{
    runtime::Runtime,
    time::{Instant, sleep, timeout},
};

use super::CLAIMS;
use crate::queue_contract::{Backend, defaults, queue_name, take_one};

const SECOND: Duration = Duration::from_secs(1);
/// A claim that takes longer hangs.
pub(super) const PATIENCE: Duration = Duration::from_secs(100);
/// What the clocks of a busy machine may take.
const GRACE: Duration = Duration::from_millis(500);
/// How much later than it should be something may become visible.
const LATE: Duration = Duration::from_secs(10);
/// Which server a process that holds claims holds them on, and where it is.
const KIND: &str = "SANDHOG_TEST_SQS_KIND";
const URL: &str = "SANDHOG_TEST_SQS_URL";
pub(super) const FIFO: (&str, &str) = ("FifoQueue", "true");

type Claim = fn(Sqs) -> Pin<Box<dyn Future<Output = ()>>>;

/// Runs a claim, if this is a process for that; else asks one how it went.
pub(super) fn hold(kind: Kind, claim: &str, run: Claim) {
    static OUTCOMES: OnceLock<HashMap<String, Outcome>> = OnceLock::new();
    if let Some(world) = World::get() {
        assert_eq!(world.kind, kind);
        let held = async { timeout(PATIENCE, run(Sqs::new(world))).await };
        world.runtime.block_on(held).expect("the claim takes no longer");
        return;
    }
    let name = full_name(kind, claim);
    let outcomes = OUTCOMES.get_or_init(|| {
        thread::scope(|scope| {
            let runs = Kind::ALL.map(|kind| scope.spawn(move || run_all(kind, &chosen(kind))));
            runs.into_iter().flat_map(|run| run.join().unwrap()).collect()
        })
    });
    match outcomes.get(&name) {
        Some(outcome) => outcome.check(),
        // It was chosen in a way that `chosen` does not know.
        None => run_all(kind, std::slice::from_ref(&name))[&name].check(),
    }
}

/// How a claim went in another process.
enum Outcome {
    Held,
    Broken(String),
    /// There is no such server on this machine, as a notice says.
    LeftOut,
}

impl Outcome {
    fn check(&self) {
        if let Self::Broken(why) = self {
            panic!("{why}");
        }
    }
}

fn module(kind: Kind) -> &'static str {
    match kind {
        Kind::Rustack => "rustack",
        Kind::LocalStack => "localstack",
        Kind::MiniStack => "ministack",
        Kind::Sandhog => "sandhog",
    }
}

fn full_name(kind: Kind, claim: &str) -> String {
    format!("sqs_contract::{}::{claim}", module(kind))
}

/// The names of the claims that this process was asked to run: those that have one of its arguments in them.
fn chosen(kind: Kind) -> Vec<String> {
    let filters: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let is_chosen = |name: &String| filters.is_empty() || filters.iter().any(|filter| name.contains(filter));
    CLAIMS
        .iter()
        .map(|claim| full_name(kind, claim))
        .filter(is_chosen)
        .collect()
}

/// How many claims run at once on a server: the slower it is the fewer, as its answers must come in time.
fn at_once(kind: Kind) -> &'static str {
    match kind {
        Kind::Rustack | Kind::Sandhog => "32",
        Kind::LocalStack | Kind::MiniStack => "12",
    }
}

/// Runs claims in a process of their own.
fn run_all(kind: Kind, names: &[String]) -> HashMap<String, Outcome> {
    if names.is_empty() {
        return HashMap::new();
    }
    let Some(server) = SqsServer::get(kind) else {
        return names.iter().map(|name| (name.clone(), Outcome::LeftOut)).collect();
    };
    let place = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(names)
        .args(["--exact", "--test-threads", at_once(kind)])
        .envs(server.environment())
        .env_remove("AWS_ENDPOINT_URL_SQS")
        // The endpoint is that of the proxy, which the process writes there.
        .env("AWS_CONFIG_FILE", place.path().join("config"))
        .env(KIND, module(kind))
        .env(URL, server.url())
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let outcome = |name: &String| {
        if text.contains(&format!("test {name} ... ok\n")) {
            return (name.clone(), Outcome::Held);
        }
        let said = text.split_once(&format!("---- {name} stdout ----\n"));
        let said = said.map(|(_, rest)| rest.split("\n---- ").next().unwrap_or_default());
        let said = said.map(|said| said.split("\n\nfailures:\n").next().unwrap_or_default());
        let said = said.map_or_else(
            || format!("{text}{}", String::from_utf8_lossy(&output.stderr)),
            str::to_owned,
        );
        (name.clone(), Outcome::Broken(said))
    };
    names.iter().map(outcome).collect()
}

/// What the claims of one process share.
struct World {
    kind: Kind,
    /// To the server itself, without the proxy.
    client: SqsClient,
    proxy: FaultProxy,
    connection: SqsConnection,
    runtime: Runtime,
}

impl World {
    fn get() -> Option<&'static Self> {
        static WORLD: OnceLock<Option<World>> = OnceLock::new();
        WORLD.get_or_init(Self::new).as_ref()
    }

    fn new() -> Option<Self> {
        let set = |name: &str| std::env::var_os(name).map(|value| value.into_string().unwrap());
        let name = set(KIND)?;
        let kind = Kind::ALL.into_iter().find(|kind| module(*kind) == name).unwrap();
        let url = set(URL).unwrap();
        let proxy = FaultProxy::start(&url);
        let profile = format!("[default]\nendpoint_url = {}\n", proxy.url());
        fs::write(set("AWS_CONFIG_FILE").unwrap(), profile).unwrap();
        Some(Self {
            kind,
            client: SqsClient::new(&url),
            proxy,
            connection: SqsConnection::new(Arc::default()),
            runtime: Runtime::new().unwrap(),
        })
    }
}

/// The SQS queues of one claim.
pub(super) struct Sqs {
    world: &'static World,
    prefix: String,
    queues: Mutex<BTreeMap<String, Arc<SqsQueue>>>,
}

/// A queue as its server and its host know it.
pub(super) struct Made {
    pub(super) url: String,
    pub(super) queue: Arc<dyn Queue>,
}

impl Sqs {
    fn new(world: &'static World) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        Self {
            world,
            prefix: format!("p{}-{number}", std::process::id()),
            queues: Mutex::default(),
        }
    }

    pub(super) fn kind(&self) -> Kind {
        self.world.kind
    }

    pub(super) fn does(&self, behaviour: Behaviour) -> bool {
        self.world.kind.does(behaviour)
    }

    pub(super) fn client(&self) -> &SqsClient {
        &self.world.client
    }

    pub(super) fn proxy(&self) -> &FaultProxy {
        &self.world.proxy
    }

    /// The name of one of the claim's queues on the server.
    pub(super) fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    pub(super) fn make(&self, name: &str, attributes: &[(&str, &str)]) -> String {
        self.client().create_queue(&self.name(name), attributes)
    }

    /// A queue of the host, whether the server has it or not.
    pub(super) fn connect(&self, name: &str, location: Location, dead_letter: Option<&str>) -> Arc<dyn Queue> {
        self.connect_with(name, settings(location, dead_letter))
    }

    pub(super) fn connect_with(&self, name: &str, settings: SqsSettings) -> Arc<dyn Queue> {
        let mut queues = self.queues.lock().unwrap();
        let dead_letter = settings
            .dead_letter
            .as_ref()
            .map(|name| Arc::clone(&queues[name.as_str()]));
        let queue = SqsQueue::connect(
            &self.world.connection,
            queue_name(name),
            settings,
            dead_letter.as_deref(),
        );
        let queue = Arc::new(queue);
        queues.insert(name.to_owned(), Arc::clone(&queue));
        queue
    }

    /// A queue of the server and of the host.
    pub(super) fn queue_of(&self, name: &str, attributes: &[(&str, &str)], dead_letter: Option<&str>) -> Made {
        let url = self.make(name, attributes);
        let queue = self.connect(name, Location::Url(url.clone()), dead_letter);
        Made { url, queue }
    }

    pub(super) fn standard(&self, name: &str) -> Made {
        self.queue_of(name, &[], None)
    }

    pub(super) fn fifo(&self, name: &str) -> Made {
        self.queue_of(name, &[FIFO], None)
    }

    /// A queue whose dead letters the host makes, and the queue where they go.
    pub(super) fn with_dead(&self, attributes: &[(&str, &str)]) -> (Made, Made) {
        let end = if attributes.contains(&FIFO) { ".fifo" } else { "" };
        let (name, dead_name) = (format!("orders{end}"), format!("dead{end}"));
        let dead = self.queue_of(&dead_name, attributes, None);
        (self.queue_of(&name, attributes, Some(&dead_name)), dead)
    }

    /// A queue whose redrive policy moves messages after one receive of a second, and the queue where they go.
    pub(super) fn with_policy(&self) -> (Made, Made) {
        let dead = self.queue_of("dead", &[], None);
        let policy = json!({ "deadLetterTargetArn": self.client().arn(&dead.url), "maxReceiveCount": 1 });
        let attributes = [("RedrivePolicy", &*policy.to_string()), ("VisibilityTimeout", "1")];
        (self.queue_of("orders", &attributes, None), dead)
    }

    /// The requests of an action that were made for a queue.
    pub(super) fn asked(&self, action: &str, made: &Made) -> Vec<Entry> {
        let mut entries = self.proxy().log_of(action);
        entries.retain(|entry| is_for(&entry.request, &made.url));
        entries
    }

    /// A fault for requests of one action for a queue.
    pub(super) fn rule(fault: Fault, action: &'static str, made: &Made) -> Rule {
        let url = made.url.clone();
        Rule::new(fault)
            .action(action)
            .matching(move |request| is_for(request, &url))
    }
}

/// Whether a request is for the queue of this URL: the servers put different hosts before the names.
pub(super) fn is_for(request: &Value, url: &str) -> bool {
    let name = |url: &str| url.rsplit('/').next().map(str::to_owned);
    request["QueueUrl"].as_str().and_then(name) == name(url)
}

pub(super) fn settings(location: Location, dead_letter: Option<&str>) -> SqsSettings {
    SqsSettings {
        location,
        visibility_timeout: None,
        max_receives: defaults("any").max_receives,
        dead_letter: dead_letter.map(queue_name),
    }
}

#[async_trait]
impl Backend for Sqs {
    /// The same queue whenever it is asked for by the same name, and beside it the one for its dead letters.
    async fn queue_with(&self, name: &str, settings: Settings) -> Arc<dyn Queue> {
        self.declare(name, "", &settings)
    }

    async fn groups_with(&self, name: &str, settings: Settings) -> Arc<dyn Queue> {
        self.declare(name, ".fifo", &settings)
    }

    async fn pass(&self, time: Duration) {
        sleep(time + GRACE).await;
    }

    fn short(&self) -> Duration {
        2 * SECOND
    }

    fn deadline_margin(&self) -> Duration {
        GRACE
    }

    async fn hidden(&self, queue: &Arc<dyn Queue>, since: Instant, time: Duration) -> Delivery {
        let delivery = take_one(queue).await;
        let passed = since.elapsed();
        assert!(passed >= time, "it was visible after {passed:?} instead of {time:?}");
        assert!(
            passed < time + LATE,
            "it was visible after {passed:?} instead of {time:?}"
        );
        delivery
    }
}

impl Sqs {
    fn declare(&self, name: &str, end: &str, like: &Settings) -> Arc<dyn Queue> {
        if let Some(queue) = self.queues.lock().unwrap().get(name) {
            return Arc::<SqsQueue>::clone(queue);
        }
        let attributes: &[_] = if end.is_empty() { &[] } else { &[FIFO] };
        let dead_letter = like.dead_letter.as_str();
        for name in [dead_letter, name] {
            let url = self.make(&format!("{name}{end}"), attributes);
            let settings = SqsSettings {
                visibility_timeout: Some(like.visibility_timeout),
                max_receives: like.max_receives,
                ..settings(Location::Url(url), Some(dead_letter).filter(|dead| *dead != name))
            };
            self.connect_with(name, settings);
        }
        let queues = self.queues.lock().unwrap();
        Arc::<SqsQueue>::clone(&queues[name])
    }
}
