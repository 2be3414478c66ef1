//! Readiness tells the truth: red while a handler has nothing that serves, and never for longer.

use std::fs;

use harness::{
    guests::{handler, no_op},
    host::{Host, Place},
    wait_for,
};
use serde_json::json;

fn reasons(host: &Host) -> String {
    host.text("/ready").1
}

/// It was green, and a rollout went through with a host that handled nothing.
#[test]
fn a_host_whose_handler_was_refused_is_not_ready_until_one_serves() {
    let place = Place::new();
    fs::write(place.plugin("in.wasm"), "junk").unwrap();
    place.install("good", &no_op(), "");
    let host = place.start();
    wait_for("the refusal", || host.events("a handler was refused").pop());
    wait_for("the good one", || host.events("serving").pop());
    assert_eq!(host.text("/ready").0, 503);
    assert!(
        reasons(&host).contains("handler in has no version that serves"),
        "{}",
        reasons(&host)
    );
    place.install("in", &no_op(), "");
    host.wait_ready();
    // One that breaks later has something that serves.
    fs::write(place.plugin("in.wasm"), "junk").unwrap();
    wait_for("the second refusal", || {
        host.events("a handler was refused").get(1).cloned()
    });
    assert_eq!(host.text("/ready").0, 200);
    fs::write(place.plugin("new.wasm"), "junk").unwrap();
    wait_for("the third refusal", || {
        host.events("a handler was refused").get(2).cloned()
    });
    assert_eq!(host.text("/ready").0, 503);
    fs::remove_file(place.plugin("new.wasm")).unwrap();
    host.wait_ready();
}

/// Behind a load balancer no message came any more, so no probe did, and it stayed red for ever.
#[test]
fn a_paused_handler_whose_queue_is_empty_leaves_the_host_ready_and_is_probed_all_the_same() {
    let place = Place::new();
    place.configure("[queues.in]\nmax-receives = 1\n");
    // Fails for a body that begins with `b`.
    let moody =
        handler("(if (i32.eq (i32.load8_u (local.get $body)) (i32.const 98)) (then unreachable)) (global.get $ok)");
    place.install("in", &moody, "[retry]\nmin = \"1ms\"\nmax = \"1ms\"\n");
    let host = place.start();
    host.wait_ready();
    let messages: Vec<_> = (0..40).map(|number| json!({ "body": format!("b{number}") })).collect();
    host.post("/queues/in/batch", &json!({ "messages": messages }));
    wait_for("the pause", || host.events("the handler is paused").pop());
    assert!(reasons(&host).contains("is paused"), "{}", reasons(&host));
    let purge = ureq::delete(format!("{}/queues/in/messages", host.url)).call();
    assert!(purge.is_ok(), "{purge:?}");
    host.wait_ready();
    assert_eq!(host.get("/handlers")["handlers"][0]["state"], "paused");
    host.send("in", b"good");
    wait_for("the end of the pause", || {
        host.events("the handler goes on after a pause").pop()
    });
    host.wait_empty("in");
}
