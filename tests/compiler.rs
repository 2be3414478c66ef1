//! Compiling is done by a process without rights, whose end is never the host's; and what it made is used again only as
//! it was made.

#![expect(clippy::indexing_slicing, reason = "JSON that is not as expected fails the test")]

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
    task::Poll,
    time::Duration,
};

use harness::{
    bench::{Bench, together},
    guests::{FORWARD, forward, handler_with, no_op},
    host::{Host, Place},
    hostile::{Parts, encoded, with_instances},
    sandhog_binary, sandhog_compiler, wait_for,
};
use sandhog_executor::{CodeTiers, Compiler, EngineOptions, LoadError, Verdict};
use tempfile::TempDir;

const GRANT: &str = "[grant]\nsend = [\"out\"]\n";

/// A handler of a few kilobytes with a function whose loops all change all of its variables: what the compiler makes of
/// it grows with the product of both.
fn bomb(variables: usize, loops: usize) -> Vec<u8> {
    let changes = (0..variables).map(|variable| {
        let next = (variable + 1) % variables;
        format!("local.get {next} i32.const 1 i32.add local.set {variable} ")
    });
    let ends = (0..loops).map(|number| format!("local.get {} br_if 0 end ", number % variables));
    let text = format!(
        "(func {} {} {} {})",
        "(local i32)".repeat(variables),
        "loop ".repeat(loops),
        changes.collect::<String>(),
        ends.collect::<String>(),
    );
    handler_with("(global.get $ok)", &text, 16)
}

/// Takes minutes, and not much memory.
fn slow_bomb() -> Vec<u8> {
    bomb(1000, 1000)
}

/// A handler that sends the body on, with many functions that are never called.
fn large() -> Vec<u8> {
    let function = |number: usize| {
        let steps = (0..60).map(|step| {
            format!(
                "local.get 0 i32.const {} i32.xor local.get 1 i32.rotl local.set 0 ",
                step * number
            )
        });
        format!(
            "(func (param i32 i32) (result i32) {} local.get 0)",
            steps.collect::<String>()
        )
    };
    let functions: String = (1..1500).map(function).collect();
    handler_with(&format!("{FORWARD} (global.get $ok)"), &functions, 16)
}

/// The compilers that a host runs now.
fn compilers(host: &Host) -> Vec<u32> {
    let parent = format!("PPid:\t{}", host.id());
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let id: u32 = entry.unwrap().file_name().to_str()?.parse().ok()?;
        let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        // Those that have begun to confine themselves; a zombie is none any more.
        let compiles = status.contains("Seccomp:\t2") && !status.contains("State:\tZ");
        (status.lines().any(|line| line == parent) && compiles).then_some(id)
    });
    processes.collect()
}

fn wait_for_compiler(host: &Host) -> u32 {
    wait_for("a compiler", || compilers(host).pop())
}

fn refusal(host: &Host) -> String {
    let event = wait_for("the refusal", || host.events("a handler was refused").pop());
    event["fields"]["reason"].as_str().unwrap().to_owned()
}

/// Fails unless events whose messages start like this are in the log, each before the next one.
fn assert_logged_in_order(host: &Host, messages: &[&str]) {
    let all = host.events("");
    let mut rest = all.iter().filter_map(|event| event["fields"]["message"].as_str());
    for message in messages {
        assert!(
            rest.any(|text| text.starts_with(message)),
            "{message} of {messages:?}: {:#?}",
            host.log()
        );
    }
}

#[test]
fn a_file_that_takes_too_long_to_compile_is_refused_and_holds_nobody_up() {
    let place = Place::new();
    place.configure("[queues.in]\n");
    let host = place.start();
    host.wait_ready();
    let before = host.resources().0;
    place.install("bomb", &slow_bomb(), "[limits]\ncompile-time = \"4s\"\n");
    wait_for_compiler(&host);
    place.install("in", &forward(), GRANT);
    host.send("in", b"meanwhile");
    host.wait_empty("in");
    assert_eq!(host.take_all("out"), ["meanwhile"]);
    let reason = refusal(&host);
    assert_logged_in_order(&host, &["serving", "a handler was refused"]);
    assert!(
        reason.contains("4s of processor time (limits.compile-time)"),
        "{reason}"
    );
    let grown = host.resources().0.saturating_sub(before);
    assert!(grown < 64 * 1024, "the host has grown by {grown} KiB");
}

#[test]
fn a_file_that_takes_too_much_memory_to_compile_is_refused_by_the_name_of_the_limit() {
    let place = Place::new();
    let host = place.start();
    place.install("bomb", &bomb(4000, 2000), "[limits]\ncompile-memory = \"256MiB\"\n");
    let reason = refusal(&host);
    assert!(reason.contains("256 MiB of memory (limits.compile-memory)"), "{reason}");
}

#[test]
fn a_compiler_has_low_priority_and_no_rights_and_nothing_of_its_host() {
    let mut place = Place::new();
    place
        .environment
        .push(("SANDHOG_SECRET", "a-secret-of-the-host".to_owned()));
    place.install(
        "bomb",
        &slow_bomb(),
        "[limits]\ncompile-memory = \"1GiB\"\ncompile-time = \"77s\"\n",
    );
    let host = place.start();
    let process = PathBuf::from(format!("/proc/{}", wait_for_compiler(&host)));
    let read = |file: &str| fs::read_to_string(process.join(file)).unwrap();
    let status = read("status");
    for line in [
        "Name:\tsandhog-compile",
        "NoNewPrivs:\t1",
        "CapEff:\t0000000000000000",
        "CapPrm:\t0000000000000000",
        "Seccomp:\t2",
    ] {
        assert!(status.contains(line), "{line} is not in {status}");
    }
    let limits = read("limits");
    for (limit, value) in [
        ("Max cpu time", "77"),
        ("Max address space", "1073741824"),
        ("Max core file size", "0"),
        ("Max file size", "0"),
        ("Max open files", "6"),
    ] {
        let line = limits.lines().find_map(|line| line.strip_prefix(limit)).unwrap();
        assert_eq!(line.split_whitespace().next(), Some(value), "{limit}: {limits}");
    }
    let nice = |stat: &str| -> i32 {
        let fields = stat.rsplit_once(')').unwrap().1;
        fields.split_whitespace().nth(16).unwrap().parse().unwrap()
    };
    let (stat, own) = (read("stat"), fs::read_to_string("/proc/self/stat").unwrap());
    assert_eq!(nice(&stat), (nice(&own) + 10).min(19), "{stat}");
    // It can't be looked into, but by root.
    let Ok(environment) = fs::read_to_string(process.join("environ")) else {
        return;
    };
    let mut names: Vec<_> = environment
        .split_terminator('\0')
        .map(|variable| variable.split_once('=').unwrap().0)
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        ["MALLOC_ARENA_MAX", "MIMALLOC_ARENA_RESERVE", "RAYON_NUM_THREADS"]
    );
    let files = fs::read_dir(process.join("fd")).unwrap();
    let files: Vec<_> = files.map(|file| fs::read_link(file.unwrap().path()).unwrap()).collect();
    let pipes = files.iter().filter(|file| file.to_str().unwrap().starts_with("pipe:"));
    assert_eq!((files.len(), pipes.count()), (3, 3), "{files:?}");
    assert_eq!(fs::read_link(process.join("cwd")).unwrap(), Path::new("/"));
}

#[test]
fn a_host_that_is_killed_leaves_no_compiler_behind() {
    let place = Place::new();
    place.install("bomb", &slow_bomb(), "");
    let host = place.start();
    let compiler = wait_for_compiler(&host);
    host.kill();
    wait_for_end(compiler);
}

/// The decoder of such descriptions follows some of them without end, and overflows its stack.
#[tokio::test]
async fn a_description_of_a_world_with_any_bit_turned_around_is_the_end_of_a_compiler_at_most() {
    let bench = Bench::with(EngineOptions {
        max_live_instances: 4,
        compiler: sandhog_compiler(),
        tiers: CodeTiers::Fast,
        ..EngineOptions::default()
    });
    let wasm = no_op();
    let name = b"component-type";
    let start = wasm.windows(name.len()).rposition(|window| window == name).unwrap();
    // Two bits of each byte are enough to find some that do it.
    let flips = Mutex::new((start..wasm.len()).flat_map(|at| [(at, 1), (at, 2)]));
    let overflows = together((0..3).map(|_| async {
        let mut overflows = 0;
        loop {
            let Some((at, bit)) = flips.lock().unwrap().next() else {
                return overflows;
            };
            let mut damaged = wasm.clone();
            damaged[at] ^= bit;
            if let Err(error) = bench.load(damaged).await {
                assert!(!error.is_transient(), "bit {bit} of byte {at}: {error}");
                overflows += usize::from(error.to_string().contains("the compiler crashed on it"));
            }
        }
    }))
    .await;
    assert!(overflows.iter().sum::<usize>() > 0, "no bit does it any more");
    bench.check_neighbour().await;
}

#[tokio::test]
async fn memories_with_pages_of_another_size_are_refused() {
    let innocent = encoded(&Parts::handle("(global.get $ok)").wasm());
    let wasm = with_instances(&innocent, 1, "(module (memory 1 (pagesize 1)))", 1);
    let error = Bench::new().load(wasm).await.unwrap_err();
    assert!(
        matches!(&error, LoadError::Invalid { reason, .. } | LoadError::NotAComponent { reason, .. } if reason.contains("custom-page-sizes") || reason.contains("page size")),
        "{error}"
    );
}

#[test]
fn a_handler_that_is_removed_takes_its_compiler_with_it() {
    let place = Place::new();
    place.install("large", &large(), GRANT);
    let host = place.start();
    wait_for("its first code", || host.events("compiled (fast)").pop());
    host.wait_ready();
    let compiler = wait_for_compiler(&host);
    for file in ["large.wasm", "large.toml"] {
        fs::remove_file(place.plugin(file)).unwrap();
    }
    wait_for_end(compiler);
    assert!(host.events("compiled (optimised)").is_empty());
}

fn wait_for_end(process: u32) {
    wait_for("the end of the compiler", || {
        let status = fs::read_to_string(format!("/proc/{process}/status"));
        status.map_or(true, |status| status.contains("State:\tZ")).then_some(())
    });
}

#[test]
fn fast_code_serves_first_and_is_replaced_without_losing_a_message() {
    let place = Place::new();
    place.install("in", &large(), GRANT);
    let host = place.start();
    host.wait_ready();
    let mut sent = 0;
    while host.events("compiled (optimised)").is_empty() || sent < 100 {
        host.send("in", sent.to_string().as_bytes());
        sent += 1;
    }
    for _ in 0..100 {
        host.send("in", sent.to_string().as_bytes());
        sent += 1;
    }
    host.wait_empty("in");
    host.event("the optimised code serves from now on");
    let mut handled: Vec<u32> = host.take_all("out").iter().map(|body| body.parse().unwrap()).collect();
    handled.sort_unstable();
    assert_eq!(handled, (0..sent).collect::<Vec<u32>>());
    assert_eq!(host.events("compiled (").len(), 2, "{:#?}", host.log());
    assert_logged_in_order(&host, &["compiled (fast)", "serving", "compiled (optimised)"]);
}

#[test]
fn a_restart_compiles_nothing() {
    let place = Place::new();
    place.install("in", &forward(), GRANT);
    let host = place.start();
    wait_for("the artifact", || optimised(&place.data().join("artifacts")));
    host.terminate();
    let host = place.start();
    host.send("in", b"again");
    host.wait_empty("in");
    assert_eq!(host.take_all("out"), ["again"]);
    host.event("already compiled (optimised)");
    assert_eq!(host.events("compiled (").len(), 0, "{:#?}", host.log());
    assert_eq!(
        host.events("already compiled (optimised)").len(),
        1,
        "{:#?}",
        host.log()
    );
}

/// The optimised artifact in a directory with artifacts of one file.
fn optimised(directory: &Path) -> Option<PathBuf> {
    let mut paths = fs::read_dir(directory).ok()?.map(|entry| entry.unwrap().path());
    paths.find(|path| path.to_str().unwrap().ends_with("-optimised") && !is_functions(path))
}

/// Whether a file has the compiled functions of a handler for its next version.
fn is_functions(path: &Path) -> bool {
    path.file_name().unwrap().to_str().unwrap().starts_with("functions-")
}

/// A handler that sends the body on, with many functions, of which one is another one for each number.
fn version(number: u32) -> Vec<u8> {
    let function = |of: usize| format!("(func (param i32) (result i32) local.get 0 i32.const {of} i32.xor)");
    let functions: String = (1..500).map(function).collect();
    let own = format!("(func (param i32) (result i32) local.get 0 i32.const {number} i32.rotl)");
    handler_with(&format!("{FORWARD} (global.get $ok)"), &format!("{functions}{own}"), 16)
}

/// How many functions a handler took from its version before, for each of its compilations in a tier.
fn taken(host: &Host, file: &str) -> Vec<u64> {
    let compiled = host.events("compiled (fast)").into_iter();
    compiled
        .filter(|event| event["fields"]["file"].as_str().unwrap().ends_with(file))
        .map(|event| event["fields"]["functions_taken"].as_u64().unwrap())
        .collect()
}

#[test]
fn a_new_version_is_compiled_where_it_differs_from_the_last_and_no_handler_takes_code_of_another() {
    let place = Place::new();
    place.install("in", &version(1), GRANT);
    let host = place.start();
    host.wait_ready();
    let artifacts = place.data().join("artifacts");
    let functions = || {
        let entries = fs::read_dir(&artifacts).into_iter().flatten();
        entries
            .map(|entry| entry.unwrap().path())
            .find(|path| is_functions(path))
    };
    wait_for("the functions", functions);
    // The engine finds most functions of a version again, and which ones depends on which threads have compiled them.
    let mut number = 1;
    while taken(&host, "in.wasm").iter().sum::<u64>() == 0 {
        assert!(number < 20, "{:?}", taken(&host, "in.wasm"));
        number += 1;
        place.install("in", &version(number), GRANT);
        let compiled = || (taken(&host, "in.wasm").len() == usize::try_from(number).unwrap()).then_some(());
        wait_for("the next version", compiled);
    }
    place.install("other", &version(100), &format!("queue = \"other\"\n{GRANT}"));
    wait_for("the other handler", || taken(&host, "other.wasm").pop());
    assert_eq!(taken(&host, "other.wasm"), [0]);
    host.send("in", b"body");
    host.wait_empty("in");
    assert_eq!(host.take_all("out"), ["body"]);
}

#[tokio::test]
async fn functions_that_were_changed_are_refused_and_made_anew() {
    let workshop = Workshop::new();
    let bench = workshop.bench(CodeTiers::Optimised);
    bench.load(version(1)).await.unwrap();
    let entries = fs::read_dir(workshop.path("artifacts")).unwrap();
    let mut paths = entries.map(|entry| entry.unwrap().path());
    let functions = paths.find(|path| is_functions(path)).unwrap();
    let whole = fs::read(&functions).unwrap();
    for place in [0, whole.len() / 2, whole.len() - 1] {
        let mut spoilt = whole.clone();
        spoilt[place] ^= 1;
        fs::write(&functions, &spoilt).unwrap();
        fs::remove_file(workshop.artifact()).unwrap();
        bench.load(version(1)).await.unwrap();
        assert!(fs::read(&functions).unwrap() != spoilt);
    }
    assert_eq!(workshop.compilations(), 4);
}

/// Artifacts, and a compiler that counts how often it is called.
struct Workshop {
    directory: TempDir,
}

impl Workshop {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let workshop = Self { directory };
        let binary = sandhog_binary();
        let log = workshop.path("log");
        workshop.write_program(&format!(
            "echo $3 >> {}; exec {} \"$@\"",
            log.display(),
            binary.display()
        ));
        workshop
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    /// Another process writes it: a program that this one has open for writing, in whatever thread, can't be started.
    fn write_program(&self, commands: &str) {
        let script = format!(
            "printf '#!/bin/sh\\n%s\\n' \"$0\" > {0} && chmod 700 {0}",
            self.path("compiler").display()
        );
        let written = Command::new("sh").args(["-c", &script, commands]).status().unwrap();
        assert!(written.success());
    }

    fn bench(&self, tiers: CodeTiers) -> Bench {
        self.bench_with(self.path("compiler"), tiers)
    }

    fn bench_with(&self, program: PathBuf, tiers: CodeTiers) -> Bench {
        Bench::with(EngineOptions {
            max_live_instances: 4,
            threads: 1,
            compiler: Compiler::Process { program },
            tiers,
            artifacts: Some(self.path("artifacts")),
            ..EngineOptions::default()
        })
    }

    fn compilations(&self) -> usize {
        fs::read_to_string(self.path("log")).map_or(0, |log| log.lines().count())
    }

    fn artifact(&self) -> PathBuf {
        optimised(&self.path("artifacts")).unwrap()
    }
}

#[tokio::test]
async fn an_artifact_that_was_changed_anywhere_is_refused_and_made_anew() {
    let workshop = Workshop::new();
    let bench = workshop.bench(CodeTiers::Optimised);
    bench.load(no_op()).await.unwrap();
    bench.load(no_op()).await.unwrap();
    assert_eq!(workshop.compilations(), 1);
    let artifact = workshop.artifact();
    let whole = fs::read(&artifact).unwrap();
    let mut damaged = vec![Vec::new(), [whole.as_slice(), b"\0"].concat()];
    for step in 0..8 {
        let mut flipped = whole.clone();
        flipped[whole.len() * step / 8] ^= 1 << step;
        damaged.extend([flipped, whole[..=whole.len() * step / 8].to_vec()]);
    }
    let last = whole.len() - 1;
    let mut flipped = whole.clone();
    flipped[last] ^= 0x80;
    damaged.extend([flipped, whole[..last].to_vec()]);
    for (number, bytes) in damaged.iter().enumerate() {
        fs::write(&artifact, bytes).unwrap();
        let component = bench.load(no_op()).await.unwrap();
        assert!(!component.info.from_cache);
        assert_eq!(workshop.compilations(), number + 2, "damage {number}");
        assert_eq!(fs::read(&artifact).unwrap().len(), whole.len());
    }
    assert!(bench.load(no_op()).await.unwrap().info.from_cache);
}

/// Does something to the one artifact, and expects that it is refused and made anew.
async fn check_refused(what: &str, spoil: impl FnOnce(&Path)) {
    let workshop = Workshop::new();
    workshop.bench(CodeTiers::Optimised).load(no_op()).await.unwrap();
    let artifact = workshop.artifact();
    spoil(&artifact);
    let component = workshop.bench(CodeTiers::Optimised).load(no_op()).await.unwrap();
    assert!(!component.info.from_cache, "{what}");
    assert_eq!(workshop.compilations(), 2, "{what}");
    let metadata = fs::symlink_metadata(&artifact).unwrap();
    assert!(
        metadata.is_file() && metadata.mode() & 0o777 == 0o600,
        "{what}: {metadata:?}"
    );
    let component = workshop.bench(CodeTiers::Optimised).load(no_op()).await.unwrap();
    assert!(component.info.from_cache, "{what}");
}

#[tokio::test]
async fn an_artifact_that_is_not_of_this_host_alone_is_refused_and_made_anew() {
    let beside = |artifact: &Path| artifact.with_file_name("beside");
    check_refused("another key", |artifact| {
        fs::write(artifact.with_file_name("key"), [7; 32]).unwrap();
    })
    .await;
    check_refused("no key", |artifact| {
        fs::remove_file(artifact.with_file_name("key")).unwrap();
    })
    .await;
    check_refused("a key that others can read", |artifact| {
        let mode = fs::Permissions::from_mode(0o640);
        fs::set_permissions(artifact.with_file_name("key"), mode).unwrap();
    })
    .await;
    check_refused("readable by others", |artifact| {
        fs::set_permissions(artifact, fs::Permissions::from_mode(0o644)).unwrap();
    })
    .await;
    check_refused("a symbolic link", |artifact| {
        fs::rename(artifact, beside(artifact)).unwrap();
        symlink("beside", artifact).unwrap();
    })
    .await;
    check_refused("a second name", |artifact| {
        fs::hard_link(artifact, beside(artifact)).unwrap();
    })
    .await;
    check_refused("a pipe", |artifact| {
        fs::remove_file(artifact).unwrap();
        assert!(Command::new("mkfifo").arg(artifact).status().unwrap().success());
    })
    .await;
    check_refused("of another name", |artifact| {
        // As another file's, it is whole and signed.
        let fast = artifact.to_str().unwrap().replace("-optimised", "-fast");
        fs::rename(artifact, fast).unwrap();
    })
    .await;
    check_refused("planted", |artifact| {
        let code = wasmtime::Engine::default().precompile_component(&wat::parse_str("(component)").unwrap());
        fs::write(artifact, code.unwrap()).unwrap();
        fs::set_permissions(artifact, fs::Permissions::from_mode(0o600)).unwrap();
    })
    .await;
    // Who may not give files away can't test that, and nobody can do it to them.
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        check_refused("of another user", |artifact| {
            std::os::unix::fs::chown(artifact, Some(1), None).unwrap();
        })
        .await;
    }
}

#[tokio::test]
async fn a_directory_of_artifacts_that_others_can_write_to_is_not_used() {
    let workshop = Workshop::new();
    let directory = workshop.path("artifacts");
    fs::create_dir(&directory).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).unwrap();
    for _ in 0..2 {
        let component = workshop.bench(CodeTiers::Optimised).load(no_op()).await.unwrap();
        assert!(!component.info.from_cache);
    }
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
}

#[tokio::test]
async fn artifacts_and_their_key_are_for_the_host_alone() {
    let workshop = Workshop::new();
    workshop.bench(CodeTiers::Optimised).load(no_op()).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    let directory = workshop.path("artifacts");
    assert_eq!(mode(&directory), 0o700);
    let files: Vec<_> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(files.len(), 3, "{files:?}");
    assert!(files.iter().all(|file| mode(file) == 0o600));
}

#[tokio::test]
async fn what_is_compiled_needs_no_compiler() {
    let workshop = Workshop::new();
    let bench = workshop.bench(CodeTiers::FastThenOptimised);
    let first = bench.load(forward()).await.unwrap();
    assert!(!first.info.from_cache && first.info.compile_time > Duration::ZERO);
    wait_for("the better code", || optimised(&workshop.path("artifacts")));
    drop((first, bench));
    let bench = workshop.bench_with(PathBuf::from("/bin/false"), CodeTiers::FastThenOptimised);
    let component = bench.load(forward()).await.unwrap();
    assert!(component.info.from_cache);
    let report = bench.run(&component, &[b"body"]).await;
    assert_eq!(
        (report.verdicts.as_slice(), report.sends.len()),
        ([Verdict::Success].as_slice(), 1)
    );
    bench.load(no_op()).await.unwrap_err();
    let log = fs::read_to_string(workshop.path("log")).unwrap();
    assert_eq!(log.lines().collect::<Vec<_>>(), ["fast", "optimised"]);
}

/// What a load comes to whose compiler runs these commands.
async fn loaded_with(commands: &str) -> LoadError {
    let workshop = Workshop::new();
    workshop.write_program(commands);
    let mut bench = workshop.bench(CodeTiers::Fast);
    bench.policy.limits.compile_time = Duration::from_secs(1);
    bench.load(no_op()).await.unwrap_err()
}

#[tokio::test]
async fn a_compiler_that_crashes_refuses_the_file_and_one_that_is_killed_is_asked_again() {
    for (commands, final_, said) in [
        ("kill -SEGV $$", true, "crashed"),
        (
            "echo 'thread main has overflowed' >&2; kill -ABRT $$",
            true,
            "overflowed",
        ),
        ("echo nonsense", true, "crashed"),
        ("exit 3", true, "crashed"),
        ("cat /dev/zero", true, "crashed"),
        ("kill -XCPU $$", true, "limits.compile-time"),
        ("kill -KILL $$", false, "killed"),
    ] {
        let error = loaded_with(&format!("PATH=/bin:/usr/bin; {commands}")).await;
        assert_eq!(error.is_transient(), !final_, "{commands}: {error}");
        assert!(error.to_string().contains(said), "{commands}: {error}");
    }
}

#[tokio::test]
async fn a_compiler_that_does_nothing_is_given_up() {
    let error = loaded_with("exec /bin/sleep 1000").await;
    assert!(error.is_transient());
    assert!(error.to_string().contains("the machine is too busy"), "{error}");
}

#[tokio::test]
async fn a_load_that_is_dropped_ends_its_compiler() {
    let workshop = Workshop::new();
    let id = workshop.path("id");
    workshop.write_program(&format!("echo $$ > {}; exec /bin/sleep 1000", id.display()));
    let bench = workshop.bench(CodeTiers::Fast);
    let mut load = Box::pin(bench.load(no_op()));
    std::future::poll_fn(|cx| {
        assert!(load.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
    let process = wait_for("the compiler", || fs::read_to_string(&id).ok()?.trim().parse().ok());
    drop(load);
    wait_for_end(process);
}

#[tokio::test]
async fn the_tools_that_made_a_file_are_known() {
    let bench = Bench::with(EngineOptions {
        compiler: sandhog_compiler(),
        ..EngineOptions::default()
    });
    let made = handler_with("(global.get $ok)", r#"(@producers (language "Rust" "2024"))"#, 16);
    let info = bench.load(made).await.unwrap().info;
    assert!(info.core_module);
    assert_eq!(info.toolchain.languages, ["Rust 2024"]);
}
