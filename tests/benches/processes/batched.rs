//! The same as executors in processes, without the processes: N executors of one thread in this process, and calls and answers
//! that are handed over in batches. What a process is worth by itself is the difference to these.
//!
//! Cancels nothing: a call whose caller is gone runs to its end.

use std::{
    fmt, mem,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use sandhog_executor::{
    CallReport, Component, ComponentInfo, Executor, GuestCall, GuestPolicy, LoadError, LocalExecutor,
};
use tokio::{
    runtime::Handle,
    sync::{Mutex as AsyncMutex, Notify, oneshot},
    task::JoinSet,
};
use tokio_util::task::TaskTracker;

use crate::host::loads_by_itself;

/// N executors of one thread each.
pub(crate) struct BatchedExecutor {
    seats: Vec<Arc<Seat>>,
    /// As the first executor has loaded them; the place is that in every seat.
    loaded: Mutex<Vec<Arc<ComponentInfo>>>,
    pumps: AsyncMutex<JoinSet<()>>,
}

impl fmt::Debug for BatchedExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchedExecutor").finish_non_exhaustive()
    }
}

struct Seat {
    executor: LocalExecutor,
    components: Mutex<Vec<Component>>,
    calls: Batch<(usize, GuestCall, oneshot::Sender<CallReport>)>,
    answers: Batch<(oneshot::Sender<CallReport>, CallReport)>,
    under_way: AtomicUsize,
    tasks: TaskTracker,
}

/// What waits to be taken, all at once.
struct Batch<T> {
    waiting: Mutex<Vec<T>>,
    bell: Notify,
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self {
            waiting: Mutex::default(),
            bell: Notify::new(),
        }
    }
}

impl<T> Batch<T> {
    fn push(&self, one: T) {
        let mut waiting = self.waiting.lock().unwrap();
        waiting.push(one);
        let is_first = waiting.len() == 1;
        drop(waiting);
        if is_first {
            self.bell.notify_one();
        }
    }

    async fn take(&self) -> Vec<T> {
        self.bell.notified().await;
        // As with the socket: whoever is about to push gets the chance to be in this batch.
        tokio::task::yield_now().await;
        mem::take(&mut *self.waiting.lock().unwrap())
    }
}

impl BatchedExecutor {
    /// Answers are handed to those who wait for them on `runtime`.
    pub(crate) fn start(runtime: &Handle, executors: Vec<LocalExecutor>) -> Arc<Self> {
        let mut pumps = JoinSet::new();
        let seats = executors.into_iter().map(|executor| {
            let guests = executor.guests().unwrap();
            let seat = Arc::new(Seat {
                executor,
                components: Mutex::default(),
                calls: Batch::default(),
                answers: Batch::default(),
                under_way: AtomicUsize::new(0),
                tasks: TaskTracker::new(),
            });
            let (inwards, outwards) = (Arc::clone(&seat), Arc::clone(&seat));
            pumps.spawn_on(async move { inwards.start_calls().await }, &guests);
            pumps.spawn_on(async move { outwards.answer_calls().await }, runtime);
            seat
        });
        Arc::new(Self {
            seats: seats.collect(),
            loaded: Mutex::default(),
            pumps: AsyncMutex::new(pumps),
        })
    }

    pub(crate) async fn load_everywhere(&self, wasm: &[u8], policy: &Arc<GuestPolicy>) -> Result<Component, LoadError> {
        let mut first = None;
        for seat in &self.seats {
            let (file, wasm) = (PathBuf::from("bench.wasm"), Bytes::copy_from_slice(wasm));
            let component = seat.executor.load(file, wasm, Arc::clone(policy)).await?;
            first.get_or_insert_with(|| component.clone());
            seat.components.lock().unwrap().push(component);
        }
        let first = first.unwrap();
        self.loaded.lock().unwrap().push(Arc::clone(&first.info));
        Ok(first)
    }

    pub(crate) async fn stop(&self) {
        for seat in &self.seats {
            seat.tasks.close();
            seat.tasks.wait().await;
        }
        self.pumps.lock().await.shutdown().await;
    }
}

impl Seat {
    async fn start_calls(self: Arc<Self>) {
        loop {
            for (place, call, caller) in self.calls.take().await {
                let component = self.components.lock().unwrap()[place].clone();
                let seat = Arc::clone(&self);
                self.tasks.spawn(async move {
                    let report = seat.executor.run(&component, call).await;
                    seat.answers.push((caller, report));
                });
            }
        }
    }

    async fn answer_calls(self: Arc<Self>) {
        loop {
            for (caller, report) in self.answers.take().await {
                self.under_way.fetch_sub(1, Ordering::Relaxed);
                drop(caller.send(report));
            }
        }
    }
}

#[async_trait]
impl Executor for BatchedExecutor {
    async fn load(&self, file: PathBuf, _: Bytes, _: Arc<GuestPolicy>) -> Result<Component, LoadError> {
        Err(loads_by_itself(file))
    }

    async fn relink(&self, file: PathBuf, _: &Component, _: Arc<GuestPolicy>) -> Result<Component, LoadError> {
        Err(loads_by_itself(file))
    }

    async fn run(&self, component: &Component, call: GuestCall) -> CallReport {
        let count = call.messages.len();
        let place = {
            let loaded = self.loaded.lock().unwrap();
            loaded.iter().position(|info| Arc::ptr_eq(info, &component.info))
        };
        let Some(place) = place else {
            return CallReport::not_run(count, "the component was loaded by another executor");
        };
        let (caller, answered) = oneshot::channel();
        let seats = self.seats.iter();
        let seat = seats.min_by_key(|seat| seat.under_way.load(Ordering::Relaxed)).unwrap();
        seat.under_way.fetch_add(1, Ordering::Relaxed);
        seat.calls.push((place, call, caller));
        let stopping = |_| CallReport::not_run(count, "the host is stopping");
        answered.await.unwrap_or_else(stopping)
    }

    fn most_at_once(&self, component: &Component, policy: &GuestPolicy) -> usize {
        let seats = self.seats.iter();
        seats.map(|seat| seat.executor.most_at_once(component, policy)).sum()
    }

    fn live_instances(&self) -> usize {
        self.seats.iter().map(|seat| seat.executor.live_instances()).sum()
    }

    fn idle_instances(&self) -> usize {
        self.seats.iter().map(|seat| seat.executor.idle_instances()).sum()
    }
}
