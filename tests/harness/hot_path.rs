//! Receives, handles and deletes so many messages on a queue in memory and ends: for a tool that counts instructions.
//!
//! `sandhog-hot-path MESSAGES`. The executor answers at once and runs no guest: such a tool can't follow the engine, whose guests have
//! stacks of their own. Time passes by the looks at the clock alone, since the host does more together the less time it takes.

#![expect(clippy::unwrap_used, reason = "a program of the tests")]

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use harness::{
    pipeline::{Pipeline, manifest},
    prompt::Prompt,
};
use sandhog_queue::message::Outgoing;
use sandhog_simple::SimpleStore;

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
    let messages: usize = std::env::args().nth(1).unwrap().parse().unwrap();
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
        let queue = pipeline.queue("bench").await;
        let message = Outgoing::new(Bytes::from_static(&[b'x'; 256])).check().unwrap();
        queue.send_many(vec![message; messages]).await;
        pipeline.handle(&component, manifest(false)).await;
        executor.all_came.notified().await;
        // Settles what is under way.
        pipeline.stop().await;
    });
}
