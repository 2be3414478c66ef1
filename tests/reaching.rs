//! A handler in every language calls an API, keeps state and reads its settings with nothing but the SDK, and what goes wrong has
//! the same name in each.
//!
//! The handlers are `tests/conformance/*-reaching`; each does what the words of its message say.

#![expect(clippy::indexing_slicing, reason = "what is not as expected fails the test")]

use std::fs;

use harness::{
    conformance::{self, Guest},
    host::{Host, Place},
    http_server::HttpServer,
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
            let manifest = format!(
                "timeout = \"60s\"\n[grant]\nsend = [\"out\"]\nhttp = [\"{origin}\"]\nkeyvalue = true\nlog = \"trace\"\n\
                 config = {{ mode = \"fast\", token = {{ from-file = \"token\" }} }}\n"
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

    /// The failure of the only dead letter.
    fn failure(&self, body: &str) -> Value {
        self.handle(body);
        let mut dead = self.host.dead("in");
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

    /// The words of the crash, with nothing of the toolchain's in front of them, and its stack in one record of the log.
    fn crash(self, reason: &str) {
        let before = self.host.dead("in").len();
        self.handle("crash");
        let dead = self.host.dead("in");
        assert_eq!(dead.len(), before + 1, "{}", self.name);
        let failure = dead
            .iter()
            .find(|letter| letter["failure"]["kind"] == json!("trap"))
            .unwrap();
        let said = failure["failure"]["reason"].as_str().unwrap();
        assert!(said.starts_with(reason), "{}: {said}", self.name);
        drop(self.host.terminate());
        drop(self.place);
    }
}

async fn reaches_out(guest: fn() -> Guest, crash: &'static str) {
    let stage = Stage::set(guest).await;
    // The server is served by this runtime, so what waits for the host must not keep its threads.
    tokio::task::spawn_blocking(move || {
        stage.requests();
        stage.state();
        stage.settings();
        stage.crash(crash);
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_handler_in_rust_reaches_out() {
    reaches_out(conformance::rust_reaching, "told to crash").await;
}

#[tokio::test]
async fn a_handler_in_javascript_reaches_out() {
    reaches_out(conformance::javascript_reaching, "TypeError: told to crash").await;
}

#[tokio::test]
async fn a_handler_in_python_reaches_out() {
    reaches_out(conformance::python_reaching, "TypeError: told to crash").await;
}

#[tokio::test]
async fn a_handler_in_go_reaches_out() {
    reaches_out(conformance::go_reaching, "panic: told to crash").await;
}

#[tokio::test]
async fn a_handler_in_c_reaches_out() {
    reaches_out(conformance::c_reaching, "told to crash").await;
}
