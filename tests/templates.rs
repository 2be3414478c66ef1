//! `sandhog new`, for every language: the project builds with the line in its README, its own test passes, and what it
//! builds handles messages on a running host; an edit goes live without a restart.

#![expect(clippy::indexing_slicing, reason = "what is not as expected fails the test")]

use std::{
    fs,
    os::unix::fs::symlink,
    path::PathBuf,
    process::{Command, Output},
};

use harness::{
    host::{Host, Place},
    http_server::HttpServer,
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
        Self::with(language, &[])
    }

    /// A project that was made with these arguments.
    fn with(language: &'static str, arguments: &[&str]) -> Self {
        let place = Place::new();
        let made = Command::new(sandhog_binary())
            .args(["new", language, NAME])
            .args(arguments)
            .arg("--directory")
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

/// A project that reaches all that `--with` knows.
fn reaching(language: &'static str) -> Project {
    Project::with(language, &["--with", "http,keyvalue", "--with", "config"])
}

/// Sees that a build and `sandhog check` have nothing to say about the grants of the manifest as the project has it.
fn grants_fit(project: &Project, built: &Output) {
    let said = [built.stdout.as_slice(), &built.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(built.status.success(), "{}: {said}", project.language);
    // The builds that look at the manifest name it where they miss a grant, or find one too many.
    let manifest = format!("{NAME}.toml");
    assert!(!said.contains(&manifest), "{}: {said}", project.language);
    let checked = project
        .place
        .command()
        .arg("check")
        .arg(project.wasm())
        .arg("--json")
        .output();
    let checked = checked.unwrap();
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{}: {said}", project.language);
    let facts: Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!(facts["warnings"], json!([]), "{}", project.language);
}

/// Builds and tests; then has a host handle an order, and the same order again, with an API in place of that of the manifest.
async fn reaches_out(mut project: Project, build: &'static str, test: &'static str) {
    let api = HttpServer::start().await;
    let origin = api.url("");
    // The server is served by this runtime, so what waits for the host must not keep its threads.
    let language = project.language;
    let sent = tokio::task::spawn_blocking(move || {
        project.place.environment.push(("API_TOKEN", "secret".to_owned()));
        let output = project.command(project.line(build)).output().unwrap();
        grants_fit(&project, &output);
        run(&mut project.command(project.line(test)));
        project.edit(&format!("{NAME}.toml"), "https://api.example.com", &origin);
        project.install(&fs::read(project.wasm()).unwrap());
        let host = project.place.start();
        host.wait_ready();
        for _delivery in 0..2 {
            host.send(NAME, orders().good.as_bytes());
            host.wait_empty(NAME);
        }
        let dead = host.dead(NAME);
        assert!(dead.is_empty(), "{}: {dead:?}", project.language);
        host.take_all("totals")
    })
    .await
    .unwrap();
    let (requests, texts) = (api.requests(), api.texts());
    assert_eq!(
        (sent.len(), requests.len()),
        (1, 1),
        "{language}: {sent:?}, {requests:?}"
    );
    assert_eq!(
        (total(&sent[0]), total(&texts[0])),
        (json!(8), json!(8)),
        "{language}: {sent:?}, {texts:?}"
    );
    let head = requests[0].to_ascii_lowercase();
    assert!(head.starts_with("post /totals http/1.1\r\n"), "{language}: {head}");
    for field in [
        "authorization: bearer secret\r\n",
        "content-type: application/json\r\n",
        "idempotency-key: ",
    ] {
        assert!(head.contains(field), "{language}: {head}");
    }
}

/// Shares what is built with the examples, the standard library above all.
fn with_target(project: Project) -> Project {
    let guests = target().join("guests");
    fs::create_dir_all(&guests).unwrap();
    symlink(guests, project.directory.join("target")).unwrap();
    project
}

/// Makes the environment of a project in Python, as its README says.
fn with_environment(project: Project) -> Project {
    let readme = fs::read_to_string(project.directory.join("README.md")).unwrap();
    let environment = readme.split("```sh\n").nth(1).unwrap().lines().next().unwrap();
    run(&mut shell(&project.directory, environment));
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
    let project = with_environment(Project::new("python"));
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

#[tokio::test]
async fn a_project_in_rust_reaches_out_as_it_was_made_to() {
    let project = with_target(reaching("rust"));
    reaches_out(project, "cargo build", "cargo test").await;
}

#[tokio::test]
async fn a_project_in_javascript_reaches_out_as_it_was_made_to() {
    let project = reaching("javascript");
    reaches_out(project, "npm install", "npm test").await;
}

#[tokio::test]
#[ignore = "a long suite: cargo suites"]
async fn a_project_in_typescript_reaches_out_as_it_was_made_to() {
    let project = reaching("typescript");
    reaches_out(project, "npm install", "npm test").await;
}

#[tokio::test]
#[ignore = "a long suite: cargo suites"]
async fn a_project_in_python_reaches_out_as_it_was_made_to() {
    let project = with_environment(reaching("python"));
    reaches_out(project, ".venv/bin/python -m sandhog", ".venv/bin/python -m unittest").await;
}

#[tokio::test]
#[ignore = "a long suite: cargo suites"]
async fn a_project_in_go_reaches_out_as_it_was_made_to() {
    let project = reaching("go");
    reaches_out(project, "GOOS=wasip1", "go test").await;
}

#[tokio::test]
async fn a_project_in_c_reaches_out_as_it_was_made_to() {
    let project = reaching("c");
    reaches_out(project, "make", "make test").await;
}

#[tokio::test]
#[ignore = "a long suite: cargo suites"]
async fn a_project_in_cpp_reaches_out_as_it_was_made_to() {
    let project = reaching("cpp");
    reaches_out(project, "make", "make test").await;
}

#[tokio::test]
#[ignore = "a long suite: cargo suites"]
async fn a_project_in_zig_reaches_out_as_it_was_made_to() {
    let project = reaching("zig");
    reaches_out(project, "make", "make test").await;
}
