//! How long a new file waits for its first message, with quickly made code and with optimised code, and how long a restart
//! takes with everything compiled.
//!
//! The files are one handler, padded with copies of a function of some 300 bytes of arithmetic, memory accesses, branches
//! and calls. Run it with `cargo bench --workspace --profile dev --bench reload`: the compiler is optimised in that
//! profile too.

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
    bench::Bench,
    guests::{FORWARD, handler_with},
    host::Place,
    sandhog_compiler, wait_for,
};
use sandhog::executor::{EngineOptions, Tiers};

const GRANT: &str = "[grant]\nsend = [\"out\"]\n[limits]\ncompile-time = \"30m\"\n";

fn main() {
    println!(
        "{} cores, the best of 5, 3 and 1 rounds; times in ms, of the optimised code the time until it serves",
        std::thread::available_parallelism().unwrap()
    );
    println!(
        "{:>9} {:>9} | {:>12} {:>12} {:>8} | {:>12} {:>12} | {:>10}",
        "bytes", "functions", "fast load", "opt. load", "ratio", "1st message", "optimised", "restart"
    );
    for (functions, rounds) in [(230, 5), (11_900, 3), (71_400, 1)] {
        let wasm = padded(functions);
        let fast = (0..rounds).map(|_| load(&wasm, Tiers::Fast)).min().unwrap();
        let optimised = (0..rounds).map(|_| load(&wasm, Tiers::Optimised)).min().unwrap();
        let hosts: Vec<_> = (0..rounds).map(|_| host(&wasm)).collect();
        let best = |which: usize| hosts.iter().map(|times| times[which]).min().unwrap();
        println!(
            "{:>9} {functions:>9} | {:>12.0} {:>12.0} {:>8.2} | {:>12.0} {:>12.0} | {:>10.0}",
            wasm.len(),
            ms(fast),
            ms(optimised),
            ms(optimised) / ms(fast),
            ms(best(0)),
            ms(best(1)),
            ms(best(2)),
        );
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// From the file's bytes to the answer to the first message, without queue and directory.
fn load(wasm: &[u8], tiers: Tiers) -> Duration {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut bench = Bench::with(EngineOptions {
        compiler: sandhog_compiler(),
        tiers,
        ..EngineOptions::default()
    });
    bench.policy.limits.compile_time = Duration::from_mins(30);
    let started = Instant::now();
    runtime.block_on(async {
        let component = bench.load(wasm.to_vec()).await.unwrap();
        assert_eq!(bench.run(&component, &[b"x"]).await.sends.len(), 1);
    });
    started.elapsed()
}

/// The real host: from the file's rename to its first message handled, and to its optimised code; and from the start of the
/// process to readiness with that code kept.
fn host(wasm: &[u8]) -> [Duration; 3] {
    let place = Place::new();
    place.configure("[queues.in]\n");
    let host = place.start();
    host.wait_ready();
    host.send("in", b"x");
    fs::write(place.plugin("in.toml"), GRANT).unwrap();
    fs::write(place.plugin(".in.wasm"), wasm).unwrap();
    let started = Instant::now();
    fs::rename(place.plugin(".in.wasm"), place.plugin("in.wasm")).unwrap();
    host.wait_empty("in");
    let first = started.elapsed();
    // The largest takes minutes on a small machine: longer than a test would wait.
    while host.events("compiled (optimised)").is_empty() {
        harness::pause();
    }
    let optimised = started.elapsed();
    wait_for("the artifact", || {
        let mut files = fs::read_dir(place.data().join("artifacts")).unwrap();
        files
            .any(|file| file.unwrap().path().to_str().unwrap().ends_with("-optimised"))
            .then_some(())
    });
    host.terminate();
    let started = Instant::now();
    let host = place.start();
    host.wait_ready();
    let restart = started.elapsed();
    assert!(host.events("compiled (").is_empty());
    [first, optimised, restart]
}

/// A handler that sends the body on, and this many functions that it does not need.
fn padded(functions: usize) -> Vec<u8> {
    let step = "(local.set $c (i32.add (local.get $a) (i32.load offset=64 (i32.and (local.get $b) (i32.const 0xffc)))))
        (if (i32.lt_u (local.get $c) (local.get $a))
            (then (i32.store offset=128 (i32.and (local.get $c) (i32.const 0xffc)) (i32.mul (local.get $b) (i32.const 31))))
            (else (local.set $b (i32.xor (local.get $c) (i32.rotl (local.get $b) (i32.const 7))))))
        (br_if $again (i32.eqz (i32.and (local.get $c) (i32.const 0xff))))";
    let filler = format!(
        "(func $filler (param $a i32) (param $b i32) (result i32) (local $c i32)
            (loop $again {step} {step} {step} {step})
            (if (local.get $c) (then (return (call $filler (local.get $b) (local.get $c)))))
            (local.get $c))"
    );
    // The filler has to be the last function.
    let wasm = handler_with(&format!("{FORWARD} (global.get $ok)"), "", 16);
    let alone = handler_with(
        &format!("{FORWARD} (global.get $ok)) {filler} (func (result i32) (i32.const 0)"),
        "",
        16,
    );
    assert!(alone.len() > wasm.len());
    repeat_function_before_last(&alone, functions)
}

/// A module whose last function but one is there so many times more, behind all others.
fn repeat_function_before_last(wasm: &[u8], times: usize) -> Vec<u8> {
    let (mut out, mut at) = (wasm[..8].to_vec(), 8);
    while at < wasm.len() {
        let id = wasm[at];
        at += 1;
        let size = read_leb(wasm, &mut at);
        let (mut section, end) = (wasm[at..at + size].to_vec(), at + size);
        // The sections of functions and of code: vectors of type indices, and of bodies with their lengths.
        if id == 3 || id == 10 {
            let mut inside = at;
            let count = read_leb(wasm, &mut inside);
            let mut items = Vec::new();
            let mut next = inside;
            for _ in 0..count {
                let begin = next;
                let value = read_leb(wasm, &mut next);
                next += if id == 10 { value } else { 0 };
                items.push(&wasm[begin..next]);
            }
            section = leb(count + times);
            section.extend_from_slice(&wasm[inside..next]);
            section.extend_from_slice(&items[count - 2].repeat(times));
        }
        out.push(id);
        out.extend(leb(section.len()));
        out.extend(section);
        at = end;
    }
    out
}

fn read_leb(bytes: &[u8], at: &mut usize) -> usize {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = usize::from(bytes[*at]);
        *at += 1;
        value |= (byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            return value;
        }
    }
}

fn leb(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(value & 0x7f).unwrap();
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}
