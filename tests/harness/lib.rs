//! What the tests stand on: the real binary with a directory and a socket of its own, guests with one fault each, a disk
//! that fails, servers that speak SQS, and a network that fails. No assertions about behaviour.

#![expect(
    missing_docs,
    clippy::missing_errors_doc,
    clippy::missing_panics_doc,
    reason = "read by whoever writes tests, in source"
)]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a harness that can't do its part fails the test"
)]

pub mod announce;
pub mod bare;
pub mod bench;
pub mod browser;
pub mod built;
pub mod clocked;
pub mod conformance;
pub mod consumers;
pub mod elastic_mq;
pub mod fault_proxy;
pub mod faulty_queue;
pub mod faulty_store;
pub mod fuzz;
pub mod guests;
pub mod host;
pub mod hostile;
pub mod http_server;
pub mod imports;
pub mod interfaces;
pub mod keeping;
pub mod otel_collector;
pub mod otlp_collector;
pub mod pages;
pub mod pipeline;
pub mod process;
pub mod prompt;
pub mod ratios;
pub mod set_clock;
pub mod sqs_behaviour;
pub mod sqs_client;
pub mod sqs_host;
pub mod sqs_obedient;
pub mod sqs_sdks;
pub mod sqs_server;
pub mod starvation;
pub mod toolchains;
pub mod versions;

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::{Duration, Instant},
};

use sandhog_executor::Compiler;

/// How long a test waits for a fact before it says that it never came. Long, as it is paid for by failures only, and a
/// machine may be busy with other tests.
pub const PATIENCE: Duration = Duration::from_mins(3);

/// The real `sandhog` binary, built in the profile of the tests.
pub fn sandhog_binary() -> PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| binary("sandhog")).clone()
}

/// The compiler of a real host, for tests that run an executor by themselves.
pub fn sandhog_compiler() -> Compiler {
    Compiler::Process {
        program: sandhog_binary(),
    }
}

/// Builds a binary of the workspace in the profile of the tests.
fn binary(name: &str) -> PathBuf {
    let profile = target_directory();
    let mut cargo = Command::new(env!("CARGO"));
    // No package is named, so that dependencies keep the features that the tests were built with.
    cargo
        .args(["build", "--quiet", "--bin", name])
        .current_dir(repository());
    // Benchmarks are built there, and their programs with them.
    if profile.ends_with("release") {
        cargo.args(["--profile", "bench"]);
    }
    assert!(cargo.status().unwrap().success(), "{name} could not be built");
    profile.join(name)
}

/// The real host with one hook: a message whose body starts with `abort` ends the process in the middle of the attempt.
pub fn aborting_binary() -> PathBuf {
    target_directory().join("sandhog-aborting")
}

/// Handles messages and ends.
pub fn hot_path_binary() -> PathBuf {
    target_directory().join("sandhog-hot-path")
}

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn target_directory() -> PathBuf {
    // .../target/PROFILE/deps/integration-HASH
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned()
}

/// Waits until `fact` is there.
pub fn wait_for<T>(what: &str, fact: impl FnMut() -> Option<T>) -> T {
    wait(what, LOOK_AFTER, fact)
}

/// As [`wait_for`], with a look every millisecond: for times that are measured.
pub fn wait_closely<T>(what: &str, fact: impl FnMut() -> Option<T>) -> T {
    wait(what, Duration::from_millis(1), fact)
}

fn wait<T>(what: &str, look_after: Duration, mut fact: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = fact() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain for: {what}");
        sleep(look_after);
    }
}

/// Lets time pass, where that is the fact: until something expires, or for something that must not happen.
pub fn let_pass(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        pause();
    }
}

/// How long until the next look at a fact.
const LOOK_AFTER: Duration = Duration::from_millis(10);

/// The pause between two looks at a fact.
pub fn pause() {
    sleep(LOOK_AFTER);
}

#[expect(clippy::disallowed_methods, reason = "the one place that polls")]
fn sleep(time: Duration) {
    std::thread::sleep(time);
}
