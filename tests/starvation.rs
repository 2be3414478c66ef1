//! Guests that take every core leave time for leases and for the listener.

use std::time::{Duration, Instant};

use harness::{
    host::Host,
    starvation::{QUEUE, latencies, lateness, metric, start},
};

fn extensions(host: &Host) -> u64 {
    metric(host, "sandhog_lease_extensions_total", "result=\"ok\"")
}

/// The bench of the same name measures how late; here it is only about what must not happen.
#[test]
fn no_lease_is_lost_and_nothing_is_received_twice_while_guests_take_every_core() {
    // Nothing but time is given for the extension of a lease: half of it, on a machine that has other work as well.
    let (_place, host) = start(Duration::from_secs(10), Duration::from_secs(4));
    for number in 0..16 {
        host.send(QUEUE, format!("{number}").as_bytes());
    }
    let answers = latencies(&host, "/live", Instant::now() + Duration::from_secs(8));
    assert!(answers.len() > 20, "only {} answers of the listener", answers.len());
    host.wait_empty(QUEUE);
    let mut bodies = host.take_all("out");
    bodies.sort_by_key(|body| body.parse::<u32>().unwrap());
    let all: Vec<_> = (0..16).map(|number: u32| number.to_string()).collect();
    assert_eq!(bodies, all);
    assert_eq!(metric(&host, "sandhog_lost_leases_total", QUEUE), 0);
    assert_eq!(metric(&host, "sandhog_received_messages_total", QUEUE), 16);
    assert!(host.dead(QUEUE).is_empty());
    // Each of eight guests at a time, for two times ten seconds, at every half of four seconds.
    let extensions = extensions(&host);
    assert!(extensions >= 40, "{extensions} extensions");
    assert!(lateness(&host).last().is_some_and(|(_, count)| *count >= extensions));
}
