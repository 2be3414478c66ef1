//! What a host takes of the machine: memory when it is idle, for each handler and for each message in flight, and with millions
//! that wait; and processor time when there is nothing to do.
//!
//! The baselines are a host without handlers, the bytes that a message and its instance hold in any case, and a small
//! backlog on the same machine in the same run. The host is the real process, and its numbers are those of `/proc`.
//!
//! `cargo bench --workspace --bench footprint`; behind `--` some of `handlers`, `flight`, `backlog`, `idle`, and `full` for a
//! backlog of ten million, which takes minutes and 5 GB of disk to fill.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::as_conversions,
    reason = "a benchmark speaks to a person"
)]

use std::{
    fs,
    time::{Duration, Instant},
};

use harness::{
    built::{order, orders},
    guests::{edited, no_op, obedient},
    host::{Host, Place},
    let_pass,
    pipeline::{SETTLED, sum_of},
    process::{ProcessorTime, Resources, peak_memory},
    ratios::{Bound, Figures, machine, print_header, print_row},
    wait_for,
};

const ROUNDS: usize = 3;
/// Of a host that works through a backlog, in MiB and to the rate with a small one; of an idle one, in percent of a core.
const BACKLOG_MEMORY: Bound = Bound::FigureAtMost(300.0);
const BACKLOG_RATE: Bound = Bound::AtLeast(0.8);
const IDLE_TIME: Bound = Bound::FigureAtMost(1.0);

fn main() {
    let chosen: Vec<String> = std::env::args().skip(1).filter(|each| each != "--bench").collect();
    let is_full = chosen.iter().any(|word| word == "full");
    let only: Vec<&String> = chosen.iter().filter(|word| *word != "full").collect();
    let wanted = |part: &str| only.is_empty() || only.iter().any(|word| *word == part);
    println!("{}", machine());
    if wanted("handlers") || wanted("idle") {
        let many = many_handlers();
        if wanted("handlers") {
            handlers(&many);
        }
        if wanted("idle") {
            idle(&many);
        }
    }
    if wanted("flight") {
        in_flight();
    }
    if wanted("backlog") {
        backlogs(is_full);
    }
}

fn started(place: &Place) -> Host {
    let host = place.start();
    host.wait_ready();
    host
}

/// Resident memory in MiB, once it has stopped to change.
fn memory(host: &Host) -> f64 {
    let mut last = 0;
    let settled = wait_for("the memory to settle", || {
        let_pass(Duration::from_millis(200));
        let now = Resources::of(host.id()).memory;
        let is_settled = now.abs_diff(last) <= now / 200;
        last = now;
        is_settled.then_some(now)
    });
    mib(settled)
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

const MANY: usize = 100;

/// The example `orders` so many times, each with other bytes and on a queue of its own, compiled.
fn many_handlers() -> Place {
    let place = Place::new();
    let orders = fs::read(orders()).unwrap();
    for number in 0..MANY {
        install(&place, &orders, number);
    }
    let host = started(&place);
    wait_for("the optimised code", || {
        (host.events("compiled (optimised)").len() == MANY).then_some(())
    });
    wait_for("the artifacts", || (artifacts(&place).len() == MANY).then_some(()));
    host.terminate();
    place
}

fn install(place: &Place, component: &[u8], number: usize) {
    let wasm = edited(component, u32::try_from(number).unwrap());
    let name = format!("orders-{number}");
    place.install(&name, &wasm, "[grant]\nsend = [\"invoices\"]\n");
}

/// The sizes of the optimised artifacts, in bytes.
fn artifacts(place: &Place) -> Vec<u64> {
    let files = fs::read_dir(place.data().join("artifacts"))
        .unwrap()
        .map(Result::unwrap);
    let optimised = files.filter(|file| file.file_name().to_str().unwrap().ends_with("-optimised"));
    optimised.map(|file| file.metadata().unwrap().len()).collect()
}

fn handlers(many: &Place) {
    let (none, one) = (Place::new(), Place::new());
    install(&one, &fs::read(many.plugin("orders-0.wasm")).unwrap(), MANY);
    let places = [&none, &one, many];
    let host = started(&one);
    wait_for("the artifact", || {
        (one.data().join("artifacts").exists() && !artifacts(&one).is_empty()).then_some(())
    });
    host.terminate();
    let (mut resident, mut peak) = ([const { Vec::new() }; 3], [const { Vec::new() }; 3]);
    for _ in 0..ROUNDS {
        for (which, place) in places.iter().enumerate() {
            let host = started(place);
            resident.get_mut(which).unwrap().push(memory(&host));
            peak.get_mut(which).unwrap().push(mib(peak_memory(host.id())));
            host.terminate();
        }
    }
    let ([none, one, all], [none_peak, _, all_peak]) = (resident.map(Figures::new), peak.map(Figures::new));
    print_header("an idle host, all code compiled before", "MiB resident", ROUNDS);
    print_row("host without handlers", &none, &none, None);
    print_row("host with 1 handler", &one, &none, None);
    print_row(&format!("host with {MANY} handlers"), &all, &none, None);
    print_row("peak of the host without handlers", &none_peak, &none, None);
    print_row(
        &format!("peak of the host with {MANY} handlers"),
        &all_peak,
        &none,
        None,
    );
    let code = artifacts(many).iter().sum::<u64>() as f64 / MANY as f64 / 1024.0;
    let each = all.less(&none).times(1024.0 / MANY as f64);
    print_header(
        "memory for each handler of these, to the size of its compiled code",
        "KiB",
        ROUNDS,
    );
    print_row(
        "compiled code",
        &Figures::new(vec![code; ROUNDS]),
        &Figures::new(vec![code; ROUNDS]),
        None,
    );
    print_row("host, for each handler", &each, &Figures::new(vec![code; ROUNDS]), None);
}

/// How long nothing happens, or one message a second.
const WINDOW: Duration = Duration::from_secs(20);

fn idle(many: &Place) {
    let none = Place::new();
    let names = [
        "host without handlers, idle",
        &format!("host with {MANY} handlers, idle"),
        "host without handlers, asked whether it is ready each second",
        &format!("host with {MANY} handlers, a message each second"),
    ];
    let mut shares = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        let hosts = [started(&none), started(many)];
        let mut times = hosts.each_ref().map(|host| ProcessorTime::of(host.id()));
        for has_load in [false, true] {
            let (before, start) = (times.each_mut().map(ProcessorTime::look), Instant::now());
            for second in 1..=WINDOW.as_secs() {
                if has_load {
                    let [none, many] = &hosts;
                    assert_eq!(none.text("/ready").0, 200);
                    many.send("orders-7", order(1).as_bytes());
                }
                let_pass(Duration::from_secs(second).saturating_sub(start.elapsed()));
                for time in &mut times {
                    time.look();
                }
            }
            let window = start.elapsed().as_secs_f64();
            for (which, (time, before)) in times.iter_mut().zip(before).enumerate() {
                let share = time.look().saturating_sub(before).as_secs_f64() / window * 100.0;
                shares.get_mut(which + 2 * usize::from(has_load)).unwrap().push(share);
            }
        }
        for host in hosts {
            host.terminate();
        }
    }
    let shares = shares.map(Figures::new);
    print_header(
        "processor time of a host with nothing to do, 20 s",
        "% of a core",
        ROUNDS,
    );
    let [none, ..] = &shares;
    for (name, share) in names.iter().zip(&shares) {
        print_row(name, share, none, name.ends_with("idle").then_some(IDLE_TIME));
    }
}

const IN_FLIGHT: usize = 256;

fn in_flight() {
    let bodies = [
        ("8 bytes", 8),
        ("1 KiB", 1 << 10),
        ("64 KiB", 64 << 10),
        ("1 MiB", 1 << 20),
    ];
    let mut each = bodies.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        let idle = held(None);
        for ((_, size), each) in bodies.iter().zip(&mut each) {
            each.push((held(Some(*size)) - idle) * 1024.0 / IN_FLIGHT as f64);
        }
    }
    let each = each.map(Figures::new);
    print_header(
        &format!("memory for each of {IN_FLIGHT} messages in flight, to its body and an instance"),
        "KiB",
        ROUNDS,
    );
    let [instance, ..] = &each;
    for ((name, size), each) in bodies.iter().zip(&each) {
        let floor = if *size == 8 {
            instance.clone()
        } else {
            instance.plus(*size as f64 / 1024.0)
        };
        print_row(&format!("host, a body of {name}"), each, &floor, None);
    }
}

/// Memory of a host that has as many messages of this size in flight, or none. In MiB.
fn held(size: Option<usize>) -> f64 {
    let place = Place::new();
    // A quarter of both is a reserve for others.
    place.configure("max-live-instances = 512\nmemory-budget = \"64GiB\"\n[queues.in]\n");
    let manifest =
        format!("concurrency = {IN_FLIGHT}\ntimeout = \"2m\"\nmemory = \"16MiB\"\n[grant]\nsend = [\"out\"]\n");
    place.install("in", &obedient("out"), &manifest);
    if let Some(size) = size {
        let mut body = b"w600000".to_vec();
        body.resize(size, b'x');
        place.fill("in", IN_FLIGHT, &body, 8);
    }
    let host = started(&place);
    if size.is_some() {
        wait_for("all to be in flight", || {
            let page = host.text("/metrics").1;
            (sum_of(&page, "sandhog_handler_in_flight_attempts{", "") >= IN_FLIGHT as u64).then_some(())
        });
    }
    let memory = memory(&host);
    host.kill();
    memory
}

const BODY_BYTES: usize = 256;
const SMALL: usize = 10_000;
/// How many messages are handled of the backlogs that have so many.
const HANDLED: f64 = 20_000.0;
/// Between which counts the rate is measured: so that the small backlog is not empty before.
const MEASURED: [f64; 2] = [1_000.0, 9_000.0];

/// More than elsewhere: a round is short, and what else the machine does falls on one of both.
const BACKLOG_ROUNDS: usize = 7;

fn backlogs(is_full: bool) {
    let small = backlog(0);
    let mut large = vec![("1 million", backlog(1_000_000))];
    if is_full {
        large.push(("10 million", backlog(10_000_000)));
    }
    let mut runs: Vec<Vec<Handled>> = (0..=large.len()).map(|_| Vec::new()).collect();
    for round in 0..=BACKLOG_ROUNDS {
        small.fill("backlog", SMALL, &[b'x'; BODY_BYTES], 1000);
        let places = std::iter::once((MEASURED.into_iter().fold(0.0, f64::max), &small));
        let all = places.chain(large.iter().map(|(_, place)| (HANDLED, place)));
        for ((until, place), runs) in all.zip(&mut runs) {
            let run = handle(place, until);
            if round > 0 {
                runs.push(run);
            }
        }
    }
    let names: Vec<&str> = std::iter::once("10 thousand")
        .chain(large.iter().map(|(name, _)| *name))
        .collect();
    let table = |text: &str, unit: &str, bound: Option<Bound>, figure: &dyn Fn(&Handled) -> f64| {
        print_header(text, unit, BACKLOG_ROUNDS);
        let rows: Vec<Figures> = runs
            .iter()
            .map(|runs| Figures::new(runs.iter().map(figure).collect()))
            .collect();
        for (name, row) in names.iter().zip(&rows) {
            print_row(
                &format!("host, {name} messages wait"),
                row,
                rows.first().unwrap(),
                bound,
            );
        }
    };
    let memory = "handling 20 thousand messages of 256 B of a durable queue: memory";
    table(memory, "MiB, peak", Some(BACKLOG_MEMORY), &|run| run.peak);
    table(
        "the same, the rate of the first thousands",
        "messages/s",
        Some(BACKLOG_RATE),
        &|run| run.rate,
    );
    table("the same, from start to ready", "ms", None, &|run| run.ready);
}

fn backlog(messages: usize) -> Place {
    let place = Place::new();
    place.configure("[queues.backlog]\n");
    place.install("backlog", &no_op(), "concurrency = 64\n");
    let start = Instant::now();
    place.fill("backlog", messages, &[b'x'; BODY_BYTES], 1000);
    println!("{messages} messages sent in {:.1} s", start.elapsed().as_secs_f64());
    place
}

struct Handled {
    /// In MiB.
    peak: f64,
    /// In messages per second.
    rate: f64,
    /// In ms.
    ready: f64,
}

/// Starts a host on a backlog, and stops it once it has handled so many.
fn handle(place: &Place, until: f64) -> Handled {
    let start = Instant::now();
    let host = started(place);
    let ready = start.elapsed().as_secs_f64() * 1000.0;
    let handled = |least: f64| {
        wait_for("messages to be handled", || {
            let page = host.text("/metrics").1;
            let handled = sum_of(&page, SETTLED, "settlement=\"delete\"") as f64;
            (handled >= least).then(|| (handled, Instant::now()))
        })
    };
    let [(first, began), (last, ended)] = MEASURED.map(handled);
    handled(until);
    let peak = mib(peak_memory(host.id()));
    host.terminate();
    Handled {
        peak,
        rate: (last - first) / (ended - began).as_secs_f64(),
        ready,
    }
}
