//! The log and the metrics of an attempt that is settled.

use std::time::Duration;

use super::{FinishedMessage, HandlerAttempt};
use crate::settlement::AttemptOutcome;
use sandhog_executor::GuestFailure;
use sandhog_queue::FailureKind;

impl HandlerAttempt {
    /// Logs and counts the outcome of each message. `duration` is how long the guest took.
    pub(crate) fn log(&self, messages: &[FinishedMessage], duration: Duration) {
        let handler = &self.context.handler;
        let queue = self.context.queue.name();
        let component = self.version.component.info.digest.get(..12).unwrap_or_default();
        let mut last_stack = None;
        for message in messages {
            let FinishedMessage {
                id,
                receive_count,
                outcome,
                ..
            } = message;
            self.context
                .metrics
                .attempt_finished(handler, outcome.as_str(), duration);
            match outcome {
                AttemptOutcome::Success => {
                    tracing::debug!(handler, %queue, message_id = %id, receive_count, ?duration, "handled");
                }
                AttemptOutcome::AlreadyHandled => {
                    tracing::info!(handler, %queue, message_id = %id, receive_count, "handled before, and its deletion was lost; deleted again");
                }
                AttemptOutcome::Failed(GuestFailure {
                    kind, reason, stack, ..
                }) => {
                    let stack = unsaid(stack.as_deref(), &mut last_stack);
                    let trace_id = self.recorded_trace();
                    tracing::warn!(handler, %queue, message_id = %id, trace_id, receive_count, component, kind = %kind, reason, stack, "not handled");
                    if *kind == FailureKind::Reject && !self.context.queue.capabilities().has_dead_letter_queue {
                        tracing::warn!(handler, %queue, message_id = %id, "rejected, and the queue has no dead-letter queue: it stays, and is tried again as rarely as possible");
                        self.context.metrics.dead_letter_not_taken(queue.as_str());
                    }
                }
                AttemptOutcome::Disputed(GuestFailure {
                    kind, reason, stack, ..
                }) => {
                    let stack = unsaid(stack.as_deref(), &mut last_stack);
                    let (version, trace_id) = (self.version.number, self.recorded_trace());
                    tracing::warn!(handler, %queue, message_id = %id, trace_id, receive_count, version, component, kind = %kind, reason, stack, "not handled by the new version; its predecessor is asked");
                }
                AttemptOutcome::HostFault(reason) => {
                    tracing::error!(handler, %queue, message_id = %id, reason, "the host could not run the handler; the message is released");
                }
                AttemptOutcome::Conflict(reason) => {
                    tracing::debug!(handler, %queue, message_id = %id, receive_count, reason, "tried again at once: another attempt was first");
                }
                AttemptOutcome::Interrupted => {
                    tracing::info!(handler, %queue, message_id = %id, "interrupted; the message is released");
                }
                AttemptOutcome::LeaseLost => {
                    tracing::warn!(handler, %queue, message_id = %id, "the lease was lost: nothing was settled");
                    self.context.metrics.leases().lost(queue.as_str());
                }
            }
        }
    }
}

/// Returns a stack, unless it is the last one that was logged: one stack breaks a whole batch.
fn unsaid<'s>(stack: Option<&'s str>, last: &mut Option<&'s str>) -> Option<&'s str> {
    stack.filter(|stack| last.replace(stack) != Some(*stack))
}
