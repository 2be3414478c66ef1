//! Receives, handles and deletes so many messages on a queue in memory and ends: for a tool that counts instructions.
//!
//! `sandhog-hot-path MESSAGES [traced]`. The executor answers at once and runs no guest: such a tool can't follow the engine, whose guests have
//! stacks of their own. Time passes by the looks at the clock alone, since the host does more together the less time it takes.
//! With `traced`, a span of each attempt goes to a collector in this process, which reads and forgets it.

#![expect(clippy::unwrap_used, reason = "a program of the tests")]

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use harness::{
    http_server::HttpServer,
    pipeline::{Pipeline, manifest},
    prompt::Prompt,
};
use sandhog::traces::HostTraces;
use sandhog_queue::message::Outgoing;
use sandhog_simple::SimpleStore;
use sandhog_traces::TraceSettings;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// As the host's program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The `struct timespec` of C, where a long has 64 bits.
#[repr(C)]
struct TimeSpec {
    seconds: i64,
    nanoseconds: i64,
}

/// The clock of this program, instead of the system's: each look at it takes a hundred nanoseconds.
#[expect(unsafe_code, reason = "the system's function is called like this one")]
// SAFETY: the program has no other function of this name, and this one has the parameters of the C library's.
#[unsafe(no_mangle)]
extern "C" fn clock_gettime(_clock: i32, time: &mut TimeSpec) -> i32 {
    const LOOK: u64 = 100;
    const SECOND: u64 = 1_000_000_000;
    static PASSED: AtomicU64 = AtomicU64::new(1_800_000_000 * SECOND);
    let now = PASSED.fetch_add(LOOK, Ordering::Relaxed);
    time.seconds = i64::try_from(now / SECOND).unwrap_or(i64::MAX);
    time.nanoseconds = i64::try_from(now % SECOND).unwrap_or_default();
    0
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let messages: usize = arguments.next().unwrap().parse().unwrap();
    let traced = arguments.next().is_some_and(|argument| argument == "traced");
    // One thread, so that it does the same each time.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let executor = Arc::new(Prompt::default());
        executor.awaited.store(messages, Ordering::SeqCst);
        let component = executor.component().await;
        let mut pipeline = Pipeline::new(runtime.handle(), SimpleStore::ephemeral(), executor.clone());
        let (mut exporting, stop) = (JoinSet::new(), CancellationToken::new());
        let mut collector = None;
        if traced {
            let server = collector.insert(HttpServer::start().await);
            let settings = TraceSettings::read(&|name| match name {
                "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(server.url("")),
                "OTEL_BSP_MAX_QUEUE_SIZE" => Some("65536".to_owned()),
                _ => None,
            });
            let (host, exporter) = HostTraces::new(&settings, true, pipeline.metrics.traces()).unwrap();
            pipeline.traces = Some(host);
            exporting.spawn(exporter.unwrap().run(stop.clone()));
        }
        let queue = pipeline.queue("bench").await;
        let message = Outgoing::new(Bytes::from_static(&[b'x'; 256])).check().unwrap();
        queue.send_many(vec![message; messages]).await;
        pipeline.handle(&component, manifest(false)).await;
        executor.all_came.notified().await;
        // Settles what is under way.
        pipeline.stop().await;
        stop.cancel();
        while let Some(exported) = exporting.join_next().await {
            exported.unwrap().unwrap();
        }
        drop(collector);
    });
}
