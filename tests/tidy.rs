//! The house rules that no lint knows: which module may know what, and how files look.

use std::{
    fs,
    path::{Path, PathBuf},
};

use harness::repository;

/// Every file of Rust that is ours, with its text and its path below the repository.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = ["host", "tests", "guest-sdk", "examples"]
        .iter()
        .map(|room| repository().join(room))
        .collect();
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && path.file_name().is_none_or(|name| name != "target") {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let below = path.strip_prefix(repository()).unwrap().to_str().unwrap().to_owned();
                found.push((below, fs::read_to_string(path).unwrap()));
            }
        }
    }
    assert!(found.len() > 50, "only {} files were found", found.len());
    found
}

/// Fails with every file of `room` that has `word` and is not among `allowed` (paths, or prefixes that end in `/`).
fn check_wall(room: &str, word: &str, allowed: &[&str]) {
    let may = |path: &str| {
        allowed
            .iter()
            .any(|may| path == *may || (may.ends_with('/') && path.starts_with(may)))
    };
    let over: Vec<_> = sources()
        .into_iter()
        .filter(|(path, text)| path.starts_with(room) && text.contains(word) && !may(path))
        .collect();
    let paths: Vec<_> = over.iter().map(|(path, _)| path.as_str()).collect();
    assert!(
        paths.is_empty(),
        "{word:?} is known to {paths:?}, and only {allowed:?} may know it"
    );
}

#[test]
fn only_the_executor_knows_the_engine() {
    let version = "host/src/cli/arguments.rs";
    check_wall(
        "host/",
        "wasmtime",
        &["host/src/executor/", "host/src/telemetry.rs", version],
    );
    check_wall(
        "host/",
        "wit_component",
        &["host/src/executor/wasm.rs", "host/src/executor/wasm/"],
    );
}

#[test]
fn only_one_file_knows_sqlite() {
    check_wall(
        "host/",
        "rusqlite",
        &["host/src/queue/simple/sqlite.rs", "host/src/queue/simple/sqlite/"],
    );
}

#[test]
fn only_the_sqs_queue_knows_the_aws_sdk() {
    for word in ["aws_sdk_sqs", "aws_config"] {
        check_wall("host/", word, &["host/src/queue/sqs.rs", "host/src/queue/sqs/"]);
    }
}

#[test]
fn only_the_listener_and_the_client_know_http() {
    check_wall(
        "host/",
        "axum",
        &["host/src/admin.rs", "host/src/admin/", "host/src/telemetry.rs"],
    );
    check_wall("host/", "ureq", &["host/src/client.rs", "host/src/telemetry.rs"]);
    let guests = ["host/src/executor/import/http.rs", "host/src/executor/import/http/"];
    check_wall("host/", "tokio_rustls", &guests);
    check_wall("host/", "hyper::client", &guests);
}

#[test]
fn queues_do_not_know_handlers_and_the_executor_does_not_know_leases() {
    for word in [
        "crate::executor",
        "crate::attempt",
        "crate::dispatcher",
        "crate::settlement",
    ] {
        check_wall("host/src/queue", word, &[]);
    }
    for word in [
        "crate::lease",
        "crate::queue::Queue",
        "crate::dispatcher",
        "crate::settlement",
    ] {
        check_wall("host/src/executor", word, &[]);
    }
}

#[test]
fn only_the_configuration_reads_the_environment() {
    check_wall("host/src/", "std::env::var", &["host/src/config.rs"]);
}

#[test]
fn every_file_says_what_it_is() {
    let generated = |path: &str| path.contains("/bindings/");
    let silent: Vec<_> = sources()
        .into_iter()
        .filter(|(path, text)| !generated(path) && !text.starts_with("//!") && !text.starts_with("#!["))
        .map(|(path, _)| path)
        .collect();
    assert!(silent.is_empty(), "without a header: {silent:?}");
}

#[test]
fn no_file_has_an_empty_name_or_an_unbounded_size() {
    for (path, text) in sources() {
        let stem = Path::new(&path).file_stem().unwrap().to_str().unwrap();
        assert!(
            !["util", "utils", "helpers", "common", "manager", "service", "mod"].contains(&stem),
            "{path}"
        );
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        // What is generated is as long as its interface.
        let limit = if path.contains("/bindings/") {
            4000
        } else if path.starts_with("tests/") {
            1700
        } else {
            700
        };
        assert!(
            code.lines().count() <= limit,
            "{path} has {} lines",
            code.lines().count()
        );
    }
}

#[test]
fn the_two_commands_of_the_readme_stand_alone_in_its_first_two_blocks() {
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    let blocks: Vec<_> = readme
        .split("```")
        .skip(1)
        .step_by(2)
        .take(2)
        .map(|block| block.lines().skip(1).collect::<Vec<_>>())
        .collect();
    assert_eq!(blocks, [vec!["cargo demo"], vec!["cargo test"]]);
    let ci = fs::read_to_string(repository().join(".ci/run")).unwrap();
    assert!(
        ci.lines().any(|line| line == "cargo test"),
        "the CI script runs something else"
    );
}
