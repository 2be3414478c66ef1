//! Messages per second through the whole host on a queue in memory, as ratios to a bare loop over the engine.
//!
//! The bare loop is what anybody would write against the engine: a store with the same limits (memory, table elements, a
//! deadline by epochs, bytes per host call), an instance, a call, the store dropped; nothing is received, extended, settled,
//! counted or logged. It runs on one thread and on as many as there are cores; the better one is the baseline.
//!
//! `cargo bench --workspace --bench engine`; with `-- only ROW MESSAGES THREADS SLOTS` for a profiler, where ROW is `bare`, `fresh`
//! or `reuse`.

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
    fs,
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use harness::{
    bare::{Forgetful, component, link, message, worker},
    built::{order, orders},
    guests::no_op,
    pipeline::{self, Pipeline, control_runtime},
    ratios::{Bound, Row, compare, machine},
};
use sandhog::{attempt::policy, config::Manifest};
use sandhog_executor::{Component, EngineOptions, Executor, LocalExecutor};
use sandhog_queue::message::QueueName;
use sandhog_simple::SimpleStore;

/// As the host's program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 9;
const MESSAGES: usize = 20_000;
/// How many messages a handler handles at a time; the last table has others.
const SLOTS: usize = 64;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|each| each != "--bench").collect();
    let no_op = Guest::no_op();
    if let [only, row, numbers @ ..] = arguments.as_slice()
        && only == "only"
    {
        let numbers: Vec<usize> = numbers.iter().map(|number| number.parse().unwrap()).collect();
        return profile(&no_op, row, &numbers);
    }
    println!("{}", machine());
    against_bare(&no_op);
    against_bare(&Guest::orders());
    scaling(&no_op);
}

fn profile(guest: &Guest, row: &str, numbers: &[usize]) {
    let number = |at: usize, otherwise| numbers.get(at).copied().unwrap_or(otherwise);
    let (messages, threads, slots) = (number(0, MESSAGES), number(1, cores()), number(2, SLOTS));
    let rate = match row {
        "bare" => Bare::new(guest).run(threads, messages, false),
        "fresh" => Host::new(guest, threads, slots).run(messages, false),
        "reuse" => Host::new(guest, threads, slots).run(messages, true),
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
        Self {
            name: "parses JSON and sends",
            wasm: fs::read(orders()).unwrap(),
            body: |number| order(number).into(),
        }
    }

    fn manifest(&self, reuse: bool) -> Manifest {
        let mut manifest = pipeline::manifest(reuse);
        manifest.grants.send = (self.name != "no-op").then(|| [QueueName::new("invoices").unwrap()].into());
        manifest
    }
}

fn against_bare(guest: &Guest) {
    // An engine for each: pages that a long-lived instance has touched make its slot of the pool slow for all that come after it.
    let [bare, bare_reuse] = [(); 2].map(|()| Bare::new(guest));
    let host = Host::new(guest, cores(), SLOTS);
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
            Row::new(name("bare loop, reuse, 1 thread"), || bare_reuse.run(1, MESSAGES, true)),
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
    sends: Forgetful,
    limits: wasmtime::StoreLimits,
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
        // What the host uses as well, the second where nothing can be swapped.
        pool.table_keep_resident(64 << 10);
        if wasmtime::PoolingAllocationConfig::is_pagemap_scan_available() {
            pool.pagemap_scan(wasmtime::Enabled::Yes)
                .linear_memory_keep_resident(2 << 20);
        }
        config.allocation_strategy(wasmtime::InstanceAllocationStrategy::Pooling(pool));
        let engine = wasmtime::Engine::new(&config).unwrap();
        let mut linker = wasmtime::component::Linker::<State>::new(&engine);
        link(&mut linker, |state| &mut state.sends);
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
        let message = message(&(self.body)(0));
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
        let mut store = wasmtime::Store::new(
            &self.engine,
            State {
                sends: Forgetful,
                limits,
            },
        );
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
            pipeline::fill(&*queue, messages, self.body).await;
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
