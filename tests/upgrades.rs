//! One upgrade after another under load, a third of them bad, while the host is killed in between: every message is handled
//! once, none is dead, and each group stays in order.

#![expect(clippy::indexing_slicing, reason = "JSON that is not as expected fails the test")]
#![expect(
    clippy::print_stdout,
    reason = "how the upgrades went, for whoever reads the log of the tests"
)]

use std::{
    collections::BTreeSet,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use harness::{
    host::Host,
    let_pass, pause,
    versions::{HandledMessage, Trial, check_order, plain, try_told},
    wait_for,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};

/// The timeout is for the versions that wait; the receives are for the kills: that a message that is in flight when the host dies
/// comes to be a dead letter is another test's matter.
const MANIFEST: &str = "concurrency = 4\ntimeout = \"1s\"\n[rollout]\nattempts = 30\ntime = \"0s\"\n[retry]\nmin = \"1ms\"\nmax = \"10ms\"\n";
const QUEUE: &str = "[queues.in]\nmax-receives = 1000\n";

/// What bad versions do. Each is bad enough to be found within the probation of 30 calls.
const BAD: [&str; 5] = [
    "trap",
    "trap every 2",
    "memory",
    "wait 60000",
    "trap every 3; trap group g3",
];
/// Messages that are sent per request, and how many may wait.
const BATCH: u64 = 10;
const WAITING_MAX: u64 = 60;
const GROUPS: u64 = 7;
/// The longest time of an upgrade on average, in a build without optimisation beside other tests.
const UPGRADE: Duration = Duration::from_secs(12);

/// What was sent.
#[derive(Debug, Default)]
struct SentLedger {
    /// The numbers of messages whose send was acknowledged.
    acknowledged: BTreeSet<u64>,
    /// Those whose send was not answered: they may be there or not.
    doubtful: BTreeSet<u64>,
}

#[test]
fn thirty_upgrades_and_three_kills_under_load_lose_no_message() {
    upgrades(30, 10);
}

#[test]
#[ignore = "a long suite: cargo suites"]
fn a_thousand_upgrades_and_fifty_kills_under_load_lose_no_message() {
    upgrades(1000, 20);
}

/// Makes so many upgrades, and kills the host in one of so many of them, at any moment.
fn upgrades(count: u32, kill_in_one_of: u32) {
    let start = Instant::now();
    let trial = Trial::new(MANIFEST);
    trial.place.configure(QUEUE);
    let (ledger, stop) = (Mutex::new(SentLedger::default()), AtomicBool::new(false));
    trial.place.install("in", &plain("good-0"), &trial.manifest);
    let host = trial.place.start();
    host.wait_ready();
    let url = Mutex::new(host.url.clone());
    let (host, bad) = thread::scope(|scope| {
        let sender = scope.spawn(|| send_until(&stop, &url, &ledger));
        // Also when an upgrade fails the test.
        let done = Stop(&stop);
        let made = make_upgrades((count, kill_in_one_of), &trial, host, &url);
        drop(done);
        sender.join().unwrap();
        made
    });
    host.wait_empty("in");
    assert_eq!(host.terminate().0.code(), Some(0));
    let (ledger, took) = (ledger.into_inner().unwrap(), start.elapsed());
    let handled: Vec<_> = trial
        .place
        .stored("done")
        .iter()
        .map(|text| HandledMessage::read(text))
        .collect();
    println!(
        "{count} upgrades, {bad} of them bad, in {took:?}: {} acknowledged, {} doubtful, {} handled",
        ledger.acknowledged.len(),
        ledger.doubtful.len(),
        handled.len()
    );
    assert_eq!(trial.place.stored("in-dead"), [""; 0]);
    check(&ledger, &handled);
    assert!(took < UPGRADE * count, "{took:?}");
}

struct Stop<'s>(&'s AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Makes the upgrades one after another, each up to its end; the last host, and how many were bad.
fn make_upgrades(
    (count, kill_in_one_of): (u32, u32),
    trial: &Trial,
    mut host: Host,
    url: &Mutex<String>,
) -> (Host, u32) {
    let mut random = StdRng::seed_from_u64(0x1000);
    let (mut bad, mut best) = (0, plain("good-0"));
    for upgrade in 1..=count {
        let behaviour = (upgrade % 3 == 0).then(|| BAD[usize::try_from(upgrade / 3).unwrap() % BAD.len()]);
        let wasm = match behaviour {
            Some(does) => plain(&format!("bad-{upgrade}; {does}")),
            None => plain(&format!("good-{upgrade}")),
        };
        trial.place.install("in", &wasm, &trial.manifest);
        if upgrade % kill_in_one_of == kill_in_one_of / 2 {
            let_pass(Duration::from_millis(random.random_range(0..1500)));
            host.kill();
            host = trial.place.start();
            url.lock().unwrap().clone_from(&host.url);
        }
        let state = if behaviour.is_some() { "quarantined" } else { "serving" };
        wait_for(&format!("{state} of upgrade {upgrade} ({behaviour:?})"), || {
            let told = try_told(&host)?;
            (told.state(told.number_of(&wasm)?) == state).then_some(())
        });
        if behaviour.is_some() {
            bad += 1;
        } else {
            best = wasm;
        }
        let told = try_told(&host).unwrap();
        assert_eq!(
            told.serving(),
            told.number_of(&best),
            "after upgrade {upgrade}: {told:#?}"
        );
    }
    (host, bad)
}

/// Sends messages with some of them waiting all the time, to whichever host runs.
fn send_until(stop: &AtomicBool, url: &Mutex<String>, ledger: &Mutex<SentLedger>) {
    let mut next = 1;
    while !stop.load(Ordering::Relaxed) {
        let url = url.lock().unwrap().clone();
        if waiting(&url).is_none_or(|waiting| waiting > WAITING_MAX) {
            pause();
            continue;
        }
        let numbers: Vec<_> = (next..next + BATCH).collect();
        next += BATCH;
        let is_answered = send(&url, &numbers).is_some();
        let mut ledger = ledger.lock().unwrap();
        if is_answered {
            ledger.acknowledged.extend(numbers);
        } else {
            ledger.doubtful.extend(numbers);
        }
    }
}

fn send(url: &str, numbers: &[u64]) -> Option<()> {
    let message = |number: &u64| {
        let group = format!("g{}", number % GROUPS);
        json!({ "body": format!("{group}.{number}"), "group": group })
    };
    let messages: Vec<_> = numbers.iter().map(message).collect();
    let mut answer = ureq::post(format!("{url}/queues/in/batch"))
        .content_type("application/json")
        .send(json!({ "messages": messages }).to_string())
        .ok()?;
    let answer: Value = serde_json::from_str(&answer.body_mut().read_to_string().ok()?).ok()?;
    let results = answer["results"].as_array()?;
    assert!(results.iter().all(|result| result["id"].is_string()), "{answer}");
    Some(())
}

/// How many messages are ready, if a host answers.
fn waiting(url: &str) -> Option<u64> {
    let mut answer = ureq::get(format!("{url}/queues/in")).call().ok()?;
    let counts: Value = serde_json::from_str(&answer.body_mut().read_to_string().ok()?).ok()?;
    counts["ready"].as_u64()
}

fn check(ledger: &SentLedger, handled: &[HandledMessage]) {
    let numbers: BTreeSet<_> = handled.iter().map(|message| message.number).collect();
    assert_eq!(numbers.len(), handled.len(), "something was handled twice");
    let lost: Vec<_> = ledger.acknowledged.difference(&numbers).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    let known: BTreeSet<_> = ledger.acknowledged.union(&ledger.doubtful).copied().collect();
    assert!(numbers.is_subset(&known), "something was handled that was never sent");
    check_order(handled);
}
