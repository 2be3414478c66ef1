//! Sends, handles and deletes so many messages on a queue in memory and ends: for a tool that counts instructions.
//!
//! `sandhog-hot-path fresh|reuse MESSAGES`. Instances get their memory from the system and not from a pool, whose terabytes of
//! address space such a tool does not have.

#![expect(clippy::unwrap_used, reason = "a program of the tests")]

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use harness::{
    guests::no_op,
    pipeline::{Pipeline, control_runtime},
};
use sandhog::{
    attempt::policy,
    config::{Manifest, Reuse},
    executor::{Allocation, EngineOptions, Executor, LocalExecutor},
    message::Outgoing,
    queue::simple::SimpleStore,
};

/// As the host's program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (instance, messages) = (arguments.next().unwrap(), arguments.next().unwrap());
    let messages: usize = messages.parse().unwrap();
    let options = EngineOptions {
        threads: 1,
        max_live_instances: 64,
        memory_budget: 1 << 40,
        ..EngineOptions::default()
    };
    let executor = Arc::new(LocalExecutor::with_allocation(options, Allocation::OnDemand).unwrap());
    let mut manifest = Manifest::defaults("bench").unwrap();
    manifest.reuse = (instance == "reuse").then_some(Reuse {
        max: 1_000_000,
        idle: Duration::from_mins(1),
    });
    let runtime = control_runtime();
    runtime.block_on(async {
        let policy = Arc::new(policy("bench", &manifest));
        let component = executor.load(PathBuf::from("bench.wasm"), Bytes::from(no_op()), policy);
        let component = component.await.unwrap();
        let mut pipeline = Pipeline::new(runtime.handle(), SimpleStore::ephemeral(), executor.clone());
        let queue = pipeline.queue("bench").await;
        let bodies = (0..messages).map(|_| Outgoing::new(Bytes::from_static(&[b'x'; 256])));
        queue.send_many(bodies.collect()).await;
        pipeline.handle(&component, manifest).await;
        // Rarely: looking costs instructions, too.
        while pipeline.settled("delete") < messages {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        pipeline.stop().await;
    });
}
