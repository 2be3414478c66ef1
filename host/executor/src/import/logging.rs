//! `wasi:logging`: a guest logs a line with a level.
//!
//! The interface is a draft (0.1.0-draft), and some toolchains import it without a version, so the host links it under both
//! names.

use wasmtime::component::{ComponentType, Lift, Linker};

use crate::policy::LogLevel;
use crate::{LogStream, output::OutputAccount};

const NAMES: [&str; 2] = ["wasi:logging/logging", "wasi:logging/logging@0.1.0-draft"];

#[expect(dead_code, reason = "a guest makes the values, by number")]
#[derive(Debug, Clone, Copy, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
enum Level {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
    #[component(name = "critical")]
    Critical,
}

impl From<Level> for LogLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::Trace => Self::Trace,
            Level::Debug => Self::Debug,
            Level::Info => Self::Info,
            Level::Warn => Self::Warn,
            Level::Error => Self::Error,
            Level::Critical => Self::Critical,
        }
    }
}

/// The log of a guest, for as long as one call of the import.
pub(crate) struct LoggingView<'a> {
    /// The least severe level that is logged.
    pub(crate) level: LogLevel,
    pub(crate) output: &'a OutputAccount,
}

/// Links the interface under both names.
pub(crate) fn add_to_linker<T: 'static>(
    linker: &mut Linker<T>,
    view: fn(&T) -> LoggingView<'_>,
) -> wasmtime::Result<()> {
    for name in NAMES {
        let logging = &mut linker.instance(name)?;
        logging.func_wrap(
            "log",
            move |store, (level, context, message): (Level, String, String)| {
                view(store.data()).log(level.into(), &context, message);
                Ok(())
            },
        )?;
    }
    Ok(())
}

impl LoggingView<'_> {
    fn log(&self, level: LogLevel, context: &str, message: String) {
        if level < self.level {
            return;
        }
        let text = if context.is_empty() {
            message
        } else {
            format!("{context}: {message}")
        };
        self.output.log(LogStream::Logging(level), &text);
    }
}
