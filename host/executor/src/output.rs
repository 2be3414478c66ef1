//! A guest's standard output and standard error: split into records or lines, bounded, and logged or collected.
//!
//! A guest never sees the bound of the log: lines past it are dropped and counted, so that a guest does not fail because it
//! prints much. Collected lines are meant to be sent, so a guest that prints more of them than it may send has failed.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    io::AsyncWrite,
    time::{Instant, Sleep, sleep_until},
};
use wasmtime_wasi::{
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamError, StreamResult},
};

use self::{
    collected::CollectedLines,
    records::{RecordRule, RecordSplitter},
};
use crate::{LogLine, LogSink, LogStream, crash_report::CrashReport, policy::Limits};
use sandhog_queue::printable::printable_lines;

mod collected;
mod records;

/// The bytes that a guest may write in one go. WASI's own streams use the same number.
const PERMIT_BYTES: usize = 64 * 1024;

/// The bytes that a record or a line costs besides its text, so that empty lines use up the bound, too.
const LINE_COST: u64 = 64;

/// The time for which lines that may go on are held. A dump that is being printed takes less.
const HELD: Duration = Duration::from_millis(200);

/// The log of one attempt, which both of its streams share.
pub(crate) struct OutputAccount {
    sink: Mutex<LogSink>,
    line_bytes: usize,
    bytes_left: AtomicU64,
    lines_dropped: AtomicU64,
}

impl OutputAccount {
    pub(crate) fn new(sink: LogSink, limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            sink: Mutex::new(sink),
            line_bytes: usize::try_from(limits.log_line_bytes).unwrap_or(usize::MAX - 1),
            bytes_left: AtomicU64::new(limits.log_bytes),
            lines_dropped: AtomicU64::new(0),
        })
    }

    /// Begins another call of the same instance: later output goes to `sink`, under the same limits.
    pub(crate) fn begin_call(&self, sink: LogSink, limits: &Limits) {
        *self.sink.lock() = sink;
        self.bytes_left.store(limits.log_bytes, Ordering::Relaxed);
        self.lines_dropped.store(0, Ordering::Relaxed);
    }

    pub(crate) fn lines_dropped(&self) -> u64 {
        self.lines_dropped.load(Ordering::Relaxed)
    }

    /// Logs one text as one record, cut and escaped, or counts the lines that are dropped.
    pub(crate) fn log(&self, stream: LogStream, text: &str) {
        if !self.is_used_up() {
            let text = printable_lines(text, self.line_bytes);
            let cost = u64::try_from(text.len()).unwrap_or(u64::MAX).saturating_add(LINE_COST);
            let taken = self
                .bytes_left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(cost));
            if taken.is_ok() {
                let sink = Arc::clone(&*self.sink.lock());
                sink(LogLine { stream, text });
                return;
            }
            self.bytes_left.store(0, Ordering::Relaxed);
        }
        self.drop_lines(text.as_bytes());
        self.drop_lines(b"\n");
    }

    /// Returns whether nothing more gets into the log before the next call.
    fn is_used_up(&self) -> bool {
        self.bytes_left.load(Ordering::Relaxed) == 0
    }

    /// Counts the lines that end in `bytes`.
    fn drop_lines(&self, bytes: &[u8]) {
        let ends = bytes.split(|byte| *byte == b'\n').skip(1).count();
        let ends = u64::try_from(ends).unwrap_or(u64::MAX);
        self.lines_dropped.fetch_add(ends, Ordering::Relaxed);
    }
}

/// One of the two streams. Clones write to the same place; the last one flushes an unfinished line.
#[derive(Clone)]
pub(crate) struct GuestOutput(Arc<OutputDestination>);

enum OutputDestination {
    Log(LoggedStream),
    Collected(Mutex<CollectedLines>),
}

/// A stream that goes to the log.
struct LoggedStream {
    account: Arc<OutputAccount>,
    stream: LogStream,
    /// Lines are held that could be in the log.
    holds: AtomicBool,
    state: Mutex<LoggedState>,
}

struct LoggedState {
    splitter: RecordSplitter,
    /// The time since which lines are held, if any are.
    held_since: Option<Instant>,
}

impl GuestOutput {
    pub(crate) fn new(account: &Arc<OutputAccount>, stream: LogStream) -> Self {
        let rule = if stream == LogStream::Stderr {
            RecordRule::Writes
        } else {
            RecordRule::Lines
        };
        let state = LoggedState {
            splitter: RecordSplitter::new(rule, account.line_bytes),
            held_since: None,
        };
        Self(Arc::new(OutputDestination::Log(LoggedStream {
            account: Arc::clone(account),
            stream,
            holds: AtomicBool::new(false),
            state: Mutex::new(state),
        })))
    }

    /// Collects lines for [`Self::take_collected`]: at most so many, of so many bytes together.
    pub(crate) fn collecting(lines: u64, bytes: u64) -> Self {
        let collected = CollectedLines::new(lines, bytes);
        Self(Arc::new(OutputDestination::Collected(Mutex::new(collected))))
    }

    /// Forgets what an earlier call of the same instance has said last.
    pub(crate) fn begin_call(&self) {
        self.with_log((), |splitter, _| splitter.begin_call());
    }

    /// Logs everything that has not been logged, an unfinished line too.
    pub(crate) fn flush(&self) {
        self.with_log((), RecordSplitter::end);
    }

    /// Runs a guest, and logs the lines that have been held for a while, also while it waits.
    ///
    /// # Cancel safety
    ///
    /// As safe as `call`.
    pub(crate) async fn attend<F: Future>(&self, call: F) -> F::Output {
        let mut call = pin!(call);
        // Made when something is held for the first time.
        let mut timer = None;
        poll_fn(|cx| {
            let polled = call.as_mut().poll(cx);
            if polled.is_pending() {
                self.let_go_in_time(&mut timer, cx);
            }
            polled
        })
        .await
    }

    fn let_go_in_time(&self, timer: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) {
        let OutputDestination::Log(stream) = &*self.0 else {
            return;
        };
        if !stream.holds.load(Ordering::Relaxed) {
            return;
        }
        let Some(since) = stream.state.lock().held_since else {
            return;
        };
        let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(since + HELD)));
        if timer.deadline() != since + HELD {
            timer.as_mut().reset(since + HELD);
        }
        if timer.as_mut().poll(cx).is_ready() {
            stream.with(RecordSplitter::let_go);
        }
    }

    /// Takes the lines so far, an unfinished one included.
    ///
    /// # Errors
    ///
    /// There were more lines, or longer ones, than may be collected.
    pub(crate) fn take_collected(&self) -> Result<Vec<Bytes>, String> {
        match &*self.0 {
            OutputDestination::Log(_) => Ok(Vec::new()),
            OutputDestination::Collected(lines) => lines.lock().take(),
        }
    }

    /// Takes the dump that the guest has printed because it breaks, if it has; it does not get into the log then.
    pub(crate) fn take_dump(&self) -> Option<CrashReport> {
        self.with_log(None, RecordSplitter::take_dump)
    }

    /// Returns the last line that says something, an unfinished one included. `None` if there is none, or lines are collected.
    pub(crate) fn last_line(&self) -> Option<String> {
        self.with_log(None, |splitter, log| splitter.last_line(log).map(str::to_owned))
    }

    /// Calls `work` with what writes to the log; returns `collected` if lines are collected.
    fn with_log<T>(&self, collected: T, work: impl FnOnce(&mut RecordSplitter, &mut dyn FnMut(&str)) -> T) -> T {
        match &*self.0 {
            OutputDestination::Log(stream) => stream.with(work),
            OutputDestination::Collected(_) => collected,
        }
    }

    fn write_all(&self, bytes: &[u8]) -> Result<(), String> {
        match &*self.0 {
            OutputDestination::Log(stream) => {
                // A flood costs no more than it must. Standard error may still say why the guest breaks.
                if stream.stream == LogStream::Stdout && stream.account.is_used_up() {
                    stream.account.drop_lines(bytes);
                } else {
                    stream.with(|splitter, log| splitter.write(bytes, log));
                }
                Ok(())
            }
            OutputDestination::Collected(lines) => lines.lock().write(bytes),
        }
    }
}

impl LoggedStream {
    fn with<T>(&self, work: impl FnOnce(&mut RecordSplitter, &mut dyn FnMut(&str)) -> T) -> T {
        let state = &mut *self.state.lock();
        let answer = work(&mut state.splitter, &mut |text| self.account.log(self.stream, text));
        let holds = state.splitter.holds();
        if holds != state.held_since.is_some() {
            state.held_since = holds.then(Instant::now);
            self.holds.store(holds, Ordering::Relaxed);
        }
        answer
    }
}

impl Drop for LoggedStream {
    fn drop(&mut self) {
        self.with(RecordSplitter::end);
    }
}

impl IsTerminal for GuestOutput {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestOutput {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl AsyncWrite for GuestOutput {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(match self.write_all(buf) {
            Ok(()) => Ok(buf.len()),
            Err(overflow) => Err(io::Error::other(overflow)),
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for GuestOutput {
    async fn ready(&mut self) {}
}

impl OutputStream for GuestOutput {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let overflow = |overflow| StreamError::Trap(wasmtime::Error::msg(overflow));
        self.write_all(&bytes).map_err(overflow)
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(PERMIT_BYTES)
    }
}
