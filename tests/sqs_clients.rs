//! Any AWS SDK is a client: the programs of docs/how-to/sqs-clients.md, taken from the page and run with the variables that it
//! sets, do what the page says, on a host without a secret and on one with a secret.

use std::{
    fs,
    process::{Command, Stdio},
};

use harness::{
    host::{Host, Place},
    sqs_sdks::SqsSdk,
};
use serde_json::{Value, json};

use crate::readme::{between, blocks, page};

const SECRET: &str = "0123456789abcdef-secret";
const PAGE: &str = "docs/how-to/sqs-clients.md";

/// The part of a page below a heading.
fn section(path: &str, heading: &str) -> String {
    // The next heading ends a part; the last part ends the page.
    let page = format!("{}\n## ", page(path));
    between(&page, &format!("\n## {heading}\n"), "\n## ").to_owned()
}

/// The program below a heading: its last block.
fn program(heading: &str) -> String {
    let last = blocks(&section(PAGE, heading)).pop();
    last.unwrap_or_else(|| panic!("{heading} has no program")).text
}

/// The variables that the page sets, for a host that listens elsewhere.
fn variables(host: &Host) -> Vec<(String, String)> {
    let blocks = blocks(&section(PAGE, "Where the endpoint is, and with which key"));
    let exports = blocks.iter().find(|block| block.language == "sh").unwrap();
    let pairs = exports.text.lines().map(|line| {
        let (name, value) = line.strip_prefix("export ").unwrap().split_once('=').unwrap();
        (name.to_owned(), value.replace("http://127.0.0.1:9324", &host.url))
    });
    let pairs: Vec<_> = pairs.collect();
    assert!(pairs.iter().any(|(_, value)| *value == host.url), "{pairs:?}");
    pairs
}

/// What a client printed, or what it said when it failed.
fn run(sdk: SqsSdk, heading: &str, host: &Host, key: Option<(&str, &str)>) -> Result<String, String> {
    let place = tempfile::tempdir().unwrap();
    let mut command = sdk.command(place.path(), &program(heading));
    command.envs(variables(host));
    if let Some((access_key, secret)) = key {
        command.envs([("AWS_ACCESS_KEY_ID", access_key), ("AWS_SECRET_ACCESS_KEY", secret)]);
    }
    command.env("AWS_CONFIG_FILE", place.path().join("config"));
    said(&mut command).map_err(|why| format!("{heading}: {why}\n{:#?}", host.log()))
}

/// What a command printed. It sees no settings of the person who runs the tests but the variables that it was given.
fn said(command: &mut Command) -> Result<String, String> {
    command.env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    command.env("AWS_EC2_METADATA_DISABLED", "true");
    let output = command.stdin(Stdio::null()).output().unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    if output.status.success() {
        Ok(out)
    } else {
        Err(format!("{}\n{out}\n{err}", output.status))
    }
}

/// Messages of the queue of the page that wait or are in flight.
fn left(host: &Host) -> u64 {
    let mut answer = ureq::get(format!("{}/queues/orders", host.url))
        .header("authorization", format!("Bearer {SECRET}"))
        .call()
        .unwrap();
    let counts: Value = serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
    let count = |name: &str| counts.get(name).and_then(Value::as_u64).unwrap();
    count("ready") + count("in-flight") + count("delayed")
}

/// Runs the program below a heading on both kinds of host. It prints the body and the attribute `source`.
fn check(sdk: SqsSdk, heading: &str, source: &str) {
    for secret in [None, Some(SECRET)] {
        let mut place = Place::new();
        place
            .environment
            .extend(secret.map(|secret| ("SANDHOG_SECRET", secret.to_owned())));
        let host = place.start();
        let key = secret.map(|secret| ("sandhog", secret));
        let printed = run(sdk, heading, &host, key).unwrap_or_else(|why| panic!("{why}"));
        // The command line separates columns by tabs.
        let printed = printed.replace('\t', " ");
        let expected = format!("{{\"id\": 7}} {source}");
        let lines: Vec<_> = printed.lines().filter(|line| *line == expected).collect();
        assert_eq!(lines.len(), 1, "{heading}, secret {secret:?}: {printed}");
        assert_eq!(left(&host), 0, "{heading}: the message was not deleted");
    }
}

#[test]
fn the_python_sdk_is_a_client() {
    check(SqsSdk::Python, "Python", "python");
}

#[test]
fn the_javascript_sdk_is_a_client() {
    check(SqsSdk::JavaScript, "Node", "node");
}

#[test]
#[ignore = "a long suite: cargo suites"]
fn the_command_line_of_aws_is_a_client() {
    check(SqsSdk::CommandLine, "AWS CLI", "cli");
}

#[test]
#[ignore = "a long suite: cargo suites"]
fn the_java_sdk_is_a_client() {
    check(SqsSdk::Java, "Java", "java");
}

#[test]
#[ignore = "a long suite: cargo suites"]
fn the_first_java_sdk_is_a_client_by_the_query_protocol() {
    check(SqsSdk::Java1, "Java with version 1 of the SDK", "java-1");
}

#[test]
#[ignore = "a long suite: cargo suites"]
fn the_go_sdk_is_a_client() {
    check(SqsSdk::Go, "Go", "go");
}

#[test]
#[ignore = "a long suite: cargo suites"]
fn the_rust_sdk_is_a_client() {
    check(SqsSdk::Rust, "Rust", "rust");
}

#[test]
fn the_page_has_no_program_that_no_test_runs() {
    let languages = ["sh", "python", "js", "java", "go", "rust"];
    let blocks = blocks(&page(PAGE));
    let programs = blocks
        .iter()
        .filter(|block| languages.contains(&block.language.as_str()));
    // The variables and one program for each SDK.
    assert_eq!(programs.count(), 8);
}

#[test]
fn a_key_of_the_page_about_the_listener_may_do_what_its_rights_say() {
    let blocks = blocks(&section("docs/reference/listener.md", "Access keys"));
    let keys = blocks.iter().find(|block| block.language == "toml").unwrap();
    let place = Place::new();
    place.configure(&format!("{}\n[queues.orders]\n", keys.text));
    for (name, secret) in [("shop", "shop-0123456789abcdef"), ("deploy", "deploy-0123456789abcdef")] {
        fs::write(place.path().join(format!("{name}.key")), secret).unwrap();
    }
    let host = place.start();
    let with = |access_key, secret| run(SqsSdk::Python, "Python", &host, Some((access_key, secret)));

    let printed = with("deploy", "deploy-0123456789abcdef").unwrap();
    assert!(printed.contains("{\"id\": 7} python"), "{printed}");
    // The program begins with the creation of its queue, which the application may not do.
    let refused = with("shop", "shop-0123456789abcdef").unwrap_err();
    assert!(
        refused.contains("(AccessDenied) when calling the CreateQueue"),
        "{refused}"
    );
    let forged = with("shop", "shop-0123456789abcdeX").unwrap_err();
    assert!(forged.contains("(SignatureDoesNotMatch)"), "{forged}");
    let unknown = with("sandhog", "local").unwrap_err();
    assert!(unknown.contains("(InvalidClientTokenId)"), "{unknown}");
}

/// The block of this language on the page about Simple queues and SQS.
fn about_moving(language: &str) -> String {
    let blocks = blocks(&page("docs/how-to/simple-to-sqs.md"));
    let found = blocks.into_iter().find(|block| block.language == language);
    found.unwrap().text
}

/// Moves a queue between two hosts by the program of the page, with the profiles of the page.
fn move_queue(queue: &str, source: &Host, target: &Host) -> String {
    let place = tempfile::tempdir().unwrap();
    let profiles = about_moving("ini").replace("http://127.0.0.1:9324", &source.url);
    assert!(profiles.contains(&source.url), "{profiles}");
    // The page leaves these to the person's account.
    let keys = "aws_access_key_id = any\naws_secret_access_key = any\n";
    let profiles = format!("{profiles}endpoint_url = {}\n{keys}", target.url);
    let config = place.path().join("config");
    fs::write(&config, profiles).unwrap();
    let mut command = SqsSdk::Python.command(place.path(), &about_moving("python"));
    command
        .args([queue, "simple", "production"])
        .env("AWS_CONFIG_FILE", config);
    for name in ["AWS_ENDPOINT_URL_SQS", "AWS_ENDPOINT_URL"] {
        command.env_remove(name);
    }
    said(&mut command).unwrap_or_else(|why| panic!("{why}"))
}

#[test]
fn the_program_that_moves_messages_keeps_their_bodies_attributes_and_order() {
    let places = [Place::new(), Place::new()];
    let [source, target] = places.each_ref().map(|place| {
        place.configure("[queues.texts]\n[queues.\"steps.fifo\"]\n");
        place.start()
    });
    for step in 0..24 {
        let query = format!("group=g{}&dedup=d{step}&attr.step={step}", step % 2);
        source
            .try_send("steps.fifo", step.to_string().as_bytes(), &query)
            .unwrap();
    }
    source.try_send("texts", b"\x01\xff", "attr.kind=bytes").unwrap();

    assert_eq!(move_queue("steps.fifo", &source, &target), "24 messages moved\n");
    assert_eq!(move_queue("texts", &source, &target), "1 messages moved\n");

    let steps: Vec<u32> = target
        .take_all("steps.fifo")
        .iter()
        .map(|step| step.parse().unwrap())
        .collect();
    for group in 0..2 {
        let of_group: Vec<_> = steps.iter().copied().filter(|step| step % 2 == group).collect();
        assert_eq!(of_group, (0..12).map(|step| step * 2 + group).collect::<Vec<_>>());
    }
    let answer = target.post("/queues/texts/receive?max=10&wait=0s", &Value::Null);
    let message = answer.pointer("/messages/0").unwrap();
    assert_eq!(message.get("body-base64"), Some(&json!("Af8=")), "{answer}");
    assert_eq!(
        message.get("attributes"),
        Some(&json!({ "kind": { "text": "bytes" } })),
        "{answer}"
    );
    for queue in ["steps.fifo", "texts"] {
        assert_eq!(source.take_all(queue), Vec::<String>::new());
    }
}
