//! The body of a response on its way in, counted as it passes.

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Sleep, sleep},
};
use wasmtime_wasi_http::Error;

use super::{
    account::RequestAccount,
    connection::{Connection, ConnectionPool, exchange_error},
    upload::UploadState,
};

/// The connection and the place of a request, held until the body of its response was read to the end.
pub(crate) struct ResponseHold {
    pub(crate) connection: Connection,
    /// Takes the connection back.
    pub(crate) pool: Arc<ConnectionPool>,
    pub(crate) upload: Arc<UploadState>,
    /// The place of the request among those that are under way.
    pub(crate) _slot: OwnedSemaphorePermit,
}

/// The body of a response on its way in. A body that is dropped early closes its connection.
pub(crate) struct Download {
    body: Incoming,
    account: Arc<RequestAccount>,
    hold: Option<ResponseHold>,
    between_bytes: Duration,
    /// Runs while the guest waits for the next bytes.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Download {
    pub(crate) fn new(
        body: Incoming,
        account: Arc<RequestAccount>,
        hold: ResponseHold,
        between_bytes: Duration,
    ) -> Self {
        let mut download = Self {
            body,
            account,
            hold: Some(hold),
            between_bytes,
            timer: None,
        };
        if download.body.is_end_stream() {
            download.release();
        }
        download
    }

    /// Gives the connection back, unless the request's body is still on it.
    fn release(&mut self) {
        if let Some(hold) = self.hold.take()
            && hold.upload.ended.load(Ordering::Acquire)
        {
            hold.pool.keep(hold.connection);
        }
    }

    fn fail(&mut self, error: Error) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.hold = None;
        Poll::Ready(Some(Err(error)))
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
            let between_bytes = self.between_bytes;
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(between_bytes)));
            ready!(timer.as_mut().poll(cx));
            return self.fail(Error::ConnectionReadTimeout);
        };
        self.timer = None;
        match frame {
            None => {
                self.release();
                Poll::Ready(None)
            }
            Some(Err(error)) => self.fail(exchange_error(&error)),
            Some(Ok(frame)) => {
                if let Err(error) = self.account.take_download(frame.data_ref().map_or(0, Bytes::len)) {
                    return self.fail(error);
                }
                // A reader that knows the length does not ask for what comes after the body.
                if self.body.is_end_stream() {
                    self.release();
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
