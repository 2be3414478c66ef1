//! The groups of a FIFO queue with many consumers at a time, who speak the SQS protocol by the SDK and without it, delete some
//! of what they get, give some back, and let some expire: each group comes in its order, to one receive at a time.

#![expect(clippy::indexing_slicing, reason = "what is not as expected fails the test")]
#![expect(clippy::print_stdout, reason = "a test's output is shown by whoever runs it")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use aws_sdk_sqs::{
    config::{BehaviorVersion, Credentials, Region},
    types::{ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry},
};
use harness::{
    host::{Host, Place},
    let_pass,
    sqs_client::{ACCESS_KEY, REGION, SECRET_KEY, SqsClient},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// How long a receive hides its messages, in seconds. Some consumers let it end.
const VISIBILITY: i32 = 2;
/// The latest end of the whole: a group that waits for ever fails the test.
const PATIENCE: Duration = Duration::from_mins(15);

/// One message as a consumer has it: its number in its group, and its handle.
#[derive(Clone, Debug)]
struct Taken {
    group: usize,
    number: usize,
    handle: String,
}

impl Taken {
    fn new(body: &str, handle: &str) -> Self {
        let (group, number) = body.split_once('-').unwrap();
        Self {
            group: group.parse().unwrap(),
            number: number.parse().unwrap(),
            handle: handle.to_owned(),
        }
    }
}

/// A consumer of one queue. Answers for each handle whether the queue did it.
trait Consumer: Send {
    fn receive(&self) -> Vec<Taken>;
    fn delete(&self, taken: &[Taken]) -> Vec<bool>;
    fn hide(&self, taken: &[Taken], seconds: i32) -> Vec<bool>;
}

/// Speaks AWS JSON with nothing between it and the host.
struct PlainConsumer {
    client: SqsClient,
    queue: String,
}

impl PlainConsumer {
    fn batch(&self, action: &str, taken: &[Taken], more: impl Fn(&mut Value)) -> Vec<bool> {
        let entries = taken.iter().enumerate().map(|(index, taken)| {
            let mut entry = json!({ "Id": index.to_string(), "ReceiptHandle": taken.handle });
            more(&mut entry);
            entry
        });
        let request = json!({ "QueueUrl": self.queue, "Entries": entries.collect::<Vec<_>>() });
        let answer = self.client.expect(action, &request);
        let done = answer["Successful"].as_array().into_iter().flatten();
        let done: BTreeSet<_> = done.map(|entry| entry["Id"].as_str().unwrap().to_owned()).collect();
        (0..taken.len())
            .map(|index| done.contains(&index.to_string()))
            .collect()
    }
}

impl Consumer for PlainConsumer {
    fn receive(&self) -> Vec<Taken> {
        let received = self.client.receive_with(
            &self.queue,
            json!({ "MaxNumberOfMessages": 10, "WaitTimeSeconds": 1, "VisibilityTimeout": VISIBILITY }),
        );
        received
            .iter()
            .map(|message| Taken::new(&message.body, &message.handle))
            .collect()
    }

    fn delete(&self, taken: &[Taken]) -> Vec<bool> {
        self.batch("DeleteMessageBatch", taken, |_| {})
    }

    fn hide(&self, taken: &[Taken], seconds: i32) -> Vec<bool> {
        self.batch("ChangeMessageVisibilityBatch", taken, |entry| {
            entry["VisibilityTimeout"] = json!(seconds);
        })
    }
}

/// The SDK of AWS.
struct SdkConsumer {
    client: aws_sdk_sqs::Client,
    queue: String,
    runtime: Runtime,
}

impl SdkConsumer {
    fn new(host: &Host, queue: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let config = aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new(REGION))
            .credentials_provider(Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "test"))
            .endpoint_url(&host.url);
        Self {
            client: aws_sdk_sqs::Client::from_conf(config.build()),
            queue: queue.to_owned(),
            runtime,
        }
    }
}

impl Consumer for SdkConsumer {
    fn receive(&self) -> Vec<Taken> {
        let receive = self
            .client
            .receive_message()
            .queue_url(&self.queue)
            .max_number_of_messages(10);
        let receive = receive.wait_time_seconds(1).visibility_timeout(VISIBILITY);
        let received = self.runtime.block_on(receive.send()).unwrap();
        let taken = |message: &aws_sdk_sqs::types::Message| {
            Taken::new(message.body().unwrap(), message.receipt_handle().unwrap())
        };
        received.messages().iter().map(taken).collect()
    }

    fn delete(&self, taken: &[Taken]) -> Vec<bool> {
        let entries = taken.iter().enumerate().map(|(index, taken)| {
            let entry = DeleteMessageBatchRequestEntry::builder().id(index.to_string());
            entry.receipt_handle(&taken.handle).build().unwrap()
        });
        let delete = self.client.delete_message_batch().queue_url(&self.queue);
        let answer = self
            .runtime
            .block_on(delete.set_entries(Some(entries.collect())).send())
            .unwrap();
        let done: BTreeSet<_> = answer.successful().iter().map(|entry| entry.id().to_owned()).collect();
        (0..taken.len())
            .map(|index| done.contains(&index.to_string()))
            .collect()
    }

    fn hide(&self, taken: &[Taken], seconds: i32) -> Vec<bool> {
        let entries = taken.iter().enumerate().map(|(index, taken)| {
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(index.to_string());
            let entry = entry.receipt_handle(&taken.handle).visibility_timeout(seconds);
            entry.build().unwrap()
        });
        let hide = self.client.change_message_visibility_batch().queue_url(&self.queue);
        let answer = self
            .runtime
            .block_on(hide.set_entries(Some(entries.collect())).send())
            .unwrap();
        let done: BTreeSet<_> = answer.successful().iter().map(|entry| entry.id().to_owned()).collect();
        (0..taken.len())
            .map(|index| done.contains(&index.to_string()))
            .collect()
    }
}

/// What a receive hides for so long, it has to itself.
fn own_until(asked: Instant) -> Instant {
    asked + Duration::from_secs(u64::try_from(VISIBILITY).unwrap())
}

/// What is known of one group.
#[derive(Debug)]
struct GroupState {
    /// The messages that no deletion was answered for.
    left: BTreeSet<usize>,
    /// Those that are being deleted.
    going: BTreeSet<usize>,
    /// The receive that has messages of the group, and until when it has them at least.
    held: Option<(usize, Instant)>,
}

impl GroupState {
    /// Notes that a receive has these messages, and fails if it may not. Returns whether it may still have them.
    fn take(&mut self, receive: usize, asked: Instant, taken: &[Taken]) -> bool {
        let now = Instant::now();
        // Its answer took so long that another receive may have them by now, and be done with them.
        if now >= own_until(asked) {
            return false;
        }
        if let Some((other, until)) = self.held {
            assert!(
                now >= until,
                "receive {receive} got {taken:?} while receive {other} had the group for {:?} more",
                until - now
            );
        }
        let numbers: Vec<_> = taken.iter().map(|taken| taken.number).collect();
        let skipped = |number: &&usize| !self.going.contains(number) && !numbers.contains(number);
        let last = numbers.last().unwrap();
        assert!(numbers.is_sorted(), "receive {receive} got {numbers:?}");
        let deleted = numbers.iter().find(|number| !self.left.contains(number));
        assert_eq!(deleted, None, "receive {receive} got {numbers:?} again");
        let skipped: Vec<_> = self.left.range(..last).filter(skipped).collect();
        assert!(
            skipped.is_empty(),
            "receive {receive} got {numbers:?} before {skipped:?}"
        );
        self.held = Some((receive, own_until(asked)));
        true
    }

    /// Notes that a receive is about to give the group up, in whole or in part.
    fn end(&mut self, receive: usize) {
        if self.held.is_some_and(|(holder, _)| holder == receive) {
            self.held = None;
        }
    }
}

/// Everything that all consumers know together.
struct Groups {
    states: Vec<Mutex<GroupState>>,
    left: AtomicUsize,
    receives: AtomicUsize,
    /// How often each way to end a receive of a group was taken.
    ways: Mutex<BTreeMap<&'static str, usize>>,
}

impl Groups {
    fn new(groups: usize, each: usize) -> Self {
        let state = || GroupState {
            left: (0..each).collect(),
            going: BTreeSet::new(),
            held: None,
        };
        Self {
            states: (0..groups).map(|_| Mutex::new(state())).collect(),
            left: AtomicUsize::new(groups * each),
            receives: AtomicUsize::new(0),
            ways: Mutex::default(),
        }
    }

    fn of(&self, taken: &[Taken]) -> &Mutex<GroupState> {
        self.states.get(taken.first().unwrap().group).unwrap()
    }

    /// Deletes messages, and notes those that are gone.
    fn delete(&self, consumer: &dyn Consumer, taken: &[Taken]) {
        let numbers: Vec<_> = taken.iter().map(|taken| taken.number).collect();
        self.of(taken).lock().unwrap().going.extend(&numbers);
        let done = consumer.delete(taken);
        let mut state = self.of(taken).lock().unwrap();
        for (number, done) in numbers.into_iter().zip(done) {
            state.going.remove(&number);
            if done && state.left.remove(&number) {
                self.left.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// Takes messages until none is left.
    fn consume(&self, consumer: &dyn Consumer, seed: u64) {
        let mut random = StdRng::seed_from_u64(seed);
        let start = Instant::now();
        while self.left.load(Ordering::Relaxed) > 0 {
            let left = self.left.load(Ordering::Relaxed);
            assert!(start.elapsed() < PATIENCE, "{left} messages do not come");
            let asked = Instant::now();
            let taken = consumer.receive();
            let receive = self.receives.fetch_add(1, Ordering::Relaxed);
            let by_group: Vec<_> = taken.chunk_by(|one, next| one.group == next.group).collect();
            let different: BTreeSet<_> = taken.iter().map(|taken| taken.group).collect();
            assert_eq!(
                different.len(),
                by_group.len(),
                "the messages of a group stand together: {taken:?}"
            );
            let mut held = by_group;
            held.retain(|taken| self.of(taken).lock().unwrap().take(receive, asked, taken));
            for taken in held {
                self.handle(consumer, receive, taken, &mut random);
            }
        }
    }

    /// Does with the messages of one group what a consumer may do.
    fn handle(&self, consumer: &dyn Consumer, receive: usize, taken: &[Taken], random: &mut StdRng) {
        let way = [
            "all", "all", "all", "all", "all", "slow", "first", "middle", "back", "longer", "expire",
        ]
        .get(random.random_range(0..11))
        .copied()
        .unwrap();
        *self.ways.lock().unwrap().entry(way).or_default() += 1;
        let (first, rest) = taken.split_at(taken.len().div_ceil(2));
        match way {
            // It is let expire in a way that takes nobody's time: nothing is done.
            "expire" => return,
            "slow" => let_pass(Duration::from_millis(random.random_range(10..100))),
            "longer" => drop(consumer.hide(taken, VISIBILITY)),
            "first" if !rest.is_empty() => self.delete(consumer, first),
            "middle" if !rest.is_empty() => self.delete(consumer, rest),
            _ => {}
        }
        self.of(taken).lock().unwrap().end(receive);
        match way {
            "first" if !rest.is_empty() => drop(consumer.hide(rest, 0)),
            "middle" if !rest.is_empty() => drop(consumer.hide(first, 0)),
            "back" => drop(consumer.hide(taken, 0)),
            _ => self.delete(consumer, taken),
        }
    }
}

/// Fills the queue from several threads, a group from one of them.
fn fill(client: &SqsClient, queue: &str, groups: usize, each: usize) {
    const SENDERS: usize = 4;
    thread::scope(|scope| {
        for sender in 0..SENDERS {
            scope.spawn(move || {
                let messages = (0..each).flat_map(|number| {
                    let groups = (0..groups).filter(move |group| group % SENDERS == sender);
                    groups.map(move |group| (group, number))
                });
                let messages: Vec<_> = messages.collect();
                for batch in messages.chunks(10) {
                    let entry = |(index, (group, number)): (usize, &(usize, usize))| {
                        let body = format!("{group}-{number}");
                        json!({
                            "Id": index.to_string(), "MessageBody": body,
                            "MessageGroupId": format!("g{group}"), "MessageDeduplicationId": body,
                        })
                    };
                    let entries: Vec<_> = batch.iter().enumerate().map(entry).collect();
                    let answer = client.expect("SendMessageBatch", &json!({ "QueueUrl": queue, "Entries": entries }));
                    assert_eq!(
                        answer["Successful"].as_array().map(Vec::len),
                        Some(batch.len()),
                        "{answer}"
                    );
                }
            });
        }
    });
}

fn check(host: &Host, groups: usize, each: usize, consumers: usize) {
    let client = SqsClient::new(&host.url);
    let queue = client.create_queue("groups.fifo", &[("FifoQueue", "true")]);
    let start = Instant::now();
    fill(&client, &queue, groups, each);
    let filled = start.elapsed();
    let known = Groups::new(groups, each);
    thread::scope(|scope| {
        for number in 0..consumers {
            let consumer: Box<dyn Consumer> = if number % 2 == 0 {
                Box::new(SdkConsumer::new(host, &queue))
            } else {
                Box::new(PlainConsumer {
                    client: SqsClient::new(&host.url),
                    queue: queue.clone(),
                })
            };
            let known = &known;
            scope.spawn(move || known.consume(&*consumer, u64::try_from(number).unwrap()));
        }
    });
    println!(
        "{} messages of {groups} groups: sent in {filled:?}, handled by {consumers} consumers in {:?} with {} receives, {:?}",
        groups * each,
        start.elapsed().checked_sub(filled).unwrap_or_default(),
        known.receives.load(Ordering::Relaxed),
        known.ways.lock().unwrap(),
    );
    assert_eq!(client.counts(&queue), (0, 0, 0));
    assert!(known.states.iter().all(|state| state.lock().unwrap().left.is_empty()));
}

#[test]
fn competing_consumers_get_each_group_in_its_order_and_one_at_a_time() {
    let place = Place::new();
    check(&place.start(), 40, 50, 8);
}

#[test]
#[ignore = "a long suite: cargo suites"]
fn a_hundred_thousand_messages_of_a_thousand_groups_keep_their_order_beside_two_million_that_wait() {
    const WAITING: usize = 2_000_000;
    let place = Place::new();
    place.fill("backlog", WAITING, &[b'x'; 256], 1000);
    let host = place.start();
    let (before, _, _) = host.resources();
    check(&host, 1000, 100, 16);
    let client = SqsClient::new(&host.url);
    let backlog = format!("{}/000000000000/backlog", host.url);
    let mut times: Vec<_> = (0..200).map(|_| received_and_deleted(&client, &backlog)).collect();
    times.sort_unstable();
    let (after, _, _) = host.resources();
    let median = times.get(times.len() / 2).unwrap();
    println!(
        "{WAITING} waiting: resident {} MiB at the start and {} MiB at the end; a receive and a deletion of ten take {median:?}, \
         the slowest {:?}",
        before / 1024,
        after / 1024,
        times.last().unwrap()
    );
    assert!(after < 400 * 1024, "{after} KiB");
    assert!(*median < Duration::from_secs(1), "{median:?}");
}

/// How long it takes to receive ten messages and to delete them.
fn received_and_deleted(client: &SqsClient, queue: &str) -> Duration {
    let start = Instant::now();
    let received = client.receive(queue, 10, 0);
    assert_eq!(received.len(), 10);
    let entry = |(index, message): (usize, &harness::sqs_client::Received)| json!({ "Id": index.to_string(), "ReceiptHandle": message.handle });
    let entries: Vec<_> = received.iter().enumerate().map(entry).collect();
    client.expect("DeleteMessageBatch", &json!({ "QueueUrl": queue, "Entries": entries }));
    start.elapsed()
}
