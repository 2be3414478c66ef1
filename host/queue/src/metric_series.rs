//! Families of metrics whose series end with the handler or queue that they are about.
//!
//! Each module with metrics of its own has a struct of families and registers them. Invariant: the list of a family names
//! all of its series, so that none stays when its handler or queue goes.

use std::{
    collections::{BTreeSet, HashSet},
    fmt,
    hash::Hash,
    sync::Arc,
};

use parking_lot::{Mutex, MutexGuard};
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeMetric},
    metrics::{
        MetricType, TypedMetric,
        family::{Family, MetricConstructor},
    },
    registry::{Registry, Unit},
};

/// The names of the handlers and queues that exist.
#[derive(Debug, Default)]
pub struct LivingNames {
    /// The handlers.
    pub handlers: BTreeSet<String>,
    /// The queues.
    pub queues: BTreeSet<String>,
}

/// The labels of a series.
pub trait SeriesLabels: EncodeLabelSet + Clone + Eq + Hash + fmt::Debug + Send + Sync + 'static {
    /// The names of the labels, as on the page.
    const NAMES: &'static [&'static str];

    /// Whether the handler or queue that the labels name exists.
    fn live(&self, living: &LivingNames) -> bool;
}

/// The label of a series about one queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct QueueLabel {
    queue: String,
}

impl QueueLabel {
    /// The label of the queue with this name.
    pub fn new(queue: &str) -> Self {
        Self {
            queue: queue.to_owned(),
        }
    }
}

impl SeriesLabels for QueueLabel {
    const NAMES: &'static [&'static str] = &["queue"];

    fn live(&self, living: &LivingNames) -> bool {
        living.queues.contains(&self.queue)
    }
}

/// The labels of a series about one result of an operation on one queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct QueueResultLabel {
    queue: String,
    result: &'static str,
}

impl QueueResultLabel {
    /// The labels of this result of an operation on the queue with this name.
    pub fn new(queue: &str, result: &'static str) -> Self {
        Self {
            queue: queue.to_owned(),
            result,
        }
    }
}

impl SeriesLabels for QueueResultLabel {
    const NAMES: &'static [&'static str] = &["queue", "result"];

    fn live(&self, living: &LivingNames) -> bool {
        living.queues.contains(&self.queue)
    }
}

/// A family of metrics, one series for each set of labels. Clones are the same family.
pub struct MetricSeries<L, M, C = fn() -> M> {
    family: Family<L, M, C>,
    known: Arc<Mutex<HashSet<L>>>,
}

impl<L: SeriesLabels, M: Default> Default for MetricSeries<L, M> {
    fn default() -> Self {
        Self::new(M::default)
    }
}

impl<L: SeriesLabels, M> MetricSeries<L, M> {
    /// A family without a series. `constructor` makes the metric of each new one.
    pub fn new(constructor: fn() -> M) -> Self {
        Self {
            family: Family::new_with_constructor(constructor),
            known: Arc::default(),
        }
    }
}

impl<L: SeriesLabels, M: Clone, C: MetricConstructor<M>> MetricSeries<L, M, C> {
    /// Calls `observe` with the metric of these labels, which begins now if it does not exist.
    pub fn with<R>(&self, labels: &L, observe: impl FnOnce(&M) -> R) {
        if let Some(metric) = self.family.get(labels) {
            return drop(observe(&metric));
        }
        let mut known = self.known();
        known.insert(labels.clone());
        // While the list is held: it would be forgotten if it ended in between.
        drop(observe(&self.family.get_or_create(labels)));
    }

    /// Ends one series.
    pub fn end(&self, labels: &L) {
        let mut known = self.known();
        known.remove(labels);
        self.family.remove(labels);
    }

    /// Ends every series whose handler or queue no longer exists.
    fn keep(&self, living: &LivingNames) {
        self.known().retain(|labels| {
            let live = labels.live(living);
            if !live {
                self.family.remove(labels);
            }
            live
        });
    }

    fn known(&self) -> MutexGuard<'_, HashSet<L>> {
        self.known.lock()
    }
}

impl<L, M, C> fmt::Debug for MetricSeries<L, M, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricSeries").finish_non_exhaustive()
    }
}

impl<L, M, C: Clone> Clone for MetricSeries<L, M, C> {
    fn clone(&self) -> Self {
        Self {
            family: self.family.clone(),
            known: Arc::clone(&self.known),
        }
    }
}

/// The name, kind and help of a family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricDescription {
    /// As on the page, with prefix and unit: the name of a counter ends in `_total`.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// The names of the labels of its series.
    pub labels: &'static [&'static str],
    /// The help text: what the family counts or measures.
    pub help: &'static str,
}

/// Ends the series of one family whose handler or queue no longer exists.
type End = Box<dyn Fn(&LivingNames) + Send + Sync>;

/// Every registered family, with the function that ends its series.
#[derive(Default)]
pub struct MetricFamilies {
    registry: Registry,
    descriptions: Vec<MetricDescription>,
    ends: Vec<End>,
}

/// The beginning of every name.
const PREFIX: &str = "sandhog";

impl fmt::Debug for MetricFamilies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricFamilies").finish_non_exhaustive()
    }
}

impl MetricFamilies {
    /// No family yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The registry, for an encoder.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The descriptions of all families, in the order in which they were registered.
    pub fn descriptions(&self) -> &[MetricDescription] {
        &self.descriptions
    }

    /// Registers a family whose series end with their handler or queue. `name` has neither the prefix nor `_total`.
    pub fn series<L: SeriesLabels, M>(&mut self, name: &'static str, help: &'static str, series: &MetricSeries<L, M>)
    where
        Family<L, M, fn() -> M>: EncodeMetric + TypedMetric,
        M: Clone + TypedMetric + fmt::Debug + Send + Sync + 'static,
    {
        self.add(format!("{PREFIX}_{name}"), help, L::NAMES, series.family.clone());
        let series = series.clone();
        self.ends.push(Box::new(move |living| series.keep(living)));
    }

    /// Registers a metric without labels. `name` has neither the prefix nor `_total`.
    pub fn metric<M: EncodeMetric + TypedMetric + fmt::Debug + Send + Sync + 'static>(
        &mut self,
        name: &'static str,
        help: &'static str,
        metric: M,
    ) {
        self.add(format!("{PREFIX}_{name}"), help, &[], metric);
    }

    /// Registers a metric that other programs have under the same name, which has no prefix of this one.
    pub fn process<M: EncodeMetric + TypedMetric + fmt::Debug + Send + Sync + 'static>(
        &mut self,
        name: &'static str,
        help: &'static str,
        metric: M,
    ) {
        self.add(name.to_owned(), help, &[], metric);
    }

    fn add<M: EncodeMetric + TypedMetric + fmt::Debug + Send + Sync + 'static>(
        &mut self,
        name: String,
        help: &'static str,
        labels: &'static [&'static str],
        metric: M,
    ) {
        let (kind, suffix) = match M::TYPE {
            MetricType::Counter => ("counter", "_total"),
            MetricType::Histogram => ("histogram", ""),
            MetricType::Gauge | MetricType::Info | MetricType::Unknown => ("gauge", ""),
        };
        self.descriptions.push(MetricDescription {
            name: format!("{name}{suffix}"),
            kind,
            labels,
            help,
        });
        for (suffix, unit) in [("_seconds", Unit::Seconds), ("_bytes", Unit::Bytes)] {
            if let Some(name) = name.strip_suffix(suffix) {
                return self.registry.register_with_unit(name, help, unit, metric);
            }
        }
        self.registry.register(name, help, metric);
    }

    /// Ends every series whose handler or queue no longer exists.
    pub fn keep(&self, living: &LivingNames) {
        for end in &self.ends {
            end(living);
        }
    }
}
