//! The metrics of the listener.

use prometheus_client::metrics::{counter::Counter, gauge::Gauge};

use sandhog_queue::metric_series::MetricFamilies;

/// The families of the listener.
#[derive(Debug, Default)]
pub struct ListenerMetrics {
    requests: Gauge,
    connections: Gauge,
    replaced: Counter,
}

impl ListenerMetrics {
    /// Adds the families to those of the host.
    pub fn register(&self, families: &mut MetricFamilies) {
        let help = "Requests to the listener under way";
        families.metric("listener_requests", help, self.requests.clone());
        let help = "Connections of the listener";
        families.metric("listener_connections", help, self.connections.clone());
        let help = "Connections that the listener ended or refused because it has too many";
        families.metric("listener_replaced_connections", help, self.replaced.clone());
    }

    /// A request has begun. It is under way until the answer is dropped.
    pub(crate) fn request(&self) -> CountedWork {
        CountedWork::new(&self.requests)
    }

    /// The listener has a connection until the answer is dropped.
    pub(crate) fn connection(&self) -> CountedWork {
        CountedWork::new(&self.connections)
    }

    /// The listener has ended or refused a connection because there was no room for another.
    pub(crate) fn connection_replaced(&self) {
        self.replaced.inc();
    }
}

/// Counts one request or one connection for as long as it is held.
#[derive(Debug)]
pub(crate) struct CountedWork(Gauge);

impl CountedWork {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for CountedWork {
    fn drop(&mut self) {
        self.0.dec();
    }
}
