//! A guest's standard output and standard error: split into lines, capped, handed to the log.
//!
//! A guest never sees the cap: what is past it is dropped and counted, so that a chatty guest is not a
//! failing one.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::{
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamResult},
};

use crate::{
    config::Limits,
    executor::{LogLine, LogSink, LogStream},
    printable::printable,
};

/// How much a guest may write in one go. WASI's own streams use the same.
const PERMIT_BYTES: usize = 64 * 1024;

/// What a line costs besides its text, so that a flood of empty lines is a flood too. In bytes.
const LINE_COST: u64 = 64;

/// What both streams of one attempt share.
pub(super) struct OutputAccount {
    sink: LogSink,
    line_bytes: usize,
    bytes_left: AtomicU64,
    lines_dropped: AtomicU64,
}

impl OutputAccount {
    pub(super) fn new(sink: LogSink, limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            sink,
            line_bytes: usize::try_from(limits.log_line_bytes).unwrap_or(usize::MAX - 1),
            bytes_left: AtomicU64::new(limits.log_bytes),
            lines_dropped: AtomicU64::new(0),
        })
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
            (self.sink)(LogLine { stream, text });
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
    account: Arc<OutputAccount>,
    stream: LogStream,
    unfinished: Mutex<Vec<u8>>,
}

impl GuestOutput {
    pub(super) fn new(account: &Arc<OutputAccount>, stream: LogStream) -> Self {
        Self(Arc::new(Lines {
            account: Arc::clone(account),
            stream,
            unfinished: Mutex::default(),
        }))
    }
}

impl Lines {
    fn write(&self, bytes: &[u8]) {
        let mut unfinished = self.unfinished.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end);
            self.keep(&mut unfinished, line);
            self.finish(&mut unfinished);
            rest = after.get(1..).unwrap_or_default();
        }
        self.keep(&mut unfinished, rest);
    }

    /// One byte more than the limit is kept, so that `finish` shows that the line was cut.
    fn keep(&self, unfinished: &mut Vec<u8>, part: &[u8]) {
        let room = (self.account.line_bytes + 1).saturating_sub(unfinished.len());
        unfinished.extend_from_slice(part.get(..room.min(part.len())).unwrap_or_default());
    }

    fn finish(&self, unfinished: &mut Vec<u8>) {
        let line = String::from_utf8_lossy(unfinished);
        self.account.log(self.stream, line.strip_suffix('\r').unwrap_or(&line));
        unfinished.clear();
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let mut unfinished = std::mem::take(self.unfinished.get_mut().unwrap_or_else(PoisonError::into_inner));
        if !unfinished.is_empty() {
            self.finish(&mut unfinished);
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
        self.0.write(buf);
        Poll::Ready(Ok(buf.len()))
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
        self.0.write(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(PERMIT_BYTES)
    }
}
