//! How late leases are extended and how long the listener takes to answer while guests take every core, beside an idle
//! host in the same run.
//!
//! The host is the real process. Eight guests compute without a pause, under a visibility timeout of two seconds, so
//! leases are extended all the time. Run it with `cargo bench --workspace --profile dev --bench starvation -- [SECONDS]`; it fails if an extension was
//! started more than 100 ms late, or if the 95th percentile of the listener's answers is above 100 ms.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark speaks to a person")]

use std::{
    thread,
    time::{Duration, Instant},
};

use harness::{
    host::Host,
    let_pass,
    starvation::{QUEUE, latencies, lateness, metric, percentile, start},
    wait_for,
};

const BOUND: Duration = Duration::from_millis(100);
const PATHS: [&str; 2] = ["/live", "/metrics"];
const PERCENTILES: [usize; 4] = [50, 95, 99, 100];

fn main() {
    let seconds = std::env::args()
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(60);
    let cores = thread::available_parallelism().unwrap();
    println!(
        "{seconds} s with eight guests that compute on {cores} cores, after {} s idle",
        seconds / 4
    );
    let (_place, host) = start(Duration::from_secs(4), Duration::from_secs(2));
    let idle = measured(&host, Duration::from_secs(seconds / 4));
    let busy = thread::scope(|scope| {
        let end = Instant::now() + Duration::from_secs(seconds);
        let host = &host;
        let load = scope.spawn(move || keep_busy(host, end));
        wait_for("the guests to compute", || {
            (host.count(QUEUE, "in-flight") >= 8).then_some(())
        });
        let busy = measured(host, end.saturating_duration_since(Instant::now()));
        load.join().unwrap();
        busy
    });
    for (path, (idle, busy)) in PATHS.iter().zip(idle.iter().zip(&busy)) {
        println!("GET {path}: {} answers idle, {} busy", idle.len(), busy.len());
        for percent in PERCENTILES {
            let (idle, busy) = (percentile(idle, percent), percentile(busy, percent));
            let ratio = busy.as_secs_f64() / idle.as_secs_f64();
            println!("  p{percent:<3} idle {idle:>12.1?}  busy {busy:>12.1?}  ratio {ratio:>6.1}");
        }
    }
    host.wait_empty(QUEUE);
    let late = lateness(&host);
    println!("extensions, by how late they were started at most (s): {late:?}");
    println!("leases lost: {}", metric(&host, "sandhog_lost_leases_total", QUEUE));
    let of = |bound: &str| {
        late.iter()
            .find(|(name, _)| name == bound)
            .map_or(0, |(_, count)| *count)
    };
    assert!(
        of("+Inf") > 0 && of("0.1") == of("+Inf"),
        "an extension was more than {BOUND:?} late"
    );
    for busy in &busy {
        assert!(percentile(busy, 95) <= BOUND, "the listener took longer than {BOUND:?}");
    }
}

/// The latencies of each path, sorted.
fn measured(host: &Host, time: Duration) -> Vec<Vec<Duration>> {
    let end = Instant::now() + time;
    thread::scope(|scope| {
        let threads = PATHS.map(|path| scope.spawn(move || latencies(host, path, end)));
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Keeps some messages waiting, so that a guest that ends is followed by another.
fn keep_busy(host: &Host, end: Instant) {
    while Instant::now() < end {
        while host.count(QUEUE, "ready") < 8 {
            host.send(QUEUE, b"x");
        }
        let_pass(Duration::from_millis(200));
    }
}
