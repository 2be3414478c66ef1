//! Hosts on SQS: queues of one test on a server that all tests share, and a proxy between it and the hosts, which sees every
//! request and can spoil it.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    ops::Deref,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    fault_proxy::{Entry, FaultProxy},
    host::{Host, Place},
    sqs_client::{SqsClient, SqsError},
    sqs_server::{Kind, SqsServer},
    wait_for,
};

/// What one test has on one server.
#[derive(Debug)]
pub struct Stage {
    pub proxy: FaultProxy,
    server: &'static SqsServer,
    prefix: String,
    settings: String,
    tables: String,
}

/// A queue on its server, seen past the proxy.
#[derive(Clone, Debug)]
pub struct RemoteQueue {
    client: SqsClient,
    pub url: String,
    /// Its name on the server.
    pub name: String,
}

/// One receive of one message, as the proxy saw it.
#[derive(Clone, Debug)]
pub struct Handed {
    pub id: String,
    pub handle: String,
    pub body: String,
    pub count: u64,
    pub at: Instant,
}

/// An entry of a batch call, as the proxy saw it.
#[derive(Clone, Debug)]
pub struct Called {
    pub handle: String,
    /// The visibility that it sets, if it does.
    pub seconds: Option<u64>,
    pub at: Instant,
    pub answered_at: Option<Instant>,
    pub fault: Option<&'static str>,
}

impl Stage {
    /// On the fast server.
    pub fn new(test: &str) -> Self {
        Self::at(SqsServer::get(Kind::Rustack).unwrap(), test)
    }

    /// On a server of this kind, if it runs on this machine.
    pub fn on(kind: Kind, test: &str) -> Option<Self> {
        Some(Self::at(SqsServer::get(kind)?, test))
    }

    pub fn at(server: &'static SqsServer, test: &str) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        Self {
            proxy: FaultProxy::start(server.url()),
            server,
            prefix: format!("{test}-{number}"),
            settings: String::new(),
            tables: String::new(),
        }
    }

    pub fn server(&self) -> &'static SqsServer {
        self.server
    }

    /// Makes a queue on the server, and lets the hosts know it as `name`.
    pub fn queue(&mut self, name: &str, attributes: &[(&str, &str)], settings: &str) -> RemoteQueue {
        let queue = self.unknown_queue(name, attributes);
        self.know(name, &queue, settings);
        queue
    }

    /// Makes a FIFO queue on the server, and lets the hosts know it as `name`.
    pub fn fifo(&mut self, name: &str, attributes: &[(&str, &str)], settings: &str) -> RemoteQueue {
        self.queue(name, &[attributes, &[("FifoQueue", "true")]].concat(), settings)
    }

    /// Makes a queue that no host knows.
    pub fn unknown_queue(&self, name: &str, attributes: &[(&str, &str)]) -> RemoteQueue {
        let suffix = if attributes.contains(&("FifoQueue", "true")) {
            ".fifo"
        } else {
            ""
        };
        let name = format!("{}-{name}{suffix}", self.prefix);
        RemoteQueue {
            client: self.server.client().clone(),
            url: self.server.create_queue(&name, attributes),
            name,
        }
    }

    /// Lets the hosts know a queue.
    pub fn know(&mut self, name: &str, queue: &RemoteQueue, settings: &str) {
        let remote = &queue.name;
        writeln!(self.tables, "[queues.{name}]\nurl = \"sqs:{remote}\"\n{settings}").unwrap();
    }

    /// Settings of the hosts themselves, in front of all tables.
    pub fn set(&mut self, settings: &str) {
        writeln!(self.settings, "{settings}").unwrap();
    }

    /// Further tables of the hosts.
    pub fn table(&mut self, table: &str) {
        writeln!(self.tables, "{table}").unwrap();
    }

    /// A place for a host on these queues, without a handler.
    pub fn place(&self) -> Place {
        let mut place = Place::new();
        place.environment = SqsClient::new(&self.proxy.url()).environment();
        place.configure(&format!("{}{}", self.settings, self.tables));
        place
    }

    /// What a queue's hosts were handed, in the order of the answers. What was lost on the way is not among it.
    pub fn handed(&self, queue: &RemoteQueue) -> Vec<Handed> {
        let mut handed = Vec::new();
        for entry in self.calls(queue, "ReceiveMessage") {
            let messages = entry.answer.get("Messages").and_then(Value::as_array);
            for message in messages.into_iter().flatten() {
                let text = |name: &str| message.get(name).and_then(Value::as_str).unwrap().to_owned();
                let count = message.pointer("/Attributes/ApproximateReceiveCount");
                handed.push(Handed {
                    id: text("MessageId"),
                    handle: text("ReceiptHandle"),
                    body: text("Body"),
                    count: count.and_then(Value::as_str).unwrap().parse().unwrap(),
                    at: entry.answered_at.unwrap_or(entry.at),
                });
            }
        }
        // A poll that was asked early may be answered late.
        handed.sort_by_key(|each| each.at);
        handed
    }

    /// How often each body of a queue was handed to a host.
    pub fn times_handed(&self, queue: &RemoteQueue) -> BTreeMap<String, usize> {
        let mut times = BTreeMap::new();
        for each in self.handed(queue) {
            *times.entry(each.body).or_default() += 1;
        }
        times
    }

    /// The requests of an action that were about a queue, in their order.
    pub fn calls(&self, queue: &RemoteQueue, action: &str) -> Vec<Entry> {
        let end = format!("/{}", queue.name);
        let about = |entry: &Entry| {
            let url = entry.request.get("QueueUrl").and_then(Value::as_str);
            url.is_some_and(|url| url.ends_with(&end))
        };
        let mut calls = self.proxy.log_of(action);
        calls.retain(about);
        calls
    }

    /// The entries of all batches of an action for a queue, in their order.
    pub fn entries(&self, queue: &RemoteQueue, action: &str) -> Vec<Called> {
        let mut called = Vec::new();
        for call in self.calls(queue, action) {
            let entries = call.request.get("Entries").and_then(Value::as_array);
            for entry in entries.into_iter().flatten() {
                let handle = entry.get("ReceiptHandle").and_then(Value::as_str);
                called.push(Called {
                    handle: handle.unwrap_or_default().to_owned(),
                    seconds: entry.get("VisibilityTimeout").and_then(Value::as_u64),
                    at: call.at,
                    answered_at: call.answered_at,
                    fault: call.fault,
                });
            }
        }
        called
    }

    /// Deletions that the host asked for.
    pub fn deletions(&self, queue: &RemoteQueue) -> Vec<Called> {
        self.entries(queue, "DeleteMessageBatch")
    }

    /// Extensions, retries and releases.
    pub fn hidings(&self, queue: &RemoteQueue) -> Vec<Called> {
        self.entries(queue, "ChangeMessageVisibilityBatch")
    }
}

impl Deref for RemoteQueue {
    type Target = SqsClient;

    fn deref(&self) -> &SqsClient {
        &self.client
    }
}

impl RemoteQueue {
    pub fn put(&self, body: &str) -> String {
        self.client.send(&self.url, body)
    }

    pub fn put_in(&self, group: &str, body: &str) -> String {
        self.client.send_to_group(&self.url, group, body)
    }

    /// Sends messages to a standard queue, ten a call.
    pub fn put_all<S: AsRef<str>>(&self, bodies: &[S]) {
        let messages: Vec<_> = bodies.iter().map(|body| (body.as_ref(), None)).collect();
        self.put_entries(&messages);
    }

    /// Sends messages with their groups to a FIFO queue, in order, ten a call.
    pub fn put_all_in<G: AsRef<str>, S: AsRef<str>>(&self, messages: &[(G, S)]) {
        let messages: Vec<_> = messages
            .iter()
            .map(|(group, body)| (body.as_ref(), Some(group.as_ref())))
            .collect();
        self.put_entries(&messages);
    }

    fn put_entries(&self, messages: &[(&str, Option<&str>)]) {
        for batch in messages.chunks(10) {
            let entry = |(index, (body, group)): (usize, &(&str, Option<&str>))| {
                let mut entry = serde_json::json!({ "Id": index.to_string(), "MessageBody": body });
                if let (Some(entry), Some(group)) = (entry.as_object_mut(), group) {
                    entry.insert("MessageGroupId".to_owned(), (*group).into());
                    entry.insert("MessageDeduplicationId".to_owned(), (*body).into());
                }
                entry
            };
            let entries: Vec<Value> = batch.iter().enumerate().map(entry).collect();
            let request = serde_json::json!({ "QueueUrl": self.url, "Entries": entries });
            let answer = self.client.expect("SendMessageBatch", &request);
            let taken = answer.get("Successful").and_then(Value::as_array).map_or(0, Vec::len);
            assert_eq!(taken, batch.len(), "{answer}");
        }
    }

    /// Visible, in flight and delayed.
    pub fn numbers(&self) -> (u64, u64, u64) {
        self.client.counts(&self.url)
    }

    pub fn wait_numbers(&self, numbers: (u64, u64, u64)) {
        wait_for(&format!("{} to have {numbers:?}", self.name), || {
            (self.numbers() == numbers).then_some(())
        });
    }

    /// Waits until there is nothing in it, visible or not. Waits as long as it gets less: how much there is to do is the test's
    /// business.
    pub fn wait_gone(&self) {
        let all = || {
            let (visible, in_flight, delayed) = self.numbers();
            visible + in_flight + delayed
        };
        let mut left = all();
        while left > 0 {
            let what = format!("{} to have less than {left} messages", self.name);
            left = wait_for(&what, || Some(all()).filter(|now| *now != left));
        }
    }

    pub fn take(&self) -> Vec<String> {
        let mut bodies = self.client.take_all(&self.url);
        bodies.sort_unstable();
        bodies
    }

    pub fn delete(&self, handle: &str) -> Result<Value, SqsError> {
        self.client.delete(&self.url, handle)
    }

    pub fn arn(&self) -> String {
        self.client.arn(&self.url)
    }
}

/// What stands on a host's metrics page for a series, with its labels; zero if it does not stand there.
pub fn metric(host: &Host, series: &str) -> u64 {
    let (_, page) = host.text("/metrics");
    let value = page
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.map_or(0, |value| value.parse().unwrap_or_else(|_| panic!("{series} {value}")))
}

/// Waits until a series has reached a value.
pub fn wait_metric(host: &Host, series: &str, least: u64) {
    wait_for(&format!("{series} to be {least}"), || {
        (metric(host, series) >= least).then_some(())
    });
}

/// The time between two moments; zero if they are the other way round.
pub fn between(earlier: Instant, later: Instant) -> Duration {
    later.saturating_duration_since(earlier)
}
