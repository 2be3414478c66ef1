//! The metrics of the export.

use prometheus_client::{encoding::EncodeLabelSet, metrics::counter::Counter};

use sandhog_queue::metric_series::{LivingNames, MetricFamilies, MetricSeries, SeriesLabels};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

impl SeriesLabels for ResultLabel {
    const NAMES: &'static [&'static str] = &["result"];

    fn live(&self, _living: &LivingNames) -> bool {
        true
    }
}

/// The metrics of the export of spans. Each method is one observation.
#[derive(Debug, Default)]
pub struct TraceMetrics {
    spans: MetricSeries<ResultLabel, Counter>,
}

impl TraceMetrics {
    /// Adds the families to those of the host.
    pub fn register(&self, families: &mut MetricFamilies) {
        families.series(
            "trace_spans",
            "Spans that were recorded, by what became of them",
            &self.spans,
        );
    }

    /// The collector took so many spans.
    pub(crate) fn exported(&self, spans: u64) {
        self.count("exported", spans);
    }

    /// A span found no room among those that wait.
    pub(crate) fn dropped(&self) {
        self.count("dropped", 1);
    }

    /// So many spans were given up: the collector refused them, or did not answer in time.
    pub(crate) fn failed(&self, spans: u64) {
        self.count("failed", spans);
    }

    fn count(&self, result: &'static str, spans: u64) {
        self.spans
            .with(&ResultLabel { result }, |counter| counter.inc_by(spans));
    }
}
