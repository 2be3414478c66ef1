//! `wasi:logging`: a line of the log with a level. The interface is a draft (0.1.0-draft), and some toolchains import it without a
//! version, so it is linked under both names.

use wasmtime::component::{ComponentType, Lift, Linker};

use crate::executor::{LogStream, instance::GuestState, policy::LogLevel};

const NAMES: [&str; 2] = ["wasi:logging/logging", "wasi:logging/logging@0.1.0-draft"];

#[expect(dead_code, reason = "a guest makes them, by number")]
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

pub(super) fn add_to_linker(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    for name in NAMES {
        let logging = &mut linker.instance(name)?;
        logging.func_wrap("log", |store, (level, context, message): (Level, String, String)| {
            log(store.data(), level.into(), &context, message);
            Ok(())
        })?;
    }
    Ok(())
}

fn log(state: &GuestState, level: LogLevel, context: &str, message: String) {
    if level < state.log_level {
        return;
    }
    let text = if context.is_empty() {
        message
    } else {
        format!("{context}: {message}")
    };
    state.output.log(LogStream::Logging(level), &text);
}
