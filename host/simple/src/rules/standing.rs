//! What the messages of a queue wait for.

use std::time::Duration;

use super::{
    super::{
        clock::StoreTime,
        row::{MessageState, QueueKey, StoreFault},
        settings::Order,
        standing::{GroupLeader, WaitingMessages},
    },
    StoreRules,
};

impl StoreRules {
    /// Returns when the next message of a queue is due, and which one its groups wait for if nothing can be received.
    pub(crate) fn waiting(&mut self, key: QueueKey, now: StoreTime) -> Result<WaitingMessages, StoreFault> {
        let due = self.rows.next_due(key)?;
        let tally = &self.queue(key).tally;
        let is_blocked = tally.ready == 0 && tally.held > 0;
        Ok(WaitingMessages {
            next_due_in: due.map(|at_ms| until(at_ms, now)),
            blocked: if is_blocked { self.leader(key, now)? } else { None },
        })
    }

    /// Returns the message that leads the group of one that stands behind it.
    fn leader(&mut self, key: QueueKey, now: StoreTime) -> Result<Option<GroupLeader>, StoreFault> {
        let Some(behind) = self.rows.any(key, MessageState::Held, u64::MAX, 1)?.pop() else {
            return Ok(None);
        };
        let Some(leader) = behind
            .group
            .as_ref()
            .map(|group| self.rows.head(key, group))
            .transpose()?
            .flatten()
        else {
            return Ok(None);
        };
        let message = self.rows.fetch(leader.seq)?.and_then(|stored| stored.content.ok());
        let group = match self.queue(key).order {
            Order::Queue => None,
            Order::Group | Order::Ungrouped => self.rows.group_id(behind.seq)?,
        };
        Ok(message.map(|content| GroupLeader {
            group,
            message: content.message.id,
            retry_in: (leader.state == MessageState::Retry).then(|| until(leader.visible_at_ms, now)),
        }))
    }
}

fn until(at_ms: u64, now: StoreTime) -> Duration {
    Duration::from_millis(at_ms.saturating_sub(now.ms))
}
