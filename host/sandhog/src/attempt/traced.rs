//! The spans of an attempt: `process` for the attempt itself, `send` for each queue that it sends to, `settle` where settling is a
//! request.
//!
//! The span of an attempt ends when its messages are settled, so that its sends and its settlement are inside of it. Spans of sends
//! and settlements are its children, and what the guest reaches gets its context.

use std::{sync::Arc, time::Duration};

use super::{AttemptContext, FinishedMessage, HandlerAttempt, HandlerVersion, SettledAs};
use crate::{
    journal::JournalSend,
    settlement::AttemptOutcome,
    traces::{HeaderRoom, HostTraces, carrying, has_context, messaging},
};
use sandhog_executor::{CallTrace, CallUsage};
use sandhog_queue::{
    Delivery, EffectSend, Queue,
    message::{Attributes, CheckedMessage, QueueName},
    printable::printable,
};
use sandhog_traces::{AttributeValue, MAX_LINKS, SpanContext, SpanKind, SpanLink, SpanRecord, SpanStart, Tracer};

/// The length to which the text of an error is cut.
const ERROR_BYTES: usize = 1024;

/// The place of an attempt in a trace.
#[derive(Debug)]
pub(crate) struct AttemptTrace {
    traces: Arc<HostTraces>,
    /// The context that is passed on: that of the attempt's span, or of the message if there are no spans.
    context: SpanContext,
    /// `None` if the host has no spans.
    span: Option<AttemptSpan>,
}

/// The span of an attempt.
#[derive(Debug)]
struct AttemptSpan {
    tracer: Tracer,
    parent: Option<SpanContext>,
    links: Vec<SpanLink>,
    start: SpanStart,
}

impl AttemptTrace {
    /// Begins the span of an attempt at these messages. `None` if there is nothing to record and nothing to pass on.
    pub(crate) fn of(context: &AttemptContext, version: &HandlerVersion, deliveries: &[Delivery]) -> Option<Box<Self>> {
        let traces = context.traces.as_ref()?;
        Self::begin(traces, deliveries, version.component.info.flavour.takes_batches())
    }

    fn begin(host: &Arc<HostTraces>, deliveries: &[Delivery], takes_batches: bool) -> Option<Box<Self>> {
        let start = SpanStart::now();
        let single = match deliveries {
            [delivery] if !takes_batches => host.context_of(&delivery.message),
            _ => None,
        };
        let Some(tracer) = host.tracer() else {
            // The sends of a batch can't be told apart by message.
            return single.map(|context| {
                Box::new(Self {
                    traces: Arc::clone(host),
                    context,
                    span: None,
                })
            });
        };
        let parent = single.filter(|_| host.makes_parents());
        let context = tracer.begin(parent.as_ref());
        let link = |delivery: &Delivery| {
            let id = ("messaging.message.id", delivery.message.id.as_str().to_owned().into());
            Some(SpanLink::new(host.context_of(&delivery.message)?, vec![id]))
        };
        let links = if context.is_sampled() {
            deliveries.iter().filter_map(link).take(MAX_LINKS).collect()
        } else {
            Vec::new()
        };
        Some(Box::new(Self {
            traces: Arc::clone(host),
            context,
            span: Some(AttemptSpan {
                tracer: tracer.clone(),
                parent,
                links,
                start,
            }),
        }))
    }

    /// Returns the context in the form that the call passes on.
    pub(crate) fn of_call(&self) -> Option<Arc<CallTrace>> {
        self.traces.of_call(&self.context)
    }

    /// Begins a part of the attempt: a child of its span.
    fn begin_part(&self) -> PartSpan {
        let context = match &self.span {
            Some(span) => span.tracer.begin(Some(&self.context)),
            None => self.context.clone(),
        };
        PartSpan {
            context,
            start: SpanStart::now(),
        }
    }

    /// Ends a part of the attempt.
    fn end_part(&self, part: &PartSpan, kind: SpanKind, about: PartFacts) {
        let Some(span) = &self.span else { return };
        if !part.context.is_sampled() {
            return;
        }
        let PartFacts {
            name,
            attributes,
            links,
            error,
        } = about;
        span.tracer.record(SpanRecord {
            context: part.context.clone(),
            parent: Some(self.context.clone()),
            kind,
            name,
            start: part.start,
            duration: part.start.elapsed(),
            attributes,
            links,
            error: error.map(|error| printable(&error, ERROR_BYTES)),
        });
    }
}

/// A part of an attempt that has begun.
#[derive(Debug)]
struct PartSpan {
    context: SpanContext,
    start: SpanStart,
}

/// What a part of an attempt is about.
#[derive(Debug)]
struct PartFacts {
    name: String,
    attributes: Vec<(&'static str, AttributeValue)>,
    links: Vec<SpanLink>,
    error: Option<String>,
}

/// The span of the sends of one attempt to one queue.
#[derive(Debug)]
pub(crate) struct SendSpan {
    queue: QueueName,
    part: PartSpan,
    messages: usize,
    /// A message carries the context of this span.
    is_carried: bool,
    /// The contexts that messages carry instead.
    links: Vec<SpanLink>,
}

impl SendSpan {
    fn new(trace: &AttemptTrace, queue: QueueName) -> Self {
        Self {
            queue,
            part: trace.begin_part(),
            messages: 0,
            is_carried: false,
            links: Vec::new(),
        }
    }

    /// Counts a message. Returns whether it is to carry the context of this span: it has none of its own.
    fn takes(&mut self, trace: &AttemptTrace, attributes: &Attributes) -> bool {
        self.messages += 1;
        if !has_context(attributes) {
            self.is_carried = true;
            return true;
        }
        if self.links.len() < MAX_LINKS
            && let Some(context) = trace.traces.context_in(attributes)
        {
            self.links.push(SpanLink::new(context, Vec::new()));
        }
        false
    }
}

/// The span of a settlement.
#[derive(Debug)]
pub(crate) struct SettleSpan(PartSpan);

impl HandlerAttempt {
    /// Returns the id of the trace in which the attempt is recorded, for the log.
    pub(crate) fn recorded_trace(&self) -> Option<String> {
        let trace = self.trace.as_ref()?;
        let is_recorded = trace.span.is_some() && trace.context.is_sampled();
        is_recorded.then(|| trace.context.trace_id())
    }

    /// Gives sends to Simple queues the context of their span, one for each queue.
    pub(crate) fn trace_sends(&self, sends: &mut [EffectSend]) -> Vec<SendSpan> {
        let Some(trace) = &self.trace else {
            return Vec::new();
        };
        let mut spans: Vec<SendSpan> = Vec::new();
        for send in sends {
            let known = spans.iter().position(|span| span.queue == send.queue);
            let index = known.unwrap_or_else(|| {
                spans.push(SendSpan::new(trace, send.queue.clone()));
                spans.len() - 1
            });
            let Some(span) = spans.get_mut(index) else { continue };
            if span.takes(trace, &send.message.attributes) {
                let carry =
                    |attributes: &mut Attributes| trace.traces.carry(&span.part.context, attributes, HeaderRoom::Among);
                send.message = carrying(send.message.clone(), carry);
            }
        }
        spans
    }

    /// Gives sends to a remote queue the context of their span. A message that the queue would not take with it stays as it is.
    pub(crate) async fn trace_remote_sends(
        &self,
        queue: &dyn Queue,
        messages: &mut [CheckedMessage],
    ) -> Option<SendSpan> {
        let trace = self.trace.as_ref()?;
        let mut span = SendSpan::new(trace, queue.name().clone());
        for message in &*messages {
            span.takes(trace, &message.attributes);
        }
        trace.traces.give(&span.part.context, queue, messages).await;
        Some(span)
    }

    /// Records sends that are done, as `sent` has them, or were refused.
    pub(crate) fn end_sends(&self, spans: Vec<SendSpan>, sent: &[JournalSend], refused: Option<&str>) {
        let Some(trace) = &self.trace else { return };
        for span in spans {
            let Some(queue) = self.context.queues.get(&span.queue) else {
                continue;
            };
            let mut attributes = messaging(&*queue, "send");
            if span.messages > 1 {
                attributes.push(("messaging.batch.message_count", span.messages.into()));
            } else if let Some(one) = sent.iter().find(|one| one.queue == span.queue.as_str()) {
                attributes.push(("messaging.message.id", one.message.clone().into()));
            }
            if refused.is_some() {
                attributes.push(("error.type", "refused".into()));
            }
            let kind = if span.is_carried {
                SpanKind::Producer
            } else {
                SpanKind::Client
            };
            let about = PartFacts {
                name: format!("send {}", span.queue),
                attributes,
                links: span.links,
                error: refused.map(str::to_owned),
            };
            trace.end_part(&span.part, kind, about);
        }
    }

    /// Begins the settlement of a delivery of a remote queue.
    pub(crate) fn trace_settlement(&self) -> Option<SettleSpan> {
        let trace = self.trace.as_ref()?;
        let is_request = self.context.queue.capabilities().calls_cost;
        is_request.then(|| SettleSpan(trace.begin_part()))
    }

    /// Records the settlement of the messages of the attempt.
    pub(crate) fn end_settlement(&self, span: Option<SettleSpan>, messages: &[FinishedMessage]) {
        let (Some(trace), Some(SettleSpan(part))) = (&self.trace, span) else {
            return;
        };
        let queue = &*self.context.queue;
        let settled = messages.iter().filter(|message| message.settled.is_some()).count();
        let mut attributes = messaging(queue, "settle");
        self.add_messages(&mut attributes, messages);
        attributes.extend(settlement_attribute(messages));
        let missing = messages.len() - settled;
        if missing > 0 {
            attributes.push(("error.type", "not-settled".into()));
        }
        let about = PartFacts {
            name: format!("settle {}", queue.name()),
            attributes,
            links: Vec::new(),
            error: (missing > 0).then(|| format!("{missing} messages are not settled")),
        };
        trace.end_part(&part, SpanKind::Client, about);
    }

    /// Adds the id of the message, or the number of messages.
    fn add_messages(&self, attributes: &mut Vec<(&'static str, AttributeValue)>, messages: &[FinishedMessage]) {
        if self.version.component.info.flavour.takes_batches() {
            attributes.push(("messaging.batch.message_count", messages.len().into()));
        } else if let [message] = messages {
            attributes.push(("messaging.message.id", message.id.as_str().to_owned().into()));
        }
    }

    /// Ends the span of the attempt, whose messages are settled. `duration` is how long the guest took.
    pub(crate) fn end_trace(&self, messages: &[FinishedMessage], duration: Duration, usage: Option<CallUsage>) {
        let Some(trace) = &self.trace else { return };
        let Some(span) = trace.span.as_ref().filter(|_| trace.context.is_sampled()) else {
            return;
        };
        let queue = &*self.context.queue;
        let mut attributes = messaging(queue, "process");
        self.add_messages(&mut attributes, messages);
        attributes.extend([
            ("sandhog.handler.name", self.context.handler.clone().into()),
            ("sandhog.handler.version", self.version.number.into()),
            (
                "sandhog.outcome",
                common(messages, |message| message.outcome.as_str()).into(),
            ),
            ("sandhog.guest.duration", duration.as_secs_f64().into()),
        ]);
        attributes.extend(settlement_attribute(messages));
        if let [message] = messages {
            let count = u64::from(message.receive_count.get());
            attributes.push(("sandhog.receive_count", count.into()));
        }
        if let Some(usage) = usage {
            attributes.push(("sandhog.guest.cpu_time", usage.cpu.as_secs_f64().into()));
        }
        let failed = messages
            .iter()
            .find_map(|message| Some((message.outcome.as_str(), error_of(&message.outcome)?)));
        if let Some((kind, _)) = &failed {
            attributes.push(("error.type", (*kind).into()));
        }
        span.tracer.record(SpanRecord {
            context: trace.context.clone(),
            parent: span.parent.clone(),
            kind: SpanKind::Consumer,
            name: format!("process {}", queue.name()),
            start: span.start,
            duration: span.start.elapsed(),
            attributes,
            links: span.links.clone(),
            error: failed.map(|(_, why)| printable(&why, ERROR_BYTES)),
        });
    }
}

/// Returns how the messages were settled, if they were.
fn settlement_attribute(messages: &[FinishedMessage]) -> Option<(&'static str, AttributeValue)> {
    let word = common(messages, |message| message.settled.as_ref().map_or("", SettledAs::word));
    (!word.is_empty()).then(|| ("sandhog.settlement", word.into()))
}

/// Returns the word that all messages have in common, or `mixed`.
fn common(messages: &[FinishedMessage], word: impl Fn(&FinishedMessage) -> &'static str) -> &'static str {
    let mut words = messages.iter().map(word);
    let first = words.next().unwrap_or_default();
    if words.all(|word| word == first) {
        first
    } else {
        "mixed"
    }
}

/// Returns why an attempt failed for a message, for people. That the host stops, or that another attempt was first, is no failure.
fn error_of(outcome: &AttemptOutcome) -> Option<String> {
    match outcome {
        AttemptOutcome::Failed(failure) | AttemptOutcome::Disputed(failure) => Some(failure.reason.clone()),
        AttemptOutcome::HostFault(reason) => Some(reason.clone()),
        AttemptOutcome::LeaseLost => Some("the lease was lost".to_owned()),
        AttemptOutcome::Success
        | AttemptOutcome::AlreadyHandled
        | AttemptOutcome::Conflict(_)
        | AttemptOutcome::Interrupted => None,
    }
}
