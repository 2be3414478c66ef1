//! The walls between the host's packages, and those that remain inside them.
//!
//! The compiler holds the walls between packages: a name can't be used without a dependency. These tests hold the
//! manifests, so that nobody adds one by mistake, and the walls between the modules of one package.

use std::{collections::BTreeSet, process::Command};

use harness::{
    imports::{PACKAGES, PackageImports, SourceFile},
    repository,
};

/// Returns the names of all packages that `package` is built from, without those for its tests.
fn tree(package: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .current_dir(repository())
        .args([
            "tree", "--locked", "--edges", "normal", "--prefix", "none", "--target", "all",
        ])
        .args(["--format", "{p}", "--package", package])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "cargo tree --package {package}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| Some(line.split_whitespace().next()?.to_owned()))
        .collect()
}

/// Fails with each package of `banned` that `package` is built from. A name that ends in `*` stands for its prefix.
fn check_tree(package: &str, banned: &[&str]) {
    let tree = tree(package);
    assert!(tree.contains(package), "{tree:?}");
    let found: Vec<_> = tree
        .iter()
        .filter(|name| {
            banned.iter().any(|banned| match banned.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix),
                None => name == banned,
            })
        })
        .collect();
    assert!(found.is_empty(), "{package} pulls in {found:?}");
}

const ENGINE: [&str; 3] = ["wasmtime*", "cranelift*", "sandhog-executor"];
const AWS: [&str; 2] = ["aws-*", "sandhog-sqs"];
const HOST: [&str; 7] = ["sandhog", "axum", "clap", "hyper", "notify", "toml", "ureq"];
const STORE: [&str; 3] = ["rusqlite", "libsqlite3-sys", "sandhog-simple"];

#[test]
fn the_contract_of_queues_pulls_in_no_backend_and_no_engine() {
    check_tree("sandhog-queue", &[&ENGINE[..], &AWS, &HOST, &STORE].concat());
}

#[test]
fn the_durable_queue_pulls_in_no_engine_no_aws_and_no_host() {
    check_tree("sandhog-simple", &[&ENGINE[..], &AWS, &HOST].concat());
}

#[test]
fn the_queue_of_sqs_pulls_in_no_engine_no_store_and_no_host() {
    // The AWS SDK brings an HTTP client of its own.
    let host: Vec<_> = HOST.iter().copied().filter(|name| *name != "hyper").collect();
    check_tree("sandhog-sqs", &[&ENGINE[..], &STORE, &host].concat());
}

#[test]
fn the_wire_protocol_of_sqs_pulls_in_no_queue_no_runtime_and_no_server() {
    let ours = ["sandhog-queue", "sandhog-sqs", "tokio", "http", "rustls"];
    check_tree("sandhog-sqs-wire", &[&ENGINE[..], &AWS, &STORE, &HOST, &ours].concat());
}

#[test]
fn the_executor_pulls_in_no_backend_and_no_host() {
    // The executor speaks HTTP for guests, over TLS of the same library as the SDK.
    let host: Vec<_> = HOST.iter().copied().filter(|name| *name != "hyper").collect();
    let sdk = ["aws-config", "aws-sdk-*", "aws-smithy-*", "sandhog-sqs"];
    check_tree("sandhog-executor", &[&sdk[..], &STORE, &host].concat());
}

#[test]
fn the_traces_pull_in_no_queue_no_engine_and_no_host() {
    // They are exported over HTTP, over TLS of the same library as the SDK.
    let host: Vec<_> = HOST.iter().copied().filter(|name| *name != "hyper").collect();
    let others = [
        "aws-config",
        "aws-sdk-*",
        "aws-smithy-*",
        "sandhog-sqs*",
        "tonic",
        "reqwest",
    ];
    check_tree("sandhog-traces", &[&ENGINE[..], &others, &STORE, &host].concat());
}

/// Fails with each file of a package that uses `path` and lies outside `allowed`: files below `src/`, or folders that end
/// in `/`.
fn check_wall(imports: &PackageImports, path: &str, allowed: &[&str]) {
    let may = |file: &SourceFile| {
        allowed
            .iter()
            .any(|may| file.below() == *may || (may.ends_with('/') && file.below().starts_with(may)))
    };
    let over: Vec<_> = imports
        .files
        .iter()
        .filter(|file| file.names_path(path) && !may(file))
        .map(|file| file.path.as_str())
        .collect();
    assert!(over.is_empty(), "{over:?} use {path}, and only {allowed:?} may");
    assert!(
        allowed.is_empty() || imports.files.iter().any(|file| file.names_path(path)),
        "no file uses {path}: this wall guards nothing"
    );
}

#[test]
fn inside_the_durable_queue_only_one_module_knows_sqlite() {
    check_wall(&PackageImports::read("simple"), "rusqlite", &["sqlite.rs", "sqlite/"]);
}

#[test]
fn inside_the_executor_only_one_module_knows_each_tool() {
    let imports = PackageImports::read("executor");
    check_wall(&imports, "wit_component", &["wasm.rs", "wasm/"]);
    check_wall(&imports, "wasm_encoder", &["wasm.rs", "wasm/"]);
    check_wall(&imports, "tokio_rustls", &["import/http.rs", "import/http/"]);
    check_wall(&imports, "hyper", &["import/http.rs", "import/http/"]);
    check_wall(&imports, "seccompiler", &["compiler.rs", "compiler/"]);
}

#[test]
fn inside_the_host_only_the_listener_and_the_client_know_http() {
    let imports = PackageImports::read("sandhog");
    check_wall(&imports, "axum", &["admin.rs", "admin/"]);
    check_wall(&imports, "ureq", &["client.rs"]);
    check_wall(&imports, "clap", &["cli.rs", "cli/"]);
    check_wall(&imports, "toml", &["config.rs", "config/"]);
    check_wall(&imports, "multer", &["admin/ui/file_form.rs"]);
    check_wall(&imports, "sd_notify", &["supervision.rs"]);
}

#[test]
fn inside_the_traces_only_one_module_knows_the_protocol_and_one_the_network() {
    let imports = PackageImports::read("traces");
    check_wall(&imports, "prost", &["otlp.rs"]);
    check_wall(&imports, "hyper", &["collector.rs"]);
    check_wall(&imports, "hyper_util", &["collector.rs"]);
    check_wall(&imports, "tokio_rustls", &["collector.rs"]);
}

#[test]
fn only_the_configuration_reads_the_environment() {
    for folder in PACKAGES {
        let imports = PackageImports::read(folder);
        let allowed: &[&str] = if folder == "sandhog" { &["config.rs"] } else { &[] };
        check_wall(&imports, "std::env::var_os", allowed);
        check_wall(&imports, "std::env::var", &[]);
        check_wall(&imports, "std::env::vars", &[]);
    }
}

#[test]
fn what_works_on_a_message_knows_neither_the_listener_nor_the_reload_nor_the_command_line() {
    let path_of_a_message = [
        "attempt",
        "backoff",
        "dispatcher",
        "group_backlog",
        "halts",
        "pause",
        "poller",
        "runners",
        "settlement",
        "slots",
    ];
    let around = [
        "admin",
        "app",
        "cli",
        "client",
        "handler_set",
        "plugin_dir",
        "reload",
        "watcher",
    ];
    let imports = PackageImports::read("sandhog");
    let module = |file: &SourceFile| file.below().split(['/', '.']).next().unwrap_or_default().to_owned();
    let files: Vec<_> = imports
        .files
        .iter()
        .filter(|file| path_of_a_message.contains(&module(file).as_str()))
        .collect();
    assert!(files.len() >= path_of_a_message.len(), "{files:?}");
    for file in files {
        for around in around {
            let knows = file.names_path(&format!("crate::{around}"));
            assert!(!knows, "{} uses crate::{around}", file.path);
        }
    }
}

/// The circles of imports between files that are not one file and its parts, each with its one idea.
const CIRCLES: [(&str, &[&str]); 4] = [
    // The trait of queues settles with writes, and the key-value contract answers with the errors of queues.
    ("queue", &["keyvalue.rs", "lib.rs"]),
    // One handle to the store, in three files: its operations on messages, long ones, and those on values.
    ("simple", &["keyvalue.rs", "lib.rs", "long.rs"]),
    // Opening a store takes the lock of its place, whose refusals are errors of opening.
    ("simple", &["open.rs", "place.rs"]),
    // The form of a message on SQS, and the attributes in which a dead letter says where it comes from.
    ("sqs", &["form.rs", "provenance.rs"]),
];

/// Returns whether the files are one file, `name.rs`, and files in `name/`: one noun in parts.
fn is_one_noun(circle: &[String]) -> bool {
    circle.iter().any(|file| {
        let folder = file.trim_end_matches(".rs").to_owned() + "/";
        circle.iter().all(|other| other == file || other.starts_with(&folder))
    })
}

#[test]
fn only_a_file_and_its_parts_import_from_each_other_and_the_circles_that_are_stated() {
    let mut stated: Vec<_> = CIRCLES
        .iter()
        .map(|(folder, files)| (*folder, files.to_vec()))
        .collect();
    for folder in PACKAGES {
        for circle in PackageImports::read(folder).circles() {
            let is_stated = |(package, files): &(&str, Vec<&str>)| *package == folder && circle == *files;
            let found = stated.iter().position(is_stated);
            assert!(
                found.is_some() || is_one_noun(&circle),
                "host/{folder}: {circle:?} import from each other: cut the circle, or state it with its reason"
            );
            found.map(|found| stated.remove(found));
        }
    }
    assert!(stated.is_empty(), "{stated:?} are stated and are no circles");
}
