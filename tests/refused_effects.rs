//! Refused effects: what a handler sends happens together with the deletion of its message, or the message is tried again.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use harness::{
    PATIENCE,
    faulty_queue::{Extensions, FaultyQueue},
    guests::forward,
    pipeline::{Pipeline, control_runtime},
};
use sandhog::{
    attempt::policy,
    config::{Manifest, QueueSettings},
};
use sandhog_executor::{EngineOptions, Executor, LocalExecutor};
use sandhog_queue::{
    Queue,
    message::{Outgoing, QueueName},
};
use sandhog_simple::{SimpleStore, settings::Settings};
use tokio::time::{sleep, timeout};

const MESSAGES: usize = 3;
/// One receive brings a quarter of the slots of messages of one group.
const MANIFEST: &str = "concurrency = 12\n[retry]\nmin = \"5s\"\nmax = \"5s\"\n";

/// Sends three messages to a queue.
async fn fill(queue: &dyn Queue) {
    for answer in queue
        .send_many(vec![Outgoing::new("x").check().unwrap(); MESSAGES])
        .await
    {
        answer.unwrap();
    }
}

#[test]
fn a_refused_send_settles_nothing_and_the_message_comes_back_with_its_followers() {
    let runtime = control_runtime();
    let executor = Arc::new(LocalExecutor::new(EngineOptions::default()).unwrap());
    runtime.block_on(async {
        let out = QueueName::new("out").unwrap();
        let mut manifest = Manifest::parse(MANIFEST, "in").unwrap();
        manifest.grants.send = Some([out.clone()].into());
        let policy = Arc::new(policy("in", &manifest));
        let load = executor.load(PathBuf::from("in.wasm"), Bytes::from(forward()), policy);
        let component = load.await.unwrap();
        let shallow = Settings {
            max_messages: 3,
            ..Settings::defaults(&out)
        };
        let configured = BTreeMap::from([(out, QueueSettings::Simple(shallow))]);
        let store = SimpleStore::ephemeral();
        let mut pipeline = Pipeline::with_queues(runtime.handle(), store, executor.clone(), configured);
        let destination = pipeline.queue("out").await;
        let queue = pipeline.queue("in").await;
        fill(&*destination).await;
        fill(&*queue).await;
        let group = FaultyQueue::new(Arc::clone(&queue), [], Extensions::Scripted([].into())).in_one_group();
        let source: Arc<dyn Queue> = Arc::<FaultyQueue>::clone(&group);
        pipeline.handle_on(source, &component, manifest);
        let refused = async {
            while group.asked("settle").len() < 2 {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, refused).await.unwrap();
        // First the deletion with the send; then a retry of the message, and before it one of each follower.
        let calls = group.asked("settle");
        let sizes: Vec<usize> = calls.iter().map(|asked| asked.deliveries).collect();
        assert_eq!(sizes, [1, MESSAGES]);
        let counts = queue.counts().await.unwrap();
        assert_eq!((counts.ready, counts.in_flight, counts.delayed), (0, 0, 3));
        assert_eq!(destination.counts().await.unwrap().ready, 3, "nothing was sent");
        destination.purge().await.unwrap();
        let forwarded = async {
            while destination.counts().await.unwrap().ready < 3 {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, forwarded).await.unwrap();
        pipeline.stop_handlers().await;
        assert_eq!(destination.counts().await.unwrap().ready, 3, "each was sent once");
        let counts = queue.counts().await.unwrap();
        assert_eq!((counts.ready, counts.in_flight, counts.delayed), (0, 0, 0));
    });
}
