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
    version: MetricSeries<HandlerLabel, Gauge>,
    probation: MetricSeries<HandlerLabel, Gauge>,
    rollbacks: MetricSeries<HandlerResultLabel, Counter>,
    second_opinions: MetricSeries<HandlerResultLabel, Counter>,
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
        families.series(
            "handler_version",
            "The number of the version that serves",
            &self.version,
        );
        let help = "1 while the version that serves is on probation";
        families.series("handler_probation", help, &self.probation);
        let help = "Returns to an older version, because the newer one was worse or by order";
        families.series("handler_rollbacks", help, &self.rollbacks);
        let help =
            "Messages that a new version did not handle and its predecessor was asked about, by what it made of them";
        families.series("second_opinions", help, &self.second_opinions);
    }

    /// A handler serves the version of this number.
    pub fn version(&self, handler: &str, number: u64, is_on_probation: bool) {
        let label = HandlerLabel::new(handler);
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        self.version.with(&label, |metric| metric.set(number));
        self.probation
            .with(&label, |metric| metric.set(i64::from(is_on_probation)));
    }

    /// A handler went back to an older version: by itself, or because somebody ordered it.
    pub fn rolled_back(&self, handler: &str, by_itself: bool) {
        let labels = HandlerResultLabel::new(handler, if by_itself { "worse" } else { "ordered" });
        self.rollbacks.with(&labels, Counter::inc);
    }

    /// The predecessor of a version was asked about a message, and answered, or did not handle it either.
    pub fn second_opinion(&self, handler: &str, answered: bool) {
        let labels = HandlerResultLabel::new(handler, if answered { "answered" } else { "neither" });
        self.second_opinions.with(&labels, Counter::inc);
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
        let label = HandlerLabel::new(handler);
        self.fallback.end(&label);
        self.version.end(&label);
        self.probation.end(&label);
    }

    fn used(&self) -> MutexGuard<'_, BTreeMap<String, BTreeSet<String>>> {
        self.used.lock()
    }
}
