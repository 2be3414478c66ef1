//! The child: gives up its rights, reads a file from standard input, compiles it, writes the answer to standard output.

use std::{
    io::{Read, Write},
    time::Duration,
};

use clap::Args;

use super::{Tier, answer, compile, confine};
use crate::{executor::MAX_WASM_BYTES, exit_code::ExitCode};

/// What a host asks of a compiler, which are also the arguments of the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub struct CompileOrder {
    /// How much work goes into the code.
    #[arg(long, value_enum)]
    pub tier: Tier,
    /// Address space of the child, in bytes.
    #[arg(long)]
    pub memory_bytes: u64,
    /// Processor time of all threads of the child, in seconds.
    #[arg(long)]
    pub processor_seconds: u64,
    /// The code is for a host whose machine makes no images of memories.
    #[arg(long)]
    pub without_images: bool,
}

impl CompileOrder {
    pub(super) fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            "--tier".to_owned(),
            self.tier.to_string(),
            "--memory-bytes".to_owned(),
            self.memory_bytes.to_string(),
            "--processor-seconds".to_owned(),
            self.processor_seconds.to_string(),
        ];
        arguments.extend(self.without_images.then(|| "--without-images".to_owned()));
        arguments
    }

    pub(super) fn processor_time(&self) -> Duration {
        Duration::from_secs(self.processor_seconds)
    }
}

/// `sandhog compile`, which only a host calls: reads a file, writes the answer. Confines the whole process first.
///
/// Answers [`ExitCode::Ok`] if there is an answer, be it a refusal, and [`ExitCode::Internal`] if a right could not be given
/// up, or reading or writing failed: that says nothing about the file.
pub fn compile_and_answer(order: &CompileOrder, input: &mut dyn Read, output: &mut dyn Write) -> ExitCode {
    let could_not = |what: &str| {
        // Whoever asked reads this, or is gone.
        drop(writeln!(std::io::stderr(), "{what}"));
        ExitCode::Internal
    };
    if let Err(error) = confine::confine(order) {
        return could_not(&format!("the compiler could not be confined: {error}"));
    }
    let mut wasm = Vec::new();
    let bound = u64::try_from(MAX_WASM_BYTES).unwrap_or(u64::MAX);
    if let Err(error) = input.take(bound).read_to_end(&mut wasm) {
        return could_not(&format!("the file could not be read: {error}"));
    }
    let compiled = compile(&wasm, order);
    match answer::write(output, compiled.as_ref()) {
        Ok(()) => ExitCode::Ok,
        Err(error) => could_not(&format!("the answer could not be written: {error}")),
    }
}
