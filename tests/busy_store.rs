//! A store that refuses for a while holds deploys up, and ends nothing.

use harness::{
    guests::{no_op, obedient},
    host::Place,
    wait_for,
};

const GRANT: &str = "[grant]\nsend = [\"out\"]\n";

/// The host ended with 74 as soon as a deploy needed a queue, and dropped what was in flight.
#[test]
fn a_deploy_while_the_store_refuses_is_done_once_it_does_not() {
    let place = Place::new();
    place.install("in", &obedient("out"), GRANT);
    let mut host = place.start();
    host.wait_ready();
    host.send("in", b"w9000d");
    wait_for("the attempt", || (host.count("in", "in-flight") == 1).then_some(()));
    let lock = rusqlite::Connection::open(place.data().join("queues.db")).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    place.install("new", &no_op(), "");
    let refused = wait_for("the deploy to be put off", || {
        host.events("a handler can't be loaded now").pop()
    });
    let reason = refused["fields"]["reason"].as_str().unwrap();
    assert!(reason.contains("its queues can't be made now"), "{reason}");
    assert!(host.try_wait().is_none(), "the host has ended");
    assert!(host.text("/ready").1.contains("handler new has no version that serves"));
    lock.execute_batch("ROLLBACK").unwrap();
    wait_for("the deploy", || host.events("serving").get(1).cloned());
    host.wait_empty("in");
    assert!(host.dead("in").is_empty());
    host.wait_ready();
    assert!(host.terminate().0.success());
}
