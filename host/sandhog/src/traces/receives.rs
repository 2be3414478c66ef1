//! The spans of receives from remote queues.
//!
//! A receive that brings nothing has no span: an idle queue would have one every twenty seconds. That of a local queue has none either,
//! since nothing is asked of anybody.

use super::HostTraces;
use sandhog_queue::{Delivery, Queue, QueueError, printable::chain};
use sandhog_traces::{SpanKind, SpanLink, SpanRecord, SpanStart};

impl HostTraces {
    /// Records a receive that has ended.
    pub(crate) fn received(&self, queue: &dyn Queue, start: SpanStart, answer: &Result<Vec<Delivery>, QueueError>) {
        let Some(tracer) = self.tracer() else { return };
        let messages = answer.as_ref().map_or(0, Vec::len);
        if messages == 0 && answer.is_ok() {
            return;
        }
        let context = tracer.begin(None);
        if !context.is_sampled() {
            return;
        }
        let link = |delivery: &Delivery| {
            let id = ("messaging.message.id", delivery.message.id.as_str().to_owned().into());
            Some(SpanLink::new(self.context_of(&delivery.message)?, vec![id]))
        };
        let mut attributes = messaging(queue, "receive");
        attributes.push(("messaging.batch.message_count", messages.into()));
        let error = answer.as_ref().err();
        if error.is_some() {
            attributes.push(("error.type", "unavailable".into()));
        }
        tracer.record(SpanRecord {
            context,
            parent: None,
            kind: SpanKind::Client,
            name: format!("receive {}", queue.name()),
            start,
            duration: start.elapsed(),
            attributes,
            links: answer.iter().flatten().filter_map(link).collect(),
            error: error.map(|error| chain(error)),
        });
    }
}

/// The attributes that all spans about a queue have.
pub(crate) fn messaging(
    queue: &dyn Queue,
    operation: &'static str,
) -> Vec<(&'static str, sandhog_traces::AttributeValue)> {
    vec![
        ("messaging.system", queue.capabilities().messaging_system.into()),
        ("messaging.operation.name", operation.into()),
        ("messaging.operation.type", operation.into()),
        ("messaging.destination.name", queue.name().as_str().to_owned().into()),
    ]
}
