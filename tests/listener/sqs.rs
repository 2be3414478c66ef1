//! Requests of SQS clients that are cut, slow, huge or deep: each is answered as SQS answers or ends its connection, and others are
//! served.

use std::time::Duration;

use sandhog::admin::ListenerLimits;
use serde_json::{Value, json};

use super::served::{Served, patient};

/// A way to ask for the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Json,
    Query,
}

const BOTH: [Protocol; 2] = [Protocol::Json, Protocol::Query];
const QUEUE: &str = "http://localhost/000000000000/orders";

impl Protocol {
    /// The head of a request with these further headers.
    fn head(self, more: &str) -> String {
        let own = match self {
            Self::Json => "x-amz-target: AmazonSQS.SendMessage\r\ncontent-type: application/x-amz-json-1.0",
            Self::Query => "content-type: application/x-www-form-urlencoded",
        };
        format!("POST / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{own}\r\n{more}\r\n\r\n")
    }

    fn sized(self, body: &str) -> String {
        format!("{}{body}", self.head(&format!("content-length: {}", body.len())))
    }

    /// A send of this text, of which nothing has to be escaped.
    fn send(self, text: &str) -> String {
        match self {
            Self::Json => json!({ "QueueUrl": QUEUE, "MessageBody": text }).to_string(),
            Self::Query => format!("Action=SendMessage&QueueUrl={QUEUE}&MessageBody={text}"),
        }
    }

    /// Fails unless this is an error as SQS writes it, with this status.
    fn check_error(self, answer: &str, status: u16) {
        let shown: String = answer.chars().take(500).collect();
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("{self:?}: {shown}"));
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{self:?}: {shown}");
        assert!(head.contains("x-amzn-requestid: "), "{shown}");
        match self {
            Self::Json => {
                let error: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{shown}"));
                assert!(
                    error["__type"].as_str().is_some_and(|kind| kind.contains('#')),
                    "{shown}"
                );
                assert!(head.contains("x-amzn-query-error: "), "{shown}");
            }
            Self::Query => {
                // So AWS answers what names no action.
                let unknown = status == 404 && body == "<UnknownOperationException/>";
                assert!(
                    unknown || body.starts_with("<?xml") && body.contains("<Code>"),
                    "{shown}"
                );
            }
        }
    }
}

fn check_served(served: &Served) {
    assert_eq!(served.ask("GET /live"), 200);
    for protocol in BOTH {
        let answer = served.say(&protocol.sized(&protocol.send("hello"))).rest();
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.contains("MessageId"),
            "{answer}"
        );
    }
}

#[test]
fn a_slow_body_of_an_sqs_client_ends_its_request_in_the_protocol() {
    let served = Served::new(ListenerLimits {
        body: Duration::from_millis(50),
        ..patient()
    });
    for protocol in BOTH {
        let mut slow = served.say(&format!("{}x", protocol.head("content-length: 10")));
        check_served(&served);
        protocol.check_error(&slow.rest(), 400);
    }
}

#[test]
fn a_cut_body_of_an_sqs_client_does_nothing() {
    let served = Served::new(patient());
    for protocol in BOTH {
        let whole = protocol.sized(&protocol.send("cut"));
        for length in [whole.len() - 1, whole.len() - 20, 40] {
            let mut cut = served.say(whole.get(..length).unwrap());
            cut.hang_up_writing();
            let answer = cut.rest();
            assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
        // A chunk that says more than comes.
        let mut cut = served.say(&format!(
            "{}ff\r\n{}",
            protocol.head("transfer-encoding: chunked"),
            protocol.send("cut")
        ));
        cut.hang_up_writing();
        assert!(!cut.rest().starts_with("HTTP/1.1 200"));
    }
    served.wait_metric("sandhog_listener_requests 0");
    assert_eq!(served.counts().ready, 0);
    check_served(&served);
}

#[test]
fn a_huge_body_of_an_sqs_client_is_refused_in_the_protocol() {
    let served = Served::new(patient());
    for protocol in BOTH {
        // It says so: none of it is read.
        let answer = served.say(&protocol.head("content-length: 8388609")).rest();
        protocol.check_error(&answer, 400);
        let answer = served
            .say(&protocol.head("content-length: 18446744073709551615"))
            .rest();
        assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
        // It does not say so.
        let chunk = format!("100000\r\n{}\r\n", "x".repeat(0x10_0000));
        let mut huge = served.say(&protocol.head("transfer-encoding: chunked"));
        for _ in 0..9 {
            huge.say(chunk.as_bytes());
        }
        let answer = huge.rest();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
        // As large as may be, and larger than a message.
        let answer = served
            .say(&protocol.sized(&protocol.send(&"x".repeat(8_000_000))))
            .rest();
        protocol.check_error(&answer, 400);
    }
    assert_eq!(served.counts().ready, 0);
    check_served(&served);
}

#[test]
fn a_deep_or_wide_body_of_an_sqs_client_is_refused_in_the_protocol() {
    let served = Served::new(patient());
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(100_000), close.repeat(100_000));
    for body in [
        deep("[", "]"),
        deep("{\"a\":", "}"),
        format!("{{\"QueueUrl\":{}}}", deep("[", "]")),
        format!(
            "{{\"QueueUrl\":\"{QUEUE}\",\"MessageBody\":\"x\",\"unknown\":{}}}",
            deep("{\"a\":", "1}")
        ),
        "[".repeat(1_000_000),
        "\"".repeat(1_000_001),
        format!("{{{}", "\"a\":1,".repeat(1_000_000)),
        "\u{0}".repeat(100_000),
    ] {
        Protocol::Json.check_error(&served.say(&Protocol::Json.sized(&body)).rest(), 400);
    }
    let send = Protocol::Query.send("x");
    let wide = |pair: &str| pair.repeat(6_000_000 / pair.len());
    for body in [
        wide("&"),
        wide("a=b&"),
        wide("Action=SendMessage&"),
        wide("%"),
        wide("MessageAttribute.1.Value."),
        format!("{send}&{}", wide("MessageAttribute.1.Name=a&")),
    ] {
        let answer = served.say(&Protocol::Query.sized(&body)).rest();
        let status = if answer.starts_with("HTTP/1.1 404") { 404 } else { 400 };
        Protocol::Query.check_error(&answer, status);
    }
    assert_eq!(served.counts().ready, 0);
    // Places in lists that no list is long enough for.
    for place in ["0", "999999", "4294967296", "18446744073709551616"] {
        let body = format!("{send}&MessageAttribute.{place}.Name=a&MessageAttribute.{place}.Value.DataType=String");
        let answer = served.say(&Protocol::Query.sized(&body)).rest();
        if !answer.starts_with("HTTP/1.1 200") {
            Protocol::Query.check_error(&answer, 400);
        }
    }
    check_served(&served);
}

#[test]
fn a_head_of_an_sqs_client_that_means_two_things_is_refused_in_the_protocol() {
    let served = Served::new(patient());
    for protocol in BOTH {
        for header in [
            "content-encoding: gzip",
            "content-range: bytes 0-1/10",
            "origin: http://example.com",
            "sec-fetch-site: cross-site",
        ] {
            let answer = served
                .say(&protocol.head(&format!("content-length: 0\r\n{header}")))
                .rest();
            let status = if header.starts_with("content") { 400 } else { 403 };
            protocol.check_error(&answer, status);
        }
    }
    check_served(&served);
}
