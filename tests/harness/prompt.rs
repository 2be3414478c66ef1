//! An executor that answers at once and runs no guest.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use sandhog::executor::{
    Call, Component, ComponentInfo, Executor, Flavour, LoadError, Needs, Policy, Report, Toolchain, Usage, Verdict,
};
use tokio::sync::watch;

use crate::PATIENCE;

/// Every message is handled: one whose body is `wait` once the gate is open, `block` the same without letting go of its thread,
/// `yield` after it has let others run once, and `panic` never.
#[derive(Debug)]
pub struct Prompt {
    /// The gate.
    pub open: watch::Sender<bool>,
    /// The bodies of up to eight bytes that were handled, in order.
    pub handled: Mutex<Vec<Bytes>>,
}

impl Default for Prompt {
    /// The gate is closed.
    fn default() -> Self {
        Self {
            open: watch::Sender::new(false),
            handled: Mutex::default(),
        }
    }
}

impl Prompt {
    pub async fn component(&self) -> Component {
        let policy = sandhog::attempt::policy("bench", &crate::pipeline::manifest(false));
        let load = self.load(PathBuf::new(), Bytes::new(), Arc::new(policy));
        load.await.unwrap()
    }
}

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
        for call in &call.messages {
            let body = &call.message.body;
            match &**body {
                b"panic" => panic!("as the message says"),
                b"wait" => drop(self.open.subscribe().wait_for(|open| *open).await.unwrap()),
                b"block" => {
                    // Not for ever: a test that has failed must end.
                    let (gate, end) = (self.open.subscribe(), Instant::now() + PATIENCE);
                    while !*gate.borrow() && Instant::now() < end {
                        std::thread::yield_now();
                    }
                }
                b"yield" => tokio::task::yield_now().await,
                _ => {}
            }
            if body.len() <= 8 {
                self.handled.lock().unwrap().push(body.clone());
            }
        }
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
