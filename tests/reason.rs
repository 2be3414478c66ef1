//! The reason of a failure is the error of the guest, in the guest's words.

use std::time::Duration;

use harness::{
    bench::Bench,
    guests::{batch_handler_importing, body_starts_with, handler_importing, program},
    host::Place,
    hostile::{Parts, escaped},
    wait_for,
};
use sandhog_executor::{Component, Executor as _, Flavour, GuestFailure, Verdict, policy::Reuse};
use sandhog_queue::FailureKind;

const REPORT: &str = r#"(import "sandhog:worker/crash@0.1.0" "report" (func $report (param i32 i32 i32 i32)))"#;

/// Where the reporting guests keep their texts.
const TEXTS: &str = r#"
    (data (i32.const 1024) "  at one (a.py:1)\n  at two (a.py:2)\n")
    (data (i32.const 1100) "first")
    (func $stack (result i32) (i32.const 1024))"#;

/// A handler that reports the body behind the first character as the reason, and then does what that character says.
///
/// | character | what it does |
/// | --- | --- |
/// | `t` | traps |
/// | `T` | reports something else first, and traps |
/// | `o` | succeeds |
/// | `f` | fails with `retry` |
/// | `s` `m` | spins, takes all memory |
/// | `M` | reports a hundred thousand times, and traps |
/// | `L` | reports 12 MB of memory as reason and stack, and traps |
/// | `!` | reports nothing, and traps |
fn reporter() -> Vec<u8> {
    const SAY: &str =
        "(call $report (i32.add (local.get $body) (i32.const 1)) (i32.sub (local.get $body-len) (i32.const 1))
        (i32.const 1024) (i32.const 36))";
    let when = |c: char, then: &str| {
        let is = body_starts_with(c);
        format!("(if {is} (then {then}))")
    };
    let parts = [
        when('!', "unreachable"),
        when(
            'T',
            &format!("(call $report (i32.const 1100) (i32.const 5) (i32.const 1100) (i32.const 5)) {SAY} unreachable")
        ),
        when('t', &format!("{SAY} unreachable")),
        when('o', SAY),
        when(
            'f',
            &format!("{SAY} (return (call $fail (i32.const 0) (i32.const 272) (i32.const 7) (i32.const 0)))")
        ),
        when('s', &format!("{SAY} (loop $spin (br $spin))")),
        when(
            'm',
            &format!("{SAY} (loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable")
        ),
        when(
                'M',
                &format!(
                    "(loop $again {SAY} (local.set $n (i32.add (local.get $n) (i32.const 1)))
                    (br_if $again (i32.lt_u (local.get $n) (i32.const 100000)))) unreachable"
                )
            ),
        when(
                'L',
                "(memory.fill (i32.const 131072) (i32.const 97) (i32.const 12000000))
                (call $report (i32.const 131072) (i32.const 12000000) (i32.const 131072) (i32.const 1000000)) unreachable"
            ),
    ];
    let handle = format!("(local $n i32) {} (global.get $ok)", parts.concat());
    let definitions = format!("{TEXTS} (func $large (drop (memory.grow (i32.const 200)))) (start $large)");
    handler_importing(&handle, (REPORT, &definitions))
}

async fn failure(bench: &Bench, component: &Component, body: &str) -> GuestFailure {
    let report = bench.run(component, &[body.as_bytes()]).await;
    match report.verdicts.as_slice() {
        [Verdict::Failed(failure)] => failure.clone(),
        other => panic!("{body}: {other:?}"),
    }
}

#[tokio::test]
async fn what_a_guest_reports_before_it_traps_is_the_reason() {
    let bench = Bench::new();
    let component = bench.load(reporter()).await.unwrap();
    for body in ["tTypeError: x is not a function", "TTypeError: x is not a function"] {
        let failure = failure(&bench, &component, body).await;
        assert_eq!(failure.kind, FailureKind::Trap);
        assert_eq!(failure.reason, "TypeError: x is not a function");
        assert_eq!(failure.stack.as_deref(), Some("  at one (a.py:1)\n  at two (a.py:2)"));
    }
    // A blank report says nothing.
    let silent = failure(&bench, &component, "t \n").await;
    assert!(silent.reason.contains("unreachable"), "{silent:?}");
    assert!(bench.lines.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_report_without_a_trap_has_no_effect() {
    let bench = Bench::new();
    let component = bench.load(reporter()).await.unwrap();
    let report = bench.run(&component, &[b"ono trap"]).await;
    assert_eq!(report.verdicts, [Verdict::Success]);
    let answered = failure(&bench, &component, "fno trap").await;
    assert_eq!(
        (answered.kind, answered.reason.as_str(), answered.stack),
        (FailureKind::Retry, "because", None)
    );
}

#[tokio::test]
async fn a_limit_is_the_reason_whatever_the_guest_reports() {
    let mut bench = Bench::new();
    bench.policy.timeout = Duration::from_millis(200);
    bench.policy.limits.memory = 32 << 20;
    let component = bench.load(reporter()).await.unwrap();
    let late = failure(&bench, &component, "sit hangs").await;
    assert_eq!(late.kind, FailureKind::Timeout);
    assert_eq!(
        late.reason,
        "the handler did not answer within its timeout of 200ms; it reported: it hangs"
    );
    let large = failure(&bench, &component, "mMemoryError").await;
    assert_eq!(large.kind, FailureKind::Memory);
    assert!(
        large
            .reason
            .starts_with("the handler needs more than its limit of 33554432 bytes")
            && large.reason.ends_with("; it reported: MemoryError"),
        "{}",
        large.reason
    );
}

#[tokio::test]
async fn a_report_is_bounded_and_tame() {
    let mut bench = Bench::new();
    bench.policy.limits.memory = 64 << 20;
    let component = bench.load(reporter()).await.unwrap();
    let often = failure(&bench, &component, "Magain").await;
    assert_eq!(often.reason, "again");
    let large = failure(&bench, &component, "L").await;
    let stack = large.stack.unwrap();
    assert!(
        large.reason.starts_with("aaa") && large.reason.len() < 1100,
        "{}",
        large.reason.len()
    );
    assert!(stack.starts_with("aaa") && stack.len() < 8300, "{}", stack.len());
    let wild = failure(&bench, &component, "tone\r\n\u{1b}[2J\u{202e}two\u{7}").await;
    assert_eq!(wild.reason, "one\n\\u{1b}[2J\\u{202e}two\\u{7}");
    let report = bench.run(&component, &[b"t\xff\xfe"]).await;
    let [Verdict::Failed(invalid)] = report.verdicts.as_slice() else {
        panic!("{report:?}");
    };
    assert!(
        invalid.kind == FailureKind::Trap && invalid.reason.contains("utf-8"),
        "{invalid:?}"
    );
    bench.check_neighbour().await;
}

#[tokio::test]
async fn a_report_belongs_to_one_call_of_an_instance() {
    let mut bench = Bench::new();
    bench.policy.reuse = Some(Reuse {
        max: 10,
        idle: Duration::from_mins(10),
    });
    let component = bench.load(reporter()).await.unwrap();
    let report = bench.run(&component, &[b"oof the first call"]).await;
    assert_eq!(report.verdicts, [Verdict::Success]);
    assert_eq!(bench.executor.idle_instances(), 1);
    let silent = failure(&bench, &component, "!").await;
    assert!(silent.reason.contains("unreachable"), "{silent:?}");
}

/// A program, a handler and a batch handler that say nothing about their worlds.
#[tokio::test]
async fn a_core_module_of_any_flavour_imports_the_report_by_its_name() {
    let bench = Bench::new();
    let say = "(call $report (i32.const 1100) (i32.const 5) (i32.const 1024) (i32.const 36)) unreachable";
    let program = format!(r#"(module {REPORT} (memory (export "memory") 1) {TEXTS} (func (export "_start") {say}))"#);
    let handler = format!(
        r#"(module {REPORT} (memory (export "memory") 1) {TEXTS}
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
        (func (export "sandhog:worker/handler@0.1.0#handle") {} (result i32) {say}))"#,
        harness::guests::MESSAGE
    );
    for (text, flavour) in [(program, Flavour::Command), (handler, Flavour::Handler)] {
        let component = bench.load(wat::parse_str(text).unwrap()).await.unwrap();
        assert_eq!(component.info.flavour, flavour);
        assert_eq!(failure(&bench, &component, "body").await.reason, "first");
    }
    let batch = bench.load(batch_handler_importing(say, (REPORT, TEXTS))).await.unwrap();
    assert_eq!(batch.info.flavour, Flavour::BatchHandler);
    let report = bench.run(&batch, &[b"one", b"two"]).await;
    for verdict in &report.verdicts {
        assert!(
            matches!(verdict, Verdict::Failed(failure) if failure.reason == "first"),
            "{verdict:?}"
        );
    }
}

/// The failure of a program that gets this input, and what it has logged.
async fn printed(bench: &Bench, component: &Component, input: &str) -> (GuestFailure, Vec<String>) {
    bench.lines.lock().unwrap().clear();
    let failure = failure(bench, component, input).await;
    let lines = bench.lines.lock().unwrap();
    (failure, lines.iter().map(|line| line.text.clone()).collect())
}

const PANIC: &str = "panic: no items\n\ngoroutine 1 [running]:\nmain.main()\n\t/src/main.go:7 +0x5\nexit status 2\n";
const STACK: &str = "goroutine 1 [running]:\nmain.main()\n    /src/main.go:7 +0x5";

#[tokio::test]
async fn what_a_program_prints_before_it_breaks_is_the_reason() {
    let bench = Bench::new();
    let component = bench.load(program()).await.unwrap();
    for way in ["2 ", "!"] {
        let (failure, lines) = printed(&bench, &component, &format!("{way}{PANIC}")).await;
        assert_eq!(failure.kind, FailureKind::Trap);
        assert_eq!(
            (failure.reason.as_str(), failure.stack.as_deref()),
            ("panic: no items", Some(STACK))
        );
        assert!(lines.is_empty(), "{lines:?}");
    }
    let panic = "!\nthread 'main' (1) panicked at src/main.rs:5:3:\nno items\nnote: run with `RUST_BACKTRACE=1` environment variable\n";
    let (failure, lines) = printed(&bench, &component, panic).await;
    assert_eq!(failure.reason, "no items at src/main.rs:5:3");
    assert!(
        failure.stack.is_some_and(|stack| stack.contains("function")),
        "the engine's"
    );
    assert!(lines.is_empty(), "{lines:?}");
}

#[tokio::test]
async fn the_last_line_that_says_something_is_the_reason_of_a_program_without_a_dump() {
    let bench = Bench::new();
    let component = bench.load(program()).await.unwrap();
    let (failure, lines) = printed(&bench, &component, "65 no date\n    at parse (orders.js:3)\n\n").await;
    assert_eq!(
        (failure.kind, failure.reason.as_str()),
        (FailureKind::Reject, "no date")
    );
    assert_eq!(lines, ["no date\n    at parse (orders.js:3)"]);
    let (failure, lines) = printed(&bench, &component, &format!("75 {PANIC}")).await;
    // It is no crash: the dump stays in the log.
    assert_eq!((failure.kind, lines.len()), (FailureKind::Retry, 1), "{lines:?}");
    let (failure, _) = printed(
        &bench,
        &component,
        "3 one\nnote: run with `RUST_BACKTRACE=1` to see more\n",
    )
    .await;
    assert_eq!(failure.reason, "the program exited with code 3: one");
    let (failure, _) = printed(&bench, &component, "!").await;
    assert_eq!(failure.reason, "the handler trapped: it aborted (`unreachable`)");
}

/// Prints a text to standard error and then does something else.
fn printing(text: &str, then: &str) -> Vec<u8> {
    let (data, length) = (escaped(text.as_bytes()), text.len());
    Parts::handle(&format!(
        "(i32.store (i32.const 4096) (i32.const 8192)) (i32.store (i32.const 4100) (i32.const {length}))
        (drop (call $fd_write (i32.const 2) (i32.const 4096) (i32.const 1) (i32.const 4104))) {then}"
    ))
    .define(&format!("(data (i32.const 8192) \"{data}\")"))
    .preview1("fd_write", "i32 i32 i32 i32")
    .clocks()
    .wasm()
}

#[tokio::test]
async fn what_could_be_a_dump_is_in_the_log_before_a_guest_that_goes_on_is_done() {
    let bench = Bench::new();
    let forever = "(call $block (call $after (i64.const -1))) (global.get $ok)";
    for then in [forever, "(loop $spin (br $spin)) (global.get $ok)"] {
        let component = bench.load(printing("panic: not really\n", then)).await.unwrap();
        bench.lines.lock().unwrap().clear();
        let logged = async {
            while bench.lines.lock().unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            report = bench.run(&component, &[b""]) => panic!("{report:?}"),
            () = logged => {}
        }
        assert_eq!(bench.lines.lock().unwrap()[0].text, "panic: not really");
    }
}

#[tokio::test]
async fn what_the_last_call_of_an_instance_has_printed_is_no_reason() {
    let mut bench = Bench::new();
    bench.policy.reuse = Some(Reuse {
        max: 10,
        idle: Duration::from_mins(10),
    });
    let silent = format!("(if {} (then unreachable))", body_starts_with('!'));
    let wasm = Parts::handle(&format!(
        "{silent} (i32.store (i32.const 4096) (i32.const 8192)) (i32.store (i32.const 4100) (i32.const 5))
        (drop (call $fd_write (i32.const 2) (i32.const 4096) (i32.const 1) (i32.const 4104))) (global.get $ok)"
    ))
    .define("(data (i32.const 8192) \"first\")")
    .preview1("fd_write", "i32 i32 i32 i32")
    .wasm();
    let component = bench.load(wasm).await.unwrap();
    assert_eq!(bench.run(&component, &[b"x"]).await.verdicts, [Verdict::Success]);
    assert_eq!(bench.executor.idle_instances(), 1);
    let silent = failure(&bench, &component, "!").await;
    assert_eq!(silent.reason, "the handler trapped: it aborted (`unreachable`)");
}

#[test]
fn a_report_is_one_record_of_the_log_and_the_reason_of_the_dead_letter() {
    let place = Place::new();
    place.configure("[queues.in]\nmax-receives = 1\n");
    place.install("in", &reporter(), "");
    let host = place.start();
    host.wait_ready();
    host.send("in", b"tRangeError: [\n  {}\n]");
    wait_for("a dead letter", || (host.dead("in").len() == 1).then_some(()));
    let reason = "RangeError: [\n  {}\n]";
    assert_eq!(host.dead("in")[0]["failure"]["reason"], reason);
    let event = host.event("not handled");
    assert_eq!(event["fields"]["reason"], reason);
    assert_eq!(event["fields"]["stack"], "  at one (a.py:1)\n  at two (a.py:2)");
}
