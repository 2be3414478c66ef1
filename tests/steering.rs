//! An operator sees why something stands still, deletes a queue that nothing declares, reloads the configuration, and finds each
//! change in an audit line.

#![expect(clippy::indexing_slicing, reason = "a wrong answer fails the test")]

use std::fs;

use harness::{
    guests::{forward, no_op, obedient},
    host::{Host, Place},
    sqs_client::SqsClient,
    wait_for,
};
use serde_json::{Value, json};

fn order(host: &Host, path: &str) -> Value {
    host.post(path, &Value::Null)
}

/// The answer to a request with this method.
fn ask(host: &Host, method: &str, path: &str) -> (u16, Value) {
    let request = ureq::http::Request::builder()
        .method(method)
        .uri(format!("{}{path}", host.url))
        .body(())
        .unwrap();
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut answer = agent.run(request).unwrap();
    // A backup is no text.
    let bytes = answer.body_mut().read_to_vec().unwrap();
    (
        answer.status().as_u16(),
        serde_json::from_slice(&bytes).unwrap_or(Value::Null),
    )
}

/// The audit lines with this action.
fn audits(host: &Host, action: &str) -> Vec<Value> {
    let audits = host.events("audit").into_iter();
    audits
        .filter(|event| event["target"] == "audit" && event["fields"]["action"] == action)
        .collect()
}

fn audit(host: &Host, action: &str) -> Value {
    wait_for(action, || audits(host, action).pop())["fields"].clone()
}

fn sandhog(place: &Place, host: &Host, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = place
        .command()
        .args(arguments)
        .args(["--url", &host.url])
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn with_queues(configuration: &str) -> (Place, Host) {
    let place = Place::new();
    place.configure(configuration);
    let host = place.start();
    host.wait_ready();
    (place, host)
}

fn sentence(host: &Host, queue: &str) -> String {
    host.counts(queue)["standstill"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn what_stands_still_says_why_in_one_sentence() {
    let (place, host) = with_queues("[queues.in]\n");
    host.send("in", b"x");
    let nobody = "no handler takes this queue: 1 message waits for somebody outside";
    assert_eq!(sentence(&host, "in"), nobody);
    place.install("in", &no_op(), "");
    host.wait_empty("in");
    assert_eq!(sentence(&host, "in"), "");
    order(&host, "/queues/in/pause?reason=stocktaking");
    let paused = sentence(&host, "in");
    assert!(
        paused.starts_with("queue in is paused by an operator since 2"),
        "{paused}"
    );
    let expected = ", until it is resumed: stocktaking (no message waits for that)";
    assert!(paused.ends_with(expected), "{paused}");
    assert_eq!(host.get("/handlers")["handlers"][0]["standstill"], paused);
    let (_, table, _) = sandhog(&place, &host, &["handlers"]);
    assert!(table.contains(&format!("in: {paused}")), "{table}");
    assert!(sandhog(&place, &host, &["queues"]).1.contains(&paused));
    order(&host, "/queues/in/resume");
    host.try_send("in", b"later", "delay=1h").unwrap();
    let delayed = sentence(&host, "in");
    assert!(
        delayed.starts_with("all messages are delayed or wait for a retry"),
        "{delayed}"
    );
}

#[test]
fn a_handler_that_waits_for_room_says_so() {
    let (place, host) = with_queues("max-live-instances = 1\n[queues.a]\n[queues.b]\n");
    let slow = "concurrency = 1\ntimeout = \"90s\"\n[grant]\nsend = [\"out\"]\n";
    // A version is tried before it serves, which needs room as well.
    place.install("b", &no_op(), "concurrency = 1\n");
    place.install("a", &obedient("out"), slow);
    wait_for("both handlers", || (host.events("serving").len() == 2).then_some(()));
    host.send("a", b"w80000d");
    wait_for("the call of the first", || {
        (host.count("a", "in-flight") == 1).then_some(())
    });
    host.send("b", b"x");
    host.send("b", b"y");
    let expected = "no room for another instance";
    wait_for(expected, || sentence(&host, "b").contains(expected).then_some(()));
}

#[test]
fn a_group_that_waits_for_one_message_names_both() {
    let (place, host) = with_queues("[queues.in]\n");
    let id = host.try_send("in", b"1", "group=g7").unwrap();
    host.try_send("in", b"2", "group=g7").unwrap();
    let received = order(&host, "/queues/in/receive?visibility=1h");
    assert_eq!(received["messages"][0]["id"], id.as_str());
    place.install("in", &no_op(), "");
    wait_for("the handler", || host.events("serving").pop());
    let expected = format!("message group \"g7\" waits for message {id}, which is in flight");
    wait_for(&expected, || (sentence(&host, "in") == expected).then_some(()));
    let retry = json!({ "receipt": received["messages"][0]["receipt"], "action": "retry", "delay": "1h" });
    let settled = host.post("/queues/in/settle", &retry);
    let waits = sentence(&host, "in");
    let expected = format!("message group \"g7\" waits for message {id}, which waits for its retry at 2");
    assert!(waits.starts_with(&expected), "{waits}: {settled}");
}

#[test]
fn the_table_of_handlers_has_one_line_for_each_and_fits_a_terminal() {
    let place = Place::new();
    place.install("in", &no_op(), "concurrency = 3\n");
    let host = place.start();
    host.wait_ready();
    host.send("in", b"x");
    host.wait_empty("in");
    let (code, table, _) = sandhog(&place, &host, &["handlers"]);
    assert_eq!(code, Some(0));
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        lines[1],
        ["in", "in", "serving", "1", "0/3", "1", "0", "1", "0"],
        "{table}"
    );
    assert!(table.lines().all(|line| line.len() <= 80), "{table}");
    let (_, json, _) = sandhog(&place, &host, &["handlers", "--json"]);
    let list: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(list["handlers"][0]["slots"], 3);
}

#[test]
fn a_queue_that_a_typo_made_can_be_deleted_once_nothing_declares_it() {
    let place = Place::new();
    place.install("in", &forward(), "[grant]\nsend = [\"totls\", \"out\"]\n");
    let host = place.start();
    host.wait_ready();
    let refused = |queue: &str| {
        let (status, answer) = ask(&host, "DELETE", &format!("/queues/{queue}"));
        assert_eq!(status, 409, "{answer}");
        answer["error"].as_str().unwrap().to_owned()
    };
    assert!(refused("totls").contains("handler in may send to it (grant.send)"));
    assert!(refused("in").contains("handler in takes it"));
    assert!(refused("in-dead").contains("it is the dead-letter queue of in"));
    place.install("in", &forward(), "[grant]\nsend = [\"out\"]\n");
    wait_for("the new manifest", || host.events("serving").get(1).cloned());
    host.send("totls", b"x");
    assert!(refused("totls").contains("queue totls has messages (1, "));
    let (code, _, error) = sandhog(&place, &host, &["delete", "totls", "--with-messages"]);
    assert_eq!(code, Some(2), "{error}");
    assert!(
        error.contains("this deletes queue totls with 1 message for good: repeat it with --yes"),
        "{error}"
    );
    let (code, said, error) = sandhog(&place, &host, &["delete", "totls", "--with-messages", "--yes"]);
    assert_eq!(
        (code, said.as_str()),
        (Some(0), "deleted totls and totls-dead, with 1 message\n"),
        "{error}"
    );
    assert_eq!(ask(&host, "GET", "/queues/totls").0, 404);
    assert_eq!(ask(&host, "GET", "/queues/totls-dead").0, 404);
    assert_eq!(audit(&host, "delete queue")["count"], 1);
    drop(host);
    let host = place.start();
    host.wait_ready();
    assert_eq!(ask(&host, "GET", "/queues/totls").0, 404);
    // The name is free.
    let client = SqsClient::new(&host.url);
    let queue = client.create_queue("totls", &[]);
    client.send(&queue, "x");
    assert_eq!(host.count("totls", "ready"), 1);
}

#[test]
fn a_queue_of_the_configuration_is_not_deleted() {
    let (_place, host) = with_queues("[queues.in]\n");
    let (status, answer) = ask(&host, "DELETE", "/queues/in");
    assert_eq!(status, 409);
    let error = answer["error"].as_str().unwrap();
    assert!(error.contains("sandhog.toml declares it: [queues.in]"), "{error}");
}

#[test]
fn purging_asks_first_and_says_how_many_messages_it_deleted() {
    let (place, host) = with_queues("[queues.in]\n");
    host.send("in", b"x");
    let (code, _, error) = sandhog(&place, &host, &["purge", "in"]);
    assert_eq!(code, Some(2));
    assert!(
        error.contains("this deletes all messages of in that are not in flight for good (1 now): repeat it with --yes"),
        "{error}"
    );
    let (_, said, _) = sandhog(&place, &host, &["purge", "in", "--yes"]);
    assert_eq!(said, "deleted 1 message of in\n");
    let line = audit(&host, "delete queue messages");
    assert_eq!((&line["count"], &line["who"]), (&json!(1), &json!("local")));
}

#[test]
fn pausing_from_the_command_line_says_until_when() {
    let (place, host) = with_queues("[queues.in]\n");
    let pause = ["pause", "in", "--reason", "a & b", "--for", "1h"];
    let (code, said, error) = sandhog(&place, &host, &pause);
    assert_eq!(code, Some(0), "{error}");
    assert!(said.starts_with("Queue in is paused until 2"), "{said}");
    assert_eq!(host.counts("in")["halt"]["reason"], "a & b");
    let (_, said, _) = sandhog(&place, &host, &["resume", "in"]);
    assert!(said.starts_with("Queue in goes on; it was paused at 2"), "{said}");
    let (_, said, _) = sandhog(&place, &host, &["resume", "in"]);
    assert_eq!(said, "Queue in was not paused by an operator.\n");
    let (code, _, error) = sandhog(&place, &host, &["pause", "none", "--handler"]);
    assert_eq!(code, Some(1), "{error}");
}

/// The routes of messages, with which applications send and handle.
const OF_MESSAGES: [&str; 5] = [
    "/queues/{name}",
    "/queues/{name}/batch",
    "/queues/{name}/receive",
    "/queues/{name}/settle",
    "/queues/{name}/extend",
];

#[test]
fn every_route_that_changes_something_leaves_an_audit_line() {
    let (_place, host) = with_queues("[queues.in]\n");
    let document = host.get("/openapi.json");
    let mut asked = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys().filter(|method| *method != "get") {
            if method == "post" && OF_MESSAGES.contains(&path.as_str()) {
                continue;
            }
            let target = path.replace("{name}", "in").replace("{id}", "x");
            ask(&host, &method.to_uppercase(), &target);
            asked += 1;
            let line = wait_for(&format!("the audit line of {method} {path}"), || {
                let lines = host.events("audit");
                lines.into_iter().find(|line| line["fields"]["what"] == target.as_str())
            });
            let fields = &line["fields"];
            assert_eq!(line["target"], "audit");
            assert_eq!(fields["who"], "local");
            assert!(fields["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
            let result = fields["result"].as_str().unwrap();
            assert!(result == "done" || result.starts_with("refused: "), "{line}");
            assert!(!fields["action"].as_str().unwrap().is_empty(), "{line}");
        }
    }
    assert!(asked >= 10, "{asked}");
    host.send("in", b"x");
    assert!(
        !host
            .events("audit")
            .iter()
            .any(|line| line["fields"]["what"] == "/queues/in?")
    );
}

#[test]
fn the_changes_of_sqs_clients_leave_audit_lines_with_the_name_of_the_key() {
    let place = Place::new();
    place.configure("");
    let host = place.start();
    host.wait_ready();
    let client = SqsClient::new(&host.url);
    let queue = client.create_queue("made", &[]);
    let created = audit(&host, "CreateQueue");
    assert_eq!((&created["who"], &created["what"]), (&json!("local"), &json!("made")));
    client.expect(
        "SetQueueAttributes",
        &json!({ "QueueUrl": queue, "Attributes": { "VisibilityTimeout": "7" } }),
    );
    assert_eq!(audit(&host, "SetQueueAttributes")["result"], "done");
    client.send(&queue, "x");
    client.delete_queue(&queue);
    assert_eq!(audit(&host, "DeleteQueue")["result"], "done");
    assert!(audits(&host, "SendMessage").is_empty());
}

#[test]
fn a_reload_applies_what_can_change_and_names_what_needs_a_restart() {
    let (place, host) = with_queues("[queues.in]\nmax-messages = 1\n");
    host.send("in", b"x");
    assert!(host.try_send("in", b"y", "").is_none());
    place.configure("[queues.in]\nmax-messages = 2\n[queues.new]\n");
    let (code, said, error) = sandhog(&place, &host, &["reload"]);
    assert_eq!(
        (code, said.as_str()),
        (
            Some(0),
            "in force now: queues.in, queues.new\nthe host looks at the plugin directory now; `sandhog handlers` shows what comes of it\n"
        ),
        "{error}"
    );
    host.send("in", b"y");
    host.send("new", b"z");
    assert_eq!(audit(&host, "reload")["result"], "done");
    place.configure("grace-period = \"1s\"\n[queues.in]\nmax-messages = 2\n[queues.new]\n");
    let answer = order(&host, "/reload");
    assert_eq!(answer, json!({ "changed": [], "needs-restart": ["grace-period"] }));
    host.event("the configuration was read again; a part of it needs a restart");
}

#[test]
fn a_configuration_with_mistakes_changes_nothing_and_all_of_them_are_named() {
    let (place, host) = with_queues("[queues.in]\nmax-messages = 1\n");
    place.configure("lisen = 1\n[queues.in]\nmax-messages = 2\nmax-receives = 0\n");
    let (status, answer) = ask(&host, "POST", "/reload");
    let error = answer["error"].as_str().unwrap();
    assert_eq!(status, 409);
    assert!(error.contains("lisen") && error.contains("max-receives"), "{error}");
    host.send("in", b"x");
    assert!(host.try_send("in", b"y", "").is_none());
}

#[test]
fn a_configuration_that_is_gone_changes_nothing() {
    let (place, host) = with_queues("[queues.in]\nmax-messages = 1\n");
    fs::remove_file(place.path().join("sandhog.toml")).unwrap();
    let (code, said, error) = sandhog(&place, &host, &["reload"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(error.contains("sandhog.toml: cannot be read"), "{error}");
    host.send("in", b"x");
    assert!(host.try_send("in", b"y", "").is_none());
}

#[test]
fn the_signal_to_look_reads_the_configuration_again() {
    let (place, host) = with_queues("[queues.in]\n");
    place.configure("[queues.in]\n[queues.new]\n");
    fs::write(place.plugin("junk.wasm"), "junk").unwrap();
    host.signal("HUP");
    wait_for("the new queue", || {
        (ask(&host, "GET", "/queues/new").0 == 200).then_some(())
    });
    assert_eq!(audit(&host, "reload")["who"], "signal SIGHUP");
    wait_for("the look", || host.events("a handler was refused").pop());
}
