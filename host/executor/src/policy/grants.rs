//! Everything that a handler may reach. A guest reaches nothing that is absent from its [`Grants`].
//!
//! An absent grant means that a component which imports the interface is refused. An empty grant lets it import the
//! interface and reach nothing, for toolchains that import what the handler never calls.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use ipnet::IpNet;
use secrecy::{ExposeSecret as _, SecretString};

use super::OriginPattern;
use sandhog_queue::message::QueueName;

/// Everything that a handler may reach.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// The queues that the handler may send to; `None` if it may not import `sandhog:worker/sender`. Key `send`.
    pub send: Option<BTreeSet<QueueName>>,
    /// The environment of the guest. Table `env`.
    pub env: BTreeMap<String, GrantedValue>,
    /// The values of `wasi:config/store`; `None` if the handler may not import it. Table `config`.
    pub config: Option<BTreeMap<String, GrantedValue>>,
    /// The destinations of outgoing HTTP requests; `None` if the handler may not import `wasi:http`. Keys `http`, `http-addresses`.
    pub http: Option<HttpGrant>,
    /// The directories that the guest sees. Key `dirs`.
    pub dirs: Vec<DirGrant>,
    /// The handler may import `wasi:keyvalue`: it has a store of its own, kept with the Simple queues. Key `keyvalue`.
    pub keyvalue: bool,
    /// The least severe level of `wasi:logging` that reaches the log. Key `log`, default `info`.
    pub log: LogLevel,
    /// The queue that a command's lines of standard output are sent to, each as a message. Key `stdout` of the manifest.
    pub stdout: Option<QueueName>,
    /// The arguments of a command, after its name. Key `args` of the manifest.
    pub args: Vec<String>,
    /// The meanings of a command's exit codes. Table `exit-codes` of the manifest.
    pub exit_codes: ExitCodes,
}

impl Grants {
    /// Returns the same grants, and an empty one for every import that needs a grant and has none.
    #[must_use]
    pub fn with_every_import(mut self) -> Self {
        self.send.get_or_insert_default();
        self.config.get_or_insert_default();
        self.http.get_or_insert_default();
        self.keyvalue = true;
        self
    }
}

/// A text that may be a secret, so no output shows it.
#[derive(Debug, Clone)]
pub struct GrantedValue(Arc<SecretString>);

impl GrantedValue {
    /// Returns the text, for the guest that has the grant.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl From<&str> for GrantedValue {
    fn from(text: &str) -> Self {
        Self(Arc::new(text.into()))
    }
}

impl PartialEq for GrantedValue {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for GrantedValue {}

/// The destinations of outgoing HTTP requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpGrant {
    /// The granted origins.
    pub origins: Vec<OriginPattern>,
    /// The granted private networks. An origin that is an address also grants that address.
    pub addresses: Vec<IpNet>,
}

/// One directory that a guest sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirGrant {
    /// The path on the host. Key `host`; relative to the manifest's directory.
    pub host: PathBuf,
    /// The path in the guest. Key `guest`; absolute.
    pub guest: String,
    /// The guest may change the directory. Key `write`, default `false`.
    pub write: bool,
}

/// The severity of a line of `wasi:logging`.
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
    const ALL: [Self; 6] = [
        Self::Trace,
        Self::Debug,
        Self::Info,
        Self::Warn,
        Self::Error,
        Self::Critical,
    ];

    /// Returns the name of the level.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }

    /// Returns the level with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == name)
    }
}

/// The exit codes of a command that have another meaning than usual.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExitCodes {
    /// Codes for a message that was handled. The printed lines are sent. Key `success`.
    pub success: BTreeSet<u8>,
    /// Codes for a message that can never be handled. Key `reject`.
    pub reject: BTreeSet<u8>,
    /// Codes for a message that may be handled another time. Key `retry`.
    pub retry: BTreeSet<u8>,
}

impl ExitCodes {
    /// Returns whether every code has its usual meaning.
    pub fn is_empty(&self) -> bool {
        self.success.is_empty() && self.reject.is_empty() && self.retry.is_empty()
    }
}
