//! Looking at messages, and sending one again that was looked at.

use super::{
    super::{
        clock::StoreTime,
        row::{QueueKey, StoreFault},
        search::{PeekSearch, StoreGlance},
    },
    StoreRules,
};
use sandhog_queue::{SendError, SentAgain, message::MessageId, peek::PeekScope};

/// The number of messages that one step looks at.
const STEP: usize = 256;

impl StoreRules {
    /// Returns what a search needs to know, once what time has ended is in the rows.
    pub(crate) fn glance(&mut self, key: QueueKey, now: StoreTime) -> Result<StoreGlance, StoreFault> {
        self.expire(key, now)?;
        let named = self.queues.iter().filter(|(_, queue)| !queue.is_retired());
        Ok(StoreGlance {
            now,
            last_seq: self.last_seq(),
            names: named.map(|(key, queue)| (*key, queue.name.clone())).collect(),
        })
    }

    /// Goes on with a search for a bounded number of messages.
    pub(crate) fn look_at_some(&mut self, search: &mut PeekSearch) -> Result<(), StoreFault> {
        let (after, last) = search.rest();
        let queue = search.queue;
        let places: Vec<_> = match search.request.scope {
            PeekScope::Messages => {
                let metas = self.rows.following(queue, after, STEP)?;
                metas.into_iter().map(|meta| meta.seq).collect()
            }
            PeekScope::DeadLetters => {
                let letters = self.rows.dead(queue, after, STEP)?;
                letters.into_iter().map(|letter| letter.seq).collect()
            }
        };
        let is_last_step = places.len() < STEP;
        for seq in places {
            if seq > last {
                search.reach_end();
            }
            if search.is_done() {
                return Ok(());
            }
            let wanted = self.rows.meta(seq)?.is_some_and(|meta| search.wants(meta.state));
            match self.rows.fetch(seq)?.filter(|_| wanted) {
                Some(stored) => {
                    let id = stored.content.as_ref().map(|content| content.message.id.clone());
                    search.look_at(id.unwrap_or_else(|_| MessageId::from_queue("")), stored);
                }
                None => search.pass(seq),
            }
        }
        if is_last_step {
            search.reach_end();
        }
        Ok(())
    }

    /// Takes in a message that was made from another one, in the place of that one if it is a dead letter that the message replaces.
    pub(crate) fn send_again(
        &mut self,
        key: QueueKey,
        again: SentAgain,
        now: StoreTime,
    ) -> Result<Result<Option<MessageId>, SendError>, StoreFault> {
        let SentAgain {
            message,
            parent,
            replaces,
        } = again;
        let name = self.queue(key).name.clone();
        if self.queue(key).is_retired() {
            return Ok(Err(SendError::NoSuchQueue(name)));
        }
        let mut replaced = None;
        if replaces {
            let letter = self.rows.dead_with_id(key, &parent)?;
            let meta = match letter {
                Some(letter) => self.rows.meta(letter.seq)?,
                None => None,
            };
            let Some(meta) = meta.filter(|meta| !meta.state.is_in_flight()) else {
                return Ok(Ok(None));
            };
            replaced = Some(meta);
        }
        if let Some(limit) = self.overfull(key, 1, now)? {
            return Ok(Err(SendError::Full { queue: name, limit }));
        }
        if let Some(meta) = replaced {
            self.remove(&meta)?;
        }
        let sent = self.send_made_from(key, message, &parent, now)?;
        Ok(Ok(Some(sent.id)))
    }
}
