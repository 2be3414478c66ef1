//! Counts the processor time of one call: that of the thread which polls it, while it polls it.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

/// The account of one call.
#[derive(Debug)]
pub(super) struct CpuAccount {
    limit: u64,
    /// Of the polls that have ended, in nanoseconds.
    used: AtomicU64,
    /// What the clock of the polling thread showed when it began the poll under way.
    poll_started: AtomicU64,
}

impl CpuAccount {
    pub(super) fn new(limit: Duration) -> Arc<Self> {
        Arc::new(Self {
            limit: nanoseconds(limit),
            used: AtomicU64::new(0),
            poll_started: AtomicU64::new(0),
        })
    }

    /// Polls `future`, adding the processor time spent inside of it.
    pub(super) async fn measure<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| {
            self.poll_started.store(thread_time(), Ordering::Relaxed);
            let polled: Poll<F::Output> = future.as_mut().poll(cx);
            self.used.store(self.used_in_poll(), Ordering::Relaxed);
            polled
        })
        .await
    }

    /// Whether the limit is passed. To be asked from inside a poll.
    pub(super) fn is_used_up(&self) -> bool {
        self.used_in_poll() > self.limit
    }

    /// Of all polls that have ended.
    pub(super) fn used(&self) -> Duration {
        Duration::from_nanos(self.used.load(Ordering::Relaxed))
    }

    fn used_in_poll(&self) -> u64 {
        let since = thread_time().saturating_sub(self.poll_started.load(Ordering::Relaxed));
        self.used.load(Ordering::Relaxed).saturating_add(since)
    }
}

/// The processor time of the calling thread, in nanoseconds.
fn thread_time() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec));
    seconds
        .unwrap_or(0)
        .saturating_mul(1_000_000_000)
        .saturating_add(nanos.unwrap_or(0))
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
