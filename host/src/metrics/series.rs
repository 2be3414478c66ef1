//! Families of metrics whose series end with what they are about.
//!
//! Invariant: every series that a family has is in its list, so that none is forgotten when its handler or queue goes.

use std::{
    collections::{BTreeSet, HashSet},
    fmt,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeMetric},
    metrics::{
        MetricType, TypedMetric,
        family::{Family, MetricConstructor},
    },
    registry::{Registry, Unit},
};

/// The handlers and queues that there are, by name.
#[derive(Debug, Default)]
pub(super) struct Living {
    pub(super) handlers: BTreeSet<String>,
    pub(super) queues: BTreeSet<String>,
}

/// The labels of a series.
pub(super) trait Labels: EncodeLabelSet + Clone + Eq + Hash + fmt::Debug + Send + Sync + 'static {
    /// Whether what they name is there.
    fn live(&self, living: &Living) -> bool;
}

/// A family of metrics, one series for each set of labels.
pub(super) struct Series<L, M, C = fn() -> M> {
    family: Family<L, M, C>,
    known: Arc<Mutex<HashSet<L>>>,
}

impl<L: Labels, M: Default> Default for Series<L, M> {
    fn default() -> Self {
        Self::new(M::default)
    }
}

impl<L: Labels, M> Series<L, M> {
    /// No series yet; each begins as `constructor` makes it.
    pub(super) fn new(constructor: fn() -> M) -> Self {
        Self {
            family: Family::new_with_constructor(constructor),
            known: Arc::default(),
        }
    }
}

impl<L: Labels, M: Clone, C: MetricConstructor<M>> Series<L, M, C> {
    /// Lets `observe` see the metric with these labels, which begins now if it isn't there.
    pub(super) fn with<R>(&self, labels: &L, observe: impl FnOnce(&M) -> R) {
        if let Some(metric) = self.family.get(labels) {
            return drop(observe(&metric));
        }
        let mut known = self.known();
        known.insert(labels.clone());
        // While the list is held: it would be forgotten if it ended in between.
        drop(observe(&self.family.get_or_create(labels)));
    }

    /// Ends one series.
    pub(super) fn end(&self, labels: &L) {
        let mut known = self.known();
        known.remove(labels);
        self.family.remove(labels);
    }

    /// Ends every series of what is gone.
    fn keep(&self, living: &Living) {
        self.known().retain(|labels| {
            let live = labels.live(living);
            if !live {
                self.family.remove(labels);
            }
            live
        });
    }

    fn known(&self) -> MutexGuard<'_, HashSet<L>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<L, M, C: Clone> Clone for Series<L, M, C> {
    fn clone(&self) -> Self {
        Self {
            family: self.family.clone(),
            known: Arc::clone(&self.known),
        }
    }
}

/// What a page says of a family before its series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// As on the page, with prefix and unit: the name of a counter ends in `_total`.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// What it counts or measures.
    pub help: &'static str,
}

/// Ends the series of one family that are about what is gone.
type End = Box<dyn Fn(&Living) + Send + Sync>;

/// Every family, with what ends its series.
#[derive(Default)]
pub(super) struct Families {
    pub(super) registry: Registry,
    pub(super) descriptions: Vec<Description>,
    ends: Vec<End>,
}

/// What every name begins with.
const PREFIX: &str = "sandhog";

impl Families {
    pub(super) fn new() -> Self {
        Self {
            registry: Registry::with_prefix(PREFIX),
            ..Self::default()
        }
    }

    /// A family whose series end with what they are about.
    pub(super) fn series<L: Labels, M>(&mut self, name: &'static str, help: &'static str, series: &Series<L, M>)
    where
        Family<L, M, fn() -> M>: EncodeMetric + TypedMetric,
        M: Clone + TypedMetric + fmt::Debug + Send + Sync + 'static,
    {
        self.metric(name, help, series.family.clone());
        let series = series.clone();
        self.ends.push(Box::new(move |living| series.keep(living)));
    }

    /// A metric of the host itself.
    pub(super) fn metric<M: EncodeMetric + TypedMetric + fmt::Debug + Send + Sync + 'static>(
        &mut self,
        name: &'static str,
        help: &'static str,
        metric: M,
    ) {
        let (kind, suffix) = match M::TYPE {
            MetricType::Counter => ("counter", "_total"),
            MetricType::Histogram => ("histogram", ""),
            MetricType::Gauge | MetricType::Info | MetricType::Unknown => ("gauge", ""),
        };
        self.descriptions.push(Description {
            name: format!("{PREFIX}_{name}{suffix}"),
            kind,
            help,
        });
        for (suffix, unit) in [("_seconds", Unit::Seconds), ("_bytes", Unit::Bytes)] {
            if let Some(name) = name.strip_suffix(suffix) {
                return self.registry.register_with_unit(name, help, unit, metric);
            }
        }
        self.registry.register(name, help, metric);
    }

    /// Ends every series of what is gone.
    pub(super) fn keep(&self, living: &Living) {
        for end in &self.ends {
            end(living);
        }
    }
}
