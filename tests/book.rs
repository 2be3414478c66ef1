//! The pages as a book: its list has every page, every link of a page leads somewhere, every path that a text names is there, and
//! what is made from the code is what the code makes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use harness::{
    pages::MadePage,
    repository,
    toolchains::{self, run},
};
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use tempfile::TempDir;

use crate::readme::pages;

const SUMMARY: &str = "docs/SUMMARY.md";
/// The version of mdBook that the book is built with.
const MDBOOK: &str = "0.5.4";

/// What a page links to, and where a link may lead on it.
#[derive(Debug, Default)]
struct PageLinks {
    links: Vec<String>,
    anchors: BTreeSet<String>,
}

/// The anchor of a heading, as a code host and mdBook make it.
fn anchor(heading: &str) -> String {
    let words = heading.trim().to_lowercase();
    let kept = words.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

impl PageLinks {
    fn of(page: &str) -> Self {
        let mut found = Self::default();
        let mut heading: Option<String> = None;
        let mut seen = BTreeMap::<String, u32>::new();
        for event in Parser::new_ext(page, Options::ENABLE_TABLES) {
            if let Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) = event {
                found.links.push(dest_url.into_string());
            } else if let Event::Start(Tag::Heading { .. }) = event {
                heading = Some(String::new());
            } else if let Event::Text(text) | Event::Code(text) = event {
                heading = heading.map(|heading| heading + &text);
            } else if let Event::End(TagEnd::Heading(_)) = event {
                let anchor = anchor(&heading.take().unwrap_or_default());
                let count = seen.entry(anchor.clone()).or_default();
                let anchor = if *count == 0 {
                    anchor
                } else {
                    format!("{anchor}-{count}")
                };
                *count += 1;
                found.anchors.insert(anchor);
            }
        }
        found
    }
}

/// Where the repository is published, by the package's own words.
fn published() -> String {
    let manifest = fs::read_to_string(repository().join("Cargo.toml")).unwrap();
    let line = manifest.lines().find_map(|line| line.strip_prefix("repository = \""));
    line.unwrap().trim_end_matches('"').to_owned()
}

/// The file that a link leads to, and the anchor in it; `None` for one that leaves the repository.
fn target(page: &Path, link: &str) -> Option<(PathBuf, String)> {
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let below = ["blob", "tree"]
        .iter()
        .find_map(|kind| file.strip_prefix(&format!("{}/{kind}/main/", published())));
    let path = match (below, file) {
        (Some(below), _) => repository().join(below),
        (None, file) if file.contains("://") => return None,
        (None, "") => page.to_owned(),
        (None, file) => page.parent().unwrap().join(file),
    };
    Some((path, anchor.to_owned()))
}

/// The pages that projects and packages carry, whose links lead to the published repository.
fn carried() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for room in ["host", "host/sandhog/templates"] {
        for entry in fs::read_dir(repository().join(room)).unwrap() {
            let readme = entry.unwrap().path().join("README.md");
            if let Ok(text) = fs::read_to_string(&readme) {
                found.push((readme, text));
            }
        }
    }
    found
}

#[test]
fn every_link_of_a_page_leads_somewhere() {
    let (mut lost, mut followed) = (Vec::new(), 0);
    for (path, text) in pages().into_iter().chain(carried()) {
        for link in PageLinks::of(&text).links {
            let Some((file, anchor)) = target(&path, &link) else {
                continue;
            };
            let is_there = if anchor.is_empty() {
                file.exists()
            } else {
                fs::read_to_string(&file).is_ok_and(|text| PageLinks::of(&text).anchors.contains(&anchor))
            };
            followed += 1;
            if !is_there {
                lost.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(followed > 400, "only {followed} links were found");
    assert!(lost.is_empty(), "links that lead nowhere: {lost:#?}");
}

#[test]
fn the_list_of_the_book_has_every_page_once() {
    let docs = repository().join("docs");
    let list = fs::read_to_string(repository().join(SUMMARY)).unwrap();
    let named = PageLinks::of(&list).links;
    let named: Vec<_> = named.into_iter().filter(|link| !link.is_empty()).collect();
    let once: BTreeSet<_> = named.iter().cloned().collect();
    assert_eq!(once.len(), named.len(), "{SUMMARY} names a page twice: {named:?}");
    let pages = pages().into_iter().filter_map(|(path, _)| {
        let below = path.strip_prefix(&docs).ok()?.to_str().unwrap().to_owned();
        (below != "SUMMARY.md").then_some(below)
    });
    assert_eq!(
        once,
        pages.collect(),
        "what {SUMMARY} names, and the pages that are there"
    );
}

/// The paths of pages that a text names.
fn named_pages(text: &str) -> Vec<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || "_./#-".contains(c)));
    let paths = words.map(|word| word.split_once("/main/").map_or(word, |(_, below)| below));
    let is_page = |path: &str| {
        let file = path.split('#').next().unwrap_or_default().trim_end_matches('.');
        path.starts_with("docs/")
            && !path.contains("NAME")
            && [".md", ".yml", ".json"].iter().any(|end| file.ends_with(end))
    };
    paths
        .filter(|path| is_page(path))
        .map(|path| path.trim_end_matches('.'))
        .collect()
}

#[test]
fn every_page_that_a_text_of_the_repository_names_is_there() {
    let mut open = vec![repository().to_owned()];
    let (mut lost, mut named) = (Vec::new(), 0);
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap_or_default().to_owned();
            let left_out = ["target", "node_modules", ".git", ".venv", "build"];
            if path.is_dir() && !path.is_symlink() && !left_out.contains(&name.as_str()) {
                open.push(path);
                continue;
            }
            let is_text = ["rs", "toml", "md", "yml", "txt", "json", "service"]
                .iter()
                .any(|end| path.extension().is_some_and(|extension| extension == *end));
            let Some(text) = fs::read_to_string(&path).ok().filter(|_| is_text) else {
                continue;
            };
            for page in named_pages(&text) {
                named += 1;
                let (file, anchor) = page.split_once('#').unwrap_or((page, ""));
                let there = fs::read_to_string(repository().join(file));
                if !there.is_ok_and(|text| anchor.is_empty() || PageLinks::of(&text).anchors.contains(anchor)) {
                    lost.push(format!("{}: {page}", path.display()));
                }
            }
        }
    }
    assert!(named > 60, "only {named} pages are named");
    assert!(lost.is_empty(), "pages that are not there: {lost:#?}");
}

#[test]
fn the_pages_that_are_made_from_the_code_are_what_the_code_makes() {
    for page in MadePage::all() {
        let found = page.found();
        let differs = page.text.lines().zip(found.lines()).find(|(made, found)| made != found);
        assert!(
            found == page.text,
            "{} is stale: run `cargo pages`, and commit what it writes. The first difference (made, found): {differs:?}",
            page.path
        );
    }
}

/// The program of mdBook, built once.
fn mdbook() -> PathBuf {
    let made = toolchains::directory().join(format!("mdbook-{MDBOOK}"));
    let program = made.join("bin/mdbook");
    if !program.exists() {
        let install = ["install", "mdbook", "--locked", "--version", MDBOOK, "--root"];
        run(Command::new(env!("CARGO")).args(install).arg(&made));
    }
    program
}

/// Every file of the book that is HTML.
fn built() -> (TempDir, Vec<(PathBuf, String)>) {
    let place = tempfile::tempdir().unwrap();
    let mut build = Command::new(mdbook());
    build.arg("build").arg("--dest-dir").arg(place.path()).arg(repository());
    let output = build.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("WARN"), "{said}");
    let (mut open, mut found) = (vec![place.path().to_owned()], Vec::new());
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "html") {
                found.push((path.clone(), fs::read_to_string(path).unwrap()));
            }
        }
    }
    (place, found)
}

#[test]
#[ignore = "a long suite: cargo suites"]
fn the_book_is_built_with_a_search_and_every_link_in_it_leads_somewhere() {
    let (place, pages) = built();
    assert!(pages.len() > 30, "only {} pages", pages.len());
    let mut index = fs::read_dir(place.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    assert!(index.any(|name| name.to_string_lossy().starts_with("searchindex")));
    let mut lost = Vec::new();
    for (path, text) in &pages {
        // Their links are relative to the place that the server gives them.
        if ["404.html", "toc.html"].iter().any(|name| path.ends_with(name)) {
            continue;
        }
        for link in text.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let file = if file.is_empty() {
                path.clone()
            } else {
                path.parent().unwrap().join(file)
            };
            let id = format!("id=\"{anchor}\"");
            let is_there = if anchor.is_empty() {
                file.exists()
            } else {
                fs::read_to_string(&file).is_ok_and(|text| text.contains(&id))
            };
            if !is_there {
                lost.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(lost.is_empty(), "links that lead nowhere: {lost:#?}");
}
