//! A guest's standard output and standard error: split into lines, bounded, and logged or collected.
//!
//! A guest never sees the bound of the log: lines past it are dropped and counted, so that a guest does not fail because it
//! prints much. Collected lines are meant to be sent, so a guest that prints more of them than it may send has failed.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use wasmtime_wasi::{
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamError, StreamResult},
};

use crate::{LogLine, LogSink, LogStream, policy::Limits};
use sandhog_queue::{
    message::MAX_BODY_BYTES,
    printable::{MAX_REASON_BYTES, printable},
};

/// The bytes that a guest may write in one go. WASI's own streams use the same number.
const PERMIT_BYTES: usize = 64 * 1024;

/// The bytes that a line costs besides its text, so that empty lines use up the bound, too.
const LINE_COST: u64 = 64;

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

    /// Logs one text as one line, cut and escaped.
    pub(crate) fn log(&self, stream: LogStream, text: &str) {
        self.emit(stream, printable(text, self.line_bytes));
    }

    fn emit(&self, stream: LogStream, text: String) {
        let cost = u64::try_from(text.len()).unwrap_or(u64::MAX).saturating_add(LINE_COST);
        let taken = self
            .bytes_left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(cost));
        if taken.is_ok() {
            let sink = Arc::clone(&*self.sink.lock());
            sink(LogLine { stream, text });
        } else {
            self.bytes_left.store(0, Ordering::Relaxed);
            self.lines_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// One of the two streams. Clones write to the same place; the last one flushes an unfinished line.
#[derive(Clone)]
pub(crate) struct GuestOutput(Arc<LineWriter>);

struct LineWriter {
    to: LineDestination,
    line_bytes: usize,
    state: Mutex<LineState>,
}

enum LineDestination {
    Log(Arc<OutputAccount>, LogStream),
    Collected,
}

#[derive(Default)]
struct LineState {
    unfinished: Vec<u8>,
    /// The last line that was not blank.
    last: Option<String>,
    collected: Vec<Bytes>,
    lines_left: u64,
    bytes_left: u64,
    /// The reason that no line can be sent.
    overflow: Option<String>,
}

impl GuestOutput {
    pub(crate) fn new(account: &Arc<OutputAccount>, stream: LogStream) -> Self {
        Self(Arc::new(LineWriter {
            to: LineDestination::Log(Arc::clone(account), stream),
            line_bytes: account.line_bytes,
            state: Mutex::default(),
        }))
    }

    /// Collects lines for [`Self::take_collected`]: at most so many, of so many bytes together.
    pub(crate) fn collecting(lines: u64, bytes: u64) -> Self {
        let state = LineState {
            lines_left: lines,
            bytes_left: bytes,
            ..LineState::default()
        };
        Self(Arc::new(LineWriter {
            to: LineDestination::Collected,
            line_bytes: MAX_BODY_BYTES,
            state: Mutex::new(state),
        }))
    }

    /// Ends the unfinished line.
    pub(crate) fn flush_line(&self) {
        let mut state = self.0.state.lock();
        self.0.finish_unfinished(&mut state);
    }

    /// Takes the lines so far, an unfinished one included.
    ///
    /// # Errors
    ///
    /// There were more lines, or longer ones, than may be collected.
    pub(crate) fn take_collected(&self) -> Result<Vec<Bytes>, String> {
        let mut state = self.0.state.lock();
        self.0.finish_unfinished(&mut state);
        match state.overflow.take() {
            Some(overflow) => Err(overflow),
            None => Ok(std::mem::take(&mut state.collected)),
        }
    }

    /// Takes the last line that is not blank, an unfinished one included. `None` if there is none, or lines are collected.
    pub(crate) fn last_line(&self) -> Option<String> {
        let mut state = self.0.state.lock();
        self.0.finish_unfinished(&mut state);
        state.last.take()
    }

    fn write_all(&self, bytes: &[u8]) -> Result<(), String> {
        self.0.write(bytes)
    }
}

impl LineWriter {
    fn write(&self, bytes: &[u8]) -> Result<(), String> {
        let state = &mut *self.state.lock();
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end);
            self.keep(&mut state.unfinished, line);
            self.finish(state);
            rest = after.get(1..).unwrap_or_default();
        }
        self.keep(&mut state.unfinished, rest);
        if state.unfinished.len() > self.line_bytes && matches!(self.to, LineDestination::Collected) {
            self.finish(state);
        }
        state.overflow.clone().map_or(Ok(()), Err)
    }

    /// Appends a part to the unfinished line. Keeps one byte more than the limit, so that `finish` sees that there was more.
    fn keep(&self, unfinished: &mut Vec<u8>, part: &[u8]) {
        let room = (self.line_bytes + 1).saturating_sub(unfinished.len());
        unfinished.extend_from_slice(part.get(..room.min(part.len())).unwrap_or_default());
    }

    fn finish_unfinished(&self, state: &mut LineState) {
        if !state.unfinished.is_empty() {
            self.finish(state);
        }
    }

    fn finish(&self, state: &mut LineState) {
        let mut line = std::mem::take(&mut state.unfinished);
        match &self.to {
            LineDestination::Log(account, stream) => {
                let text = String::from_utf8_lossy(&line);
                let text = text.strip_suffix('\r').unwrap_or(&text);
                account.log(*stream, text);
                if !text.trim().is_empty() {
                    state.last = Some(printable(text.trim(), MAX_REASON_BYTES));
                }
                // The next line reuses the allocation.
                line.clear();
                state.unfinished = line;
            }
            LineDestination::Collected => state.collect(line),
        }
    }
}

impl LineState {
    fn collect(&mut self, mut line: Vec<u8>) {
        if line.ends_with(b"\r") {
            line.pop();
        }
        let bytes = u64::try_from(line.len()).unwrap_or(u64::MAX).saturating_add(LINE_COST);
        let lines_left = self.lines_left.checked_sub(1);
        let bytes_left = self.bytes_left.checked_sub(bytes);
        if line.len() > MAX_BODY_BYTES {
            self.overflow = Some(format!("a line has more than the {MAX_BODY_BYTES} bytes of a message"));
        } else if let (Some(lines_left), Some(bytes_left)) = (lines_left, bytes_left) {
            self.lines_left = lines_left;
            self.bytes_left = bytes_left;
            self.collected.push(line.into());
        } else {
            let limit = lines_left.map_or("limits.sends", |_| "limits.send-bytes");
            self.overflow = Some(format!("the program printed more than it may send ({limit})"));
        }
        if self.overflow.is_some() {
            self.collected.clear();
        }
    }
}

impl Drop for LineWriter {
    fn drop(&mut self) {
        let mut state = std::mem::take(self.state.get_mut());
        if matches!(self.to, LineDestination::Log(..)) {
            self.finish_unfinished(&mut state);
        }
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
