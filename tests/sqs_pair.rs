//! Two hosts: one serves its Simple queues by the SQS protocol, and the other consumes from them, as it would from SQS. Either is
//! killed at the worst moments, again and again.

#![expect(clippy::indexing_slicing, reason = "what is not as expected fails the test")]
#![expect(clippy::print_stdout, reason = "a test's output is shown by whoever runs it")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use harness::{
    fault_proxy::FaultProxy,
    guests::forward,
    host::{Host, Place},
    let_pass,
    sqs_client::SqsClient,
    wait_for,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};

/// Messages that are sent per request.
const BATCH: usize = 10;
const GROUPS: usize = 10;
/// What one sender has under way at most, so that the work stays what a slow machine can do.
const BACKLOG: usize = 300;
/// Shorter than the patience of the test, and long enough that no answer of a busy machine is late.
const VISIBILITY: (&str, &str) = ("VisibilityTimeout", "4");

/// The host that serves, the host that consumes, and a proxy between them, so that the first has one address through all of its
/// lives.
struct Pair {
    serving: Place,
    consuming: Place,
    proxy: FaultProxy,
    /// `None` while it is dead.
    server: Mutex<Option<Host>>,
    consumer: Mutex<Option<Host>>,
}

impl Pair {
    /// Both run. The second has a handler for each queue of the first, which sends what it gets on to its own queue `out`.
    fn start() -> Self {
        let (serving, mut consuming) = (Place::new(), Place::new());
        let server = serving.start();
        let proxy = FaultProxy::start(&server.url);
        let client = SqsClient::new(&proxy.url());
        client.create_queue("any", &[VISIBILITY]);
        client.create_queue("groups.fifo", &[VISIBILITY, ("FifoQueue", "true")]);
        consuming.environment = client.environment();
        // A message may be in flight at many a kill: that it is dead-lettered for it is another test's matter.
        let max = "max-receives = 1000";
        consuming.configure(&format!(
            "[queues.any]\nurl = \"sqs:any\"\n{max}\n[queues.groups]\nurl = \"sqs:groups.fifo\"\n{max}\n"
        ));
        for name in ["any", "groups"] {
            consuming.install(name, &forward(), "concurrency = 20\n[grant]\nsend = [\"out\"]\n");
        }
        // Compiled once, so that every consumer works from its first moment.
        let consumer = consuming.start();
        consumer.wait_ready();
        Self {
            serving,
            consuming,
            proxy,
            server: Mutex::new(Some(server)),
            consumer: Mutex::new(Some(consumer)),
        }
    }

    fn client(&self) -> SqsClient {
        SqsClient::new(&self.proxy.url())
    }

    fn url(&self, queue: &str) -> String {
        format!("{}/000000000000/{queue}", self.proxy.url())
    }

    fn kill_server(&self) {
        self.server.lock().unwrap().take().unwrap().kill();
    }

    fn kill_consumer(&self) {
        self.consumer.lock().unwrap().take().unwrap().kill();
    }

    /// Starts what is dead.
    fn revive(&self) {
        let mut server = self.server.lock().unwrap();
        if server.is_none() {
            let host = self.serving.start();
            self.proxy.aim_at(&host.url);
            *server = Some(host);
        }
        self.consumer
            .lock()
            .unwrap()
            .get_or_insert_with(|| self.consuming.start());
    }

    /// The bodies that came out, in their order, read as an operator would: with SQLite.
    fn outputs(&self) -> Vec<String> {
        let connection = rusqlite::Connection::open(self.consuming.data().join("queues.db")).unwrap();
        let sql = "SELECT CAST(body AS TEXT) FROM messages JOIN queues USING (queue) WHERE name = 'out' ORDER BY seq";
        let mut statement = connection.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    }
}

/// What became of the sends of one sender.
#[derive(Default)]
struct SentBodies {
    acknowledged: Mutex<BTreeSet<String>>,
    /// They may be there or not: their send was not answered.
    doubtful: Mutex<BTreeSet<String>>,
    answers: AtomicUsize,
}

/// The body of a message, from which all else follows.
fn body(kind: char, number: usize) -> String {
    format!("{kind}{number:06}")
}

fn number(body: &str) -> usize {
    body.get(1..).unwrap().parse().unwrap()
}

fn group(body: &str) -> usize {
    number(body) % GROUPS
}

fn entry(kind: char, index: usize, body: &str) -> Value {
    let mut entry = json!({ "Id": index.to_string(), "MessageBody": body });
    if kind == 'f' {
        entry["MessageGroupId"] = json!(format!("g{}", group(body)));
        entry["MessageDeduplicationId"] = json!(body);
    }
    entry
}

/// Sends batches until it is told to stop, and does not repeat what was not answered.
fn send_until(pair: &Pair, kind: char, queue: &str, sent: &SentBodies, stop: &AtomicBool) {
    let (client, url) = (pair.client(), pair.url(queue));
    let mut next = 0;
    while !stop.load(Ordering::Relaxed) {
        let bodies: Vec<_> = (next..next + BATCH).map(|number| body(kind, number)).collect();
        next += BATCH;
        let entries = bodies.iter().enumerate().map(|(index, body)| entry(kind, index, body));
        let request = json!({ "QueueUrl": url, "Entries": entries.collect::<Vec<_>>() });
        match client.call("SendMessageBatch", &request) {
            Ok(answer) => {
                let taken = answer["Successful"].as_array().map_or(0, Vec::len);
                assert_eq!(taken, BATCH, "{answer}");
                sent.acknowledged.lock().unwrap().extend(bodies);
                sent.answers.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => sent.doubtful.lock().unwrap().extend(bodies),
        }
        wait_for("room for more", || {
            let is_open = |(ready, in_flight, _)| ready + in_flight < u64::try_from(BACKLOG).unwrap();
            (stop.load(Ordering::Relaxed) || counts(&client, &url).is_some_and(is_open)).then_some(())
        });
    }
}

/// What is visible, in flight and delayed; `None` if there was no answer.
fn counts(client: &SqsClient, url: &str) -> Option<(u64, u64, u64)> {
    let request = json!({ "QueueUrl": url, "AttributeNames": ["All"] });
    let answer = client.call("GetQueueAttributes", &request).ok()?;
    let number = |name: &str| answer["Attributes"][name].as_str()?.parse().ok();
    Some((
        number("ApproximateNumberOfMessages")?,
        number("ApproximateNumberOfMessagesNotVisible")?,
        number("ApproximateNumberOfMessagesDelayed")?,
    ))
}

fn kill_at_random(pair: &Pair, rounds: usize, senders: &[&SentBodies]) {
    let mut random = StdRng::seed_from_u64(0x9a18);
    for round in 0..rounds {
        // Some are killed before anything was answered, others in the middle of the work.
        let (answers, moment) = (random.random_range(0..4), random.random_range(0..150));
        let answered = || {
            senders
                .iter()
                .map(|sent| sent.answers.load(Ordering::Relaxed))
                .sum::<usize>()
        };
        let before = answered();
        wait_for("answers to sends", || (answered() >= before + answers).then_some(()));
        let_pass(Duration::from_millis(moment));
        match round % 3 {
            0 => pair.kill_server(),
            1 => pair.kill_consumer(),
            _ => {
                pair.kill_consumer();
                pair.kill_server();
            }
        }
        pair.revive();
    }
}

fn check_kills(rounds: usize) {
    let pair = Pair::start();
    let start = Instant::now();
    let (any, groups) = (SentBodies::default(), SentBodies::default());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| send_until(&pair, 's', "any", &any, &stop));
        scope.spawn(|| send_until(&pair, 'f', "groups.fifo", &groups, &stop));
        kill_at_random(&pair, rounds, &[&any, &groups]);
        stop.store(true, Ordering::Relaxed);
    });
    for queue in ["any", "groups.fifo"] {
        wait_for(&format!("the end of {queue}"), || {
            (counts(&pair.client(), &pair.url(queue)) == Some((0, 0, 0))).then_some(())
        });
    }
    let consumer = pair.consumer.lock().unwrap().take().unwrap();
    assert_eq!(consumer.terminate().0.code(), Some(0));
    let outputs = pair.outputs();
    println!(
        "{rounds} kills in {:?}: {} and {} acknowledged, {} and {} doubtful, {} outputs",
        start.elapsed(),
        any.acknowledged.lock().unwrap().len(),
        groups.acknowledged.lock().unwrap().len(),
        any.doubtful.lock().unwrap().len(),
        groups.doubtful.lock().unwrap().len(),
        outputs.len(),
    );
    for (kind, sent) in [('s', any), ('f', groups)] {
        check_outputs(kind, &sent, &outputs);
    }
    check_order(&outputs);
}

/// Nothing was lost, and each effect happened once.
fn check_outputs(kind: char, sent: &SentBodies, outputs: &[String]) {
    let acknowledged = sent.acknowledged.lock().unwrap();
    let doubtful = sent.doubtful.lock().unwrap();
    assert!(acknowledged.len() > 100, "too little happened: {}", acknowledged.len());
    let mut times: BTreeMap<&String, usize> = BTreeMap::new();
    for body in outputs.iter().filter(|body| body.starts_with(kind)) {
        *times.entry(body).or_default() += 1;
    }
    let lost: Vec<_> = acknowledged.iter().filter(|body| !times.contains_key(body)).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    let doubled: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
    assert!(doubled.is_empty(), "came out more than once: {doubled:?}");
    let known = |body: &String| acknowledged.contains(body) || doubtful.contains(body);
    assert!(
        times.keys().all(|body| known(body)),
        "something came out that was never sent"
    );
}

fn check_order(outputs: &[String]) {
    let mut latest = [None; GROUPS];
    for body in outputs.iter().filter(|body| body.starts_with('f')) {
        let before = latest.get_mut(group(body)).unwrap().replace(number(body));
        assert!(
            before.is_none_or(|before| before < number(body)),
            "group {} is out of order at {body}",
            group(body)
        );
    }
}

#[test]
fn kills_of_either_host_lose_nothing_double_no_effect_and_keep_the_order_of_groups() {
    check_kills(9);
}

#[test]
#[ignore = "a long suite: cargo suites"]
fn a_hundred_kills_of_either_host_lose_nothing_double_no_effect_and_keep_the_order_of_groups() {
    check_kills(100);
}
