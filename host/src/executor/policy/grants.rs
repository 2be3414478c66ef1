//! Everything that a handler may reach. A guest reaches nothing that is absent from its [`Grants`].
//!
//! An absent grant means that a component which imports the interface is refused. An empty grant lets it import the
//! interface and reach nothing, for toolchains that import what the handler never calls.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::PathBuf,
    sync::Arc,
};

use ipnet::IpNet;

use super::OriginPattern;
use crate::message::QueueName;

/// What a handler may reach.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// The queues that it may send to; `None` if it may not import `sandhog:worker/sender`. Key `send`.
    pub send: Option<BTreeSet<QueueName>>,
    /// Its environment. Table `env`.
    pub env: BTreeMap<String, Value>,
    /// What `wasi:config/store` answers; `None` if it may not import it. Table `config`.
    pub config: Option<BTreeMap<String, Value>>,
    /// Where outgoing HTTP requests may go; `None` if it may not import `wasi:http`. Keys `http`, `http-addresses`.
    pub http: Option<HttpGrant>,
    /// The directories that it sees. Key `dirs`.
    pub dirs: Vec<DirGrant>,
    /// Whether it may import `wasi:keyvalue`: a store of its own, kept with the Simple queues. Key `keyvalue`.
    pub keyvalue: bool,
    /// The least severe level of `wasi:logging` that is passed on. Key `log`, default `info`.
    pub log: LogLevel,
    /// The queue that a command's lines of standard output are sent to, each as a message. Key `stdout` of the manifest.
    pub stdout: Option<QueueName>,
    /// What a command is started with behind its name. Key `args` of the manifest.
    pub args: Vec<String>,
    /// What the exit codes of a command mean. Table `exit-codes` of the manifest.
    pub exit_codes: ExitCodes,
}

impl Grants {
    /// The same, and every import that needs a grant, with nothing behind those that are not in it.
    #[must_use]
    pub fn with_every_import(mut self) -> Self {
        self.send.get_or_insert_default();
        self.config.get_or_insert_default();
        self.http.get_or_insert_default();
        self.keyvalue = true;
        self
    }
}

/// A text that may be a secret: never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Value(Arc<str>);

impl Value {
    /// The text, for the guest that it was granted to.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Value(..)")
    }
}

/// Where outgoing HTTP requests may go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpGrant {
    /// The origins that may be asked for.
    pub origins: Vec<OriginPattern>,
    /// Networks that are granted although they are private. An origin that is an address grants that address too.
    pub addresses: Vec<IpNet>,
}

/// One directory that a guest sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirGrant {
    /// Where it is. Key `host`; relative to the manifest's directory.
    pub host: PathBuf,
    /// What the guest calls it. Key `guest`; absolute.
    pub guest: String,
    /// Whether the guest may change it. Key `write`, default `false`.
    pub write: bool,
}

/// How severe a line of `wasi:logging` is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// `trace`.
    Trace,
    /// `debug`.
    Debug,
    /// `info`.
    #[default]
    Info,
    /// `warn`.
    Warn,
    /// `error`.
    Error,
    /// `critical`.
    Critical,
}

impl LogLevel {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Trace, "trace"),
        (Self::Debug, "debug"),
        (Self::Info, "info"),
        (Self::Warn, "warn"),
        (Self::Error, "error"),
        (Self::Critical, "critical"),
    ];

    /// How it is written.
    pub fn as_str(self) -> &'static str {
        Self::ALL
            .into_iter()
            .find(|(level, _)| *level == self)
            .map_or("info", |(_, name)| name)
    }

    /// The level of this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|(_, name)| *name == text)
            .map(|(level, _)| level)
    }
}

/// Exit codes that mean something else than they would.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExitCodes {
    /// The message was handled, and what the program printed counts. Key `success`.
    pub success: BTreeSet<u8>,
    /// The message stays bad. Key `reject`.
    pub reject: BTreeSet<u8>,
    /// Another time may do. Key `retry`.
    pub retry: BTreeSet<u8>,
}

impl ExitCodes {
    /// Whether nothing is said about any code.
    pub fn is_empty(&self) -> bool {
        self.success.is_empty() && self.reject.is_empty() && self.retry.is_empty()
    }
}
