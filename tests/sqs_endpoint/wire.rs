//! The protocols themselves: paths, headers, forms, and refusals that come before any action.

use super::*;

/// Asks with more headers than [`SqsClient`] sends. Answers the status and the body.
pub(super) fn post(url: &str, headers: &[(&str, &str)], action: &str, body: &Value) -> (u16, String) {
    let target = format!("AmazonSQS.{action}");
    let usual = [
        ("content-type", "application/x-amz-json-1.0"),
        ("x-amz-target", target.as_str()),
    ];
    ask(
        ureq::http::Method::POST,
        url,
        &[&usual, headers].concat(),
        &body.to_string(),
    )
}

fn form(url: &str, body: &str) -> (u16, String) {
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    ask(ureq::http::Method::POST, url, &headers, body)
}

fn ask(method: ureq::http::Method, url: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
    let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None);
    let agent: ureq::Agent = config.allow_non_standard_methods(true).build().into();
    let mut request = ureq::http::Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut answer = agent.run(request.body(body.to_owned()).unwrap()).unwrap();
    (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
}

#[test]
fn the_query_protocol_speaks_of_the_same_queues() {
    let endpoint = Endpoint::start();
    let url = &endpoint.host.url;
    let (status, answer) = form(
        url,
        "Action=CreateQueue&QueueName=orders&Attribute.1.Name=DelaySeconds&Attribute.1.Value=0",
    );
    assert_eq!(status, 200);
    assert!(
        answer.contains(&format!("<QueueUrl>{url}/000000000000/orders</QueueUrl>")),
        "{answer}"
    );
    let queue = format!("{url}/000000000000/orders");
    let (_, answer) = form(&queue, "Action=SendMessage&MessageBody=a%26b+c");
    assert!(answer.contains("<MD5OfMessageBody>"), "{answer}");
    let message = endpoint
        .client
        .receive_with(&queue, json!({ "VisibilityTimeout": 0 }))
        .remove(0);
    assert_eq!(message.body, "a&b c");
    let (_, answer) = form(&queue, "Action=ReceiveMessage&AttributeName.1=All");
    assert!(
        answer.contains("<Body>a&amp;b c</Body>") && answer.contains("<Name>SenderId</Name>"),
        "{answer}"
    );
    let (status, answer) = form(&format!("{url}/000000000000/missing"), "Action=PurgeQueue");
    assert_eq!(status, 400);
    assert!(
        answer.contains("<Code>AWS.SimpleQueueService.NonExistentQueue</Code>"),
        "{answer}"
    );
    let (status, answer) = form(url, "Action=FooBar");
    assert_eq!(status, 400);
    assert!(
        answer.contains("<Message>The action FooBar is not valid for this endpoint.</Message>"),
        "{answer}"
    );
}

#[test]
fn a_queue_is_found_whatever_host_account_or_region_its_url_has() {
    let endpoint = Endpoint::start();
    let queue = endpoint.standard(&[]);
    endpoint
        .client
        .send("https://sqs.eu-west-1.amazonaws.com/123456789012/orders", "1");
    endpoint.client.send("orders", "2");
    assert_eq!(endpoint.client.counts(&queue), (2, 0, 0));
    for missing in ["http://elsewhere", "http://elsewhere/000000000000/missing"] {
        let body = json!({ "QueueUrl": missing });
        let error = endpoint.refusal("ReceiveMessage", &body);
        assert_eq!((error.status, error.code.as_str()), (400, "QueueDoesNotExist"));
        assert_eq!(
            error.query_error.as_deref(),
            Some("AWS.SimpleQueueService.NonExistentQueue;Sender")
        );
    }
}

#[test]
fn a_signed_request_that_names_no_operation_says_so() {
    let endpoint = Endpoint::start();
    let url = format!("{}/000000000000/orders", endpoint.host.url);
    let signature = harness::sqs_client::authorization();
    let signed = [("authorization", signature.as_str())];
    let answer = ask(ureq::http::Method::GET, &url, &signed, "");
    assert_eq!(answer, (404, "<UnknownOperationException/>".to_owned()));
    // A page in a browser could hold this link.
    let link = format!("{url}?Action=PurgeQueue&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=00");
    assert_eq!(ask(ureq::http::Method::GET, &link, &[], "").0, 403);
    let (status, answer) = post(&endpoint.host.url, &[], "FooBar", &json!({}));
    assert_eq!(status, 400);
    assert!(answer.contains("UnknownOperationException"), "{answer}");
}

#[test]
fn a_request_that_the_guard_refuses_is_refused_in_its_own_protocol() {
    let endpoint = Endpoint::start();
    let url = &endpoint.host.url;
    let page = ("origin", "https://elsewhere.example");
    let (status, answer) = post(url, &[page], "ListQueues", &json!({}));
    assert_eq!(status, 403);
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["__type"], "com.amazon.coral.service#AccessDeniedException");
    let headers = [page, ("content-type", "application/x-www-form-urlencoded")];
    let (status, answer) = ask(ureq::http::Method::POST, url, &headers, "Action=ListQueues");
    assert_eq!(status, 403);
    assert!(answer.contains("<Code>AccessDenied</Code>"), "{answer}");
}

#[test]
fn a_client_of_sqs_does_not_reach_the_other_routes_without_the_secret() {
    let place = Place::new();
    std::fs::write(place.path().join("secret"), "0123456789abcdef\n").unwrap();
    place.configure("secret-file = \"secret\"\n[queues.orders]\n");
    let host = place.start();
    let signature = harness::sqs_client::authorization();
    for headers in [
        vec![("x-amz-target", "AmazonSQS.ListQueues")],
        vec![("authorization", signature.as_str())],
        vec![("content-type", "application/x-amz-json-1.0")],
    ] {
        for (method, path) in [
            ("GET", "/queues"),
            ("GET", "/queues?Action=ListQueues"),
            ("POST", "/queues/orders"),
        ] {
            let method = ureq::http::Method::from_bytes(method.as_bytes()).unwrap();
            let (status, answer) = ask(method, &format!("{}{path}", host.url), &headers, "");
            assert_eq!(status, 401, "{path} {headers:?}: {answer}");
        }
    }
}
