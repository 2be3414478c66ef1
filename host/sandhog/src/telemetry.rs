//! The log: events on standard error, for people or for machines.

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

use sandhog_queue::printable::printable;

/// The variable that holds the filter, in the form of `RUST_LOG`: `debug`, `info,sandhog::reload=trace`.
pub const FILTER_VARIABLE: &str = "SANDHOG_LOG";

/// The filter for crates whose events tell an operator little. `SANDHOG_LOG` can name a crate to show more.
///
/// A guest can raise the warnings of the engine's `wasi:http` as often as it likes.
const NOISY: &str = "wasmtime=warn,wasmtime_wasi_http=error,cranelift_codegen=warn,regalloc2=warn,hyper=warn,axum=warn,notify=warn,mio=warn,ureq=warn,ureq_proto=warn,rustls=warn";

/// The most lines that wait to be written.
const MAX_BUFFERED_LINES: usize = 16 * 1024;

/// The form of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// One line for people, in colour on a terminal.
    #[default]
    Text,
    /// One line of JSON.
    Json,
}

/// The reason why the log could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// The filter can't be parsed.
    #[error("{FILTER_VARIABLE} = {filter:?} is not a filter such as \"info\" or \"warn,sandhog=debug\"")]
    Filter {
        /// The text of the variable.
        filter: String,
    },
    /// Another part of this process has set up the log already.
    #[error("the log is already set up")]
    AlreadySet(#[source] TryInitError),
}

/// Sends the events of this process to standard error. A binary calls it once.
///
/// # Errors
///
/// See [`TelemetryError`].
pub fn init(format: LogFormat, filter: Option<&str>, colour: bool) -> Result<LogGuard, TelemetryError> {
    let filter = parse(filter)?;
    // A thread of its own writes, so that no thread that logs, for a guest too, waits for a full pipe or fails at a closed one.
    // Lines that do not fit into the buffer are dropped.
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

/// The name of a field with lines for copying. They are shown unquoted, and indented, so that none looks like an event.
const LINES: &str = "lines";

/// Writes a field of a line for people. Others choose the names of files, queues and messages, so a name can't begin a line.
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

/// Writes the buffered lines when it is dropped. A binary holds it until it ends.
#[derive(Debug)]
#[must_use = "the log ends with it"]
pub struct LogGuard(#[expect(dead_code, reason = "held for its drop")] WorkerGuard);

fn parse(filter: Option<&str>) -> Result<EnvFilter, TelemetryError> {
    let filter = filter.filter(|filter| !filter.is_empty()).unwrap_or("info");
    // The part for a noisy crate in the given filter comes later, and so it wins.
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
        // Such names were written unescaped, and so began lines of their own.
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
