//! The way of a message across queues: its attempts, the attempt that sent it, and what its attempts sent. Pure.

use std::{collections::HashMap, sync::Arc};

use super::JournalEntry;

/// How far a way is followed down.
const MAX_DEPTH: usize = 16;
/// The most messages of one way.
const MAX_MESSAGES: usize = 256;

/// What the journal knows of a message.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct MessageWay {
    /// The id of the message.
    pub message: String,
    /// The attempt that sent it, if a handler did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_by: Option<WaySender>,
    /// Its attempts, oldest first.
    pub attempts: Vec<JournalEntry>,
    /// The messages that its attempts sent, with theirs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(no_recursion)]
    pub sent: Vec<Self>,
    /// The way goes on, and is not followed further here.
    #[serde(default)]
    pub more: bool,
}

/// The attempt that sent a message.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct WaySender {
    /// The number of the attempt in the journal, if it is still there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u64>,
    /// The message of the attempt; the first one of a batch.
    pub message: String,
    /// The queue that this message came from.
    pub queue: String,
    /// The handler that sent it.
    pub handler: String,
    /// The version of the handler.
    pub version: u64,
}

/// The entries by what is asked for.
struct EntryIndex<'e> {
    attempts: HashMap<&'e str, Vec<&'e JournalEntry>>,
    senders: HashMap<&'e str, &'e JournalEntry>,
}

impl<'e> EntryIndex<'e> {
    fn new(entries: &'e [Arc<JournalEntry>]) -> Self {
        let mut index = Self {
            attempts: HashMap::new(),
            senders: HashMap::new(),
        };
        for entry in entries {
            index.attempts.entry(&entry.message).or_default().push(entry);
            for send in &entry.sends {
                index.senders.entry(&send.message).or_insert(entry);
            }
        }
        index
    }
}

impl MessageWay {
    /// Follows a message through entries that are in the order of their numbers.
    pub(crate) fn of(message: &str, entries: &[Arc<JournalEntry>]) -> Self {
        let mut left = MAX_MESSAGES;
        Self::follow(message, &EntryIndex::new(entries), MAX_DEPTH, &mut left)
    }

    fn follow(message: &str, index: &EntryIndex<'_>, depth: usize, left: &mut usize) -> Self {
        let attempts = index.attempts.get(message).map(Vec::as_slice).unwrap_or_default();
        let mut way = Self {
            message: message.to_owned(),
            sent_by: index.senders.get(message).map(|entry| WaySender {
                attempt: Some(entry.attempt),
                message: entry.message.clone(),
                queue: entry.queue.clone(),
                handler: entry.handler.clone(),
                version: entry.version,
            }),
            attempts: attempts.iter().copied().cloned().collect(),
            sent: Vec::new(),
            more: attempts.iter().any(|attempt| attempt.more_sends > 0),
        };
        for send in attempts.iter().flat_map(|attempt| &attempt.sends) {
            if depth == 0 || *left == 0 {
                way.more = true;
                break;
            }
            *left -= 1;
            way.sent.push(Self::follow(&send.message, index, depth - 1, left));
        }
        way
    }

    /// Whether nothing is known of the message.
    pub fn is_unknown(&self) -> bool {
        self.attempts.is_empty() && self.sent_by.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::entry, *};
    use crate::journal::JournalSend;

    fn sending(message: &str, sent: &[&str]) -> Arc<JournalEntry> {
        let sends = sent.iter().map(|id| JournalSend {
            queue: "next".to_owned(),
            message: (*id).to_owned(),
            bytes: 1,
            deduplication_id: None,
        });
        Arc::new(JournalEntry {
            sends: sends.collect(),
            ..entry("h", message)
        })
    }

    #[test]
    fn a_message_is_followed_through_what_it_was_sent_by_and_what_it_sends() {
        let entries = [sending("a", &["b", "c"]), sending("c", &["d"]), sending("b", &[])];
        let way = MessageWay::of("c", &entries);
        assert_eq!(way.sent_by.as_ref().unwrap().message, "a");
        assert_eq!(way.attempts.len(), 1);
        let sent: Vec<&str> = way.sent.iter().map(|way| &*way.message).collect();
        assert_eq!(sent, ["d"]);
        assert!(!way.more && !way.sent[0].is_unknown());
        assert!(MessageWay::of("nowhere", &entries).is_unknown());
    }

    #[test]
    fn a_way_that_has_no_end_is_cut() {
        let entries = [sending("a", &["a"])];
        let mut way = &MessageWay::of("a", &entries);
        let mut depth = 0;
        while let Some(next) = way.sent.first() {
            way = next;
            depth += 1;
        }
        assert_eq!((depth, way.more), (MAX_DEPTH, true));
        let many: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let way = MessageWay::of("a", &[sending("a", &many)]);
        assert_eq!((way.sent.len(), way.more), (MAX_MESSAGES, true));
    }
}
