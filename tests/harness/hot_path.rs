//! Receives, handles and deletes so many messages on a queue in memory and ends: for a tool that counts instructions.
//!
//! `sandhog-hot-path MESSAGES`. The executor answers at once and runs no guest: such a tool can't follow the engine, whose guests have
//! stacks of their own.

#![expect(clippy::unwrap_used, reason = "a program of the tests")]

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use harness::pipeline::{Pipeline, SETTLED};
use sandhog::{
    config::Manifest,
    executor::{
        Call, Component, ComponentInfo, Executor, Flavour, LoadError, Needs, Policy, Report, Toolchain, Usage, Verdict,
    },
    message::Outgoing,
    queue::simple::SimpleStore,
};

/// As the host's program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Every message is handled.
#[derive(Debug)]
struct Prompt;

#[async_trait]
impl Executor for Prompt {
    async fn load(&self, _: PathBuf, wasm: Bytes, _: Arc<Policy>) -> Result<Component, LoadError> {
        let info = ComponentInfo {
            digest: String::new(),
            flavour: Flavour::Handler,
            size: wasm.len(),
            imports: Vec::new(),
            needs: Needs::default(),
            core_module: false,
            toolchain: Toolchain::default(),
            compile_time: Duration::ZERO,
            from_cache: false,
        };
        Ok(Component::new(Arc::new(info), Arc::new(())))
    }

    async fn relink(&self, _: PathBuf, component: &Component, _: Arc<Policy>) -> Result<Component, LoadError> {
        Ok(component.clone())
    }

    async fn run(&self, _: &Component, call: Call) -> Report {
        Report {
            verdicts: vec![Verdict::Success; call.messages.len()],
            sends: Vec::new(),
            writes: Vec::new(),
            usage: Usage::default(),
        }
    }

    fn most_at_once(&self, _: &Component, _: &Policy) -> usize {
        usize::MAX
    }

    fn live_instances(&self) -> usize {
        0
    }

    fn idle_instances(&self) -> usize {
        0
    }
}

fn main() {
    let messages: usize = std::env::args().nth(1).unwrap().parse().unwrap();
    // One thread, so that it does the same each time.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let manifest = Manifest::defaults("bench").unwrap();
        let policy = Arc::new(sandhog::attempt::policy("bench", &manifest));
        let component = Prompt.load(PathBuf::new(), Bytes::new(), policy).await.unwrap();
        let mut pipeline = Pipeline::new(runtime.handle(), SimpleStore::ephemeral(), Arc::new(Prompt));
        let queue = pipeline.queue("bench").await;
        let bodies = (0..messages).map(|_| Outgoing::new(Bytes::from_static(&[b'x'; 256])));
        queue.send_many(bodies.collect()).await;
        pipeline.handle(&component, manifest).await;
        // Rarely: looking costs instructions, too.
        while pipeline.sum_of(SETTLED, "\"delete\"") < u64::try_from(messages).unwrap() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        pipeline.stop().await;
    });
}
