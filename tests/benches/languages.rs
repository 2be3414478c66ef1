//! What a handler costs in each language: its file, its compilation, a message in a fresh instance and in one that is reused,
//! and memory. What a file costs before its first message is in `startup.rs`.
//!
//! The handlers are those of `tests/conformance`, and the message makes them send one. Run it with
//! `cargo bench --workspace --profile dev --bench languages`: the engine is optimised in that profile too. Ratios are to the
//! handler in C of the same run. Files that are named behind `--` are measured too, as far as they answer to any message.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a benchmark speaks to a person"
)]

use std::{
    fs,
    time::{Duration, Instant},
};

use harness::{
    bench::{Bench, together},
    conformance::{self, Guest},
    process::Resources,
    sandhog_compiler,
};
use sandhog_executor::{CodeTiers, Component, EngineOptions, Executor as _, Verdict, policy::Reuse};
use sandhog_queue::message::QueueName;

/// What a file is called that was named by its path.
const FILE: &str = "file";
/// How many messages one after another; the median is shown.
const MESSAGES: usize = 201;
/// How many attempts at a time for the memory of a full house.
const AT_ONCE: usize = 50;
/// Sends the body's length.
const BODY: &[u8] = b"a body of some words, which is not a command";

/// What is measured of one handler.
struct Row {
    name: &'static str,
    bytes: usize,
    fast: Duration,
    optimised: Duration,
    first: Duration,
    fresh: Duration,
    reused: Option<Duration>,
    memory: u64,
    full_house: [u64; 2],
}

fn main() {
    println!("{} cores", std::thread::available_parallelism().unwrap());
    let mut guests = vec![
        conformance::c(),
        conformance::rust(),
        conformance::go(),
        conformance::javascript(),
        conformance::python(),
        conformance::command_c(),
    ];
    let files = std::env::args().skip(1).filter(|argument| argument != "--bench");
    guests.extend(files.map(|file| Guest {
        name: FILE,
        wasm: file.into(),
        is_command: false,
    }));
    let rows: Vec<_> = guests.iter().map(measure).collect();
    println!(
        "{:>11} {:>9} | {:>9} {:>9} | {:>9} {:>9} {:>7} {:>9} {:>7} | {:>9} {:>9} {:>9}",
        "",
        "file",
        "compile",
        "optimised",
        "first",
        "fresh",
        "ratio",
        "reused",
        "ratio",
        "memory",
        "50 fresh",
        "50 reused"
    );
    println!(
        "{:>11} {:>9} | {:>9} {:>9} | {:>9} {:>9} {:>7} {:>9} {:>7} | {:>9} {:>9} {:>9}",
        "", "kB", "ms", "ms", "us", "us", "", "us", "", "MiB", "MiB rss", "MiB rss"
    );
    for row in &rows {
        print_row(row, &rows[0]);
    }
}

fn print_row(row: &Row, base: &Row) {
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    let mib = |kib: u64| {
        if kib == 0 {
            "-".to_owned()
        } else {
            (kib / 1024).to_string()
        }
    };
    println!(
        "{:>11} {:>9} | {:>9} {:>9} | {:>9.0} {:>9.0} {:>7.1} {:>9} {:>7} | {:>9.1} {:>9} {:>9}",
        row.name,
        row.bytes / 1000,
        row.fast.as_millis(),
        row.optimised.as_millis(),
        us(row.first),
        us(row.fresh),
        us(row.fresh) / us(base.fresh),
        row.reused.map_or("-".to_owned(), |reused| format!("{:.0}", us(reused))),
        row.reused
            .map_or("-".to_owned(), |reused| format!("{:.1}", us(reused) / us(base.fresh))),
        f64::from(u32::try_from(row.memory / 1024).unwrap()) / 1024.0,
        mib(row.full_house[0]),
        mib(row.full_house[1]),
    );
}

fn bench(guest: &Guest, tiers: CodeTiers, reuse: bool) -> Bench {
    let mut bench = Bench::with(EngineOptions {
        // A quarter is a reserve for others.
        max_live_instances: 2 * AT_ONCE,
        memory_budget: 1 << 40,
        compiler: sandhog_compiler(),
        tiers,
        ..EngineOptions::default()
    });
    if guest.is_command {
        bench.policy.grants.stdout = Some(QueueName::new("out").unwrap());
    }
    bench.policy.reuse = reuse.then_some(Reuse {
        max: 1_000_000,
        idle: Duration::from_mins(10),
    });
    bench
}

fn measure(guest: &Guest) -> Row {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let wasm = fs::read(&guest.wasm).unwrap();
    let loaded = |tiers| {
        let bench = bench(guest, tiers, false);
        runtime.block_on(bench.load(wasm.clone())).unwrap().info.compile_time
    };
    let fast = loaded(CodeTiers::Fast);
    let optimised = loaded(CodeTiers::Optimised);
    let ([first, fresh], memory, house) = runtime.block_on(run(guest, &wasm, false));
    let reusing = (!guest.is_command).then(|| runtime.block_on(run(guest, &wasm, true)));
    Row {
        name: guest.name,
        bytes: wasm.len(),
        fast,
        optimised,
        first,
        fresh,
        reused: reusing.as_ref().map(|([_, reused], ..)| *reused),
        memory,
        full_house: [house, reusing.map_or(0, |(.., house)| house)],
    }
}

/// The first call and the median of the others; the guest's memory; what a full house adds to this process.
async fn run(guest: &Guest, wasm: &[u8], reuse: bool) -> ([Duration; 2], u64, u64) {
    let bench = bench(guest, CodeTiers::Optimised, reuse);
    let component = bench.load(wasm.to_vec()).await.unwrap();
    let (mut times, mut memory) = (Vec::new(), 0);
    for _ in 0..MESSAGES {
        let started = Instant::now();
        let report = bench.run(&component, &[BODY]).await;
        times.push(started.elapsed());
        assert_eq!(report.verdicts, [Verdict::Success]);
        memory = report.usage.memory_peak;
    }
    let first = times[0];
    times.sort_unstable();
    // That in Rust has no clock to wait by, and a file does as it likes.
    let house = if ["rust", FILE].contains(&guest.name) {
        0
    } else {
        full_house(&bench, &component).await
    };
    ([first, times[MESSAGES / 2]], memory, house)
}

/// By how much this process grows while as many attempts as there may be wait beside each other. In KiB.
async fn full_house(bench: &Bench, component: &Component) -> u64 {
    let before = Resources::own().memory;
    let calls = together((0..AT_ONCE).map(|_| bench.run(component, &[b"wait 3000"])));
    let look = async {
        while bench.executor.live_instances() < AT_ONCE {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // Time for the last of them to get to where it waits.
        tokio::time::sleep(Duration::from_millis(500)).await;
        Resources::own().memory
    };
    let (_, full) = tokio::join!(calls, look);
    full.saturating_sub(before)
}
