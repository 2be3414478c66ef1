//! What an open page of the dashboard costs the handlers.
//!
//! A host has 100 handlers with a queue each, 50 more queues, and a million messages that wait in one of these. Messages come as fast as
//! they are handled, and then 10,000 a second, or half of what the machine handles if that is less. The baseline is the same host, at
//! which nobody looks; the rows take turns. The last row is that of nobody once more, after pages were open: what it differs by is what
//! the machine does. Sender and host share the cores.
//!
//! `cargo bench --workspace --bench dashboard`; with `-- BACKLOG RATE ROUNDS SECONDS` for others.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::as_conversions,
    reason = "a benchmark speaks to a person"
)]

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use harness::{
    guests::{edited, no_op},
    host::{Host, Place},
    let_pass,
    pipeline::{SETTLED, sum_of},
    process::ProcessorTime,
    ratios::{Bound, Figures, machine, print_header, print_row},
    wait_for,
};
use serde_json::{Value, json};

const HANDLERS: usize = 100;
const QUEUES: usize = 50;
/// Where the backlog waits.
const BACKLOG: &str = "other-0";
/// The messages of one request.
const BATCH: u64 = 200;
/// The most messages that are sent and not handled.
const AHEAD: u64 = 8_000;
/// An open page takes less than 2 % of what is handled.
const HANDLED: Bound = Bound::AtLeast(0.98);

/// Who looks, and at which pages.
const LOOKS: [(&str, &[&str]); 5] = [
    ("nobody looks", &[]),
    ("the overview is open", &["/ui/"]),
    ("the queue with the backlog is open", &["/ui/queues/other-0"]),
    ("a handler is open", &["/ui/handlers/work-0"]),
    ("nobody looks any more", &[]),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|each| each != "--bench").collect();
    let (backlog, rate, rounds, seconds): (usize, f64, usize, u64) = match arguments.as_slice() {
        [backlog, rate, rounds, seconds] => (
            backlog.parse().unwrap(),
            rate.parse().unwrap(),
            rounds.parse().unwrap(),
            seconds.parse().unwrap(),
        ),
        _ => (1_000_000, 10_000.0, 5, 15),
    };
    println!("{}", machine());
    let place = place(backlog);
    let host = place.start();
    host.wait_ready();
    wait_for("the optimised code", || {
        (host.events("compiled (optimised)").len() == HANDLERS).then_some(())
    });
    let window = Duration::from_secs(seconds);
    let fastest = rows(&host, None, rounds, window);
    show("messages come as fast as they are handled", rounds, &fastest);
    let reached = Figures::new(fastest.first().unwrap().iter().map(|seen| seen.rate).collect()).median();
    let rate = rate.min(reached / 2.0);
    let steady = rows(&host, Some(rate), rounds, window);
    show(&format!("{rate:.0} messages come each second"), rounds, &steady);
    host.terminate();
}

/// Handlers, queues, and a backlog.
fn place(backlog: usize) -> Place {
    let place = Place::new();
    let queues: Vec<String> = (0..QUEUES).map(|number| format!("[queues.other-{number}]\n")).collect();
    place.configure(&queues.concat());
    for number in 0..HANDLERS {
        let wasm = edited(&no_op(), u32::try_from(number).unwrap());
        place.install(&format!("work-{number}"), &wasm, "");
    }
    let began = Instant::now();
    place.fill(BACKLOG, backlog, &[b'x'; 256], 1000);
    println!("{backlog} messages sent in {:.0} s", began.elapsed().as_secs_f64());
    place
}

/// What was seen of a time.
#[derive(Debug, Clone, Copy)]
struct Watched {
    /// How many messages were handled in a second.
    rate: f64,
    /// Processor time of the host for each of them, in microseconds.
    processor: f64,
    /// How often a page was sent.
    updates: f64,
}

/// Watches each of [`LOOKS`] in each round, once unseen before.
fn rows(host: &Host, rate: Option<f64>, rounds: usize, window: Duration) -> Vec<Vec<Watched>> {
    let mut rows = vec![Vec::new(); LOOKS.len()];
    for round in 0..=rounds {
        for ((_, pages), row) in LOOKS.iter().zip(&mut rows) {
            let watched = watch(host, pages, rate, window);
            if round > 0 {
                row.push(watched);
            }
        }
    }
    rows
}

/// Has messages sent and handled for so long, while somebody looks at these pages.
fn watch(host: &Host, pages: &[&str], rate: Option<f64>, window: Duration) -> Watched {
    let (is_over, updates) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for page in pages {
            scope.spawn(|| look(host, page, &is_over, &updates));
        }
        scope.spawn(|| send(host, rate, &is_over));
        // Until everything has begun.
        let_pass(Duration::from_secs(3));
        let mut time = ProcessorTime::of(host.id());
        let (began, before) = (Instant::now(), handled(host));
        let (used_before, updates_before) = (time.look(), updates.load(Ordering::Relaxed));
        while began.elapsed() < window {
            let_pass(Duration::from_millis(250));
            time.look();
        }
        let (took, after) = (began.elapsed().as_secs_f64(), handled(host));
        let used = time.look().saturating_sub(used_before).as_secs_f64();
        let updates = updates.load(Ordering::Relaxed) - updates_before;
        is_over.store(true, Ordering::Relaxed);
        let number = (after - before) as f64;
        Watched {
            rate: number / took,
            processor: used / number * 1e6,
            updates: updates as f64,
        }
    })
}

/// Looks at a page as a browser does that has it open.
fn look(host: &Host, page: &str, is_over: &AtomicBool, updates: &AtomicU64) {
    let address = host.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let page = page.replace('/', "%2F");
    let request = format!("GET /ui/live?page={page} HTTP/1.1\r\nhost: {address}\r\naccept: text/event-stream\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut piece = vec![0; 64 * 1024];
    while !is_over.load(Ordering::Relaxed) {
        // A read that ends for want of an update is tried again.
        let length = stream.read(&mut piece).unwrap_or_default();
        let read = String::from_utf8_lossy(piece.get(..length).unwrap_or_default()).into_owned();
        assert!(!read.starts_with("HTTP/1.1 4"), "{read}");
        let begun = u64::try_from(read.matches("event: page").count()).unwrap();
        updates.fetch_add(begun, Ordering::Relaxed);
    }
}

/// Sends to all handlers in turn until it is over, and waits until all is handled.
fn send(host: &Host, rate: Option<f64>, is_over: &AtomicBool) {
    let agent = ureq::Agent::new_with_defaults();
    let messages: Vec<Value> = (0..BATCH)
        .map(|_| json!({ "body": "a message of some bytes" }))
        .collect();
    let batch = json!({ "messages": messages }).to_string();
    let (began, before, mut sent) = (Instant::now(), handled(host), 0);
    let mut known = before;
    for handler in (0..HANDLERS).cycle() {
        while sent + before > known + AHEAD {
            let_pass(Duration::from_millis(2));
            known = handled(host);
        }
        if let Some(rate) = rate {
            while (began.elapsed().as_secs_f64() * rate) as u64 <= sent {
                let_pass(Duration::from_millis(2));
            }
        }
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let url = format!("{}/queues/work-{handler}/batch", host.url);
        let answer = agent.post(url).content_type("application/json").send(&batch);
        assert_eq!(answer.unwrap().status(), 200);
        sent += BATCH;
    }
    wait_for("the rest", || (handled(host) == before + sent).then_some(()));
}

/// How many messages were handled since the start.
fn handled(host: &Host) -> u64 {
    sum_of(&host.text("/metrics").1, SETTLED, "")
}

fn show(what: &str, rounds: usize, rows: &[Vec<Watched>]) {
    let of = |row: &Vec<Watched>, figure: fn(&Watched) -> f64| Figures::new(row.iter().map(figure).collect());
    let baseline = rows.first().unwrap();
    print_header(what, "messages handled a second", rounds);
    for ((name, pages), row) in LOOKS.iter().zip(rows) {
        let bound = (!pages.is_empty()).then_some(HANDLED);
        print_row(name, &of(row, |seen| seen.rate), &of(baseline, |seen| seen.rate), bound);
    }
    print_header(
        &format!("{what}: processor time of the host"),
        "us for a message",
        rounds,
    );
    for ((name, _), row) in LOOKS.iter().zip(rows) {
        let processor = of(row, |seen| seen.processor);
        print_row(name, &processor, &of(baseline, |seen| seen.processor), None);
    }
    for ((name, pages), row) in LOOKS.iter().zip(rows).filter(|((_, pages), _)| !pages.is_empty()) {
        let updates = of(row, |seen| seen.updates).median();
        println!("  {name}: {updates:.0} updates, {} page", pages.len());
    }
}
