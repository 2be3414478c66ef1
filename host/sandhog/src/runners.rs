//! Runners: tasks on the guests' threads that run the attempts of one handler one after another, and hand back several at a
//! time. A task, two changes of threads and two wake-ups for each attempt would cost more than most guests.
//!
//! Invariants: an attempt never waits behind one whose guest is not done at once (the guest waits, or the engine asks it to let
//! others run), since another runner takes over the run queue then; a finished attempt never waits for longer than until then,
//! and not even so long where guests have lately taken their time; every task is joined; an attempt that panics is handed back
//! like any other.

#![expect(
    clippy::disallowed_methods,
    reason = "guests run on threads of their own, in the time of the machine"
)]

use std::{
    collections::VecDeque,
    future::poll_fn,
    mem,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::Notify};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::attempt::{AttemptInput, GuestFinished, attempt};

/// The largest number of finished attempts that are handed back together.
const TOGETHER: usize = 16;
/// The part of the attempts under way that is handed back together at most: enough are left for the runners while the others
/// are settled and the next messages received.
const PART: usize = 8;
/// The time after which a runner hands back the finished attempts and lets others run.
const TURN: Duration = Duration::from_micros(200);
/// The number of attempts that are handed back one by one after an attempt that took longer than a turn.
const ONE_BY_ONE: usize = 64;

/// The runners of one handler. Dropping them interrupts what they run.
#[derive(Debug)]
pub struct Runners {
    shared: Arc<Shared>,
    /// The number of attempts that were started and not handed back.
    unfinished: usize,
}

#[derive(Debug)]
struct Shared {
    /// The threads of the guests, or those of the dispatcher.
    threads: Handle,
    /// The largest number of runners that look for work at a time.
    most: usize,
    /// The number of finished attempts that are handed back together now.
    together: AtomicUsize,
    /// The number of attempts that are still to be handed back one by one.
    one_by_one: AtomicUsize,
    tasks: TaskTracker,
    stop: CancellationToken,
    // Neither lock is held across an await.
    queue: Mutex<RunQueue>,
    completions: Mutex<Vec<AttemptCompletion>>,
    handed_back: Notify,
}

#[derive(Debug, Default)]
struct RunQueue {
    waiting: VecDeque<AttemptInput>,
    /// The number of runners that take from the queue, or run an attempt that may be done at once, rather than wait for their
    /// guest.
    looking: usize,
}

/// An attempt that has left its runner.
#[derive(Debug)]
pub struct AttemptCompletion {
    /// The key of the attempt.
    pub key: u64,
    /// The finished attempt; `None` if it panicked, which dropped its leases and slots.
    pub finished: Option<GuestFinished>,
}

impl Runners {
    /// Creates runners on the threads of the guests, or on those of the caller, who has to be in a runtime.
    pub fn new(guests: Option<Handle>) -> Self {
        let threads = guests.unwrap_or_else(Handle::current);
        Self {
            shared: Arc::new(Shared {
                most: threads.metrics().num_workers().max(1),
                threads,
                together: AtomicUsize::new(1),
                one_by_one: AtomicUsize::new(0),
                tasks: TaskTracker::new(),
                stop: CancellationToken::new(),
                queue: Mutex::default(),
                completions: Mutex::default(),
                handed_back: Notify::new(),
            }),
            unfinished: 0,
        }
    }

    /// Adds attempts to the run queue, in order.
    pub fn start(&mut self, attempts: Vec<AttemptInput>) {
        self.unfinished += attempts.len();
        let together = (self.unfinished / PART).clamp(1, TOGETHER);
        self.shared.together.store(together, Ordering::Relaxed);
        let missing = {
            let mut queue = self.shared.queue.lock();
            queue.waiting.extend(attempts);
            // The runners that look may be inside of a guest for a while.
            let missing = queue.waiting.len().min(self.shared.most.saturating_sub(queue.looking));
            queue.looking += missing;
            missing
        };
        for _ in 0..missing {
            self.shared.add_runner();
        }
    }

    /// Waits for attempts that are done; for ever if none is under way.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn done(&mut self) -> Vec<AttemptCompletion> {
        loop {
            let completions = mem::take(&mut *self.shared.completions.lock());
            if !completions.is_empty() {
                self.unfinished = self.unfinished.saturating_sub(completions.len());
                return completions;
            }
            self.shared.handed_back.notified().await;
        }
    }

    /// Whether every attempt was handed back.
    pub fn is_idle(&self) -> bool {
        self.unfinished == 0
    }

    /// Interrupts all attempts, and drops those that have not started.
    pub fn interrupt(&self) {
        self.shared.stop.cancel();
        self.shared.queue.lock().waiting.clear();
    }

    /// Waits for all runners, which end when the run queue is empty.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future interrupts the attempts.
    pub async fn join(self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

impl Drop for Runners {
    fn drop(&mut self) {
        self.interrupt();
    }
}

impl Shared {
    /// Adds a runner. The caller has counted it as looking.
    fn add_runner(self: &Arc<Self>) {
        let this = Arc::clone(self);
        let runner = async move { this.stop.run_until_cancelled(this.run()).await };
        self.tasks.spawn_on(runner, &self.threads);
    }

    async fn run(self: &Arc<Self>) {
        let mut done = Vec::with_capacity(TOGETHER);
        let mut turn = Instant::now();
        let mut began = turn;
        while let Some(input) = self.next() {
            let key = input.key;
            let mut attempt = pin!(AssertUnwindSafe(attempt(input)).catch_unwind());
            let mut at_once = true;
            let finished = poll_fn(|context| {
                let polled = attempt.as_mut().poll(context);
                if polled.is_pending() && mem::take(&mut at_once) {
                    self.hand_back(&mut done);
                    self.step_aside();
                }
                polled
            });
            let finished = finished.await.ok();
            done.push(AttemptCompletion { key, finished });
            let ended = Instant::now();
            if !at_once || ended.duration_since(began) >= TURN {
                self.one_by_one.store(ONE_BY_ONE, Ordering::Relaxed);
            }
            began = ended;
            let turn_is_over = !at_once || ended.duration_since(turn) >= TURN;
            if turn_is_over || done.len() >= self.together() {
                self.hand_back(&mut done);
            }
            if !at_once && !self.look_again() {
                return;
            }
            if turn_is_over {
                tokio::task::yield_now().await;
                turn = Instant::now();
                began = turn;
            }
        }
        self.hand_back(&mut done);
    }

    /// Returns the number of finished attempts that are handed back together now.
    fn together(&self) -> usize {
        let left = self.one_by_one.load(Ordering::Relaxed);
        if left > 0 {
            // Another runner may overwrite the count, which does not matter.
            self.one_by_one.store(left - 1, Ordering::Relaxed);
            return 1;
        }
        self.together.load(Ordering::Relaxed)
    }

    /// Takes the next attempt from the run queue. If there is none, the runner no longer looks for work.
    fn next(&self) -> Option<AttemptInput> {
        let mut queue = self.queue.lock();
        let next = queue.waiting.pop_front();
        if next.is_none() {
            queue.looking = queue.looking.saturating_sub(1);
        }
        next
    }

    /// Leaves the run queue to another runner, since the guest of this one takes its time.
    fn step_aside(self: &Arc<Self>) {
        let is_replaced = {
            let mut queue = self.queue.lock();
            let is_replaced = !queue.waiting.is_empty();
            if !is_replaced {
                queue.looking = queue.looking.saturating_sub(1);
            }
            is_replaced
        };
        if is_replaced {
            self.add_runner();
        }
    }

    /// Lets a runner that had stepped aside look for work again, if there is work for it. Returns whether there is.
    fn look_again(&self) -> bool {
        let mut queue = self.queue.lock();
        let is_useful = !queue.waiting.is_empty() && queue.looking < self.most;
        if is_useful {
            queue.looking += 1;
        }
        is_useful
    }

    fn hand_back(&self, done: &mut Vec<AttemptCompletion>) {
        if done.is_empty() {
            return;
        }
        let was_empty = {
            let mut completions = self.completions.lock();
            let was_empty = completions.is_empty();
            completions.append(done);
            was_empty
        };
        // If completions were there before, the dispatcher was notified and has not taken them yet.
        if was_empty {
            self.handed_back.notify_one();
        }
    }
}
