//! An executor that answers at once and runs no guest.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use sandhog_executor::{
    CallReport, CallUsage, Component, ComponentInfo, Executor, Flavour, GuestCall, GuestPolicy, InstanceNeeds,
    LoadError, Toolchain, Verdict, WaitingCalls,
};
use tokio::sync::{Notify, Semaphore, watch};

use crate::PATIENCE;

/// Every message is handled: one whose body is `wait` once the gate is open, `block` the same without letting go of its thread,
/// `yield` after it has let others run once, and `panic` never. One whose body begins with `turn` takes a turn.
#[derive(Debug)]
pub struct Prompt {
    flavour: Flavour,
    /// The gate.
    pub open: watch::Sender<bool>,
    /// A turn for each message that may go on.
    pub turns: Semaphore,
    /// How many calls are under way.
    pub inside: AtomicUsize,
    /// How many were at most.
    pub most_inside: AtomicUsize,
    /// How many messages are still to come before [`Prompt::all_came`] is told; zero if nobody is to be told.
    pub awaited: AtomicUsize,
    pub all_came: Notify,
    /// The bodies of up to eight bytes that were handled, in order.
    pub handled: Mutex<Vec<Bytes>>,
}

impl Default for Prompt {
    /// The gate is closed.
    fn default() -> Self {
        Self {
            flavour: Flavour::Handler,
            open: watch::Sender::new(false),
            turns: Semaphore::new(0),
            inside: AtomicUsize::new(0),
            most_inside: AtomicUsize::new(0),
            awaited: AtomicUsize::new(0),
            all_came: Notify::new(),
            handled: Mutex::default(),
        }
    }
}

/// A call under way.
struct Inside<'a>(&'a Prompt);

impl<'a> Inside<'a> {
    fn new(prompt: &'a Prompt) -> Self {
        let inside = prompt.inside.fetch_add(1, Ordering::SeqCst) + 1;
        prompt.most_inside.fetch_max(inside, Ordering::SeqCst);
        Self(prompt)
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Prompt {
    /// One that takes batches.
    pub fn batches() -> Self {
        Self {
            flavour: Flavour::BatchHandler,
            ..Self::default()
        }
    }

    pub async fn component(&self) -> Component {
        let policy = sandhog::attempt::policy("bench", &crate::pipeline::manifest(false));
        let load = self.load(PathBuf::new(), Bytes::new(), Arc::new(policy));
        load.await.unwrap()
    }
}

#[async_trait]
impl Executor for Prompt {
    async fn load(&self, _: PathBuf, wasm: Bytes, _: Arc<GuestPolicy>) -> Result<Component, LoadError> {
        let info = ComponentInfo {
            digest: String::new(),
            flavour: self.flavour,
            size: wasm.len(),
            imports: Vec::new(),
            needs: InstanceNeeds::default(),
            core_module: false,
            toolchain: Toolchain::default(),
            compile_time: Duration::ZERO,
            from_cache: false,
        };
        Ok(Component::new(Arc::new(info), WaitingCalls::default(), Arc::new(())))
    }

    async fn relink(&self, _: PathBuf, component: &Component, _: Arc<GuestPolicy>) -> Result<Component, LoadError> {
        Ok(component.clone())
    }

    async fn run(&self, _: &Component, call: GuestCall) -> CallReport {
        let _inside = Inside::new(self);
        let awaited = self.awaited.load(Ordering::SeqCst);
        if awaited > 0 && self.awaited.fetch_sub(call.messages.len(), Ordering::SeqCst) <= call.messages.len() {
            self.all_came.notify_one();
        }
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
                [b't', b'u', b'r', b'n', ..] => self.turns.acquire().await.unwrap().forget(),
                b"yield" => tokio::task::yield_now().await,
                _ => {}
            }
            if body.len() <= 8 {
                self.handled.lock().unwrap().push(body.clone());
            }
        }
        CallReport {
            verdicts: vec![Verdict::Success; call.messages.len()],
            sends: Vec::new(),
            writes: Vec::new(),
            usage: CallUsage::default(),
        }
    }

    fn most_at_once(&self, _: &Component, _: &GuestPolicy) -> usize {
        usize::MAX
    }

    fn live_instances(&self) -> usize {
        0
    }

    fn idle_instances(&self) -> usize {
        0
    }
}
