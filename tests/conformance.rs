//! One set of claims against a handler in every language: the same verdicts, sends and log lines.
//!
//! The handlers are in `tests/conformance/`; each does what the body of its message says. Where a command differs, its file
//! says so at its top, and the case here has a row of its own.

#![expect(clippy::indexing_slicing, reason = "what is not as expected fails the test")]

use std::{fs, time::Duration};

use harness::{
    bench::{Bench, message, policy},
    conformance::{self, Guest},
    host::Place,
};
use sandhog_executor::{
    CallMessage, CallReport, CodeTiers, Component, EngineOptions, Executor as _, Flavour, GuestCall, Verdict,
};
use sandhog_queue::{
    EffectSend, FailureKind,
    message::{AttributeValue, Attributes, QueueName},
};
use serde_json::{Value, json};

const RETRY: Option<FailureKind> = Some(FailureKind::Retry);
const REJECT: Option<FailureKind> = Some(FailureKind::Reject);

/// One message, with attributes of every kind and in a group.
fn call(bench: &Bench, body: &[u8]) -> GuestCall {
    let mut message = message(body);
    let pairs = vec![
        ("grüße".to_owned(), AttributeValue::Text("häuser".to_owned())),
        ("weight".to_owned(), AttributeValue::Number("-12.50".to_owned())),
        ("raw".to_owned(), AttributeValue::Binary(vec![0, 255])),
    ];
    message.attributes = Attributes::new(pairs).unwrap();
    message.group_id = Some("blue".to_owned());
    let mut call = bench.call(&[], &bench.policy);
    call.messages = vec![CallMessage {
        message,
        queue: QueueName::new("orders").unwrap(),
        receive_count: 3,
    }];
    call
}

struct Subject {
    bench: Bench,
    component: Component,
    name: &'static str,
    is_command: bool,
}

impl Subject {
    async fn load(guest: &Guest) -> Self {
        let mut bench = Bench::with(EngineOptions {
            max_live_instances: 4,
            compiler: harness::sandhog_compiler(),
            tiers: CodeTiers::Fast,
            ..EngineOptions::default()
        });
        bench.policy = policy();
        if guest.is_command {
            bench.policy.grants.stdout = Some(QueueName::new("out").unwrap());
        }
        let wasm = fs::read(&guest.wasm).unwrap();
        let component = bench
            .load(wasm)
            .await
            .unwrap_or_else(|error| panic!("{}: {error}", guest.name));
        let expected = match guest.name {
            name if name.ends_with("-batch") => Flavour::BatchHandler,
            _ if guest.is_command => Flavour::Command,
            _ => Flavour::Handler,
        };
        assert_eq!(component.info.flavour, expected, "{}", guest.name);
        Self {
            bench,
            component,
            name: guest.name,
            is_command: guest.is_command,
        }
    }

    async fn run(&self, body: &[u8]) -> CallReport {
        self.bench.executor.run(&self.component, call(&self.bench, body)).await
    }

    /// The verdict of a body: the kind of failure, its reason, and the delay that was asked for in seconds.
    async fn check(&self, body: &str, (kind, reason, after): (Option<FailureKind>, &str, Option<u64>)) {
        let report = self.run(body.as_bytes()).await;
        let found = match report.verdicts.as_slice() {
            [Verdict::Success] => (None, String::new(), None),
            [Verdict::Failed(failure)] => (
                Some(failure.kind),
                failure.reason.clone(),
                failure.retry_after.map(|after| after.as_secs()),
            ),
            other => panic!("{}: {body}: {other:?}", self.name),
        };
        assert_eq!(found, (kind, reason.to_owned(), after), "{}: {body}", self.name);
        assert!(kind.is_none() || report.sends.is_empty(), "{}: {body}", self.name);
    }

    /// What a body makes it send, to queue `out`.
    async fn sends(&self, body: &[u8]) -> Vec<EffectSend> {
        let report = self.run(body).await;
        assert_eq!(
            report.verdicts,
            [Verdict::Success],
            "{}: {:?}",
            self.name,
            String::from_utf8_lossy(body)
        );
        assert!(report.sends.iter().all(|send| send.queue.as_str() == "out"));
        report.sends
    }

    async fn check_verdicts(&self) {
        let later = if self.is_command {
            (RETRY, "7 not yet", None)
        } else {
            (RETRY, "not yet", Some(7))
        };
        self.check("ok", (None, "", None)).await;
        self.check("retry the späte answer", (RETRY, "the späte answer", None))
            .await;
        self.check("retry-after 7 not yet", later).await;
        self.check("reject no date", (REJECT, "no date", None)).await;
        let report = self.run(b"crash").await;
        let [Verdict::Failed(failure)] = report.verdicts.as_slice() else {
            panic!("{}: {report:?}", self.name)
        };
        assert_eq!(failure.kind, FailureKind::Trap, "{}: {}", self.name, failure.reason);
        // A crash leaves nothing behind: the next message has an instance of its own.
        self.check("ok", (None, "", None)).await;
        let report = self.run(b"wait 300").await;
        assert_eq!(report.verdicts, [Verdict::Success], "{}", self.name);
        // Rust's has no clock, and counts.
        assert!(
            self.name == "rust" || report.usage.wall >= Duration::from_millis(300),
            "{}",
            self.name
        );
    }

    async fn check_log(&self) {
        self.bench.lines.lock().unwrap().clear();
        self.check("log zwölf Häuser", (None, "", None)).await;
        let lines: Vec<_> = self
            .bench
            .lines
            .lock()
            .unwrap()
            .iter()
            .map(|line| line.text.clone())
            .collect();
        assert!(
            lines.iter().any(|line| line.contains("zwölf Häuser")),
            "{}: {lines:?}",
            self.name
        );
        if !self.is_command {
            self.bench.lines.lock().unwrap().clear();
            let verdicts = self.run(b"crash").await.verdicts;
            // A language whose crash is a trap by itself has nothing to say. The others say it as the reason, or log it.
            let said = format!("{verdicts:?} {:?}", self.bench.lines.lock().unwrap());
            assert!(
                self.name == "c" || said.contains("told to crash"),
                "{}: {said}",
                self.name
            );
        }
    }

    async fn check_bodies(&self) {
        let length = |sends: &[EffectSend]| sends.iter().map(|send| send.message.body.to_vec()).collect::<Vec<_>>();
        let large = "ä".repeat(512 * 1024);
        for body in [b"".as_slice(), b"\xff\xfe ok", large.as_bytes()] {
            let sends = self.sends(body).await;
            assert_eq!(length(&sends), [body.len().to_string().into_bytes()], "{}", self.name);
        }
        let echo = format!("echo {}", "ö".repeat(128 * 1024));
        for _ in 0..20 {
            let sends = self.sends(echo.as_bytes()).await;
            assert!(
                sends.len() == 1 && *sends[0].message.body == *echo.as_bytes(),
                "{}",
                self.name
            );
        }
    }

    async fn check_sends(&self) {
        let sends = self.sends(b"send-all").await;
        let bodies: Vec<_> = sends.iter().map(|send| &*send.message.body).collect();
        assert_eq!(bodies, [b"one".as_slice(), b"two", b"three"], "{}", self.name);
        let facts = self.sends(b"facts and more").await;
        let facts: Value = serde_json::from_slice(&facts[0].message.body).unwrap();
        assert_eq!(
            (&facts["queue"], &facts["receive-count"], &facts["length"]),
            (&json!("orders"), &json!(3), &json!(14))
        );
        assert!(facts["id"].is_string(), "{}: {facts}", self.name);
        if self.is_command {
            return;
        }
        assert_eq!(facts["group"], json!("blue"), "{}", self.name);
        let [one, two, three] = &sends[..] else { panic!() };
        let expected = [
            ("t".to_owned(), AttributeValue::Text("täxt".to_owned())),
            ("n".to_owned(), AttributeValue::Number("-12.50".to_owned())),
            ("b".to_owned(), AttributeValue::Binary(vec![0, 255])),
        ];
        let mut pairs = one.message.attributes.pairs().to_vec();
        pairs.sort_by_key(|(name, _)| ["t", "n", "b"].iter().position(|known| known == name));
        assert_eq!(pairs, expected, "{}", self.name);
        assert_eq!(
            (two.message.delay, two.message.priority),
            (Some(Duration::from_secs(1)), Some(9)),
            "{}",
            self.name
        );
        assert_eq!(
            (
                three.message.group_id.as_deref(),
                three.message.deduplication_id.as_deref()
            ),
            (Some("g"), Some("d")),
            "{}",
            self.name
        );
        let echo = self.sends(b"echo on").await;
        assert_eq!(echo[0].message.group_id.as_deref(), Some("blue"), "{}", self.name);
        let sent = call(&self.bench, b"").messages[0].message.attributes.clone();
        let (mut pairs, mut expected) = (echo[0].message.attributes.pairs().to_vec(), sent.pairs().to_vec());
        pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
        expected.sort_by(|(one, _), (other, _)| one.cmp(other));
        assert_eq!(pairs, expected, "{}", self.name);
        self.check("denied", (REJECT, "not-granted", None)).await;
    }
}

async fn conforms(guest: Guest) {
    let subject = Subject::load(&guest).await;
    subject.check_verdicts().await;
    subject.check_log().await;
    subject.check_bodies().await;
    subject.check_sends().await;
}

#[tokio::test]
async fn a_handler_in_rust_conforms() {
    conforms(conformance::rust()).await;
}

#[tokio::test]
async fn a_handler_in_javascript_conforms() {
    conforms(conformance::javascript()).await;
}

#[tokio::test]
async fn a_handler_in_python_conforms() {
    conforms(conformance::python()).await;
}

#[tokio::test]
async fn a_handler_in_go_conforms() {
    conforms(conformance::go()).await;
}

#[tokio::test]
async fn a_handler_in_c_conforms() {
    conforms(conformance::c()).await;
}

#[tokio::test]
async fn a_program_in_c_conforms_as_far_as_a_program_can() {
    conforms(conformance::command_c()).await;
}

/// A verdict for each message of a batch, in their order, and the sends of those that succeeded.
async fn batches_conform(guest: Guest) {
    let subject = Subject::load(&guest).await;
    let bodies = [b"one".as_slice(), b"reject", b"", b"retry", b"two"];
    let report = subject.bench.run(&subject.component, &bodies).await;
    let verdicts = report.verdicts.iter().map(|verdict| match verdict {
        Verdict::Success => (None, ""),
        Verdict::Failed(failure) => (Some(failure.kind), failure.reason.as_str()),
        Verdict::NotRun(why) => panic!("{}: {why}", guest.name),
    });
    let done = (None, "");
    let expected = [done, (REJECT, "never"), done, (RETRY, "later"), done];
    assert_eq!(verdicts.collect::<Vec<_>>(), expected, "{}", guest.name);
    let sent: Vec<_> = report.sends.iter().map(|send| &*send.message.body).collect();
    assert_eq!(sent, [b"one".as_slice(), b"", b"two"], "{}", guest.name);
}

#[tokio::test]
async fn batch_handlers_in_every_language_conform() {
    for guest in [
        conformance::rust_batch(),
        conformance::javascript_batch(),
        conformance::python_batch(),
        conformance::go_batch(),
        conformance::c_batch(),
    ] {
        batches_conform(guest).await;
    }
}

#[test]
fn dead_letters_are_the_same_from_every_language() {
    let guests = [
        conformance::rust(),
        conformance::javascript(),
        conformance::python(),
        conformance::go(),
        conformance::c(),
        conformance::command_c(),
    ];
    let place = Place::new();
    let queues: String = guests.iter().fold(String::new(), |text, guest| {
        format!("{text}[queues.{}]\nmax-receives = 1\n", guest.name)
    });
    place.configure(&queues);
    for guest in &guests {
        let grant = if guest.is_command {
            "stdout = \"out\"\n"
        } else {
            "[grant]\nsend = [\"out\"]\n"
        };
        place.install(guest.name, &fs::read(&guest.wasm).unwrap(), grant);
    }
    let host = place.start();
    host.wait_ready();
    for guest in &guests {
        for body in ["reject no date", "crash", "retry later"] {
            assert!(
                host.try_send(guest.name, body.as_bytes(), "attr.tenant=acme&group=blue")
                    .is_some(),
                "{body}"
            );
            host.wait_empty(guest.name);
        }
        let dead = host.dead(guest.name);
        let expected = [
            ("reject no date", "reject", Some("no date")),
            // What a crash says is its language's own.
            ("crash", "trap", None),
            ("retry later", "retry", Some("later")),
        ];
        assert_eq!(dead.len(), expected.len(), "{}: {dead:?}", guest.name);
        for (letter, (body, kind, reason)) in dead.iter().zip(expected) {
            let failure = &letter["failure"];
            assert_eq!(
                (
                    &letter["body"],
                    &failure["kind"],
                    &failure["handler"],
                    &letter["attributes"]["tenant"]
                ),
                (
                    &json!(body),
                    &json!(kind),
                    &json!(guest.name),
                    &json!({ "text": "acme" })
                ),
                "{letter}"
            );
            assert!(reason.is_none_or(|reason| failure["reason"] == reason), "{letter}");
        }
    }
}
