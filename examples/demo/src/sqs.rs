//! The SQS server of this repository as a child process, and the little that the demo asks of it.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use ureq::Agent;

use crate::process::end;

const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
const REGION: &str = "us-east-1";
/// The server takes any credentials.
const ACCESS_KEY: &str = "demo";
const SECRET_KEY: &str = "demo";

/// A running server, which is killed when it is dropped. It ends too when this process does, however that ends.
pub(crate) struct SqsServer {
    child: Child,
    agent: Agent,
    /// Such as `http://127.0.0.1:9325`.
    pub(crate) url: String,
}

impl SqsServer {
    /// Starts the server on a port of its choice.
    pub(crate) fn start(program: &Path, log: &Path) -> Result<Self> {
        let child = Command::new(program)
            .args(["127.0.0.1:0", "--until-stdin-closes"])
            // Held open by this process, and closed by the kernel if this process is killed.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(log)?)
            .spawn()
            .with_context(|| format!("{} did not start", program.display()))?;
        let config = Agent::config_builder()
            .timeout_global(Some(ANSWER_TIME_MAX))
            .http_status_as_error(false)
            // It is on this machine.
            .proxy(None)
            .build();
        let mut server = Self {
            child,
            agent: config.into(),
            url: String::new(),
        };
        let mut line = String::new();
        let stdout = server.child.stdout.take().context("the server's output")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let Some(address) = line.trim().strip_prefix("listening on ") else {
            bail!("the SQS server does not listen; its log is {}", log.display());
        };
        server.url = format!("http://{address}");
        Ok(server)
    }

    /// Returns the variables by which every program that uses an AWS SDK finds the server, and nothing else.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL_SQS", self.url.clone()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            // Whoever has an account keeps it out of this.
            ("AWS_CONFIG_FILE", "/dev/null".to_owned()),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null".to_owned()),
            ("NO_PROXY", "127.0.0.1".to_owned()),
        ]
    }

    /// Creates a standard queue.
    pub(crate) fn create_queue(&self, name: &str) -> Result<()> {
        let what = || format!("creating queue {name}");
        let credential = format!("{ACCESS_KEY}/20260101/{REGION}/sqs/aws4_request");
        let mut response = self
            .agent
            .post(&self.url)
            .header("X-Amz-Target", "AmazonSQS.CreateQueue")
            .header("X-Amz-Date", "20260101T000000Z")
            // It looks at the account in it, and does not check the signature.
            .header(
                "Authorization",
                format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=0"),
            )
            .content_type("application/x-amz-json-1.0")
            .send(json!({ "QueueName": name }).to_string())
            .with_context(what)?;
        if !response.status().is_success() {
            let status = response.status();
            bail!("{}: {status}: {}", what(), response.body_mut().read_to_string()?);
        }
        Ok(())
    }
}

impl Drop for SqsServer {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Returns the names on their server of the SQS queues in a configuration, without duplicates.
pub(crate) fn queue_names(configuration: &str) -> Result<Vec<String>> {
    let configuration: toml::Table = configuration.parse().context("the configuration")?;
    let queues = configuration.get("queues").and_then(toml::Value::as_table);
    let urls = queues.into_iter().flat_map(toml::Table::values);
    let mut names: Vec<_> = urls
        .filter_map(|queue| queue.get("url")?.as_str()?.strip_prefix("sqs:"))
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_created_by_their_names_on_the_server() {
        let text = "[queues.a]\nurl = \"sqs:x\"\n[queues.b]\nurl = \"sqs:w\"\n[queues.c]\nmax-receives = 3\n";
        assert_eq!(queue_names(text).unwrap(), ["w", "x"]);
        assert!(queue_names("plugins = \"p\"").unwrap().is_empty());
    }
}
