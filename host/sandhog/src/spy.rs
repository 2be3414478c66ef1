//! The spy: what the tests of an application ask of a host that keeps everything in memory. They empty it, wait until a message is there,
//! move its clock, and have messages delivered again.
//!
//! It exists only with `--ephemeral --spy`, because no host that somebody trusts with messages may forget them on request.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::timeout;

use crate::queue_set::{QueueChangeRefused, QueueSet};
use sandhog_queue::{
    Counts, Queue as _, QueueError,
    machine_clock::{MachineClock, Reading, whole_ms},
    message::QueueName,
};
use sandhog_simple::SimpleStore;

/// The clock of a store that a test moves forward. Clones are the same clock.
#[derive(Debug, Clone, Default)]
pub struct SpyClock(Arc<AtomicU64>);

impl SpyClock {
    /// Returns the clock as the store reads it: a machine that has slept for as long as the clock was moved.
    pub fn machine(&self) -> MachineClock {
        let ahead_ms = Arc::clone(&self.0);
        MachineClock::new(move || {
            let ahead = Duration::from_millis(ahead_ms.load(Ordering::Relaxed));
            let mut reading = Reading::now();
            reading.wall += ahead;
            reading.since_boot += ahead;
            reading.asleep += ahead;
            reading
        })
    }
}

/// What a test may ask of a host. Clones are the same spy.
#[derive(Debug, Clone)]
pub struct TestSpy {
    queues: Arc<QueueSet>,
    store: SimpleStore,
    clock: SpyClock,
}

impl TestSpy {
    /// Returns the spy of a host whose store is in memory and reads `clock`.
    pub fn new(queues: Arc<QueueSet>, store: SimpleStore, clock: SpyClock) -> Self {
        Self { queues, store, clock }
    }

    /// Deletes the queues that clients created, and the messages of all others, in flight or not.
    ///
    /// # Errors
    ///
    /// See [`QueueChangeRefused`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves some of them.
    pub async fn reset(&self) -> Result<(), QueueChangeRefused> {
        for name in self.queues.simple_names() {
            match self.queues.delete(&name).await {
                Ok(()) | Err(QueueChangeRefused::Missing) => {}
                Err(QueueChangeRefused::Declared { .. }) => {
                    if let Some(queue) = self.queues.simple(&name) {
                        queue.queue.clear().await?;
                    }
                }
                Err(refused) => return Err(refused),
            }
        }
        Ok(())
    }

    /// Waits until so many messages of a queue may be received, up to `wait`. Returns the counts by then, and whether they are there.
    ///
    /// # Errors
    ///
    /// See [`QueueChangeRefused`].
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn wait(
        &self,
        name: &QueueName,
        messages: u64,
        wait: Duration,
    ) -> Result<(Counts, bool), QueueChangeRefused> {
        let queue = self.queues.simple(name).ok_or(QueueChangeRefused::Missing)?.queue;
        let are_there = timeout(wait, queue.wait_until_ready(messages)).await;
        are_there.unwrap_or(Ok(()))?;
        let counts = queue.counts().await?;
        Ok((counts, counts.ready >= messages))
    }

    /// Makes the messages of a queue visible again that are in flight. Their receives stay counted, and their receipts expire.
    ///
    /// # Errors
    ///
    /// See [`QueueChangeRefused`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have done it.
    pub async fn redeliver(&self, name: &QueueName) -> Result<u64, QueueChangeRefused> {
        let queue = self.queues.simple(name).ok_or(QueueChangeRefused::Missing)?.queue;
        Ok(queue.expire_in_flight().await?)
    }

    /// Moves the clock of all queues forward: visibility timeouts, delays, times to live and the memory of deduplication ids go on by
    /// as much.
    ///
    /// # Errors
    ///
    /// See [`QueueError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have moved the clock.
    pub async fn forward(&self, by: Duration) -> Result<(), QueueError> {
        self.clock.0.fetch_add(whole_ms(by), Ordering::Relaxed);
        self.store.hasten(by).await
    }
}
