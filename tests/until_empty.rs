//! `--until-empty` ends with 0 only if every queue that somebody could expect to be empty is.

use std::fs;

use harness::{
    guests::{forward, no_op},
    host::Place,
};

const QUEUES: &str = "[queues.in]\n[queues.other]\n";

/// A place whose queues hold one message each, sent while nothing served.
fn with_messages(queues: &[&str]) -> Place {
    let mut place = Place::new();
    place.configure(QUEUES);
    let host = place.start();
    host.wait_ready();
    for queue in queues {
        host.send(queue, b"x");
    }
    host.terminate();
    place.arguments.push("--until-empty".to_owned());
    place
}

fn code(place: &Place) -> (Option<i32>, String) {
    let output = place.run().output().unwrap();
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// It ended with 0 at once, although nothing was done.
#[test]
fn messages_in_queues_that_no_handler_serves_are_not_called_done() {
    let place = with_messages(&["in", "other"]);
    let (nothing_serves, log) = code(&place);
    assert_eq!(nothing_serves, Some(3), "{log}");
    place.install("in", &no_op(), "");
    let (one_serves, log) = code(&place);
    assert_eq!(one_serves, Some(3), "{log}");
    assert!(log.contains("messages wait in a queue that no handler serves"), "{log}");
    assert!(log.contains("\"queue\":\"other\""), "{log}");
    place.install("other", &no_op(), "");
    assert_eq!(code(&place).0, Some(0));
}

#[test]
fn what_handlers_send_to_others_is_done() {
    let place = with_messages(&["in"]);
    place.install("in", &forward(), "[grant]\nsend = [\"out\"]\n");
    let (code, log) = code(&place);
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn a_refused_handler_is_told_from_queues_without_one() {
    let place = with_messages(&["in"]);
    fs::write(place.plugin("in.wasm"), "junk").unwrap();
    let (code, log) = code(&place);
    assert_eq!(code, Some(1), "{log}");
}
