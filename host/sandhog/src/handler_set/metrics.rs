//! The metrics of the versions that handlers serve, and the queues that handlers use.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::{Mutex, MutexGuard};
use prometheus_client::metrics::{counter::Counter, gauge::Gauge};

use crate::metrics::labels::{HandlerLabel, HandlerResultLabel};
use sandhog_queue::metric_series::{MetricFamilies, MetricSeries};

/// The families of loads and of serving versions.
#[derive(Debug, Default)]
pub struct HandlerMetrics {
    /// The queues of each handler, which keep their series.
    used: Mutex<BTreeMap<String, BTreeSet<String>>>,
    loads: MetricSeries<HandlerResultLabel, Counter>,
    fallback: MetricSeries<HandlerLabel, Gauge>,
}

impl HandlerMetrics {
    /// Adds the families to those of the host.
    pub fn register(&self, families: &mut MetricFamilies) {
        families.series("handler_loads", "Versions of handlers loaded, by result", &self.loads);
        families.series(
            "handler_fallback",
            "1 while a handler serves the version that served last, because the files that are there are refused",
            &self.fallback,
        );
    }

    /// A new version of a handler was loaded: it serves (`accepted`), or it was refused.
    pub fn loaded(&self, handler: &str, accepted: bool) {
        let labels = HandlerResultLabel::new(handler, if accepted { "ok" } else { "refused" });
        self.loads.with(&labels, Counter::inc);
    }

    /// A handler serves the version that served last (`is_fallback`), because the files in the plugin directory are refused; or
    /// it serves a version of those files.
    pub fn serving(&self, handler: &str, is_fallback: bool) {
        let label = HandlerLabel::new(handler);
        self.fallback.with(&label, |metric| metric.set(i64::from(is_fallback)));
    }

    /// A handler receives from and sends to these queues from now on.
    pub fn uses(&self, handler: &str, queues: BTreeSet<String>) {
        self.used().insert(handler.to_owned(), queues);
    }

    /// Returns the queues that handlers use.
    pub fn used_queues(&self) -> BTreeSet<String> {
        self.used().values().flatten().cloned().collect()
    }

    /// A handler is gone. Its gauges end now, and its counters with the next look at the page.
    pub fn removed(&self, handler: &str) {
        self.used().remove(handler);
        self.fallback.end(&HandlerLabel::new(handler));
    }

    fn used(&self) -> MutexGuard<'_, BTreeMap<String, BTreeSet<String>>> {
        self.used.lock()
    }
}
