//! `cargo demo` and `cargo demo sqs`, from the first line to the last.

#![expect(clippy::unwrap_used, reason = "what is not as expected fails the test")]

use std::collections::BTreeSet;
use std::process::{Command, Output};
use std::thread;

fn demo(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    // An account that the demo has nothing to do with.
    command.env("AWS_PROFILE", "work").env("AWS_REGION", "eu-central-1");
    command.args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What the demo says that came out: the lines below a heading.
fn listed(said: &str, heading: &str) -> BTreeSet<String> {
    let from = said
        .lines()
        .skip_while(|line| !line.starts_with(heading))
        .skip(1)
        .take_while(|line| !line.is_empty());
    from.map(str::to_owned).collect()
}

#[test]
fn the_examples_do_the_same_on_simple_queues_and_on_sqs() {
    let on = |arguments: &'static [&str]| {
        let output = demo(arguments);
        let (said, complained) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{}: {complained}\n{said}", output.status);
        said
    };
    let (simple, sqs) = thread::scope(|scope| {
        let sqs = scope.spawn(|| on(&["sqs"]));
        (on(&[]), sqs.join().unwrap())
    });
    for (heading, count) in [
        ("Queue thumbnails", 4),
        ("Queue invoices", 3),
        ("Queue reports", 2),
        ("Dead letters", 4),
    ] {
        let results = listed(&sqs, heading);
        assert_eq!(results.len(), count, "{heading}: {sqs}");
        assert_eq!(results, listed(&simple, heading));
    }
}

#[test]
fn a_wrong_argument_is_answered_with_the_usage() {
    for arguments in [["sns"].as_slice(), &["sqs", "now"]] {
        let output = demo(arguments);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).starts_with("usage: cargo demo [sqs]\n"));
        assert!(output.stdout.is_empty());
    }
}
