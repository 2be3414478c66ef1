//! What a handler may touch is in its manifest and nowhere else.

use std::{fs, time::Duration};

use harness::{
    bench::{Bench, poll_once},
    guests::{FORWARD, forward, handler, handler_in, no_op, obedient},
    host::Place,
    wait_for,
};
use sandhog::config::Manifest;
use sandhog_executor::{
    EngineOptions, Executor as _, LoadError, LogStream, Verdict,
    policy::{DirGrant, Grants, HttpGrant, LogLevel},
};
use sandhog_queue::FailureKind;

/// A world with everything that stands for a grant, in the shapes that the interfaces' packages give.
const WIT: &str = "
    package test:guest;
    world guest {
        import sandhog:worker/sender@0.1.0;
        import wasi:config/store@0.2.0-rc.1;
        import wasi:logging/logging@0.1.0-draft;
        import wasi:http/outgoing-handler@0.2.0;
        import wasi:keyvalue/atomics@0.2.0-draft;
        import wasi:clocks/monotonic-clock@0.3.0;
        import wasi:filesystem/preopens@0.2.0;
        export sandhog:worker/handler@0.1.0;
    }
    package wasi:config@0.2.0-rc.1 {
        interface store {
            variant error { upstream(string), io(string) }
            get: func(key: string) -> result<option<string>, error>;
        }
    }
    package wasi:logging@0.1.0-draft {
        interface logging {
            enum level { trace, debug, info, warn, error, critical }
            log: func(level: level, context: string, message: string);
        }
    }
    package wasi:http@0.2.0 {
        interface outgoing-handler { handle: func(a: u32); }
    }
    package wasi:keyvalue@0.2.0-draft {
        interface atomics { increment: func(a: u32); }
    }
    package wasi:clocks@0.3.0 {
        interface monotonic-clock {
            now: func() -> u64;
            wait-for: async func(how-long: u64);
        }
    }
    package wasi:filesystem@0.2.0 {
        interface preopens { }
    }";

const CONFIG: &str = r#"(import "wasi:config/store@0.2.0-rc.1" "get" (func $get (param i32 i32 i32)))"#;
const HTTP: &str = r#"(import "wasi:http/outgoing-handler@0.2.0" "handle" (func (param i32)))"#;
const KEY_VALUE: &str = r#"(import "wasi:keyvalue/atomics@0.2.0-draft" "increment" (func (param i32)))"#;
const CLOCK: &str = r#"
    (import "wasi:clocks/monotonic-clock@0.3.0" "now" (func $now (result i64)))
    (import "wasi:clocks/monotonic-clock@0.3.0" "wait-for" (func $wait (param i64)))"#;
const LOG: &str = r#"(import "wasi:logging/logging@0.1.0-draft" "log" (func $log (param i32 i32 i32 i32 i32)))"#;

/// Asks for the value of the key that the body names, and sends it on; traps if there is none.
fn configured() -> Vec<u8> {
    let handle = "(call $get (local.get $body) (local.get $body-len) (i32.const 512))
        (if (i32.load8_u (i32.const 512)) (then unreachable))
        (if (i32.eqz (i32.load8_u (i32.const 516))) (then unreachable))
        (call $send (i32.load (i32.const 520)) (i32.load (i32.const 524)) (i32.const 0) (i32.const 0) (i32.const 0))
        (global.get $ok)";
    handler_in(WIT, CONFIG, handle)
}

async fn refusal(bench: &Bench, wasm: Vec<u8>) -> LoadError {
    bench.load(wasm).await.unwrap_err()
}

#[tokio::test]
async fn a_component_that_imports_what_was_not_granted_is_refused_with_the_lines_to_add() {
    let mut bench = Bench::new();
    bench.policy.grants = Grants::default();
    let everything = handler_in(
        WIT,
        &format!("{CONFIG} {HTTP} {KEY_VALUE}"),
        &format!("{FORWARD} (global.get $ok)"),
    );
    for (wasm, lines) in [
        (forward(), ["send = [\"QUEUE\"]"].as_slice()),
        (
            handler_in(WIT, CONFIG, "(global.get $ok)"),
            &["config = { KEY = \"VALUE\" }"],
        ),
        (
            handler_in(WIT, HTTP, "(global.get $ok)"),
            &["http = [\"https://api.example.com\"]"],
        ),
        (handler_in(WIT, KEY_VALUE, "(global.get $ok)"), &["keyvalue = true"]),
        (everything, &["send = [", "config = {", "http = [", "keyvalue = true"]),
    ] {
        let error = refusal(&bench, wasm).await;
        assert!(matches!(error, LoadError::NotGranted { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("test.toml:\n[grant]\n"), "{text}");
        for line in lines {
            assert!(text.contains(line), "{text}");
        }
        assert_eq!(text.lines().count(), 2 + lines.len(), "{text}");
    }
}

#[tokio::test]
async fn the_lines_of_a_refusal_are_a_manifest_that_grants_what_was_missing() {
    let mut bench = Bench::new();
    bench.policy.grants = Grants::default();
    let wasm = handler_in(WIT, CONFIG, &format!("{FORWARD} (global.get $ok)"));
    let LoadError::NotGranted { lines, .. } = refusal(&bench, wasm.clone()).await else {
        panic!("another error");
    };
    bench.policy.grants = Manifest::parse(&lines, "test").unwrap().grants;
    bench.load(wasm).await.unwrap();
}

#[tokio::test]
async fn an_empty_grant_lets_a_component_import_and_reach_nothing() {
    let mut bench = Bench::new();
    bench.policy.grants = Manifest::parse("[grant]\nsend = []\nconfig = {}\n", "test")
        .unwrap()
        .grants;
    for wasm in [forward(), configured()] {
        assert_eq!(bench.failure_of(wasm).await.kind, FailureKind::Trap);
    }
}

#[tokio::test]
async fn what_no_handler_needs_a_grant_for_is_linked_without_one() {
    let mut bench = Bench::new();
    bench.policy.grants = Grants::default();
    for wasm in [
        no_op(),
        handler_in(WIT, &format!("{CLOCK} {LOG}"), "(drop (call $now)) (global.get $ok)"),
    ] {
        let component = bench.load(wasm).await.unwrap();
        assert_eq!(bench.run(&component, &[b""]).await.verdicts, [Verdict::Success]);
    }
}

#[tokio::test]
async fn an_import_of_wasi_0_3_that_blocks_a_handler_of_0_2_is_a_trap_that_says_so() {
    let wasm = handler_in(WIT, CLOCK, "(call $wait (i64.const 1000000)) (global.get $ok)");
    let failure = Bench::new().failure(wasm).await;
    assert_eq!(failure.kind, FailureKind::Trap);
    assert!(failure.reason.contains("block"), "{}", failure.reason);
}

#[tokio::test]
async fn a_handler_reads_the_configuration_that_was_granted() {
    let mut bench = Bench::new();
    let manifest = "[grant]\nsend = [\"out\"]\nconfig = { bucket = \"media\" }\n";
    bench.policy.grants = Manifest::parse(manifest, "test").unwrap().grants;
    let component = bench.load(configured()).await.unwrap();
    let report = bench.run(&component, &[b"bucket"]).await;
    assert_eq!(report.sends.first().unwrap().message.body, "media");
    let report = bench.run(&component, &[b"other"]).await;
    assert!(matches!(report.verdicts.as_slice(), [Verdict::Failed(_)]), "{report:?}");
}

#[tokio::test]
async fn a_component_is_linked_anew_for_another_policy_without_being_compiled() {
    let mut bench = Bench::new();
    let component = bench.load(forward()).await.unwrap();
    bench.policy.grants.send = None;
    let policy = std::sync::Arc::new(bench.policy.clone());
    let error = bench
        .executor
        .relink("test.wasm".into(), &component, policy)
        .await
        .unwrap_err();
    assert!(matches!(error, LoadError::NotGranted { .. }), "{error}");
    bench.policy.grants.send = Some([].into());
    let policy = std::sync::Arc::new(bench.policy.clone());
    let relinked = bench
        .executor
        .relink("test.wasm".into(), &component, policy)
        .await
        .unwrap();
    assert_eq!(relinked.info.digest, component.info.digest);
}

#[tokio::test]
async fn lines_of_wasi_logging_have_their_level_and_those_below_the_granted_one_are_dropped() {
    let mut bench = Bench::new();
    // The context is `because`, the message the body.
    let line = |level: u8| {
        format!("(call $log (i32.const {level}) (i32.const 272) (i32.const 7) (local.get $body) (local.get $body-len))")
    };
    let wasm = handler_in(WIT, LOG, &format!("{}{}{} (global.get $ok)", line(1), line(3), line(5)));
    let component = bench.load(wasm).await.unwrap();
    bench.policy.grants.log = LogLevel::Warn;
    assert_eq!(bench.run(&component, &[b"a\nb\x1b"]).await.verdicts, [Verdict::Success]);
    let lines = bench.lines.lock().unwrap();
    let seen: Vec<_> = lines.iter().map(|line| (line.stream, line.text.as_str())).collect();
    assert_eq!(
        seen,
        [
            (LogStream::Logging(LogLevel::Warn), "because: a\nb\\u{1b}"),
            (LogStream::Logging(LogLevel::Critical), "because: a\nb\\u{1b}")
        ]
    );
}

#[tokio::test]
async fn a_flood_of_wasi_logging_is_cut_and_counted() {
    let mut bench = Bench::new();
    bench.policy.limits.log_bytes = 4096;
    let wasm = handler_in(
        WIT,
        LOG,
        "(local $n i32) (loop $more
            (call $log (i32.const 4) (i32.const 272) (i32.const 7) (i32.const 0) (i32.const 65536))
            (br_if $more (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 500))))
        (global.get $ok)",
    );
    let component = bench.load(wasm).await.unwrap();
    let report = bench.run(&component, &[b""]).await;
    assert_eq!(report.verdicts, [Verdict::Success]);
    assert!(report.usage.log_lines_dropped >= 499, "{report:?}");
    let bytes: usize = bench.lines.lock().unwrap().iter().map(|line| line.text.len()).sum();
    assert!(bytes <= 4096, "{bytes}");
}

/// Opens `a.txt` in the first directory, for reading or (`w`) for writing with creation; sends on what it reads, or writes
/// the body. Traps if it can't.
const FILES: &str = r#"
    (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))"#;
const NAME: &str = "(i32.store (i32.const 512) (i32.const 0x78742e61)) (i32.store8 (i32.const 516) (i32.const 0x74))";

fn reads_a_file() -> Vec<u8> {
    let handle = format!(
        "{NAME}
        (if (call $open (i32.const 3) (i32.const 0) (i32.const 512) (i32.const 5) (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 520))
            (then unreachable))
        (i32.store (i32.const 524) (i32.const 1024)) (i32.store (i32.const 528) (i32.const 64))
        (if (call $read (i32.load (i32.const 520)) (i32.const 524) (i32.const 1) (i32.const 532)) (then unreachable))
        (call $send (i32.const 1024) (i32.load (i32.const 532)) (i32.const 0) (i32.const 0) (i32.const 0))
        (global.get $ok)"
    );
    handler_in(WIT, FILES, &handle)
}

fn writes_a_file() -> Vec<u8> {
    let handle = format!(
        "{NAME}
        (if (call $open (i32.const 3) (i32.const 0) (i32.const 512) (i32.const 5) (i32.const 1) (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 520))
            (then unreachable))
        (i32.store (i32.const 524) (local.get $body)) (i32.store (i32.const 528) (local.get $body-len))
        (if (call $write (i32.load (i32.const 520)) (i32.const 524) (i32.const 1) (i32.const 532)) (then unreachable))
        (global.get $ok)"
    );
    handler_in(WIT, FILES, &handle)
}

#[tokio::test]
async fn a_directory_is_read_only_unless_it_is_granted_otherwise() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.txt");
    fs::write(&file, "from the host").unwrap();
    let mut bench = Bench::new();
    bench.policy.grants.dirs = vec![DirGrant {
        host: directory.path().to_owned(),
        guest: "/files".to_owned(),
        write: false,
    }];
    let (reads, writes) = (
        bench.load(reads_a_file()).await.unwrap(),
        bench.load(writes_a_file()).await.unwrap(),
    );
    let report = bench.run(&reads, &[b""]).await;
    assert_eq!(report.sends.first().unwrap().message.body, "from the host");
    let report = bench.run(&writes, &[b"from the guest"]).await;
    assert!(matches!(report.verdicts.as_slice(), [Verdict::Failed(_)]), "{report:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "from the host");
    bench.policy.grants.dirs[0].write = true;
    let report = bench.run(&writes, &[b"from the guest"]).await;
    assert_eq!(report.verdicts, [Verdict::Success]);
    assert!(fs::read_to_string(&file).unwrap().starts_with("from the guest"));
}

#[tokio::test]
async fn a_directory_that_has_gone_is_the_hosts_fault_and_no_message_pays_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut bench = Bench::new();
    bench.policy.grants.dirs = vec![DirGrant {
        host: directory.path().to_owned(),
        guest: "/files".to_owned(),
        write: false,
    }];
    let component = bench.load(no_op()).await.unwrap();
    let path = directory.path().display().to_string();
    directory.close().unwrap();
    let report = bench.run(&component, &[b""]).await;
    assert!(
        matches!(report.verdicts.as_slice(), [Verdict::NotRun(reason)] if reason.contains(&path)),
        "{report:?}"
    );
}

#[tokio::test]
async fn processor_time_is_a_limit_of_its_own() {
    let mut bench = Bench::new();
    bench.policy.limits.cpu_time = Duration::from_millis(100);
    let failure = bench.failure(handler("(loop $l (br $l)) unreachable")).await;
    assert_eq!(failure.kind, FailureKind::Timeout);
    assert!(
        failure.reason.contains("100ms") && failure.reason.contains("limits.cpu-time"),
        "{}",
        failure.reason
    );
}

#[tokio::test]
async fn a_guest_that_waits_uses_no_processor_time() {
    let mut bench = Bench::new();
    bench.policy.limits.cpu_time = Duration::from_millis(100);
    let component = bench.load(obedient("out")).await.unwrap();
    let report = bench.run(&component, &[b"w300d"]).await;
    assert_eq!(report.verdicts, [Verdict::Success]);
    assert!(report.usage.wall >= Duration::from_millis(300) && report.usage.cpu < Duration::from_millis(100));
}

#[tokio::test]
async fn a_handler_that_could_never_fit_into_the_memory_budget_is_refused() {
    let bench = Bench::with(EngineOptions {
        memory_budget: 64 << 20,
        ..EngineOptions::default()
    });
    let error = refusal(&bench, no_op()).await.to_string();
    assert!(error.contains("memory-budget is 64 MiB"), "{error}");
}

#[tokio::test]
async fn calls_past_the_memory_budget_wait_for_others_to_end() {
    // Room for two by their limits, though for eight by their number: each may take 51 MiB, 47 of them beside its memory.
    let mut bench = Bench::with(EngineOptions {
        max_live_instances: 8,
        memory_budget: 144 << 20,
        ..EngineOptions::default()
    });
    bench.policy.limits.memory = 4 << 20;
    let component = bench.load(obedient("out")).await.unwrap();
    assert_eq!(bench.executor.most_at_once(&component, &bench.policy), 2);
    let most = std::sync::atomic::AtomicUsize::new(0);
    let calls = (0..6).map(|_| bench.run(&component, &[b"w300d"]));
    let watched = async {
        loop {
            most.fetch_max(bench.executor.live_instances(), std::sync::atomic::Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        reports = harness::bench::together(calls) => {
            assert!(reports.iter().all(|report| report.verdicts == [Verdict::Success]));
        }
        () = watched => {}
    }
    assert_eq!(most.into_inner(), 2);
}

#[tokio::test]
async fn a_small_handler_is_served_while_a_large_one_waits_for_memory() {
    // 315 MiB and a reserve of 105. A large one may take 303 MiB, and a small one 48.
    let mut bench = Bench::with(EngineOptions {
        max_live_instances: 8,
        memory_budget: 420 << 20,
        ..EngineOptions::default()
    });
    let policy = |memory| {
        let mut policy = bench.policy.clone();
        policy.limits.memory = memory;
        // Until the test lets go of it.
        policy.timeout = Duration::from_hours(1);
        policy
    };
    let (large, small) = (policy(256 << 20), policy(1 << 20));
    bench.policy = large.clone();
    let (first, second) = (
        bench.load(obedient("out")).await.unwrap(),
        bench.load(obedient("out")).await.unwrap(),
    );
    let little = bench.load_with(no_op(), &small).await.unwrap();
    let mut running = Box::pin(bench.run(&first, &[b"w3600000d"]));
    while bench.executor.live_instances() == 0 {
        assert!(poll_once(running.as_mut()).await.is_pending());
        tokio::task::yield_now().await;
    }
    let mut waiting = Box::pin(bench.run(&second, &[b""]));
    for _ in 0..50 {
        assert!(poll_once(waiting.as_mut()).await.is_pending());
        let served = tokio::time::timeout(harness::PATIENCE, bench.run_with(&little, &[b""], &small)).await;
        assert_eq!(served.expect("it is not held up").verdicts, [Verdict::Success]);
    }
    assert!(
        poll_once(running.as_mut()).await.is_pending(),
        "the large one still runs"
    );
    drop(running);
    assert_eq!(waiting.await.verdicts, [Verdict::Success]);
}

#[test]
fn a_value_of_env_or_config_that_is_malformed_is_not_shown() {
    for malformed in [
        "env = { TOKEN = [\"hunter2\"] }",
        "config = { TOKEN = { from = \"hunter2\" } }",
        "env = { TOKEN = { from-env = \"MODE\", from-file = 7 }, OTHER = \"hunter2\" }",
        "env = \"hunter2\"",
        "config = [\"hunter2\"]",
        "env = { TOKEN = \"hunter2\\u0000\" }",
        "env = { TOKEN = \"hunter2 }",
    ] {
        let errors = Manifest::parse(&format!("[grant]\n{malformed}\n"), "in").unwrap_err();
        assert!(!errors.to_string().contains("hunter2"), "{malformed}: {errors}");
    }
}

#[test]
fn a_secret_from_the_environment_or_a_file_reaches_the_guest_and_no_log() {
    let mut place = Place::new();
    place.environment.push(("API_TOKEN", "hunter2-environment".to_owned()));
    place.environment.push(("RUST_LOG", "trace".to_owned()));
    place.environment.push(("SANDHOG_LOG", "trace".to_owned()));
    fs::write(place.path().join("plugins/token"), "hunter2-file\n").unwrap();
    let manifest = "[grant]\nsend = [\"out\"]\nenv = { TOKEN = { from-env = \"API_TOKEN\" } }\n\
        config = { token = { from-file = \"token\" }, plain = \"hunter2-literal\" }\n";
    place.install("in", &configured(), manifest);
    let host = place.start();
    host.wait_ready();
    for (key, value) in [("token", "hunter2-file"), ("plain", "hunter2-literal")] {
        host.send("in", key.as_bytes());
        wait_for("the output", || (host.count("out", "ready") == 1).then_some(()));
        assert_eq!(host.take_all("out"), [value]);
    }
    // A mistake beside a secret is reported without it.
    fs::write(place.plugin("in.toml"), manifest.replace("send", "sned")).unwrap();
    wait_for("the refusal", || host.events("a handler was refused").pop());
    let log = host.log();
    assert_eq!(log.iter().find(|line| line.contains("hunter2")), None);
}

#[test]
fn a_grant_is_never_shown_with_its_values() {
    let manifest = "[grant]\nenv = { TOKEN = \"hunter2\" }\nconfig = { token = \"hunter2\" }\n";
    let manifest = Manifest::parse(manifest, "in").unwrap();
    assert!(!format!("{manifest:?}").contains("hunter2"));
}

#[test]
fn private_networks_are_granted_by_address() {
    let manifest =
        "[grant]\nhttp = [\"http://billing.internal:8080\"]\nhttp-addresses = [\"10.0.0.0/8\", \"fd00::7\"]\n";
    let HttpGrant { origins, addresses } = Manifest::parse(manifest, "in").unwrap().grants.http.unwrap();
    assert_eq!(origins[0].to_string(), "http://billing.internal:8080");
    assert_eq!(
        addresses,
        ["10.0.0.0/8".parse().unwrap(), "fd00::7/128".parse().unwrap()]
    );
    let alone = "[grant]\nhttp-addresses = [\"10.0.0.0/8\"]\n";
    let error = Manifest::parse(alone, "in").unwrap_err().to_string();
    assert!(error.contains("it needs http"), "{error}");
}
