//! Millions of waiting messages cost disk, not memory, and hold nobody up.

use std::time::{Duration, Instant};

use bytes::Bytes;
use harness::{guests::forward, host::Place, wait_for};
use sandhog::{
    message::{Outgoing, QueueName},
    queue::{
        Queue as _,
        simple::{SimpleStore, StoreOptions, settings::Settings},
    },
};

const MESSAGES: u64 = 2_000_000;
const BODY_BYTES: usize = 256;

#[test]
fn a_backlog_of_two_million_messages_neither_fills_memory_nor_delays_the_first() {
    let place = Place::new();
    fill(&place);
    place.install("idle", &forward(), "[grant]\nsend = [\"out\"]\n");
    let start = Instant::now();
    let host = place.start();
    host.wait_ready();
    let ready = start.elapsed();
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
        "{MESSAGES} messages: ready after {ready:?}, resident {} MiB",
        resident / 1024
    );
    assert_eq!(waiting, MESSAGES);
    assert!(resident < 300 * 1024, "{resident} KiB");
    assert!(ready < Duration::from_secs(5), "{ready:?}");
}

/// Sends through the library: two thousand transactions instead of two million.
fn fill(place: &Place) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = SimpleStore::open(&StoreOptions::new(place.data())).unwrap();
        let name = QueueName::new("backlog").unwrap();
        let queue = store.queue(name.clone(), Settings::defaults(&name)).await.unwrap();
        let body = Bytes::from(vec![b'x'; BODY_BYTES]);
        for _ in 0..MESSAGES / 1000 {
            let messages = (0..1000).map(|_| Outgoing::new(body.clone())).collect();
            assert!(queue.send_many(messages).await.iter().all(Result::is_ok));
        }
        drop(queue);
        store.close().await;
    });
}
