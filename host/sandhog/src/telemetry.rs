//! The log: events on standard error, for people or for machines. And a line below it on a terminal, for work that lasts.
//!
//! Invariant: one thread alone writes both, so that no other waits for a terminal or a pipe that takes nothing.

use std::{
    fmt,
    io::{self, Write as _},
    str::FromStr as _,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing::field::{Field, Visit};
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter,
    field::RecordFields,
    fmt::{FormatFields, fmt as subscriber, format::Writer},
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
        .finish(LogOutput {
            line: ProgressBar::hidden(),
        });
    let line = StatusLine(Some(writer.clone()));
    let builder = subscriber()
        .with_env_filter(filter)
        .with_writer(writer)
        .log_internal_errors(false);
    let set = match format {
        LogFormat::Text => builder
            .compact()
            .with_ansi(colour)
            .fmt_fields(FieldsForPeople)
            .finish()
            .try_init(),
        LogFormat::Json => builder.json().finish().try_init(),
    };
    let guard = LogGuard { _worker: guard, line };
    set.map(|()| guard).map_err(TelemetryError::AlreadySet)
}

/// What a text for the line begins with. No event does.
const OF_LINE: &[u8] = b"\0";

/// Writes what work is under way, and how far it is, below the log on a terminal.
#[derive(Debug, Clone, Default)]
pub struct StatusLine(Option<NonBlocking>);

impl StatusLine {
    /// Shows the text in place of the one before; an empty one takes the line away. Never waits: if the terminal takes nothing, some
    /// texts are not shown.
    pub fn show(&self, text: &str) {
        let Some(mut writer) = self.0.clone() else { return };
        let text = [OF_LINE, text.as_bytes()].concat();
        // It is lossy, as the log is.
        drop(writer.write_all(&text));
    }
}

/// What the thread of the log writes to.
struct LogOutput {
    line: ProgressBar,
}

impl LogOutput {
    fn show(&mut self, text: &str) {
        if text.is_empty() {
            self.line.finish_and_clear();
            self.line = ProgressBar::hidden();
            return;
        }
        if self.line.is_hidden() {
            self.line = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
                self.line.set_style(style);
            }
        }
        self.line.set_message(text.to_owned());
        self.line.tick();
    }
}

impl io::Write for LogOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(text) = bytes.strip_prefix(OF_LINE) {
            self.show(&String::from_utf8_lossy(text));
        } else {
            self.line.suspend(|| io::stderr().write_all(bytes))?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// The form of an event's fields for people. Others choose the names of files, queues and messages, so a value can't begin a
/// line. Texts that may have several lines go on below the event, indented, so that none looks like an event.
struct FieldsForPeople;

/// The fields whose values may have several lines. The lines of a reason can be ones to copy, so they are not quoted.
const MESSAGE: &str = "message";
const REASON: &str = "reason";
const STACK: &str = "stack";

impl<'w> FormatFields<'w> for FieldsForPeople {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut fields_writer = FieldWriter {
            writer,
            is_first: true,
            below: String::new(),
            written: Ok(()),
        };
        fields.record(&mut fields_writer);
        fields_writer.written?;
        fields_writer.writer.write_str(&fields_writer.below)
    }
}

/// Writes the fields of one event.
struct FieldWriter<'w> {
    writer: Writer<'w>,
    is_first: bool,
    /// The lines that come below the event.
    below: String,
    written: fmt::Result,
}

impl FieldWriter<'_> {
    /// Writes a text in the event's own line.
    fn inline(&mut self, text: fmt::Arguments<'_>) {
        let space = if std::mem::take(&mut self.is_first) { "" } else { " " };
        self.written = self.written.and_then(|()| write!(self.writer, "{space}{text}"));
    }

    fn below<'l>(&mut self, indent: &str, lines: impl Iterator<Item = &'l str>) {
        for line in lines {
            self.below.extend(["\n", indent, &printable(line, usize::MAX)]);
        }
    }
}

impl Visit for FieldWriter<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            MESSAGE => {
                let mut lines = value.lines();
                let first = printable(lines.next().unwrap_or_default(), usize::MAX);
                self.inline(format_args!("{first}"));
                self.below("    ", lines);
            }
            REASON if value.contains('\n') => {
                let mut lines = value.lines();
                let first = format!("{REASON}: {}", lines.next().unwrap_or_default());
                self.below("    ", [first.as_str()].into_iter());
                self.below("        ", lines);
            }
            STACK => self.below("    ", value.lines()),
            name => self.inline(format_args!("{name}={}", printable(&format!("{value:?}"), usize::MAX))),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let value = format!("{value:?}");
        match field.name() {
            MESSAGE | REASON | STACK => self.record_str(field, &value),
            name => self.inline(format_args!("{name}={}", printable(&value, usize::MAX))),
        }
    }
}

/// Writes the buffered lines when it is dropped. A binary holds it until it ends.
#[derive(Debug)]
#[must_use = "the log ends with it"]
pub struct LogGuard {
    line: StatusLine,
    _worker: WorkerGuard,
}

impl LogGuard {
    /// Returns the line below the log. A caller uses it only where standard error is a terminal.
    pub fn line(&self) -> StatusLine {
        self.line.clone()
    }
}

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
        let log = builder.compact().with_ansi(false).fmt_fields(FieldsForPeople).finish();
        tracing::subscriber::with_default(log, event);
        let bytes = page.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_name_can_not_begin_a_line_of_the_log() {
        // Such names were written unescaped, and so began lines of their own.
        let name = "a\u{1b}[2J\n2026-01-01 ERROR sandhog: it\u{2028}fails";
        let page = written(|| tracing::info!(file = %name, text = name, "named"));
        assert_eq!(page.lines().count(), 1, "{page}");
        assert!(!page.contains(['\u{1b}', '\u{2028}']), "{page}");
        assert!(page.contains("file=a\\u{1b}[2J\\n2026"), "{page}");
    }

    #[test]
    fn a_line_to_copy_is_written_as_it_is() {
        let reason = "To grant it, add to orders.toml:\n[grant]\nsend = [\"QUEUE\"]";
        let page = written(|| tracing::error!(handler = "orders", reason, "refused"));
        let expected = "refused handler=\"orders\"\n    reason: To grant it, add to orders.toml:\n        [grant]\n        send = [\"QUEUE\"]\n";
        assert!(page.ends_with(expected), "{page}");
    }

    #[test]
    fn what_a_guest_says_in_several_lines_stays_below_its_event() {
        let text = "one\n2026-01-01 ERROR sandhog: forged\u{1b}[2J\n  three";
        let page = written(|| tracing::warn!(queue = "q", reason = text, stack = "at f (a.js:1)\nat g", "{text}"));
        let expected = "one queue=\"q\"\n    2026-01-01 ERROR sandhog: forged\\u{1b}[2J\n      three\n    reason: one\n        \
            2026-01-01 ERROR sandhog: forged\\u{1b}[2J\n          three\n    at f (a.js:1)\n    at g\n";
        assert!(page.ends_with(expected), "{page}");
        let page = written(|| tracing::warn!(reason = "one line", stack = None::<&str>, queue = "q", "not handled"));
        assert!(
            page.ends_with("not handled reason=\"one line\" queue=\"q\"\n"),
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
