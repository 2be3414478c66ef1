//! The metrics of what handlers cost, and of how long messages wait for them.

use std::{sync::atomic::AtomicU64, time::Duration};

use prometheus_client::metrics::{counter::Counter, histogram::Histogram};

use super::{Metrics, labels::HandlerLabel};
use sandhog_executor::CallUsage;
use sandhog_queue::metric_series::{MetricFamilies, MetricSeries};

/// From a handler that is idle to a backlog of a day, in seconds.
const WAIT_BUCKETS: [f64; 14] = [
    0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 86_400.0,
];
/// From one page of a guest to its largest memory, in bytes.
const MEMORY_BUCKETS: [f64; 9] = [
    65_536.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    134_217_728.0,
    268_435_456.0,
    1_073_741_824.0,
    4_294_967_296.0,
];

/// The families of waits and of costs.
#[derive(Debug)]
pub(crate) struct CallMetrics {
    waits: MetricSeries<HandlerLabel, Histogram>,
    cpu: MetricSeries<HandlerLabel, Counter<f64, AtomicU64>>,
    memory: MetricSeries<HandlerLabel, Histogram>,
}

impl Default for CallMetrics {
    fn default() -> Self {
        Self {
            waits: MetricSeries::new(|| Histogram::new(WAIT_BUCKETS)),
            cpu: MetricSeries::default(),
            memory: MetricSeries::new(|| Histogram::new(MEMORY_BUCKETS)),
        }
    }
}

impl CallMetrics {
    pub(crate) fn register(&self, families: &mut MetricFamilies) {
        let help = "From the send of a message to the start of its first attempt";
        families.series("handler_wait_seconds", help, &self.waits);
        let help = "Processor time of the calls of guests";
        families.series("handler_cpu_seconds", help, &self.cpu);
        let help = "The most memory that a call of a guest took";
        families.series("handler_memory_bytes", help, &self.memory);
    }
}

/// The observations of calls.
impl Metrics {
    /// A message that was received for the first time has waited so long since it was sent.
    pub fn waited(&self, handler: &str, wait: Duration) {
        let seconds = wait.as_secs_f64();
        self.calls
            .waits
            .with(&HandlerLabel::new(handler), |metric| metric.observe(seconds));
    }

    /// A call has cost this.
    pub fn call_cost(&self, handler: &str, usage: &CallUsage) {
        let label = HandlerLabel::new(handler);
        let seconds = usage.cpu.as_secs_f64();
        self.calls.cpu.with(&label, |metric| metric.inc_by(seconds));
        // In whole KiB: memories have pages of 64.
        let bytes = u32::try_from(usage.memory_peak / 1024).unwrap_or(u32::MAX);
        let bytes = f64::from(bytes) * 1024.0;
        self.calls.memory.with(&label, |metric| metric.observe(bytes));
    }
}
