//! The connection to SQS: the SDK finds region, credentials and endpoint once, and all queues share them.

use std::{sync::Arc, time::Duration};

use aws_config::BehaviorVersion;
use aws_sdk_sqs::Client;
use parking_lot::RwLock;
use tokio::{sync::Mutex, time::Instant};

use super::{
    failure::{Action, Class, Failure},
    metrics::SqsMetrics,
    wire::Wire,
};

/// The shortest time between two searches for credentials, after SQS refused some.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// The connection to SQS. It makes no request until a queue is used. Cheap to clone.
///
/// The SDK finds the region, the credentials and the endpoint by its own chain: the environment, the profile, the role of
/// the machine or the container. It searches when the first queue is used, and again when SQS refuses the credentials, so
/// that a repaired profile is found without a restart.
#[derive(Debug, Clone)]
pub struct SqsConnection {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    metrics: Arc<SqsMetrics>,
    // Never held across an await.
    found: RwLock<Option<Found>>,
    /// Held by the task that searches.
    looking: Mutex<()>,
}

#[derive(Debug, Clone)]
struct Found {
    wire: Wire,
    at: Instant,
}

impl SqsConnection {
    /// Makes a connection that has not searched yet.
    pub fn new(metrics: Arc<SqsMetrics>) -> Self {
        Self {
            inner: Arc::new(Inner {
                metrics,
                found: RwLock::default(),
                looking: Mutex::default(),
            }),
        }
    }

    pub(crate) fn metrics(&self) -> &SqsMetrics {
        &self.inner.metrics
    }

    /// Returns the API, once region and credentials are known.
    ///
    /// # Cancel safety
    ///
    /// Safe: the next caller searches.
    pub(crate) async fn wire(&self, action: Action) -> Result<Wire, Failure> {
        if let Some(found) = self.found() {
            return Ok(found.wire);
        }
        let _looking = self.inner.looking.lock().await;
        if let Some(found) = self.found() {
            return Ok(found.wire);
        }
        let config = aws_config::defaults(BehaviorVersion::v2026_01_12()).load().await;
        if config.region().is_none() {
            // The result is not kept, because the region may be set by the next time.
            return Err(Failure::local(action, Class::NoRegion, "no region is set"));
        }
        let wire = Wire::new(Client::new(&config));
        let found = Found {
            wire: wire.clone(),
            at: Instant::now(),
        };
        *self.inner.found.write() = Some(found);
        Ok(wire)
    }

    /// SQS refused the credentials: the next call searches for others, unless these are quite new.
    pub(crate) fn credentials_were_refused(&self) {
        let mut found = self.inner.found.write();
        found.take_if(|found| found.at.elapsed() >= LOOK_AGAIN_AFTER);
    }

    fn found(&self) -> Option<Found> {
        self.inner.found.read().clone()
    }
}
