//! The gauges of queues and of the store, which are set when the page of metrics is read.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use prometheus_client::metrics::{counter::Counter, gauge::Gauge};

use sandhog_queue::{
    Counts,
    metric_series::{MetricFamilies, MetricSeries, QueueLabel},
};
use sandhog_simple::DiskUse;

/// The families of queues and of the store.
#[derive(Debug, Default)]
pub struct QueueMetrics {
    ready: MetricSeries<QueueLabel, Gauge>,
    in_flight: MetricSeries<QueueLabel, Gauge>,
    delayed: MetricSeries<QueueLabel, Gauge>,
    dead: MetricSeries<QueueLabel, Gauge>,
    damaged: MetricSeries<QueueLabel, Gauge>,
    halted: MetricSeries<QueueLabel, Gauge>,
    oldest_age: MetricSeries<QueueLabel, Gauge<f64, AtomicU64>>,
    expired: MetricSeries<QueueLabel, Counter>,
    store_database: Gauge,
    store_free: Gauge,
    store_log: Gauge,
    store_pinned_log: Gauge,
    store_uncopied_log: Gauge,
}

impl QueueMetrics {
    /// Adds the families to those of the host.
    pub fn register(&self, families: &mut MetricFamilies) {
        families.series("queue_ready_messages", "Messages that wait", &self.ready);
        let help = "Messages received, not settled";
        families.series("queue_in_flight_messages", help, &self.in_flight);
        families.series("queue_delayed_messages", "Messages hidden by a delay", &self.delayed);
        families.series("queue_dead_letters", "Dead letters of the queue", &self.dead);
        let help = "Messages that cannot be read";
        families.series("queue_damaged_messages", help, &self.damaged);
        let help = "1 while an operator has paused the queue";
        families.series("queue_halted", help, &self.halted);
        let help = "Age of the oldest message not in flight";
        families.series("queue_oldest_message_age_seconds", help, &self.oldest_age);
        let help = "Messages that the time to live has removed";
        families.series("queue_expired_messages", help, &self.expired);
        let help = "The database file of the queues";
        families.metric("store_database_bytes", help, self.store_database.clone());
        let help = "The part of the database file that is empty";
        families.metric("store_free_bytes", help, self.store_free.clone());
        let help = "The write-ahead log of the queues";
        families.metric("store_log_bytes", help, self.store_log.clone());
        let help = "The part of the write-ahead log that a reader keeps from being emptied";
        families.metric("store_pinned_log_bytes", help, self.store_pinned_log.clone());
        let help = "The part of the write-ahead log that is not in the database file yet";
        families.metric("store_uncopied_log_bytes", help, self.store_uncopied_log.clone());
    }

    /// A queue has these counts.
    pub fn counts(&self, queue: &str, counts: &Counts) {
        let label = QueueLabel::new(queue);
        for (gauge, number) in [
            (&self.ready, counts.ready),
            (&self.in_flight, counts.in_flight),
            (&self.delayed, counts.delayed),
            (&self.dead, counts.dead),
            (&self.damaged, counts.damaged),
        ] {
            let number = i64::try_from(number).unwrap_or(i64::MAX);
            gauge.with(&label, |gauge| gauge.set(number));
        }
        let age = Duration::from_millis(counts.oldest_age_ms.unwrap_or(0));
        self.oldest_age.with(&label, |gauge| gauge.set(age.as_secs_f64()));
        // The queue counts from 0 on by itself, and never down.
        let raise = |expired: &Counter| expired.inner().fetch_max(counts.expired, Relaxed);
        self.expired.with(&label, raise);
    }

    /// An operator has paused a queue, or has not.
    pub fn halted(&self, queue: &str, halted: bool) {
        let label = QueueLabel::new(queue);
        self.halted.with(&label, |gauge| gauge.set(i64::from(halted)));
    }

    /// The store takes this much room on its disk.
    pub fn disk_use(&self, disk: &DiskUse) {
        for (gauge, bytes) in [
            (&self.store_database, disk.database_bytes),
            (&self.store_free, disk.free_bytes),
            (&self.store_log, disk.log_bytes),
            (&self.store_pinned_log, disk.pinned_log_bytes),
            (&self.store_uncopied_log, disk.uncopied_log_bytes),
        ] {
            gauge.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
    }
}
