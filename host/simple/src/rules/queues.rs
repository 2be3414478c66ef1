//! The queues of a store: opening it, declaring them, counting and emptying them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use tokio::sync::Notify;

use super::{
    super::{
        clock::{StoreClock, StoreTime},
        in_flight::InFlightTable,
        isolation::{PoisonIsolation, SharedIsolation},
        processed::{ProcessedMessageSettings, ProcessedMessages, SharedProcessedMessages},
        row::{MessageState, QueueKey, StoreFault},
        rows::{MessageCensus, QueueRecord, Rows, StoredQueue},
        settings::{Order, Settings},
    },
    MessageTally, QueueStanding, QueueState, SavedState, StoreRules,
    processed::ProcessedChanges,
};
use sandhog_queue::Counts;
use sandhog_queue::{machine_clock::MachineClock, message::QueueName};

/// The number of rows that one step of a long operation changes.
const STEP: usize = 256;

/// A queue that was declared.
#[derive(Debug)]
pub(crate) struct DeclaredQueue {
    pub(crate) key: QueueKey,
    /// Tells receivers in memory that something may have come.
    pub(crate) notify: Arc<Notify>,
    /// It, and its dead-letter queue: they accept sends now.
    pub(crate) destinations: Vec<QueueName>,
}

impl<R: Rows> StoreRules<R> {
    /// A store with these rows. With `undoable`, [`StoreRules::undo`] works, and notes of processed messages wait to be written.
    pub(crate) fn new(rows: R, undoable: bool, processed: ProcessedMessageSettings, machine: MachineClock) -> Self {
        let clock = StoreClock::start(machine);
        Self {
            clock: clock.clone(),
            seen_ms: 0,
            latest: tokio::time::Instant::now(),
            queues: BTreeMap::new(),
            names: HashMap::new(),
            dead_letter_sources: HashMap::new(),
            in_flight: InFlightTable::new(undoable),
            isolation: PoisonIsolation::default(),
            shared_isolation: SharedIsolation::default(),
            last_seq: 0,
            wakes: Vec::new(),
            processed: SharedProcessedMessages::new(ProcessedMessages::new(processed, undoable), clock),
            entries: ProcessedChanges::default(),
            saved: undoable.then(SavedState::default),
            rows,
        }
    }
}

impl StoreRules {
    /// Learns what an earlier run left. Messages that were in flight are visible at once, and suspect.
    pub(crate) fn restore(&mut self) -> Result<(), StoreFault> {
        for queue in self.rows.queues()? {
            self.admit(queue);
        }
        for key in self.rows.retired_queues()? {
            self.admit_retired(key);
        }
        let census = self.rows.census()?;
        self.count(&census);
        let now = self.go_on(census.last.map(|(_, newest_ms)| newest_ms))?;
        self.raise_suspicion()?;
        self.learn_handled(now)
    }

    /// Returns the number of all messages in the store.
    pub(crate) fn message_count(&self) -> u64 {
        self.queues.values().map(|queue| queue.tally.all()).sum()
    }

    fn count(&mut self, census: &MessageCensus) {
        self.last_seq = census.last.map_or(0, |(seq, _)| seq);
        for (key, state, number) in &census.states {
            if let Some(queue) = self.queues.get_mut(key) {
                *queue.tally.of(*state) += number;
            }
        }
        for (place, origin, number) in &census.dead {
            if let Some(queue) = self.queues.get_mut(place) {
                queue.tally.dead_here += number;
            }
            if let Some(queue) = self.queues.get_mut(origin) {
                queue.tally.dead_of += number;
            }
        }
        for (key, number) in &census.suspects {
            if let Some(queue) = self.queues.get_mut(key) {
                queue.tally.suspects += number;
            }
        }
    }

    fn raise_suspicion(&mut self) -> Result<(), StoreFault> {
        let mut in_flight: u64 = self.queues.values().map(|queue| queue.tally.all_in_flight()).sum();
        let has_some = |(key, queue): (&QueueKey, &QueueState)| (queue.tally.all_in_flight() > 0).then_some(*key);
        let keys: Vec<QueueKey> = self.queues.iter().filter_map(has_some).collect();
        for key in &keys {
            in_flight = in_flight.saturating_sub(self.rows.in_flight_outside(*key)?);
        }
        for key in keys {
            // The heads come first, so that those behind them join their groups behind them again.
            for state in [MessageState::InFlight, MessageState::InFlightBehind] {
                self.raise_suspicion_in(key, state, in_flight)?;
            }
        }
        if in_flight > 0 {
            tracing::warn!(
                in_flight,
                "the host ended while messages were in flight: each is handed out again, alone"
            );
        }
        Ok(())
    }

    fn raise_suspicion_in(&mut self, key: QueueKey, state: MessageState, in_flight: u64) -> Result<(), StoreFault> {
        loop {
            let batch = self.rows.any(key, state, u64::MAX, STEP)?;
            if batch.is_empty() {
                return Ok(());
            }
            for mut meta in batch {
                if !meta.is_outside() {
                    if !meta.suspicion.is_raised() {
                        self.queue_mut(key).tally.suspects += 1;
                    }
                    meta.suspicion = meta.suspicion.after_crash(meta.is_blamed(in_flight));
                }
                // A message that was taken out of its group joins its group as if it were new.
                meta.visible_at_ms = 0;
                let group_id = self.rows.group_id(meta.seq)?;
                let group = self.group_for(key, group_id.as_deref());
                if meta.group == group && state == MessageState::InFlight {
                    self.change(meta, MessageState::Ready)?;
                } else {
                    meta.group = group;
                    self.enter(meta)?;
                }
            }
        }
    }

    fn admit(&mut self, stored: StoredQueue) -> QueueKey {
        let StoredQueue { key, name, order, .. } = stored;
        self.names.insert(name.clone(), key);
        let state = QueueState {
            settings: Settings {
                order,
                ..Settings::defaults(&name)
            },
            name,
            order,
            standing: QueueStanding::Left,
            tally: MessageTally::default(),
            due_ms: u64::MAX,
            aged_ms: 0,
            expired: 0,
            regrouped: false,
            regrouping: None,
            notify: Arc::new(Notify::new()),
        };
        self.queues.insert(key, state);
        key
    }

    fn admit_retired(&mut self, key: QueueKey) {
        let name = QueueName::new(&format!("deleted-{}", key.0)).expect("a legal name");
        let stored = StoredQueue {
            key,
            name: name.clone(),
            order: Order::Ungrouped,
            record: QueueRecord::default(),
        };
        let former = self.names.get(&name).copied();
        self.admit(stored);
        match former {
            Some(former) => self.names.insert(name, former),
            None => self.names.remove(&name),
        };
        if let Some(queue) = self.queues.get_mut(&key) {
            queue.standing = QueueStanding::Retired;
        }
    }

    fn found(&mut self, name: &QueueName, order: Order) -> Result<QueueKey, StoreFault> {
        if let Some(key) = self.names.get(name) {
            return Ok(*key);
        }
        let last = self.queues.last_key_value().map_or(0, |(key, _)| key.0);
        let stored = StoredQueue {
            key: QueueKey(last + 1),
            name: name.clone(),
            order,
            record: QueueRecord {
                created_at_ms: Some(self.tick(self.latest).wall_ms),
                ..QueueRecord::default()
            },
        };
        self.rows.add_queue(&stored)?;
        let key = self.admit(stored);
        if let Some(saved) = &mut self.saved {
            saved.added.push(key);
        }
        Ok(key)
    }

    /// Declares a queue, with these settings from now on, and its dead-letter queue.
    pub(crate) fn declare(&mut self, name: &QueueName, settings: Settings) -> Result<DeclaredQueue, StoreFault> {
        let order = settings.order;
        let key = self.found(name, order)?;
        self.reshape(key, |queue| {
            queue.settings = settings;
            queue.standing = QueueStanding::Declared;
            queue.aged_ms = 0;
        });
        if self.queue(key).order != order {
            self.regroup(key, order)?;
        }
        let mut destinations = vec![name.clone()];
        if self.queue(key).settings.makes_dead_letter_queue && !self.is_terminal(key) {
            let dead_letter = self.queue(key).settings.dead_letter.clone();
            self.declare_dead_letter(&dead_letter)?;
            destinations.push(dead_letter);
        }
        self.wake_later(key);
        Ok(DeclaredQueue {
            key,
            notify: Arc::clone(&self.queue(key).notify),
            destinations,
        })
    }

    /// Makes sure that the queue exists to which dead letters go.
    pub(crate) fn declare_dead_letter(&mut self, name: &QueueName) -> Result<QueueKey, StoreFault> {
        let key = self.found(name, Order::Group)?;
        if !self.queue(key).is_declared() {
            self.reshape(key, |queue| queue.standing = QueueStanding::Declared);
        }
        Ok(key)
    }

    /// Returns whether exhausted messages stay in a queue: it is its own dead-letter queue or that of others, or its dead-letter queue
    /// was deleted.
    pub(crate) fn is_terminal(&self, key: QueueKey) -> bool {
        let queue = self.queue(key);
        let own = &queue.settings.dead_letter;
        let has_none = || !queue.settings.makes_dead_letter_queue && !self.names.contains_key(own);
        let serves_another =
            || self.dead_letter_sources.contains_key(&queue.name) && *own == queue.name.default_dead_letter();
        *own == queue.name || serves_another() || has_none()
    }

    /// Returns what is kept about a queue, if there is one of that name.
    pub(crate) fn queue_record(&mut self, name: &QueueName) -> Result<Option<QueueRecord>, StoreFault> {
        match self.names.get(name) {
            Some(key) => self.rows.queue_record(*key),
            None => Ok(None),
        }
    }

    /// Replaces what is kept about a queue. Returns whether there is one of that name.
    pub(crate) fn set_queue_record(&mut self, name: &QueueName, record: &QueueRecord) -> Result<bool, StoreFault> {
        let Some(key) = self.names.get(name) else {
            return Ok(false);
        };
        self.rows.set_queue_record(*key, record)?;
        Ok(true)
    }

    /// Returns the names of all queues, declared or left by an earlier run.
    pub(crate) fn names(&self) -> Vec<QueueName> {
        let named = self.queues.values().filter(|queue| !queue.is_retired());
        named.map(|queue| queue.name.clone()).collect()
    }

    /// Counts the messages of a queue.
    pub(crate) fn counts(&mut self, key: QueueKey, now: StoreTime) -> Result<Counts, StoreFault> {
        self.expire(key, now)?;
        let oldest = self.oldest_waiting(key)?;
        let tally = &self.queue(key).tally;
        Ok(Counts {
            ready: tally.ready + tally.held,
            in_flight: tally.all_in_flight(),
            delayed: tally.delayed + tally.retry,
            oldest_age_ms: oldest.map(|queued_at_ms| now.ms.saturating_sub(queued_at_ms)),
            dead: tally.dead_of,
            damaged: tally.damaged,
            expired: self.queue(key).expired,
        })
    }

    /// Deletes some of the messages up to `last` that are not in flight. Returns their number, which is 0 if none is left.
    pub(crate) fn purge(&mut self, key: QueueKey, last: u64, limit: usize) -> Result<u64, StoreFault> {
        for state in MessageState::IDLE {
            let batch = self.rows.any(key, state, last, limit)?;
            let mut count = 0;
            for meta in batch {
                self.remove(&meta)?;
                count += 1;
            }
            if count > 0 {
                return Ok(count);
            }
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::super::memory::MemoryRows, *};

    #[derive(Debug, Clone)]
    enum Step {
        Declare { name: QueueName, settings: Settings },
        Retire { name: QueueName },
    }

    fn name() -> impl Strategy<Value = QueueName> {
        prop::sample::select(vec!["a", "b", "a-dead", "b-dead"]).prop_map(|name| QueueName::new(name).unwrap())
    }

    fn step() -> impl Strategy<Value = Step> {
        let declare = (name(), prop::option::of(name()), any::<bool>()).prop_map(|(name, target, makes)| {
            let defaults = Settings::defaults(&name);
            let settings = Settings {
                dead_letter: target.unwrap_or_else(|| defaults.dead_letter.clone()),
                makes_dead_letter_queue: makes,
                ..defaults
            };
            (name, settings)
        });
        prop_oneof![
            3 => declare.prop_map(|(name, settings)| Step::Declare { name, settings }),
            1 => name().prop_map(|name| Step::Retire { name }),
        ]
    }

    /// What [`StoreRules::is_terminal`] says, found by a look at every queue.
    fn searched(rules: &StoreRules, key: QueueKey) -> bool {
        let queue = rules.queue(key);
        let own = &queue.settings.dead_letter;
        let gives_here = |other: &QueueState| {
            other.is_declared() && other.name != queue.name && other.settings.dead_letter == queue.name
        };
        let serves_another = rules.queues.values().any(gives_here);
        let has_none = !queue.settings.makes_dead_letter_queue && !rules.names.contains_key(own);
        has_none || *own == queue.name || (serves_another && *own == queue.name.default_dead_letter())
    }

    proptest! {
        #[test]
        fn who_keeps_dead_letters_is_known_at_any_time(steps in prop::collection::vec((step(), any::<bool>()), 1..30)) {
            let settings = ProcessedMessageSettings::default();
            let mut rules = StoreRules::new(MemoryRows::default(), true, settings, MachineClock::default());
            let rules = rules.with_any_rows();
            let now = rules.tick(tokio::time::Instant::now());
            for (step, is_kept) in steps {
                rules.begin();
                match step {
                    Step::Declare { name, settings } => drop(rules.declare(&name, settings).unwrap()),
                    Step::Retire { name } => {
                        if let Some(key) = rules.names.get(&name).copied() {
                            rules.retire(key, now).unwrap();
                        }
                    }
                }
                if !is_kept {
                    rules.undo();
                }
                for key in rules.queues.keys() {
                    prop_assert_eq!(rules.is_terminal(*key), searched(rules, *key), "{:?}", key);
                }
            }
        }
    }
}
