//! Compiles a file: makes an artifact of the engine and facts about the file, or a refusal. The code is the same in a process of
//! its own and in this one.
//!
//! When a file is compiled, untrusted bytes meet more code than anywhere else. So a host gives them to a child of its own
//! program (`process.rs`), which gives up every right before it reads the first byte (`child.rs`, `confine.rs`). The child's
//! answer is machine code that the host will run: the confinement limits what a bomb can cost, and what a bug in the compiler
//! can reach from there; it does not make the answer of a compiler that was taken over harmless.

use std::{fmt, io, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use wasmtime::{Collector, Config, Engine, OptLevel};

use self::functions::FunctionStore;
use super::wasm;

mod answer;
mod child;
mod confine;
mod denied;
mod functions;
mod instances;
mod limit;
mod order;
mod process;
mod refusal;
mod scan;

pub use child::{COMPILER_FAILED, CompilerFailed, compile_and_answer};
pub(crate) use functions::MAX_FUNCTIONS_BYTES;
pub use order::CompileOrder;
pub(crate) use refusal::Refusal;

/// The place where files are compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compiler {
    /// A child process for each file, with the limits of the handler on its processor time and its address space.
    Process {
        /// The `sandhog` program, which is started with the arguments of [`CompileOrder`].
        program: PathBuf,
    },
    /// Threads of this process. Nothing stops a compilation that takes too long or too much: for programs that embed
    /// the library and trust what they load.
    InProcess,
}

impl Compiler {
    /// Returns the running program as the compiler, which it can be if it is `sandhog`. On Linux it stays the same program when
    /// its file is replaced, unless there is no `/proc`; then the program is looked for in the directories of `search_path`,
    /// which is `PATH`. Must be called before the current directory changes.
    ///
    /// # Errors
    ///
    /// The system can't say which program is running.
    pub fn of_this_program(search_path: Option<&str>) -> io::Result<Self> {
        let program = process::this_program(search_path);
        Ok(Self::Process { program })
    }

    /// Compiles a file, within the bounds of `order` if the compiler is a process. `functions` are those of an earlier version of the
    /// handler.
    ///
    /// # Errors
    ///
    /// See [`CompileError`].
    ///
    /// # Cancel safety
    ///
    /// A child is killed when the future is dropped; a compilation in this process goes on to its end.
    pub(crate) async fn compile(
        &self,
        wasm: Bytes,
        functions: Bytes,
        order: CompileOrder,
    ) -> Result<Compiled, CompileError> {
        match self {
            Self::Process { program } => process::compile(program, wasm, functions, order).await,
            Self::InProcess => {
                let compiled = tokio::task::spawn_blocking(move || compile(&wasm, functions, &order)).await;
                let panicked = |_| CompileError::Refused(Refusal::Invalid("the compiler panicked".to_owned()));
                compiled.map_err(panicked)?.map_err(CompileError::Refused)
            }
        }
    }
}

/// The work that goes into the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CodeTier {
    /// Code that is compiled in a fraction of the time, and runs slower.
    Fast,
    /// The fastest code that the compiler can make.
    Optimised,
}

impl CodeTier {
    /// Returns the name in the log and in the names of files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Optimised => "optimised",
        }
    }
}

/// A word names no [`CodeTier`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("use fast or optimised")]
pub struct UnknownCodeTier;

impl FromStr for CodeTier {
    type Err = UnknownCodeTier;

    fn from_str(name: &str) -> Result<Self, UnknownCodeTier> {
        [Self::Fast, Self::Optimised]
            .into_iter()
            .find(|tier| tier.as_str() == name)
            .ok_or(UnknownCodeTier)
    }
}

impl fmt::Display for CodeTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The tools that a file says it was made with. It may lie.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toolchain {
    /// The languages of its sources, such as `Rust`, with their versions if they are given.
    pub languages: Vec<String>,
    /// The tools that made it, such as `rustc 1.95.0`.
    pub tools: Vec<String>,
    /// The SDKs, such as `Emscripten 4.0`.
    pub sdks: Vec<String>,
}

/// Facts about a file that the compiler saw in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// The file was a core module, of which a component was made.
    pub(crate) core_module: bool,
    pub(crate) toolchain: Toolchain,
}

/// The result of a compilation.
pub(crate) struct Compiled {
    pub(crate) facts: Facts,
    /// The bytes that the engine serialises. They may be mapped only as they came from here, or proven to be what came from
    /// here.
    pub(crate) artifact: Bytes,
    /// The compiled functions that the next version of the handler may take over; empty if there are none.
    pub(crate) functions: Bytes,
    /// How many functions of an earlier version were taken over.
    pub(crate) functions_taken: u64,
}

/// There is no artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CompileError {
    Refused(Refusal),
    /// The host or the machine could not do its part. The text says why.
    Host(String),
}

/// Returns the settings of the engine that decide about code. The engine that runs the code has the same settings, and a pool
/// besides. Without `images` new memories are filled by copying.
pub(crate) fn settings(tier: CodeTier, images: bool) -> Config {
    let mut config = Config::new();
    config.epoch_interruption(true);
    config.wasm_component_model(true);
    // What compilers of languages with a collector and with exceptions need. The collected heap counts as memory.
    config.wasm_gc(true);
    config.wasm_function_references(true);
    config.wasm_exceptions(true);
    config.wasm_tail_call(true);
    config.collector(Collector::Copying);
    config.wasm_memory64(false);
    config.wasm_custom_page_sizes(false);
    config.memory_init_cow(images);
    config.parallel_compilation(true);
    // Registering unwind tables gets slow with many modules, and only native debuggers read them.
    config.native_unwind_info(false);
    // Debug information of a guest is untrusted input, and parsing it costs.
    config.wasm_backtrace_details(wasmtime::WasmBacktraceDetails::Disable);
    config.cranelift_opt_level(match tier {
        CodeTier::Fast => OptLevel::None,
        CodeTier::Optimised => OptLevel::Speed,
    });
    config
}

/// Compiles a file on the calling thread and on threads of the compiler. A file that is out of bounds is refused before it costs
/// much.
fn compile(wasm: &[u8], functions: Bytes, order: &CompileOrder) -> Result<Compiled, Refusal> {
    let core_module = wasm::is_core_module(wasm)?;
    let toolchain = scan::scan(wasm)?;
    let invalid = |error: wasmtime::Error| wasm::refused(&error);
    let mut config = settings(order.tier, !order.without_images);
    let store = order.functions_bytes.map(|_| Arc::new(FunctionStore::new(functions)));
    if let Some(store) = &store {
        let store = Arc::clone(store);
        config.enable_incremental_compilation(store).map_err(invalid)?;
    }
    let engine = Engine::new(&config).map_err(invalid)?;
    let component = wasm::component_bytes(&engine, wasm, core_module)?;
    let artifact = engine.precompile_component(&component).map_err(invalid)?;
    let facts = Facts { core_module, toolchain };
    Ok(Compiled {
        facts,
        artifact: artifact.into(),
        functions_taken: store.as_ref().map_or(0, |store| store.taken()),
        functions: store.map_or_else(Bytes::new, |store| store.pack(MAX_FUNCTIONS_BYTES)),
    })
}

/// Returns the time on the clock after which a compilation is given up. It is longer than the processor time: the machine may be
/// busy, and the compiler has low priority.
fn wall_limit(processor_time: Duration) -> Duration {
    processor_time.saturating_mul(10)
}
