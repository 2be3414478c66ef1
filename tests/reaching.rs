//! A handler in every language calls an API, keeps state and reads its settings with nothing but the SDK, and what goes wrong has
//! the same name in each.
//!
//! The handlers are `tests/conformance/*-reaching`; each does what the words of its message say.

#![expect(clippy::indexing_slicing, reason = "what is not as expected fails the test")]

use std::{
    fs,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use harness::{
    conformance::{self, Guest},
    host::{Host, Place},
    http_server::HttpServer,
    repository,
    toolchains::rust_has_wasip2,
};
use serde_json::{Value, json};

const SECRET: &str = "s3cret-t0ken";

/// A handler of queue `in` on a host of its own, and a server that it may ask.
struct Stage {
    server: HttpServer,
    name: &'static str,
    // Before the directory that it runs in.
    host: Host,
    place: Place,
}

impl Stage {
    async fn set(guest: fn() -> Guest) -> Self {
        let server = HttpServer::start().await;
        let origin = server.url("");
        let (name, place, host) = tokio::task::spawn_blocking(move || {
            let guest = guest();
            let place = Place::new();
            place.configure("[queues.in]\nmax-receives = 1\n");
            fs::write(place.plugin("token"), SECRET).unwrap();
            let shared = place.path().join("shared");
            fs::create_dir(&shared).unwrap();
            fs::write(shared.join("greeting"), "hello").unwrap();
            let manifest = format!(
                "timeout = \"60s\"\n[grant]\nsend = [\"out\"]\nhttp = [\"{origin}\"]\nkeyvalue = true\nlog = \"trace\"\n\
                 config = {{ mode = \"fast\", token = {{ from-file = \"token\" }} }}\n\
                 env = {{ MODE = \"slow\" }}\ndirs = [{{ host = \"{}\", guest = \"/shared\" }}]\n",
                shared.display()
            );
            place.install("in", &fs::read(&guest.wasm).unwrap(), &manifest);
            let host = place.start();
            host.wait_ready();
            (guest.name, place, host)
        })
        .await
        .unwrap();
        Self {
            server,
            name,
            host,
            place,
        }
    }

    /// What the handler sends in answer to a message.
    fn answer(&self, body: &str) -> String {
        self.handle(body);
        let answers = self.host.take_all("out");
        assert_eq!(
            answers.len(),
            1,
            "{} of {body}: {answers:?}, {:?}",
            self.name,
            self.host.dead("in")
        );
        answers.into_iter().next().unwrap()
    }

    fn handle(&self, body: &str) {
        self.host.send("in", body.as_bytes());
        self.host.wait_empty("in");
    }

    /// The failure of the dead letter that this body becomes.
    fn failure(&self, body: &str) -> Value {
        let known = self.host.dead("in");
        self.handle(body);
        let mut dead = self.host.dead("in");
        dead.retain(|letter| known.iter().all(|one| one["id"] != letter["id"]));
        assert_eq!(dead.len(), 1, "{}: {dead:?}", self.name);
        dead.remove(0)["failure"].take()
    }

    #[track_caller]
    fn check(&self, body: &str, answer: &str) {
        assert_eq!(self.answer(body), answer, "{}: {body}", self.name);
    }

    fn requests(&self) {
        let url = |path: &str| self.server.url(path);
        self.check(&format!("get {}", url("/")), "200 hello");
        self.check(&format!("get {}", url("/status/503")), "503 ");
        self.check(&format!("get {}", url("/chunked/5000000")), "200 5000000");
        self.check(&format!("post {} 5000000", url("/length")), "200 5000000");
        self.check(&format!("late {} 200", url("/silent")), "timeout");
        self.check("get http://127.0.0.1:1/", "not-granted");
        self.check("get http://example.com/", "not-granted");
        self.check(&format!("many {} 100", url("/")), "100");
        // The client for Python makes one request at a time.
        if self.name != "python-reaching" {
            self.check(&format!("together {} 20", url("/")), "20");
        }
    }

    fn state(&self) {
        self.check("read a", "nothing");
        self.handle("set a one");
        self.check("read a", "one");
        let lost = self.failure("lose a two");
        assert_eq!(
            (&lost["kind"], &lost["reason"]),
            (&json!("retry"), &json!("lost")),
            "{}",
            self.name
        );
        self.check("read a", "one");
        self.check("count n", "1");
        self.check("count n", "2");
        self.check("swap a two three", "false");
        self.check("swap a one three", "true");
        self.check("swap b - first", "true");
        self.check("swap b - second", "false");
        self.check("read a", "three");
        self.check("keys a", "a");
    }

    fn settings(&self) {
        self.check("config mode", "fast");
        self.check("config nobody", "nothing");
        self.check("config token", SECRET);
        let log = self.host.log().join("\n");
        assert!(!log.contains(SECRET), "{}: {log}", self.name);
    }

    /// What the table of the documents says of this column.
    fn machine(&self, column: &str) {
        let works = |row: &str| match (cell(row, column).as_str(), self.name) {
            ("yes", _) | ("on `wasm32-wasip2`", "rust-wasip2-reaching") => true,
            ("no", _) | ("on `wasm32-wasip2`", "rust-reaching") => false,
            (other, name) => panic!("{name}: what does {other:?} in the row {row:?} mean?"),
        };
        let either = |works: bool, value: &str| if works { value } else { "nothing" }.to_owned();
        self.check("env MODE", &either(works("environment (`grant.env`)"), "slow"));
        self.check(
            "file /shared/greeting",
            &either(works("granted directories (`grant.dirs`)"), "hello"),
        );
        if works("clocks and random numbers") {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            let clock = Duration::from_millis(self.answer("clock").parse().unwrap());
            assert!(
                clock.abs_diff(now) < Duration::from_mins(10),
                "{}: {clock:?}",
                self.name
            );
            assert_ne!(self.answer("random"), self.answer("random"), "{}", self.name);
        } else {
            assert_eq!(self.failure("clock")["kind"], json!("trap"), "{}", self.name);
        }
    }

    /// The words of the crash, with nothing of the toolchain's in front of them, and its stack in one record of the log.
    fn crash(self, reason: &str) {
        let failure = self.failure("crash");
        assert_eq!(failure["kind"], json!("trap"), "{}", self.name);
        let said = failure["reason"].as_str().unwrap();
        assert!(said.starts_with(reason), "{}: {said}", self.name);
        let records = self.host.events("not handled");
        let crashes: Vec<_> = records
            .iter()
            .filter(|record| record["fields"]["reason"] == failure["reason"])
            .collect();
        assert_eq!(crashes.len(), 1, "{}: {records:?}", self.name);
        assert!(crashes[0]["fields"]["stack"].is_string(), "{}: {records:?}", self.name);
        drop(self.host.terminate());
        drop(self.place);
    }
}

/// The word in the table of `docs/reference/languages.md`.
fn cell(row: &str, column: &str) -> String {
    let page = fs::read_to_string(repository().join("docs/reference/languages.md")).unwrap();
    let table: Vec<Vec<_>> = page
        .lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let place = table[0].iter().position(|name| *name == column).unwrap();
    let row = table.iter().find(|cells| cells[0] == row).unwrap();
    row[place].to_owned()
}

async fn reaches_out(guest: fn() -> Guest, column: &'static str, crash: &'static str) {
    let stage = Stage::set(guest).await;
    // The server is served by this runtime, so what waits for the host must not keep its threads.
    tokio::task::spawn_blocking(move || {
        stage.requests();
        stage.state();
        stage.settings();
        stage.machine(column);
        stage.crash(crash);
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_handler_in_rust_reaches_out() {
    reaches_out(conformance::rust_reaching, "Rust", "told to crash").await;
}

#[tokio::test]
async fn a_handler_in_rust_for_wasip2_reaches_out() {
    if !rust_has_wasip2() {
        println!("not run: this Rust has no standard library for wasm32-wasip2");
        return;
    }
    reaches_out(conformance::rust_wasip2_reaching, "Rust", "told to crash").await;
}

#[tokio::test]
async fn a_handler_in_javascript_reaches_out() {
    reaches_out(
        conformance::javascript_reaching,
        "JavaScript, TypeScript",
        "TypeError: told to crash",
    )
    .await;
}

#[tokio::test]
async fn a_handler_in_python_reaches_out() {
    reaches_out(conformance::python_reaching, "Python", "TypeError: told to crash").await;
}

#[tokio::test]
async fn a_handler_in_go_reaches_out() {
    reaches_out(conformance::go_reaching, "Go", "panic: told to crash").await;
}

#[tokio::test]
async fn a_handler_in_c_reaches_out() {
    reaches_out(conformance::c_reaching, "C, C++, Zig", "told to crash").await;
}
