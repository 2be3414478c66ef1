//! What is sent and what comes back: bodies, attributes, sizes and batches.

use super::*;

fn text(value: &str) -> Value {
    json!({ "DataType": "String", "StringValue": value })
}

#[test]
fn attributes_come_back_as_they_were_asked_for() {
    let endpoint = Endpoint::start();
    let queue = endpoint.standard(&[("VisibilityTimeout", "0")]);
    let attributes = json!({ "General": text("Kenobi"), "Hello": text("There"), "Help.Me": text("Me") });
    endpoint
        .client
        .send_with(&queue, "1", json!({ "MessageAttributes": attributes }));
    let receive = |names: &[&str]| {
        let request = json!({ "QueueUrl": queue, "MessageAttributeNames": names });
        endpoint.client.expect("ReceiveMessage", &request)["Messages"][0].clone()
    };
    for all in ["All", "*", ".*"] {
        let message = receive(&[all]);
        assert_eq!(message["MessageAttributes"], attributes, "{all}");
        assert_eq!(
            message["MD5OfMessageAttributes"], "4c360f3fdafd970e05fae2f149d997f5",
            "{all}"
        );
    }
    let some = receive(&["Hel.*", "Missing"]);
    assert_eq!(
        some["MessageAttributes"],
        json!({ "Hello": text("There"), "Help.Me": text("Me") })
    );
    assert_ne!(some["MD5OfMessageAttributes"], "4c360f3fdafd970e05fae2f149d997f5");
    for none in ["hello", "AWS.", "..foo"] {
        assert!(receive(&[none]).get("MessageAttributes").is_none(), "{none}");
    }
}

#[test]
fn a_message_keeps_the_trace_of_its_sender() {
    let endpoint = Endpoint::start();
    let queue = endpoint.standard(&[]);
    let trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1";
    let request = json!({
        "QueueUrl": queue, "MessageBody": "1", "MessageSystemAttributes": { "AWSTraceHeader": text(trace) },
    });
    let sent = endpoint.client.expect("SendMessage", &request);
    assert!(sent["MD5OfMessageSystemAttributes"].is_string());
    wire::post(
        &endpoint.host.url,
        &[("X-Amzn-Trace-Id", trace)],
        "SendMessage",
        &json!({ "QueueUrl": queue, "MessageBody": "2" }),
    );
    for _ in 0..2 {
        let message = endpoint.client.receive(&queue, 1, 0).remove(0);
        assert_eq!(message.system["AWSTraceHeader"], trace);
        assert!(message.attributes.is_null());
    }
}

#[test]
fn a_message_has_only_what_sqs_takes() {
    let endpoint = Endpoint::start();
    let queue = endpoint.standard(&[("MaximumMessageSize", "1024")]);
    let send = |body: &str, more: Value| match endpoint.client.try_send(&queue, body, more) {
        Ok(_) => String::new(),
        Err(error) => error.code,
    };
    let with = |name: &str, value: Value| json!({ "MessageAttributes": { name: value } });
    assert_eq!(send("", json!({})), "MissingRequiredParameterException");
    assert_eq!(send("\u{1}", json!({})), "InvalidMessageContents");
    for (body, more) in [
        ("x", json!({ "DelaySeconds": 901 })),
        ("x", json!({ "MessageDeduplicationId": "1" })),
        ("x", with("a b", text("x"))),
        ("x", with("AWS.a", text("x"))),
        ("x", with("a", text(""))),
        ("x", with("a", text("\u{8}"))),
        ("x", with("a", json!({ "DataType": "Number", "StringValue": "x" }))),
        ("x", with("a", json!({ "DataType": "Text", "StringValue": "x" }))),
        (&"x".repeat(1025), json!({})),
        (&"x".repeat(1020), with("a", text("x"))),
    ] {
        assert_eq!(send(body, more.clone()), "InvalidParameterValueException", "{more}");
    }
    assert_eq!(send(&"é".repeat(512), json!({})), "");
    assert_eq!(
        send("\u{2028}\t\r\n\u{10ffff}", json!({ "MessageGroupId": "tenant" })),
        ""
    );
    let got = endpoint.take(&queue, 30);
    assert!(bodies(&got).contains(&"\u{2028}\t\r\n\u{10ffff}"));
    assert!(got.iter().any(|message| message.group() == Some("tenant")));
}

#[test]
fn a_batch_is_refused_as_a_whole_or_entry_by_entry() {
    let endpoint = Endpoint::start();
    let queue = endpoint.standard(&[]);
    let entry = |id: &str, body: &str| json!({ "Id": id, "MessageBody": body });
    let many: Vec<_> = (0..11).map(|id| entry(&id.to_string(), "x")).collect();
    let large = "x".repeat(600_000);
    for (entries, code) in [
        (json!([]), "EmptyBatchRequest"),
        (json!(many), "TooManyEntriesInBatchRequest"),
        (json!([entry("a", "x"), entry("a", "x")]), "BatchEntryIdsNotDistinct"),
        (json!([entry("a b", "x")]), "InvalidBatchEntryId"),
        (json!([entry("a", &large), entry("b", &large)]), "BatchRequestTooLong"),
    ] {
        let error = endpoint.refusal("SendMessageBatch", &json!({ "QueueUrl": queue, "Entries": entries }));
        assert_eq!(error.code, code);
        assert_eq!(error.query_error, Some(format!("AWS.SimpleQueueService.{code};Sender")));
    }
    let entries = json!([entry("a", "x"), entry("b", "\u{1}")]);
    let answer = endpoint
        .client
        .expect("SendMessageBatch", &json!({ "QueueUrl": queue, "Entries": entries }));
    assert_eq!(answer["Successful"][0]["Id"], "a");
    assert_eq!(answer["Failed"][0]["Id"], "b");
    assert_eq!(answer["Failed"][0]["SenderFault"], true);
    assert_eq!(endpoint.client.counts(&queue), (1, 0, 0));
    let ten: Vec<_> = (0..10).map(|id| entry(&id.to_string(), "x")).collect();
    endpoint
        .client
        .expect("SendMessageBatch", &json!({ "QueueUrl": queue, "Entries": ten }));
    assert_eq!(endpoint.take(&queue, 30).len(), 10);
}

#[test]
fn numbers_of_a_receive_are_held_against_their_ranges() {
    let endpoint = Endpoint::start();
    let queue = endpoint.standard(&[]);
    for (name, value, text) in [
        ("MaxNumberOfMessages", 0, "Must be between 1 and 10, if provided."),
        ("MaxNumberOfMessages", 11, "Must be between 1 and 10, if provided."),
        ("WaitTimeSeconds", 21, "Must be >= 0 and <= 20, if provided."),
        ("VisibilityTimeout", 43_201, "Must be >= 0 and <= 43200, if provided."),
    ] {
        let receive = json!({ "QueueUrl": queue, name: value });
        let text = format!("Value {value} for parameter {name} is invalid. Reason: {text}");
        endpoint.check_refused("ReceiveMessage", &receive, "InvalidParameterValue", &text);
    }
}
