//! What the listener shows of handlers and queues beside their counts: halts, and why something stands still.
//!
//! Invariant: a queue that does not answer, or whose calls cost, does not keep the handlers from being shown.

use tokio::time::{Instant, timeout};

use super::{AdminState, COUNTS_LIMIT, wire};
use crate::{
    handler_status::HandlerStatus,
    standing::{BlockedGroup, HandlerFacts, QueueFacts, StandingFacts, standstill},
};
use sandhog_queue::{
    Counts, Queue as _,
    machine_clock::{wall_ms, whole_ms},
    message::QueueName,
    printable::chain,
};
use sandhog_simple::WaitingMessages;

impl AdminState {
    /// Returns the form of a handler.
    pub(super) async fn handler_form(&self, status: HandlerStatus) -> wire::HandlerForm {
        let queue = match &status.queue {
            Some(queue) => self.facts_of_simple(queue).await,
            None => None,
        };
        let facts = self.facts(Some(&status), status.queue.as_ref(), queue);
        let entry = self.versions.entry(&status.name);
        let serving = entry.as_ref().and_then(|entry| entry.history.serving());
        let (calls, breaks) = serving.map_or((0, 0), |version| (version.tally.calls(), version.tally.breaks()));
        wire::HandlerForm {
            standstill: standstill(&facts),
            halt: self.halts.of_handler(&status.name).map(Into::into),
            draining: facts.drain.is_some(),
            last_minute: wire::MinuteForm::of_handler(self.metrics.handler_minute(&status.name)),
            calls,
            breaks,
            ..status.into()
        }
    }

    /// Returns the form of a queue with these counts.
    pub(super) async fn queue_form(
        &self,
        name: QueueName,
        counts: Result<Counts, String>,
        handlers: &[HandlerStatus],
    ) -> wire::QueueForm {
        let (counts, error) = match counts {
            Ok(counts) => (counts, None),
            Err(error) => (Counts::default(), Some(error)),
        };
        let waiting = self.waiting(&name, &counts).await;
        let queue = self.queue_facts(&name, &counts, waiting, error.clone());
        let handler = handlers.iter().find(|handler| handler.queue.as_ref() == Some(&name));
        let facts = self.facts(handler, Some(&name), Some(queue));
        wire::QueueForm {
            standstill: standstill(&facts),
            halt: self.halts.of_queue(&name).map(Into::into),
            last_minute: wire::MinuteForm::of_queue(self.metrics.queue_minute(name.as_str())),
            error,
            ..wire::QueueForm::new(&name, counts)
        }
    }

    fn facts(
        &self,
        handler: Option<&HandlerStatus>,
        name: Option<&QueueName>,
        queue: Option<QueueFacts>,
    ) -> StandingFacts {
        let of_handler = |handler: &HandlerStatus| match name {
            Some(queue) => self.halts.stopping(&handler.name, queue),
            None => None,
        };
        let of_queue = || {
            let queue = name?;
            Some((
                crate::halts::HaltTarget::Queue(queue.clone()),
                self.halts.of_queue(queue)?,
            ))
        };
        StandingFacts {
            now_ms: wall_ms(),
            drain: self.halts.drain_cause(self.draining.is_cancelled()),
            halt: handler.and_then(of_handler).or_else(of_queue),
            handler: handler.map(handler_facts),
            queue,
        }
    }

    /// Returns what is known about a Simple queue; `None` about others, which are asked on `/queues` alone.
    async fn facts_of_simple(&self, name: &QueueName) -> Option<QueueFacts> {
        let queue = self.queues.simple(name)?.queue;
        let (counts, error) = match timeout(COUNTS_LIMIT, queue.counts()).await {
            Ok(Ok(counts)) => (counts, None),
            Ok(Err(error)) => (Counts::default(), Some(chain(&error))),
            Err(_) => (Counts::default(), Some(format!("no answer within {COUNTS_LIMIT:?}"))),
        };
        let waiting = self.waiting(name, &counts).await;
        Some(self.queue_facts(name, &counts, waiting, error))
    }

    /// Returns what the messages of a Simple queue wait for, if there are some.
    async fn waiting(&self, name: &QueueName, counts: &Counts) -> WaitingMessages {
        let Some(simple) = self.queues.simple(name).filter(|_| counts.ready + counts.delayed > 0) else {
            return WaitingMessages::default();
        };
        match timeout(COUNTS_LIMIT, simple.queue.waiting()).await {
            Ok(Ok(waiting)) => waiting,
            Ok(Err(_)) | Err(_) => WaitingMessages::default(),
        }
    }

    fn queue_facts(
        &self,
        name: &QueueName,
        counts: &Counts,
        waiting: WaitingMessages,
        error: Option<String>,
    ) -> QueueFacts {
        let at = |after| wall_ms().saturating_add(whole_ms(after));
        QueueFacts {
            ready: counts.ready,
            in_flight: counts.in_flight,
            delayed: counts.delayed,
            next_due_ms: waiting.next_due_in.map(at),
            blocked: waiting.blocked.map(|leader| BlockedGroup {
                group: leader.group,
                message: leader.message.to_string(),
                retry_at_ms: leader.retry_in.map(at),
            }),
            error,
            is_dead_letter_queue: self.queues.is_dead_letter_queue(name),
        }
    }
}

fn handler_facts(status: &HandlerStatus) -> HandlerFacts {
    HandlerFacts {
        name: status.name.clone(),
        state: status.state.clone(),
        last_error: status.last_error.clone(),
        next_probe_ms: status.next_probe.map(wall_of),
        queue_error: status.queue_error.clone(),
        slots: status.slots,
        full_since_ms: status.full_since.map(wall_of),
        waits_for_room: status.waiting.count() > 0,
    }
}

/// Returns what the wall clock shows at an instant, in milliseconds since 1970-01-01T00:00:00Z, if nobody sets it.
fn wall_of(instant: Instant) -> u64 {
    let now = Instant::now();
    wall_ms()
        .saturating_add(whole_ms(instant.saturating_duration_since(now)))
        .saturating_sub(whole_ms(now.saturating_duration_since(instant)))
}
