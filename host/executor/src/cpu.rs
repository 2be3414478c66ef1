//! Counts the processor time of one call: the time of the thread that polls the call, while it polls it.

#![expect(
    clippy::disallowed_methods,
    reason = "the processor time of a guest is that of the machine"
)]

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

/// A poll that takes no longer is charged the time that went by. Between two polls that are no further apart, the thread's own
/// work is not counted.
const CLOSE: Duration = Duration::from_micros(50);
/// The time after which a thread reads its clock again. Reading it is a system call, which would cost a short call more than
/// anything else that the call does in the kernel. A poll is charged at most this time too much or too little.
const READ_AGAIN: Duration = Duration::from_millis(1);

/// The account of one call.
#[derive(Debug)]
pub(crate) struct CpuAccount {
    limit: u64,
    /// The processor time of the polls that have ended, in nanoseconds.
    used: AtomicU64,
    /// The clock of the polling thread when the current poll began.
    poll_started: AtomicU64,
    /// The time from the making of the account to the beginning of the current poll, in nanoseconds.
    poll_began: AtomicU64,
    made_at: Instant,
}

impl CpuAccount {
    pub(crate) fn new(limit: Duration) -> Arc<Self> {
        Arc::new(Self {
            limit: nanoseconds(limit),
            used: AtomicU64::new(0),
            poll_started: AtomicU64::new(0),
            poll_began: AtomicU64::new(0),
            made_at: Instant::now(),
        })
    }

    /// Polls `future`, and counts the processor time of its polls.
    ///
    /// # Cancel safety
    ///
    /// As safe as `future`.
    pub(crate) async fn measure<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| {
            let before = ClockReading::recent();
            self.poll_started.store(before.shown, Ordering::Relaxed);
            let began = nanoseconds(before.at.duration_since(self.made_at));
            self.poll_began.store(began, Ordering::Relaxed);
            let polled: Poll<F::Output> = future.as_mut().poll(cx);
            let after = before.after();
            self.used
                .store(self.used_until(after.shown, after.at), Ordering::Relaxed);
            polled
        })
        .await
    }

    /// Returns whether the limit is passed. Must be called from inside a poll.
    pub(crate) fn is_used_up(&self) -> bool {
        self.used_in_poll() > self.limit
    }

    /// Returns when the current poll began. Must be called from inside a poll.
    pub(crate) fn polled_since(&self) -> Instant {
        self.made_at + Duration::from_nanos(self.poll_began.load(Ordering::Relaxed))
    }

    /// Returns the processor time of all polls that have ended.
    pub(crate) fn used(&self) -> Duration {
        Duration::from_nanos(self.used.load(Ordering::Relaxed))
    }

    fn used_in_poll(&self) -> u64 {
        self.used_until(thread_time(), Instant::now())
    }

    /// Returns the time used, the current poll included. That poll counts no more than the time that went by in it, since the
    /// reckoned clock at its beginning may have been too low.
    fn used_until(&self, shown: u64, now: Instant) -> u64 {
        let used = shown.saturating_sub(self.poll_started.load(Ordering::Relaxed));
        let passed =
            nanoseconds(now.duration_since(self.made_at)).saturating_sub(self.poll_began.load(Ordering::Relaxed));
        self.used.load(Ordering::Relaxed).saturating_add(used.min(passed))
    }
}

/// The clock of a thread at one time.
#[derive(Debug, Clone, Copy)]
struct ClockReading {
    /// The processor time of the thread, in nanoseconds.
    shown: u64,
    at: Instant,
    /// The time of the last system call; later readings are reckoned.
    read_at: Instant,
}

thread_local! {
    /// The clock at the end of the last poll that was measured on this thread.
    static LAST: Cell<Option<ClockReading>> = const { Cell::new(None) };
}

impl ClockReading {
    fn now(at: Instant) -> Self {
        Self {
            shown: thread_time(),
            at,
            read_at: at,
        }
    }

    /// Returns the clock of this thread, or its last reading if that is recent: where one call of a guest follows another, the
    /// end of the first will do for the beginning of the second.
    fn recent() -> Self {
        let now = Instant::now();
        match LAST.get() {
            Some(last) if now.duration_since(last.at) <= CLOSE && now.duration_since(last.read_at) <= READ_AGAIN => {
                Self { at: now, ..last }
            }
            Some(_) | None => Self::now(now),
        }
    }

    /// Returns the clock of this thread at the end of a poll that began with this reading. A short poll can't have used more
    /// than the time that went by.
    fn after(self) -> Self {
        let now = Instant::now();
        let took = now.duration_since(self.at);
        let reading = if took <= CLOSE {
            Self {
                shown: self.shown.saturating_add(nanoseconds(took)),
                at: now,
                read_at: self.read_at,
            }
        } else {
            Self::now(now)
        };
        LAST.set(Some(reading));
        reading
    }
}

/// Returns the processor time of the calling thread, in nanoseconds.
fn thread_time() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec);
    let nanos = u64::try_from(time.tv_nsec);
    seconds
        .unwrap_or(0)
        .saturating_mul(1_000_000_000)
        .saturating_add(nanos.unwrap_or(0))
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::{hint::black_box, thread};

    use super::*;

    /// Returns the time that is charged for calls which do this work in one poll each.
    async fn charged(calls: u32, work: impl Fn()) -> Duration {
        let mut all = Duration::ZERO;
        for _ in 0..calls {
            let account = CpuAccount::new(Duration::MAX);
            account.measure(async { work() }).await;
            all += account.used();
        }
        all
    }

    fn compute(time: Duration) {
        let end = thread_time() + nanoseconds(time);
        while thread_time() < end {
            black_box(0);
        }
    }

    #[tokio::test]
    async fn a_long_poll_is_charged_what_its_thread_has_used() {
        let work = Duration::from_millis(20);
        let used = charged(1, || compute(work)).await;
        assert!(work <= used + CLOSE, "{used:?}");
        #[expect(clippy::disallowed_methods, reason = "time that goes by without work")]
        let used = charged(1, || thread::sleep(work)).await;
        assert!(used < work / 2, "{used:?}");
    }

    #[tokio::test]
    async fn a_poll_is_not_charged_for_what_its_thread_did_between_short_ones() {
        let (short, work) = (Duration::from_micros(1), Duration::from_micros(30));
        let mut all = Duration::ZERO;
        for _ in 0..100 {
            for _ in 0..10 {
                charged(1, || compute(short)).await;
                compute(work);
            }
            let started = Instant::now();
            let used = charged(1, || compute(2 * CLOSE)).await;
            assert!(used <= started.elapsed());
            all += used;
        }
        assert!(all >= 100 * CLOSE, "{all:?}");
    }

    #[tokio::test]
    async fn many_short_polls_are_charged_for_all_that_they_use() {
        let (calls, each) = (2_000, Duration::from_micros(10));
        let used = charged(calls, || compute(each)).await;
        assert!(calls * each / 2 <= used, "{used:?}");
    }
}
