//! Which queues were purged a moment ago: SQS purges a queue once in 60 seconds.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use sandhog_queue::message::QueueName;

/// The time between two purges of a queue, as on AWS.
const BETWEEN: Duration = Duration::from_mins(1);

/// When each queue was purged last. Bounded by the queues that were purged within a minute.
#[derive(Debug, Default)]
pub(super) struct RecentPurges(Mutex<HashMap<QueueName, Instant>>);

impl RecentPurges {
    /// Notes a purge. Returns `false` if the last one of the queue is too recent.
    pub(super) fn begin(&self, queue: &QueueName) -> bool {
        let mut recent = self.0.lock();
        recent.retain(|_, at| at.elapsed() < BETWEEN);
        let is_first = !recent.contains_key(queue);
        if is_first {
            recent.insert(queue.clone(), Instant::now());
        }
        is_first
    }

    /// Forgets the purge of a queue that is deleted.
    pub(super) fn forget(&self, queue: &QueueName) {
        self.0.lock().remove(queue);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_queue_is_purged_once_in_a_minute() {
        let (purges, queue) = (RecentPurges::default(), QueueName::new("q").unwrap());
        assert!(purges.begin(&queue));
        assert!(!purges.begin(&queue));
        assert!(purges.begin(&QueueName::new("r").unwrap()));
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(purges.begin(&queue));
        purges.forget(&queue);
        assert!(purges.begin(&queue));
    }
}
