//! The host as a child process: its start, its log, its end.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// How long the host may take to say where it listens.
const START_TIME_MAX: Duration = Duration::from_mins(1);
/// How long the host may take to stop. Longer than its grace period.
const STOP_TIME_MAX: Duration = Duration::from_secs(45);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A running host. It is killed if it is dropped before [`stop`](Self::stop).
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
    log_writer: Option<JoinHandle<Result<()>>>,
    /// Such as `127.0.0.1:40123`.
    pub(crate) address: String,
}

impl Process {
    /// Starts the host on a port of its choice in a directory with `plugins/`, and writes `host.log` there.
    ///
    /// `source` is what the host runs there: `plugins`, or a configuration. Of AWS the host knows what `environment` says, and
    /// nothing that this process knows.
    pub(crate) fn start(
        sandhog: &Path,
        directory: &Path,
        source: &str,
        environment: &[(&str, String)],
    ) -> Result<Self> {
        let log = directory.join("host.log");
        let mut command = Command::new(sandhog);
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("AWS_")) {
                command.env_remove(name);
            }
        }
        let mut child = command
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .args([
                "run",
                source,
                "--data",
                "data",
                "--listen",
                "127.0.0.1:0",
                "--log-format",
                "json",
            ])
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} did not start", sandhog.display()))?;
        let stderr = child.stderr.take().context("the host's log")?;
        let mut file = File::create(&log)?;
        // Bounded, since there is one address to pass; the log goes to its file.
        let (sender, address) = mpsc::sync_channel(1);
        let log_writer = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                let line = line?;
                writeln!(file, "{line}")?;
                if let Some(address) = listening(&line) {
                    // Nobody waits for a second one.
                    drop(sender.try_send(address));
                }
            }
            Ok(())
        });
        let mut process = Self {
            child,
            log,
            log_writer: Some(log_writer),
            address: String::new(),
        };
        match address.recv_timeout(START_TIME_MAX) {
            Ok(address) => process.address = address,
            Err(_) => bail!(
                "the host does not listen; its log ends with:\n{}",
                process.end_of_log()?
            ),
        }
        Ok(process)
    }

    /// Waits until `fact` is true.
    ///
    /// # Errors
    ///
    /// If that takes longer than `time_max`, or if the host ends, with the end of its log.
    pub(crate) fn wait_until(
        &mut self,
        what: &str,
        time_max: Duration,
        mut fact: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "the host ended ({status}) before {what}; its log ends with:\n{}",
                    self.end_of_log()?
                );
            }
            if fact()? {
                return Ok(());
            }
            if started.elapsed() > time_max {
                bail!(
                    "{what}: not within {} s; the log ends with:\n{}",
                    time_max.as_secs(),
                    self.end_of_log()?
                );
            }
            wait_a_little();
        }
    }

    /// Asks the host to stop, as a supervisor would, and waits until it has.
    pub(crate) fn stop(mut self) -> Result<()> {
        terminate(&mut self.child)?;
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            ensure!(
                started.elapsed() < STOP_TIME_MAX,
                "the host does not stop; its log is {}",
                self.log.display()
            );
            wait_a_little();
        };
        if let Some(log_writer) = self.log_writer.take() {
            log_writer.join().expect("writing the log does not panic")?;
        }
        ensure!(
            is_orderly(status),
            "the host ended with {status}; its log is {}",
            self.log.display()
        );
        Ok(())
    }

    fn end_of_log(&self) -> Result<String> {
        let log = std::fs::read_to_string(&self.log)?;
        let lines: Vec<_> = log.lines().collect();
        let end = lines.get(lines.len().saturating_sub(10)..).unwrap_or_default();
        Ok(end.join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Kills a process that still runs.
pub(crate) fn end(child: &mut Child) {
    if matches!(child.try_wait(), Ok(None)) {
        // Whatever failed before is the error to report, not that this fails as well.
        drop(child.kill());
        drop(child.wait());
    }
}

/// Returns the address in a line of the log that says where the host listens.
fn listening(line: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).ok()?;
    let fields = line.get("fields").unwrap_or(&line);
    let address = (fields.get("message")?.as_str()? == "listening").then(|| fields.get("address")?.as_str())??;
    Some(address.to_owned())
}

/// Sends SIGTERM. The shell's own `kill` is on every Unix; the program is not.
#[cfg(unix)]
fn terminate(child: &mut Child) -> Result<()> {
    let status = Command::new("/bin/sh")
        .args(["-c", "kill -TERM \"$0\"", &child.id().to_string()])
        .status()?;
    ensure!(status.success(), "kill: {status}");
    Ok(())
}

/// Ends the process: there is no signal to ask with.
#[cfg(not(unix))]
fn terminate(child: &mut Child) -> Result<()> {
    Ok(child.kill()?)
}

/// Tells whether the host ended as it was asked to.
fn is_orderly(status: ExitStatus) -> bool {
    status.success() || cfg!(not(unix))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the facts waited for are on the other side of HTTP, or of a process"
)]
fn wait_a_little() {
    std::thread::sleep(POLL_INTERVAL);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_whether_or_not_fields_are_flat() {
        let flat = r#"{"level":"INFO","message":"listening","address":"127.0.0.1:4711"}"#;
        let nested = r#"{"level":"INFO","fields":{"message":"listening","address":"127.0.0.1:4711"}}"#;
        for line in [flat, nested] {
            assert_eq!(listening(line).as_deref(), Some("127.0.0.1:4711"));
        }
    }

    #[test]
    fn other_lines_are_no_address() {
        for line in [
            "listening on 127.0.0.1:1",
            "{}",
            r#"{"message":"ready","address":"127.0.0.1:1"}"#,
        ] {
            assert_eq!(listening(line), None, "{line}");
        }
    }
}
