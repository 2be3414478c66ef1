//! The bodies of requests and responses, counted as they pass.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Sleep, sleep},
};
use wasmtime_wasi_http::{Error, WasiBody};

use super::{
    attempt::{self, Attempt},
    connection::Connection,
};

/// Bytes that an attempt may still use.
#[derive(Debug)]
pub(super) struct Budget {
    pub(super) limit: u64,
    left: AtomicU64,
}

impl Budget {
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit,
            left: AtomicU64::new(limit),
        }
    }

    /// Whether there was enough left.
    pub(super) fn take(&self, bytes: usize) -> bool {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let take = |left: u64| left.checked_sub(bytes);
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }
}

/// What became of a request's body.
#[derive(Debug, Default)]
pub(super) struct Uploaded {
    /// The connection has done with it.
    pub(super) ended: AtomicBool,
    /// It was past the limit.
    pub(super) refused: AtomicBool,
}

/// The body of a request on its way out.
pub(super) struct Upload {
    body: WasiBody,
    attempt: Arc<Attempt>,
    uploaded: Arc<Uploaded>,
}

impl Upload {
    pub(super) fn new(body: WasiBody, attempt: &Arc<Attempt>) -> (Self, Arc<Uploaded>) {
        let uploaded = Arc::default();
        let upload = Self {
            body,
            attempt: Arc::clone(attempt),
            uploaded: Arc::clone(&uploaded),
        };
        (upload, uploaded)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.uploaded.ended.store(true, Ordering::Release);
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        // What a guest leaves behind looks as if it had ended well, and half a body must not look like a whole one.
        if self.attempt.has_ended() {
            return Poll::Ready(Some(Err(Error::ConnectionTerminated)));
        }
        let size = frame
            .as_ref()
            .and_then(|frame| frame.as_ref().ok()?.data_ref())
            .map_or(0, Bytes::len);
        if !self.attempt.upload.take(size) {
            self.uploaded.refused.store(true, Ordering::Release);
            return Poll::Ready(Some(Err(self.attempt.upload_refused())));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What a response holds until its body was read to the end.
pub(super) struct Hold {
    pub(super) connection: Connection,
    pub(super) uploaded: Arc<Uploaded>,
    /// Its place among the requests that are under way.
    pub(super) _slot: OwnedSemaphorePermit,
}

/// The body of a response on its way in. Dropped early, it closes its connection.
pub(super) struct Download {
    body: Incoming,
    attempt: Arc<Attempt>,
    hold: Option<Hold>,
    between: Duration,
    /// Runs while the guest waits for the next bytes.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Download {
    pub(super) fn new(body: Incoming, attempt: Arc<Attempt>, hold: Hold, between: Duration) -> Self {
        let mut download = Self {
            body,
            attempt,
            hold: Some(hold),
            between,
            timer: None,
        };
        if download.body.is_end_stream() {
            download.release();
        }
        download
    }

    /// Hands the connection back once nothing of this exchange is on it any more.
    fn release(&mut self) {
        if let Some(hold) = self.hold.take()
            && hold.uploaded.ended.load(Ordering::Acquire)
        {
            self.attempt.keep(hold.connection);
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
            let between = self.between;
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(between)));
            ready!(timer.as_mut().poll(cx));
            return self.fail(Error::ConnectionReadTimeout);
        };
        self.timer = None;
        match frame {
            None => {
                self.release();
                Poll::Ready(None)
            }
            Some(Err(error)) => self.fail(attempt::failed(&error)),
            Some(Ok(frame)) => {
                if let Err(error) = self.attempt.download(frame.data_ref().map_or(0, Bytes::len)) {
                    return self.fail(error);
                }
                // A reader who knows the length does not ask for what comes after it.
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

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full};

    use super::*;
    use crate::executor::{
        Policy,
        import::http::{Network, Outbound, SystemResolver},
        output::OutputAccount,
        policy::{Grants, HttpGrant, Limits},
    };

    fn attempt(limits: Limits) -> Arc<Attempt> {
        let grants = Grants {
            http: Some(HttpGrant::default()),
            ..Grants::default()
        };
        let policy = Policy {
            handler: "test".to_owned(),
            timeout: Duration::from_secs(1),
            limits,
            grants,
            reuse: None,
        };
        let network = Arc::new(Network::new(Arc::new(SystemResolver), 8).unwrap());
        let outbound = Outbound::new(&policy, &network).unwrap();
        let output = OutputAccount::new(Arc::new(|_| {}), &limits);
        Arc::new(Attempt::new(&outbound, &limits, &output))
    }

    fn body(text: &'static str) -> WasiBody {
        let body = Full::new(Bytes::from_static(text.as_bytes()));
        body.map_err(|never| match never {}).boxed_unsync()
    }

    // The race for it on a running host is almost never lost, so the rule is tested by itself.
    #[tokio::test]
    async fn a_body_whose_attempt_ended_before_it_did_is_an_error() {
        for ended in [false, true] {
            let attempt = attempt(Limits::default());
            let (mut upload, _) = Upload::new(body("half"), &attempt);
            assert!(upload.frame().await.unwrap().is_ok());
            if ended {
                attempt.end();
            }
            assert_eq!(upload.frame().await.is_some_and(|last| last.is_err()), ended);
        }
    }

    #[tokio::test]
    async fn the_bodies_of_an_attempt_share_its_limit() {
        let attempt = attempt(Limits {
            http_request_bytes: 7,
            ..Limits::default()
        });
        let (mut first, uploaded) = Upload::new(body("four"), &attempt);
        assert!(first.frame().await.unwrap().is_ok());
        assert!(!uploaded.refused.load(Ordering::Acquire));
        let (mut second, uploaded) = Upload::new(body("more"), &attempt);
        assert!(second.frame().await.unwrap().is_err());
        assert!(uploaded.refused.load(Ordering::Acquire));
        drop(second);
        assert!(uploaded.ended.load(Ordering::Acquire));
    }
}
