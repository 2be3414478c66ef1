//! Guests with one fault each: the right verdict, in time, and nothing left behind.

use std::time::Duration;

use harness::{
    bench::{Bench, together},
    guests::{batch_handler, embed, handler, handler_with},
    hostile::{Parts, encoded, with_instances},
};
use sandhog_executor::{Executor as _, Flavour, LoadError, Verdict};
use sandhog_queue::FailureKind;
use tokio::time::{Instant, timeout};

#[tokio::test]
async fn a_trap_is_a_failure_with_the_guests_backtrace() {
    let failure = Bench::new().failure(handler("unreachable")).await;
    assert_eq!(failure.kind, FailureKind::Trap);
    assert!(failure.reason.contains("unreachable"), "{}", failure.reason);
    assert!(failure.stack.unwrap().contains("handle"));
}

#[tokio::test]
async fn the_three_failures_of_a_guest_arrive_with_their_reason() {
    let bench = Bench::new();
    for (kind, expected, after) in [
        (0, FailureKind::Retry, None),
        (1, FailureKind::Retry, Some(7)),
        (2, FailureKind::Reject, None),
    ] {
        let wasm = handler(&format!(
            "(call $fail (i32.const {kind}) (i32.const 272) (i32.const 7) (i32.const 7))"
        ));
        let failure = bench.failure(wasm).await;
        assert_eq!((failure.kind, failure.reason.as_str()), (expected, "because"));
        assert_eq!(failure.retry_after, after.map(Duration::from_secs));
    }
}

#[tokio::test]
async fn an_absurd_retry_after_is_cut_to_twelve_hours() {
    let failure = Bench::new()
        .failure(handler(
            "(call $fail (i32.const 1) (i32.const 272) (i32.const 7) (i32.const -1))",
        ))
        .await;
    assert_eq!(failure.retry_after, Some(Duration::from_hours(12)));
}

#[tokio::test]
async fn a_guest_that_spins_is_ended_at_its_timeout() {
    let mut bench = Bench::new();
    bench.policy.timeout = Duration::from_millis(200);
    let start = Instant::now();
    let failure = bench.failure(handler("(loop $l (br $l)) unreachable")).await;
    assert_eq!(failure.kind, FailureKind::Timeout);
    assert!(failure.reason.contains("200ms"), "{}", failure.reason);
    assert!(start.elapsed() < Duration::from_mins(1));
}

#[tokio::test]
async fn spinning_guests_on_every_thread_leave_time_for_others() {
    let mut bench = Bench::new();
    bench.policy.timeout = Duration::from_secs(15);
    let spin = bench.load(handler("(loop $l (br $l)) unreachable")).await.unwrap();
    let good = bench.load(harness::guests::no_op()).await.unwrap();
    let spinning = async {
        tokio::join!(
            bench.run(&spin, &[b""]),
            bench.run(&spin, &[b""]),
            bench.run(&spin, &[b""]),
            bench.run(&spin, &[b""])
        )
    };
    tokio::select! {
        _ = spinning => panic!("the good guest had to wait for the spinning ones"),
        report = bench.run(&good, &[b""]) => assert_eq!(report.verdicts, [Verdict::Success]),
    }
}

#[tokio::test]
async fn dropping_a_call_interrupts_the_guest() {
    let bench = Bench::new();
    let spin = bench.load(handler("(loop $l (br $l)) unreachable")).await.unwrap();
    assert!(
        timeout(Duration::from_millis(100), bench.run(&spin, &[b""]))
            .await
            .is_err()
    );
    let freed = async {
        while bench.executor.live_instances() > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(harness::PATIENCE, freed).await.unwrap();
}

#[tokio::test]
async fn a_guest_that_spins_in_its_start_function_is_refused_at_load() {
    let mut bench = Bench::new();
    bench.policy.timeout = Duration::from_millis(200);
    let wasm = handler_with("(global.get $ok)", "(func $spin (loop $l (br $l))) (start $spin)", 16);
    let error = bench.load(wasm).await.unwrap_err();
    assert!(
        matches!(&error, LoadError::Start { reason, .. } if reason.contains("timeout")),
        "{error}"
    );
}

#[tokio::test]
async fn a_start_function_that_breaks_is_the_guests_fault() {
    let bench = Bench::new();
    let closes = Parts::handle("(global.get $ok)")
        .import(
            "wasi:io/streams@0.2.0",
            "[resource-drop]output-stream",
            "$close",
            "(param i32)",
        )
        .define("(func $start (call $close (i32.const 77))) (start $start)")
        .wasm();
    let traps = handler_with("(global.get $ok)", "(func $start unreachable) (start $start)", 16);
    for wasm in [traps, closes] {
        let error = bench.load(wasm).await.unwrap_err();
        assert!(
            matches!(error, LoadError::Start { .. }) && !error.is_transient(),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_component_of_many_instances_takes_none_from_its_neighbours() {
    let mut bench = Bench::new();
    bench.policy.limits.instances = 128;
    let sleeps = Parts::handle(
        "(local $p i32) (local.set $p (call $after (i64.const 300000000))) (call $block (local.get $p)) (global.get $ok)",
    )
    .import(
        "wasi:clocks/monotonic-clock@0.2.0",
        "subscribe-duration",
        "$after",
        "(param i64) (result i32)",
    )
    .import("wasi:io/poll@0.2.0", "[method]pollable.block", "$block", "(param i32)");
    let many = with_instances(&encoded(&sleeps.wasm()), 1, "(module)", 100);
    let many = bench.load(many).await.unwrap();
    let all = bench.executor.most_at_once(&many, &bench.policy);
    // All but one of those that can run at once.
    let calls = (1..all).map(|_| bench.run(&many, &[b""]));
    let neighbour = async {
        while bench.executor.live_instances() < all - 1 {
            tokio::task::yield_now().await;
        }
        bench.check_neighbour().await;
    };
    let neighbour = timeout(Duration::from_secs(30), neighbour);
    let (reports, neighbour) = tokio::join!(together(calls), neighbour);
    assert!(neighbour.is_ok(), "they never ran all at one time: {reports:?}");
    for report in reports {
        assert_eq!(report.verdicts, [Verdict::Success]);
    }
}

#[tokio::test]
async fn a_guest_that_exhausts_its_memory_fails_with_that_reason() {
    let mut bench = Bench::new();
    bench.policy.limits.memory = 16 << 20;
    let grow = "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable";
    let failure = bench.failure(handler(grow)).await;
    assert_eq!(failure.kind, FailureKind::Memory);
    assert!(failure.reason.contains("16777216"), "{}", failure.reason);
}

#[tokio::test]
async fn a_guest_that_copes_with_refused_memory_succeeds() {
    let mut bench = Bench::new();
    bench.policy.limits.memory = 16 << 20;
    let component = bench
        .load(handler("(drop (memory.grow (i32.const 4096))) (global.get $ok)"))
        .await
        .unwrap();
    let report = bench.run(&component, &[b""]).await;
    assert_eq!(report.verdicts, [Verdict::Success]);
    assert!(report.usage.memory_peak <= 16 << 20);
}

#[tokio::test]
async fn a_component_that_starts_with_more_memory_than_its_limit_is_refused_at_load() {
    let mut bench = Bench::new();
    bench.policy.limits.memory = 1 << 20;
    let error = bench.load(handler_with("(global.get $ok)", "", 17)).await.unwrap_err();
    assert!(
        matches!(&error, LoadError::Start { reason, .. } if reason.contains("memory")),
        "{error}"
    );
}

#[tokio::test]
async fn endless_recursion_is_a_trap() {
    let wasm = handler_with(
        "(call $deep) (global.get $ok)",
        "(func $deep (call $deep) (call $deep))",
        16,
    );
    let failure = Bench::new().failure(wasm).await;
    assert_eq!(failure.kind, FailureKind::Trap);
    assert!(failure.reason.contains("stack"), "{}", failure.reason);
}

#[tokio::test]
async fn an_answer_outside_of_memory_is_a_trap() {
    for answer in ["(i32.const -4)", "(i32.const 0x7fff0000)", "(i32.const 1)"] {
        assert_eq!(
            Bench::new().failure(handler(answer)).await.kind,
            FailureKind::Trap,
            "{answer}"
        );
    }
}

#[tokio::test]
async fn an_unknown_case_of_an_answer_is_a_trap() {
    let failure = Bench::new()
        .failure(handler(
            "(call $fail (i32.const 9) (i32.const 272) (i32.const 7) (i32.const 0))",
        ))
        .await;
    assert_eq!(failure.kind, FailureKind::Trap);
}

#[tokio::test]
async fn a_reason_with_a_lying_length_is_a_trap() {
    let failure = Bench::new()
        .failure(handler(
            "(call $fail (i32.const 0) (i32.const 272) (i32.const 0x7fffffff) (i32.const 0))",
        ))
        .await;
    assert_eq!(failure.kind, FailureKind::Trap);
}

#[tokio::test]
async fn a_huge_reason_is_cut_and_its_control_characters_are_escaped() {
    let fill = "(memory.fill (i32.const 131072) (i32.const 27) (i32.const 65536))";
    let wasm = handler(&format!(
        "{fill} (call $fail (i32.const 2) (i32.const 131072) (i32.const 65536) (i32.const 0))"
    ));
    let reason = Bench::new().failure(wasm).await.reason;
    assert!(reason.len() < 1100 && reason.starts_with("\\u{1b}"), "{reason}");
}

#[tokio::test]
async fn what_a_failed_attempt_sent_is_dropped() {
    let wasm = handler(&format!("{} unreachable", harness::guests::FORWARD));
    // `failure` asserts that there are no sends.
    assert_eq!(Bench::new().failure(wasm).await.kind, FailureKind::Trap);
}

#[tokio::test]
async fn a_send_to_a_queue_that_was_not_granted_is_refused() {
    let mut bench = Bench::new();
    let component = bench.load(harness::guests::forward()).await.unwrap();
    bench.policy.grants.send = Some([].into());
    let report = bench.run(&component, &[b"x"]).await;
    // This guest traps on any refusal.
    assert!(matches!(report.verdicts.as_slice(), [Verdict::Failed(_)]), "{report:?}");
    assert!(report.sends.is_empty());
}

#[tokio::test]
async fn sends_past_the_limit_are_refused() {
    let mut bench = Bench::new();
    bench.policy.limits.sends = 3;
    let three = format!("{0} {0} {0} (global.get $ok)", harness::guests::FORWARD);
    let component = bench.load(handler(&three)).await.unwrap();
    assert_eq!(bench.run(&component, &[b"x"]).await.sends.len(), 3);
    let four = format!("{0} {0} {0} {0} (global.get $ok)", harness::guests::FORWARD);
    assert_eq!(bench.failure(handler(&four)).await.kind, FailureKind::Trap);
}

#[tokio::test]
async fn a_batch_answer_of_the_wrong_length_fails_every_message() {
    let bench = Bench::new();
    let component = bench
        .load(batch_handler(
            "(i32.store (i32.const 16) (i32.const 64)) (i32.store (i32.const 20) (i32.const 1)) (i32.const 16)",
        ))
        .await
        .unwrap();
    assert_eq!(component.info.flavour, Flavour::BatchHandler);
    let report = bench.run(&component, &[b"a", b"b"]).await;
    let kinds: Vec<_> = report
        .verdicts
        .iter()
        .map(|verdict| match verdict {
            Verdict::Failed(failure) => failure.kind,
            Verdict::Success | Verdict::NotRun(_) => panic!("{verdict:?}"),
        })
        .collect();
    assert_eq!(kinds, [FailureKind::WrongAnswer; 2]);
}

#[tokio::test]
async fn a_batch_has_one_verdict_per_message() {
    let bench = Bench::new();
    // Results of 20 bytes at 1024: the first is ok, the second an error of kind reject with an empty reason.
    let handle = "(i32.store8 (i32.const 1044) (i32.const 1)) (i32.store8 (i32.const 1048) (i32.const 2))
        (i32.store (i32.const 16) (i32.const 1024)) (i32.store (i32.const 20) (local.get $count)) (i32.const 16)";
    let component = bench.load(batch_handler(handle)).await.unwrap();
    let report = bench.run(&component, &[b"a", b"b"]).await;
    assert_eq!(report.verdicts.first(), Some(&Verdict::Success));
    assert!(matches!(report.verdicts.get(1), Some(Verdict::Failed(failure)) if failure.kind == FailureKind::Reject));
}

#[tokio::test]
async fn a_huge_list_of_answers_is_a_failure_that_costs_little() {
    let handle =
        "(i32.store (i32.const 16) (i32.const 1024)) (i32.store (i32.const 20) (i32.const 0x0fffffff)) (i32.const 16)";
    let bench = Bench::new();
    let component = bench.load(batch_handler(handle)).await.unwrap();
    let report = bench.run(&component, &[b"a"]).await;
    assert!(matches!(report.verdicts.as_slice(), [Verdict::Failed(_)]), "{report:?}");
}

#[tokio::test]
async fn a_full_host_waits_for_a_free_instance() {
    let bench = Bench::new();
    let component = bench.load(harness::guests::no_op()).await.unwrap();
    let calls = (0..100).map(|_| bench.run(&component, &[b""]));
    for report in together(calls).await {
        assert_eq!(report.verdicts, [Verdict::Success]);
    }
}

#[tokio::test]
async fn files_that_are_no_handlers_are_refused_with_what_was_found() {
    let bench = Bench::new();
    let core = wat::parse_str("(module)").unwrap();
    let nothing = wat::parse_str("(component)").unwrap();
    let other = wat::parse_str(
        r#"(component (component $c) (instance $i (instantiate $c)) (export "acme:thing/other@1.0.0" (instance $i)))"#,
    );
    for (wasm, expected) in [
        (b"".to_vec(), "it is empty"),
        (b"(module)".to_vec(), "text format"),
        (b"\x7fELF".to_vec(), "header"),
        (core, "it exports neither _start"),
        (nothing, "it exports nothing"),
        (other.unwrap(), "acme:thing/other"),
    ] {
        let error = bench.load(wasm).await.unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("test.wasm"), "{error}");
    }
}

#[tokio::test]
async fn every_truncation_of_a_component_is_refused() {
    let bench = Bench::new();
    let module = harness::guests::no_op();
    let mut encoder = wit_component::ComponentEncoder::default().module(&module).unwrap();
    let wasm = encoder.encode().unwrap();
    for length in (0..wasm.len()).step_by(7) {
        let half = wasm.get(..length).unwrap().to_vec();
        assert!(
            bench.load(half).await.is_err(),
            "{length} of {} bytes passed",
            wasm.len()
        );
    }
}

#[tokio::test]
async fn an_import_that_the_host_does_not_offer_is_named() {
    let text = r#"(component (import "acme:net/raw@1.0.0" (instance (export "open" (func)))) )"#;
    let component = wat::parse_str(text).unwrap();
    // Without a handler's export the flavour is what is wrong; with one it is the import.
    assert!(
        Bench::new()
            .load(component)
            .await
            .unwrap_err()
            .to_string()
            .contains("must export exactly one")
    );
    let wasm = embed(
        r#"(module (import "acme:net/raw" "open" (func)) (memory (export "memory") 1)
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0))
        (func (export "sandhog:worker/handler@0.1.0#handle") (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i64 i32 i32 i32) (result i32) (i32.const 16)))"#,
        "worker",
    );
    let error = Bench::new().load(wasm).await.unwrap_err().to_string();
    assert!(error.contains("acme:net/raw"), "{error}");
}

/// A handler that calls WASI preview 1, through the adapter, with the given imports and instructions.
fn wasi_handler(imports: &str, handle: &str) -> Vec<u8> {
    let text = format!(
        r#"(module {imports} (memory (export "memory") 16) (global $next (mut i32) (i32.const 131072))
        (data (i32.const 1024) "0123456789abcde\n")
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
            (local.set $at (global.get $next))
            (global.set $next (i32.add (local.get $at) (i32.and (i32.add (local.get 3) (i32.const 15)) (i32.const -8))))
            (local.get $at))
        (func (export "sandhog:worker/handler@0.1.0#handle")
            (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i64 i32 i32 i32) (result i32) (local $n i32)
            {handle}))"#
    );
    embed(&text, "worker")
}

#[tokio::test]
async fn a_flood_of_output_is_cut_and_counted_and_harms_nobody() {
    let bench = Bench::new();
    // A million lines of 15 characters.
    let wasm = wasi_handler(
        r#"(import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))"#,
        "(loop $fill (memory.copy (i32.add (i32.const 1024) (local.get $n)) (i32.const 1024) (i32.const 16))
            (local.set $n (i32.add (local.get $n) (i32.const 16))) (br_if $fill (i32.lt_u (local.get $n) (i32.const 64000))))
        (i32.store (i32.const 512) (i32.const 1024)) (i32.store (i32.const 516) (i32.const 64000))
        (local.set $n (i32.const 0))
        (loop $flood (drop (call $write (i32.const 1) (i32.const 512) (i32.const 1) (i32.const 528)))
            (local.set $n (i32.add (local.get $n) (i32.const 1))) (br_if $flood (i32.lt_u (local.get $n) (i32.const 250))))
        (i32.const 16)",
    );
    let component = bench.load(wasm).await.unwrap();
    let report = bench.run(&component, &[b""]).await;
    assert_eq!(report.verdicts, [Verdict::Success]);
    let lines = bench.lines.lock().unwrap();
    let logged: usize = lines.iter().map(|line| line.text.len() + 64).sum();
    let limit = usize::try_from(bench.policy.limits.log_bytes).unwrap();
    assert!(logged <= limit && logged > limit / 2, "{logged} bytes");
    assert_eq!(
        report.usage.log_lines_dropped,
        1_000_000 - u64::try_from(lines.len()).unwrap()
    );
    assert!(lines.iter().all(|line| line.text == "0123456789abcde"));
}

#[tokio::test]
async fn a_guest_that_sleeps_past_its_timeout_is_ended() {
    let mut bench = Bench::new();
    bench.policy.timeout = Duration::from_millis(200);
    // A relative subscription to the monotonic clock, an hour long.
    let wasm = wasi_handler(
        r#"(import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))"#,
        "(i32.store (i32.const 2064) (i32.const 1)) (i64.store (i32.const 2072) (i64.const 3600000000000))
        (drop (call $poll (i32.const 2048) (i32.const 4096) (i32.const 1) (i32.const 512)))
        (i32.const 16)",
    );
    let start = Instant::now();
    assert_eq!(bench.failure(wasm).await.kind, FailureKind::Timeout);
    assert!(start.elapsed() < Duration::from_mins(1));
}

#[tokio::test]
async fn an_exit_is_a_failure_whatever_its_code() {
    for code in [0, 3] {
        let wasm = wasi_handler(
            r#"(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))"#,
            &format!("(call $exit (i32.const {code})) unreachable"),
        );
        let failure = Bench::new().failure(wasm).await;
        assert_eq!(failure.kind, FailureKind::Trap);
        assert!(failure.reason.contains("exited"), "{}", failure.reason);
    }
}

#[tokio::test]
async fn a_guest_sees_the_environment_that_was_granted_and_no_directory() {
    let bench = Bench::new();
    // environ_sizes_get says how many variables there are; fd_prestat_get(3) fails without a directory.
    let wasm = wasi_handler(
        r#"(import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))"#,
        "(drop (call $sizes (i32.const 512) (i32.const 516)))
        (if (i32.ne (i32.load (i32.const 512)) (i32.const 1)) (then unreachable))
        (if (i32.eqz (call $prestat (i32.const 3) (i32.const 528))) (then unreachable))
        (i32.const 16)",
    );
    let component = bench.load(wasm).await.unwrap();
    assert_eq!(bench.run(&component, &[b""]).await.verdicts, [Verdict::Success]);
}

#[tokio::test]
async fn a_hostile_function_name_costs_nothing_in_a_backtrace() {
    // A short mangled name of C++ that stands for gigabytes: each reference repeats everything before it.
    let name = format!("_Z1fI{}{}E", "a".repeat(30_000), "S_".repeat(20_000));
    let wasm = handler_with(
        "(call $hostile) (global.get $ok)",
        &format!("(func $hostile (@name \"{name}\") unreachable)"),
        16,
    );
    let failure = Bench::new().failure(wasm).await;
    assert_eq!(failure.kind, FailureKind::Trap);
    let stack = failure.stack.unwrap();
    assert!(
        stack.starts_with("_Z1fIaaa") && stack.len() < 1024,
        "{} bytes",
        stack.len()
    );
}

#[tokio::test]
async fn bytes_sent_are_limited_whatever_they_are_in() {
    let mut bench = Bench::new();
    bench.policy.limits.send_bytes = 1000;
    // Each message counts for its body and for itself, so an empty one is not free.
    let four = format!("{0} {0} {0} {0} (global.get $ok)", harness::guests::FORWARD);
    assert_eq!(bench.failure(handler(&four)).await.kind, FailureKind::Trap);
}

#[tokio::test]
async fn tables_are_limited_in_total() {
    let mut bench = Bench::new();
    bench.policy.limits.table_elements = 1000;
    let tables = "(table $a 0 funcref) (table $b 0 funcref)";
    let grow = |table: &str| {
        format!("(if (i32.eq (table.grow {table} (ref.null func) (i32.const 600)) (i32.const -1)) (then unreachable))")
    };
    let component = bench
        .load(handler_with(&format!("{} (global.get $ok)", grow("$a")), tables, 16))
        .await
        .unwrap();
    assert_eq!(bench.run(&component, &[b""]).await.verdicts, [Verdict::Success]);
    let failure = bench
        .failure(handler_with(
            &format!("{} {} (global.get $ok)", grow("$a"), grow("$b")),
            tables,
            16,
        ))
        .await;
    assert_eq!(failure.kind, FailureKind::Memory);
}

#[tokio::test]
async fn a_component_of_many_memories_waits_for_the_slots_that_it_takes() {
    let bench = Bench::new();
    let memories = "(memory 1) ".repeat(15);
    let greedy = bench
        .load(handler_with("(global.get $ok)", &memories, 16))
        .await
        .unwrap();
    let modest = bench.load(harness::guests::no_op()).await.unwrap();
    // The pool has 72 slots of 2 memories for 8 live instances: 100 greedy calls at once would exhaust it.
    let calls = (0..100).map(|number| bench.run(if number % 2 == 0 { &greedy } else { &modest }, &[b""]));
    for report in together(calls).await {
        assert_eq!(report.verdicts, [Verdict::Success]);
    }
}
