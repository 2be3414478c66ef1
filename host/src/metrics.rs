//! The names and units of every metric, and the page that Prometheus reads.
//!
//! SeriesLabels are names of handlers and of queues, which an operator chose, and a few fixed words: nothing that a
//! guest or a sender can make up, so the number of series is bounded. A series ends with its handler or its queue. Each family
//! has a line in `docs/metrics.md`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, gauge::Gauge, histogram::Histogram},
};

pub use self::page::Format;
use crate::{
    lease::LeaseMetrics,
    metric_series::{LivingNames, MetricDescription, MetricFamilies, MetricSeries, QueueLabel, QueueResultLabel, SeriesLabels},
    queue::{Counts, simple::DiskUse, sqs::SqsMetrics},
};

mod page;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfHandler {
    handler: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Attempt {
    handler: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Settled {
    queue: String,
    settlement: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HandlerResult {
    handler: String,
    result: &'static str,
}

macro_rules! end_with {
    ($field:ident, $all:ident: $($labels:ty),*) => {
        $(impl SeriesLabels for $labels {
            fn live(&self, living: &LivingNames) -> bool {
                living.$all.contains(&self.$field)
            }
        })*
    };
}
end_with!(handler, handlers: OfHandler, Attempt, HandlerResult);
end_with!(queue, queues: Settled);

/// What a keeper of leases says of itself when the page is read: how many it holds, and the age of the oldest.
pub type LeaseProbe = Box<dyn Fn() -> (usize, Option<Duration>) + Send + Sync>;

/// Every metric of the host. Each method is one observation; all are cheap and none blocks for long.
pub struct Metrics {
    families: MetricFamilies,
    used: Mutex<BTreeMap<String, BTreeSet<String>>>,
    received: MetricSeries<QueueLabel, Counter>,
    receives: MetricSeries<QueueResultLabel, Counter>,
    not_taken: MetricSeries<QueueLabel, Counter>,
    attempts: MetricSeries<Attempt, Counter>,
    attempt_duration: MetricSeries<OfHandler, Histogram>,
    settled: MetricSeries<Settled, Counter>,
    leases: Arc<LeaseMetrics>,
    sent: MetricSeries<QueueLabel, Counter>,
    log_lines_dropped: MetricSeries<OfHandler, Counter>,
    reloads: MetricSeries<HandlerResult, Counter>,
    paused: MetricSeries<OfHandler, Gauge>,
    kept: MetricSeries<OfHandler, Gauge>,
    in_flight: MetricSeries<OfHandler, Gauge>,
    requests: Gauge,
    connections: Gauge,
    replaced: Counter,
    queues: QueueGauges,
    held_leases: LeaseGauges,
    sqs: Arc<SqsMetrics>,
    store: StoreGauges,
}

#[derive(Default)]
struct StoreGauges {
    database: Gauge,
    free: Gauge,
    log: Gauge,
    pinned_log: Gauge,
}

#[derive(Default)]
struct LeaseGauges {
    probes: Mutex<BTreeMap<u64, (String, LeaseProbe)>>,
    held: MetricSeries<QueueLabel, Gauge>,
    oldest: MetricSeries<QueueLabel, Gauge<f64, std::sync::atomic::AtomicU64>>,
}

#[derive(Default)]
struct QueueGauges {
    ready: MetricSeries<QueueLabel, Gauge>,
    in_flight: MetricSeries<QueueLabel, Gauge>,
    delayed: MetricSeries<QueueLabel, Gauge>,
    dead: MetricSeries<QueueLabel, Gauge>,
    damaged: MetricSeries<QueueLabel, Gauge>,
    oldest_age: MetricSeries<QueueLabel, Gauge<f64, std::sync::atomic::AtomicU64>>,
    expired: MetricSeries<QueueLabel, Counter>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// From a guest that does nothing to one that works for minutes, in seconds.
const DURATION_BUCKETS: [f64; 16] = [
    0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 600.0,
];

impl Metrics {
    /// All metrics at zero.
    pub fn new() -> Self {
        let leases = Arc::<LeaseMetrics>::default();
        let sqs = Arc::new(SqsMetrics::new(Arc::clone(&leases)));
        let mut metrics = Self {
            families: MetricFamilies::new(),
            used: Mutex::default(),
            received: MetricSeries::default(),
            receives: MetricSeries::default(),
            not_taken: MetricSeries::default(),
            attempts: MetricSeries::default(),
            attempt_duration: MetricSeries::new(|| Histogram::new(DURATION_BUCKETS)),
            settled: MetricSeries::default(),
            leases,
            sent: MetricSeries::default(),
            log_lines_dropped: MetricSeries::default(),
            reloads: MetricSeries::default(),
            paused: MetricSeries::default(),
            kept: MetricSeries::default(),
            in_flight: MetricSeries::default(),
            requests: Gauge::default(),
            connections: Gauge::default(),
            replaced: Counter::default(),
            queues: QueueGauges::default(),
            held_leases: LeaseGauges::default(),
            sqs,
            store: StoreGauges::default(),
        };
        metrics.register();
        metrics
    }

    /// The metrics of the leases.
    pub fn leases(&self) -> &Arc<LeaseMetrics> {
        &self.leases
    }

    /// The metrics of the SQS queues.
    pub fn sqs(&self) -> &Arc<SqsMetrics> {
        &self.sqs
    }

    /// A receive of a handler's poller has ended with so many messages.
    pub fn received(&self, queue: &str, messages: u64) {
        if messages > 0 {
            self.received.with(&QueueLabel::new(queue), |metric| metric.inc_by(messages));
        }
        self.receive_ended(queue, if messages > 0 { "messages" } else { "empty" });
    }

    /// A receive of a handler's poller has failed.
    pub fn receive_failed(&self, queue: &str) {
        self.receive_ended(queue, "failed");
    }

    fn receive_ended(&self, queue: &str, result: &'static str) {
        self.receives.with(&QueueResultLabel::new(queue, result), Counter::inc);
    }

    /// A message should have become a dead letter and stayed in its queue: there is no dead-letter queue, or it did not take it.
    pub fn dead_letter_not_taken(&self, queue: &str) {
        self.not_taken.with(&QueueLabel::new(queue), Counter::inc);
    }

    /// Shows the leases of this queue that `probe` tells of, until the answer is dropped.
    pub fn watch_leases(self: &Arc<Self>, queue: &str, probe: LeaseProbe) -> LeaseWatch {
        let mut probes = self.probes();
        let key = probes.last_key_value().map_or(0, |(last, _)| last + 1);
        probes.insert(key, (queue.to_owned(), probe));
        drop(probes);
        LeaseWatch {
            metrics: Arc::clone(self),
            queue: queue.to_owned(),
            key,
        }
    }

    fn probes(&self) -> MutexGuard<'_, BTreeMap<u64, (String, LeaseProbe)>> {
        // Every change is one call, so a panic elsewhere leaves nothing half done.
        self.held_leases.probes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the probes say now. A queue whose handler was replaced may have two for a while.
    fn look_at_leases(&self) {
        let mut queues: BTreeMap<&str, (usize, Duration)> = BTreeMap::new();
        let probes = self.probes();
        for (queue, probe) in probes.values() {
            let (held, oldest) = probe();
            let sum = queues.entry(queue).or_default();
            *sum = (sum.0 + held, sum.1.max(oldest.unwrap_or_default()));
        }
        for (queue, (held, oldest)) in queues {
            let labels = QueueLabel::new(queue);
            let held = i64::try_from(held).unwrap_or(i64::MAX);
            self.held_leases.held.with(&labels, |metric| metric.set(held));
            self.held_leases
                .oldest
                .with(&labels, |metric| metric.set(oldest.as_secs_f64()));
        }
    }

    /// An attempt has ended. `outcome` is `success` or the kind of failure.
    pub fn attempt_finished(&self, handler: &str, outcome: &'static str, duration: Duration) {
        self.attempts.with(
            &Attempt {
                handler: handler.to_owned(),
                outcome,
            },
            Counter::inc,
        );
        self.attempt_duration
            .with(&of_handler(handler), |metric| metric.observe(duration.as_secs_f64()));
    }

    /// A delivery was settled: `delete`, `retry`, `dead-letter` or `release`.
    pub fn settled(&self, queue: &str, settlement: &'static str) {
        self.settled.with(
            &Settled {
                queue: queue.to_owned(),
                settlement,
            },
            Counter::inc,
        );
    }

    /// Handlers sent `messages` to a queue, and the sends are committed.
    pub fn sends(&self, queue: &str, messages: u64) {
        self.sent.with(&QueueLabel::new(queue), |metric| metric.inc_by(messages));
    }

    /// A guest wrote more than it may: so many lines were dropped.
    pub fn log_lines_dropped(&self, handler: &str, lines: u64) {
        self.log_lines_dropped
            .with(&of_handler(handler), |metric| metric.inc_by(lines));
    }

    /// A new version of a handler was loaded: it serves (`accepted`), or it was refused.
    pub fn reloads(&self, handler: &str, accepted: bool) {
        let result = if accepted { "ok" } else { "refused" };
        self.reloads.with(
            &HandlerResult {
                handler: handler.to_owned(),
                result,
            },
            Counter::inc,
        );
    }

    /// Whether a handler is paused.
    pub fn handler_paused(&self, handler: &str, paused: bool) {
        self.paused
            .with(&of_handler(handler), |metric| metric.set(i64::from(paused)));
    }

    /// Whether a handler serves the version that was kept, because what lies in the plugin directory does not pass.
    pub fn handler_kept(&self, handler: &str, kept: bool) {
        self.kept
            .with(&of_handler(handler), |metric| metric.set(i64::from(kept)));
    }

    /// How many attempts of a handler are under way.
    pub fn in_flight(&self, handler: &str, attempts: u32) {
        self.in_flight
            .with(&of_handler(handler), |metric| metric.set(i64::from(attempts)));
    }

    /// A handler receives from and sends to these queues from now on.
    pub fn handler_uses(&self, handler: &str, queues: BTreeSet<String>) {
        self.used().insert(handler.to_owned(), queues);
    }

    /// The queues that handlers use.
    pub fn used_queues(&self) -> BTreeSet<String> {
        self.used().values().flatten().cloned().collect()
    }

    fn used(&self) -> MutexGuard<'_, BTreeMap<String, BTreeSet<String>>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A handler is gone: its gauges go with it, everything else with the next look at the page.
    pub fn handler_removed(&self, handler: &str) {
        self.used().remove(handler);
        self.paused.end(&of_handler(handler));
        self.kept.end(&of_handler(handler));
        self.in_flight.end(&of_handler(handler));
    }

    /// A request to the listener has begun; it is under way until the answer is dropped.
    pub fn request(&self) -> RequestUnderWay {
        self.requests.inc();
        RequestUnderWay(self.requests.clone())
    }

    /// The listener has a connection, until the answer is dropped.
    pub fn connection(&self) -> RequestUnderWay {
        self.connections.inc();
        RequestUnderWay(self.connections.clone())
    }

    /// The listener has ended a connection, or refused one, because there was no room for another.
    pub fn connection_replaced(&self) {
        self.replaced.inc();
    }

    /// How full a queue is; set when the page is read.
    pub fn queue_counts(&self, queue: &str, counts: &Counts) {
        let labels = QueueLabel::new(queue);
        let gauges = &self.queues;
        for (gauge, number) in [
            (&gauges.ready, counts.ready),
            (&gauges.in_flight, counts.in_flight),
            (&gauges.delayed, counts.delayed),
            (&gauges.dead, counts.dead),
            (&gauges.damaged, counts.damaged),
        ] {
            let number = i64::try_from(number).unwrap_or(i64::MAX);
            gauge.with(&labels, |gauge| gauge.set(number));
        }
        let age = Duration::from_millis(counts.oldest_age_ms.unwrap_or(0));
        gauges.oldest_age.with(&labels, |gauge| gauge.set(age.as_secs_f64()));
        // The queue counts by itself, from 0 on, and never down.
        let most = |expired: &Counter| expired.inner().fetch_max(counts.expired, Relaxed);
        gauges.expired.with(&labels, most);
    }

    /// How much room the store takes on its disk; set when the page is read.
    pub fn disk_use(&self, disk: &DiskUse) {
        let gauges = &self.store;
        for (gauge, bytes) in [
            (&gauges.database, disk.database_bytes),
            (&gauges.free, disk.free_bytes),
            (&gauges.log, disk.log_bytes),
            (&gauges.pinned_log, disk.pinned_log_bytes),
        ] {
            gauge.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
    }

    /// Ends every series of a handler and of a queue that is not among these. One that comes back starts anew.
    pub fn keep_only(&self, handlers: BTreeSet<String>, queues: BTreeSet<String>) {
        self.families.keep(&LivingNames { handlers, queues });
    }

    /// The page in the text format of Prometheus.
    pub fn page(&self) -> String {
        self.page_in(Format::Text)
    }

    /// The page in one of its formats.
    pub fn page_in(&self, format: Format) -> String {
        self.look_at_leases();
        let mut page = String::new();
        // Writing to a string does not fail, and neither do the encoders of our own labels.
        match (encode(&mut page, self.families.registry()), format) {
            (Ok(()), Format::OpenMetrics) => page,
            (Ok(()), Format::Text) => page::as_text(&page),
            (Err(fmt::Error), _) => String::new(),
        }
    }

    /// Every family that the page can have.
    pub fn families(&self) -> &[MetricDescription] {
        self.families.descriptions()
    }

    fn register(&mut self) {
        let families = &mut self.families;
        families.series("received_messages", "Messages received by handlers", &self.received);
        families.series("receives", "Receives that ended, by result", &self.receives);
        families.series("attempts", "Attempts that ended, by outcome", &self.attempts);
        families.series(
            "attempt_duration_seconds",
            "How long attempts took",
            &self.attempt_duration,
        );
        families.series("settled_deliveries", "Deliveries settled, by settlement", &self.settled);
        let help = "Messages that stayed in their queue because no dead-letter queue took them";
        families.series("dead_letters_not_taken", help, &self.not_taken);
        self.leases.register(families);
        families.series("leases", "Deliveries held, started or not", &self.held_leases.held);
        let help = "Time since the oldest delivery held was received";
        families.series("oldest_lease_age_seconds", help, &self.held_leases.oldest);
        families.series("sent_messages", "Messages sent by handlers and committed", &self.sent);
        families.series(
            "dropped_log_lines",
            "Lines of guests over their limit",
            &self.log_lines_dropped,
        );
        families.series("handler_loads", "Versions of handlers loaded, by result", &self.reloads);
        families.series("handler_paused", "1 while a handler is paused", &self.paused);
        families.series(
            "handler_kept",
            "1 while a handler serves the version that served last, because the file that is there does not pass",
            &self.kept,
        );
        families.series("handler_in_flight_attempts", "Attempts under way", &self.in_flight);
        self.register_listener();
        self.register_queues();
        self.sqs.register(&mut self.families);
        self.register_store();
    }

    fn register_listener(&mut self) {
        let families = &mut self.families;
        let help = "Requests to the listener under way";
        families.metric("listener_requests", help, self.requests.clone());
        let help = "Connections of the listener";
        families.metric("listener_connections", help, self.connections.clone());
        let help = "Connections that the listener ended or refused because it has too many";
        families.metric("listener_replaced_connections", help, self.replaced.clone());
    }

    fn register_store(&mut self) {
        let (families, store) = (&mut self.families, &self.store);
        let help = "The database file of the queues";
        families.metric("store_database_bytes", help, store.database.clone());
        let help = "What of the database file is empty";
        families.metric("store_free_bytes", help, store.free.clone());
        let help = "The write-ahead log of the queues";
        families.metric("store_log_bytes", help, store.log.clone());
        let help = "What of it a reader keeps from being emptied";
        families.metric("store_pinned_log_bytes", help, store.pinned_log.clone());
    }

    fn register_queues(&mut self) {
        let (families, queues) = (&mut self.families, &self.queues);
        families.series("queue_ready_messages", "Messages that wait", &queues.ready);
        let help = "Messages received, not settled";
        families.series("queue_in_flight_messages", help, &queues.in_flight);
        families.series("queue_delayed_messages", "Messages hidden by a delay", &queues.delayed);
        families.series("queue_dead_messages", "Dead letters of the queue", &queues.dead);
        let help = "Messages that cannot be read";
        families.series("queue_damaged_messages", help, &queues.damaged);
        let help = "Age of the oldest message not in flight";
        families.series("queue_oldest_message_age_seconds", help, &queues.oldest_age);
        let help = "Messages that the time to live has removed";
        families.series("queue_expired_messages", help, &queues.expired);
    }
}

/// Shows the leases of one keeper for as long as it is held.
#[derive(Debug)]
pub struct LeaseWatch {
    metrics: Arc<Metrics>,
    queue: String,
    key: u64,
}

impl Drop for LeaseWatch {
    fn drop(&mut self) {
        let mut probes = self.metrics.probes();
        drop(probes.remove(&self.key));
        if !probes.values().any(|(queue, _)| *queue == self.queue) {
            self.metrics.held_leases.held.end(&QueueLabel::new(&self.queue));
            self.metrics.held_leases.oldest.end(&QueueLabel::new(&self.queue));
        }
    }
}

/// Counts one request, or one connection, for as long as it is held.
#[derive(Debug)]
pub struct RequestUnderWay(Gauge);

impl Drop for RequestUnderWay {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn of_handler(handler: &str) -> OfHandler {
    OfHandler {
        handler: handler.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(observe: impl FnOnce(&Metrics), expected: &[&str]) {
        let metrics = Metrics::new();
        observe(&metrics);
        let page = metrics.page();
        // What has no label is there from the start.
        let untouched = |line: &str| !line.contains('{') && line.ends_with(" 0");
        let samples: Vec<&str> = page
            .lines()
            .filter(|line| !line.starts_with('#') && !line.contains("bucket") && !untouched(line))
            .collect();
        assert_eq!(samples, expected);
    }

    #[test]
    fn every_observation_is_on_the_page_with_its_labels() {
        check(
            |metrics| {
                metrics.received("orders", 3);
                metrics.attempt_finished("bill", "timeout", Duration::from_millis(1_500));
                metrics.settled("orders", "dead-letter");
                metrics.handler_paused("bill", true);
            },
            &[
                r#"sandhog_received_messages_total{queue="orders"} 3"#,
                r#"sandhog_receives_total{queue="orders",result="messages"} 1"#,
                r#"sandhog_attempts_total{handler="bill",outcome="timeout"} 1"#,
                r#"sandhog_attempt_duration_seconds_sum{handler="bill"} 1.5"#,
                r#"sandhog_attempt_duration_seconds_count{handler="bill"} 1"#,
                r#"sandhog_settled_deliveries_total{queue="orders",settlement="dead-letter"} 1"#,
                r#"sandhog_handler_paused{handler="bill"} 1"#,
            ],
        );
    }

    #[test]
    fn requests_to_sqs_are_counted_by_action() {
        check(
            |metrics| {
                metrics.sqs().request("orders", "ReceiveMessage");
                metrics.sqs().throttled("orders");
                metrics.sqs().settlements_failed("orders", 2);
            },
            &[
                r#"sandhog_sqs_requests_total{queue="orders",action="ReceiveMessage"} 1"#,
                r#"sandhog_sqs_throttled_requests_total{queue="orders"} 1"#,
                r#"sandhog_sqs_failed_settlements_total{queue="orders"} 2"#,
            ],
        );
    }

    #[test]
    fn the_files_of_the_store_are_measured_in_bytes() {
        let disk = DiskUse {
            database_bytes: 4,
            free_bytes: 3,
            log_bytes: 2,
            pinned_log_bytes: 1,
        };
        check(
            |metrics| metrics.disk_use(&disk),
            &[
                "sandhog_store_database_bytes 4",
                "sandhog_store_free_bytes 3",
                "sandhog_store_log_bytes 2",
                "sandhog_store_pinned_log_bytes 1",
            ],
        );
    }

    #[test]
    fn a_removed_handler_leaves_no_gauge_behind() {
        check(
            |metrics| {
                metrics.in_flight("bill", 2);
                metrics.handler_paused("bill", true);
                metrics.handler_removed("bill");
            },
            &[],
        );
    }

    #[test]
    fn series_end_with_their_handler_or_their_queue() {
        let keep = |metrics: &Metrics, handlers: &[&str], queues: &[&str]| {
            let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            metrics.keep_only(names(handlers), names(queues));
        };
        check(
            |metrics| {
                for name in ["bill", "gone"] {
                    metrics.attempt_finished(name, "success", Duration::from_secs(1));
                    metrics.reloads(name, true);
                    metrics.log_lines_dropped(name, 1);
                    metrics.received(name, 1);
                    metrics.leases().extension_started(name, Duration::from_secs(1));
                    metrics.sqs().request(name, "ReceiveMessage");
                    metrics.queue_counts(name, &Counts::default());
                }
                keep(metrics, &[], &["bill"]);
                metrics.reloads("bill", true);
                keep(metrics, &["bill"], &[]);
                metrics.sends("bill", 1);
            },
            // Nothing of what was gone is remembered.
            &[
                r#"sandhog_sent_messages_total{queue="bill"} 1"#,
                r#"sandhog_handler_loads_total{handler="bill",result="ok"} 1"#,
            ],
        );
    }

    #[test]
    fn a_queues_counts_are_gauges_with_the_age_in_seconds() {
        let counts = Counts {
            ready: 1,
            in_flight: 2,
            delayed: 3,
            oldest_age_ms: Some(4_500),
            dead: 5,
            damaged: 6,
            expired: 7,
        };
        check(
            |metrics| metrics.queue_counts("orders", &counts),
            &[
                r#"sandhog_queue_ready_messages{queue="orders"} 1"#,
                r#"sandhog_queue_in_flight_messages{queue="orders"} 2"#,
                r#"sandhog_queue_delayed_messages{queue="orders"} 3"#,
                r#"sandhog_queue_dead_messages{queue="orders"} 5"#,
                r#"sandhog_queue_damaged_messages{queue="orders"} 6"#,
                r#"sandhog_queue_oldest_message_age_seconds{queue="orders"} 4.5"#,
                r#"sandhog_queue_expired_messages_total{queue="orders"} 7"#,
            ],
        );
    }
}
