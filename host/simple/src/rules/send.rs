//! Taking messages in.

use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::{
    super::{
        clock::{StoreTime, millis},
        history::SentMessage,
        row::{
            MessageContent, MessageMeta, MessagePast, MessageState, PoisonSuspicion, QueueKey, SentDetails, StoreFault,
        },
        rows::{DeduplicationKey, FirstSent},
        settings::DeduplicationScope,
    },
    StoreRules,
};
use sandhog_queue::message::{CheckedMessage, Message, MessageId, Outgoing};
use sandhog_queue::{SendError, printable::hex};

/// How long a deduplication id is remembered.
pub(crate) const DEDUPLICATION: Duration = Duration::from_mins(5);
/// The number of deduplication ids that one send forgets at most.
const FORGET_STEP: usize = 64;

/// Where a message comes from that no client sends.
#[derive(Default)]
pub(crate) struct SentBy {
    /// The id that it gets; a new one if absent.
    pub(crate) id: Option<MessageId>,
    /// What the message keeps of it.
    pub(crate) details: SentDetails,
}

impl StoreRules {
    /// Takes one message in, or refuses it.
    pub(crate) fn send(
        &mut self,
        key: QueueKey,
        message: CheckedMessage,
        now: StoreTime,
    ) -> Result<Result<SentMessage, SendError>, StoreFault> {
        if self.queue(key).is_retired() {
            return Ok(Err(SendError::NoSuchQueue(self.queue(key).name.clone())));
        }
        let message = self.identified(key, message);
        if let Some(first) = self.first_of(key, &message, now)? {
            return Ok(Ok(first));
        }
        if let Some(limit) = self.overfull(key, 1, now)? {
            return Ok(Err(SendError::Full {
                queue: self.queue(key).name.clone(),
                limit,
            }));
        }
        self.send_new(key, message, SentBy::default(), now).map(Ok)
    }

    /// Returns the message with a deduplication id made of its body, if its queue makes one and it has none.
    pub(crate) fn identified(&self, key: QueueKey, message: CheckedMessage) -> CheckedMessage {
        if message.deduplication_id.is_some() || !self.queue(key).settings.content_based_deduplication {
            return message;
        }
        let mut message = message.into_outgoing();
        message.deduplication_id = Some(hex(&Sha256::digest(&message.body)));
        message.check().expect("a digest in hexadecimal digits is a legal id")
    }

    /// Takes in a message that passed every check, whatever was sent before, and remembers the message that it was made from.
    pub(crate) fn send_made_from(
        &mut self,
        key: QueueKey,
        message: CheckedMessage,
        parent: &MessageId,
        now: StoreTime,
    ) -> Result<SentMessage, StoreFault> {
        let mut message = message.into_outgoing();
        message.deduplication_id = None;
        let message = message
            .check()
            .expect("a message without a deduplication id keeps the limits");
        let made_from = SentBy {
            id: None,
            details: SentDetails {
                parent: Some(parent.as_str().into()),
                ..SentDetails::default()
            },
        };
        self.send_new(key, message, made_from, now)
    }

    /// Takes in a message that passed every check, and is [identified](StoreRules::identified).
    pub(crate) fn send_checked(
        &mut self,
        key: QueueKey,
        message: CheckedMessage,
        sent_by: SentBy,
        now: StoreTime,
    ) -> Result<SentMessage, StoreFault> {
        match self.first_of(key, &message, now)? {
            Some(first) => Ok(first),
            None => self.send_new(key, message, sent_by, now),
        }
    }

    /// Returns the depth limit, if the queue can't take `new` more messages.
    pub(crate) fn overfull(&mut self, key: QueueKey, new: u64, now: StoreTime) -> Result<Option<u64>, StoreFault> {
        let limit = self.queue(key).settings.max_messages;
        if self.queue(key).tally.sent() + new <= limit {
            return Ok(None);
        }
        // Some of the messages may have expired by now.
        self.expire(key, now)?;
        Ok((self.queue(key).tally.sent() + new > limit).then_some(limit))
    }

    fn first_of(
        &mut self,
        key: QueueKey,
        message: &CheckedMessage,
        now: StoreTime,
    ) -> Result<Option<SentMessage>, StoreFault> {
        let Some(id) = self.deduplication_key(key, message) else {
            return Ok(None);
        };
        let first = self.rows.first_with(key, id, now.ms)?;
        Ok(first.map(|FirstSent { id, sequence }| SentMessage {
            id,
            sequence: sequence.unwrap_or_default(),
        }))
    }

    /// Returns what a send is remembered under, if it has a deduplication id.
    pub(crate) fn deduplication_key<'m>(&self, key: QueueKey, message: &'m Outgoing) -> Option<DeduplicationKey<'m>> {
        let scope = match self.queue(key).settings.deduplication_scope {
            DeduplicationScope::Queue => "",
            // Messages without a group share a scope, whose name is no group id.
            DeduplicationScope::Group => message.group_id.as_deref().unwrap_or("\n"),
        };
        let id = message.deduplication_id.as_deref()?;
        Some(DeduplicationKey { scope, id })
    }

    fn send_new(
        &mut self,
        key: QueueKey,
        message: CheckedMessage,
        sent_by: SentBy,
        now: StoreTime,
    ) -> Result<SentMessage, StoreFault> {
        let seq = self.next_seq();
        let sent = SentMessage {
            id: sent_by.id.unwrap_or_else(|| new_id(now)),
            sequence: seq,
        };
        if let Some(deduplication) = self.deduplication_key(key, &message) {
            let first = FirstSent {
                id: sent.id.clone(),
                sequence: Some(seq),
            };
            self.rows.forget(now.ms, FORGET_STEP)?;
            self.rows
                .remember(key, deduplication, &first, now.ms + millis(DEDUPLICATION))?;
        }
        let message = message.into_outgoing();
        let delay = message.delay.unwrap_or(self.queue(key).settings.delay);
        let delay = Some(delay).filter(|delay| !delay.is_zero());
        let mut meta = MessageMeta {
            seq,
            queue: key,
            state: MessageState::Delayed,
            priority: message.priority.unwrap_or(0),
            group: self.group_for(key, message.group_id.as_deref()),
            visible_at_ms: delay.map_or(0, |delay| now.ms + millis(delay)),
            receive_count: 0,
            queued_at_ms: now.ms,
            suspicion: PoisonSuspicion::NONE,
            origin: None,
            past: MessagePast::begin(seq, now.ms),
        };
        if delay.is_none() {
            meta.state = self.claim(&meta)?;
        }
        let deduplication_id = message.deduplication_id;
        let message = Message {
            id: sent.id.clone(),
            body: message.body,
            attributes: message.attributes,
            sent_at_ms: now.wall_ms,
            group_id: message.group_id,
            priority: meta.priority,
        };
        self.add(
            meta,
            MessageContent {
                message,
                sent: SentDetails {
                    deduplication_id: deduplication_id.map(Into::into),
                    ..sent_by.details
                },
                failure: None,
                death: None,
            },
        )?;
        Ok(sent)
    }
}

/// Makes a UUID of version 7 by the wall clock. The library's own function takes the system's randomness, which costs a system call per id.
fn new_id(now: StoreTime) -> MessageId {
    // Drawn at once: ten numbers for ten bytes cost six times as much.
    let random = rand::random::<u128>().to_le_bytes();
    let random = random.first_chunk().expect("sixteen bytes begin with ten");
    let uuid = uuid::Builder::from_unix_timestamp_millis(now.wall_ms, random).into_uuid();
    let mut text = uuid::Uuid::encode_buffer();
    MessageId::from_queue(uuid.hyphenated().encode_lower(&mut text))
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[test]
    fn an_id_is_a_uuid_of_its_time_and_every_other_bit_is_drawn() {
        const DRAWN: u128 = 0x0fff_3fff_ffff_ffff_ffff;
        let now = StoreTime {
            ms: 7,
            wall_ms: 0x1234_5678_9abc,
            instant: Instant::now(),
        };
        let ids = [(); 200].map(|()| new_id(now).to_string().parse::<uuid::Uuid>().unwrap().as_u128());
        let (ones, zeros) = ids.iter().fold((0, 0), |(ones, zeros), id| (ones | id, zeros | !id));
        assert_eq!((ones & DRAWN, zeros & DRAWN), (DRAWN, DRAWN));
        // Version 7 and its variant.
        let fixed = 0x1234_5678_9abc_7000_8000_0000_0000_0000;
        assert!(ids.iter().all(|id| id & !DRAWN == fixed), "{ids:x?}");
        assert_eq!(ids.iter().collect::<std::collections::HashSet<_>>().len(), ids.len());
    }
}
