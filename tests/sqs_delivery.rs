//! What happens to a message on SQS, seen from outside: the real binary, real components, real servers, and a proxy between
//! them that sees every request.

#![expect(clippy::indexing_slicing, reason = "what is not as expected fails the test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Output,
    thread,
    time::{Duration, Instant},
};

use harness::{
    fault_proxy::{Entry, Fault, Gate, Rule},
    guests::{batch_handler, forward, no_op, obedient},
    host::{Host, Place},
    let_pass,
    sqs_client::Received,
    sqs_host::{Called, RemoteQueue, Stage, between, metric, wait_metric},
    sqs_obedient::{GRANT, NEVER, begin, numbered, obeying, ready, sorted, visibility},
    sqs_server::{Kind, SqsServer},
    wait_for,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);

/// How many attempts of the first handler are under way.
fn in_flight(host: &Host) -> u64 {
    host.get("/handlers")["handlers"][0]["in-flight"].as_u64().unwrap()
}

fn wait_in_flight(host: &Host, number: u64) {
    wait_for(&format!("{number} attempts under way"), || {
        (in_flight(host) == number).then_some(())
    });
}

/// Keeps every attempt that deletes its message under way until the gate is opened.
fn hold_deletions(stage: &Stage) -> Gate {
    let gate = Gate::default();
    let hold = Fault::Hold(gate.clone());
    stage.proxy.rule(Rule::new(hold).action("DeleteMessageBatch"));
    gate
}

/// How many attempts have ended like this, when none is under way.
fn attempts(host: &Host, outcome: &str) -> u64 {
    host.wait_idle();
    metric(
        host,
        &format!(r#"sandhog_attempts_total{{handler="in",outcome="{outcome}"}}"#),
    )
}

/// Fails unless every body was handed out so often.
fn assert_handed(stage: &Stage, queue: &RemoteQueue, times: usize) {
    let others: Vec<_> = stage
        .times_handed(queue)
        .into_iter()
        .filter(|(_, handed)| *handed != times)
        .collect();
    assert!(others.is_empty(), "not received {times} times: {others:?}");
}

/// Runs a test on these servers at the same time.
fn on_each(servers: Vec<&'static SqsServer>, test: impl Fn(&'static SqsServer) + Sync) {
    thread::scope(|scope| {
        for server in servers {
            scope.spawn(|| test(server));
        }
    });
}

// What a message comes to.

#[test]
fn on_every_server_success_deletes_the_message() {
    on_each(SqsServer::all(), |server| {
        let mut stage = Stage::at(server, "success");
        let source = stage.queue("in", &NEVER, "");
        let (_place, host) = begin(&stage, "");
        let bodies = numbered("x", 0..25);
        source.put_all(&bodies);
        wait_for("the outputs", || (host.count("out", "ready") == 25).then_some(()));
        source.wait_gone();
        assert_eq!(sorted(host.take_all("out")), bodies, "{server:?}");
        assert_handed(&stage, &source, 1);
    });
}

#[test]
fn a_retry_waits_as_long_as_it_says() {
    let mut stage = Stage::new("retry");
    let source = stage.queue("in", &NEVER, "");
    let place = stage.place();
    let manifest = "[grant]\nsend = [\"out\"]\n[retry]\nmin = \"2s\"\nmax = \"2s\"\n";
    place.install("in", &obedient("out"), manifest);
    let host = ready(&place);
    source.put_all(&["?a3-after", "?b-backoff", "?a0-at-once"]);
    wait_for("the outputs", || (host.count("out", "ready") == 3).then_some(()));
    let (handed, hidden) = (stage.handed(&source), stage.hidings(&source));
    for (body, seconds) in [("?a3-after", 3), ("?b-backoff", 2), ("?a0-at-once", 0)] {
        let receives: Vec<_> = handed.iter().filter(|each| each.body == body).collect();
        assert_eq!(
            receives.iter().map(|each| each.count).collect::<Vec<_>>(),
            [1, 2],
            "{body}"
        );
        let retry = hidden.iter().find(|each| each.handle == receives[0].handle).unwrap();
        assert_eq!(retry.seconds, Some(seconds), "{body}");
        // Servers count in whole seconds or in milliseconds.
        let waited = between(retry.at, receives[1].at) + Duration::from_millis(50);
        assert!(
            waited >= Duration::from_secs(seconds),
            "{body} came back after {waited:?}"
        );
        assert!(
            waited < Duration::from_secs(seconds + 15),
            "{body} came back after {waited:?}"
        );
    }
}

/// The attribute that a dead letter bears, with its body, in the order of the bodies.
fn provenances(dead: &RemoteQueue, number: usize) -> Vec<(String, Value)> {
    let mut found = BTreeMap::new();
    wait_for(&format!("{number} dead letters in {}", dead.name), || {
        for letter in dead.receive(&dead.url, 10, 1) {
            let text = letter.attributes.pointer("/sandhog-dead-letter/StringValue");
            let provenance = text
                .and_then(Value::as_str)
                .map(|text| serde_json::from_str(text).unwrap());
            let before = found.insert(letter.body.clone(), provenance.unwrap_or(Value::Null));
            assert!(before.is_none(), "{} is there twice", letter.body);
        }
        (found.len() >= number).then_some(())
    });
    found.into_iter().collect()
}

#[test]
fn each_failure_becomes_a_dead_letter_that_says_what_it_was() {
    let mut stage = Stage::new("failures");
    let dead = stage.queue("in-dead", &[], "");
    let source = stage.queue("in", &NEVER, "dead-letter = \"in-dead\"\nmax-receives = 2\n");
    let (_place, host) = begin(&stage, "timeout = \"400ms\"\n");
    source.put_all(&[
        "a0-retried",
        "b-backed-off",
        "j-rejected",
        "m-greedy",
        "s-spins",
        "t-traps",
        "x-good",
    ]);
    let letters = provenances(&dead, 6);
    source.wait_gone();
    assert_eq!(host.take_all("out"), ["x-good"]);
    let expected = [
        ("a0-retried", "retry", 2, "because"),
        ("b-backed-off", "retry", 2, "because"),
        ("j-rejected", "reject", 1, "because"),
        ("m-greedy", "memory", 2, "memory"),
        ("s-spins", "timeout", 2, "timeout of 400ms"),
        ("t-traps", "trap", 2, "unreachable"),
    ];
    let handed = stage.handed(&source);
    for ((body, said), (expected_body, kind, receives, reason)) in letters.iter().zip(expected) {
        assert_eq!(body, expected_body);
        assert_eq!(
            (&said["kind"], &said["receive-count"]),
            (&json!(kind), &json!(receives)),
            "{body}: {said}"
        );
        assert!(said["reason"].as_str().unwrap().contains(reason), "{said}");
        let id = &handed.iter().find(|each| each.body == *body).unwrap().id;
        assert_eq!(
            (&said["id"], &said["queue"], &said["source"], &said["handler"]),
            (&json!(id), &json!("in"), &json!(source.name), &json!("in"))
        );
        assert_eq!(said["component"].as_str().unwrap().len(), 64, "{said}");
    }
    assert_eq!(letters.len(), expected.len());
}

#[test]
fn an_answer_of_a_wrong_shape_becomes_a_dead_letter_that_says_so() {
    let mut stage = Stage::new("wrong-answer");
    let dead = stage.queue("in-dead", &[], "");
    let source = stage.queue("in", &NEVER, "dead-letter = \"in-dead\"\nmax-receives = 1\n");
    let place = stage.place();
    // No results at all, whatever the number of messages.
    let none = "(i32.store (i32.const 16) (i32.const 1024)) (i32.store (i32.const 20) (i32.const 0)) (i32.const 16)";
    place.install("in", &batch_handler(none), "");
    let _host = ready(&place);
    source.put("body");
    let letters = provenances(&dead, 1);
    assert_eq!(letters[0].1["kind"], "wrong-answer", "{letters:?}");
    source.wait_gone();
}

#[test]
fn a_redrive_policy_moves_what_fails_and_takes_what_is_rejected() {
    let mut stage = Stage::new("redrive");
    let dead = stage.unknown_queue("dead", &[]);
    let policy = json!({ "deadLetterTargetArn": dead.arn(), "maxReceiveCount": 2 }).to_string();
    let source = stage.queue("in", &[NEVER[0], ("RedrivePolicy", &policy)], "");
    let (_place, host) = begin(&stage, "");
    // A receive after the last moves it.
    source.put_all(&["a0-fails", "j-rejected"]);
    let letters = provenances(&dead, 2);
    source.wait_gone();
    assert_eq!(
        letters[0],
        ("a0-fails".to_owned(), Value::Null),
        "the server has moved it as it was"
    );
    assert_eq!(letters[1].1["kind"], "reject");
    assert_eq!(
        stage.proxy.count("SendMessageBatch"),
        1,
        "the host has sent the rejected one only"
    );
    assert_eq!(stage.times_handed(&source)["a0-fails"], 2);
    assert_eq!(attempts(&host, "retry"), 2);
}

#[test]
fn without_a_dead_letter_queue_a_rejected_message_stays_as_long_as_a_retry_can_wait() {
    let mut stage = Stage::new("nowhere");
    let source = stage.queue("in", &visibility("30"), "");
    let place = stage.place();
    place.install(
        "in",
        &obedient("out"),
        "[retry]\nmin = \"1s\"\nmax = \"2m\"\n[grant]\nsend = [\"out\"]\n",
    );
    let host = ready(&place);
    wait_for("the warning at the start", || {
        host.events("the queue has no dead-letter queue").pop()
    });
    source.put("j-rejected");
    wait_for("the warning", || {
        host.events("rejected, and the queue has no dead-letter queue").pop()
    });
    let hidden = wait_for("the retry", || stage.hidings(&source).pop());
    assert_eq!(hidden.seconds, Some(120));
    wait_metric(&host, r#"sandhog_dead_letters_not_taken_total{queue="in"}"#, 1);
    source.wait_numbers((0, 1, 0));
    assert!(stage.deletions(&source).is_empty());
}

#[test]
fn what_a_failed_attempt_sent_is_dropped() {
    let mut stage = Stage::new("dropped-sends");
    let source = stage.queue("in", &NEVER, "");
    let out = stage.queue("out", &[], "");
    let (_place, host) = begin(&stage, "timeout = \"300ms\"\n");
    // Each sends at its first receive and fails: by its word, a trap, a timeout.
    source.put_all(&["?fa0-says", "?ft-traps", "?fs-spins"]);
    source.wait_gone();
    assert_eq!(out.take(), ["?fa0-says", "?fs-spins", "?ft-traps"]);
    let failed: u64 = ["retry", "trap", "timeout"]
        .iter()
        .map(|outcome| attempts(&host, outcome))
        .sum();
    assert_eq!(failed, 3);
}

// Leases.

#[test]
fn ten_handlers_three_times_longer_than_the_visibility_timeout_run_once_each() {
    let mut stage = Stage::new("outlasts");
    let source = stage.queue("in", &visibility("6"), "");
    let (_place, host) = begin(&stage, "");
    let bodies = numbered("w19000", 0..10);
    source.put_all(&bodies);
    wait_for("the outputs", || (host.count("out", "ready") == 10).then_some(()));
    source.wait_gone();
    assert_handed(&stage, &source, 1);
    assert_eq!(attempts(&host, "success"), 10);
    assert_eq!(sorted(host.take_all("out")), bodies);
    assert_eq!(metric(&host, r#"sandhog_lost_leases_total{queue="in"}"#), 0);
    wait_metric(&host, r#"sandhog_lease_extensions_total{queue="in",result="ok"}"#, 30);
}

#[test]
fn five_hundred_in_flight_are_more_than_one_extension_can_carry_and_none_is_received_twice() {
    let mut stage = Stage::new("many");
    stage.set("max-live-instances = 700\nmemory-budget = \"1TiB\"");
    let source = stage.queue("in", &visibility("30"), "");
    let bodies = numbered("w17000", 0..500);
    source.put_all(&bodies);
    // However long it takes to receive them all.
    let deletions = hold_deletions(&stage);
    let (_place, host) = begin(&stage, "concurrency = 500\n");
    wait_in_flight(&host, 500);
    deletions.open();
    wait_for("the outputs", || (host.count("out", "ready") == 500).then_some(()));
    source.wait_gone();
    assert_handed(&stage, &source, 1);
    assert_eq!(sorted(host.take_all("out")), bodies);
    let most = stage.calls(&source, "ChangeMessageVisibilityBatch").into_iter();
    let entries = |call: Entry| call.request["Entries"].as_array().unwrap().len();
    assert_eq!(most.map(entries).max(), Some(10));
    assert_eq!(attempts(&host, "success"), 500);
}

// Chains.

#[test]
fn messages_go_from_a_simple_queue_over_two_on_sqs_to_a_simple_queue() {
    // On a server that keeps the group of a message on a standard queue.
    let Some(mut stage) = Stage::on(Kind::MiniStack, "chain") else {
        return;
    };
    let second = stage.queue("second", &NEVER, "");
    let third = stage.fifo("third", &NEVER, "");
    let place = stage.place();
    for (queue, next) in [("first", "second"), ("second", "third"), ("third", "out")] {
        place.install(
            queue,
            &obedient(next),
            &format!("[grant]\nsend = [\"{next}\"]\n[retry]\nmin = \"1ms\"\nmax = \"1ms\"\n"),
        );
    }
    let host = ready(&place);
    let bodies = numbered("x", 0..40);
    for body in &bodies {
        host.try_send("first", body.as_bytes(), "group=g").unwrap();
    }
    wait_for("the outputs", || (host.count("out", "ready") == 40).then_some(()));
    second.wait_gone();
    third.wait_gone();
    host.wait_empty("first");
    assert_eq!(sorted(host.take_all("out")), bodies);
}

#[test]
fn what_a_handler_sends_is_sent_before_its_message_is_deleted() {
    let mut stage = Stage::new("before");
    let source = stage.queue("in", &NEVER, "");
    let out = stage.queue("out", &[], "");
    let (_place, host) = begin(&stage, "");
    let bodies = numbered("x", 0..30);
    source.put_all(&bodies);
    source.wait_gone();
    assert_eq!(out.take(), bodies);
    let handed = stage.handed(&source);
    let mut sent = BTreeMap::new();
    for call in stage.calls(&out, "SendMessageBatch") {
        for entry in call.request["Entries"].as_array().unwrap() {
            sent.insert(
                entry["MessageBody"].as_str().unwrap().to_owned(),
                call.answered_at.unwrap(),
            );
        }
    }
    for deletion in stage.deletions(&source) {
        let body = &handed.iter().find(|each| each.handle == deletion.handle).unwrap().body;
        assert!(sent[body] <= deletion.at, "{body} was deleted before it was sent");
    }
    assert_eq!(stage.deletions(&source).len(), 30);
    drop(host);
}

// Kills.

#[test]
fn what_a_killed_host_held_is_received_again_after_the_visibility_timeout() {
    let mut stage = Stage::new("killed");
    let source = stage.queue("in", &visibility("6"), "");
    let place = obeying(&stage, "");
    let host = ready(&place);
    let bodies = numbered("?w60000", 0..12);
    source.put_all(&bodies);
    wait_in_flight(&host, 12);
    host.kill();
    let host = ready(&place);
    wait_for("the outputs", || (host.count("out", "ready") == 12).then_some(()));
    source.wait_gone();
    assert_eq!(sorted(host.take_all("out")), bodies);
    assert_handed(&stage, &source, 2);
}

#[test]
fn a_message_in_flight_at_each_of_its_receives_when_the_host_died_becomes_a_dead_letter() {
    let mut stage = Stage::new("deadly");
    let dead = stage.queue("in-dead", &[], "");
    let source = stage.queue("in", &visibility("8"), "dead-letter = \"in-dead\"\nmax-receives = 2\n");
    let place = obeying(&stage, "");
    source.put("w60000-deadly");
    for _ in 0..2 {
        let host = ready(&place);
        wait_in_flight(&host, 1);
        host.kill();
    }
    let host = ready(&place);
    let letters = provenances(&dead, 1);
    assert_eq!(
        (&letters[0].1["kind"], &letters[0].1["receive-count"]),
        (&json!("host-stopped"), &json!(3)),
        "{letters:?}"
    );
    source.wait_gone();
    assert_eq!(host.count("out", "ready"), 0);
}

#[test]
fn two_hosts_that_compete_and_die_handle_every_message() {
    const MESSAGES: usize = 5000;
    const CONCURRENCY: usize = 16;
    const KILLS: usize = 6;
    let mut stage = Stage::new("competing");
    // Long enough that on a busy machine nothing but a kill ends a lease.
    let source = stage.queue("in", &visibility("5"), "");
    let out = stage.queue("out", &[], "");
    let bodies = numbered("x", 0..MESSAGES);
    source.put_all(&bodies);
    let places = [obeying(&stage, ""), obeying(&stage, "")];
    let started = Instant::now();
    let steady = ready(&places[0]);
    let mut random = StdRng::seed_from_u64(0x5a5a);
    for _ in 0..KILLS {
        let host = ready(&places[1]);
        wait_for("the second host to handle something", || {
            (in_flight(&host) > 0 || source.numbers().0 == 0).then_some(())
        });
        let_pass(Duration::from_millis(random.random_range(50..400)));
        host.kill();
    }
    source.wait_gone();
    let took = started.elapsed();
    let outputs = out.take();
    let different: BTreeSet<_> = outputs.iter().cloned().collect();
    assert_eq!(
        different.into_iter().collect::<Vec<_>>(),
        bodies,
        "every message, and nothing else"
    );
    let doubles = outputs.len() - MESSAGES;
    println!("{MESSAGES} messages, two hosts, {KILLS} kills, {took:?}: {doubles} handled twice");
    assert!(
        doubles <= KILLS * CONCURRENCY,
        "{doubles} were handled twice: more than were in flight at the kills"
    );
    assert_eq!(attempts(&steady, "lease-lost"), 0);
}

// Groups.

/// The bodies of each group, in the order given; the group is what stands behind the last `@`.
fn by_group(bodies: &[String]) -> BTreeMap<String, Vec<String>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for body in bodies {
        let group = body.rsplit('@').next().unwrap().to_owned();
        groups.entry(group).or_default().push(body.clone());
    }
    groups
}

/// So many messages for each of so many groups, one of each group after the other.
fn for_groups(groups: usize, each: usize, mut command: impl FnMut() -> &'static str) -> Vec<(String, String)> {
    let mut messages = Vec::new();
    for number in 0..each {
        for group in 0..groups {
            messages.push((format!("g{group}"), format!("{}-{number:03}@g{group}", command())));
        }
    }
    messages
}

fn bodies(messages: &[(String, String)]) -> Vec<String> {
    messages.iter().map(|(_, body)| body.clone()).collect()
}

#[test]
fn on_every_server_groups_run_in_parallel_and_each_in_its_order() {
    on_each(SqsServer::all(), |server| {
        let mut stage = Stage::at(server, "groups");
        let source = stage.fifo("in", &NEVER, "");
        let messages = for_groups(5, 6, || "w200");
        source.put_all_in(&messages);
        let deletions = hold_deletions(&stage);
        let place = obeying(&stage, "");
        let host = ready(&place);
        // The first of each group: none of them ends before the test has seen them all.
        wait_in_flight(&host, 5);
        deletions.open();
        wait_for("the outputs", || (host.count("out", "ready") == 30).then_some(()));
        source.wait_gone();
        assert_eq!(host.terminate().0.code(), Some(0));
        assert_eq!(
            by_group(&place.stored("out")),
            by_group(&bodies(&messages)),
            "{server:?}"
        );
        assert_handed(&stage, &source, 1);
    });
}

/// The servers that hand out several messages of a group in one receive, as SQS does.
fn servers_with_batches() -> Vec<&'static SqsServer> {
    let kinds = [Kind::LocalStack, Kind::MiniStack, Kind::Sandhog].into_iter();
    kinds.filter_map(SqsServer::get).collect()
}

#[test]
fn a_failure_gives_the_later_ones_of_its_group_back_in_order_and_costs_them_one_receive_at_most() {
    on_each(servers_with_batches(), |server| {
        let mut stage = Stage::at(server, "tail");
        let source = stage.fifo("in", &NEVER, "");
        let messages = [
            "?a2-1@g", "x-2@g", "x-3@g", "x-4@g", "x-1@h", "?b-2@h", "x-3@h", "x-4@h",
        ];
        let messages = messages.map(|body| (body.rsplit('@').next().unwrap().to_owned(), body.to_owned()));
        source.put_all_in(&messages);
        let (place, host) = begin(&stage, "concurrency = 20\n");
        wait_for("the outputs", || (host.count("out", "ready") == 8).then_some(()));
        source.wait_gone();
        assert_eq!(host.terminate().0.code(), Some(0));
        assert_eq!(
            by_group(&place.stored("out")),
            by_group(&bodies(&messages)),
            "{server:?}"
        );
        // Who came in one receive with the one that failed, behind it, has lost that receive.
        let handed = stage.handed(&source);
        let mut expected: BTreeMap<String, usize> = messages.iter().map(|(_, body)| (body.clone(), 1)).collect();
        for (group, failed) in [("@g", "?a2-1@g"), ("@h", "?b-2@h")] {
            let first = handed.iter().find(|each| each.body == failed).unwrap();
            let together = handed
                .iter()
                .filter(|each| each.at == first.at && each.body.ends_with(group))
                .skip_while(|each| each.body != failed);
            for each in together {
                *expected.get_mut(&each.body).unwrap() += 1;
            }
        }
        let times = stage.times_handed(&source);
        for (body, most) in &expected {
            assert!(
                times[body] <= *most,
                "{body} of {times:?}, at most {expected:?}, {server:?}"
            );
        }
    });
}

#[test]
fn fifty_groups_keep_their_order_across_failures_and_kills_and_come_out_once() {
    const GROUPS: usize = 50;
    const EACH: usize = 8;
    const KILLS: usize = 5;
    // LocalStack gives a group up when one of its messages expires, though others are in flight: that is what a kill leads to.
    let Some(mut stage) = Stage::on(Kind::MiniStack, "fifty") else {
        return;
    };
    let source = stage.fifo("in", &visibility("2"), "");
    let mut random = StdRng::seed_from_u64(0xf1f0);
    let mut commands = StdRng::seed_from_u64(0x0f1f);
    let messages = for_groups(GROUPS, EACH, || match commands.random_range(0..10) {
        0 => "?a0",
        1 => "?b",
        2 => "?t",
        3 => "w50",
        4 => "?fa1",
        _ => "x",
    });
    source.put_all_in(&messages);
    let place = obeying(&stage, "concurrency = 40\n");
    for _ in 0..KILLS {
        let host = ready(&place);
        wait_for("attempts", || (in_flight(&host) > 0).then_some(()));
        let_pass(Duration::from_millis(random.random_range(100..1200)));
        host.kill();
    }
    let host = ready(&place);
    source.wait_gone();
    assert_eq!(host.terminate().0.code(), Some(0));
    let out = place.stored("out");
    assert_eq!(
        by_group(&out),
        by_group(&bodies(&messages)),
        "each once, in the order of its group"
    );
}

#[test]
fn a_group_whose_first_message_waits_for_its_retry_does_not_keep_the_others_waiting() {
    on_each(servers_with_batches(), |server| {
        let mut stage = Stage::at(server, "stuck");
        let source = stage.fifo("in", &NEVER, "");
        let (_place, host) = begin(&stage, "");
        source.put_in("stuck", "?a3600-1@stuck");
        source.put_in("stuck", "x-2@stuck");
        let given_back = wait_for("the failure", || {
            let mut handed = stage.handed(&source);
            handed.retain(|each| each.body.starts_with("?a3600"));
            let mut hidings = stage.hidings(&source);
            hidings.retain(|each| each.seconds == Some(3600) && each.answered_at.is_some());
            // Under load an answer may be lost and asked for again: then its messages have two handles.
            let is_first = |hidden: &Called| handed.iter().any(|each| each.handle == hidden.handle);
            // The calls may be noted in any order.
            hidings.sort_by_key(|hidden| !is_first(hidden));
            hidings.first().is_some_and(is_first).then_some(hidings)
        });
        let messages = for_groups(8, 3, || "x");
        source.put_all_in(&messages);
        wait_for("the others", || (host.count("out", "ready") == 24).then_some(()));
        // Of two receives that wait, one may bring the first and the other the second: a server that gives a group free with each message
        // that becomes visible does that, and their answers may cross.
        wait_for("one receive that waits", || {
            let calls = stage.calls(&source, "ReceiveMessage");
            let waiting = calls.iter().filter(|call| call.answered_at.is_none());
            (waiting.count() == 1).then_some(())
        });
        // As if the hour were over, for the first one first.
        for each in &given_back {
            source.change_visibility(&source.url, &each.handle, 0).unwrap();
        }
        wait_for("the stuck group", || (host.count("out", "ready") == 26).then_some(()));
        let out = host.take_all("out");
        assert_eq!(by_group(&out)["stuck"], ["?a3600-1@stuck", "x-2@stuck"], "{server:?}");
    });
}

// Shutdown.

#[test]
fn an_idle_host_ends_long_before_its_parked_poll_would() {
    let mut stage = Stage::new("idle");
    let source = stage.queue("in", &NEVER, "");
    let (_place, host) = begin(&stage, "");
    host.wait_ready();
    let poll = wait_for("a parked poll", || {
        stage
            .calls(&source, "ReceiveMessage")
            .into_iter()
            .find(|call| call.answered_at.is_none())
    });
    assert_eq!(poll.request["WaitTimeSeconds"], 20);
    let signalled = Instant::now();
    let (status, log) = host.terminate();
    let (took, poll_lasted) = (signalled.elapsed(), poll.at.elapsed());
    assert_eq!(status.code(), Some(0), "{log:#?}");
    println!("an idle host ended {took:?} after SIGTERM; its poll of 20 s had begun {poll_lasted:?} before that");
    assert!(poll_lasted < 20 * SECOND, "{poll_lasted:?}");
    // The poll that was cut takes no message with it.
    source.put("later");
    let later = source.receive(&source.url, 1, 5);
    assert_eq!(later.iter().map(Received::receive_count).collect::<Vec<_>>(), [1]);
}

#[test]
fn sigterm_lets_what_runs_end_under_its_lease() {
    let mut stage = Stage::new("drain");
    let source = stage.queue("in", &visibility("6"), "");
    let place = obeying(&stage, "");
    let host = ready(&place);
    source.put_all(&["w19000-a", "w19000-b"]);
    wait_in_flight(&host, 2);
    let (status, log) = host.terminate();
    assert_eq!(status.code(), Some(0), "{log:#?}");
    assert_eq!(source.numbers(), (0, 0, 0));
    assert_eq!(sorted(place.stored("out")), ["w19000-a", "w19000-b"]);
    assert_handed(&stage, &source, 1);
}

#[test]
fn sigterm_makes_what_was_not_started_visible_at_once() {
    let Some(mut stage) = Stage::on(Kind::MiniStack, "unstarted") else {
        return;
    };
    let source = stage.fifo("in", &NEVER, "");
    let place = obeying(&stage, "");
    source.put_all_in(&[("g", "w15000-1"), ("g", "x-2")]);
    let host = ready(&place);
    let handed = wait_for("both in one receive", || {
        let handed = stage.handed(&source);
        (handed.len() == 2).then_some(handed)
    });
    wait_in_flight(&host, 1);
    assert_eq!(handed[0].at, handed[1].at);
    host.signal("TERM");
    let released = wait_for("the second to be released", || {
        let second = |each: &Called| each.handle == handed[1].handle && each.seconds == Some(0);
        stage.hidings(&source).into_iter().find(second)
    });
    // No receive of ours, since this server lets polls that were cut take messages with them.
    source.wait_numbers((1, 1, 0));
    let (status, log) = host.wait();
    assert_eq!(status.code(), Some(0), "{log:#?}");
    let deletion = stage.deletions(&source).pop().unwrap();
    assert_eq!(deletion.handle, handed[0].handle);
    assert!(released.at < deletion.at, "it was released while the first was running");
    assert_eq!(place.stored("out"), ["w15000-1"]);
}

#[test]
fn what_the_grace_period_cuts_off_is_visible_at_once() {
    let mut stage = Stage::new("grace");
    stage.set("grace-period = \"300ms\"");
    let source = stage.queue("in", &NEVER, "");
    let (_place, host) = begin(&stage, "");
    source.put_all(&["s-spins", "w20000-waits"]);
    wait_in_flight(&host, 2);
    let (status, log) = host.terminate();
    assert_eq!(status.code(), Some(0), "{log:#?}");
    assert_eq!(source.numbers(), (2, 0, 0));
}

#[test]
fn a_second_signal_skips_the_grace_period_and_gives_everything_back() {
    let mut stage = Stage::new("second-signal");
    let source = stage.queue("in", &NEVER, "");
    let (_place, mut host) = begin(&stage, "");
    source.put("w20000-waits");
    wait_in_flight(&host, 1);
    host.signal("TERM");
    wait_for("the drain", || host.events("stopping: ").pop());
    assert!(host.try_wait().is_none());
    let (status, log) = host.terminate();
    assert_eq!(status.code(), Some(143), "{log:#?}");
    assert_eq!(source.numbers(), (1, 0, 0));
}

#[test]
fn sigterm_under_load_strands_nothing() {
    const MESSAGES: usize = 1500;
    let mut stage = Stage::new("load");
    let source = stage.queue("in", &NEVER, "");
    let bodies = numbered("x", 0..MESSAGES);
    source.put_all(&bodies);
    let place = obeying(&stage, "");
    let mut done = 0;
    for _ in 0..3 {
        let host = ready(&place);
        wait_for("some outputs", || (host.count("out", "ready") > done).then_some(()));
        let (status, log) = host.terminate();
        assert_eq!(status.code(), Some(0), "{log:#?}");
        done = u64::try_from(place.stored("out").len()).unwrap();
        // The visibility timeout is long: what is not visible now was forgotten.
        let (ready, in_flight, _) = source.numbers();
        assert_eq!((ready + done, in_flight), (1500, 0));
    }
    let host = ready(&place);
    source.wait_gone();
    assert_eq!(sorted(host.take_all("out")), bodies);
}

// The ledger.

#[test]
fn what_was_handled_before_a_crash_and_not_deleted_is_not_run_again() {
    let mut stage = Stage::new("ledger");
    // So long that the host is killed before it gets them again.
    let source = stage.queue("in", &visibility("15"), "");
    let place = obeying(&stage, "");
    let pretend = Rule::new(Fault::pretend()).action("DeleteMessageBatch");
    let pretended = stage.proxy.rule(pretend);
    let host = ready(&place);
    let bodies = numbered("x", 0..5);
    source.put_all(&bodies);
    wait_for("the outputs", || (host.count("out", "ready") == 5).then_some(()));
    wait_for("the deletions", || (stage.deletions(&source).len() >= 5).then_some(()));
    host.kill();
    assert!(pretended.used() > 0);
    stage.proxy.clear();
    let host = ready(&place);
    source.wait_gone();
    wait_for("five deletions", || {
        (attempts(&host, "already-handled") == 5).then_some(())
    });
    assert_eq!(attempts(&host, "success"), 0);
    assert_eq!(sorted(host.take_all("out")), bodies);
    assert_handed(&stage, &source, 2);
}

// The command line, and what an operator sees.

fn sandhog(place: &Place, host: &Host, arguments: &[&str]) -> Output {
    let mut command = place.command();
    command.args(arguments).args(["--url", &host.url]);
    command.output().unwrap()
}

/// What a command prints, if it succeeds.
fn printed(place: &Place, host: &Host, arguments: &[&str]) -> String {
    let output = sandhog(place, host, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn dead_letters(place: &Place, host: &Host) -> Vec<Value> {
    let text = printed(place, host, &["dead", "list", "in", "--json"]);
    let answer: Value = serde_json::from_str(&text).unwrap();
    answer["dead-letters"].as_array().unwrap().clone()
}

#[test]
fn the_command_line_sends_lists_shows_redrives_and_purges() {
    let mut stage = Stage::new("commands");
    let dead = stage.queue("in-dead", &visibility("1"), "");
    let source = stage.queue("in", &NEVER, "dead-letter = \"in-dead\"\n");
    let place = obeying(&stage, "");
    let host = ready(&place);
    printed(&place, &host, &["send", "in", "x-good", "--attr", "colour=red"]);
    wait_for("the output", || (host.count("out", "ready") == 1).then_some(()));
    for body in ["j-one", "j-two", "j-three"] {
        printed(&place, &host, &["send", "in", body]);
    }
    dead.wait_numbers((3, 0, 0));
    let line = |name: &str| {
        let text = printed(&place, &host, &["queues"]);
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(name));
        line.unwrap_or_else(|| panic!("{name}: {text}"))
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    wait_for("the dead letters on the list of queues", || {
        // What happened in the last minute stands behind the dead letters.
        line("in")
            .starts_with(&["in", "0", "0", "0", "-", "3"].map(str::to_owned))
            .then_some(())
    });

    let letters = wait_for("all dead letters at once", || {
        let letters = dead_letters(&place, &host);
        (letters.len() == 3).then_some(letters)
    });
    let two = letters.iter().find(|letter| letter["body"] == "j-two").unwrap();
    let id = two["id"].as_str().unwrap();
    let shown = wait_for("a dead letter to be shown", || {
        let output = sandhog(&place, &host, &["dead", "show", "in", id]);
        (output.status.code() == Some(0)).then(|| String::from_utf8(output.stdout).unwrap())
    });
    for words in [id, "reject", "because", "j-two"] {
        assert!(shown.contains(words), "{words} in {shown}");
    }

    // What is put back is rejected once more, or handled by another version.
    place.install("in", &forward(), GRANT);
    wait_for("the new version", || host.events("serving").get(1).cloned());
    wait_for("one to be put back", || {
        let output = sandhog(&place, &host, &["dead", "redrive", "in", id]);
        (output.status.code() == Some(0)).then_some(())
    });
    wait_for("the second output", || (host.count("out", "ready") == 2).then_some(()));
    source.wait_gone();
    assert_eq!(sorted(host.take_all("out")), ["j-two", "x-good"]);
    wait_for("two left", || (dead_letters(&place, &host).len() == 2).then_some(()));
    let unconfirmed = sandhog(&place, &host, &["dead", "purge", "in"]);
    assert_ne!(unconfirmed.status.code(), Some(0));
    printed(&place, &host, &["dead", "purge", "in", "--yes"]);
    dead.wait_gone();
    assert!(dead_letters(&place, &host).is_empty());
}

#[test]
fn the_start_warns_of_numbers_that_do_not_fit() {
    let mut stage = Stage::new("warnings");
    let dead = stage.unknown_queue("dead", &[]);
    let policy = |times: u32| json!({ "deadLetterTargetArn": dead.arn(), "maxReceiveCount": times }).to_string();
    let (once, five) = (policy(1), policy(5));
    stage.queue("once", &[("RedrivePolicy", &once)], "");
    stage.queue("alone", &[], "");
    stage.queue("short", &[("VisibilityTimeout", "1"), ("RedrivePolicy", &five)], "");
    stage.queue("good", &[("RedrivePolicy", &five)], "");
    let place = stage.place();
    for name in ["once", "alone", "short", "good"] {
        place.install(name, &no_op(), "");
    }
    let host = ready(&place);
    for (name, words) in [
        ("once", "maxReceiveCount of the queue's redrive policy is 1"),
        ("alone", "the queue has no dead-letter queue"),
        ("short", "messages are hidden for 1 s only"),
    ] {
        let event = wait_for(words, || host.events(words).pop());
        assert_eq!(
            (&event["fields"]["queue"], &event["level"]),
            (&json!(name), &json!("WARN")),
            "{event}"
        );
    }
    host.wait_ready();
    let of_good = |line: &&String| line.contains("WARN") && line.contains("\"good\"");
    assert_eq!(host.log().iter().find(of_good), None);
}

#[test]
fn the_metrics_page_has_what_happens_on_sqs() {
    let mut stage = Stage::new("metrics");
    let source = stage.queue("in", &visibility("8"), "");
    let deletions = hold_deletions(&stage);
    let (_place, host) = begin(&stage, "");
    source.put("w5000-waits");
    wait_metric(&host, r#"sandhog_leases{queue="in"}"#, 1);
    wait_metric(&host, r#"sandhog_queue_in_flight_messages{queue="in"}"#, 1);
    deletions.open();
    wait_for("the output", || (host.count("out", "ready") == 1).then_some(()));
    source.wait_gone();
    for series in [
        r#"sandhog_received_messages_total{queue="in"}"#,
        r#"sandhog_receives_total{queue="in",result="messages"}"#,
        r#"sandhog_attempts_total{handler="in",outcome="success"}"#,
        r#"sandhog_settled_deliveries_total{queue="in",settlement="delete"}"#,
        r#"sandhog_lease_extensions_total{queue="in",result="ok"}"#,
        r#"sandhog_sqs_requests_total{queue="in",action="ReceiveMessage"}"#,
        r#"sandhog_sqs_requests_total{queue="in",action="DeleteMessageBatch"}"#,
        r#"sandhog_sqs_requests_total{queue="in",action="ChangeMessageVisibilityBatch"}"#,
    ] {
        wait_metric(&host, series, 1);
    }
    wait_for("the lease to end", || {
        (metric(&host, r#"sandhog_leases{queue="in"}"#) == 0).then_some(())
    });
}

#[test]
fn a_host_whose_queue_is_missing_is_not_ready_after_a_minute() {
    let mut stage = Stage::new("readiness");
    stage.table("[queues.in]\nurl = \"sqs:nowhere-at-all\"\n");
    let started = Instant::now();
    let (_place, host) = begin(&stage, "");
    host.wait_ready();
    let reason = "there is no queue nowhere-at-all";
    let failed = wait_for("the report", || host.events("a receive failed").pop());
    assert!(failed.to_string().contains(reason), "{failed}");
    let_pass((40 * SECOND).saturating_sub(started.elapsed()));
    let (_, page) = wait_for("readiness to turn red", || {
        Some(host.text("/ready")).filter(|(status, _)| *status == 503)
    });
    assert!(
        page.contains("handler in has received nothing") && page.contains(reason),
        "{page}"
    );
    host.event("a receive failed");
    assert_eq!(host.events("a receive failed").len(), 1, "it is reported once");
    drop(stage);
}
