//! Counts the processor time of one call: that of the thread which polls it, while it polls it.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

/// By how much a call may be charged too much: what its thread did just before it.
const RECENT: Duration = Duration::from_micros(20);

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
            self.poll_started.store(recent_thread_time(), Ordering::Relaxed);
            let polled: Poll<F::Output> = future.as_mut().poll(cx);
            let ended = thread_time();
            LAST.set(Some((Instant::now(), ended)));
            self.used.store(self.used_until(ended), Ordering::Relaxed);
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
        self.used_until(thread_time())
    }

    fn used_until(&self, now: u64) -> u64 {
        let since = now.saturating_sub(self.poll_started.load(Ordering::Relaxed));
        self.used.load(Ordering::Relaxed).saturating_add(since)
    }
}

thread_local! {
    /// What the clock of this thread showed at the end of the last poll that was measured on it, and when.
    static LAST: Cell<Option<(Instant, u64)>> = const { Cell::new(None) };
}

/// The processor time of the calling thread a moment ago at most: reading it costs a system call, and where one call of a guest
/// follows another the end of the one will do for the beginning of the other.
fn recent_thread_time() -> u64 {
    match LAST.get() {
        Some((at, time)) if at.elapsed() <= RECENT => time,
        Some(_) | None => thread_time(),
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
