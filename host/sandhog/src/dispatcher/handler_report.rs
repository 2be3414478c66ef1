//! What the rest of the host sees of a handler that runs: its status and its metrics.

use std::sync::Arc;

use tokio::time::Instant;

use crate::{attempt::AttemptContext, halts::HaltCause, handler_status::HandlerStatuses, pause::PauseChange};

/// Reports on one handler.
#[derive(Debug)]
pub(crate) struct HandlerReport {
    context: Arc<AttemptContext>,
    statuses: Arc<HandlerStatuses>,
}

impl HandlerReport {
    pub(crate) fn new(context: Arc<AttemptContext>, statuses: Arc<HandlerStatuses>) -> Self {
        Self { context, statuses }
    }

    /// The handler begins to listen to its queue.
    pub(crate) fn listening(&self) {
        self.statuses.received(&self.context.handler);
    }

    /// The handler does not listen, on purpose.
    pub(crate) fn not_listening(&self) {
        self.statuses.not_listening(&self.context.handler);
    }

    /// A receive has brought so many messages.
    pub(crate) fn received(&self, messages: usize) {
        self.statuses.received(&self.context.handler);
        let messages = u64::try_from(messages).unwrap_or(u64::MAX);
        self.context
            .metrics
            .received(self.context.queue.name().as_str(), messages);
    }

    /// A receive has failed.
    pub(crate) fn receive_failed(&self, reason: &str) {
        self.statuses.receive_failed(&self.context.handler, reason);
        self.context.metrics.receive_failed(self.context.queue.name().as_str());
    }

    /// At most so many attempts are under way.
    pub(crate) fn slots(&self, slots: usize) {
        if !self.has_successor() {
            let slots = u32::try_from(slots).unwrap_or(u32::MAX);
            self.statuses.slots(&self.context.handler, slots);
        }
    }

    /// So many attempts have started and are not settled.
    pub(crate) fn in_flight(&self, attempts: usize) {
        if self.has_successor() {
            return;
        }
        let attempts = u32::try_from(attempts).unwrap_or(u32::MAX);
        self.statuses.in_flight(&self.context.handler, attempts);
        self.context.metrics.in_flight(&self.context.handler, attempts);
    }

    /// An operator has halted the handler, its queue or the whole host, or has not any more.
    pub(crate) fn halted(&self, halt: Option<HaltCause>, before: Option<HaltCause>) {
        let handler = &self.context.handler;
        match (halt, before) {
            (Some(HaltCause::Operator), _) => tracing::info!(
                handler,
                "paused by an operator: nothing is received, and what is under way ends"
            ),
            (Some(HaltCause::Drain), _) => {
                tracing::info!(handler, "draining: nothing is received, and what is under way ends");
            }
            (None, Some(HaltCause::Drain)) => tracing::info!(handler, "no longer draining"),
            (None, Some(HaltCause::Operator) | None) => tracing::info!(handler, "no longer paused by an operator"),
        }
        if !self.has_successor() {
            self.statuses.halted(handler, halt.is_some());
        }
    }

    /// The handler is paused or goes on, if anything has changed.
    pub(crate) fn pause_changed(&self, change: &PauseChange) {
        if self.has_successor() {
            return;
        }
        let handler = &self.context.handler;
        match change {
            PauseChange::None => {}
            PauseChange::Paused(reason) => {
                tracing::error!(
                    handler,
                    reason,
                    "the handler is paused, and probed with single messages"
                );
                self.statuses.paused(handler, reason);
                self.context.metrics.handler_paused(handler, true);
            }
            PauseChange::Resumed => {
                tracing::info!(handler, "the handler goes on after a pause");
                self.statuses.resumed(handler);
                self.context.metrics.handler_paused(handler, false);
            }
        }
    }

    /// The host probes the handler at this time, if it has paused it.
    pub(crate) fn next_probe(&self, at: Option<Instant>) {
        if !self.has_successor() {
            self.statuses.next_probe(&self.context.handler, at);
        }
    }

    /// Whether another dispatcher of the same name may run already: the state that is shown is that one's, once this handler
    /// drains.
    fn has_successor(&self) -> bool {
        self.context.stop_receiving.is_cancelled()
    }
}
