//! The line in which calls wait for a thread of the guests' runtime.
//!
//! A runner is a task that takes one call after another. Most calls end the first time they are polled, so they cost neither a
//! task nor a wake-up of their own; one that has to wait, or that the epoch interrupts, goes on as a task, and the runner
//! takes the next. While others are in line, answers are collected for a moment and given together, so that those who
//! wait for them are woken once.
//!
//! A few short calls wait for the runner that there is, which takes them sooner than another thread wakes up. There are as many
//! runners as threads where more calls wait, where calls take longer, or where a runner has been busy with one for long.
//! Nobody waits for more than a tick of the epoch behind a call that is under way.
//!
//! Invariant: where a call waits, a runner is on its way. The line is as long as callers let it be: dispatchers put no more
//! calls into it than their handlers have slots.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use tokio::{runtime::Handle, sync::oneshot, task::coop::unconstrained};

use super::Report;

/// Calls that take less on average are short: no longer than a thread takes to wake up.
const SHORT: Duration = Duration::from_micros(50);
/// So many short calls wait for each runner that there is.
const FEW: usize = 4;
/// A runner that has been busy with one call for longer gets help.
const LONG: Duration = Duration::from_micros(500);
/// How many calls a runner takes before it lets other tasks of its thread run.
const TURN: usize = 16;
/// How many answers are held back at most, and for how long, while there are more calls to take.
const HELD: usize = 8;
const HOLD: Duration = Duration::from_micros(50);
/// How much a new call weighs in the average: one part of so many.
const WEIGHT: u64 = 8;

/// One call, until it is answered.
pub(super) type Work = Pin<Box<dyn Future<Output = Report> + Send>>;

/// The line.
pub(super) struct Line {
    waiting: Mutex<Waiting>,
    threads: usize,
    /// What a call takes on average, in nanoseconds.
    cost: AtomicU64,
    made_at: Instant,
    /// When a runner last began a call, in nanoseconds since the line was made.
    busy_since: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    calls: VecDeque<Waiter>,
    runners: usize,
}

struct Waiter {
    work: Work,
    /// How many messages the call has, for the report of one that panicked.
    messages: usize,
    answer: oneshot::Sender<Report>,
}

/// Answers that are held back.
#[derive(Default)]
struct Held {
    answers: Vec<(oneshot::Sender<Report>, Report)>,
    since: Option<Instant>,
}

impl Line {
    /// An empty line in front of so many threads.
    pub(super) fn new(threads: usize) -> Arc<Self> {
        Arc::new(Self {
            waiting: Mutex::default(),
            threads: threads.max(1),
            cost: AtomicU64::new(0),
            made_at: Instant::now(),
            busy_since: AtomicU64::new(0),
        })
    }

    /// Puts a call into the line. It ends within milliseconds when the answer is dropped; `None` comes out of it if the runtime
    /// ends first.
    pub(super) fn enter(
        self: &Arc<Self>,
        runtime: &Handle,
        messages: usize,
        work: Work,
    ) -> impl Future<Output = Option<Report>> + use<> {
        let (answer, report) = oneshot::channel();
        let waiter = Waiter { work, messages, answer };
        let mut waiting = self.waiting();
        waiting.calls.push_back(waiter);
        let more = waiting.runners < self.threads && self.wants_more(&waiting);
        waiting.runners += usize::from(more);
        drop(waiting);
        if more {
            // It ends when the line is empty, and with the runtime.
            runtime.spawn(serve(Arc::clone(self)));
        }
        report.map(Result::ok)
    }

    fn wants_more(&self, waiting: &Waiting) -> bool {
        let is_short = self.cost.load(Ordering::Relaxed) < nanoseconds(SHORT);
        if waiting.runners == 0 || !is_short || waiting.calls.len() > FEW * waiting.runners {
            return true;
        }
        let since = self.busy_since.load(Ordering::Relaxed);
        nanoseconds(self.made_at.elapsed()).saturating_sub(since) > nanoseconds(LONG)
    }

    /// The next call, or none, and then the runner has ended.
    fn next(&self, held: &mut Held) -> Option<Waiter> {
        if let Some(waiter) = self.waiting().calls.pop_front() {
            held.give_if_due();
            return Some(waiter);
        }
        held.give();
        let mut waiting = self.waiting();
        let next = waiting.calls.pop_front();
        waiting.runners -= usize::from(next.is_none());
        next
    }

    fn begun(&self, at: Instant) {
        let since = at.saturating_duration_since(self.made_at);
        self.busy_since.store(nanoseconds(since), Ordering::Relaxed);
    }

    fn took(&self, time: Duration) {
        let before = self.cost.load(Ordering::Relaxed);
        let after = before - before / WEIGHT + nanoseconds(time) / WEIGHT;
        self.cost.store(after, Ordering::Relaxed);
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Every change is one call, so a panic elsewhere leaves nothing half done.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn hold(&mut self, answer: oneshot::Sender<Report>, report: Report, now: Instant) {
        self.answers.push((answer, report));
        self.since.get_or_insert(now);
    }

    fn give_if_due(&mut self) {
        if self.answers.len() >= HELD || self.since.is_some_and(|since| since.elapsed() >= HOLD) {
            self.give();
        }
    }

    fn give(&mut self) {
        self.since = None;
        for (answer, report) in self.answers.drain(..) {
            // Who went away wants no answer.
            drop(answer.send(report));
        }
    }
}

/// A runner.
async fn serve(line: Arc<Line>) {
    let mut held = Held::default();
    let mut taken = 0;
    while let Some(Waiter { work, messages, answer }) = line.next(&mut held) {
        if answer.is_closed() {
            continue;
        }
        let begun = Instant::now();
        line.begun(begun);
        let mut work = AssertUnwindSafe(work).catch_unwind();
        // Without the budget of a task: what it meters is the work of this one call, and there are many in this task.
        let polled = poll_fn(|cx| Poll::Ready(Pin::new(&mut unconstrained(&mut work)).poll(cx))).await;
        let ended = Instant::now();
        line.took(ended.saturating_duration_since(begun));
        match polled {
            Poll::Ready(report) => {
                held.hold(answer, report.unwrap_or_else(|_| Report::panicked(messages)), ended);
            }
            Poll::Pending => {
                // Ends with its answer, with whoever waits for that, or with the runtime.
                Handle::current().spawn(go_on(work, messages, answer));
            }
        }
        taken += 1;
        if taken % TURN == 0 {
            held.give();
            tokio::task::yield_now().await;
        }
    }
}

/// The rest of a call that did not end at once.
async fn go_on(
    work: impl Future<Output = std::thread::Result<Report>>,
    messages: usize,
    mut answer: oneshot::Sender<Report>,
) {
    let report = tokio::select! {
        biased;
        () = answer.closed() => return,
        report = work => report,
    };
    drop(answer.send(report.unwrap_or_else(|_| Report::panicked(messages))));
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::runtime::Runtime;

    use super::*;

    fn runtime(threads: usize) -> Runtime {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_time()
            .build()
            .unwrap()
    }

    fn answer() -> Report {
        Report::not_run(1, "test")
    }

    #[test]
    fn every_call_is_answered_whether_it_waits_or_not() {
        let runtime = runtime(2);
        let line = Line::new(2);
        let calls: Vec<_> = (0..1000)
            .map(|number| {
                let work = async move {
                    if number % 3 == 0 {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    answer()
                };
                line.enter(runtime.handle(), 1, Box::pin(work))
            })
            .collect();
        let answers = runtime.block_on(futures_util::future::join_all(calls));
        assert!(answers.iter().all(Option::is_some));
        // The last answers go before their runners.
        while line.waiting().runners > 0 {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_call_that_panics_is_reported_and_the_next_one_runs() {
        let runtime = runtime(1);
        let line = Line::new(1);
        let panicked = line.enter(
            runtime.handle(),
            2,
            Box::pin(async { std::panic::resume_unwind(Box::new(())) }),
        );
        let next = line.enter(runtime.handle(), 1, Box::pin(async { answer() }));
        let (panicked, next) = runtime.block_on(async { tokio::join!(panicked, next) });
        assert_eq!(panicked.unwrap().verdicts, Report::panicked(2).verdicts);
        assert!(next.is_some());
    }

    #[test]
    fn a_call_that_waits_does_not_keep_the_next_one_waiting() {
        let runtime = runtime(1);
        let line = Line::new(1);
        let _waits = line.enter(runtime.handle(), 1, Box::pin(std::future::pending()));
        let next = line.enter(runtime.handle(), 1, Box::pin(async { answer() }));
        assert!(runtime.block_on(next).is_some());
    }

    #[test]
    fn a_call_ends_when_nobody_waits_for_it() {
        struct Ended(Arc<AtomicUsize>);
        impl Drop for Ended {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let runtime = runtime(1);
        let (line, ended) = (Line::new(1), Arc::new(AtomicUsize::new(0)));
        for _ in 0..3 {
            let guard = Ended(Arc::clone(&ended));
            let work = async move {
                let _guard = guard;
                std::future::pending().await
            };
            drop(line.enter(runtime.handle(), 1, Box::pin(work)));
        }
        while ended.load(Ordering::SeqCst) < 3 {
            std::thread::yield_now();
        }
    }

    #[test]
    fn long_calls_run_on_all_threads() {
        let runtime = runtime(2);
        let (line, together) = (Line::new(2), Arc::new(std::sync::Barrier::new(2)));
        line.took(Duration::from_millis(100));
        // Each waits for the other, on a thread of its own.
        let calls = [(), ()].map(|()| {
            let together = Arc::clone(&together);
            let work = async move {
                together.wait();
                answer()
            };
            line.enter(runtime.handle(), 1, Box::pin(work))
        });
        let answers = runtime.block_on(futures_util::future::join_all(calls));
        assert!(answers.iter().all(Option::is_some));
    }
}
