//! The child: gives up its rights, reads a file from standard input, compiles it, and writes the answer to standard output.

use std::io::{Read, Write};

use super::{CompileOrder, answer, compile, confine};
use crate::MAX_WASM_BYTES;

/// The exit code of a compiler that has no answer, be it a refusal (`EX_SOFTWARE`). It says nothing about the file.
pub const COMPILER_FAILED: u8 = 70;

/// The compiler has no answer: a right could not be given up, or reading or writing failed. The reason is on standard error,
/// which the parent reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompilerFailed;

/// Runs `sandhog compile`, which only a host starts: confines the whole process, reads a file, and writes the answer, which
/// may be a refusal.
///
/// # Errors
///
/// [`CompilerFailed`]: there is no answer. The process must end with [`COMPILER_FAILED`].
pub fn compile_and_answer(
    order: &CompileOrder,
    input: &mut dyn Read,
    output: &mut dyn Write,
) -> Result<(), CompilerFailed> {
    let could_not = |reason: &str| {
        // The parent reads this, or is gone.
        drop(writeln!(std::io::stderr(), "{reason}"));
        Err(CompilerFailed)
    };
    if let Err(error) = confine::confine(order) {
        return could_not(&format!("the compiler could not be confined: {error}"));
    }
    let (mut functions, mut wasm) = (Vec::new(), Vec::new());
    let bound = u64::try_from(MAX_WASM_BYTES).unwrap_or(u64::MAX);
    let read = (&mut *input)
        .take(order.functions_bytes.unwrap_or(0))
        .read_to_end(&mut functions)
        .and_then(|_| input.take(bound).read_to_end(&mut wasm));
    if let Err(error) = read {
        return could_not(&format!("the file could not be read: {error}"));
    }
    let compiled = compile(&wasm, functions.into(), order);
    match answer::write(output, compiled.as_ref()) {
        Ok(()) => Ok(()),
        Err(error) => could_not(&format!("the answer could not be written: {error}")),
    }
}
