//! Streams of files: counted as open, with no more than one buffer each, and waiting on the threads of their handler.

use bytes::Bytes;
use tokio::runtime::Handle;
use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, FsResult, InputStream, OutputStream, Pollable, StreamError, StreamResult,
};

use super::{account::OpenFile, with_threads};

/// A stream of the engine within its bounds.
struct BoundedStream<S> {
    stream: S,
    threads: Option<Handle>,
    _open: OpenFile,
}

/// Bounds a stream that the engine has just made.
pub(crate) fn bound_input(
    table: &mut ResourceTable,
    stream: Resource<DynInputStream>,
    threads: Option<Handle>,
    open: OpenFile,
) -> FsResult<Resource<DynInputStream>> {
    let stream = table.delete(stream)?;
    let bounded: DynInputStream = Box::new(BoundedStream {
        stream,
        threads,
        _open: open,
    });
    Ok(table.push(bounded)?)
}

/// Bounds a stream that the engine has just made.
pub(crate) fn bound_output(
    table: &mut ResourceTable,
    stream: Resource<DynOutputStream>,
    threads: Option<Handle>,
    open: OpenFile,
) -> FsResult<Resource<DynOutputStream>> {
    let stream = table.delete(stream)?;
    let bounded: DynOutputStream = Box::new(BoundedStream {
        stream,
        threads,
        _open: open,
    });
    Ok(table.push(bounded)?)
}

impl<S> BoundedStream<S> {
    /// Calls the stream. Work that the stream spawns goes to the threads of the handler.
    fn call<T>(&mut self, call: impl FnOnce(&mut S) -> T) -> T {
        let _threads = self.threads.as_ref().map(Handle::enter);
        call(&mut self.stream)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for BoundedStream<DynInputStream> {
    async fn ready(&mut self) {
        with_threads(self.threads.clone(), self.stream.ready()).await;
    }
}

#[wasmtime_wasi::async_trait]
impl InputStream for BoundedStream<DynInputStream> {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.call(|stream| stream.read(size))
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        with_threads(self.threads.clone(), self.stream.blocking_read(size)).await
    }

    async fn cancel(&mut self) {
        with_threads(self.threads.clone(), self.stream.cancel()).await;
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for BoundedStream<DynOutputStream> {
    async fn ready(&mut self) {
        with_threads(self.threads.clone(), self.stream.ready()).await;
    }
}

#[wasmtime_wasi::async_trait]
impl OutputStream for BoundedStream<DynOutputStream> {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        // The engine does not check this, and holds the bytes until the disk has them.
        if bytes.len() > self.check_write()? {
            return Err(StreamError::trap("it wrote more to a stream than check-write allows"));
        }
        self.call(|stream| stream.write(bytes))
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.call(|stream| stream.flush())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.call(|stream| stream.check_write())
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        with_threads(self.threads.clone(), self.stream.blocking_write_and_flush(bytes)).await
    }

    async fn cancel(&mut self) {
        with_threads(self.threads.clone(), self.stream.cancel()).await;
    }
}
