//! Guests in the host's process against guests in processes of their own, one per core: messages per second and processor
//! time per message through the whole host on a queue in memory, calls per second of the executor alone, the latency of one
//! call at a time, and what the death of a process costs.
//!
//! The bench is its own executor: it starts itself with a socket as standard input. `cargo bench --workspace --bench processes`;
//! with `-- guests GUEST...` for some guests only, and `-- deaths` for none; with `-- only ROW GUEST INSTANCE MESSAGES` for
//! a profiler, where ROW is `here-`, `batched-`, `apart-` or `between-` and a number, GUEST is `no-op`, `grow` or `orders`, and
//! INSTANCE is `fresh` or `reuse`. Run it with `RUST_BACKTRACE=0`: executor processes have no environment, and the engine
//! captures a backtrace for every instance that is dropped where that variable is set.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "a benchmark speaks to a person"
)]

use std::cell::RefCell;

use harness::{
    pipeline::control_runtime,
    process::Resources,
    ratios::{Figures, Row, compare, machine, print_row},
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::{
    child::Options,
    guest::{Guest, Way},
    host::{Host, Measured, SLOTS, Side, millis},
};

#[path = "processes/batched.rs"]
mod batched;
#[path = "processes/child.rs"]
mod child;
#[path = "processes/guest.rs"]
mod guest;
#[path = "processes/host.rs"]
mod host;
#[path = "processes/parent.rs"]
mod parent;
#[path = "processes/wire.rs"]
mod wire;

/// As the host's program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 7;
const MESSAGES: usize = 10_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|each| each != "--bench").collect();
    if let Some(options) = Options::of(&arguments) {
        return child::serve(options);
    }
    let bench = Bench::new();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["only", row, guest, instance, messages] => {
            let guest = Guest::named(guest);
            let host = bench.host(Way::named(row), &guest);
            let measured = host.pipeline(messages.parse().unwrap(), *instance == "reuse");
            println!(
                "{row}: {:.0} messages/s, {:.1} us of CPU each",
                measured.rate, measured.cpu
            );
            bench.runtime.block_on(host.stop());
        }
        [] => bench.all(&["no-op", "grow", "orders"]),
        ["guests", guests @ ..] => bench.all(guests),
        ["deaths"] => bench.deaths(),
        other => panic!("{other:?} is not what this bench is asked"),
    }
}

/// What all rows share.
struct Bench {
    runtime: Runtime,
    artifacts: TempDir,
}

impl Bench {
    fn new() -> Self {
        Self {
            runtime: control_runtime(),
            artifacts: tempfile::tempdir().unwrap(),
        }
    }

    fn all(&self, guests: &[&str]) {
        println!("{}", machine());
        for name in guests {
            let guest = Guest::named(name);
            let hosts: Vec<Host> = Way::all().into_iter().map(|way| self.host(way, &guest)).collect();
            for reuse in [false, true] {
                pipelines(&guest, &hosts, reuse);
                executors(&guest, &hosts, reuse);
            }
            if *name != "grow" {
                latency(&guest, &hosts);
            }
            for host in hosts {
                self.runtime.block_on(host.stop());
            }
        }
        if guests.contains(&"orders") {
            self.deaths();
        }
    }

    fn host(&self, way: Way, guest: &Guest) -> Host {
        Host::new(way, guest, &self.runtime, self.artifacts.path())
    }

    /// Kills a child under load, again and again.
    fn deaths(&self) {
        let guest = Guest::named("orders");
        let host = self.host(Way::named("between-2"), &guest);
        let Side::There(executor) = &host.executor else {
            panic!("this way has processes");
        };
        println!(
            "\nprocesses that are killed under load, with the example orders ({} bytes)",
            guest.wasm.len()
        );
        for process in executor.processes() {
            println!(
                "  process {process}: {} KiB resident and {} threads before its first call",
                Resources::of(process).memory,
                Resources::of(process).threads,
            );
        }
        let deaths = self.runtime.block_on(host.killed(20));
        let row = |name: &str, figures: Vec<f64>| {
            let figures = Figures::new(figures);
            println!(
                "  {name}: {:.1} [{:.1}, {:.1}]",
                figures.median(),
                figures.lowest(),
                figures.highest()
            );
        };
        row(
            "calls that died with it",
            deaths.iter().map(|death| death.failed as f64).collect(),
        );
        row(
            "ms from the kill to the last answer for them",
            deaths.iter().map(|death| millis(death.answered)).collect(),
        );
        row(
            "ms from the kill to a ready successor",
            deaths.iter().map(|death| millis(death.ready)).collect(),
        );
        row(
            "ms from its start to its readiness",
            deaths.iter().map(|death| millis(death.started_in)).collect(),
        );
        for process in executor.processes() {
            println!(
                "  process {process}: {} KiB resident under load",
                Resources::of(process).memory
            );
        }
        self.runtime.block_on(host.stop());
    }
}

fn instance(reuse: bool) -> &'static str {
    if reuse { "reuse" } else { "fresh" }
}

fn pipelines(guest: &Guest, hosts: &[Host], reuse: bool) {
    let title = format!("the whole host, a queue in memory, {}, {}", guest.name, instance(reuse));
    rates(&title, hosts, |host| host.pipeline(MESSAGES, reuse));
}

fn executors(guest: &Guest, hosts: &[Host], reuse: bool) {
    let title = format!(
        "the executor alone, {SLOTS} calls at a time, {}, {}",
        guest.name,
        instance(reuse)
    );
    rates(&title, hosts, |host| host.calls(MESSAGES, reuse));
}

fn rates(title: &str, hosts: &[Host], run: impl Fn(&Host) -> Measured) {
    tables(title, ["messages/s", "CPU us per message"], hosts, |host| {
        let Measured { rate, cpu } = run(host);
        [rate, cpu]
    });
}

fn latency(guest: &Guest, hosts: &[Host]) {
    for reuse in [false, true] {
        let title = format!("one call at a time, {}, {}", guest.name, instance(reuse));
        tables(&title, ["us, p50", "us, p99"], hosts, |host| {
            let took = host.one_by_one(2000, reuse);
            [took[took.len() / 2], took[took.len() * 99 / 100]]
        });
    }
}

/// A table of the first of two figures that each run has, and below it one of the second.
fn tables(title: &str, [unit, second_unit]: [&str; 2], hosts: &[Host], run: impl Fn(&Host) -> [f64; 2]) {
    let seconds: Vec<RefCell<Vec<f64>>> = hosts.iter().map(|_| RefCell::default()).collect();
    let rows = hosts.iter().zip(&seconds).map(|(host, seconds)| {
        let run = &run;
        Row::new(host.way.to_string(), move || {
            let [first, second] = run(host);
            seconds.borrow_mut().push(second);
            first
        })
    });
    compare(title, unit, ROUNDS, rows.collect());
    // The first run of each is the one that is not shown.
    let seconds: Vec<Figures> = seconds
        .into_iter()
        .map(|seconds| Figures::new(seconds.into_inner().split_off(1)))
        .collect();
    println!("  {:<62} {second_unit:>30}", "");
    for (host, own) in hosts.iter().zip(&seconds) {
        print_row(&host.way.to_string(), own, &seconds[0], None);
    }
}
