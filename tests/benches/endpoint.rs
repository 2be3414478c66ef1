//! Messages per second through the SQS endpoint, the processor time of the server for each, and how soon a waiting receive has
//! a message, beside the quickest SQS server there is, which keeps everything in memory, and `ElasticMQ`, which does, too.
//!
//! A client is a thread with one connection. It sends, receives and deletes, one message or ten in a request, and waits for each
//! answer. Requests are not signed, and the client does nothing with an answer but to find the receipts, so that the servers are
//! what is measured. All servers are processes of their own and take part in each round in turn.
//!
//! `cargo bench --workspace --bench endpoint`; with `-- quick` for fewer rows, with `-- waits` the waits alone.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "a benchmark speaks to a person"
)]

use std::{
    fmt::Write as _,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use harness::{
    elastic_mq::ElasticMq,
    host::Place,
    let_pass,
    process::{peak_memory, ticked_time},
    ratios::{Figures, machine, print_header, print_row},
    sqs_server::{Kind, SqsServer},
};
use serde_json::Value;

const ROUNDS: usize = 5;
const BODY_BYTES: usize = 256;
/// Messages of one run, by the size of a request.
const MESSAGES: [(usize, usize); 2] = [(1, 3_000), (10, 20_000)];
const CONNECTIONS: [usize; 3] = [1, 16, 64];
const WAITS: usize = 300;

/// A server under measurement.
struct Server {
    name: &'static str,
    address: SocketAddr,
    process: u32,
}

/// One connection to a server.
struct Connection {
    stream: BufReader<TcpStream>,
    host: String,
}

impl Connection {
    fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream: BufReader::new(stream),
            host: address.to_string(),
        }
    }

    /// Calls an action and returns the body of its answer.
    fn call(&mut self, action: &str, body: &str) -> Vec<u8> {
        let request = format!(
            "POST / HTTP/1.1\r\nhost: {}\r\ncontent-type: application/x-amz-json-1.0\r\nx-amz-target: AmazonSQS.{action}\r\ncontent-length: {}\r\n\r\n{body}",
            self.host,
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes()).unwrap();
        let mut length = 0;
        let mut line = String::new();
        let mut is_first = true;
        loop {
            line.clear();
            self.stream.read_line(&mut line).unwrap();
            if is_first {
                assert!(line.contains(" 200 "), "{action}: {line}");
                is_first = false;
            }
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer).unwrap();
        answer
    }

    fn create(&mut self, name: &str) -> String {
        let answer = self.call("CreateQueue", &format!("{{\"QueueName\":\"{name}\"}}"));
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        answer["QueueUrl"].as_str().unwrap().to_owned()
    }

    fn send(&mut self, url: &str, batch: usize, body: &str) {
        if batch == 1 {
            let text = format!("{{\"QueueUrl\":\"{url}\",\"MessageBody\":\"{body}\"}}");
            drop(self.call("SendMessage", &text));
            return;
        }
        let mut text = format!("{{\"QueueUrl\":\"{url}\",\"Entries\":[");
        for number in 0..batch {
            let comma = if number > 0 { "," } else { "" };
            write!(text, "{comma}{{\"Id\":\"{number}\",\"MessageBody\":\"{body}\"}}").unwrap();
        }
        text.push_str("]}");
        drop(self.call("SendMessageBatch", &text));
    }

    fn receive(&mut self, url: &str, batch: usize, wait_s: usize) -> Vec<String> {
        let text = format!("{{\"QueueUrl\":\"{url}\",\"MaxNumberOfMessages\":{batch},\"WaitTimeSeconds\":{wait_s}}}");
        let answer: Value = serde_json::from_slice(&self.call("ReceiveMessage", &text)).unwrap();
        let messages = answer["Messages"].as_array().cloned().unwrap_or_default();
        let handle = |message: &Value| message["ReceiptHandle"].as_str().unwrap().to_owned();
        messages.iter().map(handle).collect()
    }

    fn delete(&mut self, url: &str, handles: &[String]) {
        if let [handle] = handles {
            let text = format!("{{\"QueueUrl\":\"{url}\",\"ReceiptHandle\":\"{handle}\"}}");
            drop(self.call("DeleteMessage", &text));
            return;
        }
        let mut text = format!("{{\"QueueUrl\":\"{url}\",\"Entries\":[");
        for (number, handle) in handles.iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            write!(text, "{comma}{{\"Id\":\"{number}\",\"ReceiptHandle\":\"{handle}\"}}").unwrap();
        }
        text.push_str("]}");
        drop(self.call("DeleteMessageBatch", &text));
    }
}

/// What one run took.
struct Run {
    per_second: f64,
    /// Processor time of the server for a message, in microseconds.
    processor_us: f64,
}

fn processor_time(process: u32) -> Duration {
    ticked_time(&process.to_string()).iter().sum()
}

/// Sends, receives and deletes `messages` over so many connections.
fn run(server: &Server, connections: usize, batch: usize, messages: usize) -> Run {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("bench-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let url: Arc<str> = Connection::open(server.address).create(&name).into();
    let body: Arc<str> = "x".repeat(BODY_BYTES).into();
    let left = Arc::new(AtomicUsize::new(messages / batch));
    let before = processor_time(server.process);
    let start = Instant::now();
    let clients: Vec<_> = (0..connections)
        .map(|_| {
            let (url, body, left) = (Arc::clone(&url), Arc::clone(&body), Arc::clone(&left));
            let address = server.address;
            thread::spawn(move || {
                let mut connection = Connection::open(address);
                let mut deleted = 0;
                while left
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                    .is_ok()
                {
                    connection.send(&url, batch, &body);
                    let handles = connection.receive(&url, batch, 0);
                    deleted += handles.len();
                    if !handles.is_empty() {
                        connection.delete(&url, &handles);
                    }
                }
                deleted
            })
        })
        .collect();
    let deleted: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
    let took = start.elapsed();
    let spent = processor_time(server.process).saturating_sub(before);
    Run {
        per_second: deleted as f64 / took.as_secs_f64(),
        processor_us: spent.as_secs_f64() * 1e6 / deleted.max(1) as f64,
    }
}

/// How long after a send a waiting receive has the message, in milliseconds: the median and the 99th percentile.
fn waits(server: &Server) -> (f64, f64) {
    let mut sender = Connection::open(server.address);
    let url = sender.create("waits");
    let (told, sent_at) = std::sync::mpsc::channel::<()>();
    let address = server.address;
    let waiting = {
        let url = url.clone();
        thread::spawn(move || {
            let mut receiver = Connection::open(address);
            let mut got = Vec::with_capacity(WAITS);
            for () in sent_at {
                let handles = receiver.receive(&url, 1, 20);
                got.push(Instant::now());
                receiver.delete(&url, &handles);
            }
            got
        })
    };
    let mut sent = Vec::with_capacity(WAITS);
    for _ in 0..WAITS {
        told.send(()).unwrap();
        // The receive is under way by then.
        let_pass(Duration::from_millis(10));
        sent.push(Instant::now());
        sender.send(&url, 1, "x");
    }
    drop(told);
    let got = waiting.join().unwrap();
    let mut took: Vec<f64> = sent
        .iter()
        .zip(&got)
        .map(|(sent, got)| got.duration_since(*sent).as_secs_f64() * 1e3)
        .collect();
    took.sort_by(f64::total_cmp);
    (took[WAITS / 2], took[WAITS * 99 / 100])
}

/// Prints a table of the servers for one load.
fn table(servers: &[Server], connections: usize, batch: usize, messages: usize) {
    let mut speeds = vec![Vec::new(); servers.len()];
    let mut costs = vec![Vec::new(); servers.len()];
    for round in 0..=ROUNDS {
        for (index, server) in servers.iter().enumerate() {
            let run = run(server, connections, batch, messages);
            if round > 0 {
                speeds[index].push(run.per_second);
                costs[index].push(run.processor_us);
            }
        }
    }
    let title = format!("send, receive and delete, {batch} in a request, {connections} connections");
    for (unit, figures) in [
        ("messages/s", speeds),
        ("us of the server's processor a message", costs),
    ] {
        print_header(&title, unit, ROUNDS);
        let figures: Vec<Figures> = figures.into_iter().map(Figures::new).collect();
        for (server, own) in servers.iter().zip(&figures) {
            print_row(server.name, own, &figures[0], None);
        }
    }
}

fn address_of(url: &str) -> SocketAddr {
    url.trim_start_matches("http://").trim_end_matches('/').parse().unwrap()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|each| each != "--bench").collect();
    let (quick, only_waits) = (arguments == ["quick"], arguments == ["waits"]);
    println!("{}", machine());
    let peer = SqsServer::start(Kind::Rustack);
    let mut places = [Place::new(), Place::new()];
    places[0].arguments.push("--ephemeral".to_owned());
    let hosts = places.each_ref().map(Place::start);
    let elastic_mq = ElasticMq::start();
    let mut servers = vec![
        Server {
            name: "Rustack (in memory)",
            address: address_of(peer.client().url()),
            process: peer.id(),
        },
        Server {
            name: "sandhog, in memory",
            address: address_of(&hosts[0].url),
            process: hosts[0].id(),
        },
        Server {
            name: "sandhog, on disk",
            address: address_of(&hosts[1].url),
            process: hosts[1].id(),
        },
    ];
    if let Some(server) = &elastic_mq {
        servers.push(Server {
            name: "ElasticMQ (in memory)",
            address: server.address,
            process: server.id(),
        });
    } else {
        println!("without ElasticMQ, which needs java and mvn");
    }
    if !only_waits {
        for (batch, messages) in MESSAGES {
            for connections in CONNECTIONS {
                if !quick || connections == 16 {
                    table(&servers, connections, batch, messages);
                }
            }
        }
    }
    println!("\nfrom a send to the answer of a receive that waits, ms: median, 99 of 100");
    for server in &servers {
        let (median, late) = waits(server);
        println!("  {:<62} {median:>8.2} {late:>8.2}", server.name);
    }
    println!("\npeak memory, MiB");
    for server in &servers {
        println!("  {:<62} {:>8}", server.name, peak_memory(server.process) >> 10);
    }
}
