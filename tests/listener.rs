//! The HTTP listener: what each route answers, and who may ask.

#![expect(clippy::indexing_slicing, clippy::panic, reason = "a wrong answer fails the test")]

use std::{
    collections::HashSet,
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use harness::{
    host::{Host, Place},
    wait_for,
};
use serde_json::{Value, json};

mod bodies;
mod connections;
mod metrics;
mod operators;
mod served;
mod sqs;

/// A request as bytes, so that every header is the test's own. Answers the status and the body.
fn raw(host: &Host, head: &str, body: &[u8]) -> (u16, String) {
    let address = host.url.strip_prefix("http://").expect("a URL");
    let host_header = if head.to_ascii_lowercase().contains("\nhost:") {
        String::new()
    } else {
        format!("Host: {address}\r\n")
    };
    let (line, headers) = head.split_once('\n').unwrap_or((head, ""));
    let headers = headers.lines().flat_map(|header| [header, "\r\n"]).collect::<String>();
    let length = body.len();
    let head =
        format!("{line} HTTP/1.1\r\n{host_header}{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n");
    let mut stream = TcpStream::connect(address).expect("the host listens");
    stream.write_all(head.as_bytes()).expect("the head");
    // A body that is too large may be refused before all of it was read.
    drop(stream.write_all(body));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    // The archive of a backup is no text.
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("an answer to {line}: {answer:?}"));
    (
        head.split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .expect("a status"),
        body.to_owned(),
    )
}

fn call(host: &Host, head: &str, body: &Value) -> (u16, Value) {
    let (status, answer) = raw(host, head, body.to_string().as_bytes());
    (status, serde_json::from_str(&answer).unwrap_or(Value::String(answer)))
}

fn check_refused(host: &Host, head: &str, body: &[u8], expected: (u16, &str)) {
    let (status, answer) = raw(host, head, body);
    let answer: Value = serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{head}: JSON and not {answer}"));
    assert_eq!(
        (status, answer["error"].as_str()),
        (expected.0, Some(expected.1)),
        "{head}"
    );
}

/// A host with queues that have no handler.
fn host(queues: &str) -> (Place, Host) {
    let place = Place::new();
    place.configure(queues);
    let host = place.start();
    host.wait_ready();
    (place, host)
}

fn receive(host: &Host, parameters: &str) -> Vec<Value> {
    let (status, answer) = call(host, &format!("POST /queues/orders/receive{parameters}"), &Value::Null);
    assert_eq!(status, 200, "{answer}");
    answer["messages"].as_array().expect("a list").clone()
}

fn settle(host: &Host, message: &Value, action: &str) -> (u16, Value) {
    call(
        host,
        "POST /queues/orders/settle",
        &json!({ "receipt": message["receipt"], "action": action }),
    )
}

#[test]
fn a_message_arrives_as_it_was_sent() {
    let (_place, host) = host("[queues.orders]");
    let target = "POST /queues/orders?group=g&priority=3&attr.tenant=a%20b&attr.kind=x&dedup=d";
    let (status, sent) = raw(&host, target, b"{\"a\":1}");
    assert_eq!(status, 200, "{sent}");
    let message = receive(&host, "?max=10").remove(0);
    assert_eq!(
        message["attributes"],
        json!({ "kind": { "text": "x" }, "tenant": { "text": "a b" } })
    );
    for (key, value) in [
        ("queue", json!("orders")),
        ("group-id", json!("g")),
        ("priority", json!(3)),
        ("receive-count", json!(1)),
    ] {
        assert_eq!(message[key], value, "{key}");
    }
    assert_eq!(message["body"], json!("{\"a\":1}"));
    assert_eq!(json!({ "id": message["id"] }).to_string(), sent);
}

#[test]
fn what_does_not_exist_is_refused() {
    let (_place, host) = host("[queues.orders]\n[queues.more]");
    let known = "known queues: more, more-dead, orders, orders-dead";
    let check = |head, status, error: &str| check_refused(&host, head, b"x", (status, error));
    check("POST /queues/nope", 404, &format!("no queue \"nope\"; {known}"));
    check(
        "GET /queues/no%2Fslash",
        404,
        &format!("no queue \"no/slash\"; {known}"),
    );
    check("GET /nope", 404, "no such route");
    check("PUT /queues/orders", 405, "no such method here");
    check(
        "GET /queues/orders/dead/nope",
        404,
        "queue orders has no dead letter \"nope\"",
    );
}

#[test]
fn a_wrong_parameter_is_refused_with_what_is_accepted() {
    let (_place, host) = host("[queues.orders]");
    let known = "known here: attr., delay, group, dedup, priority";
    for (head, error) in [
        (
            "POST /queues/orders?dely=5s",
            &*format!("unknown parameter dely; {known}"),
        ),
        (
            "POST /queues/orders?delay=13h",
            "delay=13h: use a duration of at most 12h, such as 5s",
        ),
        (
            "POST /queues/orders?priority=10",
            "priority=10: use a whole number from 0 to 9",
        ),
        ("POST /queues/orders?group=a&group=b", "group is given twice"),
        (
            "POST /queues/orders?group=",
            "group id \"\": use 1 to 128 bytes without control characters",
        ),
        (
            "POST /queues/orders/receive?max=1001",
            "max=1001: use a whole number from 1 to 1000",
        ),
        (
            "POST /queues/orders/receive?wait=21s",
            "wait=21s: use a duration of at most 20s, such as 5s",
        ),
        ("POST /queues/orders/receive?visibility=0s", "visibility: use 1s to 12h"),
        (
            "GET /queues/orders/dead?limit=0",
            "limit=0: use a whole number from 1 to 1000",
        ),
    ] {
        check_refused(&host, head, b"x", (400, error));
    }
}

#[test]
fn a_wrong_body_is_refused_with_what_is_accepted() {
    let (_place, host) = host("[queues.orders]");
    let unknown = "the body: unknown field `bdy`, expected one of `body`, `body-base64`, `attributes`, `group`, `delay`, `priority`, `dedup` at line 1 column 19";
    let settle = json!({ "receipt": "x", "action": "delete" }).to_string();
    for (head, body, error) in [
        ("POST /queues/orders/batch", "{\"messages\":[{\"bdy\":1}]}", unknown),
        (
            "POST /queues/orders/batch",
            "{\"messages\":[]}",
            "0 messages: send 1 to 1000",
        ),
        ("POST /queues/orders/settle", &settle, "\"x\" is not a receipt"),
        (
            "POST /queues/orders/settle",
            "{\"receipt\":\"1.2\"}",
            "the body: give receipt and action, or settlements",
        ),
    ] {
        check_refused(&host, head, body.as_bytes(), (400, error));
    }
}

#[test]
fn many_deliveries_are_received_extended_and_ended_in_one_request_each() {
    let (_place, host) = host("[queues.orders]\nmax-receives = 3");
    for number in 0..40 {
        host.send("orders", number.to_string().as_bytes());
    }
    let messages = receive(&host, "?max=1000");
    assert_eq!(messages.len(), 40);
    let receipts: Vec<&Value> = messages.iter().map(|message| &message["receipt"]).collect();
    let (status, extended) = call(
        &host,
        "POST /queues/orders/extend",
        &json!({ "receipts": [receipts[0], "1.2", "x"], "visibility": "1h" }),
    );
    let refused = |error: &str| json!({ "error": error });
    let expired = refused("the receipt is no longer valid");
    assert_eq!(status, 200);
    assert_eq!(
        extended["results"],
        json!([{}, expired, refused("\"x\" is not a receipt")])
    );
    let settlement = |number: usize| match number {
        0..20 => json!({ "receipt": receipts[number], "action": "delete" }),
        20..25 => json!({ "receipt": receipts[number], "action": "reject", "reason": "no good" }),
        25..30 => json!({ "receipt": receipts[number], "action": "retry", "delay": "1h", "reason": "later" }),
        _ => json!({ "receipt": receipts[number], "action": "release" }),
    };
    let mut settlements: Vec<Value> = (0..40).map(settlement).collect();
    settlements.push(json!({ "receipt": receipts[0], "action": "delete" }));
    settlements.push(json!({ "receipt": receipts[30], "action": "release", "delay": "1s" }));
    let (status, settled) = call(
        &host,
        "POST /queues/orders/settle",
        &json!({ "settlements": settlements }),
    );
    assert_eq!(status, 200, "{settled}");
    let results = settled["results"].as_array().unwrap();
    assert!(results.iter().take(40).all(|result| *result == json!({})), "{settled}");
    assert_eq!(results[40], expired);
    assert_eq!(results[41], refused("delay is for the action \"retry\" only"));
    let counts = host.counts("orders");
    let numbers = ["ready", "in-flight", "delayed", "dead"].map(|which| counts[which].as_u64().unwrap());
    assert_eq!(numbers, [10, 0, 5, 5], "{counts}");
    let failure = &host.dead("orders")[0]["failure"];
    assert_eq!(
        (&failure["kind"], &failure["reason"]),
        (&json!("reject"), &json!("no good"))
    );
    // A release is not counted, and a receive is.
    assert_eq!(receive(&host, "?max=1")[0]["receive-count"], 1);
}

#[test]
fn the_openapi_document_has_every_route() {
    let (_place, host) = host("[queues.orders]");
    let document = host.get("/openapi.json");
    assert!(document["openapi"].as_str().unwrap().starts_with("3."), "{document}");
    let paths = document["paths"].as_object().unwrap();
    let mut ids = HashSet::new();
    for (path, operations) in paths {
        for (method, operation) in operations.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id), "two operations are {id}");
            // Without it the events do not end.
            let path = path.replace("/events", "/events?kept=true");
            let target = path.replace("{name}", "orders").replace("{id}", "x");
            let head = format!("{} {target}", method.to_uppercase());
            let (status, answer) = raw(&host, &head, b"");
            let is_missing = status == 405 || answer.contains("no such route");
            assert!(!is_missing, "{head}: {status} {answer}");
        }
    }
    // Those of the listener's own page.
    let page = std::fs::read_to_string(harness::repository().join("host/sandhog/src/admin.rs")).unwrap();
    let mut rows = 0;
    for row in page.lines().filter_map(|line| line.strip_prefix("//! | `")) {
        let (route, _) = row.split_once('`').unwrap();
        let (method, path) = route.split_once(' ').unwrap();
        rows += 1;
        let is_itself = path == "/openapi.json";
        assert!(
            is_itself || !paths[path][method.to_lowercase()].is_null(),
            "{route} is not in the document"
        );
    }
    assert!(rows > 15, "{rows}");
}

#[test]
fn a_body_over_1_mib_is_refused() {
    let (_place, host) = host("[queues.orders]");
    assert_eq!(raw(&host, "POST /queues/orders", &vec![b'x'; 1024 * 1024]).0, 200);
    assert_eq!(raw(&host, "POST /queues/orders", &vec![b'x'; 1024 * 1024 + 1]).0, 413);
}

#[test]
fn a_full_queue_refuses_sends() {
    let (_place, host) = host("[queues.orders]\nmax-messages = 1");
    assert_eq!(raw(&host, "POST /queues/orders", b"x").0, 200);
    let full = "queue orders is full: it holds its limit of 1 messages (max-messages)";
    check_refused(&host, "POST /queues/orders", b"x", (507, full));
}

#[test]
fn each_message_of_a_batch_has_its_own_result() {
    let (_place, host) = host("[queues.orders]");
    let batch = json!({ "messages": [
        { "body": "one", "attributes": { "n": { "number": "1.50" }, "b": { "binary-base64": "/w==" } } },
        { "body": "two", "delay": "13h" },
        { "body-base64": "/w==" },
        { "body": "x", "body-base64": "" },
    ] });
    let (status, answer) = call(&host, "POST /queues/orders/batch", &batch);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(
        answer["results"][1],
        json!({ "error": "a delay of 46800 s: at most 43200 s" })
    );
    assert_eq!(
        answer["results"][3],
        json!({ "error": "a message has either body or body-base64" })
    );
    let received = receive(&host, "?max=10");
    assert_eq!(received.len(), 2);
    assert_eq!(received[0]["id"], answer["results"][0]["id"]);
    assert_eq!(
        received[0]["attributes"],
        json!({ "b": { "binary-base64": "/w==" }, "n": { "number": "1.50" } })
    );
    assert_eq!(
        (&received[1]["id"], &received[1]["body-base64"]),
        (&answer["results"][2]["id"], &json!("/w=="))
    );
}

#[test]
fn a_receive_waits_for_a_message() {
    let (_place, host) = host("[queues.orders]");
    thread::scope(|scope| {
        let waiting = scope.spawn(|| receive(&host, "?wait=20s"));
        host.send("orders", b"late");
        assert_eq!(waiting.join().expect("a receive")[0]["body"], json!("late"));
    });
}

#[test]
fn a_deleted_message_is_gone_and_a_released_one_comes_back_uncounted() {
    let (_place, host) = host("[queues.orders]");
    host.send("orders", b"x");
    let first = receive(&host, "").remove(0);
    assert!(receive(&host, "").is_empty(), "hidden while it is in flight");
    assert_eq!(settle(&host, &first, "release").0, 200);
    let second = receive(&host, "").remove(0);
    assert_eq!(second["receive-count"], json!(1));
    assert_eq!(settle(&host, &second, "delete"), (200, json!({ "messages": 1 })));
    assert_eq!(
        settle(&host, &second, "delete"),
        (409, json!({ "error": "the receipt is no longer valid" }))
    );
    assert_eq!(host.count("orders", "in-flight"), 0);
}

#[test]
fn a_receive_can_hide_a_message_for_a_time_of_its_own() {
    let (_place, host) = host("[queues.orders]\nvisibility-timeout = \"1h\"");
    host.send("orders", b"x");
    assert_eq!(receive(&host, "?visibility=1s").len(), 1);
    let again = wait_for("the message to come back", || receive(&host, "?wait=1s").pop());
    assert_eq!(again["receive-count"], json!(2));
}

#[test]
fn a_purge_deletes_what_waits() {
    let (_place, host) = host("[queues.orders]");
    host.send("orders", b"1");
    host.send("orders", b"2");
    assert_eq!(
        call(&host, "DELETE /queues/orders/messages", &Value::Null),
        (200, json!({ "messages": 2 }))
    );
    assert_eq!(host.count("orders", "ready"), 0);
}

#[test]
fn the_metrics_page_shows_how_full_the_queues_are() {
    let (_place, host) = host("[queues.orders]");
    host.send("orders", b"1");
    let (status, page) = raw(&host, "GET /metrics", b"");
    assert_eq!(status, 200);
    assert!(
        page.contains("\nsandhog_queue_ready_messages{queue=\"orders\"} 1\n"),
        "{page}"
    );
}

#[test]
fn a_web_page_from_elsewhere_reaches_no_queue() {
    let (_place, host) = host("[queues.orders]");
    let elsewhere = "refused: the request comes from a web page elsewhere";
    for header in [
        "Origin: https://evil.example",
        "Origin: null",
        "Origin: http://localhost:3000",
        "Sec-Fetch-Site: cross-site",
    ] {
        check_refused(&host, &format!("POST /queues/orders\n{header}"), b"x", (403, elsewhere));
    }
    let rebound = "refused: without a secret the host's name has to be localhost or a loopback address";
    for header in [
        "Host: evil.example",
        "Host: evil.example:9324",
        "Host: 10.0.0.1",
        "Host: 127.0.0.1.evil.example",
    ] {
        check_refused(&host, &format!("POST /queues/orders\n{header}"), b"x", (403, rebound));
    }
    for header in [
        "Host: localhost:1\nOrigin: http://localhost:1",
        "Host: localhost",
        "Host: [::1]:1",
        "Sec-Fetch-Site: same-origin",
    ] {
        assert_eq!(
            raw(&host, &format!("POST /queues/orders\n{header}"), b"x").0,
            200,
            "{header}"
        );
    }
}

#[test]
fn a_secret_is_needed_for_everything_but_the_probes() {
    let place = Place::new();
    std::fs::write(place.path().join("secret"), "0123456789abcdef\n").expect("a file");
    place.configure("secret-file = \"secret\"\n[queues.orders]\n");
    let host = place.start();
    host.wait_ready();
    for head in [
        "GET /metrics",
        "GET /queues",
        "GET /handlers",
        "POST /queues/orders",
        "GET /nope",
    ] {
        check_refused(
            &host,
            head,
            b"",
            (401, "the header \"authorization: Bearer SECRET\" is needed"),
        );
    }
    for wrong in [
        "Bearer 0123456789abcdeX",
        "Bearer 0123456789abcde",
        "Basic 0123456789abcdef",
        "0123456789abcdef",
    ] {
        assert_eq!(
            raw(&host, &format!("GET /queues\nAuthorization: {wrong}"), b"").0,
            401,
            "{wrong}"
        );
    }
    assert_eq!(
        raw(
            &host,
            "GET /queues\nAuthorization: Bearer 0123456789abcdef\nHost: sandhog.internal",
            b""
        )
        .0,
        200
    );
    assert_eq!(
        (raw(&host, "GET /live", b"").0, raw(&host, "GET /ready", b"").0),
        (200, 200)
    );
}

#[test]
fn a_parked_receive_does_not_hold_up_the_end() {
    let (_place, host) = host("[queues.orders]");
    thread::scope(|scope| {
        let asked = Instant::now();
        let parked = scope.spawn(|| receive(&host, "?wait=20s"));
        wait_for("the receive to be parked", || {
            // The request for the page is the other one.
            host.text("/metrics")
                .1
                .contains("sandhog_listener_requests 2\n")
                .then_some(())
        });
        host.signal("TERM");
        assert!(parked.join().expect("an answer").is_empty());
        assert!(
            asked.elapsed() < Duration::from_secs(20),
            "it answers when the host stops, not when its wait ends"
        );
    });
}
