//! The journal: the recent attempts of every handler, in memory, and the live view of those that end now. `journal/keeper.rs` keeps
//! them on the disk, too, where that is asked for.
//!
//! Invariant: what is kept of a handler stays within a number of entries and of bytes, the number of handlers is bounded, and a
//! reader that is slow misses entries and is told so; it never keeps an attempt waiting. The journal knows no queue and no guest.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast};

use sandhog_queue::machine_clock::wall_ms;

mod entry;
mod file;
mod keeper;
mod reader;
mod way;

pub use self::{
    entry::{JournalEntry, JournalLine, JournalSend},
    way::{MessageWay, WaySender},
};
pub(crate) use self::{
    entry::{PrintedLines, short_stack},
    keeper::JournalKeeper,
    reader::{JournalEvent, JournalReader, JournalStart},
};

/// How many entries a reader of the live view may be behind.
const LIVE_ENTRIES: usize = 1024;
/// The most handlers of which entries are kept: more than a plugin directory has, whatever comes and goes in it.
const MAX_HANDLERS: usize = 1024;

/// The bounds of what the journal keeps of one handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalLimits {
    /// The most entries.
    pub entries: usize,
    /// The most bytes of memory.
    pub bytes: usize,
}

impl Default for JournalLimits {
    fn default() -> Self {
        Self {
            entries: 1000,
            bytes: 1024 * 1024,
        }
    }
}

/// What a host keeps of its attempts, and where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JournalSettings {
    /// The bounds.
    pub limits: JournalLimits,
    /// The entries are kept on the disk, too, and outlive the process.
    pub durable: bool,
}

/// The recent attempts of all handlers.
#[derive(Debug)]
pub struct Journal {
    limits: JournalLimits,
    kept: Mutex<KeptEntries>,
    /// Notified when entries were added. For one task.
    added: Notify,
    live: broadcast::Sender<Arc<JournalEntry>>,
}

#[derive(Debug)]
struct KeptEntries {
    next: u64,
    handlers: HashMap<String, HandlerEntries>,
}

/// The entries of one handler, oldest first.
#[derive(Debug, Default)]
struct HandlerEntries {
    entries: VecDeque<Arc<JournalEntry>>,
    bytes: usize,
}

/// Which entries somebody wants to see. What is absent is not asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JournalFilter {
    /// Of this handler.
    pub handler: Option<String>,
    /// Of messages of this queue.
    pub queue: Option<String>,
    /// Of the message with this id.
    pub message: Option<String>,
    /// With this outcome.
    pub outcome: Option<String>,
    /// On this version.
    pub version: Option<u64>,
    /// Of messages that were not handled.
    pub failed: bool,
}

impl JournalFilter {
    /// Whether an entry is one of those.
    pub fn admits(&self, entry: &JournalEntry) -> bool {
        let is = |wanted: &Option<String>, text: &str| wanted.as_deref().is_none_or(|wanted| wanted == text);
        is(&self.handler, &entry.handler)
            && is(&self.queue, &entry.queue)
            && is(&self.message, &entry.message)
            && is(&self.outcome, &entry.outcome)
            && self.version.is_none_or(|version| version == entry.version)
            && !(self.failed && entry.is_handled())
    }
}

impl Default for Journal {
    fn default() -> Self {
        Self::new(JournalLimits::default())
    }
}

impl Journal {
    /// Makes a journal that is empty.
    pub fn new(limits: JournalLimits) -> Self {
        Self {
            limits,
            kept: Mutex::new(KeptEntries {
                // Above every number of an earlier run that made fewer than a thousand entries a millisecond.
                next: wall_ms().saturating_mul(1000),
                handlers: HashMap::new(),
            }),
            added: Notify::new(),
            live: broadcast::Sender::new(LIVE_ENTRIES),
        }
    }

    /// Whether anybody would see an entry.
    pub(crate) fn is_wanted(&self) -> bool {
        self.limits.entries > 0 || self.readers() > 0
    }

    /// Returns whether an entry with this number may have been there.
    pub(crate) fn has_reached(&self, number: u64) -> bool {
        number < self.kept.lock().next
    }

    /// Adds entries of one call, which get their numbers here.
    pub(crate) fn add(&self, entries: impl IntoIterator<Item = JournalEntry>) {
        let mut kept = self.kept.lock();
        for mut entry in entries {
            entry.attempt = kept.next;
            kept.next += 1;
            let entry = Arc::new(entry);
            kept.keep(&entry, self.limits);
            // The lock keeps the live view in the order of the numbers.
            if self.live.receiver_count() > 0 {
                drop(self.live.send(entry));
            }
        }
        drop(kept);
        self.added.notify_one();
    }

    /// Waits until entries were added. What came before the call counts once. For one task.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub(crate) async fn added(&self) {
        self.added.notified().await;
    }

    /// Takes an entry of an earlier run, with its number.
    pub(crate) fn restore(&self, entry: JournalEntry) {
        let mut kept = self.kept.lock();
        kept.next = kept.next.max(entry.attempt.saturating_add(1));
        kept.keep(&Arc::new(entry), self.limits);
    }

    /// Returns all entries with higher numbers, in their order.
    pub(crate) fn after(&self, number: u64) -> Vec<Arc<JournalEntry>> {
        let mut found: Vec<Arc<JournalEntry>> = {
            let kept = self.kept.lock();
            let new = |handler: &HandlerEntries| -> Vec<Arc<JournalEntry>> {
                let newest_first = handler.entries.iter().rev();
                newest_first
                    .take_while(|entry| entry.attempt > number)
                    .cloned()
                    .collect()
            };
            kept.handlers.values().flat_map(new).collect()
        };
        found.sort_unstable_by_key(|entry| entry.attempt);
        found
    }

    /// Returns the newest entries of a kind, oldest first, at most `limit`, of those with numbers from `after` (not included) to
    /// `before` (not included).
    pub fn recent(
        &self,
        filter: &JournalFilter,
        limit: usize,
        after: Option<u64>,
        before: Option<u64>,
    ) -> Vec<Arc<JournalEntry>> {
        let mut found: Vec<Arc<JournalEntry>> = {
            let kept = self.kept.lock();
            let wanted = |entry: &&Arc<JournalEntry>| {
                after.is_none_or(|after| entry.attempt > after)
                    && before.is_none_or(|before| entry.attempt < before)
                    && filter.admits(entry)
            };
            let of = |handler: &HandlerEntries| -> Vec<Arc<JournalEntry>> {
                handler
                    .entries
                    .iter()
                    .rev()
                    .filter(wanted)
                    .take(limit)
                    .cloned()
                    .collect()
            };
            match &filter.handler {
                Some(name) => kept.handlers.get(name).map(of).unwrap_or_default(),
                None => kept.handlers.values().flat_map(of).collect(),
            }
        };
        found.sort_unstable_by_key(|entry| entry.attempt);
        let surplus = found.len().saturating_sub(limit);
        found.drain(..surplus);
        found
    }

    /// Returns the view of the entries that are added from now on.
    pub(crate) fn live(&self) -> broadcast::Receiver<Arc<JournalEntry>> {
        self.live.subscribe()
    }

    /// Returns the number of readers of the live view.
    pub(crate) fn readers(&self) -> usize {
        self.live.receiver_count()
    }

    /// Returns the way of a message, as far as the journal knows it.
    pub fn way(&self, message: &str) -> MessageWay {
        let kept = self.kept.lock();
        let mut entries: Vec<Arc<JournalEntry>> = kept
            .handlers
            .values()
            .flat_map(|handler| handler.entries.iter().cloned())
            .collect();
        drop(kept);
        entries.sort_unstable_by_key(|entry| entry.attempt);
        MessageWay::of(message, &entries)
    }
}

impl KeptEntries {
    fn keep(&mut self, entry: &Arc<JournalEntry>, limits: JournalLimits) {
        if limits.entries == 0 {
            return;
        }
        if !self.handlers.contains_key(&entry.handler) {
            self.make_room();
            self.handlers.insert(entry.handler.clone(), HandlerEntries::default());
        }
        if let Some(handler) = self.handlers.get_mut(&entry.handler) {
            handler.keep(entry, limits);
        }
    }

    /// Forgets the handler that has not run for the longest time, if there are too many.
    fn make_room(&mut self) {
        if self.handlers.len() < MAX_HANDLERS {
            return;
        }
        let newest = |entries: &HandlerEntries| entries.entries.back().map(|entry| entry.attempt);
        let oldest = self.handlers.iter().min_by_key(|(_, entries)| newest(entries));
        if let Some(name) = oldest.map(|(name, _)| name.clone()) {
            self.handlers.remove(&name);
        }
    }
}

impl HandlerEntries {
    fn keep(&mut self, entry: &Arc<JournalEntry>, limits: JournalLimits) {
        self.bytes += entry.size();
        self.entries.push_back(Arc::clone(entry));
        while self.entries.len() > limits.entries || (self.bytes > limits.bytes && self.entries.len() > 1) {
            if let Some(first) = self.entries.pop_front() {
                self.bytes -= first.size();
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
