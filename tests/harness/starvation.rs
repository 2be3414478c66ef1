//! A host whose every core is taken by guests: what its leases and its listener say meanwhile.

use std::time::{Duration, Instant};

use crate::{
    host::{Host, Place},
    hostile::Parts,
};

/// The queue of the guests that compute.
pub const QUEUE: &str = "busy";

/// A host with a handler that computes for `busy`, several at a time, and sends a message on; its leases are so short.
pub fn start(busy: Duration, lease: Duration) -> (Place, Host) {
    let place = Place::new();
    let lease = lease.as_secs();
    place.configure(&format!(
        "plugins = \"plugins\"\n[queues.busy]\nvisibility-timeout = \"{lease}s\"\nmax-receives = 1\n[queues.out]\n",
    ));
    let nanoseconds = busy.as_nanos();
    let wasm = Parts::handle(&format!(
        "(local $n i32) (local $end i64)
        (local.set $end (i64.add (call $now) (i64.const {nanoseconds})))
        (loop $again
            (local.set $n (i32.const 0))
            (loop $busy
                (local.set $n (i32.add (local.get $n) (i32.const 1)))
                (br_if $busy (i32.lt_u (local.get $n) (i32.const 1000000))))
            (br_if $again (i64.lt_u (call $now) (local.get $end))))
        (call $send (i32.const 256) (i32.const 3) (local.get $body) (local.get $body-len) (i32.const 0) (i32.const 0))
        (global.get $ok)"
    ))
    .clocks()
    .sends()
    .wasm();
    let limit = busy.as_secs() * 3 + 30;
    let manifest = format!(
        "timeout = \"{limit}s\"\nconcurrency = 8\n[limits]\ncpu-time = \"{limit}s\"\n[grant]\nsend = [\"out\"]\n"
    );
    place.install(QUEUE, &wasm, &manifest);
    let host = place.start();
    host.wait_ready();
    (place, host)
}

/// How long a request takes, one after another until `end`, each after a short pause.
pub fn latencies(host: &Host, path: &str, end: Instant) -> Vec<Duration> {
    let mut times = Vec::new();
    while Instant::now() < end {
        let started = Instant::now();
        let (status, _) = host.text(path);
        assert_eq!(status, 200, "{path}");
        times.push(started.elapsed());
        crate::pause();
    }
    times.sort();
    times
}

/// The duration below which so many of a hundred are, of sorted ones.
pub fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(index).copied().unwrap_or_default()
}

/// How many extensions there were, by the bound in seconds of how late they were started at most.
pub fn lateness(host: &Host) -> Vec<(String, u64)> {
    let (_, page) = host.text("/metrics");
    let buckets = page.lines().filter_map(|line| {
        let rest = line.strip_prefix("sandhog_lease_extension_lateness_seconds_bucket{")?;
        let (labels, count) = rest.rsplit_once("} ")?;
        let bound = labels.split("le=\"").nth(1)?.split('"').next()?;
        labels
            .contains(&format!("queue=\"{QUEUE}\""))
            .then(|| (bound.to_owned(), count.parse().unwrap()))
    });
    buckets.collect()
}

/// The sum of a metric over all labels that have these words.
pub fn metric(host: &Host, name: &str, labels: &str) -> u64 {
    let (_, page) = host.text("/metrics");
    let values = page.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        (rest.starts_with(['{', ' ']) && rest.contains(labels)).then(|| rest.rsplit_once(' ')?.1.parse::<u64>().ok())?
    });
    values.sum()
}
