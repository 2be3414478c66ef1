//! The metrics of messages that arrive: through which door, and why one was refused.

use prometheus_client::{encoding::EncodeLabelSet, metrics::counter::Counter};

use super::{Metrics, MinuteCounts};
use sandhog_queue::{
    SendError,
    metric_series::{LivingNames, MetricFamilies, MetricSeries, SeriesLabels},
};

/// The way by which a message comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SendDoor {
    /// The routes of the listener, and with them the command line.
    Http,
    /// The protocol of SQS on the listener.
    Sqs,
    /// A handler of this host.
    Handler,
}

impl SendDoor {
    fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Sqs => "sqs",
            Self::Handler => "handler",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueDoorLabel {
    queue: String,
    door: &'static str,
}

impl SeriesLabels for QueueDoorLabel {
    const NAMES: &'static [&'static str] = &["queue", "door"];

    fn live(&self, living: &LivingNames) -> bool {
        living.queues.contains(&self.queue)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabel {
    queue: String,
    door: &'static str,
    reason: &'static str,
}

impl SeriesLabels for RefusalLabel {
    const NAMES: &'static [&'static str] = &["queue", "door", "reason"];

    fn live(&self, living: &LivingNames) -> bool {
        living.queues.contains(&self.queue)
    }
}

/// The families of arrivals.
#[derive(Debug, Default)]
pub(crate) struct ArrivalMetrics {
    arrived: MetricSeries<QueueDoorLabel, Counter>,
    refused: MetricSeries<RefusalLabel, Counter>,
}

impl ArrivalMetrics {
    pub(crate) fn register(&self, families: &mut MetricFamilies) {
        let help = "Messages that a queue accepted, by the door through which they came";
        families.series("arrived_messages", help, &self.arrived);
        let help = "Messages that a queue refused, by door and reason";
        families.series("refused_messages", help, &self.refused);
    }
}

/// The observations of arrivals. Each concerns a queue that the host has: no sender makes a series by a name.
impl Metrics {
    /// A queue accepted this number of messages.
    pub fn arrived(&self, queue: &str, door: SendDoor, messages: u64) {
        if messages == 0 {
            return;
        }
        let labels = QueueDoorLabel {
            queue: queue.to_owned(),
            door: door.as_str(),
        };
        self.arrivals.arrived.with(&labels, |metric| metric.inc_by(messages));
        let counts = MinuteCounts {
            arrived: messages,
            ..MinuteCounts::default()
        };
        self.queue_rates.add(queue, counts);
    }

    /// A queue answered so to messages that were sent to it.
    pub fn sent_through<T>(&self, door: SendDoor, queue: &str, answers: &[Result<T, SendError>]) {
        let accepted = answers.iter().filter(|answer| answer.is_ok()).count();
        self.arrived(queue, door, u64::try_from(accepted).unwrap_or(u64::MAX));
        for error in answers.iter().filter_map(|answer| answer.as_ref().err()) {
            self.refused(queue, door, error);
        }
    }

    /// A queue refused a message.
    fn refused(&self, queue: &str, door: SendDoor, error: &SendError) {
        let reason = match error {
            SendError::Invalid(_) => "invalid",
            SendError::Full { .. } => "full",
            SendError::NoSuchQueue(_) => "no-such-queue",
            SendError::Queue(_) => "unavailable",
        };
        self.refused_for(queue, door, reason);
    }

    /// A message was refused before a queue saw it.
    pub fn refused_as_invalid(&self, queue: &str, door: SendDoor) {
        self.refused_for(queue, door, "invalid");
    }

    fn refused_for(&self, queue: &str, door: SendDoor, reason: &'static str) {
        let labels = RefusalLabel {
            queue: queue.to_owned(),
            door: door.as_str(),
            reason,
        };
        self.arrivals.refused.with(&labels, Counter::inc);
    }
}
