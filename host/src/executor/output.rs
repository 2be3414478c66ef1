//! A guest's standard output and standard error: split into lines, capped, handed to the log or collected.
//!
//! A guest never sees the cap of the log: what is past it is dropped and counted, so that a chatty guest is not a
//! failing one. What is collected is meant to be sent, so there a guest that prints too much has failed.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::{
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamError, StreamResult},
};

use crate::{
    executor::{LogLine, LogSink, LogStream, policy::Limits},
    message::MAX_BODY_BYTES,
    printable::{MAX_REASON_BYTES, printable},
};

/// How much a guest may write in one go. WASI's own streams use the same.
const PERMIT_BYTES: usize = 64 * 1024;

/// What a line costs besides its text, so that a flood of empty lines is a flood too. In bytes.
const LINE_COST: u64 = 64;

/// What both streams of one attempt share.
pub(super) struct OutputAccount {
    sink: Mutex<LogSink>,
    line_bytes: usize,
    bytes_left: AtomicU64,
    lines_dropped: AtomicU64,
}

impl OutputAccount {
    pub(super) fn new(sink: LogSink, limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            sink: Mutex::new(sink),
            line_bytes: usize::try_from(limits.log_line_bytes).unwrap_or(usize::MAX - 1),
            bytes_left: AtomicU64::new(limits.log_bytes),
            lines_dropped: AtomicU64::new(0),
        })
    }

    /// What is written from now on belongs to another message, under the same limits.
    pub(super) fn renew(&self, sink: LogSink, limits: &Limits) {
        *self.sink() = sink;
        self.bytes_left.store(limits.log_bytes, Ordering::Relaxed);
        self.lines_dropped.store(0, Ordering::Relaxed);
    }

    fn sink(&self) -> MutexGuard<'_, LogSink> {
        self.sink.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lines_dropped(&self) -> u64 {
        self.lines_dropped.load(Ordering::Relaxed)
    }

    /// Logs one text as one line, cut and escaped.
    pub(super) fn log(&self, stream: LogStream, text: &str) {
        self.emit(stream, printable(text, self.line_bytes));
    }

    fn emit(&self, stream: LogStream, text: String) {
        let cost = u64::try_from(text.len()).unwrap_or(u64::MAX).saturating_add(LINE_COST);
        let taken = self
            .bytes_left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(cost));
        if taken.is_ok() {
            let sink = Arc::clone(&*self.sink());
            sink(LogLine { stream, text });
        } else {
            self.bytes_left.store(0, Ordering::Relaxed);
            self.lines_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// One of the two streams. Clones write to the same place; the last one flushes an unfinished line.
#[derive(Clone)]
pub(super) struct GuestOutput(Arc<Lines>);

struct Lines {
    to: Destination,
    line_bytes: usize,
    state: Mutex<LineState>,
}

enum Destination {
    Log(Arc<OutputAccount>, LogStream),
    Collected,
}

#[derive(Default)]
struct LineState {
    unfinished: Vec<u8>,
    /// The last line that said something.
    last: Option<String>,
    collected: Vec<Bytes>,
    lines_left: u64,
    bytes_left: u64,
    /// Why nothing of it can be sent.
    overflow: Option<String>,
}

impl GuestOutput {
    pub(super) fn new(account: &Arc<OutputAccount>, stream: LogStream) -> Self {
        Self(Arc::new(Lines {
            to: Destination::Log(Arc::clone(account), stream),
            line_bytes: account.line_bytes,
            state: Mutex::default(),
        }))
    }

    /// Keeps at most so many lines of so many bytes together, for [`Self::take_collected`].
    pub(super) fn collecting(lines: u64, bytes: u64) -> Self {
        let state = LineState {
            lines_left: lines,
            bytes_left: bytes,
            ..LineState::default()
        };
        Self(Arc::new(Lines {
            to: Destination::Collected,
            line_bytes: MAX_BODY_BYTES,
            state: Mutex::new(state),
        }))
    }

    /// Ends a line that has not ended.
    pub(super) fn flush_line(&self) {
        let mut state = self.0.state();
        self.0.finish_what_is_there(&mut state);
    }

    /// The lines so far, an unfinished one included.
    ///
    /// # Errors
    ///
    /// There was more than may be kept.
    pub(super) fn take_collected(&self) -> Result<Vec<Bytes>, String> {
        let mut state = self.0.state();
        self.0.finish_what_is_there(&mut state);
        match state.overflow.take() {
            Some(overflow) => Err(overflow),
            None => Ok(std::mem::take(&mut state.collected)),
        }
    }

    /// The last line that is not blank, an unfinished one included; `None` if there is none, or lines are collected.
    pub(super) fn last_line(&self) -> Option<String> {
        let mut state = self.0.state();
        self.0.finish_what_is_there(&mut state);
        state.last.take()
    }

    fn write_all(&self, bytes: &[u8]) -> Result<(), String> {
        self.0.write(bytes)
    }
}

impl Lines {
    fn state(&self) -> MutexGuard<'_, LineState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, bytes: &[u8]) -> Result<(), String> {
        let state = &mut *self.state();
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end);
            self.keep(&mut state.unfinished, line);
            self.finish(state);
            rest = after.get(1..).unwrap_or_default();
        }
        self.keep(&mut state.unfinished, rest);
        if state.unfinished.len() > self.line_bytes && matches!(self.to, Destination::Collected) {
            self.finish(state);
        }
        state.overflow.clone().map_or(Ok(()), Err)
    }

    /// One byte more than the limit is kept, so that `finish` sees that there was more.
    fn keep(&self, unfinished: &mut Vec<u8>, part: &[u8]) {
        let room = (self.line_bytes + 1).saturating_sub(unfinished.len());
        unfinished.extend_from_slice(part.get(..room.min(part.len())).unwrap_or_default());
    }

    fn finish_what_is_there(&self, state: &mut LineState) {
        if !state.unfinished.is_empty() {
            self.finish(state);
        }
    }

    fn finish(&self, state: &mut LineState) {
        let mut line = std::mem::take(&mut state.unfinished);
        match &self.to {
            Destination::Log(account, stream) => {
                let text = String::from_utf8_lossy(&line);
                let text = text.strip_suffix('\r').unwrap_or(&text);
                account.log(*stream, text);
                if !text.trim().is_empty() {
                    state.last = Some(printable(text.trim(), MAX_REASON_BYTES));
                }
                // Its room is used for the next one.
                line.clear();
                state.unfinished = line;
            }
            Destination::Collected => state.collect(line),
        }
    }
}

impl LineState {
    fn collect(&mut self, mut line: Vec<u8>) {
        if line.ends_with(b"\r") {
            line.pop();
        }
        let bytes = u64::try_from(line.len()).unwrap_or(u64::MAX).saturating_add(LINE_COST);
        let left = (self.lines_left.checked_sub(1), self.bytes_left.checked_sub(bytes));
        if line.len() > MAX_BODY_BYTES {
            self.overflow = Some(format!("a line has more than the {MAX_BODY_BYTES} bytes of a message"));
        } else if let (Some(lines), Some(bytes)) = left {
            (self.lines_left, self.bytes_left) = (lines, bytes);
            self.collected.push(line.into());
        } else {
            let limit = left.0.map_or("limits.sends", |_| "limits.send-bytes");
            self.overflow = Some(format!("the program printed more than it may send ({limit})"));
        }
        if self.overflow.is_some() {
            self.collected.clear();
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let mut state = std::mem::take(self.state.get_mut().unwrap_or_else(PoisonError::into_inner));
        if matches!(self.to, Destination::Log(..)) {
            self.finish_what_is_there(&mut state);
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
