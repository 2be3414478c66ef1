//! Every metric of the host: the groups that the modules own, and the page that Prometheus reads.
//!
//! Labels are names of handlers and of queues, which an operator chose, and a few fixed words. No guest and no sender can make
//! one up, so the number of series is bounded. A series ends with its handler or its queue. Each family has a line in
//! `docs/reference/metrics.md`.

use std::{collections::BTreeSet, fmt, sync::Arc};

use prometheus_client::encoding::text::encode;

use self::{
    arrivals::ArrivalMetrics, attempts::AttemptMetrics, calls::CallMetrics, process::ProcessMetrics, rates::MinuteRates,
};
pub use self::{arrivals::SendDoor, page::PageFormat, rates::MinuteCounts};
use crate::{
    admin::ListenerMetrics,
    handler_set::{HandlerMetrics, HeldLeases},
    queue_set::QueueMetrics,
};
use sandhog_queue::{
    lease::LeaseMetrics,
    metric_series::{LivingNames, MetricDescription, MetricFamilies},
};
use sandhog_sqs::SqsMetrics;
use sandhog_traces::TraceMetrics;

mod arrivals;
mod attempts;
mod calls;
pub(crate) mod labels;
mod page;
mod process;
mod rates;

/// Every metric of the host. Each method of a group is one observation; all are cheap and none blocks for long.
pub struct Metrics {
    families: MetricFamilies,
    arrivals: ArrivalMetrics,
    attempts: AttemptMetrics,
    calls: CallMetrics,
    handlers: HandlerMetrics,
    held_leases: Arc<HeldLeases>,
    leases: Arc<LeaseMetrics>,
    listener: ListenerMetrics,
    process: ProcessMetrics,
    queues: QueueMetrics,
    sqs: Arc<SqsMetrics>,
    traces: Arc<TraceMetrics>,
    handler_rates: MinuteRates,
    queue_rates: MinuteRates,
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

impl Metrics {
    /// All metrics at zero.
    pub fn new() -> Self {
        let leases = Arc::<LeaseMetrics>::default();
        let sqs = Arc::new(SqsMetrics::new(Arc::clone(&leases)));
        let mut metrics = Self {
            families: MetricFamilies::new(),
            arrivals: ArrivalMetrics::default(),
            attempts: AttemptMetrics::default(),
            calls: CallMetrics::default(),
            handlers: HandlerMetrics::default(),
            held_leases: Arc::default(),
            leases,
            listener: ListenerMetrics::default(),
            process: ProcessMetrics::default(),
            queues: QueueMetrics::default(),
            sqs,
            traces: Arc::default(),
            handler_rates: MinuteRates::default(),
            queue_rates: MinuteRates::default(),
        };
        metrics.arrivals.register(&mut metrics.families);
        metrics.attempts.register(&mut metrics.families);
        metrics.calls.register(&mut metrics.families);
        metrics.handlers.register(&mut metrics.families);
        metrics.held_leases.register(&mut metrics.families);
        metrics.leases.register(&mut metrics.families);
        metrics.listener.register(&mut metrics.families);
        metrics.process.register(&mut metrics.families);
        metrics.queues.register(&mut metrics.families);
        metrics.sqs.register(&mut metrics.families);
        metrics.traces.register(&mut metrics.families);
        metrics
    }

    /// The metrics of the versions that handlers serve.
    pub fn handlers(&self) -> &HandlerMetrics {
        &self.handlers
    }

    /// The gauges of held leases.
    pub fn held_leases(&self) -> &Arc<HeldLeases> {
        &self.held_leases
    }

    /// The metrics of the leases.
    pub fn leases(&self) -> &Arc<LeaseMetrics> {
        &self.leases
    }

    /// The metrics of the listener.
    pub fn listener(&self) -> &ListenerMetrics {
        &self.listener
    }

    /// The metrics of the queues and of the store.
    pub fn queues(&self) -> &QueueMetrics {
        &self.queues
    }

    /// The metrics of the SQS queues.
    pub fn sqs(&self) -> &Arc<SqsMetrics> {
        &self.sqs
    }

    /// The metrics of the export of spans.
    pub fn traces(&self) -> &Arc<TraceMetrics> {
        &self.traces
    }

    /// Returns what became of the messages of a handler in the last minute.
    pub fn handler_minute(&self, handler: &str) -> MinuteCounts {
        self.handler_rates.last_minute(handler)
    }

    /// Returns the same, second by second, oldest first; empty of a handler that did nothing.
    pub(crate) fn handler_seconds(&self, handler: &str) -> Vec<MinuteCounts> {
        self.handler_rates.seconds(handler)
    }

    /// Returns what came to a queue in the last minute, and what handlers made of its messages.
    pub fn queue_minute(&self, queue: &str) -> MinuteCounts {
        self.queue_rates.last_minute(queue)
    }

    /// Returns the same, second by second, oldest first; empty of a queue to which nothing came.
    pub(crate) fn queue_seconds(&self, queue: &str) -> Vec<MinuteCounts> {
        self.queue_rates.seconds(queue)
    }

    /// A handler is gone. Its gauges end now, and its counters with the next look at the page.
    pub fn handler_removed(&self, handler: &str) {
        self.attempts.handler_removed(handler);
        self.handlers.removed(handler);
    }

    /// Ends every series whose handler or queue is not among these. A series that comes back starts anew.
    pub fn keep_only(&self, handlers: BTreeSet<String>, queues: BTreeSet<String>) {
        self.families.keep(&LivingNames { handlers, queues });
    }

    /// Returns the page in the text format of Prometheus.
    pub fn page(&self) -> String {
        self.page_in(PageFormat::Text)
    }

    /// Returns the page in one of its formats.
    pub fn page_in(&self, format: PageFormat) -> String {
        self.held_leases.look();
        self.process.look();
        let mut page = String::new();
        // Writing to a string does not fail, and neither do the encoders of our own labels.
        match (encode(&mut page, self.families.registry()), format) {
            (Ok(()), PageFormat::OpenMetrics) => page,
            (Ok(()), PageFormat::Text) => page::as_text(&page),
            (Err(fmt::Error), _) => String::new(),
        }
    }

    /// Returns the descriptions of every family that the page can have.
    pub fn families(&self) -> &[MetricDescription] {
        self.families.descriptions()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use sandhog_executor::CallUsage;
    use sandhog_queue::Counts;
    use sandhog_simple::DiskUse;

    fn check(observe: impl FnOnce(&Metrics), expected: &[&str]) {
        let metrics = Metrics::new();
        observe(&metrics);
        let page = metrics.page();
        // Metrics without labels are on the page from the start.
        let untouched = |line: &str| !line.contains('{') && line.ends_with(" 0");
        let samples: Vec<&str> = page
            .lines()
            .filter(|line| !line.starts_with('#') && !line.contains("bucket") && !untouched(line))
            .filter(|line| !line.starts_with("process_") && !line.starts_with("sandhog_build_info"))
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
                r#"sandhog_handler_pauses_total{handler="bill"} 1"#,
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
            uncopied_log_bytes: 5,
        };
        check(
            |metrics| metrics.queues().disk_use(&disk),
            &[
                "sandhog_store_database_bytes 4",
                "sandhog_store_free_bytes 3",
                "sandhog_store_log_bytes 2",
                "sandhog_store_pinned_log_bytes 1",
                "sandhog_store_uncopied_log_bytes 5",
            ],
        );
    }

    #[test]
    fn arrivals_and_costs_are_on_the_page() {
        let usage = CallUsage {
            cpu: Duration::from_millis(250),
            memory_peak: 131_072,
            ..CallUsage::default()
        };
        check(
            |metrics| {
                metrics.arrived("orders", SendDoor::Http, 2);
                metrics.arrived("orders", SendDoor::Sqs, 0);
                metrics.refused_as_invalid("orders", SendDoor::Sqs);
                metrics.waited("bill", Duration::from_millis(500));
                metrics.call_cost("bill", &usage);
            },
            &[
                r#"sandhog_arrived_messages_total{queue="orders",door="http"} 2"#,
                r#"sandhog_refused_messages_total{queue="orders",door="sqs",reason="invalid"} 1"#,
                r#"sandhog_handler_wait_seconds_sum{handler="bill"} 0.5"#,
                r#"sandhog_handler_wait_seconds_count{handler="bill"} 1"#,
                r#"sandhog_handler_cpu_seconds_total{handler="bill"} 0.25"#,
                r#"sandhog_handler_memory_bytes_sum{handler="bill"} 131072.0"#,
                r#"sandhog_handler_memory_bytes_count{handler="bill"} 1"#,
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
            &[r#"sandhog_handler_pauses_total{handler="bill"} 1"#],
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
                    metrics.handlers().loaded(name, true);
                    metrics.log_lines_dropped(name, 1);
                    metrics.received(name, 1);
                    metrics.leases().extension_started(name, Duration::from_secs(1));
                    metrics.sqs().request(name, "ReceiveMessage");
                    metrics.queues().counts(name, &Counts::default());
                }
                keep(metrics, &[], &["bill"]);
                metrics.handlers().loaded("bill", true);
                keep(metrics, &["bill"], &[]);
                metrics.sends("bill", 1);
            },
            // Nothing of what was gone is remembered.
            &[
                r#"sandhog_arrived_messages_total{queue="bill",door="handler"} 1"#,
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
            |metrics| metrics.queues().counts("orders", &counts),
            &[
                r#"sandhog_queue_ready_messages{queue="orders"} 1"#,
                r#"sandhog_queue_in_flight_messages{queue="orders"} 2"#,
                r#"sandhog_queue_delayed_messages{queue="orders"} 3"#,
                r#"sandhog_queue_dead_letters{queue="orders"} 5"#,
                r#"sandhog_queue_damaged_messages{queue="orders"} 6"#,
                r#"sandhog_queue_oldest_message_age_seconds{queue="orders"} 4.5"#,
                r#"sandhog_queue_expired_messages_total{queue="orders"} 7"#,
            ],
        );
    }
}
