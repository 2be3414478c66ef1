//! Receives messages: one call of SQS per receive, which outlives a dropped receive for a moment.
//!
//! A long poll whose connection is dropped may take messages that no consumer gets: they stay hidden for a visibility
//! timeout. So a receive that is dropped *abandons* its call, and the next receive *adopts* it. A call that no receive
//! adopts within [`ADOPTED_WITHIN`] is given up. The messages of an abandoned call are released at once.
//!
//! The visibility of a message counts from the request that brought it, see `asked.rs`. A message that comes so late
//! that another consumer may have it is left alone.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use tokio::{
    runtime::Handle,
    sync::{Notify, oneshot},
    time::{Instant, sleep_until},
};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::{
    asked::Asked,
    ending::Ending,
    exhausted::Exhausted,
    facts::Facts,
    failure::{Action, Class, Failure, whole_seconds},
    form,
    held::{DeadLetterState, HeldDelivery},
    remote::Remote,
    tasks::Tasks,
    wire::{Ask, BATCH, Patience, Received},
};
use sandhog_queue::{Delivery, DeliveryLease, QueueError, alarm::wake_at, message::MessageId};

/// The time for which an abandoned call waits for another receive.
const ADOPTED_WITHIN: Duration = Duration::from_secs(1);
/// The longest wait of one call (limit of SQS).
const LONGEST_POLL_S: u64 = 20;
/// The shortest visibility timeout of a receive.
const SHORTEST_VISIBILITY_S: u64 = 2;
/// The time that a call may take beyond its wait.
const POLL_MARGIN: Duration = Duration::from_secs(10);
/// The longest wait of a receive.
const LONGEST_WAIT: Duration = Duration::from_hours(24);
/// The rest of a wait that is not worth another poll, after a server ended one a little early.
const END_OF_WAIT: Duration = Duration::from_millis(100);
/// The shortest time of a poll that waits, so that a server which does not wait is not asked without pause.
const SHORTEST_POLL: Duration = Duration::from_millis(500);
/// The time for which SQS answers an attempt id with the same messages: five minutes, less the time of a call.
const ATTEMPT_LIFE: Duration = Duration::from_secs(270);
/// The number of attempts with an unknown outcome that are remembered.
const ATTEMPTS: usize = 16;

type Answer = Result<Vec<Delivery>, QueueError>;

/// Receives from one queue.
#[derive(Debug)]
pub(crate) struct LongPolls {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    remote: Arc<Remote>,
    tasks: Tasks,
    exhausted: Arc<Exhausted>,
    /// The tasks of calls, and of the releases of what they brought for nobody.
    under_way: TaskTracker,
    // Never held across an await.
    calls: Mutex<Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    next: u64,
    open: BTreeMap<u64, Call>,
    /// Attempts that may have taken messages, oldest first. If there are too many the oldest is forgotten, because its
    /// messages return first.
    unknown: VecDeque<Attempt>,
}

/// A call under way.
#[derive(Debug)]
struct Call {
    max: usize,
    /// The time at which the wait of the call is over.
    until: Instant,
    waiter: Option<oneshot::Sender<Answer>>,
    abandoned_at: Option<Instant>,
    changed: Arc<Notify>,
}

/// The request of one call, and the time at which it was first made.
#[derive(Debug, Clone)]
struct Attempt {
    ask: Ask,
    at: Instant,
}

impl LongPolls {
    pub(crate) fn new(remote: Arc<Remote>, tasks: Tasks) -> Self {
        Self {
            shared: Arc::new(Shared {
                exhausted: Arc::new(Exhausted::new(Arc::clone(&remote), tasks.clone())),
                remote,
                tasks,
                under_way: TaskTracker::new(),
                calls: Mutex::default(),
            }),
        }
    }

    /// See [`sandhog_queue::Queue::is_receiving`].
    pub(crate) fn is_receiving(&self) -> bool {
        !self.shared.under_way.is_empty()
    }

    /// See [`sandhog_queue::Queue::receive`].
    ///
    /// # Cancel safety
    ///
    /// Safe: the call goes on, see above. If the queue itself is dropped while a call is under way, or no receive follows
    /// for a while, messages that the call has taken stay hidden for one visibility timeout.
    pub(crate) async fn receive(&self, max: usize, wait: Duration) -> Answer {
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

    /// Takes over the abandoned call that fits best. A receive that does not wait takes over only a call that does not wait
    /// either.
    fn adopt(&self, max: usize, wait_s: u64) -> Option<Waiting> {
        let end = Instant::now() + Duration::from_secs(wait_s);
        let mut calls = self.shared.calls();
        let fitting = calls
            .open
            .iter()
            .filter(|(_, call)| call.abandoned_at.is_some() && (wait_s > 0 || call.until <= end))
            // The largest call that is not too large, else the one that is the least too large.
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
                // A little longer than the wait, or the visibility could be over before the answer is here.
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
        let run = shared.under_way.track_future(run);
        shared.tasks.spawn_on(&Handle::current(), run);
        Waiting::new(shared, number, answer, None)
    }
}

impl Calls {
    /// Returns an attempt whose outcome is unknown, to be made again: SQS answers the same id with the same messages.
    fn take_unknown(&mut self, now: Instant) -> Option<Attempt> {
        self.unknown
            .retain(|attempt| now.duration_since(attempt.at) < ATTEMPT_LIFE);
        self.unknown.pop_front()
    }

    fn remember_unknown(&mut self, attempt: Attempt) {
        if attempt.ask.attempt_id.is_some() {
            if self.unknown.len() == ATTEMPTS {
                self.unknown.pop_front();
            }
            self.unknown.push_back(attempt);
        }
    }
}

/// The task of one call.
struct Open {
    shared: Arc<Shared>,
    number: u64,
}

impl Open {
    /// Makes one call and gives its answer to the receive that waits for it then.
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
    /// No receive waits for a call whose task has ended, however it ended.
    fn drop(&mut self) {
        let call = self.shared.calls().open.remove(&self.number);
        drop(call);
    }
}

impl Shared {
    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock()
    }

    async fn ask(&self, facts: &Facts, ask: Ask) -> Result<Vec<Received>, Failure> {
        let patience = Patience::new(Duration::from_secs(ask.wait_s) + POLL_MARGIN, 1);
        self.remote
            .call(Action::ReceiveMessage, async |wire| {
                wire.receive(&facts.url, ask, patience).await
            })
            .await
    }

    /// Gives an abandoned call up, unless a receive adopted it at the last moment.
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

    /// Gives an answer to the receive that waits for it. If none does, the messages are released.
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
    /// by themselves. So do messages whose time is over: their receipts might release them from another consumer.
    async fn release(&self, mut deliveries: Vec<Delivery>) {
        let remote = &self.remote;
        deliveries.retain(|delivery| !delivery.lease.is_lost());
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

    /// Makes deliveries of messages. A message that was received too often becomes a dead letter instead.
    async fn admit(self: &Arc<Self>, messages: Vec<Received>, visibility_s: u64, asked: Asked) -> Answer {
        let visibility = Duration::from_secs(visibility_s);
        let deadline = asked.hidden_until(visibility);
        self.remote.held.forget_dropped();
        if deadline <= Instant::now() {
            self.came_late(&messages, asked);
            return Ok(Vec::new());
        }
        let max_receives = self.remote.capabilities().max_receives;
        let mut deliveries = Vec::new();
        let mut exhausted = Vec::new();
        for message in messages {
            let Some(delivery) = self.delivery(message, deadline, asked) else {
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
            return self
                .exhausted
                .dead_letter_all(exhausted, deadline)
                .await
                .map(|()| deliveries);
        }
        // The others need not wait for the dead letters, and the next receive finds a failure that lasts.
        let exhausted_messages = Arc::clone(&self.exhausted);
        let dead_letters = async move { drop(exhausted_messages.dead_letter_all(exhausted, deadline).await) };
        self.tasks.spawn_on(&Handle::current(), dead_letters);
        Ok(deliveries)
    }

    /// Logs messages that came when another consumer may have them already. They are not even released: on a standard queue
    /// their receipts would still work, on the delivery of the other consumer.
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

    fn delivery(&self, message: Received, deadline: Instant, asked: Asked) -> Option<Delivery> {
        let remote = &self.remote;
        let id = MessageId::from_queue(&message.id);
        let handle = message.handle.clone();
        let receive_count = message.receive_count.unwrap_or(std::num::NonZeroU32::MIN);
        let sent_at_ms = message.sent_at_ms;
        let content = form::open(message).content;
        let message = content.message(id.clone(), sent_at_ms);
        let delivery = HeldDelivery {
            id: message.id.clone(),
            content,
            sent_at_ms,
            receive_count: receive_count.get(),
            asked_at: asked.at,
            dead_letter: DeadLetterState::default(),
        };
        let Some(receipt) = remote.held.hold(&handle, delivery) else {
            tracing::debug!(queue = %remote.name, %id, "a message was received twice with the same receipt");
            return None;
        };
        Some(Delivery {
            message,
            receipt,
            receive_count,
            lease: DeliveryLease::Until(deadline),
        })
    }

    /// Releases the messages that a dropped receive did not take.
    fn release_later(self: &Arc<Self>, deliveries: Vec<Delivery>, runtime: &Handle) {
        if !deliveries.is_empty() {
            let shared = Arc::clone(self);
            let release = async move { shared.release(deliveries).await };
            self.tasks.spawn_on(runtime, self.under_way.track_future(release));
        }
    }
}

/// Returns the longest wait of a call, in seconds: at most two thirds of the visibility timeout, so that a message which
/// comes at its end has the last third left.
fn longest_poll(visibility_s: u64) -> u64 {
    (visibility_s.saturating_mul(2) / 3).clamp(1, LONGEST_POLL_S)
}

/// A receive that waits for a call. Dropped without an answer, it abandons the call.
struct Waiting {
    shared: Arc<Shared>,
    number: u64,
    answer: oneshot::Receiver<Answer>,
    /// The end of this receive, if the call waits for longer.
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

    /// Waits for the answer of the call, and takes at most `max` messages. The others are released.
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
        // From here on the answer either has arrived, or the call keeps it.
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

    /// The newest attempts were forgotten, though their messages stay hidden for longest.
    #[tokio::test(start_paused = true)]
    async fn of_too_many_attempts_with_an_unknown_outcome_the_oldest_is_forgotten() {
        let mut calls = Calls::default();
        let now = Instant::now();
        let id = |number: usize| Some(number.to_string());
        for number in 0..=ATTEMPTS {
            let ask = Ask {
                max: 1,
                wait_s: 0,
                visibility_s: 30,
                attempt_id: id(number),
            };
            calls.remember_unknown(Attempt { ask, at: now });
        }
        let ids: Vec<_> = std::iter::from_fn(|| calls.take_unknown(now))
            .map(|attempt| attempt.ask.attempt_id)
            .collect();
        assert_eq!(ids, (1..=ATTEMPTS).map(id).collect::<Vec<_>>());
    }

    #[test]
    fn a_poll_leaves_time_for_what_it_brings() {
        for (visibility_s, longest) in [(1, 1), (2, 1), (3, 2), (10, 6), (29, 19), (30, 20), (43_200, 20)] {
            assert_eq!(longest_poll(visibility_s), longest, "{visibility_s}");
            assert!(longest < visibility_s.max(SHORTEST_VISIBILITY_S), "{visibility_s}");
        }
    }
}
