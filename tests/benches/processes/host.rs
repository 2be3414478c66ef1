//! A host without files and listener over one way to run guests, and what is measured on it.

use std::{
    path::{Path, PathBuf},
    process,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use harness::{
    bench::message,
    pipeline::{self, Pipeline},
    process::ticked_time,
};
use sandhog::{attempt::policy, config::Manifest};
use sandhog_executor::{CallMessage, Component, Executor, GuestCall, GuestPolicy, LoadError, LocalExecutor, Verdict};
use sandhog_queue::message::QueueName;
use sandhog_simple::SimpleStore;
use tokio::{
    runtime::{Handle, Runtime},
    task::JoinSet,
};

use crate::{
    batched::BatchedExecutor,
    child::{self, Options},
    guest::{Guest, Kind, Way},
    parent::ProcessExecutor,
};

/// How many messages a handler handles at a time.
pub(crate) const SLOTS: usize = 16;
/// How many calls an instance that is used again answers.
const USES: u64 = 1_000_000;

/// Where guests run.
pub(crate) enum Side {
    Here(Arc<LocalExecutor>),
    Batched(Arc<BatchedExecutor>),
    There(Arc<ProcessExecutor>),
}

/// Everything that a host has but files and a listener.
pub(crate) struct Host {
    pub(crate) way: Way,
    runtime: Handle,
    pub(crate) executor: Side,
    component: [Component; 2],
    manifest: [Manifest; 2],
    policies: [Arc<GuestPolicy>; 2],
    body: fn(usize) -> Bytes,
}

/// What a run came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    /// Per second.
    pub(crate) rate: f64,
    /// Processor time of all processes per message, in microseconds.
    pub(crate) cpu: f64,
}

/// What the death of a process came to.
pub(crate) struct Death {
    pub(crate) failed: usize,
    pub(crate) answered: Duration,
    pub(crate) ready: Duration,
    pub(crate) started_in: Duration,
}

impl Host {
    pub(crate) fn new(way: Way, guest: &Guest, runtime: &Runtime, artifacts: &Path) -> Self {
        let artifacts = artifacts.to_owned();
        let uses = [1, USES];
        let sends_to: Vec<String> = guest.sends_to.iter().map(|queue| (*queue).to_owned()).collect();
        let manifest = uses.map(|uses| {
            let mut manifest = child::manifest(uses, &sends_to);
            manifest.concurrency = SLOTS.try_into().unwrap();
            manifest
        });
        let policies = [0, 1].map(|which: usize| Arc::new(policy("bench", &manifest[which])));
        let handle = runtime.handle();
        let (executor, component) = match way.kind {
            Kind::Here => {
                let executor = Arc::new(child::local(way.count, artifacts));
                let component = [0, 1].map(|which: usize| {
                    let wasm = Bytes::from(guest.wasm.clone());
                    let loaded = executor.load("bench.wasm".into(), wasm, Arc::clone(&policies[which]));
                    runtime.block_on(loaded).unwrap()
                });
                (Side::Here(executor), component)
            }
            Kind::Batched => {
                let executors = (0..way.count).map(|_| child::local(1, artifacts.clone()));
                let executor = BatchedExecutor::start(handle, executors.collect());
                let component = [0, 1].map(|which: usize| {
                    let loaded = executor.load_everywhere(&guest.wasm, &policies[which]);
                    runtime.block_on(loaded).unwrap()
                });
                (Side::Batched(executor), component)
            }
            Kind::There(place) => {
                let options = Options {
                    threads: 1,
                    place,
                    artifacts,
                };
                let executor = ProcessExecutor::start(handle, way.count, &options);
                let component = [0, 1].map(|which: usize| {
                    let load = child::load(&guest.wasm, uses[which], guest.sends_to);
                    let loaded = executor.load_everywhere(load, Arc::clone(&policies[which]));
                    runtime.block_on(loaded).unwrap()
                });
                (Side::There(executor), component)
            }
        };
        Self {
            way,
            runtime: handle.clone(),
            executor,
            component,
            manifest,
            policies,
            body: guest.body,
        }
    }

    fn executor(&self) -> Arc<dyn Executor> {
        match &self.executor {
            Side::Here(executor) => Arc::clone(executor) as Arc<dyn Executor>,
            Side::Batched(executor) => Arc::clone(executor) as Arc<dyn Executor>,
            Side::There(executor) => Arc::clone(executor) as Arc<dyn Executor>,
        }
    }

    fn processes(&self) -> Vec<u32> {
        let mut processes = vec![process::id()];
        if let Side::There(executor) = &self.executor {
            processes.extend(executor.processes());
        }
        processes
    }

    /// From the start of the handler to the last deletion.
    pub(crate) fn pipeline(&self, messages: usize, reuse: bool) -> Measured {
        let which = usize::from(reuse);
        self.runtime.block_on(async {
            let mut pipeline = Pipeline::new(&self.runtime, SimpleStore::ephemeral(), self.executor());
            let queue = pipeline.queue("bench").await;
            pipeline.queue("invoices").await;
            pipeline::fill(&*queue, messages, self.body).await;
            let (start, used) = (Instant::now(), self.cpu());
            pipeline
                .handle(&self.component[which], self.manifest[which].clone())
                .await;
            let end = pipeline.deleted(messages).await;
            let measured = Measured::of(messages, end - start, self.cpu().saturating_sub(used));
            pipeline.stop().await;
            measured
        })
    }

    /// As many calls at a time as the pipeline makes, from as many tasks.
    pub(crate) fn calls(&self, calls: usize, reuse: bool) -> Measured {
        let which = usize::from(reuse);
        self.runtime.block_on(async {
            let (start, used) = (Instant::now(), self.cpu());
            let mut tasks = JoinSet::new();
            for _ in 0..SLOTS {
                let (executor, component) = (self.executor(), self.component[which].clone());
                let call = self.call(which);
                tasks.spawn(async move {
                    for _ in 0..calls / SLOTS {
                        succeeds(&*executor, &component, call.clone()).await;
                    }
                });
            }
            while let Some(ended) = tasks.join_next().await {
                ended.unwrap();
            }
            Measured::of(calls, start.elapsed(), self.cpu().saturating_sub(used))
        })
    }

    /// Microseconds of each of so many calls, one after another.
    pub(crate) fn one_by_one(&self, calls: usize, reuse: bool) -> Vec<f64> {
        let which = usize::from(reuse);
        let (executor, component, call) = (self.executor(), self.component[which].clone(), self.call(which));
        let calls = async move {
            let mut took = Vec::new();
            for _ in 0..calls {
                let start = Instant::now();
                succeeds(&*executor, &component, call.clone()).await;
                took.push(start.elapsed().as_secs_f64() * 1e6);
            }
            took.sort_by(f64::total_cmp);
            took
        };
        // On a thread of the runtime, as a dispatcher's attempts are.
        self.runtime.block_on(self.runtime.spawn(calls)).unwrap()
    }

    /// Calls without an end, while children are killed.
    pub(crate) async fn killed(&self, times: usize) -> Vec<Death> {
        let Side::There(executor) = &self.executor else {
            panic!("no process to be killed");
        };
        let (failed, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let last = Arc::new(Mutex::new(Instant::now()));
        let mut tasks = JoinSet::new();
        for _ in 0..SLOTS {
            let (executor, component, call) = (Arc::clone(executor), self.component[0].clone(), self.call(0));
            let (failed, is_over, last) = (Arc::clone(&failed), Arc::clone(&is_over), Arc::clone(&last));
            tasks.spawn(async move {
                while !is_over.load(Ordering::Relaxed) {
                    let report = executor.run(&component, call.clone()).await;
                    match &report.verdicts[0] {
                        Verdict::Success => {}
                        Verdict::Failed(failure) if failure.reason == "the executor process ended" => {
                            *last.lock().unwrap() = Instant::now();
                            failed.fetch_add(1, Ordering::Relaxed);
                        }
                        other @ (Verdict::Failed(_) | Verdict::NotRun(_)) => panic!("{other:?}"),
                    }
                }
            });
        }
        let mut deaths = Vec::new();
        for _ in 0..times {
            until(|| executor.ready() == 2).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            failed.store(0, Ordering::Relaxed);
            let (victim, killed) = (executor.processes()[0], Instant::now());
            process::Command::new("kill")
                .args(["-9", &victim.to_string()])
                .status()
                .unwrap();
            let killed_by = killed.elapsed();
            until(|| executor.ready() == 2 && !executor.processes().contains(&victim)).await;
            deaths.push(Death {
                failed: failed.load(Ordering::Relaxed),
                answered: last
                    .lock()
                    .unwrap()
                    .saturating_duration_since(killed)
                    .saturating_sub(killed_by),
                ready: killed.elapsed().saturating_sub(killed_by),
                started_in: executor.started_in()[0],
            });
        }
        is_over.store(true, Ordering::Relaxed);
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        deaths
    }

    fn call(&self, which: usize) -> GuestCall {
        GuestCall {
            messages: vec![CallMessage {
                message: message(&(self.body)(0)),
                queue: QueueName::new("bench").unwrap(),
                receive_count: 1,
            }],
            policy: Arc::clone(&self.policies[which]),
            log: Arc::new(|_| {}),
            keyvalue: None,
            trace: None,
        }
    }

    /// Of all processes since they began.
    fn cpu(&self) -> Duration {
        self.processes()
            .into_iter()
            .map(|process| {
                let [own, _children] = ticked_time(&process.to_string());
                own
            })
            .sum()
    }

    pub(crate) async fn stop(self) {
        match self.executor {
            Side::Here(_) => {}
            Side::Batched(executor) => executor.stop().await,
            Side::There(executor) => executor.stop().await,
        }
    }
}

impl Measured {
    fn of(messages: usize, took: Duration, cpu: Duration) -> Self {
        Self {
            rate: messages as f64 / took.as_secs_f64(),
            cpu: cpu.as_secs_f64() * 1e6 / messages as f64,
        }
    }
}

async fn succeeds(executor: &dyn Executor, component: &Component, call: GuestCall) {
    let report = executor.run(component, call).await;
    assert_eq!(report.verdicts, [Verdict::Success]);
}

/// What an executor of this bench answers to whoever else wants something loaded.
pub(crate) fn loads_by_itself(file: PathBuf) -> LoadError {
    LoadError::Host {
        file,
        reason: "a benchmark loads by itself, and does not reload".to_owned(),
    }
}

pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Asks often: what is waited for takes milliseconds.
async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::time::sleep(Duration::from_micros(100)).await;
    }
}
