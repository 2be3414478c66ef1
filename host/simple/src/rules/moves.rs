//! Moving the messages of a dead-letter queue to where they came from, or to another queue.

use super::{
    super::{
        clock::StoreTime,
        row::{MessageMeta, MessagePast, MessageState, PoisonSuspicion, QueueKey, StoreFault, StoredMessage},
    },
    StoreRules,
};

/// The number of messages that are read at a time.
const READ: usize = 64;
/// A step moves no further message once it has this many bytes of bodies and attributes.
const STEP_BYTES: usize = 8 * 1024 * 1024;

/// One step of a move.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MoveStep {
    /// The queue that the messages go to. `None`: each goes to the queue that it was a message of before it became a dead letter.
    pub(crate) to: Option<QueueKey>,
    /// The place of the last message that belongs to the move.
    pub(crate) last: u64,
    /// The most messages.
    pub(crate) limit: usize,
}

/// What one step of a move did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MovedMessages {
    /// The number of messages that were moved; 0 if none is left.
    pub messages: u64,
    /// The place of the last message that belongs to the move. Give it to the next step.
    pub last: u64,
    /// A message was to go to where it came from, and nobody knows where that is. It stays, and so do those behind it.
    pub origin_unknown: bool,
}

impl StoreRules {
    /// Moves messages of a queue that are not in flight, as if they were sent now.
    pub(crate) fn move_messages(
        &mut self,
        from: QueueKey,
        step: MoveStep,
        now: StoreTime,
    ) -> Result<MovedMessages, StoreFault> {
        let MoveStep { to, last, limit } = step;
        let mut moved = MovedMessages {
            messages: 0,
            last,
            origin_unknown: false,
        };
        let mut taken = 0;
        self.expire(from, now)?;
        for state in [
            MessageState::Ready,
            MessageState::Held,
            MessageState::Delayed,
            MessageState::Retry,
        ] {
            // The first of a group makes room for the second, which is ready then: so look again until enough are moved.
            let mut bytes = 0;
            while taken < limit && bytes < STEP_BYTES {
                let batch = self.rows.any(from, state, last, (limit - taken).min(READ))?;
                if batch.is_empty() {
                    break;
                }
                for meta in batch {
                    // Each is read as it is by now, because the one before it may have left its group to this one.
                    let Some(fetched) = self.rows.fetch(meta.seq)? else {
                        continue;
                    };
                    let target = to.or(fetched.meta.origin).filter(|target| self.takes_messages(*target));
                    let Some(target) = target else {
                        moved.origin_unknown = true;
                        return Ok(moved);
                    };
                    bytes += fetched.content.as_ref().map_or(0, |content| content.message.size());
                    self.move_one(fetched, target, now)?;
                    taken += 1;
                    moved.messages += 1;
                }
            }
            if taken > 0 {
                break;
            }
        }
        Ok(moved)
    }

    fn takes_messages(&self, key: QueueKey) -> bool {
        self.queues.get(&key).is_some_and(|queue| !queue.is_retired())
    }

    fn move_one(&mut self, fetched: StoredMessage, target: QueueKey, now: StoreTime) -> Result<(), StoreFault> {
        let StoredMessage { meta, content } = fetched;
        let content = match content {
            Ok(content) => content,
            Err(damage) => return self.mark_damaged(meta, &damage),
        };
        let seq = self.next_seq();
        let mut to = MessageMeta {
            seq,
            queue: target,
            group: self.group_for(target, content.message.group_id.as_deref()),
            visible_at_ms: 0,
            receive_count: 0,
            queued_at_ms: now.ms,
            suspicion: PoisonSuspicion::NONE,
            origin: None,
            past: MessagePast::begin(seq, now.ms),
            ..meta.clone()
        };
        to.state = self.claim(&to)?;
        self.relocate(&meta, &to, None)
    }
}
