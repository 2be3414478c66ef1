//! What the demo asks of the host over HTTP. The only file that knows routes and field names.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::Response;

/// How long an answer may take.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// The largest answer: ten messages of 1 MiB in base64, and what is around them.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A running host.
pub(crate) struct Host {
    agent: Agent,
    /// Such as `http://127.0.0.1:9324`.
    pub(crate) url: String,
}

/// A message that the demo received.
pub(crate) struct Received {
    pub(crate) body: Vec<u8>,
    pub(crate) attributes: BTreeMap<String, String>,
    receipt: Value,
}

/// A message that could not be handled.
pub(crate) struct DeadLetter {
    pub(crate) id: String,
    pub(crate) reason: String,
}

impl Host {
    pub(crate) fn new(address: &str) -> Self {
        let config = Agent::config_builder()
            .timeout_global(Some(ANSWER_TIME_MAX))
            .http_status_as_error(false)
            // It is on this machine.
            .proxy(None)
            .build();
        Self {
            agent: config.into(),
            url: format!("http://{address}"),
        }
    }

    /// Tells whether the host's handlers are loaded and its queues answer.
    pub(crate) fn is_ready(&self) -> bool {
        let response = self.agent.get(format!("{}/ready", self.url)).call();
        response.is_ok_and(|response| response.status().is_success())
    }

    /// Sends a message and returns its id.
    pub(crate) fn send(&self, queue: &str, body: &[u8], attributes: &[(&str, &str)]) -> Result<String> {
        let mut request = self.agent.post(format!("{}/queues/{queue}", self.url));
        for (name, value) in attributes {
            request = request.query(format!("attr.{name}"), value);
        }
        let answer = answer(request.send(body)).with_context(|| format!("sending to {queue}"))?;
        Ok(text(&answer, "id")?.to_owned())
    }

    /// Returns how many messages of each queue wait, are in flight, or are delayed.
    pub(crate) fn unsettled(&self) -> Result<BTreeMap<String, u64>> {
        let answer = answer(self.agent.get(format!("{}/queues", self.url)).call()).context("reading the queues")?;
        let unsettled = |queue: &Value| {
            let n_messages = number(queue, "ready")? + number(queue, "in-flight")? + number(queue, "delayed")?;
            Ok((text(queue, "name")?.to_owned(), n_messages))
        };
        list(&answer, "queues")?.iter().map(unsettled).collect()
    }

    /// Takes all messages of a queue, and deletes each once it was passed to `keep`.
    pub(crate) fn take(&self, queue: &str, mut keep: impl FnMut(Received) -> Result<()>) -> Result<()> {
        loop {
            let request = self.agent.post(format!("{}/queues/{queue}/receive", self.url));
            let request = request.query("max", "10").query("wait", "0s");
            let answer = answer(request.send_empty()).with_context(|| format!("receiving from {queue}"))?;
            let messages = list(&answer, "messages")?;
            if messages.is_empty() {
                return Ok(());
            }
            for message in messages {
                let received = received(message)?;
                let settlement = json!({ "receipt": received.receipt, "action": "delete" });
                keep(received)?;
                self.settle(queue, &settlement)?;
            }
        }
    }

    /// Returns the dead letters of a queue, oldest first.
    pub(crate) fn dead_letters(&self, queue: &str) -> Result<Vec<DeadLetter>> {
        let url = format!("{}/queues/{queue}/dead", self.url);
        let answer = answer(self.agent.get(url).call()).with_context(|| format!("reading what is dead on {queue}"))?;
        let letter = |letter: &Value| {
            let failure = letter.get("failure").context("a dead letter has no failure")?;
            Ok(DeadLetter {
                id: text(letter, "id")?.to_owned(),
                reason: text(failure, "reason")?.to_owned(),
            })
        };
        list(&answer, "dead-letters")?.iter().map(letter).collect()
    }

    fn settle(&self, queue: &str, settlement: &Value) -> Result<()> {
        let request = self.agent.post(format!("{}/queues/{queue}/settle", self.url));
        let response = request
            .send_json(settlement)
            .with_context(|| format!("settling on {queue}"))?;
        if !response.status().is_success() {
            bail!("settling on {queue}: {}", response.status());
        }
        Ok(())
    }
}

/// Returns the JSON of a response, or its text as an error.
fn answer(response: Result<Response<ureq::Body>, ureq::Error>) -> Result<Value> {
    let mut response = response?;
    let status = response.status();
    let bytes = response
        .body_mut()
        .with_config()
        .limit(ANSWER_BYTES_MAX)
        .read_to_vec()?;
    if !status.is_success() {
        bail!("{status}: {}", String::from_utf8_lossy(&bytes).trim());
    }
    serde_json::from_slice(&bytes).context("the answer is not JSON")
}

fn received(message: &Value) -> Result<Received> {
    let attributes = message
        .get("attributes")
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    Ok(Received {
        body: body(message)?,
        attributes: attributes.map(|(name, value)| (name.clone(), plain(value))).collect(),
        receipt: message.get("receipt").cloned().context("the answer has no receipt")?,
    })
}

/// Returns a body, which is in one of two fields: text as it is, other bytes in base64.
fn body(message: &Value) -> Result<Vec<u8>> {
    match message.get("body").and_then(Value::as_str) {
        Some(text) => Ok(text.as_bytes().to_vec()),
        None => STANDARD.decode(text(message, "body-base64")?).context("body-base64"),
    }
}

/// Returns an attribute's value as text, whether or not it says which kind it is.
fn plain(value: &Value) -> String {
    let inner = value
        .as_object()
        .and_then(|kinds| kinds.values().next())
        .unwrap_or(value);
    inner.as_str().map_or_else(|| inner.to_string(), str::to_owned)
}

fn text<'a>(value: &'a Value, name: &str) -> Result<&'a str> {
    value
        .get(name)
        .and_then(Value::as_str)
        .with_context(|| format!("the answer has no {name}: {value}"))
}

fn number(value: &Value, name: &str) -> Result<u64> {
    value
        .get(name)
        .and_then(Value::as_u64)
        .with_context(|| format!("the answer has no {name}: {value}"))
}

fn list<'a>(value: &'a Value, name: &str) -> Result<&'a [Value]> {
    let list = value.get(name).and_then(Value::as_array).map(Vec::as_slice);
    list.with_context(|| format!("the answer has no {name}: {value}"))
}
