//! The SQS endpoint: what clients of SQS get from Simple queues is what AWS answers, as recordings of it and its documents say.
//!
//! Times are real here. A claim about time holds for at least as long as it says, and waits for the fact that it promises.

use std::{
    thread,
    time::{Duration, Instant},
};

use harness::{
    host::{Host, Place},
    sqs_client::{Received, SqsClient, SqsError},
    sqs_host::metric,
    wait_for,
};
use serde_json::{Value, json};

mod answers;
mod attributes;
mod dead_letters;
mod fifo;
mod receipts;
mod waits;
mod wire;

/// A host, and a client of it.
struct Endpoint {
    host: Host,
    client: SqsClient,
    _place: Place,
}

impl Endpoint {
    fn start() -> Self {
        let place = Place::new();
        let host = place.start();
        let client = SqsClient::new(&host.url);
        Self {
            host,
            client,
            _place: place,
        }
    }

    fn standard(&self, attributes: &[(&str, &str)]) -> String {
        self.client.create_queue("orders", attributes)
    }

    fn fifo(&self, attributes: &[(&str, &str)]) -> String {
        let attributes = [&[("FifoQueue", "true")], attributes].concat();
        self.client.create_queue("orders.fifo", &attributes)
    }

    /// Makes a queue whose messages become dead letters after so many receives, and its dead-letter queue.
    fn with_dead_letters(&self, suffix: &str, max_receives: u32) -> (String, String) {
        let kind: &[(&str, &str)] = if suffix.is_empty() {
            &[]
        } else {
            &[("FifoQueue", "true")]
        };
        let dead = self.client.create_queue(&format!("failed{suffix}"), kind);
        let target = self.client.arn(&dead);
        let policy = json!({ "deadLetterTargetArn": target, "maxReceiveCount": max_receives }).to_string();
        let attributes = [kind, &[("RedrivePolicy", &policy)]].concat();
        (self.client.create_queue(&format!("orders{suffix}"), &attributes), dead)
    }

    fn refusal(&self, action: &str, body: &Value) -> SqsError {
        match self.client.call(action, body) {
            Ok(answer) => panic!("{action} {body} was answered with {answer}"),
            Err(error) => error,
        }
    }

    /// Asserts that a call is refused with a code and a text.
    fn check_refused(&self, action: &str, body: &Value, code: &str, text: &str) {
        let error = self.refusal(action, body);
        assert!(error.is(code), "{action} {body}: {error:?}");
        assert!(error.message.contains(text), "{action} {body}: {error:?}");
    }

    /// A receive of one message that waits for it, and is woken before its wait is over.
    fn poll(&self, queue: &str) -> Vec<Received> {
        const WAIT: u64 = 20;
        let asked = Instant::now();
        let received = self.client.receive(queue, 1, WAIT);
        assert!(asked.elapsed() < Duration::from_secs(WAIT), "{:?}", asked.elapsed());
        received
    }

    /// Waits until a receive is under way, beside the request that asks.
    fn wait_polling(&self) {
        until(|| metric(&self.host, "sandhog_listener_requests") == 2);
    }

    /// Receives at most ten messages for so many seconds.
    fn take(&self, queue: &str, seconds: u64) -> Vec<Received> {
        self.client.receive_with(
            queue,
            json!({ "MaxNumberOfMessages": 10, "VisibilityTimeout": seconds }),
        )
    }
}

fn bodies(messages: &[Received]) -> Vec<&str> {
    messages.iter().map(|message| message.body.as_str()).collect()
}

fn until(mut fact: impl FnMut() -> bool) {
    wait_for("what the test waits for", || fact().then_some(()));
}
