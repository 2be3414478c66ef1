//! Streams of files: counted as open, with no more than one buffer each, and waiting on the threads of their handler.

use bytes::Bytes;
use tokio::runtime::Handle;
use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, FsResult, InputStream, OutputStream, Pollable, StreamError, StreamResult,
};

use super::{account::OpenFile, on};

/// A stream of the engine, bounded.
struct Bounded<S> {
    stream: S,
    threads: Option<Handle>,
    _open: OpenFile,
}

/// Bounds a stream that the engine has just made.
pub(super) fn bound_input(
    table: &mut ResourceTable,
    stream: Resource<DynInputStream>,
    (threads, open): (Option<Handle>, OpenFile),
) -> FsResult<Resource<DynInputStream>> {
    let stream = table.delete(stream)?;
    let bounded: DynInputStream = Box::new(Bounded {
        stream,
        threads,
        _open: open,
    });
    Ok(table.push(bounded)?)
}

/// As [`bound_input`].
pub(super) fn bound_output(
    table: &mut ResourceTable,
    stream: Resource<DynOutputStream>,
    (threads, open): (Option<Handle>, OpenFile),
) -> FsResult<Resource<DynOutputStream>> {
    let stream = table.delete(stream)?;
    let bounded: DynOutputStream = Box::new(Bounded {
        stream,
        threads,
        _open: open,
    });
    Ok(table.push(bounded)?)
}

impl<S> Bounded<S> {
    /// Calls the stream where what it spawns goes to the threads of the handler.
    fn now<T>(&mut self, call: impl FnOnce(&mut S) -> T) -> T {
        let _threads = self.threads.as_ref().map(Handle::enter);
        call(&mut self.stream)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Bounded<DynInputStream> {
    async fn ready(&mut self) {
        on(self.threads.clone(), self.stream.ready()).await;
    }
}

#[wasmtime_wasi::async_trait]
impl InputStream for Bounded<DynInputStream> {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.now(|stream| stream.read(size))
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        on(self.threads.clone(), self.stream.blocking_read(size)).await
    }

    async fn cancel(&mut self) {
        on(self.threads.clone(), self.stream.cancel()).await;
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Bounded<DynOutputStream> {
    async fn ready(&mut self) {
        on(self.threads.clone(), self.stream.ready()).await;
    }
}

#[wasmtime_wasi::async_trait]
impl OutputStream for Bounded<DynOutputStream> {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        // The engine's own does not look, and holds what it is given until the disk has it.
        if bytes.len() > self.check_write()? {
            return Err(StreamError::trap("it wrote more to a stream than check-write allows"));
        }
        self.now(|stream| stream.write(bytes))
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.now(|stream| stream.flush())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.now(|stream| stream.check_write())
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        on(self.threads.clone(), self.stream.blocking_write_and_flush(bytes)).await
    }

    async fn cancel(&mut self) {
        on(self.threads.clone(), self.stream.cancel()).await;
    }
}
