//! Consumers of SQS in other languages, each a process that empties one queue after another, with a handler that does nothing.
//!
//! What they are made of is pinned in `tests/benches/consumers/`, and installed on first use below the build directory.

use std::{
    fmt, fs,
    io::{BufRead as _, BufReader, Lines, Write as _},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use crate::{repository, sqs_client::REGION, sqs_server, toolchains};

const LEAST_NODE: u32 = 20;

/// Which consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `sqs-consumer` on Node.
    Node,
    /// A loop over boto3 in threads.
    Python,
}

/// How a consumer takes messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Ten messages go to the handler, and are deleted, at a time. Python has no other way.
    pub batch: bool,
    /// How many receive at the same time.
    pub pollers: usize,
}

impl Way {
    /// Ten messages at a time.
    pub fn with(pollers: usize) -> Self {
        Self { batch: true, pollers }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = if self.batch { "batches" } else { "single" };
        let plural = if self.pollers == 1 { "" } else { "s" };
        write!(f, "{mode}, {} poller{plural}", self.pollers)
    }
}

/// A consumer that runs, and waits for a queue. Killed when dropped.
#[derive(Debug)]
pub struct Consumer {
    kind: Kind,
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Consumer {
    /// Starts one that reads in `environment` where its server is.
    ///
    /// # Errors
    ///
    /// What this machine lacks, for whoever reads the table.
    pub fn start(kind: Kind, environment: Vec<(&'static str, String)>) -> Result<Self, String> {
        let mut command = match kind {
            Kind::Node => node()?,
            Kind::Python => python()?,
        };
        let mut child = command
            .envs(environment)
            // The one variable that boto3 reads under another name.
            .env("AWS_DEFAULT_REGION", REGION)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{command:?} did not start: {error}"))?;
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut consumer = Self {
            kind,
            child,
            input,
            output,
        };
        consumer.expect("ready");
        Ok(consumer)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Empties a queue of so many messages, and calls `done` at the last deletion; returns what that does, when the next queue
    /// may come.
    pub fn empty<T>(&mut self, way: Way, messages: usize, url: &str, done: impl FnOnce() -> T) -> T {
        let mode = if way.batch { "batch" } else { "single" };
        writeln!(self.input, "{mode} {} {messages} {url}", way.pollers).unwrap();
        self.expect("done");
        let answer = done();
        self.expect("ready");
        answer
    }

    fn expect(&mut self, word: &str) {
        let line = self.output.next().and_then(Result::ok);
        assert_eq!(line.as_deref(), Some(word), "the consumer in {:?} failed", self.kind);
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn pins() -> PathBuf {
    repository().join("tests/benches/consumers")
}

fn directory() -> PathBuf {
    toolchains::directory().with_file_name("consumers")
}

fn node() -> Result<Command, String> {
    let version = Command::new("node").arg("--version").output();
    let version = version.map_err(|error| format!("It needs Node {LEAST_NODE}, which did not start: {error}."))?;
    let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
    let major = version.trim_start_matches('v').split('.').next().unwrap_or_default();
    if major.parse::<u32>().is_ok_and(|major| major < LEAST_NODE) {
        return Err(format!(
            "It needs Node {LEAST_NODE} or a later one, and node is {version}."
        ));
    }
    let made = directory().join("node");
    toolchains::node_modules(&pins(), &made)?;
    // Node looks for modules beside the program.
    let program = made.join("consumer.mjs");
    fs::copy(pins().join("consumer.mjs"), &program).unwrap();
    let mut command = Command::new("node");
    // It says on every start until when its version is supported.
    command.arg("--no-warnings").arg(program);
    Ok(command)
}

fn python() -> Result<Command, String> {
    let requirements = pins().join("requirements.txt");
    let mut command = Command::new(sqs_server::python("python", &requirements, 10..=14, &directory())?);
    command.arg("-I").arg(pins().join("consumer.py"));
    Ok(command)
}
