//! Messages per second through the whole host, as ratios to a bare loop over the engine in the same run.
//!
//! The bare loop is what anybody would write against the engine: a store with a memory limit and an epoch deadline, an
//! instance, a call, on one thread, with no queue. Each row runs several times, interleaved with the others, and
//! prints its median. Run it with `cargo bench -p sandhog-tests`.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::as_conversions,
    reason = "a benchmark speaks to a person"
)]

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use harness::guests::{handler, no_op};
use sandhog::{
    attempt::{AttemptContext, Version, policy},
    config::Manifest,
    dispatcher::Dispatcher,
    executor::{Component, EngineOptions, Executor, LocalExecutor},
    handler_status::HandlerBoard,
    lease::LeaseKeeper,
    message::{MessageId, Outgoing, QueueName},
    metrics::Metrics,
    queue::{
        Queue,
        simple::{SimpleStore, StoreOptions, settings::Settings},
    },
    queue_set::QueueSet,
};
use tokio::{runtime::Runtime, sync::watch};
use tokio_util::sync::CancellationToken;

mod worker {
    wasmtime::component::bindgen!({ path: "../wit", world: "worker", exports: { default: async } });
}

const MESSAGES: usize = 20_000;
const ROUNDS: usize = 5;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let executor = Arc::new(LocalExecutor::new(EngineOptions::default()).unwrap());
    let policy = Arc::new(policy("bench", &Manifest::defaults("bench").unwrap()));
    println!(
        "{MESSAGES} messages of 256 bytes, {} cores, median of {ROUNDS} rounds",
        std::thread::available_parallelism().unwrap()
    );
    println!("{:<58} {:>10} {:>7}", "", "messages/s", "ratio");
    let grows = handler("(drop (memory.grow (i32.const 1))) (global.get $ok)");
    for (name, wasm) in [("no-op", no_op()), ("grows its memory", grows)] {
        let file = PathBuf::from("bench.wasm");
        let component = runtime
            .block_on(executor.load(file, Bytes::from(wasm.clone()), Arc::clone(&policy)))
            .unwrap();
        let bare = Loop::new(&wrapped(&wasm));
        let rows: [(&str, &dyn Fn() -> Duration); 3] = [
            ("bare loop over the engine, one thread", &|| bare.run(&runtime)),
            ("in-memory queue: receive, handle, delete", &|| {
                drain(&runtime, &executor, &component, None)
            }),
            ("durable queue: receive, handle, delete", &|| {
                drain(&runtime, &executor, &component, Some(()))
            }),
        ];
        let mut times = rows.map(|_| Vec::new());
        for _ in 0..ROUNDS {
            for ((_, row), times) in rows.iter().zip(&mut times) {
                times.push(row());
            }
        }
        let rates = times.map(|mut times| {
            times.sort();
            MESSAGES as f64 / times.get(ROUNDS / 2).unwrap().as_secs_f64()
        });
        for ((row, _), rate) in rows.iter().zip(rates) {
            println!(
                "{:<58} {rate:>10.0} {:>7.2}",
                format!("{name}: {row}"),
                rate / rates.first().unwrap()
            );
        }
    }
}

/// A module as the component that the host makes of it.
fn wrapped(module: &[u8]) -> Vec<u8> {
    wit_component::ComponentEncoder::default()
        .module(module)
        .unwrap()
        .encode()
        .unwrap()
}

fn body() -> Bytes {
    Bytes::from(vec![b'x'; 256])
}

/// What every instance of the bare loop has.
struct Bare {
    limits: wasmtime::StoreLimits,
}

impl worker::sandhog::worker::types::Host for Bare {}

impl worker::sandhog::worker::sender::Host for Bare {
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
struct Loop {
    engine: wasmtime::Engine,
    pre: worker::WorkerPre<Bare>,
}

impl Loop {
    fn new(component: &[u8]) -> Self {
        let mut config = wasmtime::Config::new();
        config.epoch_interruption(true);
        let mut pool = wasmtime::PoolingAllocationConfig::new();
        pool.total_component_instances(16)
            .total_core_instances(64)
            .total_memories(16)
            .total_tables(64)
            .total_stacks(16);
        pool.max_memory_size(512 << 20);
        // What the host uses as well where nothing can be swapped.
        if wasmtime::PoolingAllocationConfig::is_pagemap_scan_available() {
            pool.pagemap_scan(wasmtime::Enabled::Yes)
                .linear_memory_keep_resident(2 << 20);
        }
        config.allocation_strategy(wasmtime::InstanceAllocationStrategy::Pooling(pool));
        let engine = wasmtime::Engine::new(&config).unwrap();
        let mut linker = wasmtime::component::Linker::<Bare>::new(&engine);
        worker::Worker::add_to_linker::<_, wasmtime::component::HasSelf<Bare>>(&mut linker, |state| state).unwrap();
        let component = wasmtime::component::Component::from_binary(&engine, component).unwrap();
        let pre = worker::WorkerPre::new(linker.instantiate_pre(&component).unwrap()).unwrap();
        Self { engine, pre }
    }

    fn run(&self, runtime: &Runtime) -> Duration {
        let message = worker::sandhog::worker::types::Message {
            id: MessageId::random().to_string(),
            body: body().to_vec(),
            attributes: Vec::new(),
            queue: "bench".to_owned(),
            receive_count: 1,
            sent_at_ms: 0,
            group_id: None,
        };
        runtime.block_on(async {
            let start = Instant::now();
            for _ in 0..MESSAGES {
                let limits = wasmtime::StoreLimitsBuilder::new().memory_size(128 << 20).build();
                let mut store = wasmtime::Store::new(&self.engine, Bare { limits });
                store.limiter(|state| &mut state.limits);
                store.set_epoch_deadline(1000);
                let instance = self.pre.instantiate_async(&mut store).await.unwrap();
                instance
                    .sandhog_worker_handler()
                    .call_handle(&mut store, &message)
                    .await
                    .unwrap()
                    .unwrap();
            }
            start.elapsed()
        })
    }
}

/// The time from the start of the dispatcher to an empty queue.
fn drain(runtime: &Runtime, executor: &Arc<LocalExecutor>, component: &Component, durable: Option<()>) -> Duration {
    let directory = tempfile::tempdir().unwrap();
    runtime.block_on(async {
        let store = match durable {
            Some(()) => SimpleStore::open(&StoreOptions::new(directory.path())).unwrap(),
            None => SimpleStore::ephemeral(),
        };
        let name = QueueName::new("bench").unwrap();
        let queue: Arc<dyn Queue> = store.queue(name.clone(), Settings::defaults(&name)).await.unwrap();
        for _ in 0..MESSAGES / 1000 {
            queue
                .send_many((0..1000).map(|_| Outgoing::new(body())).collect())
                .await;
        }
        let manifest = Manifest::defaults("bench").unwrap();
        let metrics = Arc::new(Metrics::new());
        let policy = Arc::new(policy("bench", &manifest));
        let (versions, receiver) = watch::channel(Arc::new(Version {
            component: component.clone(),
            manifest,
            policy,
        }));
        let keeper = LeaseKeeper::new(Arc::clone(&queue), Arc::clone(&metrics));
        let stop = CancellationToken::new();
        let context = AttemptContext {
            handler: "bench".to_owned(),
            queue: Arc::clone(&queue),
            keeper,
            executor: Arc::clone(executor) as Arc<dyn Executor>,
            queues: Arc::new(QueueSet::new(store.clone(), BTreeMap::new(), Arc::clone(&metrics))),
            metrics,
            stop_receiving: stop.clone(),
            stop_working: CancellationToken::new(),
        };
        let dispatcher = Dispatcher::new(context, Arc::new(HandlerBoard::default()), receiver);
        let start = Instant::now();
        let watch = async {
            while queue.counts().await.unwrap() != sandhog::queue::Counts::default() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let elapsed = start.elapsed();
            stop.cancel();
            elapsed
        };
        let (ended, elapsed) = tokio::join!(runtime.spawn(dispatcher.run()), watch);
        ended.unwrap().unwrap();
        drop(versions);
        store.close().await;
        elapsed
    })
}
