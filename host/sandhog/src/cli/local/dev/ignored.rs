//! The files of a project that are no sources: what its tools make, and what `.gitignore` lists. Pure but for reading that file.
//!
//! Of the patterns of `.gitignore` those are understood that projects have: names, `*` and `?`, a `/` before, within and behind. A pattern
//! that is not understood ignores nothing.

use std::{fs, path::Path};

use crate::plugin_dir;

/// Names that are never sources. Builds write the files of locked versions.
const NAMES: [&str; 16] = [
    "Cargo.lock",
    "go.sum",
    "*-lock.json",
    "target",
    "node_modules",
    "venv",
    "__pycache__",
    "*.wasm",
    "*.o",
    "*.pyc",
    "*.egg-info",
    "zig-out",
    "*~",
    "#*#",
    "*.tmp",
    "4913",
];
/// The folder with the messages, which is watched whatever `.gitignore` says.
pub(super) const INPUT: &str = "input";

/// The patterns of one project.
#[derive(Debug)]
pub(super) struct Ignored(Vec<Pattern>);

#[derive(Debug)]
struct Pattern {
    /// Compared with the whole path, or else with the name.
    is_anchored: bool,
    directories_only: bool,
    text: String,
}

impl Ignored {
    /// Reads the patterns of a project.
    pub(super) fn of(directory: &Path) -> Self {
        Self::new(&fs::read_to_string(directory.join(".gitignore")).unwrap_or_default())
    }

    fn new(gitignore: &str) -> Self {
        let lines = gitignore.lines().map(str::trim);
        let patterns = lines.filter(|line| !line.is_empty() && !line.starts_with(['#', '!']));
        Self(NAMES.into_iter().chain(patterns).map(Pattern::new).collect())
    }

    /// Returns whether a path, relative to the project, is no source.
    pub(super) fn matches(&self, below: &Path, is_directory: bool) -> bool {
        if below.starts_with(INPUT) {
            return is_hidden(below);
        }
        is_hidden(below) || self.0.iter().any(|pattern| pattern.matches(below, is_directory))
    }
}

/// Returns whether the last name of the path is hidden.
pub(super) fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(plugin_dir::is_hidden)
}

impl Pattern {
    fn new(line: &str) -> Self {
        let text = line.strip_prefix("**/").unwrap_or(line);
        let directories_only = text.ends_with('/');
        let text = text.trim_end_matches('/');
        Self {
            is_anchored: text.contains('/'),
            directories_only,
            text: text.trim_start_matches('/').to_owned(),
        }
    }

    fn matches(&self, below: &Path, is_directory: bool) -> bool {
        let text = if self.is_anchored {
            below.to_str()
        } else {
            below.file_name().and_then(|name| name.to_str())
        };
        (is_directory || !self.directories_only) && text.is_some_and(|text| fits(self.text.as_bytes(), text.as_bytes()))
    }
}

/// Returns whether a text fits a pattern, in which `*` stands for any characters and `?` for one, but neither for a `/`.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => {
            let end = text.iter().position(|byte| *byte == b'/').unwrap_or(text.len());
            (0..=end).any(|skipped| text.get(skipped..).is_some_and(|text| fits(rest, text)))
        }
        ([b'?', pattern @ ..], [byte, text @ ..]) => *byte != b'/' && fits(pattern, text),
        ([expected, pattern @ ..], [byte, text @ ..]) => expected == byte && fits(pattern, text),
        ([], _) | (_, []) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_build_leaves_is_no_source() {
        let ignored = Ignored::new("/built\nout/\n# comment\n!kept.log\n*.log\ndocs/*.html\n**/deep\n");
        let check = |path: &str, is_directory, expected| {
            assert_eq!(ignored.matches(Path::new(path), is_directory), expected, "{path}");
        };
        check("target", true, true);
        check("a/node_modules", true, true);
        check("a.wasm", false, true);
        check(".git", true, true);
        check("built", true, true);
        check("src/built", true, false);
        check("out", false, false);
        check("a/out", true, true);
        check("a/b.log", false, true);
        check("docs/a.html", false, true);
        check("docs/a/b.html", false, false);
        check("a/deep", true, true);
        check("src/lib.rs", false, false);
        check("Cargo.toml", false, false);
    }

    #[test]
    fn a_message_is_watched_whatever_its_name() {
        let ignored = Ignored::new("*.json\ninput/\n");
        assert!(!ignored.matches(Path::new("input"), true));
        assert!(!ignored.matches(Path::new("input/a.json"), false));
        assert!(ignored.matches(Path::new("input/.a.json.swp"), false));
    }
}
