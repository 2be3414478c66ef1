//! Taking messages in.

use std::time::Duration;

use super::{
    super::{
        clock::{StoreTime, millis},
        row::{MessageContent, MessageMeta, MessageState, PoisonSuspicion, QueueKey, StoreFault},
    },
    StoreRules,
};
use sandhog_queue::SendError;
use sandhog_queue::message::{CheckedMessage, Message, MessageId};

/// How long a deduplication id is remembered.
pub(crate) const DEDUPLICATION: Duration = Duration::from_mins(5);
/// The number of deduplication ids that one send forgets at most.
const FORGET_STEP: usize = 64;

impl StoreRules {
    /// Takes one message in, or refuses it.
    pub(crate) fn send(
        &mut self,
        key: QueueKey,
        message: CheckedMessage,
        now: StoreTime,
    ) -> Result<Result<MessageId, SendError>, StoreFault> {
        if let Some(id) = self.first_of(key, &message, now)? {
            return Ok(Ok(id));
        }
        if let Some(limit) = self.overfull(key, 1, now)? {
            return Ok(Err(SendError::Full {
                queue: self.queue(key).name.clone(),
                limit,
            }));
        }
        self.send_new(key, message, now).map(Ok)
    }

    /// Takes in a message that passed every check.
    pub(crate) fn send_checked(
        &mut self,
        key: QueueKey,
        message: CheckedMessage,
        now: StoreTime,
    ) -> Result<MessageId, StoreFault> {
        match self.first_of(key, &message, now)? {
            Some(id) => Ok(id),
            None => self.send_new(key, message, now),
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
    ) -> Result<Option<MessageId>, StoreFault> {
        match &message.deduplication_id {
            Some(id) => self.rows.first_with(key, id, now.ms),
            None => Ok(None),
        }
    }

    fn send_new(&mut self, key: QueueKey, message: CheckedMessage, now: StoreTime) -> Result<MessageId, StoreFault> {
        let message = message.into_outgoing();
        let id = new_id(now);
        if let Some(deduplication) = &message.deduplication_id {
            self.rows.forget(now.ms, FORGET_STEP)?;
            self.rows
                .remember(key, deduplication, &id, now.ms + millis(DEDUPLICATION))?;
        }
        let delay = message.delay.filter(|delay| !delay.is_zero());
        let mut meta = MessageMeta {
            seq: self.next_seq(),
            queue: key,
            state: MessageState::Delayed,
            priority: message.priority.unwrap_or(0),
            group: self.group_for(key, message.group_id.as_deref()),
            visible_at_ms: delay.map_or(0, |delay| now.ms + millis(delay)),
            receive_count: 0,
            queued_at_ms: now.ms,
            suspicion: PoisonSuspicion::NONE,
            origin: None,
        };
        if delay.is_none() {
            meta.state = self.claim(&meta)?;
        }
        let message = Message {
            id: id.clone(),
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
                failure: None,
                death: None,
            },
        )?;
        Ok(id)
    }
}

/// Makes a UUID of version 7 by the wall clock. The library's own function takes the system's randomness, which costs a system call per id.
fn new_id(now: StoreTime) -> MessageId {
    let uuid = uuid::Builder::from_unix_timestamp_millis(now.wall_ms, &rand::random()).into_uuid();
    let mut text = uuid::Uuid::encode_buffer();
    MessageId::from_queue(uuid.hyphenated().encode_lower(&mut text))
}
