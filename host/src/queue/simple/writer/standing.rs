//! Receives that wait with the thread for a message to come, which is handed out in the transaction that it comes in: one
//! commit before its handler starts, rather than two.
//!
//! The store's clock is not this thread's, so it does not wait for moments: it says when something may become visible by itself,
//! and whoever asked takes the receive away then.

use std::{mem, sync::Arc};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{
    super::{
        super::QueueError,
        operation::{Kind, ReceiveMessages},
        row::{Fault, FaultKind, QueueKey},
        rules::{Core, Received},
    },
    BATCH_BYTES, Failure, Job, Parcel, Reply, Returned, Writer,
};
use crate::message::QueueName;

/// What waits for a change of a queue, oldest first. Bounded by the receives that wait: those that were given up go with the next
/// transaction.
#[derive(Default)]
pub(super) struct Standing {
    jobs: Vec<(QueueKey, Box<dyn Job>)>,
    /// Queues that have changed since those that stand for them were applied.
    woken: Vec<QueueKey>,
}

impl Standing {
    pub(super) fn add(&mut self, queue: QueueKey, job: Box<dyn Job>) {
        self.jobs.push((queue, job));
    }

    pub(super) fn forget_given_up(&mut self) {
        self.jobs.retain(|(_, job)| job.is_awaited());
    }

    /// Whether some are to be applied though nobody asks for anything.
    pub(super) fn is_woken(&self) -> bool {
        !self.woken.is_empty()
    }

    /// Applies those whose queues have changed. What would hand out more than a transaction may is left for the next.
    pub(super) fn apply(&mut self, core: &mut Core, applied: &mut Applied) -> Result<(), Fault> {
        applied.woken_before = mem::take(&mut self.woken);
        let mut woken = applied.woken_before.clone();
        woken.extend(core.take_woken());
        let (mut room, mut done) = (BATCH_BYTES, Ok(()));
        for (queue, mut job) in mem::take(&mut self.jobs) {
            let is_woken = woken.contains(&queue);
            if is_woken && room > 0 && done.is_ok() {
                done = job.apply(core);
                room = room.saturating_sub(job.handed_out());
                applied.jobs.push((queue, job));
                continue;
            }
            if is_woken {
                self.woken.push(queue);
            }
            self.jobs.push((queue, job));
        }
        done
    }

    /// The transaction did not happen. What it would have brought has not come, so those that it woke go on standing; those that
    /// an earlier one woke are told, since nobody wakes them again.
    pub(super) fn undo(&mut self, mut applied: Applied, failure: &Failure) {
        // Those that it did not come to.
        let mut woken = mem::take(&mut self.woken);
        if applied.jobs.is_empty() {
            applied.woken_before.append(&mut woken);
        }
        for (_, job) in &mut applied.jobs {
            job.undo();
        }
        applied.jobs.append(&mut self.jobs);
        for (queue, job) in applied.jobs {
            if failure.kind == FaultKind::Final || applied.woken_before.contains(&queue) {
                job.fail(failure);
            } else {
                self.jobs.push((queue, job));
            }
        }
    }

    /// Notes which queues have changed since that.
    pub(super) fn wake(&mut self, core: &mut Core) {
        let woken = core.take_woken().into_iter();
        let stands = |key: &QueueKey| self.jobs.iter().any(|(queue, _)| queue == key);
        self.woken.extend(woken.filter(stands));
    }
}

/// What stood and was applied in the transaction under way.
#[derive(Default)]
pub(super) struct Applied {
    jobs: Vec<(QueueKey, Box<dyn Job>)>,
    /// The queues that an earlier transaction had changed.
    woken_before: Vec<QueueKey>,
}

impl Applied {
    pub(super) fn into_jobs(self) -> impl Iterator<Item = Box<dyn Job>> {
        self.jobs.into_iter().map(|(_, job)| job)
    }
}

/// A receive that stands if there is nothing to hand out.
struct Receive {
    asked: ReceiveMessages,
    queue: QueueName,
    now: Instant,
    /// The moment for which it was applied last.
    applied: Instant,
    answer: Option<Received>,
    reply: Reply<Received>,
    /// Told once, when it begins to stand: when something may be there though nothing comes. `None` if it may not stand.
    stands: Option<oneshot::Sender<Instant>>,
    /// What it was told.
    until: Option<Instant>,
}

impl Job for Receive {
    fn is_awaited(&self) -> bool {
        !self.reply.is_closed()
    }

    fn weight(&self) -> usize {
        self.asked.weight()
    }

    fn kind(&self) -> Kind {
        Kind::Receive
    }

    fn apply(&mut self, core: &mut Core) -> Result<(), Fault> {
        // The moment of the request may be long ago; the rules go on from that of the last command.
        let now = core.tick(self.now);
        self.applied = now.instant;
        self.answer = Some(self.asked.apply(core, now)?);
        Ok(())
    }

    fn handed_out(&self) -> usize {
        let deliveries = self.answer.iter().flat_map(|answer| &answer.deliveries);
        deliveries.map(|delivery| delivery.message.body.len()).sum()
    }

    fn stands(&mut self) -> Option<QueueKey> {
        let answer = self.answer.as_ref()?;
        // Without a moment, or with one that has come, something is there.
        let again = answer.again.filter(|again| *again > self.applied)?;
        match self.until {
            None => {
                self.stands.take()?.send(again).ok()?;
                self.until = Some(again);
            }
            // That has to be told.
            Some(until) if again < until => return None,
            Some(_) => {}
        }
        Some(self.asked.queue)
    }

    fn undo(&mut self) {
        self.answer = None;
        self.asked.wanted.open_again();
    }

    fn answer(self: Box<Self>, returned: &Arc<Returned>) {
        let deliveries = self.answer.iter().flat_map(|answer| &answer.deliveries);
        let receipts = deliveries.map(|delivery| delivery.receipt.clone()).collect();
        super::answer(self.reply, self.answer, receipts, returned);
    }

    fn fail(self: Box<Self>, failure: &Failure) {
        drop(self.reply.send(Err(failure.of(&self.queue))));
    }
}

impl Writer {
    /// Receives what is there, or what comes until `end`. After an answer without deliveries before that, ask again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives back what was handed out to it.
    pub(in super::super) async fn receive(
        &self,
        queue: &QueueName,
        asked: ReceiveMessages,
        end: Instant,
    ) -> Result<Received, QueueError> {
        let (reply, mut answer) = oneshot::channel();
        let (stands, stood) = oneshot::channel();
        let now = Instant::now();
        let receive = Receive {
            asked,
            queue: queue.clone(),
            now,
            applied: now,
            answer: None,
            reply,
            stands: (now < end).then_some(stands),
            until: None,
        };
        self.command(queue, Box::new(receive)).await?;
        let open = |answered: Result<Result<Parcel<Received>, QueueError>, _>| {
            let parcel = answered.map_err(|_closed| self.closed(queue))??;
            parcel.open().ok_or_else(|| self.closed(queue))
        };
        // Nobody says so if it does not stand.
        let Ok(again) = stood.await else {
            return open(answer.await);
        };
        match timeout_at(again.min(end), &mut answer).await {
            Ok(answered) => open(answered),
            Err(_late) => {
                answer.close();
                // It may have come in this moment.
                match answer.try_recv() {
                    Ok(answered) => open(Ok(answered)),
                    Err(_none) => Ok(Received::default()),
                }
            }
        }
    }
}
