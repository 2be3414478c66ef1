//! The metrics of SQS queues.

use std::sync::Arc;

use prometheus_client::{encoding::EncodeLabelSet, metrics::counter::Counter};

use sandhog_queue::lease::LeaseMetrics;
use sandhog_queue::metric_series::{LivingNames, MetricFamilies, MetricSeries, QueueLabel, SeriesLabels};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueActionLabel {
    queue: String,
    action: &'static str,
}

impl SeriesLabels for QueueActionLabel {
    const NAMES: &'static [&'static str] = &["queue", "action"];

    fn live(&self, living: &LivingNames) -> bool {
        living.queues.contains(&self.queue)
    }
}

/// The metrics of all SQS queues of a host. Each method is one observation.
#[derive(Debug, Default)]
pub struct SqsMetrics {
    leases: Arc<LeaseMetrics>,
    requests: MetricSeries<QueueActionLabel, Counter>,
    throttled: MetricSeries<QueueLabel, Counter>,
    failed_settlements: MetricSeries<QueueLabel, Counter>,
}

impl SqsMetrics {
    /// Metrics at zero. A message that came too late counts as a lost lease in `leases`.
    pub fn new(leases: Arc<LeaseMetrics>) -> Self {
        Self {
            leases,
            ..Self::default()
        }
    }

    /// Adds the families to those of the host.
    pub fn register(&self, families: &mut MetricFamilies) {
        families.series("sqs_requests", "Requests made to SQS, by action", &self.requests);
        let help = "Requests to SQS, or entries of them, that were throttled";
        families.series("sqs_throttled_requests", help, &self.throttled);
        let help = "Settlements that SQS did not take";
        families.series("sqs_failed_settlements", help, &self.failed_settlements);
    }

    /// The host made a request for a queue; `action` is its name in the API. Repetitions by the SDK are not counted.
    pub fn request(&self, queue: &str, action: &'static str) {
        let labels = QueueActionLabel {
            queue: queue.to_owned(),
            action,
        };
        self.requests.with(&labels, Counter::inc);
    }

    /// SQS refused a request, or an entry of one, because there were too many.
    pub fn throttled(&self, queue: &str) {
        self.throttled.with(&QueueLabel::new(queue), Counter::inc);
    }

    /// SQS did not take this many deletions or changes of visibility that end a delivery.
    pub fn settlements_failed(&self, queue: &str, settlements: u64) {
        self.failed_settlements
            .with(&QueueLabel::new(queue), |metric| metric.inc_by(settlements));
    }

    /// A message arrived after its visibility timeout may have passed.
    pub(crate) fn came_late(&self, queue: &str) {
        self.leases.lost(queue);
    }
}
