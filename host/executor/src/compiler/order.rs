//! The order that a host gives to a compiler.

use std::time::Duration;

use super::CodeTier;

/// The order of one compilation. The command line of the child has one argument for each field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompileOrder {
    /// The work that goes into the code.
    pub tier: CodeTier,
    /// The address space of the child, in bytes.
    pub memory_bytes: u64,
    /// The processor time of all threads of the child, in seconds.
    pub processor_seconds: u64,
    /// The code is for a host whose machine makes no images of memories.
    pub without_images: bool,
    /// A person waits for the code: the child keeps the priority of its parent.
    pub urgent: bool,
    /// The bytes of the functions of an earlier version, which come before the file. `None`: no functions are handed on either.
    pub functions_bytes: Option<u64>,
}

impl CompileOrder {
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            "--tier".to_owned(),
            self.tier.to_string(),
            "--memory-bytes".to_owned(),
            self.memory_bytes.to_string(),
            "--processor-seconds".to_owned(),
            self.processor_seconds.to_string(),
        ];
        arguments.extend(self.without_images.then(|| "--without-images".to_owned()));
        arguments.extend(self.urgent.then(|| "--urgent".to_owned()));
        if let Some(bytes) = self.functions_bytes {
            arguments.extend(["--functions-bytes".to_owned(), bytes.to_string()]);
        }
        arguments
    }

    pub(crate) fn processor_time(&self) -> Duration {
        Duration::from_secs(self.processor_seconds)
    }
}
