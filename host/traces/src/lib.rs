//! Traces of what a host does, by the conventions of OpenTelemetry.
//!
//! [`TraceSettings`] reads the standard variables. [`SpanContext`] is the place of a span in its trace, in the forms that travel with
//! messages and requests: `traceparent` of the W3C and the trace header of X-Ray. [`Tracer`] decides which spans are recorded and takes
//! those that have ended; [`TraceExporter`] sends them to a collector over OTLP.
//!
//! Invariants: whoever records a span never waits, and a span that finds no room is dropped and counted; nothing that a collector does,
//! or does not do, reaches the work that is traced. This package knows no queue, no handler and no environment: the caller passes
//! variables in, and says what a span is about.

mod collector;
mod context;
mod exporter;
mod metrics;
mod otlp;
mod sampler;
mod settings;
mod span;
mod tracer;
mod xray;

pub use context::{MAX_STATE_BYTES, SpanContext};
pub use exporter::{ExporterFailed, TraceExporter};
pub use metrics::TraceMetrics;
pub use sampler::{RootSampler, Sampler};
pub use settings::{ExportSettings, Propagation, TraceSettings};
pub use span::{AttributeValue, MAX_LINKS, SpanKind, SpanLink, SpanRecord, SpanStart};
pub use tracer::Tracer;
