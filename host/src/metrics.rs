//! The names and units of every metric, and the page that Prometheus reads.
//!
//! Labels are names of handlers and of queues, which an operator chose, and a few fixed words: nothing that a
//! guest or a sender can make up, so the number of series is bounded.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::queue::{Counts, simple::DiskUse};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfHandler {
    handler: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfQueue {
    queue: String,
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
struct QueueResult {
    queue: String,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueAction {
    queue: String,
    action: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HandlerResult {
    handler: String,
    result: &'static str,
}

/// What a keeper of leases says of itself when the page is read: how many it holds, and the age of the oldest.
pub type LeaseProbe = Box<dyn Fn() -> (usize, Option<Duration>) + Send + Sync>;

type Durations = Family<OfHandler, Histogram, fn() -> Histogram>;

/// Every metric of the host. Each method is one observation; all are cheap and none blocks for long.
pub struct Metrics {
    registry: Registry,
    received: Family<OfQueue, Counter>,
    receives: Family<QueueResult, Counter>,
    not_taken: Family<OfQueue, Counter>,
    attempts: Family<Attempt, Counter>,
    attempt_duration: Durations,
    settled: Family<Settled, Counter>,
    leases_lost: Family<OfQueue, Counter>,
    extensions: Family<QueueResult, Counter>,
    extension_lateness: Family<OfQueue, Histogram, fn() -> Histogram>,
    sent: Family<OfQueue, Counter>,
    log_lines_dropped: Family<OfHandler, Counter>,
    reloads: Family<HandlerResult, Counter>,
    paused: Family<OfHandler, Gauge>,
    in_flight: Family<OfHandler, Gauge>,
    requests: Gauge,
    queues: QueueGauges,
    leases: LeaseGauges,
    sqs: SqsCounters,
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
    held: Family<OfQueue, Gauge>,
    oldest: Family<OfQueue, Gauge<f64, std::sync::atomic::AtomicU64>>,
}

#[derive(Default)]
struct SqsCounters {
    requests: Family<QueueAction, Counter>,
    throttled: Family<OfQueue, Counter>,
    deletes_failed: Family<OfQueue, Counter>,
}

#[derive(Default)]
struct QueueGauges {
    ready: Family<OfQueue, Gauge>,
    in_flight: Family<OfQueue, Gauge>,
    delayed: Family<OfQueue, Gauge>,
    dead: Family<OfQueue, Gauge>,
    damaged: Family<OfQueue, Gauge>,
    oldest_age: Family<OfQueue, Gauge<f64, std::sync::atomic::AtomicU64>>,
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

/// From a timer's usual delay to one that puts short visibility timeouts at risk, in seconds.
const LATENESS_BUCKETS: [f64; 10] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

impl Metrics {
    /// All metrics at zero.
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("sandhog"),
            received: Family::default(),
            receives: Family::default(),
            not_taken: Family::default(),
            attempts: Family::default(),
            attempt_duration: Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS)),
            settled: Family::default(),
            leases_lost: Family::default(),
            extensions: Family::default(),
            extension_lateness: Family::new_with_constructor(|| Histogram::new(LATENESS_BUCKETS)),
            sent: Family::default(),
            log_lines_dropped: Family::default(),
            reloads: Family::default(),
            paused: Family::default(),
            in_flight: Family::default(),
            requests: Gauge::default(),
            queues: QueueGauges::default(),
            leases: LeaseGauges::default(),
            sqs: SqsCounters::default(),
            store: StoreGauges::default(),
        };
        metrics.register();
        metrics
    }

    /// A receive of a handler's poller has ended with so many messages.
    pub fn received(&self, queue: &str, messages: u64) {
        if messages > 0 {
            self.received.get_or_create(&of_queue(queue)).inc_by(messages);
        }
        self.receive_ended(queue, if messages > 0 { "messages" } else { "empty" });
    }

    /// A receive of a handler's poller has failed.
    pub fn receive_failed(&self, queue: &str) {
        self.receive_ended(queue, "failed");
    }

    fn receive_ended(&self, queue: &str, result: &'static str) {
        self.receives
            .get_or_create(&QueueResult {
                queue: queue.to_owned(),
                result,
            })
            .inc();
    }

    /// A message should have become a dead letter and stayed in its queue: there is no dead-letter queue, or it did not take it.
    pub fn dead_letter_not_taken(&self, queue: &str) {
        self.not_taken.get_or_create(&of_queue(queue)).inc();
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
        self.leases.probes.lock().unwrap_or_else(PoisonError::into_inner)
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
            let labels = of_queue(queue);
            let held = i64::try_from(held).unwrap_or(i64::MAX);
            self.leases.held.get_or_create(&labels).set(held);
            self.leases.oldest.get_or_create(&labels).set(oldest.as_secs_f64());
        }
    }

    /// An attempt has ended. `outcome` is `success` or the kind of failure.
    pub fn attempt_finished(&self, handler: &str, outcome: &'static str, duration: Duration) {
        self.attempts
            .get_or_create(&Attempt {
                handler: handler.to_owned(),
                outcome,
            })
            .inc();
        self.attempt_duration
            .get_or_create(&of_handler(handler))
            .observe(duration.as_secs_f64());
    }

    /// A delivery was settled: `delete`, `retry`, `dead-letter` or `release`.
    pub fn settled(&self, queue: &str, settlement: &'static str) {
        self.settled
            .get_or_create(&Settled {
                queue: queue.to_owned(),
                settlement,
            })
            .inc();
    }

    /// A delivery's visibility ran out under an attempt, which was interrupted.
    pub fn lease_lost(&self, queue: &str) {
        self.leases_lost.get_or_create(&of_queue(queue)).inc();
    }

    /// So many leases were extended, and so many could not be.
    pub fn extensions(&self, queue: &str, extended: u64, failed: u64) {
        for (result, number) in [("ok", extended), ("failed", failed)] {
            self.extensions
                .get_or_create(&QueueResult {
                    queue: queue.to_owned(),
                    result,
                })
                .inc_by(number);
        }
    }

    /// An extension was started so long after the half-life of its lease.
    pub fn extension_started(&self, queue: &str, late: Duration) {
        self.extension_lateness
            .get_or_create(&of_queue(queue))
            .observe(late.as_secs_f64());
    }

    /// Handlers sent `messages` to a queue, and the sends are committed.
    pub fn sends(&self, queue: &str, messages: u64) {
        self.sent.get_or_create(&of_queue(queue)).inc_by(messages);
    }

    /// A guest wrote more than it may: so many lines were dropped.
    pub fn log_lines_dropped(&self, handler: &str, lines: u64) {
        self.log_lines_dropped.get_or_create(&of_handler(handler)).inc_by(lines);
    }

    /// A new version of a handler was loaded: it serves (`accepted`), or it was refused.
    pub fn reloads(&self, handler: &str, accepted: bool) {
        let result = if accepted { "ok" } else { "refused" };
        self.reloads
            .get_or_create(&HandlerResult {
                handler: handler.to_owned(),
                result,
            })
            .inc();
    }

    /// Whether a handler is paused.
    pub fn handler_paused(&self, handler: &str, paused: bool) {
        self.paused.get_or_create(&of_handler(handler)).set(i64::from(paused));
    }

    /// How many attempts of a handler are under way.
    pub fn in_flight(&self, handler: &str, attempts: u32) {
        self.in_flight
            .get_or_create(&of_handler(handler))
            .set(i64::from(attempts));
    }

    /// A handler is gone: its gauges go with it, its counters stay.
    pub fn handler_removed(&self, handler: &str) {
        self.paused.remove(&of_handler(handler));
        self.in_flight.remove(&of_handler(handler));
    }

    /// A request to the listener has begun; it is under way until the answer is dropped.
    pub fn request(&self) -> RequestUnderWay {
        self.requests.inc();
        RequestUnderWay(self.requests.clone())
    }

    /// A request was made to SQS for a queue; `action` is its name there. What the SDK repeats by itself is not counted.
    pub fn sqs_request(&self, queue: &str, action: &'static str) {
        self.sqs
            .requests
            .get_or_create(&QueueAction {
                queue: queue.to_owned(),
                action,
            })
            .inc();
    }

    /// SQS refused a request, or an entry of one, because there were too many.
    pub fn throttled(&self, queue: &str) {
        self.sqs.throttled.get_or_create(&of_queue(queue)).inc();
    }

    /// SQS did not take so many deletions or changes of visibility that end a delivery.
    pub fn deletes_failed(&self, queue: &str, settlements: u64) {
        self.sqs
            .deletes_failed
            .get_or_create(&of_queue(queue))
            .inc_by(settlements);
    }

    /// How full a queue is; set when the page is read.
    pub fn queue_counts(&self, queue: &str, counts: &Counts) {
        let labels = of_queue(queue);
        let gauges = &self.queues;
        for (gauge, number) in [
            (&gauges.ready, counts.ready),
            (&gauges.in_flight, counts.in_flight),
            (&gauges.delayed, counts.delayed),
            (&gauges.dead, counts.dead),
            (&gauges.damaged, counts.damaged),
        ] {
            gauge
                .get_or_create(&labels)
                .set(i64::try_from(number).unwrap_or(i64::MAX));
        }
        let age = Duration::from_millis(counts.oldest_age_ms.unwrap_or(0));
        gauges.oldest_age.get_or_create(&labels).set(age.as_secs_f64());
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

    /// The page, in the `OpenMetrics` text format (`application/openmetrics-text; version=1.0.0; charset=utf-8`).
    pub fn page(&self) -> String {
        self.look_at_leases();
        let mut page = String::new();
        // Writing to a string does not fail, and neither do the encoders of our own labels.
        match encode(&mut page, &self.registry) {
            Ok(()) => page,
            Err(fmt::Error) => String::new(),
        }
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "received_messages",
            "Messages received by handlers",
            self.received.clone(),
        );
        registry.register("receives", "Receives that ended, by result", self.receives.clone());
        registry.register("attempts", "Attempts that ended, by outcome", self.attempts.clone());
        let help = "How long attempts took";
        registry.register_with_unit("attempt_duration", help, Unit::Seconds, self.attempt_duration.clone());
        registry.register(
            "settled_deliveries",
            "Deliveries settled, by settlement",
            self.settled.clone(),
        );
        let help = "Messages that stayed in their queue because no dead-letter queue took them";
        registry.register("dead_letters_not_taken", help, self.not_taken.clone());
        registry.register(
            "lost_leases",
            "Deliveries whose visibility ran out",
            self.leases_lost.clone(),
        );
        registry.register(
            "lease_extensions",
            "Extensions of leases, by result",
            self.extensions.clone(),
        );
        let help = "How late extensions of leases were started";
        let late = self.extension_lateness.clone();
        registry.register_with_unit("lease_extension_lateness", help, Unit::Seconds, late);
        registry.register("leases", "Deliveries held, started or not", self.leases.held.clone());
        let help = "Time since the oldest delivery held was received";
        registry.register_with_unit("oldest_lease_age", help, Unit::Seconds, self.leases.oldest.clone());
        registry.register(
            "sent_messages",
            "Messages sent by handlers and committed",
            self.sent.clone(),
        );
        registry.register(
            "dropped_log_lines",
            "Lines of guests over their limit",
            self.log_lines_dropped.clone(),
        );
        registry.register(
            "handler_loads",
            "Versions of handlers loaded, by result",
            self.reloads.clone(),
        );
        registry.register("handler_paused", "1 while a handler is paused", self.paused.clone());
        registry.register(
            "handler_in_flight_attempts",
            "Attempts under way",
            self.in_flight.clone(),
        );
        registry.register(
            "listener_requests",
            "Requests to the listener under way",
            self.requests.clone(),
        );
        self.register_queues();
        self.register_sqs();
        self.register_store();
    }

    fn register_sqs(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "sqs_requests",
            "Requests made to SQS, by action",
            self.sqs.requests.clone(),
        );
        registry.register(
            "sqs_throttled_requests",
            "Requests to SQS, or entries of them, that were throttled",
            self.sqs.throttled.clone(),
        );
        registry.register(
            "sqs_failed_settlements",
            "Settlements that SQS did not take",
            self.sqs.deletes_failed.clone(),
        );
    }

    fn register_store(&mut self) {
        for (name, help, gauge) in [
            (
                "store_database",
                "The database file of the queues",
                &self.store.database,
            ),
            ("store_free", "What of the database file is empty", &self.store.free),
            ("store_log", "The write-ahead log of the queues", &self.store.log),
            (
                "store_pinned_log",
                "What of it a reader keeps from being emptied",
                &self.store.pinned_log,
            ),
        ] {
            self.registry.register_with_unit(name, help, Unit::Bytes, gauge.clone());
        }
    }

    fn register_queues(&mut self) {
        let registry = &mut self.registry;
        let queues = &self.queues;
        registry.register("queue_ready_messages", "Messages that wait", queues.ready.clone());
        registry.register(
            "queue_in_flight_messages",
            "Messages received, not settled",
            queues.in_flight.clone(),
        );
        registry.register(
            "queue_delayed_messages",
            "Messages hidden by a delay",
            queues.delayed.clone(),
        );
        registry.register("queue_dead_messages", "Dead letters of the queue", queues.dead.clone());
        registry.register(
            "queue_damaged_messages",
            "Messages that cannot be read",
            queues.damaged.clone(),
        );
        let help = "Age of the oldest message not in flight";
        registry.register_with_unit(
            "queue_oldest_message_age",
            help,
            Unit::Seconds,
            queues.oldest_age.clone(),
        );
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
            self.metrics.leases.held.remove(&of_queue(&self.queue));
            self.metrics.leases.oldest.remove(&of_queue(&self.queue));
        }
    }
}

/// Counts one request for as long as it is held.
#[derive(Debug)]
pub struct RequestUnderWay(Gauge);

impl Drop for RequestUnderWay {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn of_queue(queue: &str) -> OfQueue {
    OfQueue {
        queue: queue.to_owned(),
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
                metrics.sqs_request("orders", "ReceiveMessage");
                metrics.throttled("orders");
                metrics.deletes_failed("orders", 2);
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
    fn a_queues_counts_are_gauges_with_the_age_in_seconds() {
        let counts = Counts {
            ready: 1,
            in_flight: 2,
            delayed: 3,
            oldest_age_ms: Some(4_500),
            dead: 5,
            damaged: 6,
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
            ],
        );
    }
}
