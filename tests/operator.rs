//! An operator is told what holds something back, where a message is, and what a command would do, before it is too late to ask.

use std::process::Output;

use harness::{
    guests::{no_op, obedient},
    host::{Host, Place},
    wait_for,
};
use serde_json::Value;

fn ask(place: &Place, host: &Host, arguments: &[&str]) -> Output {
    let mut command = place.command();
    command.args(arguments).args(["--url", &host.url]);
    command.output().unwrap()
}

/// What a command that succeeds writes.
fn told(place: &Place, host: &Host, arguments: &[&str]) -> String {
    let output = ask(place, host, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// How a command that fails ends, and what it says.
fn refused(place: &Place, host: &Host, arguments: &[&str]) -> (Option<i32>, String) {
    let output = ask(place, host, arguments);
    assert!(!output.status.success(), "{arguments:?}: {output:?}");
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn serving_in() -> (Place, Host) {
    let place = Place::new();
    place.install("in", &no_op(), "");
    let host = place.start();
    host.wait_ready();
    (place, host)
}

#[test]
fn a_manifest_that_was_refused_is_told_with_what_serves_instead() {
    let (place, host) = serving_in();
    std::fs::write(place.plugin("in.toml"), "concurrency = 0\n").unwrap();
    let expected = "in: version 1 serves, and not the files in the plugin directory: in.toml:1: concurrency = 0";
    wait_for(expected, || {
        told(&place, &host, &["handlers"]).contains(expected).then_some(())
    });
    let reloaded = told(&place, &host, &["reload"]);
    assert!(
        reloaded.contains("the configuration has not changed\nthe host looks at the plugin directory now"),
        "{reloaded}"
    );
}

#[test]
fn the_lines_to_copy_of_a_refusal_are_lines() {
    let place = Place::new();
    place.configure("[queues.in]\n");
    place.install("in", &obedient("out"), "");
    let host = place.start();
    let expected = "in.toml:\n  [grant]\n  send = [\"QUEUE\"]";
    wait_for(expected, || {
        told(&place, &host, &["handlers"]).contains(expected).then_some(())
    });
    place.configure("[queues.in]\nmax-receives = 0\n[queues.out]\ndelay = 7\n");
    let (code, mistakes) = refused(&place, &host, &["reload"]);
    assert_eq!(code, Some(1));
    assert!(mistakes.lines().count() >= 2 && !mistakes.contains("\\n"), "{mistakes}");
}

#[test]
fn to_follow_a_handler_that_nobody_knows_is_refused() {
    let (place, host) = serving_in();
    let (code, why) = refused(&place, &host, &["tail", "inn"]);
    assert_eq!(
        (code, why.as_str()),
        (Some(1), "sandhog: no handler \"inn\"; known handlers: in\n")
    );
}

#[test]
fn a_trace_goes_up_to_the_first_message_and_says_where_each_lies() {
    let place = Place::new();
    place.install("in", &obedient("middle"), "[grant]\nsend = [\"middle\"]\n");
    place.install("middle", &obedient("end"), "[grant]\nsend = [\"end\"]\n");
    let host = place.start();
    host.wait_ready();
    let first = host.send("in", b"x");
    wait_for("the last message", || (host.count("end", "ready") == 1).then_some(()));
    let last = host.get("/queues/end/messages")["messages"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let way: Value = wait_for("the journal", || {
        let way: Value = serde_json::from_str(&told(&place, &host, &["trace", &last, "--json"])).unwrap();
        (way["above"].as_array().unwrap().len() == 2).then_some(way)
    });
    let middle = way["above"][1]["message"].as_str().unwrap().to_owned();
    assert_eq!(way["above"][0]["message"], first.as_str());
    assert_eq!(way["places"][&last]["state"], "ready");
    let up = told(&place, &host, &["trace", &last]);
    let expected = format!(
        "{middle}: sent by in v1 for message {first} of queue in\n{last}: sent by middle v1 for message {middle} of queue middle\n  now in queue end: ready\n"
    );
    assert_eq!(up, expected);
    let down = told(&place, &host, &["trace", &first]);
    assert!(down.contains("    now in queue end: ready\n"), "{down}");
    assert!(down.ends_with("\n  handled, and no longer in any queue\n"), "{down}");
    // The message that lies in a queue knows who sent it, also after the journal was lost.
    host.terminate();
    let host = place.start();
    host.wait_ready();
    let up = told(&place, &host, &["trace", &last]);
    let sender = format!("{last}: sent by middle v1 for message {middle} of queue middle\n  now in queue end: ready\n");
    assert!(up.ends_with(&sender), "{up}");
}

#[test]
fn a_pause_by_an_operator_is_a_metric() {
    let (place, host) = serving_in();
    let gauges = || {
        let page = host.text("/metrics").1;
        [
            "sandhog_queue_halted{queue=\"in\"} ",
            "sandhog_handler_halted{handler=\"in\"} ",
        ]
        .map(|name| {
            let value = page.lines().find_map(|line| line.strip_prefix(name));
            value.unwrap_or_default().to_owned()
        })
    };
    assert_eq!(gauges(), ["0", "0"]);
    told(&place, &host, &["pause", "in"]);
    assert_eq!(gauges(), ["1", "0"]);
    told(&place, &host, &["pause", "in", "--handler"]);
    assert_eq!(gauges(), ["1", "1"]);
    told(&place, &host, &["resume", "in"]);
    told(&place, &host, &["resume", "in", "--handler"]);
    assert_eq!(gauges(), ["0", "0"]);
}

#[test]
fn a_resumed_handler_whose_queue_is_paused_is_told_so() {
    let (place, host) = serving_in();
    told(&place, &host, &["pause", "in", "--handler"]);
    told(&place, &host, &["pause", "in", "--reason", "stocktaking"]);
    let said = told(&place, &host, &["resume", "in", "--handler"]);
    let expected = "Handler in is resumed, and stands still all the same: queue in is paused by an operator since 2";
    assert!(said.starts_with(expected), "{said}");
    assert!(
        said.ends_with(": stocktaking; `sandhog resume in` ends that.\n"),
        "{said}"
    );
    let goes_on = told(&place, &host, &["resume", "in"]);
    assert!(goes_on.starts_with("Queue in goes on; "), "{goes_on}");
}

#[test]
fn a_whole_body_in_a_pipe_has_the_bytes_that_were_sent() {
    let place = Place::new();
    place.configure("[queues.in]\n");
    let host = place.start();
    host.wait_ready();
    let id = host.send("in", b"a\n\xff\x1b[2J");
    let output = ask(&place, &host, &["peek", "in", "--id", &id, "--whole"]);
    assert_eq!(output.stdout, b"a\n\xff\x1b[2J");
    let (code, why) = refused(&place, &host, &["peek", "in", "--id", "nothing", "--whole"]);
    assert_eq!((code, why.as_str()), (Some(1), "sandhog: in has no such message\n"));
}

#[test]
fn nobody_is_asked_about_a_queue_that_can_not_be_deleted() {
    let (place, host) = serving_in();
    let (code, why) = refused(&place, &host, &["delete", "in"]);
    assert_eq!(code, Some(1), "{why}");
    assert!(why.contains("queue in can't be deleted: handler in takes it"), "{why}");
}

#[test]
fn a_backup_below_a_directory_that_is_missing_says_so() {
    let (place, host) = serving_in();
    let (code, why) = refused(&place, &host, &["backup", "nodir/sub/monday"]);
    let expected =
        "sandhog: nodir/sub/monday can't be made, because nodir/sub is not a directory that is there: make it first\n";
    assert_eq!((code, why.as_str()), (Some(1), expected));
}

#[test]
fn the_audit_line_of_a_wrong_request_says_what_was_wrong() {
    let (_place, host) = serving_in();
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let status = |path: &str, body: &str| {
        let answer = agent.post(format!("{}{path}", host.url)).send(body).unwrap();
        answer.status().as_u16()
    };
    assert_eq!(status("/queues/in/pause?for=tomorrow", ""), 400);
    assert_eq!(status("/queues/in/dead/redrive", "{\"secret\": 1}"), 400);
    let errors = wait_for("two audit lines", || {
        let lines = host.events("audit").into_iter();
        let errors: Vec<_> = lines
            .filter_map(|line| Some(line["fields"]["error"].as_str()?.to_owned()))
            .collect();
        (errors.len() == 2).then_some(errors)
    });
    assert!(errors[0].contains("for=tomorrow"), "{errors:?}");
    assert_eq!(
        errors[1],
        "the request is wrong; the answer says in what, and may have words of its body"
    );
}
