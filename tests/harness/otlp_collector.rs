//! A collector of spans, built on the published definitions of the protocol: Python's package of them reads what a host exports, and
//! fails at a field that they do not have.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, OnceLock},
    thread,
};

use serde_json::Value;

use crate::{
    repository,
    toolchains::{directory, made_of, run},
    wait_for,
};

/// A collector that runs; killed when dropped.
#[derive(Debug)]
pub struct OtlpCollector {
    child: Child,
    port: u64,
    requests: Arc<Mutex<Vec<Value>>>,
}

/// Python with the definitions.
fn python() -> &'static str {
    static PYTHON: OnceLock<String> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let made = directory().join("otlp");
        made_of(&["otlp/requirements.txt"], &made, |made| {
            run(Command::new("python3").args(["-m", "venv"]).arg(made));
            run(Command::new(made.join("bin/pip"))
                .args(["install", "--quiet", "--disable-pip-version-check", "-r"])
                .arg(repository().join("tests/toolchains/otlp/requirements.txt")));
        });
        made.join("bin/python").to_str().unwrap().to_owned()
    })
}

/// The variables of a host that exports to a collector on this port of 127.0.0.1 without much delay.
pub(crate) fn environment(port: u64) -> Vec<(&'static str, String)> {
    vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{port}")),
        ("OTEL_BSP_SCHEDULE_DELAY", "20".to_owned()),
    ]
}

impl OtlpCollector {
    /// Listens on a free port of 127.0.0.1.
    pub fn start() -> Self {
        Self::busy(0)
    }

    /// Answers the first so many requests that it is busy.
    pub fn busy(requests: usize) -> Self {
        Self::on(0, requests)
    }

    /// Listens on this port of 127.0.0.1.
    pub fn on(port: u64, busy: usize) -> Self {
        let mut child = Command::new(python())
            .arg(repository().join("tests/toolchains/otlp/collector.py"))
            .args([port.to_string(), busy.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = lines.next().expect("the collector says its port").unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&requests);
        // It ends with the process.
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                taken.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            }
        });
        Self {
            child,
            port: first.parse().unwrap(),
            requests,
        }
    }

    /// The port that it listens on.
    pub fn port(&self) -> u64 {
        self.port
    }

    /// The variables of a host that exports to it without much delay.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        environment(self.port)
    }

    /// The requests that it took.
    pub fn requests(&self) -> Vec<Value> {
        self.requests.lock().unwrap().clone()
    }

    /// The spans that it took.
    pub fn spans(&self) -> Vec<Value> {
        let requests = self.requests();
        let spans = requests.iter().flat_map(|request| request["spans"].as_array().unwrap());
        spans.cloned().collect()
    }

    /// The spans of this name that it took.
    pub fn named(&self, name: &str) -> Vec<Value> {
        let mut spans = self.spans();
        spans.retain(|span| span["name"] == name);
        spans
    }

    /// Waits for a span of this name.
    pub fn span(&self, name: &str) -> Value {
        wait_for(&format!("the span {name}"), || self.named(name).pop())
    }
}

impl Drop for OtlpCollector {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
