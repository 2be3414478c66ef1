//! The metrics of leases.

use std::time::Duration;

use prometheus_client::metrics::{counter::Counter, histogram::Histogram};

use crate::metric_series::{MetricFamilies, MetricSeries, QueueLabel, QueueResultLabel};

/// From a timer's usual delay to one that puts short visibility timeouts at risk, in seconds.
const LATENESS_BUCKETS: [f64; 10] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

/// The metrics of all leases of a host. Each method is one observation.
#[derive(Debug)]
pub struct LeaseMetrics {
    lost: MetricSeries<QueueLabel, Counter>,
    extensions: MetricSeries<QueueResultLabel, Counter>,
    lateness: MetricSeries<QueueLabel, Histogram>,
}

impl Default for LeaseMetrics {
    fn default() -> Self {
        Self {
            lost: MetricSeries::default(),
            extensions: MetricSeries::default(),
            lateness: MetricSeries::new(|| Histogram::new(LATENESS_BUCKETS)),
        }
    }
}

impl LeaseMetrics {
    /// Adds the families to those of the host.
    pub fn register(&self, families: &mut MetricFamilies) {
        families.series("lost_leases", "Deliveries whose visibility ran out", &self.lost);
        families.series("lease_extensions", "Extensions of leases, by result", &self.extensions);
        let help = "How late extensions of leases were started";
        families.series("lease_extension_lateness_seconds", help, &self.lateness);
    }

    /// The visibility of a delivery ran out: under an attempt, which was interrupted, or before the delivery arrived.
    pub fn lost(&self, queue: &str) {
        self.lost.with(&QueueLabel::new(queue), Counter::inc);
    }

    /// One call extended `extended` leases, and could not extend `failed` others.
    pub fn extended(&self, queue: &str, extended: u64, failed: u64) {
        for (result, leases) in [("ok", extended), ("failed", failed)] {
            let labels = QueueResultLabel::new(queue, result);
            self.extensions.with(&labels, |metric| metric.inc_by(leases));
        }
    }

    /// An extension was started `late` after the half-life of its lease.
    pub fn extension_started(&self, queue: &str, late: Duration) {
        self.lateness
            .with(&QueueLabel::new(queue), |metric| metric.observe(late.as_secs_f64()));
    }
}
