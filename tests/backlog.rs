//! Millions of waiting messages cost disk, not memory, and hold nobody up.

use std::time::Duration;

use harness::{guests::forward, host::Place, process::ProcessorTime, wait_for};

const MESSAGES: u64 = 2_000_000;
const BODY_BYTES: usize = 256;

#[test]
fn a_backlog_of_two_million_messages_neither_fills_memory_nor_delays_the_first() {
    let place = Place::new();
    let messages = usize::try_from(MESSAGES).unwrap();
    place.fill("backlog", messages, &[b'x'; BODY_BYTES], 1000);
    place.install("idle", &forward(), "[grant]\nsend = [\"out\"]\n");
    let host = place.start();
    host.wait_ready();
    // What the host did, and not what the machine did meanwhile.
    let start = ProcessorTime::of(host.id()).look();
    let waiting = host.count("backlog", "ready");
    host.send("idle", b"first");
    host.wait_empty("idle");
    assert_eq!(host.take_all("out"), ["first"]);
    // Now the backlog itself gets a handler.
    place.install("backlog", &forward(), "[grant]\nsend = [\"out\"]\n");
    let first = wait_for("the first message of the backlog", || host.take_one("out"));
    assert_eq!(first.len(), BODY_BYTES);
    wait_for("some thousands to be handled", || {
        (host.count("backlog", "ready") + 5000 < MESSAGES).then_some(())
    });
    let (resident, _, _) = host.resources();
    println!(
        "{MESSAGES} messages: ready after {start:?} of processor time, resident {} MiB",
        resident / 1024
    );
    assert_eq!(waiting, MESSAGES);
    assert!(resident < 300 * 1024, "{resident} KiB");
    assert!(start < Duration::from_secs(5), "{start:?}");
}
