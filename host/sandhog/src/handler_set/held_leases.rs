//! The gauges of held leases, which the page of metrics reads from the keepers.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use prometheus_client::metrics::gauge::Gauge;

use sandhog_queue::metric_series::{MetricFamilies, MetricSeries, QueueLabel};

/// Asks a keeper of leases how many leases it holds, and for the age of the oldest one.
pub type LeaseProbe = Box<dyn Fn() -> (usize, Option<Duration>) + Send + Sync>;

/// The probes of all keepers, and the gauges that they fill.
#[derive(Default)]
pub struct HeldLeases {
    probes: Mutex<BTreeMap<u64, QueueProbe>>,
    held: MetricSeries<QueueLabel, Gauge>,
    oldest: MetricSeries<QueueLabel, Gauge<f64, AtomicU64>>,
}

struct QueueProbe {
    handler: String,
    queue: String,
    probe: LeaseProbe,
}

/// The leases of one queue.
#[derive(Default)]
struct QueueLeases {
    held: usize,
    oldest: Duration,
}

impl fmt::Debug for HeldLeases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldLeases").finish_non_exhaustive()
    }
}

impl HeldLeases {
    /// Adds the families to those of the host.
    pub fn register(&self, families: &mut MetricFamilies) {
        families.series("leases", "Deliveries held, started or not", &self.held);
        let help = "Time since the oldest delivery held was received";
        families.series("oldest_lease_age_seconds", help, &self.oldest);
    }

    /// Shows the leases of a keeper, of this handler and queue, until the answer is dropped.
    pub fn watch(self: &Arc<Self>, handler: &str, queue: &str, probe: LeaseProbe) -> LeaseWatch {
        let mut probes = self.probes();
        let key = probes.last_key_value().map_or(0, |(last, _)| last + 1);
        let queue = queue.to_owned();
        probes.insert(
            key,
            QueueProbe {
                handler: handler.to_owned(),
                queue: queue.clone(),
                probe,
            },
        );
        drop(probes);
        LeaseWatch {
            leases: Arc::clone(self),
            queue,
            key,
        }
    }

    /// Sets the gauges to what the probes answer. A queue whose handler was replaced may have two probes for a while.
    pub fn look(&self) {
        let mut queues: BTreeMap<&str, QueueLeases> = BTreeMap::new();
        let probes = self.probes();
        for QueueProbe { queue, probe, .. } in probes.values() {
            let (held, oldest) = probe();
            let leases = queues.entry(queue).or_default();
            leases.held += held;
            leases.oldest = leases.oldest.max(oldest.unwrap_or_default());
        }
        for (queue, leases) in queues {
            let label = QueueLabel::new(queue);
            let held = i64::try_from(leases.held).unwrap_or(i64::MAX);
            self.held.with(&label, |metric| metric.set(held));
            let oldest = leases.oldest.as_secs_f64();
            self.oldest.with(&label, |metric| metric.set(oldest));
        }
    }

    /// Returns the handlers that hold leases, with the number of each. A handler that was replaced may have two keepers for a while.
    pub fn by_handler(&self) -> BTreeMap<String, u64> {
        let mut handlers = BTreeMap::new();
        for QueueProbe { handler, probe, .. } in self.probes().values() {
            let (held, _) = probe();
            if held > 0 {
                *handlers.entry(handler.clone()).or_default() += u64::try_from(held).unwrap_or(u64::MAX);
            }
        }
        handlers
    }

    fn probes(&self) -> MutexGuard<'_, BTreeMap<u64, QueueProbe>> {
        self.probes.lock()
    }
}

/// Shows the leases of one keeper for as long as it is held.
#[derive(Debug)]
pub struct LeaseWatch {
    leases: Arc<HeldLeases>,
    queue: String,
    key: u64,
}

impl Drop for LeaseWatch {
    fn drop(&mut self) {
        let mut probes = self.leases.probes();
        drop(probes.remove(&self.key));
        if !probes.values().any(|other| other.queue == self.queue) {
            let label = QueueLabel::new(&self.queue);
            self.leases.held.end(&label);
            self.leases.oldest.end(&label);
        }
    }
}
