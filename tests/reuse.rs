//! `instance = "reuse"`: one instance answers one message after another, and is retired at any fault.

use std::{sync::Arc, time::Duration};

use harness::{
    bench::{Bench, together},
    built::foreign_guest,
    guests::{self, body_starts_with, program},
    host::Place,
    wait_for,
};
use sandhog::config::Manifest;
use sandhog_executor::{
    CallReport, CodeTiers, Component, EngineOptions, Executor as _, Verdict, digest, policy::Reuse,
};
use sandhog_queue::FailureKind;

/// Counts its messages in its memory and sends the count, one digit; `r` fails, `t` traps, `s` spins and `m` takes all memory
/// behind that; `p` prints the body and no line end.
fn counting() -> Vec<u8> {
    const IMPORT: &str =
        r#"(import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))"#;
    const DEFINITIONS: &str = "(global $count (mut i32) (i32.const 48))";
    let when = |c: char, then: &str| format!("(if {} (then {then}))", body_starts_with(c));
    let handle = format!(
        "(global.set $count (i32.add (global.get $count) (i32.const 1)))
        (i32.store8 (i32.const 300) (global.get $count))
        (call $send (i32.const 300) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0))
        {} {} {} {} {}
        (global.get $ok)",
        when(
            'r',
            "(return (call $fail (i32.const 0) (i32.const 272) (i32.const 7) (i32.const 0)))"
        ),
        when('t', "unreachable"),
        when('s', "(loop $spin (br $spin))"),
        when(
            'm',
            "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))"
        ),
        when(
            'p',
            "(i32.store (i32.const 400) (local.get $body)) (i32.store (i32.const 404) (local.get $body-len))
            (drop (call $write (i32.const 1) (i32.const 400) (i32.const 1) (i32.const 408)))"
        ),
    );
    guests::handler_importing(&handle, (IMPORT, DEFINITIONS))
}

/// An engine whose code stays the same: better code that arrives meanwhile would start with instances of its own.
fn options(max_live_instances: usize) -> EngineOptions {
    EngineOptions {
        max_live_instances,
        threads: 2,
        compiler: harness::sandhog_compiler(),
        tiers: CodeTiers::Fast,
        ..EngineOptions::default()
    }
}

fn reusing(max: u64, idle: Duration) -> Bench {
    let mut bench = Bench::with(options(8));
    bench.policy.reuse = Some(Reuse { max, idle });
    bench.policy.timeout = Duration::from_secs(2);
    bench
}

const LONG: Duration = Duration::from_mins(10);

/// What the guest has counted to, or `None` if it failed.
async fn count(bench: &Bench, component: &Component, body: &str) -> Option<String> {
    counted(&bench.run(component, &[body.as_bytes()]).await)
}

fn counted(report: &CallReport) -> Option<String> {
    let sends = report.sends.iter();
    let sent: Vec<_> = sends
        .map(|send| String::from_utf8_lossy(&send.message.body).into_owned())
        .collect();
    match (report.verdicts.as_slice(), sent.as_slice()) {
        ([Verdict::Success], [count]) => Some(count.clone()),
        ([Verdict::Failed(_)], []) => None,
        other => panic!("{other:?}"),
    }
}

async fn check(bench: &Bench, component: &Component, bodies: &str, expected: &[Option<&str>]) {
    let mut found = Vec::new();
    for body in bodies.chars() {
        found.push(count(bench, component, &body.to_string()).await);
    }
    let found: Vec<_> = found.iter().map(Option::as_deref).collect();
    assert_eq!(found, expected, "{bodies}");
}

#[tokio::test]
async fn an_instance_answers_as_many_messages_as_it_may_and_no_more() {
    let bench = reusing(3, LONG);
    let component = bench.load(counting()).await.unwrap();
    check(&bench, &component, "aaaaa", &["1", "2", "3", "1", "2"].map(Some)).await;
    let fresh = Bench::new();
    let component = fresh.load(counting()).await.unwrap();
    check(&fresh, &component, "aaa", &["1", "1", "1"].map(Some)).await;
    assert_eq!(
        (bench.executor.idle_instances(), fresh.executor.idle_instances()),
        (1, 0)
    );
    assert_eq!(bench.executor.live_instances(), 0);
}

#[tokio::test]
async fn a_fault_retires_the_instance_and_an_answer_of_any_kind_does_not() {
    let bench = reusing(100, LONG);
    let component = bench.load(counting()).await.unwrap();
    let (one, two, three) = (Some("1"), Some("2"), Some("3"));
    check(&bench, &component, "ara", &[one, None, three]).await;
    for fault in ["t", "s", "m"] {
        let component = bench.load(counting()).await.unwrap();
        check(&bench, &component, "aa", &[one, two]).await;
        drop(bench.run(&component, &[fault.as_bytes()]).await);
        check(&bench, &component, "aa", &[one, two]).await;
    }
}

#[tokio::test]
async fn calls_at_the_same_time_have_an_instance_each() {
    let bench = reusing(100, LONG);
    let component = bench.load(counting()).await.unwrap();
    let calls = (0..4).map(|_| bench.run(&component, &[b"a"]));
    let reports = together(calls).await;
    let most = reports.iter().map(|report| counted(report).unwrap()).max().unwrap();
    let kept = bench.executor.idle_instances();
    assert!((1..=4).contains(&kept), "{kept} are kept");
    // Every call was answered by exactly one instance.
    assert!(most.parse::<usize>().unwrap() + kept <= 5, "{most} {kept}");
}

#[tokio::test]
async fn an_instance_without_messages_is_given_up_after_a_while() {
    let bench = reusing(100, Duration::from_millis(1));
    let component = bench.load(counting()).await.unwrap();
    check(&bench, &component, "a", &[Some("1")]).await;
    wait_for("the idle instance to be given up", || {
        (bench.executor.idle_instances() == 0).then_some(())
    });
    check(&bench, &component, "a", &[Some("1")]).await;
}

#[tokio::test]
async fn instances_go_with_their_version() {
    let bench = reusing(100, LONG);
    let component = bench.load(counting()).await.unwrap();
    check(&bench, &component, "aa", &["1", "2"].map(Some)).await;
    let policy = Arc::new(bench.policy.clone());
    let relinked = bench
        .executor
        .relink("test.wasm".into(), &component, policy)
        .await
        .unwrap();
    check(&bench, &relinked, "a", &[Some("1")]).await;
    assert_eq!(bench.executor.idle_instances(), 2);
    drop(component);
    assert_eq!(bench.executor.idle_instances(), 1);
    drop(relinked);
    assert_eq!(bench.executor.idle_instances(), 0);
}

#[tokio::test]
async fn an_idle_instance_never_keeps_anybody_waiting() {
    let mut bench = Bench::with(options(1));
    bench.policy.reuse = Some(Reuse { max: 100, idle: LONG });
    let first = bench.load(counting()).await.unwrap();
    let second = bench.load(guests::no_op()).await.unwrap();
    check(&bench, &first, "aa", &["1", "2"].map(Some)).await;
    assert_eq!(bench.executor.idle_instances(), 1);
    assert_eq!(bench.run(&second, &[b"x"]).await.verdicts, [Verdict::Success]);
    check(&bench, &first, "a", &[Some("1")]).await;
    // Nor does one that becomes idle while somebody waits.
    let calls = [&first, &second, &first, &second].map(|component| bench.run(component, &[b"a"]));
    assert_eq!(together(calls.into_iter()).await.len(), 4);
}

#[tokio::test]
async fn what_an_instance_prints_belongs_to_the_message_that_it_has() {
    let bench = reusing(100, LONG);
    let component = bench.load(counting()).await.unwrap();
    for body in ["p one", "p two"] {
        assert_eq!(
            bench.run(&component, &[body.as_bytes()]).await.verdicts,
            [Verdict::Success]
        );
        let lines: Vec<_> = bench.lines.lock().unwrap().drain(..).map(|line| line.text).collect();
        assert_eq!(lines, [body]);
    }
    // Each has the whole of its limits.
    let mut policy = bench.policy.clone();
    policy.limits.log_bytes = 80;
    for _ in 0..3 {
        let report = bench.run_with(&component, &[b"p three"], &policy).await;
        assert_eq!(report.usage.log_lines_dropped, 0);
    }
}

#[tokio::test]
async fn limits_begin_anew_with_each_message() {
    let mut bench = reusing(100, LONG);
    bench.policy.limits.sends = 1;
    bench.policy.limits.cpu_time = Duration::from_millis(1500);
    let component = bench.load(counting()).await.unwrap();
    check(&bench, &component, "aaaa", &["1", "2", "3", "4"].map(Some)).await;
    let report = bench.run(&component, &[b"s"]).await;
    let [Verdict::Failed(failure)] = report.verdicts.as_slice() else {
        panic!("{report:?}")
    };
    assert_eq!(failure.kind, FailureKind::Timeout);
}

#[tokio::test]
async fn an_instance_that_becomes_idle_goes_to_a_call_of_its_own_that_waits() {
    let mut bench = Bench::with(options(1));
    bench.policy.reuse = Some(Reuse { max: 100, idle: LONG });
    let component = bench.load(counting()).await.unwrap();
    let reports = together((0..20).map(|_| bench.run(&component, &[b"a"]))).await;
    let counts = reports.iter().map(|report| counted(report).unwrap());
    // One instance answered them all, after one another.
    let mut expected: Vec<_> = (0..20_u8).map(|n| char::from(b'1' + n).to_string()).collect();
    let mut counts: Vec<_> = counts.collect();
    counts.sort();
    expected.sort();
    assert_eq!(counts, expected);
}

#[tokio::test]
async fn what_goes_on_behind_its_answer_can_not_be_reused() {
    let bench = reusing(100, LONG);
    for (wasm, why) in [
        (program(), "a program ends with its message"),
        (foreign_guest("spin_sqs_3"), "asynchronous"),
    ] {
        let error = bench.load(wasm).await.unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    assert!(bench.load(foreign_guest("spin_sqs_2")).await.is_ok());
}

#[test]
fn the_settings_of_reuse_need_reuse() {
    let read = |text: &str| Manifest::parse(text, "a");
    assert_eq!(read("").unwrap().reuse, None);
    let reuse = read("instance = \"reuse\"\nreuse-max = 7\n").unwrap().reuse.unwrap();
    assert_eq!((reuse.max, reuse.idle), (7, Duration::from_mins(1)));
    for text in ["reuse-max = 7", "instance = \"fresh\"\nreuse-idle = \"1s\""] {
        let error = read(text).unwrap_err().to_string();
        assert!(error.contains("it needs instance = \"reuse\""), "{error}");
    }
    assert!(read("instance = \"pooled\"").is_err());
}

#[test]
fn a_handler_on_a_queue_keeps_its_instance_and_a_new_version_starts_anew() {
    let place = Place::new();
    let manifest = "instance = \"reuse\"\nconcurrency = 1\n[grant]\nsend = [\"out\"]\n";
    place.install("in", &counting(), manifest);
    let host = place.start();
    host.wait_ready();
    // Once in between, the optimised code takes the place of the first.
    wait_for("an instance to count to five", || {
        host.send("in", b"a");
        host.wait_empty("in");
        host.take_all("out").contains(&"5".to_owned()).then_some(())
    });
    let next = guests::handler(
        "(call $send (i32.const 272) (i32.const 7) (i32.const 0) (i32.const 0) (i32.const 0)) (global.get $ok)",
    );
    place.install("in", &next, manifest);
    wait_for("the next version to serve", || {
        host.get("/handlers").to_string().contains(&digest(&next)).then_some(())
    });
    host.send("in", b"a");
    host.wait_empty("in");
    assert_eq!(host.take_all("out"), ["because"]);
}
