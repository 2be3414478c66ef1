//! The traces that the host takes part in: the context that a message carries, and the one that it is given.
//!
//! Invariants: a message that carries a context, of whatever form, keeps it as it is; what the host adds never makes a message one that
//! its queue refuses. Without the variables of OpenTelemetry there is none of this: the host looks at no message and adds nothing.
//! Knows nothing of attempts.

use std::sync::Arc;

use sandhog_executor::CallTrace;
use sandhog_queue::{
    Queue, SendError,
    message::{AttributeValue, Attributes, CheckedMessage, MAX_ATTRIBUTES, Message, TRACE_HEADER},
};
use sandhog_traces::{Propagation, SpanContext, TraceExporter, TraceMetrics, TraceSettings, Tracer};

mod keeper;
mod receives;

pub(crate) use keeper::TraceKeeper;
pub(crate) use receives::messaging;

/// The attributes of a message in which a context travels.
const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

/// The traces that a host takes part in.
#[derive(Debug)]
pub struct HostTraces {
    /// `None` if the host only passes contexts on.
    tracer: Option<Tracer>,
    propagation: Propagation,
    /// The context of a message is the parent of the span of its attempt.
    parents: bool,
}

/// Where the trace header finds room in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderRoom {
    /// Beside its attributes.
    Beside,
    /// Among its attributes, if there are not as many as there may be.
    Among,
    /// Nowhere.
    Nowhere,
}

impl HostTraces {
    /// Takes part in traces as the settings say: with an exporter, for the caller to run, if spans are to be exported. `None` if the host
    /// has nothing to do with any. With `parents`, the context of a message is the parent of the span of its attempt.
    pub fn new(
        settings: &TraceSettings,
        parents: bool,
        metrics: &Arc<TraceMetrics>,
    ) -> Option<(Arc<Self>, Option<TraceExporter>)> {
        let recorded = settings.export.as_ref();
        let recorded = recorded.map(|export| Tracer::new(export, Arc::clone(metrics)));
        if recorded.is_none() && !settings.propagation.is_on() {
            return None;
        }
        let (tracer, exporter) = recorded.unzip();
        let host = Self {
            tracer,
            propagation: settings.propagation,
            parents,
        };
        Some((Arc::new(host), exporter))
    }

    /// Returns what records spans, if spans are exported.
    pub(crate) fn tracer(&self) -> Option<&Tracer> {
        self.tracer.as_ref()
    }

    /// Whether the context of a message is the parent of the span of its attempt.
    pub(crate) fn makes_parents(&self) -> bool {
        self.parents
    }

    /// Returns the context that a message carries.
    pub(crate) fn context_of(&self, message: &Message) -> Option<SpanContext> {
        self.context_in(&message.attributes)
    }

    /// Returns the context in the attributes of a message: that of the W3C, or else that of X-Ray.
    pub(crate) fn context_in(&self, attributes: &Attributes) -> Option<SpanContext> {
        if attributes.is_empty() {
            return None;
        }
        let text = |name| match attributes.get(name) {
            Some(AttributeValue::Text(text)) => Some(text.as_str()),
            Some(AttributeValue::Number(_) | AttributeValue::Binary(_)) | None => None,
        };
        let w3c = text(TRACEPARENT).filter(|_| self.propagation.w3c);
        w3c.and_then(|parent| SpanContext::of_w3c(parent, text(TRACESTATE)))
            .or_else(|| SpanContext::of_xray(text(TRACE_HEADER).filter(|_| self.propagation.xray)?))
    }

    /// Returns what a message is given that came with this trace header of X-Ray: the header, unless it names no span and the request
    /// has a context of its own. A load balancer sets one that names a trace alone.
    pub(crate) fn header_of_request(&self, header: Option<String>, context: &SpanContext) -> Option<String> {
        let is_whole = header
            .as_deref()
            .is_some_and(|text| SpanContext::of_xray(text).is_some());
        if is_whole {
            return header;
        }
        self.header(context).or(header)
    }

    /// Returns the context of a request, for a message that has none of its own.
    pub(crate) fn context_of_request(&self, traceparent: &str, tracestate: Option<&str>) -> Option<SpanContext> {
        self.propagation
            .w3c
            .then(|| SpanContext::of_w3c(traceparent, tracestate))?
    }

    /// Gives a message a context, in the forms that are wanted and have room: `traceparent` and `tracestate` as long as there are
    /// neither as many attributes as there may be, nor as many bytes of them.
    pub(crate) fn carry(&self, context: &SpanContext, attributes: &mut Attributes, room: HeaderRoom) {
        if self.propagation.w3c && has_room(attributes) {
            let is_added = attributes.add_text_that_fits(TRACEPARENT, context.traceparent());
            if let Some(state) = context.tracestate().filter(|_| is_added && has_room(attributes)) {
                attributes.add_text_that_fits(TRACESTATE, state.to_owned());
            }
        }
        let fits = match room {
            HeaderRoom::Beside => true,
            // All of them are attributes to a handler.
            HeaderRoom::Among => attributes.pairs().len() < MAX_ATTRIBUTES,
            HeaderRoom::Nowhere => false,
        };
        if self.propagation.xray && fits {
            attributes.add_text_that_fits(TRACE_HEADER, context.xray());
        }
    }

    /// Gives the messages that have no context this one. What their queue would not take with all forms of it gets the one that counts
    /// to no limit, or none: a body in another form takes an attribute on some queues, and a limit of bytes may be near.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub(crate) async fn give(&self, context: &SpanContext, queue: &dyn Queue, messages: &mut [CheckedMessage]) {
        if messages.iter().all(|message| has_context(&message.attributes)) {
            return;
        }
        let capabilities = queue.capabilities();
        let room = match (capabilities.calls_cost, capabilities.carries_trace_header) {
            (false, _) => HeaderRoom::Among,
            (true, true) => HeaderRoom::Beside,
            (true, false) => HeaderRoom::Nowhere,
        };
        let mut traced = messages.to_vec();
        for message in &mut traced {
            if !has_context(&message.attributes) {
                *message = carrying(message.clone(), |attributes| self.carry(context, attributes, room));
            }
        }
        if let HeaderRoom::Beside | HeaderRoom::Nowhere = room
            && let Err(refused) = queue.check_sends(&traced).await
        {
            // A queue that is away answers the send itself, and is asked no more.
            let is_away = matches!(refused, SendError::Queue(_));
            for (message, given) in messages.iter().zip(&mut traced) {
                if is_away || queue.check_sends(std::slice::from_ref(given)).await.is_err() {
                    *given = self.with_header_alone(context, message.clone(), room);
                }
            }
        }
        messages.clone_from_slice(&traced);
    }

    /// Gives a message that has no context this one in the form that counts to no limit, if the queue has that.
    fn with_header_alone(&self, context: &SpanContext, message: CheckedMessage, room: HeaderRoom) -> CheckedMessage {
        let header = self.header(context).filter(|_| room == HeaderRoom::Beside);
        match header.filter(|_| !has_context(&message.attributes)) {
            Some(header) => carrying(message, |attributes| {
                attributes.add_text_that_fits(TRACE_HEADER, header);
            }),
            None => message,
        }
    }

    /// Returns a context as a trace header, if contexts travel so.
    pub(crate) fn header(&self, context: &SpanContext) -> Option<String> {
        self.propagation.xray.then(|| context.xray())
    }

    /// Returns the context in the form that a call passes on.
    pub(crate) fn of_call(&self, context: &SpanContext) -> Option<Arc<CallTrace>> {
        let trace = CallTrace::new(&context.traceparent(), context.tracestate());
        trace.filter(|_| self.propagation.w3c).map(Arc::new)
    }
}

/// Returns the message with other attributes.
pub(crate) fn carrying(message: CheckedMessage, carry: impl FnOnce(&mut Attributes)) -> CheckedMessage {
    let mut outgoing = message.into_outgoing();
    carry(&mut outgoing.attributes);
    outgoing
        .check()
        .expect("a message is checked for everything but its attributes")
}

/// Whether a message carries a context of its own, or what stands where one would.
pub(crate) fn has_context(attributes: &Attributes) -> bool {
    attributes.pairs().iter().any(|(name, _)| is_context(name))
}

/// Whether an attribute of this name is a part of a context.
pub(crate) fn is_context(name: &str) -> bool {
    [TRACEPARENT, TRACESTATE, TRACE_HEADER].contains(&name)
}

/// Whether a message may have another attribute. The trace header does not count where it stands beside the attributes.
fn has_room(attributes: &Attributes) -> bool {
    let beside = usize::from(attributes.get(TRACE_HEADER).is_some());
    attributes.pairs().len() - beside < MAX_ATTRIBUTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandhog_queue::message::MAX_ATTRIBUTES_BYTES;

    const PARENT: &str = "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01";
    const HEADER: &str = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";

    fn traces(w3c: bool, xray: bool) -> HostTraces {
        HostTraces {
            tracer: None,
            propagation: Propagation { w3c, xray },
            parents: true,
        }
    }

    fn attributes(pairs: &[(&str, &str)]) -> Attributes {
        let text = |(name, value): &(&str, &str)| ((*name).to_owned(), AttributeValue::Text((*value).to_owned()));
        Attributes::from_queue(pairs.iter().map(text).collect())
    }

    fn numbered(count: usize) -> Attributes {
        let pairs = (0..count).map(|number| (format!("a{number}"), AttributeValue::Text("x".to_owned())));
        Attributes::new(pairs.collect()).unwrap()
    }

    fn names(attributes: &Attributes) -> Vec<&str> {
        let known = [TRACEPARENT, TRACESTATE, TRACE_HEADER];
        let names = attributes.pairs().iter().map(|(name, _)| name.as_str());
        names.filter(|name| known.contains(name)).collect()
    }

    #[test]
    fn the_context_of_the_w3c_wins_over_that_of_x_ray() {
        let other = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let both = attributes(&[(TRACE_HEADER, HEADER), (TRACEPARENT, other)]);
        let found = |traces: &HostTraces, attributes| Some(traces.context_in(attributes)?.traceparent());
        assert_eq!(found(&traces(true, true), &both).unwrap(), other);
        assert_eq!(found(&traces(false, true), &both).unwrap(), PARENT);
        let wrong = attributes(&[(TRACE_HEADER, HEADER), (TRACEPARENT, "what")]);
        assert_eq!(found(&traces(true, true), &wrong).unwrap(), PARENT);
        assert_eq!(found(&traces(true, false), &wrong), None);
    }

    #[test]
    fn no_message_gets_an_eleventh_attribute() {
        let traces = traces(true, true);
        let context = SpanContext::of_w3c(PARENT, Some("a=1")).unwrap();
        for count in 0..=MAX_ATTRIBUTES {
            for room in [HeaderRoom::Beside, HeaderRoom::Among, HeaderRoom::Nowhere] {
                let mut carried = numbered(count);
                traces.carry(&context, &mut carried, room);
                let beside = usize::from(room == HeaderRoom::Beside);
                assert!(carried.pairs().len() <= MAX_ATTRIBUTES + beside, "{count} {room:?}");
                assert_eq!(names(&carried).contains(&TRACEPARENT), count < MAX_ATTRIBUTES);
                assert_eq!(names(&carried).contains(&TRACESTATE), count + 1 < MAX_ATTRIBUTES);
                let header = match room {
                    HeaderRoom::Beside => true,
                    HeaderRoom::Among => count + 2 < MAX_ATTRIBUTES,
                    HeaderRoom::Nowhere => false,
                };
                assert_eq!(names(&carried).contains(&TRACE_HEADER), header, "{count} {room:?}");
                if !names(&carried).is_empty() {
                    assert_eq!(traces.context_in(&carried).unwrap().traceparent(), PARENT);
                }
            }
        }
    }

    #[test]
    fn no_context_makes_attributes_too_large() {
        let traces = traces(true, true);
        let context = SpanContext::of_w3c(PARENT, Some("a=1")).unwrap();
        let parent = TRACEPARENT.len() + PARENT.len();
        for (left, expected) in [
            (parent - 1, vec![]),
            (parent, vec![TRACEPARENT]),
            (parent + TRACESTATE.len() + 3, vec![TRACEPARENT, TRACESTATE]),
        ] {
            let full = (
                "a".to_owned(),
                AttributeValue::Text("x".repeat(MAX_ATTRIBUTES_BYTES - 1 - left)),
            );
            let mut carried = Attributes::new(vec![full]).unwrap();
            traces.carry(&context, &mut carried, HeaderRoom::Among);
            assert_eq!(names(&carried), expected);
            Attributes::new(carried.pairs().to_vec()).unwrap();
        }
    }

    #[test]
    fn a_trace_header_without_a_span_gives_way_to_the_context_of_the_request() {
        let context = SpanContext::of_w3c(PARENT, None).unwrap();
        let balancer = "Root=1-67891233-abcdef012345678912345678";
        let found = |xray, header: Option<&str>| {
            let header = header.map(str::to_owned);
            traces(true, xray).header_of_request(header, &context)
        };
        assert_eq!(found(true, Some(balancer)).unwrap(), HEADER);
        let other = "Root=1-67891233-abcdef012345678912345678;Parent=53995c3f42cd8ad8;Sampled=0";
        assert_eq!(found(true, Some(other)).unwrap(), other);
        assert_eq!(found(false, Some(balancer)).unwrap(), balancer);
        assert_eq!(found(true, None).unwrap(), HEADER);
        assert_eq!(found(false, None), None);
    }

    #[test]
    fn any_form_of_a_context_is_one() {
        for name in [TRACEPARENT, TRACESTATE, TRACE_HEADER] {
            assert!(has_context(&attributes(&[("a", "b"), (name, "x")])), "{name}");
        }
        assert!(!has_context(&attributes(&[("Traceparent", "x")])));
    }
}
