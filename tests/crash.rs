//! The real process is killed at the worst moments, again and again, on the same data directory.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use harness::{
    aborting_binary,
    guests::{FORWARD, body_starts_with, forward, handler},
    host::{Host, Place},
    let_pass, wait_for,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};

/// How often the process is killed.
const ROUNDS: u64 = 100;
/// Messages that are sent per request.
const BATCH: u64 = 20;
/// Requests that are sent to one host at most, so that the work stays what a slow machine can do.
const REQUESTS: u64 = 10;

/// A handler that sends on what it gets to queue `out`; a body that starts with `r` is retried once on the way, one
/// that starts with `j` is rejected.
fn install_chain(place: &Place) {
    let retry = format!(
        "(i32.and {} (i32.lt_u (local.get $receive-count) (i32.const 2)))",
        body_starts_with('r')
    );
    let first = handler(&format!(
        "(if {} (then (return (call $fail (i32.const 2) (i32.const 272) (i32.const 7) (i32.const 0)))))
        (if {retry} (then (return (call $fail (i32.const 0) (i32.const 272) (i32.const 7) (i32.const 0)))))
        {FORWARD} (global.get $ok)",
        body_starts_with('j')
    ));
    let retries = "[retry]\nmin = \"1ms\"\nmax = \"10ms\"\n";
    place.install("in", &first, &format!("[grant]\nsend = [\"out\"]\n{retries}"));
}

#[derive(Default)]
struct Ledger {
    /// Bodies whose send was acknowledged.
    acknowledged: BTreeSet<String>,
    /// Bodies whose send was not answered: they may be there or not.
    doubtful: BTreeSet<String>,
}

#[test]
fn a_hundred_kills_lose_nothing_double_nothing_and_keep_the_order_of_groups() {
    let place = Place::new();
    install_chain(&place);
    // A message may be in flight at many a kill: that it is dead-lettered for it is another test's matter.
    place.configure("[queues.in]\nmax-receives = 1000\n");
    let ledger = Mutex::new(Ledger::default());
    let next = AtomicU64::new(0);
    let mut random = StdRng::seed_from_u64(0x5a4d);
    let start = Instant::now();
    // Compiled once, so that every host works from its first moment.
    let host = place.start();
    host.wait_ready();
    assert_eq!(host.terminate().0.code(), Some(0));
    for _ in 0..ROUNDS {
        let host = place.start();
        // Some are killed before anything was answered, others in the middle of the work.
        let (answers, moment) = (random.random_range(0..4), random.random_range(0..100));
        let answered = AtomicU64::new(0);
        thread::scope(|scope| {
            scope.spawn(|| send_until_killed(&host.url, &next, &answered, &ledger));
            wait_for("answers to sends", || {
                (answered.load(Ordering::Relaxed) >= answers).then_some(())
            });
            let_pass(Duration::from_millis(moment));
            let id = host.id().to_string();
            assert!(Command::new("kill").args(["-KILL", &id]).status().unwrap().success());
        });
    }
    let host = place.start();
    host.wait_ready();
    host.wait_empty("in");
    assert_eq!(host.terminate().0.code(), Some(0));
    let (out, dead) = (place.stored("out"), place.stored("in-dead"));
    let ledger = ledger.into_inner().unwrap();
    println!(
        "{ROUNDS} kills in {:?}: {} acknowledged, {} doubtful, {} outputs, {} dead letters",
        start.elapsed(),
        ledger.acknowledged.len(),
        ledger.doubtful.len(),
        out.len(),
        dead.len()
    );
    check(&ledger, &out, &dead);
}

/// Sends batches until the host no longer answers, or has enough to do.
fn send_until_killed(url: &str, next: &AtomicU64, answered: &AtomicU64, ledger: &Mutex<Ledger>) {
    for _ in 0..REQUESTS {
        let first = next.fetch_add(BATCH, Ordering::Relaxed);
        let bodies: Vec<_> = (first..first + BATCH).map(body).collect();
        let messages: Vec<_> = bodies
            .iter()
            .map(|body| json!({ "body": body, "group": group(body) }))
            .collect();
        let answer = ureq::post(format!("{url}/queues/in/batch"))
            .content_type("application/json")
            .send(json!({ "messages": messages }).to_string());
        let whole = answer
            .ok()
            .and_then(|mut answer| answer.body_mut().read_to_string().ok());
        let mut ledger = ledger.lock().unwrap();
        if whole.is_none() {
            ledger.doubtful.extend(bodies);
            return;
        }
        ledger.acknowledged.extend(bodies);
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

fn check(ledger: &Ledger, out: &[String], dead: &[String]) {
    assert!(
        ledger.acknowledged.len() > 1000,
        "too little happened: {}",
        ledger.acknowledged.len()
    );
    let settled: BTreeSet<_> = out.iter().chain(dead).cloned().collect();
    assert_eq!(out.len() + dead.len(), settled.len(), "something came out twice");
    let lost: Vec<_> = ledger.acknowledged.difference(&settled).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    let known: BTreeSet<_> = ledger.acknowledged.union(&ledger.doubtful).cloned().collect();
    assert!(settled.is_subset(&known), "something came out that was never sent");
    assert!(dead.iter().all(|body| body.starts_with('j')), "{dead:?}");
    assert!(out.iter().all(|body| !body.starts_with('j')));
    let mut latest: BTreeMap<String, u64> = BTreeMap::new();
    for body in out {
        let number = number(body);
        let before = latest.insert(group(body), number);
        assert!(
            before.is_none_or(|before| before < number),
            "group {} is out of order at {number}",
            group(body)
        );
    }
}

/// `x`, `r` (retried once) or `j` (rejected), and a number.
fn body(number: u64) -> String {
    let kind = match number % 10 {
        3 => 'r',
        7 => 'j',
        _ => 'x',
    };
    format!("{kind}{number}")
}

fn number(body: &str) -> u64 {
    body.get(1..).unwrap().parse().unwrap()
}

fn group(body: &str) -> String {
    format!("g{}", number(body) % 7)
}

#[test]
fn a_message_that_kills_the_host_is_dead_lettered_without_its_neighbours() {
    let mut place = Place::new();
    place.binary = aborting_binary();
    place.configure("[queues.in]\nmax-receives = 3\n[queues.other]\nmax-receives = 1\n");
    let grant = "[grant]\nsend = [\"out\"]\n[retry]\nmin = \"1ms\"\nmax = \"10ms\"\n";
    // Neighbours that are in flight when the host goes down: they take a moment.
    let slow = handler(&format!(
        "(local $n i64) (loop $l (local.set $n (i64.add (local.get $n) (i64.const 1))) (br_if $l (i64.lt_u (local.get $n) (i64.const 100000000)))) {FORWARD} (global.get $ok)"
    ));
    place.install("in", &slow, grant);
    place.install("other", &slow, grant);
    // Sent while no handler is there, so that all of it is received together.
    fs::rename(place.plugin("in.wasm"), place.path().join("in.wasm")).unwrap();
    fs::rename(place.plugin("other.wasm"), place.path().join("other.wasm")).unwrap();
    let host = place.start();
    host.wait_ready();
    for number in 0..6 {
        host.send("other", format!("o{number}").as_bytes());
        host.send("in", format!("i{number}").as_bytes());
    }
    host.send("in", b"abort");
    host.send("in", b"i6");
    assert_eq!(host.terminate().0.code(), Some(0));
    fs::rename(place.path().join("in.wasm"), place.plugin("in.wasm")).unwrap();
    fs::rename(place.path().join("other.wasm"), place.plugin("other.wasm")).unwrap();
    let mut crashes = 0;
    loop {
        let mut host = place.start();
        let ended = wait_for("the end of the host or of its work", || {
            if host.try_wait().is_some() {
                return Some(true);
            }
            let open = |queue: &str| {
                let counts = host.try_get(&format!("/queues/{queue}")).ok()?;
                Some(
                    ["ready", "in-flight", "delayed"]
                        .iter()
                        .map(|which| counts[*which].as_u64().unwrap())
                        .sum::<u64>(),
                )
            };
            (open("in")? + open("other")? == 0).then_some(false)
        });
        if ended {
            crashes += 1;
            assert!(crashes <= 3, "the message was received more often than it may be");
            continue;
        }
        let dead: Vec<_> = host.dead("in");
        assert_eq!(dead.len(), 1, "{dead:?}");
        assert_eq!(
            (&dead[0]["body"], &dead[0]["failure"]["kind"]),
            (&json!("abort"), &json!("host-stopped"))
        );
        assert!(host.dead("other").is_empty(), "{:?}", host.dead("other"));
        let mut out = host.take_all("out");
        out.sort();
        let expected: Vec<_> = (0..7)
            .map(|n| format!("i{n}"))
            .chain((0..6).map(|n| format!("o{n}")))
            .collect();
        assert_eq!(out, expected);
        break;
    }
    assert_eq!(crashes, 3);
}

#[test]
fn a_second_host_on_the_same_directory_is_refused() {
    let place = Place::new();
    place.install("in", &forward(), "[grant]\nsend = [\"out\"]\n");
    let host = place.start();
    host.wait_ready();
    let second = place.run().output().unwrap();
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(75), "{text}");
    assert!(text.contains("data") && text.contains("another"), "{text}");
    host.send("in", b"still here");
    host.wait_empty("in");
    assert_eq!(host.take_all("out"), ["still here"]);
}

/// Receives one message by HTTP, and leaves it in flight.
fn hold_one(host: &Host, queue: &str, query: &str) -> Value {
    let answer = host.post(&format!("/queues/{queue}/receive?max=1&wait=20s{query}"), &Value::Null);
    let message = answer.pointer("/messages/0");
    message.unwrap_or_else(|| panic!("{answer}")).clone()
}

// It was a dead letter as soon as it had been released, with the words that the host had stopped while it was in flight.
#[test]
fn what_is_released_after_a_crash_beside_a_killer_comes_back() {
    let place = Place::new();
    place.configure("grace-period = \"1ms\"\n[queues.in]\nmax-receives = 1\n[queues.other]\n");
    let endless = handler("(loop $l (br $l)) (global.get $ok)");
    place.install("in", &endless, "timeout = \"60s\"\n");
    place.install("other", &endless, "timeout = \"60s\"\n");
    let host = place.start();
    host.send("in", b"innocent");
    host.send("other", b"killer");
    for queue in ["in", "other"] {
        wait_for("the attempt", || (host.count(queue, "in-flight") == 1).then_some(()));
    }
    host.kill();
    for file in ["in.wasm", "in.toml", "other.wasm", "other.toml"] {
        fs::remove_file(place.plugin(file)).unwrap();
    }
    // By a person.
    let host = place.start();
    let innocent = hold_one(&host, "in", "");
    let release = json!({ "receipt": innocent["receipt"], "action": "release" });
    host.post("/queues/in/settle", &release);
    assert_eq!(host.terminate().0.code(), Some(0));
    // By the host, when it stops: the handler never ends by itself.
    place.install(
        "in",
        &handler("(loop $l (br $l)) (global.get $ok)"),
        "timeout = \"60s\"\n",
    );
    let host = place.start();
    wait_for("the attempt", || (host.count("in", "in-flight") == 1).then_some(()));
    assert_eq!(host.terminate().0.code(), Some(0));
    fs::remove_file(place.plugin("in.wasm")).unwrap();
    // By nobody, when its time is over.
    let host = place.start();
    assert_eq!(hold_one(&host, "in", "&visibility=1s")["body"], "innocent");
    let again = hold_one(&host, "in", "");
    host.post(
        "/queues/in/settle",
        &json!({ "receipt": again["receipt"], "action": "release" }),
    );
    assert_eq!(host.dead("in"), [Value::Null; 0]);
    assert_eq!(host.take_one("in").as_deref(), Some("innocent"));
}

// It held back the whole store for as long as its handler ran, up to twelve hours.
#[test]
fn a_suspect_that_is_held_for_hours_lets_the_rest_go_on() {
    let place = Place::new();
    place.configure("[queues.slow]\nvisibility-timeout = \"5s\"\n[queues.fast]\n");
    place.install(
        "slow",
        &handler("(loop $l (br $l)) (global.get $ok)"),
        "timeout = \"1h\"\n",
    );
    let host = place.start();
    host.send("slow", b"job");
    wait_for("the attempt", || (host.count("slow", "in-flight") == 1).then_some(()));
    host.kill();
    place.install("fast", &handler("(global.get $ok)"), "");
    let host = place.start();
    wait_for("the attempt", || (host.count("slow", "in-flight") == 1).then_some(()));
    host.send("fast", b"hi");
    wait_for("readiness to tell", || {
        let (code, text) = host.text("/ready");
        (code == 503 && text.contains("isolating")).then_some(())
    });
    host.wait_empty("fast");
    host.wait_ready();
    assert_eq!(host.count("slow", "in-flight"), 1);
}
