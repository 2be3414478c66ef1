//! The guests of these tests do what their bytes say, so that a rollout ends for the reason that the table names.

use std::time::Duration;

use harness::{
    bench::Bench,
    versions::{batch, keeping, plain},
};
use sandhog_executor::{CallReport, Verdict, policy::Reuse};
use sandhog_queue::{FailureKind, message::QueueName};

fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.policy.grants.send = Some([QueueName::new("done").unwrap()].into());
    bench.policy.limits.memory = 16 << 20;
    bench
}

/// What came of each message: what was sent, or how it failed.
fn said(report: &CallReport) -> String {
    let sends = report.sends.iter();
    let sent = sends.map(|send| String::from_utf8_lossy(&send.message.body).into_owned());
    let failed = report.verdicts.iter().filter_map(|verdict| match verdict {
        Verdict::Failed(failure) => Some(failure.kind.to_string()),
        Verdict::Success => None,
        Verdict::NotRun(why) => panic!("{why}"),
    });
    sent.chain(failed).collect::<Vec<_>>().join(", ")
}

#[tokio::test]
async fn a_handler_does_what_its_bytes_say() {
    let bench = bench();
    let (trap, retry) = (FailureKind::Trap.to_string(), FailureKind::Retry.to_string());
    let memory = FailureKind::Memory.to_string();
    for (behaviour, body, expected) in [
        ("a", "g1.7", "a g1.7 1"),
        ("a; wait 1", "g1.7", "a g1.7 1"),
        ("a; trap", "g1.7", trap.as_str()),
        ("a; trap every 10", "g1.7", "a g1.7 1"),
        ("a; trap every 10", "g1.70", &trap),
        ("a; trap group g1", "g1.7", &trap),
        ("a; trap group g1", "g11.7", "a g11.7 1"),
        ("a; trap every 3; trap group g1", "g1.7", &trap),
        ("a; retry", "g1.7", &retry),
        ("a; memory", "g1.7", &memory),
    ] {
        let component = bench.load(plain(behaviour)).await.unwrap();
        let report = bench.run(&component, &[body.as_bytes()]).await;
        assert_eq!(said(&report), expected, "{behaviour}, {body}");
    }
}

#[tokio::test]
async fn a_handler_of_batches_does_what_its_bytes_say_with_each_message() {
    let bench = bench();
    let component = bench.load(batch("a")).await.unwrap();
    let report = bench.run(&component, &[b"g1.7", b"g2.8"]).await;
    assert_eq!(said(&report), "a g1.7 1, a g2.8 1");
    for behaviour in ["a; short", "a; trap every 8"] {
        let component = bench.load(batch(behaviour)).await.unwrap();
        let report = bench.run(&component, &[b"g1.7", b"g2.8"]).await;
        let failed = |verdict: &Verdict| matches!(verdict, Verdict::Failed(_));
        assert!(
            report.verdicts.len() == 2 && report.verdicts.iter().all(failed),
            "{report:?}"
        );
    }
}

#[tokio::test]
async fn an_instance_breaks_when_it_has_begun_as_many_messages_as_its_bytes_say() {
    let mut bench = bench();
    bench.policy.reuse = Some(Reuse {
        max: 100,
        idle: Duration::from_mins(10),
    });
    let component = bench.load(plain("a; trap after 3")).await.unwrap();
    let mut found = Vec::new();
    for _ in 0..5 {
        let report = bench.run(&component, &[b"g1.7"]).await;
        found.push(report.verdicts == [Verdict::Success]);
    }
    assert_eq!(found, [true, true, true, false, true]);
}

#[tokio::test]
async fn a_handler_that_keeps_something_needs_the_grant() {
    let mut bench = bench();
    let refusal = bench.load(keeping("a")).await.unwrap_err();
    assert!(refusal.to_string().contains("keyvalue = true"), "{refusal}");
    bench.policy.grants.keyvalue = true;
    let component = bench.load(keeping("a")).await.unwrap();
    assert_eq!(said(&bench.run(&component, &[b"g1.7"]).await), "a g1.7 1");
}
