//! Receives, handles and deletes so many messages on a queue in memory and ends: for a tool that counts instructions.
//!
//! `sandhog-hot-path MESSAGES`. The executor answers at once and runs no guest: such a tool can't follow the engine, whose guests have
//! stacks of their own.

#![expect(clippy::unwrap_used, reason = "a program of the tests")]

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use harness::{
    pipeline::{Pipeline, SETTLED, manifest},
    prompt::Prompt,
};
use sandhog_queue::message::Outgoing;
use sandhog_simple::SimpleStore;

/// As the host's program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let messages: usize = std::env::args().nth(1).unwrap().parse().unwrap();
    // One thread, so that it does the same each time.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let executor = Arc::new(Prompt::default());
        let component = executor.component().await;
        let mut pipeline = Pipeline::new(runtime.handle(), SimpleStore::ephemeral(), executor);
        let queue = pipeline.queue("bench").await;
        let message = Outgoing::new(Bytes::from_static(&[b'x'; 256])).check().unwrap();
        queue.send_many(vec![message; messages]).await;
        pipeline.handle(&component, manifest(false)).await;
        // Rarely: looking costs instructions, too.
        while pipeline.sum_of(SETTLED, "\"delete\"") < u64::try_from(messages).unwrap() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        pipeline.stop().await;
    });
}
