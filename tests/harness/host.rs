//! The real binary, running: with a directory of its own, on a port of its own, killed when dropped.

#![expect(clippy::indexing_slicing, reason = "JSON that is not as expected fails the test")]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use bytes::Bytes;
use sandhog_queue::{
    Queue as _,
    message::{Outgoing, QueueName},
};
use sandhog_simple::{SimpleStore, StoreOptions, settings::Settings};
use serde_json::Value;
use tempfile::TempDir;

use crate::{sandhog_binary, wait_closely, wait_for};

/// Directories of a host, which outlive it: it can be started on them again.
#[derive(Debug)]
pub struct Place {
    directory: TempDir,
    pub binary: PathBuf,
    pub arguments: Vec<String>,
    /// A command that runs the binary, and its arguments.
    pub prefix: Vec<String>,
    /// What the process is given besides the environment of the tests.
    pub environment: Vec<(&'static str, String)>,
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

impl Place {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("plugins")).unwrap();
        Self {
            directory,
            binary: sandhog_binary(),
            arguments: Vec::new(),
            prefix: Vec::new(),
            environment: Vec::new(),
        }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    pub fn plugin(&self, file: &str) -> PathBuf {
        self.path().join("plugins").join(file)
    }

    /// Puts a handler there, as a careful person would: the manifest first, and each file by a rename.
    pub fn install(&self, name: &str, wasm: &[u8], manifest: &str) {
        for (file, bytes) in [
            (format!("{name}.toml"), manifest.as_bytes()),
            (format!("{name}.wasm"), wasm),
        ] {
            let hidden = self.plugin(&format!(".{file}"));
            fs::write(&hidden, bytes).unwrap();
            fs::rename(&hidden, self.plugin(&file)).unwrap();
        }
    }

    /// Sends so many messages, a multiple of `chunk`, through the library: a transaction for each chunk instead of one for each
    /// message. No host may be running here.
    pub fn fill(&self, queue: &str, messages: usize, body: &[u8], chunk: usize) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let store = SimpleStore::open(&StoreOptions::new(self.data())).unwrap();
            let name = QueueName::new(queue).unwrap();
            let queue = store.queue(name.clone(), Settings::defaults(&name)).await.unwrap();
            let body = Bytes::copy_from_slice(body);
            for _ in 0..messages / chunk {
                let messages = (0..chunk)
                    .map(|_| Outgoing::new(body.clone()).check().unwrap())
                    .collect();
                assert!(queue.send_many(messages).await.iter().all(Result::is_ok));
            }
            drop(queue);
            store.close().await;
        });
    }

    /// The bodies that a queue holds, in the order sent, read as an operator would: with SQLite.
    pub fn stored(&self, queue: &str) -> Vec<String> {
        let connection = rusqlite::Connection::open(self.data().join("queues.db")).unwrap();
        let sql = "SELECT CAST(body AS TEXT) FROM messages JOIN queues USING (queue) WHERE name = ? ORDER BY seq";
        let mut statement = connection.prepare(sql).unwrap();
        let rows = statement.query_map([queue], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    }

    /// The host's own configuration; the path of the data directory and the listener are given by the harness.
    pub fn configure(&self, text: &str) {
        fs::write(self.path().join("sandhog.toml"), text).unwrap();
    }

    pub fn command(&self) -> Command {
        let mut command = match self.prefix.split_first() {
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(&self.binary);
                command
            }
            None => Command::new(&self.binary),
        };
        command
            .env("RUST_BACKTRACE", "0")
            .env_remove("SANDHOG_URL")
            // Not that of the person who runs the tests.
            .env("XDG_CACHE_HOME", self.path().join("cache"))
            .envs(self.environment.iter().cloned())
            .current_dir(self.path());
        command
    }

    pub fn run(&self) -> Command {
        let mut command = self.command();
        let configured = self.path().join("sandhog.toml");
        let source = if configured.exists() {
            configured
        } else {
            self.path().join("plugins")
        };
        command
            .arg("run")
            .arg(source)
            .args(["--listen", "127.0.0.1:0", "--log-format", "json"]);
        if !self.arguments.iter().any(|argument| argument == "--ephemeral") {
            command.arg("--data").arg(self.data());
        }
        command.args(&self.arguments);
        command
    }

    pub fn start(&self) -> Host {
        let mut child = self
            .run()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, stderr) = (Arc::clone(&log), child.stderr.take().unwrap());
        let reader = thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        let mut host = Host {
            child,
            log,
            reader: Some(reader),
            url: String::new(),
        };
        let address = wait_closely("the host to listen", || {
            assert!(
                host.child.try_wait().unwrap().is_none(),
                "the host ended: {:#?}",
                host.log()
            );
            host.events("listening")
                .first()
                .map(|event| event["fields"]["address"].as_str().unwrap().to_owned())
        });
        host.url = format!("http://{address}");
        host
    }
}

/// A host that runs.
#[derive(Debug)]
pub struct Host {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    reader: Option<thread::JoinHandle<()>>,
    pub url: String,
}

impl Host {
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Waits for a log event whose message starts like this, and returns the last one. The log comes later than what it tells: a thread
    /// of its own writes it.
    pub fn event(&self, message: &str) -> Value {
        wait_for(message, || self.events(message).pop())
    }

    /// Log events whose message starts like this.
    pub fn events(&self, message: &str) -> Vec<Value> {
        let log = self.log();
        let events = log.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events
            .filter(|event| {
                event["fields"]["message"]
                    .as_str()
                    .is_some_and(|text| text.starts_with(message))
            })
            .collect()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn get(&self, path: &str) -> Value {
        self.try_get(path).unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    pub fn try_get(&self, path: &str) -> anyhow::Result<Value> {
        let mut response = ureq::get(format!("{}{path}", self.url))
            .config()
            .http_status_as_error(false)
            .build()
            .call()?;
        Ok(serde_json::from_str(&response.body_mut().read_to_string()?)?)
    }

    pub fn text(&self, path: &str) -> (u16, String) {
        let mut response = ureq::get(format!("{}{path}", self.url))
            .config()
            .http_status_as_error(false)
            .build()
            .call()
            .unwrap();
        (
            response.status().as_u16(),
            response.body_mut().read_to_string().unwrap(),
        )
    }

    /// Sends a message; `None` if it was not acknowledged.
    pub fn try_send(&self, queue: &str, body: &[u8], query: &str) -> Option<String> {
        let mut response = ureq::post(format!("{}/queues/{queue}?{query}", self.url))
            .send(body)
            .ok()?;
        let answer: Value = serde_json::from_str(&response.body_mut().read_to_string().ok()?).ok()?;
        Some(answer["id"].as_str()?.to_owned())
    }

    pub fn send(&self, queue: &str, body: &[u8]) -> String {
        self.try_send(queue, body, "")
            .unwrap_or_else(|| panic!("a send to {queue} was not acknowledged: {:#?}", self.log()))
    }

    pub fn post(&self, path: &str, body: &Value) -> Value {
        let mut response = ureq::post(format!("{}{path}", self.url))
            .content_type("application/json")
            .config()
            .http_status_as_error(false)
            .build()
            .send(body.to_string())
            .unwrap_or_else(|error| panic!("POST {path}: {error}"));
        serde_json::from_str(&response.body_mut().read_to_string().unwrap()).unwrap()
    }

    /// The counts of a queue.
    pub fn counts(&self, queue: &str) -> Value {
        self.get(&format!("/queues/{queue}"))
    }

    pub fn count(&self, queue: &str, which: &str) -> u64 {
        self.counts(queue)[which]
            .as_u64()
            .unwrap_or_else(|| panic!("{which} of {queue}: {}", self.counts(queue)))
    }

    pub fn wait_ready(&self) {
        wait_for("readiness", || (self.text("/ready").0 == 200).then_some(()));
    }

    /// Waits until no attempt is under way: the host counts an attempt after its message is gone.
    pub fn wait_idle(&self) {
        self.wait_counted(|_| true);
    }

    /// Waits until the handlers of these queues have no attempt under way.
    fn wait_counted(&self, of: impl Fn(&Value) -> bool) {
        wait_for("every attempt to be counted", || {
            let handlers = self.get("/handlers");
            let is_busy =
                |handler: &Value| handler["state"] == "serving" && of(&handler["queue"]) && handler["in-flight"] != 0;
            (!handlers["handlers"].as_array().unwrap().iter().any(is_busy)).then_some(())
        });
    }

    /// Waits until nothing waits or is under way in a queue, and every attempt at its messages is counted.
    /// Waits as long as the queue changes: how much there is to do is the test's business.
    pub fn wait_empty(&self, queue: &str) {
        let open = || {
            let counts = self.counts(queue);
            ["ready", "in-flight", "delayed"].map(|which| counts[which].as_u64().unwrap())
        };
        let mut before = open();
        while before != [0; 3] {
            before = wait_for(&format!("queue {queue} to change"), || {
                Some(open()).filter(|now| *now != before)
            });
        }
        self.wait_counted(|handled| handled == queue);
    }

    pub fn dead(&self, queue: &str) -> Vec<Value> {
        self.get(&format!("/queues/{queue}/dead?limit=1000"))["dead-letters"]
            .as_array()
            .unwrap()
            .clone()
    }

    /// Takes all messages out of a queue that has no handler; their bodies as text.
    pub fn take_all(&self, queue: &str) -> Vec<String> {
        let mut bodies = Vec::new();
        loop {
            let answer = self.post(&format!("/queues/{queue}/receive?max=10&wait=0s"), &Value::Null);
            let messages = answer["messages"]
                .as_array()
                .unwrap_or_else(|| panic!("{answer}"))
                .clone();
            if messages.is_empty() {
                return bodies;
            }
            for message in messages {
                bodies.push(
                    message["body"]
                        .as_str()
                        .unwrap_or_else(|| panic!("{message}"))
                        .to_owned(),
                );
                let settle = serde_json::json!({ "receipt": message["receipt"], "action": "delete" });
                self.post(&format!("/queues/{queue}/settle"), &settle);
            }
        }
    }

    /// Takes one message out of a queue that has no handler, if there is one.
    pub fn take_one(&self, queue: &str) -> Option<String> {
        let answer = self.post(&format!("/queues/{queue}/receive?max=1&wait=0s"), &Value::Null);
        let message = answer["messages"]
            .as_array()
            .unwrap_or_else(|| panic!("{answer}"))
            .first()?;
        let settle = serde_json::json!({ "receipt": message["receipt"], "action": "delete" });
        self.post(&format!("/queues/{queue}/settle"), &settle);
        Some(message["body"].as_str().unwrap().to_owned())
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// As a power cut for the process: SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        // A child that has not become its program yet has the lock of the data directory, and standard error.
        self.reader.take().unwrap().join().unwrap();
    }

    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for the end, and returns the log and the status.
    pub fn wait(mut self) -> (ExitStatus, Vec<String>) {
        let status = wait_for("the host to end", || self.child.try_wait().unwrap());
        self.reader.take().unwrap().join().unwrap();
        (status, self.log())
    }

    /// Asks it to stop, and waits.
    pub fn terminate(self) -> (ExitStatus, Vec<String>) {
        self.signal("TERM");
        self.wait()
    }

    /// Resident memory in KiB, memory mappings, and open files.
    pub fn resources(&self) -> (u64, usize, usize) {
        let process = PathBuf::from(format!("/proc/{}", self.id()));
        let status = fs::read_to_string(process.join("status")).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let resident = resident.split_whitespace().next().unwrap().parse().unwrap();
        let mappings = fs::read_to_string(process.join("maps")).unwrap().lines().count();
        (resident, mappings, fs::read_dir(process.join("fd")).unwrap().count())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
