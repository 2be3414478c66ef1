//! The seam in front of everything that runs guests: a component, messages and limits go in; verdicts,
//! sends, log lines and usage come out; nothing else is shared.
//!
//! Nothing in this module names the engine, a queue backend or a file, so an executor can move into a
//! process of its own. `executor/` holds the one that runs guests in this process.

use std::{any::Any, fmt, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::runtime::Handle;

use self::policy::{Grants, Limits, LogLevel, Reuse};
use crate::{
    keyvalue::{KeyValue, KeyValueWrite},
    message::{Message, QueueName},
    queue::{FailureKind, Send},
};

mod admission;
mod artifacts;
mod bindings;
mod budget;
mod compiler;
mod component;
mod cpu;
mod descriptors;
mod engine;
mod entry;
mod import;
mod instance;
mod machine;
mod memory;
mod output;
pub mod policy;
mod random;
mod reuse;
mod threads;
mod tiers;
mod wasm;

pub use budget::Budget;
pub use compiler::{CompileOrder, Compiler, Tier, Toolchain, compile_and_answer};
pub use component::digest;
pub use engine::{Allocation, EngineError, EngineOptions, LocalExecutor};
pub use import::http::{Resolver, SystemResolver};
pub use tiers::Tiers;
pub use wasm::MAX_WASM_BYTES;

/// Which of the contracts a component fulfils. Exactly one, or it is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flavour {
    /// Exports `sandhog:worker/handler`: one message at a time.
    Handler,
    /// Exports `sandhog:worker/batch-handler`: several messages at a time.
    BatchHandler,
    /// A program: the message on standard input, the verdict in the exit code.
    Command,
    /// Written for `wasi:messaging`.
    WasiMessaging,
    /// Written for `wasmcloud:messaging`.
    WasmcloudMessaging,
    /// Written for the SQS trigger of Spin.
    SpinSqs,
}

impl Flavour {
    /// Every flavour.
    pub const ALL: [Self; 6] = [
        Self::Handler,
        Self::BatchHandler,
        Self::Command,
        Self::WasiMessaging,
        Self::WasmcloudMessaging,
        Self::SpinSqs,
    ];

    /// The export that makes a component one of it, and how its version begins if it has one.
    pub fn export(self) -> (&'static str, &'static str) {
        match self {
            Self::Handler => ("sandhog:worker/handler", "0.1."),
            Self::BatchHandler => ("sandhog:worker/batch-handler", "0.1."),
            Self::Command => ("wasi:cli/run", "0.2."),
            Self::WasiMessaging => ("wasi:messaging/incoming-handler", "0.2.0-draft"),
            Self::WasmcloudMessaging => ("wasmcloud:messaging/handler", "0.2."),
            Self::SpinSqs => ("handle-queue-message", ""),
        }
    }

    /// Whether an export of this name, its version included, makes a component one of it.
    pub fn is_made_by(self, export: &str) -> bool {
        let (name, version) = self.export();
        let (found, found_version) = export.split_once('@').unwrap_or((export, ""));
        found == name && found_version.starts_with(version)
    }

    /// How it is called in messages and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Handler => "handler",
            Self::BatchHandler => "batch-handler",
            Self::Command => "command",
            Self::WasiMessaging => "wasi-messaging",
            Self::WasmcloudMessaging => "wasmcloud-messaging",
            Self::SpinSqs => "spin-sqs",
        }
    }

    /// Whether one call takes more than one message.
    pub fn takes_batches(self) -> bool {
        match self {
            Self::BatchHandler => true,
            Self::Handler | Self::Command | Self::WasiMessaging | Self::WasmcloudMessaging | Self::SpinSqs => false,
        }
    }
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is known of a component once it was accepted.
#[derive(Debug, Clone)]
pub struct ComponentInfo {
    /// SHA-256 of the file's bytes, in hexadecimal.
    pub digest: String,
    /// The contract that it fulfils.
    pub flavour: Flavour,
    /// Bytes of the file.
    pub size: usize,
    /// What it imports.
    pub imports: Vec<Import>,
    /// What one instance of it begins with.
    pub needs: Needs,
    /// Whether the file is a core module, which the host has made a component.
    pub core_module: bool,
    /// Which tools the file says it was made with.
    pub toolchain: Toolchain,
    /// How long compiling the code that it began with took.
    pub compile_time: Duration,
    /// Whether that code was compiled before and kept; the time is zero then.
    pub from_cache: bool,
}

/// One interface that a component imports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// Its name and version.
    pub name: String,
    /// Who decides on it.
    pub offer: Offer,
}

/// On what it depends whether an import is linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// Always linked; what it reaches depends on grants.
    Always,
    /// Linked if the manifest has this grant.
    With(Grant),
    /// The host does not know it.
    Never,
}

/// A grant without which an import is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Grant {
    /// `sandhog:worker/sender`, and what other hosts have for it.
    Send,
    /// `wasi:config`.
    Config,
    /// Outgoing `wasi:http`.
    Http,
    /// `wasi:keyvalue`.
    KeyValue,
}

impl Grant {
    /// Every grant.
    pub const ALL: [Self; 4] = [Self::Send, Self::Config, Self::Http, Self::KeyValue];

    /// Whether a manifest has it.
    pub fn is_in(self, grants: &Grants) -> bool {
        match self {
            Self::Send => grants.send.is_some(),
            Self::Config => grants.config.is_some(),
            Self::Http => grants.http.is_some(),
            Self::KeyValue => grants.keyvalue,
        }
    }

    /// Its key in the table `[grant]`.
    pub fn key(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Config => "config",
            Self::Http => "http",
            Self::KeyValue => "keyvalue",
        }
    }

    /// The line of the table `[grant]` that gives it, with an example of a value.
    pub fn line(self) -> &'static str {
        match self {
            Self::Send => "send = [\"QUEUE\"]                      # the queues that it may send to; [] for none",
            Self::Config => "config = { KEY = \"VALUE\" }            # the values that it may read; {} for none",
            Self::Http => "http = [\"https://api.example.com\"]    # the origins that it may ask; [] for none",
            Self::KeyValue => "keyvalue = true                       # a key-value store of its own",
        }
    }
}

impl Offer {
    /// What the host offers under the name of an interface, its version included.
    pub fn of(import: &str) -> Self {
        let (package, interface) = import.split_once('/').unwrap_or((import, ""));
        let interface = interface.split_once('@').map_or(interface, |(name, _)| name);
        match (package, interface) {
            ("sandhog:worker" | "wasi:messaging" | "wasmcloud:messaging", "types")
            | ("wasi:logging", "logging")
            | (
                "fermyon:spin-sqs" | "spin:sqs" | "wasi:io" | "wasi:clocks" | "wasi:random" | "wasi:cli"
                | "wasi:filesystem" | "wasi:sockets",
                _,
            ) => Self::Always,
            ("sandhog:worker", "sender")
            | ("wasi:messaging", "producer" | "request-reply")
            | ("wasmcloud:messaging", "consumer") => Self::With(Grant::Send),
            ("wasi:config", _) => Self::With(Grant::Config),
            ("wasi:http", "types" | "outgoing-handler" | "client") => Self::With(Grant::Http),
            ("wasi:keyvalue", "store" | "atomics" | "batch") => Self::With(Grant::KeyValue),
            _ => Self::Never,
        }
    }
}

/// What one instance of a component begins with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// Linear memories.
    pub memories: u32,
    /// Bytes of the largest of them, before it grows.
    pub memory_bytes: u64,
    /// Tables.
    pub tables: u32,
    /// Elements of the largest of them, before it grows.
    pub table_elements: u64,
}

/// A component that an executor has accepted and can call. Cheap to clone; unloaded with the last clone.
#[derive(Clone)]
pub struct Component {
    /// What is known of it.
    pub info: Arc<ComponentInfo>,
    loaded: Arc<dyn Any + std::marker::Send + Sync>,
}

impl Component {
    /// A component as an executor makes it: `loaded` is what it calls, and nobody else looks into it.
    pub fn new(info: Arc<ComponentInfo>, loaded: Arc<dyn Any + std::marker::Send + Sync>) -> Self {
        Self { info, loaded }
    }
}

impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Component")
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

/// A line that a guest printed, without its line end. Control characters are escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Where it was written.
    pub stream: LogStream,
    /// At most as long as the handler's limit for a line.
    pub text: String,
}

/// Where a guest wrote a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// `wasi:logging`, with the level that the guest gave.
    Logging(LogLevel),
    /// Not by the guest: what the host has to say about what the guest was refused.
    Host,
}

impl LogStream {
    /// How it is called in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Logging(_) => "logging",
            Self::Host => "host",
        }
    }

    /// How severe its lines are: those of the standard streams are information.
    pub fn level(self) -> LogLevel {
        match self {
            Self::Stdout | Self::Stderr => LogLevel::Info,
            Self::Logging(level) => level,
            Self::Host => LogLevel::Warn,
        }
    }
}

/// Takes a guest's lines as they are written. Called from a guest's thread: it must not block.
pub type LogSink = Arc<dyn Fn(LogLine) + std::marker::Send + Sync>;

/// What a guest may use and touch.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The name of the handler, for messages.
    pub handler: String,
    /// Wall-clock time from the start of the instance to the answer.
    pub timeout: Duration,
    /// Everything else that is counted.
    pub limits: Limits,
    /// Everything that is not refused.
    pub grants: Grants,
    /// How long an instance lives; `None` for one call.
    pub reuse: Option<Reuse>,
}

/// One message of a call.
#[derive(Debug, Clone)]
pub struct CallMessage {
    /// What was sent.
    pub message: Message,
    /// The queue that it was received from.
    pub queue: QueueName,
    /// This receive included.
    pub receive_count: u32,
}

/// One call of a guest.
#[derive(Clone)]
pub struct Call {
    /// One message, or for a flavour that takes batches one or more.
    pub messages: Vec<CallMessage>,
    /// What the guest may use and touch.
    pub policy: Arc<Policy>,
    /// Where its output goes.
    pub log: LogSink,
    /// What it reads of its key-value store; `None` if it is not granted one.
    pub keyvalue: Option<Arc<dyn KeyValue>>,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("messages", &self.messages)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

/// Why a guest's call did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The kind.
    pub kind: FailureKind,
    /// For people; at most 1 KiB, control characters escaped but for the ends of lines.
    pub reason: String,
    /// The delay that the guest asked for.
    pub retry_after: Option<Duration>,
    /// The guest's stack, if it broke.
    pub backtrace: Option<String>,
}

/// What a call means for one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Handled.
    Success,
    /// Not handled, and the guest or its limits are the reason.
    Failed(Failure),
    /// The guest was not run, or not to its end, through no fault of its own.
    NotRun(String),
}

/// What a call cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// From the start of the instance to the answer.
    pub wall: Duration,
    /// Processor time, host calls included.
    pub cpu: Duration,
    /// The most bytes that the guest's linear memories had in total.
    pub memory_peak: u64,
    /// Lines of output that were dropped for being past the limit.
    pub log_lines_dropped: u64,
    /// HTTP requests that it made, refused ones included.
    pub http_requests: u64,
}

/// The answer to a call.
#[derive(Debug, Clone)]
pub struct Report {
    /// One per message, in order.
    pub verdicts: Vec<Verdict>,
    /// What the guest sent, in order. Empty unless a verdict is [`Verdict::Success`].
    pub sends: Vec<Send>,
    /// What the guest wrote into its key-value store, one change per key. Empty unless a verdict is [`Verdict::Success`].
    pub writes: Vec<KeyValueWrite>,
    /// What it cost.
    pub usage: Usage,
}

/// Why a file was not accepted as a component.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The bytes are neither a component nor a core module.
    #[error("{file} is not a WebAssembly component: {found}")]
    NotWasm {
        /// Which file.
        file: PathBuf,
        /// What it looks like.
        found: String,
    },
    /// The file is larger than what is accepted.
    #[error("{file} has {size} bytes, more than the {limit} that are accepted")]
    TooLarge {
        /// Which file.
        file: PathBuf,
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The module cannot be made a component.
    #[error("{file} is a core module that can't be made a component: {reason}")]
    NotAComponent {
        /// Which file.
        file: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// The compiler refused it.
    #[error("{file} was refused by the compiler: {reason}")]
    Invalid {
        /// Which file.
        file: PathBuf,
        /// What the compiler says.
        reason: String,
    },
    /// It fulfils none of the contracts, or more than one.
    #[error("{file} must export exactly one of {accepted}; it exports {found}")]
    Flavour {
        /// Which file.
        file: PathBuf,
        /// The interfaces that are looked for.
        accepted: String,
        /// What was found.
        found: String,
    },
    /// It imports something that the host does not offer to it.
    #[error("{file} imports something that the host does not offer: {reason}")]
    Import {
        /// Which file.
        file: PathBuf,
        /// Which import.
        reason: String,
    },
    /// It imports what its manifest does not grant.
    #[error("{file} imports {imports}, which its manifest does not grant. To grant it, add to {manifest}:\n{lines}", manifest = file.with_extension("toml").display())]
    NotGranted {
        /// Which file.
        file: PathBuf,
        /// Which imports.
        imports: String,
        /// The lines of the manifest that would grant them.
        lines: String,
    },
    /// An instance of it could not be made within the handler's limits.
    #[error("{file} could not be started: {reason}")]
    Start {
        /// Which file.
        file: PathBuf,
        /// What happened.
        reason: String,
    },
    /// The host could not do its part; the file may be good.
    #[error("{file} could not be loaded now: {reason}")]
    Host {
        /// Which file.
        file: PathBuf,
        /// What happened.
        reason: String,
    },
}

impl LoadError {
    /// Whether the same bytes may be accepted another time.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Host { .. } => true,
            Self::NotWasm { .. }
            | Self::TooLarge { .. }
            | Self::NotAComponent { .. }
            | Self::Invalid { .. }
            | Self::Flavour { .. }
            | Self::Import { .. }
            | Self::NotGranted { .. }
            | Self::Start { .. } => false,
        }
    }
}

/// Runs guests. Cheap calls from any task; the guests themselves run elsewhere.
#[async_trait]
pub trait Executor: fmt::Debug + std::marker::Send + Sync {
    /// Checks a file's bytes, compiles them, and starts one instance to see that it works within `policy`.
    ///
    /// # Errors
    ///
    /// See [`LoadError`]. All but `Host` are final for these bytes.
    ///
    /// # Cancel safety
    ///
    /// Safe; a compilation under way is ended.
    async fn load(&self, file: PathBuf, wasm: Bytes, policy: Arc<Policy>) -> Result<Component, LoadError>;

    /// The same component under another policy: links it anew, compiles nothing, and starts one instance to see that it
    /// works. The component that is passed in stays as it is.
    ///
    /// # Errors
    ///
    /// See [`LoadError`]. All but `Host` are final for these bytes and this policy.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    async fn relink(&self, file: PathBuf, component: &Component, policy: Arc<Policy>) -> Result<Component, LoadError>;

    /// Calls a guest in an instance of its own, a new one unless the policy says otherwise, and waits for its answer, at most for the policy's timeout and a few
    /// milliseconds. Waits before that while no instance is free.
    ///
    /// # Cancel safety
    ///
    /// Safe: dropping the future interrupts the guest within a few milliseconds, or at the end of the one
    /// instruction or host call that it is in, and frees its instance.
    async fn run(&self, component: &Component, call: Call) -> Report;

    /// Where guests run, if it is in this process: a call that is made there changes no thread. What else runs there waits
    /// behind guests.
    fn guests(&self) -> Option<Handle> {
        None
    }

    /// How many calls of this component under this policy can run at a time, if nothing else does: for a caller that would rather not hold
    /// what has to wait.
    fn most_at_once(&self, component: &Component, policy: &Policy) -> usize;

    /// How many instances run now.
    fn live_instances(&self) -> usize;

    /// How many instances have answered and are kept for their next call.
    fn idle_instances(&self) -> usize;
}
