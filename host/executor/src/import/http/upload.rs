//! The body of a request on its way out, counted as it passes.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use wasmtime_wasi_http::{Error, WasiBody};

use super::account::RequestAccount;

/// The state of a request's body.
#[derive(Debug, Default)]
pub(crate) struct UploadState {
    /// The connection no longer uses the body.
    pub(crate) ended: AtomicBool,
    /// The body was past the limit.
    pub(crate) refused: AtomicBool,
}

/// The body of a request on its way out.
pub(crate) struct Upload {
    body: WasiBody,
    account: Arc<RequestAccount>,
    state: Arc<UploadState>,
}

impl Upload {
    pub(crate) fn new(body: WasiBody, account: &Arc<RequestAccount>) -> (Self, Arc<UploadState>) {
        let state = Arc::default();
        let upload = Self {
            body,
            account: Arc::clone(account),
            state: Arc::clone(&state),
        };
        (upload, state)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::Release);
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        // A body that a guest leaves behind looks as if it had ended well, and half a body must not look like a whole one.
        if self.account.has_ended() {
            return Poll::Ready(Some(Err(Error::ConnectionTerminated)));
        }
        let size = frame
            .as_ref()
            .and_then(|frame| frame.as_ref().ok()?.data_ref())
            .map_or(0, Bytes::len);
        if let Err(error) = self.account.take_upload(size) {
            self.state.refused.store(true, Ordering::Release);
            return Poll::Ready(Some(Err(error)));
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

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full};

    use super::*;
    use crate::output::OutputAccount;
    use crate::policy::Limits;

    fn account(limits: Limits) -> Arc<RequestAccount> {
        let output = OutputAccount::new(Arc::new(|_| {}), &limits);
        Arc::new(RequestAccount::new(&limits, &output))
    }

    fn body(text: &'static str) -> WasiBody {
        let body = Full::new(Bytes::from_static(text.as_bytes()));
        body.map_err(|never| match never {}).boxed_unsync()
    }

    // The race for it on a running host is almost never lost, so the rule is tested by itself.
    #[tokio::test]
    async fn a_body_whose_attempt_ended_before_it_did_is_an_error() {
        for ended in [false, true] {
            let account = account(Limits::default());
            let (mut upload, _) = Upload::new(body("half"), &account);
            assert!(upload.frame().await.unwrap().is_ok());
            if ended {
                account.end();
            }
            assert_eq!(upload.frame().await.is_some_and(|last| last.is_err()), ended);
        }
    }

    #[tokio::test]
    async fn the_bodies_of_an_attempt_share_its_limit() {
        let account = account(Limits {
            http_request_bytes: 7,
            ..Limits::default()
        });
        let (mut first, state) = Upload::new(body("four"), &account);
        assert!(first.frame().await.unwrap().is_ok());
        assert!(!state.refused.load(Ordering::Acquire));
        let (mut second, state) = Upload::new(body("more"), &account);
        assert!(second.frame().await.unwrap().is_err());
        assert!(state.refused.load(Ordering::Acquire));
        drop(second);
        assert!(state.ended.load(Ordering::Acquire));
    }
}
