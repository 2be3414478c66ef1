//! The order that a host gives to a compiler.

use std::time::Duration;

use clap::Args;

use super::CodeTier;

/// The order of one compilation, which is also the arguments of the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub struct CompileOrder {
    /// The work that goes into the code.
    #[arg(long, value_enum)]
    pub tier: CodeTier,
    /// The address space of the child, in bytes.
    #[arg(long)]
    pub memory_bytes: u64,
    /// The processor time of all threads of the child, in seconds.
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
