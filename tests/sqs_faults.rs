//! What the network and the service can do to a host, done by a proxy between the real binary and a real server: whatever it
//! is, nothing is lost, nothing that was settled runs again, and the host goes on by itself.

#![expect(clippy::indexing_slicing, reason = "what is not as expected fails the test")]

use std::{
    collections::BTreeSet,
    io::Write as _,
    net::TcpStream,
    time::{Duration, Instant},
};

use harness::{
    fault_proxy::{Entry, Fault, Rule},
    guests::obedient,
    host::Host,
    let_pass,
    sqs_host::{Called, RemoteQueue, Stage, between, metric, wait_metric},
    sqs_obedient::{GRANT, NEVER, begin, numbered, obeying, ready, sorted, visibility},
    sqs_server::{Kind, SqsServer},
    wait_for,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
const DELETE: &str = "DeleteMessageBatch";
const HIDE: &str = "ChangeMessageVisibilityBatch";
const RECEIVE: &str = "ReceiveMessage";
const SEND: &str = "SendMessageBatch";

/// How many attempts have ended like this, when none is under way.
fn attempts(host: &Host, outcome: &str) -> u64 {
    host.wait_idle();
    metric(
        host,
        &format!(r#"sandhog_attempts_total{{handler="in",outcome="{outcome}"}}"#),
    )
}

/// Waits until so many messages have come out at the end, and nothing is left; then nothing else may have come out.
fn assert_comes_out(host: &Host, source: &RemoteQueue, bodies: &[String]) {
    let number = u64::try_from(bodies.len()).unwrap();
    wait_for("the outputs", || (host.count("out", "ready") >= number).then_some(()));
    source.wait_gone();
    assert_eq!(sorted(host.take_all("out")), sorted(bodies.to_vec()));
}

fn throttled() -> Fault {
    Fault::Status(400, "RequestThrottled", "Rate exceeded")
}

// Deletions.

#[test]
fn a_deletion_that_was_done_and_whose_answer_was_lost_is_repeated() {
    let mut stage = Stage::new("answer-lost");
    let source = stage.queue("in", &visibility("12"), "");
    let (_place, host) = begin(&stage, "");
    let lost = stage.proxy.rule(Rule::new(Fault::DropAnswer).action(DELETE).times(2));
    let bodies = numbered("x", 0..8);
    source.put_all(&bodies);
    assert_comes_out(&host, &source, &bodies);
    wait_for("the deletions", || (lost.used() == 2).then_some(()));
    wait_for("the settlements", || {
        (metric(
            &host,
            r#"sandhog_settled_deliveries_total{queue="in",settlement="delete"}"#,
        ) == 8)
            .then_some(())
    });
    assert_eq!((attempts(&host, "success"), attempts(&host, "lease-lost")), (8, 0));
}

#[test]
fn a_deletion_that_was_confirmed_and_not_done_is_made_good_without_a_second_run() {
    let mut stage = Stage::new("pretended");
    let source = stage.queue("in", &visibility("2"), "");
    let (_place, host) = begin(&stage, "");
    let pretended = stage.proxy.rule(Rule::new(Fault::pretend()).action(DELETE).times(3));
    let bodies = numbered("x", 0..5);
    source.put_all(&bodies);
    source.wait_gone();
    assert_eq!(pretended.used(), 3);
    assert_eq!(attempts(&host, "success"), 5);
    assert!(attempts(&host, "already-handled") >= 3);
    assert_comes_out(&host, &source, &bodies);
}

#[test]
fn only_the_entries_of_a_deletion_that_failed_are_repeated() {
    let mut stage = Stage::new("partial");
    let source = stage.queue("in", &NEVER, "");
    let (_place, host) = begin(&stage, "");
    // The first call fails for every second of its entries.
    let picks = |entry: &Value| matches!(entry["Id"].as_str(), Some("1" | "3" | "5" | "7" | "9"));
    let fault = Fault::FailEntries(Box::new(picks), "InternalError", false);
    let full = |request: &Value| request["Entries"].as_array().is_some_and(|entries| entries.len() > 1);
    let failed = stage
        .proxy
        .rule(Rule::new(fault).action(DELETE).matching(full).times(1));
    let bodies = numbered("w300", 0..10);
    source.put_all(&bodies);
    assert_comes_out(&host, &source, &bodies);
    assert_eq!(failed.used(), 1);
    let calls = stage.calls(&source, DELETE);
    let spoiled = calls.iter().find(|call| call.fault.is_some()).unwrap();
    let refused = spoiled.answer["Failed"].as_array().unwrap();
    let deletions = stage.deletions(&source);
    assert!(!refused.is_empty());
    assert_eq!(
        deletions.len(),
        10 + refused.len(),
        "those that were done are not repeated: {deletions:#?}"
    );
    assert_eq!(attempts(&host, "success"), 10);
    wait_metric(
        &host,
        r#"sandhog_sqs_failed_settlements_total{queue="in"}"#,
        u64::try_from(refused.len()).unwrap(),
    );
}

// Leases.

#[test]
fn a_lease_outlives_extensions_that_are_throttled_for_a_while() {
    let mut stage = Stage::new("throttled");
    let source = stage.queue("in", &visibility("16"), "");
    let (_place, host) = begin(&stage, "");
    let throttled = stage.proxy.rule(Rule::new(throttled()).action(HIDE).times(4));
    source.put("w17000-a");
    assert_comes_out(&host, &source, &["w17000-a".to_owned()]);
    assert_eq!(throttled.used(), 4);
    assert_eq!(stage.handed(&source).len(), 1);
    assert_eq!((attempts(&host, "success"), attempts(&host, "lease-lost")), (1, 0));
    assert!(metric(&host, r#"sandhog_sqs_throttled_requests_total{queue="in"}"#) >= 4);
}

#[test]
fn a_lease_that_cannot_be_extended_is_lost_and_its_guest_interrupted_and_nothing_settled() {
    let mut stage = Stage::new("fenced");
    let source = stage.queue("in", &visibility("3"), "");
    let (_place, host) = begin(&stage, "");
    stage.proxy.rule(Rule::new(throttled()).action(HIDE));
    source.put("?w30000-a");
    let event = wait_for("the loss", || host.events("the lease was lost").pop());
    let handed = stage.handed(&source);
    assert_eq!(event["fields"]["message_id"], json!(handed[0].id), "{event}");
    assert_eq!(attempts(&host, "lease-lost"), 1);
    assert_eq!(metric(&host, r#"sandhog_lost_leases_total{queue="in"}"#), 1);
    stage.proxy.clear();
    assert_comes_out(&host, &source, &["?w30000-a".to_owned()]);
    // Nothing of the first delivery was settled: only the extensions that failed.
    let first = &handed[0].handle;
    let after = |call: &Called| call.handle == *first && call.fault.is_none();
    let settled: Vec<_> = [stage.deletions(&source), stage.hidings(&source)].concat();
    assert_eq!(settled.iter().filter(|call| after(call)).count(), 0, "{settled:#?}");
    assert_eq!(attempts(&host, "success"), 1);
}

/// An extension meets `fault` while the attempt ends with a retry in six seconds.
fn assert_retry_delay_stands(name: &str, fault: Fault) {
    let mut stage = Stage::new(name);
    let source = stage.queue("in", &visibility("30"), "");
    let (_place, host) = begin(&stage, "");
    let given = stage.proxy.rule(Rule::new(fault).action(HIDE).times(1));
    // The extension is due after 14.9 s and may take five, and the attempt ends while it is under way.
    source.put("?w16900a6-a");
    assert_comes_out(&host, &source, &["?w16900a6-a".to_owned()]);
    assert_eq!(given.used(), 1);
    let hidden = stage.hidings(&source);
    let (extension, retry) = (&hidden[0], hidden.iter().find(|each| each.seconds == Some(6)).unwrap());
    assert_eq!(extension.seconds, Some(30), "{hidden:#?}");
    assert!(
        extension.answered_at.is_some_and(|at| at <= retry.at),
        "the retry waited for it: {hidden:#?}"
    );
    let later = hidden
        .iter()
        .filter(|each| each.handle == retry.handle && each.at > retry.at);
    assert_eq!(later.count(), 0, "no extension after the retry: {hidden:#?}");
    let handed = stage.handed(&source);
    assert_eq!(handed.len(), 2);
    let waited = between(retry.at, handed[1].at) + 50 * MILLISECOND;
    assert!(waited >= 6 * SECOND, "it came back after {waited:?}");
    assert_eq!(attempts(&host, "lease-lost"), 0);
}

#[test]
fn an_extension_whose_answer_is_late_does_not_undo_a_retry_delay() {
    assert_retry_delay_stands("late-answer", Fault::DelayAnswer(4 * SECOND));
}

#[test]
fn an_extension_that_arrives_late_does_not_undo_a_retry_delay() {
    assert_retry_delay_stands("late-request", Fault::Delay(4 * SECOND));
}

#[test]
fn one_stale_receipt_costs_the_others_of_its_batch_nothing() {
    let mut stage = Stage::new("stale");
    let source = stage.queue("in", &visibility("16"), "");
    let (_place, host) = begin(&stage, "");
    let picks = |entry: &Value| entry["Id"] == "0";
    let fault = Fault::FailEntries(Box::new(picks), "ReceiptHandleIsInvalid", true);
    let full = |request: &Value| request["Entries"].as_array().is_some_and(|entries| entries.len() > 1);
    let refused = stage.proxy.rule(Rule::new(fault).action(HIDE).matching(full).times(1));
    let bodies = numbered("?w12000", 0..5);
    source.put_all(&bodies);
    assert_comes_out(&host, &source, &bodies);
    assert_eq!(refused.used(), 1);
    assert_eq!((attempts(&host, "lease-lost"), attempts(&host, "success")), (1, 5));
    assert_eq!(stage.handed(&source).len(), 6);
}

// Receives.

#[test]
fn messages_of_an_answer_that_was_lost_or_cut_come_again_after_the_visibility_timeout() {
    let mut stage = Stage::new("receive-lost");
    let source = stage.queue("in", &visibility("2"), "");
    let bodies = numbered("x", 0..30);
    source.put_all(&bodies);
    let lost = stage.proxy.rule(Rule::new(Fault::DropAnswer).action(RECEIVE).times(1));
    let cut = stage
        .proxy
        .rule(Rule::new(Fault::Cut).action(RECEIVE).after(1).times(1));
    let (_place, host) = begin(&stage, "");
    assert_comes_out(&host, &source, &bodies);
    assert_eq!((lost.used(), cut.used()), (1, 1));
    assert_eq!(attempts(&host, "success"), 30);
}

/// The host counted the visibility timeout from the arrival of the answer, and ran what another consumer had.
#[test]
fn a_message_that_comes_when_another_consumer_may_have_it_is_not_run() {
    let mut stage = Stage::new("late-receive");
    let source = stage.queue("in", &visibility("3"), "");
    source.put("x-a");
    let late = stage
        .proxy
        .rule(Rule::new(Fault::DelayAnswer(6 * SECOND)).action(RECEIVE).times(1));
    let place = obeying(&stage, "");
    let host = place.start();
    wait_for("the receive", || (late.used() == 1).then_some(()));
    let request = json!({ "WaitTimeSeconds": 1, "VisibilityTimeout": 600 });
    let other = wait_for("the other consumer", || {
        source.receive_with(&source.url, request.clone()).pop()
    });
    assert_eq!((&*other.body, other.receive_count()), ("x-a", 2));
    let event = wait_for("the answer", || host.events("a message came so long after").pop());
    assert_eq!(event["fields"]["id"], json!(other.id), "{event}");
    wait_metric(&host, r#"sandhog_lost_leases_total{queue="in"}"#, 1);
    // Its receipt still works here: nothing is done with it.
    source.put("x-b");
    wait_for("the next message", || host.take_one("out").filter(|body| body == "x-b"));
    assert_eq!(attempts(&host, "success"), 1);
    let handle = stage.handed(&source)[0].handle.clone();
    let calls = [stage.deletions(&source), stage.hidings(&source)].concat();
    assert!(calls.iter().all(|call| call.handle != handle), "{calls:#?}");
    source.delete(&other.handle).unwrap();
    source.wait_gone();
}

#[test]
fn a_message_that_comes_late_in_a_long_poll_is_run_though_its_visibility_timeout_is_shorter() {
    let mut stage = Stage::new("late-in-poll");
    let source = stage.queue("in", &visibility("9"), "");
    let (_place, host) = begin(&stage, "");
    // So long that a single poll of twenty seconds would have begun before.
    let_pass(10 * SECOND);
    source.put("x-a");
    assert_comes_out(&host, &source, &["x-a".to_owned()]);
    assert_eq!(stage.handed(&source).len(), 1);
    let waits = |entry: &Entry| entry.request["WaitTimeSeconds"].as_u64().unwrap();
    assert!(stage.calls(&source, RECEIVE).iter().all(|entry| waits(entry) <= 6));
}

#[test]
fn the_answer_of_a_fifo_queue_that_was_lost_is_asked_for_again() {
    let Some(mut stage) = Stage::on(Kind::MiniStack, "replay") else {
        return;
    };
    let source = stage.fifo("in", &NEVER, "");
    let bodies = ["x-1@g", "x-2@g", "x-1@h"].map(str::to_owned);
    source.put_all_in(&[("g", &bodies[0]), ("g", &bodies[1]), ("h", &bodies[2])]);
    // No server of the tests answers an attempt a second time, so what SQS would say is said here: an answer that never came.
    let lost = source.expect(
        RECEIVE,
        &json!({ "QueueUrl": source.url, "MaxNumberOfMessages": 10, "MessageSystemAttributeNames": ["All"] }),
    );
    assert_eq!(lost["Messages"].as_array().unwrap().len(), 3);
    stage.proxy.rule(Rule::new(Fault::DropRequest).action(RECEIVE).times(1));
    stage
        .proxy
        .rule(Rule::new(Fault::answer(lost)).action(RECEIVE).times(1));
    let (_place, host) = begin(&stage, "");
    // Ten minutes before the visibility timeout would bring them.
    assert_comes_out(&host, &source, &bodies);
    let calls = stage.calls(&source, RECEIVE);
    let attempts: Vec<_> = calls
        .iter()
        .map(|call| call.request["ReceiveRequestAttemptId"].as_str().unwrap())
        .collect();
    assert_eq!(attempts[0], attempts[1], "the same attempt");
    assert!(
        attempts[2..].iter().all(|attempt| *attempt != attempts[0]),
        "and then others"
    );
}

#[test]
fn a_receive_that_nobody_answers_is_given_up_and_made_anew() {
    let mut stage = Stage::new("hang");
    // A shorter visibility timeout makes polls shorter.
    let source = stage.queue("in", &NEVER, "");
    let hanging = stage.proxy.rule(Rule::new(Fault::Hang).action(RECEIVE).times(1));
    let (_place, host) = begin(&stage, "");
    wait_for("the receive", || (hanging.used() == 1).then_some(()));
    let asked = Instant::now();
    source.put("x-a");
    // Ten seconds after it should have been back.
    wait_for("the report", || host.events("a receive failed").pop());
    let given_up = asked.elapsed();
    assert_comes_out(&host, &source, &["x-a".to_owned()]);
    println!(
        "a receive that hung was given up after {given_up:?}, and its successor worked after {:?}",
        asked.elapsed()
    );
    assert!(given_up >= 29 * SECOND, "{given_up:?}");
    assert_eq!(stage.calls(&source, RECEIVE)[0].request["WaitTimeSeconds"], 20);
}

#[test]
fn a_receive_that_a_reload_drops_costs_no_message_its_visibility_timeout() {
    let mut stage = Stage::new("adopted");
    let source = stage.queue("in", &NEVER, "");
    let place = obeying(&stage, "");
    let host = ready(&place);
    let parked = || {
        stage
            .calls(&source, RECEIVE)
            .iter()
            .filter(|call| call.answered_at.is_none())
            .count()
    };
    for number in 0..5_u32 {
        wait_for("a parked poll", || (parked() == 1).then_some(()));
        place.install(
            "in",
            &obedient("out"),
            &format!("concurrency = {}\n{GRANT}", 20 + number),
        );
        let body = format!("x-{number}");
        source.put(&body);
        wait_for("the message", || host.take_one("out").filter(|taken| *taken == body));
    }
    source.wait_gone();
    assert!(stage.handed(&source).iter().all(|each| each.count == 1));
}

// Dead letters.

/// A queue without a handler and thirty dead letters of it, which the host moves one by one.
fn with_dead_letters(stage: &mut Stage) -> (RemoteQueue, RemoteQueue) {
    let source = stage.queue("in", &NEVER, "dead-letter = \"dead\"\n");
    let dead = stage.queue("dead", &NEVER, "");
    dead.put_all(&numbered("x", 0..30));
    (source, dead)
}

/// Asks for a redrive; the host has sent the first messages back and is about to delete them.
fn begin_redrive(stage: &Stage, host: &Host, dead: &RemoteQueue) -> TcpStream {
    let address = host.url.strip_prefix("http://").unwrap();
    let mut client = TcpStream::connect(address).unwrap();
    let request = format!("POST /queues/in/dead/redrive HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\n\r\n");
    client.write_all(request.as_bytes()).unwrap();
    wait_for("the deletion", || stage.calls(dead, DELETE).pop());
    client
}

/// Each message is in one of both queues.
fn assert_in_one_place(source: &RemoteQueue, dead: &RemoteQueue) -> u64 {
    let moved = wait_for("each message to be in one place", || {
        let (moved, left) = (source.numbers(), dead.numbers());
        (moved.0 + left.0 + left.1 == 30).then_some(moved.0)
    });
    assert!(moved >= 10, "{moved} were moved");
    moved
}

/// The whole redrive was dropped when its client left, between the send and the deletion: ten messages were in both queues.
#[test]
fn a_redrive_whose_client_leaves_tears_no_message_in_two() {
    let mut stage = Stage::new("client-leaves");
    let (source, dead) = with_dead_letters(&mut stage);
    stage.proxy.rule(Rule::new(Fault::Delay(SECOND)).action(DELETE));
    let host = stage.place().start();
    drop(begin_redrive(&stage, &host, &dead));
    wait_for("the deletion", || {
        stage
            .calls(&dead, DELETE)
            .pop()
            .filter(|call| call.answered_at.is_some())
    });
    assert_in_one_place(&source, &dead);
    // And again for the rest.
    stage.proxy.clear();
    wait_for("the rest", || {
        host.post("/queues/in/dead/redrive", &json!({}));
        (source.numbers().0 == 30 && dead.numbers() == (0, 0, 0)).then_some(())
    });
}

#[test]
fn a_host_that_stops_tears_no_redrive_in_two() {
    let mut stage = Stage::new("redrive-stops");
    let (source, dead) = with_dead_letters(&mut stage);
    // The second one is under way when the listener, after five seconds, waits for no request any longer.
    stage
        .proxy
        .rule(Rule::new(Fault::Delay(3400 * MILLISECOND)).action(DELETE));
    let host = stage.place().start();
    let _client = begin_redrive(&stage, &host, &dead);
    let (status, log) = host.terminate();
    assert_eq!(status.code(), Some(0), "{log:#?}");
    assert_in_one_place(&source, &dead);
}

/// More than a thousand dead letters were moved one by one, until at most a thousand were left, though SQS moves them by itself.
#[test]
fn a_redrive_of_many_is_left_to_the_server_where_it_can_move_them() {
    let mut stage = Stage::new("many-dead");
    let dead = stage.queue("dead", &NEVER, "");
    let policy = json!({ "deadLetterTargetArn": dead.arn(), "maxReceiveCount": 5 }).to_string();
    let source = stage.queue("in", &[NEVER[0], ("RedrivePolicy", &policy)], "");
    dead.put_all(&numbered("x", 0..1200));
    // What this server does not do is said here.
    for (action, answer) in [
        ("ListDeadLetterSourceQueues", json!({ "queueUrls": [source.url] })),
        ("StartMessageMoveTask", json!({ "TaskHandle": "task" })),
        (
            "ListMessageMoveTasks",
            json!({ "Results": [{ "Status": "COMPLETED", "ApproximateNumberOfMessagesMoved": 1200 }] }),
        ),
    ] {
        stage.proxy.rule(Rule::new(Fault::answer(answer)).action(action));
    }
    let host = stage.place().start();
    let answer = host.post("/queues/in/dead/redrive", &json!({}));
    assert_eq!(answer, json!({ "messages": 1200 }));
    assert_eq!(stage.proxy.count("StartMessageMoveTask"), 1);
    assert!(stage.calls(&source, SEND).is_empty(), "and none is sent by the host");
}

// Everything.

#[test]
fn requests_that_arrive_twice_do_nothing_twice() {
    let mut stage = Stage::new("twice");
    let source = stage.queue("in", &visibility("10"), "");
    for action in [DELETE, HIDE] {
        stage.proxy.rule(Rule::new(Fault::Duplicate).action(action));
    }
    // What the first of two receives takes is hidden, and nobody has it. If that went on for ever, polls in step with the
    // visibility timeout would never see the last messages.
    let lost = stage.proxy.rule(Rule::new(Fault::Duplicate).action(RECEIVE).times(4));
    let (_place, host) = begin(&stage, "");
    let mut bodies = numbered("x", 0..40);
    bodies.extend(numbered("?a1", 0..10));
    // Their leases are extended.
    bodies.extend(numbered("w6000", 0..5));
    source.put_all(&bodies);
    assert_comes_out(&host, &source, &bodies);
    assert_eq!(attempts(&host, "success"), 55);
    assert_eq!(lost.used(), 4);
}

#[test]
fn a_service_that_fails_for_some_seconds_loses_nothing() {
    let mut stage = Stage::new("failing");
    let source = stage.queue("in", &visibility("5"), "");
    let (_place, host) = begin(&stage, "");
    let bodies = numbered("x", 0..200);
    source.put_all(&bodies[..100]);
    wait_for("some outputs", || (host.count("out", "ready") > 0).then_some(()));
    // Receives alone first: where deletions fail as well no slot comes free for a receive.
    let error = Fault::Status(500, "InternalError", "We encountered an internal error");
    stage.proxy.rule(Rule::new(error).action(RECEIVE));
    source.put_all(&bodies[100..]);
    wait_for("the report", || host.events("a receive failed").pop());
    stage.proxy.clear();
    stage
        .proxy
        .rule(Rule::new(Fault::Status(503, "ServiceUnavailable", "")));
    let_pass(2 * SECOND);
    stage.proxy.clear();
    assert_comes_out(&host, &source, &bodies);
}

#[test]
fn a_server_that_is_down_is_reported_once_and_found_again() {
    let mut stage = Stage::new("down");
    let source = stage.queue("in", &visibility("3"), "");
    let (_place, host) = begin(&stage, "");
    let bodies = numbered("x", 0..20);
    source.put("?w30000-under-way");
    source.put_all(&bodies[..10]);
    wait_for("ten outputs", || (host.count("out", "ready") == 10).then_some(()));
    stage.proxy.down();
    source.put_all(&bodies[10..]);
    wait_for("the report", || host.events("a receive failed").pop());
    // What was under way is fenced, since nobody can hold it any longer.
    wait_for("the loss", || host.events("the lease was lost").pop());
    let_pass(4 * SECOND);
    assert_eq!(host.count("out", "ready"), 10);
    stage.proxy.up();
    wait_for("the end", || host.events("receiving again").pop());
    let all = [bodies, vec!["?w30000-under-way".to_owned()]].concat();
    assert_comes_out(&host, &source, &all);
    let reports = host.events("a receive failed; trying").len();
    assert!(
        reports <= 2,
        "one for the polls that were cut, one for those that were refused: {reports}"
    );
    assert_eq!(host.events("receiving again").len(), 1);
}

#[test]
fn a_queue_that_is_deleted_is_missed_once_and_found_when_it_is_there_again() {
    let mut stage = Stage::new("recreated");
    let source = stage.queue("in", &visibility("30"), "");
    let (_place, host) = begin(&stage, "");
    source.put("x-before");
    wait_for("the first output", || host.take_one("out"));
    source.delete_queue(&source.url);
    // What this server says to a poll that is under way then is something else.
    let missed = || {
        let mut reports = host.events("a receive failed");
        reports.retain(|report| report.to_string().contains("there is no queue"));
        reports
    };
    let report = wait_for("the report", || missed().pop());
    let said = report["fields"]["error"].as_str().unwrap();
    assert!(
        said.contains(&source.name) && said.contains("create it or correct its url"),
        "{said}"
    );
    let again = source.create_queue(&source.name, &visibility("30"));
    assert_eq!(again, source.url);
    source.put("x-after");
    assert_comes_out(&host, &source, &["x-after".to_owned()]);
    assert_eq!(missed().len(), 1, "{:#?}", host.log());
    host.event("receiving again");
    assert_eq!(host.events("receiving again").len(), 1);
}

/// Every call is refused like this for a while: that is reported once, in these words, and it goes on.
fn assert_reported_once(name: &str, refusal: Fault, words: &[&str]) {
    let mut stage = Stage::new(name);
    let source = stage.queue("in", &NEVER, "");
    let refused = stage.proxy.rule(Rule::new(refusal).action(RECEIVE).times(3));
    let (_place, host) = begin(&stage, "");
    source.put("x-a");
    assert_comes_out(&host, &source, &["x-a".to_owned()]);
    assert_eq!(refused.used(), 3);
    host.event("receiving again");
    let reports = host.events("a receive failed");
    assert_eq!(reports.len(), 1, "{reports:#?}");
    let said = reports[0]["fields"]["error"].as_str().unwrap();
    for words in words {
        assert!(said.contains(words), "{words} in {said}");
    }
    assert_eq!(host.events("receiving again").len(), 1);
    assert_eq!(host.text("/ready").0, 200);
}

#[test]
fn a_denied_receive_is_reported_once_with_the_permission_that_it_needs() {
    let refusal = Fault::Status(
        403,
        "AccessDenied",
        "User is not authorized to perform: sqs:receivemessage",
    );
    assert_reported_once(
        "denied",
        refusal,
        &["access denied", "need sqs:ReceiveMessage on this queue"],
    );
}

#[test]
fn credentials_that_have_expired_are_reported_once_and_recover() {
    let refusal = Fault::Status(
        403,
        "ExpiredToken",
        "The security token included in the request is expired",
    );
    assert_reported_once("expired", refusal, &["credentials have expired"]);
}

#[test]
fn throttled_receives_are_reported_once_and_recover() {
    assert_reported_once("throttled-receives", throttled(), &["too many requests"]);
}

// Sends and dead letters.

#[test]
fn a_message_whose_sends_fail_stays_and_sends_later() {
    let mut stage = Stage::new("sends-fail");
    let source = stage.queue("in", &NEVER, "");
    let out = stage.queue("out", &[], "");
    stage
        .proxy
        .rule(Rule::new(Fault::Status(500, "InternalError", "")).action(SEND));
    let (_place, host) = begin(&stage, "");
    let bodies = numbered("x", 0..5);
    source.put_all(&bodies);
    wait_for("the refusal", || {
        host.events("what the handler sent or wrote was refused").pop()
    });
    assert!(
        stage.deletions(&source).is_empty(),
        "nothing is deleted before it was sent"
    );
    stage.proxy.clear();
    // One entry in a batch.
    let fault = Fault::fail_all_entries("InternalError", false);
    stage.proxy.rule(Rule::new(fault).action(SEND).times(1));
    source.wait_gone();
    assert_eq!(out.take(), bodies);
}

#[test]
fn a_send_to_a_fifo_queue_whose_answer_was_lost_is_not_sent_twice() {
    let Some(mut stage) = Stage::on(Kind::LocalStack, "send-lost") else {
        return;
    };
    let source = stage.fifo("in", &visibility("600"), "");
    let out = stage.fifo("out", &[], "");
    // More often than the SDK repeats it, so that the whole attempt is repeated.
    let lost = stage.proxy.rule(Rule::new(Fault::DropAnswer).action(SEND).times(4));
    let (_place, host) = begin(&stage, "");
    source.put_all_in(&[("g", "x-1"), ("g", "x-2")]);
    source.wait_gone();
    assert_eq!(lost.used(), 4);
    assert_eq!(out.take(), ["x-1", "x-2"]);
    assert!(attempts(&host, "retry") >= 1);
}

#[test]
fn what_the_dead_letter_queue_does_not_take_stays_and_goes_there_later() {
    let mut stage = Stage::new("unburied");
    let dead = stage.queue("in-dead", &[], "");
    let source = stage.queue("in", &NEVER, "dead-letter = \"in-dead\"\n");
    stage.proxy.rule(Rule::new(Fault::DropRequest).action(SEND));
    let place = stage.place();
    place.install(
        "in",
        &obedient("out"),
        "[grant]\nsend = [\"out\"]\n[retry]\nmin = \"1s\"\nmax = \"3s\"\n",
    );
    let host = ready(&place);
    source.put("j-rejected");
    wait_for("the report", || {
        host.events("a message could not become a dead letter").pop()
    });
    let hidden = wait_for("the retry", || stage.hidings(&source).pop());
    assert_eq!(hidden.seconds, Some(3), "the longest backoff");
    wait_metric(&host, r#"sandhog_dead_letters_not_taken_total{queue="in"}"#, 1);
    assert_eq!((dead.numbers(), stage.deletions(&source).len()), ((0, 0, 0), 0));
    stage.proxy.clear();
    source.wait_gone();
    let letters = dead.receive(&dead.url, 10, 1);
    assert_eq!(letters.len(), 1);
    let said = letters[0]
        .attributes
        .pointer("/sandhog-dead-letter/StringValue")
        .unwrap();
    assert!(said.as_str().unwrap().contains("because"), "{said}");
}

#[test]
fn a_dead_letter_whose_deletion_fails_is_not_sent_twice() {
    let mut stage = Stage::new("buried");
    let dead = stage.queue("in-dead", &[], "");
    let source = stage.queue("in", &NEVER, "dead-letter = \"in-dead\"\n");
    let fault = Fault::fail_all_entries("InternalError", false);
    let failed = stage.proxy.rule(Rule::new(fault).action(DELETE).times(3));
    let (_place, _host) = begin(&stage, "");
    source.put("j-rejected");
    source.wait_gone();
    assert_eq!(failed.used(), 3);
    assert_eq!(dead.take(), ["j-rejected"]);
}

// All of it.

/// Some seconds of every fault at random, and twice a kill.
fn assert_survives_chaos(kind: Kind, seed: u64) {
    let Some(server) = SqsServer::get(kind) else { return };
    let mut stage = Stage::at(server, "chaos");
    let source = stage.queue("in", &visibility("2"), "");
    let place = obeying(&stage, "concurrency = 20\n");
    let mut random = StdRng::seed_from_u64(seed);
    let bodies: Vec<_> = (0..400)
        .map(|number| {
            let command = ["x", "x", "x", "?a0", "?b", "w100", "w2500"][random.random_range(0..7)];
            format!("{command}-{number:04}")
        })
        .collect();
    source.put_all(&bodies);
    for _ in 0..3 {
        let host = ready(&place);
        for _ in 0..12 {
            let fault = match random.random_range(0..10) {
                0 => Fault::Delay(300 * MILLISECOND),
                1 => Fault::DelayAnswer(300 * MILLISECOND),
                2 => Fault::DropRequest,
                3 => Fault::DropAnswer,
                4 => Fault::Cut,
                5 => Fault::Duplicate,
                6 => Fault::Status(500, "InternalError", ""),
                7 => throttled(),
                8 => Fault::fail_all_entries("InternalError", false),
                _ => Fault::pretend(),
            };
            let times = random.random_range(1..4);
            let action = [RECEIVE, DELETE, HIDE][random.random_range(0..3)];
            // To pretend that something was received would be a fault of no network.
            if action == RECEIVE && matches!(fault, Fault::Answer(_) | Fault::FailEntries(..)) {
                continue;
            }
            stage.proxy.rule(Rule::new(fault).action(action).times(times));
            let_pass(random.random_range(50..200) * MILLISECOND);
        }
        host.kill();
        stage.proxy.clear();
    }
    let host = ready(&place);
    source.wait_gone();
    let out = sorted(host.take_all("out"));
    let different: BTreeSet<_> = out.iter().cloned().collect();
    assert_eq!(
        different.into_iter().collect::<Vec<_>>(),
        sorted(bodies),
        "every message"
    );
    assert_eq!(out.len(), 400, "each once, since this host knows what it has handled");
}

#[test]
fn every_message_comes_out_once_whatever_happens_on_the_way() {
    assert_survives_chaos(Kind::Rustack, 0xc4a0);
}

#[test]
fn every_message_comes_out_once_whatever_happens_on_the_way_to_another_server() {
    assert_survives_chaos(Kind::MiniStack, 0xc4a1);
}

#[test]
fn every_message_comes_out_once_whatever_happens_on_the_way_to_our_own_host() {
    assert_survives_chaos(Kind::Sandhog, 0xc4a2);
}

// Costs.

#[test]
fn a_message_costs_a_quarter_of_a_request_when_there_is_enough_to_do() {
    const MESSAGES: u32 = 1000;
    let mut stage = Stage::new("cost");
    let source = stage.queue("in", &visibility("60"), "");
    source.put_all(&numbered("d", 0..1000));
    let (_place, host) = begin(&stage, "concurrency = 20\n");
    source.wait_gone();
    let (receives, deletes, hides) = (
        stage.calls(&source, RECEIVE).len(),
        stage.calls(&source, DELETE).len(),
        stage.calls(&source, HIDE).len(),
    );
    let requests = u32::try_from(receives + deletes + hides).unwrap();
    let each = f64::from(requests) / f64::from(MESSAGES);
    println!("{each} requests a message: {receives} receives, {deletes} deletions, {hides} changes of visibility");
    assert!(
        each <= 0.25,
        "{each} requests a message: {receives}, {deletes}, {hides}"
    );
    drop(host);
}
