//! A search among messages that changes none of them, for both kinds of store.
//!
//! Invariant: a search keeps no more than its page, looks at a bounded number of messages, and remembers the place of the last one, so
//! that it can go on from there at any time. It does not know where the messages are kept.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;

use super::{
    clock::StoreTime,
    row::{DeathRecord, MessageContent, MessageMeta, MessageState, QueueKey, StoredMessage},
};
use sandhog_queue::{
    message::{Attributes, Message, MessageId, QueueName},
    message_filter::{FilterSubject, MessageStanding},
    peek::{MAX_PEEKED, PeekCursor, PeekRequest, PeekedDeath, PeekedMessage},
};

/// A page ends once this number of messages was looked at.
const PAGE_ROWS: usize = 200_000;
/// A page ends once its messages have this many bytes.
const PAGE_BYTES: usize = 8 * 1024 * 1024;

/// What the store knows in memory and a search needs, at the moment of its beginning.
#[derive(Debug)]
pub(crate) struct StoreGlance {
    pub(crate) now: StoreTime,
    /// The highest place given out so far.
    pub(crate) last_seq: u64,
    /// The queues that were not deleted.
    pub(crate) names: HashMap<QueueKey, QueueName>,
}

/// A search under way.
#[derive(Debug)]
pub(crate) struct PeekSearch {
    pub(crate) queue: QueueKey,
    pub(crate) request: PeekRequest,
    glance: StoreGlance,
    start: PeekCursor,
    cursor: PeekCursor,
    found: Vec<(u64, PeekedMessage)>,
    found_bytes: usize,
    looked_at: usize,
    is_at_end: bool,
}

impl PeekSearch {
    pub(crate) fn new(queue: QueueKey, request: PeekRequest, glance: StoreGlance) -> Self {
        let cursor = request.after.unwrap_or(PeekCursor {
            after: 0,
            last: glance.last_seq,
            asked_at_ms: glance.now.wall_ms,
        });
        let is_at_end = cursor.after >= cursor.last;
        Self {
            queue,
            request,
            glance,
            start: cursor,
            cursor,
            found: Vec::new(),
            found_bytes: 0,
            looked_at: 0,
            is_at_end,
        }
    }

    /// Returns the places that are left: behind the first and up to the second.
    pub(crate) fn rest(&self) -> (u64, u64) {
        (self.cursor.after, self.cursor.last)
    }

    /// Returns where the page began.
    pub(crate) fn start(&self) -> PeekCursor {
        self.start
    }

    /// Returns how many messages are done with.
    #[cfg(test)]
    pub(crate) fn looked_at(&self) -> usize {
        self.looked_at
    }

    /// Returns whether the page is full, or nothing is left.
    pub(crate) fn is_done(&self) -> bool {
        self.is_at_end
            || self.found.len() >= self.request.limit.clamp(1, MAX_PEEKED)
            || self.found_bytes >= PAGE_BYTES
            || self.looked_at >= PAGE_ROWS
    }

    /// Returns whether a message in this state may be one that is looked for.
    pub(crate) fn wants(&self, state: MessageState) -> bool {
        let admits = |standing| self.request.filter.admits(standing);
        match state {
            MessageState::Ready => admits(MessageStanding::Ready),
            MessageState::Held => admits(MessageStanding::Held),
            MessageState::InFlight | MessageState::InFlightBehind => admits(MessageStanding::InFlight),
            MessageState::Delayed => admits(MessageStanding::Delayed) || admits(MessageStanding::Ready),
            MessageState::Retry => admits(MessageStanding::Retry) || admits(MessageStanding::Ready),
            MessageState::Damaged => admits(MessageStanding::Damaged),
        }
    }

    /// Notes that the message at this place is done with.
    pub(crate) fn pass(&mut self, seq: u64) {
        self.looked_at += 1;
        self.cursor.after = seq;
    }

    /// Notes that no message up to this place is wanted.
    pub(crate) fn skip_to(&mut self, seq: u64) {
        self.cursor.after = self.cursor.after.max(seq);
        self.is_at_end = self.cursor.after >= self.cursor.last;
    }

    /// Notes that no message is left.
    pub(crate) fn reach_end(&mut self) {
        self.is_at_end = true;
    }

    /// Looks at the message behind those before.
    pub(crate) fn look_at(&mut self, id: MessageId, stored: StoredMessage) {
        let seq = stored.meta.seq;
        self.pass(seq);
        let peeked = self.peeked(id, stored);
        if peeked.damage.is_some() {
            if self
                .request
                .filter
                .passes_unreadable(peeked.standing, peeked.message.id.as_str())
            {
                self.found.push((seq, peeked));
            }
            return;
        }
        let subject = FilterSubject {
            standing: peeked.standing,
            id: peeked.message.id.as_str(),
            group: peeked.message.group_id.as_deref(),
            attributes: &peeked.message.attributes,
            body: &peeked.message.body,
            failure: peeked.failure.as_ref(),
            origin: peeked
                .death
                .as_ref()
                .and_then(|death| death.queue.as_ref())
                .map(QueueName::as_str),
            age: self.age(&peeked),
        };
        if !self.request.filter.passes(&subject) {
            return;
        }
        let mut peeked = peeked;
        if let Some(limit) = self.request.body_limit {
            peeked.message.body = cut(peeked.message.body, limit);
        }
        self.found_bytes += peeked.message.size();
        self.found.push((seq, peeked));
    }

    fn age(&self, peeked: &PeekedMessage) -> Duration {
        let since_ms = peeked
            .death
            .as_ref()
            .map_or(peeked.message.sent_at_ms, |death| death.dead_at_ms);
        Duration::from_millis(self.start.asked_at_ms.saturating_sub(since_ms))
    }

    fn peeked(&self, id: MessageId, stored: StoredMessage) -> PeekedMessage {
        let StoredMessage { meta, content } = stored;
        match content {
            Ok(content) => self.whole(&meta, content),
            Err(damage) => PeekedMessage {
                message: Message {
                    id,
                    body: Bytes::new(),
                    attributes: Attributes::default(),
                    sent_at_ms: 0,
                    group_id: None,
                    priority: meta.priority,
                },
                body_bytes: 0,
                standing: MessageStanding::Damaged,
                receive_count: meta.receive_count,
                visible_at_ms: None,
                parent: None,
                sent_by: None,
                failure: None,
                death: None,
                damage: Some(damage),
            },
        }
    }

    fn whole(&self, meta: &MessageMeta, content: MessageContent) -> PeekedMessage {
        let MessageContent {
            message,
            sent,
            failure,
            death,
        } = content;
        let standing = self.standing(meta);
        let is_hidden = matches!(standing, MessageStanding::Delayed | MessageStanding::Retry);
        let left_ms = meta.visible_at_ms.saturating_sub(self.glance.now.ms);
        let (failure, death) = match death {
            Some(DeathRecord {
                dead_at_ms,
                receive_count,
                failure,
            }) => {
                let queue = meta.origin.and_then(|origin| self.glance.names.get(&origin)).cloned();
                let death = PeekedDeath {
                    queue,
                    dead_at_ms,
                    receive_count,
                };
                (Some(failure), Some(death))
            }
            None => (failure, None),
        };
        PeekedMessage {
            body_bytes: message.body.len(),
            message,
            standing,
            receive_count: meta.receive_count,
            visible_at_ms: is_hidden.then(|| self.glance.now.wall_ms.saturating_add(left_ms)),
            parent: sent.parent.map(|parent| MessageId::from_queue(&parent)),
            // Another version of the host may have written what this one does not know.
            sent_by: sent.sender.and_then(|sender| serde_json::from_str(&sender).ok()),
            failure,
            death,
            damage: None,
        }
    }

    fn standing(&self, meta: &MessageMeta) -> MessageStanding {
        let is_due = meta.visible_at_ms <= self.glance.now.ms;
        match meta.state {
            // The store shows it as soon as anybody asks for messages.
            MessageState::Delayed | MessageState::Retry if is_due => MessageStanding::Ready,
            MessageState::Ready => MessageStanding::Ready,
            MessageState::Held => MessageStanding::Held,
            MessageState::InFlight | MessageState::InFlightBehind => MessageStanding::InFlight,
            MessageState::Delayed => MessageStanding::Delayed,
            MessageState::Retry => MessageStanding::Retry,
            MessageState::Damaged => MessageStanding::Damaged,
        }
    }

    /// Returns what was found with its places, and where the next page goes on.
    pub(crate) fn finish(self) -> (Vec<(u64, PeekedMessage)>, Option<PeekCursor>) {
        let is_over = self.is_at_end || self.cursor.after >= self.cursor.last;
        (self.found, (!is_over).then_some(self.cursor))
    }
}

/// Cuts a body, and not within a character if it is text. The rest of it does not stay in memory.
fn cut(body: Bytes, limit: usize) -> Bytes {
    let Some(kept) = body.get(..limit).filter(|kept| kept.len() < body.len()) else {
        return body;
    };
    let is_inside = |at: usize| body.get(at).is_some_and(|byte| byte & 0b1100_0000 == 0b1000_0000);
    let end = (limit.saturating_sub(3)..=limit).rev().find(|at| !is_inside(*at));
    Bytes::copy_from_slice(kept.get(..end.unwrap_or(limit)).unwrap_or(kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_not_cut_within_a_character() {
        for (body, limit, expected) in [
            ("abc", 2, "ab"),
            ("abc", 3, "abc"),
            ("abc", 9, "abc"),
            ("a\u{20ac}b", 2, "a"),
            ("a\u{20ac}b", 3, "a"),
            ("a\u{20ac}b", 4, "a\u{20ac}"),
            ("abc", 0, ""),
        ] {
            assert_eq!(cut(Bytes::from(body), limit), expected, "{body} {limit}");
        }
    }
}
