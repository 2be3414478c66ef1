//! What a guest can make the host hold: memory, threads, descriptors. Each interface has its bound, and its row in a table.

use std::{collections::BTreeSet, fs, path::Path, process::Command, time::Duration};

use harness::{
    bench::Bench,
    guests::handler_in,
    interfaces::Packages,
    process::{Resources, alone},
    repository,
};
use sandhog_executor::{
    Component, Executor as _, LogStream, Verdict,
    policy::{DirGrant, HttpGrant, Reuse},
};
use tempfile::TempDir;

/// The interfaces of the table in `docs/explanation/security.md`, by its first column.
fn rows() -> BTreeSet<String> {
    let page = fs::read_to_string(repository().join("docs/explanation/security.md")).unwrap();
    let table = page.split("## What a guest can make the host hold").nth(1).unwrap();
    let table = table.split("\n## ").next().unwrap();
    let first = |line: &str| line.strip_prefix("| `")?.split(" | ").next().map(str::to_owned);
    let cells: Vec<_> = table.lines().filter_map(first).collect();
    let names = cells.iter().flat_map(|cell| cell.split('`'));
    names.filter(|name| name.contains(':')).map(str::to_owned).collect()
}

/// A new import is one more thing that a guest can make the host hold: whoever links it says in the table what bounds it.
#[tokio::test]
async fn every_interface_that_is_linked_has_its_row_in_the_table_of_bounds() {
    let mut bench = Bench::new();
    bench.policy.grants = bench.policy.grants.with_every_import();
    let (rows, mut known) = (rows(), BTreeSet::new());
    for packages in Packages::all() {
        let (listed, others): (Vec<&str>, Vec<&str>) = packages.names().partition(|name| rows.contains(*name));
        known.extend(packages.names().map(str::to_owned));
        let loaded = bench.load(packages.importing(&listed)).await;
        assert!(
            loaded.is_ok(),
            "of {listed:?} there is one that is not linked: {loaded:?}"
        );
        for other in others {
            let loaded = bench.load(packages.importing(&[other])).await;
            assert!(loaded.is_err(), "{other} is linked, and the table has no row for it");
        }
    }
    let unknown: Vec<_> = rows.difference(&known).collect();
    assert!(unknown.is_empty(), "nobody knows {unknown:?}");
}

/// A directory with some files, and a bench whose guests may read it.
struct Granted {
    directory: TempDir,
    bench: Bench,
}

impl Granted {
    fn new(files: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for number in 0..files {
            fs::write(directory.path().join(format!("file-{number}")), "text").unwrap();
        }
        let mut bench = Bench::new();
        bench.policy.grants.dirs = vec![grant(directory.path())];
        Self { directory, bench }
    }

    /// The number that a guest answers with, as the delay of a retry.
    async fn answer(&self, wasm: Vec<u8>) -> u64 {
        let component = self.bench.load(wasm).await.unwrap();
        answer(&self.bench, &component).await
    }

    /// What the host said about it.
    fn notes(&self) -> Vec<String> {
        let lines = self.bench.lines.lock().unwrap();
        let by_host = lines.iter().filter(|line| line.stream == LogStream::Host);
        by_host.map(|line| line.text.clone()).collect()
    }
}

fn grant(directory: &Path) -> DirGrant {
    DirGrant {
        host: directory.to_owned(),
        guest: "/data".to_owned(),
        write: true,
    }
}

async fn answer(bench: &Bench, component: &Component) -> u64 {
    let report = bench.run(component, &[b"body"]).await;
    match report.verdicts.as_slice() {
        [Verdict::Failed(failure)] if failure.retry_after.is_some() => failure.retry_after.unwrap().as_secs(),
        other => panic!("{other:?}"),
    }
}

const TYPES: &str = "wasi:filesystem/types@0.2";
const PREOPENS: &str = "wasi:filesystem/preopens@0.2";
const STREAMS: &str = "wasi:io/streams@0.2";

/// A guest of `wasi:filesystem` 0.2: `$dir` is the granted directory, the text `.` is at 600, answers are left at 520.
fn files(handle: &str) -> Vec<u8> {
    let packages = Packages::with(TYPES);
    let (types, preopens, streams) = (packages.id(TYPES), packages.id(PREOPENS), packages.id(STREAMS));
    let imports = format!(
        r#"(import "{preopens}" "get-directories" (func $get-directories (param i32)))
        (import "{types}" "[method]descriptor.open-at" (func $open (param i32 i32 i32 i32 i32 i32 i32)))
        (import "{types}" "[method]descriptor.create-directory-at" (func $create (param i32 i32 i32 i32)))
        (import "{types}" "[method]descriptor.read-directory" (func $read-directory (param i32 i32)))
        (import "{types}" "[method]directory-entry-stream.read-directory-entry" (func $next (param i32 i32)))
        (import "{types}" "[method]descriptor.read-via-stream" (func $read-stream (param i32 i64 i32)))
        (import "{types}" "[method]descriptor.write-via-stream" (func $write-stream (param i32 i64 i32)))
        (import "{streams}" "[method]output-stream.write" (func $write (param i32 i32 i32 i32)))"#
    );
    let handle = format!(
        "(local $dir i32) (local $n i32) (local $stream i32)
        (call $get-directories (i32.const 512))
        (local.set $dir (i32.load (i32.load (i32.const 512))))
        (i32.store8 (i32.const 600) (i32.const 46))
        {handle}"
    );
    packages.handler(&[TYPES, PREOPENS, STREAMS], &imports, &handle)
}

/// Does something until it fails, at most 600 times, and answers how often it did and which error it got, 64 errors for each.
fn until_it_fails(what: &str) -> String {
    format!(
        "(loop $more
            {what}
            (if (i32.load8_u (i32.const 520)) (then
                (return (call $fail (i32.const 1) (i32.const 272) (i32.const 7)
                    (i32.add (i32.mul (local.get $n) (i32.const 64)) (i32.load8_u (i32.const 524)))))))
            (br_if $more (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 600))))
        (call $fail (i32.const 1) (i32.const 272) (i32.const 7) (i32.mul (local.get $n) (i32.const 64)))"
    )
}

const OPEN: &str = "(call $open (local.get $dir) (i32.const 0) (i32.const 600) (i32.const 1) (i32.const 2) (i32.const 1) (i32.const 520))";
const READ_DIRECTORY: &str = "(call $read-directory (local.get $dir) (i32.const 520))";
const QUOTA: u64 = 6;
const NAME_TOO_LONG: u64 = 18;

/// `limits.handles` is above what many systems give a whole process: one attempt took the host's last descriptor.
#[tokio::test]
async fn a_guest_has_no_more_files_open_than_its_limit() {
    let mut granted = Granted::new(3);
    // Its granted directory is one of them.
    granted.bench.policy.limits.open_files = 10;
    for what in [OPEN, READ_DIRECTORY] {
        assert_eq!(
            granted.answer(files(&until_it_fails(what))).await,
            10 * 64 + QUOTA,
            "{what}"
        );
        let notes = granted.notes();
        assert!(notes.iter().any(|note| note.contains("limits.open-files")), "{notes:?}");
    }
}

/// Each stream of a file has a buffer in the host.
#[tokio::test]
async fn a_stream_of_a_file_counts_as_open() {
    let mut granted = Granted::new(3);
    granted.bench.policy.limits.open_files = 10;
    let opened = "(i32.store8 (i32.const 600) (i32.const 102))
        (call $open (local.get $dir) (i32.const 0) (i32.const 600) (i32.const 1) (i32.const 1) (i32.const 3) (i32.const 520))
        (if (i32.load8_u (i32.const 520)) (then unreachable))
        (local.set $dir (i32.load (i32.const 524)))";
    for stream in ["$read-stream", "$write-stream"] {
        let stream = format!("(call {stream} (local.get $dir) (i64.const 0) (i32.const 520))");
        let guest = files(&format!("{opened} {}", until_it_fails(&stream)));
        assert_eq!(granted.answer(guest).await, 9 * 64 + QUOTA, "{stream}");
    }
}

/// The engine gave whatever was written to a thread, up to 16 MiB a stream, and asked nobody.
#[tokio::test]
async fn a_guest_that_writes_more_to_a_file_than_it_was_allowed_breaks() {
    let granted = Granted::new(0);
    let guest = files(
        "(i32.store8 (i32.const 600) (i32.const 102))
        (call $open (local.get $dir) (i32.const 0) (i32.const 600) (i32.const 1) (i32.const 1) (i32.const 3) (i32.const 520))
        (call $write-stream (i32.load (i32.const 524)) (i64.const 0) (i32.const 520))
        (call $write (i32.load (i32.const 524)) (i32.const 0) (i32.const 65537) (i32.const 520))
        (global.get $ok)",
    );
    let component = granted.bench.load(guest).await.unwrap();
    let report = granted.bench.run(&component, &[b""]).await;
    let said = format!("{report:?}");
    assert!(said.contains("check-write"), "{said}");
}

#[tokio::test]
async fn a_path_longer_than_the_system_takes_is_refused_before_anything_is_done_with_it() {
    let granted = Granted::new(0);
    let create = |len: usize| {
        until_it_fails(&format!(
            "(i32.store8 (i32.const 524) (i32.const 63))
            (call $create (local.get $dir) (i32.const 8192) (i32.const {len}) (i32.const 560))
            (i32.store8 (i32.const 520) (i32.load8_u (i32.const 560)))
            (i32.store8 (i32.const 524) (i32.load8_u (i32.const 561)))"
        ))
    };
    let filled = |len: usize| {
        files(&format!(
            "(memory.fill (i32.const 8192) (i32.const 97) (i32.const {len})) {}",
            create(len)
        ))
    };
    assert_eq!(granted.answer(filled(4097)).await, NAME_TOO_LONG);
    assert_eq!(granted.answer(filled(900_000)).await, NAME_TOO_LONG);
}

/// The entries are read as the guest asks for them, and not copied into the host before.
#[tokio::test]
async fn every_entry_of_a_large_directory_comes_once() {
    let granted = Granted::new(1000);
    fs::create_dir(granted.directory.path().join("below")).unwrap();
    let guest = files(
        "(call $read-directory (local.get $dir) (i32.const 520))
        (if (i32.load8_u (i32.const 520)) (then unreachable))
        (local.set $stream (i32.load (i32.const 524)))
        (loop $more
            (call $next (local.get $stream) (i32.const 560))
            (if (i32.load8_u (i32.const 560)) (then unreachable))
            (if (i32.eqz (i32.load8_u (i32.const 564))) (then
                (return (call $fail (i32.const 1) (i32.const 272) (i32.const 7) (local.get $n)))))
            ;; Directories are 3 of the types, and count for 2000.
            (if (i32.eq (i32.load8_u (i32.const 568)) (i32.const 3)) (then
                (local.set $n (i32.add (local.get $n) (i32.const 1999)))))
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br $more))
        unreachable",
    );
    assert_eq!(granted.answer(guest).await, 3000);
}

/// An instance that was kept with what it had open went on to hold descriptors and threads while its queue was empty.
#[tokio::test]
async fn an_instance_that_has_a_file_open_is_not_kept() {
    let mut granted = Granted::new(0);
    granted.bench.policy.reuse = Some(Reuse {
        max: 100,
        idle: Duration::from_mins(10),
    });
    for (what, kept) in [("", 1), (OPEN, 0), (READ_DIRECTORY, 0)] {
        let component = granted
            .bench
            .load(files(&format!("{what} (global.get $ok)")))
            .await
            .unwrap();
        let report = granted.bench.run(&component, &[b""]).await;
        assert_eq!(report.verdicts, [Verdict::Success]);
        assert_eq!(granted.bench.executor.idle_instances(), kept, "{what}");
    }
}

/// A named pipe that nobody writes to keeps whoever opens it waiting for ever, beyond the end of his attempt.
#[test]
fn a_handler_whose_files_block_takes_no_more_threads_than_its_own() {
    alone(
        "holding::a_handler_whose_files_block_takes_no_more_threads_than_its_own",
        || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
            let mut granted = Granted::new(0);
            let pipe = granted.directory.path().join("f");
            assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
            let blocks = files(
                "(i32.store8 (i32.const 600) (i32.const 102))
                (call $open (local.get $dir) (i32.const 0) (i32.const 600) (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 520))
                (global.get $ok)",
            );
            let (blocks, good) = (granted.bench.load(blocks).await.unwrap(), granted.bench.load(files(&until_it_fails(OPEN))).await.unwrap());
            granted.bench.policy.timeout = Duration::from_millis(50);
            let before = Resources::own().threads;
            for _ in 0..20 {
                let report = granted.bench.run(&blocks, &[b""]).await;
                assert!(matches!(report.verdicts.as_slice(), [Verdict::Failed(_)]), "{report:?}");
            }
            let more = Resources::own().threads - before;
            // Eight of its own, and what the engine began meanwhile.
            assert!(more <= 12, "{more} threads wait for one handler's files");
            // Its attempts do not pile up behind those threads either.
            let mut report = granted.bench.run(&blocks, &[b""]).await;
            for _ in 0..20 {
                report = granted.bench.run(&blocks, &[b""]).await;
            }
            assert!(format!("{report:?}").contains("don't answer"), "{report:?}");
            granted.bench.policy.timeout = Duration::from_secs(20);
            assert_eq!(answer(&granted.bench, &good).await % 64, QUOTA);
        });
        },
    );
}

/// Both versions of the granted directories.
const BOTH: &str = "
    package test:guest;
    world guest {
        import wasi:filesystem/preopens@0.2.0;
        import wasi:filesystem/preopens@0.3.0;
        export sandhog:worker/handler@0.1.0;
    }
    package wasi:filesystem@0.2.0 {
        interface types { resource descriptor; }
        interface preopens {
            use types.{descriptor};
            get-directories: func() -> list<tuple<descriptor, string>>;
        }
    }
    package wasi:filesystem@0.3.0 {
        interface types { resource descriptor; }
        interface preopens {
            use types.{descriptor};
            get-directories: func() -> list<tuple<descriptor, string>>;
        }
    }";

/// In 0.3 a directory that is read, and a call that is under way, hold threads and memory of the host that nobody can bound.
#[tokio::test]
async fn granted_directories_are_there_in_wasi_0_2_only() {
    let granted = Granted::new(3);
    let old = r#"(import "wasi:filesystem/preopens@0.2.0" "get-directories" (func $old (param i32)))"#;
    let new = r#"(import "wasi:filesystem/preopens@0.3.0" "get-directories" (func $new (param i32)))"#;
    let handle = "(call $old (i32.const 512)) (call $new (i32.const 520))
        (call $fail (i32.const 1) (i32.const 272) (i32.const 7)
            (i32.add (i32.mul (i32.load (i32.const 516)) (i32.const 10)) (i32.load (i32.const 524))))";
    assert_eq!(
        granted.answer(handler_in(BOTH, &format!("{old} {new}"), handle)).await,
        10
    );
    let notes = granted.notes();
    assert!(notes.iter().any(|note| note.contains("WASI 0.2")), "{notes:?}");
    let refused = granted
        .bench
        .load(handler_in(BOTH, new, "(call $new (i32.const 512)) (global.get $ok)"))
        .await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("build it for WASI 0.2"), "{refused}");
}

/// A component may say that the descriptors of both versions are of one type. What it gets in 0.2 leads nowhere in 0.3.
#[tokio::test]
async fn a_descriptor_of_wasi_0_2_is_none_in_0_3() {
    let granted = Granted::new(3);
    let (old, new) = (Packages::with(TYPES), Packages::with("wasi:filesystem/types@0.3"));
    let text = format!(
        r#"(component
        (import "{old_types}" (instance $old (export "descriptor" (type (sub resource)))))
        (alias export $old "descriptor" (type $descriptor))
        (import "{old_preopens}" (instance $preopens
            (alias outer 1 $descriptor (type $outer))
            (export "descriptor" (type $d (eq $outer)))
            (export "get-directories" (func (result (list (tuple (own $d) string)))))))
        (import "{new_types}" (instance $new
            (alias outer 1 $descriptor (type $outer))
            (export "descriptor" (type $d (eq $outer)))
            (type $code' (variant (case "access") (case "already") (case "bad-descriptor") (case "busy") (case "deadlock")
                (case "quota") (case "exist") (case "file-too-large") (case "illegal-byte-sequence") (case "in-progress")
                (case "interrupted") (case "invalid") (case "io") (case "is-directory") (case "loop") (case "too-many-links")
                (case "message-size") (case "name-too-long") (case "no-device") (case "no-entry") (case "no-lock")
                (case "insufficient-memory") (case "insufficient-space") (case "not-directory") (case "not-empty")
                (case "not-recoverable") (case "unsupported") (case "no-tty") (case "no-such-device") (case "overflow")
                (case "not-permitted") (case "pipe") (case "read-only") (case "invalid-seek") (case "text-file-busy")
                (case "cross-device") (case "other" (option string))))
            (export "error-code" (type $code (eq $code')))
            (export "[method]descriptor.create-directory-at" (func async (param "self" (borrow $d)) (param "path" string)
                (result (result (error $code)))))))
        (core module $memory (memory (export "memory") 1)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
        (core instance $memory (instantiate $memory))
        (alias core export $memory "memory" (core memory $m))
        (alias core export $memory "realloc" (core func $realloc))
        (core func $get (canon lower (func $preopens "get-directories") (memory $m) (realloc (func $realloc))))
        (core func $create (canon lower (func $new "[method]descriptor.create-directory-at") async (memory $m) (realloc (func $realloc))))
        (core module $code (import "" "memory" (memory 1))
            (import "" "get" (func $get (param i32)))
            (import "" "create" (func $create (param i32 i32 i32 i32) (result i32)))
            (func (export "run") (result i32)
                (call $get (i32.const 16))
                (i32.store8 (i32.const 64) (i32.const 120))
                (drop (call $create (i32.load (i32.load (i32.const 16))) (i32.const 64) (i32.const 1) (i32.const 80)))
                (i32.const 0)))
        (core instance $code (instantiate $code (with "" (instance
            (export "memory" (memory $m)) (export "get" (func $get)) (export "create" (func $create))))))
        (func $run (result (result)) (canon lift (core func $code "run")))
        (instance $run (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $run)))"#,
        old_types = old.id(TYPES),
        old_preopens = old.id(PREOPENS),
        new_types = new.id("wasi:filesystem/types@0.3"),
    );
    let component = granted.bench.load(wat::parse_str(&text).unwrap()).await.unwrap();
    let report = granted.bench.run(&component, &[b""]).await;
    assert!(matches!(report.verdicts.as_slice(), [Verdict::Failed(_)]), "{report:?}");
    assert!(!granted.directory.path().join("x").exists());
}

/// What a guest may not connect to is no socket of the host's.
#[tokio::test]
async fn a_guest_gets_no_socket() {
    for (create, index) in [("tcp-create-socket", "tcp"), ("udp-create-socket", "udp")] {
        let name = format!("wasi:sockets/{create}@0.2");
        let packages = Packages::with(&name);
        let imports = format!(
            r#"(import "{}" "create-{index}-socket" (func $create (param i32 i32)))"#,
            packages.id(&name)
        );
        let handle = "(call $create (i32.const 0) (i32.const 520))
            (if (i32.eqz (i32.load8_u (i32.const 520))) (then unreachable))
            (global.get $ok)";
        let bench = Bench::new();
        let component = bench.load(packages.handler(&[&name], &imports, handle)).await.unwrap();
        assert_eq!(
            bench.run(&component, &[b""]).await.verdicts,
            [Verdict::Success],
            "{name}"
        );
    }
}

const HTTP: &str = "wasi:http/types@0.2";
const HTTP_03: &str = "wasi:http/types@0.3";

/// A guest that makes requests and gives each a text of so many bytes: it answers how many took it.
fn requests(set: &str, (first, len): (char, usize), count: usize) -> Vec<u8> {
    let packages = Packages::with(HTTP);
    let types = packages.id(HTTP);
    let imports = format!(
        r#"(import "{types}" "[constructor]fields" (func $fields (result i32)))
        (import "{types}" "[constructor]outgoing-request" (func $request (param i32) (result i32)))
        (import "{types}" "[method]outgoing-request.set-method" (func $method (param i32 i32 i32 i32) (result i32)))
        (import "{types}" "[method]outgoing-request.set-scheme" (func $scheme (param i32 i32 i32 i32 i32) (result i32)))
        (import "{types}" "[method]outgoing-request.set-authority" (func $authority (param i32 i32 i32 i32) (result i32)))
        (import "{types}" "[method]outgoing-request.set-path-with-query" (func $path (param i32 i32 i32 i32) (result i32)))"#
    );
    let handle = format!(
        "(local $n i32) (local $kept i32) {}",
        sets("(call $request (call $fields))", set, (first, len), count)
    );
    packages.handler(&[HTTP], &imports, &handle)
}

fn sets(request: &str, set: &str, (first, len): (char, usize), count: usize) -> String {
    format!(
        "(memory.fill (i32.const 65536) (i32.const 97) (i32.const {len}))
        (i32.store8 (i32.const 65536) (i32.const {first}))
        (loop $more
            (if (i32.eqz (call {set} {request} {cases} (i32.const 65536) (i32.const {len}))) (then
                (local.set $kept (i32.add (local.get $kept) (i32.const 1)))))
            (br_if $more (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const {count}))))
        (call $fail (i32.const 1) (i32.const 272) (i32.const 7) (local.get $kept))",
        first = u32::from(first),
        // The last case of a variant, or that there is a value.
        cases = match set {
            "$method" => "(i32.const 9)",
            "$scheme" => "(i32.const 1) (i32.const 2)",
            _ => "(i32.const 1)",
        },
    )
}

/// Which text, how it begins, and how long it may be.
const TEXTS: [(&str, char, usize); 4] = [
    ("$method", 'M', 64),
    ("$scheme", 'a', 64),
    ("$authority", 'a', 1024),
    ("$path", '/', 8192),
];

fn may_ask_nobody() -> Bench {
    let mut bench = Bench::new();
    bench.policy.grants.http = Some(HttpGrant::default());
    bench
}

#[tokio::test]
async fn a_text_of_a_request_that_is_longer_than_servers_take_it_is_refused() {
    let bench = may_ask_nobody();
    for (set, first, longest) in TEXTS {
        for (len, kept) in [(longest, 3), (longest + 1, 0), (900_000, 0)] {
            let component = bench.load(requests(set, (first, len), 3)).await.unwrap();
            assert_eq!(answer(&bench, &component).await, kept, "{set} of {len} bytes");
        }
    }
}

#[tokio::test]
async fn a_text_of_a_request_of_0_3_is_refused_as_one_of_0_2() {
    let bench = may_ask_nobody();
    let packages = Packages::with(HTTP_03);
    let types = packages.id(HTTP_03);
    let imports = format!(
        r#"(import "{types}" "[constructor]fields" (func $fields (result i32)))
        (import "{types}" "[future-new-1][static]request.new" (func $future (result i64)))
        (import "{types}" "[static]request.new" (func $new (param i32 i32 i32 i32 i32 i32 i32)))
        (import "{types}" "[method]request.set-method" (func $method (param i32 i32 i32 i32) (result i32)))
        (import "{types}" "[method]request.set-scheme" (func $scheme (param i32 i32 i32 i32 i32) (result i32)))
        (import "{types}" "[method]request.set-authority" (func $authority (param i32 i32 i32 i32) (result i32)))
        (import "{types}" "[method]request.set-path-with-query" (func $path (param i32 i32 i32 i32) (result i32)))"#
    );
    for (set, first, longest) in TEXTS {
        for (len, kept) in [(longest, 1), (longest + 1, 0), (900_000, 0)] {
            let handle = format!(
                "(local $n i32) (local $kept i32)
                (call $new (call $fields) (i32.const 0) (i32.const 0) (i32.wrap_i64 (call $future)) (i32.const 0) (i32.const 0)
                    (i32.const 560))
                {}",
                sets("(i32.load (i32.const 560))", set, (first, len), 1)
            );
            let component = bench
                .load(packages.handler(&[HTTP_03], &imports, &handle))
                .await
                .unwrap();
            assert_eq!(answer(&bench, &component).await, kept, "{set} of {len} bytes");
        }
    }
}

/// Two hundred requests with a method of nearly 1 MB each were 200 MB of the host, with a grant that reaches nothing.
#[test]
fn a_guest_with_an_empty_grant_of_http_does_not_fill_the_hosts_memory() {
    alone(
        "holding::a_guest_with_an_empty_grant_of_http_does_not_fill_the_hosts_memory",
        || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let bench = may_ask_nobody();
                for (set, first, _) in TEXTS {
                    let component = bench.load(requests(set, (first, 900_000), 200)).await.unwrap();
                    assert_eq!(answer(&bench, &component).await, 0);
                }
                let peak = Resources::peak();
                assert!(peak < 150 * 1024, "the host had {peak} KiB");
            });
        },
    );
}
