//! Whatever bytes come in, from messages to configuration, are read or refused, and never end the process.
//!
//! Each target runs on its corpus, `tests/fuzz/corpus/TARGET/`, and on mutations of it for some seconds: `SANDHOG_FUZZ_SECONDS`
//! says how many (2 unless it is set), `SANDHOG_SEED` where they start. A failure prints the bytes; put them into the corpus.

#![expect(clippy::indexing_slicing, reason = "positions are drawn from what is there")]
#![expect(clippy::print_stdout, reason = "a test's output is shown by whoever runs it")]

use std::{
    fs,
    panic::{self, AssertUnwindSafe},
    time::{Duration, Instant},
};

use harness::{
    fuzz::{TARGETS, Target},
    repository,
};
use rand::{Rng, RngExt as _, SeedableRng as _, rngs::SmallRng};

fn number(name: &str) -> Option<u64> {
    std::env::var_os(name).map(|value| value.to_str().unwrap().parse().unwrap())
}

fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let directory = repository().join("tests/fuzz/corpus").join(target.name);
    let files = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let corpus: Vec<_> = files.map(|file| fs::read(file.unwrap().path()).unwrap()).collect();
    assert!(corpus.len() >= 3, "{} has a poor corpus", target.name);
    corpus
}

fn check(target: &Target, bytes: &[u8], origin: &str) {
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| (target.run)(bytes)));
    assert!(
        outcome.is_ok(),
        "{} fails on {origin}: {:?} (in hexadecimal: {})",
        target.name,
        String::from_utf8_lossy(bytes),
        sandhog_queue::printable::hex(bytes)
    );
}

/// Another one like those of the corpus.
fn mutated(corpus: &[Vec<u8>], rng: &mut impl Rng) -> Vec<u8> {
    let mut bytes = corpus[rng.random_range(0..corpus.len())].clone();
    for _ in 0..rng.random_range(1..5) {
        let at = rng.random_range(0..=bytes.len());
        let end = (at + rng.random_range(0..16)).min(bytes.len());
        match rng.random_range(0..6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes.insert(at, rng.random()),
            2 => {
                bytes.drain(at..end);
            }
            3 => {
                let piece = bytes[at..end].to_vec();
                let times = rng.random_range(1..20);
                bytes.splice(at..at, piece.repeat(times));
            }
            4 => {
                let other = &corpus[rng.random_range(0..corpus.len())];
                let from = rng.random_range(0..=other.len());
                let to = (from + rng.random_range(0..64)).min(other.len());
                bytes.splice(at..end, other[from..to].iter().copied());
            }
            _ => {
                const SPECIAL: [&[u8]; 12] = [
                    b"\0",
                    b"\"",
                    b"\\u0000",
                    b"\\ud800",
                    b"9223372036854775808",
                    b"-1",
                    b"1e999",
                    b"[[[[[[[[",
                    b"{",
                    b"\r\n\r\n",
                    b"%00",
                    b"\xff\xfe",
                ];
                bytes.splice(at..at, SPECIAL[rng.random_range(0..SPECIAL.len())].iter().copied());
            }
        }
    }
    bytes
}

fn fuzz(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let corpus = corpus(target);
    for bytes in &corpus {
        check(target, bytes, "its corpus");
    }
    let seed = number("SANDHOG_SEED").unwrap_or_else(rand::random);
    let time = Duration::from_secs(number("SANDHOG_FUZZ_SECONDS").unwrap_or(2));
    let mut rng = SmallRng::seed_from_u64(seed);
    let (started, mut count) = (Instant::now(), 0);
    while started.elapsed() < time {
        check(
            target,
            &mutated(&corpus, &mut rng),
            &format!("SANDHOG_SEED={seed}, number {count}"),
        );
        count += 1;
    }
    println!("{name}: {count} inputs in {time:?}, SANDHOG_SEED={seed}");
}

#[test]
fn any_message_in_json_is_read_or_refused() {
    fuzz("messages");
}

#[test]
fn any_manifest_is_read_or_refused() {
    fuzz("manifest");
}

#[test]
fn any_configuration_is_read_or_refused() {
    fuzz("config");
}

#[test]
fn any_name_is_read_or_refused() {
    fuzz("names");
}

#[test]
fn any_message_of_sqs_is_read() {
    fuzz("sqs");
}

#[test]
fn any_damage_to_a_record_is_noticed() {
    fuzz("records");
}

#[test]
fn any_bytes_to_the_listener_are_answered_or_not_and_others_are_served() {
    fuzz("listener");
}

#[test]
fn any_request_of_an_sqs_client_is_answered_in_its_protocol() {
    fuzz("endpoint");
}
