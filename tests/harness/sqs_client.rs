//! A client of SQS that has nothing in common with ours or with the SDK: the wire protocol (AWS JSON 1.0) as it is.

use std::time::Duration;

use serde_json::{Value, json};

/// Servers keep the queues of regions and accounts apart: whoever shall see the same queues takes these.
pub const REGION: &str = "us-east-1";
pub const ACCESS_KEY: &str = "test";
pub const SECRET_KEY: &str = "test";

/// More than the longest poll.
const TIME_MAX: Duration = Duration::from_mins(1);

/// A client of whatever answers at an address.
#[derive(Clone, Debug)]
pub struct SqsClient {
    url: String,
    agent: ureq::Agent,
}

/// A call that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqsError {
    /// Zero if there was no answer.
    pub status: u16,
    /// What `__type` says, without its namespace.
    pub code: String,
    pub message: String,
    /// The header `x-amzn-query-error`, whose code SDKs prefer: `LEGACY-CODE;Sender` or `LEGACY-CODE;Receiver`.
    pub query_error: Option<String>,
}

impl SqsError {
    /// Whether this is an error of this code, by any of its names.
    pub fn is(&self, code: &str) -> bool {
        let query = self.query_error.as_deref().and_then(|error| error.split(';').next());
        let names = [Some(self.code.as_str()), query];
        names.contains(&Some(code)) || names.contains(&Some(&legacy_code(code)))
    }
}

/// A received message.
#[derive(Clone, Debug)]
pub struct Received {
    pub id: String,
    pub handle: String,
    pub body: String,
    /// What the queue says of it, such as `ApproximateReceiveCount`.
    pub system: Value,
    /// What its sender says of it: `{"NAME": {"DataType": ..}}`.
    pub attributes: Value,
}

impl Received {
    fn new(message: &Value) -> Self {
        let text = |name: &str| match message.get(name) {
            Some(Value::String(text)) => text.clone(),
            _ => panic!("no {name} in {message}"),
        };
        let part = |name: &str| message.get(name).cloned().unwrap_or(Value::Null);
        Self {
            id: text("MessageId"),
            handle: text("ReceiptHandle"),
            body: text("Body"),
            system: part("Attributes"),
            attributes: part("MessageAttributes"),
        }
    }

    pub fn receive_count(&self) -> u64 {
        number(&self.system, "ApproximateReceiveCount")
    }

    pub fn group(&self) -> Option<&str> {
        self.system.get("MessageGroupId")?.as_str()
    }
}

impl SqsClient {
    pub fn new(url: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(TIME_MAX))
            .http_status_as_error(false)
            .proxy(None);
        Self {
            url: url.to_owned(),
            agent: config.build().into(),
        }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// What the SDK wants to know, as it reads it from the environment.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL_SQS", self.url.clone()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            ("NO_PROXY", "127.0.0.1".to_owned()),
        ]
    }

    pub fn call(&self, action: &str, body: &Value) -> Result<Value, SqsError> {
        let no_answer = |error: ureq::Error| SqsError {
            status: 0,
            code: String::new(),
            message: error.to_string(),
            query_error: None,
        };
        let mut response = self
            .agent
            .post(&self.url)
            .header("Content-Type", "application/x-amz-json-1.0")
            .header("X-Amz-Target", format!("AmazonSQS.{action}"))
            .header("X-Amz-Date", "20260101T000000Z")
            .header("Authorization", authorization())
            .send(body.to_string())
            .map_err(no_answer)?;
        let text = response.body_mut().with_config().limit(64 << 20).read_to_string();
        let text = text.map_err(no_answer)?;
        let answer = if text.is_empty() {
            json!({})
        } else {
            serde_json::from_str(&text).unwrap_or_else(|_| panic!("{action} was answered with {text}"))
        };
        if response.status().is_success() {
            return Ok(answer);
        }
        let field = |names: &[&str]| {
            let found = names.iter().find_map(|name| answer.get(*name)?.as_str());
            found.unwrap_or_default().to_owned()
        };
        let header = response.headers().get("x-amzn-query-error");
        Err(SqsError {
            status: response.status().as_u16(),
            code: field(&["__type"]).rsplit('#').next().unwrap_or_default().to_owned(),
            message: field(&["message", "Message"]),
            query_error: header.map(|value| value.to_str().unwrap().to_owned()),
        })
    }

    /// A call that must succeed.
    pub fn expect(&self, action: &str, body: &Value) -> Value {
        self.call(action, body)
            .unwrap_or_else(|error| panic!("{action} {body}: {error:?}"))
    }

    /// Makes a queue, and returns its URL.
    pub fn create_queue(&self, name: &str, attributes: &[(&str, &str)]) -> String {
        let attributes: serde_json::Map<_, _> = attributes
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .collect();
        let answer = self.expect("CreateQueue", &json!({ "QueueName": name, "Attributes": attributes }));
        text(&answer, "QueueUrl")
    }

    pub fn delete_queue(&self, queue: &str) {
        self.expect("DeleteQueue", &json!({ "QueueUrl": queue }));
    }

    pub fn attributes(&self, queue: &str) -> Value {
        let answer = self.expect(
            "GetQueueAttributes",
            &json!({ "QueueUrl": queue, "AttributeNames": ["All"] }),
        );
        answer.get("Attributes").cloned().unwrap_or(Value::Null)
    }

    pub fn arn(&self, queue: &str) -> String {
        text(&self.attributes(queue), "QueueArn")
    }

    /// How many messages are visible, in flight, and delayed. Real SQS says so approximately, and late.
    pub fn counts(&self, queue: &str) -> (u64, u64, u64) {
        let attributes = self.attributes(queue);
        (
            number(&attributes, "ApproximateNumberOfMessages"),
            number(&attributes, "ApproximateNumberOfMessagesNotVisible"),
            number(&attributes, "ApproximateNumberOfMessagesDelayed"),
        )
    }

    /// Sends a message, and returns its id.
    pub fn send(&self, queue: &str, body: &str) -> String {
        self.send_with(queue, body, json!({}))
    }

    /// Sends a message to a FIFO queue, with its body as the id for deduplication.
    pub fn send_to_group(&self, queue: &str, group: &str, body: &str) -> String {
        let more = json!({ "MessageGroupId": group, "MessageDeduplicationId": body });
        self.send_with(queue, body, more)
    }

    pub fn send_with(&self, queue: &str, body: &str, more: Value) -> String {
        let answer = self
            .try_send(queue, body, more)
            .unwrap_or_else(|error| panic!("a message for {queue} was refused: {error:?}"));
        text(&answer, "MessageId")
    }

    pub fn try_send(&self, queue: &str, body: &str, more: Value) -> Result<Value, SqsError> {
        let request = json!({ "QueueUrl": queue, "MessageBody": body });
        self.call("SendMessage", &with(request, more))
    }

    /// Receives up to `max` messages with all that is known of them, and waits `seconds` for the first.
    pub fn receive(&self, queue: &str, max: usize, seconds: u64) -> Vec<Received> {
        self.receive_with(queue, json!({ "MaxNumberOfMessages": max, "WaitTimeSeconds": seconds }))
    }

    pub fn receive_with(&self, queue: &str, more: Value) -> Vec<Received> {
        let request = json!({
            "QueueUrl": queue,
            "MessageSystemAttributeNames": ["All"],
            "MessageAttributeNames": ["All"],
        });
        let answer = self.expect("ReceiveMessage", &with(request, more));
        let messages = answer.get("Messages").and_then(Value::as_array);
        messages.into_iter().flatten().map(Received::new).collect()
    }

    pub fn delete(&self, queue: &str, handle: &str) -> Result<Value, SqsError> {
        self.call("DeleteMessage", &json!({ "QueueUrl": queue, "ReceiptHandle": handle }))
    }

    pub fn change_visibility(&self, queue: &str, handle: &str, seconds: u64) -> Result<Value, SqsError> {
        self.call(
            "ChangeMessageVisibility",
            &json!({ "QueueUrl": queue, "ReceiptHandle": handle, "VisibilityTimeout": seconds }),
        )
    }

    /// Takes all messages out of a queue, until none comes for two seconds, and returns their bodies.
    pub fn take_all(&self, queue: &str) -> Vec<String> {
        let mut bodies = Vec::new();
        loop {
            let request = json!({ "MaxNumberOfMessages": 10, "WaitTimeSeconds": 2, "VisibilityTimeout": 30 });
            let messages = self.receive_with(queue, request);
            if messages.is_empty() {
                return bodies;
            }
            for message in messages {
                self.delete(queue, &message.handle).unwrap();
                bodies.push(message.body);
            }
        }
    }
}

/// Well-formed, as some servers read the region off it; none checks it.
pub fn authorization() -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20260101/{REGION}/sqs/aws4_request, \
         SignedHeaders=host;x-amz-date;x-amz-target, Signature={:064}",
        0
    )
}

/// The code of the older protocol, which SDKs report for some errors.
pub fn legacy_code(code: &str) -> String {
    match code {
        "QueueDoesNotExist" => "AWS.SimpleQueueService.NonExistentQueue".to_owned(),
        "BatchEntryIdsNotDistinct"
        | "BatchRequestTooLong"
        | "EmptyBatchRequest"
        | "InvalidBatchEntryId"
        | "MessageNotInflight"
        | "PurgeQueueInProgress"
        | "QueueDeletedRecently"
        | "TooManyEntriesInBatchRequest"
        | "UnsupportedOperation" => format!("AWS.SimpleQueueService.{code}"),
        _ => code.to_owned(),
    }
}

fn with(mut request: Value, more: Value) -> Value {
    if let (Value::Object(request), Value::Object(more)) = (&mut request, more) {
        request.extend(more);
    }
    request
}

fn text(answer: &Value, name: &str) -> String {
    match answer.get(name) {
        Some(Value::String(text)) => text.clone(),
        _ => panic!("no {name} in {answer}"),
    }
}

fn number(attributes: &Value, name: &str) -> u64 {
    text(attributes, name).parse().unwrap()
}
