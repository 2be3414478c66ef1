//! The rules of a Simple queue, once, for the durable and the ephemeral store alike.
//!
//! [`StoreRules`] is the whole state of a store: its rows and the facts about them in memory. Every change goes
//! through the few functions of this file, which keep the tallies equal to the rows; the files below it hold one
//! rule each. Invariant: of the messages that share a group at most one is ready, in flight or waiting for its retry, but for those
//! in flight that were handed out together with it.
//! The rules know neither SQL nor threads.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    sync::Arc,
};

use tokio::{sync::Notify, time::Instant};

use super::{
    clock::{StoreClock, StoreTime},
    in_flight::InFlightTable,
    isolation::{PoisonIsolation, SharedIsolation},
    processed::SharedProcessedMessages,
    row::{DeathRecord, GroupName, MessageContent, MessageMeta, MessageState, QueueKey, StoreFault},
    rows::Rows,
    settings::{Order, Settings},
};
use sandhog_queue::message::QueueName;

#[cfg(test)]
mod cost;
mod dead;
mod delete;
mod expire;
mod groups;
mod keyvalue;
mod late;
mod look;
mod moves;
mod processed;
mod queues;
mod receive;
mod send;
mod settle;
mod standing;
mod time;

use self::processed::ProcessedChanges;

pub(crate) use dead::DeadLetterChoice;
pub(crate) use moves::MoveStep;
pub use moves::MovedMessages;
pub(crate) use receive::ReceiveAnswer;

/// The numbers of messages of one queue.
#[derive(Debug, Clone, Default)]
pub(crate) struct MessageTally {
    pub(crate) ready: u64,
    pub(crate) held: u64,
    pub(crate) in_flight: u64,
    pub(crate) in_flight_behind: u64,
    pub(crate) delayed: u64,
    pub(crate) retry: u64,
    pub(crate) damaged: u64,
    /// The number of all these that are dead letters.
    pub(crate) dead_here: u64,
    /// The number of dead letters of this queue in other queues.
    pub(crate) dead_of: u64,
    pub(crate) suspects: u64,
}

impl MessageTally {
    pub(crate) fn of(&mut self, state: MessageState) -> &mut u64 {
        match state {
            MessageState::Ready => &mut self.ready,
            MessageState::Held => &mut self.held,
            MessageState::InFlight => &mut self.in_flight,
            MessageState::InFlightBehind => &mut self.in_flight_behind,
            MessageState::Delayed => &mut self.delayed,
            MessageState::Retry => &mut self.retry,
            MessageState::Damaged => &mut self.damaged,
        }
    }

    /// Returns the number that counts towards the depth limit.
    pub(crate) fn sent(&self) -> u64 {
        self.all().saturating_sub(self.dead_here)
    }

    /// Returns the number of all messages.
    pub(crate) fn all(&self) -> u64 {
        self.ready + self.held + self.delayed + self.retry + self.damaged + self.all_in_flight()
    }

    /// Returns the number of messages that are with a receiver.
    pub(crate) fn all_in_flight(&self) -> u64 {
        self.in_flight + self.in_flight_behind
    }

    fn move_between(&mut self, from: MessageState, to: MessageState) {
        subtract(self.of(from));
        *self.of(to) += 1;
    }
}

/// Saturates: an operator who deletes rows with another tool must not stop the host.
fn subtract(count: &mut u64) {
    *count = count.saturating_sub(1);
}

/// Whether a queue is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QueueStanding {
    /// An earlier run left the queue, and this one does not use it.
    Left,
    /// This run of the host uses the queue.
    Declared,
    /// The queue was deleted. It has no name any more, and [`QueueState::name`] is a text for the log.
    Retired,
}

/// The state of one queue.
#[derive(Debug, Clone)]
pub(crate) struct QueueState {
    pub(crate) name: QueueName,
    pub(crate) settings: Settings,
    /// The stored order, which the groups are derived from.
    pub(crate) order: Order,
    pub(crate) standing: QueueStanding,
    pub(crate) tally: MessageTally,
    /// No delayed message and no retry is due before this time.
    pub(crate) due_ms: u64,
    /// No message is past its time to live before this time.
    pub(crate) aged_ms: u64,
    /// The number of messages that the time to live has removed in this run.
    pub(crate) expired: u64,
    /// The groups were derived anew in this run, so a message in flight may have left its own.
    pub(crate) regrouped: bool,
    /// While the groups are derived anew: the messages behind the first `seq` and up to the second one are left. The queue hands
    /// nothing out meanwhile.
    pub(crate) regrouping: Option<(u64, u64)>,
    pub(crate) notify: Arc<Notify>,
}

impl QueueState {
    pub(crate) fn is_declared(&self) -> bool {
        self.standing == QueueStanding::Declared
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.standing == QueueStanding::Retired
    }

    /// Returns the queue that this one gives its dead letters to, if it is in use and that is another one.
    fn gives_dead_letters_to(&self) -> Option<&QueueName> {
        let target = &self.settings.dead_letter;
        (self.is_declared() && *target != self.name).then_some(target)
    }
}

/// A whole store. The rules see rows of any kind; only the owner of the store knows the kind.
#[derive(Debug)]
pub(crate) struct StoreRules<R: ?Sized = dyn Rows> {
    clock: StoreClock,
    /// The store's time when it was noted last; 0 if that is unknown.
    seen_ms: u64,
    latest: Instant,
    queues: BTreeMap<QueueKey, QueueState>,
    names: HashMap<QueueName, QueueKey>,
    /// How many queues give their dead letters to another queue, by that one's name.
    dead_letter_sources: HashMap<QueueName, usize>,
    in_flight: InFlightTable,
    isolation: PoisonIsolation,
    shared_isolation: SharedIsolation,
    last_seq: u64,
    wakes: Vec<QueueKey>,
    processed: SharedProcessedMessages,
    entries: ProcessedChanges,
    /// The state before the transaction under way of each queue that it touched; `None` if nothing is ever undone.
    saved: Option<SavedState>,
    /// The last field, so that a store with rows of a known kind can be borrowed as one with rows of any kind.
    pub(crate) rows: R,
}

#[derive(Debug, Default)]
struct SavedState {
    isolation: PoisonIsolation,
    seen_ms: u64,
    queues: Vec<(QueueKey, QueueState)>,
    added: Vec<QueueKey>,
}

impl<R: ?Sized> StoreRules<R> {
    /// Returns the hold of receives, for readers outside of the store.
    pub(crate) fn shared_isolation(&self) -> &SharedIsolation {
        &self.shared_isolation
    }

    /// Returns the processed messages, for callers that do not wait for the store.
    pub(crate) fn processed(&self) -> &SharedProcessedMessages {
        &self.processed
    }
}

impl<R: Rows + 'static> StoreRules<R> {
    /// Returns the store as the rules see it.
    pub(crate) fn with_any_rows(&mut self) -> &mut StoreRules {
        self
    }
}

impl StoreRules {
    /// Notes the start of a transaction.
    pub(crate) fn begin(&mut self) {
        self.in_flight.begin();
        if let Some(saved) = &mut self.saved {
            *saved = SavedState {
                isolation: self.isolation,
                seen_ms: self.seen_ms,
                ..SavedState::default()
            };
        }
    }

    /// Forgets every change since [`StoreRules::begin`]: the rows were rolled back.
    pub(crate) fn undo(&mut self) {
        self.in_flight.undo();
        self.undo_handled();
        self.wakes.clear();
        let Some(saved) = self.saved.as_mut().map(std::mem::take) else {
            return;
        };
        self.isolation = saved.isolation;
        self.seen_ms = saved.seen_ms;
        for key in &saved.added {
            self.forget_source(*key);
            if let Some(queue) = self.queues.remove(key)
                && self.names.get(&queue.name) == Some(key)
            {
                self.names.remove(&queue.name);
            }
        }
        for (key, queue) in saved.queues {
            if saved.added.contains(&key) {
                continue;
            }
            if !queue.is_retired() {
                self.names.insert(queue.name.clone(), key);
            }
            self.forget_source(key);
            self.queues.insert(key, queue);
            self.note_source(key);
        }
    }

    /// Wakes the receivers of the queues that have changed. Call it after the commit.
    pub(crate) fn wake(&mut self) {
        for key in self.wakes.drain(..) {
            if let Some(queue) = self.queues.get(&key) {
                queue.notify.notify_waiters();
            }
        }
    }

    /// Takes the queues that have changed since the last call, so that their receivers may find a message.
    pub(crate) fn take_woken(&mut self) -> Vec<QueueKey> {
        std::mem::take(&mut self.wakes)
    }

    /// Returns the moment of a command, which is never earlier than that of the command before it.
    pub(crate) fn tick(&mut self, instant: Instant) -> StoreTime {
        self.latest = self.latest.max(instant);
        self.clock.at(self.latest)
    }

    fn wake_later(&mut self, key: QueueKey) {
        if !self.wakes.contains(&key) {
            self.wakes.push(key);
        }
    }

    fn wake_all_later(&mut self) {
        self.wakes.clear();
        self.wakes.extend(self.queues.keys());
    }

    fn queue(&self, key: QueueKey) -> &QueueState {
        self.queues
            .get(&key)
            .expect("a key is made with its queue, and no queue is ever removed")
    }

    fn queue_mut(&mut self, key: QueueKey) -> &mut QueueState {
        let queue = self
            .queues
            .get_mut(&key)
            .expect("a key is made with its queue, and no queue is ever removed");
        if let Some(saved) = &mut self.saved
            && !saved.queues.iter().any(|(known, _)| *known == key)
        {
            saved.queues.push((key, queue.clone()));
        }
        queue
    }

    /// Changes whether a queue is in use, or its settings.
    fn reshape(&mut self, key: QueueKey, change: impl FnOnce(&mut QueueState)) {
        self.forget_source(key);
        change(self.queue_mut(key));
        self.note_source(key);
    }

    fn note_source(&mut self, key: QueueKey) {
        if let Some(target) = self.queue(key).gives_dead_letters_to().cloned() {
            *self.dead_letter_sources.entry(target).or_default() += 1;
        }
    }

    fn forget_source(&mut self, key: QueueKey) {
        let target = self.queue(key).gives_dead_letters_to().cloned();
        if let Some(Entry::Occupied(mut sources)) = target.map(|target| self.dead_letter_sources.entry(target)) {
            *sources.get_mut() -= 1;
            if *sources.get() == 0 {
                sources.remove();
            }
        }
    }

    fn next_seq(&mut self) -> u64 {
        self.last_seq += 1;
        self.last_seq
    }

    /// Adds a message.
    fn add(&mut self, meta: MessageMeta, content: MessageContent) -> Result<(), StoreFault> {
        *self.queue_mut(meta.queue).tally.of(meta.state) += 1;
        self.announce(&meta);
        self.rows.insert(meta, content)
    }

    /// Gives a message another state in its queue. `meta` has the old state, and the new values of everything else that `place` writes.
    fn change(&mut self, mut meta: MessageMeta, state: MessageState) -> Result<(), StoreFault> {
        self.queue_mut(meta.queue).tally.move_between(meta.state, state);
        meta.state = state;
        self.rows.place(&meta)?;
        self.announce(&meta);
        Ok(())
    }

    /// Moves a message to the place `to`, in another queue, and leaves its group to the next.
    fn relocate(
        &mut self,
        from: &MessageMeta,
        to: &MessageMeta,
        death: Option<&DeathRecord>,
    ) -> Result<(), StoreFault> {
        self.rows.relocate(from.seq, to, death)?;
        self.forget_tally(from);
        *self.queue_mut(to.queue).tally.of(to.state) += 1;
        if let Some(origin) = to.origin {
            self.queue_mut(to.queue).tally.dead_here += 1;
            self.queue_mut(origin).tally.dead_of += 1;
        }
        self.announce(to);
        self.promote(from)
    }

    /// Deletes a message for good, and leaves its group to the next.
    fn remove(&mut self, meta: &MessageMeta) -> Result<(), StoreFault> {
        self.rows.delete(meta)?;
        self.forget_tally(meta);
        self.promote(meta)
    }

    fn forget_tally(&mut self, meta: &MessageMeta) {
        let tally = &mut self.queue_mut(meta.queue).tally;
        subtract(tally.of(meta.state));
        if meta.suspicion.is_raised() {
            subtract(&mut tally.suspects);
        }
        if let Some(origin) = meta.origin {
            subtract(&mut tally.dead_here);
            if self.queues.contains_key(&origin) {
                subtract(&mut self.queue_mut(origin).tally.dead_of);
            }
        }
    }

    /// Notes that a message's new state may concern receivers.
    fn announce(&mut self, meta: &MessageMeta) {
        match meta.state {
            MessageState::Ready => self.wake_later(meta.queue),
            MessageState::Delayed | MessageState::Retry => {
                if meta.visible_at_ms < self.queue(meta.queue).due_ms {
                    self.queue_mut(meta.queue).due_ms = meta.visible_at_ms;
                    self.wake_later(meta.queue);
                }
            }
            MessageState::Held | MessageState::InFlight | MessageState::InFlightBehind | MessageState::Damaged => {}
        }
    }

    /// Returns the group of a message in a queue.
    fn group_for(&self, key: QueueKey, group_id: Option<&str>) -> Option<GroupName> {
        match self.queue(key).order {
            Order::Queue => Some(GroupName::from("")),
            Order::Group => group_id.map(GroupName::from),
            Order::Ungrouped => None,
        }
    }
}
