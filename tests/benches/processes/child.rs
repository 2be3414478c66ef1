//! An executor in a process of its own: reads orders from its standard input, which is a socket, and answers on it. It has no
//! other descriptor, and no environment. It ends when the socket does.

use std::{
    collections::HashMap,
    os::{fd::AsFd as _, unix::net::UnixStream as StdStream},
    path::PathBuf,
    sync::{Arc, Mutex},
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use sandhog::{attempt::policy, config::Manifest};
use sandhog_executor::{
    CallReport, CodeTiers, Component, EngineOptions, Executor as _, GuestCall, GuestPolicy, LocalExecutor,
    policy::Reuse,
};
use sandhog_queue::message::QueueName;
use tokio::{net::UnixStream, sync::mpsc, task::AbortHandle};
use tokio_util::task::TaskTracker;

use crate::wire::{Answer, Load, Order, Outbox, read_all};

/// Where an executor reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// On a thread of its own, so that a guest that spins does not delay the answers of others.
    Apart,
    /// Between its guests, so that a call changes no thread.
    Between,
}

/// What an executor is started with.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) threads: usize,
    pub(crate) place: Place,
    /// Where compiled code is kept.
    pub(crate) artifacts: PathBuf,
}

impl Options {
    pub(crate) fn arguments(&self) -> Vec<String> {
        let place = match self.place {
            Place::Apart => "apart",
            Place::Between => "between",
        };
        let artifacts = self.artifacts.to_str().unwrap();
        [EXECUTOR, &self.threads.to_string(), place, artifacts]
            .map(str::to_owned)
            .to_vec()
    }

    /// What [`Options::arguments`] made, if this process is an executor.
    pub(crate) fn of(arguments: &[String]) -> Option<Self> {
        let [executor, threads, place, artifacts] = arguments else {
            return None;
        };
        (executor == EXECUTOR).then(|| Self {
            threads: threads.parse().unwrap(),
            place: if place == "apart" { Place::Apart } else { Place::Between },
            artifacts: artifacts.into(),
        })
    }
}

const EXECUTOR: &str = "executor";

/// The same engine as in a host.
pub(crate) fn local(threads: usize, artifacts: PathBuf) -> LocalExecutor {
    let options = EngineOptions {
        threads,
        max_live_instances: 128,
        memory_budget: 1 << 40,
        tiers: CodeTiers::Optimised,
        artifacts: Some(artifacts),
        ..EngineOptions::default()
    };
    LocalExecutor::new(options).unwrap()
}

/// What a component is loaded with.
pub(crate) fn manifest(uses: u64, sends_to: &[String]) -> Manifest {
    let mut manifest = Manifest::defaults("bench").unwrap();
    let queues = sends_to.iter().map(|queue| QueueName::new(queue).unwrap());
    manifest.grants.send = (!sends_to.is_empty()).then(|| queues.collect());
    manifest.reuse = (uses > 1).then_some(Reuse {
        max: uses,
        idle: std::time::Duration::from_mins(1),
    });
    manifest
}

/// Is an executor, until the host is gone.
pub(crate) fn serve(options: Options) {
    let executor = Arc::new(local(options.threads, options.artifacts));
    let socket = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let socket = StdStream::from(socket);
    socket.set_nonblocking(true).unwrap();
    let control = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    match options.place {
        Place::Apart => control.block_on(connection(executor, socket)),
        Place::Between => {
            let between = executor
                .guests()
                .unwrap()
                .spawn(connection(Arc::clone(&executor), socket));
            control.block_on(between).unwrap();
        }
    }
}

/// What calls and answers share.
struct Session {
    executor: Arc<LocalExecutor>,
    components: Mutex<Vec<(Component, Arc<GuestPolicy>)>>,
    outbox: Outbox,
    running: Mutex<HashMap<u64, AbortHandle>>,
    tasks: TaskTracker,
}

async fn connection(executor: Arc<LocalExecutor>, socket: StdStream) {
    let (reading, writing) = UnixStream::from_std(socket).unwrap().into_split();
    let session = Arc::new(Session {
        executor,
        components: Mutex::default(),
        outbox: Outbox::default(),
        running: Mutex::default(),
        tasks: TaskTracker::new(),
    });
    // One component after another, so that they are numbered as the host numbers them.
    let (loads, mut to_load) = mpsc::channel(64);
    let loading = Arc::clone(&session);
    session.tasks.spawn(async move {
        while let Some((number, load)) = to_load.recv().await {
            let loaded = loading.load(load).await.map_err(|error| format!("{error:#}"));
            loading.outbox.push(number, |to| Answer::Loaded(loaded).encode(to));
        }
    });
    let reader = read_all(reading, |number, frame| {
        match Order::decode(frame)? {
            Order::Load(load) => loads.try_send((number, load)).context("too many components")?,
            Order::Call { component, messages } => {
                let (component, policy) = session
                    .components
                    .lock()
                    .unwrap()
                    .get(usize::try_from(component)?)
                    .cloned()
                    .context("an unknown component")?;
                let call = GuestCall {
                    messages,
                    policy,
                    log: Arc::new(|_| {}),
                    keyvalue: None,
                    trace: None,
                };
                session.start(number, component, call);
            }
            Order::Cancel => {
                if let Some(call) = session.running.lock().unwrap().remove(&number) {
                    call.abort();
                }
            }
        }
        Ok(())
    });
    // Either end is the end of the host.
    tokio::select! {
        _ = reader => {}
        _ = session.outbox.write_all(writing) => {}
    }
    drop(loads);
    for call in session.running.lock().unwrap().values() {
        call.abort();
    }
    session.tasks.close();
    session.tasks.wait().await;
}

impl Session {
    async fn load(&self, load: Load) -> Result<u32> {
        let policy = Arc::new(policy("bench", &manifest(load.uses, &load.sends_to)));
        let file = PathBuf::from("bench.wasm");
        let component = self.executor.load(file, load.wasm, Arc::clone(&policy)).await?;
        let mut components = self.components.lock().unwrap();
        components.push((component, policy));
        Ok(u32::try_from(components.len() - 1)?)
    }

    fn start(self: &Arc<Self>, number: u64, component: Component, call: GuestCall) {
        let session = Arc::clone(self);
        // Held over the start, so that a call that has ended is never put in.
        let mut running = self.running.lock().unwrap();
        let task = self.tasks.spawn(async move {
            let report: CallReport = session.executor.run(&component, call).await;
            session.running.lock().unwrap().remove(&number);
            session.outbox.push(number, |to| Answer::Ran(report).encode(to));
        });
        running.insert(number, task.abort_handle());
    }
}

/// The bytes of a component and what it is loaded with.
pub(crate) fn load(wasm: &[u8], uses: u64, sends_to: &[&str]) -> Load {
    Load {
        wasm: Bytes::copy_from_slice(wasm),
        uses,
        sends_to: sends_to.iter().map(|queue| (*queue).to_owned()).collect(),
    }
}
