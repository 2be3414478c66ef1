//! A message costs no more instructions than it did: counted by callgrind, which other work on the machine does not disturb.
//!
//! What is counted is a message's whole way through the host, from its send in memory to its deletion, but for the guest, whose
//! stacks the tool can't follow; the difference of two runs leaves out what happens once. The program has a clock that moves when
//! somebody looks at it, because runners hand back fewer attempts together where time passes between two of them: by the clock of
//! the machine, whose time the tool multiplies, the same code came to 234,000 to 293,000. The profile of the tests does not
//! optimise, so the number is some ten times that of a release and compares one change with the one before it. A change that
//! costs more either mends it or states the new number here, with its reason in the commit.

use std::process::Command;

use harness::hot_path_binary;

/// How far from the number a run may be, in percent. Runs on a busy machine differ by a tenth of one; the rest is for other libraries.
const TOLERANCE: u64 = 5;
const FEW: u64 = 1_000;
const MANY: u64 = 3_000;

/// The instructions of a message from its send to its deletion, without the guest.
const STATED: u64 = 169_500;
/// The same with a span that is exported, encoded and read again by a collector in the same process.
const TRACED: u64 = 340_500;

#[test]
fn a_message_costs_no_more_instructions_than_it_did() {
    check(&[], STATED);
}

#[test]
fn a_message_with_a_span_costs_no_more_instructions_than_it_did() {
    check(&["traced"], TRACED);
}

#[expect(clippy::print_stdout, reason = "a person reads what was counted")]
#[track_caller]
fn check(arguments: &[&str], stated: u64) {
    if Command::new("valgrind").arg("--version").output().is_err() {
        assert!(
            std::env::var_os("CI").is_none(),
            "valgrind is missing: install it (apt-get install valgrind)"
        );
        println!("valgrind is not installed: no instructions are counted");
        return;
    }
    let [few, many] = [FEW, MANY].map(|messages| count(messages, arguments));
    let each = (many - few) / (MANY - FEW);
    println!("{each} instructions for a message, stated {stated}");
    assert!(
        each * 100 <= stated * (100 + TOLERANCE),
        "{each} instructions for a message, where {stated} are stated: find what costs more, or state the new number"
    );
    assert!(
        each * 100 >= stated * (100 - TOLERANCE),
        "{each} instructions for a message, where {stated} are stated: state the new number, so that it is kept"
    );
}

/// The instructions of a whole run.
fn count(messages: u64, arguments: &[&str]) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(hot_path_binary())
        .arg(messages.to_string())
        .args(arguments)
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let collected = said.lines().find_map(|line| line.split("Collected : ").nth(1));
    collected
        .unwrap_or_else(|| panic!("valgrind says no number: {said}"))
        .trim()
        .parse()
        .unwrap()
}
