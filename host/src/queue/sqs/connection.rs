//! The way to SQS: region, credentials and endpoint as the SDK finds them, found once and shared by all queues.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use aws_config::BehaviorVersion;
use aws_sdk_sqs::Client;
use tokio::{sync::Mutex, time::Instant};

use super::{
    SqsMetrics, SqsQueue,
    failure::{Action, Class, Failure},
    remote::{Address, Remote},
    settings::SqsSettings,
    wire::Wire,
};
use crate::message::QueueName;

/// Credentials that are refused are looked up anew, but not more often than this.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// Knows how to reach SQS; makes no request until a queue is used. Cheap to clone.
///
/// Where the region, the credentials and the endpoint come from is the SDK's own chain: the environment, the profile,
/// the role of the machine or the container. They are looked up when the first queue is used, and anew when they turn out
/// to be wrong, so that a repaired profile is found without a restart.
#[derive(Debug, Clone)]
pub struct SqsConnection {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    metrics: Arc<SqsMetrics>,
    // Never held across an await.
    found: RwLock<Option<Found>>,
    /// Held by the one who looks.
    looking: Mutex<()>,
}

#[derive(Debug, Clone)]
struct Found {
    wire: Wire,
    at: Instant,
}

impl SqsConnection {
    /// A connection that is not made yet.
    pub fn new(metrics: Arc<SqsMetrics>) -> Self {
        Self {
            inner: Arc::new(Inner {
                metrics,
                found: RwLock::default(),
                looking: Mutex::default(),
            }),
        }
    }

    /// The queue of these settings, whether it exists or not: that shows when it is used. `dead_letter` is the queue that
    /// the settings name as such; without it dead letters go to the target of the queue's redrive policy, if it has one.
    pub fn queue(&self, name: QueueName, settings: SqsSettings, dead_letter: Option<Arc<SqsQueue>>) -> Arc<SqsQueue> {
        let address = Address::Configured(settings.location.clone());
        let dead_letter = dead_letter.map(|queue| {
            queue.remote().becomes_a_dead_letter_queue();
            Arc::clone(queue.remote())
        });
        Arc::new(SqsQueue::new(Remote::new(
            self.clone(),
            name,
            address,
            settings,
            dead_letter,
        )))
    }

    pub(super) fn metrics(&self) -> &SqsMetrics {
        &self.inner.metrics
    }

    /// The API, once region and credentials are known.
    ///
    /// # Cancel safety
    ///
    /// Safe: whoever waits next looks.
    pub(super) async fn wire(&self, action: Action) -> Result<Wire, Failure> {
        if let Some(found) = self.found() {
            return Ok(found.wire);
        }
        let _looking = self.inner.looking.lock().await;
        if let Some(found) = self.found() {
            return Ok(found.wire);
        }
        let config = aws_config::defaults(BehaviorVersion::v2026_01_12()).load().await;
        if config.region().is_none() {
            // Not kept: it may be set by the next time.
            return Err(Failure::local(action, Class::NoRegion, "no region is set"));
        }
        let wire = Wire::new(Client::new(&config));
        let found = Found {
            wire: wire.clone(),
            at: Instant::now(),
        };
        *self.inner.found.write().unwrap_or_else(PoisonError::into_inner) = Some(found);
        Ok(wire)
    }

    /// The credentials were of no use: the next call looks for others, unless these are quite new.
    pub(super) fn credentials_were_refused(&self) {
        let mut found = self.inner.found.write().unwrap_or_else(PoisonError::into_inner);
        found.take_if(|found| found.at.elapsed() >= LOOK_AGAIN_AFTER);
    }

    fn found(&self) -> Option<Found> {
        self.inner.found.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
