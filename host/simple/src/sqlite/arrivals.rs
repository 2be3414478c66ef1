//! Messages that came in the transaction under way and are not yet in the table.
//!
//! A message that is handed out in the transaction that brought it is written once, as it is then, instead of being written, read
//! and changed. Only messages that are in no index but the one by state are kept back: ready, and in no group.

use std::cmp::Reverse;

use super::super::row::{MessageContent, MessageMeta, MessageState, QueueKey, StoredMessage};

/// The number of messages that are kept back at most.
const MAX_ARRIVALS: usize = 1024;

/// The messages, ordered by their `seq`, which grows.
#[derive(Debug, Default)]
pub(crate) struct Arrivals(Vec<(MessageMeta, MessageContent)>);

impl Arrivals {
    /// Keeps a message back, or returns one that can't be kept back.
    pub(crate) fn keep(&mut self, meta: MessageMeta, content: MessageContent) -> Option<(MessageMeta, MessageContent)> {
        let plain = meta.state == MessageState::Ready && meta.group.is_none() && meta.origin.is_none();
        let last = self.0.last().is_none_or(|(last, _)| last.seq < meta.seq);
        let message = (meta, content);
        if plain && last {
            self.0.push(message);
            return None;
        }
        Some(message)
    }

    /// Returns whether there are so many that a search takes longer than writing and reading them.
    pub(crate) fn is_full(&self) -> bool {
        self.0.len() >= MAX_ARRIVALS
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns a message as it is to be written, if it is kept back.
    pub(crate) fn get_mut(&mut self, seq: u64) -> Option<&mut MessageMeta> {
        let at = self.position(seq)?;
        self.0.get_mut(at).map(|(meta, _)| meta)
    }

    /// Forgets a message. Returns whether it was kept back.
    pub(crate) fn remove(&mut self, seq: u64) -> bool {
        let at = self.position(seq);
        at.map(|at| self.0.remove(at)).is_some()
    }

    /// Takes all messages, to write them.
    pub(crate) fn take(&mut self) -> Vec<(MessageMeta, MessageContent)> {
        std::mem::take(&mut self.0)
    }

    /// Adds the ready messages of a queue to those from the table, in the order of a receive, and leaves the first `limit`.
    pub(crate) fn add_ready(&self, queue: QueueKey, limit: usize, stored: &mut Vec<StoredMessage>) {
        let ready = |meta: &MessageMeta| meta.queue == queue && meta.state == MessageState::Ready;
        let fetched = |(meta, content): &(MessageMeta, MessageContent)| StoredMessage {
            meta: meta.clone(),
            content: Ok(content.clone()),
        };
        let known = stored.len();
        let arrivals = self.0.iter().filter(|(meta, _)| ready(meta));
        if arrivals.clone().all(|(meta, _)| meta.priority == 0) {
            // They came last, and none has a higher priority.
            stored.extend(arrivals.take(limit.saturating_sub(known)).map(fetched));
            return;
        }
        stored.extend(arrivals.map(fetched));
        stored.sort_by_key(|fetched| (Reverse(fetched.meta.priority), fetched.meta.seq));
        stored.truncate(limit);
    }

    fn position(&self, seq: u64) -> Option<usize> {
        self.0.binary_search_by_key(&seq, |(meta, _)| meta.seq).ok()
    }
}
