//! Work on texts of others that may take long: it is done beside the listener's threads, a few at a time.
//!
//! Invariant: the listener's threads work on nothing here that takes longer than about a millisecond, so that no text holds up other
//! requests.

use std::sync::Arc;

use axum::http::StatusCode;
use tokio::sync::Semaphore;

use super::refused::RefusedRequest;

/// The longest texts that are worked on for an answer on the listener's threads, in bytes.
///
/// The worst body of this length, JSON of tiny values, takes 1.2 ms to be redacted, and 0.5 ms to be folded; one of 1 MiB takes 90 ms and 5 ms
/// (measured with optimised code).
const SHORT: usize = 16 * 1024;
/// The most long texts that are worked on for answers at a time.
const WORKERS: usize = 2;

/// A bound on the long texts that are worked on at a time.
#[derive(Debug, Clone)]
pub(crate) struct LongWork {
    turns: Arc<Semaphore>,
    short: usize,
}

impl Default for LongWork {
    /// The bound of what is done for answers.
    fn default() -> Self {
        Self::new(WORKERS, SHORT)
    }
}

impl LongWork {
    /// Allows so many at a time. Texts of at most `short` bytes are worked on at once.
    pub(crate) fn new(at_a_time: usize, short: usize) -> Self {
        Self {
            turns: Arc::new(Semaphore::new(at_a_time)),
            short,
        }
    }

    /// Works on texts of so many bytes together: at once, or on another thread as soon as it is their turn.
    ///
    /// # Errors
    ///
    /// The work has panicked.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the result. Work that has begun goes on to its end, which the bound counts.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, RefusedRequest> {
        if bytes <= self.short {
            return Ok(work());
        }
        // The semaphore is never closed.
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(turn);
            done
        });
        done.await.map_err(|error| {
            tracing::error!(%error, "a body could not be worked on");
            RefusedRequest::new(StatusCode::INTERNAL_SERVER_ERROR, "the body could not be worked on")
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::mpsc,
        thread::{self, ThreadId},
    };

    use super::*;

    #[tokio::test]
    async fn a_long_text_is_worked_on_elsewhere_and_a_bounded_number_at_a_time() {
        let work = LongWork::new(1, SHORT);
        let here = thread::current().id();
        let place = || thread::current().id();
        assert_eq!(work.run(SHORT, place).await.unwrap(), here);
        let elsewhere: ThreadId = work.run(SHORT + 1, place).await.unwrap();
        assert_ne!(elsewhere, here);
        let (let_go, held) = mpsc::channel::<()>();
        let first = work.run(SHORT + 1, move || held.recv().is_ok());
        let mut first = std::pin::pin!(first);
        assert!(futures_util::poll!(first.as_mut()).is_pending());
        let mut second = std::pin::pin!(work.run(SHORT + 1, || ()));
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        assert_eq!(work.turns.available_permits(), 0);
        let_go.send(()).unwrap();
        assert!(first.await.unwrap());
        second.await.unwrap();
        assert_eq!(work.turns.available_permits(), 1);
    }
}
