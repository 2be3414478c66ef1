//! The account of one attempt's requests: places among those under way, bytes of bodies, and notes in the handler's log.

use std::{
    future::{Future, ready},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::{
    sync::{AcquireError, OwnedSemaphorePermit, Semaphore},
    task::unconstrained,
    time::timeout,
};
use wasmtime_wasi_http::Error;

use crate::policy::Limits;
use crate::{LogStream, output::OutputAccount};

/// Resolves when it is a request's turn.
pub(crate) type RequestTurn = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

/// The account of the requests of one attempt.
pub(crate) struct RequestAccount {
    output: Arc<OutputAccount>,
    slots: Arc<Semaphore>,
    concurrent: u64,
    upload: ByteBudget,
    download: ByteBudget,
    ended: AtomicBool,
}

/// The bytes that an attempt may still use.
#[derive(Debug)]
struct ByteBudget {
    limit: u64,
    left: AtomicU64,
}

impl ByteBudget {
    fn new(limit: u64) -> Self {
        Self {
            limit,
            left: AtomicU64::new(limit),
        }
    }

    /// Takes bytes. Returns `false`, and takes none, if there are not enough.
    fn take(&self, bytes: usize) -> bool {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let take = |left: u64| left.checked_sub(bytes);
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }
}

impl RequestAccount {
    pub(crate) fn new(limits: &Limits, output: &Arc<OutputAccount>) -> Self {
        Self {
            output: Arc::clone(output),
            slots: Arc::new(Semaphore::new(slots(limits.http_concurrent))),
            concurrent: limits.http_concurrent,
            upload: ByteBudget::new(limits.http_request_bytes),
            download: ByteBudget::new(limits.http_response_bytes),
            ended: AtomicBool::new(false),
        }
    }

    /// Writes a note for the operator, as far as the handler's log goes.
    pub(crate) fn note(&self, text: &str) {
        self.output.log(LogStream::Host, text);
    }

    /// Marks the attempt as ended. From now on no body ends well.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Returns whether a request or a response is under way, which keeps a connection open.
    pub(crate) fn has_open_connections(&self) -> bool {
        self.slots.available_permits() < slots(self.concurrent)
    }

    /// Counts the bytes of a request's body.
    ///
    /// # Errors
    ///
    /// The attempt has sent as many bytes as it may.
    pub(crate) fn take_upload(&self, bytes: usize) -> Result<(), Error> {
        if self.upload.take(bytes) {
            return Ok(());
        }
        let limit = self.upload.limit;
        self.note(&format!(
            "the bodies of its HTTP requests have more than {limit} bytes (limits.http-request-bytes)"
        ));
        Err(self.upload_too_large())
    }

    /// The error of a request whose body is past the limit.
    pub(crate) fn upload_too_large(&self) -> Error {
        Error::HttpRequestBodySize(Some(self.upload.limit))
    }

    /// Counts the bytes of a response's body.
    ///
    /// # Errors
    ///
    /// The attempt has received as many bytes as it may.
    pub(crate) fn take_download(&self, bytes: usize) -> Result<(), Error> {
        if self.download.take(bytes) {
            return Ok(());
        }
        let limit = self.download.limit;
        self.note(&format!(
            "the bodies of its HTTP responses have more than {limit} bytes (limits.http-response-bytes)"
        ));
        Err(Error::HttpResponseBodySize(Some(limit)))
    }

    /// Puts a request into the queue of requests. It takes its place now, so that a guest that reads responses in the order
    /// of its requests always comes to a request whose turn it is.
    pub(crate) fn turn(&self) -> RequestTurn {
        let mut turn = Box::pin(unconstrained(Arc::clone(&self.slots).acquire_owned()));
        match turn.as_mut().now_or_never() {
            Some(taken) => Box::pin(ready(taken)),
            None => turn,
        }
    }

    /// Waits for the turn of a request, at most for `time`.
    ///
    /// # Errors
    ///
    /// [`Error::ConnectionLimitReached`]: the turn has not come.
    ///
    /// # Cancel safety
    ///
    /// Safe: the request loses its place.
    pub(crate) async fn wait_for_turn(&self, turn: RequestTurn, time: Duration) -> Result<OwnedSemaphorePermit, Error> {
        if let Ok(Ok(slot)) = timeout(time, turn).await {
            return Ok(slot);
        }
        let concurrent = self.concurrent;
        self.note(&format!(
            "a request waited {time:?} while {concurrent} others were under way, as many as may be \
            (limits.http-concurrent); a response is under way until its body was read to the end or dropped"
        ));
        Err(Error::ConnectionLimitReached)
    }
}

fn slots(concurrent: u64) -> usize {
    let slots = usize::try_from(concurrent).unwrap_or(Semaphore::MAX_PERMITS);
    slots.min(Semaphore::MAX_PERMITS)
}
