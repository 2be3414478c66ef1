//! Traces: what a collector gets to see of a host, how contexts travel, and that nothing else changes.
//!
//! The collector is built on the published definitions of OTLP (`tests/harness/otlp_collector.rs`).

#![expect(clippy::indexing_slicing, reason = "what is not as expected fails the test")]

use std::collections::BTreeSet;

use harness::{
    built::http_guest,
    guests::{batch_handler, forward, handler, no_op, obedient, program},
    host::{Host, Place},
    http_server::{HttpServer, authority},
    otel_collector::OtelCollector,
    otlp_collector::OtlpCollector,
    sqs_host::{Stage, metric},
    sqs_server::Kind,
    wait_for,
};
use serde_json::{Value, json};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const GRANT: &str = "[grant]\nsend = [\"out\"]\n[retry]\nmin = \"1ms\"\nmax = \"10ms\"\n";

/// A directory whose host exports to the collector.
fn traced(collector: &OtlpCollector) -> Place {
    let mut place = Place::new();
    place.environment = collector.environment();
    place
}

fn started(place: &Place) -> Host {
    let host = place.start();
    host.wait_ready();
    host
}

/// Sends a message in a request that is part of a trace.
fn send_in_trace(host: &Host, queue: &str, body: &str, traceparent: &str) {
    let request = ureq::post(format!("{}/queues/{queue}", host.url));
    request.header("traceparent", traceparent).send(body).unwrap();
}

/// The attributes of the only message of a queue, which is taken.
fn attributes_of_one(host: &Host, queue: &str) -> Value {
    let received = wait_for("a message", || {
        let answer = host.post(&format!("/queues/{queue}/receive?max=10&wait=1s"), &Value::Null);
        let messages = answer["messages"].as_array().unwrap().clone();
        (!messages.is_empty()).then_some(messages)
    });
    assert_eq!(received.len(), 1, "{received:?}");
    let settle = json!({ "receipt": received[0]["receipt"], "action": "delete" });
    host.post(&format!("/queues/{queue}/settle"), &settle);
    received[0]["attributes"].clone()
}

/// The text of an attribute.
fn text<'v>(attributes: &'v Value, name: &str) -> Option<&'v str> {
    attributes[name]["text"].as_str()
}

/// A `traceparent` of a span that the collector got.
fn context_of(span: &Value) -> String {
    let [trace, id] = [&span["trace"], &span["span"]].map(|id| id.as_str().unwrap());
    format!("00-{trace}-{id}-0")
}

/// Sends its body on to queue `out` with the attributes of its message.
fn passing_on() -> Vec<u8> {
    handler(
        "(call $raw-send (i32.const 256) (i32.const 3) (local.get $body) (local.get $body-len)
            (local.get $attributes) (local.get $attributes-len) (i32.const 0) (i32.const 0)
            (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
            (i32.const 0) (i32.const 0) (i32.const 128))
        (if (i32.load8_u (i32.const 128)) (then unreachable))
        (global.get $ok)",
    )
}

#[tokio::test]
async fn a_trace_goes_through_two_handlers_and_a_request() {
    let server = HttpServer::start().await;
    let origin = server.url("");
    tokio::task::spawn_blocking(move || {
        let collector = OtlpCollector::start();
        let place = traced(&collector);
        place.install("in", &obedient("calls"), "[grant]\nsend = [\"calls\"]\n");
        let grants = format!("[grant]\nsend = [\"out\"]\nhttp = [\"{origin}\"]\n");
        place.install("calls", &http_guest(), &grants);
        let host = started(&place);
        send_in_trace(&host, "in", &format!("GET {origin}/"), PARENT);
        let last = collector.span("send out");
        let names = ["process in", "send calls", "process calls"];
        let [first, sent, second] = names.map(|name| collector.span(name));
        for (span, parent, kind) in [
            (&first, &json!(SPAN), "CONSUMER"),
            (&sent, &first["span"], "PRODUCER"),
            (&second, &sent["span"], "CONSUMER"),
            (&last, &second["span"], "PRODUCER"),
        ] {
            assert_eq!((&span["trace"], &span["parent"]), (&json!(TRACE), parent), "{span}");
            assert_eq!(
                (&span["kind"], &span["status"]),
                (&json!(kind), &json!("UNSET")),
                "{span}"
            );
        }
        // A message's context is linked, too.
        assert_eq!(second["links"][0]["span"], sent["span"]);
        let seen = server.requests();
        assert!(
            seen[0].contains(&format!("traceparent: {}", context_of(&second))),
            "{seen:?}"
        );
        let carried = attributes_of_one(&host, "out");
        let context = text(&carried, "traceparent").unwrap();
        assert!(context.starts_with(&context_of(&last)), "{carried}");
        let header = text(&carried, "AWSTraceHeader").unwrap();
        assert!(
            header.contains(&format!("Parent={}", last["span"].as_str().unwrap())),
            "{carried}"
        );
    })
    .await
    .unwrap();
}

#[test]
fn a_span_says_what_the_conventions_ask_for() {
    let collector = OtlpCollector::start();
    let mut place = traced(&collector);
    place.environment.extend([
        ("OTEL_SERVICE_NAME", "shop".to_owned()),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "deployment.environment.name=test".to_owned(),
        ),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%20b".to_owned()),
    ]);
    place.configure("[queues.in]\nmax-receives = 1\n");
    place.install("in", &obedient("out"), GRANT);
    let host = started(&place);
    let id = host.send("in", b"t");
    let failed = collector.span("process in");
    let expected = json!({
        "messaging.system": "sandhog", "messaging.operation.name": "process", "messaging.operation.type": "process",
        "messaging.destination.name": "in", "messaging.message.id": id, "sandhog.handler.name": "in",
        "sandhog.handler.version": 1, "sandhog.outcome": "trap", "sandhog.settlement": "dead-letter",
        "sandhog.receive_count": 1, "error.type": "trap",
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&failed["attributes"][name], value, "{name} of {failed}");
    }
    assert_eq!((&failed["status"], &failed["parent"]), (&json!("ERROR"), &json!("")));
    assert!(failed["error"].as_str().unwrap().contains("unreachable"), "{failed}");
    assert_eq!(failed["resource"]["service.name"], "shop");
    assert_eq!(failed["resource"]["deployment.environment.name"], "test");
    let request = &collector.requests()[0];
    assert_eq!(
        (&request["path"], &request["headers"]["x-key"]),
        (&json!("/v1/traces"), &json!("a b"))
    );
    // Somebody who reads the log finds the trace.
    assert_eq!(host.event("not handled")["fields"]["trace_id"], failed["trace"]);
}

/// What a collector gets of a message that goes through two handlers and of one that fails, without what differs from run to run.
fn told(environment: Vec<(&'static str, String)>, reader: &OtlpCollector) -> Vec<String> {
    let mut place = Place::new();
    place.environment = environment;
    place.configure("[queues.in]\nmax-receives = 1\n");
    place.install("in", &obedient("calls"), "[grant]\nsend = [\"calls\"]\n");
    place.install("calls", &obedient("out"), GRANT);
    let host = started(&place);
    host.try_send(
        "in",
        b"x",
        &format!("attr.traceparent={PARENT}&attr.tracestate=vendor%3D1"),
    )
    .unwrap();
    reader.span("send out");
    host.send("in", b"t");
    let mut spans = wait_for("all spans", || {
        let spans = reader.spans();
        (spans.len() == 5).then_some(spans)
    });
    let names = spans.iter().map(|span| (span["span"].clone(), span["name"].clone()));
    let names: Vec<_> = names.chain([(json!(SPAN), json!("elsewhere"))]).collect();
    let called = |id: &Value| names.iter().find(|(each, _)| each == id).map(|(_, name)| name.clone());
    for span in &mut spans {
        span["parent"] = called(&span["parent"]).unwrap_or_default();
        if let Some(link) = span["links"].get_mut(0) {
            link["span"] = called(&link["span"]).unwrap();
            link["attributes"].take();
        }
        for changing in [
            "messaging.message.id",
            "sandhog.guest.duration",
            "sandhog.guest.cpu_time",
        ] {
            span["attributes"][changing] = json!(span["attributes"][changing].is_null());
        }
        span["resource"]["service.instance.id"].take();
        // The trace of the message that failed is its own.
        if span["trace"] != TRACE {
            span["trace"].take();
        }
        for changing in ["span", "nanoseconds"] {
            span[changing].take();
        }
    }
    let mut told: Vec<_> = spans.iter().map(Value::to_string).collect();
    told.sort();
    told
}

#[test]
#[ignore = "a long suite: cargo suites"]
fn the_collector_of_opentelemetry_hands_on_every_span_whole() {
    let reader = OtlpCollector::start();
    let direct = told(reader.environment(), &reader);
    let reader = OtlpCollector::start();
    let between = OtelCollector::before(&reader);
    assert_eq!(told(between.environment(), &reader), direct);
    let chain = direct.iter().filter(|span| span.contains(TRACE)).count();
    assert_eq!(chain, 4, "{direct:#?}");
}

#[test]
fn the_span_of_a_batch_is_linked_to_each_of_its_messages() {
    let collector = OtlpCollector::start();
    let place = traced(&collector);
    let all_handled = "(i32.const 1024) (i32.store (i32.const 1024) (i32.const 2048)) (i32.store (i32.const 1028) (local.get $count))";
    place.install("in", &batch_handler(all_handled), "concurrency = 1\n");
    let host = started(&place);
    let contexts = (1..=8).map(|number| format!("00-{TRACE}-000000000000000{number}-01"));
    let messages: Vec<_> = contexts
        .map(|context| json!({ "body": "x", "attributes": { "traceparent": { "text": context } } }))
        .collect();
    host.post("/queues/in/batch", &json!({ "messages": messages }));
    host.wait_empty("in");
    let mut linked = BTreeSet::new();
    wait_for("a link to each message", || {
        linked = collector
            .named("process in")
            .iter()
            .flat_map(|span| span["links"].as_array().unwrap().clone())
            .map(|link| link["span"].as_str().unwrap().to_owned())
            .collect();
        (linked.len() == 8).then_some(())
    });
    for span in collector.named("process in") {
        // No message of a batch is more its parent than another one.
        assert_eq!(span["parent"], "", "{span}");
        assert_ne!(span["trace"], TRACE, "{span}");
        let links = span["links"].as_array().unwrap();
        assert_eq!(
            span["attributes"]["messaging.batch.message_count"],
            links.len(),
            "{span}"
        );
        assert!(links.iter().all(|link| link["trace"] == TRACE), "{span}");
        assert!(
            links
                .iter()
                .all(|link| link["attributes"]["messaging.message.id"].is_string()),
            "{span}"
        );
    }
}

#[test]
fn a_message_is_linked_alone_if_the_configuration_says_so() {
    let collector = OtlpCollector::start();
    let place = traced(&collector);
    place.configure("[traces]\nparent = false\n");
    place.install("in", &no_op(), "");
    let host = started(&place);
    send_in_trace(&host, "in", "x", PARENT);
    let span = collector.span("process in");
    assert_eq!((&span["parent"], &span["links"][0]["span"]), (&json!(""), &json!(SPAN)));
    assert_ne!(span["trace"], TRACE);
}

#[test]
fn a_send_never_gets_an_eleventh_attribute() {
    let collector = OtlpCollector::start();
    let place = traced(&collector);
    place.install("in", &passing_on(), GRANT);
    let host = started(&place);
    let send = |count: usize| {
        let query: Vec<_> = (0..count).map(|number| format!("attr.a{number}=x")).collect();
        host.try_send("in", b"x", &query.join("&")).unwrap();
        let carried = attributes_of_one(&host, "out");
        let names: BTreeSet<_> = carried.as_object().unwrap().keys().cloned().collect();
        let own = names.iter().filter(|name| name.starts_with('a')).count();
        assert_eq!(own, count, "{carried}");
        let further = ["traceparent", "AWSTraceHeader"].map(|name| names.contains(name));
        assert_eq!(
            names.len(),
            own + further.into_iter().filter(|is| *is).count(),
            "{carried}"
        );
        further
    };
    assert_eq!(send(0), [true, true]);
    assert_eq!(send(8), [true, true]);
    assert_eq!(send(9), [true, false]);
    assert_eq!(send(10), [false, false]);
    // The sends have spans all the same.
    wait_for("the spans", || (collector.named("send out").len() == 4).then_some(()));
}

#[test]
fn a_context_that_a_guest_sets_stays() {
    let collector = OtlpCollector::start();
    let place = traced(&collector);
    place.install("in", &passing_on(), GRANT);
    let host = started(&place);
    for (name, value) in [("traceparent", PARENT), ("AWSTraceHeader", "Root=own")] {
        host.try_send("in", b"x", &format!("attr.{name}={value}")).unwrap();
        let carried = attributes_of_one(&host, "out");
        assert_eq!(carried.as_object().unwrap().len(), 1, "{carried}");
        assert_eq!(text(&carried, name), Some(value), "{carried}");
    }
    wait_for("the spans", || (collector.named("send out").len() == 2).then_some(()));
    let spans = collector.named("send out");
    assert!(spans.iter().all(|span| span["kind"] == "CLIENT"), "{spans:?}");
    assert!(spans.iter().any(|span| span["links"][0]["span"] == SPAN), "{spans:?}");
}

#[tokio::test]
async fn a_header_that_a_guest_sets_stays() {
    let server = HttpServer::start().await;
    let origin = server.url("");
    tokio::task::spawn_blocking(move || {
        let collector = OtlpCollector::start();
        let place = traced(&collector);
        let grants = format!("[grant]\nsend = [\"out\"]\nhttp = [\"{origin}\"]\n");
        place.install("in", &http_guest(), &grants);
        let host = started(&place);
        send_in_trace(&host, "in", &format!("GET {origin}/ header=traceparent:own"), PARENT);
        host.wait_empty("in");
        let seen = server.requests();
        assert_eq!(seen[0].matches("traceparent").count(), 1, "{seen:?}");
        assert!(seen[0].contains("traceparent: own\r\n"), "{seen:?}");
    })
    .await
    .unwrap();
}

#[test]
fn a_program_finds_its_context_in_its_environment() {
    let collector = OtlpCollector::start();
    let place = traced(&collector);
    place.install("in", &program(), &format!("stdout = \"out\"\n{GRANT}"));
    let host = started(&place);
    send_in_trace(&host, "in", "v", PARENT);
    let span = collector.span("process in");
    let printed = host.take_all("out").concat();
    let variable = format!("TRACEPARENT={}", context_of(&span));
    assert!(printed.contains(&variable), "{printed}");
}

#[test]
fn a_host_without_variables_adds_nothing() {
    let place = Place::new();
    place.install("in", &forward(), GRANT);
    let host = started(&place);
    send_in_trace(&host, "in", "x", PARENT);
    assert_eq!(attributes_of_one(&host, "out"), json!({}));
    assert!(!host.text("/metrics").1.contains("sandhog_trace_spans_total{"));
}

#[test]
fn a_host_without_export_passes_contexts_on_if_propagators_are_named() {
    let mut place = Place::new();
    place.environment = vec![("OTEL_PROPAGATORS", "tracecontext".to_owned())];
    place.install("in", &forward(), GRANT);
    let host = started(&place);
    send_in_trace(&host, "in", "x", PARENT);
    assert_eq!(text(&attributes_of_one(&host, "out"), "traceparent"), Some(PARENT));
    host.send("in", b"x");
    assert_eq!(attributes_of_one(&host, "out"), json!({}));
}

#[test]
fn messages_go_on_while_no_collector_is_there() {
    let port = OtlpCollector::start().port();
    let mut place = Place::new();
    place.environment = vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{port}")),
        ("OTEL_BSP_SCHEDULE_DELAY", "1".to_owned()),
        ("OTEL_BSP_EXPORT_TIMEOUT", "50".to_owned()),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "4".to_owned()),
    ];
    place.install("in", &forward(), GRANT);
    let host = started(&place);
    let given_up = r#"sandhog_trace_spans_total{result="failed"}"#;
    let handled = |count: usize| {
        for number in 0..count {
            host.send("in", number.to_string().as_bytes());
        }
        host.wait_empty("in");
        assert_eq!(host.take_all("out").len(), count);
    };
    handled(100);
    wait_for("a batch to be given up", || (metric(&host, given_up) > 0).then_some(()));
    let before = metric(&host, given_up);
    handled(100);
    wait_for("another one", || (metric(&host, given_up) > before).then_some(()));
    assert_eq!(host.events("spans could not be exported").len(), 1, "{:#?}", host.log());
    // It comes back, and that is said once, too.
    let collector = OtlpCollector::on(port, 0);
    wait_for("spans to be exported again", || {
        handled(1);
        (!collector.spans().is_empty()).then_some(())
    });
    host.event("spans are exported again");
}

#[test]
fn a_collector_that_is_busy_is_asked_again() {
    let collector = OtlpCollector::busy(1);
    let place = traced(&collector);
    place.install("in", &no_op(), "");
    let host = started(&place);
    for _ in 0..10 {
        host.send("in", b"x");
    }
    wait_for("all spans", || {
        (collector.named("process in").len() == 10).then_some(())
    });
    host.event("spans are exported again");
    assert_eq!(host.events("spans could not be exported").len(), 1);
}

#[test]
fn what_waits_is_exported_when_the_host_stops() {
    let collector = OtlpCollector::start();
    let mut place = traced(&collector);
    place
        .environment
        .push(("OTEL_BSP_SCHEDULE_DELAY", "3600000".to_owned()));
    place.install("in", &no_op(), "");
    let host = started(&place);
    host.send("in", b"x");
    host.wait_empty("in");
    assert_eq!(collector.spans().len(), 0);
    let (status, log) = host.terminate();
    assert!(status.success(), "{log:#?}");
    collector.span("process in");
}

#[test]
fn what_waits_behind_a_busy_collector_is_exported_when_the_host_stops() {
    let collector = OtlpCollector::busy(1);
    let mut place = traced(&collector);
    place
        .environment
        .push(("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1".to_owned()));
    place.install("in", &no_op(), "");
    let host = started(&place);
    for _ in 0..5 {
        host.send("in", b"x");
    }
    host.wait_empty("in");
    let (status, log) = host.terminate();
    assert!(status.success(), "{log:#?}");
    wait_for("the spans of all attempts", || {
        let spans = collector.spans();
        let attempts = spans.iter().filter(|span| span["name"] == "process in").count();
        (attempts == 5).then_some(())
    });
}

#[test]
fn a_value_that_can_not_be_used_is_a_warning_by_name() {
    let collector = OtlpCollector::start();
    let mut place = traced(&collector);
    place
        .environment
        .push(("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc".to_owned()));
    place.install("in", &no_op(), "");
    let host = started(&place);
    host.event("OTEL_EXPORTER_OTLP_PROTOCOL = \"grpc\"");
    host.send("in", b"x");
    collector.span("process in");
}

#[tokio::test]
async fn spans_are_exported_over_tls() {
    let server = HttpServer::start_secure().await;
    let port = server.address.port();
    tokio::task::spawn_blocking(move || {
        let mut place = Place::new();
        place.environment = vec![
            (
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
                format!("https://localhost:{port}/spans"),
            ),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", authority().display().to_string()),
            ("OTEL_BSP_SCHEDULE_DELAY", "1".to_owned()),
        ];
        place.install("in", &no_op(), "");
        let host = started(&place);
        host.send("in", b"x");
        let exported = r#"sandhog_trace_spans_total{result="exported"}"#;
        wait_for("a span", || (metric(&host, exported) > 0).then_some(()));
        assert!(server.requests()[0].starts_with("POST /spans HTTP/1.1\r\n"));
    })
    .await
    .unwrap();
}

#[test]
fn a_client_of_the_sqs_protocol_passes_its_context_on() {
    let collector = OtlpCollector::start();
    let place = traced(&collector);
    place.install("in", &no_op(), "");
    let host = started(&place);
    let request = ureq::post(format!("{}/", host.url))
        .header("x-amz-target", "AmazonSQS.SendMessage")
        .header("traceparent", PARENT)
        .content_type("application/x-amz-json-1.0");
    let message = json!({ "QueueUrl": format!("{}/000000000000/in", host.url), "MessageBody": "x" });
    request.send(message.to_string()).unwrap();
    let span = collector.span("process in");
    assert_eq!((&span["trace"], &span["parent"]), (&json!(TRACE), &json!(SPAN)));
}

#[test]
fn a_trace_goes_through_queues_of_sqs() {
    let collector = OtlpCollector::start();
    let mut stage = Stage::on(Kind::Sandhog, "traces").unwrap();
    let source = stage.queue("in", &[], "");
    let destination = stage.queue("out", &[], "");
    let mut place = stage.place();
    place.environment.extend(collector.environment());
    place.install("in", &passing_on(), GRANT);
    let host = started(&place);
    let client = stage.server();
    // Ten attributes, and the trace header beside them.
    let attributes: serde_json::Map<_, _> = (0..10)
        .map(|number| {
            (
                format!("a{number}"),
                json!({ "DataType": "String", "StringValue": "x" }),
            )
        })
        .collect();
    client.send_with(&source.url, "x", json!({ "MessageAttributes": attributes }));
    let sent = collector.span("send out");
    let names = ["receive in", "settle in", "process in"];
    let [received, settled, processed] = names.map(|name| collector.span(name));
    assert_eq!(sent["parent"], processed["span"]);
    assert_eq!(settled["parent"], processed["span"]);
    for span in [&received, &settled, &sent, &processed] {
        assert_eq!(span["attributes"]["messaging.system"], "aws_sqs", "{span}");
    }
    assert_eq!([&received["kind"], &settled["kind"]], ["CLIENT", "CLIENT"]);
    assert_eq!(received["attributes"]["messaging.batch.message_count"], 1);
    let carried = wait_for("the message", || client.receive(&destination.url, 10, 1).pop());
    let header = carried.system["AWSTraceHeader"].as_str().unwrap();
    let expected = format!("Parent={};Sampled=1", sent["span"].as_str().unwrap());
    assert!(header.ends_with(&expected), "{header}");
    assert_eq!(carried.attributes.as_object().unwrap().len(), 10);
    drop(host);
}
