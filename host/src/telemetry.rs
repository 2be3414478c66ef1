//! Where log events go: standard error, for people or for machines.

use std::{fmt, io, str::FromStr as _};

use tracing::field::Field;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter,
    field::MakeExt as _,
    fmt::{
        fmt as subscriber,
        format::{Writer, debug_fn},
    },
    util::{SubscriberInitExt as _, TryInitError},
};

use crate::printable::printable;

/// The variable that holds the filter, in the form of `RUST_LOG`: `debug`, `info,sandhog::reload=trace`.
pub const FILTER_VARIABLE: &str = "SANDHOG_LOG";

/// Crates whose own events say little to an operator. A filter can name them to hear more.
///
/// What the engine's `wasi:http` warns of, a guest can make it say as often as it likes.
const NOISY: &str = "wasmtime=warn,wasmtime_wasi_http=error,cranelift_codegen=warn,regalloc2=warn,hyper=warn,axum=warn,notify=warn,mio=warn,ureq=warn,ureq_proto=warn,rustls=warn";

/// Lines that wait to be written, at most.
const MAX_BUFFERED_LINES: usize = 16 * 1024;

/// How an event is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// One line for people, in colour on a terminal.
    #[default]
    Text,
    /// One line of JSON.
    Json,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// The filter is not one.
    #[error("{FILTER_VARIABLE} = {filter:?} is not a filter such as \"info\" or \"warn,sandhog=debug\"")]
    Filter {
        /// What was given.
        filter: String,
    },
    /// Some other part of this process has set up its log already.
    #[error("the log is already set up")]
    AlreadySet(#[source] TryInitError),
}

/// Sends the events of this process to standard error. Called once, by a binary.
///
/// # Errors
///
/// See [`TelemetryError`].
pub fn init(format: LogFormat, filter: Option<&str>, colour: bool) -> Result<LogGuard, TelemetryError> {
    let filter = parse(filter)?;
    // A thread of its own writes: whoever logs, a guest included, must neither wait for a full pipe nor fail at a
    // closed one. What does not fit into the buffer is dropped.
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(MAX_BUFFERED_LINES)
        .lossy(true)
        .thread_name("sandhog-log")
        .finish(io::stderr());
    let builder = subscriber()
        .with_env_filter(filter)
        .with_writer(writer)
        .log_internal_errors(false);
    let set = match format {
        LogFormat::Text => builder
            .compact()
            .with_ansi(colour)
            .fmt_fields(debug_fn(write_field).delimited(" "))
            .finish()
            .try_init(),
        LogFormat::Json => builder.json().finish().try_init(),
    };
    set.map(|()| LogGuard(guard)).map_err(TelemetryError::AlreadySet)
}

/// The field whose value is shown as it is, each line indented so that it can't be taken for an event: for what is copied.
const LINES: &str = "lines";

/// A field of a line for people. Names of files, queues and messages are the choice of others: they can't begin another line.
fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    let value = format!("{value:?}");
    match field.name() {
        "message" => write!(writer, "{}", printable(&value, usize::MAX)),
        LINES => value
            .lines()
            .try_for_each(|line| write!(writer, "\n    {}", printable(line, usize::MAX))),
        name => write!(writer, "{name}={}", printable(&value, usize::MAX)),
    }
}

/// Writes what is still buffered when it is dropped; held by a binary until it ends.
#[derive(Debug)]
#[must_use = "the log ends with it"]
pub struct LogGuard(#[expect(dead_code, reason = "held for its drop")] WorkerGuard);

fn parse(filter: Option<&str>) -> Result<EnvFilter, TelemetryError> {
    let filter = filter.filter(|filter| !filter.is_empty()).unwrap_or("info");
    // What the filter says about a noisy crate comes later, and so it wins.
    EnvFilter::from_str(&format!("{NOISY},{filter}")).map_err(|_| TelemetryError::Filter {
        filter: filter.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Takes what is written in the text form.
    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(event: impl FnOnce()) -> String {
        let page = Page::default();
        let copy = page.clone();
        let builder = subscriber().with_writer(move || copy.clone()).without_time();
        let format = debug_fn(write_field).delimited(" ");
        let log = builder.compact().with_ansi(false).fmt_fields(format).finish();
        tracing::subscriber::with_default(log, event);
        let bytes = page.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_name_can_not_begin_a_line_of_the_log() {
        // They were written as they are, and so wrote lines of their own.
        let name = "a\u{1b}[2J\n2026-01-01 ERROR sandhog: it\u{2028}fails";
        let page = written(|| tracing::info!(file = %name, text = name, "{name}"));
        assert_eq!(page.lines().count(), 1, "{page}");
        assert!(!page.contains(['\u{1b}', '\u{2028}']), "{page}");
        assert!(page.contains("file=a\\u{1b}[2J\\n2026"), "{page}");
    }

    #[test]
    fn a_line_to_copy_is_written_as_it_is() {
        let lines = "[grant]\nsend = [\"QUEUE\"]";
        let page = written(|| tracing::error!(handler = "orders", %lines, "refused"));
        assert!(
            page.ends_with("refused handler=\"orders\" \n    [grant]\n    send = [\"QUEUE\"]\n"),
            "{page}"
        );
    }

    #[test]
    fn a_filter_that_is_none_is_named() {
        let expected = "SANDHOG_LOG = \"sandhog=loud\" is not a filter such as \"info\" or \"warn,sandhog=debug\"";
        assert_eq!(parse(Some("sandhog=loud")).unwrap_err().to_string(), expected);
    }

    #[test]
    fn a_filter_can_make_a_noisy_crate_loud() {
        assert!(
            parse(Some("wasmtime=trace"))
                .unwrap()
                .to_string()
                .contains("wasmtime=trace")
        );
        assert!(parse(None).unwrap().to_string().contains("info"));
    }
}
