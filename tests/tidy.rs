//! The house rules that no lint knows: how files look.

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
            // What lies in several rooms is a link in all but one.
            if path.is_symlink() {
                continue;
            }
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
            6000
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

#[test]
fn the_lints_of_the_host_are_those_of_the_repository_and_more() {
    let read = |path: &str| fs::read_to_string(repository().join(path)).unwrap();
    let host = read("host/clippy.toml");
    for line in read("clippy.toml").lines() {
        assert!(
            host.lines().any(|other| other == line),
            "host/clippy.toml lacks {line:?}"
        );
    }
}
