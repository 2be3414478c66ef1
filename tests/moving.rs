//! The programs of the pages about moving from other systems do what the pages say.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use harness::{
    host::{Host, Place},
    repository, sandhog_binary,
    sqs_sdks::SqsSdk,
    toolchains::{run, shell},
    wait_for,
};
use serde_json::{Value, json};

use crate::readme::{Block, blocks, page};

const LAMBDA: &str = "docs/how-to/from-lambda.md";
const CELERY: &str = "docs/how-to/from-celery.md";
const SIDEKIQ: &str = "docs/how-to/from-sidekiq.md";

/// The blocks of a page in one language.
fn programs(path: &str, language: &str) -> Vec<String> {
    let blocks = blocks(&page(path)).into_iter();
    blocks
        .filter(|block| block.language == language)
        .map(|Block { text, .. }| text)
        .collect()
}

/// What a command printed, which has to succeed.
fn said(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{command:?}: {out}\n{err}");
    out
}

/// Makes a project in this directory.
fn project(language: &str, name: &str, directory: &Path) {
    run(Command::new(sandhog_binary())
        .args(["new", language, name, "--directory"])
        .arg(directory));
}

/// Lets a host serve what a project has built, with the manifest of the page.
fn serve(place: &Place, path: &str, wasm: &Path) -> Host {
    let manifest = programs(path, "toml").concat();
    place.configure("[queues.orders]\nmax-receives = 1\n");
    place.install("orders", &fs::read(wasm).unwrap(), &manifest);
    let host = place.start();
    host.wait_ready();
    host
}

#[test]
fn a_function_of_lambda_handles_messages_behind_the_file_of_the_page() {
    let place = Place::new();
    project("javascript", "orders", place.path());
    let directory = place.path().join("orders");
    let files = programs(LAMBDA, "js");
    let [handler, function] = files.as_slice() else {
        panic!("the page has {} programs", files.len());
    };
    fs::write(directory.join("handler.js"), handler).unwrap();
    fs::write(directory.join("lambda.js"), function).unwrap();
    run(&mut shell(&directory, "npm install && npm run build"));
    let host = serve(&place, LAMBDA, &directory.join("orders.wasm"));
    host.try_send("orders", b"{\"id\": 7}", "attr.tenant=acme").unwrap();
    host.send("orders", b"no order");
    wait_for("the function to report one of them", || {
        (host.count("orders", "dead") == 1).then_some(())
    });
    host.wait_empty("orders");
    let dead = host.dead("orders");
    let reason = dead.first().and_then(|letter| letter.pointer("/failure/reason"));
    assert_eq!(reason, Some(&json!("the function reported it")), "{dead:?}");
    assert!(host.log().iter().any(|line| line.contains("order 7 for acme")));
}

/// Sends a call as the application of the page does.
fn call_as_the_application(host: &Host) {
    let programs = programs(CELERY, "python");
    let place = tempfile::tempdir().unwrap();
    let mut command = SqsSdk::Python.command(place.path(), programs.last().unwrap());
    command
        .env("AWS_ENDPOINT_URL_SQS", &host.url)
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    for (name, value) in [
        ("AWS_REGION", "us-east-1"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "any"),
        ("AWS_SECRET_ACCESS_KEY", "any"),
    ] {
        command.env(name, value);
    }
    assert_eq!(said(&mut command).trim().len(), 36, "the id of a message");
}

#[test]
fn a_call_of_a_task_is_a_message_that_the_handler_of_the_page_understands() {
    let place = Place::new();
    place.configure("[queues.orders]\n");
    let host = place.start();
    call_as_the_application(&host);
    let body = host.take_one("orders").unwrap();
    let call: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        call,
        json!({"task": "add_up", "args": [7], "kwargs": {"prices": [1, 2]}})
    );
    // The handler runs on the double of the SDK here, and as a component in the long suites.
    let here = tempfile::tempdir().unwrap();
    fs::write(here.path().join("app.py"), programs(CELERY, "python").remove(0)).unwrap();
    let check = "import json, sys; from app import handle; from sandhog.testing import message, run\n\
        done = run(handle, message(sys.argv[1])); unknown = run(handle, message(json={'task': 'x', 'args': [], 'kwargs': {}}))\n\
        print(json.dumps([done.verdict, [[sent.queue, sent.json()] for sent in done.sent], unknown.verdict, unknown.reason]))";
    let mut python = shell(here.path(), "python -c \"$1\" \"$2\"");
    python
        .args(["sh", check, &body])
        .env("PYTHONPATH", repository().join("guest-sdk/python/src"));
    let done: Value = serde_json::from_str(&said(&mut python)).unwrap();
    assert_eq!(
        done,
        json!(["success", [["totals", {"order": 7, "total": 3}]], "reject", "there is no task x"])
    );
}

#[test]
#[ignore = "a long suite: cargo suites"]
fn a_task_of_celery_is_handled_by_the_component_of_the_page() {
    let place = Place::new();
    project("python", "orders", place.path());
    let directory = place.path().join("orders");
    fs::write(directory.join("app.py"), programs(CELERY, "python").remove(0)).unwrap();
    let environment = "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt";
    run(&mut shell(&directory, environment));
    run(&mut shell(
        &directory,
        ".venv/bin/python -m sandhog build app.py -o orders.wasm",
    ));
    let host = serve(&place, CELERY, &directory.join("orders.wasm"));
    call_as_the_application(&host);
    host.wait_empty("orders");
    let sent = host.take_one("totals").unwrap();
    let sent: Value = serde_json::from_str(&sent).unwrap();
    assert_eq!(sent, json!({"order": 7, "total": 3}));
}

#[test]
fn the_requests_that_take_the_place_of_jobs_are_accepted() {
    let place = Place::new();
    place.configure("[queues.jobs]\n");
    let host = place.start();
    for line in programs(SIDEKIQ, "sh").concat().lines() {
        let line = line.replace("http://127.0.0.1:9324", &host.url);
        for _time in 0..2 {
            let answer = said(Command::new("sh").args(["-c", &line.replace("curl ", "curl -fsS ")]));
            assert!(answer.contains("\"id\""), "{line}: {answer}");
        }
    }
    // The one with a deduplication id counts once.
    assert_eq!((host.count("jobs", "delayed"), host.count("jobs", "ready")), (2, 1));
}
