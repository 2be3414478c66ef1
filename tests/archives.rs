//! Each package that is published builds from its own archive, and what is installed from there has all that it needs with it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use harness::{repository, toolchains};
use serde_json::Value;
use tempfile::TempDir;

/// A call of cargo in the repository.
fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.args(arguments).current_dir(repository());
    command
}

/// The packages that are published, and the other ones.
fn packages() -> (Vec<String>, Vec<String>) {
    let output = cargo(&["metadata", "--no-deps", "--format-version", "1"])
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata.get("packages").and_then(Value::as_array).unwrap().iter();
    let is_private = |package: &&Value| package.get("publish") == Some(&serde_json::json!([]));
    let (private, public): (Vec<_>, Vec<_>) = packages.partition(is_private);
    let names = |packages: Vec<&Value>| -> Vec<String> {
        let names = packages.into_iter().filter_map(|package| package.get("name")?.as_str());
        names.map(str::to_owned).collect()
    };
    (names(public), names(private))
}

/// Makes the archives of all packages in a directory that is no part of the repository.
fn archived(place: &Path, more: &[&str]) {
    let mut command = cargo(&["package", "--workspace", "--allow-dirty", "--quiet"]);
    for private in packages().1 {
        command.args(["--exclude", &private]);
    }
    command.args(more).arg("--target-dir").arg(place);
    toolchains::run(&mut command);
}

/// The archives, unpacked beside each other.
struct Archives {
    place: TempDir,
}

impl Archives {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        archived(place.path(), &["--no-verify"]);
        let archives = place.path().join("package");
        for archive in fs::read_dir(&archives).unwrap().map(|entry| entry.unwrap().path()) {
            if archive.extension().is_some_and(|extension| extension == "crate") {
                let mut unpack = Command::new("tar");
                unpack.arg("-xzf").arg(&archive).arg("-C").arg(&archives);
                toolchains::run(&mut unpack);
            }
        }
        Self { place }
    }

    fn of(&self, package: &str) -> PathBuf {
        let found = self
            .place
            .path()
            .join(format!("package/{package}-{}", env!("CARGO_PKG_VERSION")));
        assert!(found.is_dir(), "{package} has no archive");
        found
    }
}

/// Every file below a directory, links followed, with its path in the directory.
fn files(directory: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut open = vec![directory.to_owned()];
    while let Some(inner) = open.pop() {
        for path in fs::read_dir(inner).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                open.push(path);
            } else {
                found.insert(path.strip_prefix(directory).unwrap().to_owned());
            }
        }
    }
    found
}

/// The paths that the sources of a package take into the program, as they stand there.
fn taken_in(source: &str) -> Vec<String> {
    let marks = ["include_str!(\"", "include_bytes!(\"", "#[folder = \""];
    let code = source.split("#[cfg(test)]").next().unwrap();
    let after = |mark: &'static str| {
        let parts = code.split(mark).skip(1);
        parts.map(|part| part.split('"').next().unwrap().to_owned())
    };
    marks.into_iter().flat_map(after).collect()
}

#[test]
fn an_archive_has_every_file_that_its_package_takes_in() {
    let archives = Archives::new();
    let mut seen = 0;
    for package in packages().0 {
        let archive = archives.of(&package);
        for file in files(&archive) {
            if file.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let text = fs::read_to_string(archive.join(&file)).unwrap();
            for path in taken_in(&text) {
                seen += 1;
                // A folder is named from the package's directory, a file from that of its source.
                let found = [archive.join(&path), archive.join(&file).with_file_name("").join(&path)];
                assert!(
                    found.iter().any(|path| path.exists()),
                    "{package}, {}: {path}",
                    file.display()
                );
            }
        }
        for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
            assert!(archive.join(licence).exists(), "{package} has no {licence}");
        }
    }
    assert!(seen > 10, "only {seen} files are taken in");
}

#[test]
fn the_archive_of_the_host_has_the_templates_the_sdks_and_the_interfaces() {
    let archives = Archives::new();
    let host = archives.of("sandhog");
    let templates = files(&repository().join("host/sandhog/templates"));
    let built = |path: &&PathBuf| {
        path.iter()
            .any(|part| ["target", "node_modules", "sandhog"].iter().any(|left| part == *left))
    };
    let templates: BTreeSet<_> = templates.iter().filter(|path| !built(path)).cloned().collect();
    assert_eq!(files(&host.join("templates")), templates);
    for (sdk, file) in [
        ("c", "sandhog.h"),
        ("go", "worker/worker.go"),
        ("js", "src/index.js"),
        ("js", "wit/world.wit"),
        ("python", "src/sandhog/__init__.py"),
        ("python", "src/sandhog/wit/world.wit"),
        ("rust", "src/lib.rs"),
        ("rust", "Cargo.toml.template"),
    ] {
        assert!(host.join("guest-sdk").join(sdk).join(file).is_file(), "{sdk}: {file}");
    }
    assert_eq!(
        files(&archives.of("sandhog-executor").join("wit/worker")),
        files(&repository().join("wit"))
    );
}

/// Builds 200 crates once more, because they have other features without the packages of the tests.
#[test]
#[ignore = "a long suite: cargo suites"]
fn every_package_builds_from_its_archive_and_the_program_makes_projects() {
    let place = toolchains::directory().join("archives");
    archived(&place, &[]);
    let root = tempfile::tempdir().unwrap();
    let program = place.join("debug/sandhog");
    for language in ["rust", "javascript", "python", "go", "c", "command-rust"] {
        toolchains::run(
            Command::new(&program)
                .args(["new", language, language])
                .current_dir(root.path()),
        );
    }
    assert!(root.path().join("rust/sandhog/Cargo.toml").is_file());
    assert!(root.path().join("command-rust/Cargo.toml").is_file());
}
