//! What the tests of SQS queues stand on holds: each server comes up, differs from SQS as it is said to, and goes with the
//! process; each fault of the proxy is what it says.

#![expect(clippy::indexing_slicing, reason = "what is not as expected fails the test")]

use std::{
    io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _},
    net::TcpStream,
    ops::Deref,
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use harness::{
    fault_proxy::{Fault, FaultProxy, Gate, Rule},
    let_pass,
    sqs_behaviour::Behaviour,
    sqs_client::{Received, SqsClient, SqsError, authorization},
    sqs_server::{Kind, SqsServer},
    wait_for,
};
use serde_json::{Value, json};

const ONE_SECOND: [(&str, &str); 1] = [("VisibilityTimeout", "1")];
/// Longer than a visibility of one second.
const EXPIRY: Duration = Duration::from_millis(1300);
/// The longest poll, in seconds. A server that does not wake it answers at its end.
const LONGEST_POLL: u64 = 20;
/// Before the end of such a poll, on whatever clock the server measures it.
const SOON: Duration = Duration::from_secs(LONGEST_POLL - 1);
/// Enough for a request to arrive, where nothing tells that it has.
const A_MOMENT: Duration = Duration::from_millis(500);

/// A client that makes queues with names of their own.
struct Queues<'a> {
    client: &'a SqsClient,
    prefix: String,
}

impl Deref for Queues<'_> {
    type Target = SqsClient;

    fn deref(&self) -> &SqsClient {
        self.client
    }
}

impl<'a> Queues<'a> {
    fn new(client: &'a SqsClient, prefix: &str) -> Self {
        Self {
            client,
            prefix: prefix.to_owned(),
        }
    }

    fn queue(&self, attributes: &[(&str, &str)]) -> String {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let suffix = if attributes.contains(&("FifoQueue", "true")) {
            ".fifo"
        } else {
            ""
        };
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        self.create_queue(&format!("{}-{number}{suffix}", self.prefix), attributes)
    }

    fn standard(&self, attributes: &[(&str, &str)]) -> String {
        self.queue(attributes)
    }

    fn fifo(&self, attributes: &[(&str, &str)]) -> String {
        self.queue(&[&[("FifoQueue", "true")], attributes].concat())
    }

    /// A FIFO queue with messages 1, 2, .. of one group.
    fn group(&self, length: usize, attributes: &[(&str, &str)]) -> String {
        let queue = self.fifo(attributes);
        for number in 1..=length {
            self.send_to_group(&queue, "g", &number.to_string());
        }
        queue
    }

    /// A queue whose messages are dead after one receive of a second, and the queue that they go to.
    fn with_dead(&self, attributes: &[(&str, &str)]) -> (String, String) {
        let dead = self.queue(attributes);
        let policy = json!({ "deadLetterTargetArn": self.arn(&dead), "maxReceiveCount": 1 }).to_string();
        let more = [("RedrivePolicy", policy.as_str()), ("VisibilityTimeout", "1")];
        (self.queue(&[attributes, &more].concat()), dead)
    }
}

fn bodies(messages: &[Received]) -> Vec<&str> {
    messages.iter().map(|message| message.body.as_str()).collect()
}

fn is(refusal: Result<Value, SqsError>, code: &str) -> bool {
    refusal.is_err_and(|error| error.is(code))
}

#[test]
fn every_server_comes_up_and_takes_a_message_from_end_to_end() {
    for server in SqsServer::all() {
        let queues = Queues::new(server, "end-to-end");
        let queue = queues.standard(&[]);
        let id = queues.send(&queue, "hello");
        assert_eq!(queues.counts(&queue), (1, 0, 0), "{server:?}");
        let messages = queues.receive(&queue, 10, 1);
        assert_eq!((messages[0].id.as_str(), messages[0].receive_count()), (id.as_str(), 1));
        assert_eq!(queues.counts(&queue), (0, 1, 0), "{server:?}");
        queues.delete(&queue, &messages[0].handle).unwrap();
        assert_eq!(queues.counts(&queue), (0, 0, 0), "{server:?}");
        queues.delete_queue(&queue);
        let gone = queues.try_send(&queue, "hello", json!({})).unwrap_err();
        assert!(
            gone.status == 400 && gone.is("QueueDoesNotExist"),
            "{server:?}: {gone:?}"
        );
    }
}

/// All at once, as most of the time is waiting.
fn differences(server: &SqsServer) -> Vec<String> {
    let differs = |behaviour: &Behaviour| {
        let queues = Queues::new(server, &format!("{behaviour:?}"));
        let (claim, fact) = (server.kind().does(*behaviour), check(*behaviour)(&queues));
        (claim != fact).then(|| format!("{behaviour:?} is {fact}"))
    };
    thread::scope(|scope| {
        let checks: Vec<_> = Behaviour::ALL
            .iter()
            .map(|behaviour| scope.spawn(move || differs(behaviour)))
            .collect();
        checks
            .into_iter()
            .zip(Behaviour::ALL)
            .filter_map(|(check, behaviour)| check.join().unwrap_or_else(|_| Some(format!("{behaviour:?} panicked"))))
            .collect()
    })
}

#[test]
fn rustack_differs_from_sqs_as_listed() {
    let server = SqsServer::get(Kind::Rustack).unwrap();
    assert_eq!(differences(server), Vec::<String>::new());
}

#[test]
fn localstack_differs_from_sqs_as_listed() {
    if let Some(server) = SqsServer::get(Kind::LocalStack) {
        assert_eq!(differences(server), Vec::<String>::new());
    }
}

#[test]
fn ministack_differs_from_sqs_as_listed() {
    if let Some(server) = SqsServer::get(Kind::MiniStack) {
        assert_eq!(differences(server), Vec::<String>::new());
    }
}

#[test]
fn our_host_differs_from_sqs_in_nothing_that_is_listed() {
    let server = SqsServer::get(Kind::Sandhog).unwrap();
    assert_eq!(differences(server), Vec::<String>::new());
}

/// Set for a process of this test that only holds servers.
const HOLD: &str = "SANDHOG_TEST_HOLDS_SERVERS";

#[test]
fn the_servers_of_a_process_that_is_killed_end() {
    if std::env::var_os(HOLD).is_some() {
        for server in SqsServer::all() {
            println!("holds {}", server.url());
        }
        println!("holds all");
        wait_for("the end", || None::<()>);
    }
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("sqs_servers::the_servers_of_a_process_that_is_killed_end")
        .env(HOLD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(holder.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let held = lines.filter_map(|line| Some(line.split_once("holds ")?.1.to_owned()));
    let urls: Vec<_> = held.take_while(|url| url != "all").collect();
    assert!(!urls.is_empty());
    for url in &urls {
        SqsClient::new(url).expect("ListQueues", &json!({}));
    }

    holder.kill().unwrap();
    holder.wait().unwrap();
    for url in &urls {
        wait_for(&format!("the server at {url} to end"), || is_refused(url).then_some(()));
    }
}

/// Whether nobody listens there.
fn is_refused(url: &str) -> bool {
    let connected = TcpStream::connect(url.strip_prefix("http://").unwrap());
    connected.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

/// A proxy in front of a server, a client of each, and a queue.
struct Behind {
    proxy: FaultProxy,
    through: SqsClient,
    server: &'static SqsServer,
    queue: String,
}

impl Behind {
    fn new(name: &str) -> Self {
        let server = SqsServer::get(Kind::Rustack).unwrap();
        let proxy = FaultProxy::start(server.url());
        let through = SqsClient::new(&proxy.url());
        let queue = Queues::new(server, name).standard(&[]);
        Self {
            proxy,
            through,
            server,
            queue,
        }
    }

    /// With a fault for the next send.
    fn faulty(name: &str, fault: Fault) -> Self {
        let behind = Self::new(name);
        behind.proxy.rule(Rule::new(fault).action("SendMessage").times(1));
        behind
    }

    fn send(&self) -> Result<Value, SqsError> {
        self.through.try_send(&self.queue, "1", json!({}))
    }

    /// How many messages have reached the server.
    fn arrived(&self) -> u64 {
        self.server.counts(&self.queue).0
    }

    /// A batch that deletes messages with these ids, and the messages.
    fn deletion(&self, ids: &[&str]) -> Value {
        let entry = |id: &&str| {
            self.server.send(&self.queue, id);
            let received = self.server.receive(&self.queue, 1, 1);
            json!({ "Id": id, "ReceiptHandle": received[0].handle })
        };
        json!({ "QueueUrl": self.queue, "Entries": ids.iter().map(entry).collect::<Vec<_>>() })
    }
}

#[test]
fn without_rules_everything_passes_a_proxy_and_is_remembered() {
    let behind = Behind::new("passes");
    let queues = Queues::new(&behind.through, "passes");
    let queue = queues.standard(&[]);
    let url = behind.proxy.url();
    queues.send(&queue, "hello");
    let messages = queues.receive(&queue, 10, 1);
    queues.delete(&queue, &messages[0].handle).unwrap();
    let missing = queues
        .try_send(&format!("{queue}-missing"), "1", json!({}))
        .unwrap_err();

    assert!(missing.is("QueueDoesNotExist"), "{missing:?}");
    assert_eq!(
        (behind.proxy.url(), behind.proxy.connections()),
        (url, (1, 1)),
        "one connection is kept"
    );
    let log = behind.proxy.log();
    let seen: Vec<_> = log.iter().map(|entry| (entry.action.as_str(), entry.status)).collect();
    let expected = [
        ("CreateQueue", Some(200)),
        ("SendMessage", Some(200)),
        ("ReceiveMessage", Some(200)),
        ("DeleteMessage", Some(200)),
        ("SendMessage", Some(400)),
    ];
    assert_eq!(seen, expected);
    assert_eq!(log[1].request["MessageBody"], "hello");
    assert_eq!(log[2].answer["Messages"][0]["Body"], "hello");
    assert!(log[2].answered_at.unwrap() >= log[2].at && log[2].fault.is_none());
    assert_eq!(
        (
            behind.proxy.count("SendMessage"),
            behind.proxy.log_of("SendMessage").len()
        ),
        (2, 2)
    );
}

#[test]
fn a_delayed_request_arrives_late_and_a_delayed_answer_does_not() {
    let delay = Duration::from_secs(2);
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    for (fault, is_request) in [(Fault::Delay(delay), true), (Fault::DelayAnswer(delay), false)] {
        let name = format!("{fault:?}");
        let behind = Behind::faulty(&name, fault);
        let asked = now();
        behind.send().unwrap();
        let answered = now();
        let message = behind.server.receive(&behind.queue, 1, 0).remove(0);
        let arrived = message.system["SentTimestamp"].as_str().unwrap().parse().unwrap();
        let arrived = Duration::from_millis(arrived);
        // The server cuts off what is less than a millisecond.
        let (before, after) = (arrived + Duration::from_millis(1), answered);
        let (from, to) = if is_request { (asked, before) } else { (arrived, after) };
        let late = to.saturating_sub(from);
        assert!(late >= delay, "{name}: {late:?}");
    }
}

#[test]
fn a_held_request_arrives_once_its_gate_is_open() {
    let gate = Gate::default();
    let behind = Behind::faulty("held", Fault::Hold(gate.clone()));
    thread::scope(|scope| {
        let sending = scope.spawn(|| behind.send());
        wait_for("the request", || (behind.proxy.count("SendMessage") == 1).then_some(()));
        let_pass(A_MOMENT);
        assert_eq!((behind.arrived(), sending.is_finished()), (0, false));
        gate.open();
        sending.join().unwrap().unwrap();
    });
    assert_eq!(behind.arrived(), 1);
}

#[test]
fn a_dropped_request_has_not_arrived_and_a_dropped_answer_has() {
    for (fault, arrived) in [(Fault::DropRequest, 0), (Fault::DropAnswer, 1), (Fault::Cut, 1)] {
        let name = format!("{fault:?}");
        let behind = Behind::faulty(&name, fault);
        assert_eq!(behind.send().unwrap_err().status, 0, "{name}");
        assert_eq!(
            (behind.arrived(), behind.proxy.count("SendMessage")),
            (arrived, 1),
            "{name}"
        );
        let log = behind.proxy.log();
        assert_eq!((log[0].fault, log[0].status), (Some(name.as_str()), None));
    }
}

#[test]
fn a_cut_answer_ends_in_its_middle() {
    let behind = Behind::faulty("cut", Fault::Cut);
    let body = json!({ "QueueUrl": behind.queue, "MessageBody": "1" });
    let mut connection = request(&behind.through, "SendMessage", &body);
    let mut answer = String::new();
    // It may end with an error, which loses nothing that came before.
    drop(connection.read_to_string(&mut answer));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.unwrap().parse().unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    assert_eq!(body.len(), length / 2);
}

#[test]
fn a_duplicated_request_is_done_twice() {
    let behind = Behind::faulty("duplicate", Fault::Duplicate);
    behind.send().unwrap();
    assert_eq!(behind.arrived(), 2);
}

#[test]
fn an_error_of_a_proxy_looks_like_one_of_sqs_and_nothing_arrives() {
    for (status, code, query_error) in [
        (503, "ServiceUnavailable", "ServiceUnavailable;Receiver"),
        (400, "RequestThrottled", "RequestThrottled;Sender"),
        (
            400,
            "QueueDoesNotExist",
            "AWS.SimpleQueueService.NonExistentQueue;Sender",
        ),
    ] {
        let behind = Behind::faulty("error", Fault::Status(status, code, "as ordered"));
        let expected = SqsError {
            status,
            code: code.to_owned(),
            message: "as ordered".to_owned(),
            query_error: Some(query_error.to_owned()),
        };
        assert_eq!(behind.send(), Err(expected));
        assert_eq!((behind.arrived(), behind.proxy.log()[0].status), (0, Some(status)));
    }
}

#[test]
fn a_pretended_deletion_deletes_nothing() {
    let behind = Behind::new("pretend");
    let used = behind.proxy.rule(Rule::new(Fault::pretend()));
    let answer = behind
        .through
        .expect("DeleteMessageBatch", &behind.deletion(&["a", "b"]));
    assert_eq!(
        (&answer["Successful"][0]["Id"], &answer["Successful"][1]["Id"]),
        (&json!("a"), &json!("b"))
    );
    assert_eq!(answer["Failed"], json!([]));
    assert_eq!(behind.server.counts(&behind.queue), (0, 2, 0));

    behind.proxy.clear();
    behind
        .proxy
        .rule(Rule::new(Fault::answer(json!({ "MessageId": "fixed" }))));
    assert_eq!(behind.send().unwrap()["MessageId"], "fixed");
    assert_eq!((behind.arrived(), used.used()), (0, 1));
}

#[test]
fn entries_of_a_batch_can_fail_alone() {
    let behind = Behind::new("entries");
    let picks = |entry: &Value| entry["Id"] == "b";
    let rule = Rule::new(Fault::FailEntries(Box::new(picks), "InternalError", false));
    behind.proxy.rule(rule.times(1));
    let answer = behind
        .through
        .expect("DeleteMessageBatch", &behind.deletion(&["a", "b", "c"]));
    let ids = |part: &str| -> Vec<_> {
        let entries = answer[part].as_array().unwrap().iter();
        entries.map(|entry| entry["Id"].as_str().unwrap()).collect()
    };
    assert_eq!((ids("Successful"), ids("Failed")), (vec!["a", "c"], vec!["b"]));
    assert_eq!(answer["Failed"][0]["Code"], "InternalError");
    assert_eq!(answer["Failed"][0]["SenderFault"], false);
    assert_eq!(behind.server.counts(&behind.queue), (0, 1, 0));

    behind
        .proxy
        .rule(Rule::new(Fault::fail_all_entries("InternalError", true)));
    let answer = behind
        .through
        .expect("DeleteMessageBatch", &behind.deletion(&["a", "b"]));
    assert_eq!(
        (
            answer["Successful"].as_array(),
            answer["Failed"].as_array().unwrap().len()
        ),
        (Some(&vec![]), 2)
    );
    assert_eq!(behind.server.counts(&behind.queue), (0, 3, 0));
}

#[test]
fn a_hanging_request_ends_when_its_client_leaves() {
    let behind = Behind::faulty("hang", Fault::Hang);
    let body = json!({ "QueueUrl": behind.queue, "MessageBody": "1" });
    let mut connection = request(&behind.through, "SendMessage", &body);
    wait_for("the request", || (behind.proxy.count("SendMessage") == 1).then_some(()));
    connection.set_read_timeout(Some(A_MOMENT)).unwrap();
    assert!(connection.read(&mut [0]).is_err());
    assert_eq!(behind.proxy.connections(), (1, 1));
    drop(connection);
    wait_for("the connection to end", || {
        (behind.proxy.connections().0 == 0).then_some(())
    });
    assert_eq!((behind.arrived(), behind.proxy.log()[0].status), (0, None));
}

#[test]
fn a_proxy_that_is_down_cuts_and_refuses_and_comes_up_on_the_same_port() {
    let behind = Behind::new("down");
    let url = behind.proxy.url();
    for round in 1..=3 {
        let poll = json!({ "QueueUrl": behind.queue, "WaitTimeSeconds": 20 });
        let mut parked = request(&behind.through, "ReceiveMessage", &poll);
        wait_for("the poll", || {
            (behind.proxy.count("ReceiveMessage") == round).then_some(())
        });
        behind.proxy.down();
        let mut answer = Vec::new();
        drop(parked.read_to_end(&mut answer));
        assert!(answer.is_empty());
        assert!(is_refused(&url));
        assert_eq!(behind.send().unwrap_err().status, 0);

        behind.proxy.up();
        assert_eq!(behind.proxy.url(), url);
        behind.send().unwrap();
        assert_eq!(behind.server.take_all(&behind.queue), ["1"]);
    }
}

#[test]
fn a_rule_is_for_some_requests_and_the_oldest_counts() {
    let behind = Behind::new("rules");
    let queue = &behind.queue;
    let of_twos = Rule::new(Fault::Status(500, "A", "")).matching(|request| request["MessageBody"] == "2");
    let of_twos = behind.proxy.rule(of_twos.action("SendMessage").after(1).times(2));
    let of_all = behind
        .proxy
        .rule(Rule::new(Fault::Status(500, "B", "")).action("SendMessage").after(4));
    let code = |body: &str| match behind.through.try_send(queue, body, json!({})) {
        Ok(_) => String::new(),
        Err(error) => error.code,
    };
    let codes = ["1", "2", "2", "1", "2", "2", "1"].map(code);
    assert_eq!(codes, ["", "", "A", "", "A", "", "B"]);
    assert_eq!((of_twos.used(), of_all.used()), (2, 1));
    behind.proxy.clear();
    assert_eq!(code("2"), "");
}

#[test]
fn many_long_polls_pass_a_proxy_at_once() {
    let behind = Behind::new("polls");
    let poll = json!({ "QueueUrl": behind.queue, "WaitTimeSeconds": 2 });
    let start = Instant::now();
    let polls: Vec<_> = (0..50)
        .map(|_| request(&behind.through, "ReceiveMessage", &poll))
        .collect();
    for mut poll in polls {
        let mut status = [0; 12];
        poll.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
    }
    // One after another they take a hundred seconds.
    assert!(start.elapsed() < Duration::from_secs(100), "{:?}", start.elapsed());
    assert_eq!(behind.proxy.connections().1, 50);
}

#[test]
fn a_poll_that_its_client_leaves_ends_at_the_server_too() {
    let behind = Behind::new("leaves");
    assert!(forgets_closed_polls(&Queues::new(&behind.through, "leaves")));
}

/// Whether the server does it.
fn check(behaviour: Behaviour) -> fn(&Queues<'_>) -> bool {
    match behaviour {
        Behaviour::BlocksGroups => blocks_groups,
        Behaviour::BatchesGroups => batches_groups,
        Behaviour::HoldsGroups => holds_groups,
        Behaviour::WakesGroups => wakes_groups,
        Behaviour::KeepsOrderOnExpiry => keeps_order_on_expiry,
        Behaviour::KeepsOrderOnRelease => keeps_order_on_release,
        Behaviour::ReleasesAlone => releases_alone,
        Behaviour::ReleasesNoLater => releases_no_later,
        Behaviour::ExtensionBlocksLater => extension_blocks_later,
        Behaviour::ReplaysAttempts => replays_attempts,
        Behaviour::Deduplicates => deduplicates,
        Behaviour::DeduplicatesPerGroup => deduplicates_per_group,
        Behaviour::RefusesWholeBatches => refuses_whole_batches,
        Behaviour::DelaysGroups => delays_groups,
        Behaviour::TakesGroupsOnStandard => takes_groups_on_standard,
        Behaviour::RefusesExpiredOnFifo => refuses_expired_on_fifo,
        Behaviour::DeletesExpired => deletes_expired,
        Behaviour::ExtendsExpired => extends_expired,
        Behaviour::ReleasesByOldHandle => releases_by_old_handle,
        Behaviour::RefusesDeleted => refuses_deleted,
        Behaviour::RefusesGarbage => refuses_garbage,
        Behaviour::FailsEntriesAlone => fails_entries_alone,
        Behaviour::BlamesSenders => blames_senders,
        Behaviour::ForgetsClosedPolls => forgets_closed_polls,
        Behaviour::WakesOnExpiry => wakes_on_expiry,
        Behaviour::WakesOnDelay => wakes_on_delay,
        Behaviour::KeepsLabels => keeps_labels,
        Behaviour::KeepsBinary => keeps_binary,
        Behaviour::HidesUnasked => hides_unasked,
        Behaviour::SelectsByPrefix => selects_by_prefix,
        Behaviour::KeepsTraceHeaders => keeps_trace_headers,
        Behaviour::KeepsAttributesOfDead => keeps_attributes_of_dead,
        Behaviour::CountsOnInDeadLetters => counts_on_in_dead_letters,
        Behaviour::NamesSourceOfDead => names_source_of_dead,
        Behaviour::FreesGroupsOfDead => frees_groups_of_dead,
        Behaviour::ListsSources => lists_sources,
        Behaviour::MovesBack => moves_back,
        Behaviour::TakesBigBodies => takes_big_bodies,
        Behaviour::RefusesTooBig => refuses_too_big,
        Behaviour::CountsAttributes => counts_attributes,
        Behaviour::RefusesControlCharacters => refuses_control_characters,
        Behaviour::RefusesEmptyBodies => refuses_empty_bodies,
        Behaviour::RefusesManyAttributes => refuses_many_attributes,
        Behaviour::RefusesOutOfRange => refuses_out_of_range,
        Behaviour::PurgesOnceAMinute => purges_once_a_minute,
        Behaviour::NamesCodes => names_codes,
        Behaviour::NamesLegacyCodes => names_legacy_codes,
    }
}

fn blocks_groups(queues: &Queues<'_>) -> bool {
    let queue = queues.group(2, &[]);
    bodies(&queues.receive(&queue, 1, 0)) == ["1"] && queues.receive(&queue, 1, 1).is_empty()
}

fn batches_groups(queues: &Queues<'_>) -> bool {
    bodies(&queues.receive(&queues.group(3, &[]), 10, 0)) == ["1", "2", "3"]
}

fn holds_groups(queues: &Queues<'_>) -> bool {
    let queue = queues.group(3, &[]);
    let two = queues.receive(&queue, 2, 0);
    queues.delete(&queue, &two[0].handle).unwrap();
    two.len() == 2 && queues.receive(&queue, 1, 1).is_empty()
}

fn wakes_groups(queues: &Queues<'_>) -> bool {
    let queue = queues.group(2, &[]);
    let first = queues.receive(&queue, 1, 0);
    let start = Instant::now();
    let next = while_polling(queues, &queue, || {
        queues.delete(&queue, &first[0].handle).unwrap();
    });
    bodies(&next) == ["2"] && start.elapsed() < SOON
}

fn keeps_order_on_expiry(queues: &Queues<'_>) -> bool {
    let queue = queues.group(3, &ONE_SECOND);
    queues.receive(&queue, 10, 0);
    let_pass(EXPIRY);
    queues.take_all(&queue) == ["1", "2", "3"]
}

fn keeps_order_on_release(queues: &Queues<'_>) -> bool {
    let queue = queues.group(3, &[]);
    let received = queues.receive(&queue, 10, 0);
    let release = |(id, message): (usize, &Received)| json!({ "Id": id.to_string(), "ReceiptHandle": message.handle, "VisibilityTimeout": 0 });
    let entries: Vec<_> = received.iter().enumerate().map(release).collect();
    let request = json!({ "QueueUrl": queue, "Entries": entries });
    queues.expect("ChangeMessageVisibilityBatch", &request);
    queues.take_all(&queue) == ["1", "2", "3"]
}

fn releases_alone(queues: &Queues<'_>) -> bool {
    let queue = queues.group(2, &[]);
    let two = queues.receive(&queue, 2, 0);
    queues.change_visibility(&queue, &two[0].handle, 0).unwrap();
    bodies(&two) == ["1", "2"] && bodies(&queues.receive(&queue, 10, 1)) == ["1"]
}

fn releases_no_later(queues: &Queues<'_>) -> bool {
    let queue = queues.group(3, &[]);
    let two = queues.receive(&queue, 2, 0);
    queues.change_visibility(&queue, &two[0].handle, 0).unwrap();
    let again = queues.receive(&queue, 10, 1);
    two.len() == 2 && again.iter().all(|message| message.body != "3")
}

fn extension_blocks_later(queues: &Queues<'_>) -> bool {
    let queue = queues.group(3, &[("VisibilityTimeout", "3")]);
    let three = queues.receive(&queue, 3, 0);
    if three.len() < 3 {
        return false;
    }
    queues.change_visibility(&queue, &three[1].handle, 30).unwrap();
    bodies(&queues.receive(&queue, 10, 10)) == ["1"] && queues.receive(&queue, 10, 2).is_empty()
}

fn replays_attempts(queues: &Queues<'_>) -> bool {
    let queue = queues.group(1, &[]);
    let attempt = || queues.receive_with(&queue, json!({ "ReceiveRequestAttemptId": "a" }));
    attempt().len() == 1 && bodies(&attempt()) == ["1"]
}

fn deduplicates(queues: &Queues<'_>) -> bool {
    let queue = queues.group(1, &[]);
    let first = queues.receive(&queue, 1, 0);
    let while_in_flight = queues.send_to_group(&queue, "g", "1");
    queues.delete(&queue, &first[0].handle).unwrap();
    let after_delete = queues.send_to_group(&queue, "g", "1");
    let ids = [while_in_flight, after_delete];
    ids.iter().all(|id| *id == first[0].id) && queues.receive(&queue, 1, 1).is_empty()
}

fn deduplicates_per_group(queues: &Queues<'_>) -> bool {
    let attributes = [
        ("DeduplicationScope", "messageGroup"),
        ("FifoThroughputLimit", "perMessageGroupId"),
    ];
    let queue = queues.fifo(&attributes);
    for group in ["a", "b", "a"] {
        queues.send_to_group(&queue, group, "same");
    }
    queues.counts(&queue).0 == 2
}

fn refuses_whole_batches(queues: &Queues<'_>) -> bool {
    let queue = queues.fifo(&[]);
    let entry = |id: &str| json!({ "Id": id, "MessageBody": id, "MessageGroupId": "g" });
    let mut entries = [entry("1"), entry("2")];
    entries[0]["MessageDeduplicationId"] = json!("1");
    let sent = queues.call("SendMessageBatch", &json!({ "QueueUrl": queue, "Entries": entries }));
    is(sent, "InvalidParameterValue") && queues.counts(&queue).0 == 0
}

fn delays_groups(queues: &Queues<'_>) -> bool {
    let queue = queues.group(1, &[("DelaySeconds", "2")]);
    queues.receive(&queue, 1, 0).is_empty() && queues.receive(&queue, 1, 10).len() == 1
}

fn takes_groups_on_standard(queues: &Queues<'_>) -> bool {
    let queue = queues.standard(&[]);
    queues.try_send(&queue, "1", json!({ "MessageGroupId": "g" })).is_ok()
        && queues.receive(&queue, 1, 0)[0].group() == Some("g")
}

fn refuses_expired_on_fifo(queues: &Queues<'_>) -> bool {
    let queue = queues.group(1, &ONE_SECOND);
    let handle = queues.receive(&queue, 1, 0)[0].handle.clone();
    wait_for("the expiry", || (queues.counts(&queue) == (1, 0, 0)).then_some(()));
    is(queues.delete(&queue, &handle), "InvalidParameterValue")
}

/// A standard queue with one message, and the handle of its only receive, which has expired.
fn expired(queues: &Queues<'_>) -> (String, String) {
    let queue = queues.standard(&ONE_SECOND);
    queues.send(&queue, "1");
    let handle = queues.receive(&queue, 1, 0)[0].handle.clone();
    wait_for("the expiry", || (queues.counts(&queue) == (1, 0, 0)).then_some(()));
    (queue, handle)
}

fn deletes_expired(queues: &Queues<'_>) -> bool {
    let (queue, handle) = expired(queues);
    queues.delete(&queue, &handle).is_ok() && queues.receive(&queue, 1, 2).is_empty()
}

fn extends_expired(queues: &Queues<'_>) -> bool {
    let (queue, handle) = expired(queues);
    queues.change_visibility(&queue, &handle, 30).is_ok() && queues.receive(&queue, 1, 2).is_empty()
}

fn releases_by_old_handle(queues: &Queues<'_>) -> bool {
    let (queue, handle) = expired(queues);
    let taken_over = queues.receive_with(&queue, json!({ "VisibilityTimeout": 30, "WaitTimeSeconds": 10 }));
    let released = queues.change_visibility(&queue, &handle, 0).is_ok();
    taken_over.len() == 1 && released && queues.receive(&queue, 1, 2).len() == 1
}

fn refuses_deleted(queues: &Queues<'_>) -> bool {
    let queue = queues.standard(&[]);
    queues.send(&queue, "1");
    let handle = queues.receive(&queue, 1, 0)[0].handle.clone();
    queues.delete(&queue, &handle).unwrap();
    is(queues.change_visibility(&queue, &handle, 30), "InvalidParameterValue")
}

fn refuses_garbage(queues: &Queues<'_>) -> bool {
    is(
        queues.delete(&queues.standard(&[]), "garbage"),
        "ReceiptHandleIsInvalid",
    )
}

/// What a batch is answered that deletes a message and something else.
fn half_a_deletion(queues: &Queues<'_>) -> Value {
    let queue = queues.standard(&[]);
    queues.send(&queue, "1");
    let handle = &queues.receive(&queue, 1, 0)[0].handle;
    let entries = json!([{ "Id": "good", "ReceiptHandle": handle }, { "Id": "bad", "ReceiptHandle": "garbage" }]);
    queues.expect("DeleteMessageBatch", &json!({ "QueueUrl": queue, "Entries": entries }))
}

fn fails_entries_alone(queues: &Queues<'_>) -> bool {
    let answer = half_a_deletion(queues);
    answer["Successful"][0]["Id"] == "good" && answer["Failed"][0]["Id"] == "bad"
}

fn blames_senders(queues: &Queues<'_>) -> bool {
    half_a_deletion(queues)["Failed"][0]["SenderFault"] == true
}

fn forgets_closed_polls(queues: &Queues<'_>) -> bool {
    // Nothing tells that a server has the poll, or has noticed the end of it, and a slow one takes longer: one that hands a message to a
    // poll that is gone does so as long as the poll would have waited.
    (1..=2).any(|patience| {
        let queue = queues.standard(&[]);
        let poll = json!({ "QueueUrl": queue, "WaitTimeSeconds": 20 });
        let connection = request(queues, "ReceiveMessage", &poll);
        let_pass(4 * patience * A_MOMENT);
        drop(connection);
        let_pass(10 * patience * A_MOMENT);
        queues.send(&queue, "1");
        queues.receive(&queue, 1, 1).len() == 1
    })
}

fn wakes_on_expiry(queues: &Queues<'_>) -> bool {
    let queue = queues.standard(&ONE_SECOND);
    queues.send(&queue, "1");
    queues.receive(&queue, 1, 0);
    let start = Instant::now();
    queues.receive(&queue, 1, LONGEST_POLL).len() == 1 && start.elapsed() < SOON
}

fn wakes_on_delay(queues: &Queues<'_>) -> bool {
    let queue = queues.standard(&[]);
    queues.send_with(&queue, "1", json!({ "DelaySeconds": 1 }));
    let start = Instant::now();
    queues.receive(&queue, 1, LONGEST_POLL).len() == 1 && start.elapsed() < SOON
}

fn labelled() -> Value {
    let attribute = json!({ "DataType": "Number.int", "StringValue": "7" });
    json!({ "MessageAttributes": { "n": attribute, "trace.id": attribute } })
}

fn keeps_labels(queues: &Queues<'_>) -> bool {
    let queue = queues.standard(&[]);
    queues.try_send(&queue, "1", labelled()).is_ok()
        && queues.receive(&queue, 1, 0)[0].attributes["n"]["DataType"] == "Number.int"
}

fn keeps_binary(queues: &Queues<'_>) -> bool {
    let queue = queues.standard(&[]);
    let binary = json!({ "MessageAttributes": { "b": { "DataType": "Binary", "BinaryValue": "AP8B" } } });
    queues.try_send(&queue, "1", binary).is_ok()
        && queues.receive(&queue, 1, 0)[0].attributes["b"]["BinaryValue"] == "AP8B"
}

fn hides_unasked(queues: &Queues<'_>) -> bool {
    let queue = queues.standard(&[]);
    queues.send_with(&queue, "1", labelled());
    let answer = queues.expect("ReceiveMessage", &json!({ "QueueUrl": queue }));
    let message = answer["Messages"][0].as_object().unwrap();
    let empty = |name: &str| message.get(name).is_none_or(|value| *value == json!({}));
    empty("Attributes") && empty("MessageAttributes")
}

fn selects_by_prefix(queues: &Queues<'_>) -> bool {
    let queue = queues.standard(&[]);
    queues.send_with(&queue, "1", labelled());
    let received = queues.receive_with(&queue, json!({ "MessageAttributeNames": ["trace.*"] }));
    let attributes = received[0].attributes.as_object();
    attributes.is_some_and(|all| all.keys().eq(["trace.id"]))
}

fn keeps_trace_headers(queues: &Queues<'_>) -> bool {
    let queue = queues.standard(&[]);
    let header = json!({ "AWSTraceHeader": { "DataType": "String", "StringValue": "Root=1" } });
    queues.send_with(&queue, "1", json!({ "MessageSystemAttributes": header }));
    queues.receive(&queue, 1, 0)[0].system["AWSTraceHeader"] == "Root=1"
}

/// A queue whose first message has become a dead letter, and that letter, which is in flight for a second.
fn dead_letter(queues: &Queues<'_>) -> (String, String, Received) {
    let (queue, dead) = queues.with_dead(&[]);
    let id = queues.send_with(&queue, "1", labelled());
    queues.receive(&queue, 1, 0);
    assert!(queues.receive(&queue, 1, 3).is_empty());
    let mut letters = queues.receive_with(&dead, json!({ "WaitTimeSeconds": 10, "VisibilityTimeout": 1 }));
    let letter = letters.pop().unwrap();
    assert_eq!((letter.id.as_str(), letter.body.as_str()), (id.as_str(), "1"));
    (queue, dead, letter)
}

fn keeps_attributes_of_dead(queues: &Queues<'_>) -> bool {
    dead_letter(queues).2.attributes["n"]["StringValue"] == "7"
}

fn counts_on_in_dead_letters(queues: &Queues<'_>) -> bool {
    dead_letter(queues).2.receive_count() == 2
}

fn names_source_of_dead(queues: &Queues<'_>) -> bool {
    let (queue, _, letter) = dead_letter(queues);
    letter.system["DeadLetterQueueSourceArn"] == queues.arn(&queue).as_str()
}

fn frees_groups_of_dead(queues: &Queues<'_>) -> bool {
    let (queue, dead) = queues.with_dead(&[("FifoQueue", "true")]);
    for body in ["1", "2"] {
        queues.send_to_group(&queue, "g", body);
    }
    queues.receive(&queue, 1, 0);
    let_pass(EXPIRY);
    // The receive that moves the one need not return the other.
    let next = (0..3).find_map(|_| queues.receive(&queue, 1, 2).pop());
    next.is_some_and(|next| next.body == "2") && bodies(&queues.receive(&dead, 1, 10)) == ["1"]
}

fn lists_sources(queues: &Queues<'_>) -> bool {
    let (queue, dead) = queues.with_dead(&[]);
    let listed = queues.call("ListDeadLetterSourceQueues", &json!({ "QueueUrl": dead }));
    listed.is_ok_and(|answer| answer["queueUrls"] == json!([queue]))
}

fn moves_back(queues: &Queues<'_>) -> bool {
    let (queue, dead, _) = dead_letter(queues);
    wait_for("the letter to return", || {
        (queues.counts(&dead) == (1, 0, 0)).then_some(())
    });
    let task = json!({ "SourceArn": queues.arn(&dead) });
    let started = queues.call("StartMessageMoveTask", &task);
    let listed = queues.call("ListMessageMoveTasks", &task);
    let is_listed = listed.is_ok_and(|answer| answer["Results"].as_array().is_some_and(|tasks| tasks.len() == 1));
    started.is_ok() && is_listed && bodies(&queues.receive(&queue, 1, 10)) == ["1"]
}

/// The longest message.
const LIMIT: usize = 1 << 20;

fn takes_big_bodies(queues: &Queues<'_>) -> bool {
    let queue = queues.standard(&[]);
    queues.try_send(&queue, &"x".repeat(LIMIT), json!({})).is_ok()
        && queues.receive(&queue, 1, 0)[0].body.len() == LIMIT
}

fn refuses_too_big(queues: &Queues<'_>) -> bool {
    let queue = queues.standard(&[]);
    let half = "x".repeat(LIMIT / 2 + 1);
    let entries = json!([{ "Id": "1", "MessageBody": half }, { "Id": "2", "MessageBody": half }]);
    let batch = queues.call("SendMessageBatch", &json!({ "QueueUrl": queue, "Entries": entries }));
    let single = queues.try_send(&queue, &"x".repeat(LIMIT + 1), json!({}));
    is(batch, "BatchRequestTooLong") && is(single, "InvalidParameterValue")
}

fn some_attributes(number: usize) -> Value {
    let attribute = |number: usize| {
        let value = json!({ "DataType": "String", "StringValue": "v" });
        (format!("name{number}"), value)
    };
    json!({ "MessageAttributes": (0..number).map(attribute).collect::<serde_json::Map<_, _>>() })
}

fn counts_attributes(queues: &Queues<'_>) -> bool {
    let sent = queues.try_send(&queues.standard(&[]), &"x".repeat(LIMIT), some_attributes(1));
    is(sent, "InvalidParameterValue")
}

fn refuses_control_characters(queues: &Queues<'_>) -> bool {
    let sent = queues.try_send(&queues.standard(&[]), "\u{1}", json!({}));
    is(sent, "InvalidMessageContents")
}

fn refuses_empty_bodies(queues: &Queues<'_>) -> bool {
    let sent = queues.try_send(&queues.standard(&[]), "", json!({}));
    is(sent, "MissingParameter")
}

fn refuses_many_attributes(queues: &Queues<'_>) -> bool {
    let queue = queues.standard(&[]);
    queues.try_send(&queue, "1", some_attributes(10)).is_ok()
        && queues.try_send(&queue, "1", some_attributes(11)).is_err()
}

fn refuses_out_of_range(queues: &Queues<'_>) -> bool {
    let queue = queues.standard(&[]);
    queues.send(&queue, "1");
    let handle = queues.receive(&queue, 1, 0)[0].handle.clone();
    let receive = |name: &str, value: u64| queues.call("ReceiveMessage", &json!({ "QueueUrl": queue, name: value }));
    receive("MaxNumberOfMessages", 11).is_err()
        && queues.try_send(&queue, "2", json!({ "DelaySeconds": 901 })).is_err()
        && queues.change_visibility(&queue, &handle, 43_201).is_err()
        && receive("WaitTimeSeconds", 21).is_err()
}

fn purges_once_a_minute(queues: &Queues<'_>) -> bool {
    let queue = json!({ "QueueUrl": queues.standard(&[]) });
    queues.call("PurgeQueue", &queue).is_ok() && is(queues.call("PurgeQueue", &queue), "PurgeQueueInProgress")
}

fn names_codes(queues: &Queues<'_>) -> bool {
    let missing = json!({ "QueueUrl": format!("{}-missing", queues.standard(&[])) });
    let error = queues.call("ReceiveMessage", &missing).unwrap_err();
    error.code == "QueueDoesNotExist"
}

fn names_legacy_codes(queues: &Queues<'_>) -> bool {
    let missing = json!({ "QueueUrl": format!("{}-missing", queues.standard(&[])) });
    let error = queues.call("ReceiveMessage", &missing).unwrap_err();
    error.query_error.as_deref() == Some("AWS.SimpleQueueService.NonExistentQueue;Sender")
}

/// What a poll is given, during which something happens.
fn while_polling(server: &SqsClient, queue: &str, something: impl FnOnce()) -> Vec<Received> {
    thread::scope(|scope| {
        let poll = scope.spawn(|| server.receive(queue, 1, LONGEST_POLL));
        let_pass(A_MOMENT);
        something();
        poll.join().unwrap()
    })
}

/// Sends a request, and leaves the answer, if there is one, to the caller.
fn request(server: &SqsClient, action: &str, body: &Value) -> TcpStream {
    let address = server.url().strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let (body, authorization) = (body.to_string(), authorization());
    let length = body.len();
    let text = format!(
        "POST / HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/x-amz-json-1.0\r\n\
         X-Amz-Target: AmazonSQS.{action}\r\nAuthorization: {authorization}\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).unwrap();
    stream
}
