//! What one guest left in memory, no other ever sees: neither its own next instance nor another component in the same slot.

#![expect(clippy::indexing_slicing, reason = "what is not there fails the test")]
#![expect(clippy::print_stdout, reason = "a test's output is shown by whoever runs it")]

use std::{sync::Arc, time::Duration};

use harness::{
    bench::{Bench, policy},
    hostile::{Parts, repeated},
};
use sandhog_executor::{Component, EngineOptions, Executor as _, LocalExecutor, MemoryAllocation, Verdict};
use sandhog_queue::FailureKind;

/// The secret: this byte, in every place that there is. No text and no address of a guest has it.
const SECRET: &str = "0xa7";
const SECRET_WORD: &str = "0xa7a7a7a7a7a7a7a7";
const GLOBALS: usize = 100;

/// A handler that obeys the first byte of the message.
///
/// | byte | what it does |
/// | --- | --- |
/// | `f` | fills all memory, collected heap, globals, table and stack that it can get with the secret |
/// | `t` `s` | does so, and traps; or says so, and spins |
/// | `l` | looks for the secret in all of them, and traps if there is any |
/// | `b` | fills, then looks: it must trap |
#[expect(clippy::too_many_lines, reason = "one program")]
fn guest(pages: u32, name: &str) -> Vec<u8> {
    let globals = repeated(0..GLOBALS, |number| {
        format!("(global $g{number} (mut i64) (i64.const 0)) ")
    });
    let each = |what: &dyn Fn(usize) -> String| repeated(0..GLOBALS, what);
    let fill_globals = each(&|number| format!("(global.set $g{number} (i64.const {SECRET_WORD})) "));
    let check_globals = each(&|number| format!("(call $check (global.get $g{number})) "));
    let fill_locals = each(&|number| format!("(local.set {} (i64.const {SECRET_WORD})) ", number + 1));
    let keep_locals = each(&|number| format!("(global.set $g0 (local.get {})) ", number + 1));
    let check_locals = each(&|number| format!("(call $check (local.get {})) ", number + 1));
    let locals = "i64 ".repeat(GLOBALS);
    Parts::handle(&format!(
        "(local $does i32)
        (local.set $does (i32.load8_u (local.get $body)))
        (if (i32.eq (local.get $does) (i32.const {look})) (then (call $look) (return (global.get $ok))))
        (call $fill)
        (if (i32.eq (local.get $does) (i32.const {trap})) (then unreachable))
        (if (i32.eq (local.get $does) (i32.const {both})) (then (call $look)))
        (if (i32.eq (local.get $does) (i32.const {spin})) (then
            (i64.store (i32.const 512) (i64.const 0x0a64656c6c6966))
            (call $write (call $stdout) (i32.const 512) (i32.const 7) (i32.const 640))
            (loop $spin (br $spin))))
        (global.get $ok)",
        look = u32::from('l'),
        trap = u32::from('t'),
        both = u32::from('b'),
        spin = u32::from('s'),
    ))
    .define(&format!(
        "{globals} (table $t 1000 funcref) (elem declare func $nothing) (func $nothing)
        (data (i32.const 300) \"{name}\")
        (func $grow (loop $more (br_if $more (i32.ne (memory.grow (i32.const 8)) (i32.const -1)))))
        (type $bytes (array (mut i8)))
        (global $kept (mut (ref null $bytes)) (ref.null $bytes))
        (func $fill
            (global.set $kept (array.new $bytes (i32.const {SECRET}) (i32.const 1000000)))
            (call $grow)
            (memory.fill (i32.const 1024) (i32.const {SECRET})
                (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 1024)))
            (loop $more (br_if $more (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1))))
            (table.fill $t (i32.const 0) (ref.func $nothing) (table.size $t))
            (call $deep (i32.const 100))
            {fill_globals})
        (func $deep (param $n i32) (local {locals})
            {fill_locals}
            (if (local.get $n) (then (call $deep (i32.sub (local.get $n) (i32.const 1)))))
            {keep_locals})
        (func $check (param $word i64)
            (local.set $word (i64.xor (local.get $word) (i64.const {SECRET_WORD})))
            (if (i64.ne (i64.const 0) (i64.and (i64.const 0x8080808080808080)
                (i64.and (i64.sub (local.get $word) (i64.const 0x0101010101010101))
                    (i64.xor (local.get $word) (i64.const -1))))) (then unreachable)))
        (func $look (local $at i32) (local $end i32)
            (call $grow)
            (call $look-at-the-stack (i32.const 100))
            {check_globals}
            (loop $next
                (if (i32.eqz (ref.is_null (table.get $t (local.get $at)))) (then unreachable))
                (local.set $at (i32.add (local.get $at) (i32.const 1)))
                (br_if $next (i32.lt_u (local.get $at) (i32.const 1000))))
            (local.set $at (i32.const 0))
            (local.set $end (i32.mul (memory.size) (i32.const 65536)))
            (loop $next
                (call $check (i64.load (local.get $at)))
                (local.set $at (i32.add (local.get $at) (i32.const 8)))
                (br_if $next (i32.lt_u (local.get $at) (local.get $end)))))
        (func $look-at-the-stack (param $n i32) (local {locals})
            {check_locals}
            (if (local.get $n) (then (call $look-at-the-stack (i32.sub (local.get $n) (i32.const 1))))))"
    ))
    .stdout()
    .pages(pages)
    .wasm()
}

/// How the guest with the secret ends.
#[derive(Debug, Clone, Copy)]
enum End {
    Success,
    Trap,
    Timeout,
    /// Its call is dropped while it runs.
    Dropped,
}

struct Slot {
    bench: Bench,
}

impl Slot {
    /// An executor with room for one instance; none if this machine can't have it.
    fn new(allocation: MemoryAllocation) -> Option<Self> {
        let options = EngineOptions {
            max_live_instances: 1,
            threads: 1,
            ..EngineOptions::default()
        };
        let executor = match LocalExecutor::with_allocation(options, allocation) {
            Ok(executor) => executor,
            Err(error) => {
                println!("{allocation:?} is not available here: {error}");
                return None;
            }
        };
        let mut policy = policy();
        policy.limits.memory = 16 << 20;
        let bench = Bench {
            executor,
            policy,
            lines: Arc::default(),
        };
        Some(Self { bench })
    }

    async fn fill(&self, component: &Component, end: End) {
        let bench = &self.bench;
        let mut policy = bench.policy.clone();
        let body: &[u8] = match end {
            End::Success => b"f",
            End::Trap => b"t",
            End::Timeout | End::Dropped => b"s",
        };
        let bodies = [body];
        if let End::Timeout = end {
            policy.timeout = Duration::from_millis(300);
        }
        bench.lines.lock().unwrap().clear();
        let filled = async {
            while bench.lines.lock().unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        let run = bench.run_with(component, &bodies, &policy);
        let report = match end {
            End::Success | End::Trap | End::Timeout => run.await,
            End::Dropped => {
                tokio::select! {
                    report = run => panic!("it was to spin: {report:?}"),
                    () = filled => {}
                }
                while bench.executor.live_instances() > 0 {
                    tokio::task::yield_now().await;
                }
                return;
            }
        };
        match (report.verdicts.as_slice(), end) {
            ([Verdict::Success], End::Success) => {}
            // It has asked for more memory than there is, which is the reason that is told.
            ([Verdict::Failed(failure)], End::Trap) if failure.kind == FailureKind::Memory => {}
            ([Verdict::Failed(failure)], End::Timeout) if failure.kind == FailureKind::Timeout => {
                assert_eq!(
                    bench.lines.lock().unwrap().len(),
                    1,
                    "it had no time to fill its memory"
                );
            }
            other => panic!("{other:?}"),
        }
    }
}

async fn nothing_is_left(allocation: MemoryAllocation) {
    let Some(slot) = Slot::new(allocation) else { return };
    let bench = &slot.bench;
    let mut guests = Vec::new();
    for (pages, name) in [(4, "one"), (100, "two"), (4, "three"), (40, "four")] {
        guests.push(bench.load(guest(pages, name)).await.unwrap());
    }
    for end in [End::Success, End::Trap, End::Timeout, End::Dropped] {
        // There are two memories in the pool: both have the secret once two components were filled.
        for (first, second) in [(0, 1), (1, 0), (2, 3)] {
            slot.fill(&guests[first], end).await;
            slot.fill(&guests[second], end).await;
            for looker in [3, 2, 1, 0] {
                let report = bench.run(&guests[looker], &[b"l"]).await;
                assert_eq!(
                    report.verdicts,
                    [Verdict::Success],
                    "{allocation:?}: component {looker} saw what {first} or {second} left after {end:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_guest_that_looks_for_its_own_secret_finds_it() {
    let slot = Slot::new(MemoryAllocation::OnDemand).unwrap();
    let component = slot.bench.load(guest(4, "one")).await.unwrap();
    let report = slot.bench.run(&component, &[b"b"]).await;
    assert!(matches!(report.verdicts.as_slice(), [Verdict::Failed(_)]), "{report:?}");
}

#[tokio::test]
async fn no_secret_is_left_in_a_slot_when_the_kernel_finds_the_dirty_pages() {
    nothing_is_left(MemoryAllocation::Pooled {
        pagemap_scan: true,
        spare: 0,
    })
    .await;
}

#[tokio::test]
async fn no_secret_is_left_in_a_slot_when_all_pages_are_reset() {
    nothing_is_left(MemoryAllocation::Pooled {
        pagemap_scan: false,
        spare: 0,
    })
    .await;
}

#[tokio::test]
async fn no_secret_is_left_where_there_are_slots_to_spare() {
    for pagemap_scan in [true, false] {
        nothing_is_left(MemoryAllocation::Pooled {
            pagemap_scan,
            spare: 64,
        })
        .await;
    }
}

#[tokio::test]
async fn no_secret_is_left_without_a_pool() {
    nothing_is_left(MemoryAllocation::OnDemand).await;
}
