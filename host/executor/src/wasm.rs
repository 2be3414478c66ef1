//! Turns the bytes of a file into the bytes of a component, before they are compiled.

use std::{borrow::Cow, fmt, panic};

use sha2::{Digest as _, Sha256};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasmtime::{Engine, Module};
use wit_component::ComponentEncoder;

use self::world::Shape;
use super::compiler::Refusal;
use sandhog_queue::printable::{MAX_REASON_BYTES, hex, printable};

mod adapter_memory;
mod other_hosts;
mod world;

/// The largest file that is accepted, in bytes (64 MiB).
pub const MAX_WASM_BYTES: usize = 64 * 1024 * 1024;

/// The headers of the two kinds of binary, which differ in the last four bytes (component model, binary format).
const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// What the engine says of a proposal that it does not take, and what to do about it.
const ADVICE: &[(&str, &str)] = &[
    (
        "legacy_exceptions",
        "it uses the old instructions for exceptions: compile it with the new ones (clang: -mllvm -wasm-use-legacy-eh=false; \
        Emscripten: -sWASM_LEGACY_EXCEPTIONS=0; Kotlin: -Xwasm-use-new-exception-proposal)",
    ),
    ("memory64", "its memory has 64-bit addresses: compile it for wasm32"),
    (
        "threads",
        "it uses threads, which an attempt does not have: compile it without them",
    ),
    (
        "shared memor",
        "it uses shared memory, which an attempt does not have: compile it without threads",
    ),
];

/// Returns the name of a component: the SHA-256 of its file's bytes, in hexadecimal.
pub fn digest(wasm: &[u8]) -> String {
    hex(&Sha256::digest(wasm))
}

/// Returns whether the file is a core module, by its header. Text is never accepted.
pub(crate) fn is_core_module(wasm: &[u8]) -> Result<bool, Refusal> {
    if wasm.starts_with(COMPONENT) {
        Ok(false)
    } else if wasm.starts_with(CORE_MODULE) {
        Ok(true)
    } else {
        Err(Refusal::NotWasm(describe(wasm)))
    }
}

/// Returns the bytes of a component: `wasm` itself, or the component that wraps a core module.
///
/// A core module carries the description of its world, as binding generators embed it, or it is a program, or it exports
/// the functions of a handler. Imports of WASI preview 1 are adapted to WASI 0.2.
pub(crate) fn component_bytes<'w>(
    engine: &Engine,
    wasm: &'w [u8],
    core_module: bool,
) -> Result<Cow<'w, [u8]>, Refusal> {
    if !core_module {
        return Ok(Cow::Borrowed(wasm));
    }
    // The encoder trusts the sections of a module, so the engine validates them first.
    Module::validate(engine, wasm).map_err(|error| refused(&error))?;
    // The encoder reads untrusted bytes; a bug in it must not end a host that compiles in its own process.
    let encoded = panic::catch_unwind(|| {
        let shape = Shape::of(wasm)?;
        let mut module = world::described(wasm, &shape)?;
        let mut adapter = Cow::Borrowed(WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER);
        let mut is_hidden = false;
        if shape.is_program {
            adapter = Cow::Owned(adapter_memory::hiding_adapter()?);
            if let Some(program) = adapter_memory::hidden(&module)? {
                (module, is_hidden) = (program, true);
            }
        }
        ComponentEncoder::default()
            .validate(true)
            // A program has no memory to give before it has started, as in Go.
            .realloc_via_memory_grow(is_hidden)
            .module(&module)?
            .adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, &adapter)?
            .encode()
    });
    match encoded {
        Ok(Ok(component)) => Ok(Cow::Owned(component)),
        Ok(Err(error)) => Err(Refusal::NotAComponent(advised(
            other_hosts::advice(wasm),
            shown(&error),
        ))),
        Err(_) => Err(Refusal::NotAComponent("the encoder gave up on it".to_owned())),
    }
}

/// Makes the refusal of a file that the engine does not take: what the engine says, and what to do if that is known.
pub(crate) fn refused(error: &dyn fmt::Display) -> Refusal {
    let said = shown(error);
    let advice = ADVICE.iter().find(|(proposal, _)| said.contains(proposal));
    Refusal::Invalid(advised(advice.map(|(_, advice)| *advice), said))
}

fn advised(advice: Option<&str>, said: String) -> String {
    match advice {
        Some(advice) => format!("{advice} ({said})"),
        None => said,
    }
}

/// Returns the text of an error of the engine or the encoder, cut and escaped: it quotes names that the file chose.
pub(crate) fn shown(error: &dyn fmt::Display) -> String {
    printable(&format!("{error:#}"), 2 * MAX_REASON_BYTES)
}

fn describe(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        "it is empty".to_owned()
    } else if bytes.starts_with(b"\0asm") {
        "it has an unknown version of the format".to_owned()
    } else if bytes.starts_with(b"(module") || bytes.starts_with(b"(component") {
        "it is in the text format; convert it to the binary one".to_owned()
    } else {
        "it does not start with the header \\0asm".to_owned()
    }
}
