//! `sandhog new`, for every language: the project builds with the line in its README, its own test passes, and what it
//! builds handles messages on a running host; an edit goes live without a restart.

#![expect(clippy::indexing_slicing, reason = "what is not as expected fails the test")]

use std::{fs, os::unix::fs::symlink, path::PathBuf, process::Command};

use harness::{
    host::{Host, Place},
    sandhog_binary,
    toolchains::{run, rust_shell, shell},
    wait_for,
};
use sandhog_demo::guests::target;
use sandhog_executor::digest;
use serde_json::{Value, json};

const NAME: &str = "sum-up";

/// A project, made and built as its README says.
struct Project {
    language: &'static str,
    directory: PathBuf,
    /// The lines of the README's last block of commands: build, test, invoke and so on.
    lines: Vec<String>,
    place: Place,
}

impl Project {
    fn new(language: &'static str) -> Self {
        let place = Place::new();
        let made = Command::new(sandhog_binary())
            .args(["new", language, NAME, "--directory"])
            .arg(place.path())
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let directory = place.path().join(NAME);
        let readme = fs::read_to_string(directory.join("README.md")).unwrap();
        let block = readme.rsplit("```sh\n").next().unwrap();
        let lines = block.split("```").next().unwrap().lines().map(str::to_owned).collect();
        Self {
            language,
            directory,
            lines,
            place,
        }
    }

    fn line(&self, start: &str) -> &str {
        let line = self.lines.iter().find(|line| line.starts_with(start));
        line.unwrap_or_else(|| panic!("{}: no line starts with {start:?}: {:?}", self.language, self.lines))
    }

    fn command(&self, line: &str) -> Command {
        if line.contains("--target wasm32") {
            return rust_shell(&self.directory, line);
        }
        let mut command = shell(&self.directory, line);
        // A native build has nothing to do with the other.
        command.env("CARGO_TARGET_DIR", target().join("toolchains/native"));
        command
    }

    fn wasm(&self) -> PathBuf {
        self.directory.join(format!("{NAME}.wasm"))
    }

    fn build(&self, line: &str) -> Vec<u8> {
        drop(fs::remove_file(self.wasm()));
        run(&mut self.command(line));
        fs::read(self.wasm()).unwrap()
    }

    fn manifest(&self) -> String {
        fs::read_to_string(self.directory.join(format!("{NAME}.toml"))).unwrap()
    }

    fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.directory.join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{}: {file} has no {from:?}", self.language);
        fs::write(path, text.replace(from, to)).unwrap();
    }

    /// Puts the component and the manifest of the project into the plugin directory.
    fn install(&self, wasm: &[u8]) {
        self.place.install(NAME, wasm, &self.manifest());
    }
}

/// A message, and what the project makes of it.
struct Work {
    good: &'static str,
    total: Value,
    bad: &'static str,
}

fn orders() -> Work {
    Work {
        good: r#"{"id": 7, "items": [{"price": 2.5, "quantity": 2}, {"price": 1, "quantity": 3}]}"#,
        total: json!(8),
        bad: "no order",
    }
}

fn lines_of_prices() -> Work {
    Work {
        good: "2.50 2\n1 3\n",
        total: json!(8),
        bad: "no price\n",
    }
}

/// The total in a message to `totals`: the number of that name in JSON, or the last word of a line.
fn total(body: &str) -> Value {
    if let Ok(Value::Object(object)) = serde_json::from_str(body) {
        let total = object["total"].as_f64().unwrap();
        assert!(total.fract() == 0.0, "{body}");
        return json!(format!("{total:.0}").parse::<i64>().unwrap());
    }
    let number: f64 = body.split_whitespace().next_back().unwrap().parse().unwrap();
    json!(format!("{number:.0}").parse::<i64>().unwrap())
}

fn serves(host: &Host, wasm: &[u8]) {
    wait_for("the component to serve", || {
        host.get("/handlers").to_string().contains(&digest(wasm)).then_some(())
    });
}

/// Builds, tests, runs; then edits `file`, builds again, and sees the new version at work.
fn check(project: &Project, build: &str, test: &str, work: &Work, (file, from, to): (&str, &str, &str)) {
    let build = project.line(build).to_owned();
    let wasm = project.build(&build);
    run(&mut project.command(project.line(test)));
    project.install(&wasm);
    let host = project.place.start();
    host.wait_ready();
    serves(&host, &wasm);
    host.send(NAME, work.good.as_bytes());
    host.send(NAME, work.bad.as_bytes());
    host.wait_empty(NAME);
    let sent = host.take_all("totals");
    assert_eq!(sent.len(), 1, "{}: {sent:?}", project.language);
    assert_eq!(total(&sent[0]), work.total, "{}: {sent:?}", project.language);
    let dead = host.dead(NAME);
    assert_eq!(dead.len(), 1, "{}: {dead:?}", project.language);
    assert_eq!(
        dead[0]["failure"]["kind"],
        json!("reject"),
        "{}: {dead:?}",
        project.language
    );
    project.edit(file, from, to);
    let edited = project.build(&build);
    assert!(edited != wasm, "{}: the edit changed nothing", project.language);
    project.install(&edited);
    serves(&host, &edited);
    host.send(NAME, work.good.as_bytes());
    host.wait_empty(NAME);
    let sent = host.take_all("totals");
    assert_eq!(sent.len(), 1, "{}: {sent:?}", project.language);
}

/// Shares what is built with the examples, the standard library above all.
fn with_target(project: Project) -> Project {
    let guests = target().join("guests");
    fs::create_dir_all(&guests).unwrap();
    symlink(guests, project.directory.join("target")).unwrap();
    project
}

#[test]
fn a_project_in_rust_works_as_its_readme_says() {
    let edit = ("src/lib.rs", "in total", "altogether");
    let project = with_target(Project::new("rust"));
    check(&project, "cargo build", "cargo test", &orders(), edit);
}

#[test]
fn a_program_in_rust_works_as_its_readme_says() {
    let edit = ("src/main.rs", "not a price", "no price");
    let project = with_target(Project::new("command-rust"));
    check(&project, "cargo build", "cargo test", &lines_of_prices(), edit);
}

#[test]
fn a_program_in_go_works_as_its_readme_says() {
    let edit = ("main.go", "not a price", "no price");
    check(
        &Project::new("command-go"),
        "GOOS=wasip1",
        "go test",
        &lines_of_prices(),
        edit,
    );
}

#[test]
fn a_program_in_c_works_as_its_readme_says() {
    let edit = ("main.c", "not a price", "no price");
    check(
        &Project::new("command-c"),
        "make",
        "make test",
        &lines_of_prices(),
        edit,
    );
}

#[test]
fn a_program_in_zig_works_as_its_readme_says() {
    let edit = ("main.zig", "not a price", "no price");
    check(
        &Project::new("command-zig"),
        "zig build-exe",
        "zig test",
        &lines_of_prices(),
        edit,
    );
}

#[test]
fn a_project_in_javascript_works_as_its_readme_says() {
    let edit = ("handler.js", "in total", "altogether");
    check(&Project::new("javascript"), "npm install", "npm test", &orders(), edit);
}

#[test]
#[ignore = "a long suite: cargo suites"]
fn a_project_in_typescript_works_as_its_readme_says() {
    let edit = ("handler.ts", "in total", "altogether");
    check(&Project::new("typescript"), "npm install", "npm test", &orders(), edit);
}

#[test]
#[ignore = "a long suite: cargo suites"]
fn a_project_in_python_works_as_its_readme_says() {
    let project = Project::new("python");
    let readme = fs::read_to_string(project.directory.join("README.md")).unwrap();
    let environment = readme.split("```sh\n").nth(1).unwrap().lines().next().unwrap();
    run(&mut shell(&project.directory, environment));
    let edit = ("app.py", "in total", "altogether");
    check(
        &project,
        ".venv/bin/python -m sandhog",
        ".venv/bin/python -m unittest",
        &orders(),
        edit,
    );
}

#[test]
#[ignore = "a long suite: cargo suites"]
fn a_project_in_go_works_as_its_readme_says() {
    let edit = ("main.go", "in total", "altogether");
    check(&Project::new("go"), "GOOS=wasip1", "go test", &orders(), edit);
}

#[test]
fn a_project_in_c_works_as_its_readme_says() {
    let edit = ("handler.c", "in total", "altogether");
    check(&Project::new("c"), "make", "make test", &orders(), edit);
}

#[test]
#[ignore = "a long suite: cargo suites"]
fn a_project_in_cpp_works_as_its_readme_says() {
    let edit = ("handler.cpp", "in total", "altogether");
    check(&Project::new("cpp"), "make", "make test", &orders(), edit);
}

#[test]
#[ignore = "a long suite: cargo suites"]
fn a_project_in_zig_works_as_its_readme_says() {
    let edit = ("handler.zig", "in total", "altogether");
    check(&Project::new("zig"), "make", "make test", &orders(), edit);
}
