//! An asynchronous handler waits for several things at once; its verdicts, its end and what is granted are those of any handler.

use std::time::Duration;

use harness::bench::{Bench, policy};
use harness::built::asynchronous_guest;
use sandhog_executor::{
    CallReport, Executor as _, GuestPolicy, Verdict,
    policy::{HttpGrant, OriginPattern, Reuse},
};
use sandhog_queue::FailureKind;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// The policy of the bench, with requests to this origin.
fn reaching(origin: &str) -> GuestPolicy {
    let mut policy = policy();
    policy.grants.http = Some(HttpGrant {
        origins: vec![OriginPattern::new(origin).unwrap()],
        addresses: Vec::new(),
    });
    policy
}

async fn report(bench: &Bench, script: &str, policy: &GuestPolicy) -> CallReport {
    let component = bench.load_with(asynchronous_guest(), policy).await.unwrap();
    let report = bench.run_with(&component, &[script.as_bytes()], policy).await;
    assert_eq!(bench.executor.live_instances(), 0);
    report
}

fn sent(report: &CallReport) -> Vec<String> {
    let bodies = report.sends.iter().map(|send| send.message.body.to_vec());
    bodies.map(|body| String::from_utf8(body).unwrap()).collect()
}

fn failure(report: &CallReport) -> (FailureKind, &str) {
    match report.verdicts.as_slice() {
        [Verdict::Failed(failure)] => (failure.kind, &failure.reason),
        other => panic!("{other:?}"),
    }
}

/// Reads a request's head, and answers all connections once this many have asked.
async fn answer_together(listener: TcpListener, many: usize) {
    let mut asked: Vec<TcpStream> = Vec::new();
    for _ in 0..many {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        asked.push(stream);
    }
    for mut stream in asked {
        let answer = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
        stream.write_all(answer).await.unwrap();
    }
}

#[tokio::test]
async fn requests_that_are_answered_only_together_are_awaited_together() {
    const MANY: usize = 5;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let mut server = JoinSet::new();
    server.spawn(answer_together(listener, MANY));
    let script = vec![format!("get {origin}/"); MANY].join("\n");
    let report = report(&Bench::new(), &script, &reaching(&origin)).await;
    assert_eq!(report.verdicts, [Verdict::Success]);
    assert_eq!(sent(&report), [["204"; MANY].join("\n")]);
    server.join_next().await.unwrap().unwrap();
}

#[tokio::test]
async fn a_request_that_is_not_granted_fails_in_the_guest() {
    let script = "get http://127.0.0.1:9/";
    let report = report(&Bench::new(), script, &reaching("http://example.com")).await;
    assert_eq!(sent(&report), ["failed"]);
}

#[tokio::test]
async fn without_the_grant_it_is_refused_with_the_line_to_add() {
    let bench = Bench::new();
    let error = bench.load(asynchronous_guest()).await.unwrap_err().to_string();
    assert!(error.contains("http = ["), "{error}");
}

#[tokio::test]
async fn it_rejects_and_it_traps() {
    let bench = Bench::new();
    let policy = reaching("http://example.com");
    let rejected = report(&bench, "wait 1\nreject", &policy).await;
    assert_eq!(failure(&rejected), (FailureKind::Reject, "as I was told"));
    assert!(sent(&rejected).is_empty());
    let trapped = report(&bench, "wait 1\ntrap", &policy).await;
    assert_eq!(failure(&trapped).0, FailureKind::Trap);
}

#[tokio::test]
async fn its_waiting_ends_at_the_timeout() {
    let mut policy = reaching("http://example.com");
    policy.timeout = Duration::from_millis(200);
    let report = report(&Bench::new(), "wait 3600000\nwait 3600000", &policy).await;
    let (kind, reason) = failure(&report);
    assert_eq!(kind, FailureKind::Timeout, "{reason}");
}

#[tokio::test]
async fn what_it_leaves_under_way_does_not_send_after_its_answer() {
    let report = report(&Bench::new(), "behind 50\nwait 1", &reaching("http://example.com")).await;
    assert_eq!(report.verdicts, [Verdict::Success]);
    assert_eq!(sent(&report), ["went on\nwaited"]);
}

#[tokio::test]
async fn none_of_its_instances_can_be_used_again() {
    let mut policy = reaching("http://example.com");
    policy.reuse = Some(Reuse {
        max: 10,
        idle: Duration::from_mins(1),
    });
    let error = Bench::new().load_with(asynchronous_guest(), &policy).await.unwrap_err();
    assert!(error.to_string().contains("it is asynchronous"), "{error}");
}
