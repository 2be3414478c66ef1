//! Wasm and a tier -> an artifact of the engine and facts about the file, or a refusal. One code path, in a process of its
//! own or in this one.
//!
//! Compiling is where bytes that nobody trusts meet the most code. So a host gives them to a child of its own program
//! (`process.rs`), which takes every right from itself before it reads the first of them (`child.rs`, `confine.rs`).
//! What it answers is machine code that the host will run: the confinement limits what a bomb can cost, and what a
//! bug in the compiler can reach from there; it does not make the answer of a compiler that was taken over harmless.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use wasmtime::{Config, Engine, OptLevel};

use super::{LoadError, wasm};

mod answer;
mod child;
mod confine;
mod denied;
mod instances;
mod limit;
mod process;
mod scan;

pub use child::{CompileOrder, compile_and_answer};

/// Who compiles.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compiler {
    /// A child process for each file, with the limits of the handler on its processor time and its address space.
    Process {
        /// A `sandhog`: it is started with the arguments of [`CompileOrder`].
        program: PathBuf,
    },
    /// Threads of this process. Nothing stops a compilation that takes too long or too much: for programs that embed
    /// the library and trust what they load.
    InProcess,
}

impl Compiler {
    /// The running program as the compiler, which it can be if it is `sandhog`. On Linux it stays the same program when
    /// its file is replaced, unless there is no `/proc`. Without `/proc` a program that was started by its name alone is looked up
    /// in `search_path`, the value of `PATH`. To be called before the current directory changes.
    ///
    /// # Errors
    ///
    /// The system can't say which program is running.
    pub fn of_this_program(search_path: Option<&str>) -> io::Result<Self> {
        let program = process::this_program(search_path);
        Ok(Self::Process { program })
    }

    /// Compiles, with the bounds of `order` if it is a process.
    ///
    /// # Cancel safety
    ///
    /// A child is killed when the future is dropped; a compilation in this process goes on to its end.
    pub(super) async fn compile(&self, wasm: Bytes, order: CompileOrder) -> Result<Compiled, CompileError> {
        match self {
            Self::Process { program } => process::compile(program, wasm, &order).await,
            Self::InProcess => {
                let compiled = tokio::task::spawn_blocking(move || compile(&wasm, &order)).await;
                let panicked = |_| CompileError::Refused(Refusal::Invalid("the compiler panicked".to_owned()));
                compiled.map_err(panicked)?.map_err(CompileError::Refused)
            }
        }
    }
}

/// How much work goes into the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Tier {
    /// Compiled in a fraction of the time, and runs slower.
    Fast,
    /// As good as the compiler can make it.
    Optimised,
}

impl Tier {
    /// How it is called in the log and in the names of files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Optimised => "optimised",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a file says about itself. It may lie.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toolchain {
    /// Languages of its sources, such as `Rust`, with their versions if they are given.
    pub languages: Vec<String>,
    /// Tools that made it, such as `rustc 1.95.0`.
    pub tools: Vec<String>,
    /// SDKs, such as `Emscripten 4.0`.
    pub sdks: Vec<String>,
}

/// What the compiler saw in a file besides what it compiled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Facts {
    /// It was a core module, and was made a component.
    pub(super) core_module: bool,
    pub(super) toolchain: Toolchain,
}

/// What a compilation comes to.
pub(super) struct Compiled {
    pub(super) facts: Facts,
    /// What the engine serialises. To be mapped only as it came from here, or proven to be what came from here.
    pub(super) artifact: Bytes,
}

/// Why a file is not compiled; final for its bytes and its limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Refusal {
    NotWasm(String),
    NotAComponent(String),
    Invalid(String),
}

impl Refusal {
    pub(super) fn of(self, file: &Path) -> LoadError {
        let file = file.to_owned();
        match self {
            Self::NotWasm(found) => LoadError::NotWasm { file, found },
            Self::NotAComponent(reason) => LoadError::NotAComponent { file, reason },
            Self::Invalid(reason) => LoadError::Invalid { file, reason },
        }
    }
}

/// Why there is no artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CompileError {
    Refused(Refusal),
    /// The host or the machine could not do its part.
    Host(String),
}

/// The settings that decide about code. The engine that runs it has the same, and a pool besides. Without `images` new
/// memories are filled by copying.
pub(super) fn settings(tier: Tier, images: bool) -> Config {
    let mut config = Config::new();
    config.epoch_interruption(true);
    config.wasm_component_model(true);
    config.wasm_memory64(false);
    config.wasm_custom_page_sizes(false);
    config.memory_init_cow(images);
    config.parallel_compilation(true);
    // Registering unwind tables gets slow with many modules, and only native debuggers read them.
    config.native_unwind_info(false);
    // Debug information of a guest is input that nobody trusts, and parsing it costs.
    config.wasm_backtrace_details(wasmtime::WasmBacktraceDetails::Disable);
    config.cranelift_opt_level(match tier {
        Tier::Fast => OptLevel::None,
        Tier::Optimised => OptLevel::Speed,
    });
    config
}

/// Compiles on the calling thread and the compiler's own. Bytes that are out of bounds are refused before they cost
/// much.
fn compile(wasm: &[u8], order: &CompileOrder) -> Result<Compiled, Refusal> {
    let core_module = wasm::is_core_module(wasm)?;
    let toolchain = scan::scan(wasm)?;
    let invalid = |error: wasmtime::Error| Refusal::Invalid(wasm::shown(&error));
    let engine = Engine::new(&settings(order.tier, !order.without_images)).map_err(invalid)?;
    let component = wasm::component_bytes(&engine, wasm, core_module)?;
    let artifact = engine.precompile_component(&component).map_err(invalid)?;
    let facts = Facts { core_module, toolchain };
    let artifact = artifact.into();
    Ok(Compiled { facts, artifact })
}

/// How long a compilation may take on the clock before it is given up: the machine may be busy, and it has low priority.
fn wall_limit(processor_time: Duration) -> Duration {
    processor_time.saturating_mul(10)
}
