//! Receives that wait for a message by the SQS protocol: they are woken at once, cost next to nothing, and take nothing with them
//! when their client goes or the host ends.

#![expect(clippy::indexing_slicing, reason = "the steps of a test must succeed")]
#![expect(clippy::print_stdout, reason = "a test's output is shown by whoever runs it")]

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    time::{Duration, Instant},
};

use harness::{
    PATIENCE,
    host::{Host, Place},
    process::Resources,
    sqs_client::{SqsClient, authorization},
    sqs_host::metric,
    wait_for,
};
use serde_json::{Value, json};

/// Before the wait of 20 s is over.
const SOON: Duration = Duration::from_secs(19);

/// A host with a queue, and the receives that wait there.
struct Serving {
    _place: Place,
    host: Host,
    client: SqsClient,
    queue: String,
}

impl Serving {
    fn start() -> Self {
        let place = Place::new();
        let host = place.start();
        let client = SqsClient::new(&host.url);
        let queue = client.create_queue("orders", &[]);
        Self {
            _place: place,
            host,
            client,
            queue,
        }
    }

    /// A receive of one message that waits for 20 s, on a connection of its own.
    fn poll(&self) -> WaitingPoll {
        let request = json!({
            "QueueUrl": self.queue, "WaitTimeSeconds": 20, "MaxNumberOfMessages": 1,
            "MessageSystemAttributeNames": ["All"],
        });
        WaitingPoll::ask(&self.host, &request)
    }

    /// Waits until so many requests are under way, beside the one that asks for their number.
    fn wait_under_way(&self, requests: u64) {
        wait_for(&format!("{requests} requests under way"), || {
            (metric(&self.host, "sandhog_listener_requests") == requests + 1).then_some(())
        });
    }
}

/// A request that was sent and not answered yet.
struct WaitingPoll(TcpStream);

impl WaitingPoll {
    fn ask(host: &Host, request: &Value) -> Self {
        let address = host.url.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let body = request.to_string();
        let head = format!(
            "POST / HTTP/1.1\r\nhost: {address}\r\nx-amz-target: AmazonSQS.ReceiveMessage\r\n\
             content-type: application/x-amz-json-1.0\r\nauthorization: {}\r\ncontent-length: {}\r\n\r\n",
            authorization(),
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        Self(stream)
    }

    /// The messages of the answer.
    fn answer(self) -> Vec<Value> {
        let mut reader = BufReader::new(self.0);
        let mut lines = reader.by_ref().lines().map(Result::unwrap);
        let status = lines.next().unwrap();
        assert!(status.starts_with("HTTP/1.1 200"), "{status}");
        let headers: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
        let length = headers
            .iter()
            .find_map(|header| header.strip_prefix("content-length: "));
        let mut body = vec![0; length.unwrap().parse().unwrap()];
        reader.read_exact(&mut body).unwrap();
        let answer: Value = serde_json::from_slice(&body).unwrap();
        answer["Messages"].as_array().cloned().unwrap_or_default()
    }

    /// As a client that was killed.
    fn hang_up(self) {
        self.0.shutdown(Shutdown::Both).unwrap();
    }
}

fn body(message: &Value) -> &str {
    message["Body"].as_str().unwrap()
}

fn receive_count(message: &Value) -> &str {
    message["Attributes"]["ApproximateReceiveCount"].as_str().unwrap()
}

#[test]
fn a_send_wakes_a_receive_that_waits() {
    const ROUNDS: usize = 50;
    let serving = Serving::start();
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let poll = serving.poll();
        serving.wait_under_way(1);
        let sent = Instant::now();
        serving.client.send(&serving.queue, &round.to_string());
        let messages = poll.answer();
        times.push(sent.elapsed());
        assert_eq!((messages.len(), body(&messages[0])), (1, &*round.to_string()));
        assert!(sent.elapsed() < SOON, "{:?}", sent.elapsed());
    }
    times.sort_unstable();
    println!(
        "from a send to the answer of a receive that waits: {:?} half of the time, at most {:?}",
        times[ROUNDS / 2],
        times[ROUNDS - 1]
    );
}

#[test]
fn a_receive_whose_client_has_gone_takes_no_message_with_it() {
    const ROUNDS: usize = 20;
    let serving = Serving::start();
    for round in 0..ROUNDS {
        let gone = serving.poll();
        serving.wait_under_way(1);
        gone.hang_up();
        serving.wait_under_way(0);
        serving.client.send(&serving.queue, &round.to_string());
        let asked = Instant::now();
        let messages = serving.poll().answer();
        assert_eq!((messages.len(), body(&messages[0])), (1, &*round.to_string()));
        assert_eq!(receive_count(&messages[0]), "1", "round {round}");
        assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
    }
}

#[test]
fn a_client_that_goes_just_before_a_send_takes_no_message_with_it() {
    const ROUNDS: usize = 50;
    let serving = Serving::start();
    for round in 0..ROUNDS {
        let gone = serving.poll();
        serving.wait_under_way(1);
        // The host may hear of it after the send.
        gone.hang_up();
        serving.client.send(&serving.queue, &round.to_string());
        let asked = Instant::now();
        let messages = serving.poll().answer();
        assert_eq!(
            (messages.len(), body(&messages[0])),
            (1, &*round.to_string()),
            "round {round}"
        );
        assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
    }
}

#[test]
fn a_receive_that_waits_ends_empty_when_the_host_is_told_to_stop() {
    let serving = Serving::start();
    let polls: Vec<_> = (0..10).map(|_| serving.poll()).collect();
    serving.wait_under_way(10);
    let told = Instant::now();
    let (code, _log) = serving.host.terminate();
    assert_eq!(code.code(), Some(0));
    assert!(told.elapsed() < SOON, "{:?}", told.elapsed());
    for poll in polls {
        assert_eq!(poll.answer(), [Value::Null; 0]);
    }
    println!(
        "the host ended {:?} after it was told to, with ten receives that waited",
        told.elapsed()
    );
}

/// Lets so many receives wait, and gives each a message.
fn check_waiting(number: u64) {
    let serving = Serving::start();
    let before = Resources::of(serving.host.id());
    let mut polls = Vec::new();
    for _ in 0..number {
        polls.push(serving.poll());
    }
    serving.wait_under_way(number);
    let during = Resources::of(serving.host.id());
    println!(
        "{number} receives that wait: {} more threads, {} KiB of memory each",
        during.threads.saturating_sub(before.threads),
        during.memory.saturating_sub(before.memory) / number
    );
    assert!(during.threads <= before.threads + 4, "{before:?} {during:?}");
    // The host goes on.
    let other = serving.client.create_queue("other", &[]);
    serving.client.send(&other, "a");
    assert_eq!(serving.client.receive(&other, 1, 0).len(), 1);
    assert_eq!(serving.host.text("/live").0, 200);
    let start = Instant::now();
    let bodies: BTreeSet<String> = (0..number).map(|number| number.to_string()).collect();
    for batch in bodies.iter().collect::<Vec<_>>().chunks(10) {
        let entry = |body: &&String| json!({ "Id": body, "MessageBody": body });
        let entries: Vec<_> = batch.iter().map(entry).collect();
        serving.client.expect(
            "SendMessageBatch",
            &json!({ "QueueUrl": serving.queue, "Entries": entries }),
        );
    }
    let mut received = BTreeSet::new();
    for poll in polls {
        for message in poll.answer() {
            assert_eq!(receive_count(&message), "1");
            received.insert(body(&message).to_owned());
        }
    }
    println!(
        "a message for each of {number} receives that wait: {:?}",
        start.elapsed()
    );
    assert_eq!(received, bodies);
    assert_eq!(serving.client.counts(&serving.queue), (0, number, 0));
}

#[test]
fn a_thousand_receives_that_wait_hold_no_thread_and_keep_nobody_out() {
    check_waiting(1000);
}

#[test]
#[ignore = "a long suite: cargo suites"]
fn several_thousand_receives_that_wait_hold_no_thread_and_keep_nobody_out() {
    check_waiting(4000);
}
