//! The SDKs and the examples in other languages than Rust: their own tests, run by their languages' own tools, and what the
//! examples do on a running host, built as their READMEs say.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "what is not as expected fails the test"
)]

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fs,
    iter::repeat_n,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use harness::{
    bench::Bench,
    built::{order, orders},
    host::{Host, Place},
    http_server::HttpServer,
    repository, sandhog_binary,
    toolchains::{copied, node, run, shell},
};
use sandhog_executor::Verdict;
use sandhog_queue::message::{MAX_BODY_BYTES, QueueName};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Copies of some directories of the repository, where they are in it relative to each other.
fn copies(directories: &[&str]) -> TempDir {
    let place = tempfile::tempdir().unwrap();
    for directory in directories {
        copied(&repository().join(directory), &place.path().join(directory));
    }
    place
}

/// What a command that has to succeed says.
fn said(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{command:?}: {}\n{text}", output.status);
    text
}

/// The number that follows a text in what was said.
fn number_after(said: &str, text: &str) -> u32 {
    let rest = said.split_once(text).map(|(_, rest)| rest);
    let number = rest.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.unwrap_or_else(|| panic!("no number after {text:?}: {said}"))
}

#[test]
fn the_sdk_for_javascript_passes_its_own_tests() {
    let place = copies(&["guest-sdk/js"]);
    let sdk = place.path().join("guest-sdk/js");
    symlink(node().join("node_modules"), sdk.join("node_modules")).unwrap();
    let said = said(shell(&sdk, "npm test").env("NODE_OPTIONS", "--test-reporter=tap"));
    assert!(number_after(&said, "# pass ") > 10, "{said}");
    assert_eq!(number_after(&said, "# skipped "), 0, "{said}");
}

#[test]
fn the_sdk_for_python_passes_its_own_tests() {
    let place = copies(&["guest-sdk/python"]);
    let sdk = place.path().join("guest-sdk/python");
    for (folder, least) in [("tests", 60), ("examples", 5)] {
        let line = format!("python -m unittest discover -s {folder}");
        let said = said(shell(&sdk, &line).env("PYTHONPATH", sdk.join("src")));
        assert!(number_after(&said, "Ran ") > least, "{said}");
        assert!(!said.contains("skipped"), "{said}");
    }
}

#[test]
fn the_sdk_for_go_passes_its_own_tests() {
    let place = copies(&["guest-sdk/go"]);
    let said = said(&mut shell(&place.path().join("guest-sdk/go"), "go test -v ./..."));
    assert!(said.matches("\n--- PASS: ").count() > 10, "{said}");
    assert!(!said.contains("--- SKIP"), "{said}");
}

#[test]
fn the_sdk_for_c_passes_its_own_tests() {
    let place = copies(&["guest-sdk/c"]);
    let line = "make SANITIZE='-fsanitize=address,undefined -fno-sanitize-recover'";
    said(&mut shell(&place.path().join("guest-sdk/c"), line));
}

#[tokio::test]
async fn a_handler_in_rust_grows_its_memory_only_for_what_does_not_fit_into_its_first_megabyte() {
    let mut bench = Bench::new();
    bench.policy.grants.send = Some([QueueName::new("invoices").unwrap()].into());
    let component = bench.load(fs::read(orders()).unwrap()).await.unwrap();
    let mut peaks = Vec::new();
    for bytes in [1 << 10, 512 << 10, MAX_BODY_BYTES] {
        let mut body = order(7);
        body.extend(repeat_n(' ', bytes - body.len()));
        let report = bench.run(&component, &[body.as_bytes()]).await;
        assert_eq!(report.verdicts, [Verdict::Success]);
        peaks.push(report.usage.memory_peak);
    }
    assert_eq!(peaks[0], peaks[1]);
    assert!(peaks[1] < peaks[2], "{peaks:?}");
}

#[test]
fn the_interface_that_an_sdk_brings_along_is_the_published_one() {
    let files = |directory: &Path| -> BTreeMap<_, _> {
        let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
        entries
            .map(|entry| (entry.file_name(), fs::read_to_string(entry.path()).unwrap()))
            .collect()
    };
    let published = files(&repository().join("wit"));
    assert!(published.len() > 3);
    for copy in ["guest-sdk/js/wit", "guest-sdk/python/src/sandhog/wit"] {
        assert!(
            files(&repository().join(copy)) == published,
            "wit/ and {copy} differ: copy wit/*.wit there"
        );
    }
}

/// An example, tested and built in a copy, with its manifest beside the component.
struct Example {
    place: TempDir,
    name: &'static str,
    file: &'static str,
}

impl Example {
    /// Runs the lines of the README; the one that tries the handler has to end with this exit code.
    fn as_its_readme_says(name: &'static str, file: &'static str, sdk: Option<&str>, verdict: i32) -> Self {
        let directory = format!("examples/{name}");
        let mut directories = vec![directory.as_str()];
        directories.extend(sdk);
        let place = copies(&directories);
        let example = Self { place, name, file };
        let readme = fs::read_to_string(example.directory().join("README.md")).unwrap();
        let block = readme.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
        let (mut tested, mut tried) = (false, false);
        for line in block.lines() {
            let mut command = shell(&example.directory(), line);
            tested |= line.contains("test");
            if line.starts_with("sandhog invoke") {
                tried = true;
                let path = path_with_sandhog(&command);
                let output = command.env("PATH", path).output().unwrap();
                let said = String::from_utf8_lossy(&output.stdout);
                assert_eq!(output.status.code(), Some(verdict), "{name}: {line}: {said}");
            } else {
                run(&mut command);
            }
        }
        assert!(tested && tried, "{name}: its README tests nothing: {block}");
        example
    }

    fn directory(&self) -> PathBuf {
        self.place.path().join("examples").join(self.name)
    }

    fn start(&self) -> (Place, Host) {
        let file = |extension: &str| self.directory().join(format!("{}.{extension}", self.file));
        let place = Place::new();
        let manifest = fs::read_to_string(file("toml")).unwrap();
        place.install(self.file, &fs::read(file("wasm")).unwrap(), &manifest);
        let host = place.start();
        host.wait_ready();
        (place, host)
    }

    /// Sends one of the example's inputs, and waits until it was handled.
    fn send(&self, host: &Host, queue: &str, input: &str) {
        host.send(queue, &fs::read(self.directory().join("input").join(input)).unwrap());
        host.wait_empty(queue);
    }
}

fn path_with_sandhog(command: &Command) -> OsString {
    let path = command
        .get_envs()
        .find_map(|(name, value)| value.filter(|_| name == "PATH"));
    let binary = sandhog_binary().parent().unwrap().to_owned();
    env::join_paths([binary].into_iter().chain(env::split_paths(path.unwrap()))).unwrap()
}

/// The reason of the only dead letter, which was rejected.
fn rejected(host: &Host, queue: &str) -> String {
    let dead = host.dead(queue);
    assert_eq!(dead.len(), 1, "{dead:?}");
    assert_eq!(dead[0]["failure"]["kind"], json!("reject"), "{dead:?}");
    dead[0]["failure"]["reason"].as_str().unwrap().to_owned()
}

#[test]
#[ignore = "a long suite: cargo suites"]
fn the_example_in_javascript_lets_through_what_fits_its_schema() {
    let example = Example::as_its_readme_says("validate-js", "validate", Some("guest-sdk/js"), 1);
    let (_place, host) = example.start();
    for input in ["signup.json", "purchase.json", "mistakes.json"] {
        example.send(&host, "validate", input);
    }
    let sent = host.take_all("valid");
    assert_eq!(sent.len(), 2, "{sent:?}");
    assert!(sent[0].contains("ada@example.com"), "{sent:?}");
    let reason = rejected(&host, "validate");
    assert!(reason.contains("/order must be >= 1"), "{reason}");
}

#[test]
#[ignore = "a long suite: cargo suites"]
fn the_example_in_python_summarises_a_table() {
    let example = Example::as_its_readme_says("summarise-py", "summarise", Some("guest-sdk/python"), 0);
    let (_place, host) = example.start();
    for input in ["stations.csv", "ragged.csv"] {
        example.send(&host, "summarise", input);
    }
    let sent = host.take_all("summaries");
    assert_eq!(sent.len(), 1, "{sent:?}");
    let summary: Value = serde_json::from_str(&sent[0]).unwrap();
    let celsius = &summary["columns"]["celsius"];
    assert_eq!(
        (&summary["rows"], &celsius["count"]),
        (&json!(4), &json!(3)),
        "{summary}"
    );
    assert_eq!(
        (&celsius["min"], &celsius["max"]),
        (&json!(-3.5), &json!(11.25)),
        "{summary}"
    );
    let reason = rejected(&host, "summarise");
    assert!(reason.starts_with("line "), "{reason}");
}

#[test]
#[ignore = "a long suite: cargo suites"]
fn the_example_in_go_renders_a_page() {
    let example = Example::as_its_readme_says("render-go", "render-go", Some("guest-sdk/go"), 0);
    let (_place, host) = example.start();
    for input in ["garden.json", "hostile.json", "nameless.json"] {
        example.send(&host, "confirmations", input);
    }
    let pages = host.take_all("pages");
    assert_eq!(pages.len(), 2, "{pages:?}");
    assert!(
        pages[0].contains("Åsa") && pages[0].contains("watering can"),
        "{}",
        pages[0]
    );
    assert!(!pages[1].contains("<script>"), "{}", pages[1]);
    let reason = rejected(&host, "confirmations");
    assert!(reason.contains("name"), "{reason}");
}

#[test]
fn the_program_among_the_examples_counts_words() {
    let example = Example::as_its_readme_says("wordcount", "wordcount", None, 0);
    let (_place, host) = example.start();
    example.send(&host, "texts", "dunes.txt");
    let counts = host.take_all("words");
    assert_eq!(counts.len(), 10, "{counts:?}");
    assert_eq!(counts[0], "7\tthe");
}

#[test]
fn the_program_in_assemblyscript_adds_up_a_table_and_says_what_is_wrong_with_another() {
    let example = Example::as_its_readme_says("tally-as", "tally", None, 0);
    let (_place, host) = example.start();
    for input in ["saturday.csv", "spoilt.csv"] {
        example.send(&host, "sales", input);
    }
    let tallies = [
        r#"{"article":"Cup","quantity":3,"cents":1350}"#,
        r#"{"article":"Bowl, 30 cm \"blue\"","quantity":1,"cents":1990}"#,
        r#"{"article":"Töpfchen","quantity":12,"cents":1188}"#,
    ];
    assert_eq!(host.take_all("tallies"), tallies);
    assert_eq!(rejected(&host, "sales"), r#"line 3: "two" is no quantity"#);
    // An error that is thrown, in the same project.
    let thrown = "if (process.argv.length > 0) throw new Error(\"no luck with \" + process.argv[0]);\n";
    fs::write(example.directory().join("assembly/thrown.ts"), thrown).unwrap();
    run(&mut shell(
        &example.directory(),
        "npx asc assembly/thrown.ts --outFile thrown.wasm",
    ));
    let place = Place::new();
    let wasm = fs::read(example.directory().join("thrown.wasm")).unwrap();
    place.install("in", &wasm, "[retry]\nmin = \"1ms\"\nmax = \"10ms\"\n");
    let host = place.start();
    host.wait_ready();
    host.send("in", b"");
    host.wait_empty("in");
    let dead = host.dead("in");
    assert_eq!(dead[0]["failure"]["kind"], json!("trap"), "{dead:?}");
    let reason = dead[0]["failure"]["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("no luck with ") && reason.ends_with(" in assembly/thrown.ts(1:30)"),
        "{reason}"
    );
}

/// Answers of a server, by their paths, and what becomes of a message whose handler asks it: nothing is left of it, or a dead letter of this
/// kind whose reason has these words.
const ANSWERS: [(&str, Option<(&str, &str)>); 6] = [
    ("/", None),
    ("/busy/1", Some(("retry", "429"))),
    ("/status/503", Some(("retry", "503"))),
    ("/status/410", Some(("reject", "410"))),
    ("/redirect//", Some(("reject", "302"))),
    ("/silent", Some(("retry", "timeout"))),
];

/// Runs an example that calls the API of this address beside a server, once for each of its answers.
fn asks_a_server(example: &Example, origin: &str, address: &str, server: &HttpServer, input: &str) {
    let place = Place::new();
    let manifest = fs::read_to_string(example.directory().join(format!("{}.toml", example.file))).unwrap();
    let wasm = fs::read(example.directory().join(format!("{}.wasm", example.file))).unwrap();
    fs::write(place.plugin("token"), "s3cret").unwrap();
    let queue = |number: usize| format!("answer-{number}");
    let queues = (0..ANSWERS.len()).map(|number| format!("[queues.{}]\nmax-receives = 1\n", queue(number)));
    place.configure(&queues.collect::<String>());
    for (number, (path, _)) in ANSWERS.iter().enumerate() {
        let of_queue = manifest
            .lines()
            .filter(|line| !line.starts_with("queue = "))
            .map(|line| format!("{line}\n"));
        let text = of_queue.collect::<String>();
        let text = text
            .replace(address, &server.url(path))
            .replace(origin, &server.url(""));
        place.install(&queue(number), &wasm, &text);
    }
    let host = place.start();
    host.wait_ready();
    let body = fs::read(example.directory().join("input").join(input)).unwrap();
    for number in 0..ANSWERS.len() {
        host.send(&queue(number), &body);
    }
    for (number, (path, failure)) in ANSWERS.iter().enumerate() {
        host.wait_empty(&queue(number));
        let dead = host.dead(&queue(number));
        match failure {
            None => assert!(dead.is_empty(), "{path}: {dead:?}"),
            Some((kind, words)) => {
                assert_eq!(dead.len(), 1, "{path}");
                assert_eq!(dead[0]["failure"]["kind"], json!(kind), "{path}: {dead:?}");
                let reason = dead[0]["failure"]["reason"].as_str().unwrap();
                assert!(reason.to_lowercase().contains(words), "{path}: {reason}");
            }
        }
    }
    // What was answered well is remembered: the second message asks nobody.
    let asked = server.requests().len();
    host.send(&queue(0), &body);
    host.wait_empty(&queue(0));
    assert_eq!((server.requests().len(), host.dead(&queue(0)).len()), (asked, 0));
    let log = host.log().join("\n");
    assert!(!log.contains("s3cret"), "{log}");
}

#[tokio::test]
#[ignore = "a long suite: cargo suites"]
async fn the_relay_of_webhooks_does_with_an_event_what_the_subscriber_answers() {
    let server = HttpServer::start().await;
    let test = move || {
        let example = Example::as_its_readme_says("relay-js", "relay", Some("guest-sdk/js"), 1);
        let address = "https://shop.example/webhooks/orders";
        asks_a_server(&example, "https://shop.example", address, &server, "paid.json");
    };
    tokio::task::spawn_blocking(test).await.unwrap();
}

#[tokio::test]
#[ignore = "a long suite: cargo suites"]
async fn the_mailer_of_invoices_does_with_an_invoice_what_the_service_answers() {
    let server = HttpServer::start().await;
    let test = move || {
        let example = Example::as_its_readme_says("mailer-go", "mailer", Some("guest-sdk/go"), 1);
        let address = "https://mail.example.com/v1/messages";
        asks_a_server(&example, "https://mail.example.com", address, &server, "spade.json");
    };
    tokio::task::spawn_blocking(test).await.unwrap();
}
