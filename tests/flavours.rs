//! Every flavour: how a message goes in, how the verdict comes out, and what is refused.

use harness::{
    bench::{Bench, message},
    built::foreign_guest,
    guests::{self, program, undescribed_handler},
    host::Place,
};
use sandhog_executor::{CallMessage, CallReport, Component, Executor as _, Flavour, LoadError, Verdict};
use sandhog_queue::{
    FailureKind,
    message::{AttributeValue, Attributes, QueueName},
};
use serde_json::json;
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
};
use wit_component::ComponentEncoder;

/// Attributes of every kind, and two that mean something to other hosts.
fn attributes() -> Attributes {
    let text = |name: &str, text: &str| (name.to_owned(), AttributeValue::Text(text.to_owned()));
    let pairs = vec![
        text("content-type", "text/plain"),
        text("reply-to", "answers"),
        ("weight".to_owned(), AttributeValue::Number("-12.50".to_owned())),
        ("raw".to_owned(), AttributeValue::Binary(vec![0, 255])),
    ];
    Attributes::new(pairs).unwrap()
}

async fn run(bench: &Bench, component: &Component, body: &[u8]) -> CallReport {
    let mut message = message(body);
    message.attributes = attributes();
    message.group_id = Some("blue".to_owned());
    let mut call = bench.call(&[], &bench.policy);
    call.messages = vec![CallMessage {
        message,
        queue: QueueName::new("orders").unwrap(),
        receive_count: 3,
    }];
    bench.executor.run(component, call).await
}

fn verdict(report: &CallReport) -> (Option<FailureKind>, String) {
    match report.verdicts.as_slice() {
        [Verdict::Success] => (None, String::new()),
        [Verdict::Failed(failure)] => (Some(failure.kind), failure.reason.clone()),
        other => panic!("{other:?}"),
    }
}

/// What a body leads to: the kind of failure, and how the reason starts.
async fn check(bench: &Bench, component: &Component, body: &str, (kind, reason): (Option<FailureKind>, &str)) {
    let report = run(bench, component, body.as_bytes()).await;
    let (found, said) = verdict(&report);
    assert_eq!(found, kind, "{body}: {said}");
    assert!(said.starts_with(reason), "{body}: {said}");
    if kind.is_some() {
        assert!(report.sends.is_empty(), "{body}");
    }
}

fn sent(report: &CallReport) -> Vec<(&str, &[u8])> {
    let sends = report.sends.iter();
    sends.map(|send| (send.queue.as_str(), &*send.message.body)).collect()
}

const RETRY: Option<FailureKind> = Some(FailureKind::Retry);
const TRAP: Option<FailureKind> = Some(FailureKind::Trap);

#[tokio::test]
async fn components_for_both_versions_of_spins_trigger_run_unchanged() {
    let bench = Bench::new();
    for name in ["spin_sqs_2", "spin_sqs_3"] {
        let component = bench.load(foreign_guest(name)).await.unwrap();
        assert_eq!(component.info.flavour, Flavour::SpinSqs);
        check(&bench, &component, "ok", (None, "")).await;
        check(&bench, &component, "leave", (RETRY, "the handler left the message")).await;
        check(&bench, &component, "error no luck", (RETRY, "no luck")).await;
        check(&bench, &component, "crash", (TRAP, "the handler trapped")).await;
        let (_, told) = verdict(&run(&bench, &component, b"attributes").await);
        for part in [
            r#"name: "weight", data-type: Some("Number"), value: MessageAttributeValue::Str("-12.50")"#,
            r#"name: "raw", data-type: Some("Binary"), value: MessageAttributeValue::Binary([0, 255])"#,
            r#"name: "reply-to", data-type: Some("String")"#,
            r#"name: "ApproximateReceiveCount", data-type: Some("Number"), value: MessageAttributeValue::Str("3")"#,
            r#"name: "MessageGroupId", data-type: Some("String"), value: MessageAttributeValue::Str("blue")"#,
        ] {
            assert!(told.contains(part), "{name}: {told}");
        }
        let (kind, why) = verdict(&run(&bench, &component, &[0xff]).await);
        assert_eq!(kind, Some(FailureKind::Reject), "{name}: {why}");
        assert!(why.contains("not text"), "{name}: {why}");
    }
}

#[tokio::test]
async fn components_for_wasi_messaging_run_unchanged() {
    let bench = Bench::new();
    let component = bench.load(foreign_guest("wasi_messaging")).await.unwrap();
    assert_eq!(component.info.flavour, Flavour::WasiMessaging);
    check(&bench, &component, "ok", (None, "")).await;
    check(&bench, &component, "error no luck", (RETRY, "no luck")).await;
    check(&bench, &component, "crash", (TRAP, "the handler trapped")).await;
    check(&bench, &component, "request", (RETRY, "queues have no replies")).await;
    check(
        &bench,
        &component,
        "denied",
        (RETRY, "the handler reports a denied permission: queue \"elsewhere\""),
    )
    .await;
    check(
        &bench,
        &component,
        "flood",
        (
            TRAP,
            "the handler broke: the messages that it has made and neither sent",
        ),
    )
    .await;
    let (_, told) = verdict(&run(&bench, &component, b"facts").await);
    assert!(told.starts_with(r#"Some("orders") Some("text/plain")"#), "{told}");
    assert!(
        told.contains(r#"("sandhog-receive-count", "3"), ("reply-to", "answers"), ("weight", "-12.50")])"#),
        "{told}"
    );
    let report = run(&bench, &component, b"echo hi").await;
    assert_eq!(sent(&report), [("out", b"hi".as_slice())]);
    let pairs = report.sends.first().unwrap().message.attributes.pairs();
    let names: Vec<_> = pairs.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["content-type", "reply-to", "weight", "seen"]);
}

#[tokio::test]
async fn components_for_wasmcloud_messaging_run_unchanged() {
    let bench = Bench::new();
    let component = bench.load(foreign_guest("wasmcloud_messaging")).await.unwrap();
    assert_eq!(component.info.flavour, Flavour::WasmcloudMessaging);
    check(&bench, &component, "ok", (None, "")).await;
    check(&bench, &component, "error no luck", (RETRY, "no luck")).await;
    check(&bench, &component, "crash", (TRAP, "the handler trapped")).await;
    check(&bench, &component, "request", (RETRY, "queues have no replies")).await;
    check(
        &bench,
        &component,
        "denied",
        (RETRY, "queue \"elsewhere\" is not granted"),
    )
    .await;
    check(&bench, &component, "facts", (RETRY, r#"orders Some("answers")"#)).await;
    let report = run(&bench, &component, b"echo hi").await;
    assert_eq!(sent(&report), [("out", b"hi".as_slice())]);
    let expected = AttributeValue::Text("answers".to_owned());
    assert_eq!(
        report.sends.first().unwrap().message.attributes.get("reply-to"),
        Some(&expected)
    );
}

#[tokio::test]
async fn nobody_who_sends_a_message_says_what_only_the_host_says() {
    let bench = Bench::new();
    let text = |name: &str| (name.to_owned(), AttributeValue::Text("forged".to_owned()));
    for (name, body) in [("spin_sqs_2", "attributes"), ("wasi_messaging", "facts")] {
        let component = bench.load(foreign_guest(name)).await.unwrap();
        let mut call = bench.call(&[body.as_bytes()], &bench.policy);
        let forged = [
            "ApproximateReceiveCount",
            "SentTimestamp",
            "MessageGroupId",
            "sandhog-message-id",
        ];
        call.messages[0].message.attributes = Attributes::new(forged.map(text).to_vec()).unwrap();
        let (_, told) = verdict(&bench.executor.run(&component, call).await);
        let by_the_sender = told.matches("forged").count();
        assert_eq!(
            by_the_sender,
            if name == "spin_sqs_2" { 1 } else { 3 },
            "{name}: {told}"
        );
    }
}

#[tokio::test]
async fn messages_without_bytes_cost_as_well() {
    let bench = Bench::new();
    let component = bench.load(foreign_guest("wasi_messaging")).await.unwrap();
    check(
        &bench,
        &component,
        "hoard",
        (
            TRAP,
            "the handler broke: the messages that it has made and neither sent",
        ),
    )
    .await;
    // What was dropped can be made again.
    check(&bench, &component, "churn", (None, "")).await;
}

#[tokio::test]
async fn what_sends_in_the_way_of_another_host_needs_the_same_grant() {
    let mut bench = Bench::new();
    bench.policy.grants.send = None;
    for name in ["wasi_messaging", "wasmcloud_messaging"] {
        let Err(LoadError::NotGranted { lines, .. }) = bench.load(foreign_guest(name)).await else {
            panic!("{name} was loaded");
        };
        assert!(lines.contains("send = "), "{lines}");
    }
}

#[tokio::test]
async fn the_exit_code_of_a_program_is_its_verdict_and_its_last_line_the_reason() {
    let bench = Bench::new();
    let component = bench.load(program()).await.unwrap();
    assert_eq!(
        (component.info.flavour, component.info.core_module),
        (Flavour::Command, true)
    );
    check(&bench, &component, ">text", (None, "")).await;
    check(&bench, &component, "0 said and done", (None, "")).await;
    check(
        &bench,
        &component,
        "75 first\nthe disk is full\n\n",
        (RETRY, "the disk is full"),
    )
    .await;
    check(&bench, &component, "65 no date", (Some(FailureKind::Reject), "no date")).await;
    for code in [1, 2, 64, 66, 74, 76, 101, 126, 127, 134, 255] {
        let reason = format!("the program exited with code {code}: oh");
        check(&bench, &component, &format!("{code} oh"), (TRAP, &reason)).await;
    }
    check(&bench, &component, "!", (TRAP, "the handler trapped")).await;
    let (_, why) = verdict(&run(&bench, &component, b"!no date").await);
    assert!(why.ends_with(": no date"), "{why}");
    let lines: Vec<_> = bench
        .lines
        .lock()
        .unwrap()
        .iter()
        .map(|line| line.text.clone())
        .collect();
    assert!(
        lines.contains(&"first\nthe disk is full".to_owned()) && lines.contains(&"text".to_owned()),
        "{lines:?}"
    );
}

/// A program that checks its memory: before and after calls of WASI it is as large as the program has made it, and what is new
/// lies behind what was there and holds zeros. It exits with the number of the first check that fails.
fn checks_its_memory() -> Vec<u8> {
    let check =
        |number: u32, condition: &str| format!("(if (i32.eqz {condition}) (then (call $exit (i32.const {number}))))");
    let call =
        "(drop (call $variables (i32.const 16) (i32.const 20))) (drop (call $get (i32.const 32) (i32.const 1024)))";
    let grow = |number: u32, before: u32, more: u32| {
        let end = (before + more) << 16;
        [
            check(
                number,
                &format!("(i32.eq (memory.grow (i32.const {more})) (i32.const {before}))"),
            ),
            check(
                number + 1,
                &format!("(i32.eq (memory.size) (i32.const {}))", before + more),
            ),
            format!("(local.set $at (i32.const {}))", before << 16),
            check(
                number + 2,
                &format!("(call $is-all (i32.const 0) (local.get $at) (i32.const {end}))"),
            ),
            format!("(memory.fill (local.get $at) (i32.const 170) (i32.sub (i32.const {end}) (local.get $at)))"),
            call.to_owned(),
            check(
                number + 3,
                &format!("(call $is-all (i32.const 170) (local.get $at) (i32.const {end}))"),
            ),
        ]
        .concat()
    };
    let text = format!(
        r#"(module
        (import "wasi_snapshot_preview1" "environ_sizes_get" (func $variables (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "environ_get" (func $get (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1 8)
        (func $is-all (param $byte i32) (param $at i32) (param $end i32) (result i32)
            (loop $next
                (if (i32.ne (i32.load8_u (local.get $at)) (local.get $byte)) (then (return (i32.const 0))))
                (local.set $at (i32.add (local.get $at) (i32.const 1)))
                (br_if $next (i32.lt_u (local.get $at) (local.get $end))))
            (i32.const 1))
        (func (export "_start") (local $at i32)
            {} {call} {} {} {} {} {}))"#,
        check(1, "(i32.eq (memory.size) (i32.const 1))"),
        check(2, "(i32.eq (memory.size) (i32.const 1))"),
        grow(10, 1, 1),
        grow(20, 2, 3),
        grow(30, 5, 3),
        check(40, "(i32.eq (memory.grow (i32.const 60000)) (i32.const -1))"),
    );
    wat::parse_str(text).unwrap()
}

#[tokio::test]
async fn a_program_has_its_memory_for_itself() {
    // The allocators of Go, AssemblyScript and old C libraries rely on it.
    let bench = Bench::new();
    let component = bench.load(checks_its_memory()).await.unwrap();
    check(&bench, &component, "", (None, "")).await;
}

#[tokio::test]
async fn a_program_that_is_a_component_says_success_or_failure_and_no_code() {
    let bench = Bench::new();
    let module = program();
    let encoder = ComponentEncoder::default().module(&module).unwrap();
    let adapter = WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER;
    let mut encoder = encoder.adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, adapter).unwrap();
    let component = bench.load(encoder.encode().unwrap()).await.unwrap();
    assert_eq!(
        (component.info.flavour, component.info.core_module),
        (Flavour::Command, false)
    );
    check(&bench, &component, ">text", (None, "")).await;
    check(&bench, &component, "0 done", (None, "")).await;
    for code in [1, 65, 75] {
        let reason = "the program exited with code 1: oh";
        check(&bench, &component, &format!("{code} oh"), (TRAP, reason)).await;
    }
}

#[tokio::test]
async fn a_program_finds_the_message_in_its_environment() {
    let mut bench = Bench::new();
    bench.policy.grants.env = [
        ("MODE".to_owned(), "fast".into()),
        ("SANDHOG_QUEUE".to_owned(), "mine".into()),
    ]
    .into();
    bench.policy.grants.stdout = Some(QueueName::new("out").unwrap());
    let component = bench.load(program()).await.unwrap();
    let report = run(&bench, &component, b"v").await;
    let [(_, printed)] = sent(&report)[..] else {
        panic!("{report:?}")
    };
    let variables: Vec<&str> = str::from_utf8(printed).unwrap().split_terminator('\0').collect();
    for expected in [
        "MODE=fast",
        "SANDHOG_QUEUE=orders",
        "SANDHOG_RECEIVE_COUNT=3",
        "SANDHOG_GROUP_ID=blue",
        "SANDHOG_ATTR_CONTENT_TYPE=text/plain",
        "SANDHOG_ATTR_WEIGHT=-12.50",
        "SANDHOG_ATTR_RAW=AP8=",
    ] {
        assert!(variables.contains(&expected), "{variables:?}");
    }
    assert!(
        variables
            .iter()
            .any(|variable| variable.starts_with("SANDHOG_MESSAGE_ID=")),
        "{variables:?}"
    );
}

#[tokio::test]
async fn each_line_of_a_program_is_a_message_if_its_manifest_says_so() {
    let mut bench = Bench::new();
    let component = bench.load(program()).await.unwrap();
    assert_eq!(run(&bench, &component, b">one\ntwo").await.sends, []);
    bench.policy.grants.stdout = Some(QueueName::new("out").unwrap());
    let component = bench.load(program()).await.unwrap();
    let report = run(&bench, &component, b">one\r\n\nt\xffo\nlast").await;
    assert_eq!(verdict(&report), (None, String::new()));
    let expected = [b"one".as_slice(), b"", b"t\xffo", b"last"].map(|line| ("out", line));
    assert_eq!(sent(&report), expected);
    bench.policy.limits.sends = 2;
    let report = run(&bench, &component, b">one\ntwo\nthree").await;
    let (kind, why) = verdict(&report);
    assert!(kind.is_some() && why.contains("limits.sends"), "{kind:?} {why}");
    assert_eq!(report.sends, []);
    let report = run(&bench, &component, b"*").await;
    let (kind, why) = verdict(&report);
    assert!(kind.is_some() && why.contains("bytes of a message"), "{kind:?} {why}");
}

#[tokio::test]
async fn output_as_messages_and_arguments_are_for_programs_only() {
    let mut bench = Bench::new();
    bench.policy.grants.stdout = Some(QueueName::new("out").unwrap());
    let error = bench.load(guests::forward()).await.unwrap_err().to_string();
    assert!(error.contains("stdout") && error.contains("handler"), "{error}");
    bench.policy.grants.stdout = None;
    bench.policy.grants.args = vec!["--fast".to_owned()];
    let error = bench.load(guests::forward()).await.unwrap_err().to_string();
    assert!(error.contains("args") && error.contains("handler"), "{error}");
}

#[tokio::test]
async fn a_module_that_says_nothing_about_its_world_is_known_by_its_exports() {
    let bench = Bench::new();
    let component = bench.load(undescribed_handler()).await.unwrap();
    assert_eq!(component.info.flavour, Flavour::Handler);
    let report = run(&bench, &component, b"on").await;
    assert_eq!(sent(&report), [("out", b"on".as_slice())]);
    let nothing = wat::parse_str(r#"(module (func (export "main")))"#).unwrap();
    let error = bench.load(nothing).await.unwrap_err().to_string();
    assert!(
        error.contains("_start") && error.contains("sandhog:worker/handler"),
        "{error}"
    );
}

#[tokio::test]
async fn a_component_of_no_flavour_or_two_is_refused_with_what_was_found() {
    let bench = Bench::new();
    let export = |names: &[&str]| {
        let exports = names.iter().fold(String::new(), |exports, name| {
            format!("{exports}(export {name:?} (instance $i))")
        });
        wat::parse_str(format!("(component (instance $i) {exports})")).unwrap()
    };
    let none = bench
        .load(export(&["wasmcloud:messaging/handler@0.3.0"]))
        .await
        .unwrap_err()
        .to_string();
    assert!(none.contains("it exports wasmcloud:messaging/handler@0.3.0"), "{none}");
    assert!(none.contains("wasmcloud:messaging/handler@0.2,"), "{none}");
    let two = export(&["wasi:cli/run@0.2.0", "wasmcloud:messaging/handler@0.2.0"]);
    let two = bench.load(two).await.unwrap_err().to_string();
    assert!(
        two.contains("exactly one of") && two.contains("wasi:cli/run@0.2.0"),
        "{two}"
    );
}

#[test]
fn a_program_works_for_a_queue_like_any_handler() {
    let place = Place::new();
    place.install(
        "in",
        &program(),
        "stdout = \"out\"\n[retry]\nmin = \"1ms\"\nmax = \"10ms\"\n",
    );
    let host = place.start();
    host.wait_ready();
    host.send("in", b">one\ntwo");
    host.send("in", b"65 no date");
    host.wait_empty("in");
    assert_eq!(host.take_all("out"), ["one", "two"]);
    let dead = host.dead("in");
    assert_eq!(dead.len(), 1, "{dead:?}");
    assert_eq!(dead[0]["failure"]["kind"], json!("reject"));
    assert_eq!(dead[0]["failure"]["reason"], json!("no date"));
}
