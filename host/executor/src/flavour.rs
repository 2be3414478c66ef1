//! The contracts that a component can fulfil.

use std::fmt;

/// The contract that a component fulfils. A component that fulfils none or several is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flavour {
    /// Exports `sandhog:worker/handler`: one message at a time.
    Handler,
    /// Exports `sandhog:worker/async-handler`: one message at a time, asynchronously.
    AsyncHandler,
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
    pub const ALL: [Self; 7] = [
        Self::Handler,
        Self::AsyncHandler,
        Self::BatchHandler,
        Self::Command,
        Self::WasiMessaging,
        Self::WasmcloudMessaging,
        Self::SpinSqs,
    ];

    /// Returns the export that gives a component this flavour, and the prefix of its version; the prefix is empty if the export
    /// has no version.
    pub fn export(self) -> (&'static str, &'static str) {
        match self {
            Self::Handler => ("sandhog:worker/handler", "0.1."),
            Self::AsyncHandler => ("sandhog:worker/async-handler", "0.1."),
            Self::BatchHandler => ("sandhog:worker/batch-handler", "0.1."),
            Self::Command => ("wasi:cli/run", "0.2."),
            Self::WasiMessaging => ("wasi:messaging/incoming-handler", "0.2.0-draft"),
            Self::WasmcloudMessaging => ("wasmcloud:messaging/handler", "0.2."),
            Self::SpinSqs => ("handle-queue-message", ""),
        }
    }

    /// Returns whether an export of this name, its version included, gives a component this flavour.
    pub fn is_made_by(self, export: &str) -> bool {
        let (name, version) = self.export();
        let (found, found_version) = export.split_once('@').unwrap_or((export, ""));
        found == name && found_version.starts_with(version)
    }

    /// Returns the name in messages and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Handler => "handler",
            Self::AsyncHandler => "async-handler",
            Self::BatchHandler => "batch-handler",
            Self::Command => "command",
            Self::WasiMessaging => "wasi-messaging",
            Self::WasmcloudMessaging => "wasmcloud-messaging",
            Self::SpinSqs => "spin-sqs",
        }
    }

    /// Returns whether one call takes more than one message.
    pub fn takes_batches(self) -> bool {
        match self {
            Self::BatchHandler => true,
            Self::Handler
            | Self::AsyncHandler
            | Self::Command
            | Self::WasiMessaging
            | Self::WasmcloudMessaging
            | Self::SpinSqs => false,
        }
    }
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
