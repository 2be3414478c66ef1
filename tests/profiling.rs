//! Where the processor time of a handler goes: samples by function, of short calls, of calls that wait, and of asynchronous handlers.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use harness::{
    PATIENCE,
    bench::{Bench, policy},
    built::asynchronous_guest,
    guests::{handler_with, obedient},
    host::Place,
    wait_for,
};
use sandhog_executor::{Component, Executor as _, GuestPolicy, GuestProfile, policy::HttpGrant};

/// A handler that computes in two functions, ten times as long in one as in the other: about a millisecond in all.
fn uneven() -> Vec<u8> {
    let burn = |name: &str, rounds: u32| {
        format!(
            "(func ${name} (local $n i32) (local $x i32)
                (loop $l
                    (local.set $x (i32.xor (i32.mul (local.get $x) (i32.const 1664525)) (local.get $n)))
                    (local.set $n (i32.add (local.get $n) (i32.const 1)))
                    (br_if $l (i32.lt_u (local.get $n) (i32.const {rounds}))))
                (i32.store (i32.const 500) (local.get $x)))"
        )
    };
    let functions = format!("{}{}", burn("often", 500_000), burn("seldom", 50_000));
    handler_with("(call $often) (call $seldom) (global.get $ok)", &functions, 16)
}

/// Takes profiles of the bench's handler while it is called with a body again and again, until one has this many samples.
async fn profile(bench: &Bench, component: &Component, body: &[u8], samples: u64) -> GuestProfile {
    let start = Instant::now();
    let mut seconds = 1;
    loop {
        let handler = policy().handler;
        let time = Duration::from_secs(seconds);
        let calls = async {
            loop {
                bench.run(component, &[body]).await;
            }
        };
        let profile = tokio::select! {
            profile = bench.executor.profile(&handler, time) => profile.unwrap(),
            () = calls => unreachable!(),
        };
        if profile.samples >= samples {
            return profile;
        }
        assert!(start.elapsed() < PATIENCE, "{profile:?}");
        seconds *= 2;
    }
}

/// The policy of the bench, with leave to send requests, which the asynchronous guest imports.
fn policy_with_http() -> GuestPolicy {
    let mut policy = policy();
    policy.grants.http = Some(HttpGrant {
        origins: Vec::new(),
        addresses: Vec::new(),
    });
    policy
}

/// The samples in whose stack a function with this in its name is.
fn samples_in(profile: &GuestProfile, name: &str) -> u64 {
    let is_in = |index: &usize| profile.functions.get(*index).unwrap().contains(name);
    let stacks = profile.stacks.iter().filter(|stack| stack.functions.iter().any(is_in));
    stacks.map(|stack| stack.samples).sum()
}

#[tokio::test]
async fn the_functions_of_calls_that_are_shorter_than_a_tick_are_counted_by_their_time() {
    let bench = Bench::new();
    let component = bench.load(uneven()).await.unwrap();
    let profile = profile(&bench, &component, b"x", 40).await;
    let (often, seldom) = (samples_in(&profile, "often"), samples_in(&profile, "seldom"));
    // Ten times as many, give or take.
    assert!(often > 3 * seldom, "{profile:?}");
    assert!(often + seldom > profile.samples / 2, "{profile:?}");
    let whole: u64 = profile.stacks.iter().map(|stack| stack.samples).sum();
    assert_eq!(whole + profile.uncounted, profile.samples);
}

#[tokio::test]
async fn an_asynchronous_handler_is_counted() {
    let bench = Bench::new();
    let policy = policy_with_http();
    let component = bench.load_with(asynchronous_guest(), &policy).await.unwrap();
    let profile = profile(&bench, &component, b"compute 3000000", 20).await;
    assert!(samples_in(&profile, "compute") > profile.samples / 2, "{profile:?}");
}

#[tokio::test]
async fn a_handler_that_waits_is_not_counted() {
    let bench = Bench::new();
    let component = bench.load(obedient("out")).await.unwrap();
    let waits = "w10".repeat(20);
    let handler = policy().handler;
    let calls = async {
        loop {
            bench.run(&component, &[waits.as_bytes()]).await;
        }
    };
    let profile = tokio::select! {
        profile = bench.executor.profile(&handler, Duration::from_secs(2)) => profile.unwrap(),
        () = calls => unreachable!(),
    };
    // It notices some two hundred ticks after its waits, and computes at next to none of them.
    assert!(profile.samples < 40, "{profile:?}");
}

/// The samples of the folded stacks that have a function with this in its name.
fn folded_samples(folded: &str, name: &str) -> u64 {
    let lines = folded.lines().filter(|line| line.contains(name));
    lines
        .map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
        .sum()
}

#[test]
fn an_operator_sees_the_functions_of_a_handler_by_their_share() {
    let place = Place::new();
    place.install("in", &uneven(), "");
    let host = place.start();
    host.wait_ready();
    let profile = |more: &[&str]| {
        let mut command = place.command();
        command.args(["profile", "in", "--url", &host.url]).args(more);
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let is_over = AtomicBool::new(false);
    // Each is of a second, in which a busy machine takes few samples.
    let (mut often, mut seldom) = (0, 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Relaxed) {
                for _ in 0..100 {
                    host.send("in", b"x");
                }
                host.wait_empty("in");
            }
        });
        wait_for("samples", || {
            let (code, folded, error) = profile(&["--for", "1s", "--folded"]);
            assert_eq!(code, Some(0), "{error}");
            often += folded_samples(&folded, "often");
            seldom += folded_samples(&folded, "seldom");
            (often + seldom >= 100 && seldom > 0).then_some(())
        });
        is_over.store(true, Relaxed);
    });
    // Ten times as many, give or take.
    assert!(often > 3 * seldom, "{often} of one, {seldom} of the other");
    let (code, _, error) = profile(&["--for", "21s"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("at most 20s"), "{error}");
    let answer = host.get("/handlers/nobody/profile?for=0s");
    assert!(answer["error"].as_str().unwrap().contains("nobody"), "{answer}");
}

#[tokio::test]
async fn another_handler_is_not_counted() {
    let bench = Bench::new();
    let component = bench.load(uneven()).await.unwrap();
    let calls = async {
        loop {
            bench.run(&component, &[b"x"]).await;
        }
    };
    let profile = tokio::select! {
        profile = bench.executor.profile("another", Duration::from_secs(1)) => profile.unwrap(),
        () = calls => unreachable!(),
    };
    assert_eq!((profile.samples, profile.stacks.len()), (0, 0));
}
