//! Receiving: one call of SQS per receive, which outlives the receive for a moment if that is dropped.
//!
//! A long poll whose connection is dropped may take messages that nobody gets: they stay hidden for a visibility timeout. So a
//! receive that is dropped *abandons* its call, and the next receive *adopts* it. A call that nobody adopts within
//! [`ADOPTED_WITHIN`] is given up; what a call brings while it is abandoned is released at once.
//!
//! The visibility of a message counts from the request that brought it, see `sqs/asked.rs`. What comes so late that others may
//! have it already is left alone.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{Notify, oneshot},
    time::{Instant, sleep_until},
};
use uuid::Uuid;

use super::{
    asked::Asked,
    ending::Ending,
    exhausted::Exhausted,
    facts::Facts,
    failure::{Action, Class, Failure, whole_seconds},
    form,
    held::Kept,
    remote::Remote,
    tasks::Tasks,
    wire::{Ask, BATCH, Patience, Received},
};
use crate::{
    alarm::wake_at,
    message::MessageId,
    queue::{Delivery, QueueError, Receipt},
};

/// How long an abandoned call waits for another receive.
const ADOPTED_WITHIN: Duration = Duration::from_secs(1);
/// The longest wait of one call (limit of SQS).
const LONGEST_POLL_S: u64 = 20;
/// The shortest visibility timeout of a receive.
const SHORTEST_VISIBILITY_S: u64 = 2;
/// How much longer than its wait a call may take.
const POLL_MARGIN: Duration = Duration::from_secs(10);
/// No receive waits for longer, whatever it is told.
const LONGEST_WAIT: Duration = Duration::from_hours(24);
/// What is left of a wait after a poll that a server ended a little early.
const END_OF_WAIT: Duration = Duration::from_millis(100);
/// A poll that waits takes at least so long, so that a server which does not wait is not asked without pause.
const SHORTEST_POLL: Duration = Duration::from_millis(500);
/// For how long SQS answers an attempt id with the same messages: five minutes, less what a call takes.
const ATTEMPT_LIFE: Duration = Duration::from_secs(270);
/// How many attempts with an unknown outcome are remembered.
const ATTEMPTS: usize = 16;

type Answer = Result<Vec<Delivery>, QueueError>;

/// Receives from one queue.
#[derive(Debug)]
pub(super) struct Poller {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    remote: Arc<Remote>,
    tasks: Tasks,
    exhausted: Arc<Exhausted>,
    // Never held across an await.
    calls: Mutex<Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    next: u64,
    open: BTreeMap<u64, Call>,
    /// Attempts that may have taken messages, oldest first.
    unknown: Vec<Attempt>,
}

/// A call under way.
#[derive(Debug)]
struct Call {
    max: usize,
    /// When its wait is over.
    until: Instant,
    waiter: Option<oneshot::Sender<Answer>>,
    abandoned_at: Option<Instant>,
    changed: Arc<Notify>,
}

/// What one call asks, and when it was first asked.
#[derive(Debug, Clone)]
struct Attempt {
    ask: Ask,
    at: Instant,
}

impl Poller {
    pub(super) fn new(remote: Arc<Remote>, tasks: Tasks) -> Self {
        Self {
            shared: Arc::new(Shared {
                exhausted: Arc::new(Exhausted::new(Arc::clone(&remote), tasks.clone())),
                remote,
                tasks,
                calls: Mutex::default(),
            }),
        }
    }

    /// See [`crate::queue::Queue::receive`].
    ///
    /// # Cancel safety
    ///
    /// Safe: the call goes on, see above. If the queue itself is dropped while a call is under way, or nobody receives for
    /// a while, what the call may have taken stays hidden for one visibility timeout.
    pub(super) async fn receive(&self, max: usize, wait: Duration) -> Answer {
        self.shared.remote.becomes_a_source();
        let facts = self.shared.remote.facts().await?;
        let max = max.clamp(1, BATCH);
        let end = Instant::now() + wait.min(LONGEST_WAIT);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let visibility_s = self.shared.remote.visibility_timeout().as_secs();
            let wait_s = whole_seconds(left).min(longest_poll(visibility_s));
            let waiting = self.adopt(max, wait_s);
            let waiting = waiting.unwrap_or_else(|| self.begin(&facts, max, wait_s));
            let deliveries = waiting.answer(max).await?;
            if !deliveries.is_empty() || end.saturating_duration_since(Instant::now()) <= END_OF_WAIT {
                return Ok(deliveries);
            }
        }
    }

    /// Takes over the abandoned call that fits best. A receive that does not wait only takes over one that does not either.
    fn adopt(&self, max: usize, wait_s: u64) -> Option<Waiting> {
        let end = Instant::now() + Duration::from_secs(wait_s);
        let mut calls = self.shared.calls();
        let fitting = calls
            .open
            .iter()
            .filter(|(_, call)| call.abandoned_at.is_some() && (wait_s > 0 || call.until <= end))
            // The largest that is not too large, else the one that is the least too large.
            .min_by_key(|(_, call)| (call.max > max, call.max.abs_diff(max)))
            .map(|(number, _)| *number);
        let number = fitting?;
        let call = calls.open.get_mut(&number)?;
        let (waiter, answer) = oneshot::channel();
        call.waiter = Some(waiter);
        call.abandoned_at = None;
        call.changed.notify_one();
        let leave_at = Some(end).filter(|end| *end < call.until);
        drop(calls);
        Some(Waiting::new(&self.shared, number, answer, leave_at))
    }

    fn begin(&self, facts: &Arc<Facts>, max: usize, wait_s: u64) -> Waiting {
        let shared = &self.shared;
        let now = Instant::now();
        let mut calls = shared.calls();
        let mut attempt = calls.take_unknown(now).unwrap_or_else(|| Attempt {
            ask: Ask {
                max,
                wait_s,
                // For a little longer than the wait, or it could be over before its answer is here.
                visibility_s: shared.remote.visibility_timeout().as_secs().max(SHORTEST_VISIBILITY_S),
                attempt_id: facts.fifo.then(|| Uuid::now_v7().to_string()),
            },
            at: now,
        });
        attempt.ask.wait_s = wait_s;
        let number = calls.next;
        calls.next += 1;
        let (waiter, answer) = oneshot::channel();
        let changed = Arc::new(Notify::new());
        let call = Call {
            max: attempt.ask.max,
            until: now + Duration::from_secs(attempt.ask.wait_s),
            waiter: Some(waiter),
            abandoned_at: None,
            changed: Arc::clone(&changed),
        };
        calls.open.insert(number, call);
        drop(calls);
        let open = Open {
            shared: Arc::clone(shared),
            number,
        };
        let run = open.run(attempt, changed, Arc::clone(facts));
        shared.tasks.spawn_on(&Handle::current(), run);
        Waiting::new(shared, number, answer, None)
    }
}

impl Calls {
    /// An attempt whose outcome is unknown, to be made again: with the same id, SQS answers with the same messages.
    fn take_unknown(&mut self, now: Instant) -> Option<Attempt> {
        self.unknown
            .retain(|attempt| now.duration_since(attempt.at) < ATTEMPT_LIFE);
        (!self.unknown.is_empty()).then(|| self.unknown.remove(0))
    }

    fn remember_unknown(&mut self, attempt: Attempt) {
        if attempt.ask.attempt_id.is_some() {
            self.unknown.truncate(ATTEMPTS - 1);
            self.unknown.push(attempt);
        }
    }
}

/// The task of one call.
struct Open {
    shared: Arc<Shared>,
    number: u64,
}

impl Open {
    /// Makes one call and hands its answer to whoever waits for it then.
    async fn run(self, attempt: Attempt, changed: Arc<Notify>, facts: Arc<Facts>) {
        let Self { shared, number } = &self;
        let number = *number;
        let asked = Asked::now();
        let received = {
            let mut call = pin!(shared.ask(&facts, attempt.ask.clone()));
            loop {
                let abandoned_at = shared.calls().open.get(&number).and_then(|call| call.abandoned_at);
                tokio::select! {
                    received = &mut call => break received,
                    () = changed.notified() => {}
                    () = wake_at(abandoned_at.map(|at| at + ADOPTED_WITHIN)) => if shared.gave_up(number, &attempt) {
                        return;
                    },
                }
            }
        };
        let answer = match received {
            Ok(messages) => {
                if messages.is_empty() && attempt.ask.wait_s > 0 {
                    sleep_until(asked.at + SHORTEST_POLL).await;
                }
                shared.admit(messages, attempt.ask.visibility_s, asked).await
            }
            Err(failure) => {
                if failure.outcome_is_unknown() {
                    shared.calls().remember_unknown(attempt);
                }
                Err(shared.remote.unavailable(failure))
            }
        };
        shared.finish(number, answer).await;
    }
}

impl Drop for Open {
    /// However the task ends, nobody waits for it any longer.
    fn drop(&mut self) {
        let call = self.shared.calls().open.remove(&self.number);
        drop(call);
    }
}

impl Shared {
    fn calls(&self) -> MutexGuard<'_, Calls> {
        // Every change is complete before the lock is given up.
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, facts: &Facts, ask: Ask) -> Result<Vec<Received>, Failure> {
        let patience = Patience::new(Duration::from_secs(ask.wait_s) + POLL_MARGIN, 1);
        self.remote
            .call(Action::ReceiveMessage, async |wire| {
                wire.receive(&facts.url, ask, patience).await
            })
            .await
    }

    /// Gives an abandoned call up, unless it was adopted in the last moment.
    fn gave_up(&self, number: u64, attempt: &Attempt) -> bool {
        let mut calls = self.calls();
        let given_up = calls
            .open
            .get(&number)
            .is_none_or(|call| call.abandoned_at.is_some_and(|at| at.elapsed() >= ADOPTED_WITHIN));
        if given_up {
            calls.open.remove(&number);
            calls.remember_unknown(attempt.clone());
        }
        given_up
    }

    /// Hands an answer to whoever waits for it. If that is nobody, its messages are released.
    async fn finish(&self, number: u64, answer: Answer) {
        let call = self.calls().open.remove(&number);
        let unheard = match call.and_then(|call| call.waiter) {
            Some(waiter) => waiter.send(answer).err(),
            None => Some(answer),
        };
        match unheard {
            Some(Ok(deliveries)) => self.release(deliveries).await,
            Some(Err(error)) => {
                tracing::debug!(queue = %self.remote.name, %error, "a receive that nobody waited for failed");
            }
            None => {}
        }
    }

    /// Makes messages visible again, last first, so that those of a group come back in order. If that fails they come back
    /// by themselves, as those do whose time is over: their receipts may release them from somebody else.
    async fn release(&self, mut deliveries: Vec<Delivery>) {
        let remote = &self.remote;
        deliveries.retain(|delivery| delivery.deadline > Instant::now());
        for batch in deliveries.rchunks(BATCH) {
            let endings: Vec<Ending<'_>> = batch
                .iter()
                .rev()
                .filter_map(|delivery| delivery.receipt.as_text())
                .map(|handle| Ending {
                    handle,
                    hide_s: Some(0),
                })
                .collect();
            let answers = remote.end_all(&endings, remote.ending()).await;
            let failed = answers.iter().filter(|answer| answer.is_err()).count();
            tracing::debug!(queue = %remote.name, messages = endings.len(), failed, "messages that nobody waited for were released");
        }
    }

    /// Makes deliveries of messages. One that was received too often becomes a dead letter instead.
    async fn admit(self: &Arc<Self>, messages: Vec<Received>, visibility_s: u64, asked: Asked) -> Answer {
        let visibility = Duration::from_secs(visibility_s);
        let deadline = asked.hidden_until(visibility);
        if deadline <= Instant::now() {
            self.came_late(&messages, asked);
            return Ok(Vec::new());
        }
        let max_receives = self.remote.capabilities().max_receives;
        let (mut deliveries, mut exhausted) = (Vec::new(), Vec::new());
        for message in messages {
            let Some(delivery) = self.delivery(message, (deadline, asked)) else {
                continue;
            };
            if max_receives.is_some_and(|max| delivery.receive_count > max) {
                exhausted.push(delivery.receipt);
            } else {
                deliveries.push(delivery);
            }
        }
        if exhausted.is_empty() {
            return Ok(deliveries);
        }
        if deliveries.is_empty() {
            return self.exhausted.bury_all(exhausted, deadline).await.map(|()| deliveries);
        }
        // The others need not wait for that, and the next receive finds the failure if it lasts.
        let graves = Arc::clone(&self.exhausted);
        let bury = async move { drop(graves.bury_all(exhausted, deadline).await) };
        self.tasks.spawn_on(&Handle::current(), bury);
        Ok(deliveries)
    }

    /// Messages came when others may have them already. Not even their receipts are of use: on a standard queue they would still
    /// work, on what is somebody else's.
    fn came_late(&self, messages: &[Received], asked: Asked) {
        let remote = &self.remote;
        let after = asked.at.elapsed();
        for message in messages {
            remote.metrics().came_late(remote.name.as_str());
            tracing::warn!(
                queue = %remote.name, id = %MessageId::from_queue(&message.id), ?after,
                "a message came so long after it was asked for that its visibility timeout may have passed; it is left alone, and returns by itself"
            );
        }
    }

    fn delivery(&self, message: Received, (deadline, asked): (Instant, Asked)) -> Option<Delivery> {
        let remote = &self.remote;
        let id = MessageId::from_queue(&message.id);
        let Some(hold) = remote.held.hold(&message.handle) else {
            tracing::debug!(queue = %remote.name, %id, "a message was received twice with the same receipt");
            return None;
        };
        let handle = message.handle.clone();
        let receive_count = message.receive_count.unwrap_or(std::num::NonZeroU32::MIN);
        let sent_at_ms = message.sent_at_ms;
        let content = form::open(message).content;
        let message = content.message(id.clone(), sent_at_ms);
        let kept = Kept::new(id, content, (sent_at_ms, receive_count.get()), (asked.at, hold));
        Some(Delivery {
            message,
            receipt: Receipt::text_with(&handle, Arc::new(kept)),
            receive_count,
            deadline,
        })
    }

    /// Releases what a receive that is gone did not take.
    fn release_later(self: &Arc<Self>, deliveries: Vec<Delivery>, runtime: &Handle) {
        if !deliveries.is_empty() {
            let shared = Arc::clone(self);
            self.tasks
                .spawn_on(runtime, async move { shared.release(deliveries).await });
        }
    }
}

/// The longest wait of a call, in seconds: no longer than two thirds of the visibility timeout, so that a message which comes at
/// the end of it has the last third left, and need not be left alone.
fn longest_poll(visibility_s: u64) -> u64 {
    (visibility_s.saturating_mul(2) / 3).clamp(1, LONGEST_POLL_S)
}

/// A receive that waits for a call. Dropped without an answer, it abandons the call.
struct Waiting {
    shared: Arc<Shared>,
    number: u64,
    answer: oneshot::Receiver<Answer>,
    /// When this receive ends, if the call waits for longer.
    leave_at: Option<Instant>,
    runtime: Handle,
    answered: bool,
}

impl Waiting {
    fn new(shared: &Arc<Shared>, number: u64, answer: oneshot::Receiver<Answer>, leave_at: Option<Instant>) -> Self {
        Self {
            shared: Arc::clone(shared),
            number,
            answer,
            leave_at,
            runtime: Handle::current(),
            answered: false,
        }
    }

    /// The answer of the call, but no more than `max` messages: what is over is released.
    async fn answer(mut self, max: usize) -> Answer {
        let answer = tokio::select! {
            biased;
            answer = &mut self.answer => answer,
            () = wake_at(self.leave_at) => return Ok(Vec::new()),
        };
        self.answered = true;
        let Ok(answer) = answer else {
            // The task ended early, with its runtime.
            let failure = Failure::local(Action::ReceiveMessage, Class::Connection, "the host is stopping");
            return Err(self.shared.remote.unavailable(failure));
        };
        let mut deliveries = answer?;
        if deliveries.len() > max {
            let surplus = deliveries.split_off(max);
            self.shared.release_later(surplus, &self.runtime);
        }
        Ok(deliveries)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        // After this the answer is either here already, or the call keeps it.
        self.answer.close();
        if let Ok(Ok(deliveries)) = self.answer.try_recv() {
            self.shared.release_later(deliveries, &self.runtime);
            return;
        }
        if let Some(call) = self.shared.calls().open.get_mut(&self.number) {
            call.waiter = None;
            call.abandoned_at = Some(Instant::now());
            call.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poll_leaves_time_for_what_it_brings() {
        for (visibility_s, longest) in [(1, 1), (2, 1), (3, 2), (10, 6), (29, 19), (30, 20), (43_200, 20)] {
            assert_eq!(longest_poll(visibility_s), longest, "{visibility_s}");
            assert!(longest < visibility_s.max(SHORTEST_VISIBILITY_S), "{visibility_s}");
        }
    }
}
