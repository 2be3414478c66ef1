//! The host's side of executors in processes of their own: an [`Executor`] that hands each call to the child with the fewest
//! of them, starts a child anew when it has died, and answers for the calls that died with it.
//!
//! It checks and compiles with an executor of its own and never runs a guest on that one; a host would leave that to a child
//! as well.

use std::{
    collections::HashMap,
    fmt,
    os::{fd::OwnedFd, unix::net::UnixStream as StdStream},
    path::PathBuf,
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use async_trait::async_trait;
use bytes::Bytes;
use sandhog_executor::{
    CallReport, CallUsage, Component, ComponentInfo, Executor, GuestCall, GuestFailure, GuestPolicy, LoadError,
    LocalExecutor, Verdict,
};
use sandhog_queue::FailureKind;
use tokio::{
    net::UnixStream,
    process::{Child, Command},
    runtime::Handle,
    sync::{Mutex as AsyncMutex, oneshot, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    child::{Options, local},
    host::loads_by_itself,
    wire::{Answer, Load, Order, Outbox, read_all},
};

/// What every child has loaded, in order.
type Loaded = Arc<AsyncMutex<Vec<(Arc<ComponentInfo>, Load)>>>;

/// N executors, each in a process.
pub(crate) struct ProcessExecutor {
    catalogue: LocalExecutor,
    seats: Vec<Arc<Seat>>,
    loaded: Loaded,
    numbers: Mutex<Vec<Arc<ComponentInfo>>>,
    next: AtomicU64,
    /// Changes whenever a child is ready.
    ready: watch::Sender<u64>,
    stop: CancellationToken,
    supervisors: AsyncMutex<JoinSet<()>>,
}

impl fmt::Debug for ProcessExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessExecutor").finish_non_exhaustive()
    }
}

/// The place of one child, whoever has it now.
#[derive(Default)]
struct Seat {
    state: Mutex<SeatState>,
}

#[derive(Default)]
struct SeatState {
    is_ready: bool,
    process: Option<u32>,
    outbox: Arc<Outbox>,
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
    /// From the start of the process to its readiness.
    started_in: Duration,
}

impl Seat {
    /// Sends an order, and what its answer comes to. `None` if nobody has the seat.
    fn order(&self, number: u64, order: &Order, ready_only: bool) -> Option<oneshot::Receiver<Answer>> {
        let mut state = self.state.lock().unwrap();
        if !state.is_ready && ready_only {
            return None;
        }
        let (answer, answered) = oneshot::channel();
        state.waiting.insert(number, answer);
        state.outbox.push(number, |to| order.encode(to));
        Some(answered)
    }

    fn calls(&self) -> Option<usize> {
        let state = self.state.lock().unwrap();
        state.is_ready.then(|| state.waiting.len())
    }

    fn answer(&self, number: u64, answer: Answer) {
        // Nobody waits for what was cancelled.
        if let Some(waiting) = self.state.lock().unwrap().waiting.remove(&number) {
            drop(waiting.send(answer));
        }
    }

    async fn load(&self, number: u64, load: Load) -> Result<()> {
        let answered = self.order(number, &Order::Load(load), false).context("no child")?;
        match answered.await.context("the executor process ended")? {
            Answer::Loaded(Ok(_)) => Ok(()),
            Answer::Loaded(Err(reason)) => Err(anyhow!(reason)),
            Answer::Ran(_) => Err(anyhow!("an answer to a call")),
        }
    }
}

/// Tells the child when nobody waits for a call any more.
struct CancelOnDrop<'a> {
    seat: &'a Seat,
    number: u64,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        let mut state = self.seat.state.lock().unwrap();
        if state.waiting.remove(&self.number).is_some() {
            state.outbox.push(self.number, |to| Order::Cancel.encode(to));
        }
    }
}

impl ProcessExecutor {
    /// Starts the children. Their sockets are read and written on `runtime`.
    pub(crate) fn start(runtime: &Handle, children: usize, options: &Options) -> Arc<Self> {
        let (ready, _) = watch::channel(0);
        let executor = Arc::new(Self {
            catalogue: local(1, options.artifacts.clone()),
            seats: (0..children).map(|_| Arc::default()).collect(),
            loaded: Arc::default(),
            numbers: Mutex::default(),
            next: AtomicU64::new(0),
            ready,
            stop: CancellationToken::new(),
            supervisors: AsyncMutex::new(JoinSet::new()),
        });
        let mut supervisors = executor.supervisors.try_lock().unwrap();
        for seat in &executor.seats {
            let supervisor = Supervisor {
                seat: Arc::clone(seat),
                loaded: Arc::clone(&executor.loaded),
                ready: executor.ready.clone(),
                stop: executor.stop.clone(),
                options: options.clone(),
            };
            supervisors.spawn_on(async move { supervisor.run().await.unwrap() }, runtime);
        }
        drop(supervisors);
        executor
    }

    /// Loads what a benchmark loads: the policy comes along as far as it is used.
    pub(crate) async fn load_everywhere(&self, load: Load, policy: Arc<GuestPolicy>) -> Result<Component> {
        let component = self
            .catalogue
            .load(PathBuf::from("bench.wasm"), load.wasm.clone(), policy)
            .await?;
        let mut loaded = self.loaded.lock().await;
        let mut ready = self.ready.subscribe();
        for seat in &self.seats {
            while seat.calls().is_none() {
                // A child that is being started waits for the list, and gets all of it.
                drop(loaded);
                ready.changed().await?;
                loaded = self.loaded.lock().await;
            }
        }
        for seat in &self.seats {
            seat.load(self.number(), load.clone()).await?;
        }
        loaded.push((Arc::clone(&component.info), load));
        self.numbers.lock().unwrap().push(Arc::clone(&component.info));
        Ok(component)
    }

    /// The processes of the children that live now.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let processes = self.seats.iter().map(|seat| seat.state.lock().unwrap().process);
        processes.flatten().collect()
    }

    /// How long each child took from its start until it was ready.
    pub(crate) fn started_in(&self) -> Vec<Duration> {
        let seats = self.seats.iter();
        seats.map(|seat| seat.state.lock().unwrap().started_in).collect()
    }

    pub(crate) fn ready(&self) -> usize {
        self.seats.iter().filter(|seat| seat.calls().is_some()).count()
    }

    /// Takes the children down, and waits for them.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        let mut supervisors = self.supervisors.lock().await;
        while let Some(ended) = supervisors.join_next().await {
            ended.unwrap();
        }
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// The seat with the fewest calls, as soon as there is one.
    async fn seat(&self, number: u64, order: &Order) -> (&Seat, oneshot::Receiver<Answer>) {
        let mut ready = self.ready.subscribe();
        loop {
            let seats = self.seats.iter().filter_map(|seat| Some((seat.calls()?, seat)));
            if let Some((_, seat)) = seats.min_by_key(|(calls, _)| *calls)
                && let Some(answered) = seat.order(number, order, true)
            {
                return (seat, answered);
            }
            ready.changed().await.unwrap();
        }
    }
}

#[async_trait]
impl Executor for ProcessExecutor {
    async fn load(&self, file: PathBuf, _: Bytes, _: Arc<GuestPolicy>) -> Result<Component, LoadError> {
        Err(loads_by_itself(file))
    }

    async fn relink(&self, file: PathBuf, _: &Component, _: Arc<GuestPolicy>) -> Result<Component, LoadError> {
        Err(loads_by_itself(file))
    }

    async fn run(&self, component: &Component, call: GuestCall) -> CallReport {
        let count = call.messages.len();
        let place = self
            .numbers
            .lock()
            .unwrap()
            .iter()
            .position(|info| Arc::ptr_eq(info, &component.info));
        let Some(place) = place else {
            return CallReport::not_run(count, "the component was loaded by another executor");
        };
        let number = self.number();
        let order = Order::Call {
            component: u32::try_from(place).unwrap(),
            messages: call.messages,
        };
        let (seat, answered) = self.seat(number, &order).await;
        let cancel = CancelOnDrop { seat, number };
        let answer = answered.await;
        drop(cancel);
        match answer {
            Ok(Answer::Ran(report)) if report.verdicts.len() == count => report,
            // It may be this very message that does it: it counts, so that it is not tried for ever.
            Ok(_) | Err(_) => died(count),
        }
    }

    fn most_at_once(&self, component: &Component, policy: &GuestPolicy) -> usize {
        self.catalogue.most_at_once(component, policy) * self.seats.len()
    }

    fn live_instances(&self) -> usize {
        self.seats.iter().filter_map(|seat| seat.calls()).sum()
    }

    fn idle_instances(&self) -> usize {
        0
    }
}

fn died(count: usize) -> CallReport {
    let failure = GuestFailure {
        kind: FailureKind::Trap,
        reason: "the executor process ended".to_owned(),
        retry_after: None,
        stack: None,
    };
    CallReport {
        verdicts: vec![Verdict::Failed(failure); count],
        sends: Vec::new(),
        writes: Vec::new(),
        usage: CallUsage::default(),
    }
}

/// Keeps one seat taken.
struct Supervisor {
    seat: Arc<Seat>,
    loaded: Loaded,
    ready: watch::Sender<u64>,
    stop: CancellationToken,
    options: Options,
}

impl Supervisor {
    async fn run(self) -> Result<()> {
        while !self.stop.is_cancelled() {
            let started = Instant::now();
            let (mut child, socket) = self.spawn()?;
            let (reading, writing) = UnixStream::from_std(socket)?.into_split();
            let outbox = Arc::new(Outbox::default());
            {
                let mut state = self.seat.state.lock().unwrap();
                state.outbox = Arc::clone(&outbox);
                state.process = child.id();
            }
            let reader = read_all(reading, |number, frame| {
                self.seat.answer(number, Answer::decode(frame)?);
                Ok(())
            });
            tokio::select! {
                _ = reader => {}
                _ = outbox.write_all(writing) => {}
                never = self.prepare(started) => never?,
                () = self.stop.cancelled() => {}
            }
            {
                let mut state = self.seat.state.lock().unwrap();
                state.is_ready = false;
                state.process = None;
                // Whoever waits learns that nobody will answer.
                state.waiting.clear();
            }
            child.kill().await?;
        }
        Ok(())
    }

    fn spawn(&self) -> Result<(Child, StdStream)> {
        let (ours, theirs) = StdStream::pair()?;
        ours.set_nonblocking(true)?;
        let child = Command::new(std::env::current_exe()?)
            .args(self.options.arguments())
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .kill_on_drop(true)
            .spawn()?;
        Ok((child, ours))
    }

    /// Loads everything, says that the child is ready, and never ends.
    async fn prepare(&self, started: Instant) -> Result<()> {
        let loaded = self.loaded.lock().await;
        for (place, (_, load)) in loaded.iter().enumerate() {
            // Above all numbers of calls.
            self.seat.load(u64::MAX - u64::try_from(place)?, load.clone()).await?;
        }
        {
            let mut state = self.seat.state.lock().unwrap();
            state.is_ready = true;
            state.started_in = started.elapsed();
        }
        drop(loaded);
        self.ready.send_modify(|times| *times += 1);
        std::future::pending().await
    }
}
