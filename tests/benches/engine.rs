//! Messages per second through the whole host on a queue in memory, as ratios to a bare loop over the engine.
//!
//! The bare loop is what anybody would write against the engine: a store with the same limits (memory, table elements, a
//! deadline by epochs, bytes per host call), an instance, a call, the store dropped; nothing is received, renewed, settled,
//! counted or logged. It runs on one thread and on as many as there are cores; the better one is the baseline.
//!
//! `cargo bench --workspace --bench engine`; with `-- only ROW MESSAGES` for a profiler, where ROW is `bare`, `fresh` or `reuse`.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a benchmark speaks to a person"
)]

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use harness::{
    guests::no_op,
    pipeline::{Pipeline, control_runtime},
    ratios::{Bound, Row, compare, machine},
};
use sandhog::{
    attempt::policy,
    config::{Manifest, Reuse},
    executor::{Component, EngineOptions, Executor, LocalExecutor},
    message::{Outgoing, QueueName},
    queue::simple::SimpleStore,
};
use sandhog_demo::guests::{Progress, build};

mod worker {
    wasmtime::component::bindgen!({ path: "../wit", world: "worker", exports: { default: async } });
}

/// As the host's program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 9;
const MESSAGES: usize = 20_000;
/// How many messages go into one send.
const FILL: usize = 1000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|each| each != "--bench").collect();
    let no_op = Guest::no_op();
    if let [only, row, messages] = arguments.as_slice()
        && only == "only"
    {
        return profile(&no_op, row, messages.parse().unwrap());
    }
    println!("{}", machine());
    against_bare(&no_op);
    against_bare(&Guest::orders());
    scaling(&no_op);
}

fn profile(guest: &Guest, row: &str, messages: usize) {
    let rate = match row {
        "bare" => Bare::new(guest).run(1, messages, false),
        "fresh" => Host::new(guest, cores(), 16).run(messages, false),
        "reuse" => Host::new(guest, cores(), 16).run(messages, true),
        other => panic!("{other} is neither bare nor fresh nor reuse"),
    };
    println!("{row}: {rate:.0} messages/s");
}

fn cores() -> usize {
    thread::available_parallelism().unwrap().get()
}

/// A handler, and what it is sent.
struct Guest {
    name: &'static str,
    wasm: Vec<u8>,
    body: fn(usize) -> Bytes,
}

impl Guest {
    /// 256 bytes go in, and nothing happens.
    fn no_op() -> Self {
        Self {
            name: "no-op",
            wasm: no_op(),
            body: |_| Bytes::from_static(&[b'x'; 256]),
        }
    }

    /// The example `orders`: parses JSON, sends one message.
    fn orders() -> Self {
        let files: BTreeMap<String, PathBuf> = build(Progress::Hidden).unwrap();
        Self {
            name: "parses JSON and sends",
            wasm: fs::read(&files["orders"]).unwrap(),
            body: |number| {
                Bytes::from(format!(
                    r#"{{"id": "A-{number}", "customer": {{ "name": "Ada Byron", "email": "ada@example.com" }}, "currency": "EUR",
                    "items": [ {{ "sku": "SPADE-ASH", "quantity": 2, "unit_cents": 2490 }} ], "total_cents": 4980 }}"#
                ))
            },
        }
    }

    fn manifest(&self, reuse: bool) -> Manifest {
        let mut manifest = Manifest::defaults("bench").unwrap();
        manifest.grants.send = (self.name != "no-op").then(|| [QueueName::new("invoices").unwrap()].into());
        manifest.reuse = reuse.then_some(Reuse {
            max: 1_000_000,
            idle: Duration::from_mins(1),
        });
        manifest
    }
}

fn against_bare(guest: &Guest) {
    let (bare, host) = (Bare::new(guest), Host::new(guest, cores(), 16));
    let name = |what: &str| format!("{}: {what}", guest.name);
    let fresh = format!("host, fresh: receive, handle, delete ({} guest threads)", cores());
    let figures = compare(
        &format!("a queue in memory to a handler that {}", describe(guest)),
        "messages/s",
        ROUNDS,
        vec![
            Row::new(name("bare loop, fresh, 1 thread"), || bare.run(1, MESSAGES, false)),
            Row::new(name(&format!("bare loop, fresh, {} threads", cores())), || {
                bare.run(cores(), MESSAGES, false)
            }),
            Row::new(name(&fresh), || host.run(MESSAGES, false)).bound(Bound::AtLeast(0.9)),
            Row::new(name("bare loop, reuse, 1 thread"), || bare.run(1, MESSAGES, true)),
            Row::new(name("host, reuse"), || host.run(MESSAGES, true)),
        ],
    );
    let [one, all, fresh, _, reuse] = figures.as_slice() else {
        panic!("five rows");
    };
    let best = if all.median() > one.median() { all } else { one };
    harness::ratios::print_row(
        "host, fresh, to the better bare loop",
        fresh,
        best,
        Some(Bound::AtLeast(0.9)),
    );
    harness::ratios::print_row("host, reuse, to host, fresh", reuse, fresh, Some(Bound::AtLeast(4.0)));
}

fn describe(guest: &Guest) -> &'static str {
    if guest.name == "no-op" {
        "does nothing"
    } else {
        "parses JSON and sends one message"
    }
}

/// More slots, and more threads for guests.
fn scaling(guest: &Guest) {
    let threads: Vec<usize> = if cores() > 1 { vec![1, cores()] } else { vec![1] };
    for reuse in [false, true] {
        let hosts: Vec<Host> = threads
            .iter()
            .flat_map(|threads| [1, 4, 16, 64].map(|slots| Host::new(guest, *threads, slots)))
            .collect();
        let rows = hosts.iter().map(|host| {
            let name = format!("{} guest threads, concurrency {}", host.threads, host.slots);
            Row::new(name, move || host.run(MESSAGES / 2, reuse))
        });
        let instance = if reuse { "reuse" } else { "fresh" };
        compare(&format!("scaling, no-op, {instance}"), "messages/s", 5, rows.collect());
    }
}

/// What every instance of the bare loop has.
struct State {
    limits: wasmtime::StoreLimits,
}

impl worker::sandhog::worker::types::Host for State {}

impl worker::sandhog::worker::sender::Host for State {
    fn send(
        &mut self,
        _: String,
        _: worker::sandhog::worker::sender::Outgoing,
    ) -> Result<(), worker::sandhog::worker::sender::SendError> {
        Ok(())
    }

    fn send_many(
        &mut self,
        _: String,
        _: Vec<worker::sandhog::worker::sender::Outgoing>,
    ) -> Result<(), worker::sandhog::worker::sender::SendError> {
        Ok(())
    }
}

/// The engine, without anything of ours.
struct Bare {
    engine: wasmtime::Engine,
    pre: worker::WorkerPre<State>,
    body: fn(usize) -> Bytes,
}

impl Bare {
    fn new(guest: &Guest) -> Self {
        let mut config = wasmtime::Config::new();
        config.epoch_interruption(true);
        let mut pool = wasmtime::PoolingAllocationConfig::new();
        pool.total_component_instances(64)
            .total_core_instances(256)
            .total_memories(128)
            .total_tables(256)
            .total_stacks(64);
        pool.max_memory_size(512 << 20);
        // What the host uses as well where nothing can be swapped.
        if wasmtime::PoolingAllocationConfig::is_pagemap_scan_available() {
            pool.pagemap_scan(wasmtime::Enabled::Yes)
                .linear_memory_keep_resident(2 << 20);
        }
        config.allocation_strategy(wasmtime::InstanceAllocationStrategy::Pooling(pool));
        let engine = wasmtime::Engine::new(&config).unwrap();
        let mut linker = wasmtime::component::Linker::<State>::new(&engine);
        worker::Worker::add_to_linker::<_, wasmtime::component::HasSelf<State>>(&mut linker, |state| state).unwrap();
        let component = wasmtime::component::Component::from_binary(&engine, &component(&guest.wasm)).unwrap();
        // What the SDK imports and this message does not use.
        linker.define_unknown_imports_as_traps(&component).unwrap();
        let pre = worker::WorkerPre::new(linker.instantiate_pre(&component).unwrap()).unwrap();
        let ticking = engine.weak();
        thread::spawn(move || {
            while let Some(engine) = ticking.upgrade() {
                engine.increment_epoch();
                drop(engine);
                #[expect(clippy::disallowed_methods, reason = "a tick is a time")]
                thread::sleep(Duration::from_millis(5));
            }
        });
        Self {
            engine,
            pre,
            body: guest.body,
        }
    }

    /// Messages per second of all threads together.
    fn run(&self, threads: usize, messages: usize, reuse: bool) -> f64 {
        let start = Instant::now();
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    runtime.block_on(self.calls(messages / threads, reuse));
                });
            }
        });
        messages as f64 / start.elapsed().as_secs_f64()
    }

    async fn calls(&self, messages: usize, reuse: bool) {
        let message = worker::sandhog::worker::types::Message {
            id: "01920000-0000-7000-8000-000000000000".to_owned(),
            body: (self.body)(0).to_vec(),
            attributes: Vec::new(),
            queue: "bench".to_owned(),
            receive_count: 1,
            sent_at_ms: 0,
            group_id: None,
        };
        let mut kept = None;
        for _ in 0..messages {
            let (mut store, worker) = if let Some(kept) = kept.take() {
                kept
            } else {
                let mut store = self.store();
                let worker = self.pre.instantiate_async(&mut store).await.unwrap();
                (store, worker)
            };
            store.set_epoch_deadline(1);
            let handler = worker.sandhog_worker_handler();
            handler.call_handle(&mut store, &message).await.unwrap().unwrap();
            kept = reuse.then_some((store, worker));
        }
    }

    fn store(&self) -> wasmtime::Store<State> {
        let limits = wasmtime::StoreLimitsBuilder::new()
            .memory_size(128 << 20)
            .table_elements(20_000)
            .build();
        let mut store = wasmtime::Store::new(&self.engine, State { limits });
        store.limiter(|state| &mut state.limits);
        store.set_epoch_deadline(1);
        let deadline = Instant::now() + Duration::from_secs(30);
        store.epoch_deadline_callback(move |_| {
            if Instant::now() >= deadline {
                return Err(wasmtime::Error::msg("the deadline passed"));
            }
            Ok(wasmtime::UpdateDeadline::YieldCustom(
                1,
                Box::pin(tokio::task::yield_now()),
            ))
        });
        store.set_hostcall_fuel(16 << 20);
        store
    }
}

/// A file as the component that the host makes of it.
fn component(wasm: &[u8]) -> Vec<u8> {
    // The eighth byte tells components from core modules.
    if wasm.get(6) == Some(&1) {
        return wasm.to_vec();
    }
    wit_component::ComponentEncoder::default()
        .module(wasm)
        .unwrap()
        .encode()
        .unwrap()
}

/// Everything that a host has but files and a listener.
struct Host {
    executor: Arc<LocalExecutor>,
    component: [Component; 2],
    manifest: [Manifest; 2],
    body: fn(usize) -> Bytes,
    threads: usize,
    slots: usize,
}

impl Host {
    fn new(guest: &Guest, threads: usize, slots: usize) -> Self {
        let executor = LocalExecutor::new(EngineOptions {
            threads,
            max_live_instances: 128,
            memory_budget: 1 << 40,
            ..EngineOptions::default()
        });
        let executor = Arc::new(executor.unwrap());
        let runtime = control_runtime();
        let mut manifest = [false, true].map(|reuse| guest.manifest(reuse));
        let component = [0, 1].map(|which| {
            manifest[which].concurrency = slots.try_into().unwrap();
            let policy = Arc::new(policy("bench", &manifest[which]));
            let (file, wasm) = (PathBuf::from("bench.wasm"), Bytes::from(guest.wasm.clone()));
            runtime.block_on(executor.load(file, wasm, policy)).unwrap()
        });
        Self {
            executor,
            component,
            manifest,
            body: guest.body,
            threads,
            slots,
        }
    }

    /// Messages per second, from the start of the handler to the last deletion.
    fn run(&self, messages: usize, reuse: bool) -> f64 {
        let runtime = control_runtime();
        let which = usize::from(reuse);
        runtime.block_on(async {
            let executor = Arc::clone(&self.executor) as Arc<dyn Executor>;
            let mut pipeline = Pipeline::new(runtime.handle(), SimpleStore::ephemeral(), executor);
            let queue = pipeline.queue("bench").await;
            pipeline.queue("invoices").await;
            for chunk in 0..messages / FILL {
                let bodies = (0..FILL).map(|index| (self.body)(chunk * FILL + index));
                queue.send_many(bodies.map(Outgoing::new).collect()).await;
            }
            let start = Instant::now();
            pipeline
                .handle(&self.component[which], self.manifest[which].clone())
                .await;
            let end = pipeline.deleted(messages).await;
            pipeline.stop().await;
            messages as f64 / (end - start).as_secs_f64()
        })
    }
}
