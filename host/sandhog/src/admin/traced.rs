//! The trace context of a request, for the messages that it sends.
//!
//! A client that is traced says in its request where in a trace it is, whether or not it knows of messages. The message is made by
//! that request, so the place of the request is the context of a message that has none of its own.

use std::{convert::Infallible, sync::Arc};

use axum::{
    extract::OptionalFromRequestParts,
    http::{HeaderMap, request::Parts},
};

use super::AdminState;
use crate::traces::HostTraces;
use sandhog_queue::{Queue, message::CheckedMessage};
use sandhog_traces::SpanContext;

/// The most headers `tracestate` that are read. All of them have to fit one.
const MAX_STATES: usize = 32;

/// The trace context of one request. A route takes it as an option.
#[derive(Debug)]
pub(crate) struct RequestTrace {
    traces: Arc<HostTraces>,
    context: SpanContext,
}

impl RequestTrace {
    /// Returns the context of a request that has one, if the host takes part in traces.
    pub(crate) fn of(traces: Option<&Arc<HostTraces>>, headers: &HeaderMap) -> Option<Self> {
        let traces = traces?;
        let texts = |name| headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        let mut parents = texts("traceparent");
        // Two of them are two places, and none of them is the one of the request. The lists of states are one list.
        let parent = parents.next().filter(|_| parents.next().is_none())?;
        let states: Vec<&str> = texts("tracestate").take(MAX_STATES).collect();
        let state = (!states.is_empty()).then(|| states.join(","));
        let context = traces.context_of_request(parent, state.as_deref())?;
        Some(Self {
            traces: Arc::clone(traces),
            context,
        })
    }

    /// Gives the messages the context that have none, as far as the queue takes them with one.
    pub(crate) async fn give(&self, queue: &dyn Queue, messages: &mut [CheckedMessage]) {
        self.traces.give(&self.context, queue, messages).await;
    }

    /// Returns the trace header of messages that a client of the SQS protocol sends, whose request has `header`. An attribute would be
    /// one that the client has not sent, and whose digest it does not know.
    pub(crate) fn header(&self, header: Option<String>) -> Option<String> {
        self.traces.header_of_request(header, &self.context)
    }
}

impl OptionalFromRequestParts<AdminState> for RequestTrace {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &AdminState) -> Result<Option<Self>, Infallible> {
        Ok(Self::of(state.traces.as_ref(), &parts.headers))
    }
}
