//! The page of the WIT package `sandhog:worker`: each interface and each world with its comments.

use std::{fmt::Write as _, fs};

use crate::repository;

/// The files, in the order in which a reader wants them.
const FILES: [&str; 7] = [
    "world",
    "handler",
    "batch-handler",
    "async-handler",
    "types",
    "sender",
    "crash",
];
const INTRODUCTION: &str = "# The WIT package

The interfaces of [`wit/`](../../wit), which a component implements and imports. [Flavours](flavours.md) says which other contracts a component can fulfil, and
[Languages](languages.md) how the SDKs show this one.
";

/// The files of the package are all on the page.
pub(super) fn page() -> String {
    let directory = repository().join("wit");
    let count = fs::read_dir(&directory).unwrap().count();
    assert_eq!(
        count,
        FILES.len(),
        "a file of wit/ is not on the page: name it in FILES"
    );
    let mut page = INTRODUCTION.to_owned();
    for name in FILES {
        let text = fs::read_to_string(directory.join(format!("{name}.wit"))).unwrap();
        describe(&text, &mut page);
    }
    page
}

fn describe(text: &str, page: &mut String) {
    let mut comment: Vec<&str> = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(words) = line.strip_prefix("///") {
            comment.push(words.trim());
        } else if line.starts_with("package ") {
            if !comment.is_empty() {
                write!(page, "\n```wit\n{line}\n```\n\n{}\n", comment.join("\n")).unwrap();
            }
            comment.clear();
        } else if let Some(head) = line.strip_suffix(" {") {
            let (kind, name) = head.split_once(' ').unwrap();
            let body: Vec<_> = lines.by_ref().take_while(|line| *line != "}").collect();
            let comment = std::mem::take(&mut comment).join("\n");
            let source = [&[line], body.as_slice(), &["}"]].concat().join("\n");
            write!(page, "\n## The {kind} `{name}`\n\n{comment}\n\n```wit\n{source}\n```\n").unwrap();
        }
    }
}
