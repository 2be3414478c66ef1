//! An executor with a clock before it: how long messages waited, from before their send to the start of their handler.
//!
//! A message says when it was made by the first bytes of its body.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use sandhog_executor::{CallReport, Component, Executor, GuestCall, GuestPolicy, LoadError, LocalExecutor};
use tokio::runtime::Handle;

/// The executor of the host, with a clock before it.
#[derive(Debug)]
pub struct Clocked {
    local: LocalExecutor,
    since: Instant,
    /// In microseconds.
    waits: Mutex<Vec<f64>>,
}

impl Clocked {
    pub fn new(local: LocalExecutor) -> Self {
        Self {
            local,
            since: Instant::now(),
            waits: Mutex::default(),
        }
    }

    /// Forgets the waits, and returns them in microseconds.
    pub fn take_waits(&self) -> Vec<f64> {
        std::mem::take(&mut *self.waits.lock().unwrap())
    }

    /// A body of so many bytes, 16 at least, that says when it was made.
    pub fn stamp(&self, bytes: usize) -> Vec<u8> {
        let mut body = vec![b'x'; bytes];
        let now = self.since.elapsed().as_nanos().to_le_bytes();
        body.splice(..now.len(), now);
        body
    }
}

#[async_trait]
impl Executor for Clocked {
    async fn load(&self, file: PathBuf, wasm: Bytes, policy: Arc<GuestPolicy>) -> Result<Component, LoadError> {
        self.local.load(file, wasm, policy).await
    }

    async fn relink(
        &self,
        file: PathBuf,
        component: &Component,
        policy: Arc<GuestPolicy>,
    ) -> Result<Component, LoadError> {
        self.local.relink(file, component, policy).await
    }

    async fn run(&self, component: &Component, call: GuestCall) -> CallReport {
        let body = call
            .messages
            .first()
            .map(|call| call.message.body.clone())
            .unwrap_or_default();
        if let Some(stamp) = body.first_chunk::<16>()
            && *stamp != [b'x'; 16]
        {
            let sent = Duration::from_nanos(u128::from_le_bytes(*stamp).try_into().unwrap());
            let wait = self.since.elapsed().saturating_sub(sent);
            self.waits.lock().unwrap().push(wait.as_secs_f64() * 1e6);
        }
        self.local.run(component, call).await
    }

    fn guests(&self) -> Option<Handle> {
        self.local.guests()
    }

    fn most_at_once(&self, component: &Component, policy: &GuestPolicy) -> usize {
        self.local.most_at_once(component, policy)
    }

    fn live_instances(&self) -> usize {
        self.local.live_instances()
    }

    fn idle_instances(&self) -> usize {
        self.local.idle_instances()
    }
}
