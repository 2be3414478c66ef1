//! The entries of the journal for an attempt that is settled: one for each message.

use std::time::Duration;

use super::{FinishedMessage, HandlerAttempt};
use crate::{
    journal::{JournalEntry, JournalSend, short_stack},
    settlement::AttemptOutcome,
};
use sandhog_executor::CallUsage;
use sandhog_queue::machine_clock::{wall_ms, whole_ms};

impl HandlerAttempt {
    /// Enters the outcome of each message into the journal. `duration` is how long the guest took.
    pub(crate) fn enter(
        &self,
        messages: &[FinishedMessage],
        duration: Duration,
        usage: Option<CallUsage>,
        sends: Vec<JournalSend>,
    ) {
        if !self.context.journal.is_wanted() {
            return;
        }
        let began_at_ms = wall_ms().saturating_sub(whole_ms(self.began.elapsed()));
        let printed = std::mem::take(&mut *self.printed.lock());
        let mut of_call = Some((sends, printed));
        let entries: Vec<JournalEntry> = messages
            .iter()
            .map(|message| {
                let entry = JournalEntry {
                    batch: messages.len(),
                    began_at_ms,
                    duration_ms: duration.as_secs_f64() * 1000.0,
                    cpu_ms: usage.map(|usage| usage.cpu.as_secs_f64() * 1000.0),
                    memory_peak_bytes: usage.map(|usage| usage.memory_peak),
                    ..self.entry(message)
                };
                match of_call.take() {
                    Some((sends, printed)) => entry.with_call(sends, printed),
                    None => entry,
                }
            })
            .collect();
        self.context.journal.add(entries);
    }

    /// Returns what an entry has of the message alone.
    fn entry(&self, message: &FinishedMessage) -> JournalEntry {
        let (reason, stack) = match &message.outcome {
            AttemptOutcome::Failed(failure) | AttemptOutcome::Disputed(failure) => {
                (Some(failure.reason.clone()), failure.stack.as_deref().map(short_stack))
            }
            AttemptOutcome::Conflict(reason) | AttemptOutcome::HostFault(reason) => (Some(reason.clone()), None),
            AttemptOutcome::Success
            | AttemptOutcome::AlreadyHandled
            | AttemptOutcome::Interrupted
            | AttemptOutcome::LeaseLost => (None, None),
        };
        let settled = message.settled;
        JournalEntry {
            attempt: 0,
            handler: self.context.handler.clone(),
            version: self.version.number,
            queue: self.context.queue.name().as_str().to_owned(),
            message: message.id.as_str().to_owned(),
            receive_count: message.receive_count.get(),
            batch: 1,
            outcome: message.outcome.as_str().into(),
            disputed: matches!(message.outcome, AttemptOutcome::Disputed(_)),
            settlement: settled.map(|settled| settled.word.into()),
            retry_in_ms: settled.and_then(|settled| settled.retry_in).map(whole_ms),
            reason,
            stack,
            sent_at_ms: message.sent_at_ms,
            began_at_ms: 0,
            duration_ms: 0.0,
            cpu_ms: None,
            memory_peak_bytes: None,
            sends: Vec::new(),
            more_sends: 0,
            log: Vec::new(),
            earlier_lines: 0,
        }
    }
}
