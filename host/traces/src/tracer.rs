//! Gives spans their places, and takes those that have ended, until an exporter takes them over.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{
    context::SpanContext, exporter::TraceExporter, metrics::TraceMetrics, sampler::Sampler, settings::ExportSettings,
    span::SpanRecord,
};

/// Records spans. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tracer {
    sampler: Sampler,
    ended: mpsc::Sender<SpanRecord>,
    metrics: Arc<TraceMetrics>,
}

impl Tracer {
    /// Makes a tracer, and the exporter of what it records, which the caller has to run.
    pub fn new(settings: &ExportSettings, metrics: Arc<TraceMetrics>) -> (Self, TraceExporter) {
        let (ended, waiting) = mpsc::channel(settings.max_queue);
        let tracer = Self {
            sampler: settings.sampler,
            ended,
            metrics: Arc::clone(&metrics),
        };
        (tracer, TraceExporter::new(settings.clone(), waiting, metrics))
    }

    /// Returns the place of a new span: in the trace of its parent, or else in a new one. The sampler decides whether it is recorded.
    #[must_use]
    pub fn begin(&self, parent: Option<&SpanContext>) -> SpanContext {
        let context = match parent {
            Some(parent) => parent.successor(parent.is_sampled()),
            None => SpanContext::root(false),
        };
        let is_sampled = self.sampler.samples(&context, parent.map(SpanContext::is_sampled));
        context.sampled(is_sampled)
    }

    /// Takes a span that has ended, if it is recorded. Never waits: a span that finds no room is dropped and counted.
    pub fn record(&self, span: SpanRecord) {
        if span.context.is_sampled() && self.ended.try_send(span).is_err() {
            self.metrics.dropped();
        }
    }
}
