//! The contract of everything that runs guests: a component, messages and limits go in; verdicts, sends, log lines and usage
//! come out.
//!
//! Nothing in this contract names the engine or a queue backend. Two things in it are local to a machine: the path of a
//! component's file, which errors name and from which an executor may read the file again, and [`Executor::guests`], which an
//! executor in another process leaves at `None`. [`LocalExecutor`] runs guests in this process.

use std::{any::Any, fmt, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::runtime::Handle;

use policy::{Grants, Limits, LogLevel, Reuse};
use sandhog_queue::{
    keyvalue::KeyValue,
    message::{Message, QueueName},
};

mod admission;
mod artifacts;
mod bindings;
mod blocking_threads;
mod budget;
mod call_trace;
mod compiler;
mod component;
mod console;
mod cpu;
mod crash_report;
mod crash_text;
pub mod descriptors;
mod engine;
mod entry;
mod epoch;
mod failure;
mod flavour;
mod frames;
mod guest_state;
mod idle_instances;
mod import;
mod instance;
mod instance_runner;
mod load_error;
mod local;
mod machine;
mod memory;
mod offer;
mod output;
pub mod policy;
mod process_limit;
mod profiler;
mod random;
mod report;
pub mod threads;
mod tiers;
mod time_limits;
mod waiting_calls;
mod wasm;
mod worst_case;

pub use budget::MemoryBudget;
pub use call_trace::CallTrace;
pub use compiler::{
    COMPILER_FAILED, CodeTier, CompileOrder, Compiler, CompilerFailed, Toolchain, UnknownCodeTier, compile_and_answer,
};
pub use engine::{EngineError, EngineOptions, MemoryAllocation};
pub use flavour::Flavour;
pub use import::http::{NameResolver, SystemResolver};
pub use load_error::LoadError;
pub use local::LocalExecutor;
pub use offer::{ComponentImport, ImportGrant, ImportOffer};
pub use profiler::{GuestProfile, ProfiledStack, ProfilerBusy};
pub use report::{CallReport, CallUsage, GuestFailure, Verdict};
pub use tiers::CodeTiers;
pub use waiting_calls::WaitingCalls;
pub use wasm::{MAX_WASM_BYTES, digest};

/// The facts about an accepted component.
#[derive(Debug, Clone)]
pub struct ComponentInfo {
    /// The SHA-256 of the file's bytes, in hexadecimal.
    pub digest: String,
    /// The contract that the component fulfils.
    pub flavour: Flavour,
    /// The size of the file, in bytes.
    pub size: usize,
    /// The interfaces that the component imports.
    pub imports: Vec<ComponentImport>,
    /// The memories and tables that one instance begins with.
    pub needs: InstanceNeeds,
    /// The file is a core module, of which the host has made a component.
    pub core_module: bool,
    /// The tools that the file says it was made with.
    pub toolchain: Toolchain,
    /// The time that compiling the first code took.
    pub compile_time: Duration,
    /// The first code was compiled before and kept; the time is zero then.
    pub from_cache: bool,
}

impl ComponentInfo {
    /// Returns the grants of a manifest that stand for imports which the component does not have. A grant that only lets a
    /// program print to a queue is none of them.
    pub fn unused_grants(&self, grants: &Grants) -> Vec<ImportGrant> {
        let is_used = |grant: ImportGrant| {
            let mut imports = self.imports.iter();
            let prints = grant == ImportGrant::Send && grants.stdout.is_some();
            prints || imports.any(|import| import.offer == ImportOffer::With(grant))
        };
        let granted = ImportGrant::ALL.into_iter().filter(|grant| grant.is_in(grants));
        granted.filter(|grant| !is_used(*grant)).collect()
    }
}

/// The memories and tables that one instance of a component begins with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InstanceNeeds {
    /// The number of linear memories.
    pub memories: u32,
    /// The bytes of the largest memory, before it grows.
    pub memory_bytes: u64,
    /// The number of tables.
    pub tables: u32,
    /// The elements of the largest table, before it grows.
    pub table_elements: u64,
}

/// A component that an executor has accepted and can call. Cheap to clone; unloaded with the last clone.
#[derive(Clone)]
pub struct Component {
    /// The facts about the component.
    pub info: Arc<ComponentInfo>,
    /// The calls that wait for room.
    pub waiting: WaitingCalls,
    loaded: Arc<dyn Any + Send + Sync>,
}

impl Component {
    /// Makes a component of an executor. Only that executor looks into `loaded`.
    pub fn new(info: Arc<ComponentInfo>, waiting: WaitingCalls, loaded: Arc<dyn Any + Send + Sync>) -> Self {
        Self { info, waiting, loaded }
    }
}

impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Component")
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

/// What a guest printed or logged in one go, without the last line end. Control characters are escaped but for ends of lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// The stream that the guest wrote to.
    pub stream: LogStream,
    /// One line or several, together at most as long as the handler's limit for a line.
    pub text: String,
}

/// The stream that a guest writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// `wasi:logging`, with the level that the guest gave.
    Logging(LogLevel),
    /// The host's own lines, about what it refused the guest.
    Host,
}

impl LogStream {
    /// Returns the name in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Logging(_) => "logging",
            Self::Host => "host",
        }
    }

    /// Returns the level of the lines. Lines of the standard streams are information.
    pub fn level(self) -> LogLevel {
        match self {
            Self::Stdout | Self::Stderr => LogLevel::Info,
            Self::Logging(level) => level,
            Self::Host => LogLevel::Warn,
        }
    }
}

/// Takes a guest's lines as they are written. Called from a guest's thread: it must not block.
pub type LogSink = Arc<dyn Fn(LogLine) + Send + Sync>;

/// The limits and the grants of a guest.
#[derive(Debug, Clone)]
pub struct GuestPolicy {
    /// The name of the handler, for texts.
    pub handler: String,
    /// Wall-clock time from the start of the instance to the answer.
    pub timeout: Duration,
    /// The limits of everything else that is counted.
    pub limits: Limits,
    /// The grants of the guest.
    pub grants: Grants,
    /// The number of calls and the time for which an instance lives; `None` for one call.
    pub reuse: Option<Reuse>,
}

/// One message of a call.
#[derive(Debug, Clone)]
pub struct CallMessage {
    /// The message as it was sent.
    pub message: Message,
    /// The queue that it was received from.
    pub queue: QueueName,
    /// The number of receives so far, this one included.
    pub receive_count: u32,
}

/// One call of a guest.
#[derive(Clone)]
pub struct GuestCall {
    /// One message; or one or more, if the flavour takes batches.
    pub messages: Vec<CallMessage>,
    /// The limits and the grants of the guest.
    pub policy: Arc<GuestPolicy>,
    /// Takes the guest's output.
    pub log: LogSink,
    /// The handler's key-value store; `None` if it is granted none.
    pub keyvalue: Option<Arc<dyn KeyValue>>,
    /// The trace context that the call passes on; `None` if it is part of no trace.
    pub trace: Option<Arc<CallTrace>>,
}

impl fmt::Debug for GuestCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestCall")
            .field("messages", &self.messages)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

/// Runs guests. Any task may call an executor; the guests themselves run elsewhere.
#[async_trait]
pub trait Executor: fmt::Debug + Send + Sync {
    /// Checks a file's bytes, compiles them, and starts one instance to see that it works within `policy`.
    ///
    /// # Errors
    ///
    /// See [`LoadError`]. All but `Host` are final for these bytes.
    ///
    /// # Cancel safety
    ///
    /// Safe; a compilation under way is ended.
    async fn load(&self, file: PathBuf, wasm: Bytes, policy: Arc<GuestPolicy>) -> Result<Component, LoadError>;

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
    async fn relink(
        &self,
        file: PathBuf,
        component: &Component,
        policy: Arc<GuestPolicy>,
    ) -> Result<Component, LoadError>;

    /// Calls a guest in an instance of its own, a new one unless the policy says otherwise, and waits for its answer, at most
    /// for the policy's timeout and a few milliseconds. Waits before that while no instance is free.
    ///
    /// A call has one message or more, and exactly one if the component's flavour takes no batches. Any other call is reported
    /// as a fault of the host.
    ///
    /// # Cancel safety
    ///
    /// Safe: dropping the future interrupts the guest within a few milliseconds, or at the end of the one
    /// instruction or host call that it is in, and frees its instance.
    async fn run(&self, component: &Component, call: GuestCall) -> CallReport;

    /// Returns the runtime of the guests, if they run in this process. A call from this runtime changes no thread. Other tasks
    /// on it wait while guests compute.
    fn guests(&self) -> Option<Handle> {
        None
    }

    /// Returns the number of calls of this component under this policy that can run at one time, if nothing else runs; at least
    /// one. A caller that receives no more messages than this never holds messages that wait for an instance.
    fn most_at_once(&self, component: &Component, policy: &GuestPolicy) -> usize;

    /// Samples what the guests of a handler compute for this time: all of its calls, of every version. An executor that
    /// knows no samples returns a profile without any.
    ///
    /// # Errors
    ///
    /// [`ProfilerBusy`]: another profile is being taken.
    ///
    /// # Cancel safety
    ///
    /// Safe: dropping the future ends the profile.
    async fn profile(&self, handler: &str, time: Duration) -> Result<GuestProfile, ProfilerBusy> {
        let _ = handler;
        tokio::time::sleep(time).await;
        Ok(GuestProfile::default())
    }

    /// Returns the number of instances that run now.
    fn live_instances(&self) -> usize;

    /// Returns the number of instances that have answered and are kept for their next call.
    fn idle_instances(&self) -> usize;
}
