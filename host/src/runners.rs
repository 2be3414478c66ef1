//! Tasks on the guests' threads that run the attempts of one handler one after another, and hand back several at a time: a
//! task, two changes of threads and two wake-ups for each would cost more than most guests.
//!
//! Invariants: an attempt never waits behind another one that is not done at once (waits, or is asked by the engine to let
//! others run), since somebody else takes the rest of the line then; nor does the answer of one that is done wait for longer
//! than until then, and not even so long where guests have lately taken their time. Every task is joined, and an attempt that
//! panics is answered like any other.

use std::{
    collections::VecDeque,
    future::poll_fn,
    mem,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use tokio::{runtime::Handle, sync::Notify};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::attempt::{AttemptInput, GuestFinished, attempt};

/// How many attempts that are done are handed back together at most, and which part of those under way: enough are left for the
/// runners while the others are settled, and the next ones received.
const TOGETHER: usize = 16;
const PART: usize = 8;
/// For how long a runner goes on before it hands back what is done and lets others run.
const TURN: Duration = Duration::from_micros(200);
/// After an attempt that took longer than that, so many are handed back one by one.
const ONE_BY_ONE: usize = 64;

/// The runners of one handler. Dropping them interrupts what they run.
#[derive(Debug)]
pub struct Runners {
    shared: Arc<Shared>,
    /// How many attempts were put in line and not taken back.
    unfinished: usize,
}

#[derive(Debug)]
struct Shared {
    /// Where guests run, or where the dispatcher does.
    threads: Handle,
    /// How many runners look for work at a time.
    most: usize,
    /// How many attempts that are done are handed back together now.
    together: AtomicUsize,
    /// How many more are handed back one by one.
    one_by_one: AtomicUsize,
    tasks: TaskTracker,
    stop: CancellationToken,
    // Neither is held across an await.
    line: Mutex<RunQueue>,
    done: Mutex<Vec<AttemptCompletion>>,
    handed_back: Notify,
}

#[derive(Debug, Default)]
struct RunQueue {
    waiting: VecDeque<AttemptInput>,
    /// How many runners take from the line, or run an attempt that may be done at once, rather than wait for their guest.
    looking: usize,
}

/// An attempt whose guest is done.
#[derive(Debug)]
pub struct AttemptCompletion {
    /// What the attempt was started under.
    pub key: u64,
    /// `None` if it panicked: what it held is gone with it.
    pub finished: Option<GuestFinished>,
}

impl Runners {
    /// Runners on these threads, or on those of the caller, who has to be in a runtime.
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
                line: Mutex::default(),
                done: Mutex::default(),
                handed_back: Notify::new(),
            }),
            unfinished: 0,
        }
    }

    /// Puts attempts in line, in order.
    pub fn start(&mut self, attempts: Vec<AttemptInput>) {
        self.unfinished += attempts.len();
        let together = (self.unfinished / PART).clamp(1, TOGETHER);
        self.shared.together.store(together, Ordering::Relaxed);
        let missing = {
            let mut line = self.shared.line();
            line.waiting.extend(attempts);
            // Those that look may be inside of a guest for a while.
            let missing = line.waiting.len().min(self.shared.most.saturating_sub(line.looking));
            line.looking += missing;
            missing
        };
        for _ in 0..missing {
            self.shared.add_runner();
        }
    }

    /// Attempts that are done; for ever if none is under way.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn done(&mut self) -> Vec<AttemptCompletion> {
        loop {
            let done = mem::take(&mut *self.shared.done());
            if !done.is_empty() {
                self.unfinished = self.unfinished.saturating_sub(done.len());
                return done;
            }
            self.shared.handed_back.notified().await;
        }
    }

    /// Whether every attempt was taken back.
    pub fn is_idle(&self) -> bool {
        self.unfinished == 0
    }

    /// Interrupts all attempts; those that have not started are dropped.
    pub fn interrupt(&self) {
        self.shared.stop.cancel();
        self.shared.line().waiting.clear();
    }

    /// Waits for all runners, which end when there is nothing left to run.
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
    fn line(&self) -> MutexGuard<'_, RunQueue> {
        // Every change is complete before the lock is given up, so a panic elsewhere leaves nothing half done.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn done(&self) -> MutexGuard<'_, Vec<AttemptCompletion>> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a runner, which counts as looking already.
    fn add_runner(self: &Arc<Self>) {
        let this = Arc::clone(self);
        let runner = async move { this.stop.run_until_cancelled(this.run()).await };
        self.tasks.spawn_on(runner, &self.threads);
    }

    async fn run(self: &Arc<Self>) {
        let (mut done, mut turn) = (Vec::with_capacity(TOGETHER), Instant::now());
        let mut began = turn;
        while let Some(start) = self.next() {
            let key = start.key;
            let mut attempt = pin!(AssertUnwindSafe(attempt(start)).catch_unwind());
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

    /// How many are handed back together now.
    fn together(&self) -> usize {
        let left = self.one_by_one.load(Ordering::Relaxed);
        if left > 0 {
            // A count that is lost to another runner does not matter.
            self.one_by_one.store(left - 1, Ordering::Relaxed);
            return 1;
        }
        self.together.load(Ordering::Relaxed)
    }

    /// The next in line. Without one the runner no longer looks.
    fn next(&self) -> Option<AttemptInput> {
        let mut line = self.line();
        let next = line.waiting.pop_front();
        if next.is_none() {
            line.looking = line.looking.saturating_sub(1);
        }
        next
    }

    /// A runner's guest takes its time: another one takes what is in line.
    fn step_aside(self: &Arc<Self>) {
        let replaced = {
            let mut line = self.line();
            let replaced = !line.waiting.is_empty();
            if !replaced {
                line.looking = line.looking.saturating_sub(1);
            }
            replaced
        };
        if replaced {
            self.add_runner();
        }
    }

    /// Whether a runner that had stepped aside is of use again.
    fn look_again(&self) -> bool {
        let mut line = self.line();
        let useful = !line.waiting.is_empty() && line.looking < self.most;
        if useful {
            line.looking += 1;
        }
        useful
    }

    fn hand_back(&self, done: &mut Vec<AttemptCompletion>) {
        if done.is_empty() {
            return;
        }
        let first = {
            let mut all = self.done();
            let first = all.is_empty();
            all.append(done);
            first
        };
        // Whoever found some was told before, and has not looked since.
        if first {
            self.handed_back.notify_one();
        }
    }
}
