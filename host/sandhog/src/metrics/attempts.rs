//! The metrics of dispatchers and of their attempts.

use std::time::Duration;

use prometheus_client::metrics::{counter::Counter, gauge::Gauge, histogram::Histogram};

use super::{
    Metrics, MinuteCounts, SendDoor,
    labels::{HandlerLabel, OutcomeLabel, SettlementLabel},
};
use sandhog_queue::metric_series::{MetricFamilies, MetricSeries, QueueLabel, QueueResultLabel};

/// From a guest that does nothing to one that works for minutes, in seconds.
const DURATION_BUCKETS: [f64; 16] = [
    0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 600.0,
];

/// The families of receives, attempts and settlements.
#[derive(Debug)]
pub(crate) struct AttemptMetrics {
    received: MetricSeries<QueueLabel, Counter>,
    receives: MetricSeries<QueueResultLabel, Counter>,
    attempts: MetricSeries<OutcomeLabel, Counter>,
    durations: MetricSeries<HandlerLabel, Histogram>,
    settled: MetricSeries<SettlementLabel, Counter>,
    dead_letters_not_taken: MetricSeries<QueueLabel, Counter>,
    sent: MetricSeries<QueueLabel, Counter>,
    dropped_log_lines: MetricSeries<HandlerLabel, Counter>,
    paused: MetricSeries<HandlerLabel, Gauge>,
    halted: MetricSeries<HandlerLabel, Gauge>,
    pauses: MetricSeries<HandlerLabel, Counter>,
    in_flight: MetricSeries<HandlerLabel, Gauge>,
}

impl Default for AttemptMetrics {
    fn default() -> Self {
        Self {
            received: MetricSeries::default(),
            receives: MetricSeries::default(),
            attempts: MetricSeries::default(),
            durations: MetricSeries::new(|| Histogram::new(DURATION_BUCKETS)),
            settled: MetricSeries::default(),
            dead_letters_not_taken: MetricSeries::default(),
            sent: MetricSeries::default(),
            dropped_log_lines: MetricSeries::default(),
            paused: MetricSeries::default(),
            halted: MetricSeries::default(),
            pauses: MetricSeries::default(),
            in_flight: MetricSeries::default(),
        }
    }
}

impl AttemptMetrics {
    pub(crate) fn register(&self, families: &mut MetricFamilies) {
        families.series("received_messages", "Messages received by handlers", &self.received);
        families.series("receives", "Receives that ended, by result", &self.receives);
        families.series("attempts", "Attempts that ended, by outcome", &self.attempts);
        families.series("attempt_duration_seconds", "How long attempts took", &self.durations);
        families.series("settled_deliveries", "Deliveries settled, by settlement", &self.settled);
        let help = "Messages that stayed in their queue because no dead-letter queue took them";
        families.series("dead_letters_not_taken", help, &self.dead_letters_not_taken);
        families.series("sent_messages", "Messages sent by handlers and committed", &self.sent);
        let help = "Lines of guests over their limit";
        families.series("dropped_log_lines", help, &self.dropped_log_lines);
        families.series("handler_paused", "1 while a handler is paused", &self.paused);
        let help = "1 while an operator has paused the handler";
        families.series("handler_halted", help, &self.halted);
        families.series("handler_pauses", "Pauses of a handler that began", &self.pauses);
        families.series("handler_in_flight_attempts", "Attempts under way", &self.in_flight);
    }

    /// Ends the gauges of a handler that is gone.
    pub(crate) fn handler_removed(&self, handler: &str) {
        let label = HandlerLabel::new(handler);
        self.paused.end(&label);
        self.halted.end(&label);
        self.in_flight.end(&label);
    }
}

/// The observations of dispatchers and attempts.
impl Metrics {
    /// A receive of a handler's poller has ended with this number of messages.
    pub fn received(&self, queue: &str, messages: u64) {
        if messages > 0 {
            let received = &self.attempts.received;
            received.with(&QueueLabel::new(queue), |metric| metric.inc_by(messages));
        }
        self.receive_ended(queue, if messages > 0 { "messages" } else { "empty" });
    }

    /// A receive of a handler's poller has failed.
    pub fn receive_failed(&self, queue: &str) {
        self.receive_ended(queue, "failed");
    }

    fn receive_ended(&self, queue: &str, result: &'static str) {
        let labels = QueueResultLabel::new(queue, result);
        self.attempts.receives.with(&labels, Counter::inc);
    }

    /// An attempt has ended. `outcome` is `success` or the kind of failure.
    pub fn attempt_finished(&self, handler: &str, outcome: &'static str, duration: Duration) {
        let labels = OutcomeLabel::new(handler, outcome);
        self.attempts.attempts.with(&labels, Counter::inc);
        let seconds = duration.as_secs_f64();
        let durations = &self.attempts.durations;
        durations.with(&HandlerLabel::new(handler), |metric| metric.observe(seconds));
        let counts = match outcome {
            "success" | "already-handled" => MinuteCounts::HANDLED,
            // It comes to nothing, and is no failure.
            "conflict" | "interrupted" => return,
            _ => MinuteCounts::FAILED,
        };
        self.handler_rates.add(handler, counts);
    }

    /// A delivery was settled: `delete`, `retry`, `dead-letter` or `release`.
    pub fn settled(&self, queue: &str, settlement: &'static str) {
        let labels = SettlementLabel::new(queue, settlement);
        self.attempts.settled.with(&labels, Counter::inc);
        let counts = match settlement {
            "delete" => MinuteCounts::HANDLED,
            "release" => return,
            _ => MinuteCounts::FAILED,
        };
        self.queue_rates.add(queue, counts);
    }

    /// A message stayed in its queue instead of becoming a dead letter: it has no dead-letter queue, or that queue did not take
    /// the message.
    pub fn dead_letter_not_taken(&self, queue: &str) {
        let not_taken = &self.attempts.dead_letters_not_taken;
        not_taken.with(&QueueLabel::new(queue), Counter::inc);
    }

    /// Handlers sent this number of messages to a queue, and the sends are committed.
    pub fn sends(&self, queue: &str, messages: u64) {
        self.arrived(queue, SendDoor::Handler, messages);
        let sent = &self.attempts.sent;
        sent.with(&QueueLabel::new(queue), |metric| metric.inc_by(messages));
    }

    /// A guest wrote more lines than it may, and this number of them were dropped.
    pub fn log_lines_dropped(&self, handler: &str, lines: u64) {
        let dropped = &self.attempts.dropped_log_lines;
        dropped.with(&HandlerLabel::new(handler), |metric| metric.inc_by(lines));
    }

    /// A handler is paused, or is not.
    pub fn handler_paused(&self, handler: &str, paused: bool) {
        if paused {
            self.attempts.pauses.with(&HandlerLabel::new(handler), Counter::inc);
        }
        let gauge = &self.attempts.paused;
        gauge.with(&HandlerLabel::new(handler), |metric| metric.set(i64::from(paused)));
    }

    /// An operator has paused a handler, or has not.
    pub fn handler_halted(&self, handler: &str, halted: bool) {
        let gauge = &self.attempts.halted;
        gauge.with(&HandlerLabel::new(handler), |metric| metric.set(i64::from(halted)));
    }

    /// A handler has this number of attempts under way.
    pub fn in_flight(&self, handler: &str, attempts: u32) {
        let gauge = &self.attempts.in_flight;
        gauge.with(&HandlerLabel::new(handler), |metric| metric.set(i64::from(attempts)));
    }
}
