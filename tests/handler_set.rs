//! The set of handlers: one that takes the place of another keeps within the limits of both, and none is dropped with what it
//! has in flight.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use harness::{PATIENCE, prompt::Prompt};
use sandhog::{
    attempt::{HandlerVersion, policy},
    config::Manifest,
    handler_set::{HandlerSet, HostContext},
    handler_status::HandlerStatuses,
    metrics::Metrics,
    queue_set::QueueSet,
    served_versions::ServedVersions,
    versions::VersionBoard,
};
use sandhog_queue::{
    Queue,
    message::{Outgoing, QueueName},
};
use sandhog_simple::SimpleStore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Handlers whose guests wait for their turns.
struct Handlers {
    executor: Arc<Prompt>,
    queues: Arc<QueueSet>,
    set: HandlerSet,
}

impl Handlers {
    fn new() -> Self {
        let (executor, metrics) = (Arc::new(Prompt::default()), Arc::new(Metrics::new()));
        let queues = QueueSet::new(SimpleStore::ephemeral(), BTreeMap::new(), Arc::clone(metrics.sqs()));
        let queues = Arc::new(queues);
        let set = HandlerSet::new(HostContext {
            traces: None,
            queues: Arc::clone(&queues),
            executor: executor.clone(),
            statuses: Arc::new(HandlerStatuses::default()),
            metrics,
            journal: Arc::default(),
            versions: Arc::new(VersionBoard::new(Path::new("plugins"))),
            halts: Arc::default(),
            stop_receiving: CancellationToken::new(),
            stop_working: CancellationToken::new(),
        });
        Self { executor, queues, set }
    }

    /// A queue with so many messages.
    async fn queue(&self, name: &str, messages: usize) -> Arc<dyn Queue> {
        let queue = self.queues.declare(&QueueName::new(name).unwrap()).await.unwrap();
        for answer in queue
            .send_many(vec![Outgoing::new("turn").check().unwrap(); messages])
            .await
        {
            answer.unwrap();
        }
        queue
    }

    /// Makes `handler` serve a queue, two messages at a time.
    async fn serve(&mut self, handler: &str, queue: &str) {
        let manifest = format!("queue = \"{queue}\"\nconcurrency = 2\n");
        let manifest = Manifest::parse(&manifest, handler).unwrap();
        let version = HandlerVersion {
            number: 1,
            component: self.executor.component().await,
            policy: Arc::new(policy(handler, &manifest)),
            manifest,
            tally: Arc::default(),
        };
        self.set.accept(handler, ServedVersions::alone(version)).await.unwrap();
        self.set.arrange(&BTreeMap::new());
    }

    /// Waits until so many guests are under way, and for whatever else may have been started.
    async fn inside(&self, guests: usize) {
        wait(async || self.executor.inside.load(Ordering::SeqCst) == guests).await;
        sleep(Duration::from_millis(20)).await;
    }
}

async fn wait(fact: impl AsyncFn() -> bool) {
    let reached = async {
        while !fact().await {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, reached).await.unwrap();
}

/// The one that had left its queue ended what it had begun beside as many of its successor.
#[tokio::test]
async fn a_handler_that_moves_to_another_queue_runs_no_more_at_a_time() {
    let mut handlers = Handlers::new();
    let (old, new) = (handlers.queue("old", 2).await, handlers.queue("new", 2).await);
    handlers.serve("h", "old").await;
    handlers.inside(2).await;
    handlers.serve("h", "new").await;
    handlers.inside(2).await;
    assert_eq!(new.counts().await.unwrap().ready, 2);
    handlers.executor.turns.add_permits(1);
    wait(async || new.counts().await.unwrap().in_flight == 1).await;
    handlers.executor.turns.add_permits(3);
    for queue in [&old, &new] {
        wait(async || queue.counts().await.unwrap() == sandhog_queue::Counts::default()).await;
    }
    assert_eq!(handlers.executor.most_inside.load(Ordering::SeqCst), 2);
    timeout(PATIENCE, handlers.set.drain()).await.unwrap().unwrap();
}

/// The set was dropped when the queue of one handler failed, and with it what all others had in flight: it came back after a
/// visibility timeout, and its receive was counted.
#[tokio::test]
async fn handlers_beside_one_whose_queue_has_failed_release_what_they_have_in_flight() {
    let mut handlers = Handlers::new();
    let queue = handlers.queue("other", 2).await;
    handlers.serve("h", "other").await;
    handlers.inside(2).await;
    timeout(PATIENCE, handlers.set.abandon()).await.unwrap();
    let again = queue.receive(9, Duration::ZERO).await.unwrap();
    let counts: Vec<_> = again.iter().map(|delivery| delivery.receive_count.get()).collect();
    assert_eq!(counts, [1, 1]);
}
