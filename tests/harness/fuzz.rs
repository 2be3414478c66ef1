//! Functions that take any bytes and must not panic: what reads messages, configuration, records and requests.
//!
//! A target checks what must hold of whatever it is given. The integration tests run each on a corpus and on
//! mutations of it; a fuzzer that knows coverage can call the same functions.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use sandhog::{
    admin::{AdminState, serve, wire},
    config::{Config, ConfigErrors, Manifest},
    endpoint::NamedKeys,
    queue_set::QueueSet,
    versions::VersionBoard,
};
use sandhog_executor::{EngineOptions, LocalExecutor};
use sandhog_queue::{
    Queue as _,
    message::{Attributes, MAX_DELAY, Outgoing, QueueName},
};
use sandhog_simple::{SimpleStore, StoreOptions, settings::Settings};
use sandhog_sqs::read_words;
use sandhog_sqs_wire::{WireProtocol, WireRequest, parse, render};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// One function that is fuzzed.
#[derive(Debug)]
pub struct Target {
    /// Its corpus is the directory of this name.
    pub name: &'static str,
    pub run: fn(&[u8]),
}

pub const TARGETS: [Target; 8] = [
    Target {
        name: "messages",
        run: messages,
    },
    Target {
        name: "manifest",
        run: manifest,
    },
    Target {
        name: "config",
        run: config,
    },
    Target {
        name: "names",
        run: names,
    },
    Target {
        name: "records",
        run: records,
    },
    Target { name: "sqs", run: sqs },
    Target {
        name: "listener",
        run: listener,
    },
    Target {
        name: "endpoint",
        run: endpoint,
    },
];

/// What comes in as JSON: a batch of messages, one message as it is shown, and requests about them.
pub fn messages(bytes: &[u8]) {
    if let Ok(batch) = serde_json::from_slice::<wire::SendBatch>(bytes) {
        for entry in batch.messages {
            let Ok(outgoing) = entry.clone().into_message() else {
                continue;
            };
            outgoing.clone().into_outgoing().check().unwrap();
            assert!(outgoing.delay.is_none_or(|delay| delay <= MAX_DELAY));
            check_attributes(&outgoing.attributes);
            // What is written as it was read means the same.
            let again = wire::OutgoingForm {
                attributes: wire::attribute_forms(&outgoing.attributes),
                ..entry.with_body(outgoing.body.to_vec())
            };
            let text = serde_json::to_string(&again).unwrap();
            let read = serde_json::from_str::<wire::OutgoingForm>(&text)
                .unwrap()
                .into_message()
                .unwrap();
            assert_eq!(read.body, outgoing.body);
            assert_eq!(read.attributes.size(), outgoing.attributes.size());
        }
    }
    if let Ok(form) = serde_json::from_slice::<wire::MessageForm>(bytes) {
        drop(form.body_bytes());
    }
    drop(serde_json::from_slice::<wire::SettleForm>(bytes));
    drop(serde_json::from_slice::<wire::SweepRequest>(bytes));
}

fn check_attributes(attributes: &Attributes) {
    let mut names: Vec<_> = attributes.pairs().iter().map(|(name, _)| name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), attributes.pairs().len(), "two attributes of one name");
    assert!(names.len() <= 10);
}

/// `plugins/NAME.toml`.
pub fn manifest(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let nowhere = |_: &str| None;
    match Manifest::parse_in(text, "name", Path::new("/nonexistent"), &nowhere) {
        Ok(manifest) => {
            assert!(manifest.timeout <= MAX_DELAY && !manifest.timeout.is_zero());
            assert!(manifest.retry.min <= manifest.retry.max);
            assert!(manifest.concurrency.get() <= 1024 && manifest.batch_size.get() <= 100);
            assert!(manifest.limits.memory <= 512 << 20);
        }
        Err(errors) => check_errors(&errors),
    }
}

/// `sandhog.toml`.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Config::parse(text, "sandhog.toml", Path::new("/nonexistent")) {
        Ok(config) => assert!((1..=4096).contains(&config.max_live_instances)),
        Err(errors) => check_errors(&errors),
    }
}

fn check_errors(errors: &ConfigErrors) {
    let text = errors.to_string();
    assert!(!text.trim().is_empty(), "a refusal without a reason");
}

/// Names of queues and receipts.
pub fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(name) = QueueName::new(text) {
        assert_eq!(name.as_str(), text);
        assert!(!text.contains(['/', '\0', '\n']) && !text.is_empty() && text != "..");
        drop(QueueName::new(name.default_dead_letter().as_str()));
    }
    drop(wire::parse_receipt(text));
}

/// A message of SQS: lines of a name, a space and a value.
pub fn sqs(bytes: &[u8]) {
    let lines = bytes.split(|byte| *byte == b'\n').filter_map(|line| {
        let at = line.iter().position(|byte| *byte == b' ')?;
        let (name, value) = line.split_at(at);
        Some((std::str::from_utf8(name).ok()?, value.get(1..)?))
    });
    let words: Vec<(&str, &[u8])> = lines.collect();
    let Some(message) = read_words(&words) else { return };
    let mut names: Vec<_> = message.attributes.pairs().iter().map(|(name, _)| name).collect();
    names.sort();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count, "two attributes of one name");
    // Nothing is taken off or read otherwise but what says that it is ours.
    let ours = words.iter().any(|(name, _)| name.contains(":sandhog-"));
    let sent: Vec<_> = words.iter().filter(|(name, _)| !name.contains(':')).collect();
    if !ours && let Some((_, body)) = sent.iter().rfind(|(name, _)| !["id", "handle"].contains(name)) {
        assert_eq!(message.body, String::from_utf8_lossy(body).as_bytes());
    }
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2).enable_all().build().unwrap()
    })
}

const ROWS: usize = 4;
const COLUMNS: [&str; 30] = [
    "seq",
    "queue",
    "state",
    "priority",
    "lane",
    "visible_at",
    "receive_count",
    "queued_at",
    "suspect",
    "origin",
    "id",
    "sent_at",
    "group_id",
    "failure",
    "dead_at",
    "dead_receive_count",
    "dead_failure",
    "checksum",
    "attributes",
    "body",
    "body_key",
    "commits",
    "first_queued_at",
    "first_received_at",
    "earlier_receives",
    "sequence",
    "deduplication_id",
    "system",
    "parent",
    "sender",
];

/// A store with some messages in a queue, closed.
fn store() -> &'static TempDir {
    static STORE: OnceLock<TempDir> = OnceLock::new();
    STORE.get_or_init(|| {
        let directory = in_memory();
        runtime().block_on(async {
            let store = open(directory.path()).await.unwrap();
            let orders = orders(&store).await.unwrap();
            for number in 0..ROWS {
                orders
                    .send(Outgoing::new(format!("message {number}")).check().unwrap())
                    .await
                    .unwrap();
            }
            store.close().await;
        });
        directory
    })
}

/// A new directory, in memory if the system has such a place.
fn in_memory() -> TempDir {
    TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap()
}

async fn open(directory: &Path) -> Option<SimpleStore> {
    let options = StoreOptions::new(directory);
    tokio::task::spawn_blocking(move || SimpleStore::open(&options))
        .await
        .unwrap()
        .ok()
}

async fn orders(store: &SimpleStore) -> Option<Arc<sandhog_simple::SimpleQueue>> {
    let name = QueueName::new("orders").unwrap();
    let settings = Settings::defaults(&name);
    store.queue(name, settings).await.ok()
}

/// Records of a durable queue: the first byte says which column of which row is damaged, the second of what type the damage is, and
/// the rest is written there. What is delivered afterwards is what was sent.
pub fn records(bytes: &[u8]) {
    let [place, kind, damage @ ..] = bytes else { return };
    let directory = in_memory();
    for entry in fs::read_dir(store().path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, directory.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    let column = COLUMNS
        .get(usize::from(*place) % COLUMNS.len())
        .copied()
        .unwrap_or("body");
    let row = usize::from(*place) / COLUMNS.len() % ROWS;
    let database = rusqlite::Connection::open(directory.path().join("queues.db")).unwrap();
    let text = String::from_utf8_lossy(damage);
    let number = damage
        .iter()
        .take(8)
        .fold(0_i64, |number, byte| number << 8 | i64::from(*byte));
    let value: &dyn rusqlite::ToSql = match kind % 4 {
        0 => &number,
        1 => &text,
        2 => &damage,
        _ => &rusqlite::types::Null,
    };
    let change = format!(
        "UPDATE messages SET {column} = ?1 WHERE seq = (SELECT seq FROM messages ORDER BY seq LIMIT 1 OFFSET {row})"
    );
    // What the schema itself refuses is no damage.
    let damaged = database.execute(&change, [value]);
    drop(database);
    if damaged.is_err() {
        return;
    }
    runtime().block_on(async {
        let Some(store) = open(directory.path()).await else {
            return;
        };
        if let Some(orders) = orders(&store).await {
            let deliveries = orders.receive(100, Duration::ZERO).await.unwrap_or_default();
            for delivery in deliveries {
                let body = String::from_utf8_lossy(&delivery.message.body).into_owned();
                let sent = body
                    .strip_prefix("message ")
                    .and_then(|number| number.parse::<usize>().ok());
                assert!(sent.is_some_and(|number| number < ROWS), "{body:?} was delivered");
            }
            drop(orders.counts().await);
        }
        store.close().await;
    });
}

/// A listener in this process, with one queue in memory.
fn address() -> SocketAddr {
    static ADDRESS: OnceLock<SocketAddr> = OnceLock::new();
    *ADDRESS.get_or_init(|| {
        let (listener, state) = runtime().block_on(async {
            let queues = QueueSet::new(
                SimpleStore::ephemeral(),
                std::collections::BTreeMap::new(),
                Arc::default(),
            );
            queues.declare(&QueueName::new("orders").unwrap()).await.unwrap();
            let state = AdminState {
                traces: None,
                queues: Arc::new(queues),
                handlers: Arc::default(),
                executor: Arc::new(LocalExecutor::new(EngineOptions::default()).unwrap()),
                versions: Arc::new(VersionBoard::new(Path::new("plugins"))),
                halts: Arc::default(),
                reload: None,
                metrics: Arc::default(),
                journal: Arc::default(),
                backups: Arc::default(),
                secret: None,
                dashboard: Arc::default(),
                deploys: None,
                keys: NamedKeys::default(),
                spy: None,
                draining: CancellationToken::new(),
            };
            (tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap(), state)
        });
        let address = listener.local_addr().unwrap();
        // It serves until the process ends.
        drop(runtime().spawn(serve(listener, state, CancellationToken::new())));
        address
    })
}

/// Bytes on a connection to the listener. Whatever they are, it answers sensibly or not at all, and then serves others.
pub fn listener(bytes: &[u8]) {
    // A receive that waits is no failure, and takes long.
    if bytes.windows(4).any(|window| window == b"wait") {
        return;
    }
    let answer = spoken(bytes, true);
    for status in [&b"HTTP/1.1 500"[..], b"HTTP/1.1 502"] {
        assert!(!answer.starts_with(status), "{}", String::from_utf8_lossy(&answer));
    }
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1."),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    let live = spoken(
        b"GET /live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        false,
    );
    assert!(
        live.starts_with(b"HTTP/1.1 200"),
        "the listener is gone: {:?}",
        String::from_utf8_lossy(&live)
    );
}

/// A request of an SQS client: a first line that is the name of an action, and a body in JSON; or an empty first line and a form. It
/// is answered in its protocol.
pub fn endpoint(bytes: &[u8]) {
    let at = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (line, body) = bytes.split_at(at);
    let body = body.get(1..).unwrap_or_default();
    let action: String = String::from_utf8_lossy(line)
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect();
    let target = format!("AmazonSQS.{action}");
    let is_json = !action.is_empty();
    let content_type = if is_json {
        "application/x-amz-json-1.0"
    } else {
        "application/x-www-form-urlencoded"
    };
    let request = WireRequest {
        method: "POST",
        path: "/",
        content_type: Some(content_type),
        target: is_json.then_some(&*target),
        body,
        ..WireRequest::default()
    };
    let protocol = WireProtocol::of(&request);
    if let Err(error) = parse(protocol, &request) {
        let answer = render(protocol, "id", &Err(error));
        assert!((400..500).contains(&answer.status), "{answer:?}");
        check_form(is_json, &answer.body);
    }
    // A receive that waits is no failure, and takes long.
    if bytes.windows(4).any(|window| window == b"Wait") {
        return;
    }
    let target = request
        .target
        .map_or_else(String::new, |target| format!("x-amz-target: {target}\r\n"));
    let head = format!(
        "POST / HTTP/1.1\r\nhost: localhost\r\n{target}content-type: {content_type}\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        body.len()
    );
    let answer = spoken(&[head.as_bytes(), body].concat(), false);
    let text = String::from_utf8_lossy(&answer);
    let (head, said) = text
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("no answer: {text}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
    assert!(status.is_some_and(|status| status < 500), "{text}");
    // The answer to most actions that return nothing is empty in JSON.
    if !said.is_empty() || !is_json {
        check_form(is_json, said.as_bytes());
    }
}

fn check_form(is_json: bool, body: &[u8]) {
    let text = String::from_utf8_lossy(body);
    if is_json {
        assert!(
            serde_json::from_slice::<serde_json::Value>(body).is_ok_and(|value| value.is_object()),
            "{text}"
        );
    } else {
        assert!(text.starts_with("<?xml") && text.trim_end().ends_with('>'), "{text}");
    }
}

/// Says all of it, then nothing more if it is `over`, and listens to the answer.
fn spoken(bytes: &[u8], over: bool) -> Vec<u8> {
    let mut stream = TcpStream::connect(address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut answer = Vec::new();
    // The listener may hang up before it has heard all, and may take the end of the request for the end of the client.
    if stream.write_all(bytes).is_ok() && (!over || stream.shutdown(Shutdown::Write).is_ok()) {
        drop(stream.read_to_end(&mut answer));
    }
    answer
}
