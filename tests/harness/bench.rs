//! An executor in this process, without queues and leases: a component goes in, a report comes out.

use std::{
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use sandhog_executor::{
    CallMessage, CallReport, Component, EngineOptions, Executor, GuestCall, GuestFailure, GuestPolicy, LoadError,
    LocalExecutor, LogLine, Verdict,
    policy::{Grants, Limits},
};
use sandhog_queue::message::{Attributes, Message, MessageId, QueueName};
use sandhog_simple::SimpleStore;

use crate::{guests, sandhog_compiler};

/// An executor with room for eight instances, and what guests may do on it.
#[derive(Debug)]
pub struct Bench {
    pub executor: LocalExecutor,
    pub policy: GuestPolicy,
    pub lines: Arc<Mutex<Vec<LogLine>>>,
}

impl Default for Bench {
    fn default() -> Self {
        Self::new()
    }
}

impl Bench {
    pub fn new() -> Self {
        Self::with(EngineOptions {
            max_live_instances: 8,
            threads: 2,
            compiler: sandhog_compiler(),
            ..EngineOptions::default()
        })
    }

    pub fn with(options: EngineOptions) -> Self {
        Self::on(LocalExecutor::new(options).unwrap())
    }

    pub fn on(executor: LocalExecutor) -> Self {
        Self {
            executor,
            policy: policy(),
            lines: Arc::default(),
        }
    }

    pub async fn load(&self, wasm: Vec<u8>) -> Result<Component, LoadError> {
        self.load_with(wasm, &self.policy).await
    }

    pub async fn load_with(&self, wasm: Vec<u8>, policy: &GuestPolicy) -> Result<Component, LoadError> {
        let policy = Arc::new(policy.clone());
        self.executor
            .load(PathBuf::from("test.wasm"), Bytes::from(wasm), policy)
            .await
    }

    pub async fn run(&self, component: &Component, bodies: &[&[u8]]) -> CallReport {
        self.run_with(component, bodies, &self.policy).await
    }

    pub async fn run_with(&self, component: &Component, bodies: &[&[u8]], policy: &GuestPolicy) -> CallReport {
        self.executor.run(component, self.call(bodies, policy)).await
    }

    /// A call with a message for each body. What the guest logs goes to `lines`.
    pub fn call(&self, bodies: &[&[u8]], policy: &GuestPolicy) -> GuestCall {
        let queue = QueueName::new("test").unwrap();
        let messages = bodies.iter().map(|body| CallMessage {
            message: message(body),
            queue: queue.clone(),
            receive_count: 1,
        });
        let lines = Arc::clone(&self.lines);
        GuestCall {
            messages: messages.collect(),
            policy: Arc::new(policy.clone()),
            log: Arc::new(move |line| lines.lock().unwrap().push(line)),
            keyvalue: policy
                .grants
                .keyvalue
                .then(|| SimpleStore::ephemeral().keyvalue(&policy.handler)),
            trace: None,
        }
    }

    /// The failure of a guest's one attempt.
    pub async fn failure_of(&self, wasm: Vec<u8>) -> GuestFailure {
        let component = self.load(wasm).await.unwrap();
        let report = self.run(&component, &[b"body"]).await;
        match report.verdicts.as_slice() {
            [Verdict::Failed(failure)] => failure.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// The failure of a guest's one attempt; afterwards no instance is alive and a neighbour works.
    pub async fn failure(&self, wasm: Vec<u8>) -> GuestFailure {
        let component = self.load(wasm).await.unwrap();
        let report = self.run(&component, &[b"body"]).await;
        assert_eq!(self.executor.live_instances(), 0);
        assert!(report.sends.is_empty());
        self.check_neighbour().await;
        match report.verdicts.as_slice() {
            [Verdict::Failed(failure)] => failure.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// A handler with nothing wrong is loaded, handles a message and sends one.
    pub async fn check_neighbour(&self) {
        let policy = policy();
        let neighbour = self.load_with(guests::forward(), &policy).await.unwrap();
        let report = self.run_with(&neighbour, &[b"good"], &policy).await;
        assert_eq!(
            (report.verdicts.as_slice(), report.sends.len()),
            ([Verdict::Success].as_slice(), 1)
        );
    }
}

/// Twenty seconds, the default limits, sends to queue `out`, and one variable.
pub fn policy() -> GuestPolicy {
    let grants = Grants {
        send: Some([QueueName::new("out").unwrap()].into()),
        env: [("MODE".to_owned(), "fast".into())].into(),
        ..Grants::default()
    };
    GuestPolicy {
        handler: "test".to_owned(),
        timeout: Duration::from_secs(20),
        limits: Limits::default(),
        grants,
        reuse: None,
    }
}

/// A message with this body and nothing else.
pub fn message(body: &[u8]) -> Message {
    Message {
        id: MessageId::random(),
        body: Bytes::copy_from_slice(body),
        attributes: Attributes::default(),
        sent_at_ms: 0,
        group_id: None,
        priority: 0,
    }
}

/// Polls a future once.
pub async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

/// Polls all of them until each has ended; their outputs in the order in which they ended.
pub async fn together<F: Future>(calls: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut calls: Vec<Pin<Box<F>>> = calls.map(Box::pin).collect();
    let mut done = Vec::new();
    std::future::poll_fn(|cx| {
        calls.retain_mut(|call| match call.as_mut().poll(cx) {
            Poll::Ready(output) => {
                done.push(output);
                false
            }
            Poll::Pending => true,
        });
        if calls.is_empty() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    done
}
